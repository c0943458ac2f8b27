//! Packets that are built are read as what was asked for, and whatever text a frame is given in is a frame or a sentence.

use proptest::prelude::*;

use super::*;

const V4: (&str, &str) = ("198.18.64.10", "198.18.192.10");
const V6: (&str, &str) = ("2001:db8::a", "2001:db8:1::b");

fn question((from, to): (&str, &str)) -> Question {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    Question { from, to, ports: (40_000, 443), hop_limit: 64, tags: [Some(100), None] }
}

fn shape(protocol: Protocol) -> PacketShape {
    PacketShape { protocol, ..PacketShape::default() }
}

#[test]
fn a_question_of_no_shape_is_the_packet_that_it_has_always_been() {
    for ends in [V4, V6] {
        let question = question(ends);
        let frame = question.frame().unwrap();
        assert_eq!(frame, question.shaped(&PacketShape::default()).unwrap());
        assert!(frame.ends_with(b"erdp"));
        let read = parse(&frame).unwrap();
        assert_eq!(
            (read.source, read.destination, read.tags.clone()),
            (question.from, question.to, vec![100])
        );
        assert_eq!((read.ports(), read.dscp(), read.ecn()), (Some((40_000, 443)), 0, 0));
        assert_eq!(
            (read.datagram.protocol, read.datagram.hop_limit, read.datagram.is_fragment),
            (17, 64, false)
        );
        assert_eq!(read.datagram.len, if question.to.is_ipv4() { 32 } else { 52 });
    }
}

#[test]
fn a_packet_is_read_as_what_was_asked_for() {
    let protocols = [
        (Protocol::Udp, 17, 17, 28),
        (Protocol::Tcp, 6, 6, 40),
        (Protocol::Icmp, 1, 58, 28),
        (Protocol::Esp, 50, 50, 28),
        (Protocol::Number(47), 47, 47, 20),
    ];
    for (ends, longer) in [(V4, 0), (V6, 20)] {
        for (protocol, number4, number6, least) in protocols {
            let is_ipv4 = longer == 0;
            for size in [least + longer, 576, 1_500, SIZE_MOST] {
                let asked = PacketShape {
                    dscp: 46,
                    ecn: 2,
                    ttl: 3,
                    size: Some(size),
                    tags: Some(vec![7, 8]),
                    ..shape(protocol)
                };
                let frame = question(ends).shaped(&asked).unwrap();
                assert!(frame.len() <= FRAME_MOST, "{} octets", frame.len());
                let read = parse(&frame).unwrap();
                assert_eq!(
                    (read.datagram.len, read.dscp(), read.ecn()),
                    (u32::from(size), 46, 2),
                    "{asked:?}"
                );
                assert_eq!((read.datagram.hop_limit, read.tags), (3, vec![7, 8]));
                assert_eq!(read.datagram.protocol, if is_ipv4 { number4 } else { number6 });
            }
            let short = PacketShape { size: Some(least + longer - 1), ..shape(protocol) };
            let said = question(ends).shaped(&short).unwrap_err();
            assert_eq!(
                said,
                QuestionError::TooShort { size: least + longer - 1, least: usize::from(least + longer) }
            );
        }
    }
}

#[test]
fn the_answer_to_a_packet_goes_back_with_ports_and_addresses_exchanged() {
    for (ends, is_ipv4) in [(V4, true), (V6, false)] {
        for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Icmp, Protocol::Esp, Protocol::Number(47)] {
            let asked = PacketShape { dscp: 46, ecn: 1, size: Some(700), ..shape(protocol) };
            let out = parse(&question(ends).shaped(&asked).unwrap()).unwrap();
            let back = parse(&out.reply([Some(7), None]).unwrap()).unwrap();
            assert_eq!((back.source, back.destination), (out.destination, out.source));
            assert_eq!(
                (back.ports(), back.tags.as_slice()),
                (out.ports().map(|(from, to)| (to, from)), &[7][..])
            );
            assert_eq!((back.dscp(), back.ecn(), back.datagram.len), (46, 1, 700));
            assert_eq!(back.datagram.protocol, out.datagram.protocol, "{protocol:?}, IPv4: {is_ipv4}");
        }
    }
    let mut short = parse(&question(V4).shaped(&shape(Protocol::Tcp)).unwrap()).unwrap();
    short.datagram.len = 28;
    assert_eq!(parse(&short.reply([None; 2]).unwrap()).unwrap().datagram.len, 40, "as long as its headers");
}

#[test]
fn checksums_and_flags_of_a_built_packet_are_right() {
    let asked = PacketShape { tcp_flags: SYN | ACK, size: Some(100), ..shape(Protocol::Tcp) };
    let frame = question(V4).shaped(&asked).unwrap();
    let read = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
    let Some(etherparse::TransportHeader::Tcp(tcp)) = read.transport else { panic!("{read:?}") };
    assert!(tcp.syn && tcp.ack && !tcp.fin && !tcp.rst && !tcp.psh && !tcp.urg && !tcp.ece && !tcp.cwr);
    let Some(etherparse::NetHeaders::Ipv4(ip, _)) = &read.net else { panic!("{:?}", read.net) };
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, read.payload.slice()).unwrap());
}

