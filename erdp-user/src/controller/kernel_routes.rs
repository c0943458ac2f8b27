//! The kernel's routes on their way to the RIB: which attachment a next hop is behind, and why one cannot be taken.
//!
//! A route is taken hop by hop: those that lead to a neighbour on an attachment which asks for such routes, in the shares that the kernel
//! has; the others are refused, and `erdp show routes --refused` has them with the reason. A route without next hops (`blackhole` and
//! its like) holds for every attachment that asks for its table and protocol.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::NonZero,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Controller;
use crate::{
    bfd::record::peer_key,
    config::Config,
    dataplane::Record,
    fib::{AttachmentFacts, Topology, scaled},
    kernel::{
        interface_name,
        routes::{self, Change, Counts, Elsewhere, Hop, Leads, Listener, RouteEvent, RoutesError, Watch},
    },
    neighbour::{NoHost, no_host},
    rib::{KernelHop, KernelPath},
    types::AttachmentId,
};

/// How long a start waits for the first dump: a million routes take about two seconds.
const FIRST_DUMP: Duration = Duration::from_secs(30);

/// Why a route of the kernel, or one of its next hops, is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
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
type Refused = (Option<u32>, Option<IpAddr>, NotTaken);

/// What is wanted of the kernel, and what became of it.
#[derive(Default)]
pub(super) struct KernelRoutes {
    /// Ends with this.
    listener: Option<Listener>,
    /// Attachments by the place of their watch.
    takers: Vec<Vec<AttachmentId>>,
    refused: BTreeMap<(usize, IpNet), Box<[Refused]>>,
    counts: Counts,
}

impl KernelRoutes {
    /// Subscribes to what a configuration wants; without any, events never come.
    pub fn listen(config: &Config) -> Result<(Self, mpsc::Receiver<RouteEvent>), RoutesError> {
        let (watches, takers) = wanted(config);
        if watches.is_empty() {
            return Ok((Self::default(), mpsc::channel(1).1));
        }
        let (listener, events) = Listener::open(watches, routes::RECEIVE_BUFFER)?;
        Ok((Self { listener: Some(listener), takers, ..Self::default() }, events))
    }
}

impl KernelRoutes {
    /// Whether the task that hears them lives; without any it need not.
    pub fn lives(&self) -> bool {
        self.listener.as_ref().is_none_or(Listener::lives)
    }

    /// Ends it as a fault in it would: for tests of what follows.
    pub fn end_task(&self) {
        self.listener.iter().for_each(Listener::end_task);
    }
}

/// The watches, each once, and who has them.
fn wanted(config: &Config) -> (Vec<Watch>, Vec<Vec<AttachmentId>>) {
    let (mut watches, mut takers): (Vec<Watch>, Vec<Vec<AttachmentId>>) = (Vec::new(), Vec::new());
    for attachment in config.attachments() {
        let Some(kernel) = &attachment.kernel_routes else { continue };
        let watch = Watch { table: kernel.table, protocols: kernel.protocols.clone() };
        match watches.iter().position(|known| *known == watch) {
            Some(at) => takers[at].push(attachment.id),
            None => {
                watches.push(watch);
                takers.push(vec![attachment.id]);
            }
        }
    }
    (watches, takers)
}

/// The neighbours with which another daemon of this machine speaks BGP: the packet path leaves that to the kernel.
pub(super) fn speakers(config: &Config) -> Vec<Record> {
    let of = |attachment: &crate::config::Attachment| {
        let id = attachment.id.number();
        let speakers = attachment.kernel_routes.iter().flat_map(|kernel| kernel.speakers.iter());
        speakers.map(|speaker| Record::Peer(peer_key(id, *speaker), true)).collect::<Vec<_>>()
    };
    config.attachments().iter().flat_map(of).collect()
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

impl Controller {
    /// Takes what the kernel has at the start, whole.
    pub(super) async fn learn_kernel_routes(&mut self, events: &mut mpsc::Receiver<RouteEvent>) {
        let deadline = Instant::now() + FIRST_DUMP;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match tokio::time::timeout(left, events.recv()).await {
                Ok(Some(event)) => {
                    let is_complete = matches!(event, RouteEvent::Complete(_));
                    self.on_kernel_routes(event);
                    if is_complete {
                        let Counts { routes, .. } = self.kernel_routes.counts;
                        tracing::info!(routes, "the kernel's routes are known");
                        return;
                    }
                }
                // Nothing is wanted, or time is over.
                Ok(None) => return,
                Err(_) => break,
            }
        }
        tracing::warn!("the kernel has not told its routes in time: they are used as they come");
    }

    /// Routes of the kernel have come, changed or gone.
    pub(super) fn on_kernel_routes(&mut self, event: RouteEvent) {
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
    pub(super) fn watches(&self) -> usize {
        self.kernel_routes.takers.len()
    }

    /// The prefixes of a watch that no attachment takes.
    pub(super) fn not_taken(&self, watch: usize) -> impl Iterator<Item = IpNet> {
        self.kernel_routes.refused.keys().filter(move |(of, _)| *of == watch).map(|(_, prefix)| *prefix)
    }

    /// Routes of the kernel to a prefix that no attachment takes, for operators.
    pub(super) fn show_not_taken(&self, watch: usize, prefix: IpNet) -> Vec<Value> {
        let refused = self.kernel_routes.refused.get(&(watch, prefix));
        let row = |(ifindex, gateway, reason): &Refused| {
            let interface = ifindex.map(|it| interface_name(it).unwrap_or_else(|| format!("interface {it}")));
            let by = match (&interface, gateway) {
                (Some(interface), Some(gateway)) => format!(" (via {gateway} dev {interface})"),
                (Some(interface), None) => format!(" (dev {interface})"),
                (None, _) => String::new(),
            };
            json!({
                "way": "in", "peer": "kernel", "domain": null, "prefix": prefix, "rule": "kernel-routes",
                "reason": format!("{reason}{by}"),
            })
        };
        refused.into_iter().flat_map(|it| it.iter()).map(row).collect()
    }

    /// Counts, for operators; nothing where no attachment takes any.
    pub(super) fn show_kernel_routes(&self) -> Value {
        if self.kernel_routes.takers.is_empty() {
            return Value::Null;
        }
        let attachments = self.kernel_routes.takers.iter().flatten().map(|id| {
            let (taken, refused) = self.rib.kernel_counts(*id);
            json!({ "attachment": self.name_of(*id), "taken": taken, "refused": refused })
        });
        json!({
            "attachments": attachments.collect::<Vec<_>>(),
            "not_taken": self.kernel_routes.refused.len(),
            "kernel": self.kernel_routes.counts,
        })
    }
}

#[cfg(test)]
mod tests;
