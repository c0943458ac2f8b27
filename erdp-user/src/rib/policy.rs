//! What is refused on the way in and held back on the way out: lists of rules, each a question with one answer. A route
//! refused by a rule of the peer is refused in all of the peer's domains; other rules look at the domain as well.
//!
//! There is no session without a policy (RFC 8212): what a peer may announce and is told follows from its side and its peerings, and a
//! peering that an attachment does not list is neither.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::adj_in::Refusals;
use super::bogons::{is_bogon, is_martian};
use super::drain::{DRAIN_REPEATS, GRACEFUL_SHUTDOWN};
use super::guard;
use super::routes_policy::{self, RuleNumber};
use super::topology::{DEFAULT_LOCAL_PREF, RibConfig, RibDomain, RibPeer};
use crate::bgp::{Asn, Community, Family, PathAttributes, Role};
use crate::config::{GATEWAY_ASN, MICROSOFT_ASN, PeeringKind, Side};
use crate::neighbour::no_host;
use crate::types::PathSource;

/// Why a route is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// RFC 4271 section 9.1.2.
    #[error("our own AS is in the path, so the route has been through us already (RFC 4271 section 9.1.2)")]
    OwnAsInPath,
    /// RFC 4271 section 6.3: the leftmost AS must be the peer's.
    #[error("the path does not start with the peer's own AS (RFC 4271 section 6.3)")]
    WrongFirstAs,
    /// RFC 4271 section 5.1.3: an external peer's next hop is on the shared subnet; the other edge box is to put itself there.
    #[error(
        "the next hop is not on the subnet that we share with the peer (RFC 4271 section 5.1.3); an internal peer needs next-hop-self"
    )]
    NextHopElsewhere,
    /// The next hop is our own address.
    #[error("the next hop is our own address (RFC 4271 section 6.3)")]
    NextHopIsUs,
    /// An address that the subnet or the family reserves.
    #[error(
        "no neighbour has the next hop's address: it is the subnet's own, its broadcast or its subnet-router anycast address, or not \
         unicast at all (RFC 4271 sections 6.3 and 5.1.3)"
    )]
    NextHopIsNoHost,
    /// Addresses that no network can be.
    #[error(
        "no network can have these addresses (this network, loopback, link-local, multicast, reserved), so the route is ignored (RFC \
         4271 section 6.3)"
    )]
    Martian,
    /// An AS that ExpressRoute does not take in a customer's path.
    #[error(
        "an AS that Azure reserves (65515-65520), of documentation (64496-64511) or reserved is in the path, and ExpressRoute would not \
         take it: have it removed where the route comes from (E1)"
    )]
    ReservedAsInPath,
    /// RFC 9234 section 5.
    #[error(
        "the route was meant for customers only (OTC) and comes from somewhere else: a leak (RFC 9234 section 5)"
    )]
    RouteLeak,
    /// Inside one of our own link subnets.
    #[error(
        "the prefix is one of our own link subnets, or part of one (D4); to announce the subnet of an attachment, write \
         advertise-connected = true there (C2)"
    )]
    OwnLinkSubnet,
    /// Inside a prefix of another attachment's service.
    #[error("the prefix is `encrypted-only`: it may be reached through its service and not in clear (B9)")]
    EncryptedOnly,
    /// A default route from the customer without `forced-tunnel`.
    #[error(
        "a default route would pull all of Azure's traffic through the customer; allow it by forced-tunnel = true (D5)"
    )]
    DefaultFromCustomer,
    /// A default route on Microsoft peering.
    #[error("a default route does not belong on Microsoft peering (D4)")]
    DefaultOnMicrosoft,
    /// A private or otherwise special prefix on Microsoft peering.
    #[error("a private or special prefix does not belong on Microsoft peering (D4)")]
    Bogon,
    /// Longer than the peering takes.
    #[error("the prefix is longer than this peering takes: see longest-ipv4 and longest-ipv6 (D3)")]
    TooLong,
    /// The operator's policy.
    #[error("the policy of the session refuses it")]
    ByPolicy(RuleNumber),
    /// None of its communities is in the route filter.
    #[error(
        "none of its communities is in the peering's route-filter: name its region or service there (D6)"
    )]
    NotInRouteFilter,
}

