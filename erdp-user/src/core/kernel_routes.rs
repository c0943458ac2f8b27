//! The kernel's routes on their way to the RIB: which attachment a next hop is behind, and why one cannot be taken.
//!
//! A route is taken hop by hop: those that lead to a neighbour on an attachment which asks for such routes, in the shares that the kernel
//! has; the others are refused, and `erdp show routes --refused` has them with the reason. A route without next hops (`blackhole` and
//! its like) holds for every attachment that asks for its table and protocol.

use std::{collections::BTreeMap, net::IpAddr, num::NonZero};

use ipnet::IpNet;

use super::Core;
use crate::{
    dataplane::Dataplane,
    fib::{AttachmentFacts, Topology, scaled},
    kernel::routes::{Change, Counts, Elsewhere, Hop, Leads, RouteEvent},
    neighbour::{NoHost, no_host},
    rib::{KernelHop, KernelPath},
    types::AttachmentId,
};

/// Why a route of the kernel, or one of its next hops, is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// The destination would be a neighbour.
    #[error("it has no gateway: what is on a link itself is known to erdp by its own configuration")]
    NoGateway,
    /// Another interface.
    #[error("its interface is not that of an attachment with kernel-routes for its table and protocol")]
    NoAttachment,
    /// An address of nobody there.
    #[error("its gateway is in no subnet of the attachment")]
    OtherSubnet,
    /// Ourselves.
    #[error("its gateway is an address of this edge")]
    OwnAddress,
    /// An address that the subnet or the family reserves.
    #[error("no neighbour has its gateway's address: {0}")]
    NoHost(NoHost),
    /// IPv4 by IPv6.
    #[error("its gateway is of the other family")]
    OtherFamily,
    /// A tunnel.
    #[error("its packets would be encapsulated, which is a service's business and not the edge's")]
    Encapsulated,
    /// Another table.
    #[error("it leads to another table (throw), and erdp follows none")]
    Throw,
    /// One type of service.
    #[error("it is for one type of service only, and erdp routes by destination")]
    Tos,
}

/// What cannot be taken: behind which interface, by which gateway, and why.
pub(crate) type Refused = (Option<u32>, Option<IpAddr>, NotTaken);

/// Which attachment takes which routes of the kernel, and what became of them.
#[derive(Default)]
pub(crate) struct KernelRoutes {
    /// Attachments by the place of their watch.
    takers: Vec<Vec<AttachmentId>>,
    refused: BTreeMap<(usize, IpNet), Box<[Refused]>>,
    pub(crate) counts: Counts,
}

impl KernelRoutes {
    /// Nothing is known yet.
    pub fn new(takers: Vec<Vec<AttachmentId>>) -> Self {
        Self { takers, ..Self::default() }
    }
}

/// What a change means for each of the attachments that take such routes, in their order, and what cannot be taken.
fn taken(
    prefix: IpNet,
    change: &Change,
    takers: &[AttachmentId],
    topology: &Topology,
) -> (Vec<Option<KernelPath>>, Vec<Refused>) {
    let nothing = || vec![None; takers.len()];
    let Some(selected) = &change.selected else { return (nothing(), Vec::new()) };
    let path = |hops| KernelPath { metric: selected.metric, hops };
    let hops = match &selected.leads {
        Leads::Hops(hops) => hops,
        Leads::Discard => return (vec![Some(path(Vec::new())); takers.len()], Vec::new()),
        Leads::Elsewhere(Elsewhere::Throw) => return (nothing(), vec![(None, None, NotTaken::Throw)]),
        Leads::Elsewhere(Elsewhere::Tos) => return (nothing(), vec![(None, None, NotTaken::Tos)]),
    };
    let facts = |id: &AttachmentId| topology.attachment(*id);
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for hop in hops.iter() {
        let place =
            takers.iter().position(|id| facts(id).is_some_and(|it| it.kernel_ifindex() == hop.ifindex));
        match place
            .ok_or(NotTaken::NoAttachment)
            .and_then(|at| Ok((at, neighbour(prefix, hop, facts(&takers[at]))?)))
        {
            Ok((at, address)) => found.push((at, address, hop.weight)),
            Err(reason) => refused.push((Some(hop.ifindex), hop.gateway, reason)),
        }
    }
    let shares = shares(found.iter().map(|(_, _, weight)| *weight));
    let mut by_taker: Vec<Vec<KernelHop>> = vec![Vec::new(); takers.len()];
    for ((at, address, _), share) in found.iter().zip(shares) {
        by_taker[*at].push((*address, share));
    }
    let paths = by_taker.into_iter().map(|hops| (!hops.is_empty()).then(|| path(hops)));
    (paths.collect(), refused)
}

