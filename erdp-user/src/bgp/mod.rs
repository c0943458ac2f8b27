//! The embedded BGP speaker.
//!
//! `attributes` the types a route is described with; `capabilities` what an OPEN offers; `wire` bytes <-> messages; `notification` why a session ends, in the
//! protocol's numbers and in an operator's sentence; `faults` messages with faults as operators see them; `session` the pure machine of one peer (RFC 4271 section 8); `socket` the
//! socket options; `listen` port 179; `peer` the task that drives one session; `speaker` all of them together.
//!
//! A message's way in: `peer` reads bytes and hands them to its `session` with the time; `session` cuts messages, `wire`
//! decodes them, the machine reacts, and what concerns others comes out as a [`PeerEvent`]. A route's way out: the RIB's
//! [`Update`] arrives as [`PeerCommand::Send`], `session` checks that the peer is Established, `wire` packs it into messages of
//! at most 4096 bytes, `peer` writes them.
//!
//! Obeyed: RFC 4271 (BGP-4), 4760 (families), 5492 (capabilities), 6793 (four-octet AS numbers), 2918 and 7313 (route refresh), 4724
//! and 8538 (graceful restart, as helper and as the one that restarts), 6286 (identifiers), 7606 (a bad UPDATE does not end a
//! session), 7607 (AS 0), 7911 (several paths, received), 8654 (extended messages), 9003 (shutdown text), 9234 (roles), 9687 (send hold timer), 9774 (no AS_SET),
//! 2385 (TCP MD5), 5082 (GTSM). What of each is met, and what not and why: docs/bgp.md.
//!
//! What must never happen: a received byte that panics; a malformed attribute that ends a session where RFC 7606 says
//! treat-as-withdraw; a route sent before Established; a type of the codec outside `wire`; a clock or a socket below `peer`.
//!
//! Deliberate differences from RFC 4271: a failed TCP connect leads to Active and not to Idle, so that the peer's own attempt is
//! welcome while ours waits (as every deployed speaker does); DelayOpen and the MAY-level damping are absent, a doubling
//! wait of 1 to 30 seconds takes their place.

mod attributes;
mod capabilities;
mod faults;
mod flight;
pub mod listen;
mod notification;
mod peer;
mod session;
mod socket;
mod speaker;
pub mod wire;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use attributes::{
    Aggregator, AsPath, AsPathSegment, Asn, Community, LargeCommunity, Origin, Partial, PathAttributes,
    PathId, RawAttribute, RefreshMark, Update,
};
pub use capabilities::{AddPath, GracefulRestart, Kept, Role};
pub use faults::{FaultKind, FaultyUpdate};
pub use flight::Ballast;
pub use listen::{ListenError, Listener, Refused};
pub use notification::{Cease, DownReason, Notification};
pub use peer::{Handed, PeerHandle, PeerStatus, SeenFault};
pub use session::{Action, ConnId, Counters, Gate, Loss, Moment, Notified, Session, SessionState, State};
pub use speaker::Speaker;

pub use crate::types::PeerId;

/// TCP port of BGP.
pub const PORT: u16 = 179;

/// A time in whole seconds, as the OPEN message carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub u16);

impl Seconds {
    /// The same as a [`Duration`].
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

/// An address family, always of unicast routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
        Self::of_address(prefix.addr())
    }

    /// The family of an address.
    pub fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4Unicast } else { Self::Ipv6Unicast }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "IPv4 unicast",
            Self::Ipv6Unicast => "IPv6 unicast",
        })
    }
}

