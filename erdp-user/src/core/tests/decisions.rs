//! What an operator orders, and what a configuration changes.

use super::*;
use crate::drill::End;

#[test]
fn a_peering_that_is_drained_is_used_last_then_shut_and_used_again_when_it_is_back() {
    let mut edge = Edge::converged();
    assert_eq!(edge.disable("one/primary", "works", seconds(5)), Ok(vec![ONE[0]]));
    edge.turn();
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]), "flows move while both ways work");
    assert_eq!(edge.orders(ONE[0]), []);
    edge.pass(seconds(6));
    assert_eq!(edge.orders(ONE[0]), [PeerCommand::Disable { text: "works".into() }]);
    edge.down(ONE[0], None);
    edge.core.enable("one/primary", edge.now).unwrap();
    edge.turn();
    assert_eq!(edge.orders(ONE[0]), [PeerCommand::Enable]);
    assert!(edge.actions.contains(&Action::ForgiveAway(ONE[0])));
    edge.up(ONE[0]);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
    edge.announce(ONE[0], AZURE);
    edge.pass(seconds(1));
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
}

#[test]
fn nothing_is_taken_out_of_service_that_nothing_else_replaces_unless_it_is_forced() {
    let mut edge = Edge::converged();
    let refused = edge.disable("one", "works", Duration::ZERO).unwrap_err();
    assert!(refused.contains("1 prefixes have a path by this only (10.2.0.0/16)"), "{refused}");
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]), "nothing has changed");
    edge.core.disable("one", "works", Duration::ZERO, None, edge.now).unwrap();
    edge.turn();
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m3", "m4"]), "before the last session has ended");
    assert_eq!(edge.orders(ONE[1]), [PeerCommand::Disable { text: "works".into() }]);
}

#[test]
fn an_order_is_not_judged_by_what_was_found_of_other_sessions() {
    let mut edge = Edge::converged();
    let found = edge.found(&ONE);
    assert_eq!((found.count, &found.examples[..]), (1, &[ONLY_ONE.to_owned()][..]));
    let refused =
        edge.core.begin_drill("one/primary", 5, Some(Some(&found)), edge.now).expect_err("other sessions");
    assert!(refused.contains("try again"), "{refused}");
    assert_eq!(
        edge.core.reading("one/primary", Some(&edge.found(&ONE[..1])), edge.now).unwrap().only_here.0,
        0
    );
}

#[test]
fn sessions_of_both_links_are_not_reset_at_once_unless_it_is_forced() {
    let mut edge = Edge::converged();
    assert!(edge.reset("one", "").unwrap_err().starts_with("both links of one"));
    edge.reset("one/secondary", "again").unwrap();
    edge.turn();
    assert_eq!(edge.orders(ONE[1]), [PeerCommand::Reset { text: "again".into() }]);
    edge.down(ONE[1], None);
    assert_eq!(edge.core.reset("one", "", None, edge.now).unwrap().0, [ONE[0]], "only those that are up");
}

#[test]
fn a_name_that_means_no_session_is_refused_with_those_that_there_are() {
    let mut edge = Edge::converged();
    let refused = edge.core.disable("three", "", Duration::ZERO, None, edge.now).unwrap_err();
    assert!(refused.contains("one/private") && refused.contains("ce0"), "{refused}");
}

#[test]
fn a_drill_takes_a_link_down_keeps_its_routes_and_gives_it_back_when_its_time_is_over() {
    let mut edge = Edge::converged();
    edge.drill("m1", 5).unwrap();
    edge.turn();
    edge.pass(crate::drill::WATCH + Duration::from_millis(200));
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
    assert!(
        matches!(&edge.orders(ONE[0])[..], [PeerCommand::Disable { text }] if text.contains("on purpose"))
    );
    edge.down(ONE[0], None);
    assert_eq!(edge.core.rib.peer_counts(ONE[0]).received, 2, "kept, for when they are needed");
    for _ in 0..6 {
        edge.core.watch_drill(edge.now);
        edge.pass(seconds(1));
    }
    assert_eq!(edge.orders(ONE[0]), [PeerCommand::Enable]);
    edge.up(ONE[0]);
    [AZURE, ONLY_ONE].iter().for_each(|prefix| edge.announce(ONE[0], prefix));
    edge.pass(seconds(1));
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
    assert!(edge.core.drill.as_ref().unwrap().is_over());
}

#[test]
fn a_drill_ends_at_once_when_the_link_that_carries_its_traffic_fails() {
    let mut edge = Edge::converged();
    edge.drill("m1", 60).unwrap();
    edge.turn();
    edge.pass(crate::drill::WATCH + Duration::from_millis(200));
    assert_eq!(edge.ways("ce0", "10.2.2.3"), set(["m2"]));
    edge.carrier("m2", false);
    TWO.into_iter().for_each(|peer| edge.down(peer, None));
    edge.pass(seconds(1));
    assert_eq!(edge.ways("ce0", "10.2.2.3"), set(["m1"]));
}

