//! The configuration: one TOML file, parsed once into types that cannot be wrong, then only read.
//!
//! The files, in the order in which text flows through them:
//! - `raw`: the file as written; serde refuses unknown keys, and every value remembers where it stood.
//! - `values`: single values with rules of their own (bandwidths, VLAN identifiers, AS numbers).
//! - `parse`: [`Config`] out of the raw file. Whatever gets through needs no second check.
//! - `cross`: rules between parts of the file: overlapping subnets, tags used twice.
//! - `change`: a change to a circuit of the running router, by the same rules.
//! - `plan`: what follows from a [`Config`] without further choice: routing domains, attachments, BGP peers.
//! - `live`: what becomes of the running router when one [`Config`] takes the place of another.
//! - `shown`: a [`Config`] for people, with every default filled in and no secret.
//! - `secret`: keys that stand in files of their own.
//! - `preset`: files to begin with, one for each connectivity model.
//! - `policy`: named policies for routes.
//! - `inventory`: what is bought and set up in Azure, which changes nothing here.
//! - `error`: what a refusal says: file, line, key, reason and remedy.
//!
//! What must never happen: half a configuration in use. [`Config::load`] returns everything or one error.

mod change;
mod cross;
mod error;
mod inventory;
mod live;
mod parse;
mod plan;
mod policy;
pub mod preset;
mod raw;
mod secret;
pub mod shown;
mod values;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::Path;

use erdp_common::policer::BurstPolicy;
use ipnet::IpNet;
use serde::Serialize;

pub use change::{Changed, CircuitChange, Planned, burst_name, burst_policy};
pub use error::{ConfigError, Refusal, Warning};
pub use inventory::{Billing, Inventory, Price, PublicPrefix, ServiceKey, Validation, Vnet};
pub use live::{Difference, Plan, flaps as session_flaps, is_same as is_same_peer};
pub(crate) use parse::HASTY_HOLD;
pub use parse::lines;
pub use plan::{Attachment, Domain, DomainId, LinkRole, Peer, Side};
pub use policy::{Changes, Policy, PolicyRule, PrefixRange, RouteSource, Then};
pub use values::{BitsPerSecond, Tags, VlanId, is_private_asn};

use crate::azure::prefixes;
use crate::bgp::{Asn, Community, Family, Role, Seconds};

/// Microsoft's autonomous system on every ExpressRoute peering (requirement E1).
pub const MICROSOFT_ASN: Asn = Asn(12076);

/// The autonomous system of Azure's VPN gateways and route servers, which a service may speak with (requirement B8).
pub const GATEWAY_ASN: Asn = Asn(65515);

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Our autonomous system.
    pub asn: Asn,
    /// Our BGP identifier: as configured, or the first IPv4 address of ours in the file.
    pub router_id: Ipv4Addr,
    /// Blocks of the forwarding trie, 1 KiB each, for all routing domains and both families.
    pub fib_blocks: u32,
    /// Whether both directions of a flow hash alike, for devices beside the edge that want to see both.
    pub symmetric_hash: bool,
    /// Dropped frames that are sampled for the operator: so many of one reason on one CPU in about a second; 0: none.
    pub drop_samples: u32,
    /// How long routes that were adopted after a crash are kept for peers that have not sent all of theirs.
    pub restart_deadline: Seconds,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; nowhere unless asked for.
    pub metrics: Option<SocketAddr>,
    /// Whether the router refuses to start without any of its interfaces.
    pub require_interfaces: bool,
    /// The group whose members may order over the control socket, besides root; `None`: whoever may open it.
    pub control_orders: Option<String>,
    /// The circuits, in the file's order.
    #[serde(rename = "circuit")]
    pub circuits: Vec<Circuit>,
    /// The attachments towards the customer, in the file's order.
    #[serde(rename = "attachment")]
    pub attachments: Vec<CeAttachment>,
    /// Ways through services, in the file's order.
    #[serde(rename = "chain")]
    pub chains: Vec<Chain>,
    /// Policies for routes, in the file's order.
    #[serde(rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
}

