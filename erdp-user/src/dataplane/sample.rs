//! What the front of a dropped frame says: addresses, protocol, ports, marks. Nothing else of it is kept.
//!
//! The frame is what was dropped, so nothing in it can be relied on: each field is what could be read, or absent. The program
//! gives the first [`SAMPLE_BYTES`](erdp_common::abi::SAMPLE_BYTES) bytes, in which a payload may begin; it goes no further than here.

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkSlice};
use serde::Serialize;

/// The headers of a dropped frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Headers {
    /// Who has put it on the wire.
    pub source_mac: Option<String>,
    /// VLAN identifiers, outer first.
    pub vlans: Vec<u16>,
    /// Source address; of ARP, the sender's.
    pub source: Option<IpAddr>,
    /// Destination address; of ARP, the one asked for.
    pub destination: Option<IpAddr>,
    /// IANA's keyword in small letters, or the number; of what is not IP, `arp` or the ethertype.
    pub protocol: Option<String>,
    /// Source port of TCP, UDP, DCCP, SCTP and UDP-Lite.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Differentiated services code point.
    pub dscp: Option<u8>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
}

impl Headers {
    /// What can be read of a frame from its Ethernet header on, which may end anywhere.
    pub fn of(frame: &[u8]) -> Self {
        let mut headers = Self::default();
        let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
            return headers;
        };
        if let Some(LinkSlice::Ethernet2(link)) = &packet.link {
            let octets = link.source().map(|octet| format!("{octet:02x}"));
            headers.source_mac = Some(octets.join(":"));
        }
        headers.vlans = packet.vlan_ids().iter().map(|vid| vid.value()).collect();
        match &packet.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                let header = ip.header();
                headers.source = Some(header.source_addr().into());
                headers.destination = Some(header.destination_addr().into());
                headers.dscp = Some(header.dcp().value());
                headers.ttl = Some(header.ttl());
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                let header = ip.header();
                headers.source = Some(header.source_addr().into());
                headers.destination = Some(header.destination_addr().into());
                headers.dscp = Some(header.traffic_class() >> 2);
                headers.ttl = Some(header.hop_limit());
            }
            Some(LaxNetSlice::Arp(arp)) => {
                headers.source = ipv4(arp.sender_protocol_addr());
                headers.destination = ipv4(arp.target_protocol_addr());
                headers.protocol = Some("arp".into());
            }
            None => {
                let payload = packet.ether_payload();
                headers.protocol = payload.map(|payload| format!("ethertype {:#06x}", payload.ether_type.0));
            }
        }
        headers.transport(&packet);
        headers
    }

    /// Protocol and ports, from the bytes behind the IP headers: a TCP header with long options may not be whole.
    fn transport(&mut self, packet: &LaxSlicedPacket<'_>) {
        let Some(payload) = packet.net.as_ref().and_then(LaxNetSlice::ip_payload_ref) else {
            return;
        };
        let protocol = payload.ip_number;
        self.protocol =
            Some(protocol.keyword_str().map_or_else(|| protocol.0.to_string(), str::to_ascii_lowercase));
        let has_ports = matches!(protocol.0, 6 | 17 | 33 | 132 | 136) && !payload.fragmented;
        if let ([a, b, c, d, ..], true) = (payload.payload, has_ports) {
            self.source_port = Some(u16::from_be_bytes([*a, *b]));
            self.destination_port = Some(u16::from_be_bytes([*c, *d]));
        }
    }
}

/// Of ARP and neighbour discovery: the source MAC address, who says that it has which address, and which one it asks for.
pub fn ends_of(frame: &[u8]) -> Option<([u8; 6], IpAddr, IpAddr)> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let Some(LinkSlice::Ethernet2(link)) = &packet.link else { return None };
    let Headers { source, destination, .. } = Headers::of(frame);
    Some((link.source(), source?, destination?))
}

fn ipv4(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder, VlanId};

    use super::Headers;

    const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 0xab], [2, 0, 0, 0, 0, 1]);

    fn vlan(id: u16) -> VlanId {
        VlanId::try_new(id).expect("an identifier")
    }

    /// Two tags, IPv6 and a TCP header with its longest options: more than a sample holds.
    fn long() -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MACS.0, MACS.1)
            .double_vlan(vlan(7), vlan(200))
            .ipv6([0xfd; 16], [0x26; 16], 9)
            .tcp(40_000, 443, 1, 1)
            .options_raw(&[1; 40])
            .expect("options")
            .write(&mut frame, b"secret")
            .expect("written");
        frame
    }

    #[test]
    fn a_tcp_header_that_the_sample_cuts_still_tells_its_ports() {
        let headers = Headers::of(&long()[..erdp_common::abi::SAMPLE_BYTES]);
        assert_eq!(headers.source_mac.as_deref(), Some("02:00:00:00:00:ab"));
        assert_eq!(headers.vlans, [7, 200]);
        assert_eq!(headers.source, Some([0xfd; 16].into()));
        assert_eq!(headers.destination, Some([0x26; 16].into()));
        assert_eq!(headers.protocol.as_deref(), Some("tcp"));
        assert_eq!((headers.source_port, headers.destination_port), (Some(40_000), Some(443)));
        assert_eq!((headers.dscp, headers.ttl), (Some(0), Some(9)));
    }

    #[test]
    fn ipv4_tells_its_mark_and_arp_whom_it_asks_for() {
        let mut frame = Vec::new();
        let mut ip =
            etherparse::Ipv4Header::new(12, 3, etherparse::ip_number::UDP, [198, 18, 0, 9], [20, 0, 0, 1])
                .expect("a header");
        ip.dscp = 46.try_into().expect("a code");
        PacketBuilder::ethernet2(MACS.0, MACS.1)
            .ip(etherparse::IpHeaders::Ipv4(ip, Default::default()))
            .udp(5, 6)
            .write(&mut frame, b"erdp")
            .expect("written");
        let headers = Headers::of(&frame);
        assert_eq!((headers.dscp, headers.ttl), (Some(46), Some(3)));
        assert_eq!((headers.source_port, headers.destination_port), (Some(5), Some(6)));
        assert_eq!(headers.protocol.as_deref(), Some("udp"));

        let arp = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            ArpOperation::REQUEST,
            &MACS.0,
            &[198, 18, 0, 9],
            &[0; 6],
            &[198, 18, 0, 1],
        );
        let mut frame = Vec::new();
        let packet = PacketBuilder::ethernet2(MACS.0, MACS.1).arp(arp.expect("ARP"));
        packet.write(&mut frame).expect("written");
        let headers = Headers::of(&frame);
        assert_eq!(headers.protocol.as_deref(), Some("arp"));
        assert_eq!(headers.destination, Some([198, 18, 0, 1].into()));
    }

    #[test]
    fn whatever_is_no_packet_tells_what_it_can_and_never_panics() {
        assert_eq!(Headers::of(&[]), Headers::default());
        let unknown = [&MACS.1[..], &MACS.0, &[0x88, 0xcc, 1, 2, 3]].concat();
        assert_eq!(Headers::of(&unknown).protocol.as_deref(), Some("ethertype 0x88cc"));
        let whole = long();
        for len in 0..whole.len() {
            Headers::of(&whole[..len]);
            for at in 0..len {
                let mut broken = whole[..len].to_vec();
                broken[at] ^= 0xff;
                Headers::of(&broken);
            }
        }
    }
}
