//! The VM lab: ERDP on other kernels and other drivers than this machine's, in virtual machines.
//!
//! In the order in which a machine comes up: [`apt`] finds packages, [`kernels`] chooses and unpacks kernels, [`guest`] says what a
//! guest holds and [`initramfs`] packs it, [`qemu`] runs it and reads its console. [`run`] is all of it for one job on one kernel. [`lab`] is
//! one such job: `cargo xtask run --vm`.
//!
//! Everything lies in `target/vm`: package lists, kernels (some 100 MB each), and a folder for each running machine, which goes with
//! it. Nothing is installed on this machine but QEMU and the tools that pack (`cargo xtask setup` lists them), and no
//! privilege is needed beyond that. What must never happen: a machine, or a folder of one, that outlives its owner.

pub mod apt;
pub mod guest;
mod initramfs;
pub mod kernels;
pub mod lab;
pub mod qemu;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::{
    apt::Apt,
    guest::Job,
    kernels::{Flavour, Kernel},
    qemu::{Machine, Outcome, Wire},
};
use crate::{command::root, pieces::Need, setup};

/// The lab's folder.
pub fn folder() -> PathBuf {
    root().join("target/vm")
}

/// The kernels that are asked for, ready to boot.
///
/// # Errors
/// When there are none such, or they cannot be fetched.
pub fn kernels(asked: &str, flavour: Flavour) -> Result<Vec<Kernel>> {
    if env::consts::ARCH != "x86_64" {
        bail!("the VM lab boots x86-64 kernels, and this machine is {}", env::consts::ARCH);
    }
    setup::ensure(&[Need::Vm])?;
    let vm = folder();
    let apt = Apt::open(&vm)?;
    let chosen = kernels::choose(&apt.kernels(), asked, flavour)?;
    chosen.iter().map(|release| kernels::fetch(&vm, release, || Apt::open(&vm))).collect()
}

/// Runs `job` on `kernel` in a machine with these wires; its console goes to `tell`.
///
/// # Errors
/// When the machine cannot be built or does not end as it should; a job that fails is an [`Outcome`].
pub fn run(
    kernel: &Kernel,
    job: &Job,
    wires: &[Wire],
    limit: Duration,
    tell: &mut dyn FnMut(&str),
) -> Result<Outcome> {
    let vm = folder();
    let own = OwnFolder::make(&vm.join("run"))?;
    let initramfs = own.0.join("initramfs");
    guest::build(kernel, job, &own.0, &initramfs)?;
    qemu::run(&Machine { kernel, initramfs: &initramfs, wires, limit }, &vm, tell)
}

/// A folder named after this process, gone when dropped; those of processes that are gone go first.
struct OwnFolder(PathBuf);

impl OwnFolder {
    fn make(parent: &Path) -> Result<OwnFolder> {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !Path::new("/proc").join(&name).exists() {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        let own = parent.join(process::id().to_string());
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        Ok(OwnFolder(own))
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}
