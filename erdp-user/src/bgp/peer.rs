//! The task that drives one session: sockets, clock and channels around [`Session`], and no decision about the protocol.
//!
//! Bounds: the controller's routes wait in their channel while [`WRITE_AHEAD_BYTES`] are unwritten; when the controller does not take
//! events, or has too many bytes of them to take (`super::flight`), the peer is not read, and TCP holds it back. Orders (stop, reset) have
//! a channel of their own, so that routes never delay them. `status` is what operators see, `lingering` bounds the connections that are
//! closed.

mod lingering;
mod status;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::faults::{FaultyUpdate, LogRate};
use super::flight::Flight;
use super::{
    Action, ConnId, Loss, Moment, PeerCommand, PeerConfig, PeerEvent, Session, SessionFacts, SessionState,
    Update, socket,
};
use status::Published;
pub use status::{PeerStatus, SeenFault};

/// Bytes that may wait for a slow peer before no more routes are taken for it.
const WRITE_AHEAD_BYTES: usize = 256 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Reads in a row before a timer is judged: more than a socket's buffer holds.
const READS_MAX: usize = 256;
/// A timer that is looked at so late has waited for a process that was stopped.
const LATE: Duration = Duration::from_millis(200);
/// How long the runtime then has to look at the sockets.
const GRACE: Duration = Duration::from_millis(20);
/// Route updates that may wait for the task.
const ROUTES_QUEUED: usize = 64;
/// Orders, and accepted connections, that may wait for the task.
const ORDERS_QUEUED: usize = 8;
/// How long a closed connection may take to deliver its last bytes.
const LINGER: Duration = Duration::from_secs(1);

/// The controller's end of a peer's task.
#[derive(Debug)]
pub struct PeerHandle {
    config: PeerConfig,
    routes: mpsc::Sender<PeerCommand>,
    orders: mpsc::Sender<PeerCommand>,
    hand_over: mpsc::Sender<HandOver>,
    status: watch::Receiver<Published>,
}

/// An established session, with its connection, that its task has given up.
#[derive(Debug)]
pub struct Handed {
    /// What the protocol must know.
    pub state: SessionState,
    /// The connection.
    pub stream: std::net::TcpStream,
    /// What is to be written to it first.
    pub unwritten: Vec<u8>,
}

/// The order to give a session up: updates that its controller has still for it, and where it goes, with the events that were not
/// told; without it, it was not established and is closed without a word.
pub(super) struct HandOver {
    updates: Vec<Update>,
    taken: oneshot::Sender<(Option<Handed>, Vec<PeerEvent>)>,
}

impl PeerHandle {
    /// The configuration the peer runs with.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// The session as it is now.
    pub fn status(&self) -> PeerStatus {
        self.status.borrow().status()
    }

    /// How often the peer was sent away for too many prefixes, and for how long it still is; `None`: never.
    pub fn away(&self) -> Option<(u32, Duration)> {
        self.status.borrow().away()
    }

    /// The last UPDATE messages with faults, the newest first.
    pub fn faults(&self) -> Vec<SeenFault> {
        self.status.borrow().seen()
    }

    /// Has the task give its session up and end; these updates are sent over it first, or by whoever gets it.
    pub(super) async fn hand_over(&self, updates: Vec<Update>) -> (Option<Handed>, Vec<PeerEvent>) {
        let (taken, handed) = oneshot::channel();
        // A task that has ended has nothing to give.
        let _ = self.hand_over.send(HandOver { updates, taken }).await;
        handed.await.unwrap_or_default()
    }

    /// Hands a command over if there is room, else gives it back. Never waits: the controller must not wait for a slow peer.
    pub fn try_command(&self, command: PeerCommand) -> Result<(), PeerCommand> {
        self.channel(&command).try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(command) | mpsc::error::TrySendError::Closed(command) => command,
        })
    }

    /// Hands a command over, waiting for room; an error means that the task has ended.
    pub async fn command(&self, command: PeerCommand) -> Result<(), PeerCommand> {
        self.channel(&command).send(command).await.map_err(|error| error.0)
    }

    /// How many route updates [`Self::try_command`] would take now.
    pub fn room(&self) -> usize {
        self.routes.capacity()
    }

    /// Waits until [`Self::try_command`] takes a good many route updates; for ever where the task has ended.
    pub async fn has_room(&self) {
        if self.routes.reserve_many(ROUTES_QUEUED / 2).await.is_err() {
            pending().await
        }
    }

    fn channel(&self, command: &PeerCommand) -> &mpsc::Sender<PeerCommand> {
        if matches!(command, PeerCommand::Send { .. }) { &self.routes } else { &self.orders }
    }
}

