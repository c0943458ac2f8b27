//! What a service manager is told (sd_notify): ready, stopping, and at intervals that the controller's loop still turns.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is told, and nothing fails. The watchdog's word comes from the owner task itself,
//! so that a stalled loop is noticed and not only a dead process; forwarding does not need it, and goes on meanwhile.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How the service manager is kept informed.
#[derive(Debug)]
pub struct Supervisor {
    /// Half of what the service manager waits for.
    every: Option<Duration>,
    told: Instant,
}

impl Supervisor {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub fn from_environment() -> Self {
        let mut usec = 0;
        let wants = sd_notify::watchdog_enabled(false, &mut usec);
        Self { every: wants.then(|| Duration::from_micros(usec) / 2), told: Instant::now() }
    }

    /// Set-up is done: sessions are being opened, the program is attached.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
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

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, what) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
