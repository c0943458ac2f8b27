//! Next hops of IPv6 routes: one address or two, in every mixture (RFC 2545 section 3).

use std::net::Ipv6Addr;

use super::*;

/// What the route's next hop is, or the kind of the reaction.
fn next_hop(addresses: &[&str]) -> String {
    let octets: Vec<u8> =
        addresses.iter().flat_map(|address| address.parse::<Ipv6Addr>().unwrap().octets()).collect();
    let mut value = vec![0, 2, 1, octets.len() as u8];
    value.extend_from_slice(&octets);
    value.extend_from_slice(&[0, 32, 0x2a, 1, 1, 0x11]);
    let mp = [&[0x80, 14, value.len() as u8][..], &value].concat();
    let message = update_message(&[], &[&mp, ORIGIN, AS_PATH].concat(), &[]);
    match decode(&message, &context()) {
        Ok(Message::Update(decoded)) => {
            let update = &decoded.updates[0];
            match &update.attributes {
                Some(attributes) => {
                    assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
                    attributes.next_hop.to_string()
                }
                None => {
                    assert_eq!((update.withdrawn.len(), decoded.faults.len()), (1, 1), "{decoded:?}");
                    "withdrawn".to_owned()
                }
            }
        }
        Err(error) => format!("{:?}", error.reaction),
        Ok(other) => panic!("{other:?}"),
    }
}

#[test]
fn rfc2545_3_of_two_next_hops_the_global_one_is_used_and_the_other_ignored() {
    let rows: [(&[&str], &str); 22] = [
        (&["fd00::2"], "fd00::2"),
        (&["2001:db8::2"], "2001:db8::2"),
        (&["fe80::2"], "fe80::2"),
        (&["::"], "withdrawn"),
        (&["::1"], "withdrawn"),
        (&["ff02::1"], "withdrawn"),
        (&["::ffff:198.18.0.2"], "withdrawn"),
        (&["fd00::2", "fe80::2"], "fd00::2"),
        (&["fd00::2", "::"], "fd00::2"),
        (&["fd00::2", "fd00::2"], "fd00::2"),
        (&["fd00::2", "fd00::3"], "fd00::2"),
        (&["fd00::2", "ff02::1"], "fd00::2"),
        (&["fd00::2", "::ffff:198.18.0.2"], "fd00::2"),
        (&["::", "fe80::2"], "fe80::2"),
        (&["::", "fd00::2"], "fd00::2"),
        (&["fe80::2", "fd00::2"], "fd00::2"),
        (&["fe80::2", "::"], "fe80::2"),
        (&["fe80::2", "fe80::3"], "fe80::2"),
        (&["::", "::"], "withdrawn"),
        (&["ff02::1", "::"], "withdrawn"),
        // Our own address is no next hop, whatever stands beside it (RFC 4271 section 6.3).
        (&["fd00::1", "fe80::2"], "withdrawn"),
        (&["fd00::1", "::"], "withdrawn"),
    ];
    for (addresses, expected) in rows {
        assert_eq!(next_hop(addresses), expected, "{addresses:?}");
    }
}

#[test]
fn rfc7606_7_11_a_next_hop_of_another_length_ends_the_session() {
    let mut value = vec![0, 2, 1, 48];
    value.extend_from_slice(&[0xfd; 48]);
    value.extend_from_slice(&[0, 32, 0x2a, 1, 1, 0x11]);
    let mp = [&[0x80, 14, value.len() as u8][..], &value].concat();
    assert_eq!(verdict(&[&mp, ORIGIN, AS_PATH], &[]), "reset 3/9");
}
