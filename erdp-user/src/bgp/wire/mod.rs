//! Bytes <-> messages.
//!
//! The codec is the crate `rustbgpd-wire`, and nothing outside this module sees one of its types. Four codecs were compared:
//! netgauze-bgp-pkt (17 crates and one type per RFC detail), routecore (decoding only), zettabgp (no RFC 7606) and this one, which
//! is small (bytes, thiserror), keeps decoding after a bad attribute and says for each what RFC 7606 wants, merges AS4_PATH, and obeys
//! RFC 7607 and 9774. Its risk, one author and releases that break, is met by an exact version and by this wall of our own types.
//! Speed decided nothing: all of them decode more than ten million prefixes a second.
//!
//! `update` decodes UPDATE and turns each fault into its reaction; `encode` packs routes into messages.
//!
//! RFC 4271 section 4 (formats) and 6.1, 6.2 (header and OPEN errors), RFC 5492 (capabilities), RFC 4760, RFC 6793, RFC 2918.

mod encode;
mod update;

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use rustbgpd_wire as codec;

pub use encode::{EncodeError, encode_update, fits};

use super::{
    AddPath, Asn, Family, GracefulRestart, Notification, RefreshMark, Seconds, SessionFacts, Update,
};

/// Longest message (RFC 4271 section 4.1).
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Longest message where both sides offered extended ones (RFC 8654 section 4); OPEN and KEEPALIVE never have more than 4096.
pub const MAX_EXTENDED_BYTES: usize = 65_535;
/// Marker, length and type.
pub const HEADER_BYTES: usize = 19;

/// The flags of a path attribute (RFC 4271 section 4.3): not every speaker must know it.
const OPTIONAL: u8 = 0x80;
/// It is passed on to other ASes.
const TRANSITIVE: u8 = 0x40;
/// Somebody on the way did not know it, or has added it without being the originator.
const PARTIAL: u8 = 0x20;
/// Its length has two octets.
const EXTENDED_LENGTH: u8 = 0x10;
/// The low four bits mean nothing: ignored when received, and sent as zero.
const DEFINED_FLAGS: u8 = OPTIONAL | TRANSITIVE | PARTIAL | EXTENDED_LENGTH;

/// A decoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The peer introduces itself.
    Open(Open),
    /// The peer is alive.
    Keepalive,
    /// Routes change.
    Update(DecodedUpdate),
    /// The peer ends the session.
    Notification(Notification),
    /// The peer asks for a family again, or marks that it does so; `None` is a family or subtype we never offered, to be ignored
    /// (RFC 2918 section 4, RFC 7313 section 5).
    RouteRefresh(Option<Refresh>),
}

/// What a ROUTE-REFRESH says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Tell me this family again.
    Request(Family),
    /// I begin or end telling you a family again.
    Mark(RefreshMark),
}

/// An OPEN with what of its capabilities matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS, from the four-octet capability where it is there.
    pub asn: Asn,
    /// The proposed hold time.
    pub hold: Seconds,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// The unicast families offered. A peer that names none at all speaks IPv4 unicast.
    pub families: Vec<Family>,
    /// RFC 6793.
    pub four_octet_asn: bool,
    /// RFC 2918.
    pub route_refresh: bool,
    /// RFC 7313.
    pub enhanced_refresh: bool,
    /// RFC 8654.
    pub extended_messages: bool,
    /// RFC 4724: the sender marks the end of its initial routes, and perhaps restarts gracefully.
    pub restart: Option<GracefulRestart>,
    /// RFC 9234: the numbers of all roles that it names; more than one different is an error of the sender.
    pub roles: Vec<u8>,
    /// RFC 7911: which way several paths may go, by family.
    pub add_path: Vec<(Family, AddPath)>,
}

/// An UPDATE as the RIB takes it, and what was wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodedUpdate {
    /// One for each next hop and path identifier: a message may carry both families, and several paths.
    pub updates: Vec<Update>,
    /// Faults that did not end the session, each with its reaction already applied to `updates`.
    pub faults: Vec<WireError>,
}

