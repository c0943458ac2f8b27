//! What is lost after a redirect: the kernel says so in two tracepoints only.
//!
//! `xdp:xdp_devmap_xmit` (how many frames the driver took and dropped) and `xdp:xdp_redirect_err` (the frame never got to the
//! driver: device down, larger than its MTU). Both see the whole machine, and interface indexes repeat between
//! network namespaces; ours are told apart by counting: a CPU flushes what it has redirected before its NAPI poll ends, so
//! between a redirect of ours and its flush no other router's frames pass there. They are raw tracepoints, which are attached by
//! name: nobody needs to mount or read tracefs for them, so the daemon needs no CAP_SYS_ADMIN.
//!
//! A driver that refuses a whole batch because its device is down or has nobody at its other end (ENETDOWN, ENXIO) tells of a lost
//! carrier before the kernel does: that one's link watch waits for the lock of all network configuration, which whoever takes an interface
//! down may hold for tens of milliseconds, and for up to a second after another event. The link's word is written here, so the
//! next packet takes another one, whether a controller lives or not; that the link is back is for the controller to say. Where the
//! kernel has a device's index and namespace is looked up in its type information by the controller ([`KernelLayout`]), as this
//! compiler makes no relocations for it.

use aya_ebpf::{helpers::bpf_probe_read_kernel, macros::raw_tracepoint, programs::RawTracePointContext};
use erdp_common::abi::{KernelLayout, counter};

use crate::maps;

/// Places among the arguments of `xdp_devmap_xmit` since Linux 5.6: (from_dev, to_dev, sent, drops, err).
const TO: usize = 1;
const SENT: usize = 2;
const DROPS: usize = 3;
const ERROR: usize = 4;
/// What drivers say when nothing can leave: no such device or address, network is down.
const DEAD: [i32; 2] = [-6, -100];

/// Frames the egress driver did not take.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub fn erdp_xmit(ctx: RawTracePointContext) -> i32 {
    let (sent, drops) = (u64::from(ctx.arg::<u32>(SENT)), u64::from(ctx.arg::<u32>(DROPS)));
    if let Some(counters) = maps::counters()
        && counters.take_sent(sent + drops) != 0
        && drops > 0
    {
        counters.add(counter::TRANSMIT_LOST, drops, 0);
        if DEAD.contains(&ctx.arg(ERROR)) {
            lost_carrier(ctx.arg(TO));
        }
    }
    0
}

/// The link of a device is dead, if it is one of ours.
#[inline(always)]
fn lost_carrier(device: *const u8) -> Option<()> {
    let KernelLayout { ifindex, net, net_cookie, ours, .. } = maps::kernel_layout()?;
    let namespace: *const u8 = read(device, net)?;
    if read::<u64>(namespace, net_cookie)? == ours {
        maps::kill_link(read(device, ifindex)?);
    }
    Some(())
}

/// A value in a structure of the kernel.
#[inline(always)]
fn read<T>(structure: *const u8, at: u32) -> Option<T> {
    // SAFETY: an address that cannot be read is an error and no fault; every value read is an integer or a pointer that is used in the
    // same way only.
    unsafe { bpf_probe_read_kernel(structure.wrapping_add(at as usize).cast::<T>()) }.ok()
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
