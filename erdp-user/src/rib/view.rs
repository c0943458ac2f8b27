//! What operators see of the base: best routes, every path with the reason why it is used or not, counts.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::decision::{self, Outcome};
use super::policy::Refusal;
use super::{FibPath, Rib};
use crate::bgp::{PathAttributes, PeerId};
use crate::config::DomainId;

/// Why a path is used or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Used, and told to others.
    Best,
    /// Used; this rule picked another one to be told to others.
    Multipath(&'static str),
    /// Not used: another path is better by this rule.
    Lost(&'static str),
    /// Not used: refused on the way in.
    Refused(Refusal),
}

/// A prefix that a domain can reach.
#[derive(Clone, Debug)]
pub struct RouteView<'a> {
    /// The domain.
    pub domain: DomainId,
    /// The prefix.
    pub prefix: IpNet,
    /// The peer whose path is told to others.
    pub best: PeerId,
    /// The attributes of that path, as received.
    pub attributes: &'a PathAttributes,
    /// All paths that packets take.
    pub paths: &'a [FibPath],
}

/// A route that a domain does not use, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedRoute {
    /// The peer that announced it.
    pub peer: PeerId,
    /// The domain that refused it.
    pub domain: DomainId,
    /// The prefix.
    pub prefix: IpNet,
    /// The reason.
    pub refusal: Refusal,
}

/// How many routes a peer has announced and been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PeerCounts {
    /// Announced by it.
    pub received: usize,
    /// Of those, refused by at least one domain.
    pub refused: usize,
    /// Told to it.
    pub advertised: usize,
}

impl Rib {
    /// The routes of a domain, ordered by prefix.
    pub fn routes(&self, domain: DomainId) -> impl Iterator<Item = RouteView<'_>> {
        let loc = self.loc.get(usize::from(domain.0));
        let mut routes: Vec<_> = loc.into_iter().flat_map(|loc| loc.routes.iter()).collect();
        routes.sort_unstable_by_key(|(prefix, _)| **prefix);
        routes.into_iter().map(move |(prefix, route)| RouteView {
            domain,
            prefix: *prefix,
            best: route.best,
            attributes: &route.attributes,
            paths: &route.paths,
        })
    }

    /// Every path of a domain to a prefix with its verdict, ordered by peer.
    pub fn explain(&self, domain: DomainId, prefix: IpNet) -> Vec<(PeerId, Arc<PathAttributes>, Verdict)> {
        let candidates = self.candidates(domain, prefix);
        let outcomes = decision::decide(&candidates);
        let ranked = candidates.iter().zip(outcomes).map(|(candidate, outcome)| {
            let verdict = match outcome {
                Outcome::Best => Verdict::Best,
                Outcome::Multipath(rule) => Verdict::Multipath(rule.name),
                Outcome::Lost(rule) => Verdict::Lost(rule.name),
            };
            (candidate.peer.id, candidate.attributes.clone(), verdict)
        });
        let refused = self.config.peers.iter().filter_map(|peer| {
            let route = self.adj_in.get(usize::from(peer.id.0))?.route(prefix)?;
            Some((peer.id, route.attributes.clone(), Verdict::Refused(route.refusal(domain)?)))
        });
        let mut all: Vec<_> = ranked.chain(refused).collect();
        all.sort_by_key(|(peer, _, _)| *peer);
        all
    }

    /// Every refused route, ordered by peer, prefix and domain.
    pub fn refused(&self) -> Vec<RefusedRoute> {
        let mut list = Vec::new();
        for (peer, adj_in) in self.config.peers.iter().zip(&self.adj_in) {
            for (prefix, route) in adj_in.routes() {
                list.extend(route.refusals.iter().map(|(domain, refusal)| RefusedRoute {
                    peer: peer.id,
                    domain: *domain,
                    prefix: *prefix,
                    refusal: *refusal,
                }));
            }
        }
        list.sort_unstable_by_key(|refused| (refused.peer, refused.prefix, refused.domain));
        list
    }

    /// The counts of a peer.
    pub fn peer_counts(&self, peer: PeerId) -> PeerCounts {
        let index = usize::from(peer.0);
        let (received, refused) = self.adj_in.get(index).map(|adj_in| adj_in.counts()).unwrap_or_default();
        PeerCounts { received, refused, advertised: self.adj_out.get(index).map_or(0, |out| out.count()) }
    }

    /// The number of prefixes that each domain reaches, in the order of domains.
    pub fn counts(&self) -> Vec<(DomainId, usize)> {
        self.config.domains.iter().zip(&self.loc).map(|(domain, loc)| (domain.id, loc.routes.len())).collect()
    }
}
