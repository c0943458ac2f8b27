//! `cargo xtask run --vm`: the lab's run inside a virtual machine, its edge on network cards with tagged links.
//!
//! The guest runs `erdp-lab run --cards`, which is the same lab and the same checks as on this machine: three cables between pairs of
//! cards take the place of the veth pairs at the edge. What is shown is that ERDP works with that kernel and that driver, in native
//! XDP mode; how fast is not, because processors are emulated where KVM does not work.

use std::{
    env,
    path::Path,
    process::ExitCode,
    slice,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum as _;

use super::{
    guest::Job,
    kernels::{Flavour, Kernel},
    qemu::{self, Wire},
};
use crate::{build, pieces::Need, setup, tally::Tally};

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
    /// With --vm: only the run of a card with offloads, which the doctor treats
    #[arg(long, requires = "vm", conflicts_with_all = ["card", "kernel"])]
    offloads: bool,
}

/// What `lab vm` was told.
#[derive(Clone, Debug, clap::Args)]
pub struct Explore {
    /// Which kernel: a series as 6.1, `oldest` or `newest`
    #[arg(long, value_name = "KERNEL", default_value = "oldest")]
    kernel: String,
    /// The driver of the edge's cards
    #[arg(long, default_value = "virtio")]
    card: Card,
}

