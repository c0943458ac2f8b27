//! The machine by tables: RFC 5880 in rows, in virtual time.

use erdp_common::bfd::wire::{
    ControlPacket,
    State::{self, AdminDown, Down, Init, Up},
};

use super::{Diagnostic, Nanos, Parameters, SLOW_US, Session, next_state};

const OURS: u32 = 11;
const THEIRS: u32 = 22;
const ZERO: Nanos = Nanos(1_000_000_000);

fn parameters() -> Parameters {
    Parameters { interval_us: 300_000, multiplier: 3, discriminator: OURS, is_independent: true }
}

fn at(us: u64) -> Nanos {
    ZERO.after_us(us)
}

fn packet(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: 0,
        state,
        poll: false,
        is_final: false,
        is_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: THEIRS,
        your_discriminator: OURS,
        desired_min_tx_us: if state == Up { 300_000 } else { SLOW_US },
        required_min_rx_us: 300_000,
        required_min_echo_rx_us: 0,
    }
}

/// All that is to be sent now.
fn sent(session: &mut Session, now: Nanos) -> Vec<ControlPacket> {
    std::iter::from_fn(|| session.poll_transmit(now, u32::MAX)).take(10).collect()
}

/// A session in a state, by the shortest way; what it has sent and told is taken.
fn in_state(state: State, parameters: Parameters) -> Session {
    let mut session = Session::new(parameters, ZERO);
    match state {
        Down => {}
        AdminDown => session.handle_admin(ZERO, true),
        Init => session.handle_packet(ZERO, &packet(Down)),
        Up => {
            session.handle_packet(ZERO, &packet(Init));
            session.handle_packet(ZERO, &packet(Up));
            sent(&mut session, ZERO);
            session.handle_packet(ZERO, &ControlPacket { is_final: true, ..packet(Up) });
        }
    }
    sent(&mut session, ZERO);
    session.poll_change();
    assert_eq!(session.state(), state);
    session
}

/// RFC 5880 section 6.2, the whole diagram: our state, the peer's, our next one.
#[test]
fn every_pair_of_states_has_the_rfcs_successor() {
    let expected = |ours, theirs| match (ours, theirs) {
        (AdminDown, _) => AdminDown,
        (_, AdminDown) => Down,
        (Down, Down) => Init,
        (Down, Init) => Up,
        (Down, Up) => Down,
        (Init, Down) => Init,
        (Init, _) => Up,
        (Up, Down) => Down,
        (Up, _) => Up,
    };
    for ours in [AdminDown, Down, Init, Up] {
        for theirs in [AdminDown, Down, Init, Up] {
            assert_eq!(next_state(ours, theirs), expected(ours, theirs), "{ours:?} {theirs:?}");
            let mut session = in_state(ours, parameters());
            session.handle_packet(at(1), &packet(theirs));
            assert_eq!(session.state(), expected(ours, theirs), "{ours:?} hears {theirs:?}");
            assert_eq!(session.poll_change().is_some(), ours != session.state());
        }
    }
}

#[test]
fn two_machines_come_up_and_agree_on_the_slower_interval() {
    for (one, other, agreed) in
        [(50_000, 50_000, 50_000), (50_000, 300_000, 300_000), (2_000_000, 10_000, 2_000_000)]
    {
        let with = |interval_us, discriminator| Parameters { interval_us, discriminator, ..parameters() };
        let mut pair = [Session::new(with(one, 1), ZERO), Session::new(with(other, 2), ZERO)];
        let mut now = ZERO;
        for _ in 0..2_000 {
            now = pair.iter().filter_map(Session::poll_deadline).min().unwrap_or(now).max(now);
            for from in [0, 1] {
                pair[from].handle_timeout(now);
                for packet in sent(&mut pair[from], now) {
                    assert!(packet.state == Up || packet.desired_min_tx_us >= SLOW_US, "slow while not up");
                    pair[1 - from].handle_packet(now.after_us(100), &packet);
                }
            }
        }
        for session in &pair {
            assert_eq!(session.state(), Up);
            assert_eq!(session.ups(), 1, "no flap on the way");
            assert_eq!(session.interval_us(), agreed, "{one} and {other}");
            assert_eq!(session.detection_us(), Some(3 * u64::from(agreed)));
            assert!(!session.packet().poll, "the poll sequences are over");
        }
    }
}