/// A way to a peering through a service: explicit, because domains meet there (requirements C1, C5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chain {
    /// Where it starts.
    pub from: ChainStart,
    /// Index of the service's attachment in [`Config::attachments`]; it lists `to` among its domains.
    pub via: usize,
    /// The peering that is reached.
    pub to: DomainId,
}

/// Where a chain starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainStart {
    /// On an attachment of the customer, by its index in [`Config::attachments`]; it does not list the chain's end itself.
    Attachment(usize),
    /// At the MSEEs of another peering.
    Peering(DomainId),
}

/// What an attachment is when a VPN, NAT or appliance is behind it (requirements B8, B9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Service {
    /// The operator's name for it, unique.
    pub name: String,
    /// Its addresses to which chains send, in the attachment's subnets.
    pub next_hops: Vec<IpAddr>,
    /// Prefixes that are reached through it or not at all.
    pub encrypted_only: Vec<IpNet>,
}

/// An ExpressRoute circuit: two links to two MSEEs, never more or fewer (requirement B1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Circuit {
    /// The operator's name for it, unique.
    pub name: String,
    /// What is bought; each direction is limited to it on its own (requirement A1).
    #[serde(serialize_with = "shown::text_of")]
    pub bandwidth: BitsPerSecond,
    /// What is bought, again: it decides which bandwidths are sold (requirement A3); `None`: those of any kind are.
    pub kind: Option<CircuitKind>,
    /// What is bought, again: it decides route limits and scope (requirement A6).
    pub sku: Sku,
    /// The S-tag that names the circuit on its links, if the provider hands over QinQ (requirement C4).
    pub s_vlan: Option<VlanId>,
    /// Whether its operator has enabled it (requirement A8).
    pub enabled: bool,
    /// How far its provider is (requirement A8).
    pub provisioning: Provisioning,
    /// Whether what came in on one side may leave on the same side (requirement C2).
    pub hairpin: bool,
    /// What a burst to twice the bandwidth means (requirement A2).
    #[serde(serialize_with = "shown::burst")]
    pub burst: BurstPolicy,
    /// How long such a burst may last after idleness, in milliseconds.
    pub credit_ms: u64,
    /// Whether the bandwidth is of bytes on the wire (with preamble, header, tags and gap) rather than of IP bytes.
    pub counts_wire_bytes: bool,
    /// With fewer eligible links the circuit is the last resort (requirement B11).
    pub minimum_links: u8,
    /// Whether ECN-capable packets are marked before any is dropped.
    pub ecn: bool,
    /// The link to the primary MSEE.
    pub primary: Link,
    /// The link to the secondary MSEE.
    pub secondary: Link,
    /// Private peering, if it is configured; at least one of the two is.
    pub private: Option<Peering>,
    /// Microsoft peering, if it is configured.
    pub microsoft: Option<Peering>,
    /// What is bought and set up in Azure, as far as it is written down; nothing of it changes what is forwarded.
    pub inventory: Inventory,
}

impl Circuit {
    /// The link of a role.
    pub fn link(&self, role: LinkRole) -> &Link {
        match role {
            LinkRole::Primary => &self.primary,
            LinkRole::Secondary => &self.secondary,
        }
    }

    /// The peering of a kind, if it is configured.
    pub fn peering(&self, kind: PeeringKind) -> Option<&Peering> {
        match kind {
            PeeringKind::Private => self.private.as_ref(),
            PeeringKind::Microsoft => self.microsoft.as_ref(),
        }
    }

    /// Whether it carries anything: enabled here and provisioned by the provider (requirement A8).
    pub fn is_in_use(&self) -> bool {
        self.enabled && self.provisioning == Provisioning::Provisioned
    }

    /// Whether both links end on this box, which is then a single point of failure (requirement B1a).
    pub fn is_on_one_box(&self) -> bool {
        matches!((&self.primary, &self.secondary), (Link::Local { .. }, Link::Local { .. }))
    }
}

/// How the circuit reaches Microsoft, which decides what bandwidths it is sold in (requirement A3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum CircuitKind {
    /// By a connectivity provider.
    #[serde(rename = "provider")]
    Provider,
    /// On a pair of 10 Gb/s ports of one's own.
    #[serde(rename = "direct-10g")]
    Direct10G,
    /// On a pair of 100 Gb/s ports of one's own.
    #[serde(rename = "direct-100g")]
    Direct100G,
}

