//! Round trips, rows of good and bad messages, mutated bytes, and messages nobody here wrote.

mod add_path;
mod apart;
mod flags;
mod next_hops;
mod public_faults;
mod refresh;

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;
use crate::bgp::{
    Aggregator, AsPath, AsPathSegment, Community, LargeCommunity, Origin, Partial, PathAttributes,
    RawAttribute,
};

fn context() -> Context {
    let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
    let own = vec!["198.18.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    Context { four_octet_asn: true, internal: false, families, own, ..Context::default() }
}

fn decode_all(messages: &[Vec<u8>], context: &Context) -> Vec<DecodedUpdate> {
    messages
        .iter()
        .map(|message| {
            assert_eq!(message_length(message).unwrap(), Some(message.len()));
            match decode(message, context).unwrap() {
                Message::Update(update) => update,
                other => panic!("{other:?}"),
            }
        })
        .collect()
}

fn update_message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(withdrawn);
    body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    body.extend_from_slice(attributes);
    body.extend_from_slice(nlri);
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&(body.len() as u16 + 19).to_be_bytes());
    message.push(2);
    message.append(&mut body);
    message
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0x2f, 0x2c];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 198, 18, 0, 2];
const NLRI: &[u8] = &[8, 20];

/// The outcome in a word: which reaction, and whether 20.0.0.0/8 is announced or withdrawn.
fn verdict(attributes: &[&[u8]], nlri: &[u8]) -> String {
    match decode(&update_message(&[], &attributes.concat(), nlri), &context()) {
        Err(WireError { reaction: Reaction::Reset(notification), .. }) => {
            format!("reset {}/{}", notification.code, notification.subcode)
        }
        Err(other) => panic!("an error that does not reset: {other:?}"),
        Ok(Message::Update(decoded)) => {
            let count = |list: fn(&Update) -> usize| decoded.updates.iter().map(list).sum::<usize>();
            let (announced, withdrawn) = (count(|u| u.announced.len()), count(|u| u.withdrawn.len()));
            let mut reactions: Vec<_> =
                decoded.faults.iter().map(|fault| format!("{:?}", fault.reaction)).collect();
            reactions.sort();
            reactions.dedup();
            format!("+{announced} -{withdrawn} {}", reactions.join(" ")).trim_end().to_owned()
        }
        Ok(other) => panic!("{other:?}"),
    }
}

