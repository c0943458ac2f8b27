//! Sessions end with the carrier of their link (others call it fast external fallover). Pure: time comes in as an argument, what is
//! to be done comes out.
//!
//! A lost carrier is judged twice. At once, packets leave the link and the paths of the peers behind it rank last, so that packets and
//! other routers have what else there is. After [`GRACE`] the sessions over it end, and what they brought is withdrawn: without that
//! it would be kept, and told to others, for up to the hold time. A carrier that is away for less costs no session, and none of the
//! table that a session tells anew when it begins. Peers may be less patient: FRR ends its own at once.

use std::{collections::BTreeMap, time::Duration};

/// How long a carrier may be away before sessions end.
pub const GRACE: Duration = Duration::from_secs(1);

/// What the sessions over a link are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The carrier is gone: end, and wait for it.
    End,
    /// It is back: begin at once.
    Begin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Without a carrier since then; the sessions do not know.
    Lost(Duration),
    /// The sessions have ended.
    Ended,
    /// It is back, and the sessions are to be told.
    Back,
}

/// The links that are not simply there, by their interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallover(BTreeMap<u32, Link>);

impl Fallover {
    /// A carrier is lost.
    pub fn handle_loss(&mut self, link: u32, now: Duration) {
        let is_new = match self.0.get(&link) {
            None => Some(Link::Lost(now)),
            // Nobody has been told that it was back.
            Some(Link::Back) => Some(Link::Ended),
            Some(Link::Lost(_) | Link::Ended) => None,
        };
        self.0.extend(is_new.map(|it| (link, it)));
    }

    /// A carrier is there.
    pub fn handle_return(&mut self, link: u32) {
        match self.0.get(&link) {
            Some(Link::Lost(_)) => drop(self.0.remove(&link)),
            Some(Link::Ended) => drop(self.0.insert(link, Link::Back)),
            Some(Link::Back) | None => {}
        }
    }

    /// The next link whose sessions are to be told something.
    pub fn poll(&mut self, now: Duration) -> Option<(u32, Word)> {
        let is_due = |link: &Link| match link {
            Link::Lost(since) => now.saturating_sub(*since) >= GRACE,
            Link::Back => true,
            Link::Ended => false,
        };
        let (link, state) = self.0.iter().find(|(_, it)| is_due(it)).map(|(link, it)| (*link, *it))?;
        if state == Link::Back {
            self.0.remove(&link);
            return Some((link, Word::Begin));
        }
        self.0.insert(link, Link::Ended);
        Some((link, Word::End))
    }

    /// Whether the sessions over a link have been ended for its carrier.
    pub fn has_ended(&self, link: u32) -> bool {
        self.0.get(&link).is_some_and(|it| matches!(it, Link::Ended | Link::Back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: u32 = 7;

    /// What is told, with the time at which it is, when a carrier comes and goes at these milliseconds; the time is looked at every
    /// tenth of a second.
    fn told(changes: &[(u64, bool)]) -> Vec<(u64, Word)> {
        let (mut fallover, mut told) = (Fallover::default(), Vec::new());
        for ms in (0..20_000).step_by(50) {
            for (_, is_there) in changes.iter().filter(|(at, _)| *at == ms) {
                if *is_there {
                    fallover.handle_return(LINK);
                } else {
                    fallover.handle_loss(LINK, Duration::from_millis(ms));
                }
            }
            if ms % 100 == 0 {
                while let Some((link, word)) = fallover.poll(Duration::from_millis(ms)) {
                    assert_eq!(link, LINK);
                    told.push((ms, word));
                    assert_eq!(fallover.has_ended(LINK), word == Word::End);
                }
            }
        }
        told
    }

    #[test]
    fn sessions_end_a_second_after_the_carrier_and_begin_with_it_and_a_short_loss_costs_none() {
        use Word::{Begin, End};
        type Row<'a> = (&'a [(u64, bool)], &'a [(u64, Word)]);
        let rows: [Row<'_>; 7] = [
            (&[], &[]),
            (&[(0, true)], &[]),
            (&[(500, false)], &[(1_500, End)]),
            (&[(500, false), (1_450, true)], &[]),
            (&[(500, false), (7_000, true)], &[(1_500, End), (7_000, Begin)]),
            // Told twice: the first word counts.
            (&[(500, false), (1_400, false), (9_000, true), (9_000, true)], &[(1_500, End), (9_000, Begin)]),
            // Lost again before anybody has looked: as if it had not been there.
            (&[(500, false), (7_050, true), (7_050, false), (9_000, true)], &[(1_500, End), (9_000, Begin)]),
        ];
        for (changes, expected) in rows {
            assert_eq!(told(changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn links_are_judged_each_by_itself() {
        let at = Duration::from_millis;
        let mut fallover = Fallover::default();
        fallover.handle_loss(1, at(0));
        fallover.handle_loss(2, at(400));
        assert_eq!(fallover.poll(at(999)), None);
        assert_eq!([fallover.poll(at(1_000)), fallover.poll(at(1_000))], [Some((1, Word::End)), None]);
        fallover.handle_return(1);
        assert_eq!(fallover.poll(at(1_400)), Some((1, Word::Begin)));
        assert_eq!(fallover.poll(at(1_400)), Some((2, Word::End)));
        assert!(fallover.has_ended(2) && !fallover.has_ended(1));
    }
}
