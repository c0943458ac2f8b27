//! Orders to sessions' tasks: reset, disable, hold. The loop waits for none of them. An order that finds no room waits here, those behind it
//! too, so that each session gets its orders in the order in which they were given.

use std::collections::{BTreeMap, VecDeque};

use super::Controller;
use crate::bgp::{PeerCommand, PeerId};

/// Orders that may wait for one session: a task that has taken none of so many has ended or stands still, and needs no more.
const WAITING_MAX: usize = 256;

/// What waits, for each session in order.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<PeerId, VecDeque<PeerCommand>>);

impl Waiting {
    /// Gives an order, by `send`, which returns what finds no room. False: it is lost, because too many wait.
    pub fn give(
        &mut self,
        peer: PeerId,
        order: PeerCommand,
        send: impl Fn(PeerCommand) -> Result<(), PeerCommand>,
    ) -> bool {
        let waiting = self.0.entry(peer).or_default();
        if waiting.len() >= WAITING_MAX {
            return false;
        }
        waiting.push_back(order);
        self.give_waiting(peer, send);
        true
    }

    /// Gives what waits for a session, as far as there is room.
    pub fn give_waiting(&mut self, peer: PeerId, send: impl Fn(PeerCommand) -> Result<(), PeerCommand>) {
        let Some(waiting) = self.0.get_mut(&peer) else { return };
        while let Some(order) = waiting.pop_front() {
            if let Err(order) = send(order) {
                waiting.push_front(order);
                return;
            }
        }
        self.0.remove(&peer);
    }

    /// The session ends: what waits is not for the next one.
    pub fn forget(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }

    /// For whom something waits.
    pub fn peers(&self) -> Vec<PeerId> {
        self.0.keys().copied().collect()
    }
}

impl Controller {
    /// Gives an order to a session, at once or as soon as its task takes it.
    pub(super) fn order(&mut self, peer: PeerId, command: PeerCommand) {
        let Some(handle) = self.speaker.as_ref().and_then(|speaker| speaker.peer(peer)) else { return };
        let what = format!("{command:?}");
        if !self.orders.give(peer, command, |order| handle.try_command(order)) {
            tracing::error!(peer = %handle.config().remote, what, "the session takes no orders");
        }
    }

    /// Tries again what has found no room.
    pub(super) fn give_orders(&mut self) {
        for peer in self.orders.peers() {
            match self.speaker.as_ref().and_then(|speaker| speaker.peer(peer)) {
                Some(handle) => self.orders.give_waiting(peer, |order| handle.try_command(order)),
                None => self.orders.forget(peer),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const PEER: PeerId = PeerId(3);

    #[test]
    fn an_order_that_finds_no_room_waits_and_keeps_its_place() {
        let (mut waiting, got, room) = (Waiting::default(), RefCell::new(Vec::new()), RefCell::new(1));
        let send = |order: PeerCommand| {
            if *room.borrow() == 0 {
                return Err(order);
            }
            *room.borrow_mut() -= 1;
            got.borrow_mut().push(format!("{order:?}"));
            Ok(())
        };
        for hold in [true, false, true] {
            assert!(waiting.give(PEER, PeerCommand::Hold(hold), send));
        }
        assert_eq!(*got.borrow(), ["Hold(true)"]);
        assert_eq!(waiting.peers(), [PEER]);
        *room.borrow_mut() = 1;
        assert!(waiting.give(PEER, PeerCommand::Hurry, send));
        assert_eq!(*got.borrow(), ["Hold(true)", "Hold(false)"], "nobody passes one that waits");
        *room.borrow_mut() = 9;
        waiting.give_waiting(PEER, send);
        assert_eq!(*got.borrow(), ["Hold(true)", "Hold(false)", "Hold(true)", "Hurry"]);
        assert_eq!(waiting.peers(), []);
    }

    #[test]
    fn a_session_that_takes_nothing_costs_a_bounded_memory_and_no_time() {
        let mut waiting = Waiting::default();
        let given = (0..1_000).filter(|_| waiting.give(PEER, PeerCommand::Hurry, Err)).count();
        assert_eq!(given, WAITING_MAX);
        waiting.forget(PEER);
        assert!(waiting.give(PEER, PeerCommand::Hurry, |_| Ok(())));
        assert_eq!(waiting.peers(), []);
    }
}
