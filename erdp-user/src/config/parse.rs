//! [`Config`] out of the raw file: one function for each table of the file, top to bottom.
//!
//! The first refusal ends the work; warnings are gathered. Whatever must be compared with other parts of the file is
//! noted in the [`Ledger`] on the way and judged at the end.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::cross::Ledger;
use super::error::Fault;
use super::plan::{DomainId, LinkRole};
use super::raw::{OneOrTwo, RawAttachment, RawCircuit, RawConfig, RawLink, RawPeer, RawPeering};
use super::values::{AsnOf, BitsPerSecond, Tags, VlanId, Why, asn, hold, is_private_asn};
use super::{
    CeAttachment, CePeer, Circuit, Config, Link, LinkAddresses, LinkPair, MICROSOFT_ASN, Peering,
    PeeringKind, Sku,
};
use crate::bgp::{Asn, Family, Seconds};

/// What the MSEE uses itself (requirement B4).
const DEFAULT_HOLD: Seconds = Seconds(180);

/// 32 MiB: some 30,000 routes of any length in one domain.
const DEFAULT_FIB_BLOCKS: u32 = 32_768;

/// Below this a busy control plane loses sessions for nothing (requirement B4).
const HASTY_HOLD: Seconds = Seconds(10);

pub(super) fn config(text: &str) -> Result<(Config, Vec<Fault>), Fault> {
    let raw: RawConfig = toml::from_str(text).map_err(|error| Fault::from_toml(&error, text))?;
    let mut ledger = Ledger::default();
    let asn = value(&raw.asn, "asn", |number| asn(*number, AsnOf::Ours))?;
    if raw.circuit.is_empty() {
        return Err(Fault::new(
            0..0,
            "circuit",
            "no circuit is configured, so there is nothing to be an edge of",
            "add a [[circuit]] table",
        ));
    }
    let circuits = raw
        .circuit
        .iter()
        .map(|table| circuit(table.get_ref(), table.span(), asn, &mut ledger))
        .collect::<Result<Vec<_>, _>>()?;
    unique_names(&raw.circuit)?;
    let names = peering_names(&circuits);
    let attachments = raw
        .attachment
        .iter()
        .map(|table| attachment(table.get_ref(), &names, asn, &mut ledger))
        .collect::<Result<Vec<_>, _>>()?;
    let router_id = router_id(raw.router_id.as_ref(), &circuits, &attachments)?;
    let fib_blocks = match &raw.fib_blocks {
        Some(spanned) => value(spanned, "fib-blocks", |blocks| fib_blocks(*blocks))?,
        None => DEFAULT_FIB_BLOCKS,
    };
    ledger.check()?;
    Ok((Config { asn, router_id, fib_blocks, circuits, attachments }, ledger.warnings))
}

/// Runs a value's parser and gives its refusal a place and a key.
fn value<T, U>(raw: &Spanned<T>, key: &str, parse: impl FnOnce(&T) -> Result<U, Why>) -> Result<U, Fault> {
    parse(raw.get_ref()).map_err(|(reason, remedy)| Fault::new(raw.span(), key, reason, remedy))
}

/// The same for a value that may be absent.
fn optional<T, U>(
    raw: Option<&Spanned<T>>,
    key: &str,
    parse: impl FnOnce(&T) -> Result<U, Why>,
) -> Result<Option<U>, Fault> {
    raw.map(|raw| value(raw, key, parse)).transpose()
}

/// One of two words; the answer is whether it is the first, which is also what absence means.
fn word(raw: Option<&Spanned<String>>, key: &str, words: [&str; 2]) -> Result<bool, Fault> {
    let parse = |text: &String| match words.iter().position(|word| word == text) {
        Some(at) => Ok(at == 0),
        None => {
            Err((format!("{text:?} is neither {:?} nor {:?}", words[0], words[1]), "use one of them".into()))
        }
    };
    Ok(optional(raw, key, parse)?.unwrap_or(true))
}

