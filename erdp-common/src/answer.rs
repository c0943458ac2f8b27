//! Stage "answer": the ICMP error that a dropped packet's sender is told (RFC 792, RFC 1191, RFC 1812 section 4.3; RFC 4443).
//!
//! The kernel forwards nothing for ERDP, so it tells nobody that a TTL has run out or a packet was too big: traceroute and path
//! MTU discovery live from these errors. The offending frame itself is made into the answer: the front grows by an IP and an ICMP
//! header, the tail is cut to what may be quoted, and it goes back to the MAC address it came from, on the attachment it came in
//! on. So an answer never leaves a routing domain.
//!
//! What policy forbids is told from what cannot be reached (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1), so that nobody looks for a
//! broken link.
//!
//! Never answered: ICMP errors and redirects, fragments but the first, what the layer 4 header cannot be seen of, frames to a
//! group MAC address, and anything on an attachment without an address of that family. Martian sources do not get here.
//! Deviation from RFC 1812: an IPv4 packet without "don't fragment" that is too big is answered as if it had it, and not
//! fragmented; the circuit's MTU is the same everywhere (C4).

use core::hint::black_box;

use network_types::eth::EtherType;

use crate::{
    abi::{Attachment, Errand},
    budget,
    family::{Address, Datagram, Family, V4, V6},
    link::{self, Link},
    packet::Packet,
    reason::DropReason,
    tables::Tables,
};

/// Words of four bytes in the longest checksum: an IPv6 error of 1,280 bytes less its IP header.
const WORDS_MAX: usize = 310;
const ICMP_HEADER: usize = 8;
/// Internetwork control (RFC 1812 section 4.3.2.5).
const TRAFFIC_CLASS: u8 = 0xc0;
const HOP_LIMIT: u8 = 64;

/// Whether a packet that was dropped for the reason of this number is answered.
#[inline(always)]
pub fn is_answered(reason: u32) -> bool {
    const ANSWERED: [DropReason; 5] = [
        DropReason::TtlExpired,
        DropReason::TooBig,
        DropReason::NoRoute,
        DropReason::DiscardRoute,
        DropReason::NoLiveLink,
    ];
    is_prohibited(reason) || ANSWERED.into_iter().any(|answered| answered as u32 == reason)
}

/// Whether there is a way and policy forbids it (RFC 1812 section 5.2.7.1: "communication administratively prohibited").
#[inline(always)]
fn is_prohibited(reason: u32) -> bool {
    const PROHIBITED: [DropReason; 3] =
        [DropReason::ZoneForbidden, DropReason::EncryptedOnly, DropReason::UnnattedSource];
    PROHIBITED.into_iter().any(|prohibited| prohibited as u32 == reason)
}

/// Makes the frame into the ICMP error about it; the answer is the attachment to send it on. `None`: no error is due, or there
/// is no room for it, and the frame is to be dropped, whatever it looks like by then.
#[inline(always)]
pub fn answer<P: Packet, T: Tables>(packet: &mut P, ifindex: u32, errand: Errand, tables: &T) -> Option<u16> {
    if !is_answered(errand.reason) {
        return None;
    }
    let link = link::parse(packet).ok()?;
    let id = link::attachment(&link, ifindex, tables)?;
    let attachment = tables.attachment(id)?;
    let mtu = tables.next_hop(errand.next_hop).map_or(0, |next_hop| next_hop.mtu);
    let may = || budget::take(budget::ANSWER, id, tables);
    if link.ether_type == EtherType::Ipv4 as u16 {
        build::<V4, P>(packet, &link, attachment, [errand.reason, u32::from(mtu)], may)?;
    } else if link.ether_type == EtherType::Ipv6 as u16 {
        build::<V6, P>(packet, &link, attachment, [errand.reason, u32::from(mtu)], may)?;
    } else {
        return None;
    }
    Some(id)
}

/// What the two versions of ICMP do differently.
trait Errors: Family {
    /// Bytes of the IP header of an error.
    const IP_HEADER: usize;
    /// Longest error, from its IP header on (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 c).
    const LEN_MAX: usize;
    /// Type and code for the number of a drop reason that is answered.
    fn kind(reason: u32) -> [u8; 2];
    /// Whether a message of this type is an error or a redirect.
    fn is_error(kind: u8) -> bool;
    /// Our address on the attachment; zero: none.
    fn local(attachment: &Attachment) -> Address;
    /// The four bytes behind the checksum of "too big".
    fn too_big(mtu: u32) -> [u8; 4];
    /// Writes the IP header of an error of `len` bytes behind it; the answer is what it adds to the checksum.
    fn write_ip<P: Packet>(packet: &mut P, at: usize, ends: [Address; 2], len: u16) -> Option<u64>;
}

