//! The embedded BGP speaker.
//!
//! # Files
//! [`wire`]: bytes <-> messages, by rustbgpd-wire behind our own types. [`session`]: the pure machine of one peer (RFC 4271
//! section 8, collision included), time is an argument. [`peer`]: the driver of one session, sockets and timers, no `if` about
//! the protocol. [`listen`]: port 179, shared by all peers. [`socket`]: RFC 2385 keys on sockets.
//!
//! # A message's way
//! in: socket -> `peer` -> `Session::handle_bytes` -> `wire` -> `Session` -> [`PeerEvent`] -> the controller.
//! out: [`PeerCommand`] -> `peer` -> `Session::handle_send` -> `wire` -> bytes -> socket.
//!
//! # What must never happen
//! A byte string makes the daemon panic, or resets a session where RFC 7606 says treat-as-withdraw; a slow peer makes memory
//! grow without bound (commands wait while a peer's backlog is full).
//!
//! # RFCs
//! 4271 (BGP-4), 4760 (multiprotocol; IPv4 and IPv6 unicast), 5492 (capabilities), 6793 (four-octet AS numbers), 6286 (BGP
//! identifier), 7606 (revised error handling), 2918 (route refresh, answered), 9003 (shutdown communication), 2385 (MD5).
//! Not met: 4271 section 8 DampPeerOscillations and the delayed OPEN (both optional); back-off after an error is ours.

pub mod listen;
pub mod peer;
pub mod session;
pub mod socket;
pub mod wire;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;
use serde::Serialize;

/// TCP port (RFC 4271 section 8).
pub const PORT: u16 = 179;

/// An autonomous system number (RFC 6793: four octets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Asn(pub u32);

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

/// Index of a peer in the controller's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PeerId(pub u16);

/// A time in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Seconds(pub u16);

/// An address family with unicast routes (RFC 4760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// The family of a prefix.
    pub fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4Unicast,
            IpNet::V6(_) => Self::Ipv6Unicast,
        }
    }
}

/// What a session is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The peer's index.
    pub id: PeerId,
    /// Our autonomous system.
    pub local_asn: Asn,
    /// The peer's autonomous system.
    pub remote_asn: Asn,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// The interface that the session is bound to; also the scope of a link-local address.
    pub interface: Option<String>,
    /// The hold time that we offer.
    pub hold: Seconds,
    /// Whether we only wait for the peer to connect.
    pub passive: bool,
    /// The TCP MD5 key (RFC 2385).
    pub md5: Option<String>,
    /// The families that we offer.
    pub families: Vec<Family>,
}

/// ORIGIN (RFC 4271 section 5.1.1), most preferred first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Interior to the originating AS.
    Igp,
    /// Learned by EGP.
    Egp,
    /// Learned by other means.
    Incomplete,
}

/// One segment of an AS path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum AsPathSegment {
    /// An unordered set: counts as one in the length (RFC 4271 section 9.1.2.2 a).
    Set(Vec<Asn>),
    /// An ordered sequence.
    Sequence(Vec<Asn>),
}

impl AsPathSegment {
    fn asns(&self) -> &[Asn] {
        match self {
            Self::Set(asns) | Self::Sequence(asns) => asns,
        }
    }
}

/// Longest sequence in one segment (RFC 4271 section 4.3: the count is one octet).
const SEGMENT_MAX: usize = 255;

/// AS_PATH.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct AsPath {
    /// The segments, nearest first.
    pub segments: Vec<AsPathSegment>,
}

impl AsPath {
    /// One sequence, nearest first.
    pub fn sequence(asns: impl IntoIterator<Item = u32>) -> Self {
        let asns: Vec<Asn> = asns.into_iter().map(Asn).collect();
        Self { segments: if asns.is_empty() { vec![] } else { vec![AsPathSegment::Sequence(asns)] } }
    }

    /// Whether an AS is anywhere in the path.
    pub fn contains(&self, asn: Asn) -> bool {
        self.segments.iter().any(|segment| segment.asns().contains(&asn))
    }