/// What RFC 7606 section 2 wants done about a fault, the weakest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The attribute is ignored, the routes stand.
    DiscardAttribute,
    /// The routes of a family that was not agreed on are ignored ("AFI/SAFI disable"; RFC 4760 section 7).
    DisableFamily,
    /// The routes of the message count as withdrawn.
    TreatAsWithdraw,
    /// The session ends with this NOTIFICATION.
    Reset(Notification),
}

/// A fault of the peer's message, with the reaction to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct WireError {
    /// What is wrong.
    pub detail: String,
    /// What is done about it.
    pub reaction: Reaction,
}

impl WireError {
    pub(super) fn reset(detail: impl Into<String>, notification: Notification) -> Self {
        Self { detail: detail.into(), reaction: Reaction::Reset(notification) }
    }

    fn from_codec(error: &codec::DecodeError) -> Self {
        let (code, subcode, data) = error.to_notification();
        // A NOTIFICATION must fit a message too, whatever offending bytes it quotes.
        let data = data[..data.len().min(MAX_MESSAGE_BYTES - HEADER_BYTES - 2)].to_vec();
        Self::reset(error.to_string(), Notification { code: code.as_u8(), subcode, data })
    }
}

/// What decoding an UPDATE depends on: the outcome of the OPENs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// AS numbers have four octets.
    pub four_octet_asn: bool,
    /// The peer is in our AS.
    pub internal: bool,
    /// Families that were agreed on; others are ignored (RFC 4760 section 7).
    pub families: Vec<Family>,
    /// Our own addresses on the session: no usable next hop (RFC 4271 section 6.3).
    pub own: Vec<IpAddr>,
    /// Messages of up to [`MAX_EXTENDED_BYTES`].
    pub extended_messages: bool,
    /// Beginning and end of a refresh are marked.
    pub enhanced_refresh: bool,
    /// Families in which the peer puts an identifier before each prefix (RFC 7911).
    pub add_path: Vec<Family>,
}

impl Context {
    /// What follows from the outcome of the OPENs.
    pub fn of(facts: &SessionFacts) -> Self {
        let mut own = vec![facts.local];
        own.extend(facts.next_hop_v4.map(IpAddr::V4).filter(|address| *address != facts.local));
        own.extend(facts.next_hop_v6.map(IpAddr::V6).filter(|address| *address != facts.local));
        Self {
            four_octet_asn: facts.four_octet_asn,
            internal: facts.internal,
            families: facts.families.clone(),
            own,
            extended_messages: facts.extended_messages,
            enhanced_refresh: facts.enhanced_refresh,
            add_path: facts.add_path.clone(),
        }
    }

    /// The longest UPDATE that may be sent; received ones may always be extended, because we always offer it.
    pub fn max_message_bytes(&self) -> usize {
        if self.extended_messages { MAX_EXTENDED_BYTES } else { MAX_MESSAGE_BYTES }
    }
}

/// Length of the message at the start of `buffer`, or `None` until its header is complete.
///
/// Marker, length and type are judged here (RFC 4271 section 6.1), so that nonsense is not waited for.
pub fn message_length(buffer: &[u8]) -> Result<Option<usize>, WireError> {
    let marker = &buffer[..buffer.len().min(16)];
    if marker.iter().any(|&octet| octet != 0xff) {
        return Err(WireError::reset(
            "the marker is not all ones: what answers on this connection is not BGP or lost its place",
            Notification::new(1, 1),
        ));
    }
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = u16::from_be_bytes([header[16], header[17]]);
    let kind = header[18];
    // The shortest message of each type (RFC 4271 section 6.1). How long a ROUTE-REFRESH must be depends on what was agreed on.
    let least = match kind {
        1 => 29,
        2 => 23,
        3 => 21,
        4 | 5 => HEADER_BYTES,
        _ => {
            let notification = Notification { code: 1, subcode: 3, data: vec![kind] };
            return Err(WireError::reset(format!("unknown message type {kind}"), notification));
        }
    };
    let length_bytes = usize::from(length);
    // RFC 8654 section 4: OPEN and KEEPALIVE stay short, and who offers to take long messages (we always do) is sent them.
    let most = if matches!(kind, 1 | 4) { MAX_MESSAGE_BYTES } else { MAX_EXTENDED_BYTES };
    if length_bytes < least || length_bytes > most || (kind == 4 && length_bytes != HEADER_BYTES) {
        let notification = Notification { code: 1, subcode: 2, data: length.to_be_bytes().to_vec() };
        return Err(WireError::reset(
            format!("a message of type {kind} cannot have {length} bytes"),
            notification,
        ));
    }
    Ok(Some(length_bytes))
}

