//! Time and chance as arguments: the moments a session is told, its timers, and the wait between attempts.
//!
//! RFC 4271 section 10: timers are jittered by a factor between 0.75 and 1.0, so that peers that failed together do not come back together.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: how long after the driver's own start. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub for Moment {
    type Output = Duration;
    /// How long after `earlier`; zero if it is not.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The timers of one connection, in the order in which they fire when several have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Idle, waiting for the next attempt.
    IdleHold,
    /// Connect: give this attempt up. Active: make the next one.
    ConnectRetry,
    /// Nothing heard from the peer.
    Hold,
    /// Nothing could be written to the peer (RFC 9687).
    SendHold,
    /// Time to say that we are alive.
    Keepalive,
}

impl Timer {
    pub(super) const ALL: [Self; 5] =
        [Self::IdleHold, Self::ConnectRetry, Self::Hold, Self::SendHold, Self::Keepalive];
}

/// When each timer expires; `None` is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timers([Option<Moment>; Timer::ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Moment) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn at(&self, timer: Timer) -> Option<Moment> {
        self.0[timer as usize]
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops and returns the first timer that has expired.
    pub(super) fn take_expired(&mut self, now: Moment) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().find(|&timer| self.at(timer).is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }
}

/// The first wait after a failure.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after any number of failures.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A session that lived this long was a success: the next wait is the first again.
const STABLE: Duration = Duration::from_secs(10);

/// How long to wait before trying again: 1, 2, 4 ... 30 s, jittered.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    failures: u32,
    established: Option<Moment>,
    random: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { failures: 0, established: None, random: seed }
    }

    /// Remembers that a session came up.
    pub(super) fn established(&mut self, now: Moment) {
        self.established = Some(now);
    }

    /// Forgets all failures.
    pub(super) fn forget(&mut self) {
        self.failures = 0;
    }

    /// When to try again after a failure now.
    pub(super) fn next(&mut self, now: Moment) -> Moment {
        if self.established.take().is_some_and(|since| now - since >= STABLE) {
            self.failures = 0;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(5)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        now + self.jittered(wait)
    }

    /// `duration` times 0.75 to 1.0.
    pub(super) fn jittered(&mut self, duration: Duration) -> Duration {
        // SplitMix64: chance good enough to part two timers, from a seed a test can fix.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let permille = 750 + ((mixed ^ (mixed >> 31)) % 251) as u32;
        duration.saturating_mul(permille) / 1000
    }
}

/// The longest wait after any number of overflows.
const LONGEST_OVERFLOW_WAIT: Duration = Duration::from_secs(3600);

/// How long a peer stays away that sent too many prefixes: the configured wait, doubled each time to at most an hour. A peer that
/// kept to the limit for as long as it was away last begins anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Overflows {
    count: u32,
    back: Option<Moment>,
}

impl Overflows {
    pub(super) fn next(&mut self, now: Moment, first: Duration) -> Duration {
        let last = first.saturating_mul(1 << self.count.saturating_sub(1).min(12)).min(LONGEST_OVERFLOW_WAIT);
        if self.back.is_some_and(|back| now - back >= last) {
            self.count = 0;
        }
        let longest = LONGEST_OVERFLOW_WAIT.max(first);
        let wait = first.saturating_mul(1 << self.count.min(12)).min(longest);
        self.count = self.count.saturating_add(1);
        self.back = Some(now + wait);
        wait
    }

    /// When the peer may be back, if that is still to come.
    pub(super) fn until(&self, now: Moment) -> Option<Moment> {
        self.back.filter(|back| *back > now)
    }

    /// As another process has left it.
    pub(super) fn resume(&mut self, back: Moment, count: u32) {
        (self.count, self.back) = (count, Some(back));
    }

    /// How often it has happened, and until when the peer is or was away for it; `None`: it has not.
    pub(super) fn away(&self) -> Option<(u32, Moment)> {
        self.back.map(|back| (self.count, back))
    }

    /// An operator wants it back now; how often it has happened is not forgotten.
    pub(super) fn forgive(&mut self, now: Moment) {
        self.back = self.back.map(|back| back.min(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_one_second_to_thirty_and_are_jittered() {
        let mut backoff = Backoff::new(7);
        let now = Moment(Duration::from_secs(100));
        for nominal in [1, 2, 4, 8, 16, 30, 30, 30] {
            let wait = backoff.next(now) - now;
            let nominal = Duration::from_secs(nominal);
            assert!(wait <= nominal && wait >= nominal * 3 / 4, "{wait:?} of {nominal:?}");
        }
    }

    #[test]
    fn a_session_that_lived_resets_the_wait_and_one_that_flapped_does_not() {
        let at = |secs| Moment(Duration::from_secs(secs));
        let mut backoff = Backoff::new(7);
        for second in 0..6 {
            backoff.next(at(second));
        }
        backoff.established(at(10));
        assert!(backoff.next(at(12)) - at(12) > Duration::from_secs(20), "2 s of life are a flap");
        backoff.established(at(100));
        assert!(backoff.next(at(110)) - at(110) <= Duration::from_secs(1), "10 s of life are a success");
    }

    #[test]
    fn d2_each_overflow_doubles_the_wait_up_to_an_hour_and_good_conduct_begins_anew() {
        let (mut overflows, mut now, first) =
            (Overflows::default(), Moment::default(), Duration::from_secs(60));
        for expected in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            let wait = overflows.next(now, first);
            assert_eq!(wait, Duration::from_secs(expected));
            now = now + wait + Duration::from_secs(1);
        }
        let quiet = now + Duration::from_secs(3600);
        assert_eq!(overflows.next(quiet, first), first);
    }

    #[test]
    fn jitter_spreads_over_the_whole_range() {
        let mut backoff = Backoff::new(1);
        let waits: Vec<_> = (0..1000).map(|_| backoff.jittered(Duration::from_secs(1)).as_millis()).collect();
        assert!(waits.iter().all(|wait| (750..=1000).contains(wait)));
        assert!(waits.iter().any(|&wait| wait < 770) && waits.iter().any(|&wait| wait > 980));
    }

    #[test]
    fn expired_timers_come_one_by_one_in_order() {
        let at = |secs| Moment(Duration::from_secs(secs));
        let mut timers = Timers::default();
        timers.set(Timer::Keepalive, at(1));
        timers.set(Timer::Hold, at(3));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.take_expired(at(0)), None);
        assert_eq!(timers.take_expired(at(5)), Some(Timer::Hold));
        assert_eq!(timers.take_expired(at(5)), Some(Timer::Keepalive));
        assert_eq!((timers.take_expired(at(5)), timers.next()), (None, None));
    }
}
