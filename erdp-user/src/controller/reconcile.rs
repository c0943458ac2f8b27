//! The maps are what this controller has written: read back in turn, all of it within a second, repaired and reported (invariant 7).
//!
//! A share each tick. What is found is logged and counted; `erdp show counters` has the counts and what a round costs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::Controller;

/// Ticks in which all lines of the trie are compared.
const SHARES: u32 = 5;

/// What reconciling has done since the start.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    repaired: BTreeMap<&'static str, u64>,
    rounds: u64,
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
            "last_round_us": self.last_round.as_micros() as u64,
        })
    }
}

impl Controller {
    /// One share.
    pub(super) fn reconcile(&mut self) {
        let begin = Instant::now();
        let ports = self.forwarding.topology().ports();
        let found = match self.dataplane.read_back(&ports, self.about.mode) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "reading the packet path's maps back");
                return;
            }
        };
        let mut repaired = found.by_map;
        let (words, next) = self.forwarding.repair_lines(self.reconciled.next_line, SHARES);
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
