//! What goes over the wires: BFD packets, and BGP over TCP.

use erdp::{
    bfd::{record, session::Nanos},
    bgp::{Action, ConnId, Loss, Moment, PeerEvent, Session, Update},
};
use erdp_common::{
    bfd::wire::{ControlPacket, State as BfdState},
    pipeline::Verdict,
};

use super::{
    duration, moment,
    net::{Connection, Segment, Side},
    plan::{PLACES, ifindex},
    planted::Plant,
    seconds,
    world::{Event, World},
};

/// Where a BFD packet's payload begins: Ethernet, IPv4, UDP.
const PAYLOAD_AT: usize = 14 + 20 + 8;

impl World {
    // BFD.

    pub(super) fn run_bfd(&mut self, at: usize) {
        let (now, records) = (Nanos(self.now), self.edge.records.clone());
        let (place, bfd) = &mut self.edge.bfd[at];
        let (place, id) = (*place, bfd.config().id);
        let record = &records[usize::from(id.0)];
        bfd.handle_time(now, now, record);
        let mut packets = Vec::new();
        while let Some(packet) = bfd.poll_transmit(now, self.rng.u32(..), record) {
            record::sent(record, now);
            packets.push(packet);
        }
        self.follow_bfd(at);
        for packet in packets {
            self.send_bfd(Side::Edge, place, packet.words().concat());
        }
    }

    /// A change of the edge's BFD goes to the core.
    pub(super) fn follow_bfd(&mut self, at: usize) {
        let (place, bfd) = &mut self.edge.bfd[at];
        let (place, id) = (*place, bfd.config().id);
        let Some(change) = bfd.take_change() else { return };
        self.log(|| format!("edge: BFD with {}: {change:?}", PLACES[place].interface));
        if self.plant == Some(Plant::BfdIgnored) && change.to != BfdState::Up {
            record::judge_nothing(&self.edge.records[usize::from(id.0)]);
            return;
        }
        self.edge.core.handle_bfd(id, change, duration(self.now));
        self.edge.is_told = true;
    }

    pub(super) fn run_peers_bfd(&mut self, place: usize) {
        let now = Nanos(self.now);
        let Some(bfd) = &mut self.peers[place].bfd else { return };
        bfd.handle_timeout(now);
        let mut packets = Vec::new();
        while let Some(packet) = bfd.poll_transmit(now, self.rng.u32(..)) {
            packets.push(packet);
        }
        self.follow_peers_bfd(place);
        for packet in packets {
            self.send_bfd(Side::Peer, place, packet.words().concat());
        }
    }

    /// A neighbour's BGP follows its BFD.
    pub(super) fn follow_peers_bfd(&mut self, place: usize) {
        let Some(change) = self.peers[place].bfd.as_mut().and_then(|bfd| bfd.poll_change()) else { return };
        self.log(|| format!("{}: BFD: {change:?}", PLACES[place].interface));
        if change.to == BfdState::Up {
            self.with(Side::Peer, place, Session::handle_hurry);
        } else if change.from == BfdState::Up && !change.by_peers_operator {
            self.with(Side::Peer, place, Session::handle_path_down);
        }
    }

    pub(super) fn send_bfd(&mut self, from: Side, place: usize, payload: Vec<u8>) {
        let neighbour = &self.peers[place];
        let (wire, is_on) = (neighbour.wire, neighbour.is_on);
        if is_on && wire.carries(from) && !self.is_lost(wire.loss) {
            self.after(wire.delay, Event::Bfd { place, to: from.other(), payload });
        }
    }

    /// A BFD packet goes through the packet path, which notes it, and answers it itself where no process does.
    pub(super) fn bfd_to_edge(&mut self, place: usize, payload: &[u8]) {
        let frame = self.peers[place].bfd_frame(ifindex(place), payload);
        let ran = self.edge.forwards().run(ifindex(place), &frame);
        let bytes = ran.frame.bytes().get(PAYLOAD_AT..).unwrap_or_default();
        match ran.verdict {
            Verdict::Punt(_) | Verdict::PuntVia(..) => {
                let at = self.edge.bfd.iter().position(|(of, _)| *of == place);
                if let (Some(at), Ok(packet)) = (at, ControlPacket::read(bytes)) {
                    let records = self.edge.records.clone();
                    let (_, bfd) = &mut self.edge.bfd[at];
                    let record = &records[usize::from(bfd.config().id.0)];
                    bfd.handle_packet(Nanos(self.now), &packet, record);
                    self.follow_bfd(at);
                }
            }
            Verdict::Transmit(_) => self.send_bfd(Side::Edge, place, bytes.to_vec()),
            Verdict::Bfd(_) | Verdict::FromKernel(_) | Verdict::Drop(_) => {}
        }
    }

