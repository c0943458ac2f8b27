//! Policers and QoS profiles of the circuits: identifiers, names and records (rules A1, A2, F).
//!
//! Each circuit has four policers: inbound and outbound of its two links. Under `peak-2x` both links of a direction share the
//! primary's, so that the circuit is one bucket however its flows are spread.

use erdp_common::{
    abi::{MAX_ATTACHMENTS, Policer, QosProfile},
    budget,
    policer::{BurstPolicy, RateError, Rates},
};

use crate::{
    config::{Attachment, Circuit, Config, LinkRole, PeeringKind, Side},
    dataplane::Record,
};

/// What of a circuit's policing an attachment has; zeros on the customer's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Policer of what comes in.
    pub inbound: u16,
    /// Policer of what leaves.
    pub outbound: u16,
    /// QoS profile.
    pub profile: u16,
}

/// Towards Microsoft, or from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From Microsoft.
    Inbound = 0,
    /// Towards Microsoft.
    Outbound = 1,
}

impl Direction {
    /// As a metric's label.
    pub fn as_label(self) -> &'static str {
        match self {
            Direction::Inbound => "from-microsoft",
            Direction::Outbound => "to-microsoft",
        }
    }
}

/// A policer that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicerOf {
    /// Its identifier.
    pub id: u16,
    /// Index of the circuit in [`Config::circuits`].
    pub circuit: usize,
    /// `both`, or the one link that it limits.
    pub links: &'static str,
    /// What it limits.
    pub direction: Direction,
}

/// The policers that the circuits use: by circuit, link and direction, outbound first.
pub fn policers_of(config: &Config) -> Vec<PolicerOf> {
    let mut list = Vec::new();
    for (circuit, it) in config.circuits.iter().enumerate() {
        for role in LinkRole::ALL {
            if role == LinkRole::Secondary && shares(it.burst) {
                continue;
            }
            let links = if shares(it.burst) { "both" } else { role.as_str() };
            let each = [Direction::Outbound, Direction::Inbound];
            list.extend(each.map(|direction| PolicerOf {
                id: id(circuit, role, direction, it.burst),
                circuit,
                links,
                direction,
            }));
        }
    }
    list
}

const PRIVATE: u16 = 1;
const MICROSOFT: u16 = 2;
const MICROSOFT_BY_PORTS: u16 = 3;
const PRIVATE_BY_PORTS: u16 = 4;
/// Preamble and start (8), Ethernet header (14), FCS (4), gap (12): what a packet takes on the wire beside itself.
const WIRE_OVERHEAD: u32 = 38;

fn id(circuit: usize, role: LinkRole, direction: Direction, policy: BurstPolicy) -> u16 {
    let link = u16::from(role == LinkRole::Secondary && !shares(policy));
    1 + 4 * circuit as u16 + 2 * link + direction as u16
}

/// The record of a policer; `None`: no rate can be made of the circuit's bandwidth, and nothing is policed.
pub fn policer(config: &Config, of: &PolicerOf) -> Option<Policer> {
    let [policer, ..] = policers(of.circuit, config.circuits.get(of.circuit)?).ok()?;
    match policer {
        Record::Policer(_, record) => Some(record),
        _ => None,
    }
}

/// The profile of a number, as it is written.
pub fn profile(id: u16) -> Option<QosProfile> {
    match id {
        PRIVATE => Some(QosProfile::private()),
        MICROSOFT => Some(QosProfile::microsoft(false)),
        MICROSOFT_BY_PORTS => Some(QosProfile::microsoft(true)),
        PRIVATE_BY_PORTS => Some(QosProfile::private_by_ports()),
        _ => None,
    }
}

/// The limits of an attachment.
pub fn of(config: &Config, attachment: &Attachment) -> Limits {
    let domains = config.domains();
    let domain = attachment.domains.first().and_then(|domain| domains.get(usize::from(domain.0)));
    let (Side::Msee(role), Some(domain)) = (attachment.side, domain) else {
        return Limits::default();
    };
    let Some(circuit) = config.circuits.get(domain.circuit) else {
        return Limits::default();
    };
    let by_ports = circuit.peering(domain.kind).is_some_and(|peering| peering.classify_ports);
    Limits {
        inbound: id(domain.circuit, role, Direction::Inbound, circuit.burst),
        outbound: id(domain.circuit, role, Direction::Outbound, circuit.burst),
        profile: match (domain.kind, by_ports) {
            (PeeringKind::Private, false) => PRIVATE,
            (PeeringKind::Private, true) => PRIVATE_BY_PORTS,
            (PeeringKind::Microsoft, false) => MICROSOFT,
            (PeeringKind::Microsoft, true) => MICROSOFT_BY_PORTS,
        },
    }
}

