//! Connections from the peer's address on which nothing is said: they keep the peer itself out for no time that matters.

use super::*;

/// A session in Active whose own attempt has failed.
fn active() -> Bench {
    let mut bench = Bench::new(config());
    let actions = bench.actions();
    let [.., Action::Connect(conn)] = actions[..] else { panic!("{actions:?}") };
    bench.session.handle_lost(bench.now, conn, Loss::Failed("refused".to_owned()));
    bench.actions();
    assert_eq!(bench.session.state(), State::Active);
    bench
}

fn speak(bench: &mut Bench, conn: ConnId) {
    bench.hear(conn, &encode_open(&their_open([10, 0, 0, 1])).unwrap());
    bench.hear(conn, &encode_keepalive());
}

fn closed(actions: &[Action]) -> Vec<ConnId> {
    let closed = |action: &Action| if let Action::Close(conn) = action { Some(*conn) } else { None };
    actions.iter().filter_map(closed).collect()
}

#[test]
fn the_peer_that_speaks_is_taken_whatever_silent_connections_came_before_it() {
    for silent in 1..10 {
        let mut bench = active();
        let calls: Vec<ConnId> = (0..silent).map(|_| bench.session.handle_accepted(bench.now)).collect();
        let real = bench.session.handle_accepted(bench.now);
        speak(&mut bench, real);
        assert_eq!(bench.session.state(), State::Established, "after {silent} silent connections");
        assert_eq!(bench.session.connection(), Some(real));
        let closed = closed(&bench.actions());
        assert!(calls.iter().all(|conn| closed.contains(conn)), "{closed:?} of {calls:?}");
    }
}

#[test]
fn one_that_speaks_first_is_not_sent_away_for_a_silent_one() {
    let mut bench = active();
    bench.session.handle_accepted(bench.now);
    let real = bench.session.handle_accepted(bench.now);
    bench.hear(real, &encode_open(&their_open([10, 0, 0, 1])).unwrap());
    for _ in 0..5 {
        let late = bench.session.handle_accepted(bench.now);
        assert!(closed(&bench.actions()).contains(&late));
    }
    bench.hear(real, &encode_keepalive());
    assert_eq!((bench.session.state(), bench.session.connection()), (State::Established, Some(real)));
}

#[test]
fn silent_connections_are_two_at_most_and_each_ends_after_half_a_minute() {
    let mut bench = active();
    let mut open = std::collections::BTreeSet::new();
    for _ in 0..100 {
        open.insert(bench.session.handle_accepted(bench.now).0);
        for conn in closed(&bench.actions()) {
            open.remove(&conn.0);
        }
        assert!(open.len() <= 2, "{open:?}");
    }
    let mut passive = Bench::new(PeerConfig { passive: true, ..config() });
    let conn = passive.session.handle_accepted(passive.now);
    passive.pass(29);
    assert_eq!(closed(&passive.actions()), []);
    passive.pass(1);
    let actions = passive.actions();
    assert_eq!(closed(&actions), [conn]);
    let said = passive.session.last_error().unwrap_or_default();
    assert!(said.contains("no OPEN within 30 s"), "{said}");
    // However many there were, who calls next is answered within a second.
    for _ in 0..5 {
        passive.pass(1);
        passive.session.handle_accepted(passive.now);
        passive.pass(30);
    }
    passive.actions();
    let real = passive.session.handle_accepted(passive.now);
    passive.pass(1);
    speak(&mut passive, real);
    assert_eq!((passive.session.state(), passive.session.connection()), (State::Established, Some(real)));
}

#[test]
fn a_silent_connection_does_not_keep_us_from_calling_a_peer_that_only_waits() {
    let mut bench = active();
    let silent = bench.session.handle_accepted(bench.now);
    bench.actions();
    bench.pass(5);
    let real = bench.dial();
    speak(&mut bench, real);
    assert_eq!((bench.session.state(), bench.session.connection()), (State::Established, Some(real)));
    assert!(closed(&bench.actions()).contains(&silent));
    // As often as a silent one comes: after each attempt that fails there is another.
    let mut bench = active();
    for round in 0..5 {
        bench.session.handle_accepted(bench.now);
        bench.session.handle_accepted(bench.now);
        bench.actions();
        let mut dialled = None;
        for _ in 0..40 {
            bench.pass(1);
            let connect = |action: Action| if let Action::Connect(conn) = action { Some(conn) } else { None };
            dialled = bench.actions().into_iter().find_map(connect);
            if dialled.is_some() {
                break;
            }
        }
        let conn = dialled.unwrap_or_else(|| panic!("round {round}: it does not call"));
        bench.session.handle_lost(bench.now, conn, Loss::Failed("refused".to_owned()));
        bench.actions();
    }
}

#[test]
fn rfc4271_8_2_2_calls_in_silence_that_end_cost_the_peer_no_wait_and_put_ours_off_no_further() {
    let mut bench = active();
    let (mut dialled, mut seconds) = (Vec::new(), 0);
    for _ in 0..20 {
        let silent = bench.session.handle_accepted(bench.now);
        bench.pass(1);
        seconds += 1;
        bench.session.handle_lost(bench.now, silent, Loss::Failed("reset".to_owned()));
        for action in bench.actions() {
            if let Action::Connect(conn) = action {
                dialled.push(seconds);
                bench.session.handle_lost(bench.now, conn, Loss::Failed("refused".to_owned()));
            }
        }
        bench.actions();
    }
    assert!(dialled.first().is_some_and(|at| *at <= 5) && dialled.len() > 1, "{dialled:?}");
    let real = bench.session.handle_accepted(bench.now);
    speak(&mut bench, real);
    assert_eq!((bench.session.state(), bench.session.connection()), (State::Established, Some(real)));
}

#[test]
fn what_cannot_be_announced_is_withdrawn() {
    let (mut bench, conn) = Bench::new(config()).establish();
    let originated = PathAttributes::originated([198, 18, 0, 1].into());
    let long = PathAttributes { communities: (0..17_000).map(crate::bgp::Community).collect(), ..originated };
    let announced: Vec<ipnet::IpNet> = vec!["20.0.0.0/8".parse().unwrap()];
    let update = Update { announced: announced.clone(), attributes: Some(long.into()), ..Update::default() };
    assert!(matches!(bench.session.send(bench.now, 1, &update), Err(EncodeError::TooLarge { .. })));
    let context = Context { families: vec![Family::Ipv4Unicast], ..Context::default() };
    let withdrawal = encode_update(&Update { withdrawn: announced, ..Update::default() }, &context).unwrap();
    assert_eq!(sent(&bench.actions(), conn), [&withdrawal[0][..]]);
    assert_eq!(bench.session.counters().unsent, 1);
}
