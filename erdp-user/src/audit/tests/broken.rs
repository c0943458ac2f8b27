//! Broken configurations: small edits of the good one, each with exactly the checks that it breaks.

use super::{BOXES, GOOD, about, edited, names};
use crate::audit::{Finding, Severity};

/// Edits, and the checks that they break.
type Row = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const VNET: &str = "vnets = [{ name = \"hub\", prefixes = [\"10.1.0.0/16\"], region = \"West Europe\", gateway-sku = \"ErGw3AZ\", gateway-subnet = \"10.1.255.0/27\" }]";
const PUBLIC: &str = "public-prefixes = [{ prefix = \"131.107.8.0/24\", validation = \"configured\" }]";
const FILTER: &str = "route-filter = [\"West Europe\"]";
/// `all` may use the private and the Microsoft peering of a circuit and not the other circuit.
const ZONES: &str = "[[zone-rule]]\nzone = \"all\"\npeerings = [\"contoso/private\", \"contoso/microsoft\"]\n\
                     [[zone-rule]]\nzone = \"dmz\"\npeerings = [\"contoso/private\", \"contoso/microsoft\"]\n";

/// One row for each way to break a rule, and some that break several.
pub(super) const ROWS: &[Row] = &[
    (&[("burst = \"dual-link\"\n", "")], &["A2.above-link"]),
    (&[("\"dual-link\"", "\"headroom-20\"")], &["A2.headroom"]),
    (&[("bandwidth = \"1G\"", "bandwidth = \"3G\"")], &["A3.not-sold"]),
    (&[("bandwidth = \"2G\"", "bandwidth = \"500M\"")], &["A3.not-sold"]),
    (&[("kind = \"provider\"\n", "")], &["A3.no-kind"]),
    (&[("billing = \"metered\"\n", "")], &["A5.no-billing"]),
    (&[("price-per-gb = \"0.025 EUR\"\n", "")], &["A5.no-price"]),
    (&[("sku = \"premium\"", "sku = \"local\"")], &["A5.local-metered"]),
    (
        &[("sku = \"premium\"\n", ""), (FILTER, "route-filter = [\"West Europe\", \"Japan East\"]")],
        &["A6.filter-out-of-scope"],
    ),
    (
        &[("sku = \"premium\"\n", ""), (FILTER, "route-filter = [\"Exchange Online\"]")],
        &["A6.office-on-standard"],
    ),
    (
        &[
            ("sku = \"premium\"", "sku = \"local\""),
            ("\"metered\"", "\"unlimited\""),
            (FILTER, "route-filter = [\"West Europe\", \"UK South\"]"),
        ],
        &["A6.filter-out-of-scope"],
    ),
    (&[("region = \"North Europe\"", "region = \"East US\"")], &["A6.vnet-out-of-scope"]),
    (
        &[
            ("sku = \"premium\"", "sku = \"local\""),
            ("\"metered\"", "\"unlimited\""),
            ("\"West Europe\", gateway", "\"UK South\", gateway"),
        ],
        &["A6.vnet-out-of-scope"],
    ),
    (&[("sku = \"premium\"\n", ""), ("geopolitical-region = \"Europe\"\n", "")], &["A6.no-region"]),
    (&[(VNET, "")], &["A7.no-vnets"]),
    (&[("subscriptions = [\"production\"]\n", "")], &["A7.no-subscriptions"]),
    (
        &[(
            "subscriptions = [\"production\"]",
            "subscriptions = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \"i\", \"j\", \"k\", \"l\"]",
        )],
        &["A7.subscriptions"],
    ),
    (
        &[("name = \"contoso\"", "name = \"contoso\"\nprovisioning = \"provisioning\"")],
        &["A8.not-provisioned", "H3.standard"],
    ),
    (
        &[("name = \"fabrikam\"", "name = \"fabrikam\"\nadmin = \"disabled\"")],
        &["A8.disabled", "H3.standard"],
    ),
    (&[("service-key = \"0f8fad5b-d9cb-469f-a165-70867728950e\"\n", "")], &["A8.no-service-key"]),
    (
        &[
            (
                "\"msee3\" }\nsecondary = { box = \"edge-b\" }",
                "\"msee3\" }\nsecondary = { local = \"msee4\" }",
            ),
            (BOXES[2], ""),
        ],
        &["B1a.one-box"],
    ),
    (&[(BOXES[2], "")], &["B1a.no-way-to-box"]),
    (&[("ipv4 = \"10.255.0.0/29\"", "ipv4 = \"10.255.0.0/29\"\nhold = 9")], &["B4.hasty-hold"]),
    (&[("asn = 65020", "asn = 65020, hold = 3")], &["B4.hasty-hold"]),
    (&[("private-created = \"2022-05-01\"", "private-created = \"2018-07-31\"")], &["B5.reset-needed"]),
    (&[("microsoft-created = \"2022-05-02\"", "microsoft-created = \"2020-01-09\"")], &["B5.reset-needed"]),
    (&[("private-created = \"2022-05-01\"\n", "")], &["B5.no-date"]),
    (&[("bfd = {}", "bfd = { interval = \"1s\" }")], &["B5.slow-bfd"]),
    (&[("asn = 65515", "asn = 65515, local-pref = 100")], &["B8.vpn-preferred"]),
    (
        &[("service = \"vpn\"", "service = \"vpn\"\nkernel-routes = { local-pref = 100 }")],
        &["B8.vpn-preferred"],
    ),
    (&[("encrypted-only = [\"10.9.0.0/16\"]", "encrypted-only = [\"10.1.8.0/24\"]")], &["B9.vnet-way-back"]),
    (
        &[("ipv4 = \"10.255.0.0/29\"", "ipv4 = \"10.255.0.0/29\"\nipv6 = \"fd00:18::/125\"")],
        &["B10.dual-stack"],
    ),
    (&[("10.1.255.0/27", "10.1.255.0/28")], &["B10.gateway-subnet"]),
    (
        &[("ipv4 = \"10.255.0.0/29\"", "ipv4 = \"10.255.0.0/29\"\nsource-check = \"off\"")],
        &["C2.no-source-check"],
    ),
    (&[("burst = \"dual-link\"", "burst = \"dual-link\"\nhairpin = \"allow\"")], &["C2.hairpin"]),
    (&[("ipv4 = \"10.255.0.8/29\"\nvlan = 300\n", "ipv4 = \"10.255.0.8/29\"\n")], &["C4.direct-untagged"]),
    (
        &[(
            "peerings = [\"contoso/private\", \"fabrikam/private\"]",
            "peerings = [\"contoso/private\", \"fabrikam/private\", \"contoso/microsoft\"]",
        )],
        &["C5.no-zone"],
    ),
    // A zone that forbids neither of the two separates nothing.
    (
        &[
            (
                "peerings = [\"contoso/private\", \"fabrikam/private\"]",
                "zone = \"all\"\npeerings = [\"contoso/private\", \"fabrikam/private\", \"contoso/microsoft\"]",
            ),
            ("interface = \"dmz0\"", "zone = \"dmz\"\ninterface = \"dmz0\""),
            ("interface = \"vpn0\"", "zone = \"dmz\"\ninterface = \"vpn0\""),
            (BOXES[0], ""),
            (BOXES[1], ""),
            (BOXES[2], ZONES),
        ],
        &["B1a.no-way-to-box", "C5.no-zone", "H3.standard"],
    ),
    (
        &[("ipv4 = \"10.255.0.0/29\"", "ipv4 = \"10.255.0.0/29\"\nwhen-too-many = \"cease\"")],
        &["D2.cease-on-msee"],
    ),
    (
        &[("[\"131.107.0.0/30\", \"131.107.0.4/30\"]", "[\"131.107.0.0/30\", \"10.0.0.0/30\"]")],
        &["D4.private-subnet"],
    ),
    (
        &[("ipv4 = \"10.255.0.0/29\"", "ipv4 = \"10.255.0.0/29\"\nforced-tunnel = true")],
        &["D5.forced-tunnel"],
    ),
    (&[("route-filter = [\"West Europe\"]\n", "")], &["D6.no-filter"]),
    (
        &[
            ("ErGw3AZ\", gateway-subnet", "Standard\", gateway-subnet"),
            ("bandwidth = \"1G\"", "bandwidth = \"2G\""),
        ],
        &["D10.gateway-below-circuit"],
    ),
    (&[(", gateway-sku = \"ErGw3AZ\" }]", " }]")], &["D10.no-gateway"]),
    (
        &[
            ("asn = 3333", "asn = 65010"),
            ("asn = 3333", "asn = 65010"),
            ("asn = 3333", "asn = 65010"),
            ("asn = 3333", "asn = 65010"),
        ],
        &["E1.private-on-microsoft"],
    ),
    (&[("ipv4 = \"10.255.0.0/29\"", "ipv4 = \"10.255.0.0/29\"\npeer-asn = 64600")], &["E1.not-an-msee"]),
    (&[("10.255.0.8/29", "198.18.0.8/29")], &["E2.example-addresses"]),
    (&[("md5 = \"hunter2\"\n", "")], &["E3.no-key"]),
    (&[(FILTER, "route-filter = [\"12076:59999\"]")], &["E4.unknown-community"]),
    (&[(FILTER, "route-filter = [\"12076:5030\"]")], &["F.teams-unmarked"]),
    (&[("metrics = \"127.0.0.1:9179\"\n", "")], &["G.no-metrics"]),
    (&[("bfd = {}\n", "")], &["H1.no-bfd"]),
    (
        &[
            ("ipv4 = \"10.255.0.8/29\"", "ipv4 = \"10.255.0.8/29\"\nipv6 = \"fd00:18::/125\""),
            ("vlan = 300\nbfd = {}", "vlan = 300\nbfd = { strict = true }"),
        ],
        &["H1.strict-ipv6"],
    ),
    (&[("port = \"dublin-pair\"\n", "")], &["H2.no-port"]),
    (&[(FILTER, "route-filter = [\"US Gov Virginia\"]")], &["H2.national-cloud"]),
    (&[("\"West Europe\", gateway", "\"US Gov Virginia\", gateway")], &["H2.national-cloud"]),
    (&[("location = \"Dublin\"", "location = \"Amsterdam\"")], &["H3.standard"]),
    (&[("location = \"Dublin\"", "location = \"amsterdam\"")], &["H3.standard"]),
    (&[("location = \"Dublin\"\n", "")], &["H3.no-location", "H3.standard"]),
    (&[("validation = \"configured\"", "validation = \"validation-needed\"")], &["H4.validation-needed"]),
    (&[("validation = \"configured\"", "validation = \"not-configured\"")], &["H4.not-configured"]),
    (&[(", validation = \"configured\"", "")], &["H4.no-state"]),
    (&[(PUBLIC, "")], &["H4.no-prefixes"]),
    (&[("peers = [{ address = \"10.254.0.2\", asn = 65020 }]\n", "")], &["H7.nothing-to-advertise"]),
];

