//! Frames to ask the program about: a packet from A to B of a given shape, with the tags of an attachment, or a frame that was captured.
//!
//! Input is what an operator asks for: addresses, ports and a [`PacketShape`], by words (`words`), or a whole frame in hex (`read`); output is the
//! frame, or a sentence that names the bad value and what is possible. `read` also says what a frame is, by the packet path's own parser. Pure:
//! nothing here asks anything.

mod read;
mod words;

use std::net::IpAddr;

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, PacketBuilderStep, TcpHeader,
};
use serde::{Deserialize, Serialize};

pub use self::{
    read::{FRAME_LEAST, FRAME_MOST, FrameError, Parsed, frame_of_hex, hex_of, parse},
    words::{DSCP_NAMES, dscp, dscp_name, ecn, ecn_name, protocol_name, tags, tcp_flags},
};
use super::DataplaneError;

/// What every question carries that does not ask for a size.
const PAYLOAD: &[u8] = b"erdp";
/// Octets of the longest IP packet of a question: with a header and two tags it is a frame of [`FRAME_MOST`].
pub const SIZE_MOST: u16 = (FRAME_MOST - 22) as u16;
/// An ESP header (RFC 4303 section 2): the security parameters' index and a sequence number.
const ESP_HEADER: [u8; 8] = [0, 0, 1, 0, 0, 0, 0, 1];
/// TCP's SYN, as in the header's flags.
pub const SYN: u8 = 0x02;
/// TCP's ACK.
pub const ACK: u8 = 0x10;

/// A packet that `erdp ask` asks about.
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

/// What carries a packet's payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// UDP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
    /// Echo requests (or replies) of ICMP, or of ICMPv6 where the addresses are IPv6's.
    Icmp,
    /// IPsec's ESP, not in UDP.
    Esp,
    /// Any other, by IANA's number.
    Number(u8),
}

/// What a packet is beside its addresses and ports. What is left out is as every question had it before there was a choice: a small UDP packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PacketShape {
    /// The protocol.
    pub protocol: Protocol,
    /// DSCP, 0 to 63.
    pub dscp: u8,
    /// ECN field, 0 to 3.
    pub ecn: u8,
    /// Octets of the IP packet; `None`: a few octets of payload.
    pub size: Option<u16>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP's flags as in its header, FIN being the lowest bit.
    pub tcp_flags: u8,
    /// Of ICMP: an echo reply and no request.
    pub echo_reply: bool,
    /// VLAN identifiers, outer first; `None`: those of the attachment.
    pub tags: Option<Vec<u16>>,
}

impl Default for PacketShape {
    fn default() -> Self {
        Self {
            protocol: Protocol::Udp,
            dscp: 0,
            ecn: 0,
            size: None,
            ttl: 64,
            tcp_flags: SYN,
            echo_reply: false,
            tags: None,
        }
    }
}

/// Why there is no such packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// One address is IPv4's, the other IPv6's.
    #[error("{from} and {to} are not of one address family; name a source of the destination's with --from")]
    Families {
        /// Source.
        from: IpAddr,
        /// Destination.
        to: IpAddr,
    },
    /// The headers alone are longer.
    #[error("size {size}: the headers of such a packet take {least} octets; ask for {least} or more")]
    TooShort {
        /// As asked for.
        size: u16,
        /// What the headers take.
        least: usize,
    },
    /// The kernel takes no longer frame.
    #[error("size {0}: the kernel runs a program on frames of one page; ask for {most} octets or less", most = SIZE_MOST)]
    TooLong(u16),
    /// A number of IPv6 that says what comes before the payload.
    #[error(
        "protocol {0}: in IPv6 that is an extension header, which is nothing without what it carries; give the packet with --frame"
    )]
    ExtensionHeader(u8),
    /// Six bits.
    #[error("dscp {0}: there are 0 to 63")]
    Dscp(u8),
    /// Two bits.
    #[error("ecn {0}: there are 0 to 3")]
    Ecn(u8),
    /// Twelve bits, of which all zeros and all ones name no VLAN.
    #[error("VLAN tag {0}: there are 1 to 4094")]
    Tag(u16),
    /// The packet path knows two.
    #[error("{0} VLAN tags: a frame has two at most")]
    Tags(usize),
    /// The library's own word.
    #[error("building the packet: {0}")]
    Build(String),
}

impl Question {
    /// The frame's bytes: a small UDP packet.
    pub fn frame(&self) -> Result<Vec<u8>, DataplaneError> {
        let shape = PacketShape { ttl: self.hop_limit, ..PacketShape::default() };
        self.shaped(&shape).map_err(|error| DataplaneError::Ask(error.to_string()))
    }

    /// The frame's bytes, of a packet of this shape: its TTL and, if it has some, its tags are the shape's.
    pub fn shaped(&self, shape: &PacketShape) -> Result<Vec<u8>, QuestionError> {
        let tags: Vec<u16> = match &shape.tags {
            Some(tags) => tags.clone(),
            None => self.tags.iter().flatten().copied().collect(),
        };
        match tags.iter().find(|vid| !(1..=4094).contains(*vid)) {
            Some(vid) => return Err(QuestionError::Tag(*vid)),
            None if tags.len() > 2 => return Err(QuestionError::Tags(tags.len())),
            None => {}
        }
        let ether_type: u16 = if self.to.is_ipv4() { 0x0800 } else { 0x86dd };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for vid in tags {
            frame.extend_from_slice(&0x8100u16.to_be_bytes());
            frame.extend_from_slice(&vid.to_be_bytes());
        }
        frame.extend_from_slice(&ether_type.to_be_bytes());
        self.write_packet(shape, &mut frame)?;
        Ok(frame)
    }

