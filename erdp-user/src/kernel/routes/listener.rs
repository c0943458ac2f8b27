//! The socket of [`super`] and the task that feeds the [`Tracker`]: no rule of routing is here.
//!
//! The channel is bounded: when the controller is behind, the task waits, the socket's buffer fills, and the kernel says ENOBUFS, after
//! which everything is dumped. So nothing is lost but time.

use std::{
    io,
    time::{Duration, Instant},
};

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    task::JoinHandle,
};

use super::{Change, RouteEvent, Tracker, Watch, frames};
use crate::kernel::force_receive_buffer;

/// Receive buffer in bytes: a burst of some 15,000 routes fits while the task waits.
pub const RECEIVE_BUFFER: usize = 8 << 20;
/// Batches on their way to the controller.
const EVENTS_MAX: usize = 16;
/// Changes in a batch.
const BATCH: usize = 4_096;
/// Reads before what they say is passed on. The kernel packs at most 32 KiB into one.
const READS_MAX: usize = 64;
const READ_BYTES: usize = 64 << 10;

/// RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE; the last is RTNLGRP_NEXTHOP, of Linux 5.3.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
const GROUP_NEXTHOP: u32 = 32;

/// Why the kernel's routes cannot be heard.
#[derive(Debug, thiserror::Error)]
#[error(
    "listening to the kernel's routes: {what}: {error}; rtnetlink needs an AF_NETLINK socket (RestrictAddressFamilies)"
)]
pub struct RoutesError {
    what: &'static str,
    error: io::Error,
}

/// The task; it ends when this is dropped.
pub struct Listener {
    task: JoinHandle<()>,
}

impl Listener {
    /// Subscribes now; what is there already comes with the first [`RouteEvent::Complete`].
    pub fn open(
        watches: Vec<Watch>,
        buffer_bytes: usize,
    ) -> Result<(Self, mpsc::Receiver<RouteEvent>), RoutesError> {
        let failed = |what| move |error| RoutesError { what, error };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("opening a socket"))?;
        if let Err(error) = force_receive_buffer(&socket, buffer_bytes) {
            tracing::debug!(%error, "receive buffer of routes stays at its default");
        }
        let address = socket.bind_auto().map_err(failed("binding it"))?;
        for group in GROUPS {
            socket.add_membership(group).map_err(failed("subscribing"))?;
        }
        if let Err(error) = socket.add_membership(GROUP_NEXTHOP) {
            tracing::info!(%error, "this kernel has no nexthop objects");
        }
        socket.set_non_blocking(true).map_err(failed("setting it up"))?;
        // SAFETY: the socket owns its descriptor, and closes it when AsyncFd drops it, after it has been deregistered.
        let socket = unsafe { AsyncFd::register(socket) }
            .map_err(|error| RoutesError { what: "polling it", error: error.into() })?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let driver = Driver {
            socket,
            port: address.port_number(),
            tracker: Tracker::new(watches),
            started: Instant::now(),
            sender,
            buffer: Vec::with_capacity(READ_BYTES),
        };
        Ok((Self { task: tokio::spawn(driver.run()) }, events))
    }
}

impl Listener {
    /// Whether the task lives.
    pub fn lives(&self) -> bool {
        !self.task.is_finished()
    }

    /// Ends it as a fault in it would: for tests of what follows.
    pub fn end_task(&self) {
        self.task.abort();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Driver {
    socket: AsyncFd<Socket>,
    port: u32,
    tracker: Tracker,
    started: Instant,
    sender: mpsc::Sender<RouteEvent>,
    buffer: Vec<u8>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            self.ask();
            let until = self.tracker.poll_timeout().map(|at| at.saturating_sub(self.started.elapsed()));
            tokio::select! {
                ready = self.socket.readable() => {
                    if let Err(error) = ready.map(drop) {
                        tracing::error!(%error, "the kernel's routes are not heard any more: restart erdp");
                        return;
                    }
                    self.read();
                }
                () = tokio::time::sleep(until.unwrap_or(Duration::from_secs(3_600))) => {}
            }
            if self.tell().await.is_err() {
                return;
            }
        }
    }

    fn ask(&mut self) {
        let now = self.started.elapsed();
        while let Some((request, sequence)) = self.tracker.poll_request(now) {
            let kernel = SocketAddr::new(0, 0);
            match self.socket.get_ref().send_to(&request.bytes(sequence), &kernel, 0) {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(?request, %error, "asking for the kernel's routes");
                    self.tracker.handle_refusal(now);
                }
            }
        }
    }

    /// Takes what waits.
    fn read(&mut self) {
        for _ in 0..READS_MAX {
            self.buffer.clear();
            let buffer = &mut self.buffer;
            match self.socket.try_io(Interest::READABLE, |socket| socket.recv(buffer, 0)) {
                Ok(_) => {
                    let now = self.started.elapsed();
                    for frame in frames(&self.buffer, self.port) {
                        self.tracker.handle(frame, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::warn!(
                        "notifications about the kernel's routes were lost: reading all of them again"
                    );
                    self.tracker.handle_overrun();
                }
                Err(error) => {
                    tracing::warn!(%error, "reading the kernel's routes");
                    self.tracker.handle_overrun();
                }
            }
            self.ask();
        }
    }

    async fn tell(&mut self) -> Result<(), mpsc::error::SendError<RouteEvent>> {
        let changes: Vec<Change> = self.tracker.take_changes();
        for batch in changes.chunks(BATCH) {
            self.sender.send(RouteEvent::Changes(batch.to_vec())).await?;
        }
        if let Some(counts) = self.tracker.take_completion() {
            self.sender.send(RouteEvent::Complete(counts)).await?;
        }
        Ok(())
    }
}
