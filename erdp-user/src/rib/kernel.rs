//! Routes of the kernel as a source beside the peers: each attachment that takes some has a table here, which takes part in the
//! decision like a peer's, by `local-pref` first (95 unless configured; BGP has 100, so a session's word wins).
//!
//! A route has no AS path (it counts as originated here, with origin INCOMPLETE, as redistribution has it: RFC 4271 section 5.1.1), its
//! metric is its MED, and it may have many next hops with weights, or none: then its packets are dropped, and it is told to others all
//! the same, as an aggregate would be. The rules of import about prefixes and domains hold; those about paths have nothing to judge.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZero,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Candidate, FibPath, Map, Rib, RibConfig,
    adj_in::{AdjRibIn, PathIn, Refusals},
    mark,
    policy::{Import, Refusal},
    topology::RibPeer,
};
use crate::{
    bgp::{Origin, PathAttributes, PathId},
    config::DomainId,
    types::{AttachmentId, PathSource},
};

/// A neighbour of the attachment, and its share of the flows.
pub type KernelHop = (IpAddr, NonZero<u8>);

/// What the kernel says of a prefix, as far as an attachment is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPath {
    /// Its metric there.
    pub metric: u32,
    /// The neighbours; none: packets are dropped on purpose.
    pub hops: Vec<KernelHop>,
}

/// A route with what policy says of it.
struct Entry {
    attributes: Arc<PathAttributes>,
    hops: Arc<[KernelHop]>,
    refusals: Option<Refusals>,
}

/// The kernel routes through one attachment.
#[derive(Default)]
pub(super) struct KernelIn(Map<IpNet, Entry>);

/// Where the attributes of routes are.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub adj_in: &'a [AdjRibIn],
    pub kernel: &'a BTreeMap<PathSource, KernelIn>,
}

impl<'a> Sources<'a> {
    /// Those of a route as its peer has announced it, or as they stand for the kernel's.
    pub fn attributes(
        self,
        source: PathSource,
        prefix: &IpNet,
        path: Option<PathId>,
    ) -> Option<&'a Arc<PathAttributes>> {
        match source {
            PathSource::Peer(peer) => self.adj_in.get(usize::from(peer.0))?.attributes(prefix, path),
            PathSource::Kernel(_) | PathSource::Static(_) => {
                Some(&self.kernel.get(&source)?.0.get(prefix)?.attributes)
            }
        }
    }

    /// The paths of a domain to a prefix that policy lets in, ordered by peer. A disabled circuit's domain has none (A8).
    pub fn candidates<'p>(
        self,
        config: &'a RibConfig,
        domain: DomainId,
        prefix: &'p IpNet,
    ) -> impl Iterator<Item = Candidate<'a>> + use<'a, 'p> {
        let enabled = config.domain(domain).filter(|domain| domain.enabled);
        let sources = enabled.map(|domain| domain.sources.as_slice()).unwrap_or_default();
        let speaking = sources.iter().filter_map(|source| source.peer()).filter_map(move |id| {
            let adj_in = self.adj_in.get(usize::from(id.0)).filter(|adj_in| !adj_in.is_empty())?;
            Some((config.peer(id)?, adj_in))
        });
        let speaking = speaking.flat_map(move |(peer, adj_in)| {
            let accepted = adj_in.paths(prefix).filter(move |it| it.refusal(domain).is_none());
            accepted.map(move |PathIn { path, attributes, .. }| {
                Candidate::new(peer, adj_in.router_id, path, (prefix, attributes))
            })
        });
        speaking
            .chain(sources.iter().filter_map(move |it| self.kernel_candidate(config, *it, prefix, domain)))
    }

    /// The candidate of a kernel source to a prefix.
    fn kernel_candidate(
        self,
        config: &'a RibConfig,
        source: PathSource,
        prefix: &IpNet,
        domain: DomainId,
    ) -> Option<Candidate<'a>> {
        let entry = self.kernel.get(&source)?.route(prefix, domain)?;
        let (peer, router_id) = (config.source(source)?, config.router_id);
        Some(Candidate::new(peer, router_id, None, (prefix, &entry.attributes)))
    }
}

impl KernelIn {
    /// A route that no rule of this domain refuses.
    fn route(&self, prefix: &IpNet, domain: DomainId) -> Option<&Entry> {
        let entry = self.0.get(prefix)?;
        let is_refused = entry.refusals.iter().flat_map(|it| it.iter()).any(|(by, _)| *by == domain);
        (!is_refused).then_some(entry)
    }

    /// Every prefix.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.0.keys().copied()
    }

    /// Every refused route with its reasons.
    pub fn refused(&self) -> impl Iterator<Item = (IpNet, &Refusals)> {
        self.0.iter().filter_map(|(prefix, entry)| Some((*prefix, entry.refusals.as_ref()?)))
    }

    /// Why domains refuse the route to a prefix.
    pub fn refusals(&self, prefix: &IpNet) -> impl Iterator<Item = &(DomainId, Refusal)> {
        self.0.get(prefix).and_then(|entry| entry.refusals.as_ref()).into_iter().flat_map(|it| it.iter())
    }

    /// How many routes there are, and how many of them at least one domain refuses.
    pub fn counts(&self) -> (usize, usize) {
        (self.0.len(), self.refused().count())
    }
}

