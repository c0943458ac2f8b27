//! Flags of path attributes: which bits of the octet are kept, and which mean nothing (RFC 4271 sections 4.3 and 5).

use super::*;
use crate::bgp::Partial;

/// Attributes that are passed on, of which ERDP reads all but the last two: name, code and value.
const PASSED_ON: [(&str, u8, &[u8]); 7] = [
    ("AGGREGATOR", 7, &[0, 0, 0xfd, 0xe9, 198, 18, 0, 9]),
    ("COMMUNITIES", 8, &[0xfd, 0xfc, 0, 7]),
    ("EXTENDED_COMMUNITIES", 16, &[0, 2, 0xfd, 0xfc, 0, 0, 0, 7]),
    ("IPV6_EXTENDED_COMMUNITIES", 25, &[0, 2, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 7]),
    ("LARGE_COMMUNITIES", 32, &[0, 0, 0xfd, 0xfc, 0, 0, 0, 1, 0, 0, 0, 2]),
    ("ONLY_TO_CUSTOMER", 35, &[0, 0, 0xfd, 0xfc]),
    ("unknown", 99, &[0xaa]),
];

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let length: &[u8] = if flags & 0x10 != 0 { &[0, value.len() as u8] } else { &[value.len() as u8] };
    [&[flags, code], length, value].concat()
}

/// The flags and code of each attribute of an UPDATE.
fn flags_of(message: &[u8]) -> Vec<(u8, u8)> {
    let end = 23 + usize::from(u16::from_be_bytes([message[21], message[22]]));
    let (mut at, mut found) = (23, Vec::new());
    while at < end {
        found.push((message[at + 1], message[at]));
        let length = usize::from(message[at + 2]);
        at += if message[at] & 0x10 != 0 {
            4 + usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]))
        } else {
            3 + length
        };
    }
    found
}

/// What an attribute's flags are when its routes, of one family, are passed on to a peer.
fn passed_on(attribute: &[u8], is_ipv6: bool, to: &Context) -> Vec<(u8, u8)> {
    let hop: [u8; 16] = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mp = [&[0x80, 14, 26, 0, 2, 1, 16][..], &hop, &[0, 32, 0x2a, 1, 1, 0x11]].concat();
    let message = if is_ipv6 {
        update_message(&[], &[&mp, ORIGIN, AS_PATH, attribute].concat(), &[])
    } else {
        update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP, attribute].concat(), NLRI)
    };
    let mut decoded = decode_all(&[message], &context()).remove(0);
    assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
    let update = decoded.updates.remove(0);
    flags_of(&encode_update(&update, to).unwrap()[0])
}

#[test]
fn rfc4271_5_the_partial_bit_is_kept_and_unknown_attributes_get_it() {
    for is_ipv6 in [false, true] {
        for (name, code, value) in PASSED_ON {
            for extended in [0, 0x10] {
                for partial in [0, 0x20] {
                    let received = attribute(0xc0 | partial | extended, code, value);
                    let sent = passed_on(&received, is_ipv6, &context());
                    let expected = if matches!(code, 25 | 99) { 0xe0 } else { 0xc0 | partial };
                    let found = sent.iter().find(|(of, _)| *of == code).map(|(_, flags)| *flags);
                    assert_eq!(
                        found,
                        Some(expected),
                        "{name}, received with {:#04x}, IPv6 {is_ipv6}",
                        received[0]
                    );
                    let others = sent.iter().filter(|(of, _)| *of != code);
                    for (other, flags) in others {
                        assert_eq!(flags & 0x2f, 0, "attribute {other} beside {name}");
                    }
                }
            }
        }
    }
}

#[test]
fn rfc4271_4_3_unused_flag_bits_are_ignored_and_sent_as_zero() {
    for is_ipv6 in [false, true] {
        for low in 1..=0x0f {
            for (name, code, value) in PASSED_ON {
                let sent = passed_on(&attribute(0xc0 | low, code, value), is_ipv6, &context());
                assert!(sent.iter().any(|(of, _)| *of == code), "{name} is passed on");
                assert!(sent.iter().all(|(_, flags)| flags & 0x0f == 0), "{name} with {low:#x}: {sent:x?}");
            }
        }
    }
    // On the attributes that every route has, too, they mean nothing.
    let odd: Vec<Vec<u8>> =
        [ORIGIN, AS_PATH, NEXT_HOP].map(|good| [&[good[0] | 0x0f], &good[1..]].concat()).to_vec();
    assert_eq!(verdict(&odd.iter().map(Vec::as_slice).collect::<Vec<_>>(), NLRI), "+1 -0");
}

