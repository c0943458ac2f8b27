//! The machine in virtual time: every state with every message, two machines against each other, collisions, timers.

use std::net::Ipv4Addr;

use super::*;
use crate::bgp::{AsPath, Asn, Origin, PathAttributes, PeerId};

const OURS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

fn config(local: (u32, Ipv4Addr), remote: (u32, Ipv4Addr)) -> PeerConfig {
    PeerConfig {
        id: PeerId(0),
        local_asn: Asn(local.0),
        remote_asn: Asn(remote.0),
        router_id: local.1,
        local: local.1.into(),
        remote: remote.1.into(),
        interface: None,
        hold: Seconds(180),
        passive: false,
        md5: None,
        families: vec![Family::Ipv4Unicast, Family::Ipv6Unicast],
    }
}

fn ours() -> Session {
    let mut session = Session::new(config((65010, OURS), (12076, THEIRS)), 1);
    session.handle_start();
    session
}

fn theirs() -> Session {
    let mut session = Session::new(config((12076, THEIRS), (65010, OURS)), 2);
    session.handle_start();
    session
}

fn actions(session: &mut Session) -> Vec<Action> {
    std::iter::from_fn(|| session.poll_action()).collect()
}

fn open(change: impl FnOnce(&mut Open)) -> Vec<u8> {
    let mut open = Open {
        asn: Asn(12076),
        hold: 90,
        router_id: THEIRS,
        families: vec![Family::Ipv4Unicast, Family::Ipv6Unicast],
        four_octet: true,
        route_refresh: true,
    };
    change(&mut open);
    wire::encode_open(&open)
}

/// The codes of the notifications among some actions.
fn notified(actions: &[Action]) -> Vec<(u8, u8)> {
    let code = |action: &Action| match action {
        Action::Send(_, bytes) => match wire::decode(bytes, true) {
            Ok(Message::Notification(said)) => Some((said.code, said.subcode)),
            _ => None,
        },
        _ => None,
    };
    actions.iter().filter_map(code).collect()
}

fn down(actions: &[Action]) -> Option<String> {
    actions.iter().find_map(|action| match action {
        Action::Tell(PeerEvent::Down { reason, .. }) => Some(reason.to_string()),
        _ => None,
    })
}

/// A session in a state, over its outgoing connection.
fn in_state(state: State) -> Session {
    let mut session = ours();
    session.handle_connected(Direction::Outgoing, OURS.into(), Millis(0));
    if state >= State::OpenConfirm {
        session.handle_bytes(Direction::Outgoing, &open(|_| {}), Millis(0));
    }
    if state >= State::Established {
        session.handle_bytes(Direction::Outgoing, &wire::encode_keepalive(), Millis(0));
    }
    assert_eq!(session.state(), state);
    actions(&mut session);
    session
}

fn update() -> Update {
    Update {
        announced: vec!["20.0.0.0/8".parse().expect("a prefix"), "20.1.0.0/16".parse().expect("a prefix")],
        attributes: Some(std::sync::Arc::new(PathAttributes {
            origin: Origin::Igp,
            as_path: AsPath::sequence([12076, 8075]),
            next_hop: THEIRS.into(),
            med: Some(5),
            local_pref: None,
            communities: vec![crate::bgp::Community(12076 << 16 | 51010)],
            large_communities: vec![],
            unknown_transitive: vec![],
        })),
        ..Update::default()
    }
}

