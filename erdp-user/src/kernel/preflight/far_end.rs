//! The far end of a pair of virtual interfaces (veth), in whatever network namespace it is: whether it leaves the checksums of what it
//! sends to hardware.
//!
//! There is no hardware between the two. The kernel lets that pass, because it marks such packets and whoever receives them knows; XDP
//! sees the bytes only, so they would be forwarded with wrong checksums. rtnetlink tells the index of the far end and a number of its
//! namespace; which of the namespaces of this machine has that number, the kernel says of each file that stands for one. What is known
//! of the interface there is asked from inside, on a thread that enters the namespace and ends; that takes CAP_SYS_ADMIN.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::PathBuf,
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::{interface, netdev};
use crate::kernel::interface_name;

/// What is known of the far end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// It is in a namespace that this process cannot find or enter.
    Unseen,
    /// It was looked at.
    Seen {
        /// Its name.
        name: String,
        /// The name of its namespace (`ip netns`), if it is another one and has a name.
        namespace: Option<String>,
        /// It leaves checksums to hardware (`tx-checksum-ip-generic`).
        leaves_checksums: bool,
    },
}

/// The feature by which an interface takes packets whose checksum is not computed yet.
pub(super) const CHECKSUMS: &str = "tx-checksum-ip-generic";

/// The far end of a veth in this thread's network namespace.
pub(super) fn read(ifindex: u32) -> FarEnd {
    peer(ifindex).ok().and_then(|(peer, namespace)| look(peer, namespace)).unwrap_or(FarEnd::Unseen)
}

fn look(peer: u32, namespace: Option<i32>) -> Option<FarEnd> {
    let Some(number) = namespace else {
        return here(peer);
    };
    let (path, file) = namespaces().into_iter().find(|(_, file)| number_of(file).ok() == Some(number))?;
    let name = path.starts_with(NAMED).then(|| path.file_name().map(|it| it.to_string_lossy().into_owned()));
    let inside = thread::scope(|scope| scope.spawn(|| enter(&file).ok().and_then(|()| here(peer))).join());
    match inside.ok()?? {
        FarEnd::Seen { name: interface, leaves_checksums, .. } => {
            Some(FarEnd::Seen { name: interface, namespace: name.flatten(), leaves_checksums })
        }
        FarEnd::Unseen => None,
    }
}

/// The interface with this index in this thread's namespace.
fn here(ifindex: u32) -> Option<FarEnd> {
    let name = interface_name(ifindex)?;
    let leaves_checksums = interface::features_of(&name).ok()?.contains(CHECKSUMS);
    Some(FarEnd::Seen { name, namespace: None, leaves_checksums })
}

/// Moves this thread into a network namespace.
fn enter(namespace: &File) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Where `ip netns` keeps namespaces by name.
const NAMED: &str = "/run/netns";

/// The network namespaces that can be found, each once: those with a name first, then those of processes.
fn namespaces() -> Vec<(PathBuf, File)> {
    let entries = |folder: &str| {
        let read = fs::read_dir(folder).into_iter().flatten().flatten();
        read.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let is_process = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
    };
    let processes = entries("/proc").into_iter().filter(is_process).map(|path| path.join("ns/net"));
    let mut known = BTreeSet::new();
    entries(NAMED)
        .into_iter()
        .chain(processes)
        .filter_map(|path| {
            let file = File::open(&path).ok()?;
            let meta = file.metadata().ok()?;
            known.insert((meta.dev(), meta.ino())).then_some((path, file))
        })
        .collect()
}

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_NSID: u16 = 88;
const GET_NSID: u16 = 90;
/// `struct ifinfomsg`: family, type, index, flags, change.
const LINK_HEADER: usize = 16;
/// `struct rtgenmsg`, padded.
const GENERIC_HEADER: usize = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINK_NETNSID: u16 = 37;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The index of the far end, and the number by which this namespace knows that of the far end; `None`: it is the same.
fn peer(ifindex: u32) -> io::Result<(u32, Option<i32>)> {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    let answer = netdev::ask_route([GET_LINK, NEW_LINK], &header)?;
    let attributes = answer.get(LINK_HEADER..).unwrap_or_default();
    let word = |kind| netdev::attribute(attributes, kind).and_then(|bytes| bytes.first_chunk::<4>());
    let peer = word(IFLA_LINK).map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let namespace = word(IFLA_LINK_NETNSID).map(|bytes| i32::from_ne_bytes(*bytes));
    if peer == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok((peer, namespace)) }
}

/// The number by which this thread's namespace knows another.
fn number_of(namespace: &File) -> io::Result<i32> {
    let mut request = vec![0; GENERIC_HEADER];
    request.extend(8u16.to_ne_bytes());
    request.extend(NETNSA_FD.to_ne_bytes());
    request.extend(namespace.as_raw_fd().to_ne_bytes());
    let answer = netdev::ask_route([GET_NSID, NEW_NSID], &request)?;
    let attributes = answer.get(GENERIC_HEADER..).unwrap_or_default();
    netdev::attribute(attributes, NETNSA_NSID)
        .and_then(|bytes| bytes.first_chunk())
        .map(|bytes| i32::from_ne_bytes(*bytes))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The command that has the far end compute its checksums.
pub(super) fn remedy(far_end: &FarEnd) -> String {
    match far_end {
        FarEnd::Unseen => "ethtool -K PEER tx off (at the far end of the pair)".to_owned(),
        FarEnd::Seen { name, namespace: None, .. } => format!("ethtool -K {name} tx off"),
        FarEnd::Seen { name, namespace: Some(namespace), .. } => {
            format!("ip netns exec {namespace} ethtool -K {name} tx off")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_is_the_command_that_helps_where_the_far_end_is() {
        let seen = |namespace: Option<&str>| FarEnd::Seen {
            name: "nat0".to_owned(),
            namespace: namespace.map(str::to_owned),
            leaves_checksums: true,
        };
        assert_eq!(remedy(&seen(None)), "ethtool -K nat0 tx off");
        assert_eq!(remedy(&seen(Some("nat"))), "ip netns exec nat ethtool -K nat0 tx off");
        assert!(remedy(&FarEnd::Unseen).starts_with("ethtool -K PEER tx off"));
    }

    #[test]
    fn our_own_namespace_is_among_those_that_are_found() {
        let ours = fs::metadata("/proc/self/ns/net").expect("a namespace").ino();
        let found: Vec<u64> =
            namespaces().iter().filter_map(|(_, file)| file.metadata().ok()).map(|meta| meta.ino()).collect();
        assert!(found.contains(&ours), "{ours} is not among {found:?}");
    }
}
