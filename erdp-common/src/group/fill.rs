//! Which member has which buckets: by weight, and moving as few as can be when members come, go or change their weight. Host side.
//!
//! Shares are Webster's (Sainte-Laguë's) with a first bucket for everyone: bucket by bucket to the member that is furthest below its
//! due, that is with the highest weight / (2 x buckets + 1). Largest remainders would be as near to the dues, but they can give an
//! old member one more bucket when a new one comes (the "new states paradox"), and then flows move between members that nothing has
//! happened to. Quotients cannot: whoever comes or grows takes buckets from the others, whoever goes or shrinks gives them.
//!
//! Which ones is chosen for the day of the return. A link that is down for long has its routes withdrawn, so its group is one without it, and
//! later another one with it again: of a pair each member has the same buckets whoever came first, and what returns takes exactly those that
//! it has left. (Of three and more that holds once all were there in the order of their shares; otherwise a return may exchange some.)

use core::num::NonZero;

use crate::abi::{GROUP_BUCKETS, GROUP_FORWARD, GROUP_MEMBERS, Group};

/// A next hop and its share of the flows, in relation to the others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identifier of the next hop.
    pub next_hop: u16,
    /// Its weight.
    pub weight: NonZero<u8>,
}

/// The record of a group of these members, of which only the first [`GROUP_MEMBERS`] count. Their order breaks ties, so two members
/// are to keep theirs from call to call. Of `before`, the group whose flows this one takes over, as many buckets are kept as the
/// shares allow.
pub fn fill(members: &[Member], before: Option<&Group>) -> Group {
    let members = &members[..members.len().min(GROUP_MEMBERS)];
    let mut group = Group { kind: GROUP_FORWARD, ..Group::default() };
    for (slot, member) in group.members.iter_mut().zip(members) {
        *slot = member.next_hop;
    }
    if members.is_empty() {
        return group;
    }
    let order = apportion(members);
    let Some(before) = before.filter(|before| before.kind == GROUP_FORWARD) else {
        group.buckets = order;
        return group;
    };
    let mut left = [0u32; GROUP_MEMBERS];
    order.iter().for_each(|slot| left[usize::from(*slot)] += 1);
    let mut free = [true; GROUP_BUCKETS];
    let owner = |bucket: usize| {
        let next_hop = before.members[usize::from(before.buckets[bucket]) % GROUP_MEMBERS];
        members.iter().position(|member| member.next_hop == next_hop)
    };
    // Of more than its share a member keeps first what it would have without a past, and so leaves the others' to them: see above.
    for is_by_order in [true, false] {
        for (bucket, slot) in group.buckets.iter_mut().enumerate() {
            let kept = owner(bucket).filter(|at| free[bucket] && left[*at] > 0);
            if let Some(at) = kept.filter(|at| !is_by_order || *at == usize::from(order[bucket])) {
                (*slot, free[bucket]) = (at as u8, false);
                left[at] -= 1;
            }
        }
    }
    // To whose it would be without a past, else to whoever still lacks most: a newcomer's buckets lie among the others'.
    for (bucket, slot) in group.buckets.iter_mut().enumerate().filter(|(bucket, _)| free[*bucket]) {
        let lacks_most = || (0..members.len()).rev().max_by_key(|at| left[*at]).unwrap_or(0);
        let by_order = usize::from(order[bucket]);
        let at = if left[by_order] > 0 { by_order } else { lacks_most() };
        *slot = at as u8;
        left[at] = left[at].saturating_sub(1);
    }
    group
}

/// The member of each bucket, in the order in which they are given away.
fn apportion(members: &[Member]) -> [u8; GROUP_BUCKETS] {
    let mut owned = [0u32; GROUP_MEMBERS];
    core::array::from_fn(|_| {
        // a/b > c/d without division; a member without a bucket goes before all that have one.
        let claims_more = |one: usize, other: usize| {
            let weight = |at: usize| u32::from(members[at].weight.get());
            match (owned[one], owned[other]) {
                (0, 0) => weight(one) > weight(other),
                (0, _) => true,
                (_, 0) => false,
                (mine, theirs) => weight(one) * (2 * theirs + 1) > weight(other) * (2 * mine + 1),
            }
        };
        let next = (1..members.len()).fold(0, |best, at| if claims_more(at, best) { at } else { best });
        owned[next] += 1;
        next as u8
    })
}