impl Refusal {
    /// The number of the rule, as tests and documentation cite it.
    pub fn rule(self) -> &'static str {
        match self {
            Self::OwnAsInPath => "RFC 4271 9.1.2",
            Self::WrongFirstAs | Self::NextHopIsUs | Self::NextHopIsNoHost | Self::Martian => "RFC 4271 6.3",
            Self::NextHopElsewhere => "RFC 4271 5.1.3",
            Self::ReservedAsInPath => "E1",
            Self::RouteLeak => "RFC 9234 5",
            Self::OwnLinkSubnet | Self::DefaultOnMicrosoft | Self::Bogon => "D4",
            Self::EncryptedOnly => "B9",
            Self::DefaultFromCustomer => "D5",
            Self::TooLong => "D3",
            Self::NotInRouteFilter => "D6",
            Self::ByPolicy(_) => "policy",
        }
    }

    /// Whether the route's UPDATE is in error, which the peer's operator has to mend (RFC 4271 section 6.3), and not unwanted here.
    pub fn is_an_error(self) -> bool {
        matches!(self.rule(), "RFC 4271 6.3" | "RFC 4271 5.1.3")
    }
}

/// Why a best path is not told to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum HoldBack {
    /// The peer is on the side that the route came from; the other edge box is never told what it, or another one, has said (RFC 4271
    /// section 9.2).
    #[error("it came from the same side, and a circuit carries no transit (D9)")]
    SameSide,
    /// The route leads to a service that no chain to this peering passes.
    #[error("it leads to a service through which no chain to this peering goes (C1, D9)")]
    NoChain,
    /// The other edge box would tell its MSEE.
    #[error("it leads to a service of this box, and the other edge box has no chain to it (C1, B1a)")]
    ServiceStays,
    /// Microsoft's AS is in a route for an MSEE.
    #[error("AS12076 is in its path already, and Microsoft would be offered transit to itself (D9)")]
    MicrosoftInPath,
    /// An AS that ExpressRoute refuses is in a route for an MSEE.
    #[error(
        "an AS that Azure reserves (65515-65520), of documentation or reserved is in its path, and ExpressRoute would not take it (E1)"
    )]
    ReservedAsInPath,
    /// RFC 1997.
    #[error("a well-known community forbids it (RFC 1997: NO_EXPORT, NO_ADVERTISE or NO_EXPORT_SUBCONFED)")]
    WellKnownCommunity,
    /// RFC 9234 section 5.
    #[error("it is meant for customers only (OTC), and the peer is none of ours (RFC 9234 section 5)")]
    CustomersOnly,
    /// The SKU's limit.
    #[error(
        "Microsoft takes no more prefixes on this peering and would drop the session: announce fewer or shorter ones, set \
         when-full = \"aggregate\", or buy premium (D1)"
    )]
    NoRoom,
    /// Its attributes are longer than a message.
    #[error(
        "its attributes do not fit into a message of the session: shorten its path or communities where it comes from; a peer with \
         extended messages takes sixteen times as much (RFC 8654 section 4)"
    )]
    TooLong,
    /// The operator's policy.
    #[error("the policy of the session does not have it advertised")]
    ByPolicy(RuleNumber),
    /// An aggregate stands for it.
    #[error(
        "an aggregate is announced in its place, because Microsoft takes no more prefixes on this peering (D1)"
    )]
    Aggregated,
}

