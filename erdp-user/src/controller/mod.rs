//! The controller: one task that owns the RIB, the forwarding state and the maps. Everything reaches it as a message, so there
//! is no lock and no order to get wrong.
//!
//! Files: [`start`] (what is checked and set up, in which order, and how all of it is undone), [`estate`] (what an edge before us
//! has left), [`inherit`] (until when its program forwards), [`hand_over`] (one process gives another everything), [`successor`] (a daemon
//! starts that other process itself), [`reconcile`] (the maps are what was written), `questions` (what a turn does for whoever asks), [`answers`] (what `erdp show` and
//! `erdp explain` see), `lists` (what of that has no bound, in pages), `lookups` (which of it is meant, and one peer), `orders` (what sessions are to do), [`limits`] (policers and QoS profiles of the circuits), `change`
//! (`erdp set`), `configure` (`erdp config`), `admin` (circuits that are disabled), `unsaved` (what of that the daemon's file has not), `kept` (what of all that outlives the
//! daemon), `peering`, `named` and `drill` (what an operator
//! takes out of use), `bfd` (what its thread says), `carriers` (what a link's carrier means for sessions), `parts` (the threads and tasks that must
//! live), `control_ports` (the kernel's way to tagged attachments), `interfaces` (those that are not there), `drops` (the last dropped frames), `noted` (the event log),
//! `excess` (peers that announce too much), `miscabling` (what those of ARP say of a link), `kernel_routes` (the kernel as a source of
//! routes), [`targets`] (the RIB's decisions as forwarding takes them), `telemetry` (metrics and readiness), `supervisor` (what the service manager is told),
//! [`uninstall`] (what an edge has left that no longer runs), [`upgrade`] (what another build would change), this one (the loop).
//!
//! # The loop
//! A message changes facts: a link, a neighbour, a route. Messages that wait are taken together, up to [`BATCH_MAX`], or a [`Share`] of what the
//! peers say; then [`Controller::settle`] carries what follows from them to the maps, the peers and the kernel. Liveness of a link goes to the
//! map at once, before anything else.
//!
//! What is due by the clock comes first (the liveness signal, a roll-back, drains), then the kernel, BFD and the peers. A turn answers one question
//! at most, or makes one page of a long list, whoever else has something to say: so neither do questions delay what is due, nor do peers
//! that say a lot keep operators waiting.
//!
//! # What must never happen
//! The loop waits for a peer: updates for a slow one stay in the RIB until its driver takes more, orders in `orders`. A turn does something for
//! an asker that grows with what the tables hold.

mod admin;
mod answers;
mod bfd;
mod carriers;
mod change;
mod configure;
mod control_ports;
mod drill;
mod drops;
mod estate;
mod excess;
mod exchange;
pub mod hand_over;
mod inherit;
mod interfaces;
pub mod kept;
mod kernel_routes;
pub mod limits;
mod lists;
mod lookups;
mod minimum;
mod miscabling;
mod named;
mod noted;
mod orders;
mod pairs;
pub mod parts;
mod peering;
mod policy;
mod questions;
mod reconcile;
mod search;
mod share;
pub mod start;
pub mod successor;
mod supervisor;
pub mod targets;
mod telemetry;
pub mod uninstall;
mod unsaved;
pub mod upgrade;

pub use answers::DESTINATIONS_MAX;
pub use configure::{Parsed, parse};
pub use lookups::{PathFilter, RouteFilter};
pub use share::Share;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::poll_fn,
    net::IpAddr,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use ::aya::maps::{MapData, RingBuf};
use erdp_common::policer::TIME_FRACTION_BITS;
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use crate::{
    bgp::{Moment, PeerCommand, PeerEvent, PeerHandle, PeerId, Speaker, Update},
    config::{self, Config, Domain},
    control::{asked::Asked, roles::Roles, server::Successor},
    dataplane::{
        Dataplane as _,
        aya::{AyaDataplane, drop_sample, neighbour_wanted},
        pins::About,
    },
    events::Kind,
    fallover::Fallover,
    fib::{Forwarding, LinkFacts, NextHopKey, Wish},
    kernel::{Kernel, KernelEvent, Link, carrier::CarrierWatch, control_port::Shape, routes::RouteEvent},
    metrics::board::Board,
    miscabling::Miscabling,
    peering::Peerings,
    rib::{Ignored, Meter, Rib},
    types::{AttachmentId, PathSource},
};

