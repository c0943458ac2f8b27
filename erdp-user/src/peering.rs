//! Peerings that an operator takes down and gives free again (requirement B6), session by session: drained first, so that flows move while
//! both ways work; shut with a word to the peer's operator (RFC 9003); and used again only when everything is there that carries
//! traffic, so that no flow returns to a path that is not ready. Pure: facts and time come in as arguments, orders come out.
//!
//! ```text
//!              disable              drained             enable             back, or patience over
//!   (in use) ----------> Draining ----------> Down ----------------> Returning -----------------> (in use)
//!       ^                    | enable           | abort                   |
//!       +--------------------+------------------+----- disable: Draining -+
//! ```
//! While a session is in any of these states its paths come last and the peer is told to do alike ([`crate::rib::Rib::spare`]).
//!
//! [`orphaned`] is the guard rail: what would be left without any session that carries traffic.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::Serialize;

use crate::{bgp::PeerId, pair::Reason};

/// How long a session that is given free is waited for before its paths count as others do.
pub const RETURN_PATIENCE: Duration = Duration::from_secs(60);

/// How long after the Cease BFD says AdminDown. Some peers (FRR) take that for a failure, and one that reads it first closes the session
/// with words of its own.
pub const SILENCE_AFTER: Duration = Duration::from_secs(1);

/// Where a session is on its way out of use and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Still up, and used only where nothing else is.
    Draining {
        /// When it is shut.
        #[serde(skip)]
        until: Duration,
    },
    /// Shut.
    Down,
    /// Given free, and not used before it is ready.
    Returning {
        /// When it was given free.
        #[serde(skip)]
        since: Duration,
    },
}

/// What is to be done to a session, in the order in which it comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Its paths come last, or count as others do again.
    Spare(PeerId, bool),
    /// End it with this text.
    Shut(PeerId, String),
    /// Its BFD is administratively down.
    Silence(PeerId),
    /// Give it and its BFD free.
    Open(PeerId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    phase: Phase,
    text: String,
    /// When BFD is to be told.
    silence_at: Option<Duration>,
}

/// All sessions that are not simply in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peerings {
    entries: BTreeMap<PeerId, Entry>,
    acts: VecDeque<Act>,
}

impl Peerings {
    /// Takes a session down after so long a drain; zero: at once. One that is on its way down gets the new text and time.
    pub fn handle_disable(&mut self, peer: PeerId, text: &str, drain: Duration, now: Duration) {
        let phase = self.phase(peer);
        if phase == Some(Phase::Down) {
            return;
        }
        if phase.is_none() {
            self.acts.push_back(Act::Spare(peer, true));
        }
        let phase = Phase::Draining { until: now + drain };
        self.entries.insert(peer, Entry { phase, text: text.to_owned(), silence_at: None });
        self.handle_time(now, |_| false);
    }

    /// Gives a session free; whether it was not.
    pub fn handle_enable(&mut self, peer: PeerId, now: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(&peer) else { return false };
        match entry.phase {
            Phase::Draining { .. } => {
                self.entries.remove(&peer);
                self.acts.push_back(Act::Spare(peer, false));
            }
            Phase::Down => {
                entry.phase = Phase::Returning { since: now };
                self.acts.push_back(Act::Open(peer));
            }
            Phase::Returning { .. } => return false,
        }
        true
    }

    /// Gives a session free and uses what is known of it at once: nothing else is left.
    pub fn handle_need(&mut self, peer: PeerId) {
        let Some(entry) = self.entries.remove(&peer) else { return };
        self.acts.push_back(Act::Spare(peer, false));
        if entry.phase == Phase::Down {
            self.acts.push_back(Act::Open(peer));
        }
    }

