//! Loss by numbered packets: UDP datagrams at a steady pace from the customer's host to the Azure host, each with its number.
//!
//! Two threads, each inside its namespace. The receiver notes which numbers came and the longest time without any, so a failover
//! is measured as the traffic saw it. [`Report`] is computed from the notes alone.

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

use super::pacer::Pacer;
use crate::lab::{Lab, enter, plan};

/// Datagrams a second, unless asked for more.
pub const RATE: u32 = 1_000;
const PORT: u16 = 7007;
/// Bytes that may wait for the receiver.
const RECEIVE_BUFFER: usize = 64 << 20;
/// How long the receiver waits for the last ones.
const LAST: Duration = Duration::from_millis(500);

/// A probe that is running.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64>>,
    receivers: Vec<JoinHandle<Result<Arrivals>>>,
}

/// Numbers that arrived, and when.
type Arrivals = Vec<(u64, Instant)>;

/// What became of the datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Sent.
    pub sent: u64,
    /// Numbers that arrived at least once.
    pub received: u64,
    /// Numbers that never arrived.
    pub lost: u64,
    /// Arrived more than once.
    pub duplicates: u64,
    /// The longest time between two arrivals.
    pub longest_gap: Duration,
}

impl Probe {
    /// Starts sending. `from_port` varies the flow.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(lab: &Lab, ipv6: bool, from_port: u16) -> Result<Probe> {
        Probe::start_at(lab, ipv6, from_port, RATE)
    }

    /// The same at another rate.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start_at(lab: &Lab, ipv6: bool, from_port: u16, rate: u32) -> Result<Probe> {
        let (from, to) =
            if ipv6 { (plan::LAN.ipv6.0, plan::AZURE_IPV6) } else { (plan::LAN.ipv4.0, plan::AZURE_IPV4) };
        let from = SocketAddr::new(from.parse()?, from_port);
        let to = SocketAddr::new(to.parse()?, PORT);
        let to_namespace = lab.namespace("azure")?.name();
        Probe::between((lab.namespace("host")?.name(), from), (&[to_namespace], to), rate)
    }

    /// The same from one namespace to an address that several others have, at a rate of its own.
    ///
    /// # Errors
    /// As [`Probe::start`].
    pub fn between(
        (from_namespace, from): (&str, SocketAddr),
        (to_namespaces, to): (&[&str], SocketAddr),
        rate: u32,
    ) -> Result<Probe> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut receivers = Vec::new();
        for namespace in to_namespaces {
            let socket = enter::run(namespace, move || roomy(to))?;
            let stopped = Arc::clone(&stop);
            receivers.push(enter::on_thread(namespace, move || receive(&socket, &stopped))?);
        }
        let socket = enter::run(from_namespace, move || bound(from))?;
        let stopped = Arc::clone(&stop);
        let sender = enter::on_thread(from_namespace, move || send(&socket, to, rate, &stopped))?;
        Ok(Probe { stop, sender, receivers })
    }

    /// Stops sending, waits for the last datagrams and reports.
    ///
    /// # Errors
    /// When a socket failed on the way.
    pub fn stop(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(sent) = self.sender.join() else { bail!("the probe's sender panicked") };
        let mut arrived = Vec::new();
        for receiver in self.receivers {
            let Ok(notes) = receiver.join() else { bail!("a receiver of the probe panicked") };
            arrived.extend(notes?);
        }
        arrived.sort_unstable_by_key(|(_, at)| *at);
        Ok(report(sent?, &arrived))
    }
}

fn bound(address: SocketAddr) -> Result<UdpSocket> {
    UdpSocket::bind(address).with_context(|| format!("cannot open a UDP socket on {address}"))
}

/// With room for what arrives while the receiver has no CPU: what it would miss then is no loss of the router's.
fn roomy(address: SocketAddr) -> Result<UdpSocket> {
    let socket = bound(address)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
        .context("cannot enlarge the probe's buffer")?;
    Ok(socket)
}

fn send(socket: &UdpSocket, to: SocketAddr, rate: u32, stop: &AtomicBool) -> Result<u64> {
    let (mut pacer, mut number) = (Pacer::new(rate), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        pacer.wait();
        // An error here (no route for a moment, say) is a loss like any other: the number is missed at the far end.
        let _lost = socket.send_to(&number.to_be_bytes(), to);
        number += 1;
    }
    Ok(number)
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Result<Arrivals> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut arrived = Vec::new();
    let mut end = None;
    let mut datagram = [0; 8];
    while end.is_none_or(|end| Instant::now() < end) {
        if end.is_none() && stop.load(Ordering::Relaxed) {
            end = Some(Instant::now() + LAST);
        }
        if let Ok((8, _)) = socket.recv_from(&mut datagram) {
            arrived.push((u64::from_be_bytes(datagram), Instant::now()));
        }
    }
    Ok(arrived)
}

fn report(sent: u64, arrived: &[(u64, Instant)]) -> Report {
    let mut numbers: Vec<_> = arrived.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let received = numbers.len() as u64;
    let gaps = arrived.windows(2).map(|pair| pair[1].1.saturating_duration_since(pair[0].1));
    Report {
        sent,
        received,
        lost: sent.saturating_sub(received),
        duplicates: arrived.len() as u64 - received,
        longest_gap: gaps.max().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_duplicates_and_the_longest_gap_are_told_apart() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let arrived = [(0, at(0)), (1, at(1)), (1, at(2)), (5, at(40)), (6, at(41))];
        let expected =
            Report { sent: 8, received: 4, lost: 4, duplicates: 1, longest_gap: Duration::from_millis(38) };
        assert_eq!(report(8, &arrived), expected);
        assert_eq!(report(3, &[]).lost, 3);
    }
}
