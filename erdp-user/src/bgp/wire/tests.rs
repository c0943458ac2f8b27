//! Round trips, packing, RFC 7606, and bytes that nobody should send.

use proptest::prelude::*;

use super::*;

fn attributes(next_hop: IpAddr) -> PathAttributes {
    PathAttributes {
        origin: Origin::Incomplete,
        as_path: AsPath::sequence([12076, 8075, 4_200_000_000]),
        next_hop,
        med: Some(7),
        local_pref: None,
        communities: vec![Community(12076 << 16 | 51010)],
        large_communities: vec![LargeCommunity(1, 2, 3)],
        unknown_transitive: vec![RawAttribute { flags: 0xe0, code: 99, value: vec![1, 2, 3] }],
    }
}

/// All updates in a byte stream, as one.
fn decode_all(messages: &[Vec<u8>]) -> Update {
    let mut all = Update::default();
    for message in messages {
        assert!(message.len() <= usize::from(MESSAGE_MAX), "{} octets", message.len());
        let Ok(Message::Update(update, None)) = decode(message, true) else { panic!("{message:02x?}") };
        all.withdrawn.extend(update.withdrawn);
        all.announced.extend(update.announced);
        all.attributes = update.attributes.or(all.attributes);
        all.end_of_rib = update.end_of_rib.or(all.end_of_rib);
    }
    all
}

fn prefix(v6: bool) -> impl Strategy<Value = IpNet> {
    (any::<[u8; 16]>(), 0u8..=128).prop_map(move |(bits, len)| {
        if v6 {
            IpNet::V6(Ipv6Net::new_assert(bits.into(), len)).trunc()
        } else {
            IpNet::V4(Ipv4Net::new_assert([bits[0], bits[1], bits[2], bits[3]].into(), len % 33)).trunc()
        }
    })
}

proptest! {
    #[test]
    fn updates_of_any_size_are_the_same_after_encoding_and_decoding(
        v6: bool,
        announced in proptest::collection::vec(prefix(true), 0..1500),
        withdrawn in proptest::collection::vec(prefix(true), 0..800),
        announced4 in proptest::collection::vec(prefix(false), 0..1500),
        withdrawn4 in proptest::collection::vec(prefix(false), 0..800),
    ) {
        let next_hop: IpAddr = if v6 { "fd00::2".parse().expect("valid") } else { "198.18.0.2".parse().expect("valid") };
        let (announced, withdrawn) = if v6 { (announced, withdrawn) } else { (announced4, withdrawn4) };
        let attributes = (!announced.is_empty()).then(|| Arc::new(attributes(next_hop)));
        let update = Update { announced, withdrawn, attributes, end_of_rib: None };
        let (messages, left_out) = encode_update(&update, true);
        prop_assert!(left_out.is_empty());
        prop_assert_eq!(decode_all(&messages), update);
    }

    #[test]
    fn no_bytes_panic_and_only_framing_or_nlri_errors_reset(body in proptest::collection::vec(any::<u8>(), 0..200), kind in 1u8..7) {
        let mut message = vec![0xff; 16];
        message.extend(((body.len() + 19) as u16).to_be_bytes());
        message.push(kind);
        message.extend(body);
        let _ = decode(&message, true);
        let _ = decode(&message, false);
    }

    #[test]
    fn a_changed_byte_in_the_attributes_never_announces_what_was_not_sent(at in 0usize..80, value: u8) {
        let update = Update {
            announced: vec!["20.0.0.0/8".parse().expect("valid")],
            attributes: Some(Arc::new(attributes("198.18.0.2".parse().expect("valid")))),
            ..Update::default()
        };
        let mut message = encode_update(&update, true).0.remove(0);
        let attributes_len = usize::from(u16::from_be_bytes([message[21], message[22]]));
        let at = 23 + at % attributes_len;
        message[at] = value;
        // An attribute may turn into MP_REACH_NLRI; then a reset is right (RFC 7606 section 7.11).
        if let Ok(Message::Update(got, _)) = decode(&message, true) {
            prop_assert!(got.announced.is_empty() || got.attributes.is_some(), "announced without attributes");
            prop_assert!(got.announced.contains(&update.announced[0]) || got.withdrawn.contains(&update.announced[0]));
        }
    }
}

/// A message with raw attributes around one prefix, 20.0.0.0/8.
fn raw(attributes: &[&[u8]]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut message = vec![0xff; 16];
    message.extend(((19 + 4 + attributes.len() + 2) as u16).to_be_bytes());
    message.extend([2, 0, 0]);
    message.extend((attributes.len() as u16).to_be_bytes());
    message.extend(attributes);
    message.extend([8, 20]);
    message
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0x2f, 0x2c];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 198, 18, 0, 2];

