//! An established session in the hands of another process: what it must know to go on as if nothing had happened.
//!
//! Both OPENs travel as they were on the wire, and the other process negotiates again from them, so that it may be of another
//! version: whatever it has learned to negotiate in between was not offered, and is not used. Timers do not travel: the hold timer
//! begins anew (the peer is heard within its keepalive interval) and a keepalive is due at once. Bytes that are not yet a whole
//! message do travel, in both directions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::wire::{self, Message};
use super::super::{PeerConfig, SessionFacts};
use super::machine::Machine;
use super::open;
use super::time::{Moment, Timer};
use super::{ConnId, Counters, Session, State, Which};

/// The state of an established session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    /// Our OPEN.
    pub said: Vec<u8>,
    /// The peer's OPEN.
    pub heard: Vec<u8>,
    /// We connected, the peer did not.
    pub dialled: bool,
    /// Received bytes that are not yet a whole message.
    pub inbox: Vec<u8>,
    /// What went over it.
    pub counters: Counters,
    /// For how long it is established, in milliseconds.
    pub established_ms: u64,
}

impl SessionState {
    /// The hold time that was agreed on (RFC 4271 section 4.2); `None`: neither side sends keepalives.
    pub fn hold(&self) -> Option<Duration> {
        let of = |bytes: &[u8]| match wire::decode(bytes, &wire::Context::default()) {
            Ok(Message::Open(open)) => Some(open.hold.duration()),
            _ => None,
        };
        let hold = of(&self.said)?.min(of(&self.heard)?);
        Some(hold).filter(|hold| !hold.is_zero())
    }
}

impl Session {
    /// Its state, if it is established; nothing must be done with this one any more.
    pub fn hand_over(&self, now: Moment) -> Option<SessionState> {
        let machine = &self.main;
        if machine.state != State::Established || machine.conn.is_none() || self.rival.is_some() {
            return None;
        }
        Some(SessionState {
            said: machine.said.clone(),
            heard: machine.heard.clone(),
            dialled: machine.dialled,
            inbox: machine.inbox.clone(),
            counters: self.counters,
            established_ms: (now - self.since).as_millis() as u64,
        })
    }

