//! Faults, each with a loss budget: numbered datagrams flow from the customer to the primary MSEE (FRR; the secondary is BIRD), something
//! breaks, and at most so much is lost. Afterwards everything is mended, both links are in use again, and no record in the maps had to be
//! put right. `cargo xtask bench failover` has the exact figures; the budgets here leave room for a machine that builds beside it. Both links
//! that flap in phase are a test of their own (`flapping.rs`).
//!
//! A step of the wall clock is made for the daemon alone, by a library that is loaded before the C library: the machine's clock is not a
//! test's to move. (What the packet path and BFD go by is the monotonic clock, which nobody can step.)

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    failover::{
        Fault, LINKS,
        peers::{self, Timers},
        probe::{Probe, Report},
        sessions,
        stand::{Msees, Plan, Router, Stand, Storm, scattered},
        until,
    },
    lab::prefixes::Random,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Slow enough for a machine that builds beside it.
const TIMERS: Timers = Timers { interval_ms: 100, multiplier: 4 };
/// What a busy machine may add to a detection time, or to anything that takes no time, in milliseconds.
const ROOM_MS: f64 = 60.0;
const PATIENCE: Duration = Duration::from_secs(40);

/// A fault.
struct Row {
    what: &'static str,
    /// Breaks things and mends them, under way of the datagrams.
    act: fn(&mut Stand) -> Result<()>,
    /// The longest gap in milliseconds, besides the room.
    budget_ms: f64,
    /// Whether the flow must have been on both links.
    moves: bool,
}

const fn row(what: &'static str, act: fn(&mut Stand) -> Result<()>, budget_ms: f64, moves: bool) -> Row {
    Row { what, act, budget_ms, moves }
}

impl Row {
    /// Whether something must be lost: a fault that costs nothing proves nothing. (The flow does not come by the direction that is silent
    /// towards the edge.)
    fn loses(&self) -> bool {
        self.budget_ms > 0.0 && !self.what.ends_with("towards the edge")
    }
}

const DETECTION_MS: f64 = (TIMERS.interval_ms * TIMERS.multiplier as u32) as f64;

/// Those of every run, then those of `cargo xtask test --full`.
const QUICK: [Row; 2] = [
    row("carrier lost", |it| failed(it, Fault::Carrier), 0.0, true),
    row("netlink overrun, and a carrier lost in it", netlink_overrun, 0.0, true),
];
const FULL: [Row; 11] = [
    row("silence in both directions", |it| failed(it, Fault::Silent), DETECTION_MS, true),
    row("silence towards the MSEE", |it| failed(it, Fault::TowardsMsee), DETECTION_MS, true),
    row("silence towards the edge", |it| failed(it, Fault::TowardsEdge), DETECTION_MS, true),
    row("neighbour gone", neighbour_gone, DETECTION_MS, true),
    row("BGP reset while BFD is up", bgp_reset, 0.0, false),
    row("BFD down while BGP is up", bfd_down, 0.0, true),
    row("controller stopped at random moments", controller_stopped, 0.0, false),
    row("controller killed at random moments", controller_killed, 0.0, false),
    row("controller replaced as planned", controller_replaced, 0.0, false),
    row("carrier lost without a controller", carrier_without_controller, 0.0, true),
    row("routes churn while the link fails", churn, DETECTION_MS, true),
];

fn plan(extra: &str) -> Plan<'_> {
    Plan {
        router: Router::Erdp,
        msees: Msees::FrrAndBird,
        timers: TIMERS,
        routes: 100,
        extra,
        has_customer: true,
    }
}

#[test]
fn each_fault_loses_no_more_than_its_budget() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(plan(""))?;
    stand.wait()?;
    let more: &[Row] = if edge::is_full() { &FULL } else { &[] };
    for row in QUICK.iter().chain(more) {
        let begin = Instant::now();
        let report =
            under_load(&mut stand, row.act).with_context(|| format!("{}:\n{}", row.what, stand.state()))?;
        println!("  {}: {report:?}, {:.1} s in all", row.what, begin.elapsed().as_secs_f32());
        ensure!(report.gap_ms <= row.budget_ms + ROOM_MS, "{}: more than its budget: {report:?}", row.what);
        ensure!(report.lost > 0 || !row.loses(), "{}: nothing was lost: {report:?}", row.what);
        let [primary, secondary] = report.at;
        ensure!(primary > 0 && (!row.moves || secondary > 0), "{}: the wrong way: {report:?}", row.what);
    }
    untouched(&stand)
}