/// Messages taken together before what follows from them is carried out.
const BATCH_MAX: usize = 2_048;
/// Neighbours asked for in a second on behalf of packets: a scan of a subnet must not keep the controller busy.
const WANTED_MAX: usize = 200;
/// How often postponed work is tried again.
const TICK: Duration = Duration::from_millis(100);
/// The neighbours that are kept are asked for in so many shares, one a tick: each once a second.
const SHARES: usize = 10;
/// Neighbours in one share at most: beyond that the kernel's own pace has to do.
const ASKED_MAX: usize = 50;

/// Everything the controller owns.
pub struct Controller {
    config: Config,
    domains: Vec<Domain>,
    attachments: Vec<config::Attachment>,
    /// At the place of its identifier each; those of [`Self::vacant`] have been removed while the router ran.
    peers: Vec<config::Peer>,
    vacant: BTreeSet<PeerId>,
    history: configure::History,
    /// A change that has begun.
    changing: Option<exchange::Exchange>,
    kept: kept::Keeper,
    /// From when port 179 is ours.
    speaker: Option<Speaker>,
    outboxes: Vec<Outbox>,
    rib: Rib,
    forwarding: Forwarding,
    dataplane: AyaDataplane,
    kernel: Kernel,
    kernel_routes: kernel_routes::KernelRoutes,
    links: HashMap<u32, Link>,
    about: About,
    /// Set while the program before us forwards.
    inherited: Option<inherit::Inherited>,
    wanted: BTreeSet<(AttachmentId, IpAddr)>,
    /// The share of the neighbours that was asked for last.
    asked_share: usize,
    drops: drops::Drops,
    miscabling: Miscabling,
    bfd: bfd::Sessions,
    dampers: pairs::Dampers,
    fallover: Fallover,
    announced: interfaces::Announced,
    carrier: Option<CarrierWatch>,
    parts: parts::Watch,
    /// A part that is to be ended on purpose a second after the start: for tests.
    ends: Option<parts::Part>,
    /// Links that are just back, each since when.
    returned: HashMap<u32, Duration>,
    /// Sessions that are out of use by an operator's word.
    peerings: Peerings,
    /// Sessions that Microsoft drains (B7).
    drained: BTreeSet<PeerId>,
    minimums: minimum::Minimums,
    /// Domains that rank behind the others that an attachment lists, as the tables have it.
    last: BTreeSet<usize>,
    drill: Option<drill::Running>,
    telemetry: telemetry::Telemetry,
    /// Where others read what is measured.
    board: Arc<Board>,
    /// Who may order over the control socket.
    roles: watch::Sender<Roles>,
    /// Orders that sessions have not taken yet.
    orders: orders::Waiting,
    supervisor: supervisor::Supervisor,
    started: Instant,
    reconciled: reconcile::Reconciled,
    /// What the operator has changed since the start.
    settings: unsaved::Settings,
    /// The event log.
    noted: noted::Noted,
}

/// How a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// For good: everything is to be undone.
    Stopped,
    /// Another process goes on: nothing is.
    HandedOver,
    /// A part has ended that cannot begin again: nothing is undone, and the next process continues.
    Lost(parts::Part),
}

/// Updates that a peer's driver has not taken yet, and the session that they are meant for.
#[derive(Clone, Default)]
struct Outbox {
    session: u64,
    updates: VecDeque<Update>,
}

/// Where messages come from.
pub struct Inputs {
    kernel: mpsc::Receiver<KernelEvent>,
    routes: mpsc::Receiver<RouteEvent>,
    peers: mpsc::Receiver<PeerEvent>,
    asked: mpsc::Receiver<Asked>,
    wanted: AsyncFd<RingBuf<MapData>>,
    drop_samples: AsyncFd<RingBuf<MapData>>,
    successors: mpsc::Receiver<Successor>,
    control: Option<JoinHandle<()>>,
    metrics: Option<JoinHandle<()>>,
    bfd: mpsc::Receiver<crate::bfd::thread::Event>,
}

impl Inputs {
    /// Closes the control socket, file and all.
    async fn close_control(&mut self) {
        if let Some(control) = self.control.take() {
            control.abort();
            // It has ended one way or the other.
            let _ = control.await;
        }
    }
}

