//! Which rows have passed, with which sources: `target/test-ledger.json`.
//!
//! A row is known by its name and the hash of its sources. For each mode (everyday, full) the ledger has how often the row has passed in
//! a row, when, how long it took and what was counted. A failure takes all passes back. Only whole passes are written down: a row with a
//! skipped test is not one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::tally::Tally;

/// So many hashes of a row are kept: somebody who goes back and forth between branches runs nothing twice.
const KEPT: usize = 8;

/// Everyday or full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// `cargo xtask test`.
    Everyday,
    /// With `--full`.
    Full,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Everyday => "everyday",
            Mode::Full => "full",
        }
    }
}

/// What is known of a row with one hash in one mode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passes {
    /// How often it has passed, without a failure in between.
    pub passes: u64,
    /// When it last did.
    pub at: String,
    /// How long it then took, in seconds.
    pub seconds: f64,
    /// What was counted then.
    pub tally: Tally,
}

/// Of one hash.
type Modes = BTreeMap<Mode, Passes>;

/// The file.
#[derive(Debug, Default)]
pub struct Ledger {
    path: Option<PathBuf>,
    /// By name; the newest hash last.
    rows: BTreeMap<String, Vec<(String, Modes)>>,
}

impl Ledger {
    /// Reads the file; what cannot be read is as good as nothing.
    pub fn open(path: &Path) -> Ledger {
        let text = fs::read_to_string(path).unwrap_or_default();
        Ledger { path: Some(path.to_owned()), ..Ledger::parse(&text).unwrap_or_default() }
    }

    /// What is known of a row.
    pub fn find(&self, name: &str, hash: &str, mode: Mode) -> Option<&Passes> {
        let (_, modes) = self.rows.get(name)?.iter().find(|(known, _)| known == hash)?;
        modes.get(&mode).filter(|it| it.passes > 0)
    }

    /// The pass that stands for a run of a row in `mode`: one of `--full` wants one of `--full`, unless that adds nothing to the row.
    pub fn counts(&self, name: &str, hash: &str, mode: Mode, is_longer_in_full: bool) -> Option<&Passes> {
        let other = if mode == Mode::Full && !is_longer_in_full { Some(Mode::Everyday) } else { None };
        self.find(name, hash, mode).or_else(|| self.find(name, hash, other?))
    }

    /// The last known time of a row, whatever it held then.
    pub fn seconds(&self, name: &str, mode: Mode) -> Option<f64> {
        let known = self.rows.get(name)?.iter().rev().find_map(|(_, modes)| modes.get(&mode))?;
        (known.seconds > 0.0).then_some(known.seconds)
    }

