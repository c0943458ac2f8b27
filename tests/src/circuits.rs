//! An edge with two circuits of two links each, and two routers of the customer's: which circuit carries traffic, how flows are shared, and
//! what takes over when something fails (B1, B11), counted by flows of real traffic.
//!
//! ```text
//!  ce1 (weight 1) ---\            /=== m1, m2: circuit "one", listed first, at least two links
//!                     --- edge ---
//!  ce2 (weight 3) ---/            \=== m3, m4: circuit "two"
//! ```
//! Circuits are not shared by weights: the first listed one that has a prefix carries it. Weights are of attachments, for flows from Azure.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    edge::{self, Edge},
    failover::until,
    lab::{
        self,
        bird::{self, Neighbour, Router},
        cleanup::{self, Guard},
        enter,
        netns::{self, Namespace},
        plan,
        process::Process,
    },
    traffic::probe::Probe,
};

/// Each router: its namespace and the edge's interface, AS number, our address, its own.
const ROUTERS: [(&str, u32, &str, &str); 6] = [
    ("ce1", plan::CE_ASN, "198.18.1.1", "198.18.1.2"),
    ("ce2", plan::CE_ASN, "198.18.1.5", "198.18.1.6"),
    ("m1", plan::MSEE_ASN, "198.18.0.1", "198.18.0.2"),
    ("m2", plan::MSEE_ASN, "198.18.0.5", "198.18.0.6"),
    ("m3", plan::MSEE_ASN, "198.18.0.9", "198.18.0.10"),
    ("m4", plan::MSEE_ASN, "198.18.0.13", "198.18.0.14"),
];
/// The host behind the customer's routers.
pub const CUSTOMER_HOST: &str = "198.18.64.10";

/// Another prefix that every MSEE announces, and a host in it to ask about.
pub const OTHER: (&str, &str) = ("198.18.240.0/24", "198.18.240.9");

/// The edge's configuration.
pub const CONFIGURATION: &str = r#"
asn = 65010
[[circuit]]
name = "one"
bandwidth = "1G"
minimum-links = 2
primary = { local = "m1" }
secondary = { local = "m2" }
[circuit.private]
ipv4 = "198.18.0.0/29"
hold = 9
[[circuit]]
name = "two"
bandwidth = "1G"
primary = { local = "m3" }
secondary = { local = "m4" }
[circuit.private]
ipv4 = "198.18.0.8/29"
hold = 9
[[attachment]]
interface = "ce1"
weight = 1
peerings = ["one/private", "two/private"]
ipv4 = "198.18.1.1/30"
peers = [{ address = "198.18.1.2", asn = 65020, hold = 9 }]
[[attachment]]
interface = "ce2"
weight = 3
peerings = ["one/private", "two/private"]
ipv4 = "198.18.1.5/30"
peers = [{ address = "198.18.1.6", asn = 65020, hold = 9 }]
"#;

/// Flows whose ways are counted each time.
const FLOWS: u16 = 12_000;
/// How far a share may be off, of all flows.
const OFF_AT_MOST: f64 = 0.03;
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Datagrams a second beside what fails.
const RATE: u32 = 1_000;
/// How many a lost carrier may cost where the circuit has another link (5 ms).
pub const ONE_LINK_COSTS: u64 = 5;
/// The same where it has none: the routing base prefers what another circuit has, prefix by prefix (100 ms).
pub const BOTH_LINKS_COST: u64 = 100;
/// For so long packets flow on behind a change.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// What is up. Fields in the order of the end.
#[derive(Debug)]
pub struct Stand {
    /// The edge.
    pub edge: Edge,
    _routers: Vec<Process>,
    namespaces: Vec<Namespace>,
    folder: PathBuf,
    _guard: Guard,
}

