//! The state machine of one connection: RFC 4271 section 8.2.2, as one exhaustive match.
//!
//! ```text
//!            Start, IdleHold                Connected              Open             Keepalive
//!     Idle ------------------> Connect ------------------> OpenSent ---> OpenConfirm ---> Established
//!      ^  \    (passive)         |  ^                          ^
//!      |   \                     v  |                          |
//!      |    `----------------> Active -------------------------'
//!      |                     ConnectRetry           Connected (accepted)
//!      `--- every fault, loss, expiry and stop; IdleHold leads out again, except after Stop
//! ```
//!
//! The machine knows no time but what it is told, no socket but a number, and no other connection: that two can exist at once
//! is the business of [`super::Session`].

use std::time::Duration;

use super::super::wire::{self, DecodedUpdate, Refresh};
use super::super::{Cease, DownReason, Kept, Notification, PeerConfig};
use super::open::{self, Agreed, Refusal};
use super::time::{Backoff, FIRST_WAIT, Moment, Timer, Timers};
use super::{ConnId, Loss, State};

/// How long one TCP connect may take: the SYN and two repetitions of it.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A SYN that was not answered within this time is lost; the next one of the same attempt comes after a second, or two, or four.
const FIRST_ANSWER: Duration = Duration::from_millis(200);
/// How long a connected peer may take for its OPEN, and after it for its KEEPALIVE where no hold time was agreed on. RFC 4271 section
/// 8.2.2 suggests a large value, 4 minutes.
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(240);
/// How long a peer that has called may take for its OPEN: it has had ours as soon as it could have one, and has nothing to wait for.
pub(super) const CALL_WAIT: Duration = Duration::from_secs(30);
/// After this time without an OPEN we call a peer that has called us.
pub(super) const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// The least send hold time, RFC 9687 section 4.
const SEND_HOLD: Duration = Duration::from_secs(480);

/// What can happen to a connection; the numbers are those of RFC 4271 section 8.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// 1, 3: begin.
    Start,
    /// 2, 8: end, and stay down.
    Stop(Notification),
    /// End, and stay down: no packet gets through.
    CarrierLost,
    /// End, and come back.
    Reset(Notification),
    /// The peer sent too many prefixes: end, and come back after this wait.
    Overflow(Notification, Duration),
    /// 13.
    IdleHoldExpired,
    /// 9.
    ConnectRetryExpired,
    /// 10.
    HoldExpired,
    /// RFC 9687 section 4.
    SendHoldExpired,
    /// 11.
    KeepaliveExpired,
    /// 16, 17: the machine's connection is up.
    Connected,
    /// 18: it is not, or no more.
    Lost(Loss),
    /// 19: an acceptable OPEN.
    Open(Box<Agreed>),
    /// 21, 22, 28: a message that cannot be accepted.
    Fault(Refusal),
    /// 23: the other connection is kept.
    CollisionLost,
    /// 24, 25.
    Notification(Notification),
    /// 26.
    Keepalive,
    /// 27.
    Update(DecodedUpdate),
    /// RFC 2918, RFC 7313; `None` is to be ignored.
    RouteRefresh(Option<Refresh>),
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Connect(ConnId),
    Send(ConnId, Vec<u8>),
    Close(ConnId),
    Up(Box<Agreed>),
    Update(DecodedUpdate),
    Refresh(Refresh),
    Down(DownReason, Option<Kept>),
}

/// What a step may look at and change besides the machine itself.
pub(super) struct Env<'a> {
    pub config: &'a PeerConfig,
    pub now: Moment,
    pub backoff: &'a mut Backoff,
    pub ids: &'a mut u32,
    pub effects: &'a mut Vec<Effect>,
}

impl Env<'_> {
    pub(super) fn next_id(&mut self) -> ConnId {
        *self.ids = self.ids.wrapping_add(1);
        ConnId(*self.ids)
    }
}

