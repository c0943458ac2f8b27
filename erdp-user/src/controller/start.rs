//! Start and stop: everything is checked before anything is touched, set up in an order in which nothing is forwarded half
//! configured, and undone in reverse.
//!
//! configuration -> checks -> control ports, sysctls and addresses -> program and maps -> BGP -> control socket -> loop. What was changed on
//! the machine (control ports, addresses, sysctls, pins) is put back at the end. A controller that is killed puts back nothing: its
//! program goes on, and the next start continues from there ([`super::estate`]).
//!
//! Files: `begin` (the controller and what it starts), `facts` (the configuration with what the kernel says of its interfaces), `place`
//! (what only one process can have), `signals` (SIGTERM and SIGHUP).

mod begin;
mod facts;
mod place;
mod signals;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

pub(super) use self::facts::topology;
use self::{
    begin::load,
    facts::{add_addresses, remove_addresses},
    place::Place,
    signals::{Signals, reload},
};
use super::{
    Controller, End, Inputs,
    control_ports::ControlPorts,
    estate::Estate,
    hand_over::{HandOverError, retry},
    kept::Keeper,
    kernel_routes::listen,
    parts::Part,
};
use crate::{
    bfd,
    bgp::{Cease, ListenError},
    config::{Config, ConfigError, Warning},
    control::server::{self, ControlError, Desk},
    dataplane::{DataplaneError, bpffs},
    fib::{FibError, Topology},
    kernel::{
        Kernel, KernelError, KernelEvent,
        preflight::{self, Finding, Severity},
        routes::RoutesError,
        sysctl::{SysctlError, Sysctls},
        traces::Traces,
    },
    metrics::server::{self as metrics_server, MetricsError},
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
    /// The folder of what outlives the daemon; `None`: the service manager's, or the standard one.
    pub state: Option<PathBuf>,
    /// End a part on purpose a second after the start: for tests of what follows.
    pub end_part: Option<Part>,
}

/// Exit code of a machine that cannot run the router.
pub const CANNOT_RUN: u8 = 3;
/// Exit code of a process in which something has ended that must live: the packet path forwards on.
pub const LOST: u8 = 4;

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
    /// Not a start that failed: something has ended later that must live.
    #[error("{0} has ended; the packet path forwards on, and the next start continues from there")]
    Lost(Part),
    /// The event loop.
    #[error("the rings of wanted neighbours and of dropped frames: {0}")]
    Ring(std::io::Error),
}

impl StartError {
    /// Exit code: 2 for the configuration, 3 for a machine that cannot run it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Lost(_) => LOST,
            _ => CANNOT_RUN,
        }
    }
}

/// Checks the configuration and the machine; changes nothing. The answer is what the operator should know.
pub fn check(path: &Path, allow_generic: bool) -> Result<Vec<String>, StartError> {
    checked(path, allow_generic).map(|(_, warnings)| warnings)
}

pub(super) fn checked(path: &Path, allow_generic: bool) -> Result<(Config, Vec<String>), StartError> {
    judged(Config::load(path)?, allow_generic)
}

/// A configuration and the machine that is to run it.
fn judged(
    (config, warnings): (Config, Vec<Warning>),
    allow_generic: bool,
) -> Result<(Config, Vec<String>), StartError> {
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
    let takes_over = options.take_over && server::answers(&options.control);
    let mut keeper = Keeper::open(&options, takes_over);
    let loaded = keeper.configuration(&options.config)?;
    let (config, warnings) = judged(loaded, options.allow_generic)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Only one process can have these two: whoever takes over gets them when the other is gone.
    let mut place = if takes_over { None } else { Some(Place::take(&options.control)?) };
    let estate = Estate::find(keeper);
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
    match result? {
        End::Lost(part) => Err(StartError::Lost(part)),
        End::Stopped | End::HandedOver => Ok(()),
    }
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
    if matches!(result, Ok(End::HandedOver | End::Lost(_))) || (result.is_err() && forwards) {
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
    mut estate: Estate,
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
    let (listener, mut routes) = listen(&config)?;
    let mut controller = Controller::new(config, kernel, dataplane, topology, about)?;
    controller.listener = listener;
    controller.ends = options.end_part;
    controller.history.source.file.clone_from(&options.config);
    controller.kept = std::mem::take(&mut estate.keeper);
    // Subscribed before, dumped now: nothing falls between. Next hops are complete before the first packet.
    for fact in controller.kernel.dump().await? {
        controller.core.handle_kernel(fact, controller.started.elapsed());
    }
    controller.carry_out().await;
    controller.learn_kernel_routes(&mut routes).await;
    controller.take_up_kept(place.is_none());
    let mut sessions = Vec::new();
    let bfd = match place {
        None => {
            sessions = controller.succeed(options).await?;
            *place = Some(retry(|| Place::take(&options.control)).await?);
            controller.start_bfd()?
        }
        Some(_) => {
            let bfd = controller.start_bfd()?;
            if controller.core.dataplane.waits() {
                let lost = controller.core.dataplane.lost();
                controller.core.wait_for(&expected, lost, controller.started.elapsed());
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
            controller.core.dataplane.release()?;
        }
        return Err(error);
    }
    let all = controller.core.all_peers();
    controller.core.at(controller.started.elapsed()).close_gates(&all);
    controller.carry_out().await;
    controller.send_away_again();
    let (asked_in, asked) = mpsc::channel(32);
    let metrics = match (metrics, metrics_address) {
        // The process before us has only now let go of it.
        (None, Some(address)) => Some(metrics_again(address).await?),
        (metrics, _) => metrics,
    };
    let metrics = metrics.map(|metrics| {
        let asked = asked_in.clone();
        let end = async move { asked.closed().await };
        tokio::spawn(metrics.serve(controller.board.clone(), end))
    });
    let (successors_in, successors) = mpsc::channel(1);
    let server = place.as_mut().and_then(|place| place.server.take());
    let desk = Desk {
        asked: asked_in.clone(),
        successors: successors_in,
        board: controller.board.clone(),
        roles: controller.roles.subscribe(),
    };
    let control = server.map(|server| tokio::spawn(server.serve(desk)));
    controller.begin_keeping();
    tracing::info!(peers = controller.core.peers.len(), mode = ?controller.core.about.mode, "running");
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
        metrics,
        bfd,
    };
    let reloading = async || reload(&options.config, &asked_in).await;
    match controller.run(&mut inputs, stop.wait(reloading)).await {
        End::Stopped => {}
        End::HandedOver => {
            controller.bfd.stop(false);
            // The other process waits for our end. With full tables it would wait for seconds until each route is freed; the kernel
            // takes all of it at once.
            std::mem::forget(controller);
            return Ok(End::HandedOver);
        }
        lost @ End::Lost(_) => {
            // As after a crash: nobody says farewell, and nothing is taken back.
            std::mem::forget(controller);
            return Ok(lost);
        }
    }
    tracing::info!("stopping");
    controller.note_stop();
    controller.supervisor.stopping();
    controller.bfd.stop(true);
    if let Some(speaker) = controller.speaker.take() {
        speaker.stop(Cease::AdministrativeShutdown, "erdp is stopped by its operator").await;
    }
    controller.core.dataplane.release()?;
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
