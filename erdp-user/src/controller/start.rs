//! Start and stop: everything is checked before anything is touched, set up in an order in which nothing is forwarded half
//! configured, and undone in reverse.
//!
//! configuration -> checks -> control ports, sysctls and addresses -> program and maps -> BGP -> control socket -> loop. What was changed on
//! the machine (control ports, addresses, sysctls) is put back at the end; the program's links and maps vanish with the process.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Instant,
};

use erdp_common::abi::PeerKey;
use ipnet::IpNet;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{Controller, Inputs, control_ports::ControlPorts, fib_id, limits, policy};
use crate::{
    bgp::{Cease, ListenError, Listener, PORT, PeerEvent, Speaker},
    config::{Attachment, Config, ConfigError, Domain, DomainId, PeeringKind, Side, VlanId},
    control::server::{ControlError, Server},
    dataplane::{
        Dataplane, DataplaneError, Mode, Record,
        aya::{AyaDataplane, LoadOptions},
    },
    fib::{AttachmentFacts, FibError, Forwarding, SourceCheck, Topology},
    kernel::{
        Kernel, KernelError, KernelEvent, Link,
        preflight::{self, Finding},
        sysctl::{SysctlError, Sysctls},
    },
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
}

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
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Signal handlers.
    #[error("catching signals: {0}")]
    Signal(std::io::Error),
    /// The event loop.
    #[error("the rings of wanted neighbours and of dropped frames: {0}")]
    Ring(std::io::Error),
}

impl StartError {
    /// Exit code: 2 for the configuration, 3 for a machine that cannot run it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            _ => 3,
        }
    }
}

/// Checks the configuration and the machine; changes nothing. The answer is what the operator should know.
pub fn check(path: &Path, allow_generic: bool) -> Result<Vec<String>, StartError> {
    checked(path, allow_generic).map(|(_, warnings)| warnings)
}

fn checked(path: &Path, allow_generic: bool) -> Result<(Config, Vec<String>), StartError> {
    let (config, warnings) = Config::load(path)?;
    let findings = preflight::check(&config, &preflight::Machine::read(&config), allow_generic);
    let (refusals, others): (Vec<_>, Vec<_>) = findings.into_iter().partition(Finding::refuses);
    if !refusals.is_empty() {
        return Err(StartError::Refused(refusals));
    }
    let warnings = warnings.iter().map(ToString::to_string).chain(others.iter().map(ToString::to_string));
    Ok((config, warnings.collect()))
}

/// Runs the router until a signal.
pub async fn run(options: Options) -> Result<(), StartError> {
    let stop = Signals::catch()?;
    let (config, warnings) = checked(&options.config, options.allow_generic)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let server = Server::bind(&options.control)?;
    let (kernel, kernel_events) = Kernel::open()?;
    let facts = kernel.dump().await?;
    let mut topology = topology(&config, &facts)?;
    let ports = ControlPorts::add(&config, &kernel, &facts, &mut topology).await?;
    let kernel = (kernel, kernel_events);
    let result = addressed(&options, config, server, kernel, topology, &ports, stop).await;
    match Kernel::open() {
        Ok((kernel, _)) => ports.remove(&kernel).await,
        Err(error) => tracing::warn!(%error, "control ports stay"),
    }
    result
}

/// The part between the control ports and their end.
async fn addressed(
    options: &Options,
    config: Config,
    server: Server,
    (kernel, kernel_events): (Kernel, mpsc::Receiver<KernelEvent>),
    topology: Topology,
    ports: &ControlPorts,
    stop: Signals,
) -> Result<(), StartError> {
    let interfaces: Vec<&str> = topology.interfaces().into_values().chain(ports.names()).collect();
    let sysctls = Sysctls::set(&interfaces)?;
    for (name, before) in sysctls.changed() {
        tracing::info!(name, before, "sysctl changed");
    }
    ports.start(&kernel).await?;
    let added = add_addresses(&config, &kernel, &topology).await?;
    let result = serve(options, config, server, (kernel, kernel_events), topology, stop).await;
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
    server: Server,
    kernel: (Kernel, mpsc::Receiver<KernelEvent>),
    topology: Topology,
    stop: Signals,
) -> Result<(), StartError> {
    let (kernel, kernel_events) = kernel;
    let mut dataplane = load(options, &config)?;
    let wanted = dataplane.take_wanted().map_err(StartError::Ring)?;
    let drop_samples = dataplane.take_drop_samples().map_err(StartError::Ring)?;
    let mut controller = Controller::new(config, kernel, dataplane, topology)?;
    // Subscribed before, dumped now: nothing falls between. Next hops are complete before the first packet.
    for fact in controller.kernel.dump().await? {
        controller.on_kernel(fact).await;
    }
    controller.attach_ports(options.allow_generic)?;
    let (events, peer_events) = mpsc::channel(1_024);
    controller.start_sessions(events).await?;
    let (asked_in, asked) = mpsc::channel(32);
    tokio::spawn(server.serve(asked_in));
    tracing::info!(peers = controller.peers.len(), mode = ?controller.mode, "running");
    let mut inputs = Inputs { kernel: kernel_events, peers: peer_events, asked, wanted, drop_samples };
    controller.run(&mut inputs, stop.wait()).await;
    tracing::info!("stopping");
    if let Some(speaker) = controller.speaker.take() {
        speaker.stop(Cease::AdministrativeShutdown, "erdp is stopped by its operator").await;
    }
    Ok(())
}

