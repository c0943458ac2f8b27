//! rtnetlink messages to facts about routes. Input: what one read of the socket returned. Numbers are those of linux/rtnetlink.h and
//! linux/nexthop.h.
//!
//! Attributes of routes are decoded by netlink-packet-route; nexthop objects (Linux 5.3), which it does not know, by hand and with
//! every length checked.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::{
    packet_core::{NLM_F_APPEND, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator, Parseable as _},
    packet_route::route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
        RouteVia,
    },
};

use super::{Hop, Kind, Route};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

const HEADER_LEN: usize = 16;
const NLM_F_REQUEST_DUMP: u16 = 0x301;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
/// `struct nhmsg`: family, scope, protocol, reserved, flags.
const NHMSG_LEN: usize = 8;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// How a route came, which decides which others of its prefix it takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// There is no other of its metric.
    Alone,
    /// After those of its metric.
    Append,
    /// Before those of its metric.
    Prepend,
    /// In the place of the first of its metric.
    Replace,
}

/// A nexthop object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// One next hop.
    Single(Hop),
    /// Packets are dropped.
    Discard,
    /// Other objects by number, each with its weight.
    Group(Vec<(u32, u32)>),
    /// For bridges, not for routes.
    Foreign,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A route is there.
    Route(u32, IpNet, Route, How),
    /// A route has gone.
    RouteGone(u32, IpNet, Route),
    /// A nexthop object is there, or is another one now.
    NextHop(u32, NextHop),
    /// It has gone.
    NextHopGone(u32),
    /// Whether packets can pass an interface.
    Link(u32, bool),
    /// An interface or address has gone, and routes with it, untold.
    Lost,
    /// The dump has come to its end; `false`: the kernel cannot do it.
    Done(bool),
}

/// A message with what is needed to tell dumps from changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it answers the request of this number, which our own socket has made.
    pub answers: Option<u32>,
    /// The kernel says that what it dumps has changed meanwhile.
    pub interrupted: bool,
    /// What it says.
    pub fact: Fact,
}

/// What is asked for, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// All nexthop objects.
    NextHops,
    /// All IPv4 routes.
    Ipv4,
    /// All IPv6 routes.
    Ipv6,
}

impl Request {
    /// The message that asks for it.
    pub fn bytes(self, sequence: u32) -> Vec<u8> {
        let (kind, family, body_len) = match self {
            Self::NextHops => (RTM_GETNEXTHOP, 0, NHMSG_LEN),
            Self::Ipv4 => (RTM_GETROUTE, libc::AF_INET as u8, 12),
            Self::Ipv6 => (RTM_GETROUTE, libc::AF_INET6 as u8, 12),
        };
        let length = (HEADER_LEN + body_len) as u32;
        let mut bytes = Vec::with_capacity(HEADER_LEN + body_len);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.push(family);
        bytes.resize(HEADER_LEN + body_len, 0);
        bytes
    }
}

