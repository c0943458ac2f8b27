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

pub use encode::{EncodeError, encode_update};

use super::{Asn, Family, Notification, Seconds, Update};

/// Longest message (RFC 4271 section 4.1); RFC 8654 is not offered.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Marker, length and type.
pub const HEADER_BYTES: usize = 19;

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
    /// The peer asks for a family again; `None` is a family or subtype we never offered, to be ignored (RFC 2918 section 4).
    RouteRefresh(Option<Family>),
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
    /// RFC 4724: the sender marks the end of its initial routes.
    pub end_of_rib: bool,
}

/// An UPDATE as the RIB takes it, and what was wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodedUpdate {
    /// One for each next hop: a message may carry both families.
    pub updates: Vec<Update>,
    /// Faults that did not end the session, each with its reaction already applied to `updates`.
    pub faults: Vec<WireError>,
}

/// What RFC 7606 section 2 wants done about a fault, the weakest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The attribute is ignored, the routes stand.
    DiscardAttribute,
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
    // The shortest message of each type; RFC 4271 section 6.1 and RFC 7313 section 5.
    let least = match kind {
        1 => 29,
        2 => 23,
        3 => 21,
        4 => HEADER_BYTES,
        5 => 23,
        _ => {
            let notification = Notification { code: 1, subcode: 3, data: vec![kind] };
            return Err(WireError::reset(format!("unknown message type {kind}"), notification));
        }
    };
    let length_bytes = usize::from(length);
    if length_bytes < least || length_bytes > MAX_MESSAGE_BYTES || (kind == 4 && length_bytes != HEADER_BYTES)
    {
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
    let mut bytes = Bytes::copy_from_slice(message);
    let decoded = codec::decode_message(&mut bytes, codec::MAX_MESSAGE_LEN);
    match decoded.map_err(|error| WireError::from_codec(&error))? {
        codec::Message::Open(open) => Ok(Message::Open(open_from_codec(&open))),
        codec::Message::Keepalive => Ok(Message::Keepalive),
        codec::Message::Update(raw) => update::decode(&raw, context).map(Message::Update),
        codec::Message::Notification(notification) => Ok(Message::Notification(Notification {
            code: notification.code.as_u8(),
            subcode: notification.subcode,
            data: notification.data.to_vec(),
        })),
        codec::Message::RouteRefresh(refresh) => Ok(Message::RouteRefresh(match refresh.subtype_raw {
            0 => refresh.afi().zip(refresh.safi()).and_then(|(afi, safi)| family_from_codec(afi, safi)),
            _ => None,
        })),
        other => Err(WireError::reset(
            format!("message type {} is not supported", other.message_type()),
            Notification { code: 1, subcode: 3, data: vec![other.message_type().as_u8()] },
        )),
    }
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
    if open.end_of_rib {
        // Without families: no forwarding is preserved, End-of-RIB is sent and wanted (RFC 4724 section 3).
        capabilities.push(codec::Capability::GracefulRestart {
            restart_state: false,
            notification: false,
            restart_time: 0,
            families: Vec::new(),
        });
    }
    encode_message(&codec::Message::Open(codec::OpenMessage {
        version: 4,
        my_as: u16::try_from(open.asn.0).unwrap_or(AS_TRANS),
        hold_time: open.hold.0,
        bgp_identifier: open.router_id,
        capabilities,
    }))
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

/// Encodes a ROUTE-REFRESH request.
pub fn encode_route_refresh(family: Family) -> Result<Vec<u8>, EncodeError> {
    encode_message(&codec::Message::RouteRefresh(codec::RouteRefreshMessage::new(
        afi(family),
        codec::Safi::Unicast,
    )))
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
        end_of_rib: false,
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
            codec::Capability::GracefulRestart { .. } => decoded.end_of_rib = true,
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