impl Errors for V4 {
    const IP_HEADER: usize = 20;
    const LEN_MAX: usize = 576;

    #[inline(always)]
    fn kind(reason: u32) -> [u8; 2] {
        if is_prohibited(reason) {
            return [3, 13];
        }
        pick(reason, [[11, 0], [3, 4], [3, 0]])
    }

    /// Unreachable, source quench, redirect, time exceeded, parameter problem.
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 4 | 5 | 11 | 12)
    }

    #[inline(always)]
    fn local(attachment: &Attachment) -> Address {
        Address::v4(attachment.local4)
    }

    #[inline(always)]
    fn too_big(mtu: u32) -> [u8; 4] {
        let [_, _, high, low] = mtu.to_be_bytes();
        [0, 0, high, low] // RFC 1191 section 4
    }

    #[inline(always)]
    fn write_ip<P: Packet>(packet: &mut P, at: usize, ends: [Address; 2], len: u16) -> Option<u64> {
        let [source, destination] = ends.map(|end| (end.high >> 32) as u32);
        let total = Self::IP_HEADER as u16 + len;
        // Version 4, five words; no identification, "don't fragment" (RFC 6864 section 4.1); protocol 1.
        let words = [
            0x4500_0000 | u32::from(TRAFFIC_CLASS) << 16 | u32::from(total),
            0x0000_4000,
            u32::from(HOP_LIMIT) << 24 | u32::from(Self::ICMP) << 16,
            source,
            destination,
        ];
        let [first, second, third, ..] = words;
        let checksum = fold(words.into_iter().map(u64::from).sum());
        packet.write(at, first.to_be_bytes())?;
        packet.write(at + 4, second.to_be_bytes())?;
        packet.write(at + 8, (third | u32::from(!checksum)).to_be_bytes())?;
        packet.write(at + 12, source.to_be_bytes())?;
        packet.write(at + 16, destination.to_be_bytes())?;
        Some(0)
    }
}

impl Errors for V6 {
    const IP_HEADER: usize = 40;
    const LEN_MAX: usize = 1280;

    #[inline(always)]
    fn kind(reason: u32) -> [u8; 2] {
        if reason == DropReason::DiscardRoute as u32 {
            return [1, 6]; // reject route
        }
        if is_prohibited(reason) {
            return [1, 1];
        }
        pick(reason, [[3, 0], [2, 0], [1, 0]])
    }

    /// Errors have types below 128 (RFC 4443 section 2.1); 137 is a redirect.
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        kind < 128 || kind == 137
    }

    #[inline(always)]
    fn local(attachment: &Attachment) -> Address {
        Address::v6(attachment.local6)
    }

    #[inline(always)]
    fn too_big(mtu: u32) -> [u8; 4] {
        mtu.to_be_bytes()
    }

    #[inline(always)]
    fn write_ip<P: Packet>(packet: &mut P, at: usize, ends: [Address; 2], len: u16) -> Option<u64> {
        let [source, destination] = ends;
        let first = 0x6000_0000 | u32::from(TRAFFIC_CLASS) << 20;
        let second = u32::from(len) << 16 | u32::from(Self::ICMP) << 8 | u32::from(HOP_LIMIT);
        packet.write(at, first.to_be_bytes())?;
        packet.write(at + 4, second.to_be_bytes())?;
        packet.write(at + 8, source.high.to_be_bytes())?;
        packet.write(at + 16, source.low.to_be_bytes())?;
        packet.write(at + 24, destination.high.to_be_bytes())?;
        packet.write(at + 32, destination.low.to_be_bytes())?;
        // The pseudo-header (RFC 8200 section 8.1).
        let words = [source.high, source.low, destination.high, destination.low];
        let addresses: u64 = words.into_iter().map(|word| (word >> 32) + (word & 0xffff_ffff)).sum();
        Some(addresses + u64::from(len) + u64::from(Self::ICMP))
    }
}

/// "TTL expired", "too big", or else "unreachable".
#[inline(always)]
fn pick(reason: u32, [expired, too_big, unreachable]: [[u8; 2]; 3]) -> [u8; 2] {
    if reason == DropReason::TtlExpired as u32 {
        expired
    } else if reason == DropReason::TooBig as u32 {
        too_big
    } else {
        unreachable
    }
}

