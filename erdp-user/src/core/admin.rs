//! Circuits that are not in use (requirement A8): disabled by their operator, or not provisioned. Such a circuit carries nothing in
//! either direction: its routes are in no table and are advertised to nobody, its sessions are administratively down, and what still
//! comes in on it is dropped as `disabled`. An attachment towards the customer goes on as long as one of its circuits is in use.
//!
//! The order in which a circuit is left decides what is lost. Its routes go first, so that the customer's packets take the other
//! circuit; then its sessions end with a Cease, so that Microsoft's packets do; then the packet path takes nothing of it any more. It
//! is entered the other way round.

use std::{collections::BTreeSet, time::Duration};

use super::Core;
use crate::{
    bgp::{PeerCommand, PeerId},
    config::{Config, DomainId},
    dataplane::Dataplane,
};

/// What peers and operators read about a session of such a circuit.
pub(crate) const CIRCUIT_OFF: &str = "the circuit is disabled or not provisioned (A8)";

impl<D: Dataplane> Core<D> {
    /// Whether no circuit of a peer's attachment is in use.
    pub(crate) fn is_circuit_off(&self, peer: PeerId) -> bool {
        is_off(&self.config, self, peer)
    }

    /// The peers of attachments without a circuit in use.
    pub(crate) fn peers_of_disabled(&self) -> Vec<PeerId> {
        let is_its = |peer: &PeerId| !self.vacant.contains(peer) && self.is_circuit_off(*peer);
        self.all_peers().into_iter().filter(is_its).collect()
    }

    /// Before the packet path of another configuration: the circuits that it disables lose their routes, then their sessions. The answer is
    /// whose Cease is to be on the wire before the packet path drops what the kernel sends there; then [`Self::silence`] them.
    pub fn leave_circuits(&mut self, config: &Config, now: Duration) -> Vec<PeerId> {
        self.now = now;
        let leaves = |index: usize| {
            let is_in_use = |config: &Config| config.circuits.get(index).is_some_and(|it| it.is_in_use());
            is_in_use(&self.config) && !is_in_use(config)
        };
        let left: Vec<DomainId> =
            self.domains.iter().filter(|domain| leaves(domain.circuit)).map(|domain| domain.id).collect();
        if left.is_empty() {
            return Vec::new();
        }
        left.iter().for_each(|domain| self.rib.enable(*domain, false));
        self.write_routes();
        let ending: Vec<PeerId> = self
            .all_peers()
            .into_iter()
            .filter(|peer| !self.vacant.contains(peer) && is_off(config, self, *peer))
            .collect();
        for peer in &ending {
            self.order(*peer, PeerCommand::Disable { text: CIRCUIT_OFF.to_owned() });
        }
        tracing::warn!(domains = left.len(), sessions = ending.len(), "circuits are taken out of use (A8)");
        ending
    }

    /// BFD with these peers says that they are administratively down.
    pub fn silence(&mut self, peers: Vec<PeerId>) {
        peers.into_iter().for_each(|peer| self.bfd_admin(peer, true));
    }

    /// The sessions that another configuration had shut, and the running one has not, begin.
    pub(crate) fn open_enabled(&mut self, before: &Config) {
        for domain in &self.domains {
            let is_in_use = self.config.circuits.get(domain.circuit).is_some_and(|it| it.is_in_use());
            self.rib.enable(domain.id, is_in_use);
        }
        let mut entered = BTreeSet::new();
        for peer in self.all_peers() {
            let is_shut = self.vacant.contains(&peer) || self.redundancy.peerings.is_down(peer);
            if is_off(before, self, peer) && !self.is_circuit_off(peer) && !is_shut {
                self.bfd_admin(peer, false);
                self.order(peer, PeerCommand::Enable);
                entered.extend(self.interface_of(peer));
            }
        }
        // Their answers were dropped, so the kernel has given its neighbours up.
        entered.into_iter().for_each(|ifindex| self.on_return(ifindex));
    }

    /// The interface that a peer's attachment is on.
    fn interface_of(&self, peer: PeerId) -> Option<u32> {
        let attachment = self.peers.get(usize::from(peer.0))?.attachment;
        Some(self.forwarding.topology().attachment(attachment)?.ifindex)
    }
}

pub(crate) fn is_off<D: Dataplane>(config: &Config, core: &Core<D>, peer: PeerId) -> bool {
    let attachment = core.peers.get(usize::from(peer.0)).map(|peer| peer.attachment.index());
    let attachment = attachment.and_then(|index| core.attachments.get(index));
    attachment.is_some_and(|attachment| !config.is_in_use(attachment))
}
