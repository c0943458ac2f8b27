//! Routing tables and destinations: a real table when `ERDP_DATA` names the folder that has one, else a generated one of the
//! same shape; the same in every run.
//!
//! Destinations are drawn from the table's own prefixes: each prefix alike ([`Spread::Random`], the worst for caches and branch
//! prediction), by Zipf's law with exponent 1 ([`Spread::Zipf`]), or each prefix alike and then [`TRAIN`] packets to the same
//! address ([`Spread::Trains`], as bulk flows are: what is measured is the work rather than the cache misses).

use std::{
    collections::HashSet,
    env,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;

use crate::lab::prefixes::{
    LENGTHS_IPV4, LENGTHS_IPV6, Random, inside, overlaps, random_ipv4, random_ipv6, special,
};

/// How many destinations each run goes through; a power of two.
pub const DESTINATIONS: usize = 1 << 16;

/// Packets to one destination in [`Spread::Trains`].
pub const TRAIN: usize = 64;

/// Of a generated table's prefixes that do not follow another one: how many of a thousand share so many first bits with an earlier
/// one. Below 16 none are shared.
const KEPT_IPV4: &[(u8, u32)] = &[(16, 980), (0, 20)];
/// The same for IPv6.
const KEPT_IPV6: &[(u8, u32)] = &[(40, 820), (32, 95), (24, 45), (0, 40)];

/// Version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How destinations are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Every prefix alike.
    Random,
    /// The k-th most popular prefix with a share of 1/k.
    Zipf,
    /// Every prefix alike, [`TRAIN`] packets each.
    Trains,
}

/// A table to measure with.
pub struct Routes {
    /// Version of IP of all its prefixes.
    pub version: Version,
    /// Where it is from: `real` or `generated`.
    pub source: &'static str,
    /// The prefixes, in the order in which they are loaded.
    pub prefixes: Vec<IpNet>,
}

impl Routes {
    /// The largest table there is: real when `ERDP_DATA` is set, else generated with the real one's size.
    pub fn full(version: Version) -> Result<Self> {
        let Some(folder) = env::var_os("ERDP_DATA") else {
            return Ok(Self::generated(version, Self::full_size(version)));
        };
        let digit = if version == Version::V4 { 4 } else { 6 };
        let file = PathBuf::from(folder).join(format!("tables/global-bgp-2026-06-19-ipv{digit}.txt.gz"));
        let output = Command::new("gzip").arg("-dc").arg(&file).output().context("cannot start gzip")?;
        ensure!(output.status.success(), "cannot read {}", file.display());
        let text = String::from_utf8(output.stdout).context("the table is not text")?;
        let special = special();
        let prefixes = text
            .lines()
            .filter_map(|line| line.split(' ').next()?.parse().ok())
            .filter(|prefix| !overlaps(prefix, &special))
            .collect();
        Ok(Self { version, source: "real", prefixes })
    }

    /// How many prefixes the public table of 2026 has, rounded up.
    pub const fn full_size(version: Version) -> usize {
        match version {
            Version::V4 => 1_170_000,
            Version::V6 => 280_000,
        }
    }

    /// A part of this table: `size` of its prefixes, spread over all of it, in its order.
    pub fn sample(&self, size: usize) -> Self {
        let mut chosen: Vec<usize> = (0..self.prefixes.len()).collect();
        shuffle(&mut chosen);
        chosen.truncate(size);
        chosen.sort_unstable();
        let prefixes = chosen.into_iter().map(|at| self.prefixes[at]).collect();
        Self { version: self.version, source: self.source, prefixes }
    }

    /// `size` prefixes with the lengths of a public table (IPv4 to /24, IPv6 to /48), sorted by address. They lie as a public table's
    /// do: registries give out blocks, and what is announced is cut out of them. So half of them follow an earlier one directly, and
    /// most of the rest share their first bits with an earlier one ([`KEPT_IPV4`], [`KEPT_IPV6`]). How many bits decides how many nodes
    /// the trie needs: prefixes scattered at random take several times the memory of any table that has ever been seen.
    pub fn generated(version: Version, size: usize) -> Self {
        let (shares, longest, kept) = if version == Version::V4 {
            (LENGTHS_IPV4, 24, KEPT_IPV4)
        } else {
            (LENGTHS_IPV6, 48, KEPT_IPV6)
        };
        let shares: Vec<(u8, u32)> =
            shares.iter().copied().filter(|(length, _)| *length <= longest).collect();
        let special = special();
        let mut random = Random(12_076);
        let mut seen = HashSet::new();
        let mut prefixes: Vec<IpNet> = Vec::with_capacity(size);
        while prefixes.len() < size {
            let length = random.length(&shares);
            let earlier = prefixes.last().map(|_| prefixes[random.below(prefixes.len() as u64) as usize]);
            let bits = random.length(kept).min((length - 1) & !7);
            let drawn = match (random.below(2), earlier) {
                (0, Some(before)) => after(before),
                (_, Some(near)) if bits >= 16 => {
                    beginning_of(near, bits).and_then(|block| inside(block, length, &mut random))
                }
                _ if version == Version::V4 => random_ipv4(&mut random, length),
                _ => random_ipv6(&mut random, length),
            };
            if let Some(prefix) = drawn.filter(|prefix| !overlaps(prefix, &special) && seen.insert(*prefix)) {
                prefixes.push(prefix);
            }
        }
        prefixes.sort_unstable_by_key(|prefix| (bits(*prefix), prefix.prefix_len()));
        Self { version, source: "generated", prefixes }
    }