#[test]
fn the_good_configuration_breaks_nothing() {
    let findings = about(&GOOD);
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn each_broken_configuration_has_exactly_the_expected_findings() {
    let mut wrong = Vec::new();
    for (edits, expected) in ROWS {
        let found = about(&edited(&GOOD, edits));
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        if names(&found) != expected {
            wrong.push(format!("{edits:?}\n  expected {expected:?}\n  found {found:#?}"));
        }
    }
    println!("{} broken configurations", ROWS.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ROWS.len() >= 40);
}

/// More circuits than a row of edits can write: copies of the second one, in the same place. An edit has the number of its copy.
fn with_copies(count: usize, edit: impl Fn(usize, &str) -> String) -> Vec<Finding> {
    let from = GOOD.find("[[circuit]]\nname = \"fabrikam\"").unwrap();
    let to = GOOD.find("[[attachment]]").unwrap();
    let (circuit, rest) = (&GOOD[from..to], &GOOD[to..]);
    let mut text = GOOD[..to].to_owned();
    let mut boxes = String::new();
    for at in 0..count {
        text += &edit(at, circuit)
            .replace("\"fabrikam\"", &format!("\"copy{at}\""))
            .replace("10.255.0.8/29", &format!("10.255.1.{}/29", at * 8))
            .replace("msee3", &format!("msee{}", at + 4));
        boxes += &format!(
            "[[attachment]]\ninterface = \"box0\"\nbox = \"edge-b\"\nvlan = {}\npeerings = [\"copy{at}/private\"]\nipv4 = \
             \"10.254.1.{}/30\"\npeers = [{{ address = \"10.254.1.{}\", asn = 3333 }}]\n",
            at + 10,
            at * 4 + 1,
            at * 4 + 2
        );
    }
    let listed: String = (0..count).map(|at| format!(", \"copy{at}/private\"")).collect();
    let rest = rest.replacen("\"fabrikam/private\"]", &format!("\"fabrikam/private\"{listed}]"), 1);
    about(&(text + &rest + &boxes))
}

#[test]
fn a7_a_virtual_network_has_at_most_four_circuits_of_a_location_however_it_is_written_and_in_use_or_not() {
    let same = |_, circuit: &str| circuit.to_owned();
    let lower = |_, circuit: &str| circuit.replace("\"Dublin\"", "\"dublin\"");
    let disabled = |_, circuit: &str| {
        circuit.replace("name = \"fabrikam\"", "name = \"fabrikam\"\nadmin = \"disabled\"")
    };
    assert_eq!(names(&with_copies(3, same)), Vec::<&str>::new());
    assert_eq!(names(&with_copies(4, same)), ["A7.circuits-of-vnet"]);
    assert_eq!(names(&with_copies(4, lower)), ["A7.circuits-of-vnet"]);
    assert_eq!(names(&with_copies(4, disabled)), ["A7.circuits-of-vnet", "A8.disabled"]);
}

#[test]
fn a7_a_subscription_has_at_most_ten_circuits_of_a_geopolitical_region() {
    // With `contoso` and `fabrikam` there are eleven. Each has a virtual network of its own, and no port.
    let own = |at: usize, circuit: &str| {
        circuit
            .replace("port = \"dublin-pair\"\n", "")
            .replace("direct-10g", "provider")
            .replace("headroom-20", "dual-link")
            .replace("\"spoke\"", &format!("\"spoke{at}\""))
    };
    let elsewhere = |at: usize, circuit: &str| {
        let circuit = own(at, circuit);
        if at != 0 {
            return circuit;
        }
        circuit.replace("\"Europe\"", "\"North America\"").replace("\"North Europe\"", "\"East US\"")
    };
    assert_eq!(names(&with_copies(8, own)), Vec::<&str>::new());
    let found = with_copies(9, own);
    assert_eq!(names(&found), ["A7.circuits-of-subscription"]);
    assert!(found[0].sentence.ends_with("11 of 10 in Europe"), "{}", found[0].sentence);
    assert_eq!(names(&with_copies(9, elsewhere)), Vec::<&str>::new());
}

#[test]
fn a7_h2_limits_on_what_one_circuit_and_one_port_have_are_counted() {
    let rate = |rate: &'static str| {
        move |_, circuit: &str| circuit.replace("bandwidth = \"2G\"", rate).replace("spoke", "other")
    };
    assert_eq!(names(&with_copies(1, rate("bandwidth = \"10G\""))), ["H2.oversubscribed"]);
    assert_eq!(names(&with_copies(2, rate("bandwidth = \"10G\""))), ["H2.sold-twice"]);
    let vnets: String =
        (0..51).map(|at| format!("{{ name = \"v{at}\", gateway-sku = \"ErGw3AZ\" }}, ")).collect();
    let vnets = format!("vnets = [{vnets}]");
    assert_eq!(names(&about(&edited(&GOOD, &[(VNET, &vnets)]))), ["A7.vnets"]);
    // Azure counts those of a disabled circuit too.
    let disabled = ("name = \"contoso\"", "name = \"contoso\"\nadmin = \"disabled\"");
    let found = about(&edited(&GOOD, &[(VNET, &vnets), disabled]));
    assert_eq!(names(&found), ["A7.vnets", "A8.disabled", "H3.standard"]);
}

