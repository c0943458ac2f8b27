//! Building and running the workspace's test programs, and reading what they print.
//!
//! cargo builds and names the programs (`--message-format=json`); each is run by itself, so that its lines can be told apart
//! while they pass through to the terminal. [`Tally`] is the pure part: it counts libtest's closing lines and `SKIP:` lines.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{cargo, line, root};

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Ended well.
    pub passed: u64,
    /// Ended badly.
    pub failed: u64,
    /// Could not be run here, by their own word (`SKIP: reason`) or by libtest's.
    pub skipped: u64,
    /// Closing lines seen: a program that dies half-way has none.
    closings: u64,
}

impl Tally {
    /// Counts what one line of a test program's output tells. libtest: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`
    pub fn line(&mut self, line: &str) {
        // With --nocapture the line may begin in the middle: `test name ... SKIP: reason`.
        if line.starts_with("SKIP:") || (line.starts_with("test ") && line.contains(" ... SKIP:")) {
            self.skipped += 1;
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        self.closings += 1;
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }

    /// The tally of a program that has ended. A test that printed SKIP has "passed" by libtest's count: it is taken out there.
    /// A program that failed without saying so (a crash, an abort) counts as one failure.
    pub fn ended(mut self, success: bool) -> Tally {
        self.passed = self.passed.saturating_sub(self.skipped);
        if (!success || self.closings == 0) && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// One test that is no program of libtest's.
    pub fn of_one(passed: bool) -> Tally {
        Tally { passed: u64::from(passed), failed: u64::from(!passed), ..Tally::default() }
    }

    /// One that could not be run here.
    pub fn skip() -> Tally {
        Tally { skipped: 1, ..Tally::default() }
    }

    /// Was there no test?
    pub fn is_empty(self) -> bool {
        self.passed + self.failed + self.skipped == 0
    }

    /// Both together.
    pub fn plus(self, other: Tally) -> Tally {
        Tally {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            closings: self.closings + other.closings,
        }
    }
}

/// A test program that cargo has built.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// `package target`, as in `erdp-tests lab_end_to_end`.
    pub name: String,
    executable: PathBuf,
    folder: PathBuf,
}

/// Builds the test programs of the workspace's host crates.
pub fn build() -> Result<Vec<Program>> {
    build_some(&[])
}

/// The same for what `arguments` of `cargo test` choose.
pub fn build_some(arguments: &[&str]) -> Result<Vec<Program>> {
    let mut cargo = cargo();
    cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]).args(arguments);
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", line(&cargo)))?;
    if !output.status.success() {
        bail!("`{}` failed; the compiler's messages stand above", line(&cargo));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(program).collect())
}

fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    let executable = message["executable"].as_str()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let folder = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let package = package(message["package_id"].as_str()?)?;
    let target = message["target"]["name"].as_str()?;
    Some(Program { name: format!("{package} {target}"), executable: executable.into(), folder })
}

/// The name in a package id: `path+file:///x/tests#erdp-tests@0.1.0`, or `path+file:///x/xtask#0.1.0` where the folder is
/// called like the package.
fn package(id: &str) -> Option<&str> {
    let (path, version) = id.rsplit_once('#')?;
    version.split_once('@').map(|(name, _)| name).or_else(|| path.rsplit('/').next())
}

impl Program {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.executable
    }

    /// Runs it; its output goes to the terminal. `arguments` are libtest's; `long` asks property and
    /// differential tests for more cases.
    pub fn run(&self, arguments: &[&str], long: bool) -> Result<Tally> {
        let mut command = Command::new(&self.executable);
        command.args(arguments).current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        if long {
            command.env("PROPTEST_CASES", "2560").env("ERDP_TEST_FULL", "1");
        }
        tally(&mut command)
    }
}

/// The tests in the documentation of the libraries.
pub fn documentation() -> Result<Tally> {
    let mut cargo = cargo();
    cargo.args(["test", "--doc", "--quiet", "--workspace", "--exclude", "erdp-ebpf"]).current_dir(root());
    tally(&mut cargo)
}

fn tally(command: &mut Command) -> Result<Tally> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).split(b'\n') {
            let text = text?;
            let text = String::from_utf8_lossy(&text);
            tally.line(&text);
            println!("{text}");
        }
    }
    Ok(tally.ended(child.wait()?.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str, success: bool) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.line(line));
        tally.ended(success)
    }

    #[test]
    fn closing_lines_are_added_up() {
        let output = "running 3 tests\ntest a ... ok\n\
                      test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s";
        let tally = read(output, false);
        assert_eq!((tally.passed, tally.failed, tally.skipped), (4, 2, 0));
    }

    #[test]
    fn a_test_that_says_skip_is_skipped_and_not_passed() {
        let rows = [
            "SKIP: loading BPF programs needs root\n",
            "test the_lab_works ... SKIP: loading BPF programs needs root\n",
        ];
        for row in rows {
            let tally =
                read(&format!("{row}test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n"), true);
            assert_eq!((tally.passed, tally.failed, tally.skipped), (1, 0, 1), "{row}");
        }
    }

    #[test]
    fn a_program_that_dies_without_a_closing_line_has_failed() {
        assert_eq!(read("running 3 tests\n", false).failed, 1);
        assert_eq!(read("running 3 tests\n", true).failed, 1);
        assert_eq!(read("", false).failed, 1);
    }

    #[test]
    fn cargo_messages_name_test_programs_only() {
        let test = r#"{"reason":"compiler-artifact","manifest_path":"/x/tests/Cargo.toml",
            "package_id":"path+file:///x/tests#erdp-tests@0.1.0","target":{"name":"lab_end_to_end"},"profile":{"test":true},"executable":"/x/target/debug/deps/lab_end_to_end-1"}"#;
        let named = program(&test.replace('\n', "")).map(|program| program.name);
        assert_eq!(named.as_deref(), Some("erdp-tests lab_end_to_end"));
        assert_eq!(program(&test.replace('\n', "").replace("true", "false")), None);
        assert_eq!(package("path+file:///x/xtask#0.1.0"), Some("xtask"));
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
