//! Comparisons: none without a difference, one line for each planted one, and what cannot be compared is named.

use super::{SAMPLES, edited, export::export, live, ours, parsed, proposed, samples, viewed};
use crate::{
    config::shown,
    import::{Ours, Report, compare},
};

/// Our side with the running router's answers.
fn running() -> Ours {
    ours().with(live())
}

fn lines(report: &Report) -> Vec<String> {
    report.drift.iter().map(|it| format!("{}: {}", it.place, it.field)).collect()
}

#[test]
fn the_samples_agree_with_the_configuration_that_they_propose_and_its_router() {
    for ours in [ours(), running()] {
        let report = compare(&samples(), &ours);
        assert!(report.drift.is_empty(), "{}", report.text());
        assert!(report.text().ends_with("no drift\n"));
        let is_noted = |text: &str| report.notes.iter().any(|note| note.contains(text));
        assert!(is_noted("Azure's index of its resiliency is 80 of 100; Azure recommends: Use two"));
    }
}

#[test]
fn h6_each_planted_difference_is_one_line_and_nothing_else() {
    let circuit = "circuit.json";
    let rows = [
        (circuit, "\"bandwidthInMbps\": 1000", "\"bandwidthInMbps\": 2000", "contoso-ams: bandwidth"),
        (circuit, "\"tier\": \"Premium\"", "\"tier\": \"Standard\"", "contoso-ams: sku"),
        (circuit, "\"MeteredData\"", "\"UnlimitedData\"", "contoso-ams: billing"),
        (
            circuit,
            "\"circuitProvisioningState\": \"Enabled\"",
            "\"circuitProvisioningState\": \"Disabled\"",
            "contoso-ams: admin",
        ),
        (circuit, "\"Provisioned\"", "\"Deprovisioning\"", "contoso-ams: provisioning"),
        (circuit, "\"Amsterdam\"", "\"Amsterdam2\"", "contoso-ams: location"),
        (circuit, "\"peerASN\": 3333", "\"peerASN\": 65011", "contoso-ams/private: asn"),
        (circuit, "\"azureASN\": 12076", "\"azureASN\": 12077", "contoso-ams/private: peer-asn"),
        (circuit, "\"vlanId\": 100", "\"vlanId\": 101", "contoso-ams/private: vlan"),
        (circuit, "10.255.0.0/30", "10.255.1.0/30", "contoso-ams/private: ipv4 primary"),
        (circuit, "10.255.0.4/30", "10.255.1.4/30", "contoso-ams/private: ipv4 secondary"),
        (circuit, "fd00:a:0:1::4/126", "fd00:a:0:1::8/126", "contoso-ams/private: ipv6 secondary"),
        (
            circuit,
            "[\"203.0.113.0/25\"]",
            "[\"203.0.113.0/25\", \"192.0.2.0/24\"]",
            "contoso-ams/microsoft: public prefix 192.0.2.0/24",
        ),
        (circuit, "[\"203.0.113.0/25\"]", "[]", "contoso-ams/microsoft: public prefix 203.0.113.0/25"),
        (
            circuit,
            "\"Configured\"",
            "\"ValidationNeeded\"",
            "contoso-ams/microsoft: validation of 203.0.113.0/25",
        ),
        (
            circuit,
            "\"MicrosoftPeering\",\n      \"peerASN\": 3333,\n      \"peeringType\": \"MicrosoftPeering\"",
            "\"x\",\n \"peerASN\": 3333, \"peeringType\": \"AzurePublicPeering\"",
            "contoso-ams/microsoft: peering",
        ),
        ("direct.json", "\"bandwidthInGbps\": 2.0", "\"bandwidthInGbps\": 5", "contoso-dub: bandwidth"),
        ("direct.json", "\"stag\": 7", "\"stag\": 8", "contoso-dub: s-vlan"),
        ("port.json", "\"bandwidthInGbps\": 10", "\"bandwidthInGbps\": 100", "contoso-dub: kind"),
        ("port.json", "\"QinQ\"", "\"Dot1Q\"", "contoso-dub: s-vlan"),
        (
            "routes-primary.json",
            "\"10.255.0.1\", \"path\": \"3333 65020\"",
            "\"10.255.0.1\", \"path\": \"65099 65020\"",
            "contoso-ams/private primary: first AS of routes",
        ),
        (
            "summary-primary.json",
            "\"as\": 3333",
            "\"as\": 65012",
            "contoso-ams/private primary: AS of the neighbour",
        ),
        (
            "summary-secondary.json",
            "\"statePfxRcd\": \"2\"",
            "\"statePfxRcd\": \"Active\"",
            "contoso-ams/private secondary: session",
        ),
        ("arp-primary.json", "0a00.0000.0001", "Incomplete", "contoso-ams/private primary: our MAC address"),
        (
            "arp-secondary.json",
            "\"10.255.0.6\"",
            "\"10.255.0.7\"",
            "contoso-ams/private secondary: the MSEE's address in ARP",
        ),
    ];
    for (file, from, to, line) in rows {
        for ours in [ours(), running()] {
            let report = compare(&edited(file, from, to).unwrap(), &ours);
            assert_eq!(lines(&report), [line], "{from} -> {to}\n{}", report.text());
        }
    }
}

