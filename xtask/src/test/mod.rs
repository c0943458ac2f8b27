//! `cargo xtask test`: installs and builds everything, runs every test and closes with one line `N passed, N failed, N skipped`.
//!
//! Files, in the order of a run: [`rows`] is the table of what there is, [`own`] what xtask carries out itself, [`sources`] hashes what a
//! row depends on, [`ledger`] knows which rows have passed with these sources, [`schedule`] says what runs beside what, [`process`] runs one
//! row, [`suite`] all of them, [`repeat`] again and again; [`released`] and [`stranger`] are rows of `--full`. Here is the verb and how it closes.
//!
//! What does not run is not passed. A test that cannot run on this machine says `SKIP: reason` and counts as skipped; with CI=true a skip
//! is a failure. A test that takes too long for every day is ignored by libtest, and `--full` includes it; one that reads `ERDP_DATA` says
//! `DEFERRED: reason` without it, and `--data` runs it. Both are counted on a line of their own.

mod ledger;
pub mod own;
mod process;
mod released;
mod repeat;
mod rows;
mod schedule;
pub mod sources;
pub mod stranger;
mod suite;

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};

use self::{
    ledger::Mode,
    own::Own,
    rows::Row,
    suite::{Done, Suite},
};
use crate::{
    build, cargo_tests,
    command::{is_root, output},
    package,
    pieces::{self, Need},
    room::{self, Built},
    setup,
    tally::Tally,
    vm::{self, kernels::Flavour, lab::Card},
};

/// Options of `test`.
#[derive(clap::Args)]
pub struct Options {
    /// Run everything: every row of every test, ten times as many cases of a property, every kernel and network card.
    /// A row that has passed before with the same sources is counted and not run again
    #[arg(long)]
    full: bool,
    /// With --full: run every row, whatever has passed before
    #[arg(long, requires = "full")]
    fresh: bool,
    /// Run only the tests that read the folder named by ERDP_DATA
    #[arg(long, conflicts_with = "repeat")]
    data: bool,
    /// Run until every row has passed N times in a row with these sources, for 30 minutes at most
    #[arg(long, value_name = "N", conflicts_with = "full", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: Option<u64>,
    /// Run only the rows whose names contain one of these words
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
}

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.data && env::var_os("ERDP_DATA").is_none() {
        bail!("`test --data` runs the tests that read the folder named by ERDP_DATA: set ERDP_DATA");
    }
    room::ensure(Built::Tests)?;
    install(options.full)?;
    let binary = build::erdp()?;
    if Path::new("/usr/bin/dpkg-deb").exists() {
        package::package(&binary, None)?;
    } else {
        println!("no dpkg-deb: the test of the Debian package will say SKIP");
    }
    let programs = cargo_tests::build()?;
    let mut rows: Vec<Row> = if options.data {
        rows::of_data(&programs, options.full)
    } else {
        let of_programs = programs.iter().flat_map(|program| rows::of_program(program, options.full));
        of_programs.chain([rows::documentation()]).chain(own(options.full)).collect()
    };
    if !options.rows.is_empty() {
        rows.retain(|row| options.rows.iter().any(|word| row.name.contains(word.as_str())));
    }
    let mode = if options.full { Mode::Full } else { Mode::Everyday };
    let released = (released::VARIABLE.to_owned(), released::binary().to_string_lossy().into_owned());
    let mut suite = Suite::new(mode, if options.full { vec![released] } else { Vec::new() })?;
    if let Some(times) = options.repeat {
        return repeat::run(&mut suite, rows, times);
    }
    let mut done = Vec::new();
    if options.full && !options.fresh {
        rows = count(&suite, rows, &mut done);
    }
    done.extend(suite.run(rows)?);
    Ok(close(&done, suite.signal()))
}

