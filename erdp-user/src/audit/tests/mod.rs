//! The table of rules against golden cases: every check has a broken configuration (or answer of the router) and a good one, and what is broken is
//! found and nothing else.
//!
//! [`GOOD`] breaks nothing. [`broken`] are small edits of it, [`live`] are edits of a good router's answers, [`azure`] of Azure's; each row names exactly the checks
//! that it breaks.

mod azure;
mod broken;
mod files;
mod live;
mod table;

use std::{path::Path, sync::LazyLock};

use super::{Facts, Finding, findings};
use crate::config::Config;

/// Two circuits in two locations on two boxes, with everything in the inventory.
pub(super) static GOOD: LazyLock<String> = LazyLock::new(|| format!("{ROUTER}{}", BOXES.concat()));

/// [`GOOD`] without the attachments to the other box.
const ROUTER: &str = r#"asn = 3333
metrics = "127.0.0.1:9179"

[[circuit]]
name = "contoso"
kind = "provider"
bandwidth = "1G"
sku = "premium"
burst = "dual-link"
primary = { local = "msee1" }
secondary = { box = "edge-b" }
[circuit.private]
ipv4 = "10.255.0.0/29"
vlan = 100
bfd = {}
md5 = "hunter2"
[circuit.microsoft]
ipv4 = ["131.107.0.0/30", "131.107.0.4/30"]
vlan = 200
bfd = {}
md5 = "hunter2"
route-filter = ["West Europe"]
[circuit.inventory]
location = "Amsterdam"
geopolitical-region = "Europe"
billing = "metered"
price-per-gb = "0.025 EUR"
private-created = "2022-05-01"
microsoft-created = "2022-05-02"
service-key = "0f8fad5b-d9cb-469f-a165-70867728950e"
subscriptions = ["production"]
vnets = [{ name = "hub", prefixes = ["10.1.0.0/16"], region = "West Europe", gateway-sku = "ErGw3AZ", gateway-subnet = "10.1.255.0/27" }]
public-prefixes = [{ prefix = "131.107.8.0/24", validation = "configured" }]

[[circuit]]
name = "fabrikam"
kind = "direct-10g"
bandwidth = "2G"
burst = "headroom-20"
primary = { local = "msee3" }
secondary = { box = "edge-b" }
[circuit.private]
ipv4 = "10.255.0.8/29"
vlan = 300
bfd = {}
md5 = "hunter2"
[circuit.inventory]
port = "dublin-pair"
location = "Dublin"
geopolitical-region = "Europe"
billing = "unlimited"
private-created = "2024-01-01"
service-key = "1f8fad5b-d9cb-469f-a165-70867728950f"
subscriptions = ["production"]
vnets = [{ name = "spoke", prefixes = ["10.2.0.0/16"], region = "North Europe", gateway-sku = "ErGw3AZ" }]

[[attachment]]
interface = "ce0"
peerings = ["contoso/private", "fabrikam/private"]
ipv4 = "10.254.0.1/30"
peers = [{ address = "10.254.0.2", asn = 65020 }]
[[attachment]]
interface = "dmz0"
peerings = ["contoso/microsoft"]
ipv4 = "10.254.0.5/30"
peers = [{ address = "10.254.0.6", asn = 65021 }]
[[attachment]]
interface = "vpn0"
service = "vpn"
peerings = ["contoso/private"]
ipv4 = "10.254.0.9/30"
encrypted-only = ["10.9.0.0/16"]
peers = [{ address = "10.254.0.10", asn = 65515 }]
"#;

/// The attachments to the other box, for `contoso`'s peerings and `fabrikam`'s.
pub(super) const BOXES: [&str; 3] = [
    r#"[[attachment]]
interface = "box0"
box = "edge-b"
vlan = 1
peerings = ["contoso/private"]
ipv4 = "10.254.0.13/30"
peers = [{ address = "10.254.0.14", asn = 3333 }]
"#,
    r#"[[attachment]]
interface = "box0"
box = "edge-b"
vlan = 2
peerings = ["contoso/microsoft"]
ipv4 = "10.254.0.17/30"
peers = [{ address = "10.254.0.18", asn = 3333 }]
"#,
    r#"[[attachment]]
interface = "box0"
box = "edge-b"
vlan = 3
peerings = ["fabrikam/private"]
ipv4 = "10.254.0.21/30"
peers = [{ address = "10.254.0.22", asn = 3333 }]
"#,
];

/// A configuration that is not refused.
fn parsed(text: &str) -> Config {
    match Config::parse(text, Path::new("audit.toml")) {
        Ok((config, _)) => config,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// The findings about a configuration alone.
fn about(text: &str) -> Vec<Finding> {
    findings(&Facts::of(&parsed(text)))
}

/// The names of the checks that are broken, in alphabetical order, each once.
fn names(findings: &[Finding]) -> Vec<&'static str> {
    let mut names: Vec<&str> = findings.iter().map(|it| it.check).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A text with edits; each must be one of its places.
fn edited(text: &str, edits: &[(&str, &str)]) -> String {
    edits.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in the configuration");
        text.replacen(from, to, 1)
    })
}
