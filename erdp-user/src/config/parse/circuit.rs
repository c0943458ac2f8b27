//! A `[[circuit]]` table and the peerings in it.

use std::ops::Range;

use erdp_common::policer::BurstPolicy;
use toml::Spanned;

use super::super::cross::Ledger;
use super::super::error::Fault;
use super::super::plan::LinkRole;
use super::super::raw::{RawCircuit, RawLink, RawPeering};
use super::super::values::{AsnOf, BitsPerSecond, VlanId, Why, asn, is_private_asn, plain_name};
use super::super::{
    Circuit, CircuitKind, Limits, Link, LinkPair, MICROSOFT_ASN, Peering, PeeringKind, Provisioning, Sku,
    WhenFull,
};
use super::bfd::bfd;
use super::inventory::inventory;
use super::session::{Keys, ROUTERS_OF_A_CIRCUIT, limit, options};
use super::subnet::optional_pair;
use super::{hold_time, interface_name, optional, secret, tags, value, word};
use crate::azure::{bandwidths::unsold, prefixes};
use crate::bgp::{Asn, Community, RawAttribute};
use crate::rib::communities;

/// One second at the bandwidth (requirement A2).
const DEFAULT_CREDIT_MS: u64 = 1_000;

pub(super) fn circuit(
    raw: &RawCircuit,
    at: Range<usize>,
    ours: Asn,
    ledger: &mut Ledger,
) -> Result<Circuit, Fault> {
    // Half of `circuit/peering` and a label of metrics.
    let name = value(&raw.name, "circuit.name", |text| plain_name(text))?;
    let key = |suffix: &str| format!("circuit.{name}.{suffix}");
    if let Some(public) = &raw.public {
        let reason = "public peering was retired by Microsoft (2024-03-31)";
        let remedy = "use [circuit.microsoft], which took over its services";
        return Err(Fault::new(public.span(), key("public"), reason, remedy));
    }
    let [primary, secondary] = links(raw, at, &key)?;
    let kind = optional(raw.kind.as_ref(), &key("kind"), |text| kind(text))?;
    let sku = optional(raw.sku.as_ref(), &key("sku"), |text| sku(text))?.unwrap_or_default();
    let mut circuit = Circuit {
        name: name.clone(),
        bandwidth: bandwidth(&raw.bandwidth, key("bandwidth"), kind, sku, ledger)?,
        kind,
        sku,
        s_vlan: optional(raw.s_vlan.as_ref(), &key("s-vlan"), |number| VlanId::parse(*number))?,
        enabled: word(raw.admin.as_ref(), &key("admin"), ["enabled", "disabled"])?,
        provisioning: optional(raw.provisioning.as_ref(), &key("provisioning"), |text| provisioning(text))?
            .unwrap_or_default(),
        hairpin: !word(raw.hairpin.as_ref(), &key("hairpin"), ["deny", "allow"])?,
        burst: optional(raw.burst.as_ref(), &key("burst"), |text| burst(text))?.unwrap_or_default(),
        credit_ms: optional(raw.credit_ms.as_ref(), &key("credit-ms"), |millis| credit(*millis))?
            .unwrap_or(DEFAULT_CREDIT_MS),
        counts_wire_bytes: !word(raw.count.as_ref(), &key("count"), ["ip", "wire"])?,
        ecn: raw.ecn,
        minimum_links: optional(raw.minimum_links.as_ref(), &key("minimum-links"), |links| minimum(*links))?
            .unwrap_or(1),
        primary,
        secondary,
        private: None,
        microsoft: None,
        inventory: inventory(raw.inventory.as_ref(), &key)?,
    };
    let mut peering = |kind, raw: &Option<_>| {
        raw.as_ref().map(|raw| peering(raw, kind, &circuit, ours, ledger)).transpose()
    };
    let private = peering(PeeringKind::Private, &raw.private)?;
    let microsoft = peering(PeeringKind::Microsoft, &raw.microsoft)?;
    if private.is_none() && microsoft.is_none() {
        let reason = "the circuit has no peering, so it carries nothing";
        let remedy = "add [circuit.private] or [circuit.microsoft]";
        return Err(Fault::new(raw.name.span(), key("private"), reason, remedy));
    }
    (circuit.private, circuit.microsoft) = (private, microsoft);
    Ok(circuit)
}

