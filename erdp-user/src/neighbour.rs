//! Which addresses a neighbour on one of our subnets can have (RFC 4271 sections 5.1.3 and 6.3): what a next hop, a gateway and a peer
//! have in common. Pure; whether the address is on a subnet at all, or our own, is the caller's question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Why no neighbour has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHost {
    /// Unspecified, loopback, multicast, reserved, IPv4-mapped.
    #[error("it is not a unicast address of a host")]
    NotUnicast,
    /// All host bits are clear.
    #[error("it is the subnet itself and not an address in it")]
    Network,
    /// All host bits are set.
    #[error("it is the subnet's broadcast address")]
    Broadcast,
    /// RFC 4291 section 2.6.1.
    #[error(
        "it is the subnet-router anycast address, which every router of the subnet has (RFC 4291 section 2.6.1)"
    )]
    Anycast,
}

/// Why no neighbour on these subnets has an address; `None`: one may have it, there or elsewhere.
pub fn no_host(address: IpAddr, subnets: impl IntoIterator<Item = IpNet>) -> Option<NoHost> {
    let is_unicast = match address {
        IpAddr::V4(address) => is_unicast4(address),
        IpAddr::V6(address) => is_unicast6(address),
    };
    if !is_unicast {
        return Some(NoHost::NotUnicast);
    }
    if matches!(address, IpAddr::V6(address) if address == LINK_LOCAL_ROUTERS) {
        return Some(NoHost::Anycast);
    }
    subnets.into_iter().find_map(|subnet| reserved_in(address, subnet))
}

/// The subnet-router anycast address of the link-local subnet.
const LINK_LOCAL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

fn is_unicast4(address: Ipv4Addr) -> bool {
    // 0/8, 127/8, and everything from 224/4 on.
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

fn is_unicast6(address: Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && address.to_ipv4_mapped().is_none()
}

/// A subnet of two addresses reserves none of them (RFC 3021, RFC 6164), one of a single address has no neighbours.
fn reserved_in(address: IpAddr, subnet: IpNet) -> Option<NoHost> {
    if subnet.prefix_len() + 1 >= subnet.max_prefix_len() {
        return None;
    }
    match subnet {
        _ if address == subnet.network() && address.is_ipv4() => Some(NoHost::Network),
        _ if address == subnet.network() => Some(NoHost::Anycast),
        IpNet::V4(subnet) if address == subnet.broadcast() => Some(NoHost::Broadcast),
        IpNet::V4(_) | IpNet::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4271_6_3_no_neighbour_has_an_address_that_a_subnet_or_a_family_reserves() {
        use NoHost::*;
        let rows = [
            ("198.18.10.255", "198.18.10.1/24", Some(Broadcast)),
            ("198.18.10.0", "198.18.10.1/24", Some(Network)),
            ("198.18.10.254", "198.18.10.1/24", None),
            ("198.18.0.3", "198.18.0.1/30", Some(Broadcast)),
            ("198.18.0.0", "198.18.0.1/30", Some(Network)),
            ("198.18.0.0", "198.18.0.1/31", None),
            ("198.18.0.1", "198.18.0.0/31", None),
            ("fd00::", "fd00::1/64", Some(Anycast)),
            ("fd00::", "fd00::1/126", Some(Anycast)),
            ("fd00::3", "fd00::1/126", None),
            ("fd00::", "fd00::1/127", None),
            ("fd00::ffff:ffff:ffff:ffff", "fd00::1/64", None),
            ("fe80::", "fd00::1/64", Some(Anycast)),
            ("fe80::1", "fd00::1/64", None),
            ("0.0.0.0", "198.18.10.1/24", Some(NotUnicast)),
            ("127.0.0.1", "198.18.10.1/24", Some(NotUnicast)),
            ("224.0.0.5", "198.18.10.1/24", Some(NotUnicast)),
            ("255.255.255.255", "198.18.10.1/24", Some(NotUnicast)),
            ("::", "fd00::1/64", Some(NotUnicast)),
            ("::1", "fd00::1/64", Some(NotUnicast)),
            ("ff02::1", "fd00::1/64", Some(NotUnicast)),
            ("::ffff:198.18.10.2", "fd00::1/64", Some(NotUnicast)),
        ];
        for (address, subnet, expected) in rows {
            let subnet: IpNet = subnet.parse().unwrap();
            assert_eq!(no_host(address.parse().unwrap(), [subnet]), expected, "{address} on {subnet}");
        }
    }
}
