//! One BFD session as a pure machine (RFC 5880 section 6.8): packets, time and randomness come in as arguments, packets and changes of
//! state come out of `poll_*`.
//!
//! ```text
//!                    +--+
//!                    |  | UP, ADMIN DOWN, TIMER
//!                    |  V
//!            DOWN  +------+  INIT
//!     +------------|      |------------+
//!     |            | DOWN |            |
//!     |  +-------->|      |<--------+  |
//!     |  |         +------+         |  |
//!     |  |                          |  |
//!     |  |               ADMIN DOWN,|  |
//!     |  |ADMIN DOWN,          DOWN,|  |
//!     |  |TIMER                TIMER|  |
//!     V  |                          |  V
//!   +------+                      +------+
//!   | INIT |--------------------->|  UP  |
//!   +------+       INIT, UP       +------+
//! ```
//!
//! Where this goes beyond the RFC's text, or chooses among what it allows:
//! - Our transmit interval is never shorter than the peer's ([`Session::follow_pace`]): while the controller is absent the packet path
//!   answers the peer's packets one by one, and the peer must not expect more of them than it sends.
//! - Demand mode is not asked for. A peer that asks for it is obeyed as section 6.8.7 orders; what it sends still counts.
//! - A change of our state or of what we advertise is told at once, and the next periodic packet follows an interval later.

use erdp_common::bfd::wire::{ControlPacket, State};
use serde::{Deserialize, Serialize};

/// Nanoseconds of the kernel's monotonic clock, which the packet path reads too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Later by so many microseconds.
    pub fn after_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us.saturating_mul(1_000)))
    }
}

/// Why a session went down last (RFC 5880 section 4.1).
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Diagnostic {
    /// It has not.
    #[default]
    None = 0,
    /// The peer was not heard for the detection time.
    DetectionTimeExpired = 1,
    /// The peer said that its session is down.
    NeighbourSignaledDown = 3,
    /// An operator took it down.
    AdministrativelyDown = 7,
}

/// What the operator has configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// How often we would like to send and can receive, in microseconds.
    pub interval_us: u32,
    /// The peer's detection time is so many intervals.
    pub multiplier: u8,
    /// Our discriminator, not zero, unique in this router.
    pub discriminator: u32,
    /// The packet path answers while the controller is absent: the C bit.
    pub is_independent: bool,
}

/// While a session is not up nobody sends faster than this (section 6.8.3).
pub const SLOW_US: u32 = 1_000_000;

/// A session. It can be written down and taken up again by another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    parameters: Parameters,
    #[serde(with = "state_number")]
    state: State,
    #[serde(with = "state_number")]
    remote_state: State,
    diagnostic: Diagnostic,
    remote_diagnostic: u8,
    remote_discriminator: u32,
    remote_multiplier: u8,
    remote_desired_tx_us: u32,
    remote_required_rx_us: u32,
    remote_demand: bool,
    /// What we advertise.
    desired_tx_us: u32,
    /// What we keep to: a longer interval only after the peer has confirmed it.
    agreed_tx_us: u32,
    poll: Poll,
    heard: Option<Nanos>,
    /// When the next periodic packet is due; `None`: the peer wants none.
    due: Option<Nanos>,
    /// A packet out of turn, to tell of a change.
    is_news: bool,
    answer_poll: bool,
    untold: Option<Change>,
    /// How often it has come up.
    ups: u64,
}

/// A poll sequence (section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Poll {
    None,
    Running,
    /// What is polled for has changed again: once more after this one's end.
    Again,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// From.
    #[serde(with = "state_number")]
    pub from: State,
    /// To.
    #[serde(with = "state_number")]
    pub to: State,
    /// Why it went down.
    pub diagnostic: Diagnostic,
    /// The peer is administratively down: that says nothing about the path (RFC 5882 section 3.2).
    pub by_peers_operator: bool,
}

impl Session {
    /// A new session in state Down; it sends at once.
    pub fn new(parameters: Parameters, now: Nanos) -> Self {
        let slow = parameters.interval_us.max(SLOW_US);
        Self {
            parameters,
            state: State::Down,
            remote_state: State::Down,
            diagnostic: Diagnostic::None,
            remote_diagnostic: 0,
            remote_discriminator: 0,
            remote_multiplier: 0,
            remote_desired_tx_us: 0,
            remote_required_rx_us: 1, // section 6.8.1
            remote_demand: false,
            desired_tx_us: slow,
            agreed_tx_us: slow,
            poll: Poll::None,
            heard: None,
            due: Some(now),
            is_news: false,
            answer_poll: false,
            untold: None,
            ups: 0,
        }
    }