#[test]
fn silence_for_the_detection_time_and_no_less_takes_it_down() {
    // The peer's multiplier x the slower of our required and its desired interval.
    for (multiplier, tx_us, detection_us) in
        [(3, 300_000, 900_000), (1, 10_000, 300_000), (5, 400_000, 2_000_000)]
    {
        for state in [Init, Up] {
            let mut session = in_state(state, parameters());
            let theirs = if state == Init { Down } else { Up };
            let said = ControlPacket { multiplier, desired_min_tx_us: tx_us, ..packet(theirs) };
            session.handle_packet(at(5), &said);
            session.handle_timeout(at(5 + detection_us - 1));
            assert_eq!(session.state(), state);
            session.handle_timeout(at(5 + detection_us));
            assert_eq!(session.state(), Down);
            assert_eq!(session.diagnostic(), Diagnostic::DetectionTimeExpired);
            assert_eq!(session.packet().your_discriminator, 0, "section 6.8.1: the peer's is forgotten");
            assert_eq!(session.packet().diagnostic, 1);
        }
    }
}

#[test]
fn what_the_packet_path_has_heard_counts() {
    let mut session = in_state(Up, parameters());
    session.handle_heard(at(800_000));
    session.handle_timeout(at(1_000_000));
    assert_eq!(session.state(), Up);
    session.handle_timeout(at(1_700_000));
    assert_eq!(session.state(), Down);
}

#[test]
fn packets_for_another_session_change_nothing() {
    let mut session = in_state(Up, parameters());
    let before = session.clone();
    session.handle_packet(at(9), &ControlPacket { your_discriminator: OURS + 1, ..packet(Down) });
    assert_eq!(session, before);
}

#[test]
fn a_poll_is_answered_at_once_in_every_state_but_admin_down() {
    for state in [AdminDown, Down, Init, Up] {
        let mut session = in_state(state, parameters());
        let theirs = if state == Up { Up } else { Down };
        session.handle_packet(at(10), &ControlPacket { poll: true, ..packet(theirs) });
        let answer = sent(&mut session, at(10)).into_iter().find(|packet| packet.is_final);
        assert_eq!(answer.is_some(), state != AdminDown, "{state:?}");
        assert!(answer.is_none_or(|packet| !packet.poll), "section 6.8.7: not both");
    }
}

#[test]
fn while_not_up_it_is_slow_and_then_polls_its_way_to_the_interval() {
    let mut session = Session::new(parameters(), ZERO);
    assert_eq!(sent(&mut session, ZERO)[0].desired_min_tx_us, SLOW_US);
    assert!(sent(&mut session, at(999_999)).is_empty(), "once a second");
    session.handle_packet(at(999_999), &packet(Init));
    let [first] = sent(&mut session, at(999_999))[..] else { panic!("one packet tells of Up") };
    assert!(first.state == Up && first.poll && first.desired_min_tx_us == 300_000);
    // A shorter interval is kept to at once (section 6.8.3), and the poll bit stays until Final.
    let [second] = sent(&mut session, at(1_300_000))[..] else { panic!("one interval later") };
    assert!(second.poll);
    session.handle_packet(at(1_300_001), &ControlPacket { is_final: true, ..packet(Up) });
    assert!(!sent(&mut session, at(1_600_000))[0].poll);
}

#[test]
fn a_longer_interval_counts_only_after_final() {
    let mut session = in_state(Up, parameters());
    // The peer becomes slower: so do we, but not before it has confirmed.
    let slower = ControlPacket { desired_min_tx_us: 900_000, ..packet(Up) };
    session.handle_packet(at(10), &slower);
    let told = sent(&mut session, at(10));
    assert!(told.iter().any(|packet| packet.poll && packet.desired_min_tx_us == 900_000), "{told:?}");
    assert_eq!(session.interval_us(), 300_000);
    session.handle_packet(at(20), &ControlPacket { is_final: true, ..slower });
    assert_eq!(session.interval_us(), 900_000);
    // A change during a poll sequence is polled for again after its end.
    session.handle_packet(at(30), &ControlPacket { desired_min_tx_us: 400_000, ..packet(Up) });
    session.handle_packet(at(40), &ControlPacket { desired_min_tx_us: 500_000, ..packet(Up) });
    let fast = ControlPacket { is_final: true, desired_min_tx_us: 500_000, ..packet(Up) };
    session.handle_packet(at(50), &fast);
    assert!(session.packet().poll);
    session.handle_packet(at(60), &fast);
    assert!(!session.packet().poll);
}

#[test]
fn without_the_answering_packet_path_the_peers_pace_is_its_own() {
    let mut session = in_state(Up, Parameters { is_independent: false, ..parameters() });
    session.handle_packet(at(10), &ControlPacket { desired_min_tx_us: 900_000, ..packet(Up) });
    assert_eq!(session.packet().desired_min_tx_us, 300_000);
    assert!(!session.packet().is_independent);
}

