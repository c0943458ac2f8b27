//! Tables: one row for each rule of import, export and decision; what is handed out, and when.

mod add_path;
mod budget;
mod connected;
mod errors;
mod kernel;
mod other_box;
mod paths;
mod policies;
mod reconfigure;

use std::net::Ipv4Addr;
use std::path::Path;

use super::{intern::SWEEP_MIN, *};
use crate::bgp::{AsPath, Asn, Community, Origin, RawAttribute, RefreshMark, Seconds};
use crate::config::{Config, PeeringKind};

mod rules;

/// Circuit `a` with both peerings, circuit `b` with private peering; `ce0` reaches both private domains, `ce1`
/// Microsoft peering and `a/private`. The IPv6 routes of `ce1` come over its IPv4 session.
const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "a"
bandwidth = "1G"
primary = { local = "m1" }
secondary = { local = "m2" }
[circuit.private]
ipv4 = "198.18.0.0/29"
ipv6 = "fd00::/125"
vlan = 100
[circuit.microsoft]
ipv4 = "198.18.1.0/29"
vlan = 200
[[circuit]]
name = "b"
bandwidth = "1G"
primary = { local = "m3" }
secondary = { local = "m4" }
[circuit.private]
ipv4 = "198.18.2.0/29"
forced-tunnel = true
[[attachment]]
interface = "ce0"
peerings = ["a/private", "b/private"]
ipv4 = "198.18.10.1/24"
peers = [{ address = "198.18.10.2", asn = 65020 }, { address = "198.18.10.3", asn = 65030 }]
[[attachment]]
interface = "ce1"
peerings = ["a/microsoft", "a/private"]
ipv4 = "198.18.11.1/30"
ipv6 = "fd00:11::1/64"
peers = [{ address = "198.18.11.2", asn = 65040, families = ["ipv4", "ipv6"] }]
"#;

pub(super) const A_PRIVATE: DomainId = DomainId(0);
const A_MICROSOFT: DomainId = DomainId(1);
const B_PRIVATE: DomainId = DomainId(2);
/// Peers by their place in the configuration.
const A1: PeerId = PeerId(0);
const A1_V6: PeerId = PeerId(1);
const A2: PeerId = PeerId(2);
const MS1: PeerId = PeerId(4);
const B1: PeerId = PeerId(6);
const CE0: PeerId = PeerId(8);
const CE0_OTHER: PeerId = PeerId(9);
const CE1: PeerId = PeerId(10);

pub(super) fn topology() -> RibConfig {
    RibConfig::new(&Config::parse(CONFIG, Path::new("erdp.toml")).unwrap().0)
}

