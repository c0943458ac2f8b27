//! Long answers, a page at a time: a list of any length costs the controller's loop a bounded slice each turn, and no more memory than one page and
//! its keys.
//!
//! A list has parts in an order ([`Part`]). The loop gives a part's keys, which the asker's task sorts, and then the rows of the next keys
//! until one of the [`Limits`] is reached ([`slice()`]). The asker's task has written one page before it asks for the next, so a slow reader
//! holds back itself alone. Rows are as of the moment of their page: a route that goes meanwhile is left out, one that comes is not in the list.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use super::query::{PathQuery, RouteQuery};
use crate::{
    bgp::PeerId,
    config::DomainId,
    controller::{PathFilter, RouteFilter},
    types::PathSource,
};

/// A list that has no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// `erdp show routes`.
    Routes,
    /// Those that are meant.
    RoutesOf(RouteQuery),
    /// `erdp show received` and `erdp show advertised`.
    Paths(PathQuery),
    /// `erdp show refused`.
    Refused,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Best routes of a domain.
    Routes(DomainId),
    /// Of these, those that are meant.
    RoutesOf(DomainId, Arc<RouteFilter>),
    /// A peer's paths.
    Paths(PathFilter),
    /// Routes of a peer, or of the kernel on an attachment, that policy refuses.
    RefusedFrom(PathSource),
    /// Peers whose surplus is refused; its key is only a sign that there may be some.
    Surplus,
    /// A peer's message with faults, counted from the newest; its key is only a sign that there is one.
    Fault(PeerId, usize),
    /// Routes of the kernel that no attachment takes, by the place of what is watched there.
    NotTaken(usize),
    /// Best routes that a peer is not told.
    HeldBack(PeerId),
    /// Connections that were closed unheard; its key is only a sign that there are some.
    Connections,
}

/// What a row, or a few, is asked for by.
pub type Key = (IpNet, DomainId);

/// Rows of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// JSON objects with commas between them.
    pub text: String,
    /// How many keys they are of.
    pub keys: usize,
}

/// Up to where a slice goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Keys.
    pub keys: usize,
    /// Bytes of text; the last row may go beyond it.
    pub text_bytes: usize,
    /// Time; the last row may go beyond it.
    pub time: Duration,
}

/// What one turn of the loop does for a list.
pub const TURN: Limits = Limits { keys: 1_000, text_bytes: 256 << 10, time: Duration::from_millis(5) };

/// The rows of as many keys as the limits allow, one at least. `write` appends the rows of a key as JSON objects, each with [`push_row`];
/// `elapsed` is the time since the slice began.
pub fn slice(
    keys: &[Key],
    limits: &Limits,
    elapsed: impl Fn() -> Duration,
    mut write: impl FnMut(&Key, &mut String),
) -> Page {
    let mut page = Page::default();
    for key in keys.iter().take(limits.keys) {
        write(key, &mut page.text);
        page.keys += 1;
        if page.text.len() >= limits.text_bytes || elapsed() >= limits.time {
            break;
        }
    }
    page
}

/// Appends a row to a page.
pub fn push_row(text: &mut String, row: &impl serde::Serialize) {
    // Rows are of strings and numbers, which JSON can always say.
    let Ok(row) = serde_json::to_string(row) else { return };
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(&row);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn keys(count: u32) -> Vec<Key> {
        let prefix = |number: u32| IpNet::new(std::net::Ipv4Addr::from(number << 8).into(), 24).unwrap();
        (0..count).map(|number| (prefix(number), DomainId(0))).collect()
    }

    fn row(key: &Key, text: &mut String) {
        push_row(text, &serde_json::json!({ "prefix": key.0 }));
    }

    #[test]
    fn a_list_of_200_000_routes_is_made_in_slices_that_are_bounded_and_together_whole() {
        let keys = keys(200_000);
        let (mut at, mut slices, mut text) = (0, 0, String::new());
        while at < keys.len() {
            let page = slice(&keys[at..], &TURN, || Duration::ZERO, row);
            assert!((1..=TURN.keys).contains(&page.keys), "{} keys in one turn", page.keys);
            assert!(page.text.len() < TURN.text_bytes + 1_000, "{} bytes in one turn", page.text.len());
            if !text.is_empty() {
                text.push(',');
            }
            text += &page.text;
            at += page.keys;
            slices += 1;
        }
        assert_eq!(slices, 200);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&format!("[{text}]")).unwrap();
        assert_eq!((rows.len(), &rows[199_999]["prefix"]), (200_000, &"3.13.63.0/24".into()));
    }

    #[test]
    fn a_slice_ends_when_its_time_or_its_bytes_are_over_and_always_goes_on() {
        let keys = keys(1_000);
        let time = Cell::new(Duration::ZERO);
        let slow = |key: &Key, text: &mut String| {
            time.set(time.get() + Duration::from_millis(2));
            row(key, text);
        };
        assert_eq!(slice(&keys, &TURN, || time.get(), slow).keys, 3, "2 ms each, 5 ms in all");
        let large = |_: &Key, text: &mut String| push_row(text, &"x".repeat(100 << 10));
        assert_eq!(slice(&keys, &TURN, || Duration::ZERO, large).keys, 3, "100 KiB each, 256 in all");
        let late = slice(&keys, &TURN, || Duration::from_secs(1), row);
        assert_eq!(late.keys, 1, "a list that never goes on would never end");
        assert_eq!(slice(&[], &TURN, || Duration::ZERO, row), Page::default());
    }

    #[test]
    fn a_key_without_a_row_costs_a_key_and_no_text() {
        let page = slice(&keys(10), &TURN, || Duration::ZERO, |_, _| {});
        assert_eq!(page, Page { text: String::new(), keys: 10 });
    }
}
