//! Random packets on all inputs of an edge with two circuits, two peerings each, zones, services and chains: the loaded program
//! sends none where policy forbids.
//!
//! The configuration goes the router's own way (parser, plan, facts, tables, maps), routes come and go at random, and the program is
//! asked about each packet. The model knows the policy by heart ([`MAY_REACH`]) and nothing of tables: it scans the routes that
//! there are. `ERDP_TEST_FULL=1` (`cargo xtask test --full`) makes it a million packets; `ERDP_TEST_SEED` chooses others.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    net::IpAddr,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use erdp::{
    compile::{attachment_facts, limits},
    config::Config,
    dataplane::{
        Dataplane as _,
        aya::{AyaDataplane, Buffers, LoadOptions},
        question::Question,
    },
    fib::{AttachmentFacts, Forwarding, LinkFacts, NextHopKey, Target, Topology},
    rib::bogons::is_bogon,
    types::AttachmentId,
};
use erdp_common::{
    abi::{Trace, VERDICT_DROP, VERDICT_TRANSMIT},
    reason::DropReason,
};
use erdp_tests::packets::{in_network_namespace, is_root, veth_ports};
use fastrand::Rng;
use ipnet::IpNet;

const SLICE: u32 = 150_000;
const FULL: u32 = 1_000_000;
/// Packets between two changes of routes.
const ROUND: u32 = 2_000;
const SEED: u64 = 0x4552_4450;

const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "a"
bandwidth = "1G"
s-vlan = 10
primary = { local = "pa" }
secondary = { local = "pb" }
[circuit.private]
ipv4 = "198.18.0.0/29"
ipv6 = "fd00::/125"
vlan = 1
[circuit.microsoft]
ipv4 = "198.18.1.0/29"
ipv6 = "fd00:1::/125"
vlan = 2
[[circuit]]
name = "b"
bandwidth = "1G"
s-vlan = 20
primary = { local = "pa" }
secondary = { local = "pb" }
[circuit.private]
ipv4 = "198.18.2.0/29"
ipv6 = "fd00:2::/125"
vlan = 1
[circuit.microsoft]
ipv4 = "198.18.3.0/29"
ipv6 = "fd00:3::/125"
vlan = 2
[[zone-rule]]
zone = "lan"
peerings = ["a/private", "b/private"]
[[zone-rule]]
zone = "dmz"
peerings = ["a/microsoft", "b/private"]
[[attachment]] # the LAN
interface = "pc"
vlan = 1
zone = "lan"
peerings = ["a/private", "b/private", "b/microsoft"]
ipv4 = "198.18.10.1/24"
ipv6 = "fd00:10::1/64"
[[attachment]] # the DMZ
interface = "pc"
vlan = 2
zone = "dmz"
peerings = ["a/private", "a/microsoft"]
ipv4 = "198.18.11.1/24"
ipv6 = "fd00:11::1/64"
[[attachment]] # a NAT
interface = "pc"
vlan = 3
zone = "dmz"
service = "nat"
peerings = ["a/microsoft"]
ipv4 = "198.18.12.1/24"
ipv6 = "fd00:12::1/64"
next-hops = ["198.18.12.2", "fd00:12::2"]
[[attachment]] # a VPN
interface = "pc"
vlan = 4
zone = "dmz"
service = "vpn"
peerings = ["b/private"]
ipv4 = "198.18.13.1/24"
ipv6 = "fd00:13::1/64"
encrypted-only = ["10.9.0.0/16", "fd09::/32"]
[[chain]]
from = "pc.1"
via = "nat"
to = "a/microsoft"
[[chain]]
from = "b/private"
via = "nat"
to = "a/microsoft"
"#;

const LAN: &str = "pc.1";
const DMZ: &str = "pc.2";
const NAT: &str = "pc.3";
const VPN: &str = "pc.4";

/// The policy: from where one may get where. The MSEEs of a peering are called by its name.
const MAY_REACH: [(&str, &[&str]); 8] = [
    (LAN, &["a/private", "b/private", VPN, NAT]),
    (DMZ, &["a/microsoft", NAT]),
    (NAT, &["a/microsoft", DMZ, LAN, "b/private"]),
    (VPN, &["b/private", LAN]),
    ("a/private", &[LAN]),
    ("b/private", &[LAN, VPN, NAT]),
    ("a/microsoft", &[DMZ, NAT]),
    ("b/microsoft", &[]),
];

/// From where a chain leads to `a/microsoft`, which is then reached by the NAT's next hop.
const CHAINED: [&str; 2] = [LAN, "b/private"];

