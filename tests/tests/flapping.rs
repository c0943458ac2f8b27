//! Both links lose their carriers at the same moment and come back together, again and again. Nothing can carry traffic meanwhile; what is
//! judged is the rest: no gap is longer than the links were down by more than what a return costs (docs/design-liveness.md). A link that
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
        until,
    },
};

/// BFD waits for two seconds: on a machine that builds beside it a carrier that is to be lost for 150 ms may be lost for 400.
const TIMERS: Timers = Timers { interval_ms: 300, multiplier: 7 };
/// Rows are repeated in which it was lost for more than half of that.
const TRIES: usize = 3;
/// What a busy machine may add, in milliseconds; less than the second that the kernel waits before it asks for a neighbour again.
const ROOM_MS: f64 = 250.0;
/// A return of which BFD and BGP notice nothing: neighbours are asked for at once, and a tenth of a second later where the switch behind the
/// link does not forward yet.
const RETURN_MS: f64 = 100.0;
/// A return after which BFD and BGP have to come up again: BFD's slow pace of a second (RFC 5880 section 6.8.3) at both ends, then the
/// peers' own waits before they take a new connection, in milliseconds.
const BEGIN_ANEW_MS: f64 = 4_000.0;

/// The controller looks at the links' words so often, and sees that a link is needed, in milliseconds.
const NEED_MS: f64 = 100.0;

/// A way to flap.
struct Row {
    what: &'static str,
    times: usize,
    down_ms: u64,
    /// The secondary link comes back so much later.
    later_ms: u64,
    up_ms: u64,
    /// What the return may cost besides the room, in milliseconds.
    return_ms: f64,
}

const fn row(what: &'static str, times: usize, down_ms: u64, up_ms: u64) -> Row {
    Row { what, times, down_ms, later_ms: 0, up_ms, return_ms: RETURN_MS }
}

/// In this order: the first two losses cost no hold, and those after them more and more. Every day the first two rows.
const ROWS: [Row; 4] = [
    row("as often as damping permits", 2, 150, 1_500),
    row("more often than that, both back at once", 5, 150, 600),
    Row { later_ms: 50, ..row("the same, and the one that is back later is held down", 4, 150, 600) },
    Row { return_ms: BEGIN_ANEW_MS, ..row("for longer than BFD waits", 3, 2_600, 6_000) },
];

#[test]
fn both_links_flapping_in_phase_cost_what_they_are_down_and_a_return() -> Result<()> {
    if edge::skipped() {
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
    let rows = if edge::is_full() { &ROWS[..] } else { &ROWS[..2] };
    for row in rows {
        let held = holds(&stand)?;
        tried(&mut stand, row).with_context(|| format!("{}:\n{}", row.what, stand.state()))?;
        ensure!(row.later_ms == 0 || holds(&stand)? > held, "{}: nothing was held down", row.what);
    }
    if !edge::is_full() {
        return Ok(());
    }
    needed(&mut stand).with_context(|| stand.state())
}

/// How often a link was held down.
fn holds(stand: &Stand) -> Result<usize> {
    let log = fs::read_to_string(stand.place.folder().join("erdp.log"))?;
    Ok(log.matches("flaps and is held down").count())
}

/// A link is held down for many seconds when the other one fails: it is used at once.
fn needed(stand: &mut Stand) -> Result<()> {
    let probe = Probe::timed(&stand.place, stand.flow_by_primary()?)?;
    let held = holds(stand)?;
    stand.place.fail(1, Fault::Carrier)?;
    thread::sleep(Duration::from_millis(100));
    stand.place.heal(1)?;
    until("the secondary link to be held down", Duration::from_secs(5), || Ok(holds(stand)? > held))?;
    thread::sleep(Duration::from_millis(200));
    stand.place.fail(0, Fault::Carrier)?;
    thread::sleep(Duration::from_millis(500));
    let report = probe.stop()?;
    println!("  one is held down and the other fails: {report:?}");
    ensure!(report.gap_ms <= NEED_MS + ROOM_MS && report.at[1] > 0, "nothing for {:.0} ms", report.gap_ms);
    stand.place.heal(0)?;
    stand.wait()
}

/// One row, and again if the links were down for longer than they should have been.
fn tried(stand: &mut Stand, row: &Row) -> Result<()> {
    for _ in 0..TRIES {
        if flap(stand, row)? {
            return Ok(());
        }
        println!("    and again: this machine has held the links down for longer than {} ms", row.down_ms);
    }
    bail!("in {TRIES} tries the links were down for longer than BFD waits: this machine is too busy")
}

/// Each time its gap, and nothing else is lost; or the links were down for so long that this says nothing.
fn flap(stand: &mut Stand, row: &Row) -> Result<bool> {
    let probe = Probe::timed(&stand.place, stand.flow_by_primary()?)?;
    thread::sleep(Duration::from_millis(300));
    let downs = (0..row.times).map(|_| once(&stand.place, row)).collect::<Result<Vec<f64>>>();
    let (report, gaps) = probe.stop_in_detail()?;
    let downs = downs?;
    println!("  {}: down for {downs:.0?} ms; {report:?}", row.what);
    for Gap { from_ms, ms } in &gaps {
        println!("    from {from_ms:.0} ms: nothing for {ms:.1} ms");
    }
    let most_ms = downs.iter().copied().fold(0.0, f64::max);
    if row.down_ms < u64::from(TIMERS.interval_ms) && most_ms > TIMERS.detection_ms() / 2.0 {
        return stand.wait().map(|()| false);
    }
    let budget_ms = most_ms + row.return_ms + ROOM_MS;
    let longest = report.gap_ms;
    ensure!(longest <= budget_ms, "nothing for {longest:.0} ms, {budget_ms:.0} at most: {gaps:?}");
    // No fault that has not happened, and none that has cost anything but its own gap.
    let is_fault = |gap: &&Gap| gap.ms >= row.down_ms as f64 / 2.0;
    let faults = gaps.iter().filter(is_fault).count();
    ensure!(faults == row.times, "{faults} gaps for {} faults: {gaps:?}", row.times);
    let rest: f64 = gaps.iter().filter(|gap| !is_fault(gap)).map(|gap| gap.ms).sum();
    ensure!(rest <= ROOM_MS, "nothing for {rest:.0} ms besides the faults: {gaps:?}");
    stand.wait().map(|()| true)
}

/// Down and up once; for how long both were down, in milliseconds.
fn once(place: &Place, row: &Row) -> Result<f64> {
    let begin = Instant::now();
    both(|link| place.fail(link, Fault::Carrier))?;
    thread::sleep(Duration::from_millis(row.down_ms));
    let down = if row.later_ms == 0 {
        both(|link| place.heal(link))?;
        begin.elapsed()
    } else {
        place.heal(0)?;
        let down = begin.elapsed();
        thread::sleep(Duration::from_millis(row.later_ms));
        place.heal(1)?;
        down
    };
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
