//! Rows of packets that are forwarded: to where the longest match leads, whatever stands between Ethernet and layer 4.

use super::super::{
    Ports,
    frames::{Build, IPV4, IPV6, Tagging, fragment},
};
use super::{AZURE, CUSTOMER, DOT1AD, DOT1Q, Expect, Row, row, udp4, udp6, v6};

pub(super) fn forwarded(ports: Ports, rows: &mut Vec<Row>) {
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
pub(super) fn variable_offsets(ports: Ports, rows: &mut Vec<Row>) {
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
