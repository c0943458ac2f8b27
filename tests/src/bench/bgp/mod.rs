//! `cargo xtask bench bgp`: how fast a table that arrives by BGP is where packets can use it, and what that takes.
//!
//! One stream is encoded beforehand ([`stream`]) and sent by a speaker that does nothing else ([`sender`]) to each receiver alone
//! ([`receiver`]): `erdp`, to the last entry in its program's maps; BIRD and FRR, to the last route in the kernel. IPv4 and IPv6 are
//! two sessions at once. The clock starts with the first byte written.
//!
//! Then `erdp` alone: tables of Azure's limits with sixteen peers up, and a storm of flapping routes.

pub mod receiver;
pub mod sender;
pub mod stream;

use std::{
    net::IpAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp::{
    bgp::{Asn, Update, wire},
    control::Topic,
};
use ipnet::IpNet;
use serde::Serialize;

use self::{
    receiver::{Kind, Receiver},
    sender::Sender,
    stream::{Samples, Stream},
};
use crate::{
    bench::{
        report::Bar,
        routes::{Routes, Version},
    },
    lab::{
        cleanup::{self, Guard},
        netns::{self, Namespace},
    },
};

/// The sender's addresses.
const SENDER: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 2)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 2)),
];
/// The receiver's.
const RECEIVER: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 1)),
];
/// Longest time that any receiver may take for a table.
const PATIENCE: Duration = Duration::from_secs(110);

/// One receiver's run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Who.
    pub receiver: Kind,
    /// Seconds from the first byte of the table to its last route; where it was given up, for how long it was waited.
    pub load_s: f64,
    /// Whether the table was there in that time.
    pub complete: bool,
    /// Seconds from the first byte of the withdrawals to the end of the last route.
    pub withdraw_s: f64,
    /// Peak resident memory of its processes in MiB.
    pub peak_mib: f64,
}

/// A small table with many peers.
#[derive(Clone, Debug, Serialize)]
pub struct Small {
    /// Prefixes.
    pub prefixes: usize,
    /// Milliseconds from the last UPDATE handed to TCP to the last entry, the median of the rounds.
    pub after_last_ms: f64,
}

/// A storm of flaps.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    /// Route changes a second that were sent.
    pub per_second: f64,
    /// For how long.
    pub seconds: f64,
    /// Seconds after the last change until routes and maps said what was sent last.
    pub settled_s: f64,
    /// Whether the session is the one that it began with.
    pub same_session: bool,
    /// Whether routes shown and entries in the maps are exactly those that were announced last.
    pub equal: bool,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `real` or `generated` tables.
    pub tables: &'static str,
    /// Prefixes of both families.
    pub prefixes: usize,
    /// Different sets of attributes.
    pub attribute_sets: usize,
    /// UPDATE messages.
    pub messages: usize,
    /// Each receiver's runs.
    pub runs: Vec<Run>,
    /// Azure's limits.
    pub small: Vec<Small>,
    /// The storm.
    pub storm: Storm,
    /// Promises.
    pub bars: Vec<Bar>,
}

