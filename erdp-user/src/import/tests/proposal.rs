//! Proposals: accepted as they are, whatever the order of the files, with everything named that Azure does not know.

use super::{FAULTY, SAMPLES, parsed, proposed, samples, viewed};
use crate::{
    audit::{Facts, Severity, findings},
    config::{CircuitKind, LinkRole, PeeringKind},
    import::{Customer, Options, propose},
};

#[test]
fn h6_the_sample_set_proposes_a_configuration_that_is_accepted_with_what_azure_says() {
    let proposal = proposed(SAMPLES).unwrap();
    println!("{}", proposal.toml);
    let config = parsed(&proposal.toml);
    assert_eq!(config.asn.0, 3333);
    let [ams, dub] = config.circuits.as_slice() else { panic!("{:?}", config.circuits) };
    assert_eq!((ams.name.as_str(), ams.bandwidth.to_string()), ("contoso-ams", "1G".to_owned()));
    assert_eq!((ams.kind, ams.sku.as_str(), ams.s_vlan), (Some(CircuitKind::Provider), "premium", None));
    assert_eq!(ams.inventory.locations, ["Amsterdam"]);
    let private = ams.private.as_ref().unwrap();
    assert_eq!(private.ipv6.unwrap().secondary.theirs.to_string(), "fd00:a:0:1::6");
    assert_eq!(private.vlan.unwrap().as_u16(), 100);
    assert_eq!(ams.inventory.public_prefixes[0].prefix.to_string(), "203.0.113.0/25");
    assert_eq!((dub.name.as_str(), dub.bandwidth.to_string()), ("contoso-dub", "2G".to_owned()));
    assert_eq!((dub.kind, dub.s_vlan.unwrap().as_u16()), (Some(CircuitKind::Direct10G), 7));
    assert_eq!(dub.inventory.port.as_deref(), Some("dublin-pair"));
    assert_eq!(dub.inventory.locations, ["Dublin"]);
    let names: Vec<String> = config.attachments.iter().map(|it| it.interface.clone()).collect();
    assert_eq!(names, ["ce0", "dmz0"]);
    for placeholder in ["msee1", "msee4", "ce0", "service-key", "md5-file", "route-filter", "west-europe"] {
        let is_named = proposal.notes.iter().any(|note| note.contains(placeholder));
        assert!(is_named && proposal.toml.contains(&format!("# - {}", proposal.notes[0])), "{placeholder}");
    }
}

#[test]
fn the_order_of_the_files_changes_only_the_order_of_the_circuits() {
    let mut files = SAMPLES;
    files.reverse();
    let config = parsed(&proposed(files).unwrap().toml);
    let mut names: Vec<&str> = config.circuits.iter().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["contoso-ams", "contoso-dub"]);
    let dub = config.circuits.iter().find(|it| it.name == "contoso-dub").unwrap();
    assert!(dub.kind == Some(CircuitKind::Direct10G) && dub.private.is_some());
}

#[test]
fn options_name_what_azure_cannot_know_and_leave_no_placeholder() {
    let links = ["contoso-ams", "contoso-dub"].iter().enumerate().flat_map(|(at, circuit)| {
        LinkRole::ALL.map(|role| ((*circuit).to_owned(), role, format!("eth{at}{}", role.as_str())))
    });
    let customer = |kind, interface: &str, address: &str| Customer {
        kind,
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
    };
    let mut options = Options {
        interfaces: links.collect(),
        customers: vec![
            customer(PeeringKind::Private, "lan0", "10.254.0.1/30"),
            customer(PeeringKind::Microsoft, "wan0", "2001:db8::1/64"),
        ],
    };
    let proposal = propose(&samples(), &options).unwrap();
    let config = parsed(&proposal.toml);
    assert_eq!(config.attachments[0].name(), "lan0");
    assert_eq!(config.attachments[1].addresses[0].to_string(), "2001:db8::1/64");
    assert!(!proposal.notes.iter().any(|note| note.contains("stands for")), "{:?}", proposal.notes);
    options.interfaces[0].0 = "elsewhere".to_owned();
    let error = propose(&samples(), &options).unwrap_err().to_string();
    assert!(error.contains("elsewhere") && error.contains("contoso-dub"), "{error}");
}