/// Who shares which domain: a place, and the domains whose routes it has. (What `lan` and `dmz` list beside these is forbidden.)
const DOMAINS: [(&str, &[&str]); 8] = [
    (LAN, &["a/private", "b/private"]),
    (DMZ, &["a/microsoft"]),
    (NAT, &["a/microsoft"]),
    (VPN, &["b/private"]),
    ("a/private", &["a/private"]),
    ("b/private", &["b/private"]),
    ("a/microsoft", &["a/microsoft"]),
    ("b/microsoft", &["b/microsoft"]),
];

const PREFIXES: [&str; 14] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.9.0.0/16",
    "10.9.7.0/24",
    "10.9.7.7/32",
    "20.0.0.0/8",
    "20.1.0.0/16",
    "20.1.2.0/24",
    "198.18.200.0/24",
    "::/0",
    "fd09::/32",
    "fd09:0:7::/48",
    "2603::/16",
    "2603:1::/32",
];
const DESTINATIONS: [&str; 12] = [
    "10.8.1.1",
    "10.9.1.1",
    "10.9.7.1",
    "10.9.7.7",
    "20.9.9.9",
    "20.1.9.9",
    "20.1.2.9",
    "198.18.200.9",
    "30.1.1.1",
    "fd09::1",
    "fd09:0:7::1",
    "2603:1::9",
];
const SOURCES: [&str; 8] =
    ["10.1.2.3", "172.16.1.1", "100.64.0.9", "198.18.64.9", "20.1.2.3", "fd00:64::9", "2603:1::7", "2a00::1"];

fn domains_of(place: &str) -> &'static [&'static str] {
    DOMAINS.iter().find(|(name, _)| *name == place).map_or(&[], |(_, domains)| domains)
}

/// Where an attachment is, in the words of the tables above: its name without the link's role.
fn place(facts: &AttachmentFacts) -> &str {
    facts.name.split(' ').next().unwrap_or(&facts.name)
}

fn is_microsoft_side(place: &str) -> bool {
    place.contains('/')
}

fn is_like(one: &str, other: &str) -> bool {
    let side = |place: &str| (is_microsoft_side(place), place == NAT || place == VPN);
    side(one) == side(other)
}

fn guarded(to: IpAddr) -> bool {
    ["10.9.0.0/16", "fd09::/32"].iter().any(|net| net.parse::<IpNet>().is_ok_and(|net| net.contains(&to)))
}

/// The routes that there are: (domain, prefix) to the attachments that they lead to.
type Routes = BTreeMap<(String, IpNet), BTreeSet<AttachmentId>>;

struct Edge {
    config: Config,
    forwarding: Forwarding,
    dataplane: AyaDataplane,
    routes: Routes,
    now: u64,
}

impl Edge {
    fn new() -> Result<Self> {
        let ports = veth_ports()?;
        let (config, _) = Config::parse(CONFIG, Path::new("isolation.toml"))?;
        let mut dataplane = AyaDataplane::load(LoadOptions { fib_blocks: 8_192, ..LoadOptions::default() })?;
        for record in limits::records(&config, dataplane.clock()) {
            dataplane.write(&record)?;
        }
        let ifindex = |name: &str| match name {
            "pa" => ports.a,
            "pb" => ports.b,
            _ => ports.c,
        };
        let facts =
            config.attachments().into_iter().map(|it| attachment_facts(&config, &it, ifindex(&it.interface)));
        let mut forwarding = Forwarding::new(Topology::new(facts.collect()), &mut dataplane)?;
        forwarding.guard(0, &mut dataplane)?;
        for ifindex in [ports.a, ports.b, ports.c] {
            forwarding.link_facts(
                ifindex,
                LinkFacts { mac: [2, 0, 0, 0, 1, 0], mtu: 1500 },
                &mut dataplane,
            )?;
            forwarding.link(ifindex, true, &mut dataplane)?;
        }
        let mut edge = Self { config, forwarding, dataplane, routes: Routes::new(), now: 0 };
        for facts in edge.attachments() {
            for is_ipv4 in [true, false] {
                let key = neighbour(&facts, is_ipv4);
                edge.forwarding.neighbour(key, Some([2, 0, 0, 0, 2, 0]), 0, &mut edge.dataplane)?;
            }
        }
        Ok(edge)
    }

    fn attachments(&self) -> Vec<AttachmentFacts> {
        self.forwarding.topology().attachments().cloned().collect()
    }

