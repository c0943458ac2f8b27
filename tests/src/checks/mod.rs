//! What is checked in the lab, each check a function that returns what it found as a sentence, or an error.
//!
//! Files in the order of a run: [`doctor`] has network cards refused and treated; [`converge`] waits until every session has exchanged what it should; [`prefixes`] asks the loaded
//! program about every prefix; [`load`] sends traffic and accounts for every packet; [`failover`] takes a link down. [`offloads`] is about a card of its own.
//! `cargo xtask run` and the end-to-end test call the same functions.
//!
//! What must never happen: a check that passes because nothing was there to be checked. Each states how much it has seen.

pub mod converge;
pub mod doctor;
pub mod failover;
pub mod load;
pub mod offloads;
pub mod prefixes;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// Repeats `attempt` until it succeeds or time is over; then its last error is the result.
///
/// # Errors
/// The last attempt's.
pub fn until<T>(patience: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
