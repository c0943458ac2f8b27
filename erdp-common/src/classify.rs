//! Stage "classify": which traffic class a packet is in, and which DSCP it leaves with (rules F).
//!
//! A [`QosProfile`] is data, one for each peering: a class and an outgoing code for each of the 64 DSCP values, and port
//! ranges for traffic that nobody has marked. ECN bits (RFC 3168) are never touched here.

use network_types::ip::IpProto;

use crate::{abi::QosProfile, family::Datagram};

/// Traffic classes, least protected first.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Best effort: dropped first when a bucket runs short.
    Default = 0,
    /// Video and sharing.
    Interactive = 1,
    /// Voice: dropped last, within its share.
    Voice = 2,
}

impl Class {
    /// Every class, in number order.
    pub const ALL: [Self; 3] = [Self::Default, Self::Interactive, Self::Voice];

    /// The name in counters and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Interactive => "interactive",
            Self::Voice => "voice",
        }
    }

    /// A number in a record; anything unknown is best effort.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Interactive,
            2 => Self::Voice,
            _ => Self::Default,
        }
    }
}

/// A packet's class and the DSCP it leaves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marking {
    /// Its class.
    pub class: Class,
    /// The six bits it leaves with.
    pub dscp: u8,
}

/// Classifies by DSCP; unmarked packets by ports where the profile has ranges: ours is the source port towards Microsoft
/// and the destination port from there (Teams documents client source ports).
#[inline(always)]
pub fn classify(datagram: &Datagram, to_microsoft: bool, profile: &QosProfile) -> Marking {
    let code = usize::from(datagram.traffic_class >> 2);
    let class = profile.class.get(code).copied().unwrap_or(0);
    let dscp = profile.dscp.get(code).copied().unwrap_or(0);
    if code == 0 && profile.ranges != 0 && datagram.protocol == IpProto::Udp as u8 && !datagram.is_fragment {
        let port = client_port(datagram, to_microsoft);
        for range in &profile.ports {
            if port != 0 && port >= range.first && port <= range.last {
                return Marking { class: Class::from_number(range.class), dscp: range.dscp };
            }
        }
    }
    Marking { class: Class::from_number(class), dscp }
}

/// 0: not there.
#[inline(always)]
fn client_port(datagram: &Datagram, to_microsoft: bool) -> u16 {
    let ports = datagram.transport_word().unwrap_or(0);
    if to_microsoft { (ports >> 16) as u16 } else { ports as u16 }
}
