//! `cargo xtask run --vm`: the lab's run inside a virtual machine, its edge on network cards with tagged links.
//!
//! The guest runs `erdp-lab run --cards`, which is the same lab and the same checks as on this machine: three cables between pairs of
//! cards take the place of the veth pairs at the edge. What is shown is that ERDP works with that kernel and that driver, in native
//! XDP mode; how fast is not, because processors are emulated where KVM does not work.

use std::{
    process::ExitCode,
    slice,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use super::{
    guest::Job,
    kernels::{Flavour, Kernel},
    qemu::{self, Wire},
};
use crate::{build, cargo_tests::Tally, pieces::Need, setup};

/// Which driver the edge's cards have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Card {
    /// virtio-net, which filters VLANs and addresses before XDP.
    Virtio,
    /// Intel's igb, which takes tags off before XDP; QEMU 8 or newer.
    Igb,
    /// VMware's vmxnet3, which also merges packets before XDP.
    Vmxnet3,
}

/// What `run --vm` was told.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// With --vm: which kernels: a series as 6.1, several with commas, `oldest`, `newest`, or `all`
    #[arg(long, value_name = "KERNELS", requires = "vm", default_value = KERNELS)]
    kernel: String,
    /// With --vm: only the run with this network card (without: virtio on each kernel, the others on the newest)
    #[arg(long, requires = "vm")]
    card: Option<Card>,
}

impl Card {
    fn name(self) -> &'static str {
        match self {
            Card::Virtio => "virtio-net",
            Card::Igb => "igb",
            Card::Vmxnet3 => "vmxnet3",
        }
    }

    /// As QEMU calls it.
    fn device(self) -> &'static str {
        match self {
            Card::Virtio => "virtio-net-pci",
            Card::Igb => "igb",
            Card::Vmxnet3 => "vmxnet3",
        }
    }
}

const KERNELS: &str = "oldest,newest";
/// The first QEMU that has an igb.
const QEMU_WITH_IGB: u32 = 8;
/// By TCG on a busy machine; by KVM it is a minute.
const LIMIT: Duration = Duration::from_secs(900);

/// The verb: one line for each run at the end.
///
/// # Errors
/// When a machine cannot be made; runs that fail are the exit code.
pub fn run(options: &Options) -> Result<ExitCode> {
    let rows = rows(options)?;
    println!();
    let mut code = ExitCode::SUCCESS;
    for (name, result) in rows {
        match result {
            Ok(row) => println!("{name}: {row}"),
            Err(error) => {
                println!("{name}: FAILED: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// The rows of `cargo xtask test --full`: what `run --vm` runs, each run a test.
pub fn as_test() -> Tally {
    let told = match rows(&Options { kernel: KERNELS.to_owned(), card: None }) {
        Ok(rows) => rows,
        Err(error) => vec![("run --vm".to_owned(), Err(error))],
    };
    let mut tally = Tally::default();
    for (name, result) in told {
        println!(
            "{name}: {}",
            result.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), Clone::clone)
        );
        tally = tally.plus(Tally::of_one(result.is_ok()));
    }
    tally
}

/// Runs everything that is asked for: a name and how it ended.
fn rows(options: &Options) -> Result<Vec<(String, Result<String>)>> {
    setup::ensure(&[Need::Lab, Need::Vm])?;
    let erdp = build::erdp()?;
    let lab = erdp.with_file_name("erdp-lab");
    let script = format!("exec '{}' run --once --cards", lab.display());
    let job = Job { programs: vec![erdp, lab], files: Vec::new(), script };
    let mut rows = Vec::new();
    for (card, kernel) in runs(options)? {
        let name = format!("{} on kernel {}", card.name(), kernel.release);
        println!("\n== {name}");
        rows.push((name, one(&kernel, card, &job)));
    }
    Ok(rows)
}

/// Every card on its kernels. Without a choice of the operator's: virtio on all that are asked for, the others on the newest.
fn runs(options: &Options) -> Result<Vec<(Card, Kernel)>> {
    let mut runs = Vec::new();
    for &card in options.card.as_ref().map_or(Card::value_variants(), slice::from_ref) {
        if card == Card::Igb
            && let Some(reason) = no_igb(qemu::version())
        {
            if options.card.is_some() {
                bail!("{reason}");
            }
            println!("SKIP: igb: {reason}");
            continue;
        }
        let is_of_clouds = card == Card::Virtio;
        let flavour = if is_of_clouds { Flavour::Cloud } else { Flavour::Full };
        let asked = if is_of_clouds || options.card.is_some() { &options.kernel } else { "newest" };
        runs.extend(super::kernels(asked, flavour)?.into_iter().map(|kernel| (card, kernel)));
    }
    Ok(runs)
}

fn no_igb(qemu: Option<u32>) -> Option<String> {
    (qemu < Some(QEMU_WITH_IGB)).then(|| {
        let version = qemu.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
        format!(
            "QEMU's version is {version}, and igb came with {QEMU_WITH_IGB}: install it from the backports"
        )
    })
}

fn one(kernel: &Kernel, card: Card, job: &Job) -> Result<String> {
    let wires = [Wire { edge: card.device(), far: Card::Virtio.device() }; 3];
    let begin = Instant::now();
    let outcome = super::run(kernel, job, &wires, LIMIT, &mut |line| println!("  | {line}"))?;
    let took = begin.elapsed().as_secs();
    if outcome.status != 0 {
        bail!("exit status {}, {} {took} s", outcome.status, outcome.accelerator);
    }
    Ok(format!("every check held, {} {took} s", outcome.accelerator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_or_unknown_qemu_has_no_igb_and_says_so() {
        assert!(no_igb(Some(7)).is_some_and(|reason| reason.contains("QEMU's version is 7")));
        assert!(no_igb(None).is_some_and(|reason| reason.contains("unknown")));
        assert_eq!(no_igb(Some(8)), None);
    }
}