#[test]
fn each_malformed_attribute_gets_the_reaction_of_rfc_7606() {
    let mp = |next_hop: &[u8], nlri: &[u8]| {
        let mut value = vec![0, 2, 1, next_hop.len() as u8];
        value.extend_from_slice(next_hop);
        value.push(0);
        value.extend_from_slice(nlri);
        [&[0x80, 14, value.len() as u8][..], &value].concat()
    };
    let global: [u8; 16] = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let local: [u8; 16] = "fe80::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mapped: [u8; 16] = "::ffff:198.18.0.2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let own: [u8; 16] = "fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let v6 = [32, 0x2a, 1, 1, 0x11];
    /// Name, attributes, routes, verdict.
    type Row<'a> = (&'a str, Vec<&'a [u8]>, &'a [u8], &'a str);
    let rows: Vec<Row> = vec![
        ("good", vec![ORIGIN, AS_PATH, NEXT_HOP], NLRI, "+1 -0"),
        ("7.1 ORIGIN of 9", vec![&[0x40, 1, 1, 9], AS_PATH, NEXT_HOP], NLRI, "+0 -1 TreatAsWithdraw"),
        (
            "7.1 ORIGIN of two bytes",
            vec![&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        ("7.2 AS_PATH cut", vec![ORIGIN, &[0x40, 2, 3, 2, 1, 0], NEXT_HOP], NLRI, "+0 -1 TreatAsWithdraw"),
        ("7.2 empty segment", vec![ORIGIN, &[0x40, 2, 2, 2, 0], NEXT_HOP], NLRI, "+0 -1 TreatAsWithdraw"),
        (
            "9774 AS_SET",
            vec![ORIGIN, &[0x40, 2, 6, 1, 1, 0, 0, 0, 9], NEXT_HOP],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        ("7607 AS 0", vec![ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], NEXT_HOP], NLRI, "+0 -1 TreatAsWithdraw"),
        (
            "7.3 NEXT_HOP of 3 bytes",
            vec![ORIGIN, AS_PATH, &[0x40, 3, 3, 1, 2, 3]],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        ("NEXT_HOP 0.0.0.0", vec![ORIGIN, AS_PATH, &[0x40, 3, 4, 0, 0, 0, 0]], NLRI, "+0 -1 TreatAsWithdraw"),
        (
            "NEXT_HOP is ours",
            vec![ORIGIN, AS_PATH, &[0x40, 3, 4, 198, 18, 0, 1]],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        (
            "7.4 MED of 3 bytes",
            vec![ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 3, 0, 0, 1]],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        (
            "7.5 LOCAL_PREF of 1 byte",
            vec![ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 5, 1, 0]],
            NLRI,
            "+1 -0 DiscardAttribute",
        ),
        (
            "7.6 ATOMIC_AGGREGATE of 1",
            vec![ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 6, 1, 0]],
            NLRI,
            "+1 -0 DiscardAttribute",
        ),
        (
            "7.7 AGGREGATOR of 2",
            vec![ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 7, 2, 0, 0]],
            NLRI,
            "+1 -0 DiscardAttribute",
        ),
        (
            "7.8 COMMUNITIES of 3",
            vec![ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 8, 3, 0, 0, 1]],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        (
            "8092 LARGE of 4",
            vec![ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 32, 4, 0, 0, 0, 1]],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        ("3g second ORIGIN", vec![ORIGIN, ORIGIN, AS_PATH, NEXT_HOP], NLRI, "+1 -0 DiscardAttribute"),
        ("3d no ORIGIN", vec![AS_PATH, NEXT_HOP], NLRI, "+0 -1 TreatAsWithdraw"),
        ("3d no NEXT_HOP", vec![ORIGIN, AS_PATH], NLRI, "+0 -1 TreatAsWithdraw"),
        (
            "3c ORIGIN flagged optional",
            vec![&[0xc0, 1, 1, 0], AS_PATH, NEXT_HOP],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        (
            "unknown well-known",
            vec![ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 99, 0]],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        ("unknown optional", vec![ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 99, 1, 7]], NLRI, "+1 -0"),
        (
            "4 attribute beyond the list",
            vec![ORIGIN, AS_PATH, &[0x40, 3, 9, 1]],
            NLRI,
            "+0 -1 TreatAsWithdraw",
        ),
        ("5.2 bad attribute, no routes", vec![&[0x40, 1, 1, 9], AS_PATH, NEXT_HOP], &[], "reset 3/1"),
        ("5.3 NLRI of /33", vec![ORIGIN, AS_PATH, NEXT_HOP], &[33, 1, 2, 3, 4, 5], "reset 3/10"),
        ("5.3 NLRI cut", vec![ORIGIN, AS_PATH, NEXT_HOP], &[24, 20], "reset 3/10"),
    ];
    for (name, attributes, nlri, expected) in rows {
        assert_eq!(verdict(&attributes, nlri), expected, "{name}");
    }
    let flagged = |flags: u8| [&[flags], &mp(&global, &v6)[1..]].concat();
    let foreign = |safi| [0x80, 14, 6, 0, 1, safi, 1, 9, 9];
    for (name, attribute, expected) in [
        ("4760 7 multicast was not agreed on", foreign(2).to_vec(), "+0 -0 DisableFamily"),
        ("4760 7 a family nobody knows", foreign(99).to_vec(), "+0 -0 DisableFamily"),
        ("global next hop", mp(&global, &v6), "+1 -0"),
        ("global and link-local", mp(&[global, local].concat(), &v6), "+1 -0"),
        ("unspecified and link-local", mp(&[[0; 16], local].concat(), &v6), "+1 -0"),
        ("link-local alone", mp(&local, &v6), "+1 -0"),
        ("IPv4-mapped", mp(&mapped, &v6), "+0 -1 TreatAsWithdraw"),
        ("our own", mp(&own, &v6), "+0 -1 TreatAsWithdraw"),
        ("unspecified alone", mp(&[0; 16], &v6), "+0 -1 TreatAsWithdraw"),
        ("7.11 next hop of 5 bytes", mp(&[1, 2, 3, 4, 5], &v6), "reset 3/9"),
        ("5.3 NLRI of /129", mp(&global, &[129, 0]), "reset 3/9"),
        ("3c MP_REACH flagged well-known", flagged(0x40), "+0 -1 TreatAsWithdraw"),
        ("3c MP_REACH flagged transitive", flagged(0xc0), "+0 -1 TreatAsWithdraw"),
    ] {
        assert_eq!(verdict(&[&attribute, ORIGIN, AS_PATH], &[]), expected, "{name}");
    }
}

#[test]
fn header_faults_are_found_before_the_message_is_waited_for() {
    let header = |marker: u8, length: u16, kind: u8| {
        let mut header = vec![marker; 16];
        header.extend_from_slice(&length.to_be_bytes());
        header.push(kind);
        header
    };
    /// The length, or the NOTIFICATION.
    type Outcome = Result<Option<usize>, (u8, u8, Vec<u8>)>;
    let rows: [(&str, Vec<u8>, Outcome); 12] = [
        ("nothing yet", vec![], Ok(None)),
        ("half a marker", vec![0xff; 9], Ok(None)),
        ("HTTP", b"HTTP/1.1 400".to_vec(), Err((1, 1, vec![]))),
        ("bad marker", header(0, 19, 4), Err((1, 1, vec![]))),
        ("keepalive", header(0xff, 19, 4), Ok(Some(19))),
        ("long keepalive", header(0xff, 20, 4), Err((1, 2, vec![0, 20]))),
        ("short open", header(0xff, 28, 1), Err((1, 2, vec![0, 28]))),
        ("short update", header(0xff, 22, 2), Err((1, 2, vec![0, 22]))),
        ("long open", header(0xff, 4097, 1), Err((1, 2, vec![16, 1]))),
        ("extended", header(0xff, 4097, 2), Ok(Some(4097))),
        ("longest", header(0xff, 65_535, 2), Ok(Some(65_535))),
        ("type 9", header(0xff, 19, 9), Err((1, 3, vec![9]))),
    ];
    for (name, bytes, expected) in rows {
        let outcome = message_length(&bytes).map_err(|error| match error.reaction {
            Reaction::Reset(n) => (n.code, n.subcode, n.data),
            other => panic!("{other:?}"),
        });
        assert_eq!(outcome, expected, "{name}");
    }
}

#[test]
fn an_open_carries_its_capabilities_and_a_bare_one_means_ipv4() {
    let open = Open {
        asn: Asn(4_200_000_001),
        hold: Seconds(9),
        router_id: [10, 0, 0, 1].into(),
        families: vec![Family::Ipv4Unicast, Family::Ipv6Unicast],
        four_octet_asn: true,
        route_refresh: true,
        enhanced_refresh: true,
        extended_messages: true,
        restart: Some(GracefulRestart {
            restarting: true,
            notification: true,
            time: Seconds(120),
            families: vec![(Family::Ipv4Unicast, true), (Family::Ipv6Unicast, false)],
        }),
        roles: vec![3],
        add_path: vec![(Family::Ipv4Unicast, AddPath::Receive), (Family::Ipv6Unicast, AddPath::Both)],
    };
    let message = encode_open(&open).unwrap();
    assert_eq!(message[20..22], AS_TRANS.to_be_bytes(), "RFC 6793 section 4.2.1");
    assert_eq!(decode(&message, &context()), Ok(Message::Open(open)));
    let mut bare = vec![0xff; 16];
    bare.extend_from_slice(&[0, 29, 1, 4, 0x2f, 0x2c, 0, 180, 10, 0, 0, 1, 0]);
    let Ok(Message::Open(open)) = decode(&bare, &context()) else { panic!() };
    assert_eq!((open.asn, open.families), (Asn(12_076), vec![Family::Ipv4Unicast]));
    assert!(!open.four_octet_asn && !open.route_refresh && open.restart.is_none());
    assert!(open.roles.is_empty() && !open.enhanced_refresh && !open.extended_messages);
    bare[19] = 3;
    let Err(error) = decode(&bare, &context()) else { panic!() };
    assert_eq!(error.reaction, Reaction::Reset(Notification { code: 2, subcode: 1, data: vec![0, 4] }));
}

#[test]
fn ends_of_rib_travel_for_both_families() {
    for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
        let update = Update { end_of_rib: Some(family), ..Update::default() };
        let messages = encode_update(&update, &context()).unwrap();
        assert_eq!(decode_all(&messages, &context())[0].updates, [update]);
    }
    let of_multicast = update_message(&[], &[0x80, 15, 3, 0, 1, 2], &[]);
    assert!(
        decode_all(&[of_multicast], &context())[0].updates.is_empty(),
        "not taken for that of IPv4 unicast"
    );
}

