//! A planned restart with full tables: an MSEE has announced the Internet's IPv4 and IPv6 routes, a customer's router has been told of
//! them, packets flow, BFD runs at the MSEE's floor, and hold times are short. One process after another takes over.
//!
//! What must hold: no packet is lost, no session changes by its peer's account, no peer is told a route again or waits for as long as its
//! hold time, counters only grow, and routes lead where they led. How long it takes and the memory of both processes are printed.

use std::{
    fs,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp::bgp::{
    AsPath, Asn, PathAttributes, Seconds,
    wire::{self, Message},
};
use erdp_tests::{
    bench::{
        bgp::{
            sender::{self, Sender},
            stream::{self, Samples},
        },
        routes::{Routes, Version},
    },
    edge::{self, Edge, Explanation},
    failover::{
        CE, LINKS, Place,
        peers::{self, Timers},
        probe::{Probe, rate},
        sessions, until,
    },
    seen::Seen,
};
use ipnet::IpNet;

/// What an MSEE has at least (B5).
const TIMERS: Timers = Timers { interval_ms: 300, multiplier: 3 };
/// The shortest that routers in use are given, for those who speak by this test.
const HOLD: Seconds = Seconds(9);
const LOADED: Duration = Duration::from_secs(150);
const TAKEN: Duration = Duration::from_secs(60);
/// The longest that a question waits while peers announce as fast as they can: some turns of the loop, on a busy machine.
const ANSWERED: Duration = Duration::from_secs(2);
/// Prefixes of each version whose way is asked for before and after.
const SAMPLE: usize = 1_000;
/// Routes of each version in the everyday run; in full it is the whole Internet's.
const EVERYDAY: usize = 20_000;

/// What a peer of the edge has heard.
#[derive(Default)]
struct Heard {
    /// Prefixes announced, and withdrawn.
    told: AtomicU64,
    /// Milliseconds.
    longest_silence: AtomicU64,
    end: Mutex<Option<String>>,
}

impl Heard {
    fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    fn must_go_on(&self) -> Result<()> {
        match &*self.end.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => bail!("a session has ended: {why}"),
            None => Ok(()),
        }
    }
}