impl Stand {
    /// Everything, with all sessions up.
    ///
    /// # Errors
    /// What could not be set up, or has not come up in time.
    pub fn up() -> Result<Stand> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let middle = Namespace::add(&format!("{name}-edge"))?;
        let (mut routers, mut namespaces) = (Vec::new(), Vec::new());
        for (short, asn, ours, theirs) in ROUTERS {
            let far = Namespace::add(&format!("{name}-{short}"))?;
            netns::connect((&middle, short), (&far, "edge0"))?;
            far.address("edge0", &format!("{theirs}/30"))?;
            let is_customer = asn == plan::CE_ASN;
            let (host, announced) = match is_customer {
                true => (CUSTOMER_HOST, vec![plan::CUSTOMER_IPV4]),
                false => (plan::AZURE_IPV4, vec![plan::VNET_IPV4, OTHER.0]),
            };
            far.address("lo", &format!("{host}/32"))?;
            let edge = Neighbour { name: "edge4".into(), local: theirs, remote: ours, asn: plan::EDGE_ASN };
            let announced = announced.into_iter().map(str::parse).collect::<Result<_, _>>()?;
            let router = Router {
                namespace: short,
                asn,
                id: theirs,
                neighbours: vec![edge],
                announced,
                transit: false,
            };
            routers.push(bird::start_in(&far, &folder, &router)?);
            namespaces.push(far);
        }
        let edge = Edge::start_with(&middle, &folder, CONFIGURATION)?;
        namespaces.push(middle);
        let mut stand = Stand { edge, _routers: routers, namespaces, folder, _guard: guard };
        stand.until("all sessions, and both links of the first circuit", |it| {
            let sessions = it.edge.sessions()?;
            let is_up =
                |it: &edge::Session| it.state == "Established" && it.received > 0 && it.advertised > 0;
            Ok(sessions.len() == 6 && sessions.iter().all(is_up) && it.leads_to(["m1", "m2"])?)
        })?;
        Ok(stand)
    }

    /// Waits until something holds.
    ///
    /// # Errors
    /// That it never did, with what the edge shows.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let took = until(what, PATIENCE, || {
            self.edge.must_run()?;
            Ok(self.edge.answers() && done(self)?)
        });
        let took = took.with_context(|| {
            let tables = ["sessions", "circuits", "counters"].map(|topic| self.edge.table(topic));
            let texts = tables.map(|table| table.unwrap_or_else(|error| format!("{error:#}")));
            format!("{}\n{}", texts.join("\n"), self.edge.process().tail(20))
        })?;
        println!("  {what}: after {:.2} s", took.as_secs_f32());
        Ok(())
    }

    /// A router's namespace.
    ///
    /// # Errors
    /// That there is none.
    pub fn namespace(&self, short: &str) -> Result<&Namespace> {
        let found = self.namespaces.iter().find(|it| it.name().ends_with(&format!("-{short}")));
        found.with_context(|| format!("no namespace {short}"))
    }

    /// Whether what comes from the customer leads to these two MSEEs.
    ///
    /// # Errors
    /// erdp's own message.
    pub fn leads_to(&self, routers: [&str; 2]) -> Result<bool> {
        self.host_leads_to(plan::AZURE_IPV4, &routers)
    }

    /// Whether what comes from the customer for a host leads to these MSEEs.
    ///
    /// # Errors
    /// erdp's own message.
    pub fn host_leads_to(&self, host: &str, routers: &[&str]) -> Result<bool> {
        let answers = self.edge.explain("ce1", &[host.parse()?])?;
        let mut members: Vec<String> = answers[0].members.iter().map(ToString::to_string).collect();
        members.sort_unstable();
        let mut wanted: Vec<&str> = routers.iter().filter_map(|short| address_of(short)).collect();
        wanted.sort_unstable();
        Ok(answers[0].verdict == "transmit" && members == wanted)
    }

    /// The carrier of a router's link goes or comes.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn carrier(&self, short: &str, is_up: bool) -> Result<()> {
        let word = if is_up { "up" } else { "down" };
        self.namespace(short)?.ip(&format!("link set edge0 {word}")).map(drop)
    }

    /// Sends one datagram of each flow from a router to a host, and counts by what they leave the edge: the shares that were found
    /// must be those.
    ///
    /// # Errors
    /// Which share is another.
    pub fn shares(&self, what: &str, from: &str, expected: &[(&str, f64)]) -> Result<()> {
        let (own, to) = match from.starts_with("ce") {
            true => (CUSTOMER_HOST, plan::AZURE_IPV4),
            false => (plan::AZURE_IPV4, CUSTOMER_HOST),
        };
        let (own, to): (Ipv4Addr, Ipv4Addr) = (own.parse()?, to.parse()?);
        let sent = || -> Result<BTreeMap<String, u64>> {
            let counters = self.edge.counters()?;
            Ok(counters.attachments.into_iter().map(|it| (it.name, it.tx.packets)).collect())
        };
        let namespace = self.namespace(from)?;
        until("the sender's kernel to know the way", PATIENCE, || {
            Ok(namespace.ip(&format!("route get {to} from {own}")).is_ok())
        })?;
        let before = sent()?;
        enter::run(namespace.name(), move || {
            for port in 0..FLOWS {
                let socket = UdpSocket::bind(SocketAddr::from((own, 10_000 + port)))?;
                socket.send_to(&[0; 8], (to, 7))?;
                if port % 100 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(())
        })?;
        thread::sleep(Duration::from_millis(200));
        let after = sent()?;
        // The hosts answer that nobody is there, to the other side.
        let is_opposite = |name: &str| name.starts_with("ce") != from.starts_with("ce");
        let found: BTreeMap<&str, f64> = after
            .iter()
            .filter(|(name, _)| is_opposite(name))
            .map(|(name, packets)| {
                let before = before.get(name).copied().unwrap_or(0);
                (name.as_str(), (packets - before) as f64 / f64::from(FLOWS))
            })
            .collect();
        println!("  {what}: {found:.3?}");
        for (name, share) in &found {
            let wanted = expected.iter().find(|(other, _)| other == name).map_or(0.0, |(_, share)| *share);
            ensure!((share - wanted).abs() <= OFF_AT_MOST, "{what}: {name} has {share}, not {wanted}");
        }
        // What has never sent anything has no row.
        for (name, share) in expected {
            ensure!(*share == 0.0 || found.contains_key(name), "{found:?}");
        }
        Ok(())
    }

    /// Numbered datagrams from the customer to Azure, whichever MSEE has them.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn probe(&self) -> Result<Probe> {
        let from = SocketAddr::from((CUSTOMER_HOST.parse::<Ipv4Addr>()?, 41_000));
        let to = SocketAddr::from((plan::AZURE_IPV4.parse::<Ipv4Addr>()?, 7007));
        let far = ["m1", "m2", "m3", "m4"].map(|short| self.namespace(short).map(Namespace::name));
        let [one, two, three, four] = far;
        Probe::between((self.namespace("ce1")?.name(), from), (&[one?, two?, three?, four?], to), RATE)
    }

    /// Carriers go or come while datagrams flow, until these MSEEs have the traffic.
    ///
    /// # Errors
    /// That more was lost than it may cost.
    pub fn while_flowing(
        &mut self,
        what: &str,
        carriers: &[(&str, bool)],
        to: [&str; 2],
        costs: u64,
    ) -> Result<()> {
        let probe = self.probe()?;
        carriers.iter().try_for_each(|(short, is_up)| self.carrier(short, *is_up))?;
        self.until(what, |it| it.leads_to(to))?;
        thread::sleep(AFTERWARDS);
        let report = probe.stop()?;
        println!("  {report:?}");
        ensure!(report.lost <= costs && report.sent > 100, "{report:?}");
        Ok(())
    }

    /// Each session's administrative state.
    ///
    /// # Errors
    /// erdp's own message.
    pub fn admins(&self) -> Result<Vec<String>> {
        let rows: Vec<Value> = serde_json::from_str(&self.edge.show("sessions")?)?;
        Ok(rows.iter().map(|row| row["admin"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// What `birdc` says in a router's namespace.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn birdc(&self, short: &str, words: &[&str]) -> Result<String> {
        bird::ask_in(&self.folder, short, words)
    }

    /// The daemon ends for good and another begins with this configuration.
    ///
    /// # Errors
    /// When it does not end, or does not answer.
    pub fn start_anew(&mut self, text: &str) -> Result<()> {
        self.edge.process().signal(Signal::SIGTERM)?;
        self.edge.process().wait(PATIENCE)?;
        self.edge = Edge::start_with(self.namespace("edge")?, &self.folder, text)?;
        self.until("another daemon answers", |it| Ok(it.edge.answers()))
    }

    /// Sends so many datagrams to the customer's host by way of an MSEE's link, whatever the MSEE's routes are.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send_from_msee(&self, short: &str, count: u64) -> Result<()> {
        let edge = ROUTERS.iter().find(|router| router.0 == short).map(|router| router.2);
        let namespace = self.namespace(short)?;
        namespace.ip(&format!("route replace {CUSTOMER_HOST}/32 via {}", edge.context("no such router")?))?;
        let (own, to): (Ipv4Addr, Ipv4Addr) = (plan::AZURE_IPV4.parse()?, CUSTOMER_HOST.parse()?);
        enter::run(namespace.name(), move || {
            let socket = UdpSocket::bind(SocketAddr::from((own, 10_000)))?;
            for _ in 0..count {
                socket.send_to(&[0; 8], (to, 7))?;
                thread::sleep(Duration::from_micros(100));
            }
            Ok(())
        })?;
        namespace.ip(&format!("route del {CUSTOMER_HOST}/32 via {}", edge.unwrap_or_default())).map(drop)
    }

    /// Another configuration runs.
    ///
    /// # Errors
    /// erdp's own message.
    pub fn apply(&self, text: &str) -> Result<()> {
        let file = self.folder.join("other.toml");
        std::fs::write(&file, text)?;
        self.edge.ask(&["config", "apply", &file.to_string_lossy()]).map(drop)
    }
}

fn address_of(short: &str) -> Option<&'static str> {
    ROUTERS.iter().find(|router| router.0 == short).map(|router| router.3)
}

/// Circuit "one" carries everything, both links alike.
pub const ONE: [(&str, f64); 2] = [("one/private primary", 0.5), ("one/private secondary", 0.5)];
/// Circuit "two" does.
pub const TWO: [(&str, f64); 2] = [("two/private primary", 0.5), ("two/private secondary", 0.5)];