    /// Time passes; `is_back` says whether a session carries traffic if it is let.
    pub fn handle_time(&mut self, now: Duration, is_back: impl Fn(PeerId) -> bool) {
        for (peer, entry) in &mut self.entries {
            if let Phase::Draining { until } = entry.phase
                && until <= now
            {
                entry.phase = Phase::Down;
                entry.silence_at = Some(now + SILENCE_AFTER);
                self.acts.push_back(Act::Shut(*peer, entry.text.clone()));
            }
            if entry.phase == Phase::Down && entry.silence_at.take_if(|at| *at <= now).is_some() {
                self.acts.push_back(Act::Silence(*peer));
            }
        }
        let over = |peer: PeerId, phase: Phase| match phase {
            Phase::Returning { since } => is_back(peer) || now.saturating_sub(since) >= RETURN_PATIENCE,
            Phase::Draining { .. } | Phase::Down => false,
        };
        let ready: Vec<PeerId> = self
            .entries
            .iter()
            .filter(|(peer, entry)| over(**peer, entry.phase))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in ready {
            self.entries.remove(&peer);
            self.acts.push_back(Act::Spare(peer, false));
        }
    }

    /// The peer is no longer configured: nobody is left to do anything to.
    pub fn forget(&mut self, peer: PeerId) {
        self.entries.remove(&peer);
    }

    /// The next thing to do.
    pub fn poll_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Where a session is; `None`: in use.
    pub fn phase(&self, peer: PeerId) -> Option<Phase> {
        self.entries.get(&peer).map(|entry| entry.phase)
    }

    /// What the operator has said about it.
    pub fn text(&self, peer: PeerId) -> Option<&str> {
        self.entries.get(&peer).map(|entry| entry.text.as_str())
    }

    /// The sessions that are shut or about to be, each with its text.
    pub fn disabled(&self) -> impl Iterator<Item = (PeerId, &str)> {
        let is_out = |entry: &Entry| !matches!(entry.phase, Phase::Returning { .. });
        self.entries
            .iter()
            .filter(move |(_, entry)| is_out(entry))
            .map(|(peer, entry)| (*peer, entry.text.as_str()))
    }

    /// Whether all sessions are simply in use.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A session as a way of some place: a side of a routing domain, and a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The place, for operators: `contoso/private IPv4`.
    pub place: String,
    /// The session.
    pub peer: PeerId,
    /// Why it does not carry traffic; `None`: it does.
    pub why_not: Option<Reason>,
}

/// A place that would be left without any way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Orphan {
    /// Which.
    pub place: String,
    /// Why its other sessions do not help; empty: it has none.
    pub others: Vec<Reason>,
}

impl std::fmt::Display for Orphan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let others: Vec<&str> = self.others.iter().map(|reason| reason.as_str()).collect();
        match others.as_slice() {
            [] => write!(f, "{}, which has no other session here", self.place),
            others => {
                write!(f, "{}, whose other session is not eligible ({})", self.place, others.join(", "))
            }
        }
    }
}

