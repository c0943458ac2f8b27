//! A configuration out of what Azure says: circuits with their peerings and inventory, an attachment for each kind of peering. What only the site
//! knows is an option with a default, or left out, and named above the configuration.

use std::{fmt::Write as _, path::Path};

use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

use super::{
    ImportError,
    answers::{Circuit, Peering},
    said::clean,
    view::{CircuitView, View},
};
use crate::config::{
    Billing, CircuitKind, Config, ConfigError, LinkRole, PeeringKind, Provisioning, Sku, Validation,
};

/// What Azure cannot know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Interfaces of links: circuit, link, interface.
    pub interfaces: Vec<(String, LinkRole, String)>,
    /// Attachments towards the customer.
    pub customers: Vec<Customer>,
}

/// An attachment towards the customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// The peerings that it may use.
    pub kind: PeeringKind,
    /// Its interface.
    pub interface: String,
    /// Our address with the subnet's length.
    pub address: IpNet,
}

/// A configuration, and what its reader has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// The file, with the notes as comments at its begin; `erdp config check` accepts it.
    pub toml: String,
    /// What is missing, left out or a placeholder, one sentence each.
    pub notes: Vec<String>,
}

#[derive(Serialize)]
struct File {
    asn: u32,
    circuit: Vec<CircuitTable>,
    attachment: Vec<AttachmentTable>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CircuitTable {
    name: String,
    bandwidth: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s_vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provisioning: Option<&'static str>,
    primary: LinkTable,
    secondary: LinkTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<PeeringTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    microsoft: Option<PeeringTable>,
    inventory: InventoryTable,
}

#[derive(Serialize)]
struct LinkTable {
    local: String,
}

#[derive(Serialize)]
struct PeeringTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv4: Option<[String; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<[String; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u16>,
    bfd: BfdTable,
}

#[derive(Serialize)]
struct BfdTable {}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct InventoryTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    public_prefixes: Vec<PrefixTable>,
}

#[derive(Serialize)]
struct PrefixTable {
    prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<&'static str>,
}

#[derive(Serialize)]
struct AttachmentTable {
    interface: String,
    peerings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv4: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<String>,
}

/// Makes a configuration of what was read, and checks it by the rules of the file.
///
/// # Errors
/// Names what is missing without which there is no configuration, or what the rules refuse.
pub fn propose(view: &View, options: &Options) -> Result<Proposal, ImportError> {
    if view.circuits.iter().all(|it| it.circuit.is_none()) {
        return Err(lacking("no file is a circuit; give what `az network express-route show` prints"));
    }
    let mut notes = Notes(view.others.notes.clone());
    let asn = our_asn(view)?;
    let mut circuits = Vec::new();
    for (at, it) in view.circuits.iter().enumerate() {
        circuits.push(circuit_table(view, it, at, options, &mut notes)?);
    }
    if let Some((circuit, ..)) =
        options.interfaces.iter().find(|(name, ..)| !circuits.iter().any(|it| it.name == *name))
    {
        return Err(ImportError::Lacking(format!(
            "no file is a circuit that would be called {}; there are: {}",
            clean(circuit),
            circuits.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
        )));
    }
    let attachment = attachments(view, &circuits, options, &mut notes);
    let tables = toml::to_string(&File { asn, circuit: circuits, attachment })
        .map_err(|error| ImportError::Lacking(error.to_string()))?;
    let toml = format!("{}{tables}", comments(&notes.0));
    match Config::parse(&toml, Path::new("proposal")) {
        Ok(_) => Ok(Proposal { toml, notes: notes.0 }),
        Err(ConfigError::Refused(it)) => Err(ImportError::Lacking(format!(
            "Azure's values make no configuration: {}: {}; {}",
            it.key, it.reason, it.remedy
        ))),
        Err(error) => Err(ImportError::Lacking(error.to_string())),
    }
}

struct Notes(Vec<String>);

impl Notes {
    fn add(&mut self, place: &str, text: impl AsRef<str>) {
        self.0.push(format!("{place}: {}", text.as_ref()));
    }
}

fn lacking(text: &str) -> ImportError {
    ImportError::Lacking(text.to_owned())
}

/// The notes above the configuration. A note is one line whatever is in it: [`clean`] escapes what would end a line.
fn comments(notes: &[String]) -> String {
    let mut text = String::from(
        "# `erdp import azure` has made this of Azure's answers; `erdp config check FILE` accepts it as it is.\n# Look at these before you use it:\n",
    );
    for note in notes {
        let line: String = note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(text, "# - {line}");
    }
    text + "\n"
}

/// One router has one AS; Azure has it in each peering.
fn our_asn(view: &View) -> Result<u32, ImportError> {
    let peerings = view.circuits.iter().flat_map(|it| &it.peerings).filter(|it| it.enabled);
    let mut all = peerings.filter_map(|it| it.asn);
    let first = all.next().ok_or_else(|| {
        lacking("no peering has a peerASN, which is our AS; give `az network express-route peering list` too")
    })?;
    match all.find(|other| *other != first) {
        None => Ok(first),
        Some(other) => Err(ImportError::Lacking(format!(
            "the peerings have different AS numbers of ours, {first} and {other}; import the circuits of one edge only"
        ))),
    }
}

fn circuit_table(
    view: &View,
    it: &CircuitView,
    at: usize,
    options: &Options,
    notes: &mut Notes,
) -> Result<CircuitTable, ImportError> {
    let name = plain(&it.name).unwrap_or_else(|| format!("circuit-{}", at + 1));
    let Some(circuit) = &it.circuit else {
        return Err(ImportError::Lacking(format!(
            "{name}: there are peerings of it, and no file is the circuit; give `az network express-route show` too"
        )));
    };
    if name != it.name {
        notes.add(&name, format!("Azure calls it {:?}", it.name));
    }
    for missing in &circuit.missing {
        notes.add(&name, format!("the answer has no {missing}"));
    }
    if let Some(key) = &circuit.service_key {
        notes.add(&name, format!("its service key {key} is left out: write service-key into the inventory"));
    }
    let bandwidth = circuit.bandwidth.ok_or_else(|| {
        ImportError::Lacking(format!(
            "{name}: neither bandwidthInMbps nor bandwidthInGbps says what its bandwidth is"
        ))
    })?;
    let [primary, secondary] = links(&name, at, options, notes);
    let private = peering_table(it, PeeringKind::Private, &name, notes);
    let microsoft = peering_table(it, PeeringKind::Microsoft, &name, notes);
    if private.is_none() && microsoft.is_none() {
        return Err(ImportError::Lacking(format!(
            "{name}: it has no enabled peering with subnets, so there is nothing to configure; set one up in Azure first"
        )));
    }
    notes.add(&name, "private-created and microsoft-created are unknown to Azure's answer: write when each peering was set up (B5)");
    Ok(CircuitTable {
        kind: kind(view, circuit, &name, notes).map(CircuitKind::as_str),
        bandwidth: bandwidth.to_string(),
        sku: circuit.sku.map(Sku::as_str),
        s_vlan: s_vlan(view, circuit, &name, notes),
        admin: circuit.enabled.map(|enabled| if enabled { "enabled" } else { "disabled" }),
        provisioning: circuit.provisioning.map(provisioning),
        primary,
        secondary,
        private,
        microsoft,
        inventory: inventory(view, it, circuit, &name, notes),
        name,
    })
}

/// What Azure calls it, in letters that a name here can have. What looks like a key only in these letters is masked as well.
pub fn plain(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let letters = |text: &str| text.chars().map(|c| if is_plain(c) { c } else { '-' }).collect::<String>();
    let name: String = letters(&clean(&letters(name))).chars().take(64).collect();
    (!name.is_empty()).then_some(name)
}

/// The word of the configuration.
pub fn provisioning(state: Provisioning) -> &'static str {
    match state {
        Provisioning::NotProvisioned => "not-provisioned",
        Provisioning::Provisioning => "provisioning",
        Provisioning::Provisioned => "provisioned",
    }
}

