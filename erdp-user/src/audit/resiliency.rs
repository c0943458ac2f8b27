//! How resilient a circuit is (rule H3): Microsoft's three levels, and points of a hundred.
//!
//! The levels are Microsoft's. *Standard*: one peering location. *High*: a metro circuit, whose two links end in two locations of one metro.
//! *Maximum*: circuits in two peering locations reach the same networks. The points are ERDP's own, because Azure's index also weighs what only
//! Azure knows; [`WEIGHTS`] says what each thing is worth.

use serde::Serialize;

use super::facts::{Facts, PeeringOf};
use crate::{
    azure::gateways,
    config::{CeAttachment, Circuit, PeeringKind},
    rib::communities::plain,
};

/// Microsoft's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Level {
    /// One peering location.
    Standard,
    /// Two locations of one metro.
    High,
    /// Two circuits in two locations.
    Maximum,
}

impl Level {
    /// Microsoft's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Standard => "Standard",
            Level::High => "High",
            Level::Maximum => "Maximum",
        }
    }
}

/// Points for a second circuit elsewhere; a metro circuit alone has half of them.
const SECOND_LOCATION: u32 = 40;
const BOTH_LINKS: u32 = 20;
const TWO_BOXES: u32 = 15;
const BFD: u32 = 10;
const ZONAL_GATEWAYS: u32 = 10;
const LOCATION: u32 = 5;

/// What is worth how many points of the hundred.
pub const WEIGHTS: [(&str, u32); 6] = [
    (
        "a second circuit in another peering location for the same attachments (a metro circuit alone: half)",
        SECOND_LOCATION,
    ),
    ("both links carry traffic, where the running router is asked", BOTH_LINKS),
    ("the two links end on two edge boxes", TWO_BOXES),
    ("BFD on every peering", BFD),
    ("every linked virtual network has a zone-redundant gateway", ZONAL_GATEWAYS),
    ("the inventory names the peering location", LOCATION),
];

/// Points that a circuit lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// How many.
    pub points: u32,
    /// For what.
    pub why: String,
}

/// A circuit at the top of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CircuitHead {
    /// Its name.
    pub circuit: String,
    /// Whether Microsoft's SLA can hold: by the configuration alone where the router was not asked.
    pub sla_valid: bool,
    /// Why, or why not.
    pub why: String,
    /// Microsoft's level.
    pub level: Level,
    /// Of a hundred.
    pub points: u32,
    /// What is missing.
    pub lost: Vec<Lost>,
}

/// Every circuit, in the file's order.
pub fn heads(facts: &Facts<'_>) -> Vec<CircuitHead> {
    facts.config.circuits.iter().map(|circuit| head(facts, circuit)).collect()
}

fn head(facts: &Facts<'_>, circuit: &Circuit) -> CircuitHead {
    let (sla_valid, why) = sla(facts, circuit);
    let level = level(facts, circuit);
    let mut lost = Vec::new();
    let mut lose = |points: u32, why: String| lost.push(Lost { points, why });
    match level {
        Level::Standard => lose(
            SECOND_LOCATION,
            "no other circuit in another peering location serves the same attachments".into(),
        ),
        Level::High => {
            let why = "no other circuit outside this metro serves the same attachments";
            lose(SECOND_LOCATION / 2, why.into());
        }
        Level::Maximum => {}
    }
    let down = links_down(facts, circuit);
    if !down.is_empty() {
        lose(BOTH_LINKS, format!("not every link carries traffic: {}", down.join(", ")));
    }
    if circuit.is_on_one_box() {
        lose(TWO_BOXES, "both links end on this box (B1a)".into());
    }
    let without_bfd =
        PeeringKind::ALL.into_iter().filter(|kind| circuit.peering(*kind).is_some_and(|it| it.bfd.is_none()));
    let without_bfd: Vec<&str> = without_bfd.map(PeeringKind::as_str).collect();
    if !without_bfd.is_empty() {
        lose(BFD, format!("no BFD on {} peering (H1)", without_bfd.join(" and ")));
    }
    if let Some(why) = gateways_lack(circuit) {
        lose(ZONAL_GATEWAYS, why);
    }
    if circuit.inventory.locations.is_empty() {
        lose(LOCATION, "the inventory does not name the peering location".into());
    }
    let points = 100 - lost.iter().map(|it| it.points).sum::<u32>().min(100);
    CircuitHead { circuit: circuit.name.clone(), sla_valid, why, level, points, lost }
}

/// The running router's judgement, or what the configuration allows.
fn sla(facts: &Facts<'_>, circuit: &Circuit) -> (bool, String) {
    let row = facts.live.and_then(|live| live.circuits.iter().find(|row| row.circuit == circuit.name));
    match row {
        Some(row) => (row.sla_valid, row.why.clone()),
        None if !circuit.is_in_use() => (false, "the circuit is not in use (A8)".into()),
        None => (
            true,
            "two links are configured (B1); only the running router knows whether both carry traffic".into(),
        ),
    }
}

/// The level by the locations in the inventories; a circuit without one has Standard resiliency.
pub fn level(facts: &Facts<'_>, circuit: &Circuit) -> Level {
    let locations = |circuit: &Circuit| -> Vec<String> {
        circuit.inventory.locations.iter().map(|it| plain(it)).collect()
    };
    let own = locations(circuit);
    let is_elsewhere = |other: &Circuit| {
        let theirs = locations(other);
        !own.is_empty() && !theirs.is_empty() && !own.iter().any(|it| theirs.contains(it))
    };
    let mut others = facts
        .circuits()
        .filter(|other| other.name != circuit.name && share_an_attachment(facts, circuit, other));
    if circuit.is_in_use() && others.any(is_elsewhere) {
        return Level::Maximum;
    }
    if own.len() == 2 && own[0] != own[1] { Level::High } else { Level::Standard }
}

fn share_an_attachment(facts: &Facts<'_>, one: &Circuit, other: &Circuit) -> bool {
    let peerings: Vec<PeeringOf<'_>> = facts.peerings().collect();
    let reaches = |attachment: &CeAttachment, circuit: &Circuit| {
        peerings.iter().any(|it| it.circuit.name == circuit.name && it.is_used_by(attachment))
    };
    facts.customers().any(|attachment| reaches(attachment, one) && reaches(attachment, other))
}

fn links_down(facts: &Facts<'_>, circuit: &Circuit) -> Vec<String> {
    let start = format!("{} ", circuit.name);
    let rows = facts.live.into_iter().flat_map(|live| &live.links);
    let down = rows.filter(|row| row.link.starts_with(&start) && row.eligible == Some(false));
    down.map(|row| row.link.clone()).collect()
}

/// What the gateways of private peering lack; a circuit with Microsoft peering only has none.
fn gateways_lack(circuit: &Circuit) -> Option<String> {
    circuit.private.as_ref()?;
    let vnets = &circuit.inventory.vnets;
    if vnets.is_empty() {
        return Some("the inventory names no linked virtual network".into());
    }
    let is_zonal = |sku: Option<&str>| sku.and_then(gateways::find).is_some_and(|it| it.is_zone_redundant);
    let lacking: Vec<&str> =
        vnets.iter().filter(|it| !is_zonal(it.gateway_sku)).map(|it| it.name.as_str()).collect();
    (!lacking.is_empty()).then(|| format!("no zone-redundant gateway in {}", lacking.join(", ")))
}
