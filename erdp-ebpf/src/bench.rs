//! What the shipped program is compared with: the contestants of `cargo xtask bench dataplane`, built with the feature `bench`
//! into an object of their own.
//!
//! `bench_driver` puts the frame back into its first state (a contestant changes TTL, MACs and tags, and a test run keeps the
//! frame), writes the next destination into it and tail-calls the contestant. So every run of every contestant, the shipped
//! program included, meets another destination, and the cost of this is in the `empty` contestant that is subtracted. With this
//! feature the program `erdp` of this object finds routes in `BPF_MAP_TYPE_LPM_TRIE` and is otherwise the shipped one.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibLookup, xdp_action},
    helpers::{bpf_fib_lookup, bpf_xdp_adjust_head},
    macros::{map, xdp},
    maps::{Array, DevMap, LpmTrie, ProgramArray, lpm_trie::Key},
    programs::XdpContext,
};
use erdp_common::{
    bench::{Course, LOOKUPS},
    family::{Address, Family, V4, V6},
    packet::Packet as _,
};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{functions, packet::Frame};

/// Two sets of destinations: while one warms the caches, the other is not touched.
#[map]
static DESTINATIONS: Array<Address> = Array::with_max_entries(1 << 17, 0);
#[map]
static COURSE: Array<Course> = Array::with_max_entries(1, 0);
#[map]
static CONTESTANT: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static LPM4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(1 << 21, 0);
#[map]
static LPM6: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(1 << 21, 0);
/// Interface index -> interface, as the kernel's routing answers.
#[map]
static PORTS_BY_INDEX: DevMap = DevMap::with_max_entries(64, 0);

/// Longest match in the kernel's own trie. Functions of their own: the router's stack has no room left for their keys.
#[inline(always)]
pub fn lpm<F: Family>(destination: Address) -> u32 {
    if F::BITS == 32 { bench_lpm4(destination.high) } else { bench_lpm6(destination.high, destination.low) }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_lpm4(high: u64) -> u32 {
    LPM4.get(Key::new(32, ((high >> 32) as u32).to_be_bytes())).copied().unwrap_or(0)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_lpm6(high: u64, low: u64) -> u32 {
    LPM6.get(Key::new(128, bytes(Address { high, low }))).copied().unwrap_or(0)
}

#[inline(always)]
fn bytes(address: Address) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h] = address.high.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = address.low.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[inline(always)]
fn course() -> Option<&'static mut Course> {
    // SAFETY: the value of a one-entry array; test runs happen one at a time.
    COURSE.get_ptr_mut(0).map(|course| unsafe { &mut *course })
}

