//! Start and stop: everything is checked before anything is touched, set up in an order in which nothing is forwarded half
//! configured, and undone in reverse.
//!
//! configuration -> checks -> control ports, sysctls and addresses -> program and maps -> BGP -> control socket -> loop. What was changed on
//! the machine (control ports, addresses, sysctls, pins) is put back at the end. A controller that is killed puts back nothing: its
//! program goes on, and the next start continues from there ([`super::estate`]).

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use erdp_common::abi::PeerKey;
use ipnet::IpNet;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{
    Controller, End, Inputs, bfd as controller_bfd,
    control_ports::ControlPorts,
    estate::Estate,
    fib_id,
    hand_over::{HandOverError, Successor, retry},
    kernel_routes::{self, KernelRoutes},
    limits, policy,
};
use crate::{
    bfd,
    bgp::{Cease, Handed, ListenError, Listener, PORT, PeerConfig, PeerEvent, PeerId, Speaker},
    config::{self, Attachment, Config, ConfigError, Domain, DomainId, PeeringKind, Side, VlanId},
    control::{
        Configuring, File, Reply, Request,
        server::{self, Asked, ControlError, Server},
    },
    dataplane::{
        Dataplane, DataplaneError, Mode, Record,
        aya::{AyaDataplane, Heritage, LoadOptions},
        bpffs,
        pins::About,
    },
    fib::{AttachmentFacts, FibError, Forwarding, SourceCheck, Topology},
    kernel::{
        Kernel, KernelError, KernelEvent, Link, carrier,
        preflight::{self, Finding, Severity},
        routes::RoutesError,
        sysctl::{SysctlError, Sysctls},
        traces::{Presence, Traces},
    },
    metrics::server::{self as metrics_server, MetricsError},
    rib::{Rib, RibConfig},
};

/// What `erdp run` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub config: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// Accept generic XDP where the driver has no native one.
    pub allow_generic: bool,
    /// Log drops through aya-log.
    pub log_drops: bool,
    /// Continue the work of the process behind the control socket, if there is one.
    pub take_over: bool,
    /// Call our maps' records another version: for tests of upgrades.
    pub as_abi: Option<u32>,
}

/// Exit code of a machine that cannot run the router.
pub const CANNOT_RUN: u8 = 3;

/// Why the router does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine cannot run it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Finding>),
    /// Netlink.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Sysctls.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The program.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The first tables.
    #[error(transparent)]
    Fib(#[from] FibError),
    /// Port 179.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The kernel's routes.
    #[error(transparent)]
    Routes(#[from] RoutesError),
    /// BFD.
    #[error(transparent)]
    Bfd(#[from] bfd::thread::BfdError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The metrics' address.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Signal handlers.
    #[error("catching signals: {0}")]
    Signal(std::io::Error),
    /// The abstract socket of [`Presence`].
    #[error("saying that an edge runs in this network namespace: {0}")]
    Presence(std::io::Error),
    /// Another edge.
    #[error(
        "another erdp runs in this network namespace; stop it, or give this one its control socket and --take-over to continue its \
         work"
    )]
    Running,
    /// The conversation with the process before us.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
    /// The process that was to hand over.
    #[error(
        "the process that was to hand over has ended: start again, without --take-over its program is found as well"
    )]
    NobodyLeft,
    /// An edge that is to be undone.
    #[error("an erdp runs in this network namespace: stop it (SIGTERM), which undoes everything as well")]
    StillRuns,
    /// The event loop.
    #[error("the rings of wanted neighbours and of dropped frames: {0}")]
    Ring(std::io::Error),
}

impl StartError {
    /// Exit code: 2 for the configuration, 3 for a machine that cannot run it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            _ => CANNOT_RUN,
        }
    }
}

/// Checks the configuration and the machine; changes nothing. The answer is what the operator should know.
pub fn check(path: &Path, allow_generic: bool) -> Result<Vec<String>, StartError> {
    checked(path, allow_generic).map(|(_, warnings)| warnings)
}

