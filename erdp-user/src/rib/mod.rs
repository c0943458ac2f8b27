//! The routing information base: what every peer said, what is believed, and what every peer is told. Pure: no I/O, no
//! clock, no randomness; the same inputs give the same outputs in the same order.
//!
//! # Files, in the order in which a route flows through them
//! - `topology`: what the configuration says of domains and peers, in the form needed here.
//! - `prefix_map`: a map by prefix for full tables.
//! - `adj_in`: [`AdjRibIn`], what one peer announced, refused routes with their reasons.
//! - `several`: those of its paths that have identifiers (RFC 7911).
//! - `stale`: graceful restart, as the one that helps. As the one that restarts, the controller waits (`core::inherit`).
//! - `kernel`: routes of the kernel, a source beside the peers.
//! - `connected`: subnets of our own that are announced, another such source.
//! - `policy`: what is refused on the way in and held back on the way out, one rule at a time.
//! - `routes_policy`: the same by the operator's own policies, and what they change.
//! - `bogons`: prefixes that have no business on Microsoft peering, and those that no network can be.
//! - `ignored`: which of what is refused is an error of the peer's, and logged.
//! - `communities`: names of Microsoft's communities, from a dated table.
//! - `decision`: the ordered rules that rank the paths to a prefix.
//! - `loc_rib`: the table of each domain, and how a prefix is decided.
//! - `drain`: Microsoft's maintenance, as its routes tell of it.
//! - `guard`: how many prefixes an MSEE is told, and which.
//! - `budget`: how many prefixes a peer may announce, and how much memory they may take.
//! - `adj_out`: [`AdjRibOut`], what one peer has been told, and how differences are packed.
//! - `hand_over`: what a peer has said and knows, for another process.
//! - `intern`: one copy of what many routes have in common.
//! - `view`: what operators see; `paths`: the same of one peer, path by path.
//!
//! # A route's way
//! [`Rib::update`] stores it and marks the prefix in each domain of the peer. Nothing is decided until someone asks:
//! [`Rib::take_fib_changes`] and [`Rib::take_outgoing`] decide the marked prefixes, so that a storm of updates for one
//! prefix is decided once. Both compare with what was handed out before and return real differences only.
//!
//! # What must never happen
//! A route crosses from one domain to another (invariant 8), or from MSEE to MSEE (requirement D9): a domain's table is
//! fed by its own peers only, and nobody is told what came from its own side, be it by way of the other edge box. What leads to a service is told to MSEEs only where a
//! chain to their peering goes through it.

mod adj_in;
mod adj_out;
pub mod bogons;
mod budget;
pub mod communities;
mod connected;
mod decision;
mod drain;
mod guard;
mod hand_over;
mod ignored;
mod intern;
mod kernel;
mod loc_rib;
mod paths;
mod policy;
mod prefix_map;
mod routes_policy;
mod several;
mod stale;
mod topology;
mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

pub use budget::Surplus;
pub use drain::is_draining;
pub use guard::Meter;
pub use hand_over::PeerTable;
pub use ignored::Ignored;
pub use kernel::{KernelHop, KernelPath};
pub use paths::{AdvertisedPath, ReceivedPath};
pub use policy::{HoldBack, Refusal};
pub use prefix_map::PrefixMap;
pub(crate) use topology::{DEFAULT_LOCAL_PREF, LAST_RESORT, SERVICE_LOCAL_PREF};
pub use topology::{RibConfig, RibDomain, RibPeer};
pub use view::{HeldRoute, PeerCounts, RefusedRoute, RouteView, Verdict};

use crate::bgp::{
    Aggregator, Excess, Family, Moment, PathAttributes, PathId, PeerId, Seconds, SessionFacts, Update,
};
use crate::config::{DomainId, Side};
use crate::types::{AttachmentId, PathSource};
use adj_in::AdjRibIn;
use adj_out::AdjRibOut;
use budget::Admitted;
use decision::{Candidate, Outcome};
use guard::Guard;
use intern::Interner;
use kernel::Sources;
use loc_rib::{Decided, LocRib, Paths, best_route, mark};
use policy::Import;

/// Prefixes for which a list that is filled again and again keeps its room.
const ROOM_KEPT: usize = 1 << 17;

