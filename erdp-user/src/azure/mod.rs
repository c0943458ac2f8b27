//! What Microsoft publishes and changes from time to time, as tables with a date: no rule of ours is in here.
//!
//! - `bandwidths`: which bandwidths are sold, by kind of circuit (requirement A3).
//! - `gateways`: what a virtual network's gateway carries, by its SKU (requirement D10).
//! - `links`: how many virtual networks, circuits and subscriptions may share what (requirement A7).
//! - `regions`: which regions a circuit reaches (requirements A6, H2).
//! - `prefixes`: how many prefixes an MSEE accepts before it drops the session (requirement D1).

pub mod bandwidths;
pub mod gateways;
pub mod links;
pub mod prefixes;
pub mod regions;
