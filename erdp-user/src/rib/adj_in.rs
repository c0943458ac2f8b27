//! What one peer announced on its present session. Refused routes stay, each with its reasons, so that an operator can
//! be told why a route is not used.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Map, policy::Refusal};
use crate::bgp::PathAttributes;
use crate::config::DomainId;

/// One announced route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Its attributes as received.
    pub attributes: Arc<PathAttributes>,
    /// The domains that refused it, each with its reason; empty for most routes, and then without memory of its own.
    pub refusals: Box<[(DomainId, Refusal)]>,
}

impl Route {
    /// Why a domain refused it.
    pub fn refusal(&self, domain: DomainId) -> Option<Refusal> {
        self.refusals.iter().find(|(refused_by, _)| *refused_by == domain).map(|(_, refusal)| *refusal)
    }
}

/// Adj-RIB-In (RFC 4271 section 3.2).
pub(super) struct AdjRibIn {
    /// The peer's BGP identifier, of which the lower is preferred.
    pub router_id: Ipv4Addr,
    routes: Map<IpNet, Route>,
    refused: usize,
}

impl Default for AdjRibIn {
    fn default() -> Self {
        AdjRibIn { router_id: Ipv4Addr::UNSPECIFIED, routes: Map::default(), refused: 0 }
    }
}

impl AdjRibIn {
    /// Stores a route; whether anything is different now.
    pub fn insert(
        &mut self,
        prefix: IpNet,
        attributes: Arc<PathAttributes>,
        refusals: Vec<(DomainId, Refusal)>,
    ) -> bool {
        let route = Route { attributes, refusals: refusals.into_boxed_slice() };
        self.refused += usize::from(!route.refusals.is_empty());
        let before = self.routes.insert(prefix, route);
        self.forget_refusal(before.as_ref());
        // Attributes are interned: the same ones are at the same address.
        let is_same = |before: &Route| {
            let now = self.routes.get(&prefix);
            now.is_some_and(|now| {
                Arc::ptr_eq(&before.attributes, &now.attributes) && before.refusals == now.refusals
            })
        };
        !before.as_ref().is_some_and(is_same)
    }

    /// Removes a route; whether it was there.
    pub fn remove(&mut self, prefix: IpNet) -> bool {
        let before = self.routes.remove(&prefix);
        self.forget_refusal(before.as_ref());
        before.is_some()
    }

    /// Removes everything; what it was.
    pub fn clear(&mut self) -> impl Iterator<Item = IpNet> {
        self.refused = 0;
        std::mem::take(&mut self.routes).into_keys()
    }

    pub fn route(&self, prefix: IpNet) -> Option<&Route> {
        self.routes.get(&prefix)
    }

    pub fn routes(&self) -> impl Iterator<Item = (&IpNet, &Route)> {
        self.routes.iter()
    }

    /// Judges every route again; the prefixes about which the answer differs.
    pub fn judge_again(
        &mut self,
        judge: impl Fn(IpNet, &PathAttributes) -> Vec<(DomainId, Refusal)>,
    ) -> Vec<IpNet> {
        let mut differing = Vec::new();
        for (prefix, route) in &mut self.routes {
            let refusals = judge(*prefix, &route.attributes).into_boxed_slice();
            if refusals != route.refusals {
                self.refused += usize::from(!refusals.is_empty());
                self.refused -= usize::from(!route.refusals.is_empty());
                route.refusals = refusals;
                differing.push(*prefix);
            }
        }
        differing
    }

    /// How many routes there are, and how many of them at least one domain refused.
    pub fn counts(&self) -> (usize, usize) {
        (self.routes.len(), self.refused)
    }

    fn forget_refusal(&mut self, gone: Option<&Route>) {
        self.refused -= usize::from(gone.is_some_and(|route| !route.refusals.is_empty()));
    }
}
