//! The stream that every receiver gets: a whole table as UPDATE messages, encoded once, the same bytes for all.
//!
//! Prefixes are those of the tables of [`Routes`]. Attributes look as they do on the Internet: paths and communities are taken from
//! the collected messages under `ERDP_DATA` (or made up where it is not set), and prefixes with the same origin share one of a few of
//! them, so that there are some hundred thousand different sets and a message has a handful of prefixes.

use std::{collections::BTreeMap, env, net::IpAddr, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use erdp::bgp::{
    AsPath, Asn, Community, Family, Origin, PathAttributes, Update,
    wire::{self, Context, Message},
};
use ipnet::IpNet;

use crate::{
    bench::routes::{Routes, Version},
    lab::prefixes::Random,
};

/// The sender's AS: an MSEE's.
pub const SENDER: u32 = 12_076;

/// Messages, in order, and how many prefixes they announce.
pub struct Stream {
    /// Whole messages, one after another.
    pub bytes: Vec<u8>,
    /// Prefixes announced, or withdrawn.
    pub prefixes: usize,
    /// Different sets of attributes.
    pub sets: usize,
    /// Messages.
    pub messages: usize,
}

/// What real routes have in common.
pub struct Samples {
    paths: Vec<Vec<u32>>,
    communities: Vec<Vec<Community>>,
}

impl Samples {
    /// From the collected messages under `ERDP_DATA`, or made up.
    pub fn load() -> Result<Self> {
        let Some(folder) = env::var_os("ERDP_DATA") else { return Ok(Self::made_up()) };
        let file = PathBuf::from(folder).join("bgp/bgp-messages.tsv.gz");
        let output = Command::new("gzip").arg("-dc").arg(&file).output().context("cannot start gzip")?;
        ensure!(output.status.success(), "cannot read {}", file.display());
        let text = String::from_utf8(output.stdout).context("the messages are not text")?;
        let mut samples = Self { paths: Vec::new(), communities: Vec::new() };
        for line in text.lines().filter(|line| line.starts_with("mrt\t")) {
            let Some(message) = line.rsplit('\t').next().and_then(bytes) else { continue };
            samples.take(&message);
        }
        ensure!(samples.paths.len() > 1_000, "only {} paths in {}", samples.paths.len(), file.display());
        Ok(samples)
    }

    fn take(&mut self, message: &[u8]) {
        let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
        for four_octet_asn in [true, false] {
            let context = Context { four_octet_asn, families: families.clone(), ..Context::default() };
            let Ok(Message::Update(update)) = wire::decode(message, &context) else { continue };
            if !update.faults.is_empty() {
                continue;
            }
            for attributes in update.updates.iter().filter_map(|update| update.attributes.as_ref()) {
                let path: Vec<u32> = attributes.as_path.asns().map(|asn| asn.0).collect();
                if let [_, transit @ .., _] = path.as_slice() {
                    self.paths.push(transit.iter().copied().filter(|asn| !is_special(*asn)).collect());
                    self.communities.push(attributes.communities.clone());
                }
            }
            return;
        }
    }

    fn made_up() -> Self {
        let mut random = Random(65_000);
        let mut path = || (0..1 + random.below(4)).map(|_| 1_000 + random.below(60_000) as u32).collect();
        let paths = (0..5_000).map(|_| path()).collect();
        let mut list = || {
            (0..random.below(6)).map(|_| Community(random.next() as u32 & 0x3fff_ffff)).collect::<Vec<_>>()
        };
        Self { paths, communities: (0..5_000).map(|_| list()).collect() }
    }

    /// The attributes of one of a few variants of an origin's routes.
    fn attributes(&self, origin: u32, variant: u64, next_hop: IpAddr) -> PathAttributes {
        let mut random = Random(u64::from(origin) << 8 | variant);
        let transit = &self.paths[random.below(self.paths.len() as u64) as usize];
        let path = [SENDER].into_iter().chain(transit.iter().copied()).chain([origin]);
        PathAttributes {
            origin: if random.below(10) == 0 { Origin::Incomplete } else { Origin::Igp },
            as_path: AsPath::sequence(path),
            med: (random.below(5) == 0).then(|| random.below(200) as u32),
            communities: self.communities[random.below(self.communities.len() as u64) as usize]
                .iter()
                .copied()
                .filter(|community| community.0 >> 16 != 0xffff)
                .collect(),
            ..PathAttributes::originated(next_hop)
        }
    }
}

/// Numbers that a receiver would refuse: its own and placeholders.
fn is_special(asn: u32) -> bool {
    matches!(asn, 0 | 23_456 | 64_496..=65_551 | SENDER)
}

/// Prefixes with the same attributes.
pub type Group = (PathAttributes, Vec<IpNet>);

/// A table by attributes, in an order that has nothing to do with addresses beyond what shares attributes.
pub fn groups(
    routes: &Routes,
    origins: &BTreeMap<IpNet, u32>,
    samples: &Samples,
    next_hop: IpAddr,
) -> Vec<Group> {
    let mut groups: BTreeMap<(u32, u64), Vec<IpNet>> = BTreeMap::new();
    for (at, prefix) in routes.prefixes.iter().enumerate() {
        let origin = origins.get(prefix).copied().unwrap_or(1_000 + (at as u32 / 7) % 60_000);
        // An origin's routes come by up to four ways, in runs of neighbours.
        let variant = (at as u64 / 16).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
        groups.entry((origin, variant)).or_default().push(*prefix);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    shuffle(&mut groups);
    let group = |((origin, variant), announced)| (samples.attributes(origin, variant, next_hop), announced);
    groups.into_iter().map(group).collect()
}

/// A table announced whole.
pub fn announce(
    routes: &Routes,
    origins: &BTreeMap<IpNet, u32>,
    samples: &Samples,
    next_hop: IpAddr,
) -> Result<Stream> {
    announce_groups(groups(routes, origins, samples, next_hop), routes.version)
}

/// Groups announced, one UPDATE each where it fits.
pub fn announce_groups(groups: Vec<Group>, version: Version) -> Result<Stream> {
    let context = context(version);
    let mut stream = Stream { bytes: Vec::new(), prefixes: 0, sets: groups.len(), messages: 0 };
    for (attributes, announced) in groups {
        stream.prefixes += announced.len();
        let attributes = Some(attributes.into());
        stream.push(&Update { announced, attributes, ..Update::default() }, &context)?;
    }
    Ok(stream)
}

/// The same table withdrawn, as many prefixes to a message as fit.
pub fn withdraw(routes: &Routes) -> Result<Stream> {
    let mut stream = Stream { bytes: Vec::new(), prefixes: routes.prefixes.len(), sets: 0, messages: 0 };
    let withdrawn = routes.shuffled();
    stream.push(&Update { withdrawn, ..Update::default() }, &context(routes.version))?;
    Ok(stream)
}

impl Stream {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), prefixes: 0, sets: 0, messages: 0 }
    }

    /// Appends what an update is on the wire.
    pub fn push(&mut self, update: &Update, context: &Context) -> Result<()> {
        for message in wire::encode_update(update, context).context("cannot encode the stream")? {
            self.bytes.extend_from_slice(&message);
            self.messages += 1;
        }
        Ok(())
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

/// What both sides of the sender's session know.
pub fn context(version: Version) -> Context {
    let family = if version == Version::V4 { Family::Ipv4Unicast } else { Family::Ipv6Unicast };
    Context { four_octet_asn: true, families: vec![family], ..Context::default() }
}

/// The origins that the real table names; empty where there is none.
pub fn origins(version: Version) -> Result<BTreeMap<IpNet, u32>> {
    let Some(folder) = env::var_os("ERDP_DATA") else { return Ok(BTreeMap::new()) };
    let digit = if version == Version::V4 { 4 } else { 6 };
    let file = PathBuf::from(folder).join(format!("tables/global-bgp-2026-06-19-ipv{digit}.txt.gz"));
    let output = Command::new("gzip").arg("-dc").arg(&file).output().context("cannot start gzip")?;
    let text = String::from_utf8(output.stdout).context("the table is not text")?;
    let row = |line: &str| {
        let (prefix, origin) = line.split_once(' ')?;
        let origin = origin.trim().parse().ok().filter(|asn| !is_special(*asn))?;
        Some((prefix.parse().ok()?, origin))
    };
    Ok(text.lines().filter_map(row).collect())
}

/// Our own AS towards the sender must not be in a path, so the sender's is what is left of it.
pub fn open(version: Version, router_id: [u8; 4]) -> wire::Open {
    wire::Open {
        asn: Asn(SENDER),
        hold: erdp::bgp::Seconds(180),
        router_id: router_id.into(),
        families: context(version).families,
        four_octet_asn: true,
        route_refresh: false,
        enhanced_refresh: false,
        extended_messages: false,
        restart: None,
        roles: Vec::new(),
        add_path: Vec::new(),
    }
}

fn shuffle<T>(items: &mut [T]) {
    let mut random = Random(4_271);
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at as u64 + 1) as usize);
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}
