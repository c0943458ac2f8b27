//! The edge under test: the core, the session machines and the BFD machines of the router itself, over maps in memory. What its daemon does with
//! sockets, [`super::world`] does with wires.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use erdp::{
    bfd::{
        SessionConfig, SessionId,
        record::{self, MULTIPLIER_MIN},
        recorded::Recorded,
        session::{Nanos, Parameters},
    },
    bgp::{PeerConfig, PeerId, Session, State},
    compile::{self, limits},
    config::Config,
    core::{Core, OnlyHere},
    dataplane::{
        Dataplane as _, DataplaneError, Mode, memory::MemoryDataplane, pins::About, question::Question,
    },
    fib::Topology,
};
use erdp_common::{
    abi::{ABI_VERSION, BfdSession, PeerKey},
    bfd::wire::State as BfdState,
    reason::DropReason,
};
use ipnet::IpNet;

use super::{
    Time, duration,
    plan::{PLACES, Variant, ifindex},
    planted::{Before, Plant, Planted},
};

/// Blocks of the forwarding table.
const BLOCKS: u32 = 12_288;

/// Where a question has its source port: behind Ethernet and IPv4.
const SOURCE_PORT_AT: usize = 14 + 20;

/// The edge.
pub struct Edge {
    /// What decides.
    pub core: Core<Planted>,
    /// What forwards, shared with the core.
    pub maps: MemoryDataplane,
    /// The records of BFD sessions, shared with both.
    pub records: Arc<[BfdSession]>,
    /// BGP, by the neighbours' places.
    pub sessions: Vec<Option<Session>>,
    /// Whose sessions were established when the process died.
    up: BTreeSet<usize>,
    /// BFD, each with the neighbour's place.
    pub bfd: Vec<(usize, Recorded)>,
    /// The core was told something that has not been followed up by a turn.
    pub is_told: bool,
    /// What the core wanted done.
    pub actions: u64,
    /// UPDATE messages sent.
    pub updates: u64,
    /// The configuration in use.
    pub variant: Variant,
    /// What forwards until this process has taken over.
    before: Option<Before>,
    /// The process has died, and the packet path goes on without it.
    pub is_down: bool,
    /// Packets to ask about, by source and destination.
    questions: RefCell<HashMap<(IpAddr, IpAddr), Vec<u8>>>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To this neighbour, if it has this MAC address.
    To(usize, [u8; 6]),
    /// Nowhere.
    Dropped(DropReason),
    /// To the edge's kernel, or out where nobody is.
    Astray,
}

impl Edge {
    /// As configured, with nothing known of the kernel or of neighbours; `dead`: a process that has died before it, whose packet path goes on.
    pub fn new(
        variant: Variant,
        plant: Option<Plant>,
        now: Time,
        seed: u64,
        dead: Option<&Self>,
    ) -> Result<Self> {
        let config = config(variant, plant)?;
        let indexes: HashMap<&str, u32> =
            PLACES.iter().enumerate().map(|(at, place)| (place.interface, ifindex(at))).collect();
        let topology = compile::topology(&config, &indexes);
        check_places(&config)?;
        let maps = MemoryDataplane::new(BLOCKS);
        maps.set_clock(now << 8);
        if let Some(dead) = dead {
            maps.with_tables(|tables| tables.bfd_sessions = dead.records.clone());
        }
        let before = dead.map(|dead| Before { maps: dead.forwards().clone(), is_over: Arc::default() });
        let mut dataplane = Planted::new(maps.clone(), before.clone(), plant);
        for record in limits::records(&config, now << 8) {
            dataplane.write(&record)?;
        }
        let records = maps.with_tables(|tables| tables.bfd_sessions.clone());
        let bfd = bfd_sessions(&config, &topology, &records, now);
        let peers = config.peers();
        let mut core = new_core(config, topology, dataplane)?;
        core.announce_bfd(&bfd)?;
        let recorded = |config: SessionConfig| {
            let record = &records[usize::from(config.id.0)];
            (usize::from(config.id.0) - 1, Recorded::new(config, record, 49_152, Nanos(now)))
        };
        let bfd = bfd.into_iter().map(recorded).collect();
        if let Some(dead) = dead {
            let was_up = |peer: &&erdp::config::Peer| dead.up.contains(&usize::from(peer.session.id.0));
            let expected: Vec<PeerKey> = peers.iter().filter(was_up).map(compile::peer_key).collect();
            core.wait_for(&expected, Duration::ZERO, duration(now));
        }
        let is_restart = dead.is_some();
        let session = |(at, peer): (u64, erdp::config::Peer)| {
            let config =
                PeerConfig { restarting: is_restart, forwarding_preserved: is_restart, ..peer.session };
            Some(Session::new(config, seed.wrapping_add(at)))
        };
        Ok(Self {
            core,
            maps,
            sessions: (0..).zip(peers).map(session).collect(),
            up: BTreeSet::new(),
            bfd,
            records,
            is_told: false,
            actions: 0,
            updates: 0,
            variant,
            before,
            is_down: false,
            questions: RefCell::default(),
        })
    }