    /// A route of a domain comes, goes or changes: to some of the domain's attachments of one side.
    fn change(&mut self, rng: &mut Rng) -> Result<()> {
        let domains = self.config.domains();
        let domain = &domains[rng.usize(..domains.len())];
        let prefix: IpNet = PREFIXES[rng.usize(..PREFIXES.len())].parse()?;
        let mut on_it: Vec<AttachmentFacts> = self.attachments();
        on_it.retain(|facts| domains_of(place(facts)).contains(&domain.name.as_str()));
        let chosen = on_it[rng.usize(..on_it.len())].clone();
        on_it.retain(|facts| is_like(place(facts), place(&chosen)) && (facts.id == chosen.id || rng.bool()));
        let goes = rng.u8(..4) == 0;
        let keys = on_it.iter().map(|facts| neighbour(facts, prefix.addr().is_ipv4()));
        let target = (!goes).then(|| Target::Forward(keys.collect()));
        let key = (domain.name.clone(), prefix);
        match &target {
            Some(_) => self.routes.insert(key, on_it.iter().map(|facts| facts.id).collect()),
            None => self.routes.remove(&key),
        };
        self.now += 2_000_000_000;
        self.forwarding.route(usize::from(domain.id.0), prefix, target, self.now, &mut self.dataplane)?;
        Ok(())
    }

    /// The places that the longest usable routes lead to, by a scan of all routes.
    fn ways(&self, from: &str, to: IpAddr) -> BTreeSet<String> {
        let attachments = self.attachments();
        let mut best = (0, BTreeSet::new());
        for ((domain, prefix), ids) in &self.routes {
            if !prefix.contains(&to) {
                continue;
            }
            for facts in attachments.iter().filter(|facts| ids.contains(&facts.id)) {
                let Some(way) = way(from, domain, place(facts)) else { continue };
                let is_clear = way != VPN && prefix.prefix_len() >= 16 && guarded(prefix.addr());
                if is_clear || prefix.prefix_len() < best.0 {
                    continue;
                }
                if prefix.prefix_len() > best.0 {
                    best = (prefix.prefix_len(), BTreeSet::new());
                }
                best.1.insert(way.to_owned());
            }
        }
        // A guarded prefix of its own length stands before all that are shorter.
        if guarded(to) && best.0 < 16 { BTreeSet::new() } else { best.1 }
    }

    fn judge(&self, from: &AttachmentFacts, question: &Question, trace: Trace) -> Result<String> {
        let from = place(from);
        let ways = self.ways(from, question.to);
        let was_foreign = trace.verdict == VERDICT_DROP
            && DropReason::from_number(trace.reason) == Some(DropReason::ForeignSource);
        if let Some(is_foreign) = self.is_foreign(from, question.from) {
            ensure!(
                is_foreign == was_foreign,
                "foreign source: {is_foreign}, dropped as such: {was_foreign}"
            );
        }
        if was_foreign {
            return Ok("drop foreign-source".to_owned());
        }
        if trace.verdict == VERDICT_TRANSMIT {
            let key = self.forwarding.next_hop_key(trace.next_hop).context("an unknown next hop")?;
            let egress =
                self.forwarding.topology().attachment(key.attachment).context("an unknown egress")?;
            let out = place(egress);
            let allowed = MAY_REACH.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, to)| to);
            ensure!(allowed.contains(&out), "the policy forbids {from} to {out}");
            ensure!(ways.contains(out), "no route leads to {out}, but to {ways:?}");
            ensure!(!guarded(question.to) || out == VPN, "in clear by {out} (B9)");
            let is_bare = out.ends_with("/microsoft") && is_bogon(question.from.into());
            ensure!(!is_bare, "not NATed (D4)");
            return Ok(format!("{from} to {out}"));
        }
        ensure!(trace.verdict == VERDICT_DROP, "punted");
        let reason = DropReason::from_number(trace.reason).context("an unknown reason")?;
        let is_founded = match reason {
            DropReason::NoRoute => ways.is_empty() && !guarded(question.to),
            DropReason::EncryptedOnly => ways.is_empty() && guarded(question.to),
            DropReason::ZoneForbidden => ways.is_empty() && self.is_forbidden(from, question.to),
            DropReason::Hairpin => ways.iter().any(|way| is_like(way, from)),
            DropReason::UnnattedSource => {
                ways.iter().any(|way| way.ends_with("/microsoft")) && is_bogon(question.from.into())
            }
            _ => false,
        };
        ensure!(is_founded, "dropped as {}, and routes lead to {ways:?}", reason.label());
        Ok(format!("drop {}", reason.label()))
    }

    /// Whether an MSEE may not send from this address (C2): on private peering it must be routed to that side, on Microsoft peering
    /// it must not be routed to ours. `None`: equal routes lead to both, and either is taken.
    fn is_foreign(&self, from: &str, source: IpAddr) -> Option<bool> {
        if !is_microsoft_side(from) {
            return Some(false);
        }
        let ways = self.ways(from, source);
        if ways.is_empty() {
            let is_held_back = guarded(source) || self.is_forbidden(from, source);
            return Some(from.ends_with("/private") || is_held_back);
        }
        let is_there = ways.iter().any(|way| is_like(way, from));
        let is_ours = ways.iter().any(|way| !is_like(way, from));
        (is_there != is_ours).then_some(is_ours)
    }

    /// Whether a route exists between a place and one that its zone, or the other's, keeps it from (C5).
    fn is_forbidden(&self, from: &str, to: IpAddr) -> bool {
        let attachments = self.attachments();
        let forbidden = [(LAN, "b/microsoft"), (DMZ, "a/private")];
        self.routes.iter().filter(|((_, prefix), _)| prefix.contains(&to)).any(|((_, _), ids)| {
            let places = attachments.iter().filter(|facts| ids.contains(&facts.id)).map(place);
            places
                .into_iter()
                .any(|other| forbidden.contains(&(from, other)) || forbidden.contains(&(other, from)))
        })
    }
}