/// One connection, or the wish for one.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub state: State,
    pub conn: Option<ConnId>,
    /// We connected, the peer did not.
    pub dialled: bool,
    pub agreed: Option<Box<Agreed>>,
    pub timers: Timers,
    /// Received bytes that are not yet a whole message.
    pub inbox: Vec<u8>,
    /// The OPENs of the connection as they were on the wire: ours and the peer's.
    pub said: Vec<u8>,
    pub heard: Vec<u8>,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            state: State::Idle,
            conn: None,
            dialled: false,
            agreed: None,
            timers: Timers::default(),
            inbox: Vec::new(),
            said: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// A machine that waits for `Connected` on a connection the peer made.
    pub(super) fn accepted(conn: ConnId) -> Self {
        Self { state: State::Active, conn: Some(conn), ..Self::new() }
    }

    /// A connection that the peer made and on which it has said nothing.
    pub(super) fn is_silent_call(&self) -> bool {
        self.state == State::OpenSent && !self.dialled && self.heard.is_empty()
    }

    /// Reacts to one event.
    pub(super) fn step(&mut self, event: Event, env: &mut Env<'_>) {
        use Event::*;
        use State::*;
        match (self.state, event) {
            (Idle, Start | IdleHoldExpired) => self.begin(env),
            (Idle, Stop(_) | CarrierLost) => self.timers.clear(),
            // Section 8.2.2: in Idle connections are refused.
            (Idle, Connected) => self.drop_connection(env),
            (
                Idle,
                Reset(_) | Overflow(..) | ConnectRetryExpired | HoldExpired | SendHoldExpired
                | KeepaliveExpired,
            ) => {}
            (Idle, Lost(_) | Open(_) | Fault(_) | CollisionLost | Notification(_)) => {}
            (Idle, Keepalive | Update(_) | RouteRefresh(_)) => {}

            (Connect | Active, Connected) => self.introduce(env),
            (Connect, ConnectRetryExpired) => {
                env.effects.push(Effect::Down(unanswered(env.config), None));
                self.drop_connection(env);
                self.begin(env);
            }
            (Active, ConnectRetryExpired) => self.begin(env),
            (Connect, Lost(loss)) => self.wait_in_active(loss, env),
            (Active, Lost(_)) => self.conn = None,
            (Connect | Active, Stop(notification)) => self.stop(notification, env),
            (Connect | Active, CarrierLost) => self.lose_carrier(env),
            (Connect | Active, Start | Reset(_) | Overflow(..)) => {}
            (Connect | Active, CollisionLost) => self.give_way(env),
            // Nothing of this can reach a machine without a connection; section 8.2.2 says Idle, and so it is.
            (Connect | Active, IdleHoldExpired | HoldExpired | SendHoldExpired | KeepaliveExpired) => {
                self.retreat(env)
            }
            (Connect | Active, Open(_) | Fault(_) | Notification(_)) => self.retreat(env),
            (Connect | Active, Keepalive | Update(_) | RouteRefresh(_)) => self.retreat(env),

            (OpenSent, Open(agreed)) => self.confirm(agreed, env),
            (OpenSent, Keepalive | Update(_) | RouteRefresh(_)) => self.unexpected(1, env),

            (OpenConfirm, Keepalive) => self.establish(env),
            (OpenConfirm, KeepaliveExpired) => self.send_keepalive(env),
            (OpenConfirm, Open(_) | Update(_) | RouteRefresh(_)) => self.unexpected(2, env),

            (Established, Keepalive) => self.restart_hold(env),
            (Established, Update(update)) => {
                self.restart_hold(env);
                env.effects.push(Effect::Update(update));
            }
            (Established, RouteRefresh(family)) => {
                self.restart_hold(env);
                env.effects.extend(family.map(Effect::Refresh));
            }
            (Established, KeepaliveExpired) => self.send_keepalive(env),
            (Established, Open(_)) => self.unexpected(3, env),

            (OpenSent | OpenConfirm | Established, Start) => {}
            (OpenSent | OpenConfirm | Established, Stop(notification)) => self.stop(notification, env),
            (OpenSent | OpenConfirm | Established, CarrierLost) => self.lose_carrier(env),
            (OpenSent | OpenConfirm | Established, Reset(notification)) => self.reset(notification, env),
            (OpenSent | OpenConfirm | Established, Overflow(notification, wait)) => {
                self.overflow(notification, wait, env)
            }
            (OpenSent | OpenConfirm | Established, HoldExpired) => self.hold_expired(env),
            (OpenSent | OpenConfirm | Established, SendHoldExpired) => self.send_hold_expired(env),
            (OpenSent | OpenConfirm | Established, Lost(loss)) => self.lost(&loss, env),
            (OpenSent | OpenConfirm | Established, Fault(refusal)) => self.refuse(refusal, env),
            (OpenSent | OpenConfirm | Established, CollisionLost) => self.give_way(env),
            (OpenSent | OpenConfirm | Established, Notification(notification)) => {
                self.notified(notification, env)
            }
            // These timers are stopped here, and one connection comes up once.
            (OpenSent | OpenConfirm | Established, IdleHoldExpired | ConnectRetryExpired | Connected) => {}
            (OpenSent, KeepaliveExpired) => {}
        }
    }

    /// The hold time starts anew without a message: we did not listen, so silence proves nothing.
    pub(super) fn restart_hold(&mut self, env: &mut Env<'_>) {
        if let Some(agreed) = self.agreed.as_ref().filter(|agreed| agreed.facts.hold.0 > 0) {
            self.timers.set(Timer::Hold, env.now + agreed.facts.hold.duration());
        }
    }

    /// Sent something that shows we are alive: the next keepalive can wait (section 4.4).
    pub(super) fn restart_keepalive(&mut self, env: &mut Env<'_>) {
        if let Some(every) = self.agreed.as_ref().and_then(|agreed| agreed.keepalive) {
            let every = env.backoff.jittered(every);
            self.timers.set(Timer::Keepalive, env.now + every);
        }
    }

    /// No wait is needed any more.
    pub(super) fn hurry(&mut self, env: &mut Env<'_>) {
        match self.state {
            State::Connect => {
                let due = self.timers.at(Timer::ConnectRetry);
                if due.is_some_and(|at| at - env.now + FIRST_ANSWER <= CONNECT_WAIT) {
                    self.drop_connection(env);
                    self.begin(env);
                }
            }
            State::Idle | State::Active => {
                for timer in [Timer::IdleHold, Timer::ConnectRetry] {
                    if self.timers.at(timer).is_some() {
                        self.timers.set(timer, env.now);
                    }
                }
            }
            State::OpenSent | State::OpenConfirm | State::Established => {}
        }
    }

    /// Idle until then.
    pub(super) fn wait_idle(&mut self, until: Moment) {
        self.timers.set(Timer::IdleHold, until);
    }

    /// Idle, and not for good.
    pub(super) fn waits_idle(&self) -> bool {
        self.timers.at(Timer::IdleHold).is_some()
    }

    /// Bytes wait for a peer that does not read.
    pub(super) fn write_blocked(&mut self, env: &mut Env<'_>) {
        if self.timers.at(Timer::SendHold).is_none() {
            let twice =
                self.agreed.as_ref().map_or(Duration::ZERO, |agreed| agreed.facts.hold.duration() * 2);
            self.timers.set(Timer::SendHold, env.now + twice.max(SEND_HOLD));
        }
    }

    fn begin(&mut self, env: &mut Env<'_>) {
        self.timers.clear();
        if env.config.passive {
            self.state = State::Active;
            return;
        }
        let conn = env.next_id();
        (self.state, self.conn, self.dialled) = (State::Connect, Some(conn), true);
        self.timers.set(Timer::ConnectRetry, env.now + CONNECT_WAIT);
        env.effects.push(Effect::Connect(conn));
    }

    fn wait_in_active(&mut self, loss: Loss, env: &mut Env<'_>) {
        (self.state, self.conn) = (State::Active, None);
        self.timers.set(Timer::ConnectRetry, env.backoff.next(env.now));
        let (peer, local) = (env.config.remote, env.config.local);
        let reason = match loss {
            Loss::TimedOut => unanswered(env.config),
            Loss::Failed(detail) => DownReason::ConnectFailed { peer, local, detail },
        };
        env.effects.push(Effect::Down(reason, None));
    }

    fn introduce(&mut self, env: &mut Env<'_>) {
        self.timers.clear();
        self.state = State::OpenSent;
        if self.dialled {
            self.timers.set(Timer::Hold, env.now + OPEN_WAIT);
        } else {
            self.timers.set(Timer::Hold, env.now + CALL_WAIT);
            self.timers.set(Timer::ConnectRetry, env.now + CALL_PATIENCE);
        }
        match wire::encode_open(&open::ours(env.config)) {
            Ok(message) => {
                self.said.clone_from(&message);
                self.send(message, env);
            }
            Err(error) => {
                let notification = Notification::cease(Cease::ConfigurationChange, "");
                self.refuse(Refusal { detail: format!("our own OPEN is {error}"), notification }, env);
            }
        }
    }

    fn confirm(&mut self, agreed: Box<Agreed>, env: &mut Env<'_>) {
        self.state = State::OpenConfirm;
        self.timers.stop(Timer::ConnectRetry);
        self.agreed = Some(agreed);
        // Without a hold time, too, the peer's KEEPALIVE does not take for ever.
        self.timers.set(Timer::Hold, env.now + OPEN_WAIT);
        self.restart_hold(env);
        self.send_keepalive(env);
    }

    fn establish(&mut self, env: &mut Env<'_>) {
        self.state = State::Established;
        self.timers.stop(Timer::Hold);
        self.restart_hold(env);
        env.backoff.established(env.now);
        env.effects.extend(self.agreed.clone().map(Effect::Up));
    }

    pub(super) fn send_keepalive(&mut self, env: &mut Env<'_>) {
        self.send(wire::encode_keepalive(), env);
        self.restart_keepalive(env);
    }

    fn unexpected(&mut self, subcode: u8, env: &mut Env<'_>) {
        let notification = Notification::machine_error(subcode);
        let detail = format!("{}: its implementation is at fault", notification.name());
        self.refuse(Refusal { detail, notification }, env);
    }

    fn hold_expired(&mut self, env: &mut Env<'_>) {
        self.send(wire::encode_notification(&Notification::hold_expired()), env);
        let (peer, hold) = (env.config.remote, self.agreed.as_ref().map(|agreed| agreed.facts.hold));
        let waited = |what: &str, wait: Duration| {
            let detail = format!("no {what} within {} s: is BGP configured for us there?", wait.as_secs());
            DownReason::ConnectionLost { peer, detail }
        };
        let reason = match hold {
            None => waited("OPEN", if self.dialled { OPEN_WAIT } else { CALL_WAIT }),
            Some(hold) if hold.0 == 0 => waited("KEEPALIVE", OPEN_WAIT),
            Some(hold) => DownReason::HoldExpired { peer, hold },
        };
        if self.is_silent_call() {
            // A peer that calls meanwhile waits a second at most.
            self.drop_connection(env);
            self.wait_idle(env.now + env.backoff.jittered(FIRST_WAIT));
            return env.effects.push(Effect::Down(reason, None));
        }
        self.fail(reason, env);
    }

    fn send_hold_expired(&mut self, env: &mut Env<'_>) {
        // RFC 9687 section 4: the NOTIFICATION is sent although it will hardly arrive.
        self.send(wire::encode_notification(&Notification::new(8, 0)), env);
        let peer = env.config.remote;
        self.fail(DownReason::SendBlocked { peer, seconds: SEND_HOLD.as_secs() }, env);
    }

    fn lost(&mut self, loss: &Loss, env: &mut Env<'_>) {
        let peer = env.config.remote;
        let hint = if self.state == State::OpenSent { ": is BGP configured for us there?" } else { "" };
        let detail = match loss {
            Loss::TimedOut => format!("timed out{hint}"),
            Loss::Failed(detail) => format!("{detail}{hint}"),
        };
        let reason = DownReason::ConnectionLost { peer, detail };
        if self.is_silent_call() {
            return self.forget_call(reason, env);
        }
        self.fail(reason, env);
    }

    /// A call has ended on which the peer said nothing. That is no failure of the session: the next call is answered at once (RFC 4271 section 8.2.2,
    /// event 18 in OpenSent), and our own is made when it would have been.
    fn forget_call(&mut self, reason: DownReason, env: &mut Env<'_>) {
        let retry = self.timers.at(Timer::ConnectRetry);
        self.drop_connection(env);
        self.state = State::Active;
        if !env.config.passive {
            let retry = retry.unwrap_or_else(|| env.now + env.backoff.jittered(FIRST_WAIT));
            self.timers.set(Timer::ConnectRetry, retry);
        }
        env.effects.push(Effect::Down(reason, None));
    }

    fn notified(&mut self, notification: Notification, env: &mut Env<'_>) {
        if self.state != State::Established && notification.is_collision() {
            return self.leave_to_the_other(notification, env);
        }
        self.fail(DownReason::Notified { peer: env.config.remote, notification }, env);
    }

    /// The peer prefers a connection that it makes: it is welcome while ours waits. In Idle we would turn it away, and both would
    /// wait for longer each time.
    fn leave_to_the_other(&mut self, notification: Notification, env: &mut Env<'_>) {
        self.drop_connection(env);
        self.state = State::Active;
        self.timers.set(Timer::ConnectRetry, env.backoff.next(env.now));
        let reason = DownReason::Notified { peer: env.config.remote, notification };
        env.effects.push(Effect::Down(reason, None));
    }

    fn refuse(&mut self, refusal: Refusal, env: &mut Env<'_>) {
        self.send(wire::encode_notification(&refusal.notification), env);
        let Refusal { detail, notification } = refusal;
        self.fail(DownReason::Refused { peer: env.config.remote, detail, notification }, env);
    }

    fn stop(&mut self, notification: Notification, env: &mut Env<'_>) {
        self.say_farewell(&notification, env);
        env.effects.push(Effect::Down(DownReason::Stopped(notification), None));
    }

    /// What is said now arrives when the carrier is back, if the peer has not noticed by then; other routers say Cease/6 too. Nothing
    /// is kept: the link is what forwarded.
    fn lose_carrier(&mut self, env: &mut Env<'_>) {
        self.say_farewell(&Notification::cease(Cease::ConfigurationChange, ""), env);
        env.effects.push(Effect::Down(DownReason::NoCarrier { peer: env.config.remote }, None));
    }

    /// To Idle, for good; whoever is at the other end is told.
    fn say_farewell(&mut self, notification: &Notification, env: &mut Env<'_>) {
        if matches!(self.state, State::OpenSent | State::OpenConfirm | State::Established) {
            self.send(wire::encode_notification(&self.for_good(notification)), env);
        }
        self.drop_connection(env);
    }

    fn reset(&mut self, notification: Notification, env: &mut Env<'_>) {
        self.send(wire::encode_notification(&notification), env);
        env.backoff.forget();
        self.fail(DownReason::Stopped(notification), env);
    }

    /// Requirement D2: never stuck, because the wait has an end; it is the caller's, and no failure of ours shortens it.
    fn overflow(&mut self, notification: Notification, wait: Duration, env: &mut Env<'_>) {
        self.send(wire::encode_notification(&self.for_good(&notification)), env);
        self.fail(DownReason::Stopped(notification), env);
        self.timers.set(Timer::IdleHold, env.now + wait);
    }

    /// RFC 8538 section 3: where any NOTIFICATION keeps the routes, one that must not do so goes inside a Hard Reset.
    fn for_good(&self, notification: &Notification) -> Notification {
        let keeps = self.agreed.as_ref().is_some_and(|agreed| agreed.facts.notification_restart);
        if keeps { notification.hard_reset() } else { notification.clone() }
    }

    /// What of the peer's routes stays in use when the session ends like this (RFC 4724 section 4.2, RFC 8538 section 4).
    fn kept(&self, reason: &DownReason) -> Option<Kept> {
        let facts = &self.agreed.as_ref().filter(|_| self.state == State::Established)?.facts;
        let keeps = match reason {
            DownReason::ConnectionLost { .. } => true,
            DownReason::Notified { notification, .. } => {
                facts.notification_restart && !notification.is_hard_reset()
            }
            DownReason::Refused { .. } | DownReason::HoldExpired { .. } | DownReason::SendBlocked { .. } => {
                facts.notification_restart
            }
            DownReason::Stopped(notification) => {
                facts.notification_restart && notification.is_reset_by_operator()
            }
            DownReason::ConnectFailed { .. }
            | DownReason::ConnectTimeout { .. }
            | DownReason::NoCarrier { .. } => false,
        };
        facts.kept().filter(|_| keeps)
    }

    fn give_way(&mut self, env: &mut Env<'_>) {
        if matches!(self.state, State::OpenSent | State::OpenConfirm | State::Established) {
            let notification = Notification::cease(Cease::CollisionResolution, "");
            self.send(wire::encode_notification(&notification), env);
        }
        self.drop_connection(env);
    }

    /// To Idle, and out again after the next wait.
    fn fail(&mut self, reason: DownReason, env: &mut Env<'_>) {
        let kept = self.kept(&reason);
        self.retreat(env);
        env.effects.push(Effect::Down(reason, kept));
    }

    fn retreat(&mut self, env: &mut Env<'_>) {
        self.drop_connection(env);
        self.timers.set(Timer::IdleHold, env.backoff.next(env.now));
    }

    /// To Idle with everything released.
    fn drop_connection(&mut self, env: &mut Env<'_>) {
        env.effects.extend(self.conn.take().map(Effect::Close));
        self.state = State::Idle;
        self.agreed = None;
        self.timers.clear();
        self.inbox.clear();
    }

    fn send(&self, message: Vec<u8>, env: &mut Env<'_>) {
        env.effects.extend(self.conn.map(|conn| Effect::Send(conn, message)));
    }
}

fn unanswered(config: &PeerConfig) -> DownReason {
    DownReason::ConnectTimeout { peer: config.remote, local: config.local, md5: config.md5.is_some() }
}