/// Everything a session must know; checked by whoever wrote it (`config`), not again here.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Names the peer in every event.
    pub id: PeerId,
    /// Our AS.
    pub local_asn: Asn,
    /// The AS the peer must say it is.
    pub remote_asn: Asn,
    /// Our BGP identifier; not zero.
    pub router_id: Ipv4Addr,
    /// Our address on the session; connections are bound to it, and it is the next hop of its family.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// The interface sockets are bound to (SO_BINDTODEVICE); required for a link-local `remote`.
    pub interface: Option<String>,
    /// Our proposal; the lower of the two wins. 0 (no keepalives) or at least 3.
    pub hold: Seconds,
    /// Wait for the peer to connect instead of connecting.
    pub passive: bool,
    /// The TCP MD5 key (RFC 2385), at most 80 bytes.
    pub md5: Option<String>,
    /// Require that the peer's packets come with TTL 255 (RFC 5082); ours then carry 255, otherwise 1.
    pub gtsm: bool,
    /// The families to offer.
    pub families: Vec<Family>,
    /// Next hop of what we send in the family that is not `local`'s: our address in that family on the same link. Without it
    /// updates of that family must bring a next hop of that family themselves.
    pub other_next_hop: Option<IpAddr>,
    /// How long the peer shall keep our routes over a restart of ours (RFC 4724); 0 offers no graceful restart, nor helps with one.
    pub restart_time: Seconds,
    /// The R bit: this process took over from one that had sessions. Cleared by the driver once the session has been up.
    pub restarting: bool,
    /// The F bit: packets are still forwarded as before the restart, because the maps outlived the process.
    pub forwarding_preserved: bool,
    /// Our role towards the peer (RFC 9234); without one, none is offered and no route is marked.
    pub role: Option<Role>,
    /// Refuse a peer that does not tell its role (RFC 9234 section 4.2, strict mode).
    pub role_strict: bool,
    /// Take several paths to a prefix, in all families, where the peer tells them (RFC 7911); we tell one.
    pub add_path: bool,
    /// The peer's port: [`PORT`] except in tests.
    pub port: u16,
}

/// What FRR and BIRD ask for too.
const RESTART_TIME: Seconds = Seconds(120);

impl PeerConfig {
    /// An active peer with hold 180 s, both families, no MD5 and no GTSM.
    pub fn new(id: PeerId, asns: (Asn, Asn), router_id: Ipv4Addr, local: IpAddr, remote: IpAddr) -> Self {
        Self {
            id,
            local_asn: asns.0,
            remote_asn: asns.1,
            router_id,
            local,
            remote,
            interface: None,
            hold: Seconds(180),
            passive: false,
            md5: None,
            gtsm: false,
            families: vec![Family::Ipv4Unicast, Family::Ipv6Unicast],
            other_next_hop: None,
            restart_time: RESTART_TIME,
            restarting: false,
            forwarding_preserved: false,
            role: None,
            role_strict: false,
            add_path: false,
            port: PORT,
        }
    }

    /// Whether the peer is in our own AS.
    pub fn is_internal(&self) -> bool {
        self.local_asn == self.remote_asn
    }
}

impl fmt::Debug for PeerConfig {
    /// As derived, but the MD5 key never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConfig")
            .field("id", &self.id)
            .field("local", &(self.local_asn, self.local))
            .field("remote", &(self.remote_asn, self.remote, self.port))
            .field("interface", &self.interface)
            .field("hold", &self.hold)
            .field("passive", &self.passive)
            .field("md5", &self.md5.as_ref().map(|_| "..."))
            .field("gtsm", &self.gtsm)
            .field("families", &self.families)
            .finish_non_exhaustive()
    }
}

/// What both sides agreed on when a session became Established: all that a session needs to go on, and nothing of how it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts {
    /// Counts the sessions with this peer from 1: what was meant for one must not reach the next.
    pub session: u64,
    /// The peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// The peer's AS.
    pub asn: Asn,
    /// Whether that is our own AS.
    pub internal: bool,
    /// Families both sides offered; routes of others are neither sent nor accepted.
    pub families: Vec<Family>,
    /// The negotiated hold time; 0 means that the session is kept without keepalives.
    pub hold: Seconds,
    /// Our address on the session.
    pub local: IpAddr,
    /// Next hop for IPv4 routes we send, where we have an address for it.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// Next hop for IPv6 routes we send, where we have an address for it.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// Whether AS numbers travel in four octets; otherwise AS_TRANS and AS4_PATH are used.
    pub four_octet_asn: bool,
    /// Whether the peer answers a ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Whether both sides mark beginning and end of a refresh (RFC 7313).
    pub enhanced_refresh: bool,
    /// Whether UPDATE, NOTIFICATION and ROUTE-REFRESH may have up to 65,535 bytes (RFC 8654).
    pub extended_messages: bool,
    /// Whether the peer will send End-of-RIB (it offered the graceful restart capability).
    pub end_of_rib: bool,
    /// What the peer offers for a restart of its own; `None` also where we do not help.
    pub restart: Option<GracefulRestart>,
    /// Both sides keep routes over a NOTIFICATION (RFC 8538).
    pub notification_restart: bool,
    /// Our role, where the peer has told the one that fits (RFC 9234).
    pub role: Option<Role>,
    /// Families in which the peer tells every path with an identifier (RFC 7911).
    #[serde(default)]
    pub add_path: Vec<Family>,
}

