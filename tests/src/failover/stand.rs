//! The failover lab with its routers: an edge, two MSEEs that announce the same routes, and what happens to them.
//!
//! The edge is `erdp`, or FRR with the kernel's forwarding for comparison. Its controller can be killed and started again, and the
//! secondary MSEE can be a speaker of ours that flaps routes ([`Storm`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use erdp::bgp::{GracefulRestart, Seconds};
use ipnet::IpNet;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    CE, LINKS, Place,
    peers::{self, Timers},
    probe::{Probe, Report},
    sessions, until,
};
use crate::{
    bench::{
        bgp::{sender::Sender, storm::flaps, stream},
        routes::Version,
    },
    edge::Edge,
};

/// How long both links may take to be in use again.
const PATIENCE: Duration = Duration::from_secs(120);
/// What has come up is left alone for so long.
pub const STEADY: Duration = Duration::from_millis(300);

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    /// `erdp`.
    Erdp,
    /// FRR and the kernel.
    FrrAndKernel,
}

/// Who the MSEEs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Msees {
    /// BIRD on both links.
    Bird,
    /// FRR on the primary link, BIRD on the other: two implementations, and one whose BFD is a process of its own.
    FrrAndBird,
    /// BIRD; IPv4 on the secondary link is spoken by a [`Storm`].
    BirdAndStorm,
}

/// What a stand is.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Who forwards.
    pub router: Router,
    /// Its neighbours.
    pub msees: Msees,
    /// BFD on both links.
    pub timers: Timers,
    /// Routes that lead over both links, besides the VNet's.
    pub routes: usize,
    /// Lines for the top of erdp's configuration.
    pub extra: &'a str,
    /// There is a customer's router that may call ([`peers::erdp_with_customer`]).
    pub has_customer: bool,
}

/// The lab, up.
#[derive(Debug)]
pub struct Stand {
    plan: (Router, Msees, Timers, usize),
    configuration: String,
    /// Before the place: it ends first. None while it is killed, and where the kernel forwards.
    pub edge: Option<Edge>,
    /// Namespaces, wires, routers.
    pub place: Place,
}

impl Stand {
    /// Starts all routers; wait for them by [`Stand::wait`].
    ///
    /// # Errors
    /// When one does not start.
    pub fn up(plan: Plan<'_>) -> Result<Stand> {
        let is_erdp = plan.router == Router::Erdp;
        let mut place = Place::up(!is_erdp)?;
        let prefixes = peers::prefixes(plan.routes);
        match plan.msees {
            Msees::FrrAndBird => peers::start_frr(&mut place, &LINKS[0], plan.timers, &prefixes)?,
            _ => peers::start_bird(&mut place, &LINKS[0], plan.timers, &prefixes)?,
        }
        match plan.msees {
            Msees::BirdAndStorm => peers::start_bird_beside(&mut place, &LINKS[1], plan.timers, &prefixes)?,
            _ => peers::start_bird(&mut place, &LINKS[1], plan.timers, &prefixes)?,
        }
        let erdp = if plan.has_customer { peers::erdp_with_customer } else { peers::erdp };
        let mut stand = Stand {
            plan: (plan.router, plan.msees, plan.timers, plan.routes),
            configuration: erdp(plan.timers, 120, plan.extra),
            edge: None,
            place,
        };
        if is_erdp {
            stand.start()?;
        } else {
            // Flows by their ports, as ERDP does.
            stand.place.namespace("edge")?.sysctl("ipv4/fib_multipath_hash_policy", "1")?;
            peers::start_frr_edge(&mut stand.place, plan.timers)?;
        }
        Ok(stand)
    }

