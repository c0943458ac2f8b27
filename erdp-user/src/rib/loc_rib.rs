//! The Loc-RIB (RFC 4271 section 3.2): the table of each domain, and the decision that fills it.
//!
//! A prefix is marked when something is said about it and decided when somebody asks, once for all that was said. What was decided is kept
//! until it is handed out, and what peers and the prefix limiter must look at again is marked for them.

use std::{collections::BTreeSet, mem, sync::Arc};

use ipnet::IpNet;

use super::{
    DEFAULT_LOCAL_PREF, FibPath, PrefixMap, ROOM_KEPT, Rib, RibConfig, RibPeer,
    adj_out::AdjRibOut,
    decision::{self, Candidate, Outcome},
    guard,
    kernel::{Sources, path_of},
    policy,
};
use crate::{
    bgp::{Family, PathAttributes, PathId, PeerId},
    config::{DomainId, Side},
    types::PathSource,
};

/// Equally good paths, and the one of them that others are told about: one copy for all prefixes that have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Paths {
    pub(super) best: PathSource,
    /// Which of its paths, where it tells several.
    pub(super) best_path: Option<PathId>,
    /// Ordered by peer; each next hop once.
    pub(super) list: Arc<[FibPath]>,
    /// What they are worth where attachments compare their circuits, and where they are a last resort; else what most routes are.
    pub(super) preference: u32,
}

/// What packets are to do about a prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) paths: Option<Arc<Paths>>,
    pub(super) discard: bool,
}

impl Told {
    /// As packets see it: who is best among the same paths is nothing to them, and their way to a connected subnet is no route of ours.
    pub(super) fn fib(&self) -> (Option<&Arc<[FibPath]>>, bool, u32) {
        let routed = self.paths.as_ref().filter(|paths| !matches!(paths.best, PathSource::Static(_)));
        let preference = routed.map_or(DEFAULT_LOCAL_PREF, |paths| paths.preference);
        (routed.map(|paths| &paths.list), self.discard, preference)
    }
}

/// A prefix that was decided again: what packets were to do before, and now.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) prefix: IpNet,
    pub(super) before: Told,
    pub(super) now: Told,
}

/// The table of one domain.
#[derive(Default)]
pub(super) struct LocRib {
    /// Paths only: the attributes of the best one are where its peer announced them ([`best_route`]), and a full table is in memory
    /// often enough.
    pub(super) routes: PrefixMap<Arc<Paths>>,
    /// Aggregates that we have announced for what is behind us.
    pub(super) discards: BTreeSet<IpNet>,
    /// Prefixes to be decided again, perhaps more than once.
    pub(super) undecided: Vec<IpNet>,
    /// Prefixes decided since the last hand-out, in order: the first entry of each says what was handed out, the last what is to be.
    pub(super) decided: Vec<Decided>,
}

impl LocRib {
    pub(super) fn now(&self, prefix: &IpNet) -> Told {
        let paths = self.routes.get(prefix).cloned();
        let discard = paths.is_none() && self.discards(prefix);
        Told { paths, discard }
    }

    pub(super) fn discards(&self, prefix: &IpNet) -> bool {
        !self.discards.is_empty() && self.discards.contains(prefix)
    }
}

/// The best of some candidates.
#[derive(Clone, Copy)]
struct Best {
    source: PathSource,
    path: Option<PathId>,
    preference: u32,
}

impl Best {
    fn of(candidate: &Candidate<'_>, config: &RibConfig) -> Self {
        let is_said = config.compares_circuits || config.chooses_circuits && candidate.is_last_resort();
        let preference = if is_said { candidate.preference } else { DEFAULT_LOCAL_PREF };
        Self { source: candidate.peer.source, path: candidate.path, preference }
    }
}

impl Rib {
    /// Notes that a peer's word on a prefix has changed.
    pub(super) fn mark(&mut self, peer: PeerId, prefix: IpNet) {
        if let Some(peer) = self.config.peer(peer) {
            mark(&mut self.loc, peer, prefix);
        }
    }

