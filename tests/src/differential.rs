//! The differential test: the program that ships, loaded in the kernel, against the same stages on the host.
//!
//! [`Pair`] is one edge of the packet tables built twice. Each frame is put to both as a question (verdict, trace and bytes must
//! agree) and then sent as traffic (action, bytes, wanted neighbour and, at the end, every counter must agree). Frames come from [`Generator`]
//! (a grammar of packets, and damage done to them) or from [`captures`]. [`Histogram`] says what has been reached, so that a
//! generator that has become blind is noticed. A difference is [shrunk](Pair::shrink) before it is shown.
//!
//! [`policed`] adds time: both sides get policers and one virtual clock, and each bucket must agree to the unit.
//!
//! What cannot be asked is counted, not hidden: frames shorter than an Ethernet header, which the kernel's test run refuses, and
//! frames beyond one buffer.

pub mod captures;
mod damage;
mod generator;
mod grammar;
mod histogram;
mod pair;
pub mod policed;

pub use generator::{Generator, Sample};
pub use histogram::Histogram;
pub use pair::{Difference, FRAME_MAX, FRAME_MIN, Outcome, Pair};