pub(super) fn facts(peer: &RibPeer, families: &[Family]) -> SessionFacts {
    let router_id = Ipv4Addr::new(198, 19, 0, 100 - peer.id().0 as u8);
    SessionFacts {
        router_id,
        families: families.to_vec(),
        hold: Seconds(180),
        local: peer.addresses[0].addr(),
        session: 1,
        asn: peer.asn,
        next_hop_v4: None,
        next_hop_v6: None,
        four_octet_asn: true,
        route_refresh: true,
        end_of_rib: true,
        internal: false,
        enhanced_refresh: false,
        extended_messages: false,
        restart: None,
        notification_restart: false,
        add_path: Vec::new(),
        role: None,
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A base with every session up, its first tables and End-of-RIBs taken.
fn rib() -> Rib {
    rib_of(topology())
}

fn rib_of(config: RibConfig) -> Rib {
    let mut rib = Rib::new(config);
    for peer in rib.config().clone().peers {
        rib.peer_up(peer.id(), &facts(&peer, &[Family::Ipv4Unicast, Family::Ipv6Unicast]));
        assert_eq!(rib.take_outgoing(peer.id()).len(), 2, "only the two End-of-RIBs");
    }
    rib
}

/// What a peer would send: its own AS, itself as next hop in the prefix's family.
fn attributes(rib: &Rib, peer: PeerId, prefix: &str) -> PathAttributes {
    let peer = rib.config().peer(peer).unwrap();
    let next_hop = match (peer.remote, net(prefix)) {
        (IpAddr::V4(_), IpNet::V6(_)) => "fd00:11::2".parse().unwrap(),
        (remote, _) => remote,
    };
    PathAttributes {
        origin: Origin::Igp,
        as_path: AsPath::sequence([peer.asn.0]),
        ..PathAttributes::originated(next_hop)
    }
}

fn announce_with(rib: &mut Rib, peer: PeerId, prefix: &str, change: impl FnOnce(&mut PathAttributes)) {
    let mut attributes = attributes(rib, peer, prefix);
    change(&mut attributes);
    rib.update(
        peer,
        Update { announced: vec![net(prefix)], attributes: Some(Arc::new(attributes)), ..Update::default() },
    );
}

fn announce(rib: &mut Rib, peer: PeerId, prefix: &str) {
    announce_with(rib, peer, prefix, |_| ());
}

fn withdraw(rib: &mut Rib, peer: PeerId, prefix: &str) {
    rib.update(peer, Update { withdrawn: vec![net(prefix)], ..Update::default() });
}

fn peer_of(source: PathSource) -> PeerId {
    source.peer().expect("a peer's path")
}

fn changes(rib: &mut Rib) -> Vec<(DomainId, String, Vec<PeerId>)> {
    let peers = |change: &FibChange| change.paths.iter().map(|path| peer_of(path.source)).collect();
    rib.take_fib_changes()
        .iter()
        .map(|change| (change.domain, change.prefix.to_string(), peers(change)))
        .collect()
}

/// What a peer is told, as `+prefix` and `-prefix`.
fn told(rib: &mut Rib, peer: PeerId) -> Vec<String> {
    let mut words = Vec::new();
    for update in rib.take_outgoing(peer) {
        words.extend(update.withdrawn.iter().map(|prefix| format!("-{prefix}")));
        words.extend(update.announced.iter().map(|prefix| format!("+{prefix}")));
    }
    words
}

#[test]
fn the_constants_name_the_peers_of_the_configuration() {
    let config = topology();
    let rows = [
        (A1, "198.18.0.2"),
        (A1_V6, "fd00::2"),
        (A2, "198.18.0.6"),
        (MS1, "198.18.1.2"),
        (B1, "198.18.2.2"),
        (CE0, "198.18.10.2"),
        (CE0_OTHER, "198.18.10.3"),
        (CE1, "198.18.11.2"),
    ];
    for (peer, remote) in rows {
        assert_eq!(config.peer(peer).unwrap().remote.to_string(), remote);
    }
    assert_eq!(config.domain(A_MICROSOFT).unwrap().kind, PeeringKind::Microsoft);
}

#[test]
fn both_links_of_a_circuit_share_the_traffic_of_equal_paths() {
    let mut rib = rib();
    announce(&mut rib, A1, "10.0.0.0/8");
    announce(&mut rib, A2, "10.0.0.0/8");
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "10.0.0.0/8".into(), vec![A1, A2])]);
    rib.peer_down(A1);
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "10.0.0.0/8".into(), vec![A2])]);
    withdraw(&mut rib, A2, "10.0.0.0/8");
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "10.0.0.0/8".into(), vec![])]);
}

#[test]
fn a_route_of_one_domain_is_never_seen_in_another() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    announce(&mut rib, MS1, "30.0.0.0/8");
    announce(&mut rib, B1, "40.0.0.0/8");
    let expected = [
        (A_PRIVATE, "20.0.0.0/8".into(), vec![A1]),
        (A_MICROSOFT, "30.0.0.0/8".into(), vec![MS1]),
        (B_PRIVATE, "40.0.0.0/8".into(), vec![B1]),
    ];
    assert_eq!(changes(&mut rib), expected);
    assert_eq!(told(&mut rib, CE0), ["+20.0.0.0/8", "+40.0.0.0/8"]);
    assert_eq!(told(&mut rib, CE1), ["+20.0.0.0/8", "+30.0.0.0/8"]);
    for msee in [A1, A2, MS1, B1] {
        assert_eq!(told(&mut rib, msee), Vec::<String>::new(), "no transit");
    }
}