/// A flow to the primary MSEE while `act` does its work, and until all is back.
fn under_load(stand: &mut Stand, act: fn(&mut Stand) -> Result<()>) -> Result<Report> {
    let probe = Probe::timed(&stand.place, stand.flow_by_primary()?)?;
    thread::sleep(Duration::from_millis(200));
    let acted = act(stand).and_then(|()| stand.wait());
    let report = probe.stop()?;
    acted.map(|()| report)
}

/// The maps are as the controller has written them: nothing had to be put right. (A process that was started again counts anew.)
fn untouched(stand: &Stand) -> Result<()> {
    let counters: Value = serde_json::from_str(&stand.edge()?.show("counters")?)?;
    let repaired = &counters["reconciled"]["repaired"];
    ensure!(repaired.as_object().is_some_and(serde_json::Map::is_empty), "put right: {repaired}");
    Ok(())
}

/// Until the flow has moved for good, and a little longer.
fn pause(stand: &Stand) {
    thread::sleep(stand.detection() + Duration::from_millis(200));
}

fn failed(stand: &mut Stand, fault: Fault) -> Result<()> {
    stand.place.fail(0, fault)?;
    pause(stand);
    stand.place.heal(0)
}

/// The MSEE itself has gone: the carrier is that of the provider's switch, and stays.
fn neighbour_gone(stand: &mut Stand) -> Result<()> {
    stand.place.namespace("msee1")?.ip("link set edge0 down")?;
    pause(stand);
    let msee = stand.place.namespace("msee1")?;
    msee.ip("link set edge0 up")?;
    // An interface that goes down takes its IPv6 addresses with it.
    let (_, address, length) = LINKS[0].ipv6;
    msee.address("edge0", &format!("{address}/{length}"))
}

/// The routes go with the session and come back with it; the path was there all the time.
fn bgp_reset(stand: &mut Stand) -> Result<()> {
    let ups =
        |it: &Stand| -> Result<Vec<u64>> { Ok(sessions(it.edge()?)?.iter().map(|it| it.ups).collect()) };
    let before = ups(stand)?;
    peers::vtysh(&stand.place, "msee1", "clear bgp *")?;
    until("the session to be reset", PATIENCE, || {
        Ok(stand.edge()?.sessions()?.iter().any(|it| it.peer == LINKS[0].ipv4.1 && it.last_error.is_some()))
    })?;
    ensure!(ups(stand)? == before, "BFD has changed");
    Ok(())
}

/// FRR's bfdd stands still: what it would have said is not said, while the path is good and BGP stays for its hold time.
fn bfd_down(stand: &mut Stand) -> Result<()> {
    let bfdd = stand.place.routers.iter_mut().find(|it| it.name().contains("bfdd")).context("no bfdd")?;
    let bfdd = Pid::from_raw(bfdd.id().cast_signed());
    kill(bfdd, Signal::SIGSTOP)?;
    pause(stand);
    let dead = sessions(stand.edge()?)?.iter().filter(|it| it.next_hop == "dead").count();
    kill(bfdd, Signal::SIGCONT)?;
    ensure!(dead == 2, "{dead} next hops are dead, not both families'");
    Ok(())
}

/// Three times for up to a second: nobody notices, and the peers' sessions stay.
fn controller_stopped(stand: &mut Stand) -> Result<()> {
    let ups =
        |it: &Stand| -> Result<Vec<u64>> { Ok(sessions(it.edge()?)?.iter().map(|it| it.ups).collect()) };
    let answered =
        |it: &Stand| -> Result<u64> { Ok(sessions(it.edge()?)?.iter().map(|it| it.answered).sum()) };
    let (before, answers) = (ups(stand)?, answered(stand)?);
    let mut random = Random(u64::from(std::process::id()));
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(random.below(400)));
        stand.signal(Signal::SIGSTOP)?;
        thread::sleep(Duration::from_millis(500 + random.below(500)));
        stand.signal(Signal::SIGCONT)?;
    }
    ensure!(ups(stand)? == before, "a BFD session has changed");
    ensure!(answered(stand)? > answers, "nobody has answered for it: it has not stood still");
    Ok(())
}

