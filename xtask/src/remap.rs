//! Compiler flags that keep this machine's folders out of what is built, so that two folders and two users give the same bytes.
//!
//! A compiler writes the paths of its sources into messages of panics, debug information and BTF. Each folder that it may see has a name
//! here that is the same everywhere: the workspace, the folders into which cargo unpacks crates, and the compiler's own sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::command::{metadata, output, root};

/// The workspace's name in what is built; its target folder is below it.
const WORKSPACE: &str = concat!("/usr/src/erdp-", env!("CARGO_PKG_VERSION"));
/// The name of every folder into which cargo unpacks crates.
pub const CRATES: &str = "/usr/src/cargo";

/// A compiler's own sources, where it has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    sysroot: PathBuf,
    commit: String,
}

impl Compiler {
    /// Asks a compiler, which `rustc` runs with the arguments that follow.
    pub fn ask(rustc: impl Fn() -> std::process::Command) -> Result<Compiler> {
        let sysroot =
            output(rustc().args(["--print", "sysroot"])).context("rustc does not say its sysroot")?;
        let version = output(rustc().arg("-vV")).context("rustc does not say its version")?;
        let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
        Ok(Compiler { sysroot: PathBuf::from(sysroot.trim()), commit: commit.to_owned() })
    }
}

/// The flags for a build of this workspace by `compiler`.
///
/// # Errors
/// When cargo cannot say where crates are.
pub fn flags(compiler: &Compiler) -> Result<Vec<String>> {
    Ok(flags_of(&root(), &crate_folders()?, compiler))
}

fn flags_of(workspace: &Path, crates: &[PathBuf], compiler: &Compiler) -> Vec<String> {
    let mut folders: BTreeSet<(PathBuf, String)> = BTreeSet::new();
    let mut add = |folder: PathBuf, name: &str| {
        // The compiler may be given either name.
        if let Ok(real) = folder.canonicalize() {
            folders.insert((real, name.to_owned()));
        }
        folders.insert((folder, name.to_owned()));
    };
    add(workspace.to_owned(), WORKSPACE);
    for folder in crates {
        add(folder.clone(), CRATES);
    }
    // As the compiler itself calls them where it has been built without them.
    add(compiler.sysroot.join("lib/rustlib/src/rust"), &format!("/rustc/{}", compiler.commit));
    let mut folders: Vec<_> = folders.into_iter().collect();
    // The last one that fits is taken: a folder inside another one comes behind it.
    folders.sort_by_key(|(folder, _)| folder.as_os_str().len());
    folders.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
}

/// Where cargo unpacks crates: a folder for each registry. cargo fetches here what is missing.
fn crate_folders() -> Result<Vec<PathBuf>> {
    let listed = metadata()?;
    let manifests = listed["packages"].as_array().into_iter().flatten().filter(|it| it["source"].is_string());
    let homes: BTreeSet<&Path> = manifests
        .filter_map(|package| Path::new(package["manifest_path"].as_str()?).ancestors().nth(3))
        .collect();
    // The other compiler's cargo may call its folder differently.
    let mut folders = Vec::new();
    for home in homes {
        for entry in fs::read_dir(home).with_context(|| format!("cannot read {}", home.display()))? {
            folders.push(entry?.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_the_compiler_sees_has_a_name_that_is_the_same_everywhere() {
        let compiler = Compiler { sysroot: "/x/toolchain".into(), commit: "abc".to_owned() };
        let flags = flags_of(Path::new("/x"), &["/x/y/registry/src/host-1".into()], &compiler);
        let version = env!("CARGO_PKG_VERSION");
        // The more particular folder behind the one that it is in: the compiler takes the last.
        assert_eq!(
            flags,
            [
                format!("--remap-path-prefix=/x=/usr/src/erdp-{version}"),
                "--remap-path-prefix=/x/y/registry/src/host-1=/usr/src/cargo".to_owned(),
                "--remap-path-prefix=/x/toolchain/lib/rustlib/src/rust=/rustc/abc".to_owned(),
            ]
        );
    }
}
