//! Debian packages for the VM lab: from the sources that this machine has configured, and the backports beside them.
//!
//! apt runs with lists and a cache of its own under `target/vm/apt`, so that the machine's configuration is only read. The
//! backports (of this release and of the next) are where newer kernels are, and a QEMU that has `igb`; they are taken from
//! the place that the release itself comes from. Where they cannot be had, the configured sources alone must do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::command::{command, must, output};

/// Lists are taken as they are for so long: kernels come every few days.
const FRESH: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Each release and the next one, whose backports hold the newest kernels.
const NEXT: [(&str, &str); 3] = [("bullseye", "bookworm"), ("bookworm", "trixie"), ("trixie", "forky")];
/// Where Debian keeps the keys of its archive, where the package debian-archive-keyring is installed.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with lists and sources of its own.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Sources written, lists fetched where they are missing or old.
    ///
    /// # Errors
    /// When this is not a Debian, or neither new nor old lists can be had.
    pub fn open(vm: &Path) -> Result<Apt> {
        let apt = Apt { folder: vm.join("apt") };
        if output(Command::new("apt-get").arg("--version")).is_none() {
            bail!("there is no apt-get: the VM lab takes its kernels from Debian packages");
        }
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = apt.folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let stamp = apt.folder.join("updated");
        let fresh =
            |path: &Path| path.metadata().ok()?.modified().ok()?.elapsed().ok().map(|age| age < FRESH);
        if fresh(&stamp) == Some(true) {
            return Ok(apt);
        }
        println!("vm: fetching package lists into {}", apt.folder.display());
        let own = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
        let extra = extra_sources(&configured(), &release().unwrap_or_default(), Path::new(KEYRING).exists());
        apt.write_sources(&format!("{own}\n{extra}"))?;
        if must(apt.get().arg("update")).is_err() {
            if stamp.exists() {
                println!("vm: no new package lists, so the old ones it is");
                return Ok(apt);
            }
            println!("vm: without the backports, then: the configured sources alone");
            apt.write_sources(&own)?;
            must(apt.get().arg("update")).context(
                "the package lists cannot be fetched: check this machine's network and its apt sources",
            )?;
        }
        fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(apt)
    }

    fn write_sources(&self, text: &str) -> Result<()> {
        let path = self.folder.join("sources.list");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// `apt-get` with our options. Our sources.list stands for the machine's, which it begins with; the parts under
    /// /etc/apt/sources.list.d are read besides.
    fn get(&self) -> Command {
        let mut get = command("apt-get");
        get.args(["--yes", "--quiet=2"]).args(self.options()).env("DEBIAN_FRONTEND", "noninteractive");
        get
    }

    fn options(&self) -> Vec<String> {
        let place = |part: &str| self.folder.join(part).to_string_lossy().into_owned();
        vec![
            format!("-oDir::Etc::sourcelist={}", place("sources.list")),
            format!("-oDir::State::lists={}", place("lists")),
            format!("-oDir::Cache={}", place("cache")),
            // Not root's folders: apt's own user could not write here.
            "-oAPT::Sandbox::User=".to_owned(),
            // A list that could not be fetched is a failure, and not a list without packages.
            "-oAPT::Update::Error-Mode=any".to_owned(),
        ]
    }

    /// The packages of kernels that there are, and of the parts that newer ones are split into.
    pub fn kernels(&self) -> Vec<String> {
        let mut search = command("apt-cache");
        search.args(self.options()).args([
            "search",
            "--names-only",
            "^linux-(image|binary|modules)-[0-9].*-amd64$",
        ]);
        let printed = output(&mut search).unwrap_or_default();
        printed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    /// What a kernel's package is made of: itself, and those it is split into by newer Debian releases.
    fn parts_of(&self, package: &str) -> Vec<String> {
        let mut depends = command("apt-cache");
        depends.args(self.options()).args(["depends", "--important", package]);
        let printed = output(&mut depends).unwrap_or_default();
        let names = printed.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let parts =
            names.filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"));
        std::iter::once(package).chain(parts).map(str::to_owned).collect()
    }

    /// Fetches a kernel's packages and unpacks them into `into`; nothing is installed, and no root is needed.
    ///
    /// # Errors
    /// apt-get's or dpkg-deb's own message stands above.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let packages = into.join("packages");
        fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
        must(self.get().current_dir(&packages).arg("download").args(self.parts_of(package)))
            .with_context(|| format!("cannot download {package}: is the network up?"))?;
        for entry in fs::read_dir(&packages)? {
            must(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(into))?;
        }
        fs::remove_dir_all(&packages).with_context(|| format!("cannot remove {}", packages.display()))
    }

    /// Downloads packages and everything that they depend on into `folder`, as if nothing were installed.
    ///
    /// # Errors
    /// apt-get's own message stands above.
    pub fn download_from_nothing(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let (partial, status) = (folder.join("partial"), folder.join("installed"));
        fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
        let mut get = self.get();
        get.arg(format!("-oDir::State::status={}", status.display()));
        get.arg(format!("-oDir::Cache::archives={}", folder.display()));
        must(get.args(["--no-install-recommends", "--download-only", "install"]).args(packages))
            .with_context(|| format!("cannot download {}: is the network up?", packages.join(" ")))
    }

    /// Installs packages, from the backports where they are there.
    ///
    /// # Errors
    /// apt-get's own message stands above.
    pub fn install(&self, packages: &[&str]) -> Result<()> {
        let release = release().unwrap_or_default();
        let mut install = self.get();
        install.args(["--no-install-recommends", "install"]);
        let backports = fs::read_to_string(self.folder.join("sources.list"))
            .is_ok_and(|list| list.contains("-backports"));
        if backports {
            install.arg(format!("--target-release={release}-backports"));
        }
        must(install.args(packages)).with_context(|| format!("cannot install {}", packages.join(" ")))
    }
}

