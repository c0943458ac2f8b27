//! What two OPENs agree on beyond families: graceful restart and its end for good (RFC 4724, 8538), marked refreshes (RFC 7313),
//! extended messages (RFC 8654), roles (RFC 9234), several paths (RFC 7911); and the wait after too many prefixes.

use super::super::super::{AddPath, GracefulRestart, Kept, RefreshMark, Role};
use super::*;

pub(super) const V4: Family = Family::Ipv4Unicast;
pub(super) const V6: Family = Family::Ipv6Unicast;

pub(super) fn restart(notification: bool, families: &[(Family, bool)]) -> GracefulRestart {
    GracefulRestart { restarting: false, notification, time: Seconds(90), families: families.to_vec() }
}

/// An established session whose peer's OPEN was changed before it was sent.
pub(super) fn with_open(config: PeerConfig, change: impl FnOnce(&mut Open)) -> (Bench, ConnId) {
    let mut open = their_open([10, 0, 0, 1]);
    change(&mut open);
    let mut bench = Bench::new(config);
    let conn = bench.dial();
    bench.hear(conn, &encode_open(&open).unwrap());
    bench.hear(conn, &encode_keepalive());
    assert_eq!(bench.session.state(), State::Established, "{:?}", bench.actions());
    bench.actions();
    (bench, conn)
}

fn kept(bench: &mut Bench) -> Option<Kept> {
    let end = bench.actions().into_iter().find_map(|action| match action {
        Action::Tell(PeerEvent::Down { kept, .. }) => Some(kept),
        _ => None,
    });
    end.expect("the session ended")
}

