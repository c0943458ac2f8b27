//! Routes into UPDATE messages of at most 4096 bytes, or 65,535 where that was agreed on (RFC 8654).
//!
//! Prefixes that share attributes share messages, as many in each as fit. IPv4 travels in the classic fields, IPv6 in MP_REACH_NLRI and
//! MP_UNREACH_NLRI, which come first in the attribute list (RFC 7606 section 5.1). Withdrawals go before announcements, so that a prefix
//! that is in both ends up announced. RFC 4271 section 4.3, RFC 4760, RFC 2545, RFC 6793 section 4.2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use codec::attribute::PathAttribute;
use ipnet::IpNet;
use rustbgpd_wire as codec;

use super::{Context, DEFINED_FLAGS, EXTENDED_LENGTH, HEADER_BYTES, PARTIAL, Refresh, encode_route_refresh};
use crate::bgp::{AsPath, AsPathSegment, Family, Origin, Partial, PathAttributes, RefreshMark, Update};

/// Why routes cannot be put on the wire; the caller made the mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Announced prefixes came without attributes.
    #[error("{0} prefixes are announced without attributes")]
    NoAttributes(usize),
    /// The next hop is of the other family and there is no own address to put in its place.
    #[error(
        "{prefix} cannot be announced with next hop {next_hop}: configure an address of the prefix's family on the link"
    )]
    NextHopFamily {
        /// One of the prefixes.
        prefix: IpNet,
        /// The next hop they came with.
        next_hop: IpAddr,
    },
    /// The attributes leave no room for a prefix.
    #[error(
        "attributes of {bytes} bytes leave no room for a route in a message: shorten path or communities"
    )]
    TooLarge {
        /// Their size.
        bytes: usize,
    },
    /// The family was not agreed on with this peer.
    #[error("{0} was not agreed on with the peer")]
    Family(Family),
    /// The codec refused a value.
    #[error("not encodable: {0}")]
    Codec(String),
}

/// Bytes of an UPDATE without any route or attribute.
const FIXED_BYTES: usize = HEADER_BYTES + 2 + 2;
/// Flags, type, two-octet length, AFI and SAFI of an MP attribute.
const MP_HEADER_BYTES: usize = 7;
/// Next hop length, next hop and the reserved octet of MP_REACH_NLRI.
const MP_NEXT_HOP_BYTES: usize = 1 + 16 + 1;

/// Encodes `update` into whole messages, in the order in which they are to be sent.
pub fn encode_update(update: &Update, context: &Context) -> Result<Vec<Vec<u8>>, EncodeError> {
    let mut messages = Vec::new();
    let mark = |mark: RefreshMark| encode_route_refresh(Refresh::Mark(mark));
    if let Some(begin @ RefreshMark::Begin(_)) = update.refresh.filter(|_| context.enhanced_refresh) {
        messages.push(mark(begin));
    }
    for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
        let of_family = |prefix: &&IpNet| Family::of(prefix) == family;
        let withdrawn: Vec<&IpNet> = update.withdrawn.iter().filter(of_family).collect();
        let announced: Vec<&IpNet> = update.announced.iter().filter(of_family).collect();
        if withdrawn.is_empty() && announced.is_empty() && update.end_of_rib != Some(family) {
            continue;
        }
        if !context.families.contains(&family) {
            return Err(EncodeError::Family(family));
        }
        withdraw(&withdrawn, family, context, &mut messages);
        if !announced.is_empty() {
            let attributes =
                update.attributes.as_deref().ok_or(EncodeError::NoAttributes(announced.len()))?;
            announce(&announced, attributes, family, context, &mut messages)?;
        }
        if update.end_of_rib == Some(family) {
            messages.push(match family {
                Family::Ipv4Unicast => message(&[], &[], &[]),
                Family::Ipv6Unicast => message(&[], &mp_unreach(&[]), &[]),
            });
        }
    }
    if let Some(end @ RefreshMark::End(_)) = update.refresh.filter(|_| context.enhanced_refresh) {
        messages.push(mark(end));
    }
    Ok(messages)
}

fn withdraw(prefixes: &[&IpNet], family: Family, context: &Context, messages: &mut Vec<Vec<u8>>) {
    let most = context.max_message_bytes();
    match family {
        Family::Ipv4Unicast => {
            messages.extend(chunks(prefixes, most - FIXED_BYTES).iter().map(|nlri| message(nlri, &[], &[])));
        }
        Family::Ipv6Unicast => {
            let room = most - FIXED_BYTES - MP_HEADER_BYTES;
            messages.extend(chunks(prefixes, room).iter().map(|nlri| message(&[], &mp_unreach(nlri), &[])));
        }
    }
}

