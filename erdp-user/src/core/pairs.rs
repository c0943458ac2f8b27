//! The circuits' pairs of links: the facts that [`crate::pair`] judges.

use std::collections::BTreeSet;

use super::Core;
use crate::{
    config::{Circuit, DomainId, Link, LinkRole, Peer, Side},
    dataplane::Dataplane,
    fib::NextHopKey,
    pair::{self, LinkFacts, Pair, SessionFacts},
};

impl<D: Dataplane> Core<D> {
    /// Every peer is kept resolved: what its MAC address is follows from ARP alone, and not from whether its routes are the best.
    pub(crate) fn keep_neighbours(&mut self) {
        let peers = self.peers_neighbours();
        self.forwarding.keep(peers);
    }

    pub(super) fn peers_neighbours(&self) -> BTreeSet<NextHopKey> {
        let key = |peer: &Peer| NextHopKey { attachment: peer.attachment, address: peer.session.remote };
        self.peers.iter().filter(|peer| !self.vacant.contains(&peer.session.id)).map(key).collect()
    }

    pub(super) fn is_of_a_pair(&self, ifindex: u32) -> bool {
        self.pairs_of(ifindex).next().is_some()
    }

    /// The circuits that have a link on an interface, with the other one.
    fn pairs_of(&self, ifindex: u32) -> impl Iterator<Item = (&Circuit, LinkRole)> {
        // By its name in the configuration, which is another one where somebody has renamed it.
        let name = self.forwarding.topology().interfaces().get(&ifindex).copied();
        let is_it = move |link: &Link| matches!(link, Link::Local { interface, .. } if Some(interface.as_str()) == name);
        self.config.circuits.iter().flat_map(move |circuit| {
            let [primary, secondary] = LinkRole::ALL;
            let pair = [(primary, secondary), (secondary, primary)];
            let of_it = pair.into_iter().filter(move |(one, _)| is_it(circuit.link(*one)));
            of_it.map(move |(_, other)| (circuit, other))
        })
    }

    /// Whether some circuit has nothing but this link that carries traffic.
    pub(super) fn is_last(&self, ifindex: u32) -> bool {
        let other = |(circuit, role)| self.link_facts(circuit, role);
        self.pairs_of(ifindex).map(other).any(|other| !pair::may_be_left_alone(&other))
    }

    /// The facts of one link of a circuit.
    pub(crate) fn link_facts(&self, circuit: &Circuit, role: LinkRole) -> LinkFacts {
        LinkFacts { sessions: self.session_facts(circuit, role), ..self.bare_link_facts(circuit, role) }
    }

    /// The same without its sessions.
    pub(crate) fn bare_link_facts(&self, circuit: &Circuit, role: LinkRole) -> LinkFacts {
        let (is_elsewhere, has_carrier, is_held_down) = match circuit.link(role) {
            Link::Local { interface, .. } => (false, self.is_up(interface), self.is_held(interface)),
            Link::Box { .. } => (true, false, false),
        };
        let is_missing =
            matches!(circuit.link(role), Link::Local { interface, .. } if !self.is_in_use(interface));
        LinkFacts {
            is_enabled: circuit.is_in_use(),
            is_elsewhere,
            is_missing,
            has_carrier,
            is_held_down,
            sessions: Vec::new(),
        }
    }

    fn session_facts(&self, circuit: &Circuit, role: LinkRole) -> Vec<SessionFacts> {
        let index = self.config.circuits.iter().position(|other| other.name == circuit.name);
        self.peers_over(index, role).map(|peer| self.facts_of(peer)).collect()
    }

    /// The sessions with the MSEE of a circuit's link; where it ends on another box, those with that box (B1a).
    pub(crate) fn peers_over(&self, circuit: Option<usize>, role: LinkRole) -> impl Iterator<Item = &Peer> {
        let is_its = move |id: &DomainId| {
            let domain = self.domains.get(usize::from(id.0));
            domain.is_some_and(|domain| Some(domain.circuit) == circuit)
        };
        let link = circuit.and_then(|index| self.config.circuits.get(index)).map(|it| it.link(role));
        self.peers.iter().filter(move |peer| {
            let Some(attachment) = self.attachments.get(peer.attachment.index()) else { return false };
            let is_meant = match link {
                Some(Link::Local { .. }) => peer.side == Side::Msee(role),
                Some(Link::Box { name }) => {
                    peer.side == Side::Box && self.config.box_of(attachment) == Some(name)
                }
                None => false,
            };
            is_meant && !self.vacant.contains(&peer.session.id) && attachment.domains.iter().any(is_its)
        })
    }

    /// What is known of a session.
    pub(crate) fn facts_of(&self, peer: &Peer) -> SessionFacts {
        let counts = self.rib.peer_counts(peer.session.id);
        let key = NextHopKey { attachment: peer.attachment, address: peer.session.remote };
        SessionFacts {
            is_resolved: self.forwarding.is_resolved(key),
            bfd_is_up: self.bfd_verdict(peer.session.id),
            is_established: self.established.contains(&peer.session.id),
            routes: match peer.side {
                Side::Box => usize::from(self.rib.brings_microsoft(peer.session.id)),
                _ => counts.received.saturating_sub(counts.refused),
            },
            is_draining: counts.draining > 0 && counts.draining >= counts.received,
            out_of_use: self.out_of_use(peer.session.id),
        }
    }

    /// A circuit's pair.
    pub(crate) fn pair(&self, circuit: &Circuit) -> Pair {
        let [primary, secondary] = LinkRole::ALL.map(|role| self.link_facts(circuit, role));
        pair::pair([&primary, &secondary])
    }
}