#[test]
fn routes_are_kept_after_a_lost_connection_and_after_a_notification_only_where_both_agreed() {
    let both = [(V4, true), (V6, false)];
    let wait = Seconds(90);
    let all = Some(Kept { families: vec![V4, V6], wait });
    let lost = |bench: &mut Bench, conn| {
        bench.session.handle_lost(at(9), conn, Loss::Failed("reset".to_owned()));
    };
    let told = |code, subcode| {
        move |bench: &mut Bench, conn| {
            bench.hear(conn, &encode_notification(&Notification::new(code, subcode)));
        }
    };
    let silence = |bench: &mut Bench, _| bench.pass(90);
    let stop = |bench: &mut Bench, _| bench.session.handle_stop(at(9), Cease::PeerDeconfigured, "");
    let reset = |bench: &mut Bench, _| bench.session.handle_reset(at(9), "");
    let carrier = |bench: &mut Bench, _| bench.session.handle_close(at(9), Gate::Carrier, "");
    type Act<'a> = &'a dyn Fn(&mut Bench, ConnId);
    let rows: [(&str, Option<GracefulRestart>, Act<'_>, Option<Kept>); 14] = [
        ("carrier lost with N", Some(restart(true, &both)), &carrier, None),
        ("lost", Some(restart(false, &both)), &lost, all.clone()),
        ("lost, one family", Some(restart(true, &both[..1])), &lost, Some(Kept { families: vec![V4], wait })),
        ("lost, End-of-RIB only", Some(restart(true, &[])), &lost, None),
        ("lost, not offered", None, &lost, None),
        ("cease without N", Some(restart(false, &both)), &told(6, 4), None),
        ("cease with N", Some(restart(true, &both)), &told(6, 4), all.clone()),
        ("hard reset with N", Some(restart(true, &both)), &told(6, 9), None),
        ("hold expiry told with N", Some(restart(true, &both)), &told(4, 0), all.clone()),
        ("silence without N", Some(restart(false, &both)), &silence, None),
        ("silence with N", Some(restart(true, &both)), &silence, all.clone()),
        ("stopped here", Some(restart(true, &both)), &stop, None),
        ("reset here with N", Some(restart(true, &both)), &reset, all),
        ("reset here without N", Some(restart(false, &both)), &reset, None),
    ];
    for (name, offered, act, expected) in rows {
        let (mut bench, conn) = with_open(config(), |open| open.restart = offered);
        act(&mut bench, conn);
        assert_eq!(kept(&mut bench), expected, "{name}");
    }
    let (mut bench, conn) = with_open(PeerConfig { restart_time: Seconds(0), ..config() }, |_| ());
    lost(&mut bench, conn);
    assert_eq!(kept(&mut bench), None, "we do not help where restart-time is 0");
}

#[test]
fn our_open_tells_of_a_restart_once_and_honestly() {
    let told = PeerConfig { restarting: true, forwarding_preserved: true, ..config() };
    let restart = open::ours(&told).restart.unwrap();
    assert!(restart.restarting && restart.notification && restart.preserved(V4) && restart.preserved(V6));
    let cold = open::ours(&config()).restart.unwrap();
    assert!(!cold.restarting && !cold.preserved(V4) && cold.families.len() == 2);
    let never = open::ours(&PeerConfig { restart_time: Seconds(0), ..config() }).restart.unwrap();
    assert!(never.families.is_empty() && !never.notification, "only End-of-RIB is promised");

    let (mut bench, conn) = with_open(told, |_| ());
    bench.session.handle_lost(at(9), conn, Loss::Failed("reset".to_owned()));
    bench.pass(10);
    bench.dial();
    let actions = bench.actions();
    let open = actions.iter().find_map(|action| match action {
        Action::Send(_, message) if message[18] == 1 => Some(message.clone()),
        _ => None,
    });
    let Ok(Message::Open(open)) = wire::decode(&open.unwrap(), &Context::default()) else { panic!() };
    let restart = open.restart.unwrap();
    assert!(
        !restart.restarting && !restart.preserved(V4),
        "that connection was lost without a restart of ours"
    );
}

#[test]
fn a_refresh_is_marked_only_where_both_agreed_and_a_mark_of_another_length_ends_the_session() {
    let marks = |enhanced: bool| {
        let (mut bench, conn) = with_open(config(), |open| open.enhanced_refresh = enhanced);
        for refresh in [RefreshMark::Begin(V4), RefreshMark::End(V4)] {
            bench.session.send(at(1), 1, &Update { refresh: Some(refresh), ..Update::default() }).unwrap();
        }
        let actions = bench.actions();
        sent(&actions, conn).iter().map(|message| message[19..].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(marks(true), [[0, 1, 1, 1], [0, 1, 2, 1]]);
    assert!(marks(false).is_empty());

    let (mut bench, conn) = with_open(config(), |_| ());
    let heard = |bench: &mut Bench, refresh| {
        bench.hear(conn, &wire::encode_route_refresh(refresh));
        bench.actions()
    };
    let begin = RefreshMark::Begin(V6);
    let update = Update { refresh: Some(begin), ..Update::default() };
    let told = Action::Tell(PeerEvent::Update { peer: PeerId(3), update });
    assert_eq!(heard(&mut bench, Refresh::Mark(begin)), [told]);
    let asked = Action::Tell(PeerEvent::Refresh { peer: PeerId(3), family: V6 });
    assert_eq!(heard(&mut bench, Refresh::Request(V6)), [asked]);
    let mut long = wire::encode_route_refresh(Refresh::Mark(begin));
    long[17] += 1;
    long.push(0);
    bench.hear(conn, &long);
    let actions = bench.actions();
    assert_eq!(sent(&actions, conn)[0][18..21], [3, 7, 1], "RFC 7313 section 5");
}

#[test]
fn long_messages_are_sent_only_to_who_takes_them() {
    let announced: Vec<_> =
        (0..5000u32).map(|n| format!("20.{}.{}.0/24", n >> 8, n & 255).parse().unwrap()).collect();
    let attributes = Some(std::sync::Arc::new(PathAttributes::originated([198, 18, 0, 1].into())));
    let update = Update { announced, attributes, ..Update::default() };
    for (extended, messages, longest) in [(false, 5, 4096), (true, 1, 65_535)] {
        let (mut bench, conn) = with_open(config(), |open| open.extended_messages = extended);
        bench.session.send(at(1), 1, &update).unwrap();
        let actions = bench.actions();
        let sent = sent(&actions, conn);
        assert_eq!(sent.len(), messages);
        assert!(sent.iter().all(|message| message.len() <= longest));
    }
}

#[test]
fn roles_must_fit_and_a_missing_one_is_refused_only_when_it_is_asked_for() {
    let ours = |role, strict| PeerConfig { role, role_strict: strict, ..config() };
    let customer = Some(Role::Customer);
    // Our role, strict, what the peer names, whether it is accepted.
    let rows: [(Option<Role>, bool, &[u8], bool); 9] = [
        (None, false, &[], true),
        (None, false, &[0], true),
        (customer, false, &[], true),
        (customer, true, &[], false),
        (customer, false, &[0], true),
        (customer, true, &[0, 0], true),
        (customer, false, &[0, 4], false),
        (customer, false, &[3], false),
        (customer, false, &[9], false),
    ];
    for (role, strict, theirs, accepted) in rows {
        let config = ours(role, strict);
        let open = Open { roles: theirs.to_vec(), ..their_open([10, 0, 0, 1]) };
        let outcome = open::negotiate(&config, &open, config.local);
        assert_eq!(outcome.is_ok(), accepted, "{role:?} {strict} {theirs:?}");
        if let Err(refusal) = outcome {
            assert_eq!((refusal.notification.code, refusal.notification.subcode), (2, 11));
            assert!(refusal.detail.contains("role"), "{}", refusal.detail);
        }
    }
    assert_eq!(open::ours(&ours(customer, false)).roles, [3]);
}

#[test]
fn d2_too_many_prefixes_end_the_session_with_cease_1_and_it_comes_back_after_a_wait_that_doubles() {
    let (mut bench, mut conn) = Bench::new(config()).establish();
    let excess = Excess::Prefixes { family: V6, limit: 200 };
    for wait in [60, 120, 240] {
        bench.session.handle_overflow(bench.now, excess, Seconds(60));
        let actions = bench.actions();
        let cease = Notification::maximum_prefixes(excess);
        assert_eq!(cease.data, [0, 2, 1, 0, 0, 0, 200], "RFC 4486 section 4");
        assert_eq!(sent(&actions, conn), [encode_notification(&cease.hard_reset())]);
        assert_eq!(bench.session.state(), State::Idle);
        bench.pass(wait - 1);
        assert_eq!((bench.session.state(), bench.actions().len()), (State::Idle, 0), "{wait}");
        bench.pass(1);
        conn = bench.dial();
        bench.hear(conn, &encode_open(&their_open([10, 0, 0, 1])).unwrap());
        bench.hear(conn, &encode_keepalive());
        assert_eq!(bench.session.state(), State::Established);
        bench.actions();
    }
}

#[test]
fn several_paths_are_agreed_on_where_we_take_and_the_peer_tells_them_only() {
    type Offer<'a> = &'a [(Family, AddPath)];
    let rows: [(bool, Offer<'_>, &[Family]); 6] = [
        (true, &[(V4, AddPath::Send), (V6, AddPath::Both)], &[V4, V6]),
        (true, &[(V4, AddPath::Receive), (V6, AddPath::Send)], &[V6]),
        (true, &[(V4, AddPath::Receive)], &[]),
        (true, &[], &[]),
        (false, &[(V4, AddPath::Send)], &[]),
        (true, &[(V4, AddPath::Both)], &[V4]),
    ];
    for (add_path, theirs, expected) in rows {
        let config = PeerConfig { add_path, families: vec![V4, V6], ..config() };
        let offered: Vec<Family> =
            open::ours(&config).add_path.into_iter().map(|(family, _)| family).collect();
        assert_eq!(offered, if add_path { vec![V4, V6] } else { vec![] });
        let (bench, _) = with_open(config, |open| {
            open.families = vec![V4, V6];
            open.add_path = theirs.to_vec();
        });
        let facts = bench.session.facts().unwrap();
        assert_eq!(facts.add_path, expected, "{add_path} {theirs:?}");
        assert_eq!(Context::of(facts).add_path, expected);
    }
}
