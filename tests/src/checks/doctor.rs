//! Network cards as they come lose tagged traffic before XDP: `erdp run` must refuse them, `erdp doctor` name the remedy, and
//! `erdp doctor --fix` make it work. Which card has which fault is known: virtio-net filters VLANs, igb takes tags off as well, and
//! vmxnet3 also merges packets.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};

use erdp::kernel::preflight::Kind;

use crate::{
    edge,
    lab::{Lab, enter, plan},
};

/// The machine cannot run the router.
pub(super) const REFUSED: i32 = 3;

/// Which drivers' cards have which fault as they come, and how it is told.
const FAULTS: &[(Kind, &[&str], &str)] = &[
    (Kind::VlanFilter, &["virtio_net", "igb", "vmxnet3"], "filters VLANs"),
    (Kind::TagsStripped, &["igb", "vmxnet3"], "strips VLAN tags"),
    (Kind::Lro, &["vmxnet3"], "merges packets before XDP sees them (LRO)"),
];

/// Refused, told, treated: one sentence for each.
///
/// # Errors
/// When erdp starts on cards that would lose traffic, or a fault is not found, or stays.
pub fn treat(lab: &Lab) -> Result<Vec<String>> {
    let config = lab.folder().join("edge.toml");
    std::fs::write(&config, edge::configuration_on(lab.ground()))
        .with_context(|| format!("cannot write {}", config.display()))?;
    let config = config.to_string_lossy().into_owned();
    let mut expected = Vec::new();
    for interface in [plan::PRIMARY.near.1, plan::SECONDARY.near.1, plan::CE.far.1] {
        let driver = driver(lab, interface)?;
        let of_driver = FAULTS.iter().filter(|(_, drivers, _)| drivers.contains(&driver.as_str()));
        let faults: Vec<_> =
            of_driver.map(|(_, _, words)| format!("interface {interface}: {words}")).collect();
        ensure!(!faults.is_empty(), "nothing is known of cards by {driver}");
        expected.extend(faults);
    }
    let control = lab.folder().join("refused.sock");
    let refused = erdp(lab, &["run", "--config", &config, "--control", &control.to_string_lossy()])?;
    said(&refused, REFUSED, &expected).context("`erdp run` on cards as they come")?;
    let told = erdp(lab, &["doctor", "--config", &config])?;
    said(&told, REFUSED, &expected).context("`erdp doctor`")?;
    let treated = erdp(lab, &["doctor", "--config", &config, "--fix"])?;
    said(&treated, 0, &[]).context("`erdp doctor --fix`")?;
    let done = String::from_utf8_lossy(&treated.stdout).into_owned();
    let done: Vec<&str> = done.lines().filter_map(|line| line.strip_prefix("done")).map(str::trim).collect();
    ensure!(done.len() >= expected.len(), "`erdp doctor --fix` has done too little: {done:?}");
    Ok(vec![
        format!("erdp run refused the cards as they come: {}", expected.join("; ")),
        format!("erdp doctor --fix: {}", done.join("; ")),
    ])
}

fn erdp(lab: &Lab, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(edge::binary()?);
    command.args(words).stdin(Stdio::null());
    enter::prepare(&mut command, lab.namespace("edge")?.name())?;
    command.output().context("cannot start erdp")
}

pub(super) fn said(output: &Output, code: i32, words: &[String]) -> Result<()> {
    let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    ensure!(output.status.code() == Some(code), "{} instead of exit code {code}: {text}", output.status);
    for word in words {
        ensure!(text.contains(word.as_str()), "`{word}` is not in: {text}");
    }
    Ok(())
}

fn driver(lab: &Lab, interface: &str) -> Result<String> {
    let printed = lab.namespace("edge")?.exec("ethtool", &["-i", interface])?;
    let driver = printed.lines().find_map(|line| line.strip_prefix("driver: "));
    Ok(driver.context("ethtool -i names no driver")?.to_owned())
}
