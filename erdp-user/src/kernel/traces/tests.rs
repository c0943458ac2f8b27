//! Traces that another user may have written: what is put back, what is left alone, and that no path leads outside the known list.

use std::{
    collections::BTreeMap,
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        net::UnixListener,
    },
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::*;
use crate::{
    control::place,
    kernel::{fd_passing::own_user, scratch::Scratch, sysctl::Sysctls},
};

/// A user that nobody is.
const ANOTHER: u32 = 64_999;
/// How many files are tried.
const FILES: u32 = 10_000;

/// A machine of its own: a tree of sysctls, a folder for the traces, and things that are nobody's business.
struct Machine {
    scratch: Scratch,
    run: Folder,
}

const SETTINGS: [&str; 6] = [
    "ipv4/ip_forward",
    "ipv4/conf/eth0/arp_ignore",
    "ipv4/conf/eth0/rp_filter",
    "ipv6/conf/all/forwarding",
    "ipv6/neigh/eth0/ucast_solicit",
    "ipv4/neigh/eth0/retrans_time_ms",
];
const OTHERS: [&str; 6] = [
    "sys/net/core/bpf_jit_enable",
    "sys/net/ipv4/conf/all/arp_ignore",
    "sys/net/ipv4/conf/eth0/forwarding",
    "sys/net/ipv4/tcp_syncookies",
    "sys/kernel/core_pattern",
    "outside/file",
];

impl Machine {
    fn new() -> Self {
        let scratch = Scratch::new("traces");
        let file = |path: &str| {
            let path = scratch.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, "7\n").expect("a file");
        };
        SETTINGS.iter().for_each(|name| file(&format!("sys/net/{name}")));
        OTHERS.into_iter().for_each(file);
        // What root would not expect below /proc/sys, and somebody might arrange elsewhere.
        let link =
            |to: &str, at: &str| symlink(scratch.path().join(to), scratch.path().join(at)).expect("a link");
        link("sys/net/core", "sys/net/ipv4/conf/way");
        link("outside/file", "sys/net/ipv4/conf/eth0/send_redirects");
        drop(UnixListener::bind(scratch.path().join("outside/socket")).expect("a socket"));
        let folder = scratch.folder("run");
        drop(UnixListener::bind(folder.join("control.sock")).expect("a socket"));
        let run = Folder::open(&folder).expect("a folder");
        Self { scratch, run }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    /// What root does with a file of traces.
    fn undo(&self, bytes: &[u8]) -> Note {
        fs::write(self.at("run/net-1.json"), bytes).expect("a file");
        let note = Traces::read_in(&self.run, "net-1.json").expect("it is there");
        let mut sysctls = Sysctls::below(self.at("sys/net"));
        sysctls.remember(&note.traces.sysctls);
        drop(sysctls);
        let _ = place::remove_noted(&note.traces.control, note.writer);
        note
    }

    /// The content of everything that is nobody's business.
    fn others(&self) -> BTreeMap<&'static str, Option<String>> {
        let content = |path: &&'static str| (*path, fs::read_to_string(self.at(path)).ok());
        let socket = [("outside/socket", self.at("outside/socket").exists().then(String::new))];
        OTHERS.iter().map(content).chain(socket).collect()
    }
}

/// Texts that a note may have in any place.
fn text(machine: &Machine) -> impl Strategy<Value = String> + use<> {
    let here = machine.scratch.path().display().to_string();
    let up = "../".repeat(12);
    let mut known: Vec<String> = SETTINGS.iter().map(|it| (*it).to_owned()).collect();
    known.extend(OTHERS.iter().flat_map(|it| [format!("{here}/{it}"), format!("{up}{here}/{it}")]));
    known.extend(
        [
            "../kernel/core_pattern",
            "ipv4/conf/way/bpf_jit_enable",
            "ipv4/conf/way/../../tcp_syncookies",
            "ipv4/conf/eth0/send_redirects",
            "ipv4/conf/../tcp_syncookies/arp_ignore",
            "ipv4/conf/all/arp_ignore",
            "ipv4/neigh/../../core/bpf_jit_enable",
            "7",
            "0",
            "-2147483648",
            "|/bin/sh",
            "erdp-1",
            "erdp-0",
            "eth0",
            "",
            "\0",
        ]
        .map(str::to_owned),
    );
    known.extend(
        ["run/control.sock", "outside/socket", "outside/file", "run/../outside/socket"]
            .map(|it| format!("{here}/{it}")),
    );
    (prop::sample::select(known), any::<u8>(), any::<char>(), 0_usize..40).prop_map(|(text, kind, c, at)| {
        let mut letters: Vec<char> = text.chars().collect();
        let at = at.min(letters.len());
        match kind % 4 {
            0 => letters.insert(at, c),
            1 => letters.truncate(at),
            _ => {}
        }
        letters.into_iter().collect()
    })
}