#[test]
fn what_no_packet_can_have_is_refused_with_the_value_and_what_is_possible() {
    let asked = |edit: fn(&mut PacketShape)| {
        let mut shape = PacketShape::default();
        edit(&mut shape);
        question(V4).shaped(&shape).unwrap_err().to_string()
    };
    let rows: [(String, &[&str]); 6] = [
        (asked(|it| it.dscp = 64), &["dscp 64", "0 to 63"]),
        (asked(|it| it.ecn = 4), &["ecn 4", "0 to 3"]),
        (asked(|it| it.size = Some(65_535)), &["65535", "3482"]),
        (asked(|it| it.tags = Some(vec![4_095])), &["4095", "1 to 4094"]),
        (asked(|it| it.tags = Some(vec![1, 2, 3])), &["3 VLAN tags", "two"]),
        (
            Question { from: V6.0.parse().unwrap(), ..question(V4) }.frame().unwrap_err().to_string(),
            &["address family", "--from"],
        ),
    ];
    for (said, words) in rows {
        words.iter().for_each(|word| assert!(said.contains(word), "{said} has no {word}"));
    }
    for number in [0, 43, 44, 51, 60] {
        let said = question(V6).shaped(&shape(Protocol::Number(number))).unwrap_err();
        assert_eq!(said, QuestionError::ExtensionHeader(number));
        assert!(question(V4).shaped(&shape(Protocol::Number(number))).is_ok());
    }
}

#[test]
fn words_are_read_and_bad_ones_are_named_with_the_remedy() {
    assert_eq!(
        (dscp("ef"), dscp("AF41"), dscp("CS7"), dscp("63"), dscp("BE")),
        (Ok(46), Ok(34), Ok(56), Ok(63), Ok(0))
    );
    assert_eq!(
        (dscp_name(0), dscp_name(46), dscp_name(56), dscp_name(63)),
        (Some("CS0"), Some("EF"), Some("CS7"), None)
    );
    assert_eq!((ecn("ECT0"), ecn("ce"), ecn("1"), ecn_name(2)), (Ok(2), Ok(3), Ok(1), "ect0"));
    assert_eq!((tcp_flags("syn,ACK"), tcp_flags("none"), tcp_flags("fin")), (Ok(SYN | ACK), Ok(0), Ok(1)));
    assert_eq!((tags("none"), tags("100"), tags("5,4094")), (Ok(vec![]), Ok(vec![100]), Ok(vec![5, 4_094])));
    let protocol = |text: &str| text.parse::<Protocol>();
    assert_eq!(
        (protocol("TCP"), protocol("17"), protocol("58")),
        (Ok(Protocol::Tcp), Ok(Protocol::Udp), Ok(Protocol::Icmp))
    );
    assert_eq!((protocol("esp"), protocol("47")), (Ok(Protocol::Esp), Ok(Protocol::Number(47))));
    let bad = [
        (dscp("64").unwrap_err(), "0 to 63"),
        (dscp("EFF").unwrap_err(), "AF41"),
        (ecn("4").unwrap_err(), "ect0"),
        (tcp_flags("syn,oops").unwrap_err(), "cwr"),
        (tags("0").unwrap_err(), "4094"),
        (tags("1,2,3").unwrap_err(), "two"),
        (protocol("256").unwrap_err(), "0 to 255"),
        (protocol("quic").unwrap_err(), "udp"),
    ];
    for (said, remedy) in bad {
        assert!(said.contains(remedy), "{said} has no {remedy}");
    }
}

#[test]
fn a_frame_in_hex_is_read_however_it_is_written_and_refused_with_the_place_of_the_fault() {
    let bytes: Vec<u8> = (0..20).collect();
    let plain = hex_of(&bytes);
    let colons: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    for text in [
        plain.clone(),
        format!("0x{plain}"),
        colons.join(":"),
        format!(" {}\n", colons.join(" ")),
        colons.join("-"),
    ] {
        assert_eq!(frame_of_hex(&text), Ok(bytes.clone()), "{text}");
    }
    assert_eq!(frame_of_hex("  0x0g"), Err(FrameError::NotHex { found: 'g', at: 6 }));
    assert_eq!(frame_of_hex(&plain[..39]), Err(FrameError::Odd(39)));
    assert_eq!(frame_of_hex(""), Err(FrameError::Short(0)));
    assert_eq!(frame_of_hex(&plain[..26]), Err(FrameError::Short(13)));
    assert!(frame_of_hex(&"ab".repeat(FRAME_MOST)).is_ok());
    assert_eq!(frame_of_hex(&"ab".repeat(1 << 20)), Err(FrameError::Long(FRAME_MOST + 1)));
}

proptest! {
    #[test]
    fn any_text_is_a_frame_or_a_sentence(text in "\\PC{0,200}") {
        match frame_of_hex(&text) {
            Ok(frame) => prop_assert!((FRAME_LEAST..=FRAME_MOST).contains(&frame.len())),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn any_bytes_are_a_packet_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(read) = parse(&bytes) {
            prop_assert!(read.datagram.len as usize <= bytes.len());
            prop_assert!(read.tags.len() <= 2);
        }
    }
}
