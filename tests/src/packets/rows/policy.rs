//! Rows of what policy has a say in: classes and buckets, sources towards Microsoft peering, services.

use erdp_common::reason::DropReason;

use super::super::{
    Ports,
    frames::{Build, IPV4, IPV6, Tagging},
};
use super::{AZURE, CUSTOMER, DOT1Q, Expect, Row, row, udp4, udp6, v6};

/// Rules F: codes towards Microsoft peering; A1 and A2: the bucket.
pub(super) fn classified_and_policed(ports: Ports, rows: &mut Vec<Row>) {
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
pub(super) fn public_sources(ports: Ports, rows: &mut Vec<Row>) {
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

/// Rule C2: what an MSEE may send from.
pub(super) fn foreign_sources(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Transmit};
    let udp = Build::udp(4000, 5001, b"hello");
    let from = |source: [u8; 4]| Build::ipv4(source, CUSTOMER, 17, &udp, |_| {});
    let from6 = |source: &str| Build::ipv6(v6(source), v6("fd00:18:64::7"), 17, 64, &udp);
    let (routed, not_ours): (Tagging<'_>, Tagging<'_>) = (&[(DOT1Q, 100)], &[(DOT1Q, 10), (DOT1Q, 200)]);
    let mut add = |name, tags, kind, packet: &[u8], is_taken| {
        let end = if is_taken { Transmit(4, vec![]) } else { Drop(DropReason::ForeignSource) };
        rows.push(row(name, ports.b, tags, kind, packet, end));
    };
    add("from private peering, a source that is announced there", routed, IPV4, &from(AZURE), true);
    add(
        "the MSEE's own address on the link, as in its ICMP errors",
        routed,
        IPV4,
        &from([198, 18, 2, 2]),
        true,
    );
    add("the same in IPv6", routed, IPV6, &from6("2603:1::9"), true);
    add(
        "from private peering, a source of the customer's (C2)",
        routed,
        IPV4,
        &from([198, 18, 64, 9]),
        false,
    );
    add("the same in IPv6 (C2)", routed, IPV6, &from6("fd00:18:64::9"), false);
    add(
        "from private peering, a source that has no route: another circuit's (C2)",
        routed,
        IPV4,
        &from([9, 9, 9, 9]),
        false,
    );
    add("the same without a route in IPv6 (C2)", routed, IPV6, &from6("2001:4860::8888"), false);
    add(
        "from private peering, a source that only a service may have (C2)",
        routed,
        IPV4,
        &from([20, 17, 0, 9]),
        false,
    );
    add("from Microsoft peering, a source that has no route", not_ours, IPV4, &from([9, 9, 9, 9]), true);
    add(
        "from Microsoft peering, a source of the customer's (C2)",
        not_ours,
        IPV4,
        &from([198, 18, 64, 9]),
        false,
    );
}

/// Rules B8 and C5: a service is on no side, so that packets may pass it from either to either.
pub(super) fn services(ports: Ports, rows: &mut Vec<Row>) {
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
