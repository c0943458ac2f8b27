//! What `erdp doctor` and `erdp run` say of a kernel that is too old or does not tell its types: provoked by other files in the place of
//! the kernel's own, in a mount namespace that ends with the command, and gone where they are not. And of a service whose end of the veth
//! leaves checksums to hardware, in a network namespace of its own.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use erdp::kernel::preflight::Kind;
use erdp_tests::{
    edge,
    lab::{
        self, cleanup,
        netns::{self, Namespace},
    },
};

/// What provokes a finding, whether the router must not start, and words of it. The remedy is the machine as it is.
const ROWS: &[(Kind, &str, bool, &str)] = &[
    (
        Kind::Kernel,
        "echo 5.10.0-1-amd64 > $F; mount --bind $F /proc/sys/kernel/osrelease",
        true,
        "is older than 5.15",
    ),
    (
        Kind::Kernel,
        "echo 5.19.0 > $F; mount --bind $F /proc/sys/kernel/osrelease",
        false,
        "is older than what is tested",
    ),
    (
        Kind::Kernel,
        "echo odd > $F; mount --bind $F /proc/sys/kernel/osrelease",
        false,
        "cannot be understood",
    ),
    (Kind::Btf, "mount -t tmpfs none /sys/kernel/btf", true, "/sys/kernel/btf/vmlinux: is missing"),
];

#[test]
fn a_kernel_that_will_not_do_is_told_until_it_is_another() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let erdp = edge::binary()?;
    let doctor = |before: &str| -> Result<(Option<i32>, String)> {
        let script = format!(
            "set -e; F=$(mktemp); trap 'rm -f $F' EXIT; {before}; '{}' doctor || exit $?",
            erdp.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let output = command.output()?;
        let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        Ok((output.status.code(), text))
    };
    for (kind, provoke, refuses, words) in ROWS {
        let (code, text) = doctor(provoke)?;
        println!("{kind:?}: {}", text.trim());
        ensure!(text.contains(words), "{kind:?}: `{words}` is not in: {text}");
        ensure!(code == Some(if *refuses { 3 } else { 0 }), "{kind:?}: exit code {code:?}: {text}");
        let (code, text) = doctor("true")?;
        ensure!(code == Some(0) && !text.contains(words), "{kind:?} stays: {text}");
    }
    Ok(())
}

const SERVICE: &str = r#"
asn = 65010
[[circuit]]
name = "a"
bandwidth = "1G"
primary = { local = "msee1" }
secondary = { box = "edge-b" }
[circuit.private]
ipv4 = "198.18.0.0/29"
[[attachment]]
interface = "nat0"
service = "nat"
peerings = ["a/private"]
ipv4 = "198.18.10.1/30"
"#;

#[test]
fn a_far_end_that_leaves_checksums_to_hardware_is_found_in_its_namespace_until_the_remedy() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    cleanup::on_signals()?;
    let name = lab::new_name();
    let (folder, _guard) = cleanup::owned_folder(&name)?;
    let edge = Namespace::add(&format!("{name}-edge"))?;
    let nat = Namespace::add(&format!("{name}-nat"))?;
    for (near, far) in [("nat0", "edge0"), ("msee1", "edge1")] {
        netns::connect((&edge, near), (&nat, far))?;
    }
    let config = folder.join("edge.toml");
    fs::write(&config, SERVICE)?;
    let doctor = || -> Result<(Option<i32>, String)> {
        let mut command = edge.command(edge::binary()?)?;
        let output = command.arg("doctor").arg("--config").arg(&config).output()?;
        let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        Ok((output.status.code(), text))
    };
    let (code, text) = doctor()?;
    ensure!(code == Some(0) && !text.contains("checksum"), "before anything is provoked: {code:?} {text}");
    nat.exec("ethtool", &["-K", "edge0", "tx", "on"])?;
    let (code, text) = doctor()?;
    println!("{}", text.trim());
    let remedy = format!("ip netns exec {} ethtool -K edge0 tx off", nat.name());
    ensure!(code == Some(0), "{:?} is a warning: {code:?}", Kind::Checksums);
    ensure!(
        text.contains("interface nat0: has a far end, edge0,") && text.contains(&remedy),
        "`{remedy}` is not in: {text}"
    );
    ensure!(!text.contains("interface msee1: has a far end"), "that far end computes its checksums: {text}");
    let mut words = remedy.split(' ');
    let program = words.next().context("a program")?;
    ensure!(Command::new(program).args(words).output()?.status.success(), "{remedy} fails");
    let (code, text) = doctor()?;
    ensure!(code == Some(0) && !text.contains("checksum"), "after the remedy: {code:?} {text}");
    Ok(())
}
