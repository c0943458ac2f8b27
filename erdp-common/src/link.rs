//! Stage "link": Ethernet and zero to two VLAN tags, and which attachment they name.
//!
//! 802.1Q, 802.1ad; requirement C4: both tags may carry ethertype 0x8100.

use network_types::{
    eth::{EthHdr, EtherType},
    vlan::VlanHdr,
};

use crate::{packet::Packet, reason::DropReason, tables::Tables};

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
