//! What a service manager is told (sd_notify): ready, stopping, and at intervals that the controller's loop still turns.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is told, and nothing fails. The watchdog's word comes from the owner task itself,
//! so that a stalled loop is noticed and not only a dead process; forwarding does not need it, and goes on meanwhile.
//!
//! The loop waits for no service manager: one that reads nothing has a full socket soon (`net.unix.max_dgram_qlen`, 10), and a send that
//! blocks would stop the loop for as long. So what finds no room is not sent. The next liveness signal comes by itself, and readiness is
//! repeated with it until it was taken.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

/// How the service manager is kept informed.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// A third of what the service manager waits for.
    every: Option<Duration>,
    told: Instant,
    /// Its socket (`NOTIFY_SOCKET`); none: nobody is told.
    socket: Option<OsString>,
    /// The status with which it is to be told that we are ready, if it was not.
    owed: Option<String>,
}

impl Supervisor {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let watched = [std::process::id(), std::os::unix::process::parent_id()].map(u64::from);
        let every = watchdog(number("WATCHDOG_USEC"), number("WATCHDOG_PID"), watched);
        Self { every, told: Instant::now(), socket: std::env::var_os("NOTIFY_SOCKET"), owed: None }
    }

    /// Another process is the service from now on. The watchdog begins anew with it: that one does not know when we spoke last.
    pub fn succeeded_by(&self, process: u32) {
        self.tell(&[
            NotifyState::Watchdog,
            NotifyState::MainPid(process),
            NotifyState::Status("handed over"),
        ]);
    }

    /// Set-up is done: sessions are being opened, the program is attached.
    pub fn ready(&mut self, status: &str) {
        self.told = Instant::now();
        let is_told = self.tell(&[NotifyState::Ready, NotifyState::Watchdog, NotifyState::Status(status)]);
        self.owed = (!is_told).then(|| status.to_owned());
    }

    /// The loop turns.
    pub fn alive(&mut self) {
        if let Some(status) = self.owed.take() {
            return self.ready(&status);
        }
        if self.every.is_some_and(|every| self.told.elapsed() >= every) {
            self.told = Instant::now();
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// False: it has no room.
    fn tell(&self, what: &[NotifyState<'_>]) -> bool {
        let Some(socket) = &self.socket else { return true };
        let text: String = what.iter().map(|state| format!("{state}\n")).collect();
        match send(socket, text.as_bytes()) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "the service manager cannot be told");
                error.kind() != io::ErrorKind::WouldBlock
            }
        }
    }
}

/// Sends a datagram at once or not at all. A name that begins with `@` is an abstract one (sd_notify(3)).
fn send(socket: &OsStr, text: &[u8]) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    sender.send_to_addr(text, &address).map(drop)
}

/// A third of the watchdog's time, so that one word may come late, if it watches us: by our own number, or by that of the daemon that has started us as its successor
/// ([`super::successor`]), because what is inherited with the environment was said to that one.
fn watchdog(usec: Option<u64>, pid: Option<u64>, watched: [u64; 2]) -> Option<Duration> {
    let is_ours = pid.is_some_and(|pid| watched.contains(&pid));
    usec.filter(|_| is_ours).map(|usec| Duration::from_micros(usec) / 3)
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

    #[test]
    fn a_service_manager_that_reads_nothing_keeps_nobody_waiting_and_is_told_of_readiness_when_it_reads_again()
     {
        let path = std::env::temp_dir().join(format!("erdp-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut supervisor = Supervisor {
            every: Some(Duration::ZERO),
            told: Instant::now(),
            socket: Some(path.clone().into()),
            owed: None,
        };
        let begin = Instant::now();
        (0..2_000).for_each(|_| supervisor.alive());
        supervisor.ready("running");
        supervisor.alive();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let mut buffer = [0; 128];
        while manager.recv(&mut buffer).is_ok() {}
        supervisor.alive();
        let count = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"READY=1\nWATCHDOG=1\nSTATUS=running\n");
        supervisor.alive();
        let count = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"WATCHDOG=1\n");
        std::fs::remove_file(&path).unwrap();
    }
}
