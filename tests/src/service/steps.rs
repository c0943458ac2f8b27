//! The checks of the service, in the order in which each finds what the one before has left.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::kernel::preflight::NEEDED_CAPABILITIES;

use super::{Machine, fact, fails, number, sh};
use crate::quick_start::{self, Example};

/// A check, by its name; it answers sentences.
pub(super) type Step = (&'static str, fn(&mut Machine) -> Result<Vec<String>>);

pub(super) const ALL: &[Step] = &[
    ("the quick start", quick_start_leads_to_a_circuit),
    ("user and capabilities", it_is_a_user_with_four_capabilities),
    ("reload", a_reload_changes_what_is_right_and_nothing_else),
    ("restart", a_restart_keeps_sessions_and_packets),
    ("upgrade", an_upgrade_keeps_sessions_and_packets),
    ("a failing upgrade", a_successor_that_fails_changes_nothing),
    ("watchdog", the_watchdog_restarts_what_hangs_and_packets_flow),
    ("a capability less", one_capability_less_is_named),
    ("too little memory", a_group_with_too_little_memory_is_named),
    ("a wrong configuration", a_wrong_configuration_is_not_tried_again),
    ("removal", removal_leaves_nothing),
];

/// The operator's file.
const CONFIG: &str = "/etc/erdp/erdp.toml";
/// The package that is built again; the guest's builder has put it there.
const NEWER: &str = "/root/newer.deb";

fn one(sentence: String) -> Result<Vec<String>> {
    Ok(vec![sentence])
}

fn quick_start_leads_to_a_circuit(machine: &mut Machine) -> Result<Vec<String>> {
    let examples = quick_start::installation()?;
    ensure!((3..=12).contains(&examples.len()), "{} commands", examples.len());
    for Example { command, .. } in &examples {
        println!("$ {command}\n{}", sh(command)?.trim_end());
    }
    // `systemctl enable --now` has come back only when the router had said that it is ready.
    let (state, status) = (fact("ActiveState")?, fact("StatusText")?);
    ensure!(state == "active" && status == "running", "{state}, {status:?}");
    machine.established()?;
    let ((), report) = machine.without_loss(|_| {
        thread::sleep(Duration::from_secs(1));
        Ok(())
    })?;
    one(format!(
        "{} commands of README, three sessions established, {} datagrams and none lost",
        examples.len(),
        report.sent
    ))
}

/// capability(7) numbers, in the order of [`NEEDED_CAPABILITIES`].
const NUMBERS: [u32; 4] = [10, 12, 38, 39];

fn it_is_a_user_with_four_capabilities(_: &mut Machine) -> Result<Vec<String>> {
    let process = number("MainPID")?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = |key: &str| -> Result<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
        Ok(line.trim())
    };
    let expected: u64 = NUMBERS.iter().map(|bit| 1 << bit).sum();
    for key in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        ensure!(u64::from_str_radix(line(key)?, 16)? == expected, "{key} {}", line(key)?);
    }
    let user = sh("id -u erdp")?;
    ensure!(line("Uid:")?.split_whitespace().all(|id| id == user.trim()), "Uid: {}", line("Uid:")?);
    ensure!(line("Seccomp:")? == "2" && line("NoNewPrivs:")? == "1", "no filter of system calls");
    let realtime = realtime_threads(process)?;
    ensure!(realtime > 0, "no thread has real-time priority");
    one(format!(
        "it runs as user erdp with {}, a filter of system calls and {realtime} real-time thread(s)",
        NEEDED_CAPABILITIES.join(", ")
    ))
}

/// Threads with SCHED_FIFO: proc(5), field 41 of stat.
fn realtime_threads(process: u64) -> Result<usize> {
    let mut found = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
        let policy = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split_whitespace().nth(38));
        found += usize::from(policy == Some("1"));
    }
    Ok(found)
}

