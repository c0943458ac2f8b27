//! Stage "control": the way between a tagged attachment and the kernel of the edge.
//!
//! The kernel sees untagged frames only: it may have no 802.1Q at all, and where it has, a sub-interface of its own for each
//! attachment would be one more thing to keep in step with the configuration. So each tagged attachment has a *control port*, a pair
//! of virtual interfaces: the kernel speaks ARP, neighbour discovery, BGP and echo on one end, and this program runs on the other.
//! What is for the kernel leaves into the pair without its tags; what comes out of it is from the kernel and leaves with them.
//! Nothing is routed, policed or aged on this way: it is the router's own.
//!
//! Both ways lie beside that of a forwarded packet: one begins where a packet is to be punted, the other where the port and the tags
//! name no attachment. A forwarded packet executes no instruction of them.

use network_types::eth::EthHdr;

use crate::{
    abi::{ATTACHMENT_CONTROL, ATTACHMENT_ENABLED},
    link::Link,
    packet::{EthernetWords, Packet},
    pipeline::Verdict,
    reason::{DropReason, PuntKind},
    tables::Tables,
};

/// Of both tags (C4).
const TPID: [u8; 2] = [0x81, 0x00];

/// What is for the kernel: untouched on an untagged attachment, by the control port of a tagged one.
#[inline(always)]
pub fn to_kernel<P: Packet, T: Tables>(
    packet: &mut P,
    kind: PuntKind,
    id: u16,
    tables: &T,
) -> Result<Verdict, DropReason> {
    let attachment = tables.attachment(id).ok_or(DropReason::BrokenReference)?;
    if attachment.flags & ATTACHMENT_CONTROL == 0 {
        return Ok(Verdict::Punt(kind));
    }
    let [_, inner] = attachment.tags;
    pop(packet, inner != 0)?;
    Ok(Verdict::PuntVia(kind, id))
}

/// What comes in where no attachment is: from the kernel, if the interface is a control port and the frame has no tag.
#[inline(always)]
pub fn from_kernel<P: Packet, T: Tables>(
    packet: &mut P,
    link: &Link,
    ifindex: u32,
    tables: &T,
) -> Result<Verdict, DropReason> {
    let id = tables.port(ifindex).map_or(0, |port| port.control_of);
    if id == 0 || link.tags != 0 {
        return Err(DropReason::UnknownAttachment);
    }
    let attachment = tables.attachment(id).ok_or(DropReason::BrokenReference)?;
    if attachment.flags & ATTACHMENT_ENABLED == 0 {
        return Err(DropReason::Disabled);
    }
    push(packet, attachment.tags)?;
    Ok(Verdict::FromKernel(id))
}

/// Takes one or two tags off: the attachment's tags are the frame's, or it would not have come in there.
#[inline(always)]
fn pop<P: Packet>(packet: &mut P, two: bool) -> Result<(), DropReason> {
    let before: EthernetWords<0> = packet.read(0).ok_or(DropReason::Truncated)?;
    // The ethertype behind the last tag.
    let ether_type: Option<[u8; 2]> =
        if two { packet.read(EthHdr::LEN + 6) } else { packet.read(EthHdr::LEN + 2) };
    let after = EthernetWords { ether_type: ether_type.ok_or(DropReason::Truncated)?, ..before };
    packet.cut_front(if two { 8 } else { 4 }).ok_or(DropReason::NoHeadroom)?;
    packet.write(0, after).ok_or(DropReason::Truncated)
}

/// Puts one or two tags on, with priority 0 as forwarded packets have it.
#[inline(always)]
fn push<P: Packet>(packet: &mut P, [outer, inner]: [u16; 2]) -> Result<(), DropReason> {
    if outer == 0 {
        return Err(DropReason::BrokenReference);
    }
    let before: EthernetWords<0> = packet.read(0).ok_or(DropReason::Truncated)?;
    packet.cut_front(if inner == 0 { -4 } else { -8 }).ok_or(DropReason::NoHeadroom)?;
    packet.write(0, EthernetWords { ether_type: TPID, ..before }).ok_or(DropReason::Truncated)?;
    let ([a, b], [c, d], [e, f]) = (outer.to_be_bytes(), inner.to_be_bytes(), before.ether_type);
    let [g, h] = TPID;
    if inner == 0 {
        packet.write(EthHdr::LEN, [a, b, e, f])
    } else {
        packet.write(EthHdr::LEN, [a, b, g, h, c, d, e, f])
    }
    .ok_or(DropReason::Truncated)
}
