//! Answers against a plain model: headers byte by byte, and the checksum of RFC 1071 over the whole message.

use std::vec::Vec;

use proptest::prelude::*;

use super::{answer, is_answered};
use crate::{
    abi::{ATTACHMENT_ENABLED, Attachment, Errand, NextHop, Port},
    budget,
    memory::{Frame, MemoryTables},
    reason::DropReason,
};

const OURS: [u8; 4] = [198, 18, 0, 1];
const OURS6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const THEIR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn tables() -> MemoryTables {
    let mut tables = MemoryTables::new(0);
    tables.ports.insert(5, Port { attachment: 1, ..Port::default() });
    let attachment =
        Attachment { local4: OURS, local6: OURS6, flags: ATTACHMENT_ENABLED, ..Attachment::default() };
    tables.attachments[1] = attachment;
    tables.next_hops[3] = NextHop { mtu: 1400, ..NextHop::default() };
    tables
}

fn frame(ether_type: u16, packet: &[u8]) -> Vec<u8> {
    [&OUR_MAC[..], &THEIR_MAC, &ether_type.to_be_bytes(), packet].concat()
}

/// An IPv4 packet of this protocol with these bytes behind its header.
fn ipv4(protocol: u8, fragment: u16, rest: &[u8]) -> Vec<u8> {
    let total = (20 + rest.len()) as u16;
    let mut packet = std::vec![0x45, 0, 0, 0, 0, 7, 0, 0, 1, protocol, 0, 0, 198, 18, 9, 9, 20, 1, 0, 9];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = std::vec![0x60, 0, 0, 0, 0, 0, next, 1];
    packet[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[0xfd; 16]);
    packet.extend_from_slice(&[0x26; 16]);
    packet.extend_from_slice(rest);
    packet
}

/// The answer to a frame that was dropped for this reason.
fn answered(frame: &[u8], reason: DropReason) -> Option<Vec<u8>> {
    let mut frame = Frame::new(frame);
    let errand = Errand { reason: reason as u32, next_hop: 3, ..Errand::default() };
    answer(&mut frame, 5, errand, &tables()).map(|_| frame.bytes().to_vec())
}

/// RFC 1071 over these bytes: 0 when a checksum among them is right.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn types_codes_and_mtu_are_those_of_the_rfcs() {
    let rows = [
        (DropReason::TtlExpired, [11, 0], [0; 4], [3, 0], [0; 4]),
        (DropReason::TooBig, [3, 4], [0, 0, 5, 120], [2, 0], [0, 0, 5, 120]),
        (DropReason::NoRoute, [3, 0], [0; 4], [1, 0], [0; 4]),
        (DropReason::DiscardRoute, [3, 0], [0; 4], [1, 6], [0; 4]),
        (DropReason::NoLiveLink, [3, 0], [0; 4], [1, 0], [0; 4]),
        (DropReason::ZoneForbidden, [3, 13], [0; 4], [1, 1], [0; 4]),
        (DropReason::EncryptedOnly, [3, 13], [0; 4], [1, 1], [0; 4]),
        (DropReason::UnnattedSource, [3, 13], [0; 4], [1, 1], [0; 4]),
    ];
    for (reason, kind4, rest4, kind6, rest6) in rows {
        assert!(is_answered(reason as u32));
        let four = answered(&frame(0x0800, &ipv4(17, 0, &[1; 30])), reason).expect("an answer");
        assert_eq!((&four[34..36], &four[38..42]), (&kind4[..], &rest4[..]), "{}", reason.label());
        let six = answered(&frame(0x86dd, &ipv6(17, &[1; 30])), reason).expect("an answer");
        assert_eq!((&six[54..56], &six[58..62]), (&kind6[..], &rest6[..]), "{}", reason.label());
    }
    for reason in DropReason::ALL {
        let listed = rows.iter().any(|(answered, ..)| answered == reason);
        assert_eq!(is_answered(*reason as u32), listed, "{}", reason.label());
    }
}

