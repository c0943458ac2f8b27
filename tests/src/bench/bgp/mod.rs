//! `cargo xtask bench bgp`: how fast a table that arrives by BGP is where packets can use it, and what that takes.
//!
//! One stream is encoded beforehand ([`stream`]) and sent by a speaker that does nothing else ([`sender`], [`stage`]) to each receiver
//! alone ([`receiver`]): `erdp`, to the last entry in its program's maps; BIRD and FRR, to the last route in the kernel. IPv4 and IPv6
//! are two sessions at once. The clock starts with the first byte written. Then the other MSEE of the circuit announces the same
//! table, the first one is lost, and the second withdraws everything ([`table`], [`watch`]). Receivers take turns; medians count.
//!
//! Before that `erdp` alone: what the table costs in each of its stages ([`stages`]), tables of Azure's limits with sixteen peers up, and a storm of flapping routes ([`storm`]).

pub mod receiver;
pub mod sender;
pub mod stage;
pub mod stages;
pub mod storm;
pub mod stream;
pub mod table;
pub mod watch;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use self::{
    receiver::Kind,
    stage::next_hop,
    stages::{Exchange, Stages},
    storm::{Small, Storm},
    stream::{Samples, Stream},
    table::{Feed, Run},
};
use crate::bench::{
    report::Bar,
    routes::{Routes, Version},
};

/// No round begins later than this after the start, so that a slow machine has fewer rounds instead of a longer run.
const LAST_ROUND: Duration = Duration::from_secs(25 * 60);

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
    /// What `erdp` needs for the table, without a kernel.
    pub stages: Stages,
    /// What other policies cost.
    pub policies: Vec<Exchange>,
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
    let started = Instant::now();
    let samples = Samples::load()?;
    let tables = [Routes::full(Version::V4)?, Routes::full(Version::V6)?];
    let feeds = [feed(&tables[0], &samples)?, feed(&tables[1], &samples)?];
    let sum = |of: fn(&Stream) -> usize| feeds.iter().map(|feed| of(&feed.announced[0])).sum::<usize>();
    let (prefixes, attribute_sets, messages) = (sum(|s| s.prefixes), sum(|s| s.sets), sum(|s| s.messages));
    println!(
        "{} tables: {prefixes} prefixes, {attribute_sets} sets of attributes, {messages} messages, {} MiB",
        tables[0].source,
        sum(|s| s.bytes.len()) >> 20
    );
    let stages = stages::table(&feeds)?;
    println!("CPU seconds of the stages: {stages}");
    let policies = stages::exchanges(&feeds)?;
    policies.iter().for_each(|exchange| println!("CPU seconds of another policy: {exchange}"));
    let small = small_tables(&tables[0], &samples, if quick { 3 } else { 9 })?;
    let storm = storm::storm(&tables[0].sample(10_000), Duration::from_secs(if quick { 10 } else { 60 }))?;
    println!(
        "{:.0} route changes/s for {:.0} s: settled {:.3} s later, same session: {}, routes and maps as sent last: {}",
        storm.per_second, storm.seconds, storm.settled_s, storm.same_session, storm.equal
    );
    let runs = rounds(&feeds, if quick { 1 } else { 5 }, started + LAST_ROUND)?;
    let bars = judge(&runs, &small, &storm);
    for bar in &bars {
        let met = if bar.met { "met" } else { "MISSED" };
        println!("{met:<7} {}: {:.2} {} {}", bar.what, bar.value, bar.relation, bar.bar);
    }
    Ok(Report {
        tables: tables[0].source,
        prefixes,
        attribute_sets,
        messages,
        stages,
        policies,
        runs,
        small,
        storm,
        bars,
    })
}

fn feed(routes: &Routes, samples: &Samples) -> Result<Feed> {
    let origins = stream::origins(routes.version)?;
    let announced = |msee| stream::announce(routes, &origins, samples, next_hop(msee, routes.version));
    Ok(Feed {
        announced: [announced(0)?, announced(1)?],
        withdrawn: stream::withdraw(routes)?,
        sample: routes.sample(table::SAMPLE).prefixes,
    })
}

fn small_tables(routes: &Routes, samples: &Samples, rounds: usize) -> Result<Vec<Small>> {
    let mut small = Vec::new();
    for size in [4_000, 10_000] {
        let point = storm::many_peers(&routes.sample(size), samples, rounds)?;
        println!("{size} prefixes with 16 peers up: {:.1} ms after the last UPDATE", point.after_last_ms);
        small.push(point);
    }
    Ok(small)
}

const KINDS: [Kind; 3] = [Kind::Erdp, Kind::Bird, Kind::Frr];

fn rounds(feeds: &[Feed; 2], rounds: usize, last: Instant) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    println!(
        "{:<8} {:>8} {:>10} {:>10} {:>12} {:>12}",
        "receiver", "load s", "peak MiB", "both MiB", "feed lost s", "withdraw s"
    );
    for round in 0..rounds {
        if round > 0 && Instant::now() > last {
            println!("no time for more than {round} rounds");
            break;
        }
        for kind in KINDS {
            let run = table::turn(kind, feeds)?;
            let name = format!("{kind:?}{}", if run.complete { "" } else { " (given up)" });
            print_row(&name, |of| of(&run));
            runs.push(run);
        }
    }
    for kind in KINDS {
        print_row(&format!("{kind:?} *"), |of| median(&runs, kind, of));
    }
    println!("* median");
    Ok(runs)
}

fn print_row(name: &str, value: impl Fn(fn(&Run) -> f64) -> f64) {
    println!(
        "{name:<8} {:>8.2} {:>10.0} {:>10.0} {:>12.2} {:>12.2}",
        value(|run| run.load_s),
        value(|run| run.peak_mib),
        value(|run| run.both_mib),
        value(|run| run.loss_s),
        value(|run| run.withdraw_s)
    );
}

/// Of a receiver's runs; what was not reached counts as more than anything.
fn median(runs: &[Run], kind: Kind, of: fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().filter(|run| run.receiver == kind).map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn judge(runs: &[Run], small: &[Small], storm: &Storm) -> Vec<Bar> {
    let ratio = |kind, of: fn(&Run) -> f64| median(runs, kind, of) / median(runs, Kind::Erdp, of);
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
