//! Which routes a routing table may hold: the policy of domains and zones, by construction of the tables.
//!
//! A *view* is one routing table pair, and attachments with the same [`Policy`] share it. Its routes come from [`Source`]s, of
//! which the first that has a prefix wins. What an attachment may not use is in none of its sources, so that no packet can match
//! it (C1, C5, C6); nothing of this costs the packet path anything.
//!
//! What an attachment lists and its zone forbids is in `refused`: where no source has the prefix, the table drops it by a reason
//! of its own, so that counters and `erdp explain` can say more than "no route". That goes both ways: from the customer's side to
//! the peering, and from the peering to what lies behind the attachment. A refusal never stands in the way of a route: where a
//! source has a shorter prefix, the refused one leads where that does. Else whoever announces in one domain could take traffic
//! away from another.

use ipnet::IpNet;

use super::{AttachmentId, Forwarding, NextHopKey, Target, Topology};

/// Where a view's routes come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Every route of a domain.
    Domain(usize),
    /// What a domain reaches through Microsoft.
    Microsoft(usize),
    /// What a domain reaches through one attachment.
    On(usize, AttachmentId),
}

impl Source {
    /// The domain whose routes it takes.
    pub fn domain(&self) -> usize {
        match self {
            Self::Domain(domain) | Self::Microsoft(domain) | Self::On(domain, _) => *domain,
        }
    }

    /// What it makes of a route of its domain; `None`: not for this view.
    pub(super) fn offer(&self, target: &Target, topology: &Topology) -> Option<Target> {
        match self {
            Self::Domain(_) => Some(target.clone()),
            Self::Microsoft(_) => leads_to_microsoft(target, topology).then(|| target.clone()),
            Self::On(_, attachment) => match target {
                Target::Forward(keys) => {
                    let there = keys.iter().filter(|key| key.attachment == *attachment).copied();
                    Some(Target::Forward(there.collect()))
                        .filter(|target| *target != Target::Forward([].into()))
                }
                Target::Glean(on) => (on == attachment).then(|| target.clone()),
                Target::Discard | Target::ZoneForbidden => None,
            },
        }
    }
}

/// Whether every next hop is an MSEE: the paths of one route are all on one side.
fn leads_to_microsoft(target: &Target, topology: &Topology) -> bool {
    let is_msee = |key: &NextHopKey| topology.attachment(key.attachment).is_some_and(|facts| facts.is_msee);
    matches!(target, Target::Forward(keys) if keys.iter().all(is_msee))
}

/// What may be in a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Routes to use, the first source that has a prefix.
    pub sources: Vec<Source>,
    /// Routes to refuse where no source has the prefix.
    pub refused: Vec<Source>,
}

impl Policy {
    /// Whether a domain's routes matter here.
    pub fn concerns(&self, domain: usize) -> bool {
        self.sources.iter().chain(&self.refused).any(|source| source.domain() == domain)
    }
}

impl Topology {
    /// What may be in the view of an attachment.
    pub fn policy(&self, id: AttachmentId) -> Policy {
        let Some(facts) = self.attachment(id) else {
            return Policy::default();
        };
        let sources = facts.domains.iter().map(|domain| Source::Domain(*domain)).collect();
        let refused = if facts.is_msee {
            let behind = self
                .attachments()
                .filter(|other| facts.domains.iter().any(|domain| other.forbidden.contains(domain)));
            behind
                .flat_map(|other| other.domains.iter().map(|domain| Source::On(*domain, other.id)))
                .collect()
        } else {
            facts.forbidden.iter().map(|domain| Source::Microsoft(*domain)).collect()
        };
        Policy { sources, refused }
    }
}

impl Forwarding {
    /// What a view is to do with a prefix, and whether that is only because a forbidden source has it.
    pub(super) fn wanted(&self, view: usize, prefix: IpNet) -> (Option<Target>, bool) {
        let Policy { sources, refused } = &self.views[view].policy;
        let offer = |source: &Source, prefix: IpNet| {
            let target = self.routes.get(&(source.domain(), prefix))?;
            source.offer(target, &self.topology)
        };
        let open = |prefix: IpNet| sources.iter().find_map(|source| offer(source, prefix));
        if let Some(target) = open(prefix) {
            return (Some(target), false);
        }
        if !refused.iter().any(|source| offer(source, prefix).is_some()) {
            return (None, false);
        }
        let shorter = (0..prefix.prefix_len()).rev().filter_map(|len| IpNet::new(prefix.addr(), len).ok());
        let covering = shorter.map(|net| net.trunc()).find_map(open);
        (Some(covering.unwrap_or(Target::ZoneForbidden)), true)
    }

    /// The refusals of a view that a route for `prefix` would cover.
    pub(super) fn refusals_within(&self, view: usize, prefix: IpNet) -> Vec<IpNet> {
        let last = IpNet::from(prefix.broadcast());
        let refusals = self.views[view].refusals.range(prefix..=last);
        refusals.copied().filter(|refusal| *refusal != prefix).collect()
    }
}
