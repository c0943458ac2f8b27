//! The other edge box (requirement B1a): an internal peer (RFC 4271 sections 5.1.5, 9.1.2.2 d and 9.2) that tells Microsoft's routes and
//! the customer's over one session.

use super::*;

/// This box has the primary link; the other one the secondary, and a session for each peering. `svc0` leads to a service.
const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "a"
bandwidth = "1G"
primary = { local = "m1" }
secondary = { box = "edge-b" }
[circuit.private]
ipv4 = "198.18.0.0/29"
vlan = 100
[circuit.microsoft]
ipv4 = "198.18.1.0/29"
vlan = 200
[[attachment]]
interface = "ce0"
peerings = ["a/private"]
ipv4 = "198.18.10.1/24"
peers = [{ address = "198.18.10.2", asn = 65020 }]
[[attachment]]
interface = "svc0"
service = "vpn"
peerings = ["a/private"]
ipv4 = "198.18.12.1/30"
peers = [{ address = "198.18.12.2", asn = 65030 }]
[[attachment]]
interface = "ib0"
vlan = 100
box = "edge-b"
peerings = ["a/private"]
ipv4 = "198.18.11.1/30"
peers = [{ address = "198.18.11.2", asn = 65010 }]
[[attachment]]
interface = "ib0"
vlan = 200
box = "edge-b"
peerings = ["a/microsoft"]
ipv4 = "198.18.11.5/30"
peers = [{ address = "198.18.11.6", asn = 65010 }]
"#;

const PRIVATE: DomainId = DomainId(0);
const MSEE: PeerId = PeerId(0);
const MSEE_MICROSOFT: PeerId = PeerId(1);
const CE: PeerId = PeerId(2);
const SERVICE: PeerId = PeerId(3);
const BOX: PeerId = PeerId(4);
const BOX_MICROSOFT: PeerId = PeerId(5);

fn config() -> RibConfig {
    RibConfig::new(&Config::parse(CONFIG, Path::new("erdp.toml")).unwrap().0)
}

/// The other box tells what came in there by this path, with LOCAL_PREF.
fn box_tells(rib: &mut Rib, prefix: &str, path: &[u32], preference: u32) {
    announce_with(rib, BOX, prefix, |it| {
        it.as_path = AsPath::sequence(path.iter().copied());
        it.local_pref = Some(preference);
    });
}

fn used(rib: &mut Rib, prefix: &str) -> Vec<PeerId> {
    rib.take_fib_changes();
    let found = rib.routes(PRIVATE).find(|route| route.prefix == net(prefix));
    found.map(|route| route.paths.iter().map(|path| peer_of(path.source)).collect()).unwrap_or_default()
}

/// Who of all peers is told of a prefix.
fn told_to(rib: &mut Rib, prefix: &str) -> Vec<PeerId> {
    let all = [MSEE, MSEE_MICROSOFT, CE, SERVICE, BOX, BOX_MICROSOFT];
    all.into_iter().filter(|peer| told(rib, *peer).contains(&format!("+{prefix}"))).collect()
}

#[test]
fn b1a_each_route_is_told_where_it_may_be_and_none_from_the_other_box_goes_back_to_it() {
    type Row = (&'static str, fn(&mut Rib), &'static [PeerId]);
    let rows: [Row; 7] = [
        ("our MSEE's", |rib| announce(rib, MSEE, "20.0.0.0/8"), &[CE, SERVICE, BOX]),
        ("our customer's", |rib| announce(rib, CE, "20.0.0.0/8"), &[MSEE, SERVICE, BOX]),
        ("our service's stays here", |rib| announce(rib, SERVICE, "20.0.0.0/8"), &[CE]),
        ("the other MSEE's: no transit", |rib| box_tells(rib, "20.0.0.0/8", &[12076], 100), &[CE, SERVICE]),
        ("the other box's customer's", |rib| box_tells(rib, "20.0.0.0/8", &[65020], 100), &[MSEE, SERVICE]),
        (
            "its customer's by way of Microsoft: no transit",
            |rib| box_tells(rib, "20.0.0.0/8", &[65020, 12076], 100),
            &[SERVICE],
        ),
        ("of another peering", |rib| announce(rib, MSEE_MICROSOFT, "20.0.0.0/8"), &[BOX_MICROSOFT]),
    ];
    for (name, act, expected) in rows {
        let mut rib = rib_of(config());
        act(&mut rib);
        assert_eq!(told_to(&mut rib, "20.0.0.0/8"), expected, "{name}");
    }
}

