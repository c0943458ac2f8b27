//! Tables: what is accepted, what is refused (one row for each rule), what is warned about, what is derived.

use std::path::Path;

use super::*;
use crate::bgp::PeerId;

mod kernel_routes;
mod other_box;
mod policies;
mod sessions;
mod zones;

const MINIMAL: &str = r#"asn = 65010
[[circuit]]
name = "contoso"
bandwidth = "1G"
primary = { local = "msee1" }
secondary = { local = "msee2" }
[circuit.private]
ipv4 = "198.18.0.0/29"
[[attachment]]
interface = "ce0"
peerings = ["contoso/private"]
ipv4 = "198.18.10.1/30"
peers = [{ address = "198.18.10.2", asn = 65020 }]
"#;

fn parse(text: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
    Config::parse(text, Path::new("erdp.toml"))
}

fn accepted(text: &str) -> Config {
    match parse(text) {
        Ok((config, _)) => config,
        Err(error) => panic!("refused: {error}\n{text}"),
    }
}

fn refusal(text: &str) -> Refusal {
    match parse(text) {
        Err(ConfigError::Refused(refusal)) => *refusal,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted:\n{text}"),
    }
}

/// The minimal file with one piece of text exchanged, which must be there.
fn edited(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    MINIMAL.replacen(from, to, 1)
}

#[test]
fn a_minimal_circuit_takes_at_most_fifteen_lines_and_no_warning() {
    assert!(MINIMAL.lines().count() <= 15);
    let (config, warnings) = parse(MINIMAL).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.router_id, Ipv4Addr::new(198, 18, 0, 1));
    assert_eq!(config.circuits[0].bandwidth, BitsPerSecond(1_000_000_000));
    assert!(config.circuits[0].is_on_one_box());
    assert!(config.circuits[0].enabled && !config.circuits[0].hairpin);
    assert_eq!((config.fib_blocks, config.drop_samples, config.symmetric_hash), (32_768, 8, false));
    assert!(accepted(&edited("asn = 65010", "asn = 65010\nsymmetric-hash = true")).symmetric_hash);
    assert_eq!(config.restart_deadline.0, 120);
    assert_eq!(accepted(&edited("asn = 65010", "asn = 65010\nrestart-deadline = 7")).restart_deadline.0, 7);
}

#[test]
fn each_routing_table_has_four_mebibytes_beyond_the_least_pool_unless_the_file_says_otherwise() {
    let attachment = |at: u32| {
        format!(
            "\n[[attachment]]\ninterface = \"ce{at}\"\nipv4 = \"198.18.{}.1/24\"\npeerings = [\"contoso/private\"]\n",
            at + 64
        )
    };
    let text = format!("{MINIMAL}{}", (2..=20).map(attachment).collect::<String>());
    let tables = accepted(&text).attachments.len() as u32 + 1;
    assert_eq!(accepted(&text).fib_blocks, 4_096 * tables);
    assert!(tables > 8);
    let text = text.replacen("asn = 65010", "asn = 65010\nfib-blocks = 20000", 1);
    assert_eq!(accepted(&text).fib_blocks, 20_000);
}

