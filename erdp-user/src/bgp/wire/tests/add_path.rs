//! Several paths to one prefix (RFC 7911): identifiers before prefixes, in the families where that was agreed on.

use super::*;
use crate::bgp::PathId;

const V4: Family = Family::Ipv4Unicast;
const V6: Family = Family::Ipv6Unicast;

fn with_paths(families: &[Family]) -> Context {
    Context { add_path: families.to_vec(), ..context() }
}

/// Every update as `path +announced -withdrawn`.
fn shown(message: &[u8], context: &Context) -> Vec<String> {
    let decoded = decode_all(&[message.to_vec()], context).remove(0);
    let list = |sign: &str, prefixes: &[IpNet]| -> String {
        prefixes.iter().map(|prefix| format!(" {sign}{prefix}")).collect()
    };
    let row = |update: &Update| {
        assert_eq!(update.attributes.is_some(), !update.announced.is_empty());
        let path = update.path.map_or("-".to_owned(), |PathId(id)| id.to_string());
        format!("{path}{}{}", list("+", &update.announced), list("-", &update.withdrawn))
    };
    decoded.updates.iter().map(row).collect()
}

#[test]
fn prefixes_with_identifiers_become_one_update_for_each_identifier() {
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP].concat();
    // 10.0.0.0/8 by path 7; then 20/8 by 1, 20/8 by 2, 30/8 by 1.
    let withdrawn = [0, 0, 0, 7, 8, 10];
    let nlri = [0, 0, 0, 1, 8, 20, 0, 0, 0, 2, 8, 20, 0, 0, 0, 1, 8, 30];
    let message = update_message(&withdrawn, &attributes, &nlri);
    let expected = ["1 +20.0.0.0/8 +30.0.0.0/8", "2 +20.0.0.0/8", "7 -10.0.0.0/8"];
    assert_eq!(shown(&message, &with_paths(&[V4])), expected);
}

#[test]
fn multiprotocol_prefixes_have_identifiers_where_their_family_has() {
    let hop: [u8; 16] = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let nlri = [0xff, 0xff, 0xff, 0xff, 16, 0x26, 0x03, 0, 0, 0, 0, 16, 0x26, 0x03];
    let value = [&[0, 2, 1, 16][..], &hop, &[0], &nlri].concat();
    let mp = [&[0x80, 14, value.len() as u8][..], &value].concat();
    let message = update_message(&[], &[&mp, ORIGIN, AS_PATH].concat(), &[]);
    assert_eq!(shown(&message, &with_paths(&[V6])), ["0 +2603::/16", "4294967295 +2603::/16"]);
    let gone = [0x80, 15, 10, 0, 2, 1, 0, 0, 0, 9, 16, 0x26, 0x03];
    let message = update_message(&[], &gone, &[]);
    assert_eq!(shown(&message, &with_paths(&[V4, V6])), ["9 -2603::/16"]);
}

#[test]
fn without_agreement_nothing_is_an_identifier_and_with_it_nothing_goes_without() {
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP].concat();
    // Four default routes and 8/8, read without identifiers.
    let message = update_message(&[], &attributes, &[0, 0, 0, 0, 8, 20]);
    assert_eq!(
        shown(&message, &with_paths(&[V6])),
        ["- +0.0.0.0/0 +0.0.0.0/0 +0.0.0.0/0 +0.0.0.0/0 +20.0.0.0/8"]
    );
    // A bare prefix is too short to begin with an identifier: prefixes cannot be found, which ends a session (RFC 7606 section 5.3).
    let bare = update_message(&[], &attributes, NLRI);
    let error = decode(&bare, &with_paths(&[V4])).unwrap_err();
    assert!(matches!(&error.reaction, Reaction::Reset(with) if with.code == 3), "{error:?}");
}

#[test]
fn a_bad_attribute_withdraws_every_path_that_the_message_names() {
    let origin = [0x40, 1, 1, 9];
    let nlri = [0, 0, 0, 1, 8, 20, 0, 0, 0, 2, 8, 20];
    let message = update_message(&[], &[&origin[..], AS_PATH, NEXT_HOP].concat(), &nlri);
    assert_eq!(shown(&message, &with_paths(&[V4])), ["1 -20.0.0.0/8", "2 -20.0.0.0/8"]);
    let own_hop = [0x40, 3, 4, 198, 18, 0, 1];
    let message = update_message(&[], &[ORIGIN, AS_PATH, &own_hop].concat(), &nlri);
    let decoded = decode_all(std::slice::from_ref(&message), &with_paths(&[V4])).remove(0);
    assert_eq!(decoded.faults.len(), 1, "said once: {:?}", decoded.faults);
    assert_eq!(shown(&message, &with_paths(&[V4])), ["1 -20.0.0.0/8", "2 -20.0.0.0/8"]);
}

#[test]
fn ends_of_rib_have_no_identifiers() {
    for (family, message) in
        [(V4, update_message(&[], &[], &[])), (V6, update_message(&[], &[0x80, 15, 3, 0, 2, 1], &[]))]
    {
        let decoded = decode_all(&[message], &with_paths(&[V4, V6])).remove(0);
        assert_eq!(decoded.updates, [Update { end_of_rib: Some(family), ..Update::default() }]);
    }
}

#[test]
fn an_unknown_family_or_mode_spoils_only_its_own_part_of_the_capability() {
    type Modes = Vec<(Family, AddPath)>;
    let rows: [(&[u8], Modes); 5] = [
        (&[0, 1, 1, 2], vec![(V4, AddPath::Send)]),
        (&[0, 1, 1, 3, 0, 2, 1, 1], vec![(V4, AddPath::Both), (V6, AddPath::Receive)]),
        (&[0, 1, 1, 4, 0, 2, 1, 2], vec![(V6, AddPath::Send)]),
        (&[0, 1, 99, 2, 77, 7, 1, 2, 0, 1, 1, 2], vec![(V4, AddPath::Send)]),
        (&[0, 1, 1], vec![]),
    ];
    for (value, expected) in rows {
        let capability = [&[69, value.len() as u8][..], value].concat();
        let parameter = [&[2, capability.len() as u8][..], &capability].concat();
        let mut message = vec![0xff; 16];
        message.extend_from_slice(&(29 + parameter.len() as u16).to_be_bytes());
        message.extend_from_slice(&[1, 4, 0x2f, 0x2c, 0, 180, 10, 0, 0, 1, parameter.len() as u8]);
        message.extend_from_slice(&parameter);
        let Ok(Message::Open(open)) = decode(&message, &context()) else { panic!("{value:?}") };
        assert_eq!(open.add_path, expected, "{value:?}");
    }
}
