//! A peer that calls although its session is Established.
//!
//! A peer that restarts without ending its session is heard of first by its next call. Where it has offered graceful restart, that
//! call is the end of the old connection (RFC 4724 sections 4.2 and 5): the old one is closed without a NOTIFICATION, the routes are
//! kept, and the session goes on over the new one. The call is *held* until it has brought an OPEN that we accept: whoever merely
//! connects, or is not this peer, ends nothing. Calls of both sides may also cross while a session comes up, and then the peer closes
//! the call that lost. Therefore a session that is younger than [`CROSSING`] waits that long for the peer to do so.
//!
//! A call on which nothing is said keeps nobody out, at whatever time it comes: it makes room for the next one, ends after
//! half a minute, and after a few seconds we call the peer ourselves beside it.
//!
//! Without graceful restart the new connection is closed with Cease/7 (RFC 4271 section 6.8). A KEEPALIVE goes out over the old one at
//! once: a peer that does not know that connection any more resets it.

use std::time::Duration;

use super::super::{Cease, wire};
use super::machine::{Event, Machine};
use super::time::{Moment, Timer};
use super::{Action, ConnId, Loss, Session, State, Which};

/// For so long after a session came up, a call may be one that the peer is about to close.
const CROSSING: Duration = Duration::from_secs(1);
/// Between two KEEPALIVEs at least (RFC 4271 section 4.4).
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What a held call has said so far.
enum Opening {
    /// Not a whole message.
    Nothing,
    /// An OPEN, and nothing that ends the connection again.
    Open(Vec<u8>),
    /// Something else.
    Other,
}

impl Session {
    /// The peer calls in Established.
    pub(super) fn called_in_established(&mut self, conn: ConnId, now: Moment) {
        if self.main.agreed.as_ref().is_some_and(|agreed| agreed.facts.kept().is_some()) {
            return self.hold_call(conn, now);
        }
        self.refuse(conn, Cease::CollisionResolution);
        if self.probed.is_none_or(|last| now - last >= PROBE_EVERY) {
            self.probed = Some(now);
            self.with(Which::Main, now, Machine::send_keepalive);
        }
    }

    /// A call has said nothing for [`super::machine::CALL_PATIENCE`]: it may go on waiting, and we call the peer all the same.
    pub(super) fn call_beside(&mut self, now: Moment) {
        if self.config.passive {
            return;
        }
        match &self.rival {
            // Something is said on the other connection.
            Some(rival) if !rival.is_silent_call() => return,
            // Of two silent calls the older one has waited for long enough: the younger takes its place.
            Some(_) => self.step(Which::Main, Event::CollisionLost, now),
            None => {}
        }
        self.rival = Some(std::mem::replace(&mut self.main, Machine::new()));
        self.step(Which::Main, Event::Start, now);
    }

    /// A held call has said something, or has waited long enough; in Established it may end the old connection.
    pub(super) fn judge_held(&mut self, now: Moment) {
        let Some((conn, inbox)) = self.held.as_ref().and_then(|held| Some((held.conn?, &held.inbox))) else {
            return;
        };
        if self.main.state != State::Established {
            return;
        }
        match opening(inbox) {
            Opening::Nothing => {}
            Opening::Other => self.drop_held(),
            Opening::Open(message) => match self.classify(&message, &wire::Context::default()) {
                Event::Open(_) => self.follow_call(now),
                Event::Fault(refusal) => {
                    self.held = None;
                    self.say_and_close(conn, &refusal.notification);
                }
                _ => self.drop_held(),
            },
        }
    }

    /// The peer has restarted: on with the call that says so, unless the session is so young that calls may have crossed.
    fn follow_call(&mut self, now: Moment) {
        let settled = self.since + CROSSING;
        if now < settled {
            if let Some(held) = &mut self.held {
                held.timers.set(Timer::ConnectRetry, settled);
            }
            return;
        }
        let detail = "it has restarted without ending the session, and calls anew (RFC 4724 section 4.2)";
        self.step(Which::Main, Event::Lost(Loss::Failed(detail.to_owned())), now);
        self.begin(Event::Start, now);
    }

    fn drop_held(&mut self) {
        if let Some(Machine { conn: Some(conn), .. }) = self.held.take() {
            self.actions.push_back(Action::Close(conn));
        }
    }
}

fn opening(inbox: &[u8]) -> Opening {
    const OPEN: u8 = 1;
    const NOTIFICATION: u8 = 3;
    let kind = |message: &[u8]| message.get(wire::HEADER_BYTES - 1).copied();
    let length = match wire::message_length(inbox) {
        Ok(Some(length)) if kind(inbox) == Some(OPEN) => length,
        Ok(None) => return Opening::Nothing,
        Ok(Some(_)) | Err(_) => return Opening::Other,
    };
    match inbox.split_at_checked(length) {
        Some((_, rest)) if kind(rest) == Some(NOTIFICATION) => Opening::Other,
        Some((open, _)) => Opening::Open(open.to_vec()),
        None => Opening::Nothing,
    }
}
