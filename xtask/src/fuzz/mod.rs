//! `cargo xtask fuzz`: libFuzzer on the targets of `erdp_tests::fuzz`, by coverage, with a stable compiler.
//!
//! The compiler's own pass for coverage counters is asked for by name (`-Cpasses=sancov-module`), so that no nightly compiler is needed; libFuzzer
//! is compiled by g++ (the crate libfuzzer-sys). All of it is in a target folder of its own, `target/fuzz`, for the host's triple by name, so
//! that build scripts and macros are compiled without counters.
//!
//! A run that ends clean is written down ([`ledger`]) with the hash of the files that the target depends on (`fuzz/targets.json`), and counts
//! for as long as that hash is the same. An input that hurts is in `target/fuzz/found`. Corpora grow in `target/fuzz/corpus`; `--keep` minimizes
//! them into `tests/corpus/fuzz`, which everyday tests replay.

mod ledger;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use self::ledger::{Ledger, Run};
use crate::{
    build,
    command::{cargo, command, must, now, root},
    soak::length,
    test::sources::Sources,
};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Counters in every branch, a table of them, and what comparisons compare.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// What every target depends on.
const SHARED: &[&str] = &["fuzz/", "tests/src/fuzz/mod.rs", "xtask/src/fuzz/"];
/// An input that takes longer is a fault; the machine may be busy.
const INPUT_SECONDS: u32 = 25;
const MEMORY_MIB: u32 = 2_048;
/// Octets of a corpus that are committed, and of one input.
const KEPT_BYTES: usize = 24 << 10;
const KEPT_INPUT_BYTES: usize = 6 << 10;

/// What to look for and for how long.
#[derive(clap::Args)]
pub struct Options {
    /// Targets; their names are in fuzz/targets.json
    #[arg(required_unless_present = "all")]
    targets: Vec<String>,
    /// Every target, one after the other
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// Duration for each target: 90s, 10m, 8h
    #[arg(long = "for", value_name = "TIME", value_parser = length, default_value = "10m")]
    length: Duration,
    /// Run targets that have run clean for this long with the same sources, too
    #[arg(long)]
    fresh: bool,
    /// Minimize what was found into the committed corpus afterwards
    #[arg(long)]
    keep: bool,
}

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    let known = targets()?;
    let names: Vec<&str> = match options.all {
        true => known.keys().map(String::as_str).collect(),
        false => options.targets.iter().map(String::as_str).collect(),
    };
    let sources = Sources::read().map(Sources::without_machine);
    let mut ledger = Ledger::open(&root().join("target/fuzz-ledger.json"));
    let mut waiting = Vec::new();
    for name in names {
        let Some(files) = known.get(name) else {
            let list: Vec<&str> = known.keys().map(String::as_str).collect();
            bail!("there is no fuzz target {name}; there are {}", list.join(", "));
        };
        let hash = sources.as_ref().and_then(|sources| sources.hash(files, "")).unwrap_or_default();
        match ledger.find(name, &hash).filter(|run| run.seconds >= options.length.as_secs()) {
            Some(run) if !options.fresh && !options.keep => println!("counted: {name} {hash} {run}"),
            _ => waiting.push((name, hash)),
        }
    }
    if waiting.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let program = build()?;
    let mut hurt = Vec::new();
    for (name, hash) in waiting {
        let fuzzer = Fuzzer { program: &program, name };
        match fuzzer.run(options.length)? {
            Some(run) => {
                println!("clean: {name} {hash} {run}");
                ledger.note(name, &hash, run)?;
                if options.keep {
                    fuzzer.keep()?;
                }
            }
            None => hurt.push(name),
        }
    }
    if hurt.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("fuzz: faults were found by {}; the inputs are in target/fuzz/found", hurt.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Each target's files.
fn targets() -> Result<std::collections::BTreeMap<String, Vec<String>>> {
    let text = fs::read_to_string(root().join("fuzz/targets.json")).context("fuzz/targets.json")?;
    let listed: Map<String, Value> = serde_json::from_str(&text).context("fuzz/targets.json")?;
    let files = |value: &Value| -> Vec<String> {
        let own = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        own.chain(SHARED.iter().copied()).map(str::to_owned).collect()
    };
    Ok(listed.iter().map(|(name, value)| (name.clone(), files(value))).collect())
}

/// Builds the fuzzer and returns where it is.
fn build() -> Result<PathBuf> {
    build::bpf_object()?;
    let mut build = cargo();
    build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    build.args(["build", "--profile", "fuzz", "--package", "erdp-fuzz", "--target", TRIPLE]);
    must(build.args(["--target-dir", "target/fuzz"]))?;
    Ok(root().join("target/fuzz").join(TRIPLE).join("fuzz/erdp-fuzz"))
}

/// The program with one target.
struct Fuzzer<'a> {
    program: &'a Path,
    name: &'a str,
}