/// A speaker of BGP beside the edge, which keeps its session until it is dropped.
struct Peer {
    heard: Arc<Heard>,
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Peer {
    /// Connects, announces, and then only shows that it is alive.
    fn connect(
        place: &Place,
        namespace: &str,
        (from, to): (&str, &str),
        open: &wire::Open,
        announced: &[u8],
    ) -> Result<Peer> {
        let heard = Arc::new(Heard::default());
        let (listening, context) = (
            heard.clone(),
            wire::Context {
                four_octet_asn: true,
                families: open.families.clone(),
                ..wire::Context::default()
            },
        );
        let read = move |mut stream| {
            let mut last = Instant::now();
            let why = loop {
                let message = match sender::receive(&mut stream, &context) {
                    Ok(message) => message,
                    Err(error) => break format!("{error:#}"),
                };
                let silence = last.elapsed().as_millis() as u64;
                last = Instant::now();
                listening.longest_silence.fetch_max(silence, Ordering::Relaxed);
                if let Message::Update(update) = message {
                    let prefixes = update.updates.iter().map(|it| it.announced.len() + it.withdrawn.len());
                    listening.told.fetch_add(prefixes.sum::<usize>() as u64, Ordering::Relaxed);
                }
            };
            *listening.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        };
        let namespace = place.namespace(namespace)?;
        let mut sender = Sender::connect_and(namespace, from.parse()?, to.parse()?, open, read)?;
        sender.send(announced)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let keeper = thread::spawn(move || {
            for round in 0_u32.. {
                if stopped.load(Ordering::Relaxed) || round.is_multiple_of(20) && sender.keepalive().is_err()
                {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        Ok(Peer { heard, stop, keeper: Some(keeper) })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.keeper.take().map(JoinHandle::join);
    }
}

/// The lab with everything loaded. Fields in the order of the end.
struct Stand {
    msee: [Peer; 2],
    customer: Peer,
    edge: Edge,
    place: Place,
    sample: Vec<IpAddr>,
    successors: usize,
}

impl Stand {
    fn up() -> Result<Stand> {
        let samples = Samples::load()?;
        let table_of = |version| match edge::is_full() {
            true => Routes::full(version),
            false => Ok(Routes::generated(version, EVERYDAY)),
        };
        let tables = [table_of(Version::V4)?, table_of(Version::V6)?];
        let [v4, v6] = [table(&tables[0], &samples)?, table(&tables[1], &samples)?];
        let mut place = Place::up(false)?;
        peers::start_bird(&mut place, &LINKS[0], TIMERS, &peers::prefixes(0))?;
        peers::start_bird_for_bfd(&mut place, &LINKS[1], TIMERS)?;
        let configuration = peers::erdp_with_customer(TIMERS, 120, "");
        let mut edge = Edge::start_with(place.namespace("edge")?, place.folder(), &configuration)?;
        let open = |version, id, asn| wire::Open { hold: HOLD, asn: Asn(asn), ..stream::open(version, id) };
        let customer = open(Version::V4, [198, 18, 1, 2], peers::CUSTOMER);
        let customer = Peer::connect(&place, "ce", (CE.0.1, CE.0.0), &customer, &[])?;
        let begin = Instant::now();
        let msee = |ends: (&str, &str, u8), version, table: &[u8]| {
            let open = open(version, [198, 18, 0, 6], stream::SENDER);
            Peer::connect(&place, "msee2", (ends.1, ends.0), &open, table)
        };
        let msee = [msee(LINKS[1].ipv4, Version::V4, &v4)?, msee(LINKS[1].ipv6, Version::V6, &v6)?];
        let routes: usize = tables.iter().map(|table| table.prefixes.len()).sum();
        let told = tables[0].prefixes.len() as u64;
        let mut longest = Duration::ZERO;
        until("the table", LOADED, || {
            edge.must_run()?;
            [&customer, &msee[0], &msee[1]].iter().try_for_each(|peer| peer.heard.must_go_on())?;
            let asked = Instant::now();
            let known = routes_of(&edge)?;
            longest = longest.max(asked.elapsed());
            Ok(known >= routes as u64 && customer.heard.told() >= told)
        })
        .with_context(|| edge.process().tail(20))?;
        println!(
            "  {routes} routes after {:.1?}; meanwhile an answer took {longest:.1?} at most",
            begin.elapsed()
        );
        ensure!(longest < ANSWERED, "the peers kept an operator waiting for {longest:.1?}");
        let sample = tables.iter().flat_map(|table| table.sample(SAMPLE).prefixes);
        let sample = sample.filter_map(|prefix| prefix.hosts().next()).collect();
        let mut stand = Stand { msee, customer, edge, place, sample, successors: 0 };
        until("BFD and BGP on both links", LOADED, || Ok(stand.seen().is_ok() && stand.is_up()?))
            .with_context(|| stand.edge.process().tail(20))?;
        thread::sleep(Duration::from_secs(2));
        Ok(stand)
    }

    fn is_up(&mut self) -> Result<bool> {
        let bfd = sessions(&self.edge)?;
        Ok(bfd.len() == 4 && bfd.iter().all(|it| it.state == "Up" && it.interval_ms <= 300.0))
    }

    fn peers(&self) -> [&Peer; 3] {
        [&self.customer, &self.msee[0], &self.msee[1]]
    }

    /// What BIRD says: BGP on the primary link, BFD on both.
    fn seen(&self) -> Result<Vec<Seen>> {
        let ask = |msee: &str, words: &[&str], wanted: &str| -> Result<Vec<Seen>> {
            let said = peers::birdc(&self.place, msee, words)?;
            let lines = said.lines().filter(|line| line.contains(wanted));
            Ok(lines.map(|line| Seen::by_bird(msee, line)).collect())
        };
        let bgp = ask("msee1", &["show", "protocols"], "edge_ipv")?;
        let bfd = ["msee1", "msee2"].map(|msee| ask(msee, &["show", "bfd", "sessions"], "edge0"));
        let [first, second] = bfd;
        let seen: Vec<Seen> = [bgp, first?, second?].concat();
        let is_up = |it: &Seen| it.what.contains("Established") || it.what.contains(" Up ");
        ensure!(seen.len() == 6 && seen.iter().all(is_up), "{seen:#?}");
        Ok(seen)
    }

    fn ways(&self) -> Result<Vec<Explanation>> {
        self.edge.explain("ce0", &self.sample)
    }

    /// Another process takes over, and nothing else happens.
    fn hand_over(&mut self) -> Result<()> {
        let (seen, ways, routes) = (self.seen()?, self.ways()?, routes_of(&self.edge)?);
        let told = self.peers().map(|peer| peer.heard.told());
        self.peers().iter().for_each(|peer| peer.heard.longest_silence.store(0, Ordering::Relaxed));
        let counters = self.edge.counters()?;
        let probe = Probe::start(&self.place, 20_001 + self.successors as u16)?;
        thread::sleep(Duration::from_secs(1));
        self.successors += 1;
        let name = format!("erdp-{}", self.successors);
        let (namespace, folder) = (self.place.namespace("edge")?, self.place.folder());
        let begin = Instant::now();
        let mut next = self.edge.successor_called(&name, namespace, folder, &[])?;
        let (mut asked, mut before_kib) = (None, 0);
        while !log(&mut next)?.contains("running peers") {
            next.must_run()?;
            ensure!(begin.elapsed() < TAKEN, "not taken over:\n{}", next.process().tail(20));
            if asked.is_none() && log(&mut self.edge)?.contains("handing over to another process") {
                asked = Some(begin.elapsed());
            }
            before_kib = peak_kib(&mut self.edge).unwrap_or(before_kib);
            thread::sleep(Duration::from_millis(5));
        }
        let running = begin.elapsed();
        let mut last = counters.rx.packets;
        for _ in 0..200 {
            let now = next.counters()?.rx.packets;
            ensure!(now >= last, "the counter went from {last} to {now}");
            last = now;
            thread::sleep(Duration::from_millis(20));
        }
        let ended = self.edge.process().wait(Duration::from_secs(5))?;
        ensure!(ended.success(), "the old process ended with {ended}:\n{}", self.edge.process().tail(20));
        self.edge = next;
        let report = probe.stop()?;
        let asked = asked.context("nobody was asked")?;
        println!(
            "  start to running {running:.2?}, of that after being asked {:.2?}; peak {} MiB old, {} MiB new",
            running - asked,
            before_kib >> 10,
            peak_kib(&mut self.edge)? >> 10
        );
        println!("  {report:?}");
        ensure!(
            report.lost == 0 && report.sent > u64::from(rate()),
            "{report:?}\n{}",
            self.edge.process().tail(30)
        );
        for (peer, told) in self.peers().iter().zip(told) {
            peer.heard.must_go_on()?;
            let silence = peer.heard.longest_silence.load(Ordering::Relaxed);
            println!("  a peer has heard nothing for {silence} ms at most");
            ensure!(silence < HOLD.duration().as_millis() as u64, "silent for {silence} ms");
            ensure!(peer.heard.told() == told, "told {} prefixes again", peer.heard.told() - told);
        }
        let now = self.seen()?;
        ensure!(Seen::are(&seen, &now), "sessions before and after: {seen:#?} {now:#?}");
        let expired: Vec<_> = sessions(&self.edge)?.into_iter().filter(|it| it.expired > 0).collect();
        ensure!(expired.is_empty(), "{expired:#?}");
        ensure!(routes_of(&self.edge)? == routes, "{routes} routes before, {} after", routes_of(&self.edge)?);
        let differ = ways.iter().zip(self.ways()?).filter(|(one, other)| *one != other).count();
        ensure!(differ == 0, "{differ} of {} destinations lead elsewhere", ways.len());
        let unexplained = self.edge.counters()?.unexplained();
        ensure!(unexplained == 0, "{unexplained} packets unexplained");
        println!("  {routes} routes, {} destinations lead where they led, sessions unchanged", ways.len());
        Ok(())
    }
}

fn log(edge: &mut Edge) -> Result<String> {
    Ok(fs::read_to_string(edge.process().log())?)
}

/// A table and the VNet, as the secondary MSEE announces them.
fn table(routes: &Routes, samples: &Samples) -> Result<Vec<u8>> {
    let is_v4 = routes.version == Version::V4;
    let next_hop: IpAddr = if is_v4 { LINKS[1].ipv4.1 } else { LINKS[1].ipv6.1 }.parse()?;
    // By as short a path as the primary's.
    let attributes = PathAttributes {
        as_path: AsPath::sequence([stream::SENDER]),
        ..PathAttributes::originated(next_hop)
    };
    let vnet: Vec<IpNet> = peers::prefixes(0).into_iter().filter(|it| it.addr().is_ipv4() == is_v4).collect();
    let mut bytes = stream::announce_groups(vec![(attributes, vnet)], routes.version)?.bytes;
    bytes.extend(stream::announce(routes, &stream::origins(routes.version)?, samples, next_hop)?.bytes);
    Ok(bytes)
}

fn routes_of(edge: &Edge) -> Result<u64> {
    let counters: serde_json::Value = serde_json::from_str(&edge.show("counters")?)?;
    counters["fib"]["routes"].as_u64().context("no number of routes")
}

/// The most memory that a process has had.
fn peak_kib(edge: &mut Edge) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", edge.process().id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn a_full_table_is_handed_over_without_a_loss_a_change_or_a_word_to_any_peer() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    let rounds = if edge::is_full() { 2 } else { 1 };
    (0..rounds).try_for_each(|_| stand.hand_over())
}