#[test]
fn b1a_the_other_box_is_told_the_path_as_it_is_with_our_preference_and_ourselves_as_next_hop() {
    for (preference, expected) in [(100, 100), (200, 200)] {
        let mut config = config();
        config.peers[usize::from(MSEE.0)].local_pref = preference;
        let mut rib = rib_of(config);
        announce_with(&mut rib, MSEE, "20.0.0.0/8", |it| {
            it.med = Some(5);
            it.communities = vec![Community(0xFFFF_FF01)];
        });
        let updates = rib.take_outgoing(BOX);
        let told = updates[0].attributes.as_ref().unwrap();
        assert_eq!(
            told.as_path,
            AsPath::sequence([12076]),
            "nothing is put in front (RFC 4271 section 5.1.2)"
        );
        assert_eq!(told.next_hop, IpAddr::from([198, 18, 11, 1]), "next-hop-self");
        assert_eq!((told.local_pref, told.med), (Some(expected), Some(5)));
        assert_eq!(told.communities, [Community(0xFFFF_FF01)], "NO_EXPORT is for other ASes (RFC 1997)");
        assert_eq!(super::told(&mut rib, CE), Vec::<String>::new());
    }
    let mut rib = rib_of(config());
    announce_with(&mut rib, MSEE, "20.0.0.0/8", |it| it.communities = vec![Community(0xFFFF_FF02)]);
    assert_eq!(told(&mut rib, BOX), Vec::<String>::new(), "NO_ADVERTISE is for all");
}

#[test]
fn b1a_our_own_link_comes_before_that_of_the_other_box_and_the_preference_of_either_before_that() {
    let mut rib = rib_of(config());
    box_tells(&mut rib, "20.0.0.0/8", &[12076], 100);
    assert_eq!(used(&mut rib, "20.0.0.0/8"), [BOX]);
    announce(&mut rib, MSEE, "20.0.0.0/8");
    assert_eq!(used(&mut rib, "20.0.0.0/8"), [MSEE], "RFC 4271 section 9.1.2.2 d");
    let verdicts = rib.explain(PRIVATE, net("20.0.0.0/8"));
    assert_eq!(verdicts[1].2, Verdict::Lost("external over internal"));
    box_tells(&mut rib, "20.0.0.0/8", &[12076], 101);
    assert_eq!(used(&mut rib, "20.0.0.0/8"), [BOX], "LOCAL_PREF of an internal peer counts (section 5.1.5)");
    assert_eq!(told(&mut rib, BOX), ["+20.0.0.0/8"], "it is told what we have ourselves");
    box_tells(&mut rib, "20.0.0.0/8", &[12076], 99);
    assert_eq!(used(&mut rib, "20.0.0.0/8"), [MSEE]);
    rib.peer_down(MSEE);
    assert_eq!(used(&mut rib, "20.0.0.0/8"), [BOX], "B2");
    assert_eq!(told(&mut rib, CE), ["+20.0.0.0/8"]);
    assert_eq!(told(&mut rib, BOX), ["-20.0.0.0/8"], "and what it has is not told to it");
}

#[test]
fn b1a_the_other_box_is_told_our_best_path_where_its_own_is_better_and_none_that_is_out_of_use() {
    let prefix = "20.0.0.0/8";
    let mut config = config();
    config.peers[usize::from(MSEE.0)].local_pref = 50;
    let mut rib = rib_of(config);
    box_tells(&mut rib, prefix, &[12076], 100);
    let ours = |rib: &mut Rib, med| announce_with(rib, MSEE, prefix, |it| it.med = Some(med));
    let heard = |rib: &mut Rib| {
        let updates = rib.take_outgoing(BOX);
        let told = updates.iter().find_map(|update| update.attributes.clone());
        let told = told.map(|it| (it.local_pref, it.med, it.next_hop));
        (updates.iter().map(|update| update.withdrawn.len()).sum::<usize>(), told)
    };
    let as_told = |preference, med| Some((Some(preference), med, IpAddr::from([198, 18, 11, 1])));
    heard(&mut rib);
    for med in [5, 6] {
        ours(&mut rib, med);
        assert_eq!(used(&mut rib, prefix), [BOX]);
        assert_eq!(
            heard(&mut rib),
            (0, as_told(50, Some(med))),
            "also when nothing but that path has changed"
        );
    }
    announce(&mut rib, CE, prefix);
    assert_eq!(heard(&mut rib), (0, as_told(100, None)), "the customer's is better than our MSEE's");
    withdraw(&mut rib, CE, prefix);
    assert_eq!(heard(&mut rib), (0, as_told(50, Some(6))));
    announce(&mut rib, SERVICE, prefix);
    assert_eq!(heard(&mut rib), (0, None), "a service's stays here");
    type Act = fn(&mut Rib, bool);
    for act in [(|rib, out| rib.unreach(MSEE, out)) as Act, |rib, out| rib.spare(MSEE, out)] {
        act(&mut rib, true);
        assert_eq!(heard(&mut rib), (1, None));
        act(&mut rib, false);
        assert_eq!(heard(&mut rib), (0, as_told(50, Some(6))));
    }
    rib.peer_down(MSEE);
    assert_eq!(heard(&mut rib), (1, None));
}

