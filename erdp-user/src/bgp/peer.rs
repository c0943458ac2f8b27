//! The driver of one session: sockets and timers around [`Session`], no `if` about the protocol.
//!
//! Each connection has a reading and a writing task. What is to be written waits in a backlog here; while it is longer than
//! [`BACKLOG_MAX`] messages no command of the controller is taken, so a slow peer holds back its own routes and nothing else.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

use super::{
    PORT, PeerCommand, PeerConfig, PeerEvent,
    session::{Action, Direction, Millis, Session},
    socket,
};

/// Messages that wait for a peer before commands do.
const BACKLOG_MAX: usize = 1_024;
/// Time for TCP to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a stopped session may take to get its last message out.
const FAREWELL: Duration = Duration::from_secs(1);

/// What operators see of a session.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PeerStatus {
    /// RFC 4271's name of the state.
    pub state: &'static str,
    /// Seconds since it was established.
    pub uptime_s: Option<u64>,
    /// Why it is, or was last, down.
    pub last_error: Option<String>,
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Times it was established.
    pub established: u64,
}

/// A running session as the controller holds it.
pub struct Peer {
    /// Commands; it waits when the peer is slow.
    pub commands: mpsc::Sender<PeerCommand>,
    /// Where accepted connections go.
    pub accepted: mpsc::Sender<TcpStream>,
    status: Arc<Mutex<PeerStatus>>,
    task: JoinHandle<()>,
}

impl Peer {
    /// Starts a session; `events` is shared by all.
    pub fn start(config: PeerConfig, events: mpsc::Sender<PeerEvent>, seed: u64) -> Self {
        let (commands, commands_in) = mpsc::channel(64);
        let (accepted, accepted_in) = mpsc::channel(2);
        let status = Arc::new(Mutex::new(PeerStatus { state: "Idle", ..PeerStatus::default() }));
        let driver = Driver {
            session: Session::new(config, seed),
            started: Instant::now(),
            events,
            status: status.clone(),
            connecting: None,
            outgoing: None,
            incoming: None,
        };
        let task = tokio::spawn(driver.run(commands_in, accepted_in));
        Self { commands, accepted, status, task }
    }

    /// A snapshot.
    pub fn status(&self) -> PeerStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the session with Cease/2 and waits until it has been sent, at most [`FAREWELL`] and a little.
    pub async fn stop(self, text: &str) {
        // A full channel means a peer that does not read: the task is ended without a farewell.
        if self.commands.try_send(PeerCommand::Stop(text.into())).is_ok() {
            let _ = tokio::time::timeout(FAREWELL * 2, self.task).await;
        } else {
            self.task.abort();
        }
    }
}

/// What the tasks of a connection report.
enum Heard {
    Bytes(Direction, u64, Vec<u8>),
    Closed(Direction, u64, String),
}

/// A connection's tasks; dropping it ends them.
struct Line {
    number: u64,
    writer: mpsc::Sender<Vec<u8>>,
    backlog: VecDeque<Vec<u8>>,
    reader: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Driver {
    session: Session,
    started: Instant,
    events: mpsc::Sender<PeerEvent>,
    status: Arc<Mutex<PeerStatus>>,
    connecting: Option<JoinHandle<io::Result<TcpStream>>>,
    outgoing: Option<Line>,
    incoming: Option<Line>,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<PeerCommand>,
        mut accepted: mpsc::Receiver<TcpStream>,
    ) {
        let (heard_in, mut heard) = mpsc::channel(64);
        let mut lines = 0;
        self.session.handle_start();
        loop {
            if self.perform().await.is_err() {
                return; // the controller has gone
            }
            self.publish();
            let deadline = self.session.poll_deadline();
            let sleep = tokio::time::sleep_until(self.instant(deadline).into());
            let backlog = self.lines().map(|line| line.backlog.len()).sum::<usize>();
            tokio::select! {
                Some(stream) = accepted.recv() => {
                    lines += 1;
                    self.connected(Direction::Incoming, stream, lines, &heard_in);
                }
                result = finished(&mut self.connecting), if self.connecting.is_some() => {
                    self.connecting = None;
                    match result {
                        Ok(stream) => {
                            lines += 1;
                            self.connected(Direction::Outgoing, stream, lines, &heard_in);
                        }
                        Err(error) => self.session.handle_connect_failed(&error.to_string(), self.now()),
                    }
                }
                Some(event) = heard.recv() => self.heard(event),
                () = drained(self.outgoing.as_mut()) => {}
                () = drained(self.incoming.as_mut()) => {}
                command = commands.recv(), if backlog < BACKLOG_MAX => match command {
                    Some(PeerCommand::Send(update)) => self.session.handle_send(&update),
                    Some(PeerCommand::Stop(text)) => return self.farewell(&text).await,
                    None => return self.farewell("the daemon stops").await,
                },
                () = sleep, if deadline.is_some() => self.session.handle_timeout(self.now()),
            }
        }
    }

