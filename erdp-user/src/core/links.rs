//! Links: what the kernel reports about them, the liveness flag that moves traffic at a failover, and links that flap.
//!
//! A link that is held down is used all the same when nothing else carries its circuit: a bad link is better than none.

use std::{net::IpAddr, time::Duration};

use super::{Action, Core};
use crate::{
    dataplane::Dataplane,
    events::Kind,
    fib::{LinkFacts, NextHopKey},
    kernel::{KernelEvent, Link},
    types::AttachmentId,
};

impl<D: Dataplane> Core<D> {
    /// The kernel says something of a link, an address or a neighbour.
    pub fn handle_kernel(&mut self, event: KernelEvent, now: Duration) {
        self.now = now;
        match event {
            KernelEvent::Link(link) => {
                let ifindex = link.ifindex;
                if self.handle_link(link) {
                    self.actions.push_back(Action::ShapeControlPorts(ifindex));
                }
            }
            KernelEvent::LinkGone { ifindex } => {
                self.on_gone(ifindex);
            }
            KernelEvent::Address { ifindex, address: IpAddr::V6(address), .. }
                if address.is_unicast_link_local() =>
            {
                self.log_failure(|it| it.forwarding.link_local(ifindex, address, &mut it.dataplane));
                self.note_link_locals();
            }
            KernelEvent::Address { .. } => {}
            KernelEvent::Neighbour { ifindex, address, mac } => {
                let now_ns = self.now_ns();
                let on_it: Vec<AttachmentId> =
                    self.forwarding.topology().spoken_for_on(ifindex).map(|facts| facts.id).collect();
                for attachment in on_it {
                    let key = NextHopKey { attachment, address };
                    if mac.is_some() {
                        self.resolved.insert(key);
                    } else {
                        self.resolved.remove(&key);
                    }
                    if mac.is_some() && self.is_peer(attachment, address) {
                        self.miscabling.handle_answer(attachment, address);
                    }
                    if let Some(mac) = mac {
                        self.follow_before(key, mac);
                    }
                    self.log_failure(|it| it.forwarding.neighbour(key, mac, now_ns, &mut it.dataplane));
                }
            }
            KernelEvent::Resync => self.actions.push_back(Action::Resync),
        }
    }

    /// The maps of the process before follow a neighbour's MAC address. What it was is known where it has changed under us; an MSEE, which is alone
    /// on its wire, may have had any before it is resolved for the first time, because no process may have run when it changed.
    fn follow_before(&mut self, key: NextHopKey, mac: [u8; 6]) {
        let known = self.forwarding.mac(key);
        let facts = self.forwarding.topology().attachment(key.attachment);
        let is_alone = facts.is_some_and(|facts| facts.is_msee) && self.is_peer(key.attachment, key.address);
        if known.map_or(is_alone, |known| known != mac) {
            self.log_failure(|it| it.dataplane.mac_before(key.attachment, known, mac));
        }
    }

    /// Our link-local addresses are no next hops of the peers behind them.
    pub(crate) fn note_link_locals(&mut self) {
        for peer in &self.peers {
            let facts = self.forwarding.topology().attachment(peer.attachment);
            if let Some(address) = facts.and_then(|facts| facts.link_local6) {
                self.rib.link_local(peer.session.id, address);
            }
        }
    }

