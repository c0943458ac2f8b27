//! The pure session with one peer: everything RFC 4271 asks of it, without a clock, a socket or a task.
//!
//! `handle_*` take what happened and when; [`Session::poll_action`] and [`Session::poll_deadline`] give what is to be done and when to
//! call [`Session::handle_timeout`]. `machine` is the state machine of one connection, `open` the negotiation, `time` timers and waits, `hand_over` how an
//! established one goes on in another process.
//!
//! A peer may connect while we connect to it: then there are two machines, the *main* one and its *rival*, until one reaches
//! Established or the collision is resolved (RFC 4271 section 6.8, RFC 6286 section 2.3: the connection made by the side with the higher
//! identifier stays). A rival whose main fails takes its place. When a session is tried at all, and what becomes of a peer that calls
//! while it is not, is in `gates`; what becomes of one that calls while its session is Established, in `second_call`; what the controller
//! may order, in `orders`; what is counted, in `counters`.

mod counters;
mod gates;
mod hand_over;
mod machine;
mod open;
mod orders;
mod second_call;
mod time;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::wire::{self, DecodedUpdate, EncodeError, Message, Reaction, Refresh, WireError};
use super::{
    Cease, DownReason, Excess, Family, FaultKind, FaultyUpdate, Kept, Notification, PeerConfig, PeerEvent,
    Seconds, SessionFacts, Update,
};
use gates::Gates;
use machine::{Effect, Env, Event, Machine};
use open::{Agreed, Refusal};
use time::{Backoff, Overflows, Timer};

pub use counters::{Counters, Notified};
pub use gates::Gate;
pub use hand_over::SessionState;
pub use time::Moment;

/// The states of RFC 4271 section 8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    /// Down: stopped, or waiting after a fault.
    Idle,
    /// Our TCP connect is under way.
    Connect,
    /// Waiting for the peer to connect, or for our next attempt.
    Active,
    /// TCP is up, our OPEN is sent.
    OpenSent,
    /// The peer's OPEN was accepted.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The type of an UPDATE.
const UPDATE: u8 = 2;

/// Names one TCP connection of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub u32);

/// How a connection, or the attempt at one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The system gave up waiting for an answer.
    TimedOut,
    /// Anything else, in words, with the remedy where there is one.
    Failed(String),
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a TCP connect; answer with `handle_connected` or `handle_lost`.
    Connect(ConnId),
    /// Write a message.
    Send(ConnId, Vec<u8>),
    /// Close after what was sent before; also ends an attempt. Nothing more about it needs to be told.
    Close(ConnId),
    /// Tell the controller.
    Tell(PeerEvent),
    /// An UPDATE had faults: show them.
    Note(FaultyUpdate),
}

/// The session with one peer.
#[derive(Debug)]
pub struct Session {
    config: PeerConfig,
    main: Machine,
    rival: Option<Machine>,
    /// The peer's call that waits for our answer; only in Idle and Established.
    held: Option<Machine>,
    /// When a second call last had us look whether the connection of the session is still known to the peer.
    probed: Option<Moment>,
    gates: Gates,
    backoff: Backoff,
    overflow: Overflows,
    ids: u32,
    actions: VecDeque<Action>,
    counters: Counters,
    since: Moment,
    last_error: Option<(String, Moment)>,
    notified: Notified,
}

impl Session {
    /// A session that waits for [`Session::handle_start`]; `seed` is what jitter is made of.
    pub fn new(config: PeerConfig, seed: u64) -> Self {
        Self {
            config,
            main: Machine::new(),
            rival: None,
            held: None,
            probed: None,
            gates: Gates::default(),
            backoff: Backoff::new(seed),
            overflow: Overflows::default(),
            ids: 0,
            actions: VecDeque::new(),
            counters: Counters::default(),
            since: Moment::default(),
            last_error: None,
            notified: Notified::default(),
        }
    }

