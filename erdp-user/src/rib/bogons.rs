//! Prefixes that have no business on Microsoft peering, in either direction (requirement D4): private, loopback,
//! link-local, multicast, documentation and otherwise not unicast on the Internet. Some of them are nowhere a destination of unicast
//! packets, and have no business on private peering either: [`MARTIANS`] (RFC 4271 section 6.3).
//!
//! 198.18.0.0/15 (benchmarking, RFC 2544) is deliberately absent: laboratories run on it, and no one else does.

use ipnet::IpNet;

/// The prefixes, each with its origin; a route inside one of them is a bogon.
pub const BOGONS: [(&str, &str); 19] = [
    ("0.0.0.0/8", "this network (RFC 791)"),
    ("10.0.0.0/8", "private (RFC 1918)"),
    ("100.64.0.0/10", "carrier-grade NAT (RFC 6598)"),
    ("127.0.0.0/8", "loopback (RFC 1122)"),
    ("169.254.0.0/16", "link-local (RFC 3927)"),
    ("172.16.0.0/12", "private (RFC 1918)"),
    ("192.0.0.0/24", "protocol assignments (RFC 6890)"),
    ("192.0.2.0/24", "documentation (RFC 5737)"),
    ("192.168.0.0/16", "private (RFC 1918)"),
    ("198.51.100.0/24", "documentation (RFC 5737)"),
    ("203.0.113.0/24", "documentation (RFC 5737)"),
    ("224.0.0.0/3", "multicast and reserved (RFC 5771, RFC 1112)"),
    ("::/8", "unspecified, loopback and mapped (RFC 4291)"),
    ("100::/64", "discard only (RFC 6666)"),
    ("2001:db8::/32", "documentation (RFC 3849)"),
    ("3fff::/20", "documentation (RFC 9637)"),
    ("fc00::/7", "unique local (RFC 4193)"),
    ("fe80::/10", "link-local (RFC 4291)"),
    ("ff00::/8", "multicast (RFC 4291)"),
];

/// The prefixes that no network can be, each with its origin; a route inside one of them is semantically incorrect (RFC 4271 section 6.3).
pub const MARTIANS: [(&str, &str); 7] = [
    ("0.0.0.0/8", "this network (RFC 1122)"),
    ("127.0.0.0/8", "loopback (RFC 1122)"),
    ("169.254.0.0/16", "link-local, which no router forwards (RFC 3927)"),
    ("224.0.0.0/3", "multicast, reserved and broadcast (RFC 5771, RFC 1112, RFC 919)"),
    ("::/8", "unspecified, loopback, IPv4-compatible, IPv4-mapped and reserved (RFC 4291)"),
    ("fe80::/10", "link-local, which no router forwards (RFC 4291)"),
    ("ff00::/8", "multicast (RFC 4291)"),
];

/// Of `::/8`, what networks do use: IPv4 addresses behind a translator (RFC 6052, RFC 8215).
const TRANSLATED: &str = "64:ff9b::/32";

/// Whether a prefix lies inside one that no network can be. A default route does not.
pub fn is_martian(prefix: IpNet) -> bool {
    static TABLE: std::sync::OnceLock<(Vec<IpNet>, Option<IpNet>)> = std::sync::OnceLock::new();
    let (martians, translated) = TABLE.get_or_init(|| {
        (MARTIANS.iter().filter_map(|(text, _)| text.parse().ok()).collect(), TRANSLATED.parse().ok())
    });
    martians.iter().any(|martian| martian.contains(&prefix))
        && !translated.is_some_and(|translated| translated.contains(&prefix))
}

/// Whether a prefix lies inside a bogon. A default route does not: it has a rule of its own.
pub fn is_bogon(prefix: IpNet) -> bool {
    table().iter().any(|bogon| bogon.contains(&prefix))
}

fn table() -> &'static [IpNet] {
    static TABLE: std::sync::OnceLock<Vec<IpNet>> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| BOGONS.iter().filter_map(|(text, _)| text.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn every_row_of_the_table_is_a_prefix_without_host_bits() {
        for (text, _) in BOGONS {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(net, net.trunc(), "{text}");
        }
        assert_eq!(table().len(), BOGONS.len());
    }

    #[test]
    fn d4_the_packet_path_calls_public_what_the_policy_lets_in() {
        use erdp_common::family::{Address, Family as _, V4, V6};
        let is_public = |address: IpAddr| match address {
            IpAddr::V4(address) => V4::is_public(Address::v4(address.octets())),
            IpAddr::V6(address) => V6::is_public(Address::v6(address.octets())),
        };
        // The ends of each bogon, and their neighbours outside.
        let edges = table().iter().flat_map(|bogon| match bogon {
            IpNet::V4(net) => {
                let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
                [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(|it| IpAddr::V4(it.into()))
            }
            IpNet::V6(net) => {
                let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
                [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(|it| IpAddr::V6(it.into()))
            }
        });
        for address in edges {
            assert_eq!(is_public(address), !is_bogon(address.into()), "{address}");
        }
        // And a walk through all of the address space, in strides that hit every /16 of IPv4 and every /12 of IPv6.
        for step in 0..1u32 << 16 {
            let v4 = IpAddr::V4((step << 16 | step.wrapping_mul(2_654_435_761) & 0xffff).into());
            let v6 = IpAddr::V6((u128::from(step) << 112 | u128::from(step) << 60 | 1).into());
            for address in [v4, v6] {
                assert_eq!(is_public(address), !is_bogon(address.into()), "{address}");
            }
        }
    }

    #[test]
    fn rfc4271_6_3_every_martian_is_a_bogon_and_no_table_of_them_is_cut_short() {
        for (text, _) in MARTIANS {
            let net: IpNet = text.parse().unwrap();
            assert!(net == net.trunc() && is_martian(net) && is_bogon(net), "{text}");
        }
        let rows = [
            ("0.0.0.0/8", true),
            ("0.0.0.0/32", true),
            ("0.0.0.0/0", false),
            ("0.0.0.0/7", false),
            ("127.0.0.0/8", true),
            ("127.0.0.1/32", true),
            ("126.0.0.0/8", false),
            ("169.254.169.254/32", true),
            ("224.0.0.0/4", true),
            ("240.0.0.0/4", true),
            ("255.255.255.255/32", true),
            ("223.255.255.0/24", false),
            ("100.64.0.0/10", false),
            ("10.0.0.0/8", false),
            ("::/0", false),
            ("::/128", true),
            ("::1/128", true),
            ("::ffff:10.0.0.0/104", true),
            ("64:ff9b::/96", false),
            ("100::/64", false),
            ("fc00::/7", false),
            ("fe80::/10", true),
            ("fe80::1/128", true),
            ("ff00::/8", true),
            ("ff02::1/128", true),
        ];
        for (prefix, expected) in rows {
            assert_eq!(is_martian(prefix.parse().unwrap()), expected, "{prefix}");
        }
    }

    #[test]
    fn what_lies_inside_is_a_bogon_and_what_covers_it_is_not() {
        let rows = [
            ("10.0.0.0/8", true),
            ("10.1.2.0/24", true),
            ("8.0.0.0/6", false),
            ("11.0.0.0/8", false),
            ("172.31.255.0/24", true),
            ("172.32.0.0/16", false),
            ("239.1.1.1/32", true),
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("fd00:18::/64", true),
            ("2603:1000::/24", false),
            ("198.18.0.0/24", false),
        ];
        for (prefix, expected) in rows {
            assert_eq!(is_bogon(prefix.parse().unwrap()), expected, "{prefix}");
        }
    }
}
