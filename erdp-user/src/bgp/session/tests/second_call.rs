//! A peer that calls while its session is Established: with graceful restart the call ends the old connection, without it the call is
//! refused and the old connection is tried.

use super::super::super::{GracefulRestart, Kept};
use super::agreed::{V4, V6, restart, with_open};
use super::*;

fn their_restart() -> GracefulRestart {
    restart(false, &[(V4, true), (V6, true)])
}

/// A session that has lasted for a minute, with what the peer offers for a restart.
fn lasting(config: PeerConfig, offered: Option<GracefulRestart>) -> (Bench, ConnId) {
    let (mut bench, conn) = with_open(config, |open| open.restart = offered);
    bench.pass(60);
    bench.hear(conn, &encode_keepalive());
    bench.actions();
    (bench, conn)
}

fn calls(bench: &mut Bench, open: &Open) -> ConnId {
    let conn = bench.session.handle_accepted(bench.now);
    bench.hear(conn, &encode_open(open).unwrap());
    conn
}

fn kinds(actions: &[Action], conn: ConnId) -> Vec<u8> {
    sent(actions, conn).iter().map(|message| message[18]).collect()
}

fn closes(actions: &[Action], conn: ConnId) -> bool {
    actions.contains(&Action::Close(conn))
}

#[test]
fn rfc4724_4_2_a_call_of_a_peer_with_graceful_restart_ends_the_old_connection_and_keeps_the_routes() {
    for (name, dialled_by_us) in [("we had called", true), ("the peer had called", false)] {
        let passive = PeerConfig { passive: !dialled_by_us, ..config() };
        let mut bench = Bench::new(passive);
        let old = if dialled_by_us { bench.dial() } else { bench.session.handle_accepted(bench.now) };
        let open = Open { restart: Some(their_restart()), ..their_open([10, 0, 0, 1]) };
        bench.hear(old, &encode_open(&open).unwrap());
        bench.hear(old, &encode_keepalive());
        bench.pass(20);
        bench.actions();

        let new = calls(&mut bench, &open);
        let actions = bench.actions();
        assert!(closes(&actions, old) && !closes(&actions, new), "{name}: {actions:?}");
        assert!(sent(&actions, old).is_empty(), "{name}: no NOTIFICATION on the connection that is no more");
        assert_eq!(kinds(&actions, new), [1, 4], "{name}: our OPEN and KEEPALIVE");
        let kept = actions.iter().find_map(|action| match action {
            Action::Tell(PeerEvent::Down { kept, reason, .. }) => Some((kept.clone(), reason.to_string())),
            _ => None,
        });
        let (kept, reason) = kept.expect("the old session is over");
        assert_eq!(kept, Some(Kept { families: vec![V4, V6], wait: Seconds(90) }), "{name}");
        assert!(reason.contains("restarted without ending the session"), "{reason}");
        assert_eq!(bench.session.state(), State::OpenConfirm);
        bench.hear(new, &encode_keepalive());
        assert_eq!((bench.session.state(), bench.session.counters().established), (State::Established, 2));
        // The old connection's end is no news.
        bench.session.handle_lost(bench.now, old, Loss::Failed("reset".to_owned()));
        assert_eq!(bench.session.state(), State::Established, "{name}");
    }
}

#[test]
fn rfc4271_6_8_without_graceful_restart_a_second_call_is_refused_and_the_old_connection_is_tried() {
    let never = PeerConfig { restart_time: Seconds(0), ..config() };
    let rows = [
        ("the peer offers none", config(), None),
        ("the peer offers End-of-RIB only", config(), Some(restart(true, &[]))),
        ("we do not help", never, Some(their_restart())),
        ("without a hold time", PeerConfig { hold: Seconds(0), ..config() }, None),
    ];
    for (name, config, offered) in rows {
        let (mut bench, old) = lasting(config, offered);
        let new = bench.session.handle_accepted(bench.now);
        let actions = bench.actions();
        assert_eq!(sent(&actions, new)[0][18..21], [3, 6, 7], "{name}");
        assert!(closes(&actions, new), "{name}");
        assert_eq!(kinds(&actions, old), [4], "{name}: a peer that has forgotten the connection resets it");
        assert_eq!(bench.session.state(), State::Established, "{name}");
        // RFC 4271 section 4.4: no more than one KEEPALIVE in a second.
        for (second, expected) in [(0, 0), (1, 1)] {
            bench.now = bench.now + Duration::from_secs(second);
            bench.session.handle_accepted(bench.now);
            assert_eq!(kinds(&bench.actions(), old).len(), expected, "{name}: after {second} s");
        }
    }
}

