//! The rows about BFD (RFC 5880, RFC 5881): what reaches the kernel, what is discarded and why, and next hops that it judges.

use erdp_common::{
    bfd::{
        PORT,
        wire::{ControlPacket, State},
    },
    reason::{DropReason, PuntKind},
};

use super::{
    super::{
        Ports,
        edge::discriminator,
        frames::{Build, IPV4, IPV6, fragment},
    },
    DOT1Q, Expect, Row, row, udp4, v6,
};

/// A packet of the peer of one of the edge's sessions.
pub fn control(session: u16) -> ControlPacket {
    ControlPacket {
        diagnostic: 0,
        state: State::Up,
        poll: false,
        is_final: false,
        is_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 77,
        your_discriminator: discriminator(session),
        desired_min_tx_us: 300_000,
        required_min_rx_us: 300_000,
        required_min_echo_rx_us: 0,
    }
}

/// The UDP datagram around it, from a low port, as BIRD has it.
fn datagram(payload: &[u8]) -> Vec<u8> {
    Build::udp(40_000, PORT, payload)
}

fn ipv4(from: [u8; 4], payload: &[u8], hop_limit: u8) -> Vec<u8> {
    let ours = [from[0], from[1], from[2], 1];
    Build::ipv4(from, ours, 17, &datagram(payload), |header| header.time_to_live = hop_limit)
}

pub(super) fn rows(ports: Ports, rows: &mut Vec<Row>) {
    received(ports, rows);
    discarded(ports, rows);
    judged(ports, rows);
}

fn received(ports: Ports, rows: &mut Vec<Row>) {
    let peer = [198, 18, 1, 2];
    let bytes = |packet: ControlPacket| packet.words().concat();
    let down = ControlPacket { state: State::Down, your_discriminator: 0, ..control(1) };
    let from6 = Build::ipv6(v6("fd00:18::101"), v6("fd00:18::1"), 17, 255, &datagram(&bytes(control(5))));
    let tagged = ipv4([198, 18, 2, 2], &bytes(control(2)), 255);
    let double = ipv4([198, 18, 3, 2], &bytes(control(3)), 255);
    let punt = Expect::Punt(PuntKind::Bfd);
    let (known, unknown) = (ipv4(peer, &bytes(control(1)), 255), ipv4(peer, &bytes(down), 255));
    let via = |tags| Expect::PuntVia(PuntKind::Bfd, tags);
    let both: &[(u16, u16)] = &[(DOT1Q, 10), (DOT1Q, 200)];
    rows.extend([
        row("BFD of a configured peer", ports.a, &[], IPV4, &known, punt.clone()),
        row("BFD of a peer that knows us not yet", ports.a, &[], IPV4, &unknown, punt.clone()),
        row("BFD of a configured peer, IPv6", ports.a, &[], IPV6, &from6, punt),
        row("BFD on a tagged attachment", ports.b, &[(DOT1Q, 100)], IPV4, &tagged, via(1)),
        row("BFD behind two tags", ports.b, both, IPV4, &double, via(2)),
    ]);
}

fn discarded(ports: Ports, rows: &mut Vec<Row>) {
    use DropReason::{BfdHopLimit, BfdMalformed, BfdSession, LocalNotAllowed};
    let peer = [198, 18, 1, 2];
    let bytes = control(1).words().concat();
    let with = |at: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[at] = value;
        ipv4(peer, &changed, 255)
    };
    let unnamed = |packet: ControlPacket| ipv4(peer, &packet.words().concat(), 255);
    let stranger = ControlPacket { your_discriminator: discriminator(2), ..control(1) };
    let nobody = ControlPacket { my_discriminator: 0, ..control(1) };
    let for_none = ControlPacket { your_discriminator: 0, ..control(1) };
    let options = Build::ipv4(peer, [198, 18, 1, 1], 17, &datagram(&bytes), |header| {
        header.time_to_live = 255;
        header.options = [1, 1, 1, 1].into();
        header.total_len += 4;
    });
    let pieces = Build::ipv4(peer, [198, 18, 1, 1], 17, &datagram(&bytes), |header| {
        header.time_to_live = 255;
        fragment(header, true, 0);
    });
    let echo = Build::ipv4(peer, [198, 18, 1, 1], 17, &Build::udp(49_152, PORT + 1, &bytes), |header| {
        header.time_to_live = 255;
    });
    for (name, packet, reason) in [
        ("BFD that was routed here", ipv4(peer, &bytes, 254), BfdHopLimit),
        ("BFD of another version", with(0, 0x40), BfdMalformed),
        ("BFD with a length below its header's", with(3, 23), BfdMalformed),
        ("BFD with a length beyond its datagram", with(3, 48), BfdMalformed),
        ("BFD with multiplier zero", with(2, 0), BfdMalformed),
        ("BFD with the multipoint bit", with(1, 0xc1), BfdMalformed),
        ("BFD with authentication", with(1, 0xc4), BfdMalformed),
        ("BFD without a discriminator", unnamed(nobody), BfdMalformed),
        ("BFD in state Up for nobody", unnamed(for_none), BfdMalformed),
        ("BFD with IP options", options, BfdMalformed),
        ("BFD for another session", unnamed(stranger), BfdSession),
        ("BFD in fragments", pieces, LocalNotAllowed),
        ("BFD echo", echo, LocalNotAllowed),
        ("BFD of somebody else", ipv4([198, 18, 1, 3], &bytes, 255), LocalNotAllowed),
    ] {
        rows.push(row(name, ports.a, &[], IPV4, &packet, Expect::Drop(reason)));
    }
    let words = control(5).words().concat();
    let far6 = Build::ipv6(v6("fd00:18::101"), v6("fd00:18::1"), 17, 64, &datagram(&words));
    let refused = Expect::Drop(BfdHopLimit);
    rows.push(row("BFD that was routed here, IPv6", ports.a, &[], IPV6, &far6, refused));
    let of_bgp_only = ipv4([198, 18, 4, 2], &bytes, 255);
    let closed = Expect::Drop(LocalNotAllowed);
    rows.push(row("BFD of a peer without a session", ports.c, &[], IPV4, &of_bgp_only, closed));
}

fn judged(ports: Ports, rows: &mut Vec<Row>) {
    for (name, to, expect) in [
        ("the next hop's BFD is down", [20, 19, 0, 9], Expect::Drop(DropReason::NoLiveLink)),
        ("one next hop's BFD is down, the other's up", [20, 20, 0, 9], Expect::Transmit(14, vec![])),
        ("the next hop's BFD was never up", [20, 21, 0, 9], Expect::Transmit(15, vec![])),
    ] {
        rows.push(row(name, ports.c, &[], IPV4, &udp4(to), expect));
    }
}