/// RFC 4271 section 8.2.2 and RFC 6608: the table of states and messages.
#[test]
fn every_message_in_every_state_does_what_the_rfc_says() {
    let update = || wire::encode_update(&update(), true).0.concat();
    let keepalive = wire::encode_keepalive;
    let refresh = || {
        let mut message = vec![0xff; 16];
        message.extend([0, 23, 5, 0, 1, 0, 1]);
        message
    };
    let cease = || wire::encode_notification(&Notification::new(6, 4));
    let good_open = || open(|_| {});
    type Row = (State, Vec<u8>, State, Option<(u8, u8)>);
    let rows: [Row; 15] = [
        (State::OpenSent, good_open(), State::OpenConfirm, None),
        (State::OpenSent, keepalive(), State::Active, Some((5, 1))),
        (State::OpenSent, update(), State::Active, Some((5, 1))),
        (State::OpenSent, refresh(), State::Active, Some((5, 1))),
        (State::OpenSent, cease(), State::Active, None),
        (State::OpenConfirm, good_open(), State::Active, Some((5, 2))),
        (State::OpenConfirm, keepalive(), State::Established, None),
        (State::OpenConfirm, update(), State::Active, Some((5, 2))),
        (State::OpenConfirm, refresh(), State::Active, Some((5, 2))),
        (State::OpenConfirm, cease(), State::Active, None),
        (State::Established, good_open(), State::Active, Some((5, 3))),
        (State::Established, keepalive(), State::Established, None),
        (State::Established, update(), State::Established, None),
        (State::Established, refresh(), State::Established, None),
        (State::Established, cease(), State::Active, None),
    ];
    for (before, message, after, notification) in rows {
        let mut session = in_state(before);
        session.handle_bytes(Direction::Outgoing, &message, Millis(10));
        let actions = actions(&mut session);
        let kind = message[18];
        assert_eq!(session.state(), after, "{before:?} and message type {kind}");
        assert_eq!(
            notified(&actions),
            notification.into_iter().collect::<Vec<_>>(),
            "{before:?} and type {kind}"
        );
        assert_eq!(down(&actions).is_some(), after == State::Active, "{before:?} and message type {kind}");
        if after == State::Active {
            assert!(session.poll_deadline().is_some(), "another attempt is due");
        }
    }
}

/// RFC 4271 section 6.2, RFC 6286 and RFC 5492: each wrong OPEN has its own answer and a sentence with a remedy.
#[test]
fn a_wrong_open_is_refused_with_its_own_code() {
    type Change = fn(&mut Open);
    let rows: [(Change, (u8, u8), &str); 5] = [
        (|open| open.asn = Asn(65000), (2, 2), "AS65000"),
        (|open| open.router_id = Ipv4Addr::UNSPECIFIED, (2, 3), "router-id"),
        (|open| open.hold = 2, (2, 6), "3 s minimum"),
        (|open| open.hold = 1, (2, 6), "3 s minimum"),
        (|open| open.families.clear(), (0, 0), ""),
    ];
    for (change, code, text) in rows {
        let mut session = in_state(State::OpenSent);
        session.handle_bytes(Direction::Outgoing, &open(change), Millis(10));
        let actions = actions(&mut session);
        if code == (0, 0) {
            // Without any multiprotocol capability the peer speaks IPv4 unicast (RFC 4760 section 8).
            assert_eq!(session.state(), State::OpenConfirm);
            continue;
        }
        assert_eq!(notified(&actions), [code]);
        assert!(down(&actions).expect("down").contains(text), "{actions:?}");
    }
}

/// Carries bytes between two machines, connections by name: ours outgoing is theirs incoming.
fn shuttle(ours: &mut Session, theirs: &mut Session, now: Millis) -> (Vec<PeerEvent>, Vec<PeerEvent>) {
    let (mut to_us, mut to_them) = (Vec::new(), Vec::new());
    while carry(ours, theirs, &mut to_us, now) | carry(theirs, ours, &mut to_them, now) {}
    (to_us, to_them)
}

/// Carries out the actions of one; the answer is whether there were any.
fn carry(from: &mut Session, to: &mut Session, told: &mut Vec<PeerEvent>, now: Millis) -> bool {
    let actions = actions(from);
    let busy = !actions.is_empty();
    for action in actions {
        match action {
            Action::Send(direction, bytes) => to.handle_bytes(direction.other(), &bytes, now),
            Action::Close(direction) => to.handle_closed(direction.other(), "by the peer", now),
            Action::Tell(event) => told.push(event),
            Action::Connect | Action::CancelConnect => {}
        }
    }
    busy
}

/// RFC 4271 section 6.8.
#[test]
fn of_two_colliding_connections_the_one_of_the_higher_identifier_survives() {
    let (mut ours, mut theirs) = (ours(), theirs());
    for direction in [Direction::Outgoing, Direction::Incoming] {
        ours.handle_connected(direction, OURS.into(), Millis(0));
        theirs.handle_connected(direction, THEIRS.into(), Millis(0));
    }
    let (to_us, to_them) = shuttle(&mut ours, &mut theirs, Millis(5));
    assert_eq!((ours.state(), theirs.state()), (State::Established, State::Established));
    assert!(
        ours.outgoing.is_none() && theirs.incoming.is_none(),
        "198.18.0.2 is higher: its connection survives"
    );
    for told in [to_us, to_them] {
        assert!(matches!(told.as_slice(), [PeerEvent::Established { .. }]), "{told:?}");
    }
}