/// Each routing table needs 512 blocks for its two roots.
fn fib_blocks(blocks: i64) -> Result<u32, Why> {
    u32::try_from(blocks).ok().filter(|blocks| (1_024..=4_194_304).contains(blocks)).ok_or_else(|| {
        (
            format!("{blocks} is not between 1024 and 4194304"),
            "leave it out for 32768, which is 32 MiB".into(),
        )
    })
}

fn circuit(raw: &RawCircuit, at: Range<usize>, ours: Asn, ledger: &mut Ledger) -> Result<Circuit, Fault> {
    let name = circuit_name(&raw.name)?;
    let key = |suffix: &str| format!("circuit.{name}.{suffix}");
    if let Some(public) = &raw.public {
        return Err(Fault::new(
            public.span(),
            key("public"),
            "public peering was retired by Microsoft (2024-03-31)",
            "use [circuit.microsoft], which took over its services",
        ));
    }
    let bandwidth = value(&raw.bandwidth, &key("bandwidth"), |text| BitsPerSecond::parse(text))?;
    if !bandwidth.is_sold() {
        ledger.warn(
            raw.bandwidth.span(),
            key("bandwidth"),
            format!("Microsoft sells no circuit of {bandwidth}"),
            "compare with the circuit's page: 50, 100, 200, 500M, 1, 2, 5, 10G, or 40, 100G on Direct (10M: legacy)",
        );
    }
    let s_vlan = optional(raw.s_vlan.as_ref(), &key("s-vlan"), |number| VlanId::parse(*number))?;
    let primary = link(raw.primary.as_ref(), &at, &key("primary"))?;
    let secondary = link(raw.secondary.as_ref(), &at, &key("secondary"))?;
    if let (Link::Box { .. }, Link::Box { .. }) = (&primary, &secondary) {
        let at = raw.secondary.as_ref().map_or(at, Spanned::span);
        let reason = "both links end on another box, so this box has no part in the circuit";
        return Err(Fault::new(at, key("secondary"), reason, "make one of them { local = INTERFACE }"));
    }
    let sku = optional(raw.sku.as_ref(), &key("sku"), |text| sku(text))?.unwrap_or_default();
    let mut circuit = Circuit {
        name: name.clone(),
        bandwidth,
        sku,
        s_vlan,
        enabled: word(raw.admin.as_ref(), &key("admin"), ["enabled", "disabled"])?,
        hairpin: !word(raw.hairpin.as_ref(), &key("hairpin"), ["deny", "allow"])?,
        primary,
        secondary,
        private: None,
        microsoft: None,
    };
    let peerings = [(PeeringKind::Private, &raw.private), (PeeringKind::Microsoft, &raw.microsoft)];
    for (kind, raw) in peerings {
        let Some(raw) = raw else { continue };
        let peering = peering(raw, kind, &circuit, ours, ledger)?;
        match kind {
            PeeringKind::Private => circuit.private = Some(peering),
            PeeringKind::Microsoft => circuit.microsoft = Some(peering),
        }
    }
    if circuit.private.is_none() && circuit.microsoft.is_none() {
        let reason = "the circuit has no peering, so it carries nothing";
        return Err(Fault::new(
            raw.name.span(),
            key("private"),
            reason,
            "add [circuit.private] or [circuit.microsoft]",
        ));
    }
    Ok(circuit)
}

/// A circuit's name is half of `circuit/peering` and a label of metrics.
fn circuit_name(raw: &Spanned<String>) -> Result<String, Fault> {
    let name = raw.get_ref();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if name.is_empty() || !name.chars().all(is_plain) {
        let reason = format!("`{name}` is not a plain name");
        return Err(Fault::new(raw.span(), "circuit.name", reason, "use letters, digits, `-`, `_` and `.`"));
    }
    Ok(name.clone())
}

