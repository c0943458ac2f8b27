//! Cargo.lock: which crates there are, in which version, and with which hash.

use anyhow::{Context as _, Result};
use semver::Version;
use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// A crate in it.
#[derive(Debug, Deserialize)]
pub struct Locked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Where it is from; `None`: the workspace's own.
    pub source: Option<String>,
    /// The registry's SHA-256; `None`: the workspace's own.
    pub checksum: Option<String>,
}

/// The crates of a lock.
///
/// # Errors
/// When the text is no lock.
pub fn packages(text: &str) -> Result<Vec<Locked>> {
    Ok(toml::from_str::<Lock>(text).context("Cargo.lock is no lock")?.package)
}
