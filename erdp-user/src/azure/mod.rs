//! What Microsoft publishes and changes from time to time, as tables with a date: no rule of ours is in here.
//!
//! - `bandwidths`: which bandwidths are sold, by kind of circuit (requirement A3).
//! - `prefixes`: how many prefixes an MSEE accepts before it drops the session (requirement D1).

pub mod bandwidths;
pub mod prefixes;
