//! The ExpressRoute rules by number, those that decide about routes: D1-D6, D8, D9, E1; then graceful restart and roles.

use super::*;
use crate::bgp::{GracefulRestart, Kept, RefreshMark, Role};
use crate::config::MaxPrefixes;

/// The configuration of these tests with something changed in a domain.
fn with_domain(domain: DomainId, change: impl FnOnce(&mut RibDomain)) -> Rib {
    let mut config = topology();
    change(&mut config.domains[usize::from(domain.0)]);
    rib_of(config)
}

fn with_peer(peer: PeerId, change: impl FnOnce(&mut RibPeer)) -> Rib {
    let mut config = topology();
    change(&mut config.peers[usize::from(peer.0)]);
    rib_of(config)
}

fn reasons(rib: &Rib) -> Vec<(DomainId, &'static str)> {
    rib.refused().iter().map(|refused| (refused.domain, refused.refusal.rule())).collect()
}

fn up(rib: &mut Rib, peer: PeerId, change: impl FnOnce(&mut SessionFacts)) {
    let mut facts = facts(rib.config().peer(peer).unwrap(), &[Family::Ipv4Unicast, Family::Ipv6Unicast]);
    change(&mut facts);
    rib.peer_up(peer, &facts);
}

#[test]
fn d1_both_links_are_told_the_same_prefixes_and_never_more_than_microsoft_takes() {
    let mut rib = with_domain(A_PRIVATE, |domain| domain.advertise = [3, 3]);
    let mut known: [BTreeSet<String>; 2] = Default::default();
    let all = ["30.5.0.0/24", "30.1.0.0/16", "30.4.0.0/24", "30.2.0.0/16", "30.3.0.0/16"];
    for (announced, prefix) in all.into_iter().chain(["30.2.0.0/16"]).enumerate() {
        if announced < 5 {
            announce(&mut rib, CE0, prefix)
        } else {
            withdraw(&mut rib, CE0, prefix)
        }
        for (known, link) in known.iter_mut().zip([A1, A2]) {
            for word in told(&mut rib, link) {
                let (sign, prefix) = word.split_at(1);
                if sign == "+" {
                    known.insert(prefix.to_owned())
                } else {
                    known.remove(prefix)
                };
                assert!(known.len() <= 3, "at no moment more than three: withdrawals come first");
            }
        }
        assert_eq!(known[0], known[1]);
    }
    assert_eq!(known[0].iter().collect::<Vec<_>>(), ["30.1.0.0/16", "30.3.0.0/16", "30.4.0.0/24"]);
    let all = rib.held_back().into_iter().filter(|held| [A1, A2].contains(&held.peer));
    let held: Vec<_> = all.map(|held| (held.peer, held.prefix, held.reason)).collect();
    assert_eq!(
        held,
        [(A1, net("30.5.0.0/24"), HoldBack::NoRoom), (A2, net("30.5.0.0/24"), HoldBack::NoRoom)]
    );
    assert_eq!(held[0].2.rule(), "D1");
    assert_eq!(rib.take_guard_warnings().len(), 1);
    assert!(rib.take_guard_warnings().is_empty(), "said once");
}

/// FRR announces to us what we have announced to it, now and then: no route that Microsoft has chosen.
#[test]
fn d6_what_only_comes_back_to_us_is_no_route_of_microsofts() {
    let mut rib = rib();
    assert!(rib.brings_nothing(A1), "not a word");
    announce_with(&mut rib, A1, "30.0.0.0/8", |a| a.as_path = AsPath::sequence([12_076, 65_010, 65_020]));
    assert_eq!((rib.peer_counts(A1).received, rib.brings_nothing(A1)), (1, true), "an echo");
    announce(&mut rib, A1, "31.0.0.0/8");
    assert!(!rib.brings_nothing(A1));
    withdraw(&mut rib, A1, "31.0.0.0/8");
    assert!(rib.brings_nothing(A1));
}

