//! What each of Azure's commands answers, as far as ERDP has use for it. Field names are those of Microsoft's REST reference: expressRouteCircuits,
//! their peerings, expressRoutePorts, the tables of a circuit, its link failover tests and the resiliency of a gateway.
//!
//! A field that is missing is named in `missing`, and one whose word is unknown too: only what has another type is an error.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{ImportError, fields::Fields, view::Place};
use crate::config::{
    Billing, BitsPerSecond, LinkRole, PeeringKind, Provisioning, ServiceKey, Sku, Validation,
};

/// `az network express-route show`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    /// The file.
    pub file: String,
    /// Azure's name of it.
    pub name: Option<String>,
    /// Whether it is enabled in Azure.
    pub enabled: Option<bool>,
    /// How far its provider is.
    pub provisioning: Option<Provisioning>,
    /// The key that names it to its provider.
    pub service_key: Option<ServiceKey>,
    /// What was bought.
    pub bandwidth: Option<BitsPerSecond>,
    /// The pair of Direct ports that it is on; `None`: a provider's circuit.
    pub port: Option<String>,
    /// What was bought, again.
    pub sku: Option<Sku>,
    /// How its traffic is paid for.
    pub billing: Option<Billing>,
    /// Where it meets Microsoft.
    pub location: Option<String>,
    /// The outer tag of its frames on a port with QinQ.
    pub s_tag: Option<u16>,
    /// Its peerings.
    pub peerings: Vec<Peering>,
    /// What the answer does not say.
    pub missing: Vec<String>,
}

/// A peering of a circuit, in the circuit's answer or of `az network express-route peering list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// The circuit that its identifier names.
    pub circuit: Option<String>,
    /// Which peering.
    pub kind: PeeringKind,
    /// Whether Azure has it in use.
    pub enabled: bool,
    /// Our AS.
    pub asn: Option<u32>,
    /// Microsoft's AS.
    pub azure_asn: Option<u32>,
    /// The tag.
    pub vlan: Option<u16>,
    /// The IPv4 subnets of the primary and the secondary link.
    pub ipv4: [Option<IpNet>; 2],
    /// The IPv6 subnets.
    pub ipv6: [Option<IpNet>; 2],
    /// Whether its sessions have a key.
    pub has_key: bool,
    /// Public prefixes of ours, and how far Microsoft has validated them.
    pub prefixes: Vec<(IpNet, Option<Validation>)>,
    /// The route filter's name.
    pub route_filter: Option<String>,
    /// What the answer does not say.
    pub missing: Vec<String>,
}

impl Peering {
    /// The subnets of the links that it has, each with its link.
    pub fn subnets(&self) -> impl Iterator<Item = (LinkRole, IpNet)> {
        let pairs = [self.ipv4, self.ipv6].into_iter().flat_map(|pair| LinkRole::ALL.into_iter().zip(pair));
        pairs.filter_map(|(role, subnet)| Some((role, subnet?)))
    }
}

/// `az network express-route port show`: a pair of Direct ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Azure's name of it.
    pub name: String,
    /// Megabits a second of one port.
    pub mbps: Option<u64>,
    /// Whether circuits on it have two tags.
    pub is_qinq: Option<bool>,
    /// Where it is.
    pub location: Option<String>,
}

/// A table of one link of a peering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The file.
    pub file: String,
    /// The link that was named with the file.
    pub place: Option<Place>,
    /// Its rows.
    pub rows: Rows,
}

/// The rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// `az network express-route list-route-tables`.
    Routes(Vec<Route>),
    /// `az network express-route list-route-tables-summary`.
    Neighbours(Vec<Neighbour>),
    /// `az network express-route list-arp-tables`.
    Arp(Vec<Arp>),
}

impl Rows {
    /// The addresses by which the table is known to be of a link. Routes from the other MSEE have next hops on the other link, and a local
    /// preference; so those without one count twice.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Rows::Routes(rows) => {
                let own = rows.iter().filter(|row| row.is_from_neighbour);
                rows.iter().chain(own).filter_map(|row| row.next_hop).collect()
            }
            Rows::Neighbours(rows) => rows.iter().map(|row| row.address).collect(),
            Rows::Arp(rows) => rows.iter().map(|row| row.address).collect(),
        }
    }

    /// What it is, for messages.
    pub fn what(&self) -> &'static str {
        match self {
            Rows::Routes(_) => "route table",
            Rows::Neighbours(_) => "summary of a route table",
            Rows::Arp(_) => "ARP table",
        }
    }
}