    pub(super) fn bfd_to_peer(&mut self, place: usize, payload: &[u8]) {
        let Some(bfd) = &mut self.peers[place].bfd else { return };
        if let Ok(packet) = ControlPacket::read(payload) {
            bfd.handle_packet(Nanos(self.now), &packet);
            self.follow_peers_bfd(place);
        }
    }

    // BGP over TCP.

    /// Has a session do something, and does what it wants done.
    pub(super) fn with(&mut self, side: Side, place: usize, act: impl FnOnce(&mut Session, Moment)) {
        let now = moment(self.now);
        if side == Side::Peer && !self.peers[place].runs {
            return;
        }
        match side {
            Side::Edge => {
                if let Some(session) = &mut self.edge.sessions[place] {
                    act(session, now);
                }
            }
            Side::Peer => act(&mut self.peers[place].session, now),
        }
        self.drain(side, place);
    }

    /// Does what a session wants done.
    pub(super) fn drain(&mut self, side: Side, place: usize) {
        loop {
            let action = match side {
                Side::Edge => self.edge.sessions[place].as_mut().and_then(Session::poll_action),
                Side::Peer => self.peers[place].session.poll_action(),
            };
            match action {
                None => return,
                Some(Action::Connect(id)) => {
                    self.next_connection += 1;
                    let conn = self.next_connection;
                    self.connections.insert(conn, Connection::new(place, side, id));
                    self.after(0, Event::Syn { conn, attempt: 0 });
                }
                Some(Action::Send(id, bytes)) => self.send(side, place, id, bytes),
                Some(Action::Close(id)) => self.close(side, place, id),
                Some(Action::Tell(event)) => match side {
                    Side::Edge => self.told(place, event),
                    Side::Peer => self.peer_told(place, event),
                },
                Some(Action::Note(fault)) => {
                    self.violate("well-formed", format!("{}: {fault:?}", PLACES[place].interface));
                }
            }
        }
    }

    /// A neighbour's session says something.
    pub(super) fn peer_told(&mut self, place: usize, event: PeerEvent) {
        if let PeerEvent::Update { update, .. } = &event {
            self.judge_heard(place, update);
        }
        let now = self.now;
        for update in self.peers[place].handle_event(event, now) {
            self.say(place, &update);
        }
    }

    /// A neighbour announces or withdraws something, if its session is there.
    pub(super) fn say(&mut self, place: usize, update: &Update) {
        let Some(session) = self.peers[place].established else { return };
        // What is announced here fits into a message.
        self.with(Side::Peer, place, |machine, now| drop(machine.send(now, session, update)));
    }

    pub(super) fn find(&self, place: usize, side: Side, id: ConnId) -> Option<u32> {
        self.connections.iter().find(|(_, it)| it.is(place, side, id)).map(|(conn, _)| *conn)
    }

    pub(super) fn send(&mut self, side: Side, place: usize, id: ConnId, bytes: Vec<u8>) {
        if side == Side::Edge && bytes.get(18) == Some(&2) {
            self.edge.updates += 1;
        }
        let Some(conn) = self.find(place, side, id) else { return };
        self.put(conn, side, Segment::Bytes(bytes));
    }

    pub(super) fn put(&mut self, conn: u32, side: Side, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let end = connection.end(side);
        end.unsent.push_back(segment);
        if !end.is_sending {
            // What is said in one moment leaves together.
            end.is_sending = true;
            self.after(0, Event::Resend { conn, side });
        }
    }

    pub(super) fn send_waiting(&mut self, conn: u32, side: Side) {
        let Some(place) = self.connections.get(&conn).map(|it| it.place) else { return };
        let (wire, is_on) = (self.peers[place].wire, self.peers[place].is_on);
        let is_lost = !is_on || !wire.carries(side) || self.is_lost(wire.loss);
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let end = connection.end(side);
        if is_lost {
            let wait = end.wait();
            return self.after(wait, Event::Resend { conn, side });
        }
        end.is_sending = false;
        end.failures = 0;
        let segments = std::mem::take(&mut end.unsent).into();
        self.after(wire.delay, Event::Deliver { conn, to: side.other(), segments });
    }