    /// Writes the link's liveness flag first, then everything else that has changed. Returns whether the MAC address or the MTU has changed.
    fn handle_link(&mut self, link: Link) -> bool {
        let ifindex = link.ifindex;
        if !self.is_link_in_use(&link) {
            return false;
        }
        let alive = link.is_alive();
        let before = self.links.get(&ifindex).map(Link::is_alive);
        if before != Some(alive) {
            let is_paired = before.is_some() && self.is_of_a_pair(ifindex);
            let is_last = alive && is_paired && self.is_last(ifindex);
            let may = alive && self.redundancy.handle_return(ifindex, is_paired, is_last, self.now);
            self.write_link(ifindex, &link.name, may);
            tracing::info!(interface = link.name, alive, "link");
            if before.is_some() {
                let what = if alive { "has carrier and is up" } else { "has no carrier, or is down" };
                self.note(Kind::Link, &link.name, what, None);
            }
            if alive {
                if !may {
                    tracing::warn!(interface = self.interface(ifindex), "the link flaps and is held down");
                }
                self.on_return(ifindex);
                self.expedite_sessions(ifindex);
            } else {
                self.redundancy.handle_loss(ifindex, is_paired, self.now);
            }
        }
        let facts = LinkFacts { mac: link.mac, mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX) };
        self.log_failure(|it| it.forwarding.link_facts(ifindex, facts, &mut it.dataplane));
        let before = self.links.insert(ifindex, link.clone());
        self.note_name(before.as_ref(), &link);
        before.is_some_and(|before| (before.mac, before.mtu) != (link.mac, link.mtu))
    }

    /// The sessions over an interface that is back need not wait for their next attempt.
    fn expedite_sessions(&mut self, ifindex: u32) {
        for peer in self.peers_on(ifindex) {
            self.actions.push_back(Action::Expedite(peer));
        }
    }

    /// Links whose time is over, or that are needed, are used again: asked after every message, because what is needed is needed now.
    pub(crate) fn release_links(&mut self) {
        for ifindex in self.redundancy.held() {
            let is_last = self.is_last(ifindex);
            if self.redundancy.poll_release(ifindex, is_last, self.now) {
                let name = self.interface(ifindex);
                tracing::info!(interface = name, "the link is used again");
                self.write_link(ifindex, &name, true);
            }
        }
    }

    /// A link's word. What rtnetlink has told may be old: a carrier that was lost again meanwhile has had its word already, and would
    /// not be heard of a second time.
    pub(crate) fn write_link(&mut self, ifindex: u32, name: &str, alive: bool) {
        self.write_word(ifindex, alive);
        let is_lost_again = alive && self.dataplane.has_carrier(name) == Some(false);
        if is_lost_again {
            self.write_word(ifindex, false);
        }
        self.rank_link(ifindex, alive && !is_lost_again);
    }

    fn write_word(&mut self, ifindex: u32, alive: bool) {
        self.log_failure(|it| it.forwarding.link(ifindex, alive, &mut it.dataplane));
        self.log_failure(|it| it.dataplane.link_before(ifindex, alive));
    }

    /// Links whose liveness flag says that they are dead although rtnetlink has not reported it: each tick, because a return that the kernel
    /// does not report either is noticed only here.
    pub(super) fn note_dead_links(&mut self) {
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
        let is_there = self.dataplane.has_carrier(&link.name).unwrap_or(link.carrier);
        tracing::info!(interface = link.name, is_there, "its carrier was lost, and rtnetlink has not told");
        self.handle_link(Link { carrier: false, ..link.clone() });
        if is_there {
            self.handle_link(link);
        }
    }

    /// An interface carries traffic again: its neighbours need not wait for the kernel's next attempt. The switch behind it may not forward
    /// yet, so they are asked for again until [`crate::redundancy::RENEWED_FOR`].
    pub(crate) fn on_return(&mut self, ifindex: u32) {
        self.redundancy.handle_neighbours(ifindex, self.now);
        self.renew_neighbours(ifindex);
    }

    /// Asks again, each tick, behind links that are just back.
    pub(super) fn renew_returned(&mut self) {
        for ifindex in self.redundancy.poll_returned(self.now) {
            if self.links.get(&ifindex).is_some_and(Link::is_alive) {
                self.renew_neighbours(ifindex);
            }
        }
    }

    fn renew_neighbours(&mut self, ifindex: u32) {
        let peers = self.peers_neighbours();
        self.forwarding.renew(ifindex, peers);
    }

    pub(crate) fn interface(&self, ifindex: u32) -> String {
        let configured =
            || self.forwarding.topology().interfaces().get(&ifindex).map(|name| (*name).to_owned());
        let link = self.links.get(&ifindex).map(|link| link.name.clone());
        link.or_else(configured).unwrap_or_else(|| ifindex.to_string())
    }

    /// Whether the link on an interface is held down because it flaps.
    pub fn is_held(&self, interface: &str) -> bool {
        self.ifindex_of(interface).is_some_and(|ifindex| self.is_held_down(ifindex))
    }

    /// The same by its index.
    pub(crate) fn is_held_down(&self, ifindex: u32) -> bool {
        self.redundancy.holds(ifindex)
    }
}
