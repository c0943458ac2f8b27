//! `cargo xtask test`: builds everything, then runs every test and closes with one line `N passed, N failed, N skipped`.
//!
//! A test that cannot run where it is says `SKIP: reason`; it counts as skipped, and with CI=true a skip is a failure: CI must
//! run everything. `--full` is for what takes too long for every change: there every kernel of the VM lab has its row, otherwise the oldest.

use std::{env, path::Path, process::ExitCode, time::Instant};

use anyhow::Result;

use crate::{
    build,
    cargo_tests::{self, Tally},
    command::is_root,
    package,
    pieces::Need,
    setup, verify,
};

/// Options of `test`.
#[derive(clap::Args)]
pub struct Options {
    /// Longer: every row of every table of tests, ten times as many cases of a property, every kernel and card
    #[arg(long)]
    full: bool,
}

/// Tests of the lab and of the kernel share namespaces, CPUs and time: one after the other, with their progress shown.
const SERIAL: &str = "erdp-tests";

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    if is_root() {
        setup::ensure(&[Need::Lab])?;
    } else {
        println!("not root: tests that load BPF programs or make network namespaces will say SKIP");
    }
    let binary = build::erdp()?;
    if Path::new("/usr/bin/dpkg-deb").exists() {
        package::package(&binary, None)?;
    } else {
        println!("no dpkg-deb: the test of the Debian package will say SKIP");
    }
    let programs = cargo_tests::build()?;
    let mut suites = Vec::new();
    for program in &programs {
        let serial = program.name.starts_with(SERIAL);
        let arguments: &[&str] =
            if serial { &["--test-threads=1", "--nocapture"] } else { &["--show-output"] };
        println!("\n== {}", program.name);
        let started = Instant::now();
        let tally = program.run(arguments, options.full)?;
        suites.push((program.name.clone(), tally, started.elapsed().as_secs_f32()));
    }
    let started = Instant::now();
    suites.push((
        "virtual machines".to_owned(),
        verify::as_test(options.full),
        started.elapsed().as_secs_f32(),
    ));
    let started = Instant::now();
    suites.push(("documentation".to_owned(), cargo_tests::documentation()?, started.elapsed().as_secs_f32()));
    Ok(close(&suites))
}

fn close(suites: &[(String, Tally, f32)]) -> ExitCode {
    println!();
    let mut total = Tally::default();
    for (name, tally, seconds) in suites {
        total = total.plus(*tally);
        if tally.is_empty() {
            continue;
        }
        let Tally { passed, failed, skipped, .. } = tally;
        println!("{name:<40} passed {passed:>4}  failed {failed:>3}  skipped {skipped:>3}  {seconds:>6.1} s");
    }
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    let bad = total.failed > 0 || total.passed == 0 || (in_ci && total.skipped > 0);
    if in_ci && total.skipped > 0 {
        println!("CI=true: a skipped test is a failure");
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