/// What becomes of a running router: text to exchange, sessions that end, sessions that begin, words of a refusal.
#[test]
fn an_exchange_ends_the_sessions_that_it_must_and_refuses_what_is_fixed() {
    let peer = "{ address = \"198.18.10.2\", asn = 65020 }";
    let with = |more: &str| format!("{{ address = \"198.18.10.2\", asn = 65020, {more} }}");
    // With room for a second router on the subnet.
    let roomy = MINIMAL.replace("198.18.10.1/30", "198.18.10.1/29");
    let running = accepted(&roomy);
    let plan = |from: &str, to: &str| {
        assert!(roomy.contains(from), "{from}");
        Plan::between(&running, &accepted(&roomy.replacen(from, to, 1)))
    };
    assert!(plan(peer, peer).is_empty());
    for (from, to, flaps, added, removed, refused) in [
        ("\"1G\"", "\"2G\"".to_owned(), 0, 0, 0, ""),
        (
            "[circuit.private]",
            "inventory = { location = \"Amsterdam\", billing = \"metered\", price-per-gb = \"0.02 EUR\" }\n[circuit.private]".to_owned(),
            0,
            0,
            0,
            "",
        ),
        (peer, with("hold = 30"), 1, 0, 0, ""),
        (peer, with("md5 = \"hunter2\""), 1, 0, 0, ""),
        (peer, with("local-pref = 200"), 0, 0, 0, ""),
        (peer, with("bfd = {}"), 0, 0, 0, "bfd"),
        (peer, format!("{peer}, {{ address = \"198.18.10.3\", asn = 65021 }}"), 0, 1, 0, ""),
        (peer, String::new(), 0, 0, 1, ""),
        (peer, "{ address = \"198.18.10.3\", asn = 65020 }".to_owned(), 0, 1, 1, ""),
        ("asn = 65010", "asn = 65011".to_owned(), 3, 0, 0, ""),
        ("asn = 65010", "asn = 65010\nrouter-id = \"198.18.0.99\"".to_owned(), 3, 0, 0, ""),
        ("asn = 65010", "asn = 65010\nfib-blocks = 65536".to_owned(), 0, 0, 0, "fib-blocks"),
        ("\"msee2\"", "\"msee3\"".to_owned(), 0, 0, 0, "msee3"),
    ] {
        let plan = plan(from, &to);
        let seen = (plan.flaps.len(), plan.added.len(), plan.removed.len());
        assert_eq!(seen, (flaps, added, removed), "{to}: {plan:?}");
        assert_eq!(plan.refused.is_empty(), refused.is_empty(), "{to}: {plan:?}");
        assert!(
            plan.refused.iter().all(|why| why.contains(refused) && why.contains("restart")),
            "{to}: {plan:?}"
        );
        assert!(!format!("{plan:?}").contains("hunter2"), "a key is shown");
    }
}

#[test]
fn another_service_key_with_the_same_end_is_a_difference_and_is_not_shown() {
    let with = |start: &str| {
        let key = format!("service-key = \"{start}-d9cb-469f-a165-70867728950e\"");
        accepted(&edited("[circuit.private]", &format!("inventory = {{ {key} }}\n[circuit.private]")))
    };
    let plan = Plan::between(&with("0f8fad5b"), &with("1f8fad5b"));
    assert_eq!((plan.differences.len(), plan.refused.len()), (1, 0), "{plan:?}");
    let said = format!("{plan:?}");
    assert!(said.contains("circuit.contoso.inventory.service-key") && !said.contains("8fad5b"), "{said}");
    assert!(Plan::between(&with("0f8fad5b"), &with("0F8FAD5B")).is_empty());
}

#[test]
fn the_example_file_is_accepted_without_a_warning() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/erdp.toml");
    let (config, warnings) = Config::load(&path).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.peers().len(), 6);
}

#[test]
fn the_example_file_with_its_comments_taken_as_keys_is_accepted_too() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/erdp.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let is_key = |line: &str| {
        line.strip_prefix("# ").is_some_and(|rest| {
            rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        })
    };
    let lines = text.lines().map(|line| if is_key(line) { &line[2..] } else { line });
    let config = accepted(&lines.collect::<Vec<_>>().join("\n"));
    assert!(config.circuits[0].microsoft.is_some());
    assert_eq!(config.attachments[0].tags.to_string(), ".300");
}

#[test]
fn a_refusal_names_file_line_key_reason_and_remedy() {
    let refused = refusal(&edited("bandwidth = \"1G\"", "bandwidth = \"fast\""));
    assert_eq!(
        refused.to_string(),
        "erdp.toml:4: circuit.contoso.bandwidth: `fast` has no unit k, M or G; \
         write a whole number and a unit, such as \"50M\" or \"1G\""
    );
}

