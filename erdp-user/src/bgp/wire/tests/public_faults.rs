//! Faults that have taken other speakers down or reset sessions across the Internet in the last years, each by its nature: none may end a
//! session where the routes can be told, none may lose a route, and none may panic.

use super::*;

/// An attribute with a two-octet length, whatever its flags.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u16).to_be_bytes();
    [&[flags | EXTENDED_LENGTH, code][..], &length, value].concat()
}

/// What an attribute that everybody may add does to a route: it is announced or withdrawn, and the session stays.
fn keeps_the_session(code: u8, value: &[u8]) {
    for flags in [0xc0, 0xe0, 0x80, 0x40] {
        let odd = attribute(flags, code, value);
        let said = verdict(&[ORIGIN, AS_PATH, NEXT_HOP, &odd], NLRI);
        let is_told = said.starts_with("+1 -0") || said.starts_with("+0 -1");
        assert!(is_told, "attribute {code} with flags {flags:#x} and {} octets: {said}", value.len());
    }
}

#[test]
fn a_prefix_sid_attribute_of_any_length_and_content_costs_at_most_its_routes() {
    for length in 0..70 {
        keeps_the_session(40, &vec![0; length]);
        keeps_the_session(40, &vec![0xff; length]);
    }
    // A label index TLV whose length is one less, one more, and far more than what follows.
    for claimed in [0, 6, 7, 8, 255] {
        keeps_the_session(40, &[1, 0, claimed, 0, 0, 0, 0, 0, 0, 9]);
        keeps_the_session(40, &[5, 0xff, claimed, 0]);
    }
}

#[test]
fn a_tunnel_encapsulation_attribute_of_any_length_and_tlvs_beyond_its_end_cost_at_most_its_routes() {
    for length in 0..40 {
        keeps_the_session(23, &vec![0; length]);
        keeps_the_session(23, &vec![0xff; length]);
    }
    for claimed in [0, 1, 5, 6, 255] {
        // The tunnel's own length, a sub-TLV's of one octet, and one's of two.
        keeps_the_session(23, &[0, 8, 0, claimed, 1, 4, 0, 0, 0, 1]);
        keeps_the_session(23, &[0, 8, 0, 6, 1, claimed, 0, 0, 0, 1]);
        keeps_the_session(23, &[0, 8, 0, 6, 200, 0, claimed, 0, 0, 1]);
    }
}

#[test]
fn an_only_to_customer_attribute_of_any_length_costs_at_most_its_routes() {
    for length in 0..20 {
        keeps_the_session(35, &vec![0; length]);
        keeps_the_session(35, &vec![0xfb; length]);
    }
}

#[test]
fn an_attribute_of_any_type_and_odd_length_costs_at_most_its_routes() {
    for code in (0..=255).filter(|code| !matches!(code, 1..=3 | 14 | 15)) {
        for length in [0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 17, 255, 256, 1_000] {
            keeps_the_session(code, &vec![1; length]);
        }
    }
}

#[test]
fn flowspec_rules_of_any_length_and_other_families_are_ignored_unread() {
    let families: [(u8, u8); 6] = [(1, 133), (2, 133), (1, 134), (25, 70), (1, 128), (16_388_u16 as u8, 71)];
    for (afi, safi) in families {
        for nlri in [&[][..], &[0], &[1], &[0xf0], &[0xff, 0xff], &[3, 1, 8, 20], &[240, 0], &[9, 1, 255, 1]]
        {
            for code in [14, 15] {
                let head: &[u8] = if code == 14 { &[0, afi, safi, 0, 0] } else { &[0, afi, safi] };
                let mp = attribute(0x80, code, &[head, nlri].concat());
                assert_eq!(verdict(&[&mp, ORIGIN, AS_PATH, NEXT_HOP], NLRI), "+1 -0 DisableFamily");
                assert_eq!(verdict(&[&mp], &[]), "+0 -0 DisableFamily", "{afi}/{safi} {nlri:?}");
            }
        }
    }
}

/// Two IPv6 prefixes with a good next hop.
fn mp_reach() -> Vec<u8> {
    let hop: [u8; 16] = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let value = [&[0, 2, 1, 16][..], &hop, &[0, 32, 0x2a, 1, 1, 0x11, 32, 0x2a, 1, 1, 0x12]].concat();
    attribute(0x80, 14, &value)
}