/// Twice: while all is well, and while the next one is about to begin.
fn controller_killed(stand: &mut Stand) -> Result<()> {
    let mut random = Random(u64::from(std::process::id()));
    for most in [400, 1_500] {
        thread::sleep(Duration::from_millis(random.below(most)));
        stand.kill()?;
        thread::sleep(Duration::from_millis(random.below(400)));
        stand.start()?;
    }
    Ok(())
}

/// The peers keep their sessions, BFD's among them: FRR counts how often one came and went.
fn controller_replaced(stand: &mut Stand) -> Result<()> {
    let seen = |it: &Stand| -> Result<Vec<[Value; 2]>> {
        let text = peers::vtysh(&it.place, "msee1", "show bfd peers counters json")?;
        let rows: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("FRR's JSON: {text}"))?;
        Ok(rows.iter().map(|row| ["session-up", "session-down"].map(|key| row[key].clone())).collect())
    };
    let before = seen(stand)?;
    ensure!(before.len() == 2 && before.iter().flatten().all(Value::is_u64), "FRR says {before:?}");
    stand.take_over()?;
    stand.wait()?;
    ensure!(seen(stand)? == before, "FRR's BFD sessions have changed: {before:?}, {:?}", seen(stand)?);
    Ok(())
}

/// Nobody is there to be told: the packet path finds out by itself.
fn carrier_without_controller(stand: &mut Stand) -> Result<()> {
    stand.kill()?;
    thread::sleep(Duration::from_millis(300));
    failed(stand, Fault::Carrier)?;
    stand.start()
}

fn churn(stand: &mut Stand) -> Result<()> {
    // FRR is told of each change, and its BFD must not starve of it.
    let storm = Storm::by_customer(stand, &scattered(1_000, 24), 2_000)?;
    thread::sleep(Duration::from_secs(1));
    stand.wait()?;
    failed(stand, Fault::Silent)?;
    ensure!(storm.per_second() > 1_000.0, "only {:.0} changes a second", storm.per_second());
    Ok(())
}

/// The controller stands still while more happens than the kernel keeps for it, a lost carrier among it, and a carrier's return.
fn netlink_overrun(stand: &mut Stand) -> Result<()> {
    let flood: String = (0..60_000)
        .map(|number: u32| {
            format!(
                "neigh replace 198.18.1.2 lladdr 02:00:00:00:00:{:02x} dev lo nud permanent\n",
                number % 250
            )
        })
        .collect();
    let file = stand.place.folder().join("neighbours");
    fs::write(&file, flood)?;
    stand.signal(Signal::SIGSTOP)?;
    let mended = (|| {
        let edge = stand.place.namespace("edge")?;
        edge.ip(&format!("-batch {}", file.display()))?;
        stand.place.fail(0, Fault::Carrier)?;
        pause(stand);
        Ok(())
    })();
    stand.signal(Signal::SIGCONT)?;
    mended.and_then(|()| {
        until("the overrun to be noticed", PATIENCE, || {
            let log = fs::read_to_string(stand.place.folder().join("erdp.log"))?;
            Ok(log.contains("netlink events were lost"))
        })?;
        until("the lost carrier to be known", PATIENCE, || {
            let links: Vec<Value> = serde_json::from_str(&stand.edge()?.show("links")?)?;
            Ok(links.iter().any(|it| it["interface"] == LINKS[0].msee && it["up"] == false))
        })?;
        stand.place.heal(0)
    })
}

