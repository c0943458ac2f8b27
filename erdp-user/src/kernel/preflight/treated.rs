//! Findings provoked on real interfaces, and gone after the remedy: a pair of veth in a network namespace, twice as many queues as it
//! uses. What a veth cannot show is provoked elsewhere: [`PROOFS`] says where, and a finding without a place fails the test.

use std::{collections::BTreeSet, path::Path};

use super::{
    super::tests::{in_namespace, ip},
    *,
};
use crate::doctor;

const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "a"
bandwidth = "1G"
s-vlan = 7
primary = { local = "tagged" }
secondary = { box = "edge-b" }
[circuit.private]
ipv4 = "198.18.0.0/29"
vlan = 100
[[attachment]]
interface = "plain"
peerings = ["a/private"]
ipv4 = "198.18.10.1/30"
"#;

fn config() -> Config {
    Config::parse(CONFIG, Path::new("erdp.toml")).expect("a configuration").0
}

/// What is found here, without what the router does itself.
fn found() -> Vec<Finding> {
    let config = config();
    let mut findings = check(Some(&config), &Machine::read(Some(&config)), false);
    findings.retain(|finding| finding.severity > Severity::Note);
    findings
}

/// Two pairs on which everything is well.
fn pairs() {
    for name in ["plain", "tagged"] {
        ip(&format!(
            "link add {name} mtu 1504 numrxqueues 2 numtxqueues 2 type veth peer name {name}x mtu 1504 numrxqueues 2 numtxqueues 2"
        ));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}x up"));
        tool(&format!("ethtool -K {name}x gro on"));
        tool(&format!("ethtool -K {name}x tx off"));
        tool(&format!("ethtool -L {name} rx 2 tx 2"));
        tool(&format!("ethtool -L {name}x rx 2 tx 2"));
    }
}

fn tool(line: &str) {
    let mut words = line.split(' ');
    let mut command = std::process::Command::new(words.next().expect("a program"));
    // What is so already is no fault: ethtool ends with 80 (no change) then.
    let quiet = command.args(words).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let status = quiet.status().expect("ethtool");
    assert!(matches!(status.code(), Some(0 | 1 | 80)), "{line}: {status}");
}

/// Where else a finding is provoked, and gone after its remedy: the source that does it and the words that name it there. Cards and
/// groups are a virtual machine's (`cargo xtask run --vm`, `cargo xtask package --verify`).
const PROOFS: &[(Kind, &str, &str)] = &[
    (Kind::Privilege, include_str!("../../../../tests/src/service/steps.rs"), "lacks {lacking};"),
    (Kind::Privilege, include_str!("../../../../tests/tests/privileges.rs"), "lacks {lacking};"),
    (Kind::Memory, include_str!("../../../../tests/src/service/steps.rs"), "MemoryMax="),
    (Kind::Kernel, include_str!("../../../../tests/tests/doctor.rs"), "Kind::Kernel"),
    (Kind::Btf, include_str!("../../../../tests/tests/doctor.rs"), "Kind::Btf"),
    (Kind::Lro, include_str!("../../../../tests/src/checks/doctor.rs"), "Kind::Lro"),
    (Kind::TagsStripped, include_str!("../../../../tests/src/checks/doctor.rs"), "Kind::TagsStripped"),
    (Kind::VlanFilter, include_str!("../../../../tests/src/checks/doctor.rs"), "Kind::VlanFilter"),
    (Kind::GroHw, include_str!("../../../../tests/src/checks/offloads.rs"), "Kind::GroHw"),
    (Kind::Interrupts, include_str!("../../../../tests/src/checks/offloads.rs"), "Kind::Interrupts"),
    (Kind::NoXdp, include_str!("treated.rs"), "fn a_veth_with_fewer_queues_than_its_peer"),
    (Kind::Setting, include_str!("treated.rs"), "fn settings_of_the_router_are_notes"),
];

#[test]
fn every_finding_has_an_invented_machine_and_a_real_one_on_which_its_remedy_works() {
    let invented: BTreeSet<Kind> = tests::ROWS
        .iter()
        .flat_map(|(change, ..)| tests::findings(change, false))
        .map(|it| it.kind)
        .collect();
    let here: BTreeSet<Kind> = ROWS.iter().map(|row| row.0).collect();
    for kind in Kind::ALL {
        assert!(invented.contains(&kind), "{kind:?} is in no row of invented machines");
        let elsewhere = PROOFS.iter().any(|(proved, _, _)| *proved == kind);
        assert!(here.contains(&kind) || elsewhere, "{kind:?} is provoked and treated nowhere");
    }
    for (kind, source, words) in PROOFS {
        assert!(source.contains(words), "{kind:?}: no test says `{words}` any more");
    }
}

