//! The VM lab: ERDP on other kernels and other drivers than this machine's, in virtual machines.
//!
//! In the order in which a machine comes up: [`apt`] finds packages, [`kernels`] chooses and unpacks kernels, [`guest`] says what a
//! guest holds, [`debian`] makes one with systemd, and [`initramfs`] packs it, [`qemu`] runs it and reads its console. [`run`] is all of it for one job on one kernel. [`lab`] is
//! one such job: `cargo xtask run --vm`; [`service`] is another, `cargo xtask package --verify`.
//!
//! Everything lies in `target/vm`: package lists, kernels (some 100 MB each), programs without what only debuggers read. A guest's
//! file system is a file without a name, which goes with its owner, however that ends; and so does the machine. Nothing is
//! installed on this machine but QEMU and the tools that pack (`cargo xtask setup` lists them), and no privilege is needed beyond
//! that.

pub mod apt;
pub mod debian;
pub mod guest;
mod initramfs;
pub mod kernels;
pub mod lab;
pub mod qemu;
pub mod service;

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Result, bail};

use self::{
    apt::Apt,
    guest::Job,
    kernels::{Flavour, Kernel},
    qemu::{Machine, Outcome, Wire},
};
use crate::{command::root, pieces::Need, setup, tally::Tally};

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
    setup::ensure(&[Need::Vm, Need::Package])?;
    let vm = folder();
    let apt = Apt::open(&vm)?;
    let chosen = kernels::choose(&apt.kernels(), asked, flavour)?;
    chosen.iter().map(|release| kernels::fetch(&vm, release, || Apt::open(&vm))).collect()
}

/// A test that cannot be run here, because no machine can be made: said, and counted as skipped.
pub fn skip(what: &str, error: &anyhow::Error) -> Tally {
    println!("{}", format!("SKIP: {what}: {error:#}").replace('\n', " "));
    Tally::skip()
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
    let has_tap = job.wants_tap;
    qemu::run(&Machine { kernel, initramfs: &initramfs, wires, has_tap, limit }, &vm, tell)
}

/// Runs `job` on `kernel` with the machine's console on our terminal; the answer is QEMU's exit status.
///
/// # Errors
/// As [`run`].
pub fn interactive(kernel: &Kernel, job: &Job, wires: &[Wire]) -> Result<i32> {
    let vm = folder();
    let quick = Job { script: "true".to_owned(), ..Job::default() };
    let initramfs = guest::build(kernel, &quick, &vm.join("programs"))?;
    let limit = Duration::from_secs(120);
    // Which accelerator works is learned by a machine that does nothing.
    let machine = Machine { kernel, initramfs: &initramfs, wires: &[], has_tap: false, limit };
    let probe = qemu::run(&machine, &vm, &mut |_| ())?;
    let initramfs = guest::build(kernel, job, &vm.join("programs"))?;
    let machine = Machine { kernel, initramfs: &initramfs, wires, has_tap: false, limit };
    qemu::interactive(&machine, probe.accelerator)
}
