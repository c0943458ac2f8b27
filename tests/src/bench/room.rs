//! How much of the forwarding tables' pool a routing table takes, and whether the pool that a configuration has by default holds what may
//! come: in plain memory, by the router's own code.
//!
//! `cargo test -p erdp-tests --lib bench::room -- --nocapture` prints it, of the generated tables, and with `ERDP_DATA` of the real ones too.

use anyhow::Result;
use erdp_common::{
    fib::{
        BLOCKS_MAX, ROOT_BLOCKS,
        build::{Fib, GRACE_NS, Prefix},
    },
    memory::MemoryStore,
};

use super::routes::{Routes, bits};

/// Routes that are written together, as the controller does while a table comes.
const BATCH: usize = 4_000;

/// KiB that a table takes beside its root, where the `n`-th route leads to the group `group(n)`.
///
/// # Errors
/// When no pool at all has room for it.
pub fn blocks(routes: &Routes, mut group: impl FnMut(usize) -> u32) -> Result<u32> {
    let mut fib = Fib::new(MemoryStore::new(BLOCKS_MAX / 4));
    let full = |full| anyhow::anyhow!("{full:?}");
    let mut table = fib.create_table().map_err(full)?;
    let shuffled = routes.shuffled();
    let with_groups: Vec<_> = shuffled.iter().enumerate().map(|(at, prefix)| (*prefix, group(at))).collect();
    for (at, batch) in with_groups.chunks(BATCH).enumerate() {
        // Between two batches all look-ups end.
        let now_ns = at as u64 * GRACE_NS;
        let changes = batch.iter().map(|(it, group)| (Prefix::new(bits(*it), it.prefix_len()), Some(*group)));
        fib.apply(&mut table, changes, now_ns).map_err(full)?;
    }
    Ok(fib.blocks_in_use() - ROOT_BLOCKS)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use erdp::config::Config;
    use ipnet::IpNet;

    use super::*;
    use crate::{bench::routes::Version, edge::is_full, released};

    const VERSIONS: [Version; 2] = [Version::V4, Version::V6];
    /// What the public tables of 2026-06-19 take, in KiB, with the groups of a circuit (both links, or either).
    const REAL: [u32; 2] = [1_732, 4_817];

    /// The groups of a circuit: both links, and some by one of them only.
    fn of_a_circuit(at: usize) -> u32 {
        [1, 1, 1, 1, 1, 1, 1, 1, 2, 3][at % 10]
    }

    #[test]
    fn a_generated_table_takes_as_much_room_as_a_real_one_and_up_to_a_half_more() -> Result<()> {
        let mut wrong = Vec::new();
        for (version, real) in VERSIONS.into_iter().zip(REAL) {
            // A million routes take long without optimization.
            if version == Version::V4 && !is_full() {
                continue;
            }
            let size = Routes::full_size(version);
            let generated = blocks(&Routes::generated(version, size), of_a_circuit)?;
            println!("{version:?}, {size} generated prefixes: {generated} KiB; the public table: {real} KiB");
            if !(real..=real + real / 2).contains(&generated) {
                wrong.push(format!("{version:?}: {generated} KiB, {real} are real"));
            }
            if env::var_os("ERDP_DATA").is_some() {
                let routes = Routes::full(version)?;
                let now = blocks(&routes, of_a_circuit)?;
                println!("{version:?}, {} real prefixes: {now} KiB", routes.prefixes.len());
                if now.abs_diff(real) > real / 50 {
                    wrong.push(format!("{version:?}: {now} KiB, not {real}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// The pool that a configuration has by default, and how many routing tables it has: one for each peering and attachment.
    fn pool(file: &Path) -> Result<(u32, u32)> {
        let text = fs::read_to_string(file)?
            .lines()
            .filter(|line| !line.starts_with("fib-blocks"))
            .fold(String::new(), |text, line| text + line + "\n");
        let (config, _) = Config::parse(&text, file)?;
        Ok((config.fib_blocks, (config.domains().len() + config.attachments.len()) as u32))
    }

    #[test]
    fn d1_the_default_pool_holds_azures_limits_in_every_table_however_the_prefixes_are_scattered()
    -> Result<()> {
        // Premium: 10,000 IPv4 and 100 IPv6 prefixes; nothing takes more room than each of them in a block of its own.
        let spread = |at: usize| u32::try_from(at).unwrap_or(0).wrapping_mul(2_654_435_761);
        let ipv4 = (0..10_000).filter_map(|at| IpNet::new(spread(at).to_be_bytes().into(), 32).ok());
        let ipv6 = (0..100).filter_map(|at| {
            IpNet::new((0x2600_u128 << 112 | u128::from(spread(at)) << 80).to_be_bytes().into(), 64).ok()
        });
        let tables: [Vec<IpNet>; 2] = [ipv4.collect(), ipv6.collect()];
        let mut needed = 2 * ROOT_BLOCKS;
        for (version, prefixes) in VERSIONS.into_iter().zip(tables) {
            needed += blocks(&Routes { version, source: "scattered", prefixes }, of_a_circuit)?;
        }
        for file in released::configurations()? {
            let (pool, tables) = pool(&file)?;
            println!("{}: {} of {pool} KiB in {tables} tables", file.display(), needed * tables);
            assert!(needed * tables <= pool, "{}: {tables} x {needed} KiB, {pool} in all", file.display());
        }
        Ok(())
    }

    #[test]
    fn the_default_pool_of_a_circuit_holds_the_public_tables_and_half_as_much_again_with_room() -> Result<()>
    {
        let (pool, tables) = pool(&released::folder().join("lab.toml"))?;
        let needed = 2 * ROOT_BLOCKS + REAL.iter().sum::<u32>() * 3 / 2;
        println!(
            "the public tables and half as much again in {tables} tables: {} of {pool} KiB",
            needed * tables
        );
        // A quarter is left for what changes.
        assert!(tables == 2 && needed * tables <= pool / 4 * 3, "{tables} x {needed} KiB, {pool} in all");
        Ok(())
    }
}