#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn a_full_pool_leaves_what_was_there_as_it_was_and_is_over_when_routes_go() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(plan("fib-blocks = 1024"))?;
    stand.wait()?;
    let probe = Probe::timed(&stand.place, stand.flow_by_primary()?)?;
    // Host routes, each in a /24 of its own: each needs a line of the pool, which has half as many.
    let filler = Storm::by_customer(&stand, &scattered(32_000, 32), 20_000)?;
    let log = |it: &Stand| Ok::<_, anyhow::Error>(fs::read_to_string(it.place.folder().join("erdp.log"))?);
    until("the pool to be full", PATIENCE, || Ok(log(&stand)?.contains("raise `fib-blocks`")))?;
    failed(&mut stand, Fault::Carrier)?;
    stand.wait()?;
    let report = probe.stop()?;
    println!("  the pool is full, and a carrier is lost: {report:?}");
    ensure!(report.gap_ms <= ROOM_MS && report.at[1] > 0, "{report:?}");
    drop(filler);
    let asked = ["198.18.192.10".parse()?];
    until("room for a route that comes now", PATIENCE, || {
        let edge = stand.edge()?;
        let routes: Value = serde_json::from_str(&edge.show("counters")?)?;
        let is_small = routes["fib"]["routes"].as_u64().is_some_and(|routes| routes < 1_000);
        Ok(is_small && edge.explain("ce0", &asked)?[0].verdict == "transmit")
    })?;
    let few = Storm::by_customer(&stand, &scattered(10, 32), 100)?;
    few.calm();
    until("the new routes to lead somewhere", PATIENCE, || {
        let answers = stand.edge()?.explain("msee1", &["10.128.0.0".parse()?, "10.128.9.0".parse()?])?;
        Ok(answers.iter().all(|it| it.verdict == "transmit"))
    })?;
    untouched(&stand)
}

/// A wall clock that is ten years ahead while a file is there.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && access(getenv("ERDP_TEST_STEP"), F_OK) == 0)
        now->tv_sec += 10L * 365 * 86400;
    return result;
}
"#;

#[test]
fn a_step_of_the_wall_clock_changes_no_session_and_loses_nothing() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(plan(""))?;
    let folder = stand.place.folder().to_owned();
    let (source, library, step) = (folder.join("clock.c"), folder.join("clock.so"), folder.join("step"));
    fs::write(&source, CLOCK)?;
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("SKIP: no C compiler makes the library that steps the clock");
        return Ok(());
    }
    stand.kill()?;
    let mut command = stand.place.namespace("edge")?.command("env")?;
    command
        .arg(format!("LD_PRELOAD={}", library.display()))
        .arg(format!("ERDP_TEST_STEP={}", step.display()));
    stand.edge = Some(Edge::start_by(command, &folder, &folder.join("edge.toml"))?);
    stand.wait()?;
    let ups =
        |it: &Stand| -> Result<Vec<u64>> { Ok(sessions(it.edge()?)?.iter().map(|it| it.ups).collect()) };
    let bgp = |it: &Stand| -> Result<Vec<Value>> {
        let rows: Vec<Value> = serde_json::from_str(&it.edge()?.show("sessions")?)?;
        Ok(rows.iter().map(|it| it["sessions"].clone()).collect())
    };
    let before = (ups(&stand)?, bgp(&stand)?);
    let probe = Probe::timed(&stand.place, stand.flow_by_primary()?)?;
    for _ in 0..if edge::is_full() { 2 } else { 1 } {
        fs::write(&step, "")?;
        thread::sleep(Duration::from_secs(2));
        fs::remove_file(&step)?;
        thread::sleep(Duration::from_secs(2));
    }
    // With the clock ahead, a link fails and comes back: what is logged of it has the wrong year.
    fs::write(&step, "")?;
    let report = probe.stop()?;
    println!("  the wall clock goes ten years ahead and back: {report:?}");
    ensure!((ups(&stand)?, bgp(&stand)?) == before, "a session has changed");
    ensure!(report.gap_ms <= ROOM_MS && report.at[1] == 0, "{report:?}");
    failed(&mut stand, Fault::Silent)?;
    stand.wait()?;
    let log = fs::read_to_string(folder.join("erdp.log"))?;
    let year = |line: &str| line.get(..4).and_then(|year| year.parse::<u32>().ok());
    let years: Vec<u32> = log.lines().filter_map(year).collect();
    let (first, last) = (years.first().context("no years in the log")?, years.last().unwrap_or(&0));
    ensure!(last - first >= 9, "the clock was not stepped: the log is of {first} to {last}");
    untouched(&stand)
}