#[test]
fn jitter_stays_between_75_and_100_percent_and_below_90_with_multiplier_1() {
    for (multiplier, random, expected_us) in
        [(3, 0, 225_000), (3, u32::MAX, 300_000), (1, 0, 225_000), (1, u32::MAX, 270_000)]
    {
        let mut session = in_state(Up, Parameters { multiplier, ..parameters() });
        let due = session.poll_deadline().expect("it sends");
        assert!(session.poll_transmit(due, random).is_some());
        let early = Nanos(due.0 + expected_us * 1_000 - 1);
        assert!(session.poll_transmit(early, 0).is_none(), "{multiplier} {random}");
        assert!(session.poll_transmit(due.after_us(expected_us), 0).is_some(), "{multiplier} {random}");
    }
}

#[test]
fn the_peers_required_interval_slows_us_and_zero_silences_us() {
    let mut session = in_state(Up, parameters());
    session.handle_packet(at(10), &ControlPacket { required_min_rx_us: 700_000, ..packet(Up) });
    assert_eq!(session.interval_us(), 700_000);
    session.handle_packet(at(20), &ControlPacket { required_min_rx_us: 0, ..packet(Up) });
    assert!(sent(&mut session, at(10_000_000)).is_empty(), "section 6.8.7: it wants none");
}

#[test]
fn a_peer_in_demand_mode_is_left_in_peace_and_its_polls_are_answered() {
    let mut session = in_state(Up, parameters());
    let demand = ControlPacket { demand: true, ..packet(Up) };
    session.handle_packet(at(10), &demand);
    assert!(session.is_silenced());
    assert!(sent(&mut session, at(800_000)).is_empty());
    session.handle_packet(at(800_000), &ControlPacket { poll: true, ..demand });
    let [answer] = sent(&mut session, at(800_000))[..] else { panic!("one answer") };
    assert!(answer.is_final && !answer.demand, "we never ask for demand mode");
    session.handle_timeout(at(1_800_000));
    assert_eq!(session.state(), Down, "its silence still counts: we are not in demand mode");
    assert!(!session.is_silenced());
}

#[test]
fn admin_down_is_told_and_deaf_until_it_is_given_free() {
    let mut session = in_state(Up, parameters());
    session.handle_admin(at(10), true);
    let told = sent(&mut session, at(10));
    assert!(
        told.iter().all(|packet| packet.state == AdminDown && packet.diagnostic == 7) && !told.is_empty()
    );
    session.handle_packet(at(20), &packet(Init));
    assert_eq!(session.state(), AdminDown);
    session.handle_admin(at(30), false);
    assert_eq!(session.state(), Down);
    session.handle_packet(at(40), &packet(Down));
    assert_eq!(session.state(), Init);
}

#[test]
fn a_peer_that_is_administratively_down_is_told_apart() {
    for (theirs, by_operator) in [(AdminDown, true), (Down, false)] {
        let mut session = in_state(Up, parameters());
        session.handle_packet(at(10), &packet(theirs));
        let change = session.poll_change().expect("it went down");
        assert_eq!((change.from, change.to, change.by_peers_operator), (Up, Down, by_operator));
        assert_eq!(change.diagnostic, Diagnostic::NeighbourSignaledDown);
    }
}

#[test]
fn a_session_taken_up_by_another_process_goes_on_without_a_change() {
    let session = in_state(Up, parameters());
    let written = serde_json::to_string(&session).expect("it can be written");
    assert_eq!(serde_json::from_str::<Session>(&written).expect("and read"), session);
    let ours = session.packet();
    let adopt = |theirs| Session::adopt(parameters(), &ours, &packet(theirs), at(400_000), at(500_000));
    assert!([AdminDown, Down, Init].into_iter().all(|theirs| adopt(theirs).is_none()));
    let mut adopted = adopt(Up).expect("both are up");
    assert_eq!((adopted.interval_us(), adopted.detection_us()), (300_000, Some(900_000)));
    let [first] = sent(&mut adopted, at(500_000))[..] else { panic!("it sends at once") };
    assert!(first.state == Up && first.my_discriminator == OURS && first.your_discriminator == THEIRS);
    assert!(!first.poll, "nothing has changed");
    assert_eq!(adopted.poll_change(), None);
    adopted.handle_timeout(at(1_299_999));
    assert_eq!(adopted.state(), Up, "the peer's last packet counts");
    adopted.handle_timeout(at(1_300_000));
    assert_eq!(adopted.state(), Down);
}