/// Measures, printing as it goes.
///
/// # Errors
/// When a receiver cannot be run.
pub fn run(quick: bool) -> Result<Report> {
    if let Some(program) = receiver::missing() {
        bail!("{program} is missing: run `cargo xtask setup`");
    }
    let samples = Samples::load()?;
    let tables = [Routes::full(Version::V4)?, Routes::full(Version::V6)?];
    let mut streams = Vec::new();
    for (routes, hop) in tables.iter().zip(SENDER) {
        streams.push([
            stream::announce(routes, &stream::origins(routes.version)?, &samples, hop)?,
            stream::withdraw(routes)?,
        ]);
    }
    let sum = |of: fn(&Stream) -> usize| streams.iter().map(|[announced, _]| of(announced)).sum::<usize>();
    let (prefixes, attribute_sets, messages) = (sum(|s| s.prefixes), sum(|s| s.sets), sum(|s| s.messages));
    println!(
        "{} tables: {prefixes} prefixes, {attribute_sets} sets of attributes, {messages} messages, {} MiB",
        tables[0].source,
        sum(|s| s.bytes.len()) >> 20
    );
    let mut small = Vec::new();
    for size in [4_000, 10_000] {
        let point = many_peers(&tables[0].sample(size), &samples, if quick { 3 } else { 9 })?;
        println!("{size} prefixes with 16 peers up: {:.1} ms after the last UPDATE", point.after_last_ms);
        small.push(point);
    }
    let storm = storm(&tables[0].sample(10_000), Duration::from_secs(if quick { 10 } else { 60 }))?;
    println!(
        "{:.0} route changes/s for {:.0} s: settled {:.3} s later, same session: {}, routes and maps as sent last: {}",
        storm.per_second, storm.seconds, storm.settled_s, storm.same_session, storm.equal
    );
    let rounds = if quick { 1 } else { 5 };
    let mut runs = Vec::new();
    println!("{:<10} {:>8} {:>12} {:>10}", "receiver", "load s", "withdraw s", "peak MiB");
    for kind in [Kind::Erdp, Kind::Bird, Kind::Frr] {
        for _ in 0..rounds {
            let run = whole_table(kind, &streams)?;
            println!(
                "{:<10} {:>8} {:>12.2} {:>10.0}",
                format!("{kind:?}"),
                format!("{}{:.2}", if run.complete { "" } else { ">" }, run.load_s),
                run.withdraw_s,
                run.peak_mib
            );
            runs.push(run);
        }
    }
    let bars = judge(&runs, &small, &storm);
    for bar in &bars {
        let met = if bar.met { "met" } else { "MISSED" };
        println!("{met:<7} {}: {:.2} {} {}", bar.what, bar.value, bar.relation, bar.bar);
    }
    Ok(Report { tables: tables[0].source, prefixes, attribute_sets, messages, runs, small, storm, bars })
}

fn judge(runs: &[Run], small: &[Small], storm: &Storm) -> Vec<Bar> {
    let median = |kind: Kind, of: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().filter(|run| run.receiver == kind).map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let ratio = |kind, of: fn(&Run) -> f64| median(kind, of) / median(Kind::Erdp, of);
    let mut bars = vec![
        Bar::new("times as fast as BIRD", ratio(Kind::Bird, |run| run.load_s), ">=", 4.0),
        Bar::new("times as fast as FRR", ratio(Kind::Frr, |run| run.load_s), ">=", 8.0),
        Bar::new("of BIRD's peak memory", 1.0 / ratio(Kind::Bird, |run| run.peak_mib), "<=", 1.5),
        Bar::new("of FRR's peak memory", 1.0 / ratio(Kind::Frr, |run| run.peak_mib), "<=", 0.25),
    ];
    bars.extend(small.iter().map(|point| {
        let what = format!("ms after the last UPDATE of {} prefixes", point.prefixes);
        Bar::new(&what, point.after_last_ms, "<=", 100.0)
    }));
    let held = storm.same_session && storm.equal;
    bars.push(Bar::new(
        "route changes a second survived",
        if held { storm.per_second } else { 0.0 },
        ">=",
        99_000.0,
    ));
    bars
}

/// Two namespaces and the links between them; everything goes with it.
struct Stage {
    receiver: Namespace,
    sender: Namespace,
    folder: PathBuf,
    _guard: Guard,
}

impl Stage {
    fn new() -> Result<Self> {
        let name = crate::lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let (receiver, sender) =
            (Namespace::add(&format!("{name}-rx"))?, Namespace::add(&format!("{name}-tx"))?);
        for (near, far) in [("up0", "msee0"), ("up1", "msee1"), ("ce0", "cust0")] {
            netns::connect((&receiver, near), (&sender, far))?;
        }
        for (namespace, interface, addresses) in [
            (&receiver, "up0", ["198.18.0.1/30", "fd00:18::1/126"]),
            (&sender, "msee0", ["198.18.0.2/30", "fd00:18::2/126"]),
        ] {
            for address in addresses {
                namespace.address(interface, address)?;
            }
        }
        for host in 10..40 {
            sender.address("cust0", &format!("198.18.10.{host}/24"))?;
        }
        Ok(Self { receiver, sender, folder, _guard: guard })
    }