impl CircuitKind {
    /// All of them.
    pub const ALL: [CircuitKind; 3] =
        [CircuitKind::Provider, CircuitKind::Direct10G, CircuitKind::Direct100G];

    /// The word for it in the file and in every message.
    pub fn as_str(self) -> &'static str {
        match self {
            CircuitKind::Provider => "provider",
            CircuitKind::Direct10G => "direct-10g",
            CircuitKind::Direct100G => "direct-100g",
        }
    }
}

/// What the circuit was bought as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sku {
    /// One geopolitical region, 4,000 routes on private peering.
    #[default]
    Standard,
    /// Every region, 10,000 routes on private peering.
    Premium,
    /// The regions near the peering location only.
    Local,
}

impl Sku {
    /// All of them.
    pub const ALL: [Sku; 3] = [Sku::Standard, Sku::Premium, Sku::Local];

    /// The word for it in the file and in every message.
    pub fn as_str(self) -> &'static str {
        match self {
            Sku::Standard => "standard",
            Sku::Premium => "premium",
            Sku::Local => "local",
        }
    }
}

/// The provider's state of a circuit, as Azure names it (requirement A8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provisioning {
    /// The provider has not begun, or has deprovisioned it.
    NotProvisioned,
    /// The provider is at work.
    Provisioning,
    /// The circuit can be used.
    #[default]
    Provisioned,
}

/// Where one of a circuit's two cross-connections ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// On an interface of this box.
    Local {
        /// The interface's name.
        interface: String,
        /// Whether the router refuses to start without it.
        required: bool,
    },
    /// On the other edge box.
    Box {
        /// The other box's name.
        name: String,
    },
}

/// The two routing domains that a circuit can have (requirement C1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeeringKind {
    /// Towards the customer's virtual networks.
    Private,
    /// Towards Microsoft's public services.
    Microsoft,
}

impl PeeringKind {
    /// Both, in the order in which routing domains are numbered.
    pub const ALL: [PeeringKind; 2] = [PeeringKind::Private, PeeringKind::Microsoft];

    /// The word for it in the file and in every message.
    pub fn as_str(self) -> &'static str {
        match self {
            PeeringKind::Private => "private",
            PeeringKind::Microsoft => "microsoft",
        }
    }
}

/// What sessions with MSEEs and with the customer's routers can both be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SessionOptions {
    /// Only packets with TTL 255 are the peer's (RFC 5082).
    pub gtsm: bool,
    /// How long the peer shall keep our routes while we restart, and whether we keep its (RFC 4724); 0: neither.
    pub restart_time: Seconds,
    /// Our role towards the peer (RFC 9234).
    pub role: Option<Role>,
    /// Whether a peer without a role is refused.
    pub role_strict: bool,
    /// Whether several paths of the peer to one prefix are taken (RFC 7911).
    pub add_path: bool,
    /// How the peer's routes rank, highest first; `None`: 100, or 90 for a service (requirements B8, B11).
    pub local_pref: Option<u32>,
    /// How often our AS is repeated in what the peer is told (requirement B11).
    pub prepend: u8,
    /// How many prefixes of a family the peer may announce (requirement D2).
    pub max_prefixes: Option<MaxPrefixes>,
    /// How much memory its routes may take, in MiB.
    pub max_memory_mib: u32,
    /// What becomes of what is above either limit.
    pub when_too_many: WhenTooMany,
    /// The policy for what the peer announces, by name (requirement B11).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_in: Option<String>,
    /// The policy for what it is advertised, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_out: Option<String>,
}

/// What happens when a peer announces more than it may (requirement D2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenTooMany {
    /// The session ends with Cease/1 and comes back after a wait.
    Cease,
    /// What is above the limit is refused, and the session stays: both MSEEs of a circuit announce the same, and would go together.
    Refuse,
}

/// A limit on what a peer announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MaxPrefixes {
    /// Prefixes of one family.
    pub limit: u32,
    /// How long it stays away the first time that it exceeds the limit.
    pub wait: Seconds,
}

