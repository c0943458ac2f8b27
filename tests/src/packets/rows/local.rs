//! Rows of packets for the router itself: sessions, echo, ARP and neighbour discovery, and the ways through control ports.

use erdp_common::reason::{DropReason, PuntKind};

use super::super::{
    Ports,
    frames::{ARP, Build, IPV4, IPV6, Tagging, fragment},
};
use super::{AZURE, CUSTOMER, DOT1AD, DOT1Q, Expect, Row, row, udp4, v6};

pub(super) fn for_the_router(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Punt};
    use PuntKind::{Bgp, Echo};
    let tcp = |from: [u8; 4], to: [u8; 4], ports: (u16, u16)| {
        Build::ipv4(from, to, 6, &Build::tcp(ports.0, ports.1), |_| {})
    };
    let echo = |to: [u8; 4], kind: u8| Build::ipv4(AZURE, to, 1, &[kind, 0, 0, 0, 0, 1, 0, 1], |_| {});
    let stranger = Build::ipv4(CUSTOMER, [198, 18, 1, 1], 1, &[8, 0, 0, 0, 0, 1, 0, 1], |_| {});
    let ours = [198, 18, 1, 1];
    let closed = Drop(DropReason::LocalNotAllowed);
    let echo6_from = |from| Build::ipv6(v6(from), v6("fd00:18::1"), 58, 64, &[128, 0, 0, 0, 0, 1, 0, 1]);
    let (echo6, stranger6) = (echo6_from("2603:1::9"), echo6_from("fd00:18:64::7"));
    let foreign = Drop(DropReason::ForeignSource);
    let fragment_to_us =
        Build::ipv4([198, 18, 1, 2], ours, 6, &Build::tcp(179, 40000), |header| fragment(header, true, 0));
    rows.extend([
        row(
            "BGP of the configured peer, passive",
            ports.a,
            &[],
            IPV4,
            &tcp([198, 18, 1, 2], ours, (40000, 179)),
            Punt(Bgp),
        ),
        row(
            "BGP of the configured peer, active",
            ports.a,
            &[],
            IPV4,
            &tcp([198, 18, 1, 2], ours, (179, 40000)),
            Punt(Bgp),
        ),
        row(
            "BGP of a stranger",
            ports.a,
            &[],
            IPV4,
            &tcp([198, 18, 1, 3], ours, (40000, 179)),
            closed.clone(),
        ),
        row(
            "BGP of a peer on another attachment (invariant 11)",
            ports.c,
            &[],
            IPV4,
            &tcp([198, 18, 1, 2], [198, 18, 4, 1], (40000, 179)),
            closed.clone(),
        ),
        row("BGP in fragments", ports.a, &[], IPV4, &fragment_to_us, closed.clone()),
        row(
            "SSH to the router",
            ports.a,
            &[],
            IPV4,
            &tcp([198, 18, 1, 2], ours, (40000, 22)),
            closed.clone(),
        ),
        row("echo request to the router", ports.a, &[], IPV4, &echo(ours, 8), Punt(Echo)),
        row("echo reply to the router", ports.a, &[], IPV4, &echo(ours, 0), Punt(Echo)),
        row("ICMP redirect to the router", ports.a, &[], IPV4, &echo(ours, 5), closed),
        row(
            "echo request to the router's address on another attachment",
            ports.a,
            &[],
            IPV4,
            &echo([198, 18, 4, 1], 8),
            Drop(DropReason::NoRoute),
        ),
        row("ICMPv6 echo request to the router", ports.a, &[], IPV6, &echo6, Punt(Echo)),
        row(
            "echo request of a host on another attachment (C2)",
            ports.a,
            &[],
            IPV4,
            &stranger,
            foreign.clone(),
        ),
        row("the same in ICMPv6 (C2)", ports.a, &[], IPV6, &stranger6, foreign),
        row(
            "ICMPv6 echo request of a link-local neighbour",
            ports.a,
            &[],
            IPV6,
            &echo6_from("fe80::9"),
            Punt(Echo),
        ),
    ]);
}