pub(super) fn checked(path: &Path, allow_generic: bool) -> Result<(Config, Vec<String>), StartError> {
    let (config, warnings) = Config::load(path)?;
    let findings = preflight::check(Some(&config), &preflight::Machine::read(Some(&config)), allow_generic);
    // What the router does itself is the doctor's to tell.
    let findings = findings.into_iter().filter(|finding| finding.severity > Severity::Note);
    let (refusals, others): (Vec<_>, Vec<_>) = findings.partition(Finding::refuses);
    if !refusals.is_empty() {
        return Err(StartError::Refused(refusals));
    }
    let warnings = warnings.iter().map(ToString::to_string).chain(others.iter().map(ToString::to_string));
    Ok((config, warnings.collect()))
}

/// Runs the router until a signal, or until another process has taken over.
pub async fn run(options: Options) -> Result<(), StartError> {
    let stop = Signals::catch()?;
    let (config, warnings) = checked(&options.config, options.allow_generic)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Only one process can have these two: whoever takes over gets them when the other is gone.
    let mut place = if options.take_over && server::answers(&options.control) {
        None
    } else {
        Some(Place::take(&options.control)?)
    };
    let estate = Estate::find();
    let (kernel, kernel_events) = Kernel::open()?;
    let facts = kernel.dump().await?;
    let mut topology = topology(&config, &facts)?;
    let ports = ControlPorts::add(&config, &kernel, &facts, &mut topology, estate.forwards()).await?;
    let kernel = (kernel, kernel_events);
    let forwards = estate.forwards();
    let result = addressed(&options, config, &mut place, kernel, topology, (&ports, estate), stop).await;
    // A start that fails leaves alone what the one before still forwards with.
    if matches!(result, Ok(End::Stopped)) || (result.is_err() && !forwards) {
        match Kernel::open() {
            Ok((kernel, _)) => ports.remove(&kernel).await,
            Err(error) => tracing::warn!(%error, "control ports stay"),
        }
        if result.is_ok() {
            Traces::remove();
        }
    }
    result.map(drop)
}

/// The part between the control ports and their end.
async fn addressed(
    options: &Options,
    config: Config,
    place: &mut Option<Place>,
    (kernel, kernel_events): (Kernel, mpsc::Receiver<KernelEvent>),
    topology: Topology,
    (ports, estate): (&ControlPorts, Estate),
    stop: Signals,
) -> Result<End, StartError> {
    let interfaces: Vec<&str> = topology.interfaces().into_values().chain(ports.names()).collect();
    let mut sysctls = Sysctls::set(&interfaces)?;
    for (name, before) in sysctls.changed() {
        tracing::info!(name, before, "sysctl changed");
    }
    sysctls.remember(&estate.traces.sysctls);
    ports.start(&kernel).await?;
    let mut added = add_addresses(&config, &kernel, &topology, &estate.traces.addresses).await?;
    added.sort_unstable();
    let traces = Traces {
        namespace: bpffs::network_namespace_name(),
        control: options.control.clone(),
        control_ports: ports.names().map(str::to_owned).collect(),
        addresses: added.clone(),
        sysctls: sysctls.changed().map(|(name, before)| (name.to_owned(), before.to_owned())).collect(),
    };
    if let Err(error) = traces.write() {
        tracing::warn!(%error, "what is changed on this machine is not written down: after a crash `erdp uninstall` will not know it");
    }
    let forwards = estate.forwards();
    let result = serve(options, config, place, (kernel, kernel_events), topology, estate, stop).await;
    if matches!(result, Ok(End::HandedOver)) || (result.is_err() && forwards) {
        sysctls.leave();
        return result;
    }
    match Kernel::open() {
        Ok((kernel, _)) => remove_addresses(&kernel, &added).await,
        Err(error) => tracing::warn!(%error, "our addresses stay"),
    }
    result
}

