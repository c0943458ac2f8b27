//! The time between a start and the moment when this controller knows enough to forward by itself.
//!
//! After a crash the program of the one before goes on with what it knew (`dataplane::aya::pinned`), and the routes that are
//! learned now go into tables of our own, which no packet meets yet. So nothing that was adopted is deleted, whatever a peer does
//! not say; that is RFC 4724 section 4.1 for a speaker that has kept its forwarding state: routes are neither used nor told before
//! each expected peer has sent its End-of-RIB, or the deadline has come. Then all links get the new program at once.
//!
//! Expected are the peers whose sessions were up when the controller was lost (noted in the map of peers). One that offers no
//! End-of-RIB has said everything when nothing has come for [`QUIET`], or after [`TALK`]: it may never be quiet.
//!
//! Whose routes would not be used any more is not waited for: a peer that an operator has taken out of use (B6, A8), one that has announced more
//! than it may (D2), and one whose link has been without a carrier for so long that its session has ended (B2).
//!
//! The wait is over earlier when it protects nothing any more: when what has been learned leads wherever the old program leads
//! ([`crate::fib::Forwarding::covers`]). A controller that dies again and again does not begin the deadline anew: it counts from the first
//! start after the loss, but leaves each start [`LEAST`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use erdp_common::abi::PeerKey;

use super::Core;
use crate::{
    bgp::{Family, PeerEvent, PeerId},
    compile::peer_key,
    config,
    dataplane::Dataplane,
};

/// Silence after which a peer without End-of-RIB is taken to have said everything.
const QUIET: Duration = Duration::from_secs(3);
/// For how long it is listened to at most.
const TALK: Duration = Duration::from_secs(30);
/// What is left of the deadline for a start after another crash, at least: peers need some time to speak at all.
const LEAST: Duration = Duration::from_secs(10);
/// Tables are compared no more often than this: of a full table it takes tens of milliseconds.
const COMPARE: Duration = Duration::from_secs(1);

/// What an expected peer has still to say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// Its session is not up yet.
    Absent,
    /// The End-of-RIB of these families.
    Missing(BTreeSet<Family>),
    /// It does not say when it is done; this was its first and its last word.
    Talking { since: Duration, last: Duration },
}

/// Waiting to take over from the generation before.
#[derive(Clone, Debug)]
pub(crate) struct Inherited {
    words: BTreeMap<PeerId, Word>,
    deadline: Duration,
    compared: Option<Duration>,
}

impl Inherited {
    /// Waits for these peers until the deadline.
    pub fn new(expected: impl IntoIterator<Item = PeerId>, deadline: Duration) -> Self {
        let words = expected.into_iter().map(|peer| (peer, Word::Absent)).collect();
        Self { words, deadline, compared: None }
    }

    /// How long to wait where the controller was lost so long ago.
    pub fn patience(most: Duration, lost: Duration) -> Duration {
        most.saturating_sub(lost).max(LEAST.min(most))
    }

    /// Whether it is time to compare what is known with what forwards; the answer counts as done.
    pub fn may_compare(&mut self, now: Duration) -> bool {
        let is_time = self.compared.is_none_or(|last| now.saturating_sub(last) >= COMPARE);
        if is_time {
            self.compared = Some(now);
        }
        is_time
    }

    /// Until when it lasts at most.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether a peer is waited for: it is still one of those that were up when the controller was lost, whatever becomes of its
    /// session now.
    pub fn expects(&self, peer: PeerId) -> bool {
        self.words.contains_key(&peer)
    }

    /// A peer is waited for no longer; `false`: it was not.
    pub fn forget(&mut self, peer: PeerId) -> bool {
        self.words.remove(&peer).is_some()
    }

    /// Hears what a peer says.
    pub fn hear(&mut self, event: &PeerEvent, now: Duration) {
        match event {
            PeerEvent::Established { peer, facts } => {
                if let Some(word) = self.words.get_mut(peer) {
                    *word = if facts.end_of_rib {
                        Word::Missing(facts.families.iter().copied().collect())
                    } else {
                        Word::Talking { since: now, last: now }
                    };
                }
            }
            PeerEvent::Update { peer, update } => match self.words.get_mut(peer) {
                Some(Word::Missing(families)) => {
                    families.retain(|family| update.end_of_rib != Some(*family));
                }
                Some(Word::Talking { last, .. }) => *last = now,
                Some(Word::Absent) | None => {}
            },
            PeerEvent::Down { peer, .. } => {
                if let Some(word) = self.words.get_mut(peer) {
                    *word = Word::Absent;
                }
            }
            PeerEvent::Refresh { .. } => {}
        }
    }

