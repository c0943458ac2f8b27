//! The circuits' pairs of links in the controller: the facts that `pair` judges, links that flap and are held down, and what
//! `erdp show circuits` and `erdp show links` say.
//!
//! A link that is held down is used all the same when nothing else carries its circuit: a bad link is better than none.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use serde_json::{Value, json};

use super::Controller;
use crate::{
    bgp::{PeerId, State},
    config::{Circuit, DomainId, Link, LinkRole, Peer, Side},
    events::Kind,
    fib::NextHopKey,
    kernel::{self, preflight::has_carrier},
    minimum::Minimum,
    pair::{self, Damper, LinkFacts, Pair, SessionFacts},
};

/// How long neighbours behind a link that is back are asked for at our own pace; then the kernel's has to do, a second.
const RENEWED_FOR: Duration = Duration::from_secs(2);

/// The links that have flapped, by their interfaces.
pub(super) type Dampers = HashMap<u32, Damper>;

impl Controller {
    /// A link's carrier has come or gone: whether its word may say that it is alive.
    pub(super) fn damp(&mut self, ifindex: u32, alive: bool, was_known: bool) -> bool {
        let now = self.started.elapsed();
        if !self.is_of_a_pair(ifindex) || !was_known {
            return alive;
        }
        let damper = self.dampers.entry(ifindex).or_default();
        if !alive {
            damper.handle_loss(now);
            return false;
        }
        let may = damper.handle_return(now) || self.is_last(ifindex);
        if !may {
            tracing::warn!(interface = self.interface(ifindex), "the link flaps and is held down");
        } else if let Some(damper) = self.dampers.get_mut(&ifindex) {
            damper.release();
        }
        may
    }

    /// Links whose time is over, or that are needed, are used again: asked after every message, because what is needed is needed now.
    pub(super) fn release_links(&mut self) {
        let now = self.started.elapsed();
        let held: Vec<u32> =
            self.dampers.iter().filter(|(_, it)| it.holds()).map(|(ifindex, _)| *ifindex).collect();
        for ifindex in held {
            let is_last = self.is_last(ifindex);
            let Some(damper) = self.dampers.get_mut(&ifindex) else { continue };
            if (is_last && damper.release()) || damper.poll_release(now) {
                let name = self.interface(ifindex);
                tracing::info!(interface = name, "the link is used again");
                self.write_link(ifindex, &name, true);
            }
        }
    }

    /// A link's word. What rtnetlink has told may be old: a carrier that was lost again meanwhile has had its word already, and would
    /// not be heard of a second time.
    pub(super) fn write_link(&mut self, ifindex: u32, name: &str, alive: bool) {
        let mut write = |alive| {
            self.log_failure(|it| it.forwarding.link(ifindex, alive, &mut it.dataplane));
            self.log_failure(|it| it.dataplane.link_before(ifindex, alive));
        };
        write(alive);
        let is_lost_again = alive && matches!(has_carrier(name), Ok(false));
        if is_lost_again {
            write(false);
        }
        self.rank_link(ifindex, alive && !is_lost_again);
    }

    /// Links whose word says that they are dead although nobody has told the controller: each tick, because a return of which the kernel
    /// does not tell either is noticed only here.
    pub(super) fn mind_words(&mut self) {
        match self.dataplane.dead_links() {
            Ok(dead) => dead.into_iter().for_each(|word| self.on_dead_word(word)),
            Err(error) => tracing::error!(%error, "reading the links' words"),
        }
    }

    /// The carrier is gone, or it was for a moment, too short for the kernel's link watch. Asking for it has the kernel look itself.
    fn on_dead_word(&mut self, word: u16) {
        let topology = self.forwarding.topology();
        let found = topology.interfaces().into_keys().find(|it| topology.link_of(*it) == Some(word));
        let Some(link) = found.and_then(|ifindex| self.links.get(&ifindex).cloned()) else { return };
        let is_there = has_carrier(&link.name).unwrap_or(link.carrier);
        tracing::info!(interface = link.name, is_there, "its carrier was lost, and rtnetlink has not told");
        self.on_link(kernel::Link { carrier: false, ..link.clone() });
        if is_there {
            self.on_link(link);
        }
    }

    /// An interface carries traffic again: its neighbours need not wait for the kernel's next attempt. The switch behind it may not forward
    /// yet, so they are asked for again until [`RENEWED_FOR`].
    pub(super) fn on_return(&mut self, ifindex: u32) {
        self.returned.insert(ifindex, self.started.elapsed());
        self.renew_neighbours(ifindex);
    }

    /// Asks again, each tick, behind links that are just back.
    pub(super) fn mind_returned(&mut self) {
        let now = self.started.elapsed();
        self.returned.retain(|_, since| now.saturating_sub(*since) < RENEWED_FOR);
        for ifindex in self.returned.keys().copied().collect::<Vec<_>>() {
            if self.links.get(&ifindex).is_some_and(kernel::Link::is_alive) {
                self.renew_neighbours(ifindex);
            }
        }
    }

    fn renew_neighbours(&mut self, ifindex: u32) {
        let peers = self.peers_neighbours();
        self.forwarding.renew(ifindex, peers);
    }

    /// Every peer is kept resolved: what its MAC address is follows from ARP alone, and not from whether its routes are the best.
    pub(super) fn keep_neighbours(&mut self) {
        let peers = self.peers_neighbours();
        self.forwarding.keep(peers);
    }

