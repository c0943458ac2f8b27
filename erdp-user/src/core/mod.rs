//! The core: everything that the controller decides, and the state that it decides on. Facts come in with their time, and what is to be
//! done comes out; it has no clock, no task and no socket of its own, and reaches the packet path by [`Dataplane`] alone. So a whole edge
//! runs in a unit test, in virtual time, without privilege (`tests`).
//!
//! # The order of a turn
//! | step | what | by |
//! |---|---|---|
//! | 1 | a fact changes state: a link, a neighbour, a route, a session. Liveness of a link is in the maps before this returns | `handle_*` |
//! | 2 | what a clock makes due, ten times a second: links that the maps alone know to be dead, neighbours, drains, minimum links | [`Core::handle_tick`] |
//! | 3 | links that may be used again, the drill, sessions that follow their carrier | [`Core::handle_turn`] |
//! | 4 | the routing base decides, peers with too many prefixes are judged, routes go to the maps | [`Core::settle`] |
//! | 5 | orders to sessions, BFD and the kernel; events for the log | [`Core::poll_action`] |
//! | 6 | routes to peers, as fast as each takes them | [`Core::collect_updates`], [`Core::next_update`] |
//! | 7 | after a restart: whether the program before may be replaced | [`Core::end_wait`] |
//!
//! Files: `links` (carriers, damping, names), `interfaces` (those that come and go), `carriers` (sessions that follow them), `sessions` (what
//! peers say), `bfd`, `pairs` (facts about a circuit's two links), `minimum`, `peering` and `drill` (what is taken out of service), `admin`
//! (circuits that are disabled), `named` (operators' names of all these), `limits` (bandwidth), `exchange` (another configuration),
//! `excess` (too many prefixes), `miscabling`, `search` (what only some sessions lead to), `kernel_routes`, `targets` (decisions as forwarding takes them), `asked` (what a verdict came from), `inherit` (until when the
//! program before forwards).
//!
//! What must never happen: that a decision waits for anything, or depends on a time that it was not given.

mod admin;
mod asked;
mod bfd;
mod carriers;
mod drill;
mod excess;
mod exchange;
mod inherit;
mod interfaces;
mod kernel_routes;
mod limits;
mod links;
mod minimum;
mod miscabling;
mod named;
mod pairs;
mod peering;
mod search;
mod sessions;
pub mod targets;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

pub use self::search::OnlyHere;
pub(crate) use self::{
    drill::Running as RunningDrill, interfaces::Fault as InterfaceFault,
    kernel_routes::Refused as NotTakenHop, sessions::Outbox,
};
use crate::{
    bfd::SessionId,
    bgp::{Cease, Moment, PeerCommand, PeerConfig, PeerId},
    compile::Edge,
    config::{self, Config, Domain},
    dataplane::{Dataplane, pins::About},
    events::Kind,
    fib::{FibError, Forwarding, NextHopKey, Wish},
    kernel::Link,
    miscabling::Miscabling,
    redundancy::Redundancy,
    rib::Rib,
    types::{AttachmentId, PathSource},
};

/// What is to be done outside of the core, in the order in which it comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give a session an order, now or as soon as its task takes it.
    Order(PeerId, PeerCommand),
    /// A session ends by a change of the configuration, and what waits for it is not for the next one.
    EndSession(PeerId, Cease),
    /// A session begins.
    BeginSession(Box<PeerConfig>),
    /// A session need not wait for its next attempt; nothing is lost if its task has no room for this.
    Expedite(PeerId),
    /// An operator takes a BFD session down (`true`), or puts it back in service.
    BfdAdmin(SessionId, bool),
    /// BGP is up without BFD: the session has no say about the next hop until it is up itself.
    BfdJudgeNothing(SessionId),
    /// The control ports on an interface are to follow its MAC address and MTU.
    ShapeControlPorts(u32),
    /// Events of the kernel were lost: read everything again.
    Resync,
    /// A peer was sent away for too many prefixes: note its wait.
    ExpectAway(PeerId),
    /// An operator has put a session back in service: a wait of its peer is over.
    ForgiveAway(PeerId),
    /// Many routes have gone: give their memory back to the system.
    GiveBackMemory,
    /// Something has changed that an operator may want to know of later: log it.
    Note {
        /// What.
        kind: Kind,
        /// Of what.
        object: String,
        /// How it is now.
        what: String,
        /// Why, where that is known.
        why: Option<String>,
    },
}

/// Everything that is decided on, over a packet path.
pub struct Core<D> {
    pub(crate) config: Config,
    pub(crate) domains: Vec<Domain>,
    pub(crate) attachments: Vec<config::Attachment>,
    /// At the place of its identifier each; those of [`Self::vacant`] have been removed while the router ran.
    pub(crate) peers: Vec<config::Peer>,
    pub(crate) vacant: BTreeSet<PeerId>,
    pub(crate) outboxes: Vec<Outbox>,
    pub(crate) rib: Rib,
    pub(crate) forwarding: Forwarding,
    pub(crate) dataplane: D,
    pub(crate) kernel_routes: kernel_routes::KernelRoutes,
    pub(crate) links: HashMap<u32, Link>,
    pub(crate) about: About,
    /// Set while the program before us forwards.
    pub(crate) inherited: Option<inherit::Inherited>,
    /// Neighbours whose MAC address is known.
    pub(crate) resolved: BTreeSet<NextHopKey>,
    miscabling: Miscabling,
    /// Whose BFD session is whose.
    pub(crate) bfd_peers: HashMap<SessionId, PeerId>,
    announced: interfaces::Announced,
    /// Sessions that are established.
    established: BTreeSet<PeerId>,
    /// What may carry traffic.
    pub(crate) redundancy: Redundancy,
    pub(crate) drill: Option<drill::Running>,
    /// The time of the fact in hand, since the start.
    now: Duration,
    actions: VecDeque<Action>,
}

