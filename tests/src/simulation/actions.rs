//! What the core wants done, and what it is told of its sessions and of the kernel.

use erdp::{
    bfd::session::Nanos,
    bgp::{PeerCommand, PeerEvent, PeerId, Session, Update},
    core,
    fib::Wish,
    kernel::{KernelEvent, Link},
};

use super::{
    Time, duration,
    net::Side,
    plan::{PLACES, ifindex},
    planted::Plant,
    seconds,
    world::{Event, World},
};

/// The kernel gives a neighbour up that has not answered for so long.
const UNANSWERED: Time = seconds(3);

impl World {
    /// A turn of the daemon's loop, and those that follow from it.
    pub(super) fn turn(&mut self) {
        if self.edge.is_down {
            return;
        }
        for _ in 0..16 {
            self.edge.is_told = false;
            let now = duration(self.now);
            self.edge.core.handle_turn(now);
            self.carry_out();
            self.edge.core.settle(now);
            self.carry_out();
            self.send_updates();
            for wish in self.edge.core.take_wishes() {
                self.grant(wish);
            }
            self.edge.core.end_wait(now);
            if !self.edge.is_told {
                return;
            }
        }
        self.violate("no end", "turn follows turn without end".to_owned());
    }

    /// What the core wants done.
    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.edge.core.poll_action() {
            self.edge.actions += 1;
            self.log(|| format!("core: {action:?}"));
            match action {
                core::Action::Order(peer, order) => self.order(usize::from(peer.0), order),
                core::Action::EndSession(peer, cease) => {
                    let place = usize::from(peer.0);
                    self.with(Side::Edge, place, |session, now| session.handle_stop(now, cease, ""));
                    self.kill(Side::Edge, place);
                    self.edge.sessions[place] = None;
                }
                core::Action::BeginSession(config) => {
                    let place = usize::from(config.id.0);
                    self.edge.sessions[place] = Some(Session::new(*config, self.rng.u64(..)));
                    self.with(Side::Edge, place, Session::handle_start);
                }
                core::Action::Expedite(peer) => {
                    self.with(Side::Edge, usize::from(peer.0), Session::handle_hurry);
                }
                core::Action::BfdAdmin(id, is_down) => {
                    if let Some(at) = self.edge.bfd.iter().position(|(_, it)| it.config().id == id) {
                        self.edge.bfd[at].1.handle_admin(Nanos(self.now), is_down);
                        self.run_bfd(at);
                    }
                }
                core::Action::BfdJudgeNothing(id) => {
                    let records = self.edge.records.clone();
                    if let Some((_, bfd)) = self.edge.bfd.iter_mut().find(|(_, it)| it.config().id == id) {
                        bfd.handle_bgp_up(&records[usize::from(id.0)]);
                    }
                }
                core::Action::Resync
                | core::Action::ShapeControlPorts(_)
                | core::Action::ExpectAway(_)
                | core::Action::ForgiveAway(_)
                | core::Action::GiveBackMemory
                | core::Action::Note { .. } => {}
            }
        }
    }

    pub(super) fn order(&mut self, place: usize, order: PeerCommand) {
        match (self.plant, &order) {
            (Some(Plant::OverflowLost), PeerCommand::Overflow { .. })
            | (Some(Plant::EnableLost), PeerCommand::Enable) => return,
            _ => {}
        }
        // Only routes can fail to be encoded, and none are ordered.
        self.with(Side::Edge, place, |session, now| drop(session.handle_order(now, order)));
    }

    pub(super) fn send_updates(&mut self) {
        for place in 0..PLACES.len() {
            let peer = PeerId(place as u16);
            for _ in 0..256 {
                self.edge.core.collect_updates(peer);
                let Some((session, update)) = self.edge.core.next_update(peer) else { break };
                for update in self.planted_updates(place, session, update) {
                    self.send_update(place, session, &update);
                }
            }
        }
        if self.plant == Some(Plant::Chatter) {
            for (place, (at, session, update)) in self.repeats.clone() {
                if self.now >= at + seconds(5) {
                    self.repeats.insert(place, (self.now, session, update.clone()));
                    self.send_update(place, session, &update);
                }
            }
        }
    }

    pub(super) fn send_update(&mut self, place: usize, session: u64, update: &Update) {
        let mut error = None;
        self.with(Side::Edge, place, |machine, now| error = machine.send(now, session, update).err());
        if let Some(error) = error {
            self.violate("encoded", format!("an update for {}: {error}", PLACES[place].interface));
        }
    }

    /// What is sent in the place of an update.
    pub(super) fn planted_updates(&mut self, place: usize, session: u64, mut update: Update) -> Vec<Update> {
        self.sent += 1;
        match self.plant {
            Some(Plant::UpdateLost) if self.sent.is_multiple_of(5) => return Vec::new(),
            Some(Plant::TransitLeak) if place == 2 && !update.announced.is_empty() => {
                update.announced.extend(self.peers[0].announced.iter());
            }
            Some(Plant::Chatter) if !update.announced.is_empty() => {
                self.repeats.insert(place, (self.now, session, update.clone()));
            }
            _ => {}
        }
        vec![update]
    }

    /// A session of the edge says something.
    pub(super) fn told(&mut self, place: usize, event: PeerEvent) {
        let event = match (self.plant, event) {
            (Some(Plant::WithdrawalMissed), PeerEvent::Update { peer, mut update })
                if PLACES[place].is_msee() && update.end_of_rib.is_none() =>
            {
                update.withdrawn.clear();
                PeerEvent::Update { peer, update }
            }
            (Some(Plant::EndMissed), PeerEvent::Down { .. }) => return,
            (Some(Plant::StaleKept), PeerEvent::Down { peer, reason, .. }) => {
                let kept = erdp::bgp::Kept {
                    families: vec![erdp::bgp::Family::Ipv4Unicast],
                    wait: erdp::bgp::Seconds(600),
                };
                PeerEvent::Down { peer, reason, kept: Some(kept) }
            }
            (_, event) => event,
        };
        self.log(|| match &event {
            PeerEvent::Update { update, .. } => format!(
                "edge: {}: +{:?} -{:?} {:?}",
                PLACES[place].interface, update.announced, update.withdrawn, update.end_of_rib
            ),
            PeerEvent::Established { .. } => format!("edge: {}: established", PLACES[place].interface),
            other => format!("edge: {}: {other:?}", PLACES[place].interface),
        });
        self.edge.core.handle_peer(event, duration(self.now));
        self.edge.is_told = true;
    }

    // The edge's kernel.

    /// An interface as it is.
    pub(super) fn link(&self, place: usize) -> Link {
        let ifindex = ifindex(place);
        let carrier = self.peers[place].wire.carrier;
        let name = PLACES[place].interface.to_owned();
        Link { ifindex, name, admin_up: true, carrier, mtu: 1_500, mac: [2, 0, 0, 0, 1, ifindex as u8] }
    }

    /// What the edge's kernel knows of a neighbour's MAC address.
    pub(super) fn tell_neighbour(&mut self, place: usize, is_resolved: bool) {
        let neighbour = &mut self.peers[place];
        let address = neighbour.address();
        neighbour.facts.is_resolved = is_resolved;
        neighbour.facts.unanswered_since = None;
        let mac = is_resolved.then_some(neighbour.mac);
        self.after(0, Event::Kernel(KernelEvent::Neighbour { ifindex: ifindex(place), address, mac }));
    }

    /// The kernel asks each neighbour, as the daemon has it do every second, here more often.
    pub(super) fn ask_neighbour(&mut self, place: usize) {
        let is_reachable = self.peers[place].is_reachable();
        let facts = &mut self.peers[place].facts;
        if is_reachable {
            facts.unanswered_since = None;
            if !facts.is_resolved {
                self.tell_neighbour(place, true);
            }
        } else if facts.is_resolved {
            let since = *facts.unanswered_since.get_or_insert(self.now);
            if self.now >= since + UNANSWERED {
                self.tell_neighbour(place, false);
            }
        }
    }

    /// The core wants a neighbour's MAC address.
    pub(super) fn grant(&mut self, wish: Wish) {
        let (Wish::Watch(key) | Wish::Renew(key)) = wish else { return };
        let place = usize::from(key.attachment.number()).wrapping_sub(1);
        if place < PLACES.len() && self.peers[place].is_reachable() && !self.peers[place].facts.is_resolved {
            self.tell_neighbour(place, true);
        }
    }
}
