//! Running other programs: the workspace's root, a clean environment for an inner cargo, and errors that name the program.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The root folder of the workspace.
///
/// `cargo run` tells where xtask's manifest lies today; the path compiled in serves a binary that is started by hand.
pub fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// A command that runs in the workspace's root.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The host's cargo, without what `cargo run` has put into xtask's environment about xtask itself: build scripts that look at
/// such variables would otherwise run again whenever cargo is called by hand in between.
pub fn cargo() -> Command {
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_outer_cargo(&mut cargo);
    cargo
}

/// Removes the variables that cargo sets for the program it runs.
pub fn forget_outer_cargo(command: &mut Command) {
    let ours = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || name == "OUT_DIR"
    };
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(ours) {
            command.env_remove(name);
        }
    }
}

/// The target that the compiler makes programs for.
///
/// # Errors
/// When there is no compiler.
pub fn host() -> Result<String> {
    let said = output(command("rustc").arg("-vV")).context("there is no rustc")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// What cargo knows of the workspace and of every crate that it is made of on this host; fetches what is missing.
///
/// # Errors
/// When cargo fails.
pub fn metadata() -> Result<Value> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--filter-platform", &host()?]);
    let listed =
        output(&mut metadata).with_context(|| format!("run `{}` to see why it fails", line(&metadata)))?;
    serde_json::from_str(&listed).context("`cargo metadata` has printed no JSON")
}

/// Runs `command` with the terminal's output; an exit code other than 0 is an error.
pub fn must(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}); its own messages stand above", line(command));
    }
    Ok(())
}

/// What `command` prints on its standard output, or `None` if it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// This moment, to the second, as RFC 3339 writes it.
pub fn now() -> String {
    let seconds = jiff::Timestamp::now().as_second();
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |now| now.to_string())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Is xtask run by root? (The owner of /proc/self is the effective user.)
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
