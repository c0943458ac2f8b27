//! The rows. A name is a sentence about the packet; the verdict follows.

use erdp_common::reason::{DropReason, PuntKind};

use super::{
    Ports,
    frames::{ARP, Build, IPV4, IPV6, Tagging, fragment},
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
    /// Offset of its IP header.
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

/// All rows of the edge with these ports.
pub fn rows(ports: Ports) -> Vec<Row> {
    let mut rows = Vec::new();
    forwarded(ports, &mut rows);
    variable_offsets(ports, &mut rows);
    for_the_router(ports, &mut rows);
    discovery(ports, &mut rows);
    through_control_ports(ports, &mut rows);
    classified_and_policed(ports, &mut rows);
    public_sources(ports, &mut rows);
    services(ports, &mut rows);
    dropped(ports, &mut rows);
    malformed(ports, &mut rows);
    rows
}

fn row(
    name: &'static str,
    ifindex: u32,
    tags: Tagging<'_>,
    kind: u16,
    payload: &[u8],
    expect: Expect,
) -> Row {
    Row { name, ifindex, frame: Build::ethernet(tags, kind, payload), ip_at: 14 + 4 * tags.len(), expect }
}

fn forwarded(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Transmit, TransmitAny};
    let tagged: Tagging<'_> = &[(DOT1Q, 100)];
    let back = Build::ipv4(AZURE, CUSTOMER, 17, &Build::udp(5001, 5000, b"hello"), |_| {});
    let back6 = Build::ipv6(v6("2603:1::9"), v6("fd00:18:64::7"), 17, 64, &Build::udp(5001, 5000, b"hello"));
    rows.extend([
        row("customer to Azure, untagged to untagged", ports.c, &[], IPV4, &udp4(AZURE), Transmit(1, vec![])),
        row(
            "customer to Azure, a tag is pushed",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 2, 0, 9]),
            Transmit(2, vec![100]),
        ),
        row(
            "customer to Azure, two tags are pushed",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 3, 0, 9]),
            Transmit(3, vec![10, 200]),
        ),
        row("Azure to customer, untagged", ports.a, &[], IPV4, &back, Transmit(4, vec![])),
        row("Azure to customer, the tag is popped", ports.b, tagged, IPV4, &back, Transmit(4, vec![])),
        row(
            "Azure to customer, an 802.1ad tag is popped",
            ports.b,
            &[(DOT1AD, 100)],
            IPV4,
            &back,
            Transmit(4, vec![]),
        ),
        row(
            "Azure to customer, two 0x8100 tags are popped (C4)",
            ports.b,
            &[(DOT1Q, 10), (DOT1Q, 200)],
            IPV4,
            &back,
            Transmit(4, vec![]),
        ),
        row(
            "Azure to customer, QinQ tags are popped",
            ports.b,
            &[(DOT1AD, 10), (DOT1Q, 200)],
            IPV4,
            &back,
            Transmit(4, vec![]),
        ),
        row("IPv6 to Azure", ports.c, &[], IPV6, &udp6("2603:1::9"), Transmit(1, vec![])),
        row("IPv6 to the customer, tag popped", ports.b, tagged, IPV6, &back6, Transmit(4, vec![])),
        row(
            "equal paths: one of the two",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 200, 0, 9]),
            TransmitAny(vec![1, 2]),
        ),
        row(
            "equal paths, IPv6: one of the two",
            ports.c,
            &[],
            IPV6,
            &udp6("2603:80::9"),
            TransmitAny(vec![1, 2]),
        ),
        row(
            "the longest match wins: /25 in a /16",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 1, 2, 200]),
            Transmit(2, vec![100]),
        ),
        row(
            "the longest match wins: /32 in a /25",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 1, 2, 129]),
            Transmit(1, vec![]),
        ),
        row(
            "a dead link's flows go to the living one",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 8, 0, 9]),
            Transmit(1, vec![]),
        ),
    ]);
}

