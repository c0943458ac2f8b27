//! What ERDP's XDP program and its controller share, and every decision about a packet that can be pure.
//!
//! The same source is compiled for BPF and for the host: the packet is seen through [`packet::Packet`] (fixed-size windows)
//! and the maps through [`tables::Tables`], so that each stage is unit-tested and property-tested on the host and is the very
//! code that runs in the kernel. Nothing here has a clock, a global, a float or a `u128` on the packet path, and nothing
//! indexes with `[]`. The one dependency is `network-types`: plain header structs and protocol numbers.
//!
//! Modules in the order in which a packet meets them.
#![no_std]
#![forbid(clippy::float_arithmetic)]

#[cfg(any(feature = "std", test))]
extern crate std;

pub mod abi;
pub mod bench;
pub mod packet;
pub mod reason;
pub mod tables;

pub mod classify;
pub mod control;
pub mod family;
pub mod fib;
pub mod group;
pub mod link;
pub mod local;
pub mod pipeline;
pub mod policer;
pub mod rewrite;
pub mod source;

pub mod account;
pub mod answer;
pub mod bfd;
pub mod budget;

#[cfg(any(feature = "std", test))]
pub mod memory;
