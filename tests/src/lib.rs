//! The lab and the tests that need it.
//!
//! [`packets`] are tables of frames for the pipeline on the host and in the kernel; [`differential`] holds both against each
//! other with frames by the million. [`lab`] brings up network namespaces with
//! real routers, [`edge`] is erdp in the middle of them, [`traffic`] goes through it, [`checks`] says what must hold, and [`run`]
//! is all of it in order. [`small`] is a lab with one circuit for tests of
//! the daemon, [`root`] a root to install packages into, [`service`] what must hold where systemd runs the package, [`quick_start`] README's
//! commands. [`released`] is what version 0.1.0 does, which this tree must do too. [`circuits`] is a lab with two circuits, [`seen`] what
//! peers say of their sessions, [`scrape`] what a monitoring system reads, [`failover`] is a lab whose wires can be cut silently. [`bench`] measures and
//! judges nothing; [`budget`] is how much work the kernel's verifier may have with
//! the programs. [`hostile`] is BGP that nobody would send who means well, [`attacks`] what a hostile operator does, [`fuzz`] the targets of the coverage-guided fuzzer,
//! [`simulation`] a world in virtual time with the router's core in it.

pub mod attacks;
pub mod bench;
pub mod budget;
pub mod checks;
pub mod circuits;
pub mod differential;
pub mod edge;
pub mod failover;
pub mod fuzz;
pub mod hostile;
pub mod lab;
pub mod packets;
pub mod quick_start;
pub mod released;
pub mod root;
pub mod run;
pub mod scrape;
pub mod seen;
pub mod service;
pub mod simulation;
pub mod small;
pub mod traffic;