fn bandwidth(
    raw: &Spanned<String>,
    key: String,
    kind: Option<CircuitKind>,
    sku: Sku,
    ledger: &mut Ledger,
) -> Result<BitsPerSecond, Fault> {
    let bandwidth = value(raw, &key, |text| BitsPerSecond::parse(text))?;
    if let Some((reason, remedy)) = unsold(bandwidth, kind, sku) {
        ledger.warn(raw.span(), key, reason, &remedy);
    }
    Ok(bandwidth)
}

fn kind(text: &str) -> Result<CircuitKind, Why> {
    CircuitKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
        (
            format!("`{text}` is not a kind of circuit"),
            "use \"provider\", \"direct-10g\" or \"direct-100g\"".to_owned(),
        )
    })
}

/// The two links, at least one of them here.
fn links(raw: &RawCircuit, at: Range<usize>, key: &dyn Fn(&str) -> String) -> Result<[Link; 2], Fault> {
    let primary = link(raw.primary.as_ref(), &at, &key("primary"))?;
    let secondary = link(raw.secondary.as_ref(), &at, &key("secondary"))?;
    if let (Link::Box { .. }, Link::Box { .. }) = (&primary, &secondary) {
        let at = raw.secondary.as_ref().map_or(at, Spanned::span);
        let reason = "both links end on another box, so this box has no part in the circuit";
        return Err(Fault::new(at, key("secondary"), reason, "make one of them { local = INTERFACE }"));
    }
    Ok([primary, secondary])
}

fn sku(text: &str) -> Result<Sku, Why> {
    Sku::ALL.into_iter().find(|sku| sku.as_str() == text).ok_or_else(|| {
        (format!("`{text}` is not a SKU"), "use \"standard\", \"premium\" or \"local\"".to_owned())
    })
}

fn provisioning(text: &str) -> Result<Provisioning, Why> {
    match text {
        "not-provisioned" => Ok(Provisioning::NotProvisioned),
        "provisioning" => Ok(Provisioning::Provisioning),
        "provisioned" => Ok(Provisioning::Provisioned),
        _ => Err((
            format!("`{text}` is not a provisioning state"),
            "use \"not-provisioned\", \"provisioning\" or \"provisioned\", as Azure shows it".to_owned(),
        )),
    }
}

/// The words for them.
pub(in crate::config) const BURST_POLICIES: [(&str, BurstPolicy); 3] = [
    ("peak-2x", BurstPolicy::Peak2x),
    ("dual-link", BurstPolicy::DualLink),
    ("headroom-20", BurstPolicy::Headroom20),
];

pub(in crate::config) fn burst(text: &str) -> Result<BurstPolicy, Why> {
    BURST_POLICIES.iter().find(|(name, _)| *name == text).map(|(_, policy)| *policy).ok_or_else(|| {
        (
            format!("`{text}` is not a burst policy"),
            "use \"peak-2x\", \"dual-link\" or \"headroom-20\"".to_owned(),
        )
    })
}

/// The policer's clock may be a tick old, and its words hold at most 64 s.
pub(in crate::config) fn credit(millis: i64) -> Result<u64, Why> {
    u64::try_from(millis).ok().filter(|millis| (20..=30_000).contains(millis)).ok_or_else(|| {
        (format!("{millis} ms is not between 20 and 30000"), "use 1000, the default, if in doubt".to_owned())
    })
}

/// A circuit has two links, and with none of them there is nothing to rank.
fn minimum(links: i64) -> Result<u8, Why> {
    match links {
        1 => Ok(1),
        2 => Ok(2),
        _ => Err((format!("{links} is not a number of a circuit's two links"), "use 1 or 2".to_owned())),
    }
}

