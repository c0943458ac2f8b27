//! Why a session ends: NOTIFICATION (RFC 4271 section 4.5) and the sentence an operator reads.
//!
//! The numbers are the protocol's, the sentences ours: each says what happened and, where something can be done, what. A
//! shutdown text of the peer's operator (RFC 9003) is quoted, with control characters removed.

use std::fmt;
use std::net::IpAddr;

use super::{Excess, Family};

/// A NOTIFICATION message: error code, subcode, data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code, RFC 4271 section 4.5 and the IANA registry.
    pub code: u8,
    /// Error subcode; 0 is unspecific.
    pub subcode: u8,
    /// What the code and subcode define, often the offending bytes.
    pub data: Vec<u8>,
}

/// The subcodes of Cease (RFC 4486, 8538, 9384) that ERDP sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cease {
    /// 1: the peer sent more prefixes than it may.
    MaximumPrefixes,
    /// 2: taken down by an operator.
    AdministrativeShutdown,
    /// 3: no longer configured.
    PeerDeconfigured,
    /// 4: restarted by an operator.
    AdministrativeReset,
    /// 5: a connection that is not wanted now.
    ConnectionRejected,
    /// 6: configuration changed.
    ConfigurationChange,
    /// 7: the other of two connections was kept.
    CollisionResolution,
    /// 8: out of resources.
    OutOfResources,
    /// 10: BFD says the path is down (RFC 9384).
    BfdDown,
}

impl Cease {
    /// The subcode on the wire.
    pub fn subcode(self) -> u8 {
        match self {
            Self::MaximumPrefixes => 1,
            Self::AdministrativeShutdown => 2,
            Self::PeerDeconfigured => 3,
            Self::AdministrativeReset => 4,
            Self::ConnectionRejected => 5,
            Self::ConfigurationChange => 6,
            Self::CollisionResolution => 7,
            Self::OutOfResources => 8,
            Self::BfdDown => 10,
        }
    }
}

/// Error code 6.
pub(super) const CEASE: u8 = 6;
/// Its subcode 9, which wraps another NOTIFICATION (RFC 8538).
const HARD_RESET: u8 = 9;
/// Longest shutdown text sent, in bytes: what speakers that predate RFC 9003 accept.
const SHUTDOWN_TEXT_MAX: usize = 128;

impl Notification {
    /// A NOTIFICATION without data.
    pub fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// A Cease; `text` goes with shutdown and reset (RFC 9003), cut at a character boundary.
    pub fn cease(cease: Cease, text: &str) -> Self {
        let mut notification = Self::new(CEASE, cease.subcode());
        if matches!(cease, Cease::AdministrativeShutdown | Cease::AdministrativeReset) && !text.is_empty() {
            let end = (0..=text.len().min(SHUTDOWN_TEXT_MAX)).rev().find(|&at| text.is_char_boundary(at));
            let text = &text.as_bytes()[..end.unwrap_or(0)];
            notification.data.push(text.len() as u8);
            notification.data.extend_from_slice(text);
        }
        notification
    }

    /// Cease/1 with what RFC 4486 section 4 puts into it: the family, and how many prefixes of it are taken. A limit of memory is one
    /// of no family, and the data are optional.
    pub fn maximum_prefixes(excess: Excess) -> Self {
        let Excess::Prefixes { family, limit } = excess else {
            return Self::cease(Cease::MaximumPrefixes, "");
        };
        let afi = match family {
            Family::Ipv4Unicast => 1,
            Family::Ipv6Unicast => 2,
        };
        let mut data = vec![0, afi, 1];
        data.extend_from_slice(&limit.to_be_bytes());
        Self { data, ..Self::cease(Cease::MaximumPrefixes, "") }
    }

    /// The same inside a Hard Reset (RFC 8538 section 3).
    #[must_use]
    pub fn hard_reset(&self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self { code: CEASE, subcode: HARD_RESET, data }
    }

    /// Whether it ends the session for good even where others keep the routes.
    pub fn is_hard_reset(&self) -> bool {
        (self.code, self.subcode) == (CEASE, HARD_RESET)
    }

    /// Whether it is Cease/4: who sends it comes back at once.
    pub fn is_reset_by_operator(&self) -> bool {
        (self.code, self.subcode) == (CEASE, Cease::AdministrativeReset.subcode())
    }

    /// Whether it is Cease/7: the peer keeps another connection (RFC 4271 section 6.8).
    pub fn is_collision(&self) -> bool {
        (self.code, self.subcode) == (CEASE, Cease::CollisionResolution.subcode())
    }

    /// What a Hard Reset wraps; the notification itself otherwise.
    fn inner(&self) -> (u8, u8, &[u8]) {
        match (self.code, self.subcode, self.data.as_slice()) {
            (CEASE, HARD_RESET, [code, subcode, data @ ..]) => (*code, *subcode, data),
            (code, subcode, data) => (code, subcode, data),
        }
    }