    /// The same prefixes in an order that has nothing to do with addresses.
    pub fn shuffled(&self) -> Vec<IpNet> {
        let mut prefixes = self.prefixes.clone();
        shuffle(&mut prefixes);
        prefixes
    }

    /// Two sets of [`DESTINATIONS`] addresses as two words each, left-aligned: drawn alike, but not the same.
    pub fn destinations(&self, spread: Spread) -> [Vec<[u64; 2]>; 2] {
        let by_popularity = self.shuffled();
        let mut sum = 0.0;
        let sums: Vec<f64> = (1..=by_popularity.len())
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        let draw = |random: &mut Random| match spread {
            Spread::Random | Spread::Trains => random.below(by_popularity.len() as u64) as usize,
            Spread::Zipf => {
                let at = random.next() as f64 / u64::MAX as f64 * sum;
                sums.partition_point(|upto| *upto < at).min(sums.len() - 1)
            }
        };
        let train = if spread == Spread::Trains { TRAIN } else { 1 };
        [8_075, 12_076].map(|seed| {
            let mut random = Random(seed);
            (0..DESTINATIONS / train)
                .flat_map(|_| {
                    let prefix = by_popularity[draw(&mut random)];
                    let address = inside(prefix, prefix.max_prefix_len(), &mut random).unwrap_or(prefix);
                    std::iter::repeat_n(words(address), train)
                })
                .collect()
        })
    }
}

/// The block of so many bits in which an address lies.
fn beginning_of(near: IpNet, bits: u8) -> Option<IpNet> {
    IpNet::new(near.addr(), bits).ok().map(|block| block.trunc())
}

/// The prefix of the same length that follows.
fn after(prefix: IpNet) -> Option<IpNet> {
    match prefix {
        IpNet::V4(net) => {
            let next = u32::from(net.network()).checked_add(u32::from(net.hostmask()))?.checked_add(1)?;
            IpNet::new(Ipv4Addr::from(next).into(), net.prefix_len()).ok()
        }
        IpNet::V6(net) => {
            let next = u128::from(net.network()).checked_add(u128::from(net.hostmask()))?.checked_add(1)?;
            IpNet::new(Ipv6Addr::from(next).into(), net.prefix_len()).ok()
        }
    }
}

/// A prefix's address as the trie has it.
fn words(prefix: IpNet) -> [u64; 2] {
    let bits = bits(prefix);
    [(bits >> 64) as u64, bits as u64]
}

/// A prefix's address, left-aligned in 128 bits.
pub fn bits(prefix: IpNet) -> u128 {
    match prefix {
        IpNet::V4(net) => u128::from(u32::from(net.addr())) << 96,
        IpNet::V6(net) => u128::from(net.addr()),
    }
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T]) {
    let mut random = Random(365);
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_table_is_the_same_every_time_and_has_the_size_asked_for() {
        for version in [Version::V4, Version::V6] {
            let (one, other) = (Routes::generated(version, 5_000), Routes::generated(version, 5_000));
            assert_eq!(one.prefixes.len(), 5_000);
            assert_eq!(one.prefixes, other.prefixes);
            assert_eq!(one.sample(100).prefixes.len(), 100);
        }
    }

    #[test]
    fn every_destination_lies_in_the_table_and_zipf_prefers_few() {
        let routes = Routes::generated(Version::V4, 1_000);
        let mut seen = Vec::new();
        for spread in [Spread::Random, Spread::Zipf] {
            let mut uses = vec![0; routes.prefixes.len()];
            for [high, _] in routes.destinations(spread)[0].iter().step_by(64) {
                let address = IpNet::new(Ipv4Addr::from((high >> 32) as u32).into(), 32).expect("32 bits");
                let covering = routes.prefixes.iter().rposition(|prefix| prefix.contains(&address));
                uses[covering.expect("a destination outside the table")] += 1;
            }
            seen.push(uses.into_iter().max().unwrap_or(0));
        }
        assert!(seen[1] > 4 * seen[0], "most used prefix: random {}, Zipf {}", seen[0], seen[1]);
    }
}
