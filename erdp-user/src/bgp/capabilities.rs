//! What an OPEN offers beyond families and AS numbers, in types of our own: graceful restart, roles and several paths.
//!
//! RFC 4724 section 3 and RFC 8538 section 2 (graceful restart), RFC 9234 section 4 (roles), RFC 7911 section 4 (several paths). Values that both sides must agree on are
//! judged in `session/open`, not here.

use serde::{Deserialize, Serialize};

use super::{Family, Seconds};

/// The graceful restart capability of one speaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// The R bit: the speaker has just restarted, and waits for our End-of-RIB with nothing to offer yet.
    pub restarting: bool,
    /// The N bit (RFC 8538): NOTIFICATIONs other than Hard Reset keep the routes too.
    pub notification: bool,
    /// How long the speaker asks others to keep its routes while it is away; at most 4095 s.
    pub time: Seconds,
    /// The families whose forwarding may outlive the speaker; the F bit says that this time it has.
    pub families: Vec<(Family, bool)>,
}

impl GracefulRestart {
    /// Longest restart time that the twelve bits hold.
    pub const TIME_MAX: Seconds = Seconds(4095);

    /// Whether forwarding of a family was preserved over the restart before this OPEN.
    pub fn preserved(&self, family: Family) -> bool {
        self.families.contains(&(family, true))
    }
}

/// Which way several paths to one prefix may go, as a speaker offers it for a family (RFC 7911 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddPath {
    /// It takes them.
    Receive,
    /// It would tell them.
    Send,
    /// Both.
    Both,
}

impl AddPath {
    /// The mode with this number on the wire; any other is to be ignored.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Receive),
            2 => Some(Self::Send),
            3 => Some(Self::Both),
            _ => None,
        }
    }

    /// Its number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Receive => 1,
            Self::Send => 2,
            Self::Both => 3,
        }
    }

    /// Whether the speaker tells several paths to who takes them.
    pub fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }
}

/// How long a peer's routes are kept after its session was lost (RFC 4724 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The families whose routes stay in use.
    pub families: Vec<Family>,
    /// For how long, unless the peer is back before: its own restart time.
    pub wait: Seconds,
}

/// A speaker's place in the relation with its peer (RFC 9234 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sells transit to the peer.
    Provider,
    /// A route server.
    RouteServer,
    /// Is served by a route server.
    RouteServerClient,
    /// Buys transit from the peer.
    Customer,
    /// Exchanges its own and its customers' routes only.
    Peer,
}

impl Role {
    /// Every role, at the index of its number on the wire.
    pub const ALL: [Self; 5] =
        [Self::Provider, Self::RouteServer, Self::RouteServerClient, Self::Customer, Self::Peer];

    /// The role with this number on the wire.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The role that the other side must have (RFC 9234 table 2).
    pub fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::Customer => Self::Provider,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Peer => Self::Peer,
        }
    }

    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::RouteServer => "route-server",
            Self::RouteServerClient => "route-server-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_the_registrys_numbers_and_counterparts_are_mutual() {
        for (code, role) in (0..).zip(Role::ALL) {
            assert_eq!((Role::from_code(code), role.code()), (Some(role), code));
            assert_eq!(role.counterpart().counterpart(), role);
        }
        assert_eq!(Role::from_code(5), None);
        assert_eq!((Role::Customer.code(), Role::Peer.code()), (3, 4));
    }
}
