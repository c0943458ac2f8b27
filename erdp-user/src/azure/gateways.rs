//! What a virtual network's ExpressRoute gateway carries, by its SKU (requirement D10), and whether it survives the loss of a zone.

/// The day on which [`GATEWAYS`] was compared with what Microsoft publishes.
pub const AS_OF: &str = "2026-11-21";

/// A gateway SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Microsoft's name.
    pub name: &'static str,
    /// Megabits a second that one gateway of it carries at most.
    pub mbps: u64,
    /// Whether its instances are in several availability zones.
    pub is_zone_redundant: bool,
}

const fn gateway(name: &'static str, mbps: u64, is_zone_redundant: bool) -> Gateway {
    Gateway { name, mbps, is_zone_redundant }
}

/// All of them; `Basic` is no longer sold and still in use.
pub const GATEWAYS: [Gateway; 8] = [
    gateway("Basic", 500, false),
    gateway("Standard", 1_000, false),
    gateway("HighPerformance", 2_000, false),
    gateway("UltraPerformance", 10_000, false),
    gateway("ErGw1AZ", 1_000, true),
    gateway("ErGw2AZ", 2_000, true),
    gateway("ErGw3AZ", 10_000, true),
    gateway("ErGwScale", 40_000, true),
];

/// A SKU by its name; case does not matter.
pub fn find(name: &str) -> Option<&'static Gateway> {
    GATEWAYS.iter().find(|it| it.name.eq_ignore_ascii_case(name.trim()))
}