/// RFC 7606 section 7: what becomes of an update with one malformed attribute.
#[test]
fn malformed_attributes_withdraw_or_are_discarded_and_never_reset() {
    let withdrawn: [(&str, &[&[u8]]); 6] = [
        ("ORIGIN with an unknown value (7.1)", &[&[0x40, 1, 1, 9], AS_PATH, NEXT_HOP]),
        ("ORIGIN of two octets (7.1)", &[&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP]),
        ("AS_PATH segment that overruns (7.2)", &[ORIGIN, &[0x40, 2, 6, 2, 9, 0, 0, 0x2f, 0x2c], NEXT_HOP]),
        ("NEXT_HOP of three octets (7.3)", &[ORIGIN, AS_PATH, &[0x40, 3, 3, 198, 18, 0]]),
        ("MED of two octets (7.4)", &[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 2, 0, 1]]),
        ("no AS_PATH (3 d)", &[ORIGIN, NEXT_HOP]),
    ];
    let net: IpNet = "20.0.0.0/8".parse().expect("valid");
    for (name, attributes) in withdrawn {
        let Ok(Message::Update(update, Some(note))) = decode(&raw(attributes), true) else {
            panic!("{name}")
        };
        assert_eq!((update.withdrawn.as_slice(), update.announced.len()), (&[net][..], 0), "{name}: {note}");
        assert!(note.contains("RFC 7606"), "{name}: {note}");
    }
    let kept: [(&str, &[&[u8]]); 2] = [
        ("AGGREGATOR of three octets (7.7)", &[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 7, 3, 0, 0, 1]]),
        ("LOCAL_PREF from outside (7.5)", &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 5, 3, 0, 0, 1]]),
    ];
    for (name, attributes) in kept {
        let Ok(Message::Update(update, Some(_))) = decode(&raw(attributes), true) else { panic!("{name}") };
        assert_eq!((update.announced.as_slice(), update.withdrawn.len()), (&[net][..], 0), "{name}");
    }
}

#[test]
fn an_overrunning_prefix_is_a_reset_with_invalid_network_field() {
    let mut message = raw(&[ORIGIN, AS_PATH, NEXT_HOP]);
    let at = message.len() - 2;
    message[at] = 33;
    let error = decode(&message, true).expect_err("RFC 7606 section 5.3");
    assert_eq!((error.notification.code, error.notification.subcode), (3, 10));
}

#[test]
fn end_of_rib_of_both_families_is_recognised() {
    for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
        let update = Update { end_of_rib: Some(family), ..Update::default() };
        assert_eq!(decode_all(&encode_update(&update, true).0), update, "RFC 4724 section 2");
    }
}

#[test]
fn a_large_as_number_goes_as_as_trans_to_a_peer_with_two_octets() {
    let open = Open {
        asn: Asn(4_200_000_000),
        hold: 180,
        router_id: Ipv4Addr::new(1, 2, 3, 4),
        families: vec![Family::Ipv4Unicast],
        four_octet: true,
        route_refresh: true,
    };
    let bytes = encode_open(&open);
    assert_eq!(u16::from_be_bytes([bytes[20], bytes[21]]), AS_TRANS, "RFC 6793 section 9");
    assert_eq!(decode(&bytes, true), Ok(Message::Open(open)));
}

#[test]
fn recorded_messages_decode_or_are_refused_but_never_panic() {
    let Some(data) = std::env::var_os("ERDP_DATA") else {
        println!("not run: ERDP_DATA is not set");
        return;
    };
    let path = std::path::Path::new(&data).join("bgp/bgp-messages.tsv.gz");
    let output = std::process::Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip");
    let text = String::from_utf8(output.stdout).expect("text");
    let (mut decoded, mut refused) = (0, 0);
    for line in text.lines() {
        let hex = line.rsplit('\t').next().unwrap_or_default().trim();
        let bytes: Option<Vec<u8>> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect();
        let Some(bytes) = bytes else { continue };
        for four_octet in [true, false] {
            match decode(&bytes, four_octet) {
                Ok(_) => decoded += 1,
                Err(_) => refused += 1,
            }
        }
    }
    println!("{decoded} decoded, {refused} refused");
    assert!(decoded > 10_000, "{decoded} decoded, {refused} refused: is the file whole?");
}
