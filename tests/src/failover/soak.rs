//! `cargo xtask soak --for 30m`: months of an edge's life in minutes. Links fail in every way, routes flap, bandwidths change, the
//! controller is killed, stopped and replaced, in an order that a seed chooses; datagrams flow all the time.
//!
//! After each turn of some seconds the faults are mended and everything is held against what should be: all sessions up; every
//! announced route shown by the controller and taken by the loaded program on the right links (RIB against maps, by questions to the
//! program); the read-back has put nothing right; every packet accounted for; memory. In the second half the controller is not
//! started anew any more, so that the slope of its memory means something.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::sys::signal::Signal;
use serde::Serialize;
use serde_json::Value;

use super::{
    Fault, LINKS,
    peers::{self, Timers},
    probe::Probe,
    stand::{Msees, Plan, Router, Stand, Storm, scattered},
    until,
};
use crate::lab::prefixes::Random;

const TIMERS: Timers = Timers { interval_ms: 100, multiplier: 4 };
/// Routes of the MSEEs, and those of the customer that flap.
const ROUTES: usize = 2_000;
const FLAPPING: u32 = 1_000;
/// Route changes a second while routes flap.
const CHANGES: usize = 5_000;
/// Things that happen between two checks.
const TURN: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Link(usize, Fault),
    BothLinks,
    BgpReset,
    Rate(u32),
    Stop,
    Kill,
    TakeOver,
}

/// What a soak has come to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Seconds.
    pub seconds: u64,
    /// Things that happened.
    pub events: usize,
    /// Route changes that were sent.
    pub changes: u64,
    /// Checks, all of them without a difference.
    pub checks: usize,
    /// Resident memory of the controller at each check, with the second and the process.
    pub memory_kib: Vec<(f64, u32, u64)>,
    /// Its slope over the life of the last process, in KiB a minute.
    pub slope_kib_per_minute: f64,
}

/// Runs for so long; `seed` chooses what happens.
///
/// # Errors
/// The first difference, with the seed, what happened before it and what the edge says.
pub fn run(length: Duration, seed: u64) -> Result<Outcome> {
    println!("soak for {} s, seed {seed}", length.as_secs());
    let mut stand = Stand::up(Plan {
        router: Router::Erdp,
        msees: Msees::FrrAndBird,
        timers: TIMERS,
        routes: ROUTES,
        extra: "",
        has_customer: true,
    })?;
    stand.wait()?;
    let (begin, mut random) = (Instant::now(), Random(seed));
    let mut outcome = Outcome {
        seconds: 0,
        events: 0,
        changes: 0,
        checks: 0,
        memory_kib: vec![],
        slope_kib_per_minute: 0.0,
    };
    while begin.elapsed() < length {
        let may_restart = begin.elapsed() < length / 2;
        let events: Vec<Event> = (0..TURN).map(|_| event(&mut random, may_restart)).collect();
        let done = turn(&mut stand, &events, &mut random, &mut outcome);
        done.with_context(|| {
            format!("seed {seed}, after {} checks, in {events:?}:\n{}", outcome.checks, stand.state())
        })?;
        let kib = resident_kib(&mut stand)?;
        outcome.memory_kib.push((begin.elapsed().as_secs_f64(), kib.0, kib.1));
        println!(
            "{:>5} s: {} events, {} route changes, check {}: no difference; {} KiB",
            begin.elapsed().as_secs(),
            outcome.events,
            outcome.changes,
            outcome.checks,
            kib.1
        );
    }
    outcome.seconds = begin.elapsed().as_secs();
    outcome.slope_kib_per_minute = slope(&outcome.memory_kib);
    println!(
        "{} checks in {} s, no difference; {} events, {} route changes; memory {:+.1} KiB a minute over the last process's life",
        outcome.checks, outcome.seconds, outcome.events, outcome.changes, outcome.slope_kib_per_minute
    );
    Ok(outcome)
}

fn event(random: &mut Random, may_restart: bool) -> Event {
    let link = random.below(2) as usize;
    match random.below(if may_restart { 10 } else { 8 }) {
        0 => Event::Link(link, Fault::Carrier),
        1 => Event::Link(link, Fault::Silent),
        2 => Event::Link(link, Fault::TowardsMsee),
        3 => Event::Link(link, Fault::TowardsEdge),
        4 => Event::BothLinks,
        5 => Event::BgpReset,
        6 => Event::Rate(1 + random.below(10) as u32),
        7 => Event::Stop,
        8 => Event::Kill,
        _ => Event::TakeOver,
    }
}