#[test]
fn a6_a_local_circuit_reaches_what_is_near_any_of_its_locations() {
    let local = [
        ("sku = \"premium\"", "sku = \"local\""),
        ("\"metered\"", "\"unlimited\""),
        ("\"West Europe\", gateway", "\"UK South\", gateway"),
    ];
    for (locations, expected) in [
        ("[\"Amsterdam\", \"London\"]", &[][..]),
        ("[\"Atlantis\", \"Amsterdam\"]", &["A6.vnet-out-of-scope"]),
        ("\"Atlantis\"", &[]),
    ] {
        let location = format!("location = {locations}");
        let edits = [&local[..], &[("location = \"Amsterdam\"", location.as_str())]].concat();
        assert_eq!(names(&about(&edited(&GOOD, &edits))), expected, "{locations}");
    }
}

#[test]
fn b9_a_way_back_in_clear_is_critical() {
    let found = about(&edited(&GOOD, &[("[\"10.9.0.0/16\"]", "[\"10.1.8.0/24\"]")]));
    assert_eq!((found[0].check, found[0].severity), ("B9.vnet-way-back", Severity::Critical));
}

#[test]
fn a3_a_bandwidth_that_is_not_sold_is_named_once_beside_those_that_are() {
    let found = about(&edited(&GOOD, &[("bandwidth = \"1G\"", "bandwidth = \"3G\"")]));
    let said = &found[0].sentence;
    assert!(said.starts_with("Microsoft does not sell this bandwidth: 3G; sold are provider 10M"), "{said}");
    assert_eq!(said.matches("3G").count(), 1, "{said}");
}

/// The checks that rows above and the test of shared limits break.
pub(super) fn covered() -> Vec<&'static str> {
    let shared = [
        "A7.circuits-of-vnet",
        "A7.circuits-of-subscription",
        "H2.oversubscribed",
        "H2.sold-twice",
        "A7.vnets",
    ];
    ROWS.iter().flat_map(|(_, expected)| expected.iter().copied()).chain(shared).collect()
}
