//! Writing the trie: insert and remove prefixes in place, without a look-up ever seeing a wrong answer.
//!
//! A new block is filled completely before the one 32-bit store that links it; a block that is no longer linked is retired
//! and reused only after [`GRACE_NS`], which is far longer than any XDP program can run, so that a look-up in flight never
//! reads a block with another meaning. Prefix lengths of the leaves live only here, on the host side. Time is an argument.

use std::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    vec,
    vec::Vec,
};

use super::{BLOCK_ENTRIES, CHILD, ROOT_BLOCKS};

/// Nanoseconds between the unlinking of a block and its reuse. An XDP program runs within one NAPI poll (milliseconds at the
/// very worst); this is proven long enough by three orders of magnitude.
pub const GRACE_NS: u64 = 1_000_000_000;

/// Where blocks live: the mapped BPF array, or plain memory.
pub trait Store {
    /// Blocks in the pool.
    fn capacity(&self) -> u32;
    /// Reads an entry; `block < capacity`.
    fn entry(&self, block: u32, slot: u8) -> u32;
    /// Publishes an entry by a single aligned store.
    fn publish(&mut self, block: u32, slot: u8, entry: u32);
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn capacity(&self) -> u32 {
        (**self).capacity()
    }
    fn entry(&self, block: u32, slot: u8) -> u32 {
        (**self).entry(block, slot)
    }
    fn publish(&mut self, block: u32, slot: u8, entry: u32) {
        (**self).publish(block, slot, entry);
    }
}

/// A prefix of either family, left-aligned in 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Prefix length; before the bits, so that prefixes sort by length first.
    len: u8,
    /// Bits 0 to 63; zero beyond `len`. Two words, because a table keeps millions of prefixes and `u128` would align to 16.
    high: u64,
    /// Bits 64 to 127.
    low: u64,
}