    /// End with this Cease and stay down.
    pub fn handle_stop(&mut self, now: Moment, cease: Cease, text: &str) {
        self.turn_away();
        self.end(Event::Stop(Notification::cease(cease, text)), now);
    }

    /// End with Cease/4 and come back.
    pub fn handle_reset(&mut self, now: Moment, text: &str) {
        let notification = Notification::cease(Cease::AdministrativeReset, text);
        self.step(Which::Main, Event::Reset(notification), now);
    }

    /// The peer sent more than it may: Cease/1, and back after `wait`, twice that the next time, until it has kept to the limit for a
    /// while (requirement D2).
    pub fn handle_overflow(&mut self, now: Moment, excess: Excess, wait: Seconds) {
        let notification = Notification::maximum_prefixes(excess);
        let wait = self.overflow.next(now, wait.duration());
        self.turn_away();
        self.step(Which::Main, Event::Overflow(notification, wait), now);
    }

    /// The process before us ended while the peer was away for too many prefixes: it stays away for the rest of its wait, and the next one
    /// follows from how often it has happened (requirement D2). A session that goes on was not away.
    pub fn handle_away(&mut self, now: Moment, left: Duration, count: u32) {
        self.overflow.resume(now + left, count);
        if self.main.state == State::Established || left.is_zero() {
            return;
        }
        self.turn_away();
        self.end(Event::Stop(Notification::cease(Cease::ConnectionRejected, "")), now);
        self.handle_start(now);
    }

    /// How often the peer was sent away for too many prefixes, and until when; `None`: never.
    pub fn away(&self) -> Option<(u32, Moment)> {
        self.overflow.away()
    }

    /// BFD says that the way to the peer is dead: end with Cease/10 (RFC 9384) and come back.
    pub fn handle_path_down(&mut self, now: Moment) {
        let notification = Notification::cease(Cease::BfdDown, "");
        self.step(Which::Main, Event::Reset(notification), now);
    }

    /// The way to the peer is said to be open again: any wait ends now, but that of a peer with too many prefixes (requirement D2). A
    /// connect that is under way is made anew: its first packet has been lost, and the next might be seconds away.
    pub fn handle_hurry(&mut self, now: Moment) {
        self.backoff.forget();
        if self.overflow.until(now).is_none() {
            self.with(Which::Main, now, Machine::hurry);
        }
    }

    /// The connection asked for by [`Action::Connect`] is up.
    pub fn handle_connected(&mut self, now: Moment, conn: ConnId) {
        match self.which(conn) {
            Some(which) => self.step(which, Event::Connected, now),
            None => self.actions.push_back(Action::Close(conn)),
        }
    }

    /// The peer connected; the answer names the connection. It may be closed at once, by an action.
    pub fn handle_accepted(&mut self, now: Moment) -> ConnId {
        self.ids = self.ids.wrapping_add(1);
        let conn = ConnId(self.ids);
        match (self.main.state, &self.rival) {
            (State::Active, None) => {
                let retry = self.main.timers.at(Timer::ConnectRetry);
                self.main = Machine::accepted(conn);
                self.step(Which::Main, Event::Connected, now);
                self.call_no_later_than(retry);
            }
            (State::Connect | State::OpenSent | State::OpenConfirm, None) => {
                self.rival = Some(Machine::accepted(conn));
                self.step(Which::Rival, Event::Connected, now);
            }
            (State::Established, _) => self.called_in_established(conn, now),
            // Who waits in silence makes room for who has called last: a connection that nobody speaks on must keep nobody out.
            (_, Some(rival)) if rival.is_silent_call() => {
                self.step(Which::Rival, Event::CollisionLost, now);
                self.rival = Some(Machine::accepted(conn));
                self.step(Which::Rival, Event::Connected, now);
            }
            (_, Some(_)) => self.refuse(conn, Cease::CollisionResolution),
            (State::Idle, None) => self.called_in_idle(conn, now),
        }
        conn
    }

