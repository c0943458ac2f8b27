//! The event log: what has changed, when and why, for `erdp show events`. Pure: the time of an event is an argument.
//!
//! The log is bounded, and each [`Kind`] has a share of its own: a session that comes and goes all night pushes out no order of the operator. Texts are
//! bounded too, because peers write some of them. The controller notes events and has [`crate::state`] keep the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

/// Events of one kind that are kept.
pub const KEPT_OF_KIND: usize = 200;
/// Longest text, in characters.
const TEXT_MAX: usize = 300;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", from = "String")]
pub enum Kind {
    /// The daemon itself: its start, a take-over.
    Daemon,
    /// A BGP session.
    Session,
    /// A BFD session.
    Bfd,
    /// An interface or its carrier.
    Link,
    /// Whether a circuit's link may carry traffic.
    Eligibility,
    /// The configuration.
    Config,
    /// An operator's order.
    Operator,
    /// Something that a later version writes.
    Other,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Daemon,
        Self::Session,
        Self::Bfd,
        Self::Link,
        Self::Eligibility,
        Self::Config,
        Self::Operator,
        Self::Other,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Session => "session",
            Self::Bfd => "bfd",
            Self::Link => "link",
            Self::Eligibility => "eligibility",
            Self::Config => "config",
            Self::Operator => "operator",
            Self::Other => "other",
        }
    }
}

impl From<String> for Kind {
    fn from(word: String) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Self::Other)
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// What has changed.
    pub kind: Kind,
    /// Which: a peer, an interface, a circuit's link, a file, who has ordered.
    pub object: String,
    /// To what it has changed, or what was ordered.
    pub what: String,
    /// Why, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The last events of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    kinds: BTreeMap<Kind, VecDeque<Event>>,
    is_changed: bool,
}

impl Log {
    /// Notes an event.
    pub fn note(&mut self, at_ms: u64, kind: Kind, object: &str, what: &str, why: Option<&str>) {
        let event =
            Event { at_ms, kind, object: bounded(object), what: bounded(what), why: why.map(bounded) };
        self.push(event);
        self.is_changed = true;
    }

    /// What was noted before us, in any order: by another process, or as it was kept where others may write. What both have is there once.
    pub fn put_before(&mut self, events: Vec<Event>) {
        let own = std::mem::take(&mut self.kinds);
        let mut all: Vec<Event> =
            events.into_iter().map(Event::bounded).chain(own.into_values().flatten()).collect();
        all.sort_by_key(|event| event.at_ms);
        let mut seen = BTreeSet::new();
        all.retain(|event| seen.insert(event.clone()));
        all.into_iter().for_each(|event| self.push(event));
        self.is_changed = true;
    }

    fn push(&mut self, event: Event) {
        let list = self.kinds.entry(event.kind).or_default();
        if list.len() >= KEPT_OF_KIND {
            list.pop_front();
        }
        list.push_back(event);
    }

    /// Every event, oldest first.
    pub fn all(&self) -> Vec<Event> {
        let mut all: Vec<Event> = self.kinds.values().flatten().cloned().collect();
        all.sort_by_key(|event| event.at_ms);
        all
    }

    /// Whether something has been noted since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }
}

impl Event {
    fn bounded(self) -> Self {
        Self {
            object: bounded(&self.object),
            what: bounded(&self.what),
            why: self.why.as_deref().map(bounded),
            ..self
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_all_night_pushes_out_no_order_and_the_log_is_bounded() {
        let mut log = Log::default();
        log.note(1, Kind::Operator, "user 0", "peering disable lab", Some("done"));
        for second in 0..10_000 {
            log.note(2 + second, Kind::Session, "198.18.0.2", &"down ".repeat(1_000), None);
        }
        let all = log.all();
        assert_eq!(all.len(), KEPT_OF_KIND + 1);
        assert_eq!((all[0].kind, all[0].what.as_str()), (Kind::Operator, "peering disable lab"));
        assert_eq!(all[KEPT_OF_KIND].at_ms, 10_001);
        assert!(all.iter().all(|event| event.what.chars().count() <= TEXT_MAX));
        let bytes = serde_json::to_vec(&all).unwrap().len();
        assert!(bytes < 100_000, "{bytes}");
    }

    #[test]
    fn a_log_is_what_it_was_after_it_was_written_and_read() {
        let mut log = Log::default();
        log.note(5, Kind::Link, "eth1", "carrier lost", None);
        log.note(3, Kind::Config, "/etc/erdp/erdp.toml", "applied", Some("user 0"));
        assert!(log.take_changed() && !log.take_changed());
        let text = serde_json::to_string(&log.all()).unwrap();
        let mut again = Log::default();
        again.put_before(serde_json::from_str(&text).unwrap());
        assert_eq!(again.all(), log.all());
        assert_eq!(again.all().iter().map(|event| event.at_ms).collect::<Vec<_>>(), [3, 5]);
        // What both have is there once, and what is older stands before.
        again.put_before(log.all());
        again.put_before(vec![Event {
            at_ms: 1,
            kind: Kind::Daemon,
            object: "erdp".into(),
            what: "started".into(),
            why: None,
        }]);
        assert_eq!(again.all().iter().map(|event| event.at_ms).collect::<Vec<_>>(), [1, 3, 5]);
    }

    #[test]
    fn what_a_later_version_or_a_hostile_hand_has_written_is_taken_within_the_bounds() {
        let line = |kind: &str, what: &str| {
            format!(r#"{{"at_ms":1,"kind":"{kind}","object":"x","what":"{what}","more":7}}"#)
        };
        let text = format!("[{},{}]", line("weather", "a"), line("link", &"\\u001b".repeat(5_000)));
        let mut log = Log::default();
        log.put_before(serde_json::from_str(&text).unwrap());
        let all = log.all();
        assert!(all.iter().any(|event| event.kind == Kind::Other));
        assert!(
            all.iter().all(|event| event.what.chars().count() <= TEXT_MAX && !event.what.contains('\u{1b}'))
        );
        // Two of the same moment come from the file and from the process before us.
        let event = |object: &str| Event {
            at_ms: 5,
            kind: Kind::Link,
            object: object.into(),
            what: String::new(),
            why: None,
        };
        let mut twice = Log::default();
        twice.put_before(vec![event("one"), event("other")]);
        twice.put_before(twice.all());
        assert_eq!(twice.all(), [event("one"), event("other")]);
    }
}
