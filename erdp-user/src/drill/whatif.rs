//! What a link's failure would mean for the load of now: the same offered to what remains, judged by the policers' rules, class by
//! class (requirements A1, A2, B2, F). Nothing is touched; two readings of counters go in, a [`Forecast`] comes out.
//!
//! # The model
//! What was offered on both links comes to one. Each class has its share (voice 30 % of R, interactive 40 %) for sure; what exceeds it
//! counts as best effort; best effort has what is left of the rate and is dropped first. That is the packet path's policer in the long
//! run: tolerances of milliseconds are not in it. What a burst policy means for one link: `peak-2x` has R sustained and 2R for as long
//! as the credit lasts, `dual-link` R, `headroom-20` 1.2 R.
//!
//! Microsoft's own policer is another: R on each link and no classes, so what exceeds R is dropped from all classes alike. It is told
//! beside ours, as a share.

use erdp_common::policer::BurstPolicy;
use serde::{Deserialize, Serialize};

/// Percent of R that voice and interactive have for sure, as [`erdp_common::policer::Rates::new`] has them.
const SHARES: [(&str, u64); 2] = [("voice", 30), ("interactive", 40)];

/// Counters of a circuit at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// When, in nanoseconds of the daemon.
    pub at_ns: u64,
    /// The circuit.
    pub circuit: String,
    /// The link that would fail.
    pub link: String,
    /// R in bits a second.
    pub rate_bps: u64,
    /// Meaning of bursts, in the configuration's word.
    pub burst: String,
    /// Time at R that a burst to 2R may last after idleness, in milliseconds.
    pub credit_ms: u64,
    /// Bytes charged for each packet beside those of IP.
    pub overhead: u64,
    /// What was offered to the circuit's policers so far, both links together.
    pub classes: Vec<Offered>,
    /// Bytes that the link has carried so far: to Microsoft, from Microsoft.
    pub on_link: [u64; 2],
    /// Places that would be left without any session.
    pub orphans: Vec<String>,
    /// Prefixes that have a path by this link only, and the first few of them.
    pub only_here: (usize, Vec<String>),
}

/// What was offered of a class in a direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// `to-microsoft` or `from-microsoft`.
    pub direction: String,
    /// The class.
    pub class: String,
    /// Packets, dropped ones too.
    pub packets: u64,
    /// IP bytes, dropped ones too.
    pub bytes: u64,
    /// IP bytes that were dropped.
    pub dropped_bytes: u64,
}

/// What is to be expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// The circuit.
    pub circuit: String,
    /// The link that would fail.
    pub link: String,
    /// R in bits a second.
    pub rate_bps: u64,
    /// Meaning of bursts.
    pub burst: String,
    /// Over so many seconds the load was read.
    pub over_s: f64,
    /// Each direction.
    pub directions: Vec<Direction>,
    /// Places that would be left without any session.
    pub orphans: Vec<String>,
    /// Prefixes that have a path by this link only.
    pub only_here: (usize, Vec<String>),
}

/// What is to be expected of a direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Direction {
    /// `to-microsoft` or `from-microsoft`.
    pub direction: String,
    /// Bits a second of the link that would fail: what moves.
    pub moves_bps: u64,
    /// Bits a second offered to what remains.
    pub offered_bps: u64,
    /// What remains may carry so much for long.
    pub sustained_bps: u64,
    /// And so much for a moment.
    pub peak_bps: u64,
    /// For how long a burst may last after idleness before drops begin; `None`: no drops are expected, or they begin at once.
    pub burst_s: Option<f64>,
    /// Each class, in the order in which they are dropped.
    pub classes: Vec<Class>,
    /// Percent of all classes, voice included, that Microsoft would drop at R on the remaining link.
    pub msee_drops_percent: f64,
}

/// What is to be expected of a class, in bits a second as they are charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Which.
    pub class: String,
    /// Offered.
    pub offered_bps: u64,
    /// Dropped already now.
    pub dropped_now_bps: u64,
    /// What would be dropped.
    pub dropped_bps: u64,
}

