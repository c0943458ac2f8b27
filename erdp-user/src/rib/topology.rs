//! What the configuration says of domains and peers, in the form that the base needs: indices resolved, subnets listed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::{aggregate_of, connected};
use crate::bgp::{Asn, Community, Family, PathAttributes, PeerId, Role};
use crate::config::{
    self, Config, DomainId, LinkRole, MaxPrefixes, PeeringKind, Policy, Side, WhenFull, WhenTooMany,
};
use crate::types::{AttachmentId, PathSource};

/// Everything the base knows before the first session. Indices are identifiers: `peers[n].id` is `PeerId(n)`, and
/// likewise for domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibConfig {
    /// Our autonomous system.
    pub local_asn: Asn,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// What an MSEE is told of an aggregate.
    pub aggregate: Arc<PathAttributes>,
    /// The routing domains.
    pub domains: Vec<RibDomain>,
    /// The peers.
    pub peers: Vec<RibPeer>,
    /// Attachments whose kernel routes are taken, as if they were peers; their identifiers are not places in a list.
    pub kernel: Vec<RibPeer>,
    /// Attachments whose own subnets are announced (requirement C2), likewise.
    pub connected: Vec<RibPeer>,
    /// Prefixes that only their service may carry (requirement B9).
    pub encrypted_only: Vec<IpNet>,
    /// Subnets of our own links and attachments, which nobody may announce to us.
    pub link_subnets: Vec<IpNet>,
    /// Whether some attachment has several domains to choose from.
    pub chooses_circuits: bool,
    /// Whether some attachment compares what the routes of its domains are worth.
    pub compares_circuits: bool,
}

/// A routing domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibDomain {
    /// Its index.
    pub id: DomainId,
    /// `circuit/peering`, for messages.
    pub name: String,
    /// Which rules hold in it.
    pub kind: PeeringKind,
    /// Its circuit is enabled; without that its routes are nobody's (requirement A8).
    pub enabled: bool,
    /// Whether the customer may announce a default route (requirement D5).
    pub forced_tunnel: bool,
    /// How many prefixes its MSEEs are told at most, IPv4 and IPv6 (requirement D1).
    pub advertise: [u32; 2],
    /// What happens above that.
    pub when_full: WhenFull,
    /// Communities of which Microsoft's routes must have one; empty: no filter (requirement D6).
    pub route_filter: Vec<Community>,
    /// Longest prefixes either way, IPv4 and IPv6 (requirement D3).
    pub longest: [u8; 2],
    /// The policy for what its MSEEs are advertised.
    pub export: Option<Arc<Policy>>,
    /// Whose paths it may have, in their order; peers among them are told of its routes.
    pub sources: Vec<PathSource>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibPeer {
    /// What it is: in [`RibConfig::peers`] the peer of its index.
    pub source: PathSource,
    /// For messages.
    pub name: String,
    /// Which side it is on.
    pub side: Side,
    /// Its autonomous system; our own of the other edge box only.
    pub asn: Asn,
    /// Our autonomous system towards it.
    pub local_asn: Asn,
    /// Its address.
    pub remote: IpAddr,
    /// Its domains, first one preferred.
    pub domains: Vec<DomainId>,
    /// Our addresses on its attachment, each with the length of its subnet: next hops must lie in one of them, and ours is
    /// the next hop that it is told.
    pub addresses: Vec<IpNet>,
    /// Our link-local address on its attachment, once the kernel has told it ([`super::Rib::link_local`]).
    pub link_local: Option<Ipv6Addr>,
    /// Prefixes that only it may carry: its attachment leads to their service.
    pub carries: Vec<IpNet>,
    /// Domains in which it stands between a chain's start and Microsoft, so that MSEEs are told its routes.
    pub fronts: Vec<DomainId>,
    /// How its paths rank against those of others, highest first: LOCAL_PREF is ours to give (RFC 4271 section 5.1.5).
    pub local_pref: u32,
    /// The policy for its routes; of the kernel's for those.
    pub import: Option<Arc<Policy>>,
    /// The policy for what it is advertised.
    pub export: Option<Arc<Policy>>,
    /// How often our AS is repeated in what it is told (requirement B11).
    pub prepend: u8,
    /// How many prefixes of a family it may announce (requirement D2).
    pub max_prefixes: Option<MaxPrefixes>,
    /// How many bytes its routes may take.
    pub max_memory: usize,
    /// What becomes of what is above either limit.
    pub when_too_many: WhenTooMany,
    /// Type codes of the attributes without a meaning here that it is passed on; `None`: all of them.
    pub passes: Option<Vec<u8>>,
    /// Our role towards it (RFC 9234).
    pub role: Option<Role>,
    /// Of the other edge box only: Microsoft's AS on the peering, by which its routes from there are told from the customer's.
    pub microsoft: Option<Asn>,
    /// An operator takes it out of use: its paths come last, and it is asked to use others ([`super::Rib::spare`]).
    pub spared: bool,
    /// Its link carries no packets: its paths come last ([`super::Rib::unreach`]).
    pub unreached: bool,
}

