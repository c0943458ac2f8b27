//! The threads and tasks that must live as long as the router does: each is looked at every tick, and its end is noticed however it came
//! about (an error, a panic, a loop that was left).
//!
//! Some begin again with the state that they had: BFD from its records, the watch of carriers, a peer's session, whose routes are withdrawn as
//! after any loss. The others hold what nobody else can give back (sockets, subscriptions, who may connect): then the process ends
//! without undoing anything, as after a crash. The packet path forwards on, and the process that the service manager starts next adopts it.
//!
//! [`Watch`] decides and has no clock; the controller says what is dead and carries out what it orders.

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio::task::JoinHandle;

use super::{Controller, Inputs};
use crate::{
    bgp::{PeerId, Speaker},
    kernel::routes::Listener,
};

/// A thread or task that must live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The thread that keeps the time of BFD.
    Bfd,
    /// The thread that tells lost carriers to the packet path.
    Carrier,
    /// The session with a peer.
    Peer(PeerId),
    /// The listener on port 179, which knows who may connect.
    Listener,
    /// Netlink: links, addresses, neighbours.
    Kernel,
    /// Netlink: the kernel's routes.
    KernelRoutes,
    /// The control socket.
    Control,
    /// The metrics' socket.
    Metrics,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bfd => "the BFD thread",
            Self::Carrier => "the thread that watches carriers",
            Self::Peer(_) => "the task of a BGP session",
            Self::Listener => "the task that listens for BGP",
            Self::Kernel => "the task that hears the kernel's links and neighbours",
            Self::KernelRoutes => "the task that hears the kernel's routes",
            Self::Control => "the task of the control socket",
            Self::Metrics => "the task of the metrics' socket",
        })
    }
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "bfd" => Ok(Self::Bfd),
            "peer" => Ok(Self::Peer(PeerId(0))),
            "listener" => Ok(Self::Listener),
            "kernel" => Ok(Self::Kernel),
            "kernel-routes" => Ok(Self::KernelRoutes),
            "control" => Ok(Self::Control),
            "metrics" => Ok(Self::Metrics),
            _ => Err(format!("{word:?} is no part that can be ended")),
        }
    }
}

/// What is to be done about a part that is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Begin it again.
    Restart(Part),
    /// End the process.
    End(Part),
}

/// After so long without an end a part is as good as new.
const FORGOTTEN: Duration = Duration::from_secs(120);
/// The longest wait for another attempt.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What has ended lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Watch {
    restarts: BTreeMap<Part, Restarts>,
    dead: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Restarts {
    count: u32,
    last: Duration,
}

impl Restarts {
    /// The first one is at once; then after 1, 2, 4 ... seconds.
    fn wait(&self) -> Duration {
        Duration::from_secs(1 << (self.count - 1).min(6)).min(WAIT_MAX)
    }
}

impl Watch {
    /// What to do about the parts that are dead now.
    pub fn judge(&mut self, dead: Vec<Part>, now: Duration) -> Vec<Remedy> {
        self.restarts.retain(|part, it| dead.contains(part) || now.saturating_sub(it.last) < FORGOTTEN);
        let mut remedies = Vec::new();
        for part in &dead {
            match part {
                Part::Bfd | Part::Carrier | Part::Peer(_) => {
                    let restarts = self.restarts.entry(*part).or_insert(Restarts { count: 0, last: now });
                    if restarts.count == 0 || now.saturating_sub(restarts.last) >= restarts.wait() {
                        *restarts = Restarts { count: restarts.count + 1, last: now };
                        remedies.push(Remedy::Restart(*part));
                    }
                }
                Part::Listener | Part::Kernel | Part::KernelRoutes | Part::Control | Part::Metrics => {
                    remedies.push(Remedy::End(*part));
                }
            }
        }
        self.dead = dead;
        remedies
    }

    /// What is dead, one line each; empty: everything lives.
    pub fn dead(&self) -> String {
        self.dead.iter().map(|part| format!("{part} has ended\n")).collect()
    }
}

impl Controller {
    /// Begins again what has ended and can; the answer is what has ended and cannot, with which the process ends.
    pub(super) async fn watch_parts(&mut self, inputs: &mut Inputs) -> Option<Part> {
        if self.started.elapsed() > Duration::from_secs(1)
            && let Some(part) = self.ends.take()
        {
            self.end_part(part, inputs);
        }
        let dead = self.dead_parts(inputs);
        for remedy in self.parts.judge(dead, self.started.elapsed()) {
            match remedy {
                Remedy::End(part) => {
                    tracing::error!(
                        "{part} has ended: this process ends too, the packet path forwards on, and the next process continues"
                    );
                    return Some(part);
                }
                Remedy::Restart(part) => {
                    tracing::error!("{part} has ended: it begins again");
                    if !self.restart(part, inputs).await {
                        return Some(part);
                    }
                }
            }
        }
        None
    }