/// The expectation from two readings; the second is the later one.
pub fn forecast(before: &Reading, after: &Reading) -> Forecast {
    let seconds = after.at_ns.saturating_sub(before.at_ns) as f64 / 1e9;
    let mut names: Vec<&str> = after.classes.iter().map(|row| row.direction.as_str()).collect();
    names.dedup();
    let direction = |(at, name): (usize, &&str)| direction(name, at, before, after, seconds);
    Forecast {
        circuit: after.circuit.clone(),
        link: after.link.clone(),
        rate_bps: after.rate_bps,
        burst: after.burst.clone(),
        over_s: seconds,
        directions: names.iter().enumerate().map(direction).collect(),
        orphans: after.orphans.clone(),
        only_here: after.only_here.clone(),
    }
}

fn direction(name: &str, at: usize, before: &Reading, after: &Reading, seconds: f64) -> Direction {
    let per_second = |now: u64, then: u64| bits_per_second(now.saturating_sub(then), seconds);
    let rows = after.classes.iter().filter(|row| row.direction == name);
    let loads: Vec<Load> = rows
        .map(|row| {
            let same = |other: &&Offered| (&other.direction, &other.class) == (&row.direction, &row.class);
            let then = before.classes.iter().find(same).cloned().unwrap_or_default();
            let charged = |it: &Offered| it.bytes + after.overhead * it.packets;
            Load {
                class: row.class.clone(),
                offered: per_second(charged(row), charged(&then)),
                dropped: per_second(row.dropped_bytes, then.dropped_bytes),
            }
        })
        .collect();
    let offered = loads.iter().map(|load| load.offered).sum();
    let (sustained, peak) = capacity(after.rate_bps, &after.burst);
    Direction {
        direction: name.to_owned(),
        moves_bps: per_second(after.on_link[at.min(1)], before.on_link[at.min(1)]),
        offered_bps: offered,
        sustained_bps: sustained,
        peak_bps: peak,
        burst_s: burst_s(offered, sustained, peak, after.credit_ms),
        classes: share_out(&loads, sustained, after.rate_bps),
        msee_drops_percent: over_percent(offered, after.rate_bps),
    }
}

struct Load {
    class: String,
    offered: u64,
    dropped: u64,
}

/// What one link may carry for long and for a moment.
fn capacity(rate: u64, burst: &str) -> (u64, u64) {
    let policy = crate::config::burst_policy(burst).unwrap_or_default();
    match policy {
        BurstPolicy::Peak2x => (rate, 2 * rate),
        BurstPolicy::DualLink => (rate, rate),
        BurstPolicy::Headroom20 => (rate / 5 * 6, rate / 5 * 6),
    }
}

/// A bucket that is empty fills by what exceeds the sustained rate.
fn burst_s(offered: u64, sustained: u64, peak: u64, credit_ms: u64) -> Option<f64> {
    let is_burst = offered > sustained && offered <= peak;
    let credit_bits = sustained as f64 * credit_ms as f64 / 1e3;
    is_burst.then(|| credit_bits / (offered - sustained) as f64)
}

/// What of each class would be dropped at a sustained rate, `rate` being what shares are of.
fn share_out(loads: &[Load], sustained: u64, rate: u64) -> Vec<Class> {
    let sure = |load: &Load| {
        let share = SHARES
            .iter()
            .find(|(class, _)| *class == load.class)
            .map_or(0, |(_, percent)| rate / 100 * percent);
        load.offered.min(share)
    };
    let within: u64 = loads.iter().map(sure).sum();
    let rest: u64 = loads.iter().map(|load| load.offered - sure(load)).sum();
    // Shares are 70 % of R, so what is within them always fits.
    let lost = rest.saturating_sub(sustained.saturating_sub(within));
    let row = |load: &Load| Class {
        class: load.class.clone(),
        offered_bps: load.offered,
        dropped_now_bps: load.dropped,
        dropped_bps: portion(load.offered - sure(load), lost, rest),
    };
    loads.iter().map(row).collect()
}

