//! Stage "bfd": a BFD packet of a configured peer is checked, noted in its session's record, and handed on; and the question
//! that every forwarded packet may ask of that record: is the peer behind this next hop alive?
//!
//! RFC 5880 (sections 4.1, 6.8.6), RFC 5881 (single hop). The machine that brings sessions up is in user space; what is here goes on
//! when user space stalls or is dead:
//! - *Detection.* A valid packet in state Up moves the record's deadline by the detection time (the peer's multiplier times the
//!   slower of what we ask for and what it sends); nothing else does. A received Down or AdminDown ends the liveness at once. The
//!   forwarding path compares the deadline with the clock itself, so the detection time is kept to the packet, however busy the
//!   controller is. What has expired stays dead until the machine is Up again.
//! - *The answer.* When user space has sent nothing for longer than it should have ([`BfdSession::answer_after`]), the peer's
//!   packet itself is made into ours: the peer is the clock. That ends [`BfdSession::answer_for`] after the last packet of
//!   user space, so that no peer believes for ever in a router that nobody controls.
//!
//! It runs in a program of its own, reached by a tail call, so that the router's stays small.

use network_types::eth::EtherType;

use crate::{
    abi::BfdSession,
    control,
    family::{Family, V4, V6},
    link,
    packet::Packet,
    pipeline::{Trail, Verdict},
    policer::TIME_FRACTION_BITS,
    reason::{DropReason, PuntKind},
    tables::Tables,
};

pub mod wire;

use self::wire::{ControlPacket, State};

/// UDP port of BFD control packets (RFC 5881 section 4).
pub const PORT: u16 = 3784;
/// The deadline of a session whose peer is dead.
pub const DEAD: u64 = 0;
/// The deadline of a session that says nothing about its next hop: it has never been up.
pub const UNJUDGED: u64 = 1;
/// A microsecond in the unit of deadlines, 2^-8 ns.
pub const MICROSECOND: u64 = 1_000 << TIME_FRACTION_BITS;
/// Longer than any tick of the kernel (10 ms at 100 Hz): who has more time left than this is alive for the rest of the tick.
const TICK_MAX: u64 = 16_000 * MICROSECOND;

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
/// RFC 5881 section 5: what has not come from the same wire is discarded.
const HOP_LIMIT: u8 = 255;
const CONTROL_BYTES: usize = 24;
/// The Final bit in the first word.
const FINAL: u64 = 1 << 52;

/// The detection time (RFC 5880 section 6.8.4) in 2^-8 ns: at most 2^58.
#[inline(always)]
pub fn detection_time(multiplier: u8, required_min_rx_us: u32, their_tx_us: u32) -> u64 {
    let slower = if required_min_rx_us > their_tx_us { required_min_rx_us } else { their_tx_us };
    u64::from(multiplier) * u64::from(slower) * MICROSECOND
}

/// A deadline so far from now; never one of the two marks.
#[inline(always)]
pub fn deadline(now: u64, after: u64) -> u64 {
    now.wrapping_add(after) | (UNJUDGED + 1)
}

/// Whether the peer behind a next hop is alive. One load and one comparison for all but the first packet of a tick.
#[inline(always)]
pub fn is_alive<T: Tables>(session: u16, tables: &T) -> bool {
    let Some(record) = tables.bfd_session(u32::from(session)) else {
        return false;
    };
    tables.load(&record.fresh) == !tables.tick() || tables.judge_bfd(u32::from(session))
}

/// The same by the precise clock: a session that expires within the tick is asked again by each packet.
#[inline(always)]
pub fn judge<T: Tables>(session: u32, tables: &T) -> bool {
    let Some(record) = tables.bfd_session(session) else {
        return false;
    };
    let until = tables.load(&record.until);
    if until == DEAD {
        return false;
    }
    let now = tables.now();
    let left = until.wrapping_sub(now);
    if until == UNJUDGED || left.wrapping_sub(TICK_MAX) >> 63 == 0 && left >> 63 == 0 {
        tables.store(&record.fresh, !tables.tick());
        return true;
    }
    if left >> 63 == 0 {
        return true;
    }
    // Whoever sees it first says when; a packet that comes too late finds it dead.
    if tables.exchange(&record.until, until, DEAD) {
        tables.store(&record.expired_at, now);
        bump(&record.expired, tables);
    }
    false
}

