//! The minimum-links policy carried out: a circuit below its minimum ranks last among an attachment's peerings and within its domains,
//! and its peers are told to do alike. Tables are filled beside those in use and exchanged whole, as for a new configuration.

use std::collections::BTreeSet;

use super::{Controller, fib_id};
use crate::{
    bgp::PeerId,
    config::{Config, LinkRole, Side},
    fib::AttachmentFacts,
    minimum::Minimum,
    pair,
};

/// The circuits' standing, by their places in the configuration.
pub(super) type Minimums = Vec<Minimum>;

impl Controller {
    /// Looks at the links of every circuit and ranks those whose standing has changed.
    pub(super) fn mind_minimums(&mut self) {
        let now = self.started.elapsed();
        let mut minimums = std::mem::take(&mut self.minimums);
        minimums.resize(self.config.circuits.len(), Minimum::default());
        let mut changed = Vec::new();
        for (index, circuit) in self.config.circuits.iter().enumerate() {
            let is_eligible = |role: &LinkRole| pair::judge(&self.link_facts(circuit, *role)).is_eligible;
            let eligible = LinkRole::ALL.iter().filter(|role| is_eligible(role)).count();
            if minimums[index].handle_links(eligible, usize::from(circuit.minimum_links), now) {
                changed.push(index);
            }
        }
        self.minimums = minimums;
        if changed.is_empty() {
            return;
        }
        for index in &changed {
            let (name, is_below) = (&self.config.circuits[*index].name, self.minimums[*index].is_below());
            tracing::warn!(circuit = name, is_below, "minimum-links: whether the circuit ranks last (B11)");
        }
        let peers: Vec<PeerId> = changed
            .iter()
            .flat_map(|index| LinkRole::ALL.map(|role| (*index, role)))
            .flat_map(|(index, role)| self.peers_over(Some(index), role).map(|peer| peer.session.id))
            .collect();
        peers.into_iter().for_each(|peer| self.respare(peer));
        let topology = self.forwarding.topology();
        let facts = topology.attachments().map(|facts| self.ranked(&self.config, facts.clone())).collect();
        let now_ns = self.now_ns();
        self.log_failure(|it| it.forwarding.reshape(facts, now_ns, &mut it.dataplane));
    }

    /// A session's paths come last for an operator's word or its circuit's standing, and count as others' only without both.
    pub(super) fn respare(&mut self, peer: PeerId) {
        let below: BTreeSet<PeerId> = (0..self.minimums.len())
            .filter(|index| self.minimums[*index].is_below())
            .flat_map(|index| LinkRole::ALL.map(|role| (index, role)))
            .flat_map(|(index, role)| self.peers_over(Some(index), role).map(|peer| peer.session.id))
            .collect();
        self.rib.spare(peer, self.peerings.phase(peer).is_some() || below.contains(&peer));
    }

    /// An attachment's facts with the domains of circuits below their minimum behind the others that it lists.
    pub(super) fn ranked(&self, config: &Config, facts: AttachmentFacts) -> AttachmentFacts {
        let attachments = config.attachments();
        let Some(attachment) = attachments.iter().find(|it| fib_id(it.id) == facts.id) else { return facts };
        if matches!(attachment.side, Side::Msee(_)) {
            return facts;
        }
        let domains = config.domains();
        let is_below = |domain: &usize| {
            let circuit = domains.get(*domain).map(|domain| domain.circuit);
            circuit.and_then(|index| self.minimums.get(index)).is_some_and(Minimum::is_below)
        };
        let mut listed: Vec<usize> = attachment.domains.iter().map(|id| usize::from(id.0)).collect();
        listed.sort_by_key(is_below);
        AttachmentFacts { domains: listed, ..facts }
    }
}