fn announce(
    prefixes: &[&IpNet],
    attributes: &PathAttributes,
    family: Family,
    context: &Context,
    messages: &mut Vec<Vec<u8>>,
) -> Result<(), EncodeError> {
    let next_hop = next_hop(prefixes[0], attributes.next_hop, family, context)?;
    let shared = shared_attributes(attributes, next_hop, context)?;
    let room = room(shared.len(), next_hop, context).ok_or(EncodeError::TooLarge { bytes: shared.len() })?;
    messages.extend(chunks(prefixes, room).iter().map(|nlri| match next_hop {
        IpAddr::V4(_) => message(&[], &shared, nlri),
        IpAddr::V6(address) => {
            let mut all = mp_reach(address, nlri);
            all.extend_from_slice(&shared);
            message(&[], &all, &[])
        }
    }));
    Ok(())
}

/// The bytes that are left for prefixes, if any prefix of the family fits.
fn room(shared_bytes: usize, next_hop: IpAddr, context: &Context) -> Option<usize> {
    // A length and as many octets as an address has.
    let (mp_bytes, longest) = match next_hop {
        IpAddr::V4(_) => (0, 5),
        IpAddr::V6(_) => (MP_HEADER_BYTES + MP_NEXT_HOP_BYTES, 17),
    };
    let room = context.max_message_bytes().checked_sub(FIXED_BYTES + shared_bytes + mp_bytes)?;
    (room >= longest).then_some(room)
}

/// Whether a message can hold a prefix with these attributes; also not where they cannot be encoded at all.
pub fn fits(attributes: &PathAttributes, prefix: &IpNet, context: &Context) -> bool {
    let next_hop = next_hop(prefix, attributes.next_hop, Family::of(prefix), context);
    // Without a next hop of the family nothing is told, whatever its length.
    let Ok(next_hop) = next_hop else { return true };
    let shared = shared_attributes(attributes, next_hop, context);
    shared.is_ok_and(|shared| room(shared.len(), next_hop, context).is_some())
}

/// The route's own next hop where it is of the right family, else our address of that family.
fn next_hop(prefix: &IpNet, own: IpAddr, family: Family, context: &Context) -> Result<IpAddr, EncodeError> {
    std::iter::once(&own)
        .chain(&context.own)
        .copied()
        .find(|address| Family::of_address(*address) == family)
        .ok_or(EncodeError::NextHopFamily { prefix: *prefix, next_hop: own })
}

/// Cuts the encoded prefixes (a length octet and the octets it covers) into pieces of at most `room` bytes.
fn chunks(prefixes: &[&IpNet], room: usize) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for prefix in prefixes {
        let octets = usize::from(prefix.prefix_len().div_ceil(8));
        if pieces.last().is_none_or(|piece| piece.len() + 1 + octets > room) {
            pieces.push(Vec::with_capacity(room));
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(prefix.prefix_len());
            match prefix.network() {
                IpAddr::V4(address) => piece.extend_from_slice(&address.octets()[..octets]),
                IpAddr::V6(address) => piece.extend_from_slice(&address.octets()[..octets]),
            }
        }
    }
    pieces
}

/// All attributes but the MP ones, encoded; ascending by type as RFC 4271 section 5 wants it.
fn shared_attributes(
    attributes: &PathAttributes,
    next_hop: IpAddr,
    context: &Context,
) -> Result<Vec<u8>, EncodeError> {
    let mut list = vec![PathAttribute::Origin(to_origin(attributes.origin))];
    list.push(PathAttribute::AsPath(to_as_path(&attributes.as_path)?));
    if let IpAddr::V4(address) = next_hop {
        list.push(PathAttribute::NextHop(address));
    }
    list.extend(attributes.med.map(PathAttribute::Med));
    if context.internal {
        // RFC 4271 section 5.1.5: always towards an internal peer, never towards an external one.
        list.push(PathAttribute::LocalPref(attributes.local_pref.unwrap_or(100)));
    }
    if attributes.atomic_aggregate {
        list.push(PathAttribute::AtomicAggregate);
    }
    list.extend(attributes.aggregator.map(|aggregator| {
        let (asn, router_id): (u32, Ipv4Addr) = (aggregator.asn.0, aggregator.router_id);
        PathAttribute::Aggregator(codec::attribute::Aggregator { asn, router_id, partial: false })
    }));
    if !attributes.communities.is_empty() {
        list.push(PathAttribute::Communities(
            attributes.communities.iter().map(|community| community.0).collect(),
        ));
    }
    if !attributes.extended_communities.is_empty() {
        let values =
            attributes.extended_communities.iter().map(|&raw| codec::attribute::ExtendedCommunity::new(raw));
        list.push(PathAttribute::ExtendedCommunities(values.collect()));
    }
    if !attributes.large_communities.is_empty() {
        let values = attributes.large_communities.iter();
        let values = values.map(|c| codec::attribute::LargeCommunity::new(c.0, c.1, c.2));
        list.push(PathAttribute::LargeCommunities(values.collect()));
    }
    list.extend(attributes.only_to_customer.map(|asn| PathAttribute::OnlyToCustomer(asn.0)));
    list.extend(attributes.unknown_transitive.iter().map(|raw| {
        PathAttribute::Unknown(codec::attribute::RawAttribute {
            flags: raw.flags,
            type_code: raw.code,
            data: raw.value.clone().into(),
        })
    }));
    let mut bytes = Vec::new();
    codec::attribute::encode_path_attributes(&list, &mut bytes, context.four_octet_asn, false)
        .map_err(|error| EncodeError::Codec(error.to_string()))?;
    set_flags(&mut bytes, attributes.partial);
    Ok(bytes)
}

