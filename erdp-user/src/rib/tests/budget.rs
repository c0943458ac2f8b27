//! What a peer's routes may take, and what becomes of the rest (D2); what no message can hold; what Microsoft is not passed on.

use super::*;
use crate::bgp::{LargeCommunity, wire};
use crate::config::{MaxPrefixes, WhenTooMany};

/// As many communities as one extended message can have, roughly: 56,000 bytes.
const OVERSIZED: u32 = 14_000;
const MIB: usize = 1 << 20;

fn with(peer: PeerId, change: impl FnOnce(&mut RibPeer)) -> Rib {
    let mut config = topology();
    change(&mut config.peers[usize::from(peer.0)]);
    rib_of(config)
}

/// A route whose attributes are as long as a message, and no other route's.
fn announce_oversized(rib: &mut Rib, peer: PeerId, prefix: &str, number: u32) {
    announce_with(rib, peer, prefix, |attributes| {
        attributes.communities = (0..OVERSIZED).map(|at| Community(number << 16 | at)).collect();
    });
}

fn prefix(peer: PeerId, number: u32) -> String {
    if peer == A1_V6 { format!("2600:{number:x}::/32") } else { format!("30.{number}.0.0/16") }
}

fn after(seconds: u64) -> Moment {
    Moment(std::time::Duration::from_secs(seconds))
}

#[test]
fn d2_an_msee_with_more_than_its_memory_keeps_its_session_and_the_surplus_is_refused_and_counted() {
    for peer in [A1, A1_V6] {
        let mut rib = with(peer, |peer| peer.max_memory = MIB);
        for number in 1..=200 {
            announce_oversized(&mut rib, peer, &prefix(peer, number), number);
        }
        let counts = rib.peer_counts(peer);
        assert_eq!((rib.take_overflows(), rib.families(peer).len()), (vec![], 2), "the session stays");
        assert!(counts.memory <= MIB && (15..=20).contains(&counts.received), "{counts:?}");
        assert_eq!(counts.surplus, 200 - counts.received as u64);
        assert!(counts.is_over && rib.attributes.bytes() <= MIB, "what is refused is not kept");
        let logged = rib.take_surplus();
        let excess = Excess::Memory { limit: MIB };
        assert_eq!((logged.len(), logged[0].excess, logged[0].refused), (1, excess, counts.surplus));
        announce_oversized(&mut rib, peer, &prefix(peer, 201), 201);
        assert_eq!(rib.take_surplus(), [], "once in ten seconds");
        // Its memory comes back when it has gone, and is swept although nobody announces anything any more.
        rib.tick(after(100));
        rib.peer_down(peer);
        let counts = rib.peer_counts(peer);
        assert_eq!((counts.memory, counts.received, counts.is_over), (0, 0, false));
        rib.tick(after(101));
        assert!(!rib.take_released());
        rib.tick(after(103));
        assert!(rib.take_released());
        assert_eq!((rib.attributes.bytes(), rib.attributes.len()), (0, 0));
    }
}

#[test]
fn d2_a_customers_router_with_more_than_its_memory_is_sent_away_with_the_existing_back_off() {
    for (peer, prefixes) in [(CE0, ["30.1.0.0/16", "30.2.0.0/16"]), (CE1, ["2600:1::/32", "2600:2::/32"])] {
        let mut rib = with(peer, |peer| peer.max_memory = 100_000);
        announce_oversized(&mut rib, peer, prefixes[0], 1);
        assert_eq!(rib.take_overflows(), []);
        announce_oversized(&mut rib, peer, prefixes[1], 2);
        let (excess, wait) = (Excess::Memory { limit: 100_000 }, Seconds(60));
        assert_eq!(rib.take_overflows(), [Overflow { peer, excess, wait }]);
        announce_oversized(&mut rib, peer, "30.3.0.0/16", 3);
        assert_eq!((rib.take_overflows(), rib.peer_counts(peer).received), (vec![], 0), "it is not heard");
        rib.peer_down(peer);
        assert_eq!(rib.peer_counts(peer).memory, 0);
    }
}

