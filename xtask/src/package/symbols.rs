//! The packaged binary without symbols, and its debug information as a package of its own, `erdp-dbgsym`.
//!
//! Both carry the build id, a hash of the content that the linker has put in: gdb and the daemon's own backtraces look for
//! `/usr/lib/debug/.build-id/xx/yyy.debug` by it, so that symbols of another build are never taken.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::command::{command, must, output};

/// The build id of an ELF file, in hexadecimal digits.
///
/// # Errors
/// When it has none.
pub fn build_id(binary: &Path) -> Result<String> {
    let notes = output(command("readelf").arg("--notes").arg(binary)).unwrap_or_default();
    let id = notes.lines().find_map(|line| line.split_once("Build ID: "));
    Ok(id.with_context(|| format!("{} has no build id", binary.display()))?.1.trim().to_owned())
}

/// Where debuggers look for the debug information of a build.
///
/// # Errors
/// When it is no build id.
pub fn place(build_id: &str) -> Result<PathBuf> {
    let (folder, name) = build_id.split_at_checked(2).context("a build id is too short")?;
    Ok(format!("usr/lib/debug/.build-id/{folder}/{name}.debug").into())
}

/// Takes all symbols out of a binary, in place.
///
/// # Errors
/// When `strip` fails.
pub fn strip(binary: &Path) -> Result<()> {
    must(command("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(binary))
}

/// Puts the debug information of a binary, and nothing else of it, below `tree`; the answer is the build id.
///
/// # Errors
/// When the binary has no build id, or `objcopy` fails.
pub fn keep(binary: &Path, tree: &Path) -> Result<String> {
    let id = build_id(binary)?;
    let there = tree.join(place(&id)?);
    if let Some(folder) = there.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    must(
        command("objcopy").args(["--only-keep-debug", "--compress-debug-sections"]).arg(binary).arg(&there),
    )?;
    // objcopy takes the binary's mode.
    fs::set_permissions(&there, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("cannot set the mode of {}", there.display()))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripped_binary_and_its_symbols_have_one_build_id_and_the_symbols_lie_where_debuggers_look() {
        if !Path::new("/usr/bin/objcopy").exists() {
            println!("SKIP: there are no binutils");
            return;
        }
        let ours = std::env::current_exe().expect("a test has a path");
        let folder = std::env::temp_dir().join(format!("erdp-symbols-{}", std::process::id()));
        let stripped = folder.join("stripped");
        fs::create_dir_all(&folder).expect("a folder");
        fs::copy(&ours, &stripped).expect("a copy");
        let Ok(id) = build_id(&ours) else {
            println!("SKIP: this machine's linker gives no build id by itself");
            return;
        };
        strip(&stripped).expect("it is stripped");
        assert_eq!(keep(&ours, &folder).expect("symbols"), id);
        let symbols = folder.join(format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]));
        assert_eq!(build_id(&stripped).expect("kept"), id);
        assert_eq!(build_id(&symbols).expect("kept"), id);
        let sections = |path: &Path| output(command("readelf").args(["--sections", "--wide"]).arg(path));
        let (left, apart) = (sections(&stripped).expect("ELF"), sections(&symbols).expect("ELF"));
        fs::remove_dir_all(&folder).expect("it goes");
        assert!(!left.contains(".symtab") && !left.contains(".debug_line"), "{left}");
        assert!(apart.contains(".symtab") && apart.contains(".debug_line"), "{apart}");
    }
}
