//! README's quick start as commands: what tests run is what stands on the page.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// The commands of README's quick start.
///
/// # Errors
/// When README has none.
pub fn commands() -> Result<Vec<String>> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("README.md"))?;
    let section = readme.split("## Quick start").nth(1).context("README has no quick start")?;
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = block.context("the quick start has no commands")?.lines();
    Ok(lines
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}