fn unique_names(circuits: &[Spanned<RawCircuit>]) -> Result<(), Fault> {
    for (index, table) in circuits.iter().enumerate() {
        let name = &table.get_ref().name;
        if circuits.iter().take(index).any(|earlier| earlier.get_ref().name.get_ref() == name.get_ref()) {
            let reason = format!("two circuits are called `{}`", name.get_ref());
            return Err(Fault::new(name.span(), "circuit.name", reason, "give each circuit its own name"));
        }
    }
    Ok(())
}

fn sku(text: &str) -> Result<Sku, Why> {
    match text {
        "standard" => Ok(Sku::Standard),
        "premium" => Ok(Sku::Premium),
        "local" => Ok(Sku::Local),
        _ => Err((format!("`{text}` is not a SKU"), "use \"standard\", \"premium\" or \"local\"".to_owned())),
    }
}

fn link(raw: Option<&Spanned<RawLink>>, circuit_at: &Range<usize>, key: &str) -> Result<Link, Fault> {
    let Some(raw) = raw else {
        let reason = "the link is missing, and a circuit is two links (its SLA is void with one)";
        let remedy = "add { local = INTERFACE }, or { box = NAME } if it ends on the other edge box";
        return Err(Fault::new(circuit_at.clone(), key, reason, remedy));
    };
    match (&raw.get_ref().local, &raw.get_ref().r#box) {
        (Some(interface), None) => Ok(Link::Local { interface: interface_name(interface, key)? }),
        (None, Some(name)) => Ok(Link::Box { name: name.get_ref().clone() }),
        _ => {
            let reason = "a link ends in exactly one place";
            Err(Fault::new(raw.span(), key, reason, "write either { local = INTERFACE } or { box = NAME }"))
        }
    }
}

/// Linux allows 1 to 15 bytes without `/` and white space; a longer name could never exist.
fn interface_name(raw: &Spanned<String>, key: &str) -> Result<String, Fault> {
    let name = raw.get_ref();
    if name.is_empty() || name.len() > 15 || name.contains(|c: char| c == '/' || c.is_whitespace()) {
        let reason = format!("`{name}` cannot be the name of a Linux interface");
        return Err(Fault::new(
            raw.span(),
            key,
            reason,
            "use the name that `ip link` shows, of at most 15 bytes",
        ));
    }
    Ok(name.clone())
}

fn peering(
    raw: &Spanned<RawPeering>,
    kind: PeeringKind,
    circuit: &Circuit,
    ours: Asn,
    ledger: &mut Ledger,
) -> Result<Peering, Fault> {
    let (at, raw) = (raw.span(), raw.get_ref());
    let name = format!("circuit.{}.{}", circuit.name, kind.as_str());
    let key = |suffix: &str| format!("{name}.{suffix}");
    let vlan = optional(raw.vlan.as_ref(), &key("vlan"), |number| VlanId::parse(*number))?;
    let tags = tags(circuit.s_vlan, vlan, &at, &key("vlan"))?;
    for link in [&circuit.primary, &circuit.secondary] {
        if let Link::Local { interface } = link {
            ledger.tags(interface, tags, raw.vlan.as_ref().map_or(at.clone(), Spanned::span), key("vlan"));
        }
    }
    let peer_asn =
        optional(raw.peer_asn.as_ref(), &key("peer-asn"), |number| asn(*number, AsnOf::Microsoft))?;
    if let (Some(asn), Some(raw)) = (peer_asn, &raw.peer_asn)
        && asn != MICROSOFT_ASN
    {
        let reason = format!("an MSEE is in AS12076, never in {asn}");
        ledger.warn(raw.span(), key("peer-asn"), reason, "leave it out unless the peer is a stand-in");
    }
    let ipv4 = optional_pair::<30>(raw.ipv4.as_ref(), &key("ipv4"))?;
    let ipv6 = optional_pair::<126>(raw.ipv6.as_ref(), &key("ipv6"))?;
    if ipv4.is_none() && ipv6.is_none() {
        let reason = "the peering has no subnet, so there is no session";
        return Err(Fault::new(at, key("ipv4"), reason, "add ipv4 (a /29), ipv6 (a /125) or both"));
    }
    let pairs = [(&raw.ipv4, ipv4), (&raw.ipv6, ipv6)];
    for (raw, pair) in pairs.iter().filter_map(|(raw, pair)| Some((raw.as_ref()?, pair.as_ref()?))) {
        note_pair(raw.span(), pair, kind, &name, ledger);
    }
    if kind == PeeringKind::Microsoft && is_private_asn(ours) {
        let reason = format!("our {ours} is private, and Microsoft strips private ASNs on this peering");
        ledger.warn(at, name.clone(), reason, "use a registered AS to be seen in paths");
    }
    Ok(Peering {
        vlan,
        peer_asn: peer_asn.unwrap_or(MICROSOFT_ASN),
        hold: hold_time(raw.hold.as_ref(), key("hold"), ledger)?,
        md5: optional(raw.md5.as_ref(), &key("md5"), |text| md5(text))?,
        passive: raw.passive,
        forced_tunnel: raw.forced_tunnel,
        ipv4,
        ipv6,
    })
}

