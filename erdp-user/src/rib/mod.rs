//! The routing information base: what every peer said, what is believed, and what every peer is told. Pure: no I/O, no
//! clock, no randomness; the same inputs give the same outputs in the same order.
//!
//! # Files, in the order in which a route flows through them
//! - `topology`: what the configuration says of domains and peers, in the form needed here.
//! - `adj_in`: [`AdjRibIn`], what one peer announced, refused routes with their reasons.
//! - `policy`: what is refused on the way in and held back on the way out, one rule at a time.
//! - `bogons`: prefixes that have no business on Microsoft peering.
//! - `communities`: names of Microsoft's communities, from a dated table.
//! - `decision`: the ordered rules that rank the paths to a prefix.
//! - `adj_out`: [`AdjRibOut`], what one peer has been told, and how differences are packed.
//! - `intern`: one copy of what many routes have in common.
//! - `view`: what operators see.
//!
//! # A route's way
//! [`Rib::update`] stores it and marks the prefix in each domain of the peer. Nothing is decided until someone asks:
//! [`Rib::take_fib_changes`] and [`Rib::take_outgoing`] decide the marked prefixes, so that a storm of updates for one
//! prefix is decided once. Both compare with what was handed out before and return real differences only.
//!
//! # What must never happen
//! A route crosses from one domain to another (invariant 8), or from MSEE to MSEE (requirement D9): a domain's table is
//! fed by its own peers only, and nobody is told what came from its own side. What leads to a service is told to MSEEs only where a
//! chain to their peering goes through it.

mod adj_in;
mod adj_out;
pub mod bogons;
pub mod communities;
mod decision;
mod intern;
mod policy;
mod topology;
mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

pub use policy::{HoldBack, Refusal};
pub use topology::{RibConfig, RibDomain, RibPeer};
pub use view::{PeerCounts, RefusedRoute, RouteView, Verdict};

use crate::bgp::{Family, PathAttributes, PeerId, SessionFacts, Update};
use crate::config::{DomainId, Side};
use adj_in::AdjRibIn;
use adj_out::AdjRibOut;
use decision::{Candidate, Outcome};
use intern::Interner;

/// Maps and sets of prefixes. Their order is never seen: what is handed out is sorted.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = HashSet<K, foldhash::fast::RandomState>;

/// One of the equally good paths to a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FibPath {
    /// The peer that announced it.
    pub peer: PeerId,
    /// Where packets go: a neighbour on the peer's attachment.
    pub next_hop: IpAddr,
    /// Which side that is.
    pub side: Side,
}

/// How a domain reaches a prefix from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibChange {
    /// The routing domain.
    pub domain: DomainId,
    /// The prefix.
    pub prefix: IpNet,
    /// All paths, ordered by peer; all on one side; none: the prefix is gone.
    pub paths: Arc<[FibPath]>,
}

/// What is believed about one prefix in one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LocRoute {
    /// The one path that other peers are told about.
    best: PeerId,
    /// Its attributes as received.
    attributes: Arc<PathAttributes>,
    /// All paths that packets take, ordered by peer; one copy for all prefixes that have the same.
    paths: Arc<[FibPath]>,
}

/// The table of one domain.
#[derive(Default)]
struct LocRib {
    routes: Map<IpNet, LocRoute>,
    /// Prefixes to be decided again.
    undecided: Set<IpNet>,
    /// Prefixes decided since the last hand-out, with the paths that were handed out then.
    handed_out: Map<IpNet, Option<Arc<[FibPath]>>>,
}

/// The whole base. Peers and domains are those of the configuration, by index.
pub struct Rib {
    config: RibConfig,
    adj_in: Vec<AdjRibIn>,
    adj_out: Vec<AdjRibOut>,
    loc: Vec<LocRib>,
    attributes: Interner<PathAttributes>,
    paths: Interner<[FibPath]>,
}

impl Rib {
    /// An empty base: all peers down.
    pub fn new(config: RibConfig) -> Rib {
        Rib {
            adj_in: config.peers.iter().map(|_| AdjRibIn::default()).collect(),
            adj_out: config.peers.iter().map(|_| AdjRibOut::default()).collect(),
            loc: config.domains.iter().map(|_| LocRib::default()).collect(),
            attributes: Interner::default(),
            paths: Interner::default(),
            config,
        }
    }

    /// What it was made from.
    pub fn config(&self) -> &RibConfig {
        &self.config
    }

    /// A session is established. What the peer announced on an earlier one is forgotten (RFC 4271 section 6), and the
    /// whole table is due to it.
    pub fn peer_up(&mut self, peer: PeerId, facts: &SessionFacts) {
        self.peer_down(peer);
        let Some(rib_peer) = self.config.peer(peer) else { return };
        let told = rib_peer.domains.iter().filter_map(|domain| self.loc.get(usize::from(domain.0)));
        let due = told.flat_map(|loc| loc.routes.keys().copied());
        if let Some(out) = self.adj_out.get_mut(usize::from(peer.0)) {
            out.open(facts.families.clone(), due);
        }
        if let Some(adj_in) = self.adj_in.get_mut(usize::from(peer.0)) {
            adj_in.router_id = facts.router_id;
        }
    }