#[test]
fn d1_no_more_than_microsoft_publishes_for_the_sku_is_advertised_to_an_msee() {
    for (sku, private, microsoft) in
        [("standard", [4_000, 100], 200), ("local", [4_000, 100], 200), ("premium", [10_000, 100], 200)]
    {
        let with_sku = format!("bandwidth = \"1G\"\nsku = \"{sku}\"");
        let text = CONFIG.replacen("bandwidth = \"1G\"", &with_sku, 1);
        let mut rib = rib_of(RibConfig::new(&Config::parse(&text, Path::new("erdp.toml")).unwrap().0));
        let of_ce0: Vec<String> = (0..50).map(|n| format!("21.0.{n}.0/24")).collect();
        let of_ce1: Vec<String> = (0..10_000).map(|n| format!("20.{}.{}.0/24", n / 250, n % 250)).collect();
        let ipv6: Vec<String> = (0..300).map(|n| format!("2a01:{n:x}::/32")).collect();
        for (peer, prefixes) in [(CE0, of_ce0), (CE1, of_ce1), (CE1, ipv6)] {
            let attributes = Some(Arc::new(attributes(&rib, peer, &prefixes[0])));
            let announced = prefixes.iter().map(|prefix| net(prefix)).collect();
            rib.update(peer, Update { announced, attributes, ..Update::default() });
        }
        assert_eq!(rib.take_overflows(), []);
        let mut advertised = |peer| {
            let words = told(&mut rib, peer);
            assert!(words.iter().all(|word| word.starts_with('+')), "{sku}");
            let ipv6 = words.iter().filter(|word| word.contains(':')).count();
            [words.len() - ipv6, ipv6]
        };
        assert_eq!((advertised(A1), advertised(A2)), (private, private), "{sku}, private peering");
        assert_eq!(advertised(MS1)[0], microsoft, "{sku}, Microsoft peering");
    }
}

#[test]
fn d1_an_aggregate_is_announced_by_us_and_discards_what_nobody_has() {
    let mut rib = with_domain(A_PRIVATE, |domain| {
        domain.advertise = [1, 1];
        domain.when_full = crate::config::WhenFull::Aggregate;
    });
    announce(&mut rib, CE0, "30.0.0.0/24");
    announce(&mut rib, CE0, "30.0.1.0/24");
    for link in [A1, A2] {
        let updates = rib.take_outgoing(link);
        let [update] = updates.as_slice() else { panic!("{updates:?}") };
        assert_eq!(update.announced, [net("30.0.0.0/23")]);
        let attributes = update.attributes.as_ref().unwrap();
        assert!(attributes.atomic_aggregate && attributes.aggregator.unwrap().asn == Asn(65_010));
        assert_eq!(attributes.as_path, AsPath::sequence([65_010]));
    }
    let changes = rib.take_fib_changes();
    let discard = changes.iter().find(|change| change.prefix == net("30.0.0.0/23")).unwrap();
    assert!(discard.discard && discard.paths.is_empty() && discard.domain == A_PRIVATE);
    withdraw(&mut rib, CE0, "30.0.1.0/24");
    assert_eq!(told(&mut rib, A1), ["-30.0.0.0/23", "+30.0.0.0/24"]);
    let changes = rib.take_fib_changes();
    let gone = changes.iter().find(|change| change.prefix == net("30.0.0.0/23")).unwrap();
    assert!(!gone.discard && gone.paths.is_empty());
}

#[test]
fn d2_a_peer_that_announces_too_much_is_named_once_and_not_heard_until_it_is_back() {
    let wait = Seconds(60);
    let max = Some(MaxPrefixes { limit: 2, wait });
    let mut rib = with_peer(CE0, |peer| peer.max_prefixes = max);
    for prefix in ["30.0.0.0/16", "30.1.0.0/16", "30.1.0.0/16"] {
        announce(&mut rib, CE0, prefix);
    }
    assert_eq!(rib.take_overflows(), []);
    for prefix in ["30.2.0.0/16", "30.3.0.0/16"] {
        announce(&mut rib, CE0, prefix);
    }
    let excess = Excess::Prefixes { family: Family::Ipv4Unicast, limit: 2 };
    assert_eq!(rib.take_overflows(), [Overflow { peer: CE0, excess, wait }]);
    assert_eq!(rib.peer_counts(CE0).received, 0, "nothing of it is used, and what comes after is not kept");
    rib.peer_down(CE0);
    up(&mut rib, CE0, |_| ());
    announce(&mut rib, CE0, "30.0.0.0/16");
    assert_eq!((rib.peer_counts(CE0).received, rib.take_overflows().len()), (1, 0));
}

