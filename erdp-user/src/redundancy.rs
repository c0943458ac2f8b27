//! What of an edge may carry traffic: links that flap and are held down, sessions that end with the carrier of their link, links that are just
//! back, circuits below their minimum of links, peerings that an operator or Microsoft takes out of service. One machine owns all of that
//! state; each part's rules are in a file of its own ([`crate::pair`], [`crate::fallover`], [`crate::minimum`], [`crate::peering`]).
//!
//! Pure: facts and time come in, what follows comes out. What must never happen: a part of it that is changed by two hands, or a decision
//! that asks for the time itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    fallover::{Fallover, Word},
    minimum::Minimum,
    pair::Damper,
    peering::Peerings,
    types::PeerId,
};

/// How long neighbours behind a link that is back are asked for at our own pace; then the kernel's has to do, a second.
pub const RENEWED_FOR: Duration = Duration::from_secs(2);

/// The machine. Links are known by the indexes of their interfaces, circuits by their places in the configuration.
#[derive(Debug, Default)]
pub struct Redundancy {
    /// Links that have flapped.
    dampers: BTreeMap<u32, Damper>,
    fallover: Fallover,
    /// Links that are just back, each since when.
    returned: BTreeMap<u32, Duration>,
    minimums: Vec<Minimum>,
    /// Sessions that Microsoft drains (B7).
    drained: BTreeSet<PeerId>,
    /// Sessions that an operator has taken out of service.
    pub peerings: Peerings,
}

impl Redundancy {
    /// A link has lost its carrier. Only the loss of a link that is one of a pair, and was known, counts against it.
    pub fn handle_loss(&mut self, link: u32, is_paired: bool, now: Duration) {
        if is_paired {
            self.dampers.entry(link).or_default().handle_loss(now);
        }
        self.fallover.handle_loss(link, now);
    }

    /// An interface has gone, which is no flap.
    pub fn handle_gone(&mut self, link: u32, now: Duration) {
        self.fallover.handle_loss(link, now);
    }

    /// A link has its carrier again; the answer is whether it may be used at once. It is held down if it flaps, unless it is the last one.
    pub fn handle_return(&mut self, link: u32, is_paired: bool, is_last: bool, now: Duration) -> bool {
        self.fallover.handle_return(link);
        if !is_paired {
            return true;
        }
        let damper = self.dampers.entry(link).or_default();
        let may = damper.handle_return(now) || is_last;
        if may {
            damper.release();
        }
        may
    }

    /// The neighbours behind a link are asked for from now on.
    pub fn handle_neighbours(&mut self, link: u32, now: Duration) {
        self.returned.insert(link, now);
    }

    /// Whether a link is held down.
    pub fn holds(&self, link: u32) -> bool {
        self.dampers.get(&link).is_some_and(Damper::holds)
    }

    /// The links that are held down.
    pub fn held(&self) -> Vec<u32> {
        self.dampers.iter().filter(|(_, damper)| damper.holds()).map(|(link, _)| *link).collect()
    }

    /// Whether a link that is held down is used again: its time is over, or it is the last one.
    pub fn poll_release(&mut self, link: u32, is_last: bool, now: Duration) -> bool {
        let Some(damper) = self.dampers.get_mut(&link) else { return false };
        (is_last && damper.release()) || damper.poll_release(now)
    }

    /// The next link whose sessions are to end or to begin.
    pub fn poll_sessions(&mut self, now: Duration) -> Option<(u32, Word)> {
        self.fallover.poll(now)
    }

    /// Whether the sessions over a link have ended for want of a carrier.
    pub fn has_ended(&self, link: u32) -> bool {
        self.fallover.has_ended(link)
    }

    /// The links that are just back, whose neighbours are asked for again.
    pub fn poll_returned(&mut self, now: Duration) -> Vec<u32> {
        self.returned.retain(|_, since| now.saturating_sub(*since) < RENEWED_FOR);
        self.returned.keys().copied().collect()
    }

    /// So many links of each circuit, in the order of circuits, are eligible, and so many it has to have. The answer is whose standing has
    /// changed.
    pub fn handle_links(&mut self, circuits: &[(usize, usize)], now: Duration) -> Vec<usize> {
        self.minimums.resize(circuits.len(), Minimum::default());
        let judged = self.minimums.iter_mut().zip(circuits).enumerate();
        judged
            .filter_map(|(index, (it, (eligible, minimum)))| {
                it.handle_links(*eligible, *minimum, now).then_some(index)
            })
            .collect()
    }

