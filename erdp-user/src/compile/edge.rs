//! What a configuration means for the forwarding table, for who may speak and for the kernel's routes.

use std::collections::HashMap;

use erdp_common::abi::PeerKey;
use ipnet::IpNet;

use super::{limits, policy};
use crate::{
    bfd::record,
    config::{self, Attachment, Config, Domain, DomainId, PeeringKind, Side, VlanId},
    dataplane::Record,
    fib::{AttachmentFacts, SourceCheck, Topology},
    kernel::routes::Watch,
    rib::RibConfig,
    types::AttachmentId,
};

/// Everything that follows from a configuration and the indexes of its interfaces.
pub struct Edge {
    /// The routing domains, by their identifiers.
    pub domains: Vec<Domain>,
    /// The attachments, by their identifiers.
    pub attachments: Vec<Attachment>,
    /// The BGP peers, by their identifiers.
    pub peers: Vec<config::Peer>,
    /// The attachments as the forwarding table has them.
    pub topology: Topology,
    /// Domains and peers as the routing base has them.
    pub rib: RibConfig,
    /// Who may speak to this router, but for peers with BFD: those are written with their session's number.
    pub speakers: Vec<Record>,
    /// The attachments whose interface is not there.
    pub missing: Vec<AttachmentId>,
    /// The attachments that take the kernel's routes, by the place of their watch in [`watches`].
    pub takers: Vec<Vec<AttachmentId>>,
}

impl Edge {
    /// What a configuration means where its attachments are as in this topology.
    pub fn of(config: &Config, topology: Topology) -> Self {
        let peers = config.peers();
        let without_bfd = peers.iter().filter(|peer| peer.bfd.is_none());
        let mut speakers: Vec<Record> = without_bfd.map(|peer| Record::Peer(peer_key(peer), true)).collect();
        speakers.extend(other_speakers(config));
        let (_, takers) = watches(config);
        Self {
            domains: config.domains(),
            attachments: config.attachments(),
            rib: RibConfig::new(config),
            missing: not_there(&topology),
            topology,
            speakers,
            takers,
            peers,
        }
    }
}

/// The attachments on interfaces with these indexes; those of an interface without one are configured, and nothing leads through them.
pub fn topology(config: &Config, interfaces: &HashMap<&str, u32>) -> Topology {
    let list = config.attachments().into_iter().map(|attachment| {
        let ifindex = interfaces.get(attachment.interface.as_str()).copied().unwrap_or_default();
        attachment_facts(config, &attachment, ifindex)
    });
    Topology::new(list.collect())
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
        compares_circuits: attachment.compares_circuits,
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
pub fn peer_key(peer: &config::Peer) -> PeerKey {
    record::peer_key(peer.attachment.number(), peer.session.remote)
}

/// The attachments whose interface is not there.
fn not_there(topology: &Topology) -> Vec<AttachmentId> {
    let absent = topology.attachments().filter(|facts| !topology.is_there(facts));
    absent.map(|facts| facts.id).collect()
}

/// The kernel's routes that are watched, each once, and the attachments that take them.
pub fn watches(config: &Config) -> (Vec<Watch>, Vec<Vec<AttachmentId>>) {
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
pub fn other_speakers(config: &Config) -> Vec<Record> {
    let of = |attachment: &Attachment| {
        let id = attachment.id.number();
        let speakers = attachment.kernel_routes.iter().flat_map(|kernel| kernel.speakers.iter());
        speakers.map(|speaker| Record::Peer(record::peer_key(id, *speaker), true)).collect::<Vec<_>>()
    };
    config.attachments().iter().flat_map(of).collect()
}
