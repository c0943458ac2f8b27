//! How long traffic is lost when a link fails: `cargo xtask bench failover`.
//!
//! Probes of one flow go to the primary MSEE at 10,000 a second; its wire fails; they come to the secondary. The loss is the gap in what has
//! arrived, in the sender's time. What BFD cannot know sooner is taken off: *loss - detection*. Judged is the way from the customer to
//! the MSEEs; the other direction is the MSEE's decision. FRR with the kernel's forwarding stands in the same place for comparison.
//!
//! Each case has as many of its 20 runs as fit into its time, so that all of them together take less than 20 minutes.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{
    Fault,
    peers::Timers,
    probe::Probe,
    sessions,
    stand::{Busy, Msees, Plan, Router, STEADY, Stand, Storm, scattered},
};

/// Runs of a case, and of a quick one.
const RUNS: [usize; 2] = [20, 3];
/// No run begins later than this after the first of its case.
const CASE_MOST: Duration = Duration::from_secs(110);
/// A storm lasts so long.
const STORM: Duration = Duration::from_secs(60);
/// Its route changes a second.
const CHANGES: usize = 100_000;
/// Runs that are repeated when BFD was down before the fault, because a peer had no CPU.
const TRIES: usize = 5;
const FAST: Timers = Timers { interval_ms: 50, multiplier: 3 };
const MSEE: Timers = Timers { interval_ms: 300, multiplier: 3 };
/// Routes of a full IPv4 table.
const FULL: usize = 1_168_945;

/// What is with the controller when the link fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    /// It is there.
    There,
    /// It was killed (SIGKILL) before.
    Killed,
    /// It takes 100,000 route changes a second, and somebody else has the other CPU.
    Stormed,
}

/// What fails, and who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    router: Router,
    timers: Timers,
    fault: Fault,
    controller: Controller,
    /// Routes that lead over the link.
    routes: usize,
}

/// The runs of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `erdp` or `frr + kernel`.
    pub router: &'static str,
    /// What failed.
    pub fault: String,
    /// What was with the controller.
    pub controller: &'static str,
    /// Routes over the link.
    pub routes: usize,
    /// Detection time in milliseconds; 0 where the carrier tells.
    pub detection_ms: f64,
    /// Loss of each run in milliseconds, sorted.
    pub losses_ms: Vec<f64>,
    /// Sessions that BFD has ended although nothing had failed.
    pub false_alarms: u64,
    /// Route changes a second that arrived meanwhile.
    pub changes_per_second: f64,
}

