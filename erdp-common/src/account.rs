//! Stage "count": which counters a frame moves. The one list of them, for the XDP program and the in-memory backend.
//!
//! Every frame moves exactly two slots, so that received = redirected + punted + dropped holds by construction.

use crate::{
    abi::counter,
    packet::Packet,
    pipeline::{Trail, Verdict},
};

/// Counts a frame that has been decided about. `came` is its length on arrival in bytes; `packet` is what leaves.
#[inline(always)]
pub fn account<P: Packet>(
    verdict: Verdict,
    trail: &Trail,
    came: u64,
    packet: &P,
    mut count: impl FnMut(u32, u64),
) {
    count(counter::received(trail.attachment), came);
    match verdict {
        Verdict::Transmit(attachment) => count(counter::redirected(attachment), packet.len() as u64),
        Verdict::Punt(kind) => count(counter::PUNT + kind as u32, came),
        Verdict::Drop(reason) => count(counter::DROP + reason as u32, came),
    }
}
