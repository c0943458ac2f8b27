//! A planned restart: one process gives another its sessions, and neither a peer nor a packet notices.
//!
//! ```text
//! new                                              old
//! load the program, read the kernel's facts        forwards, speaks BGP
//! ask on the control socket  --------------------> gives all sessions up, listens no more
//!       <---------------- Hello, Session (with its TCP socket)*, Routes*, Told*, Setting*, End
//! decide, fill the maps, replace the program
//! Taken  ----------------------------------------> closes its control socket
//!       <------------------------------------ Gone, and ends without undoing anything
//! listen, drive the sessions
//! ```
//! Until it has read `Taken` the old process has everything it needs to go on: if the new one fails, refuses or is dead by then, the old
//! one takes its sessions up again by the same code, and its program back onto the links. From there on there is no way back.
//!
//! What is handed over is an enumeration to which other things can be added; a kind that the receiver does not know is skipped
//! and said. [`VERSION`] changes when a kind changes its meaning.

mod keeping;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::keeping::Keeping;
use super::{Controller, Inputs, exchange::CHANGING};
use crate::{
    bgp::{
        Handed as HandedSession, Listener, Moment, PeerEvent, PeerId, Session, SessionState, Speaker, Update,
    },
    config::{self, CircuitChange},
    control::{Envelope, File, PROTOCOL, Reply, Request, connect::connect, server},
    dataplane::Dataplane as _,
    events::Event,
    kernel::fd_passing,
};

/// Version of the conversation.
pub const VERSION: u32 = 1;
/// How long either side waits for the other's next word: with full tables on a busy machine to decide takes seconds. Nothing depends on
/// its being short: peers are kept alive meanwhile, and the death of the other ends it at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why nothing was handed over; the process that was asked goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The conversation broke off.
    #[error("taking over from the erdp at {path}: {error}; it goes on as before, see its log")]
    Broken {
        /// The control socket.
        path: std::path::PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It does not want to, or cannot.
    #[error("the erdp at {path} does not hand over and goes on: {reason}")]
    Refused {
        /// The control socket.
        path: std::path::PathBuf,
        /// Its own words.
        reason: String,
    },
}

/// What is handed over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Handed {
    /// First: who speaks.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// `erdp --version`.
        release: String,
    },
    /// An established session; its connection comes with it.
    Session {
        /// Our address and the peer's: what a session is known by.
        ends: (IpAddr, IpAddr),
        /// What the protocol must know.
        state: Box<SessionState>,
        /// What is to be written first.
        unwritten: Vec<u8>,
    },
    /// Some of what the peer of the last session has announced.
    Routes(Update),
    /// Some of what it has been told.
    Told(Update),
    /// Families whose first table it has not been told whole.
    Untold {
        /// Which.
        families: Vec<crate::bgp::Family>,
    },
    /// A change by the operator that lasts as long as the daemon.
    Setting {
        /// The circuit.
        circuit: String,
        /// What was changed.
        change: CircuitChange,
    },
    /// A session that an operator has taken down.
    Disabled {
        /// Our address and the peer's.
        ends: (IpAddr, IpAddr),
        /// What the peer's operator was told.
        text: String,
    },
    /// The event log.
    Events {
        /// Oldest first.
        events: Vec<Event>,
    },
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What is taken up while it is handed over.
#[derive(Default)]
struct Inheritance {
    /// Sessions that fit the configuration.
    sessions: Vec<(PeerId, HandedSession)>,
    /// Whose tables are coming.
    current: Option<PeerId>,
}

/// The new process's end of the conversation.
pub(super) struct Successor {
    socket: UnixStream,
    path: std::path::PathBuf,
}

impl Successor {
    /// Asks the process behind a control socket, which may refuse for what we would run with; `None`: nobody is there. From here on
    /// it waits for us.
    pub fn ask(path: &Path, file: Option<File>) -> Result<Option<Self>, HandOverError> {
        let broken = |error| HandOverError::Broken { path: path.into(), error };
        let Ok(mut socket) = connect(path, PATIENCE) else { return Ok(None) };
        socket.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
        let mut request = serde_json::to_vec(&Envelope {
            protocol: PROTOCOL,
            request: Request::HandOver { version: VERSION, file },
        })
        .map_err(io::Error::other)
        .map_err(broken)?;
        request.push(b'\n');
        socket.write_all(&request).map_err(broken)?;
        match serde_json::from_str(&line(&mut socket).map_err(broken)?) {
            Ok(Reply::Ok(_)) => Ok(Some(Self { socket, path: path.into() })),
            Ok(Reply::Error(reason)) => Err(HandOverError::Refused { path: path.into(), reason }),
            Err(error) => Err(broken(io::Error::other(error))),
        }
    }

