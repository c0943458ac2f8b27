//! The controller as it begins: the program with the circuits' policers, the records that depend on nobody, BFD, BGP, and the way from the
//! process before it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use tokio::sync::{mpsc, watch};

use super::{Options, StartError};
use crate::{
    bfd,
    bgp::{Handed, Listener, PORT, PeerConfig, PeerEvent, PeerId, Speaker},
    compile::{Edge, limits},
    config::{Config, Peer},
    control::roles::Roles,
    controller::{
        Controller, bfd as controller_bfd,
        estate::Estate,
        hand_over::{Successor, retry},
        supervisor,
    },
    core::Core,
    dataplane::{
        Dataplane, Mode, Record,
        aya::{AyaDataplane, Heritage, LoadOptions},
        pins::About,
    },
    fib::Topology,
    kernel::{Kernel, carrier},
    metrics::board::Board,
};

/// The program with the circuits' policers in place.
pub(super) fn load(
    options: &Options,
    config: &Config,
    estate: &Estate,
    heritage: Option<Heritage>,
) -> Result<AyaDataplane, StartError> {
    let load = LoadOptions {
        fib_blocks: config.fib_blocks,
        drop_samples: config.drop_samples,
        symmetric_hash: config.symmetric_hash,
        log_drops: options.log_drops,
        ..LoadOptions::default()
    };
    let keeps_buckets = heritage.as_ref().is_some_and(|heritage| heritage.shares);
    let mut dataplane = match &estate.pins {
        Some(pins) => AyaDataplane::load_pinned(load, pins.clone(), heritage)?,
        None => AyaDataplane::load(load)?,
    };
    if options.log_drops
        && let Err(error) = dataplane.forward_log()
    {
        tracing::warn!(%error, "drops are not logged");
    }
    for record in limits::records(config, dataplane.clock()) {
        if keeps_buckets && matches!(record, Record::Bucket(..)) {
            continue;
        }
        dataplane.write(&record)?;
    }
    Ok(dataplane)
}

impl Controller {
    /// Around a core that knows nothing of the kernel or of peers yet.
    pub(super) fn new(
        config: Config,
        kernel: Kernel,
        dataplane: AyaDataplane,
        topology: Topology,
        about: About,
    ) -> Result<Self, StartError> {
        let edge = Edge::of(&config, topology);
        let roles = watch::Sender::new(Roles { orders: config.control_orders.clone() });
        Ok(Self {
            core: Core::new(config, edge, dataplane, about)?,
            speaker: None,
            listener: None,
            wanted: Default::default(),
            asked_share: 0,
            drops: Default::default(),
            bfd: Default::default(),
            carrier: None,
            parts: Default::default(),
            ends: None,
            telemetry: Default::default(),
            board: Arc::new(Board::new(Instant::now())),
            roles,
            orders: Default::default(),
            history: Default::default(),
            changing: None,
            kept: Default::default(),
            supervisor: supervisor::Supervisor::from_environment(),
            started: Instant::now(),
            reconciled: Default::default(),
            settings: Vec::new(),
            noted: Default::default(),
            kernel,
        })
    }