/// Notes the subnets of both links, those of the other box as well: they are as much in use as ours.
fn note_pair(at: Range<usize>, pair: &LinkPair, kind: PeeringKind, name: &str, ledger: &mut Ledger) {
    for (role, link) in [(LinkRole::Primary, pair.primary), (LinkRole::Secondary, pair.secondary)] {
        ledger.subnet(link.subnet, at.clone(), format!("{name} ({})", role.as_str()));
        if kind == PeeringKind::Microsoft && crate::rib::bogons::is_bogon(link.subnet) {
            let reason =
                format!("{} is not public, and Microsoft peering is set up on public addresses", link.subnet);
            ledger.warn(
                at.clone(),
                name.to_owned(),
                reason,
                "use addresses registered to you or to your provider",
            );
        }
    }
}

fn tags(s: Option<VlanId>, c: Option<VlanId>, at: &Range<usize>, key: &str) -> Result<Tags, Fault> {
    match (s, c) {
        (None, None) => Ok(Tags::Untagged),
        (None, Some(c)) => Ok(Tags::Single(c)),
        (Some(s), Some(c)) => Ok(Tags::Double { s, c }),
        (Some(s), None) => {
            let reason = format!("there is an S-tag ({}) and no C-tag", s.as_u16());
            Err(Fault::new(
                at.clone(),
                key,
                reason,
                "add vlan, or use vlan instead of s-vlan if there is one tag",
            ))
        }
    }
}

fn hold_time(raw: Option<&Spanned<i64>>, key: String, ledger: &mut Ledger) -> Result<Seconds, Fault> {
    let Some(raw) = raw else { return Ok(DEFAULT_HOLD) };
    let seconds = value(raw, &key, |number| hold(*number))?;
    if seconds < HASTY_HOLD {
        let reason = format!("a hold time of {} s loses sessions whenever either side is busy", seconds.0);
        ledger.warn(raw.span(), key, reason, "use 10 or more");
    }
    Ok(seconds)
}

/// The kernel takes keys of up to 80 bytes (TCP_MD5SIG_MAXKEYLEN).
fn md5(text: &str) -> Result<String, Why> {
    if text.is_empty() || text.len() > 80 {
        let reason = format!("the key has {} bytes, and TCP MD5 takes 1 to 80", text.len());
        return Err((reason, "use a key of that length, or leave it out".to_owned()));
    }
    Ok(text.to_owned())
}

/// The two subnets of one family, each of `LENGTH` bits.
fn optional_pair<const LENGTH: u8>(
    raw: Option<&Spanned<OneOrTwo>>,
    key: &str,
) -> Result<Option<LinkPair>, Fault> {
    optional(raw, key, |given| {
        let (first, second) = match given {
            OneOrTwo::One(both) => halves(subnet(both, LENGTH - 1)?, LENGTH)?,
            OneOrTwo::Two([first, second]) => (subnet(first, LENGTH)?, subnet(second, LENGTH)?),
        };
        Ok(LinkPair { primary: link_addresses(first)?, secondary: link_addresses(second)? })
    })
}

