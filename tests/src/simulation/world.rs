//! The clock, and who is told what when. Nothing happens but by an event of the queue or by the deadline of a machine; whichever is first sets the
//! clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;
use erdp::{
    bfd::{record, session::Nanos},
    bgp::{Action, ConnId, Loss, Moment, PeerCommand, PeerEvent, PeerId, Session, Update},
    core,
    fib::Wish,
    kernel::{KernelEvent, Link},
};
use erdp_common::{
    bfd::wire::{ControlPacket, State as BfdState},
    pipeline::Verdict,
};
use ipnet::IpNet;

use super::{
    FAULTS, ROUNDS, Report, Time, Violation, budgets, duration,
    edge::{self, Edge},
    faults::Step,
    millis, moment,
    neighbour::Neighbour,
    net::{Connection, Segment, Side},
    plan::{self, PLACES, Variant, ifindex},
    planted::Plant,
    seconds,
};

/// Events that are remembered for whoever reads of a violation.
const REMEMBERED: usize = 80;
/// The core's clock ticks as often as the daemon's.
const TICK: Time = millis(100);
/// The kernel gives a neighbour up that has not answered for so long.
const UNANSWERED: Time = seconds(3);
/// Where a BFD packet's payload begins: Ethernet, IPv4, UDP.
const PAYLOAD_AT: usize = 14 + 20 + 8;
/// Steps of the loop at one moment: more is a machine that is never done.
const STEPS_MAX: u32 = 200_000;
/// When the world begins: no machine may take zero for a time.
const BEGIN: Time = seconds(1_000);

/// What is going to happen.
#[derive(Debug)]
pub enum Event {
    /// A call leaves, for the so-many-th time.
    Syn { conn: u32, attempt: u32 },
    /// It arrives.
    Arrive { conn: u32 },
    /// Its answer arrives.
    Opened { conn: u32 },
    /// The answer is that nobody listens.
    Refused { conn: u32 },
    /// What has not arrived is sent again.
    Resend { conn: u32, side: Side },
    /// Segments arrive.
    Deliver { conn: u32, to: Side, segments: Vec<Segment> },
    /// A BFD packet arrives.
    Bfd { place: usize, to: Side, payload: Vec<u8> },
    /// The edge's kernel says something.
    Kernel(KernelEvent),
    /// The core's clock ticks, and the oracle looks.
    Tick,
    /// Something goes wrong.
    Strike,
    /// A part of what goes wrong, or of its end.
    Step(Step),
    /// Everything is mended.
    Mend,
    /// From now on nothing may happen.
    Calm,
    /// Everything must be whole.
    Whole,
}

/// The world.
pub struct World {
    /// Its time.
    pub now: Time,
    pub(super) seed: u64,
    pub(super) plant: Option<Plant>,
    pub(super) rng: fastrand::Rng,
    pub(super) edge: Edge,
    pub(super) peers: Vec<Neighbour>,
    pub(super) connections: BTreeMap<u32, Connection>,
    pub(super) queue: BTreeMap<(Time, u64), Event>,
    tickets: u64,
    next_connection: u32,
    round: u32,
    steps: u32,
    is_over: bool,
    /// Who is taken out of use by an operator, and from when on.
    pub(super) disabled: BTreeMap<usize, Time>,
    /// Since when the edge's process is dead or has not taken over, and what each neighbour led to then.
    pub(super) frozen: Option<(Time, Vec<BTreeSet<IpNet>>)>,
    /// Who is in a drill.
    pub(super) drilled: BTreeSet<usize>,
    /// Whether the operator watches it.
    pub(super) is_watched: bool,
    /// The customer's router has been above its limit in this round.
    pub(super) was_over: bool,
    pub(super) looks: u32,
    /// What the core had wanted done, and had sent, when it became calm.
    pub(super) calm: Option<(u64, u64)>,
    events: VecDeque<(Time, String)>,
    pub(super) violation: Option<Box<Violation>>,
    pub(super) report: Report,
    repeats: BTreeMap<usize, (Time, u64, Update)>,
    sent: u64,
}

