//! Debian's own checker of packages, lintian: no error and no warning.
//!
//! What it finds and is meant so stands in `deploy/debian/lintian-overrides`, each with its reason.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    command::{command, must},
    pieces::Need,
    setup,
};

/// Checks packages; a sentence about how it went.
///
/// # Errors
/// When lintian finds a fault, or cannot be installed.
pub fn run(packages: &[impl AsRef<Path>]) -> Result<String> {
    setup::ensure(&[Need::Lint])?;
    let mut lint = command("lintian");
    // It reads files and starts nothing of the package's. (With --show-overrides, 2.116 fails on what is overridden too.)
    lint.env("LC_ALL", "C.UTF-8").args(["--allow-root", "--fail-on", "error,warning"]);
    if let Err(error) = must(lint.args(packages.iter().map(AsRef::as_ref))) {
        bail!("lintian finds faults in the package: {error:#}");
    }
    Ok(format!("lintian: no error and no warning in {} packages", packages.len()))
}
