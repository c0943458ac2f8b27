//! Rows of what is about a packet on the wire: bytes behind it, tags that name no VLAN, and the protocol by which switches learn where a
//! group is wanted.

use erdp_common::reason::{DropReason, PuntKind};

use super::super::{
    Ports,
    frames::{ARP, Build, IPV4, IPV6, Tagging},
};
use super::{AZURE, CUSTOMER, DOT1AD, DOT1Q, Expect, Row, bfd, row, udp4, udp6, v6};

const ONE: Tagging<'_> = &[(DOT1Q, 100)];
const TWO: Tagging<'_> = &[(DOT1AD, 10), (DOT1Q, 200)];

/// A packet of `len` bytes in a frame of `octets`, of which `kept` are left.
fn longer(row: Row, octets: usize, kept: usize) -> Row {
    let mut frame = row.frame;
    // Not zero: what is behind a packet is anything.
    frame.resize(octets, 0x5a);
    Row { taken: frame[..kept].to_vec(), frame, ..row }
}

/// Only what was judged and paid for leaves (A1): bytes behind the packet are cut off, but for the padding of Ethernet's shortest frame.
pub(super) fn trailers(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Punt, PuntVia, Transmit};
    let small = Build::ipv4(CUSTOMER, AZURE, 17, &Build::udp(1, 2, b"ZBUG"), |_| {});
    let back = Build::ipv4(AZURE, CUSTOMER, 17, &Build::udp(1, 2, &[7; 40]), |_| {});
    let back6 = Build::ipv6(v6("2603:1::9"), v6("fd00:18:64::7"), 17, 64, &Build::udp(1, 2, b"hello"));
    let tiny = Build::ipv4(AZURE, CUSTOMER, 17, &Build::udp(1, 2, b""), |_| {});
    let echo = |from: [u8; 4], to: [u8; 4]| Build::ipv4(from, to, 1, &[8, 0, 0, 0, 0, 1, 0, 1], |_| {});
    let expired = Build::ipv4(CUSTOMER, AZURE, 17, &Build::udp(1, 2, b""), |header| header.time_to_live = 1);
    let big = Build::ipv4(CUSTOMER, AZURE, 17, &Build::udp(1, 2, &[0; 1_473]), |_| {});
    let to_azure = |name, packet: &[u8]| row(name, ports.c, &[], IPV4, packet, Transmit(1, vec![]));
    let to_customer =
        |name, tags, kind, packet: &[u8]| row(name, ports.b, tags, kind, packet, Transmit(4, vec![]));
    rows.extend([
        longer(to_azure("32 bytes in 1,514 octets: the shortest frame is left", &small), 1_514, 60),
        longer(to_azure("32 bytes in 61 octets", &small), 61, 60),
        longer(to_azure("32 bytes in the shortest frame, of 60 octets", &small), 60, 60),
        longer(
            to_azure("2,900 octets around a small packet are no matter of the MTU", &udp4(AZURE)),
            2_900,
            60,
        ),
        longer(
            row("the same, one tag pushed", ports.c, &[], IPV4, &udp4([20, 2, 0, 9]), Transmit(2, vec![100])),
            2_900,
            60,
        ),
        longer(
            row("IPv6, bytes behind the packet", ports.c, &[], IPV6, &udp6("2603:1::9"), Transmit(1, vec![])),
            1_514,
            14 + 53,
        ),
        longer(to_customer("bytes behind the packet, one tag", ONE, IPV4, &back), 1_518, 18 + 68),
        longer(to_customer("bytes behind the packet, two tags", TWO, IPV4, &back), 1_522, 22 + 68),
        longer(to_customer("IPv6, bytes behind the packet, one tag", ONE, IPV6, &back6), 1_518, 18 + 53),
        longer(to_customer("IPv6, bytes behind the packet, two tags", TWO, IPV6, &back6), 1_522, 22 + 53),
        longer(to_customer("the shortest frame with a tag, of 64 octets", ONE, IPV4, &tiny), 64, 64),
        longer(
            row(
                "an echo request with bytes behind it",
                ports.a,
                &[],
                IPV4,
                &echo(AZURE, [198, 18, 1, 1]),
                Punt(PuntKind::Echo),
            ),
            1_514,
            60,
        ),
        longer(
            row(
                "the same behind a tag",
                ports.b,
                ONE,
                IPV4,
                &echo([198, 18, 2, 2], [198, 18, 2, 1]),
                PuntVia(PuntKind::Echo, 1),
            ),
            1_514,
            64,
        ),
        longer(
            row(
                "bytes behind a packet whose TTL runs out",
                ports.c,
                &[],
                IPV4,
                &expired,
                Drop(DropReason::TtlExpired),
            ),
            1_514,
            60,
        ),
        longer(
            row("bytes behind a packet that is too big", ports.c, &[], IPV4, &big, Drop(DropReason::TooBig)),
            1_600,
            14 + 1_501,
        ),
    ]);
}