/// A subnet of a given length, its host bits clear.
fn subnet(text: &str, length: u8) -> Result<IpNet, Why> {
    let net = prefix(text)?;
    let is_right_family = net.max_prefix_len() == if length < 32 { 32 } else { 128 };
    if !is_right_family {
        return Err((
            format!("{net} is of the other address family"),
            "put it under ipv4 or ipv6".to_owned(),
        ));
    }
    if net.prefix_len() != length {
        let reason = format!("{net} is not a /{length}");
        let (one, two) = if length < 32 { (29, 30) } else { (125, 126) };
        return Err((reason, format!("give one /{one} (first half primary), or two /{two} in a list")));
    }
    if net != net.trunc() {
        return Err((format!("{net} has host bits set"), format!("write {}", net.trunc())));
    }
    Ok(net)
}

fn prefix(text: &str) -> Result<IpNet, Why> {
    text.parse().map_err(|_| {
        let remedy = "write an address and a length, such as \"198.18.0.0/29\"".to_owned();
        (format!("`{text}` is not an IP prefix"), remedy)
    })
}

fn halves(both: IpNet, length: u8) -> Result<(IpNet, IpNet), Why> {
    let mut halves = both.subnets(length).map_err(|_| too_small(both))?;
    Ok((halves.next().ok_or_else(|| too_small(both))?, halves.next().ok_or_else(|| too_small(both))?))
}

fn link_addresses(subnet: IpNet) -> Result<LinkAddresses, Why> {
    // `hosts` leaves out IPv4's network address but not IPv6's subnet-router anycast address (RFC 4291 section 2.6.1).
    let anycast = usize::from(subnet.addr().is_ipv6());
    let mut hosts = subnet.hosts().skip(anycast);
    let ours = hosts.next().ok_or_else(|| too_small(subnet))?;
    let theirs = hosts.next().ok_or_else(|| too_small(subnet))?;
    Ok(LinkAddresses { subnet, ours, theirs })
}

fn too_small(subnet: IpNet) -> Why {
    (format!("{subnet} has no room for two routers"), "use a larger subnet".to_owned())
}

/// `circuit/peering` for each routing domain, at the index of its identifier.
fn peering_names(circuits: &[Circuit]) -> Vec<String> {
    super::plan::domains_of(circuits)
        .map(|(circuit, kind)| format!("{}/{}", circuit.name, kind.as_str()))
        .collect()
}

fn attachment(
    raw: &RawAttachment,
    names: &[String],
    ours: Asn,
    ledger: &mut Ledger,
) -> Result<CeAttachment, Fault> {
    let interface = interface_name(&raw.interface, "attachment.interface")?;
    let at = raw.interface.span();
    let key = |suffix: &str| format!("attachment.{interface}.{suffix}");
    let vlan = optional(raw.vlan.as_ref(), &key("vlan"), |number| VlanId::parse(*number))?;
    let s_vlan = optional(raw.s_vlan.as_ref(), &key("s-vlan"), |number| VlanId::parse(*number))?;
    let tags = tags(s_vlan, vlan, &at, &key("vlan"))?;
    ledger.tags(&interface, tags, at.clone(), key("interface"));
    let domains = domain_ids(&raw.peerings, names, &key("peerings"))?;
    let mut addresses = Vec::new();
    for (raw, name, is_ipv4) in [(&raw.ipv4, "ipv4", true), (&raw.ipv6, "ipv6", false)] {
        let Some(raw) = raw else { continue };
        let net = value(raw, &key(name), |text| interface_address(text, is_ipv4))?;
        ledger.subnet(net.trunc(), raw.span(), key(name));
        addresses.push(net);
    }
    if addresses.is_empty() {
        let reason = "the attachment has no address, so nothing can be routed through it";
        return Err(Fault::new(at, key("ipv4"), reason, "add ipv4, ipv6 or both"));
    }
    let mut peers: Vec<CePeer> = Vec::new();
    for table in &raw.peers {
        let peer = ce_peer(table.get_ref(), &addresses, ours, &key("peers"), ledger)?;
        if peers.iter().any(|earlier| earlier.address == peer.address) {
            let reason = format!("{} is listed twice", peer.address);
            return Err(Fault::new(
                table.get_ref().address.span(),
                key("peers.address"),
                reason,
                "remove one",
            ));
        }
        peers.push(peer);
    }
    Ok(CeAttachment { interface, tags, domains, addresses, peers })
}