    /// Whether a circuit is below its minimum of links.
    pub fn is_below(&self, circuit: usize) -> bool {
        self.minimums.get(circuit).is_some_and(Minimum::is_below)
    }

    /// Microsoft drains these sessions now; the answer is whose state has changed, and whether it is drained.
    pub fn handle_drained(&mut self, now: BTreeSet<PeerId>) -> Vec<(PeerId, bool)> {
        let before = std::mem::replace(&mut self.drained, now);
        let changed = before.symmetric_difference(&self.drained);
        changed.map(|peer| (*peer, self.drained.contains(peer))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: u32 = 7;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_flapping_link_is_held_down_and_used_when_its_time_is_over_or_it_is_the_last_one() {
        for is_last_later in [false, true] {
            let mut machine = Redundancy::default();
            for time in 0..2 {
                machine.handle_loss(LINK, true, at(time));
                assert!(machine.handle_return(LINK, true, false, at(time)), "two losses are free");
            }
            machine.handle_loss(LINK, true, at(2));
            assert!(!machine.handle_return(LINK, true, false, at(2)));
            assert_eq!(machine.held(), vec![LINK]);
            assert!(!machine.poll_release(LINK, false, at(500)));
            assert!(machine.poll_release(LINK, is_last_later, at(if is_last_later { 600 } else { 1_002 })));
            assert!(!machine.holds(LINK));
        }
    }

    #[test]
    fn a_link_without_a_partner_and_the_last_one_of_a_circuit_are_never_held_down() {
        let mut machine = Redundancy::default();
        for time in 0..10 {
            machine.handle_loss(LINK, false, at(time));
            assert!(machine.handle_return(LINK, false, false, at(time)));
            machine.handle_loss(8, true, at(time));
            assert!(machine.handle_return(8, true, true, at(time)));
        }
        assert!(machine.held().is_empty());
    }

    #[test]
    fn sessions_end_after_the_grace_and_begin_with_the_carrier_even_where_the_link_is_held_down() {
        let mut machine = Redundancy::default();
        for time in 0..3 {
            machine.handle_loss(LINK, true, at(time));
            machine.handle_return(LINK, true, false, at(time));
        }
        machine.handle_loss(LINK, true, at(3));
        assert_eq!(machine.poll_sessions(at(900)), None);
        assert_eq!(machine.poll_sessions(at(1_100)), Some((LINK, Word::End)));
        assert!(machine.has_ended(LINK));
        assert!(!machine.handle_return(LINK, true, false, at(1_200)));
        assert_eq!(machine.poll_sessions(at(1_200)), Some((LINK, Word::Begin)));
        assert!(machine.holds(LINK));
    }

    #[test]
    fn an_interface_that_goes_ends_its_sessions_and_is_no_flap() {
        let mut machine = Redundancy::default();
        (0..5).for_each(|time| machine.handle_gone(LINK, at(time)));
        assert_eq!(machine.poll_sessions(at(2_000)), Some((LINK, Word::End)));
        assert!(machine.handle_return(LINK, true, false, at(2_100)));
    }

    #[test]
    fn neighbours_behind_a_link_that_is_back_are_asked_for_for_two_seconds() {
        let mut machine = Redundancy::default();
        machine.handle_neighbours(LINK, at(0));
        assert_eq!(machine.poll_returned(at(1_999)), vec![LINK]);
        assert!(machine.poll_returned(at(2_000)).is_empty());
    }

    #[test]
    fn each_circuit_has_a_standing_of_its_own_and_a_new_one_begins_above_its_minimum() {
        let mut machine = Redundancy::default();
        assert!(machine.handle_links(&[(1, 2)], at(0)).is_empty());
        assert_eq!(machine.handle_links(&[(1, 2), (2, 2)], at(6_000)), vec![0]);
        assert_eq!([0, 1, 2].map(|circuit| machine.is_below(circuit)), [true, false, false]);
    }

    #[test]
    fn who_begins_and_who_ceases_to_be_drained_is_said_once() {
        let mut machine = Redundancy::default();
        let (one, two) = (PeerId(1), PeerId(2));
        assert_eq!(machine.handle_drained([one].into()), [(one, true)]);
        assert_eq!(machine.handle_drained([one].into()), []);
        assert_eq!(machine.handle_drained([two].into()), [(one, false), (two, true)]);
    }
}
