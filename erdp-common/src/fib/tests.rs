//! The trie against a linear scan, with grace periods, collapse and the order of stores.

use std::{collections::BTreeMap, vec, vec::Vec};

use proptest::prelude::*;

use super::{
    CHILD, ROOT_BLOCKS,
    build::{Fib, GRACE_NS, PoolFull, Prefix, Store, Table},
    longest_match,
    walk::{Drawn, covers},
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
    let group = proptest::sample::select(vec![0u32, 1, 20, 4_000]);
    proptest::collection::vec((bits(v6), 0..=longest, group), 1..80)
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
            prop_assert_eq!(fib.remove(&mut table, prefix, now), Ok(there));
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
    for (bits, len, _) in &steps {
        let exact = routes.get(&(*len, cut(*bits, *len))).copied();
        prop_assert_eq!(
            fib.route(&table, Prefix::new(*bits, *len)),
            exact,
            "a route itself, not what covers it"
        );
    }
    for (len, bits) in routes.keys() {
        prop_assert_eq!(fib.remove(&mut table, Prefix::new(*bits, *len), 0), Ok(true));
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

/// A table with these routes, and what it leads each address to by the model.
fn drawn(fib: &mut Fib<MemoryStore>, steps: &[(u128, u8, u32)]) -> (Table, BTreeMap<(u8, u128), u32>) {
    let mut table = fib.create_table().expect("room");
    let mut routes = BTreeMap::new();
    for (bits, len, group) in steps.iter().filter(|(.., group)| *group != 0) {
        routes.insert((*len, cut(*bits, *len)), *group);
        fib.insert(&mut table, Prefix::new(*bits, *len), *group, 0).expect("room");
    }
    (table, routes)
}

/// Nothing changes between two of these addresses.
fn borders(routes: &BTreeMap<(u8, u128), u32>) -> impl Iterator<Item = u128> {
    routes.keys().flat_map(|(len, bits)| {
        let after = if *len == 0 { None } else { bits.checked_add(1 << (128 - u32::from(*len))) };
        [Some(*bits), after].into_iter().flatten()
    })
}

fn one_covers_the_other(before: &[(u128, u8, u32)], extra: &[(u128, u8, u32)]) -> Result<(), TestCaseError> {
    let mut fib = Fib::new(MemoryStore::new(2 * ROOT_BLOCKS + 2400));
    let (table, routes) = drawn(&mut fib, before);
    let (now, routes_now) = drawn(&mut fib, &[before, extra].concat());
    let (fewer, routes_fewer) = drawn(&mut fib, extra);
    let word = |line: u32, at: usize| fib.store().word(line, at);
    let walked = |one: &Table, other: &Table| {
        let [one, other] = [one, other].map(|table| Drawn { root: table.root(), word: &word });
        covers(&one, &other, |one, other| one <= other)
    };
    for (one, other, routes, routes_now) in [
        (&table, &now, &routes, &routes_now),
        (&now, &table, &routes_now, &routes),
        (&table, &fewer, &routes, &routes_fewer),
    ] {
        let mut at = borders(routes).chain(borders(routes_now));
        let expected = at.all(|bits| {
            let (one, other) = (model(routes, bits), model(routes_now, bits));
            one == 0 || (other != 0 && one <= other)
        });
        prop_assert_eq!(walked(one, other), expected);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_table_covers_another_if_it_leads_everywhere_where_that_one_does(
        before in steps(false), extra in steps(false),
    ) {
        one_covers_the_other(&before, &extra)?;
    }

    #[test]
    fn an_ipv6_table_too(before in steps(true), extra in steps(true)) {
        one_covers_the_other(&before, &extra)?;
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
    for prefix in [removed, default] {
        assert_eq!(fib.remove(&mut table, prefix, 0), Ok(true));
    }
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
    fn word(&self, line: u32, at: usize) -> u64 {
        self.inner.word(line, at)
    }
    fn wait_for_readers(&mut self) -> bool {
        false
    }
    fn publish(&mut self, line: u32, at: usize, word: u64) {
        self.inner.publish(line, at, word);
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
    assert_eq!(fib.remove(&mut table, net(128, 25), 0), Ok(true));
    assert_eq!(fib.blocks_in_use(), ROOT_BLOCKS);
}

/// Routes that need a line each: the first and only one of a /16.
fn lonely(at: u8) -> (Prefix, Option<u32>) {
    (Prefix::v4([20, at, 1, 0], 24), Some(1))
}

#[test]
fn a_full_pool_changes_nothing_and_lines_are_not_reused_within_the_grace_period() {
    let mut fib = Fib::new(MemoryStore::new(ROOT_BLOCKS + 1));
    let mut table = fib.create_table().expect("room");
    fib.apply(&mut table, (0..16).map(lonely), 0).expect("16 lines are left");
    let full = fib.apply(&mut table, (20..60).map(lonely), 0).expect_err("none is left");
    assert_eq!(full, PoolFull { needed: 3, capacity: ROOT_BLOCKS + 1 });
    assert_eq!((table.len(), lookup(&fib, &table, 0x1420_0101 << 96, false)), (16, 0));
    assert_eq!(fib.remove(&mut table, lonely(1).0, 100), Ok(true));
    let mut late = |now| fib.apply(&mut table, [lonely(40)], now);
    assert!(late(99 + GRACE_NS).is_err(), "a look-up may still be on its way");
    assert_eq!(late(100 + GRACE_NS), Ok(1), "the grace period has passed");
    assert_eq!(lookup(&fib, &table, 0x1428_0101 << 96, false), 1);
}

/// A store whose readers can be waited for.
struct Polite(MemoryStore, u32);

impl Store for Polite {
    fn capacity(&self) -> u32 {
        self.0.capacity()
    }
    fn word(&self, line: u32, at: usize) -> u64 {
        self.0.word(line, at)
    }
    fn publish(&mut self, line: u32, at: usize, word: u64) {
        self.0.publish(line, at, word);
    }
    fn wait_for_readers(&mut self) -> bool {
        self.1 += 1;
        true
    }
}

#[test]
fn short_of_lines_the_pool_waits_for_lookups_instead_of_time_and_only_then() {
    let mut fib = Fib::new(Polite(MemoryStore::new(ROOT_BLOCKS + 1), 0));
    let mut table = fib.create_table().expect("room");
    fib.apply(&mut table, (0..16).map(lonely), 0).expect("16 lines are left");
    assert!(fib.apply(&mut table, [lonely(16)], 0).is_err());
    assert_eq!(fib.store().1, 0, "nothing is retired: there is nothing to wait for");
    fib.remove(&mut table, lonely(3).0, 0).expect("removal needs no room");
    fib.apply(&mut table, [lonely(16)], 0).expect("the retired line");
    assert_eq!(fib.store().1, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_batch_that_finds_no_room_leaves_every_answer_as_it_was(
        before in steps(false),
        batch in steps(false),
        spare in 1u32..4,
    ) {
        let mut fib = Fib::new(MemoryStore::new(ROOT_BLOCKS + spare));
        let mut table = fib.create_table().expect("room");
        let change = |(bits, len, group): &(u128, u8, u32)| {
            (Prefix::new(*bits, *len), (*group > 0).then_some(*group))
        };
        let mut routes = BTreeMap::new();
        for step in &before {
            if fib.apply(&mut table, [change(step)], 0).is_ok() {
                let key = (step.1, cut(step.0, step.1));
                if step.2 > 0 { routes.insert(key, step.2); } else { routes.remove(&key); }
            }
        }
        let used = fib.lines_in_use();
        let result = fib.apply(&mut table, batch.iter().map(change), 0);
        if result.is_err() {
            prop_assert_eq!(fib.lines_in_use(), used);
            prop_assert_eq!(table.len(), routes.len());
        } else {
            for step in &batch {
                let key = (step.1, cut(step.0, step.1));
                if step.2 > 0 { routes.insert(key, step.2); } else { routes.remove(&key); }
            }
        }
        for (probe, ..) in before.iter().chain(&batch) {
            prop_assert_eq!(lookup(&fib, &table, *probe, false), model(&routes, *probe));
        }
    }

    #[test]
    fn a_batch_is_what_its_changes_are_one_by_one(steps in steps(true)) {
        let pool = || Fib::new(MemoryStore::new(2 * ROOT_BLOCKS + 1200));
        let (mut one, mut all) = (pool(), pool());
        let (mut slow, mut fast) = (one.create_table().expect("room"), all.create_table().expect("room"));
        let changes: Vec<_> = steps
            .iter()
            .map(|(bits, len, group)| (Prefix::new(*bits, *len), (*group > 0).then_some(*group)))
            .collect();
        let mut changed = 0;
        for change in &changes {
            changed += one.apply(&mut slow, [*change], 0).expect("room");
        }
        prop_assert_eq!(all.apply(&mut fast, changes, 0), Ok(changed));
        prop_assert_eq!(slow.len(), fast.len());
        for (probe, ..) in &steps {
            prop_assert_eq!(lookup(&one, &slow, *probe, true), lookup(&all, &fast, *probe, true));
        }
    }
}

#[test]
fn wide_groups_and_dense_nodes_of_every_kind_say_what_was_put_in() {
    for (largest, step) in
        [(3, 1), (15, 3), (255, 7), (65_535, 13), (3, 64), (15, 40), (255, 9), (65_535, 29)]
    {
        let mut fib = Fib::new(MemoryStore::new(ROOT_BLOCKS + 64));
        let mut table = fib.create_table().expect("room");
        let group = |at: u32| 1 + (at * 7_919) % largest;
        let hosts = (0..256).step_by(step as usize);
        let routes = hosts.map(|at| (Prefix::v4([20, 1, at as u8, 0], 24), Some(group(at))));
        fib.apply(&mut table, routes, 0).expect("room");
        for at in 0..256 {
            let expected = if at % step == 0 { group(at) } else { 0 };
            assert_eq!(
                lookup(&fib, &table, u128::from(0x1401_0001 | at << 8) << 96, false),
                expected,
                "{at}"
            );
        }
    }
}

#[test]
fn what_was_split_is_whole_again_when_it_is_free() {
    let mut fib = Fib::new(MemoryStore::new(ROOT_BLOCKS + 4));
    let mut table = fib.create_table().expect("room");
    let dense = |second: u8| {
        (0..=255u8).map(move |at| (Prefix::v4([21, second, at, 0], 24), Some(0x100 + u32::from(at))))
    };
    for round in 1..50u64 {
        let now = 2 * round * GRACE_NS;
        fib.apply(&mut table, (0..64).map(lonely), now).expect("64 lines in single pieces");
        fib.apply(&mut table, (0..64).map(|at| (lonely(at).0, None)), now).expect("removal needs no room");
        let later = now + GRACE_NS;
        fib.apply(&mut table, (0..8).flat_map(dense), later).expect("64 lines in pieces of 8");
        let gone = (0..8).flat_map(dense).map(|(prefix, _)| (prefix, None));
        fib.apply(&mut table, gone, later).expect("removal needs no room");
        assert_eq!(fib.blocks_in_use(), ROOT_BLOCKS);
    }
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