/// Decodes one whole message, as [`message_length`] cut it.
pub fn decode(message: &[u8], context: &Context) -> Result<Message, WireError> {
    const ROUTE_REFRESH: u8 = 5;
    if message.get(HEADER_BYTES - 1) == Some(&ROUTE_REFRESH) {
        return decode_route_refresh(message, context).map(Message::RouteRefresh);
    }
    let mut bytes = Bytes::copy_from_slice(message);
    let decoded = codec::decode_message(&mut bytes, MAX_EXTENDED_BYTES as u16);
    match decoded.map_err(|error| WireError::from_codec(&error))? {
        codec::Message::Open(open) => Ok(Message::Open(open_from_codec(&open))),
        codec::Message::Keepalive => Ok(Message::Keepalive),
        codec::Message::Update(raw) => update::decode(&raw, context).map(Message::Update),
        codec::Message::Notification(notification) => Ok(Message::Notification(Notification {
            code: notification.code.as_u8(),
            subcode: notification.subcode,
            data: notification.data.to_vec(),
        })),
        other => Err(WireError::reset(
            format!("message type {} is not supported", other.message_type()),
            Notification { code: 1, subcode: 3, data: vec![other.message_type().as_u8()] },
        )),
    }
}

/// A request, whatever follows it: that is a list of outbound route filters, which we have never agreed to take and therefore ignore
/// (RFC 5291). A mark, where marks were agreed on, has four octets exactly (RFC 7313 section 5); where they were not, it is ignored
/// like any other subtype.
fn decode_route_refresh(message: &[u8], context: &Context) -> Result<Option<Refresh>, WireError> {
    let body = &message[HEADER_BYTES.min(message.len())..];
    let is_mark = context.enhanced_refresh && matches!(body.get(2), Some(1 | 2));
    let (&[high, low, subtype, safi], is_exact) = match body.split_first_chunk::<4>() {
        Some((fixed, rest)) => (fixed, rest.is_empty()),
        None if is_mark => (&[0; 4], false),
        None => {
            let length = message.len() as u16;
            let notification = Notification { code: 1, subcode: 2, data: length.to_be_bytes().to_vec() };
            return Err(WireError::reset("a ROUTE-REFRESH is too short to name a family", notification));
        }
    };
    if is_mark && !is_exact {
        let data = message[..message.len().min(MAX_MESSAGE_BYTES - HEADER_BYTES - 2)].to_vec();
        let notification = Notification { code: 7, subcode: 1, data };
        return Err(WireError::reset("a mark of a route refresh has the wrong length", notification));
    }
    let family = match ([high, low], safi) {
        ([0, 1], 1) => Family::Ipv4Unicast,
        ([0, 2], 1) => Family::Ipv6Unicast,
        _ => return Ok(None),
    };
    Ok(match subtype {
        0 => Some(Refresh::Request(family)),
        1 if is_mark => Some(Refresh::Mark(RefreshMark::Begin(family))),
        2 if is_mark => Some(Refresh::Mark(RefreshMark::End(family))),
        _ => None,
    })
}