fn link(raw: Option<&Spanned<RawLink>>, circuit_at: &Range<usize>, key: &str) -> Result<Link, Fault> {
    let Some(raw) = raw else {
        let reason = "the link is missing, and a circuit is two links (its SLA is void with one)";
        let remedy = "add { local = INTERFACE }, or { box = NAME } if it ends on the other edge box";
        return Err(Fault::new(circuit_at.clone(), key, reason, remedy));
    };
    let required = raw.get_ref().required;
    match (&raw.get_ref().local, &raw.get_ref().r#box) {
        (Some(interface), None) => Ok(Link::Local { interface: interface_name(interface, key)?, required }),
        (None, Some(_)) if required => {
            let reason = "the link ends on the other box, and only that one has its interface";
            Err(Fault::new(raw.span(), key, reason, "write required = true there, on its own link"))
        }
        (None, Some(name)) => Ok(Link::Box { name: name.get_ref().clone() }),
        _ => {
            let reason = "a link ends in exactly one place";
            Err(Fault::new(raw.span(), key, reason, "write either { local = INTERFACE } or { box = NAME }"))
        }
    }
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
        if let Link::Local { interface, .. } = link {
            ledger.tags(interface, tags, raw.vlan.as_ref().map_or(at.clone(), Spanned::span), key("vlan"));
        }
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
        ledger.warn(at.clone(), name.clone(), reason, "use a registered AS to be seen in paths");
    }
    if raw.forced_tunnel {
        let reason = "a default route from the customer takes all of Azure's traffic over the circuit, also to what is not reachable \
                      there: content delivery, DNS, certificate lists, KMS activation (D7)";
        let remedy = "see that the customer's side forwards those to the Internet and the answers back";
        ledger.warn(at, key("forced-tunnel"), reason.to_owned(), remedy);
    }
    let mut options = options(&session_keys(raw), &ROUTERS_OF_A_CIRCUIT, &key)?;
    options.policy_in = ledger.policy(raw.policy_in.as_ref(), &key("policy-in"), true)?;
    options.policy_out = ledger.policy(raw.policy_out.as_ref(), &key("policy-out"), false)?;
    Ok(Peering {
        vlan,
        checks_sources: word(raw.source_check.as_ref(), &key("source-check"), ["on", "off"])?,
        classify_ports: raw.classify_ports,
        peer_asn: peer_asn(raw.peer_asn.as_ref(), key("peer-asn"), ledger)?,
        hold: hold_time(raw.hold.as_ref(), key("hold"), ledger)?,
        md5: secret([raw.md5.as_ref(), raw.md5_file.as_ref()], &key, ledger)?,
        passive: raw.passive,
        options,
        limits: limits(raw, kind, circuit.sku, &key, ledger)?,
        forced_tunnel: raw.forced_tunnel,
        bfd: bfd(raw.bfd.as_ref(), &key, ledger)?,
        ipv4,
        ipv6,
    })
}

fn session_keys(raw: &RawPeering) -> Keys<'_> {
    Keys {
        gtsm: raw.gtsm,
        restart_time: raw.restart_time.as_ref(),
        role: raw.role.as_ref(),
        strict_role: raw.strict_role,
        add_path: raw.add_path,
        local_pref: raw.local_pref.as_ref(),
        prepend: raw.prepend.as_ref(),
        max_prefixes: raw.max_prefixes.as_ref(),
        max_prefixes_wait: raw.max_prefixes_wait.as_ref(),
        max_memory_mib: raw.max_memory_mib.as_ref(),
        when_too_many: raw.when_too_many.as_ref(),
    }
}

fn limits(
    raw: &RawPeering,
    kind: PeeringKind,
    sku: Sku,
    key: &dyn Fn(&str) -> String,
    ledger: &mut Ledger,
) -> Result<Limits, Fault> {
    if let (PeeringKind::Private, Some(filter)) = (kind, &raw.route_filter) {
        let reason = "route filters are for Microsoft peering, and private peering has none (D6)";
        return Err(Fault::new(filter.span(), key("route-filter"), reason, "move it to [circuit.microsoft]"));
    }
    let filter = raw.route_filter.iter().flat_map(|list| list.get_ref());
    let longest = |raw: &Option<Spanned<i64>>, name: &str, most: u8| -> Result<u8, Fault> {
        Ok(optional(raw.as_ref(), &key(name), |number| longest(*number, most))?.unwrap_or(most))
    };
    let [advertise_at_most, advertise_at_most_ipv4, advertise_at_most_ipv6] =
        advertise(raw, kind, sku, key, ledger)?;
    Ok(Limits {
        advertise_at_most,
        advertise_at_most_ipv4,
        advertise_at_most_ipv6,
        when_full: optional(raw.when_full.as_ref(), &key("when-full"), |text| when_full(text))?
            .unwrap_or_default(),
        route_filter: filter
            .map(|name| value(name, &key("route-filter"), |text| community(text)))
            .collect::<Result<_, _>>()?,
        pass_attributes: raw
            .pass_attributes
            .iter()
            .flat_map(|list| list.get_ref())
            .map(|code| value(code, &key("pass-attributes"), |number| passed(*number)))
            .collect::<Result<_, _>>()?,
        longest_ipv4: longest(&raw.longest_ipv4, "longest-ipv4", 32)?,
        longest_ipv6: longest(&raw.longest_ipv6, "longest-ipv6", 128)?,
    })
}