#[test]
fn d3_prefixes_longer_than_the_peering_takes_are_refused_both_ways_and_by_default_none() {
    let mut rib = with_domain(A_PRIVATE, |domain| domain.longest = [29, 64]);
    announce(&mut rib, CE0, "30.0.0.0/30");
    announce(&mut rib, A1, "40.0.0.0/30");
    announce(&mut rib, A1, "40.0.0.8/29");
    announce(&mut rib, A1_V6, "2600::/65");
    assert_eq!(reasons(&rib), [(A_PRIVATE, "D3"); 3]);
    let mut rib = super::rib();
    announce(&mut rib, CE0, "30.0.0.1/32");
    assert_eq!(reasons(&rib), []);
}

#[test]
fn d4_private_special_and_default_prefixes_are_refused_both_ways_on_microsoft_peering() {
    for peer in [MS1, CE1] {
        let mut rib = rib();
        for prefix in
            ["10.0.0.0/8", "127.0.0.0/8", "169.254.1.0/24", "224.0.0.0/4", "203.0.113.0/24", "0.0.0.0/0"]
        {
            announce(&mut rib, peer, prefix);
        }
        let refused = reasons(&rib).into_iter().filter(|row| *row == (A_MICROSOFT, "D4")).count();
        assert_eq!(refused, 6, "{peer}");
        announce(&mut rib, peer, "198.18.1.4/30");
        let is_ours = |refused: &RefusedRoute| refused.refusal == Refusal::OwnLinkSubnet;
        assert!(rib.refused().iter().any(is_ours), "our own MSEE subnets too");
    }
}

#[test]
fn d5_a_customers_default_route_needs_forced_tunnel_and_microsofts_does_not() {
    let mut rib = rib();
    announce(&mut rib, CE0, "0.0.0.0/0");
    announce(&mut rib, A1, "0.0.0.0/0");
    assert_eq!(reasons(&rib), [(A_PRIVATE, "D5")], "b/private has forced-tunnel");
    assert_eq!((told(&mut rib, A2).len(), told(&mut rib, B1)), (0, vec!["+0.0.0.0/0".to_owned()]));
}

#[test]
fn d6_a_route_filter_lets_in_what_has_one_of_its_communities_and_customers_need_none() {
    let europe = communities::community("West Europe").unwrap();
    let mut rib = with_domain(A_MICROSOFT, |domain| domain.route_filter = vec![europe]);
    announce_with(&mut rib, MS1, "20.0.0.0/8", |a| {
        a.communities = vec![Community::new(12_076, 5_010), europe]
    });
    announce_with(&mut rib, MS1, "40.0.0.0/8", |a| a.communities = vec![Community::new(12_076, 5_010)]);
    announce(&mut rib, MS1, "50.0.0.0/8");
    announce(&mut rib, CE1, "60.0.0.0/8");
    let refused: Vec<_> = rib.refused().iter().map(|it| (it.prefix.to_string(), it.refusal.rule())).collect();
    assert_eq!(refused, [("40.0.0.0/8".to_owned(), "D6"), ("50.0.0.0/8".to_owned(), "D6")]);
}

#[test]
fn d8_a_source_that_no_msee_has_been_told_of_lacks_a_return_route() {
    let mut rib = rib();
    announce(&mut rib, CE0, "30.0.0.0/16");
    for link in [A1, A2] {
        rib.take_outgoing(link);
    }
    let has = |rib: &Rib, source: &str| rib.has_return_route(A_PRIVATE, source.parse().unwrap());
    assert_eq!((has(&rib, "30.0.9.9"), has(&rib, "31.0.0.1")), (Some(true), Some(false)));
    for msee in [A1, A1_V6, A2, PeerId(3)] {
        rib.peer_down(msee);
    }
    assert_eq!(has(&rib, "30.0.9.9"), None, "no MSEE's session is up: nothing can be said");
}

#[test]
fn d9_nothing_crosses_from_microsoft_to_microsoft_or_from_customer_to_customer() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    announce(&mut rib, CE0, "30.0.0.0/8");
    announce_with(&mut rib, CE0, "31.0.0.0/8", |a| a.as_path = AsPath::sequence([65_020, 12_076]));
    assert_eq!((told(&mut rib, A2), told(&mut rib, MS1)), (vec!["+30.0.0.0/8".to_owned()], vec![]));
    assert!(!told(&mut rib, CE0_OTHER).contains(&"+30.0.0.0/8".to_owned()));
    let held: Vec<_> = rib.held_back().iter().map(|held| held.reason.rule()).collect();
    assert!(held.contains(&"D9"), "and AS12076 in a customer's path is shown: {held:?}");
}