/// RFC 4271 leaves the default open; every implementation has this one.
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;
/// What is used only where there is nothing else (RFC 8326 section 4.2).
pub(crate) const LAST_RESORT: u32 = 0;
/// A tunnel is the backup of a circuit (requirement B8).
pub(crate) const SERVICE_LOCAL_PREF: u32 = 90;

impl RibConfig {
    /// What follows from a configuration.
    pub fn new(config: &Config) -> RibConfig {
        Self::with_peers(config, config.peers(), &BTreeSet::new())
    }

    /// The same with peers whose identifiers the caller has given: their places in the list. Those in `vacant` are nobody any more.
    pub fn with_peers(config: &Config, peers: Vec<config::Peer>, vacant: &BTreeSet<PeerId>) -> RibConfig {
        let attachments = config.attachments();
        let policies: Vec<Arc<Policy>> = config.policies.iter().cloned().map(Arc::new).collect();
        let policy =
            |name: Option<&String>| policies.iter().find(|policy| Some(&policy.name) == name).cloned();
        let peers: Vec<RibPeer> = peers
            .into_iter()
            .filter_map(|peer| {
                let attachment = attachments.get(peer.attachment.index())?;
                let options = peer.options;
                Some(RibPeer {
                    source: peer.session.id.into(),
                    name: peer.name,
                    side: peer.side,
                    asn: peer.session.remote_asn,
                    local_asn: peer.session.local_asn,
                    remote: peer.session.remote,
                    domains: if vacant.contains(&peer.session.id) {
                        Vec::new()
                    } else {
                        attachment.domains.clone()
                    },
                    addresses: attachment.addresses.clone(),
                    link_local: None,
                    carries: attachment.encrypted_only.clone(),
                    fronts: fronts(config, attachment.id),
                    local_pref: options.local_pref.unwrap_or(match peer.side {
                        Side::Service => SERVICE_LOCAL_PREF,
                        Side::Msee(_) | Side::Ce | Side::Box => DEFAULT_LOCAL_PREF,
                    }),
                    import: policy(options.policy_in.as_ref()),
                    export: policy(options.policy_out.as_ref()),
                    prepend: options.prepend,
                    max_prefixes: options.max_prefixes,
                    max_memory: (options.max_memory_mib as usize) << 20,
                    when_too_many: options.when_too_many,
                    passes: passes(config, attachment),
                    role: options.role,
                    microsoft: microsoft_behind(config, attachment),
                    spared: false,
                    unreached: false,
                })
            })
            .collect();
        let kernel = kernel_sources(config, &attachments);
        let connected = connected::sources(config, &attachments);
        let domains = config.domains().into_iter().filter_map(|domain| {
            let circuit = config.circuits.get(domain.circuit)?;
            let peering = circuit.peering(domain.kind)?;
            let limits = &peering.limits;
            Some(RibDomain {
                id: domain.id,
                name: domain.name,
                kind: domain.kind,
                enabled: circuit.is_in_use(),
                forced_tunnel: domain.forced_tunnel,
                advertise: limits.advertise(domain.kind, circuit.sku),
                when_full: limits.when_full,
                route_filter: limits.route_filter.clone(),
                longest: [limits.longest_ipv4, limits.longest_ipv6],
                export: policy(peering.options.policy_out.as_ref()),
                sources: peers
                    .iter()
                    .chain(&kernel)
                    .chain(&connected)
                    .filter(|peer| peer.domains.contains(&domain.id))
                    .map(|peer| peer.source)
                    .collect(),
            })
        });
        let domains = domains.collect();
        let encrypted_only = attachments.iter().flat_map(|it| it.encrypted_only.iter().copied()).collect();
        RibConfig {
            local_asn: config.asn,
            router_id: config.router_id,
            aggregate: Arc::new(aggregate_of(config.asn, config.router_id)),
            domains,
            encrypted_only,
            link_subnets: config.link_subnets(),
            chooses_circuits: attachments.iter().any(|attachment| attachment.domains.len() > 1),
            compares_circuits: attachments.iter().any(|attachment| attachment.compares_circuits),
            peers,
            kernel,
            connected,
        }
    }

    /// The peer of an identifier.
    pub fn peer(&self, id: PeerId) -> Option<&RibPeer> {
        self.peers.get(usize::from(id.0))
    }

    /// The peer, or the source beside them.
    pub fn source(&self, source: PathSource) -> Option<&RibPeer> {
        match source {
            PathSource::Peer(id) => self.peer(id),
            PathSource::Kernel(_) => self.kernel.iter().find(|it| it.source == source),
            PathSource::Static(_) => self.connected.iter().find(|it| it.source == source),
        }
    }

