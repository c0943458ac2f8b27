//! Stage "count": which counters a frame moves. The one list of them, for the XDP program and the in-memory backend.
//!
//! Every frame moves exactly two slots, and so does an ICMP error, so that received + originated + from the kernel = redirected +
//! punted + dropped holds by construction. A frame of a control port that is dropped counts as received on no attachment.

use crate::{
    abi::{CpuCounters, counter},
    packet::Packet,
    pipeline::{Trail, Verdict},
    reason::DropReason,
};

impl CpuCounters {
    /// Adds frames and their bytes to a slot; a slot that does not exist loses them.
    #[inline(always)]
    pub fn add(&mut self, slot: u32, packets: u64, bytes: u64) {
        if let Some(count) = self.slots.get_mut(slot as usize) {
            count.packets += packets;
            count.bytes += bytes;
        }
    }

    /// A loss tracepoint has told of `frames` on this CPU: the answer is how many of them were ours.
    #[inline(always)]
    pub fn take_sent(&mut self, frames: u64) -> u64 {
        let ours = self.unsent.min(frames);
        self.unsent -= ours;
        ours
    }
}

/// Counts a frame that has been decided about. `came` is its length on arrival in bytes; `packet` is what leaves.
#[inline(always)]
pub fn account<P: Packet>(
    verdict: Verdict,
    trail: &Trail,
    came: u64,
    packet: &P,
    counters: &mut CpuCounters,
) {
    let came_by = match verdict {
        Verdict::FromKernel(_) => counter::FROM_KERNEL,
        _ => counter::received(trail.attachment),
    };
    counters.add(came_by, 1, came);
    match verdict {
        Verdict::Transmit(attachment) | Verdict::FromKernel(attachment) => {
            counters.add(counter::redirected(attachment), 1, packet.len() as u64);
            counters.unsent += 1;
        }
        Verdict::Punt(kind) => counters.add(counter::PUNT + kind as u32, 1, came),
        Verdict::PuntVia(kind, _) => {
            counters.add(counter::PUNT + kind as u32, 1, came);
            counters.unsent += 1;
        }
        // The program for BFD has said what became of it: only a missing program gets here.
        Verdict::Bfd(_) => counters.add(counter::DROP + DropReason::BrokenReference as u32, 1, came),
        Verdict::Drop(reason) => counters.add(counter::DROP + reason as u32, 1, came),
    }
}

/// Counts an ICMP error that has been made of a dropped frame and leaves on an attachment.
#[inline(always)]
pub fn originated<P: Packet>(attachment: u16, packet: &P, counters: &mut CpuCounters) {
    let bytes = packet.len() as u64;
    counters.add(counter::ORIGINATED, 1, bytes);
    counters.add(counter::redirected(attachment), 1, bytes);
    counters.unsent += 1;
}
