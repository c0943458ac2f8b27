//! The file as written. Nothing is judged here but shape: unknown keys are refused, and every value that can be
//! wrong keeps the place where it stood.
//!
//! Numbers are read wider than they may be, so that the refusal can say more than "out of range".

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::inventory::ServiceKey;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawConfig {
    pub asn: Spanned<i64>,
    pub router_id: Option<Spanned<String>>,
    pub fib_blocks: Option<Spanned<i64>>,
    #[serde(default)]
    pub symmetric_hash: bool,
    pub drop_samples: Option<Spanned<i64>>,
    pub restart_deadline: Option<Spanned<i64>>,
    pub metrics: Option<Spanned<String>>,
    pub control_orders: Option<Spanned<String>>,
    #[serde(default)]
    pub require_interfaces: bool,
    #[serde(default)]
    pub circuit: Vec<Spanned<RawCircuit>>,
    #[serde(default)]
    pub attachment: Vec<Spanned<RawAttachment>>,
    #[serde(default)]
    pub zone_rule: Vec<Spanned<RawZoneRule>>,
    #[serde(default)]
    pub chain: Vec<Spanned<RawChain>>,
    #[serde(default)]
    pub policy: Vec<Spanned<RawPolicy>>,
}

/// What is done with routes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPolicy {
    pub name: Spanned<String>,
    #[serde(default)]
    pub rule: Vec<Spanned<RawPolicyRule>>,
}

/// What is done with the routes that it names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPolicyRule {
    pub prefixes: Option<Spanned<Vec<Spanned<String>>>>,
    pub communities: Option<Spanned<Vec<Spanned<String>>>>,
    pub as_path_contains: Option<Spanned<i64>>,
    pub origin_as: Option<Spanned<i64>>,
    pub as_path_at_least: Option<Spanned<i64>>,
    pub source: Option<Spanned<String>>,
    pub local_pref: Option<Spanned<i64>>,
    pub prepend: Option<Spanned<i64>>,
    pub add_communities: Option<Spanned<Vec<Spanned<String>>>>,
    pub remove_communities: Option<Spanned<Vec<Spanned<String>>>>,
    pub refuse: Option<Spanned<String>>,
}

/// A way through a service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawChain {
    pub from: Spanned<String>,
    pub via: Spanned<String>,
    pub to: Spanned<String>,
}

/// Which peerings a zone may use (requirement C5).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawZoneRule {
    pub zone: Spanned<String>,
    pub peerings: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCircuit {
    pub name: Spanned<String>,
    pub bandwidth: Spanned<String>,
    pub kind: Option<Spanned<String>>,
    pub sku: Option<Spanned<String>>,
    pub s_vlan: Option<Spanned<i64>>,
    pub admin: Option<Spanned<String>>,
    pub provisioning: Option<Spanned<String>>,
    pub hairpin: Option<Spanned<String>>,
    pub burst: Option<Spanned<String>>,
    pub credit_ms: Option<Spanned<i64>>,
    pub count: Option<Spanned<String>>,
    pub minimum_links: Option<Spanned<i64>>,
    #[serde(default)]
    pub ecn: bool,
    pub primary: Option<Spanned<RawLink>>,
    pub secondary: Option<Spanned<RawLink>>,
    pub private: Option<Spanned<RawPeering>>,
    pub microsoft: Option<Spanned<RawPeering>>,
    pub inventory: Option<Spanned<RawInventory>>,
    /// Retired by Microsoft (requirement C1): named here only to be refused with that reason.
    pub public: Option<Spanned<IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLink {
    pub local: Option<Spanned<String>>,
    pub r#box: Option<Spanned<String>>,
    #[serde(default)]
    pub required: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPeering {
    pub vlan: Option<Spanned<i64>>,
    pub source_check: Option<Spanned<String>>,
    #[serde(default)]
    pub classify_ports: bool,
    pub ipv4: Option<Spanned<OneOrTwo>>,
    pub ipv6: Option<Spanned<OneOrTwo>>,
    pub peer_asn: Option<Spanned<i64>>,
    pub md5: Option<Spanned<String>>,
    pub md5_file: Option<Spanned<String>>,
    pub hold: Option<Spanned<i64>>,
    #[serde(default)]
    pub passive: bool,
    #[serde(default)]
    pub gtsm: bool,
    pub restart_time: Option<Spanned<i64>>,
    pub role: Option<Spanned<String>>,
    #[serde(default)]
    pub strict_role: bool,
    #[serde(default)]
    pub add_path: bool,
    pub local_pref: Option<Spanned<i64>>,
    pub prepend: Option<Spanned<i64>>,
    pub max_prefixes: Option<Spanned<i64>>,
    pub max_prefixes_wait: Option<Spanned<i64>>,
    pub max_memory_mib: Option<Spanned<i64>>,
    pub when_too_many: Option<Spanned<String>>,
    pub policy_in: Option<Spanned<String>>,
    pub policy_out: Option<Spanned<String>>,
    /// Of both families: before each had a key of its own.
    pub advertise_at_most: Option<Spanned<i64>>,
    pub advertise_at_most_ipv4: Option<Spanned<i64>>,
    pub advertise_at_most_ipv6: Option<Spanned<i64>>,
    pub when_full: Option<Spanned<String>>,
    pub route_filter: Option<Spanned<Vec<Spanned<String>>>>,
    pub pass_attributes: Option<Spanned<Vec<Spanned<i64>>>>,
    pub longest_ipv4: Option<Spanned<i64>>,
    pub longest_ipv6: Option<Spanned<i64>>,
    #[serde(default)]
    pub forced_tunnel: bool,
    pub bfd: Option<Spanned<RawBfd>>,
}

/// What is bought and set up in Azure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawInventory {
    pub port: Option<Spanned<String>>,
    pub location: Option<Spanned<OneOrMore>>,
    pub geopolitical_region: Option<Spanned<String>>,
    pub billing: Option<Spanned<String>>,
    pub price_per_gb: Option<Spanned<String>>,
    pub private_created: Option<Spanned<String>>,
    pub microsoft_created: Option<Spanned<String>>,
    pub service_key: Option<Spanned<ServiceKey>>,
    #[serde(default)]
    pub subscriptions: Vec<Spanned<String>>,
    #[serde(default)]
    pub vnets: Vec<RawVnet>,
    #[serde(default)]
    pub public_prefixes: Vec<RawPublicPrefix>,
}

/// A virtual network that is linked to a circuit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawVnet {
    pub name: Spanned<String>,
    #[serde(default)]
    pub prefixes: Vec<Spanned<String>>,
    pub region: Option<Spanned<String>>,
    pub gateway_sku: Option<Spanned<String>>,
    pub gateway_subnet: Option<Spanned<String>>,
    pub vpn_gateway: Option<Spanned<String>>,
}