#[test]
fn d2_no_route_of_a_peer_that_exceeds_its_limit_is_used_or_advertised_while_its_session_still_ends() {
    let mut rib = with(CE0, |peer| peer.max_prefixes = Some(MaxPrefixes { limit: 3, wait: Seconds(60) }));
    let announce = |rib: &mut Rib, count: u32| {
        let announced: Vec<IpNet> = (1..=count).map(|number| net(&prefix(CE0, number))).collect();
        let attributes = Some(Arc::new(attributes(rib, CE0, &prefix(CE0, 1))));
        rib.update(CE0, Update { announced, attributes, ..Update::default() });
    };
    announce(&mut rib, 3);
    assert!(changes(&mut rib).iter().all(|(_, _, peers)| *peers == [CE0]));
    told(&mut rib, A1);
    announce(&mut rib, 4);
    assert_eq!(rib.take_overflows().len(), 1);
    let used = changes(&mut rib);
    assert!(used.len() >= 3 && used.iter().all(|(_, _, peers)| peers.is_empty()), "{used:?}");
    let words = told(&mut rib, A1);
    assert!(words.len() == 3 && words.iter().all(|word| word.starts_with('-')), "{words:?}");
}

#[test]
fn d2_an_msee_with_too_many_prefixes_is_cut_at_the_limit_in_each_family_and_sent_away_only_where_that_is_configured()
 {
    let max = Some(MaxPrefixes { limit: 3, wait: Seconds(60) });
    for peer in [A1, A1_V6] {
        let mut rib = with(peer, |peer| peer.max_prefixes = max);
        let all: Vec<IpNet> = (1..=10).map(|number| net(&prefix(peer, number))).collect();
        let attributes = attributes(&rib, peer, &prefix(peer, 1));
        let update = Update { announced: all, attributes: Some(Arc::new(attributes)), ..Update::default() };
        rib.update(peer, update.clone());
        rib.update(peer, update.clone());
        let counts = rib.peer_counts(peer);
        assert_eq!((counts.received, counts.surplus, rib.take_overflows()), (3, 14, vec![]));
        assert_eq!(changes(&mut rib).len(), 3, "and what fits is used");
        let family = Family::of(&update.announced[0]);
        assert_eq!(
            rib.surplus().map(|row| row.excess).collect::<Vec<_>>(),
            [Excess::Prefixes { family, limit: 3 }]
        );
        let mut ceasing =
            with(peer, |peer| (peer.max_prefixes, peer.when_too_many) = (max, WhenTooMany::Cease));
        ceasing.update(peer, update);
        assert_eq!(ceasing.take_overflows().len(), 1);
    }
}

#[test]
fn d2_new_attributes_that_find_no_room_take_the_old_ones_with_them() {
    let mut rib = with(A1, |peer| peer.max_memory = 100_000);
    announce(&mut rib, A1, "30.1.0.0/16");
    announce_oversized(&mut rib, A1, "30.2.0.0/16", 2);
    assert_eq!(changes(&mut rib).len(), 2);
    announce_oversized(&mut rib, A1, "30.1.0.0/16", 1);
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "30.1.0.0/16".to_owned(), vec![])]);
    assert_eq!((rib.peer_counts(A1).received, rib.peer_counts(A1).surplus), (1, 1));
}

#[test]
fn d2_a_peer_whose_surplus_has_room_again_is_asked_for_it_and_not_more_than_once_a_minute() {
    let max = Some(MaxPrefixes { limit: 10, wait: Seconds(60) });
    let mut rib = with(A1, |peer| peer.max_prefixes = max);
    rib.tick(after(10));
    for number in 1..=12 {
        announce(&mut rib, A1, &prefix(A1, number));
    }
    rib.tick(after(11));
    assert_eq!(rib.take_wanted_again(), [], "there is no room");
    withdraw(&mut rib, A1, &prefix(A1, 1));
    rib.tick(after(12));
    assert_eq!(rib.take_wanted_again(), [(A1, Family::Ipv4Unicast)]);
    rib.tick(after(13));
    assert_eq!((rib.take_wanted_again(), rib.peer_counts(A1).is_over), (vec![], false));
    for number in [1, 11, 12] {
        announce(&mut rib, A1, &prefix(A1, number));
    }
    assert!(rib.peer_counts(A1).is_over);
    withdraw(&mut rib, A1, &prefix(A1, 2));
    rib.tick(after(70));
    assert_eq!(rib.take_wanted_again(), []);
    rib.tick(after(73));
    assert_eq!(rib.take_wanted_again(), [(A1, Family::Ipv4Unicast)]);
}

