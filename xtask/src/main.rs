//! `cargo xtask`: the one command for everything in this repository.
//!
//! One file for each verb ([`setup`], [`build`], [`check`], [`test`], [`run`], [`lab`], [`package`], [`bench`], [`soak`], [`simulate`], [`fuzz`],
//! [`verify`]); a verb first makes sure that the pieces
//! of the machine it needs are there ([`pieces`] knows them, [`setup`] installs them, [`room`] looks at the disk) and then does its work by calling the
//! ordinary tools. xtask depends on none of the other crates, so that it builds in seconds on a fresh clone and can install
//! what the others need. A reader that goes (`| head`) ends no run ([`out`]).

#[macro_use]
mod out;

mod advisories;
mod bench;
mod build;
mod cargo_tests;
mod check;
mod command;
mod facts;
mod fuzz;
mod lab;
mod layout;
mod lock;
mod msrv;
mod package;
mod pages;
mod pieces;
mod remap;
mod room;
mod run;
mod setup;
mod simulate;
mod soak;
mod structure;
mod tally;
mod test;
mod verify;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up this machine; build, check, test, run and measure ERDP.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what the other commands need (each command also does this itself)
    Setup(setup::Options),
    /// Build the BPF object, then the `erdp` binary (target/release/erdp)
    Build(build::Options),
    /// Check formatting, lints, licences, spelling, the layout of the tree and how its modules hang together
    Check,
    /// Build and run every test: unit, property, packet tables, kernel, lab
    Test(test::Options),
    /// One row of `test`, run by `test` itself
    #[command(subcommand, hide = true)]
    TestRow(test::own::Own),
    /// Run ERDP in a lab of network namespaces, or with --config on real interfaces
    Run(run::Options),
    /// Bring a lab up without checks, list labs, enter a namespace, take a lab down
    #[command(subcommand)]
    Lab(lab::Verb),
    /// Load every BPF program and run the packet tables on other kernels, in virtual machines
    Verify(verify::Options),
    /// Build a Debian package (target/package/)
    Package(package::Options),
    /// Run random faults for a given time under traffic, and check the router's state after each round
    Soak(soak::Options),
    /// Live through seeds of a simulated world in virtual time: faults of links, peers and operators, and an oracle; needs no root
    Simulate(simulate::Options),
    /// Look for inputs that hurt a decoder or its oracle, by coverage; a clean run counts while the target's sources are the same
    Fuzz(fuzz::Options),
    /// Measure forwarding, failover, BGP and policing; prints results and can write JSON
    #[command(subcommand)]
    Bench(bench::Verb),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup(options) => setup::run(&options),
        Verb::Build(options) => build::run(&options),
        Verb::Check => check::run(),
        Verb::Test(options) => test::run(&options),
        Verb::TestRow(own) => Ok(test::own::run(&own)),
        Verb::Run(options) => run::run(&options),
        Verb::Lab(verb) => lab::run(&verb),
        Verb::Verify(options) => verify::run(&options),
        Verb::Package(options) => package::run(&options),
        Verb::Soak(options) => soak::run(&options),
        Verb::Simulate(options) => simulate::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    /// A command as pages write it, without brackets and with a value for each placeholder.
    fn words(code: &str) -> Vec<String> {
        let placeholder = |word: &str| match word {
            "N" => "1".to_owned(),
            word => word.to_owned(),
        };
        code.replace(['[', ']'], "").split_whitespace().map(placeholder).collect()
    }

    #[test]
    fn commands_on_the_pages_are_commands() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut pages = vec![root.join("README.md")];
        let docs = fs::read_dir(root.join("docs")).expect("docs").flatten().map(|entry| entry.path());
        pages.extend(docs.filter(|path| path.extension().is_some_and(|end| end == "md")));
        let mut seen = 0;
        for page in pages {
            let text = fs::read_to_string(&page).expect("a page");
            let spans = text
                .split('`')
                .skip(1)
                .step_by(2)
                .chain(text.lines().filter_map(|line| line.strip_prefix("$ ")));
            for code in spans.filter_map(|code| code.strip_prefix("cargo xtask ")) {
                seen += 1;
                let words = ["cargo xtask".to_owned()].into_iter().chain(words(code));
                let Err(error) = Cli::command().try_get_matches_from(words) else { continue };
                // A mention without all arguments is a mention.
                let is_mention = [
                    ErrorKind::MissingRequiredArgument,
                    ErrorKind::MissingSubcommand,
                    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                    ErrorKind::DisplayHelp,
                ]
                .contains(&error.kind());
                assert!(is_mention, "{}: `cargo xtask {code}`: {error}", page.display());
            }
        }
        assert!(seen > 10, "only {seen} commands");
    }
}
