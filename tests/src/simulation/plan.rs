//! The world as it begins: one edge with three circuits of two links each and two customers' routers, and the prefixes that there are.
//!
//! Two circuits lead to the same private networks, so that one stands in for the other; the third one is Microsoft peering, with a customer's
//! router of its own. Nothing of the one realm may ever reach the other (C1).

use ipnet::{IpNet, Ipv4Net};

use super::Time;

/// The edge's configuration before anybody applies another.
pub const CONFIG: &str = r#"
asn = 65010
restart-deadline = 20
[[circuit]]
name = "one"
bandwidth = "1G"
primary = { local = "m1" }
secondary = { local = "m2" }
[circuit.private]
ipv4 = "198.18.0.0/29"
bfd = {}
[[circuit]]
name = "two"
bandwidth = "1G"
primary = { local = "m3" }
secondary = { local = "m4" }
[circuit.private]
ipv4 = "198.18.2.0/29"
bfd = {}
[[circuit]]
name = "public"
bandwidth = "1G"
primary = { local = "m5" }
secondary = { local = "m6" }
[circuit.microsoft]
ipv4 = ["192.88.98.0/30", "192.88.98.4/30"]
bfd = {}
route-filter = ["12076:5010"]
[[attachment]]
interface = "ce0"
peerings = ["one/private", "two/private"]
ipv4 = "198.18.10.1/30"
peers = [{ address = "198.18.10.2", asn = 65020, bfd = {}, max-prefixes = 20, max-prefixes-wait = 5 }]
[[attachment]]
interface = "ce1"
peerings = ["public/microsoft"]
ipv4 = "198.18.11.1/30"
peers = [{ address = "198.18.11.2", asn = 65021, hold = 9 }]
"#;

/// The hold time of the session without BFD, as [`CONFIG`] has it.
pub const HOLD_OF_CE1: Time = 9_000_000_000;
/// The hold time of all others, unless they have BFD (B4).
pub const HOLD: Time = 180_000_000_000;

/// How long a new process waits for peers before it forwards by itself, as [`CONFIG`] has it.
pub const RESTART_DEADLINE: Time = 20_000_000_000;

/// What is kept apart from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realm {
    /// Private peering of two circuits, and the customer's router for it.
    Private,
    /// Microsoft peering of the third circuit, and the router for that.
    Public,
}

/// A neighbour of the edge.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The edge's interface.
    pub interface: &'static str,
    /// Where it belongs.
    pub realm: Realm,
    /// The circuit of an MSEE; `None`: a customer's router.
    pub circuit: Option<usize>,
}

impl Place {
    /// Whether it is an MSEE.
    pub fn is_msee(&self) -> bool {
        self.circuit.is_some()
    }
}

const fn place(interface: &'static str, realm: Realm, circuit: Option<usize>) -> Place {
    Place { interface, realm, circuit }
}

/// Every neighbour, in the order of the configuration's peers.
pub const PLACES: [Place; 8] = [
    place("m1", Realm::Private, Some(0)),
    place("m2", Realm::Private, Some(0)),
    place("m3", Realm::Private, Some(1)),
    place("m4", Realm::Private, Some(1)),
    place("m5", Realm::Public, Some(2)),
    place("m6", Realm::Public, Some(2)),
    place("ce0", Realm::Private, None),
    place("ce1", Realm::Public, None),
];

/// The first MSEE of Microsoft peering.
pub const M5: usize = 4;
/// The customer's router of private peering.
pub const CE0: usize = 6;
/// The one for Microsoft peering.
pub const CE1: usize = 7;

/// The circuits' names.
pub const CIRCUITS: [&str; 3] = ["one", "two", "public"];

/// The index of an interface of the edge.
pub fn ifindex(place: usize) -> u32 {
    place as u32 + 1
}

/// What a neighbour may announce.
pub fn universe(place: usize) -> Vec<IpNet> {
    match (PLACES[place].realm, PLACES[place].is_msee()) {
        (Realm::Private, true) => (1..=12).map(|it| net([10, it, 0, 0], 16)).collect(),
        (Realm::Public, true) => (0..6).map(|it| net([13, 107, it, 0], 24)).collect(),
        (Realm::Private, false) => (0..6).map(|it| net([192, 168, it, 0], 24)).collect(),
        (Realm::Public, false) => vec![net([192, 88, 97, 0], 26), net([192, 88, 97, 64], 26)],
    }
}

/// What Microsoft announces without the community that the edge's route filter wants (D6).
pub fn unwanted() -> Vec<IpNet> {
    vec![net([52, 96, 0, 0], 24), net([52, 96, 1, 0], 24)]
}

/// What brings `ce0` above its limit (D2).
pub fn excess() -> Vec<IpNet> {
    (0..40).map(|it| net([172, 16, it, 0], 24)).collect()
}

/// A host of a prefix.
pub fn host(prefix: IpNet) -> std::net::IpAddr {
    match prefix {
        IpNet::V4(net) => (u32::from(net.network()) + 9).to_be_bytes().into(),
        IpNet::V6(net) => net.network().into(),
    }
}

fn net(octets: [u8; 4], len: u8) -> IpNet {
    // A length above 32 would be none; those above are not.
    IpNet::V4(Ipv4Net::new(octets.into(), len).unwrap_or_default())
}

/// A configuration that an operator applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// [`CONFIG`].
    Base,
    /// More bandwidth for the first circuit (A4).
    Faster,
    /// The first circuit has to have both links (B11).
    MinimumLinks,
    /// The second circuit is disabled (A8).
    TwoDisabled,
}

impl Variant {
    /// All but the first one.
    pub const OTHERS: [Self; 3] = [Self::Faster, Self::MinimumLinks, Self::TwoDisabled];

    /// Its text.
    pub fn text(self) -> String {
        let bandwidth = "bandwidth = \"1G\"";
        match self {
            Self::Base => CONFIG.to_owned(),
            Self::Faster => CONFIG.replacen(bandwidth, "bandwidth = \"2G\"", 1),
            Self::MinimumLinks => CONFIG.replacen(bandwidth, "bandwidth = \"1G\"\nminimum-links = 2", 1),
            Self::TwoDisabled => {
                CONFIG.replacen("name = \"two\"\n", "name = \"two\"\nadmin = \"disabled\"\n", 1)
            }
        }
    }
}