/// A route of an MSEE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its destination.
    pub network: IpNet,
    /// Where it leads.
    pub next_hop: Option<IpAddr>,
    /// Whether it has no local preference, as what a neighbour of another AS announces.
    pub is_from_neighbour: bool,
    /// The AS numbers of its path.
    pub path: Vec<u32>,
}

/// A BGP neighbour of an MSEE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Option<u32>,
    /// The session's state; `Established` where Azure has the number of prefixes in its place.
    pub state: String,
    /// Prefixes received from it.
    pub prefixes: Option<u64>,
}

/// A row of an MSEE's ARP table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it is Microsoft's own.
    pub is_microsofts: bool,
    /// The address.
    pub address: IpAddr,
    /// `None`: the MSEE knows none.
    pub mac: Option<[u8; 6]>,
}

/// `az network express-route get-stats`: bytes by link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The circuit or peering that was named with the file.
    pub place: Option<Place>,
    /// From us, primary and secondary link.
    pub bytes_in: [Option<u64>; 2],
    /// To us.
    pub bytes_out: [Option<u64>; 2],
}

/// getCircuitLinkFailoverSingleTestDetails: a link that Azure has failed on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverTest {
    /// The circuit that was named with the file.
    pub place: Option<Place>,
    /// The link that failed.
    pub link: Option<LinkRole>,
    /// How far the test is.
    pub status: Option<String>,
    /// When it began.
    pub began: Option<String>,
    /// Whether it was carried out.
    pub succeeded: Option<bool>,
    /// Routes that no other link had.
    pub alone: Vec<IpNet>,
    /// Sessions that were not connected: link, family and state.
    pub down: Vec<String>,
}

/// getResiliencyInformation: Azure's own index of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resiliency {
    /// Points of a hundred.
    pub score: String,
    /// What Azure recommends, by its titles.
    pub recommendations: Vec<String>,
}

/// A word of Azure's, as ours; one that is missing or unknown is named.
fn word<T: Copy>(
    fields: &Fields<'_>,
    name: &str,
    words: &[(&str, T)],
    missing: &mut Vec<String>,
) -> Result<Option<T>, ImportError> {
    let Some(text) = fields.text(name)? else {
        missing.push(name.to_owned());
        return Ok(None);
    };
    let found = words.iter().find(|(azures, _)| azures.eq_ignore_ascii_case(&text)).map(|(_, ours)| *ours);
    if found.is_none() {
        missing.push(format!("{name} that is known ({text:?} is not)"));
    }
    Ok(found)
}

const STATES: [(&str, bool); 2] = [("Enabled", true), ("Disabled", false)];
const VALIDATION: [(&str, Validation); 4] = [
    ("NotConfigured", Validation::NotConfigured),
    ("Configuring", Validation::Configuring),
    ("Configured", Validation::Configured),
    ("ValidationNeeded", Validation::ValidationNeeded),
];

