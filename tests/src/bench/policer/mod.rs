//! `cargo xtask bench policer`: what TCP makes of a policed circuit, beside a shaper of the same rate.
//!
//! iperf3 sends through the shipped program, attached native to both ports of an edge ([`stand`]), and through a delay line in user
//! space ([`line`]). Each cell is a rate, a number of flows, a round trip and one of: the policer as it is by default (it drops), the
//! policer marking packets of flows that understand ECN (RFC 3168), and no policer but `tbf`, which queues. The congestion control
//! is CUBIC; the bucket's credit is used up before a cell begins, and its first seconds do not count, so what is seen is the sustained
//! rate and not the burst at twice the rate. A cell lasts several periods of CUBIC (RFC 9438): what a flow holds back after a drop or a
//! mark is saved as credit and used later, and a cell that ends in between would count only the loss. A goodput's share of the rate cannot exceed 1448/1500: the rate counts bytes of IP.
//!
//! The line must never be what limits: its own capacity is measured first, and its losses and delays are printed for every cell.

pub mod line;
pub mod stand;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::Value;

use self::{
    line::{Line, Tally},
    stand::{Router, SERVER, Stand},
};
use super::report::{Bar, kernel, print_bars};

/// What limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The policer, dropping.
    Drop,
    /// The policer, marking.
    Ecn,
    /// `tbf` behind the line; the policer is off.
    Tbf,
}

impl Limit {
    const ALL: [Self; 3] = [Self::Drop, Self::Ecn, Self::Tbf];
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The rate in megabits a second.
    pub megabits: u64,
    /// Flows.
    pub flows: u32,
    /// Round trip in milliseconds, as far as the line makes it.
    pub rtt_ms: f64,
    /// What limits.
    pub limit: Limit,
    /// Seconds that count.
    pub seconds: u32,
    /// Payload that arrived, in megabits a second.
    pub goodput: f64,
    /// Goodput over the rate.
    pub share: f64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Mean round trip that the flows saw, in microseconds.
    pub seen_rtt_us: f64,
    /// Packets by the policer: conform, burst, marked, dropped; warm-up included.
    pub passages: [u64; 4],
    /// Packets that the shaper's queue refused, and what the line lost itself.
    pub refused: u64,
    /// Frames lost by the line.
    pub line_lost: i64,
    /// How late the line was, in microseconds: half of the frames, 999 of 1000.
    pub line_late_us: [u64; 2],
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Kernel release.
    pub kernel: String,
    /// Seconds of a cell that count, at the least, and before them some that do not.
    pub seconds: [u32; 2],
    /// TCP goodput through the line without delay and without any limit, megabits a second.
    pub line_capacity: f64,
    /// Measurements.
    pub cells: Vec<Cell>,
    /// Promises.
    pub bars: Vec<Bar>,
}

/// Measures everything, printing as it goes.
pub fn run(object: &[u8], quick: bool) -> Result<Report> {
    let seconds = if quick { [5, 1] } else { [9, 2] };
    let rtts: &[f64] = if quick { &[10.0] } else { &[0.2, 10.0, 40.0] };
    let stand = Stand::new()?;
    let mut bench = Bench { router: stand.router(object)?, line: stand.line()?, stand: &stand, seconds };
    let _server = stand.server()?;
    let capacity = bench.capacity()?;
    println!(
        "policer: {} s a cell at the least, after {} s, CUBIC, Linux {}",
        seconds[0],
        seconds[1],
        kernel()
    );
    println!("the delay line alone carries {capacity:.0} Mbit/s of TCP goodput");
    let mut report =
        Report { kernel: kernel(), seconds, line_capacity: capacity, cells: Vec::new(), bars: Vec::new() };
    println!(
        "\n  Mbit/s flows  RTT ms  limit  seconds  goodput   share   again    RTT us   marked  dropped  refused   line: lost, late us"
    );
    for megabits in [50, 500] {
        for flows in [1, 8] {
            for rtt_ms in rtts {
                for limit in Limit::ALL {
                    report.add(bench.cell(megabits, flows, *rtt_ms, limit)?);
                }
            }
        }
    }
    report.judge();
    Ok(report)
}

struct Bench<'s> {
    router: Router,
    line: Line,
    stand: &'s Stand,
    seconds: [u32; 2],
}

impl Bench<'_> {
    /// What eight flows get through edge and line when nothing limits them.
    fn capacity(&mut self) -> Result<f64> {
        self.stand.set_ecn(false)?;
        self.stand.shape(None)?;
        self.router.police(None, false)?;
        self.line.set_delay(Duration::ZERO);
        let flows = iperf(self.stand, 8, [3, 1])?;
        self.line.take_tally()?;
        Ok(flows.megabits)
    }

    fn cell(&mut self, megabits: u64, flows: u32, rtt_ms: f64, limit: Limit) -> Result<Cell> {
        self.stand.set_ecn(limit == Limit::Ecn)?;
        let tbf = (limit == Limit::Tbf).then(|| tbf(megabits));
        self.stand.shape(tbf.as_deref())?;
        self.line.set_delay(Duration::from_secs_f64(rtt_ms / 2e3));
        self.router.police((limit != Limit::Tbf).then_some(megabits), limit == Limit::Ecn)?;
        let before = self.router.passages();
        let [least, omitted] = self.seconds;
        let seconds = if limit == Limit::Tbf { least } else { least.max(periods(megabits, flows, rtt_ms)) };
        let seen = iperf(self.stand, flows, [seconds, omitted])
            .with_context(|| format!("{megabits} Mbit/s, {flows} flows, {rtt_ms} ms, {limit:?}"))?;
        let after = self.router.passages();
        let Tally { refused, lost, late_us, .. } = self.line.take_tally()?;
        let mut passages = [0; 4];
        passages.iter_mut().zip(after).zip(before).for_each(|((sum, after), before)| *sum = after - before);
        Ok(Cell {
            megabits,
            flows,
            rtt_ms,
            limit,
            seconds,
            goodput: seen.megabits,
            share: seen.megabits / megabits as f64,
            retransmits: seen.retransmits,
            seen_rtt_us: seen.rtt_us,
            passages,
            refused,
            line_lost: lost,
            line_late_us: late_us,
        })
    }
}