/// What comes with tags of which `null` are taken out.
fn prioritised(row: Row, null: &[usize]) -> Row {
    let mut taken = row.frame.clone();
    for at in null.iter().rev() {
        taken.drain(12 + 4 * at..16 + 4 * at);
    }
    Row { ip_at: row.ip_at - 4 * null.len(), taken, ..row }
}

/// IEEE 802.1Q table 9-2: a tag with the null VID carries a priority, and the frame is as if it had not got it.
pub(super) fn priority_tags(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Punt, PuntVia, Transmit};
    use PuntKind::{Arp, Bfd, Bgp, Echo, NeighbourDiscovery};
    // Priority 5 of eight.
    const NULL: u16 = 5 << 13;
    let back = Build::ipv4(AZURE, CUSTOMER, 17, &Build::udp(5001, 5000, b"hello"), |_| {});
    let back6 = Build::ipv6(v6("2603:1::9"), v6("fd00:18:64::7"), 17, 64, &Build::udp(1, 2, b"hello"));
    let (ours, peer) = ([198, 18, 1, 1], [198, 18, 1, 2]);
    let solicitation =
        Build::ipv6(v6("fe80::99"), v6("ff02::1:ff00:1"), 58, 255, &[&[135, 0, 0, 0][..], &[0; 20]].concat());
    let bgp = Build::ipv4(peer, ours, 6, &Build::tcp(40_000, 179), |_| {});
    let echo = Build::ipv4(AZURE, ours, 1, &[8, 0, 0, 0, 0, 1, 0, 1], |_| {});
    let bfd = Build::ipv4(
        peer,
        ours,
        17,
        &Build::udp(40_000, erdp_common::bfd::PORT, &bfd::control(1).words().concat()),
        |header| header.time_to_live = 255,
    );
    let expired = Build::ipv4(CUSTOMER, AZURE, 17, &Build::udp(1, 2, b""), |header| header.time_to_live = 1);
    let null: Tagging<'_> = &[(DOT1Q, NULL)];
    let mut add = |name, ifindex, tags, null: &[usize], kind, packet: &[u8], expect| {
        rows.push(prioritised(row(name, ifindex, tags, kind, packet, expect), null));
    };
    add("IPv4 behind a priority tag", ports.c, null, &[0], IPV4, &udp4(AZURE), Transmit(1, vec![]));
    add("the same with 0x88a8", ports.c, &[(DOT1AD, NULL)], &[0], IPV4, &udp4(AZURE), Transmit(1, vec![]));
    add("IPv6 behind a priority tag", ports.c, null, &[0], IPV6, &udp6("2603:1::9"), Transmit(1, vec![]));
    add(
        "two priority tags",
        ports.c,
        &[(DOT1AD, NULL), (DOT1Q, 0)],
        &[0, 1],
        IPV4,
        &udp4([20, 3, 0, 9]),
        Transmit(3, vec![10, 200]),
    );
    let outer: Tagging<'_> = &[(DOT1AD, NULL), (DOT1Q, 100)];
    let inner: Tagging<'_> = &[(DOT1Q, 100), (DOT1Q, NULL)];
    add("a priority tag in front of tag 100", ports.b, outer, &[0], IPV4, &back, Transmit(4, vec![]));
    add("a priority tag behind tag 100", ports.b, inner, &[1], IPV4, &back, Transmit(4, vec![]));
    add("the same in IPv6", ports.b, inner, &[1], IPV6, &back6, Transmit(4, vec![]));
    add("ARP for us behind a priority tag", ports.a, null, &[0], ARP, &Build::arp(1, peer, ours), Punt(Arp));
    let ask = Build::arp(1, [198, 18, 2, 2], [198, 18, 2, 1]);
    add("ARP for us, a priority tag in front of tag 100", ports.b, outer, &[0], ARP, &ask, PuntVia(Arp, 1));
    add("ARP for us, a priority tag behind tag 100", ports.b, inner, &[1], ARP, &ask, PuntVia(Arp, 1));
    add(
        "neighbour solicitation behind a priority tag",
        ports.a,
        null,
        &[0],
        IPV6,
        &solicitation,
        Punt(NeighbourDiscovery),
    );
    add("BGP behind a priority tag", ports.a, null, &[0], IPV4, &bgp, Punt(Bgp));
    add("BFD behind a priority tag", ports.a, null, &[0], IPV4, &bfd, Punt(Bfd));
    add("echo behind a priority tag", ports.a, null, &[0], IPV4, &echo, Punt(Echo));
    add(
        "a TTL that runs out behind a priority tag",
        ports.c,
        null,
        &[0],
        IPV4,
        &expired,
        Drop(DropReason::TtlExpired),
    );
    add(
        "a priority tag where a VLAN is configured and nothing untagged",
        ports.b,
        null,
        &[0],
        IPV4,
        &back,
        Drop(DropReason::UnknownAttachment),
    );
    add(
        "a priority tag and two others",
        ports.b,
        &[(DOT1Q, NULL), (DOT1Q, 10), (DOT1Q, 200)],
        &[],
        IPV4,
        &back,
        Drop(DropReason::TooManyTags),
    );
}