fn a_reload_changes_what_is_right_and_nothing_else(machine: &mut Machine) -> Result<Vec<String>> {
    let running = || sh("erdp config show --defaults");
    let before = running()?;
    let sessions = machine.sessions()?;
    let text = fs::read_to_string(CONFIG)?;
    let bandwidth = text.lines().find(|line| line.starts_with("bandwidth")).context("no bandwidth")?;
    let (broken, other) = (
        text.replacen(bandwidth, "bandwidth = \"2Gbs\"", 1),
        text.replacen(bandwidth, "bandwidth = \"5G\"", 1),
    );
    let (said, report) = machine.without_loss(|machine| {
        fs::write(CONFIG, broken)?;
        fails("systemctl reload erdp")?;
        let said = machine.journal(12)?;
        ensure!(said.contains("erdp.toml:") && said.contains("nothing is changed"), "{said}");
        ensure!(running()? == before, "a broken file has changed something");
        fs::write(CONFIG, other)?;
        sh("systemctl reload erdp")?;
        ensure!(running()?.contains("bandwidth = \"5G\""), "the file is not what runs");
        // Less bandwidth is no change that a reload may make (A4).
        fs::write(CONFIG, &text)?;
        fails("systemctl reload erdp")?;
        ensure!(running()?.contains("bandwidth = \"5G\""), "a reload has reduced the bandwidth");
        sh(&format!("erdp config apply {CONFIG} --force"))?;
        ensure!(running()? == before, "the first file again is something else");
        machine.same_sessions(&sessions)?;
        Ok(said)
    })?;
    let why = said.lines().find(|line| line.contains("erdp.toml:")).unwrap_or_default().to_owned();
    Ok(vec![
        format!("`systemctl reload` of a broken file fails and changes nothing: {why}"),
        format!(
            "`systemctl reload` of more bandwidth, and less by `erdp config apply --force`: no session ended, {} datagrams and none lost",
            report.sent
        ),
    ])
}

fn a_restart_keeps_sessions_and_packets(machine: &mut Machine) -> Result<Vec<String>> {
    let before = machine.established()?;
    let (process, starts) = (number("MainPID")?, number("NRestarts")?);
    let (said, report) = machine.without_loss(|_| sh("erdp restart"))?;
    succeeded(machine, process, starts, &before)?;
    one(format!(
        "`erdp restart`: {}; systemd follows it, no session ended, {} datagrams and none lost",
        said.trim(),
        report.sent
    ))
}

/// Another process is the service, by hand-over and not by a new start, and no session knows.
fn succeeded(machine: &Machine, process: u64, starts: u64, before: &[super::Session]) -> Result<()> {
    let now = number("MainPID")?;
    ensure!(now != process && now > 0, "the main process was {process} and is {now}");
    ensure!(!Path::new(&format!("/proc/{process}")).exists(), "process {process} still runs");
    ensure!(
        number("NRestarts")? == starts && fact("ActiveState")? == "active",
        "systemd has started it anew"
    );
    machine.same_sessions(before)?;
    machine.established().map(drop)
}

fn an_upgrade_keeps_sessions_and_packets(machine: &mut Machine) -> Result<Vec<String>> {
    let before = machine.established()?;
    let (process, starts) = (number("MainPID")?, number("NRestarts")?);
    let version = || sh("dpkg-query --show --showformat '${Version}' erdp");
    let old = version()?;
    let (said, report) = machine.without_loss(|_| sh(&format!("dpkg -i {NEWER}")))?;
    let new = version()?;
    ensure!(new != old && said.contains("has taken over"), "from {old} to {new}: {said}");
    succeeded(machine, process, starts, &before)?;
    // Beyond one time of the watchdog: the successor's words are the service's.
    thread::sleep(Duration::from_secs(22));
    ensure!(number("NRestarts")? == starts, "the watchdog has ended the successor");
    machine.same_sessions(&before)?;
    one(format!(
        "package {old} upgraded to {new} by dpkg -i: no session ended, {} datagrams and none lost",
        report.sent
    ))
}

/// What an operator would do wrong: the file of the next start is broken when the successor reads it.
fn a_successor_that_fails_changes_nothing(machine: &mut Machine) -> Result<Vec<String>> {
    let before = machine.established()?;
    let process = number("MainPID")?;
    let text = fs::read_to_string(CONFIG)?;
    let (said, report) = machine.without_loss(|_| {
        fs::write(CONFIG, "asn = \"none\"\n")?;
        let said = fails("erdp restart");
        fs::write(CONFIG, &text)?;
        said
    })?;
    ensure!(said.contains("goes on as before"), "{said}");
    ensure!(number("MainPID")? == process, "another process is the service");
    machine.same_sessions(&before)?;
    one(format!(
        "`erdp restart` with a broken file: the old process goes on, {} datagrams and none lost",
        report.sent
    ))
}

