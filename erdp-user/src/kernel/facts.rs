//! Netlink messages to events. Neighbours are usable in every state in which the kernel itself would send to them: STALE
//! only says that nobody has confirmed it lately (RFC 4861 section 7.3.2).

use std::net::IpAddr;

use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use super::{KernelEvent, Link};

/// The event of a message; `None` when it is about something else.
pub fn event(message: &RouteNetlinkMessage) -> Option<KernelEvent> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(KernelEvent::Link(link_fact(link))),
        RouteNetlinkMessage::DelLink(link) => Some(KernelEvent::LinkGone { ifindex: link.header.index }),
        RouteNetlinkMessage::NewAddress(address) => address_fact(address),
        RouteNetlinkMessage::NewNeighbour(neighbour) => neighbour_fact(neighbour, true),
        RouteNetlinkMessage::DelNeighbour(neighbour) => neighbour_fact(neighbour, false),
        _ => None,
    }
}

fn link_fact(message: &LinkMessage) -> Link {
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        admin_up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        mtu: 0,
        mac: [0; 6],
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            _ => {}
        }
    }
    link
}

fn address_fact(message: &AddressMessage) -> Option<KernelEvent> {
    // IFA_LOCAL is ours on point-to-point interfaces, where IFA_ADDRESS is the peer's; elsewhere they are equal.
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    Some(KernelEvent::Address {
        ifindex: message.header.index,
        address: find(true).or_else(|| find(false))?,
        prefix_len: message.header.prefix_len,
    })
}

fn neighbour_fact(message: &NeighbourMessage, there: bool) -> Option<KernelEvent> {
    let usable = there
        && !matches!(
            message.header.state,
            NeighbourState::Incomplete
                | NeighbourState::Failed
                | NeighbourState::None
                | NeighbourState::Noarp
        );
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(to)) => address = Some(IpAddr::V4(*to)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(to)) => address = Some(IpAddr::V6(*to)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some(KernelEvent::Neighbour {
        ifindex: message.header.ifindex,
        address: address?,
        mac: mac.filter(|_| usable),
    })
}