impl Fuzzer<'_> {
    /// The folder that grows.
    fn corpus(&self) -> Result<PathBuf> {
        let folder = root().join("target/fuzz/corpus").join(self.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    fn command(&self) -> std::process::Command {
        let mut fuzzer = command(self.program);
        fuzzer.env("ERDP_FUZZ_TARGET", self.name).stdin(Stdio::null());
        fuzzer
    }

    /// Runs it; `None` where it has found a fault, whose messages are printed. An input that took too long is tried again by itself: a process
    /// that was stopped meanwhile has found nothing, and goes on for the time that is left.
    fn run(&self, length: Duration) -> Result<Option<Run>> {
        let found = root().join("target/fuzz/found");
        fs::create_dir_all(&found)?;
        let log = root().join("target/fuzz").join(format!("{}.log", self.name));
        println!("fuzz: {} for {} s, log {}", self.name, length.as_secs(), log.display());
        let (begin, mut executions) = (Instant::now(), 0);
        loop {
            let left = length.saturating_sub(begin.elapsed()).max(Duration::from_secs(1));
            let status = self.look_for(left, &found, &log)?;
            let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            if status.success() {
                let last = Summary::of(&text).context("no figures in libFuzzer's messages")?;
                let (executions, edges) = (executions + last.executions, last.edges);
                let seconds = begin.elapsed().as_secs();
                return Ok(Some(Run { seconds, executions, edges, at: now() }));
            }
            match too_slow(&text) {
                Some(input) if self.is_quick_alone(&input)? => {
                    println!("fuzz: {} was stopped for a while; {} is no fault", self.name, input.display());
                    executions += Summary::of(&text).map_or(0, |summary| summary.executions);
                    fs::remove_file(&input).with_context(|| format!("cannot remove {}", input.display()))?;
                }
                _ => {
                    let lines: Vec<&str> = text.lines().collect();
                    println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
                    let log = log.display();
                    println!("fault: {} ended with {status}; all of its messages are in {log}", self.name);
                    return Ok(None);
                }
            }
        }
    }

    fn look_for(&self, length: Duration, found: &Path, log: &Path) -> Result<std::process::ExitStatus> {
        let corpus = self.corpus()?;
        let mut fuzzer = self.command();
        fuzzer.env("ERDP_FUZZ_SEEDS", &corpus).arg(&corpus);
        fuzzer.arg(format!("-max_total_time={}", length.as_secs()));
        fuzzer.arg(format!("-timeout={INPUT_SECONDS}")).arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        fuzzer.arg(format!("-artifact_prefix={}/{}-", found.display(), self.name));
        fuzzer.args(["-print_final_stats=1", "-use_value_profile=0"]);
        fuzzer.stdout(fs::File::create(log)?).stderr(fs::File::options().append(true).open(log)?);
        fuzzer.status().with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Whether an input ends in time and well without any other.
    fn is_quick_alone(&self, input: &Path) -> Result<bool> {
        let mut alone = self.command();
        alone.arg(input).arg(format!("-timeout={INPUT_SECONDS}")).stdout(Stdio::null()).stderr(Stdio::null());
        let status = alone.status().with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(status.success())
    }

    /// Minimizes the corpus by what its inputs cover, and writes the small ones into the tree.
    fn keep(&self) -> Result<()> {
        let (corpus, small) = (self.corpus()?, root().join("target/fuzz/kept").join(self.name));
        if small.exists() {
            fs::remove_dir_all(&small)?;
        }
        fs::create_dir_all(&small)?;
        let mut merge = self.command();
        merge.arg("-set_cover_merge=1").arg(&small).arg(&corpus);
        must(merge.stderr(Stdio::null()))?;
        let mut inputs = Vec::new();
        for entry in fs::read_dir(&small)? {
            inputs.push(fs::read(entry?.path())?);
        }
        inputs.sort_by_key(|input| (input.len(), input.clone()));
        let mut room = KEPT_BYTES;
        let found = inputs.len();
        inputs.retain(|input| {
            let fits = input.len() <= KEPT_INPUT_BYTES.min(room) && !input.is_empty();
            room -= if fits { input.len() } else { 0 };
            fits
        });
        let hex = |input: &Vec<u8>| input.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let lines: Vec<String> = inputs.iter().map(hex).collect();
        let head = format!(
            "# Inputs of the fuzz target {0}, minimized; `cargo xtask fuzz {0} --keep` writes them.",
            self.name
        );
        let file = root().join("tests/corpus/fuzz").join(format!("{}.hex", self.name));
        fs::write(&file, format!("{head}\n{}\n", lines.join("\n")).replace("\n\n", "\n"))?;
        println!("kept: {} of {found} inputs of {} that differ in coverage", lines.len(), self.name);
        Ok(())
    }
}

/// libFuzzer's own figures.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    executions: u64,
    edges: u64,
}

impl Summary {
    /// From what libFuzzer prints: `cov:` in each line of status, and the statistics at the end.
    fn of(text: &str) -> Option<Summary> {
        let number = |word: &str| word.parse().ok();
        let edges = text.lines().rev().find_map(|line| {
            let (_, rest) = line.split_once(" cov: ")?;
            number(rest.split_whitespace().next()?)
        })?;
        let executions = text
            .lines()
            .rev()
            .find_map(|line| number(line.strip_prefix("stat::number_of_executed_units:")?.trim()))?;
        Some(Summary { executions, edges })
    }
}

/// The input that took too long, if that has ended a run.
fn too_slow(text: &str) -> Option<PathBuf> {
    let written = |line: &str| Some(line.split_once("Test unit written to ")?.1.trim().to_owned());
    let is_timeout = text.lines().any(|line| line.contains("ERROR: libFuzzer: timeout"));
    text.lines().find_map(written).filter(|_| is_timeout).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_took_too_long_is_told_from_one_that_hurts() {
        let ended = |how: &str| {
            format!(
                "artifact_prefix='/x/state-'; Test unit written to /x/state-timeout-0b\n==7== ERROR: libFuzzer: {how}\n"
            )
        };
        assert_eq!(too_slow(&ended("timeout after 296 seconds")), Some(PathBuf::from("/x/state-timeout-0b")));
        assert_eq!(too_slow(&ended("deadly signal")), None);
        assert_eq!(too_slow("Done 7 runs in 1 second(s)"), None);
    }

    #[test]
    fn libfuzzers_figures_are_those_of_its_last_status_and_of_its_statistics() {
        let text = "#2\tINITED cov: 17 ft: 18 corp: 1/1b\n#900\tNEW    cov: 412 ft: 981 corp: 9/90b lim: 4\n\
                    Done 90210 runs in 11 second(s)\nstat::number_of_executed_units: 90210\nstat::peak_rss_mb: 51\n";
        assert_eq!(Summary::of(text), Some(Summary { executions: 90_210, edges: 412 }));
        assert_eq!(Summary::of("no fuzzer"), None);
    }

    #[test]
    fn every_target_depends_on_its_own_files_and_on_those_of_all() {
        let targets = targets().expect("the list");
        assert!(targets.len() >= 10, "{targets:?}");
        for (name, files) in targets {
            assert!(files.iter().any(|file| file.starts_with("tests/src/fuzz/")), "{name}");
            assert!(files.iter().any(|file| file == "fuzz/"), "{name}");
        }
    }
}