#[test]
fn e1_as_numbers_that_expressroute_does_not_take_are_refused_in_a_customers_path_only() {
    for asn in [64_496, 65_515, 65_520, 65_535, 23_456] {
        let mut rib = rib();
        for (peer, own) in [(CE0, 65_020), (A1, 12_076)] {
            announce_with(&mut rib, peer, "30.0.0.0/8", |a| a.as_path = AsPath::sequence([own, asn]));
        }
        let refused: Vec<_> =
            rib.refused().iter().map(|it| (peer_of(it.source), it.refusal.rule())).collect();
        assert_eq!(refused, [(CE0, "E1"), (CE0, "E1")], "{asn}, in both domains of ce0");
    }
    let mut rib = rib();
    announce_with(&mut rib, CE0, "30.0.0.0/8", |a| {
        a.as_path = AsPath::sequence([65_020, 64_512, 4_200_000_000])
    });
    assert_eq!(rib.refused(), [], "private ones are fine on private peering");
}

#[test]
fn b11_local_preference_ranks_and_prepending_lengthens_what_one_peer_is_told() {
    let mut rib = with_peer(A2, |peer| {
        peer.local_pref = 200;
        peer.prepend = 3;
    });
    announce(&mut rib, A1, "20.0.0.0/8");
    announce_with(&mut rib, A2, "20.0.0.0/8", |a| a.as_path = AsPath::sequence([12_076, 8_075]));
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "20.0.0.0/8".into(), vec![A2])]);
    announce(&mut rib, CE0, "30.0.0.0/8");
    let path =
        |rib: &mut Rib, peer| rib.take_outgoing(peer)[0].attributes.as_ref().unwrap().as_path.to_string();
    assert_eq!(
        (path(&mut rib, A1), path(&mut rib, A2)),
        ("65010 65020".into(), "65010 65010 65010 65010 65020".into())
    );
}

#[test]
fn b6_a_spared_peers_paths_come_last_and_it_is_told_to_do_alike_until_it_is_used_again() {
    let mut rib = with_peer(A1, |peer| peer.local_pref = 200);
    for peer in [A1, A2] {
        announce(&mut rib, peer, "20.0.0.0/8");
    }
    announce(&mut rib, A1, "21.0.0.0/8");
    announce(&mut rib, CE0, "30.0.0.0/8");
    rib.take_fib_changes();
    rib.take_outgoing(A1);
    for (prefix, expected) in [("21.0.0.0/8", true), ("20.0.0.0/8", false), ("22.0.0.0/8", false)] {
        assert_eq!(rib.is_only_over(A_PRIVATE, net(prefix), &[A1]), expected, "{prefix}");
    }
    let told = |rib: &mut Rib| {
        let updates = rib.take_outgoing(A1);
        let attributes = updates[0].attributes.clone().unwrap();
        (updates.len(), attributes.as_path.to_string(), attributes.communities.clone())
    };
    let (other, only) = (
        |by: &[PeerId]| (A_PRIVATE, "20.0.0.0/8".into(), by.to_vec()),
        (A_PRIVATE, "21.0.0.0/8".into(), vec![A1]),
    );
    rib.spare(A1, true);
    assert_eq!(changes(&mut rib), [other(&[A2]), only.clone()], "21/8 has no other path in its domain");
    let shutdown = vec![Community(0xFFFF_0000)];
    assert_eq!(told(&mut rib), (1, format!("{}65020", "65010 ".repeat(9)), shutdown), "RFC 8326 and B7");
    rib.reconfigure(topology());
    assert_eq!(changes(&mut rib), [], "another configuration uses it no more than this one");
    rib.take_outgoing(A1);
    rib.spare(A1, true);
    assert_eq!(rib.take_outgoing(A1), [], "it is spared already");
    rib.spare(A1, false);
    assert_eq!(changes(&mut rib), [other(&[A1, A2]), only]);
    assert_eq!(told(&mut rib), (1, "65010 65020".into(), vec![]));
}