#[test]
fn one_message_with_both_families_becomes_two_updates_and_an_unwanted_family_none() {
    let hop: [u8; 16] = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mp = [&[0x80, 14, 26, 0, 2, 1, 16][..], &hop, &[0, 32, 0x2a, 1, 1, 0x11]].concat();
    let message = update_message(&[], &[&mp, ORIGIN, AS_PATH, NEXT_HOP].concat(), NLRI);
    let decoded = &decode_all(std::slice::from_ref(&message), &context())[0];
    let hops: Vec<_> =
        decoded.updates.iter().map(|u| u.attributes.as_ref().unwrap().next_hop.to_string()).collect();
    assert_eq!((hops, decoded.faults.len()), (vec!["198.18.0.2".to_owned(), "fd00::2".to_owned()], 0));
    let only = Context { families: vec![Family::Ipv6Unicast], ..context() };
    let decoded = &decode_all(&[message], &only)[0];
    assert_eq!((decoded.updates.len(), decoded.faults.len()), (1, 1));
    assert_eq!(decoded.updates[0].announced, ["2a01:111::/32".parse::<IpNet>().unwrap()]);
}

#[test]
fn an_old_peer_gets_as_trans_and_its_as4_path_is_merged() {
    let old = Context { four_octet_asn: false, ..context() };
    let next_hop = "198.18.0.2".parse().unwrap();
    let as_path = AsPath::sequence([64_500, 4_200_000_001, 8_075]);
    let attributes = PathAttributes { as_path, ..PathAttributes::originated(next_hop) };
    let announced = vec!["20.0.0.0/8".parse().unwrap()];
    let update = Update { announced, attributes: Some(Arc::new(attributes)), ..Update::default() };
    let messages = encode_update(&update, &old).unwrap();
    assert!(messages[0].windows(2).any(|pair| pair == AS_TRANS.to_be_bytes()));
    assert_eq!(decode_all(&messages, &old)[0].updates, std::slice::from_ref(&update));
    // A hop that does not know AS4_PATH prepended itself: RFC 6793 section 4.2.3 keeps it in front.
    let mut longer = messages[0].clone();
    let path_at = longer.windows(3).position(|w| w == [0x40, 2, 8]).unwrap();
    longer.splice(path_at + 2..path_at + 5, [10, 2, 4, 0xfb, 0xf5]);
    let length = (longer.len() as u16).to_be_bytes();
    longer.splice(16..18, length);
    let attributes_length = u16::from_be_bytes([longer[21], longer[22]]) + 2;
    longer.splice(21..23, attributes_length.to_be_bytes());
    let merged = &decode_all(&[longer], &old)[0].updates[0];
    let path = &merged.attributes.as_ref().unwrap().as_path;
    assert_eq!(
        path.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
        "64501 64500 4200000001 8075"
    );
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let originated = |hop: &str| PathAttributes::originated(hop.parse().unwrap());
    let set = AsPath { segments: vec![AsPathSegment::Set(vec![Asn(1)])] };
    let many = (0..1100).map(Community).collect();
    let v4: IpNet = "20.0.0.0/8".parse().unwrap();
    let v6: IpNet = "2a01:111::/32".parse().unwrap();
    let rows: [(&str, IpNet, Option<PathAttributes>, &str); 4] = [
        ("no attributes", v4, None, "without attributes"),
        ("a set", v4, Some(PathAttributes { as_path: set, ..originated("198.18.0.1") }), "{1}"),
        (
            "too many communities",
            v4,
            Some(PathAttributes { communities: many, ..originated("198.18.0.1") }),
            "no room",
        ),
        ("no IPv6 next hop", v6, Some(originated("198.18.0.1")), "configure an address"),
    ];
    let context = Context { own: vec![], ..context() };
    for (name, prefix, attributes, words) in rows {
        let update =
            Update { announced: vec![prefix], attributes: attributes.map(Arc::new), ..Update::default() };
        let error = encode_update(&update, &context).unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

#[test]
fn a_next_hop_of_the_other_family_is_replaced_by_our_own_address() {
    let attributes = PathAttributes::originated("198.18.0.9".parse().unwrap());
    let announced = vec!["2a01:111::/32".parse().unwrap()];
    let update = Update { announced, attributes: Some(Arc::new(attributes)), ..Update::default() };
    let messages = encode_update(&update, &context()).unwrap();
    let peer = Context { own: vec![], ..context() };
    let hop = decode_all(&messages, &peer)[0].updates[0].attributes.as_ref().unwrap().next_hop;
    assert_eq!(hop.to_string(), "fd00::1");
}

fn prefix_v4() -> impl Strategy<Value = IpNet> {
    (any::<u32>(), 0..=32u8)
        .prop_map(|(bits, length)| IpNet::V4(Ipv4Net::new(bits.into(), length).unwrap().trunc()))
}

fn prefix_v6() -> impl Strategy<Value = IpNet> {
    (any::<u128>(), 0..=128u8)
        .prop_map(|(bits, length)| IpNet::V6(Ipv6Net::new(bits.into(), length).unwrap().trunc()))
}

fn attributes() -> impl Strategy<Value = PathAttributes> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let path = prop::collection::vec(1..u32::MAX, 0..300).prop_map(|asns| {
        // More than 255 numbers take several segments, as `prepended` makes them.
        let segments =
            asns.chunks(255).map(|chunk| AsPathSegment::Sequence(chunk.iter().copied().map(Asn).collect()));
        AsPath { segments: segments.collect() }
    });
    let aggregator = prop::option::of((1..u32::MAX, any::<u32>(), any::<bool>()));
    let large = prop::collection::hash_set((any::<u32>(), any::<u32>(), any::<u32>()), 0..20);
    let raw = prop::option::of((200..250u8, prop::collection::vec(any::<u8>(), 0..300)));
    let lists =
        (prop::collection::vec(any::<u32>(), 0..60), prop::collection::vec(any::<u64>(), 0..20), large, raw);
    (origin, path, prop::option::of(any::<u32>()), any::<bool>(), aggregator, lists).prop_map(
        |(
            origin,
            as_path,
            med,
            atomic_aggregate,
            aggregator,
            (communities, extended_communities, large, raw),
        )| {
            let is_partial = aggregator.is_some_and(|(_, _, is_partial)| is_partial);
            PathAttributes {
                origin,
                as_path,
                med,
                atomic_aggregate,
                partial: if is_partial { Partial::AGGREGATOR } else { Partial::default() },
                aggregator: aggregator.map(|(asn, id, _)| Aggregator { asn: Asn(asn), router_id: id.into() }),
                communities: communities.into_iter().map(Community).collect(),
                extended_communities: extended_communities.into(),
                large_communities: large
                    .into_iter()
                    .map(|(global, local1, local2)| LargeCommunity(global, local1, local2))
                    .collect(),
                unknown_transitive: raw
                    .into_iter()
                    .map(|(code, value)| RawAttribute { flags: 0xe0, code, value })
                    .collect(),
                ..PathAttributes::originated("198.18.0.2".parse().unwrap())
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_encoded_decodes_to_the_same_in_messages_of_at_most_4096_bytes(
        v4 in prop::collection::vec(prefix_v4(), 0..1500), v6 in prop::collection::vec(prefix_v6(), 0..700),
        gone in prop::collection::vec(prop_oneof![prefix_v4(), prefix_v6()], 0..1000), shared in attributes(),
    ) {
        let context = Context { own: vec!["fd00::2".parse().unwrap()], ..context() };
        let receiver = Context { own: vec![], ..context.clone() };
        let announced: Vec<IpNet> = v4.into_iter().chain(v6).collect();
        let update = Update { withdrawn: gone, announced, attributes: Some(Arc::new(shared.clone())), ..Update::default() };
        let messages = encode_update(&update, &context).unwrap();
        prop_assert!(messages.iter().all(|message| message.len() <= MAX_MESSAGE_BYTES));
        for message in messages.iter().filter(|message| message[19..21] == [0, 0]) {
            let attributes = usize::from(u16::from_be_bytes([message[21], message[22]]));
            let is_classic = message.len() > 23 + attributes;
            prop_assert!(!is_classic || attributes <= shared.wire_bytes_at_most(), "{attributes} octets are more than was said");
        }
        let mut decoded = Update::default();
        for message in decode_all(&messages, &receiver) {
            prop_assert!(message.faults.is_empty(), "{:?}", message.faults);
            for part in message.updates {
                if let Some(attributes) = &part.attributes {
                    let next_hop = if part.announced[0].addr().is_ipv4() { shared.next_hop } else { context.own[0] };
                    prop_assert_eq!(&**attributes, &PathAttributes { next_hop, ..shared.clone() });
                }
                decoded.withdrawn.extend(part.withdrawn);
                decoded.announced.extend(part.announced);
            }
        }
        let sorted = |list: &[IpNet]| { let mut list = list.to_vec(); list.sort(); list };
        prop_assert_eq!(sorted(&decoded.withdrawn), sorted(&update.withdrawn));
        prop_assert_eq!(sorted(&decoded.announced), sorted(&update.announced));
    }

    /// One octet of an attribute's *value* changes (not of MP attributes, whose value holds routes): whatever it means now, RFC 7606
    /// keeps the session, and no route is lost: each is announced or withdrawn.
    #[test]
    fn a_bad_attribute_value_never_ends_a_session_nor_loses_a_route(shared in attributes(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let announced: Vec<IpNet> = vec!["20.0.0.0/8".parse().unwrap(), "40.64.0.0/10".parse().unwrap()];
        let update = Update { announced, attributes: Some(Arc::new(shared)), ..Update::default() };
        let mut message = encode_update(&update, &context()).unwrap().remove(0);
        let values = attribute_values(&message);
        message[values[at.index(values.len())]] = to;
        let receiver = Context { own: vec![], ..context() };
        match decode(&message, &receiver) {
            Ok(Message::Update(decoded)) => {
                let told: usize = decoded.updates.iter().map(|update| update.announced.len() + update.withdrawn.len()).sum();
                prop_assert_eq!(told, 2);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// Any octets of a whole message change: no panic, and an error always says how to end the session.
    #[test]
    fn mutated_messages_never_panic(shared in attributes(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let announced: Vec<IpNet> = vec!["20.0.0.0/8".parse().unwrap(), "2a01:111::/32".parse().unwrap()];
        let withdrawn = announced.clone();
        let update = Update { withdrawn, announced, attributes: Some(Arc::new(shared)), ..Update::default() };
        for mut message in encode_update(&update, &context()).unwrap() {
            for (at, to) in &changes {
                let at = at.index(message.len());
                message[at] = *to;
            }
            if let Ok(Some(length)) = message_length(&message) && length <= message.len() {
                for context in [context(), Context { four_octet_asn: false, internal: true, ..context() }] {
                    if let Err(error) = decode(&message[..length], &context) {
                        prop_assert!(matches!(error.reaction, Reaction::Reset(_)));
                    }
                }
            }
        }
    }
}

/// Where the values of the attributes lie in an UPDATE without withdrawn routes.
fn attribute_values(message: &[u8]) -> Vec<usize> {
    let end = 23 + usize::from(u16::from_be_bytes([message[21], message[22]]));
    let (mut at, mut values) = (23, Vec::new());
    while at < end {
        let extended = message[at] & 0x10 != 0;
        let start = at + if extended { 4 } else { 3 };
        let length = if extended {
            usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]))
        } else {
            message[at + 2].into()
        };
        values.extend(start..start + length);
        at = start + length;
    }
    values
}

/// 10,933 messages of route collectors, captures and other implementations' tests: none panics, and what is whole decodes.
#[test]
fn collected_messages_decode_without_panic() {
    let Some(folder) = std::env::var_os("ERDP_DATA") else {
        println!("DEFERRED: only with ERDP_DATA (`cargo xtask test --data`)");
        return;
    };
    let path = std::path::Path::new(&folder).join("bgp/bgp-messages.tsv.gz");
    let output = std::process::Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
    assert!(output.status.success(), "gzip -dc {}", path.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut outcomes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, _, _, hex] = columns[..] else { continue };
        let Some(bytes) = from_hex(hex) else { continue };
        // The vectors of bodies have no header.
        let whole = message_length(&bytes).is_ok_and(|length| length == Some(bytes.len()));
        let message = if whole { bytes } else { update_message(&[], &bytes, NLRI) };
        let mut best = "error";
        for four_octet_asn in [true, false] {
            let context = Context { four_octet_asn, own: vec![], ..context() };
            match decode(&message, &context) {
                Ok(Message::Update(update)) if !update.faults.is_empty() => {
                    best = if best == "ok" { "ok" } else { "fault" }
                }
                Ok(_) => best = "ok",
                Err(_) => {}
            }
        }
        *outcomes.entry((kind.to_owned(), best.to_owned())).or_default() += 1;
    }
    for ((kind, outcome), count) in &outcomes {
        println!("{count:6} {outcome:6} {kind}");
    }
    let total: usize = outcomes.values().sum();
    assert!(total > 10_000, "{total} messages");
    let good: usize =
        outcomes.iter().filter(|((_, outcome), _)| outcome == "ok").map(|(_, count)| count).sum();
    assert!(good * 10 > total * 8, "only {good} of {total} decode cleanly");
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}