/// A note as an edge writes it, its fields filled with such texts, and its bytes damaged now and then.
fn file(machine: &Machine) -> impl Strategy<Value = Vec<u8>> + use<> {
    let texts = || prop::collection::vec((text(machine), text(machine)), 0..6);
    let addresses = prop::collection::vec((any::<u32>(), any::<u32>(), 0_u8..=32), 0..3);
    let damage = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (text(machine), texts(), texts(), addresses, damage).prop_map(|(control, ports, sysctls, addresses, damage)| {
        let addresses: Vec<_> = addresses
            .into_iter()
            .map(|(ifindex, address, len)| (ifindex, format!("{}/{len}", std::net::Ipv4Addr::from(address))))
            .collect();
        let ports: Vec<_> = ports.into_iter().map(|(port, _)| port).collect();
        let value = serde_json::json!({
            "namespace": "edge", "control": control, "control_ports": ports, "addresses": addresses, "sysctls": sysctls,
        });
        let mut bytes = value.to_string().into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

#[test]
fn nothing_outside_the_lists_is_touched_whatever_a_trace_file_says() {
    let machine = Machine::new();
    let me = own_user();
    // As root both kinds are tried: a note of the daemon's user, and one of root's.
    let before = machine.others();
    let mut runner = TestRunner::new(Config { cases: FILES, failure_persistence: None, ..Config::default() });
    let seen = std::cell::Cell::new((0, 0));
    runner
        .run(&file(&machine), |bytes| {
            let path = machine.at("run/net-1.json");
            if me == 0 {
                let _ = fs::write(&path, "");
                chown(&path, Some(ANOTHER), None).expect("root");
            }
            let note = machine.undo(&bytes);
            let (understood, restored) = seen.get();
            seen.set((understood + u32::from(note.writer.is_some()), restored + note.traces.sysctls.len()));
            prop_assert_eq!(machine.others(), before.clone());
            for (name, value) in &note.traces.sysctls {
                prop_assert!(sysctl::may_be_restored(name, value), "{} = {}", name, value);
            }
            for name in &note.traces.control_ports {
                prop_assert!(name.starts_with("erdp-"), "{}", name);
            }
            for name in SETTINGS {
                let text = fs::read_to_string(machine.at("sys/net").join(name)).expect("it is there");
                prop_assert!(text.trim().parse::<i32>().is_ok(), "{} = {}", name, text);
            }
            prop_assert!(
                !machine.at("sys/net").join("ipv4/conf/eth0/accept_redirects").exists(),
                "made anew"
            );
            Ok(())
        })
        .expect("nothing is touched");
    let (understood, restored) = seen.get();
    println!("{FILES} files, {understood} understood, {restored} sysctls put back");
    assert!(understood > FILES / 2 && restored > 100, "the files say nothing");
}

#[test]
fn what_an_edge_has_written_is_read_back_and_undone() {
    let machine = Machine::new();
    let traces = Traces {
        namespace: "edge".into(),
        control: machine.at("run/control.sock"),
        control_ports: vec!["erdp-1".into()],
        addresses: vec![(3, "198.18.0.1/30".parse().expect("a net"))],
        sysctls: vec![
            ("ipv4/conf/eth0/arp_ignore".into(), "0".into()),
            ("ipv4/ip_forward".into(), "1".into()),
        ],
    };
    let note = machine.undo(&serde_json::to_vec(&traces).expect("text"));
    assert_eq!(note, Note { traces, writer: Some(own_user()), left_out: Vec::new() });
    let read = |name: &str| fs::read_to_string(machine.at("sys/net").join(name)).expect("it is there");
    assert_eq!((read("ipv4/conf/eth0/arp_ignore"), read("ipv4/ip_forward")), ("0".into(), "1".into()));
    assert!(!machine.at("run/control.sock").exists());
}

#[test]
fn a_note_that_is_a_link_or_another_users_to_write_is_not_trusted() {
    let machine = Machine::new();
    let note = machine.at("run/net-1.json");
    let traces = Traces { control: machine.at("run/control.sock"), ..Traces::default() };
    fs::write(machine.at("outside/note"), serde_json::to_vec(&traces).expect("text")).expect("a file");
    symlink(machine.at("outside/note"), &note).expect("a link");
    let found = Traces::read_in(&machine.run, "net-1.json").expect("something is there");
    assert_eq!((found.traces, found.left_out.len()), (Traces::default(), 1), "by a link");
    fs::remove_file(&note).expect("it goes");
    fs::copy(machine.at("outside/note"), &note).expect("a file");
    fs::set_permissions(&note, fs::Permissions::from_mode(0o666)).expect("its mode");
    let found = Traces::read_in(&machine.run, "net-1.json").expect("it is there");
    assert_eq!(found.writer, None);
    let _ = place::remove_noted(&found.traces.control, found.writer);
    assert!(machine.at("run/control.sock").exists());
    fs::write(&note, vec![b' '; BYTES_MAX as usize + 1]).expect("a file");
    assert!(
        Traces::read_in(&machine.run, "net-1.json").is_some_and(|note| note.left_out.len() == 1),
        "too long"
    );
}
