//! What one peer announced: on its present session, or on the one before while it restarts gracefully. Refused routes stay, each with
//! its reasons, so that an operator can be told why a route is not used.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;

use super::budget::{HeldSets, PREFIX_BYTES, REFUSED_BYTES};
use super::drain::is_draining;
use super::several::SeveralPaths;
use super::{Set, guard, policy::Refusal, prefix_map::PrefixMap};
use crate::bgp::{Family, PathAttributes, PathId};
use crate::config::DomainId;

/// The domains that refused a route, each with its reason.
pub(super) type Refusals = Box<[(DomainId, Refusal)]>;

/// One of the paths that a peer has announced to a prefix.
#[derive(Clone, Copy)]
pub(super) struct PathIn<'a> {
    /// Which, of a peer that tells several.
    pub path: Option<PathId>,
    /// As received.
    pub attributes: &'a Arc<PathAttributes>,
    /// The domains that refused it.
    pub refusals: Option<&'a Refusals>,
}

impl PathIn<'_> {
    /// Why a domain refused it.
    pub fn refusal(&self, domain: DomainId) -> Option<Refusal> {
        let of_domain = self.refusals?.iter().find(|(refused_by, _)| *refused_by == domain);
        of_domain.map(|(_, refusal)| *refusal)
    }
}

/// Adj-RIB-In (RFC 4271 section 3.2).
pub(super) struct AdjRibIn {
    /// The peer's BGP identifier, of which the lower is preferred.
    pub router_id: Ipv4Addr,
    /// Attributes as received, one copy of each set.
    routes: PrefixMap<Arc<PathAttributes>>,
    /// What these sets take.
    sets: HeldSets,
    /// Of those, the refused ones.
    refused: PrefixMap<Refusals>,
    /// Of those, what the peer has not said again since it was lost or began to tell everything again.
    stale: Set<IpNet>,
    /// Routes by which the peer asks to be spared.
    draining: usize,
    /// What has identifiers: of a peer that tells several paths to a prefix, in the families where that was agreed on.
    several: SeveralPaths,
}

impl Default for AdjRibIn {
    fn default() -> Self {
        AdjRibIn {
            router_id: Ipv4Addr::UNSPECIFIED,
            routes: PrefixMap::default(),
            sets: HeldSets::default(),
            refused: PrefixMap::default(),
            stale: Set::default(),
            draining: 0,
            several: SeveralPaths::default(),
        }
    }
}

impl AdjRibIn {
    /// Stores a route; whether anything is different now.
    pub fn insert(
        &mut self,
        prefix: IpNet,
        path: Option<PathId>,
        attributes: &Arc<PathAttributes>,
        refusals: Option<Refusals>,
    ) -> bool {
        if let Some(id) = path {
            return self.several.insert(prefix, id, attributes, refusals);
        }
        let now_draining = is_draining(attributes);
        self.draining += usize::from(now_draining);
        let before = self.routes.insert(&prefix, attributes.clone());
        self.sets.add(attributes);
        self.forget(before.as_ref());
        if !self.stale.is_empty() {
            self.stale.remove(&prefix);
        }
        let refused_before = match refusals {
            None if self.refused.is_empty() => None,
            None => self.refused.remove(&prefix),
            Some(ref refusals) => self.refused.insert(&prefix, refusals.clone()),
        };
        // Attributes are interned: the same ones are at the same address.
        let is_same = before.is_some_and(|before| Arc::ptr_eq(&before, attributes));
        !(is_same && refused_before == refusals)
    }

    /// Removes a route; whether it was there.
    pub fn remove(&mut self, prefix: IpNet, path: Option<PathId>) -> bool {
        if let Some(id) = path {
            return self.several.remove(prefix, id);
        }
        let before = self.routes.remove(&prefix);
        self.forget(before.as_ref());
        if !self.refused.is_empty() {
            self.refused.remove(&prefix);
        }
        if !self.stale.is_empty() {
            self.stale.remove(&prefix);
        }
        before.is_some()
    }

    /// Removes everything; what it was.
    pub fn clear(&mut self) -> Vec<IpNet> {
        let gone = self.prefixes().collect();
        *self = AdjRibIn { router_id: self.router_id, ..AdjRibIn::default() };
        gone
    }

    /// From now on everything of a family counts as not said again.
    pub fn mark_stale(&mut self, family: Family) {
        self.stale.extend(self.routes.keys_of(family));
        self.several.mark_stale(family);
    }

    /// Removes what was not said again of a family; what it was.
    pub fn sweep(&mut self, family: Family) -> Vec<IpNet> {
        let mut gone: Vec<IpNet> =
            self.stale.iter().copied().filter(|prefix| Family::of(prefix) == family).collect();
        gone.iter().for_each(|prefix| {
            self.remove(*prefix, None);
        });
        gone.extend(self.several.sweep(family));
        gone
    }