#[test]
fn what_only_the_running_router_knows_is_compared_with_it() {
    let rows = [
        (
            "routes-primary.json",
            "{ \"locPrf\": \"\", \"network\": \"10.21.4.0/22\"",
            "{ \"locPrf\": \"\", \"network\": \"10.20.0.0/16\"",
            "contoso-ams/private primary: route 10.21.4.0/22",
        ),
        (
            "routes-secondary.json",
            "\"value\": [",
            "\"value\": [{\"network\": \"10.99.0.0/16\", \"nextHop\": \"10.255.0.5\", \"path\": \"3333\"},",
            "contoso-ams/private secondary: route 10.99.0.0/16",
        ),
        (
            "routes-primary.json",
            "\"value\": [",
            "\"value\": [{\"network\": \"10.2.0.0/16\", \"nextHop\": \"10.1.255.12\", \"path\": \"65515\"},",
            "contoso-ams/private primary: route 10.2.0.0/16",
        ),
        (
            "routes-primary.json",
            "\"10.1.0.0/16\"",
            "\"10.20.0.0/16\"",
            "contoso-ams/private primary: route 10.1.0.0/16",
        ),
        (
            "summary-primary.json",
            "\"statePfxRcd\": \"2\"",
            "\"statePfxRcd\": \"1\"",
            "contoso-ams/private primary: prefixes from here",
        ),
        (
            "arp-primary.json",
            "0a00.0000.0001",
            "0a00.0000.0009",
            "contoso-ams/private primary: our MAC address",
        ),
        (
            "arp-secondary.json",
            "0a00.0000.0102",
            "0a00.0000.0109",
            "contoso-ams/private secondary: the MSEE's MAC address",
        ),
        (
            "contoso-ams=failover-test.json",
            "\"duringSimulation\": [] }",
            "\"duringSimulation\": [{ \"route\": \"10.21.4.0/22\" }] }",
            "contoso-ams: route 10.21.4.0/22",
        ),
    ];
    for (file, from, to, line) in rows {
        let view = edited(file, from, to).unwrap();
        let azures_own = from == "\"10.1.0.0/16\"";
        let (alone, with) = (compare(&view, &ours()), compare(&view, &running()));
        assert!(alone.drift.is_empty(), "{}", alone.text());
        // A route that becomes another one is missing, and the other one is there; both are said.
        let expected = if azures_own { 2 } else { 1 };
        assert!(
            with.drift.len() == expected && lines(&with).contains(&line.to_owned()),
            "{line}\n{}",
            with.text()
        );
    }
}

#[test]
fn one_difference_is_one_line_however_many_tables_show_it() {
    let toml = proposed(SAMPLES).unwrap().toml.replacen("vlan = 100\n", "vlan = 100\nmd5 = \"k\"\n", 1);
    for (from, to, line) in [
        ("10.255.0.4/30", "10.253.0.4/30", "contoso-ams/private: ipv4 secondary"),
        ("asn = 3333", "asn = 3334", "asn"),
    ] {
        assert!(toml.contains(from), "{toml}");
        let here = Ours::of(&parsed(&toml.replacen(from, to, 1)));
        let report = compare(&samples(), &here.with(live()));
        let found = lines(&report);
        // Each peering has the AS.
        assert!(
            found.iter().all(|it| it.ends_with(line)) && (1..=3).contains(&found.len()),
            "{}",
            report.text()
        );
    }
}

#[test]
fn a_circuit_or_peering_that_one_side_has_is_one_line() {
    let view = viewed([SAMPLES[0]]).unwrap();
    let only_dub = parsed(&proposed(SAMPLES[1..4].iter().copied()).unwrap().toml);
    let report = compare(&view, &Ours::of(&only_dub));
    assert_eq!(lines(&report), ["contoso-ams: circuit"], "{}", report.text());
    assert!(report.notes.iter().any(|note| note == "contoso-dub: no file is about this circuit"));
    let disabled = edited(
        "circuit.json",
        "\"state\": \"Enabled\",\n      \"vlanId\": 200",
        "\"state\": \"Disabled\", \"vlanId\": 200",
    );
    let report = compare(&disabled.unwrap(), &ours());
    assert_eq!((report.drift.len(), report.drift[0].azure.as_str()), (1, "disabled"), "{}", report.text());
}