/// The part between set-up and undoing.
async fn serve(
    options: &Options,
    config: Config,
    place: &mut Option<Place>,
    kernel: (Kernel, mpsc::Receiver<KernelEvent>),
    topology: Topology,
    estate: Estate,
    stop: Signals,
) -> Result<End, StartError> {
    let (kernel, kernel_events) = kernel;
    let metrics = match config.metrics {
        Some(address) if place.is_some() => Some(metrics_server::Server::bind(address).await?),
        _ => None,
    };
    let metrics_address = config.metrics;
    let about = estate.about(&config, &topology, options.as_abi);
    let heritage = estate.heritage(&about);
    let expected = estate.expected();
    let mut dataplane = load(options, &config, &estate, heritage)?;
    let wanted = dataplane.take_wanted().map_err(StartError::Ring)?;
    let drop_samples = dataplane.take_drop_samples().map_err(StartError::Ring)?;
    let (kernel_routes, mut routes) = KernelRoutes::listen(&config)?;
    let mut controller = Controller::new(config, kernel, dataplane, topology, about)?;
    controller.kernel_routes = kernel_routes;
    controller.history.source.file.clone_from(&options.config);
    // Subscribed before, dumped now: nothing falls between. Next hops are complete before the first packet.
    for fact in controller.kernel.dump().await? {
        controller.on_kernel(fact).await;
    }
    controller.learn_kernel_routes(&mut routes).await;
    let mut sessions = Vec::new();
    let bfd = match place {
        None => {
            sessions = controller.succeed(options).await?;
            *place = Some(retry(|| Place::take(&options.control)).await?);
            controller.start_bfd()?
        }
        Some(_) => {
            let bfd = controller.start_bfd()?;
            if controller.dataplane.waits() {
                controller.wait_for(&expected);
            } else {
                controller.attach_ports(options.allow_generic)?;
            }
            bfd
        }
    };
    let (events, peer_events) = mpsc::channel(1_024);
    if let Err(error) = controller.start_sessions(events, sessions).await {
        // A first start leaves nothing; one that has taken over leaves what forwards.
        if !estate.forwards() {
            controller.dataplane.release()?;
        }
        return Err(error);
    }
    controller.close_gates(&controller.all_peers()).await;
    let (asked_in, asked) = mpsc::channel(32);
    let metrics = match (metrics, metrics_address) {
        // The process before us has only now let go of it.
        (None, Some(address)) => Some(metrics_again(address).await?),
        (metrics, _) => metrics,
    };
    if let Some(metrics) = metrics {
        tokio::spawn(metrics.serve(asked_in.clone()));
    }
    let (successors_in, successors) = mpsc::channel(1);
    let server = place.as_mut().and_then(|place| place.server.take());
    let control = server.map(|server| tokio::spawn(server.serve(asked_in.clone(), successors_in)));
    tracing::info!(peers = controller.peers.len(), mode = ?controller.about.mode, "running");
    controller.supervisor.ready("running");
    let mut inputs = Inputs {
        kernel: kernel_events,
        routes,
        peers: peer_events,
        asked,
        wanted,
        drop_samples,
        successors,
        control,
        bfd,
    };
    let reloading = async || reload(&options.config, &asked_in).await;
    if controller.run(&mut inputs, stop.wait(reloading)).await == End::HandedOver {
        controller.bfd.stop(false);
        // The other process waits for our end. With full tables it would wait for seconds until each route is freed; the kernel takes
        // all of it at once.
        std::mem::forget(controller);
        return Ok(End::HandedOver);
    }
    tracing::info!("stopping");
    controller.supervisor.stopping();
    controller.bfd.stop(true);
    if let Some(speaker) = controller.speaker.take() {
        speaker.stop(Cease::AdministrativeShutdown, "erdp is stopped by its operator").await;
    }
    controller.dataplane.release()?;
    Ok(End::Stopped)
}

/// The metrics' socket as soon as the process before us is gone.
async fn metrics_again(address: SocketAddr) -> Result<metrics_server::Server, MetricsError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match metrics_server::Server::bind(address).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(5)).await,
            bound => return bound,
        }
    }
}