impl HoldBack {
    /// The number of the rule, as tests and documentation cite it.
    pub fn rule(self) -> &'static str {
        match self {
            Self::SameSide | Self::MicrosoftInPath => "D9",
            Self::NoChain | Self::ServiceStays => "C1",
            Self::WellKnownCommunity => "RFC 1997",
            Self::ReservedAsInPath => "E1",
            Self::CustomersOnly => "RFC 9234 5",
            Self::NoRoom | Self::Aggregated => "D1",
            Self::TooLong => "RFC 8654 4",
            Self::ByPolicy(_) => "policy",
        }
    }
}

type AttributeRule = fn(&RibConfig, &RibPeer, &PathAttributes) -> Option<Refusal>;
type PrefixRule = fn(&RibConfig, &RibPeer, IpNet, &PathAttributes) -> Option<Refusal>;
type DomainRule = fn(&RibDomain, &RibPeer, IpNet, &PathAttributes) -> Option<Refusal>;

/// Rules about what all prefixes of an update have in common, in the order in which they are asked.
const ATTRIBUTE_RULES: [AttributeRule; 5] = [as_loop, first_as, reserved_as, leak, next_hop];

/// Rules about a peer's route wherever it would be used.
const PREFIX_RULES: [PrefixRule; 3] = [next_hop_family, own_link_subnet, encrypted_only];

/// Rules about a route in one domain.
const DOMAIN_RULES: [DomainRule; 5] = [default_route, bogon, martian, too_long, route_filter];

/// The rules of import, asked for many prefixes with the same attributes.
pub(super) struct Import<'a> {
    config: &'a RibConfig,
    peer: &'a RibPeer,
    attributes: &'a PathAttributes,
    everywhere: Option<Refusal>,
}

impl<'a> Import<'a> {
    /// Asks what does not depend on the prefix.
    pub fn new(config: &'a RibConfig, peer: &'a RibPeer, attributes: &'a PathAttributes) -> Self {
        let everywhere = ATTRIBUTE_RULES.iter().find_map(|rule| rule(config, peer, attributes));
        Self { config, peer, attributes, everywhere }
    }

    /// Of a route of the kernel: it has no path that could be judged, and where it leads has been judged already.
    pub fn of_kernel(config: &'a RibConfig, source: &'a RibPeer, attributes: &'a PathAttributes) -> Self {
        Self { config, peer: source, attributes, everywhere: None }
    }

    /// The domains of the peer that refuse a route, each with the first reason; `None`: none does.
    pub fn judge(&self, prefix: IpNet) -> Option<Refusals> {
        let rest =
            || PREFIX_RULES.iter().find_map(|rule| rule(self.config, self.peer, prefix, self.attributes));
        let everywhere = self.everywhere.or_else(rest);
        let by_policy =
            routes_policy::refusal(self.peer.import.as_ref(), self.peer.source, &prefix, self.attributes);
        let refusal = |domain: &RibDomain| {
            let here =
                || DOMAIN_RULES.iter().find_map(|rule| rule(domain, self.peer, prefix, self.attributes));
            let refusal = everywhere.or_else(here).or(by_policy.map(Refusal::ByPolicy));
            refusal.map(|refusal| (domain.id, refusal))
        };
        let domains = self.peer.domains.iter().filter_map(|id| self.config.domain(*id));
        let mut refusals = domains.filter_map(refusal).peekable();
        refusals.peek()?;
        Some(refusals.collect())
    }
}

/// The attributes with the mark that RFC 9234 section 5 wants on what comes from above or beside.
pub(super) fn marked(peer: &RibPeer, attributes: Arc<PathAttributes>) -> Arc<PathAttributes> {
    let is_from_above = matches!(peer.role, Some(Role::Customer | Role::Peer | Role::RouteServerClient));
    if !is_from_above || attributes.only_to_customer.is_some() {
        return attributes;
    }
    let mut marked = (*attributes).clone();
    marked.mark_only_to_customer(peer.asn);
    Arc::new(marked)
}

