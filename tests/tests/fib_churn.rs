//! The whole Internet's tables come, change and go while the kernel looks addresses up: every answer is the one before or the one
//! after the batch under way.
//!
//! One thread writes in batches and knows from a slow model what each probed address answers before and after; the other asks the
//! loaded program (BPF_PROG_TEST_RUN of questions) about these addresses all the time. The pool has a quarter more than the table needs
//! when it is there, and room for one batch, so that lines must be used again while look-ups are on their way. Tables: the real ones under ERDP_DATA, else
//! generated ones of their shape; every day a part of both.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use erdp::dataplane::{
    Dataplane as _, Record,
    aya::{AyaDataplane, Buffers, LoadOptions},
    question::Question,
};
use erdp_common::{
    abi::{ATTACHMENT_ENABLED, Attachment, Port},
    fib::{
        BLOCK_LINES, ROOT_BLOCKS,
        build::{Fib, Prefix, Store, Table},
    },
};
use erdp_tests::{
    bench::{
        room::blocks,
        routes::{Routes, Version, bits},
    },
    packets::{in_network_namespace, is_root, veth_ports},
};
use ipnet::IpNet;

/// Addresses that are asked about.
const PROBES: usize = 20_000;
/// Changes in a batch.
const BATCH: usize = 4_000;
/// KiB for what a batch draws anew before what it replaces is free: two lines a change, of IPv6 four, whose nodes are deeper.
const REDRAWN: u32 = 2 * BATCH as u32 / BLOCK_LINES;
/// Routes of a table every day.
const PART: usize = 100_000;

type Fib4 = Fib<Box<dyn Store + Send>>;
type Change = (IpNet, Option<u32>);

#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn no_lookup_is_wrong_while_the_whole_ipv4_table_comes_changes_and_goes() -> Result<()> {
    churn(&Routes::full(Version::V4)?)
}

#[test]
fn no_lookup_is_wrong_while_a_part_of_the_ipv4_table_comes_changes_and_goes() -> Result<()> {
    churn(&Routes::full(Version::V4)?.sample(PART))
}

#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn no_lookup_is_wrong_while_the_whole_ipv6_table_comes_changes_and_goes() -> Result<()> {
    churn(&Routes::full(Version::V6)?)
}

#[test]
fn no_lookup_is_wrong_while_a_part_of_the_ipv6_table_comes_changes_and_goes() -> Result<()> {
    churn(&Routes::full(Version::V6)?.sample(PART))
}

fn churn(routes: &Routes) -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let version = routes.version;
    // Groups of every width, which change: the widest values that a node may have count.
    let mut random = fastrand::Rng::with_seed(8_075);
    let needed = blocks(routes, |_| group(&mut random))?;
    in_network_namespace(|| {
        let port = veth_ports()?.a;
        // Half as much again: a part of a real table is scattered, and so is what its batches leave free.
        let redrawn = if version == Version::V4 { REDRAWN } else { 2 * REDRAWN };
        let fib_blocks = ROOT_BLOCKS + needed + needed / 2 + redrawn;
        let mut dataplane = AyaDataplane::load(LoadOptions { fib_blocks, ..LoadOptions::default() })?;
        let mut fib = Fib::new(dataplane.take_store().context("the store")?);
        let table = fib.create_table().map_err(|full| anyhow::anyhow!("{full:?}"))?;
        let root = table.root();
        dataplane.write(&Record::Port(port, Port { attachment: 1, ..Port::default() }))?;
        let attachment =
            Attachment { root4: root, root6: root, flags: ATTACHMENT_ENABLED, ..Attachment::default() };
        dataplane.write(&Record::Attachment(1, attachment))?;
        let probes = Probes::new(routes)?;
        let model = Model { routes: HashMap::new(), longest: probes.longest };
        let mut writer =
            Writer { fib, table, model, probes: &probes, began: Instant::now(), batches: 0, most: 0 };
        let (dataplane, probes) = (&dataplane, &probes);
        thread::scope(|scope| {
            let reader = scope.spawn(move || probes.ask_until_done(dataplane, port));
            let written = writer.run(routes, &|| probes.all_are_right(dataplane, port));
            probes.done.store(true, SeqCst);
            let asked = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
            written?;
            let Asked { sure, under_way, discarded } = asked?;
            println!(
                "{version:?}, {} {} prefixes: {} batches, {sure} look-ups, {under_way} of them while a batch was under \
                 way; {discarded} not judged; at most {} of {fib_blocks} KiB in use",
                routes.prefixes.len(),
                routes.source,
                writer.batches,
                writer.most,
            );
            ensure!(under_way > 1_000, "only {under_way} look-ups were made while a batch was under way");
            Ok(())
        })
    })
}

