//! The row "stranger": README's two commands on a clean Debian, where nothing of ours is installed.
//!
//! A small Debian of this machine's release is made once by mmdebstrap, from this machine's own apt sources, and kept under
//! `target/stranger`. Each run lays an empty layer over it (overlayfs), clones HEAD into it and enters it by chroot in mount and process
//! namespaces of its own: when its first process ends, everything in it ends. The Rust toolchain is this machine's, read only; cargo's
//! folder is an empty one, so crates are fetched and tools are built. What the machine needs to reach its registries is taken along:
//! resolver, certificates, cargo's and apt's configuration, and the variables that name them.

use std::{
    env, fs,
    fs::File,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{command, is_root, line, must, output, root},
    pieces::Need,
    setup,
    tally::Tally,
    vm::apt,
};

/// README's two commands; a test holds them against it.
pub const COMMANDS: [&str; 2] = ["cargo xtask run", "cargo xtask test"];
/// What a Debian machine with Rust has: certificates, git, and the C compiler and linker that rustup asks for.
const PACKAGES: &str = "ca-certificates,git,gcc,libc6-dev";
/// How much of the log a failure shows.
const TAIL: usize = 80;

/// The clean root: mounts, then the commands. `$1` is the root, `$2` the toolchains.
const ENTER: &str = r#"set -e
mount --make-rprivate /
mount -t overlay -o "lowerdir=$1/base,upperdir=$1/upper,workdir=$1/work" stranger "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --make-rslave sys
mount -t bpf bpf sys/fs/bpf
mount --rbind /dev dev
mount --make-rslave dev
mount -t tmpfs -o mode=0755 run run
mkdir -p ".$2"
mount --bind "$2" ".$2"
mount -o remount,bind,ro ".$2"
exec chroot . /bin/sh /root/stranger.sh
"#;

/// The row.
pub fn as_test() -> Tally {
    if !is_root() {
        println!("SKIP: a clean root is made and entered by root");
        return Tally::skip();
    }
    let folder = root().join("target/stranger");
    let made = setup::ensure(&[Need::Full]).map(drop).and_then(|()| base(&folder));
    if let Err(error) = made {
        println!("{}", format!("SKIP: there can be no clean Debian: {error:#}").replace('\n', " "));
        return Tally::skip();
    }
    let result = run(&folder);
    // It is some gigabytes.
    let cleaned = clean(&folder);
    for error in [&result, &cleaned].into_iter().filter_map(|result| result.as_ref().err()) {
        println!("FAILED: {error:#}");
    }
    Tally::of_one(result.is_ok())
}

/// The Debian, made if it has not been.
fn base(folder: &Path) -> Result<()> {
    let base = folder.join("base");
    if base.exists() {
        return Ok(());
    }
    let release = apt::release().context("this is no Debian")?;
    let sources = apt::sources_of(&release);
    ensure!(!sources.is_empty(), "apt has no sources of {release}");
    println!("stranger: making a clean Debian {release}");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let partial = folder.join("base.partial");
    let _gone = fs::remove_dir_all(&partial);
    let options = folder.join("apt.conf");
    fs::write(&options, apt::network_options())?;
    let mut make = command("mmdebstrap");
    make.args(["--quiet", "--variant=minbase", "--include", PACKAGES, "--aptopt"]).arg(&options);
    make.arg(&release).arg(&partial).args(sources);
    must(&mut make)?;
    fs::rename(&partial, &base).with_context(|| format!("cannot rename {}", partial.display()))
}

/// An empty layer, with the clone and what the network needs in it.
fn lay(folder: &Path) -> Result<()> {
    clean(folder)?;
    let upper = folder.join("upper");
    for part in ["upper/root", "upper/etc/apt/apt.conf.d", "work", "root"] {
        let part = folder.join(part);
        fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    }
    let clone = upper.join("root/erdp");
    must(command("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(root()).arg(&clone))?;
    fs::write(upper.join("etc/apt/apt.conf.d/50machine"), apt::network_options())?;
    for file in ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"] {
        copy(Path::new(file), &upper)?;
    }
    for tree in ["/usr/local/share/ca-certificates", "/etc/apt/auth.conf.d"] {
        for entry in fs::read_dir(tree).into_iter().flatten().flatten().filter(|entry| entry.path().is_file())
        {
            copy(&entry.path(), &upper)?;
        }
    }
    fill_cargo_home(&upper.join("root/.cargo"))?;
    fs::write(upper.join("root/stranger.sh"), script())?;
    Ok(())
}

/// An empty folder of cargo's, with the toolchains' doors and the registries' configuration.
pub fn fill_cargo_home(there: &Path) -> Result<()> {
    let home = cargo_home()?;
    fs::create_dir_all(there.join("bin"))?;
    for name in ["config.toml", "config", "credentials.toml"] {
        let file = home.join(name);
        if file.is_file() && name != "credentials.toml" {
            fs::copy(&file, there.join(name))?;
        }
    }
    let rustup = home.join("bin/rustup");
    ensure!(
        rustup.exists(),
        "there is no rustup in {}: the toolchain of the stranger is rustup's",
        home.display()
    );
    fs::copy(&rustup, there.join("bin/rustup"))?;
    for door in ["cargo", "rustc", "rustdoc"] {
        symlink("rustup", there.join("bin").join(door))?;
    }
    Ok(())
}

/// This user's folder of cargo's.
pub fn cargo_home() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))).context("no cargo home")
}

