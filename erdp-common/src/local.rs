//! Stage "local": what is for this router itself, and nothing else, goes to the kernel.
//!
//! Local is (attachment, address, configured peer) (invariant 11): ARP (RFC 826) and neighbour discovery (RFC 4861) for our own
//! addresses on this very attachment, BGP and BFD from a configured peer of this attachment, echo to our addresses; and what asks for the
//! multicast groups of these addresses (MLD), because a switch that gets no answer sends us no more neighbour solicitations (RFC 4861
//! section 7.2.1). IPv4 needs no likeness of that: its ARP is broadcast, which no switch prunes, so IGMP stays outside.

use network_types::{
    arp::ArpHdr,
    ip::{IpProto, Ipv6Hdr},
};

use crate::{
    abi::{Attachment, PeerKey},
    bfd,
    family::{Address, Datagram, Family, V6},
    packet::Packet,
    pipeline::Verdict,
    reason::{DropReason, PuntKind},
    source,
    tables::Tables,
};

/// TCP port of BGP (RFC 4271 section 8).
pub const BGP_PORT: u16 = 179;

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Multicast listener queries, the reports and "done" of version 1 (RFC 2710), the report of version 2 (RFC 3810).
const LISTENER_QUERY: u8 = 130;
const LISTENER_REPORT: u8 = 131;
const LISTENER_DONE: u8 = 132;
const LISTENER_REPORT_2: u8 = 143;
const ALL_NODES: Address = Address { high: 0xff02 << 48, low: 1 };
/// ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
const SOLICITED_NODE: Address = Address { high: 0xff02 << 48, low: 0x0000_0001_ff00_0000 };

/// ARP: requests and replies for our address, and gratuitous ones, which tell that a neighbour's MAC address has changed. From somebody who
/// has our address it is nothing for the kernel, which does not know its own address from another's.
#[inline(always)]
pub fn arp<P: Packet>(packet: &P, at: usize, attachment: &Attachment) -> Result<PuntKind, DropReason> {
    const SENDER: usize = 14;
    const TARGET: usize = 24;
    let sender: [u8; 4] = packet.read(at + SENDER).ok_or(DropReason::Truncated)?;
    let target: [u8; 4] = packet.read(at + TARGET).ok_or(DropReason::Truncated)?;
    if sender == attachment.local4 && sender != [0; 4] {
        return Err(DropReason::AddressConflict);
    }
    let for_us = target == attachment.local4 && target != [0; 4];
    if for_us || sender == target { Ok(PuntKind::Arp) } else { Err(DropReason::ArpNotForUs) }
}

/// `Some` when the packet ends here: for the kernel, or dropped; `None` when it is to be forwarded.
#[inline(always)]
pub fn ip<F: Family, P: Packet, T: Tables>(
    packet: &P,
    at: usize,
    datagram: &Datagram,
    attachment_id: u16,
    attachment: &Attachment,
    tables: &T,
) -> Option<Result<Verdict, DropReason>> {
    let ours = F::is_ours(datagram.destination, attachment);
    if !ours && F::is_forwardable(datagram.destination) {
        return None;
    }
    let link_local = discovery::<F>(datagram, ours, attachment)
        .or_else(|| listeners::<F, P>(packet, at, datagram, ours, attachment));
    if let Some(kind) = link_local {
        return Some(kind.map(Verdict::Punt));
    }
    Some(if !ours {
        Err(DropReason::NotUnicast)
    } else if is_echo::<F>(datagram) {
        // The kernel would answer it wherever its sender is, in whatever domain.
        if is_on_link::<F, T>(datagram.source, attachment_id, attachment, tables) {
            Ok(Verdict::Punt(PuntKind::Echo))
        } else {
            Err(DropReason::ForeignSource)
        }
    } else {
        of_peer::<F, T>(datagram, attachment_id, tables)
    })
}

/// Neighbour discovery, types 133 to 137; `None` for anything else. RFC 4861 section 7.1: the hop limit must be 255.
#[inline(always)]
fn discovery<F: Family>(
    datagram: &Datagram,
    ours: bool,
    attachment: &Attachment,
) -> Option<Result<PuntKind, DropReason>> {
    if F::BITS != 128 || datagram.protocol != F::ICMP {
        return None;
    }
    let [kind, ..] = datagram.transport()?;
    if !(133..=137).contains(&kind) {
        return None;
    }
    let to_us = ours
        || match kind {
            NEIGHBOUR_SOLICITATION => is_solicited_node(datagram.destination, attachment),
            _ => datagram.destination == ALL_NODES,
        };
    let wanted = matches!(kind, NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT);
    if wanted && F::is_ours(datagram.source, attachment) {
        return Some(Err(DropReason::AddressConflict));
    }
    Some(if to_us && wanted && datagram.hop_limit == 255 {
        Ok(PuntKind::NeighbourDiscovery)
    } else {
        Err(DropReason::NdNotForUs)
    })
}