/// The Partial bit where an attribute carries it, and zero in the low four bits of all flags (RFC 4271 sections 4.3 and 5).
fn set_flags(attributes: &mut [u8], partial: Partial) {
    let mut rest = attributes;
    while let [flags, code, tail @ ..] = rest {
        let is_partial = Partial::of_code(*code).is_some_and(|member| partial.contains(member));
        *flags = *flags & DEFINED_FLAGS | if is_partial { PARTIAL } else { 0 };
        let taken = match tail {
            [high, low, ..] if *flags & EXTENDED_LENGTH != 0 => {
                2 + usize::from(u16::from_be_bytes([*high, *low]))
            }
            [length, ..] => 1 + usize::from(*length),
            [] => return,
        };
        rest = tail.get_mut(taken..).unwrap_or_default();
    }
}

fn to_origin(origin: Origin) -> codec::attribute::Origin {
    match origin {
        Origin::Igp => codec::attribute::Origin::Igp,
        Origin::Egp => codec::attribute::Origin::Egp,
        Origin::Incomplete => codec::attribute::Origin::Incomplete,
    }
}

/// Only sequences are sent: sets by RFC 9774, confederations because ERDP is no member of one.
fn to_as_path(path: &AsPath) -> Result<codec::attribute::AsPath, EncodeError> {
    let segments = path.segments.iter().map(|segment| match segment {
        AsPathSegment::Sequence(asns) => {
            Ok(codec::attribute::AsPathSegment::AsSequence(asns.iter().map(|asn| asn.0).collect()))
        }
        AsPathSegment::Set(_) | AsPathSegment::ConfedSequence(_) | AsPathSegment::ConfedSet(_) => {
            Err(EncodeError::Codec(format!("AS_PATH \"{path}\" has a set or a confederation segment")))
        }
    });
    Ok(codec::attribute::AsPath { segments: segments.collect::<Result<_, _>>()? })
}

/// An MP attribute (optional, extended length) of IPv6 unicast.
fn mp_attribute(code: u8, parts: [&[u8]; 2]) -> Vec<u8> {
    let length = (3 + parts[0].len() + parts[1].len()) as u16;
    let mut bytes = vec![0x90, code];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 2, 1]);
    bytes.extend_from_slice(parts[0]);
    bytes.extend_from_slice(parts[1]);
    bytes
}

fn mp_reach(next_hop: Ipv6Addr, nlri: &[u8]) -> Vec<u8> {
    let mut hop = [0; MP_NEXT_HOP_BYTES];
    hop[0] = 16;
    hop[1..17].copy_from_slice(&next_hop.octets());
    mp_attribute(14, [&hop, nlri])
}

fn mp_unreach(nlri: &[u8]) -> Vec<u8> {
    mp_attribute(15, [&[], nlri])
}

/// A whole UPDATE; the callers have kept the parts within the longest message.
fn message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = FIXED_BYTES + withdrawn.len() + attributes.len() + nlri.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&[0xff; 16]);
    bytes.extend_from_slice(&(length as u16).to_be_bytes());
    bytes.push(2);
    bytes.extend_from_slice(&(withdrawn.len() as u16).to_be_bytes());
    bytes.extend_from_slice(withdrawn);
    bytes.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    bytes.extend_from_slice(attributes);
    bytes.extend_from_slice(nlri);
    bytes
}