    /// A session is over: everything that came over it is withdrawn.
    pub fn peer_down(&mut self, peer: PeerId) {
        let index = usize::from(peer.0);
        let (Some(adj_in), Some(out)) = (self.adj_in.get_mut(index), self.adj_out.get_mut(index)) else {
            return;
        };
        out.close();
        let gone: Vec<IpNet> = adj_in.clear().collect();
        for prefix in gone {
            self.mark(peer, prefix);
        }
    }

    /// Another configuration of the same domains. Peers keep their identifiers and what they have announced, which is judged anew; one
    /// that is new has the next identifier, and one that is gone has no domains any more ([`Self::peer_down`] first). What follows
    /// is handed out as differences, as always.
    pub fn reconfigure(&mut self, config: RibConfig) {
        let before = mem::replace(&mut self.config, config);
        self.adj_in.resize_with(self.config.peers.len(), AdjRibIn::default);
        self.adj_out.resize_with(self.config.peers.len(), AdjRibOut::default);
        let config = &self.config;
        for (peer, adj_in) in config.peers.iter().zip(&mut self.adj_in) {
            let was = before.peer(peer.id);
            let differing = adj_in.judge_again(|prefix, told| policy::import(config, peer, prefix, told));
            let is_new_everywhere = was.is_none_or(|was| was != peer);
            let all = adj_in.routes().map(|(prefix, _)| *prefix).filter(|_| is_new_everywhere);
            let touched: Vec<IpNet> = differing.into_iter().chain(all).collect();
            let domains = was.into_iter().flat_map(|was| &was.domains).chain(&peer.domains);
            for domain in domains {
                if let Some(loc) = self.loc.get_mut(usize::from(domain.0)) {
                    loc.undecided.extend(touched.iter().copied());
                }
            }
        }
        for (peer, out) in self.config.peers.iter().zip(&mut self.adj_out) {
            out.mark_told();
            let told = peer.domains.iter().filter_map(|domain| self.loc.get(usize::from(domain.0)));
            told.flat_map(|loc| loc.routes.keys()).for_each(|prefix| out.mark(*prefix));
        }
    }

    /// What a peer says. Prefixes withdrawn and announced in one message are announced (RFC 4271 section 4.3).
    /// From a peer that is not up it is nothing: nobody would ever withdraw it.
    pub fn update(&mut self, peer: PeerId, update: Update) {
        if !self.adj_out.get(usize::from(peer.0)).is_some_and(AdjRibOut::is_up) {
            return;
        }
        for prefix in update.withdrawn {
            let removed =
                self.adj_in.get_mut(usize::from(peer.0)).is_some_and(|adj_in| adj_in.remove(prefix));
            if removed {
                self.mark(peer, prefix);
            }
        }
        let Some(attributes) = update.attributes else { return };
        let attributes = self.attributes.shared(attributes);
        for prefix in update.announced {
            let Some(rib_peer) = self.config.peer(peer) else { return };
            let refusals = policy::import(&self.config, rib_peer, prefix, &attributes);
            let adj_in = self.adj_in.get_mut(usize::from(peer.0));
            if adj_in.is_some_and(|adj_in| adj_in.insert(prefix, attributes.clone(), refusals)) {
                self.mark(peer, prefix);
            }
        }
    }

    /// A peer asks for our routes of a family again (RFC 2918): all of them are due, different or not.
    pub fn refresh(&mut self, peer: PeerId, family: Family) {
        if let Some(out) = self.adj_out.get_mut(usize::from(peer.0)) {
            out.refresh(family);
        }
    }

    /// The differences since the last call, by domain and prefix.
    pub fn take_fib_changes(&mut self) -> Vec<FibChange> {
        self.decide();
        let mut changes = Vec::new();
        for (index, loc) in self.loc.iter_mut().enumerate() {
            let Some(domain) = self.config.domains.get(index).map(|domain| domain.id) else { continue };
            for (prefix, before) in mem::take(&mut loc.handed_out) {
                let now = loc.routes.get(&prefix).map(|route| &route.paths);
                if now != before.as_ref() {
                    changes.push(FibChange { domain, prefix, paths: now.cloned().unwrap_or_default() });
                }
            }
        }
        changes.sort_unstable_by_key(|change| (change.domain, change.prefix));
        changes
    }

    /// What a peer must be told so that it knows what it should: real differences only, withdrawals first, prefixes
    /// with the same attributes together, one family to an update. After the first table of a session there is an
    /// End-of-RIB for each family (RFC 4724 section 2). Nothing for a peer that is down.
    pub fn take_outgoing(&mut self, peer: PeerId) -> Vec<Update> {
        self.decide();
        let Some(rib_peer) = self.config.peer(peer) else { return Vec::new() };
        let (config, loc) = (&self.config, &self.loc);
        match self.adj_out.get_mut(usize::from(peer.0)) {
            Some(out) => out.take(rib_peer, |prefix| Self::due(config, loc, rib_peer, prefix)),
            None => Vec::new(),
        }
    }

