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
use erdp_common::bfd::wire::{ControlPacket, State};

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
    let address = match config.remote {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    PeerKey { attachment: u64::from(config.attachment), address }
}

/// A session begins: nothing was heard. A strict one is dead until it is up.
pub fn begin(record: &BfdSession, config: &SessionConfig, source_port: u16) {
    for word in record.words() {
        store(word, 0);
    }
    let address = key(config).address;
    let (first, second) = address.split_at(8);
    let word = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
    store(&record.address_0, word(first));
    store(&record.address_1, word(second));
    store(&record.owner, u64::from(config.attachment));
    store(&record.source_port, u64::from(source_port));
    store(&record.until, if config.strict { DEAD } else { UNJUDGED });
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