#[test]
fn b6_where_the_other_link_of_a_drilled_circuit_is_down_the_next_circuit_carries_the_traffic() {
    for is_down_before in [true, false] {
        let mut edge = Edge::converged();
        let lose = |edge: &mut Edge| {
            edge.carrier("m2", false);
            edge.down(ONE[1], None);
        };
        // What only the first circuit leads to would forbid it.
        ONE.into_iter().for_each(|peer| edge.withdraw(peer, ONLY_ONE));
        if is_down_before {
            lose(&mut edge);
        }
        edge.drill("m1", 60).unwrap();
        edge.turn();
        edge.pass(crate::drill::WATCH + Duration::from_millis(200));
        edge.down(ONE[0], None);
        if !is_down_before {
            assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
            lose(&mut edge);
        }
        edge.turn();
        assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m3", "m4"]), "down before: {is_down_before}");
        edge.carrier("m2", true);
        edge.up(ONE[1]);
        edge.announce(ONE[1], AZURE);
        edge.pass(seconds(1));
        assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]), "its own other link is back");
    }
}

#[test]
fn b6_where_the_other_session_of_a_peering_that_is_out_of_use_ends_the_next_circuit_carries_the_traffic() {
    let mut edge = Edge::converged();
    ONE.into_iter().for_each(|peer| edge.withdraw(peer, ONLY_ONE));
    edge.disable("one/private/primary", "", Duration::ZERO).unwrap();
    edge.turn();
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
    edge.down(ONE[1], None);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m3", "m4"]));
    edge.up(ONE[1]);
    edge.announce(ONE[1], AZURE);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
}

#[test]
fn b2_where_the_only_link_of_a_circuit_that_leads_somewhere_dies_the_next_circuit_carries_it_at_once() {
    // Both links lead there and the other one is dead already, or the other one does not lead there (B11).
    for other_is_dead in [true, false] {
        let mut edge = Edge::converged();
        if other_is_dead {
            edge.carrier("m2", false);
            edge.down(ONE[1], None);
        } else {
            edge.withdraw(ONE[1], AZURE);
        }
        edge.turn();
        assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1"]));
        edge.carrier("m1", false);
        edge.turn();
        assert_eq!(
            edge.ways("ce0", "10.1.2.3"),
            set(["m3", "m4"]),
            "the other link is dead: {other_is_dead}"
        );
        let only_here = if other_is_dead { "no-live-link" } else { "m2" };
        assert_eq!(edge.ways("ce0", "10.2.1.1"), set([only_here]), "circuit two does not lead there");
        edge.carrier("m1", true);
        edge.pass(seconds(1));
        assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1"]), "and the first one again");
    }
}

#[test]
fn a_running_drill_allows_no_other_change_and_stops_when_it_is_told() {
    let mut edge = Edge::converged();
    edge.drill("m1", 60).unwrap();
    edge.turn();
    assert!(
        edge.core
            .disable("two", "", Duration::ZERO, None, edge.now)
            .unwrap_err()
            .contains("a drill is running")
    );
    assert!(edge.drill("m2", 60).is_err());
    assert!(edge.core.end_drill(End::Stopped, edge.now));
    edge.pass(seconds(2));
    assert!(edge.core.is_no_drill().is_ok());
    assert!(!edge.core.end_drill(End::Stopped, edge.now), "there is none any more");
}

#[test]
fn a_circuit_below_its_minimum_of_links_ranks_last_and_first_again_when_it_has_them() {
    let text = CONFIG.replacen("bandwidth = \"1G\"", "bandwidth = \"1G\"\nminimum-links = 2", 1);
    let mut edge = Edge::converged();
    edge.apply(&text).unwrap();
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
    edge.carrier("m1", false);
    edge.pass(seconds(3));
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]), "a short loss moves no circuit");
    edge.pass(seconds(4));
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m3", "m4"]));
}

#[test]
fn a_configuration_that_disables_a_circuit_takes_its_routes_then_its_sessions() {
    let mut edge = Edge::converged();
    let text = CONFIG.replacen("bandwidth = \"1G\"", "bandwidth = \"1G\"\nadmin = \"disabled\"", 1);
    edge.apply(&text).unwrap();
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m3", "m4"]));
    assert_eq!(edge.ways("m1", "192.168.1.1"), set(["disabled"]));
    assert!(edge.orders(ONE[0]).iter().all(|order| matches!(order, PeerCommand::Disable { .. })));
    edge.apply(CONFIG).unwrap();
    // Sessions that the running configuration shuts are shut once more before the next one opens them.
    assert_eq!(edge.orders(ONE[0]).last(), Some(&PeerCommand::Enable));
}

