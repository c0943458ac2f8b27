//! `cargo xtask test --repeat N`: every row until it has passed N times in a row with the same sources.
//!
//! Earlier passes count, so only what has changed or has failed is repeated; when every row has its N passes, the whole suite is run as
//! often as its time allows. The time for all of it is [`BUDGET`]. A round runs the rows that have the fewest passes, side by side as
//! always. The first failure ends it: a row that fails once in N is not stable.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    close,
    rows::{Group, Row},
    suite::{Done, Suite},
};

/// For everything, the build not counted.
const BUDGET: Duration = Duration::from_secs(30 * 60);

/// How a row stands.
struct Standing {
    row: Row,
    before: u64,
    ran: u64,
    held: u64,
}

impl Standing {
    fn passes(&self) -> u64 {
        self.before + self.held
    }
}

/// Runs rows until each has passed `times` times.
///
/// # Errors
/// As [`Suite::run`].
pub fn run(suite: &mut Suite, rows: Vec<Row>, times: u64) -> Result<ExitCode> {
    let begin = Instant::now();
    let mut standings: Vec<Standing> = rows
        .into_iter()
        .map(|row| {
            let before = suite.counted(&row).map_or(0, |(_, passes)| passes.passes);
            Standing { row, before, ran: 0, held: 0 }
        })
        .collect();
    println!("every row {times} times in a row, for {} minutes at most", BUDGET.as_secs() / 60);
    for it in standings.iter().filter(|it| it.before > 0) {
        let hash = suite.hash(&it.row).unwrap_or_default();
        println!("counted: {} {hash} passed {} times before", it.row.name, it.before);
    }
    let mut done: Vec<Done> = Vec::new();
    for round in 1.. {
        let left = BUDGET.saturating_sub(begin.elapsed());
        let all: Vec<(Group, f64, u64)> =
            standings.iter().map(|it| (it.row.group, suite.seconds(&it.row), it.passes())).collect();
        let chosen = choose(&all, times, left.as_secs_f64());
        if chosen.is_empty() {
            break;
        }
        println!("\nround {round}: {} rows, {} minutes left", chosen.len(), left.as_secs() / 60);
        let rows = chosen.iter().map(|at| standings[*at].row.clone()).collect();
        for one in suite.run(rows)? {
            if let Some(it) = standings.iter_mut().find(|it| it.row.name == one.name) {
                it.ran += 1;
                it.held += u64::from(one.tally.failed == 0);
            }
            done.push(one);
        }
        if suite.signal().is_some() || done.iter().any(|row| row.tally.failed > 0) {
            break;
        }
    }
    Ok(report(suite, &standings, &done, times))
}

/// How much of a CPU-second a second of a row costs the wall clock: rows beside each other share it.
fn cost(group: Group, seconds: f64) -> f64 {
    match group {
        Group::Alone | Group::Lone => seconds,
        Group::Quiet | Group::Light | Group::Cpu => seconds / 2.0,
        Group::Functional => seconds / 4.0,
    }
}

/// The rows of the next round: those that lack passes, the timing-critical and those with the fewest first, as many as there is time
/// for; all of them where none lacks any and there is time for all.
fn choose(rows: &[(Group, f64, u64)], times: u64, left: f64) -> Vec<usize> {
    let whole: f64 = rows.iter().map(|(group, seconds, _)| cost(*group, *seconds)).sum();
    let mut wanting: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].2 < times).collect();
    if wanting.is_empty() {
        return if whole <= left { (0..rows.len()).collect() } else { Vec::new() };
    }
    wanting.sort_by_key(|at| (rows[*at].0 == Group::Cpu, rows[*at].2));
    let mut spent = 0.0;
    wanting.retain(|at| {
        let cost = cost(rows[*at].0, rows[*at].1);
        let has_time = spent + cost <= left;
        if has_time {
            spent += cost;
        }
        has_time
    });
    wanting.sort_unstable();
    wanting
}

fn report(suite: &Suite, standings: &[Standing], done: &[Done], times: u64) -> ExitCode {
    println!();
    for it in standings {
        println!(
            "{:<44} ran {:>3} times, held {:>3}; {} in a row with these sources",
            it.row.name,
            it.ran,
            it.held,
            it.passes()
        );
    }
    let short: Vec<&str> =
        standings.iter().filter(|it| it.passes() < times).map(|it| it.row.name.as_str()).collect();
    if !short.is_empty() {
        println!("fewer than {times} passes in a row: {}", short.join(", "));
        println!("what has passed is written down: run it again to go on");
    }
    let code = close(done, suite.signal());
    if short.is_empty() { code } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::{
        Group::{Alone, Cpu, Functional},
        *,
    };

    #[test]
    fn a_round_has_the_rows_that_lack_passes_and_the_timing_critical_ones_first() {
        let rows = [(Cpu, 20.0, 0), (Alone, 30.0, 3), (Functional, 40.0, 10), (Alone, 30.0, 0)];
        assert_eq!(choose(&rows, 10, 1_000.0), [0, 1, 3], "one has its ten");
        assert_eq!(choose(&rows, 10, 60.0), [1, 3], "no time for the rest");
        assert_eq!(choose(&rows, 10, 40.0), [0, 3], "the fewest passes first");
        assert_eq!(choose(&rows, 10, 0.0), [0_usize; 0]);
    }

    #[test]
    fn when_every_row_has_its_passes_the_whole_suite_runs_while_there_is_time() {
        let rows = [(Cpu, 20.0, 10), (Alone, 30.0, 12)];
        assert_eq!(choose(&rows, 10, 40.0), [0, 1]);
        assert_eq!(choose(&rows, 10, 39.0), [0_usize; 0]);
    }
}