    /// Hold Timer Expired (RFC 4271 section 6.5).
    pub fn hold_expired() -> Self {
        Self::new(4, 0)
    }

    /// Finite State Machine Error with the state it was in (RFC 6608).
    pub fn machine_error(subcode: u8) -> Self {
        Self::new(5, subcode)
    }

    /// The peer's shutdown text (RFC 9003 section 2), printable; also inside a Hard Reset (RFC 8538).
    pub fn shutdown_text(&self) -> Option<String> {
        let (CEASE, 2 | 4, data) = self.inner() else { return None };
        let (&length, text) = data.split_first()?;
        let text = std::str::from_utf8(text.get(..usize::from(length))?).ok()?;
        Some(text.chars().filter(|c| !c.is_control()).collect()).filter(|text: &String| !text.is_empty())
    }

    /// The registry's name of code and subcode.
    pub fn name(&self) -> &'static str {
        match (self.code, self.subcode) {
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (1, _) => "message header error",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, 11) => "role mismatch",
            (2, _) => "OPEN message error",
            (3, 1) => "malformed attribute list",
            (3, 2) => "unrecognized well-known attribute",
            (3, 3) => "missing well-known attribute",
            (3, 4) => "attribute flags error",
            (3, 5) => "attribute length error",
            (3, 6) => "invalid ORIGIN",
            (3, 8) => "invalid NEXT_HOP",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (3, _) => "UPDATE message error",
            (4, _) => "hold timer expired",
            (5, 1) => "unexpected message in OpenSent",
            (5, 2) => "unexpected message in OpenConfirm",
            (5, 3) => "unexpected message in Established",
            (5, _) => "finite state machine error",
            (CEASE, 1) => "maximum number of prefixes reached",
            (CEASE, 2) => "administrative shutdown",
            (CEASE, 3) => "peer de-configured",
            (CEASE, 4) => "administrative reset",
            (CEASE, 5) => "connection rejected",
            (CEASE, 6) => "other configuration change",
            (CEASE, 7) => "connection collision resolution",
            (CEASE, 8) => "out of resources",
            (CEASE, 9) => "hard reset",
            (CEASE, 10) => "BFD down",
            (CEASE, _) => "cease",
            (7, _) => "ROUTE-REFRESH message error",
            (8, _) => "send hold timer expired",
            _ => "unknown error",
        }
    }

    /// What an operator on the receiving side can do about it; empty where the name says it all.
    fn remedy(&self) -> &'static str {
        match (self.inner().0, self.inner().1) {
            (2, 2) => {
                "; the peer has another AS configured for us: compare local and remote AS on both sides"
            }
            (2, 3) => "; give both routers different, non-zero router identifiers",
            (2, 6) => "; configure a hold time of at least 3 s on both sides",
            (2, 7) => "; enable the same address families on both sides",
            (4, _) => "; the peer heard nothing from us in time: look for loss or overload on the path",
            (CEASE, 1) => {
                "; we sent more prefixes than the peer allows: aggregate or filter, it returns when the count is below"
            }
            (CEASE, 2) => "; the peer's operator took it down and must bring it up again",
            (CEASE, 3) => {
                "; the peer has no configuration for us any more: compare addresses and AS on both sides"
            }
            (CEASE, 5) => "; the peer is configured but does not want this session now: look at its side",
            _ => "",
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode, data) = self.inner();
        if self.is_hard_reset() && (code, subcode) != (self.code, self.subcode) {
            let wrapped = Self { code, subcode, data: data.to_vec() };
            return write!(f, "{wrapped}, as a hard reset");
        }
        write!(f, "{} ({}/{})", self.name(), self.code, self.subcode)?;
        match self.shutdown_text() {
            Some(text) => write!(f, ": \"{text}\""),
            None => Ok(()),
        }
    }
}

