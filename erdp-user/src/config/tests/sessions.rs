//! Keys of sessions and routes, by the numbers of the ExpressRoute rules: B11, D1-D3, D5-D7, E1-E3; roles and restart.

use super::*;
use crate::bgp::{Community, Role};

const PEER: &str = "asn = 65020 }]";
const PRIVATE: &str = "ipv4 = \"198.18.0.0/29\"";

fn private(keys: &str) -> Config {
    accepted(&edited(PRIVATE, &format!("{PRIVATE}\n{keys}")))
}

#[test]
fn e3_key_and_gtsm_of_either_side_reach_its_sessions_and_no_others() {
    let config = private(
        "md5 = \"k\"\ngtsm = true\nrestart-time = 30\nrole = \"customer\"\nstrict-role = true\nadd-path = true",
    );
    let peers = config.peers();
    let (msee, ce) = (&peers[0].session, &peers[2].session);
    assert!(msee.gtsm && msee.md5.as_deref() == Some("k") && msee.role_strict && msee.add_path);
    assert_eq!((msee.role, msee.restart_time), (Some(Role::Customer), Seconds(30)));
    assert!(
        !ce.add_path && !ce.gtsm && ce.md5.is_none() && ce.role.is_none() && ce.restart_time == Seconds(120)
    );
    let config = accepted(&edited(
        PEER,
        "asn = 65020, gtsm = true, local-pref = 50, prepend = 3, max-prefixes = 9 }]",
    ));
    let peers = config.peers();
    assert!(peers[2].session.gtsm && !peers[0].session.gtsm);
    let options = &peers[2].options;
    assert_eq!((options.local_pref, options.prepend), (Some(50), 3), "B11");
    assert_eq!(options.max_prefixes, Some(MaxPrefixes { limit: 9, wait: Seconds(60) }), "D2");
}

#[test]
fn d1_and_d3_limits_are_those_of_the_sku_unless_the_file_says_less() {
    let of = |config: &Config| {
        let rib = crate::rib::RibConfig::new(config);
        (rib.domains[0].advertise, rib.domains[0].longest, rib.domains[0].when_full)
    };
    assert_eq!(of(&accepted(MINIMAL)), ([4_000, 100], [32, 128], WhenFull::HoldBack));
    let premium = accepted(&edited("bandwidth = \"1G\"", "bandwidth = \"1G\"\nsku = \"premium\""));
    assert_eq!(of(&premium).0, [10_000, 100]);
    let less = private("advertise-at-most = 50\nwhen-full = \"aggregate\"\nlongest-ipv4 = 29");
    assert_eq!(of(&less), ([50, 50], [29, 128], WhenFull::Aggregate));
}

#[test]
fn d6_a_route_filter_is_made_of_names_or_numbers_and_belongs_to_microsoft_peering() {
    let microsoft = format!(
        "{MINIMAL}[[circuit]]\nname = \"m\"\nbandwidth = \"1G\"\nprimary = {{ local = \"a\" }}\nsecondary = {{ local = \"b\" }}\n\
         [circuit.microsoft]\nipv4 = \"20.1.0.0/29\"\nroute-filter = [\"West Europe\", \"12076:5010\"]\n"
    );
    let filter = &accepted(&microsoft).circuits[1].microsoft.as_ref().unwrap().limits.route_filter.clone();
    assert_eq!(*filter, [Community::new(12_076, 51_002), Community::new(12_076, 5_010)]);
    let unknown = refusal(&microsoft.replace("West Europe", "Atlantis"));
    assert!(unknown.to_string().contains("Atlantis"), "{unknown}");
    let misplaced = refusal(&edited(PRIVATE, &format!("{PRIVATE}\nroute-filter = [\"West Europe\"]")));
    assert!(misplaced.to_string().contains("D6"), "{misplaced}");
}

#[test]
fn d7_a_default_route_over_the_circuit_is_warned_about_because_not_all_services_are_reachable_there() {
    let (_, warnings) = parse(&edited(PRIVATE, &format!("{PRIVATE}\nforced-tunnel = true"))).unwrap();
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    let text = warning.to_string();
    assert!(["forced-tunnel", "DNS", "KMS", "D7"].iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn e1_as_numbers_that_expressroute_does_not_take_are_refused_with_the_reason() {
    for (asn, word) in
        [("65515", "Azure"), ("64500", "documentation"), ("12076", "Microsoft"), ("0", "RFC 7607")]
    {
        let refused = refusal(&edited("asn = 65010", &format!("asn = {asn}"))).to_string();
        assert!(refused.contains(word), "{asn}: {refused}");
    }
    for asn in ["64512", "65534", "4200000000"] {
        accepted(&edited("asn = 65010", &format!("asn = {asn}")));
    }
}

#[test]
fn e2_of_each_links_subnet_we_take_the_first_address_and_microsoft_the_second() {
    let peers = accepted(MINIMAL).peers();
    let ends: Vec<String> =
        peers.iter().take(2).map(|peer| format!("{} {}", peer.session.local, peer.session.remote)).collect();
    assert_eq!(ends, ["198.18.0.1 198.18.0.2", "198.18.0.5 198.18.0.6"]);
}

#[test]
fn values_of_sessions_that_cannot_be_are_refused_naming_the_key() {
    let rows = [
        ("restart-time = 4096", "restart-time"),
        ("role = \"boss\"", "role"),
        ("prepend = 17", "prepend"),
        ("local-pref = -1", "local-pref"),
        ("max-prefixes = 0", "max-prefixes"),
        ("max-prefixes-wait = 5", "max-prefixes-wait"),
        ("when-full = \"pray\"", "when-full"),
        ("longest-ipv4 = 33", "longest-ipv4"),
    ];
    for (text, key) in rows {
        let refused = refusal(&edited(PRIVATE, &format!("{PRIVATE}\n{text}"))).to_string();
        assert!(refused.contains(&format!("private.{key}")), "{text}: {refused}");
    }
}
