//! What one peer announced: on its present session, or on the one before while it restarts gracefully. Refused routes stay, each with
//! its reasons, so that an operator can be told why a route is not used.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;

use super::drain::is_draining;
use super::{Set, policy::Refusal, prefix_map::PrefixMap};
use crate::bgp::{Family, PathAttributes};
use crate::config::DomainId;

/// The domains that refused a route, each with its reason.
pub(super) type Refusals = Box<[(DomainId, Refusal)]>;

/// Adj-RIB-In (RFC 4271 section 3.2).
pub(super) struct AdjRibIn {
    /// The peer's BGP identifier, of which the lower is preferred.
    pub router_id: Ipv4Addr,
    /// Attributes as received, one copy of each set.
    routes: PrefixMap<Arc<PathAttributes>>,
    /// Of those, the refused ones.
    refused: PrefixMap<Refusals>,
    /// Of those, what the peer has not said again since it was lost or began to tell everything again.
    stale: Set<IpNet>,
    /// Routes by which the peer asks to be spared.
    draining: usize,
}

impl Default for AdjRibIn {
    fn default() -> Self {
        AdjRibIn {
            router_id: Ipv4Addr::UNSPECIFIED,
            routes: PrefixMap::default(),
            refused: PrefixMap::default(),
            stale: Set::default(),
            draining: 0,
        }
    }
}

impl AdjRibIn {
    /// Stores a route; whether anything is different now.
    pub fn insert(
        &mut self,
        prefix: IpNet,
        attributes: &Arc<PathAttributes>,
        refusals: Option<Refusals>,
    ) -> bool {
        let now_draining = is_draining(attributes);
        self.draining += usize::from(now_draining);
        let before = self.routes.insert(&prefix, attributes.clone());
        self.forget_drain(before.as_ref());
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
    pub fn remove(&mut self, prefix: IpNet) -> bool {
        let before = self.routes.remove(&prefix);
        self.forget_drain(before.as_ref());
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
        let gone = self.routes.keys().collect();
        *self = AdjRibIn { router_id: self.router_id, ..AdjRibIn::default() };
        gone
    }

    /// From now on everything of a family counts as not said again.
    pub fn mark_stale(&mut self, family: Family) {
        self.stale.extend(self.routes.keys_of(family));
    }

    /// Removes what was not said again of a family; what it was.
    pub fn sweep(&mut self, family: Family) -> Vec<IpNet> {
        let gone: Vec<IpNet> =
            self.stale.iter().copied().filter(|prefix| Family::of(prefix) == family).collect();
        gone.iter().for_each(|prefix| {
            self.remove(*prefix);
        });
        gone
    }

    /// Removes all routes of a family; what it was.
    pub fn remove_family(&mut self, family: Family) -> Vec<IpNet> {
        let gone = self.routes.keys_of(family);
        gone.iter().for_each(|prefix| {
            self.remove(*prefix);
        });
        gone
    }

    /// How many routes the peer has not said again.
    pub fn stale(&self) -> usize {
        self.stale.len()
    }

    /// Whether it has none: most peers have nothing to say about most prefixes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Every route.
    pub fn routes(&self) -> impl Iterator<Item = (IpNet, &Arc<PathAttributes>)> {
        self.routes.iter()
    }

    /// A route's attributes.
    pub fn route(&self, prefix: &IpNet) -> Option<&Arc<PathAttributes>> {
        self.routes.get(prefix)
    }

    /// Why a domain refused a route.
    pub fn refusal(&self, prefix: &IpNet, domain: DomainId) -> Option<Refusal> {
        if self.refused.is_empty() {
            return None;
        }
        let refusals = self.refused.get(prefix)?;
        refusals.iter().find(|(refused_by, _)| *refused_by == domain).map(|(_, refusal)| *refusal)
    }

    /// Every refused route with its reasons.
    pub fn refused(&self) -> impl Iterator<Item = (IpNet, &Refusals)> {
        self.refused.iter()
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
        differing
    }

    /// How many routes there are, and how many of them at least one domain refused.
    pub fn counts(&self) -> (usize, usize) {
        (self.routes.len(), self.refused.len())
    }

    /// How many routes of a family there are.
    pub fn count(&self, family: Family) -> usize {
        self.routes.count(family)
    }

    /// How many of them ask to be spared.
    pub fn draining(&self) -> usize {
        self.draining
    }

    fn forget_drain(&mut self, gone: Option<&Arc<PathAttributes>>) {
        self.draining -= usize::from(gone.is_some_and(|attributes| is_draining(attributes)));
    }
}
