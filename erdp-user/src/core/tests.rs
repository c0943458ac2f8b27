//! A whole edge in virtual time, without root, kernel or tokio: facts go in, packets are asked about in the same stages as the loaded
//! program's, and what the core wants done comes out.

mod asked;
mod decisions;
mod edge;

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{
    bgp::{
        AsPath, Community, DownReason, Family, Kept, PathAttributes, PeerEvent, Seconds, SessionFacts, Update,
    },
    compile::{self, peer_key},
    dataplane::{Mode, memory::MemoryDataplane, question::Question},
    kernel::KernelEvent,
};

/// A circuit with two links, a second one for the customer to fall back on, and the customer's router.
const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "one"
bandwidth = "1G"
primary = { local = "m1" }
secondary = { local = "m2" }
[circuit.private]
ipv4 = "198.18.0.0/29"
[[circuit]]
name = "two"
bandwidth = "1G"
primary = { local = "m3" }
secondary = { local = "m4" }
[circuit.private]
ipv4 = "198.18.2.0/29"
[[attachment]]
interface = "ce0"
peerings = ["one/private", "two/private"]
ipv4 = "198.18.10.1/30"
peers = [{ address = "198.18.10.2", asn = 65020 }]
"#;

/// Peers by their place in the configuration: both links of circuit `one`, both of `two`, the customer.
const ONE: [PeerId; 2] = [PeerId(0), PeerId(1)];
const TWO: [PeerId; 2] = [PeerId(2), PeerId(3)];
const CE: PeerId = PeerId(4);
const ALL: [PeerId; 5] = [ONE[0], ONE[1], TWO[0], TWO[1], CE];
/// What both circuits lead to, what only the first one does, and what the customer has.
const AZURE: &str = "10.1.0.0/16";
const ONLY_ONE: &str = "10.2.0.0/16";
const CUSTOMER: &str = "192.168.0.0/16";

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An edge and its clock.
struct Edge {
    core: Core<MemoryDataplane>,
    now: Duration,
    actions: Vec<Action>,
    /// Events for the log: of what, and how it is.
    notes: Vec<(String, String)>,
}

impl Edge {
    /// As configured: all interfaces have a carrier, and no session is up.
    fn new(text: &str) -> Self {
        let (config, _) = Config::parse(text, Path::new("erdp.toml")).unwrap();
        let names: BTreeSet<String> = config.attachments().into_iter().map(|it| it.interface).collect();
        let indexes = names.iter().map(String::as_str).zip(1..).collect();
        let topology = compile::topology(&config, &indexes);
        let links = topology.interfaces().into_keys().collect();
        let about = About { abi: 1, mode: Mode::Native, links, shape: 0 };
        let edge = compile::Edge::of(&config, topology);
        let core = Core::new(config, edge, MemoryDataplane::new(8_192), about).unwrap();
        let mut edge = Self { core, now: seconds(1), actions: Vec::new(), notes: Vec::new() };
        names.iter().for_each(|name| edge.carrier(name, true));
        edge
    }

    fn converged() -> Self {
        Self::converged_by(CONFIG)
    }

    /// Every peer has a MAC address and a session, and has announced its prefixes.
    fn converged_by(text: &str) -> Self {
        let mut edge = Self::new(text);
        ALL.into_iter().for_each(|peer| edge.up(peer));
        for peer in ONE.into_iter().chain(TWO) {
            edge.announce(peer, AZURE);
        }
        ONE.into_iter().for_each(|peer| edge.announce(peer, ONLY_ONE));
        edge.announce(CE, CUSTOMER);
        edge.actions.clear();
        edge.notes.clear();
        edge
    }

    fn ifindex(&self, interface: &str) -> u32 {
        self.core.ifindex_of(interface).unwrap()
    }

    fn peer(&self, peer: PeerId) -> config::Peer {
        self.core.peers[usize::from(peer.0)].clone()
    }