    /// The next thing that is handed over, with its connection; `None`: that was everything.
    fn next(&mut self) -> Result<Option<(Handed, Option<OwnedFd>)>, HandOverError> {
        let broken = |error| HandOverError::Broken { path: self.path.clone(), error };
        let (message, file) = fd_passing::receive(&mut self.socket).map_err(broken)?;
        if message.is_empty() {
            return Ok(None);
        }
        let handed = handed(&message).map_err(io::Error::other).map_err(broken)?;
        Ok(Some((handed, file)))
    }

    /// Everything is ours. Waits until the other has let go of what only one can have. An error: it goes on itself.
    pub fn taken(mut self) -> Result<(), HandOverError> {
        let broken = |error| HandOverError::Broken { path: self.path.clone(), error };
        self.socket.write_all(b"taken\n").map_err(broken)?;
        if !matches!(line(&mut self.socket).as_deref(), Ok("gone\n")) {
            tracing::warn!("the process before us has not said that it is gone");
        }
        // It stays open as long as we live: its end is how the other knows that nobody has taken anything.
        std::mem::forget(self.socket);
        Ok(())
    }
}

/// One line, and not a byte more: messages may follow.
fn line(socket: &mut UnixStream) -> io::Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        if socket.read(&mut byte)? == 0 {
            break;
        }
        line.extend(byte);
    }
    String::from_utf8(line).map_err(io::Error::other)
}

/// Whether the process at the other end lives, which has nothing more to say now.
fn is_open(socket: &mut UnixStream) -> io::Result<bool> {
    socket.set_nonblocking(true)?;
    let read = socket.read(&mut [0]);
    socket.set_nonblocking(false)?;
    Ok(!matches!(read, Ok(0)))
}

/// Of full tables nearly all messages are routes. An enumeration that is told apart by a key within is read twice, so these are looked at
/// first.
fn handed(message: &[u8]) -> serde_json::Result<Handed> {
    let is = |kind: &[u8]| message.strip_prefix(b"{\"kind\":\"").is_some_and(|rest| rest.starts_with(kind));
    if is(b"routes\"") {
        serde_json::from_slice(message).map(Handed::Routes)
    } else if is(b"told\"") {
        serde_json::from_slice(message).map(Handed::Told)
    } else {
        serde_json::from_slice(message)
    }
}

/// Reads a message as a successor does and writes it as a predecessor does, for tests that hold the two together.
///
/// # Errors
/// What is wrong with the message.
pub fn reread(message: &[u8]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&handed(message)?)
}

impl Controller {
    /// Takes up everything, as it comes; the sessions that fit the configuration are the answer.
    pub(super) fn inherit(
        &mut self,
        from: &mut Successor,
    ) -> Result<Vec<(PeerId, HandedSession)>, HandOverError> {
        let mut inheritance = Inheritance::default();
        while let Some((handed, file)) = from.next()? {
            self.take_up(&mut inheritance, handed, file);
        }
        Ok(inheritance.sessions)
    }

    fn take_up(&mut self, inheritance: &mut Inheritance, handed: Handed, file: Option<OwnedFd>) {
        match (handed, inheritance.current) {
            (Handed::Hello { version, release }, _) => {
                tracing::info!(version, release, "the process before us hands over");
            }
            (Handed::Session { ends, state, unwritten }, _) => {
                let session = file.map(TcpStream::from).map(|stream| HandedSession {
                    state: *state,
                    stream,
                    unwritten,
                });
                inheritance.current =
                    session.and_then(|session| self.take_session(inheritance, ends, session));
            }
            (Handed::Routes(update), Some(peer)) => self.core.rib.update(peer, update),
            (Handed::Told(update), Some(peer)) => self.core.rib.was_told(peer, update),
            (Handed::Untold { families }, Some(peer)) => self.core.rib.is_untold(peer, &families),
            // Of a session that ends.
            (Handed::Routes(_) | Handed::Told(_) | Handed::Untold { .. }, None) => {}
            (Handed::Setting { circuit, change }, _) => {
                if let Err(error) = self.set_circuit(&circuit, &change, true) {
                    tracing::warn!(circuit, error, "a change by the operator is lost");
                }
            }
            (Handed::Disabled { ends, text }, _) => {
                if let Some(id) = self.peer_between(ends).map(|peer| peer.session.id) {
                    self.core.redundancy.peerings.handle_disable(
                        id,
                        &text,
                        Duration::ZERO,
                        self.started.elapsed(),
                    );
                }
            }
            (Handed::Events { events }, _) => self.noted.put_before(events),
            (Handed::Unknown, _) => {
                tracing::warn!("the process before us hands over something that is not known here: left out");
            }
        }
    }