    fn msee(&self, version: Version) -> Result<Sender> {
        let at = usize::from(version == Version::V6);
        Sender::connect(&self.sender, SENDER[at], RECEIVER[at], &stream::open(version, [198, 18, 0, 2]))
    }
}

fn whole_table(kind: Kind, streams: &[[Stream; 2]]) -> Result<Run> {
    let stage = Stage::new()?;
    let mut receiver = Receiver::start(kind, &stage.receiver, &stage.folder, 0)?;
    let mut senders = [stage.msee(Version::V4)?, stage.msee(Version::V6)?];
    let total: u64 = streams.iter().map(|[announced, _]| announced.prefixes as u64).sum();
    let mut pass = |receiver: &mut Receiver, which: usize, until: u64| -> Result<(f64, bool)> {
        let started = Instant::now();
        let complete = thread::scope(|scope| -> Result<bool> {
            for (sender, pair) in senders.iter_mut().zip(streams) {
                scope.spawn(move || sender.send(&pair[which].bytes));
            }
            wait_for(receiver, until, started)
        })?;
        Ok((started.elapsed().as_secs_f64(), complete))
    };
    let (load_s, complete) = pass(&mut receiver, 0, total)?;
    let peak_mib = receiver.peak_kib()? as f64 / 1024.0;
    // What is given up has not read everything: nothing more can be said to it.
    let withdraw_s = if complete { pass(&mut receiver, 1, 0)?.0 } else { f64::NAN };
    Ok(Run { receiver: kind, load_s, complete, withdraw_s, peak_mib })
}

/// Until a receiver has that many routes; false: it took too long, and its bar is met by more than can be said.
fn wait_for(receiver: &mut Receiver, routes: u64, since: Instant) -> Result<bool> {
    while since.elapsed() < PATIENCE {
        if receiver.installed()? == routes {
            return Ok(true);
        }
        receiver.must_run()?;
        // Counting the kernel's routes is work, which must not slow the receiver down; asking erdp is not.
        let pause = if receiver.is_cheap_to_ask() { 20 } else { 1_000 };
        thread::sleep(Duration::from_millis(pause));
    }
    Ok(false)
}