/// A public prefix of ours on Microsoft peering.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPublicPrefix {
    pub prefix: Spanned<String>,
    pub validation: Option<Spanned<String>>,
}

/// One text, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of texts")]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// BFD with the peers of a peering, or with one router.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawBfd {
    pub interval: Option<Spanned<String>>,
    pub multiplier: Option<Spanned<i64>>,
    #[serde(default)]
    pub strict: bool,
    pub absence: Option<Spanned<String>>,
}

/// One subnet to be halved, or the two halves.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a subnet, or a list of two subnets")]
pub(super) enum OneOrTwo {
    One(String),
    Two([String; 2]),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawAttachment {
    pub interface: Spanned<String>,
    pub peerings: Spanned<Vec<Spanned<String>>>,
    pub zone: Option<Spanned<String>>,
    pub service: Option<Spanned<String>>,
    pub r#box: Option<Spanned<String>>,
    pub next_hops: Option<Spanned<Vec<Spanned<String>>>>,
    pub encrypted_only: Option<Spanned<Vec<Spanned<String>>>>,
    pub weight: Option<Spanned<i64>>,
    pub vlan: Option<Spanned<i64>>,
    pub s_vlan: Option<Spanned<i64>>,
    pub ipv4: Option<Spanned<String>>,
    pub ipv6: Option<Spanned<String>>,
    pub advertise_connected: Option<Spanned<bool>>,
    #[serde(default)]
    pub required: bool,
    pub kernel_routes: Option<Spanned<RawKernelRoutes>>,
    pub policy_in: Option<Spanned<String>>,
    pub policy_out: Option<Spanned<String>>,
    pub between_circuits: Option<Spanned<String>>,
    #[serde(default)]
    pub peers: Vec<Spanned<RawPeer>>,
}

/// Routes of the kernel that lead through an attachment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawKernelRoutes {
    pub table: Option<Spanned<NumberOrWord>>,
    pub protocols: Option<Spanned<Vec<Spanned<NumberOrWord>>>>,
    pub local_pref: Option<Spanned<i64>>,
    pub speakers: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Something that has a number, and a name for it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a name or a number")]
pub(super) enum NumberOrWord {
    Number(i64),
    Word(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawPeer {
    pub address: Spanned<String>,
    pub asn: Spanned<i64>,
    pub families: Option<Spanned<Vec<Spanned<String>>>>,
    pub bfd: Option<Spanned<RawBfd>>,
    pub md5: Option<Spanned<String>>,
    pub md5_file: Option<Spanned<String>>,
    pub hold: Option<Spanned<i64>>,
    #[serde(default)]
    pub passive: bool,
    #[serde(default)]
    pub gtsm: bool,
    pub restart_time: Option<Spanned<i64>>,
    pub role: Option<Spanned<String>>,
    #[serde(default)]
    pub strict_role: bool,
    #[serde(default)]
    pub add_path: bool,
    pub local_pref: Option<Spanned<i64>>,
    pub prepend: Option<Spanned<i64>>,
    pub max_prefixes: Option<Spanned<i64>>,
    pub max_prefixes_wait: Option<Spanned<i64>>,
    pub max_memory_mib: Option<Spanned<i64>>,
    pub when_too_many: Option<Spanned<String>>,
    pub policy_in: Option<Spanned<String>>,
    pub policy_out: Option<Spanned<String>>,
}