/// Maps and sets of prefixes. Their order is never seen: what is handed out is sorted.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = HashSet<K, foldhash::fast::RandomState>;

/// One of the equally good paths to a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FibPath {
    /// Who has it.
    pub source: PathSource,
    /// Where packets go: a neighbour on the peer's attachment.
    pub next_hop: IpAddr,
    /// Which side that is.
    pub side: Side,
    /// Share of the flows in relation to the other paths, beside what its attachment's weight says.
    pub share: NonZero<u8>,
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
    /// What they are worth, for attachments that compare their circuits; [`LAST_RESORT`] for all others too.
    pub preference: u32,
    /// Without paths: packets are dropped on purpose, because we have announced an aggregate and nothing longer is there (D1), or
    /// because the kernel's route says so.
    pub discard: bool,
}

/// A peer that has announced more than it may (requirement D2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// Which.
    pub peer: PeerId,
    /// More of what.
    pub excess: Excess,
    /// How long it is to stay away the first time.
    pub wait: Seconds,
}

/// The prefix guard of a family of a domain has come to another level (requirement D1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardWarning {
    /// Where.
    pub domain: DomainId,
    /// Which family.
    pub family: Family,
    /// How it stands.
    pub meter: Meter,
}

/// The whole base. Peers and domains are those of the configuration, by index.
pub struct Rib {
    config: RibConfig,
    adj_in: Vec<AdjRibIn>,
    adj_out: Vec<AdjRibOut>,
    loc: Vec<LocRib>,
    /// IPv4 and IPv6 of each domain.
    guards: Vec<[Guard; 2]>,
    levels: Vec<[u8; 2]>,
    /// What the kernel says, and what is connected, by its source.
    kernel: BTreeMap<PathSource, kernel::KernelIn>,
    /// Attachments whose links carry nothing: their subnets are not announced.
    disconnected: BTreeSet<AttachmentId>,
    attributes: Interner<PathAttributes>,
    paths: Interner<Paths>,
    /// The paths that were decided last: most often also the next prefix's.
    last_paths: Option<Arc<Paths>>,
    now: Moment,
    /// Until when who is away, or telling again, may take.
    deadlines: BTreeMap<PeerId, Moment>,
    overflows: Vec<Overflow>,
    surpluses: budget::Surpluses,
    ignored: ignored::Log,
    /// Peers that have exceeded their limit on this session: what they say is not heard.
    overflowing: BTreeSet<PeerId>,
    /// Peers whose sessions we have ended ourselves, routes kept: they have forgotten nothing, whatever they say of their forwarding.
    ended_here: BTreeSet<PeerId>,
}

impl Rib {
    /// An empty base: all peers down.
    pub fn new(config: RibConfig) -> Rib {
        let guards = |domain: &RibDomain| domain.advertise.map(|limit| Guard::new(limit, domain.when_full));
        let mut rib = Rib {
            adj_in: config.peers.iter().map(|_| AdjRibIn::default()).collect(),
            adj_out: config.peers.iter().map(|_| AdjRibOut::default()).collect(),
            loc: config.domains.iter().map(|_| LocRib::default()).collect(),
            guards: config.domains.iter().map(guards).collect(),
            levels: config.domains.iter().map(|_| [0; 2]).collect(),
            kernel: BTreeMap::new(),
            disconnected: BTreeSet::new(),
            attributes: Interner::default(),
            paths: Interner::default(),
            last_paths: None,
            now: Moment::default(),
            deadlines: BTreeMap::new(),
            overflows: Vec::new(),
            surpluses: budget::Surpluses::default(),
            ignored: ignored::Log::default(),
            overflowing: BTreeSet::new(),
            ended_here: BTreeSet::new(),
            config,
        };
        rib.originate();
        rib
    }

    /// What it was made from.
    pub fn config(&self) -> &RibConfig {
        &self.config
    }