/// A circuit.
///
/// # Errors
/// When a field has another type than in Microsoft's reference.
pub fn circuit(fields: &Fields<'_>, file: &str, notes: &mut Vec<String>) -> Result<Circuit, ImportError> {
    let mut missing = Vec::new();
    let named = fields.text("name")?;
    let name = if named.is_some() { named } else { fields.named_in("id", "expressRouteCircuits")? };
    let provisioning = [
        ("NotProvisioned", Provisioning::NotProvisioned),
        ("Provisioning", Provisioning::Provisioning),
        ("Provisioned", Provisioning::Provisioned),
        ("Deprovisioning", Provisioning::NotProvisioned),
    ];
    let provider = fields.object("serviceProviderProperties", "serviceProviderProperties")?;
    let port = match fields.object("expressRoutePort", "expressRoutePort")? {
        Some(port) => port.named_in("id", "expressRoutePorts")?,
        None => None,
    };
    let bandwidth = bandwidth(fields, provider.as_ref())?;
    if bandwidth.is_none() {
        let name = if port.is_some() { "bandwidthInGbps" } else { "bandwidthInMbps" };
        missing.push(name.to_owned());
    }
    let location = provider.as_ref().map(|it| it.text("peeringLocation")).transpose()?.flatten();
    if location.is_none() && port.is_none() {
        missing.push("peeringLocation".to_owned());
    }
    let (tier, family) = sku(fields, &mut missing)?;
    let peerings = fields.objects("peerings", "a peering")?;
    let peerings = peerings.iter().map(|it| peering(it, file, notes)).collect::<Result<Vec<_>, _>>()?;
    Ok(Circuit {
        file: file.to_owned(),
        name,
        enabled: word(fields, "circuitProvisioningState", &STATES, &mut missing)?,
        provisioning: word(fields, "serviceProviderProvisioningState", &provisioning, &mut missing)?,
        service_key: fields.raw("serviceKey")?.and_then(ServiceKey::parse),
        bandwidth,
        port,
        sku: tier,
        billing: family,
        location,
        s_tag: fields.number::<u16>("stag")?.filter(|tag| *tag != 0),
        peerings: peerings.into_iter().flatten().collect(),
        missing,
    })
}

/// A provider's circuit has megabits, a Direct one gigabits.
fn bandwidth(
    fields: &Fields<'_>,
    provider: Option<&Fields<'_>>,
) -> Result<Option<BitsPerSecond>, ImportError> {
    let mbps = match provider {
        Some(provider) => provider.number::<u64>("bandwidthInMbps")?,
        None => fields.gbps("bandwidthInGbps")?,
    };
    let bits = mbps.filter(|mbps| *mbps > 0).and_then(|mbps| mbps.checked_mul(1_000_000));
    Ok(bits.map(BitsPerSecond))
}

fn sku(
    fields: &Fields<'_>,
    missing: &mut Vec<String>,
) -> Result<(Option<Sku>, Option<Billing>), ImportError> {
    let tiers = [("Standard", Sku::Standard), ("Premium", Sku::Premium), ("Local", Sku::Local)];
    let families = [("MeteredData", Billing::Metered), ("UnlimitedData", Billing::Unlimited)];
    let Some(sku) = fields.object("sku", "sku")? else {
        missing.push("sku".to_owned());
        return Ok((None, None));
    };
    Ok((word(&sku, "tier", &tiers, missing)?, word(&sku, "family", &families, missing)?))
}

/// A peering; `None`: one that ERDP has no use for, which is noted.
///
/// # Errors
/// When a field has another type than in Microsoft's reference.
pub fn peering(
    fields: &Fields<'_>,
    file: &str,
    notes: &mut Vec<String>,
) -> Result<Option<Peering>, ImportError> {
    let kind = match fields.text("peeringType")?.or(fields.text("name")?) {
        Some(it) if it.eq_ignore_ascii_case("AzurePrivatePeering") => PeeringKind::Private,
        Some(it) if it.eq_ignore_ascii_case("MicrosoftPeering") => PeeringKind::Microsoft,
        Some(it) if it.eq_ignore_ascii_case("AzurePublicPeering") => {
            notes.push(format!("{file}: public peering is retired and left out (C1)"));
            return Ok(None);
        }
        Some(it) => {
            notes.push(format!("{file}: a peering of the unknown type {it:?} is left out"));
            return Ok(None);
        }
        None => return fields.needed("peeringType", None),
    };
    let mut missing = Vec::new();
    let asn = fields.number::<u32>("peerASN")?;
    let vlan = fields.number::<u16>("vlanId")?;
    for (name, is_missing) in [("peerASN", asn.is_none()), ("vlanId", vlan.is_none())] {
        if is_missing {
            missing.push(name.to_owned());
        }
    }
    let ipv4 = pair(fields, true)?;
    let sixth = fields.object("ipv6PeeringConfig", "ipv6PeeringConfig")?;
    let ipv6 = match &sixth {
        Some(it) if is_enabled(it)? => pair(it, false)?,
        _ => [None, None],
    };
    let mut prefixes = Vec::new();
    for fields in [Some(*fields), sixth].into_iter().flatten() {
        if let Some(microsoft) = fields.object("microsoftPeeringConfig", "microsoftPeeringConfig")? {
            prefixes.extend(public_prefixes(&microsoft, &mut missing)?);
        }
    }
    let filter = fields.object("routeFilter", "routeFilter")?;
    Ok(Some(Peering {
        circuit: fields.named_in("id", "expressRouteCircuits")?,
        kind,
        enabled: is_enabled(fields)?,
        asn,
        azure_asn: fields.number("azureASN")?,
        vlan: vlan.filter(|vlan| *vlan != 0),
        ipv4,
        ipv6,
        // Not kept: only that there is one.
        has_key: fields.raw("sharedKey")?.is_some(),
        prefixes,
        route_filter: filter.map(|it| it.named_in("id", "routeFilters")).transpose()?.flatten(),
        missing,
    }))
}

