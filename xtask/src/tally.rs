//! How many tests ended how, by what the test programs print: libtest's closing lines, `SKIP:` and `DEFERRED:`.
//!
//! What does not run is not passed. A test that is only one of `cargo xtask test --full` is marked so, and libtest counts it as ignored. A test that
//! cannot run on this machine prints `SKIP: reason`, and one that needs what ERDP_DATA names prints `DEFERRED: reason`. libtest counts
//! these two as passed; they are taken out of its count here.

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Ran and held.
    pub passed: u64,
    /// Ended badly.
    pub failed: u64,
    /// Cannot run on this machine.
    pub skipped: u64,
    /// Left for another run.
    pub deferred: u64,
    /// libtest's own count of tests that are marked as long.
    ignored: u64,
    /// Counted as skipped by a closing line of our own.
    unrun: u64,
    /// Closing lines seen: a program that dies half-way has none.
    closings: u64,
    /// What is read is what a test has printed: a closing line in it is no closing line of the program's.
    is_captured: bool,
}

impl Tally {
    /// Counts what one line of a test program's output says. libtest: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`
    pub fn line(&mut self, line: &str) {
        if says(line, "SKIP:") {
            self.skipped += 1;
        }
        if says(line, "DEFERRED:") {
            self.deferred += 1;
        }
        // With --show-output: a heading for each test, and then the list of their names.
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.is_captured = true;
        } else if line == "successes:" || line == "failures:" {
            self.is_captured = false;
        }
        if !self.is_captured {
            self.result(line);
        }
    }

    /// The same by closing lines alone, for what counts its own `SKIP:` lines.
    pub fn result(&mut self, line: &str) {
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
                "ignored" => self.ignored += count,
                "skipped" => self.unrun += count,
                _ => {}
            }
        }
    }

    /// The tally of a program that has ended. A program that failed without a failed test (a crash, an abort) counts as one failure.
    pub fn ended(mut self, success: bool) -> Tally {
        self.passed = self.passed.saturating_sub(self.skipped + self.deferred);
        self.deferred += std::mem::take(&mut self.ignored);
        self.skipped += std::mem::take(&mut self.unrun);
        if (!success || self.closings == 0) && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// One test that is no program of libtest's.
    pub fn of_one(passed: bool) -> Tally {
        Tally { passed: u64::from(passed), failed: u64::from(!passed), ..Tally::default() }
    }

    /// What a finished program has been counted as.
    pub fn of(passed: u64, failed: u64, skipped: u64, deferred: u64) -> Tally {
        Tally { passed, failed, skipped, deferred, ..Tally::default() }
    }

    /// One that cannot run on this machine.
    pub fn skip() -> Tally {
        Tally { skipped: 1, ..Tally::default() }
    }

    /// Did no test run, and is none left out?
    pub fn is_empty(self) -> bool {
        self.passed + self.failed + self.skipped + self.deferred == 0
    }

    /// Both together.
    pub fn plus(self, other: Tally) -> Tally {
        Tally {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            deferred: self.deferred + other.deferred,
            ignored: self.ignored + other.ignored,
            unrun: self.unrun + other.unrun,
            closings: self.closings + other.closings,
            is_captured: false,
        }
    }

    /// A closing line like libtest's, for a row that xtask runs as a program of its own: read by [`Tally::result`] again.
    pub fn closing(self) -> String {
        let word = if self.failed == 0 { "ok" } else { "FAILED" };
        format!(
            "test result: {word}. {} passed; {} failed; {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Whether a line begins with this word; with --nocapture it may begin in the middle: `test name ... SKIP: reason`.
fn says(line: &str, word: &str) -> bool {
    line.starts_with(word) || (line.starts_with("test ") && line.contains(&format!(" ... {word}")))
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
                      test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s";
        let tally = read(output, false);
        assert_eq!((tally.passed, tally.failed, tally.skipped, tally.deferred), (4, 2, 0, 1));
    }

    #[test]
    fn what_a_test_prints_is_no_closing_line() {
        let output = "running 2 tests\n\nsuccesses:\n\n---- a stdout ----\ntest result: ok. 9 passed; 0 failed; 0 ignored\n\n\
                      successes:\n    a\n    b\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(read(output, true).passed, 2);
        assert_eq!(
            read("---- a stdout ----\ntest result: ok. 9 passed; 0 failed; 0 ignored\n", true).failed,
            1
        );
    }

    #[test]
    fn a_test_that_says_skip_or_deferred_is_not_passed() {
        let rows = [
            ("SKIP: loading BPF programs needs root\n", (1, 0, 1, 0)),
            ("test the_lab_works ... SKIP: loading BPF programs needs root\n", (1, 0, 1, 0)),
            ("DEFERRED: only with `cargo xtask test --full`\n", (1, 0, 0, 1)),
            ("test the_lab_works ... DEFERRED: only with ERDP_DATA\n", (1, 0, 0, 1)),
            ("  a line about DEFERRED: and SKIP:\n", (2, 0, 0, 0)),
        ];
        for (row, expected) in rows {
            let tally =
                read(&format!("{row}test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n"), true);
            let Tally { passed, failed, skipped, deferred, .. } = tally;
            assert_eq!((passed, failed, skipped, deferred), expected, "{row}");
        }
    }

    #[test]
    fn a_program_that_dies_without_a_closing_line_has_failed() {
        assert_eq!(read("running 3 tests\n", false).failed, 1);
        assert_eq!(read("running 3 tests\n", true).failed, 1);
        assert_eq!(read("", false).failed, 1);
    }

    #[test]
    fn a_closing_line_of_our_own_is_read_as_it_was_meant() {
        let tally = Tally { passed: 3, failed: 1, skipped: 2, ..Tally::default() };
        let mut read = Tally::default();
        read.result("SKIP: no QEMU");
        read.result(&tally.closing());
        let Tally { passed, failed, skipped, .. } = read.ended(false);
        assert_eq!((passed, failed, skipped), (3, 1, 2));
    }
}