    /// A session is established, and the whole table is due to it. What the peer announced on an earlier one is forgotten (RFC
    /// 4271 section 6), unless it restarted gracefully.
    pub fn peer_up(&mut self, peer: PeerId, facts: &SessionFacts) {
        if self.adj_out.get(usize::from(peer.0)).is_some_and(AdjRibOut::is_up) || self.stale(peer) == 0 {
            self.peer_down(peer);
        } else {
            self.peer_back(peer, facts);
        }
        self.overflowing.remove(&peer);
        self.surpluses.begin(peer);
        self.open_out(peer, facts);
        if let Some(adj_in) = self.adj_in.get_mut(usize::from(peer.0)) {
            adj_in.router_id = facts.router_id;
        }
    }

    /// Everything that a peer may have to be told is due.
    fn open_out(&mut self, peer: PeerId, facts: &SessionFacts) {
        let Some(rib_peer) = self.config.peer(peer) else { return };
        let told = rib_peer.domains.iter().filter_map(|domain| {
            let index = usize::from(domain.0);
            let (loc, guards) = (self.loc.get(index)?, self.guards.get(index)?);
            let aggregates = guards.iter().flat_map(|guard| guard.aggregates().iter().copied());
            Some(loc.routes.keys().chain(aggregates))
        });
        if let Some(out) = self.adj_out.get_mut(usize::from(peer.0)) {
            out.open(facts, told.flatten());
        }
    }

    /// A session is over: everything that came over it is withdrawn.
    pub fn peer_down(&mut self, peer: PeerId) {
        if let Some(out) = self.adj_out.get_mut(usize::from(peer.0)) {
            out.close();
        }
        self.withdraw_all(peer);
    }

    /// Withdraws every route of a peer.
    fn withdraw_all(&mut self, peer: PeerId) {
        let Some(adj_in) = self.adj_in.get_mut(usize::from(peer.0)) else { return };
        self.surpluses.end(peer, adj_in.memory(), self.now);
        let gone = adj_in.clear();
        self.deadlines.remove(&peer);
        self.ended_here.remove(&peer);
        self.mark_all(peer, gone);
    }

    /// Another configuration of the same domains. Peers keep their identifiers and what they have announced, which is judged anew; one
    /// that is new has the next identifier, and one that is gone has no domains any more ([`Self::peer_down`] first). What follows
    /// is handed out as differences, as always.
    pub fn reconfigure(&mut self, config: RibConfig) {
        let before = mem::replace(&mut self.config, config);
        for peer in &mut self.config.peers {
            let was = before.source(peer.source);
            peer.spared = was.is_some_and(|was| was.spared);
            peer.unreached = was.is_some_and(|was| was.unreached);
            peer.link_local = was.and_then(|was| was.link_local);
        }
        self.adj_in.resize_with(self.config.peers.len(), AdjRibIn::default);
        self.adj_out.resize_with(self.config.peers.len(), AdjRibOut::default);
        if before.without_policies() == self.config.without_policies() {
            return self.exchange_policies(&before);
        }
        let config = &self.config;
        for (peer, adj_in) in config.peers.iter().zip(&mut self.adj_in) {
            let was = before.source(peer.source);
            let differing = adj_in.judge_again(|prefix, told| Import::new(config, peer, told).judge(prefix));
            let is_new_everywhere = was.is_none_or(|was| was.without_policies() != peer.without_policies());
            let all = adj_in.prefixes().filter(|_| is_new_everywhere);
            let changed = was.filter(|was| was.import != peer.import).into_iter().flat_map(|was| {
                let differs =
                    |prefix: &IpNet, it: &PathAttributes| was.changes(prefix, it) != peer.changes(prefix, it);
                adj_in
                    .routes()
                    .filter(move |(prefix, it)| differs(prefix, it.attributes))
                    .map(|(prefix, _)| prefix)
            });
            let touched: Vec<IpNet> = differing.into_iter().chain(all).chain(changed).collect();
            let domains = was.into_iter().flat_map(|was| &was.domains).chain(&peer.domains);
            for domain in domains {
                if let Some(loc) = self.loc.get_mut(usize::from(domain.0)) {
                    loc.undecided.extend(touched.iter().copied());
                }
            }
        }
        self.judge_kernel_again();
        self.originate();
        let said = |config: &RibConfig| (config.compares_circuits, config.chooses_circuits);
        let compares = said(&before) != said(&self.config);
        let differs = |domain: &&RibDomain| {
            compares || before.domain(domain.id).is_some_and(|was| was.enabled != domain.enabled)
        };
        let changed: Vec<DomainId> =
            self.config.domains.iter().filter(differs).map(|domain| domain.id).collect();
        changed.into_iter().for_each(|domain| self.decide_all(domain));
        for (peer, out) in self.config.peers.iter().zip(&mut self.adj_out) {
            if before.source(peer.source).is_some_and(|was| policy::exports_differ(was, peer)) {
                out.tell_again();
            }
            mark_everything(&self.loc, peer, out);
        }
        self.guard_again(|_| true);
    }

