//! Answers of Azure's command line, of the project's own making after Microsoft's reference (`samples/`), and what becomes of them: a proposal that is
//! accepted and in which an audit finds the planted faults, a comparison in which each planted difference is one line, and hostile files.
//!
//! Files: [`proposal`], [`comparison`], [`hostile`]; [`export`] writes a configuration in Azure's own shape.

mod comparison;
mod export;
mod hostile;
mod proposal;

use std::{collections::BTreeMap, path::Path};

use super::{ImportError, Options, Ours, Place, Proposal, Seen, View, ours::Live, propose, read};
use crate::config::Config;

/// A file of the good set, and what is known of it beside its content.
type Sample = (&'static str, &'static str);

/// One of each kind: a provider's circuit, a Direct circuit with its peerings apart, its port, and everything that the MSEEs show of one peering.
const SAMPLES: [Sample; 14] = [
    ("circuit.json", include_str!("../samples/circuit.json")),
    ("direct.json", include_str!("../samples/direct.json")),
    ("direct-peerings.json", include_str!("../samples/direct-peerings.json")),
    ("port.json", include_str!("../samples/port.json")),
    ("routes-primary.json", include_str!("../samples/routes-primary.json")),
    ("routes-secondary.json", include_str!("../samples/routes-secondary.json")),
    ("summary-primary.json", include_str!("../samples/summary-primary.json")),
    ("summary-secondary.json", include_str!("../samples/summary-secondary.json")),
    ("arp-primary.json", include_str!("../samples/arp-primary.json")),
    ("arp-secondary.json", include_str!("../samples/arp-secondary.json")),
    ("contoso-ams/private=stats.json", include_str!("../samples/stats.json")),
    ("contoso-ams=failover-test.json", include_str!("../samples/failover-test.json")),
    ("resiliency.json", include_str!("../samples/resiliency.json")),
    // The same circuits in another file are what `peering list` prints: what is there twice is read once.
    ("contoso-dub=direct-peerings.json", include_str!("../samples/direct-peerings.json")),
];

/// A circuit and two Direct circuits with faults.
const FAULTY: [Sample; 3] = [
    ("faulty/circuit.json", include_str!("../samples/faulty/circuit.json")),
    ("faulty/directs.json", include_str!("../samples/faulty/directs.json")),
    ("faulty/port.json", include_str!("../samples/faulty/port.json")),
];

/// Reads one file as the command does: with the place before its name.
fn add(name: &str, text: &[u8], seen: &mut Seen) -> Result<(), ImportError> {
    let (place, file) = match name.split_once('=') {
        Some((place, file)) => (Some(place.parse::<Place>().unwrap()), file),
        None => (None, name),
    };
    read(file, text, place, seen)
}

fn viewed<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<View, ImportError> {
    let mut seen = Seen::default();
    for (name, text) in files {
        add(name, text.as_bytes(), &mut seen)?;
    }
    View::of(seen)
}

fn samples() -> View {
    viewed(SAMPLES).unwrap()
}

/// The samples with an edit in one of them.
fn edited(file: &str, from: &str, to: &str) -> Result<View, ImportError> {
    let mut files: BTreeMap<usize, (&str, String)> =
        SAMPLES.iter().enumerate().map(|(at, (name, text))| (at, (*name, (*text).to_owned()))).collect();
    let (_, text) = files.values_mut().find(|(name, _)| *name == file).unwrap();
    assert!(text.contains(from), "{from:?} is not in {file}");
    *text = text.replacen(from, to, 1);
    viewed(files.values().map(|(name, text)| (*name, text.as_str())))
}

fn proposed<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Proposal, ImportError> {
    propose(&viewed(files)?, &Options::default())
}

fn parsed(text: &str) -> Config {
    match Config::parse(text, Path::new("proposal.toml")) {
        Ok((config, _)) => config,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// The configuration that the samples propose, with what they leave out and the samples' MSEEs show.
fn ours() -> Ours {
    let proposal = proposed(SAMPLES).unwrap();
    // The key is in a file of its own, so that it is not in the text.
    let text = proposal.toml.replacen("vlan = 100\n", "vlan = 100\nmd5 = \"sample-shared-key-1\"\n", 1);
    Ours::of(&parsed(&text))
}

/// What a router with that configuration answers.
fn live() -> Live {
    let advertised = ["10.20.0.0/16", "10.21.4.0/22"].map(|it| it.parse().unwrap());
    let mut live = Live::of(
        &serde_json::json!([
            {"peer": "10.255.0.2", "side": "msee", "state": "Established", "mac": "0a:00:00:00:01:01"},
            {"peer": "10.255.0.6", "side": "msee", "state": "Established", "mac": "0a:00:00:00:01:02"},
            {"peer": "192.0.2.2", "side": "ce", "state": "Established", "mac": null},
        ]),
        &serde_json::json!([
            {"link": "contoso-ams primary", "mac": "0a:00:00:00:00:01"},
            {"link": "contoso-ams secondary", "mac": "0a:00:00:00:00:02"},
            {"link": "contoso-dub primary", "mac": null},
        ]),
    )
    .unwrap();
    assert_eq!(live.sessions.len(), 2);
    for session in live.sessions.values_mut() {
        session.advertised = advertised.into_iter().collect();
        session.received = ["10.1.0.0/16".parse().unwrap()].into_iter().collect();
    }
    live
}
