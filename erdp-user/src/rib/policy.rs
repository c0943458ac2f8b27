//! What is refused on the way in and held back on the way out: lists of rules, each a question with one answer. A route
//! refused by a rule of the peer is refused in all of the peer's domains; other rules look at the domain as well.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::bogons::is_bogon;
use super::topology::{RibConfig, RibDomain, RibPeer};
use crate::bgp::{Community, PathAttributes};
use crate::config::{DomainId, MICROSOFT_ASN, PeeringKind, Side};

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
    /// RFC 4271 section 5.1.3: an external peer's next hop is on the shared subnet.
    #[error("the next hop is not on the subnet that we share with the peer (RFC 4271 section 5.1.3)")]
    NextHopElsewhere,
    /// The next hop is our own address.
    #[error("the next hop is our own address (RFC 4271 section 6.3)")]
    NextHopIsUs,
    /// Inside one of our own link subnets.
    #[error("the prefix is one of our own link subnets, or part of one (D4)")]
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
}

/// Why a best path is not told to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum HoldBack {
    /// The peer is on the side that the route came from.
    #[error("it came from the same side, and a circuit carries no transit (D9)")]
    SameSide,
    /// The route leads to a service that no chain to this peering passes.
    #[error("it leads to a service through which no chain to this peering goes (C1, D9)")]
    NoChain,
    /// Microsoft's AS is in a route for an MSEE.
    #[error("AS12076 is in its path already, and Microsoft would be offered transit to itself (D9)")]
    MicrosoftInPath,
    /// RFC 1997.
    #[error("a well-known community forbids it (RFC 1997: NO_EXPORT, NO_ADVERTISE or NO_EXPORT_SUBCONFED)")]
    WellKnownCommunity,
}

type PeerRule = fn(&RibConfig, &RibPeer, IpNet, &PathAttributes) -> Option<Refusal>;
type DomainRule = fn(&RibDomain, &RibPeer, IpNet) -> Option<Refusal>;

/// Rules about a peer's route wherever it would be used, in the order in which they are asked.
const PEER_RULES: [PeerRule; 5] = [as_loop, first_as, next_hop, own_link_subnet, encrypted_only];

/// Rules about a route in one domain.
const DOMAIN_RULES: [DomainRule; 2] = [default_route, bogon];

/// The domains of a peer that refuse a route, each with the first reason.
pub(super) fn import(
    config: &RibConfig,
    peer: &RibPeer,
    prefix: IpNet,
    attributes: &PathAttributes,
) -> Vec<(DomainId, Refusal)> {
    let everywhere = PEER_RULES.iter().find_map(|rule| rule(config, peer, prefix, attributes));
    let domains = peer.domains.iter().filter_map(|id| config.domain(*id));
    let refusal = |domain: &RibDomain| {
        let here = || DOMAIN_RULES.iter().find_map(|rule| rule(domain, peer, prefix));
        everywhere.or_else(here).map(|refusal| (domain.id, refusal))
    };
    domains.filter_map(refusal).collect()
}

fn as_loop(config: &RibConfig, _: &RibPeer, _: IpNet, attributes: &PathAttributes) -> Option<Refusal> {
    attributes.as_path.contains(config.local_asn).then_some(Refusal::OwnAsInPath)
}

fn first_as(_: &RibConfig, peer: &RibPeer, _: IpNet, attributes: &PathAttributes) -> Option<Refusal> {
    (attributes.as_path.first() != Some(peer.asn)).then_some(Refusal::WrongFirstAs)
}

/// The peer itself or a third party on the same subnet. A link-local next hop is on the peer's link by definition.
fn next_hop(_: &RibConfig, peer: &RibPeer, prefix: IpNet, attributes: &PathAttributes) -> Option<Refusal> {
    let next_hop = attributes.next_hop;
    let is_link_local = matches!(next_hop, IpAddr::V6(address) if address.is_unicast_link_local());
    let is_same_family =
        matches!((next_hop, prefix), (IpAddr::V4(_), IpNet::V4(_)) | (IpAddr::V6(_), IpNet::V6(_)));
    if peer.addresses.iter().any(|ours| ours.addr() == next_hop) {
        return Some(Refusal::NextHopIsUs);
    }
    let is_shared = is_link_local || peer.addresses.iter().any(|ours| ours.contains(&next_hop));
    (!is_same_family || !is_shared).then_some(Refusal::NextHopElsewhere)
}

fn own_link_subnet(config: &RibConfig, _: &RibPeer, prefix: IpNet, _: &PathAttributes) -> Option<Refusal> {
    config.link_subnets.iter().any(|subnet| subnet.contains(&prefix)).then_some(Refusal::OwnLinkSubnet)
}

fn encrypted_only(config: &RibConfig, peer: &RibPeer, prefix: IpNet, _: &PathAttributes) -> Option<Refusal> {
    let is_inside = |list: &[IpNet]| list.iter().any(|guarded| guarded.contains(&prefix));
    (is_inside(&config.encrypted_only) && !is_inside(&peer.carries)).then_some(Refusal::EncryptedOnly)
}

fn default_route(domain: &RibDomain, peer: &RibPeer, prefix: IpNet) -> Option<Refusal> {
    match domain.kind {
        _ if prefix.prefix_len() != 0 => None,
        PeeringKind::Microsoft => Some(Refusal::DefaultOnMicrosoft),
        PeeringKind::Private if peer.side.is_msee() || domain.forced_tunnel => None,
        PeeringKind::Private => Some(Refusal::DefaultFromCustomer),
    }
}

fn bogon(domain: &RibDomain, _: &RibPeer, prefix: IpNet) -> Option<Refusal> {
    (domain.kind == PeeringKind::Microsoft && is_bogon(prefix)).then_some(Refusal::Bogon)
}

/// Whether a best path of a domain may be told to another peer of that domain.
pub(super) fn export(from: &RibPeer, to: &RibPeer, attributes: &PathAttributes) -> Result<(), HoldBack> {
    if from.side.is_like(to.side) {
        return Err(HoldBack::SameSide);
    }
    let is_fronted = to.domains.iter().any(|domain| from.fronts.contains(domain));
    if from.side == Side::Service && to.side.is_msee() && !is_fronted {
        return Err(HoldBack::NoChain);
    }
    if to.side.is_msee() && attributes.as_path.contains(MICROSOFT_ASN) {
        return Err(HoldBack::MicrosoftInPath);
    }
    // Every peer is external, so each of the three means the same.
    const FORBIDDING: [Community; 3] =
        [Community(0xFFFF_FF01), Community(0xFFFF_FF02), Community(0xFFFF_FF03)];
    if attributes.communities.iter().any(|community| FORBIDDING.contains(community)) {
        return Err(HoldBack::WellKnownCommunity);
    }
    Ok(())
}

/// The attributes that an external peer is told: our AS in front, ourselves as next hop; MED and LOCAL_PREF stay at
/// home (RFC 4271 sections 5.1.4 and 5.1.5).
pub(super) fn exported(attributes: &PathAttributes, to: &RibPeer, next_hop: IpAddr) -> PathAttributes {
    let mut told = attributes.clone();
    told.as_path = attributes.as_path.prepended(to.local_asn);
    told.next_hop = next_hop;
    told.med = None;
    told.local_pref = None;
    told
}