/// Restores the frame, aims it at the next destination and calls the contestant.
#[xdp]
pub fn bench_driver(ctx: XdpContext) -> u32 {
    if aim(&ctx).is_some() {
        // SAFETY: nothing here needs to be dropped.
        unsafe { CONTESTANT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn aim(ctx: &XdpContext) -> Option<()> {
    let course = course()?;
    let mut frame = Frame::new(ctx);
    // Opaque, or the compiler would subtract pointers in 32 bits, which the verifier refuses.
    let grown = core::hint::black_box(frame.len()) as i32 - course.len as i32;
    if grown != 0 {
        frame.cut_front(grown)?;
    }
    let destination = *DESTINATIONS.get(course.next as u32 & course.mask)?;
    frame.write(0, course.template)?;
    let at = course.destination_at as usize;
    if course.family == 4 {
        // The header's checksum, with which the benchmark of live frames has filled the unused half.
        frame.write(at - 6, (destination.low as u16).to_be_bytes())?;
        frame.write(at, ((destination.high >> 32) as u32).to_be_bytes())?;
    } else {
        frame.write(at, bytes(destination))?;
    }
    settle(course);
    Some(())
}

/// Goes on to the next destination by an atomic addition, which waits until the frame's bytes have gone to the cache. A router finds
/// frames there, where a network card has put them; one that finds them among this CPU's unfinished stores waits for those of which it
/// reads another part than was written at once, and which these are depends on the tags.
#[inline(always)]
fn settle(course: &mut Course) {
    // SAFETY: a field of a map value, aligned.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(&raw mut course.next, 1) };
}

/// The floor: what the driver and the test run cost.
#[xdp]
pub fn bench_empty(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// What every frame meets in the end: the far end of the links in the benchmark of live frames, and its floor.
#[xdp]
pub fn bench_drop(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Moves the frame's front by two tags: what the driver pays to undo a contestant that does so.
#[xdp]
pub fn bench_resize(ctx: XdpContext) -> u32 {
    // SAFETY: the context is the one the kernel has called us with.
    unsafe { bpf_xdp_adjust_head(ctx.ctx, -8) };
    xdp_action::XDP_PASS
}

/// A bare redirect through a device map.
#[xdp]
pub fn bench_redirect(_ctx: XdpContext) -> u32 {
    crate::maps::redirect(1)
}

/// The trie and nothing else, once for each packet: what the look-up costs where it stands.
#[xdp]
pub fn bench_match(ctx: XdpContext) -> u32 {
    let (frame, course) = (Frame::new(&ctx), course());
    let group = match course {
        Some(course) if course.family == 4 => {
            let ip: Option<Ipv4Hdr> = frame.read(EthHdr::LEN);
            ip.map(|ip| functions::longest_match::<V4>(course.root, Address::v4(ip.dst_addr)))
        }
        Some(course) => {
            let ip: Option<Ipv6Hdr> = frame.read(EthHdr::LEN);
            ip.map(|ip| functions::longest_match::<V6>(course.root, Address::v6(ip.dst_addr)))
        }
        None => None,
    };
    if group.is_some_and(|group| group != 0) { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}

/// The plain forwarder that the kernel's own table allows: parse, `bpf_fib_lookup`, hop limit, MACs, redirect. No policer, no
/// classes, no counters, no checks of its own.
#[xdp]
pub fn bench_fib_lookup(ctx: XdpContext) -> u32 {
    forward(&ctx).unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn forward(ctx: &XdpContext) -> Option<u32> {
    let mut frame = Frame::new(ctx);
    let ethernet: EthHdr = frame.read(0)?;
    // SAFETY: plain integers and unions of them: all zero is a value.
    let mut query: FibLookup = unsafe { core::mem::zeroed() };
    query.ifindex = ctx.ingress_ifindex() as u32;
    if ethernet.ether_type == 0x0800u16.to_be() {
        let ip: Ipv4Hdr = frame.read(EthHdr::LEN)?;
        if ip.ttl <= 1 {
            return None;
        }
        query.family = 2; // AF_INET
        query.l4_protocol = ip.proto;
        query.__bindgen_anon_1.tot_len = u16::from_be_bytes(ip.tot_len);
        query.__bindgen_anon_2.tos = ip.tos;
        query.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(ip.src_addr);
        query.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(ip.dst_addr);
        lookup(ctx, &mut query)?;
        V4::decrement_hop_limit(&mut frame, EthHdr::LEN)?;
    } else {
        let ip: Ipv6Hdr = frame.read(EthHdr::LEN)?;
        if ip.hop_limit <= 1 {
            return None;
        }
        query.family = 10; // AF_INET6
        query.l4_protocol = ip.next_hdr;
        query.__bindgen_anon_1.tot_len = u16::from_be_bytes(ip.payload_len) + 40;
        query.__bindgen_anon_3.ipv6_src = words(ip.src_addr);
        query.__bindgen_anon_4.ipv6_dst = words(ip.dst_addr);
        lookup(ctx, &mut query)?;
        V6::decrement_hop_limit(&mut frame, EthHdr::LEN)?;
    }
    frame.write(0, addresses(&query))?;
    PORTS_BY_INDEX.redirect(query.ifindex, 0).ok()
}

#[inline(always)]
fn lookup(ctx: &XdpContext, query: &mut FibLookup) -> Option<()> {
    // SAFETY: the context is the kernel's, the query lives on this stack.
    let found = unsafe { bpf_fib_lookup(ctx.ctx.cast(), query, size_of::<FibLookup>() as i32, 0) };
    (found == i64::from(BPF_FIB_LKUP_RET_SUCCESS)).then_some(())
}

/// Destination and source MAC address. They are not aligned to 4 bytes on the stack, where (unlike in packets) the verifier
/// wants it and the compiler, left alone, would merge these loads.
#[inline(always)]
fn addresses(query: &FibLookup) -> [u8; 12] {
    const SOURCE: usize = core::mem::offset_of!(FibLookup, smac) / 2;
    let halves: *const u16 = core::ptr::from_ref(query).cast();
    // SAFETY: six aligned 16-bit words at the end of the query.
    let half = |at: usize| u32::from(unsafe { halves.add(SOURCE + at).read_volatile() });
    let words = [half(3) | half(4) << 16, half(5) | half(0) << 16, half(1) | half(2) << 16];
    // SAFETY: sizes are equal and every bit pattern is a value; BPF's byte order is the host's.
    unsafe { core::mem::transmute(words) }
}

#[inline(always)]
fn words(bytes: [u8; 16]) -> [u32; 4] {
    // SAFETY: sizes are equal and every bit pattern is a value.
    unsafe { core::mem::transmute(bytes) }
}

/// [`LOOKUPS`] look-ups, each independent of the one before or (`CHAINED`) starting only when its result is there. Written out,
/// because the verifier (Linux 6.18) takes the trie's loop inside another one for an endless one.
#[inline(always)]
fn lookups<const CHAINED: bool>(find: impl Fn(u32, Address) -> u32) -> u32 {
    const { assert!(LOOKUPS == 8) };
    let Some(course) = course() else {
        return xdp_action::XDP_ABORTED;
    };
    let (root, mask, mut at) = (course.root, course.mask, course.next as u32);
    course.next += u64::from(LOOKUPS);
    let mut sum = 0u32;
    let mut step = || {
        let Some(destination) = DESTINATIONS.get(at & mask) else {
            return;
        };
        let group = find(root, *destination);
        sum = sum.wrapping_add(group);
        // Groups are below 2^24, which neither the compiler nor the CPU knows: the next address waits for this result.
        at = at.wrapping_add(if CHAINED { 1 + (group >> 24) } else { 1 });
    };
    step();
    step();
    step();
    step();
    step();
    step();
    step();
    step();
    if sum == u32::MAX { xdp_action::XDP_ABORTED } else { xdp_action::XDP_PASS }
}

/// The loop alone.
#[xdp]
pub fn lookup_none(_ctx: XdpContext) -> u32 {
    lookups::<true>(|_, destination| destination.high as u32 & 0xff)
}

/// The functions, IPv4.
#[xdp]
pub fn lookup_trie4(_ctx: XdpContext) -> u32 {
    lookups::<false>(functions::longest_match::<V4>)
}

/// The functions, IPv4, one after the other.
#[xdp]
pub fn chained_trie4(_ctx: XdpContext) -> u32 {
    lookups::<true>(functions::longest_match::<V4>)
}

/// The functions, IPv6.
#[xdp]
pub fn lookup_trie6(_ctx: XdpContext) -> u32 {
    lookups::<false>(functions::longest_match::<V6>)
}

/// The functions, IPv6, one after the other.
#[xdp]
pub fn chained_trie6(_ctx: XdpContext) -> u32 {
    lookups::<true>(functions::longest_match::<V6>)
}

/// The kernel's functions, IPv4.
#[xdp]
pub fn lookup_lpm4(_ctx: XdpContext) -> u32 {
    lookups::<false>(|_, destination| lpm::<V4>(destination))
}

/// The kernel's functions, IPv4, one after the other.
#[xdp]
pub fn chained_lpm4(_ctx: XdpContext) -> u32 {
    lookups::<true>(|_, destination| lpm::<V4>(destination))
}

/// The kernel's functions, IPv6.
#[xdp]
pub fn lookup_lpm6(_ctx: XdpContext) -> u32 {
    lookups::<false>(|_, destination| lpm::<V6>(destination))
}

/// The kernel's functions, IPv6, one after the other.
#[xdp]
pub fn chained_lpm6(_ctx: XdpContext) -> u32 {
    lookups::<true>(|_, destination| lpm::<V6>(destination))
}