#[test]
fn an_audit_of_what_a_faulty_set_proposes_finds_the_planted_faults() {
    let config = parsed(&proposed(FAULTY).unwrap().toml);
    let found = findings(&Facts::of(&config));
    for planted in [
        "H4.validation-needed",
        "H4.not-configured",
        "A3.not-sold",
        "A5.local-metered",
        "A8.not-provisioned",
        "E1.private-on-microsoft",
        "E2.example-addresses",
        "H2.oversubscribed",
    ] {
        assert!(found.iter().any(|it| it.check == planted), "{planted} is not in {found:#?}");
    }
    let good = parsed(&proposed(SAMPLES).unwrap().toml);
    let mut found = findings(&Facts::of(&good));
    // The customer's routers are the operator's to write, and the samples have addresses for documentation on Microsoft peering.
    let expected = ["H7.nothing-to-advertise", "D4.private-subnet"];
    found.retain(|it| it.severity != Severity::Note && !expected.contains(&it.check));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_lacking_for_a_proposal_is_said() {
    let error = |files: &[(&'static str, &'static str)], from: &str, to: &str| {
        let files: Vec<(&str, String)> =
            files.iter().map(|(name, text)| (*name, text.replace(from, to))).collect();
        proposed(files.iter().map(|(name, text)| (*name, text.as_str()))).unwrap_err().to_string()
    };
    let circuit = &SAMPLES[..1];
    for (files, from, to, said) in [
        (&SAMPLES[4..5], "", "", "no file is a circuit; give what `az network express-route show`"),
        (&SAMPLES[1..2], "", "", "no peering has a peerASN"),
        (&SAMPLES[0..3], "300", "300", ""),
        (circuit, "\"bandwidthInMbps\": 1000,", "", "contoso-ams: neither bandwidthInMbps"),
        (circuit, "\"state\": \"Enabled\"", "\"state\": \"Disabled\"", "no peering has a peerASN"),
        (circuit, "\"peerASN\": 3333", "\"peerASN\": 64500", "make no configuration: asn: 64500"),
        (circuit, "198.51.100.4/30", "198.51.100.0/30", "make no configuration"),
        (circuit, "10.255.0.0/30", "10.255.0.0/24", "make no configuration"),
    ] {
        if !said.is_empty() {
            let error = error(files, from, to);
            assert!(error.contains(said), "{said}: {error}");
        }
    }
    let both = [SAMPLES[0], ("again.json", SAMPLES[0].1)];
    assert!(
        viewed(both).unwrap_err().to_string().contains("circuits named contoso-ams; give each circuit once")
    );
    let two = proposed([SAMPLES[0], SAMPLES[1], SAMPLES[2], FAULTY[0]]).unwrap_err().to_string();
    assert!(two.contains("3333 and 65010"), "{two}");
}

#[test]
fn a_name_that_no_name_here_can_be_is_changed_and_said_and_a_missing_one_is_made() {
    let text = SAMPLES[0].1.replace("\"name\": \"contoso-ams\"", "\"name\": \"con toso\\u001b[2J\\n[x]\"");
    let proposal = proposed([("circuit.json", text.as_str())]).unwrap();
    let config = parsed(&proposal.toml);
    assert!(config.circuits[0].name.starts_with("con-toso"), "{}", config.circuits[0].name);
    assert!(proposal.notes.iter().any(|note| note.contains("Azure calls it")), "{:?}", proposal.notes);
    assert!(!proposal.toml.contains('\u{1b}') && !proposal.toml.contains("\n[x]"), "{}", proposal.toml);
    let nameless = SAMPLES[0].1.replace("\"name\": \"contoso-ams\",", "").replace("\"id\"", "\"other\"");
    let proposal = proposed([("circuit.json", nameless.as_str())]).unwrap();
    assert_eq!(parsed(&proposal.toml).circuits[0].name, "circuit-1");
    assert!(
        proposal.notes.iter().any(|note| note.contains("the answer has no name")),
        "{:?}",
        proposal.notes
    );
}

#[test]
fn placeholders_stand_in_no_subnet_of_azures() {
    let text =
        SAMPLES[0].1.replace("198.51.100.0/30", "192.0.2.0/30").replace("198.51.100.4/30", "192.0.2.4/30");
    let config = parsed(&proposed([("circuit.json", text.as_str())]).unwrap().toml);
    assert_eq!(config.attachments[0].addresses[0].to_string(), "192.0.2.9/30");
    assert_eq!(config.attachments[1].addresses[0].to_string(), "192.0.2.13/30");
}
