//! `cargo xtask simulate`: the simulated world (`tests/src/simulation`) for as many seeds as one likes. Nothing of it needs root, a kernel or a
//! network. It ends with the first violations: the seed, and the last events before.

use std::process::ExitCode;

use anyhow::Result;

use crate::{build, command::command, run::become_program};

/// How much.
#[derive(clap::Args)]
pub struct Options {
    /// Number of seeds; each has at least 30 faults in ten virtual minutes
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plant a fault of this kind in the router (tests/src/simulation/planted.rs): succeeds if it is found
    #[arg(long, value_name = "NAME")]
    plant: Option<String>,
}

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut simulate = command(build::erdp()?.with_file_name("erdp-simulate"));
    simulate.arg("--seeds").arg(options.seeds.to_string()).arg("--seed").arg(options.seed.to_string());
    if let Some(plant) = &options.plant {
        simulate.arg("--plant").arg(plant);
    }
    become_program(simulate)
}
