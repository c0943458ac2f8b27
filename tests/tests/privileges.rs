//! The daemon as a user of its own with a few capabilities: those it names are enough, and it says which one is lacking.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use erdp::kernel::preflight::NEEDED_CAPABILITIES;
use erdp_tests::{
    edge::{self, Edge},
    lab::plan,
    small::{SmallLab, established},
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A user that nobody is.
const USER: u32 = 64_999;

/// Starts the edge in the small lab as [`USER`] with these capabilities and no way to gain others.
fn start(lab: &SmallLab, capabilities: &[&str]) -> Result<Edge> {
    start_under(lab, capabilities, &["env"])
}

/// The same by a program that starts what it is given.
fn start_under(lab: &SmallLab, capabilities: &[&str], starter: &[&str]) -> Result<Edge> {
    let folder = lab.folder().join("run");
    fs::create_dir_all(&folder)?;
    chown(&folder, Some(USER), Some(USER))?;
    let config = folder.join("edge.toml");
    fs::write(&config, edge::configuration())?;
    for path in [lab.folder(), &folder] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let list: String = capabilities
        .iter()
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let list = format!("-all{list}");
    let mut command = lab.namespace("edge")?.command(starter[0])?;
    command.args(&starter[1..]).arg("setpriv").args([
        "--reuid",
        &USER.to_string(),
        "--regid",
        &USER.to_string(),
        "--clear-groups",
        "--no-new-privs",
    ]);
    command.args(["--bounding-set", &list, "--inh-caps", &list, "--ambient-caps", &list, "--"]);
    Edge::start_by(command, &folder, &config)
}

fn has(program: &str, package: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("SKIP: {program} (Debian package {package}) is not there");
    }
    there
}

const UNIT: &str = include_str!("../../deploy/erdp.service");

/// The value of a setting of the systemd unit.
fn setting(key: &str) -> Result<&'static str> {
    let value = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.with_context(|| format!("the unit has no {key}"))
}

#[test]
fn the_unit_gives_the_named_capabilities_and_no_other() -> Result<()> {
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        ensure!(setting(key)? == NEEDED_CAPABILITIES.join(" "), "{key}");
    }
    ensure!(setting("User")? == "erdp" && setting("NoNewPrivileges")? == "yes", "not a user of its own");
    Ok(())
}

#[test]
fn the_unit_is_bounded_and_exposes_no_more_than_2_3() -> Result<()> {
    for (key, value) in [("LimitCORE", "0"), ("UMask", "0077")] {
        ensure!(setting(key)? == value, "{key}");
    }
    ensure!(setting("MemoryMax")?.ends_with('G') && setting("LimitNOFILE")?.parse::<u32>()? >= 4_096);
    if !has("systemd-analyze", "systemd") {
        return Ok(());
    }
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/erdp.service");
    let words = ["security", "--offline=true", "--no-pager", "--threshold=23", unit];
    let output = Command::new("systemd-analyze").args(words).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.lines().last().unwrap_or_default());
    ensure!(output.status.success(), "{said}");
    // Each line that remains has its reason on the page.
    let page = include_str!("../../docs/operating.md");
    for line in said.lines().filter_map(|line| line.strip_prefix("✗ ")) {
        let name = line.split_whitespace().next().unwrap_or_default().replace('|', "\\|");
        ensure!(page.contains(&format!("| `{name}` |")), "{name} has no reason in docs/operating.md");
    }
    Ok(())
}

/// The system calls that a filter of systemd allows: names and groups, as `systemd-analyze` lists them.
fn allowed(filter: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut words: Vec<String> = filter.split_whitespace().map(str::to_owned).collect();
    while let Some(word) = words.pop() {
        if word.starts_with('@') {
            let output = Command::new("systemd-analyze").args(["syscall-filter", &word]).output()?;
            let text = String::from_utf8(output.stdout)?;
            words.extend(
                text.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned),
            );
        } else {
            names.insert(word);
        }
    }
    Ok(names)
}