/// Text to exchange, its replacement, the line blamed, and words that the message must have.
const REFUSED: &[(&str, &str, usize, &[&str])] = &[
    (
        "ipv4 = \"198.18.0.0/29\"",
        "ipv4 = \"198.18.0.0/29\"\nbfd = { interval = \"5ms\" }",
        9,
        &["circuit.contoso.private.bfd.interval", "below 10 ms", "300ms"],
    ),
    (
        "ipv4 = \"198.18.0.0/29\"",
        "ipv4 = \"198.18.0.0/29\"\nbfd = { interval = \"11s\" }",
        9,
        &["bfd.interval", "above 10 s"],
    ),
    (
        "ipv4 = \"198.18.0.0/29\"",
        "ipv4 = \"198.18.0.0/29\"\nbfd = { interval = \"300\" }",
        9,
        &["bfd.interval", "not a time", "300ms"],
    ),
    (
        "ipv4 = \"198.18.0.0/29\"",
        "ipv4 = \"198.18.0.0/29\"\nbfd = { multiplier = 0 }",
        9,
        &["bfd.multiplier", "1 and 255"],
    ),
    (
        "ipv4 = \"198.18.0.0/29\"",
        "ipv4 = \"198.18.0.0/29\"\nbfd = { absence = \"2h\" }",
        9,
        &["bfd.absence", "not a time"],
    ),
    (
        "ipv4 = \"198.18.0.0/29\"",
        "ipv4 = \"198.18.0.0/29\"\nbfd = { absence = \"3601s\" }",
        9,
        &["bfd.absence", "3600s"],
    ),
    (
        "ipv4 = \"198.18.0.0/29\"",
        "ipv4 = \"198.18.0.0/29\"\nbfd = { echo = true }",
        9,
        &["echo", "unknown key", "`interval`"],
    ),
    (
        "asn = 65020",
        "asn = 65020, bfd = { interval = \"1ms\" }",
        13,
        &["attachment.ce0.peers.bfd.interval", "below 10 ms"],
    ),
    ("bandwidth =", "speed =", 4, &["speed", "unknown key", "`bandwidth`"]),
    ("peerings =", "weight = 0\npeerings =", 11, &["attachment.ce0.weight", "1 and 255", "ratio"]),
    ("peerings =", "weight = 256\npeerings =", 11, &["attachment.ce0.weight", "1 and 255"]),
    ("asn = 65010", "asn = 65010\nsymmetric-hash = 1", 2, &["symmetric-hash", "boolean"]),
    ("asn = 65010", "asn = 65010\nrestart-deadline = 0", 2, &["restart-deadline", "1 and 3600"]),
    ("asn = 65010", "asn = 65010\ndrop-samples = -1", 2, &["drop-samples", "0 and 1000"]),
    ("asn = 65010", "asn = 65010\ndrop-samples = 1001", 2, &["drop-samples", "0 and 1000"]),
    ("asn = 65010", "asn = 65010\nmetrics = \"9179\"", 2, &["metrics", "127.0.0.1:9179"]),
    ("asn = 65010", "asn = 65010\nmetrics = \"127.0.0.1:0\"", 2, &["metrics", "127.0.0.1:9179"]),
    ("asn = 65010", "asn = 65010\ncontrol-orders = \"net admin\"", 2, &["control-orders", "getent group"]),
    ("asn = 65010", "asn = 65010\ncolour = 1", 2, &["colour", "unknown key"]),
    ("ipv4 = \"198.18.0.0/29\"", "ipv4 = \"198.18.0.0/29\"\nmtu = 1", 9, &["mtu", "unknown key"]),
    ("asn = 65020", "asn = 65020, weight = 1", 13, &["weight", "unknown key"]),
    (
        "secondary = { local = \"msee2\" }",
        "secondary = { local = \"msee2\" }\ntertiary = { local = \"x\" }",
        7,
        &["tertiary", "unknown key"],
    ),
    ("secondary = { local = \"msee2\" }\n", "", 2, &["circuit.contoso.secondary", "two links"]),
    ("primary = { local = \"msee1\" }\n", "", 2, &["circuit.contoso.primary", "two links"]),
    ("{ local = \"msee2\" }", "{ local = \"msee2\", box = \"b\" }", 6, &["exactly one place"]),
    ("{ local = \"msee2\" }", "{}", 6, &["exactly one place"]),
    ("{ local = \"msee2\" }", "{ local = \"msee1\" }", 7, &["msee1 already belongs to", "vlan"]),
    (
        "interface = \"ce0\"",
        "interface = \"msee1\"",
        10,
        &["msee1 already belongs to circuit.contoso.private"],
    ),
    ("interface = \"ce0\"", "interface = \"a-name-that-is-too-long\"", 10, &["Linux interface"]),
    ("name = \"contoso\"", "name = \"con/toso\"", 3, &["plain name"]),
    ("bandwidth = \"1G\"", "bandwidth = \"0G\"", 4, &["let nothing pass"]),
    ("bandwidth = \"1G\"", "bandwidth = \"1.5.G\"", 4, &["whole number"]),
    ("bandwidth = \"1G\"", "bandwidth = \"99999999999999G\"", 4, &["2^64"]),
    ("bandwidth = \"1G\"", "bandwidth = \"1G\"\nsku = \"gold\"", 5, &["`gold` is not a SKU", "premium"]),
    ("[circuit.private]\nipv4 = \"198.18.0.0/29\"\n", "", 3, &["no peering"]),
    (
        "[circuit.private]",
        "[circuit.private]\nsource-check = \"strict\"",
        8,
        &["circuit.contoso.private.source-check", "\"on\" nor \"off\""],
    ),
    ("[circuit.private]", "[circuit.public]\nx = 1\n[circuit.private]", 7, &["retired", "circuit.microsoft"]),
    (
        "bandwidth = \"1G\"",
        "bandwidth = \"1G\"\nadmin = \"on\"",
        5,
        &["circuit.contoso.admin", "\"enabled\" nor \"disabled\""],
    ),
    (
        "bandwidth = \"1G\"",
        "bandwidth = \"1G\"\nhairpin = \"yes\"",
        5,
        &["circuit.contoso.hairpin", "\"deny\" nor \"allow\""],
    ),
    ("bandwidth = \"1G\"", "bandwidth = \"1G\"\nburst = \"3x\"", 5, &["`3x`", "headroom-20"]),
    ("bandwidth = \"1G\"", "bandwidth = \"1G\"\ncredit-ms = 5", 5, &["credit-ms", "between 20 and 30000"]),
    ("bandwidth = \"1G\"", "bandwidth = \"1G\"\ncount = \"bits\"", 5, &["\"ip\" nor \"wire\""]),
    ("bandwidth = \"1G\"", "bandwidth = \"1G\"\nminimum-links = 3", 5, &["minimum-links", "use 1 or 2"]),
    ("asn = 65010", "asn = 65010\nfib-blocks = 1023", 2, &["fib-blocks", "between 1024 and 262144"]),
    ("asn = 65010", "asn = 0", 1, &["asn", "RFC 7607"]),
    ("asn = 65010", "asn = 23456", 1, &["AS_TRANS"]),
    ("asn = 65010", "asn = 64496", 1, &["documentation"]),
    ("asn = 65010", "asn = 64511", 1, &["documentation"]),
    ("asn = 65010", "asn = 65515", 1, &["reserved by Azure", "64512-65514"]),
    ("asn = 65010", "asn = 65520", 1, &["reserved by Azure"]),
    ("asn = 65010", "asn = 65535", 1, &["RFC 7300"]),
    ("asn = 65010", "asn = 65551", 1, &["documentation"]),
    ("asn = 65010", "asn = 12076", 1, &["Microsoft's own AS"]),
    ("asn = 65010", "asn = 4294967295", 1, &["RFC 7300"]),
    ("asn = 65010", "asn = 4294967296", 1, &["32-bit"]),
    ("asn = 65010", "asn = -1", 1, &["32-bit"]),
    ("asn = 65010", "asn = \"x\"", 1, &["asn", "invalid type"]),
    ("asn = 65010\n", "", 1, &["missing field `asn`"]),
    ("asn = 65010", "asn = 65010\nrouter-id = \"0.0.0.0\"", 2, &["RFC 6286"]),
    ("asn = 65010", "asn = = 65010", 1, &["asn"]),
    ("asn = 65020", "asn = 12076", 13, &["Microsoft's own AS"]),
    ("asn = 65020", "asn = 65010", 13, &["our own AS"]),
    ("asn = 65020", "asn = 65020, hold = 2", 13, &["outside 3-65535"]),
    ("asn = 65020", "asn = 65020, hold = 0", 13, &["outside 3-65535"]),
    ("asn = 65020", "asn = 65020, hold = 65536", 13, &["outside 3-65535"]),
    ("asn = 65020", "asn = 65020, md5 = \"\"", 13, &["1 to 80"]),
    ("asn = 65020", "asn = 65020, families = [\"ipv6\"]", 13, &["no ipv6 address"]),
    ("asn = 65020", "asn = 65020, families = [\"l2vpn\"]", 13, &["`l2vpn` is not a family"]),
    ("[circuit.private]", "[circuit.private]\npeer-asn = 65516", 8, &["reserved by Azure"]),
    ("\"198.18.0.0/29\"", "\"198.18.0.0/28\"", 8, &["/28 is not a /29", "two /30"]),
    ("\"198.18.0.0/29\"", "\"198.18.0.1/29\"", 8, &["host bits", "198.18.0.0/29"]),
    ("\"198.18.0.0/29\"", "\"fd00::/125\"", 8, &["other address family"]),
    ("\"198.18.0.0/29\"", "\"198.18.0.0\"", 8, &["not an IP prefix"]),
    ("\"198.18.0.0/29\"", "[\"198.18.0.0/30\", \"198.18.0.0/30\"]", 8, &["overlaps", "(primary)"]),
    ("\"198.18.0.0/29\"", "[\"198.18.0.0/30\"]", 8, &["list of two"]),
    ("\"198.18.0.0/29\"", "[\"198.18.0.0/29\", \"198.18.0.8/29\"]", 8, &["not a /30"]),
    ("ipv4 = \"198.18.0.0/29\"\n", "", 7, &["no subnet"]),
    ("\"198.18.10.1/30\"", "\"198.18.0.5/20\"", 12, &["overlaps", "circuit.contoso.private"]),
    ("\"198.18.10.1/30\"", "\"198.18.10.0/30\"", 12, &["the subnet itself", "198.18.10.1/30"]),
    ("\"198.18.10.1/30\"", "\"198.18.10.3/30\"", 12, &["the subnet itself"]),
    ("\"198.18.10.1/30\"", "\"198.18.10.1/32\"", 12, &["no room for a neighbour"]),
    ("\"198.18.10.1/30\"", "\"fd00::1/64\"", 12, &["other address family"]),
    ("ipv4 = \"198.18.10.1/30\"\n", "", 10, &["no address"]),
    ("\"198.18.10.2\"", "\"198.18.11.2\"", 13, &["none of our subnets", "198.18.10.1/30"]),
    ("\"198.18.10.2\"", "\"198.18.10.1\"", 13, &["our own address"]),
    ("\"198.18.10.2\"", "\"198.18.10.3\"", 13, &["broadcast"]),
    ("\"198.18.10.2\"", "\"router\"", 13, &["not an IP address"]),
    (
        "{ address = \"198.18.10.2\", asn = 65020 }",
        "{ address = \"198.18.10.2\", asn = 65020 }, { address = \"198.18.10.2\", asn = 65021 }",
        13,
        &["listed twice"],
    ),
    (
        "\"contoso/private\"",
        "\"contoso/microsoft\"",
        11,
        &["no peering `contoso/microsoft`", "contoso/private"],
    ),
    ("\"contoso/private\"", "\"contoso/private\", \"contoso/private\"", 11, &["listed twice"]),
    ("[\"contoso/private\"]", "[]", 11, &["no peering"]),
    ("[circuit.private]", "[circuit.private]\nvlan = 0", 8, &["not a VLAN identifier"]),
    ("[circuit.private]", "[circuit.private]\nvlan = 4095", 8, &["not a VLAN identifier"]),
    ("[circuit.private]", "[circuit.private]\nvlan = -1", 8, &["not a VLAN identifier"]),
    ("bandwidth = \"1G\"", "bandwidth = \"1G\"\ns-vlan = 7", 8, &["S-tag", "no C-tag"]),
    ("interface = \"ce0\"", "interface = \"ce0\"\ns-vlan = 7", 10, &["S-tag"]),
];

