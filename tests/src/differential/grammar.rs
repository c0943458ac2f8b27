//! The grammar of packets: Ethernet, 0-3 tags, IPv4 with options and fragments, IPv6 with chains of extension headers, ARP,
//! neighbour discovery, TCP, UDP, ICMP.
//!
//! Most choices are those that the edge of the packet tables knows (its addresses, routes, tags, peers), because a random address
//! has no route and would test nothing but that; the rest is arbitrary.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;
use fastrand::Rng;

use super::Sample;
use crate::packets::Ports;

const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;

fn pick<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(..values.len())]
}

/// True once in `of` times.
fn rarely(rng: &mut Rng, of: u8) -> bool {
    rng.u8(..of) == 0
}

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.u8(..)).collect()
}

/// A frame on one of the ports.
pub fn sample(rng: &mut Rng, ports: Ports) -> Sample {
    let (ifindex, id, tags) = entrance(rng, ports);
    let (ether_type, payload) = match rng.u8(..20) {
        0..=8 => (0x0800, ipv4(rng, id)),
        9..=16 => (0x86dd, ipv6(rng, id)),
        17..=18 => (0x0806, arp(rng, id)),
        _ => other(rng, id),
    };
    let mut frame = bytes(rng, 12);
    for (tpid, tci) in tags {
        frame.extend_from_slice(&tpid.to_be_bytes());
        frame.extend_from_slice(&tci.to_be_bytes());
    }
    frame.extend_from_slice(&u16::to_be_bytes(ether_type));
    frame.extend_from_slice(&payload);
    if rarely(rng, 5) {
        frame.extend(std::iter::repeat_n(0, rng.usize(1..47))); // padding
    } else if rarely(rng, 20) {
        frame.extend(std::iter::repeat_n(0, rng.usize(47..2_000))); // a trailer
    }
    Sample { ifindex, frame }
}

/// A port, the attachment that is meant, and the tags (with any priority bits).
fn entrance(rng: &mut Rng, ports: Ports) -> (u32, u8, Vec<(u16, u16)>) {
    let (ifindex, id, vids): (u32, u8, &[u16]) = match rng.u8(..20) {
        0..=4 => (ports.a, 1, &[]),
        5..=7 => (ports.b, 2, &[100]),
        8..=9 => (ports.b, 3, &[10, 200]),
        10..=15 => (ports.c, 4, &[]),
        16 => (ports.c, 6, &[6]),
        17 => (ports.c, 5, &[5]),
        18 => return control_port(rng, ports),
        _ => return anywhere(rng, ports),
    };
    let mut tags: Vec<_> =
        vids.iter().map(|vid| (pick(rng, &[DOT1Q, DOT1AD]), vid | (rng.u16(..16) << 12))).collect();
    while rarely(rng, 12) {
        let at = rng.usize(..=tags.len());
        tags.insert(at, (pick(rng, &[DOT1Q, DOT1AD]), rng.u16(..16) << 12)); // priority only
    }
    (ifindex, id, tags)
}

/// What the kernel sends on a tagged attachment, or the disabled one's tag on the wire.
fn control_port(rng: &mut Rng, ports: Ports) -> (u32, u8, Vec<(u16, u16)>) {
    match rng.u8(..8) {
        0..=2 => (ports.d, 2, vec![]),
        3..=5 => (ports.e, 3, vec![]),
        6 => (ports.f, 5, vec![]),
        _ => (ports.c, 5, vec![(pick(rng, &[DOT1Q, DOT1AD]), 5)]),
    }
}

fn anywhere(rng: &mut Rng, ports: Ports) -> (u32, u8, Vec<(u16, u16)>) {
    let ifindex = pick(rng, &[ports.a, ports.b, ports.c, ports.a, ports.b, ports.c, ports.d, ports.e]);
    let tags = (0..rng.usize(..4))
        .map(|_| {
            let vid = pick(rng, &[0, 1, 5, 6, 10, 100, 101, 200, 4095]);
            (pick(rng, &[DOT1Q, DOT1AD, 0x9100]), vid | (rng.u16(..16) << 12))
        })
        .collect();
    (ifindex, rng.u8(1..6), tags)
}

fn other(rng: &mut Rng, id: u8) -> (u16, Vec<u8>) {
    let payload = match rng.u8(..3) {
        0 => ipv4(rng, id),
        1 => ipv6(rng, id),
        _ => bytes(rng, 46),
    };
    (pick(rng, &[0x0800, 0x86dd, 0x0806, 0x88cc, 0x8847, 0x8864, 0x9100, 0x002e]), payload)
}

