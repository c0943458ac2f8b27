//! A packet's whole way, one line a stage; no stage calls another. Verdict, counting and the XDP code happen once, in the
//! program's entry.
//!
//! link (Ethernet, tags) -> attachment -> parse (IP) -> local -> route (longest match, then group) -> rewrite -> transmit.

use network_types::eth::EtherType;

use crate::{
    abi::{
        ATTACHMENT_ENABLED, ATTACHMENT_HAIRPIN, ATTACHMENT_MSEE, Attachment, GROUP_DISCARD, GROUP_FORWARD,
        GROUP_GLEAN, NEXT_HOP_MSEE,
    },
    family::{Datagram, Family, V4, V6},
    fib, group,
    link::{self, Link},
    local,
    packet::Packet,
    reason::{DropReason, PuntKind},
    rewrite,
    tables::Tables,
};

/// What happens to the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has been rewritten and leaves through this attachment.
    Transmit(u16),
    /// It goes to the kernel of the edge, untouched.
    Punt(PuntKind),
    /// It is dropped.
    Drop(DropReason),
}

/// How the verdict came about: what counters, events and `erdp explain` need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// Ingress attachment; 0: none.
    pub attachment: u16,
    /// Group of the longest match; 0: none.
    pub group: u32,
    /// Chosen next hop; 0: none.
    pub next_hop: u16,
    /// With `NeighbourUnresolved` on a connected subnet: the attachment where the destination is to be asked for.
    pub wanted_on: u16,
    /// The destination to ask for.
    pub wanted: [u8; 16],
}

/// Decides about one frame and rewrites it when it is to be transmitted.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, ifindex: u32, tables: &T, trail: &mut Trail) -> Verdict {
    match decide(packet, ifindex, tables, trail) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Drop(reason),
    }
}

#[inline(always)]
fn decide<P: Packet, T: Tables>(
    packet: &mut P,
    ifindex: u32,
    tables: &T,
    trail: &mut Trail,
) -> Result<Verdict, DropReason> {
    let link = link::parse(packet)?;
    let id = link::attachment(&link, ifindex, tables).ok_or(DropReason::UnknownAttachment)?;
    trail.attachment = id;
    let attachment = tables.attachment(id).ok_or(DropReason::BrokenReference)?;
    if attachment.flags & ATTACHMENT_ENABLED == 0 {
        return Err(DropReason::Disabled);
    }
    if link.ether_type == EtherType::Ipv4 as u16 {
        ip::<V4, P, T>(packet, &link, attachment, tables, trail)
    } else if link.ether_type == EtherType::Ipv6 as u16 {
        ip::<V6, P, T>(packet, &link, attachment, tables, trail)
    } else if link.ether_type == EtherType::Arp as u16 {
        local::arp(packet, link.payload_at, attachment).map(Verdict::Punt)
    } else {
        Err(DropReason::NotIp)
    }
}

#[inline(always)]
fn ip<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    link: &Link,
    attachment: &Attachment,
    tables: &T,
    trail: &mut Trail,
) -> Result<Verdict, DropReason> {
    let datagram = F::parse(packet, link.payload_at)?;
    if let Some(ends_here) = local::ip::<F, P, T>(packet, &datagram, trail.attachment, attachment, tables) {
        return ends_here.map(Verdict::Punt);
    }
    if F::is_martian_source(datagram.source) {
        return Err(DropReason::MartianSource);
    }
    let next_hop = route::<F, P, T>(packet, &datagram, attachment, tables, trail)?;
    let comes_from_msee = attachment.flags & ATTACHMENT_MSEE != 0;
    let goes_to_msee = next_hop.flags & NEXT_HOP_MSEE != 0;
    if comes_from_msee == goes_to_msee && attachment.flags & ATTACHMENT_HAIRPIN == 0 {
        return Err(DropReason::Hairpin);
    }
    if datagram.hop_limit <= 1 {
        return Err(DropReason::TtlExpired);
    }
    if datagram.len > u32::from(next_hop.mtu) {
        return Err(DropReason::TooBig);
    }
    rewrite::forward::<F, P>(packet, link, next_hop)?;
    Ok(Verdict::Transmit(next_hop.attachment))
}

/// Longest match in the attachment's routing table, then the member of its group that carries this flow.
#[inline(always)]
fn route<'t, F: Family, P: Packet, T: Tables>(
    packet: &P,
    datagram: &Datagram,
    attachment: &Attachment,
    tables: &'t T,
    trail: &mut Trail,
) -> Result<&'t crate::abi::NextHop, DropReason> {
    trail.group = fib::longest_match::<F, T>(F::root(attachment), datagram.destination, tables);
    if trail.group == 0 {
        return Err(DropReason::NoRoute);
    }
    let found = tables.group(trail.group).ok_or(DropReason::BrokenReference)?;
    match found.kind {
        GROUP_FORWARD => {
            let (id, next_hop) = group::pick(group::flow_hash(packet, datagram), found, tables)?;
            trail.next_hop = id;
            Ok(next_hop)
        }
        GROUP_GLEAN => {
            trail.wanted_on = found.attachment;
            trail.wanted = F::key(datagram.destination);
            Err(DropReason::NeighbourUnresolved)
        }
        GROUP_DISCARD => Err(DropReason::DiscardRoute),
        _ => Err(DropReason::BrokenReference),
    }
}
