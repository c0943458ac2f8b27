//! Whether the disk has room for what a verb builds: said before the build, not by the linker in the middle of it.

use anyhow::{Context as _, Result, bail};
use nix::sys::statvfs::statvfs;

use crate::command::root;

/// What a verb writes below `target/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Built {
    /// The object and the release binaries.
    Programs,
    /// The test programs, and the images of virtual machines.
    Tests,
}

impl Built {
    /// Its folder, and GiB that it takes from nothing: measured, with a third more.
    fn needs(self) -> (&'static str, u64) {
        match self {
            Built::Programs => ("target/release", 2),
            Built::Tests => ("target/debug", 6),
        }
    }
}

/// Room that a build on top of an earlier one takes at most.
const AGAIN_GIB: u64 = 1;

/// Refuses where the disk is too full for it.
///
/// # Errors
/// When there is less room than is needed, or the file system does not say.
pub fn ensure(built: Built) -> Result<()> {
    let (folder, gib) = built.needs();
    let needed = if root().join(folder).exists() { AGAIN_GIB } else { gib };
    let disk = statvfs(&root()).context("how full the disk is cannot be seen")?;
    let free = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
    judge(free, needed, folder)
}

fn judge(free_bytes: u128, needed_gib: u64, folder: &str) -> Result<()> {
    if free_bytes >= u128::from(needed_gib) << 30 {
        return Ok(());
    }
    let free_mib = free_bytes >> 20;
    bail!(
        "the disk of {} has {free_mib} MiB free, and building {folder} takes up to {needed_gib} GiB: free some first (`cargo clean` empties target/)",
        root().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_named_before_the_build_with_what_is_missing() {
        assert!(judge(6 << 30, 6, "target/debug").is_ok());
        let said = judge((6 << 30) - 1, 6, "target/debug").expect_err("too little").to_string();
        assert!(said.contains("has 6143 MiB free") && said.contains("takes up to 6 GiB"), "{said}");
    }

    #[test]
    fn a_programs_folder_that_is_there_needs_less() {
        assert!(ensure(Built::Programs).is_ok(), "these tests were built here a moment ago");
    }
}