impl<D: Dataplane> Core<D> {
    /// Everything written that does not depend on the kernel's facts or on peers: attachments, connected subnets, who may speak BGP.
    ///
    /// # Errors
    /// What the packet path refuses.
    pub fn new(config: Config, edge: Edge, mut dataplane: D, about: About) -> Result<Self, FibError> {
        let Edge { domains, attachments, peers, topology, rib, speakers, missing, takers } = edge;
        let mut forwarding = Forwarding::new(topology, &mut dataplane)?;
        forwarding.connect(0, &mut dataplane)?;
        forwarding.guard(0, &mut dataplane)?;
        // Those with BFD are written with their session's number, by `announce_bfd`.
        for speaker in speakers {
            dataplane.write(&speaker)?;
        }
        let mut rib = Rib::new(rib);
        missing.iter().for_each(|attachment| rib.connect(*attachment, false));
        Ok(Self {
            outboxes: vec![Outbox::default(); peers.len()],
            kernel_routes: kernel_routes::KernelRoutes::new(takers),
            links: HashMap::new(),
            inherited: None,
            resolved: BTreeSet::new(),
            miscabling: Miscabling::default(),
            bfd_peers: HashMap::new(),
            announced: interfaces::Announced::default(),
            established: BTreeSet::new(),
            redundancy: Redundancy::default(),
            drill: None,
            vacant: BTreeSet::new(),
            now: Duration::ZERO,
            actions: VecDeque::new(),
            config,
            domains,
            attachments,
            peers,
            rib,
            forwarding,
            dataplane,
            about,
        })
    }

    /// What a clock makes due, ten times a second.
    pub fn handle_tick(&mut self, now: Duration) {
        self.now = now;
        self.note_dead_links();
        self.renew_returned();
        self.advance_peerings();
        self.note_drains();
        self.judge_minimums();
    }

    /// What follows from any fact, before routes are decided.
    pub fn handle_turn(&mut self, now: Duration) {
        self.now = now;
        self.release_links();
        self.advance_drill();
        self.follow_carriers();
    }

    /// Decides routes and carries them to the maps.
    pub fn settle(&mut self, now: Duration) {
        self.now = now;
        self.rib.tick(Moment(now));
        self.note_ignored();
        self.act_on_excess();
        self.note_guard();
        self.write_routes();
        let now_ns = self.now_ns();
        self.log_failure(|it| it.forwarding.retry(now_ns, &mut it.dataplane));
    }

    /// What is to be done next outside of the core.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The routing base, to be read.
    pub fn rib(&self) -> &Rib {
        &self.rib
    }

    /// What forwards, to be read.
    pub fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }

    /// What is to be done about neighbours since the last call.
    pub fn take_wishes(&mut self) -> Vec<Wish> {
        self.forwarding.take_wishes()
    }

    /// What the routing base has decided, to the maps.
    fn write_routes(&mut self) {
        let (changes, now_ns) = (self.fib_changes(), self.now_ns());
        self.log_failure(|it| it.forwarding.routes(changes, now_ns, &mut it.dataplane));
    }

    /// The same in the forwarding state's terms.
    fn fib_changes(&mut self) -> Vec<targets::Change> {
        let changes = self.rib.take_fib_changes();
        for change in &changes {
            self.forwarding.rank(usize::from(change.domain.0), change.prefix, change.preference);
        }
        targets::of(changes, |source| self.attachment_of(source))
    }

    /// The attachment that a peer's routes lead through, or the kernel's.
    pub(crate) fn attachment_of(&self, source: PathSource) -> Option<AttachmentId> {
        match source {
            PathSource::Peer(id) => self.peers.get(usize::from(id.0)).map(|peer| peer.attachment),
            PathSource::Kernel(attachment) | PathSource::Static(attachment) => Some(attachment),
        }
    }

    /// Sets the time of what is asked next.
    pub(crate) fn at(&mut self, now: Duration) -> &mut Self {
        self.now = now;
        self
    }

    fn now_ns(&self) -> u64 {
        self.now.as_nanos() as u64
    }

    /// The name of an attachment for operators.
    pub(crate) fn name_of(&self, attachment: AttachmentId) -> &str {
        self.forwarding.topology().attachment(attachment).map_or("?", |facts| &facts.name)
    }

    /// Whether an interface is in use and carries.
    pub(crate) fn is_up(&self, interface: &str) -> bool {
        let link = self.ifindex_of(interface).and_then(|ifindex| self.links.get(&ifindex));
        link.is_some_and(Link::is_alive)
    }

    /// The MAC address of an interface that is in use and has one.
    pub(crate) fn mac_of(&self, interface: &str) -> Option<[u8; 6]> {
        let link = self.ifindex_of(interface).and_then(|ifindex| self.links.get(&ifindex));
        link.map(|link| link.mac).filter(|mac| *mac != [0; 6])
    }

    fn note(&mut self, kind: Kind, object: &str, what: &str, why: Option<&str>) {
        let (object, what, why) = (object.to_owned(), what.to_owned(), why.map(str::to_owned));
        self.actions.push_back(Action::Note { kind, object, what, why });
    }

    fn order(&mut self, peer: PeerId, command: PeerCommand) {
        self.actions.push_back(Action::Order(peer, command));
    }

    pub(crate) fn log_failure<E: std::fmt::Display>(&mut self, act: impl FnOnce(&mut Self) -> Result<(), E>) {
        if let Err(error) = act(self) {
            tracing::error!(%error, "writing the packet path's maps");
        }
    }
}