#[test]
fn a_customers_route_goes_to_the_msees_of_its_domains_and_to_no_customer() {
    let mut rib = rib();
    announce(&mut rib, CE0, "20.0.0.0/8");
    for (peer, expected) in [(A1, 1), (A2, 1), (B1, 1), (MS1, 0), (CE0, 0), (CE0_OTHER, 0), (CE1, 0)] {
        assert_eq!(told(&mut rib, peer).len(), expected, "{peer:?}");
    }
}

#[test]
fn what_a_peer_is_told_has_our_as_in_front_and_us_as_next_hop_and_nothing_that_stays_at_home() {
    let mut config = topology();
    config.peers[usize::from(A1_V6.0)].passes = Some(vec![200]);
    let mut rib = rib_of(config);
    let unread = RawAttribute { flags: 0xE0, code: 200, value: vec![1] };
    announce_with(&mut rib, CE1, "2600::/12", |attributes| {
        attributes.med = Some(5);
        attributes.local_pref = Some(7);
        attributes.communities = vec![Community(1)];
        attributes.unknown_transitive = [unread.clone()].into();
    });
    let updates = rib.take_outgoing(A1_V6);
    let told = updates[0].attributes.as_ref().unwrap();
    assert_eq!(told.as_path, AsPath::sequence([65010, 65040]));
    assert_eq!(told.next_hop, "fd00::1".parse::<IpAddr>().unwrap());
    assert_eq!((told.med, told.local_pref), (None, None));
    assert_eq!(told.communities, [Community(1)]);
    assert_eq!(*told.unknown_transitive, [unread]);
}

#[test]
fn ipv6_routes_go_over_an_ipv4_session_with_our_ipv6_address_as_next_hop() {
    let mut rib = rib();
    announce(&mut rib, A1_V6, "2600::/12");
    let updates = rib.take_outgoing(CE1);
    assert_eq!(updates[0].attributes.as_ref().unwrap().next_hop, "fd00:11::1".parse::<IpAddr>().unwrap());
    assert_eq!(told(&mut rib, CE0), Vec::<String>::new(), "ce0 has no IPv6 address to be the next hop");
}

/// Who announces what with which change, and the reason of each domain that refuses it.
type ImportRow = (PeerId, &'static str, fn(&mut PathAttributes), &'static [(DomainId, Refusal)]);

const IMPORT: &[ImportRow] = &[
    (A1, "10.0.0.0/8", |_| (), &[]),
    (A1, "10.0.0.1/32", |_| (), &[]),
    (A1, "0.0.0.0/0", |_| (), &[]),
    (MS1, "0.0.0.0/0", |_| (), &[(A_MICROSOFT, Refusal::DefaultOnMicrosoft)]),
    (CE0, "0.0.0.0/0", |_| (), &[(A_PRIVATE, Refusal::DefaultFromCustomer)]),
    (
        CE1,
        "::/0",
        |_| (),
        &[(A_PRIVATE, Refusal::DefaultFromCustomer), (A_MICROSOFT, Refusal::DefaultOnMicrosoft)],
    ),
    (CE1, "10.0.0.0/8", |_| (), &[(A_MICROSOFT, Refusal::Bogon)]),
    (CE1, "fd00:99::/48", |_| (), &[(A_MICROSOFT, Refusal::Bogon)]),
    (CE1, "2600::/12", |_| (), &[]),
    (MS1, "192.168.0.0/24", |_| (), &[(A_MICROSOFT, Refusal::Bogon)]),
    (MS1, "20.0.0.0/8", |_| (), &[]),
    (
        A1,
        "20.0.0.0/8",
        |a| a.as_path = AsPath::sequence([12076, 65010]),
        &[(A_PRIVATE, Refusal::OwnAsInPath)],
    ),
    (A1, "20.0.0.0/8", |a| a.as_path = AsPath::sequence([65001]), &[(A_PRIVATE, Refusal::WrongFirstAs)]),
    (A1, "20.0.0.0/8", |a| a.as_path = AsPath::default(), &[(A_PRIVATE, Refusal::WrongFirstAs)]),
    (A1, "198.18.2.4/30", |_| (), &[(A_PRIVATE, Refusal::OwnLinkSubnet)]),
    (A1, "198.18.10.128/25", |_| (), &[(A_PRIVATE, Refusal::OwnLinkSubnet)]),
    (A1, "198.18.0.0/16", |_| (), &[]),
    (A1, "20.0.0.0/8", |a| a.next_hop = [198, 18, 0, 1].into(), &[(A_PRIVATE, Refusal::NextHopIsUs)]),
    (A1, "20.0.0.0/8", |a| a.next_hop = [198, 18, 0, 6].into(), &[(A_PRIVATE, Refusal::NextHopElsewhere)]),
    (
        CE0,
        "20.0.0.0/8",
        |a| a.next_hop = [198, 18, 10, 77].into(),
        &[], // a third party on the same subnet
    ),
    (A1_V6, "2600::/12", |a| a.next_hop = [198, 18, 0, 2].into(), &[(A_PRIVATE, Refusal::NextHopElsewhere)]),
    (A1_V6, "2600::/12", |a| a.next_hop = "fe80::1".parse().unwrap(), &[]),
];