/// What becomes of a frame that the router took for BFD of this session's peer.
#[inline(always)]
pub fn receive<P: Packet, T: Tables>(
    packet: &mut P,
    ifindex: u32,
    session: u32,
    tables: &T,
    trail: &mut Trail,
) -> Verdict {
    let received = (|| {
        let link = link::parse(packet)?;
        trail.attachment = link::attachment(&link, ifindex, tables).ok_or(DropReason::UnknownAttachment)?;
        if link.ether_type == EtherType::Ipv4 as u16 {
            control_packet::<V4, P, T>(packet, link.payload_at, session, tables, trail)
        } else {
            control_packet::<V6, P, T>(packet, link.payload_at, session, tables, trail)
        }
    })();
    received.unwrap_or_else(Verdict::Drop)
}

/// [`receive`] for what the router's program has taken for BFD; anything else as it is. For the host, where no tail call is needed.
pub fn finish<P: Packet, T: Tables>(
    packet: &mut P,
    ifindex: u32,
    verdict: Verdict,
    tables: &T,
    trail: &mut Trail,
) -> Verdict {
    match verdict {
        Verdict::Bfd(session) => receive(packet, ifindex, u32::from(session), tables, trail),
        other => other,
    }
}

#[inline(always)]
fn control_packet<F: Header, P: Packet, T: Tables>(
    packet: &mut P,
    at: usize,
    session: u32,
    tables: &T,
    trail: &Trail,
) -> Result<Verdict, DropReason> {
    let hop_limit = F::plain_udp(packet, at).ok_or(DropReason::BfdMalformed)?;
    if hop_limit != HOP_LIMIT {
        return Err(DropReason::BfdHopLimit);
    }
    let udp_at = at + F::LEN;
    let [_, _, _, _, high, low, _, _] =
        packet.read::<[u8; UDP_HEADER]>(udp_at).ok_or(DropReason::Truncated)?;
    let payload_len = usize::from(u16::from_be_bytes([high, low])).wrapping_sub(UDP_HEADER);
    let words = [
        packet.read::<[u8; 8]>(udp_at + UDP_HEADER).ok_or(DropReason::Truncated)?,
        packet.read::<[u8; 8]>(udp_at + UDP_HEADER + 8).ok_or(DropReason::Truncated)?,
        packet.read::<[u8; 8]>(udp_at + UDP_HEADER + 16).ok_or(DropReason::Truncated)?,
    ];
    let control = ControlPacket::parse(words, payload_len).map_err(|_| DropReason::BfdMalformed)?;
    let record = tables.bfd_session(session).ok_or(DropReason::BrokenReference)?;
    let ours = tables.load(&record.template_0) as u32;
    if ours == 0 || control.your_discriminator != ours && control.your_discriminator != 0 {
        return Err(DropReason::BfdSession);
    }
    if !trail.is_question {
        let now = tables.now();
        note(record, words, &control, now, tables);
        if payload_len == CONTROL_BYTES && is_to_be_answered(record, &control, now, tables) {
            answer::<F, P, T>(packet, at, record, control.poll, tables).ok_or(DropReason::Truncated)?;
            bump(&record.answered, tables);
            return Ok(Verdict::Transmit(trail.attachment));
        }
        if !tables.take_budget(PuntKind::Bfd as u32, trail.attachment) {
            return Err(DropReason::PuntBudget);
        }
    }
    control::to_kernel(packet, PuntKind::Bfd, trail.attachment, tables)
}

/// What a valid packet tells.
#[inline(always)]
fn note<T: Tables>(
    record: &BfdSession,
    [first, second, _]: [[u8; 8]; 3],
    control: &ControlPacket,
    now: u64,
    tables: &T,
) {
    let [_, _, _, _, a, b, c, d] = second;
    let timers = u64::from(u32::from_be_bytes([a, b, c, d])) << 32 | u64::from(control.required_min_rx_us);
    tables.store(&record.remote, u64::from_be_bytes(first));
    tables.store(&record.remote_timers, timers);
    bump(&record.received, tables);
    let until = tables.load(&record.until);
    match control.state {
        State::Up if until == UNJUDGED => tables.store(&record.heard, now),
        State::Up => {
            let left = until.wrapping_sub(now);
            let agreed = tables.load(&record.required_min_rx) as u32;
            let time = detection_time(control.multiplier, agreed, control.desired_min_tx_us);
            // Expired is expired, even if no packet has asked yet; and what has ended meanwhile has ended.
            if until != DEAD && left >> 63 == 0 && tables.exchange(&record.until, until, deadline(now, time))
            {
                tables.store(&record.heard, now);
            }
        }
        State::Init => {}
        State::Down | State::AdminDown => {
            if until != UNJUDGED {
                tables.store(&record.until, DEAD);
                tables.store(&record.fresh, 0);
            }
        }
    }
}