/// Some events under flapping routes and traffic, then a check.
fn turn(stand: &mut Stand, events: &[Event], random: &mut Random, outcome: &mut Outcome) -> Result<()> {
    let probe = Probe::timed(&stand.place, 20_000 + random.below(1_000) as u16)?;
    let mut storm: Option<Storm> = None;
    for event in events {
        // A controller that was killed or a customer that was not answered has ended the session.
        if storm.as_mut().is_none_or(|storm| storm.must_run().is_err()) {
            outcome.changes += storm.as_ref().map_or(0, Storm::changes);
            storm = Some(Storm::by_customer(stand, &scattered(FLAPPING, 24), CHANGES)?);
        }
        happen(stand, *event, random).with_context(|| format!("{event:?}"))?;
        outcome.events += 1;
        thread::sleep(Duration::from_millis(random.below(500)));
    }
    outcome.changes += storm.as_ref().map_or(0, Storm::changes);
    drop(storm);
    stand.wait()?;
    let calm = Storm::by_customer(stand, &scattered(FLAPPING, 24), CHANGES)?;
    calm.calm();
    let (mut last, checked) =
        (None, until("RIB and maps to agree", PATIENCE, || Ok(differences(stand)?.is_empty())));
    if checked.is_err() {
        last = differences(stand)?.into_iter().next();
    }
    checked.with_context(|| format!("{last:?}"))?;
    accounts(stand)?;
    let report = probe.stop()?;
    // Both links may be down for part of a turn, and no router forwards before their neighbours are back.
    ensure!(report.at.iter().sum::<u64>() > report.sent / 10, "hardly any packet came through: {report:?}");
    outcome.checks += 1;
    Ok(())
}

fn happen(stand: &mut Stand, event: Event, random: &mut Random) -> Result<()> {
    let mut pause = |least: u64, more: u64| thread::sleep(Duration::from_millis(least + random.below(more)));
    match event {
        Event::Link(link, fault) => {
            stand.place.fail(link, fault)?;
            pause(50, 1_000);
            stand.place.heal(link)?;
        }
        Event::BothLinks => {
            (0..2).try_for_each(|link| stand.place.fail(link, Fault::Carrier))?;
            pause(50, 500);
            (0..2).try_for_each(|link| stand.place.heal(link))?;
        }
        Event::BgpReset => drop(peers::vtysh(&stand.place, "msee1", "clear bgp *")?),
        Event::Rate(gigabits) => {
            let rate = format!("{gigabits}G");
            // It goes both ways, and less needs to be forced (A4).
            stand.edge()?.ask(&["set", "circuit", "lab", "--force", "--bandwidth", &rate])?;
        }
        Event::Stop => {
            stand.signal(Signal::SIGSTOP)?;
            pause(50, 2_000);
            stand.signal(Signal::SIGCONT)?;
        }
        Event::Kill => {
            stand.kill()?;
            pause(50, 1_000);
            stand.start()?;
            until("the controller to answer", PATIENCE, || Ok(stand.edge()?.answers()))?;
        }
        Event::TakeOver => {
            // One that still waits for its peers after a crash hands nothing over, and says so.
            until("the wait after a crash to be over", PATIENCE, || Ok(!is_waiting(stand)?))?;
            stand.take_over()?;
        }
    }
    Ok(())
}

/// Whether the program of the controller before still forwards.
fn is_waiting(stand: &Stand) -> Result<bool> {
    let destination = peers::prefixes(ROUTES).first().context("a route")?.network();
    let answers = stand.edge()?.explain("ce0", &[destination])?;
    Ok(answers.iter().any(|answer| answer.adopted.is_some()))
}