/// The places that have a way now and would have none without these sessions.
pub fn orphaned(ways: &[Way], taken: &[PeerId]) -> Vec<Orphan> {
    let is_taken = |way: &&Way| taken.contains(&way.peer);
    let mut places: Vec<&str> = ways
        .iter()
        .filter(is_taken)
        .filter(|way| way.why_not.is_none())
        .map(|way| way.place.as_str())
        .collect();
    places.sort_unstable();
    places.dedup();
    let orphan = |place: &str| {
        let rest = || ways.iter().filter(|way| way.place == place && !taken.contains(&way.peer));
        let has_way = rest().any(|way| way.why_not.is_none());
        let others = rest().filter_map(|way| way.why_not).collect();
        (!has_way).then(|| Orphan { place: place.to_owned(), others })
    };
    places.into_iter().filter_map(orphan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId(3);
    const DRAIN: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn acts(peerings: &mut Peerings) -> Vec<Act> {
        std::iter::from_fn(|| peerings.poll_act()).collect()
    }

    fn shut() -> Act {
        Act::Shut(PEER, "rack 7".into())
    }

    #[test]
    fn b6_a_peering_is_drained_before_it_is_shut_and_used_only_when_it_is_back() {
        let mut peerings = Peerings::default();
        peerings.handle_disable(PEER, "rack 7", DRAIN, at(10));
        assert_eq!(acts(&mut peerings), [Act::Spare(PEER, true)]);
        peerings.handle_time(at(14), |_| true);
        assert_eq!(acts(&mut peerings), []);
        peerings.handle_time(at(15), |_| true);
        assert_eq!((acts(&mut peerings), peerings.phase(PEER)), (vec![shut()], Some(Phase::Down)));
        peerings.handle_time(at(16), |_| true);
        assert_eq!(acts(&mut peerings), [Act::Silence(PEER)]);
        peerings.handle_time(at(1_000), |_| true);
        assert_eq!(
            (acts(&mut peerings), peerings.phase(PEER)),
            (vec![], Some(Phase::Down)),
            "for as long as it takes"
        );
        assert!(peerings.handle_enable(PEER, at(2_000)) && !peerings.handle_enable(PEER, at(2_000)));
        peerings.handle_time(at(2_001), |_| false);
        assert_eq!(acts(&mut peerings), [Act::Open(PEER)]);
        peerings.handle_time(at(2_002), |_| true);
        assert_eq!((acts(&mut peerings), peerings.is_empty()), (vec![Act::Spare(PEER, false)], true));
        assert!(!peerings.handle_enable(PEER, at(2_003)), "it is in use");
    }

    #[test]
    fn every_input_in_every_state_does_what_the_diagram_says() {
        type Input = fn(&mut Peerings);
        type Row<'a> = (&'a [Input], Input, Option<Phase>, Vec<Act>);
        let disable: Input = |it| it.handle_disable(PEER, "rack 7", DRAIN, at(20));
        let at_once: Input = |it| it.handle_disable(PEER, "rack 7", Duration::ZERO, at(20));
        let enable: Input = |it| _ = it.handle_enable(PEER, at(20));
        let need: Input = |it| it.handle_need(PEER);
        let later: Input = |it| it.handle_time(at(90), |_| false);
        let draining = Some(Phase::Draining { until: at(25) });
        let (down, returning) = (Some(Phase::Down), Some(Phase::Returning { since: at(20) }));
        let (spare, unspare, open) = (Act::Spare(PEER, true), Act::Spare(PEER, false), Act::Open(PEER));
        let rows: [Row<'_>; 16] = [
            (&[], disable, draining, vec![spare.clone()]),
            (&[], at_once, down, vec![spare, shut()]),
            (&[], enable, None, vec![]),
            (&[], need, None, vec![]),
            (&[disable], disable, draining, vec![]),
            (&[disable], at_once, down, vec![shut()]),
            (&[disable], enable, None, vec![unspare.clone()]),
            (&[disable], need, None, vec![unspare.clone()]),
            (&[disable], later, down, vec![shut()]),
            (&[at_once], disable, down, vec![]),
            (&[at_once], later, down, vec![Act::Silence(PEER)]),
            (&[at_once], enable, returning, vec![open.clone()]),
            (&[at_once], need, None, vec![unspare.clone(), open]),
            (&[at_once, enable], disable, draining, vec![]),
            (&[at_once, enable], need, None, vec![unspare.clone()]),
            (&[at_once, enable], later, None, vec![unspare]),
        ];
        for (at, (before, input, phase, expected)) in rows.into_iter().enumerate() {
            let mut peerings = Peerings::default();
            before.iter().for_each(|input| input(&mut peerings));
            acts(&mut peerings);
            input(&mut peerings);
            assert_eq!((peerings.phase(PEER), acts(&mut peerings)), (phase, expected), "row {at}");
        }
    }

    #[test]
    fn a_place_is_orphaned_when_its_last_way_is_taken_and_its_other_ways_say_why_they_do_not_help() {
        let way = |place: &str, peer, why_not| Way { place: place.into(), peer: PeerId(peer), why_not };
        let ways = [
            way("a/private IPv4", 0, None),
            way("a/private IPv4", 1, None),
            way("a/private IPv6", 2, None),
            way("a/private IPv6", 3, Some(Reason::NoSession)),
            way("a/microsoft IPv4", 4, Some(Reason::NoRoutes)),
            way("b/private IPv4", 5, None),
        ];
        let orphans = |taken: &[u16]| {
            let taken: Vec<PeerId> = taken.iter().copied().map(PeerId).collect();
            orphaned(&ways, &taken).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(orphans(&[0]), [""; 0]);
        assert_eq!(orphans(&[4]), [""; 0], "it carries nothing already");
        assert_eq!(orphans(&[2]), ["a/private IPv6, whose other session is not eligible (no-session)"]);
        assert_eq!(orphans(&[0, 1]), ["a/private IPv4, which has no other session here"]);
        assert_eq!(orphans(&[0, 2, 5]).len(), 2);
    }
}