fn as_loop(config: &RibConfig, _: &RibPeer, attributes: &PathAttributes) -> Option<Refusal> {
    attributes.as_path.contains(config.local_asn).then_some(Refusal::OwnAsInPath)
}

fn first_as(_: &RibConfig, peer: &RibPeer, attributes: &PathAttributes) -> Option<Refusal> {
    let first = attributes.as_path.first();
    let is_theirs = match peer.role {
        // An internal peer puts no AS in front.
        _ if peer.is_internal() => true,
        // Nor does a route server, in front of whose clients' paths it stands (RFC 7947 section 2.2.2.1). None of its clients is
        // Microsoft: by that AS the other edge box knows what came over a circuit.
        Some(Role::RouteServerClient) if !peer.side.is_msee() => {
            first.is_some_and(|first| first != MICROSOFT_ASN)
        }
        _ => first == Some(peer.asn),
    };
    (!is_theirs).then_some(Refusal::WrongFirstAs)
}

/// What Microsoft announces is its own business; what is announced to Microsoft is ours (requirement E1). A service may lead to an
/// Azure VPN gateway, whose AS is one of the reserved ones (requirement B8).
fn reserved_as(_: &RibConfig, peer: &RibPeer, attributes: &PathAttributes) -> Option<Refusal> {
    let is_ours = !peer.origin(attributes).is_msee();
    let is_refused = |asn: Asn| is_reserved(asn) && !(peer.side == Side::Service && asn == GATEWAY_ASN);
    (is_ours && attributes.as_path.asns().any(is_refused)).then_some(Refusal::ReservedAsInPath)
}

/// Whether ExpressRoute refuses paths with an AS in them (requirement E1).
fn is_reserved(asn: Asn) -> bool {
    matches!(asn.0, 0 | 23_456 | 64_496..=64_511 | 65_515..=65_520 | 65_535 | u32::MAX)
}

/// RFC 9234 section 5, ingress: a marked route from a customer, or from a peer that did not mark it itself.
fn leak(_: &RibConfig, peer: &RibPeer, attributes: &PathAttributes) -> Option<Refusal> {
    let by = attributes.only_to_customer?;
    let is_leak = match peer.role? {
        Role::Provider | Role::RouteServer => true,
        Role::Peer => by != peer.asn,
        Role::Customer | Role::RouteServerClient => false,
    };
    is_leak.then_some(Refusal::RouteLeak)
}

/// The peer itself or a third party on the same subnet. A link-local next hop is on the peer's link by definition.
fn next_hop(_: &RibConfig, peer: &RibPeer, attributes: &PathAttributes) -> Option<Refusal> {
    let next_hop = attributes.next_hop;
    let is_link_local = matches!(next_hop, IpAddr::V6(address) if address.is_unicast_link_local());
    let is_ours = peer.link_local.is_some_and(|ours| next_hop == IpAddr::V6(ours))
        || peer.addresses.iter().any(|ours| ours.addr() == next_hop);
    if is_ours {
        return Some(Refusal::NextHopIsUs);
    }
    if no_host(next_hop, peer.addresses.iter().copied()).is_some() {
        return Some(Refusal::NextHopIsNoHost);
    }
    let is_shared = is_link_local || peer.addresses.iter().any(|ours| ours.contains(&next_hop));
    (!is_shared).then_some(Refusal::NextHopElsewhere)
}

fn next_hop_family(
    _: &RibConfig,
    _: &RibPeer,
    prefix: IpNet,
    attributes: &PathAttributes,
) -> Option<Refusal> {
    let is_same = attributes.next_hop.is_ipv4() == prefix.addr().is_ipv4();
    (!is_same).then_some(Refusal::NextHopElsewhere)
}

