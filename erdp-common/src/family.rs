//! Stage "parse", layer 3: IPv4 and IPv6 as two small implementations of one [`Family`], so that every later stage is written
//! once.
//!
//! RFC 791, RFC 8200. The IPv4 header checksum is not verified: it is updated incrementally (RFC 1624), so a wrong one stays
//! wrong and the receiver drops it. Extension headers are walked only as far as [`EXTENSIONS_MAX`] and
//! [`EXTENSION_BYTES_MAX`], to find ports for the flow hash and what is for this router; beyond that the packet is forwarded
//! by its addresses alone.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{abi::Attachment, packet::Packet, reason::DropReason, rewrite, tables::Tables};

/// Extension headers that are walked.
pub const EXTENSIONS_MAX: usize = 4;
/// Bytes of extension headers that are walked.
pub const EXTENSION_BYTES_MAX: usize = 256;

/// What the stages need to know of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Source, left-aligned: IPv4 occupies the first 32 bits.
    pub source: Address,
    /// Destination, left-aligned.
    pub destination: Address,
    /// Bytes from the IP header on.
    pub len: u32,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN, the eight bits.
    pub traffic_class: u8,
    /// Protocol of the payload behind all extension headers that were walked.
    pub protocol: u8,
    /// Any fragment, the first one too: it is hashed on addresses only.
    pub is_fragment: bool,
    /// Whether this packet has a layer 4 header, and its first four bytes are within the bounds.
    pub has_transport: bool,
    /// These bytes (the ports, or type, code and checksum) as a number, the first byte highest, else zero. Two plain fields and no
    /// `Option`: across helper calls the compiler copies the undefined payload of a `None`, which the verifier refuses.
    pub transport: u32,
}

impl Datagram {
    /// Makes a verifier forget what it knows about the layer 4 part, see [`Tables::forget`].
    #[inline(always)]
    pub fn forget<T: Tables>(&mut self, tables: &T) {
        let known =
            u32::from(self.protocol) | u32::from(self.is_fragment) << 8 | u32::from(self.has_transport) << 9;
        let known = tables.forget(known);
        self.protocol = known as u8;
        self.is_fragment = known & (1 << 8) != 0;
        self.has_transport = known & (1 << 9) != 0;
    }

    /// The first four bytes of the layer 4 header.
    #[inline(always)]
    pub fn transport(&self) -> Option<[u8; 4]> {
        self.transport_word().map(u32::to_be_bytes)
    }

    /// The same as a number: two ports, the source's in the upper half. What the packet path uses; bytes cost it a shift each.
    #[inline(always)]
    pub fn transport_word(&self) -> Option<u32> {
        self.has_transport.then_some(self.transport)
    }
}

/// An address of either family in host order, left-aligned in two words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Bits 0 to 63.
    pub high: u64,
    /// Bits 64 to 127; zero for IPv4.
    pub low: u64,
}

impl Address {
    /// From an IPv4 address in network order.
    #[inline(always)]
    pub fn v4(bytes: [u8; 4]) -> Self {
        Self { high: u64::from(u32::from_be_bytes(bytes)) << 32, low: 0 }
    }

    /// From an IPv6 address in network order.
    #[inline(always)]
    pub fn v6(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            high: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            low: u64::from_be_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// No bit set: "no address".
    #[inline(always)]
    pub fn is_unspecified(self) -> bool {
        self.high == 0 && self.low == 0
    }
}

/// One of the two versions of IP.
pub trait Family {
    /// Reads and checks the header at `at`.
    fn parse<P: Packet>(packet: &P, at: usize) -> Result<Datagram, DropReason>;
    /// Whether the address is one of ours on this attachment.
    fn is_ours(address: Address, attachment: &Attachment) -> bool;
    /// Whether a packet may be forwarded that has this unicast address as its destination or its source.
    fn is_forwardable(address: Address) -> bool;
    /// Whether the address is one of the Internet's: what may be a source on Microsoft peering (D4). The prefixes are those that
    /// the routing policy refuses there.
    fn is_public(address: Address) -> bool;
    /// Protocol number of ICMP.
    const ICMP: u8;
    /// ICMP types for echo request and reply.
    const ECHO: [u8; 2];
    /// The address as a [`crate::abi::PeerKey`] and events carry it.
    fn key(address: Address) -> [u8; 16];
    /// First block of the root of the routing table.
    fn root(attachment: &Attachment) -> u32;
    /// Bits of an address.
    const BITS: u32;
    /// Lowers TTL or hop limit by one, the checksum with it; the caller has seen that it is above one.
    fn decrement_hop_limit<P: Packet>(packet: &mut P, at: usize) -> Option<()>;
    /// Writes DSCP and ECN, the checksum with them.
    fn set_traffic_class<P: Packet>(packet: &mut P, at: usize, value: u8) -> Option<()>;
}

/// IPv4 (RFC 791).
pub struct V4;
/// IPv6 (RFC 8200).
pub struct V6;

impl Family for V4 {
    const ICMP: u8 = 1;
    const ECHO: [u8; 2] = [8, 0];
    const BITS: u32 = 32;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, at: usize) -> Result<Datagram, DropReason> {
        let header: Ipv4Hdr = packet.read(at).ok_or(DropReason::Truncated)?;
        let header_len = usize::from(header.vihl & 0x0f) * 4;
        if header.vihl >> 4 != 4 || header_len < Ipv4Hdr::LEN {
            return Err(DropReason::BadHeader);
        }
        let len = usize::from(u16::from_be_bytes(header.tot_len));
        // A frame may be longer than its packet (padding to 60 bytes), never shorter.
        if len < header_len || at + len > packet.len() {
            return Err(DropReason::BadLength);
        }
        let fragment = u16::from_be_bytes(header.frags);
        let is_fragment = fragment & 0x3fff != 0; // more-fragments or an offset (RFC 791 section 3.1)
        let transport = if fragment & 0x1fff == 0 { packet.read(at + header_len) } else { None };
        Ok(Datagram {
            source: Address::v4(header.src_addr),
            destination: Address::v4(header.dst_addr),
            len: len as u32,
            hop_limit: header.ttl,
            traffic_class: header.tos,
            protocol: header.proto,
            is_fragment,
            has_transport: transport.is_some(),
            transport: u32::from_be_bytes(transport.unwrap_or_default()),
        })
    }

