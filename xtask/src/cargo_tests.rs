//! Building the workspace's test programs: cargo builds and names them (`--message-format=json`), and [`crate::test`] runs each by itself.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{cargo, line};

/// A test program that cargo has built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// `package target`, as in `erdp-tests lab_end_to_end`; `(bin)` behind it for the tests inside a binary.
    pub name: String,
    executable: PathBuf,
    folder: PathBuf,
}

/// Builds the test programs of the workspace's host crates.
pub fn build() -> Result<Vec<Program>> {
    build_some(&[])
}

/// The same for what `arguments` of `cargo test` choose.
pub fn build_some(arguments: &[&str]) -> Result<Vec<Program>> {
    let mut cargo = cargo();
    cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]).args(arguments);
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", line(&cargo)))?;
    if !output.status.success() {
        bail!("`{}` failed; the compiler's messages stand above", line(&cargo));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(program).collect())
}

fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    let executable = message["executable"].as_str()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let folder = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let package = package(message["package_id"].as_str()?)?;
    let target = message["target"]["name"].as_str()?;
    let bin = if message["target"]["kind"][0] == "bin" { " (bin)" } else { "" };
    Some(Program { name: format!("{package} {target}{bin}"), executable: executable.into(), folder })
}

/// The name in a package id: `path+file:///x/tests#erdp-tests@0.1.0`, or `path+file:///x/xtask#0.1.0` where the folder is
/// called like the package.
fn package(id: &str) -> Option<&str> {
    let (path, version) = id.rsplit_once('#')?;
    version.split_once('@').map(|(name, _)| name).or_else(|| path.rsplit('/').next())
}

impl Program {
    /// Any program, for tests of those who run them.
    #[cfg(test)]
    pub fn any(name: &str, executable: &str) -> Program {
        Program { name: name.to_owned(), executable: executable.into(), folder: "/".into() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.executable
    }

    /// A command that runs it; `arguments` are libtest's.
    pub fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(arguments).current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_messages_name_test_programs_only() {
        let test = r#"{"reason":"compiler-artifact","manifest_path":"/x/tests/Cargo.toml",
            "package_id":"path+file:///x/tests#erdp-tests@0.1.0","target":{"name":"lab_end_to_end"},"profile":{"test":true},"executable":"/x/target/debug/deps/lab_end_to_end-1"}"#;
        let named = program(&test.replace('\n', "")).map(|program| program.name);
        assert_eq!(named.as_deref(), Some("erdp-tests lab_end_to_end"));
        assert_eq!(program(&test.replace('\n', "").replace("true", "false")), None);
        assert_eq!(package("path+file:///x/xtask#0.1.0"), Some("xtask"));
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
