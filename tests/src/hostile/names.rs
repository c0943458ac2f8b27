//! An UPDATE by the text of RFC 4271, 4760, 7606 and 7911: which prefixes it names, and whether it may end a session. Slow, plain and
//! without a look at the codec: it is what the codec is held against.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use erdp::bgp::Family;
use erdp::bgp::wire::{Context, HEADER_BYTES};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A prefix with the identifier of its path, where there are such.
pub type Named = BTreeSet<(Option<u32>, IpNet)>;

/// What must come of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Duty {
    /// It may end the session: where its prefixes are cannot be told, or an RFC says so.
    MayReset,
    /// It must not, and these prefixes are announced or withdrawn.
    Keep(Named),
}

/// What must come of a whole message of a length that its header says.
pub fn duty(message: &[u8], context: &Context) -> Duty {
    match message.get(HEADER_BYTES - 1) {
        Some(2) => update(&message[HEADER_BYTES..], context).map_or(Duty::MayReset, Duty::Keep),
        _ => Duty::MayReset,
    }
}

fn update(body: &[u8], context: &Context) -> Option<Named> {
    let (withdrawn, rest) = counted(body)?;
    let (attributes, nlri) = counted(rest)?;
    let mut named = Named::new();
    named.extend(prefixes(withdrawn, Family::Ipv4Unicast, context)?);
    let announced = prefixes(nlri, Family::Ipv4Unicast, context)?;
    let mut reachable = !announced.is_empty();
    named.extend(announced);
    let (mut seen, mut count) = ([0; 2], 0);
    let mut rest = attributes;
    while let Some((code, value, after)) = attribute(rest) {
        (rest, count) = (after, count + 1);
        let (14 | 15, [0, afi @ (1 | 2), 1, routes @ ..]) = (code, value) else {
            // An MP attribute that is too short to say whose it is (RFC 4760 section 7), or one of another family.
            if matches!(code, 14 | 15) && value.len() < 3 {
                return None;
            }
            continue;
        };
        let family = if *afi == 1 { Family::Ipv4Unicast } else { Family::Ipv6Unicast };
        if !context.families.contains(&family) {
            continue;
        }
        // RFC 7606 section 3 g: a second one ends the session.
        let at = usize::from(code - 14);
        seen[at] += 1;
        if seen[at] > 1 {
            return None;
        }
        reachable |= code == 14;
        let routes = if code == 14 { after_next_hop(routes, family)? } else { routes };
        named.extend(prefixes(routes, family, context)?);
    }
    // An MP attribute that is longer than there is: where its prefixes end cannot be told (RFC 7606 sections 4 and 5.3).
    if matches!(rest, [_, 14 | 15, ..]) {
        return None;
    }
    // RFC 7606 section 5.2: an error beside no reachable prefix may hide one. Whether there is an error is the codec's to say.
    let is_plain = rest.is_empty() && (count == 0 || count == 1 && seen == [0, 1]);
    (reachable || is_plain).then_some(named).map(|named| only_agreed(named, context))
}

fn only_agreed(mut named: Named, context: &Context) -> Named {
    named.retain(|(_, prefix)| context.families.contains(&Family::of(prefix)));
    named
}

/// A field with its length in two octets before it, and what follows.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Code, value, and what follows; `None` at the end, or where an attribute says that it is longer than there is.
fn attribute(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [flags, code, rest @ ..] = bytes else { return None };
    let (value, after) = if flags & 0x10 != 0 {
        counted(rest)?
    } else {
        let (length, rest) = rest.split_first()?;
        rest.split_at_checked(usize::from(*length))?
    };
    Some((*code, value, after))
}

/// RFC 7606 section 7.11: a next hop of a length that cannot be leaves open where the prefixes begin.
fn after_next_hop(bytes: &[u8], family: Family) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first()?;
    let is_possible = match family {
        Family::Ipv4Unicast => matches!(length, 4),
        Family::Ipv6Unicast => matches!(length, 16 | 32),
    };
    let (_, rest) = rest.split_at_checked(usize::from(*length)).filter(|_| is_possible)?;
    rest.split_first().map(|(_, nlri)| nlri)
}

/// The prefixes of a field; `None` where they cannot be told apart (RFC 7606 section 5.3).
fn prefixes(mut bytes: &[u8], family: Family, context: &Context) -> Option<Named> {
    let mut named = Named::new();
    while !bytes.is_empty() {
        let mut id = None;
        if context.add_path.contains(&family) {
            let (path, rest) = bytes.split_first_chunk::<4>()?;
            (id, bytes) = (Some(u32::from_be_bytes(*path)), rest);
        }
        let (length, rest) = bytes.split_first()?;
        let (octets, rest) = rest.split_at_checked(usize::from(length.div_ceil(8)))?;
        bytes = rest;
        let mut address = [0; 16];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        let [a, b, c, d, ..] = address;
        let net = match family {
            Family::Ipv4Unicast => IpNet::V4(Ipv4Net::new(Ipv4Addr::new(a, b, c, d), *length).ok()?),
            Family::Ipv6Unicast => IpNet::V6(Ipv6Net::new(Ipv6Addr::from(address), *length).ok()?),
        };
        named.insert((id, net.trunc()));
    }
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::corpus::from_hex;

    /// Withdrawn, attributes, routes; in hex.
    fn message(parts: [&str; 3]) -> Vec<u8> {
        let [withdrawn, attributes, nlri] = parts.map(|hex| from_hex(hex).unwrap_or_default());
        let mut message = vec![0xff; 18];
        message.push(2);
        for part in [withdrawn, attributes] {
            message.extend_from_slice(&(part.len() as u16).to_be_bytes());
            message.extend_from_slice(&part);
        }
        message.extend_from_slice(&nlri);
        message
    }

    #[test]
    fn each_message_names_its_prefixes_or_may_end_the_session() {
        let keep = |prefixes: &str| {
            let net = |text: &str| (None, text.parse::<IpNet>().unwrap());
            Duty::Keep(prefixes.split_whitespace().map(net).collect())
        };
        let rows = [
            ("a route", ["", "40010100", "0814"], keep("20.0.0.0/8")),
            ("host bits", ["", "40010100", "0a14ff"], keep("20.192.0.0/10")),
            ("withdrawn and announced", ["0815", "40010109", "0814"], keep("20.0.0.0/8 21.0.0.0/8")),
            ("End-of-RIB", ["", "", ""], keep("")),
            ("IPv6 withdrawn", ["", "800f0600020110fd00", ""], keep("fd00::/16")),
            ("an attribute too long", ["", "400109", "0814"], keep("20.0.0.0/8")),
            ("a prefix cut", ["", "40010100", "1814"], Duty::MayReset),
            ("a prefix too long", ["", "40010100", "21141414141414"], Duty::MayReset),
            ("twice MP_UNREACH", ["", "800f03000201800f03000201", "0814"], Duty::MayReset),
            ("a next hop of one octet", ["", "800e060002010107 00", "0814"], Duty::MayReset),
            ("an attribute and no route", ["", "40010109", ""], Duty::MayReset),
        ];
        let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
        let context = Context { families, ..Context::default() };
        for (name, parts, expected) in rows {
            let parts = parts.map(|part| part.replace(' ', ""));
            assert_eq!(duty(&message([&parts[0], &parts[1], &parts[2]]), &context), expected, "{name}");
        }
    }
}
