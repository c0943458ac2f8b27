//! The package as a service of a real systemd, on a machine of its own: what `erdp-lab service` checks inside a virtual machine
//! whose first process is systemd (`cargo xtask package --verify`).
//!
//! The machine itself is the edge: the edge's ends of the [small lab](crate::small)'s links are moved out of its namespace into the
//! machine's own, under the names that README uses. [`steps`] are the checks in their order; here is what they ask systemd.
//!
//! What must never happen: that this runs on a machine which is not ours to change. [`run`] refuses where the guest's init has not
//! said that it is one.

mod steps;

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    lab::plan,
    run::Summary,
    small::SmallLab,
    traffic::probe::{Probe, Report},
};

/// What the guest's init writes down.
const GUEST: &str = "/run/erdp-vm";
/// A port for each probe: what is late of one is not taken for another's.
const FIRST_PORT: u16 = 40_000;
/// Datagrams a second: as many as an emulated processor takes without losing any by itself.
const RATE: u32 = 500;

/// The machine, with the lab's other namespaces around it.
pub struct Machine {
    lab: SmallLab,
    probes: u16,
}

/// A session as the router shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    peer: String,
    state: String,
    received: u64,
    uptime_s: u64,
}

/// Everything in order.
///
/// # Errors
/// When this is no guest, or the lab does not come up; checks that fail are in the summary.
pub fn run(tell: &mut dyn FnMut(&str)) -> Result<Summary> {
    ensure!(
        Path::new(GUEST).exists(),
        "this changes the machine it runs on, and is for a virtual one: run `cargo xtask package --verify`"
    );
    let mut machine = Machine::new()?;
    let mut summary = Summary::default();
    for (name, step) in steps::ALL {
        let result = step(&mut machine);
        let is_over = result.is_err();
        if is_over {
            tell(&format!("the end of the journal:\n{}", machine.journal(30).unwrap_or_default()));
        }
        summary.add(tell, name, result);
        // Each stands on what the one before has left.
        if is_over {
            break;
        }
    }
    Ok(summary)
}

impl Machine {
    fn new() -> Result<Machine> {
        let lab = SmallLab::up()?;
        let edge = lab.namespace("edge")?;
        for (name, readmes) in
            [(plan::CE.far.1, "eth0"), (plan::PRIMARY.near.1, "eth1"), (plan::SECONDARY.near.1, "eth2")]
        {
            edge.ip(&format!("link set {name} down"))?;
            edge.ip(&format!("link set {name} netns 1 name {readmes}"))?;
            sh(&format!("ip link set {readmes} up"))?;
        }
        Ok(Machine { lab, probes: 0 })
    }

    /// Numbered datagrams from the customer's host to the VNet's while `work` is done and a little longer: none may be lost.
    fn without_loss<T>(&mut self, work: impl FnOnce(&mut Machine) -> Result<T>) -> Result<(T, Report)> {
        let probe: Probe = self.lab.probe(RATE, FIRST_PORT + self.probes)?;
        self.probes += 1;
        thread::sleep(Duration::from_millis(500));
        let done = work(self)?;
        thread::sleep(Duration::from_millis(500));
        let report = probe.stop()?;
        ensure!(report.lost == 0 && report.sent > u64::from(RATE) / 4, "{report:?}");
        Ok((done, report))
    }

    /// Waits until every session is established and both links carry what is sent.
    fn established(&self) -> Result<Vec<Session>> {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let state = self.sessions().and_then(|rows| {
                let is_up = |row: &Session| row.state == "Established" && row.received == 1;
                ensure!(rows.len() == 3 && rows.iter().all(is_up), "{rows:?}");
                let answer = sh("erdp explain --interface eth0 --to 198.18.192.10")?;
                ensure!(answer.contains("one of 2 equal next hops"), "{answer}");
                Ok(rows)
            });
            match state {
                Ok(rows) => return Ok(rows),
                Err(error) if Instant::now() > deadline => return Err(error.context("not established")),
                Err(_) => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn sessions(&self) -> Result<Vec<Session>> {
        let rows: Vec<Value> = serde_json::from_str(&sh("erdp show sessions --json")?)?;
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let row = |row: &Value| Session {
            peer: text(row, "peer"),
            state: text(row, "state"),
            received: row["received"].as_u64().unwrap_or(0),
            uptime_s: row["uptime_s"].as_u64().unwrap_or(0),
        };
        Ok(rows.iter().map(row).collect())
    }

    /// No session has begun anew since it was seen as `before`.
    fn same_sessions(&self, before: &[Session]) -> Result<Vec<Session>> {
        let after = self.sessions()?;
        let kept = |row: &Session| {
            after
                .iter()
                .any(|now| now.peer == row.peer && now.state == "Established" && now.uptime_s >= row.uptime_s)
        };
        ensure!(before.len() == after.len() && before.iter().all(kept), "{before:?} {after:?}");
        Ok(after)
    }

    fn journal(&self, lines: usize) -> Result<String> {
        sh(&format!("journalctl --unit erdp --lines {lines} --no-pager --output cat"))
    }

    /// Lets a drop-in take effect at the next start.
    fn drop_in(&self, text: &str) -> Result<()> {
        let folder = Path::new("/etc/systemd/system/erdp.service.d");
        fs::create_dir_all(folder)?;
        fs::write(folder.join("test.conf"), text)?;
        sh("systemctl daemon-reload").map(drop)
    }
}

/// What systemd says about the service.
fn fact(key: &str) -> Result<String> {
    Ok(sh(&format!("systemctl show erdp --property {key} --value"))?.trim().to_owned())
}

fn number(key: &str) -> Result<u64> {
    let text = fact(key)?;
    text.parse().with_context(|| format!("systemd says {key} is {text:?}"))
}

/// Runs a shell command; the answer is what it prints.
fn sh(command: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", command]).current_dir("/root").output()?;
    let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    if !output.status.success() {
        bail!("`{command}` failed ({}): {}", output.status, text.trim());
    }
    Ok(text)
}

/// Runs one that must fail; the answer is what it says.
fn fails(command: &str) -> Result<String> {
    match sh(command) {
        Ok(said) => bail!("`{command}` succeeds: {said}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}
