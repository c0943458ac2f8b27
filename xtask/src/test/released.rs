//! The release before this tree, built once: what this tree must take over from, and whose configurations it must load.
//!
//! It is a clone of its commit under `target/released`, built by its own `cargo xtask build`. Tests find the binary by `ERDP_RELEASED`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, command, must, output, root},
    tally::Tally,
};

/// The variable that names its binary.
pub const VARIABLE: &str = "ERDP_RELEASED";
/// Version 0.1.0.
pub const COMMIT: &str = "f6dd3b287d56197064a800cd29d92331361372dd";

/// Where its binary is, or will be.
pub fn binary() -> PathBuf {
    tree().join("target/release/erdp")
}

fn tree() -> PathBuf {
    root().join("target/released").join(&COMMIT[..7])
}

/// The row that builds it.
pub fn as_test() -> Tally {
    match build() {
        Ok(()) => println!("release {}: {}", &COMMIT[..7], binary().display()),
        Err(error) => println!("FAILED: {error:#}"),
    }
    Tally::of_one(binary().exists())
}

/// Builds it unless it has been.
fn build() -> Result<()> {
    if binary().exists() {
        return Ok(());
    }
    let is_here = output(command("git").args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")])).is_some();
    anyhow::ensure!(
        is_here,
        "the commit {COMMIT} is not in this clone, so the release before this tree cannot be built: fetch the whole history with \
         `git fetch --unshallow` (or `git fetch origin {COMMIT}`) and run this again"
    );
    let tree = tree();
    if tree.exists() {
        // Of a build that was interrupted before there was a binary; what it has compiled is kept where the checkout is whole.
        let has_checkout = tree.join("xtask/Cargo.toml").exists();
        if !has_checkout {
            fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
        }
    }
    if !tree.exists() {
        must(command("git").args(["clone", "--quiet", "--no-checkout"]).arg(root()).arg(&tree))?;
        must(command("git").arg("-C").arg(&tree).args(["checkout", "--quiet", "--detach", COMMIT]))?;
    }
    let mut build = cargo();
    build.current_dir(&tree).env_remove("CARGO_TARGET_DIR");
    must(build.args(["run", "--quiet", "--package", "xtask", "--", "build"]))
        .context("the release before this tree cannot be built")
}