#[test]
fn the_lower_hold_time_wins_and_keepalives_keep_the_session() {
    let mut session = in_state(State::Established);
    assert_eq!(session.hold, 90_000, "RFC 4271 section 4.2: the smaller of the two");
    let mut kept = 0;
    for at in (0..300).map(|second| Millis(second * 1000)) {
        session.handle_bytes(Direction::Outgoing, &wire::encode_keepalive(), at);
        session.handle_timeout(at);
        kept += actions(&mut session).len();
    }
    assert_eq!(session.state(), State::Established);
    assert!((9..=14).contains(&kept), "{kept} keepalives in 300 s with a third of 90 s and jitter");
}

#[test]
fn silence_ends_the_session_when_the_hold_time_is_over() {
    let mut session = in_state(State::Established);
    session.handle_timeout(Millis(89_999));
    assert_eq!(session.state(), State::Established);
    session.handle_timeout(Millis(90_000));
    let actions = actions(&mut session);
    assert_eq!(notified(&actions), [(4, 0)], "RFC 4271 section 6.5");
    assert!(down(&actions).expect("down").contains("hold timer expired"));
}

#[test]
fn attempts_pause_longer_and_longer_up_to_a_limit_and_a_stable_session_starts_over() {
    let mut session = ours();
    let mut now = Millis(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(actions(&mut session), [Action::Connect]);
        session.handle_connect_failed("refused", now);
        let next = session.poll_deadline().expect("a retry");
        pauses.push(next.0 - now.0);
        now = next;
        session.handle_timeout(now);
    }
    assert!((750..=1000).contains(&pauses[0]) && (22_500..=30_000).contains(&pauses[7]), "{pauses:?}");
    actions(&mut session);
    session.handle_connected(Direction::Outgoing, OURS.into(), now);
    session.handle_bytes(Direction::Outgoing, &open(|_| {}), now);
    session.handle_bytes(Direction::Outgoing, &wire::encode_keepalive(), now);
    let later = Millis(now.0 + STABLE);
    session.handle_closed(Direction::Outgoing, "by the peer", later);
    assert!(session.poll_deadline().expect("a retry").0 - later.0 <= 1000);
}

#[test]
fn a_stop_says_why_and_makes_no_further_attempt() {
    let mut session = in_state(State::Established);
    session.handle_stop("maintenance until 6");
    let actions = actions(&mut session);
    assert_eq!(notified(&actions), [(6, 2)]);
    let said = actions.iter().find_map(|action| match action {
        Action::Send(_, bytes) => wire::decode(bytes, true).ok(),
        _ => None,
    });
    let Some(Message::Notification(said)) = said else { panic!("{actions:?}") };
    assert!(said.describe().contains("maintenance until 6"), "RFC 9003: {}", said.describe());
    assert_eq!((session.state(), session.poll_deadline()), (State::Idle, None));
}

#[test]
fn updates_arrive_as_they_were_sent_and_only_when_established() {
    let (mut ours, mut theirs) = (ours(), theirs());
    theirs.handle_send(&update());
    ours.handle_connected(Direction::Outgoing, OURS.into(), Millis(0));
    theirs.handle_connected(Direction::Incoming, THEIRS.into(), Millis(0));
    shuttle(&mut ours, &mut theirs, Millis(0));
    theirs.handle_send(&update());
    let (to_us, _) = shuttle(&mut ours, &mut theirs, Millis(1));
    assert_eq!(to_us, [PeerEvent::Update { peer: PeerId(0), update: update() }]);
}

#[test]
fn bytes_may_come_in_any_portions() {
    let mut session = in_state(State::Established);
    let stream: Vec<u8> = wire::encode_update(&update(), true).0.concat().repeat(3);
    for portion in stream.chunks(7) {
        session.handle_bytes(Direction::Outgoing, portion, Millis(1));
    }
    assert_eq!(actions(&mut session).len(), 3);
}

#[test]
fn a_bad_marker_is_answered_and_ends_the_connection() {
    let mut session = in_state(State::Established);
    session.handle_bytes(Direction::Outgoing, &[0; 19], Millis(1));
    let actions = actions(&mut session);
    assert_eq!(notified(&actions), [(1, 1)], "RFC 4271 section 6.1");
    assert_eq!(session.state(), State::Active);
}
