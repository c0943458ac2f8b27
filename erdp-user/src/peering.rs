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
//! [`orphaned`] is the guard rail: what would be left without any session that carries traffic. It knows what else leads to Microsoft: a
//! service of the same peering (B8), and another circuit that the customer's attachments list (B11).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::Serialize;

use crate::{
    bgp::{Family, PeerId},
    config::{DomainId, Side},
    pair::Reason,
};

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

    /// Whether a session is shut.
    pub fn is_down(&self, peer: PeerId) -> bool {
        self.phase(peer) == Some(Phase::Down)
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
    /// The routing domain.
    pub domain: DomainId,
    /// Its name.
    pub name: String,
    /// The family of its session.
    pub family: Family,
    /// Whether the place is Microsoft's side of the domain; else the customer's.
    pub to_microsoft: bool,
    /// Which side the session is on.
    pub side: Side,
    /// The session.
    pub peer: PeerId,
    /// Why it does not carry traffic; `None`: it does.
    pub why_not: Option<Reason>,
}

impl Way {
    /// The place, for operators: `contoso/private IPv4`.
    pub fn place(&self) -> String {
        let family = match self.family {
            Family::Ipv4Unicast => "IPv4",
            Family::Ipv6Unicast => "IPv6",
        };
        let side = if self.to_microsoft { "" } else { " towards the customer" };
        format!("{} {family}{side}", self.name)
    }

    fn is_of_place(&self, other: &Way) -> bool {
        (self.domain, self.family, self.to_microsoft) == (other.domain, other.family, other.to_microsoft)
    }
}

/// All ways, and which domains each of the customer's attachments may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Every session with what it is a way of.
    pub list: Vec<Way>,
    /// The domains of each attachment towards the customer: what one domain has not, the others may have.
    pub reach: Vec<Vec<DomainId>>,
}

impl Ways {
    /// The places that have a way now and would have none without these sessions.
    pub fn orphaned(&self, taken: &[PeerId]) -> Vec<Orphan> {
        let in_use = self.list.iter().filter(|way| taken.contains(&way.peer) && way.why_not.is_none());
        let mut orphans: Vec<Orphan> =
            in_use.filter(|way| !self.has_other(way, taken)).map(|way| self.orphan(way, taken)).collect();
        orphans.sort_unstable();
        orphans.dedup();
        orphans
    }

    /// The ways that have another one beside these sessions: each place once.
    pub fn others_of(&self, taken: &[PeerId]) -> Vec<Way> {
        let mut places: Vec<Way> = Vec::new();
        for way in &self.list {
            if !places.iter().any(|other| other.is_of_place(way)) && self.has_other(way, taken) {
                places.push(way.clone());
            }
        }
        places
    }

    /// Whether a way's place has another one without these sessions: in its domain, or, towards Microsoft, by what else leads there.
    pub fn has_other(&self, way: &Way, taken: &[PeerId]) -> bool {
        self.alive(taken).any(|other| other.is_of_place(way)) || self.is_carried_elsewhere(way, taken)
    }

    /// Whether what the sessions of a way's domain carry towards Microsoft finds another way: a service of the domain, or, from each of
    /// the customer's attachments that list it, another domain that they list.
    fn is_carried_elsewhere(&self, way: &Way, taken: &[PeerId]) -> bool {
        if !way.to_microsoft {
            return false;
        }
        let of_family = |other: &&Way| other.family == way.family;
        let by_service = |other: &Way| other.side == Side::Service && other.domain == way.domain;
        let by_domain = |domain: &DomainId| {
            let leads = |other: &Way| other.to_microsoft && other.domain == *domain;
            *domain != way.domain && self.alive(taken).filter(of_family).any(leads)
        };
        let mut users = self.reach.iter().filter(|listed| listed.contains(&way.domain)).peekable();
        self.alive(taken).filter(of_family).any(by_service)
            || users.peek().is_some() && users.all(|listed| listed.iter().any(by_domain))
    }

    /// A place without these sessions, with why its other ways do not help.
    pub fn orphan(&self, way: &Way, taken: &[PeerId]) -> Orphan {
        let rest = self.list.iter().filter(|other| other.is_of_place(way) && !taken.contains(&other.peer));
        Orphan { place: way.place(), others: rest.filter_map(|other| other.why_not).collect() }
    }

