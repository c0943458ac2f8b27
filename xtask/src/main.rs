//! `cargo xtask`: one door for everything that is done with this repository.
//!
//! One file for each verb ([`setup`], [`build`], [`check`], [`test`], [`run`], [`lab`], [`package`], [`bench`], [`soak`],
//! [`verify`]); a verb first makes sure that the pieces
//! of the machine it needs are there ([`pieces`] knows them, [`setup`] installs them) and then does its work by calling the
//! ordinary tools. xtask depends on none of the other crates, so that it builds in seconds on a fresh clone and can install
//! what the others need.

mod bench;
mod build;
mod cargo_tests;
mod check;
mod command;
mod facts;
mod lab;
mod layout;
mod package;
mod pieces;
mod run;
mod setup;
mod soak;
mod test;
mod verify;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One door for everything: set up the machine, build, check, test and run ERDP.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what the other verbs need (every verb also does this for itself)
    Setup(setup::Options),
    /// Build the BPF object, then the `erdp` binary (target/release/erdp)
    Build,
    /// Check formatting, lints, licences, spelling and the layout of the tree
    Check,
    /// Build and run every test: unit, property, packet tables, kernel, lab
    Test(test::Options),
    /// Run ERDP in a lab of network namespaces, or with --config on real interfaces
    Run(run::Options),
    /// Bring the lab up without ERDP's checks and leave it up; tell about it; enter it; take it down
    #[command(subcommand)]
    Lab(lab::Verb),
    /// Load every program and run the packet tables on other kernels, in virtual machines
    Verify(verify::Options),
    /// Build a Debian package (target/package/)
    Package(package::Options),
    /// Everything that can happen to an edge for as long as is said, held against what should be again and again
    Soak(soak::Options),
    /// Measure the packet path; prints and writes JSON, judges nothing
    #[command(subcommand)]
    Bench(bench::Verb),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup(options) => setup::run(&options),
        Verb::Build => build::run(),
        Verb::Check => check::run(),
        Verb::Test(options) => test::run(&options),
        Verb::Run(options) => run::run(&options),
        Verb::Lab(verb) => lab::run(&verb),
        Verb::Verify(options) => verify::run(&options),
        Verb::Package(options) => package::run(&options),
        Verb::Soak(options) => soak::run(&options),
        Verb::Bench(verb) => bench::run(&verb),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