#[test]
fn d2_each_set_of_attributes_is_counted_once_for_each_peer_that_has_it_and_nothing_is_left_of_any_order_of_events()
 {
    let mut rib = rib();
    let big = |attributes: &mut PathAttributes| attributes.communities = vec![Community(7); 1_000];
    announce_with(&mut rib, A1, "30.1.0.0/16", big);
    let one = rib.peer_counts(A1).memory;
    announce_with(&mut rib, A1, "30.2.0.0/16", big);
    assert!(rib.peer_counts(A1).memory - one < 1_000, "the same set again costs a prefix");
    announce_with(&mut rib, CE0, "20.1.0.0/16", big);
    assert!(rib.peer_counts(CE0).memory > 4_000);
    // Any order: a set comes, is replaced by others, and goes.
    let mut random = 1_u32;
    let mut next = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    for _ in 0..5_000 {
        let (number, set) = (next(20), next(6));
        match next(3) {
            0 => withdraw(&mut rib, A1, &prefix(A1, number)),
            _ => announce_with(&mut rib, A1, &prefix(A1, number), |it| it.med = Some(set)),
        }
    }
    for number in 0..20 {
        withdraw(&mut rib, A1, &prefix(A1, number));
    }
    assert_eq!((rib.peer_counts(A1).received, rib.peer_counts(A1).memory), (0, 0));
}

#[test]
fn d2_paths_with_identifiers_are_counted_as_routes_are() {
    let mut rib = with(A1, |peer| peer.max_memory = MIB);
    for number in 0..100 {
        let mut attributes = attributes(&rib, A1, "30.1.0.0/16");
        attributes.communities = (0..OVERSIZED).map(|at| Community(number << 16 | at)).collect();
        let update = Update {
            announced: vec![net("30.1.0.0/16")],
            attributes: Some(Arc::new(attributes)),
            path: Some(PathId(number)),
            ..Update::default()
        };
        rib.update(A1, update);
    }
    let counts = rib.peer_counts(A1);
    assert!(counts.memory <= MIB && counts.received < 20 && counts.surplus > 80, "{counts:?}");
    for number in 0..100 {
        let path = Some(PathId(number));
        rib.update(A1, Update { withdrawn: vec![net("30.1.0.0/16")], path, ..Update::default() });
    }
    assert_eq!(rib.peer_counts(A1).memory, 0);
}

/// A path so long that no message of 4,096 bytes holds it.
fn long(attributes: &mut PathAttributes) {
    attributes.large_communities = (0..400).map(|at| LargeCommunity(65_020, 0, at)).collect();
}

#[test]
fn rfc8654_4_a_route_that_becomes_too_long_for_a_peers_messages_is_withdrawn_from_it_and_listed() {
    let mut rib = rib();
    announce(&mut rib, CE0, "20.1.0.0/16");
    announce(&mut rib, CE0, "20.2.0.0/16");
    assert_eq!(told(&mut rib, A1), ["+20.1.0.0/16", "+20.2.0.0/16"]);
    announce_with(&mut rib, CE0, "20.1.0.0/16", long);
    assert_eq!(told(&mut rib, A1), ["-20.1.0.0/16"], "it must not keep the old path");
    assert_eq!((rib.peer_counts(A1).advertised, rib.peer_counts(A1).too_long), (1, 1));
    assert_eq!((rib.take_too_long(A1), rib.take_too_long(A1)), (Some(net("20.1.0.0/16")), None));
    let held = rib.held_back();
    let row = held.iter().find(|row| row.peer == A1).expect("it is listed");
    assert_eq!((row.prefix, row.reason), (net("20.1.0.0/16"), HoldBack::TooLong));
    // The customer's other router hears nothing of its own side anyway; a shorter path is advertised again.
    announce(&mut rib, CE0, "20.1.0.0/16");
    assert_eq!(told(&mut rib, A1), ["+20.1.0.0/16"]);
    assert_eq!((rib.peer_counts(A1).too_long, rib.held_back()), (0, vec![]));
}

