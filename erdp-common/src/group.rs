//! Stage "route", second half: which member of a next-hop group carries a flow.
//!
//! Resilient hashing: a flow's bucket names its member, and a member has buckets by its weight ([`fill`]). When that member is dead
//! the flow asks other buckets in an order of its own, so that the flows of the living never move, and those of the dead come back
//! when it returns.

use core::hint::black_box;

use crate::{
    abi::{GROUP_BUCKETS, GROUP_MEMBERS, Group, NEXT_HOP_RESOLVED, NextHop},
    bfd,
    family::{Address, Datagram},
    reason::DropReason,
    tables::Tables,
};

/// Hash of a flow: addresses, protocol and ports; addresses only for fragments, so that all of them take one way.
///
/// `symmetric`: both directions of a flow hash alike, because addresses and ports are put in order first, each pair by itself. (So
/// A:p to B:q hashes like A:q to B:p; that is another flow with the same ends.)
#[inline(always)]
pub fn flow_hash(datagram: &Datagram, symmetric: bool) -> u32 {
    let (first, second) = if symmetric {
        in_order(fold(datagram.source), fold(datagram.destination))
    } else {
        (fold(datagram.source), fold(datagram.destination))
    };
    let mut hash = first ^ second.rotate_left(29);
    if !datagram.is_fragment
        && has_ports(datagram.protocol)
        && let Some(ports) = datagram.transport_word()
    {
        let ports = if symmetric {
            let (first, second) = in_order(u64::from(ports >> 16), u64::from(ports & 0xffff));
            first << 16 | second
        } else {
            u64::from(ports)
        };
        hash ^= (ports << 8) | u64::from(datagram.protocol);
    }
    (mix(hash) >> 32) as u32
}

/// The next hop for a flow, or why there is none: no live link, or live links whose neighbour is unresolved.
#[inline(always)]
pub fn pick<'t, T: Tables>(
    hash: u32,
    number: u32,
    group: &Group,
    tables: &'t T,
) -> Result<(u16, &'t NextHop), DropReason> {
    let bucket = hash as usize & (GROUP_BUCKETS - 1);
    let member = group.buckets.get(bucket).copied().unwrap_or(0) as usize & (GROUP_MEMBERS - 1);
    let id = group.members.get(member).copied().unwrap_or(0);
    match usable(id, tables) {
        Ok(next_hop) => Ok((id, next_hop)),
        Err(_) => usable_other(tables.other_member(hash, number), tables),
    }
}

/// The member for a flow whose own is unusable; the best-founded reason when there is none.
///
/// The flow asks other buckets, in an order that is its own and never changes, until one names a usable member. So shares follow the
/// weights, which are in the buckets, without any arithmetic on them; whoever dies or returns moves its own flows only. A flow that
/// finds none in [`DRAWS`] buckets (members of tiny weight are all that is left) takes the next usable member in a circle.
///
/// The answer is a number, so that a backend can make a function of its own of this (see [`Tables::other_member`]): the member's, or
/// [`NONE_USABLE`] and the drop reason's.
#[inline(always)]
pub fn other_member<T: Tables>(hash: u32, number: u32, tables: &T) -> u32 {
    let Some(group) = tables.group(number) else {
        return NONE_USABLE | DropReason::BrokenReference as u32;
    };
    let no_link = NONE_USABLE | DropReason::NoLiveLink as u32;
    let mut why = no_link;
    let mut alive = 0u32;
    for (slot, id) in group.members.iter().enumerate() {
        match tables.usable(u32::from(*id)) {
            0 => alive |= 1 << slot,
            other if other == no_link => {}
            other => why = other,
        }
    }
    if alive == 0 {
        return why;
    }
    let member = draw(hash, group, alive);
    group.members.get(member & (GROUP_MEMBERS - 1)).map_or(0, |id| u32::from(*id))
}

/// Set in the answer of [`other_member`] when it is a drop reason.
pub const NONE_USABLE: u32 = 1 << 16;

