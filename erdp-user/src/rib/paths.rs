//! What one peer has announced and is advertised, path by path, with the reason for what became of each: for operators.

use ipnet::IpNet;

use super::decision::{self, Candidate, Outcome};
use super::{Due, HoldBack, Rib, RibPeer, Verdict, due, policy, routes_policy};
use crate::bgp::{Family, PathAttributes, PathId, PeerId};
use crate::config::DomainId;
use crate::types::PathSource;

/// A path that a peer has announced, in one of its domains.
#[derive(Clone, Debug)]
pub struct ReceivedPath<'a> {
    /// The domain.
    pub domain: DomainId,
    /// Which path, of a peer that announces several.
    pub path: Option<PathId>,
    /// As received.
    pub attributes: &'a PathAttributes,
    /// What it is worth after policy (local preference); `None` where policy refuses it.
    pub preference: Option<u32>,
    /// The policy of which a rule is about it, and that rule's number, from 1.
    pub policy: Option<(&'a str, u16)>,
    /// What became of it; `None`: the domain's circuit is not in use, so no path in it counts.
    pub verdict: Option<Verdict>,
    /// Of the best path: by which rule it is better than the next one, and whose that is. `None`: there is no other.
    pub ahead: Option<(&'static str, PathSource)>,
    /// Of another one: whose path is better.
    pub behind: Option<PathSource>,
}

/// A prefix that a peer may be advertised.
#[derive(Clone, Debug)]
pub struct AdvertisedPath<'a> {
    /// The domain.
    pub domain: DomainId,
    /// Whose path it is; `None`: an aggregate of our own.
    pub from: Option<PathSource>,
    /// As received.
    pub received: Option<&'a PathAttributes>,
    /// As the peer reads it.
    pub sent: PathAttributes,
}

impl Rib {
    /// The prefixes that a peer has announced, in no order; one with several paths may come twice.
    pub fn received_from(&self, peer: PeerId) -> Vec<IpNet> {
        self.adj_in.get(usize::from(peer.0)).into_iter().flat_map(|adj_in| adj_in.prefixes()).collect()
    }

    /// Whether a peer has announced a prefix.
    pub fn has_received(&self, peer: PeerId, prefix: &IpNet) -> bool {
        self.adj_in.get(usize::from(peer.0)).is_some_and(|adj_in| adj_in.paths(prefix).next().is_some())
    }

    /// A peer's paths to a prefix in each of its domains.
    pub fn received(&self, peer: PeerId, prefix: &IpNet) -> Vec<ReceivedPath<'_>> {
        let (Some(config), Some(adj_in)) = (self.config.peer(peer), self.adj_in.get(usize::from(peer.0)))
        else {
            return Vec::new();
        };
        let mut list = Vec::new();
        for domain in &config.domains {
            let candidates: Vec<Candidate<'_>> = self.candidates(*domain, prefix).collect();
            let outcomes = decision::decide(&candidates);
            for it in adj_in.paths(prefix) {
                let own = ReceivedPath {
                    domain: *domain,
                    path: it.path,
                    attributes: it.attributes,
                    preference: None,
                    policy: policy_of(config, prefix, it.attributes),
                    verdict: None,
                    ahead: None,
                    behind: None,
                };
                let is_it = |candidate: &Candidate<'_>| {
                    (candidate.peer.source, candidate.path) == (peer.into(), it.path)
                };
                list.push(match (it.refusal(*domain), candidates.iter().position(is_it)) {
                    (Some(refusal), _) => ReceivedPath { verdict: Some(Verdict::Refused(refusal)), ..own },
                    (None, None) => own,
                    (None, Some(at)) => {
                        ranked(own, config.preference(prefix, it.attributes), &candidates, &outcomes, at)
                    }
                });
            }
        }
        list
    }

    /// The prefixes that a peer has been advertised, in no order.
    pub fn advertised_to(&self, peer: PeerId) -> Vec<IpNet> {
        self.adj_out
            .get(usize::from(peer.0))
            .map(|out| out.known().0.map(|(prefix, _)| prefix).collect())
            .unwrap_or_default()
    }

    /// Whether a peer has been advertised a prefix.
    pub fn has_advertised(&self, peer: PeerId, prefix: &IpNet) -> bool {
        self.adj_out.get(usize::from(peer.0)).is_some_and(|out| out.told(prefix).is_some())
    }

    /// What a peer has been advertised of a prefix, and of which domain that is.
    pub fn advertised(&self, peer: PeerId, prefix: IpNet) -> Option<AdvertisedPath<'_>> {
        let to = self.config.peer(peer)?;
        let told = self.adj_out.get(usize::from(peer.0))?.told(&prefix)?;
        let next_hop = to.next_hop_self(Family::of(&prefix))?;
        let sent = policy::exported(told, to, next_hop);
        // The first of its domains that has something for it is whose route it is advertised.
        let in_domain = |domain: &DomainId| {
            let alone = RibPeer { domains: vec![*domain], ..to.clone() };
            let Due { from, .. } =
                due(&self.config, self.sources(), &self.loc, &self.guards, &alone, prefix)?;
            Some((*domain, from))
        };
        let (domain, from) =
            to.domains.iter().find_map(in_domain).or(to.domains.first().map(|it| (*it, None)))?;
        let received = from.and_then(|_| self.route(domain, prefix)).map(|route| &**route.attributes);
        Some(AdvertisedPath { domain, from, received, sent })
    }

    /// Why a peer is not advertised the best route of its domains to a prefix, that of its own side included; `None`: there is none, or it is
    /// advertised.
    pub fn why_not_advertised(
        &self,
        peer: PeerId,
        prefix: IpNet,
    ) -> Option<(DomainId, PathSource, HoldBack)> {
        let to = self.config.peer(peer).filter(|_| !self.has_advertised(peer, &prefix))?;
        to.domains.iter().find_map(|domain| {
            let best = self.route(*domain, prefix)?.best;
            let reason = self.held(peer, *domain, prefix).map_or(HoldBack::SameSide, |held| held.reason);
            Some((*domain, best, reason))
        })
    }
}