/// What happens when more prefixes are to be advertised than Microsoft takes (requirement D1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The longest prefixes are held back, those with the highest addresses first: the same ones on both links.
    #[default]
    HoldBack,
    /// Neighbouring prefixes are replaced by what covers both, until they fit; what nobody has behind it is discarded here.
    Aggregate,
}

/// How much of what the customer announces an MSEE is told, and what is taken from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Prefixes of each family at most, where no key of one family says more; `None`: what the SKU and the peering allow.
    pub advertise_at_most: Option<u32>,
    /// IPv4 prefixes at most; never above what the SKU and the peering allow.
    pub advertise_at_most_ipv4: Option<u32>,
    /// IPv6 prefixes at most; never above what the SKU and the peering allow.
    pub advertise_at_most_ipv6: Option<u32>,
    /// What happens above that.
    pub when_full: WhenFull,
    /// Communities of which a route from Microsoft must have one; empty: no filter (requirement D6).
    pub route_filter: Vec<Community>,
    /// Type codes of attributes that ERDP does not read and passes on to Microsoft all the same.
    pub pass_attributes: Vec<u8>,
    /// Longest IPv4 prefix either way (requirement D3).
    pub longest_ipv4: u8,
    /// Longest IPv6 prefix either way.
    pub longest_ipv6: u8,
}

impl Limits {
    /// How many IPv4 and IPv6 prefixes an MSEE is advertised at most: as many as Microsoft accepts, or fewer where a key says so
    /// (requirement D1).
    pub fn advertise(&self, kind: PeeringKind, sku: Sku) -> [u32; 2] {
        let [ceiling4, ceiling6] = prefixes::ceilings(kind, sku);
        let lowered = |key: Option<u32>, ceiling: u32| {
            key.or(self.advertise_at_most).map_or(ceiling, |most| most.min(ceiling))
        };
        [lowered(self.advertise_at_most_ipv4, ceiling4), lowered(self.advertise_at_most_ipv6, ceiling6)]
    }
}

/// A peering: two BGP sessions for each family, one to each MSEE (requirement B3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Peering {
    /// The C-tag that names the peering on its links.
    pub vlan: Option<VlanId>,
    /// Whether what comes from the MSEEs is dropped if its source cannot be there (C2).
    pub checks_sources: bool,
    /// Whether unmarked Teams traffic is classified by its client ports (rules F).
    pub classify_ports: bool,
    /// Microsoft's autonomous system; anything but [`MICROSOFT_ASN`] is warned about.
    pub peer_asn: Asn,
    /// The hold time that we offer.
    pub hold: Seconds,
    /// TCP MD5 key of both sessions (requirement E3).
    #[serde(serialize_with = "shown::secret")]
    pub md5: Option<String>,
    /// Whether we wait for the MSEE to connect.
    pub passive: bool,
    /// More about both sessions.
    pub options: SessionOptions,
    /// How many routes, and which.
    pub limits: Limits,
    /// Whether the customer may advertise a default route, which pulls all of Azure's traffic (requirement D5).
    pub forced_tunnel: bool,
    /// BFD with both MSEEs (requirement B5).
    pub bfd: Option<Bfd>,
    /// IPv4 subnets of the two links; a peering has at least one family.
    pub ipv4: Option<LinkPair>,
    /// IPv6 subnets of the two links.
    pub ipv6: Option<LinkPair>,
}

impl Peering {
    /// The addresses on one link, IPv4 first.
    pub fn addresses(&self, role: LinkRole) -> impl Iterator<Item = LinkAddresses> + '_ {
        self.ipv4.iter().chain(self.ipv6.iter()).map(move |pair| match role {
            LinkRole::Primary => pair.primary,
            LinkRole::Secondary => pair.secondary,
        })
    }
}

/// BFD with a peer (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bfd {
    /// How often we would like to send and can receive, in microseconds.
    pub interval_us: u32,
    /// The peer's detection time is so many intervals.
    pub multiplier: u8,
    /// BGP waits for it (RFC 5882 section 4.1).
    pub strict: bool,
    /// How long the packet path answers for an absent controller, in seconds; 0: not at all.
    pub absence_s: u32,
}

/// The two subnets of one family (requirement E2: the first is the primary link's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinkPair {
    /// On the primary link.
    pub primary: LinkAddresses,
    /// On the secondary link.
    pub secondary: LinkAddresses,
}

