//! An operator's words for a packet: DSCP names, protocols, TCP flags, VLAN tags. Each refusal names the word and what is possible.

use std::str::FromStr;

use super::Protocol;

/// Names of DSCP values: RFC 2474 (CS), RFC 2597 (AF), RFC 3246 (EF), RFC 5865 (VA), RFC 8622 (LE). The first name of a value is the one
/// that is shown.
pub const DSCP_NAMES: [(&str, u8); 25] = [
    ("CS0", 0),
    ("BE", 0),
    ("DF", 0),
    ("LE", 1),
    ("CS1", 8),
    ("AF11", 10),
    ("AF12", 12),
    ("AF13", 14),
    ("CS2", 16),
    ("AF21", 18),
    ("AF22", 20),
    ("AF23", 22),
    ("CS3", 24),
    ("AF31", 26),
    ("AF32", 28),
    ("AF33", 30),
    ("CS4", 32),
    ("AF41", 34),
    ("AF42", 36),
    ("AF43", 38),
    ("CS5", 40),
    ("VA", 44),
    ("EF", 46),
    ("CS6", 48),
    ("CS7", 56),
];

/// TCP's flags by name, the lowest bit first.
const TCP_FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
/// Values of the ECN field (RFC 3168 section 5).
const ECN_NAMES: [&str; 4] = ["not-ect", "ect1", "ect0", "ce"];

/// A DSCP value by its name or number.
pub fn dscp(text: &str) -> Result<u8, String> {
    let named = DSCP_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    match (named, text.parse::<u8>()) {
        (Some((_, value)), _) => Ok(*value),
        (None, Ok(value @ 0..64)) => Ok(value),
        _ => Err(format!("{text:?} is no DSCP: write 0 to 63, or a name such as EF, AF41, CS1")),
    }
}

/// The usual name of a DSCP value.
pub fn dscp_name(value: u8) -> Option<&'static str> {
    DSCP_NAMES.iter().find(|(_, known)| *known == value).map(|(name, _)| *name)
}

/// A value of the ECN field by its name or number.
pub fn ecn(text: &str) -> Result<u8, String> {
    let named = ECN_NAMES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = text.parse::<u8>().ok().filter(|value| *value < 4);
    named
        .map(|at| at as u8)
        .or(number)
        .ok_or_else(|| format!("{text:?} is no ECN value: write 0 to 3, or {}", ECN_NAMES.join(", ")))
}

/// The name of a value of the ECN field.
pub fn ecn_name(value: u8) -> &'static str {
    ECN_NAMES[usize::from(value & 3)]
}

/// TCP's flags by their names with commas between them.
pub fn tcp_flags(text: &str) -> Result<u8, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(0);
    }
    text.split(',').try_fold(0, |flags, word| {
        let at = TCP_FLAGS.iter().position(|name| name.eq_ignore_ascii_case(word.trim()));
        let at = at.ok_or_else(|| {
            format!("{word:?} is no flag of TCP: write some of {} with commas, or none", TCP_FLAGS.join(", "))
        })?;
        Ok(flags | 1 << at)
    })
}

/// VLAN identifiers with a comma between them, outer first; `none`: the frame is untagged.
pub fn tags(text: &str) -> Result<Vec<u16>, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let tag = |word: &str| word.trim().parse::<u16>().ok().filter(|vid| (1..=4094).contains(vid));
    let tags: Vec<u16> = text
        .split(',')
        .map(|word| tag(word).ok_or_else(|| format!("{word:?} is no VLAN tag: write 1 to 4094, or none")))
        .collect::<Result<_, _>>()?;
    if tags.len() > 2 {
        return Err(format!("{} VLAN tags: a frame has two at most, outer first", tags.len()));
    }
    Ok(tags)
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text.to_ascii_lowercase().as_str(), text.parse::<u8>()) {
            ("udp", _) | (_, Ok(17)) => Ok(Self::Udp),
            ("tcp", _) | (_, Ok(6)) => Ok(Self::Tcp),
            ("icmp" | "icmpv6" | "icmp6", _) | (_, Ok(1 | 58)) => Ok(Self::Icmp),
            ("esp", _) | (_, Ok(50)) => Ok(Self::Esp),
            (_, Ok(number)) => Ok(Self::Number(number)),
            _ => Err(format!("{text:?} is no protocol: write udp, tcp, icmp, esp or a number from 0 to 255")),
        }
    }
}

/// A protocol's usual name; the number where it has none.
pub fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        47 => "gre".into(),
        50 => "esp".into(),
        51 => "ah".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        number => format!("protocol {number}"),
    }
}