    /// A turn of the loop: what a driver does after every fact.
    fn turn(&mut self) {
        self.core.handle_turn(self.now);
        self.core.settle(self.now);
        self.core.end_wait(self.now);
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Note { object, what, .. } => self.notes.push((object, what)),
                action => self.actions.push(action),
            }
        }
    }

    /// Time passes, in ticks of a tenth of a second.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(100);
            self.core.handle_tick(self.now);
            self.turn();
        }
    }

    fn kernel(&mut self, event: KernelEvent) {
        self.core.handle_kernel(event, self.now);
        self.turn();
    }

    fn carrier(&mut self, interface: &str, carrier: bool) {
        let (ifindex, name) = (self.ifindex(interface), interface.to_owned());
        let mac = [2, 0, 0, 0, 1, ifindex as u8];
        self.kernel(KernelEvent::Link(Link { ifindex, name, admin_up: true, carrier, mtu: 1500, mac }));
    }

    fn neighbour(&mut self, peer: PeerId, mac: Option<[u8; 6]>) {
        let peer = self.peer(peer);
        let facts = self.core.forwarding.topology().attachment(peer.attachment).unwrap();
        let (ifindex, address) = (facts.kernel_ifindex(), peer.session.remote);
        self.kernel(KernelEvent::Neighbour { ifindex, address, mac });
    }

    fn say(&mut self, event: PeerEvent) {
        self.core.handle_peer(event, self.now);
        self.turn();
    }

    fn up(&mut self, peer: PeerId) {
        self.neighbour(peer, Some(MAC));
        let session = self.peer(peer).session;
        let facts = SessionFacts {
            session: 1,
            router_id: [198, 19, 0, peer.0 as u8].into(),
            asn: session.remote_asn,
            internal: false,
            families: vec![Family::Ipv4Unicast],
            hold: Seconds(90),
            local: session.local,
            next_hop_v4: None,
            next_hop_v6: None,
            four_octet_asn: true,
            route_refresh: true,
            enhanced_refresh: false,
            extended_messages: false,
            end_of_rib: true,
            restart: None,
            notification_restart: false,
            role: None,
            add_path: Vec::new(),
        };
        self.say(PeerEvent::Established { peer, facts });
    }

    fn down(&mut self, peer: PeerId, kept: Option<Kept>) {
        let session = self.peer(peer).session;
        let reason = DownReason::ConnectTimeout { peer: session.remote, local: session.local, md5: false };
        self.say(PeerEvent::Down { peer, reason, kept });
    }

    fn announce(&mut self, peer: PeerId, prefix: &str) {
        self.announce_with(peer, prefix, &[]);
    }

    fn announce_with(&mut self, peer: PeerId, prefix: &str, communities: &[Community]) {
        let session = self.peer(peer).session;
        let attributes = PathAttributes {
            as_path: AsPath::sequence([session.remote_asn.0]),
            communities: communities.to_vec(),
            ..PathAttributes::originated(session.remote)
        };
        let (announced, attributes) = (vec![prefix.parse().unwrap()], Some(Arc::new(attributes)));
        self.say(PeerEvent::Update { peer, update: Update { announced, attributes, ..Update::default() } });
    }

    fn withdraw(&mut self, peer: PeerId, prefix: &str) {
        let update = Update { withdrawn: vec![prefix.parse().unwrap()], ..Update::default() };
        self.say(PeerEvent::Update { peer, update });
    }

    /// The interfaces over which packets of some flows to a host leave, or why they are dropped.
    fn ways(&self, from: &str, to: &str) -> BTreeSet<String> {
        let source = if from == "ce0" { "192.168.0.9" } else { "10.1.0.9" };
        let (source, to): (IpAddr, IpAddr) = (source.parse().unwrap(), to.parse().unwrap());
        let way = |port: u16| {
            let question = Question { from: source, to, ports: (port, 7), hop_limit: 64, tags: [None; 2] };
            let frame = question.frame().unwrap();
            let answer = self.core.dataplane.ask(self.ifindex(from), &frame).unwrap();
            match answer.drop_reason() {
                Some(reason) => reason.label().to_owned(),
                None => {
                    let key = self.core.forwarding.next_hop_key(answer.trace.next_hop).unwrap();
                    self.core.forwarding.topology().attachment(key.attachment).unwrap().interface.clone()
                }
            }
        };
        (0..64).map(way).collect()
    }

    /// What a peer is sent now, as `+prefix` and `-prefix`.
    fn told(&mut self, peer: PeerId) -> Vec<String> {
        let mut words = Vec::new();
        self.core.collect_updates(peer);
        while let Some((_, update)) = self.core.next_update(peer) {
            words.extend(update.withdrawn.iter().map(|prefix| format!("-{prefix}")));
            words.extend(update.announced.iter().map(|prefix| format!("+{prefix}")));
        }
        words
    }

    /// The orders that a session has got since the last call.
    fn orders(&mut self, peer: PeerId) -> Vec<PeerCommand> {
        let (its, others) = std::mem::take(&mut self.actions)
            .into_iter()
            .partition(|action| matches!(action, Action::Order(of, _) if *of == peer));
        self.actions = others;
        let command = |action| match action {
            Action::Order(_, command) => Some(command),
            _ => None,
        };
        Vec::into_iter(its).filter_map(command).collect()
    }

    /// What an asker has found before an order about these sessions is judged.
    fn found(&self, peers: &[PeerId]) -> OnlyHere {
        let reach: Vec<_> = self.core.customers_domains().collect();
        let all = self.core.domains_of(peers).into_iter();
        let all =
            all.flat_map(|domain| self.core.rib.reached(domain).into_iter().map(move |it| (it, domain)));
        let only = all.filter(|(prefix, domain)| self.core.is_only_over(&reach, peers, *prefix, *domain));
        let examples: Vec<String> = only.map(|(prefix, _)| prefix.to_string()).collect();
        OnlyHere { peers: peers.to_vec(), count: examples.len(), examples }
    }

    /// Takes a peering out of service, not by force.
    fn disable(&mut self, name: &str, text: &str, drain: Duration) -> Result<Vec<PeerId>, String> {
        let found = self.found(&self.core.peers_named(name)?);
        self.core.disable(name, text, drain, Some(Some(&found)), self.now).map(|(taken, _)| taken)
    }

    /// Resets sessions, not by force.
    fn reset(&mut self, name: &str, text: &str) -> Result<Vec<PeerId>, String> {
        let found = self.found(&self.core.peers_to_reset(name)?);
        self.core.reset(name, text, Some(Some(&found)), self.now).map(|(taken, _)| taken)
    }

    /// Begins a drill, not by force.
    fn drill(&mut self, link: &str, seconds: u64) -> Result<(), String> {
        let found = self.found(&self.core.target(link)?.peers);
        self.core.begin_drill(link, seconds, Some(Some(&found)), self.now)
    }

    fn apply(&mut self, text: &str) -> Result<(), String> {
        let (config, _) = Config::parse(text, Path::new("erdp.toml")).unwrap();
        let ending = self.core.leave_circuits(&config, self.now);
        self.core.silence(ending);
        let before = self.core.exchange(config, self.now);
        self.turn();
        before.map(drop)
    }
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}