    /// The domain of an identifier.
    pub fn domain(&self, id: DomainId) -> Option<&RibDomain> {
        self.domains.get(usize::from(id.0))
    }
}

/// Microsoft's AS on the peering of an attachment that leads to the other edge box.
fn microsoft_behind(config: &Config, attachment: &config::Attachment) -> Option<Asn> {
    first_peering(config, attachment).filter(|_| attachment.side == Side::Box).map(|peering| peering.peer_asn)
}

/// Only Microsoft is not passed on what ERDP does not read: an attribute that somebody far away has added has reset sessions before.
fn passes(config: &Config, attachment: &config::Attachment) -> Option<Vec<u8>> {
    let peering = first_peering(config, attachment).filter(|_| attachment.side.is_msee())?;
    Some(peering.limits.pass_attributes.clone())
}

/// The peering of an attachment's first domain.
fn first_peering<'a>(config: &'a Config, attachment: &config::Attachment) -> Option<&'a config::Peering> {
    let domains = config.domains();
    let domain = domains.get(usize::from(attachment.domains.first()?.0))?;
    config.circuits.get(domain.circuit)?.peering(domain.kind)
}

/// The attachments whose kernel routes are taken.
fn kernel_sources(config: &Config, attachments: &[config::Attachment]) -> Vec<RibPeer> {
    let source = |attachment: &config::Attachment| {
        let kernel = attachment.kernel_routes.as_ref()?;
        let source = RibPeer::beside(config, attachment, PathSource::Kernel(attachment.id))?;
        Some(RibPeer {
            name: format!("{} kernel", attachment.name),
            local_pref: kernel.local_pref,
            import: config.policy(attachment.policy_in.as_deref()).cloned().map(Arc::new),
            ..source
        })
    };
    attachments.iter().filter_map(source).collect()
}

/// The domains in which an attachment stands between a chain's start and Microsoft.
fn fronts(config: &Config, attachment: AttachmentId) -> Vec<DomainId> {
    let through = config.chains.iter().filter(|chain| config.ce_attachment(chain.via) == attachment);
    through.map(|chain| chain.to).collect()
}

impl RibPeer {
    /// Which peer it is.
    #[cfg(test)]
    pub(super) fn id(&self) -> PeerId {
        self.source.peer().expect("a peer")
    }

    /// A source of routes on an attachment that is nobody's session.
    pub(super) fn beside(
        config: &Config,
        attachment: &config::Attachment,
        source: PathSource,
    ) -> Option<RibPeer> {
        Some(RibPeer {
            source,
            name: attachment.name.clone(),
            side: attachment.side,
            // Nobody's: it is neither an external nor an internal peer.
            asn: Asn(0),
            local_asn: config.asn,
            // Unique, as decisions need it: no peer has an address of ours.
            remote: attachment.addresses.first()?.addr(),
            domains: attachment.domains.clone(),
            addresses: attachment.addresses.clone(),
            link_local: None,
            carries: attachment.encrypted_only.clone(),
            fronts: fronts(config, attachment.id),
            local_pref: DEFAULT_LOCAL_PREF,
            import: None,
            export: None,
            prepend: 0,
            max_prefixes: None,
            max_memory: usize::MAX,
            when_too_many: WhenTooMany::Refuse,
            passes: None,
            role: None,
            microsoft: None,
            spared: false,
            unreached: false,
        })
    }

    /// Whether it is in our own AS.
    pub fn is_internal(&self) -> bool {
        self.side == Side::Box
    }

    /// Whether attributes of a type code that ERDP does not read are passed on to it.
    pub fn is_passed(&self, code: u8) -> bool {
        self.passes.as_ref().is_none_or(|codes| codes.contains(&code))
    }

    /// On which side a route of it came into our AS. The other box has let no route in that did not begin with its neighbour's AS.
    pub fn origin(&self, attributes: &PathAttributes) -> Side {
        match (self.side, self.microsoft) {
            (Side::Box, Some(asn)) if attributes.as_path.first() == Some(asn) => {
                Side::Msee(LinkRole::Primary)
            }
            (Side::Box, _) => Side::Ce,
            (side, _) => side,
        }
    }

    /// Whether its paths are used only where there are no others, in its own domain or in another one that an attachment lists.
    pub fn is_last_resort(&self) -> bool {
        self.spared || self.unreached
    }

    /// How much a route of it is worth: as we say, or as the other box says (RFC 4271 section 5.1.5).
    pub fn preference(&self, prefix: &IpNet, attributes: &PathAttributes) -> u32 {
        if self.is_last_resort() {
            return LAST_RESORT;
        }
        match self.is_internal() {
            true => attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            false => self.configured_preference(prefix, attributes),
        }
    }

    /// The next hop that we announce to it; `None` where we have no address of that family, and so no routes to announce.
    pub fn next_hop_self(&self, family: Family) -> Option<IpAddr> {
        let is_ipv4 = family == Family::Ipv4Unicast;
        self.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == is_ipv4)
    }
}