/// Without a state it is as good as enabled.
fn is_enabled(fields: &Fields<'_>) -> Result<bool, ImportError> {
    Ok(!fields.raw("state")?.is_some_and(|state| state.eq_ignore_ascii_case("Disabled")))
}

/// The subnets of both links, of one family.
fn pair(fields: &Fields<'_>, is_ipv4: bool) -> Result<[Option<IpNet>; 2], ImportError> {
    let of = |name: &str| match fields.prefix(name)? {
        Some(subnet) if subnet.addr().is_ipv4() != is_ipv4 => {
            Err(fields.wrong(name, "a prefix of its family"))
        }
        subnet => Ok(subnet),
    };
    Ok([of("primaryPeerAddressPrefix")?, of("secondaryPeerAddressPrefix")?])
}

/// The public prefixes of a configuration of Microsoft peering: each with a state of its own, or all with one.
fn public_prefixes(
    fields: &Fields<'_>,
    missing: &mut Vec<String>,
) -> Result<Vec<(IpNet, Option<Validation>)>, ImportError> {
    let listed = fields.prefixes("advertisedPublicPrefixes")?;
    let of_all = match listed.is_empty() {
        true => None,
        false => word(fields, "advertisedPublicPrefixesState", &VALIDATION, missing)?,
    };
    let mut own = Vec::new();
    for it in fields.objects("advertisedPublicPrefixInfo", "advertisedPublicPrefixInfo")? {
        if let Some(prefix) = it.prefix("prefix")? {
            own.push((prefix, word(&it, "validationState", &VALIDATION, missing)?));
        }
    }
    let state = |prefix: &IpNet| own.iter().find(|(it, _)| it == prefix).and_then(|(_, state)| *state);
    Ok(listed.into_iter().map(|prefix| (prefix, state(&prefix).or(of_all))).collect())
}

/// A pair of Direct ports.
///
/// # Errors
/// When a field has another type than in Microsoft's reference.
pub fn port(fields: &Fields<'_>) -> Result<Port, ImportError> {
    let encapsulation = fields.text("encapsulation")?;
    let named = fields.text("name")?;
    let name = if named.is_some() { named } else { fields.named_in("id", "expressRoutePorts")? };
    Ok(Port {
        name: fields.needed("name", name)?,
        mbps: fields.gbps("bandwidthInGbps")?,
        is_qinq: encapsulation.map(|it| it.eq_ignore_ascii_case("QinQ")),
        location: fields.text("peeringLocation")?,
    })
}

/// A route.
///
/// # Errors
/// When a field is missing or has another type than in Microsoft's reference.
pub fn route(fields: &Fields<'_>) -> Result<Route, ImportError> {
    let path = fields.raw("path")?.unwrap_or_default();
    Ok(Route {
        network: fields.needed("network", fields.prefix("network")?)?,
        // Some of the MSEE's own routes have a word in its place.
        next_hop: fields.raw("nextHop")?.and_then(|text| text.parse().ok()),
        is_from_neighbour: fields.raw("locPrf")?.is_none(),
        path: path.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
    })
}