/// Where a domain's route to `target` takes a packet that came in at `from`; `None`: it is not for such packets.
fn way<'a>(from: &str, domain: &str, target: &'a str) -> Option<&'a str> {
    if domains_of(from).contains(&domain) {
        return Some(target);
    }
    if CHAINED.contains(&from) && domain == "a/microsoft" && target == "a/microsoft" {
        return Some(NAT);
    }
    // Back from the NAT: to the LAN by any of its domains, and to the MSEEs of b/private.
    let is_back = domains_of(LAN).contains(&domain) && target == LAN || target == "b/private";
    (from == NAT && is_back).then_some(target)
}

/// The neighbour of an attachment: the second address of its subnet.
fn neighbour(facts: &AttachmentFacts, is_ipv4: bool) -> NextHopKey {
    let subnet = facts.subnets.iter().find(|net| net.addr().is_ipv4() == is_ipv4);
    let second = match subnet.map(IpNet::network) {
        Some(IpAddr::V4(address)) => IpAddr::V4((u32::from(address) + 2).into()),
        Some(IpAddr::V6(address)) => IpAddr::V6((u128::from(address) + 2).into()),
        None => IpAddr::from([0; 4]),
    };
    NextHopKey { attachment: facts.id, address: second }
}

fn question(rng: &mut Rng, from: &AttachmentFacts) -> Result<Question> {
    let to: IpAddr = DESTINATIONS[rng.usize(..DESTINATIONS.len())].parse()?;
    let sources: Vec<IpAddr> = SOURCES.iter().filter_map(|text| text.parse().ok()).collect();
    let sources: Vec<IpAddr> = sources.into_iter().filter(|it| it.is_ipv4() == to.is_ipv4()).collect();
    let source = sources[rng.usize(..sources.len())];
    Ok(Question { from: source, to, ports: (rng.u16(..), rng.u16(..)), hop_limit: 64, tags: from.tags })
}

#[test]
fn c1_c2_c5_b9_d4_of_random_packets_none_leaves_where_policy_forbids() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let seed =
        env::var("ERDP_TEST_SEED").ok().map_or(Ok(SEED), |text| text.parse()).context("ERDP_TEST_SEED")?;
    let packets = if env::var_os("ERDP_TEST_FULL").is_some() { FULL } else { SLICE };
    let ends = in_network_namespace(|| {
        let mut rng = Rng::with_seed(seed);
        let mut edge = Edge::new()?;
        let attachments = edge.attachments();
        let (mut ends, mut buffers) = (BTreeMap::<String, u64>::new(), Buffers::default());
        for number in 0..packets {
            if number % ROUND == 0 {
                (0..12).try_for_each(|_| edge.change(&mut rng))?;
            }
            let from = &attachments[rng.usize(..attachments.len())];
            let question = question(&mut rng, from)?;
            let (trace, _) = edge.dataplane.ask_with(from.ifindex, &question.frame()?, &mut buffers)?;
            let end = edge.judge(from, &question, trace).with_context(|| {
                format!(
                    "packet {number} of seed {seed}: {question:?} on {}; routes {:?}",
                    from.name, edge.routes
                )
            })?;
            *ends.entry(end).or_default() += 1;
        }
        Ok(ends)
    })?;
    println!("\nseed {seed}: {ends:?}");
    // What never happened was not tested: each way that is allowed, and each reason.
    let pairs = MAY_REACH.iter().flat_map(|(from, to)| to.iter().map(move |to| format!("{from} to {to}")));
    let reasons =
        ["no-route", "hairpin", "zone-forbidden", "encrypted-only", "unnatted-source", "foreign-source"];
    let expected = pairs.chain(reasons.iter().map(|reason| format!("drop {reason}")));
    let missing: Vec<String> = expected.filter(|end| !ends.contains_key(end)).collect();
    ensure!(missing.is_empty(), "never seen: {missing:?}");
    Ok(())
}