    /// Removes all routes of a family; what it was.
    pub fn remove_family(&mut self, family: Family) -> Vec<IpNet> {
        let mut gone = self.routes.keys_of(family);
        gone.iter().for_each(|prefix| {
            self.remove(*prefix, None);
        });
        gone.extend(self.several.remove_family(family));
        gone
    }

    /// How many routes the peer has not said again.
    pub fn stale(&self) -> usize {
        self.stale.len() + self.several.stale_and_draining().0
    }

    /// Whether it has none: most peers have nothing to say about most prefixes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.several.is_empty()
    }

    /// Every path.
    pub fn routes(&self) -> impl Iterator<Item = (IpNet, PathIn<'_>)> {
        let routes = self.routes.iter().map(|(prefix, attributes)| (prefix, self.view(&prefix, attributes)));
        routes.chain(self.several.iter())
    }

    /// Every prefix; one of which some paths have identifiers and others, from before, have none comes twice.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.routes.keys().chain(self.several.prefixes())
    }

    /// A path's attributes.
    pub fn attributes(&self, prefix: &IpNet, path: Option<PathId>) -> Option<&Arc<PathAttributes>> {
        match path {
            None => self.routes.get(prefix),
            Some(_) => self.several.paths(prefix).find(|it| it.path == path).map(|it| it.attributes),
        }
    }

    /// The paths to a prefix.
    pub fn paths(&self, prefix: &IpNet) -> impl Iterator<Item = PathIn<'_>> {
        let only = self.routes.get(prefix).map(|attributes| self.view(prefix, attributes));
        only.into_iter().chain(self.several.paths(prefix))
    }

    fn view<'a>(&'a self, prefix: &IpNet, attributes: &'a Arc<PathAttributes>) -> PathIn<'a> {
        let refusals = if self.refused.is_empty() { None } else { self.refused.get(prefix) };
        PathIn { path: None, attributes, refusals }
    }

    /// Every refused path with its reasons.
    pub fn refused(&self) -> impl Iterator<Item = (IpNet, Option<PathId>, &Refusals)> {
        let several = self.several.iter().filter_map(|(prefix, it)| Some((prefix, it.path, it.refusals?)));
        self.refused.iter().map(|(prefix, refusals)| (prefix, None, refusals)).chain(several)
    }

    /// Judges every route again; the prefixes about which the answer differs.
    pub fn judge_again(&mut self, judge: impl Fn(IpNet, &PathAttributes) -> Option<Refusals>) -> Vec<IpNet> {
        let mut differing = Vec::new();
        for (prefix, attributes) in self.routes.iter() {
            let refusals = judge(prefix, attributes);
            if refusals.as_ref() == self.refused.get(&prefix) {
                continue;
            }
            match refusals {
                Some(refusals) => self.refused.insert(&prefix, refusals),
                None => self.refused.remove(&prefix),
            };
            differing.push(prefix);
        }
        differing.extend(self.several.judge_again(judge));
        differing
    }

    /// The same of the routes to these prefixes.
    pub fn judge_these(
        &mut self,
        prefixes: &[IpNet],
        judge: impl Fn(IpNet, &PathAttributes) -> Option<Refusals>,
    ) {
        for prefix in prefixes {
            let Some(attributes) = self.routes.get(prefix) else { continue };
            match judge(*prefix, attributes) {
                Some(refusals) => self.refused.insert(prefix, refusals),
                None => self.refused.remove(prefix),
            };
        }
        if !self.several.is_empty() {
            self.several.judge_again(judge);
        }
    }

    /// How many routes there are, and how many of them at least one domain refused.
    pub fn counts(&self) -> (usize, usize) {
        let (paths, refused) = self.several.counts();
        (self.routes.len() + paths, self.refused.len() + refused)
    }

    /// How many routes of a family there are.
    pub fn count(&self, family: Family) -> usize {
        self.routes.count(family) + self.several.count_of(family)
    }

    /// How many of them ask to be spared.
    pub fn draining(&self) -> usize {
        self.draining + self.several.stale_and_draining().1
    }

    /// What all of it takes, by the rules of [`super::budget`].
    pub fn memory(&self) -> usize {
        let of = |family| self.routes.count(family) * PREFIX_BYTES[guard::at(family)];
        let prefixes = of(Family::Ipv4Unicast) + of(Family::Ipv6Unicast);
        self.sets.bytes() + prefixes + self.refused.len() * REFUSED_BYTES + self.several.memory()
    }

    /// Whether some route has these attributes; they are interned.
    pub fn has_set(&self, set: &Arc<PathAttributes>) -> bool {
        self.sets.contains(set) || self.several.has_set(set)
    }

    fn forget(&mut self, gone: Option<&Arc<PathAttributes>>) {
        let Some(gone) = gone else { return };
        self.draining -= usize::from(is_draining(gone));
        self.sets.remove(gone);
    }
}
