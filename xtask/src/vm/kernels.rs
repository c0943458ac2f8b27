//! Which kernels the VM lab boots: Debian's cloud kernels, one of each series that the sources offer.
//!
//! [`choose`] is pure; [`fetch`] downloads and unpacks what is not in `target/vm/kernels` yet. The full kernel of a release has
//! the drivers of real network cards, which the cloud kernel has not (igb); it is fetched only where it is asked for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use crate::command::must;

/// Cloud kernels are small and have what virtual machines need; full ones have every driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `linux-image-*-cloud-amd64`.
    Cloud,
    /// `linux-image-*-amd64`.
    Full,
}

/// A kernel that has been unpacked.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As `uname -r` shows it.
    pub release: String,
    /// The image to boot.
    pub image: PathBuf,
    /// Its folder of modules, with a list of their dependencies.
    pub modules: PathBuf,
}

/// `6.1` of `6.1.0-56-cloud-amd64`.
pub fn series(release: &str) -> String {
    numbers(release).iter().take(2).map(u64::to_string).collect::<Vec<_>>().join(".")
}

fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The release in a package's name, if it is a kernel of this flavour and not a mere pointer to one.
fn release_of(package: &str, flavour: Flavour) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    let version = release.strip_suffix("-amd64")?;
    let (version, is_cloud) =
        version.strip_suffix("-cloud").map_or((version, false), |version| (version, true));
    let is_kernel = version.matches('.').count() >= 2 && !version.ends_with("-rt");
    (is_kernel && is_cloud == (flavour == Flavour::Cloud)).then_some(release)
}

/// Newer kernels are split into an image and modules, and the modules of older ones go from the archive first.
fn is_whole(release: &str, packages: &[String]) -> bool {
    let has = |part: &str| packages.iter().any(|package| package.strip_prefix(part) == Some(release));
    !has("linux-binary-") || has("linux-modules-")
}

/// The releases that are asked for, oldest first: the newest of each series (`all`), of one series (`6.1`, `oldest`, `newest`), or one by its name;
/// several with commas.
///
/// # Errors
/// When there is none such; the message lists what there is.
pub fn choose(packages: &[String], asked: &str, flavour: Flavour) -> Result<Vec<String>> {
    let mut releases: Vec<&str> = packages
        .iter()
        .filter_map(|package| release_of(package, flavour))
        .filter(|release| is_whole(release, packages))
        .collect();
    releases.sort_by_key(|release| numbers(release));
    let mut newest: Vec<&str> = Vec::new();
    for release in releases {
        if newest.last().is_some_and(|last| series(last) == series(release)) {
            newest.pop();
        }
        newest.push(release);
    }
    let there: Vec<String> = newest.iter().map(|release| series(release)).collect();
    let mut chosen: Vec<String> = Vec::new();
    for word in asked.split(',') {
        let named = |release: &&str| word == "all" || word == series(release) || word == *release;
        let found: Vec<&str> = match word {
            "oldest" => newest.first().copied().into_iter().collect(),
            "newest" => newest.last().copied().into_iter().collect(),
            _ => newest.iter().copied().filter(named).collect(),
        };
        if found.is_empty() {
            bail!(
                "no kernel {word} among the packages that the configured sources offer; there are: {}",
                there.join(", ")
            );
        }
        chosen.extend(found.into_iter().map(str::to_owned));
    }
    Ok(chosen)
}

/// The kernel `release`, downloaded and unpacked unless it has been.
///
/// # Errors
/// When it cannot be downloaded, or the package holds something else than expected.
pub fn fetch(vm: &Path, release: &str, apt: impl FnOnce() -> Result<Apt>) -> Result<Kernel> {
    let folder = vm.join("kernels").join(release);
    if !folder.exists() {
        println!("vm: fetching kernel {release}");
        // Under another name until it is whole: an interrupted download is no kernel.
        let partial = vm.join("kernels").join(format!("{release}.partial"));
        let _gone = fs::remove_dir_all(&partial);
        apt()?.unpack(&format!("linux-image-{release}"), &partial)?;
        let modules = modules_of(&partial, release)?;
        let base = modules.ancestors().nth(3).context("a folder of modules lies in lib/modules")?;
        must(Command::new("depmod").arg("-b").arg(base).arg(release))?;
        fs::rename(&partial, &folder).with_context(|| format!("cannot rename {}", partial.display()))?;
    }
    let modules = modules_of(&folder, release)?;
    let places = [folder.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = places.into_iter().find(|place| place.exists());
    let image = image.with_context(|| format!("the package linux-image-{release} holds no vmlinuz"))?;
    Ok(Kernel { release: release.to_owned(), image, modules })
}

fn modules_of(folder: &Path, release: &str) -> Result<PathBuf> {
    let places = ["lib/modules", "usr/lib/modules"].map(|place| folder.join(place).join(release));
    places.into_iter().find(|place| place.join("kernel").exists()).with_context(|| {
        format!(
            "the package linux-image-{release} holds no modules: remove {} and try again",
            folder.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Vec<String> {
        [
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-56-rt-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.5+deb13-cloud-amd64",
            "linux-binary-7.3.5+deb13-cloud-amd64",
        ]
        .map(str::to_owned)
        .into()
    }

    #[test]
    fn the_newest_kernel_of_each_series_is_chosen_oldest_series_first() {
        let (old, lts, new) =
            ("6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64", "7.3.4+deb13-cloud-amd64");
        for (asked, expected) in
            [("all", vec![old, lts, new]), ("6.1", vec![old]), ("6.12,6.1", vec![lts, old]), (new, vec![new])]
        {
            let chosen = choose(&packages(), asked, Flavour::Cloud).expect(asked);
            assert_eq!(chosen, expected, "{asked}");
        }
        assert_eq!(choose(&packages(), "all", Flavour::Full).expect("one"), ["6.1.0-56-amd64"]);
    }

    #[test]
    fn a_kernel_that_nobody_offers_is_refused_with_those_that_there_are() {
        let error = choose(&packages(), "5.10", Flavour::Cloud).expect_err("there is none").to_string();
        assert!(error.contains("no kernel 5.10") && error.ends_with("6.1, 6.12, 7.3"), "{error}");
    }
}
