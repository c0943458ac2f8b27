//! What is lost after a redirect: the kernel says so in two tracepoints only.
//!
//! `xdp:xdp_devmap_xmit` (Linux 4.17; how many frames the driver took and dropped) and `xdp:xdp_redirect_err` (4.16; the frame
//! never got to the driver: device down, larger than its MTU). Both see the whole machine, and interface indexes repeat between
//! network namespaces; ours are told apart by counting: a CPU flushes what it has redirected before its NAPI poll ends, so
//! between a redirect of ours and its flush no other router's frames pass there. Field offsets are read by the controller from
//! the tracepoints' `format` files and set at load time; negative: the field was not found and nothing is counted.

use core::ptr::read_volatile;

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use erdp_common::abi::counter;

use crate::maps;

/// Offsets of the fields `sent` and `drops` in a record of `xdp_devmap_xmit`.
#[unsafe(no_mangle)]
static XMIT_OFFSETS: [i32; 2] = [-1, -1];

/// Frames the egress driver did not take.
#[tracepoint]
pub fn erdp_xmit(ctx: TracePointContext) -> u32 {
    // SAFETY: a global that the loader sets before the program exists.
    let [sent, drops] = unsafe { read_volatile(&raw const XMIT_OFFSETS) };
    if let (Some(sent), Some(drops)) = (field(&ctx, sent), field(&ctx, drops))
        && let Some(counters) = maps::counters()
    {
        let drops = u64::from(drops);
        if counters.take_sent(u64::from(sent) + drops) != 0 && drops > 0 {
            counters.add(counter::TRANSMIT_LOST, drops, 0);
        }
    }
    0
}

/// Frames that the redirect itself refused.
#[tracepoint]
pub fn erdp_redirect_err(_ctx: TracePointContext) -> u32 {
    if let Some(counters) = maps::counters()
        && counters.take_sent(1) != 0
    {
        counters.add(counter::REDIRECT_FAILED, 1, 0);
    }
    0
}

#[inline(always)]
fn field(ctx: &TracePointContext, offset: i32) -> Option<u32> {
    if !(0..256).contains(&offset) {
        return None;
    }
    // SAFETY: read_at copies by bpf_probe_read, which checks the address.
    unsafe { ctx.read_at::<u32>(offset as usize) }.ok()
}
