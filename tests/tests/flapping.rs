//! Both links lose their carriers at the same moment and come back together, again and again. Nothing can carry traffic meanwhile; what is
//! judged is the rest: no gap is longer than the links were down by more than what a return costs (docs/architecture.md). A link that
//! flaps is held down only while the other one carries traffic, so where both flap in phase none may be missing for its hold.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp_tests::{
    edge,
    failover::{
        Fault, Place,
        peers::Timers,
        probe::{Gap, Probe},
        stand::{Msees, Plan, Router, Stand},
    },
};

/// Slow enough for a machine that builds beside it.
const TIMERS: Timers = Timers { interval_ms: 100, multiplier: 4 };
/// What a busy machine may add, in milliseconds.
const ROOM_MS: f64 = 100.0;
/// A return after which BFD and BGP have to come up again: BFD's slow pace of a second (RFC 5880 section 6.8.3) at both ends, then the
/// peers' own waits before they take a new connection, in milliseconds.
const BEGIN_ANEW_MS: f64 = 4_000.0;

/// A way to flap.
struct Row {
    what: &'static str,
    times: usize,
    down_ms: u64,
    up_ms: u64,
    /// What the return may cost besides the room, in milliseconds.
    return_ms: f64,
}

const ROWS: [Row; 3] = [
    Row { what: "as often as damping permits", times: 2, down_ms: 150, up_ms: 1_500, return_ms: 0.0 },
    Row { what: "so often that links are held down", times: 6, down_ms: 150, up_ms: 600, return_ms: 0.0 },
    Row {
        what: "for longer than BFD waits",
        times: 3,
        down_ms: 1_000,
        up_ms: 6_000,
        return_ms: BEGIN_ANEW_MS,
    },
];

#[test]
fn both_links_flapping_in_phase_cost_what_they_are_down_and_a_return() -> Result<()> {
    if edge::skipped() || edge::left_out() {
        return Ok(());
    }
    let mut stand = Stand::up(Plan {
        router: Router::Erdp,
        msees: Msees::FrrAndBird,
        timers: TIMERS,
        routes: 100,
        extra: "",
        has_customer: false,
    })?;
    stand.wait()?;
    for row in &ROWS {
        flap(&mut stand, row).with_context(|| format!("{}:\n{}", row.what, stand.state()))?;
    }
    Ok(())
}

/// One row: each time its gap, and nothing else is lost.
fn flap(stand: &mut Stand, row: &Row) -> Result<()> {
    let probe = Probe::start(&stand.place, stand.flow_by_primary()?)?;
    thread::sleep(Duration::from_millis(300));
    let downs = (0..row.times).map(|_| once(&stand.place, row)).collect::<Result<Vec<f64>>>();
    let (report, gaps) = probe.stop_in_detail()?;
    let downs = downs?;
    println!("  {}: down for {downs:.0?} ms; {report:?}", row.what);
    for Gap { from_ms, ms } in &gaps {
        println!("    from {from_ms:.0} ms: nothing for {ms:.1} ms");
    }
    let log = fs::read_to_string(stand.place.folder().join("erdp.log"))?;
    println!("    held down so far: {}", log.matches("flaps and is held down").count());
    let budget_ms = downs.iter().copied().fold(0.0, f64::max) + row.return_ms + ROOM_MS;
    let longest = report.gap_ms;
    ensure!(longest <= budget_ms, "nothing for {longest:.0} ms, {budget_ms:.0} at most: {gaps:?}");
    // No fault that has not happened, and none that has cost anything but its own gap.
    let is_fault = |gap: &&Gap| gap.ms >= row.down_ms as f64 / 2.0;
    let faults = gaps.iter().filter(is_fault).count();
    ensure!(faults == row.times, "{faults} gaps for {} faults: {gaps:?}", row.times);
    let rest: f64 = gaps.iter().filter(|gap| !is_fault(gap)).map(|gap| gap.ms).sum();
    ensure!(rest <= ROOM_MS, "nothing for {rest:.0} ms besides the faults: {gaps:?}");
    stand.wait()
}

/// Down and up once; for how long both were down, in milliseconds.
fn once(place: &Place, row: &Row) -> Result<f64> {
    let begin = Instant::now();
    both(|link| place.fail(link, Fault::Carrier))?;
    thread::sleep(Duration::from_millis(row.down_ms));
    both(|link| place.heal(link))?;
    let down = begin.elapsed();
    thread::sleep(Duration::from_millis(row.up_ms));
    Ok(down.as_secs_f64() * 1e3)
}

/// The same to both links at once.
fn both(act: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let other = scope.spawn(|| act(1));
        let one = act(0);
        let Ok(other) = other.join() else { bail!("a thread has panicked") };
        one.and(other)
    })
}