/// Seconds in which a CUBIC flow that gets its share of the rate is cut back five times: after each cut its window W, in packets, is back
/// in the cube root of W x 0.3 / 0.4 seconds (RFC 9438, section 4.2).
fn periods(megabits: u64, flows: u32, rtt_ms: f64) -> u32 {
    let window = megabits as f64 * 1e6 * rtt_ms / 1e3 / (1_500.0 * 8.0) / f64::from(flows);
    (5.0 * (window * 0.3 / 0.4).cbrt()).ceil() as u32
}

/// The shaper: it counts Ethernet's 14 bytes too, so its rate is larger by those of full packets; 4 ms of burst, 50 ms of queue.
fn tbf(megabits: u64) -> String {
    let bits = megabits * 1_000_000 * 1_514 / 1_500;
    format!("rate {bits}bit burst {} latency 50ms", bits / 8 / 250)
}

/// What iperf3 found.
struct Seen {
    megabits: f64,
    retransmits: u64,
    rtt_us: f64,
}

fn iperf(stand: &Stand, flows: u32, [seconds, omitted]: [u32; 2]) -> Result<Seen> {
    let words = format!(
        "-n -10 iperf3 --client {SERVER} --json --congestion cubic --parallel {flows} --time {seconds} --omit {omitted} \
         --connect-timeout 5000"
    );
    let printed = stand.client.exec("nice", &words.split_whitespace().collect::<Vec<_>>())?;
    seen(&serde_json::from_str(&printed).context("cannot read iperf3's JSON")?)
}

fn seen(json: &Value) -> Result<Seen> {
    if let Some(error) = json["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let end = &json["end"];
    let megabits =
        end["sum_received"]["bits_per_second"].as_f64().context("iperf3 tells no throughput")? / 1e6;
    let retransmits = end["sum_sent"]["retransmits"].as_u64().unwrap_or_default();
    let streams = end["streams"].as_array().map_or(&[][..], Vec::as_slice);
    let rtts = streams.iter().filter_map(|stream| stream["sender"]["mean_rtt"].as_f64());
    let rtt_us = rtts.sum::<f64>() / streams.len().max(1) as f64;
    Ok(Seen { megabits, retransmits, rtt_us })
}

impl Report {
    fn add(&mut self, cell: Cell) {
        let [_, _, marked, dropped] = cell.passages;
        println!(
            "  {:>6} {:>5} {:>7} {:>6} {:>8} {:>8.1} {:>6.1}% {:>7} {:>9.0} {marked:>8} {dropped:>8} {:>8}   {}, {}/{}",
            cell.megabits,
            cell.flows,
            cell.rtt_ms,
            format!("{:?}", cell.limit).to_lowercase(),
            cell.seconds,
            cell.goodput,
            cell.share * 100.0,
            cell.retransmits,
            cell.seen_rtt_us,
            cell.refused,
            cell.line_lost,
            cell.line_late_us[0],
            cell.line_late_us[1],
        );
        self.cells.push(cell);
    }

    /// Only the cells of 10 ms have a promise.
    fn judge(&mut self) {
        for cell in self.cells.iter().filter(|cell| cell.rtt_ms == 10.0) {
            let bar = match cell.limit {
                Limit::Drop => 0.85,
                Limit::Ecn => 0.95,
                Limit::Tbf => continue,
            };
            let what = format!("{} Mbit/s, {} flows, 10 ms, {:?}", cell.megabits, cell.flows, cell.limit);
            self.bars.push(Bar::new(&what, cell.share, ">=", bar));
        }
        let lost: i64 = self.cells.iter().map(|cell| cell.line_lost).sum();
        self.bars.push(Bar::new("frames lost by the delay line", lost as f64, "<=", 0.0));
        print_bars(&self.bars);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn iperf3s_answer_is_read_and_its_error_is_one() {
        let stream = |rtt: u32| json!({"sender": {"mean_rtt": rtt}});
        let answer = json!({"end": {
            "sum_received": {"bits_per_second": 4.5e7},
            "sum_sent": {"retransmits": 7},
            "streams": [stream(100), stream(300)],
        }});
        let seen = seen(&answer).expect("an answer");
        assert_eq!((seen.megabits, seen.retransmits, seen.rtt_us), (45.0, 7, 200.0));
        assert!(super::seen(&json!({"error": "unable to connect"})).is_err());
        assert!(super::seen(&json!({"end": {}})).is_err());
    }

    #[test]
    fn a_cell_lasts_as_long_as_its_flows_take_to_come_back_five_times() {
        assert_eq!(periods(500, 1, 10.0), 34);
        assert_eq!(periods(50, 8, 0.2), 3);
    }

    #[test]
    fn the_shapers_rate_is_the_same_in_bytes_of_ip() {
        assert_eq!(tbf(150), "rate 151400000bit burst 75700 latency 50ms");
    }
}