    /// Whether [`Self::take_outgoing`] may have something for a peer.
    pub fn has_outgoing(&mut self, peer: PeerId) -> bool {
        self.decide();
        self.adj_out.get(usize::from(peer.0)).is_some_and(AdjRibOut::is_due)
    }

    /// What a peer should know about a prefix: the best path of the first of its domains that may be told.
    fn due(config: &RibConfig, loc: &[LocRib], peer: &RibPeer, prefix: IpNet) -> Option<Arc<PathAttributes>> {
        peer.domains.iter().find_map(|domain| {
            let route = loc.get(usize::from(domain.0))?.routes.get(&prefix)?;
            let from = config.peer(route.best)?;
            policy::export(from, peer, &route.attributes).is_ok().then(|| route.attributes.clone())
        })
    }

    /// Notes that a peer's word on a prefix has changed.
    fn mark(&mut self, peer: PeerId, prefix: IpNet) {
        let Some(peer) = self.config.peer(peer) else { return };
        for domain in &peer.domains {
            if let Some(loc) = self.loc.get_mut(usize::from(domain.0)) {
                loc.undecided.insert(prefix);
            }
        }
    }

    /// Decides what is undecided.
    fn decide(&mut self) {
        for index in 0..self.loc.len() {
            let Some(domain) = self.config.domains.get(index).map(|domain| domain.id) else { continue };
            let Some(loc) = self.loc.get_mut(index) else { continue };
            for prefix in mem::take(&mut loc.undecided) {
                self.decide_prefix(domain, prefix);
            }
        }
    }

    fn decide_prefix(&mut self, domain: DomainId, prefix: IpNet) {
        let decided = self.best(domain, prefix);
        let Some(loc) = self.loc.get_mut(usize::from(domain.0)) else { return };
        let known = loc.routes.get(&prefix);
        if known == decided.as_ref() {
            return;
        }
        let told = |route: Option<&LocRoute>| route.map(|route| (route.best, route.attributes.clone()));
        let (before, now) = (told(known), told(decided.as_ref()));
        let paths = known.map(|route| route.paths.clone());
        loc.handed_out.entry(prefix).or_insert(paths);
        match decided {
            Some(route) => loc.routes.insert(prefix, route),
            None => loc.routes.remove(&prefix),
        };
        if before != now {
            let side = |best: Option<(PeerId, _)>| self.config.peer(best?.0).map(|peer| peer.side);
            let sides = [side(before), side(now)];
            self.mark_outgoing(domain, prefix, sides);
        }
    }

    /// A best path of these sides came or went: those on other sides may have to be told.
    fn mark_outgoing(&mut self, domain: DomainId, prefix: IpNet, sides: [Option<Side>; 2]) {
        for peer in self.config.peers.iter().filter(|peer| peer.domains.contains(&domain)) {
            let is_concerned = sides.into_iter().flatten().any(|side| !side.is_like(peer.side));
            if let Some(out) = self.adj_out.get_mut(usize::from(peer.id.0))
                && is_concerned
            {
                out.mark(prefix);
            }
        }
    }

    fn best(&mut self, domain: DomainId, prefix: IpNet) -> Option<LocRoute> {
        let candidates = self.candidates(domain, prefix);
        let outcomes = decision::decide(&candidates);
        let best = candidates.iter().zip(&outcomes).find(|(_, outcome)| **outcome == Outcome::Best)?.0;
        let (best, attributes) = (best.peer.id, best.attributes.clone());
        let used = candidates
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Best | Outcome::Multipath(_)))
            .map(|(candidate, _)| FibPath {
                peer: candidate.peer.id,
                next_hop: candidate.attributes.next_hop,
                side: candidate.peer.side,
            });
        let paths: Vec<FibPath> = used.collect();
        Some(LocRoute { best, attributes, paths: self.paths.shared_slice(&paths) })
    }

    /// The paths of a domain to a prefix that policy lets in, ordered by peer.
    fn candidates(&self, domain: DomainId, prefix: IpNet) -> Vec<Candidate<'_>> {
        let peers = self.config.domain(domain).map(|domain| domain.peers.as_slice()).unwrap_or_default();
        let candidate = |id: &PeerId| {
            let adj_in = self.adj_in.get(usize::from(id.0))?;
            let route = adj_in.route(prefix).filter(|route| route.refusal(domain).is_none())?;
            let peer = self.config.peer(*id)?;
            Some(Candidate { peer, router_id: adj_in.router_id, attributes: &route.attributes })
        };
        peers.iter().filter_map(candidate).collect()
    }

    /// The families of a peer's session; none while it is down.
    pub fn families(&self, peer: PeerId) -> BTreeSet<Family> {
        self.adj_out.get(usize::from(peer.0)).map(AdjRibOut::families).unwrap_or_default()
    }
}