impl Row {
    fn median(&self) -> f64 {
        self.losses_ms.get(self.losses_ms.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn worst(&self) -> f64 {
        self.losses_ms.last().copied().unwrap_or(f64::NAN)
    }

    /// Worst loss less the detection time.
    pub fn beyond(&self) -> f64 {
        self.worst() - self.detection_ms
    }
}

/// All cases; `quick`: three runs of each, and few routes.
///
/// # Errors
/// When the lab does not come up, or a run loses nothing at all.
pub fn run(quick: bool) -> Result<Vec<Row>> {
    let begin = Instant::now();
    let mut rows = Vec::new();
    for case in cases(quick) {
        let row = measure(case, RUNS[usize::from(quick)])?;
        println!("{}", line(&row));
        rows.push(row);
    }
    judge(&rows);
    println!("{} cases in {} s", rows.len(), begin.elapsed().as_secs());
    Ok(rows)
}

fn cases(quick: bool) -> Vec<Case> {
    use Controller::{Killed, Stormed, There};
    let erdp =
        |timers, fault, controller, routes| Case { router: Router::Erdp, timers, fault, controller, routes };
    let frr = |fault, routes| Case { router: Router::FrrAndKernel, ..erdp(FAST, fault, There, routes) };
    let mut cases = vec![
        erdp(FAST, Fault::Carrier, There, 10),
        erdp(FAST, Fault::Silent, There, 10),
        erdp(FAST, Fault::Silent, Killed, 10),
        erdp(MSEE, Fault::Silent, There, 10),
    ];
    if quick {
        cases.push(frr(Fault::Silent, 10));
    } else {
        cases.extend([
            erdp(FAST, Fault::Carrier, Killed, 10),
            erdp(MSEE, Fault::Silent, Killed, 10),
            erdp(FAST, Fault::Silent, Stormed, 10),
            erdp(FAST, Fault::Silent, There, FULL),
            erdp(FAST, Fault::Silent, There, 100_000),
            frr(Fault::Silent, 100_000),
        ]);
    }
    cases
}

fn line(row: &Row) -> String {
    let changes = match row.changes_per_second {
        0.0 => String::new(),
        changes => format!(", {changes:.0} changes/s, {} false alarms", row.false_alarms),
    };
    format!(
        "{:<13} {:<18} controller {:<8} {:>7} routes: loss median {:>6.1} ms, worst {:>6.1} ms, worst - detection {:>6.1} ms ({} runs{changes})",
        row.router,
        row.fault,
        row.controller,
        row.routes,
        row.median(),
        row.worst(),
        row.beyond(),
        row.losses_ms.len(),
    )
}

/// The bars, each with its verdict: a benchmark prints, it does not fail.
fn judge(rows: &[Row]) {
    let erdp = || rows.iter().filter(|row| row.router == "erdp");
    let verdict = |holds: bool| if holds { "holds" } else { "MISSED" };
    for row in erdp() {
        let (what, beyond) = (format!("{}, controller {}", row.fault, row.controller), row.beyond());
        println!(
            "bar: {what}, {} routes: loss - detection <= 5 ms worst: {beyond:.1} ms, {}",
            row.routes,
            verdict(beyond <= 5.0)
        );
        if row.changes_per_second > 0.0 {
            println!("bar: {what}: no false alarm: {}, {}", row.false_alarms, verdict(row.false_alarms == 0));
        }
    }
    let is_like = |one: &Row, other: &Row| (&one.fault, one.controller) == (&other.fault, other.controller);
    let pairs = erdp().filter(|row| row.routes == FULL);
    for (many, few) in pairs.filter_map(|many| Some((many, erdp().find(|it| is_like(it, many))?))) {
        let ratio = many.median() / few.median();
        println!(
            "bar: {}: median loss at {} routes / at {}: {ratio:.2} <= 1.1, {}",
            many.fault,
            many.routes,
            few.routes,
            verdict(ratio <= 1.1)
        );
    }
    for frr in rows.iter().filter(|row| row.router != "erdp") {
        let Some(ours) = erdp().find(|row| is_like(row, frr) && row.routes == frr.routes) else { continue };
        // Both may be below zero: a loss ends before a whole detection time when the fault comes between two packets.
        let (ours, theirs) = (ours.beyond().max(0.0), (frr.median() - frr.detection_ms).max(0.0));
        println!(
            "bar: {}, {} routes: ERDP's worst beyond detection {ours:.1} ms <= 0.5 x FRR's median {theirs:.1} ms: {}",
            frr.fault,
            frr.routes,
            verdict(ours <= 0.5 * theirs)
        );
    }
}

fn measure(case: Case, runs: usize) -> Result<Row> {
    let is_stormed = case.controller == Controller::Stormed;
    let mut stand = Stand::up(Plan {
        router: case.router,
        msees: if is_stormed { Msees::BirdAndStorm } else { Msees::Bird },
        timers: case.timers,
        routes: case.routes,
        extra: "",
        has_customer: false,
    })?;
    let storm = is_stormed.then(|| Storm::by_msee(&stand, &scattered(10_000, 24), CHANGES)).transpose()?;
    let _busy = is_stormed.then(Busy::start);
    stand.wait()?;
    let ups = ups(&stand)?;
    let (begin, most) = (Instant::now(), if is_stormed { STORM } else { CASE_MOST });
    let (mut losses_ms, mut faults) = (Vec::new(), 0);
    while losses_ms.len() < runs && (losses_ms.is_empty() || begin.elapsed() < most) {
        losses_ms.push(one_run(&mut stand, case, losses_ms.len(), &mut faults)?);
    }
    let Some(mut storm) = storm else { return Ok(row(case, losses_ms, 0, 0.0)) };
    // What is left of the storm's minute: nothing may happen.
    thread::sleep(most.saturating_sub(begin.elapsed()));
    storm.must_run()?;
    let changes = storm.per_second();
    // Both families' sessions of the link come up once after each fault.
    let false_alarms = self::ups(&stand)?.abs_diff(ups + 2 * faults);
    Ok(row(case, losses_ms, false_alarms, changes))
}

fn row(case: Case, mut losses_ms: Vec<f64>, false_alarms: u64, changes_per_second: f64) -> Row {
    losses_ms.sort_by(f64::total_cmp);
    Row {
        router: if case.router == Router::Erdp { "erdp" } else { "frr + kernel" },
        fault: match case.fault {
            Fault::Carrier => "carrier".to_owned(),
            _ => format!("silent, {} ms x {}", case.timers.interval_ms, case.timers.multiplier),
        },
        controller: match case.controller {
            Controller::There => "there",
            Controller::Killed => "killed",
            Controller::Stormed => "stormed",
        },
        routes: case.routes,
        detection_ms: if case.fault == Fault::Carrier { 0.0 } else { case.timers.detection_ms() },
        losses_ms,
        false_alarms,
        changes_per_second,
    }
}

/// How often BFD sessions have come up; where the kernel forwards, nobody counts.
fn ups(stand: &Stand) -> Result<u64> {
    let Some(edge) = &stand.edge else { return Ok(0) };
    Ok(sessions(edge)?.iter().map(|it| it.ups).sum())
}

/// One run; `faults` counts those that were made for it.
fn one_run(stand: &mut Stand, case: Case, number: usize, faults: &mut u64) -> Result<f64> {
    for _ in 0..TRIES {
        let port = stand.flow_by_primary()?;
        *faults += 1;
        if let Some(loss) =
            lose(stand, case, port, number).with_context(|| format!("run {number} of {case:?}"))?
        {
            return Ok(loss);
        }
        println!("  a run is repeated: the flow was on the secondary link before the fault");
    }
    bail!("run {number} of {case:?}: the flow does not stay on the primary link")
}

/// One fault and its loss; `None`: the primary link was not in use before it.
fn lose(stand: &mut Stand, case: Case, port: u16, number: usize) -> Result<Option<f64>> {
    let detection = stand.detection();
    let probe = Probe::timed(&stand.place, port)?;
    // Each run at another time between two packets of BFD.
    thread::sleep(STEADY + detection * (number as u32 * 7 % 20) / 60);
    if case.controller == Controller::Killed {
        stand.kill()?;
        thread::sleep(2 * detection);
    }
    stand.place.fail(0, case.fault)?;
    // A kernel gets its routes one by one.
    let by_kernel = 2 * STEADY + Duration::from_micros(60) * case.routes as u32;
    let beyond = if case.router == Router::Erdp { Duration::ZERO } else { by_kernel };
    thread::sleep(detection + STEADY + beyond);
    let report = probe.stop()?;
    stand.place.heal(0)?;
    if case.controller == Controller::Killed {
        stand.start()?;
    }
    stand.wait()?;
    let [primary, secondary] = report.at;
    if primary > 0 && secondary == 0 {
        bail!("the flow has not moved: {report:?}");
    }
    Ok((primary > 0).then_some(report.gap_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bfd_cannot_know_sooner_is_taken_off() {
        let case = cases(true)[1];
        let row = row(case, vec![152.0, 110.0, 120.0], 0, 0.0);
        assert_eq!((row.median(), row.worst(), row.beyond()), (120.0, 152.0, 2.0));
    }
}
