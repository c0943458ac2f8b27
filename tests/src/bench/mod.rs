//! `cargo xtask bench dataplane`: what a packet costs, beside an empty program, a bare redirect, the kernel's own
//! `bpf_fib_lookup` and the same pipeline over `BPF_MAP_TYPE_LPM_TRIE`; what a look-up costs alone; how fast tables load.
//!
//! Files: [`routes`] (tables and destinations), [`arena`] (namespace, objects, the driver), [`measure`] (rounds and medians),
//! [`load`] (prefixes a second, memory), [`room`] (how much a table takes), [`report`] (the bars). Everything runs by `BPF_PROG_TEST_RUN` in network namespaces of
//! this process: nothing is transmitted, and nothing stays when it ends. It judges nothing: a bar that is missed is printed as
//! such and the exit code is 0, because a shared machine's timing must not decide whether a change is right.
//!
//! Beside it: [`live`] (`cargo xtask bench live`), frames that are really forwarded; [`policer`] (`cargo xtask bench policer`), TCP
//! through the policer; [`bgp`] (`cargo xtask bench bgp`), tables that arrive by BGP.

pub mod arena;
pub mod bgp;
pub mod live;
pub mod load;
pub mod measure;
pub mod pinned;
pub mod policer;
pub mod report;
pub mod room;
pub mod routes;

use std::{path::Path, thread};

use anyhow::Result;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::{
    arena::{Arena, Tags, read_object},
    measure::{Cost, Effort},
    report::{Point, Report},
    routes::{Routes, Spread, Version},
};

/// Blocks of the pools: 32 MiB each, enough for either whole table and a second one.
const FIB_BLOCKS: u32 = 32_768;
/// Who forwards.
const FORWARDERS: [&str; 4] = ["bench_redirect", "bench_fib_lookup", "erdp over LPM_TRIE", "erdp"];

/// Measures everything, printing as it goes; `size`: one IPv4 table of that many routes, with and without BFD, and nothing else.
pub fn run(object: &Path, quick: bool, size: Option<usize>) -> Result<Report> {
    let object = read_object(object)?;
    let effort =
        if quick { Effort { rounds: 7, runs: 1 << 15 } } else { Effort { rounds: 21, runs: 1 << 16 } };
    if let Some(size) = size {
        let full = Routes::full(Version::V4)?;
        let mut report = Report::new(effort, full.source);
        report::head(&report);
        at_size(&object, &full.sample(size), effort, &mut report)?;
        in_own_namespace(|| bfd(&object, &full.sample(size), effort, &mut report))?;
        return Ok(report);
    }
    let (v4, v6) = (Routes::full(Version::V4)?, Routes::full(Version::V6)?);
    let mut report = Report::new(effort, v4.source);
    report::head(&report);
    for full in [&v4, &v6] {
        let load = in_own_namespace(|| load::measure(&object, full, FIB_BLOCKS))?;
        report::load(&load);
        report.loads.push(load);
    }
    for (full, sizes) in [(&v4, &[1_000, 10_000, 100_000][..]), (&v6, &[10_000][..])] {
        for size in sizes {
            at_size(&object, &full.sample(*size), effort, &mut report)?;
        }
    }
    if !quick {
        for full in [&v4, &v6] {
            at_size(&object, full, effort, &mut report)?;
        }
    }
    in_own_namespace(|| tags(&object, &v4.sample(10_000), effort, &mut report))?;
    in_own_namespace(|| bfd(&object, &v4.sample(10_000), effort, &mut report))?;
    report.judge();
    Ok(report)
}

/// All measurements with one table.
fn at_size(object: &[u8], routes: &Routes, effort: Effort, report: &mut Report) -> Result<()> {
    in_own_namespace(|| {
        let mut arena = Arena::new(object, FIB_BLOCKS)?;
        arena.load(routes, true)?;
        for spread in [Spread::Trains, Spread::Random, Spread::Zipf] {
            arena.aim(Tags::None, &routes.destinations(spread))?;
            for program in FORWARDERS {
                arena.must_forward(program)?;
            }
            // After the one that leaves nothing of ours in the caches: every look-up's first touch of its lines.
            let contestants =
                [&FORWARDERS[..3], &["bench_match, cold"], &FORWARDERS[3..], &["bench_match"]].concat();
            let costs = measure::packets(&mut arena, &contestants, effort)?;
            report.add(Point {
                version: routes.version,
                routes: routes.prefixes.len(),
                what: "packet",
                spread,
                costs,
            });
        }
        arena.aim(Tags::None, &routes.destinations(Spread::Random))?;
        let digit = if routes.version == Version::V4 { '4' } else { '6' };
        let programs =
            ["lookup_trie", "lookup_lpm", "chained_trie", "chained_lpm"].map(|name| format!("{name}{digit}"));
        let costs = measure::lookups(&mut arena, &programs, effort)?;
        let spread = Spread::Random;
        report.add(Point {
            version: routes.version,
            routes: routes.prefixes.len(),
            what: "lookup",
            spread,
            costs,
        });
        Ok(())
    })
}

