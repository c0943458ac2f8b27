//! What the lab's peers announce: 12,000 prefixes with the shape of a real table, the same in every run.
//!
//! Lengths follow the public tables (more than half /24, about half of IPv6 /48), with every length from /8 to /32 and from
//! /19 to /64 present, and nested prefixes, so that longest-prefix matching has something to decide. Most come from both
//! MSEEs and some from only one, so that for each prefix it is known which links are right ([`Announced::right_links`]).
//! None of it overlaps private, lab, multicast or otherwise special space: no packet is ever sent to a real prefix, and the
//! lab's own networks are never covered by one.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// How many prefixes the two MSEEs announce together.
pub const FROM_MSEES: usize = 12_000;
/// How many of them are IPv6.
const IPV6: usize = 1_500;
/// How many the customer's router announces, besides the ones that carry hosts.
pub const FROM_CE: usize = 400;

/// Shares of the lengths in a public IPv4 table, in tenths of a percent; what is missing to 1000 goes to the longest ones, as
/// private peerings carry host routes.
pub(crate) const LENGTHS_IPV4: &[(u8, u32)] = &[
    (8, 1),
    (9, 1),
    (10, 1),
    (11, 1),
    (12, 3),
    (13, 5),
    (14, 8),
    (15, 10),
    (16, 14),
    (17, 9),
    (18, 15),
    (19, 26),
    (20, 45),
    (21, 52),
    (22, 110),
    (23, 95),
    (24, 574),
    (25, 4),
    (26, 4),
    (27, 4),
    (28, 4),
    (29, 4),
    (30, 4),
    (31, 2),
    (32, 4),
];
pub(crate) const LENGTHS_IPV6: &[(u8, u32)] = &[
    (19, 1),
    (20, 4),
    (21, 1),
    (22, 2),
    (23, 1),
    (24, 6),
    (25, 1),
    (26, 2),
    (27, 2),
    (28, 8),
    (29, 30),
    (30, 8),
    (31, 4),
    (32, 130),
    (33, 15),
    (34, 12),
    (35, 8),
    (36, 35),
    (37, 6),
    (38, 10),
    (39, 8),
    (40, 80),
    (41, 5),
    (42, 18),
    (43, 8),
    (44, 90),
    (45, 12),
    (46, 20),
    (47, 25),
    (48, 420),
    (49, 1),
    (50, 1),
    (51, 1),
    (52, 1),
    (53, 1),
    (54, 1),
    (55, 1),
    (56, 12),
    (57, 1),
    (58, 1),
    (59, 1),
    (60, 2),
    (61, 1),
    (62, 1),
    (63, 1),
    (64, 10),
];

/// Space that is never announced from here.
const SPECIAL_IPV4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
];
const SPECIAL_IPV6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16"];
/// Where the registries have given out IPv6.
const GIVEN_IPV6: &[(u16, u16)] = &[
    (0x2001, 0x2001),
    (0x2400, 0x240f),
    (0x2600, 0x260f),
    (0x2800, 0x280f),
    (0x2a00, 0x2a0f),
    (0x2c00, 0x2c0f),
];

/// Which links a prefix is announced over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Links {
    /// The primary MSEE announces it.
    pub primary: bool,
    /// The secondary MSEE announces it.
    pub secondary: bool,
}

impl Links {
    /// Both MSEEs.
    pub const BOTH: Links = Links { primary: true, secondary: true };
}

/// What the peers announce.
#[derive(Debug)]
pub struct Announced {
    /// From the MSEEs, each with the links it comes over.
    pub msee: BTreeMap<IpNet, Links>,
    /// From the customer's router.
    pub ce: Vec<IpNet>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn length(&mut self, shares: &[(u8, u32)]) -> u8 {
        let total: u32 = shares.iter().map(|row| row.1).sum();
        let mut at = u32::try_from(self.below(u64::from(total))).unwrap_or(0);
        for &(length, share) in shares {
            if at < share {
                return length;
            }
            at -= share;
        }
        shares[shares.len() - 1].0
    }
}

