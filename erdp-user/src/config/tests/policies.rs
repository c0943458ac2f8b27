//! `[[policy]]` tables (B9, B11).

use super::*;
use crate::config::{RouteSource, Then};

const POLICY: &str = "\n[[policy]]\nname = \"p\"\n[[policy.rule]]\n";

fn attached(key: &str, rule: &str) -> String {
    edited("ipv4 = \"198.18.0.0/29\"", &format!("ipv4 = \"198.18.0.0/29\"\n{key} = \"p\"")) + POLICY + rule
}

#[test]
fn b11_a_policy_has_rules_in_their_order_and_is_attached_to_a_peering_an_attachment_or_a_peer() {
    let rule = "prefixes = [\"10.0.0.0/8 le 24\"]\ncommunities = [\"West Europe\"]\nas-path-contains = 65020\norigin-as = 65021\n\
                as-path-at-least = 3\nsource = \"bgp\"\nlocal-pref = 200\nprepend = 2\nadd-communities = [\"65010:1\"]\n\
                remove-communities = [\"65010:2\"]\n[[policy.rule]]\nrefuse = \"not here\"\n";
    let config = accepted(&attached("policy-in", rule));
    let policy = config.policy(Some("p")).unwrap();
    assert_eq!((policy.rules.len(), policy.rules[0].source), (2, Some(RouteSource::Bgp)));
    assert_eq!(policy.rules[1].then, Then::Refuse("not here".into()));
    let peers = config.peers();
    assert_eq!(peers[0].options.policy_in.as_deref(), Some("p"));
    assert_eq!((&peers[0].options.policy_out, &peers[2].options.policy_in), (&None, &None));
    let text =
        edited("interface = \"ce0\"", "interface = \"ce0\"\npolicy-out = \"p\"") + POLICY + "prepend = 1";
    let peers = accepted(&text).peers();
    assert_eq!(
        (peers[0].options.policy_out.as_deref(), peers[2].options.policy_out.as_deref()),
        (None, Some("p"))
    );
    let text = edited("asn = 65020 }]", "asn = 65020, policy-in = \"p\" }]") + POLICY + "prepend = 1";
    assert_eq!(accepted(&text).peers()[2].options.policy_in.as_deref(), Some("p"));
    let (_, warnings) = parse(&(MINIMAL.to_owned() + POLICY + "prepend = 1")).unwrap();
    assert!(warnings[0].to_string().contains("attached nowhere"), "{}", warnings[0]);
}

#[test]
fn a_policy_that_cannot_be_meant_is_refused_with_its_place_and_the_remedy() {
    let in_rule = |rule: &str| attached("policy-in", rule);
    let rows = [
        (
            edited("interface = \"ce0\"", "interface = \"ce0\"\npolicy-in = \"q\""),
            "no policy `q`",
            "add a [[policy]]",
        ),
        (
            in_rule("prepend = 1").replace("policy-in = \"p\"", "policy-in = \"q\""),
            "no policy `q`",
            "use one of: p",
        ),
        (attached("policy-out", "local-pref = 200"), "never sent to another AS", "policy-in"),
        (in_rule("prefixes = [\"10.0.0.1/8\"]"), "host bits", "ge 16 le 24"),
        (in_rule("prefixes = []"), "0 entries", "leave the key out"),
        (in_rule("communities = [\"Atlantis\"]"), "neither a community", "West Europe"),
        (in_rule("remove-communities = [\"65535:65281\"]"), "well-known", "where the route comes from"),
        (in_rule("source = \"ospf\""), "not where routes come from", "connected"),
        (in_rule("source = \"kernel\"\norigin-as = 65020"), "no AS path", "leave source out"),
        (in_rule("refuse = \"x\"\nprepend = 1"), "not changed", "leave out refuse"),
        (in_rule("refuse = \" \""), "no reason", "show refused"),
        (in_rule("prepend = 17"), "between 0 and 16", "such as 3"),
        (in_rule("as-path-at-least = 0"), "between 1 and 255", "how many"),
        (in_rule("origin-as = -1"), "32-bit", "65001"),
        (
            in_rule("prepend = 1").replace("name = \"p\"\n[[policy.rule]]\nprepend = 1", "name = \"p\""),
            "0 rules",
            "[[policy.rule]]",
        ),
        (in_rule("prepend = 1") + POLICY + "prepend = 1", "two policies", "its own name"),
        (
            edited("{ local = \"msee2\" }", "{ box = \"edge-b\" }")
                + "[[attachment]]\ninterface = \"ib0\"\nbox = \"edge-b\"\npeerings = [\"contoso/private\"]\nipv4 = \"198.18.11.1/30\"\n\
                   policy-in = \"p\"\npeers = [{ address = \"198.18.11.2\", asn = 65010 }]\n"
                + POLICY
                + "prepend = 1",
            "decide alike",
            "on both boxes",
        ),
    ];
    for (text, reason, remedy) in rows {
        let refusal = refusal(&text);
        assert!(refusal.reason.contains(reason), "{reason}: {}", refusal.reason);
        assert!(refusal.remedy.contains(remedy), "{remedy}: {}", refusal.remedy);
    }
}
