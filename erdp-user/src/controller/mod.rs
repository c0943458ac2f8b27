//! The controller: one task around the [`Core`]. Everything reaches it as a message, so there is no lock and no order to get wrong: it hands
//! facts to the core with their time, and carries out what the core wants done.
//!
//! Files: [`start`] (what is checked and set up, in which order, and how all of it is undone), [`estate`] (what an edge before us has
//! left), [`hand_over`] (one process gives another everything), [`successor`] (a daemon starts that other process itself), [`reconcile`] (the
//! maps are what was written), `questions` (which question a turn answers), `answers` (what `erdp show` sees), `ask` (what `erdp ask` is answered with), `lists`
//! (what of that has no bound, in pages), `lookups` (which of it is meant, and one peer), `pairs`, `interfaces`, `peering`, `drill`, `change`
//! and `configure` (operators' orders, and what is said of them), `search` (what an order is judged by, in pages), `exchange` (a Cease is on
//! the wire before a circuit is shut), `orders` (what sessions are to do), `unsaved` (what of that the daemon's file has not), `kept` (what of
//! all that outlives the daemon), `bfd` (its thread), `parts` (the threads and tasks that must live), `control_ports` (the kernel's way to
//! tagged attachments), `drops` (the last dropped frames), `noted` (the event log), `kernel_routes` (the kernel as a source of routes),
//! `share` (how much of what peers say is taken in a turn), `telemetry` (metrics and readiness), `supervisor` (what the service manager is
//! told), [`uninstall`] (what an edge has left that no longer runs), [`upgrade`] (what another build would change), this one (the loop).
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

mod answers;
mod ask;
mod bfd;
mod change;
mod configure;
mod control_ports;
mod drill;
mod drops;
mod estate;
mod exchange;
pub mod hand_over;
mod interfaces;
pub mod kept;
mod kernel_routes;
mod lists;
mod lookups;
mod noted;
mod orders;
mod pairs;
pub mod parts;
mod peering;
mod questions;
mod reconcile;
mod search;
mod share;
pub mod start;
pub mod successor;
mod supervisor;
mod telemetry;
pub mod uninstall;
mod unsaved;
pub mod upgrade;

pub use ask::{DESTINATIONS_MAX, DETAILED_MAX};
pub use configure::{Parsed, parse};
pub use lookups::{PathFilter, RouteFilter};
pub use share::Share;

