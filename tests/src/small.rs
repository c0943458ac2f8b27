//! A small lab: one edge with a circuit and a customer's router, four namespaces, three BIRDs. It is up in a second, for tests that
//! change, restart or ask a running `erdp` and need real sessions and traffic rather than large tables.
//!
//! ```text
//!  ce (BIRD, 198.18.64.10) --- edge === msee1 (BIRD, 198.18.192.10)
//!                                   \== msee2 (BIRD, 198.18.192.10)
//! ```
//! Addresses and names are those of [`plan`]; [`edge::configuration`](crate::edge::configuration) fits. Both MSEEs have the VNet's host.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::{
    edge::{Edge, Session},
    lab::{
        self,
        bird::{self, Neighbour, Router},
        cleanup::{self, Guard},
        netns::{self, Namespace},
        plan,
        process::Process,
    },
    traffic::probe::Probe,
};

/// The customer's host.
pub const CUSTOMER_HOST: &str = "198.18.64.10";

/// The links, and the far router of each with its AS number, host, and whether it is the link's near end.
const FAR: [(&str, &plan::Link, u32, &str, bool); 3] = [
    ("ce", &plan::CE, plan::CE_ASN, CUSTOMER_HOST, true),
    ("msee1", &plan::PRIMARY, plan::MSEE_ASN, plan::AZURE_IPV4, false),
    ("msee2", &plan::SECONDARY, plan::MSEE_ASN, plan::AZURE_IPV4, false),
];

/// Everything but the daemon. Fields in the order of the end.
#[derive(Debug)]
pub struct SmallLab {
    routers: Vec<Process>,
    namespaces: Vec<Namespace>,
    folder: PathBuf,
    _guard: Guard,
}