pub(super) fn discovery(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Punt};
    use PuntKind::{Arp, NeighbourDiscovery};
    let nd = |to: &str, kind: u8, hop_limit: u8| {
        Build::ipv6(v6("fe80::99"), v6(to), 58, hop_limit, &[&[kind, 0, 0, 0][..], &[0; 20]].concat())
    };
    let ours = [198, 18, 1, 1];
    let not_ours = Drop(DropReason::NdNotForUs);
    rows.extend([
        row("ARP request for us", ports.a, &[], ARP, &Build::arp(1, [198, 18, 1, 2], ours), Punt(Arp)),
        row(
            "ARP request for us, tagged",
            ports.b,
            &[(DOT1Q, 100)],
            ARP,
            &Build::arp(1, [198, 18, 2, 2], [198, 18, 2, 1]),
            Expect::PuntVia(Arp, 1),
        ),
        row("ARP reply to us", ports.a, &[], ARP, &Build::arp(2, [198, 18, 1, 2], ours), Punt(Arp)),
        row(
            "gratuitous ARP of a neighbour",
            ports.a,
            &[],
            ARP,
            &Build::arp(1, [198, 18, 1, 2], [198, 18, 1, 2]),
            Punt(Arp),
        ),
        row(
            "ARP request for somebody else",
            ports.a,
            &[],
            ARP,
            &Build::arp(1, [198, 18, 1, 2], [198, 18, 1, 3]),
            Drop(DropReason::ArpNotForUs),
        ),
        row(
            "ARP request for our address on another attachment",
            ports.a,
            &[],
            ARP,
            &Build::arp(1, [198, 18, 1, 2], [198, 18, 4, 1]),
            Drop(DropReason::ArpNotForUs),
        ),
        row(
            "ARP of somebody who has our address, for another (E2)",
            ports.a,
            &[],
            ARP,
            &Build::arp(1, ours, [198, 18, 1, 3]),
            Drop(DropReason::AddressConflict),
        ),
        row(
            "gratuitous ARP of somebody who has our address (E2)",
            ports.a,
            &[],
            ARP,
            &Build::arp(1, ours, ours),
            Drop(DropReason::AddressConflict),
        ),
        row(
            "neighbour solicitation of somebody who has our address (E2)",
            ports.a,
            &[],
            IPV6,
            &Build::ipv6(
                v6("fd00:18::1"),
                v6("ff02::1:ff00:2"),
                58,
                255,
                &[&[135, 0, 0, 0][..], &[0; 20]].concat(),
            ),
            Drop(DropReason::AddressConflict),
        ),
        row(
            "neighbour solicitation to our solicited-node group",
            ports.a,
            &[],
            IPV6,
            &nd("ff02::1:ff00:1", 135, 255),
            Punt(NeighbourDiscovery),
        ),
        row(
            "neighbour solicitation to our address",
            ports.a,
            &[],
            IPV6,
            &nd("fd00:18::1", 135, 255),
            Punt(NeighbourDiscovery),
        ),
        row(
            "neighbour solicitation to our link-local address",
            ports.a,
            &[],
            IPV6,
            &nd("fe80::1", 135, 255),
            Punt(NeighbourDiscovery),
        ),
        row(
            "unsolicited neighbour advertisement to all nodes",
            ports.a,
            &[],
            IPV6,
            &nd("ff02::1", 136, 255),
            Punt(NeighbourDiscovery),
        ),
        row(
            "neighbour solicitation for somebody else",
            ports.a,
            &[],
            IPV6,
            &nd("ff02::1:ff00:77", 135, 255),
            not_ours.clone(),
        ),
        row(
            "neighbour solicitation that was forwarded (RFC 4861 section 7.1)",
            ports.a,
            &[],
            IPV6,
            &nd("fd00:18::1", 135, 254),
            not_ours.clone(),
        ),
        row("router advertisement", ports.a, &[], IPV6, &nd("ff02::1", 134, 255), not_ours.clone()),
        row("redirect", ports.a, &[], IPV6, &nd("fe80::1", 137, 255), not_ours),
    ]);
}

