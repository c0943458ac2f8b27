//! What of an operator's orders outlives the daemon ([`crate::state`]): collected here after each of them, and taken up again at a start.
//!
//! An order is answered when what follows from it is on the disk. The loop does not wait for that; only a change with a deadline is noted
//! before it is carried out, because it may be the reason of the crash.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Controller,
    start::Options,
    unsaved::{Settings, Source},
};
use crate::{
    bgp::{PeerCommand, PeerId},
    config::{Config, ConfigError, Warning},
    control::{Configuring, DEFAULT_SOCKET, Drilling, File, Request},
    events::Kind,
    kernel::fd_passing::peer_process,
    state::{
        AwayPeer, Configured, HeldSession, Kept, resolve,
        store::{Store, Then},
    },
};

/// Where things are kept by a daemon at the standard control socket.
const STANDARD: &str = "/var/lib/erdp";
/// How long the loop may wait for the disk.
const PATIENCE: Duration = Duration::from_millis(80);
/// How long a daemon that hands over may.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// After so many seconds in use a peer begins anew, whatever it did: the longest wait for too many prefixes.
const FORGOTTEN_S: u64 = 3_600;

/// What is kept now, and the store of it.
#[derive(Debug, Default)]
pub struct Keeper {
    store: Option<Store>,
    kept: Arc<Kept>,
    /// What the start runs, as it was written, and what is set in it.
    resolved: (File, Settings),
    /// Peers that are about to be away for too many prefixes: their sessions know for how long.
    leaving: BTreeSet<PeerId>,
}

/// How much of what is kept an order can have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The configuration too: what the operator says now counts more than the daemon's file as it is now.
    All,
    /// Everything else.
    Sessions,
}

impl Keeper {
    /// Opens the store of these options. Where a running daemon is to be taken over from, what it has not written itself is old.
    pub fn open(options: &Options, takes_over: bool) -> Self {
        let Some(folder) = folder(options) else {
            tracing::info!("operators' orders are not kept over a crash: no --state");
            return Self::default();
        };
        let (store, found) = match Store::open(&folder) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!("operators' orders are not kept over a crash: {error}");
                return Self::default();
            }
        };
        if let Some(why) = &found.set_aside {
            tracing::error!(folder = %folder.display(), "orders of before are lost: {why}");
        }
        let writer = takes_over.then(|| process_at(&options.control));
        let is_old = writer.is_some_and(|process| process.is_none() || process != found.process);
        // What has happened has happened, whoever wrote it down.
        let events = found.kept.events.clone();
        let kept = if is_old { Kept { events, ..Kept::default() } } else { found.kept };
        Self { store: Some(store), kept: Arc::new(kept), ..Self::default() }
    }

    /// A peer is sent away for too many prefixes.
    pub(super) fn expect_away(&mut self, peer: PeerId) {
        self.leaving.insert(peer);
    }

    /// The configuration that a start with this file runs.
    pub fn configuration(&mut self, path: &Path) -> Result<(Config, Vec<Warning>), ConfigError> {
        let as_written = Config::load(path);
        let Ok(file) = Source::of(path).read() else { return as_written };
        let resolved = resolve(self.kept.configured.as_ref(), &file);
        let (loaded, run, settings) = if resolved.run == file {
            (as_written, file, resolved.settings)
        } else {
            match Config::parse(&resolved.run.text, &resolved.run.path) {
                Ok(loaded) => (Ok(loaded), resolved.run, resolved.settings),
                Err(error) => {
                    tracing::error!(file = %path.display(), "what was applied cannot be run again, the file is: {error}");
                    self.resolved = (file, Vec::new());
                    return as_written;
                }
            }
        };
        for note in resolved.notes {
            tracing::warn!("{note}");
        }
        self.resolved = (run, settings);
        loaded
    }

    /// What a start with this file would run.
    pub(super) fn would_run(&self, file: File) -> File {
        match self.store {
            Some(_) => resolve(self.kept.configured.as_ref(), &file).run,
            None => file,
        }
    }

    /// For how long what an operator sets lasts.
    pub(super) fn how_long(&self) -> &'static str {
        match self.store {
            Some(_) => {
                "until a configuration is applied, or erdp is started with a changed file: write it into the configuration to keep it"
            }
            None => "until erdp is restarted: write it into the configuration to keep it",
        }
    }
}

/// The folder: as it was said, or as the service manager says, or the standard one.
fn folder(options: &Options) -> Option<PathBuf> {
    let standard = || (options.control == Path::new(DEFAULT_SOCKET)).then(|| STANDARD.into());
    let managed = || {
        let list = std::env::var_os("STATE_DIRECTORY")?;
        std::env::split_paths(&list).next().filter(|first| !first.as_os_str().is_empty())
    };
    options.state.clone().or_else(managed).or_else(standard)
}