    /// Whether the wait is over.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.deadline || self.missing(now).next().is_none()
    }

    /// The peers that have not said everything.
    pub fn missing(&self, now: Duration) -> impl Iterator<Item = PeerId> {
        let open = move |word: &Word| match word {
            Word::Absent => true,
            Word::Missing(families) => !families.is_empty(),
            Word::Talking { since, last } => {
                now.saturating_sub(*last) < QUIET && now.saturating_sub(*since) < TALK
            }
        };
        self.words.iter().filter(move |(_, word)| open(word)).map(|(peer, _)| *peer)
    }
}

impl<D: Dataplane> Core<D> {
    /// Leaves forwarding to what was there before until these peers have said everything.
    pub fn wait_for(&mut self, expected: &[PeerKey], lost: Duration, now: Duration) {
        self.now = now;
        let is_expected = |peer: &&config::Peer| {
            expected.contains(&peer_key(peer)) && !self.is_circuit_off(peer.session.id)
        };
        let known = self.peers.iter().filter(is_expected);
        let known: Vec<_> = known.map(|peer| peer.session.id).collect();
        // If this process ends before the wait does, the next one waits for the same peers.
        known.iter().for_each(|peer| self.note_session(*peer, true));
        let patience = Inherited::patience(self.config.restart_deadline.duration(), lost);
        tracing::info!(
            peers = known.len(),
            lost_s = lost.as_secs(),
            at_most_s = patience.as_secs(),
            "adopted routes stay until these peers have sent all of theirs, or nothing is missing without them"
        );
        self.inherited = Some(Inherited::new(known, now + patience));
    }

    /// Whether what has been learned leads wherever the program before us leads.
    fn covers_adopted(&mut self, now: Duration) -> bool {
        self.inherited.as_mut().is_some_and(|inherited| inherited.may_compare(now))
            && self.dataplane.adopted().is_some_and(|adopted| self.forwarding.covers(adopted))
    }

    /// Whom the wait is for and how many seconds it lasts at most, as long as the program before us forwards.
    pub(crate) fn waiting(&self, now: Duration) -> Option<(Vec<&str>, u64)> {
        let inherited = self.inherited.as_ref()?;
        let name = |peer: PeerId| self.peers.get(usize::from(peer.0)).map(|peer| peer.name.as_str());
        let left = inherited.deadline().saturating_sub(now);
        Some((inherited.missing(now).filter_map(name).collect(), left.as_secs()))
    }

    /// A peer whose routes will not be used, whatever it says, is waited for no longer.
    pub(crate) fn wait_no_longer(&mut self, peer: PeerId) {
        if self.inherited.as_mut().is_some_and(|inherited| inherited.forget(peer)) {
            self.note_session(peer, false);
        }
    }

    /// Takes over once everything is known, or time is over.
    pub fn end_wait(&mut self, now: Duration) {
        self.now = now;
        if self.inherited.is_none() {
            return;
        }
        let is_out = |peer: &PeerId| {
            self.redundancy.peerings.phase(*peer).is_some()
                || self.is_circuit_off(*peer)
                || self.has_no_carrier(*peer)
        };
        let out: Vec<PeerId> = self.all_peers().into_iter().filter(is_out).collect();
        out.into_iter().for_each(|peer| self.wait_no_longer(peer));
        let Some(inherited) = &self.inherited else { return };
        let is_over = inherited.is_over(now);
        if !is_over && !self.covers_adopted(now) {
            return;
        }
        let Some(inherited) = self.inherited.take() else { return };
        for id in inherited.missing(now) {
            if self.rib.families(id).is_empty() {
                self.note_session(id, false);
            }
            let Some(peer) = self.peers.get(usize::from(id.0)) else { continue };
            if is_over {
                tracing::warn!(
                    peer = peer.name,
                    "has not sent all of its routes in time: its adopted ones go"
                );
            } else {
                tracing::info!(peer = peer.name, "has not said that this is all, but nothing is missing");
            }
        }
        let ports = self.forwarding.topology().ports();
        let taken = self.dataplane.take_over(&ports, self.about.clone());
        match taken.and_then(|()| self.dataplane.retire_others()) {
            Ok(()) => tracing::info!(routes = self.forwarding.sizes()["routes"], "forwarding taken over"),
            Err(error) => {
                tracing::error!(%error, "the program before goes on; trying again");
                let again = now + Duration::from_secs(5);
                self.inherited = Some(Inherited::new([PeerId(u16::MAX)], again));
            }
        }
    }

