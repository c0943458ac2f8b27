//! Targets of the coverage-guided fuzzer: each is one plain function over bytes with its oracle in it, so that everyday tests call the very
//! same (`tests/fuzz_corpora.rs` replays the corpora). `cargo xtask fuzz` looks for inputs by coverage.
//!
//! A target panics where its oracle is hurt. An oracle is written from the RFC or from the promise, not from the code: an UPDATE by
//! [`crate::hostile::names`], the policer by exact sums without wrapping, a note in a folder by what an edge may write down. Most targets
//! read their input as a program: a few octets say what happens next, so that every byte string is one.
//!
//! `fuzz/targets.json` has for each target the files that it depends on; a clean run counts as long as their hash is the same.

mod azure_import;
mod bfd;
mod bgp;
mod config;
mod control;
pub mod corpus;
mod hand_over;
mod netlink;
mod packets;
mod policer;
pub mod seeds;
mod state;
mod traces;

use anyhow::Result;

/// One target.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Panics where something is that must not be.
    pub run: fn(&[u8]),
}

/// Every target, in the order of `fuzz/targets.json`.
pub const TARGETS: &[Target] = &[
    Target { name: "bgp-messages", run: bgp::messages },
    Target { name: "bgp-session", run: bgp::session },
    Target { name: "bfd", run: bfd::run },
    Target { name: "packets", run: packets::run },
    Target { name: "policer", run: policer::run },
    Target { name: "config", run: config::run },
    Target { name: "control", run: control::run },
    Target { name: "netlink", run: netlink::run },
    Target { name: "hand-over", run: hand_over::run },
    Target { name: "traces", run: traces::run },
    Target { name: "state", run: state::run },
    Target { name: "azure-import", run: azure_import::run },
];

/// What a fuzzer and a test understand alike.
fn must(result: Result<()>) {
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

/// Reads a program: numbers from the front, zero where nothing is left.
struct Octets<'a>(&'a [u8]);

impl Octets<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn octet(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }

    fn double(&mut self) -> u32 {
        u32::from_be_bytes([self.octet(), self.octet(), self.octet(), self.octet()])
    }

    /// At most so many octets.
    fn take(&mut self, most: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}
