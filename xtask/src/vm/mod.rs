//! The VM lab: ERDP on other kernels and other drivers than this machine's, in virtual machines.
//!
//! In the order in which a machine comes up: [`apt`] finds packages, [`kernels`] chooses and unpacks kernels, [`guest`] says what a
//! guest holds and [`initramfs`] packs it, [`qemu`] runs it and reads its console. [`run`] is all of it for one job on one kernel. [`lab`] is
//! one such job: `cargo xtask run --vm`.
//!
//! Everything lies in `target/vm`: package lists, kernels (some 100 MB each), programs without what only debuggers read. A guest's
//! file system is a file without a name, which goes with its owner, however that ends; and so does the machine. Nothing is
//! installed on this machine but QEMU and the tools that pack (`cargo xtask setup` lists them), and no privilege is needed beyond
//! that.

pub mod apt;
pub mod guest;
mod initramfs;
pub mod kernels;
pub mod lab;
pub mod qemu;

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Result, bail};

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
    let initramfs = guest::build(kernel, job, &vm.join("programs"))?;
    qemu::run(&Machine { kernel, initramfs: &initramfs, wires, limit }, &vm, tell)
}