/// What the controller shows and what the loaded program does are both held against what was announced.
fn differences(stand: &Stand) -> Result<Vec<String>> {
    let edge = stand.edge()?;
    let from_msees: Vec<IpNet> = peers::prefixes(ROUTES);
    let from_customer = scattered(FLAPPING, 24);
    let mut found = Vec::new();
    let shown: Vec<Value> = serde_json::from_str(&edge.show("routes")?)?;
    let mut shown: Vec<IpNet> = shown.iter().filter_map(|row| row["prefix"].as_str()?.parse().ok()).collect();
    shown.sort_unstable();
    shown.dedup();
    let mut wanted = [from_msees.clone(), from_customer.clone()].concat();
    wanted.sort_unstable();
    if shown != wanted {
        found.push(format!("{} routes are shown, {} are announced", shown.len(), wanted.len()));
    }
    let next_hops = |is_ipv4: bool| LINKS.map(|link| if is_ipv4 { link.ipv4.1 } else { link.ipv6.1 });
    for (interface, prefixes) in [("ce0", from_msees), ("msee1", from_customer)] {
        let addresses: Vec<_> = prefixes.iter().map(IpNet::network).collect();
        for answer in edge.explain(interface, &addresses)? {
            let mut members: Vec<String> = answer.members.iter().map(ToString::to_string).collect();
            members.sort_unstable();
            let right: Vec<&str> = match interface {
                "ce0" => next_hops(answer.address.is_ipv4()).to_vec(),
                _ => vec![super::CE.0.1],
            };
            if answer.verdict != "transmit" || members != right {
                found.push(format!("{}: {answer:?}, not by {right:?}", answer.address));
            }
        }
    }
    Ok(found)
}

/// Nothing was put right, and every packet is accounted for.
fn accounts(stand: &Stand) -> Result<()> {
    let edge = stand.edge()?;
    let counters: Value = serde_json::from_str(&edge.show("counters")?)?;
    let repaired = &counters["reconciled"]["repaired"];
    ensure!(repaired.as_object().is_some_and(serde_json::Map::is_empty), "put right: {repaired}");
    let unexplained = edge.counters()?.unexplained();
    ensure!(unexplained == 0, "{unexplained} packets are not accounted for");
    Ok(())
}

/// The controller's process, and its resident memory.
fn resident_kib(stand: &mut Stand) -> Result<(u32, u64)> {
    let id = stand.edge.as_mut().context("no controller")?.process().id();
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok((id, line.trim().trim_end_matches(" kB").parse()?))
}

/// KiB a minute by least squares, over the last process's points without the first third of them, in which tables and caches grow to their
/// size; 0 where there are too few.
fn slope(points: &[(f64, u32, u64)]) -> f64 {
    let last = points.last().map(|point| point.1);
    let of_last: Vec<(f64, f64)> =
        points.iter().filter(|it| Some(it.1) == last).map(|it| (it.0 / 60.0, it.2 as f64)).collect();
    let points = &of_last[of_last.len() / 3..];
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let square: f64 = points.iter().map(|it| (it.0 - x).powi(2)).sum();
    let product: f64 = points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum();
    if points.len() < 3 || square == 0.0 { 0.0 } else { product / square }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_last_process_after_it_has_grown_to_its_size() {
        let of = |id: u32, values: &[u64]| -> Vec<(f64, u32, u64)> {
            values.iter().enumerate().map(|(at, kib)| (at as f64 * 60.0, id, *kib)).collect()
        };
        for (points, expected) in [
            (vec![], 0.0),
            (of(1, &[5, 6]), 0.0),
            (of(1, &[9, 9, 9, 9, 9, 9]), 0.0),
            (of(1, &[0, 50, 100, 110, 120, 130]), 10.0),
            ([of(7, &[9_000, 1, 2]), of(1, &[0, 0, 10, 12, 14, 16])].concat(), 2.0),
        ] {
            let found = slope(&points);
            assert!((found - expected).abs() < 1e-6, "{points:?}: {found}");
        }
    }

    #[test]
    fn everything_happens_and_nothing_restarts_the_controller_when_it_must_not() {
        let mut random = Random(1);
        let events: Vec<Event> = (0..500).map(|_| event(&mut random, true)).collect();
        assert!(events.contains(&Event::Kill) && events.contains(&Event::TakeOver));
        let restarts = |event: &Event| matches!(event, Event::Kill | Event::TakeOver);
        assert!((0..500).map(|_| event(&mut random, false)).all(|event| !restarts(&event)));
    }
}
