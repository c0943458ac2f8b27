//! How long traffic is lost when a link fails: `cargo xtask bench failover`.
//!
//! Probes of one flow go to the primary MSEE at 10,000 a second; its wire fails; they come to the secondary. The loss is the gap in what has
//! arrived, in the sender's time. What BFD cannot know sooner is taken off: *loss - detection*. Judged is the way from the customer to
//! the MSEEs; the other direction is the MSEE's decision. FRR with the kernel's forwarding stands in the same place for comparison.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde::Serialize;

use super::{
    Fault, LINKS, Place,
    peers::{self, Timers},
    probe::{Probe, Report},
    sessions, until,
};
use crate::edge::Edge;

const PATIENCE: Duration = Duration::from_secs(90);
/// Runs that are repeated when BFD was down before the fault, because a peer had no CPU.
const TRIES: usize = 5;
/// Before the fault, and after the detection time has passed.
const STEADY: Duration = Duration::from_millis(300);
const FAST: Timers = Timers { interval_ms: 50, multiplier: 3 };
const MSEE: Timers = Timers { interval_ms: 300, multiplier: 3 };

/// What fails, and who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    router: Router,
    timers: Timers,
    fault: Fault,
    /// The controller is stopped (SIGSTOP) before the fault.
    is_stopped: bool,
    /// Routes that lead over the link.
    routes: usize,
}

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Router {
    Erdp,
    FrrAndKernel,
}

/// The runs of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `erdp` or `frr + kernel`.
    pub router: &'static str,
    /// What failed.
    pub fault: String,
    /// Whether the controller was there.
    pub controller: &'static str,
    /// Routes over the link.
    pub routes: usize,
    /// Detection time in milliseconds; 0 where the carrier tells.
    pub detection_ms: f64,
    /// Loss of each run in milliseconds, sorted.
    pub losses_ms: Vec<f64>,
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
    let runs = if quick { 3 } else { 20 };
    let mut rows = Vec::new();
    for case in cases(quick) {
        let losses_ms = losses(case, runs)?;
        let row = row(case, losses_ms);
        println!("{}", line(&row));
        rows.push(row);
    }
    judge(&rows);
    Ok(rows)
}

fn cases(quick: bool) -> Vec<Case> {
    let erdp =
        |timers, fault, is_stopped, routes| Case { router: Router::Erdp, timers, fault, is_stopped, routes };
    let mut cases = vec![
        erdp(FAST, Fault::Carrier, false, 10),
        erdp(FAST, Fault::Silent, false, 10),
        erdp(FAST, Fault::Silent, true, 10),
        erdp(MSEE, Fault::Silent, false, 10),
        Case { router: Router::FrrAndKernel, ..erdp(FAST, Fault::Silent, false, 10) },
    ];
    if !quick {
        let many = 100_000;
        cases.extend([
            erdp(FAST, Fault::Silent, false, many),
            erdp(MSEE, Fault::Silent, true, many),
            Case { router: Router::FrrAndKernel, ..erdp(FAST, Fault::Carrier, false, 10) },
            Case { router: Router::FrrAndKernel, ..erdp(FAST, Fault::Silent, false, many) },
        ]);
    }
    cases
}

fn row(case: Case, mut losses_ms: Vec<f64>) -> Row {
    losses_ms.sort_by(f64::total_cmp);
    Row {
        router: if case.router == Router::Erdp { "erdp" } else { "frr + kernel" },
        fault: match case.fault {
            Fault::Carrier => "carrier".to_owned(),
            _ => format!("silent, {} ms x {}", case.timers.interval_ms, case.timers.multiplier),
        },
        controller: if case.is_stopped { "stopped" } else { "there" },
        routes: case.routes,
        detection_ms: if case.fault == Fault::Carrier { 0.0 } else { case.timers.detection_ms() },
        losses_ms,
    }
}