impl Rib {
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { adj_in: &self.adj_in, kernel: &self.kernel }
    }

    /// What the kernel says of a prefix through an attachment from now on; `None`: nothing.
    pub fn kernel_route(&mut self, attachment: AttachmentId, prefix: IpNet, path: Option<KernelPath>) {
        let id = PathSource::Kernel(attachment);
        if self.config.source(id).is_none() {
            return;
        }
        let Some(path) = path else { return self.displace(id, &prefix) };
        let mut hops = path.hops;
        hops.sort_unstable();
        let attributes = attributes(prefix, path.metric, &hops);
        self.place(id, prefix, Arc::new(attributes), hops);
    }

    /// A source beside the peers has no route to a prefix any more, perhaps because the source is gone too.
    pub(super) fn displace(&mut self, id: PathSource, prefix: &IpNet) {
        let Some(table) = self.kernel.get_mut(&id) else { return };
        if table.0.remove(prefix).is_some() {
            self.loc.iter_mut().for_each(|loc| loc.undecided.push(*prefix));
        }
    }

    /// A source beside the peers has this route to a prefix from now on.
    pub(super) fn place(
        &mut self,
        id: PathSource,
        prefix: IpNet,
        attributes: Arc<PathAttributes>,
        hops: Vec<KernelHop>,
    ) {
        let Some(source) = self.config.source(id) else { return };
        let table = self.kernel.entry(id).or_default();
        let attributes = self.attributes.shared(attributes);
        let refusals = Import::of_kernel(&self.config, source, &attributes).judge(prefix);
        let entry = Entry { attributes, hops: hops.into(), refusals };
        let is_same = |before: &Entry| {
            Arc::ptr_eq(&before.attributes, &entry.attributes)
                && before.hops == entry.hops
                && before.refusals == entry.refusals
        };
        if table.0.get(&prefix).is_some_and(is_same) {
            return;
        }
        table.0.insert(prefix, entry);
        mark(&mut self.loc, source, prefix);
    }

    /// The prefixes of a kernel source; of anybody else none.
    pub(super) fn kernel_prefixes(&self, id: PathSource) -> impl Iterator<Item = IpNet> {
        self.kernel.get(&id).into_iter().flat_map(|table| table.0.keys().copied())
    }

    /// Attachments and rules are others now: everything is judged and decided again.
    pub(super) fn judge_kernel_again(&mut self) {
        for (id, table) in &mut self.kernel {
            let source = self.config.source(*id);
            for (prefix, entry) in &mut table.0 {
                entry.refusals = source.and_then(|source| {
                    Import::of_kernel(&self.config, source, &entry.attributes).judge(*prefix)
                });
                self.loc.iter_mut().for_each(|loc| loc.undecided.push(*prefix));
            }
        }
    }

    /// The paths that a candidate stands for: one of a peer, as many as the kernel has of its own.
    pub(super) fn paths_of(&self, candidate: &Candidate<'_>, prefix: &IpNet) -> Vec<FibPath> {
        let (source, side) = (candidate.peer.source, candidate.peer.side);
        let path = |(next_hop, share): KernelHop| FibPath { source, next_hop, side, share };
        match self.kernel.get(&source).and_then(|table| table.0.get(prefix)) {
            Some(entry) => entry.hops.iter().map(|hop| path(*hop)).collect(),
            None => vec![path_of(candidate)],
        }
    }

    /// Kernel routes through an attachment: how many there are, and how many of them are refused.
    pub fn kernel_counts(&self, attachment: AttachmentId) -> (usize, usize) {
        self.kernel.get(&PathSource::Kernel(attachment)).map(KernelIn::counts).unwrap_or_default()
    }

    /// Why a kernel source's route is refused by a domain, with its attributes.
    pub(super) fn kernel_refusal(
        &self,
        source: &RibPeer,
        prefix: &IpNet,
        domain: DomainId,
    ) -> Option<(Refusal, Arc<PathAttributes>)> {
        let entry = self.kernel.get(&source.source)?.0.get(prefix)?;
        let refusals = entry.refusals.as_ref()?;
        let (_, refusal) = refusals.iter().find(|(by, _)| *by == domain)?;
        Some((*refusal, entry.attributes.clone()))
    }
}

/// The path that a peer's candidate stands for.
pub(super) fn path_of(candidate: &Candidate<'_>) -> FibPath {
    let (peer, next_hop) = (candidate.peer, candidate.attributes.next_hop);
    FibPath { source: peer.source, next_hop, side: peer.side, share: NonZero::<u8>::MIN }
}

/// RFC 4271 section 5.1.1: a route learned by some other means is INCOMPLETE.
fn attributes(prefix: IpNet, metric: u32, hops: &[KernelHop]) -> PathAttributes {
    let none = match prefix {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let next_hop = hops.first().map_or(none, |(address, _)| *address);
    PathAttributes { origin: Origin::Incomplete, med: Some(metric), ..PathAttributes::originated(next_hop) }
}
