//! A delay line in user space: every frame that comes in at one interface leaves at the other after a fixed time, both ways.
//!
//! This machine's kernel may have no netem. Two packet sockets (packet(7); a socket never hears what it has sent itself), and a
//! thread each way that is ahead of everybody else's: it reads what has come, notes when it is due, sends what is due, and
//! sleeps until the next frame comes or is due, to the nanosecond. Frames are counted where the kernel counts them too, so
//! that what was lost on the way is known and not assumed; and how late each left.

use std::{
    collections::VecDeque,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
            sockopt::{RcvBufForce, SndBufForce},
        },
        time::TimeSpec,
    },
};

use crate::{bench::pinned, lab::enter};

/// Room for frames that have come while the line was sending, and for those that wait behind it.
const ROOM: usize = 64 << 20;
/// The longest frame: nothing here is larger than an MTU of 1500 with its header.
const FRAME_MAX: usize = 2048;
/// Frames read at once before those that are due have their turn.
const BURST: usize = 64;
/// How late frames were, in steps of 10 us.
const STEPS: usize = 1_000;

/// A running delay line; it ends when dropped.
pub struct Line {
    shared: Arc<Shared>,
    namespace: String,
    interfaces: [String; 2],
    before: [u64; 2],
    threads: Vec<JoinHandle<Result<()>>>,
}

struct Shared {
    delay_ns: AtomicU64,
    ends: AtomicBool,
    ways: [Way; 2],
}

/// What one way has done.
struct Way {
    taken: AtomicU64,
    sent: AtomicU64,
    refused: AtomicU64,
    late: Vec<AtomicU64>,
}

/// What a line has done since the last question.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Frames that left.
    pub sent: u64,
    /// Frames that the queue behind the line (a shaper) refused.
    pub refused: u64,
    /// Frames that came to its interfaces and neither left nor were refused.
    pub lost: i64,
    /// How late a frame left, in microseconds: half of them, and 999 of 1000.
    pub late_us: [u64; 2],
}

impl Line {
    /// A line between two interfaces of a namespace.
    pub fn start(namespace: &str, interfaces: [&str; 2]) -> Result<Self> {
        let interfaces = interfaces.map(str::to_owned);
        let names = interfaces.clone();
        let sockets = enter::run(namespace, move || {
            Ok([Arc::new(packet_socket(&names[0])?), Arc::new(packet_socket(&names[1])?)])
        })?;
        let shared = Arc::new(Shared {
            delay_ns: AtomicU64::new(0),
            ends: AtomicBool::new(false),
            ways: [Way::new(), Way::new()],
        });
        let threads = [0, 1]
            .map(|way| {
                let (shared, from, to) = (shared.clone(), sockets[way].clone(), sockets[1 - way].clone());
                thread::spawn(move || {
                    pinned::ahead_of_others();
                    shared.carry(way, &from, &to)
                })
            })
            .into();
        let namespace = namespace.to_owned();
        let mut line = Self { shared, namespace, interfaces, before: [0; 2], threads };
        line.before = line.received()?;
        Ok(line)
    }

    /// How long each frame is held, each way; for frames that come from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.delay_ns.store(delay.as_nanos() as u64, Relaxed);
    }

    /// What was done since the last call; waits until no frame is on its way.
    pub fn take_tally(&mut self) -> Result<Tally> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let lost = loop {
            let received = self.received()?;
            let lost: i64 = (0..2)
                .map(|way| {
                    let left = &self.shared.ways[way];
                    (received[way] - self.before[way]) as i64
                        - (left.sent.load(Relaxed) + left.refused.load(Relaxed)) as i64
                })
                .sum();
            if lost == 0 || Instant::now() > deadline {
                self.before = received;
                break lost;
            }
            thread::sleep(Duration::from_millis(20));
        };
        for thread in &self.threads {
            ensure!(!thread.is_finished(), "the delay line has stopped");
        }
        let mut tally = Tally { lost, ..Tally::default() };
        let mut late = vec![0u64; STEPS];
        for way in &self.shared.ways {
            tally.sent += way.sent.swap(0, Relaxed);
            tally.refused += way.refused.swap(0, Relaxed);
            way.taken.store(0, Relaxed);
            late.iter_mut().zip(&way.late).for_each(|(sum, step)| *sum += step.swap(0, Relaxed));
        }
        tally.late_us = [500, 999].map(|share| quantile(&late, share));
        Ok(tally)
    }

    /// Frames that have come to the two interfaces by the kernel's own count.
    fn received(&self) -> Result<[u64; 2]> {
        let interfaces = self.interfaces.clone();
        enter::run(&self.namespace, move || {
            let table =
                fs::read_to_string("/proc/thread-self/net/dev").context("/proc/thread-self/net/dev")?;
            let count = |name: &str| {
                let line =
                    table.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
                let packets = line.and_then(|counts| counts.split_whitespace().nth(1)?.parse().ok());
                packets.with_context(|| format!("no counters of {name}"))
            };
            Ok([count(&interfaces[0])?, count(&interfaces[1])?])
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.ends.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // What it had to say was said by `take_tally`.
            let _ended = thread.join();
        }
    }
}

