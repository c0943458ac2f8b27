//! Loading: how many prefixes a second go into the maps, and how much map memory the whole tables take.

use anyhow::Result;
use erdp_common::fib::Line;
use serde::Serialize;

use super::{
    arena::{Arena, Trie, cpu_time, fill},
    routes::{Routes, Version},
};

/// Prefixes of which the kernel's trie is filled for comparison.
const LPM_SAMPLE: usize = 50_000;

/// How one table was loaded.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Version of IP.
    pub version: Version,
    /// Prefixes.
    pub prefixes: usize,
    /// Into the trie, in the order of addresses: prefixes a second.
    pub per_second: f64,
    /// Into the trie, in random order.
    pub shuffled_per_second: f64,
    /// Into the kernel's trie by system calls (a sample).
    pub lpm_per_second: f64,
    /// The trie's lines in use, in MB (10^6 bytes), root included.
    pub map_mb: f64,
}

/// Loads a table into fresh maps, three times in each order; the best counts, because a load is too long to be repeated until
/// the machine is quiet.
pub fn measure(object: &[u8], routes: &Routes, fib_blocks: u32) -> Result<Load> {
    let (mut best, mut best_shuffled, mut map_mb) = (0.0f64, 0.0f64, 0.0);
    let shuffled = routes.shuffled();
    let mut lpm_per_second = 0.0;
    for _ in 0..3 {
        let mut arena = Arena::new(object, fib_blocks)?;
        let [mut one, mut other] = arena.take_tries()?;
        best = best.max(rate(routes.prefixes.len(), || fill(&mut one, routes.version, &routes.prefixes))?);
        best_shuffled =
            best_shuffled.max(rate(shuffled.len(), || fill(&mut other, routes.version, &shuffled))?);
        map_mb = megabytes(&one);
        let sample = &shuffled[..LPM_SAMPLE.min(shuffled.len())];
        let mut lpm = arena.take_lpm(routes.version)?;
        lpm_per_second = f64::max(lpm_per_second, rate(sample.len(), || lpm.fill(sample))?);
    }
    let (version, prefixes) = (routes.version, routes.prefixes.len());
    Ok(Load {
        version,
        prefixes,
        per_second: best,
        shuffled_per_second: best_shuffled,
        lpm_per_second,
        map_mb,
    })
}

/// By CPU time, as everything here: one thread loads.
fn rate(count: usize, load: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = cpu_time()?;
    load()?;
    Ok(count as f64 * 1e9 / (cpu_time()? - started))
}

fn megabytes(trie: &Trie) -> f64 {
    f64::from(trie.fib.lines_in_use()) * size_of::<Line>() as f64 / 1e6
}
