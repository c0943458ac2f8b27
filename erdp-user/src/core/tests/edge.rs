//! What packets do when links, peers and neighbours come and go.

use super::*;

#[test]
fn a_whole_edge_in_a_unit_test_forwards_over_both_links_and_survives_the_loss_of_one() {
    let mut edge = Edge::converged();
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
    edge.carrier("m1", false);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
    edge.carrier("m1", true);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
    assert_eq!(edge.ways("m1", "192.168.1.1"), set(["ce0"]));
}

#[test]
fn a_carrier_that_comes_and_goes_is_noted_and_one_that_is_seen_first_is_not() {
    let mut edge = Edge::new(CONFIG);
    assert_eq!(edge.notes, []);
    edge.carrier("m1", false);
    edge.carrier("m1", true);
    let ifindex = edge.ifindex("m1");
    edge.kernel(KernelEvent::LinkGone { ifindex });
    let notes: Vec<_> = edge.notes.iter().map(|(object, what)| (object.as_str(), what.as_str())).collect();
    assert_eq!(
        notes,
        [("m1", "has no carrier, or is down"), ("m1", "has carrier and is up"), ("m1", "gone")]
    );
}

#[test]
fn a_lost_carrier_ends_its_sessions_after_the_grace_and_its_return_begins_them() {
    let mut edge = Edge::converged();
    edge.carrier("m1", false);
    edge.pass(Duration::from_millis(900));
    assert_eq!(edge.orders(ONE[0]), [], "a carrier that is away for less costs no session");
    edge.pass(Duration::from_millis(300));
    assert_eq!(edge.orders(ONE[0]), [PeerCommand::Carrier(false)]);
    assert_eq!(edge.orders(ONE[1]), [], "the other link's session stays");
    edge.carrier("m1", true);
    assert_eq!(edge.orders(ONE[0]), [PeerCommand::Carrier(true)]);
}

#[test]
fn sessions_over_a_link_that_is_back_need_not_wait_for_their_next_attempt() {
    let mut edge = Edge::converged();
    edge.carrier("m2", false);
    edge.actions.clear();
    edge.carrier("m2", true);
    assert_eq!(edge.actions, [Action::Expedite(ONE[1])]);
}

#[test]
fn a_carrier_that_is_lost_again_while_its_return_is_told_stays_dead() {
    let mut edge = Edge::converged();
    edge.carrier("m1", false);
    edge.core.dataplane.without_carrier.insert("m1".into());
    edge.carrier("m1", true);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
}

#[test]
fn a_link_that_flaps_is_held_down_while_the_other_one_carries_and_used_when_nothing_else_does() {
    let mut edge = Edge::converged();
    for _ in 0..3 {
        edge.carrier("m1", false);
        edge.carrier("m1", true);
    }
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]), "held down");
    edge.carrier("m2", false);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1"]), "a bad link is better than none");
}

#[test]
fn a_link_that_was_held_down_is_used_again_when_its_time_is_over() {
    let mut edge = Edge::converged();
    for _ in 0..3 {
        edge.carrier("m1", false);
        edge.carrier("m1", true);
    }
    edge.pass(seconds(2));
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
}

#[test]
fn what_is_withdrawn_on_both_links_goes_by_the_other_circuit_and_what_nobody_has_is_dropped() {
    let mut edge = Edge::converged();
    assert!(edge.told(CE).contains(&format!("+{ONLY_ONE}")));
    edge.withdraw(ONE[0], AZURE);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
    edge.withdraw(ONE[1], AZURE);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m3", "m4"]));
    ONE.into_iter().for_each(|peer| edge.withdraw(peer, ONLY_ONE));
    assert_eq!(edge.ways("ce0", "10.2.2.3"), set(["no-route"]));
    assert!(edge.told(CE).contains(&format!("-{ONLY_ONE}")), "and the customer is told so");
}

#[test]
fn a_peer_that_is_lost_takes_its_routes_along_and_its_return_is_heard_anew() {
    let mut edge = Edge::converged();
    edge.down(ONE[0], None);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
    edge.down(CE, None);
    assert_eq!(edge.ways("m2", "192.168.1.1"), set(["no-route"]));
    edge.up(ONE[0]);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]), "it has announced nothing yet");
    edge.announce(ONE[0], AZURE);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
}

#[test]
fn routes_of_a_peer_that_restarts_are_kept_until_its_time_is_over() {
    let mut edge = Edge::converged();
    let kept = Kept { families: vec![Family::Ipv4Unicast], wait: Seconds(30) };
    edge.down(ONE[0], Some(kept.clone()));
    edge.down(ONE[1], Some(kept));
    edge.pass(seconds(29));
    assert_eq!(edge.ways("ce0", "10.2.2.3"), set(["m1", "m2"]), "nothing else leads there");
    edge.pass(seconds(2));
    assert_eq!(edge.ways("ce0", "10.2.2.3"), set(["no-route"]));
}

