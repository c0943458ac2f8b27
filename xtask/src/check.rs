//! `cargo xtask check`: everything that can be said about the tree without running it.
//!
//! All checks run even if an early one fails, so that one call tells everything; the exit code is 1 if any failed.

use std::{
    fs,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    advisories, build,
    command::{cargo, command, must, output, root},
    facts::Facts,
    layout, msrv,
    pieces::Need,
    setup, structure,
};

/// A check that xtask makes itself.
type Own = fn() -> Result<()>;

/// The verb.
pub fn run() -> Result<ExitCode> {
    let facts = setup::ensure(&[Need::Bpf, Need::Check])?;
    // erdp-user includes the BPF object, so even looking at it needs one.
    build::bpf_object()?;
    let mut failed = Vec::new();
    for (name, mut command) in commands(&facts)? {
        println!("== {name}");
        if let Err(error) = must(&mut command) {
            println!("{error:#}");
            failed.push(name);
        }
    }
    let own: [(&'static str, Own); 5] = [
        ("layout", layout),
        ("structure", structure),
        ("verifier budget", verifier_budget),
        ("advisories", advisories),
        ("oldest compiler", || msrv::check().map(|said| println!("{said}"))),
    ];
    for (name, check) in own {
        println!("== {name}");
        if let Err(error) = check() {
            println!("{error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("check: all well");
        return Ok(ExitCode::SUCCESS);
    }
    println!("check: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn commands(facts: &Facts) -> Result<Vec<(&'static str, Command)>> {
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);
    let mut host = cargo();
    host.args(["clippy", "--all-targets", "--", "-D", "warnings"]);
    let mut bpf = build::bpf_cargo(facts, "clippy")?;
    bpf.args(["--release", "--target-dir", "target/bpf-build", "--", "-D", "warnings"]);
    let mut bench = build::bpf_cargo(facts, "clippy")?;
    bench.args([
        "--release",
        "--features",
        "bench",
        "--target-dir",
        "target/bpf-bench",
        "--",
        "-D",
        "warnings",
    ]);
    // Advisories are not asked for: their database is fetched over the network at run time, and a check of the tree must
    // give the same answer without one. A list of our own is asked instead.
    let mut deny = cargo();
    deny.args(["deny", "--locked", "check", "licenses", "bans", "sources"]);
    Ok(vec![
        ("format", format),
        ("clippy, host crates", host),
        ("clippy, BPF crate", bpf),
        ("clippy, BPF crate with the benchmark", bench),
        ("cargo deny: licences, bans, sources", deny),
        ("typos", command("typos")),
    ])
}

/// What the verifier walks is known only to a kernel that has loaded the object; without root the stack's depth is checked alone.
fn verifier_budget() -> Result<()> {
    must(&mut command(build::erdp()?.with_file_name("erdp-verifier-budget")))
}

/// The lock against the list of published faults. What ought to be looked at is told, and fails nothing: a tree does not get worse with
/// the day on which it is checked.
fn advisories() -> Result<()> {
    let read =
        |name: &str| fs::read_to_string(root().join(name)).with_context(|| format!("cannot read {name}"));
    let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
    let found = advisories::findings(&read("Cargo.lock")?, &read("advisories.toml")?, today)?;
    for note in &found.notes {
        println!("note: {note}");
    }
    for fault in &found.faults {
        println!("{fault}");
    }
    if !found.faults.is_empty() {
        bail!("{} versions in Cargo.lock have published faults", found.faults.len());
    }
    println!("{} crates have none of {} published faults", found.crates, found.advisories);
    Ok(())
}

/// How the modules hang together is printed; what has been cleaned does not come back.
fn structure() -> Result<()> {
    let structure = structure::of(tree()?.texts());
    println!("{structure}");
    structure.faults.iter().for_each(|fault| println!("{fault}"));
    if !structure.faults.is_empty() {
        bail!("{} names where nothing may have a clock or a socket", structure.faults.len());
    }
    Ok(())
}

fn layout() -> Result<()> {
    let findings = layout::findings(&tree()?);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("the layout rules found {} faults", findings.len());
    }
    Ok(())
}

/// The texts of the tree.
fn tree() -> Result<layout::Tree> {
    let mut list = command("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let files = output(&mut list)
        .context("cannot list the tree's files with `git ls-files`: is this a git checkout?")?;
    layout::Tree::read(&files)
}
