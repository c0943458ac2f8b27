//! The clock, and who is told what when. Nothing happens but by an event of the queue or by the deadline of a machine; whichever is first sets the
//! clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;
use erdp::{
    bgp::{Loss, Moment, Session, Update},
    kernel::KernelEvent,
};
use ipnet::IpNet;

use super::{
    FAULTS, ROUNDS, Report, Time, Violation, budgets, duration,
    edge::{self, Edge},
    faults::Step,
    millis, moment,
    neighbour::Neighbour,
    net::{Connection, Segment, Side},
    plan::{self, PLACES, Variant},
    planted::Plant,
    seconds,
};

/// Events that are remembered for whoever reads of a violation.
const REMEMBERED: usize = 80;
/// The core's clock ticks as often as the daemon's.
const TICK: Time = millis(100);
/// After so much of a round everything is mended.
const MENDED: Time = seconds(30);
/// After so much more neighbours have found each other again, but for those that wait long.
const FOUND_AGAIN: Time = seconds(15);
/// From then on the oracle looks at one tick of so many.
const CALM_TICKS: u32 = 10;
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
    pub(super) tickets: u64,
    pub(super) next_connection: u32,
    pub(super) round: u32,
    round_began: Time,
    ticks: u32,
    pub(super) steps: u32,
    pub(super) is_over: bool,
    /// Who is taken out of use by an operator, and from when on.
    pub(super) disabled: BTreeMap<usize, Time>,
    /// Since when the edge's process is dead or has not taken over, and what each neighbour led to then.
    pub(super) frozen: Option<(Time, Vec<BTreeSet<IpNet>>)>,
    /// When the edge's process has begun.
    pub(super) begun_at: Time,
    /// Who is in a drill.
    pub(super) drilled: BTreeSet<usize>,
    /// Whether the operator watches it.
    pub(super) is_watched: bool,
    /// The customer's router has been above its limit in this round.
    pub(super) was_over: bool,
    pub(super) looks: u32,
    /// What the core had wanted done, and had sent, when it became calm.
    pub(super) calm: Option<(u64, u64)>,
    pub(super) events: VecDeque<(Time, String)>,
    pub(super) violation: Option<Box<Violation>>,
    pub(super) report: Report,
    pub(super) repeats: BTreeMap<usize, (Time, u64, Update)>,
    pub(super) sent: u64,
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
            round_began: BEGIN,
            ticks: 0,
            steps: 0,
            is_over: false,
            disabled: BTreeMap::new(),
            frozen: None,
            begun_at: BEGIN,
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

    pub(super) fn begin(&mut self) {
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
    pub(super) fn begin_edge(&mut self) {
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
        for neighbour in &mut self.peers {
            neighbour.forget_who_notices(self.now);
        }
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
        self.begun_at = self.now;
        self.begin_edge();
        self.turn();
        for place in 0..PLACES.len() {
            self.note_path(place);
        }
    }

    /// One event, or what is due of the machines.
    pub(super) fn step(&mut self) {
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

    pub(super) fn deadline(&self) -> Time {
        let time = |at: Moment| u64::try_from(at.0.as_nanos()).unwrap_or(Time::MAX);
        let ours = self.edge.sessions.iter().flatten().filter_map(Session::poll_deadline).map(time);
        let bfd = self.edge.bfd.iter().filter_map(|(_, it)| it.poll_deadline()).map(|at| at.0);
        let peers = self.peers.iter().filter(|peer| peer.runs);
        let theirs = peers.filter_map(|peer| peer.session.poll_deadline()).map(time);
        let their_bfd =
            self.peers.iter().filter_map(|peer| peer.bfd.as_ref()?.poll_deadline()).map(|at| at.0);
        ours.chain(bfd).chain(theirs).chain(their_bfd).min().unwrap_or(Time::MAX)
    }

    pub(super) fn run_timers(&mut self) {
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

    pub(super) fn handle(&mut self, event: Event) {
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

    pub(super) fn tick(&mut self) {
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
        // After everything has been mended and found again, little happens: a look now and then is enough.
        self.ticks += 1;
        if self.now < self.round_began + MENDED + FOUND_AGAIN || self.ticks.is_multiple_of(CALM_TICKS) {
            self.look();
        }
    }

    /// The oracle has been satisfied with this round: the next one.
    pub(super) fn whole(&mut self) {
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
        self.round_began = self.now;
        self.after(MENDED, Event::Mend);
        self.after(MENDED + budgets::WHOLE, Event::Calm);
        self.after(MENDED + budgets::WHOLE + budgets::QUIET, Event::Whole);
    }

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