/// Who has which address on a link (requirement E2: we take the first usable one, Microsoft the second).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinkAddresses {
    /// The link's /30 or /126.
    pub subnet: IpNet,
    /// Our address.
    pub ours: IpAddr,
    /// The MSEE's address.
    pub theirs: IpAddr,
}

/// A logical interface towards the customer, with the peerings that may be used from it (requirement C6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CeAttachment {
    /// The interface's name.
    pub interface: String,
    /// Its tags on the wire.
    #[serde(serialize_with = "shown::text_of")]
    pub tags: Tags,
    /// Share of the flows from Azure that each of its peers gets, in relation to other attachments whose peers announce the same
    /// prefix.
    pub weight: NonZero<u8>,
    /// The routing domains that may be used, first one preferred.
    pub domains: Vec<DomainId>,
    /// Those that are listed and that the attachment's zone may not use (requirement C5).
    pub forbidden: Vec<DomainId>,
    /// Set if it leads to a service and not to the customer.
    pub service: Option<Service>,
    /// Set if it leads to the other edge box of that name and not to the customer (requirement B1a); it lists one domain.
    #[serde(rename = "box")]
    pub other_box: Option<String>,
    /// Our addresses with the length of their subnets, IPv4 first; at most one of each family.
    pub addresses: Vec<IpNet>,
    /// Whether the attachment's own subnets are announced to Microsoft, so that hosts on its wire can be reached (requirement C2).
    pub advertise_connected: bool,
    /// Whether the router refuses to start without its interface.
    pub required: bool,
    /// Which routes of the kernel are taken if they lead through it; `None`: none.
    pub kernel_routes: Option<KernelRoutes>,
    /// The policy for the kernel's routes, by name; its peers have theirs in their options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_in: Option<String>,
    /// Whether local preference decides between its domains, so that equal ones share the flows, and not the order in which they are
    /// listed.
    #[serde(rename = "between-circuits", serialize_with = "shown::between_circuits")]
    pub compares_circuits: bool,
    /// The customer's routers.
    pub peers: Vec<CePeer>,
}

impl CeAttachment {
    /// Its name in every message: the interface with its tags.
    pub fn name(&self) -> String {
        format!("{}{}", self.interface, self.tags)
    }
}

/// The kernel as a source of routes beside BGP: what another routing daemon has installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KernelRoutes {
    /// Number of the routing table.
    pub table: u32,
    /// Numbers of the protocols, as in `/etc/iproute2/rt_protos`.
    pub protocols: Vec<u8>,
    /// How the routes rank against those of BGP sessions, highest first.
    pub local_pref: u32,
    /// Neighbours with which the other daemon speaks BGP over this attachment.
    pub speakers: Vec<IpAddr>,
}

/// A customer's router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CePeer {
    /// Its address, inside one of the attachment's subnets.
    pub address: IpAddr,
    /// Our address in that subnet.
    pub local: IpAddr,
    /// Its autonomous system.
    pub asn: Asn,
    /// The hold time that we offer.
    pub hold: Seconds,
    /// TCP MD5 key.
    #[serde(serialize_with = "shown::secret")]
    pub md5: Option<String>,
    /// Whether we wait for it to connect.
    pub passive: bool,
    /// More about the session.
    pub options: SessionOptions,
    /// BFD with it.
    pub bfd: Option<Bfd>,
    /// The families exchanged on the session, at least one; each has an address of ours to be the next hop.
    pub families: Vec<Family>,
}

impl Config {
    /// The policy of a name.
    pub fn policy(&self, name: Option<&str>) -> Option<&Policy> {
        self.policies.iter().find(|policy| Some(policy.name.as_str()) == name)
    }

    /// Reads and checks a file. The warnings are for the operator; none stands in the way of running.
    pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { file: path.to_owned(), source })?;
        Config::parse(&text, path)
    }

    /// Checks a text; `file` only names it in messages.
    pub fn parse(text: &str, file: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
        parse::config(text, file).map_err(|fault| fault.into_error(text, file)).map(|(config, faults)| {
            let warnings = faults.into_iter().map(|fault| fault.into_warning(text, file)).collect();
            (config, warnings)
        })
    }
}
