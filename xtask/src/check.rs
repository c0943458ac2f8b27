//! `cargo xtask check`: everything that can be said about the tree without running it.
//!
//! All checks run even if an early one fails, so that one call tells everything; the exit code is 1 if any failed.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    command::{cargo, command, must, output},
    facts::Facts,
    layout,
    pieces::Need,
    setup,
};

/// The verb.
pub fn run() -> Result<ExitCode> {
    let facts = setup::ensure(&[Need::Bpf, Need::Check])?;
    // erdp-user includes the BPF object, so even looking at it needs one.
    build::bpf_object()?;
    let mut failed = Vec::new();
    for (name, mut command) in commands(&facts) {
        println!("== {name}");
        if let Err(error) = must(&mut command) {
            println!("{error:#}");
            failed.push(name);
        }
    }
    println!("== layout");
    if let Err(error) = layout() {
        println!("{error:#}");
        failed.push("layout");
    }
    println!("== verifier budget");
    if let Err(error) = verifier_budget() {
        println!("{error:#}");
        failed.push("verifier budget");
    }
    if failed.is_empty() {
        println!("check: all well");
        return Ok(ExitCode::SUCCESS);
    }
    println!("check: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn commands(facts: &Facts) -> Vec<(&'static str, Command)> {
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);
    let mut host = cargo();
    host.args(["clippy", "--all-targets", "--", "-D", "warnings"]);
    let mut bpf = build::bpf_cargo(facts, "clippy");
    bpf.args(["--release", "--target-dir", "target/bpf-build", "--", "-D", "warnings"]);
    let mut bench = build::bpf_cargo(facts, "clippy");
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
    // give the same answer without one.
    let mut deny = cargo();
    deny.args(["deny", "--locked", "check", "licenses", "bans", "sources"]);
    vec![
        ("format", format),
        ("clippy, host crates", host),
        ("clippy, BPF crate", bpf),
        ("clippy, BPF crate with the benchmark", bench),
        ("cargo deny: licences, bans, sources", deny),
        ("typos", command("typos")),
    ]
}

/// What the verifier walks is known only to a kernel that has loaded the object; without root the stack's depth is checked alone.
fn verifier_budget() -> Result<()> {
    must(&mut command(build::erdp()?.with_file_name("erdp-verifier-budget")))
}

fn layout() -> Result<()> {
    let mut list = command("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let files = output(&mut list)
        .context("cannot list the tree's files with `git ls-files`: is this a git checkout?")?;
    let findings = layout::findings(&layout::Tree::read(&files)?);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("the layout rules found {} faults", findings.len());
    }
    Ok(())
}