    fn peers_neighbours(&self) -> BTreeSet<NextHopKey> {
        let key = |peer: &Peer| NextHopKey { attachment: peer.attachment, address: peer.session.remote };
        self.peers.iter().filter(|peer| !self.vacant.contains(&peer.session.id)).map(key).collect()
    }

    /// Says which sessions Microsoft begins to drain, and which it drains no longer (B7).
    pub(super) fn mind_drains(&mut self) {
        let is_drained = |peer: &&Peer| peer.side.is_msee() && self.facts_of(peer).is_draining;
        let now: BTreeSet<PeerId> = self
            .peers
            .iter()
            .filter(|peer| !self.vacant.contains(&peer.session.id))
            .filter(is_drained)
            .map(|peer| peer.session.id)
            .collect();
        let before = std::mem::replace(&mut self.drained, now);
        let changed: Vec<PeerId> = before.symmetric_difference(&self.drained).copied().collect();
        for id in changed {
            let Some(peer) = self.peers.get(usize::from(id.0)) else { continue };
            let (peer, drains) = (peer.name.clone(), self.drained.contains(&id));
            let what = if drains { "Microsoft drains it" } else { "Microsoft drains it no longer" };
            self.note(Kind::Session, &peer, what, Some("maintenance at Microsoft (B7)"));
            if drains {
                tracing::warn!(
                    peer,
                    "Microsoft drains this link for maintenance: its routes are used last (B7)"
                );
            } else {
                tracing::info!(peer, "Microsoft drains this link no longer (B7)");
            }
        }
    }

    pub(super) fn interface(&self, ifindex: u32) -> String {
        let configured =
            || self.forwarding.topology().interfaces().get(&ifindex).map(|name| (*name).to_owned());
        let link = self.links.get(&ifindex).map(|link| link.name.clone());
        link.or_else(configured).unwrap_or_else(|| ifindex.to_string())
    }

    pub(super) fn is_held(&self, interface: &str) -> bool {
        self.ifindex_of(interface).is_some_and(|ifindex| self.is_held_down(ifindex))
    }

    /// The same by its index.
    pub(super) fn is_held_down(&self, ifindex: u32) -> bool {
        self.dampers.get(&ifindex).is_some_and(Damper::holds)
    }

    fn is_of_a_pair(&self, ifindex: u32) -> bool {
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
    fn is_last(&self, ifindex: u32) -> bool {
        let other = |(circuit, role)| self.link_facts(circuit, role);
        self.pairs_of(ifindex).map(other).any(|other| !pair::may_be_left_alone(&other))
    }

    /// The facts of one link of a circuit.
    pub(super) fn link_facts(&self, circuit: &Circuit, role: LinkRole) -> LinkFacts {
        LinkFacts { sessions: self.session_facts(circuit, role), ..self.bare_link_facts(circuit, role) }
    }

    /// The same without its sessions.
    pub(super) fn bare_link_facts(&self, circuit: &Circuit, role: LinkRole) -> LinkFacts {
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
    pub(super) fn peers_over(&self, circuit: Option<usize>, role: LinkRole) -> impl Iterator<Item = &Peer> {
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
    pub(super) fn facts_of(&self, peer: &Peer) -> SessionFacts {
        let handle = self.speaker.as_ref().and_then(|speaker| speaker.peer(peer.session.id));
        let counts = self.rib.peer_counts(peer.session.id);
        let key = NextHopKey { attachment: peer.attachment, address: peer.session.remote };
        SessionFacts {
            is_resolved: self.forwarding.is_resolved(key),
            bfd_is_up: self.bfd_verdict(peer.session.id),
            is_established: handle.is_some_and(|handle| handle.status().state == State::Established),
            routes: match peer.side {
                Side::Box => usize::from(self.rib.brings_microsoft(peer.session.id)),
                _ => counts.received.saturating_sub(counts.refused),
            },
            is_draining: counts.draining > 0 && counts.draining >= counts.received,
            out_of_use: self.out_of_use(peer.session.id),
        }
    }

    /// A circuit's pair.
    pub(super) fn pair(&self, circuit: &Circuit) -> Pair {
        let [primary, secondary] = LinkRole::ALL.map(|role| self.link_facts(circuit, role));
        pair::pair([&primary, &secondary])
    }

    /// What a link is worth, for `erdp show links`: whether it is eligible, and what is wrong.
    pub(super) fn worth(&self, circuit: &Circuit, role: LinkRole) -> (Value, Value) {
        let facts = self.link_facts(circuit, role);
        if facts.is_unknown() {
            return (Value::Null, Value::Null);
        }
        let judged = pair::judge(&facts);
        (judged.is_eligible.into(), json!(judged.reasons))
    }

    pub(super) fn show_circuits(&self) -> Value {
        let row = |(index, circuit): (usize, &Circuit)| {
            let pair = self.pair(circuit);
            let is_last = self.minimums.get(index).is_some_and(Minimum::is_below);
            let flaps = |role| match circuit.link(role) {
                Link::Local { interface, .. } if self.is_held(interface) => "held down",
                _ => "no",
            };
            json!({
                "circuit": circuit.name,
                "links": pair.state,
                "sla_valid": pair.is_sla_valid,
                "why": pair.why,
                "primary": self.worth(circuit, LinkRole::Primary).1,
                "secondary": self.worth(circuit, LinkRole::Secondary).1,
                "flaps": LinkRole::ALL.map(flaps),
                "drill": self.show_drill(circuit),
                "rank": if is_last { "last: below minimum-links" } else { "as listed" },
            })
        };
        self.config.circuits.iter().enumerate().map(row).collect()
    }
}
