//! Rows of packets that are odd but not malformed: what hosts, hostile or broken, really send.

use erdp_common::reason::DropReason;

use super::super::{
    Ports,
    frames::{Build, IPV4, IPV6, fragment},
};
use super::{AZURE, CUSTOMER, DOT1AD, DOT1Q, Expect, Row, row, udp4, udp6, v6};

/// ICMP errors that quote a flow of ours are traffic as any other; about them, and about what may not be answered, ERDP says nothing.
pub(super) fn icmp_errors(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Transmit};
    let error = |kind: u8, code: u8, ttl: u8| {
        // What it quotes is the other direction's packet.
        let message = [&[kind, code, 0, 0, 0, 0, 5, 0x78][..], &udp4(AZURE)].concat();
        Build::ipv4(AZURE, CUSTOMER, 1, &message, |header| header.time_to_live = ttl)
    };
    let error6 = |kind: u8, hop_limit: u8| {
        let message = [&[kind, 0, 0, 0, 0, 0, 5, 0x78][..], &udp6("2603:1::9")].concat();
        Build::ipv6(v6("2603:1::9"), v6("fd00:18:64::7"), 58, hop_limit, &message)
    };
    let later = |ttl: u8| {
        Build::ipv4(CUSTOMER, AZURE, 17, &[0; 64], |header| {
            fragment(header, false, 185);
            header.time_to_live = ttl;
        })
    };
    rows.extend([
        row("time exceeded about a flow of ours", ports.a, &[], IPV4, &error(11, 0, 60), Transmit(4, vec![])),
        row(
            "fragmentation needed about a flow of ours",
            ports.a,
            &[],
            IPV4,
            &error(3, 4, 60),
            Transmit(4, vec![]),
        ),
        row("packet too big about a flow of ours", ports.a, &[], IPV6, &error6(2, 60), Transmit(4, vec![])),
        row(
            "an ICMP error whose TTL runs out",
            ports.a,
            &[],
            IPV4,
            &error(11, 0, 1),
            Drop(DropReason::TtlExpired),
        ),
        row(
            "an ICMPv6 error whose hop limit runs out",
            ports.a,
            &[],
            IPV6,
            &error6(1, 1),
            Drop(DropReason::TtlExpired),
        ),
        row(
            "a later fragment whose TTL runs out",
            ports.c,
            &[],
            IPV4,
            &later(1),
            Drop(DropReason::TtlExpired),
        ),
    ]);
}

/// Addresses, lengths and tags at their limits.
pub(super) fn limits(ports: Ports, rows: &mut Vec<Row>) {
    use Expect::{Drop, Transmit};
    let from = |source: [u8; 4]| Build::ipv4(source, AZURE, 17, &Build::udp(1, 2, b""), |_| {});
    let sized =
        |bytes: usize| Build::ipv4(CUSTOMER, AZURE, 17, &Build::udp(1, 2, &vec![0; bytes - 28]), |_| {});
    let sized6 = |bytes: usize| {
        Build::ipv6(v6("fd00:18:64::7"), v6("2603:1::9"), 17, 64, &Build::udp(1, 2, &vec![0; bytes - 48]))
    };
    let padded = [&udp4(AZURE)[..], &[0; 13]].concat();
    let mut broadcast = row(
        "a unicast packet in a frame to all (RFC 1812 section 5.3.4)",
        ports.c,
        &[],
        IPV4,
        &udp4(AZURE),
        Drop(DropReason::NotUnicast),
    );
    broadcast.frame[..6].fill(0xff);
    rows.extend([
        broadcast,
        row("as large as the circuit's MTU", ports.c, &[], IPV4, &sized(1_500), Transmit(1, vec![])),
        row(
            "one byte more than the circuit's MTU",
            ports.c,
            &[],
            IPV4,
            &sized(1_501),
            Drop(DropReason::TooBig),
        ),
        row("jumbo", ports.c, &[], IPV4, &sized(3_200), Drop(DropReason::TooBig)),
        row("jumbo, IPv6", ports.c, &[], IPV6, &sized6(3_200), Drop(DropReason::TooBig)),
        row(
            "padding behind the packet, as Ethernet's shortest frame has it",
            ports.c,
            &[],
            IPV4,
            &padded,
            Transmit(1, vec![]),
        ),
        row("nothing behind the Ethernet header", ports.c, &[], IPV4, &[], Drop(DropReason::Truncated)),
        row(
            "nothing behind two tags",
            ports.b,
            &[(DOT1AD, 10), (DOT1Q, 200)],
            IPV4,
            &[],
            Drop(DropReason::Truncated),
        ),
        row(
            "three tags, all 0x8100",
            ports.b,
            &[(DOT1Q, 10), (DOT1Q, 200), (DOT1Q, 1)],
            IPV4,
            &udp4(AZURE),
            Drop(DropReason::TooManyTags),
        ),
        row(
            "tag 4095, which is reserved",
            ports.c,
            &[(DOT1Q, 4_095)],
            IPV4,
            &udp4(AZURE),
            Drop(DropReason::UnknownAttachment),
        ),
        row("source 240.0.0.0/4", ports.c, &[], IPV4, &from([240, 0, 0, 1]), Drop(DropReason::MartianSource)),
        row("source 255.255.255.255", ports.c, &[], IPV4, &from([255; 4]), Drop(DropReason::MartianSource)),
        row(
            "source and destination alike (a land attack) leaves for its destination",
            ports.c,
            &[],
            IPV4,
            &from(AZURE),
            Transmit(1, vec![]),
        ),
        row("to 127.0.0.1", ports.c, &[], IPV4, &udp4([127, 0, 0, 1]), Drop(DropReason::NotUnicast)),
        row("to 0.0.0.0", ports.c, &[], IPV4, &udp4([0; 4]), Drop(DropReason::NotUnicast)),
        row("to 169.254.0.0/16", ports.c, &[], IPV4, &udp4([169, 254, 9, 9]), Drop(DropReason::NotUnicast)),
        row("to ::1", ports.c, &[], IPV6, &udp6("::1"), Drop(DropReason::NotUnicast)),
    ]);
}
