//! The kernel's routes as a source beside BGP: for sites where FRR or BIRD speaks what ERDP does not, and installs what it learns.
//!
//! # Files, in the order in which a route flows through them
//! - [`wire`]: rtnetlink messages to [`Fact`]s. Routes are decoded by the crate, nexthop objects here, because it has none.
//! - [`state`]: what the tables hold, and what one fact changes in it.
//! - [`tracker`]: what has changed for whom, and when everything is to be dumped. Pure: messages and time in, changes and requests out.
//! - [`listener`]: the socket, and the task that feeds the tracker.
//!
//! # Why one socket
//! Dumps and notifications come over the same socket, so they are in the order in which the kernel made them, and no dump is older than a
//! change that was heard before it. A dump fills tables of its own, to which changes are applied as well, and which take the place
//! of the old ones at its end. What differs then is a change like any other.
//!
//! # What the kernel does not tell (Linux 6.18, and as far back as nexthop objects go)
//! - IPv4 routes that go with an interface, a carrier or a source address; nexthop objects that go with their interface. Any such
//!   event is followed by a dump.
//! - Routes that go with a nexthop object (`nexthop_compat_mode` 0 hides the IPv6 ones too): they are removed here with the object.
//! - Routes whose object is replaced or whose group changes, in the same mode: routes are kept by the object's number, never by content.
//! - That a buffer was full: the next read fails with ENOBUFS, and everything is dumped.
//!
//! # What must never happen
//! A route of the kernel that has gone is still used. So what cannot be resolved is no route, and whatever is doubtful is dumped again.

mod listener;
mod state;
mod tracker;
mod wire;

#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

pub use listener::{Listener, RECEIVE_BUFFER, RoutesError};
pub use tracker::{Counts, Tracker};
pub use wire::{Fact, Frame, How, NextHop, Request, frames};

/// Which routes are wanted: of this table, from these protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Number of the table; 254 is `main`.
    pub table: u32,
    /// Numbers of the protocols, as in `/etc/iproute2/rt_protos`.
    pub protocols: Vec<u8>,
}

/// What a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Forwarded to a next hop.
    Unicast,
    /// Dropped: `blackhole`, `unreachable`, `prohibit`.
    Discard,
    /// Looked for in another table.
    Throw,
}

/// One next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The interface.
    pub ifindex: u32,
    /// The neighbour there; `None`: the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Share of the flows in relation to the route's other next hops, from 1.
    pub weight: u32,
    /// Its interface has no carrier or is going.
    pub dead: bool,
    /// Packets would be encapsulated.
    pub encapsulated: bool,
}

/// A route as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The lowest is used.
    pub metric: u32,
    /// Type of service that it is for; 0: all.
    pub tos: u8,
    /// Who installed it.
    pub protocol: u8,
    /// What it is for.
    pub kind: Kind,
    /// Of one that has no nexthop object.
    pub hops: Arc<[Hop]>,
    /// Number of its nexthop object.
    pub object: Option<u32>,
}

/// What the kernel would do with packets for a prefix, as far as a [`Watch`] is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Its metric.
    pub metric: u32,
    /// Who installed it.
    pub protocol: u8,
    /// Where it leads.
    pub leads: Leads,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To one of these.
    Hops(Arc<[Hop]>),
    /// Nowhere, on purpose.
    Discard,
    /// Where ERDP does not follow.
    Elsewhere(Elsewhere),
}

/// Why a whole route cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// To another table.
    Throw,
    /// Only for one type of service.
    Tos,
}

/// A change of what a [`Watch`] sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one, by its place in the list.
    pub watch: usize,
    /// The prefix.
    pub prefix: IpNet,
    /// What holds now; `None`: no route.
    pub selected: Option<Selected>,
}

/// What a [`Listener`] says.
#[derive(Clone, Debug)]
pub enum RouteEvent {
    /// Routes have come, changed or gone.
    Changes(Vec<Change>),
    /// A dump is complete, and all that it has changed has been said before.
    Complete(Counts),
}
