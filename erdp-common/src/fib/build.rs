//! Writing the trie: a batch of changes becomes new nodes and stores, without a look-up ever seeing an answer that is neither the
//! one before nor the one after.
//!
//! # A batch's way
//! [`Fib::apply`] enters the changes into the *shadow*: for each node the routes that end in it, its children, and the group
//! that it inherits. Then it draws each node that has changed, from the leaves up. A node whose runs are still those of its
//! bitmap stays where it is, and only words with another value are stored; otherwise its successor is written into lines that
//! nobody can see, and the parent's entry changes. Nothing is stored before all lines are found: a batch that finds no room is
//! taken out of the shadow again and the table is what it was, to the word.
//!
//! # Why each answer changes once
//! For an address, exactly one store of a batch is decisive: that of the value, if its node stays, or else that of the lowest
//! entry above it whose node stays. All other stores leave what it reads as it is, and what is unlinked keeps its words until
//! its grace period is over ([`super::pool`]).
//!
//! # What needs no room
//! Removing routes and changing their groups, as long as the values are as wide as before. Runs are drawn at the borders of
//! routes, not of groups: a route to its neighbour's group has its own run. So what is left after a removal is part of what was
//! there, and fits into the same bitmaps.
//!
//! Time is an argument.

use std::{collections::BTreeMap, vec, vec::Vec};

use super::{
    BLOCK_LINES, CHILD, GROUP_LIMIT, LINE_WORDS, ROOT_LINES,
    node::{Kind, SLOTS, SlotSet, piece, width},
    pool::{Piece, Pool},
};
pub use super::{
    pool::{GRACE_NS, Store},
    prefix::Prefix,
};

/// The pool has no room for a batch; nothing has been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFull {
    /// KiB that the batch lacks.
    pub needed: u32,
    /// KiB of the pool.
    pub capacity: u32,
}

/// One routing table of one family.
#[derive(Debug)]
pub struct Table {
    root: u32,
    /// What the first 16 bits lead to.
    slots: Vec<RootSlot>,
    /// Routes of at most 16 bits, by length and bits.
    short: BTreeMap<(u8, u16), u32>,
    /// Slots of the root to be drawn.
    dirty: Vec<u16>,
    /// Number of routes.
    len: usize,
}

/// The way to a node, as its parent has it: what is not touched by a batch is not looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// The node in the shadow; 0: none.
    node: u32,
    /// The entry that points to it; 0: not drawn yet.
    entry: u32,
    /// The group that it inherits, as drawn.
    base: u16,
    is_dirty: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct RootSlot {
    below: Link,
    /// Group of the longest route of at most 16 bits; 0: none.
    group: u16,
    /// One more than that route's length; 0: none.
    depth: u8,
    is_dirty: bool,
}

impl Table {
    /// First line of the root, as [`crate::abi::Attachment`] holds it.
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

    /// A route of at most 16 bits; the answer is what was there.
    fn set_short(&mut self, prefix: Prefix, group: Option<u32>) -> Option<u32> {
        let (len, first) = (prefix.length(), prefix.first());
        let before = match group {
            Some(group) => self.short.insert((len, first), group),
            None => self.short.remove(&(len, first)),
        };
        if before == group {
            return before;
        }
        let cover = || {
            let cut = |len: u8| first & u16::MAX.checked_shl(16 - u32::from(len)).unwrap_or(0);
            (0..len).rev().find_map(|len| Some((*self.short.get(&(len, cut(len)))?, len + 1)))
        };
        let (group_now, depth) = group.map(|group| (group, len + 1)).or_else(cover).unwrap_or((0, 0));
        for at in usize::from(first)..usize::from(first) + (1 << (16 - len)) {
            let slot = &mut self.slots[at];
            if slot.depth <= len + 1 && (group.is_some() || slot.depth == len + 1) {
                (slot.group, slot.depth) = (group_now as u16, depth);
                touch(slot, at, &mut self.dirty);
            }
        }
        before
    }
}

