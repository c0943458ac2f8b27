//! The ERDP controller, its modules listed in the order in which a route flows through it.

pub mod bgp;
pub mod control;
pub mod dataplane;
pub mod fib;
pub mod kernel;