#[test]
fn each_import_rule_refuses_with_its_reason_in_its_domains_only() {
    for (peer, prefix, change, expected) in IMPORT {
        let mut rib = rib();
        announce_with(&mut rib, *peer, prefix, *change);
        let refused: Vec<_> = rib.refused().iter().map(|refused| (refused.domain, refused.refusal)).collect();
        assert_eq!(refused, *expected, "{peer:?} {prefix}");
        let domains = &rib.config().peer(*peer).unwrap().domains.clone();
        let accepted: Vec<_> = domains
            .iter()
            .filter(|domain| !expected.iter().any(|(refusing, _)| refusing == *domain))
            .collect();
        let changed: Vec<_> = rib.take_fib_changes().iter().map(|change| change.domain).collect();
        assert_eq!(changed.len(), accepted.len(), "{peer:?} {prefix}");
        assert_eq!(rib.peer_counts(*peer).refused, usize::from(!expected.is_empty()));
    }
}

#[test]
fn a_refused_route_replaces_the_accepted_one_before_it_and_counts_follow() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(changes(&mut rib).len(), 1);
    announce_with(&mut rib, A1, "20.0.0.0/8", |a| a.as_path = AsPath::sequence([12076, 65010]));
    assert_eq!(changes(&mut rib), [(A_PRIVATE, "20.0.0.0/8".into(), vec![])]);
    let counts = |rib: &Rib| (rib.peer_counts(A1).received, rib.peer_counts(A1).refused);
    assert_eq!(counts(&rib), (1, 1));
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(counts(&rib), (1, 0));
    withdraw(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(counts(&rib), (0, 0));
}

