//! The time between a start and the moment when this controller knows enough to forward by itself.
//!
//! After a crash the program of the one before goes on with what it knew (`dataplane::aya::pinned`), and the routes that are
//! learned now go into tables of our own, which no packet meets yet. So nothing that was adopted is deleted, whatever a peer does
//! not say; that is RFC 4724 section 4.1 for a speaker that has kept its forwarding state: routes are neither used nor told before
//! each expected peer has sent its End-of-RIB, or the deadline has come. Then all links get the new program at once.
//!
//! Expected are the peers whose sessions were up when the controller was lost (noted in the map of peers). One that offers no
//! End-of-RIB has said everything when nothing has come for [`QUIET`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::bgp::{Family, PeerEvent, PeerId};

/// Silence after which a peer without End-of-RIB is taken to have said everything.
const QUIET: Duration = Duration::from_secs(3);

/// What an expected peer has still to say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// Its session is not up yet.
    Absent,
    /// The End-of-RIB of these families.
    Missing(BTreeSet<Family>),
    /// It does not say when it is done; this was its last word.
    Talking(Instant),
}

/// Waiting to take over from the generation before.
#[derive(Clone, Debug)]
pub(super) struct Inherited {
    words: BTreeMap<PeerId, Word>,
    deadline: Instant,
}

impl Inherited {
    /// Waits for these peers until the deadline.
    pub fn new(expected: impl IntoIterator<Item = PeerId>, deadline: Instant) -> Self {
        Self { words: expected.into_iter().map(|peer| (peer, Word::Absent)).collect(), deadline }
    }

    /// Hears what a peer says.
    pub fn hear(&mut self, event: &PeerEvent, now: Instant) {
        match event {
            PeerEvent::Established { peer, facts } => {
                if let Some(word) = self.words.get_mut(peer) {
                    *word = if facts.end_of_rib {
                        Word::Missing(facts.families.iter().copied().collect())
                    } else {
                        Word::Talking(now)
                    };
                }
            }
            PeerEvent::Update { peer, update } => match self.words.get_mut(peer) {
                Some(Word::Missing(families)) => {
                    families.retain(|family| update.end_of_rib != Some(*family));
                }
                Some(Word::Talking(last)) => *last = now,
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
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline || self.missing(now).next().is_none()
    }

    /// The peers that have not said everything.
    pub fn missing(&self, now: Instant) -> impl Iterator<Item = PeerId> {
        let open = move |word: &Word| match word {
            Word::Absent => true,
            Word::Missing(families) => !families.is_empty(),
            Word::Talking(last) => now.saturating_duration_since(*last) < QUIET,
        };
        self.words.iter().filter(move |(_, word)| open(word)).map(|(peer, _)| *peer)
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
        let begin = Instant::now();
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
    }

    #[test]
    fn a_peer_without_end_of_rib_is_done_when_it_is_quiet() {
        let begin = Instant::now();
        let at = |millis: u64| begin + Duration::from_millis(millis);
        let mut wait = Inherited::new([PeerId(0)], at(120_000));
        wait.hear(&up(0, false), at(0));
        wait.hear(&PeerEvent::Update { peer: PeerId(0), update: Update::default() }, at(2_000));
        assert!(!wait.is_over(at(4_900)));
        assert!(wait.is_over(at(5_000)));
    }

    #[test]
    fn without_expected_peers_nobody_is_waited_for() {
        let now = Instant::now();
        assert!(Inherited::new([], now + Duration::from_secs(120)).is_over(now));
    }
}