#[test]
fn only_an_acceptable_open_ends_the_old_connection() {
    let good = Open { restart: Some(their_restart()), ..their_open([10, 0, 0, 1]) };
    let open = encode_open(&good).unwrap();
    let wrong_as = encode_open(&Open { asn: Asn(64_512), ..good }).unwrap();
    let cease = encode_notification(&Notification::cease(Cease::CollisionResolution, ""));
    /// Name, what the call says, what is said to it, whether it is closed.
    type Row<'a> = (&'a str, Vec<u8>, Option<[u8; 3]>, bool);
    let rows: [Row<'_>; 6] = [
        ("nothing", vec![], None, false),
        ("half an OPEN", open[..30].to_vec(), None, false),
        ("another AS", wrong_as, Some([3, 2, 2]), true),
        ("KEEPALIVE", encode_keepalive(), None, true),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), None, true),
        ("an OPEN that is taken back", [open.clone(), cease].concat(), None, true),
    ];
    for (name, said, answer, is_closed) in rows {
        let (mut bench, old) = lasting(config(), Some(their_restart()));
        let new = bench.session.handle_accepted(bench.now);
        bench.hear(new, &said);
        let actions = bench.actions();
        let answered = sent(&actions, new).first().map(|message| [message[18], message[19], message[20]]);
        assert_eq!((answered, closes(&actions, new)), (answer, is_closed), "{name}");
        assert!(!closes(&actions, old) && bench.session.state() == State::Established, "{name}");
    }
    // In two pieces it counts when it is whole.
    let (mut bench, old) = lasting(config(), Some(their_restart()));
    let new = bench.session.handle_accepted(bench.now);
    bench.hear(new, &open[..30]);
    bench.hear(new, &open[30..]);
    assert!(closes(&bench.actions(), old));
}

#[test]
fn a_call_that_crosses_the_session_that_comes_up_has_a_second_to_be_taken_back() {
    let open = Open { restart: Some(their_restart()), ..their_open([10, 0, 0, 1]) };
    let young = || {
        let (mut bench, old) = with_open(config(), |theirs| theirs.restart = Some(their_restart()));
        let new = calls(&mut bench, &open);
        assert_eq!(bench.actions(), [], "neither is closed yet");
        (bench, old, new)
    };
    // The peer closes the call that lost the collision.
    let (mut bench, old, new) = young();
    bench.session.handle_lost(bench.now, new, Loss::Failed("closed by the peer".to_owned()));
    bench.pass(10);
    assert!(!closes(&bench.actions(), old) && bench.session.state() == State::Established);
    // It does not: it has restarted indeed.
    let (mut bench, old, new) = young();
    bench.pass(1);
    let actions = bench.actions();
    assert!(closes(&actions, old), "{actions:?}");
    assert_eq!(kinds(&actions, new), [1, 4]);
}

#[test]
fn a_call_that_is_held_for_four_minutes_without_an_open_is_given_up() {
    let hold = |bench: &mut Bench| {
        bench.session.handle_close(bench.now, Gate::Bfd, "");
        bench.actions();
    };
    for (name, closed_gate) in [("in Established", false), ("in Idle", true)] {
        let (mut bench, old) = lasting(config(), Some(their_restart()));
        if closed_gate {
            hold(&mut bench);
        }
        let new = bench.session.handle_accepted(bench.now);
        for _ in 0..4 {
            bench.pass(59);
            bench.hear(old, &encode_keepalive());
        }
        assert!(!closes(&bench.actions(), new), "{name}: 236 s");
        bench.pass(4);
        let actions = bench.actions();
        assert!(closes(&actions, new), "{name}: 240 s");
        assert_eq!(sent(&actions, new)[0][18..21], [3, 4, 0], "{name}");
    }
}

#[test]
fn a_session_that_was_taken_over_knows_the_peers_restart_and_a_held_call_hinders_no_take_over() {
    let (bench, _) = lasting(config(), Some(their_restart()));
    let mut bench = bench;
    let held = bench.session.handle_accepted(bench.now);
    let state = bench.session.hand_over(bench.now).expect("established");
    assert_ne!(bench.session.connection(), Some(held));
    let now = Moment(Duration::from_millis(state.established_ms));
    let (session, old, _) = Session::resume(config(), 2, state, now).unwrap();
    let mut bench = Bench { session, now };
    let open = Open { restart: Some(their_restart()), ..their_open([10, 0, 0, 1]) };
    let new = calls(&mut bench, &open);
    let actions = bench.actions();
    assert!(closes(&actions, old) && kinds(&actions, new) == [1, 4], "{actions:?}");
    let is_kept = |action: &Action| matches!(action, Action::Tell(PeerEvent::Down { kept: Some(_), .. }));
    assert!(actions.iter().any(is_kept), "{actions:?}");
}
