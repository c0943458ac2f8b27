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

/// The limits of the minimal circuit with other keys, or the refusal; `sku` and `kind` as in the file.
fn advertised(sku: &str, kind: &str, keys: &str) -> Result<[u32; 2], String> {
    let text = edited(PRIVATE, "ipv4 = \"198.18.0.0/29\"\nipv6 = \"fd00::/125\"\n")
        .replace("bandwidth = \"1G\"", &format!("bandwidth = \"1G\"\nsku = \"{sku}\""))
        .replace("[circuit.private]", &format!("[circuit.{kind}]\n{keys}"))
        .replace("contoso/private", &format!("contoso/{kind}"));
    match parse(&text) {
        Ok((config, _)) => Ok(crate::rib::RibConfig::new(&config).domains[0].advertise),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn d1_microsofts_limits_are_ceilings_of_each_family_and_a_key_lowers_that_of_one_family_only() {
    // SKU, peering, keys, and what each family is limited to.
    let rows = [
        ("standard", "private", "advertise-at-most = 4000", [4_000, 100]),
        ("premium", "private", "advertise-at-most = 4000", [4_000, 100]),
        ("premium", "private", "advertise-at-most = 10000", [10_000, 100]),
        ("local", "private", "advertise-at-most = 50", [50, 50]),
        ("standard", "private", "advertise-at-most-ipv4 = 50", [50, 100]),
        ("standard", "private", "advertise-at-most-ipv6 = 50", [4_000, 50]),
        ("standard", "private", "advertise-at-most-ipv4 = 4000\nadvertise-at-most-ipv6 = 100", [4_000, 100]),
        ("standard", "private", "advertise-at-most = 60\nadvertise-at-most-ipv6 = 70", [60, 70]),
        ("premium", "microsoft", "advertise-at-most = 200", [200, 200]),
        ("premium", "microsoft", "advertise-at-most-ipv6 = 1", [200, 1]),
    ];
    for (sku, kind, keys, limits) in rows {
        assert_eq!(advertised(sku, kind, keys), Ok(limits), "{sku} {kind} {keys}");
    }
}

#[test]
fn d1_a_limit_above_what_microsoft_accepts_is_refused_with_the_rule_and_the_number() {
    let rows = [
        ("standard", "private", "advertise-at-most = 20000", "4000 IPv4"),
        ("premium", "private", "advertise-at-most = 10001", "10000 IPv4"),
        ("standard", "private", "advertise-at-most-ipv4 = 4001", "4000 IPv4"),
        ("premium", "private", "advertise-at-most-ipv6 = 101", "100 IPv6"),
        ("premium", "microsoft", "advertise-at-most = 201", "200 IPv4"),
        ("local", "microsoft", "advertise-at-most-ipv6 = 201", "200 IPv6"),
    ];
    for (sku, kind, keys, number) in rows {
        let refused = advertised(sku, kind, keys).unwrap_err();
        let key = keys.split(' ').next().unwrap();
        assert!(
            [key, number, "D1", kind, sku].iter().all(|word| refused.contains(word)),
            "{sku} {kind} {keys}: {refused}"
        );
    }
}

#[test]
fn d1_the_key_of_both_families_warns_where_it_cannot_hold_for_ipv6_and_names_the_keys_that_can() {
    let dual = "ipv4 = \"198.18.0.0/29\"\nipv6 = \"fd00::/125\"\n";
    let warnings = |subnets: &str, keys: &str| {
        let (_, warnings) = parse(&edited(PRIVATE, &format!("{subnets}{keys}\n"))).unwrap();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let said = warnings(dual, "advertise-at-most = 4000");
    let [text] = said.as_slice() else { panic!("{said:?}") };
    assert!(["100 IPv6", "advertise-at-most-ipv6", "D1"].iter().all(|word| text.contains(word)), "{text}");
    assert_eq!(warnings(dual, "advertise-at-most = 100"), [] as [String; 0]);
    assert_eq!(warnings("ipv4 = \"198.18.0.0/29\"\n", "advertise-at-most = 4000"), [] as [String; 0]);
    assert_eq!(warnings(dual, "advertise-at-most = 4000\nadvertise-at-most-ipv6 = 9"), [] as [String; 0]);
}

#[test]
fn a4_less_bandwidth_is_refused_unless_forced_by_either_way_in_and_more_never_is() {
    let at = |bandwidth: &str| accepted(&edited("\"1G\"", &format!("\"{bandwidth}\"")));
    for (from, to, is_less) in [
        ("1G", "500M", true),
        ("1G", "999M", true),
        ("1G", "1G", false),
        ("1G", "2G", false),
        ("500M", "1G", false),
    ] {
        let change = CircuitChange { bandwidth: Some(to.into()), ..CircuitChange::default() };
        let set = change.plan(&at(from), "contoso").unwrap().decrease;
        let plan = Plan::between(&at(from), &at(to));
        assert!(plan.refused.is_empty(), "{plan:?}");
        let applied = plan.decreases;
        assert_eq!((set.is_some(), applied.len()), (is_less, usize::from(is_less)), "{from} to {to}");
        for said in set.iter().chain(&applied) {
            let words = ["contoso", "A4", "--force", from, to];
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
    // Other changes of a circuit have nothing to do with it.
    let change = CircuitChange { burst: Some("dual-link".into()), ..CircuitChange::default() };
    assert_eq!(change.plan(&at("1G"), "contoso").unwrap().decrease, None);
}

#[test]
fn a3_the_kind_of_a_circuit_decides_which_bandwidths_are_warned_about_and_none_is_refused() {
    let warnings = |keys: &str| parse(&edited("bandwidth = \"1G\"", keys)).unwrap().1.len();
    let rows = [
        ("bandwidth = \"100G\"", 0),
        ("bandwidth = \"3G\"", 1),
        ("bandwidth = \"100G\"\nkind = \"provider\"", 1),
        ("bandwidth = \"100G\"\nkind = \"direct-100g\"", 0),
        ("bandwidth = \"500M\"\nkind = \"direct-10g\"", 1),
        ("bandwidth = \"10M\"\nkind = \"provider\"", 0),
        ("bandwidth = \"500M\"\nsku = \"local\"", 1),
    ];
    for (keys, expected) in rows {
        assert_eq!(warnings(keys), expected, "{keys}");
    }
    let refused =
        refusal(&edited("bandwidth = \"1G\"", "bandwidth = \"1G\"\nkind = \"satellite\"")).to_string();
    assert!(refused.contains("contoso.kind") && refused.contains("direct-100g"), "{refused}");
}

#[test]
fn c2_connected_subnets_are_announced_on_attachments_of_the_customer_only() {
    let with =
        |interface: &str| edited("interface = \"ce0\"", &format!("{interface}\nadvertise-connected = true"));
    let config = accepted(&with("interface = \"ce0\""));
    assert!(config.attachments().iter().all(|it| it.advertise_connected != it.side.is_msee()));
    assert!(accepted(MINIMAL).attachments().iter().all(|it| !it.advertise_connected));
    let refused = refusal(&with("interface = \"ce0\"\nservice = \"vpn\"")).to_string();
    assert!(refused.contains("advertise-connected") && refused.contains("service"), "{refused}");
    // It changes while the router runs, and ends no session.
    let plan = Plan::between(&accepted(MINIMAL), &config);
    assert!(plan.refused.is_empty() && plan.flaps.is_empty() && !plan.is_empty(), "{plan:?}");
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
fn b8_the_as_of_azures_gateways_is_a_services_peers_and_nobody_elses() {
    let service = "interface = \"ce0\"\nservice = \"vpn\"";
    let of = |interface: &str, asn: &str| {
        parse(&edited("interface = \"ce0\"", interface).replace("asn = 65020", &format!("asn = {asn}")))
    };
    let config = of(service, "65515").unwrap().0;
    assert_eq!(config.peers()[2].session.remote_asn, GATEWAY_ASN);
    for (interface, asn) in [("interface = \"ce0\"", "65515"), (service, "65516"), (service, "65520")] {
        let refused = of(interface, asn).unwrap_err().to_string();
        assert!(refused.contains("reserved by Azure"), "{interface} {asn}: {refused}");
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
        ("max-prefixes-wait = 0", "max-prefixes-wait"),
        ("max-memory-mib = 0", "max-memory-mib"),
        ("max-memory-mib = 1048577", "max-memory-mib"),
        ("when-too-many = \"hope\"", "when-too-many"),
        ("pass-attributes = [0]", "pass-attributes"),
        ("pass-attributes = [256]", "pass-attributes"),
        ("pass-attributes = [8]", "pass-attributes"),
        ("when-full = \"pray\"", "when-full"),
        ("longest-ipv4 = 33", "longest-ipv4"),
    ];
    for (text, key) in rows {
        let refused = refusal(&edited(PRIVATE, &format!("{PRIVATE}\n{text}"))).to_string();
        assert!(refused.contains(&format!("private.{key}")), "{text}: {refused}");
    }
}

#[test]
fn d2_every_peer_has_limits_and_only_what_the_file_says_or_a_customer_sends_ends_a_session() {
    let of = |config: &Config, peer: usize| {
        let options = config.peers()[peer].options.clone();
        (options.max_prefixes.unwrap().limit, options.max_memory_mib, options.when_too_many)
    };
    let plain = accepted(MINIMAL);
    assert_eq!(of(&plain, 0), (2_000_000, 1_024, WhenTooMany::Refuse), "an MSEE");
    assert_eq!(of(&plain, 2), (100_000, 128, WhenTooMany::Cease), "a customer's router");
    // As before there were defaults: a limit that is written ends the session.
    assert_eq!(of(&private("max-prefixes = 9"), 0), (9, 1_024, WhenTooMany::Cease));
    let refusing = private("max-prefixes = 9\nmax-memory-mib = 5\nwhen-too-many = \"refuse\"");
    assert_eq!(of(&refusing, 0), (9, 5, WhenTooMany::Refuse));
    let waiting = private("max-prefixes-wait = 5");
    assert_eq!(waiting.peers()[0].options.max_prefixes.unwrap().wait, Seconds(5));
    assert_eq!(of(&waiting, 0).2, WhenTooMany::Refuse);
    let customers = accepted(&edited(PEER, "asn = 65020, max-memory-mib = 7, when-too-many = \"refuse\" }]"));
    assert_eq!(of(&customers, 2), (100_000, 7, WhenTooMany::Refuse));
}

#[test]
fn attributes_that_are_passed_on_to_microsoft_are_a_list_of_the_peering() {
    let passes = |config: &Config| {
        crate::rib::RibConfig::new(config).peers.iter().map(|it| it.passes.clone()).collect::<Vec<_>>()
    };
    assert_eq!(passes(&accepted(MINIMAL)), [Some(vec![]), Some(vec![]), None]);
    assert_eq!(
        passes(&private("pass-attributes = [40, 23]")),
        [Some(vec![40, 23]), Some(vec![40, 23]), None]
    );
}

#[test]
fn no_number_in_the_file_however_large_does_more_than_be_refused() {
    const KEYS: [&str; 16] = [
        "hold",
        "vlan",
        "peer-asn",
        "restart-time",
        "local-pref",
        "prepend",
        "max-prefixes",
        "max-prefixes-wait",
        "max-memory-mib",
        "advertise-at-most",
        "advertise-at-most-ipv4",
        "advertise-at-most-ipv6",
        "longest-ipv4",
        "longest-ipv6",
        "pass-attributes",
        "bfd",
    ];
    for number in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::from(u32::MAX), i64::from(u32::MAX) + 1, i64::MAX] {
        for key in KEYS {
            let value = match key {
                "pass-attributes" => format!("[{number}]"),
                "bfd" => {
                    format!("{{ interval = \"{number}ms\", multiplier = {number}, absence = \"{number}s\" }}")
                }
                _ => number.to_string(),
            };
            if let Ok((config, _)) = parse(&edited(PRIVATE, &format!("{PRIVATE}\n{key} = {value}"))) {
                drop(crate::rib::RibConfig::new(&config));
            }
        }
        for key in ["s-vlan", "credit-ms", "minimum-links"] {
            drop(parse(&edited("bandwidth = \"1G\"", &format!("bandwidth = \"1G\"\n{key} = {number}"))));
        }
        for key in ["fib-blocks", "restart-deadline", "drop-samples"] {
            drop(parse(&format!("{key} = {number}\n{MINIMAL}")));
        }
        for bandwidth in
            [format!("{number}k"), format!("{number}G"), format!("{}G", u64::MAX), "18446744073G".to_owned()]
        {
            if let Ok((config, _)) = parse(&edited("\"1G\"", &format!("{bandwidth:?}"))) {
                drop(crate::compile::limits::records(&config, u64::MAX));
            }
        }
    }
}