#[test]
fn an_mp_reach_without_the_mandatory_attributes_withdraws_its_routes() {
    let reach = mp_reach();
    for attributes in [vec![&reach[..]], vec![&reach, ORIGIN], vec![&reach, AS_PATH], vec![&reach, NEXT_HOP]]
    {
        assert_eq!(verdict(&attributes, &[]), "+0 -2 TreatAsWithdraw", "{attributes:?}");
    }
    assert_eq!(verdict(&[&reach, ORIGIN, AS_PATH], &[]), "+2 -0");
}

#[test]
fn classic_routes_without_any_attribute_are_withdrawn() {
    assert_eq!(verdict(&[], NLRI), "+0 -1 TreatAsWithdraw");
    assert_eq!(verdict(&[&attribute(0x80, 15, &[0, 2, 1])], NLRI), "+0 -1 TreatAsWithdraw");
}

#[test]
fn an_mp_unreach_beside_classic_routes_is_no_end_of_rib_and_loses_neither() {
    let unreach = attribute(0x80, 15, &[0, 2, 1, 32, 0x2a, 1, 1, 0x11]);
    assert_eq!(verdict(&[&unreach, ORIGIN, AS_PATH, NEXT_HOP], NLRI), "+1 -1");
    let empty = attribute(0x80, 15, &[0, 2, 1]);
    assert_eq!(verdict(&[&empty, ORIGIN, AS_PATH, NEXT_HOP], NLRI), "+1 -0");
    let Ok(Message::Update(decoded)) = decode(&update_message(&[], &empty, NLRI), &context()) else {
        panic!()
    };
    assert!(decoded.updates.iter().all(|update| update.end_of_rib.is_none()), "{decoded:?}");
}

#[test]
fn an_as_path_beyond_2048_numbers_is_taken_and_passed_on_only_where_it_fits() {
    for numbers in [256_u32, 1_000, 2_048, 2_049, 5_000, 16_000] {
        let all: Vec<u32> = std::iter::once(12_076).chain(1_000_000..1_000_000 + numbers - 1).collect();
        let segment = |chunk: &[u32]| {
            let asns = chunk.iter().flat_map(|asn| asn.to_be_bytes());
            [2, chunk.len() as u8].into_iter().chain(asns).collect::<Vec<u8>>()
        };
        let value: Vec<u8> = all.chunks(255).flat_map(segment).collect();
        let path = attribute(0x40, 2, &value);
        let message = update_message(&[], &[ORIGIN, &path, NEXT_HOP].concat(), NLRI);
        let decoded = &decode_all(&[message], &context())[0];
        assert!(decoded.faults.is_empty(), "{numbers}: {:?}", decoded.faults);
        let attributes = decoded.updates[0].attributes.as_ref().expect("it is announced");
        assert_eq!(attributes.as_path.len(), all.len());
        let prepended =
            PathAttributes { as_path: attributes.as_path.prepended(Asn(65_010)), ..(**attributes).clone() };
        let prefix = "20.0.0.0/8".parse().unwrap();
        let long = Context { extended_messages: true, ..context() };
        assert_eq!(fits(&prepended, &prefix, &context()), numbers <= 1_000, "{numbers}");
        assert!(fits(&prepended, &prefix, &long), "{numbers}");
        let update =
            Update { announced: vec![prefix], attributes: Some(Arc::new(prepended)), ..Update::default() };
        assert!(encode_update(&update, &long).is_ok());
    }
}