fn touch(slot: &mut RootSlot, at: usize, dirty: &mut Vec<u16>) {
    if !std::mem::replace(&mut slot.is_dirty, true) {
        dirty.push(at as u16);
    }
}

/// A node in the shadow.
#[derive(Debug, Default)]
struct Node {
    /// The routes that end here: first slot, bits of the slot that count and group, packed so that covers come first.
    routes: Vec<u32>,
    /// Slots with a node below, in order.
    children: Vec<(u8, Link)>,
}

impl Node {
    /// A route of `bits` further bits; the answer is what was there.
    fn set(&mut self, slot: u8, bits: u8, group: Option<u32>) -> Option<u32> {
        let key = u32::from(slot) << 8 | u32::from(bits);
        match (self.routes.binary_search_by_key(&key, |route| route >> 16), group) {
            (Ok(at), Some(group)) => {
                Some(std::mem::replace(&mut self.routes[at], key << 16 | group) & 0xffff)
            }
            (Ok(at), None) => Some(self.routes.remove(at) & 0xffff),
            (Err(at), Some(group)) => {
                self.routes.insert(at, key << 16 | group);
                None
            }
            (Err(_), None) => None,
        }
    }

    fn group(&self, slot: u8, bits: u8) -> Option<u32> {
        let key = u32::from(slot) << 8 | u32::from(bits);
        let at = self.routes.binary_search_by_key(&key, |route| route >> 16).ok()?;
        self.routes.get(at).map(|route| route & 0xffff)
    }

    fn child(&mut self, slot: u8) -> Option<&mut Link> {
        let found = self.children.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        self.children.get_mut(found).map(|(_, link)| link)
    }

    /// The group of each slot, and where runs must begin.
    fn paint(&self, base: u32) -> ([u32; SLOTS], SlotSet) {
        let (mut values, mut borders) = ([base; SLOTS], SlotSet::default());
        for route in &self.routes {
            let (first, count) = ((route >> 24) as u8, 1 << (8 - (route >> 16 & 0xff)));
            values[usize::from(first)..usize::from(first) + count].fill(route & 0xffff);
            borders.add_borders(first, count);
        }
        (values, borders)
    }
}

/// Neighbours after each other, because each finds the other's nodes in the cache; the same prefix in its own order.
fn in_order_of_nodes(changes: &[(Prefix, Option<u32>)]) -> impl Iterator<Item = (Prefix, Option<u32>)> {
    let keys = changes.iter().enumerate().map(|(at, (prefix, _))| prefix.bits() >> 96 << 32 | at as u128);
    let mut keys: Vec<u64> = keys.map(|key| key as u64).collect();
    keys.sort_unstable();
    keys.into_iter().filter_map(|key| changes.get(key as u32 as usize).copied())
}

/// A store that has been decided but not done: these bits of a word.
struct Change {
    line: u32,
    at: usize,
    word: u64,
    mask: u64,
}

/// Who has a link: a slot of a node, or of the root (node 0).
type Holder = (u32, u16);

/// What a batch will do once all its lines are found.
#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    /// Lines that have been written and are not linked yet.
    fresh: Vec<Piece>,
    /// Lines that will no longer be linked.
    retired: Vec<Piece>,
    /// Where the links of drawn nodes are, and what they will be; entry 0: the node goes.
    drawn: Vec<(Holder, Link)>,
    /// Lines that were not to be had.
    missing: u32,
}

/// The pool of lines and the tables' writer.
#[derive(Debug)]
pub struct Fib<S> {
    pool: Pool<S>,
    /// The shadow of all tables; node 0 is none.
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
}

impl<S: Store> Fib<S> {
    /// An empty pool. What a store still holds is overwritten as lines are taken into use.
    pub fn new(store: S) -> Self {
        Self { pool: Pool::new(store), nodes: vec![Node::default()], free_nodes: Vec::new() }
    }

    /// The store, for readers on the host.
    pub fn store(&self) -> &S {
        &self.pool.store
    }