/// What the first and the second path change, the survivors, and the verdict on the first.
type DecisionRow = (fn(&mut PathAttributes), fn(&mut PathAttributes), &'static [PeerId], Verdict);

const DECISION: &[DecisionRow] = &[
    (|_| (), |_| (), &[A1, A2], Verdict::Multipath("lowest BGP identifier")),
    (|a| a.local_pref = Some(500), |_| (), &[A1, A2], Verdict::Multipath("lowest BGP identifier")),
    (|a| a.as_path = AsPath::sequence([12076, 12076]), |_| (), &[A2], Verdict::Lost("shortest AS path")),
    (|_| (), |a| a.as_path = AsPath::sequence([12076, 8075]), &[A1], Verdict::Best),
    (|a| a.origin = Origin::Incomplete, |a| a.origin = Origin::Egp, &[A2], Verdict::Lost("lowest origin")),
    (|a| a.med = Some(1), |_| (), &[A2], Verdict::Lost("lowest MED of the same neighbouring AS")),
    (|_| (), |a| a.med = Some(0), &[A1, A2], Verdict::Multipath("lowest BGP identifier")),
    (
        |a| a.as_path = AsPath::sequence([12076, 1]),
        |a| a.as_path = AsPath::sequence([12076, 2]),
        &[A1, A2],
        Verdict::Multipath("lowest BGP identifier"),
    ),
];

#[test]
fn each_decision_rule_decides_in_its_order() {
    for (index, (first, second, survivors, verdict)) in DECISION.iter().enumerate() {
        let mut rib = rib();
        announce_with(&mut rib, A1, "20.0.0.0/8", first);
        announce_with(&mut rib, A2, "20.0.0.0/8", second);
        assert_eq!(changes(&mut rib)[0].2, *survivors, "row {index}");
        let explained = rib.explain(A_PRIVATE, net("20.0.0.0/8"));
        assert_eq!(explained[0].2, *verdict, "row {index}");
    }
}

#[test]
fn meds_of_different_neighbours_are_not_compared() {
    let mut rib = rib();
    announce_with(&mut rib, CE0, "20.0.0.0/8", |a| a.med = Some(9));
    announce_with(&mut rib, CE0_OTHER, "20.0.0.0/8", |a| a.med = Some(1));
    assert_eq!(changes(&mut rib)[0].2, [CE0, CE0_OTHER]);
}

#[test]
fn local_preference_of_ours_comes_before_the_length_of_the_path() {
    let mut config = topology();
    config.peers[usize::from(A2.0)].local_pref = 200;
    let mut rib = Rib::new(config.clone());
    for peer in [A1, A2] {
        rib.peer_up(peer, &facts(config.peer(peer).unwrap(), &[Family::Ipv4Unicast]));
    }
    announce(&mut rib, A1, "20.0.0.0/8");
    announce_with(&mut rib, A2, "20.0.0.0/8", |a| a.as_path = AsPath::sequence([12076, 1, 2, 3]));
    assert_eq!(changes(&mut rib)[0].2, [A2]);
    assert_eq!(rib.explain(A_PRIVATE, net("20.0.0.0/8"))[0].2, Verdict::Lost("highest local preference"));
}

#[test]
fn the_paths_of_a_prefix_never_lead_to_both_sides() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(told(&mut rib, CE0), ["+20.0.0.0/8"]);
    announce(&mut rib, CE0, "20.0.0.0/8");
    assert_eq!(changes(&mut rib)[0].2, [CE0]);
    assert_eq!(rib.explain(A_PRIVATE, net("20.0.0.0/8"))[0].2, Verdict::Lost("customer's own route"));
    assert_eq!(told(&mut rib, CE0), ["-20.0.0.0/8"], "its own route is not told back to the customer");
}

#[test]
fn a_path_that_went_through_microsoft_is_not_offered_to_an_msee() {
    let mut rib = rib();
    announce_with(&mut rib, CE0, "20.0.0.0/8", |a| a.as_path = AsPath::sequence([65020, 12076]));
    assert_eq!(told(&mut rib, A1), Vec::<String>::new());
    assert_eq!(changes(&mut rib).len(), 2, "it is used all the same");
}

#[test]
fn a_peer_that_is_down_has_nothing_to_say() {
    let mut rib = rib();
    rib.peer_down(A1);
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(changes(&mut rib), []);
    assert_eq!(rib.peer_counts(A1), PeerCounts::default());
}

#[test]
fn well_known_communities_keep_a_route_at_home() {
    for community in [0xFFFF_FF01, 0xFFFF_FF02, 0xFFFF_FF03] {
        let mut rib = rib();
        announce(&mut rib, CE0, "20.0.0.0/8");
        assert_eq!(told(&mut rib, A1), ["+20.0.0.0/8"]);
        announce_with(&mut rib, CE0, "20.0.0.0/8", |a| a.communities = vec![Community(community)]);
        assert_eq!(told(&mut rib, A1), ["-20.0.0.0/8"], "{community:x}");
    }
}

