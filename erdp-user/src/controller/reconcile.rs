//! The maps are what this controller has written: read back in turn, all of it within a second, repaired and reported (invariant 7).
//!
//! A share each tick. What is found is logged and counted; `erdp show counters` has the counts and what a round costs. What cannot be
//! repaired holds nothing else up, and is logged once a minute at most.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::Controller;

/// Ticks in which all lines of the trie are compared.
const SHARES: u32 = 5;
/// A failure that goes on is logged so often.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Failures that are told apart; more at once are as good as told.
const SAID_MAX: usize = 64;

/// What reconciling has done since the start.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    repaired: BTreeMap<&'static str, u64>,
    rounds: u64,
    failures: u64,
    said: Said,
    next_line: u32,
    spent: Duration,
    last_round: Duration,
}

impl Reconciled {
    /// For operators.
    pub fn show(&self) -> Value {
        json!({
            "rounds": self.rounds,
            "repaired": self.repaired,
            "failures": self.failures,
            "last_round_us": self.last_round.as_micros() as u64,
        })
    }
}

/// What has been logged lately.
#[derive(Debug, Default)]
struct Said(BTreeMap<String, Instant>);

impl Said {
    /// Whether it is time to log this.
    fn is_news(&mut self, what: &str, now: Instant) -> bool {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < SAID_EVERY);
        if self.0.contains_key(what) || self.0.len() >= SAID_MAX {
            return false;
        }
        self.0.insert(what.to_owned(), now);
        true
    }
}

impl Controller {
    /// One share.
    pub(super) fn reconcile(&mut self) {
        let begin = Instant::now();
        let ports = self.core.forwarding.topology().ports();
        let found = self.core.dataplane.read_back(&ports, self.core.about.mode);
        for error in found.failed {
            self.reconciled.failures += 1;
            if self.reconciled.said.is_news(&error, begin) {
                tracing::error!(
                    error,
                    "reading the packet path's maps back: this stays as it is, the rest is compared"
                );
            }
        }
        let mut repaired = found.by_map;
        let (words, next) = self.core.forwarding.repair_lines(self.reconciled.next_line, SHARES);
        self.reconciled.next_line = next;
        if words > 0 {
            repaired.insert("FIB_LINES", u64::from(words));
        }
        for (map, count) in repaired {
            tracing::warn!(map, count, "was not what erdp had written: repaired; who else writes to it?");
            *self.reconciled.repaired.entry(map).or_default() += count;
        }
        self.reconciled.spent += begin.elapsed();
        if found.is_round_over {
            self.reconciled.rounds += 1;
            self.reconciled.last_round = std::mem::take(&mut self.reconciled.spent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_goes_on_is_logged_once_a_minute_and_another_one_at_once() {
        let (begin, mut said) = (Instant::now(), Said::default());
        let mut logged = Vec::new();
        for tick in 0..1_200_u64 {
            let now = begin + Duration::from_millis(100 * tick);
            for what in ["map TX_PORTS: no such device", "interface eth1: no native XDP"]
                .iter()
                .skip(usize::from(tick < 300))
            {
                if said.is_news(what, now) {
                    logged.push((tick / 10, *what));
                }
            }
        }
        let (one, other) = ("map TX_PORTS: no such device", "interface eth1: no native XDP");
        assert_eq!(logged, [(0, other), (30, one), (60, other), (90, one)]);
    }

    #[test]
    fn failures_of_many_kinds_at_once_take_no_more_memory_than_there_is_to_log() {
        let (now, mut said) = (Instant::now(), Said::default());
        let logged = (0..10_000).filter(|at| said.is_news(&at.to_string(), now)).count();
        assert_eq!((logged, said.0.len()), (SAID_MAX, SAID_MAX));
    }
}
