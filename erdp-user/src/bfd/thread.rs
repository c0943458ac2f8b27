//! The thread that keeps the time of all BFD sessions: sockets in, machines, sockets out.
//!
//! It is a thread of its own and no task, so that it can have real-time priority (SCHED_FIFO, where that is allowed): a controller that
//! digests a full table must not make us late. It never waits but in `ppoll`, and what it has to tell goes into a channel only when
//! there is room.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::{
        Arc,
        mpsc::{Receiver as Orders, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use erdp_common::bfd::{PORT, wire::ControlPacket};
use tokio::sync::{mpsc, watch};

use super::{
    SessionConfig, SessionId, Status, record,
    recorded::Recorded,
    session::{Change, Nanos},
};
use crate::{
    dataplane::sessions::MappedSessions,
    kernel::datagram::{self, Receiver, Sender},
};

/// Orders that may wait.
const ORDERS_QUEUED: usize = 256;
/// Statuses are published at least so often.
const STATUS_EVERY_US: u64 = 500_000;
/// Datagrams taken from a socket before the timers are looked at: more than its buffer holds, so that after a stop of the process, or under
/// a flood, no peer's packet waits behind others while that peer is judged.
const READS_MAX: usize = 1_024;
/// RFC 5881 section 5.
const HOP_LIMIT: u8 = 255;

/// What the controller may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// BGP has come up without BFD: the session has no say about the next hop until it is up itself.
    JudgeNothing(SessionId),
    /// Take a session down, or give it free.
    Admin(SessionId, bool),
    /// The end: for good (the peers are told AdminDown), or to be taken up again.
    Stop {
        /// For good.
        for_good: bool,
    },
}

/// A session's change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub session: SessionId,
    /// From what to what, and why.
    pub change: Change,
}

/// The running thread.
#[derive(Debug)]
pub struct Bfd {
    orders: SyncSender<Order>,
    waker: UnixStream,
    statuses: watch::Receiver<Vec<Status>>,
    thread: Option<JoinHandle<()>>,
}

/// Why BFD does not start.
#[derive(Debug, thiserror::Error)]
#[error("BFD with {peer} on {interface}: {source}; is another BFD daemon there?")]
pub struct BfdError {
    peer: IpAddr,
    interface: String,
    source: io::Error,
}

