//! What operators see of the base: best routes, every path with the reason why it is used or not, counts.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::decision::{self, Outcome};
use super::policy::{self, HoldBack, Refusal};
use super::{FibPath, Meter, Rib, adj_in::AdjRibIn, best_route, guard, routes_policy};
use crate::bgp::{Family, PathAttributes, PathId, PeerId};
use crate::config::DomainId;
use crate::types::PathSource;

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
    pub best: PathSource,
    /// Which of its paths, where it tells several.
    pub best_path: Option<PathId>,
    /// The attributes of that path, as received.
    pub attributes: &'a Arc<PathAttributes>,
    /// All paths that packets take.
    pub paths: &'a [FibPath],
}

/// A route that a domain does not use, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedRoute {
    /// Who has announced it.
    pub source: PathSource,
    /// The domain that refused it.
    pub domain: DomainId,
    /// The prefix.
    pub prefix: IpNet,
    /// Which of the peer's paths, where it tells several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathId>,
    /// The reason.
    pub refusal: Refusal,
}

/// A best path that a peer on another side is not told, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldRoute {
    /// The peer that is not told.
    pub peer: PeerId,
    /// The domain whose route it is.
    pub domain: DomainId,
    /// The prefix.
    pub prefix: IpNet,
    /// The reason.
    pub reason: HoldBack,
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
    /// Of those announced, kept from before and not said again yet.
    pub stale: usize,
    /// Of those announced, marked as to be spared: maintenance at Microsoft (requirement B7).
    pub draining: usize,
    /// What they take in bytes, as it is counted against its limit.
    pub memory: usize,
    /// How often one was refused because the peer announces more than it may (requirement D2), ever.
    pub surplus: u64,
    /// Whether some are missing for that reason.
    pub is_over: bool,
    /// Not told to it now because no message of the session could hold their attributes.
    pub too_long: usize,
    /// How often a route was told to it without attributes that ERDP does not read, ever.
    pub stripped: u64,
}