    /// A circuit's domain is enabled, or disabled (requirement A8): then no path in it counts, so its routes are in no table and nobody
    /// is advertised them. What its peers have announced is kept for the case that it is enabled again.
    pub fn enable(&mut self, domain: DomainId, enabled: bool) {
        let Some(it) = self.config.domains.get_mut(usize::from(domain.0)) else { return };
        if mem::replace(&mut it.enabled, enabled) != enabled {
            self.decide_all(domain);
        }
    }

    /// Every prefix that a domain has, or its peers have announced, is to be decided again.
    fn decide_all(&mut self, domain: DomainId) {
        let sources = self.config.domain(domain).map(|domain| domain.sources.as_slice()).unwrap_or_default();
        let speaking = sources.iter().filter_map(|source| source.peer());
        let announced = speaking.filter_map(|id| self.adj_in.get(usize::from(id.0)));
        let announced = announced.flat_map(|adj_in| adj_in.prefixes());
        let of_kernel = sources.iter().flat_map(|source| self.kernel_prefixes(*source));
        let prefixes: Vec<IpNet> = announced.chain(of_kernel).collect();
        if let Some(loc) = self.loc.get_mut(usize::from(domain.0)) {
            let reached: Vec<IpNet> = loc.routes.keys().collect();
            loc.undecided.extend(prefixes.into_iter().chain(reached));
        }
    }

    /// What MSEEs of some domains may be told is limited by what is configured now.
    fn guard_again(&mut self, is_meant: impl Fn(&RibDomain) -> bool) {
        let limits: Vec<_> = self
            .config
            .domains
            .iter()
            .filter(|domain| is_meant(domain))
            .map(|domain| (domain.id, domain.advertise, domain.when_full))
            .collect();
        for (domain, limits, when_full) in limits {
            let index = usize::from(domain.0);
            for (guard, limit) in self.guards.get_mut(index).into_iter().flatten().zip(limits) {
                guard.set_limit(limit, when_full);
            }
            let prefixes: Vec<IpNet> =
                self.loc.get(index).into_iter().flat_map(|loc| loc.routes.keys()).collect();
            prefixes.into_iter().for_each(|prefix| self.guard(domain, prefix));
            self.aggregate(domain);
        }
    }

    /// What a peer says. Prefixes withdrawn and announced in one message are announced (RFC 4271 section 4.3).
    /// From a peer that is not up it is nothing: nobody would ever withdraw it.
    pub fn update(&mut self, peer: PeerId, update: Update) {
        let index = usize::from(peer.0);
        if !self.adj_out.get(index).is_some_and(AdjRibOut::is_up) || self.overflowing.contains(&peer) {
            return;
        }
        for prefix in update.withdrawn {
            if self.adj_in.get_mut(index).is_some_and(|adj_in| adj_in.remove(prefix, update.path)) {
                self.mark(peer, prefix);
            }
        }
        if let Some(attributes) = update.attributes {
            self.announced(peer, &update.announced, update.path, attributes);
        }
        if let Some(mark) = update.refresh {
            self.refresh_mark(peer, mark);
        }
        if let Some(family) = update.end_of_rib {
            self.told_all(peer, family);
        }
    }

