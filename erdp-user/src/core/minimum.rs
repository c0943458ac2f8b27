//! A circuit below its minimum of links (`minimum-links`) is a last resort: paths of its peers are used only where neither it nor another circuit
//! that an attachment lists has better ones, and its peers are asked to prefer other paths.

use std::collections::BTreeSet;

use super::Core;
use crate::{bgp::PeerId, config::LinkRole, dataplane::Dataplane, pair};

impl<D: Dataplane> Core<D> {
    /// Looks at the links of every circuit and ranks those whose standing has changed.
    pub(crate) fn judge_minimums(&mut self) {
        let circuits: Vec<(usize, usize)> = self
            .config
            .circuits
            .iter()
            .map(|circuit| {
                let is_eligible = |role: &LinkRole| pair::judge(&self.link_facts(circuit, *role)).is_eligible;
                let eligible = LinkRole::ALL.iter().filter(|role| is_eligible(role)).count();
                (eligible, usize::from(circuit.minimum_links))
            })
            .collect();
        let changed = self.redundancy.handle_links(&circuits, self.now);
        if changed.is_empty() {
            return;
        }
        for index in &changed {
            let (name, is_below) = (&self.config.circuits[*index].name, self.redundancy.is_below(*index));
            tracing::warn!(circuit = name, is_below, "minimum-links: whether the circuit ranks last (B11)");
        }
        let peers: Vec<PeerId> = changed
            .iter()
            .flat_map(|index| LinkRole::ALL.map(|role| (*index, role)))
            .flat_map(|(index, role)| self.peers_over(Some(index), role).map(|peer| peer.session.id))
            .collect();
        peers.into_iter().for_each(|peer| self.respare(peer));
    }

    /// A session's paths come last for an operator's word or its circuit's standing, and count as others' only without both.
    pub(crate) fn respare(&mut self, peer: PeerId) {
        let below: BTreeSet<PeerId> = (0..self.config.circuits.len())
            .filter(|index| self.redundancy.is_below(*index))
            .flat_map(|index| LinkRole::ALL.map(|role| (index, role)))
            .flat_map(|(index, role)| self.peers_over(Some(index), role).map(|peer| peer.session.id))
            .collect();
        self.rib.spare(peer, self.redundancy.peerings.phase(peer).is_some() || below.contains(&peer));
    }
}