/// Tags: none to none, two to two, none to two (push), two to none (pop); and what it costs to tell where a frame came in, by those that
/// are dropped as soon as that is known.
fn tags(object: &[u8], routes: &Routes, effort: Effort, report: &mut Report) -> Result<()> {
    let mut arena = Arena::new(object, FIB_BLOCKS)?;
    arena.load(routes, false)?;
    let destinations = routes.destinations(Spread::Zipf);
    let mut costs: Vec<Cost> = Vec::new();
    for (name, ingress, egress) in [
        ("untagged", Tags::None, Tags::None),
        ("two tags in, two out", Tags::Two, Tags::Two),
        ("push two", Tags::None, Tags::Two),
        ("pop two", Tags::Two, Tags::None),
    ] {
        arena.set_egress(egress)?;
        arena.aim(ingress, &destinations)?;
        arena.must_forward("erdp")?;
        let measured = measure::packets(&mut arena, &["bench_resize", "erdp"], effort)?;
        let mut cost = Cost { name: name.to_owned(), ..measured[2].clone() };
        if ingress != egress {
            // The driver moves the front back: half of what moving it there and back costs.
            let back = measured[1].median_ns / 2.0;
            cost = Cost {
                median_ns: cost.median_ns - back,
                min_ns: cost.min_ns - back,
                max_ns: cost.max_ns - back,
                ..cost
            };
        }
        costs.push(cost);
    }
    arena.disable()?;
    for (name, ingress) in [("untagged, told", Tags::None), ("two tags, told", Tags::Two)] {
        arena.aim(ingress, &destinations)?;
        arena.must_drop("erdp")?;
        let measured = measure::packets(&mut arena, &["erdp"], effort)?;
        costs.push(Cost { name: name.to_owned(), ..measured[1].clone() });
    }
    let (version, routes) = (routes.version, routes.prefixes.len());
    report.add(Point { version, routes, what: "tags", spread: Spread::Zipf, costs });
    Ok(())
}

/// Next hops without BFD and with a session that is up, in turn: what it takes to ask whether the neighbour is alive. Trains,
/// because what is looked for is less than what random destinations vary by.
fn bfd(object: &[u8], routes: &Routes, effort: Effort, report: &mut Report) -> Result<()> {
    let mut arena = Arena::new(object, FIB_BLOCKS)?;
    arena.load(routes, false)?;
    arena.aim(Tags::None, &routes.destinations(Spread::Trains))?;
    let mut rounds = [Vec::new(), Vec::new()];
    for round in 0..4 * effort.rounds {
        let empty = arena.time("bench_empty", effort.runs)?;
        for turn in 0..2 {
            let at = (turn + round) % 2;
            arena.set_bfd(at == 1)?;
            if round < 2 {
                arena.must_forward("erdp")?;
            }
            rounds[at].push(arena.time("erdp", effort.runs)? - empty);
        }
    }
    let [without, with] = rounds;
    let more: Vec<f64> = with.iter().zip(&without).map(|(with, without)| with - without).collect();
    let costs = vec![Cost::new("no BFD", without), Cost::new("BFD up", with), Cost::new("difference", more)];
    let (version, routes) = (routes.version, routes.prefixes.len());
    report.add(Point { version, routes, what: "bfd", spread: Spread::Trains, costs });
    Ok(())
}

/// Runs on a thread of its own, pinned to one CPU: the thread's network namespace ends with it.
fn in_own_namespace<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            let mut cpus = CpuSet::new();
            cpus.set(thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1))?;
            sched_setaffinity(Pid::from_raw(0), &cpus)?;
            run()
        });
        pinned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