impl World {
    /// As it begins.
    pub fn new(seed: u64, plant: Option<Plant>) -> Result<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let edge = Edge::new(Variant::Base, plant, BEGIN, rng.u64(..), None)?;
        let config = edge::config(Variant::Base, None)?;
        let peers = config.peers();
        let peers = peers
            .iter()
            .enumerate()
            .map(|(at, peer)| Neighbour::new(peer, at, rng.u64(millis(1)..millis(20)), rng.u64(..)))
            .collect();
        Ok(Self {
            now: BEGIN,
            seed,
            plant,
            rng,
            edge,
            peers,
            connections: BTreeMap::new(),
            queue: BTreeMap::new(),
            tickets: 0,
            next_connection: 0,
            round: 0,
            steps: 0,
            is_over: false,
            disabled: BTreeMap::new(),
            frozen: None,
            drilled: BTreeSet::new(),
            is_watched: true,
            was_over: false,
            looks: 0,
            calm: None,
            events: VecDeque::new(),
            violation: None,
            report: Report::default(),
            repeats: BTreeMap::new(),
            sent: 0,
        })
    }

    /// Lives through all rounds.
    pub fn run(mut self) -> Result<Report, Box<Violation>> {
        self.begin();
        while self.violation.is_none() && !self.is_over {
            self.step();
        }
        match self.violation {
            Some(violation) => Err(violation),
            None => Ok(Report { virtual_time: duration(self.now - BEGIN), ..self.report }),
        }
    }

    fn begin(&mut self) {
        for place in 0..PLACES.len() {
            let seed = self.rng.u64(..);
            self.peers[place].power_on(self.now, seed);
            self.note_path(place);
            self.drain(Side::Peer, place);
        }
        self.begin_edge();
        self.note_use();
        self.turn();
        self.after(0, Event::Tick);
        self.after(seconds(45), Event::Calm);
        self.after(seconds(45) + budgets::QUIET, Event::Whole);
    }

    /// What the daemon does when it starts: everything that the kernel knows, then BGP.
    fn begin_edge(&mut self) {
        for place in 0..PLACES.len() {
            let event = KernelEvent::Link(self.link(place));
            self.edge.core.handle_kernel(event, duration(self.now));
            let is_resolved = self.peers[place].facts.is_resolved;
            self.tell_neighbour(place, is_resolved);
        }
        let all = self.edge.core.all_peers();
        self.edge.core.close_gates(&all);
        self.carry_out();
        for place in 0..PLACES.len() {
            self.with(Side::Edge, place, Session::handle_start);
        }
    }

    /// The edge's process dies: its system resets its connections, and the packet path goes on by what it has (design of the restart).
    pub(super) fn edge_dies(&mut self) {
        let leads = (0..PLACES.len()).map(|place| {
            let all = self.peers[place].announced.iter().copied();
            all.filter(|prefix| self.leads(place, *prefix)).collect()
        });
        self.frozen = Some((self.now, leads.collect()));
        for place in 0..PLACES.len() {
            self.kill(Side::Edge, place);
        }
        self.edge.die();
    }

    /// The next process begins, and waits for those whose sessions were up (RFC 4724 section 4.1).
    pub(super) fn edge_returns(&mut self) {
        if !self.edge.is_down {
            return;
        }
        match Edge::new(self.edge.variant, self.plant, self.now, self.rng.u64(..), Some(&self.edge)) {
            Ok(edge) => self.edge = edge,
            Err(error) => return self.violate("begins again", error.to_string()),
        }
        self.begin_edge();
        self.turn();
        for place in 0..PLACES.len() {
            self.note_path(place);
        }
    }

    /// One event, or what is due of the machines.
    fn step(&mut self) {
        let first = self.queue.first_key_value().map_or(Time::MAX, |((at, _), _)| *at);
        let due = self.deadline();
        let next = first.min(due).max(self.now);
        self.steps = if next > self.now { 0 } else { self.steps + 1 };
        if self.steps > STEPS_MAX {
            return self.violate("no end", "a machine is never done with a moment".to_owned());
        }
        self.now = next;
        self.edge.set_clock(self.now);
        if first <= due {
            if let Some((_, event)) = self.queue.pop_first() {
                self.handle(event);
            }
        } else {
            self.run_timers();
        }
        if self.edge.is_told {
            self.turn();
        }
    }

    /// Something happens so long after now.
    pub(super) fn after(&mut self, delay: Time, event: Event) {
        self.tickets += 1;
        self.queue.insert((self.now + delay, self.tickets), event);
    }

    fn deadline(&self) -> Time {
        let time = |at: Moment| u64::try_from(at.0.as_nanos()).unwrap_or(Time::MAX);
        let ours = self.edge.sessions.iter().flatten().filter_map(Session::poll_deadline).map(time);
        let bfd = self.edge.bfd.iter().filter_map(|(_, it)| it.poll_deadline()).map(|at| at.0);
        let peers = self.peers.iter().filter(|peer| peer.runs);
        let theirs = peers.filter_map(|peer| peer.session.poll_deadline()).map(time);
        let their_bfd =
            self.peers.iter().filter_map(|peer| peer.bfd.as_ref()?.poll_deadline()).map(|at| at.0);
        ours.chain(bfd).chain(theirs).chain(their_bfd).min().unwrap_or(Time::MAX)
    }

    fn run_timers(&mut self) {
        let now = moment(self.now);
        let is_due = |session: &Session| session.poll_deadline().is_some_and(|at| at <= now);
        for place in 0..PLACES.len() {
            if self.edge.sessions[place].as_ref().is_some_and(is_due) {
                self.with(Side::Edge, place, Session::handle_timeout);
            }
            if self.peers[place].runs && is_due(&self.peers[place].session) {
                self.with(Side::Peer, place, Session::handle_timeout);
            }
            let their_bfd = self.peers[place].bfd.as_ref().and_then(|bfd| bfd.poll_deadline());
            if their_bfd.is_some_and(|at| at.0 <= self.now) {
                self.run_peers_bfd(place);
            }
        }
        for at in 0..self.edge.bfd.len() {
            if self.edge.bfd[at].1.poll_deadline().is_some_and(|due| due.0 <= self.now) {
                self.run_bfd(at);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Syn { conn, attempt } => self.call(conn, attempt),
            Event::Arrive { conn } => self.called(conn),
            Event::Opened { conn } => self.opened(conn),
            Event::Refused { conn } => self.call_failed(conn, Loss::Failed("connection refused".to_owned())),
            Event::Resend { conn, side } => self.send_waiting(conn, side),
            Event::Deliver { conn, to, segments } => self.deliver(conn, to, segments),
            Event::Bfd { place, to: Side::Edge, payload } => self.bfd_to_edge(place, &payload),
            Event::Bfd { place, to: Side::Peer, payload } => self.bfd_to_peer(place, &payload),
            Event::Kernel(_) if self.edge.is_down => {}
            Event::Kernel(event) => {
                self.log(|| format!("kernel: {event:?}"));
                self.edge.core.handle_kernel(event, duration(self.now));
                self.edge.is_told = true;
            }
            Event::Tick => self.tick(),
            Event::Strike => self.strike(),
            Event::Step(step) => self.carry_out_step(step),
            Event::Mend => self.mend(),
            Event::Calm => self.calm = Some((self.edge.actions, self.edge.updates)),
            Event::Whole => self.whole(),
        }
    }

    fn tick(&mut self) {
        self.after(TICK, Event::Tick);
        for place in 0..PLACES.len() {
            self.ask_neighbour(place);
        }
        if !self.edge.is_down {
            self.edge.core.handle_tick(duration(self.now));
            self.carry_out();
            self.follow_drill();
            self.turn();
        }
        if !self.edge.is_without_its_own() {
            self.frozen = None;
        }
        self.look();
    }

    /// The oracle has been satisfied with this round: the next one.
    fn whole(&mut self) {
        self.judge_whole();
        self.calm = None;
        self.was_over = false;
        self.round += 1;
        if self.round > ROUNDS {
            self.is_over = true;
            return;
        }
        for _ in 0..self.rng.u32(FAULTS) {
            let at = self.rng.u64(millis(500)..seconds(25));
            self.after(at, Event::Strike);
        }
        let mended = seconds(30);
        self.after(mended, Event::Mend);
        self.after(mended + budgets::WHOLE, Event::Calm);
        self.after(mended + budgets::WHOLE + budgets::QUIET, Event::Whole);
    }

    // The core.

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
    fn carry_out(&mut self) {
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

    fn order(&mut self, place: usize, order: PeerCommand) {
        match (self.plant, &order) {
            (Some(Plant::OverflowLost), PeerCommand::Overflow { .. })
            | (Some(Plant::EnableLost), PeerCommand::Enable) => return,
            _ => {}
        }
        // Only routes can fail to be encoded, and none are ordered.
        self.with(Side::Edge, place, |session, now| drop(session.handle_order(now, order)));
    }

    fn send_updates(&mut self) {
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

    fn send_update(&mut self, place: usize, session: u64, update: &Update) {
        let mut error = None;
        self.with(Side::Edge, place, |machine, now| error = machine.send(now, session, update).err());
        if let Some(error) = error {
            self.violate("encoded", format!("an update for {}: {error}", PLACES[place].interface));
        }
    }

    /// What is sent in the place of an update.
    fn planted_updates(&mut self, place: usize, session: u64, mut update: Update) -> Vec<Update> {
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
    fn told(&mut self, place: usize, event: PeerEvent) {
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
    fn ask_neighbour(&mut self, place: usize) {
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
    fn grant(&mut self, wish: Wish) {
        let (Wish::Watch(key) | Wish::Renew(key)) = wish else { return };
        let place = usize::from(key.attachment.number()).wrapping_sub(1);
        if place < PLACES.len() && self.peers[place].is_reachable() && !self.peers[place].facts.is_resolved {
            self.tell_neighbour(place, true);
        }
    }

    // BFD.

    fn run_bfd(&mut self, at: usize) {
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
    fn follow_bfd(&mut self, at: usize) {
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

    fn run_peers_bfd(&mut self, place: usize) {
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
    fn follow_peers_bfd(&mut self, place: usize) {
        let Some(change) = self.peers[place].bfd.as_mut().and_then(|bfd| bfd.poll_change()) else { return };
        self.log(|| format!("{}: BFD: {change:?}", PLACES[place].interface));
        if change.to == BfdState::Up {
            self.with(Side::Peer, place, Session::handle_hurry);
        } else if change.from == BfdState::Up && !change.by_peers_operator {
            self.with(Side::Peer, place, Session::handle_path_down);
        }
    }

    fn send_bfd(&mut self, from: Side, place: usize, payload: Vec<u8>) {
        let neighbour = &self.peers[place];
        let (wire, is_on) = (neighbour.wire, neighbour.is_on);
        if is_on && wire.carries(from) && !self.is_lost(wire.loss) {
            self.after(wire.delay, Event::Bfd { place, to: from.other(), payload });
        }
    }

    /// A BFD packet goes through the packet path, which notes it, and answers it itself where no process does.
    fn bfd_to_edge(&mut self, place: usize, payload: &[u8]) {
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

    fn bfd_to_peer(&mut self, place: usize, payload: &[u8]) {
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
    fn peer_told(&mut self, place: usize, event: PeerEvent) {
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

    fn find(&self, place: usize, side: Side, id: ConnId) -> Option<u32> {
        self.connections.iter().find(|(_, it)| it.is(place, side, id)).map(|(conn, _)| *conn)
    }

    fn send(&mut self, side: Side, place: usize, id: ConnId, bytes: Vec<u8>) {
        if side == Side::Edge && bytes.get(18) == Some(&2) {
            self.edge.updates += 1;
        }
        let Some(conn) = self.find(place, side, id) else { return };
        self.put(conn, side, Segment::Bytes(bytes));
    }

    fn put(&mut self, conn: u32, side: Side, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let end = connection.end(side);
        end.unsent.push_back(segment);
        if !end.is_sending {
            // What is said in one moment leaves together.
            end.is_sending = true;
            self.after(0, Event::Resend { conn, side });
        }
    }

    fn send_waiting(&mut self, conn: u32, side: Side) {
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

    fn deliver(&mut self, conn: u32, to: Side, segments: Vec<Segment>) {
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

    fn sweep(&mut self, conn: u32) {
        if self.connections.get(&conn).is_some_and(Connection::is_over) {
            self.connections.remove(&conn);
        }
    }

    fn close(&mut self, side: Side, place: usize, id: ConnId) {
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

    fn call(&mut self, conn: u32, attempt: u32) {
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

    fn called(&mut self, conn: u32) {
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

    fn opened(&mut self, conn: u32) {
        let Some((place, caller)) = self.connections.get(&conn).map(|it| (it.place, it.caller)) else {
            return;
        };
        let id = self.connections.get_mut(&conn).and_then(|it| it.end(caller).id);
        if let Some(id) = id {
            self.with(caller, place, |session, now| session.handle_connected(now, id));
        }
    }

    fn call_failed(&mut self, conn: u32, loss: Loss) {
        let Some(mut connection) = self.connections.remove(&conn) else { return };
        let (place, caller) = (connection.place, connection.caller);
        if let Some(id) = connection.end(caller).id {
            self.with(caller, place, |session, now| session.handle_lost(now, id, loss));
        }
    }

    fn is_lost(&mut self, permille: u32) -> bool {
        permille > 0 && self.rng.u32(..1_000) < permille
    }

    // What the world knows.

    /// Something of a neighbour's wire or power has changed.
    pub(super) fn note_path(&mut self, place: usize) {
        let detection = self.detection(place);
        self.peers[place].note_path(self.now, detection, self.edge.is_down);
    }

    /// Within which time the edge must notice that a neighbour is not there any more. Without its process the packet path has BFD alone, and what
    /// the process before has forwarded by stays until the next one takes over.
    pub(super) fn detection(&self, place: usize) -> Time {
        let by_itself = self.peers[place].detection(self.edge.bfd_state(place, self.now));
        if self.edge.is_down {
            return self.peers[place].detection_without_process();
        }
        if self.edge.is_without_its_own() {
            by_itself.max(plan::RESTART_DEADLINE + budgets::SETTLE)
        } else {
            by_itself
        }
    }

    /// What operators have ordered has changed.
    pub(super) fn note_use(&mut self) {
        let is_off = self.edge.variant == Variant::TwoDisabled;
        for (place, neighbour) in self.peers.iter_mut().enumerate() {
            let by_circuit = (is_off && PLACES[place].circuit == Some(1)).then_some(self.now);
            let by_drill = self.drilled.contains(&place).then_some(self.now);
            let out = [by_circuit, by_drill, self.disabled.get(&place).copied()].into_iter().flatten().min();
            let facts = &mut neighbour.facts;
            match out {
                Some(from) => {
                    facts.in_use_since = None;
                    facts.out_of_use_since =
                        Some(facts.out_of_use_since.map_or(from, |before| before.min(from)));
                }
                None => {
                    facts.in_use_since.get_or_insert(self.now);
                    facts.out_of_use_since = None;
                }
            }
        }
    }

    /// Remembers an event.
    pub(super) fn log(&mut self, text: impl FnOnce() -> String) {
        if self.events.len() >= REMEMBERED {
            self.events.pop_front();
        }
        self.events.push_back((self.now, text()));
    }

    /// Something must not be. The first one counts.
    pub(super) fn violate(&mut self, rule: &'static str, what: String) {
        if self.violation.is_some() {
            return;
        }
        let since = |at: Time| duration(at - BEGIN).as_secs_f64();
        let events = self.events.iter().map(|(at, text)| format!("{:9.3} {text}", since(*at))).collect();
        let at = duration(self.now - BEGIN);
        self.violation = Some(Box::new(Violation { seed: self.seed, at, rule, what, events }));
    }
}
