//! Single values with rules of their own. Each parser returns the value, or the reason and the remedy.

use std::fmt;

use serde::Serialize;

use crate::bgp::{Asn, Seconds};

/// Why a value was refused, and what to write instead.
pub(super) type Why = (String, String);

/// A name that can stand in other keys, in messages and in labels of metrics.
pub(super) fn plain_name(name: &str) -> Result<String, Why> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if name.is_empty() || !name.chars().all(is_plain) {
        let reason = format!("`{name}` is not a plain name");
        return Err((reason, "use letters, digits, `-`, `_` and `.`".to_owned()));
    }
    Ok(name.to_owned())
}

/// A bandwidth in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BitsPerSecond(pub u64);

/// Decimal units, as circuits are sold; largest first, so that a value is shown in the largest that fits.
const UNITS: [(char, u64); 3] = [('G', 1_000_000_000), ('M', 1_000_000), ('k', 1_000)];

impl fmt::Display for BitsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale)) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

impl BitsPerSecond {
    pub(super) fn parse(text: &str) -> Result<BitsPerSecond, Why> {
        let refuse = |reason: &str| {
            (
                format!("`{text}` {reason}"),
                "write a whole number and a unit, such as \"50M\" or \"1G\"".to_owned(),
            )
        };
        let number = text.strip_suffix("bps").unwrap_or(text);
        let (unit, scale) = UNITS
            .iter()
            .find(|(unit, _)| number.ends_with(*unit))
            .ok_or_else(|| refuse("has no unit k, M or G"))?;
        let number: u64 = number
            .trim_end_matches(*unit)
            .trim()
            .parse()
            .map_err(|_| refuse("does not start with a whole number"))?;
        match number.checked_mul(*scale) {
            Some(0) => Err(refuse("would let nothing pass")),
            Some(bits) => Ok(BitsPerSecond(bits)),
            None => Err(refuse("is more than 2^64 bits a second")),
        }
    }
}

/// An 802.1Q VLAN identifier, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct VlanId(u16);

impl VlanId {
    /// The identifier.
    pub fn as_u16(self) -> u16 {
        self.0
    }

    pub(super) fn parse(number: i64) -> Result<VlanId, Why> {
        match u16::try_from(number) {
            Ok(id @ 1..=4094) => Ok(VlanId(id)),
            _ => Err((
                format!("{number} is not a VLAN identifier (IEEE 802.1Q reserves 0 and 4095)"),
                "use 1 to 4094".to_owned(),
            )),
        }
    }
}

/// The tags of a logical interface's frames, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Tags {
    /// None.
    #[default]
    Untagged,
    /// One 802.1Q tag.
    Single(VlanId),
    /// Two tags; on ExpressRoute both have Ethertype 0x8100 (requirement C4).
    Double {
        /// The outer tag: names the circuit.
        s: VlanId,
        /// The inner tag: names the peering.
        c: VlanId,
    },
}

impl Tags {
    /// The tags from the outside in; as many as there are.
    pub fn iter(self) -> impl Iterator<Item = VlanId> {
        let (outer, inner) = match self {
            Tags::Untagged => (None, None),
            Tags::Single(tag) => (Some(tag), None),
            Tags::Double { s, c } => (Some(s), Some(c)),
        };
        outer.into_iter().chain(inner)
    }
}

impl fmt::Display for Tags {
    /// As a suffix of an interface's name: nothing, `.100` or `.7.100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|tag| write!(f, ".{}", tag.0))
    }
}

/// Whose AS number a value would be: some numbers are illegal for everyone, one only for us and customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsnOf {
    Ours,
    Customer,
    /// A VPN, NAT or appliance, which may be Azure's own (requirement B8).
    Service,
    Microsoft,
}

/// Numbers that nobody may use on a session (requirement E1), first to last, and why.
const ILLEGAL_ASNS: [(u32, u32, &str); 7] = [
    (0, 0, "is not an AS (RFC 7607)"),
    (23456, 23456, "is AS_TRANS, a placeholder for 32-bit numbers (RFC 6793)"),
    (64496, 64511, "is reserved for documentation (RFC 5398), and ExpressRoute refuses it in a path"),
    (65515, 65520, "is reserved by Azure for its own gateways"),
    (65535, 65535, "is reserved (RFC 7300)"),
    (65536, 65551, "is reserved for documentation (RFC 5398)"),
    (u32::MAX, u32::MAX, "is reserved (RFC 7300)"),
];

pub(super) fn asn(number: i64, whose: AsnOf) -> Result<Asn, Why> {
    let remedy = match whose {
        AsnOf::Microsoft => "leave it out for Microsoft's 12076",
        AsnOf::Ours | AsnOf::Customer | AsnOf::Service => {
            "use a registered AS, or a private one: 64512-65514, 65521-65534 or 4200000000-4294967294"
        }
    };
    let refuse = |reason: &str| (format!("{number} {reason}"), remedy.to_owned());
    let asn = u32::try_from(number).map_err(|_| refuse("is not a 32-bit AS number"))?;
    if Asn(asn) == super::GATEWAY_ASN && whose == AsnOf::Service {
        return Ok(Asn(asn));
    }
    if let Some((_, _, reason)) = ILLEGAL_ASNS.iter().find(|(first, last, _)| (*first..=*last).contains(&asn))
    {
        return Err(refuse(reason));
    }
    if Asn(asn) == super::MICROSOFT_ASN && whose != AsnOf::Microsoft {
        return Err(refuse("is Microsoft's own AS, which only its routers may use"));
    }
    Ok(Asn(asn))
}

/// Whether an AS is private (RFC 6996): Microsoft strips those on Microsoft peering.
pub fn is_private_asn(asn: Asn) -> bool {
    (64512..=65534).contains(&asn.0) || (4_200_000_000..u32::MAX).contains(&asn.0)
}

/// A hold time. RFC 4271 section 4.2 allows 0 (never expire) and 3 or more; a dead peer that is never noticed is no
/// use to an edge, so 0 is refused too.
pub(super) fn hold(number: i64) -> Result<Seconds, Why> {
    match u16::try_from(number) {
        Ok(seconds) if seconds >= 3 => Ok(Seconds(seconds)),
        _ => Err((
            format!("a hold time of {number} s is outside 3-65535 s (RFC 4271 section 4.2)"),
            "use 180 (the MSEE's own), or 10 with BFD out of reach".to_owned(),
        )),
    }
}
