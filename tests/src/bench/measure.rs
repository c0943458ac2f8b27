//! Rounds: in each, every contestant has its turn, so that what disturbs the machine disturbs all alike; the result is the median
//! over the rounds of what a contestant costs above the empty program in the same round.

use anyhow::Result;
use serde::Serialize;

use super::arena::Arena;

/// What one contestant has cost, in nanoseconds for each packet (or look-up), net of the empty program.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The contestant.
    pub name: String,
    /// Median over the rounds.
    pub median_ns: f64,
    /// Least of the rounds.
    pub min_ns: f64,
    /// Most of the rounds.
    pub max_ns: f64,
}

impl Cost {
    /// From the rounds' results.
    pub fn new(name: &str, mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let median_ns = rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN);
        let min_ns = rounds.first().copied().unwrap_or(f64::NAN);
        let max_ns = rounds.last().copied().unwrap_or(f64::NAN);
        Self { name: name.to_owned(), median_ns, min_ns, max_ns }
    }
}

/// How long to measure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Effort {
    /// Rounds.
    pub rounds: usize,
    /// Packets of each contestant in each round.
    pub runs: u32,
}

/// Measures packet programs against `bench_empty`; the first result is that of the empty program itself, gross.
pub fn packets(arena: &mut Arena, programs: &[&str], effort: Effort) -> Result<Vec<Cost>> {
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); programs.len() + 1];
    for round in 0..effort.rounds {
        let empty = arena.time("bench_empty", effort.runs)?;
        rounds[0].push(empty);
        for turn in 0..programs.len() {
            // Another one begins in each round.
            let at = (turn + round) % programs.len();
            let gross = arena.time(programs[at], effort.runs)?;
            rounds[at + 1].push(gross - empty);
        }
    }
    let names = ["empty (gross)"].iter().chain(programs);
    Ok(names.zip(rounds).map(|(name, rounds)| Cost::new(name, rounds)).collect())
}

/// Measures look-up programs against the loop without a look-up; nanoseconds are for one look-up.
pub fn lookups(arena: &mut Arena, programs: &[String], effort: Effort) -> Result<Vec<Cost>> {
    let each = f64::from(erdp_common::bench::LOOKUPS);
    let runs = effort.runs / erdp_common::bench::LOOKUPS;
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); programs.len()];
    for round in 0..effort.rounds {
        let floor = arena.time_alone("lookup_none", runs)?;
        for turn in 0..programs.len() {
            let at = (turn + round) % programs.len();
            rounds[at].push((arena.time_alone(&programs[at], runs)? - floor) / each);
        }
    }
    Ok(programs.iter().zip(rounds).map(|(name, rounds)| Cost::new(name, rounds)).collect())
}

#[cfg(test)]
mod tests {
    use super::Cost;

    #[test]
    fn the_median_is_not_moved_by_one_bad_round() {
        let cost = Cost::new("x", vec![10.0, 11.0, 900.0, 9.0, 10.5]);
        assert_eq!((cost.median_ns, cost.min_ns, cost.max_ns), (10.5, 9.0, 900.0));
    }
}