    fn announced(
        &mut self,
        peer: PeerId,
        prefixes: &[IpNet],
        path: Option<PathId>,
        attributes: Arc<PathAttributes>,
    ) {
        let Some(rib_peer) = self.config.peer(peer) else { return };
        let attributes = policy::marked(rib_peer, attributes);
        let Some(adj_in) = self.adj_in.get_mut(usize::from(peer.0)) else { return };
        let is_held = || self.attributes.get(&attributes).is_some_and(|set| adj_in.has_set(set));
        let Admitted { prefixes, surplus } =
            budget::admit(rib_peer, adj_in, prefixes, path, &attributes, is_held);
        if let Some((refused, excess)) = surplus {
            for prefix in refused.iter().filter(|prefix| adj_in.remove(**prefix, path)) {
                mark(&mut self.loc, rib_peer, *prefix);
            }
            self.surpluses.note(peer, &refused, excess);
        }
        if prefixes.is_empty() {
            return;
        }
        let attributes = self.attributes.shared(attributes);
        let import = Import::new(&self.config, rib_peer, &attributes);
        for prefix in prefixes.iter() {
            let refusals = import.judge(*prefix);
            self.ignored.note(peer, *prefix, refusals.as_ref());
            if adj_in.insert(*prefix, path, &attributes, refusals) {
                mark(&mut self.loc, rib_peer, *prefix);
            }
        }
        let excess =
            prefixes.first().map(Family::of).and_then(|it| budget::ending_excess(rib_peer, adj_in, it));
        if let (Some(max), Some(excess)) = (rib_peer.max_prefixes, excess) {
            self.overflowing.insert(peer);
            self.overflows.push(Overflow { peer, excess, wait: max.wait });
            // Before its session ends: none of it may be used or advertised meanwhile (D2).
            self.withdraw_all(peer);
        }
    }

    /// The peers that have announced too much since the last call. Nothing that they say is heard until their session is another.
    pub fn take_overflows(&mut self) -> Vec<Overflow> {
        mem::take(&mut self.overflows)
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
            let mut decided = mem::take(&mut loc.decided);
            decided.sort_by_key(|it| it.prefix);
            decided.dedup_by(|later, kept| {
                let is_same = later.prefix == kept.prefix;
                if is_same {
                    mem::swap(&mut kept.now, &mut later.now);
                }
                is_same
            });
            changes.reserve(decided.len());
            for Decided { prefix, before, now } in decided {
                if now.fib() != before.fib() {
                    let (paths, discard, preference) = now.fib();
                    // A route without a path is one of the kernel that drops.
                    let discard = discard || paths.is_some_and(|paths| paths.is_empty());
                    let paths = paths.cloned().unwrap_or_default();
                    changes.push(FibChange { domain, prefix, paths, preference, discard });
                }
            }
        }
        changes
    }

    /// What a peer must be told so that it knows what it should: real differences only, withdrawals first, prefixes
    /// with the same attributes together, one family to an update. After the first table of a session there is an
    /// End-of-RIB for each family (RFC 4724 section 2). Nothing for a peer that is down. A large table comes in parts, one with each
    /// call, as long as the peer [`Self::is_due`].
    pub fn take_outgoing(&mut self, peer: PeerId) -> Vec<Update> {
        if !self.has_outgoing(peer) {
            return Vec::new();
        }
        let Some(rib_peer) = self.config.peer(peer) else { return Vec::new() };
        let (config, loc, guards) = (&self.config, &self.loc, &self.guards);
        let sources = Sources { adj_in: &self.adj_in, kernel: &self.kernel };
        let attributes = &mut self.attributes;
        match self.adj_out.get_mut(usize::from(peer.0)) {
            Some(out) => out.take(rib_peer, |prefix| {
                let Due { attributes: due, is_new, .. } =
                    due(config, sources, loc, guards, rib_peer, prefix)?;
                Some(if is_new { attributes.shared(due) } else { due })
            }),
            None => Vec::new(),
        }
    }

    /// Whether [`Self::take_outgoing`] may have something for a peer.
    pub fn has_outgoing(&mut self, peer: PeerId) -> bool {
        self.decide();
        self.is_due(peer)
    }

    /// The same of what has been decided.
    pub fn is_due(&self, peer: PeerId) -> bool {
        self.adj_out.get(usize::from(peer.0)).is_some_and(AdjRibOut::is_due)
    }

    /// The guards that have come to another level since the last call.
    pub fn take_guard_warnings(&mut self) -> Vec<GuardWarning> {
        let mut warnings = Vec::new();
        for ((domain, guards), levels) in self.config.domains.iter().zip(&self.guards).zip(&mut self.levels) {
            for (at, family) in [Family::Ipv4Unicast, Family::Ipv6Unicast].into_iter().enumerate() {
                let meter = guards[at].meter();
                if mem::replace(&mut levels[at], meter.level()) != meter.level() {
                    warnings.push(GuardWarning { domain: domain.id, family, meter });
                }
            }
        }
        warnings
    }

    /// The families of a peer's session; none while it is down.
    pub fn families(&self, peer: PeerId) -> BTreeSet<Family> {
        self.adj_out.get(usize::from(peer.0)).map(AdjRibOut::families).unwrap_or_default()
    }
}

