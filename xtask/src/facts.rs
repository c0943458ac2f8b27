//! What there is on this machine: gathered once, by looking only. [`crate::pieces`] decides from it.

use std::{collections::BTreeSet, env, path::Path, process::Command};

use crate::{command, pieces};

/// What was found on the machine.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `apt-get` and `dpkg-query` are there.
    pub debian: bool,
    /// xtask may install packages.
    pub root: bool,
    /// Debian packages of those we know that are installed.
    pub packages: BTreeSet<String>,
    /// A rustup toolchain `nightly` with the component rust-src.
    pub nightly_with_source: bool,
    /// The version that `bpf-linker --version` tells.
    pub bpf_linker: Option<String>,
    /// `cargo deny`'s version.
    pub cargo_deny: Option<String>,
    /// The version of `typos`.
    pub typos: Option<String>,
}

impl Facts {
    /// Looks at the machine; changes nothing.
    pub fn gather() -> Facts {
        let debian = on_path("apt-get") && on_path("dpkg-query");
        Facts {
            debian,
            root: command::is_root(),
            packages: if debian { installed_packages() } else { BTreeSet::new() },
            nightly_with_source: nightly_has_source(),
            bpf_linker: version("bpf-linker", &["--version"]),
            cargo_deny: version("cargo-deny", &["--version"]),
            typos: version("typos", &["--version"]),
        }
    }
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

fn installed_packages() -> BTreeSet<String> {
    // dpkg-query fails when it does not know one of the names and still prints the others.
    let Ok(output) = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(pieces::all_packages())
        .output()
    else {
        return BTreeSet::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(str::to_owned)
        .collect()
}

fn nightly_has_source() -> bool {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    command::output(&mut rustc).is_some_and(|root| {
        Path::new(root.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
    })
}

/// The last word of what `program --version` prints.
fn version(program: &str, arguments: &[&str]) -> Option<String> {
    let printed = command::output(Command::new(program).args(arguments))?;
    printed.lines().next()?.split_whitespace().last().map(str::to_owned)
}
