//! Stage "local": what is for this router itself, and nothing else, goes to the kernel.
//!
//! Local is (attachment, address, configured peer) (invariant 11): ARP (RFC 826) and neighbour discovery (RFC 4861) for our own
//! addresses on this very attachment, BGP and BFD from a configured peer of this attachment, echo to our addresses.

use network_types::{arp::ArpHdr, ip::IpProto};

use crate::{
    abi::{Attachment, PeerKey},
    bfd,
    family::{Address, Datagram, Family},
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
const ALL_NODES: Address = Address { high: 0xff02 << 48, low: 1 };
/// ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
const SOLICITED_NODE: Address = Address { high: 0xff02 << 48, low: 0x0000_0001_ff00_0000 };

/// ARP: requests and replies for our address, and gratuitous ones, which tell that a neighbour's MAC address has changed.
#[inline(always)]
pub fn arp<P: Packet>(packet: &P, at: usize, attachment: &Attachment) -> Result<PuntKind, DropReason> {
    const SENDER: usize = 14;
    const TARGET: usize = 24;
    let sender: [u8; 4] = packet.read(at + SENDER).ok_or(DropReason::Truncated)?;
    let target: [u8; 4] = packet.read(at + TARGET).ok_or(DropReason::Truncated)?;
    let for_us = target == attachment.local4 && target != [0; 4];
    if for_us || sender == target { Ok(PuntKind::Arp) } else { Err(DropReason::ArpNotForUs) }
}

/// `Some` when the packet ends here: for the kernel, or dropped; `None` when it is to be forwarded.
#[inline(always)]
pub fn ip<F: Family, T: Tables>(
    datagram: &Datagram,
    attachment_id: u16,
    attachment: &Attachment,
    tables: &T,
) -> Option<Result<Verdict, DropReason>> {
    let ours = F::is_ours(datagram.destination, attachment);
    if !ours && F::is_forwardable(datagram.destination) {
        return None;
    }
    if let Some(kind) = discovery::<F>(datagram, ours, attachment) {
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
    Some(if to_us && wanted && datagram.hop_limit == 255 {
        Ok(PuntKind::NeighbourDiscovery)
    } else {
        Err(DropReason::NdNotForUs)
    })
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
    let is_link_local = F::BITS == 128 && address.high >> 54 == 0xfe80 >> 6;
    is_link_local
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
