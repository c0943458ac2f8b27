//! `cargo xtask package --reproduce`: the same commit built twice, here and from a clone elsewhere, and the two compared by their hashes.
//!
//! Elsewhere everything is another that may be: the workspace's folder, cargo's folder and home, the place of the toolchains, the user
//! (nobody, where this is run by root), host name, umask, time zone and locale. The same are the commit, the compilers, Debian's tools and
//! the crates, which are taken from this machine's cache; nothing is fetched.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};

use super::{deb, lint, package_in, package_symbols};
use crate::{
    build,
    command::{command, is_root, must, output, root},
    tally::Tally,
    test::stranger,
};

/// What is built twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// The BPF object
    Object,
    /// The BPF object, the Debian package and the one of debug symbols
    Package,
}

/// The other build: `$1` the folder of all that is other, `$2` this machine's toolchains, `$3` the build. As root it is a user, a host name
/// and mounts of its own; what is mounted is read only and ends with it.
const ELSEWHERE: &str = r#"set -e
if [ "$(id -u)" = 0 ]; then
    chown -R nobody:nogroup "$1"
    echo elsewhere > /proc/sys/kernel/hostname
    mount --bind "$2" "$1/toolchains"
    mount -o remount,bind,ro "$1/toolchains"
    exec setpriv --reuid=nobody --regid=nogroup --clear-groups sh -c "$3" sh "$1"
fi
rmdir "$1/toolchains"
ln -s "$2" "$1/toolchains"
exec sh -c "$3" sh "$1"
"#;
/// As the other user.
const BUILD: &str = "umask 077; cd \"$1/source/of/erdp\" && exec cargo xtask ";

/// Builds twice and says whether it is the same.
///
/// # Errors
/// When one of the builds fails, or there is something that is not committed.
pub fn run(what: What) -> Result<ExitCode> {
    let is_same = is_reproduced(what)?;
    Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The row of `cargo xtask test --full`: the package twice, and Debian's checker.
pub fn as_test() -> Tally {
    if !Path::new("/usr/bin/dpkg-deb").exists() {
        println!("SKIP: a Debian package is made on Debian");
        return Tally::skip();
    }
    match changes() {
        Ok(changes) if changes.is_empty() => {}
        Ok(_) => {
            println!(
                "SKIP: the other build is a clone of the commit, and there are changes that are not committed"
            );
            return Tally::skip();
        }
        Err(error) => {
            println!("SKIP: {error:#}");
            return Tally::skip();
        }
    }
    let result = is_reproduced(What::Package).and_then(|is_same| {
        ensure!(is_same, "the package is not the same in another folder");
        let packages = packages()?;
        lint::run(&packages.iter().map(|name| folder().join(name)).collect::<Vec<_>>())
    });
    println!("{}", result.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), Clone::clone));
    Tally::of_one(result.is_ok())
}

/// The packages of this build. Another row may be making the same ones in `target/package`.
fn folder() -> PathBuf {
    root().join("target/reproduce")
}

fn changes() -> Result<String> {
    output(command("git").args(["status", "--porcelain"])).context("this is no git checkout")
}

fn is_reproduced(what: What) -> Result<bool> {
    let changes = changes()?;
    ensure!(changes.is_empty(), "the other build is a clone of the commit: commit these first\n{changes}");
    match what {
        What::Object => build::bpf_object()?,
        What::Package => {
            let binary = build::erdp()?;
            package_symbols(&folder(), &binary, None)?;
            package_in(&folder(), &binary, None)?;
        }
    }
    let elsewhere = env::temp_dir().join(format!("erdp-reproduce-{}", std::process::id()));
    println!("building again in {}", elsewhere.display());
    build_in(&elsewhere, what)?;
    let there = elsewhere.join("source/of/erdp/target");
    let mut pairs = vec![("BPF object".to_owned(), build::object(), there.join("bpf/erdp-ebpf"))];
    if what == What::Package {
        let packages = packages()?;
        pairs.extend(packages.into_iter().map(|name| {
            let (ours, theirs) = (folder().join(&name), there.join("package").join(&name));
            (name, ours, theirs)
        }));
    }
    let mut is_same = true;
    for (name, ours, theirs) in pairs {
        let (ours, theirs) = (deb::sha256(&ours)?, deb::sha256(&theirs)?);
        let verdict = if ours == theirs { "equal" } else { "DIFFERENT" };
        println!("{name}: {verdict}\n  here       {ours}\n  elsewhere  {theirs}");
        is_same &= ours == theirs;
    }
    if is_same {
        gone(&elsewhere)?;
    } else {
        println!("the other build is left in {}", elsewhere.display());
    }
    Ok(is_same)
}

/// Removes the other build. What the toolchains were mounted on goes first, and only if it is empty.
fn gone(elsewhere: &Path) -> Result<()> {
    let toolchains = elsewhere.join("toolchains");
    fs::remove_file(&toolchains)
        .or_else(|_| fs::remove_dir(&toolchains))
        .with_context(|| format!("{} is not empty", toolchains.display()))?;
    fs::remove_dir_all(elsewhere).with_context(|| format!("cannot remove {}", elsewhere.display()))
}

/// The names of the packages.
fn packages() -> Result<[String; 2]> {
    let (version, architecture) = (super::version(None), super::architecture()?);
    Ok(["erdp", "erdp-dbgsym"].map(|name| format!("{name}_{version}_{architecture}.deb")))
}

fn build_in(elsewhere: &Path, what: What) -> Result<()> {
    let source = elsewhere.join("source/of/erdp");
    for part in ["toolchains", "home", "cargo", "source/of"] {
        let part = elsewhere.join(part);
        fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    }
    must(command("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(root()).arg(&source))?;
    let cargo_home = stranger::cargo_home()?;
    stranger::fill_cargo_home(&elsewhere.join("cargo"))?;
    let linker = cargo_home.join("bin/bpf-linker");
    if linker.exists() {
        fs::copy(&linker, elsewhere.join("cargo/bin/bpf-linker")).context("cannot copy bpf-linker")?;
    }
    // What has been downloaded, not what has been unpacked.
    for part in ["index", "cache"] {
        let there = elsewhere.join("cargo/registry");
        fs::create_dir_all(&there).with_context(|| format!("cannot make {}", there.display()))?;
        must(command("cp").arg("-r").arg(cargo_home.join("registry").join(part)).arg(&there))?;
    }
    let verb = if what == What::Object { "build --object" } else { "package" };
    let mut build = if is_root() {
        let mut own = Command::new("unshare");
        own.args(["--mount", "--uts", "sh"]);
        own
    } else {
        println!("not root: the other build is this user's too");
        Command::new("sh")
    };
    build.args(["-c", ELSEWHERE, "sh"]).arg(elsewhere).arg(stranger::rustup_home()?);
    build.arg(format!("{BUILD}{verb}")).current_dir(elsewhere).env_clear();
    let tools = elsewhere.join("cargo/bin");
    build.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display()));
    build.env("HOME", elsewhere.join("home")).env("CARGO_HOME", elsewhere.join("cargo"));
    build.env("RUSTUP_HOME", elsewhere.join("toolchains")).env("RUSTUP_AUTO_INSTALL", "0");
    build.env("CARGO_NET_OFFLINE", "true").env("LC_ALL", "C").env("TZ", "Pacific/Kiritimati");
    if let Some(jobs) = env::var_os("CARGO_BUILD_JOBS") {
        build.env("CARGO_BUILD_JOBS", jobs);
    }
    must(&mut build).context("the build elsewhere has failed")
}
