//! The configuration with what the kernel says of its interfaces.

use std::collections::HashMap;

use erdp_common::abi::PeerKey;
use ipnet::IpNet;

use super::StartError;
use crate::{
    bfd,
    config::{self, Attachment, Config, Domain, DomainId, PeeringKind, Side, VlanId},
    controller::{limits, policy},
    fib::{AttachmentFacts, SourceCheck, Topology},
    kernel::{Kernel, KernelEvent, Link, preflight},
    types::AttachmentId,
};

/// The attachments with what the kernel says of their interfaces. Those that are not there have no index, unless that is a refusal.
pub(in crate::controller) fn topology(
    config: &Config,
    facts: &[KernelEvent],
) -> Result<Topology, StartError> {
    let links: HashMap<&str, &Link> = facts
        .iter()
        .filter_map(|fact| match fact {
            KernelEvent::Link(link) => Some((link.name.as_str(), link)),
            _ => None,
        })
        .collect();
    // Asked again, because one may have gone since the checks.
    let there: Vec<&str> = links.keys().copied().collect();
    let mut missing = preflight::missing_interfaces(config, &there);
    missing.retain(preflight::Finding::refuses);
    if !missing.is_empty() {
        return Err(StartError::Refused(missing));
    }
    let list = config.attachments().into_iter().map(|attachment| {
        let ifindex = links.get(attachment.interface.as_str()).map_or(0, |link| link.ifindex);
        attachment_facts(config, &attachment, ifindex)
    });
    Ok(Topology::new(list.collect()))
}

/// What the forwarding table needs to know of an attachment on the interface with this index; 0: it is not there.
pub fn attachment_facts(config: &Config, attachment: &Attachment, ifindex: u32) -> AttachmentFacts {
    let domains = config.domains();
    let circuit = |id: &DomainId| config.circuits.get(domains.get(usize::from(id.0))?.circuit);
    let circuits: Vec<_> = attachment.domains.iter().filter_map(circuit).collect();
    let limits = limits::of(config, attachment);
    let mut tags = attachment.tags.iter().map(VlanId::as_u16);
    let (mut local4, mut local6) = (None, None);
    for net in &attachment.addresses {
        match net {
            IpNet::V4(net) => local4 = Some(net.addr()),
            IpNet::V6(net) => local6 = Some(net.addr()),
        }
    }
    AttachmentFacts {
        id: attachment.id,
        name: attachment.name.clone(),
        interface: attachment.interface.clone(),
        ifindex,
        is_msee: attachment.side.is_msee(),
        is_service: attachment.side == Side::Service,
        is_box: attachment.side == Side::Box,
        public_sources: attachment.side.is_msee()
            && attachment.domains.iter().any(|id| is_microsoft(&domains, *id)),
        sources: source_check(config, attachment, &domains),
        // A CE attachment works as long as one of its circuits does; a disabled circuit has no routes to offer.
        enabled: config.is_in_use(attachment),
        // Between two boxes a packet would go to and fro.
        hairpin: attachment.side != Side::Box && circuits.iter().all(|circuit| circuit.hairpin),
        policer_in: limits.inbound,
        policer_out: limits.outbound,
        profile: limits.profile,
        weight: attachment.weight,
        tags: [tags.next(), tags.next()],
        control: None,
        local4,
        local6,
        link_local6: None,
        subnets: attachment.addresses.iter().map(IpNet::trunc).collect(),
        domains: attachment.domains.iter().map(|id| usize::from(id.0)).collect(),
        chained: policy::chained(config, attachment),
        encrypted_only: attachment.encrypted_only.clone(),
        forbidden: attachment.forbidden.iter().map(|id| usize::from(id.0)).collect(),
    }
}

/// On private peering a source must be announced; on Microsoft peering route filters keep prefixes back that services speak from.
fn source_check(config: &Config, attachment: &Attachment, domains: &[Domain]) -> SourceCheck {
    let domain = attachment.domains.first().filter(|_| attachment.side.is_msee());
    let found = domain.and_then(|id| domains.get(usize::from(id.0)));
    let peering = found.and_then(|it| Some((it.kind, config.circuits.get(it.circuit)?.peering(it.kind)?)));
    match peering {
        Some((kind, peering)) if peering.checks_sources => match kind {
            PeeringKind::Private => SourceCheck::Routed,
            PeeringKind::Microsoft => SourceCheck::NotOurs,
        },
        _ => SourceCheck::Off,
    }
}

fn is_microsoft(domains: &[Domain], id: DomainId) -> bool {
    domains.get(usize::from(id.0)).is_some_and(|domain| domain.kind == PeeringKind::Microsoft)
}

/// Who may speak BGP, as the map of peers has it.
pub(in crate::controller) fn peer_key(peer: &config::Peer) -> PeerKey {
    bfd::record::peer_key(peer.attachment.number(), peer.session.remote)
}

/// Adds our addresses where they are not yet; the answer is what was added, by us or by an edge `before` us.
pub(super) async fn add_addresses(
    config: &Config,
    kernel: &Kernel,
    topology: &Topology,
    before: &[(u32, IpNet)],
) -> Result<Vec<(u32, IpNet)>, StartError> {
    let mut added = Vec::new();
    for attachment in config.attachments() {
        let facts = topology.attachment(attachment.id).filter(|facts| topology.is_there(facts));
        let Some(facts) = facts else { continue };
        let ifindex = facts.kernel_ifindex();
        for net in &attachment.addresses {
            match kernel.ensure_address(ifindex, net.addr(), net.prefix_len()).await {
                Ok(true) => added.push((ifindex, *net)),
                Ok(false) if before.contains(&(ifindex, *net)) => {
                    if let Err(error) = kernel.mark_address(ifindex, net.addr(), net.prefix_len()).await {
                        tracing::warn!(%error, "after a crash `erdp uninstall` will leave this address");
                    }
                    added.push((ifindex, *net));
                }
                Ok(false) => {}
                Err(error) => {
                    remove_addresses(kernel, &added).await;
                    return Err(error.into());
                }
            }
        }
    }
    Ok(added)
}

pub(super) async fn remove_addresses(kernel: &Kernel, added: &[(u32, IpNet)]) {
    for (ifindex, net) in added {
        if let Err(error) = kernel.remove_address(*ifindex, net.addr(), net.prefix_len()).await {
            tracing::warn!(%error, "an address stays");
        }
    }
}

/// The attachments whose interface is not there.
pub(super) fn not_there(topology: &Topology) -> Vec<AttachmentId> {
    let absent = topology.attachments().filter(|facts| !topology.is_there(facts));
    absent.map(|facts| facts.id).collect()
}
