//! Which policer each attachment has: what is shared by the links of a circuit, what is not, and the rate of each (A1, A2, F).

use std::{collections::BTreeSet, path::Path};

use super::*;
use crate::{compile::attachment_facts, fib::Topology};

/// Two circuits of other rates, the first with both peerings, and a customer's interface.
fn config(burst: &str) -> Config {
    let text = format!(
        r#"
asn = 65010
[[circuit]]
name = "one"
bandwidth = "1G"
burst = "{burst}"
primary = {{ local = "m1" }}
secondary = {{ local = "m2" }}
[circuit.private]
ipv4 = "198.18.0.0/29"
vlan = 100
[circuit.microsoft]
ipv4 = "198.18.0.16/29"
vlan = 200
[[circuit]]
name = "two"
bandwidth = "200M"
burst = "{burst}"
primary = {{ local = "m3" }}
secondary = {{ local = "m4" }}
[circuit.private]
ipv4 = "198.18.0.8/29"
[[attachment]]
interface = "ce0"
peerings = ["one/private", "two/private"]
ipv4 = "198.18.1.1/30"
"#
    );
    Config::parse(&text, Path::new("limits.toml")).unwrap().0
}

/// The records of each attachment and of its next hops, by its name: what comes in, what leaves, the profile.
fn wired(config: &Config) -> Vec<(String, [u16; 3])> {
    let facts = config.attachments().iter().map(|it| attachment_facts(config, it, 1)).collect();
    let topology = Topology::new(facts);
    let rows = topology.attachments();
    rows.map(|it| (it.name.clone(), [it.policer_in, it.policer_out, it.profile])).collect()
}

fn of_circuit(wired: &[(String, [u16; 3])], circuit: &str, at: usize) -> BTreeSet<u16> {
    let those = wired.iter().filter(|(name, _)| name.starts_with(circuit));
    those.map(|(_, policers)| policers[at]).collect()
}

/// The record of a policer.
fn policer_of(config: &Config, id: u16) -> Policer {
    let mut found = records(config, 0).into_iter().filter_map(|record| match record {
        Record::Policer(other, policer) if other == id => Some(policer),
        _ => None,
    });
    let policer = found.next().unwrap();
    assert!(found.next().is_none(), "policer {id} is written twice");
    policer
}

#[test]
fn a2_peak_2x_is_one_bucket_for_both_links_and_both_peerings_of_a_circuit_in_each_direction() {
    let config = config("peak-2x");
    let wired = wired(&config);
    assert_eq!(wired.iter().filter(|(name, _)| name.starts_with("one/")).count(), 4, "{wired:?}");
    let mut all = Vec::new();
    for circuit in ["one/", "two/"] {
        for at in [0, 1] {
            let ids = of_circuit(&wired, circuit, at);
            assert_eq!(ids.len(), 1, "{circuit}: the links do not share a bucket: {wired:?}");
            all.extend(ids);
        }
    }
    assert!(all.iter().all(|id| *id != 0), "{wired:?}");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4, "directions or circuits share one: {all:?}");
}

#[test]
fn a2_dual_link_and_headroom_20_are_a_bucket_of_its_own_for_each_link_and_direction() {
    for burst in ["dual-link", "headroom-20"] {
        let wired = wired(&config(burst));
        let (incoming, outgoing) = (of_circuit(&wired, "one/", 0), of_circuit(&wired, "one/", 1));
        assert_eq!((incoming.len(), outgoing.len()), (2, 2), "{burst}: {wired:?}");
        assert!(incoming.is_disjoint(&outgoing), "{burst}: {wired:?}");
        // Both peerings of one link are one bucket all the same: the link has R.
        let primary = wired.iter().filter(|(name, _)| name.starts_with("one/") && name.ends_with("primary"));
        assert_eq!(primary.map(|(_, ids)| ids[1]).collect::<BTreeSet<_>>().len(), 1, "{burst}: {wired:?}");
    }
}

#[test]
fn a1_each_direction_of_a_circuit_has_the_circuits_own_rate_and_the_customers_side_has_none() {
    let config = config("peak-2x");
    let wired = wired(&config);
    for (name, [incoming, outgoing, _]) in &wired {
        if name == "ce0" {
            assert_eq!((*incoming, *outgoing), (0, 0), "the customer's side is policed: {wired:?}");
            continue;
        }
        let bits = if name.starts_with("one/") { 1_000_000_000 } else { 200_000_000 };
        let expected = Rates::new(bits, BurstPolicy::Peak2x).policer().unwrap();
        for id in [incoming, outgoing] {
            assert_eq!(policer_of(&config, *id), expected, "{name}, policer {id}");
        }
    }
    // What the metrics and `show policers` call to-microsoft is what leaves there.
    for policer in policers_of(&config) {
        let circuit = &config.circuits[policer.circuit].name;
        let at = usize::from(policer.direction == Direction::Outbound);
        assert_eq!(of_circuit(&wired, &format!("{circuit}/"), at), [policer.id].into(), "{policer:?}");
    }
}

#[test]
fn f_private_peering_keeps_codes_and_microsoft_peering_has_a_profile_of_its_own() {
    let wired = wired(&config("peak-2x"));
    let profiles = |kind: &str| -> BTreeSet<u16> {
        wired.iter().filter(|(name, _)| name.contains(kind)).map(|(_, it)| it[2]).collect()
    };
    assert_eq!((profiles("/private"), profiles("/microsoft")), ([PRIVATE].into(), [MICROSOFT].into()));
}
