//! `erdp-simulate`: lives through seeds of the simulated world, on every CPU, and prints what they have shown. Started by `cargo xtask simulate`.
//!
//! Exit codes: 0 nothing was found, 1 something was: the seed, the last events before it, and how to see it again are printed. With a planted
//! fault it is the other way round.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use erdp_tests::simulation::{self, Plant, Report, Violation};

/// After so many violations no further seed begins.
const FOUND_MAX: usize = 5;

/// Live through seeds of the simulated world.
#[derive(Parser)]
struct Options {
    /// How many seeds
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A fault to plant in the router, by its name: the seeds must find it
    #[arg(long, value_name = "NAME")]
    plant: Option<String>,
}

/// What the threads share.
#[derive(Default)]
struct Found {
    next: AtomicU64,
    done: Mutex<(Report, u64)>,
    violations: Mutex<Vec<Violation>>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let plant = match &options.plant {
        Some(name) => Some(
            Plant::named(name)
                .with_context(|| format!("no fault is called {name}; there are {:?}", Plant::ALL))?,
        ),
        None => None,
    };
    let (begin, found) = (Instant::now(), Found::default());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&options, plant, &found))).collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a seed has panicked"))??;
        }
        Ok(())
    })?;
    let (report, seeds) = found.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let violations = found.violations.into_inner().unwrap_or_else(PoisonError::into_inner);
    let faults: u64 = report.faults.values().sum();
    println!(
        "simulate: {seeds} seeds from {} on without a violation, {faults} faults, {} virtual minutes, {} packets asked about, {:.1} s",
        options.seed,
        report.virtual_time.as_secs() / 60,
        report.asked,
        begin.elapsed().as_secs_f64()
    );
    println!(
        "which fault has met which state of BGP/BFD of its neighbour, and how often ({} pairs):",
        report.coverage.len()
    );
    print!("{}", report.coverage);
    for violation in &violations {
        println!("{violation}");
        println!("again: cargo xtask simulate --seeds 1 --seed {}", violation.seed);
    }
    let is_as_expected = violations.is_empty() == plant.is_none();
    Ok(if is_as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes one seed after the other.
fn work(options: &Options, plant: Option<Plant>, found: &Found) -> Result<()> {
    loop {
        let at = found.next.fetch_add(1, Ordering::Relaxed);
        let lock = found.violations.lock().unwrap_or_else(PoisonError::into_inner);
        if at >= options.seeds || lock.len() >= FOUND_MAX {
            return Ok(());
        }
        drop(lock);
        match simulation::run(options.seed.wrapping_add(at), plant)? {
            Ok(report) => {
                let mut done = found.done.lock().unwrap_or_else(PoisonError::into_inner);
                done.0.add(report);
                done.1 += 1;
            }
            Err(violation) => {
                found.violations.lock().unwrap_or_else(PoisonError::into_inner).push(*violation);
            }
        }
    }
}
