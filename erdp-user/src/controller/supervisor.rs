//! What a service manager is told (sd_notify): ready, stopping, and at intervals that the controller's loop still turns.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is told, and nothing fails. The watchdog's word comes from the owner task itself,
//! so that a stalled loop is noticed and not only a dead process; forwarding does not need it, and goes on meanwhile.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How the service manager is kept informed.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// A third of what the service manager waits for.
    every: Option<Duration>,
    told: Instant,
}

impl Supervisor {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let watched = [std::process::id(), std::os::unix::process::parent_id()].map(u64::from);
        let every = watchdog(number("WATCHDOG_USEC"), number("WATCHDOG_PID"), watched);
        Self { every, told: Instant::now() }
    }

    /// Another process is the service from now on. The watchdog begins anew with it: that one does not know when we spoke last.
    pub fn succeeded_by(&self, process: u32) {
        tell(&[NotifyState::Watchdog, NotifyState::MainPid(process), NotifyState::Status("handed over")]);
    }

    /// Set-up is done: sessions are being opened, the program is attached.
    pub fn ready(&mut self, status: &str) {
        self.told = Instant::now();
        tell(&[NotifyState::Ready, NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    /// The loop turns.
    pub fn alive(&mut self) {
        if self.every.is_some_and(|every| self.told.elapsed() >= every) {
            self.told = Instant::now();
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// The end has begun.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

/// A third of the watchdog's time, so that one word may come late, if it watches us: by our own number, or by that of the daemon that has started us as its successor
/// ([`super::successor`]), because what is inherited with the environment was said to that one.
fn watchdog(usec: Option<u64>, pid: Option<u64>, watched: [u64; 2]) -> Option<Duration> {
    let is_ours = pid.is_some_and(|pid| watched.contains(&pid));
    usec.filter(|_| is_ours).map(|usec| Duration::from_micros(usec) / 3)
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, what) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdogs_word_is_for_the_process_it_names_and_for_that_ones_successor() {
        let third = Some(Duration::from_secs(10));
        for (usec, pid, expected) in [
            (Some(30_000_000), Some(7), third),
            (Some(30_000_000), Some(6), third),
            (Some(30_000_000), Some(8), None),
            (Some(30_000_000), None, None),
            (None, Some(7), None),
        ] {
            assert_eq!(watchdog(usec, pid, [7, 6]), expected, "{usec:?} for {pid:?}");
        }
    }
}
