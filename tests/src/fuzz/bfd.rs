//! Target "bfd": control packets as bytes, and programs of packets, silence and orders for a session. The oracle knows RFC 5880 and not
//! the machine: its table of states (section 6.2), its timers (6.8.3, 6.8.7), what may be sent when.

use anyhow::{Context as _, Result, ensure};
use erdp::bfd::session::{Nanos, Parameters, SLOW_US, Session};
use erdp_common::bfd::wire::{BYTES, ControlPacket, State};

use super::{Octets, must};

const DISCRIMINATOR: u32 = 0x0bfd_0001;
const MILLISECOND: u64 = 1_000_000;
const STEPS_MOST: usize = 400;

/// The first octet says what the session is; the rest is a program.
pub fn run(bytes: &[u8]) {
    must(packet(bytes));
    must(program(bytes));
}

/// What is read is written as it was, but for what the RFC says is ignored; what has authentication, another version or no discriminator is not
/// read (section 6.8.6).
fn packet(bytes: &[u8]) -> Result<()> {
    let read = ControlPacket::read(bytes);
    let Some(&[first, flags, multiplier, length, ref ends @ ..]) = bytes.first_chunk::<BYTES>() else {
        ensure!(read.is_err(), "{} octets are a packet", bytes.len());
        return Ok(());
    };
    let ours = ends.first_chunk::<4>().map(|octets| u32::from_be_bytes(*octets));
    let yours = ends.get(4..8).is_some_and(|octets| octets != [0; 4]);
    let is_valid = first >> 5 == 1
        && usize::from(length) >= BYTES
        && usize::from(length) <= bytes.len()
        && multiplier != 0
        && flags & 0x05 == 0
        && ours != Some(0)
        && (yours || flags >> 6 < 2);
    ensure!(read.is_ok() == is_valid, "{read:?} of {bytes:?}");
    if let Ok(packet) = read {
        let mut expected = bytes[..BYTES].to_vec();
        expected[3] = BYTES as u8;
        ensure!(packet.words().concat() == expected, "{packet:?} of {bytes:?}");
    }
    Ok(())
}

/// The successor of our state when a packet says the peer's (section 6.8.6).
fn successor(ours: State, theirs: State) -> State {
    use State::{AdminDown, Down, Init, Up};
    match (ours, theirs) {
        (AdminDown, _) => AdminDown,
        (_, AdminDown) => Down,
        (Down, Down) => Init,
        (Down, Init) => Up,
        (Down, Up) => Down,
        (Init, Down) => Init,
        (Init, Init | Up) => Up,
        (Up, Down) => Down,
        (Up, Init | Up) => Up,
    }
}

fn program(bytes: &[u8]) -> Result<()> {
    let mut octets = Octets(bytes);
    let kind = octets.octet();
    let interval_us = [10_000, 50_000, 300_000, 2_000_000][usize::from(kind & 3)];
    let multiplier = [1, 3, 5, 255][usize::from(kind >> 2 & 3)];
    let parameters = Parameters {
        interval_us,
        multiplier,
        discriminator: DISCRIMINATOR,
        is_independent: kind & 0x10 != 0,
    };
    let mut now = Nanos(u64::from(kind) * MILLISECOND);
    let mut session = Session::new(parameters, now);
    for _ in 0..STEPS_MOST {
        if octets.is_empty() {
            break;
        }
        step(&mut session, &mut now, &mut octets)?;
        settle(&mut session, now, octets.0.len() as u32)?;
        // Another process takes it up from here.
        let written = serde_json::to_string(&session)?;
        let read: Session = serde_json::from_str(&written).with_context(|| written.clone())?;
        ensure!(read == session, "{written}");
    }
    Ok(())
}

fn step(session: &mut Session, now: &mut Nanos, octets: &mut Octets<'_>) -> Result<()> {
    let before = session.state();
    match octets.octet() {
        kind @ 0..128 => {
            let packet = theirs(kind, octets);
            let is_for_us = matches!(packet.your_discriminator, 0 | DISCRIMINATOR);
            session.handle_packet(*now, &packet);
            let expected = if is_for_us { successor(before, packet.state) } else { before };
            ensure!(session.state() == expected, "{before:?} hears {packet:?}: {:?}", session.state());
        }
        128..192 => {
            let ms = u64::from(octets.word());
            *now = Nanos(now.0 + ms * MILLISECOND / 8);
            let silent = session.detection_us();
            session.handle_timeout(*now);
            // Only who was heard can fall silent.
            ensure!(silent.is_some() || session.state() == before, "{before:?} by nobody's silence");
        }
        kind @ 192..208 => {
            session.handle_admin(*now, kind % 2 == 0);
            ensure!((kind % 2 == 0) == (session.state() == State::AdminDown), "{:?}", session.state());
        }
        208..224 => session.handle_heard(*now),
        _ => {
            session.handle_silence();
            let expected = if before == State::AdminDown { before } else { State::Down };
            ensure!(session.state() == expected, "{before:?} and then silence: {:?}", session.state());
        }
    }
    Ok(())
}

/// A valid packet of the peer.
fn theirs(kind: u8, octets: &mut Octets<'_>) -> ControlPacket {
    let flags = octets.octet();
    let time = |octet: u8| [0, 1, 10_000, 50_000, 300_000, 1_000_000, u32::MAX][usize::from(octet % 7)];
    let timers = octets.octet();
    let your_discriminator = match (kind >> 2 & 3, State::from_bits(kind)) {
        (0, _) => octets.double(),
        (1, State::AdminDown | State::Down) => 0,
        _ => DISCRIMINATOR,
    };
    ControlPacket {
        diagnostic: flags >> 3,
        state: State::from_bits(kind),
        poll: flags & 1 != 0,
        is_final: flags & 2 != 0,
        is_independent: flags & 4 != 0,
        demand: kind & 0x40 != 0,
        multiplier: (timers % 5).max(1),
        my_discriminator: u32::from(octets.octet()).max(1),
        your_discriminator,
        desired_min_tx_us: time(timers >> 4),
        required_min_rx_us: time(timers & 15),
        required_min_echo_rx_us: 0,
    }
}

/// All that is due is sent, each packet is one that may be sent, and then the session waits.
fn settle(session: &mut Session, now: Nanos, random: u32) -> Result<()> {
    let before = session.state();
    for round in 0.. {
        ensure!(round < 4, "it sends without end");
        let Some(packet) = session.poll_transmit(now, random.wrapping_mul(0x9e37_79b9)) else { break };
        let read = ControlPacket::read(&packet.words().concat());
        ensure!(read == Ok(packet) || packet.your_discriminator == 0, "{packet:?} is read as {read:?}");
        ensure!(!(packet.poll && packet.is_final), "section 6.5: P and F in {packet:?}");
        ensure!(packet.state == before, "{packet:?} in {before:?}");
        let is_slow = packet.desired_min_tx_us >= SLOW_US;
        ensure!(packet.state == State::Up || is_slow, "section 6.8.3: {packet:?} while it is not up");
        ensure!(packet.my_discriminator == DISCRIMINATOR && packet.multiplier != 0, "{packet:?}");
    }
    if let Some(change) = session.poll_change() {
        ensure!(change.to == before, "{change:?} in {before:?}");
    }
    ensure!(session.poll_change().is_none(), "a change twice");
    session.handle_timeout(now);
    if session.state() == before && session.poll_change().is_none() {
        let deadline = session.poll_deadline();
        let is_later = deadline.is_none_or(|deadline| deadline > now || session.interval_us() == 0);
        ensure!(is_later, "{deadline:?} at {now:?}: it would be asked without end");
    }
    Ok(())
}