    pub(super) fn deliver(&mut self, conn: u32, to: Side, segments: Vec<Segment>) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let place = connection.place;
        if to == Side::Peer && !self.peers[place].is_on {
            return;
        }
        let end = connection.end(to);
        let Some(id) = end.id.filter(|_| !end.is_gone) else {
            let is_said = end.unsent.iter().any(|it| *it != Segment::Rst);
            if segments.iter().any(|it| matches!(it, Segment::Bytes(_))) && !is_said {
                self.put(conn, to, Segment::Rst);
            }
            return self.sweep(conn);
        };
        let (mut bytes, mut end_of_it) = (Vec::new(), None);
        for segment in segments {
            match segment {
                Segment::Bytes(more) => bytes.extend(more),
                Segment::Fin => end_of_it = Some("closed by the peer"),
                Segment::Rst => end_of_it = Some("reset by the peer"),
            }
        }
        if !bytes.is_empty() {
            self.with(to, place, |session, now| session.handle_bytes(now, id, &bytes));
        }
        let Some(why) = end_of_it else { return self.sweep(conn) };
        if let Some(end) = self.connections.get_mut(&conn).map(|it| it.end(to)).filter(|it| it.id == Some(id))
        {
            end.is_gone = true;
            end.id = None;
            end.unsent.clear();
            self.with(to, place, |session, now| session.handle_lost(now, id, Loss::Failed(why.to_owned())));
        }
        self.sweep(conn);
    }

    pub(super) fn sweep(&mut self, conn: u32) {
        if self.connections.get(&conn).is_some_and(Connection::is_over) {
            self.connections.remove(&conn);
        }
    }

    pub(super) fn close(&mut self, side: Side, place: usize, id: ConnId) {
        let Some(conn) = self.find(place, side, id) else { return };
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let other = connection.end(side.other());
        if other.id.is_none() && !other.is_gone {
            self.connections.remove(&conn);
            return;
        }
        let is_heard = !other.is_gone;
        let end = connection.end(side);
        (end.id, end.is_gone) = (None, true);
        if is_heard {
            self.put(conn, side, Segment::Fin);
        }
        self.sweep(conn);
    }

    /// A process ends with all its connections; what its system still says of them is that they are no more.
    pub(super) fn kill(&mut self, side: Side, place: usize) {
        let its = self
            .connections
            .iter()
            .filter(|(_, it)| it.place == place && it.ends[side as usize].id.is_some());
        for conn in its.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            let end = connection.end(side);
            (end.id, end.is_gone) = (None, true);
            end.unsent.clear();
            if connection.end(side.other()).id.is_none() {
                self.connections.remove(&conn);
            } else if side == Side::Edge || self.peers[place].is_on {
                self.put(conn, side, Segment::Rst);
            }
        }
    }

    pub(super) fn call(&mut self, conn: u32, attempt: u32) {
        let Some((place, caller)) = self.connections.get(&conn).map(|it| (it.place, it.caller)) else {
            return;
        };
        let neighbour = &self.peers[place];
        let (wire, is_reachable, is_resolved) =
            (neighbour.wire, neighbour.is_reachable(), neighbour.facts.is_resolved);
        if is_reachable && !self.is_lost(wire.loss) {
            self.after(wire.delay, Event::Arrive { conn });
        } else if attempt >= 6 {
            self.call_failed(conn, Loss::TimedOut);
        } else if attempt >= 2 && caller == Side::Edge && !is_resolved {
            self.call_failed(conn, Loss::Failed("no route to host".to_owned()));
        } else {
            self.after(seconds(1) << attempt, Event::Syn { conn, attempt: attempt + 1 });
        }
    }

    pub(super) fn called(&mut self, conn: u32) {
        let Some((place, caller)) = self.connections.get(&conn).map(|it| (it.place, it.caller)) else {
            return;
        };
        let (now, delay) = (moment(self.now), self.peers[place].wire.delay);
        let callee = caller.other();
        let id = match callee {
            Side::Peer if !self.peers[place].is_on => {
                return self.after(seconds(1), Event::Syn { conn, attempt: 1 });
            }
            Side::Peer => self.peers[place].runs.then(|| self.peers[place].session.handle_accepted(now)),
            Side::Edge => self.edge.sessions[place].as_mut().map(|session| session.handle_accepted(now)),
        };
        let Some(id) = id else { return self.after(delay, Event::Refused { conn }) };
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.end(callee).id = Some(id);
        }
        self.after(delay, Event::Opened { conn });
        self.drain(callee, place);
    }

    pub(super) fn opened(&mut self, conn: u32) {
        let Some((place, caller)) = self.connections.get(&conn).map(|it| (it.place, it.caller)) else {
            return;
        };
        let id = self.connections.get_mut(&conn).and_then(|it| it.end(caller).id);
        if let Some(id) = id {
            self.with(caller, place, |session, now| session.handle_connected(now, id));
        }
    }

    pub(super) fn call_failed(&mut self, conn: u32, loss: Loss) {
        let Some(mut connection) = self.connections.remove(&conn) else { return };
        let (place, caller) = (connection.place, connection.caller);
        if let Some(id) = connection.end(caller).id {
            self.with(caller, place, |session, now| session.handle_lost(now, id, loss));
        }
    }

    pub(super) fn is_lost(&mut self, permille: u32) -> bool {
        permille > 0 && self.rng.u32(..1_000) < permille
    }
}