    /// Writes down how a row has ended.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(
        &mut self,
        name: &str,
        hash: &str,
        mode: Mode,
        (tally, took, at): (Tally, Duration, String),
    ) -> Result<()> {
        let hashes = self.rows.entry(name.to_owned()).or_default();
        let place = hashes.iter().position(|(known, _)| known == hash);
        let (_, mut modes) =
            place.map_or_else(|| (hash.to_owned(), BTreeMap::new()), |place| hashes.remove(place));
        if tally.failed > 0 {
            // A pass of either mode is worth nothing where the other one fails.
            modes.values_mut().for_each(|known| known.passes = 0);
        } else if tally.skipped == 0 && tally.passed + tally.deferred > 0 {
            let known = modes.entry(mode).or_default();
            *known = Passes { passes: known.passes + 1, at, seconds: took.as_secs_f64(), tally };
        }
        hashes.push((hash.to_owned(), modes));
        let old = hashes.len().saturating_sub(KEPT);
        hashes.drain(..old);
        self.write()
    }

    fn write(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        // In one step: an interrupted run leaves the old file or the new one.
        let draft = path.with_extension("new");
        let text = serde_json::to_string_pretty(&self.to_json()).context("the ledger is no JSON")?;
        fs::write(&draft, text).with_context(|| format!("cannot write {}", draft.display()))?;
        fs::rename(&draft, path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn to_json(&self) -> Value {
        let passes = |mode: Mode, it: &Passes| {
            let Tally { passed, deferred, .. } = it.tally;
            json!({
                "mode": mode.name(), "passes": it.passes, "at": it.at, "seconds": it.seconds, "passed": passed, "deferred": deferred
            })
        };
        let hashes = |hashes: &[(String, Modes)]| -> Value {
            let of =
                |modes: &Modes| -> Vec<Value> { modes.iter().map(|(mode, it)| passes(*mode, it)).collect() };
            hashes.iter().map(|(hash, modes)| json!({"sources": hash, "runs": of(modes)})).collect()
        };
        let rows: serde_json::Map<String, Value> =
            self.rows.iter().map(|(name, it)| (name.clone(), hashes(it))).collect();
        json!({"version": 1, "rows": rows})
    }

    fn parse(text: &str) -> Option<Ledger> {
        let file: Value = serde_json::from_str(text).ok()?;
        if file["version"] != 1 {
            return None;
        }
        let passes = |run: &Value| {
            let mode = if run["mode"] == "full" { Mode::Full } else { Mode::Everyday };
            let count = |key: &str| run[key].as_u64().unwrap_or_default();
            let tally = Tally::of(count("passed"), 0, 0, count("deferred"));
            let at = run["at"].as_str().unwrap_or_default().to_owned();
            (
                mode,
                Passes {
                    passes: count("passes"),
                    at,
                    seconds: run["seconds"].as_f64().unwrap_or_default(),
                    tally,
                },
            )
        };
        let hash = |entry: &Value| {
            let runs = entry["runs"].as_array()?.iter().map(passes).collect();
            Some((entry["sources"].as_str()?.to_owned(), runs))
        };
        let rows = file["rows"].as_object()?.iter().map(|(name, hashes)| {
            let hashes = hashes.as_array().into_iter().flatten().filter_map(hash).collect();
            (name.clone(), hashes)
        });
        Some(Ledger { path: None, rows: rows.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(passed: u64, failed: u64, skipped: u64) -> (Tally, Duration, String) {
        (Tally::of(passed, failed, skipped, 0), Duration::from_secs(7), "2026-01-01T00:00:00Z".to_owned())
    }

    fn passes(ledger: &Ledger, hash: &str, mode: Mode) -> u64 {
        ledger.find("a", hash, mode).map_or(0, |it| it.passes)
    }

    #[test]
    fn passes_of_the_same_sources_add_up_and_a_failure_takes_them_back() {
        let mut ledger = Ledger::default();
        for expected in 1..=3 {
            ledger.note("a", "1", Mode::Everyday, ended(4, 0, 0)).expect("nothing is written");
            assert_eq!(passes(&ledger, "1", Mode::Everyday), expected);
        }
        assert_eq!(passes(&ledger, "2", Mode::Everyday), 0, "other sources");
        assert_eq!(passes(&ledger, "1", Mode::Full), 0, "another mode");
        ledger.note("a", "1", Mode::Full, ended(3, 1, 0)).expect("nothing is written");
        assert_eq!(passes(&ledger, "1", Mode::Everyday), 0);
    }

    #[test]
    fn a_row_with_a_skipped_test_or_without_any_has_not_passed() {
        let mut ledger = Ledger::default();
        for (passed, skipped) in [(4, 1), (0, 0)] {
            ledger.note("a", "1", Mode::Full, ended(passed, 0, skipped)).expect("nothing is written");
            assert_eq!(passes(&ledger, "1", Mode::Full), 0);
        }
    }

    #[test]
    fn a_full_run_counts_an_everyday_pass_only_where_full_adds_nothing() {
        let mut ledger = Ledger::default();
        ledger.note("a", "1", Mode::Everyday, ended(4, 0, 0)).expect("nothing is written");
        assert!(ledger.counts("a", "1", Mode::Full, false).is_some());
        assert!(ledger.counts("a", "1", Mode::Full, true).is_none());
        assert!(ledger.counts("a", "2", Mode::Full, false).is_none());
        ledger.note("b", "1", Mode::Full, ended(4, 0, 0)).expect("nothing is written");
        assert!(ledger.counts("b", "1", Mode::Full, true).is_some());
        assert!(ledger.counts("b", "1", Mode::Everyday, true).is_none());
    }

    #[test]
    fn what_is_written_is_read_again_and_what_is_no_ledger_is_an_empty_one() {
        let mut ledger = Ledger::default();
        for hash in 0..KEPT + 3 {
            ledger.note("a", &hash.to_string(), Mode::Full, ended(4, 0, 0)).expect("nothing is written");
        }
        let again = Ledger::parse(&ledger.to_json().to_string()).expect("it is one");
        assert_eq!(again.rows, ledger.rows);
        assert_eq!(again.rows["a"].len(), KEPT);
        assert_eq!(again.seconds("a", Mode::Full), Some(7.0));
        for text in ["", "{}", r#"{"version":2,"rows":{}}"#, "[1]"] {
            assert!(Ledger::parse(text).is_none(), "{text}");
        }
    }
}
