//! The packet tables: each row is a frame, where it comes in, and what has to become of it.
//!
//! One file a subject, in the order of `SUBJECTS`: what is forwarded, what is odd about a packet, what is for the router itself, BFD,
//! policy, classes, drops. `docs/packets.md` is written from these rows and a test holds it against them; the same rows run on the
//! host and in the kernel.

mod bfd;
mod dropped;
mod forwarded;
mod local;
mod odd;
mod policy;
mod wire;

use erdp_common::reason::{DropReason, PuntKind};

use super::{
    Ports,
    frames::{Build, Tagging},
};

/// What must happen to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It leaves through this next hop of the edge, with these tags, TTL or hop limit lowered by one, the rest unchanged.
    Transmit(u16, Vec<u16>),
    /// It leaves through one of these next hops.
    TransmitAny(Vec<u16>),
    /// It leaves through this next hop, untagged, with this DSCP and ECN.
    Marked(u16, u8),
    /// The kernel gets it unchanged.
    Punt(PuntKind),
    /// The kernel gets it through the control port, less so many tags.
    PuntVia(PuntKind, usize),
    /// It is the kernel's and leaves with these tags, unchanged but for them.
    FromKernel(Vec<u16>),
    /// It is dropped.
    Drop(DropReason),
}

/// A packet and what must happen to it.
#[derive(Clone, Debug)]
pub struct Row {
    /// A sentence about the packet.
    pub name: &'static str,
    /// Interface it comes in on.
    pub ifindex: u32,
    /// The frame.
    pub frame: Vec<u8>,
    /// What it is taken for: the same, but for tags that carry a priority only and bytes behind the packet.
    pub taken: Vec<u8>,
    /// Offset of the IP header in that.
    pub ip_at: usize,
    /// The verdict.
    pub expect: Expect,
}

const CUSTOMER: [u8; 4] = [198, 18, 64, 7];
const AZURE: [u8; 4] = [20, 1, 0, 9];
const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;

fn v6(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap_or(std::net::Ipv6Addr::UNSPECIFIED).octets()
}

fn udp4(to: [u8; 4]) -> Vec<u8> {
    Build::ipv4(CUSTOMER, to, 17, &Build::udp(5000, 5001, b"hello"), |_| {})
}

fn udp6(to: &str) -> Vec<u8> {
    Build::ipv6(v6("fd00:18:64::7"), v6(to), 17, 64, &Build::udp(5000, 5001, b"hello"))
}

/// A kind of packets: what its rows have in common, and who adds them.
type Subject = (&'static str, fn(Ports, &mut Vec<Row>));

const SUBJECTS: [Subject; 17] = [
    ("Forwarded", forwarded::forwarded),
    ("Options, fragments and extension headers", forwarded::variable_offsets),
    ("ICMP errors about flows of ours", odd::icmp_errors),
    ("At the limits", odd::limits),
    ("Bytes behind the packet", wire::trailers),
    ("Tags that carry a priority only", wire::priority_tags),
    ("For the router itself", local::for_the_router),
    ("ARP and neighbour discovery", local::discovery),
    ("Multicast listener discovery", wire::listeners),
    ("BFD", bfd::rows),
    ("Through control ports", local::through_control_ports),
    ("Classes and buckets", policy::classified_and_policed),
    ("Sources towards Microsoft peering", policy::public_sources),
    ("Sources from an MSEE", policy::foreign_sources),
    ("Services", policy::services),
    ("Dropped", dropped::dropped),
    ("Malformed", dropped::malformed),
];

/// The rows of the edge with these ports, by subject.
pub fn subjects(ports: Ports) -> Vec<(&'static str, Vec<Row>)> {
    let of = |(name, add): &Subject| {
        let mut rows = Vec::new();
        add(ports, &mut rows);
        (*name, rows)
    };
    SUBJECTS.iter().map(of).collect()
}

/// All rows of the edge with these ports.
pub fn rows(ports: Ports) -> Vec<Row> {
    subjects(ports).into_iter().flat_map(|(_, rows)| rows).collect()
}

fn row(
    name: &'static str,
    ifindex: u32,
    tags: Tagging<'_>,
    kind: u16,
    payload: &[u8],
    expect: Expect,
) -> Row {
    let frame = Build::ethernet(tags, kind, payload);
    Row { name, ifindex, taken: frame.clone(), frame, ip_at: 14 + 4 * tags.len(), expect }
}