#[test]
fn what_comes_and_goes_between_two_calls_is_not_mentioned() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    withdraw(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(changes(&mut rib), []);
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(told(&mut rib, CE0), ["+20.0.0.0/8"]);
    assert_eq!(changes(&mut rib).len(), 1);
    withdraw(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(told(&mut rib, CE1), Vec::<String>::new(), "never heard of it");
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(changes(&mut rib), []);
    assert_eq!(told(&mut rib, CE0), Vec::<String>::new());
}

#[test]
fn a_change_that_is_not_exported_is_not_told() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(told(&mut rib, CE0).len(), 1);
    announce_with(&mut rib, A1, "20.0.0.0/8", |a| a.med = Some(3));
    assert_eq!(told(&mut rib, CE0), Vec::<String>::new());
}

#[test]
fn end_of_rib_follows_the_first_table_of_each_session_once() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    rib.peer_down(CE0);
    assert!(!rib.has_outgoing(CE0));
    assert_eq!(rib.take_outgoing(CE0), [], "a peer that is down is told nothing");
    let peer = rib.config().peer(CE0).unwrap().clone();
    rib.peer_up(CE0, &facts(&peer, &[Family::Ipv4Unicast]));
    assert!(rib.has_outgoing(CE0));
    let updates = rib.take_outgoing(CE0);
    assert_eq!(updates[0].announced, [net("20.0.0.0/8")]);
    assert_eq!(updates[1], Update { end_of_rib: Some(Family::Ipv4Unicast), ..Update::default() });
    assert_eq!(updates.len(), 2);
    assert_eq!(rib.take_outgoing(CE0), []);
}

#[test]
fn a_refresh_repeats_one_family_and_nothing_else() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.0.0.0/8");
    announce(&mut rib, A1_V6, "2600::/12");
    assert_eq!(told(&mut rib, CE1).len(), 2);
    rib.refresh(CE1, Family::Ipv6Unicast);
    assert_eq!(told(&mut rib, CE1), ["+2600::/12"]);
    rib.refresh(CE1, Family::Ipv4Unicast);
    withdraw(&mut rib, A1, "20.0.0.0/8");
    assert_eq!(told(&mut rib, CE1), ["-20.0.0.0/8"]);
}

#[test]
fn prefixes_with_the_same_attributes_travel_in_one_update() {
    let mut rib = rib();
    for third in 0..200u8 {
        let med = Some(u32::from(third % 2));
        announce_with(&mut rib, A1, &format!("20.0.{third}.0/24"), |a| a.med = med);
    }
    let updates = rib.take_outgoing(CE0);
    assert_eq!(updates.len(), 1, "MED does not leave, so the two sets are one");
    assert_eq!(updates[0].announced.len(), 200);
    assert!(updates[0].announced.is_sorted());
}

/// Announces so many prefixes from [`A1`], in order.
fn announce_many(rib: &mut Rib, count: u32) -> Vec<IpNet> {
    let all: Vec<IpNet> = (0..count)
        .map(|at| IpNet::new(Ipv4Addr::from(0x1400_0000 + (at << 8)).into(), 24).unwrap())
        .collect();
    let attributes = attributes(rib, A1, "20.0.0.0/8");
    let update =
        Update { announced: all.clone(), attributes: Some(Arc::new(attributes)), ..Update::default() };
    rib.update(A1, update);
    all
}

/// What a peer is told, call by call, until nothing is due.
fn parts(rib: &mut Rib, peer: PeerId) -> Vec<Vec<Update>> {
    let mut parts = Vec::new();
    while rib.has_outgoing(peer) {
        parts.push(rib.take_outgoing(peer));
    }
    parts
}