/// A destination (or, seldom, a source) the edge has an opinion about.
fn address4(rng: &mut Rng, id: u8) -> Ipv4Addr {
    let any = rng.u8(..);
    match rng.u8(..16) {
        0..=5 => [20, rng.u8(..22), any, rng.u8(..)],
        6 => [20, 1, 2, rng.u8(126..132)],
        7..=8 => [198, 18, 64 + any % 64, rng.u8(..)],
        9 => [198, 18, 10, pick(rng, &[2, 3, 77])],
        10..=12 => [198, 18, id, 1],
        13 => [198, 18, rng.u8(1..6), rng.u8(1..3)],
        14 => pick(
            rng,
            &[
                [0; 4],
                [255; 4],
                [127, 0, 0, 1],
                [224, 0, 0, 5],
                [239, 1, 2, 3],
                [240, 0, 0, 1],
                [169, 254, 1, 1],
            ],
        ),
        _ => rng.u32(..).to_be_bytes(),
    }
    .into()
}

fn source4(rng: &mut Rng, id: u8) -> Ipv4Addr {
    match rng.u8(..8) {
        0..=3 => [198, 18, id, 2].into(),
        4..=5 => pick(rng, &[[198, 18, 64, 7], [20, 1, 0, 9], [20, 2, 7, 7]]).into(),
        6 => pick(rng, &[[10, 1, 2, 3], [172, 16, 9, 9], [192, 168, 1, 1], [100, 64, 0, 1], [172, 32, 0, 1]])
            .into(),
        _ => address4(rng, id),
    }
}

fn ipv4(rng: &mut Rng, id: u8) -> Vec<u8> {
    let (source, destination) = (source4(rng, id), address4(rng, id));
    let protocol = pick(rng, &[1, 1, 6, 6, 6, 17, 17, 17, 33, 58, 132, 136, 2, 47, 0, 44]);
    let options = if rarely(rng, 5) { rng.usize(..11) } else { 0 };
    let segment = segment(rng, protocol);
    let fragment: u16 = match rng.u8(..10) {
        0 => 0x2000,
        1 => rng.u16(..0x2000),
        2 => rng.u16(..),
        3..=5 => 0x4000,
        _ => 0,
    };
    let header_len = 20 + 4 * options;
    let mut packet = vec![0x40 | (header_len / 4) as u8, rng.u8(..)];
    packet.extend_from_slice(&((header_len + segment.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&rng.u16(..).to_be_bytes());
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[hop_limit(rng), protocol, 0, 0]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend(bytes(rng, 4 * options));
    let checksum = if rarely(rng, 8) {
        rng.u16(..).to_be_bytes()
    } else {
        Sum16BitWords::new().add_slice(&packet).ones_complement().to_be_bytes()
    };
    packet[10..12].copy_from_slice(&checksum);
    packet.extend_from_slice(&segment);
    packet
}

fn hop_limit(rng: &mut Rng) -> u8 {
    match rng.u8(..10) {
        0 => pick(rng, &[0, 1, 2]),
        1 => rng.u8(..),
        2..=3 => 255,
        _ => 64,
    }
}

fn address6(rng: &mut Rng, id: u8) -> Ipv6Addr {
    let (any, id) = (rng.u16(..), u16::from(id));
    match rng.u8(..16) {
        0 => Ipv6Addr::new(pick(rng, &[0x2604, 0x2605, 0x2606, 0x2607, 0x2608]), 0, any, 0, 0, 0, 0, 9),
        1..=2 => Ipv6Addr::new(0x2603, rng.u16(..256), any, 0, 0, 0, 0, 9),
        3..=4 => Ipv6Addr::new(0x2603, 1, any, any, 0, 0, 0, 9),
        5..=6 => Ipv6Addr::new(0xfd00, 0x18, 0x64, any, 0, 0, 0, 7),
        7..=9 => Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, id),
        10 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, pick(rng, &[id, 0x77])),
        11..=12 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, pick(rng, &[id, id, 0x77])),
        13 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, pick(rng, &[1, 1, 2, 5])),
        14 => pick(
            rng,
            &[
                Ipv6Addr::UNSPECIFIED,
                Ipv6Addr::LOCALHOST,
                Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1),
                Ipv4Addr::new(20, 1, 0, 9).to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0x1401, 9),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x1401, 9),
            ],
        ),
        _ => rng.u128(..).to_be_bytes().into(),
    }
}

fn source6(rng: &mut Rng, id: u8) -> Ipv6Addr {
    match rng.u8(..8) {
        0..=1 => Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 0x100 + u16::from(id)),
        2 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99),
        3..=6 => Ipv6Addr::new(0xfd00, 0x18, 0x64, 0, 0, 0, 0, rng.u16(..)),
        _ => address6(rng, id),
    }
}

