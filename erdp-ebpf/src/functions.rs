//! What the verifier is to walk once: functions of their own.
//!
//! A global function (Linux 5.6) is verified once, for any arguments, and its callers know no more of its result than that it is a
//! number. Inlined, every way through them (the levels at which an IPv6 walk may end, a retried exchange, each set of dead
//! members) would have the verifier walk all that follows in the packet path once more. A call costs some nanoseconds, so what every
//! IPv4 packet needs stays inline. Arguments and results are plain numbers: pointers would need types that the verifier knows.

use erdp_common::{
    bfd, budget,
    classify::Class,
    family::{Address, Family, V4, V6},
    fib, group, local,
    policer::{self, Payment},
    source,
};

use crate::maps::Maps;

/// The group of the longest prefix that covers `destination` in the table whose root starts at line `root`; 0: none.
#[inline(always)]
pub fn longest_match<F: Family>(root: u32, destination: Address) -> u32 {
    if F::BITS == V4::BITS {
        fib::longest_match::<V4, _>(root, destination, &Maps)
    } else {
        erdp_match6(root, destination.high, destination.low)
    }
}

/// IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_match6(root: u32, high: u64, low: u64) -> u32 {
    fib::longest_match::<V6, _>(root, Address { high, low }, &Maps)
}

/// See [`erdp_common::tables::Tables::take_budget`].
#[inline(always)]
pub fn take_budget(kind: u32, attachment: u16) -> bool {
    erdp_budget(kind, u32::from(attachment)) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_budget(kind: u32, attachment: u32) -> u32 {
    u32::from(budget::take(kind, attachment as u16, &Maps))
}

/// See [`erdp_common::tables::Tables::is_public`]. No prefix of the list is longer than 64 bits.
#[inline(always)]
pub fn is_public<F: Family>(address: Address) -> bool {
    let is_public = if F::BITS == V4::BITS { erdp_public4(address.high) } else { erdp_public6(address.high) };
    is_public != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_public4(high: u64) -> u32 {
    u32::from(V4::is_public(Address { high, low: 0 }))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_public6(high: u64) -> u32 {
    u32::from(V6::is_public(Address { high, low: 0 }))
}

/// See [`erdp_common::tables::Tables::by_route`]. IPv6's walk is right in an IPv4 table too, which has leaves at 32 bits at the latest;
/// so one function is enough for both families.
#[inline(always)]
pub fn by_route(root: u32, address: Address) -> u32 {
    erdp_by_route(root, address.high, address.low)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_by_route(root: u32, high: u64, low: u64) -> u32 {
    source::by_route::<V6, _>(root, Address { high, low }, &Maps)
}

/// See [`erdp_common::tables::Tables::pay`].
#[inline(always)]
pub fn pay(policer: u16, class: Class, ip_bytes: u32) -> Payment {
    match erdp_pay(u32::from(policer), class as u32, ip_bytes) {
        0 => Payment::Broken,
        1 => Payment::Refused,
        _ => Payment::Paid,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_pay(policer: u32, class: u32, ip_bytes: u32) -> u32 {
    policer::pay(policer as u16, Class::from_number(class as u8), ip_bytes, &Maps) as u32
}

/// See [`erdp_common::tables::Tables::other_member`].
#[inline(always)]
pub fn other_member(hash: u32, group: u32) -> u32 {
    erdp_other_member(hash, group)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_other_member(hash: u32, group: u32) -> u32 {
    group::other_member(hash, group, &Maps)
}

/// See [`erdp_common::tables::Tables::usable`].
#[inline(always)]
pub fn usable(next_hop: u32) -> u32 {
    erdp_usable(next_hop)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_usable(next_hop: u32) -> u32 {
    group::usable_number(next_hop as u16, &Maps)
}

/// See [`erdp_common::tables::Tables::judge_bfd`].
#[inline(always)]
pub fn judge_bfd(session: u32) -> bool {
    erdp_judge_bfd(session) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_judge_bfd(session: u32) -> u32 {
    u32::from(bfd::judge(session, &Maps))
}

/// See [`erdp_common::tables::Tables::peer_at`].
#[inline(always)]
pub fn peer_at<F: Family>(attachment: u16, source: Address) -> u32 {
    if F::BITS == V4::BITS {
        erdp_peer4(u32::from(attachment), source.high)
    } else {
        erdp_peer6(u32::from(attachment), source.high, source.low)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_peer4(attachment: u32, high: u64) -> u32 {
    local::peer_at::<V4, _>(attachment as u16, Address { high, low: 0 }, &Maps)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_peer6(attachment: u32, high: u64, low: u64) -> u32 {
    local::peer_at::<V6, _>(attachment as u16, Address { high, low }, &Maps)
}
