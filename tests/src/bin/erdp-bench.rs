//! `erdp-bench`: the dataplane's benchmark as a program, started by `cargo xtask bench dataplane`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use erdp_tests::bench;

/// The packet path against its alternatives, in a network namespace of its own.
#[derive(Parser)]
struct Cli {
    /// The benchmark's BPF object
    #[arg(long)]
    object: PathBuf,
    /// Write the results as JSON too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fewer rounds and no table above 100,000 routes
    #[arg(long)]
    quick: bool,
    /// Only one IPv4 table, of this many routes
    #[arg(long, value_name = "ROUTES")]
    size: Option<usize>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let report = bench::run(&cli.object, cli.quick, cli.size)?;
    if let Some(path) = &cli.json {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