/// Everything that a peer knows, or should know, may have changed.
fn mark_everything(loc: &[LocRib], peer: &RibPeer, out: &mut AdjRibOut) {
    out.mark_told();
    let told = peer.domains.iter().filter_map(|domain| loc.get(usize::from(domain.0)));
    told.flat_map(|loc| loc.routes.keys()).for_each(|prefix| out.mark(prefix));
}

/// What a peer should know about a prefix.
struct Due {
    /// Whose path it is; `None`: an aggregate of ours.
    from: Option<PathSource>,
    /// As policy has them.
    attributes: Arc<PathAttributes>,
    /// Whether they are others than those received.
    is_new: bool,
}

/// What a peer should know about a prefix: the best path of the first of its domains that may be told.
fn due(
    config: &RibConfig,
    sources: Sources<'_>,
    loc: &[LocRib],
    guards: &[[Guard; 2]],
    peer: &RibPeer,
    prefix: IpNet,
) -> Option<Due> {
    let at = guard::at(Family::of(&prefix));
    peer.domains.iter().find_map(|domain| {
        let index = usize::from(domain.0);
        let guard = &guards.get(index)?[at];
        if peer.side.is_msee() && guard.aggregates().contains(&prefix) {
            return Some(Due { from: None, attributes: config.aggregate.clone(), is_new: false });
        }
        let (from, attributes) = match best_route(config, sources, loc.get(index)?, &prefix)? {
            (from, _) if from.is_internal() && peer.is_internal() => {
                best_external(config, sources, (peer, *domain), &prefix)?
            }
            best => best,
        };
        let imported = from.imported(&prefix, attributes);
        policy::export(from, peer, &imported).ok()?;
        if peer.side.is_msee() && !guard.passes(prefix) {
            return None;
        }
        let exported = peer.exported(from.source, &prefix, imported).ok()?;
        let told = policy::preferred(peer, from.configured_preference(&prefix, attributes), exported);
        let is_new = !Arc::ptr_eq(&told, attributes);
        Some(Due { from: Some(from.source), attributes: told, is_new })
    })
}

/// What the other edge box is told where its own path is the better one: the best that we have ourselves
/// (draft-ietf-idr-best-external). So it has our link at hand when its own fails, and knows that we have one (B1a). A link that is
/// without carrier or out of use is none.
fn best_external<'a>(
    config: &'a RibConfig,
    sources: Sources<'a>,
    (to, domain): (&RibPeer, DomainId),
    prefix: &IpNet,
) -> Option<(&'a RibPeer, &'a Arc<PathAttributes>)> {
    let is_offered = |it: &Candidate<'_>| {
        !it.peer.is_last_resort()
            && policy::export(it.peer, to, &it.peer.imported(prefix, it.attributes)).is_ok()
    };
    let offered: Vec<Candidate<'_>> = sources.candidates(config, domain, prefix).filter(is_offered).collect();
    let outcomes = decision::decide(&offered);
    let (best, _) = offered.iter().zip(outcomes).find(|(_, outcome)| *outcome == Outcome::Best)?;
    Some((best.peer, best.attributes))
}

/// The attributes of an aggregate: ours, and so said (RFC 4271 sections 5.1.6 and 5.1.7).
fn aggregate_of(asn: crate::bgp::Asn, router_id: std::net::Ipv4Addr) -> PathAttributes {
    PathAttributes {
        atomic_aggregate: true,
        aggregator: Some(Aggregator { asn, router_id }),
        ..PathAttributes::originated(IpAddr::V4(router_id))
    }
}