/// Encodes an OPEN with our capabilities.
pub fn encode_open(open: &Open) -> Result<Vec<u8>, EncodeError> {
    let mut capabilities: Vec<codec::Capability> = open
        .families
        .iter()
        .map(|&family| codec::Capability::MultiProtocol { afi: afi(family), safi: codec::Safi::Unicast })
        .collect();
    if open.route_refresh {
        capabilities.push(codec::Capability::RouteRefresh);
    }
    if open.four_octet_asn {
        capabilities.push(codec::Capability::FourOctetAs { asn: open.asn.0 });
    }
    if open.enhanced_refresh {
        capabilities.push(codec::Capability::EnhancedRouteRefresh);
    }
    if open.extended_messages {
        capabilities.push(codec::Capability::ExtendedMessage);
    }
    capabilities.extend(open.restart.as_ref().map(restart_to_codec));
    capabilities.extend(open.roles.iter().map(|&code| codec::Capability::Unknown {
        code: ROLE_CAPABILITY,
        data: Bytes::copy_from_slice(&[code]),
    }));
    if !open.add_path.is_empty() {
        let data: Vec<u8> =
            open.add_path.iter().flat_map(|(family, mode)| [0, afi(*family) as u8, 1, mode.code()]).collect();
        capabilities.push(codec::Capability::Unknown { code: ADD_PATH_CAPABILITY, data: data.into() });
    }
    encode_message(&codec::Message::Open(codec::OpenMessage {
        version: 4,
        my_as: u16::try_from(open.asn.0).unwrap_or(AS_TRANS),
        hold_time: open.hold.0,
        bgp_identifier: open.router_id,
        capabilities,
    }))
}

/// RFC 9234 section 4.1.
const ROLE_CAPABILITY: u8 = 9;
/// RFC 7911 section 4.
const ADD_PATH_CAPABILITY: u8 = 69;

/// Without families it says only that End-of-RIB is sent and wanted (RFC 4724 section 3).
fn restart_to_codec(restart: &GracefulRestart) -> codec::Capability {
    let families = restart.families.iter().map(|&(family, forwarding_preserved)| {
        let (afi, safi) = (afi(family), codec::Safi::Unicast);
        codec::GracefulRestartFamily { afi, safi, forwarding_preserved }
    });
    codec::Capability::GracefulRestart {
        restart_state: restart.restarting,
        notification: restart.notification,
        restart_time: restart.time.min(GracefulRestart::TIME_MAX).0,
        families: families.collect(),
    }
}

/// Stands for a four-octet AS number where two octets are all there is (RFC 6793 section 4.2.1).
const AS_TRANS: u16 = 23456;

/// Encodes a KEEPALIVE.
pub fn encode_keepalive() -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&[0, HEADER_BYTES as u8, 4]);
    message
}

/// Encodes a NOTIFICATION, its data cut to what fits.
pub fn encode_notification(notification: &Notification) -> Vec<u8> {
    let room = MAX_MESSAGE_BYTES - HEADER_BYTES - 2;
    let data = &notification.data[..notification.data.len().min(room)];
    let length = (HEADER_BYTES + 2 + data.len()) as u16;
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&[3, notification.code, notification.subcode]);
    message.extend_from_slice(data);
    message
}

/// Encodes a ROUTE-REFRESH: a request, or a mark around what answers one.
pub fn encode_route_refresh(refresh: Refresh) -> Vec<u8> {
    let (subtype, family) = match refresh {
        Refresh::Request(family) => (0, family),
        Refresh::Mark(RefreshMark::Begin(family)) => (1, family),
        Refresh::Mark(RefreshMark::End(family)) => (2, family),
    };
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&[0, HEADER_BYTES as u8 + 4, 5, 0, afi(family) as u8, subtype, 1]);
    message
}

fn encode_message(message: &codec::Message) -> Result<Vec<u8>, EncodeError> {
    codec::encode_message(message)
        .map(|bytes| bytes.to_vec())
        .map_err(|error| EncodeError::Codec(error.to_string()))
}

