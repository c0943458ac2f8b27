//! What a loop that accepts connections does when it cannot: it waits a little, and logs only now and then.
//!
//! A process without free file descriptors is refused by `accept(2)` at once and without end, because the connection stays in the queue.
//! A loop that tries again at once keeps a CPU busy and fills the log. [`Pause`] decides, with the time as an argument; [`Pause::after`]
//! carries it out.

use std::{
    io,
    time::{Duration, Instant},
};

/// The first pause; each further one in a row is twice as long.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause: a client waits so long at most once descriptors are free again.
const LONGEST: Duration = Duration::from_secs(1);
/// Between two lines of the log about the same loop.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The failures of one loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    in_a_row: u32,
    logged: Option<Instant>,
    left_out: u64,
}

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// So long nothing is accepted; zero: the next connection may be better.
    pub wait: Duration,
    /// It is logged, with the number of failures that were not.
    pub log: Option<u64>,
}

impl Pause {
    /// A connection was accepted.
    pub fn handle_accepted(&mut self) {
        self.in_a_row = 0;
    }

    /// None was. An error of one connection (accept(2) passes them on) needs no pause.
    pub fn handle_error(&mut self, error: &io::Error, now: Instant) -> Verdict {
        let wait = if is_of_one_connection(error) {
            Duration::ZERO
        } else {
            let wait = SHORTEST.saturating_mul(1 << self.in_a_row.min(8)).min(LONGEST);
            self.in_a_row = self.in_a_row.saturating_add(1);
            wait
        };
        let is_due = self.logged.is_none_or(|at| now.saturating_duration_since(at) >= LOG_EVERY);
        if !is_due {
            self.left_out = self.left_out.saturating_add(1);
            return Verdict { wait, log: None };
        }
        self.logged = Some(now);
        Verdict { wait, log: Some(std::mem::take(&mut self.left_out)) }
    }

    /// Logs a failure to accept on `socket`, if it is time, and waits.
    pub async fn after(&mut self, socket: &str, error: &io::Error) {
        let verdict = self.handle_error(error, Instant::now());
        if let Some(left_out) = verdict.log {
            tracing::warn!(socket, %error, left_out, "no connection can be accepted");
        }
        // Also after an error of one connection others get their turn.
        tokio::task::yield_now().await;
        tokio::time::sleep(verdict.wait).await;
    }
}

/// Whether an error is about the connection that would have been accepted, and not about us.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    let is_ours =
        matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM));
    let kinds = [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut];
    !is_ours && kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_descriptors_an_accept_loop_waits_longer_and_longer_and_logs_once_in_ten_seconds() {
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let mut pause = Pause::default();
        let (start, mut now) = (Instant::now(), Instant::now());
        let (mut lines, mut tries) = (0, 0);
        let mut waits = Vec::new();
        while now.saturating_duration_since(start) < Duration::from_secs(60) {
            let verdict = pause.handle_error(&error, now);
            lines += u32::from(verdict.log.is_some());
            waits.push(verdict.wait);
            now += verdict.wait;
            tries += 1;
        }
        assert!(lines <= 7, "{lines} lines a minute");
        assert!(tries <= 70, "{tries} tries a minute");
        assert_eq!(waits[..5], [100, 200, 400, 800, 1_000].map(Duration::from_millis));
        pause.handle_accepted();
        assert_eq!(pause.handle_error(&error, now).wait, SHORTEST, "it has worked meanwhile");
    }

    #[test]
    fn what_was_left_out_of_the_log_is_counted_in_its_next_line() {
        let error = io::Error::from_raw_os_error(libc::ENFILE);
        let mut pause = Pause::default();
        let now = Instant::now();
        let logged = |verdict: Verdict| verdict.log;
        assert_eq!(logged(pause.handle_error(&error, now)), Some(0));
        for _ in 0..3 {
            assert_eq!(logged(pause.handle_error(&error, now)), None);
        }
        assert_eq!(logged(pause.handle_error(&error, now + LOG_EVERY)), Some(3));
    }

    #[test]
    fn a_connection_that_was_given_up_keeps_no_other_waiting() {
        let mut pause = Pause::default();
        for number in [libc::ECONNABORTED, libc::ECONNRESET] {
            let verdict = pause.handle_error(&io::Error::from_raw_os_error(number), Instant::now());
            assert_eq!(verdict.wait, Duration::ZERO);
        }
    }
}
