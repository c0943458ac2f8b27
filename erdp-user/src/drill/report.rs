//! What a drill has measured: counters read at its turning points, and their differences as an operator is to see them.
//!
//! Losses are told beside what the same counter did in the second before, so that what is dropped all day is not taken for the
//! drill's. When Microsoft went the other way is seen by what still comes in on the failed link, every tenth of a second.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{dataplane::Tally, fib::Share};

/// A link on which less comes in than so many packets a second is quiet: BGP's and BFD's own attempts are more than nothing.
const QUIET_PPS: f64 = 20.0;

/// Counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// Dropped by the edge, by reason; `transmit-lost` too.
    pub dropped: BTreeMap<String, u64>,
    /// Dropped by the circuit's policers, by direction and class.
    pub policed: BTreeMap<(&'static str, &'static str), Tally>,
    /// Came in on the link that fails.
    pub received: Tally,
    /// Was sent there.
    pub sent: Tally,
}

/// What is measured on the way.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// When the watch began.
    pub begin: Sample,
    /// When the link failed.
    pub fail: Option<Sample>,
    /// When it was given free.
    pub restore: Option<Sample>,
    /// When it was used again.
    pub over: Option<Sample>,
    /// What was on the link.
    pub share: Share,
    /// What the packet path's records took.
    pub switched: Duration,
    /// The same and the routes of those that have other paths.
    pub rerouted: Duration,
    last: Option<(Duration, u64)>,
    busy_until: Option<Duration>,
}

impl Measured {
    /// How many packets have come in on the failed link up to now.
    pub fn look(&mut self, now: Duration, received: u64) {
        let Some(fail) = &self.fail else { return };
        let (then, before) = self.last.unwrap_or((fail.at, fail.received.packets));
        let limit = QUIET_PPS.max(self.rate_before() / 100.0);
        if rate(received.saturating_sub(before), now.saturating_sub(then)) > limit {
            self.busy_until = Some(now);
        }
        self.last = Some((now, received));
    }

    /// Packets a second that came in there before.
    fn rate_before(&self) -> f64 {
        let Some(fail) = &self.fail else { return 0.0 };
        let packets = fail.received.packets.saturating_sub(self.begin.received.packets);
        rate(packets, fail.at.saturating_sub(self.begin.at))
    }

    /// What came of it.
    pub fn report(&self) -> Report {
        let nothing = Sample::default();
        let fail = self.fail.as_ref().unwrap_or(&nothing);
        let restore = self.restore.as_ref().unwrap_or(fail);
        let over = self.over.as_ref().unwrap_or(restore);
        let watched = fail.at.saturating_sub(self.begin.at);
        let per_second = |to: Tally, from: Tally| Flow {
            pps: rate(to.packets.saturating_sub(from.packets), watched).round() as u64,
            bps: (rate(to.bytes.saturating_sub(from.bytes), watched) * 8.0).round() as u64,
        };
        let was_busy = self.rate_before() > QUIET_PPS;
        let moved =
            |fail: &Sample| self.busy_until.map_or(Duration::ZERO, |until| until.saturating_sub(fail.at));
        Report {
            failed_ms: millis(restore.at.saturating_sub(fail.at)),
            switched_us: self.switched.as_micros() as u64,
            rerouted_us: self.rerouted.as_micros() as u64,
            microsoft_moved_ms: self.fail.as_ref().filter(|_| was_busy).map(|fail| millis(moved(fail))),
            back_ms: self.over.as_ref().map(|over| millis(over.at.saturating_sub(restore.at))),
            share: self.share,
            sent_before: per_second(fail.sent, self.begin.sent),
            received_before: per_second(fail.received, self.begin.received),
            dropped: losses(&self.begin.dropped, &fail.dropped, &restore.dropped, &over.dropped),
            policed: policed(&self.begin, fail, restore, over),
        }
    }
}

/// Packets and bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Packets.
    pub pps: u64,
    /// Bits.
    pub bps: u64,
}

/// How much a counter grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Of what: a drop reason, or a direction and a class.
    pub of: String,
    /// In the second before.
    pub before: u64,
    /// While the link failed.
    pub failing: u64,
    /// Until it was used again.
    pub returning: u64,
}

