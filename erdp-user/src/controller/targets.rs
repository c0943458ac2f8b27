//! What the RIB has decided, in the forwarding state's terms: peers become the attachments that they are on.
//!
//! Sets of paths are interned by the RIB, so that each is turned into a target once for all the prefixes that have it.

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;

use super::fib_id;
use crate::{
    bgp::PeerId,
    config,
    fib::{NextHopKey, Target},
    rib::{FibChange, FibPath},
};

/// A domain's new word on a prefix; `None`: no route.
pub type Change = (usize, IpNet, Option<Arc<Target>>);

/// Each decision as [`crate::fib::Forwarding::routes`] takes it. A source without an attachment is none.
pub fn of(
    changes: Vec<FibChange>,
    attachment_of: impl Fn(PeerId) -> Option<config::AttachmentId>,
) -> Vec<Change> {
    let mut targets: HashMap<*const FibPath, Arc<Target>> = HashMap::new();
    let mut target_of = |paths: &[FibPath]| {
        let known = targets.entry(paths.as_ptr()).or_insert_with(|| {
            let member = |path: &FibPath| {
                let attachment = fib_id(attachment_of(path.peer)?);
                Some((NextHopKey { attachment, address: path.next_hop }, path.share))
            };
            Arc::new(Target::to(paths.iter().filter_map(member)))
        });
        known.clone()
    };
    let target = |change: &FibChange| match (change.paths.is_empty(), change.discard) {
        (false, _) => Some(target_of(&change.paths)),
        (true, true) => Some(Arc::new(Target::Discard)),
        (true, false) => None,
    };
    let targets: Vec<Option<Arc<Target>>> = changes.iter().map(target).collect();
    let row = |(change, target): (FibChange, _)| (usize::from(change.domain.0), change.prefix, target);
    changes.into_iter().zip(targets).map(row).collect()
}
