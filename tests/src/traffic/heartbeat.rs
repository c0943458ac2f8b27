//! A heartbeat through the edge's slow path: echo requests as long as a BFD control packet, every 50 ms as BFD would send them.
//!
//! The reply is made by the edge's kernel, so each beat goes the way of what is punted and back. Who detects a failure after three
//! missed beats (RFC 5880 section 6.8.4) looks at one number: the longest time without a reply.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use super::{raw::run_first, stream::stay_on};
use crate::lab::{enter, netns::Namespace};

/// Between two beats.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// Missed beats that make a failure.
pub const DETECT_MULT: u32 = 3;
/// Of a BFD control packet without authentication (RFC 5880 section 4.1); the ICMP header is as long as UDP's.
const BFD_BYTES: usize = 24;

/// A heart that beats.
#[derive(Debug)]
pub struct Heartbeat {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Beats>>,
}

/// What has become of the beats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beats {
    /// Requests.
    pub sent: u32,
    /// Replies.
    pub received: u32,
    /// The longest time without a reply.
    pub longest_gap: Duration,
}

impl Beats {
    /// Whether BFD with these timers would have said "down".
    pub fn has_failed(&self) -> bool {
        self.longest_gap >= INTERVAL * DETECT_MULT
    }
}

impl Heartbeat {
    /// Begins in a namespace, towards an address of the edge, on one CPU and before all that is less urgent there.
    ///
    /// # Errors
    /// When a ping socket cannot be opened.
    pub fn start(from: &Namespace, to: IpAddr, cpu: usize) -> Result<Heartbeat> {
        from.sysctl("ipv4/ping_group_range", "0 0")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let socket = enter::run(from.name(), move || open(to))?;
        let thread = enter::on_thread(from.name(), move || {
            stay_on(cpu)?;
            run_first()?;
            beat(&socket, SocketAddr::new(to, 0), &stopped)
        })?;
        Ok(Heartbeat { stop, thread })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a request could not be sent.
    pub fn stop(self) -> Result<Beats> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(beats) = self.thread.join() else { bail!("the heartbeat's thread panicked") };
        beats
    }
}

fn open(to: IpAddr) -> Result<UdpSocket> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    Ok(Socket::new(domain, Type::DGRAM, Some(protocol)).context("cannot open a ping socket")?.into())
}

fn beat(socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool) -> Result<Beats> {
    let request = if to.is_ipv4() { 8 } else { 128 };
    let (begin, mut beats) = (Instant::now(), Beats::default());
    let mut last = begin;
    while !stop.load(Ordering::Relaxed) {
        let mut packet = [0; 8 + BFD_BYTES];
        packet[0] = request;
        packet[6..8].copy_from_slice(&(beats.sent as u16).to_be_bytes());
        socket.send_to(&packet, to).with_context(|| format!("cannot send a beat to {to}"))?;
        beats.sent += 1;
        let due = begin + INTERVAL * beats.sent;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            if socket.recv_from(&mut packet).is_ok() {
                let now = Instant::now();
                beats.longest_gap = beats.longest_gap.max(now - last);
                (beats.received, last) = (beats.received + 1, now);
            }
        }
    }
    // Those that are still missing at the end count as a gap too.
    beats.longest_gap = beats.longest_gap.max(last.elapsed());
    Ok(beats)
}