/// Starts nothing: the handle, where accepted connections go, and the future that is the task.
pub(super) fn new(
    config: PeerConfig,
    events: mpsc::Sender<PeerEvent>,
    seed: u64,
) -> (PeerHandle, mpsc::Sender<TcpStream>, impl Future<Output = ()> + Send) {
    let session = Session::new(config, seed);
    task(session, Instant::now(), Vec::new(), events)
}

/// A session that another task has given up, ready to go on.
pub(super) struct Resumed {
    session: Session,
    start: Instant,
    link: Link,
    /// What was agreed on.
    pub facts: SessionFacts,
}

/// Takes a session up that another task has given up.
pub(super) fn resume(config: PeerConfig, seed: u64, handed: Handed) -> Result<Resumed, String> {
    let age = Duration::from_millis(handed.state.established_ms);
    let now = Instant::now();
    // A machine that was started later than the session: its age is lost, and nothing depends on it.
    let (start, age) = now.checked_sub(age).map_or((now, Duration::ZERO), |start| (start, age));
    let stream = handed.stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(handed.stream));
    let stream = stream.map_err(|error| error.to_string())?;
    let (session, id, facts) = Session::resume(config, seed, handed.state, Moment(age))?;
    let link = Link { id, stream, unwritten: handed.unwritten, written: 0 };
    Ok(Resumed { session, start, link, facts })
}

impl Resumed {
    /// As [`new`].
    pub fn task(
        self,
        events: mpsc::Sender<PeerEvent>,
    ) -> (PeerHandle, mpsc::Sender<TcpStream>, impl Future<Output = ()> + Send) {
        task(self.session, self.start, vec![self.link], events)
    }
}

fn task(
    session: Session,
    start: Instant,
    links: Vec<Link>,
    events: mpsc::Sender<PeerEvent>,
) -> (PeerHandle, mpsc::Sender<TcpStream>, impl Future<Output = ()> + Send) {
    let (handle, accepted, driver) = driver(session, start, links, events);
    (handle, accepted, driver.run())
}

fn driver(
    session: Session,
    start: Instant,
    links: Vec<Link>,
    events: mpsc::Sender<PeerEvent>,
) -> (PeerHandle, mpsc::Sender<TcpStream>, Driver) {
    let config = session.config().clone();
    let (routes_in, routes) = mpsc::channel(ROUTES_QUEUED);
    let (orders_in, orders) = mpsc::channel(ORDERS_QUEUED);
    let (hand_over_in, hand_over) = mpsc::channel(1);
    let (accepted_in, accepted) = mpsc::channel(ORDERS_QUEUED);
    let published = Published::of(&session, start);
    let (status_in, status) = watch::channel(published);
    let driver = Driver {
        session,
        start,
        routes,
        orders,
        hand_over,
        accepted,
        events,
        status: status_in,
        log_rate: LogRate::default(),
        links,
        dialling: None,
        untold: VecDeque::new(),
        flight: Arc::default(),
        lingering: JoinSet::new(),
        stopping: false,
        buffer: vec![0; READ_BYTES],
        grace: None,
    };
    (
        PeerHandle { config, routes: routes_in, orders: orders_in, hand_over: hand_over_in, status },
        accepted_in,
        driver,
    )
}

/// One TCP connection and what is not yet written to it.
struct Link {
    id: ConnId,
    stream: TcpStream,
    unwritten: Vec<u8>,
    written: usize,
}

type Dialling = (ConnId, Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>);

struct Driver {
    session: Session,
    start: Instant,
    routes: mpsc::Receiver<PeerCommand>,
    orders: mpsc::Receiver<PeerCommand>,
    hand_over: mpsc::Receiver<HandOver>,
    accepted: mpsc::Receiver<TcpStream>,
    events: mpsc::Sender<PeerEvent>,
    status: watch::Sender<Published>,
    log_rate: LogRate,
    /// At most two: the session's collision rules allow no more.
    links: Vec<Link>,
    dialling: Option<Dialling>,
    untold: VecDeque<PeerEvent>,
    /// What is on its way to the controller, and what is untold.
    flight: Arc<Flight>,
    lingering: JoinSet<()>,
    stopping: bool,
    buffer: Vec<u8>,
    /// Until when the timers are not judged, because they were looked at so late that something may have happened meanwhile.
    grace: Option<Moment>,
}

/// What woke the driver.
enum Woken {
    Link(usize, io::Result<Ready>),
    Dialled(io::Result<TcpStream>),
    Accepted(TcpStream),
    Told,
    Command(Option<PeerCommand>),
    HandOver(HandOver),
    Time,
}