fn domain_ids(
    raw: &Spanned<Vec<Spanned<String>>>,
    names: &[String],
    key: &str,
) -> Result<Vec<DomainId>, Fault> {
    let mut ids = Vec::new();
    for wanted in raw.get_ref() {
        let index = names.iter().position(|name| name == wanted.get_ref());
        let id = index.and_then(|index| u16::try_from(index).ok()).map(DomainId).ok_or_else(|| {
            let reason = format!("there is no peering `{}`", wanted.get_ref());
            Fault::new(wanted.span(), key, reason, format!("use one of: {}", names.join(", ")))
        })?;
        if ids.contains(&id) {
            let reason = format!("`{}` is listed twice", wanted.get_ref());
            return Err(Fault::new(wanted.span(), key, reason, "remove one"));
        }
        ids.push(id);
    }
    if ids.is_empty() {
        let reason = "the attachment may use no peering, so it would reach nothing";
        return Err(Fault::new(
            raw.span(),
            key,
            reason,
            format!("list at least one of: {}", names.join(", ")),
        ));
    }
    Ok(ids)
}

/// Our own address on an interface, with the length of its subnet.
fn interface_address(text: &str, is_ipv4: bool) -> Result<IpNet, Why> {
    let net = prefix(text)?;
    if net.addr().is_ipv4() != is_ipv4 {
        return Err((
            format!("{net} is of the other address family"),
            "put it under ipv4 or ipv6".to_owned(),
        ));
    }
    if net.prefix_len() == net.max_prefix_len() {
        return Err((format!("{net} has no room for a neighbour"), "use a shorter prefix".to_owned()));
    }
    // A subnet of two addresses has no network or broadcast address (RFC 3021; RFC 6164 for IPv6).
    let is_pair = net.prefix_len() + 1 == net.max_prefix_len();
    let is_reserved = net.addr() == net.network() || (is_ipv4 && net.addr() == net.broadcast());
    if is_reserved && !is_pair {
        let example = net.hosts().nth(usize::from(!is_ipv4)).unwrap_or(net.addr());
        let reason = format!("{} is the subnet itself and not an address in it", net.addr());
        return Err((reason, format!("write our own address, such as {example}/{}", net.prefix_len())));
    }
    Ok(net)
}

fn ce_peer(
    raw: &RawPeer,
    addresses: &[IpNet],
    ours: Asn,
    key: &str,
    ledger: &mut Ledger,
) -> Result<CePeer, Fault> {
    let key = |suffix: &str| format!("{key}.{suffix}");
    let address = value(&raw.address, &key("address"), |text| {
        text.parse::<IpAddr>().map_err(|_| {
            (format!("`{text}` is not an IP address"), "write the peer's address without a length".to_owned())
        })
    })?;
    let local = value(&raw.address, &key("address"), |_| local_for(address, addresses))?;
    let peer_asn = value(&raw.asn, &key("asn"), |number| asn(*number, AsnOf::Customer))?;
    if peer_asn == ours {
        let reason = format!("{peer_asn} is our own AS, and customers' routers are external peers");
        return Err(Fault::new(raw.asn.span(), key("asn"), reason, "give the router an AS of its own"));
    }
    Ok(CePeer {
        address,
        local,
        asn: peer_asn,
        hold: hold_time(raw.hold.as_ref(), key("hold"), ledger)?,
        md5: optional(raw.md5.as_ref(), &key("md5"), |text| md5(text))?,
        passive: raw.passive,
        families: families(raw, address, addresses, &key("families"))?,
    })
}