fn line(row: &Row) -> String {
    format!(
        "{:<13} {:<20} controller {:<8} {:>7} routes: loss median {:>7.1} ms, worst {:>7.1} ms, worst - detection {:>7.1} ms ({} runs)",
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
        println!(
            "bar: {}, controller {}, {} routes: loss - detection <= 5 ms worst: {:.1} ms, {}",
            row.fault,
            row.controller,
            row.routes,
            row.beyond(),
            verdict(row.beyond() <= 5.0)
        );
    }
    for frr in rows.iter().filter(|row| row.router != "erdp") {
        let same =
            |row: &&Row| row.fault == frr.fault && row.routes == frr.routes && row.controller == "there";
        let Some(ours) = erdp().find(same) else { continue };
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

fn losses(case: Case, runs: usize) -> Result<Vec<f64>> {
    let mut stand = Stand::up(case)?;
    let mut losses = Vec::new();
    for number in 0..runs {
        let mut tries = 0..TRIES;
        let loss = loop {
            // A group that was without the primary link for a while gives it other flows than before.
            let port = stand.flow_by_primary()?;
            let loss = stand.lose(port, number).with_context(|| format!("run {number} of {case:?}"))?;
            match (loss, tries.next()) {
                (Some(loss), _) => break loss,
                (None, Some(_)) => {
                    println!("  a run is repeated: the flow was on the secondary link before the fault")
                }
                (None, None) => bail!("run {number} of {case:?}: the flow does not stay on the primary link"),
            }
        };
        losses.push(loss);
    }
    Ok(losses)
}

struct Stand {
    case: Case,
    /// Before the place: it ends first.
    edge: Option<Edge>,
    place: Place,
}

impl Stand {
    fn up(case: Case) -> Result<Stand> {
        let is_erdp = case.router == Router::Erdp;
        let mut place = Place::up(!is_erdp)?;
        let prefixes = peers::prefixes(case.routes);
        for link in &LINKS {
            peers::start_bird(&mut place, link, case.timers, &prefixes)?;
        }
        let edge = if is_erdp {
            let configuration = peers::erdp(case.timers, 120, "");
            Some(Edge::start_with(place.namespace("edge")?, place.folder(), &configuration)?)
        } else {
            // Flows by their ports, as ERDP does.
            place.namespace("edge")?.sysctl("ipv4/fib_multipath_hash_policy", "1")?;
            peers::start_frr_edge(&mut place, case.timers)?;
            None
        };
        let stand = Stand { case, edge, place };
        stand.wait()?;
        Ok(stand)
    }

    /// Both ways are there again, for all routes.
    fn wait(&self) -> Result<()> {
        let ready = || -> Result<bool> {
            let Some(edge) = &self.edge else { return self.kernel_has_both() };
            let bfd = sessions(edge).unwrap_or_default();
            let bgp = edge.sessions().unwrap_or_default();
            let up = bfd.len() == 4 && bfd.iter().all(|it| it.state == "Up" && it.next_hop == "alive");
            // IPv4 has the many: the peer's routes are there again when all are counted.
            let all = |it: &crate::edge::Session| {
                it.state == "Established" && (it.peer.contains(':') || it.received > self.case.routes as u64)
            };
            let settled = bfd.iter().all(|it| it.interval_ms <= f64::from(self.case.timers.interval_ms));
            Ok(up && settled && !bgp.is_empty() && bgp.iter().all(all))
        };
        until("both links to be in use", PATIENCE, ready)?;
        thread::sleep(STEADY);
        Ok(())
    }

    fn kernel_has_both(&self) -> Result<bool> {
        let routes = self.place.namespace("edge")?.ip("route show proto bgp")?;
        let both = routes.matches("nexthop via").count() >= 2 * (self.case.routes + 1);
        let bfd = peers::vtysh(&self.place, "edge", "show bfd peers")?;
        Ok(both && bfd.matches("Status: up").count() == 2)
    }

    /// A flow that goes to the primary MSEE.
    fn flow_by_primary(&self) -> Result<u16> {
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

    /// One fault and its loss; `None`: the primary link was not in use before it.
    fn lose(&mut self, port: u16, number: usize) -> Result<Option<f64>> {
        let detection = Duration::from_millis(u64::from(self.case.timers.interval_ms) * 3);
        let probe = Probe::start(&self.place, port)?;
        // Each run at another time between two packets of BFD.
        thread::sleep(STEADY + detection * (number as u32 * 7 % 20) / 60);
        if self.case.is_stopped {
            self.signal(Signal::SIGSTOP)?;
            thread::sleep(2 * detection);
        }
        self.place.fail(0, self.case.fault)?;
        let beyond = if self.case.router == Router::Erdp { STEADY } else { 3 * STEADY + self.patience() };
        thread::sleep(detection + beyond);
        if self.case.is_stopped {
            self.signal(Signal::SIGCONT)?;
        }
        let report = probe.stop()?;
        self.place.heal(0)?;
        self.wait()?;
        let [primary, secondary] = report.at;
        if primary > 0 && secondary == 0 {
            bail!("the flow has not moved: {report:?}");
        }
        Ok((primary > 0).then_some(report.gap_ms))
    }

    /// A kernel gets its routes one by one.
    fn patience(&self) -> Duration {
        Duration::from_micros(60) * self.case.routes as u32
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.edge.as_mut().map_or(Ok(()), |edge| edge.process().signal(signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bfd_cannot_know_sooner_is_taken_off() {
        let case = cases(true)[1];
        let row = row(case, vec![152.0, 110.0, 120.0]);
        assert_eq!((row.median(), row.worst(), row.beyond()), (120.0, 152.0, 2.0));
    }
}
