//! A session with its record in the packet path: a change of the machine goes to the record first, so that the next hop follows before
//! anybody else, and what the packet path has heard goes to the machine before a timer is believed. Pure but for the record's words: packets
//! and times come in as arguments ([`super::thread`] has the sockets and the clock).

use erdp_common::{
    abi::BfdSession,
    bfd::wire::{ControlPacket, State},
};

use super::{
    SessionConfig, record,
    session::{Change, Nanos, Session},
};

/// A peer whose operator has switched BFD off is believed dead for so long: one that stops for good says so just before it closes its
/// BGP session. If that session is still there then, only BFD is off, which says nothing about the path (RFC 5882 section 3.2).
const ADMIN_DOWN_GRACE_US: u64 = 2_000_000;

/// One session with what belongs to it.
#[derive(Debug)]
pub struct Recorded {
    config: SessionConfig,
    session: Session,
    seen_expired: u64,
    untold: Option<Change>,
    since: Nanos,
    judge_nothing_at: Option<Nanos>,
}

impl Recorded {
    /// One that goes on from its record, where a process before us has brought it up, or begins. `source_port`: of our packets.
    pub fn new(config: SessionConfig, record: &BfdSession, source_port: u16, now: Nanos) -> Self {
        let session = record::adopt(record, &config, now).unwrap_or_else(|| {
            record::begin(record, &config, source_port);
            Session::new(config.parameters, now)
        });
        record::publish(record, &session, &config);
        let seen_expired = record::expired(record);
        Self { config, session, seen_expired, untold: None, since: now, judge_nothing_at: None }
    }

    /// What the operator wants of it.
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The machine, to be read.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Since when it is in its state.
    pub fn since(&self) -> Nanos {
        self.since
    }

    /// A valid packet of the peer.
    pub fn handle_packet(&mut self, now: Nanos, packet: &ControlPacket, record: &BfdSession) {
        self.session.handle_packet(now, packet);
        self.carry_over(now, record);
    }

    /// The timers, as of `until`: everything that came until then must have been read. `now` is a little later, and names the times of the
    /// record.
    pub fn handle_time(&mut self, until: Nanos, now: Nanos, record: &BfdSession) {
        // The packet path may have heard the peer since.
        record::take_news(record, &mut self.session, &mut self.seen_expired, now);
        self.session.handle_timeout(until);
        self.carry_over(until, record);
        if self.judge_nothing_at.take_if(|at| *at <= until).is_some() {
            record::judge_nothing(record);
        }
    }

    /// An operator takes the session down, or puts it back in service; [`Self::handle_time`] follows.
    pub fn handle_admin(&mut self, now: Nanos, is_down: bool) {
        self.session.handle_admin(now, is_down);
    }

    /// BGP has come up without BFD: the session has no say about the next hop until it is up itself.
    pub fn handle_bgp_up(&mut self, record: &BfdSession) {
        if self.session.state() != State::Up && !self.config.strict {
            record::judge_nothing(record);
            self.judge_nothing_at = None;
        }
    }

    /// A packet to be sent now; what the packet path may answer with is in the record before. `random`: any number, for the jitter.
    pub fn poll_transmit(&mut self, now: Nanos, random: u32, record: &BfdSession) -> Option<ControlPacket> {
        let packet = self.session.poll_transmit(now, random)?;
        record::publish(record, &self.session, &self.config);
        Some(packet)
    }

    /// The last change, until [`Self::take_change`] has taken it.
    pub fn change(&self) -> Option<Change> {
        self.untold
    }

    /// The same, once.
    pub fn take_change(&mut self) -> Option<Change> {
        self.untold.take()
    }

    /// When there is something to do.
    pub fn poll_deadline(&self) -> Option<Nanos> {
        [self.session.poll_deadline(), self.judge_nothing_at].into_iter().flatten().min()
    }

    /// A change goes to the record first.
    fn carry_over(&mut self, now: Nanos, record: &BfdSession) {
        let Some(change) = self.session.poll_change() else { return };
        self.since = now;
        self.judge_nothing_at = None;
        if change.to == State::Up {
            record::came_up(record, &self.session, now);
        } else if record::is_judged(record) {
            record::went_down(record);
            if change.by_peers_operator && !self.config.strict {
                self.judge_nothing_at = Some(now.after_us(ADMIN_DOWN_GRACE_US));
            }
        }
        record::publish(record, &self.session, &self.config);
        let from = self.untold.map_or(change.from, |untold| untold.from);
        self.untold = Some(Change { from, ..change });
    }
}
