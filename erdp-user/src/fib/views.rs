//! Which routes a routing table may hold: the policy of domains and zones, by construction of the tables.
//!
//! A *view* is one routing table pair, and attachments with the same [`Policy`] share it. Its routes come from [`Source`]s, of
//! which the first that has a prefix wins; where its paths are a last resort (their link is dead or held down, or out of use by an operator's
//! order), the next one that has better. Where its attachments compare their circuits, those win whose route has the highest local
//! preference, together. What an attachment may not use is in none of its sources, so that no packet can match it (C1, C5, C6); nothing
//! of this costs the packet path anything.
//!
//! What an attachment lists and its zone forbids is in `refused`: where no source has the prefix, the table drops it by a reason
//! of its own, so that counters and `erdp ask` can say more than "no route". That goes both ways: from the customer's side to
//! the peering, and from the peering to what lies behind the attachment. A refusal never stands in the way of a route: where a
//! source has a shorter prefix, the refused one leads where that does. Else whoever announces in one domain could take traffic
//! away from another.
//!
//! A *chain* gives a view the routes of a domain by way of a service: the prefixes are the domain's, the next hops the service's.
//! The service's own view has what comes back. Prefixes that must not go in clear (B9) are in every view: where their service has
//! no route they are dropped, and nothing that leads elsewhere is installed inside them.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use ipnet::IpNet;

use super::{AttachmentFacts, AttachmentId, FibError, Forwarding, NextHopKey, Target, Topology, said::Word};
use crate::{dataplane::Dataplane, rib::LAST_RESORT};

/// Where a view's routes come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Every route of a domain.
    Domain(usize),
    /// What a domain reaches through Microsoft.
    Microsoft(usize),
    /// What a domain reaches through one attachment.
    On(usize, AttachmentId),
    /// What a domain reaches through Microsoft, but by way of these neighbours: a chain through a service.
    Through(usize, BTreeSet<NextHopKey>),
}

impl Source {
    /// The domain whose routes it takes.
    pub fn domain(&self) -> usize {
        match self {
            Self::Domain(domain) | Self::Microsoft(domain) => *domain,
            Self::On(domain, _) | Self::Through(domain, _) => *domain,
        }
    }

    /// What it makes of a route of its domain; `None`: not for this view.
    pub(super) fn offer(
        &self,
        prefix: IpNet,
        target: &Arc<Target>,
        topology: &Topology,
    ) -> Option<Arc<Target>> {
        match self {
            Self::Through(_, service) => {
                let is_ipv4 = prefix.addr().is_ipv4();
                let there: BTreeSet<NextHopKey> =
                    service.iter().filter(|key| key.address.is_ipv4() == is_ipv4).copied().collect();
                let leads_there = leads_to_microsoft(target, topology) && !there.is_empty();
                leads_there.then(|| Arc::new(Target::Forward(there)))
            }
            Self::Domain(_) => Some(target.clone()),
            Self::Microsoft(_) => leads_to_microsoft(target, topology).then(|| target.clone()),
            Self::On(_, attachment) => match &**target {
                Target::Forward(keys) => {
                    let there = keys.iter().filter(|key| key.attachment == *attachment).copied();
                    Some(Target::Forward(there.collect()))
                        .filter(|target| *target != Target::Forward([].into()))
                        .map(Arc::new)
                }
                Target::Weighted(shares) => {
                    let there = shares.iter().filter(|(key, _)| key.attachment == *attachment);
                    let there = Target::to(there.map(|(key, share)| (*key, *share)));
                    Some(there).filter(|target| target.members().next().is_some()).map(Arc::new)
                }
                Target::Glean(on) => (on == attachment).then(|| target.clone()),
                Target::Discard | Target::ZoneForbidden | Target::EncryptedOnly => None,
            },
        }
    }
}

/// What those of some offers lead to that are worth most: to all of their next hops, or where the first of them leads to none.
fn best_of(offers: impl Iterator<Item = (u32, Arc<Target>)>) -> Option<Arc<Target>> {
    let mut best: Vec<(u32, Arc<Target>)> = Vec::new();
    for (worth, target) in offers {
        match best.first().map(|(most, _)| worth.cmp(most)) {
            Some(Ordering::Less) => {}
            Some(Ordering::Equal) => best.push((worth, target)),
            Some(Ordering::Greater) | None => best = vec![(worth, target)],
        }
    }
    let (_, first) = best.first()?;
    if best.len() == 1 || !first.forwards() {
        return Some(first.clone());
    }
    Some(Arc::new(Target::to(best.iter().flat_map(|(_, target)| target.members()))))
}

/// Whether every next hop is an MSEE: the paths of one route are all on one side.
fn leads_to_microsoft(target: &Target, topology: &Topology) -> bool {
    let is_msee = |key: &NextHopKey| topology.attachment(key.attachment).is_some_and(|facts| facts.is_msee);
    target.forwards() && target.members().all(|(key, _)| is_msee(&key))
}

/// Whether all of it leads to one attachment.
fn leads_only_to(target: &Target, attachment: AttachmentId) -> bool {
    match target {
        Target::Forward(_) | Target::Weighted(_) => {
            target.members().all(|(key, _)| key.attachment == attachment)
        }
        Target::Glean(on) => *on == attachment,
        Target::Discard | Target::ZoneForbidden | Target::EncryptedOnly => true,
    }
}