impl Announced {
    /// The lab's table.
    pub fn table() -> Announced {
        let mut random = Random(12_076);
        let mut msee = BTreeMap::new();
        let special = special();
        fill(&mut msee, FROM_MSEES - IPV6, &mut random, LENGTHS_IPV4, &special, random_ipv4);
        fill(&mut msee, FROM_MSEES, &mut random, LENGTHS_IPV6, &special, random_ipv6);
        Announced { msee, ce: customer(&mut random) }
    }

    /// Which links are right for `address`: those over which the longest matching prefix is announced. A slow and independent
    /// answer: one hash lookup for each length, longest first.
    pub fn right_links(&self) -> impl Fn(IpAddr) -> Option<(IpNet, Links)> {
        let table: HashMap<IpNet, Links> =
            self.msee.iter().map(|(prefix, links)| (*prefix, *links)).collect();
        move |address| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            (0..=bits).rev().find_map(|length| {
                let prefix = IpNet::new(address, length).ok()?.trunc();
                table.get(&prefix).map(|links| (prefix, *links))
            })
        }
    }
}

pub(crate) fn special() -> Vec<IpNet> {
    SPECIAL_IPV4.iter().chain(SPECIAL_IPV6).filter_map(|text| text.parse().ok()).collect()
}

/// Adds prefixes until `table` has `size`; every length of `shares` comes first once, so that none is missing.
fn fill(
    table: &mut BTreeMap<IpNet, Links>,
    size: usize,
    random: &mut Random,
    shares: &[(u8, u32)],
    special: &[IpNet],
    draw: impl Fn(&mut Random, u8) -> Option<IpNet>,
) {
    let mut every_length = shares.iter().map(|row| row.0).collect::<Vec<_>>();
    let mut parents: Vec<IpNet> = Vec::new();
    while table.len() < size {
        let length = every_length.last().copied().unwrap_or_else(|| random.length(shares));
        let parent = (!parents.is_empty() && random.below(10) < 3)
            .then(|| parents[random.below(parents.len() as u64) as usize])
            .filter(|parent| parent.prefix_len() < length);
        let drawn = match parent {
            Some(parent) => inside(parent, length, random),
            None => draw(random, length),
        };
        let Some(prefix) = drawn.filter(|prefix| !overlaps(prefix, special)) else { continue };
        if table.contains_key(&prefix) {
            continue;
        }
        let links = match random.below(20) {
            0..=2 => Links { primary: true, secondary: false },
            3..=5 => Links { primary: false, secondary: true },
            _ => Links::BOTH,
        };
        table.insert(prefix, links);
        parents.push(prefix);
        every_length.pop();
    }
}

pub(crate) fn overlaps(prefix: &IpNet, special: &[IpNet]) -> bool {
    // By their first bits: a million prefixes are drawn in tests that are compiled with few optimizations.
    special.iter().any(|other| match (prefix, other) {
        (IpNet::V4(one), IpNet::V4(other)) => {
            let mask = u32::from(one.netmask()) & u32::from(other.netmask());
            (u32::from(one.network()) ^ u32::from(other.network())) & mask == 0
        }
        (IpNet::V6(one), IpNet::V6(other)) => {
            let mask = u128::from(one.netmask()) & u128::from(other.netmask());
            (u128::from(one.network()) ^ u128::from(other.network())) & mask == 0
        }
        _ => false,
    })
}

pub(crate) fn random_ipv4(random: &mut Random, length: u8) -> Option<IpNet> {
    let address = Ipv4Addr::from(random.next() as u32);
    Ipv4Net::new(address, length).ok().map(|net| net.trunc().into())
}

pub(crate) fn random_ipv6(random: &mut Random, length: u8) -> Option<IpNet> {
    let (low, high) = GIVEN_IPV6[random.below(GIVEN_IPV6.len() as u64) as usize];
    let first = low + random.below(u64::from(high - low) + 1) as u16;
    let bits = (u128::from(random.next()) << 64) | u128::from(random.next());
    let address = Ipv6Addr::from((u128::from(first) << 112) | (bits >> 16));
    Ipv6Net::new(address, length).ok().map(|net| net.trunc().into())
}