fn own_link_subnet(config: &RibConfig, peer: &RibPeer, prefix: IpNet, _: &PathAttributes) -> Option<Refusal> {
    let is_ours = config.link_subnets.iter().any(|subnet| subnet.contains(&prefix));
    // We announce them ourselves where `advertise-connected` says so (requirement C2).
    (is_ours && !matches!(peer.source, PathSource::Static(_))).then_some(Refusal::OwnLinkSubnet)
}

fn encrypted_only(config: &RibConfig, peer: &RibPeer, prefix: IpNet, _: &PathAttributes) -> Option<Refusal> {
    let is_inside = |list: &[IpNet]| list.iter().any(|guarded| guarded.contains(&prefix));
    (is_inside(&config.encrypted_only) && !is_inside(&peer.carries)).then_some(Refusal::EncryptedOnly)
}

fn default_route(
    domain: &RibDomain,
    peer: &RibPeer,
    prefix: IpNet,
    attributes: &PathAttributes,
) -> Option<Refusal> {
    match domain.kind {
        _ if prefix.prefix_len() != 0 => None,
        PeeringKind::Microsoft => Some(Refusal::DefaultOnMicrosoft),
        PeeringKind::Private if peer.origin(attributes).is_msee() || domain.forced_tunnel => None,
        PeeringKind::Private => Some(Refusal::DefaultFromCustomer),
    }
}

fn bogon(domain: &RibDomain, _: &RibPeer, prefix: IpNet, _: &PathAttributes) -> Option<Refusal> {
    (domain.kind == PeeringKind::Microsoft && is_bogon(prefix)).then_some(Refusal::Bogon)
}

/// On either peering; on Microsoft peering the rule about bogons has said so already.
fn martian(_: &RibDomain, _: &RibPeer, prefix: IpNet, _: &PathAttributes) -> Option<Refusal> {
    is_martian(prefix).then_some(Refusal::Martian)
}

fn too_long(domain: &RibDomain, _: &RibPeer, prefix: IpNet, _: &PathAttributes) -> Option<Refusal> {
    (prefix.prefix_len() > domain.longest[guard::at(Family::of(&prefix))]).then_some(Refusal::TooLong)
}

fn route_filter(
    domain: &RibDomain,
    peer: &RibPeer,
    _: IpNet,
    attributes: &PathAttributes,
) -> Option<Refusal> {
    if domain.route_filter.is_empty() || !peer.origin(attributes).is_msee() {
        return None;
    }
    let passes = attributes.communities.iter().any(|community| domain.route_filter.contains(community));
    (!passes).then_some(Refusal::NotInRouteFilter)
}

/// Whether a best path of a domain may be told to another peer of that domain.
pub(super) fn export(from: &RibPeer, to: &RibPeer, attributes: &PathAttributes) -> Result<(), HoldBack> {
    if from.side.is_like(to.side) || from.origin(attributes).is_like(to.side) {
        return Err(HoldBack::SameSide);
    }
    if from.side == Side::Service && to.side == Side::Box {
        return Err(HoldBack::ServiceStays);
    }
    let is_fronted = to.domains.iter().any(|domain| from.fronts.contains(domain));
    if from.side == Side::Service && to.side.is_msee() && !is_fronted {
        return Err(HoldBack::NoChain);
    }
    if to.side.is_msee() && attributes.as_path.contains(MICROSOFT_ASN) {
        return Err(HoldBack::MicrosoftInPath);
    }
    if to.side.is_msee() && attributes.as_path.asns().any(is_reserved) {
        return Err(HoldBack::ReservedAsInPath);
    }
    if is_kept_at_home(attributes, to.is_internal()) {
        return Err(HoldBack::WellKnownCommunity);
    }
    // RFC 9234 section 5, egress.
    let is_above = matches!(to.role, Some(Role::Customer | Role::Peer | Role::RouteServerClient));
    if is_above && attributes.only_to_customer.is_some() {
        return Err(HoldBack::CustomersOnly);
    }
    Ok(())
}

