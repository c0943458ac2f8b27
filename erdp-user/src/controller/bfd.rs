//! BFD in the controller: which sessions there are, the thread that keeps their time, and what `erdp show bfd` says.

use erdp_common::abi::{BfdSession, MAX_BFD_SESSIONS};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Controller;
use crate::{
    bfd::{
        SessionConfig, SessionId, record,
        session::Parameters,
        thread::{Bfd, BfdError, Event, Order},
    },
    bgp::PeerId,
    config::{self, Config},
    dataplane::sessions::{MappedSessions, load},
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

/// The thread.
#[derive(Default)]
pub struct Sessions {
    thread: Option<Bfd>,
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

    /// Gives it an order, if there is one.
    pub fn order(&self, order: Order) {
        self.thread.iter().for_each(|thread| thread.order(order));
    }

    /// Ends it; for good: the peers are told.
    pub fn stop(&mut self, for_good: bool) {
        if let Some(thread) = self.thread.take() {
            thread.stop(for_good);
        }
    }
}

impl Controller {
    /// The BFD session with a peer, by our state's name.
    pub(super) fn bfd_state(&self, peer: PeerId) -> Option<&'static str> {
        let session = self.core.bfd_session_of(peer)?;
        let statuses = self.bfd.thread.as_ref()?.statuses();
        statuses.iter().find(|status| status.id == session).map(|status| status.state)
    }

    pub(super) fn show_bfd(&self) -> Value {
        let records = self.core.dataplane.bfd_sessions();
        let statuses = self.bfd.thread.as_ref().map(Bfd::statuses).unwrap_or_default();
        let rows = statuses.iter().map(|status| {
            let peer =
                self.core.bfd_peers.get(&status.id).and_then(|peer| self.core.peers.get(usize::from(peer.0)));
            let mut row = json!(status);
            row["attachment"] = peer.map_or("?", |peer| self.core.name_of(peer.attachment)).into();
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
