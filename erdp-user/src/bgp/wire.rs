//! Bytes <-> messages.
//!
//! The codec is rustbgpd-wire, pinned exactly and seen nowhere else: of the crates compared it is the one that is pure, knows
//! RFC 7606's dispositions, and encodes as well as it decodes; netgauze-bgp-pkt brings three times the dependencies and no
//! dispositions, routecore's composer is awkward for packing. One author and breaking releases are why it is pinned and wrapped.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustbgpd_wire as codec;
use rustbgpd_wire::{
    Afi, Capability, Safi,
    attribute::{MpReachNlri, MpUnreachNlri, PathAttribute},
    nlri::{Ipv4NlriEntry, Ipv4Prefix, Ipv6Prefix, NlriEntry, Prefix},
    update::Ipv4UnicastMode,
    validate::{ErrorDisposition, validate_update_attributes},
};

use super::{
    AsPath, AsPathSegment, Asn, Community, Family, LargeCommunity, Origin, PathAttributes, RawAttribute,
    Update,
};

/// Longest message (RFC 4271 section 4.1).
pub const MESSAGE_MAX: u16 = 4096;
/// Stands for an AS number that does not fit two octets (RFC 6793 section 9).
const AS_TRANS: u16 = 23_456;
/// Octets of a message that NLRI may fill: the header, lengths and attributes have to fit beside them.
const NLRI_MAX: usize = 2_800;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// OPEN.
    Open(Open),
    /// UPDATE, with what RFC 7606 made of it: what was discarded or treated as withdrawn, in words.
    Update(Box<Update>, Option<String>),
    /// KEEPALIVE.
    Keepalive,
    /// NOTIFICATION.
    Notification(Notification),
    /// ROUTE-REFRESH; `None`: of a family we do not speak.
    Refresh(Option<Family>),
}

/// OPEN (RFC 4271 section 4.2) and the capabilities we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS: the four-octet one where it is offered.
    pub asn: Asn,
    /// Hold time in seconds.
    pub hold: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Families (RFC 4760); IPv4 unicast where no multiprotocol capability is offered at all.
    pub families: Vec<Family>,
    /// RFC 6793.
    pub four_octet: bool,
    /// RFC 2918.
    pub route_refresh: bool,
}

/// NOTIFICATION (RFC 4271 section 4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data.
    pub data: Vec<u8>,
}

impl Notification {
    /// Without data.
    pub fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// Cease with a shutdown communication (RFC 9003).
    pub fn cease(subcode: u8, text: &str) -> Self {
        Self { code: 6, subcode, data: codec::notification::encode_shutdown_communication(text).to_vec() }
    }

    /// Its name, and the shutdown communication if there is one.
    pub fn describe(&self) -> String {
        let code = codec::NotificationCode::from_u8(self.code);
        let name = codec::notification::description(code, self.subcode);
        let said = (self.code == 6 && matches!(self.subcode, 2 | 4))
            .then(|| codec::notification::decode_shutdown_communication(&self.data))
            .flatten()
            .filter(|text| !text.is_empty());
        let text = said.map(|text| format!(": \"{}\"", text.escape_debug())).unwrap_or_default();
        format!("{name} ({}/{}){text}", self.code, self.subcode)
    }
}

/// The peer sent what ends a session; the notification is the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}; the peer's BGP speaker is at fault")]
pub struct WireError {
    /// What to send before closing.
    pub notification: Notification,
    /// What was wrong.
    pub text: String,
}

impl From<codec::DecodeError> for WireError {
    fn from(error: codec::DecodeError) -> Self {
        let (code, subcode, data) = error.to_notification();
        Self {
            notification: Notification { code: code.as_u8(), subcode, data: data.to_vec() },
            text: error.to_string(),
        }
    }
}

/// Length of the message at the start of `buffer`, when all of it is there.
pub fn complete(buffer: &[u8]) -> Result<Option<usize>, WireError> {
    Ok(codec::peek_message_length(buffer, MESSAGE_MAX)?.map(usize::from).filter(|len| buffer.len() >= *len))
}

