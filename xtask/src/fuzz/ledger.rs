//! Which targets have run clean, for how long, with which sources: `target/fuzz-ledger.json`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// A clean run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How long.
    pub seconds: u64,
    /// Inputs that were tried.
    pub executions: u64,
    /// Edges of the control flow that were reached.
    pub edges: u64,
    /// When it ended.
    pub at: String,
}

impl fmt::Display for Run {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, executions, edges, at } = self;
        write!(to, "{executions} executions in {seconds} s, {edges} edges, at {at}")
    }
}

/// The file.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    runs: Value,
}

impl Ledger {
    /// Reads the file; what cannot be read is as good as nothing.
    pub fn open(path: &Path) -> Ledger {
        let read = fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok());
        Ledger { path: path.to_owned(), runs: read.filter(Value::is_object).unwrap_or_else(|| json!({})) }
    }

    /// The longest clean run of a target with these sources.
    pub fn find(&self, target: &str, hash: &str) -> Option<Run> {
        let run = self.runs.get(target)?.get(hash).filter(|_| !hash.is_empty())?;
        let count = |key: &str| run.get(key)?.as_u64();
        Some(Run {
            seconds: count("seconds")?,
            executions: count("executions")?,
            edges: count("edges")?,
            at: run.get("at")?.as_str()?.to_owned(),
        })
    }

    /// Writes a clean run down, unless a longer one is known.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(&mut self, target: &str, hash: &str, run: Run) -> Result<()> {
        if hash.is_empty() || self.find(target, hash).is_some_and(|known| known.seconds > run.seconds) {
            return Ok(());
        }
        let Run { seconds, executions, edges, at } = run;
        self.runs[target] = json!({
            hash: {"seconds": seconds, "executions": executions, "edges": edges, "at": at}
        });
        let draft = self.path.with_extension("new");
        fs::write(&draft, serde_json::to_string_pretty(&self.runs)?)
            .and_then(|()| fs::rename(&draft, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_run_counts_for_as_long_as_the_hash_is_the_same() {
        let path = std::env::temp_dir().join(format!("erdp-fuzz-ledger-{}.json", std::process::id()));
        let run = |seconds| Run { seconds, executions: 9, edges: 4, at: "2026".to_owned() };
        let mut ledger = Ledger::open(&path);
        assert_eq!(ledger.find("bfd", "abc"), None);
        ledger.note("bfd", "abc", run(600)).expect("written");
        ledger.note("bfd", "abc", run(60)).expect("written");
        let ledger = Ledger::open(&path);
        assert_eq!(ledger.find("bfd", "abc"), Some(run(600)), "the longer one stays");
        assert_eq!(ledger.find("bfd", "xyz"), None);
        assert_eq!(ledger.find("config", "abc"), None);
        fs::remove_file(&path).expect("there");
    }
}