    /// Starts the controller, again perhaps.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let namespace = self.place.namespace("edge")?;
        self.edge = Some(Edge::start_with(namespace, self.place.folder(), &self.configuration)?);
        Ok(())
    }

    /// Another process takes the controller's work over.
    ///
    /// # Errors
    /// When it does not, with its last words.
    pub fn take_over(&mut self) -> Result<()> {
        let mut old = self.edge.take().context("no controller")?;
        let mut next = old.successor(self.place.namespace("edge")?, self.place.folder(), &[])?;
        let is_over = until("the work to be taken over", PATIENCE, || {
            Ok(next.must_run().is_err() || !old.process().is_running()?)
        });
        is_over.and_then(|_| next.must_run()).with_context(|| next.process().tail(20))?;
        until("the next controller to answer", PATIENCE, || Ok(next.answers()))?;
        self.edge = Some(next);
        Ok(())
    }

    /// The controller is killed, and gone.
    ///
    /// # Errors
    /// When there is none, or it lives on.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        let mut edge = self.edge.take().context("no controller")?;
        edge.process().wait(Duration::from_secs(5)).map(drop)
    }

    /// The controller gets a signal.
    ///
    /// # Errors
    /// When there is none.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.edge.as_mut().context("no controller")?.process().signal(signal)
    }

    /// The controller.
    ///
    /// # Errors
    /// When there is none.
    pub fn edge(&self) -> Result<&Edge> {
        self.edge.as_ref().context("no controller")
    }

    /// The detection time.
    pub fn detection(&self) -> Duration {
        Duration::from_secs_f64(self.plan.2.detection_ms() / 1e3)
    }

    /// Waits until both links are in use, for all routes.
    ///
    /// # Errors
    /// When they are not, with what the edge says.
    pub fn wait(&mut self) -> Result<()> {
        let ready = || self.is_ready();
        until("both links to be in use", PATIENCE, ready).with_context(|| self.state())?;
        thread::sleep(STEADY);
        Ok(())
    }

    fn is_ready(&self) -> Result<bool> {
        let (_, msees, timers, routes) = self.plan;
        let Some(edge) = &self.edge else { return self.kernel_has_both() };
        let bfd = sessions(edge).unwrap_or_default();
        let bgp = edge.sessions().unwrap_or_default();
        let is_up = bfd.len() == 4 && bfd.iter().all(|it| it.state == "Up" && it.next_hop == "alive");
        let is_settled = bfd.iter().all(|it| it.interval_ms <= f64::from(timers.interval_ms));
        let stormed = |peer: &str| msees == Msees::BirdAndStorm && peer == LINKS[1].ipv4.1;
        let all = |it: &crate::edge::Session| {
            // IPv4 has the many: the peer's routes are there again when all are counted.
            let has_all = it.peer.contains(':') || stormed(&it.peer) || it.received > routes as u64;
            it.peer.starts_with(CE.0.1) || it.state == "Established" && has_all
        };
        // A link that has failed often is held down for longer each time (`pair.rs`).
        // While erdp starts it does not answer yet.
        let Ok(links) = edge.show("links") else { return Ok(false) };
        let links: Vec<Value> = serde_json::from_str(&links)?;
        let eligible = links.iter().filter(|row| row["eligible"] == true).count();
        Ok(is_up && is_settled && eligible == 2 && bgp.len() >= 4 && bgp.iter().all(all))
    }

    fn kernel_has_both(&self) -> Result<bool> {
        let routes = self.place.namespace("edge")?.ip("route show proto bgp")?;
        let both = routes.matches("nexthop via").count() >= 2 * (self.plan.3 + 1);
        let bfd = peers::vtysh(&self.place, "edge", "show bfd peers")?;
        Ok(both && bfd.matches("Status: up").count() == 2)
    }

    /// What there is to be said when something has gone wrong.
    pub fn state(&mut self) -> String {
        let Some(edge) = &mut self.edge else { return "no controller".to_owned() };
        let tables = ["links", "bfd", "sessions", "counters"].map(|topic| edge.table(topic));
        let log = edge.process().tail(30);
        let tables = tables.into_iter().map(|text| text.unwrap_or_else(|error| format!("{error:#}")));
        tables.chain([log]).collect::<Vec<_>>().join("\n")
    }

    /// A flow that goes to the primary MSEE. (A group that was without a link for a while may give it other flows than before.)
    ///
    /// # Errors
    /// When there is none.
    pub fn flow_by_primary(&self) -> Result<u16> {
        for port in 20_000..20_064 {
            let probe = Probe::start(&self.place, port)?;
            thread::sleep(Duration::from_millis(50));
            let Report { at: [primary, secondary], .. } = probe.stop()?;
            if primary > 0 && secondary == 0 {
                return Ok(port);
            }
        }
        bail!("none of 64 flows goes to the primary MSEE")
    }
}

/// So many routes of 10.128.0.0/9, which nobody sends to: one in each /24, of this length.
pub fn scattered(routes: u32, length: u8) -> Vec<IpNet> {
    let route = |number: u32| IpNet::new((0x0a80_0000 + (number << 8)).to_be_bytes().into(), length).ok();
    (0..routes).filter_map(route).collect()
}

/// Rounds of a storm in a second.
const SHARES: usize = 20;

/// RFC 4724 section 2: an UPDATE with nothing in it ends the IPv4 routes.
const END_OF_RIB: [u8; 23] =
    [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 23, 2, 0, 0, 0, 0];

