//! What a peer has announced and RFC 4271 section 6.3 wants ignored and logged: destinations that cannot be, next hops that no neighbour
//! has. Every such route stays visible with its reason ([`super::Rib::refused`]); here is what makes it a few lines of a log and not a flood.

use std::{collections::BTreeMap, mem, net::Ipv6Addr, time::Duration};

use ipnet::IpNet;

use super::{
    Rib,
    adj_in::Refusals,
    policy::{Import, Refusal},
};
use crate::bgp::{Moment, PeerId};

/// Of one peer and reason, a line so often at most.
const QUIET: Duration = Duration::from_secs(10);

/// Routes of a peer that are ignored for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Who announced them.
    pub peer: PeerId,
    /// Why they are ignored.
    pub refusal: Refusal,
    /// One of them.
    pub example: IpNet,
    /// How many there have been since the last line.
    pub count: usize,
}

/// What waits to be logged, and when each kind was logged last. There are as many entries as peers and reasons at most.
#[derive(Debug, Default)]
pub(super) struct Log {
    waiting: BTreeMap<(PeerId, Refusal), (IpNet, usize)>,
    logged: BTreeMap<(PeerId, Refusal), Moment>,
}

impl Log {
    /// Notes a route if what is wrong with it is an error of its UPDATE, and not a policy of ours.
    pub fn note(&mut self, peer: PeerId, prefix: IpNet, refusals: Option<&Refusals>) {
        let errors =
            refusals.into_iter().flat_map(|it| it.iter()).filter(|(_, refusal)| refusal.is_an_error());
        // The same reason in several domains is one route.
        if let Some((_, refusal)) = errors.into_iter().next() {
            self.waiting.entry((peer, *refusal)).or_insert((prefix, 0)).1 += 1;
        }
    }
}

impl Rib {
    /// Our link-local address on a peer's attachment is this one from now on, so that it is no next hop of the peer's.
    pub fn link_local(&mut self, peer: PeerId, address: Ipv6Addr) {
        let index = usize::from(peer.0);
        let Some(rib_peer) = self.config.peers.get_mut(index) else { return };
        if rib_peer.link_local.replace(address) == Some(address) {
            return;
        }
        let (config, rib_peer) = (&self.config, &self.config.peers[index]);
        let Some(adj_in) = self.adj_in.get_mut(index) else { return };
        let differing = adj_in.judge_again(|prefix, told| Import::new(config, rib_peer, told).judge(prefix));
        self.mark_all(peer, differing);
    }

    /// The ignored routes that are to be logged now.
    pub fn take_ignored(&mut self) -> Vec<Ignored> {
        if self.ignored.waiting.is_empty() {
            return Vec::new();
        }
        let now = self.now;
        let Log { waiting, logged } = &mut self.ignored;
        let mut lines = Vec::new();
        for ((peer, refusal), (example, count)) in mem::take(waiting) {
            match logged.get(&(peer, refusal)) {
                Some(last) if now < *last + QUIET => {
                    waiting.insert((peer, refusal), (example, count));
                }
                _ => {
                    logged.insert((peer, refusal), now);
                    lines.push(Ignored { peer, refusal, example, count });
                }
            }
        }
        lines
    }
}