/// Decodes one message; `four_octet` is what was negotiated (RFC 6793).
pub fn decode(message: &[u8], four_octet: bool) -> Result<Message, WireError> {
    let mut bytes = Bytes::copy_from_slice(message);
    Ok(match codec::decode_message(&mut bytes, MESSAGE_MAX)? {
        codec::Message::Open(open) => Message::Open(open_of(&open)),
        codec::Message::Keepalive => Message::Keepalive,
        codec::Message::Notification(said) => Message::Notification(Notification {
            code: said.code.as_u8(),
            subcode: said.subcode,
            data: said.data.to_vec(),
        }),
        codec::Message::RouteRefresh(refresh) => {
            Message::Refresh(refresh.afi().zip(refresh.safi()).and_then(|(afi, safi)| family_of(afi, safi)))
        }
        codec::Message::Update(update) => {
            let (update, note) = update_of(&update, four_octet)?;
            Message::Update(Box::new(update), note)
        }
        other => {
            let kind = other.message_type().as_u8();
            return Err(codec::DecodeError::UnknownMessageType(kind).into());
        }
    })
}

/// Encodes an OPEN.
pub fn encode_open(open: &Open) -> Vec<u8> {
    let mut capabilities: Vec<Capability> = open
        .families
        .iter()
        .map(|family| {
            let (afi, safi) = afi_of(*family);
            Capability::MultiProtocol { afi, safi }
        })
        .collect();
    if open.route_refresh {
        capabilities.push(Capability::RouteRefresh);
    }
    if open.four_octet {
        capabilities.push(Capability::FourOctetAs { asn: open.asn.0 });
    }
    encode(&codec::Message::Open(codec::OpenMessage {
        version: 4,
        my_as: u16::try_from(open.asn.0).unwrap_or(AS_TRANS),
        hold_time: open.hold,
        bgp_identifier: open.router_id,
        capabilities,
    }))
}

/// Encodes a KEEPALIVE.
pub fn encode_keepalive() -> Vec<u8> {
    encode(&codec::Message::Keepalive)
}

/// Encodes a NOTIFICATION.
pub fn encode_notification(notification: &Notification) -> Vec<u8> {
    encode(&codec::Message::Notification(codec::NotificationMessage::new(
        codec::NotificationCode::from_u8(notification.code),
        notification.subcode,
        Bytes::copy_from_slice(&notification.data),
    )))
}

/// Encodes an update as as many messages of at most 4,096 octets as it needs. IPv4 in the classic fields, IPv6 by RFC 4760;
/// prefixes whose family cannot carry the next hop are left out and returned.
pub fn encode_update(update: &Update, four_octet: bool) -> (Vec<Vec<u8>>, Vec<IpNet>) {
    let mut messages = Vec::new();
    let mut left_out = Vec::new();
    let (v4, v6) = split(&update.withdrawn);
    for chunk in chunks(&v4) {
        messages.push(build(&[], &v4_entries(chunk), &[], four_octet));
    }
    for chunk in chunks(&v6) {
        let (afi, safi) = afi_of(Family::Ipv6Unicast);
        messages.push(build(&[], &[], &[unreach(afi, safi, v6_entries(chunk))], four_octet));
    }
    if let Some(attributes) = &update.attributes {
        announce(&update.announced, attributes, four_octet, &mut messages, &mut left_out);
    }
    match update.end_of_rib {
        Some(Family::Ipv4Unicast) => messages.push(build(&[], &[], &[], four_octet)),
        Some(Family::Ipv6Unicast) => {
            let (afi, safi) = afi_of(Family::Ipv6Unicast);
            messages.push(build(&[], &[], &[unreach(afi, safi, Vec::new())], four_octet));
        }
        None => {}
    }
    (messages.into_iter().flatten().collect(), left_out)
}

fn announce(
    announced: &[IpNet],
    attributes: &PathAttributes,
    four_octet: bool,
    messages: &mut Vec<Option<Vec<u8>>>,
    left_out: &mut Vec<IpNet>,
) {
    let (v4, v6) = split(announced);
    match attributes.next_hop {
        IpAddr::V4(next_hop) => {
            let mut list = attributes_for(attributes);
            list.push(PathAttribute::NextHop(next_hop));
            for chunk in chunks(&v4) {
                messages.push(build(&v4_entries(chunk), &[], &list, four_octet));
            }
            left_out.extend(v6);
        }
        IpAddr::V6(next_hop) => {
            for chunk in chunks(&v6) {
                let mut list = attributes_for(attributes);
                list.push(reach(next_hop, v6_entries(chunk)));
                messages.push(build(&[], &[], &list, four_octet));
            }
            left_out.extend(v4);
        }
    }
}

fn encode(message: &codec::Message) -> Vec<u8> {
    // What we build ourselves fits: OPEN with four capabilities, NOTIFICATION with at most 129 octets of text.
    codec::encode_message(message).map(|bytes| bytes.to_vec()).unwrap_or_default()
}