#[test]
fn b1a_a_link_of_ours_that_carries_nothing_gives_way_at_once_and_the_other_box_is_told_no_more_of_it() {
    let mut rib = rib_of(config());
    announce(&mut rib, MSEE, "20.0.0.0/8");
    box_tells(&mut rib, "20.0.0.0/8", &[12076], 100);
    assert_eq!((used(&mut rib, "20.0.0.0/8"), told(&mut rib, BOX)), (vec![MSEE], vec!["+20.0.0.0/8".into()]));
    rib.unreach(MSEE, true);
    assert_eq!((used(&mut rib, "20.0.0.0/8"), told(&mut rib, BOX)), (vec![BOX], vec!["-20.0.0.0/8".into()]));
    rib.unreach(MSEE, false);
    assert_eq!((used(&mut rib, "20.0.0.0/8"), told(&mut rib, BOX)), (vec![MSEE], vec!["+20.0.0.0/8".into()]));
}

#[test]
fn b7_a_drained_link_of_ours_gives_way_to_that_of_the_other_box() {
    let mut rib = rib_of(config());
    box_tells(&mut rib, "20.0.0.0/8", &[12076], 100);
    announce_with(&mut rib, MSEE, "20.0.0.0/8", |it| it.as_path = AsPath::sequence([12076; 9]));
    assert_eq!(used(&mut rib, "20.0.0.0/8"), [BOX]);
}

#[test]
fn d1_customers_of_the_other_box_count_against_what_microsoft_takes_and_its_msees_do_not() {
    let mut rib = rib_of(config());
    announce(&mut rib, CE, "20.0.0.0/8");
    box_tells(&mut rib, "30.0.0.0/8", &[65020], 100);
    box_tells(&mut rib, "40.0.0.0/8", &[12076], 100);
    rib.take_fib_changes();
    let wanted = rib
        .meters()
        .into_iter()
        .find(|(domain, family, _)| (*domain, *family) == (PRIVATE, Family::Ipv4Unicast));
    assert_eq!(wanted.unwrap().2.wanted, 2);
}

#[test]
fn b1a_what_the_other_box_tells_is_judged_by_where_it_came_in() {
    let rows: [(&str, &[u32], Option<Refusal>); 6] = [
        ("0.0.0.0/0", &[12076], None),
        ("0.0.0.0/0", &[65020], Some(Refusal::DefaultFromCustomer)),
        ("20.0.0.0/8", &[12076, 65515], None),
        ("20.0.0.0/8", &[65020, 65515], Some(Refusal::ReservedAsInPath)),
        ("20.0.0.0/8", &[65020, 65010], Some(Refusal::OwnAsInPath)),
        ("198.18.0.4/30", &[65020], Some(Refusal::OwnLinkSubnet)),
    ];
    for (prefix, path, expected) in rows {
        let mut rib = rib_of(config());
        box_tells(&mut rib, prefix, path, 100);
        assert_eq!(rib.refused().first().map(|it| it.refusal), expected, "{prefix} {path:?}");
    }
    let mut rib = rib_of(config());
    announce_with(&mut rib, BOX, "20.0.0.0/8", |it| {
        it.as_path = AsPath::sequence([12076]);
        it.next_hop = IpAddr::from([198, 18, 0, 6]);
    });
    let refusal = rib.refused()[0].refusal;
    assert_eq!(refusal, Refusal::NextHopElsewhere);
    assert!(refusal.to_string().contains("next-hop-self"), "{refusal}");
}

#[test]
fn b1a_the_other_box_brings_microsoft_while_it_has_a_usable_route_from_there() {
    let mut rib = rib_of(config());
    box_tells(&mut rib, "30.0.0.0/8", &[65020], 100);
    assert!(!rib.brings_microsoft(BOX));
    box_tells(&mut rib, "20.0.0.0/8", &[12076], 100);
    assert!(rib.brings_microsoft(BOX) && !rib.brings_microsoft(BOX_MICROSOFT));
    withdraw(&mut rib, BOX, "20.0.0.0/8");
    assert!(!rib.brings_microsoft(BOX));
}