    fn write_packet(&self, shape: &PacketShape, frame: &mut Vec<u8>) -> Result<(), QuestionError> {
        let ip = PacketBuilder::ip(self.ip_header(shape)?);
        let built = |error: &dyn std::fmt::Display| QuestionError::Build(error.to_string());
        let payload = |least: usize, front: &[u8]| payload(shape.size, least, front);
        let (from, to) = self.ports;
        match shape.protocol {
            Protocol::Udp => {
                let udp = ip.udp(from, to);
                let payload = payload(udp.size(0), PAYLOAD)?;
                udp.write(frame, &payload).map_err(|error| built(&error))
            }
            Protocol::Tcp => {
                let tcp = ip.tcp_header(tcp_header(from, to, shape.tcp_flags));
                let payload = payload(tcp.size(0), &[])?;
                tcp.write(frame, &payload).map_err(|error| built(&error))
            }
            Protocol::Icmp if self.to.is_ipv4() => {
                let echo =
                    if shape.echo_reply { ip.icmpv4_echo_reply(1, 1) } else { ip.icmpv4_echo_request(1, 1) };
                let payload = payload(echo.size(0), PAYLOAD)?;
                echo.write(frame, &payload).map_err(|error| built(&error))
            }
            Protocol::Icmp => {
                let echo =
                    if shape.echo_reply { ip.icmpv6_echo_reply(1, 1) } else { ip.icmpv6_echo_request(1, 1) };
                let payload = payload(echo.size(0), PAYLOAD)?;
                echo.write(frame, &payload).map_err(|error| built(&error))
            }
            Protocol::Esp => {
                write_bare(ip, 50, payload(self.bare_header() + ESP_HEADER.len(), &[])?, &ESP_HEADER, frame)
            }
            Protocol::Number(number) => {
                write_bare(ip, number, payload(self.bare_header(), PAYLOAD)?, &[], frame)
            }
        }
    }

    /// Octets of the IP header alone.
    fn bare_header(&self) -> usize {
        if self.to.is_ipv4() { Ipv4Header::MIN_LEN } else { Ipv6Header::LEN }
    }

    fn ip_header(&self, shape: &PacketShape) -> Result<IpHeaders, QuestionError> {
        let (dscp, ecn) = (shape.dscp, shape.ecn);
        let code = dscp.try_into().map_err(|_| QuestionError::Dscp(dscp))?;
        let mark = ecn.try_into().map_err(|_| QuestionError::Ecn(ecn))?;
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = Ipv4Header {
                    dscp: code,
                    ecn: mark,
                    time_to_live: shape.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv4Header::default()
                };
                Ok(IpHeaders::Ipv4(header, Default::default()))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                if let Protocol::Number(number @ (0 | 43 | 44 | 51 | 60)) = shape.protocol {
                    return Err(QuestionError::ExtensionHeader(number));
                }
                let header = Ipv6Header {
                    traffic_class: (dscp << 2) | ecn,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: IpNumber(0),
                    hop_limit: shape.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                };
                Ok(IpHeaders::Ipv6(header, Default::default()))
            }
            (from, to) => Err(QuestionError::Families { from, to }),
        }
    }
}

fn tcp_header(from: u16, to: u16, flags: u8) -> TcpHeader {
    let has = |bit: u8| flags & bit != 0;
    let mut header = TcpHeader::new(from, to, 1, 65_535);
    (header.fin, header.syn, header.rst, header.psh) = (has(0x01), has(SYN), has(0x04), has(0x08));
    (header.ack, header.urg, header.ece, header.cwr) = (has(ACK), has(0x20), has(0x40), has(0x80));
    header
}

/// What fills a packet up to a size behind headers of `least` octets; without a size the usual few octets.
fn payload(size: Option<u16>, least: usize, usual: &[u8]) -> Result<Vec<u8>, QuestionError> {
    let Some(size) = size else { return Ok(usual.to_vec()) };
    if size > SIZE_MOST {
        return Err(QuestionError::TooLong(size));
    }
    let room = usize::from(size).checked_sub(least).ok_or(QuestionError::TooShort { size, least })?;
    let mut payload = usual.to_vec();
    payload.resize(room, 0);
    Ok(payload)
}

/// A packet whose payload begins with `front` and that no header of the library describes.
fn write_bare(
    ip: PacketBuilderStep<IpHeaders>,
    number: u8,
    payload: Vec<u8>,
    front: &[u8],
    frame: &mut Vec<u8>,
) -> Result<(), QuestionError> {
    let whole = [front, &payload].concat();
    ip.write(frame, IpNumber(number), &whole).map_err(|error| QuestionError::Build(error.to_string()))
}

#[cfg(test)]
mod tests;