#[inline(always)]
fn build<F: Errors, P: Packet>(
    packet: &mut P,
    link: &Link,
    attachment: &Attachment,
    [reason, mtu]: [u32; 2],
    may: impl FnOnce() -> bool,
) -> Option<()> {
    let datagram = F::parse(packet, link.payload_at).ok()?;
    let local = F::local(attachment);
    let [kind, code] = F::kind(reason);
    if local.is_unspecified() || !may_be_answered::<F>(&datagram) {
        return None;
    }
    let layer2 = Layer2::read(packet, link)?;
    if link.to_group || !may() {
        return None;
    }
    let grows = F::IP_HEADER + ICMP_HEADER;
    let quoted = (datagram.len as usize).min(F::LEN_MAX - grows);
    packet.cut_front(-(grows as i32))?;
    packet.cut_to(link.payload_at + grows + quoted)?;
    layer2.write_back(packet, link)?;
    let at = link.payload_at;
    let len = ICMP_HEADER + quoted;
    let pseudo = F::write_ip(packet, at, [local, datagram.source], len as u16)?;
    let icmp = at + F::IP_HEADER;
    packet.write(icmp, [kind, code, 0, 0])?;
    packet.write(icmp + 4, if reason == DropReason::TooBig as u32 { F::too_big(mtu) } else { [0; 4] })?;
    let checksum = !fold(pseudo + sum(packet, icmp, len)?);
    let [high, low] = checksum.to_be_bytes();
    packet.write(icmp, [kind, code, high, low])
}

#[inline(always)]
fn may_be_answered<F: Errors>(datagram: &Datagram) -> bool {
    let Some([kind, ..]) = datagram.transport() else {
        return false;
    };
    datagram.protocol != F::ICMP || !F::is_error(kind)
}

/// The layer 2 header of a frame, to be written in front of the answer with its addresses exchanged.
struct Layer2 {
    destination: [u8; 4],
    destination_end: [u8; 2],
    source: [u8; 4],
    source_end: [u8; 2],
    tags: [[u8; 4]; 2],
}

impl Layer2 {
    #[inline(always)]
    fn read<P: Packet>(packet: &P, link: &Link) -> Option<Self> {
        Some(Self {
            destination: packet.read(0)?,
            destination_end: packet.read(4)?,
            source: packet.read(6)?,
            source_end: packet.read(10)?,
            tags: [
                if link.tags > 0 { packet.read(12)? } else { [0; 4] },
                if link.tags > 1 { packet.read(16)? } else { [0; 4] },
            ],
        })
    }

    #[inline(always)]
    fn write_back<P: Packet>(&self, packet: &mut P, link: &Link) -> Option<()> {
        let [outer, inner] = self.tags;
        packet.write(0, self.source)?;
        packet.write(4, self.source_end)?;
        packet.write(6, self.destination)?;
        packet.write(10, self.destination_end)?;
        if link.tags > 0 {
            packet.write(12, outer)?;
        }
        if link.tags > 1 {
            packet.write(16, inner)?;
        }
        packet.write(link.payload_at - 2, link.ether_type.to_ne_bytes())
    }
}

/// The sum of the 32-bit words of a range (RFC 1071), the last one filled up with zeros.
#[inline(always)]
fn sum<P: Packet>(packet: &P, at: usize, len: usize) -> Option<u64> {
    let mut sum = 0;
    let mut done = 0;
    for _ in 0..WORDS_MAX {
        if done + 4 > len {
            break;
        }
        // Opaque: an induction variable would become arithmetic on the pointer to the frame's end, which the verifier refuses.
        sum += u64::from(u32::from_be_bytes(packet.read(black_box(at + done))?));
        done += 4;
    }
    if done + 2 <= len {
        let word: [u8; 2] = packet.read(at + done)?;
        sum += u64::from(u16::from_be_bytes(word)) << 16;
        done += 2;
        if done < len {
            let [_, last] = packet.read::<[u8; 2]>(at + done - 1)?;
            sum += u64::from(last) << 8;
        }
    } else if done < len {
        let [_, last] = packet.read::<[u8; 2]>(at + done - 1)?;
        sum += u64::from(last) << 24;
    }
    Some(sum)
}

/// One's complement addition of all 16-bit words of a sum.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests;