    /// Decides what is undecided.
    pub(super) fn decide(&mut self) {
        for index in 0..self.loc.len() {
            let Some(domain) = self.config.domains.get(index).map(|domain| domain.id) else { continue };
            let Some(loc) = self.loc.get_mut(index) else { continue };
            if loc.undecided.is_empty() {
                continue;
            }
            let mut undecided = mem::take(&mut loc.undecided);
            undecided.sort_unstable();
            undecided.dedup();
            for prefix in undecided.drain(..) {
                self.decide_prefix(domain, prefix);
            }
            // The next batch needs as much room, if this was an ordinary one.
            if let Some(loc) = self.loc.get_mut(index).filter(|_| undecided.capacity() <= ROOM_KEPT) {
                loc.undecided = undecided;
            }
            self.aggregate(domain);
        }
    }

    fn decide_prefix(&mut self, domain: DomainId, prefix: IpNet) {
        let decided = self.best(domain, prefix);
        let Some(loc) = self.loc.get_mut(usize::from(domain.0)) else { return };
        let discard = loc.discards(&prefix);
        let before = match &decided {
            Some(paths) => loc.routes.insert(&prefix, paths.clone()),
            None => match loc.routes.remove(&prefix) {
                None => return,
                before => before,
            },
        };
        // Both are interned: equal ones are at one address.
        if before.as_ref().map(Arc::as_ptr) != decided.as_ref().map(Arc::as_ptr) {
            let told = |paths: &Option<Arc<Paths>>| Told {
                paths: paths.clone(),
                discard: paths.is_none() && discard,
            };
            loc.decided.push(Decided { prefix, before: told(&before), now: told(&decided) });
        }
        // Attributes may differ where paths do not; whoever is told compares with what it was told.
        let side =
            |paths: &Option<Arc<Paths>>| self.config.source(paths.as_ref()?.best).map(|peer| peer.side);
        let sides = [side(&before), side(&decided)];
        // What comes from Microsoft is not for Microsoft.
        if sides.into_iter().flatten().any(|side| !side.is_msee()) {
            self.guard(domain, prefix);
        }
        self.mark_outgoing(domain, prefix, sides);
    }

    /// Whether MSEEs are to be told of a prefix has changed, perhaps; others may have to make room, or have room now.
    pub(super) fn guard(&mut self, domain: DomainId, prefix: IpNet) {
        let index = usize::from(domain.0);
        let (Some(rib_domain), Some(guards), Some(loc)) =
            (self.config.domains.get(index), self.guards.get_mut(index), self.loc.get(index))
        else {
            return;
        };
        let sources = Sources { adj_in: &self.adj_in, kernel: &self.kernel };
        let wanted = best_route(&self.config, sources, loc, &prefix).is_some_and(|(from, attributes)| {
            policy::is_for_microsoft(from, rib_domain, &prefix, &from.imported(&prefix, attributes))
        });
        let guard = &mut guards[guard::at(Family::of(&prefix))];
        let changed = if wanted { guard.add(prefix) } else { guard.remove(prefix) };
        for other in changed.into_iter().filter(|other| *other != prefix) {
            mark_msees(&self.config, &mut self.adj_out, domain, other);
        }
    }

    /// Aggregates follow what is to be told; each that comes is a discard route here, unless there is a real one.
    pub(super) fn aggregate(&mut self, domain: DomainId) {
        let index = usize::from(domain.0);
        let (Some(guards), Some(loc)) = (self.guards.get_mut(index), self.loc.get_mut(index)) else { return };
        for guard in guards {
            let (changed, concerned) = guard.settle();
            for (prefix, comes) in changed {
                let before = loc.now(&prefix);
                if comes {
                    loc.discards.insert(prefix);
                } else {
                    loc.discards.remove(&prefix);
                }
                loc.decided.push(Decided { prefix, before, now: loc.now(&prefix) });
                mark_msees(&self.config, &mut self.adj_out, domain, prefix);
            }
            for prefix in concerned {
                mark_msees(&self.config, &mut self.adj_out, domain, prefix);
            }
        }
    }

