//! What peers' sessions say, and what each of them is sent.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::Core;
use crate::{
    bgp::{PeerEvent, PeerId, SessionFacts, Update},
    config::Peer,
    dataplane::Dataplane,
    events::Kind,
};

/// Updates that a peer's driver has not taken yet, and the session that they are meant for.
#[derive(Clone, Default)]
pub(crate) struct Outbox {
    pub session: u64,
    pub updates: VecDeque<Update>,
}

impl<D: Dataplane> Core<D> {
    /// A peer's session says something.
    pub fn handle_peer(&mut self, event: PeerEvent, now: Duration) {
        self.now = now;
        if let Some(inherited) = &mut self.inherited {
            inherited.hear(&event, now);
        }
        match event {
            PeerEvent::Established { peer, facts } => {
                let name = &self.peers[usize::from(peer.0)].name;
                tracing::info!(peer = name, router_id = %facts.router_id, hold_s = facts.hold.0, "session established");
                self.outboxes[usize::from(peer.0)] = Outbox { session: facts.session, ..Outbox::default() };
                self.established.insert(peer);
                self.rib.peer_up(peer, &facts);
                self.note_session(peer, true);
                self.rank_peer(peer);
                self.bgp_is_up(peer);
            }
            PeerEvent::Update { peer, update } => self.rib.update(peer, update),
            PeerEvent::Refresh { peer, family } => self.rib.refresh(peer, family),
            PeerEvent::Down { peer, reason, kept } => {
                let name = &self.peers[usize::from(peer.0)].name;
                self.established.remove(&peer);
                self.outboxes[usize::from(peer.0)].updates.clear();
                let kept = kept.filter(|_| !self.has_no_carrier(peer));
                match (kept, self.kept_by_drill(peer)) {
                    (_, Some(kept)) => {
                        tracing::info!(peer = name, %reason, "session ended for a drill, its routes are kept");
                        self.rib.peer_ended(peer, &kept);
                    }
                    (Some(kept), None) => {
                        tracing::warn!(peer = name, %reason, kept_s = kept.wait.0, "session lost, its routes are kept");
                        self.rib.peer_lost(peer, &kept);
                    }
                    // An attempt that failed says nothing about routes that are kept from before.
                    (None, None) if self.rib.families(peer).is_empty() && !reason.is_final() => {
                        tracing::warn!(peer = name, %reason, "no session");
                    }
                    (None, None) => {
                        tracing::warn!(peer = name, %reason, "session down");
                        self.rib.peer_down(peer);
                    }
                }
                self.rank_peer(peer);
                self.note_session(peer, false);
            }
        }
    }

    /// The task of a session has ended: the session is lost, with every route that it brought.
    pub(crate) fn lose_session(&mut self, peer: PeerId) {
        self.established.remove(&peer);
        self.outboxes[usize::from(peer.0)] = Outbox::default();
        self.rib.peer_down(peer);
        self.note_session(peer, false);
    }

    /// A session of the process before us goes on.
    pub(crate) fn resume_session(&mut self, peer: PeerId, facts: &SessionFacts) {
        self.established.insert(peer);
        self.outboxes[usize::from(peer.0)] = Outbox { session: facts.session, ..Outbox::default() };
        self.note_session(peer, true);
    }

    /// This router has ended a session: every route that it brought goes.
    pub(crate) fn end_session(&mut self, peer: PeerId) {
        self.established.remove(&peer);
        self.rib.peer_down(peer);
        self.outboxes[usize::from(peer.0)] = Outbox::default();
    }

    /// Prepares one part of what is advertised to a peer, unless a part waits already. The rest stays in the routing base, where it is replaced by
    /// what is newer.
    pub fn collect_updates(&mut self, peer: PeerId) {
        // RFC 4724 section 4.1: nothing is advertised before the table is complete, or End-of-RIB would be wrong.
        if self.inherited.is_some() {
            return;
        }
        let Some(Outbox { updates, .. }) = self.outboxes.get_mut(usize::from(peer.0)) else { return };
        if updates.is_empty() {
            updates.extend(self.rib.take_outgoing(peer));
        }
    }

    /// Whether there are updates for a peer that may be sent.
    pub fn has_updates(&self, peer: PeerId) -> bool {
        let is_ready = |outbox: &Outbox| !outbox.updates.is_empty();
        self.inherited.is_none()
            && (self.outboxes.get(usize::from(peer.0)).is_some_and(is_ready) || self.rib.is_due(peer))
    }

    /// The next update that is ready for a peer, with the session that it is meant for. What the driver does not take goes back by
    /// [`Self::put_back`].
    pub fn next_update(&mut self, peer: PeerId) -> Option<(u64, Update)> {
        let is_waiting = self.inherited.is_some();
        let outbox = self.outboxes.get_mut(usize::from(peer.0)).filter(|_| !is_waiting)?;
        Some((outbox.session, outbox.updates.pop_front()?))
    }

    /// An update that the driver has no room for is the next one again.
    pub fn put_back(&mut self, peer: PeerId, update: Update) {
        if let Some(outbox) = self.outboxes.get_mut(usize::from(peer.0)) {
            outbox.updates.push_front(update);
        }
    }

    /// Says which sessions Microsoft begins to drain, and which it drains no longer (B7).
    pub(super) fn note_drains(&mut self) {
        let is_drained = |peer: &&Peer| peer.side.is_msee() && self.facts_of(peer).is_draining;
        let now: BTreeSet<PeerId> = self
            .peers
            .iter()
            .filter(|peer| !self.vacant.contains(&peer.session.id))
            .filter(is_drained)
            .map(|peer| peer.session.id)
            .collect();
        for (id, drains) in self.redundancy.handle_drained(now) {
            let Some(peer) = self.peers.get(usize::from(id.0)).map(|peer| peer.name.clone()) else {
                continue;
            };
            let what = if drains { "Microsoft drains it" } else { "Microsoft drains it no longer" };
            self.note(Kind::Session, &peer, what, Some("maintenance at Microsoft (B7)"));
            if drains {
                tracing::warn!(
                    peer,
                    "Microsoft drains this link for maintenance: its routes are used last (B7)"
                );
            } else {
                tracing::info!(peer, "Microsoft drains this link no longer (B7)");
            }
        }
    }
}
