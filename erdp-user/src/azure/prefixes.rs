//! How many prefixes an MSEE accepts on a session before it drops it (requirement D1). They are ceilings: a configuration may lower one
//! and never raises any.

use crate::config::{PeeringKind, Sku};

/// The day on which [`CEILINGS`] was compared with what Microsoft publishes.
pub const AS_OF: &str = "2026-11-21";

/// Peering, SKU, IPv4 prefixes, IPv6 prefixes; on Microsoft peering for each session.
pub const CEILINGS: [(PeeringKind, Sku, u32, u32); 6] = [
    (PeeringKind::Private, Sku::Standard, 4_000, 100),
    (PeeringKind::Private, Sku::Local, 4_000, 100),
    (PeeringKind::Private, Sku::Premium, 10_000, 100),
    (PeeringKind::Microsoft, Sku::Standard, 200, 200),
    (PeeringKind::Microsoft, Sku::Local, 200, 200),
    (PeeringKind::Microsoft, Sku::Premium, 200, 200),
];

/// The ceilings of a peering: IPv4, IPv6.
pub fn ceilings(kind: PeeringKind, sku: Sku) -> [u32; 2] {
    let row = CEILINGS.iter().find(|row| (row.0, row.1) == (kind, sku));
    // The smallest of the table is right for nothing that is not in it, and never too many.
    row.map_or([200, 100], |row| [row.2, row.3])
}
