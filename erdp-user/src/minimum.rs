//! The minimum-links policy (requirements B1, B11): a circuit with fewer eligible links than `minimum-links` is to be the last resort. What
//! else leads to the same prefixes goes before it: the next peering that an attachment lists, and a service of the same domain. Where there
//! is nothing else, the circuit carries on.
//!
//! Pure: the number of eligible links and the time come in, [`Minimum::is_below`] says how the circuit ranks. Going down and coming back
//! both take time: routes are not to be exchanged for a link that returns in a moment.

use std::time::Duration;

/// How long links must be lacking. A start, where sessions come up one after the other, is shorter.
pub const LACKING: Duration = Duration::from_secs(5);
/// How long enough of them must have been eligible again.
pub const ENOUGH: Duration = Duration::from_secs(10);

/// A circuit's standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minimum {
    is_below: bool,
    /// Since when the facts say otherwise.
    since: Option<Duration>,
}

impl Minimum {
    /// So many links are eligible; whether the circuit's rank has changed. Without any there is nothing to rank, and nothing changes.
    pub fn handle_links(&mut self, eligible: usize, minimum: usize, now: Duration) -> bool {
        let says = if eligible == 0 { self.is_below } else { eligible < minimum };
        if says == self.is_below {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let wait = if says { LACKING } else { ENOUGH };
        if now.saturating_sub(since) < wait {
            return false;
        }
        *self = Self { is_below: says, since: None };
        true
    }

    /// Whether it ranks last.
    pub fn is_below(&self) -> bool {
        self.is_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b11_a_circuit_ranks_last_after_five_seconds_with_too_few_links_and_again_as_others_after_ten_with_enough()
     {
        // From which second on how many links are eligible; when the rank changes.
        type Row = (usize, &'static [(u64, usize)], &'static [u64]);
        let rows: [Row; 8] = [
            (2, &[(0, 2)], &[]),
            (2, &[(0, 2), (10, 1)], &[15]),
            (2, &[(0, 2), (10, 1), (14, 2), (20, 1), (24, 2)], &[]),
            (2, &[(0, 2), (10, 1), (20, 2)], &[15, 30]),
            (2, &[(0, 2), (10, 1), (20, 2), (25, 1), (27, 2)], &[15, 37]),
            (2, &[(0, 0), (3, 1), (6, 2)], &[]),
            (2, &[(0, 2), (10, 1), (20, 0), (30, 1)], &[15]),
            (1, &[(0, 2), (10, 1), (20, 0), (30, 1)], &[]),
        ];
        for (minimum, course, expected) in rows {
            let mut machine = Minimum::default();
            let mut changes = Vec::new();
            for second in 0..60 {
                let eligible =
                    course.iter().rev().find(|(from, _)| *from <= second).map_or(0, |(_, links)| *links);
                if machine.handle_links(eligible, minimum, Duration::from_secs(second)) {
                    changes.push(second);
                }
            }
            assert_eq!(changes, expected, "{course:?}");
            assert_eq!(machine.is_below(), expected.len() % 2 == 1);
        }
    }
}
