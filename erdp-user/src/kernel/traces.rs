//! What an edge has changed on the machine, written down where the next one and `erdp uninstall` find it: a controller that is
//! killed undoes nothing, and whoever comes after it must not take its addresses for the operator's own.
//!
//! One small JSON file for each network namespace, in a folder that is empty after the machine's start. That an edge runs at all
//! is said by a socket with an abstract name: such names belong to the network namespace, and the kernel frees one with the
//! process that has it, however that ends.
//!
//! The daemon is a user of its own and writes the file; `erdp uninstall` reads it as root. So what it says is not believed: [`sift`] leaves
//! what an edge can have written down, and what only the writer's own rights allow is asked of [`Note::writer`].

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{folder::Folder, sysctl};
use crate::dataplane::bpffs;

const FOLDER: &str = "/run/erdp";
const NAME: &[u8] = b"erdp";
/// Longest file in bytes: hundreds of attachments take a tenth of it.
const BYTES_MAX: u64 = 4 << 20;
/// Longest line of text that is kept.
const TEXT_MAX: usize = 4_096;

/// Of what is left out so much is named.
const NAMED_MAX: usize = 20;

/// What was changed, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traces {
    /// What an operator calls the network namespace.
    pub namespace: String,
    /// The control socket.
    pub control: PathBuf,
    /// Control ports, by the name of the kernel's end.
    pub control_ports: Vec<String>,
    /// Addresses that were not there before: interface and address.
    pub addresses: Vec<(u32, IpNet)>,
    /// Sysctls and what they were.
    pub sysctls: Vec<(String, String)>,
}

/// Traces that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// What of them an edge can have written.
    pub traces: Traces,
    /// The only user beside root who can have written them; `None`: more than one can.
    pub writer: Option<u32>,
    /// What was left out, a sentence each.
    pub left_out: Vec<String>,
}

impl Traces {
    /// Those of this network namespace, if there are any.
    pub fn read() -> Option<Note> {
        let folder = Folder::open(Path::new(FOLDER)).ok()?;
        Self::read_in(&folder, &name().ok()?)
    }

    /// Those of a file in a folder.
    pub fn read_in(folder: &Folder, name: &str) -> Option<Note> {
        let content = match folder.read(Path::new(name), BYTES_MAX) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Note::of_nothing(format!("{name} is not read: {error}"))),
        };
        let writer = content.facts.is_owners_alone.then_some(content.facts.owner);
        match serde_json::from_slice(&content.bytes) {
            Ok(traces) => {
                let (traces, left_out) = sift(traces);
                Some(Note { traces, writer, left_out })
            }
            Err(error) => Some(Note::of_nothing(format!("{name} is not understood: {error}"))),
        }
    }

    /// Writes them in one step: the file is the old one or the new one.
    pub fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let write = || {
            fs::create_dir_all(FOLDER)?;
            Folder::open(Path::new(FOLDER))?.replace(&name()?, &text, 0o640)
        };
        // Another edge that ends at this moment removes the folder if it is empty.
        write().or_else(|_| write())
    }

    /// Everything is undone.
    pub fn remove() {
        // Another edge's file may be in the folder, and nothing depends on its going.
        let _ = Folder::open(Path::new(FOLDER)).and_then(|folder| folder.remove(&name()?));
        let _ = fs::remove_dir(FOLDER);
    }
}

impl Note {
    fn of_nothing(why: String) -> Self {
        Self { left_out: vec![why], ..Self::default() }
    }
}

/// What of them an edge can have written down, and what it cannot, a sentence each.
pub fn sift(mut traces: Traces) -> (Traces, Vec<String>) {
    let mut left_out = Vec::new();
    let mut keep = |may: bool, what: String| {
        if !may && left_out.len() < NAMED_MAX {
            left_out.push(format!("{}: an edge does not write that down", what.escape_debug()));
        }
        may
    };
    traces.namespace.retain(|c| !c.is_control());
    traces.namespace.truncate(traces.namespace.floor_char_boundary(TEXT_MAX));
    traces.control_ports.retain(|name| keep(is_control_port(name), format!("control port {name}")));
    traces.addresses.retain(|(ifindex, net)| {
        keep(*ifindex > 0 && is_address(*net), format!("address {net} on interface {ifindex}"))
    });
    traces.sysctls.retain(|(name, value)| {
        keep(sysctl::may_be_restored(name, value), format!("sysctl {name} = {value}"))
    });
    (traces, left_out)
}

/// As the configuration numbers them.
fn is_control_port(name: &str) -> bool {
    let number = name.strip_prefix("erdp-").and_then(|it| it.parse::<u16>().ok());
    number.is_some_and(|number| number > 0 && name == format!("erdp-{number}"))
}

/// One that an interface can have and the machine does not need for itself.
fn is_address(net: IpNet) -> bool {
    let address = net.addr();
    net.prefix_len() > 0 && !address.is_loopback() && !address.is_multicast() && !address.is_unspecified()
}

fn name() -> io::Result<String> {
    Ok(format!("net-{}.json", bpffs::network_namespace()?))
}

/// Says that an edge runs in this network namespace, as long as it is kept.
#[derive(Debug)]
pub struct Presence(#[expect(dead_code, reason = "its life is its meaning")] UnixListener);

impl Presence {
    /// `None`: another one runs here.
    pub fn claim() -> io::Result<Option<Self>> {
        match UnixListener::bind_addr(&SocketAddr::from_abstract_name(NAME)?) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
