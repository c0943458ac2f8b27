//! One copy of what many routes have in common: sets of attributes, sets of paths. Equal things are then at one address,
//! and comparing them is comparing addresses.

use std::{hash::Hash, sync::Arc};

use super::Set;

/// Number below which sweeping is not worth while.
pub(super) const SWEEP_MIN: usize = 4_096;

/// The copies. Those that nobody else holds are dropped whenever their number has doubled: linear in all, over time.
pub(super) struct Interner<T: ?Sized> {
    known: Set<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Interner { known: Set::default(), sweep_at: SWEEP_MIN }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The one copy of this.
    pub fn shared(&mut self, one: Arc<T>) -> Arc<T> {
        match self.known.get(&*one) {
            Some(known) => known.clone(),
            None => self.insert(one),
        }
    }

    /// How many copies are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    fn insert(&mut self, one: Arc<T>) -> Arc<T> {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = SWEEP_MIN.max(self.known.len() * 2);
        }
        self.known.insert(one.clone());
        one
    }
}
