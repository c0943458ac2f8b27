//! The decision process (RFC 4271 section 9.1.2.2) as a list of named rules. Each rule says which of two paths beats the
//! other; a path that any surviving path beats is out, and the next rule looks at the rest.
//!
//! Paths that survive [`EQUAL_COST_RULES`] share the traffic (eBGP multipath over both links of a circuit); the rest of
//! the list only picks the one that other peers are told about.
//!
//! Deliberately absent: "lowest interior cost", because the only internal peer is the other edge box, one wire away.

use std::cmp::Ordering;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;

use super::topology::{LAST_RESORT, RibPeer};
use crate::bgp::{PathAttributes, PathId};

/// A path to a prefix that policy let in.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub peer: &'a RibPeer,
    /// The peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// Which of its paths, where it tells several.
    pub path: Option<PathId>,
    /// As received.
    pub attributes: &'a Arc<PathAttributes>,
    /// What it is worth after policy.
    pub preference: u32,
    /// How many ASes its path has after policy.
    pub length: usize,
}

impl<'a> Candidate<'a> {
    /// A path of a peer, or of a source beside them.
    pub fn new(
        peer: &'a RibPeer,
        router_id: Ipv4Addr,
        path: Option<PathId>,
        (prefix, attributes): (&IpNet, &'a Arc<PathAttributes>),
    ) -> Self {
        let repeated = peer.changes(prefix, attributes).map_or(0, |changes| usize::from(changes.prepend));
        let (preference, length) = (peer.preference(prefix, attributes), attributes.as_path.len() + repeated);
        Self { peer, router_id, path, attributes, preference, length }
    }
}

impl Candidate<'_> {
    /// Whether it is used only where there is no other, also none of another domain: its link carries no packets or is out of use, here or as
    /// the other box says.
    pub fn is_last_resort(&self) -> bool {
        self.preference == LAST_RESORT && (self.peer.is_last_resort() || self.peer.is_internal())
    }
}

/// One step of the decision process.
#[derive(Debug)]
pub(super) struct Rule {
    /// As operators see it.
    pub name: &'static str,
    /// `Less`: the first path is better; `Equal`: this rule has no opinion.
    compare: fn(&Candidate, &Candidate) -> Ordering,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.name == other.name
    }
}

/// Rules that decide which paths packets take.
pub(super) static EQUAL_COST_RULES: [Rule; 6] = [
    Rule { name: "highest local preference", compare: |a, b| b.preference.cmp(&a.preference) },
    Rule { name: "shortest AS path", compare: |a, b| a.length.cmp(&b.length) },
    Rule { name: "lowest origin", compare: |a, b| a.attributes.origin.cmp(&b.attributes.origin) },
    Rule { name: "lowest MED of the same neighbouring AS", compare: compare_med },
    // Not in the RFC: the paths of one prefix lead to one side, else a packet might leave where it came in.
    Rule { name: "customer's own route", compare: |a, b| is_microsofts(a).cmp(&is_microsofts(b)) },
    // RFC 4271 section 9.1.2.2 d: what our own links bring before what the other edge box has.
    Rule { name: "external over internal", compare: |a, b| a.peer.is_internal().cmp(&b.peer.is_internal()) },
];

/// Rules that pick the path to tell others about.
pub(super) static TIE_BREAKERS: [Rule; 3] = [
    Rule { name: "lowest BGP identifier", compare: |a, b| a.router_id.cmp(&b.router_id) },
    Rule { name: "lowest peer address", compare: |a, b| a.peer.remote.cmp(&b.peer.remote) },
    // Addresses are unique among peers, and identifiers among the paths of one, so that nothing is left to chance.
    Rule { name: "lowest path identifier", compare: |a, b| a.path.cmp(&b.path) },
];

fn is_microsofts(candidate: &Candidate) -> bool {
    candidate.peer.origin(candidate.attributes).is_msee()
}

/// MEDs of different neighbours are not comparable (RFC 4271 section 9.1.2.2 c); a missing one counts as 0.
fn compare_med(a: &Candidate, b: &Candidate) -> Ordering {
    if a.attributes.as_path.first() != b.attributes.as_path.first() {
        return Ordering::Equal;
    }
    a.attributes.med.unwrap_or(0).cmp(&b.attributes.med.unwrap_or(0))
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// Used, and told to others.
    Best,
    /// Used; this rule picked another one to be told.
    Multipath(&'static Rule),
    /// Not used because of this rule.
    Lost(&'static Rule),
}

/// The outcome of each candidate, in their order.
pub(super) fn decide(candidates: &[Candidate]) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::Best; candidates.len()];
    if candidates.len() < 2 {
        return outcomes;
    }
    for rule in &EQUAL_COST_RULES {
        eliminate(candidates, &mut outcomes, rule, Outcome::Lost);
    }
    for rule in &TIE_BREAKERS {
        eliminate(candidates, &mut outcomes, rule, Outcome::Multipath);
    }
    outcomes
}

/// Gives every survivor that another survivor beats its outcome. The order does not matter: a rule is transitive among
/// the paths that it compares, so who is beaten is beaten by one that stays as well.
fn eliminate(
    candidates: &[Candidate],
    outcomes: &mut [Outcome],
    rule: &'static Rule,
    out: fn(&'static Rule) -> Outcome,
) {
    for (index, candidate) in candidates.iter().enumerate() {
        let mut survivors =
            candidates.iter().zip(outcomes.iter()).filter(|(_, outcome)| **outcome == Outcome::Best);
        let is_beaten = survivors.any(|(other, _)| (rule.compare)(other, candidate) == Ordering::Less);
        if let Some(outcome) = outcomes.get_mut(index)
            && is_beaten
            && *outcome == Outcome::Best
        {
            *outcome = out(rule);
        }
    }
}

/// The path that comes next after the best one, and the rule by which it is not as good; `None`: there is no other.
pub(super) fn runner_up(outcomes: &[Outcome]) -> Option<(usize, &'static Rule)> {
    let place = |rule: &Rule| EQUAL_COST_RULES.iter().chain(&TIE_BREAKERS).position(|it| it == rule);
    let others = outcomes.iter().enumerate().filter_map(|(at, outcome)| match outcome {
        Outcome::Best => None,
        Outcome::Multipath(rule) | Outcome::Lost(rule) => Some((at, *rule)),
    });
    // The first of those that stayed longest.
    others.rev().max_by_key(|(_, rule)| place(rule))
}

/// A path by which another one is beaten: the best one, if the rule has an opinion of it.
pub(super) fn winner(candidates: &[Candidate], outcomes: &[Outcome], at: usize) -> Option<usize> {
    let (Outcome::Multipath(rule) | Outcome::Lost(rule)) = outcomes.get(at)? else { return None };
    let loser = candidates.get(at)?;
    let beats = |(_, other): &(usize, &Candidate)| (rule.compare)(other, loser) == Ordering::Less;
    let winners = candidates.iter().enumerate().filter(beats).map(|(at, _)| at);
    winners.max_by_key(|at| outcomes.get(*at) == Some(&Outcome::Best))
}