impl Bfd {
    /// Opens the sockets, writes the records and starts the thread.
    pub fn start(
        sessions: Vec<SessionConfig>,
        records: Arc<MappedSessions>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, BfdError> {
        let system =
            |source| BfdError { peer: IpAddr::from([0; 4]), interface: "any interface".into(), source };
        let (waker, woken) = UnixStream::pair().map_err(system)?;
        woken.set_nonblocking(true).map_err(system)?;
        let (orders_in, orders) = sync_channel(ORDERS_QUEUED);
        let (status_in, statuses) = watch::channel(Vec::new());
        let runner = Runner::new(sessions, records, events, orders, woken, status_in)?;
        let thread =
            std::thread::Builder::new().name("bfd".into()).spawn(move || runner.run()).map_err(system)?;
        Ok(Self { orders: orders_in, waker, statuses, thread: Some(thread) })
    }

    /// Gives an order; a full channel loses it, which is said in the log.
    pub fn order(&self, order: Order) {
        let woken = self.orders.try_send(order).map_err(|error| error.to_string());
        let woken = woken.and_then(|()| (&self.waker).write_all(&[0]).map_err(|error| error.to_string()));
        if let Err(error) = woken {
            tracing::error!(?order, error, "an order to the BFD thread is lost");
        }
    }

    /// Whether the thread lives.
    pub fn lives(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The sessions as they are.
    pub fn statuses(&self) -> Vec<Status> {
        self.statuses.borrow().clone()
    }

    /// Ends the thread. For good: the peers are told, and the packet path answers no more.
    pub fn stop(mut self, for_good: bool) {
        self.order(Order::Stop { for_good });
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the BFD thread has panicked");
        }
    }
}

/// One session with what belongs to it.
struct Running {
    recorded: Recorded,
    sender: Sender,
}

struct Runner {
    sessions: Vec<Running>,
    receivers: Vec<Receiver>,
    /// By the receiver's place and the peer's address.
    by_peer: HashMap<(usize, IpAddr), usize>,
    records: Arc<MappedSessions>,
    events: mpsc::Sender<Event>,
    orders: Orders<Order>,
    woken: UnixStream,
    statuses: watch::Sender<Vec<Status>>,
    random: Random,
    published: Nanos,
}

fn now() -> Nanos {
    Nanos(datagram::monotonic_ns())
}

impl Runner {
    fn new(
        configs: Vec<SessionConfig>,
        records: Arc<MappedSessions>,
        events: mpsc::Sender<Event>,
        orders: Orders<Order>,
        woken: UnixStream,
        statuses: watch::Sender<Vec<Status>>,
    ) -> Result<Self, BfdError> {
        let now = now();
        let mut random = Random(now.0 | 1);
        let mut receivers: Vec<(IpAddr, String, Receiver)> = Vec::new();
        let (mut sessions, mut by_peer) = (Vec::new(), HashMap::new());
        for config in configs {
            let failed =
                |source| BfdError { peer: config.remote, interface: config.interface.clone(), source };
            let (local, interface) = (config.local, &config.interface);
            let found = receivers.iter().position(|(address, on, _)| *address == local && on == interface);
            let receiver = match found {
                Some(at) => at,
                None => {
                    let receiver = Receiver::bind(SocketAddr::new(local, PORT), interface).map_err(failed)?;
                    receivers.push((local, interface.clone(), receiver));
                    receivers.len() - 1
                }
            };
            let remote = SocketAddr::new(config.remote, PORT);
            let (sender, port) =
                datagram::sender(local, interface, remote, random.next() as u16).map_err(failed)?;
            by_peer.insert((receiver, config.remote), sessions.len());
            let record = records.record(config.id.0);
            sessions.push(Running { recorded: Recorded::new(config, record, port, now), sender });
        }
        let receivers = receivers.into_iter().map(|(_, _, receiver)| receiver).collect();
        let published = Nanos(0);
        Ok(Self { sessions, receivers, by_peer, records, events, orders, woken, statuses, random, published })
    }

    fn run(mut self) {
        if let Err(error) = datagram::make_realtime() {
            tracing::info!(%error, "BFD runs without real-time priority; the packet path detects all the same");
        }
        loop {
            // What came until then has been read when the timers are judged: a stop of the process between the two is nobody's silence.
            let until = now();
            self.read();
            self.keep_time(until);
            self.tell();
            if let Some(for_good) = self.obey() {
                return self.end(for_good);
            }
            self.wait();
        }
    }