    /// The maps by which packets are forwarded now.
    pub fn forwards(&self) -> &MemoryDataplane {
        match &self.before {
            Some(before) if !before.is_over.load(Ordering::Relaxed) => &before.maps,
            _ => &self.maps,
        }
    }

    /// Whether the process before still forwards, or a dead one does.
    pub fn is_without_its_own(&self) -> bool {
        self.is_down || self.before.as_ref().is_some_and(|before| !before.is_over.load(Ordering::Relaxed))
    }

    /// The time of the packet path.
    pub fn set_clock(&self, now: Time) {
        self.maps.set_clock(now << 8);
        if let Some(before) = &self.before {
            before.maps.set_clock(now << 8);
        }
    }

    /// The process dies; what it has written stays.
    pub fn die(&mut self) {
        let is_up = |(_, session): &(usize, &Option<Session>)| {
            session.as_ref().is_some_and(|it| it.state() == State::Established)
        };
        self.up = self.sessions.iter().enumerate().filter(is_up).map(|(place, _)| place).collect();
        self.is_down = true;
        self.is_told = false;
        self.sessions.iter_mut().for_each(|session| *session = None);
        self.bfd.clear();
    }

    /// Where a packet that comes in on an interface goes, by the maps alone.
    pub fn way(&self, from: usize, source: IpAddr, to: IpAddr, port: u16) -> Way {
        let answer = self.question(source, to, port).and_then(|it| self.forwards().ask(ifindex(from), &it));
        let Ok(answer) = answer else { return Way::Astray };
        if let Some(reason) = answer.drop_reason() {
            return Way::Dropped(reason);
        }
        let attachment = self.forwards().with_tables(|tables| {
            tables.next_hops.get(usize::from(answer.trace.next_hop)).map(|it| usize::from(it.attachment))
        });
        let mac = answer.frame.first_chunk::<6>().copied();
        match (attachment.and_then(|it| it.checked_sub(1)).filter(|it| *it < PLACES.len()), mac) {
            (Some(place), Some(mac)) if answer.verdict() == "transmit" => Way::To(place, mac),
            _ => Way::Astray,
        }
    }

    /// A packet to ask about. All flows between two addresses differ in their source port alone, which is put into the packet of the first one; no
    /// stage of the packet path looks at the checksum of UDP.
    fn question(&self, from: IpAddr, to: IpAddr, port: u16) -> Result<Vec<u8>, DataplaneError> {
        let mut known = self.questions.borrow_mut();
        let mut frame = match known.get(&(from, to)) {
            Some(frame) => frame.clone(),
            None => {
                let first =
                    Question { from, to, ports: (port, 7), hop_limit: 64, tags: [None; 2] }.frame()?;
                known.insert((from, to), first.clone());
                first
            }
        };
        if let Some(source) = frame.get_mut(SOURCE_PORT_AT..SOURCE_PORT_AT + 2) {
            source.copy_from_slice(&port.to_be_bytes());
        }
        Ok(frame)
    }

    /// The state of BFD with a neighbour, and for how long it has been in it.
    pub fn bfd_state(&self, place: usize, now: Time) -> Option<(BfdState, Time)> {
        let (_, recorded) = self.bfd.iter().find(|(of, _)| *of == place)?;
        Some((recorded.session().state(), now.saturating_sub(recorded.since().0)))
    }

