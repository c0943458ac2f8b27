//! Target "events": a program of messages, losses, timeouts and orders, lived through by a session and the routing base behind it.
//!
//! A program is a list of steps of three octets, so that every byte string is one. After each step all that the session wants done is
//! looked at: connections that it names are there, it tells of routes only while it is up, only a message that may end a session ends
//! one, the base keeps to the limit of prefixes, and nothing of a peer is left when it has gone for good.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use erdp::bgp::wire::{self, HEADER_BYTES};
use erdp::bgp::{
    Action, Cease, ConnId, Family, Gate, Loss, Moment, PeerConfig, PeerEvent, PeerId, Seconds, Session,
    State, Update,
};
use erdp::config::Config;
use erdp::rib::{Rib, RibConfig};
use fastrand::Rng;

use super::corpus::{Corpus, to_hex};
use super::mutate::mutate;
use super::names::{Duty, duty};

const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "a"
bandwidth = "1G"
primary = { local = "m1" }
secondary = { local = "m2" }
[circuit.private]
ipv4 = "198.18.0.0/29"
[[attachment]]
interface = "ce0"
peerings = ["a/private"]
ipv4 = "198.18.10.1/24"
ipv6 = "fd00::1/64"
peers = [{ address = "198.18.10.2", asn = 65020, families = ["ipv4", "ipv6"], max-prefixes = 50, add-path = true }]
"#;

/// The peer's limit in [`CONFIG`].
const LIMIT: usize = 50;
/// A message of the corpus names at most so many beyond it: the limit is looked at after each message.
const ONE_MESSAGE: usize = 4_096;
/// Octets of a step.
const STEP: usize = 3;

/// A session, its base and what is known of them from outside.
struct Life {
    config: PeerConfig,
    session: Session,
    rib: Rib,
    now: Moment,
    alive: BTreeSet<u32>,
    dialling: Option<ConnId>,
    current: Option<ConnId>,
    is_up: bool,
    is_stopped: bool,
    closed: [bool; 2],
    rest: Vec<u8>,
    visited: BTreeSet<String>,
}

impl Life {
    fn new() -> Result<Self> {
        let (config, _) = Config::parse(CONFIG, Path::new("hostile.toml"))?;
        let peer = config.peers().pop().context("the configuration has a peer")?;
        let mut session = Session::new(peer.session.clone(), 1);
        session.handle_start(Moment::default());
        let mut life = Self {
            config: peer.session,
            session,
            rib: Rib::new(RibConfig::new(&config)),
            now: Moment::default(),
            alive: BTreeSet::new(),
            dialling: None,
            current: None,
            is_up: false,
            is_stopped: false,
            closed: [false; 2],
            rest: Vec::new(),
            visited: BTreeSet::new(),
        };
        life.act()?;
        Ok(life)
    }

    fn peer(&self) -> PeerId {
        self.config.id
    }

    fn step(&mut self, [kind, a, b]: [u8; STEP], messages: &[Vec<u8>]) -> Result<()> {
        let message = |at: u8| messages[usize::from(at) % messages.len()].clone();
        let bytes = match kind % 16 {
            0..=2 => Some(message(a)),
            3..=5 => {
                let mut rng = Rng::with_seed(u64::from(b));
                Some(mutate(&mut rng, &message(a), &message(b)))
            }
            6 => {
                let mut whole = message(a);
                self.rest = whole.split_off(usize::from(b) % (whole.len() + 1));
                Some(whole)
            }
            7 => Some(std::mem::take(&mut self.rest)),
            _ => None,
        };
        match bytes {
            Some(bytes) => self.hear(&bytes)?,
            None => self.happen(kind % 16, a, b),
        }
        self.act()?;
        self.judge()
    }

    /// Only a message that may end a session ends one.
    fn hear(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(conn) = self.current else { return Ok(()) };
        let is_alone = self.session.hand_over(self.now).is_some_and(|state| state.inbox.is_empty());
        let context = self.session.facts().map(wire::Context::of).unwrap_or_default();
        self.session.handle_bytes(self.now, conn, bytes);
        let is_whole = wire::message_length(bytes).is_ok_and(|length| length == Some(bytes.len()));
        let is_update = bytes.get(HEADER_BYTES - 1) == Some(&2);
        if is_alone && is_whole && is_update && self.session.state() != State::Established {
            ensure!(duty(bytes, &context) == Duty::MayReset, "ended by {}", to_hex(bytes));
        }
        Ok(())
    }