fn the_watchdog_restarts_what_hangs_and_packets_flow(machine: &mut Machine) -> Result<Vec<String>> {
    let (process, starts) = (number("MainPID")?, number("NRestarts")?);
    let begin = Instant::now();
    let (took, report) = machine.without_loss(|machine| {
        sh(&format!("kill -STOP {process}"))?;
        while number("NRestarts")? == starts {
            ensure!(begin.elapsed() < Duration::from_secs(60), "the watchdog does not bark");
            thread::sleep(Duration::from_millis(500));
        }
        let took = begin.elapsed();
        machine.established()?;
        Ok(took)
    })?;
    ensure!(took > Duration::from_secs(8), "too early for the watchdog: {took:?}");
    let said = sh("journalctl --unit erdp --no-pager --output cat --lines 200")?;
    ensure!(said.contains("Watchdog timeout"), "{said}");
    one(format!(
        "a stopped process was replaced {:.0} s later, {} datagrams and none lost",
        took.as_secs_f32(),
        report.sent
    ))
}

fn one_capability_less_is_named(machine: &mut Machine) -> Result<Vec<String>> {
    sh("systemctl stop erdp")?;
    let mut sentences = Vec::new();
    for lacking in NEEDED_CAPABILITIES {
        let others: Vec<&str> = NEEDED_CAPABILITIES.iter().copied().filter(|name| *name != lacking).collect();
        let others = others.join(" ");
        machine.drop_in(&format!(
            "[Service]\nAmbientCapabilities=\nAmbientCapabilities={others}\nCapabilityBoundingSet=\nCapabilityBoundingSet={others}\nRestart=no\n"
        ))?;
        fails("systemctl start erdp")?;
        let code = number("ExecMainStatus")?;
        let said = machine.journal(6)?;
        let why = said.lines().find(|line| line.contains(&format!("lacks {lacking};")));
        ensure!(code == 3 && why.is_some(), "exit code {code}: {said}");
        sentences.push(format!("without {lacking}: {}", why.unwrap_or_default()));
    }
    machine.drop_in("")?;
    sh("systemctl reset-failed erdp; systemctl start erdp")?;
    machine.established()?;
    Ok(sentences)
}

fn a_group_with_too_little_memory_is_named(machine: &mut Machine) -> Result<Vec<String>> {
    let peak = number("MemoryCurrent")? >> 20;
    sh("systemctl stop erdp")?;
    machine.drop_in("[Service]\nMemoryMax=32M\nRestart=no\n")?;
    fails("systemctl start erdp")?;
    let said = machine.journal(6)?;
    let why = said.lines().find(|line| line.contains("MemoryMax=")).unwrap_or_default().to_owned();
    ensure!(number("ExecMainStatus")? == 3 && why.contains("control group"), "{said}");
    // What it asks for is enough.
    machine.drop_in("[Service]\nMemoryMax=128M\n")?;
    sh("systemctl reset-failed erdp; systemctl start erdp")?;
    machine.established()?;
    machine.drop_in("")?;
    Ok(vec![format!("with MemoryMax=32M: {why}"), format!("the service takes {peak} MiB of memory")])
}

fn a_wrong_configuration_is_not_tried_again(machine: &mut Machine) -> Result<Vec<String>> {
    let text = fs::read_to_string(CONFIG)?;
    sh("systemctl stop erdp")?;
    fs::write(CONFIG, "asn = \"none\"\n")?;
    let begun = number("NRestarts")?;
    fails("systemctl start erdp")?;
    thread::sleep(Duration::from_secs(3));
    let (state, code, now) = (fact("ActiveState")?, number("ExecMainStatus")?, number("NRestarts")?);
    fs::write(CONFIG, text)?;
    ensure!(state == "failed" && code == 2 && now == begun, "{state}, exit code {code}, {now} starts");
    sh("systemctl start erdp")?;
    machine.established()?;
    one("a wrong configuration is refused with exit code 2 and not tried again".to_owned())
}

fn removal_leaves_nothing(_: &mut Machine) -> Result<Vec<String>> {
    ensure!(sh("ip -details link show eth0")?.contains("xdp"), "nothing is attached");
    sh("dpkg -r erdp")?;
    let links = sh("ip -details link show")?;
    ensure!(!links.contains("xdp"), "a program is still attached: {links}");
    let addresses = sh("ip -brief address")?;
    ensure!(!addresses.contains("198.18."), "an address is left: {addresses}");
    let pins = sh("find /sys/fs/bpf -mindepth 2")?;
    ensure!(pins.trim().is_empty(), "pins are left: {pins}");
    ensure!(!Path::new("/usr/bin/erdp").exists(), "the program is left");
    ensure!(
        sh("systemctl list-units --all --no-legend erdp.service")
            .is_ok_and(|units| !units.contains("running")),
        "the unit runs"
    );
    ensure!(Path::new(CONFIG).exists(), "the operator's configuration is gone");
    one("dpkg -r erdp: no program, pin or address is left; the operator's configuration is".to_owned())
}
