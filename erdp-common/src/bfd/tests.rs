//! The stage in virtual time: what refreshes a session, what ends it, what is answered.

use std::vec::Vec;

use super::{
    DEAD, MICROSECOND, UNJUDGED, deadline, is_alive, receive,
    wire::{ControlPacket, State},
};
use crate::{
    abi::{ATTACHMENT_ENABLED, Attachment, PeerKey, Port},
    memory::{Frame, MemoryTables},
    pipeline::{Trail, Verdict, process},
    reason::{DropReason, PuntKind},
    tables::Tables,
};

const MS: u64 = 1_000 * MICROSECOND;
const OURS: u32 = 0x1111_1111;
const THEIRS: u32 = 0x2222_2222;

/// One attachment with a peer of each family, both in session 7; a packet of the peer in state Up.
fn tables() -> MemoryTables {
    let mut tables = MemoryTables::new(0);
    tables.now = 1_000_000 * MS;
    tables.ports.insert(5, Port { attachment: 1, ..Port::default() });
    let mut local6 = [0; 16];
    (local6[0], local6[15]) = (0xfd, 1);
    tables.attachments[1] =
        Attachment { flags: ATTACHMENT_ENABLED, local4: [198, 18, 0, 1], local6, ..Attachment::default() };
    let mut address = local6;
    address[15] = 2;
    tables.peers.insert(PeerKey { attachment: 1, address }, 7);
    address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 198, 18, 0, 2]);
    tables.peers.insert(PeerKey { attachment: 1, address }, 7);
    let template = ControlPacket { my_discriminator: OURS, your_discriminator: THEIRS, ..control(State::Up) };
    let words = template.words().map(u64::from_be_bytes);
    let record = &tables.bfd_sessions[7];
    for (word, value) in [
        (&record.template_0, words[0]),
        (&record.template_1, words[1]),
        (&record.template_2, words[2]),
        (&record.source_port, 50_000),
        (&record.required_min_rx, 50_000),
        (&record.sent, tables.now),
        (&record.answer_after, 50 * MS),
        (&record.answer_for, 120_000 * MS),
        (&record.until, deadline(tables.now, 150 * MS)),
    ] {
        tables.store(word, value);
    }
    tables
}

fn control(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: 0,
        state,
        poll: false,
        is_final: false,
        is_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: THEIRS,
        your_discriminator: OURS,
        desired_min_tx_us: 50_000,
        required_min_rx_us: 50_000,
        required_min_echo_rx_us: 0,
    }
}