#[test]
fn each_rule_refuses_with_the_line_and_the_reason() {
    let mut wrong = Vec::new();
    for (from, to, line, words) in REFUSED {
        let refused = refusal(&edited(from, to));
        let message = refused.to_string();
        let is_whole = refused.line == *line && !refused.key.is_empty() && !refused.remedy.is_empty();
        if !is_whole || !words.iter().all(|word| message.contains(word)) {
            wrong.push(format!("{to}: expected line {line} and {words:?}, got {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whole_files_that_are_refused() {
    let second = MINIMAL.replacen("asn = 65010\n", "", 1);
    let renumbered = |text: &str| {
        text.replace("198.18.0.", "198.18.1.")
            .replace("198.18.10.", "198.18.11.")
            .replace("msee", "other")
            .replace("ce0", "ce1")
    };
    let both_away = edited("{ local = \"msee1\" }", "{ box = \"a\" }")
        .replace("{ local = \"msee2\" }", "{ box = \"b\" }");
    let only_ipv6 = MINIMAL
        .replace("ipv4 = \"198.18.0.0/29\"", "ipv6 = \"fd00::/125\"")
        .replace("ipv4 = \"198.18.10.1/30\"", "ipv6 = \"fd00:1::1/64\"")
        .replace("198.18.10.2", "fd00:1::2");
    let one_tag_twice = edited(
        "[[attachment]]",
        "vlan = 100\n[circuit.microsoft]\nipv4 = \"198.18.1.0/29\"\nvlan = 100\n[[attachment]]",
    );
    let rows = [
        ("asn = 65010\n".to_owned(), "no circuit"),
        (format!("{MINIMAL}{}", renumbered(&second)), "two circuits are called `contoso`"),
        (both_away, "both links end on another box"),
        (only_ipv6, "router-id"),
        (one_tag_twice, "msee1.100 already belongs to circuit.contoso.private.vlan"),
    ];
    for (text, words) in rows {
        let message = refusal(&text).to_string();
        assert!(message.contains(words), "`{words}` is not in: {message}");
    }
}

/// Two peerings, a customer's attachment in zone `lan` and one in zone `dmz`, with the rules of both.
#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/erdp.toml")).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/erdp.toml: cannot be read"), "{error}");
}

#[test]
fn doubtful_values_are_warned_about_and_used() {
    let rows: &[(&str, &str, &str)] = &[
        ("bandwidth = \"1G\"", "bandwidth = \"3G\"", "sells no circuit of 3G"),
        ("asn = 65020", "asn = 65020, hold = 9", "hold time of 9 s"),
        ("[circuit.private]", "[circuit.private]\npeer-asn = 65030", "never in AS65030"),
        ("asn = 65010", "asn = 64999", ""),
    ];
    for (from, to, words) in rows {
        let (_, warnings) = parse(&edited(from, to)).unwrap();
        let text = warnings.iter().map(Warning::to_string).collect::<String>();
        assert_eq!(warnings.is_empty(), words.is_empty(), "{text}");
        assert!(text.contains(words), "`{words}` is not in: {text}");
    }
    let text = MINIMAL.replace("private", "microsoft").replace("198.18.0.0/29", "10.0.0.0/29");
    let (_, warnings) = parse(&text).unwrap();
    let reasons = warnings.iter().map(Warning::to_string).collect::<Vec<_>>().join("\n");
    assert!(reasons.contains("10.0.0.0/30 is not public"), "{reasons}");
    assert!(reasons.contains("our AS65010 is private"), "{reasons}");
}

#[test]
fn bandwidths_are_exact_from_ten_megabits_to_beyond_a_hundred_gigabits() {
    let rows = [
        ("10M", 10_000_000),
        ("64k", 64_000),
        ("100G", 100_000_000_000),
        ("400G", 400_000_000_000),
        ("1 G", 1_000_000_000),
    ];
    for (text, bits) in rows {
        assert_eq!(BitsPerSecond::parse(text), Ok(BitsPerSecond(bits)), "{text}");
    }
    assert_eq!(BitsPerSecond(2_500_000_000).to_string(), "2500M");
}

#[test]
fn we_take_the_first_usable_address_and_microsoft_the_second() {
    let text = edited("ipv4 = \"198.18.0.0/29\"", "ipv4 = \"198.18.0.0/29\"\nipv6 = \"fd00::/125\"");
    let private = accepted(&text).circuits[0].private.clone().unwrap();
    let addresses: Vec<_> = LinkRole::ALL
        .into_iter()
        .flat_map(|role| private.addresses(role).collect::<Vec<_>>())
        .map(|link| format!("{} {} {}", link.subnet, link.ours, link.theirs))
        .collect();
    assert_eq!(
        addresses,
        [
            "198.18.0.0/30 198.18.0.1 198.18.0.2",
            "fd00::/126 fd00::1 fd00::2",
            "198.18.0.4/30 198.18.0.5 198.18.0.6",
            "fd00::4/126 fd00::5 fd00::6",
        ]
    );
}

#[test]
fn two_subnets_in_a_list_need_not_be_neighbours() {
    let text = edited("\"198.18.0.0/29\"", "[\"198.18.0.4/30\", \"198.18.7.0/30\"]");
    let pair = accepted(&text).circuits[0].private.clone().unwrap().ipv4.unwrap();
    assert_eq!(pair.primary.ours, "198.18.0.5".parse::<IpAddr>().unwrap());
    assert_eq!(pair.secondary.theirs, "198.18.7.2".parse::<IpAddr>().unwrap());
}

/// Two circuits, one of them shared with another box and double-tagged with both peerings; two attachments.
const LARGE: &str = r#"
asn = 65010
router-id = "198.18.255.1"
[[circuit]]
name = "a"
bandwidth = "1G"
s-vlan = 7
primary = { local = "eth1" }
secondary = { box = "edge-b" }
[circuit.microsoft]
ipv4 = "198.18.1.0/29"
vlan = 200
[circuit.private]
ipv4 = "198.18.0.0/29"
ipv6 = "fd00::/125"
vlan = 100
forced-tunnel = true
[[circuit]]
name = "b"
bandwidth = "50M"
primary = { local = "eth2" }
secondary = { local = "eth3" }
[circuit.private]
ipv4 = "198.18.2.0/29"
[[attachment]]
interface = "ce0"
vlan = 10
peerings = ["b/private", "a/private"]
ipv4 = "198.18.10.1/31"
ipv6 = "fd00:10::1/64"
peers = [{ address = "198.18.10.0", asn = 65020, families = ["ipv4", "ipv6"], passive = true }]
[[attachment]]
interface = "ce0"
vlan = 11
peerings = ["a/microsoft"]
ipv4 = "198.18.11.1/24"
"#;

#[test]
fn domains_are_numbered_by_circuit_and_private_comes_first() {
    let domains = accepted(LARGE).domains();
    let shown: Vec<_> =
        domains.iter().map(|d| (d.id.0, d.name.as_str(), d.circuit, d.forced_tunnel)).collect();
    assert_eq!(shown, [(0, "a/private", 0, true), (1, "a/microsoft", 0, false), (2, "b/private", 1, false)]);
}

#[test]
fn attachments_are_numbered_msee_first_and_links_of_the_other_box_are_left_out() {
    let attachments = accepted(LARGE).attachments();
    let shown: Vec<_> = attachments
        .iter()
        .map(|a| {
            format!(
                "{} {} {}{} {} {:?} {:?}",
                a.id.index(),
                a.name,
                a.interface,
                a.tags,
                a.side,
                a.domains,
                a.addresses
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "0 a/private primary eth1.7.100 MSEE (primary) [DomainId(0)] [198.18.0.1/30, fd00::1/126]",
            "1 a/microsoft primary eth1.7.200 MSEE (primary) [DomainId(1)] [198.18.1.1/30]",
            "2 b/private primary eth2 MSEE (primary) [DomainId(2)] [198.18.2.1/30]",
            "3 b/private secondary eth3 MSEE (secondary) [DomainId(2)] [198.18.2.5/30]",
            "4 ce0.10 ce0.10 CE [DomainId(2), DomainId(0)] [198.18.10.1/31, fd00:10::1/64]",
            "5 ce0.11 ce0.11 CE [DomainId(1)] [198.18.11.1/24]",
        ]
    );
}

#[test]
fn each_family_of_each_local_link_has_a_session_and_identifiers_are_indices() {
    let config = accepted(LARGE);
    let peers = config.peers();
    let shown: Vec<_> = peers
        .iter()
        .map(|p| {
            format!(
                "{} {} AS{} {}",
                p.session.local,
                p.session.remote,
                p.session.remote_asn.0,
                p.attachment.index()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "198.18.0.1 198.18.0.2 AS12076 0",
            "fd00::1 fd00::2 AS12076 0",
            "198.18.1.1 198.18.1.2 AS12076 1",
            "198.18.2.1 198.18.2.2 AS12076 2",
            "198.18.2.5 198.18.2.6 AS12076 3",
            "198.18.10.1 198.18.10.0 AS65020 4",
        ]
    );
    for (index, peer) in peers.iter().enumerate() {
        assert_eq!(peer.session.id, PeerId(index as u16));
    }
    assert_eq!(peers[5].session.families, [Family::Ipv4Unicast, Family::Ipv6Unicast]);
    assert!(peers[5].session.passive && peers[0].session.hold == Seconds(180));
    assert_eq!(config.router_id, Ipv4Addr::new(198, 18, 255, 1));
}

#[test]
fn a_change_to_a_circuit_is_refused_by_the_rules_of_the_file_and_names_the_remedy() {
    let config = accepted(MINIMAL);
    type Row<'a> = (Option<&'a str>, Option<&'a str>, Option<i64>, &'a [&'a str]);
    // Bandwidth, burst, credit, and words of the refusal.
    let rows: [Row<'_>; 8] = [
        (None, None, None, &["contoso", "nothing to change", "give"]),
        (Some("fast"), None, None, &["bandwidth", "no unit", "50M"]),
        (Some("0G"), None, None, &["bandwidth", "nothing pass"]),
        (Some("10k"), None, None, &["bandwidth", "1 Mbit/s", "what was bought"]),
        (Some("9000G"), None, None, &["bandwidth", "1.6 Tbit/s"]),
        (Some("2G"), Some("double"), None, &["burst", "double", "peak-2x"]),
        (Some("2G"), None, Some(0), &["credit-ms", "20 and 30000"]),
        (None, None, Some(30_001), &["credit-ms", "20 and 30000"]),
    ];
    for (bandwidth, burst, credit_ms, words) in rows {
        let change =
            CircuitChange { bandwidth: bandwidth.map(Into::into), burst: burst.map(Into::into), credit_ms };
        let refused = change.plan(&config, "contoso").expect_err("it is wrong");
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
    }
    let refused = CircuitChange::default().plan(&config, "fabrikam").expect_err("there is none");
    assert!(refused.contains("fabrikam") && refused.contains("there are: contoso"), "{refused}");
}

#[test]
fn a_change_says_what_becomes_different_and_what_is_doubtful() {
    let config = accepted(MINIMAL);
    let plan = |bandwidth: Option<&str>, burst: Option<&str>, credit_ms| {
        let change =
            CircuitChange { bandwidth: bandwidth.map(Into::into), burst: burst.map(Into::into), credit_ms };
        change.plan(&config, "contoso").expect("it is right")
    };
    let both = plan(Some("2Gbps"), Some("dual-link"), None);
    let texts: Vec<_> = both.changed.iter().map(|it| (it.key, it.from.as_str(), it.to.as_str())).collect();
    assert_eq!(texts, [("bandwidth", "1G", "2G"), ("burst", "peak-2x", "dual-link")]);
    assert_eq!(both.warnings, [""; 0]);
    assert_eq!(both.circuit.bandwidth, BitsPerSecond(2_000_000_000));
    assert_eq!(plan(Some("1G"), Some("peak-2x"), Some(1_000)).changed, []);
    assert!(plan(Some("3G"), None, None).warnings[0].contains("sells no circuit of 3G"));
    assert!(plan(None, Some("dual-link"), Some(500)).warnings[0].contains("no credit"));
}

#[test]
fn b5_bfd_is_the_msees_unless_it_says_more_and_belongs_to_each_peer_of_the_peering() {
    let with = |bfd: &str| accepted(&MINIMAL.replace("/29\"", &format!("/29\"\nbfd = {bfd}")));
    let of_msees = Bfd { interval_us: 300_000, multiplier: 3, strict: false, absence_s: 120 };
    for (bfd, expected) in [
        ("{}", of_msees),
        ("{ interval = \"50ms\", multiplier = 5 }", Bfd { interval_us: 50_000, multiplier: 5, ..of_msees }),
        ("{ interval = \"1s\", strict = true }", Bfd { interval_us: 1_000_000, strict: true, ..of_msees }),
        ("{ absence = \"0s\" }", Bfd { absence_s: 0, ..of_msees }),
    ] {
        let peers: Vec<_> = with(bfd).peers().into_iter().map(|peer| peer.bfd).collect();
        assert_eq!(peers, [Some(expected), Some(expected), None], "{bfd}");
    }
    let warned =
        parse(&MINIMAL.replace("/29\"", "/29\"\nbfd = { multiplier = 2 }")).map(|(_, warnings)| warnings);
    let warned = warned.expect("it is accepted");
    assert!(
        warned.iter().any(|it| it.to_string().contains("cannot answer for an absent controller")),
        "{warned:?}"
    );
}

#[test]
fn an_interface_is_required_where_the_file_says_so_and_that_changes_live() {
    let of =
        |text: &str| accepted(text).required_interfaces().into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of(MINIMAL), Vec::<String>::new());
    let link = edited("local = \"msee2\"", "local = \"msee2\", required = true");
    let attachment = edited("interface = \"ce0\"", "interface = \"ce0\"\nrequired = true");
    let all = edited("asn = 65010", "asn = 65010\nrequire-interfaces = true");
    assert_eq!((of(&link), of(&attachment)), (vec!["msee2".to_owned()], vec!["ce0".to_owned()]));
    assert_eq!(of(&all), ["ce0", "msee1", "msee2"]);
    for text in [link, attachment, all] {
        let plan = Plan::between(&accepted(MINIMAL), &accepted(&text));
        assert_eq!((plan.refused.len(), plan.differences.len()), (0, 1), "{plan:?}");
    }
    let elsewhere = edited("local = \"msee2\"", "box = \"edge-b\", required = true");
    assert!(
        refusal(&elsewhere).to_string().contains("write required = true there"),
        "{}",
        refusal(&elsewhere)
    );
}