#[test]
fn a_large_table_is_told_in_parts_and_end_of_rib_comes_last() {
    let mut rib = rib();
    rib.peer_down(CE0);
    let all = announce_many(&mut rib, 40_000);
    let peer = rib.config().peer(CE0).unwrap().clone();
    rib.peer_up(CE0, &facts(&peer, &[Family::Ipv4Unicast]));
    let first = rib.take_outgoing(CE0);
    assert!(first.iter().all(|update| update.end_of_rib.is_none()), "End-of-RIB before the table is whole");
    // What changes meanwhile is told as it is then.
    withdraw(&mut rib, A1, &all[0].to_string());
    withdraw(&mut rib, A1, &all[39_999].to_string());
    let rest = parts(&mut rib, CE0);
    let told: Vec<IpNet> =
        first.iter().chain(rest.iter().flatten()).flat_map(|it| it.announced.clone()).collect();
    assert_eq!(told, all[..39_999]);
    let withdrawn: Vec<IpNet> = rest.iter().flatten().flat_map(|it| it.withdrawn.clone()).collect();
    assert_eq!(withdrawn, [all[0]], "the last one was never told");
    let last = rest.last().and_then(|part| part.last()).unwrap();
    assert_eq!(last.end_of_rib, Some(Family::Ipv4Unicast));
    assert_eq!(rest.iter().flatten().filter(|update| update.end_of_rib.is_some()).count(), 1);
}

#[test]
fn a_large_table_that_is_asked_for_again_comes_in_parts_between_the_marks_of_rfc_7313() {
    let mut rib = rib();
    rib.peer_down(CE0);
    let all = announce_many(&mut rib, 40_000);
    let peer = rib.config().peer(CE0).unwrap().clone();
    rib.peer_up(CE0, &SessionFacts { enhanced_refresh: true, ..facts(&peer, &[Family::Ipv4Unicast]) });
    parts(&mut rib, CE0);
    rib.refresh(CE0, Family::Ipv4Unicast);
    let first = rib.take_outgoing(CE0);
    assert_eq!(first[0].refresh, Some(RefreshMark::Begin(Family::Ipv4Unicast)));
    withdraw(&mut rib, A1, &all[39_999].to_string());
    let rest = parts(&mut rib, CE0);
    assert!(!rest.is_empty(), "all at once");
    let updates: Vec<&Update> = first.iter().chain(rest.iter().flatten()).collect();
    let told: Vec<IpNet> = updates.iter().flat_map(|it| it.announced.clone()).collect();
    assert_eq!(told, all[..39_999]);
    let marks: Vec<RefreshMark> = updates.iter().filter_map(|update| update.refresh).collect();
    assert_eq!(marks, [RefreshMark::Begin(Family::Ipv4Unicast), RefreshMark::End(Family::Ipv4Unicast)]);
}

#[test]
fn attributes_are_kept_once_and_given_back_when_no_route_has_them() {
    let mut rib = rib();
    let count = SWEEP_MIN as u32 * 4;
    for value in 0..count {
        announce_with(&mut rib, A1, "20.0.0.0/8", |a| a.communities = vec![Community(value)]);
    }
    assert!(rib.attributes.len() <= SWEEP_MIN, "{}", rib.attributes.len());
    let held = rib.attributes.len();
    announce_with(&mut rib, A2, "20.0.0.0/8", |a| {
        a.communities = vec![Community(count - 1)];
        a.next_hop = [198, 18, 0, 2].into();
    });
    assert_eq!(rib.attributes.len(), held, "the same attributes from another peer are not stored again");
}

#[test]
fn a_peer_that_changes_its_mind_within_one_message_has_announced() {
    let mut rib = rib();
    let attributes = Some(Arc::new(attributes(&rib, A1, "20.0.0.0/8")));
    let prefix = net("20.0.0.0/8");
    rib.update(
        A1,
        Update { withdrawn: vec![prefix], announced: vec![prefix], attributes, ..Update::default() },
    );
    assert_eq!(rib.routes(A_PRIVATE).map(|route| route.prefix).collect::<Vec<_>>(), []);
    assert_eq!(changes(&mut rib).len(), 1);
    assert_eq!(
        rib.routes(A_PRIVATE).map(|route| (route.prefix, peer_of(route.best))).collect::<Vec<_>>(),
        [(prefix, A1)]
    );
    assert_eq!(rib.counts()[0], (A_PRIVATE, 1));
    assert_eq!(rib.config().local_asn, Asn(65010));
}

