//! BFD: what a session's changes mean for BGP (RFC 5882).
//!
//! The next hop has followed already when a change gets here: the record is the packet path's. What remains is the BGP session: it is
//! reset when the path is dead, and held back until it is alive where `strict` says so. A peer whose operator has switched BFD off says
//! nothing about the path, so BGP goes on.

use std::time::Duration;

use erdp_common::bfd::{DEAD, UNJUDGED, wire::State};

use super::{Action, Core};
use crate::{
    bfd::{
        SessionConfig, SessionId, record,
        session::{Change, Diagnostic},
    },
    bgp::{PeerCommand, PeerId},
    config,
    dataplane::{Dataplane, DataplaneError, Record},
    events::Kind,
    fib::NextHopKey,
    types::AttachmentId,
};

impl<D: Dataplane> Core<D> {
    /// Tells the packet path whose packets are BFD, and which next hops it judges.
    pub fn announce_bfd(&mut self, sessions: &[SessionConfig]) -> Result<(), DataplaneError> {
        for session in sessions {
            let Some(attachment) = AttachmentId::numbered(session.attachment) else { continue };
            self.dataplane.write(&Record::BfdPeer(record::key(session), u32::from(session.id.0)))?;
            self.forwarding.bfd_session(NextHopKey { attachment, address: session.remote }, session.id.0);
            let its =
                |peer: &&config::Peer| peer.attachment == attachment && peer.session.remote == session.remote;
            if let Some(peer) = self.peers.iter().find(its) {
                self.bfd_peers.insert(session.id, peer.session.id);
            }
        }
        Ok(())
    }

    /// A session has changed its state: BGP follows.
    pub fn handle_bfd(&mut self, session: SessionId, change: Change, now: Duration) {
        self.now = now;
        let Some(peer) = self.bfd_peers.get(&session).copied() else { return };
        let Some(config) = self.peers.get(usize::from(peer.0)) else { return };
        let (name, strict) = (config.name.clone(), config.bfd.is_some_and(|bfd| bfd.strict));
        let (from, to) = (change.from.name(), change.to.name());
        tracing::info!(peer = name, from, to, diagnostic = ?change.diagnostic, "BFD");
        let why = serde_json::json!(change.diagnostic);
        let why = why.as_str().filter(|_| change.to != State::Up && change.diagnostic != Diagnostic::None);
        self.note(Kind::Bfd, &name, &format!("{from} -> {to}"), why);
        self.rank_peer(peer);
        let command = match change.to {
            State::Up if strict => PeerCommand::Hold(false),
            State::Up => PeerCommand::Hurry,
            // Also where our operator has disabled BFD: a session that is put back in service waits for BFD.
            State::Down | State::Init | State::AdminDown if strict => PeerCommand::Hold(true),
            // RFC 5882 section 3.2: AdminDown does not say that the path is dead.
            State::Down | State::Init if change.by_peers_operator => return,
            // Several changes are reported as one.
            State::Down | State::Init if change.from == State::Up => PeerCommand::PathDown,
            State::Down | State::Init | State::AdminDown => return,
        };
        self.order(peer, command);
    }

    /// A session whose BFD is strict waits for it, if it is not up. BFD that goes on from a process before us is up and will not say so again: its record is asked, which says of
    /// a strict session that it is dead until it is up.
    pub(crate) fn hold_if_strict(&mut self, peer: PeerId) {
        if self.waits_for_bfd(peer) {
            self.order(peer, PeerCommand::Hold(true));
        }
    }

    /// Whether a peer's BFD is strict and not up.
    pub(crate) fn waits_for_bfd(&self, peer: PeerId) -> bool {
        let strict =
            self.peers.get(usize::from(peer.0)).and_then(|peer| peer.bfd).is_some_and(|bfd| bfd.strict);
        strict && self.bfd_verdict(peer) != Some(true)
    }

    /// BGP is up. If BFD is not, the peer does not speak it, or not yet: it has no say (RFC 5882 section 4.1, not strict).
    pub(super) fn bgp_is_up(&mut self, peer: PeerId) {
        let action = self.bfd_session_of(peer).map(Action::BfdJudgeNothing);
        self.actions.extend(action);
    }

    /// An operator takes a peer's session down, or puts it back in service; without BFD nothing happens.
    pub(super) fn bfd_admin(&mut self, peer: PeerId, is_down: bool) {
        let action = self.bfd_session_of(peer).map(|session| Action::BfdAdmin(session, is_down));
        self.actions.extend(action);
    }

    /// The number of the BFD session with a peer.
    pub(crate) fn bfd_session_of(&self, peer: PeerId) -> Option<SessionId> {
        self.bfd_peers.iter().find(|(_, other)| **other == peer).map(|(session, _)| *session)
    }

    /// Whether BFD lets a peer's path be used; `None`: it has no say.
    pub(crate) fn bfd_verdict(&self, peer: PeerId) -> Option<bool> {
        match self.dataplane.bfd_until(self.bfd_session_of(peer)?.0) {
            UNJUDGED => None,
            until => Some(until != DEAD),
        }
    }
}