/// Why a session, or an attempt at one, ended. `Display` is a sentence for operators with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// The controller asked for it.
    #[error("stopped here: {0}")]
    Stopped(Notification),
    /// The peer ended it with a NOTIFICATION.
    #[error("{peer} ended the session: {notification}{}", .notification.remedy())]
    Notified {
        /// The peer's address.
        peer: IpAddr,
        /// What it said.
        notification: Notification,
    },
    /// The peer said something we cannot accept, and was told so.
    #[error("{peer}: {detail}; sent: {notification}")]
    Refused {
        /// The peer's address.
        peer: IpAddr,
        /// What was wrong, with the remedy.
        detail: String,
        /// What we sent.
        notification: Notification,
    },
    /// The hold timer expired.
    #[error(
        "{peer}: nothing heard for {hold}: look at the link and at the peer; BFD would have found it sooner"
    )]
    HoldExpired {
        /// The peer's address.
        peer: IpAddr,
        /// The hold time that passed.
        hold: super::Seconds,
    },
    /// The link that it is reached by has lost its carrier.
    #[error(
        "{peer}: its link has no carrier: look at the cable and at the other end; the session returns with the carrier"
    )]
    NoCarrier {
        /// The peer's address.
        peer: IpAddr,
    },
    /// Nothing could be written for the send hold time (RFC 9687).
    #[error("{peer}: it has not read from the session for {seconds} s although TCP is up: the peer is stuck")]
    SendBlocked {
        /// The peer's address.
        peer: IpAddr,
        /// How long nothing could be written.
        seconds: u64,
    },
    /// TCP went away under a connection.
    #[error("{peer}: the TCP connection was lost: {detail}")]
    ConnectionLost {
        /// The peer's address.
        peer: IpAddr,
        /// What the system said.
        detail: String,
    },
    /// A TCP connection could not be made.
    #[error("{peer}: cannot connect from {local}: {detail}")]
    ConnectFailed {
        /// The peer's address.
        peer: IpAddr,
        /// Our address.
        local: IpAddr,
        /// What the system said, with the remedy.
        detail: String,
    },
    /// No answer at all to our SYN.
    #[error(
        "{peer}: no answer to connecting from {local}: is the link up, the address right{}?",
        if *.md5 { ", and the MD5 key the same on both sides (a wrong key shows only as silence)" }
        else { ", and does the peer perhaps expect an MD5 key (a missing key shows only as silence)" }
    )]
    ConnectTimeout {
        /// The peer's address.
        peer: IpAddr,
        /// Our address.
        local: IpAddr,
        /// Whether an MD5 key is configured here.
        md5: bool,
    },
}

impl DownReason {
    /// Whether the peer, or we, ended the session for good: no attempt that merely failed.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::Notified { .. } | Self::NoCarrier { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shutdown_text_travels_and_is_cut_at_a_character() {
        let sent = Notification::cease(Cease::AdministrativeShutdown, "moving to rack 7, back at 14:00");
        assert_eq!(sent.shutdown_text().as_deref(), Some("moving to rack 7, back at 14:00"));
        assert_eq!(sent.to_string(), "administrative shutdown (6/2): \"moving to rack 7, back at 14:00\"");
        let long = Notification::cease(Cease::AdministrativeReset, &"ü".repeat(100));
        assert_eq!(long.shutdown_text().map(|text| text.len()), Some(128));
        let odd = Notification::cease(Cease::AdministrativeReset, &format!("x{}", "ü".repeat(100)));
        assert_eq!(odd.shutdown_text().map(|text| text.len()), Some(127));
        assert!(Notification::cease(Cease::BfdDown, "never carried").data.is_empty());
    }

    #[test]
    fn hostile_shutdown_text_is_not_believed() {
        let rows: [(&str, Vec<u8>, Option<&str>); 6] = [
            ("no data", vec![], None),
            ("length beyond the data", vec![9, b'a'], None),
            ("not UTF-8", vec![2, 0xff, 0xfe], None),
            ("only control characters", vec![2, 7, 27], None),
            ("a terminal escape inside", vec![4, b'o', 27, b'k', b'!'], Some("ok!")),
            ("shorter than the data", vec![2, b'o', b'k', b'!'], Some("ok")),
        ];
        for (name, data, text) in rows {
            let received = Notification { code: 6, subcode: 2, data };
            assert_eq!(received.shutdown_text().as_deref(), text, "{name}");
        }
    }

    #[test]
    fn hard_reset_shows_the_text_it_wraps() {
        let received = Notification { code: 6, subcode: 9, data: vec![6, 2, 3, b'b', b'y', b'e'] };
        assert_eq!(received.shutdown_text().as_deref(), Some("bye"));
    }

    #[test]
    fn reasons_name_object_and_remedy() {
        let peer = IpAddr::from([198, 18, 0, 2]);
        let local = IpAddr::from([198, 18, 0, 1]);
        let rows = [
            (
                DownReason::Notified { peer, notification: Notification::new(2, 2) },
                ["198.18.0.2", "another AS"],
            ),
            (DownReason::ConnectTimeout { peer, local, md5: true }, ["198.18.0.1", "MD5 key the same"]),
            (DownReason::ConnectTimeout { peer, local, md5: false }, ["198.18.0.2", "expect an MD5 key"]),
            (DownReason::HoldExpired { peer, hold: crate::bgp::Seconds(9) }, ["9 s", "link"]),
            (DownReason::NoCarrier { peer }, ["no carrier", "cable"]),
        ];
        for (reason, words) in rows {
            let sentence = reason.to_string();
            assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
        }
    }
}
