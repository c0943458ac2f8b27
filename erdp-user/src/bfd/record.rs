//! What the machine and the packet path tell each other, by the words of a session's record.
//!
//! The packet path writes when it has heard the peer and until when the peer is alive; the machine writes the packet to answer with, when it
//! has sent last, and the beginning and the end of a session's life.

use std::net::IpAddr;

use erdp_common::{
    abi::{BfdSession, PeerKey},
    bfd::{DEAD, MICROSECOND, UNJUDGED, deadline},
    policer::TIME_FRACTION_BITS,
};

use super::{
    SessionConfig,
    session::{Nanos, Session},
};
use crate::dataplane::sessions::{load, store};
use erdp_common::bfd::wire::{BYTES, ControlPacket, State};

/// With fewer intervals in the peer's detection time its packets alone would not keep it content: the first that is answered comes up to
/// two intervals after our last one.
pub const MULTIPLIER_MIN: u8 = 3;

/// Times of the record: 2^-8 ns.
fn units(now: Nanos) -> u64 {
    now.0 << TIME_FRACTION_BITS
}

/// A time of the record that is not long ago.
fn nanos(word: u64, now: Nanos) -> Nanos {
    let ago = units(now).wrapping_sub(word) >> TIME_FRACTION_BITS;
    Nanos(now.0.saturating_sub(ago))
}

/// The key by which the packet path finds the session.
pub fn key(config: &SessionConfig) -> PeerKey {
    peer_key(config.attachment, config.remote)
}

/// The key of a peer on an attachment.
pub fn peer_key(attachment: u16, remote: IpAddr) -> PeerKey {
    let address = match remote {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    PeerKey { attachment: u64::from(attachment), address }
}

/// Whether the record is of this peer: a process before us has had a session with it.
pub fn is_of(record: &BfdSession, key: PeerKey) -> bool {
    load(&record.template_0) != 0 && load(&record.owner) == key.attachment && {
        let [first, second] = halves(key.address);
        load(&record.address_0) == first && load(&record.address_1) == second
    }
}

/// Our discriminator in a session that a process before us has had; 0: none.
pub fn discriminator(record: &BfdSession) -> u32 {
    load(&record.template_0) as u32
}

/// The session that a process before us has brought up and the packet path has kept alive.
pub fn adopt(record: &BfdSession, config: &SessionConfig, now: Nanos) -> Option<Session> {
    let until = load(&record.until);
    let is_alive = until > UNJUDGED && until.wrapping_sub(units(now)) >> 63 == 0;
    if !is_of(record, key(config)) || !is_alive {
        return None;
    }
    let words =
        [&record.template_0, &record.template_1, &record.template_2].map(|word| load(word).to_be_bytes());
    let ours = ControlPacket::parse(words, BYTES).ok()?;
    let (flags, timers) = (load(&record.remote), load(&record.remote_timers));
    let to_us = u64::from(ours.my_discriminator) << 32 | timers >> 32;
    let words = [flags, to_us, timers << 32].map(u64::to_be_bytes);
    let theirs = ControlPacket::parse(words, BYTES).ok()?;
    Session::adopt(config.parameters, &ours, &theirs, nanos(load(&record.heard), now), now)
}

/// The address's words as they are in memory.
fn halves(address: [u8; 16]) -> [u64; 2] {
    let (words, _) = address.as_chunks::<8>();
    [0, 1].map(|at| words.get(at).copied().map_or(0, u64::from_ne_bytes))
}

/// A session begins: nothing was heard. A strict one is dead until it is up; and so is one that was dead when a process before us ended.
pub fn begin(record: &BfdSession, config: &SessionConfig, source_port: u16) {
    let was_dead = is_of(record, key(config)) && load(&record.until) == DEAD;
    for word in record.words() {
        store(word, 0);
    }
    let [first, second] = halves(key(config).address);
    store(&record.address_0, first);
    store(&record.address_1, second);
    store(&record.owner, u64::from(config.attachment));
    store(&record.source_port, u64::from(source_port));
    store(&record.until, if config.strict || was_dead { DEAD } else { UNJUDGED });
}

/// The session is over: the packet path refuses its packets and forwards by the link alone.
pub fn end(record: &BfdSession) {
    store(&record.answer_for, 0);
    store(&record.template_0, 0);
    store(&record.until, UNJUDGED);
}

/// What is sent now, for the packet path to answer with; whether it may, and when our silence begins to be one.
pub fn publish(record: &BfdSession, session: &Session, config: &SessionConfig) {
    let may_answer =
        session.parameters().is_independent && session.state() == State::Up && !session.is_silenced();
    if !may_answer {
        store(&record.answer_for, 0);
    }
    let packet = ControlPacket { poll: false, ..session.packet() };
    let [first, second, third] = packet.words().map(u64::from_be_bytes);
    store(&record.template_0, first);
    store(&record.template_1, second);
    store(&record.template_2, third);
    store(&record.required_min_rx, u64::from(session.parameters().interval_us));
    // An eighth of an interval is for the scheduler.
    let interval = u64::from(session.interval_us()) * MICROSECOND;
    store(&record.answer_after, interval + interval / 8);
    if may_answer {
        store(&record.answer_for, u64::from(config.absence_s) * 1_000_000 * MICROSECOND);
    }
}

/// A packet has left.
pub fn sent(record: &BfdSession, now: Nanos) {
    store(&record.sent, units(now));
}

/// The session has come up: the next hop lives from now on for a detection time, and again with each packet.
pub fn came_up(record: &BfdSession, session: &Session, now: Nanos) {
    let time = session.detection_us().unwrap_or_default() * MICROSECOND;
    store(&record.until, deadline(units(now), time));
}

/// The next hop is dead.
pub fn went_down(record: &BfdSession) {
    store(&record.until, DEAD);
    store(&record.fresh, 0);
}

/// The session says nothing about the next hop any more.
pub fn judge_nothing(record: &BfdSession) {
    store(&record.until, UNJUDGED);
}

/// Whether the session has a say about the next hop.
pub fn is_judged(record: &BfdSession) -> bool {
    load(&record.until) != UNJUDGED
}

/// How often the deadline has passed.
pub fn expired(record: &BfdSession) -> u64 {
    load(&record.expired)
}

/// What the packet path has heard or found out since the machine was told last.
pub fn take_news(record: &BfdSession, session: &mut Session, seen_expired: &mut u64, now: Nanos) {
    let heard = load(&record.heard);
    if heard != 0 {
        session.handle_heard(nanos(heard, now));
    }
    let expired = load(&record.expired);
    if std::mem::replace(seen_expired, expired) != expired && session.state() == State::Up {
        session.handle_silence();
    }
}