/// The program with the circuits' policers in place.
fn load(options: &Options, config: &Config) -> Result<AyaDataplane, StartError> {
    let load = LoadOptions {
        fib_blocks: config.fib_blocks,
        drop_samples: config.drop_samples,
        symmetric_hash: config.symmetric_hash,
        log_drops: options.log_drops,
        ..LoadOptions::default()
    };
    let mut dataplane = AyaDataplane::load(load)?;
    if options.log_drops
        && let Err(error) = dataplane.forward_log()
    {
        tracing::warn!(%error, "drops are not logged");
    }
    for record in limits::records(config, dataplane.clock()) {
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
    ) -> Result<Self, StartError> {
        let mut forwarding = Forwarding::new(topology, &mut dataplane)?;
        forwarding.connect(0, &mut dataplane)?;
        forwarding.guard(0, &mut dataplane)?;
        let peers = config.peers();
        for peer in &peers {
            let address = match peer.session.remote {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            let attachment = u32::from(fib_id(peer.attachment).0);
            dataplane.write(&Record::Peer(PeerKey { attachment, address }, true))?;
        }
        Ok(Self {
            domains: config.domains(),
            attachments: config.attachments(),
            speaker: None,
            outboxes: vec![Default::default(); peers.len()],
            rib: Rib::new(RibConfig::new(&config)),
            forwarding,
            dataplane,
            links: HashMap::new(),
            mode: Mode::Native,
            wanted: Default::default(),
            drops: Default::default(),
            started: Instant::now(),
            kernel,
            peers,
            config,
        })
    }

    /// Native first; generic only when it is allowed, and then on all ports alike: a redirect between the two modes is slow.
    fn attach_ports(&mut self, allow_generic: bool) -> Result<(), StartError> {
        let interfaces = self.forwarding.topology().ports();
        let native = interfaces
            .iter()
            .try_for_each(|(ifindex, name)| self.dataplane.attach(name, *ifindex, Mode::Native));
        match native {
            Ok(()) => Ok(()),
            Err(error) if allow_generic => {
                tracing::warn!(%error, "generic XDP on all ports instead");
                self.dataplane.detach_all();
                self.mode = Mode::Generic;
                for (ifindex, name) in &interfaces {
                    self.dataplane.attach(name, *ifindex, Mode::Generic)?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Port 179 first: a busy one stops the start before any peer hears of us.
    async fn start_sessions(&mut self, events: mpsc::Sender<PeerEvent>) -> Result<(), StartError> {
        let remotes = || self.peers.iter().map(|peer| peer.session.remote);
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let wanted = any.into_iter().filter(|any| remotes().any(|remote| remote.is_ipv4() == any.is_ipv4()));
        let addresses: Vec<SocketAddr> = wanted.map(|any| (any, PORT).into()).collect();
        let mut speaker = Speaker::start(Listener::bind(&addresses)?, events);
        for peer in &self.peers {
            speaker.add(peer.session.clone()).await;
        }
        self.speaker = Some(speaker);
        Ok(())
    }
}

/// The attachments with what the kernel says of their interfaces.
fn topology(config: &Config, facts: &[KernelEvent]) -> Result<Topology, StartError> {
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
        public_sources: attachment.side.is_msee()
            && attachment.domains.iter().any(|id| is_microsoft(&domains, *id)),
        sources: source_check(config, attachment, &domains),
        // A CE attachment works as long as one of its circuits does; a disabled circuit has no routes to offer.
        enabled: circuits.iter().any(|circuit| circuit.enabled),
        hairpin: circuits.iter().all(|circuit| circuit.hairpin),
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

/// Adds our addresses where they are not yet; the answer is what was added.
async fn add_addresses(
    config: &Config,
    kernel: &Kernel,
    topology: &Topology,
) -> Result<Vec<(u32, IpNet)>, StartError> {
    let mut added = Vec::new();
    for attachment in config.attachments() {
        let Some(facts) = topology.attachment(fib_id(attachment.id)) else { continue };
        let ifindex = facts.kernel_ifindex();
        for net in &attachment.addresses {
            match kernel.ensure_address(ifindex, net.addr(), net.prefix_len()).await {
                Ok(true) => added.push((ifindex, *net)),
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

/// SIGINT, SIGTERM and SIGHUP, caught from the start: one that comes while things are set up still has them undone.
struct Signals([Signal; 3]);

impl Signals {
    fn catch() -> Result<Self, StartError> {
        let catch = |kind| signal(kind).map_err(StartError::Signal);
        Ok(Self([
            catch(SignalKind::interrupt())?,
            catch(SignalKind::terminate())?,
            catch(SignalKind::hangup())?,
        ]))
    }

    async fn wait(mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
