//! BFD in the controller: which sessions there are, what their changes mean for BGP (RFC 5882), and what `erdp show bfd` says.
//!
//! The next hop has followed already when a change gets here: the record is the packet path's. What remains is the BGP session: it is
//! reset when the path is dead, and held back until it is alive where `strict` says so. A peer whose operator has switched BFD off says
//! nothing about the path, so BGP goes on.

use std::collections::HashMap;

use erdp_common::{
    abi::{BfdSession, MAX_BFD_SESSIONS},
    bfd::wire::State,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Controller;
use crate::{
    bfd::{
        SessionConfig, SessionId, record,
        session::{Diagnostic, Parameters},
        thread::{Bfd, BfdError, Event, Order},
    },
    bgp::{PeerCommand, PeerId},
    config::{self, Config},
    dataplane::{
        Dataplane as _, DataplaneError, Record,
        sessions::{MappedSessions, load},
    },
    events::Kind,
    fib::NextHopKey,
    types::AttachmentId,
};

/// Changes on their way: the thread keeps what finds no room.
pub const EVENTS_MAX: usize = 256;

/// The sessions of a configuration. One that a process before us has had keeps its record and its discriminator; a new one has a record that
/// nobody has used, and a discriminator that is hardly one of before: a peer must not take a new session for an old one.
pub fn sessions(
    config: &Config,
    peers: &[config::Peer],
    records: &MappedSessions,
    seed: u32,
) -> Vec<SessionConfig> {
    let attachments = config.attachments();
    let with_bfd = peers.iter().filter_map(|peer| Some((peer, peer.bfd?)));
    let all = || 1..MAX_BFD_SESSIONS as u16;
    let mut unused = all().filter(|number| record::discriminator(records.record(*number)) == 0);
    let numbered = with_bfd.filter_map(|(peer, bfd)| {
        let attachment = attachments.get(peer.attachment.index())?;
        let key = record::peer_key(peer.attachment.number(), peer.session.remote);
        let before = all().find(|number| record::is_of(records.record(*number), key));
        let number = before.or_else(|| unused.next())?;
        let new = (seed << 10 | u32::from(number)).max(1);
        let discriminator = before.map_or(new, |number| record::discriminator(records.record(number)));
        let parameters = Parameters {
            interval_us: bfd.interval_us,
            multiplier: bfd.multiplier,
            discriminator,
            is_independent: bfd.absence_s > 0 && bfd.multiplier >= record::MULTIPLIER_MIN,
        };
        Some(SessionConfig {
            id: SessionId(number),
            parameters,
            local: peer.session.local,
            remote: peer.session.remote,
            interface: attachment.kernel_interface(),
            attachment: peer.attachment.number(),
            strict: bfd.strict,
            absence_s: bfd.absence_s,
        })
    });
    numbered.collect()
}

/// The thread, and whose session is whose.
#[derive(Default)]
pub struct Sessions {
    thread: Option<Bfd>,
    peers: HashMap<SessionId, PeerId>,
}

impl Sessions {
    /// Starts the thread, if there is any session.
    pub fn start(
        &mut self,
        sessions: Vec<SessionConfig>,
        records: std::sync::Arc<MappedSessions>,
        events: mpsc::Sender<Event>,
    ) -> Result<(), BfdError> {
        if !sessions.is_empty() {
            self.thread = Some(Bfd::start(sessions, records, events)?);
        }
        Ok(())
    }

    /// Whether it lives; without any session it need not.
    pub fn lives(&self) -> bool {
        self.thread.as_ref().is_none_or(Bfd::lives)
    }

    /// Ends it as a fault in it would: for tests of what follows.
    pub fn end_thread(&self) {
        self.thread.iter().for_each(|thread| thread.order(Order::Stop { for_good: false }));
    }

    /// Ends it; for good: the peers are told.
    pub fn stop(&mut self, for_good: bool) {
        if let Some(thread) = self.thread.take() {
            thread.stop(for_good);
        }
    }
}

impl Controller {
    /// Tells the packet path whose packets are BFD, and which next hops it judges.
    pub(super) fn announce_bfd(&mut self, sessions: &[SessionConfig]) -> Result<(), DataplaneError> {
        for session in sessions {
            let Some(attachment) = AttachmentId::numbered(session.attachment) else { continue };
            self.dataplane.write(&Record::BfdPeer(record::key(session), u32::from(session.id.0)))?;
            self.forwarding.bfd_session(NextHopKey { attachment, address: session.remote }, session.id.0);
            let its =
                |peer: &&config::Peer| peer.attachment == attachment && peer.session.remote == session.remote;
            if let Some(peer) = self.peers.iter().find(its) {
                self.bfd.peers.insert(session.id, peer.session.id);
            }
        }
        Ok(())
    }

    /// A session has changed its state: BGP follows.
    pub(super) fn on_bfd(&mut self, Event { session, change }: Event) {
        let Some(peer) = self.bfd.peers.get(&session).copied() else { return };
        let Some(config) = self.peers.get(usize::from(peer.0)) else { return };
        let (name, strict) = (config.name.clone(), config.bfd.is_some_and(|bfd| bfd.strict));
        let (from, to) = (change.from.name(), change.to.name());
        tracing::info!(peer = name, from, to, diagnostic = ?change.diagnostic, "BFD");
        let why = json!(change.diagnostic);
        let why = why.as_str().filter(|_| change.to != State::Up && change.diagnostic != Diagnostic::None);
        self.note(Kind::Bfd, &name, &format!("{from} -> {to}"), why);
        let command = match change.to {
            State::Up if strict => PeerCommand::Hold(false),
            State::Up => PeerCommand::Hurry,
            // Also by our operator's word: a session that is given free again waits for it.
            State::Down | State::Init | State::AdminDown if strict => PeerCommand::Hold(true),
            // RFC 5882 section 3.2: no word about the path.
            State::Down | State::Init if change.by_peers_operator => return,
            // Several changes are told as one.
            State::Down | State::Init if change.from == State::Up => PeerCommand::PathDown,
            State::Down | State::Init | State::AdminDown => return,
        };
        self.order(peer, command);
    }

    /// A session whose BFD is strict waits for it, if it is not up. BFD that goes on from a process before us is up and will not say so again: its record is asked, which says of
    /// a strict session that it is dead until it is up.
    pub(super) fn hold_if_strict(&mut self, peer: PeerId) {
        if self.waits_for_bfd(peer) {
            self.order(peer, PeerCommand::Hold(true));
        }
    }

    /// Whether a peer's BFD is strict and not up.
    pub(super) fn waits_for_bfd(&self, peer: PeerId) -> bool {
        let strict =
            self.peers.get(usize::from(peer.0)).and_then(|peer| peer.bfd).is_some_and(|bfd| bfd.strict);
        strict && self.bfd_verdict(peer) != Some(true)
    }

    /// BGP is up. If BFD is not, the peer does not speak it, or not yet: it has no say (RFC 5882 section 4.1, not strict).
    pub(super) fn bgp_is_up(&self, peer: PeerId) {
        self.order_bfd(peer, Order::JudgeNothing);
    }

    /// An operator takes a peer's session down, or gives it free; without BFD nothing happens.
    pub(super) fn order_bfd(&self, peer: PeerId, order: impl Fn(SessionId) -> Order) {
        let session = self.bfd.peers.iter().find(|(_, other)| **other == peer).map(|(session, _)| *session);
        if let (Some(session), Some(thread)) = (session, &self.bfd.thread) {
            thread.order(order(session));
        }
    }

    /// The BFD session with a peer, by our state's name.
    pub(super) fn bfd_state(&self, peer: PeerId) -> Option<&'static str> {
        let session =
            self.bfd.peers.iter().find(|(_, other)| **other == peer).map(|(session, _)| *session)?;
        let statuses = self.bfd.thread.as_ref()?.statuses();
        statuses.iter().find(|status| status.id == session).map(|status| status.state)
    }

    /// Whether BFD lets a peer's path be used; `None`: it has no say.
    pub(super) fn bfd_verdict(&self, peer: PeerId) -> Option<bool> {
        let (session, _) = self.bfd.peers.iter().find(|(_, other)| **other == peer)?;
        match load(&self.dataplane.bfd_sessions().record(session.0).until) {
            erdp_common::bfd::UNJUDGED => None,
            until => Some(until != erdp_common::bfd::DEAD),
        }
    }

    pub(super) fn show_bfd(&self) -> Value {
        let records = self.dataplane.bfd_sessions();
        let statuses = self.bfd.thread.as_ref().map(Bfd::statuses).unwrap_or_default();
        let rows = statuses.iter().map(|status| {
            let peer = self.bfd.peers.get(&status.id).and_then(|peer| self.peers.get(usize::from(peer.0)));
            let mut row = json!(status);
            row["attachment"] = peer.map_or("?", |peer| self.name_of(peer.attachment)).into();
            counts(&mut row, records.record(status.id.0));
            row
        });
        rows.collect()
    }
}

/// What the packet path says of a session.
fn counts(row: &mut Value, record: &BfdSession) {
    row["next_hop"] = match load(&record.until) {
        erdp_common::bfd::DEAD => "dead",
        erdp_common::bfd::UNJUDGED => "not judged",
        _ => "alive",
    }
    .into();
    row["received"] = load(&record.received).into();
    row["answered"] = load(&record.answered).into();
    row["expired"] = load(&record.expired).into();
}