    /// A valid packet of the peer (section 6.8.6, from where it needs the session).
    pub fn handle_packet(&mut self, now: Nanos, packet: &ControlPacket) {
        let for_us = packet.your_discriminator == self.parameters.discriminator;
        if !for_us && packet.your_discriminator != 0 || self.state == State::AdminDown {
            return;
        }
        let asked_for = self.interval_us();
        self.remote_discriminator = packet.my_discriminator;
        self.remote_state = packet.state;
        self.remote_diagnostic = packet.diagnostic;
        self.remote_multiplier = packet.multiplier;
        self.remote_desired_tx_us = packet.desired_min_tx_us;
        self.remote_required_rx_us = packet.required_min_rx_us;
        self.remote_demand = packet.demand;
        self.heard = Some(now);
        if packet.is_final && self.poll != Poll::None {
            self.agreed_tx_us = self.desired_tx_us;
            self.poll = if self.poll == Poll::Again { Poll::Running } else { Poll::None };
        }
        let next = next_state(self.state, packet.state);
        if next != self.state {
            self.enter(next, Diagnostic::NeighbourSignaledDown);
        }
        self.follow_pace();
        self.answer_poll |= packet.poll;
        self.reschedule(now, asked_for);
    }

    /// The packet path has heard the peer in state Up at this time, and may have answered it.
    pub fn handle_heard(&mut self, at: Nanos) {
        if self.state == State::Up && self.heard.is_none_or(|heard| heard < at) {
            self.heard = Some(at);
        }
    }

    /// The time has come that [`Self::poll_deadline`] has named, or another.
    pub fn handle_timeout(&mut self, now: Nanos) {
        if self.detection_deadline().is_some_and(|at| at <= now) {
            self.handle_silence();
        }
    }

    /// The peer has not been heard for the detection time; whoever keeps the time says so.
    pub fn handle_silence(&mut self) {
        self.remote_discriminator = 0; // section 6.8.1
        self.heard = None;
        if matches!(self.state, State::Init | State::Up) {
            self.enter(State::Down, Diagnostic::DetectionTimeExpired);
        }
    }

    /// An operator takes the session down, or gives it free again (section 6.8.16).
    pub fn handle_admin(&mut self, now: Nanos, down: bool) {
        match (self.state, down) {
            (State::AdminDown, false) => {
                self.heard = None;
                self.remote_discriminator = 0;
                self.enter(State::Down, Diagnostic::None);
            }
            (State::Down | State::Init | State::Up, true) => {
                self.enter(State::AdminDown, Diagnostic::AdministrativelyDown);
            }
            (State::AdminDown, true) | (State::Down | State::Init | State::Up, false) => return,
        }
        self.due = Some(now);
    }

