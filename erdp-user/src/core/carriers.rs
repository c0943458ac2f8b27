//! What a link's carrier means for the routes and sessions over it: [`crate::fallover`] carried out.
//!
//! The word that takes packets off the link is written before any of this, here or by the packet path. The ranks follow the word, so
//! they also hold for a link that flaps and is left alone; the sessions follow the carrier.

use super::Core;
use crate::{
    bgp::{PeerCommand, PeerId},
    dataplane::Dataplane,
    fallover::Word,
};

impl<D: Dataplane> Core<D> {
    /// The paths of the peers behind a link rank as they always do, or last, as its word says.
    pub(crate) fn rank_link(&mut self, ifindex: u32, alive: bool) {
        for peer in self.peers_on(ifindex) {
            let is_dead = self.keeps_behind_dead_bfd(peer);
            self.rib.unreach(peer, !alive || is_dead);
        }
    }

    /// The same for one peer: its session or its BFD has changed.
    pub(super) fn rank_peer(&mut self, peer: PeerId) {
        let attachment = self.peers.get(usize::from(peer.0)).map(|peer| peer.attachment);
        let facts = attachment.and_then(|id| self.forwarding.topology().attachment(id));
        let Some(ifindex) = facts.map(|facts| facts.ifindex) else { return };
        let is_alive = self.links.get(&ifindex).is_none_or(|link| link.is_alive());
        let is_reached = is_alive && !self.is_held_down(ifindex) && !self.keeps_behind_dead_bfd(peer);
        self.rib.unreach(peer, !is_reached);
    }

    /// Whether a peer's session has ended, its routes are kept (RFC 4724), and BFD says that the path is dead: no packet gets there. They stay for when
    /// the path is back before the session is (RFC 5882 section 4.3).
    fn keeps_behind_dead_bfd(&self, peer: PeerId) -> bool {
        !self.established.contains(&peer) && self.bfd_verdict(peer) == Some(false)
    }

    /// The same for all links: there are new peers.
    pub(crate) fn rank_links(&mut self) {
        let links: Vec<(u32, bool)> = self
            .links
            .iter()
            .map(|(ifindex, link)| (*ifindex, link.is_alive() && !self.is_held_down(*ifindex)))
            .collect();
        links.into_iter().for_each(|(ifindex, alive)| self.rank_link(ifindex, alive));
    }

    /// Sessions end whose links have been without a carrier for too long, and begin where it is back.
    pub(super) fn follow_carriers(&mut self) {
        while let Some((ifindex, word)) = self.redundancy.poll_sessions(self.now) {
            self.connect_subnets(ifindex, word == Word::Begin);
            let peers = self.peers_on(ifindex);
            let interface = self.interface(ifindex);
            tracing::warn!(
                interface,
                ?word,
                sessions = peers.len(),
                "the sessions over a link follow its carrier"
            );
            for peer in peers {
                self.order(peer, PeerCommand::Carrier(word == Word::Begin));
                // Of an earlier session whose peer wanted its routes kept (RFC 4724): what they led through is gone.
                if word == Word::End && self.rib.families(peer).is_empty() {
                    self.rib.peer_down(peer);
                }
            }
        }
    }

    /// The subnets on a link are announced, where they are at all, as long as it has a carrier (requirement C2).
    fn connect_subnets(&mut self, ifindex: u32, is_up: bool) {
        let on_it = self.attachments.iter().filter(|attachment| {
            let facts = self.forwarding.topology().attachment(attachment.id);
            facts.is_some_and(|facts| facts.ifindex == ifindex)
        });
        for attachment in on_it {
            self.rib.connect(attachment.id, is_up);
        }
    }

    /// Whether a peer's sessions have ended for want of a carrier.
    pub(crate) fn has_no_carrier(&self, peer: PeerId) -> bool {
        let attachment = self.peers.get(usize::from(peer.0)).map(|peer| peer.attachment);
        let facts = attachment.and_then(|id| self.forwarding.topology().attachment(id));
        // Without an interface there never was one.
        facts.is_some_and(|facts| facts.ifindex == 0 || self.redundancy.has_ended(facts.ifindex))
    }

    /// What keeps sessions from being tried, for such as have begun anew and know nothing of it.
    pub fn close_gates(&mut self, peers: &[PeerId]) {
        for peer in peers {
            self.hold_if_strict(*peer);
            if self.has_no_carrier(*peer) {
                self.order(*peer, PeerCommand::Carrier(false));
            }
        }
        self.shut_disabled();
        self.keep_neighbours();
    }

    /// Every peer, by its identifier.
    pub fn all_peers(&self) -> Vec<PeerId> {
        self.peers.iter().map(|peer| peer.session.id).collect()
    }

    pub(super) fn peers_on(&self, ifindex: u32) -> Vec<PeerId> {
        let is_on_it = |peer: &&crate::config::Peer| {
            let facts = self.forwarding.topology().attachment(peer.attachment);
            facts.is_some_and(|facts| facts.ifindex == ifindex)
        };
        self.peers.iter().filter(is_on_it).map(|peer| peer.session.id).collect()
    }
}