/// The same with a NAT before `a/microsoft` and a VPN beside `a/private`.
const SERVICES: &str = r#"
[[attachment]]
interface = "nat0"
service = "nat"
peerings = ["a/microsoft"]
ipv4 = "198.18.12.1/30"
next-hops = ["198.18.12.2"]
peers = [{ address = "198.18.12.2", asn = 65050 }]
[[attachment]]
interface = "vpn0"
service = "vpn"
peerings = ["a/private"]
ipv4 = "198.18.13.1/30"
encrypted-only = ["10.9.0.0/16"]
peers = [{ address = "198.18.13.2", asn = 65060 }]
[[chain]]
from = "ce0"
via = "nat"
to = "a/microsoft"
"#;
const NAT: PeerId = PeerId(11);
const VPN: PeerId = PeerId(12);

fn with_services() -> Rib {
    let (config, _) = Config::parse(&format!("{CONFIG}{SERVICES}"), Path::new("erdp.toml")).unwrap();
    rib_of(RibConfig::new(&config))
}

fn is_told(rib: &mut Rib, peer: PeerId, prefix: &str) -> bool {
    rib.take_outgoing(peer).iter().any(|update| update.announced.contains(&net(prefix)))
}

fn path_peers(rib: &mut Rib, prefix: &str) -> Vec<PeerId> {
    let _ = rib.take_fib_changes();
    rib.routes(A_PRIVATE)
        .find(|route| route.prefix == net(prefix))
        .map(|route| route.paths.iter().map(|path| peer_of(path.source)).collect())
        .unwrap_or_default()
}

#[test]
fn c1_a_services_routes_are_told_to_microsoft_only_where_a_chain_goes_through_it() {
    let mut rib = with_services();
    announce(&mut rib, NAT, "198.18.200.0/24");
    assert!(is_told(&mut rib, MS1, "198.18.200.0/24"), "the NAT's own addresses");
    announce(&mut rib, VPN, "10.8.0.0/16");
    assert!(!is_told(&mut rib, A1, "10.8.0.0/16"), "what is behind a tunnel is no route for Azure");
    assert!(is_told(&mut rib, CE0, "10.8.0.0/16"), "but one for the customer");
    announce(&mut rib, CE0, "10.20.0.0/16");
    assert!(is_told(&mut rib, VPN, "10.20.0.0/16") && is_told(&mut rib, A1, "10.20.0.0/16"));
}

#[test]
fn b8_a_tunnel_is_used_only_while_the_circuit_has_no_route() {
    let mut rib = with_services();
    announce(&mut rib, VPN, "10.7.0.0/16");
    assert_eq!(path_peers(&mut rib, "10.7.0.0/16"), [VPN]);
    announce_with(&mut rib, A1, "10.7.0.0/16", |path| {
        path.as_path = AsPath::sequence([12076, 12076, 12076, 12076]);
    });
    assert_eq!(path_peers(&mut rib, "10.7.0.0/16"), [A1], "however long the circuit's path is");
}

#[test]
fn b9_an_encrypted_only_prefix_is_taken_from_its_service_and_refused_from_all_others() {
    let mut rib = with_services();
    for prefix in ["10.9.0.0/16", "10.9.1.0/24"] {
        for peer in [A1, CE0, VPN] {
            announce(&mut rib, peer, prefix);
        }
        assert_eq!(path_peers(&mut rib, prefix), [VPN], "{prefix}");
    }
    let refused = rib.refused();
    assert!(refused.iter().all(|route| route.refusal == Refusal::EncryptedOnly && route.source != VPN));
    // Each of two prefixes from two peers, and `ce0` is in two domains.
    assert_eq!(refused.len(), 6);
    announce(&mut rib, A1, "10.0.0.0/8");
    assert_eq!(
        path_peers(&mut rib, "10.0.0.0/8"),
        [A1],
        "shorter ones are free; the tables keep the rest out"
    );
}