/// The messages of one read that say something about routes. `port` is our socket's. What cannot be decoded is left out and logged:
/// a later kernel may know more than we do.
pub fn frames(mut bytes: &[u8], port: u32) -> Vec<Frame> {
    let mut list = Vec::new();
    while let Some(length) = word(bytes, 0).map(|length| length as usize) {
        let Some(message) = bytes.get(..length).filter(|_| length >= HEADER_LEN) else {
            tracing::warn!(length, "a netlink message ends before its header says so");
            break;
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let (Some(kind), Some(flags)) = (half(message, 4), half(message, 6)) else { break };
        let (Some(sequence), Some(from)) = (word(message, 8), word(message, 12)) else { break };
        let body = message.get(HEADER_LEN..).unwrap_or_default();
        if let Some(fact) = fact(kind, flags, body) {
            let answers = (from == port && sequence != 0).then_some(sequence);
            list.push(Frame { answers, interrupted: flags & NLM_F_DUMP_INTR != 0, fact });
        }
    }
    list
}

fn fact(kind: u16, flags: u16, body: &[u8]) -> Option<Fact> {
    match kind {
        // With an error of its own where the dump has failed midway.
        NLMSG_DONE => Some(Fact::Done(word(body, 0).is_none_or(|error| error == 0))),
        // Zero is an acknowledgement, and we ask for none.
        NLMSG_ERROR => (word(body, 0)? != 0).then_some(Fact::Done(false)),
        RTM_NEWLINK => {
            let flags = word(body, 8)?;
            Some(Fact::Link(word(body, 4)?, flags & IFF_UP != 0 && flags & IFF_LOWER_UP != 0))
        }
        RTM_DELLINK | RTM_DELADDR => Some(Fact::Lost),
        RTM_NEWROUTE => {
            route(body).map(|(table, prefix, route)| Fact::Route(table, prefix, route, how(flags)))
        }
        RTM_DELROUTE => route(body).map(|(table, prefix, route)| Fact::RouteGone(table, prefix, route)),
        RTM_NEWNEXTHOP => next_hop(body).map(|(id, next_hop)| Fact::NextHop(id, next_hop)),
        RTM_DELNEXTHOP => next_hop(body).map(|(id, _)| Fact::NextHopGone(id)),
        _ => None,
    }
}

/// `fib_table_insert` (Linux 6.18) notifies with the flags of what it has done, not of what it was asked for.
fn how(flags: u16) -> How {
    if flags & NLM_F_REPLACE != 0 {
        How::Replace
    } else if flags & NLM_F_APPEND != 0 {
        How::Append
    } else if flags & NLM_F_EXCL != 0 {
        How::Alone
    } else {
        How::Prepend
    }
}

/// The route of a message with table and prefix; `None`: one that is not for forwarding, or for a source.
fn route(body: &[u8]) -> Option<(u32, IpNet, Route)> {
    let message = RouteMessage::parse(body)
        .inspect_err(|error| tracing::warn!(%error, "a route of the kernel cannot be decoded"))
        .ok()?;
    let header = &message.header;
    let kind = match header.kind {
        RouteType::Unicast => Kind::Unicast,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Kind::Discard,
        RouteType::Throw => Kind::Throw,
        _ => return None,
    };
    let is_ipv4 = match u8::from(header.address_family).into() {
        libc::AF_INET => true,
        libc::AF_INET6 => false,
        _ => return None,
    };
    // Cached clones (RTM_F_CLONED) are no routes, and those for a source prefix are not chosen by the destination.
    if header.flags.bits() & 0x200 != 0 || header.source_prefix_length != 0 {
        return None;
    }
    let mut found = Found::new(header, is_ipv4, kind);
    message.attributes.iter().for_each(|attribute| found.read(attribute));
    found.finish(header)
}

/// What the attributes of a route have said.
struct Found {
    table: u32,
    destination: IpAddr,
    route: Route,
    single: Hop,
    several: Vec<Hop>,
}

impl Found {
    fn new(header: &RouteHeader, is_ipv4: bool, kind: Kind) -> Self {
        let route = Route {
            metric: 0,
            tos: header.tos,
            protocol: header.protocol.into(),
            kind,
            hops: [].into(),
            object: None,
        };
        let any: IpAddr = if is_ipv4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let dead = header.flags.bits() & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0;
        Self {
            table: header.table.into(),
            destination: any,
            route,
            single: hop(0, dead),
            several: Vec::new(),
        }
    }

    fn read(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Table(table) => self.table = *table,
            RouteAttribute::Destination(to) => self.destination = address(to).unwrap_or(self.destination),
            RouteAttribute::Priority(metric) => self.route.metric = *metric,
            RouteAttribute::NhId(id) => self.route.object = Some(*id),
            RouteAttribute::MultiPath(hops) => self.several = hops.iter().map(one_of_several).collect(),
            RouteAttribute::Oif(ifindex) => self.single.ifindex = *ifindex,
            other => read_hop(&mut self.single, other),
        }
    }

    fn finish(self, header: &RouteHeader) -> Option<(u32, IpNet, Route)> {
        let prefix = IpNet::new(self.destination, header.destination_prefix_length).ok()?.trunc();
        let mut hops = match (self.route.kind, self.route.object) {
            // By number only: what an object leads to may be another thing before this route is heard of again.
            (_, Some(_)) | (Kind::Discard | Kind::Throw, None) => Vec::new(),
            (Kind::Unicast, None) if self.several.is_empty() => vec![self.single],
            (Kind::Unicast, None) => self.several,
        };
        // Their order means nothing, and IPv6 has another one whenever it is told.
        hops.sort_unstable_by_key(|hop| (hop.ifindex, hop.gateway, hop.weight));
        Some((self.table, prefix, Route { hops: hops.into(), ..self.route }))
    }
}

fn hop(ifindex: u32, dead: bool) -> Hop {
    Hop { ifindex, gateway: None, weight: 1, dead, encapsulated: false }
}

fn one_of_several(raw: &RouteNextHop) -> Hop {
    let dead = raw.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown);
    let mut hop = Hop { weight: u32::from(raw.hops) + 1, ..hop(raw.interface_index, dead) };
    raw.attributes.iter().for_each(|attribute| read_hop(&mut hop, attribute));
    hop
}

fn read_hop(hop: &mut Hop, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Gateway(to) => hop.gateway = address(to),
        RouteAttribute::Via(RouteVia::Inet(to)) => hop.gateway = Some(IpAddr::V4(*to)),
        RouteAttribute::Via(RouteVia::Inet6(to)) => hop.gateway = Some(IpAddr::V6(*to)),
        RouteAttribute::EncapType(_) => hop.encapsulated = true,
        _ => {}
    }
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// `nh_fill_node` (Linux 6.18): the number, then a group, or blackhole, or an interface with or without a gateway.
fn next_hop(body: &[u8]) -> Option<(u32, NextHop)> {
    let flags = word(body, 4)?;
    let mut id = None;
    let mut single = hop(0, flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0);
    let (mut group, mut discards, mut foreign) = (None, false, false);
    for attribute in NlasIterator::new(body.get(NHMSG_LEN..)?) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            NHA_ID => id = word(value, 0),
            NHA_GROUP => group = Some(members(value)),
            NHA_BLACKHOLE => discards = true,
            NHA_OIF => single.ifindex = word(value, 0)?,
            NHA_GATEWAY => single.gateway = gateway(value),
            NHA_ENCAP => single.encapsulated = true,
            NHA_FDB => foreign = true,
            _ => {}
        }
    }
    let next_hop = match (foreign, group, discards) {
        (true, ..) => NextHop::Foreign,
        (_, Some(members), _) => NextHop::Group(members),
        (_, None, true) => NextHop::Discard,
        (_, None, false) => NextHop::Single(single),
    };
    Some((id?, next_hop))
}

/// `struct nexthop_grp`: the number, the weight less 1, its upper byte (Linux 6.12; zero before), reserved.
fn members(value: &[u8]) -> Vec<(u32, u32)> {
    let member = |entry: &[u8]| {
        let (low, high) = (*entry.get(4)?, *entry.get(5)?);
        Some((word(entry, 0)?, u32::from(low) + (u32::from(high) << 8) + 1))
    };
    value.chunks_exact(8).filter_map(member).collect()
}

fn gateway(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