/// The process that listens at a control socket.
fn process_at(control: &Path) -> Option<u32> {
    peer_process(&std::os::unix::net::UnixStream::connect(control).ok()?)
}

/// Seconds of Unix time.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Controller {
    /// Takes up what is kept, before any session begins; where another process hands over, only how the configuration is written: the
    /// rest it says itself.
    pub(super) fn take_up_kept(&mut self, takes_over: bool) {
        let (running, settings) = std::mem::take(&mut self.kept.resolved);
        self.noted.put_before(self.kept.kept.events.clone());
        let begun = if takes_over { "takes over from the process before it" } else { "started" };
        self.note(Kind::Daemon, concat!("erdp ", env!("CARGO_PKG_VERSION")), begun, None);
        if !takes_over {
            for (circuit, change) in settings {
                if let Err(error) = self.set_circuit(&circuit, &change, true) {
                    tracing::error!(circuit, error, "a change by the operator is lost");
                }
            }
            for held in self.kept.kept.holds.clone() {
                self.hold_again(&held);
            }
        }
        self.history.source.running = running;
        let from = self.history.source.running.path.clone();
        self.note_source(&from);
    }

    fn hold_again(&mut self, held: &HeldSession) {
        let peer = self.peer_between(held.ends).map(|peer| (peer.session.id, peer.name.clone()));
        let since = moment(held.since);
        let Some((id, name)) = peer else {
            return tracing::warn!(peer = %held.ends.1, since, text = held.text, "an operator has taken this session out of service: it is not in the configuration any more");
        };
        tracing::warn!(
            peer = name,
            since,
            text = held.text,
            "stays out of service, as an operator has said: `erdp peering enable` puts it back"
        );
        self.core.redundancy.peerings.handle_disable(id, &held.text, Duration::ZERO, self.started.elapsed());
    }

    /// Peers that were away for too many prefixes are away for the rest of their wait.
    pub(super) fn send_away_again(&mut self) {
        for away in self.kept.kept.away.clone() {
            let Some(peer) = self.peer_between(away.ends) else { continue };
            let id = peer.session.id;
            let (left, count) = (away.left(now()), away.count);
            if !left.is_zero() {
                tracing::warn!(
                    peer = peer.name,
                    left_s = left.as_secs(),
                    count,
                    "still away for too many prefixes (D2)"
                );
            }
            self.order(id, PeerCommand::Away { left, count });
        }
    }

    /// Notes the wait of each peer that has been sent away since.
    pub(super) fn keep_away(&mut self) {
        let known = |peer: &PeerId| {
            let (count, left) =
                self.speaker.as_ref()?.peer(*peer)?.away().filter(|(_, left)| !left.is_zero())?;
            let until = now().saturating_add(left.as_secs()).saturating_add(1);
            Some((*peer, AwayPeer { ends: self.ends_of(*peer)?, count, until }))
        };
        let found: Vec<(PeerId, AwayPeer)> = self.kept.leaving.iter().filter_map(known).collect();
        if found.is_empty() {
            return;
        }
        let mut kept = self.to_keep(Scope::Sessions);
        for (peer, away) in found {
            self.kept.leaving.remove(&peer);
            kept.away.retain(|other| other.ends != away.ends);
            kept.away.push(away);
        }
        self.save(kept, None);
    }

    /// An operator has put a session back in service: its wait is over.
    pub(super) fn forgive_away(&mut self, peer: PeerId) {
        let Some(ends) = self.ends_of(peer) else { return };
        let mut kept = self.to_keep(Scope::Sessions);
        for away in kept.away.iter_mut().filter(|away| away.ends == ends) {
            away.until = away.until.min(now());
        }
        self.save(kept, None);
    }

    fn ends_of(&self, peer: PeerId) -> Option<(IpAddr, IpAddr)> {
        let session = &self.core.peers.get(usize::from(peer.0))?.session;
        Some((session.local, session.remote))
    }

    /// Does something once what follows from a request is on the disk.
    pub(super) fn once_kept(&mut self, request: &Request, then: Then) {
        match scope_of(request) {
            Some(scope) => self.keep(scope, Some(then)),
            None => then(),
        }
    }

    /// Has the store write what is to be kept now, if that has changed.
    pub(super) fn keep(&mut self, scope: Scope, then: Option<Then>) {
        let kept = self.to_keep(scope);
        self.save(kept, then);
    }

    fn save(&mut self, kept: Kept, then: Option<Then>) {
        match &self.kept.store {
            // Who waits for an answer waits for what was handed in before, too.
            Some(store) if then.is_some() || kept != *self.kept.kept => {
                self.kept.kept = Arc::new(kept);
                store.save(self.kept.kept.clone(), then);
            }
            _ => then.into_iter().for_each(|then| then()),
        }
    }

    /// Notes what runs, so that a start goes back to it from the change that is carried out next.
    pub(super) fn keep_way_back(&mut self, from: &Path) {
        let Ok(file) = self.history.source.read() else { return };
        let running = &self.history.source.running;
        let applied = (running.text != file.text).then_some(running);
        let configured = Configured::new(&file, applied, &self.settings, Some(from));
        let kept = Kept { configured, ..self.to_keep(Scope::Sessions) };
        self.keep_before_going_on(kept, "a crash in the next moment might not go back from this change");
    }

    /// Has what is to be kept now on the disk before another process is started, which reads it.
    pub(super) fn keep_at_once(&mut self) {
        let kept = self.to_keep(Scope::All);
        self.keep_before_going_on(kept, "the process that takes over might not know what was applied last");
    }

    fn keep_before_going_on(&mut self, kept: Kept, otherwise: &str) {
        let Some(store) = &self.kept.store else { return };
        self.kept.kept = Arc::new(kept);
        if !tokio::task::block_in_place(|| store.flush(self.kept.kept.clone(), PATIENCE)) {
            tracing::warn!("the disk is slow: {otherwise}");
        }
    }

    /// What runs now is this process's to write from now on.
    pub(super) fn begin_keeping(&mut self) {
        let kept = self.to_keep(Scope::All);
        if let Some(store) = &self.kept.store {
            self.kept.kept = Arc::new(kept);
            store.save(self.kept.kept.clone(), None);
        }
    }

    /// Waits until everything is on the disk.
    pub(super) fn finish_keeping(&self) {
        let Some(store) = &self.kept.store else { return };
        if !tokio::task::block_in_place(|| store.flush(self.kept.kept.clone(), LAST_PATIENCE)) {
            tracing::warn!("the disk is slow: what was ordered last may not be kept");
        }
    }

    fn to_keep(&self, scope: Scope) -> Kept {
        let configured = match scope {
            Scope::Sessions => self.kept.kept.configured.clone(),
            Scope::All => self.configured(),
        };
        let held = self.core.redundancy.peerings.disabled().filter(|(peer, _)| !self.core.is_drilled(*peer));
        let holds = held.filter_map(|(peer, text)| self.held(peer, text)).collect();
        let matters = |away: &&AwayPeer| away.until.saturating_add(FORGOTTEN_S) > now();
        let away = self.kept.kept.away.iter().filter(matters).cloned().collect();
        Kept { holds, away, configured, events: self.noted.all() }
    }

    fn configured(&self) -> Option<Configured> {
        let Ok(file) = self.history.source.read() else { return self.kept.kept.configured.clone() };
        match self.history.unconfirmed() {
            Some(before) => {
                let applied = (before.file.text != file.text).then_some(&before.file);
                let from = &self.history.source.running.path;
                Configured::new(&file, applied, &before.settings, Some(from))
            }
            None => Configured::new(&file, self.applied(), &self.settings, None),
        }
    }

    fn held(&self, peer: PeerId, text: &str) -> Option<HeldSession> {
        let ends = self.ends_of(peer)?;
        let before = self.kept.kept.holds.iter().find(|held| held.ends == ends);
        Some(HeldSession { ends, text: text.to_owned(), since: before.map_or_else(now, |held| held.since) })
    }

    /// The sessions that an operator has taken out of service, a line each, for whoever watches the router.
    pub(super) fn held_lines(&self) -> String {
        let held = self.core.redundancy.peerings.disabled().filter(|(peer, _)| !self.core.is_drilled(*peer));
        let lines = held.filter_map(|(peer, text)| {
            let name = &self.core.peers.get(usize::from(peer.0))?.name;
            let since = moment(self.held(peer, text)?.since);
            let text = text.replace(char::is_control, " ");
            Some(format!(
                "held: session {name} is out of service by an operator's order of {since}: {text}\n"
            ))
        });
        lines.collect()
    }
}

fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|it| jiff::Timestamp::from_second(it).ok());
    moment.map_or_else(|| "an unknown time".into(), |moment| moment.to_string())
}

/// What an order changes of what is kept; `None`: it is a question.
fn scope_of(request: &Request) -> Option<Scope> {
    match request {
        Request::Config(Configuring::Show | Configuring::Diff(_)) => None,
        Request::Config(_) | Request::Set(_) => Some(Scope::All),
        Request::Drill(Drilling::Watch) => None,
        Request::Peering(_) | Request::Drill(_) => Some(Scope::Sessions),
        Request::Show(_)
        | Request::Routes(_)
        | Request::Paths(_)
        | Request::Peer { .. }
        | Request::Metrics
        | Request::Ready
        | Request::Explain(_)
        | Request::HandOver { .. }
        | Request::Restart
        | Request::Load { .. } => None,
    }
}
