//! Rows of packets that are dropped, and why.

use erdp_common::reason::DropReason;

use super::super::{
    Ports,
    frames::{ARP, Build, IPV4, IPV6},
};
use super::{AZURE, CUSTOMER, DOT1AD, DOT1Q, Expect, Row, row, udp4, udp6, v6};

pub(super) fn dropped(ports: Ports, rows: &mut Vec<Row>) {
    use DropReason as Why;
    let drop = |name, ifindex, tags, kind, payload: &[u8], why| {
        row(name, ifindex, tags, kind, payload, Expect::Drop(why))
    };
    let ttl =
        |ttl| Build::ipv4(CUSTOMER, AZURE, 17, &Build::udp(1, 2, b""), |header| header.time_to_live = ttl);
    let from = |from| Build::ipv4(from, AZURE, 17, &Build::udp(1, 2, b""), |_| {});
    let long = Build::ipv4(CUSTOMER, [20, 9, 0, 9], 17, &Build::udp(1, 2, &[0; 1380]), |_| {});
    let hops = Build::ipv6(v6("fd00:18:64::7"), v6("2603:1::9"), 17, 1, &Build::udp(1, 2, b""));
    let igmp =
        Build::ipv4([198, 18, 1, 2], [224, 0, 0, 1], 2, &[0x11, 100, 0xee, 0x9b, 0, 0, 0, 0], |header| {
            header.time_to_live = 1;
        });
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
        drop(
            "source 169.254.0.0/16, link-local (RFC 3927 section 7)",
            ports.c,
            &[],
            IPV4,
            &from([169, 254, 7, 7]),
            Why::MartianSource,
        ),
        drop(
            "source 169.254.0.0/16 from Azure (RFC 3927 section 7)",
            ports.a,
            &[],
            IPV4,
            &Build::ipv4([169, 254, 7, 7], CUSTOMER, 17, &Build::udp(1, 2, b""), |_| {}),
            Why::MartianSource,
        ),
        drop(
            "source 169.254.0.0/16 to Microsoft peering (RFC 3927 section 7)",
            ports.c,
            &[],
            IPV4,
            &Build::ipv4([169, 254, 7, 7], [20, 15, 0, 9], 17, &Build::udp(1, 2, b""), |_| {}),
            Why::MartianSource,
        ),
        drop("source 0.1.2.3", ports.c, &[], IPV4, &from([0, 1, 2, 3]), Why::MartianSource),
        drop("source ::", ports.c, &[], IPV6, &from6("::"), Why::MartianSource),
        drop("source ff0e::1", ports.c, &[], IPV6, &from6("ff0e::1"), Why::MartianSource),
        drop(
            "source ::ffff:20.1.0.9, IPv4 mapped (RFC 4291 section 2.5.5.2)",
            ports.c,
            &[],
            IPV6,
            &from6("::ffff:20.1.0.9"),
            Why::MartianSource,
        ),
        drop(
            "source ::20.1.0.9, IPv4 compatible (RFC 4291 section 2.5.5.1)",
            ports.c,
            &[],
            IPV6,
            &from6("::20.1.0.9"),
            Why::MartianSource,
        ),
        drop("IPv4 mapped destination", ports.c, &[], IPV6, &udp6("::ffff:20.1.0.9"), Why::NotUnicast),
        drop("IPv4 compatible destination", ports.c, &[], IPV6, &udp6("::20.1.0.9"), Why::NotUnicast),
        drop("IPv6 unspecified destination", ports.c, &[], IPV6, &udp6("::"), Why::NotUnicast),
        drop("IGMP query: IPv4 needs none, as ARP is broadcast", ports.a, &[], IPV4, &igmp, Why::NotUnicast),
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

pub(super) fn malformed(ports: Ports, rows: &mut Vec<Row>) {
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
