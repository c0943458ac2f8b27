//! Subnets and our addresses in them.

use ipnet::IpNet;
use toml::Spanned;

use super::super::error::Fault;
use super::super::raw::OneOrTwo;
use super::super::values::Why;
use super::super::{LinkAddresses, LinkPair};
use super::optional;

/// The two subnets of one family, each of `LENGTH` bits.
pub(super) fn optional_pair<const LENGTH: u8>(
    raw: Option<&Spanned<OneOrTwo>>,
    key: &str,
) -> Result<Option<LinkPair>, Fault> {
    optional(raw, key, |given| {
        let (first, second) = match given {
            OneOrTwo::One(both) => halves(subnet(both, LENGTH - 1)?, LENGTH)?,
            OneOrTwo::Two([first, second]) => (subnet(first, LENGTH)?, subnet(second, LENGTH)?),
        };
        Ok(LinkPair { primary: link_addresses(first)?, secondary: link_addresses(second)? })
    })
}

/// Our own address on an interface, with the length of its subnet.
pub(super) fn interface_address(text: &str, is_ipv4: bool) -> Result<IpNet, Why> {
    let net = prefix(text)?;
    if net.addr().is_ipv4() != is_ipv4 {
        return Err((
            format!("{net} is of the other address family"),
            "put it under ipv4 or ipv6".to_owned(),
        ));
    }
    if net.prefix_len() == net.max_prefix_len() {
        return Err((format!("{net} has no room for a neighbour"), "use a shorter prefix".to_owned()));
    }
    // A subnet of two addresses has no network or broadcast address (RFC 3021; RFC 6164 for IPv6).
    let is_pair = net.prefix_len() + 1 == net.max_prefix_len();
    let is_reserved = net.addr() == net.network() || (is_ipv4 && net.addr() == net.broadcast());
    if is_reserved && !is_pair {
        let example = net.hosts().nth(usize::from(!is_ipv4)).unwrap_or(net.addr());
        let reason = format!("{} is the subnet itself and not an address in it", net.addr());
        return Err((reason, format!("write our own address, such as {example}/{}", net.prefix_len())));
    }
    Ok(net)
}

/// A subnet of a given length, its host bits clear.
fn subnet(text: &str, length: u8) -> Result<IpNet, Why> {
    let net = prefix(text)?;
    let is_right_family = net.max_prefix_len() == if length < 32 { 32 } else { 128 };
    if !is_right_family {
        return Err((
            format!("{net} is of the other address family"),
            "put it under ipv4 or ipv6".to_owned(),
        ));
    }
    if net.prefix_len() != length {
        let reason = format!("{net} is not a /{length}");
        let (one, two) = if length < 32 { (29, 30) } else { (125, 126) };
        return Err((reason, format!("give one /{one} (first half primary), or two /{two} in a list")));
    }
    if net != net.trunc() {
        return Err((format!("{net} has host bits set"), format!("write {}", net.trunc())));
    }
    Ok(net)
}

pub(super) fn prefix(text: &str) -> Result<IpNet, Why> {
    text.parse().map_err(|_| {
        let remedy = "write an address and a length, such as \"198.18.0.0/29\"".to_owned();
        (format!("`{text}` is not an IP prefix"), remedy)
    })
}

fn halves(both: IpNet, length: u8) -> Result<(IpNet, IpNet), Why> {
    let mut halves = both.subnets(length).map_err(|_| too_small(both))?;
    Ok((halves.next().ok_or_else(|| too_small(both))?, halves.next().ok_or_else(|| too_small(both))?))
}

fn link_addresses(subnet: IpNet) -> Result<LinkAddresses, Why> {
    // `hosts` leaves out IPv4's network address but not IPv6's subnet-router anycast address (RFC 4291 section 2.6.1).
    let anycast = usize::from(subnet.addr().is_ipv6());
    let mut hosts = subnet.hosts().skip(anycast);
    let ours = hosts.next().ok_or_else(|| too_small(subnet))?;
    let theirs = hosts.next().ok_or_else(|| too_small(subnet))?;
    Ok(LinkAddresses { subnet, ours, theirs })
}

fn too_small(subnet: IpNet) -> Why {
    (format!("{subnet} has no room for two routers"), "use a larger subnet".to_owned())
}