    /// Whether the routing base has a route for a customer's packet.
    pub fn rib_leads(&self, domains: &[usize], prefix: IpNet) -> bool {
        let rib = self.core.rib();
        let ids = rib.config().domains.iter().map(|domain| domain.id);
        ids.filter(|id| domains.contains(&usize::from(id.0))).any(|id| rib.route(id, prefix).is_some())
    }

    /// What an operator's order about these sessions is judged by.
    pub fn found(&self, peers: &[PeerId]) -> OnlyHere {
        let reach: Vec<_> = self.core.customers_domains().collect();
        let domains = self.core.domains_of(peers).into_iter();
        let all = domains.flat_map(|domain| {
            self.core.rib().reached(domain).into_iter().map(move |prefix| (prefix, domain))
        });
        let only = all.filter(|(prefix, domain)| self.core.is_only_over(&reach, peers, *prefix, *domain));
        let examples: Vec<String> = only.map(|(prefix, _)| prefix.to_string()).collect();
        OnlyHere { peers: peers.to_vec(), count: examples.len(), examples }
    }

    /// The places of an operator's name.
    pub fn places(&self, name: &str) -> BTreeSet<usize> {
        let peers = self.core.peers_named(name).unwrap_or_default();
        peers.into_iter().map(|peer| usize::from(peer.0)).collect()
    }

    /// Applies a configuration as the daemon does.
    pub fn apply(&mut self, variant: Variant, plant: Option<Plant>, now: Time) -> Result<(), String> {
        self.core.is_no_drill()?;
        let config = config(variant, plant).map_err(|error| error.to_string())?;
        let ending = self.core.leave_circuits(&config, duration(now));
        self.core.silence(ending);
        self.core.exchange(config, duration(now))?;
        self.variant = variant;
        Ok(())
    }
}

/// A configuration as it is read.
pub fn config(variant: Variant, plant: Option<Plant>) -> Result<Config> {
    let mut text = variant.text();
    if plant == Some(Plant::WrongRank) {
        text = text.replace("\"one/private\", \"two/private\"", "\"two/private\", \"one/private\"");
    }
    let (config, _) = Config::parse(&text, Path::new("erdp.toml"))?;
    Ok(config)
}

fn new_core(config: Config, topology: Topology, dataplane: Planted) -> Result<Core<Planted>> {
    let links = topology.interfaces().into_keys().collect();
    let about = About { abi: ABI_VERSION, mode: Mode::Native, links, shape: 0 };
    let edge = compile::Edge::of(&config, topology);
    Ok(Core::new(config, edge, dataplane, about)?)
}

/// A neighbour's place is the number of its peer, and its attachment's less one.
fn check_places(config: &Config) -> Result<()> {
    let attachments = config.attachments();
    for (at, peer) in config.peers().iter().enumerate() {
        let attachment = attachments.get(peer.attachment.index()).context("a peer without an attachment")?;
        let place = PLACES.get(at).context("a peer that the plan does not have")?;
        ensure!(
            (attachment.interface.as_str(), usize::from(attachment.id.number())) == (place.interface, at + 1)
                && usize::from(peer.session.id.0) == at,
            "{} is not where the plan has it",
            peer.name
        );
    }
    Ok(())
}

/// Number and place of a session are one apart.
fn bfd_sessions(
    config: &Config,
    topology: &Topology,
    records: &[BfdSession],
    now: Time,
) -> Vec<SessionConfig> {
    let peers = config.peers();
    let session = |(at, peer): (usize, &erdp::config::Peer)| {
        let bfd = peer.bfd?;
        let interface = topology.attachment(peer.attachment)?.interface.clone();
        let parameters = Parameters {
            interval_us: bfd.interval_us,
            multiplier: bfd.multiplier,
            discriminator: match record::discriminator(&records[at + 1]) {
                0 => (now / 1_000_000) as u32 + at as u32,
                before => before,
            },
            is_independent: bfd.absence_s > 0 && bfd.multiplier >= MULTIPLIER_MIN,
        };
        Some(SessionConfig {
            id: SessionId(at as u16 + 1),
            parameters,
            local: peer.session.local,
            remote: peer.session.remote,
            interface,
            attachment: peer.attachment.number(),
            strict: bfd.strict,
            absence_s: bfd.absence_s,
        })
    };
    peers.iter().enumerate().filter_map(session).collect()
}
