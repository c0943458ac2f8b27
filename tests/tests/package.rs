//! The Debian package: installed by README's own commands, forwarding between BGP peers, replaced by a newer one while packets flow,
//! removed without a trace in the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{edge, lab::netns::Namespace, quick_start, root::Root, small::SmallLab};
use nix::sys::signal::Signal;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("package")
}

/// The package that `cargo xtask package` has made; `None`, with SKIP, where it cannot be.
fn package() -> Option<PathBuf> {
    let packages = fs::read_dir(folder()).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("erdp_") && name.ends_with(".deb")
    };
    let found = packages.filter(is_ours).max();
    if found.is_none() {
        println!("SKIP: there is no package: run `cargo xtask package`");
    }
    found
}

/// A small lab whose edge has interfaces as README calls them, and a root with the package's file in it.
fn place(package: &Path) -> Result<(Root, SmallLab)> {
    let lab = SmallLab::up()?;
    let edge = lab.namespace("edge")?;
    for (name, readmes) in [("ce0", "eth0"), ("msee1", "eth1"), ("msee2", "eth2")] {
        edge.ip(&format!("link set {name} down"))?;
        edge.ip(&format!("link set {name} name {readmes} up"))?;
    }
    let root = Root::open(edge, lab.folder())?;
    let there = root.inside("root/target/package");
    fs::create_dir_all(&there)?;
    fs::copy(package, there.join(package.file_name().context("no name")?))?;
    Ok((root, lab))
}

/// Runs README's commands and compares what each prints with the page. What shows a state may take its time to get there.
fn follow(root: &mut Root, edge: &Namespace) -> Result<usize> {
    let examples = quick_start::installation()?;
    for example in &examples {
        let deadline = Instant::now() + Duration::from_secs(30);
        let text = loop {
            let text = root.run(edge, &format!("cd /root; {}", example.command))?;
            match example.compare(&text) {
                Ok(()) => break text,
                Err(_) if shows_a_state(&example.command) && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(100));
                }
                Err(difference) => return Err(difference),
            }
        };
        println!("$ {}\n{}", example.command, text.trim_end());
        if example.command.starts_with("dpkg -i") {
            root.take_unit()?;
        }
        if example.command.starts_with("systemctl") {
            root.adopt_service()?;
        }
    }
    Ok(examples.len())
}

/// Only these may be asked again: they change nothing.
fn shows_a_state(command: &str) -> bool {
    ["erdp show", "erdp explain"].iter().any(|verb| command.starts_with(verb))
}

/// Waits until every IPv4 session is established and has announced something.
fn established(root: &Root, edge: &Namespace) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = root.run(edge, "erdp show sessions --json")?;
        let rows: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
        if rows.len() == 3 && rows.iter().all(|row| row["state"] == "Established" && row["received"] == 1) {
            let answer = root.run(edge, "erdp explain --interface eth0 --to 198.18.192.10")?;
            if answer.contains("one of 2 equal next hops") {
                return Ok(());
            }
        }
        ensure!(Instant::now() < deadline, "not established: {text}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_quick_start_leads_to_a_forwarding_circuit_an_upgrade_loses_no_packet_and_a_removal_leaves_no_pin()
-> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    if edge::skipped() {
        return Ok(());
    }
    let (mut root, lab) = place(&package)?;
    let edge = lab.namespace("edge")?;
    packaged_is_what_readme_says(&package)?;
    let commands = follow(&mut root, edge)?;
    ensure!((3..=12).contains(&commands), "{commands} commands");
    established(&root, edge)?;
    let probe = lab.probe(1_000, 40_000)?;
    thread::sleep(Duration::from_secs(1));
    let report = probe.stop()?;
    println!("{commands} commands; then {report:?}");
    ensure!(report.sent > 500 && report.lost == 0, "{report:?}");
    upgraded(&mut root, &lab, &package)?;
    removed(&mut root, edge)
}

/// `cargo xtask package` was run before this test, by `cargo xtask test` or by hand: README says where its result is.
fn packaged_is_what_readme_says(package: &Path) -> Result<()> {
    let example = quick_start::example("cargo xtask package")?;
    let name = package.file_name().context("no name")?.to_string_lossy();
    example.compare(&format!("packaged target/package/{name}\n"))
}

/// Another build of the package takes the first one's place under traffic.
fn upgraded(root: &mut Root, lab: &SmallLab, package: &Path) -> Result<()> {
    let edge = lab.namespace("edge")?;
    let newer = rebuilt(package, lab.folder())?;
    fs::copy(&newer, root.inside("root/newer.deb"))?;
    let probe = lab.probe(1_000, 40_001)?;
    thread::sleep(Duration::from_millis(300));
    let said = root.run(edge, "dpkg -i /root/newer.deb && dpkg-query -W erdp")?;
    ensure!(said.contains("0.1.0+1"), "{said}");
    // What the package's script has systemd do: kill the old one, whose program goes on, and start the new one.
    root.end_service(Signal::SIGKILL)?;
    root.run(edge, "systemctl enable --now erdp")?;
    root.adopt_service()?;
    established(root, edge)?;
    let report = probe.stop()?;
    println!("upgrade: {report:?}");
    ensure!(report.sent > 300 && report.lost == 0, "{report:?}");
    Ok(())
}

/// Removal of a package whose router was killed: everything that would go on ends.
fn removed(root: &mut Root, edge: &Namespace) -> Result<()> {
    // Killed, so that removal finds something that would go on.
    root.end_service(Signal::SIGKILL)?;
    ensure!(
        root.run(edge, "ip -details link show eth0")?.contains("xdp"),
        "a killed router's program goes on"
    );
    println!("{}", root.run(edge, "dpkg -r erdp")?);
    let links = root.run(edge, "ip -details link show")?;
    ensure!(!links.contains("xdp"), "a program is still attached: {links}");
    let addresses = root.run(edge, "ip -brief address")?;
    ensure!(!addresses.contains("198.18."), "an address is left: {addresses}");
    let pins = root.run(edge, "find /sys/fs/bpf -mindepth 2 -user erdp | wc -l")?;
    ensure!(pins.trim() == "0", "pins are left: {pins}");
    ensure!(!root.inside("usr/bin/erdp").exists(), "the binary is left");
    ensure!(root.inside("etc/erdp/erdp.toml").exists(), "the operator's configuration is gone");
    let kept = || root.inside("var/lib/erdp").exists();
    ensure!(
        root.inside("var/lib/erdp/state.json").exists(),
        "what operators have ordered is gone before the purge"
    );
    root.run(edge, "dpkg --purge erdp")?;
    ensure!(!kept(), "the purge leaves what operators have ordered");
    Ok(())
}

/// The same package as a later version.
fn rebuilt(package: &Path, folder: &Path) -> Result<PathBuf> {
    let (tree, newer) = (folder.join("tree"), folder.join("newer.deb"));
    let dpkg = |arguments: &[&str]| -> Result<()> {
        let output = Command::new("dpkg-deb").args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    dpkg(&["--raw-extract", &text(package), &text(&tree)])?;
    let control = tree.join("DEBIAN/control");
    let changed = fs::read_to_string(&control)?.replace("Version: 0.1.0\n", "Version: 0.1.0+1\n");
    fs::write(&control, changed)?;
    // Nobody sends it anywhere: compressing it is most of the time.
    dpkg(&["--root-owner-group", "-Znone", "--build", &text(&tree), &text(&newer)])?;
    Ok(newer)
}