    #[inline(always)]
    fn is_ours(address: Address, attachment: &Attachment) -> bool {
        address == Address::v4(attachment.local4) && !address.is_unspecified()
    }

    /// RFC 1812 section 5.3.7: 0/8, 127/8, class D and E including the limited broadcast. RFC 3927 section 7: 169.254/16, as a source or
    /// as a destination, is for the wire it is on.
    #[inline(always)]
    fn is_forwardable(address: Address) -> bool {
        let first = (address.high >> 56) as u8;
        first != 0 && first != 127 && first < 224 && address.high >> 48 != 0xa9fe
    }

    /// 198.18.0.0/15 (RFC 2544) counts as public: laboratories run on it, and no one else does.
    #[inline(always)]
    fn is_public(address: Address) -> bool {
        let address = (address.high >> 32) as u32;
        let first = address >> 24;
        let is_special = first == 0 || first == 127 || first >= 224;
        let is_private = first == 10 || address >> 20 == 0xac1 || address >> 16 == 0xc0a8; // RFC 1918
        let is_shared = address >> 22 == 0x6440_0000 >> 22; // 100.64/10, RFC 6598
        let is_link_local = address >> 16 == 0xa9fe; // RFC 3927
        // 192.0.0/24 and 192.0.2/24 (RFC 6890, RFC 5737), 198.51.100/24 and 203.0.113/24 (RFC 5737).
        let is_assigned = matches!(address >> 8, 0xc0_0000 | 0xc0_0002 | 0xc6_3364 | 0xcb_0071);
        !(is_special || is_private || is_shared || is_link_local || is_assigned)
    }

    #[inline(always)]
    fn key(address: Address) -> [u8; 16] {
        let [a, b, c, d, ..] = address.high.to_be_bytes();
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
    }

    #[inline(always)]
    fn root(attachment: &Attachment) -> u32 {
        attachment.root4
    }

    #[inline(always)]
    fn decrement_hop_limit<P: Packet>(packet: &mut P, at: usize) -> Option<()> {
        const TTL_TO_CHECKSUM: usize = 8;
        let word = u32::from_le_bytes(packet.read(at + TTL_TO_CHECKSUM)?);
        packet.write(at + TTL_TO_CHECKSUM, rewrite::after_hop(word).to_le_bytes())
    }

    #[inline(always)]
    fn set_traffic_class<P: Packet>(packet: &mut P, at: usize, value: u8) -> Option<()> {
        const CHECKSUM: usize = 10;
        let [version, before] = packet.read::<[u8; 2]>(at)?;
        let checksum = packet.read::<[u8; 2]>(at + CHECKSUM)?;
        let (old, new) = (u16::from_be_bytes([version, before]), u16::from_be_bytes([version, value]));
        packet.write(at, [version, value])?;
        packet.write(at + CHECKSUM, rewrite::checksum_after(checksum, old, new))
    }
}