#[test]
fn b2_a_peer_whose_link_carries_nothing_comes_last_and_is_told_nothing_of_it_and_what_has_no_other_path_stays()
 {
    let mut rib = rib();
    for peer in [A1, A2] {
        announce(&mut rib, peer, "20.0.0.0/8");
    }
    announce(&mut rib, A1, "21.0.0.0/8");
    announce(&mut rib, CE0, "30.0.0.0/8");
    rib.take_fib_changes();
    for peer in [A1, CE0] {
        rib.take_outgoing(peer);
    }
    let (other, only) = (
        |by: &[PeerId]| (A_PRIVATE, "20.0.0.0/8".into(), by.to_vec()),
        (A_PRIVATE, "21.0.0.0/8".into(), vec![A1]),
    );
    rib.unreach(A1, true);
    assert_eq!(changes(&mut rib), [other(&[A2]), only.clone()], "21/8 has no other path in its domain");
    assert_eq!(rib.take_outgoing(A1), []);
    rib.reconfigure(topology());
    assert_eq!(changes(&mut rib), [], "another configuration reaches it no more than this one");
    rib.spare(A1, true);
    rib.unreach(A1, false);
    assert_eq!(changes(&mut rib), [], "an operator has taken it out of use meanwhile");
    rib.spare(A1, false);
    assert_eq!(changes(&mut rib), [other(&[A1, A2]), only]);
    rib.unreach(PeerId(99), true);
}

#[test]
fn b7_routes_that_ask_to_be_spared_are_counted_by_peer() {
    let mut rib = rib();
    announce_with(&mut rib, A1, "20.0.0.0/8", |a| a.as_path = AsPath::sequence([12_076; 9]));
    announce(&mut rib, A1, "21.0.0.0/8");
    assert_eq!((rib.peer_counts(A1).draining, rib.peer_counts(A2).draining), (1, 0));
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(rib.peer_counts(A1).draining, 0);
}

fn restart(preserved: bool) -> Option<GracefulRestart> {
    let families = [Family::Ipv4Unicast, Family::Ipv6Unicast].map(|family| (family, preserved));
    Some(GracefulRestart {
        restarting: true,
        notification: true,
        time: Seconds(90),
        families: families.to_vec(),
    })
}

fn kept() -> Kept {
    Kept { families: vec![Family::Ipv4Unicast, Family::Ipv6Unicast], wait: Seconds(90) }
}

fn at(seconds: u64) -> Moment {
    Moment(std::time::Duration::from_secs(seconds))
}

#[test]
fn b6_routes_of_a_session_that_we_have_ended_stay_when_it_is_back_until_the_peer_has_told_all() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    announce(&mut rib, A1, "21.0.0.0/8");
    rib.take_fib_changes();
    rib.peer_ended(A1, &kept());
    let peer = rib.config().peer(A1).unwrap().clone();
    // No word of graceful restart, as from most MSEEs.
    rib.peer_up(A1, &facts(&peer, &[Family::Ipv4Unicast, Family::Ipv6Unicast]));
    assert_eq!(changes(&mut rib), [], "nothing is lost in between");
    announce(&mut rib, A1, "20.0.0.0/8");
    end_of_rib(&mut rib, A1, Family::Ipv4Unicast);
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "21.0.0.0/8".into(), vec![])], "it is told no more");
}

fn end_of_rib(rib: &mut Rib, peer: PeerId, family: Family) {
    rib.update(peer, Update { end_of_rib: Some(family), ..Update::default() });
}

/// A base in which `A1` had two routes and was lost at second 10.
fn lost() -> Rib {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    announce(&mut rib, A1, "21.0.0.0/8");
    assert_eq!(rib.take_fib_changes().len(), 2);
    rib.tick(at(10));
    rib.peer_lost(A1, &kept());
    assert!(rib.take_fib_changes().is_empty(), "packets keep their way");
    assert_eq!(rib.stale(A1), 2);
    rib
}

#[test]
fn rfc_4724_routes_of_a_peer_that_is_back_in_time_are_never_missed_and_what_it_does_not_say_again_goes() {
    let mut rib = lost();
    rib.tick(at(99));
    up(&mut rib, A1, |facts| facts.restart = restart(true));
    announce(&mut rib, A1, "20.0.0.0/8");
    assert!(rib.take_fib_changes().is_empty());
    end_of_rib(&mut rib, A1, Family::Ipv4Unicast);
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "21.0.0.0/8".into(), vec![])]);
    rib.tick(at(10_000));
    assert!(rib.take_fib_changes().is_empty() && rib.peer_counts(A1).received == 1);
}