/// The keys of both families, of IPv4 and of IPv6. Microsoft's limits are ceilings: above one the MSEE drops the session (requirement D1).
fn advertise(
    raw: &RawPeering,
    kind: PeeringKind,
    sku: Sku,
    key: &dyn Fn(&str) -> String,
    ledger: &mut Ledger,
) -> Result<[Option<u32>; 3], Fault> {
    let [ceiling4, ceiling6] = prefixes::ceilings(kind, sku);
    let at_most = |raw: Option<&Spanned<i64>>, name: &str, ceiling, family| {
        optional(raw, &key(name), |number| at_most(*number, ceiling, family, kind, sku))
    };
    let both = at_most(raw.advertise_at_most.as_ref(), "advertise-at-most", ceiling4, "IPv4")?;
    if let (Some(most), Some(raw), None, Some(_)) =
        (both, &raw.advertise_at_most, &raw.advertise_at_most_ipv6, &raw.ipv6)
        && most > ceiling6
    {
        let reason = format!(
            "{most} is above the {ceiling6} IPv6 prefixes that Microsoft accepts on {} peering; IPv6 stays at {ceiling6} (D1)",
            kind.as_str()
        );
        let remedy = "give each family its own limit: advertise-at-most-ipv4 and advertise-at-most-ipv6";
        ledger.warn(raw.span(), key("advertise-at-most"), reason, remedy);
    }
    Ok([
        both,
        at_most(raw.advertise_at_most_ipv4.as_ref(), "advertise-at-most-ipv4", ceiling4, "IPv4")?,
        at_most(raw.advertise_at_most_ipv6.as_ref(), "advertise-at-most-ipv6", ceiling6, "IPv6")?,
    ])
}

fn at_most(number: i64, ceiling: u32, family: &str, kind: PeeringKind, sku: Sku) -> Result<u32, Why> {
    let most = limit(number)?;
    if most <= ceiling {
        return Ok(most);
    }
    let reason = format!(
        "{most} is above the {ceiling} {family} prefixes that Microsoft accepts on {} peering of a {} circuit, and above \
         that the MSEE drops the session (D1)",
        kind.as_str(),
        sku.as_str()
    );
    Err((reason, format!("write at most {ceiling}, or leave it out for {ceiling}")))
}

fn when_full(text: &str) -> Result<WhenFull, Why> {
    match text {
        "hold-back" => Ok(WhenFull::HoldBack),
        "aggregate" => Ok(WhenFull::Aggregate),
        _ => Err((
            format!("`{text}` is no way to keep below a limit"),
            "use \"hold-back\" or \"aggregate\"".into(),
        )),
    }
}

/// A name of the dated table, or two numbers (requirements D6, E4).
pub(super) fn community(text: &str) -> Result<Community, Why> {
    communities::community(text).ok_or_else(|| {
        (
            format!("`{text}` is neither a community of Microsoft's that is known here nor two numbers"),
            "write a region or service as Microsoft does (\"West Europe\", \"Exchange Online\"), or \"12076:51002\"".into(),
        )
    })
}

/// The type code of an attribute that ERDP does not read.
fn passed(number: i64) -> Result<u8, Why> {
    let remedy = || "write type codes such as 26 or 40, as IANA has them".to_owned();
    let code = u8::try_from(number).ok().filter(|code| *code > 0);
    let code = code.ok_or_else(|| (format!("{number} is not between 1 and 255"), remedy()))?;
    if RawAttribute::is_read(code) {
        let reason = format!("attribute {code} is one that ERDP reads, and treats as its RFC says");
        return Err((reason, "leave it out: this key is for attributes that ERDP does not read".to_owned()));
    }
    Ok(code)
}

fn longest(number: i64, most: u8) -> Result<u8, Why> {
    u8::try_from(number).ok().filter(|length| (8..=most).contains(length)).ok_or_else(|| {
        (format!("/{number} is not between /8 and /{most}"), format!("leave it out for /{most} (D3)"))
    })
}

fn peer_asn(raw: Option<&Spanned<i64>>, key: String, ledger: &mut Ledger) -> Result<Asn, Fault> {
    let Some(raw) = raw else { return Ok(MICROSOFT_ASN) };
    let asn = value(raw, &key, |number| asn(*number, AsnOf::Microsoft))?;
    if asn != MICROSOFT_ASN {
        let reason = format!("an MSEE is in AS12076, never in {asn}");
        ledger.warn(raw.span(), key, reason, "leave it out unless the peer is a stand-in");
    }
    Ok(asn)
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
