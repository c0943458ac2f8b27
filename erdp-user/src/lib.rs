//! The ERDP controller, listed in the order in which a route flows through it.

pub mod dataplane;
