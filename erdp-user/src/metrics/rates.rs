//! Growing counts to values a second, over about the last minute: what Azure's graphs show.
//!
//! Pure: time is an argument. Counts are taken every [`STEP_NS`]; a count that is smaller than before (its owner was made anew) begins
//! at 0.

use std::collections::{BTreeMap, VecDeque};

/// Between two takings, in nanoseconds.
pub const STEP_NS: u64 = 5_000_000_000;
/// How far back a rate looks, in takings: a minute.
const KEPT: usize = 13;

/// The last takings, oldest first.
#[derive(Debug)]
pub struct Rates<K>(VecDeque<(u64, BTreeMap<K, u64>)>);

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: Ord> Rates<K> {
    /// Whether it is time to take the counts again.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.0.back().is_none_or(|(then, _)| now_ns.saturating_sub(*then) >= STEP_NS)
    }

    /// Takes the counts of this moment.
    pub fn take(&mut self, now_ns: u64, counts: BTreeMap<K, u64>) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now_ns, counts));
    }

    /// How much a count grew in a second; 0 before there are two takings.
    pub fn per_second(&self, key: &K) -> f64 {
        let (Some((from, before)), Some((to, now))) = (self.0.front(), self.0.back()) else { return 0.0 };
        let grown = now.get(key).copied().unwrap_or(0).checked_sub(before.get(key).copied().unwrap_or(0));
        let grown = grown.unwrap_or_else(|| now.get(key).copied().unwrap_or(0));
        let seconds = to.saturating_sub(*from) as f64 / 1e9;
        if seconds > 0.0 { grown as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rates, STEP_NS};

    #[test]
    fn a_steady_count_has_its_rate_from_the_second_taking_on_and_forgets_after_a_minute() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(&"bits"), 0.0);
        for step in 0..5 {
            assert!(rates.is_due(step * STEP_NS));
            rates.take(step * STEP_NS, [("bits", 1_000 * step)].into());
            assert!(!rates.is_due(step * STEP_NS + STEP_NS - 1));
            assert_eq!(rates.per_second(&"bits"), if step == 0 { 0.0 } else { 200.0 });
        }
        for step in 5..17 {
            rates.take(step * STEP_NS, [("bits", 4_000)].into());
        }
        assert_eq!(rates.per_second(&"bits"), 0.0, "older than a minute");
    }

    #[test]
    fn a_count_that_began_anew_is_not_negative() {
        let mut rates = Rates::default();
        rates.take(0, [("bits", 5_000)].into());
        rates.take(STEP_NS, [("bits", 1_000)].into());
        assert_eq!(rates.per_second(&"bits"), 200.0);
    }
}