impl Family for V6 {
    const ICMP: u8 = 58;
    const ECHO: [u8; 2] = [128, 129];
    const BITS: u32 = 128;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, at: usize) -> Result<Datagram, DropReason> {
        let header: Ipv6Hdr = packet.read(at).ok_or(DropReason::Truncated)?;
        let [first, second, ..] = header.vcf;
        if first >> 4 != 6 {
            return Err(DropReason::BadHeader);
        }
        let len = Ipv6Hdr::LEN + usize::from(u16::from_be_bytes(header.payload_len));
        if at + len > packet.len() {
            return Err(DropReason::BadLength);
        }
        let walked = walk_extensions(packet, at + Ipv6Hdr::LEN, header.next_hdr);
        // Read wherever it is, 0 too, and then judged: an `Option` here is a payload that may be undefined.
        let transport: [u8; 4] = packet.read(walked.transport_at).unwrap_or_default();
        let has_transport = walked.transport_at != 0 && packet.len() >= walked.transport_at + 4;
        Ok(Datagram {
            source: Address::v6(header.src_addr),
            destination: Address::v6(header.dst_addr),
            len: len as u32,
            hop_limit: header.hop_limit,
            traffic_class: (first << 4) | (second >> 4),
            protocol: walked.protocol,
            is_fragment: walked.is_fragment,
            has_transport,
            transport: if has_transport { u32::from_be_bytes(transport) } else { 0 },
        })
    }

    #[inline(always)]
    fn is_ours(address: Address, attachment: &Attachment) -> bool {
        (address == Address::v6(attachment.local6) || address == Address::v6(attachment.link_local6))
            && !address.is_unspecified()
    }

    /// RFC 4291 section 2.7 and 2.5: multicast, unspecified, loopback; link-local is for the wire it is on. IPv4 addresses in IPv6's
    /// clothes (::/96 and ::ffff:0:0/96; RFC 4291 section 2.5.5, RFC 6890) are for the inside of a host.
    #[inline(always)]
    fn is_forwardable(address: Address) -> bool {
        let is_multicast = address.high >> 56 == 0xff;
        let is_link_local = address.high >> 54 == 0xfe80 >> 6;
        let is_host_internal = address.high == 0 && matches!(address.low >> 32, 0 | 0xffff);
        !is_multicast && !is_link_local && !is_host_internal
    }

    #[inline(always)]
    fn is_public(address: Address) -> bool {
        let high = address.high;
        let is_reserved = high >> 56 == 0; // ::/8, RFC 4291
        let is_local = high >> 57 == 0xfc >> 1 || high >> 54 == 0xfe80 >> 6; // fc00::/7, fe80::/10
        let is_multicast = high >> 56 == 0xff;
        let is_discard = high == 0x0100 << 48; // 100::/64, RFC 6666
        // 2001:db8::/32 (RFC 3849) and 3fff::/20 (RFC 9637).
        let is_documentation = high >> 32 == 0x2001_0db8 || high >> 44 == 0x3_fff0;
        !(is_reserved || is_local || is_multicast || is_discard || is_documentation)
    }

    #[inline(always)]
    fn key(address: Address) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = address.high.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = address.low.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    #[inline(always)]
    fn root(attachment: &Attachment) -> u32 {
        attachment.root6
    }

    #[inline(always)]
    fn decrement_hop_limit<P: Packet>(packet: &mut P, at: usize) -> Option<()> {
        const NEXT_HEADER: usize = 6;
        let [next, hop_limit] = packet.read::<[u8; 2]>(at + NEXT_HEADER)?;
        packet.write(at + NEXT_HEADER, [next, hop_limit - 1])
    }

    #[inline(always)]
    fn set_traffic_class<P: Packet>(packet: &mut P, at: usize, value: u8) -> Option<()> {
        let [version, flow] = packet.read::<[u8; 2]>(at)?;
        packet.write(at, [(version & 0xf0) | (value >> 4), (value << 4) | (flow & 0x0f)])
    }
}

struct Walked {
    protocol: u8,
    is_fragment: bool,
    /// 0: none.
    transport_at: usize,
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Walks the extension headers (RFC 8200 section 4) to the layer 4 header.
#[inline(always)]
fn walk_extensions<P: Packet>(packet: &P, first_at: usize, first: u8) -> Walked {
    let mut at = first_at;
    let mut walked = Walked { protocol: first, is_fragment: false, transport_at: 0 };
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(walked.protocol) {
            break;
        }
        let Some([next, len, offset_high, offset_low]) = packet.read::<[u8; 4]>(at) else {
            return walked;
        };
        at += match walked.protocol {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(len) + 2) * 4, // RFC 4302 section 2.2: 4-octet units
            _ => (usize::from(len) + 1) * 8,
        };
        if walked.protocol == FRAGMENT {
            walked.is_fragment = true;
            if u16::from_be_bytes([offset_high, offset_low]) & 0xfff8 != 0 {
                walked.protocol = next;
                return walked;
            }
        }
        walked.protocol = next;
        if at > first_at + EXTENSION_BYTES_MAX {
            return walked;
        }
    }
    if !is_extension(walked.protocol) {
        walked.transport_at = at;
    }
    walked
}

fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}