fn frame(control: &ControlPacket, ipv6: bool) -> Vec<u8> {
    let payload = control.words().concat();
    let mut frame = Vec::from([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    if ipv6 {
        frame.extend([0x86, 0xdd, 0x6c, 0, 0, 0, 0, 32, 17, 255]);
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    } else {
        frame.extend([0x08, 0, 0x45, 0xc0, 0, 52, 0, 0, 0, 0, 255, 17, 0, 0, 198, 18, 0, 2, 198, 18, 0, 1]);
    }
    frame.extend([0xc0, 0, 0x0e, 0xc8, 0, 32, 0, 0]);
    frame.extend(payload);
    frame
}

/// What becomes of a packet of the peer, by both programs' ways.
fn comes(tables: &MemoryTables, control: &ControlPacket, ipv6: bool) -> (Verdict, Vec<u8>) {
    let mut frame = Frame::new(&frame(control, ipv6));
    let mut trail = Trail::default();
    let verdict = process(&mut frame, 5, tables, &mut trail);
    assert_eq!(verdict, Verdict::Bfd(7), "the router takes it for BFD");
    let verdict = receive(&mut frame, 5, 7, tables, &mut trail);
    (verdict, frame.bytes().to_vec())
}

fn until(tables: &MemoryTables) -> u64 {
    tables.load(&tables.bfd_sessions[7].until)
}

const PUNT: Verdict = Verdict::Punt(PuntKind::Bfd);

#[test]
fn only_a_valid_packet_in_state_up_moves_the_deadline() {
    // RFC 5880 section 6.8.4: multiplier x the slower of what we ask for and what it sends.
    let up = control(State::Up);
    let slow = ControlPacket { desired_min_tx_us: 200_000, ..up };
    let many = ControlPacket { multiplier: 5, ..up };
    let init = control(State::Init);
    let foreign = ControlPacket { your_discriminator: OURS + 1, ..up };
    for ipv6 in [false, true] {
        for (packet, verdict, moved_to) in [
            (up, PUNT, 150),
            (slow, PUNT, 600),
            (many, PUNT, 250),
            (init, PUNT, 50),
            (foreign, Verdict::Drop(DropReason::BfdSession), 50),
        ] {
            let mut tables = tables();
            tables.now += 100 * MS;
            tables.store(&tables.bfd_sessions[7].sent, tables.now);
            assert_eq!(comes(&tables, &packet, ipv6).0, verdict);
            assert_eq!(until(&tables), deadline(tables.now, moved_to * MS), "{packet:?}");
        }
    }
}

#[test]
fn down_and_admin_down_end_the_liveness_at_once_and_up_does_not_bring_it_back() {
    for state in [State::Down, State::AdminDown] {
        for your_discriminator in [OURS, 0] {
            let tables = tables();
            assert!(is_alive(7, &tables));
            comes(&tables, &ControlPacket { your_discriminator, ..control(state) }, false);
            assert_eq!(until(&tables), DEAD);
            assert!(!is_alive(7, &tables), "{state:?} within the same tick");
            comes(&tables, &control(State::Up), false);
            assert!(!is_alive(7, &tables), "only the machine brings it back");
        }
    }
}

#[test]
fn the_deadline_is_kept_to_the_packet_and_expires_once() {
    let mut tables = tables();
    let begin = tables.now;
    for (after_us, alive) in [(0, true), (149_999, true), (150_001, false), (150_002, false)] {
        tables.now = begin + after_us * MICROSECOND;
        assert_eq!(is_alive(7, &tables), alive, "after {after_us} us");
    }
    let record = &tables.bfd_sessions[7];
    assert_eq!(tables.load(&record.expired), 1);
    assert_eq!(tables.load(&record.expired_at), begin + 150_001 * MICROSECOND);
    comes(&tables, &control(State::Up), false);
    assert!(!is_alive(7, &tables), "what has expired stays so");
}

#[test]
fn a_packet_that_comes_after_the_deadline_does_not_hide_that_it_has_passed() {
    let mut tables = tables();
    tables.now += 151 * MS;
    comes(&tables, &control(State::Up), false);
    assert!(!is_alive(7, &tables));
}

#[test]
fn a_session_that_was_never_up_judges_nothing() {
    let mut tables = tables();
    tables.store(&tables.bfd_sessions[7].until, UNJUDGED);
    for state in [State::Down, State::AdminDown, State::Init, State::Up] {
        comes(&tables, &control(state), false);
        tables.now += 10_000 * MS;
        assert!(is_alive(7, &tables), "{state:?}");
    }
}

/// The clock of the policers wraps; so does this one.
#[test]
fn deadlines_survive_the_wrap_of_the_clock() {
    let mut tables = tables();
    tables.now = u64::MAX - 100 * MS;
    tables.store(&tables.bfd_sessions[7].until, deadline(tables.now, 150 * MS));
    tables.now = tables.now.wrapping_add(140 * MS);
    assert!(is_alive(7, &tables));
    tables.now = tables.now.wrapping_add(20 * MS);
    assert!(!is_alive(7, &tables));
}

#[test]
fn the_program_answers_for_a_silent_controller_and_for_so_long_only() {
    let up = control(State::Up);
    let poll = ControlPacket { poll: true, ..up };
    let final_one = ControlPacket { is_final: true, ..up };
    for (silent_ms, packet, answered) in [
        (50, up, false),
        (51, up, true),
        (51, poll, true),
        (51, final_one, false),
        (119_999, up, true),
        (120_000, up, false),
    ] {
        for ipv6 in [false, true] {
            let tables = tables();
            let record = &tables.bfd_sessions[7];
            tables.store(&record.sent, tables.now - silent_ms * MS);
            let (verdict, bytes) = comes(&tables, &packet, ipv6);
            assert_eq!(verdict, if answered { Verdict::Transmit(1) } else { PUNT }, "{silent_ms} {packet:?}");
            if answered {
                is_ours(&bytes, packet.poll, ipv6);
            }
            assert_eq!(tables.load(&record.answered), u64::from(answered));
        }
    }
}

#[test]
fn nothing_but_up_in_a_living_session_is_answered() {
    for (state, word) in
        [(State::Init, None), (State::Down, None), (State::Up, Some(DEAD)), (State::Up, Some(UNJUDGED))]
    {
        let tables = tables();
        let record = &tables.bfd_sessions[7];
        tables.store(&record.sent, tables.now - 1_000 * MS);
        if let Some(word) = word {
            tables.store(&record.until, word);
        }
        assert_eq!(comes(&tables, &control(state), false).0, PUNT);
    }
}

/// The template from us to the peer, with Final for Poll, and checksums that are right.
fn is_ours(bytes: &[u8], poll: bool, ipv6: bool) {
    assert_eq!(bytes[..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    let (ends, udp_at) = if ipv6 { (&bytes[22..54], 54) } else { (&bytes[26..34], 34) };
    assert_eq!(ends.last(), Some(&2));
    let (udp, payload) = bytes[udp_at..].split_at(8);
    assert_eq!(udp[..6], [0xc3, 0x50, 0x0e, 0xc8, 0, 32]);
    let packet = ControlPacket::read(payload);
    let expected = ControlPacket {
        my_discriminator: OURS,
        your_discriminator: THEIRS,
        is_final: poll,
        ..control(State::Up)
    };
    assert_eq!(packet, Ok(expected));
    let words = ends.chunks(2).chain(bytes[udp_at..].chunks(2));
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>() + 17 + 32;
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the UDP checksum");
}
