//! Stage "route", second half: which member of a next-hop group carries a flow.
//!
//! Resilient hashing: a flow's bucket names its member. When that member is dead the flow goes to the live member with the
//! highest weight for this flow (rendezvous hashing, RFC 2992's alternative), so that the flows of the living never move, and
//! those of the dead come back when it returns.

use crate::{
    abi::{GROUP_BUCKETS, GROUP_MEMBERS, Group, NEXT_HOP_RESOLVED, NextHop},
    family::{Address, Datagram},
    reason::DropReason,
    tables::Tables,
};

/// Hash of a flow: addresses, protocol and ports; addresses only for fragments, so that all of them take one way.
#[inline(always)]
pub fn flow_hash(datagram: &Datagram) -> u32 {
    let mut hash = fold(datagram.source) ^ fold(datagram.destination).rotate_left(29);
    if !datagram.is_fragment
        && has_ports(datagram.protocol)
        && let Some(ports) = datagram.transport()
    {
        hash ^= (u64::from(u32::from_be_bytes(ports)) << 8) | u64::from(datagram.protocol);
    }
    (mix(hash) >> 32) as u32
}

/// The next hop for a flow, or why there is none: no live link, or live links whose neighbour is unresolved.
#[inline(always)]
pub fn pick<'t, T: Tables>(
    hash: u32,
    group: &Group,
    tables: &'t T,
) -> Result<(u16, &'t NextHop), DropReason> {
    let bucket = hash as usize & (GROUP_BUCKETS - 1);
    let member = group.buckets.get(bucket).copied().unwrap_or(0) as usize & (GROUP_MEMBERS - 1);
    let id = group.members.get(member).copied().unwrap_or(0);
    match usable(id, tables) {
        Ok(next_hop) => Ok((id, next_hop)),
        Err(why) => pick_other(hash, group, why, tables),
    }
}

/// Rendezvous among the usable members; the best-founded reason when there is none.
///
/// The winner is kept as two plain numbers and looked up again at the end: an `Option` of a tuple makes the compiler copy
/// its undefined payload, which the verifier refuses (`!read_ok`).
#[inline(always)]
fn pick_other<'t, T: Tables>(
    hash: u32,
    group: &Group,
    first: DropReason,
    tables: &'t T,
) -> Result<(u16, &'t NextHop), DropReason> {
    let mut why = first;
    let (mut best, mut highest) = (0, 0);
    for id in group.members {
        match usable(id, tables) {
            Ok(_) => {
                let weight = (mix((u64::from(hash) << 16) | u64::from(id)) >> 32) | 1;
                if weight > highest {
                    (best, highest) = (id, weight);
                }
            }
            Err(DropReason::NeighbourUnresolved) => why = DropReason::NeighbourUnresolved,
            Err(_) => {}
        }
    }
    if best == 0 {
        return Err(why);
    }
    tables.next_hop(best).map(|next_hop| (best, next_hop)).ok_or(DropReason::BrokenReference)
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
    if next_hop.flags & NEXT_HOP_RESOLVED == 0 {
        return Err(DropReason::NeighbourUnresolved);
    }
    Ok(next_hop)
}

/// TCP, UDP, DCCP, SCTP, UDP-Lite: the ports are the first four bytes.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
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
