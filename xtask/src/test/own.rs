//! Rows that are no test program of cargo's: virtual machines, the package as a service, the stranger.
//!
//! Each is run by xtask itself, as `cargo xtask test-row ...`, so that it has an output, an end and a time limit of its own like every
//! other row; its last line is libtest's closing line.

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    command::root,
    package::reproduce,
    tally::Tally,
    test::{released, stranger},
    verify,
    vm::{self, lab::Card},
};

/// Which row.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Own {
    /// Every program loaded and the packet tables run on one kernel
    Kernel {
        /// Its release, or `oldest`
        release: String,
    },
    /// The doctor's network card with offloads
    Offloads,
    /// The lab in a virtual machine, the edge on network cards
    Card {
        /// The driver
        card: Card,
        /// Which kernel
        kernel: String,
    },
    /// The Debian package on a clean Debian with systemd
    Service,
    /// The Debian package built twice, in two folders by two users, and checked by lintian
    Package,
    /// The build of the release before this tree
    Released,
    /// README's two commands on a clean Debian
    Stranger,
}

impl Own {
    /// The row's name.
    pub fn name(&self) -> String {
        match self {
            Own::Kernel { release } => format!("vm kernel {release}"),
            Own::Offloads => "vm offloads".to_owned(),
            Own::Card { card, kernel } => format!("vm card {} {kernel}", card.name()),
            Own::Service => "vm service".to_owned(),
            Own::Package => "package twice".to_owned(),
            Own::Released => "released build".to_owned(),
            Own::Stranger => "stranger".to_owned(),
        }
    }

    /// The command that runs it.
    ///
    /// # Errors
    /// When xtask does not know its own path.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(env::current_exe().context("xtask's own path is unknown")?);
        command.current_dir(root()).arg("test-row");
        match self {
            Own::Kernel { release } => command.args(["kernel", release]),
            Own::Offloads => command.arg("offloads"),
            Own::Card { card, kernel } => command.args(["card", card.word(), kernel]),
            Own::Service => command.arg("service"),
            Own::Package => command.arg("package"),
            Own::Released => command.arg("released"),
            Own::Stranger => command.arg("stranger"),
        };
        if matches!(self, Own::Package | Own::Released) {
            // Beside others a build has one CPU, like every row that keeps a CPU busy.
            command.env("CARGO_BUILD_JOBS", "1");
        }
        Ok(command)
    }

    fn run(&self) -> Tally {
        match self {
            Own::Kernel { release } => verify::as_test(release),
            Own::Offloads => vm::lab::as_test(None),
            Own::Card { card, kernel } => vm::lab::as_test(Some((*card, kernel))),
            Own::Service => vm::service::as_test(),
            Own::Package => reproduce::as_test(),
            Own::Released => released::as_test(),
            Own::Stranger => stranger::as_test(),
        }
    }
}

/// The hidden verb `test-row`.
pub fn run(own: &Own) -> ExitCode {
    let tally = own.run();
    println!("{}", tally.closing());
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
