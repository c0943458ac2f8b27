//! The operator's policies (requirements B9, B11): what a rule does to the routes that it names, and to no others.

use super::*;

const POLICIES: &str = r#"
[[policy]]
name = "in"
[[policy.rule]]
communities = ["West Europe"]
local-pref = 200
add-communities = ["65010:1"]
[[policy.rule]]
prefixes = ["30.9.0.0/16 le 24"]
refuse = "nobody here uses it"
[[policy.rule]]
prefixes = ["30.0.0.0/8 le 32"]
prepend = 2
[[policy]]
name = "out"
[[policy.rule]]
prefixes = ["20.9.0.0/16"]
refuse = "it goes over the VPN"
[[policy.rule]]
as-path-contains = 65030
prepend = 3
remove-communities = ["65010:1"]
"#;
const WEST_EUROPE: Community = Community::new(12_076, 51_002);
const TAG: Community = Community::new(65_010, 1);
/// The first router's policy on the way in; that of private peering of circuit `a` on the way out.
const IN: (&str, &str) = ("asn = 65020 }", "asn = 65020, policy-in = \"in\" }");
const OUT: (&str, &str) = ("vlan = 100\n", "vlan = 100\npolicy-out = \"out\"\n");

fn config(edits: &[(&str, &str)], policies: &str) -> RibConfig {
    let text = edits.iter().fold(CONFIG.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    RibConfig::new(&Config::parse(&(text + policies), Path::new("erdp.toml")).unwrap().0)
}

/// Both routers of the customer announce it.
fn from_both(rib: &mut Rib, prefix: &str, change: impl Fn(&mut PathAttributes)) {
    [CE0, CE0_OTHER].into_iter().for_each(|peer| announce_with(rib, peer, prefix, &change));
}

/// What a peer is sent of a prefix.
fn sent(updates: &[Update], prefix: &str) -> Option<Arc<PathAttributes>> {
    let update = updates.iter().find(|update| update.announced.contains(&net(prefix)))?;
    update.attributes.clone()
}

#[test]
fn b11_a_policy_on_the_way_in_prefers_prepends_and_refuses_what_its_first_matching_rule_names_and_no_more() {
    let mut rib = rib_of(config(&[IN], POLICIES));
    from_both(&mut rib, "20.1.0.0/16", |_| ());
    from_both(&mut rib, "20.2.0.0/16", |it| it.communities = vec![WEST_EUROPE]);
    from_both(&mut rib, "30.1.0.0/16", |_| ());
    from_both(&mut rib, "30.9.1.0/24", |_| ());
    from_both(&mut rib, "30.9.1.128/25", |_| ());
    let way = |prefix: &str, peers: &[PeerId]| {
        [A_PRIVATE, B_PRIVATE].map(|domain| (domain, prefix.to_owned(), peers.to_vec()))
    };
    let mut expected = [
        way("20.1.0.0/16", &[CE0, CE0_OTHER]),
        way("20.2.0.0/16", &[CE0]),
        way("30.1.0.0/16", &[CE0_OTHER]),
        way("30.9.1.0/24", &[CE0_OTHER]),
        way("30.9.1.128/25", &[CE0_OTHER]),
    ]
    .concat();
    let mut found = changes(&mut rib);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let refused: Vec<_> = rib
        .refused()
        .iter()
        .map(|it| (it.prefix.to_string(), rib.why_refused(it.source, it.refusal)))
        .collect();
    let reason = "nobody here uses it (policy in)";
    assert_eq!(refused, vec![("30.9.1.0/24".to_owned(), reason.to_owned()); 2], "in both domains");
    let received = rib.received(CE0, &net("20.2.0.0/16"));
    assert!(received.iter().all(|path| (path.preference, path.policy) == (Some(200), Some(("in", 1)))));
    assert_eq!(rib.received(CE0, &net("20.1.0.0/16"))[0].policy, None);
}

#[test]
fn b11_what_a_policy_adds_on_the_way_in_is_advertised_and_the_path_is_longer_for_others_too() {
    let mut rib = rib_of(config(&[IN], POLICIES));
    announce_with(&mut rib, CE0, "20.2.0.0/16", |it| it.communities = vec![WEST_EUROPE]);
    announce(&mut rib, CE0, "30.1.0.0/16");
    let updates = rib.take_outgoing(A1);
    let near = sent(&updates, "20.2.0.0/16").unwrap();
    assert_eq!((near.communities.as_slice(), near.local_pref), (&[WEST_EUROPE, TAG][..], None));
    let longer = sent(&updates, "30.1.0.0/16").unwrap();
    assert_eq!(longer.as_path, AsPath::sequence([65_010, 65_020, 65_020, 65_020]));
    let route = rib.route(A_PRIVATE, net("20.2.0.0/16")).unwrap();
    assert_eq!(route.attributes.communities, [WEST_EUROPE], "as received");
    assert_eq!(rib.imported(&route).communities, [WEST_EUROPE, TAG], "after policy");
}

#[test]
fn b9_a_policy_on_the_way_out_holds_back_with_its_reason_prepends_and_removes_and_what_it_holds_back_takes_no_room()
 {
    let mut rib = rib_of(config(&[OUT], POLICIES));
    announce(&mut rib, CE0, "20.9.0.0/16");
    announce(&mut rib, CE0, "20.1.0.0/16");
    announce_with(&mut rib, CE0_OTHER, "20.3.0.0/16", |it| it.communities = vec![TAG]);
    let updates = rib.take_outgoing(A1);
    assert_eq!(sent(&updates, "20.9.0.0/16"), None);
    assert_eq!(sent(&updates, "20.1.0.0/16").unwrap().as_path, AsPath::sequence([65_010, 65_020]));
    let longer = sent(&updates, "20.3.0.0/16").unwrap();
    assert_eq!(longer.as_path, AsPath::sequence([65_010, 65_010, 65_010, 65_010, 65_030]));
    assert_eq!(longer.communities, []);
    let held = rib.held(A1, A_PRIVATE, net("20.9.0.0/16")).unwrap();
    assert_eq!((held.reason, held.reason.rule()), (HoldBack::ByPolicy(0), "policy"));
    assert_eq!(rib.why_held_back(A1, held.reason), "it goes over the VPN (policy out)");
    let wanted = |domain| {
        rib.meters().into_iter().find(|it| (it.0, it.1) == (domain, Family::Ipv4Unicast)).unwrap().2.wanted
    };
    assert_eq!(
        (wanted(A_PRIVATE), wanted(B_PRIVATE)),
        (2, 3),
        "D1: what is held back by policy takes no room"
    );
    assert!(sent(&rib.take_outgoing(B1), "20.9.0.0/16").is_some(), "the other circuit has no policy");
}

#[test]
fn no_policy_lets_in_or_out_what_expressroutes_rules_refuse_and_the_rule_is_named_not_the_policy() {
    let accepts = "[[policy]]\nname = \"in\"\n[[policy.rule]]\nlocal-pref = 300\n[[policy]]\nname = \"out\"\n[[policy.rule]]\nprepend = 1\n";
    let refuses = "[[policy]]\nname = \"in\"\n[[policy.rule]]\nrefuse = \"all\"\n[[policy]]\nname = \"out\"\n[[policy.rule]]\nrefuse = \"all\"\n";
    for policies in [accepts, refuses] {
        let mut rib = rib_of(config(&[IN, OUT], policies));
        announce(&mut rib, CE0, "0.0.0.0/0");
        announce_with(&mut rib, CE0, "20.1.0.0/16", |it| it.as_path = AsPath::sequence([65_020, 65_515]));
        announce(&mut rib, A2, "40.1.0.0/16");
        let refusal = |prefix: &str| {
            rib.refused()
                .iter()
                .find(|it| (it.domain, it.prefix) == (A_PRIVATE, net(prefix)))
                .map(|it| it.refusal)
        };
        assert_eq!(refusal("0.0.0.0/0"), Some(Refusal::DefaultFromCustomer), "D5");
        assert_eq!(refusal("20.1.0.0/16"), Some(Refusal::ReservedAsInPath), "E1");
        assert!(told(&mut rib, A1).iter().all(|word| !word.contains("40.1.0.0")), "D9");
        assert_eq!(rib.why_not_advertised(A1, net("40.1.0.0/16")).unwrap().2, HoldBack::SameSide, "D9");
    }
}

#[test]
fn b11_another_policy_hands_out_differences_only_and_without_it_all_is_as_before() {
    let mut rib = rib_of(config(&[], ""));
    for number in 0..200_u32 {
        let communities = if number % 10 == 0 { vec![WEST_EUROPE] } else { Vec::new() };
        from_both(&mut rib, &format!("20.{number}.0.0/16"), |it| it.communities.clone_from(&communities));
    }
    assert_eq!(changes(&mut rib).len(), 400);
    assert_eq!(told(&mut rib, A1).len(), 200);
    let near =
        "[[policy]]\nname = \"in\"\n[[policy.rule]]\ncommunities = [\"West Europe\"]\nlocal-pref = 200\n";
    for (edits, policies, peers) in [(&[IN][..], near, vec![CE0]), (&[][..], "", vec![CE0, CE0_OTHER])] {
        rib.reconfigure(config(edits, policies));
        let changed = changes(&mut rib);
        assert_eq!(changed.len(), 40, "20 prefixes in two domains");
        assert!(changed.iter().all(|(_, _, ways)| *ways == peers), "{changed:?}");
        let told = told(&mut rib, A1);
        let changed: BTreeSet<&String> = changed.iter().map(|(_, prefix, _)| prefix).collect();
        let again: BTreeSet<&str> = told.iter().map(|word| word.trim_start_matches('+')).collect();
        assert!(changed.iter().map(|it| it.as_str()).eq(again), "by the path of another router: {told:?}");
    }
    let out =
        "[[policy]]\nname = \"out\"\n[[policy.rule]]\nprefixes = [\"20.9.0.0/16\"]\nrefuse = \"not here\"\n";
    rib.reconfigure(config(&[OUT], out));
    assert_eq!(changes(&mut rib), []);
    assert_eq!(told(&mut rib, A1), ["-20.9.0.0/16"], "and nothing else is sent again");
    rib.reconfigure(config(&[], ""));
    assert_eq!(told(&mut rib, A1), ["+20.9.0.0/16"]);
}

#[test]
fn b11_a_preference_is_handed_out_with_the_paths_where_circuits_are_compared_and_only_there() {
    let compares = ("interface = \"ce0\"\n", "interface = \"ce0\"\nbetween-circuits = \"preference\"\n");
    let of_a = ("vlan = 100\n", "vlan = 100\npolicy-in = \"in\"\n");
    for (edits, expected) in [(&[of_a][..], 100), (&[of_a, compares][..], 200)] {
        let mut rib = rib_of(config(edits, POLICIES));
        announce_with(&mut rib, A1, "40.1.0.0/16", |it| it.communities = vec![WEST_EUROPE]);
        announce(&mut rib, A1, "40.2.0.0/16");
        let worth: Vec<_> =
            rib.take_fib_changes().iter().map(|it| (it.prefix.to_string(), it.preference)).collect();
        assert_eq!(worth, [("40.1.0.0/16".to_owned(), expected), ("40.2.0.0/16".to_owned(), 100)]);
    }
}