/// A neighbour.
///
/// # Errors
/// When a field is missing or has another type than in Microsoft's reference.
pub fn neighbour(fields: &Fields<'_>) -> Result<Neighbour, ImportError> {
    let state = fields.text("statePfxRcd")?.unwrap_or_else(|| "unknown".to_owned());
    let prefixes = state.parse().ok();
    let asn = fields.number("as")?;
    Ok(Neighbour {
        address: fields.needed("neighbor", fields.address("neighbor")?)?,
        // Older versions of the command line: `as` is a word of Python's.
        asn: if asn.is_some() { asn } else { fields.number("asProperty")? },
        state: if prefixes.is_some() { "Established".to_owned() } else { state },
        prefixes,
    })
}

/// A row of an ARP table.
///
/// # Errors
/// When a field is missing or has another type than in Microsoft's reference.
pub fn arp(fields: &Fields<'_>) -> Result<Arp, ImportError> {
    let named = fields.text("interface")?;
    let interface = if named.is_some() { named } else { fields.text("interfaceProperty")? };
    let interface = fields.needed("interface", interface)?;
    let mac = match fields.raw("macAddress")? {
        None => None,
        Some(text) if text.eq_ignore_ascii_case("incomplete") => None,
        Some(text) => Some(mac(text).ok_or_else(|| fields.wrong("macAddress", "a MAC address"))?),
    };
    Ok(Arp {
        is_microsofts: interface.eq_ignore_ascii_case("Microsoft"),
        address: fields.needed("ipAddress", fields.address("ipAddress")?)?,
        mac,
    })
}

/// A MAC address in any of the ways in which it is written: `0011.2233.4455`, `00:11:22:33:44:55`, `00-11-22-33-44-55`.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let digits: String = text.chars().filter(|c| !matches!(c, '.' | ':' | '-')).collect();
    if digits.len() != 12 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let mut mac = [0; 6];
    for (at, octet) in mac.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(mac)
}

/// Bytes by link.
///
/// # Errors
/// When a field has another type than in Microsoft's reference.
pub fn stats(fields: &Fields<'_>, place: Option<Place>) -> Result<Stats, ImportError> {
    Ok(Stats {
        place,
        bytes_in: [fields.number("primarybytesIn")?, fields.number("secondarybytesIn")?],
        bytes_out: [fields.number("primarybytesOut")?, fields.number("secondarybytesOut")?],
    })
}

/// A test of a link's failure.
///
/// # Errors
/// When a field has another type than in Microsoft's reference.
pub fn failover_test(fields: &Fields<'_>, place: Option<Place>) -> Result<FailoverTest, ImportError> {
    let link = fields.text("linkType")?;
    let role = |name: &str| LinkRole::ALL.into_iter().find(|role| role.as_str().eq_ignore_ascii_case(name));
    let mut alone = Vec::new();
    if let Some(routes) = fields.object("nonRedundantRoutes", "nonRedundantRoutes")? {
        for time in ["beforeSimulation", "duringSimulation"] {
            for it in routes.objects(time, "a route")? {
                alone.extend(it.prefix("route")?);
            }
        }
    }
    alone.sort();
    alone.dedup();
    let mut down = Vec::new();
    for it in fields.objects("bgpStatus", "bgpStatus")? {
        let status = it.text("status")?.unwrap_or_default();
        // What fails is down while it fails.
        let failed = it.text("link")?;
        let is_meant = failed.is_some() && failed == link;
        if !status.eq_ignore_ascii_case("Connected") && !is_meant {
            let family = it.text("type")?.unwrap_or_default();
            down.push(format!("{family} {} {status}", failed.unwrap_or_default()));
        }
    }
    Ok(FailoverTest {
        place,
        link: link.as_deref().and_then(role),
        status: fields.text("status")?,
        began: fields.text("startTimeUtc")?,
        succeeded: fields.flag("wasSimulationSuccessful")?,
        alone,
        down,
    })
}

/// Azure's index of a gateway.
///
/// # Errors
/// When a field is missing or has another type than in Microsoft's reference.
pub fn resiliency(fields: &Fields<'_>) -> Result<Resiliency, ImportError> {
    let mut recommendations = Vec::new();
    for component in fields.objects("components", "a component")? {
        for it in component.objects("recommendations", "a recommendation")? {
            recommendations.extend(it.text("recommendationTitle")?);
        }
    }
    Ok(Resiliency { score: fields.needed("overallScore", fields.text("overallScore")?)?, recommendations })
}
