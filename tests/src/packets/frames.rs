//! Frames, built by etherparse: an independent writer of headers.

use etherparse::{EtherType, IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, UdpHeader};

/// VLAN tags in front of the payload, outer first: ethertype and identifier.
pub type Tagging<'a> = &'a [(u16, u16)];

/// A frame under construction: layer 2 from tags, layer 3 from bytes.
#[derive(Clone, Debug)]
pub struct Build;

impl Build {
    /// Ethernet with tags around a payload.
    pub fn ethernet(tags: Tagging<'_>, ether_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x02, 0xaa, 0, 0, 0, 9, 0x02, 0xbb, 0, 0, 0, 9];
        for (tpid, vid) in tags {
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&vid.to_be_bytes());
        }
        frame.extend_from_slice(&ether_type.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// An IPv4 header as `change` leaves it, its checksum right, and the payload.
    pub fn ipv4(
        from: [u8; 4],
        to: [u8; 4],
        protocol: u8,
        payload: &[u8],
        change: impl FnOnce(&mut Ipv4Header),
    ) -> Vec<u8> {
        let mut header =
            Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), from, to).unwrap_or_default();
        change(&mut header);
        header.header_checksum = header.calc_header_checksum();
        let mut packet = header.to_bytes().to_vec();
        packet.extend_from_slice(payload);
        packet
    }

    /// An IPv6 header and the payload, extension headers being part of it.
    pub fn ipv6(from: [u8; 16], to: [u8; 16], next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
        let header = Ipv6Header {
            payload_length: payload.len() as u16,
            next_header: IpNumber(next),
            hop_limit,
            source: from,
            destination: to,
            ..Ipv6Header::default()
        };
        let mut packet = header.to_bytes().to_vec();
        packet.extend_from_slice(payload);
        packet
    }

    /// UDP without checksum.
    pub fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
        let header =
            UdpHeader { source_port: from, destination_port: to, length: 8 + data.len() as u16, checksum: 0 };
        let mut segment = header.to_bytes().to_vec();
        segment.extend_from_slice(data);
        segment
    }

    /// A TCP segment that is nothing but its header.
    pub fn tcp(from: u16, to: u16) -> Vec<u8> {
        etherparse::TcpHeader::new(from, to, 1, 1000).to_bytes().to_vec()
    }

    /// An ARP request or reply for Ethernet and IPv4.
    pub fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0xee, 0, 0, 0, 1];
        arp.extend_from_slice(&sender);
        arp.extend_from_slice(&[0; 6]);
        arp.extend_from_slice(&target);
        arp
    }
}

/// Sets the flags and offset of a fragment.
pub fn fragment(header: &mut Ipv4Header, more: bool, offset_units: u16) {
    header.more_fragments = more;
    header.fragment_offset = IpFragOffset::try_new(offset_units).unwrap_or_default();
}

/// Ethertype of IPv4.
pub const IPV4: u16 = EtherType::IPV4.0;
/// Ethertype of IPv6.
pub const IPV6: u16 = EtherType::IPV6.0;
/// Ethertype of ARP.
pub const ARP: u16 = EtherType::ARP.0;

/// Checks that a frame's IPv4 header has a right checksum and the expected TTL.
pub fn ipv4_of(frame: &[u8], at: usize) -> Option<(Ipv4Header, bool)> {
    let (header, _) = Ipv4Header::from_slice(frame.get(at..)?).ok()?;
    let right = header.calc_header_checksum() == header.header_checksum;
    Some((header, right))
}
