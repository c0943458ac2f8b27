//! A steady stream of UDP datagrams from one namespace to another: what of it arrives is the goodput.
//!
//! The sender keeps its pace by small bursts, well below what the machine can forward, so that losses come from what else is going
//! on and not from the stream itself. Both ends may be kept to one CPU.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use socket2::SockRef;

use crate::lab::{enter, netns::Namespace};

/// Bursts a second.
const BURSTS: u32 = 1_000;
const LAST: Duration = Duration::from_millis(300);

/// What is sent: datagrams a second, and bytes in each.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Datagrams a second, rounded to whole bursts.
    pub per_second: u32,
    /// Bytes of data.
    pub bytes: usize,
}

/// A stream that flows.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// When there is no such CPU.
pub fn stay_on(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

impl Stream {
    /// Starts it between two ends, each a namespace and an address in it, on one CPU.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(
        from: (&Namespace, SocketAddr),
        to: (&Namespace, SocketAddr),
        pace: Pace,
        cpu: usize,
    ) -> Result<Stream> {
        let (stop, sent, received) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (near, far) = (from.1, to.1);
        let receiver = enter::run(to.0.name(), move || bound(far))?;
        let sender = enter::run(from.0.name(), move || bound(near))?;
        let (ends, count) = (Arc::clone(&stop), Arc::clone(&received));
        let hears = enter::on_thread(to.0.name(), move || {
            stay_on(cpu)?;
            receive(&receiver, &ends, &count)
        })?;
        let (ends, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let speaks = enter::on_thread(from.0.name(), move || {
            stay_on(cpu)?;
            send(&sender, far, pace, &ends, &count);
            Ok(())
        })?;
        Ok(Stream { stop, sent, received, threads: vec![speaks, hears] })
    }

    /// Datagrams sent and received up to now.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a socket failed on the way.
    pub fn stop(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let Ok(ended) = thread.join() else { bail!("a thread of the stream panicked") };
            ended?;
        }
        Ok((self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed)))
    }
}

fn bound(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // Room for what arrives while the receiver is not running: the kernel's limit need not know.
    SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
    Ok(socket)
}

fn send(socket: &UdpSocket, to: SocketAddr, pace: Pace, stop: &AtomicBool, sent: &AtomicU64) {
    let (begin, data) = (Instant::now(), vec![0x5a; pace.bytes]);
    let each = u64::from(pace.per_second / BURSTS);
    let mut bursts = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = begin + Duration::from_secs(1) / BURSTS * bursts;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for _ in 0..each {
            // What the own kernel refuses is not sent, and so not missed.
            sent.fetch_add(u64::from(socket.send_to(&data, to).is_ok()), Ordering::Relaxed);
        }
        bursts += 1;
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, received: &AtomicU64) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (mut end, mut datagram) = (None, [0; 2_048]);
    while end.is_none_or(|end| Instant::now() < end) {
        if end.is_none() && stop.load(Ordering::Relaxed) {
            end = Some(Instant::now() + LAST);
        }
        if socket.recv_from(&mut datagram).is_ok() {
            received.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
