//! Where the time of a full table goes: the controller's own stages, one after another in one thread, without a kernel, a socket or a
//! program. What is counted is the CPU time of each, so that a busy machine disturbs it less than it disturbs a load by TCP.
//!
//! The stages are the daemon's: two sessions decode the same streams as in [`super::table`], the RIB takes what they say, decides, and
//! the forwarding state writes its trie, into plain memory instead of a map. As many updates are settled at once as the controller takes.

use std::{fmt, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use erdp::{
    bgp::{Action, ConnId, Moment, PeerEvent, PeerId, Session, State, Update, wire},
    compile::attachment_facts,
    config::{self, Config},
    controller::Share,
    core::targets,
    dataplane::memory::MemoryDataplane,
    fib::{Forwarding, Topology},
    rib::{Rib, RibConfig},
    types::{AttachmentId, PathSource},
};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::{receiver::edge_configuration, stage, stream, table::Feed};
use crate::bench::routes::Version;

/// Bytes read at once, as the driver does it.
const READ_BYTES: usize = 64 * 1024;
/// Room for two full tables.
const FIB_BLOCKS: u32 = 65_536;

/// CPU seconds of each stage for one table.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stages {
    /// Bytes to updates.
    pub decode_s: f64,
    /// Updates into the table of what the peer has said.
    pub store_s: f64,
    /// The decision process, and what follows from it for the packet path.
    pub decide_s: f64,
    /// Decisions in the forwarding state's terms.
    pub translate_s: f64,
    /// The forwarding state and the trie.
    pub write_s: f64,
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decode_s, store_s, decide_s, translate_s, write_s } = self;
        write!(
            f,
            "decode {decode_s:.2}; store {store_s:.2}, decide {decide_s:.2}, translate {translate_s:.2}, write {write_s:.2}"
        )?;
        write!(f, ": controller {:.2}", self.controller_s())
    }
}

/// What another policy costs where full tables are loaded (B11).
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// What it does.
    pub what: &'static str,
    /// Routes that came or went.
    pub routes: u64,
    /// CPU seconds until every route is judged by it.
    pub judged_s: f64,
    /// CPU seconds until the trie has what follows, that included: for so long no other update is heard.
    pub whole_s: f64,
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, routes, judged_s, whole_s } = self;
        write!(f, "{what}: {routes} routes; judged in {judged_s:.2}, in the trie after {whole_s:.2}")
    }
}

/// The tables from one MSEE, and then policies that refuse a part and all of them, and take them again.
///
/// # Errors
/// When the tables find no room.
pub fn exchanges(feeds: &[Feed; 2]) -> Result<Vec<Exchange>> {
    let streams = feeds.each_ref().map(|feed| feed.announced[0].bytes.as_slice());
    let peers =
        [Version::V4, Version::V6].map(|it| (stage::next_hop(0, it), stream::open(it, [198, 18, 0, 2])));
    let plain = edge_configuration(0);
    let refusing = |condition: &str| {
        let attached = plain.replacen("[circuit.private]\n", "[circuit.private]\npolicy-in = \"p\"\n", 1);
        format!("{attached}[[policy]]\nname = \"p\"\n[[policy.rule]]\n{condition}\nrefuse = \"measured\"\n")
    };
    let mut edge = Edge::new(&plain, &peers)?;
    edge.read(&streams)?;
    let steps = [
        ("each IPv4 /22 is refused", refusing("prefixes = [\"0.0.0.0/0 ge 22 le 22\"]")),
        ("and taken again", plain.clone()),
        ("everything is refused", refusing("")),
        ("and taken again", plain.clone()),
    ];
    steps.into_iter().map(|(what, text)| edge.exchange(what, &text)).collect()
}

/// The table from one MSEE; the least of three times is the one that was disturbed least.
///
/// # Errors
/// When not all of it is in the trie.
pub fn table(feeds: &[Feed; 2]) -> Result<Stages> {
    let streams = feeds.each_ref().map(|feed| feed.announced[0].bytes.as_slice());
    let prefixes: u64 = feeds.iter().map(|feed| feed.announced[0].prefixes as u64).sum();
    let peers =
        [Version::V4, Version::V6].map(|it| (stage::next_hop(0, it), stream::open(it, [198, 18, 0, 2])));
    let mut least: Option<Stages> = None;
    for _ in 0..3 {
        let mut edge = Edge::new(&edge_configuration(0), &peers)?;
        let before = edge.routes();
        let spent = edge.read(&streams)?;
        ensure!(edge.routes() - before == prefixes, "{} of {prefixes} routes", edge.routes() - before);
        least = least.filter(|least| least.controller_s() <= spent.controller_s()).or(Some(spent));
    }
    least.context("no round")
}

impl Stages {
    /// What the task that owns all state does; decoding is done by the peers' tasks.
    pub fn controller_s(&self) -> f64 {
        self.store_s + self.decide_s + self.translate_s + self.write_s
    }
}

/// A peer's session, established.
struct Peer {
    id: PeerId,
    session: Session,
    conn: ConnId,
    updates: Vec<Update>,
}

