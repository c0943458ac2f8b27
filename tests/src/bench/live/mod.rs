//! `cargo xtask bench live`: packets a second of frames that are really forwarded, and two CPUs with one policer bucket.
//!
//! The kernel makes frames on real pages (`BPF_F_TEST_XDP_LIVE_FRAMES`), a driver program aims each at another destination and
//! calls the contestant; what it redirects crosses a veth link and meets a program at the far end that drops it, and its page is
//! used again. What it passes (`ip_forward`) goes up the kernel's own way and out by the same links. All of that happens on the
//! one CPU that the thread is pinned to, softirqs included, so frames a second are what one CPU forwards, the making of
//! the frames included; `floor` is the making alone. Every contestant's frames are counted where they arrive: all must.
//!
//! Files: [`stage`] (namespace, links, tables), [`driver`] (frames and who is called). Nothing stays: the namespace ends with its
//! thread, whoever ends that.

pub mod driver;
pub mod stage;

use std::{
    fs,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use erdp::dataplane::Dataplane as _;
use serde::Serialize;

use self::{
    driver::Way,
    stage::{ERDP_ALONE, Stage, arrived, table},
};
use super::{
    measure::Cost,
    pinned,
    report::{Bar, kernel, print_bars},
    routes::{Routes, Spread},
};

/// Routes.
const ROUTES: usize = 10_000;
/// Name, program, and by how much its turn is shorter: all take about as long.
const CONTESTANTS: [(&str, &str, u32); 6] = [
    ("floor (frames dropped at once)", "bench_drop", 1),
    ("bare redirect", "bench_redirect", 1),
    ("bpf_fib_lookup", "bench_fib_lookup", 2),
    ("ip_forward", "bench_empty", 4),
    ("erdp, losses uncounted", ERDP_ALONE, 1),
    ("erdp", "erdp", 1),
];

/// One CPU, one way to draw destinations.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// How destinations are drawn.
    pub spread: Spread,
    /// Nanoseconds a frame, gross.
    pub costs: Vec<Cost>,
}

/// Two CPUs against one.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The contestant.
    pub name: &'static str,
    /// `live` or `test run`.
    pub way: &'static str,
    /// Frames a second of one CPU alone, the mean of both: median of the rounds.
    pub one: f64,
    /// Of both together.
    pub both: f64,
    /// Both over one: median, least and most of the rounds.
    pub scaling: [f64; 3],
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Kernel release.
    pub kernel: String,
    /// Rounds.
    pub rounds: usize,
    /// Frames of a turn.
    pub frames: u32,
    /// Whether the shipped program's tracepoints for losses were attached while it ran.
    pub counts_losses: bool,
    /// One CPU.
    pub points: Vec<Point>,
    /// Two.
    pub pairs: Vec<Pair>,
    /// Promises.
    pub bars: Vec<Bar>,
}

/// Trace events that somebody has left on cost every redirected frame more than its forwarding.
fn warn_of_tracing() {
    let on =
        ["xdp_redirect", "xdp_devmap_xmit", "xdp_exception", "xdp_bulk_tx"].into_iter().filter(|event| {
            let file = format!("/sys/kernel/tracing/events/xdp/{event}/enable");
            fs::read_to_string(file).is_ok_and(|state| state.trim() != "0")
        });
    for event in on {
        println!(
            "warning: the trace event xdp:{event} is on and slows every frame: write 0 to its `enable` in tracefs"
        );
    }
}

/// Measures everything, printing as it goes.
pub fn run(object: &[u8], quick: bool) -> Result<Report> {
    let (rounds, frames) = if quick { (7, 1 << 18) } else { (21, 1 << 19) };
    let routes = table(ROUTES)?;
    let cpus = pinned::cpus()?;
    println!(
        "live: {rounds} rounds of {frames} frames (of 96 bytes), {ROUTES} routes {}, Linux {}, {} CPUs",
        routes.source,
        kernel(),
        cpus.len()
    );
    warn_of_tracing();
    let mut report = Report {
        kernel: kernel(),
        rounds,
        frames,
        counts_losses: false,
        points: Vec::new(),
        pairs: Vec::new(),
        bars: Vec::new(),
    };
    for spread in [Spread::Trains, Spread::Random] {
        in_own_thread(|| one_cpu(object, &routes, spread, &cpus, &mut report))?;
    }
    if let [first, second, ..] = cpus[..] {
        in_own_thread(|| two_cpus(object, &routes, [first, second], &mut report))?;
    } else {
        println!("\ntwo CPUs: this machine has one");
    }
    report.judge();
    Ok(report)
}

fn one_cpu(
    object: &[u8],
    routes: &Routes,
    spread: Spread,
    cpus: &[usize],
    report: &mut Report,
) -> Result<()> {
    let mut stage = Stage::new(object, routes, spread, 1)?;
    report.counts_losses = stage.counts_losses();
    let cpu = cpus.last().copied().unwrap_or(0);
    let mut rounds = vec![Vec::new(); CONTESTANTS.len()];
    for round in 0..report.rounds {
        for turn in 0..CONTESTANTS.len() {
            // Another one begins in each round.
            let at = (turn + round) % CONTESTANTS.len();
            let (name, program, shorter) = CONTESTANTS[at];
            stage.choose(program)?;
            let frames = report.frames / shorter;
            let before = arrived()?;
            let driver = &stage.drivers[0];
            rounds[at].push(pinned::on(cpu, || driver.run(Way::Live, frames))?);
            let expected = if program == "bench_drop" { 0 } else { u64::from(frames) };
            all_arrived(name, before, expected)?;
        }
    }
    let costs = CONTESTANTS.iter().zip(rounds).map(|(row, rounds)| Cost::new(row.0, rounds)).collect();
    nothing_dropped(&stage)?;
    report.add(Point { spread, costs });
    Ok(())
}