impl Prefix {
    /// Host bits are cleared; `len` is cut to 128.
    pub fn new(bits: u128, len: u8) -> Self {
        let len = len.min(128);
        let bits = bits & mask(len);
        Self { len, high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// From an IPv4 prefix.
    pub fn v4(address: [u8; 4], len: u8) -> Self {
        Self::new(u128::from(u32::from_be_bytes(address)) << 96, len.min(32))
    }

    /// From an IPv6 prefix.
    pub fn v6(address: [u8; 16], len: u8) -> Self {
        Self::new(u128::from_be_bytes(address), len)
    }

    fn cut(self, len: u8) -> Self {
        Self::new(self.bits(), len)
    }

    /// Its first 16 bits.
    fn bucket(self) -> usize {
        (self.high >> 48) as usize
    }

    fn bits(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// The pool has no block left for this prefix; nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFull {
    /// Blocks the prefix needs.
    pub needed: u32,
    /// Blocks in the pool.
    pub capacity: u32,
}

/// One routing table of one family: its root and its routes.
#[derive(Debug)]
pub struct Table {
    root: u32,
    /// The routes by their first 16 bits: small maps, so that routes in no order are kept nearly as fast as those in order.
    routes: Vec<BTreeMap<Prefix, u32>>,
    /// Number of routes.
    len: usize,
    /// How many routes each prefix length has: a cover is only looked for where there is one.
    by_length: [u32; 129],
}

impl Table {
    /// First block of the root, as [`crate::abi::Attachment`] holds it.
    pub fn root(&self) -> u32 {
        self.root
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without any route.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every route and its group, in no order.
    pub fn routes(&self) -> impl Iterator<Item = (Prefix, u32)> + '_ {
        self.routes.iter().flatten().map(|(prefix, group)| (*prefix, *group))
    }

    fn keep(&mut self, prefix: Prefix, group: u32) {
        if self.routes[prefix.bucket()].insert(prefix, group).is_none() {
            self.len += 1;
            self.by_length[usize::from(prefix.len)] += 1;
        }
    }

    fn forget(&mut self, prefix: Prefix) -> bool {
        let was_there = self.routes[prefix.bucket()].remove(&prefix).is_some();
        self.len -= usize::from(was_there);
        self.by_length[usize::from(prefix.len)] -= u32::from(was_there);
        was_there
    }

    fn cover(&self, prefix: Prefix) -> (u32, u8) {
        (0..prefix.len)
            .rev()
            .filter(|len| self.by_length[usize::from(*len)] > 0)
            .find_map(|len| {
                let cover = prefix.cut(len);
                self.routes[cover.bucket()].get(&cover).map(|group| (*group, len))
            })
            .unwrap_or((0, 0))
    }
}

/// The pool of blocks and the tables' writer.
#[derive(Debug)]
pub struct Fib<S> {
    store: S,
    /// Prefix length of each leaf, by block.
    lengths: Vec<[u8; BLOCK_ENTRIES]>,
    free: Vec<u32>,
    retired: VecDeque<(u64, u32)>,
}

/// A step down: the slot that leads to the next block.
struct Step {
    block: u32,
    slot: u8,
}

impl<S: Store> Fib<S> {
    /// An empty pool. Entries that a store still holds are overwritten as blocks are taken into use.
    pub fn new(store: S) -> Self {
        Self { store, lengths: Vec::new(), free: Vec::new(), retired: VecDeque::new() }
    }

    /// The store, for readers on the host.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, to be written around the trie.
    #[cfg(test)]
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Blocks in use, roots included.
    pub fn blocks_in_use(&self) -> u32 {
        (self.lengths.len() - self.free.len() - self.retired.len()) as u32
    }

    /// A new, empty table: takes 256 blocks for its root.
    pub fn create_table(&mut self) -> Result<Table, PoolFull> {
        let root = self.lengths.len() as u32;
        if root + ROOT_BLOCKS > self.store.capacity() {
            return Err(PoolFull { needed: ROOT_BLOCKS, capacity: self.store.capacity() });
        }
        for _ in 0..ROOT_BLOCKS {
            let block = self.extend();
            self.fill(block, 0, 0);
        }
        Ok(Table { root, routes: vec![BTreeMap::new(); 1 << 16], len: 0, by_length: [0; 129] })
    }

    /// Adds or replaces a route; `group` is neither 0 nor has the [`CHILD`] bit.
    pub fn insert(
        &mut self,
        table: &mut Table,
        prefix: Prefix,
        group: u32,
        now_ns: u64,
    ) -> Result<(), PoolFull> {
        debug_assert!(group != 0 && group & CHILD == 0, "group {group} is not a leaf");
        let needed = self.missing_levels(table, prefix);
        if needed > self.available(now_ns) {
            return Err(PoolFull { needed, capacity: self.store.capacity() });
        }
        table.keep(prefix, group);
        let mut block = table.root + first_byte(prefix.bits(), 0);
        let mut level = 16;
        if prefix.len < 8 {
            for at in 0..(1u32 << (8 - prefix.len)) {
                self.paint(block + at, 0, 255, &|length| length <= prefix.len, (group, prefix.len));
            }
            return Ok(());
        }
        while prefix.len > level {
            let slot = first_byte(prefix.bits(), level - 8) as u8;
            block = self.child(block, slot);
            level += 8;
        }
        let (first, last) = slots(prefix, level);
        self.paint(block, first, last, &|length| length <= prefix.len, (group, prefix.len));
        Ok(())
    }

    /// Removes a route; the answer is whether it was there.
    pub fn remove(&mut self, table: &mut Table, prefix: Prefix, now_ns: u64) -> bool {
        if !table.forget(prefix) {
            return false;
        }
        let cover = table.cover(prefix);
        let mut block = table.root + first_byte(prefix.bits(), 0);
        if prefix.len < 8 {
            for at in 0..(1u32 << (8 - prefix.len)) {
                self.paint(block + at, 0, 255, &|length| length == prefix.len, cover);
            }
            return true;
        }
        let mut path = Vec::with_capacity(16);
        let mut level = 16;
        while prefix.len > level {
            let slot = first_byte(prefix.bits(), level - 8) as u8;
            let entry = self.store.entry(block, slot);
            path.push(Step { block, slot });
            block = entry & !CHILD;
            level += 8;
        }
        let (first, last) = slots(prefix, level);
        self.paint(block, first, last, &|length| length == prefix.len, cover);
        self.collapse(path, block, level, now_ns);
        true
    }

    /// Gives back blocks whose entries are all one leaf that is not longer than the way to the block.
    fn collapse(&mut self, mut path: Vec<Step>, mut block: u32, mut level: u8, now_ns: u64) {
        while let Some(Step { block: parent, slot }) = path.pop() {
            let entry = self.store.entry(block, 0);
            let length = self.lengths[block as usize][0];
            // The same group is not the same route: a longer one may lead where its cover does.
            let uniform = entry & CHILD == 0
                && self.lengths[block as usize].iter().all(|length| *length <= level - 8)
                && (1..=255).all(|at| self.store.entry(block, at) == entry);
            if !uniform {
                return;
            }
            self.lengths[parent as usize][usize::from(slot)] = length;
            self.store.publish(parent, slot, entry);
            self.retired.push_back((now_ns, block));
            block = parent;
            level -= 8;
        }
    }

    /// Writes a leaf over the slots whose leaf `replaces`, in the blocks below them too.
    fn paint(&mut self, block: u32, first: u8, last: u8, replaces: &dyn Fn(u8) -> bool, leaf: (u32, u8)) {
        for slot in first..=last {
            let entry = self.store.entry(block, slot);
            if entry & CHILD != 0 {
                self.paint(entry & !CHILD, 0, 255, replaces, leaf);
            } else if replaces(self.lengths[block as usize][usize::from(slot)]) {
                self.lengths[block as usize][usize::from(slot)] = leaf.1;
                self.store.publish(block, slot, leaf.0);
            }
        }
    }

    /// The block below a slot, made (filled with the slot's leaf, then linked) when there is none.
    fn child(&mut self, block: u32, slot: u8) -> u32 {
        let entry = self.store.entry(block, slot);
        if entry & CHILD != 0 {
            return entry & !CHILD;
        }
        let length = self.lengths[block as usize][usize::from(slot)];
        let child = self.take();
        self.fill(child, entry, length);
        self.store.publish(block, slot, CHILD | child);
        child
    }

    fn missing_levels(&self, table: &Table, prefix: Prefix) -> u32 {
        let mut block = table.root + first_byte(prefix.bits(), 0);
        let mut level = 16;
        while prefix.len > level {
            let entry = self.store.entry(block, first_byte(prefix.bits(), level - 8) as u8);
            if entry & CHILD == 0 {
                return u32::from((prefix.len - level).div_ceil(8));
            }
            block = entry & !CHILD;
            level += 8;
        }
        0
    }

    fn available(&mut self, now_ns: u64) -> u32 {
        while self.retired.front().is_some_and(|(since, _)| now_ns.saturating_sub(*since) >= GRACE_NS) {
            self.free.extend(self.retired.pop_front().map(|(_, block)| block));
        }
        self.store.capacity() - self.lengths.len() as u32 + self.free.len() as u32
    }

    /// A block to fill; [`Self::available`] has been asked.
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| self.extend())
    }

    fn extend(&mut self) -> u32 {
        self.lengths.push([0; BLOCK_ENTRIES]);
        self.lengths.len() as u32 - 1
    }

    fn fill(&mut self, block: u32, entry: u32, length: u8) {
        self.lengths[block as usize].fill(length);
        for slot in 0..=255 {
            self.store.publish(block, slot, entry);
        }
    }
}

/// The eight bits that start at bit `from`.
fn first_byte(bits: u128, from: u8) -> u32 {
    ((bits >> (120 - u32::from(from))) & 0xff) as u32
}

/// The slots that a prefix covers in the block that ends at `level`.
fn slots(prefix: Prefix, level: u8) -> (u8, u8) {
    let first = first_byte(prefix.bits(), level - 8) as u8;
    (first, first | (0xffu16 >> (8 - (level - prefix.len)).min(8)) as u8)
}
