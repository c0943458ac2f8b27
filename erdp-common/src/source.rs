//! Stage "source": whether a packet may have come from where it came in (C2; RFC 3704 section 2.2, feasible paths).
//!
//! Where the source's own longest match leads is where its packets come from. On an MSEE link that must be Microsoft's side: a source of
//! ours there is a lie, and on private peering a source without any route in the peering's table belongs to another circuit or to
//! nobody. (On Microsoft peering a route filter chooses what is announced, and its services speak from more addresses than that.) An
//! echo request to the router itself must come from the very attachment on which its sender is, because the router's kernel answers
//! it by one routing table of its own, which knows of no routing domain.
//!
//! Where the other edge box has the better way to Microsoft (B1a), what still comes from our own MSEE is Microsoft's too, so that side counts
//! as well.

use crate::{
    abi::{
        ATTACHMENT_MSEE, ATTACHMENT_SOURCES, ATTACHMENT_SOURCES_ROUTED, Attachment, GROUP_FORWARD,
        GROUP_GLEAN, GROUP_MEMBERS, SIDE_BITS,
    },
    family::{Address, Family},
    local::NOT_A_PEER,
    reason::DropReason,
    tables::Tables,
};

/// [`by_route`]: no route.
pub const NOWHERE: u32 = 0;
/// [`by_route`]: a route that drops, and so is of our own making. No attachment has this number.
pub const OURS: u32 = 0xffff;

/// The attachment where the address is, as far as can be told from one where it was seen: by its longest match, or because it is a peer's
/// of that very attachment (the subnets of MSEE links are in no table). One of them where the route leads to several.
#[inline(always)]
pub fn leads_to<F: Family, T: Tables>(root: u32, address: Address, seen_on: u16, tables: &T) -> u32 {
    let found = tables.by_route::<F>(root, address);
    let side = |id: u32| tables.attachment(id as u16).map(|it| it.flags & SIDE_BITS);
    let here = u32::from(seen_on);
    let is_elsewhere = found == NOWHERE || side(found) != side(here);
    if is_elsewhere && tables.peer_at::<F>(seen_on, address) != NOT_A_PEER { here } else { found }
}

/// By the longest match alone.
#[inline(always)]
pub fn by_route<F: Family, T: Tables>(root: u32, address: Address, tables: &T) -> u32 {
    let number = tables.longest_match::<F>(root, address);
    if number == 0 {
        return NOWHERE;
    }
    let Some(group) = tables.group(number) else {
        return NOWHERE;
    };
    match group.kind {
        GROUP_GLEAN => u32::from(group.attachment),
        GROUP_FORWARD => {
            // Whoever has the first share of the flows; all members are on one side.
            let [first, ..] = group.buckets;
            let id = group.members.get(usize::from(first) & (GROUP_MEMBERS - 1)).copied().unwrap_or(0);
            tables.next_hop(id).map_or(NOWHERE, |next_hop| u32::from(next_hop.attachment))
        }
        _ => OURS,
    }
}

/// Whether what comes in on the attachment may have this source.
#[inline(always)]
pub fn check<F: Family, T: Tables>(
    id: u16,
    attachment: &Attachment,
    source: Address,
    tables: &T,
) -> Result<(), DropReason> {
    if attachment.flags & ATTACHMENT_SOURCES == 0 {
        return Ok(());
    }
    let from = leads_to::<F, T>(F::root(attachment), source, id, tables);
    let is_there = if from == NOWHERE {
        attachment.flags & ATTACHMENT_SOURCES_ROUTED == 0
    } else {
        tables.attachment(from as u16).is_some_and(|it| it.flags & ATTACHMENT_MSEE != 0)
    };
    if is_there { Ok(()) } else { Err(DropReason::ForeignSource) }
}