/// The kernel's way to tagged attachments (C4): what is for it comes without tags, what it sends leaves with them.
pub(super) fn through_control_ports(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, FromKernel, PuntVia};
    use PuntKind::{Arp, Bgp, Echo, NeighbourDiscovery};
    let (one, two): (Tagging<'_>, Tagging<'_>) = (&[(DOT1Q, 100)], &[(DOT1AD, 10), (DOT1Q, 200)]);
    let bgp = |from: [u8; 4], to: [u8; 4], ttl: u8| {
        Build::ipv4(from, to, 6, &Build::tcp(40000, 179), |header| header.time_to_live = ttl)
    };
    let echo = |from: [u8; 4], to: [u8; 4]| Build::ipv4(from, to, 1, &[8, 0, 0, 0, 0, 1, 0, 1], |_| {});
    let icmp6 = |from: &str, to: &str, kind: u8| {
        Build::ipv6(v6(from), v6(to), 58, 255, &[&[kind, 0, 0, 0][..], &[0; 20]].concat())
    };
    let ask = Build::arp(1, [198, 18, 3, 2], [198, 18, 3, 1]);
    let ours = Build::arp(1, [198, 18, 2, 1], [198, 18, 2, 2]);
    let mut with_priority = row(
        "echo behind a tag with priority 7",
        ports.b,
        one,
        IPV4,
        &echo([198, 18, 2, 2], [198, 18, 2, 1]),
        PuntVia(Echo, 1),
    );
    with_priority.frame[14] |= 0xe0;
    rows.extend([
        with_priority,
        row("ARP for us behind two tags", ports.b, two, ARP, &ask, PuntVia(Arp, 2)),
        row(
            "BGP behind one tag",
            ports.b,
            one,
            IPV4,
            &bgp([198, 18, 2, 2], [198, 18, 2, 1], 1),
            PuntVia(Bgp, 1),
        ),
        row(
            "BGP behind two tags",
            ports.b,
            two,
            IPV4,
            &bgp([198, 18, 3, 2], [198, 18, 3, 1], 1),
            PuntVia(Bgp, 2),
        ),
        row(
            "BGP of a peer of another tag (invariant 11)",
            ports.b,
            one,
            IPV4,
            &bgp([198, 18, 3, 2], [198, 18, 2, 1], 1),
            Drop(DropReason::LocalNotAllowed),
        ),
        row(
            "ICMPv6 echo behind one tag",
            ports.b,
            one,
            IPV6,
            &icmp6("fe80::9", "fd00:18::2", 128),
            PuntVia(Echo, 1),
        ),
        row(
            "neighbour solicitation behind two tags",
            ports.b,
            two,
            IPV6,
            &icmp6("fe80::99", "ff02::1:ff00:3", 135),
            PuntVia(NeighbourDiscovery, 2),
        ),
        row("ARP of the kernel gets one tag", ports.d, &[], ARP, &ours, FromKernel(vec![100])),
        row("ARP of the kernel gets two tags", ports.e, &[], ARP, &ours, FromKernel(vec![10, 200])),
        row(
            "BGP of the kernel keeps its TTL of 1",
            ports.d,
            &[],
            IPV4,
            &bgp([198, 18, 2, 1], [198, 18, 2, 2], 1),
            FromKernel(vec![100]),
        ),
        row(
            "neighbour solicitation of the kernel, to a group",
            ports.e,
            &[],
            IPV6,
            &icmp6("fe80::3", "ff02::1:ff00:99", 135),
            FromKernel(vec![10, 200]),
        ),
        row(
            "what the kernel sends is not routed, whatever its destination",
            ports.d,
            &[],
            IPV4,
            &udp4(AZURE),
            FromKernel(vec![100]),
        ),
        row("a tagged frame of the kernel", ports.d, one, ARP, &ours, Drop(DropReason::UnknownAttachment)),
        row("the kernel on a disabled circuit (A8)", ports.f, &[], ARP, &ours, Drop(DropReason::Disabled)),
    ]);
}
