//! The trie against a linear scan, with grace periods, collapse and the order of stores.

use std::{collections::BTreeMap, vec, vec::Vec};

use proptest::prelude::*;

use super::{
    CHILD, ROOT_BLOCKS,
    build::{Fib, GRACE_NS, PoolFull, Prefix, Store, Table},
    longest_match,
};
use crate::{
    family::{Address, V4, V6},
    memory::{MemoryStore, MemoryTables},
};

/// What the packet path would read now.
fn tables(fib: &Fib<MemoryStore>) -> MemoryTables {
    let mut tables = MemoryTables::new(0);
    tables.blocks = fib.store().clone();
    tables
}

fn longest(tables: &MemoryTables, table: &Table, bits: u128, v6: bool) -> u32 {
    let address = Address { high: (bits >> 64) as u64, low: bits as u64 };
    if v6 {
        longest_match::<V6, _>(table.root(), address, tables)
    } else {
        longest_match::<V4, _>(table.root(), address, tables)
    }
}

fn lookup(fib: &Fib<MemoryStore>, table: &Table, bits: u128, v6: bool) -> u32 {
    longest(&tables(fib), table, bits, v6)
}

/// Longest covering prefix by scanning all.
fn model(routes: &BTreeMap<(u8, u128), u32>, bits: u128) -> u32 {
    let covers = |len: u8, prefix: u128| len == 0 || (bits ^ prefix) >> (128 - u32::from(len)) == 0;
    routes.iter().rev().find(|((len, prefix), _)| covers(*len, *prefix)).map_or(0, |(_, group)| *group)
}

fn cut(bits: u128, len: u8) -> u128 {
    if len == 0 { 0 } else { bits & (u128::MAX << (128 - u32::from(len))) }
}

/// Addresses that share long beginnings, so that prefixes nest.
fn bits(v6: bool) -> impl Strategy<Value = u128> {
    (0u128..4, 0u128..4, any::<u8>(), any::<u16>()).prop_map(move |(a, b, c, d)| {
        let v4 = (20 << 24 | a << 22 | b << 13 | u128::from(c & 0x83)) << 96;
        if v6 { v4 | u128::from(c) << 70 | u128::from(d & 0x8181) << 40 | u128::from(d) } else { v4 }
    })
}

fn steps(v6: bool) -> impl Strategy<Value = Vec<(u128, u8, u32)>> {
    let longest = if v6 { 128u8 } else { 32 };
    proptest::collection::vec((bits(v6), 0..=longest, 0u32..4), 1..80)
}

fn agrees_with_the_model(steps: Vec<(u128, u8, u32)>, v6: bool) -> Result<(), TestCaseError> {
    let mut fib = Fib::new(MemoryStore::new(2 * ROOT_BLOCKS + 1200));
    let mut table = fib.create_table().expect("room");
    let mut routes = BTreeMap::new();
    for (at, (bits, len, group)) in steps.iter().enumerate() {
        let now = at as u64 * GRACE_NS / 3;
        let prefix = Prefix::new(*bits, *len);
        if *group == 0 {
            let there = routes.remove(&(*len, cut(*bits, *len))).is_some();
            prop_assert_eq!(fib.remove(&mut table, prefix, now), there);
        } else {
            routes.insert((*len, cut(*bits, *len)), *group);
            fib.insert(&mut table, prefix, *group, now).expect("room");
        }
        let tables = tables(&fib);
        for (probe, ..) in &steps {
            prop_assert_eq!(
                longest(&tables, &table, *probe, v6),
                model(&routes, *probe),
                "after step {}",
                at
            );
        }
    }
    prop_assert_eq!(table.len(), routes.len());
    for (len, bits) in routes.keys() {
        prop_assert!(fib.remove(&mut table, Prefix::new(*bits, *len), 0));
    }
    prop_assert_eq!(fib.blocks_in_use(), ROOT_BLOCKS, "an empty table keeps only its root");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ipv4_lookups_equal_a_linear_scan_after_every_change(steps in steps(false)) {
        agrees_with_the_model(steps, false)?;
    }

    #[test]
    fn ipv6_lookups_equal_a_linear_scan_after_every_change(steps in steps(true)) {
        agrees_with_the_model(steps, true)?;
    }
}