    /// A session that another process has brought up, by what it sent last, what the peer has sent since, and when: nothing changes but
    /// that it sends at once. `None`: it was not up, and begins anew.
    pub fn adopt(
        parameters: Parameters,
        ours: &ControlPacket,
        theirs: &ControlPacket,
        heard: Nanos,
        now: Nanos,
    ) -> Option<Self> {
        if ours.state != State::Up || theirs.state != State::Up {
            return None;
        }
        let mut session = Self {
            state: State::Up,
            remote_state: theirs.state,
            remote_diagnostic: theirs.diagnostic,
            remote_discriminator: theirs.my_discriminator,
            remote_multiplier: theirs.multiplier,
            remote_desired_tx_us: theirs.desired_min_tx_us,
            remote_required_rx_us: theirs.required_min_rx_us,
            remote_demand: theirs.demand,
            desired_tx_us: ours.desired_min_tx_us,
            agreed_tx_us: ours.desired_min_tx_us,
            heard: Some(heard),
            ups: 1,
            ..Self::new(parameters, now)
        };
        session.advertise(parameters.interval_us.max(theirs.desired_min_tx_us));
        Some(session)
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_transmit`] has something to do.
    pub fn poll_deadline(&self) -> Option<Nanos> {
        if self.is_news || self.answer_poll {
            return Some(Nanos(0));
        }
        let due = if self.may_send() { self.due } else { None };
        [due, self.detection_deadline()].into_iter().flatten().min()
    }

    /// A packet to be sent now. `random` decides the jitter: any number.
    pub fn poll_transmit(&mut self, now: Nanos, random: u32) -> Option<ControlPacket> {
        if std::mem::take(&mut self.answer_poll) {
            // Section 6.8.7: as soon as practicable, whatever the timers say, and never with P.
            return Some(ControlPacket { is_final: true, poll: false, ..self.packet() });
        }
        let is_due = self.due.is_some_and(|due| due <= now) && self.may_send();
        let is_news = std::mem::take(&mut self.is_news) && self.remote_required_rx_us != 0;
        if !is_due && !is_news {
            return None;
        }
        self.due = Some(now.after_us(u64::from(self.jittered_us(random))));
        Some(self.packet())
    }

    /// What has changed since the last call: the last change if there were several.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.untold.take()
    }

    /// Our state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The peer's, as it says.
    pub fn remote_state(&self) -> State {
        self.remote_state
    }

    /// Why it went down last.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What the operator has configured.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// How often it has come up.
    pub fn ups(&self) -> u64 {
        self.ups
    }

    /// Both ends are up and the peer wants us to be silent: nobody may answer for us either.
    pub fn is_silenced(&self) -> bool {
        self.remote_demand
            && self.state == State::Up
            && self.remote_state == State::Up
            && self.poll == Poll::None
    }

    /// The interval in which we send, before jitter.
    pub fn interval_us(&self) -> u32 {
        self.agreed_tx_us.max(self.remote_required_rx_us)
    }

    /// After so long a silence the peer is dead (section 6.8.4), in microseconds; `None`: it was never heard.
    pub fn detection_us(&self) -> Option<u64> {
        let slower = self.parameters.interval_us.max(self.remote_desired_tx_us);
        self.heard.map(|_| u64::from(self.remote_multiplier) * u64::from(slower))
    }

    /// What we send, without P or F for anybody in particular.
    pub fn packet(&self) -> ControlPacket {
        ControlPacket {
            diagnostic: self.diagnostic as u8,
            state: self.state,
            poll: self.poll != Poll::None,
            is_final: false,
            is_independent: self.parameters.is_independent,
            demand: false,
            multiplier: self.parameters.multiplier,
            my_discriminator: self.parameters.discriminator,
            your_discriminator: self.remote_discriminator,
            desired_min_tx_us: self.desired_tx_us,
            required_min_rx_us: self.parameters.interval_us,
            required_min_echo_rx_us: 0,
        }
    }

    fn detection_deadline(&self) -> Option<Nanos> {
        self.heard?.after_us(self.detection_us()?).into()
    }

    /// Section 6.8.7: a peer that wants no packets gets none, nor does one in demand mode while all is well.
    fn may_send(&self) -> bool {
        self.remote_required_rx_us != 0 && !self.is_silenced()
    }

    fn enter(&mut self, to: State, why: Diagnostic) {
        let from = std::mem::replace(&mut self.state, to);
        self.is_news = true;
        self.poll = Poll::None;
        if to == State::Up {
            self.diagnostic = Diagnostic::None;
            self.ups += 1;
            self.advertise(self.parameters.interval_us);
        } else {
            if to != State::Init {
                self.diagnostic = why;
            }
            self.desired_tx_us = self.parameters.interval_us.max(SLOW_US);
            self.agreed_tx_us = self.desired_tx_us;
        }
        let by_peers_operator = self.remote_state == State::AdminDown && to == State::Down;
        let from = self.untold.map_or(from, |untold| untold.from);
        self.untold = Some(Change { from, to, diagnostic: self.diagnostic, by_peers_operator });
    }

    /// Never faster than the peer, so that its packets are enough to answer for us. A peer that comes up says its own interval in its
    /// first packets of state Up, so two of us do not wait for each other.
    fn follow_pace(&mut self) {
        if self.state == State::Up && self.remote_state == State::Up && self.parameters.is_independent {
            self.advertise(self.parameters.interval_us.max(self.remote_desired_tx_us));
        }
    }

    /// Section 6.8.3: a shorter interval at once, a longer one when the peer has confirmed it; either by a poll sequence.
    fn advertise(&mut self, desired_tx_us: u32) {
        if self.desired_tx_us == desired_tx_us {
            return;
        }
        self.desired_tx_us = desired_tx_us;
        self.agreed_tx_us = self.agreed_tx_us.min(desired_tx_us);
        self.poll = if self.poll == Poll::None { Poll::Running } else { Poll::Again };
        self.is_news = true;
    }

    /// A shorter interval counts from now on, not from the next packet on (section 6.8.7).
    fn reschedule(&mut self, now: Nanos, before_us: u32) {
        let interval = self.interval_us();
        if interval < before_us {
            let soonest = now.after_us(u64::from(interval));
            self.due = self.due.map(|due| due.min(soonest));
        }
    }

    /// Section 6.8.7: 75 to 100 % of the interval, at most 90 % with multiplier 1.
    fn jittered_us(&self, random: u32) -> u32 {
        let most = if self.parameters.multiplier == 1 { 15 } else { 25 };
        let part = u64::from(random) * most / u64::from(u32::MAX);
        let interval = u64::from(self.interval_us());
        (interval * (75 + part) / 100) as u32
    }
}

/// Section 6.8.6, for every pair of our state and the peer's.
fn next_state(ours: State, theirs: State) -> State {
    use State::{AdminDown, Down, Init, Up};
    match (ours, theirs) {
        (AdminDown, AdminDown | Down | Init | Up) => AdminDown,
        (Down, Down) => Init,
        (Down, Init) => Up,
        (Down, AdminDown | Up) => Down,
        (Init, Init | Up) => Up,
        (Init, Down) => Init,
        (Init | Up, AdminDown) => Down,
        (Up, Down) => Down,
        (Up, Init | Up) => Up,
    }
}

/// A state as its number on the wire.
mod state_number {
    use erdp_common::bfd::wire::State;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(state: &State, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*state as u8)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<State, D::Error> {
        u8::deserialize(from).map(State::from_bits)
    }
}

#[cfg(test)]
mod tests;