/// A peer that sends no attribute of that kind with the bit has none when it is passed on, and a malformed one leaves no bit behind.
#[test]
fn the_partial_bit_of_an_attribute_that_is_discarded_or_repeated_is_not_taken_for_one_of_another() {
    let discarded = attribute(0xe0, 7, &[0, 0]);
    let message = update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &discarded].concat(), NLRI);
    let update = &decode_all(&[message], &context())[0].updates[0];
    assert!(update.attributes.as_ref().unwrap().partial.is_empty());
    let first = attribute(0xc0, 8, &[0xfd, 0xfc, 0, 7]);
    let second = attribute(0xe0, 8, &[0xfd, 0xfc, 0, 8]);
    let message = update_message(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &first, &second].concat(), NLRI);
    let update = &decode_all(&[message], &context())[0].updates[0];
    assert!(
        update.attributes.as_ref().unwrap().partial.is_empty(),
        "the first counts (RFC 7606 section 3 g)"
    );
}

/// RFC 6793: a speaker that does not know AS4_PATH and AS4_AGGREGATOR passes them on with the bit.
#[test]
fn rfc4271_5_the_partial_bit_of_as4_path_and_as4_aggregator_is_kept_towards_old_peers() {
    let old = Context { four_octet_asn: false, ..context() };
    let as_path = [0x40, 2, 6, 2, 2, 0x2f, 0x2c, 0x5b, 0xa0];
    let aggregator = [0xc0, 7, 6, 0x5b, 0xa0, 198, 18, 0, 9];
    let path4 = |flags| attribute(flags, 17, &[2, 1, 0xfa, 0x56, 0xea, 0x01]);
    let aggregator4 = |flags| attribute(flags, 18, &[0xfa, 0x56, 0xea, 0x01, 198, 18, 0, 9]);
    for partial in [0, 0x20] {
        let flags = 0xc0 | partial;
        let attributes =
            [ORIGIN, &as_path, NEXT_HOP, &aggregator, &path4(flags), &aggregator4(flags)].concat();
        let decoded = decode_all(&[update_message(&[], &attributes, NLRI)], &old).remove(0);
        assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
        let update = &decoded.updates[0];
        let sent = flags_of(&encode_update(update, &old).unwrap()[0]);
        for code in [17, 18] {
            assert!(sent.contains(&(code, flags)), "{code} of {sent:x?}");
        }
        let sent = flags_of(&encode_update(update, &context()).unwrap()[0]);
        assert!(
            sent.contains(&(7, flags)) && !sent.iter().any(|(code, _)| matches!(code, 17 | 18)),
            "{sent:x?}"
        );
    }
    // Where AS numbers have four octets, they say nothing (RFC 6793 section 4.1).
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, &path4(0xe0)].concat();
    let decoded = decode_all(&[update_message(&[], &attributes, NLRI)], &context()).remove(0);
    assert!(decoded.updates[0].attributes.as_ref().unwrap().partial.is_empty());
}

#[test]
fn the_partial_bits_take_no_memory_and_are_handed_over_in_a_field_that_older_versions_overlook() {
    // As before there were any: a full table has hundreds of thousands of these.
    assert!(size_of::<PathAttributes>() <= 168, "{}", size_of::<PathAttributes>());
    let plain = PathAttributes::originated("198.18.0.2".parse().unwrap());
    let text = serde_json::to_string(&plain).unwrap();
    assert!(!text.contains("partial"), "{text}");
    assert_eq!(serde_json::from_str::<PathAttributes>(&text).unwrap(), plain);
    let partial = Partial::COMMUNITIES.with(Partial::ONLY_TO_CUSTOMER);
    let marked = PathAttributes { partial, ..plain };
    let text = serde_json::to_string(&marked).unwrap();
    assert_eq!(serde_json::from_str::<PathAttributes>(&text).unwrap(), marked);
}
