//! Stage "source": whether a packet may have come from where it came in (C2; RFC 3704 section 2.2, feasible paths).
//!
//! Where the source's own longest match leads is where its packets come from. On an MSEE link that must be Microsoft's side: a source of
//! ours there is a lie, and on private peering a source without any route in the peering's table belongs to another circuit or to
//! nobody. (On Microsoft peering a route filter chooses what is announced, and its services speak from more addresses than that.) An
//! echo request to the router itself must come from the very attachment on which its sender is, because the router's kernel answers
//! it by one routing table of its own, which knows of no routing domain.

use crate::{
    abi::{
        ATTACHMENT_MSEE, ATTACHMENT_SOURCES, ATTACHMENT_SOURCES_ROUTED, Attachment, GROUP_FORWARD,
        GROUP_GLEAN, GROUP_MEMBERS, SIDE_BITS,
    },
    family::{Address, Family},
    reason::DropReason,
    tables::Tables,
};

/// [`leads_to`]: no route.
pub const NOWHERE: u32 = 0;
/// [`leads_to`]: a route that drops, and so is of our own making. No attachment has this number.
pub const OURS: u32 = 0xffff;

/// The attachment that the address's longest match leads to; one of them where there are several.
#[inline(always)]
pub fn leads_to<F: Family, T: Tables>(root: u32, address: Address, tables: &T) -> u32 {
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
    attachment: &Attachment,
    source: Address,
    tables: &T,
) -> Result<(), DropReason> {
    if attachment.flags & ATTACHMENT_SOURCES == 0 {
        return Ok(());
    }
    let from = tables.leads_to::<F>(F::root(attachment), source);
    let is_there = if from == NOWHERE {
        attachment.flags & ATTACHMENT_SOURCES_ROUTED == 0
    } else {
        tables.attachment(from as u16).is_some_and(|it| it.flags & SIDE_BITS == ATTACHMENT_MSEE)
    };
    if is_there { Ok(()) } else { Err(DropReason::ForeignSource) }
}