/// The word of the configuration.
pub fn billing(billing: Billing) -> &'static str {
    match billing {
        Billing::Metered => "metered",
        Billing::Unlimited => "unlimited",
    }
}

fn links(name: &str, at: usize, options: &Options, notes: &mut Notes) -> [LinkTable; 2] {
    LinkRole::ALL.map(|role| {
        let given = options.interfaces.iter().find(|(circuit, link, _)| circuit == name && *link == role);
        let local = given.map(|(.., interface)| interface.clone());
        let local = local.unwrap_or_else(|| {
            let number = at * 2 + if role == LinkRole::Primary { 1 } else { 2 };
            let interface = format!("msee{number}");
            notes.add(
                name,
                format!(
                    "{interface} stands for the interface of the {} link: --interface {name}/{}=NAME names it",
                    role.as_str(),
                    role.as_str()
                ),
            );
            interface
        });
        LinkTable { local }
    })
}

/// How the circuit reaches Microsoft, as far as the files say.
pub fn kind_of(view: &View, circuit: &Circuit) -> Option<CircuitKind> {
    let Some(port) = &circuit.port else { return Some(CircuitKind::Provider) };
    match view.port(port)?.mbps? {
        10_000 => Some(CircuitKind::Direct10G),
        100_000 => Some(CircuitKind::Direct100G),
        _ => None,
    }
}

fn kind(view: &View, circuit: &Circuit, name: &str, notes: &mut Notes) -> Option<CircuitKind> {
    let kind = kind_of(view, circuit);
    if kind.is_none() {
        notes.add(
            name,
            "no file is its Direct port of 10 or 100 Gb/s: give `az network express-route port show` too, or write kind",
        );
    }
    kind
}

fn s_vlan(view: &View, circuit: &Circuit, name: &str, notes: &mut Notes) -> Option<u16> {
    let port = view.port(circuit.port.as_ref()?)?;
    if port.is_qinq == Some(true) && circuit.s_tag.is_none() {
        notes.add(name, "its port has QinQ and the answer has no stag: write s-vlan");
    }
    circuit.s_tag.filter(|_| port.is_qinq == Some(true))
}