/// Where packages come from here: the place and the release's code name, a line each.
fn configured() -> String {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME)",
        "Identifier: Packages",
        "Component: main",
    ]);
    output(&mut targets).unwrap_or_default()
}

/// The sources of a release and its updates that this machine has configured, as lines of sources.list.
pub fn sources_of(release: &str) -> Vec<String> {
    sources(&configured(), release, Path::new(KEYRING).exists())
}

fn sources(configured: &str, release: &str, keyring: bool) -> Vec<String> {
    let signed = if keyring { format!("[signed-by={KEYRING}] ") } else { String::new() };
    let rows = configured.lines().filter_map(|line| line.split_once(' '));
    let is_wanted = |name: &str| {
        name.strip_prefix(release).is_some_and(|rest| ["", "-updates", "-security"].contains(&rest))
    };
    rows.filter(|(_, name)| is_wanted(name))
        .map(|(place, name)| format!("deb {signed}{place} {name} main"))
        .collect()
}

/// How this machine's apt reaches its sources: proxies, time-outs, what it accepts; lines of apt.conf.
pub fn network_options() -> String {
    let dumped = output(Command::new("apt-config").arg("dump")).unwrap_or_default();
    let is_wanted = |line: &&str| {
        ["Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIP"]
            .iter()
            .any(|key| line.starts_with(key))
    };
    dumped.lines().filter(is_wanted).map(|line| format!("{line}\n")).collect()
}

/// This Debian's code name.
pub fn release() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
}

/// The backports of this release and of the next, in the format of sources.list, where they are not configured already.
fn extra_sources(configured: &str, release: &str, keyring: bool) -> String {
    let rows: Vec<(&str, &str)> = configured.lines().filter_map(|line| line.split_once(' ')).collect();
    let Some((place, _)) = rows.iter().find(|(_, name)| *name == release) else { return String::new() };
    let signed = if keyring { format!("[signed-by={KEYRING}] ") } else { String::new() };
    let next = NEXT.iter().find(|(name, _)| *name == release).map(|(_, next)| *next);
    let suites = std::iter::once(release).chain(next).map(|name| format!("{name}-backports"));
    let missing = suites.filter(|suite| rows.iter().all(|(_, name)| name != suite));
    missing.map(|suite| format!("deb {signed}{place} {suite} main\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_a_release_are_its_own_and_its_updates() {
        let here = "http://a.example/debian/ bookworm\nhttp://a.example/debian/ bookworm-updates\n\
                    http://b.example/other/ other-bookworm\nhttp://a.example/debian/ bookworm-backports\n";
        assert_eq!(
            sources(here, "bookworm", false),
            [
                "deb http://a.example/debian/ bookworm main",
                "deb http://a.example/debian/ bookworm-updates main"
            ]
        );
    }

    #[test]
    fn backports_come_from_where_the_release_comes_from_and_are_added_once() {
        let here = "http://a.example/debian/ bookworm\nhttp://b.example/security/ bookworm-security\n";
        assert_eq!(
            extra_sources(here, "bookworm", false),
            "deb http://a.example/debian/ bookworm-backports main\ndeb http://a.example/debian/ trixie-backports main\n"
        );
        let here = format!("{here}http://a.example/debian/ bookworm-backports\n");
        assert_eq!(
            extra_sources(&here, "bookworm", false),
            "deb http://a.example/debian/ trixie-backports main\n"
        );
        assert!(extra_sources(&here, "bookworm", true).starts_with("deb [signed-by=/usr/share/keyrings/"));
        assert_eq!(
            extra_sources(&here, "sid", true),
            "",
            "a release that is not configured has no backports"
        );
    }
}