use std::{
    collections::BTreeSet,
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
    bfd::thread::{Event, Order},
    bgp::{PeerCommand, PeerEvent, PeerHandle, Speaker},
    config,
    control::{asked::Asked, roles::Roles, server::Successor},
    core::{Action, Core},
    dataplane::{
        Dataplane as _,
        aya::{AyaDataplane, drop_sample, neighbour_wanted},
    },
    fib::{NextHopKey, Wish},
    kernel::{
        Kernel, KernelEvent,
        carrier::CarrierWatch,
        control_port::Shape,
        memory,
        routes::{Listener, RouteEvent},
    },
    metrics::board::Board,
    types::AttachmentId,
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
    /// Everything that is decided on.
    core: Core<AyaDataplane>,
    history: configure::History,
    /// A change that has begun.
    changing: Option<exchange::Exchange>,
    kept: kept::Keeper,
    /// From when port 179 is ours.
    speaker: Option<Speaker>,
    kernel: Kernel,
    /// Hears the kernel's routes, if any are wanted; ends with this.
    listener: Option<Listener>,
    wanted: BTreeSet<(AttachmentId, IpAddr)>,
    /// The share of the neighbours that was asked for last.
    asked_share: usize,
    drops: drops::Drops,
    bfd: bfd::Sessions,
    carrier: Option<CarrierWatch>,
    parts: parts::Watch,
    /// A part that is to be ended on purpose a second after the start: for tests.
    ends: Option<parts::Part>,
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
    bfd: mpsc::Receiver<Event>,
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
                    let now = self.started.elapsed();
                    self.core.handle_kernel(event, now);
                    for event in std::iter::from_fn(|| inputs.kernel.try_recv().ok()).take(BATCH_MAX) {
                        self.core.handle_kernel(event, now);
                    }
                }
                Some(Event { session, change }) = inputs.bfd.recv() => {
                    self.core.handle_bfd(session, change, self.started.elapsed());
                }
                Some(event) = inputs.routes.recv() => self.core.handle_routes(event),
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
            self.core.handle_turn(self.started.elapsed());
            self.carry_out().await;
            self.settle().await;
            self.core.end_wait(self.started.elapsed());
        }
    }

    /// What is due by the clock.
    async fn on_tick(&mut self) {
        self.supervisor.alive();
        self.note_turn();
        self.revert_unconfirmed().await;
        self.give_orders();
        self.take_rates();
        self.keep_away();
        self.core.handle_tick(self.started.elapsed());
        self.carry_out().await;
        self.ask_neighbours().await;
        self.resolve_wanted().await;
        self.reconcile();
        self.keep_noted();
    }

    /// A peer's session says something.
    fn on_peer(&mut self, event: PeerEvent) {
        self.note_peer(&event);
        if let PeerEvent::Down { peer, .. } = event {
            self.note_end(peer);
        }
        self.core.handle_peer(event, self.started.elapsed());
    }

    /// What the core wants done.
    async fn carry_out(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Order(peer, command) => self.order(peer, command),
                Action::EndSession(peer, cease) => {
                    if let Some(speaker) = &mut self.speaker {
                        speaker.remove(peer, cease, "the operator has changed the configuration").await;
                    }
                    self.orders.forget(peer);
                }
                Action::BeginSession(session) => {
                    if let Some(speaker) = &mut self.speaker {
                        speaker.add(*session).await;
                    }
                }
                Action::Expedite(peer) => {
                    if let Some(session) = self.speaker.as_ref().and_then(|speaker| speaker.peer(peer)) {
                        // A full channel of orders: the session has enough to do.
                        let _ = session.try_command(PeerCommand::Hurry);
                    }
                }
                Action::BfdAdmin(session, is_down) => self.bfd.order(Order::Admin(session, is_down)),
                Action::BfdJudgeNothing(session) => self.bfd.order(Order::JudgeNothing(session)),
                Action::ShapeControlPorts(ifindex) => self.shape_control_ports(ifindex).await,
                Action::Resync => self.resync().await,
                Action::ExpectAway(peer) => self.kept.expect_away(peer),
                Action::ForgiveAway(peer) => self.forgive_away(peer),
                // It may take some tens of milliseconds, so the loop does not wait for it.
                Action::GiveBackMemory => drop(tokio::task::spawn_blocking(memory::give_back)),
                Action::Note { kind, object, what, why } => self.note(kind, &object, &what, why.as_deref()),
            }
        }
    }

    /// Carries what has changed to the maps, the peers and the kernel.
    async fn settle(&mut self) {
        self.core.settle(self.started.elapsed());
        self.carry_out().await;
        self.send_updates();
        for wish in self.core.take_wishes() {
            self.grant(wish).await;
        }
    }

    /// The control ports on an interface follow its MAC address and MTU.
    async fn shape_control_ports(&self, ifindex: u32) {
        let Some(link) = self.core.links.get(&ifindex) else { return };
        for facts in self.core.forwarding.topology().on_interface(ifindex) {
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
        sessions
            .filter_map(|session| Some((self.core.peers.get(usize::from(session.config().id.0))?, session)))
    }

    /// Everything again: events have been lost.
    async fn resync(&mut self) {
        tracing::warn!("netlink events were lost: reading everything again");
        match self.kernel.dump().await {
            Ok(facts) => {
                let now = self.started.elapsed();
                self.core.at(now).note_absent(&facts);
                for fact in facts.into_iter().filter(|fact| *fact != KernelEvent::Resync) {
                    self.core.handle_kernel(fact, now);
                }
            }
            Err(error) => tracing::error!(%error, "reading the kernel's state"),
        }
    }

    /// Each driver gets what it takes now, and of a large table one part; the rest waits, and in the routing base it is replaced by what is
    /// newer.
    fn send_updates(&mut self) {
        for peer in self.speaker.iter().flat_map(Speaker::peers) {
            let id = peer.config().id;
            self.core.collect_updates(id);
            while let Some((session, update)) = self.core.next_update(id) {
                if let Err(PeerCommand::Send { update, .. }) =
                    peer.try_command(PeerCommand::Send { session, update })
                {
                    self.core.put_back(id, update);
                    break;
                }
            }
        }
    }

    /// Waits until a peer for whom there are updates can take more of them; for ever while none may be sent.
    async fn peers_have_room(&self) {
        let sessions = self.speaker.iter().flat_map(Speaker::peers);
        let waiting = sessions.filter(|peer| self.core.has_updates(peer.config().id));
        let mut rooms: Vec<_> = waiting.map(|peer| Box::pin(peer.has_room())).collect();
        poll_fn(|context| {
            let mut is_there = rooms.iter_mut().map(|room| room.as_mut().poll(context).is_ready());
            if is_there.any(|is_there| is_there) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    async fn grant(&mut self, wish: Wish) {
        let (Wish::Watch(key) | Wish::Forget(key) | Wish::Renew(key)) = wish;
        let topology = self.core.forwarding.topology();
        let facts = topology.attachment(key.attachment).filter(|facts| topology.is_there(facts));
        let Some(facts) = facts else { return };
        let (ifindex, name) = (facts.kernel_ifindex(), facts.name.clone());
        let result = match wish {
            // It was found meanwhile.
            Wish::Renew(key) if self.core.forwarding.is_resolved(key) => Ok(()),
            Wish::Watch(key) => self.kernel.watch_neighbour(ifindex, key.address).await,
            Wish::Forget(key) => self.kernel.forget_neighbour(ifindex, key.address).await,
            Wish::Renew(key) => {
                let is_kept = self.core.forwarding.is_kept(key);
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
        let (now_ns, now) = (self.core.dataplane.clock() >> TIME_FRACTION_BITS, SystemTime::now());
        while let Some(item) = ring.next() {
            if let Some(sample) = drop_sample(&item) {
                self.drops.keep(&sample, now_ns, now);
                self.core.handle_sample(&sample, self.started.elapsed());
            }
        }
    }

    /// Has the kernel ask again, once a second, whether the neighbours that are kept have their MAC addresses still: a packet that XDP
    /// forwards never makes it ask ([`crate::kernel::sysctl`]).
    async fn ask_neighbours(&mut self) {
        self.asked_share = (self.asked_share + 1) % SHARES;
        let due: Vec<NextHopKey> = self.core.forwarding.kept_of(self.asked_share, SHARES).collect();
        for key in due.into_iter().take(ASKED_MAX) {
            let topology = self.core.forwarding.topology();
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
            let topology = self.core.forwarding.topology();
            let facts = topology.attachment(attachment).filter(|facts| topology.is_there(facts));
            let Some(facts) = facts else { continue };
            if let Err(error) = self.kernel.resolve(facts.kernel_ifindex(), address).await {
                tracing::debug!(%address, %error, "resolving an on-link host");
            }
        }
    }
}