/// The finding, what provokes it, a part of it, and the remedy: commands where `--fix` can do nothing.
const ROWS: &[(Kind, &str, &str, Option<&str>)] = &[
    (Kind::Down, "ip link set plain down", "plain: is administratively down", None),
    (Kind::Mtu, "ip link set plain mtu 3499", "plain: has an MTU of 3499", None),
    (Kind::TagsMtu, "ip link set tagged mtu 1500", "tagged: has an MTU of 1500, and two tags", None),
    (
        Kind::Missing,
        "ip link set plain down;ip link set plain name other",
        "plain: does not exist in this network namespace; correct the configuration or create it (there are: other,",
        Some("ip link set other name plain;ip link set plain up"),
    ),
    (
        Kind::Queues,
        "ethtool -L plainx tx 1;ethtool -L plain rx 1",
        "plain: has 1 receive queue(s) and could have 2",
        None,
    ),
    (
        Kind::NoTarget,
        "ethtool -K plainx gro off",
        "plain: takes no frames from XDP: its peer does not poll",
        Some("ethtool -K plainx gro on"),
    ),
    (
        Kind::Checksums,
        "ethtool -K plainx tx on",
        "plain: has a far end, plainx, that leaves checksums to hardware",
        Some("ethtool -K plainx tx off"),
    ),
];

#[test]
fn a_finding_that_is_provoked_is_gone_after_its_remedy() {
    in_namespace(|| async {
        pairs();
        if Interface::read("plain").xdp_features.is_none() {
            println!("SKIP: this kernel does not tell what drivers can do with XDP (Linux 6.3)");
            return;
        }
        assert_eq!(found(), [], "before anything is provoked");
        for (kind, provoke, words, remedy) in ROWS {
            provoke.split(';').for_each(tool);
            let findings = found();
            assert_eq!(findings.len(), 1, "{provoke}: {findings:?}");
            assert!(findings[0].to_string().contains(words), "{provoke}: {}", findings[0]);
            assert_eq!(findings[0].kind, *kind, "{provoke}");
            assert_eq!(findings[0].fix.is_none(), remedy.is_some(), "{provoke}");
            if let Some(remedy) = remedy {
                remedy.split(';').for_each(tool);
            }
            let report = doctor::examine(Some(&config()), false, true);
            assert!(report.may_run, "{provoke}: {}", report.text);
            assert_eq!(found(), [], "{provoke}, after {}", report.text);
        }
    });
}

#[test]
fn a_veth_with_fewer_queues_than_its_peer_cannot_run_xdp_until_it_has_as_many() {
    in_namespace(|| async {
        pairs();
        if Interface::read("plain").xdp_features.is_none() {
            println!("SKIP: this kernel does not tell what drivers can do with XDP (Linux 6.3)");
            return;
        }
        ip("link del tagged");
        ip(
            "link add tagged mtu 1504 numrxqueues 1 numtxqueues 1 type veth peer name taggedx mtu 1504 numrxqueues 2 numtxqueues 2",
        );
        ip("link set tagged up");
        ip("link set taggedx up");
        tool("ethtool -K taggedx tx off");
        tool("ethtool -L taggedx rx 2 tx 2");
        let findings = found();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0].refuses() && findings[0].reason.starts_with("cannot run XDP in its driver (veth)")
        );
        assert!(findings[0].remedy.contains("as many receive queues"), "{}", findings[0].remedy);
        tool("ethtool -L taggedx tx 1");
        tool("ethtool -K taggedx gro on");
        assert_eq!(found(), []);
    });
}

#[test]
fn the_doctor_tells_what_the_fix_runs_and_does_it_only_when_asked() {
    in_namespace(|| async {
        pairs();
        ip("link set plain mtu 9000");
        let told = doctor::examine(Some(&config()), false, false);
        assert!(
            !told.may_run && told.text.contains("REFUSED  interface plain: has an MTU of 9000"),
            "{}",
            told.text
        );
        assert!(told.text.contains("--fix runs: ip link set plain mtu 1500"), "{}", told.text);
        assert_eq!(Interface::read("plain").mtu, 9_000, "looking changes nothing");
        let done = doctor::examine(Some(&config()), false, true);
        assert!(done.may_run && done.text.contains("done     ip link set plain mtu 1500"), "{}", done.text);
        assert_eq!(Interface::read("plain").mtu, 1_500);
    });
}

#[test]
fn settings_of_the_router_are_notes_that_go_when_they_are_made() {
    in_namespace(|| async {
        pairs();
        let pending = || sysctl::pending(&["plain"]);
        let before = pending();
        let names: Vec<&str> = before.iter().map(|pending| pending.name.as_str()).collect();
        for name in
            ["ipv4/conf/plain/arp_ignore", "ipv4/conf/plain/arp_announce", "ipv6/conf/plain/accept_ra"]
        {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        let report = doctor::examine(Some(&config()), false, true);
        assert!(
            report.may_run && report.text.contains("note     sysctl net/ipv4/conf/plain/arp_ignore: is 0"),
            "{}",
            report.text
        );
        assert_eq!(pending(), before, "--fix leaves them to the router");
        for setting in &before {
            Fix::Sysctl(setting.name.clone(), setting.needed).apply().expect("it can be written");
        }
        assert_eq!(pending(), []);
    });
}

#[test]
fn without_a_configuration_only_the_machine_is_examined() {
    in_namespace(|| async {
        let report = doctor::examine(None, false, false);
        assert!(report.may_run && !report.text.contains("interface"), "{}", report.text);
    });
}