/// What may be in a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Routes to use, the first source that has a prefix.
    pub sources: Vec<Source>,
    /// Routes to refuse where no source has the prefix.
    pub refused: Vec<Source>,
    /// Whether of several sources those win whose route is worth most, together, and not the first.
    pub compares_circuits: bool,
}

impl Policy {
    /// Whether a domain's routes matter here.
    pub fn concerns(&self, domain: usize) -> bool {
        self.sources.iter().chain(&self.refused).any(|source| source.domain() == domain)
    }
}

impl Topology {
    /// The prefix that must not go in clear in which this one is, and the service that may carry it (B9).
    pub(super) fn guard(&self, prefix: IpNet) -> Option<(IpNet, AttachmentId)> {
        let guarded = |facts: &AttachmentFacts| {
            facts.encrypted_only.iter().find(|guarded| guarded.contains(&prefix)).map(|it| (*it, facts.id))
        };
        self.attachments().find_map(guarded)
    }

    /// What may be in the view of an attachment.
    pub fn policy(&self, id: AttachmentId) -> Policy {
        let Some(facts) = self.attachment(id) else {
            return Policy::default();
        };
        let domains = facts.domains.iter().map(|domain| Source::Domain(*domain));
        let sources = domains.chain(facts.chained.iter().cloned()).collect();
        let refused = if !facts.has_hosts() {
            let behind = self
                .attachments()
                .filter(|other| facts.domains.iter().any(|domain| other.forbidden.contains(domain)));
            behind
                .flat_map(|other| other.domains.iter().map(|domain| Source::On(*domain, other.id)))
                .collect()
        } else {
            facts.forbidden.iter().map(|domain| Source::Microsoft(*domain)).collect()
        };
        Policy { sources, refused, compares_circuits: facts.compares_circuits }
    }
}

impl Forwarding {
    /// Whether some view refuses what zones forbid: only there what is said of one prefix matters for another.
    pub(super) fn is_zoned(&self) -> bool {
        self.views.iter().any(|view| !view.policy.refused.is_empty())
    }

    /// What a view is to do with a prefix of which this is news, and whether that is only because a forbidden source has it.
    pub(super) fn wanted(&self, view: usize, prefix: IpNet, news: &[Word]) -> (Option<Arc<Target>>, bool) {
        let Policy { sources, refused, compares_circuits } = &self.views[view].policy;
        let guard = |prefix| if self.has_guards { self.topology.guard(prefix) } else { None };
        let offer = |source: &Source, prefix: IpNet| {
            let target = self.said_now(source.domain(), prefix, news)?;
            source
                .offer(prefix, &target, &self.topology)
                .filter(|target| guard(prefix).is_none_or(|(_, service)| leads_only_to(target, service)))
        };
        let open =
            |prefix: IpNet| match compares_circuits {
                false => self.first_of(prefix, sources, |source| offer(source, prefix)),
                true => best_of(sources.iter().filter_map(|source| {
                    Some((self.rank_of(source, &prefix, true), offer(source, prefix)?))
                })),
            };
        if let Some(target) = open(prefix) {
            return (Some(target), false);
        }
        if guard(prefix).is_some_and(|(guarded, _)| guarded == prefix) {
            return (Some(Arc::new(Target::EncryptedOnly)), false);
        }
        if !refused.iter().any(|source| offer(source, prefix).is_some()) {
            return (None, false);
        }
        let shorter = (0..prefix.prefix_len()).rev().filter_map(|len| IpNet::new(prefix.addr(), len).ok());
        let covering = shorter.map(|net| net.trunc()).find_map(open);
        (Some(covering.unwrap_or_else(|| Arc::new(Target::ZoneForbidden))), true)
    }

    /// How a source's route to a prefix ranks among those that have one: of several with the highest rank the first wins, or all of them where
    /// circuits are compared.
    pub(super) fn rank_of(&self, source: &Source, prefix: &IpNet, compares_circuits: bool) -> u32 {
        let worth = self.worth(source.domain(), prefix);
        if compares_circuits { worth } else { u32::from(worth > LAST_RESORT) }
    }

    /// What the first source offers whose route is more than a last resort, or where there is no such, the first that offers anything.
    fn first_of(
        &self,
        prefix: IpNet,
        sources: &[Source],
        offer: impl Fn(&Source) -> Option<Arc<Target>>,
    ) -> Option<Arc<Target>> {
        let mut last_resort = None;
        for source in sources {
            let Some(target) = offer(source) else { continue };
            if self.rank_of(source, &prefix, false) > LAST_RESORT {
                return Some(target);
            }
            last_resort.get_or_insert(target);
        }
        last_resort
    }

    /// Makes the prefixes that must not go in clear known in every view: no shorter route takes them while their service has none.
    pub fn guard(&mut self, now_ns: u64, dataplane: &mut dyn Dataplane) -> Result<(), FibError> {
        let guarded = self.topology.attachments().flat_map(|facts| facts.encrypted_only.iter().copied());
        let views = 0..self.views.len();
        let touched =
            guarded.flat_map(|prefix| views.clone().map(move |view| (view, prefix))).collect::<BTreeSet<_>>();
        self.install(touched, now_ns, dataplane)
    }

    /// The refusals of a view that a route for `prefix` would cover.
    pub(super) fn refusals_within(&self, view: usize, prefix: IpNet) -> Vec<IpNet> {
        let last = IpNet::from(prefix.broadcast());
        let refusals = self.views[view].refusals.range(prefix..=last);
        refusals.copied().filter(|refusal| *refusal != prefix).collect()
    }
}
