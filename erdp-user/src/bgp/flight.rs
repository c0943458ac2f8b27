//! What a peer has said and the controller has not taken yet, in bytes. The channel between them counts events, and an event can be a
//! thousand times as long as another: without this a peer whose messages name as many routes as they can fills the memory while the
//! controller is busy. A peer with [`BYTES_MAX`] in flight is not read until there are fewer; TCP holds it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::Update;

/// More than an ordinary burst, and little for each of hundreds of peers.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// The bytes of one peer.
#[derive(Debug, Default)]
pub(super) struct Flight {
    bytes: AtomicUsize,
    is_lighter: Notify,
}

impl Flight {
    /// Counts an update from now until it is dropped.
    pub fn load(self: &Arc<Self>, update: &mut Update) {
        let prefixes = update.withdrawn.capacity() + update.announced.capacity();
        let attributes = update.attributes.as_ref().map_or(0, |attributes| attributes.held_bytes());
        let bytes = size_of::<Update>() + prefixes * size_of::<ipnet::IpNet>() + attributes;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        update.ballast = Ballast(Some((self.clone(), bytes)));
    }

    /// Whether there is so much that no more is to be read.
    pub fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= BYTES_MAX
    }

    /// Waits until there is less.
    pub async fn lighter(&self) {
        while self.is_full() {
            self.is_lighter.notified().await;
        }
    }
}

/// The weight of an update on its way to the controller; nothing for any other, copies included. It says nothing about the routes.
#[derive(Debug, Default)]
pub struct Ballast(Option<(Arc<Flight>, usize)>);

impl Clone for Ballast {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl PartialEq for Ballast {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Ballast {}

impl Drop for Ballast {
    fn drop(&mut self) {
        if let Some((flight, bytes)) = self.0.take() {
            let before = flight.bytes.fetch_sub(bytes, Ordering::Relaxed);
            if before >= BYTES_MAX {
                flight.is_lighter.notify_one();
            }
        }
    }
}