/// Multicast listener discovery; `None` for anything else. To the kernel goes what asks for our groups, of either version: a query to all
/// nodes, to one of our solicited-node groups, or to an address of ours (RFC 3810 section 5.1.15). It must be from this link by all that
/// RFC 3810 section 5 says of it: a link-local source, a hop limit of 1, and "router alert" in a hop-by-hop header.
///
/// The reports of others are for routers and switches. A host would only let itself be silenced by them (RFC 2710 section 4), and then a
/// switch between the two would prune it.
#[inline(always)]
fn listeners<F: Family, P: Packet>(
    packet: &P,
    at: usize,
    datagram: &Datagram,
    ours: bool,
    attachment: &Attachment,
) -> Option<Result<PuntKind, DropReason>> {
    if F::BITS != 128 || datagram.protocol != F::ICMP {
        return None;
    }
    let [kind, ..] = datagram.transport()?;
    if !matches!(kind, LISTENER_QUERY | LISTENER_REPORT | LISTENER_DONE | LISTENER_REPORT_2) {
        return None;
    }
    let destination = datagram.destination;
    let asks_us = kind == LISTENER_QUERY
        && (ours || destination == ALL_NODES || is_solicited_node(destination, attachment));
    let is_of_this_link =
        is_link_local::<F>(datagram.source) && datagram.hop_limit == 1 && has_router_alert(packet, at);
    Some(if asks_us && is_of_this_link && !datagram.is_fragment {
        Ok(PuntKind::NeighbourDiscovery)
    } else {
        Err(DropReason::NdNotForUs)
    })
}

/// Whether the first thing behind the IPv6 header at `at` is a hop-by-hop header with nothing but "router alert" for MLD (RFC 2711
/// section 2.1) and padding, in either order, before ICMPv6.
#[inline(always)]
fn has_router_alert<P: Packet>(packet: &P, at: usize) -> bool {
    const NEXT_HEADER: usize = 6;
    const HOP_BY_HOP: u8 = 0;
    const ROUTER_ALERT: [u8; 4] = [5, 2, 0, 0];
    let Some([next, _]) = packet.read::<[u8; 2]>(at + NEXT_HEADER) else {
        return false;
    };
    let Some([behind, len, a, b, c, d, e, f]) = packet.read::<[u8; 8]>(at + Ipv6Hdr::LEN) else {
        return false;
    };
    next == HOP_BY_HOP
        && behind == V6::ICMP
        && len == 0
        && ([a, b, c, d] == ROUTER_ALERT || [c, d, e, f] == ROUTER_ALERT)
}

/// fe80::/10.
#[inline(always)]
fn is_link_local<F: Family>(address: Address) -> bool {
    F::BITS == 128 && address.high >> 54 == 0xfe80 >> 6
}

/// Whether the group address is made of the last 24 bits of one of our addresses.
#[inline(always)]
fn is_solicited_node(group: Address, attachment: &Attachment) -> bool {
    let of = |address: [u8; 16]| SOLICITED_NODE.low | (Address::v6(address).low & 0x00ff_ffff);
    group.high == SOLICITED_NODE.high
        && (group.low == of(attachment.local6) || group.low == of(attachment.link_local6))
}

/// Whether the address is on this attachment: its link-local, or one that the table leads to here.
#[inline(always)]
fn is_on_link<F: Family, T: Tables>(
    address: Address,
    attachment_id: u16,
    attachment: &Attachment,
    tables: &T,
) -> bool {
    is_link_local::<F>(address)
        || source::leads_to::<F, T>(F::root(attachment), address, attachment_id, tables)
            == u32::from(attachment_id)
}

#[inline(always)]
fn is_echo<F: Family>(datagram: &Datagram) -> bool {
    let kind = datagram.transport();
    datagram.protocol == F::ICMP
        && !datagram.is_fragment
        && kind.is_some_and(|[kind, ..]| {
            let [request, reply] = F::ECHO;
            kind == request || kind == reply
        })
}

/// BGP or BFD of a configured peer.
#[inline(always)]
fn of_peer<F: Family, T: Tables>(
    datagram: &Datagram,
    attachment: u16,
    tables: &T,
) -> Result<Verdict, DropReason> {
    let Some([a, b, c, d]) = datagram.transport() else {
        return Err(DropReason::LocalNotAllowed);
    };
    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let is_bgp = datagram.protocol == IpProto::Tcp as u8 && (from == BGP_PORT || to == BGP_PORT);
    let is_bfd = datagram.protocol == IpProto::Udp as u8 && to == bfd::PORT;
    if datagram.is_fragment || !is_bgp && !is_bfd {
        return Err(DropReason::LocalNotAllowed);
    }
    let session = tables.peer_at::<F>(attachment, datagram.source);
    if session == NOT_A_PEER || is_bfd && session == 0 {
        return Err(DropReason::LocalNotAllowed);
    }
    Ok(if is_bgp { Verdict::Punt(PuntKind::Bgp) } else { Verdict::Bfd(session as u16) })
}

/// The BFD session of the configured peer with this address on an attachment, 0 being none; or [`NOT_A_PEER`]. A number, so that a
/// backend can make a function of its own of this.
#[inline(always)]
pub fn peer_at<F: Family, T: Tables>(attachment: u16, source: Address, tables: &T) -> u32 {
    let key = PeerKey { attachment: u64::from(attachment), address: F::key(source) };
    tables.peer(&key).unwrap_or(NOT_A_PEER)
}

/// Nobody who may speak to this router.
pub const NOT_A_PEER: u32 = u32::MAX;

const _: () = assert!(ArpHdr::LEN == 28);