    /// The store, to be written around the trie.
    #[cfg(test)]
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.pool.store
    }

    /// KiB in use, roots included; begun ones count.
    pub fn blocks_in_use(&self) -> u32 {
        self.pool.used().div_ceil(BLOCK_LINES)
    }

    /// Lines in use, roots included.
    pub fn lines_in_use(&self) -> u32 {
        self.pool.used()
    }

    /// Lines that a look-up may read.
    pub fn lines_taken(&self) -> u32 {
        self.pool.taken()
    }

    /// Puts right what somebody else has changed in these lines; the answer is how many words were wrong.
    pub fn repair(&mut self, from: u32, lines: u32) -> u32 {
        let lines = lines.min(self.pool.taken().saturating_sub(from));
        self.pool.store.repair(from, lines)
    }

    /// A new, empty table: takes 256 KiB for its root.
    pub fn create_table(&mut self) -> Result<Table, PoolFull> {
        let root = self.pool.take_root(ROOT_LINES).ok_or(self.full(ROOT_LINES))?;
        for line in root..root + ROOT_LINES {
            (0..LINE_WORDS).for_each(|at| self.pool.store.publish(line, at, 0));
        }
        let slots = vec![RootSlot::default(); 1 << 16];
        Ok(Table { root, slots, short: BTreeMap::new(), dirty: Vec::new(), len: 0 })
    }

    /// The group of exactly this route, if the table has it.
    pub fn route(&self, table: &Table, prefix: Prefix) -> Option<u32> {
        if prefix.length() <= 16 {
            return table.short.get(&(prefix.length(), prefix.first())).copied();
        }
        let mut id = table.slots.get(usize::from(prefix.first()))?.below.node;
        let mut level = 16;
        while id != 0 {
            let node = self.nodes.get(id as usize)?;
            if prefix.length() <= level + 8 {
                return node.group(prefix.byte(level), prefix.length() - level);
            }
            let slot = prefix.byte(level);
            let found = node.children.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
            id = node.children.get(found)?.1.node;
            level += 8;
        }
        None
    }

    /// Every route of a table and its group, in no order.
    pub fn routes(&self, table: &Table) -> Vec<(Prefix, u32)> {
        let short = table.short.iter();
        let mut found: Vec<(Prefix, u32)> = short
            .map(|((len, first), group)| (Prefix::new(u128::from(*first) << 112, *len), *group))
            .collect();
        let roots = table.slots.iter().enumerate().filter(|(_, slot)| slot.below.node != 0);
        // Nodes to be read: the node, the bits that lead to it and their number.
        let mut unread: Vec<(u32, u128, u8)> =
            roots.map(|(at, slot)| (slot.below.node, (at as u128) << 112, 16)).collect();
        while let Some((id, bits, level)) = unread.pop() {
            let Some(node) = self.nodes.get(id as usize) else { continue };
            let below = |slot: u8| bits | u128::from(slot) << (120 - level);
            found.extend(node.routes.iter().map(|route| {
                let len = level + (route >> 16) as u8;
                (Prefix::new(below((route >> 24) as u8), len), route & 0xffff)
            }));
            unread.extend(node.children.iter().map(|(slot, link)| (link.node, below(*slot), level + 8)));
        }
        found
    }

    /// Adds, replaces (`Some`) or removes (`None`) routes, each node being drawn once; groups are neither 0 nor above
    /// [`GROUP_LIMIT`]. The answer is how many routes are not what they were. A full pool is an error and changes nothing.
    pub fn apply(
        &mut self,
        table: &mut Table,
        changes: impl IntoIterator<Item = (Prefix, Option<u32>)>,
        now_ns: u64,
    ) -> Result<usize, PoolFull> {
        let changes: Vec<(Prefix, Option<u32>)> = changes.into_iter().collect();
        let mut undo = Vec::with_capacity(changes.len());
        for (prefix, group) in in_order_of_nodes(&changes) {
            let before = self.set(table, prefix, group);
            if before != group {
                undo.push((prefix, before));
            }
        }
        self.pool.reclaim(now_ns);
        let drawn = self.draw_table(table, now_ns);
        if drawn.is_err() {
            for (prefix, before) in undo.iter().rev() {
                self.set(table, *prefix, *before);
            }
            // What is wanted now is what the lines say already.
            let restored = self.draw_table(table, now_ns);
            debug_assert!(restored.is_ok(), "going back needs no room");
        }
        drawn.map(|()| undo.len())
    }

    /// Adds or replaces one route.
    pub fn insert(
        &mut self,
        table: &mut Table,
        prefix: Prefix,
        group: u32,
        now_ns: u64,
    ) -> Result<(), PoolFull> {
        self.apply(table, [(prefix, Some(group))], now_ns).map(drop)
    }

    /// Removes one route; the answer is whether it was there.
    pub fn remove(&mut self, table: &mut Table, prefix: Prefix, now_ns: u64) -> Result<bool, PoolFull> {
        self.apply(table, [(prefix, None)], now_ns).map(|changed| changed > 0)
    }

    fn full(&self, lines: u32) -> PoolFull {
        let capacity = self.pool.store.capacity() / BLOCK_LINES;
        PoolFull { needed: lines.div_ceil(BLOCK_LINES), capacity }
    }

    /// Enters a change into the shadow and marks its way; the answer is what was there.
    fn set(&mut self, table: &mut Table, prefix: Prefix, group: Option<u32>) -> Option<u32> {
        debug_assert!(group.is_none_or(|group| (1..=GROUP_LIMIT).contains(&group)), "{group:?} is no leaf");
        let before = if prefix.length() <= 16 {
            table.set_short(prefix, group)
        } else {
            let at = usize::from(prefix.first());
            if table.slots[at].below.node == 0 {
                group?;
                table.slots[at].below.node = self.new_node();
            }
            touch(&mut table.slots[at], at, &mut table.dirty);
            table.slots[at].below.is_dirty = true;
            self.set_below(table.slots[at].below.node, prefix, group)
        };
        table.len = table.len + usize::from(group.is_some()) - usize::from(before.is_some());
        before
    }

    fn set_below(&mut self, mut id: u32, prefix: Prefix, group: Option<u32>) -> Option<u32> {
        let mut level = 16;
        loop {
            let (slot, node) = (prefix.byte(level), &mut self.nodes[id as usize]);
            if prefix.length() <= level + 8 {
                return node.set(slot, prefix.length() - level, group);
            }
            id = match node.child(slot) {
                Some(link) => {
                    link.is_dirty = true;
                    link.node
                }
                None => {
                    group?;
                    let link = Link { node: self.new_node(), is_dirty: true, ..Link::default() };
                    let children = &mut self.nodes[id as usize].children;
                    children.insert(children.partition_point(|(other, _)| *other < slot), (slot, link));
                    link.node
                }
            };
            level += 8;
        }
    }

    fn new_node(&mut self) -> u32 {
        self.free_nodes.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() as u32 - 1
        })
    }

    /// Makes the lines say what the shadow says, or changes nothing.
    fn draw_table(&mut self, table: &mut Table, now_ns: u64) -> Result<(), PoolFull> {
        let mut plan = Plan::default();
        for at in &table.dirty {
            let slot = table.slots[usize::from(*at)];
            let entry = match slot.below.node {
                0 => u32::from(slot.group),
                _ => self.draw(&mut plan, (0, *at), slot.below, u32::from(slot.group)),
            };
            let (line, half) = (table.root + u32::from(*at >> 4), 32 * (*at & 1));
            let (at, mask) = (usize::from(*at >> 1 & 7), 0xffff_ffff << half);
            let word = u64::from(entry) << half;
            if self.pool.store.word(line, at) & mask != word {
                plan.changes.push(Change { line, at, word, mask });
            }
        }
        if plan.missing > 0 {
            plan.fresh.into_iter().for_each(|piece| self.pool.give_back(piece));
            return Err(self.full(plan.missing));
        }
        self.commit(plan, table, now_ns);
        Ok(())
    }

    fn commit(&mut self, plan: Plan, table: &mut Table, now_ns: u64) {
        for Change { line, at, word, mask } in plan.changes {
            let kept = if mask == u64::MAX { 0 } else { self.pool.store.word(line, at) & !mask };
            self.pool.store.publish(line, at, kept | word);
        }
        plan.retired.into_iter().for_each(|piece| self.pool.retire(piece, now_ns));
        for ((holder, at), link) in plan.drawn {
            let is_gone = link.entry == 0;
            if is_gone {
                self.free_nodes.push(link.node);
            }
            let link = if is_gone { Link::default() } else { link };
            let parent = &mut self.nodes[holder as usize];
            if holder == 0 {
                table.slots[usize::from(at)].below = link;
            } else if is_gone {
                parent.children.retain(|(slot, _)| u16::from(*slot) != at);
            } else if let Some(place) = parent.child(at as u8) {
                *place = link;
            }
        }
        for at in table.dirty.drain(..) {
            table.slots[usize::from(at)].is_dirty = false;
        }
    }

    /// The entry for a node that inherits `base`: that group, if nothing is left in it.
    fn draw(&mut self, plan: &mut Plan, holder: Holder, link: Link, base: u32) -> u32 {
        let Link { node: id, entry: before, .. } = link;
        if !link.is_dirty && u32::from(link.base) == base {
            return before;
        }
        let node = &self.nodes[id as usize];
        let (mut values, mut borders) = node.paint(base);
        let mut has_children = false;
        for at in 0..node.children.len() {
            let (slot, child) = self.nodes[id as usize].children[at];
            let entry = self.draw(plan, (id, u16::from(slot)), child, values[usize::from(slot)]);
            if entry & CHILD != 0 {
                values[usize::from(slot)] = entry;
                borders.add_borders(slot, 1);
                has_children = true;
            }
        }
        let is_gone = !has_children && self.nodes[id as usize].routes.is_empty();
        let entry = if is_gone {
            plan.retired.extend((before != 0).then(|| piece(before)));
            0
        } else {
            self.place(plan, before, borders, &values)
        };
        plan.drawn.push((holder, Link { node: id, entry, base: base as u16, is_dirty: false }));
        if is_gone { base } else { entry }
    }

    /// Changes a node's values where it stands, or writes its successor.
    fn place(&mut self, plan: &mut Plan, before: u32, borders: SlotSet, values: &[u32; SLOTS]) -> u32 {
        let width = width(values.iter().fold(0, |largest, value| largest.max(*value)));
        let best = Kind::fitting(borders, width);
        let (old, kind) = (piece(before), Kind::of(before));
        if before != 0 {
            let runs = kind.runs(|line, at| self.pool.store.word(old.line + line, at));
            let can_stay = kind.can_say(runs, borders, width);
            // A smaller successor is welcome, but not needed.
            if can_stay && (best.split >= kind.split || !self.pool.has_free(best.split)) {
                self.change(plan, old, kind.words(runs, values).of(old));
                return before;
            }
        }
        let Some(new) = self.pool.take(best.split) else {
            plan.missing += 1 << best.split;
            return CHILD;
        };
        self.pool.write(new, best.words(borders, values).of(new));
        plan.fresh.push(new);
        plan.retired.extend((before != 0).then_some(old));
        best.entry(new.line)
    }

    /// The words of a node that stay in place and differ.
    fn change(&self, plan: &mut Plan, place: Piece, words: &[u64]) {
        for (at, word) in words.iter().enumerate() {
            let (line, at) = (place.line + (at / LINE_WORDS) as u32, at % LINE_WORDS);
            if self.pool.store.word(line, at) != *word {
                plan.changes.push(Change { line, at, word: *word, mask: u64::MAX });
            }
        }
    }
}