#[inline(always)]
fn usable_other<T: Tables>(member: u32, tables: &T) -> Result<(u16, &NextHop), DropReason> {
    if member & NONE_USABLE != 0 {
        let unresolved = member == NONE_USABLE | DropReason::NeighbourUnresolved as u32;
        let broken = member == NONE_USABLE | DropReason::BrokenReference as u32;
        return Err(if unresolved {
            DropReason::NeighbourUnresolved
        } else if broken {
            DropReason::BrokenReference
        } else {
            DropReason::NoLiveLink
        });
    }
    let id = member as u16;
    tables.next_hop(id).map(|next_hop| (id, next_hop)).ok_or(DropReason::BrokenReference)
}

/// Buckets that are asked.
const DRAWS: u32 = 32;

/// The first member in a flow's own order of buckets whose bit is set in `alive`; any if none is.
#[inline(always)]
fn draw(hash: u32, group: &Group, alive: u32) -> usize {
    // A linear congruential generator; its high bits are good, and the bucket number takes the six highest.
    const FACTOR: u64 = 6_364_136_223_846_793_005;
    let mut state = mix(u64::from(hash));
    for _ in 0..DRAWS {
        let bucket = (state >> (u64::BITS - GROUP_BUCKETS.ilog2())) as usize;
        let member = group.buckets.get(bucket).copied().unwrap_or(0) as usize & (GROUP_MEMBERS - 1);
        if alive >> member & 1 != 0 {
            return member;
        }
        state = state.wrapping_mul(FACTOR).wrapping_add(1);
    }
    // Either way round or in leaps, by the hash: else whoever stands behind a gap would get what falls into it.
    let stride = (hash >> 3) as usize | 1;
    let mut member = hash as usize & (GROUP_MEMBERS - 1);
    for _ in 0..GROUP_MEMBERS {
        if alive >> member & 1 != 0 {
            break;
        }
        member = member.wrapping_add(stride) & (GROUP_MEMBERS - 1);
    }
    member
}

/// 0 if a next hop can be used, otherwise why not, as [`other_member`] says it: a number, for a verifier that is to judge each next hop
/// of a group once and not once for each fate of those before it.
#[inline(always)]
pub fn usable_number<T: Tables>(id: u16, tables: &T) -> u32 {
    match usable(id, tables) {
        Ok(_) => 0,
        Err(reason) => NONE_USABLE | reason as u32,
    }
}

#[inline(always)]
fn usable<T: Tables>(id: u16, tables: &T) -> Result<&NextHop, DropReason> {
    if id == 0 {
        return Err(DropReason::NoLiveLink);
    }
    let next_hop = tables.next_hop(id).ok_or(DropReason::BrokenReference)?;
    if !tables.link_is_alive(next_hop.link) {
        return Err(DropReason::NoLiveLink);
    }
    // Most edges have BFD on all next hops or none: one test of a record that is read anyway.
    if next_hop.bfd != 0 && !bfd::is_alive(next_hop.bfd, tables) {
        return Err(DropReason::NoLiveLink);
    }
    if next_hop.flags & NEXT_HOP_RESOLVED == 0 {
        return Err(DropReason::NeighbourUnresolved);
    }
    Ok(next_hop)
}

/// TCP, UDP, DCCP, SCTP, UDP-Lite: the ports are the first four bytes.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// The lesser first. Opaque, or the compiler would compare for every packet and then take no notice, where the other hash is set.
#[inline(always)]
fn in_order(first: u64, second: u64) -> (u64, u64) {
    let (first, second) = black_box((first, second));
    if first > second { (second, first) } else { (first, second) }
}

#[inline(always)]
fn fold(address: Address) -> u64 {
    address.high ^ address.low.rotate_left(17)
}

/// The finaliser of MurmurHash3: every input bit changes every output bit.
#[inline(always)]
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(any(feature = "std", test))]
mod fill;
#[cfg(any(feature = "std", test))]
pub use fill::{Member, fill};

#[cfg(test)]
mod tests;
