//! Azure's answers beside a configuration: a good set breaks nothing, each edit of it exactly what its row says.

use super::{GOOD, names, parsed};
use crate::{
    audit::{Facts, Finding, Report, findings, junit},
    import::{Seen, View, read},
};

/// `contoso` of the good configuration as Azure shows it, and the index of its gateway.
const CIRCUIT: &str = r#"{"name": "contoso", "circuitProvisioningState": "Enabled", "serviceProviderProvisioningState": "Provisioned",
    "sku": {"tier": "Premium", "family": "MeteredData"}, "serviceProviderProperties": {"bandwidthInMbps": 1000, "peeringLocation": "Amsterdam"},
    "serviceKey": "0f8fad5b-d9cb-469f-a165-70867728950e", "peerings": [
    {"peeringType": "AzurePrivatePeering", "peerASN": 3333, "azureASN": 12076, "vlanId": 100, "primaryPeerAddressPrefix": "10.255.0.0/30",
     "secondaryPeerAddressPrefix": "10.255.0.4/30", "sharedKey": "hunter2"},
    {"peeringType": "MicrosoftPeering", "peerASN": 3333, "vlanId": 200, "primaryPeerAddressPrefix": "131.107.0.0/30",
     "secondaryPeerAddressPrefix": "131.107.0.4/30",
     "microsoftPeeringConfig": {"advertisedPublicPrefixes": ["131.107.8.0/24"], "advertisedPublicPrefixesState": "Configured"}}]}"#;
const RESILIENCY: &str = r#"{"overallScore": "100", "components": []}"#;

/// A file, what is edited in it, and the check that the edit breaks.
const ROWS: &[(&str, &str, &str)] = &[
    ("\"vlanId\": 100", "\"vlanId\": 101", "H6.drift"),
    ("\"bandwidthInMbps\": 1000", "\"bandwidthInMbps\": 500", "H6.drift"),
    ("\"overallScore\": \"100\"", "\"overallScore\": \"60\"", "H3.azure-recommends"),
];

fn view(from: &str, to: &str) -> View {
    let mut seen = Seen::default();
    for text in [CIRCUIT, RESILIENCY] {
        read("file.json", text.replace(from, to).as_bytes(), None, &mut seen).unwrap();
    }
    View::of(seen).unwrap()
}

fn about(from: &str, to: &str) -> Vec<Finding> {
    let (config, view) = (parsed(&GOOD), view(from, to));
    findings(&Facts { azure: Some(&view), ..Facts::of(&config) })
}

#[test]
fn h6_the_answers_of_azure_that_agree_break_nothing_and_each_edit_is_one_finding() {
    let found = about("", "");
    assert!(found.is_empty(), "{found:#?}");
    for (from, to, expected) in ROWS {
        let found = about(from, to);
        assert_eq!(names(&found), [*expected], "{found:#?}");
        assert_eq!(found.len(), 1, "{found:#?}");
    }
    let sentence = about("\"vlanId\": 100", "\"vlanId\": 101").remove(0).sentence;
    assert_eq!(sentence, "Azure has another value than the configuration: vlan: Azure 101, here 100");
}

#[test]
fn what_only_azure_shows_is_skipped_where_its_answers_were_not_given() {
    let (config, view) = (parsed(&GOOD), view("", ""));
    let skipped = |facts: &Facts<'_>| {
        junit::text(&Report::of(facts, "audit.toml", &GOOD)).unwrap().matches("<skipped ").count()
    };
    let alone = Facts::of(&config);
    assert_eq!(skipped(&alone), skipped(&Facts { azure: Some(&view), ..alone }) + 2);
}

/// The checks that rows above break.
pub(super) fn covered() -> Vec<&'static str> {
    ROWS.iter().map(|(_, _, expected)| *expected).collect()
}