/// The program with the circuits' policers in place.
fn load(
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
    /// Everything written that does not depend on the kernel's facts or on peers: attachments, connected subnets, who may speak
    /// BGP.
    fn new(
        config: Config,
        kernel: Kernel,
        mut dataplane: AyaDataplane,
        topology: Topology,
        about: About,
    ) -> Result<Self, StartError> {
        let mut forwarding = Forwarding::new(topology, &mut dataplane)?;
        forwarding.connect(0, &mut dataplane)?;
        forwarding.guard(0, &mut dataplane)?;
        let peers = config.peers();
        // Those with BFD are written with their session's number, by `announce_bfd`.
        for peer in peers.iter().filter(|peer| peer.bfd.is_none()) {
            dataplane.write(&Record::Peer(peer_key(peer), true))?;
        }
        for speaker in kernel_routes::speakers(&config) {
            dataplane.write(&speaker)?;
        }
        Ok(Self {
            domains: config.domains(),
            attachments: config.attachments(),
            speaker: None,
            outboxes: vec![Default::default(); peers.len()],
            rib: Rib::new(RibConfig::new(&config)),
            forwarding,
            dataplane,
            kernel_routes: KernelRoutes::default(),
            links: HashMap::new(),
            about,
            inherited: None,
            wanted: Default::default(),
            asked_share: 0,
            drops: Default::default(),
            miscabling: Default::default(),
            bfd: Default::default(),
            fallover: Default::default(),
            dampers: Default::default(),
            returned: HashMap::new(),
            peerings: Default::default(),
            drained: Default::default(),
            minimums: Default::default(),
            last: Default::default(),
            drill: None,
            telemetry: Default::default(),
            vacant: Default::default(),
            history: Default::default(),
            supervisor: super::supervisor::Supervisor::from_environment(),
            started: Instant::now(),
            reconciled: Default::default(),
            settings: Vec::new(),
            kernel,
            peers,
            config,
        })
    }

    /// Native first; generic only when it is allowed, and then on all ports alike: a redirect between the two modes is slow.
    fn attach_ports(&mut self, allow_generic: bool) -> Result<(), StartError> {
        let interfaces = self.forwarding.topology().ports();
        match self.dataplane.take_over(&interfaces, self.about.clone()) {
            Ok(()) => Ok(self.dataplane.retire_others()?),
            Err(error) if allow_generic => {
                tracing::warn!(%error, "generic XDP on all ports instead");
                self.dataplane.detach_all();
                self.about.mode = Mode::Generic;
                Ok(self.dataplane.take_over(&interfaces, self.about.clone())?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The records before any port is attached: a next hop with BFD is never judged by an empty one. The answer is where changes
    /// come from.
    fn start_bfd(&mut self) -> Result<mpsc::Receiver<bfd::thread::Event>, StartError> {
        let (events, changes) = mpsc::channel(controller_bfd::EVENTS_MAX);
        let sessions = controller_bfd::sessions(
            &self.config,
            &self.peers,
            &self.dataplane.bfd_sessions(),
            (self.dataplane.clock() >> 16) as u32,
        );
        self.announce_bfd(&sessions)?;
        self.bfd.start(sessions, self.dataplane.bfd_sessions(), events)?;
        let topology = self.forwarding.topology();
        let links =
            topology.interfaces().into_keys().filter_map(|it| Some((it, topology.link_of(it)?))).collect();
        if let Err(error) = carrier::watch(links, self.dataplane.link_killer()?) {
            tracing::warn!(%error, "carriers are watched by the controller only");
        }
        Ok(changes)
    }

    /// Port 179 first: a busy one stops the start before any peer hears of us. Sessions that were handed over go on.
    async fn start_sessions(
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
    pub(super) fn listening(&self) -> Vec<SocketAddr> {
        let remotes = || self.peers.iter().map(|peer| peer.session.remote);
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let wanted = any.into_iter().filter(|any| remotes().any(|remote| remote.is_ipv4() == any.is_ipv4()));
        wanted.map(|any| (any, PORT).into()).collect()
    }

    /// The sessions that do not go on begin.
    pub(super) async fn start_others(&mut self, mut speaker: Speaker, resumed: &BTreeSet<PeerId>) {
        for peer in self.peers.iter().filter(|peer| !resumed.contains(&peer.session.id)) {
            // RFC 4724 section 4.1: we restart, and what we forwarded with is still there.
            let preserved = self.inherited.is_some();
            let session =
                PeerConfig { restarting: preserved, forwarding_preserved: preserved, ..peer.session.clone() };
            speaker.add(session).await;
        }
        self.speaker = Some(speaker);
    }

    /// Continues the work of the process behind the control socket: routes, maps and links are ours when this is done, and the
    /// sessions are the answer. When it fails, the other goes on.
    async fn succeed(&mut self, options: &Options) -> Result<Vec<(PeerId, Handed)>, StartError> {
        let file = self.history.source.read().ok();
        let asked = tokio::task::block_in_place(|| Successor::ask(&options.control, file))?;
        let mut successor = asked.ok_or(StartError::NobodyLeft)?;
        let begun = Instant::now();
        let sessions = tokio::task::block_in_place(|| self.inherit(&mut successor))?;
        let heard = begun.elapsed();
        self.settle().await;
        tracing::info!(routes = self.forwarding.sizes()["routes"], ?heard, decided = ?begun.elapsed(), "taking over");
        let ports = self.forwarding.topology().ports();
        self.dataplane.take_over(&ports, self.about.clone())?;
        tokio::task::block_in_place(|| successor.taken())?;
        self.dataplane.retire_others()?;
        tracing::info!(sessions = sessions.len(), "taken over from the process before us");
        Ok(sessions)
    }
}

/// The attachments with what the kernel says of their interfaces.
pub(super) fn topology(config: &Config, facts: &[KernelEvent]) -> Result<Topology, StartError> {
    let links: HashMap<&str, &Link> = facts
        .iter()
        .filter_map(|fact| match fact {
            KernelEvent::Link(link) => Some((link.name.as_str(), link)),
            _ => None,
        })
        .collect();
    let list = config.attachments().into_iter().map(|attachment| {
        let link = links.get(attachment.interface.as_str()).ok_or_else(|| {
            let there: Vec<&str> = links.keys().copied().collect();
            StartError::Refused(vec![preflight::missing_interface(&attachment.interface, &there)])
        })?;
        Ok(attachment_facts(config, &attachment, link.ifindex))
    });
    Ok(Topology::new(list.collect::<Result<_, StartError>>()?))
}

/// What the forwarding table needs to know of an attachment on the interface with this index.
pub fn attachment_facts(config: &Config, attachment: &Attachment, ifindex: u32) -> AttachmentFacts {
    let domains = config.domains();
    let circuit = |id: &DomainId| config.circuits.get(domains.get(usize::from(id.0))?.circuit);
    let circuits: Vec<_> = attachment.domains.iter().filter_map(circuit).collect();
    let limits = limits::of(config, attachment);
    let mut tags = attachment.tags.iter().map(VlanId::as_u16);
    let (mut local4, mut local6) = (None, None);
    for net in &attachment.addresses {
        match net {
            IpNet::V4(net) => local4 = Some(net.addr()),
            IpNet::V6(net) => local6 = Some(net.addr()),
        }
    }
    AttachmentFacts {
        id: fib_id(attachment.id),
        name: attachment.name.clone(),
        interface: attachment.interface.clone(),
        ifindex,
        is_msee: attachment.side.is_msee(),
        is_service: attachment.side == Side::Service,
        is_box: attachment.side == Side::Box,
        public_sources: attachment.side.is_msee()
            && attachment.domains.iter().any(|id| is_microsoft(&domains, *id)),
        sources: source_check(config, attachment, &domains),
        // A CE attachment works as long as one of its circuits does; a disabled circuit has no routes to offer.
        enabled: config.is_in_use(attachment),
        // Between two boxes a packet would go to and fro.
        hairpin: attachment.side != Side::Box && circuits.iter().all(|circuit| circuit.hairpin),
        policer_in: limits.inbound,
        policer_out: limits.outbound,
        profile: limits.profile,
        weight: attachment.weight,
        tags: [tags.next(), tags.next()],
        control: None,
        local4,
        local6,
        link_local6: None,
        subnets: attachment.addresses.iter().map(IpNet::trunc).collect(),
        domains: attachment.domains.iter().map(|id| usize::from(id.0)).collect(),
        chained: policy::chained(config, attachment),
        encrypted_only: attachment.encrypted_only.clone(),
        forbidden: attachment.forbidden.iter().map(|id| usize::from(id.0)).collect(),
    }
}

/// On private peering a source must be announced; on Microsoft peering route filters keep prefixes back that services speak from.
fn source_check(config: &Config, attachment: &Attachment, domains: &[Domain]) -> SourceCheck {
    let domain = attachment.domains.first().filter(|_| attachment.side.is_msee());
    let found = domain.and_then(|id| domains.get(usize::from(id.0)));
    let peering = found.and_then(|it| Some((it.kind, config.circuits.get(it.circuit)?.peering(it.kind)?)));
    match peering {
        Some((kind, peering)) if peering.checks_sources => match kind {
            PeeringKind::Private => SourceCheck::Routed,
            PeeringKind::Microsoft => SourceCheck::NotOurs,
        },
        _ => SourceCheck::Off,
    }
}

fn is_microsoft(domains: &[Domain], id: DomainId) -> bool {
    domains.get(usize::from(id.0)).is_some_and(|domain| domain.kind == PeeringKind::Microsoft)
}

/// Who may speak BGP, as the map of peers has it.
pub(super) fn peer_key(peer: &config::Peer) -> PeerKey {
    bfd::record::peer_key(fib_id(peer.attachment).0, peer.session.remote)
}

/// Adds our addresses where they are not yet; the answer is what was added, by us or by an edge `before` us.
async fn add_addresses(
    config: &Config,
    kernel: &Kernel,
    topology: &Topology,
    before: &[(u32, IpNet)],
) -> Result<Vec<(u32, IpNet)>, StartError> {
    let mut added = Vec::new();
    for attachment in config.attachments() {
        let Some(facts) = topology.attachment(fib_id(attachment.id)) else { continue };
        let ifindex = facts.kernel_ifindex();
        for net in &attachment.addresses {
            match kernel.ensure_address(ifindex, net.addr(), net.prefix_len()).await {
                Ok(true) => added.push((ifindex, *net)),
                Ok(false) if before.contains(&(ifindex, *net)) => added.push((ifindex, *net)),
                Ok(false) => {}
                Err(error) => {
                    remove_addresses(kernel, &added).await;
                    return Err(error.into());
                }
            }
        }
    }
    Ok(added)
}

async fn remove_addresses(kernel: &Kernel, added: &[(u32, IpNet)]) {
    for (ifindex, net) in added {
        if let Err(error) = kernel.remove_address(*ifindex, net.addr(), net.prefix_len()).await {
            tracing::warn!(%error, "an address stays");
        }
    }
}

/// What only one process in a network namespace can have.
struct Place {
    server: Option<Server>,
    _presence: Presence,
}

impl Place {
    fn take(control: &Path) -> Result<Self, StartError> {
        let server = Server::bind(control)?;
        let presence = Presence::claim().map_err(StartError::Presence)?.ok_or(StartError::Running)?;
        Ok(Self { server: Some(server), _presence: presence })
    }
}

/// SIGINT and SIGTERM end the router, caught from the start: one that comes while things are set up still has them undone.
/// SIGHUP has the file read again.
struct Signals {
    stop: [Signal; 2],
    hangup: Signal,
}

impl Signals {
    fn catch() -> Result<Self, StartError> {
        let catch = |kind| signal(kind).map_err(StartError::Signal);
        let stop = [catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?];
        Ok(Self { stop, hangup: catch(SignalKind::hangup())? })
    }

    /// Until the end; each SIGHUP meanwhile is answered by `reload`.
    async fn wait(mut self, reload: impl AsyncFn()) {
        let [interrupt, terminate] = &mut self.stop;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                Some(()) = self.hangup.recv() => reload().await,
            }
        }
    }
}

/// Puts the configuration's file to the controller as `erdp config apply` does.
async fn reload(path: &Path, asked: &mpsc::Sender<Asked>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return tracing::error!(file = %path.display(), %error, "SIGHUP: nothing is changed"),
    };
    let file = File { path: path.to_owned(), text };
    let request = Request::Config(Configuring::Apply { file, confirm_s: None, no_flap: false, force: false });
    let (sender, receiver) = oneshot::channel();
    if asked.send((request, sender)).await.is_err() {
        return;
    }
    match receiver.await {
        Ok(Reply::Ok(_)) => tracing::info!(file = %path.display(), "SIGHUP: the file's configuration runs"),
        Ok(Reply::Error(why)) => tracing::error!("SIGHUP: {why}"),
        Err(_) => {}
    }
}
