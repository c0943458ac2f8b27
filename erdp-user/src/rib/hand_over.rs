//! What one peer has said and has been told, as another process can take it up.
//!
//! Routes with the same attributes go together, as in an UPDATE. The other process decides for itself: it is told what the peer
//! knows so that it sends what differs from that, and where it decides alike that is nothing.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Rib;
use crate::bgp::{Family, PathAttributes, PathId, PeerId, SessionFacts, Update};

/// Prefixes in one message: bounded, so that no message is.
const PREFIXES_MAX: usize = 50_000;

/// A peer's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTable {
    /// What it announced.
    pub announced: Vec<Update>,
    /// What it has been told, with the attributes as they were received from elsewhere.
    pub told: Vec<Update>,
    /// Families whose first table it has not been told whole.
    pub initial: Vec<Family>,
}

impl Rib {
    /// The tables of a peer.
    pub fn table(&self, peer: PeerId) -> PeerTable {
        let index = usize::from(peer.0);
        let (Some(adj_in), Some(adj_out)) = (self.adj_in.get(index), self.adj_out.get(index)) else {
            return PeerTable::default();
        };
        let (told, initial) = adj_out.known();
        let announced = adj_in.routes().map(|(prefix, it)| (prefix, it.path, it.attributes));
        let told = told.map(|(prefix, attributes)| (prefix, None, attributes));
        PeerTable { announced: packed(announced), told: packed(told), initial }
    }

    /// A session that another process has begun goes on here. What the peer has announced comes by [`Rib::update`] then.
    pub fn peer_resumed(&mut self, peer: PeerId, facts: &SessionFacts) {
        self.peer_up(peer, facts);
    }

    /// Some of what it has been told.
    pub fn was_told(&mut self, peer: PeerId, update: Update) {
        let Some(attributes) = update.attributes else { return };
        let attributes = self.attributes.shared(attributes);
        if let Some(adj_out) = self.adj_out.get_mut(usize::from(peer.0)) {
            update.announced.into_iter().for_each(|prefix| adj_out.was_told(prefix, attributes.clone()));
        }
    }

    /// Its first table is not complete in these families only.
    pub fn is_untold(&mut self, peer: PeerId, families: &[Family]) {
        if let Some(adj_out) = self.adj_out.get_mut(usize::from(peer.0)) {
            adj_out.is_untold(families);
        }
    }
}

/// Prefixes that have their attributes and the identifier of their path in common.
type Groups = HashMap<(*const PathAttributes, Option<PathId>), (Arc<PathAttributes>, Vec<IpNet>)>;

fn packed<'a>(routes: impl Iterator<Item = (IpNet, Option<PathId>, &'a Arc<PathAttributes>)>) -> Vec<Update> {
    let mut groups = Groups::new();
    for (prefix, path, attributes) in routes {
        let group =
            groups.entry((Arc::as_ptr(attributes), path)).or_insert_with(|| (attributes.clone(), Vec::new()));
        group.1.push(prefix);
    }
    let update = |path: Option<PathId>, attributes: &Arc<PathAttributes>, prefixes: &[IpNet]| Update {
        path,
        announced: prefixes.to_vec(),
        attributes: Some(attributes.clone()),
        ..Update::default()
    };
    groups
        .iter()
        .flat_map(|((_, path), (attributes, prefixes))| {
            prefixes.chunks(PREFIXES_MAX).map(move |prefixes| update(*path, attributes, prefixes))
        })
        .collect()
}
