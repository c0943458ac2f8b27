//! When the next datagram of a steady flow is due.
//!
//! A sender that had no CPU for a while must not send at once what it has missed: a veth's ring holds 256 packets (`VETH_RING_SIZE`,
//! Linux 6.18), and a longer burst would lose some of them before the router sees any.

use std::time::{Duration, Instant};

/// Datagrams that may be sent at once after a wait.
const BURST_MAX: u32 = 64;

/// The pace of a flow.
#[derive(Debug)]
pub struct Pacer {
    interval: Duration,
    due: Instant,
}

impl Pacer {
    /// Of so many datagrams a second; the first is due now.
    pub fn new(per_second: u32) -> Pacer {
        Pacer { interval: Duration::from_secs(1) / per_second.max(1), due: Instant::now() }
    }

    /// Sleeps until the next one is due.
    pub fn wait(&mut self) {
        let now = Instant::now();
        let due = self.next(now);
        std::thread::sleep(due.saturating_duration_since(now));
    }

    /// When the next one is due, seen at `now`.
    fn next(&mut self, now: Instant) -> Instant {
        let earliest = now.checked_sub(self.interval * BURST_MAX).unwrap_or(now);
        let due = self.due.max(earliest);
        self.due = due + self.interval;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_sender_sends_a_bounded_burst_and_then_at_its_rate() {
        let mut pacer = Pacer::new(1_000);
        let begin = pacer.due;
        let at = |ms: u64| begin + Duration::from_millis(ms);
        assert_eq!([0, 0, 1].map(|now| pacer.next(at(now))), [at(0), at(1), at(2)]);
        let late = (0..200).filter(|_| pacer.next(at(5_000)) <= at(5_000)).count();
        assert_eq!(late, BURST_MAX as usize + 1);
    }
}
