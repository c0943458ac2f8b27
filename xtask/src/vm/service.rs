//! `cargo xtask package --verify`: the package as a service, on a clean Debian with systemd in a virtual machine.
//!
//! The guest runs `erdp-lab service`: README's quick start word by word, then reload, restart, upgrade to a package that was built again,
//! watchdog, capabilities, removal. The kernel is the oldest that is supported.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    debian,
    guest::{Job, System},
    kernels::{Flavour, Kernel},
};
use crate::{build, command::root, package, pieces::Need, setup, tally::Tally};

/// By TCG on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);

/// Builds both packages and checks them; a sentence about how it went.
///
/// # Errors
/// When a machine cannot be made, or a check fails.
pub fn run() -> Result<String> {
    setup::ensure(&[Need::Lab, Need::Vm, Need::Package])?;
    let (kernel, debian) = machine()?;
    check(&kernel, &debian)
}

/// The row of `cargo xtask test --full`; skipped where no machine can be made.
pub fn as_test() -> Tally {
    let (kernel, debian) = match machine() {
        Ok(machine) => machine,
        Err(error) => return super::skip("the package as a service", &error),
    };
    println!("\n== the package as a service on kernel {}", kernel.release);
    let result = check(&kernel, &debian);
    println!("{}", result.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), Clone::clone));
    Tally::of_one(result.is_ok())
}

fn machine() -> Result<(Kernel, std::path::PathBuf)> {
    let kernels = super::kernels("oldest", Flavour::Cloud)?;
    let kernel = kernels.into_iter().next().context("there is no kernel")?;
    Ok((kernel, debian::unpacked(&super::folder())?))
}

fn check(kernel: &Kernel, debian: &Path) -> Result<String> {
    let erdp = build::erdp()?;
    let lab = erdp.with_file_name("erdp-lab");
    let newer = package::package_in(&super::folder().join("newer"), &erdp, Some(1))?;
    let package = package::package(&erdp, None)?;
    let name = package.file_name().context("a package has a name")?.to_string_lossy().into_owned();
    let readme = root().join("README.md");
    let files = vec![
        (format!("root/target/package/{name}"), package),
        ("root/newer.deb".to_owned(), newer),
        (readme.to_string_lossy().trim_start_matches('/').to_owned(), readme),
    ];
    let script = format!("'{}' service", lab.display());
    let system = System::Debian(debian.to_owned(), files);
    let job = Job { programs: vec![lab], script, system, ..Job::default() };
    let outcome = super::run(kernel, &job, &[], LIMIT, &mut |line| println!("  | {line}"))?;
    let took = outcome.took.as_secs();
    if outcome.status != 0 {
        bail!("exit status {}, {} {took} s", outcome.status, outcome.accelerator);
    }
    Ok(format!("the package as a service: every check held, {} {took} s", outcome.accelerator))
}