    /// Native first; generic only when it is allowed, and then on all ports alike: a redirect between the two modes is slow.
    pub(super) fn attach_ports(&mut self, allow_generic: bool) -> Result<(), StartError> {
        let interfaces = self.core.forwarding.topology().ports();
        match self.core.dataplane.take_over(&interfaces, self.core.about.clone()) {
            Ok(()) => Ok(self.core.dataplane.retire_others()?),
            Err(error) if allow_generic => {
                tracing::warn!(%error, "generic XDP on all ports instead");
                self.core.dataplane.detach_all();
                self.core.about.mode = Mode::Generic;
                Ok(self.core.dataplane.take_over(&interfaces, self.core.about.clone())?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The records before any port is attached: a next hop with BFD is never judged by an empty one. The answer is where changes
    /// come from.
    pub(super) fn start_bfd(&mut self) -> Result<mpsc::Receiver<bfd::thread::Event>, StartError> {
        let changes = self.start_bfd_thread()?;
        self.watch_carriers();
        Ok(changes)
    }

    /// The thread of the sessions whose interface is there; one that has been goes on from its record.
    pub(in crate::controller) fn start_bfd_thread(
        &mut self,
    ) -> Result<mpsc::Receiver<bfd::thread::Event>, StartError> {
        let (events, changes) = mpsc::channel(controller_bfd::EVENTS_MAX);
        let topology = self.core.forwarding.topology();
        let is_there = |peer: &&Peer| {
            let facts = topology.attachment(peer.attachment);
            facts.is_some_and(|facts| topology.is_there(facts))
                && !self.core.vacant.contains(&peer.session.id)
        };
        let peers: Vec<Peer> = self.core.peers.iter().filter(is_there).cloned().collect();
        let sessions = controller_bfd::sessions(
            &self.core.config,
            &peers,
            &self.core.dataplane.bfd_sessions(),
            (self.core.dataplane.clock() >> 16) as u32,
        );
        self.core.announce_bfd(&sessions)?;
        self.bfd.start(sessions, self.core.dataplane.bfd_sessions(), events)?;
        Ok(changes)
    }

    /// The thread by which a lost carrier goes to the packet path first.
    pub(in crate::controller) fn watch_carriers(&mut self) {
        let topology = self.core.forwarding.topology();
        let links = topology.interfaces().into_keys().filter_map(|it| Some((it, topology.link_of(it)?)));
        let started =
            self.core.dataplane.link_killer().map_err(|error| error.to_string()).and_then(|killer| {
                carrier::watch(links.collect(), killer).map_err(|error| error.to_string())
            });
        match started {
            Ok(watch) => self.carrier = Some(watch),
            Err(error) => {
                self.carrier = None;
                tracing::warn!(error, "carriers are watched by the controller only");
            }
        }
    }

    /// Port 179 first: a busy one stops the start before any peer hears of us. Sessions that were handed over go on.
    pub(super) async fn start_sessions(
        &mut self,
        events: mpsc::Sender<PeerEvent>,
        sessions: Vec<(PeerId, Handed)>,
    ) -> Result<(), StartError> {
        let addresses = self.listening();
        let listener = if sessions.is_empty() {
            Listener::bind(&addresses)
        } else {
            retry(|| Listener::bind(&addresses)).await
        };
        let mut speaker = Speaker::start(listener?, events);
        let resumed = self.resume_sessions(&mut speaker, sessions).await;
        self.start_others(speaker, &resumed).await;
        Ok(())
    }

    /// Where peers may call.
    pub(in crate::controller) fn listening(&self) -> Vec<SocketAddr> {
        let remotes = || self.core.peers.iter().map(|peer| peer.session.remote);
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let wanted = any.into_iter().filter(|any| remotes().any(|remote| remote.is_ipv4() == any.is_ipv4()));
        wanted.map(|any| (any, PORT).into()).collect()
    }

    /// The sessions that do not go on begin.
    pub(in crate::controller) async fn start_others(
        &mut self,
        mut speaker: Speaker,
        resumed: &BTreeSet<PeerId>,
    ) {
        for peer in self.core.peers.iter().filter(|peer| !resumed.contains(&peer.session.id)) {
            // RFC 4724 section 4.1: we restart, and what we forwarded with is still there.
            let preserved = self.core.inherited.is_some();
            let session =
                PeerConfig { restarting: preserved, forwarding_preserved: preserved, ..peer.session.clone() };
            speaker.add(session).await;
        }
        self.speaker = Some(speaker);
    }

    /// Continues the work of the process behind the control socket: routes, maps and links are ours when this is done, and the
    /// sessions are the answer. When it fails, the other goes on.
    pub(super) async fn succeed(&mut self, options: &Options) -> Result<Vec<(PeerId, Handed)>, StartError> {
        let file = Some(self.history.source.running.clone());
        let asked = tokio::task::block_in_place(|| Successor::ask(&options.control, file))?;
        let mut successor = asked.ok_or(StartError::NobodyLeft)?;
        let begun = Instant::now();
        let sessions = tokio::task::block_in_place(|| self.inherit(&mut successor))?;
        let heard = begun.elapsed();
        self.settle().await;
        tracing::info!(routes = self.core.forwarding.sizes()["routes"], ?heard, decided = ?begun.elapsed(), "taking over");
        let ports = self.core.forwarding.topology().ports();
        self.core.dataplane.take_over(&ports, self.core.about.clone())?;
        tokio::task::block_in_place(|| successor.taken())?;
        self.core.dataplane.retire_others()?;
        tracing::info!(sessions = sessions.len(), "taken over from the process before us");
        Ok(sessions)
    }
}