/// The records of all circuits; the buckets begin at `now`.
pub fn records(config: &Config, now: u64) -> Vec<Record> {
    let profiles = [PRIVATE, MICROSOFT, MICROSOFT_BY_PORTS, PRIVATE_BY_PORTS].into_iter();
    let mut records: Vec<Record> =
        profiles.filter_map(|id| Some(Record::Profile(id, profile(id)?))).collect();
    for attachment in 0..MAX_ATTACHMENTS as u16 {
        let budget = |kind| Record::Budget(kind, attachment, budget::default_of(kind));
        records.extend((0..budget::KINDS).map(budget));
    }
    for (index, circuit) in config.circuits.iter().enumerate() {
        match policers(index, circuit) {
            Ok(policers) => records.extend(buckets(index, now).into_iter().chain(policers)),
            Err(error) => tracing::warn!(circuit = circuit.name, %error, "not policed"),
        }
    }
    records
}

/// The records that turn a circuit into what it is to be. The buckets are kept: a theoretical arrival time is as right at the new
/// rate as at the old one. Only where one bucket for both links becomes one for each, or the other way round, they begin at `now`:
/// they then mean something else, and a debt of a second's credit would shut a link that has a few milliseconds.
pub fn change(index: usize, from: &Circuit, to: &Circuit, now: u64) -> Result<Vec<Record>, RateError> {
    let mut records =
        if shares(from.burst) == shares(to.burst) { Vec::new() } else { buckets(index, now).to_vec() };
    records.extend(policers(index, to)?);
    Ok(records)
}

/// Whether both links of a direction have one bucket.
fn shares(policy: BurstPolicy) -> bool {
    policy == BurstPolicy::Peak2x
}

fn ids(circuit: usize) -> [u16; 4] {
    [1, 2, 3, 4].map(|at| 4 * circuit as u16 + at)
}

fn buckets(index: usize, now: u64) -> [Record; 4] {
    ids(index).map(|id| Record::Bucket(id, [now; 4]))
}

fn policers(index: usize, circuit: &Circuit) -> Result<[Record; 4], RateError> {
    let rates = Rates {
        credit_ms: circuit.credit_ms,
        overhead: overhead(circuit),
        ecn: circuit.ecn,
        ..Rates::new(circuit.bandwidth.0, circuit.burst)
    };
    let policer = rates.policer()?;
    Ok(ids(index).map(|id| Record::Policer(id, policer)))
}

/// A tag is four bytes.
pub fn overhead(circuit: &Circuit) -> u32 {
    let tagged = PeeringKind::ALL
        .iter()
        .filter_map(|kind| circuit.peering(*kind))
        .any(|peering| peering.vlan.is_some());
    let tags = u32::from(circuit.s_vlan.is_some()) + u32::from(tagged);
    if circuit.counts_wire_bytes { WIRE_OVERHEAD + 4 * tags } else { 0 }
}

#[cfg(test)]
mod wiring;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "a"
bandwidth = "1G"
primary = { local = "eth1" }
secondary = { local = "eth2" }
[circuit.private]
ipv4 = "198.18.0.0/29"
[[attachment]]
interface = "eth0"
peerings = ["a/private"]
ipv4 = "198.18.10.1/30"
"#;

    fn profiles(config: &str) -> Vec<u16> {
        let config = Config::parse(config, Path::new("erdp.toml")).expect("a configuration").0;
        config.attachments().iter().map(|attachment| of(&config, attachment).profile).collect()
    }

    #[test]
    fn f_classify_ports_is_done_on_private_peering_too() {
        let by_ports = CONFIG.replace("/29\"\n", "/29\"\nclassify-ports = true\n");
        let without = profiles(CONFIG);
        assert!(without.contains(&PRIVATE) && !without.contains(&PRIVATE_BY_PORTS), "{without:?}");
        let with = profiles(&by_ports);
        assert!(with.contains(&PRIVATE_BY_PORTS) && !with.contains(&PRIVATE), "{with:?}");
        let config = Config::parse(&by_ports, Path::new("erdp.toml")).expect("a configuration").0;
        let written = records(&config, 0).into_iter().find_map(|record| match record {
            Record::Profile(PRIVATE_BY_PORTS, profile) => Some(profile),
            _ => None,
        });
        assert_eq!(written, Some(QosProfile::private_by_ports()));
    }
}