/// A prefix of `length` inside `parent`.
pub(crate) fn inside(parent: IpNet, length: u8, random: &mut Random) -> Option<IpNet> {
    match parent {
        IpNet::V4(parent) => {
            let host = random.next() as u32 & !u32::from(parent.netmask());
            let address = Ipv4Addr::from(u32::from(parent.network()) | host);
            Ipv4Net::new(address, length).ok().map(|net| net.trunc().into())
        }
        IpNet::V6(parent) => {
            let bits = (u128::from(random.next()) << 64) | u128::from(random.next());
            let address =
                Ipv6Addr::from(u128::from(parent.network()) | (bits & !u128::from(parent.netmask())));
            Ipv6Net::new(address, length).ok().map(|net| net.trunc().into())
        }
    }
}

/// Branch networks of a customer: private space, most /24, some shorter and longer.
fn customer(random: &mut Random) -> Vec<IpNet> {
    let mut nets = std::collections::BTreeSet::new();
    while nets.len() < FROM_CE {
        let length = [24, 24, 24, 23, 22, 26, 28, 30][random.below(8) as usize];
        let address = Ipv4Addr::from(0x0a00_0000 | (random.next() as u32 & 0x00ff_ffff));
        nets.extend(Ipv4Net::new(address, length).ok().map(|net| IpNet::from(net.trunc())));
    }
    nets.into_iter().collect()
}

/// An address inside `prefix` whose longest match is `prefix` itself, where there is one among a few candidates: asking for it
/// asks for this very prefix.
pub fn address_of(prefix: IpNet, longest_match: impl Fn(IpAddr) -> Option<IpNet>) -> IpAddr {
    let mut random = Random(u64::from(prefix.prefix_len()));
    let first = prefix.network();
    let width = prefix.max_prefix_len();
    let ends = [first, prefix.broadcast()];
    let candidates =
        ends.into_iter().chain((0..14).filter_map(|_| Some(inside(prefix, width, &mut random)?.addr())));
    candidates.into_iter().find(|&address| longest_match(address) == Some(prefix)).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_same_every_time_and_of_the_promised_size() {
        let (one, other) = (Announced::table(), Announced::table());
        assert_eq!(one.msee.len(), FROM_MSEES);
        assert_eq!(one.ce.len(), FROM_CE);
        assert!(one.msee == other.msee && one.ce == other.ce);
    }

    #[test]
    fn every_length_is_there_and_slash_24_and_slash_48_lead() {
        let table = Announced::table();
        let mut lengths: BTreeMap<(bool, u8), usize> = BTreeMap::new();
        for prefix in table.msee.keys() {
            *lengths.entry((matches!(prefix, IpNet::V4(_)), prefix.prefix_len())).or_default() += 1;
        }
        for length in 8..=32 {
            assert!(lengths.contains_key(&(true, length)), "no IPv4 /{length}");
        }
        for length in 19..=64 {
            assert!(lengths.contains_key(&(false, length)), "no IPv6 /{length}");
        }
        assert!(lengths[&(true, 24)] * 2 > FROM_MSEES - IPV6);
        assert!(lengths[&(false, 48)] * 3 > IPV6);
    }

    #[test]
    fn no_prefix_overlaps_special_space_and_some_are_nested() {
        let table = Announced::table();
        let special = special();
        assert_eq!(special.len(), SPECIAL_IPV4.len() + SPECIAL_IPV6.len());
        assert!(table.msee.keys().all(|prefix| !overlaps(prefix, &special)));
        let longest = table.right_links();
        let nested = table.msee.keys().filter(|prefix| {
            prefix.supernet().is_some_and(|above| {
                (0..=above.prefix_len()).any(|length| {
                    IpNet::new(above.network(), length).is_ok_and(|net| table.msee.contains_key(&net.trunc()))
                })
            })
        });
        assert!(nested.count() > 1_000);
        // Nearly every prefix can be asked for itself; one that is covered by its halves cannot.
        let asked = table.msee.keys().filter(|&&prefix| {
            longest(address_of(prefix, |address| longest(address).map(|found| found.0))).map(|found| found.0)
                == Some(prefix)
        });
        assert!(asked.count() * 100 >= FROM_MSEES * 99);
    }

    #[test]
    fn some_prefixes_come_from_one_msee_only() {
        let table = Announced::table();
        let count = |links: Links| table.msee.values().filter(|&&of| of == links).count();
        assert!(count(Links { primary: true, secondary: false }) > 1_000);
        assert!(count(Links { primary: false, secondary: true }) > 1_000);
        assert!(count(Links::BOTH) > 7_000);
    }
}