/// The verifier spike's rows: header offsets that vary at run time.
fn variable_offsets(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::Transmit;
    let udp = Build::udp(5000, 5001, b"hello");
    let options = |words: usize| {
        Build::ipv4(CUSTOMER, AZURE, 17, &udp, |header| {
            header.options =
                etherparse::Ipv4Options::try_from(vec![1u8; words * 4].as_slice()).unwrap_or_default();
            header.total_len += words as u16 * 4;
        })
    };
    let fragment_of =
        |more, offset| Build::ipv4(CUSTOMER, AZURE, 17, &udp, |header| fragment(header, more, offset));
    // Hop-by-hop, destination options, routing: each 8 bytes; then a fragment header and UDP.
    let chain = |headers: &[u8], last: u8| {
        let mut payload = Vec::new();
        for (at, kind) in headers.iter().enumerate() {
            let next = headers.get(at + 1).copied().unwrap_or(last);
            payload.extend_from_slice(&match kind {
                44 => [next, 0, 0, 1, 0, 0, 0, 7],
                _ => [next, 0, 1, 4, 0, 0, 0, 0],
            });
        }
        payload.extend_from_slice(&udp);
        Build::ipv6(
            v6("fd00:18:64::7"),
            v6("2603:1::9"),
            headers.first().copied().unwrap_or(last),
            64,
            &payload,
        )
    };
    rows.extend([
        row("IPv4 with 4 bytes of options", ports.c, &[], IPV4, &options(1), Transmit(1, vec![])),
        row("IPv4 with 40 bytes of options", ports.c, &[], IPV4, &options(10), Transmit(1, vec![])),
        row("a first fragment", ports.c, &[], IPV4, &fragment_of(true, 0), Transmit(1, vec![])),
        row("a later fragment", ports.c, &[], IPV4, &fragment_of(false, 185), Transmit(1, vec![])),
        row("IPv6 with hop-by-hop options", ports.c, &[], IPV6, &chain(&[0], 17), Transmit(1, vec![])),
        row(
            "IPv6 with four extension headers",
            ports.c,
            &[],
            IPV6,
            &chain(&[0, 60, 43, 60], 17),
            Transmit(1, vec![]),
        ),
        row(
            "IPv6 with more extension headers than are walked",
            ports.c,
            &[],
            IPV6,
            &chain(&[0, 60, 43, 60, 60, 60], 17),
            Transmit(1, vec![]),
        ),
        row("IPv6 first fragment", ports.c, &[], IPV6, &chain(&[44], 17), Transmit(1, vec![])),
    ]);
}

fn for_the_router(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Punt};
    use PuntKind::{Bgp, Echo};
    let tcp = |from: [u8; 4], to: [u8; 4], ports: (u16, u16)| {
        Build::ipv4(from, to, 6, &Build::tcp(ports.0, ports.1), |_| {})
    };
    let echo = |to: [u8; 4], kind: u8| Build::ipv4(CUSTOMER, to, 1, &[kind, 0, 0, 0, 0, 1, 0, 1], |_| {});
    let ours = [198, 18, 1, 1];
    let closed = Drop(DropReason::LocalNotAllowed);
    let echo6 = Build::ipv6(v6("fd00:18::2"), v6("fd00:18::1"), 58, 64, &[128, 0, 0, 0, 0, 1, 0, 1]);
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
    ]);
}