impl SessionFacts {
    /// What of this session stays in use if it is lost without a word that ends it for good (RFC 4724 section 4.2).
    pub fn kept(&self) -> Option<Kept> {
        let restart = self.restart.as_ref()?;
        let families: Vec<Family> = restart.families.iter().map(|(family, _)| *family).collect();
        let families: Vec<Family> =
            families.into_iter().filter(|family| self.families.contains(family)).collect();
        (!families.is_empty()).then_some(Kept { families, wait: restart.time })
    }
}

/// What a peer's task tells the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The session is up; the whole table is to be sent now.
    Established {
        /// Which peer.
        peer: PeerId,
        /// What was agreed.
        facts: SessionFacts,
    },
    /// Routes changed.
    Update {
        /// Which peer.
        peer: PeerId,
        /// The change.
        update: Update,
    },
    /// The peer asks for everything of a family again (RFC 2918).
    Refresh {
        /// Which peer.
        peer: PeerId,
        /// Which family.
        family: Family,
    },
    /// The session, or an attempt at one, ended. Comes without a preceding `Established` when an attempt failed.
    Down {
        /// Which peer.
        peer: PeerId,
        /// Why, and what to do.
        reason: DownReason,
        /// The routes that stay in use because the peer said that it restarts gracefully.
        kept: Option<Kept>,
    },
}

/// Which limit a peer's routes exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// That of the prefixes of a family.
    Prefixes {
        /// Of which family.
        family: Family,
        /// How many the peer may announce.
        limit: u32,
    },
    /// That of the memory that all of its routes take.
    Memory {
        /// How many bytes they may take.
        limit: usize,
    },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefixes { family, limit } => {
                write!(f, "more than {limit} prefixes of {family} (max-prefixes)")
            }
            Self::Memory { limit } => write!(f, "routes of more than {} MiB (max-memory-mib)", limit >> 20),
        }
    }
}

/// What the controller asks of a peer's task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerCommand {
    /// Send routes. Dropped, and counted, when the session they were meant for is no more: the next one gets the whole table.
    Send {
        /// The number of the session, from [`SessionFacts::session`].
        session: u64,
        /// The routes.
        update: Update,
    },
    /// Do not wait for the next attempt: the link is back.
    Hurry,
    /// Ask the peer for all its routes of a family again; nothing happens if it cannot.
    RequestRefresh(Family),
    /// BFD says that the way to the peer is dead: end with Cease/10 (RFC 9384) and come back.
    PathDown,
    /// Neither dial nor answer until told otherwise: BFD is to be up first (RFC 5882 section 4.1).
    Hold(bool),
    /// Whether the link has its carrier: without it, end and neither dial nor answer.
    Carrier(bool),
    /// An operator takes the peering down: end with Cease/2 and this text (RFC 9003), and neither dial nor accept until
    /// [`Self::Enable`].
    Disable {
        /// Shown to the peer's operator; may be empty.
        text: String,
    },
    /// The operator gives it free again.
    Enable,
    /// End the session with Cease/4 and this text, and connect again.
    Reset {
        /// Shown to the peer's operator (RFC 9003); may be empty.
        text: String,
    },
    /// The peer sent more than it may: Cease/1, with the family and the limit where that is one of prefixes, and back after a wait that
    /// doubles (requirement D2).
    Overflow {
        /// More of what.
        excess: Excess,
        /// The first wait.
        wait: Seconds,
    },
    /// The process before us has sent the peer away for too many prefixes: it stays away for the rest of its wait.
    Away {
        /// For so long.
        left: Duration,
        /// How often it has happened.
        count: u32,
    },
    /// End the session with this Cease and end the task.
    Stop {
        /// Why.
        cease: Cease,
        /// Shown to the peer's operator where the Cease carries text (RFC 9003); may be empty.
        text: String,
    },
}
