//! `cargo xtask run --vm`: the lab's run inside a virtual machine, its edge on network cards with tagged links.
//!
//! The guest runs `erdp-lab run --cards`, which is the same lab and the same checks as on this machine: three cables between pairs of
//! cards take the place of the veth pairs at the edge. What is shown is that ERDP works with that kernel and that driver, in native
//! XDP mode; how fast is not, because processors are emulated where KVM does not work.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    guest::Job,
    kernels::{Flavour, Kernel},
    qemu::{self, Wire},
};
use crate::{build, pieces::Need, setup};

/// Which driver the edge's cards have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Card {
    /// virtio-net, which filters VLANs and addresses before XDP.
    Virtio,
    /// Intel's igb, which takes tags off before XDP; QEMU 8 or newer.
    Igb,
}

/// What `run --vm` was told.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// With --vm: which kernels: a series as 6.1, several with commas, `oldest`, `newest`, or `all`
    #[arg(long, value_name = "KERNELS", requires = "vm", default_value = "oldest,newest")]
    kernel: String,
    /// With --vm: only the run with this network card (without: virtio on each kernel, then igb on the newest)
    #[arg(long, requires = "vm")]
    card: Option<Card>,
}

/// The first QEMU that has an igb.
const QEMU_WITH_IGB: u32 = 8;
/// By TCG on a busy machine; by KVM it is a minute.
const LIMIT: Duration = Duration::from_secs(900);

/// The whole of it.
///
/// # Errors
/// When a machine cannot be made; runs that fail are the exit code.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(&[Need::Lab, Need::Vm])?;
    let erdp = build::erdp()?;
    let job = Job {
        programs: vec![erdp.clone(), erdp.with_file_name("erdp-lab")],
        files: Vec::new(),
        script: format!("exec '{}' run --once --cards", erdp.with_file_name("erdp-lab").display()),
    };
    let mut rows = Vec::new();
    for (card, kernel) in runs(options)? {
        println!("\n== {card:?} on kernel {}", kernel.release);
        rows.push((card, kernel.release.clone(), one(&kernel, card, &job)));
    }
    println!();
    let mut bad = false;
    for (card, release, result) in rows {
        bad |= result.is_err();
        let row = result.unwrap_or_else(|error| format!("FAILED: {error:#}"));
        println!("{card:?} on kernel {release}: {row}");
    }
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn runs(options: &Options) -> Result<Vec<(Card, Kernel)>> {
    let mut runs = Vec::new();
    if options.card != Some(Card::Igb) {
        let kernels = super::kernels(&options.kernel, Flavour::Cloud)?;
        runs.extend(kernels.into_iter().map(|kernel| (Card::Virtio, kernel)));
    }
    if options.card != Some(Card::Virtio) {
        match qemu::version() {
            Some(version) if version >= QEMU_WITH_IGB => {
                let asked = if options.card.is_some() { &options.kernel } else { "newest" };
                let kernels = super::kernels(asked, Flavour::Full)?;
                runs.extend(kernels.into_iter().map(|kernel| (Card::Igb, kernel)));
            }
            version => {
                let version = version.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
                let reason = format!(
                    "QEMU's version is {version}, and igb came with {QEMU_WITH_IGB}: install it from the backports"
                );
                if options.card.is_some() {
                    bail!("{reason}");
                }
                println!("SKIP: igb: {reason}");
            }
        }
    }
    Ok(runs)
}

fn one(kernel: &Kernel, card: Card, job: &Job) -> Result<String> {
    let edge = match card {
        Card::Virtio => "virtio-net-pci",
        Card::Igb => "igb",
    };
    let wires = [Wire { edge, far: "virtio-net-pci" }; 3];
    let begin = Instant::now();
    let outcome = super::run(kernel, job, &wires, LIMIT, &mut |line| println!("  | {line}"))?;
    let took = begin.elapsed().as_secs();
    if outcome.status != 0 {
        bail!("exit status {}, {} {took} s", outcome.status, outcome.accelerator);
    }
    Ok(format!("every check held, {} {took} s", outcome.accelerator))
}