/// Our address in the peer's subnet.
fn local_for(peer: IpAddr, addresses: &[IpNet]) -> Result<IpAddr, Why> {
    let subnets = || addresses.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" and ");
    let net = addresses.iter().find(|net| net.contains(&peer)).ok_or_else(|| {
        (format!("{peer} is in none of our subnets here ({})", subnets()), "correct one of them".to_owned())
    })?;
    if net.addr() == peer {
        return Err((format!("{peer} is our own address"), "write the peer's address".to_owned()));
    }
    let is_pair = net.prefix_len() + 1 == net.max_prefix_len();
    if !is_pair && (peer == net.network() || (peer.is_ipv4() && peer == net.broadcast())) {
        return Err((
            format!("{peer} is the network or broadcast address of {net}"),
            "write a host's".to_owned(),
        ));
    }
    Ok(net.addr())
}

/// The families of a session: those listed, or that of the peer's address.
fn families(raw: &RawPeer, peer: IpAddr, addresses: &[IpNet], key: &str) -> Result<Vec<Family>, Fault> {
    let Some(list) = raw.families.as_ref().filter(|list| !list.get_ref().is_empty()) else {
        return Ok(vec![if peer.is_ipv4() { Family::Ipv4Unicast } else { Family::Ipv6Unicast }]);
    };
    let mut families = Vec::new();
    for word in list.get_ref() {
        let family = value(word, key, |text| match text.as_str() {
            "ipv4" => Ok(Family::Ipv4Unicast),
            "ipv6" => Ok(Family::Ipv6Unicast),
            _ => Err((format!("`{text}` is not a family"), "use \"ipv4\" or \"ipv6\"".to_owned())),
        })?;
        let is_ours = |net: &IpNet| net.addr().is_ipv4() == (family == Family::Ipv4Unicast);
        if !addresses.iter().any(is_ours) {
            let reason =
                format!("we have no {} address here to be the next hop of its routes", word.get_ref());
            let remedy = format!("add {} to the attachment", word.get_ref());
            return Err(Fault::new(word.span(), key, reason, remedy));
        }
        if !families.contains(&family) {
            families.push(family);
        }
    }
    Ok(families)
}

fn router_id(
    raw: Option<&Spanned<String>>,
    circuits: &[Circuit],
    attachments: &[CeAttachment],
) -> Result<Ipv4Addr, Fault> {
    if let Some(raw) = raw {
        return value(raw, "router-id", |text| match text.parse::<Ipv4Addr>() {
            Ok(id) if !id.is_unspecified() => Ok(id),
            _ => Err((
                format!("`{text}` is not a BGP identifier (RFC 6286: four octets, not all zero)"),
                "write one of our IPv4 addresses, or leave it out to have the first one taken".to_owned(),
            )),
        });
    }
    let of_links = circuits.iter().flat_map(|circuit| {
        let kinds = PeeringKind::ALL.into_iter().filter_map(|kind| circuit.peering(kind));
        let local =
            LinkRole::ALL.into_iter().filter(|role| matches!(circuit.link(*role), Link::Local { .. }));
        kinds
            .flat_map(move |peering| local.clone().flat_map(|role| peering.addresses(role)))
            .map(|link| link.ours)
    });
    let of_attachments = attachments.iter().flat_map(|ce| ce.addresses.iter().map(IpNet::addr));
    let is_ipv4 = |address| if let IpAddr::V4(address) = address { Some(address) } else { None };
    of_links.chain(of_attachments).find_map(is_ipv4).ok_or_else(|| {
        let reason = "none of our addresses is IPv4, so there is none to be the BGP identifier";
        Fault::new(
            0..0,
            "router-id",
            reason,
            "add router-id = \"A.B.C.D\" at the top, unique among your routers",
        )
    })
}