    /// A session; the answer is whose it is, unless it cannot go on here.
    fn take_session(
        &mut self,
        inheritance: &mut Inheritance,
        ends: (IpAddr, IpAddr),
        session: HandedSession,
    ) -> Option<PeerId> {
        let Some(peer) = self.peer_between(ends) else {
            tracing::warn!(peer = %ends.1, "its session ends: it is not in the configuration");
            return None;
        };
        // Only to know what was agreed on: the session itself begins when it is ours.
        let (id, config) = (peer.session.id, peer.session.clone());
        let resumed = Session::resume(config, 0, session.state.clone(), Moment::default());
        inheritance.sessions.push((id, session));
        let (_, _, facts) = resumed.ok()?;
        self.core.rib.peer_resumed(id, &facts);
        Some(id)
    }

    pub(super) fn peer_between(&self, ends: (IpAddr, IpAddr)) -> Option<&config::Peer> {
        self.core.peers.iter().find(|peer| (peer.session.local, peer.session.remote) == ends)
    }

    /// The sessions go on, and only what differs from what their peers know is told.
    pub(super) async fn resume_sessions(
        &mut self,
        speaker: &mut Speaker,
        sessions: impl IntoIterator<Item = (PeerId, HandedSession)>,
    ) -> BTreeSet<PeerId> {
        let mut resumed = BTreeSet::new();
        for (id, session) in sessions {
            let Some(peer) = self.core.peers.get(usize::from(id.0)) else { continue };
            let (config, name) = (peer.session.clone(), peer.name.clone());
            resumed.insert(id);
            match speaker.resume(config, session).await {
                Ok(facts) => {
                    self.core.resume_session(id, &facts);
                    tracing::info!(peer = name, "session goes on");
                }
                Err(error) => {
                    tracing::warn!(peer = name, error, "session begins anew");
                    self.core.lose_session(id);
                }
            }
        }
        resumed
    }

    /// Gives everything to the process that has asked. `true`: it has taken it, and this one must end without undoing anything.
    pub(super) async fn give(&mut self, successor: server::Successor, inputs: &mut Inputs) -> bool {
        let server::Successor { mut socket, file } = successor;
        let not_now = self.why_no_successor().map(str::to_owned);
        if let Some(reason) = not_now.or_else(|| self.what_would_be_lost(file.as_ref()?)) {
            // Whoever has asked may be gone.
            let _ = say(&mut socket, &Reply::Error(reason));
            return false;
        }
        self.end_drill_for_hand_over();
        self.carry_out().await;
        // The next writer of the store is the other process.
        self.finish_keeping();
        tracing::info!("handing over to another process");
        let begun = Instant::now();
        let Some(speaker) = self.speaker.take() else { return false };
        let waiting = self.core.peers.iter().zip(&mut self.core.outboxes);
        let updates = waiting.map(|(peer, outbox)| (peer.session.id, outbox.updates.drain(..).collect()));
        let (sessions, untold) = speaker.hand_over(updates.collect::<BTreeMap<_, Vec<Update>>>()).await;
        while let Ok(event) = inputs.peers.try_recv() {
            self.on_peer(event);
        }
        untold.into_iter().for_each(|event| self.on_peer(event));
        let taken = tokio::task::block_in_place(|| {
            let keeping = Keeping::begin(sessions.values(), self.supervisor.clone());
            let taken = self.send_all(&mut socket, &sessions);
            match keeping {
                Ok(keeping) => keeping.end(),
                Err(error) => tracing::warn!(%error, "peers hear no keepalives meanwhile"),
            }
            taken
        });
        match taken {
            Ok(()) => {
                tracing::info!(sessions = sessions.len(), after = ?begun.elapsed(), "handed over");
                inputs.close_control().await;
                // Before our end, so that the service goes on; and before the other's word that it is ready, which counts from then on.
                if let Some(process) = fd_passing::peer_process(&socket) {
                    self.supervisor.succeeded_by(process);
                }
                // The other waits for it, but not for ever.
                let _ = socket.write_all(b"gone\n");
                true
            }
            Err(error) => {
                tracing::error!(%error, "not handed over: going on");
                self.go_on(sessions, inputs).await;
                false
            }
        }
    }