    /// A connection, or the attempt at one, ended.
    pub fn handle_lost(&mut self, now: Moment, conn: ConnId, loss: Loss) {
        match self.which(conn) {
            Some(which) => self.step(which, Event::Lost(loss), now),
            None => drop(self.held.take_if(|held| held.conn == Some(conn))),
        }
    }

    /// Bytes came in, cut anywhere.
    pub fn handle_bytes(&mut self, now: Moment, conn: ConnId, bytes: &[u8]) {
        if self.keep_held(conn, bytes) {
            return self.judge_held(now);
        }
        let Some(machine) = self.which(conn).and_then(|which| self.machine(which)) else { return };
        machine.inbox.extend_from_slice(bytes);
        let mut inbox = std::mem::take(&mut machine.inbox);
        let mut done = 0;
        // The connection may be closed, or change places, by any message.
        while let Some(which) = self.which(conn) {
            let event = match wire::message_length(&inbox[done..]) {
                Ok(Some(length)) if inbox.len() - done >= length => {
                    let message = &inbox[done..done + length];
                    done += length;
                    self.counters.count_in(message);
                    self.notified.note_in(message, now);
                    let event = self.event_of(which, message);
                    self.note_faults(which, &event, message);
                    if let (Event::Open(_), Some(machine)) = (&event, self.machine(which)) {
                        machine.heard = message.to_vec();
                    }
                    event
                }
                Ok(_) => break,
                Err(error) => fault(error),
            };
            self.step_connection(conn, event, now);
        }
        inbox.drain(..done);
        if let Some(machine) = self.which(conn).and_then(|which| self.machine(which)) {
            machine.inbox = inbox;
        }
    }

    /// We have not been reading, because the controller did not keep up: the peer's silence does not count.
    pub fn handle_deaf(&mut self, now: Moment) {
        self.with(Which::Main, now, Machine::restart_hold);
    }

    /// Written bytes are waiting because the peer does not read (RFC 9687).
    pub fn handle_write_blocked(&mut self, now: Moment, conn: ConnId) {
        if let Some(which) = self.which(conn) {
            self.with(which, now, Machine::write_blocked);
        }
    }

    /// Bytes were written again.
    pub fn handle_write_progress(&mut self, conn: ConnId) {
        if let Some(machine) = self.which(conn).and_then(|which| self.machine(which)) {
            machine.timers.stop(Timer::SendHold);
        }
    }