fn peering_table(
    circuit: &CircuitView,
    kind: PeeringKind,
    name: &str,
    notes: &mut Notes,
) -> Option<PeeringTable> {
    let place = format!("{name}/{}", kind.as_str());
    let Some(it) = circuit.peering(kind) else {
        if circuit.peerings.iter().any(|it| it.kind == kind) {
            notes.add(&place, "it is disabled in Azure and left out");
        }
        return None;
    };
    let [ipv4, ipv6] = [it.ipv4, it.ipv6].map(|pair| match pair {
        [Some(primary), Some(secondary)] => Some([primary.to_string(), secondary.to_string()]),
        _ => None,
    });
    if ipv4.is_none() && ipv6.is_none() {
        notes.add(&place, "the answer has no subnets of both links, so it is left out");
        return None;
    }
    peering_notes(it, &place, notes);
    Some(PeeringTable { ipv4, ipv6, vlan: it.vlan, bfd: BfdTable {} })
}

fn peering_notes(it: &Peering, place: &str, notes: &mut Notes) {
    for missing in &it.missing {
        notes.add(place, format!("the answer has no {missing}"));
    }
    notes.add(place, "bfd is on: delete it if Azure has none on this peering (B5)");
    if it.has_key {
        notes.add(place, "its sessions have a shared key, which is left out: write md5-file");
    }
    if it.kind == PeeringKind::Microsoft {
        let filter = it.route_filter.as_ref().map_or(String::new(), |name| format!(" of {name:?}"));
        notes.add(place, format!("write route-filter with the regions and services{filter} (D6)"));
    }
}

fn inventory(
    view: &View,
    it: &CircuitView,
    circuit: &Circuit,
    name: &str,
    notes: &mut Notes,
) -> InventoryTable {
    let of_port = circuit.port.as_ref().and_then(|port| view.port(port)?.location.clone());
    if !it.peerings.is_empty() {
        notes.add(
            name,
            "geopolitical-region, price-per-gb, subscriptions and vnets are not in these answers: write them into the inventory",
        );
    }
    let microsoft = it.peering(PeeringKind::Microsoft);
    let prefixes = microsoft.into_iter().flat_map(|it| &it.prefixes);
    InventoryTable {
        port: circuit.port.clone(),
        location: circuit.location.clone().or(of_port),
        billing: circuit.billing.map(billing),
        public_prefixes: prefixes
            .map(|(prefix, state)| PrefixTable {
                prefix: prefix.to_string(),
                validation: state.map(Validation::as_str),
            })
            .collect(),
    }
}

/// One attachment for each kind of peering: private and Microsoft peering are for different zones of the customer's (C5).
fn attachments(
    view: &View,
    circuits: &[CircuitTable],
    options: &Options,
    notes: &mut Notes,
) -> Vec<AttachmentTable> {
    let mut list = Vec::new();
    let mut taken: Vec<IpNet> = view.ends().iter().map(|end| end.subnet).collect();
    taken.extend(options.customers.iter().map(|it| it.address));
    for (kind, interface) in [(PeeringKind::Private, "ce0"), (PeeringKind::Microsoft, "dmz0")] {
        let has = |it: &&CircuitTable| match kind {
            PeeringKind::Private => it.private.is_some(),
            PeeringKind::Microsoft => it.microsoft.is_some(),
        };
        let peerings: Vec<String> =
            circuits.iter().filter(has).map(|it| format!("{}/{}", it.name, kind.as_str())).collect();
        if peerings.is_empty() {
            continue;
        }
        let given: Vec<&Customer> = options.customers.iter().filter(|it| it.kind == kind).collect();
        for it in &given {
            list.push(attachment(it.interface.clone(), it.address, &peerings));
        }
        if given.is_empty() {
            let Some(address) = placeholder(&taken) else { continue };
            taken.push(address);
            notes.add(
                interface,
                format!(
                    "{interface} with {address} stands for the attachment towards the customer: --customer {}=INTERFACE,ADDRESS/LENGTH names it",
                    kind.as_str()
                ),
            );
            list.push(attachment(interface.to_owned(), address, &peerings));
        }
    }
    notes.add("attachments", "write the customer's routers into peers");
    list
}

fn attachment(interface: String, address: IpNet, peerings: &[String]) -> AttachmentTable {
    let text = Some(address.to_string());
    let (ipv4, ipv6) = if address.addr().is_ipv4() { (text, None) } else { (None, text) };
    AttachmentTable { interface, peerings: peerings.to_vec(), ipv4, ipv6 }
}

/// The first address of a subnet for documentation (RFC 5737) that overlaps nothing.
fn placeholder(taken: &[IpNet]) -> Option<IpNet> {
    let overlaps = |net: IpNet| taken.iter().any(|it| it.contains(&net) || net.contains(it));
    let mut subnets = Ipv4Net::new([192, 0, 2, 0].into(), 24).ok()?.subnets(30).ok()?.map(IpNet::V4);
    let free = subnets.find(|net| !overlaps(*net))?;
    IpNet::new(free.hosts().next()?, 30).ok()
}