#[test]
fn a_longer_route_to_its_covers_group_outlives_the_removal_of_its_neighbour() {
    let mut fib = Fib::new(MemoryStore::new(ROOT_BLOCKS + 8));
    let mut table = fib.create_table().expect("room");
    let at = |last: u128| (20u128 << 24 | last) << 96;
    let (default, kept, removed) = (Prefix::new(0, 0), Prefix::new(at(10), 31), Prefix::new(at(100), 30));
    for (prefix, group) in [(default, 2), (kept, 2), (removed, 1)] {
        fib.insert(&mut table, prefix, group, 0).expect("room");
    }
    assert!(fib.remove(&mut table, removed, 0) && fib.remove(&mut table, default, 0));
    assert_eq!(lookup(&fib, &table, at(11), false), 2);
    assert_eq!(lookup(&fib, &table, at(12), false), 0);
}

/// A store that checks, at each publication, that nothing unfinished becomes reachable.
struct Watched {
    inner: MemoryStore,
    root: u32,
    /// Addresses and the groups that are right before or after the change under way.
    allowed: Vec<(u128, [u32; 2])>,
}

impl Store for Watched {
    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }
    fn entry(&self, block: u32, slot: u8) -> u32 {
        self.inner.entry(block, slot)
    }
    fn publish(&mut self, block: u32, slot: u8, entry: u32) {
        self.inner.publish(block, slot, entry);
        let mut tables = MemoryTables::new(0);
        tables.blocks = self.inner.clone();
        for (bits, allowed) in &self.allowed {
            let address = Address { high: (bits >> 64) as u64, low: 0 };
            let got = longest_match::<V4, _>(self.root, address, &tables);
            assert!(
                allowed.contains(&got),
                "{bits:x}: {got} is neither of {allowed:?} in the middle of a change"
            );
        }
    }
}

#[test]
fn a_lookup_in_the_middle_of_a_change_sees_the_old_or_the_new_answer() {
    let inner = MemoryStore::new(ROOT_BLOCKS + 8);
    let mut fib = Fib::new(Watched { inner, root: 0, allowed: vec![] });
    let mut table = fib.create_table().expect("room");
    let at = |d: u8| u128::from(u32::from_be_bytes([20, 1, 2, d])) << 96;
    let net = |d, len| Prefix::v4([20, 1, 2, d], len);
    let allow = |fib: &mut Fib<Watched>, allowed: Vec<(u128, [u32; 2])>| fib.store_mut().allowed = allowed;
    allow(&mut fib, vec![(at(1), [0, 5]), (at(200), [0, 5])]);
    fib.insert(&mut table, net(0, 16), 5, 0).expect("room");
    allow(&mut fib, vec![(at(1), [5, 5]), (at(200), [5, 7])]);
    fib.insert(&mut table, net(128, 25), 7, 0).expect("room");
    allow(&mut fib, vec![(at(1), [5, 6]), (at(200), [7, 7])]);
    fib.insert(&mut table, net(0, 16), 6, 0).expect("room");
    allow(&mut fib, vec![(at(1), [6, 6]), (at(200), [7, 6])]);
    assert!(fib.remove(&mut table, net(128, 25), 0));
    assert_eq!(fib.blocks_in_use(), ROOT_BLOCKS);
}

#[test]
fn blocks_are_not_reused_within_the_grace_period_and_a_full_pool_changes_nothing() {
    let mut fib = Fib::new(MemoryStore::new(ROOT_BLOCKS + 2));
    let mut table = fib.create_table().expect("room");
    let deep = |last: u8| Prefix::v4([20, last, 1, 1], 32);
    fib.insert(&mut table, deep(1), 1, 0).expect("two blocks are left");
    let full = fib.insert(&mut table, deep(2), 2, 0).expect_err("none is left");
    assert_eq!(full, PoolFull { needed: 2, capacity: ROOT_BLOCKS + 2 });
    assert_eq!((table.len(), lookup(&fib, &table, 0x1402_0101 << 96, false)), (1, 0));
    assert!(fib.remove(&mut table, deep(1), 100));
    assert!(fib.insert(&mut table, deep(2), 2, 99 + GRACE_NS).is_err(), "a look-up may still be on its way");
    fib.insert(&mut table, deep(2), 2, 100 + GRACE_NS).expect("the grace period has passed");
    assert_eq!(lookup(&fib, &table, 0x1402_0101 << 96, false), 2);
}

#[test]
fn tables_share_the_pool_and_do_not_see_each_other() {
    let mut fib = Fib::new(MemoryStore::new(2 * ROOT_BLOCKS + 4));
    let (mut one, two) = (fib.create_table().expect("room"), fib.create_table().expect("room"));
    fib.insert(&mut one, Prefix::v4([20, 0, 0, 0], 8), 9, 0).expect("room");
    assert_eq!(lookup(&fib, &one, 0x1402_0101 << 96, false), 9);
    assert_eq!(lookup(&fib, &two, 0x1402_0101 << 96, false), 0);
    assert_eq!(CHILD & 9, 0);
}