#[test]
fn what_must_not_be_answered_is_not() {
    let rows: &[(&str, Vec<u8>)] = &[
        ("an ICMP error", frame(0x0800, &ipv4(1, 0, &[3, 1, 0, 0, 0, 0, 0, 0]))),
        ("a time exceeded", frame(0x0800, &ipv4(1, 0, &[11, 0, 0, 0]))),
        ("a redirect", frame(0x0800, &ipv4(1, 0, &[5, 0, 0, 0]))),
        ("a later fragment", frame(0x0800, &ipv4(17, 100, &[0; 16]))),
        ("no layer 4 to be seen", frame(0x0800, &ipv4(17, 0, &[1, 2]))),
        ("an ICMPv6 error", frame(0x86dd, &ipv6(58, &[1, 0, 0, 0]))),
        ("an ICMPv6 error nobody knows", frame(0x86dd, &ipv6(58, &[127, 0, 0, 0]))),
        ("an ICMPv6 redirect", frame(0x86dd, &ipv6(58, &[137, 0, 0, 0]))),
        ("not IP", frame(0x0806, &[0; 28])),
    ];
    for (name, frame) in rows {
        assert_eq!(answered(frame, DropReason::TtlExpired), None, "{name}");
    }
    let mut to_group = frame(0x0800, &ipv4(17, 0, &[1; 30]));
    to_group[0] |= 1;
    assert_eq!(answered(&to_group, DropReason::TtlExpired), None, "a frame to a group address");
    let echo = frame(0x0800, &ipv4(1, 0, &[8, 0, 0, 0, 0, 0, 0, 0]));
    assert!(answered(&echo, DropReason::TtlExpired).is_some(), "traceroute by echo requests lives from it");
}

#[test]
fn an_attachment_without_an_address_or_budget_does_not_answer() {
    let mut tables = tables();
    let packet = frame(0x0800, &ipv4(17, 0, &[1; 30]));
    let errand = Errand { reason: DropReason::TtlExpired as u32, ..Errand::default() };
    tables.budgets[budget::slot(budget::ANSWER, 1) as usize] = crate::abi::Budget::new(1, 2);
    let answers = (0..10).filter(|_| answer(&mut Frame::new(&packet), 5, errand, &tables).is_some());
    assert_eq!(answers.count(), 2);
    tables.budgets[budget::slot(budget::ANSWER, 1) as usize] = crate::abi::Budget::default();
    tables.attachments[1].local4 = [0; 4];
    assert_eq!(answer(&mut Frame::new(&packet), 5, errand, &tables), None);
}

proptest! {
    /// Any length, odd ones and those beyond what may be quoted; padding of the frame is not quoted.
    #[test]
    fn an_answer_is_a_whole_packet_with_right_checksums(
        rest in proptest::collection::vec(any::<u8>(), 4..1_460),
        padding in 0usize..20,
    ) {
        let four = ipv4(17, 0, &rest);
        let got = answered(&[frame(0x0800, &four), std::vec![0; padding]].concat(), DropReason::TtlExpired).expect("an answer");
        prop_assert_eq!(&got[..14], &[&THEIR_MAC[..], &OUR_MAC, &[8, 0]].concat()[..]);
        let quoted = four.len().min(576 - 28);
        prop_assert_eq!(got.len(), 14 + 28 + quoted);
        prop_assert_eq!(&got[16..18], &((28 + quoted) as u16).to_be_bytes());
        prop_assert_eq!(&got[26..34], &[&OURS[..], &[198, 18, 9, 9]].concat()[..]);
        prop_assert_eq!((checksum(&got[14..34]), checksum(&got[34..])), (0, 0));
        prop_assert_eq!(&got[42..], &four[..quoted]);

        let six = ipv6(17, &rest);
        let got = answered(&[frame(0x86dd, &six), std::vec![0; padding]].concat(), DropReason::TooBig).expect("an answer");
        let quoted = six.len().min(1280 - 48);
        prop_assert_eq!(got.len(), 14 + 48 + quoted);
        prop_assert_eq!(&got[18..20], &((8 + quoted) as u16).to_be_bytes());
        prop_assert_eq!(&got[22..54], &[&OURS6[..], &[0xfd; 16]].concat()[..]);
        let pseudo = [&got[22..54], &((8 + quoted) as u32).to_be_bytes(), &58u32.to_be_bytes(), &got[54..]].concat();
        prop_assert_eq!(checksum(&pseudo), 0);
        prop_assert_eq!(&got[62..], &six[..quoted]);
    }
}
