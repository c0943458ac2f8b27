//! The page about odd packets, docs/packets.md, made of the packet tables: what becomes of each row, which counter tells, and whether its
//! sender is told.
//!
//! Verdicts are those that the rows expect (and `tests/packet_tables.rs` holds kernel and host against); that an ICMP error is
//! sent is found out by running the stages on the frame.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use erdp::dataplane::memory::MemoryDataplane;
use erdp_common::reason::DropReason;
use etherparse::{Icmpv4Header, Icmpv6Header, SlicedPacket, TransportSlice};

use super::{Edge, Expect, Ports, Row, subjects};

const HEAD: &str = "\
# What becomes of each kind of packet

Made of the packet tables (`tests/src/packets/rows/`) by `cargo test -p erdp-tests --test packet_page`, which fails when this page and
the tables differ; with `ERDP_WRITE_PAGE=1` it writes the page anew. Each row is held against the loaded XDP program and against the
same stages on the host (`cargo test -p erdp-tests --test packet_tables`).

*Counter* is the line of `erdp show counters` that counts it; a forwarded packet counts as `tx`. *Told* is the ICMP error (type/code)
that its sender gets, within the attachment's budget; none is sent about ICMP errors, later fragments, or frames to a group address
(RFC 1812 section 4.3.2.7, RFC 4443 section 2.4).

Two things come off a frame before anything else is asked. A tag with VLAN ID 0 carries a priority and names no VLAN (IEEE 802.1Q): the
frame is as if it had come without, on its way to a neighbour and to the kernel. Bytes behind the IP packet are cut off before it is judged,
charged and sent; the padding of Ethernet's shortest frame (46 bytes behind the header and the tags) stays and is not charged.

Of multicast, only what keeps IPv6 neighbours finding us goes to the kernel: neighbour discovery for our groups, and queries of multicast
listener discovery, which a snooping switch sends to learn where these groups are wanted. IPv4 needs no such thing: ARP is broadcast, no
switch prunes it, and IGMP stays outside.
";

/// The page.
///
/// # Errors
/// When the edge cannot be built, or an error of ours cannot be read.
pub fn page() -> Result<String> {
    let ports = Ports { a: 11, b: 12, c: 13, d: 14, e: 15, f: 16 };
    let mut dataplane = MemoryDataplane::new(2_048);
    let _edge = Edge::build(&mut dataplane, ports)?;
    let mut page = HEAD.to_owned();
    for (subject, rows) in subjects(ports) {
        writeln!(page, "\n## {subject}\n\n| packet | verdict | counter | told |\n|---|---|---|---|")?;
        for row in rows {
            let told = told(&dataplane, &row).with_context(|| row.name)?;
            let (verdict, counter) = ends(&row.expect);
            writeln!(page, "| {} | {verdict} | `{counter}` | {told} |", row.name)?;
        }
    }
    page += "\n## Reasons and remedies\n\n| reason | what an operator does about it |\n|---|---|\n";
    for reason in DropReason::ALL {
        writeln!(page, "| `{}` | {} |", reason.label(), reason.remedy())?;
    }
    Ok(page)
}

fn ends(expect: &Expect) -> (String, String) {
    let tagged = |tags: &[u16]| match tags {
        [] => "forwarded".to_owned(),
        [one] => format!("forwarded with tag {one}"),
        more => {
            format!("forwarded with tags {}", more.iter().map(u16::to_string).collect::<Vec<_>>().join("."))
        }
    };
    match expect {
        Expect::Transmit(_, tags) => (tagged(tags), "tx".to_owned()),
        Expect::TransmitAny(_) => ("forwarded to one of equal next hops".to_owned(), "tx".to_owned()),
        Expect::Marked(_, class) => {
            (format!("forwarded with DSCP {} and ECN {}", class >> 2, class & 3), "tx".to_owned())
        }
        Expect::Punt(kind) => ("to the kernel".to_owned(), format!("punt {}", kind.label())),
        Expect::PuntVia(kind, _) => {
            ("to the kernel by its control port".to_owned(), format!("punt {}", kind.label()))
        }
        Expect::FromKernel(tags) => (tagged(tags).replace("forwarded", "sent"), "from_kernel".to_owned()),
        Expect::Drop(reason) => ("dropped".to_owned(), format!("drop {}", reason.label())),
    }
}

/// Type and code of the error that the frame's sender gets.
fn told(dataplane: &MemoryDataplane, row: &Row) -> Result<String> {
    // What is counted meanwhile is nobody's.
    let ran = dataplane.run(row.ifindex, &row.frame);
    if ran.answered.is_none() {
        return Ok("-".to_owned());
    }
    let packet = SlicedPacket::from_ethernet(ran.frame.bytes()).context("an error that cannot be read")?;
    let (name, bytes) = match packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => {
            ("ICMP", Icmpv4Header::new(icmp.icmp_type()).to_bytes().to_vec())
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            ("ICMPv6", Icmpv6Header::new(icmp.icmp_type()).to_bytes().to_vec())
        }
        other => bail!("the answer is no ICMP: {other:?}"),
    };
    let [kind, code, ..] = bytes[..] else { bail!("an ICMP header of {} bytes", bytes.len()) };
    Ok(format!("{name} {kind}/{code}"))
}