/// `None` when the attributes alone are too long for any message; such a path is not announced.
fn build(
    announced: &[Ipv4NlriEntry],
    withdrawn: &[Ipv4NlriEntry],
    attributes: &[PathAttribute],
    four_octet: bool,
) -> Option<Vec<u8>> {
    let update = codec::update::UpdateMessage::try_build(
        announced,
        withdrawn,
        attributes,
        four_octet,
        false,
        Ipv4UnicastMode::Body,
    )
    .ok()?;
    codec::encode_message(&codec::Message::Update(update)).ok().map(|bytes| bytes.to_vec())
}

fn split(prefixes: &[IpNet]) -> (Vec<IpNet>, Vec<IpNet>) {
    prefixes.iter().copied().partition(|prefix| matches!(prefix, IpNet::V4(_)))
}

/// Slices whose NLRI fit one message.
fn chunks(prefixes: &[IpNet]) -> impl Iterator<Item = &[IpNet]> {
    let octets = |prefix: &IpNet| 1 + usize::from(prefix.prefix_len().div_ceil(8));
    let mut rest = prefixes;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fit = rest.iter().take_while(|prefix| {
            sum += octets(prefix);
            sum <= NLRI_MAX
        });
        let (chunk, after) = rest.split_at(fit.count());
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn v4_entries(prefixes: &[IpNet]) -> Vec<Ipv4NlriEntry> {
    let entry = |prefix: &IpNet| match prefix {
        IpNet::V4(net) => {
            Some(Ipv4NlriEntry { path_id: 0, prefix: Ipv4Prefix::new(net.addr(), net.prefix_len()) })
        }
        IpNet::V6(_) => None,
    };
    prefixes.iter().filter_map(entry).collect()
}

fn v6_entries(prefixes: &[IpNet]) -> Vec<NlriEntry> {
    let entry = |prefix: &IpNet| match prefix {
        IpNet::V6(net) => {
            Some(NlriEntry { path_id: 0, prefix: Prefix::V6(Ipv6Prefix::new(net.addr(), net.prefix_len())) })
        }
        IpNet::V4(_) => None,
    };
    prefixes.iter().filter_map(entry).collect()
}

fn reach(next_hop: std::net::Ipv6Addr, announced: Vec<NlriEntry>) -> PathAttribute {
    PathAttribute::MpReachNlri(Box::new(MpReachNlri {
        afi: Afi::Ipv6,
        safi: Safi::Unicast,
        next_hop: IpAddr::V6(next_hop),
        link_local_next_hop: None,
        announced,
        flowspec_announced: Vec::new(),
        evpn_announced: Vec::new(),
        bgpls_announced: Vec::new(),
        vpn_announced: Vec::new(),
        labeled_announced: Vec::new(),
        rtc_announced: Vec::new(),
    }))
}

fn unreach(afi: Afi, safi: Safi, withdrawn: Vec<NlriEntry>) -> PathAttribute {
    PathAttribute::MpUnreachNlri(Box::new(MpUnreachNlri {
        afi,
        safi,
        withdrawn,
        flowspec_withdrawn: Vec::new(),
        evpn_withdrawn: Vec::new(),
        bgpls_withdrawn: Vec::new(),
        vpn_withdrawn: Vec::new(),
        labeled_withdrawn: Vec::new(),
        rtc_withdrawn: Vec::new(),
    }))
}

/// All attributes but the next hop.
fn attributes_for(attributes: &PathAttributes) -> Vec<PathAttribute> {
    let segments = attributes.as_path.segments.iter().map(|segment| match segment {
        AsPathSegment::Set(asns) => {
            codec::attribute::AsPathSegment::AsSet(asns.iter().map(|asn| asn.0).collect())
        }
        AsPathSegment::Sequence(asns) => {
            codec::attribute::AsPathSegment::AsSequence(asns.iter().map(|asn| asn.0).collect())
        }
    });
    let origin = match attributes.origin {
        Origin::Igp => codec::attribute::Origin::Igp,
        Origin::Egp => codec::attribute::Origin::Egp,
        Origin::Incomplete => codec::attribute::Origin::Incomplete,
    };
    let mut list = vec![
        PathAttribute::Origin(origin),
        PathAttribute::AsPath(codec::attribute::AsPath { segments: segments.collect() }),
    ];
    list.extend(attributes.med.map(PathAttribute::Med));
    list.extend(attributes.local_pref.map(PathAttribute::LocalPref));
    if !attributes.communities.is_empty() {
        list.push(PathAttribute::Communities(attributes.communities.iter().map(|value| value.0).collect()));
    }
    if !attributes.large_communities.is_empty() {
        let large = |value: &LargeCommunity| codec::attribute::LargeCommunity::new(value.0, value.1, value.2);
        list.push(PathAttribute::LargeCommunities(attributes.large_communities.iter().map(large).collect()));
    }
    let raw = |raw: &RawAttribute| {
        PathAttribute::Unknown(codec::attribute::RawAttribute {
            flags: raw.flags,
            type_code: raw.code,
            data: Bytes::copy_from_slice(&raw.value),
        })
    };
    list.extend(attributes.unknown_transitive.iter().map(raw));
    list
}

fn afi_of(family: Family) -> (Afi, Safi) {
    match family {
        Family::Ipv4Unicast => (Afi::Ipv4, Safi::Unicast),
        Family::Ipv6Unicast => (Afi::Ipv6, Safi::Unicast),
    }
}

fn family_of(afi: Afi, safi: Safi) -> Option<Family> {
    match (afi, safi) {
        (Afi::Ipv4, Safi::Unicast) => Some(Family::Ipv4Unicast),
        (Afi::Ipv6, Safi::Unicast) => Some(Family::Ipv6Unicast),
        _ => None,
    }
}

fn open_of(open: &codec::OpenMessage) -> Open {
    let offered = open.capabilities.iter().filter_map(|capability| match capability {
        Capability::MultiProtocol { afi, safi } => Some(family_of(*afi, *safi)),
        _ => None,
    });
    let any_offered = offered.clone().next().is_some();
    // RFC 4760 section 8: a speaker without the capability speaks IPv4 unicast.
    let families = if any_offered { offered.flatten().collect() } else { vec![Family::Ipv4Unicast] };
    Open {
        asn: Asn(open.four_byte_as()),
        hold: open.hold_time,
        router_id: open.bgp_identifier,
        families,
        four_octet: open
            .capabilities
            .iter()
            .any(|capability| matches!(capability, Capability::FourOctetAs { .. })),
        route_refresh: open.capabilities.contains(&Capability::RouteRefresh),
    }
}

/// An UPDATE by RFC 7606: malformed attributes make its prefixes withdrawn, never a reset where the NLRI could be read.
fn update_of(
    message: &codec::update::UpdateMessage,
    four_octet: bool,
) -> Result<(Update, Option<String>), WireError> {
    let revised = message.parse_revised(four_octet, false, false, &[])?;
    let parsed = &revised.update;
    let mut update = Update {
        withdrawn: parsed.withdrawn.iter().filter_map(|entry| v4_net(entry.prefix)).collect(),
        announced: parsed.announced.iter().filter_map(|entry| v4_net(entry.prefix)).collect(),
        attributes: None,
        end_of_rib: None,
    };
    let has_body_nlri = !update.announced.is_empty();
    let mut mp_next_hop = None;
    let mut mp_unreach = None;
    for attribute in &parsed.attributes {
        match attribute {
            PathAttribute::MpReachNlri(reach) if family_of(reach.afi, reach.safi).is_some() => {
                mp_next_hop = Some(reach.next_hop);
                update.announced.extend(reach.announced.iter().filter_map(|entry| net(entry.prefix)));
            }
            PathAttribute::MpUnreachNlri(unreach) => {
                mp_unreach = family_of(unreach.afi, unreach.safi);
                update.withdrawn.extend(unreach.withdrawn.iter().filter_map(|entry| net(entry.prefix)));
            }
            _ => {}
        }
    }
    update.end_of_rib = end_of_rib(parsed, mp_unreach, &update);
    let worst = revised.malformed.iter().max_by_key(|malformed| malformed.disposition);
    let mut note = worst.map(|worst| format!("attribute {}: {}", worst.type_code, worst.error));
    let mut withdraw = worst.is_some_and(|worst| worst.disposition >= ErrorDisposition::TreatAsWithdraw);
    if !update.announced.is_empty() && !withdraw {
        match validate_update_attributes(&parsed.attributes, true, has_body_nlri, true) {
            Err(error) if error.disposition == ErrorDisposition::SessionReset => {
                let notification = Notification { code: 3, subcode: error.subcode, data: error.data };
                let text = format!("UPDATE attributes are not valid (3/{})", notification.subcode);
                return Err(WireError { notification, text });
            }
            Err(error) => {
                withdraw |= error.disposition == ErrorDisposition::TreatAsWithdraw;
                note = Some(format!("attributes are not valid (3/{})", error.subcode));
            }
            Ok(()) => {}
        }
    }
    if !update.announced.is_empty() && !withdraw {
        match path_attributes(&parsed.attributes, mp_next_hop) {
            Some(attributes) => update.attributes = Some(Arc::new(attributes)),
            None => (withdraw, note) = (true, Some("a mandatory attribute is missing".into())),
        }
    }
    if withdraw {
        update.withdrawn.append(&mut update.announced);
    }
    let done = if withdraw { "treated as withdrawn (RFC 7606)" } else { "discarded (RFC 7606)" };
    Ok((update, note.map(|note| format!("{note}; {done}"))))
}

/// End-of-RIB (RFC 4724 section 2): an UPDATE without anything, or with an empty MP_UNREACH_NLRI alone.
fn end_of_rib(
    parsed: &codec::update::ParsedUpdate,
    unreach: Option<Family>,
    update: &Update,
) -> Option<Family> {
    if !update.withdrawn.is_empty() || !update.announced.is_empty() {
        return None;
    }
    match parsed.attributes.as_slice() {
        [] => Some(Family::Ipv4Unicast),
        [PathAttribute::MpUnreachNlri(_)] => unreach,
        _ => None,
    }
}

fn path_attributes(attributes: &[PathAttribute], mp_next_hop: Option<IpAddr>) -> Option<PathAttributes> {
    let mut origin = None;
    let mut as_path = None;
    let mut next_hop = mp_next_hop;
    let (mut med, mut local_pref) = (None, None);
    let (mut communities, mut large_communities) = (Vec::new(), Vec::new());
    let mut unknown_transitive = Vec::new();
    for attribute in attributes {
        match attribute {
            PathAttribute::Origin(value) => origin = Some(origin_of(*value)),
            PathAttribute::AsPath(path) => as_path = Some(as_path_of(path)),
            PathAttribute::NextHop(address) => next_hop = next_hop.or(Some(IpAddr::V4(*address))),
            PathAttribute::Med(value) => med = Some(*value),
            PathAttribute::LocalPref(value) => local_pref = Some(*value),
            PathAttribute::Communities(values) | PathAttribute::CommunitiesPartial(values) => {
                communities = values.iter().map(|value| Community(*value)).collect();
            }
            PathAttribute::LargeCommunities(values) | PathAttribute::LargeCommunitiesPartial(values) => {
                let large = |value: &codec::attribute::LargeCommunity| {
                    LargeCommunity(value.global_admin, value.local_data1, value.local_data2)
                };
                large_communities = values.iter().map(large).collect();
            }
            // RFC 4271 section 5: unrecognised transitive attributes are passed on with the Partial bit.
            // AS4_PATH and AS4_AGGREGATOR end here (RFC 6793 section 6).
            PathAttribute::Unknown(raw) if raw.flags & 0xc0 == 0xc0 && !matches!(raw.type_code, 17 | 18) => {
                unknown_transitive.push(RawAttribute {
                    flags: raw.flags | 0x20,
                    code: raw.type_code,
                    value: raw.data.to_vec(),
                })
            }
            _ => {}
        }
    }
    Some(PathAttributes {
        origin: origin?,
        as_path: as_path?,
        next_hop: next_hop?,
        med,
        local_pref,
        communities,
        large_communities,
        unknown_transitive,
    })
}

fn origin_of(origin: codec::attribute::Origin) -> Origin {
    match origin {
        codec::attribute::Origin::Igp => Origin::Igp,
        codec::attribute::Origin::Egp => Origin::Egp,
        codec::attribute::Origin::Incomplete => Origin::Incomplete,
    }
}

fn as_path_of(path: &codec::attribute::AsPath) -> AsPath {
    let asns = |asns: &[u32]| asns.iter().copied().map(Asn).collect();
    let segment = |segment: &codec::attribute::AsPathSegment| match segment {
        codec::attribute::AsPathSegment::AsSet(set) => AsPathSegment::Set(asns(set)),
        codec::attribute::AsPathSegment::AsSequence(sequence) => AsPathSegment::Sequence(asns(sequence)),
    };
    AsPath { segments: path.segments.iter().map(segment).collect() }
}

fn v4_net(prefix: Ipv4Prefix) -> Option<IpNet> {
    Ipv4Net::new(prefix.addr, prefix.len).ok().map(|net| IpNet::V4(net.trunc()))
}

fn net(prefix: Prefix) -> Option<IpNet> {
    match prefix {
        Prefix::V4(prefix) => v4_net(prefix),
        Prefix::V6(prefix) => Ipv6Net::new(prefix.addr, prefix.len).ok().map(|net| IpNet::V6(net.trunc())),
    }
}

#[cfg(test)]
mod tests;
