//! One peer's session: the pure machine of RFC 4271 section 8.
//!
//! Inputs are `handle_*`, outputs `poll_action` and `poll_deadline`; time is [`Millis`] since any fixed moment, randomness a
//! seed. A peer may have two connections for a moment, the one we opened and the one it opened; each has its own state and
//! they collide when an OPEN arrives (section 6.8).
//!
//! ```text
//!            start                 connected                OPEN              KEEPALIVE
//!   Idle ------------> Connect ----------------> OpenSent ------> OpenConfirm ---------> Established
//!    ^  <-- error, hold timer, NOTIFICATION ------------------------------------------------'
//!    '-- connect failed --> Active -- retry timer --> Connect; the peer's own connection is taken in every state
//! ```
//!
//! Section 8.2.2's table of states and messages is [`Session::on_message`]; `tests` holds the same table.

use std::{collections::VecDeque, net::IpAddr};

use super::{
    DownReason, Family, PeerConfig, PeerEvent, Seconds, SessionFacts, Update,
    wire::{self, Message, Notification, Open, WireError},
};

/// A moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    fn plus(self, millis: u64) -> Self {
        Self(self.0 + millis)
    }
}

/// First pause before another attempt; doubled up to [`RETRY_MAX`]. RFC 4271 suggests 120 s; an edge that has lost a peer
/// wants it back sooner.
const RETRY_MIN: u64 = 1_000;
const RETRY_MAX: u64 = 30_000;
/// A session that has lived so long starts over with the shortest pause.
const STABLE: u64 = 60_000;
/// Wait for an OPEN (RFC 4271 section 8.2.2: "a large value ... 4 minutes is suggested").
const OPEN_HOLD: u64 = 240_000;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The peer did.
    Incoming,
}

impl Direction {
    fn other(self) -> Self {
        match self {
            Self::Outgoing => Self::Incoming,
            Self::Incoming => Self::Outgoing,
        }
    }
}

/// RFC 4271 section 8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Stopped, or pausing after an error.
    Idle,
    /// Waiting for our connection.
    Connect,
    /// Waiting for the peer's connection, or for the next attempt.
    Active,
    /// Connected; our OPEN is on its way.
    OpenSent,
    /// The peer's OPEN was good.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl State {
    /// The RFC's word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection.
    Connect,
    /// Give up the attempt to open one.
    CancelConnect,
    /// Send bytes.
    Send(Direction, Vec<u8>),
    /// Close, after what was sent before.
    Close(Direction),
    /// Tell the controller.
    Tell(PeerEvent),
}

/// A connection that is up.
#[derive(Debug)]
struct Connection {
    state: ConnectionState,
    /// Our address on it.
    local: IpAddr,
    received: Vec<u8>,
    open: Option<Open>,
}

/// The states a connection can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    OpenSent,
    OpenConfirm,
    Established,
}

/// Counts for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Times the session was established.
    pub established: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Session {
    config: PeerConfig,
    outgoing: Option<Connection>,
    incoming: Option<Connection>,
    connecting: bool,
    running: bool,
    retry_at: Option<Millis>,
    hold_at: Option<Millis>,
    keepalive_at: Option<Millis>,
    hold: u64,
    established_at: Option<Millis>,
    pause: u64,
    seed: u64,
    actions: VecDeque<Action>,
    last_error: Option<String>,
    totals: Totals,
}

impl Session {
    /// Idle until [`Self::handle_start`]; `seed` makes timers jitter.
    pub fn new(config: PeerConfig, seed: u64) -> Self {
        Self {
            config,
            outgoing: None,
            incoming: None,
            connecting: false,
            running: false,
            retry_at: None,
            hold_at: None,
            keepalive_at: None,
            hold: 0,
            established_at: None,
            pause: RETRY_MIN,
            seed,
            actions: VecDeque::new(),
            last_error: None,
            totals: Totals::default(),
        }
    }

