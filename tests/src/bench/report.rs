//! What is printed and written: each measurement as it comes, and at the end the bars with their ratios.

use serde::Serialize;

use super::{
    load::Load,
    measure::{Cost, Effort},
    routes::{Spread, Version},
};

/// One measurement: one table, one way to draw destinations.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Version of IP.
    pub version: Version,
    /// Prefixes in the table.
    pub routes: usize,
    /// `packet`, `lookup`, `tags` or `bfd`.
    pub what: &'static str,
    /// How destinations are drawn.
    pub spread: Spread,
    /// The contestants.
    pub costs: Vec<Cost>,
}

impl Point {
    fn cost(&self, name: &str) -> Option<f64> {
        self.costs.iter().find(|cost| cost.name == name).map(|cost| cost.median_ns)
    }
}

/// A promise and what has become of it.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// What is compared.
    pub what: String,
    /// What was measured.
    pub value: f64,
    /// `<=` or `>=`.
    pub relation: &'static str,
    /// The promise.
    pub bar: f64,
    /// Whether it is kept.
    pub met: bool,
}

impl Bar {
    /// Holds a value against a promise.
    pub fn new(what: &str, value: f64, relation: &'static str, bar: f64) -> Self {
        let met = if relation == "<=" { value <= bar } else { value >= bar };
        Self { what: what.to_owned(), value, relation, bar, met }
    }
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Rounds and packets.
    pub effort: Effort,
    /// `real` or `generated` tables.
    pub tables: &'static str,
    /// Kernel release.
    pub kernel: String,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Measurements.
    pub points: Vec<Point>,
    /// Loading.
    pub loads: Vec<Load>,
    /// Promises.
    pub bars: Vec<Bar>,
}

impl Report {
    /// Without any measurement.
    pub fn new(effort: Effort, tables: &'static str) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            effort,
            tables,
            kernel: kernel(),
            cpus,
            points: Vec::new(),
            loads: Vec::new(),
            bars: Vec::new(),
        }
    }

    /// Prints a measurement and keeps it.
    pub fn add(&mut self, point: Point) {
        println!(
            "\n{} {:?}, {} routes, destinations {:?}; ns, net of empty",
            point.what, point.version, point.routes, point.spread
        );
        for Cost { name, median_ns, min_ns, max_ns } in &point.costs {
            println!("  {name:<22} {median_ns:>8.1}   ({min_ns:.1} .. {max_ns:.1})");
        }
        self.points.push(point);
    }

    fn find(
        &self,
        what: &str,
        version: Version,
        spread: Spread,
        size: std::ops::RangeInclusive<usize>,
    ) -> Option<&Point> {
        self.points.iter().find(|point| {
            point.what == what
                && point.version == version
                && point.spread == spread
                && size.contains(&point.routes)
        })
    }

    /// Compares with the promises, as far as their measurements were made.
    pub fn judge(&mut self) {
        let packet = |version, spread, size| self.find("packet", version, spread, size);
        let (k1, k10, full) = (1_000..=1_000, 10_000..=10_000, 200_000..=usize::MAX);
        let mut bars = Vec::new();
        let mut bar = |what: &str, value: Option<f64>, relation: &'static str, bar: f64| {
            bars.extend(value.map(|value| Bar::new(what, value, relation, bar)));
        };
        for spread in [Spread::Trains, Spread::Random] {
            let point = packet(Version::V4, spread, k10.clone());
            let against = |name: &str| Some(point?.cost("erdp")? / point?.cost(name)?);
            let fib = against("bench_fib_lookup");
            let lpm = against("erdp over LPM_TRIE");
            bar(&format!("erdp / bpf_fib_lookup, 10k, {spread:?}"), fib, "<=", 0.42);
            bar("   stretch", fib, "<=", 0.35);
            bar(&format!("erdp / the same over LPM_TRIE, 10k, {spread:?}"), lpm, "<=", 0.38);
            bar("   stretch", lpm, "<=", 0.30);
        }
        let ten = packet(Version::V4, Spread::Random, k10.clone());
        for (spread, limit) in [(Spread::Random, 1.6), (Spread::Zipf, 1.3)] {
            let few = packet(Version::V4, spread, k1.clone()).and_then(|point| point.cost("erdp"));
            let all = packet(Version::V4, spread, full.clone()).and_then(|point| point.cost("erdp"));
            let growth = all.zip(few).map(|(all, few)| all / few);
            bar(&format!("erdp, growth from 1k to all routes, {spread:?}"), growth, "<=", limit);
        }
        let v4 = ten.and_then(|point| point.cost("erdp"));
        for (size, name, limit) in [(k10, "10k", 1.5), (full.clone(), "all", 2.5)] {
            let v6 = packet(Version::V6, Spread::Random, size).and_then(|point| point.cost("erdp"));
            let ratio = v6.zip(v4).map(|(v6, v4)| v6 / v4);
            bar(&format!("erdp, IPv6 at {name} / IPv4 at 10k"), ratio, "<=", limit);
        }
        let alone = self.find("lookup", Version::V4, Spread::Random, full);
        for (name, limit) in [("lookup", 40.0), ("chained", 12.0)] {
            let ratio = alone.and_then(|point| {
                Some(point.cost(&format!("{name}_lpm4"))? / point.cost(&format!("{name}_trie4"))?)
            });
            bar(&format!("LPM_TRIE / trie, {name} alone, all IPv4 routes"), ratio, ">=", limit);
        }
        let tags = self.points.iter().find(|point| point.what == "tags");
        for (name, without, limit) in [
            ("two tags, told", "untagged, told", 12.0),
            ("two tags in, two out", "untagged", 25.0),
            ("push two", "untagged", 25.0),
            ("pop two", "untagged", 25.0),
        ] {
            let more = tags.and_then(|point| Some(point.cost(name)? - point.cost(without)?));
            bar(&format!("{name}, more than {without}, ns"), more, "<=", limit);
        }
        for load in &self.loads {
            let limit = if load.version == Version::V4 { 4e6 } else { 2e6 };
            for (order, rate) in [("by address", load.per_second), ("shuffled", load.shuffled_per_second)] {
                bar(
                    &format!("prefixes/s into the maps, {:?}, {order}", load.version),
                    Some(rate),
                    ">=",
                    limit,
                );
            }
        }
        let memory = self.loads.iter().map(|load| load.map_mb).sum();
        bar("map memory of both tables, MB", Some(memory), "<=", 90.0);
        print_bars(&bars);
        self.bars = bars;
    }
}

/// Prints promises and what has become of them.
pub fn print_bars(bars: &[Bar]) {
    println!("\nbars");
    for Bar { what, value, relation, bar, met } in bars {
        let verdict = if *met { "PASS" } else { "short of it" };
        println!("  {what:<52} {value:>12.2} {relation} {bar:<10} {verdict}");
    }
}

/// The kernel's release.
pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Prints what is about to be done.
pub fn head(report: &Report) {
    println!(
        "dataplane: {} rounds of {} packets each, {} tables, Linux {}, {} CPUs",
        report.effort.rounds, report.effort.runs, report.tables, report.kernel, report.cpus
    );
}

/// Prints how a table was loaded.
pub fn load(load: &Load) {
    println!(
        "\nloading {:?}, {} prefixes: {:.2} M/s by address, {:.2} M/s shuffled; LPM_TRIE {:.2} M/s; {:.1} MB of map",
        load.version,
        load.prefixes,
        load.per_second / 1e6,
        load.shuffled_per_second / 1e6,
        load.lpm_per_second / 1e6,
        load.map_mb
    );
}
