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
    /// The packet path against an empty program, a bare redirect, bpf_fib_lookup and LPM_TRIE; loading and memory of the tables;
    /// --quick: fewer rounds and no table above 100,000 routes
    Dataplane {
        #[command(flatten)]
        options: Options,
        /// Only one IPv4 table, of this many routes
        #[arg(long, value_name = "ROUTES")]
        size: Option<usize>,
    },
    /// Frames a second that are really forwarded, against a bare redirect, bpf_fib_lookup and the kernel's forwarding; two CPUs
    /// with one policer bucket; --quick: fewer and shorter rounds
    Live(Options),
    /// TCP (iperf3, CUBIC) through the policer, dropping and marking, beside tbf: rates, flows and round trips; --quick: only
    /// 10 ms
    Policer(Options),
    /// The whole Internet's table by BGP to the last entry in the maps, beside BIRD and FRR to the last route in the kernel: load, loss
    /// of one of two feeds, withdrawal, memory; Azure's limits with sixteen peers; 100,000 flapping routes a second; no round begins
    /// after 25 minutes; --quick: one round, ten seconds of flaps
    Bgp(Options),
    /// Traffic lost when a link fails, with its carrier or silently, with a controller, without and while it digests 100,000 route
    /// changes a second, at 10 and at 1,168,945 routes, beside FRR and the kernel's forwarding; --quick: three runs and ten routes
    Failover(Options),
}

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Write the results as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Less of it
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
