//! Probes: UDP datagrams at a steady pace from the customer to the VNet, each with its number and the time at which it left.
//!
//! Losses are told in the sender's time: from the last datagram before a gap in the numbers to the first one after it. The sender has
//! real-time priority, because the time for which it does not send counts as lost where something was lost beside it.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};

use super::{CE, HOST, Place};
use crate::{edge, lab::enter, traffic::pacer::Pacer};

/// Datagrams a second where time is measured.
pub const RATE: u32 = 10_000;
/// Everyday, where only a loss counts: each datagram costs the CPUs as much as a forwarded packet, eight times over.
const RATE_EVERYDAY: u32 = 2_500;
/// Flows are told apart by the other port.
pub(super) const PORT: u16 = 7007;
/// Bytes of a receive buffer: a second's datagrams, with what the kernel needs for each.
const BUFFER: usize = 16 << 20;
/// How long the receivers wait for the last ones.
const LAST: Duration = Duration::from_millis(300);

/// A datagram that has arrived: its number, when it left in nanoseconds of the sender, and at which MSEE.
type Arrived = (u64, u64, usize);

/// Probes of one flow that are running.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64>>,
    receivers: Vec<JoinHandle<Result<Vec<Arrived>>>>,
}

/// What became of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Sent.
    pub sent: u64,
    /// Numbers that never arrived.
    pub lost: u64,
    /// The longest loss in milliseconds of the sender.
    pub gap_ms: f64,
    /// How many came to each MSEE.
    pub at: [u64; 2],
}

/// A stretch of time without any datagram that has arrived, in milliseconds of the sender.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    /// When the last one before it left.
    pub from_ms: f64,
    /// How long it was.
    pub ms: f64,
}

/// Datagrams a second of a probe that looks for losses.
pub fn rate() -> u32 {
    if edge::is_full() { RATE } else { RATE_EVERYDAY }
}

impl Probe {
    /// Starts sending to see what is lost, [`rate`] a second; `from_port` chooses the flow.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(place: &Place, from_port: u16) -> Result<Probe> {
        Probe::start_at(place, from_port, rate())
    }

    /// Starts sending to see how long nothing arrives: [`RATE`] a second.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn timed(place: &Place, from_port: u16) -> Result<Probe> {
        Probe::start_at(place, from_port, RATE)
    }

    fn start_at(place: &Place, from_port: u16, rate: u32) -> Result<Probe> {
        let to = SocketAddr::new(HOST.parse()?, PORT);
        let from = SocketAddr::new(CE.0.1.parse()?, from_port);
        let stop = Arc::new(AtomicBool::new(false));
        let mut receivers = Vec::new();
        for (at, msee) in ["msee1", "msee2"].into_iter().enumerate() {
            let namespace = place.namespace(msee)?.name().to_owned();
            let socket = enter::run(&namespace, move || bound(to))?;
            let stopped = Arc::clone(&stop);
            receivers.push(enter::on_thread(&namespace, move || receive(&socket, at, &stopped))?);
        }
        let namespace = place.namespace("ce")?.name().to_owned();
        let socket = enter::run(&namespace, move || bound(from))?;
        let stopped = Arc::clone(&stop);
        let sender = enter::on_thread(&namespace, move || send(&socket, to, rate, &stopped))?;
        Ok(Probe { stop, sender, receivers })
    }

    /// Stops and reports.
    ///
    /// # Errors
    /// When a socket failed on the way.
    pub fn stop(self) -> Result<Report> {
        Ok(self.stop_in_detail()?.0)
    }

    /// The same, with every gap in which something was lost.
    ///
    /// # Errors
    /// When a socket failed on the way.
    pub fn stop_in_detail(self) -> Result<(Report, Vec<Gap>)> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(sent) = self.sender.join() else { bail!("the sender has panicked") };
        let mut arrived = Vec::new();
        for receiver in self.receivers {
            let Ok(part) = receiver.join() else { bail!("a receiver has panicked") };
            arrived.extend(part?);
        }
        Ok(report(sent?, arrived))
    }
}

pub(super) fn bound(address: SocketAddr) -> Result<UdpSocket> {
    let socket =
        UdpSocket::bind(address).with_context(|| format!("cannot open a UDP socket on {address}"))?;
    // A receiver that waits for a CPU must not lose what has arrived.
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("cannot make the receive buffer larger")?;
    Ok(socket)
}

fn send(socket: &UdpSocket, to: SocketAddr, rate: u32, stop: &AtomicBool) -> Result<u64> {
    // A sender that waits for a CPU while the link fails would make the gap longer than it was. Where this is not allowed it may.
    let _best_effort = erdp::kernel::datagram::make_realtime();
    let begin = Instant::now();
    let (mut pacer, mut number) = (Pacer::new(rate), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        pacer.wait();
        let mut datagram = [0; 16];
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        datagram[8..].copy_from_slice(&(begin.elapsed().as_nanos() as u64).to_be_bytes());
        // An error here (no route for a moment, say) is a loss like any other.
        let _lost = socket.send_to(&datagram, to);
        number += 1;
    }
    Ok(number)
}

fn receive(socket: &UdpSocket, at: usize, stop: &AtomicBool) -> Result<Vec<Arrived>> {
    // Nor may a receiver wait for longer than its buffer does, two seconds.
    let _best_effort = erdp::kernel::datagram::make_realtime();
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (mut arrived, mut end, mut datagram) = (Vec::new(), None, [0; 16]);
    while end.is_none_or(|end| Instant::now() < end) {
        if end.is_none() && stop.load(Ordering::Relaxed) {
            end = Some(Instant::now() + LAST);
        }
        if let Ok(16) = socket.recv(&mut datagram) {
            arrived.push((word_of(&datagram, 0), word_of(&datagram, 8), at));
        }
    }
    Ok(arrived)
}

/// The number that begins there.
pub(super) fn word_of(datagram: &[u8], from: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|at| datagram[from + at]))
}

fn report(sent: u64, mut arrived: Vec<Arrived>) -> (Report, Vec<Gap>) {
    let mut at = [0; 2];
    for (_, _, msee) in &arrived {
        at[*msee] += 1;
    }
    arrived.sort_unstable();
    arrived.dedup_by_key(|(number, ..)| *number);
    let missing = |pair: &&[Arrived]| pair[1].0 - pair[0].0 > 1;
    let gap =
        |pair: &[Arrived]| Gap { from_ms: pair[0].1 as f64 / 1e6, ms: (pair[1].1 - pair[0].1) as f64 / 1e6 };
    let gaps: Vec<Gap> = arrived.windows(2).filter(missing).map(gap).collect();
    let gap_ms = gaps.iter().map(|gap| gap.ms).fold(0.0, f64::max);
    (Report { sent, lost: sent.saturating_sub(arrived.len() as u64), gap_ms, at }, gaps)
}

#[cfg(test)]
mod tests {
    use super::{Gap, Report, report};

    #[test]
    fn a_loss_is_told_in_the_senders_time_and_lateness_is_none() {
        let arrived =
            vec![(1, 100_000, 0), (0, 0, 0), (2, 9_000_000, 0), (5, 12_500_000, 1), (6, 12_600_000, 1)];
        let (found, gaps) = report(7, arrived);
        assert_eq!(found, Report { sent: 7, lost: 2, gap_ms: 3.5, at: [3, 2] });
        assert_eq!(gaps, [Gap { from_ms: 9.0, ms: 3.5 }]);
        assert_eq!(report(3, vec![]).0.lost, 3);
    }
}