    /// The deadline has come.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.check_held(now);
        for which in [Which::Rival, Which::Main] {
            while let Some(timer) = self.machine(which).and_then(|machine| machine.timers.take_expired(now)) {
                let event = match timer {
                    Timer::IdleHold => Event::IdleHoldExpired,
                    Timer::ConnectRetry => Event::ConnectRetryExpired,
                    Timer::Hold => Event::HoldExpired,
                    Timer::SendHold => Event::SendHoldExpired,
                    Timer::Keepalive => Event::KeepaliveExpired,
                };
                match timer {
                    Timer::IdleHold => self.begin(event, now),
                    Timer::ConnectRetry if which == Which::Main && self.main.is_silent_call() => {
                        self.call_beside(now);
                    }
                    _ => self.step(which, event, now),
                }
            }
        }
    }

    /// Sends routes meant for the session of that number; without it nothing happens. An error is the caller's mistake: nothing is
    /// announced, and the peer loses what it knew of these prefixes.
    pub fn send(&mut self, now: Moment, session: u64, update: &Update) -> Result<(), EncodeError> {
        let current = self.main.state == State::Established && session == self.counters.established;
        let (Some(conn), Some(agreed), true) = (self.main.conn, &self.main.agreed, current) else {
            self.counters.unsent += 1;
            return Ok(());
        };
        let messages = match wire::encode_update(update, &agreed.context) {
            Ok(messages) => messages,
            Err(error) => {
                self.counters.unsent += 1;
                self.withdraw_instead(now, conn, update);
                return Err(error);
            }
        };
        self.counters.messages_out += messages.len() as u64;
        self.counters.updates_out += messages.len() as u64;
        self.counters.announced_out += update.announced.len() as u64;
        self.counters.withdrawn_out += update.withdrawn.len() as u64;
        self.actions.extend(messages.into_iter().map(|message| Action::Send(conn, message)));
        self.with(Which::Main, now, Machine::restart_keepalive);
        Ok(())
    }

    /// Whatever keeps an announcement from being sent, what the peer knows of its prefixes is not true any more.
    fn withdraw_instead(&mut self, now: Moment, conn: ConnId, update: &Update) {
        let withdrawn: Vec<_> = update.withdrawn.iter().chain(&update.announced).copied().collect();
        let Some(agreed) = self.main.agreed.as_ref().filter(|_| !withdrawn.is_empty()) else { return };
        let count = withdrawn.len() as u64;
        let Ok(messages) = wire::encode_update(&Update { withdrawn, ..Update::default() }, &agreed.context)
        else {
            return;
        };
        self.counters.messages_out += messages.len() as u64;
        self.counters.updates_out += messages.len() as u64;
        self.counters.withdrawn_out += count;
        self.actions.extend(messages.into_iter().map(|message| Action::Send(conn, message)));
        self.with(Which::Main, now, Machine::restart_keepalive);
    }

    /// Asks for all routes of a family again, where the peer can (RFC 2918) and it was agreed on.
    pub fn request_refresh(&mut self, family: Family) {
        let facts = self.main.agreed.as_ref().map(|agreed| &agreed.facts);
        let able = facts.is_some_and(|facts| facts.route_refresh && facts.families.contains(&family));
        if let (Some(conn), State::Established, true) = (self.main.conn, self.main.state, able) {
            let request = wire::encode_route_refresh(Refresh::Request(family));
            self.counters.count_out(&request);
            self.actions.push_back(Action::Send(conn, request));
        }
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Session::handle_timeout`].
    pub fn poll_deadline(&self) -> Option<Moment> {
        let others = [&self.rival, &self.held].into_iter().flatten();
        std::iter::once(&self.main).chain(others).filter_map(|machine| machine.timers.next()).min()
    }

    /// The state of the session.
    pub fn state(&self) -> State {
        self.main.state
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// What was agreed on, once the peer's OPEN is accepted.
    pub fn facts(&self) -> Option<&SessionFacts> {
        self.main.agreed.as_ref().map(|agreed| &agreed.facts)
    }

    /// How much went over it.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last failure in words.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_ref().map(|(error, _)| error.as_str())
    }

    /// When that was.
    pub fn last_error_at(&self) -> Option<Moment> {
        self.last_error.as_ref().map(|(_, at)| *at)
    }

    /// The last NOTIFICATION either way.
    pub fn notified(&self) -> &Notified {
        &self.notified
    }

    /// The connection of the session, or of the attempt at one.
    pub fn connection(&self) -> Option<ConnId> {
        self.main.conn
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    fn which(&self, conn: ConnId) -> Option<Which> {
        if self.main.conn == Some(conn) {
            Some(Which::Main)
        } else {
            self.rival.as_ref().is_some_and(|rival| rival.conn == Some(conn)).then_some(Which::Rival)
        }
    }

    fn machine(&mut self, which: Which) -> Option<&mut Machine> {
        match which {
            Which::Main => Some(&mut self.main),
            Which::Rival => self.rival.as_mut(),
        }
    }

    /// One whole message as an event.
    fn event_of(&self, which: Which, message: &[u8]) -> Event {
        let machine = match which {
            Which::Main => &self.main,
            Which::Rival => self.rival.as_ref().unwrap_or(&self.main),
        };
        match &machine.agreed {
            Some(agreed) if machine.state == State::Established => self.classify(message, &agreed.context),
            // Out of place whatever it says (RFC 6608), and how to read it is not agreed on yet.
            _ if message.get(wire::HEADER_BYTES - 1) == Some(&UPDATE) => {
                Event::Update(DecodedUpdate::default())
            }
            _ => self.classify(message, &wire::Context::default()),
        }
    }

    fn classify(&self, message: &[u8], context: &wire::Context) -> Event {
        match wire::decode(message, context) {
            Ok(Message::Open(open)) => match open::negotiate(&self.config, &open, self.config.local) {
                Ok(agreed) => Event::Open(Box::new(agreed)),
                Err(refusal) => Event::Fault(refusal),
            },
            Ok(Message::Keepalive) => Event::Keepalive,
            Ok(Message::Update(update)) => Event::Update(update),
            Ok(Message::Notification(notification)) => Event::Notification(notification),
            Ok(Message::RouteRefresh(family)) => Event::RouteRefresh(family),
            Err(error) => fault(error),
        }
    }

    /// Counts the faults of an UPDATE, and has them shown (RFC 7606 section 6).
    fn note_faults(&mut self, which: Which, event: &Event, message: &[u8]) {
        let is_up = self.machine(which).is_some_and(|machine| machine.state == State::Established);
        if !is_up || message.get(wire::HEADER_BYTES - 1) != Some(&UPDATE) {
            return;
        }
        let noted = match event {
            Event::Update(update) => {
                self.counters.faults_in += update.faults.len() as u64;
                for fault in &update.faults {
                    self.counters.count_fault(FaultKind::from(&fault.reaction));
                }
                FaultyUpdate::of_update(update, message)
            }
            Event::Fault(Refusal { detail, notification }) => {
                self.counters.count_fault(FaultKind::SessionReset);
                FaultyUpdate::of_reset(&WireError::reset(detail.clone(), notification.clone()), message)
            }
            _ => None,
        };
        self.actions.extend(noted.map(Action::Note));
    }

    /// An event of a connection, after settling whether that connection stays (RFC 4271 section 6.8).
    fn step_connection(&mut self, conn: ConnId, event: Event, now: Moment) {
        if let Event::Open(agreed) = &event
            && let Some(loser) = self.collision_loser(conn, agreed)
        {
            self.step(loser, Event::CollisionLost, now);
        }
        // The rival may have taken the main machine's place by now, or this connection may be gone.
        if let Some(which) = self.which(conn) {
            self.step(which, event, now);
        }
    }

    /// Which machine must give way now that the peer's OPEN came over `conn`.
    fn collision_loser(&self, conn: ConnId, agreed: &Agreed) -> Option<Which> {
        let rival = self.rival.as_ref()?;
        let (this, other) = match self.which(conn)? {
            Which::Main => ((Which::Main, &self.main), (Which::Rival, rival)),
            Which::Rival => ((Which::Rival, rival), (Which::Main, &self.main)),
        };
        if other.1.state != State::OpenConfirm || this.1.state != State::OpenSent {
            return None;
        }
        if this.1.dialled == other.1.dialled {
            // The peer made both: it has given the older one up.
            return Some(other.0);
        }
        let (config, facts) = (&self.config, &agreed.facts);
        // RFC 6286 section 2.3: equal identifiers are told apart by the AS number.
        let ours_stays = (config.router_id, config.local_asn) > (facts.router_id, facts.asn);
        Some(if this.1.dialled == ours_stays { other.0 } else { this.0 })
    }

    /// Lets a machine react, then settles which machines there are.
    fn step(&mut self, which: Which, event: Event, now: Moment) {
        self.with(which, now, |machine, env| machine.step(event, env));
        let established = |machine: &Machine| machine.state == State::Established;
        if self.rival.as_ref().is_some_and(established) {
            self.with(Which::Main, now, |main, env| main.step(Event::CollisionLost, env));
        } else if established(&self.main) {
            self.with(Which::Rival, now, |rival, env| rival.step(Event::CollisionLost, env));
        }
        self.rival = self.rival.take().filter(|rival| rival.state != State::Idle && rival.conn.is_some());
        if matches!(self.main.state, State::Idle | State::Active)
            && let Some(rival) = self.rival.take()
        {
            let retry = self.main.timers.at(Timer::ConnectRetry);
            self.main = rival;
            self.since = now;
            self.call_no_later_than(retry);
        }
    }

    /// Calls in silence, one after the other, put our own call off no further.
    fn call_no_later_than(&mut self, retry: Option<Moment>) {
        if let Some(retry) = retry.filter(|_| self.main.is_silent_call()) {
            let own = self.main.timers.at(Timer::ConnectRetry);
            self.main.timers.set(Timer::ConnectRetry, own.map_or(retry, |own| own.min(retry)));
        }
    }

    /// Runs `work` on a machine and turns the effects into actions.
    fn with(&mut self, which: Which, now: Moment, work: impl FnOnce(&mut Machine, &mut Env<'_>)) {
        let before = self.main.state;
        let mut effects = Vec::new();
        let machine = match which {
            Which::Main => &mut self.main,
            Which::Rival => match &mut self.rival {
                Some(rival) => rival,
                None => return,
            },
        };
        let (config, backoff, ids) = (&self.config, &mut self.backoff, &mut self.ids);
        work(machine, &mut Env { config, now, backoff, ids, effects: &mut effects });
        if self.main.state != before {
            self.since = now;
        }
        for effect in effects {
            self.apply(effect, now);
        }
    }

    fn apply(&mut self, effect: Effect, now: Moment) {
        let peer = self.config.id;
        match effect {
            Effect::Connect(conn) => self.actions.push_back(Action::Connect(conn)),
            Effect::Send(conn, message) => {
                self.counters.count_out(&message);
                self.notified.note_out(&message, now);
                self.actions.push_back(Action::Send(conn, message));
            }
            Effect::Close(conn) => self.actions.push_back(Action::Close(conn)),
            Effect::Up(mut agreed) => {
                self.counters.established += 1;
                // RFC 4724 section 4.1: the R bit is for the first session after the restart, and the F bit speaks of that restart.
                self.config.restarting = false;
                self.config.forwarding_preserved = false;
                agreed.facts.session = self.counters.established;
                let facts = agreed.facts.clone();
                self.main.agreed = Some(agreed);
                self.actions.push_back(Action::Tell(PeerEvent::Established { peer, facts }));
            }
            Effect::Update(decoded) => self.deliver(decoded),
            Effect::Refresh(Refresh::Request(family)) => {
                self.actions.push_back(Action::Tell(PeerEvent::Refresh { peer, family }));
            }
            Effect::Refresh(Refresh::Mark(mark)) => {
                let update = Update { refresh: Some(mark), ..Update::default() };
                self.actions.push_back(Action::Tell(PeerEvent::Update { peer, update }));
            }
            Effect::Down(reason, kept) => self.down(reason, kept, now),
        }
    }

    fn deliver(&mut self, decoded: DecodedUpdate) {
        self.counters.updates_in += 1;
        for update in decoded.updates {
            self.counters.announced_in += update.announced.len() as u64;
            self.counters.withdrawn_in += update.withdrawn.len() as u64;
            self.actions.push_back(Action::Tell(PeerEvent::Update { peer: self.config.id, update }));
        }
    }

    /// While another connection is alive, the end of one is no news but for who looks closely.
    fn down(&mut self, reason: DownReason, kept: Option<Kept>, now: Moment) {
        self.last_error = Some((reason.to_string(), now));
        if self.rival.is_none() {
            self.counters.failed += u64::from(!matches!(reason, DownReason::Stopped(_)));
            self.actions.push_back(Action::Tell(PeerEvent::Down { peer: self.config.id, reason, kept }));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Main,
    Rival,
}

/// A decoding error as the machine takes it; without a NOTIFICATION of its own it is an unspecific one.
fn fault(error: WireError) -> Event {
    let notification = match error.reaction {
        Reaction::Reset(notification) => notification,
        Reaction::TreatAsWithdraw | Reaction::DisableFamily | Reaction::DiscardAttribute => {
            Notification::new(3, 0)
        }
    };
    Event::Fault(Refusal { detail: error.detail, notification })
}

#[cfg(test)]
mod tests;
