//! Frames to ask the program about: a minimal UDP packet from A to B with the tags of an attachment.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::DataplaneError;

/// A packet that `erdp explain` asks about.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Source address.
    pub from: IpAddr,
    /// Destination address, of the same family.
    pub to: IpAddr,
    /// UDP ports; they choose the flow's link.
    pub ports: (u16, u16),
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// VLAN identifiers, outer first.
    pub tags: [Option<u16>; 2],
}

impl Question {
    /// The frame's bytes.
    pub fn frame(&self) -> Result<Vec<u8>, DataplaneError> {
        let udp = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), self.hop_limit)
                    .udp(self.ports.0, self.ports.1)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), self.hop_limit)
                    .udp(self.ports.0, self.ports.1)
            }
            (from, to) => {
                return Err(DataplaneError::Ask(format!("{from} and {to} are not of one address family")));
            }
        };
        let ether_type: u16 = if self.to.is_ipv4() { 0x0800 } else { 0x86dd };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for vid in self.tags.iter().flatten() {
            frame.extend_from_slice(&0x8100u16.to_be_bytes());
            frame.extend_from_slice(&vid.to_be_bytes());
        }
        frame.extend_from_slice(&ether_type.to_be_bytes());
        udp.write(&mut frame, b"erdp").map_err(|error| DataplaneError::Ask(error.to_string()))?;
        Ok(frame)
    }
}
