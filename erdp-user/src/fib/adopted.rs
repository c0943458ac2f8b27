//! Whether what has been learned since the start leads wherever the program of the controller before us still leads: then it can
//! be replaced at once, because nothing that it forwards would be lost.
//!
//! Compared are the tries of both, row of addresses by row, so nothing needs to be known of the routes that were lost with their
//! controller. What is asked of a row is that each attachment over which its packets leave now is used by the new group too.

use std::collections::HashMap;

use erdp_common::fib::{
    LINE_WORDS,
    build::Store as _,
    walk::{Drawn, covers},
};

use super::{AttachmentId, Forwarding, Target};

/// What the program before this one forwards by.
pub trait Adopted {
    /// The first lines of an attachment's tables, IPv4 and IPv6; `None`: it has none.
    fn roots(&self, attachment: AttachmentId) -> Option<[u32; 2]>;
    /// A word of the trie; 0 outside the pool.
    fn word(&self, line: u32, at: usize) -> u64;
    /// The attachments over which a group's packets leave, as far as their links are alive.
    fn egress(&self, group: u32) -> Vec<AttachmentId>;
}

impl Forwarding {
    /// Whether nothing that is forwarded now would be lost if this one forwarded instead.
    pub fn covers(&self, adopted: &dyn Adopted) -> bool {
        let store = self.fib.store();
        let word = |line: u32, at: usize| adopted.word(line, at);
        let own_word = |line: u32, at: usize| {
            if line < store.capacity() && at < LINE_WORDS { store.word(line, at) } else { 0 }
        };
        let mut judged: HashMap<(u32, u32), bool> = HashMap::new();
        let mut may_follow = |before: u32, now: u32| {
            *judged.entry((before, now)).or_insert_with(|| {
                adopted.egress(before).into_iter().all(|attachment| self.leads_over(now, attachment))
            })
        };
        self.topology.attachments().all(|facts| {
            let policy = self.topology.policy(facts.id);
            let view = self.views.iter().find(|view| view.policy == policy);
            let (Some(view), Some(roots)) = (view, adopted.roots(facts.id)) else { return false };
            roots.into_iter().zip([view.table4.root(), view.table6.root()]).all(|(root, own)| {
                let (before, now) = (Drawn { root, word: &word }, Drawn { root: own, word: &own_word });
                covers(&before, &now, &mut may_follow)
            })
        })
    }

    /// Whether a group's packets may leave over an attachment: by a neighbour whose MAC address is known, or to one to be asked for.
    fn leads_over(&self, group: u32, attachment: AttachmentId) -> bool {
        match self.groups.value(group).map(|target| &**target) {
            Some(Target::Glean(on)) => *on == attachment,
            Some(target) => {
                target.members().any(|(key, _)| key.attachment == attachment && self.is_resolved(key))
            }
            None => false,
        }
    }
}