    fn dead_parts(&self, inputs: &Inputs) -> Vec<Part> {
        let is_over = |task: &Option<JoinHandle<()>>| task.as_ref().is_some_and(JoinHandle::is_finished);
        let all = [
            (Part::Bfd, !self.bfd.lives()),
            (Part::Carrier, self.carrier.as_ref().is_none_or(|it| !it.lives())),
            (Part::Listener, self.speaker.as_ref().is_none_or(|it| !it.listens())),
            (Part::Kernel, !self.kernel.lives()),
            (Part::KernelRoutes, self.listener.as_ref().is_some_and(|it| !it.lives())),
            (Part::Control, is_over(&inputs.control)),
            (Part::Metrics, is_over(&inputs.metrics)),
        ];
        let dead = all.into_iter().filter(|(_, is_dead)| *is_dead).map(|(part, _)| part);
        dead.chain(self.speaker.iter().flat_map(Speaker::ended).map(Part::Peer)).collect()
    }

    /// `false`: it does not begin.
    async fn restart(&mut self, part: Part, inputs: &mut Inputs) -> bool {
        match part {
            Part::Bfd => match self.start_bfd_thread() {
                Ok(changes) => {
                    inputs.bfd = changes;
                    true
                }
                Err(error) => {
                    tracing::error!(%error, "BFD does not begin again");
                    false
                }
            },
            Part::Carrier => {
                self.watch_carriers();
                true
            }
            Part::Peer(peer) => {
                self.core.restart_session(peer, self.started.elapsed());
                self.carry_out().await;
                true
            }
            Part::Listener | Part::Kernel | Part::KernelRoutes | Part::Control | Part::Metrics => false,
        }
    }

    /// Ends a part on purpose: for tests of what follows.
    fn end_part(&mut self, part: Part, inputs: &Inputs) {
        tracing::warn!("ending {part} on purpose");
        match part {
            Part::Bfd => self.bfd.end_thread(),
            Part::Peer(peer) => self.speaker.iter().for_each(|it| it.end_task(Some(peer))),
            Part::Listener => self.speaker.iter().for_each(|it| it.end_task(None)),
            Part::Kernel => self.kernel.end_tasks(),
            Part::KernelRoutes => self.listener.iter().for_each(Listener::end_task),
            Part::Control => inputs.control.iter().for_each(JoinHandle::abort),
            Part::Metrics => inputs.metrics.iter().for_each(JoinHandle::abort),
            Part::Carrier => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Part; 8] = [
        Part::Bfd,
        Part::Carrier,
        Part::Peer(PeerId(3)),
        Part::Listener,
        Part::Kernel,
        Part::KernelRoutes,
        Part::Control,
        Part::Metrics,
    ];

    #[test]
    fn whatever_ends_that_must_live_begins_again_or_ends_the_process() {
        for part in ALL {
            let mut watch = Watch::default();
            assert_eq!((watch.judge(Vec::new(), Duration::ZERO), watch.dead()), (Vec::new(), String::new()));
            let begins_again = matches!(part, Part::Bfd | Part::Carrier | Part::Peer(_));
            let expected = if begins_again { Remedy::Restart(part) } else { Remedy::End(part) };
            assert_eq!(watch.judge(vec![part], Duration::from_millis(100)), [expected], "{part}");
            assert_eq!(watch.dead(), format!("{part} has ended\n"));
            watch.judge(Vec::new(), Duration::from_millis(200));
            assert_eq!(watch.dead(), "", "{part} lives again");
        }
    }

    #[test]
    fn what_ends_again_and_again_begins_after_one_two_four_seconds_and_a_minute_at_most() {
        let (mut watch, mut begun) = (Watch::default(), Vec::new());
        // Always dead, looked at ten times a second.
        for tick in 0..3_000_u64 {
            let now = Duration::from_millis(100 * tick);
            if !watch.judge(vec![Part::Carrier], now).is_empty() {
                begun.push(now.as_secs());
            }
        }
        assert_eq!(begun, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        // Another part's troubles are its own.
        let now = Duration::from_secs(300);
        assert_eq!(watch.judge(vec![Part::Bfd], now), [Remedy::Restart(Part::Bfd)]);
        // Two quiet minutes, and it is new again.
        assert_eq!(watch.judge(Vec::new(), Duration::from_secs(420)), []);
        assert_eq!(
            watch.judge(vec![Part::Carrier], Duration::from_secs(421)),
            [Remedy::Restart(Part::Carrier)]
        );
    }
}
