//! `cargo xtask verify`: every program loaded, and the packet tables run, on other kernels than this machine's.
//!
//! For each kernel a virtual machine is booted ([`crate::vm`]) that holds the verifier's budget against what that kernel's verifier
//! walks, and runs the tests that need nothing but a kernel. One line for each kernel says how it ended.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    build, cargo_tests,
    command::root,
    tally::Tally,
    vm::{
        self,
        guest::Job,
        kernels::{Flavour, Kernel},
    },
};

/// Options of `verify`.
#[derive(clap::Args)]
pub struct Options {
    /// Kernels: a series such as 6.1, several separated by commas, or `all` that the package sources offer
    #[arg(long, value_name = "KERNELS", default_value = "all")]
    kernel: String,
    /// Test programs of tests/tests to run there, separated by commas
    #[arg(long, value_name = "TESTS", value_delimiter = ',', default_values = TESTS)]
    test: Vec<String>,
}

/// The tests that need nothing but a kernel.
const TESTS: [&str; 1] = ["packet_tables"];
/// By TCG on a busy machine; by KVM it is seconds.
const LIMIT: Duration = Duration::from_secs(600);

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    build::bpf_object()?;
    let kernels = vm::kernels(&options.kernel, Flavour::Cloud)?;
    let job = job(&options.test)?;
    let mut rows = Vec::new();
    for kernel in &kernels {
        println!("\n== kernel {}", kernel.release);
        rows.push((kernel, verify(kernel, &job)));
    }
    println!();
    let mut bad = false;
    for (kernel, result) in rows {
        let row = match &result {
            Ok((row, _)) => row.clone(),
            Err(error) => format!("FAILED: {error:#}"),
        };
        bad |= result.is_err();
        println!("kernel {:<28} {row}", kernel.release);
    }
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A row of `cargo xtask test`: one kernel, by its release or as `oldest`. Where there can be no virtual machine, it is skipped and says why.
pub fn as_test(asked: &str) -> Tally {
    let kernel = match vm::kernels(asked, Flavour::Cloud).map(|mut kernels| kernels.pop()) {
        Ok(Some(kernel)) => kernel,
        Ok(None) => return vm::skip("the VM lab", &anyhow::anyhow!("there is no kernel")),
        Err(error) => return vm::skip("the VM lab", &error),
    };
    // The programs that `test` has built: a build of one of them alone has other features and would begin anew.
    let built = cargo_tests::build().and_then(|tests| job_of(&TESTS.map(str::to_owned), &tests));
    match built.and_then(|job| verify(&kernel, &job)) {
        Ok((row, tests)) => {
            println!("kernel {}: {row}", kernel.release);
            tests
        }
        Err(error) => {
            println!("kernel {}: FAILED: {error:#}", kernel.release);
            Tally::of_one(false)
        }
    }
}

/// The programs that the guests run, built.
fn job(names: &[String]) -> Result<Job> {
    let chosen = names.iter().flat_map(|name| ["--test", name]);
    let tests =
        cargo_tests::build_some(&["--package", "erdp-tests"].into_iter().chain(chosen).collect::<Vec<_>>())?;
    job_of(names, &tests)
}

/// The same of what has been built.
fn job_of(names: &[String], tests: &[cargo_tests::Program]) -> Result<Job> {
    // cargo builds a package's programs with its tests.
    let budget = root().join("target/debug/erdp-verifier-budget");
    let mut programs = vec![budget.clone()];
    // Other tests start the daemon, or the lab.
    if names.iter().any(|name| !TESTS.contains(&name.as_str())) {
        let erdp = build::erdp()?;
        programs.extend([erdp.with_file_name("erdp-lab"), erdp]);
    }
    let mut script = format!("failed=0\n'{}' || failed=1\n", budget.display());
    for name in names {
        let wanted = format!("erdp-tests {name}");
        let test = tests.iter().find(|program| program.name == wanted);
        let path: PathBuf =
            test.with_context(|| format!("there is no test program {name}"))?.path().to_owned();
        script += &format!("(cd tests && '{}' --test-threads=1) || failed=1\n", path.display());
        programs.push(path);
    }
    script += "exit $failed";
    let files = vec![root().join("erdp-ebpf/verifier-budget.toml"), root().join("tests/Cargo.toml")];
    Ok(Job { programs, files, script, ..Job::default() })
}

/// One kernel; a sentence about how it went, and the tests that were run.
fn verify(kernel: &Kernel, job: &Job) -> Result<(String, Tally)> {
    let mut tally = Tally::default();
    let mut counts = Vec::new();
    let outcome = vm::run(kernel, job, &[], LIMIT, &mut |line| {
        println!("  | {line}");
        tally.line(line);
        if let Some((program, count)) = walked(line) {
            counts.push(format!("{program} {count}"));
        }
    })?;
    let tally = tally.ended(outcome.status == 0);
    let row = format!(
        "walked: {}; tests: {} passed, {} failed, {} skipped; {} {:.0} s",
        counts.join(", "),
        tally.passed,
        tally.failed,
        tally.skipped,
        outcome.accelerator,
        outcome.took.as_secs_f32()
    );
    anyhow::ensure!(outcome.status == 0, "{row}");
    Ok((row, tally))
}

/// Program and count of a line of `erdp-verifier-budget`.
fn walked(line: &str) -> Option<(&str, &str)> {
    let (left, _) = line.split_once(" instructions walked")?;
    let (program, count) = left.split_once(' ')?;
    Some((program, count.trim()))
}
