//! Zones, services and chains (C5, B8): what is taken, and what is refused.

use super::*;

const ZONED: &str = r#"asn = 65010
[[circuit]]
name = "contoso"
bandwidth = "1G"
primary = { local = "msee1" }
secondary = { local = "msee2" }
[circuit.private]
ipv4 = "198.18.0.0/29"
vlan = 100
[circuit.microsoft]
ipv4 = "198.19.0.0/29"
vlan = 200
[[zone-rule]]
zone = "lan"
peerings = ["contoso/private"]
[[zone-rule]]
zone = "dmz"
peerings = ["contoso/private", "contoso/microsoft"]
[[attachment]]
interface = "ce0"
peerings = ["contoso/private", "contoso/microsoft"]
zone = "lan"
ipv4 = "198.18.10.1/30"
[[attachment]]
interface = "ce1"
peerings = ["contoso/microsoft"]
zone = "dmz"
ipv4 = "198.18.11.1/30"
"#;

#[test]
fn c5_zones_divide_what_is_listed_into_what_may_be_used_and_what_may_not() {
    let (config, warnings) = parse(ZONED).unwrap();
    let [lan, dmz] = config.attachments.as_slice() else { panic!("two attachments") };
    assert_eq!((&lan.domains[..], &lan.forbidden[..]), (&[DomainId(0)][..], &[DomainId(1)][..]));
    assert_eq!((&dmz.domains[..], &dmz.forbidden[..]), (&[DomainId(1)][..], &[][..]));
    let told = warnings.iter().map(Warning::to_string).collect::<String>();
    assert!(told.contains("zone `lan` may not use contoso/microsoft"), "{told}");
}

#[test]
fn c5_zones_that_do_not_fit_together_are_refused() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("zone = \"lan\"\nipv4", "zone = \"lam\"\nipv4", &["attachment.ce0.zone", "`lam`", "dmz, lan"]),
        ("zone = \"lan\"\nipv4", "ipv4", &["attachment.ce0.zone", "in no zone"]),
        ("zone = \"dmz\"\npeerings", "zone = \"lan\"\npeerings", &["two rules for zone `lan`"]),
        (
            "[\"contoso/private\"]",
            "[\"contoso/privat\"]",
            &["zone-rule.peerings", "no peering `contoso/privat`"],
        ),
        ("[\"contoso/private\"]", "[]", &["attachment.ce0.peerings", "may use none"]),
        ("zone = \"lan\"\npeerings", "zone = \"\"\npeerings", &["zone-rule.zone", "plain name"]),
        (
            "[[attachment]]",
            "[[zone-rule]]\nzone = \"x\"\npeerings = []\n[[attachment]]",
            &["no attachment is in zone `x`"],
        ),
    ];
    for (from, to, words) in rows {
        assert!(ZONED.contains(from), "{from}");
        let message = refusal(&ZONED.replacen(from, to, 1)).to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{to}: {message}");
    }
    let without_rules = edited("interface =", "zone = \"lan\"\ninterface =");
    assert!(refusal(&without_rules).to_string().contains("no [[zone-rule]]"));
}

/// A NAT in zone `dmz`, and the chain of `ce0` through it.
const CHAINED: &str = r#"[[attachment]]
interface = "nat0"
service = "nat"
peerings = ["contoso/microsoft"]
zone = "dmz"
ipv4 = "198.18.12.1/30"
next-hops = ["198.18.12.2"]
encrypted-only = ["10.9.0.0/16"]
[[chain]]
from = "ce0"
via = "nat"
to = "contoso/microsoft"
"#;

#[test]
fn c5_a_chain_leads_from_an_attachment_through_a_service_to_a_peering() {
    let config = accepted(&format!("{ZONED}{CHAINED}"));
    assert_eq!(config.chains, [Chain { from: ChainStart::Attachment(0), via: 2, to: DomainId(1) }]);
    let attachment = &config.attachments()[config.ce_attachment(2).index()];
    assert_eq!((attachment.name.as_str(), attachment.side), ("nat0", Side::Service));
    let text = format!("{ZONED}{CHAINED}").replace("from = \"ce0\"", "from = \"contoso/private\"");
    assert_eq!(accepted(&text).chains[0].from, ChainStart::Peering(DomainId(0)));
}

#[test]
fn b8_services_and_chains_that_cannot_work_are_refused() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("via = \"nat\"", "via = \"nut\"", &["chain.via", "no service `nut`", "nat"]),
        (
            "to = \"contoso/microsoft\"",
            "to = \"contoso/public\"",
            &["chain.to", "no peering `contoso/public`"],
        ),
        ("to = \"contoso/microsoft\"", "to = \"contoso/private\"", &["chain.to", "leads nowhere"]),
        ("from = \"ce0\"", "from = \"ce9\"", &["chain.from", "`ce9`", "ce0, ce1"]),
        ("from = \"ce0\"", "from = \"nat0\"", &["chain.from", "`nat0`"]),
        ("from = \"ce0\"", "from = \"ce1\"", &["chain.from", "past the service"]),
        ("from = \"ce0\"", "from = \"contoso/microsoft\"", &["chain.from", "past the service"]),
        ("from = \"ce0\"", "from = \"contoso/x\"", &["chain.from", "no peering `contoso/x`"]),
        ("next-hops = [\"198.18.12.2\"]\n", "", &["chain.via", "no address to send to", "next-hops"]),
        (
            "\"198.18.12.2\"",
            "\"198.18.13.2\"",
            &["attachment.nat0.next-hops", "none of the attachment's subnets"],
        ),
        ("\"198.18.12.2\"", "\"198.18.12.1\"", &["next-hops", "our own address"]),
        ("\"198.18.12.2\"", "\"nat\"", &["next-hops", "not an IP address"]),
        ("service = \"nat\"\n", "", &["attachment.nat0.next-hops", "no service"]),
        ("service = \"nat\"", "service = \"a/b\"", &["attachment.nat0.service", "plain name"]),
        ("\"10.9.0.0/16\"", "\"10.9.0.1/16\"", &["encrypted-only", "host bits", "10.9.0.0/16"]),
        ("\"10.9.0.0/16\"", "\"0.0.0.0/0\"", &["encrypted-only", "is everything"]),
        (
            "\"10.9.0.0/16\"",
            "\"198.18.10.0/24\"",
            &["encrypted-only", "overlaps 198.18.10.0/30 of attachment.ce0.ipv4"],
        ),
        ("\"10.9.0.0/16\"", "\"198.18.10.2/32\"", &["encrypted-only", "overlaps"]),
        ("\"10.9.0.0/16\"", "\"10.9.0.0/16\", \"10.0.0.0/8\"", &["10.0.0.0/8 overlaps 10.9.0.0/16"]),
        ("[[chain]]", "[[chain]]\nover = 1", &["unknown key `over`"]),
    ];
    for (from, to, words) in rows {
        assert!(CHAINED.contains(from), "{from}");
        let message = refusal(&format!("{ZONED}{}", CHAINED.replacen(from, to, 1))).to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{to}: {message}");
    }
    let twice = CHAINED.replace("nat0", "nat1").replace("198.18.12.", "198.18.14.").replace("10.9.", "10.8.");
    let message = refusal(&format!("{ZONED}{CHAINED}{twice}")).to_string();
    assert!(message.contains("two services are called `nat`"), "{message}");
}