/// Weights by their greatest common divisor, so that equal ones are 1.
fn shares(weights: impl Iterator<Item = u32> + Clone) -> Vec<NonZero<u8>> {
    let divisor = |mut a: u32, mut b: u32| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let common = weights.clone().fold(0, divisor).max(1);
    scaled(weights.map(move |weight| weight / common))
}

/// The neighbour that a hop leads to on its attachment.
fn neighbour(prefix: IpNet, hop: &Hop, facts: Option<&AttachmentFacts>) -> Result<IpAddr, NotTaken> {
    let facts = facts.ok_or(NotTaken::NoAttachment)?;
    let gateway = hop.gateway.ok_or(NotTaken::NoGateway)?;
    let ours =
        [facts.local4.map(IpAddr::V4), facts.local6.map(IpAddr::V6), facts.link_local6.map(IpAddr::V6)];
    let is_link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    if hop.encapsulated {
        Err(NotTaken::Encapsulated)
    } else if gateway.is_ipv4() != prefix.addr().is_ipv4() {
        Err(NotTaken::OtherFamily)
    } else if ours.contains(&Some(gateway)) {
        Err(NotTaken::OwnAddress)
    } else if let Some(reason) = no_host(gateway, facts.subnets.iter().copied()) {
        Err(NotTaken::NoHost(reason))
    } else if is_link_local || facts.subnets.iter().any(|subnet| subnet.contains(&gateway)) {
        Ok(gateway)
    } else {
        Err(NotTaken::OtherSubnet)
    }
}

impl<D: Dataplane> Core<D> {
    /// Routes of the kernel have come, changed or gone.
    pub(crate) fn handle_routes(&mut self, event: RouteEvent) {
        match event {
            RouteEvent::Changes(changes) => changes.iter().for_each(|change| self.on_kernel_change(change)),
            RouteEvent::Complete(counts) => {
                let before = std::mem::replace(&mut self.kernel_routes.counts, counts);
                if counts.repaired > before.repaired {
                    let prefixes = counts.repaired - before.repaired;
                    tracing::info!(prefixes, "the kernel's routes were others than it had told");
                }
            }
        }
    }

    fn on_kernel_change(&mut self, change: &Change) {
        let Some(takers) = self.kernel_routes.takers.get(change.watch) else { return };
        let (paths, refused) = taken(change.prefix, change, takers, self.forwarding.topology());
        for (attachment, path) in takers.iter().zip(paths) {
            self.rib.kernel_route(*attachment, change.prefix, path);
        }
        let key = (change.watch, change.prefix);
        if refused.is_empty() {
            self.kernel_routes.refused.remove(&key);
        } else {
            self.kernel_routes.refused.insert(key, refused.into());
        }
    }

    /// How many tables and protocols are watched.
    pub(crate) fn watches(&self) -> usize {
        self.kernel_routes.takers.len()
    }

    /// The prefixes of a watch that no attachment takes.
    pub(crate) fn not_taken(&self, watch: usize) -> impl Iterator<Item = IpNet> {
        self.kernel_routes.refused.keys().filter(move |(of, _)| *of == watch).map(|(_, prefix)| *prefix)
    }

    /// The same for one prefix, with the reasons.
    pub(crate) fn why_not_taken(&self, watch: usize, prefix: IpNet) -> &[Refused] {
        self.kernel_routes.refused.get(&(watch, prefix)).map_or(&[], |it| it)
    }

    /// The attachments that take some, with how many are taken and refused there, and how many no attachment takes.
    pub(crate) fn kernel_route_counts(&self) -> (Vec<(AttachmentId, usize, usize)>, usize) {
        let row = |id: &AttachmentId| {
            let (taken, refused) = self.rib.kernel_counts(*id);
            (*id, taken, refused)
        };
        let rows = self.kernel_routes.takers.iter().flatten().map(row).collect();
        (rows, self.kernel_routes.refused.len())
    }
}

#[cfg(test)]
mod tests;