/// A group of every width a value may have, most of them narrow.
fn group(random: &mut fastrand::Rng) -> u32 {
    match random.u32(..1_000) {
        0 => random.u32(256..4_096),
        1..5 => random.u32(16..256),
        5..20 => random.u32(4..16),
        _ => random.u32(1..4),
    }
}

/// Longest match by asking for each length: slow, and obviously right.
struct Model {
    routes: HashMap<(u8, u128), u32>,
    longest: u8,
}

impl Model {
    fn answer(&self, address: u128) -> u32 {
        let cut = |len: u8| address & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        let found = (0..=self.longest).rev().find_map(|len| self.routes.get(&(len, cut(len))));
        found.copied().unwrap_or(0)
    }
}

/// What is asked, and what may be answered just now.
struct Probes {
    /// In order.
    addresses: Vec<u128>,
    frames: Vec<Vec<u8>>,
    /// By address: the answer before the batch and (upper half) after it.
    allowed: Vec<AtomicU64>,
    /// Even: no batch is under way.
    phase: AtomicU64,
    done: AtomicBool,
    /// Longest prefix of the table.
    longest: u8,
}

/// Look-ups that were made.
#[derive(Default)]
struct Asked {
    sure: u64,
    under_way: u64,
    discarded: u64,
}

impl Probes {
    /// Anywhere in prefixes of the table, and right beside them.
    fn new(routes: &Routes) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(365);
        let longest = routes.prefixes.iter().map(IpNet::prefix_len).max().unwrap_or(0);
        let width = if routes.version == Version::V4 { 32 } else { 128 };
        let mut addresses: Vec<u128> = (0..PROBES)
            .map(|at| {
                let prefix = routes.prefixes[random.usize(..routes.prefixes.len())];
                let host = u128::MAX.checked_shr(prefix.prefix_len().into()).unwrap_or(0);
                let inside = bits(prefix) | (random.u128(..) & host);
                let address = if at % 4 == 0 { bits(prefix) | host } else { inside };
                address & (u128::MAX << (128 - width))
            })
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let frames =
            addresses.iter().map(|address| frame(routes.version, *address)).collect::<Result<_>>()?;
        let allowed = addresses.iter().map(|_| AtomicU64::new(0)).collect();
        let (phase, done) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { addresses, frames, allowed, phase, done, longest })
    }

    fn ask(&self, at: usize, dataplane: &AyaDataplane, port: u32, buffers: &mut Buffers) -> Result<u32> {
        Ok(dataplane.ask_with(port, &self.frames[at], buffers)?.0.group)
    }

    fn ask_until_done(&self, dataplane: &AyaDataplane, port: u32) -> Result<Asked> {
        let (mut asked, mut buffers) = (Asked::default(), Buffers::default());
        let mut random = fastrand::Rng::with_seed(12_076);
        while !self.done.load(SeqCst) {
            let at = random.usize(..self.addresses.len());
            let phase = self.phase.load(SeqCst);
            let before = self.allowed[at].load(SeqCst);
            let answer = self.ask(at, dataplane, port, &mut buffers)?;
            let after = self.allowed[at].load(SeqCst);
            // With more than one step in between, an answer in the middle may be right that is neither before nor after.
            if self.phase.load(SeqCst) > phase + 1 {
                asked.discarded += 1;
                continue;
            }
            let allowed = [before as u32, (before >> 32) as u32, after as u32, (after >> 32) as u32];
            let address = self.addresses[at];
            ensure!(
                allowed.contains(&answer),
                "{address:032x} answers {answer}, which is none of {allowed:?}"
            );
            asked.sure += 1;
            asked.under_way += phase % 2;
        }
        Ok(asked)
    }

    /// Between batches there is one right answer for each address.
    fn all_are_right(&self, dataplane: &AyaDataplane, port: u32) -> Result<()> {
        let mut buffers = Buffers::default();
        for at in 0..self.addresses.len() {
            let (answer, expected) =
                (self.ask(at, dataplane, port, &mut buffers)?, self.allowed[at].load(SeqCst));
            let address = self.addresses[at];
            ensure!(answer == expected as u32, "{address:032x} answers {answer} instead of {expected}");
        }
        Ok(())
    }
}