    /// The session that another process has handed over, with the name of its connection. `now` is as long after the start of
    /// the driver's clock as the session is old. The error says why it cannot go on under this configuration.
    pub fn resume(
        config: PeerConfig,
        seed: u64,
        state: SessionState,
        now: Moment,
    ) -> Result<(Self, ConnId, SessionFacts), String> {
        let [said, heard] =
            [&state.said, &state.heard].map(|bytes| match wire::decode(bytes, &wire::Context::default()) {
                Ok(Message::Open(open)) => Ok(open),
                other => Err(format!("its OPEN is none: {other:?}")),
            });
        let (said, mut heard) = (said?, heard?);
        if (said.asn, said.router_id) != (config.local_asn, config.router_id) {
            return Err(format!(
                "it was opened as {} with identifier {}, the configuration says {} and {}",
                said.asn, said.router_id, config.local_asn, config.router_id
            ));
        }
        // What was offered then counts, not what would be offered now.
        heard.four_octet_asn &= said.four_octet_asn;
        heard.route_refresh &= said.route_refresh;
        heard.enhanced_refresh &= said.enhanced_refresh;
        heard.extended_messages &= said.extended_messages;
        let add_path = !said.add_path.is_empty();
        let offered = PeerConfig { hold: said.hold, families: said.families, add_path, ..config.clone() };
        let agreed = open::negotiate(&offered, &heard, config.local).map_err(|refusal| refusal.detail)?;
        let mut session = Self::new(config, seed);
        session.ids = 1;
        session.counters = state.counters;
        let conn = ConnId(session.ids);
        let mut agreed = Box::new(agreed);
        agreed.facts.session = state.counters.established;
        let facts = agreed.facts.clone();
        session.main = Machine {
            state: State::Established,
            conn: Some(conn),
            dialled: state.dialled,
            agreed: Some(agreed),
            inbox: state.inbox,
            said: state.said,
            heard: state.heard,
            ..Machine::new()
        };
        session.backoff.established(Moment::default());
        session.with(Which::Main, now, Machine::restart_hold);
        if facts.hold.0 > 0 {
            session.main.timers.set(Timer::Keepalive, now);
        }
        Ok((session, conn, facts))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::super::{Action, Asn, PeerId, Seconds};
    use super::*;

    fn config(asns: [u32; 2], id: u8) -> PeerConfig {
        let address = |host: u8| IpAddr::V4(Ipv4Addr::new(198, 18, 0, host));
        let router_id = Ipv4Addr::new(198, 18, 0, id);
        PeerConfig::new(PeerId(0), (Asn(asns[0]), Asn(asns[1])), router_id, address(id), address(3 - id))
    }

    /// Lets two sessions talk over one connection until nothing is left to say.
    fn talk(sessions: &mut [Session; 2], conns: [ConnId; 2], now: Moment) {
        loop {
            let mut said = false;
            for side in [0, 1] {
                while let Some(action) = sessions[side].poll_action() {
                    if let Action::Send(_, bytes) = action {
                        said = true;
                        sessions[1 - side].handle_bytes(now, conns[1 - side], &bytes);
                    }
                }
            }
            if !said {
                return;
            }
        }
    }

    fn established() -> ([Session; 2], [ConnId; 2]) {
        let now = Moment(Duration::from_secs(1));
        let mut one = Session::new(config([65_001, 65_002], 1), 1);
        let mut two = Session::new(PeerConfig { passive: true, ..config([65_002, 65_001], 2) }, 2);
        one.handle_start(now);
        two.handle_start(now);
        let Some(Action::Connect(dialled)) = one.poll_action() else { panic!("it does not connect") };
        let conns = [dialled, two.handle_accepted(now)];
        one.handle_connected(now, dialled);
        let mut sessions = [one, two];
        talk(&mut sessions, conns, now);
        assert!(sessions.iter().all(|session| session.state() == State::Established));
        (sessions, conns)
    }

    #[test]
    fn an_established_session_goes_on_elsewhere_with_half_a_message_and_its_age() {
        let ([one, mut two], conns) = established();
        let at = Moment(Duration::from_secs(41));
        let keepalive = wire::encode_keepalive();
        let mut one = one;
        one.handle_bytes(at, conns[0], &keepalive[..7]);
        let state = one.hand_over(at).expect("established");
        let text = serde_json::to_string(&state).expect("JSON");
        let state: SessionState = serde_json::from_str(&text).expect("the same");
        assert_eq!((state.established_ms, state.inbox.len()), (40_000, 7));
        let age = Moment(Duration::from_millis(state.established_ms));
        let (mut here, conn, facts) =
            Session::resume(config([65_001, 65_002], 1), 3, state, age).expect("it fits");
        assert_eq!(Some(&facts), one.facts(), "negotiated as before");
        here.handle_bytes(age, conn, &keepalive[7..]);
        assert_eq!(
            (here.state(), here.counters().messages_in),
            (State::Established, one.counters().messages_in + 1)
        );
        // A keepalive is due at once, and the peer takes it for what it is.
        here.handle_timeout(age);
        let Some(Action::Send(_, bytes)) = here.poll_action() else { panic!("it says nothing") };
        two.handle_bytes(at, conns[1], &bytes);
        assert_eq!(two.state(), State::Established);
        assert_eq!(here.poll_action(), None);
    }

    #[test]
    fn a_session_under_another_identity_or_one_that_is_not_up_is_not_handed_over() {
        let ([one, _], _) = established();
        let state = one.hand_over(Moment::default()).expect("established");
        let other = PeerConfig { local_asn: Asn(65_009), ..config([65_001, 65_002], 1) };
        let error = Session::resume(other, 1, state, Moment::default()).expect_err("another AS");
        assert!(error.contains("AS65001") && error.contains("AS65009"), "{error}");
        assert_eq!(Session::new(config([1, 2], 1), 1).hand_over(Moment::default()), None);
    }

    #[test]
    fn what_is_offered_now_does_not_change_what_was_agreed() {
        let ([one, _], _) = established();
        let state = one.hand_over(Moment::default()).expect("established");
        let other = PeerConfig { hold: Seconds(9), ..config([65_001, 65_002], 1) };
        let (_, _, facts) = Session::resume(other, 1, state, Moment::default()).expect("it fits");
        assert_eq!(facts.hold, Seconds(180));
    }
}