#[test]
fn a_configuration_ends_and_begins_the_sessions_that_it_changes_and_no_others() {
    let mut edge = Edge::converged();
    let text = CONFIG.replace("asn = 65020 }", "asn = 65021 }");
    edge.apply(&text).unwrap();
    let ended = |action: &Action| matches!(action, Action::EndSession(peer, Cease::ConfigurationChange) if *peer == CE);
    let begun = |action: &Action| matches!(action, Action::BeginSession(session) if session.id == CE);
    let of_sessions: Vec<&Action> = edge
        .actions
        .iter()
        .filter(|it| matches!(it, Action::EndSession(..) | Action::BeginSession(_)))
        .collect();
    assert!(matches!(&of_sessions[..], [first, last] if ended(first) && begun(last)), "{of_sessions:?}");
    assert_eq!(edge.ways("m1", "192.168.1.1"), set(["no-route"]), "what it had announced is gone");
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
}

#[test]
fn a_peer_that_a_configuration_no_longer_has_may_not_speak_and_its_identifier_is_given_again() {
    let mut edge = Edge::converged();
    let peers = "peers = [{ address = \"198.18.10.2\", asn = 65020 }]\n";
    edge.apply(&CONFIG.replace(peers, "")).unwrap();
    assert!(edge.core.vacant.contains(&CE));
    edge.apply(CONFIG).unwrap();
    assert!(edge.core.vacant.is_empty());
    edge.up(CE);
    edge.announce(CE, CUSTOMER);
    assert_eq!(edge.ways("m1", "192.168.1.1"), set(["ce0"]));
}

#[test]
fn before_the_table_is_whole_after_a_restart_nobody_is_told_anything() {
    let mut edge = Edge::new(CONFIG);
    let expected = [peer_key(&edge.peer(ONE[0]))];
    edge.core.wait_for(&expected, Duration::ZERO, edge.now);
    ALL.into_iter().for_each(|peer| edge.up(peer));
    edge.announce(CE, CUSTOMER);
    assert_eq!(edge.told(ONE[1]), [] as [&str; 0]);
    assert_eq!(edge.core.waiting(edge.now).unwrap().0, [edge.peer(ONE[0]).name]);
    let update = Update { end_of_rib: Some(Family::Ipv4Unicast), ..Update::default() };
    edge.say(PeerEvent::Update { peer: ONE[0], update });
    assert!(edge.core.waiting(edge.now).is_none());
    assert_eq!(edge.told(ONE[1]), [format!("+{CUSTOMER}")]);
}

#[test]
fn a_peer_that_is_expected_and_does_not_come_is_not_waited_for_after_the_deadline() {
    let mut edge = Edge::new(CONFIG);
    let expected = [peer_key(&edge.peer(ONE[0]))];
    edge.core.wait_for(&expected, Duration::ZERO, edge.now);
    let deadline = edge.core.config.restart_deadline.duration();
    edge.pass(deadline - seconds(1));
    assert!(edge.core.waiting(edge.now).is_some());
    edge.pass(seconds(2));
    assert!(edge.core.waiting(edge.now).is_none());
}

#[test]
fn a_peer_whose_routes_would_not_be_used_is_not_waited_for_after_a_restart() {
    let limited = CONFIG.replace("asn = 65020 }", "asn = 65020, max-prefixes = 1 }");
    type Happening = fn(&mut Edge);
    let cases: [(&str, PeerId, Happening); 4] = [
        ("B6: out of use by an operator's order", ONE[0], |edge| {
            edge.core.disable("one/primary", "works", Duration::ZERO, None, edge.now).unwrap();
        }),
        ("A8: its circuit too", ONE[0], |edge| {
            edge.core.disable("one", "works", Duration::ZERO, None, edge.now).unwrap();
        }),
        ("B2: no carrier", ONE[0], |edge| {
            edge.carrier("m1", false);
            edge.pass(seconds(2));
        }),
        ("D2: above its limit", CE, |edge| {
            edge.up(CE);
            ["192.168.1.0/24", "192.168.2.0/24"].iter().for_each(|prefix| edge.announce(CE, prefix));
        }),
    ];
    for (case, peer, happen) in cases {
        let mut edge = Edge::new(&limited);
        let expected = [peer_key(&edge.peer(peer))];
        edge.core.wait_for(&expected, Duration::ZERO, edge.now);
        edge.turn();
        assert!(edge.core.waiting(edge.now).is_some(), "{case}");
        happen(&mut edge);
        edge.turn();
        assert!(edge.core.waiting(edge.now).is_none(), "{case}");
    }
}

#[test]
fn a_session_whose_task_has_ended_begins_anew_without_its_routes() {
    let mut edge = Edge::converged();
    edge.core.restart_session(ONE[0], edge.now);
    edge.turn();
    assert!(matches!(&edge.actions[..], [Action::BeginSession(session)] if session.id == ONE[0]));
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
}

#[test]
fn an_update_that_a_driver_has_no_room_for_is_the_next_one_again() {
    let mut edge = Edge::converged();
    edge.told(CE);
    edge.withdraw(ONE[0], ONLY_ONE);
    edge.withdraw(ONE[1], ONLY_ONE);
    assert!(edge.core.has_updates(CE));
    edge.core.collect_updates(CE);
    let (session, update) = edge.core.next_update(CE).unwrap();
    edge.core.put_back(CE, update.clone());
    assert_eq!(edge.core.next_update(CE), Some((session, update)));
}