/// A table of one of Azure's limits, time after time, with fifteen customers' routers listening.
fn many_peers(routes: &Routes, samples: &Samples, rounds: usize) -> Result<Small> {
    let stage = Stage::new()?;
    let mut receiver = Receiver::start(Kind::Erdp, &stage.receiver, &stage.folder, 15)?;
    let mut msee = stage.msee(Version::V4)?;
    let mut customers = Vec::new();
    for host in 10..25 {
        let from = IpAddr::from([198, 18, 10, host]);
        let open = wire::Open { asn: Asn(65_020), ..stream::open(Version::V4, [198, 18, 10, host]) };
        customers.push(Sender::connect(&stage.sender, from, [198, 18, 10, 1].into(), &open)?);
    }
    let announced = stream::announce(routes, &stream::origins(Version::V4)?, samples, SENDER[0])?;
    let withdrawn = stream::withdraw(routes)?;
    let base = receiver.installed()?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        msee.send(&announced.bytes)?;
        let sent = Instant::now();
        until(&mut receiver, base + announced.prefixes as u64)?;
        times.push(sent.elapsed().as_secs_f64() * 1e3);
        msee.send(&withdrawn.bytes)?;
        until(&mut receiver, base)?;
        for customer in &mut customers {
            customer.keepalive()?;
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(Small { prefixes: routes.prefixes.len(), after_last_ms: times[times.len() / 2] })
}

fn until(receiver: &mut Receiver, routes: u64) -> Result<()> {
    let since = Instant::now();
    while receiver.installed()? != routes {
        receiver.must_run()?;
        ensure!(since.elapsed() < Duration::from_secs(20), "{} routes, not {routes}", receiver.installed()?);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Changes a second.
const STORM: usize = 100_000;

/// Each route of a table goes and comes, one to a message, at a given rate; in the end every second one is there.
fn storm(routes: &Routes, length: Duration) -> Result<Storm> {
    let stage = Stage::new()?;
    let mut receiver = Receiver::start(Kind::Erdp, &stage.receiver, &stage.folder, 0)?;
    let mut msee = stage.msee(Version::V4)?;
    let base = receiver.installed()?;
    let sessions = established(&receiver)?;
    let (up, down) = flaps(routes)?;
    let started = Instant::now();
    let mut sent = 0;
    // A twentieth of a second's share at a time.
    let share = STORM / 20;
    for round in 0.. {
        let due = started + Duration::from_millis(50) * round;
        if started.elapsed() >= length {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut bytes = Vec::with_capacity(share * 64);
        for _ in 0..share {
            let (route, pass) = (sent % up.len(), sent / up.len());
            bytes.extend_from_slice(if pass.is_multiple_of(2) { &up[route] } else { &down[route] });
            sent += 1;
        }
        msee.send(&bytes)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let last: Vec<u8> =
        up.iter().step_by(2).chain(down.iter().skip(1).step_by(2)).flatten().copied().collect();
    msee.send(&last)?;
    let after = Instant::now();
    let expected = routes.prefixes.len().div_ceil(2) as u64;
    let mut wanted: Vec<IpNet> = routes.prefixes.iter().step_by(2).copied().collect();
    wanted.sort_unstable();
    // The number alone is right now and then on the way.
    let is_settled = |receiver: &mut Receiver| -> Result<bool> {
        Ok(receiver.installed()? == base + expected && shown(receiver)? == wanted)
    };
    let mut equal = false;
    while !equal && after.elapsed() < Duration::from_secs(20) {
        receiver.must_run()?;
        equal = is_settled(&mut receiver)?;
    }
    let settled_s = after.elapsed().as_secs_f64();
    Ok(Storm {
        per_second: sent as f64 / seconds,
        seconds,
        settled_s,
        same_session: established(&receiver)? == sessions,
        equal,
    })
}

/// The prefixes that `erdp show routes` has, in order.
fn shown(receiver: &Receiver) -> Result<Vec<IpNet>> {
    let rows: Vec<serde_json::Value> = serde_json::from_value(receiver.ask(Topic::Routes)?)?;
    let mut shown: Vec<IpNet> = rows.iter().filter_map(|row| row["prefix"].as_str()?.parse().ok()).collect();
    shown.sort_unstable();
    Ok(shown)
}

/// A message for each route.
type Messages = Vec<Vec<u8>>;

/// One announcement and one withdrawal of each route.
fn flaps(routes: &Routes) -> Result<(Messages, Messages)> {
    let context = stream::context(Version::V4);
    let attributes = erdp::bgp::PathAttributes {
        as_path: erdp::bgp::AsPath::sequence([stream::SENDER, 8_075]),
        ..erdp::bgp::PathAttributes::originated(SENDER[0])
    };
    let attributes = std::sync::Arc::new(attributes);
    let (mut up, mut down) = (Messages::new(), Messages::new());
    for prefix in &routes.prefixes {
        let announced =
            Update { announced: vec![*prefix], attributes: Some(attributes.clone()), ..Update::default() };
        let withdrawn = Update { withdrawn: vec![*prefix], ..Update::default() };
        up.push(wire::encode_update(&announced, &context)?.concat());
        down.push(wire::encode_update(&withdrawn, &context)?.concat());
    }
    Ok((up, down))
}

/// How often sessions have been established so far, by peer.
fn established(receiver: &Receiver) -> Result<Vec<(String, u64)>> {
    let rows: Vec<serde_json::Value> = serde_json::from_value(receiver.ask(Topic::Sessions)?)?;
    let row = |row: &serde_json::Value| Some((row["peer"].as_str()?.to_owned(), row["sessions"].as_u64()?));
    rows.iter().map(|value| row(value).context("a session without a number")).collect()
}
