//! The oldest compiler: what Cargo.toml's `rust-version` promises, as far as it can be held without that compiler.
//!
//! Three things. Where the compiler at hand is that very version, every build is the test. Where it is newer, clippy's lint
//! `incompatible_msrv` refuses what the standard library got later; a test shows that it does. And no crate that the workspace is built
//! from may ask for a newer one, which is asked here. What remains without that compiler is the language itself: syntax that came later.

use anyhow::{Context as _, Result, bail, ensure};
use semver::Version;
use serde_json::Value;

use crate::command::{command, metadata, output};

/// Says how the promise is held.
///
/// # Errors
/// When a crate asks for a newer compiler than the workspace does, or the compiler at hand is older.
pub fn check() -> Result<String> {
    let listed = metadata()?;
    let ours = version(env!("CARGO_PKG_RUST_VERSION"))?;
    let newer = newer(&listed, &ours)?;
    ensure!(
        newer.is_empty(),
        "Cargo.toml promises Rust {ours}, and these ask for more: {}",
        newer.join(", ")
    );
    let said = output(command("rustc").arg("--version")).context("there is no rustc")?;
    let compiler = said.split_whitespace().nth(1).context("rustc says no version")?;
    let compiler = version(compiler)?;
    if compiler < ours {
        bail!("Cargo.toml promises Rust {ours}, and this is {compiler}");
    }
    let how = if (compiler.major, compiler.minor) == (ours.major, ours.minor) {
        "this compiler is of that version, so every build is the test"
    } else {
        "this compiler is newer: clippy's incompatible_msrv is the test of the standard library, and there is none of the language"
    };
    Ok(format!("Rust {ours}: no crate asks for more; {how}"))
}

/// The crates that ask for a newer compiler.
fn newer(listed: &Value, ours: &Version) -> Result<Vec<String>> {
    let mut newer = Vec::new();
    for package in listed["packages"].as_array().context("`cargo metadata` lists no packages")? {
        let Some(asked) = package["rust_version"].as_str() else { continue };
        if version(asked)? > *ours {
            let (name, version) = (&package["name"], &package["version"]);
            newer.push(format!(
                "{} {} ({asked})",
                name.as_str().unwrap_or("?"),
                version.as_str().unwrap_or("?")
            ));
        }
    }
    Ok(newer)
}

/// `1.95` and `1.95.0` are one version; what a nightly has behind it does not count.
fn version(text: &str) -> Result<Version> {
    let number = text.split(['-', '+']).next().unwrap_or_default();
    let mut parts = number.split('.').map(str::parse::<u64>);
    let mut next = || parts.next().transpose().with_context(|| format!("{text} is no version"));
    let (major, minor, patch) = (next()?, next()?, next()?);
    Ok(Version::new(
        major.with_context(|| format!("{text} is no version"))?,
        minor.unwrap_or(0),
        patch.unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_crate_that_asks_for_a_newer_compiler_is_named() {
        let listed = json!({"packages": [
            {"name": "a", "version": "1.0.0", "rust_version": "1.95"},
            {"name": "b", "version": "2.0.0", "rust_version": "1.95.1"},
            {"name": "c", "version": "3.0.0", "rust_version": null},
            {"name": "d", "version": "4.0.0", "rust_version": "1.100"},
        ]});
        let ours = version("1.95").expect("a version");
        assert_eq!(newer(&listed, &ours).expect("a list"), ["b 2.0.0 (1.95.1)", "d 4.0.0 (1.100)"]);
        assert_eq!(version("1.97.0-nightly").expect("a version"), Version::new(1, 97, 0));
        assert!(version("x").is_err());
    }

    #[test]
    fn what_the_standard_library_got_after_the_promised_version_is_refused_by_clippy() {
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"])).expect("a compiler");
        let driver = Path::new(sysroot.trim()).join("bin/clippy-driver");
        if !driver.exists() {
            println!("SKIP: there is no clippy: `rustup component add clippy`");
            return;
        }
        let folder = std::env::temp_dir().join(format!("erdp-msrv-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        // Option::is_none_or came with 1.82.
        let source = "pub fn is_small(x: Option<u8>) -> bool { x.is_none_or(|x| x < 9) }\n";
        fs::write(folder.join("lib.rs"), source).expect("a file");
        let refused = |msrv: &str| {
            fs::write(folder.join("clippy.toml"), format!("msrv = \"{msrv}\"\n")).expect("a file");
            let mut clippy = Command::new(&driver);
            clippy.current_dir(&folder).env("CLIPPY_CONF_DIR", &folder);
            clippy.args(["--sysroot", sysroot.trim()]);
            clippy.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "-Dclippy::all", "lib.rs"]);
            let said = clippy.output().expect("it runs");
            (!said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned())
        };
        let (older, newer) = (refused("1.81"), refused("1.82"));
        fs::remove_dir_all(&folder).expect("it goes");
        assert!(older.0 && older.1.contains("incompatible_msrv"), "{}", older.1);
        assert!(!newer.0, "{}", newer.1);
    }
}
