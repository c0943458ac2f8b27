//! Gates, calls that are held, and waits that end.

use super::*;

const EXCESS: Excess = Excess::Prefixes { family: Family::Ipv4Unicast, limit: 10 };

/// What the peer says first.
fn theirs() -> Vec<u8> {
    encode_open(&their_open([10, 0, 0, 1])).unwrap()
}

fn is_answered(bench: &mut Bench, conn: ConnId) -> bool {
    let actions = bench.actions();
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Connect(_))),
        "dialled as well: {actions:?}"
    );
    bench.session.state() == State::OpenConfirm && sent(&actions, conn).len() == 2
}

fn is_refused(bench: &mut Bench, conn: ConnId) -> bool {
    let refusal = encode_notification(&Notification::cease(Cease::ConnectionRejected, ""));
    let expected = [Action::Send(conn, refusal), Action::Close(conn)];
    bench.actions() == expected
}

#[test]
fn b5_a_call_while_bfd_is_waited_for_is_held_and_answered_when_it_is_up() {
    let mut bench = Bench::new(config());
    bench.session.handle_close(at(0), Gate::Bfd, "");
    bench.actions();
    let conn = bench.session.handle_accepted(at(1));
    bench.hear(conn, &theirs());
    bench.pass(50);
    assert_eq!(
        (bench.actions(), bench.session.state()),
        (vec![], State::Idle),
        "neither answered nor turned away"
    );
    bench.session.handle_open(bench.now, Gate::Bfd);
    assert!(is_answered(&mut bench, conn));
    bench.hear(conn, &encode_keepalive());
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn who_calls_in_idle_is_held_if_we_come_back_by_ourselves_and_refused_otherwise() {
    type Before = fn(&mut Bench);
    let fail: Before = |bench| {
        let conn = bench.dial();
        bench.session.handle_lost(bench.now, conn, Loss::Failed("reset".to_owned()));
    };
    let close = [
        |bench: &mut Bench| bench.session.handle_close(bench.now, Gate::Operator, "rack 7"),
        |bench: &mut Bench| bench.session.handle_close(bench.now, Gate::Bfd, ""),
        |bench: &mut Bench| bench.session.handle_close(bench.now, Gate::Carrier, ""),
    ];
    let stop: Before = |bench| bench.session.handle_stop(bench.now, Cease::PeerDeconfigured, "");
    let overflow: Before = |bench| {
        bench.dial();
        bench.session.handle_overflow(bench.now, EXCESS, Seconds(60));
    };
    let rows: [(&str, &[Before], bool); 9] = [
        ("after a failure", &[fail], true),
        ("an operator", &[close[0]], false),
        ("BFD", &[close[1]], true),
        ("the carrier", &[close[2]], true),
        ("BFD and the carrier", &[close[1], close[2]], true),
        ("BFD and an operator", &[close[1], close[0]], false),
        ("stopped for good", &[stop], false),
        ("too many prefixes", &[overflow], false),
        ("too many prefixes, then BFD", &[overflow, close[1]], false),
    ];
    for (name, before, is_held) in rows {
        let mut bench = Bench::new(config());
        before.iter().for_each(|step| step(&mut bench));
        bench.actions();
        assert_eq!(bench.session.state(), State::Idle, "{name}");
        let conn = bench.session.handle_accepted(bench.now);
        if is_held {
            assert_eq!(bench.actions(), [], "{name}");
        } else {
            assert!(is_refused(&mut bench, conn), "{name}");
        }
    }
}

#[test]
fn a_call_after_a_failure_is_used_in_place_of_the_next_attempt() {
    let mut bench = Bench::new(config());
    let conn = bench.dial();
    bench.session.handle_lost(bench.now, conn, Loss::Failed("reset".to_owned()));
    bench.actions();
    let called = bench.session.handle_accepted(bench.now);
    bench.hear(called, &theirs());
    bench.pass(1);
    assert!(is_answered(&mut bench, called));
}

#[test]
fn of_two_calls_the_later_is_held_and_one_that_ends_or_says_too_much_is_forgotten() {
    let held = || {
        let mut bench = Bench::new(config());
        bench.session.handle_close(at(0), Gate::Bfd, "");
        bench.actions();
        let conn = bench.session.handle_accepted(at(0));
        bench.hear(conn, &theirs());
        (bench, conn)
    };
    let dials = |bench: &mut Bench| {
        bench.session.handle_open(at(1), Gate::Bfd);
        matches!(bench.actions()[..], [Action::Connect(_)])
    };
    let (mut bench, first) = held();
    let second = bench.session.handle_accepted(at(0));
    assert_eq!(bench.actions(), [Action::Close(first)]);
    bench.hear(second, &theirs());
    bench.session.handle_lost(at(0), first, Loss::Failed("too late".to_owned()));
    bench.session.handle_open(at(1), Gate::Bfd);
    assert!(is_answered(&mut bench, second));

    let (mut bench, conn) = held();
    bench.session.handle_lost(at(0), conn, Loss::Failed("its hold time is over".to_owned()));
    assert!(dials(&mut bench));

    let (mut bench, conn) = held();
    bench.hear(conn, &[0xff; 8192]);
    assert_eq!(bench.actions(), [Action::Close(conn)]);
    assert!(dials(&mut bench));

    let (mut bench, conn) = held();
    bench.session.handle_close(at(0), Gate::Operator, "");
    assert!(is_refused(&mut bench, conn), "an operator's word turns it away");
}

/// Every way to close and open the three gates, one after the other.
#[test]
fn a_session_is_tried_while_every_gate_is_open_and_at_once_when_the_last_one_opens() {
    let gates = [Gate::Operator, Gate::Bfd, Gate::Carrier];
    for course in 0..6_u32.pow(5) {
        let mut bench = Bench::new(config());
        let mut closed = [false; 3];
        for step in 0..5 {
            let act = course / 6_u32.pow(step) % 6;
            let (gate, closes) = ((act / 2) as usize, act % 2 == 0);
            let was_open = closed == [false; 3];
            closed[gate] = closes;
            let is_open = closed == [false; 3];
            if closes {
                bench.session.handle_close(bench.now, gates[gate], "");
            } else {
                bench.session.handle_open(bench.now, gates[gate]);
            }
            let is_dialled = bench.actions().iter().any(|action| matches!(action, Action::Connect(_)));
            assert_eq!(bench.session.state() != State::Idle, is_open, "{course} {step}");
            // The very first attempt is made before any gate.
            assert_eq!(is_dialled, is_open && !was_open || step == 0, "{course} {step}");
            bench.pass(100);
            assert!(is_open || bench.actions().is_empty(), "{course} {step}: something was tried");
            bench.actions();
        }
    }
}

#[test]
fn a_lost_carrier_ends_a_session_with_its_reason_and_keeps_nothing_and_it_returns_at_once() {
    let (mut bench, conn) = Bench::new(config()).establish();
    bench.session.handle_close(bench.now, Gate::Carrier, "");
    let actions = bench.actions();
    let Some(Action::Tell(PeerEvent::Down { reason, kept: None, .. })) = actions.last() else {
        panic!("{actions:?}")
    };
    assert!(matches!(reason, DownReason::NoCarrier { .. }), "{reason}");
    assert_eq!(sent(&actions, conn), [encode_notification(&Notification::new(6, 6).hard_reset())]);
    assert_eq!(bench.session.counters().failed, 1);
    bench.pass(1_000);
    assert_eq!((bench.actions(), bench.session.state()), (vec![], State::Idle));
    assert!(bench.session.last_error().is_some_and(|error| error.contains("no carrier")));
    bench.session.handle_open(bench.now, Gate::Carrier);
    assert!(matches!(bench.actions()[..], [Action::Connect(_)]), "without a wait");
}

#[test]
fn hurry_makes_a_connect_anew_that_has_lost_its_first_packet_and_ends_no_wait_for_too_many_prefixes() {
    let ms = |ms| Moment(Duration::from_millis(ms));
    for (spent_ms, is_anew) in [(0, false), (199, false), (200, true), (4_000, true)] {
        let mut bench = Bench::new(config());
        let [Action::Connect(first)] = bench.actions()[..] else { panic!() };
        bench.session.handle_hurry(ms(spent_ms));
        match (bench.actions().as_slice(), is_anew) {
            ([], false) => {}
            ([Action::Close(closed), Action::Connect(second)], true) => {
                assert!(*closed == first && *second != first, "{spent_ms}");
            }
            (other, _) => panic!("{spent_ms}: {other:?}"),
        }
        assert_eq!(bench.session.state(), State::Connect);
    }
    let mut bench = Bench::new(config());
    bench.dial();
    bench.session.handle_overflow(at(0), EXCESS, Seconds(60));
    bench.session.handle_hurry(at(1));
    bench.session.handle_close(at(2), Gate::Bfd, "");
    bench.session.handle_open(at(3), Gate::Bfd);
    assert_eq!((bench.session.state(), bench.session.poll_deadline()), (State::Idle, Some(at(60))));
    bench.session.handle_close(at(4), Gate::Operator, "");
    bench.session.handle_open(at(5), Gate::Operator);
    assert_eq!(bench.session.state(), State::Connect, "an operator's word does");
}

#[test]
fn d2_a_peer_that_was_away_when_a_process_ended_stays_away_for_the_rest_of_its_wait() {
    let mut bench = Bench::new(config());
    bench.session.handle_away(at(0), Duration::from_secs(40), 2);
    bench.session.handle_hurry(at(1));
    assert_eq!((bench.session.state(), bench.session.poll_deadline()), (State::Idle, Some(at(40))));
    assert_eq!(bench.session.away(), Some((2, at(40))));
    bench.actions();
    let conn = bench.session.handle_accepted(at(2));
    assert!(is_refused(&mut bench, conn));
    bench.pass(40);
    assert_eq!(bench.session.state(), State::Connect);
    bench.dial();
    // The third time: twice, and twice again.
    bench.session.handle_overflow(at(45), EXCESS, Seconds(60));
    assert_eq!(bench.session.away(), Some((3, at(45 + 240))));

    let (mut bench, _) = Bench::new(config()).establish();
    bench.session.handle_away(at(0), Duration::from_secs(40), 2);
    assert_eq!(bench.session.state(), State::Established, "a session that was handed over was not away");
}
