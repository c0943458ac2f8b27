//! What keeps a session from being tried, and who calls meanwhile.
//!
//! Three gates are closed and opened by whoever knows: the operator, BFD where it is strict (RFC 5882 section 4.1), and the link, whose
//! carrier may be gone. The session is tried while all of them are open; the last one to open ends every wait.
//!
//! A peer that calls while we wait, at a gate or after a failure, is *held*: its connection stays open and unanswered, and is the one
//! that is used when the wait is over. RFC 4271 section 8.2.2 has Idle refuse it, and that costs more than it saves: the peer waits for
//! longer each time (FRR up to two minutes), calls cross when both are ready, and FRR 8.4 has been seen to overlook a refusal and sit in
//! OpenSent for its whole hold time, turning away all our calls with Cease/7. A held call ends like one in OpenSent: when the peer gives
//! up, and after four minutes at the latest.
//! Refused is who calls a session that an operator has taken down, or that has sent too many prefixes and is not back yet.

use super::super::{Cease, DownReason, Notification, wire};
use super::machine::{Event, Machine, OPEN_WAIT};
use super::time::{Moment, Timer};
use super::{Action, ConnId, Session, State, Which};

/// What can keep a session from being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// An operator has taken it down.
    Operator,
    /// Its BFD is strict and not up.
    Bfd,
    /// Its link has no carrier.
    Carrier,
}

/// Which gates are closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gates([bool; 3]);

impl Gates {
    fn set(&mut self, gate: Gate, closed: bool) -> bool {
        std::mem::replace(&mut self.0[gate as usize], closed)
    }

    fn is_closed(self, gate: Gate) -> bool {
        self.0[gate as usize]
    }

    fn are_open(self) -> bool {
        self.0 == [false; 3]
    }
}

/// A peer that waits for our OPEN has sent its own and perhaps a NOTIFICATION: two messages of the greatest length that is not
/// agreed on.
const HELD_BYTES_MAX: usize = 2 * 4096;

impl Session {
    /// Begin connecting, or listening for a passive peer, if no gate is closed.
    pub fn handle_start(&mut self, now: Moment) {
        if !self.gates.are_open() {
            return;
        }
        match self.overflow.until(now) {
            // Requirement D2: nothing but an operator shortens this wait.
            Some(back) if self.main.state == State::Idle => self.main.wait_idle(back),
            _ => self.begin(Event::Start, now),
        }
    }

    /// A gate closes: the session ends, and the peer is told where that can be; `text` is for its operator. Closing a closed gate does
    /// nothing.
    pub fn handle_close(&mut self, now: Moment, gate: Gate, text: &str) {
        if self.gates.set(gate, true) {
            return;
        }
        let event = match gate {
            Gate::Operator => Event::Stop(Notification::cease(Cease::AdministrativeShutdown, text)),
            Gate::Bfd => Event::Stop(Notification::cease(Cease::BfdDown, "")),
            Gate::Carrier => {
                let reason = DownReason::NoCarrier { peer: self.config.remote };
                self.last_error = Some((reason.to_string(), now));
                Event::CarrierLost
            }
        };
        if gate == Gate::Operator {
            self.turn_away();
        }
        self.end(event, now);
    }

    /// A gate opens. If it was the last one, every wait ends now.
    pub fn handle_open(&mut self, now: Moment, gate: Gate) {
        self.gates.set(gate, false);
        if gate == Gate::Operator {
            self.overflow.forgive(now);
        }
        if self.gates.are_open() {
            self.backoff.forget();
            self.handle_start(now);
        }
    }

    /// The end of both connections.
    pub(super) fn end(&mut self, event: Event, now: Moment) {
        if self.rival.is_some() {
            self.step(Which::Rival, Event::CollisionLost, now);
        }
        self.step(Which::Main, event, now);
    }

    /// Leaves Idle: by the call that is held, if there is one.
    pub(super) fn begin(&mut self, event: Event, now: Moment) {
        let Some(held) = self.held.take_if(|_| self.main.state == State::Idle) else {
            return self.step(Which::Main, event, now);
        };
        let conn = held.conn;
        self.main = held;
        self.since = now;
        self.step(Which::Main, Event::Connected, now);
        if let Some(conn) = conn {
            self.handle_bytes(now, conn, &[]);
        }
    }

    /// A peer calls in Idle: held if we come back by ourselves, else refused.
    pub(super) fn called_in_idle(&mut self, conn: ConnId, now: Moment) {
        let is_away = self.gates.is_closed(Gate::Operator) || self.overflow.until(now).is_some();
        if is_away || self.gates.are_open() && !self.main.waits_idle() {
            return self.refuse(conn, Cease::ConnectionRejected);
        }
        self.hold_call(conn, now);
    }

    /// Keeps a call open and unanswered, for as long as one in OpenSent may take.
    pub(super) fn hold_call(&mut self, conn: ConnId, now: Moment) {
        let mut held = Machine::accepted(conn);
        held.timers.set(Timer::Hold, now + OPEN_WAIT);
        // A second call: the peer has given the first one up.
        if let Some(Machine { conn: Some(older), .. }) = self.held.replace(held) {
            self.actions.push_back(Action::Close(older));
        }
    }

    /// A held call's timer may have expired: it has waited in vain, or for long enough.
    pub(super) fn check_held(&mut self, now: Moment) {
        match self.held.as_mut().and_then(|held| Some((held.timers.take_expired(now)?, held.conn))) {
            Some((Timer::Hold, Some(conn))) => {
                self.held = None;
                self.say_and_close(conn, &Notification::hold_expired());
            }
            Some(_) => self.judge_held(now),
            None => {}
        }
    }

    /// Bytes of a held call, which are read when it is answered; whether they were.
    pub(super) fn keep_held(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        let Some(held) = self.held.as_mut().filter(|held| held.conn == Some(conn)) else { return false };
        held.inbox.extend_from_slice(bytes);
        if held.inbox.len() > HELD_BYTES_MAX {
            self.held = None;
            self.actions.push_back(Action::Close(conn));
        }
        true
    }

    /// Whoever is held is not wanted any more.
    pub(super) fn turn_away(&mut self) {
        if let Some(Machine { conn: Some(conn), .. }) = self.held.take() {
            self.refuse(conn, Cease::ConnectionRejected);
        }
    }

    pub(super) fn refuse(&mut self, conn: ConnId, cease: Cease) {
        self.say_and_close(conn, &Notification::cease(cease, ""));
    }

    pub(super) fn say_and_close(&mut self, conn: ConnId, notification: &Notification) {
        self.actions.push_back(Action::Send(conn, wire::encode_notification(notification)));
        self.actions.push_back(Action::Close(conn));
    }
}
