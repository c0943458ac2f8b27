//! One copy of what many routes have in common: sets of attributes, sets of paths. Equal things are then at one address,
//! and comparing them is comparing addresses.

use std::{
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use hashbrown::{HashTable, hash_table::Entry};

/// Number below which sweeping is not worth while.
pub(super) const SWEEP_MIN: usize = 4_096;

/// The copies. Those that nobody else holds are dropped whenever their number has doubled: linear in all, over time.
pub(super) struct Interner<T: ?Sized> {
    /// With their hashes: a table that grows does not read hundreds of thousands of sets of attributes again.
    known: HashTable<(u64, Arc<T>)>,
    hasher: foldhash::fast::RandomState,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Interner { known: HashTable::new(), hasher: Default::default(), sweep_at: SWEEP_MIN }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The one copy of this.
    pub fn shared(&mut self, one: Arc<T>) -> Arc<T> {
        self.sweep();
        let hash = self.hasher.hash_one(&*one);
        let is_it = |(of, known): &(u64, Arc<T>)| *of == hash && *known == one;
        match self.known.entry(hash, is_it, |(hash, _)| *hash) {
            Entry::Occupied(known) => known.get().1.clone(),
            Entry::Vacant(place) => {
                place.insert((hash, one.clone()));
                one
            }
        }
    }

    /// How many copies are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    fn sweep(&mut self) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|(_, known)| Arc::strong_count(known) > 1);
            self.sweep_at = SWEEP_MIN.max(self.known.len() * 2);
        }
    }
}