    fn alive(&self, taken: &[PeerId]) -> impl Iterator<Item = &Way> {
        self.list.iter().filter(|way| way.why_not.is_none() && !taken.contains(&way.peer))
    }
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

    /// Sessions of `domain` by their numbers: primary and secondary of each family, a customer's, a service's.
    fn way(domain: u16, peer: u16, why_not: Option<Reason>) -> Way {
        let (side, to_microsoft) = match peer % 10 {
            0..6 => (Side::Msee(crate::config::LinkRole::Primary), true),
            6..8 => (Side::Ce, false),
            _ => (Side::Service, false),
        };
        let family = if matches!(peer % 10, 2 | 3) { Family::Ipv6Unicast } else { Family::Ipv4Unicast };
        let name = ["a/private", "a/microsoft", "b/private"][usize::from(domain)].to_owned();
        Way { domain: DomainId(domain), name, family, to_microsoft, side, peer: PeerId(peer), why_not }
    }

    fn orphans(ways: &Ways, taken: &[u16]) -> Vec<String> {
        let taken: Vec<PeerId> = taken.iter().copied().map(PeerId).collect();
        ways.orphaned(&taken).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_place_is_orphaned_when_its_last_way_is_taken_and_its_other_ways_say_why_they_do_not_help() {
        let list = vec![
            way(0, 0, None),
            way(0, 1, None),
            way(0, 2, None),
            way(0, 3, Some(Reason::NoSession)),
            way(1, 14, Some(Reason::NoRoutes)),
            way(2, 25, None),
        ];
        let ways = Ways { list, reach: vec![vec![DomainId(0)]] };
        assert_eq!(orphans(&ways, &[0]), [""; 0]);
        assert_eq!(orphans(&ways, &[14]), [""; 0], "it carries nothing already");
        assert_eq!(
            orphans(&ways, &[2]),
            ["a/private IPv6, whose other session is not eligible (no-session)"]
        );
        assert_eq!(orphans(&ways, &[0, 1]), ["a/private IPv4, which has no other session here"]);
        assert_eq!(orphans(&ways, &[0, 2, 25]).len(), 2);
    }

    #[test]
    fn b6_another_circuit_that_every_attachment_lists_is_another_way_and_so_is_a_service_of_the_peering() {
        let (a, other, b) = (DomainId(0), DomainId(1), DomainId(2));
        let both = vec![way(0, 0, None), way(0, 1, None), way(0, 6, None), way(2, 20, None)];
        let none = "a/private IPv4, which has no other session here";
        type Row<'a> = (&'a str, Vec<Way>, Vec<Vec<DomainId>>, &'a [u16], &'a [&'a str]);
        let rows: [Row<'_>; 9] = [
            ("it lists both", both.clone(), vec![vec![a, b]], &[0, 1], &[]),
            (
                "the other circuit is taken too",
                both.clone(),
                vec![vec![a, b]],
                &[0, 1, 20],
                &[none, "b/private IPv4, which has no other session here"],
            ),
            ("one attachment lists this one only", both.clone(), vec![vec![a, b], vec![a]], &[0, 1], &[none]),
            (
                "one that lists others does not matter",
                both.clone(),
                vec![vec![a, b], vec![other]],
                &[0, 1],
                &[],
            ),
            ("nobody lists it", both.clone(), vec![], &[0, 1], &[none]),
            (
                "the other circuit carries nothing",
                [&both[..3], &[way(2, 20, Some(Reason::NoRoutes))]].concat(),
                vec![vec![a, b]],
                &[0, 1],
                &[none],
            ),
            (
                "of the other family",
                [&both[..3], &[way(2, 22, None)]].concat(),
                vec![vec![a, b]],
                &[0, 1],
                &[none],
            ),
            ("a service of the peering", [&both[..2], &[way(0, 8, None)]].concat(), vec![], &[0, 1], &[]),
            (
                "the customer's side has no other circuit",
                both.clone(),
                vec![vec![a, b]],
                &[6],
                &["a/private IPv4 towards the customer, which has no other session here"],
            ),
        ];
        for (what, list, reach, taken, expected) in rows {
            assert_eq!(orphans(&Ways { list, reach }, taken), expected, "{what}");
        }
    }
}
