//! A configuration takes the place of the running one in two steps. First the circuits that it disables are left: their routes go, and their
//! sessions end with a Cease (A8). Once every Cease is on the wire, or after [`CEASE_MAX`], it is carried out: a packet path that is shut earlier
//! would drop what the kernel sends to the peers. In between the loop turns as always; only other orders are refused, because what they were
//! judged by is about to change, and nobody takes over.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::{Controller, configure::Before, kept::Scope};
use crate::{
    bgp::{PeerId, State},
    config::{Config, Plan},
    control::{File, Reply, Request, asked::Asker},
};

/// How long the Cease of all sessions may take before the packet path is shut all the same.
const CEASE_MAX: Duration = Duration::from_millis(300);
/// What an operator reads who orders something meanwhile.
pub(super) const CHANGING: &str =
    "another configuration is being carried out: try again in a moment; nothing is changed";

/// Another configuration, and what follows once it runs.
pub(super) struct Change {
    pub config: Config,
    pub then: Then,
}

/// Where a configuration comes from.
pub(super) enum Then {
    /// An operator has applied it.
    Applied(Applied),
    /// It ran before.
    WentBack(Box<Before>, Plan),
}

/// A configuration that an operator has applied.
pub(super) struct Applied {
    pub file: File,
    pub plan: Plan,
    pub warnings: Vec<String>,
    pub confirm_s: Option<u64>,
}

/// A change that waits for the sessions of circuits that are left.
pub(super) struct Exchange {
    change: Change,
    leaving: Leaving,
    /// Nobody asks where the time for a confirmation is over.
    order: Option<Order>,
}

/// Who has ordered a change.
pub(super) struct Order {
    pub request: Request,
    pub asker: Option<Asker>,
    pub answer: oneshot::Sender<Reply>,
}

/// Sessions that end.
#[derive(Debug, PartialEq, Eq)]
struct Leaving {
    /// All of them.
    sessions: Vec<PeerId>,
    /// Those whose end nobody has heard of.
    silent: Vec<PeerId>,
    until: Duration,
}

impl Leaving {
    fn new(sessions: Vec<PeerId>, now: Duration) -> Self {
        Self { silent: sessions.clone(), sessions, until: now + CEASE_MAX }
    }

    /// Whether the packet path may be shut.
    fn is_over(&mut self, now: Duration, is_established: impl Fn(PeerId) -> bool) -> bool {
        self.silent.retain(|peer| is_established(*peer));
        self.silent.is_empty() || now >= self.until
    }
}

impl Controller {
    /// Whether a configuration is about to take the place of the running one.
    pub(super) fn is_changing(&self) -> bool {
        self.changing.is_some()
    }

    /// Leaves the circuits that a change disables. It is carried out at once if there are no sessions to end.
    pub(super) async fn begin_change(&mut self, change: Change, order: Option<Order>) {
        let now = self.started.elapsed();
        let leaving = Leaving::new(self.core.leave_circuits(&change.config, now), now);
        self.carry_out().await;
        self.changing = Some(Exchange { change, leaving, order });
        self.go_on_with_change().await;
    }

    /// A session has ended.
    pub(super) fn note_end(&mut self, peer: PeerId) {
        if let Some(exchange) = &mut self.changing {
            exchange.leaving.silent.retain(|other| *other != peer);
        }
    }

    /// Carries the change out that waits, if it need not wait any more. Called once a turn.
    pub(super) async fn go_on_with_change(&mut self) {
        let Some(mut exchange) = self.changing.take() else { return };
        if !exchange.leaving.is_over(self.started.elapsed(), |peer| self.is_established(peer)) {
            self.changing = Some(exchange);
            return;
        }
        let Exchange { change, leaving, order } = exchange;
        self.core.silence(leaving.sessions);
        self.carry_out().await;
        let result = self.carry_out_change(change).await;
        match order {
            Some(Order { request, asker, answer }) => {
                let reply = reply(result);
                self.note_order(&request, asker.as_ref(), &reply);
                self.keep(Scope::All, Some(Box::new(move || drop(answer.send(reply)))));
            }
            None => {
                if let Err(error) = result {
                    self.stay(&error);
                }
                self.keep(Scope::All, None);
            }
        }
    }

    /// Whether a session's task reports Established. The core hears of a change a moment later.
    fn is_established(&self, peer: PeerId) -> bool {
        let handle = self.speaker.as_ref().and_then(|speaker| speaker.peer(peer));
        handle.is_some_and(|handle| handle.status().state == State::Established)
    }
}

/// What an operator reads.
fn reply(result: Result<Value, String>) -> Reply {
    result.map_or_else(Reply::Error, Reply::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a8_the_packet_path_is_shut_when_every_session_has_ended_or_after_three_tenths_of_a_second() {
        let (one, two) = (PeerId(1), PeerId(2));
        let at = Duration::from_millis;
        let leaving = || Leaving::new(vec![one, two], at(1_000));
        assert!(Leaving::new(Vec::new(), at(0)).is_over(at(0), |_| true), "nobody to wait for");
        // When somebody looks, which sessions are established then; whether it is over.
        for (now, established, expected) in [
            (1_000, &[one, two][..], false),
            (1_299, &[two], false),
            (1_001, &[], true),
            (1_300, &[one, two], true),
        ] {
            assert_eq!(
                leaving().is_over(at(now), |peer| established.contains(&peer)),
                expected,
                "{now} {established:?}"
            );
        }
        // One that has come back meanwhile is not waited for again.
        let mut waiting = leaving();
        assert!(!waiting.is_over(at(1_010), |peer| peer == two));
        assert!(waiting.is_over(at(1_020), |peer| peer == one));
        assert_eq!(waiting.sessions, [one, two]);
    }
}