fn discovery(ports: Ports, rows: &mut Vec<Row>) {
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
fn through_control_ports(ports: Ports, rows: &mut Vec<Row>) {
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
            &icmp6("fd00:18::9", "fd00:18::2", 128),
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

/// Rules F: codes towards Microsoft peering; A1 and A2: the bucket.
fn classified_and_policed(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Marked};
    let coded = |to: [u8; 4], code: u8, ecn: u8| {
        Build::ipv4(CUSTOMER, to, 17, &Build::udp(4000, 5001, b"hello"), |header| {
            header.dscp = etherparse::IpDscp::try_new(code).unwrap_or_default();
            header.ecn = etherparse::IpEcn::try_new(ecn).unwrap_or_default();
        })
    };
    let from_port = |port, protocol| {
        Build::ipv4(CUSTOMER, [20, 12, 0, 9], protocol, &Build::udp(port, 5001, b"hello"), |_| {})
    };
    let coded6 = |code: u8| {
        let mut packet =
            Build::ipv6(v6("fd00:18:64::7"), v6("2604::9"), 17, 64, &Build::udp(4000, 5001, b"hello"));
        packet[0] |= code >> 2;
        packet[1] |= (code & 3) << 6 | 0x10;
        packet
    };
    let microsoft = [20, 12, 0, 9];
    rows.extend([
        row(
            "EF to Microsoft peering is kept",
            ports.c,
            &[],
            IPV4,
            &coded(microsoft, 46, 0),
            Marked(8, 46 << 2),
        ),
        row(
            "AF41 to Microsoft peering is kept, ECN too",
            ports.c,
            &[],
            IPV4,
            &coded(microsoft, 34, 1),
            Marked(8, 34 << 2 | 1),
        ),
        row(
            "CS6 to Microsoft peering becomes 0, ECN stays",
            ports.c,
            &[],
            IPV4,
            &coded(microsoft, 48, 2),
            Marked(8, 2),
        ),
        row("AF31 to Microsoft peering becomes 0 in IPv6 too", ports.c, &[], IPV6, &coded6(26), Marked(8, 1)),
        row(
            "EF to Microsoft peering is kept in IPv6 too",
            ports.c,
            &[],
            IPV6,
            &coded6(46),
            Marked(8, 46 << 2 | 1),
        ),
        row(
            "unmarked Teams audio is marked EF by its port",
            ports.c,
            &[],
            IPV4,
            &from_port(50_019, 17),
            Marked(8, 46 << 2),
        ),
        row(
            "unmarked Teams video is marked AF41",
            ports.c,
            &[],
            IPV4,
            &from_port(50_020, 17),
            Marked(8, 34 << 2),
        ),
        row(
            "unmarked Teams sharing is marked AF21",
            ports.c,
            &[],
            IPV4,
            &from_port(50_059, 17),
            Marked(8, 18 << 2),
        ),
        row("the next port is nobody's", ports.c, &[], IPV4, &from_port(50_060, 17), Marked(8, 0)),
        row(
            "TCP from a Teams port is not Teams media",
            ports.c,
            &[],
            IPV4,
            &from_port(50_019, 6),
            Marked(8, 0),
        ),
        row(
            "no room in the bucket",
            ports.c,
            &[],
            IPV4,
            &coded([20, 13, 0, 9], 0, 0),
            Drop(DropReason::Policed),
        ),
        row(
            "no room for voice either",
            ports.c,
            &[],
            IPV4,
            &coded([20, 13, 0, 9], 46, 0),
            Drop(DropReason::Policed),
        ),
        row(
            "near the limit an ECT packet is marked (RFC 3168)",
            ports.c,
            &[],
            IPV4,
            &coded([20, 14, 0, 9], 0, 2),
            Marked(10, 3),
        ),
        row(
            "near the limit a packet without ECT passes",
            ports.c,
            &[],
            IPV4,
            &coded([20, 14, 0, 9], 0, 0),
            Marked(10, 0),
        ),
    ]);
}

/// Rule D4: towards Microsoft peering a source that is not public is dropped.
fn public_sources(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Transmit};
    let udp = Build::udp(4000, 5001, b"hello");
    let from = |source: [u8; 4], to: [u8; 4]| Build::ipv4(source, to, 17, &udp, |_| {});
    let from6 = |source: &str, to: &str| Build::ipv6(v6(source), v6(to), 17, 64, &udp);
    let microsoft = [20, 15, 0, 9];
    let mut drop4 = |name, source| {
        let unnatted = Drop(DropReason::UnnattedSource);
        rows.push(row(name, ports.c, &[], IPV4, &from(source, microsoft), unnatted));
    };
    drop4("10.0.0.0/8 to Microsoft peering (D4)", [10, 255, 0, 1]);
    drop4("172.16.0.0/12 to Microsoft peering (D4)", [172, 31, 255, 254]);
    drop4("192.168.0.0/16 to Microsoft peering (D4)", [192, 168, 0, 1]);
    drop4("100.64.0.0/10, carrier-grade NAT, to Microsoft peering (D4)", [100, 127, 0, 1]);
    drop4("169.254.0.0/16 to Microsoft peering (D4)", [169, 254, 7, 7]);
    drop4("documentation addresses to Microsoft peering (D4)", [203, 0, 113, 7]);
    let unnatted = || Drop(DropReason::UnnattedSource);
    rows.extend([
        row(
            "172.32.0.0 is public",
            ports.c,
            &[],
            IPV4,
            &from([172, 32, 0, 1], microsoft),
            Transmit(11, vec![]),
        ),
        row(
            "100.128.0.0 is public",
            ports.c,
            &[],
            IPV4,
            &from([100, 128, 0, 1], microsoft),
            Transmit(11, vec![]),
        ),
        row(
            "10.0.0.0/8 on private peering is nobody's business",
            ports.c,
            &[],
            IPV4,
            &from([10, 1, 2, 3], AZURE),
            Transmit(1, vec![]),
        ),
        row(
            "unique local to Microsoft peering (D4)",
            ports.c,
            &[],
            IPV6,
            &from6("fd00:18:64::7", "2605::9"),
            unnatted(),
        ),
        row(
            "IPv6 documentation to Microsoft peering (D4)",
            ports.c,
            &[],
            IPV6,
            &from6("2001:db8::7", "2605::9"),
            unnatted(),
        ),
        row(
            "public IPv6 to Microsoft peering",
            ports.c,
            &[],
            IPV6,
            &from6("2a00::7", "2605::9"),
            Transmit(11, vec![]),
        ),
    ]);
}