/// This user's toolchains.
pub fn rustup_home() -> Result<PathBuf> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".rustup"))).context("no rustup home")
}

fn script() -> String {
    let commands: String = COMMANDS.iter().map(|it| format!("echo '$ {it}'\n{it}\n")).collect();
    format!(
        "set -e\nupdate-ca-certificates >/dev/null 2>&1 || true\ncd /root/erdp\n{commands}echo stranger: green\n"
    )
}

fn copy(file: &Path, upper: &Path) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let there = upper.join(file.strip_prefix("/").unwrap_or(file));
    if let Some(folder) = there.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(file, &there).with_context(|| format!("cannot copy {}", file.display())).map(drop)
}

fn run(folder: &Path) -> Result<()> {
    if output(command("git").args(["status", "--porcelain"])).is_some_and(|changes| !changes.is_empty()) {
        println!("stranger: the changes that are not committed are no part of it");
    }
    lay(folder)?;
    let log = folder.join("log");
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let rustup = rustup_home()?;
    // It ends with us, and everything in it with it.
    let mut enter = Command::new("setpriv");
    enter.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
    enter.args(["sh", "-c", ENTER, "sh"]).arg(folder).arg(&rustup);
    enter.env_clear().envs(env::vars().filter(|(name, _)| is_of_the_network(name)));
    enter.env("PATH", "/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    enter.env("HOME", "/root").env("RUSTUP_HOME", &rustup).env("CI", "true").env("LANG", "C.UTF-8");
    enter.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = enter.status().with_context(|| format!("cannot start `{}`", line(&enter)))?;
    let text = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = if status.success() { 3 } else { TAIL };
    println!("{}", lines[lines.len().saturating_sub(shown)..].join("\n"));
    if !status.success() {
        bail!(
            "README's commands have failed on a clean Debian ({status}); all of it is in {}",
            log.display()
        );
    }
    Ok(())
}

/// Variables that say how this machine reaches its registries.
fn is_of_the_network(name: &str) -> bool {
    let upper = name.to_uppercase();
    let is_ours =
        ["CARGO_HOME", "CARGO_MANIFEST", "CARGO_PKG", "CARGO_BIN", "CARGO_TARGET_DIR", "RUSTUP_HOME"];
    let is_named = ["PROXY", "CERT", "CA_BUNDLE", "CAINFO"].iter().any(|word| upper.contains(word));
    let is_cargos =
        ["CARGO_REGISTRIES", "CARGO_REGISTRY", "CARGO_NET", "CARGO_HTTP", "CARGO_SOURCE", "RUSTUP_"]
            .iter()
            .any(|word| upper.starts_with(word));
    (is_named || is_cargos) && !is_ours.iter().any(|word| upper.starts_with(word))
}

fn clean(folder: &Path) -> Result<()> {
    for part in ["upper", "work", "root"] {
        let part = folder.join(part);
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strangers_commands_are_readmes_first() {
        let readme = fs::read_to_string(root().join("README.md")).expect("there is one");
        for it in COMMANDS {
            assert!(
                readme.lines().any(|line| line == it || line.starts_with(&format!("{it} "))),
                "README has no line `{it}`"
            );
        }
    }

    #[test]
    fn variables_of_the_network_are_taken_along_and_those_of_this_workspace_are_not() {
        for name in [
            "https_proxy",
            "SSL_CERT_FILE",
            "GIT_SSL_CAINFO",
            "CARGO_REGISTRIES_X_INDEX",
            "RUSTUP_AUTO_INSTALL",
            "CARGO_HTTP_CAINFO",
        ] {
            assert!(is_of_the_network(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_MANIFEST_DIR",
            "CARGO_TARGET_DIR",
            "ERDP_DATA",
            "PATH",
            "CARGO",
        ] {
            assert!(!is_of_the_network(name), "{name}");
        }
    }
}