#[test]
fn an_as4_path_before_the_as_path_is_merged_all_the_same() {
    let old = Context { four_octet_asn: false, ..context() };
    let short: &[u8] = &[0x40, 2, 6, 2, 2, 0x2f, 0x2c, 0x5b, 0xa0];
    let four: &[u8] = &[0xc0, 17, 6, 2, 1, 0xfa, 0x56, 0xea, 0x01];
    for attributes in [[four, ORIGIN, short, NEXT_HOP], [ORIGIN, short, NEXT_HOP, four]] {
        let decoded = &decode_all(&[update_message(&[], &attributes.concat(), NLRI)], &old)[0];
        let path = &decoded.updates[0].attributes.as_ref().unwrap().as_path;
        let text = path.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!((text.as_str(), decoded.faults.len()), ("12076 4200000001", 0));
    }
    // Longer than the AS_PATH, empty, cut, or from a peer that has no use for it.
    for value in
        [&[2, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3][..], &[], &[2], &[2, 9, 0, 0], &[9, 1, 0, 0, 0, 1]]
    {
        let four = attribute(0xc0, 17, value);
        for context in [&old, &context()] {
            let path = if context.four_octet_asn { AS_PATH } else { short };
            let message = update_message(&[], &[&four, ORIGIN, path, NEXT_HOP].concat(), NLRI);
            let decoded = &decode_all(&[message], context)[0];
            let told: usize = decoded.updates.iter().map(|it| it.announced.len() + it.withdrawn.len()).sum();
            assert_eq!(told, 1, "{value:?}");
        }
    }
}

#[test]
fn a_notification_of_every_kind_is_read_and_put_into_words() {
    let bodies: [&[u8]; 8] = [
        &[],
        &[0],
        &[255],
        &[4, b'g', b'o'],
        &[2, b'g', b'o', b'x'],
        &[3, 0xff, 0xfe, 0xfd],
        &[6, 2],
        &[0; 300],
    ];
    for code in 0..=255 {
        for subcode in 0..=255 {
            for data in bodies {
                let notification = Notification { code, subcode, data: data.to_vec() };
                let message = encode_notification(&notification);
                assert_eq!(message_length(&message), Ok(Some(message.len())));
                let Ok(Message::Notification(read)) = decode(&message, &context()) else {
                    panic!("{code}/{subcode} with {data:?} is not read");
                };
                assert_eq!((read.subcode, &read.data), (subcode, &notification.data));
                assert!(!read.to_string().is_empty());
                let _ = (read.shutdown_text(), read.is_hard_reset(), read.is_collision(), read.name().len());
            }
        }
    }
}

#[test]
fn an_open_with_parameters_of_any_length_is_read_or_refused() {
    let open = |parameters: &[u8]| {
        let mut message = vec![0xff; 16];
        message.extend_from_slice(&(28 + parameters.len() as u16).to_be_bytes());
        message.extend_from_slice(&[1, 4, 0x2f, 0x2c, 0, 180, 10, 0, 0, 1]);
        message.truncate(28);
        message.extend_from_slice(parameters);
        message
    };
    // The length octet first: 255 with 255 after it is the extended form of RFC 9072.
    let heads: [&[u8]; 7] =
        [&[0], &[1], &[4], &[255], &[255, 255, 0, 0], &[255, 255, 0, 4], &[255, 255, 0xff, 0xff]];
    let tails: [&[u8]; 8] = [
        &[],
        &[2],
        &[2, 255],
        &[2, 0, 2, 1, 4],
        &[2, 2, 1, 255],
        &[255, 0, 9],
        &[2, 4, 65, 2, 0, 1],
        &[2, 3, 75, 1, 200],
    ];
    for head in heads {
        for tail in tails {
            for more in 0..6 {
                let message = open(&[head, tail, &vec![0; more]].concat());
                assert!(matches!(
                    decode(&message, &context()),
                    Ok(Message::Open(_)) | Err(WireError { reaction: Reaction::Reset(_), .. })
                ));
            }
        }
    }
}

#[test]
fn an_extended_message_of_the_greatest_length_is_read_whole() {
    let communities: Vec<u8> = (0..16_000_u32).flat_map(u32::to_be_bytes).collect();
    let long = attribute(0xc0, 8, &communities);
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, &long].concat();
    let room = MAX_EXTENDED_BYTES - 23 - attributes.len();
    let nlri: Vec<u8> = (0..room / 4).flat_map(|at| [24, 20, (at >> 8) as u8, at as u8]).collect();
    let message = update_message(&[], &attributes, &nlri);
    assert!(message.len() > 65_000);
    let decoded = &decode_all(&[message], &context())[0];
    let update = &decoded.updates[0];
    assert_eq!((update.announced.len(), decoded.faults.len()), (room / 4, 0));
    assert_eq!(update.attributes.as_ref().unwrap().communities.len(), 16_000);
}
