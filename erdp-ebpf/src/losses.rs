//! What is lost after a redirect: the kernel says so in two tracepoints only.
//!
//! `xdp:xdp_devmap_xmit` (Linux 4.17; the driver took fewer frames than it was given) and `xdp:xdp_redirect_err` (4.16; the
//! frame never got to the driver: device down, larger than its MTU). Field offsets are read by the controller from the
//! tracepoints' `format` files and set at load time; negative: the field was not found and nothing is counted.

use core::ptr::read_volatile;

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use erdp_common::abi::counter;

use crate::maps;

/// Offsets in a tracepoint record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Offsets {
    /// `from_ifindex` or `ifindex`.
    ifindex: i32,
    /// `drops`; unused for redirect errors.
    drops: i32,
}

#[unsafe(no_mangle)]
static XMIT_OFFSETS: Offsets = Offsets { ifindex: -1, drops: -1 };
#[unsafe(no_mangle)]
static REDIRECT_OFFSETS: Offsets = Offsets { ifindex: -1, drops: -1 };

/// Frames the egress driver did not take.
#[tracepoint]
pub fn erdp_xmit(ctx: TracePointContext) -> u32 {
    // SAFETY: a global that the loader sets before the program exists.
    let offsets = unsafe { read_volatile(&raw const XMIT_OFFSETS) };
    if let (Some(ifindex), Some(drops)) = (field(&ctx, offsets.ifindex), field(&ctx, offsets.drops))
        && drops > 0
        && maps::is_port(ifindex)
    {
        maps::count_many(counter::TRANSMIT_LOST, u64::from(drops), 0);
    }
    0
}

/// Frames that the redirect itself refused.
#[tracepoint]
pub fn erdp_redirect_err(ctx: TracePointContext) -> u32 {
    // SAFETY: as above.
    let offsets = unsafe { read_volatile(&raw const REDIRECT_OFFSETS) };
    if let Some(ifindex) = field(&ctx, offsets.ifindex)
        && maps::is_port(ifindex)
    {
        maps::count_many(counter::REDIRECT_FAILED, 1, 0);
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