    /// The peer.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// The furthest state of its connections.
    pub fn state(&self) -> State {
        let of = |connection: &Option<Connection>| {
            connection.as_ref().map(|connection| match connection.state {
                ConnectionState::OpenSent => State::OpenSent,
                ConnectionState::OpenConfirm => State::OpenConfirm,
                ConnectionState::Established => State::Established,
            })
        };
        let connected = of(&self.outgoing).max(of(&self.incoming));
        connected.unwrap_or(match (self.running, self.connecting) {
            (false, _) => State::Idle,
            (true, true) => State::Connect,
            (true, false) => State::Active,
        })
    }

    /// Since when it is established.
    pub fn established_at(&self) -> Option<Millis> {
        self.established_at
    }

    /// Why it is, or was last, down.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Counts.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_deadline(&self) -> Option<Millis> {
        [self.retry_at, self.hold_at, self.keepalive_at].into_iter().flatten().min()
    }

    /// ManualStart.
    pub fn handle_start(&mut self) {
        self.running = true;
        self.attempt();
    }

    /// ManualStop: Cease/2 with a shutdown communication (RFC 9003) on every connection.
    pub fn handle_stop(&mut self, text: &str) {
        self.running = false;
        self.retry_at = None;
        if std::mem::take(&mut self.connecting) {
            self.actions.push_back(Action::CancelConnect);
        }
        for direction in [Direction::Outgoing, Direction::Incoming] {
            if self.connection(direction).is_some() {
                self.refuse(direction, &Notification::cease(2, text));
            }
        }
        self.end_established(format!("stopped here: {text}"));
    }

    /// A connection is up; `local` is our address on it.
    pub fn handle_connected(&mut self, direction: Direction, local: IpAddr, now: Millis) {
        if direction == Direction::Outgoing {
            self.connecting = false;
        }
        let established = self.state() == State::Established;
        if !self.running || established || self.connection(direction).is_some() {
            // RFC 4271 section 6.8: a new connection against an established session is closed.
            self.actions.push_back(Action::Close(direction));
            return;
        }
        let open = wire::encode_open(&Open {
            asn: self.config.local_asn,
            hold: self.config.hold.0,
            router_id: self.config.router_id,
            families: self.config.families.clone(),
            four_octet: true,
            route_refresh: true,
        });
        let connection =
            Connection { state: ConnectionState::OpenSent, local, received: Vec::new(), open: None };
        *self.slot(direction) = Some(connection);
        self.retry_at = None;
        self.hold_at = Some(now.plus(OPEN_HOLD));
        self.send(direction, open);
    }

    /// Our attempt to connect has failed.
    pub fn handle_connect_failed(&mut self, reason: &str, now: Millis) {
        self.connecting = false;
        self.last_error = Some(self.connect_hint(reason));
        if self.running && self.outgoing.is_none() && self.incoming.is_none() {
            self.retry(now);
        }
    }

    /// A connection has been closed by the peer or the network.
    pub fn handle_closed(&mut self, direction: Direction, reason: &str, now: Millis) {
        if self.connection(direction).is_some() {
            self.drop_connection(direction, format!("connection closed: {reason}"), now);
        }
    }

    /// Bytes have come in.
    pub fn handle_bytes(&mut self, direction: Direction, bytes: &[u8], now: Millis) {
        let Some(connection) = self.slot(direction).as_mut() else { return };
        connection.received.extend_from_slice(bytes);
        let mut buffer = std::mem::take(&mut connection.received);
        let mut at = 0;
        let result = loop {
            match wire::complete(&buffer[at..]) {
                Ok(Some(len)) => {
                    let message = &buffer[at..at + len];
                    at += len;
                    if let Err(error) = self.on_bytes(direction, message, now) {
                        break Err(error);
                    }
                    if self.connection(direction).is_none() {
                        return;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match result {
            Ok(()) => {
                buffer.drain(..at);
                if let Some(connection) = self.slot(direction) {
                    connection.received = buffer;
                }
            }
            Err(error) => self.fail(direction, &error.notification, error.text, now),
        }
    }

    /// An update to send; dropped when the session is not established (the RIB starts over when it is again).
    pub fn handle_send(&mut self, update: &Update) {
        let Some(direction) = self.established() else { return };
        let Some(open) = self.connection(direction).and_then(|connection| connection.open.as_ref()) else {
            return;
        };
        let (four_octet, families) = (open.four_octet, open.families.clone());
        let spoken = |prefix: &&ipnet::IpNet| {
            let family = Family::of(prefix);
            families.contains(&family) && self.config.families.contains(&family)
        };
        let update = Update {
            withdrawn: update.withdrawn.iter().filter(spoken).copied().collect(),
            announced: update.announced.iter().filter(spoken).copied().collect(),
            attributes: update.attributes.clone(),
            end_of_rib: update.end_of_rib.filter(|family| families.contains(family)),
        };
        let (messages, left_out) = wire::encode_update(&update, four_octet);
        if let Some(prefix) = left_out.first() {
            tracing::warn!(peer = %self.config.remote, %prefix, count = left_out.len(), "no next hop of the prefix's family: not announced");
        }
        for message in messages {
            self.send(direction, message);
        }
    }

    /// A deadline has passed.
    pub fn handle_timeout(&mut self, now: Millis) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.attempt();
        }
        if self.hold_at.is_some_and(|at| at <= now) {
            self.hold_at = None;
            self.hold_expired(now);
        }
        if self.keepalive_at.is_some_and(|at| at <= now) {
            let next = now.plus(self.jittered(self.hold / 3));
            self.keepalive_at = Some(next);
            for direction in [Direction::Outgoing, Direction::Incoming] {
                if self.connection(direction).is_some_and(|it| it.state != ConnectionState::OpenSent) {
                    self.send(direction, wire::encode_keepalive());
                }
            }
        }
    }

    fn hold_expired(&mut self, now: Millis) {
        for direction in [Direction::Outgoing, Direction::Incoming] {
            let Some(connection) = self.connection(direction) else { continue };
            let text = match connection.state {
                ConnectionState::OpenSent => {
                    "no OPEN within 240 s; does the peer know our address and AS?".to_owned()
                }
                _ => format!(
                    "hold timer expired: nothing heard for {} s; is the path to the peer alive?",
                    self.hold / 1000
                ),
            };
            self.fail(direction, &Notification::new(4, 0), text, now);
        }
    }

    fn on_bytes(&mut self, direction: Direction, bytes: &[u8], now: Millis) -> Result<(), WireError> {
        let four_octet =
            self.connection(direction).and_then(|it| it.open.as_ref()).is_none_or(|open| open.four_octet);
        let message = wire::decode(bytes, four_octet)?;
        self.totals.messages_in += 1;
        self.on_message(direction, message, now);
        Ok(())
    }

    /// RFC 4271 section 8.2.2, the rows for messages.
    fn on_message(&mut self, direction: Direction, message: Message, now: Millis) {
        use ConnectionState::{Established, OpenConfirm, OpenSent};
        let Some(state) = self.connection(direction).map(|connection| connection.state) else { return };
        match (state, message) {
            (OpenSent, Message::Open(open)) => self.on_open(direction, open, now),
            (OpenConfirm, Message::Keepalive) => self.establish(direction, now),
            (Established, Message::Keepalive) => self.restart_hold(now),
            (Established, Message::Update(update, note)) => {
                self.restart_hold(now);
                if let Some(note) = note {
                    tracing::warn!(peer = %self.config.remote, note, "UPDATE with errors");
                }
                self.tell_update(*update);
            }
            (Established, Message::Refresh(family)) => {
                self.restart_hold(now);
                if let Some(family) = family {
                    self.actions.push_back(Action::Tell(PeerEvent::Refresh { peer: self.config.id, family }));
                }
            }
            (OpenSent | OpenConfirm | Established, Message::Notification(said)) => {
                self.drop_connection(direction, self.notified(&said), now);
            }
            // FSM errors, RFC 6608: subcode 1 in OpenSent, 2 in OpenConfirm, 3 in Established.
            (OpenSent, Message::Keepalive | Message::Update(..) | Message::Refresh(_)) => {
                self.fsm_error(direction, 1, "a message before OPEN", now);
            }
            (OpenConfirm, Message::Open(_) | Message::Update(..) | Message::Refresh(_)) => {
                self.fsm_error(direction, 2, "a message before the KEEPALIVE that confirms OPEN", now);
            }
            (Established, Message::Open(_)) => self.fsm_error(direction, 3, "a second OPEN", now),
        }
    }

    fn on_open(&mut self, direction: Direction, open: Open, now: Millis) {
        if let Err((notification, text)) = self.check_open(&open) {
            self.fail(direction, &notification, text, now);
            return;
        }
        let loser = self.collision(direction, &open);
        if let Some(loser) = loser {
            tracing::debug!(peer = %self.config.remote, ?loser, "connection collision");
            self.refuse(loser, &Notification::new(6, 7));
            if loser == direction {
                return;
            }
        }
        self.hold = u64::from(open.hold.min(self.config.hold.0)) * 1000;
        if let Some(connection) = self.slot(direction) {
            connection.state = ConnectionState::OpenConfirm;
            connection.open = Some(open);
        }
        self.send(direction, wire::encode_keepalive());
        self.restart_hold(now);
        self.keepalive_at = (self.hold > 0).then(|| now.plus(self.hold / 3));
    }

    /// RFC 4271 section 6.2, RFC 6286: what an OPEN must be, the notification that says otherwise, and a sentence.
    fn check_open(&self, open: &Open) -> Result<(), (Notification, String)> {
        let config = &self.config;
        if open.asn != config.remote_asn {
            let text = format!(
                "the peer says it is {}, the configuration says {}; correct one of them",
                open.asn, config.remote_asn
            );
            return Err((Notification::new(2, 2), text));
        }
        if open.router_id.is_unspecified()
            || (open.router_id == config.router_id && open.asn == config.local_asn)
        {
            let text = format!(
                "the peer's BGP identifier {} is zero or ours; give it its own router-id",
                open.router_id
            );
            return Err((Notification::new(2, 3), text));
        }
        if open.hold == 1 || open.hold == 2 {
            let text =
                format!("the peer's hold time of {} s is below the 3 s minimum; raise it there", open.hold);
            return Err((Notification::new(2, 6), text));
        }
        if !open.families.iter().any(|family| config.families.contains(family)) {
            let text = "no address family in common; activate IPv4 or IPv6 unicast on both sides".to_owned();
            return Err((Notification::new(2, 7), text));
        }
        Ok(())
    }

    /// Which of two connections has to go (RFC 4271 section 6.8): the one opened by the side with the lower identifier.
    fn collision(&self, direction: Direction, open: &Open) -> Option<Direction> {
        let other = self.connection(direction.other())?;
        if other.state == ConnectionState::Established {
            return Some(direction);
        }
        let ours = (u32::from(self.config.router_id), self.config.local_asn);
        let theirs = (u32::from(open.router_id), open.asn);
        Some(if ours < theirs { Direction::Outgoing } else { Direction::Incoming })
    }

    fn establish(&mut self, direction: Direction, now: Millis) {
        self.restart_hold(now);
        self.established_at = Some(now);
        self.last_error = None;
        self.totals.established += 1;
        if std::mem::take(&mut self.connecting) {
            self.actions.push_back(Action::CancelConnect);
        }
        let hold = Seconds((self.hold / 1000) as u16);
        let offered = self.config.families.clone();
        let peer = self.config.id;
        if let Some(connection) = self.slot(direction) {
            connection.state = ConnectionState::Established;
            let local = connection.local;
            if let Some(open) = &connection.open {
                let families = offered.into_iter().filter(|family| open.families.contains(family)).collect();
                let facts = SessionFacts { router_id: open.router_id, families, hold, local };
                self.actions.push_back(Action::Tell(PeerEvent::Established { peer, facts }));
            }
        }
        if self.connection(direction.other()).is_some() {
            self.refuse(direction.other(), &Notification::new(6, 7));
        }
    }

    fn tell_update(&mut self, update: Update) {
        if update != Update::default() {
            self.actions.push_back(Action::Tell(PeerEvent::Update { peer: self.config.id, update }));
        }
    }

    /// Sends a notification, closes, and ends the session if this was its connection.
    fn fail(&mut self, direction: Direction, notification: &Notification, text: String, now: Millis) {
        self.send(direction, wire::encode_notification(notification));
        self.actions.push_back(Action::Close(direction));
        self.drop_connection(direction, text, now);
    }

    fn fsm_error(&mut self, direction: Direction, subcode: u8, text: &str, now: Millis) {
        self.fail(
            direction,
            &Notification::new(5, subcode),
            format!("{text}; the peer's BGP speaker is at fault"),
            now,
        );
    }

    /// Closes a connection that is not wanted, the session being elsewhere.
    fn refuse(&mut self, direction: Direction, notification: &Notification) {
        self.send(direction, wire::encode_notification(notification));
        self.actions.push_back(Action::Close(direction));
        *self.slot(direction) = None;
    }

    fn drop_connection(&mut self, direction: Direction, text: String, now: Millis) {
        *self.slot(direction) = None;
        if self.connection(direction.other()).is_some() {
            return;
        }
        let stable = self.established_at.is_some_and(|since| now.0 - since.0 >= STABLE);
        if stable {
            self.pause = RETRY_MIN;
        }
        self.end_established(text);
        if self.running {
            self.retry(now);
        }
    }

    fn end_established(&mut self, text: String) {
        (self.hold_at, self.keepalive_at, self.established_at) = (None, None, None);
        self.last_error = Some(text.clone());
        self.actions
            .push_back(Action::Tell(PeerEvent::Down { peer: self.config.id, reason: DownReason(text) }));
    }

    /// Another attempt after a pause that doubles, with jitter (RFC 4271 section 10).
    fn retry(&mut self, now: Millis) {
        self.retry_at = Some(now.plus(self.jittered(self.pause)));
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }

    fn attempt(&mut self) {
        if self.config.passive || !self.running || self.connecting || self.state() >= State::OpenSent {
            return;
        }
        self.connecting = true;
        self.actions.push_back(Action::Connect);
    }

    fn restart_hold(&mut self, now: Millis) {
        self.hold_at = (self.hold > 0).then(|| now.plus(self.hold));
    }

    fn send(&mut self, direction: Direction, bytes: Vec<u8>) {
        self.totals.messages_out += 1;
        self.actions.push_back(Action::Send(direction, bytes));
    }

    fn notified(&self, said: &Notification) -> String {
        let remedy = match (said.code, said.subcode) {
            (2, 2) => "; the peer expects another AS of us: compare `asn` with its configuration",
            (6, 1) => "; we announce more prefixes than it takes: aggregate or announce less",
            (6, 3) => "; the peer has removed us from its configuration",
            _ => "",
        };
        format!("the peer sent NOTIFICATION {}{remedy}", said.describe())
    }

    fn connect_hint(&self, reason: &str) -> String {
        let hint = if self.config.md5.is_some() { " (a wrong MD5 key looks just like this)" } else { "" };
        format!("connecting failed: {reason}{hint}")
    }

    fn established(&self) -> Option<Direction> {
        [Direction::Outgoing, Direction::Incoming].into_iter().find(|direction| {
            self.connection(*direction).is_some_and(|it| it.state == ConnectionState::Established)
        })
    }

    fn connection(&self, direction: Direction) -> Option<&Connection> {
        match direction {
            Direction::Outgoing => self.outgoing.as_ref(),
            Direction::Incoming => self.incoming.as_ref(),
        }
    }

    fn slot(&mut self, direction: Direction) -> &mut Option<Connection> {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }

    /// 75 % to 100 % of a time (RFC 4271 section 10), from a 64-bit LCG (Knuth, MMIX).
    fn jittered(&mut self, millis: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        millis * 3 / 4 + (self.seed >> 33) % (millis / 4 + 1)
    }
}

#[cfg(test)]
mod tests;