impl Controller {
    /// Runs until `stop` is ready.
    pub async fn run(&mut self, inputs: &mut Inputs, stop: impl Future<Output = ()>) -> End {
        tokio::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let mut has_answered = false;
            tokio::select! {
                biased;
                () = &mut stop => return End::Stopped,
                _ = tick.tick() => {
                    if let Some(part) = self.watch_parts(inputs).await {
                        return End::Lost(part);
                    }
                    self.on_tick().await;
                }
                Some(successor) = inputs.successors.recv() => {
                    if self.give(successor, inputs).await {
                        return End::HandedOver;
                    }
                }
                Some(event) = inputs.kernel.recv() => {
                    self.on_kernel(event).await;
                    take_waiting(&mut inputs.kernel, async |event| self.on_kernel(event).await).await;
                }
                Some(event) = inputs.bfd.recv() => self.on_bfd(event),
                Some(event) = inputs.routes.recv() => self.on_kernel_routes(event),
                Some(event) = inputs.peers.recv() => {
                    let mut share = Share::default();
                    let mut next = Some(event);
                    while let Some(event) = next {
                        share.add(&event);
                        self.on_peer(event);
                        next = if share.is_whole() { None } else { inputs.peers.try_recv().ok() };
                    }
                }
                Ok(mut guard) = inputs.wanted.readable_mut() => {
                    self.take_wanted(guard.get_inner_mut());
                    guard.clear_ready();
                }
                Ok(mut guard) = inputs.drop_samples.readable_mut() => {
                    self.take_drop_samples(guard.get_inner_mut());
                    guard.clear_ready();
                }
                Some(asked) = inputs.asked.recv() => {
                    self.on_asked(asked).await;
                    has_answered = true;
                }
                // Last, because what follows any turn sends on.
                () = self.peers_have_room() => {}
            }
            if !has_answered && let Ok(asked) = inputs.asked.try_recv() {
                self.on_asked(asked).await;
            }
            self.go_on_with_change().await;
            self.release_links();
            self.mind_drill();
            self.mind_carriers();
            self.settle().await;
            self.end_wait();
        }
    }

    /// What is due by the clock.
    async fn on_tick(&mut self) {
        self.supervisor.alive();
        self.note_turn();
        self.revert_unconfirmed().await;
        self.give_orders();
        self.take_rates();
        self.mind_words();
        self.mind_returned();
        self.keep_away();
        self.mind_peerings();
        self.mind_drains();
        self.ask_neighbours().await;
        self.mind_minimums();
        self.resolve_wanted().await;
        self.reconcile();
        self.keep_noted();
    }

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    async fn on_kernel(&mut self, event: KernelEvent) {
        match event {
            KernelEvent::Link(link) => {
                let ifindex = link.ifindex;
                if self.on_link(link) {
                    self.shape_control_ports(ifindex).await;
                }
            }
            KernelEvent::LinkGone { ifindex } => {
                self.on_gone(ifindex);
            }
            KernelEvent::Address { ifindex, address: IpAddr::V6(address), .. }
                if address.is_unicast_link_local() =>
            {
                self.log_failure(|it| it.forwarding.link_local(ifindex, address, &mut it.dataplane));
                self.note_link_locals();
            }
            KernelEvent::Address { .. } => {}
            KernelEvent::Neighbour { ifindex, address, mac } => {
                let now_ns = self.now_ns();
                let on_it: Vec<AttachmentId> =
                    self.forwarding.topology().spoken_for_on(ifindex).map(|facts| facts.id).collect();
                for attachment in on_it {
                    let key = NextHopKey { attachment, address };
                    self.telemetry.neighbour(attachment, address, mac.is_some());
                    if mac.is_some() && self.is_peer(attachment, address) {
                        self.miscabling.handle_answer(attachment, address);
                    }
                    if let (Some(before), Some(mac)) =
                        (self.forwarding.mac(key).filter(|it| Some(*it) != mac), mac)
                    {
                        self.log_failure(|it| it.dataplane.mac_before(attachment, before, mac));
                    }
                    self.log_failure(|it| it.forwarding.neighbour(key, mac, now_ns, &mut it.dataplane));
                }
            }
            KernelEvent::Resync => self.resync().await,
        }
    }

    /// Our link-local addresses are no next hops of the peers behind them.
    pub(super) fn note_link_locals(&mut self) {
        for peer in &self.peers {
            let facts = self.forwarding.topology().attachment(peer.attachment);
            if let Some(address) = facts.and_then(|facts| facts.link_local6) {
                self.rib.link_local(peer.session.id, address);
            }
        }
    }

    /// The one word of a failover first, then everything else that has changed; the answer is whether MAC address or MTU have.
    fn on_link(&mut self, link: Link) -> bool {
        let ifindex = link.ifindex;
        if !self.is_link_in_use(&link) {
            return false;
        }
        let alive = link.is_alive();
        let before = self.links.get(&ifindex).map(Link::is_alive);
        if before != Some(alive) {
            let may = alive && self.damp(ifindex, true, before.is_some());
            self.write_link(ifindex, &link.name, may);
            if !alive {
                self.damp(ifindex, false, before.is_some());
            }
            tracing::info!(interface = link.name, alive, "link");
            if before.is_some() {
                let what = if alive { "has carrier and is up" } else { "has no carrier, or is down" };
                self.note(Kind::Link, &link.name, what, None);
            }
            if alive {
                self.fallover.handle_return(ifindex);
                self.on_return(ifindex);
                self.hurry_sessions(ifindex);
            } else {
                self.fallover.handle_loss(ifindex, self.started.elapsed());
            }
        }
        let facts = LinkFacts { mac: link.mac, mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX) };
        self.log_failure(|it| it.forwarding.link_facts(ifindex, facts, &mut it.dataplane));
        let before = self.links.insert(ifindex, link.clone());
        self.note_name(before.as_ref(), &link);
        before.is_some_and(|before| (before.mac, before.mtu) != (link.mac, link.mtu))
    }

    /// The control ports on an interface follow its MAC address and MTU.
    async fn shape_control_ports(&self, ifindex: u32) {
        let Some(link) = self.links.get(&ifindex) else { return };
        for facts in self.forwarding.topology().on_interface(ifindex) {
            let Some(port) = &facts.control else { continue };
            let shape = Shape::of(link.mac, link.mtu, facts.tags.iter().flatten().count());
            if let Err(error) = self.kernel.shape_control_port(port, shape).await {
                tracing::error!(attachment = facts.name, %error, "its control port differs from its interface");
            }
        }
    }

    /// Every peer with its session.
    fn sessions(&self) -> impl Iterator<Item = (&config::Peer, &PeerHandle)> {
        let sessions = self.speaker.iter().flat_map(Speaker::peers);
        sessions.filter_map(|session| Some((self.peers.get(usize::from(session.config().id.0))?, session)))
    }

    /// The sessions over an interface that is back need not wait for their next attempt.
    fn hurry_sessions(&self, ifindex: u32) {
        let over_it = |(peer, _): &(&config::Peer, &PeerHandle)| {
            let attachment = self.forwarding.topology().attachment(peer.attachment);
            attachment.is_some_and(|facts| facts.ifindex == ifindex)
        };
        for (_, session) in self.sessions().filter(over_it) {
            // A full channel of orders: the session has enough to do.
            let _ = session.try_command(PeerCommand::Hurry);
        }
    }

    /// Everything again: events have been lost.
    async fn resync(&mut self) {
        tracing::warn!("netlink events were lost: reading everything again");
        match self.kernel.dump().await {
            Ok(facts) => {
                self.note_absent(&facts);
                for fact in facts.into_iter().filter(|fact| *fact != KernelEvent::Resync) {
                    Box::pin(self.on_kernel(fact)).await;
                }
            }
            Err(error) => tracing::error!(%error, "reading the kernel's state"),
        }
    }

    fn on_peer(&mut self, event: PeerEvent) {
        if let Some(inherited) = &mut self.inherited {
            inherited.hear(&event, Instant::now());
        }
        self.note_peer(&event);
        match event {
            PeerEvent::Established { peer, facts } => {
                let name = &self.peers[usize::from(peer.0)].name;
                tracing::info!(peer = name, router_id = %facts.router_id, hold_s = facts.hold.0, "session established");
                self.outboxes[usize::from(peer.0)] = Outbox { session: facts.session, ..Outbox::default() };
                self.rib.peer_up(peer, &facts);
                self.note_session(peer, true);
                self.bgp_is_up(peer);
            }
            PeerEvent::Update { peer, update } => self.rib.update(peer, update),
            PeerEvent::Refresh { peer, family } => self.rib.refresh(peer, family),
            PeerEvent::Down { peer, reason, kept } => {
                self.note_end(peer);
                let name = &self.peers[usize::from(peer.0)].name;
                self.outboxes[usize::from(peer.0)].updates.clear();
                let kept = kept.filter(|_| !self.has_no_carrier(peer));
                match (kept, self.kept_by_drill(peer)) {
                    (_, Some(kept)) => {
                        tracing::info!(peer = name, %reason, "session ended for a drill, its routes are kept");
                        self.rib.peer_ended(peer, &kept);
                    }
                    (Some(kept), None) => {
                        tracing::warn!(peer = name, %reason, kept_s = kept.wait.0, "session lost, its routes are kept");
                        self.rib.peer_lost(peer, &kept);
                    }
                    // An attempt that failed says nothing about routes that are kept from before.
                    (None, None) if self.rib.families(peer).is_empty() && !reason.is_final() => {
                        tracing::warn!(peer = name, %reason, "no session");
                    }
                    (None, None) => {
                        tracing::warn!(peer = name, %reason, "session down");
                        self.rib.peer_down(peer);
                    }
                }
                self.note_session(peer, false);
            }
        }
    }

    /// A session is gone without a word, as its task is: with everything that it brought.
    fn lose_session(&mut self, peer: PeerId) {
        self.outboxes[usize::from(peer.0)] = Outbox::default();
        self.rib.peer_down(peer);
        self.note_session(peer, false);
    }

    /// Carries what has changed to the maps, the peers and the kernel.
    async fn settle(&mut self) {
        let now_ns = self.now_ns();
        self.rib.tick(self.now());
        self.act_on_limits();
        let changes = self.fib_changes();
        self.log_failure(|it| it.forwarding.routes(changes, now_ns, &mut it.dataplane));
        self.log_failure(|it| it.forwarding.retry(now_ns, &mut it.dataplane));
        self.send_updates();
        for wish in self.forwarding.take_wishes() {
            self.grant(wish).await;
        }
    }

    /// What the RIB has decided, in the forwarding state's terms.
    fn fib_changes(&mut self) -> Vec<targets::Change> {
        let changes = self.rib.take_fib_changes();
        targets::of(changes, |source| self.attachment_of(source))
    }

    /// The attachment that a peer's routes lead through, or the kernel's.
    fn attachment_of(&self, source: PathSource) -> Option<AttachmentId> {
        match source {
            PathSource::Peer(id) => self.peers.get(usize::from(id.0)).map(|peer| peer.attachment),
            PathSource::Kernel(attachment) | PathSource::Static(attachment) => Some(attachment),
        }
    }

    /// Peers that announced too much are sent away, or their surplus is refused (D2); how full the peerings are is said when it matters (D1).
    fn act_on_limits(&mut self) {
        for Ignored { peer, refusal, example, count } in self.rib.take_ignored() {
            let name = &self.peers[usize::from(peer.0)].name;
            tracing::warn!(
                peer = name, prefix = %example, routes = count, rule = refusal.rule(),
                "ignored: {refusal}; see `erdp show refused`"
            );
        }
        self.act_on_excess();
        for warning in self.rib.take_guard_warnings() {
            let domain = &self.domains[usize::from(warning.domain.0)].name;
            let Meter { wanted, told, limit, .. } = warning.meter;
            match warning.meter.level() {
                0 => {
                    tracing::info!(domain, family = %warning.family, wanted, limit, "prefixes towards Microsoft: room again (D1)")
                }
                100 => tracing::error!(
                    domain, family = %warning.family, wanted, told, limit,
                    "more prefixes than Microsoft takes: some are not announced as they are, see `erdp show refused` (D1)"
                ),
                level => tracing::warn!(
                    domain, family = %warning.family, wanted, limit,
                    "{level} % of the prefixes that Microsoft takes: above the limit some are held back (D1)"
                ),
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(self.started.elapsed())
    }

    /// Each driver gets what it takes now, and of a large table one part; the rest waits, and in the RIB it is replaced by what is newer.
    fn send_updates(&mut self) {
        // RFC 4724 section 4.1: nobody is told anything before the table is complete, or End-of-RIB would say that it is.
        if self.inherited.is_some() {
            return;
        }
        for peer in self.speaker.iter().flat_map(Speaker::peers) {
            let id = peer.config().id;
            let Outbox { session, updates } = &mut self.outboxes[usize::from(id.0)];
            if updates.is_empty() {
                updates.extend(self.rib.take_outgoing(id));
            }
            while let Some(update) = updates.pop_front() {
                if let Err(PeerCommand::Send { update, .. }) =
                    peer.try_command(PeerCommand::Send { session: *session, update })
                {
                    updates.push_front(update);
                    break;
                }
            }
        }
    }

    /// Waits until a peer for whom there are updates can take more of them; for ever while none may be sent.
    async fn peers_have_room(&self) {
        let speaker = self.speaker.iter().filter(|_| self.inherited.is_none());
        let has_some =
            |id: PeerId| !self.outboxes[usize::from(id.0)].updates.is_empty() || self.rib.is_due(id);
        let waiting = speaker.flat_map(Speaker::peers).filter(|peer| has_some(peer.config().id));
        let mut rooms: Vec<_> = waiting.map(|peer| Box::pin(peer.has_room())).collect();
        poll_fn(|context| {
            let mut is_there = rooms.iter_mut().map(|room| room.as_mut().poll(context).is_ready());
            if is_there.any(|is_there| is_there) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    async fn grant(&mut self, wish: Wish) {
        let (Wish::Watch(key) | Wish::Forget(key) | Wish::Renew(key)) = wish;
        let topology = self.forwarding.topology();
        let facts = topology.attachment(key.attachment).filter(|facts| topology.is_there(facts));
        let Some(facts) = facts else { return };
        let (ifindex, name) = (facts.kernel_ifindex(), facts.name.clone());
        let result = match wish {
            // It was found meanwhile.
            Wish::Renew(key) if self.forwarding.is_resolved(key) => Ok(()),
            Wish::Watch(key) => self.kernel.watch_neighbour(ifindex, key.address).await,
            Wish::Forget(key) => self.kernel.forget_neighbour(ifindex, key.address).await,
            Wish::Renew(key) => {
                let is_kept = self.forwarding.is_kept(key);
                self.kernel.renew_neighbour(ifindex, key.address, is_kept).await
            }
        };
        if let Err(error) = result {
            tracing::warn!(attachment = name, neighbour = %key.address, %error, "neighbour");
        }
    }

    /// Takes the neighbours that packets have asked for; the kernel is asked for each once a tick.
    fn take_wanted(&mut self, ring: &mut RingBuf<MapData>) {
        while let Some(item) = ring.next() {
            let Some(wanted) = neighbour_wanted(&item) else { continue };
            let Some(attachment) = AttachmentId::numbered(wanted.attachment as u16) else { continue };
            if self.wanted.len() < WANTED_MAX {
                let address = IpAddr::V6(wanted.address.into()).to_canonical();
                self.wanted.insert((attachment, address));
            }
        }
    }

    /// The program limits how many there are in a second.
    fn take_drop_samples(&mut self, ring: &mut RingBuf<MapData>) {
        let (now_ns, now) = (self.dataplane.clock() >> TIME_FRACTION_BITS, SystemTime::now());
        while let Some(item) = ring.next() {
            if let Some(sample) = drop_sample(&item) {
                self.drops.keep(&sample, now_ns, now);
                self.note_stranger(&sample);
            }
        }
    }

    /// Has the kernel ask again, once a second, whether the neighbours that are kept have their MAC addresses still: a packet that XDP
    /// forwards never makes it ask ([`crate::kernel::sysctl`]).
    async fn ask_neighbours(&mut self) {
        self.asked_share = (self.asked_share + 1) % SHARES;
        let due: Vec<NextHopKey> = self.forwarding.kept_of(self.asked_share, SHARES).collect();
        for key in due.into_iter().take(ASKED_MAX) {
            let topology = self.forwarding.topology();
            let facts = topology.attachment(key.attachment).filter(|facts| topology.is_there(facts));
            let Some(facts) = facts else { continue };
            if let Err(error) = self.kernel.watch_neighbour(facts.kernel_ifindex(), key.address).await {
                tracing::debug!(neighbour = %key.address, %error, "asking for a neighbour again");
            }
        }
    }

    async fn resolve_wanted(&mut self) {
        // At most a tick's share of WANTED_MAX a second.
        let share = (WANTED_MAX as u128 * TICK.as_millis() / 1000) as usize;
        for _ in 0..share {
            let Some((attachment, address)) = self.wanted.pop_first() else { return };
            let topology = self.forwarding.topology();
            let facts = topology.attachment(attachment).filter(|facts| topology.is_there(facts));
            let Some(facts) = facts else { continue };
            if let Err(error) = self.kernel.resolve(facts.kernel_ifindex(), address).await {
                tracing::debug!(%address, %error, "resolving an on-link host");
            }
        }
    }

    fn log_failure<E: std::fmt::Display>(&mut self, act: impl FnOnce(&mut Self) -> Result<(), E>) {
        if let Err(error) = act(self) {
            tracing::error!(%error, "writing the packet path's maps");
        }
    }
}

/// Calls `each` for what waits, at most [`BATCH_MAX`] times.
async fn take_waiting<T>(from: &mut mpsc::Receiver<T>, mut each: impl AsyncFnMut(T)) {
    for _ in 0..BATCH_MAX {
        let Ok(item) = from.try_recv() else { return };
        each(item).await;
    }
}
