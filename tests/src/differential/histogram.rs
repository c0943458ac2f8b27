//! What a run of frames has reached.

use std::{collections::BTreeMap, fmt};

use erdp_common::{
    abi::{Trace, VERDICT_DROP, VERDICT_PUNT, VERDICT_TRANSMIT},
    reason::{DropReason, PuntKind},
};

use super::Outcome;

/// Frames by their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    ends: BTreeMap<String, u64>,
    /// Frames that both decided about.
    pub compared: u64,
    /// Frames below an Ethernet header's length, not asked.
    pub too_short: u64,
    /// Frames beyond one buffer, not asked.
    pub too_long: u64,
}

impl Histogram {
    /// Notes an outcome; a difference is the caller's.
    pub fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Same(trace) => {
                self.compared += 1;
                *self.ends.entry(end(trace)).or_default() += 1;
            }
            Outcome::TooShort => self.too_short += 1,
            Outcome::TooLong => self.too_long += 1,
            Outcome::Different(_) => {}
        }
    }

    /// Adds what another run has reached.
    pub fn add(&mut self, other: &Self) {
        for (end, count) in &other.ends {
            *self.ends.entry(end.clone()).or_default() += count;
        }
        self.compared += other.compared;
        self.too_short += other.too_short;
        self.too_long += other.too_long;
    }

    /// Ends that `other` has reached and this has not.
    pub fn lacks<'o>(&self, other: &'o Self) -> Vec<&'o str> {
        other.ends.keys().filter(|end| !self.ends.contains_key(*end)).map(String::as_str).collect()
    }
}

/// `transmit by next hop 3`, `transmit of the kernel`, `punt bgp on attachment 2`, `drop too-big`.
fn end(trace: &Trace) -> String {
    let reason = match trace.verdict {
        VERDICT_DROP => {
            DropReason::from_number(trace.reason).map(|reason| format!("drop {}", reason.label()))
        }
        VERDICT_PUNT => PuntKind::from_number(trace.reason)
            .map(|kind| format!("punt {} on attachment {}", kind.label(), trace.attachment)),
        VERDICT_TRANSMIT if trace.next_hop == 0 => Some("transmit of the kernel".to_owned()),
        VERDICT_TRANSMIT => Some(format!("transmit by next hop {}", trace.next_hop)),
        _ => None,
    };
    reason.unwrap_or_else(|| format!("unknown verdict {} reason {}", trace.verdict, trace.reason))
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compared, too_short, too_long, .. } = self;
        writeln!(f, "{compared} frames compared, not asked: {too_short} too short, {too_long} too long")?;
        for (end, count) in &self.ends {
            writeln!(f, "  {count:>9}  {end}")?;
        }
        Ok(())
    }
}