    /// Why nobody can take over now.
    pub(super) fn why_no_successor(&self) -> Option<&'static str> {
        if self.core.inherited.is_some() {
            Some("it waits for its peers' routes itself: try again in two minutes at most")
        } else if !self.core.dataplane.is_pinned() {
            Some(
                "nothing of it is pinned, so that its program would end with it: restart it without --take-over (its peers will notice)",
            )
        } else if self.is_changing() {
            Some(CHANGING)
        } else if self.history.waits() {
            Some("a change waits to be confirmed: `erdp config confirm` or `erdp config rollback` first")
        } else {
            None
        }
    }

    fn send_all(
        &self,
        socket: &mut UnixStream,
        sessions: &BTreeMap<PeerId, HandedSession>,
    ) -> io::Result<()> {
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        say(socket, &Reply::Ok(VERSION.into()))?;
        let mut sender = fd_passing::Sender::new(socket);
        let to = &mut sender;
        send(to, &Handed::Hello { version: VERSION, release: env!("CARGO_PKG_VERSION").into() })?;
        for (id, session) in sessions {
            let Some(peer) = self.core.peers.get(usize::from(id.0)) else { continue };
            let ends = (peer.session.local, peer.session.remote);
            let (state, unwritten) = (Box::new(session.state.clone()), session.unwritten.clone());
            let message = serde_json::to_vec(&Handed::Session { ends, state, unwritten })?;
            to.send(&message, Some(session.stream.as_fd()))?;
            let table = self.core.rib.table(*id);
            table.announced.into_iter().try_for_each(|update| send(to, &Handed::Routes(update)))?;
            table.told.into_iter().try_for_each(|update| send(to, &Handed::Told(update)))?;
            send(to, &Handed::Untold { families: table.initial })?;
        }
        for (id, text) in self.core.redundancy.peerings.disabled() {
            let Some(peer) = self.core.peers.get(usize::from(id.0)) else { continue };
            let ends = (peer.session.local, peer.session.remote);
            send(to, &Handed::Disabled { ends, text: text.to_owned() })?;
        }
        for (circuit, change) in &self.settings {
            send(to, &Handed::Setting { circuit: circuit.clone(), change: change.clone() })?;
        }
        send(to, &Handed::Events { events: self.noted.all() })?;
        to.send(&[], None)?;
        to.flush()?;
        match line(socket)?.as_str() {
            "taken\n" if is_open(socket)? => Ok(()),
            "taken\n" => {
                Err(io::Error::other("the other process has ended right after it had taken everything"))
            }
            other => Err(io::Error::other(format!("the other process ended: {other:?}"))),
        }
    }

    /// Takes up again what nobody else has taken.
    async fn go_on(&mut self, sessions: BTreeMap<PeerId, HandedSession>, inputs: &mut Inputs) {
        let (events, peer_events) = mpsc::channel(1_024);
        inputs.peers = peer_events;
        let Some(mut speaker) = self.listen(events).await else { return };
        let resumed = self.resume_sessions(&mut speaker, sessions).await;
        self.start_others(speaker, &resumed).await;
        let all = self.core.all_peers();
        self.core.at(self.started.elapsed()).close_gates(&all);
        self.carry_out().await;
        // The other may have had its program on the links already.
        let ports = self.core.forwarding.topology().ports();
        self.core.log_failure(|it| {
            it.dataplane.take_over(&ports, it.about.clone())?;
            it.dataplane.retire_others()
        });
    }

    /// Port 179 again; without it there is no BGP, which is said, and forwarding stays as it is.
    async fn listen(&self, events: mpsc::Sender<PeerEvent>) -> Option<Speaker> {
        let addresses = self.listening();
        match retry(|| Listener::bind(&addresses)).await {
            Ok(listener) => Some(Speaker::start(listener, events)),
            Err(error) => {
                tracing::error!(%error, "BGP stays down: restart erdp");
                None
            }
        }
    }
}

/// Tries for a few seconds what another process may just be about to let go of.
pub(super) async fn retry<T, E>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(5)).await,
            result => return result,
        }
    }
}

fn say(socket: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    socket.write_all(&text)
}

fn send(to: &mut fd_passing::Sender<'_>, handed: &Handed) -> io::Result<()> {
    to.send(&serde_json::to_vec(handed)?, None)
}