#[inline(always)]
fn is_to_be_answered<T: Tables>(record: &BfdSession, control: &ControlPacket, now: u64, tables: &T) -> bool {
    let most = tables.load(&record.answer_for);
    let silent_for = now.wrapping_sub(tables.load(&record.sent));
    most != 0
        && control.state as u8 == State::Up as u8
        && !control.is_final
        && tables.load(&record.until) > UNJUDGED
        && silent_for > tables.load(&record.answer_after)
        && silent_for < most
}

/// Makes the peer's packet into ours: ends swapped, our port, the words of the template, Final for Poll.
#[inline(always)]
fn answer<F: Header, P: Packet, T: Tables>(
    packet: &mut P,
    at: usize,
    record: &BfdSession,
    poll: bool,
    tables: &T,
) -> Option<()> {
    let to: [u8; 6] = packet.read(0)?;
    let from: [u8; 6] = packet.read(6)?;
    packet.write(0, from)?;
    packet.write(6, to)?;
    let ends = F::swap(packet, at)?;
    let final_bit = if poll { FINAL } else { 0 };
    let first = tables.load(&record.template_0) | final_bit;
    let (second, third) = (tables.load(&record.template_1), tables.load(&record.template_2));
    let port = tables.load(&record.source_port) as u16;
    let header = u64::from(port) << 48 | u64::from(PORT) << 32 | ((UDP_HEADER + CONTROL_BYTES) as u64) << 16;
    let mut sum = ends + u64::from(UDP) + (UDP_HEADER + CONTROL_BYTES) as u64;
    for word in [header, first, second, third] {
        sum += (word >> 32) + (word & 0xffff_ffff);
    }
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !(sum as u16);
    // RFC 768: zero would say that there is none.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    let udp_at = at + F::LEN;
    packet.write(udp_at, (header | u64::from(checksum)).to_be_bytes())?;
    packet.write(udp_at + UDP_HEADER, first.to_be_bytes())?;
    packet.write(udp_at + UDP_HEADER + 8, second.to_be_bytes())?;
    packet.write(udp_at + UDP_HEADER + 16, third.to_be_bytes())
}

#[inline(always)]
fn bump<T: Tables>(counter: &crate::abi::Word, tables: &T) {
    tables.store(counter, tables.load(counter).wrapping_add(1));
}

/// What the two versions of IP do differently here.
trait Header: Family {
    /// Bytes of the header.
    const LEN: usize;
    /// The hop limit of a header without options or extensions that has UDP behind it; `None`: it is another.
    fn plain_udp<P: Packet>(packet: &P, at: usize) -> Option<u8>;
    /// Swaps source and destination; the answer is the sum of their words of four bytes.
    fn swap<P: Packet>(packet: &mut P, at: usize) -> Option<u64>;
}

impl Header for V4 {
    const LEN: usize = 20;

    #[inline(always)]
    fn plain_udp<P: Packet>(packet: &P, at: usize) -> Option<u8> {
        let [version, _] = packet.read::<[u8; 2]>(at)?;
        let [hop_limit, protocol] = packet.read::<[u8; 2]>(at + 8)?;
        (version == 0x45 && protocol == UDP).then_some(hop_limit)
    }

    #[inline(always)]
    fn swap<P: Packet>(packet: &mut P, at: usize) -> Option<u64> {
        let source: [u8; 4] = packet.read(at + 12)?;
        let destination: [u8; 4] = packet.read(at + 16)?;
        packet.write(at + 12, destination)?;
        packet.write(at + 16, source)?;
        Some(u64::from(u32::from_be_bytes(source)) + u64::from(u32::from_be_bytes(destination)))
    }
}

impl Header for V6 {
    const LEN: usize = 40;

    #[inline(always)]
    fn plain_udp<P: Packet>(packet: &P, at: usize) -> Option<u8> {
        let [next, hop_limit] = packet.read::<[u8; 2]>(at + 6)?;
        (next == UDP).then_some(hop_limit)
    }

    #[inline(always)]
    fn swap<P: Packet>(packet: &mut P, at: usize) -> Option<u64> {
        let mut sum = 0;
        for half in [0, 8] {
            let source: [u8; 8] = packet.read(at + 8 + half)?;
            let destination: [u8; 8] = packet.read(at + 24 + half)?;
            packet.write(at + 8 + half, destination)?;
            packet.write(at + 24 + half, source)?;
            let (source, destination) = (u64::from_be_bytes(source), u64::from_be_bytes(destination));
            sum +=
                (source >> 32) + (source & 0xffff_ffff) + (destination >> 32) + (destination & 0xffff_ffff);
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests;