/// NO_ADVERTISE forbids to tell anybody, NO_EXPORT and NO_EXPORT_SUBCONFED to tell other ASes.
fn is_kept_at_home(attributes: &PathAttributes, is_internal: bool) -> bool {
    const FORBIDDING: [Community; 3] =
        [Community(0xFFFF_FF02), Community(0xFFFF_FF01), Community(0xFFFF_FF03)];
    let forbidding = if is_internal { &FORBIDDING[..1] } else { &FORBIDDING[..] };
    attributes.communities.iter().any(|community| forbidding.contains(community))
}

/// Whether a best path, as policy has it, counts against what Microsoft takes: it would be told to the MSEEs of the domain if there were
/// room.
pub(super) fn is_for_microsoft(
    from: &RibPeer,
    domain: &RibDomain,
    prefix: &IpNet,
    attributes: &PathAttributes,
) -> bool {
    let is_fronted = from.side != Side::Service || from.fronts.contains(&domain.id);
    routes_policy::refusal(domain.export.as_ref(), from.source, prefix, attributes).is_none()
        && !from.origin(attributes).is_msee()
        && is_fronted
        && !attributes.as_path.contains(MICROSOFT_ASN)
        && !attributes.as_path.asns().any(is_reserved)
        && !is_kept_at_home(attributes, false)
}

/// The attributes with what the route is worth to us, for the other edge box (RFC 4271 section 5.1.5); nothing to say where that is
/// what everybody takes it for.
pub(super) fn preferred(
    to: &RibPeer,
    preference: u32,
    attributes: Arc<PathAttributes>,
) -> Arc<PathAttributes> {
    if !to.is_internal() || preference == DEFAULT_LOCAL_PREF {
        return attributes;
    }
    Arc::new(PathAttributes { local_pref: Some(preference), ..(*attributes).clone() })
}

/// Whether a peer is told a route without attributes that it came with, because ERDP does not read them and the peer is not to have them.
pub(super) fn is_stripped(attributes: &PathAttributes, to: &RibPeer) -> bool {
    !attributes.unknown_transitive.iter().all(|raw| to.is_passed(raw.code))
}

/// Whether the same attributes are told to a peer otherwise under another configuration.
pub(super) fn exports_differ(before: &RibPeer, now: &RibPeer) -> bool {
    (before.prepend, before.role, before.local_asn, &before.passes, &before.addresses)
        != (now.prepend, now.role, now.local_asn, &now.passes, &now.addresses)
}

/// The attributes that a peer is told. An external one: our AS in front, as often as is configured, ourselves as next hop; MED and
/// LOCAL_PREF stay at home (RFC 4271 sections 5.1.4 and 5.1.5). The other edge box: all of it, and ourselves as next hop, because it
/// knows nothing of our links.
pub(super) fn exported(attributes: &PathAttributes, to: &RibPeer, next_hop: IpAddr) -> PathAttributes {
    let mut told = attributes.clone();
    if is_stripped(attributes, to) {
        told.unknown_transitive =
            told.unknown_transitive.iter().filter(|raw| to.is_passed(raw.code)).cloned().collect();
    }
    if to.is_internal() {
        told.next_hop = next_hop;
        told.local_pref = told.local_pref.or(Some(DEFAULT_LOCAL_PREF));
        return told;
    }
    let spares = if to.spared { DRAIN_REPEATS } else { 0 };
    // Before the path is longer: whether we originate the route is seen by it.
    if to.spared {
        told.add_community(GRACEFUL_SHUTDOWN);
    }
    if matches!(to.role, Some(Role::Provider | Role::Peer | Role::RouteServer)) {
        // RFC 9234 section 5, egress: from here on only down.
        told.mark_only_to_customer(to.local_asn);
    }
    for _ in 0..=usize::from(to.prepend) + spares {
        told.as_path = told.as_path.prepended(to.local_asn);
    }
    told.next_hop = next_hop;
    told.med = None;
    told.local_pref = None;
    told
}
