//! What a peer's task publishes of its session, for whoever asks.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::super::faults::{FaultyUpdate, KEPT};
use super::super::{Asn, Counters, Notified, PeerId, Session, SessionFacts, State};

/// What an operator sees of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Which peer.
    pub peer: PeerId,
    /// Its address.
    pub remote: IpAddr,
    /// Its AS, as configured.
    pub remote_asn: Asn,
    /// The session's state.
    pub state: State,
    /// For how many seconds it is in that state.
    pub state_secs: u64,
    /// For how many seconds routes are exchanged; only when Established.
    pub uptime_s: Option<u64>,
    /// What was agreed on; only while there is something.
    pub facts: Option<SessionFacts>,
    /// How much went over it.
    pub counters: Counters,
    /// The last failure, also of an attempt.
    pub last_error: Option<String>,
    /// How many seconds ago that was.
    pub last_error_age_s: Option<u64>,
    /// The last fault in an UPDATE.
    pub last_fault: Option<String>,
    /// How many seconds ago that was.
    pub last_fault_age_s: Option<u64>,
    /// The last NOTIFICATION from the peer, and how many seconds ago that was.
    pub notification_received: Option<(String, u64)>,
    /// The last NOTIFICATION to the peer, and how many seconds ago that was.
    pub notification_sent: Option<(String, u64)>,
}

/// An UPDATE with faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFault {
    /// What was wrong with it.
    pub update: Arc<FaultyUpdate>,
    /// How many seconds ago it came.
    pub age_s: u64,
}

/// What the task tells of its session, with times that ages are made of when somebody asks.
#[derive(Debug)]
pub(super) struct Published {
    status: PeerStatus,
    since: Instant,
    failed: Option<Instant>,
    /// When the last NOTIFICATION came in, and when one was sent.
    notified: [Option<Instant>; 2],
    /// How often the peer was sent away for too many prefixes, and until when.
    away: Option<(u32, Instant)>,
    /// The last messages with faults, the newest last.
    faults: VecDeque<(Instant, Arc<FaultyUpdate>)>,
}

impl Published {
    /// Of a session whose driver has begun at `start`.
    pub fn of(session: &Session, start: Instant) -> Self {
        let config = session.config();
        let status = PeerStatus {
            peer: config.id,
            remote: config.remote,
            remote_asn: config.remote_asn,
            state: session.state(),
            state_secs: 0,
            uptime_s: None,
            facts: session.facts().cloned(),
            counters: session.counters(),
            last_error: None,
            last_error_age_s: None,
            last_fault: None,
            last_fault_age_s: None,
            notification_received: None,
            notification_sent: None,
        };
        Self {
            status,
            since: start,
            failed: None,
            notified: [None, None],
            away: None,
            faults: VecDeque::new(),
        }
    }

    /// As the session is now.
    pub fn follow(&mut self, session: &Session, start: Instant) {
        self.since = start + session.since().0;
        self.failed = session.last_error_at().map(|at| start + at.0);
        self.away = session.away().map(|(count, until)| (count, start + until.0));
        let status = &mut self.status;
        let Notified { received, sent } = session.notified();
        let [received_at, sent_at] = &mut self.notified;
        for (to, from, at) in [
            (&mut status.notification_received, received, received_at),
            (&mut status.notification_sent, sent, sent_at),
        ] {
            let when = from.as_ref().map(|(_, when)| start + when.0);
            if *at != when {
                *to = from.as_ref().map(|(text, _)| (text.clone(), 0));
                *at = when;
            }
        }
        status.counters = session.counters();
        if status.state != session.state() {
            status.state = session.state();
            status.facts = session.facts().cloned();
        }
        if status.last_error.as_deref() != session.last_error() {
            status.last_error = session.last_error().map(str::to_owned);
        }
    }

    /// Keeps a message with faults.
    pub fn note(&mut self, update: Arc<FaultyUpdate>) {
        self.status.last_fault = Some(update.detail.clone());
        if self.faults.len() == KEPT {
            self.faults.pop_front();
        }
        self.faults.push_back((Instant::now(), update));
    }

    /// The session as it is now.
    pub fn status(&self) -> PeerStatus {
        let age = |since: Instant| since.elapsed().as_secs();
        let mut status = self.status.clone();
        status.state_secs = age(self.since);
        status.uptime_s = (status.state == State::Established).then_some(status.state_secs);
        status.last_error_age_s = self.failed.map(age);
        for (to, at) in [
            (&mut status.notification_received, self.notified[0]),
            (&mut status.notification_sent, self.notified[1]),
        ] {
            if let (Some((_, age_s)), Some(at)) = (to, at) {
                *age_s = age(at);
            }
        }
        status.last_fault_age_s = self.faults.back().map(|(at, _)| age(*at));
        status
    }

    /// How often the peer was sent away for too many prefixes, and for how long it still is.
    pub fn away(&self) -> Option<(u32, Duration)> {
        let (count, until) = self.away?;
        Some((count, until.saturating_duration_since(Instant::now())))
    }

    /// The last messages with faults, the newest first.
    pub fn seen(&self) -> Vec<SeenFault> {
        let seen = |(at, update): &(Instant, Arc<FaultyUpdate>)| SeenFault {
            update: update.clone(),
            age_s: at.elapsed().as_secs(),
        };
        self.faults.iter().rev().map(seen).collect()
    }
}
