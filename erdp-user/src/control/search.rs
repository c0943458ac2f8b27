//! What a guard rail has to know before sessions are taken out of service: how many prefixes only they lead to. It is looked for as long answers
//! are made ([`super::lists`]): the asker's task has the keys of the tables, and each turn of the loop judges a page of them ([`seek`]).
//!
//! What is found is as of the moment of each page. The sessions that it is about are kept with it, so that an order about others, because a
//! session has ended meanwhile, is not judged by it.

use std::time::Duration;

use super::lists::{Key, Limits};
pub use crate::core::OnlyHere;
use crate::{bgp::PeerId, config::DomainId};

/// Prefixes that are named where many are concerned.
const EXAMPLES: usize = 5;

/// What is to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The sessions.
    pub peers: Vec<PeerId>,
    /// Where they bring routes.
    pub domains: Vec<DomainId>,
}

/// The prefixes of a page that only some sessions lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// How many.
    pub count: usize,
    /// The first few.
    pub examples: Vec<String>,
    /// Of how many keys.
    pub keys: usize,
}

impl OnlyHere {
    /// Nothing yet.
    pub fn new(peers: Vec<PeerId>) -> Self {
        Self { peers, count: 0, examples: Vec::new() }
    }

    /// Adds a page.
    pub fn add(&mut self, page: Sought) {
        self.count += page.count;
        let room = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(page.examples.into_iter().take(room));
    }
}

/// Judges as many keys as the limits allow, one at least; `elapsed` is the time since this began.
pub fn seek(
    keys: &[Key],
    limits: &Limits,
    elapsed: impl Fn() -> Duration,
    is_only_here: impl Fn(&Key) -> bool,
) -> Sought {
    let mut page = Sought::default();
    for key in keys.iter().take(limits.keys) {
        page.keys += 1;
        if is_only_here(key) {
            page.count += 1;
            if page.examples.len() < EXAMPLES {
                page.examples.push(key.0.to_string());
            }
        }
        if elapsed() >= limits.time {
            break;
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::Ipv4Addr};

    use ipnet::IpNet;

    use super::*;
    use crate::control::lists::TURN;

    fn keys(count: u32) -> Vec<Key> {
        let prefix = |number: u32| IpNet::new(Ipv4Addr::from(number << 8).into(), 24).unwrap();
        (0..count).map(|number| (prefix(number), DomainId(0))).collect()
    }

    #[test]
    fn a_turn_judges_a_page_and_no_more_whatever_the_number_of_prefixes() {
        let keys = keys(200_000);
        let (clock, judged) = (Cell::new(Duration::ZERO), Cell::new(0));
        let slow = |_: &Key| {
            clock.set(clock.get() + Duration::from_millis(1));
            judged.set(judged.get() + 1);
            false
        };
        let page = seek(&keys, &TURN, || clock.get(), slow);
        assert_eq!((page.keys, judged.get()), (5, 5), "five milliseconds");
        assert_eq!(seek(&keys, &TURN, || Duration::ZERO, |_| true).keys, TURN.keys);
        assert_eq!(
            seek(&keys, &Limits { keys: 9, time: Duration::ZERO, ..TURN }, || TURN.time, |_| true).keys,
            1
        );
    }

    #[test]
    fn pages_together_have_what_one_look_at_everything_has() {
        let keys = keys(2_500);
        let is_only_here = |key: &Key| key.0.to_string().contains("7.0/24");
        let mut found = OnlyHere::new(vec![PeerId(3)]);
        let (mut rest, mut pages) = (keys.as_slice(), 0);
        while !rest.is_empty() {
            let page = seek(rest, &TURN, || Duration::ZERO, is_only_here);
            rest = &rest[page.keys..];
            pages += 1;
            found.add(page);
        }
        let all: Vec<String> =
            keys.iter().filter(|key| is_only_here(key)).map(|key| key.0.to_string()).collect();
        assert_eq!((pages, found.count, found.examples.as_slice()), (3, all.len(), &all[..EXAMPLES]));
    }
}
