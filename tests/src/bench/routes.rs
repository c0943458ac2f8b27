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
            let size = if version == Version::V4 { 1_170_000 } else { 280_000 };
            return Ok(Self::generated(version, size));
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

    /// A part of this table: `size` of its prefixes, spread over all of it, in its order.
    pub fn sample(&self, size: usize) -> Self {
        let mut chosen: Vec<usize> = (0..self.prefixes.len()).collect();
        shuffle(&mut chosen);
        chosen.truncate(size);
        chosen.sort_unstable();
        let prefixes = chosen.into_iter().map(|at| self.prefixes[at]).collect();
        Self { version: self.version, source: self.source, prefixes }
    }

    /// `size` prefixes with the lengths of a public table (IPv4 to /24, IPv6 to /48): three of ten inside an earlier one, as
    /// many right behind it (allocations are announced in rows), the rest anywhere; sorted by address.
    pub fn generated(version: Version, size: usize) -> Self {
        let (shares, longest) = if version == Version::V4 { (LENGTHS_IPV4, 24) } else { (LENGTHS_IPV6, 48) };
        let shares: Vec<(u8, u32)> =
            shares.iter().copied().filter(|(length, _)| *length <= longest).collect();
        let special = special();
        let mut random = Random(12_076);
        let mut seen = HashSet::new();
        let mut prefixes: Vec<IpNet> = Vec::with_capacity(size);
        while prefixes.len() < size {
            let length = random.length(&shares);
            let earlier = prefixes.last().map(|_| prefixes[random.below(prefixes.len() as u64) as usize]);
            let drawn = match (random.below(10), earlier) {
                (0..3, Some(parent)) if parent.prefix_len() < length => inside(parent, length, &mut random),
                (3..6, Some(before)) => after(before),
                _ if version == Version::V4 => random_ipv4(&mut random, length),
                _ => random_ipv6(&mut random, length),
            };
            if let Some(prefix) = drawn.filter(|prefix| !overlaps(prefix, &special) && seen.insert(*prefix)) {
                prefixes.push(prefix);
            }
        }
        prefixes.sort_unstable();
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