#[test]
fn rfc8654_4_a_peer_with_extended_messages_is_advertised_what_others_are_not() {
    let mut rib = rib();
    let peer = rib.config().peer(A2).unwrap().clone();
    let extended = SessionFacts { extended_messages: true, ..facts(&peer, &[Family::Ipv4Unicast]) };
    rib.peer_up(A2, &extended);
    told(&mut rib, A2);
    announce_with(&mut rib, CE0, "20.1.0.0/16", long);
    let updates = rib.take_outgoing(A2);
    assert_eq!(updates.len(), 1);
    assert_eq!(wire::encode_update(&updates[0], &wire::Context::of(&extended)).map(|it| it.len()), Ok(1));
    assert_eq!((told(&mut rib, A1), rib.peer_counts(A1).too_long), (vec![], 1));
}

/// An attribute of some vendor's, as it has reset sessions of others (May 2025).
fn unknown(code: u8) -> Box<[RawAttribute]> {
    Box::new([RawAttribute { flags: 0xe0, code, value: vec![1, 0, 7, 0, 0, 0, 0, 0, 0, 1] }])
}

#[test]
fn microsoft_is_passed_on_attributes_that_are_not_read_only_where_they_are_listed_and_they_are_counted() {
    let codes = |rib: &mut Rib, peer: PeerId| -> Vec<u8> {
        let updates = rib.take_outgoing(peer);
        let raw = updates.iter().filter_map(|update| update.attributes.as_ref());
        raw.flat_map(|attributes| attributes.unknown_transitive.iter().map(|raw| raw.code)).collect()
    };
    let mut rib = with(A2, |peer| peer.passes = Some(vec![40]));
    announce_with(&mut rib, CE0, "20.1.0.0/16", |attributes| attributes.unknown_transitive = unknown(40));
    announce_with(&mut rib, CE0, "20.2.0.0/16", |attributes| attributes.unknown_transitive = unknown(23));
    assert_eq!(codes(&mut rib, A1), [] as [u8; 0]);
    assert_eq!(codes(&mut rib, A2), [40]);
    assert_eq!((rib.peer_counts(A1).stripped, rib.peer_counts(A2).stripped), (2, 1));
    // A customer's router is passed on everything, from wherever it comes (RFC 4271 section 5).
    announce_with(&mut rib, A1, "30.1.0.0/16", |attributes| attributes.unknown_transitive = unknown(40));
    assert_eq!((codes(&mut rib, CE0), rib.peer_counts(CE0).stripped), (vec![40], 0));
    // What is read is passed on as it was.
    announce_with(&mut rib, CE0, "20.3.0.0/16", |it| {
        (it.communities, it.only_to_customer) = (vec![Community::new(65_020, 1)], None);
        it.large_communities = Box::new([LargeCommunity(1, 2, 3)]);
        it.extended_communities = Box::new([7]);
    });
    let updates = rib.take_outgoing(A1);
    let attributes = updates[0].attributes.as_ref().unwrap();
    assert_eq!((attributes.communities.len(), attributes.large_communities.len()), (1, 1));
    assert_eq!((attributes.extended_communities.len(), rib.peer_counts(A1).stripped), (1, 2));
}

#[test]
fn another_list_of_attributes_to_pass_on_reaches_the_msees_at_once() {
    let mut rib = rib();
    announce_with(&mut rib, CE0, "20.1.0.0/16", |attributes| attributes.unknown_transitive = unknown(40));
    for peer in [A1, A2] {
        assert_eq!(told(&mut rib, peer), ["+20.1.0.0/16"]);
    }
    let mut config = rib.config().clone();
    config.peers[usize::from(A1.0)].passes = Some(vec![40]);
    rib.reconfigure(config);
    assert_eq!(told(&mut rib, A1), ["+20.1.0.0/16"]);
    assert_eq!(told(&mut rib, A2), [] as [&str; 0]);
}