/// Installs everything that any of the tests needs, before the first one; what cannot be had is said here, and by SKIP later.
///
/// # Errors
/// When what no test can do without is missing.
fn install(is_full: bool) -> Result<()> {
    if !is_root() {
        println!("not root: tests that load BPF programs or make network namespaces will say SKIP");
        return Ok(());
    }
    setup::ensure(pieces::TESTS)?;
    let wanted: &[Need] = if is_full { &[Need::Vm, Need::Lint, Need::Full] } else { &[Need::Vm] };
    if let Err(error) = setup::ensure(wanted) {
        println!("tests in virtual machines will say SKIP: {error:#}");
    }
    // The first of them makes the folder of names a mount of its own; that is not for many to do at once.
    let name = "erdp-first";
    for verb in ["add", "del"] {
        let _said_by_the_tests = output(Command::new("ip").args(["netns", verb, name]));
    }
    Ok(())
}

/// The rows that xtask carries out itself.
fn own(is_full: bool) -> Vec<Row> {
    // Fetched here, because two rows may want the same kernel at once. A row whose kernel cannot be had says why.
    let kernels = vm::kernels(if is_full { "all" } else { "oldest" }, Flavour::Cloud);
    let releases = match kernels {
        Ok(kernels) => kernels.into_iter().map(|kernel| kernel.release).collect(),
        Err(_) => vec!["oldest".to_owned()],
    };
    let mut rows: Vec<Own> = releases.into_iter().map(|release| Own::Kernel { release }).collect();
    rows.push(Own::Offloads);
    if is_full {
        let cards = [
            (Card::Virtio, "oldest"),
            (Card::Virtio, "newest"),
            (Card::Igb, "newest"),
            (Card::Vmxnet3, "newest"),
        ];
        rows.extend(cards.map(|(card, kernel)| Own::Card { card, kernel: kernel.to_owned() }));
        rows.extend([Own::Service, Own::Package, Own::Released, Own::Stranger]);
    }
    rows.into_iter().map(rows::own).collect()
}

/// Takes the rows out that have passed before with the same sources, and says so.
fn count(suite: &Suite, rows: Vec<Row>, done: &mut Vec<Done>) -> Vec<Row> {
    let mut left = Vec::new();
    for row in rows {
        let Some((hash, passes)) = suite.counted(&row) else {
            left.push(row);
            continue;
        };
        println!("counted: {} {hash} passed at {} in {:.0} s", row.name, passes.at, passes.seconds);
        done.push(Done { name: row.name, tally: passes.tally, seconds: 0.0, output: String::new() });
    }
    left
}

/// How much of a failed row's output is repeated at the end.
const REPEATED: usize = 60;

/// The table of rows, the failed ones once more, and the closing lines.
fn close(done: &[Done], signal: Option<u8>) -> ExitCode {
    println!();
    let total = done.iter().fold(Tally::default(), |total, row| total.plus(row.tally));
    for Done { name, tally, seconds, .. } in done.iter().filter(|row| !row.tally.is_empty()) {
        let Tally { passed, failed, skipped, deferred, .. } = tally;
        println!(
            "{name:<44} passed {passed:>4}  failed {failed:>3}  skipped {skipped:>3}  deferred {deferred:>3}  {seconds:>6.1} s"
        );
    }
    for row in done.iter().filter(|row| row.tally.failed > 0) {
        let lines: Vec<&str> = row.output.lines().collect();
        println!("\nFAILED: {}\n{}", row.name, lines[lines.len().saturating_sub(REPEATED)..].join("\n"));
    }
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    if in_ci && total.skipped > 0 {
        println!("CI=true: a skipped test is a failure");
    }
    if total.deferred > 0 {
        println!("{} deferred to `--full` or `--data`, and not among the passed", total.deferred);
    }
    if let Some(signal) = signal {
        println!("interrupted by signal {signal}: the rest has not run");
        return ExitCode::from(128 + signal);
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    let is_good = total.failed == 0 && total.passed > 0 && !(in_ci && total.skipped > 0);
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
