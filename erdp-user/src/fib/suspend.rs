//! Attachments that are to carry nothing although they could: a drill's link. What is written is what a lost carrier comes to, one record
//! a neighbour and whatever the number of routes; but for these attachments alone, not for all that share their interface.

use erdp_common::abi::Group;
use serde::Serialize;

use super::{AttachmentId, FibError, Forwarding};
use crate::dataplane::Dataplane;

/// What of the flows is on some attachments: the buckets of the groups in use that lead there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Groups with a member there and another elsewhere.
    pub groups: usize,
    /// Their buckets that name a member there: the flows that move when it fails.
    pub buckets: usize,
    /// All of their buckets.
    pub of: usize,
    /// Groups without a member elsewhere: their flows have nowhere to go.
    pub alone: usize,
}

impl Forwarding {
    /// An attachment's neighbours count as dead, or as what they are again.
    pub fn suspend(
        &mut self,
        attachment: AttachmentId,
        suspended: bool,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let changed =
            if suspended { self.suspended.insert(attachment) } else { self.suspended.remove(&attachment) };
        if changed { self.write_next_hops(attachment, dataplane) } else { Ok(()) }
    }

    /// What of the flows is on these attachments.
    pub fn share_of(&self, attachments: &[AttachmentId]) -> Share {
        let mut share = Share::default();
        for (target, id) in self.groups.iter() {
            let keys: Vec<_> = target.members().map(|(key, _)| key).collect();
            let Some(group) = self.written.get(&id).filter(|_| !keys.is_empty()) else { continue };
            let on = keys.iter().filter(|key| attachments.contains(&key.attachment));
            let numbers: Vec<u16> =
                on.filter_map(|key| self.next_hops.get(key)).map(|number| number as u16).collect();
            match numbers.len() {
                0 => {}
                all if all == keys.len() => share.alone += 1,
                _ => {
                    share.groups += 1;
                    share.buckets += buckets_of(group, &numbers);
                    share.of += group.buckets.len();
                }
            }
        }
        share
    }
}

/// How many buckets of a group name one of these next hops.
fn buckets_of(group: &Group, numbers: &[u16]) -> usize {
    let names = |member: &&u8| {
        group.members.get(usize::from(**member)).is_some_and(|number| numbers.contains(number))
    };
    group.buckets.iter().filter(names).count()
}