impl SmallLab {
    /// Wires it and starts the routers.
    ///
    /// # Errors
    /// Names the step.
    pub fn up() -> Result<SmallLab> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let mut lab = SmallLab { routers: Vec::new(), namespaces: Vec::new(), folder, _guard: guard };
        lab.namespaces.push(Namespace::add(&format!("{name}-edge"))?);
        for (short, link, asn, host, near) in FAR {
            lab.namespaces.push(Namespace::add(&format!("{name}-{short}"))?);
            let (edge, far) = (lab.namespace("edge")?, lab.namespace(short)?);
            let (edge_if, far_if) = if near { (link.far.1, link.near.1) } else { (link.near.1, link.far.1) };
            netns::connect((edge, edge_if), (far, far_if))?;
            let ends = |pair: (&'static str, &'static str, u8)| (if near { pair.0 } else { pair.1 }, pair.2);
            for (address, length) in [ends(link.ipv4), ends(link.ipv6)] {
                far.address(far_if, &format!("{address}/{length}"))?;
            }
            far.address("lo", &format!("{host}/32"))?;
            let announced = if near { plan::CUSTOMER_IPV4 } else { plan::VNET_IPV4 };
            let router = Router {
                namespace: short,
                asn,
                id: ends(link.ipv4).0,
                neighbours: Neighbour::both("edge", link, near, plan::EDGE_ASN).into(),
                announced: vec![announced.parse().context("not a prefix")?],
                transit: false,
            };
            lab.routers.push(bird::start_in(lab.namespace(short)?, &lab.folder, &router)?);
        }
        Ok(lab)
    }

    /// One of `edge`, `ce`, `msee1`, `msee2`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn namespace(&self, short: &str) -> Result<&Namespace> {
        let found = self.namespaces.iter().find(|it| it.name().ends_with(&format!("-{short}")));
        found.with_context(|| format!("the small lab has no namespace {short}"))
    }

    /// Where logs and configurations are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What BIRD's own command says in one of the far namespaces.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn birdc(&self, short: &str, words: &[&str]) -> Result<String> {
        bird::ask_in(&self.folder, short, words)
    }

    /// The BIRD in one of the far namespaces.
    ///
    /// # Errors
    /// When there is none.
    pub fn router(&mut self, short: &str) -> Result<&mut Process> {
        let name = format!("bird-{short}");
        let found = self.routers.iter_mut().find(|it| it.name() == name);
        found.with_context(|| format!("the small lab has no router {short}"))
    }

    /// Changes a piece of a BIRD's configuration in its file; `birdc configure`, or the next start, reads it.
    ///
    /// # Errors
    /// When the piece is not there.
    pub fn edit_router(&self, short: &str, from: &str, to: &str) -> Result<()> {
        let file = self.folder.join(short).join("bird.conf");
        let text = fs::read_to_string(&file)?;
        if !text.contains(from) {
            bail!("{} has no {from:?}", file.display());
        }
        fs::write(&file, text.replace(from, to)).context("cannot write BIRD's configuration")
    }

    /// Kills a BIRD that may not say a word: it stops reading, is sent something, and what its kernel says at its end is lost. So its
    /// peers do not notice, as with a machine that loses its power.
    ///
    /// # Errors
    /// Names the step.
    pub fn kill_silently(
        &mut self,
        short: &str,
        lost: &[&str],
        say: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        self.router(short)?.signal(Signal::SIGSTOP)?;
        say(self)?;
        self.until_unread(short, lost)?;
        // And all that belongs to it: what comes after the end is answered by the kernel with a reset.
        thread::sleep(Duration::from_secs(1));
        for (act, is_lost) in [("add", true), ("del", false)] {
            for address in lost {
                self.namespace(short)?.ip(&format!("route {act} blackhole {address}"))?;
            }
            if is_lost {
                self.router(short)?.signal(Signal::SIGKILL)?;
                self.router(short)?.wait(Duration::from_secs(5))?;
            }
        }
        Ok(())
    }

    /// Waits until something is unread of each of these peers: what is unread when a socket is closed makes it end at once, by a reset,
    /// and send nothing later.
    fn until_unread(&self, short: &str, peers: &[&str]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let sockets = self.namespace(short)?.exec("ss", &["-Htn", "state", "established"])?;
            let is_unread = |peer: &&str| {
                let of_it = sockets.lines().filter(|line| line.contains(*peer));
                of_it.filter_map(|line| line.split_whitespace().next()).any(|unread| unread != "0")
            };
            if peers.iter().all(is_unread) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("nothing came for {short}: {sockets}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts a BIRD again that has ended.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_router(&mut self, short: &str, options: &[&str]) -> Result<()> {
        let started = bird::start_again(self.namespace(short)?, &self.folder, short, options)?;
        *self.router(short)? = started;
        Ok(())
    }

    /// Starts erdp with a configuration, and waits until all its sessions are established.
    ///
    /// # Errors
    /// Its own message.
    pub fn edge(&self, configuration: &str) -> Result<Edge> {
        let mut edge = Edge::start_with(self.namespace("edge")?, &self.folder, configuration)?;
        established(&mut edge)?;
        Ok(edge)
    }

    /// Numbered datagrams from the customer's host to the VNet's, at either MSEE.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn probe(&self, rate: u32, from_port: u16) -> Result<Probe> {
        let from = SocketAddr::from((CUSTOMER_HOST.parse::<Ipv4Addr>()?, from_port));
        let to = SocketAddr::from((plan::AZURE_IPV4.parse::<Ipv4Addr>()?, 7007));
        let far = [self.namespace("msee1")?.name(), self.namespace("msee2")?.name()];
        let ce = self.namespace("ce")?;
        // The host's own address as source: what the VNet has a way back to.
        ce.ip(&format!("route replace {} via {} src {CUSTOMER_HOST}", plan::VNET_IPV4, plan::CE.ipv4.1))?;
        Probe::between((ce.name(), from), (&far, to), rate)
    }
}

/// Waits until every session of an edge is established and has sent its prefixes, and their next hops are resolved.
///
/// # Errors
/// When it has ended, or not all are in time.
pub fn established(edge: &mut Edge) -> Result<Vec<Session>> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        edge.must_run()?;
        let sessions = if edge.answers() { edge.sessions()? } else { Vec::new() };
        let ready = |it: &Session| it.state == "Established" && (it.received > 0 || it.peer.contains(':'));
        if !sessions.is_empty() && sessions.iter().all(ready) && forwards(edge)? {
            return Ok(sessions);
        }
        if Instant::now() > deadline {
            bail!("not all sessions are established: {sessions:#?}\n{}", edge.process().tail(20));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn forwards(edge: &Edge) -> Result<bool> {
    let answers = edge.explain(plan::CE.far.1, &[plan::AZURE_IPV4.parse()?])?;
    Ok(answers.iter().all(|answer| answer.verdict == "transmit" && answer.members.len() == 2))
}
