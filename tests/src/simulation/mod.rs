//! A world in virtual time with the router in it: the core with its maps in memory, the session machines of BGP and BFD at both ends of every
//! wire, and nothing of a kernel. Whatever goes wrong comes from a seed, and the same seed goes wrong in the same way again.
//!
//! Files: [`plan`] (who is there, and what may be announced), [`net`] (wires and TCP), [`neighbour`] (MSEEs and customers' routers, and what the
//! world knows of them), [`edge`] (the router under test), [`world`] (the clock, and what happens when), [`actions`] (what the core wants done, and
//! what it hears), [`wires`] (BFD packets and BGP's octets on their way), [`faults`] (what goes wrong, and how it
//! is mended), [`oracle`] (what must hold), [`budgets`] (within which time), [`planted`] (faults of the router that the oracle has to find),
//! [`coverage`] (which fault has met which state).
//!
//! # A seed's course
//! Everything comes up. Then in each of [`ROUNDS`] rounds faults strike for half a minute, one upon the other; everything is mended; and after
//! [`budgets::WHOLE`] the world must be whole, and must stay silent for [`budgets::QUIET`].
//!
//! # What is judged, and by what
//! By the world alone: by who has power and a wire, who announces what, and what operators have ordered; never by what the core believes. The
//! oracle looks ten times a second and after each fault, at packets asked of the maps and at what neighbours have heard; once a second when all has
//! been mended for a while.
//!
//! # What must never happen
//! That a look depends on anything but the seed: no clock, no thread, no order of a hash map. That the oracle excuses what it does not understand.

mod actions;
pub mod budgets;
pub mod coverage;
mod edge;
mod faults;
mod neighbour;
mod net;
mod oracle;
mod plan;
mod planted;
mod wires;
mod world;

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Result;
use erdp::bgp::Moment;

use self::world::World;
pub use self::{coverage::Coverage, planted::Plant};

/// Nanoseconds of the world's clock.
pub type Time = u64;

/// Rounds of a seed.
pub const ROUNDS: u32 = 7;
/// Faults that strike in a round.
const FAULTS: std::ops::RangeInclusive<u32> = 5..=8;

const fn millis(millis: u64) -> Time {
    millis * 1_000_000
}

const fn seconds(seconds: u64) -> Time {
    seconds * 1_000_000_000
}

fn duration(time: Time) -> Duration {
    Duration::from_nanos(time)
}

fn moment(time: Time) -> Moment {
    Moment(duration(time))
}

/// What a seed has shown.
#[derive(Debug, Default)]
pub struct Report {
    /// Faults by their kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long the world has existed.
    pub virtual_time: Duration,
    /// How many packets were asked about.
    pub asked: u64,
    /// Which fault has met which state.
    pub coverage: Coverage,
}

impl Report {
    /// Adds another seed's.
    pub fn add(&mut self, other: Self) {
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.virtual_time += other.virtual_time;
        self.asked += other.asked;
        self.coverage.add(other.coverage);
    }
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that leads to it.
    pub seed: u64,
    /// When, since the world began.
    pub at: Duration,
    /// What is broken.
    pub rule: &'static str,
    /// How.
    pub what: String,
    /// The last events before.
    pub events: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            writeln!(f, "  {event}")?;
        }
        write!(f, "seed {}: after {:.3} s: {}: {}", self.seed, self.at.as_secs_f64(), self.rule, self.what)
    }
}

/// Lives through a seed, with a fault planted in the router or without; the inner error is what must not be.
///
/// # Errors
/// The world cannot begin: the plan is no configuration.
pub fn run(seed: u64, plant: Option<Plant>) -> Result<Result<Report, Box<Violation>>> {
    World::new(seed, plant).map(World::run)
}