#[test]
fn a_circuit_is_found_by_its_service_key_or_a_subnet_where_it_has_another_name_here() {
    let toml = proposed([SAMPLES[0]]).unwrap().toml;
    let renamed = toml.replace("contoso-ams", "ams");
    let report = compare(&viewed([SAMPLES[0]]).unwrap(), &Ours::of(&parsed(&renamed)));
    assert_eq!(lines(&report), ["ams/private: shared key"], "{}", report.text());
    let key = renamed.replacen(
        "[circuit.inventory]\n",
        "[circuit.inventory]\nservice-key = \"0f8fad5b-d9cb-469f-a165-70867728950e\"\n",
        1,
    );
    let moved = key.replace("10.255.0.", "10.253.0.").replace("fd00:a:0:1:", "fd00:b:0:1:");
    let report = compare(&viewed([SAMPLES[0]]).unwrap(), &Ours::of(&parsed(&moved)));
    assert_eq!(report.drift.len(), 5, "{}", report.text());
    assert!(report.drift.iter().all(|it| it.place == "ams/private"), "{}", report.text());
    assert!(report.drift.iter().all(|it| !it.azure.contains("0f8fad5b") && !it.here.contains("0f8fad5b")));
}

#[test]
fn h6_a_round_trip_of_our_own_view_shows_no_drift() {
    let config = parsed(&proposed(SAMPLES).unwrap().toml);
    let files = export(&config, &live());
    assert!(files.len() >= 2 + 1 + 6, "{files:?}");
    let view = viewed(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap();
    for ours in [Ours::of(&config), Ours::of(&config).with(live())] {
        let report = compare(&view, &ours);
        assert!(report.drift.is_empty(), "{}", report.text());
    }
    let toml = crate::import::propose(&view, &Default::default()).unwrap().toml;
    let again = parsed(&toml);
    assert_eq!(again.circuits.len(), config.circuits.len());
    assert_eq!(
        compare(&samples(), &Ours::of(&again)).drift.len(),
        1,
        "only the shared key, which no file here has"
    );
}

#[test]
fn the_running_routers_configuration_is_the_same_as_its_file() {
    let config = parsed(&proposed(SAMPLES).unwrap().toml);
    assert_eq!(Ours::shown(&shown::text(&config)).unwrap(), Ours::of(&config));
    let error = Ours::shown("nothing").unwrap_err().to_string();
    assert!(error.contains("erdp config show"), "{error}");
}

#[test]
fn behind_a_providers_router_azures_subnets_are_the_providers_and_not_compared() {
    let toml = proposed([SAMPLES[0]]).unwrap().toml;
    let toml =
        toml.replacen("vlan = 100\n", "vlan = 7\npeer-asn = 65030\n", 1).replace("10.255.0.", "10.253.0.");
    let report = compare(
        &viewed(SAMPLES[..1].iter().chain(&SAMPLES[4..10]).copied()).unwrap(),
        &Ours::of(&parsed(&toml)),
    );
    assert!(report.drift.is_empty(), "{}", report.text());
    assert!(
        report.notes.iter().any(|note| note.contains("a provider's router is between")),
        "{}",
        report.text()
    );
}

#[test]
fn what_azure_does_not_say_is_a_note_and_no_drift() {
    let view = edited("circuit.json", "\"peerASN\": 3333,", "").unwrap();
    let report = compare(&view, &ours());
    assert!(report.drift.is_empty(), "{}", report.text());
    assert!(
        report.notes.iter().any(|note| note.contains("contoso-ams/private: Azure's answer has no peerASN"))
    );
    let unknown = edited("circuit.json", "\"tier\": \"Premium\"", "\"tier\": \"Ultra\"").unwrap();
    let report = compare(&unknown, &ours());
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("sku.tier") || note.contains("tier that is known (\"Ultra\" is not)")),
        "{}",
        report.text()
    );
    let elsewhere = edited("routes-primary.json", "\"10.255.0.1\"", "\"192.0.2.1\"").unwrap();
    assert!(compare(&elsewhere, &ours()).drift.is_empty());
    let unplaced =
        viewed([SAMPLES[0], ("routes.json", "[{\"network\": \"10.0.0.0/8\", \"nextHop\": \"192.0.2.9\"}]")]);
    let report = compare(&unplaced.unwrap(), &ours());
    assert!(report.notes.iter().any(|note| note.contains("name it as CIRCUIT/PEERING/LINK=FILE")));
}

#[test]
fn json_has_a_version_and_the_fields_of_each_difference() {
    let view = edited("circuit.json", "\"vlanId\": 100", "\"vlanId\": 101").unwrap();
    let value: serde_json::Value = serde_json::from_str(&compare(&view, &ours()).json()).unwrap();
    assert_eq!(value["version"], 1);
    assert_eq!(value["drift"][0]["azure"], "101");
    assert_eq!(value["drift"][0]["here"], "100");
    assert_eq!(value["drift"][0]["place"], "contoso-ams/private");
}
