//! How many virtual networks, circuits and subscriptions may share what (requirement A7).

use crate::config::{BitsPerSecond, Sku};

/// The day on which the numbers were compared with what Microsoft publishes.
pub const AS_OF: &str = "2026-11-21";

/// Circuits of one subscription in one geopolitical region.
pub const CIRCUITS_OF_A_SUBSCRIPTION: usize = 10;
/// Circuits of one peering location that a virtual network is linked to.
pub const CIRCUITS_OF_A_VNET: usize = 4;
/// Other subscriptions that may share a circuit: one authorization each.
pub const SHARING_SUBSCRIPTIONS: usize = 10;
/// Virtual networks of a circuit without the premium add-on.
pub const VNETS: usize = 10;

/// Megabits a second of a premium circuit, and virtual networks that it may have.
pub const VNETS_OF_PREMIUM: [(u64, usize); 10] = [
    (50, 20),
    (100, 25),
    (200, 25),
    (500, 40),
    (1_000, 50),
    (2_000, 60),
    (5_000, 75),
    (10_000, 100),
    (40_000, 100),
    (100_000, 100),
];

/// How many virtual networks a circuit may have.
pub fn vnets(sku: Sku, bandwidth: BitsPerSecond) -> usize {
    if sku != Sku::Premium {
        return VNETS;
    }
    let row = VNETS_OF_PREMIUM.iter().rev().find(|(mbps, _)| bandwidth.0 >= mbps * 1_000_000);
    row.map_or(VNETS, |(_, most)| *most)
}
