//! What the RIB has decided, in the forwarding state's terms: peers become the attachments that they are on.
//!
//! Sets of paths are interned by the RIB, so that each is turned into a target once for all the prefixes that have it.

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;

use crate::{
    fib::{NextHopKey, Target},
    rib::{FibChange, FibPath},
    types::{AttachmentId, PathSource},
};

/// A domain's new word on a prefix; `None`: no route.
pub type Change = (usize, IpNet, Option<Arc<Target>>);

/// Each decision as [`crate::fib::Forwarding::routes`] takes it. A source without an attachment is none.
pub fn of(
    changes: Vec<FibChange>,
    attachment_of: impl Fn(PathSource) -> Option<AttachmentId>,
) -> Vec<Change> {
    // The paths are kept with their target, so that no others come to be at the same address.
    let mut targets: HashMap<*const FibPath, (Arc<[FibPath]>, Arc<Target>)> = HashMap::new();
    let mut target_of = |paths: Arc<[FibPath]>| {
        let known = targets.entry(paths.as_ptr()).or_insert_with(|| {
            let member = |path: &FibPath| {
                let attachment = attachment_of(path.source)?;
                Some((NextHopKey { attachment, address: path.next_hop }, path.share))
            };
            let target = Arc::new(Target::to(paths.iter().filter_map(member)));
            (paths, target)
        });
        known.1.clone()
    };
    let row = |FibChange { domain, prefix, paths, discard, .. }: FibChange| {
        let target = match (paths.is_empty(), discard) {
            (false, _) => Some(target_of(paths)),
            (true, true) => Some(Arc::new(Target::Discard)),
            (true, false) => None,
        };
        (usize::from(domain.0), prefix, target)
    };
    // The rows take the place of the changes.
    changes.into_iter().map(row).collect()
}