impl Way {
    fn new() -> Self {
        let late = (0..STEPS).map(|_| AtomicU64::new(0)).collect();
        Self { taken: 0.into(), sent: 0.into(), refused: 0.into(), late }
    }

    fn note(&self, late: Duration) {
        let step = (late.as_micros() as usize / 10).min(STEPS - 1);
        self.late[step].fetch_add(1, Relaxed);
    }
}

impl Shared {
    /// One way, until the line ends.
    fn carry(&self, way: usize, from: &OwnedFd, to: &OwnedFd) -> Result<()> {
        let way = &self.ways[way];
        let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut spare: Vec<Vec<u8>> = Vec::new();
        while !self.ends.load(Relaxed) {
            for _ in 0..BURST {
                let mut frame = spare.pop().unwrap_or_default();
                frame.resize(FRAME_MAX, 0);
                match recv(from.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                    Ok(len) => frame.truncate(len),
                    Err(Errno::EAGAIN) => {
                        spare.push(frame);
                        break;
                    }
                    Err(error) => bail!("the delay line cannot read: {error}"),
                }
                way.taken.fetch_add(1, Relaxed);
                held.push_back((Instant::now() + Duration::from_nanos(self.delay_ns.load(Relaxed)), frame));
            }
            while let Some((due, _)) = held.front() {
                let now = Instant::now();
                if *due > now {
                    break;
                }
                way.note(now - *due);
                let Some((_, frame)) = held.pop_front() else { break };
                match send(to.as_raw_fd(), &frame, MsgFlags::empty()) {
                    Ok(_) => way.sent.fetch_add(1, Relaxed),
                    Err(Errno::ENOBUFS) => way.refused.fetch_add(1, Relaxed),
                    Err(error) => bail!("the delay line cannot send {} bytes: {error}", frame.len()),
                };
                spare.push(frame);
            }
            let until = held.front().map(|(due, _)| due.saturating_duration_since(Instant::now()));
            let patience = until.unwrap_or(Duration::from_millis(100));
            if !patience.is_zero() {
                let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                match ppoll(&mut ready, Some(TimeSpec::from_duration(patience)), None) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => bail!("the delay line cannot wait: {error}"),
                }
            }
        }
        Ok(())
    }
}

/// A socket for all frames of one interface.
fn packet_socket(interface: &str) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("packet socket (needs root)")?;
    setsockopt(&socket, RcvBufForce, &ROOM).context("SO_RCVBUFFORCE")?;
    // A shaper behind the line is to refuse what is too much, not to hold the line up.
    setsockopt(&socket, SndBufForce, &ROOM).context("SO_SNDBUFFORCE")?;
    let address = getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {interface}"))?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("binding to {interface}"))?;
    Ok(socket)
}

/// The first step at or below which that many of 1000 lie, in microseconds.
fn quantile(steps: &[u64], share: u64) -> u64 {
    let total: u64 = steps.iter().sum();
    let mut sum = 0;
    let at = steps.iter().position(|step| {
        sum += step;
        sum * 1_000 >= total * share
    });
    at.unwrap_or(0) as u64 * 10
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn half_of_the_frames_and_999_of_1000_are_found_in_the_steps() {
        let mut steps = vec![0; 100];
        (steps[0], steps[3], steps[50]) = (600, 398, 2);
        assert_eq!((quantile(&steps, 500), quantile(&steps, 998), quantile(&steps, 999)), (0, 30, 500));
    }
}
