//! The committed inputs of a target: `corpus/fuzz/TARGET.hex`, one a line in hex.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::hostile::corpus::from_hex;

/// Where the corpora are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/fuzz")
}

/// The inputs of a target.
pub fn load(target: &str) -> Result<Vec<Vec<u8>>> {
    let file = folder().join(format!("{target}.hex"));
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            from_hex(line).with_context(|| format!("{}:{}: not a line of hex", file.display(), number + 1))
        })
        .collect()
}
