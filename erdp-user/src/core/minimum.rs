//! Which circuits rank last among an attachment's peerings.
//!
//! - A circuit below its minimum of links (`minimum-links`). It ranks last within its domains too, and its peers are asked to prefer other
//!   paths.
//! - A peering of which an operator has taken a session out of use, while every other session towards Microsoft is out of use or down (B6).
//!   Another circuit then carries its traffic before the last session ends.
//!
//! Tables are filled beside those in use and exchanged whole, as for a new configuration.

use std::collections::BTreeSet;

use super::Core;
use crate::{
    bgp::PeerId,
    config::{Config, LinkRole, Side},
    dataplane::Dataplane,
    fib::AttachmentFacts,
    pair,
};

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
        self.rank_domains();
    }

    /// The tables follow, if the domains that rank last are others than before.
    pub(crate) fn rank_domains(&mut self) {
        let last: BTreeSet<usize> =
            (0..self.domains.len()).filter(|domain| self.ranks_last(*domain)).collect();
        if last == self.last {
            return;
        }
        self.last = last;
        let topology = self.forwarding.topology();
        let facts = topology.attachments().map(|facts| self.ranked(&self.config, facts.clone())).collect();
        let now_ns = self.now_ns();
        self.log_failure(|it| it.forwarding.reshape(facts, now_ns, &mut it.dataplane));
    }

    /// Whether a domain's circuit is below its minimum, or no session of it towards Microsoft is in use because of an order of ours.
    fn ranks_last(&self, domain: usize) -> bool {
        let circuit = self.domains.get(domain).map(|domain| domain.circuit);
        let is_below = circuit.is_some_and(|index| self.redundancy.is_below(index));
        let sessions = self.peers.iter().filter(|peer| {
            let attachment = self.attachments.get(peer.attachment.index());
            let is_its =
                attachment.is_some_and(|it| it.domains.first().is_some_and(|id| usize::from(id.0) == domain));
            let leads = matches!(peer.side, Side::Msee(_) | Side::Box);
            is_its && leads && !self.vacant.contains(&peer.session.id)
        });
        let is_out = |peer: PeerId| self.redundancy.peerings.phase(peer).is_some();
        let sessions: Vec<PeerId> = sessions.map(|peer| peer.session.id).collect();
        // Routes of a session that is merely down go by themselves. Those of one that is out of use stay, for when nothing else is left: behind
        // another circuit's, also where the other link is down.
        let are_out = sessions.iter().any(|peer| is_out(*peer))
            && sessions.iter().all(|peer| is_out(*peer) || !self.established.contains(peer));
        is_below || are_out
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

    /// An attachment's facts with the domains that rank last behind the others that it lists.
    pub(crate) fn ranked(&self, config: &Config, facts: AttachmentFacts) -> AttachmentFacts {
        let attachments = config.attachments();
        let Some(attachment) = attachments.iter().find(|it| it.id == facts.id) else { return facts };
        if matches!(attachment.side, Side::Msee(_)) {
            return facts;
        }
        let mut listed: Vec<usize> = attachment.domains.iter().map(|id| usize::from(id.0)).collect();
        listed.sort_by_key(|domain| self.last.contains(domain));
        AttachmentFacts { domains: listed, ..facts }
    }
}