    /// Everything that has come in, before any timer is believed.
    fn read(&mut self) {
        let mut buffer = [0; 128];
        for (at, receiver) in self.receivers.iter().enumerate() {
            for _ in 0..READS_MAX {
                let received = match receiver.receive(&mut buffer) {
                    Ok(Some(received)) => received,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "receiving BFD");
                        break;
                    }
                };
                let Some(running) =
                    self.by_peer.get(&(at, received.from)).and_then(|at| self.sessions.get_mut(*at))
                else {
                    continue;
                };
                let payload = buffer.get(..received.len).unwrap_or_default();
                if let (HOP_LIMIT, Ok(packet)) = (received.hop_limit, ControlPacket::read(payload)) {
                    running.handle(now(), &packet, &self.records);
                }
            }
        }
    }

    /// Timers, and what is to be sent.
    fn keep_time(&mut self, until: Nanos) {
        for running in &mut self.sessions {
            running.keep_time(until, &self.records, &mut self.random);
        }
    }

    /// Changes to the controller, as far as it takes them; the statuses to whoever looks.
    fn tell(&mut self) {
        let mut is_news = false;
        for running in &mut self.sessions {
            let Some(change) = running.recorded.change() else { continue };
            is_news = true;
            if self.events.try_send(Event { session: running.id(), change }).is_ok() {
                running.recorded.take_change();
            }
        }
        let now = now();
        if is_news || now >= self.published.after_us(STATUS_EVERY_US) {
            self.published = now;
            self.statuses.send_replace(self.sessions.iter().map(|running| running.status(now)).collect());
        }
    }

    /// The answer is how to end, if that was ordered.
    fn obey(&mut self) -> Option<bool> {
        let mut drain = [0; 64];
        while matches!((&self.woken).read(&mut drain), Ok(1..)) {}
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Stop { for_good } => return Some(for_good),
                Order::JudgeNothing(id) => {
                    if let Some(running) = self.sessions.iter_mut().find(|running| running.id() == id) {
                        running.recorded.handle_bgp_up(self.records.record(id.0));
                    }
                }
                Order::Admin(id, down) => {
                    if let Some(running) = self.sessions.iter_mut().find(|running| running.id() == id) {
                        running.recorded.handle_admin(now(), down);
                        running.keep_time(now(), &self.records, &mut self.random);
                    }
                }
            }
        }
        None
    }

    fn wait(&self) {
        let next = self.sessions.iter().filter_map(Running::deadline).min();
        let next = next.unwrap_or(Nanos(u64::MAX)).min(now().after_us(STATUS_EVERY_US));
        let timeout = Duration::from_nanos(next.0.saturating_sub(now().0));
        let fds: Vec<_> = self.receivers.iter().map(Receiver::as_fd).chain([self.woken.as_fd()]).collect();
        if let Err(error) = datagram::wait(&fds, Some(timeout)) {
            tracing::error!(%error, "waiting for BFD");
            // Not to spin on an error that stays.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(mut self, for_good: bool) {
        if !for_good {
            return;
        }
        for running in &mut self.sessions {
            running.recorded.handle_admin(now(), true);
            running.keep_time(now(), &self.records, &mut self.random);
            record::end(self.records.record(running.id().0));
        }
    }
}

impl Running {
    fn id(&self) -> SessionId {
        self.recorded.config().id
    }

    fn handle(&mut self, now: Nanos, packet: &ControlPacket, records: &MappedSessions) {
        self.recorded.handle_packet(now, packet, records.record(self.id().0));
    }

    /// The timers, as of `now`: everything that came until then must have been read.
    fn keep_time(&mut self, now: Nanos, records: &MappedSessions, random: &mut Random) {
        let record = records.record(self.id().0);
        self.recorded.handle_time(now, self::now(), record);
        while let Some(packet) = self.recorded.poll_transmit(now, random.next(), record) {
            // A packet that does not leave is a lost one: the peer's detection time is made for that.
            match self.sender.send(&packet.words().concat()) {
                Ok(_) => record::sent(record, now),
                Err(error) => {
                    tracing::debug!(peer = %self.recorded.config().remote, %error, "sending BFD");
                }
            }
        }
    }

    fn deadline(&self) -> Option<Nanos> {
        self.recorded.poll_deadline()
    }

    fn status(&self, now: Nanos) -> Status {
        let (config, session) = (self.recorded.config(), self.recorded.session());
        Status {
            id: config.id,
            peer: config.remote,
            state: session.state().name(),
            remote_state: session.remote_state().name(),
            diagnostic: session.diagnostic(),
            interval_ms: f64::from(session.interval_us()) / 1_000.0,
            detection_ms: session.detection_us().map(|us| us as f64 / 1_000.0),
            discriminator: session.parameters().discriminator,
            ups: session.ups(),
            since_s: now.0.saturating_sub(self.recorded.since().0) / 1_000_000_000,
        }
    }
}

/// Xorshift: jitter and ports need no more.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
}