/// Rules B8 and C5: a service is on no side, so that packets may pass it from either to either.
fn services(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::Transmit;
    let through = udp4([20, 18, 0, 9]);
    let service: Tagging<'_> = &[(DOT1Q, 6)];
    let back = Build::ipv4(AZURE, CUSTOMER, 17, &Build::udp(5001, 5000, b"hello"), |_| {});
    rows.extend([
        row("customer to a service", ports.c, &[], IPV4, &through, Transmit(12, vec![6])),
        row("Azure to a service", ports.a, &[], IPV4, &through, Transmit(12, vec![6])),
        row("IPv6 to a service", ports.c, &[], IPV6, &udp6("2608::9"), Transmit(12, vec![6])),
        row("a service to Azure", ports.c, service, IPV4, &udp4(AZURE), Transmit(1, vec![])),
        row("a service to the customer", ports.c, service, IPV4, &back, Transmit(4, vec![])),
    ]);
}

fn dropped(ports: Ports, rows: &mut Vec<Row>) {
    use DropReason as Why;
    let drop = |name, ifindex, tags, kind, payload: &[u8], why| {
        row(name, ifindex, tags, kind, payload, Expect::Drop(why))
    };
    let ttl =
        |ttl| Build::ipv4(CUSTOMER, AZURE, 17, &Build::udp(1, 2, b""), |header| header.time_to_live = ttl);
    let from = |from| Build::ipv4(from, AZURE, 17, &Build::udp(1, 2, b""), |_| {});
    let long = Build::ipv4(CUSTOMER, [20, 9, 0, 9], 17, &Build::udp(1, 2, &[0; 1380]), |_| {});
    let hops = Build::ipv6(v6("fd00:18:64::7"), v6("2603:1::9"), 17, 1, &Build::udp(1, 2, b""));
    let from6 = |from| Build::ipv6(v6(from), v6("2603:1::9"), 17, 64, &Build::udp(1, 2, b""));
    rows.extend([
        drop("LLDP", ports.c, &[], 0x88cc, &[0; 46], Why::NotIp),
        drop(
            "three tags",
            ports.b,
            &[(DOT1AD, 10), (DOT1Q, 200), (DOT1Q, 1)],
            IPV4,
            &udp4(AZURE),
            Why::TooManyTags,
        ),
        drop("an unknown tag", ports.b, &[(DOT1Q, 101)], IPV4, &udp4(AZURE), Why::UnknownAttachment),
        drop(
            "an unknown second tag",
            ports.b,
            &[(DOT1AD, 10), (DOT1Q, 201)],
            IPV4,
            &udp4(AZURE),
            Why::UnknownAttachment,
        ),
        drop(
            "one tag where two are configured",
            ports.b,
            &[(DOT1AD, 10)],
            IPV4,
            &udp4(AZURE),
            Why::UnknownAttachment,
        ),
        drop("no tag where tags are configured", ports.b, &[], IPV4, &udp4(AZURE), Why::UnknownAttachment),
        drop(
            "a tag where none is configured",
            ports.a,
            &[(DOT1Q, 100)],
            IPV4,
            &udp4(AZURE),
            Why::UnknownAttachment,
        ),
        drop("a disabled circuit (A8)", ports.c, &[(DOT1Q, 5)], IPV4, &udp4(AZURE), Why::Disabled),
        drop("source 127.0.0.1", ports.c, &[], IPV4, &from([127, 0, 0, 1]), Why::MartianSource),
        drop("source 0.0.0.0", ports.c, &[], IPV4, &from([0, 0, 0, 0]), Why::MartianSource),
        drop("source multicast", ports.c, &[], IPV4, &from([224, 0, 0, 5]), Why::MartianSource),
        drop("source ::1", ports.c, &[], IPV6, &from6("::1"), Why::MartianSource),
        drop("source link-local", ports.c, &[], IPV6, &from6("fe80::5"), Why::MartianSource),
        drop("multicast", ports.c, &[], IPV4, &udp4([224, 0, 0, 5]), Why::NotUnicast),
        drop("limited broadcast", ports.c, &[], IPV4, &udp4([255, 255, 255, 255]), Why::NotUnicast),
        drop("IPv6 multicast", ports.c, &[], IPV6, &udp6("ff02::5"), Why::NotUnicast),
        drop(
            "IPv6 link-local destination of a neighbour",
            ports.c,
            &[],
            IPV6,
            &udp6("fe80::77"),
            Why::NotUnicast,
        ),
        drop("no route", ports.c, &[], IPV4, &udp4([8, 8, 8, 8]), Why::NoRoute),
        drop("no IPv6 route", ports.c, &[], IPV6, &udp6("2001:4860::8888"), Why::NoRoute),
        drop("a discard route", ports.c, &[], IPV4, &udp4([20, 10, 0, 9]), Why::DiscardRoute),
        drop(
            "a peering that the zone may not use (C5)",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 16, 0, 9]),
            Why::ZoneForbidden,
        ),
        drop("the same in IPv6 (C5)", ports.c, &[], IPV6, &udp6("2606::9"), Why::ZoneForbidden),
        drop("what must not go in clear (B9)", ports.c, &[], IPV4, &udp4([20, 17, 0, 9]), Why::EncryptedOnly),
        drop("the same in IPv6 (B9)", ports.c, &[], IPV6, &udp6("2607::9"), Why::EncryptedOnly),
        drop("from a service to itself", ports.c, &[(DOT1Q, 6)], IPV4, &udp4([20, 18, 0, 9]), Why::Hairpin),
        drop("all links dead", ports.c, &[], IPV4, &udp4([20, 7, 0, 9]), Why::NoLiveLink),
        drop(
            "the next hop has no MAC address yet",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 5, 0, 9]),
            Why::NeighbourUnresolved,
        ),
        drop(
            "an on-link host has no MAC address yet",
            ports.a,
            &[],
            IPV4,
            &udp4([198, 18, 10, 77]),
            Why::NeighbourUnresolved,
        ),
        drop("TTL 1", ports.c, &[], IPV4, &ttl(1), Why::TtlExpired),
        drop("TTL 0", ports.c, &[], IPV4, &ttl(0), Why::TtlExpired),
        drop("hop limit 1", ports.c, &[], IPV6, &hops, Why::TtlExpired),
        drop("larger than the next hop's MTU", ports.c, &[], IPV4, &long, Why::TooBig),
        drop("Azure to Azure without hairpin (C2)", ports.a, &[], IPV4, &udp4(AZURE), Why::Hairpin),
        drop(
            "a route to a group that does not exist",
            ports.c,
            &[],
            IPV4,
            &udp4([20, 11, 0, 9]),
            Why::BrokenReference,
        ),
    ]);
}

