//! `cargo xtask lab`: the lab's namespaces, links and routers without ERDP's checks, left up for exploring.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{
    command::{command, is_root},
    run::{become_program, lab_program},
    vm,
};

/// What to do with the lab.
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Bring a lab up, start erdp in its edge, and leave both running in the background
    Up,
    /// Take down the labs that `up` has left
    Down,
    /// List the labs that are up, their namespaces and how to enter them
    Status,
    /// Start a shell in a namespace of a lab: host, ce, edge, msee1, msee2 or azure
    Enter {
        /// The namespace's short name
        name: String,
    },
    /// The lab in a virtual machine, the edge on network cards with tagged links, with a shell on the machine's console;
    /// needs no root
    Vm(vm::lab::Explore),
}

/// The verb.
pub fn run(verb: &Verb) -> Result<ExitCode> {
    if let Verb::Vm(options) = verb {
        return vm::lab::explore(options);
    }
    if !is_root() {
        bail!(
            "`lab` makes and enters network namespaces, which needs root: run `sudo -E cargo xtask lab ...`"
        );
    }
    let mut lab = command(lab_program()?);
    match verb {
        Verb::Up => lab.arg("up"),
        Verb::Down => lab.arg("down"),
        Verb::Status => lab.arg("status"),
        Verb::Enter { name } => lab.args(["enter", name]),
        Verb::Vm(_) => bail!("a virtual machine is not made by the lab's own program"),
    };
    become_program(lab)
}