    /// Carries out what the session wants.
    async fn perform(&mut self) -> Result<(), mpsc::error::SendError<PeerEvent>> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect => {
                    self.connecting = Some(tokio::spawn(connect(self.session.config().clone())))
                }
                Action::CancelConnect => {
                    if let Some(attempt) = self.connecting.take() {
                        attempt.abort();
                    }
                }
                Action::Send(direction, bytes) => {
                    if let Some(line) = self.line(direction) {
                        line.backlog.push_back(bytes);
                    }
                }
                Action::Close(direction) => self.close(direction),
                Action::Tell(event) => self.events.send(event).await?,
            }
        }
        Ok(())
    }

    fn connected(
        &mut self,
        direction: Direction,
        stream: TcpStream,
        number: u64,
        heard: &mpsc::Sender<Heard>,
    ) {
        let local = stream.local_addr().map_or_else(|_| self.session.config().local, |address| address.ip());
        if self.line(direction).is_some() {
            return; // the session would close it anyhow; the earlier one is nearer to its goal
        }
        // Small messages must not wait for an acknowledgement (Nagle); a failure only costs time.
        let _ = stream.set_nodelay(true);
        let (mut read, mut write) = stream.into_split();
        let (writer, mut to_write) = mpsc::channel::<Vec<u8>>(64);
        let report = heard.clone();
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let event = match read.read(&mut buffer).await {
                    Ok(0) => Heard::Closed(direction, number, "by the peer".into()),
                    Ok(len) => Heard::Bytes(direction, number, buffer[..len].to_vec()),
                    Err(error) => Heard::Closed(direction, number, error.to_string()),
                };
                let ends = matches!(event, Heard::Closed(..));
                if report.send(event).await.is_err() || ends {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(bytes) = to_write.recv().await {
                if write.write_all(&bytes).await.is_err() {
                    return; // the reader reports why
                }
            }
        });
        *self.slot(direction) = Some(Line { number, writer, backlog: VecDeque::new(), reader });
        self.session.handle_connected(direction, local, self.now());
    }

    fn heard(&mut self, event: Heard) {
        let now = self.now();
        let (Heard::Bytes(direction, number, _) | Heard::Closed(direction, number, _)) = &event;
        let current = self.line(*direction).is_some_and(|line| line.number == *number);
        match event {
            Heard::Bytes(direction, _, bytes) if current => self.session.handle_bytes(direction, &bytes, now),
            Heard::Closed(direction, _, reason) if current => {
                *self.slot(direction) = None;
                self.session.handle_closed(direction, &reason, now);
            }
            _ => {}
        }
    }

    /// What was to be sent still goes out: the writing task ends when its channel is empty and closed.
    fn close(&mut self, direction: Direction) {
        if let Some(line) = self.slot(direction).take() {
            let rest: Vec<u8> = line.backlog.iter().flatten().copied().collect();
            let _ = line.writer.try_send(rest);
        }
    }

    async fn farewell(mut self, text: &str) {
        self.session.handle_stop(text);
        let writers: Vec<mpsc::Sender<Vec<u8>>> = self.lines().map(|line| line.writer.clone()).collect();
        let _ = self.perform().await;
        self.publish();
        for writer in writers {
            // The channel closes when the writing task has written everything.
            let capacity = writer.max_capacity();
            let _ = tokio::time::timeout(FAREWELL, writer.reserve_many(capacity)).await;
        }
    }

    fn publish(&self) {
        let now = self.now();
        let totals = self.session.totals();
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = PeerStatus {
            state: self.session.state().label(),
            uptime_s: self.session.established_at().map(|since| (now.0 - since.0) / 1000),
            last_error: self.session.last_error().map(str::to_owned),
            messages_in: totals.messages_in,
            messages_out: totals.messages_out,
            established: totals.established,
        };
    }

    fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    /// Any time will do without a deadline: the branch is off then.
    fn instant(&self, deadline: Option<Millis>) -> Instant {
        self.started + Duration::from_millis(deadline.map_or(0, |at| at.0))
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.outgoing.iter().chain(&self.incoming)
    }

    fn line(&mut self, direction: Direction) -> Option<&mut Line> {
        self.slot(direction).as_mut()
    }

    fn slot(&mut self, direction: Direction) -> &mut Option<Line> {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }
}

async fn finished(attempt: &mut Option<JoinHandle<io::Result<TcpStream>>>) -> io::Result<TcpStream> {
    match attempt {
        Some(attempt) => attempt.await.unwrap_or_else(|error| Err(io::Error::other(error))),
        None => std::future::pending().await,
    }
}

/// Moves the backlog's first message to the writing task; never ready without one.
async fn drained(line: Option<&mut Line>) {
    match line {
        Some(line) if !line.backlog.is_empty() => {
            if let Ok(permit) = line.writer.reserve().await
                && let Some(bytes) = line.backlog.pop_front()
            {
                permit.send(bytes);
            } else {
                line.backlog.clear(); // the writing task has ended: the reader says why
            }
        }
        _ => std::future::pending().await,
    }
}

async fn connect(config: PeerConfig) -> io::Result<TcpStream> {
    let attempt = async {
        let tcp = Socket::new(
            Domain::for_address(SocketAddr::new(config.remote, PORT)),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        tcp.set_nonblocking(true)?;
        if let Some(interface) = &config.interface {
            tcp.bind_device(Some(interface.as_bytes()))?;
        }
        if let Some(key) = &config.md5 {
            socket::set_md5_key(&tcp, config.remote, key)?;
        }
        tcp.bind(&with_scope(config.local, &config)?.into())?;
        let mut remote = with_scope(config.remote, &config)?;
        remote.set_port(PORT);
        TcpSocket::from_std_stream(tcp.into()).connect(remote).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        )),
    }
}

/// A link-local address needs its interface.
fn with_scope(address: IpAddr, config: &PeerConfig) -> io::Result<SocketAddr> {
    let mut end = SocketAddr::new(address, 0);
    if let (SocketAddr::V6(v6), Some(interface)) = (&mut end, &config.interface)
        && v6.ip().is_unicast_link_local()
    {
        v6.set_scope_id(socket::interface_index(interface)?);
    }
    Ok(end)
}