#[test]
fn rfc_4724_routes_of_a_peer_that_stays_away_did_not_preserve_or_is_lost_again_go() {
    let mut rib = lost();
    rib.tick(at(99));
    assert!(rib.take_fib_changes().is_empty());
    rib.tick(at(100));
    assert_eq!(changes(&mut rib).len(), 2, "its own restart time is over");

    let mut rib = lost();
    up(&mut rib, A1, |facts| facts.restart = restart(false));
    assert_eq!(changes(&mut rib).len(), 2, "the F bit is not set");

    let mut rib = lost();
    up(&mut rib, A1, |facts| facts.restart = restart(true));
    announce(&mut rib, A1, "20.0.0.0/8");
    rib.peer_lost(A1, &kept());
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "21.0.0.0/8".into(), vec![])], "stale twice is gone");

    let mut rib = lost();
    up(&mut rib, A1, |facts| facts.restart = restart(true));
    rib.tick(at(10 + 361));
    assert_eq!(changes(&mut rib).len(), 2, "no End-of-RIB in six minutes");

    let mut rib = lost();
    rib.peer_down(A1);
    assert_eq!(changes(&mut rib).len(), 2, "ended for good");
}

#[test]
fn rfc_7313_what_is_not_told_between_the_marks_of_a_refresh_goes_and_only_then() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    announce(&mut rib, A1, "21.0.0.0/8");
    rib.take_fib_changes();
    let mark = |rib: &mut Rib, mark| rib.update(A1, Update { refresh: Some(mark), ..Update::default() });
    mark(&mut rib, RefreshMark::Begin(Family::Ipv4Unicast));
    announce(&mut rib, A1, "21.0.0.0/8");
    assert!(rib.take_fib_changes().is_empty());
    mark(&mut rib, RefreshMark::End(Family::Ipv4Unicast));
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "20.0.0.0/8".into(), vec![])]);
}

#[test]
fn rfc_7313_our_answer_to_a_refresh_is_marked_where_that_was_agreed() {
    let mut rib = rib();
    announce(&mut rib, CE0, "30.0.0.0/8");
    for (enhanced, expected) in [(true, 3), (false, 1)] {
        up(&mut rib, A1, |facts| facts.enhanced_refresh = enhanced);
        rib.take_outgoing(A1);
        rib.refresh(A1, Family::Ipv4Unicast);
        let updates = rib.take_outgoing(A1);
        assert_eq!(updates.len(), expected, "{updates:?}");
        assert_eq!(updates[0].refresh.is_some(), enhanced);
    }
}

#[test]
fn rfc_9234_leaks_are_refused_marks_are_set_and_marked_routes_go_down_only() {
    let by = |asn: u32| move |a: &mut PathAttributes| a.only_to_customer = Some(Asn(asn));
    // Our role towards ce0, who marked the route, whether it is a leak.
    let rows = [
        (None, Some(65_020), false),
        (Some(Role::Provider), None, false),
        (Some(Role::Provider), Some(65_020), true),
        (Some(Role::Peer), Some(65_020), false),
        (Some(Role::Peer), Some(7), true),
        (Some(Role::Customer), Some(7), false),
    ];
    for (role, mark, is_leak) in rows {
        let mut rib = with_peer(CE0, |peer| peer.role = role);
        announce_with(&mut rib, CE0, "30.0.0.0/8", |a| mark.into_iter().for_each(|asn| by(asn)(a)));
        assert_eq!(!rib.refused().is_empty(), is_leak, "{role:?} {mark:?}");
    }
    // From our provider without a mark: marked with its AS, and not told to another provider.
    let mut config = topology();
    config.peers[usize::from(CE0.0)].role = Some(Role::Customer);
    config.peers[usize::from(A1.0)].role = Some(Role::Customer);
    let mut rib = rib_of(config);
    announce(&mut rib, CE0, "30.0.0.0/8");
    assert_eq!(told(&mut rib, A1), Vec::<String>::new());
    let updates = rib.take_outgoing(A2);
    assert_eq!(updates[0].attributes.as_ref().unwrap().only_to_customer, Some(Asn(65_020)));
    assert_eq!(rib.held_back()[0].reason, HoldBack::CustomersOnly);
    // To a customer of ours: marked with our AS.
    let mut rib = with_peer(CE0, |peer| peer.role = Some(Role::Provider));
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(rib.take_outgoing(CE0)[0].attributes.as_ref().unwrap().only_to_customer, Some(Asn(65_010)));
}

#[test]
fn every_refusal_has_a_rule_and_a_sentence() {
    let rows = [Refusal::TooLong, Refusal::NotInRouteFilter, Refusal::ReservedAsInPath, Refusal::Bogon];
    for refusal in rows {
        assert!(refusal.to_string().contains(refusal.rule()), "{refusal}");
    }
}
