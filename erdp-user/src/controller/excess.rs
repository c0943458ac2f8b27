//! Peers that announce more than they may (D2): sent away, or the surplus refused and said; memory that is given back when one has gone;
//! routes that no message can hold.

use super::Controller;
use crate::{
    bgp::{PeerCommand, PeerId, Speaker},
    kernel::memory,
    rib::{Overflow, Surplus},
};

impl Controller {
    /// Acts on what the routing base has found since the last call.
    pub(super) fn act_on_excess(&mut self) {
        for Overflow { peer, excess, wait } in self.rib.take_overflows() {
            let name = &self.peers[usize::from(peer.0)].name;
            tracing::error!(
                peer = name,
                "{excess}: the session ends with Cease/1 and comes back after a wait (D2)"
            );
            self.order(peer, PeerCommand::Overflow { excess, wait });
            self.kept.expect_away(peer);
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
        let peers: Vec<PeerId> =
            self.speaker.iter().flat_map(Speaker::peers).map(|it| it.config().id).collect();
        for peer in peers {
            if let Some(prefix) = self.rib.take_too_long(peer) {
                tracing::warn!(
                    peer = self.peers[usize::from(peer.0)].name, %prefix, prefixes = self.rib.peer_counts(peer).too_long,
                    "not advertised: the attributes do not fit into a message (RFC 8654); see `erdp show refused`"
                );
            }
        }
        if self.rib.take_released() {
            // It may take some tens of milliseconds, which nobody has to wait for.
            tokio::task::spawn_blocking(memory::give_back);
        }
    }
}