    /// A best path of these sides came or went: those on other sides may have to be told.
    fn mark_outgoing(&mut self, domain: DomainId, prefix: IpNet, sides: [Option<Side>; 2]) {
        let sources = self.config.domain(domain).map(|domain| domain.sources.as_slice()).unwrap_or_default();
        for id in sources.iter().filter_map(|source| source.peer()) {
            let (Some(out), Some(peer)) = (self.adj_out.get_mut(usize::from(id.0)), self.config.peer(id))
            else {
                continue;
            };
            // The other box is told of our own paths also where they are not the best.
            let is_concerned =
                || peer.is_internal() || sides.into_iter().flatten().any(|side| !side.is_like(peer.side));
            if out.is_up() && is_concerned() {
                out.mark(prefix);
            }
        }
    }

    fn best(&mut self, domain: DomainId, prefix: IpNet) -> Option<Arc<Paths>> {
        let mut candidates = self.candidates(domain, &prefix);
        let first = candidates.next()?;
        let Some(second) = candidates.next() else {
            let best = Best::of(&first, &self.config);
            let (only, of_kernel) = match first.peer.source {
                // Most prefixes of a full table: nothing to allocate.
                PathSource::Peer(_) => (Some(path_of(&first)), Vec::new()),
                PathSource::Kernel(_) | PathSource::Static(_) => (None, self.paths_of(&first, &prefix)),
            };
            drop(candidates);
            return Some(self.shared_paths(best, only.as_ref().map_or(&of_kernel, std::slice::from_ref)));
        };
        let all: Vec<Candidate<'_>> = [first, second].into_iter().chain(candidates).collect();
        let outcomes = decision::decide(&all);
        let best = all.iter().zip(&outcomes).find(|(_, outcome)| **outcome == Outcome::Best)?.0;
        let best = Best::of(best, &self.config);
        let used = all
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Best | Outcome::Multipath(_)))
            .flat_map(|(candidate, _)| self.paths_of(candidate, &prefix));
        let mut list: Vec<FibPath> = used.collect();
        // Several paths of one peer may have one next hop.
        list.sort_unstable();
        list.dedup();
        drop(all);
        Some(self.shared_paths(best, &list))
    }

    fn shared_paths(&mut self, best: Best, list: &[FibPath]) -> Arc<Paths> {
        let Best { source, path, preference } = best;
        let is_it = |last: &&Arc<Paths>| {
            (last.best, last.best_path, last.preference) == (source, path, preference) && *last.list == *list
        };
        if let Some(last) = self.last_paths.as_ref().filter(is_it) {
            return last.clone();
        }
        let paths = Paths { best: source, best_path: path, list: list.into(), preference };
        let shared = self.paths.shared(Arc::new(paths));
        self.last_paths = Some(shared.clone());
        shared
    }

    /// The paths of a domain to a prefix that policy lets in, ordered by peer.
    pub(super) fn candidates<'a>(
        &'a self,
        domain: DomainId,
        prefix: &'a IpNet,
    ) -> impl Iterator<Item = Candidate<'a>> {
        self.sources().candidates(&self.config, domain, prefix)
    }
}

pub(super) fn mark(loc: &mut [LocRib], peer: &RibPeer, prefix: IpNet) {
    for domain in &peer.domains {
        if let Some(loc) = loc.get_mut(usize::from(domain.0)) {
            loc.undecided.push(prefix);
        }
    }
}

/// The best path to a prefix as its peer announced it; none for a moment, where that peer has taken it back and nothing is decided
/// again yet.
pub(super) fn best_route<'a>(
    config: &'a RibConfig,
    sources: Sources<'a>,
    loc: &LocRib,
    prefix: &IpNet,
) -> Option<(&'a RibPeer, &'a Arc<PathAttributes>)> {
    let paths = loc.routes.get(prefix)?;
    let from = config.source(paths.best)?;
    Some((from, sources.attributes(from.source, prefix, paths.best_path)?))
}

/// What the MSEEs of a domain are told about a prefix may have changed.
fn mark_msees(config: &RibConfig, adj_out: &mut [AdjRibOut], domain: DomainId, prefix: IpNet) {
    let sources = config.domain(domain).map(|domain| domain.sources.as_slice()).unwrap_or_default();
    for id in sources.iter().filter_map(|source| source.peer()) {
        if let (Some(out), Some(peer)) = (adj_out.get_mut(usize::from(id.0)), config.peer(id))
            && peer.side.is_msee()
        {
            out.mark(prefix);
        }
    }
}