/// The policy and the rule that decide about a path on its way in.
fn policy_of<'a>(peer: &'a RibPeer, prefix: &IpNet, attributes: &PathAttributes) -> Option<(&'a str, u16)> {
    let policy = peer.import.as_ref();
    let (rule, _) = routes_policy::decision(policy, peer.source, prefix, attributes)?;
    Some((policy?.name.as_str(), rule + 1))
}

/// A candidate's path with its place among them.
fn ranked<'a>(
    own: ReceivedPath<'a>,
    preference: u32,
    candidates: &[Candidate<'_>],
    outcomes: &[Outcome],
    at: usize,
) -> ReceivedPath<'a> {
    let own = ReceivedPath { preference: Some(preference), ..own };
    let behind = || Some(candidates[decision::winner(candidates, outcomes, at)?].peer.source);
    match outcomes[at] {
        Outcome::Best => {
            let ahead =
                decision::runner_up(outcomes).map(|(next, rule)| (rule.name, candidates[next].peer.source));
            ReceivedPath { verdict: Some(Verdict::Best), ahead, ..own }
        }
        Outcome::Multipath(rule) => {
            ReceivedPath { verdict: Some(Verdict::Multipath(rule.name)), behind: behind(), ..own }
        }
        Outcome::Lost(rule) => {
            ReceivedPath { verdict: Some(Verdict::Lost(rule.name)), behind: behind(), ..own }
        }
    }
}

impl ReceivedPath<'_> {
    /// `best`, `used`, `not-used`, `refused` or `circuit-off`.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            None => "circuit-off",
            Some(Verdict::Best) => "best",
            Some(Verdict::Multipath(_)) => "used",
            Some(Verdict::Lost(_)) => "not-used",
            Some(Verdict::Refused(_)) => "refused",
        }
    }

    /// Why, as a sentence; `name` says how a peer is called.
    pub fn why(&self, name: impl Fn(PathSource) -> String) -> String {
        let better = self
            .behind
            .map_or_else(|| "another path".to_owned(), |peer| format!("the path of {}", name(peer)));
        match self.verdict {
            None => "the circuit is disabled or not provisioned, so none of its routes counts (A8)".into(),
            Some(Verdict::Best) => match self.ahead {
                None => "the only path".into(),
                Some((rule, next)) => format!("better than the path of {} by: {rule}", name(next)),
            },
            Some(Verdict::Multipath(rule)) => {
                format!("packets use it beside {better}, which others are advertised by: {rule}")
            }
            Some(Verdict::Lost(rule)) => format!("{better} is better by: {rule}"),
            Some(Verdict::Refused(refusal)) => format!("{refusal}"),
        }
    }
}
