//! Places for connections that are closed and whose last bytes are under way.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Closed connections of a peer that may wait for their last bytes.
pub(super) const OF_PEER_MAX: usize = 8;
/// The same of all peers.
const ALL_MAX: usize = 128;

/// One of the places for connections that are closed and whose last bytes are under way. They are few, of each peer and of all: each is
/// an open file, and whoever connects again and again must not have them all.
pub(super) struct Place;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

impl Place {
    /// A place, if there is one for a peer that has so many.
    pub fn take(of_peer: usize) -> Option<Self> {
        if of_peer >= OF_PEER_MAX {
            return None;
        }
        if TAKEN.fetch_add(1, Ordering::Relaxed) >= ALL_MAX {
            TAKEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}
