//! The ERDP controller, its modules listed in the order in which a route flows through it.

// Kept in that order, which rustfmt would sort away within one block.
pub mod types;

pub mod config;

pub mod azure;

pub mod neighbour;

pub mod bgp;

pub mod bfd;

pub mod pair;

pub mod minimum;

pub mod miscabling;

pub mod peering;

pub mod drill;
pub mod events;

pub mod rib;

pub mod kernel;

pub mod fallover;

pub mod redundancy;

pub mod fib;

pub mod dataplane;

pub mod compile;

pub mod core;

pub mod accept;
pub mod control;

pub mod metrics;

pub mod state;

pub mod controller;

pub mod doctor;

pub mod import;

pub mod audit;