/// A BGP speaker that announces and withdraws routes without pause, until it is dropped.
#[derive(Debug)]
pub struct Storm {
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    begin: Instant,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Storm {
    /// The secondary MSEE: it announces the VNet for good, and `routes` that come and go, `per_second` changes a second.
    ///
    /// # Errors
    /// When there is no session.
    pub fn by_msee(stand: &Stand, routes: &[IpNet], per_second: usize) -> Result<Storm> {
        let open = stream::open(Version::V4, [198, 18, 0, 6]);
        let ends = LINKS[1].ipv4;
        Self::start(stand, "msee2", (ends.1, ends.0), &open, &[stream::SENDER, 8_075], (routes, per_second))
    }

    /// The customer's router, likewise. It says when it has told all for the first time (RFC 4724 section 2), as routers do.
    ///
    /// # Errors
    /// When there is no session.
    pub fn by_customer(stand: &Stand, routes: &[IpNet], per_second: usize) -> Result<Storm> {
        let open = erdp::bgp::wire::Open {
            asn: erdp::bgp::Asn(peers::CUSTOMER),
            restart: Some(GracefulRestart {
                restarting: false,
                notification: false,
                time: Seconds(0),
                families: Vec::new(),
            }),
            ..stream::open(Version::V4, [198, 18, 1, 2])
        };
        Self::start(stand, "ce", (CE.0.1, CE.0.0), &open, &[peers::CUSTOMER], (routes, per_second))
    }

    fn start(
        stand: &Stand,
        namespace: &str,
        (from, to): (&str, &str),
        open: &erdp::bgp::wire::Open,
        path: &[u32],
        (routes, per_second): (&[IpNet], usize),
    ) -> Result<Storm> {
        let from = from.parse()?;
        let mut sender = Sender::connect(stand.place.namespace(namespace)?, from, to.parse()?, open)?;
        if namespace == "msee2" {
            let own: Vec<IpNet> = peers::prefixes(0).into_iter().filter(|it| it.addr().is_ipv4()).collect();
            sender.send(&flaps(&own, from, path)?.0.concat())?;
        }
        let (up, down) = flaps(routes, from, path)?;
        if open.restart.is_some() {
            sender.send(&[up.concat(), END_OF_RIB.to_vec()].concat())?;
        }
        let (stop, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, begin) = (Arc::clone(&stop), Arc::clone(&changes), Instant::now());
        let work = move || {
            let mut sent = 0;
            for round in 0.. {
                let due = begin + Duration::from_secs(1) * round / SHARES as u32;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let mut bytes = Vec::new();
                for _ in 0..per_second / SHARES {
                    let (route, pass) = (sent % up.len(), sent / up.len());
                    bytes.extend_from_slice(if pass.is_multiple_of(2) { &up[route] } else { &down[route] });
                    sent += 1;
                }
                sender.send(&bytes)?;
                counted.store(sent as u64, Ordering::Relaxed);
            }
            // All of them are there in the end, and the session with them until the storm is dropped.
            sender.send(&up.concat())?;
            while Arc::strong_count(&stopped) > 1 {
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        };
        Ok(Storm { stop, changes, begin, thread: Some(thread::spawn(work)) })
    }

    /// Changes so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Changes a second so far.
    pub fn per_second(&self) -> f64 {
        self.changes() as f64 / self.begin.elapsed().as_secs_f64()
    }

    /// No more changes: all routes are announced, and the session stays.
    pub fn calm(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// An error if the session has ended.
    ///
    /// # Errors
    /// Why.
    pub fn must_run(&mut self) -> Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            Some(thread) => match thread.join() {
                Ok(ended) => ended.and_then(|()| bail!("the storm is over")),
                Err(_) => bail!("the storm has panicked"),
            },
            None => Ok(()),
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.calm();
        // The thread sees that nobody else has it any more.
        self.stop = Arc::new(AtomicBool::new(true));
        self.thread.take().map(JoinHandle::join);
    }
}

/// A CPU's worth of work that nobody needs, until it is dropped.
#[derive(Debug)]
pub struct Busy(Arc<AtomicBool>, Option<JoinHandle<u64>>);

impl Busy {
    /// Begins.
    pub fn start() -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let mut sum = 1_u64;
            while !stopped.load(Ordering::Relaxed) {
                sum = std::hint::black_box(sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
            sum
        };
        Busy(stop, Some(thread::spawn(work)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().map(JoinHandle::join);
    }
}
