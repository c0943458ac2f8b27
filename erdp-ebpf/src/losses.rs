//! What is lost after a redirect: the kernel says so in two tracepoints only.
//!
//! `xdp:xdp_devmap_xmit` (how many frames the driver took and dropped) and `xdp:xdp_redirect_err` (the frame never got to the
//! driver: device down, larger than its MTU). Both see the whole machine, and interface indexes repeat between
//! network namespaces; ours are told apart by counting: a CPU flushes what it has redirected before its NAPI poll ends, so
//! between a redirect of ours and its flush no other router's frames pass there. They are raw tracepoints, which are attached by
//! name: nobody needs to mount or read tracefs for them, so the daemon needs no CAP_SYS_ADMIN.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use erdp_common::abi::counter;

use crate::maps;

/// Places of `sent` and `drops` among the arguments of `xdp_devmap_xmit` since Linux 5.6: (from_dev, to_dev, sent, drops, err).
const SENT: usize = 2;
const DROPS: usize = 3;

/// Frames the egress driver did not take.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub fn erdp_xmit(ctx: RawTracePointContext) -> i32 {
    let (sent, drops) = (u64::from(ctx.arg::<u32>(SENT)), u64::from(ctx.arg::<u32>(DROPS)));
    if let Some(counters) = maps::counters()
        && counters.take_sent(sent + drops) != 0
        && drops > 0
    {
        counters.add(counter::TRANSMIT_LOST, drops, 0);
    }
    0
}

/// Frames that the redirect itself refused.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
pub fn erdp_redirect_err(_ctx: RawTracePointContext) -> i32 {
    if let Some(counters) = maps::counters()
        && counters.take_sent(1) != 0
    {
        counters.add(counter::REDIRECT_FAILED, 1, 0);
    }
    0
}