/// `part` of `of` by the share of what is lost.
fn portion(part: u64, lost: u64, of: u64) -> u64 {
    if of == 0 { 0 } else { (u128::from(part) * u128::from(lost) / u128::from(of)) as u64 }
}

fn over_percent(offered: u64, rate: u64) -> f64 {
    if offered <= rate { 0.0 } else { (offered - rate) as f64 * 100.0 / offered as f64 }
}

fn bits_per_second(bytes: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (bytes as f64 * 8.0 / seconds).round() as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: u64 = 1_000_000_000;

    /// Two readings two seconds apart between which each class was offered so many Mb/s towards Microsoft.
    fn readings(burst: &str, mbps: [u64; 3]) -> [Reading; 2] {
        let at = |seconds: u64| Reading {
            at_ns: seconds * 1_000_000_000,
            circuit: "contoso".into(),
            link: "primary".into(),
            rate_bps: R,
            burst: burst.into(),
            credit_ms: 1_000,
            overhead: 0,
            classes: ["default", "interactive", "voice"]
                .iter()
                .zip(mbps)
                .map(|(class, mbps)| Offered {
                    direction: "to-microsoft".into(),
                    class: (*class).into(),
                    packets: 0,
                    bytes: 7 + seconds * mbps * 125_000,
                    dropped_bytes: 0,
                })
                .collect(),
            on_link: [seconds * 62_500_000, 0],
            orphans: vec![],
            only_here: (0, vec![]),
        };
        [at(3), at(5)]
    }

    #[test]
    fn a2_and_f_best_effort_is_dropped_first_and_a_class_above_its_share_with_it() {
        // Mb/s offered (best effort, interactive, voice); dropped of each; burst in tenths of a second; percent at the MSEE.
        type Row = (&'static str, [u64; 3], [u64; 3], Option<u64>, u64);
        let rows: [Row; 9] = [
            ("peak-2x", [500, 200, 100], [0, 0, 0], None, 0),
            ("peak-2x", [900, 300, 200], [400, 0, 0], Some(25), 28),
            ("peak-2x", [500, 600, 100], [143, 57, 0], Some(50), 16),
            ("peak-2x", [0, 0, 1_200], [0, 0, 200], Some(50), 16),
            ("peak-2x", [2_000, 300, 200], [1_500, 0, 0], None, 60),
            ("dual-link", [900, 300, 200], [400, 0, 0], None, 28),
            ("headroom-20", [900, 300, 200], [200, 0, 0], None, 28),
            ("headroom-20", [900, 100, 100], [0, 0, 0], None, 9),
            ("dual-link", [0, 0, 0], [0, 0, 0], None, 0),
        ];
        for (burst, offered, dropped, burst_tenths, msee) in rows {
            let [before, after] = readings(burst, offered);
            let forecast = forecast(&before, &after);
            let row = &forecast.directions[0];
            let mbps = |bps: u64| (bps as f64 / 1e6).round() as u64;
            let told: Vec<u64> = row.classes.iter().map(|class| mbps(class.dropped_bps)).collect();
            assert_eq!(told, dropped, "{burst} {offered:?}");
            assert_eq!(
                row.burst_s.map(|seconds| (seconds * 10.0).round() as u64),
                burst_tenths,
                "{burst} {offered:?}"
            );
            assert_eq!(row.msee_drops_percent as u64, msee, "{burst} {offered:?}");
            assert_eq!(mbps(row.offered_bps), offered.iter().sum::<u64>());
            assert_eq!(mbps(row.moves_bps), 500);
        }
    }

    #[test]
    fn bytes_beside_ip_are_charged_and_counters_that_begin_anew_are_nothing() {
        let [mut before, mut after] = readings("peak-2x", [100, 0, 0]);
        after.overhead = 38;
        after.classes[0].packets = 2_000;
        assert_eq!(forecast(&before, &after).directions[0].offered_bps, 100_000_000 + 2_000 * 38 * 8 / 2);
        before.classes[0].bytes = u64::MAX;
        assert_eq!(forecast(&before, &after).directions[0].offered_bps, 0);
    }
}