/// RFC 4861 section 7.2.1, RFC 2710, RFC 3810, RFC 4890 section 4.4.1: a switch that hears no report about our solicited-node groups sends
/// us no solicitations.
pub(super) fn listeners(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, FromKernel, Punt, PuntVia};
    use PuntKind::NeighbourDiscovery as Nd;
    const ALERT: [u8; 6] = [5, 2, 0, 0, 1, 0];
    const NEIGHBOUR: &str = "fe80::99";
    let message = |from: &str, to: &str, hop_limit: u8, options: [u8; 6], kind: u8, len: usize| {
        let message = [&[58, 0][..], &options, &[kind, 0, 0, 0, 0x27, 0x10], &vec![0; len - 6]].concat();
        Build::ipv6(v6(from), v6(to), 0, hop_limit, &message)
    };
    // A query is as long in version 1 as it is, and four bytes longer in version 2.
    let query = |to: &str, len: usize| message(NEIGHBOUR, to, 1, ALERT, 130, len);
    let (all, group) = ("ff02::1", "ff02::1:ff00:1");
    let report = |from: &str, to: &str, kind: u8| message(from, to, 1, ALERT, kind, 28);
    let not_ours = || Drop(DropReason::NdNotForUs);
    let mut add = |name, ifindex, tags, packet: &[u8], expect| {
        rows.push(row(name, ifindex, tags, IPV6, packet, expect));
    };
    add("query to all nodes, version 2 (RFC 3810)", ports.a, &[], &query(all, 28), Punt(Nd));
    add("query to all nodes, version 1 (RFC 2710)", ports.a, &[], &query(all, 24), Punt(Nd));
    add("query about our solicited-node group", ports.a, &[], &query(group, 28), Punt(Nd));
    add("query to our link-local address", ports.a, &[], &query("fe80::1", 28), Punt(Nd));
    add("query on the customer's side", ports.c, &[], &query(all, 28), Punt(Nd));
    add(
        "query whose padding is in front of its option",
        ports.a,
        &[],
        &message(NEIGHBOUR, all, 1, [1, 0, 5, 2, 0, 0], 130, 28),
        Punt(Nd),
    );
    add("query behind one tag", ports.b, ONE, &query(all, 28), PuntVia(Nd, 1));
    add("query behind two tags", ports.b, TWO, &query(all, 24), PuntVia(Nd, 2));
    let kernels = "fe80::2";
    add(
        "the kernel's report, version 2, gets one tag",
        ports.d,
        &[],
        &report(kernels, "ff02::16", 143),
        FromKernel(vec![100]),
    );
    add(
        "the kernel's report, version 1, gets two tags",
        ports.e,
        &[],
        &report(kernels, "ff02::1:ff00:3", 131),
        FromKernel(vec![10, 200]),
    );
    add(
        "the kernel's \"done\" gets one tag",
        ports.d,
        &[],
        &report(kernels, "ff02::2", 132),
        FromKernel(vec![100]),
    );
    add("query about somebody else's group", ports.a, &[], &query("ff02::1:ff00:77", 28), not_ours());
    add(
        "query that was forwarded: its hop limit is 64",
        ports.a,
        &[],
        &message(NEIGHBOUR, all, 64, ALERT, 130, 28),
        not_ours(),
    );
    add(
        "query that claims neighbour discovery's hop limit of 255",
        ports.a,
        &[],
        &message(NEIGHBOUR, all, 255, ALERT, 130, 28),
        not_ours(),
    );
    add(
        "query from a global address",
        ports.a,
        &[],
        &message("2603:1::9", all, 1, ALERT, 130, 28),
        not_ours(),
    );
    add("query from ::", ports.a, &[], &message("::", all, 1, ALERT, 130, 28), not_ours());
    add(
        "query with another router alert",
        ports.a,
        &[],
        &message(NEIGHBOUR, all, 1, [5, 2, 0, 1, 1, 0], 130, 28),
        not_ours(),
    );
    let plain = Build::ipv6(v6(NEIGHBOUR), v6(all), 58, 1, &[&[130, 0, 0, 0][..], &[0; 24]].concat());
    add("query without router alert", ports.a, &[], &plain, not_ours());
    add(
        "report of a neighbour, version 2: for routers and switches",
        ports.a,
        &[],
        &report(NEIGHBOUR, "ff02::16", 143),
        not_ours(),
    );
    add(
        "report of a neighbour, version 1, that would silence ours",
        ports.a,
        &[],
        &report(NEIGHBOUR, group, 131),
        not_ours(),
    );
    add("report from ::", ports.a, &[], &report("::", "ff02::16", 143), not_ours());
    add("\"done\" of a neighbour", ports.a, &[], &report(NEIGHBOUR, "ff02::2", 132), not_ours());
}