fn frame(version: Version, address: u128) -> Result<Vec<u8>> {
    let (from, to) = match version {
        Version::V4 => ([198, 18, 64, 9].into(), ((address >> 96) as u32).to_be_bytes().into()),
        Version::V6 => {
            ([0xfd00, 0x64, 0, 0, 0, 0, 0, 9].into(), std::net::Ipv6Addr::from(address.to_be_bytes()).into())
        }
    };
    let question = Question { from, to, ports: (1, 2), hop_limit: 64, tags: [None, None] };
    question.frame().map_err(Into::into)
}

/// The one who changes the table.
struct Writer<'p> {
    fib: Fib4,
    table: Table,
    model: Model,
    probes: &'p Probes,
    began: Instant,
    batches: u64,
    /// KiB that were in use at most.
    most: u32,
}

impl Writer<'_> {
    /// Comes shuffled; changes; goes shuffled.
    fn run(&mut self, routes: &Routes, all_are_right: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut random = fastrand::Rng::with_seed(8_075);
        let mut prefixes = routes.prefixes.clone();
        random.shuffle(&mut prefixes);
        let come: Vec<Change> = prefixes.iter().map(|prefix| (*prefix, Some(group(&mut random)))).collect();
        self.batches(&come)?;
        all_are_right().context("when all have come")?;
        let changes: Vec<Change> = (0..prefixes.len() / 2)
            .map(|_| {
                let prefix = prefixes[random.usize(..prefixes.len())];
                (prefix, (random.u8(..) >= 100).then(|| group(&mut random)))
            })
            .collect();
        self.batches(&changes)?;
        // A cover of everything comes, moves and goes: each node inherits another group.
        let default = if routes.version == Version::V4 { "0.0.0.0/0" } else { "::/0" }.parse()?;
        for group in [Some(7), Some(2), None] {
            self.batches(&[(default, group)])?;
            all_are_right().context("after the default route's change")?;
        }
        random.shuffle(&mut prefixes);
        let gone: Vec<Change> = prefixes.iter().map(|prefix| (*prefix, None)).collect();
        self.batches(&gone)?;
        all_are_right().context("when all are gone")?;
        ensure!(self.table.is_empty() && self.fib.blocks_in_use() == ROOT_BLOCKS, "something is left");
        Ok(())
    }

    fn batches(&mut self, changes: &[Change]) -> Result<()> {
        changes.chunks(BATCH).try_for_each(|batch| self.batch(batch))
    }

    fn batch(&mut self, batch: &[Change]) -> Result<()> {
        for (prefix, group) in batch {
            let key = (prefix.prefix_len(), bits(*prefix));
            match group {
                Some(group) => self.model.routes.insert(key, *group),
                None => self.model.routes.remove(&key),
            };
        }
        let mut touched: Vec<usize> = batch.iter().flat_map(|(prefix, _)| self.covered(*prefix)).collect();
        touched.sort_unstable();
        touched.dedup();
        let probes = self.probes;
        let after: Vec<u64> =
            touched.iter().map(|at| u64::from(self.model.answer(probes.addresses[*at]))).collect();
        for (at, after) in touched.iter().zip(&after) {
            let before = probes.allowed[*at].load(SeqCst) & 0xffff_ffff;
            probes.allowed[*at].store(before | after << 32, SeqCst);
        }
        probes.phase.fetch_add(1, SeqCst);
        let routes =
            batch.iter().map(|(prefix, group)| (Prefix::new(bits(*prefix), prefix.prefix_len()), *group));
        let now_ns = self.began.elapsed().as_nanos() as u64;
        let full = |full| anyhow::anyhow!("batch {}: the pool is too small: {full:?}", self.batches);
        self.fib.apply(&mut self.table, routes, now_ns).map_err(full)?;
        for (at, after) in touched.iter().zip(&after) {
            probes.allowed[*at].store(after | after << 32, SeqCst);
        }
        probes.phase.fetch_add(1, SeqCst);
        self.batches += 1;
        self.most = self.most.max(self.fib.blocks_in_use());
        Ok(())
    }

    /// Which probes a prefix covers.
    fn covered(&self, prefix: IpNet) -> std::ops::Range<usize> {
        let first = bits(prefix);
        let last = first | u128::MAX.checked_shr(prefix.prefix_len().into()).unwrap_or(0);
        let addresses = &self.probes.addresses;
        addresses.partition_point(|at| *at < first)..addresses.partition_point(|at| *at <= last)
    }
}
