//! Peers that announce more than they may (D2): sent away, or the surplus refused and said; memory that is given back when one has gone;
//! routes that no message can hold.

use super::{Action, Core};
use crate::{
    bgp::PeerCommand,
    dataplane::Dataplane,
    rib::{Ignored, Meter, Overflow, Surplus},
};

impl<D: Dataplane> Core<D> {
    /// Acts on what the routing base has found since the last call.
    pub(super) fn act_on_excess(&mut self) {
        for Overflow { peer, excess, wait } in self.rib.take_overflows() {
            let name = &self.peers[usize::from(peer.0)].name;
            tracing::error!(
                peer = name,
                "{excess}: the session ends with Cease/1 and comes back after a wait (D2)"
            );
            self.order(peer, PeerCommand::Overflow { excess, wait });
            self.wait_no_longer(peer);
            self.actions.push_back(Action::ExpectAway(peer));
        }
        for Surplus { peer, excess, example, refused } in self.rib.take_surplus() {
            tracing::error!(
                peer = self.peers[usize::from(peer.0)].name, prefix = %example, refused,
                "{excess}: the surplus is refused and the session stays (D2); see `erdp show refused`"
            );
        }
        for (peer, family) in self.rib.take_wanted_again() {
            tracing::info!(
                peer = self.peers[usize::from(peer.0)].name, %family,
                "there is room again for what was refused: the peer is asked to announce everything anew (D2)"
            );
            self.order(peer, PeerCommand::RequestRefresh(family));
        }
        for peer in self.established.clone() {
            if let Some(prefix) = self.rib.take_too_long(peer) {
                tracing::warn!(
                    peer = self.peers[usize::from(peer.0)].name, %prefix, prefixes = self.rib.peer_counts(peer).too_long,
                    "not advertised: the attributes do not fit into a message (RFC 8654); see `erdp show refused`"
                );
            }
        }
        if self.rib.take_released() {
            self.actions.push_back(Action::GiveBackMemory);
        }
    }

    /// Says what is ignored of what peers announce.
    pub(super) fn note_ignored(&mut self) {
        for Ignored { peer, refusal, example, count } in self.rib.take_ignored() {
            let name = &self.peers[usize::from(peer.0)].name;
            tracing::warn!(
                peer = name, prefix = %example, routes = count, rule = refusal.rule(),
                "ignored: {refusal}; see `erdp show refused`"
            );
        }
    }

    /// How full the peerings are is said when it matters (D1).
    pub(super) fn note_guard(&mut self) {
        for warning in self.rib.take_guard_warnings() {
            let domain = &self.domains[usize::from(warning.domain.0)].name;
            let Meter { wanted, told, limit, .. } = warning.meter;
            match warning.meter.level() {
                0 => {
                    tracing::info!(domain, family = %warning.family, wanted, limit, "prefixes towards Microsoft: room again (D1)")
                }
                100 => tracing::error!(
                    domain, family = %warning.family, wanted, told, limit,
                    "more prefixes than Microsoft takes: some are not announced as they are, see `erdp show refused` (D1)"
                ),
                level => tracing::warn!(
                    domain, family = %warning.family, wanted, limit,
                    "{level} % of the prefixes that Microsoft takes: above the limit some are held back (D1)"
                ),
            }
        }
    }
}