#[test]
fn routes_are_not_kept_over_a_link_without_a_carrier() {
    let mut edge = Edge::converged();
    edge.carrier("m1", false);
    edge.pass(seconds(2));
    let kept = Kept { families: vec![Family::Ipv4Unicast], wait: Seconds(30) };
    edge.down(ONE[0], Some(kept));
    assert_eq!(edge.core.rib.peer_counts(ONE[0]).received, 0);
}

#[test]
fn a_neighbour_without_a_mac_address_carries_nothing_while_another_does() {
    let mut edge = Edge::converged();
    edge.neighbour(ONE[0], None);
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
    edge.neighbour(ONE[0], Some(MAC));
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m1", "m2"]));
}

#[test]
fn an_interface_that_has_gone_takes_its_link_along_and_the_rest_goes_on() {
    let mut edge = Edge::converged();
    let ifindex = edge.ifindex("m1");
    edge.kernel(KernelEvent::LinkGone { ifindex });
    assert_eq!(edge.ways("ce0", "10.1.2.3"), set(["m2"]));
    assert_eq!(edge.core.interface_fault("m1", false), Some(InterfaceFault::Gone));
    assert_eq!(edge.core.interface_fault("m1", true), Some(InterfaceFault::Unused));
}

#[test]
fn lost_events_of_the_kernel_are_asked_for_again() {
    let mut edge = Edge::converged();
    edge.kernel(KernelEvent::Resync);
    assert_eq!(edge.actions, [Action::Resync]);
}

#[test]
fn another_mac_address_of_an_interface_shapes_its_control_ports() {
    let mut edge = Edge::converged();
    let ifindex = edge.ifindex("m1");
    let link = Link { mac: [2, 9, 9, 9, 9, 9], ..edge.core.links[&ifindex].clone() };
    edge.kernel(KernelEvent::Link(link));
    assert_eq!(edge.actions, [Action::ShapeControlPorts(ifindex)]);
}

#[test]
fn which_sessions_were_up_is_noted_for_the_next_process() {
    let mut edge = Edge::converged();
    let is_up = |edge: &Edge, peer| edge.core.dataplane.sessions_up.contains(&peer_key(&edge.peer(peer)));
    assert!(ALL.into_iter().all(|peer| is_up(&edge, peer)));
    edge.down(TWO[0], None);
    assert_eq!([TWO[0], TWO[1]].map(|peer| is_up(&edge, peer)), [false, true]);
}

#[test]
fn b11_a_regions_preference_moves_exactly_its_prefixes_to_the_near_circuit_where_circuits_are_compared() {
    const REGIONAL: &str = "10.7.0.0/16";
    let west_europe = [Community::new(12_076, 51_002)];
    let compared =
        CONFIG.replacen("interface = \"ce0\"", "interface = \"ce0\"\nbetween-circuits = \"preference\"", 1);
    let near = format!(
        "{}\n[[policy]]\nname = \"near\"\n[[policy.rule]]\ncommunities = [\"West Europe\"]\nlocal-pref = 200\n",
        compared.replacen("ipv4 = \"198.18.2.0/29\"", "ipv4 = \"198.18.2.0/29\"\npolicy-in = \"near\"", 1)
    );
    let mut edge = Edge::converged_by(&compared);
    ONE.into_iter().chain(TWO).for_each(|peer| edge.announce_with(peer, REGIONAL, &west_europe));
    let all = set(["m1", "m2", "m3", "m4"]);
    let ways = |edge: &Edge| {
        [edge.ways("ce0", "10.7.0.9"), edge.ways("ce0", "10.1.0.9"), edge.ways("ce0", "10.2.0.9")]
    };
    assert_eq!(ways(&edge), [all.clone(), all.clone(), set(["m1", "m2"])], "equal circuits share");
    edge.apply(&near).unwrap();
    assert_eq!(
        ways(&edge),
        [set(["m3", "m4"]), all.clone(), set(["m1", "m2"])],
        "only the region's prefix moves"
    );
    TWO.into_iter().for_each(|peer| edge.down(peer, None));
    assert_eq!(ways(&edge), [set(["m1", "m2"]), set(["m1", "m2"]), set(["m1", "m2"])]);
    TWO.into_iter().for_each(|peer| {
        edge.up(peer);
        edge.announce_with(peer, REGIONAL, &west_europe);
        edge.announce(peer, AZURE);
    });
    assert_eq!(ways(&edge)[0], set(["m3", "m4"]));
    edge.apply(&compared).unwrap();
    assert_eq!(ways(&edge), [all.clone(), all, set(["m1", "m2"])]);
    edge.apply(CONFIG).unwrap();
    assert_eq!(ways(&edge), [set(["m1", "m2"]), set(["m1", "m2"]), set(["m1", "m2"])], "as listed again");
}
