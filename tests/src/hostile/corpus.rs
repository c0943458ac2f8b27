//! Committed inputs: one a line in hex, after it the outcome that it was kept for.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// More than so many are not kept: a corpus is for reading too.
const MOST: usize = 250;
/// Nor longer ones.
const LONGEST_BYTES: usize = 160;

/// The inputs of one target, and the outcomes that are known.
pub struct Corpus {
    file: PathBuf,
    /// The inputs, the committed ones first.
    pub inputs: Vec<Vec<u8>>,
    outcomes: BTreeSet<String>,
    fresh: Vec<(Vec<u8>, String)>,
    committed: usize,
}

impl Corpus {
    /// The committed corpus of a name.
    pub fn load(name: &str) -> Result<Self> {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{name}.hex"));
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut inputs = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let hex = line.split_whitespace().next().unwrap_or_default();
            let bytes = from_hex(hex)
                .with_context(|| format!("{}:{}: not a line of hex", file.display(), number + 1))?;
            inputs.push(bytes);
        }
        let committed = inputs.len();
        Ok(Self { file, inputs, outcomes: BTreeSet::new(), fresh: Vec::new(), committed })
    }

    /// Notes what became of an input; one with a new outcome is mutated further from now on.
    pub fn note(&mut self, input: &[u8], outcome: String) {
        if self.outcomes.contains(&outcome) {
            return;
        }
        self.outcomes.insert(outcome.clone());
        if !input.is_empty() && !self.inputs.iter().any(|known| known == input) {
            self.inputs.push(input.to_vec());
            self.fresh.push((input.to_vec(), outcome));
        }
    }

    /// How many outcomes there were, how many inputs are committed, and how many were found to be worth it.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.outcomes.len(), self.committed, self.fresh.len())
    }

    /// Adds what was found to the file, if `ERDP_GROW` is set.
    pub fn grow(&self) -> Result<()> {
        if std::env::var_os("ERDP_GROW").is_none() {
            return Ok(());
        }
        let mut file = fs::OpenOptions::new().append(true).open(&self.file)?;
        let short = self.fresh.iter().filter(|(input, _)| input.len() <= LONGEST_BYTES);
        for (input, outcome) in short.take(MOST.saturating_sub(self.committed)) {
            writeln!(file, "{} {outcome}", to_hex(input))?;
        }
        Ok(())
    }
}

/// Bytes in hex.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hex as bytes.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks_exact(2).map(pair).collect()
}

/// A sentence without its numbers: what kind of outcome it is.
pub fn kind_of(text: &str) -> String {
    let plain = text.split(|it: char| !it.is_ascii_alphabetic()).filter(|word| word.len() > 1);
    plain.take(6).collect::<Vec<_>>().join("-")
}