    /// Notes for the next process whether a session is up. One that is waited for counts as up until the wait is over: if we die,
    /// the next one has to wait for it too.
    pub(crate) fn note_session(&mut self, peer: PeerId, is_up: bool) {
        if !is_up && self.inherited.as_ref().is_some_and(|inherited| inherited.expects(peer)) {
            return;
        }
        if let Some(key) = self.peers.get(usize::from(peer.0)).map(peer_key) {
            self.log_failure(|it| it.dataplane.note_session(key, is_up));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::bgp::{Asn, Seconds, SessionFacts, Update};

    fn up(peer: u16, end_of_rib: bool) -> PeerEvent {
        let facts = SessionFacts {
            session: 1,
            router_id: Ipv4Addr::LOCALHOST,
            asn: Asn(65_001),
            internal: false,
            families: vec![Family::Ipv4Unicast],
            hold: Seconds(90),
            local: Ipv4Addr::LOCALHOST.into(),
            next_hop_v4: None,
            next_hop_v6: None,
            four_octet_asn: true,
            route_refresh: true,
            enhanced_refresh: false,
            extended_messages: false,
            end_of_rib,
            restart: None,
            notification_restart: false,
            role: None,
            add_path: Vec::new(),
        };
        PeerEvent::Established { peer: PeerId(peer), facts }
    }

    fn end(peer: u16) -> PeerEvent {
        let update = Update { end_of_rib: Some(Family::Ipv4Unicast), ..Update::default() };
        PeerEvent::Update { peer: PeerId(peer), update }
    }

    #[test]
    fn the_wait_is_over_when_every_expected_peer_has_said_everything_or_the_deadline_has_come() {
        let begin = Duration::from_secs(1_000);
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut wait = Inherited::new([PeerId(0), PeerId(1)], at(120));
        wait.hear(&up(0, true), at(1));
        wait.hear(&end(0), at(1));
        assert!(!wait.is_over(at(2)), "the second peer has not come");
        wait.hear(&up(1, true), at(2));
        assert_eq!(wait.missing(at(60)).collect::<Vec<_>>(), [PeerId(1)], "a peer that delays its routes");
        assert!(wait.is_over(at(120)), "the deadline");
        wait.hear(&end(1), at(61));
        assert!(wait.is_over(at(61)));
        // A session that is lost again has to be had again.
        let reason = crate::bgp::DownReason::ConnectTimeout {
            peer: Ipv4Addr::LOCALHOST.into(),
            local: Ipv4Addr::LOCALHOST.into(),
            md5: false,
        };
        wait.hear(&PeerEvent::Down { peer: PeerId(0), reason, kept: None }, at(62));
        assert!(!wait.is_over(at(62)));
        assert_eq!([0, 1, 2].map(|peer| wait.expects(PeerId(peer))), [true, true, false]);
    }

    #[test]
    fn a_peer_without_end_of_rib_is_done_when_it_is_quiet() {
        let begin = Duration::from_secs(1_000);
        let at = |millis: u64| begin + Duration::from_millis(millis);
        let mut wait = Inherited::new([PeerId(0)], at(120_000));
        wait.hear(&up(0, false), at(0));
        wait.hear(&PeerEvent::Update { peer: PeerId(0), update: Update::default() }, at(2_000));
        assert!(!wait.is_over(at(4_900)));
        assert!(wait.is_over(at(5_000)));
    }

    #[test]
    fn a_peer_without_end_of_rib_that_is_never_quiet_is_not_listened_to_for_ever() {
        let begin = Duration::from_secs(1_000);
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut wait = Inherited::new([PeerId(0)], at(120));
        wait.hear(&up(0, false), at(5));
        for second in 5..35 {
            assert!(!wait.is_over(at(second)), "{second}");
            wait.hear(&PeerEvent::Update { peer: PeerId(0), update: Update::default() }, at(second));
        }
        assert!(wait.is_over(at(35)));
    }

    #[test]
    fn crashes_one_after_another_have_one_deadline_and_each_start_has_time_to_hear_its_peers() {
        let seconds = Duration::from_secs;
        for (most, lost, left) in
            [(120, 0, 120), (120, 50, 70), (120, 115, 10), (120, 1_000, 10), (7, 0, 7), (7, 6, 7)]
        {
            let found = Inherited::patience(seconds(most), seconds(lost));
            assert_eq!(found, seconds(left), "{most} s, lost {lost} s ago");
        }
    }

    #[test]
    fn tables_are_compared_once_a_second() {
        let now = Duration::from_secs(1_000);
        let mut wait = Inherited::new([PeerId(0)], now + Duration::from_secs(120));
        let at =
            [0, 10, 999, 1_000, 1_500, 2_000].map(|it| wait.may_compare(now + Duration::from_millis(it)));
        assert_eq!(at, [true, false, false, true, false, true]);
    }

    #[test]
    fn without_expected_peers_nobody_is_waited_for() {
        let now = Duration::from_secs(1_000);
        assert!(Inherited::new([], now + Duration::from_secs(120)).is_over(now));
    }
}