impl Rib {
    /// The routes of a domain, ordered by prefix.
    pub fn routes(&self, domain: DomainId) -> impl Iterator<Item = RouteView<'_>> {
        let mut prefixes = self.reached(domain);
        prefixes.sort_unstable();
        prefixes.into_iter().filter_map(move |prefix| self.route(domain, prefix))
    }

    /// The prefixes that a domain reaches, in no order: what [`Self::route`] is asked with.
    pub fn reached(&self, domain: DomainId) -> Vec<IpNet> {
        let loc = self.loc.get(usize::from(domain.0));
        let mut prefixes = Vec::with_capacity(loc.map_or(0, |loc| loc.routes.len()));
        prefixes.extend(loc.into_iter().flat_map(|loc| loc.routes.keys()));
        prefixes
    }

    /// The route of a domain to a prefix.
    pub fn route(&self, domain: DomainId, prefix: IpNet) -> Option<RouteView<'_>> {
        let paths = self.loc.get(usize::from(domain.0))?.routes.get(&prefix)?;
        let attributes = self.sources().attributes(paths.best, &prefix, paths.best_path)?;
        let (best, best_path) = (paths.best, paths.best_path);
        Some(RouteView { domain, prefix, best, best_path, attributes, paths: &paths.list })
    }

    /// Every path of a domain to a prefix with its verdict, ordered by peer.
    pub fn explain(
        &self,
        domain: DomainId,
        prefix: IpNet,
    ) -> Vec<(PathSource, Arc<PathAttributes>, Verdict)> {
        let candidates: Vec<_> = self.candidates(domain, &prefix).collect();
        let outcomes = decision::decide(&candidates);
        let ranked = candidates.iter().zip(outcomes).map(|(candidate, outcome)| {
            let verdict = match outcome {
                Outcome::Best => Verdict::Best,
                Outcome::Multipath(rule) => Verdict::Multipath(rule.name),
                Outcome::Lost(rule) => Verdict::Lost(rule.name),
            };
            (candidate.peer.source, candidate.attributes.clone(), verdict)
        });
        let refused = self.config.peers.iter().zip(&self.adj_in);
        let refused = refused.map(|(peer, adj_in)| (peer.source, adj_in.paths(&prefix)));
        let refused = refused.flat_map(|(peer, paths)| {
            paths.filter_map(move |it| {
                Some((peer, it.attributes.clone(), Verdict::Refused(it.refusal(domain)?)))
            })
        });
        let kernel = self.config.kernel.iter().chain(&self.config.connected).filter_map(|source| {
            let (refusal, attributes) = self.kernel_refusal(source, &prefix, domain)?;
            Some((source.source, attributes, Verdict::Refused(refusal)))
        });
        let mut all: Vec<_> = ranked.chain(refused).chain(kernel).collect();
        all.sort_by_key(|(peer, _, _)| *peer);
        all
    }

    /// Every refused route, ordered by peer, prefix and domain.
    pub fn refused(&self) -> Vec<RefusedRoute> {
        let of_source = |source: PathSource| {
            let mut prefixes = self.refused_from(source);
            prefixes.sort_unstable();
            prefixes.dedup();
            prefixes.into_iter().flat_map(move |prefix| self.refusals(source, prefix))
        };
        self.sources_of_routes().into_iter().flat_map(of_source).collect()
    }

    /// Whatever routes come from, in order: peers, and the kernel and subnets of ours as sources beside them.
    pub fn sources_of_routes(&self) -> Vec<PathSource> {
        let peers = self.config.peers.iter().map(|peer| peer.source);
        let mut sources: Vec<PathSource> = peers.chain(self.kernel.keys().copied()).collect();
        sources.sort_unstable();
        sources
    }

    /// The prefixes of a source's refused routes, in no order and some more than once: what [`Self::refusals`] is asked with.
    pub fn refused_from(&self, source: PathSource) -> Vec<IpNet> {
        match (source.peer().and_then(|peer| self.adj_in_of(peer)), self.kernel.get(&source)) {
            (Some(adj_in), _) => adj_in.refused().map(|(prefix, ..)| prefix).collect(),
            (None, Some(table)) => table.refused().map(|(prefix, _)| prefix).collect(),
            (None, None) => Vec::new(),
        }
    }

    /// A source's refused routes to a prefix, ordered by path and domain.
    pub fn refusals(&self, source: PathSource, prefix: IpNet) -> Vec<RefusedRoute> {
        let row = |path: Option<PathId>, (domain, refusal): (DomainId, Refusal)| RefusedRoute {
            source,
            domain,
            prefix,
            path,
            refusal,
        };
        let mut list: Vec<RefusedRoute> =
            match (source.peer().and_then(|peer| self.adj_in_of(peer)), self.kernel.get(&source)) {
                (Some(adj_in), _) => {
                    let refused = adj_in.paths(&prefix).filter_map(|it| Some((it.path, it.refusals?)));
                    refused
                        .flat_map(|(path, refusals)| refusals.iter().map(move |it| row(path, *it)))
                        .collect()
                }
                (None, Some(table)) => table.refusals(&prefix).map(|it| row(None, *it)).collect(),
                (None, None) => Vec::new(),
            };
        list.sort_unstable_by_key(|refused| (refused.path, refused.domain));
        list
    }

    /// What a peer has announced.
    fn adj_in_of(&self, peer: PeerId) -> Option<&AdjRibIn> {
        self.adj_in.get(usize::from(peer.0))
    }

    /// The counts of a peer.
    pub fn peer_counts(&self, peer: PeerId) -> PeerCounts {
        let index = usize::from(peer.0);
        let Some(adj_in) = self.adj_in.get(index) else { return PeerCounts::default() };
        let (received, refused) = adj_in.counts();
        let (surplus, is_over) = self.surpluses.counts(peer);
        let out = self.adj_out.get(index);
        PeerCounts {
            received,
            refused,
            advertised: out.map_or(0, |out| out.count()),
            memory: adj_in.memory(),
            surplus,
            is_over,
            too_long: out.map_or(0, |out| out.too_long().len()),
            stripped: out.map_or(0, |out| out.stripped()),
            stale: adj_in.stale(),
            draining: adj_in.draining(),
        }
    }

    /// Whether nothing that a peer has announced is its own: what has been through us already (RFC 4271 section 9.1.2) only comes back.
    pub fn brings_nothing(&self, peer: PeerId) -> bool {
        let has_been_here = |it: &PathAttributes| it.as_path.contains(self.config.local_asn);
        self.adj_in_of(peer).is_none_or(|adj_in| adj_in.routes().all(|(_, it)| has_been_here(it.attributes)))
    }

    /// Whether a peer has some usable route that came into our AS from Microsoft: the other edge box has a link that works (B1a). It
    /// tells its own also where it prefers ours.
    pub fn brings_microsoft(&self, peer: PeerId) -> bool {
        let index = usize::from(peer.0);
        let (Some(config), Some(adj_in)) = (self.config.peer(peer), self.adj_in.get(index)) else {
            return false;
        };
        adj_in.routes().any(|(_, it)| it.refusals.is_none() && config.origin(it.attributes).is_msee())
    }

    /// What peers on the other side are not told, and why; ordered by peer and prefix. That a side is not told its own routes is no
    /// news, and left out.
    pub fn held_back(&self) -> Vec<HeldRoute> {
        let of_peer = |peer: PeerId| {
            let mut routes = self.told_or_held(peer);
            routes.sort_unstable();
            routes.into_iter().filter_map(move |(prefix, domain)| self.held(peer, domain, prefix))
        };
        (0..self.config.peers.len() as u16).map(PeerId).flat_map(of_peer).collect()
    }

    /// Every best route that a peer is told or not told, in no order: what [`Self::held`] is asked with. Nothing while it has no session.
    pub fn told_or_held(&self, peer: PeerId) -> Vec<(IpNet, DomainId)> {
        if self.families(peer).is_empty() {
            return Vec::new();
        }
        let domains = self.config.domains.iter().zip(&self.loc);
        let of_it: Vec<_> = domains.filter(|(domain, _)| domain.sources.contains(&peer.into())).collect();
        let mut routes = Vec::with_capacity(of_it.iter().map(|(_, loc)| loc.routes.len()).sum());
        for (domain, loc) in of_it {
            routes.extend(loc.routes.keys().map(|prefix| (prefix, domain.id)));
        }
        routes
    }

    /// Why a peer is not told a domain's best route to a prefix; `None`: it is, or it is of its own side.
    pub fn held(&self, peer: PeerId, domain: DomainId, prefix: IpNet) -> Option<HeldRoute> {
        let to = self.config.peer(peer)?;
        let index = usize::from(domain.0);
        let (loc, guards) = (self.loc.get(index)?, self.guards.get(index)?);
        let (from, attributes) = best_route(&self.config, self.sources(), loc, &prefix)?;
        let guard = &guards[guard::at(Family::of(&prefix))];
        let imported = from.imported(&prefix, attributes);
        let by_policy = |imported| to.exported(from.source, &prefix, imported).err().map(HoldBack::ByPolicy);
        let reason = match policy::export(from, to, &imported) {
            Err(HoldBack::SameSide) => return None,
            Err(reason) => reason,
            Ok(()) => match by_policy(imported) {
                Some(reason) => reason,
                None if to.side.is_msee() && !guard.passes(prefix) => guard.reason(prefix),
                None if self.is_too_long(peer, &prefix) => HoldBack::TooLong,
                None => return None,
            },
        };
        Some(HeldRoute { peer, prefix, domain, reason })
    }

    /// Why a route is refused, as a sentence: by a policy in its operator's words.
    pub fn why_refused(&self, source: PathSource, refusal: Refusal) -> String {
        let by_policy = || match refusal {
            Refusal::ByPolicy(rule) => {
                routes_policy::reason(self.config.source(source)?.import.as_ref(), rule)
            }
            _ => None,
        };
        by_policy().unwrap_or_else(|| refusal.to_string())
    }

    /// Why a peer is not advertised a route, as a sentence: by a policy in its operator's words.
    pub fn why_held_back(&self, peer: PeerId, reason: HoldBack) -> String {
        let by_policy = || match reason {
            HoldBack::ByPolicy(rule) => routes_policy::reason(self.config.peer(peer)?.export.as_ref(), rule),
            _ => None,
        };
        by_policy().unwrap_or_else(|| reason.to_string())
    }

    /// The attributes of a route's best path after policy.
    pub fn imported(&self, route: &RouteView<'_>) -> Arc<PathAttributes> {
        match self.config.source(route.best) {
            Some(from) => from.imported(&route.prefix, route.attributes),
            None => route.attributes.clone(),
        }
    }

    fn is_too_long(&self, peer: PeerId, prefix: &IpNet) -> bool {
        self.adj_out.get(usize::from(peer.0)).is_some_and(|out| out.too_long().contains(prefix))
    }

    /// A prefix that a peer is not told because no message could hold it, if there has been a new one since the last call.
    pub fn take_too_long(&mut self, peer: PeerId) -> Option<IpNet> {
        self.adj_out.get_mut(usize::from(peer.0))?.take_too_long()
    }

    /// The guards: domain, family, meter.
    pub fn meters(&self) -> Vec<(DomainId, Family, Meter)> {
        let of = |(domain, guards): (&super::RibDomain, &[super::Guard; 2])| {
            let families = [Family::Ipv4Unicast, Family::Ipv6Unicast];
            let meters = [guards[0].meter(), guards[1].meter()];
            families
                .into_iter()
                .zip(meters)
                .map(|(family, meter)| (domain.id, family, meter))
                .collect::<Vec<_>>()
        };
        self.config.domains.iter().zip(&self.guards).flat_map(of).collect()
    }

    /// Whether packets from an address towards Microsoft find a way back: some MSEE of the domain has been told of it (requirement
    /// D8). `None`: no MSEE's session is up.
    pub fn has_return_route(&self, domain: DomainId, source: std::net::IpAddr) -> Option<bool> {
        let peers = self.config.domain(domain)?.sources.iter().filter_map(|source| source.peer());
        let family = Family::of_address(source);
        let mut covered = None;
        let is_msee = |id: &PeerId| self.config.peer(*id).is_some_and(|peer| peer.side.is_msee());
        for id in peers.filter(is_msee) {
            let out = self.adj_out.get(usize::from(id.0)).filter(|out| out.families().contains(&family));
            covered = out.map(|out| out.covers(source) || covered == Some(true)).or(covered);
        }
        covered
    }

    /// The number of prefixes that each domain reaches, in the order of domains.
    pub fn counts(&self) -> Vec<(DomainId, usize)> {
        self.config.domains.iter().zip(&self.loc).map(|(domain, loc)| (domain.id, loc.routes.len())).collect()
    }
}