/// Multicast listener discovery, right in most of what makes it so.
fn listeners(rng: &mut Rng, id: u8) -> Vec<u8> {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, pick(rng, &[id, id, 0x77]).into());
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let destination = if rarely(rng, 8) { address6(rng, id) } else { pick(rng, &[all, all, group]) };
    let neighbour = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
    let source = if rarely(rng, 4) { source6(rng, id) } else { neighbour };
    let mut payload = vec![58, 0];
    payload
        .extend(pick(rng, &[[5, 2, 0, 0, 1, 0], [5, 2, 0, 0, 1, 0], [1, 0, 5, 2, 0, 0], [1, 4, 0, 0, 0, 0]]));
    payload.push(pick(rng, &[130, 130, 130, 131, 132, 143]));
    let len = pick(rng, &[3, 23, 27, 27]);
    payload.extend(bytes(rng, len));
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8];
    packet
        .extend_from_slice(&[pick(rng, &[0, 0, 0, 0, 60]), if rarely(rng, 6) { hop_limit(rng) } else { 1 }]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(&payload);
    packet
}

fn ipv6(rng: &mut Rng, id: u8) -> Vec<u8> {
    if rarely(rng, 10) {
        return listeners(rng, id);
    }
    let (source, destination) = (source6(rng, id), address6(rng, id));
    let protocol = pick(rng, &[58, 58, 58, 58, 6, 6, 17, 17, 1, 132, 59, 50]);
    let chain = extensions(rng);
    let segment = segment(rng, protocol);
    let first = chain.first().map_or(protocol, |(kind, _)| *kind);
    let mut payload = Vec::new();
    for (at, (_, body)) in chain.iter().enumerate() {
        payload.push(chain.get(at + 1).map_or(protocol, |(kind, _)| *kind));
        payload.extend_from_slice(body);
    }
    payload.extend_from_slice(&segment);
    let mut packet = vec![0x60 | rng.u8(..16), rng.u8(..), rng.u8(..), rng.u8(..)];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[first, hop_limit(rng)]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(&payload);
    packet
}

/// Extension headers: their number, and the bytes behind "next header". Their sum goes now and then beyond what is walked.
fn extensions(rng: &mut Rng) -> Vec<(u8, Vec<u8>)> {
    let count = if rng.bool() { 0 } else { rng.usize(1..7) };
    (0..count)
        .map(|_| {
            let kind = pick(rng, &[0, 43, 44, 51, 60, 60]);
            let len = if rarely(rng, 8) { rng.u8(..40) } else { rng.u8(..2) };
            let body_len = match kind {
                44 => 7,
                51 => (usize::from(len) + 2) * 4 - 1,
                _ => (usize::from(len) + 1) * 8 - 1,
            };
            let mut body = bytes(rng, body_len);
            body[0] = len;
            if kind == 44 && rng.bool() {
                body[1..3].copy_from_slice(&[0, rng.u8(..2)]); // first fragment, or a whole packet in one
            }
            (kind, body)
        })
        .collect()
}

fn segment(rng: &mut Rng, protocol: u8) -> Vec<u8> {
    let len = match rng.u8(..20) {
        0 => rng.usize(1300..1520),
        1 => rng.usize(..4),
        _ => rng.usize(8..64),
    };
    let mut segment = bytes(rng, len);
    let mut set = |at: usize, value: &[u8]| {
        if let Some(field) = segment.get_mut(at..at + value.len()) {
            field.copy_from_slice(value);
        }
    };
    match protocol {
        1 => set(0, &[pick(rng, &[0, 3, 5, 8, 8, 11])]),
        58 => set(0, &[pick(rng, &[1, 2, 128, 129, 133, 134, 135, 135, 136, 137])]),
        _ => {
            let port = pick(rng, &[179, 179, 22, 53, 3478, 443, 3784]);
            set(if rng.bool() { 0 } else { 2 }, &u16::to_be_bytes(port));
        }
    }
    segment
}

fn arp(rng: &mut Rng, id: u8) -> Vec<u8> {
    let sender = source4(rng, id).octets();
    let target = match rng.u8(..4) {
        0 => sender,
        1..=2 => [198, 18, id, 1],
        _ => address4(rng, id).octets(),
    };
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, rng.u8(1..3)];
    arp.extend(bytes(rng, 6));
    arp.extend_from_slice(&sender);
    arp.extend(bytes(rng, 6));
    arp.extend_from_slice(&target);
    arp
}
