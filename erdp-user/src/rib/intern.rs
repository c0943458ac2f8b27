//! One copy of what many routes have in common: sets of attributes, sets of paths. Equal things are then at one address,
//! and comparing them is comparing addresses.

use std::{
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use hashbrown::{HashTable, hash_table::Entry};

use super::Paths;
use crate::bgp::PathAttributes;

/// Number below which sweeping is not worth while.
pub(super) const SWEEP_MIN: usize = 4_096;
/// The same in bytes.
const SWEEP_MIN_BYTES: usize = 8 << 20;

/// What one copy takes.
pub(super) trait Weigh {
    /// In bytes, roughly.
    fn bytes(&self) -> usize;
}

impl Weigh for PathAttributes {
    fn bytes(&self) -> usize {
        self.held_bytes()
    }
}

impl Weigh for Paths {
    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.list)
    }
}

/// The copies. Those that nobody else holds are dropped whenever their number has doubled, or what they take: linear in all, over time.
pub(super) struct Interner<T: ?Sized> {
    /// With their hashes: a table that grows does not read hundreds of thousands of sets of attributes again.
    known: HashTable<(u64, Arc<T>)>,
    hasher: foldhash::fast::RandomState,
    sweep_at: usize,
    /// What the copies take, those that nobody else holds included.
    bytes: usize,
    sweep_at_bytes: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Interner {
            known: HashTable::new(),
            hasher: Default::default(),
            sweep_at: SWEEP_MIN,
            bytes: 0,
            sweep_at_bytes: SWEEP_MIN_BYTES,
        }
    }
}

impl<T: ?Sized + Eq + Hash + Weigh> Interner<T> {
    /// The one copy of this.
    pub fn shared(&mut self, one: Arc<T>) -> Arc<T> {
        self.sweep();
        let hash = self.hasher.hash_one(&*one);
        let is_it = |(of, known): &(u64, Arc<T>)| *of == hash && *known == one;
        match self.known.entry(hash, is_it, |(hash, _)| *hash) {
            Entry::Occupied(known) => known.get().1.clone(),
            Entry::Vacant(place) => {
                self.bytes += one.bytes();
                place.insert((hash, one.clone()));
                one
            }
        }
    }

    /// The one copy of this, if there is one.
    pub fn get(&self, one: &T) -> Option<&Arc<T>> {
        let hash = self.hasher.hash_one(one);
        self.known.find(hash, |(of, known)| *of == hash && **known == *one).map(|(_, known)| known)
    }

    /// How many copies are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// What they take.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn sweep(&mut self) {
        if self.known.len() >= self.sweep_at || self.bytes >= self.sweep_at_bytes {
            self.sweep_now();
        }
    }

    /// Drops what nobody else holds.
    pub fn sweep_now(&mut self) {
        let mut bytes = self.bytes;
        self.known.retain(|(_, known)| {
            let is_held = Arc::strong_count(known) > 1;
            if !is_held {
                bytes -= known.bytes();
            }
            is_held
        });
        self.bytes = bytes;
        self.sweep_at = SWEEP_MIN.max(self.known.len() * 2);
        self.sweep_at_bytes = SWEEP_MIN_BYTES.max(bytes * 2);
        self.known.shrink_to(self.sweep_at, |(hash, _)| *hash);
    }
}
