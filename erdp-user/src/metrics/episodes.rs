//! Since when something is counted: a count that grows again after it has been quiet begins an episode. Pure: time is an argument.
//!
//! `erdp why` says of each kind of drop since when it goes on, and when it was seen last. Counts are taken every few seconds
//! ([`super::rates::STEP_NS`]), so that is how precise the answers are. What was counted before the first taking has no beginning.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

/// What has not grown for so long is over.
const QUIET: Duration = Duration::from_secs(60);

/// The episodes of each count.
#[derive(Debug)]
pub struct Episodes<K>(BTreeMap<K, Episode>);

impl<K> Default for Episodes<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

#[derive(Debug)]
struct Episode {
    count: u64,
    seen: Option<(Duration, Duration)>,
}

/// An episode by the age of its beginning and of its last growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Age {
    /// How many seconds ago it began.
    pub began_s: u64,
    /// How many seconds ago it was seen last.
    pub last_s: u64,
}

impl<K: Ord> Episodes<K> {
    /// Takes a count of this moment. One that is smaller than before was made anew.
    pub fn take(&mut self, now: Duration, key: K, count: u64) {
        let Some(episode) = self.0.get_mut(&key) else {
            self.0.insert(key, Episode { count, seen: None });
            return;
        };
        if count > episode.count {
            let goes_on = episode.seen.filter(|(_, last)| now.saturating_sub(*last) < QUIET);
            episode.seen = Some((goes_on.map_or(now, |(began, _)| began), now));
        }
        episode.count = count;
    }

    /// The present or last episode; `None`: nothing has grown since the first taking.
    pub fn age(&self, now: Duration, key: &K) -> Option<Age> {
        let (began, last) = self.0.get(key)?.seen?;
        let age = |then| now.saturating_sub(then).as_secs();
        Some(Age { began_s: age(began), last_s: age(last) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_lasts_while_the_count_grows_and_a_quiet_minute_ends_it() {
        let at = Duration::from_secs;
        let mut episodes = Episodes::default();
        let age = |episodes: &Episodes<&str>, now| {
            episodes.age(at(now), &"no-route").map(|age| (age.began_s, age.last_s))
        };
        episodes.take(at(0), "no-route", 7);
        assert_eq!(age(&episodes, 5), None, "counted before: nobody knows since when");
        episodes.take(at(5), "no-route", 8);
        assert_eq!(age(&episodes, 5), Some((0, 0)));
        episodes.take(at(10), "no-route", 8);
        episodes.take(at(60), "no-route", 9);
        assert_eq!(age(&episodes, 65), Some((60, 5)), "it went on");
        episodes.take(at(65), "no-route", 9);
        episodes.take(at(120), "no-route", 10);
        assert_eq!(age(&episodes, 121), Some((1, 1)), "60 s of quiet");
        // The program was made anew.
        episodes.take(at(125), "no-route", 2);
        assert_eq!(age(&episodes, 126), Some((6, 6)));
        episodes.take(at(130), "no-route", 3);
        assert_eq!(age(&episodes, 130), Some((10, 0)));
        assert_eq!(episodes.age(at(130), &"hairpin"), None);
    }
}
