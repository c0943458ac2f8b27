//! A frame that an operator gives: its bytes out of hex, and what it is. It may be of any kind, and its text of any.
//!
//! What a frame is, its headers' values are read with the packet path's own parser: what is shown of a packet is what was decided on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use erdp_common::{
    family::{Datagram, Family, V4, V6},
    link,
    memory::Frame,
};

use super::{ACK, PacketShape, Protocol, Question, QuestionError, SIZE_MOST, SYN};

/// Octets of the longest frame of a question. The kernel runs a program on one page of 4,096 octets, of which it keeps 256 in front and 320
/// behind (XDP_PACKET_HEADROOM and `struct skb_shared_info`; Linux 6.1, net/bpf/test_run.c), and 16 are the question's marker.
pub const FRAME_MOST: usize = 4_096 - 256 - 320 - 16;
/// The kernel takes no frame that is shorter than an Ethernet header.
pub const FRAME_LEAST: usize = 14;

/// Why a text or some bytes are no frame to ask about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A character that is no digit.
    #[error(
        "the frame has {found:?} at character {at}: write hexadecimal digits only; blanks, colons and line ends between octets are skipped"
    )]
    NotHex {
        /// The character.
        found: char,
        /// Its place, from 1.
        at: usize,
    },
    /// Half an octet is left.
    #[error(
        "the frame has {0} hexadecimal digits, an odd number: an octet has two; is one missing at its end?"
    )]
    Odd(usize),
    /// No Ethernet header.
    #[error("the frame has {0} octets: an Ethernet header alone has {least}; begin with the destination's MAC address", least = FRAME_LEAST)]
    Short(usize),
    /// More than the kernel takes.
    #[error("the frame has {0} octets or more: the kernel runs a program on {most} at most; cut the payload and correct the packet's length", most = FRAME_MOST)]
    Long(usize),
}

/// The bytes of a frame in hex: digits, with blanks, colons, hyphens and line ends wherever they are, and `0x` in front.
pub fn frame_of_hex(text: &str) -> Result<Vec<u8>, FrameError> {
    let skipped = text.len() - text.trim_start().len();
    let digits = text.trim_start();
    let (skipped, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (skipped + 2, digits),
        None => (skipped, digits),
    };
    let (mut frame, mut half) = (Vec::new(), None);
    for (at, found) in digits.chars().enumerate() {
        if found.is_ascii_whitespace() || found == ':' || found == '-' {
            continue;
        }
        let digit = found.to_digit(16).ok_or(FrameError::NotHex { found, at: skipped + at + 1 })? as u8;
        match half.take() {
            None => half = Some(digit << 4),
            Some(high) if frame.len() < FRAME_MOST => frame.push(high | digit),
            Some(_) => return Err(FrameError::Long(FRAME_MOST + 1)),
        }
    }
    match half {
        Some(_) => Err(FrameError::Odd(2 * frame.len() + 1)),
        None if frame.len() < FRAME_LEAST => Err(FrameError::Short(frame.len())),
        None => Ok(frame),
    }
}

/// Bytes as hex.
pub fn hex_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// What a frame's IP packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// As the packet path has it.
    pub datagram: Datagram,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// VLAN identifiers, outer first.
    pub tags: Vec<u16>,
}

impl Parsed {
    /// The ports, of a packet whose protocol has some.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let has_ports = matches!(self.datagram.protocol, 6 | 17 | 132) && !self.datagram.is_fragment;
        let word = self.datagram.transport_word().filter(|_| has_ports)?;
        Some(((word >> 16) as u16, word as u16))
    }

    /// The frame that answers this packet, with these tags: from its destination to its source, of the same class and size, an echo reply to an echo
    /// request and a SYN with ACK to what is TCP.
    pub fn reply(&self, tags: [Option<u16>; 2]) -> Result<Vec<u8>, QuestionError> {
        let (from, to) = self.ports().unwrap_or((0, 0));
        let question =
            Question { from: self.destination, to: self.source, ports: (to, from), hop_limit: 64, tags };
        let size = u16::try_from(self.datagram.len).unwrap_or(SIZE_MOST).min(SIZE_MOST);
        let shape = PacketShape {
            protocol: match self.datagram.protocol {
                17 => Protocol::Udp,
                6 => Protocol::Tcp,
                1 | 58 => Protocol::Icmp,
                50 => Protocol::Esp,
                number => Protocol::Number(number),
            },
            dscp: self.dscp(),
            ecn: self.ecn(),
            size: Some(size),
            tcp_flags: SYN | ACK,
            echo_reply: true,
            ..PacketShape::default()
        };
        match question.shaped(&shape) {
            // A fragment may be shorter than a whole packet's headers.
            Err(QuestionError::TooShort { least, .. }) => {
                question.shaped(&PacketShape { size: u16::try_from(least).ok(), ..shape })
            }
            answer => answer,
        }
    }

    /// DSCP.
    pub fn dscp(&self) -> u8 {
        self.datagram.traffic_class >> 2
    }

    /// ECN field.
    pub fn ecn(&self) -> u8 {
        self.datagram.traffic_class & 3
    }
}

/// Reads a frame; `None`: it has no IP packet that the packet path would go on with.
pub fn parse(frame: &[u8]) -> Option<Parsed> {
    let frame = Frame::new(frame);
    let link = link::parse(&frame).ok()?;
    let tags = [link.outer, link.inner].into_iter().take(usize::from(link.tags)).collect();
    match u16::from_be(link.ether_type) {
        0x0800 => {
            let datagram = V4::parse(&frame, link.payload_at).ok()?;
            let address = |bits: u64| IpAddr::V4(Ipv4Addr::from((bits >> 32) as u32));
            let (source, destination) = (address(datagram.source.high), address(datagram.destination.high));
            Some(Parsed { datagram, source, destination, tags })
        }
        0x86dd => {
            let datagram = V6::parse(&frame, link.payload_at).ok()?;
            let address = |it: erdp_common::family::Address| {
                IpAddr::V6(Ipv6Addr::from(u128::from(it.high) << 64 | u128::from(it.low)))
            };
            let (source, destination) = (address(datagram.source), address(datagram.destination));
            Some(Parsed { datagram, source, destination, tags })
        }
        _ => None,
    }
}