/// What came of a drill. Times in the names' units; a `None` was not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How long the link carried nothing.
    pub failed_ms: u64,
    /// The packet path's records: from here on no packet was given to the link while another one was alive.
    pub switched_us: u64,
    /// The routes, too, of what has other paths only by another preference.
    pub rerouted_us: u64,
    /// Until nothing came from Microsoft by this link any more; `None`: nothing worth telling came before.
    pub microsoft_moved_ms: Option<u64>,
    /// Until it was used again.
    pub back_ms: Option<u64>,
    /// What of the flows was there.
    pub share: Share,
    /// What was sent there before.
    pub sent_before: Flow,
    /// What came in there before.
    pub received_before: Flow,
    /// Packets lost by reason.
    pub dropped: Vec<Loss>,
    /// Packets that the circuit's policers have dropped.
    pub policed: Vec<Loss>,
}

fn policed(begin: &Sample, fail: &Sample, restore: &Sample, over: &Sample) -> Vec<Loss> {
    let by_name = |sample: &Sample| -> BTreeMap<String, u64> {
        sample.policed.iter().map(|((way, class), tally)| (format!("{way} {class}"), tally.packets)).collect()
    };
    losses(&by_name(begin), &by_name(fail), &by_name(restore), &by_name(over))
}

/// Of each counter that has moved.
fn losses(
    begin: &BTreeMap<String, u64>,
    fail: &BTreeMap<String, u64>,
    restore: &BTreeMap<String, u64>,
    over: &BTreeMap<String, u64>,
) -> Vec<Loss> {
    let of = |map: &BTreeMap<String, u64>, name: &str| map.get(name).copied().unwrap_or_default();
    let row = |name: &String| Loss {
        of: name.clone(),
        before: of(fail, name).saturating_sub(of(begin, name)),
        failing: of(restore, name).saturating_sub(of(fail, name)),
        returning: of(over, name).saturating_sub(of(restore, name)),
    };
    over.keys().map(row).filter(|loss| loss.before + loss.failing + loss.returning > 0).collect()
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ms: u64, dropped: u64, received: u64) -> Sample {
        Sample {
            at: Duration::from_millis(ms),
            dropped: [("no-route".to_owned(), dropped), ("hairpin".to_owned(), 3)].into(),
            policed: [(("to Microsoft", "voice"), Tally { packets: dropped / 2, bytes: 0 })].into(),
            received: Tally { packets: received, bytes: 100 * received },
            sent: Tally::default(),
        }
    }

    #[test]
    fn a_report_tells_losses_beside_those_of_the_second_before_and_when_microsoft_went_the_other_way() {
        let mut measured = Measured { begin: sample(0, 0, 0), ..Measured::default() };
        measured.fail = Some(sample(1_000, 10, 1_000));
        // A thousand packets a second come in for 300 ms more, then two in each tenth of a second.
        let mut received = 1_000;
        for tick in 1..=50 {
            received += if tick <= 3 { 100 } else { 2 };
            measured.look(Duration::from_millis(1_000 + 100 * tick), received);
        }
        measured.restore = Some(sample(6_000, 60, received));
        measured.over = Some(sample(8_500, 61, received));
        let report = measured.report();
        assert_eq!(
            (report.failed_ms, report.microsoft_moved_ms, report.back_ms),
            (5_000, Some(300), Some(2_500))
        );
        assert_eq!(report.received_before, Flow { pps: 1_000, bps: 800_000 });
        let loss = |of: &str, [before, failing, returning]: [u64; 3]| Loss {
            of: of.into(),
            before,
            failing,
            returning,
        };
        assert_eq!(report.dropped, [loss("no-route", [10, 50, 1])]);
        assert_eq!(report.policed, [loss("to Microsoft voice", [5, 25, 0])]);
    }

    #[test]
    fn where_nothing_came_before_there_is_no_time_at_which_it_moved() {
        let mut measured =
            Measured { begin: sample(0, 0, 0), fail: Some(sample(1_000, 0, 5)), ..Measured::default() };
        measured.look(Duration::from_millis(1_100), 5);
        let report = measured.report();
        assert_eq!((report.microsoft_moved_ms, report.back_ms, report.dropped.len()), (None, None, 0));
    }
}