fn malformed(ports: Ports, rows: &mut Vec<Row>) {
    use DropReason as Why;
    let drop = |name, kind, payload: &[u8], why| row(name, ports.c, &[], kind, payload, Expect::Drop(why));
    let changed = |at: usize, value: u8| {
        let mut packet = udp4(AZURE);
        packet[at] = value;
        packet
    };
    let longer6 = {
        let mut packet = udp6("2603:1::9");
        packet[5] += 1;
        packet
    };
    rows.extend([
        drop("a tag and nothing behind it", DOT1Q, &[0, 100], Why::Truncated),
        drop("half an IPv4 header", IPV4, &udp4(AZURE)[..10], Why::Truncated),
        drop("half an IPv6 header", IPV6, &udp6("2603:1::9")[..20], Why::Truncated),
        drop("half an ARP", ARP, &Build::arp(1, [1, 1, 1, 1], [2, 2, 2, 2])[..16], Why::Truncated),
        drop("IPv4 ethertype, version 6", IPV4, &changed(0, 0x65), Why::BadHeader),
        drop("IPv6 ethertype, version 4", IPV6, &[&udp4(AZURE)[..], &[0; 40]].concat(), Why::BadHeader),
        drop("header length of 16 bytes", IPV4, &changed(0, 0x44), Why::BadHeader),
        drop("total length below the header's", IPV4, &changed(3, 19), Why::BadLength),
        drop("total length beyond the frame", IPV4, &changed(3, 200), Why::BadLength),
        drop("payload length beyond the frame", IPV6, &longer6, Why::BadLength),
    ]);
}