impl Driver {
    async fn run(mut self) {
        // One that was handed over runs already.
        if self.links.is_empty() {
            self.session.handle_start(self.now());
        }
        loop {
            self.act();
            if self.stopping {
                break;
            }
            self.publish();
            match self.wait().await {
                Woken::HandOver(order) => return self.give_up(order),
                woken => self.handle(woken),
            }
            self.check_time();
        }
        self.finish().await;
    }

    fn now(&self) -> Moment {
        Moment(self.start.elapsed())
    }

    /// Does what the session wants done; what comes of doing it (a write that fails) included.
    fn act(&mut self) {
        loop {
            let mut idle = true;
            while let Some(action) = self.session.poll_action() {
                idle = false;
                self.perform(action);
            }
            if idle {
                break;
            }
            for at in (0..self.links.len()).rev() {
                self.write(at);
            }
        }
        while let Some(event) = self.untold.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                self.untold.push_front(event);
                break;
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect(id) => self.dial(id),
            Action::Send(id, message) => {
                if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
                    link.unwritten.extend_from_slice(&message);
                }
            }
            Action::Close(id) => self.close(id),
            Action::Tell(mut event) => {
                if let PeerEvent::Update { update, .. } = &mut event {
                    self.flight.load(update);
                }
                self.untold.push_back(event);
            }
            Action::Note(update) => self.note(Arc::new(update)),
        }
    }

    /// Keeps a message with faults, and logs it unless there are too many (RFC 7606 section 6).
    fn note(&mut self, update: Arc<FaultyUpdate>) {
        if let Some(left_out) = self.log_rate.admit(self.now()) {
            warn!(
                peer = %self.session.config().remote, reaction = update.kind.as_str(),
                prefixes = update.prefixes_text(), detail = update.detail, message_bytes = update.message_bytes,
                message = update.hex(), left_out,
                "an UPDATE has a fault: {}", update.kind.outcome()
            );
        }
        self.status.send_modify(|published| published.note(update));
    }

    fn dial(&mut self, id: ConnId) {
        let config = self.session.config();
        let dialling =
            socket::dialling_socket(config).and_then(|made| Ok((made, socket::remote_address(config)?)));
        let future: Dialling = match dialling {
            Ok((socket, remote)) => (id, Box::pin(socket.connect(remote))),
            Err(error) => (id, Box::pin(std::future::ready(Err(error)))),
        };
        self.dialling = Some(future);
    }

    /// Closes after the last bytes went out, or a second later: a NOTIFICATION should arrive.
    fn close(&mut self, id: ConnId) {
        self.dialling.take_if(|(dialling, _)| *dialling == id);
        if let Some(at) = self.links.iter().position(|link| link.id == id) {
            let mut link = self.links.swap_remove(at);
            let Some(place) = lingering::Place::take(self.lingering.len()) else {
                // Who makes connections faster than they end gets what the socket takes, and no more.
                let _ = socket::send(&link.stream, &link.unwritten[link.written..]);
                return;
            };
            self.lingering.spawn(async move {
                let _place = place;
                let farewell = async {
                    link.stream.write_all(&link.unwritten[link.written..]).await?;
                    link.stream.shutdown().await?;
                    // Closing with unread bytes would send a reset, which can overtake what was written.
                    while link.stream.read(&mut [0; 4096]).await? > 0 {}
                    io::Result::Ok(())
                };
                // Whether the farewell arrives is the peer's luck; the session is over either way.
                let _ = timeout(LINGER, farewell).await;
            });
        }
    }

    /// What an operator may read from now on. Nobody waits for it, so nobody is woken: it happens for every batch of bytes.
    fn publish(&mut self) {
        let (session, start) = (&self.session, self.start);
        self.status.send_if_modified(|published| {
            published.follow(session, start);
            false
        });
    }

    async fn wait(&mut self) -> Woken {
        let (reading, is_full) = (self.is_reading(), self.flight.is_full());
        let writable = self.links.iter().all(|link| link.unwritten.len() - link.written < WRITE_AHEAD_BYTES);
        let deadline = self.grace.or(self.session.poll_deadline()).map(|at| self.start + at.0);
        tokio::select! {
            (at, ready) = ready(&self.links, reading) => Woken::Link(at, ready),
            outcome = dialled(&mut self.dialling) => Woken::Dialled(outcome),
            Some(stream) = self.accepted.recv() => Woken::Accepted(stream),
            _ = self.events.reserve(), if !self.untold.is_empty() => Woken::Told,
            () = self.flight.lighter(), if is_full => Woken::Told,
            command = self.orders.recv() => Woken::Command(command),
            Some(order) = self.hand_over.recv() => Woken::HandOver(order),
            Some(command) = self.routes.recv(), if writable => Woken::Command(Some(command)),
            Some(_) = self.lingering.join_next() => Woken::Told,
            () = sleep_until(deadline) => Woken::Time,
        }
    }

    fn handle(&mut self, woken: Woken) {
        let now = self.now();
        match woken {
            Woken::Link(at, Ok(ready)) => {
                if ready.is_writable() {
                    self.write(at);
                }
                if ready.is_readable() || ready.is_read_closed() {
                    self.read(at);
                }
            }
            Woken::Link(at, Err(error)) => self.lost(at, &error),
            Woken::Dialled(outcome) => self.dialled(outcome),
            Woken::Accepted(stream) => match socket::prepare_accepted(&stream, self.session.config()) {
                Ok(()) => {
                    let id = self.session.handle_accepted(now);
                    self.links.push(Link { id, stream, unwritten: Vec::new(), written: 0 });
                }
                Err(error) => debug!(%error, "an accepted connection was lost at once"),
            },
            Woken::Command(command) => self.obey(command),
            Woken::Told | Woken::HandOver(_) | Woken::Time => {}
        }
    }

    /// Everything that is meant for the peer is encoded, and the session goes to whoever has asked.
    fn give_up(mut self, HandOver { updates, taken }: HandOver) {
        while let Ok(command) = self.routes.try_recv() {
            self.obey(Some(command));
        }
        let session = self.session.counters().established;
        for update in updates {
            self.obey(Some(PeerCommand::Send { session, update }));
        }
        self.act();
        // A call beside it is closed: the peer calls whoever goes on.
        let mut links = std::mem::take(&mut self.links).into_iter();
        let link = links.find(|link| Some(link.id) == self.session.connection());
        let handed = self.session.hand_over(self.now()).zip(link).and_then(|(state, mut link)| {
            let unwritten = link.unwritten.split_off(link.written);
            Some(Handed { state, stream: link.stream.into_std().ok()?, unwritten })
        });
        // Whoever has asked may be gone; then the connection closes here.
        let _ = taken.send((handed, self.untold.drain(..).collect()));
    }

    fn dialled(&mut self, outcome: io::Result<TcpStream>) {
        let now = self.now();
        let Some((id, _)) = self.dialling.take() else { return };
        match outcome {
            Ok(stream) => {
                self.links.push(Link { id, stream, unwritten: Vec::new(), written: 0 });
                self.session.handle_connected(now, id);
            }
            Err(error) => {
                let loss = loss(&error, self.session.config());
                self.session.handle_lost(now, id, loss);
            }
        }
    }

    fn obey(&mut self, command: Option<PeerCommand>) {
        // Without a command the controller is gone.
        let gone = || PeerCommand::Stop { cease: super::Cease::PeerDeconfigured, text: String::new() };
        let command = command.unwrap_or_else(gone);
        let is_stop = matches!(command, PeerCommand::Stop { .. });
        if let Err(error) = self.session.handle_order(self.now(), command) {
            warn!(peer = %self.session.config().remote, %error, "routes were not sent");
        }
        if is_stop {
            self.stopping = true;
            self.act();
        }
    }

    /// Timers fire only after what had already arrived was read, and what can be written was: a process that was stopped for a while
    /// must not mistake its own absence for the peer's silence. The same holds when the controller kept us from reading.
    ///
    /// The sockets are asked themselves. The runtime's own `try_read` answers by what its last look at them has said, which was before
    /// the stop.
    fn check_time(&mut self) {
        // What came until now has been read when the timers are judged; what comes meanwhile waits for the next time.
        let until = self.now();
        let due = |driver: &Self| driver.session.poll_deadline().filter(|at| *at <= until);
        let Some(since) = due(self) else {
            self.grace = None;
            return;
        };
        match self.grace {
            // How a connect went is told by the runtime only: it has its turn first.
            None if self.dialling.is_some() && until - since > LATE => {
                self.grace = Some(until + GRACE);
                return;
            }
            Some(grace) if until < grace => return,
            _ => self.grace = None,
        }
        for at in (0..self.links.len()).rev() {
            self.write_waiting(at);
        }
        if self.is_reading() {
            for at in (0..self.links.len()).rev() {
                self.read_waiting(at);
            }
        } else {
            self.session.handle_deaf(until);
        }
        if due(self).is_some() {
            self.session.handle_timeout(until);
        }
    }

    /// All that waits in a connection's socket, up to what its buffer can hold.
    fn read_waiting(&mut self, at: usize) {
        let Some(id) = self.links.get(at).map(|link| link.id) else { return };
        for _ in 0..READS_MAX {
            // What is read may end this connection, and another takes its place.
            let Some(link) = self.links.get(at).filter(|link| link.id == id) else { return };
            let outcome = socket::receive(&link.stream, &mut self.buffer);
            if !self.take_read(at, outcome) {
                return;
            }
            self.act();
            if !self.is_reading() {
                return;
            }
        }
    }

    /// Whether the controller keeps up with the peer.
    fn is_reading(&self) -> bool {
        self.untold.is_empty() && !self.flight.is_full()
    }

    /// Writes as much as the socket takes now.
    fn write_waiting(&mut self, at: usize) {
        let Some(link) = self.links.get_mut(at) else { return };
        let waiting = &link.unwritten[link.written..];
        if waiting.is_empty() {
            return;
        }
        if let Ok(count @ 1..) = socket::send(&link.stream, waiting) {
            link.written += count;
            self.session.handle_write_progress(link.id);
        }
    }

    fn read(&mut self, at: usize) {
        let Some(link) = self.links.get(at) else { return };
        let outcome = link.stream.try_read(&mut self.buffer);
        self.take_read(at, outcome);
    }

    /// Whether bytes came.
    fn take_read(&mut self, at: usize, outcome: io::Result<usize>) -> bool {
        let now = self.now();
        let Some(link) = self.links.get(at) else { return false };
        match outcome {
            Ok(0) => self.lost(at, &io::Error::other("closed by the peer")),
            Ok(count) => {
                self.session.handle_bytes(now, link.id, &self.buffer[..count]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.lost(at, &error),
        }
        false
    }

    fn write(&mut self, at: usize) {
        let now = self.now();
        let Some(link) = self.links.get_mut(at) else { return };
        while link.written < link.unwritten.len() {
            match link.stream.try_write(&link.unwritten[link.written..]) {
                Ok(count) => {
                    link.written += count;
                    self.session.handle_write_progress(link.id);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.session.handle_write_blocked(now, link.id);
                }
                Err(error) => return self.lost(at, &error),
            }
        }
        link.unwritten.clear();
        link.written = 0;
    }

    fn lost(&mut self, at: usize, error: &io::Error) {
        // A reset may follow the reason for it: what the peer said before comes first.
        let link = self.links.swap_remove(at);
        while let Ok(count @ 1..) = link.stream.try_read(&mut self.buffer) {
            self.session.handle_bytes(self.now(), link.id, &self.buffer[..count]);
        }
        let loss = loss(error, self.session.config());
        self.session.handle_lost(self.now(), link.id, loss);
    }

    /// Says goodbye: last events, last bytes.
    async fn finish(mut self) {
        self.publish();
        self.routes.close();
        self.orders.close();
        let tell = async {
            while let Some(event) = self.untold.pop_front() {
                if self.events.send(event).await.is_err() {
                    break;
                }
            }
        };
        let linger = async { while self.lingering.join_next().await.is_some() {} };
        // A controller that takes no more events, or a peer that reads no more bytes, does not keep the task.
        let _ = timeout(LINGER * 2, async { tokio::join!(tell, linger) }).await;
    }
}

/// The first link that can be read, or written when something waits.
async fn ready(links: &[Link], reading: bool) -> (usize, io::Result<Ready>) {
    let one = async |at: usize| {
        let waiting = links.get(at).map(|link| (link, link.written < link.unwritten.len()));
        match waiting {
            Some((link, true)) if reading => link.stream.ready(Interest::READABLE | Interest::WRITABLE).await,
            Some((link, true)) => link.stream.ready(Interest::WRITABLE).await,
            Some((link, false)) if reading => link.stream.ready(Interest::READABLE).await,
            Some((_, false)) | None => pending().await,
        }
    };
    tokio::select! {
        ready = one(0) => (0, ready),
        ready = one(1) => (1, ready),
        ready = one(2) => (2, ready),
    }
}

async fn dialled(dialling: &mut Option<Dialling>) -> io::Result<TcpStream> {
    match dialling {
        Some((_, future)) => future.await,
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

fn loss(error: &io::Error, config: &PeerConfig) -> Loss {
    match error.kind() {
        io::ErrorKind::TimedOut => Loss::TimedOut,
        _ => Loss::Failed(socket::explain(error, config)),
    }
}