impl Peer {
    /// Brings the session up with the far end's OPEN, and the RIB's idea of the peer with it.
    fn up(peer: config::Peer, open: &wire::Open, rib: &mut Rib) -> Result<Self> {
        let mut session = Session::new(peer.session.clone(), 1);
        session.handle_start(Moment::default());
        let conn = session.handle_accepted(Moment::default());
        let hello = [wire::encode_open(open)?, wire::encode_keepalive()].concat();
        session.handle_bytes(Moment::default(), conn, &hello);
        while let Some(action) = session.poll_action() {
            if let Action::Tell(PeerEvent::Established { peer, facts }) = action {
                rib.peer_up(peer, &facts);
            }
        }
        ensure!(session.state() == State::Established, "no session: {:?}", session.last_error());
        Ok(Self { id: peer.session.id, session, conn, updates: Vec::new() })
    }

    fn read(&mut self, bytes: &[u8], share: &mut Share) {
        self.session.handle_bytes(Moment::default(), self.conn, bytes);
        while let Some(action) = self.session.poll_action() {
            let Action::Tell(event) = action else { continue };
            share.add(&event);
            if let PeerEvent::Update { update, .. } = event {
                self.updates.push(update);
            }
        }
    }
}

/// The controller's state without its surroundings.
pub struct Edge {
    rib: Rib,
    forwarding: Forwarding,
    dataplane: MemoryDataplane,
    attachments: Vec<AttachmentId>,
    peers: Vec<Peer>,
    spent: Stages,
    settled: u64,
}

impl Edge {
    /// One with a session to each of these addresses.
    ///
    /// # Errors
    /// When the configuration has no such peer.
    pub fn new(configuration: &str, peers: &[(IpAddr, wire::Open)]) -> Result<Self> {
        let (config, _) = Config::parse(configuration, Path::new("bench.toml"))?;
        let facts = config.attachments();
        let facts = facts.iter().zip(1..).map(|(it, ifindex)| attachment_facts(&config, it, ifindex));
        let mut dataplane = MemoryDataplane::new(FIB_BLOCKS);
        let forwarding = Forwarding::new(Topology::new(facts.collect()), &mut dataplane)?;
        let mut rib = Rib::new(RibConfig::new(&config));
        let all = config.peers();
        let attachments = all.iter().map(|peer| peer.attachment).collect();
        let up = |(remote, open): &(IpAddr, wire::Open)| {
            let peer = all.iter().find(|peer| peer.session.remote == *remote).context("no such peer")?;
            Peer::up(peer.clone(), open, &mut rib)
        };
        let peers = peers.iter().map(up).collect::<Result<_>>()?;
        Ok(Self { rib, forwarding, dataplane, attachments, peers, spent: Stages::default(), settled: 0 })
    }

    /// Each peer reads its stream, all at the same rate for its length; the answer is what that took.
    ///
    /// # Errors
    /// When the trie is full.
    pub fn read(&mut self, streams: &[&[u8]]) -> Result<Stages> {
        self.spent = Stages::default();
        let reads = streams.iter().map(|stream| stream.len()).max().unwrap_or(0).div_ceil(READ_BYTES);
        let mut share = Share::default();
        for at in 0..reads {
            for (peer, stream) in self.peers.iter_mut().zip(streams) {
                let part = |at: usize| stream.len() * at / reads;
                clocked(&mut self.spent.decode_s, || peer.read(&stream[part(at)..part(at + 1)], &mut share));
            }
            if share.is_whole() {
                share = Share::default();
                self.settle()?;
            }
        }
        self.settle()?;
        Ok(self.spent)
    }

    /// Another configuration with the same peers.
    fn exchange(&mut self, what: &'static str, configuration: &str) -> Result<Exchange> {
        let (config, _) = Config::parse(configuration, Path::new("bench.toml"))?;
        let (before, mut judged_s) = (self.routes(), 0.0);
        clocked(&mut judged_s, || self.rib.reconfigure(RibConfig::new(&config)));
        self.spent = Stages::default();
        self.settle()?;
        let whole_s = judged_s + self.spent.controller_s();
        Ok(Exchange { what, routes: self.routes().abs_diff(before), judged_s, whole_s })
    }

    /// How many routes the tries have.
    pub fn routes(&self) -> u64 {
        self.forwarding.sizes().get("routes").copied().unwrap_or_default()
    }

    fn settle(&mut self) -> Result<()> {
        let Self { rib, forwarding, dataplane, attachments, peers, spent, .. } = self;
        let attachment_of = |source: PathSource| attachments.get(usize::from(source.peer()?.0)).copied();
        // As many nanoseconds after the last one as it takes about: retired lines become free again.
        self.settled += 1;
        let now_ns = self.settled * Duration::from_millis(20).as_nanos() as u64;
        clocked(&mut spent.store_s, || {
            for peer in &mut *peers {
                peer.updates.drain(..).for_each(|update| rib.update(peer.id, update));
            }
        });
        let changes = clocked(&mut spent.decide_s, || rib.take_fib_changes());
        let changes = clocked(&mut spent.translate_s, || targets::of(changes, attachment_of));
        clocked(&mut spent.write_s, || forwarding.routes(changes, now_ns, dataplane))?;
        clocked(&mut spent.decide_s, || {
            for peer in peers.iter() {
                // Nobody else is there whom anything could be told.
                drop(rib.take_outgoing(peer.id));
            }
        });
        Ok(())
    }
}

/// Adds the thread's CPU time that some work takes.
fn clocked<T>(to: &mut f64, work: impl FnOnce() -> T) -> T {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    let before = now();
    let done = work();
    *to += (now() - before).as_secs_f64();
    done
}