#[test]
fn the_units_filter_lets_every_system_call_of_the_daemon_pass() -> Result<()> {
    if edge::skipped()
        || !has("setpriv", "util-linux")
        || !has("strace", "strace")
        || !has("systemd-analyze", "systemd")
    {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let log = lab.folder().join("strace.log");
    // -D: the traced process is ours, and strace its child.
    let mut edge = start_under(
        &lab,
        &NEEDED_CAPABILITIES,
        &["strace", "-D", "-f", "-qq", "-o", &log.to_string_lossy()],
    )?;
    // strace makes each system call many times as long, and the loop reads some thousand records of the maps back in a second.
    established(&mut edge).or_else(|_| established(&mut edge)).or_else(|_| established(&mut edge))?;
    edge.show("counters")?;
    edge.process().signal(Signal::SIGTERM)?;
    let status = edge.process().wait(Duration::from_secs(20))?;
    ensure!(status.code() == Some(0), "{status}: {}", edge.process().tail(5));
    std::thread::sleep(Duration::from_millis(200));
    let text = fs::read_to_string(&log)?;
    // What comes before the daemon itself: strace's and setpriv's own calls, of which the filter need not know.
    let daemon = text
        .find(&format!("execve(\"{}\"", edge::binary()?.display()))
        .context("the daemon was not traced")?;
    let name = |line: &str| {
        let name = line.split_once(' ')?.1.trim_start().split_once('(')?.0;
        name.chars()
            .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
            .then(|| name.to_owned())
    };
    let called: BTreeSet<String> = text[daemon..].lines().filter_map(name).collect();
    let allowed = allowed(setting("SystemCallFilter")?)?;
    println!("{} system calls: {called:?}", called.len());
    ensure!(called.contains("bpf") && called.len() > 20, "nothing was traced");
    let refused: Vec<_> = called.difference(&allowed).collect();
    ensure!(refused.is_empty(), "the unit would stop {refused:?}");
    Ok(())
}

#[test]
fn a_user_of_its_own_with_the_named_capabilities_routes_and_counts_losses() -> Result<()> {
    if edge::skipped() || !has("setpriv", "util-linux") {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let mut edge = start(&lab, &NEEDED_CAPABILITIES)?;
    established(&mut edge)?;
    let id = edge.process().id();
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = |key: &str| {
        status.lines().find(|line| line.starts_with(key)).context("no such line").map(str::to_owned)
    };
    println!("{}\n{}\n{}", line("Uid:")?, line("CapEff:")?, line("CapBnd:")?);
    ensure!(line("Uid:")?.split_whitespace().nth(1) == Some(&USER.to_string()), "another user");

    let probe = lab.probe(1_000, 40_000)?;
    std::thread::sleep(Duration::from_secs(1));
    let report = probe.stop()?;
    ensure!(report.lost == 0 && report.sent > 500, "{report:?}");
    let counters: Value = serde_json::from_str(&edge.show("counters")?)?;
    ensure!(counters["losses_counted"] == true && counters["unexplained"] == 0, "{counters}");
    let answers = edge.explain(plan::CE.far.1, &[plan::AZURE_IPV4.parse()?])?;
    ensure!(answers[0].verdict == "transmit", "{answers:?}");
    Ok(())
}

/// A folder as the service manager makes it by the unit's words.
fn state_folder(lab: &SmallLab) -> Result<PathBuf> {
    let folder = edge::state_folder(lab.folder());
    fs::create_dir(&folder)?;
    chown(&folder, Some(USER), Some(USER))?;
    let mode = u32::from_str_radix(setting("StateDirectoryMode")?, 8)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
    Ok(folder)
}

#[test]
fn the_units_state_folder_is_the_daemons_alone_orders_are_kept_there_and_a_planted_file_is_not_believed()
-> Result<()> {
    ensure!(setting("StateDirectory")? == "erdp" && setting("StateDirectoryMode")? == "0700");
    if edge::skipped() || !has("setpriv", "util-linux") {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let folder = state_folder(&lab)?;
    let starter = ["env", &format!("STATE_DIRECTORY={}", folder.display())];
    let mut edge = start_under(&lab, &NEEDED_CAPABILITIES, &starter)?;
    established(&mut edge)?;
    let order =
        ["peering", "disable", "lab/private/primary", "--drain", "0", "--text", "rack 7 moves", "--force"];
    edge.ask(&order)?;
    let file = folder.join("state.json");
    for (path, mode) in [(&folder, 0o700), (&file, 0o600)] {
        let facts = fs::metadata(path)?;
        ensure!(facts.uid() == USER && facts.mode() & 0o777 == mode, "{}: {facts:?}", path.display());
    }
    ensure!(fs::read_to_string(&file)?.contains("rack 7 moves"), "the order is not kept");

    // Another user's file, although nobody else can write there.
    edge.process().signal(Signal::SIGKILL)?;
    edge.process().wait(Duration::from_secs(10))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    chown(&file, Some(USER - 1), None)?;
    let mut edge = start_under(&lab, &NEEDED_CAPABILITIES, &starter)?;
    established(&mut edge)?;
    let log = edge.process().tail(60);
    ensure!(log.contains("orders of before are lost") && log.contains("another user's"), "{log}");
    ensure!(folder.join("state.json.set-aside").exists(), "it is not set aside");
    ensure!(fs::metadata(&file)?.uid() == USER, "the daemon has no file of its own");
    Ok(())
}

#[test]
fn one_capability_less_is_refused_by_name() -> Result<()> {
    if edge::skipped() || !has("setpriv", "util-linux") {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    for lacking in NEEDED_CAPABILITIES {
        let others: Vec<&str> = NEEDED_CAPABILITIES.iter().copied().filter(|name| *name != lacking).collect();
        let mut edge = start(&lab, &others)?;
        let status = edge.process().wait(Duration::from_secs(10))?;
        let said = edge.process().tail(2);
        println!("{lacking}: {status}: {said}");
        ensure!(status.code() == Some(3), "{lacking}: {status}");
        ensure!(said.contains(&format!("lacks {lacking};")), "{lacking}: {said}");
    }
    Ok(())
}