fn open_from_codec(open: &codec::OpenMessage) -> Open {
    let mut decoded = Open {
        asn: Asn(open.my_as.into()),
        hold: Seconds(open.hold_time),
        router_id: open.bgp_identifier,
        families: Vec::new(),
        four_octet_asn: false,
        route_refresh: false,
        enhanced_refresh: false,
        extended_messages: false,
        restart: None,
        roles: Vec::new(),
        add_path: Vec::new(),
    };
    let mut multiprotocol = false;
    for capability in &open.capabilities {
        match capability {
            codec::Capability::MultiProtocol { afi, safi } => {
                multiprotocol = true;
                decoded.families.extend(family_from_codec(*afi, *safi));
            }
            codec::Capability::FourOctetAs { asn } => {
                decoded.four_octet_asn = true;
                decoded.asn = Asn(*asn);
            }
            codec::Capability::RouteRefresh => decoded.route_refresh = true,
            codec::Capability::EnhancedRouteRefresh => decoded.enhanced_refresh = true,
            codec::Capability::ExtendedMessage => decoded.extended_messages = true,
            codec::Capability::GracefulRestart { restart_state, notification, restart_time, families } => {
                let family = |it: &codec::GracefulRestartFamily| {
                    Some((family_from_codec(it.afi, it.safi)?, it.forwarding_preserved))
                };
                // RFC 4724 section 3: of several, the last counts.
                decoded.restart = Some(GracefulRestart {
                    restarting: *restart_state,
                    notification: *notification,
                    time: Seconds(*restart_time),
                    families: families.iter().filter_map(family).collect(),
                });
            }
            codec::Capability::Role { role } => decoded.roles.push(*role as u8),
            codec::Capability::Unknown { code: ROLE_CAPABILITY, data } => {
                decoded.roles.push(data.first().copied().unwrap_or(u8::MAX));
            }
            codec::Capability::AddPath(families) => {
                let mode = |it: &codec::AddPathFamily| {
                    Some((family_from_codec(it.afi, it.safi)?, AddPath::from_code(it.send_receive as u8)?))
                };
                decoded.add_path.extend(families.iter().filter_map(mode));
            }
            codec::Capability::Unknown { code: ADD_PATH_CAPABILITY, data } => {
                decoded.add_path.extend(add_path_modes(data));
            }
            // A family the codec has no name for, decoded as an unknown capability of code 1.
            codec::Capability::Unknown { code: 1, .. } => multiprotocol = true,
            // Not offered by us, therefore without effect (RFC 5492 section 4).
            _ => {}
        }
    }
    if !multiprotocol {
        decoded.families.push(Family::Ipv4Unicast);
    }
    decoded.families.sort_unstable();
    decoded.families.dedup();
    decoded
}

/// What of the capability is understood: a family or a mode that is unknown spoils only itself (RFC 7911 section 4).
fn add_path_modes(data: &[u8]) -> impl Iterator<Item = (Family, AddPath)> + '_ {
    data.chunks_exact(4).filter_map(|tuple| match tuple {
        [0, 1, 1, mode] => Some((Family::Ipv4Unicast, AddPath::from_code(*mode)?)),
        [0, 2, 1, mode] => Some((Family::Ipv6Unicast, AddPath::from_code(*mode)?)),
        _ => None,
    })
}

fn afi(family: Family) -> codec::Afi {
    match family {
        Family::Ipv4Unicast => codec::Afi::Ipv4,
        Family::Ipv6Unicast => codec::Afi::Ipv6,
    }
}

fn family_from_codec(afi: codec::Afi, safi: codec::Safi) -> Option<Family> {
    match (afi, safi) {
        (codec::Afi::Ipv4, codec::Safi::Unicast) => Some(Family::Ipv4Unicast),
        (codec::Afi::Ipv6, codec::Safi::Unicast) => Some(Family::Ipv6Unicast),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