    fn happen(&mut self, kind: u8, a: u8, b: u8) {
        let now = self.now;
        match kind {
            8 => {
                self.now = now + Duration::from_millis(u64::from(a) * u64::from(b) * 4);
                if self.session.poll_deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.session.handle_timeout(self.now);
                }
                self.rib.tick(self.now);
            }
            9 => {
                if let Some(conn) = self.dialling.take() {
                    self.current = Some(conn);
                    self.session.handle_connected(now, conn);
                }
            }
            10 => {
                let conn = self.session.handle_accepted(now);
                self.alive.insert(conn.0);
                self.current = Some(conn);
            }
            11 => {
                if let Some(conn) = self.current.take() {
                    self.alive.remove(&conn.0);
                    let loss =
                        if a.is_multiple_of(2) { Loss::TimedOut } else { Loss::Failed("reset".to_owned()) };
                    self.session.handle_lost(now, conn, loss);
                }
            }
            12 => match a % 8 {
                0 => self.session.handle_reset(now, "hostile"),
                1 => self.session.handle_path_down(now),
                2 => self.session.handle_hurry(now),
                3 => self.session.handle_deaf(now),
                gate => self.pass_gate(usize::from(gate % 2), gate < 6),
            },
            13 => match self.current {
                Some(conn) if a.is_multiple_of(2) => self.session.handle_write_blocked(now, conn),
                Some(conn) => self.session.handle_write_progress(conn),
                None => {}
            },
            14 if a.is_multiple_of(8) => {
                self.session.handle_stop(now, Cease::AdministrativeShutdown, "");
                self.is_stopped = true;
            }
            14 => {
                self.session.handle_start(now);
                self.is_stopped &=
                    self.session.state() == State::Idle && self.session.poll_deadline().is_none();
            }
            _ => self.session.request_refresh(if b.is_multiple_of(2) {
                Family::Ipv4Unicast
            } else {
                Family::Ipv6Unicast
            }),
        }
    }

    /// A gate that is not the operator's closes or opens.
    fn pass_gate(&mut self, at: usize, closes: bool) {
        let gate = [Gate::Bfd, Gate::Carrier][at];
        self.closed[at] = closes;
        if closes {
            self.session.handle_close(self.now, gate, "");
        } else {
            self.session.handle_open(self.now, gate);
        }
        // The last one to open begins what was stopped, too.
        self.is_stopped &= self.closed != [false; 2] || closes;
    }

    /// Does what the session wants done.
    fn act(&mut self) -> Result<()> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect(conn) => {
                    ensure!(self.alive.insert(conn.0), "{conn:?} is there already");
                    self.dialling = Some(conn);
                }
                Action::Send(conn, message) => {
                    ensure!(self.alive.contains(&conn.0), "a message for {conn:?}, which is gone");
                    let length = wire::message_length(&message).map_err(anyhow::Error::new)?;
                    ensure!(length == Some(message.len()), "not a message: {}", to_hex(&message));
                }
                Action::Close(conn) => {
                    // Also of one that is lost already.
                    self.alive.remove(&conn.0);
                    self.dialling = self.dialling.filter(|it| *it != conn);
                    self.current = self.current.filter(|it| *it != conn);
                }
                Action::Tell(event) => self.told(event)?,
                Action::Note(_) => {}
            }
        }
        Ok(())
    }

    fn told(&mut self, event: PeerEvent) -> Result<()> {
        let peer = self.peer();
        match event {
            PeerEvent::Established { facts, .. } => {
                ensure!(!std::mem::replace(&mut self.is_up, true), "up twice");
                self.rib.peer_up(peer, &facts);
            }
            PeerEvent::Update { update, .. } => {
                ensure!(self.is_up, "routes of a session that is down");
                self.rib.update(peer, update);
                for overflow in self.rib.take_overflows() {
                    self.session.handle_overflow(self.now, overflow.excess, overflow.wait);
                }
            }
            PeerEvent::Refresh { family, .. } => {
                ensure!(self.is_up, "a request of a session that is down");
                self.rib.refresh(peer, family);
            }
            PeerEvent::Down { kept, .. } => {
                self.is_up = false;
                match kept {
                    Some(kept) => self.rib.peer_lost(peer, &kept),
                    None => self.rib.peer_down(peer),
                }
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<()> {
        let state = self.session.state();
        ensure!(self.is_up == (state == State::Established), "{state}, and told otherwise");
        let is_held_back = self.is_stopped || self.closed != [false; 2];
        ensure!(is_held_back || self.session.poll_deadline().is_some(), "{state} for ever");
        let counts = self.rib.peer_counts(self.peer());
        ensure!(counts.received <= 2 * LIMIT + ONE_MESSAGE, "{} routes", counts.received);
        ensure!(self.is_up || counts.received == counts.stale, "{counts:?} of a peer that is down");
        self.rib.take_fib_changes();
        let updates: Vec<Update> = self.rib.take_outgoing(self.peer());
        if let (true, Some(session)) = (self.is_up, self.session.facts().map(|facts| facts.session)) {
            for update in &updates {
                self.session.send(self.now, session, update).map_err(anyhow::Error::new)?;
            }
        }
        let routes = counts.received.min(2);
        self.visited.insert(format!(
            "{state}{routes}{}",
            self.session.last_error().map(super::corpus::kind_of).unwrap_or_default()
        ));
        self.act()
    }

    /// It goes for good, and nothing of it is left.
    fn end(mut self) -> Result<String> {
        self.session.handle_stop(self.now, Cease::PeerDeconfigured, "");
        self.act()?;
        self.rib.peer_down(self.peer());
        self.rib.take_fib_changes();
        let counts = self.rib.peer_counts(self.peer());
        ensure!(self.rib.counts().iter().all(|(_, count)| *count == 0), "routes without a peer");
        ensure!(
            (counts.received, counts.stale, counts.draining, counts.refused) == (0, 0, 0, 0),
            "{counts:?}"
        );
        Ok(self.visited.into_iter().collect::<Vec<_>>().join("|"))
    }
}

/// Lives through a program; which states it has been in.
pub fn check(program: &[u8], messages: &[Vec<u8>]) -> Result<String> {
    let mut life = Life::new()?;
    for step in program.chunks_exact(STEP) {
        let step = <[u8; STEP]>::try_from(step)?;
        life.step(step, messages).with_context(|| format!("step {step:?}"))?;
    }
    life.end()
}

/// Checks the corpus, and then so many mutations of it.
pub fn run(seed: u64, programs: usize) -> Result<Corpus> {
    let messages = Corpus::load("messages")?.inputs;
    let mut corpus = Corpus::load("events")?;
    let mut rng = Rng::with_seed(seed);
    let judge = |input: &[u8]| {
        check(input, &messages).map_err(|error| error.context(format!("program {}", to_hex(input))))
    };
    for input in corpus.inputs.clone() {
        corpus.note(&input, judge(&input)?);
    }
    for _ in 0..programs {
        let [one, other] = [(); 2].map(|()| rng.usize(..corpus.inputs.len()));
        let program = vary(&mut rng, &corpus.inputs[one], &corpus.inputs[other]);
        corpus.note(&program, judge(&program)?);
    }
    Ok(corpus)
}

/// Another program of one: steps changed, added, taken out, or the end of another one.
fn vary(rng: &mut Rng, program: &[u8], donor: &[u8]) -> Vec<u8> {
    const MOST_STEPS: usize = 60;
    let mut steps: Vec<[u8; STEP]> = program.as_chunks().0.to_vec();
    for _ in 0..rng.u8(1..6) {
        let at = rng.usize(..=steps.len());
        match rng.u8(..6) {
            0 if at < steps.len() => drop(steps.remove(at)),
            1 if at < steps.len() => steps[at][rng.usize(..STEP)] = rng.u8(..),
            2 => {
                let tail = donor.as_chunks::<STEP>().0;
                steps.truncate(at);
                steps.extend_from_slice(&tail[rng.usize(..=tail.len())..]);
            }
            _ => steps.insert(at, [rng.u8(..), rng.u8(..), rng.u8(..)]),
        }
    }
    steps.truncate(MOST_STEPS);
    steps.concat()
}

/// How long a message that is never finished may keep a session waiting, and what it holds meanwhile, in octets.
pub fn unfinished(length: u16) -> Result<usize> {
    let mut life = Life::new()?;
    let messages = Corpus::load("messages")?.inputs;
    // Dial, the peer's OPEN (the third seed), its KEEPALIVE (the first).
    for step in [[9, 0, 0], [0, 2, 0], [0, 0, 0]] {
        life.step(step, &messages)?;
    }
    ensure!(life.is_up, "the seeds make no session: {:?}", life.session.last_error());
    let conn = life.current.context("a connection")?;
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&length.to_be_bytes());
    message.push(2);
    message.resize(usize::from(length) - 1, 0);
    for piece in message.chunks(7) {
        life.session.handle_bytes(life.now, conn, piece);
    }
    let state = life.session.hand_over(life.now).context("established")?;
    life.now = life.now + Seconds(u16::MAX).duration();
    life.session.handle_timeout(life.now);
    ensure!(life.session.state() != State::Established, "silence ends it");
    Ok(state.inbox.len())
}
