//! `erdp-bench`: the benchmarks as a program, started by `cargo xtask bench`.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use erdp_tests::{
    bench::{self, arena::read_object},
    failover,
    lab::cleanup,
};
use serde::Serialize;

/// The packet path against its alternatives, in network namespaces of its own.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What a packet costs, by test runs
    Dataplane {
        #[command(flatten)]
        options: Options,
        /// Only one IPv4 table, of this many routes
        #[arg(long, value_name = "ROUTES")]
        size: Option<usize>,
    },
    /// Frames a second that are really forwarded
    Live(Options),
    /// TCP through the policer
    Policer(Options),
    /// A full table by BGP, beside BIRD and FRR
    Bgp {
        /// Write the results as JSON too
        #[arg(long)]
        json: Option<PathBuf>,
        /// Fewer and shorter measurements
        #[arg(long)]
        quick: bool,
        /// Not used: `erdp` has its program in it
        #[arg(long, hide = true)]
        object: Option<PathBuf>,
    },
    /// Loss when a link fails
    Failover(Options),
    /// Everything that can happen, for long: no measurement, but it lives in the same lab
    Soak {
        /// Seconds
        #[arg(long)]
        seconds: u64,
        /// What happens, and in which order
        #[arg(long)]
        seed: Option<u64>,
        /// Write the results as JSON too
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Options {
    /// The benchmark's BPF object
    #[arg(long)]
    object: PathBuf,
    /// Write the results as JSON too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fewer and shorter measurements
    #[arg(long)]
    quick: bool,
}

impl Options {
    fn write(&self, report: &impl Serialize) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let text = serde_json::to_string_pretty(report)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn main() -> Result<()> {
    // Daemons that change their user lose the death signal of their owner.
    cleanup::on_signals()?;
    match Cli::parse().what {
        What::Dataplane { options, size } => {
            options.write(&bench::run(&options.object, options.quick, size)?)
        }
        What::Live(options) => {
            options.write(&bench::live::run(&read_object(&options.object)?, options.quick)?)
        }
        What::Failover(options) => options.write(&failover::bench::run(options.quick)?),
        What::Soak { seconds, seed, json } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let options = Options { object: PathBuf::new(), json, quick: false };
            options.write(&failover::soak::run(Duration::from_secs(seconds), seed.unwrap_or(now))?)
        }
        What::Policer(options) => {
            options.write(&bench::policer::run(&read_object(&options.object)?, options.quick)?)
        }
        What::Bgp { json, quick, object } => {
            let options = Options { object: object.unwrap_or_default(), json, quick };
            options.write(&bench::bgp::run(options.quick)?)
        }
    }
}