/// Each CPU alone, then both at once, through one policer bucket.
fn two_cpus(object: &[u8], routes: &Routes, cpus: [usize; 2], report: &mut Report) -> Result<()> {
    let mut stage = Stage::new(object, routes, Spread::Random, cpus.len())?;
    for (way, label) in [(Way::Live, "live"), (Way::TestRun, "test run")] {
        for (name, program) in [("bare redirect", "bench_redirect"), ("erdp", "erdp")] {
            stage.choose(program)?;
            let (mut ones, mut pairs, mut scalings) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..report.rounds {
                let before = arrived()?;
                let first = at_once(&stage, &cpus, &[0], way, report.frames)?;
                let second = at_once(&stage, &cpus, &[1], way, report.frames)?;
                // Longer, so that what one CPU runs before the other has begun or after it has ended matters less.
                let both = at_once(&stage, &cpus, &[0, 1], way, report.frames * 2)?;
                let expected = if way == Way::Live { u64::from(report.frames) * 6 } else { 0 };
                all_arrived(name, before, expected)?;
                let one = (first + second) / 2.0;
                ones.push(one);
                pairs.push(both);
                scalings.push(both / one);
            }
            let [one, both, scaling] = [ones, pairs, scalings].map(|rounds| Cost::new(name, rounds));
            report.add_pair(Pair {
                name,
                way: label,
                one: one.median_ns,
                both: both.median_ns,
                scaling: [scaling.median_ns, scaling.min_ns, scaling.max_ns],
            });
        }
    }
    nothing_dropped(&stage)
}

/// Frames a second of these drivers, each on its CPU, together.
fn at_once(stage: &Stage, cpus: &[usize], who: &[usize], way: Way, frames: u32) -> Result<f64> {
    let barrier = Barrier::new(who.len());
    thread::scope(|scope| {
        let workers: Vec<_> = who
            .iter()
            .map(|at| {
                let (barrier, driver, cpu) = (&barrier, &stage.drivers[*at], cpus[*at]);
                scope.spawn(move || {
                    pinned::on(cpu, || {
                        barrier.wait();
                        driver.run(way, frames)
                    })
                })
            })
            .collect();
        let speeds = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        speeds.map(|ns| Ok(1e9 / ns?)).sum()
    })
}

/// A contestant that loses frames, or does not forward, is not measured.
fn all_arrived(name: &str, before: u64, expected: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(500);
    loop {
        let count = arrived()? - before;
        if count == expected {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{name}: {count} of {expected} frames have arrived at the far ends"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// The shipped program has forwarded whatever came.
fn nothing_dropped(stage: &Stage) -> Result<()> {
    let counters = stage.shipped().counters()?;
    let dropped: Vec<_> = counters.dropped.iter().filter(|(_, tally)| tally.packets > 0).collect();
    ensure!(dropped.is_empty(), "erdp has dropped {dropped:?}");
    ensure!(counters.transmit_lost.packets == 0, "{} frames lost", counters.transmit_lost.packets);
    Ok(())
}

/// The network namespace that `run` makes ends with the thread.
fn in_own_thread<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

impl Report {
    fn add(&mut self, point: Point) {
        let floor = point.ns("floor (frames dropped at once)").unwrap_or(0.0);
        println!(
            "\none CPU, destinations {:?}; M frames/s, ns a frame (least .. most), net of the floor",
            point.spread
        );
        for Cost { name, median_ns, min_ns, max_ns } in &point.costs {
            println!(
                "  {name:<32} {:>7.3} M/s {median_ns:>8.0} ns  ({min_ns:.0} .. {max_ns:.0}) {:>8.0} ns net",
                1e3 / median_ns,
                median_ns - floor
            );
        }
        self.points.push(point);
    }

    fn add_pair(&mut self, pair: Pair) {
        let [median, least, most] = pair.scaling;
        println!(
            "\ntwo CPUs, {}, {}: one {:.3} M/s, both {:.3} M/s: {median:.2} times ({least:.2} .. {most:.2})",
            pair.name,
            pair.way,
            pair.one / 1e6,
            pair.both / 1e6
        );
        self.pairs.push(pair);
    }

    fn judge(&mut self) {
        for point in &self.points {
            let faster = |than: &str| Some(point.ns(than)? / point.ns("erdp")?);
            for (than, limit) in [("bare redirect", 0.75), ("bpf_fib_lookup", 1.3), ("ip_forward", 3.2)] {
                let what = format!("erdp / {than}, frames/s, {:?}", point.spread);
                self.bars.extend(faster(than).map(|value| Bar::new(&what, value, ">=", limit)));
                if than == "bare redirect" {
                    self.bars.extend(faster(than).map(|value| Bar::new("   stretch", value, ">=", 0.80)));
                }
            }
        }
        for pair in self.pairs.iter().filter(|pair| pair.name == "erdp") {
            let what = format!("erdp, two CPUs and one bucket / one CPU, {}", pair.way);
            self.bars.push(Bar::new(&what, pair.scaling[0], ">=", 1.75));
        }
        print_bars(&self.bars);
    }
}

impl Point {
    fn ns(&self, name: &str) -> Option<f64> {
        self.costs.iter().find(|cost| cost.name == name).map(|cost| cost.median_ns)
    }
}
