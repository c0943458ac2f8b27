//! Findings about a card with offloads and several queues: one on a TAP of the host's, which is the only backend that QEMU has
//! offloads for (`cargo xtask run --vm`, the run called "offloads"). Nothing is forwarded; each finding is provoked, told,
//! and gone after `erdp doctor --fix`.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use erdp::kernel::preflight::Kind;

use super::doctor::{REFUSED, said};
use crate::{edge, lab::cards};

/// The card's number among those of the machine (xtask's `vm/qemu.rs`).
const NUMBER: usize = 0xff;
const CONFIG: &str = "/run/offloads.toml";
const NAME: &str = "eth1";

/// What provokes a finding, how it is told, whether the router refuses to start.
struct Row {
    kind: Kind,
    provoke: fn() -> Result<()>,
    words: &'static str,
    refuses: bool,
}

const ROWS: &[Row] = &[
    // As the card comes: guest_tso4 is on.
    Row {
        kind: Kind::GroHw,
        provoke: as_it_is,
        words: "merges packets before XDP sees them (GRO_HW)",
        refuses: true,
    },
    Row {
        kind: Kind::Queues,
        provoke: one_queue,
        words: "has 1 receive queue(s) and could have 2",
        refuses: false,
    },
    Row {
        kind: Kind::Interrupts,
        provoke: all_on_one_processor,
        words: "has 2 receive queues whose interrupts all go to CPU 1",
        refuses: false,
    },
];

/// Everything; a sentence for each finding.
///
/// # Errors
/// When one is not found, or stays.
pub fn run(tell: &mut dyn FnMut(&str)) -> Result<Vec<String>> {
    let card = cards::card(&cards::mac(NUMBER, 0))?;
    sh(&format!("ip link set {card} down; ip link set {card} name {NAME}; ip link set {NAME} up mtu 1508"))?;
    let tags = "[circuit.private]\nipv4 = \"198.18.0.0/29\"\nvlan = 100\n";
    fs::write(
        CONFIG,
        format!(
            "asn = 65010\n[[circuit]]\nname = \"lab\"\nbandwidth = \"1G\"\nprimary = {{ local = \"{NAME}\" }}\n\
             secondary = {{ box = \"edge-b\" }}\n{tags}[[attachment]]\ninterface = \"{NAME}\"\nvlan = 200\n\
             peerings = [\"lab/private\"]\nipv4 = \"198.18.1.1/30\"\n"
        ),
    )
    .context("cannot write the configuration")?;
    let mut sentences = Vec::new();
    for row in ROWS {
        (row.provoke)()?;
        let code = if row.refuses { REFUSED } else { 0 };
        let words = [format!("interface {NAME}: {}", row.words)];
        let told = erdp(&["doctor", "--config", CONFIG])?;
        tell(&String::from_utf8_lossy(&told.stdout));
        said(&told, code, &words).with_context(|| format!("{:?} is not told", row.kind))?;
        if row.refuses {
            let refused = erdp(&["run", "--config", CONFIG, "--control", "/run/offloads.sock"])?;
            said(&refused, REFUSED, &words).context("`erdp run`")?;
        }
        let treated = erdp(&["doctor", "--config", CONFIG, "--fix"])?;
        said(&treated, 0, &["done".to_owned()]).with_context(|| format!("{:?} is not treated", row.kind))?;
        let after = erdp(&["doctor", "--config", CONFIG])?;
        let text = String::from_utf8_lossy(&after.stdout).into_owned();
        ensure!(after.status.code() == Some(0) && !text.contains(row.words), "{:?} stays: {text}", row.kind);
        sentences.push(format!("{:?} was told and treated", row.kind));
    }
    Ok(sentences)
}

fn as_it_is() -> Result<()> {
    let features = sh(&format!("ethtool -k {NAME}"))?;
    ensure!(features.contains("rx-gro-hw: on"), "the card has no GRO_HW: {features}");
    Ok(())
}

fn one_queue() -> Result<()> {
    sh(&format!("ethtool -L {NAME} combined 1")).map(drop)
}

fn all_on_one_processor() -> Result<()> {
    sh(&format!("ethtool -L {NAME} combined 2"))?;
    let bus = sh(&format!("ethtool -i {NAME}"))?;
    let bus = bus.lines().find_map(|line| line.strip_prefix("bus-info: ")).context("no bus")?.to_owned();
    sh(&format!(
        "for irq in /sys/bus/pci/devices/{bus}/msi_irqs/*; do irq=${{irq##*/}}; \
         grep -q input /sys/kernel/irq/$irq/actions && echo 1 > /proc/irq/$irq/smp_affinity_list; done; true"
    ))
    .map(drop)
}

fn sh(command: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", command]).output().context("cannot start a shell")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "`{command}`: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

fn erdp(words: &[&str]) -> Result<Output> {
    let mut command = Command::new(edge::binary()?);
    command.args(words).stdin(Stdio::null()).output().context("cannot start erdp")
}