    /// Length for the decision process: a set counts as one (RFC 4271 section 9.1.2.2 a).
    pub fn len(&self) -> usize {
        let len = |segment: &AsPathSegment| match segment {
            AsPathSegment::Set(_) => 1,
            AsPathSegment::Sequence(asns) => asns.len(),
        };
        self.segments.iter().map(len).sum()
    }

    /// True for a path that was originated by a peer in our own AS.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The neighbouring AS: first of the first sequence (RFC 4271 section 9.1.2.2 c).
    pub fn first(&self) -> Option<Asn> {
        match self.segments.first()? {
            AsPathSegment::Sequence(asns) => asns.first().copied(),
            AsPathSegment::Set(_) => None,
        }
    }

    /// The path with an AS in front (RFC 4271 section 5.1.2 b).
    pub fn prepended(&self, asn: Asn) -> Self {
        let mut path = self.clone();
        match path.segments.first_mut() {
            Some(AsPathSegment::Sequence(asns)) if asns.len() < SEGMENT_MAX => asns.insert(0, asn),
            _ => path.segments.insert(0, AsPathSegment::Sequence(vec![asn])),
        }
        path
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |asns: &[Asn]| asns.iter().map(|asn| asn.0.to_string()).collect::<Vec<_>>().join(" ");
        let parts = self.segments.iter().map(|segment| match segment {
            AsPathSegment::Set(asns) => format!("{{{}}}", join(asns)),
            AsPathSegment::Sequence(asns) => join(asns),
        });
        f.write_str(&parts.collect::<Vec<_>>().join(" "))
    }
}

/// A community (RFC 1997).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Community(pub u32);

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A large community (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

/// An attribute that the speaker does not know, kept as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RawAttribute {
    /// Flags as received.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: Vec<u8>,
}

/// The attributes of a path, shared by all the prefixes that were announced with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH.
    pub as_path: AsPath,
    /// NEXT_HOP, or the next hop of MP_REACH_NLRI.
    pub next_hop: IpAddr,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// COMMUNITIES.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITIES.
    pub large_communities: Vec<LargeCommunity>,
    /// Transitive attributes that we pass on unread.
    pub unknown_transitive: Vec<RawAttribute>,
}

/// What one UPDATE says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Prefixes that are gone.
    pub withdrawn: Vec<IpNet>,
    /// Prefixes that are announced with `attributes`.
    pub announced: Vec<IpNet>,
    /// The attributes of `announced`.
    pub attributes: Option<Arc<PathAttributes>>,
    /// End-of-RIB of a family (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
}

/// What a session learned when it was established.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionFacts {
    /// The peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// The families that both sides offered.
    pub families: Vec<Family>,
    /// The negotiated hold time.
    pub hold: Seconds,
    /// Our address on the session.
    pub local: IpAddr,
}

/// Why a session is down: a sentence for operators, with the remedy where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownReason(pub String);

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a peer's driver tells the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The session is up.
    Established {
        /// Which.
        peer: PeerId,
        /// What was negotiated.
        facts: SessionFacts,
    },
    /// An UPDATE.
    Update {
        /// Whose.
        peer: PeerId,
        /// What it says.
        update: Update,
    },
    /// The peer asks for our routes again (RFC 2918).
    Refresh {
        /// Who.
        peer: PeerId,
        /// Of which family.
        family: Family,
    },
    /// The session, or an attempt at one, has ended. Only after `Established` does it end anything in the RIB.
    Down {
        /// Which.
        peer: PeerId,
        /// Why.
        reason: DownReason,
    },
}

/// What the controller tells a peer's driver.
#[derive(Clone, Debug)]
pub enum PeerCommand {
    /// Send this; split into as many messages as it needs.
    Send(Update),
    /// End the session with Cease/2 (administrative shutdown) and this text; the driver ends.
    Stop(String),
}
