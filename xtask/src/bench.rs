//! `cargo xtask bench`: measurements that are printed and written as JSON, and never a test: a shared machine's timing proves
//! nothing about the code's correctness.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    command::{command, is_root},
    pieces::Need,
    run::become_program,
    setup,
};

/// What to measure.
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Time per packet, compared with an empty program, a bare redirect, bpf_fib_lookup and LPM_TRIE; loading time and memory of the
    /// tables; --quick: fewer rounds and no table above 100,000 routes
    Dataplane {
        #[command(flatten)]
        options: Options,
        /// Only one IPv4 table, of this many routes
        #[arg(long, value_name = "ROUTES")]
        size: Option<usize>,
    },
    /// Frames forwarded per second, compared with a bare redirect, bpf_fib_lookup and Linux IP forwarding; two CPUs with one
    /// policer bucket; --quick: fewer and shorter rounds
    Live(Options),
    /// TCP (iperf3, CUBIC) through the policer, dropping and marking, beside tbf: rates, flows and round trips; --quick: only
    /// 10 ms
    Policer(Options),
    /// A full Internet table by BGP, compared with BIRD and FRR: load, loss of one of two feeds, withdrawal, memory; Azure's limits with
    /// sixteen peers; 100,000 route changes per second; no round begins after 25 minutes; --quick: one round, ten seconds of changes
    Bgp(Options),
    /// Traffic lost when a link fails, with or without loss of carrier; with the controller running, killed, and processing 100,000
    /// route changes per second; with 10 to 1,168,945 routes; compared with FRR; --quick: three runs and ten routes
    Failover(Options),
}

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Also write the results as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A shorter measurement
    #[arg(long)]
    quick: bool,
}

/// The verb.
pub fn run(verb: &Verb) -> Result<ExitCode> {
    let (name, options, size) = match verb {
        Verb::Dataplane { options, size } => ("dataplane", options, *size),
        Verb::Live(options) => ("live", options, None),
        Verb::Policer(options) => ("policer", options, None),
        Verb::Bgp(options) => ("bgp", options, None),
        Verb::Failover(options) => ("failover", options, None),
    };
    if !is_root() {
        bail!(
            "`bench` makes network namespaces and loads BPF programs, which needs root: run `sudo -E cargo xtask bench {name}`"
        );
    }
    setup::ensure(&[Need::Lab])?;
    let object = build::bench_object()?;
    let mut bench = command(build::erdp()?.with_file_name("erdp-bench"));
    bench.arg(name).arg("--object").arg(object);
    if let Some(json) = &options.json {
        bench.arg("--json").arg(std::path::absolute(json).context("no current folder")?);
    }
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(size) = size {
        bench.arg("--size").arg(size.to_string());
    }
    become_program(bench)
}
