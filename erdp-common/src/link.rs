//! Stage "link": Ethernet and zero to two VLAN tags, and which attachment they name; where the frame ends.
//!
//! 802.1Q, 802.1ad; requirement C4: both tags may carry ethertype 0x8100. An identifier of 0 (the null VID) names no VLAN: such a tag
//! carries a priority only, and the frame is taken as if it had not got it, in whichever place it is.

use network_types::{
    eth::{EthHdr, EtherType},
    vlan::VlanHdr,
};

use crate::{
    packet::{EthernetWords, Packet},
    reason::DropReason,
    tables::Tables,
};

/// Shortest payload of an Ethernet frame (IEEE 802.3 section 3.2.8; 60 octets less the header): what is shorter is padded to it, and
/// tags do not count (IEEE 802.1Q annex G.2.3).
const PAYLOAD_MIN: u32 = 46;

/// The layer 2 part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Ethertype of the payload, in network order as on the wire.
    pub ether_type: u16,
    /// Offset of the payload: 14, 18 or 22.
    pub payload_at: usize,
    /// Number of tags: 0 to 2.
    pub tags: u8,
    /// Identifier of the first tag.
    pub outer: u16,
    /// Identifier of the second tag.
    pub inner: u16,
    /// Whether the frame is for a group of stations, or all (IEEE 802-2014 section 8.2.2: the lowest bit of the first byte).
    pub to_group: bool,
}

/// Reads the Ethernet header and up to two tags.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Result<Link, DropReason> {
    let ethernet: EthHdr = packet.read(0).ok_or(DropReason::Truncated)?;
    let [first, ..] = ethernet.dst_addr;
    let to_group = first & 1 != 0;
    let ether_type = ethernet.ether_type;
    let untagged = Link { ether_type, payload_at: EthHdr::LEN, tags: 0, outer: 0, inner: 0, to_group };
    if !is_tag(untagged.ether_type) {
        return Ok(untagged);
    }
    let outer: VlanHdr = packet.read(EthHdr::LEN).ok_or(DropReason::Truncated)?;
    let single = Link {
        ether_type: outer.ether_type,
        payload_at: EthHdr::LEN + VlanHdr::LEN,
        tags: 1,
        outer: outer.vid(),
        inner: 0,
        to_group,
    };
    if !is_tag(single.ether_type) {
        return Ok(single);
    }
    let inner: VlanHdr = packet.read(EthHdr::LEN + VlanHdr::LEN).ok_or(DropReason::Truncated)?;
    if is_tag(inner.ether_type) {
        return Err(DropReason::TooManyTags);
    }
    Ok(Link {
        ether_type: inner.ether_type,
        payload_at: EthHdr::LEN + 2 * VlanHdr::LEN,
        tags: 2,
        outer: single.outer,
        inner: inner.vid(),
        to_group,
    })
}

/// Takes the tags out that carry a priority only (IEEE 802.1Q table 9-2: VID 0), so that all that follows, the kernel too, has the frame
/// as if it had come without.
#[inline(always)]
pub fn without_null_tags<P: Packet>(packet: &mut P, link: Link) -> Result<Link, DropReason> {
    let has_null_tag = link.tags > 0 && link.outer == 0 || link.tags > 1 && link.inner == 0;
    if !has_null_tag {
        return Ok(link);
    }
    let EthernetWords { first, second, tags: [outer], .. } = packet.read(0).ok_or(DropReason::Truncated)?;
    let ether_type = link.ether_type.to_ne_bytes();
    let kept = if link.outer != 0 {
        Some((outer, link.outer))
    } else if link.tags > 1 && link.inner != 0 {
        let inner: [u8; 4] = packet.read(EthHdr::LEN + 2).ok_or(DropReason::Truncated)?;
        Some((inner, link.inner))
    } else {
        None
    };
    if let Some((tag, vid)) = kept {
        packet.cut_front(4).ok_or(DropReason::Truncated)?;
        packet
            .write(0, EthernetWords { first, second, tags: [tag], ether_type })
            .ok_or(DropReason::Truncated)?;
        return Ok(Link { payload_at: EthHdr::LEN + VlanHdr::LEN, tags: 1, outer: vid, inner: 0, ..link });
    }
    packet.cut_front(if link.tags > 1 { 8 } else { 4 }).ok_or(DropReason::Truncated)?;
    packet.write(0, EthernetWords { first, second, tags: [], ether_type }).ok_or(DropReason::Truncated)?;
    Ok(Link { payload_at: EthHdr::LEN, tags: 0, outer: 0, inner: 0, ..link })
}

/// Cuts off what is behind an IP packet of `len` bytes, but for the padding of a short frame: whatever is sent was judged and paid for.
#[inline(always)]
pub fn cut_trailer<P: Packet>(packet: &mut P, payload_at: usize, len: u32) -> Result<(), DropReason> {
    let end = payload_at + len.max(PAYLOAD_MIN) as usize;
    if packet.len() > end {
        return packet.cut_to(end).ok_or(DropReason::BadLength);
    }
    Ok(())
}

/// The attachment that the interface and the tags name: array look-ups only.
#[inline(always)]
pub fn attachment<T: Tables>(link: &Link, ifindex: u32, tables: &T) -> Option<u16> {
    let port = tables.port(ifindex)?;
    let id = match link.tags {
        0 => port.attachment,
        1 => tables.vlan(port.vlan_block, link.outer)?.attachment,
        _ => {
            let block = tables.vlan(port.vlan_block, link.outer)?.inner_block;
            tables.vlan(block, link.inner)?.attachment
        }
    };
    (id != 0).then_some(id)
}

fn is_tag(ether_type: u16) -> bool {
    ether_type == EtherType::Ieee8021q as u16 || ether_type == EtherType::Ieee8021ad as u16
}
