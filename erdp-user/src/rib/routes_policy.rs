//! The operator's policies at work (requirements B9, B11): what the rules of [`Policy`] mean for a route on its way in, and on its way
//! out. ExpressRoute's own rules ([`super::policy`]) are asked first, and no policy overrules one.
//!
//! Routes stay in the Adj-RIB-In as received, so that another policy can be tried on them; what a policy changes is made of them when it
//! is asked for.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Rib, RibConfig, RibPeer, mark_everything, policy::Import};
use crate::{
    bgp::{AsPath, Asn, PathAttributes, Role},
    config::{Changes, Policy, PolicyRule, RouteSource, Then},
    types::PathSource,
};

/// The number of a policy's rule, from 0.
pub type RuleNumber = u16;

/// The first rule of a policy that a route matches.
pub(super) fn decision<'p>(
    policy: Option<&'p Arc<Policy>>,
    source: PathSource,
    prefix: &IpNet,
    attributes: &PathAttributes,
) -> Option<(RuleNumber, &'p Then)> {
    let rules = (0..).zip(&policy?.rules);
    let found = rules.into_iter().find(|(_, rule)| matches(rule, source, prefix, attributes));
    found.map(|(number, rule)| (number, &rule.then))
}

/// The rule by which a policy refuses a route.
pub(super) fn refusal(
    policy: Option<&Arc<Policy>>,
    source: PathSource,
    prefix: &IpNet,
    attributes: &PathAttributes,
) -> Option<RuleNumber> {
    let (number, then) = decision(policy, source, prefix, attributes)?;
    matches!(then, Then::Refuse(_)).then_some(number)
}

fn matches(rule: &PolicyRule, source: PathSource, prefix: &IpNet, attributes: &PathAttributes) -> bool {
    let is_from = match source {
        PathSource::Peer(_) => RouteSource::Bgp,
        PathSource::Kernel(_) => RouteSource::Kernel,
        PathSource::Static(_) => RouteSource::Connected,
    };
    let path = &attributes.as_path;
    rule.source.is_none_or(|wanted| wanted == is_from)
        && (rule.prefixes.is_empty() || rule.prefixes.iter().any(|range| range.contains(prefix)))
        && (rule.communities.is_empty()
            || rule.communities.iter().any(|it| attributes.communities.contains(it)))
        && rule.as_path_contains.is_none_or(|asn| path.contains(asn))
        && rule.origin_as.is_none_or(|asn| path.origin() == Some(asn))
        && rule.as_path_at_least.is_none_or(|length| path.len() >= length)
}

/// What the reason of a rule is.
pub(super) fn reason(policy: Option<&Arc<Policy>>, number: RuleNumber) -> Option<String> {
    let policy = policy?;
    match &policy.rules.get(usize::from(number))?.then {
        Then::Refuse(reason) => Some(format!("{reason} (policy {})", policy.name)),
        Then::Accept(_) => None,
    }
}

impl RibConfig {
    /// The same without policies.
    pub(super) fn without_policies(&self) -> Self {
        let mut without = self.clone();
        without.domains.iter_mut().for_each(|domain| domain.export = None);
        for peer in without.peers.iter_mut().chain(&mut without.kernel) {
            (peer.import, peer.export) = (None, None);
        }
        without
    }
}

impl Rib {
    /// Other policies, and nothing else, have taken the place of those before: only the routes about which they decide otherwise are
    /// judged and decided again.
    pub(super) fn exchange_policies(&mut self, before: &RibConfig) {
        let config = &self.config;
        for (peer, adj_in) in config.peers.iter().zip(&mut self.adj_in) {
            let was = before.source(peer.source).filter(|was| was.import != peer.import);
            let Some(was) = was else { continue };
            let differ = |prefix: &IpNet, it: &PathAttributes| {
                decision(was.import.as_ref(), was.source, prefix, it)
                    != decision(peer.import.as_ref(), peer.source, prefix, it)
            };
            let concerned = adj_in.routes().filter(|(prefix, it)| differ(prefix, it.attributes));
            let concerned: Vec<IpNet> = concerned.map(|(prefix, _)| prefix).collect();
            adj_in.judge_these(&concerned, |prefix, told| Import::new(config, peer, told).judge(prefix));
            for domain in &peer.domains {
                if let Some(loc) = self.loc.get_mut(usize::from(domain.0)) {
                    loc.undecided.extend(concerned.iter().copied());
                }
            }
        }
        if before.kernel != config.kernel {
            self.judge_kernel_again();
        }
        for (peer, out) in self.config.peers.iter().zip(&mut self.adj_out) {
            if before.source(peer.source).is_some_and(|was| was.export != peer.export) {
                mark_everything(&self.loc, peer, out);
            }
        }
        self.guard_again(|domain| before.domain(domain.id).is_some_and(|was| was.export != domain.export));
    }
}

impl RibPeer {
    /// What its policy changes about a route of it; `None`: nothing.
    pub(super) fn changes(&self, prefix: &IpNet, attributes: &PathAttributes) -> Option<&Changes> {
        match decision(self.import.as_ref(), self.source, prefix, attributes)?.1 {
            Then::Accept(changes) => Some(changes),
            Then::Refuse(_) => None,
        }
    }

    /// The same peer without policies: what they change is seen route by route.
    pub(super) fn without_policies(&self) -> Self {
        Self { import: None, export: None, ..self.clone() }
    }

    /// How much a route of it is worth by configuration, whatever its link is worth just now.
    pub(super) fn configured_preference(&self, prefix: &IpNet, attributes: &PathAttributes) -> u32 {
        self.changes(prefix, attributes).and_then(|it| it.local_pref).unwrap_or(self.local_pref)
    }

    /// A route of it as its policy has it.
    pub(super) fn imported(&self, prefix: &IpNet, attributes: &Arc<PathAttributes>) -> Arc<PathAttributes> {
        // Most peers have none, and most rules are about other routes.
        match self.changes(prefix, attributes).filter(|changes| changes.is_of_attributes()) {
            Some(changes) => Arc::new(changed(attributes, changes, attributes.as_path.first())),
            None => attributes.clone(),
        }
    }

    /// A route as its policy has it advertised.
    ///
    /// # Errors
    /// The rule by which it is not.
    pub(super) fn exported(
        &self,
        source: PathSource,
        prefix: &IpNet,
        attributes: Arc<PathAttributes>,
    ) -> Result<Arc<PathAttributes>, RuleNumber> {
        match decision(self.export.as_ref(), source, prefix, &attributes) {
            Some((number, Then::Refuse(_))) => Err(number),
            Some((_, Then::Accept(changes))) if changes.is_of_attributes() => {
                let mut marked = (*attributes).clone();
                if matches!(self.role, Some(Role::Provider | Role::Peer | Role::RouteServer)) {
                    // Whether we originate the route is not seen by a longer path (RFC 9234 section 5).
                    marked.mark_only_to_customer(self.local_asn);
                }
                Ok(Arc::new(changed(&marked, changes, Some(self.local_asn))))
            }
            _ => Ok(attributes),
        }
    }
}

fn changed(attributes: &PathAttributes, changes: &Changes, repeated: Option<Asn>) -> PathAttributes {
    let mut changed = attributes.clone();
    changed.communities.retain(|community| !changes.remove_communities.contains(community));
    changes.add_communities.iter().for_each(|community| changed.add_community(*community));
    changed.settle_partial();
    if let Some(asn) = repeated {
        changed.as_path = (0..changes.prepend).fold(changed.as_path, |path: AsPath, _| path.prepended(asn));
    }
    changed
}