impl Card {
    /// As Linux calls its driver.
    pub fn name(self) -> &'static str {
        match self {
            Card::Virtio => "virtio-net",
            Card::Igb => "igb",
            Card::Vmxnet3 => "vmxnet3",
        }
    }

    /// As `--card` takes it.
    pub fn word(self) -> &'static str {
        match self {
            Card::Virtio => "virtio",
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

/// How a run has ended.
enum End {
    /// Well; a sentence.
    Held(String),
    /// Not well.
    Failed(anyhow::Error),
    /// There could be no such machine here.
    Cannot(anyhow::Error),
}

/// The verb: one line for each run at the end. What cannot be made here is skipped and said; with CI=true that is a failure.
///
/// # Errors
/// When no machine can be made; runs that fail are the exit code.
pub fn run(options: &Options) -> Result<ExitCode> {
    let begin = Instant::now();
    let rows = rows(options)?;
    println!();
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    let is_good = rows.iter().any(|(_, end)| matches!(end, End::Held(_)))
        && rows.iter().all(|(_, end)| match end {
            End::Held(_) => true,
            End::Failed(_) => false,
            End::Cannot(_) => !in_ci,
        });
    rows.iter().for_each(tell);
    println!("{} runs in {:.0} s", rows.len(), begin.elapsed().as_secs_f32());
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell((name, end): &(String, End)) {
    match end {
        End::Held(row) => println!("{name}: {row}"),
        End::Failed(error) => println!("{name}: FAILED: {error:#}"),
        End::Cannot(error) => println!("{}", format!("SKIP: {name}: {error:#}").replace('\n', " ")),
    }
}

/// A row of `cargo xtask test`: one card on one kernel, or the doctor's card with offloads.
pub fn as_test(card: Option<(Card, &str)>) -> Tally {
    let options = Options {
        kernel: card.map_or(KERNELS, |(_, kernel)| kernel).to_owned(),
        card: card.map(|(card, _)| card),
        offloads: card.is_none(),
    };
    let rows = match rows(&options) {
        Ok(rows) => rows,
        Err(error) => vec![("run --vm".to_owned(), End::Failed(error))],
    };
    rows.iter().for_each(tell);
    let tallies = rows.iter().map(|(_, end)| match end {
        End::Held(_) => Tally::of_one(true),
        End::Failed(_) => Tally::of_one(false),
        End::Cannot(_) => Tally::skip(),
    });
    tallies.fold(Tally::default(), Tally::plus)
}

/// Runs everything that is asked for: a name and how it ended.
fn rows(options: &Options) -> Result<Vec<(String, End)>> {
    let mut rows = Vec::new();
    let job = job()?;
    let runs = if options.offloads { Vec::new() } else { runs(options) };
    for (card, kernel) in runs {
        match kernel {
            Ok(kernel) => {
                let name = format!("{} on kernel {}", card.name(), kernel.release);
                println!("\n== {name}");
                rows.push((name, one(&kernel, card, &job).map_or_else(End::Failed, End::Held)));
            }
            Err(error) => rows.push((card.name().to_owned(), End::Cannot(error))),
        }
    }
    if options.card.is_none() {
        rows.push(offloads(&job));
    }
    Ok(rows)
}

/// A card with offloads and several queues, which the doctor has to see and to treat ("offloads"): on the oldest kernel.
fn offloads(job: &Job) -> (String, End) {
    let name = "offloads of virtio-net".to_owned();
    let kernel = match kernels_of(Card::Virtio, "oldest").map(|mut kernels| kernels.pop()) {
        Ok(Some(kernel)) => kernel,
        Ok(None) => return (name, End::Cannot(anyhow!("there is no kernel"))),
        Err(error) => return (name, End::Cannot(error)),
    };
    if !Path::new("/dev/net/tun").exists() {
        return (
            name,
            End::Cannot(anyhow!("this kernel has no TAP (/dev/net/tun), QEMU's only backend with offloads")),
        );
    }
    let name = format!("{name} on kernel {}", kernel.release);
    println!("\n== {name}");
    let script = job.script.replace("run --once --cards", "offloads");
    let job = Job { script, wants_tap: true, ..job.clone() };
    let end = on(&kernel, &job, &[]).map_or_else(End::Failed, End::Held);
    (name, end)
}

/// The lab's programs and its run.
fn job() -> Result<Job> {
    let erdp = build::erdp()?;
    let lab = erdp.with_file_name("erdp-lab");
    let script = format!("exec '{}' run --once --cards", lab.display());
    Ok(Job { programs: vec![erdp, lab], script, ..Job::default() })
}

/// Every card on its kernels. Without a choice of the operator's: virtio on all that are asked for, the others on the newest.
fn runs(options: &Options) -> Vec<(Card, Result<Kernel>)> {
    let mut runs = Vec::new();
    for &card in options.card.as_ref().map_or(Card::value_variants(), slice::from_ref) {
        let is_of_clouds = card == Card::Virtio;
        let asked = if is_of_clouds || options.card.is_some() { &options.kernel } else { "newest" };
        match kernels_of(card, asked) {
            Ok(kernels) => runs.extend(kernels.into_iter().map(|kernel| (card, Ok(kernel)))),
            Err(error) => runs.push((card, Err(error))),
        }
    }
    runs
}

fn kernels_of(card: Card, asked: &str) -> Result<Vec<Kernel>> {
    setup::ensure(&[Need::Lab, Need::Vm, Need::Package])?;
    if card == Card::Igb
        && let Some(reason) = no_igb(qemu::version())
    {
        bail!("{reason}");
    }
    let flavour = if card == Card::Virtio { Flavour::Cloud } else { Flavour::Full };
    super::kernels(asked, flavour)
}

/// `cargo xtask lab vm`: the lab left up in one machine, with a shell on its console; the end of the shell is the machine's.
///
/// # Errors
/// When the machine cannot be made.
pub fn explore(options: &Explore) -> Result<ExitCode> {
    let kernel = kernels_of(options.card, &options.kernel)?.pop().context("there is no kernel")?;
    let mut job = job()?;
    let lab = job.programs.last().context("the lab's program")?.display().to_string();
    job.script = format!(
        "printf '#!/bb/sh\\nexec {lab} \"$@\"\\n' >/bb/lab; chmod +x /bb/lab\n\
         ln -sf '{}' /bb/erdp\n\
         lab up --cards || exit 1\n\
         echo 'here it is `lab status`, `lab enter NAME`; the end of this shell is the end of the machine'\n\
         setsid cttyhack sh -i\ncode=$?\nlab down\nexit $code",
        job.programs[0].display()
    );
    let wires = wires(options.card);
    println!("{} on kernel {}: the machine's console is this terminal", options.card.name(), kernel.release);
    let status = super::interactive(&kernel, &job, &wires)?;
    Ok(if status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wires(card: Card) -> [Wire; 3] {
    [Wire { edge: card.device(), far: Card::Virtio.device() }; 3]
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
    on(kernel, job, &wires(card))
}

fn on(kernel: &Kernel, job: &Job, wires: &[Wire]) -> Result<String> {
    let begin = Instant::now();
    let outcome = super::run(kernel, job, wires, LIMIT, &mut |line| println!("  | {line}"))?;
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
