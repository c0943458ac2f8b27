//! `cargo xtask run`: ERDP in a lab of network namespaces, with `--config` as a daemon on real interfaces, or with
//! `--vm` the lab in virtual machines.
//!
//! The lab itself is the program `erdp-lab` of the tests crate; this verb sets the machine up, builds, and becomes it.

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    command::{command, is_root, line},
    pieces::Need,
    setup, vm,
};

/// Options of `run`.
#[derive(clap::Args)]
pub struct Options {
    /// Run the daemon on this machine's own interfaces by this configuration file instead of the lab
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// With --config: accept interfaces that can only do generic (slow) XDP
    #[arg(long, requires = "config")]
    allow_generic: bool,
    /// With --config: the control socket that `erdp show` speaks to
    #[arg(long, value_name = "SOCKET", requires = "config", default_value = "/run/erdp/control.sock")]
    control: PathBuf,
    /// Without --config: end after the checks, even on a terminal
    #[arg(long, conflicts_with = "config")]
    once: bool,
    /// The lab in virtual machines with other kernels, the edge on their network cards with tagged links; needs no root
    #[arg(long, conflicts_with = "config")]
    vm: bool,
    #[command(flatten)]
    machines: vm::lab::Options,
}

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.vm {
        return vm::lab::run(&options.machines);
    }
    if !is_root() {
        bail!(
            "`run` makes network namespaces and loads BPF programs, which needs root: run `sudo -E cargo xtask run`"
        );
    }
    let Some(config) = &options.config else {
        let mut lab = command(lab_program()?);
        lab.arg("run");
        if options.once {
            lab.arg("--once");
        }
        return become_program(lab);
    };
    let config = config
        .canonicalize()
        .with_context(|| format!("cannot read the configuration {}", config.display()))?;
    let mut erdp = command(build::erdp()?);
    erdp.arg("run").arg("--config").arg(config).arg("--control").arg(&options.control);
    if options.allow_generic {
        erdp.arg("--allow-generic");
    }
    become_program(erdp)
}

/// Builds `erdp-lab` (and `erdp`, which it starts); returns its path.
pub fn lab_program() -> Result<PathBuf> {
    setup::ensure(&[Need::Lab])?;
    Ok(build::erdp()?.with_file_name("erdp-lab"))
}

/// Replaces xtask, so that signals and the terminal are the program's own; returns only if that fails.
pub fn become_program(mut program: std::process::Command) -> Result<ExitCode> {
    let error = program.exec();
    Err(error).with_context(|| format!("cannot start `{}`", line(&program)))
}
