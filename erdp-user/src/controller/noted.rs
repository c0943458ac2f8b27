//! The event log in the controller ([`crate::events`]): the events that the controller logs, who has ordered what, and when the log is kept.
//!
//! Events are kept with everything else that outlives the daemon, a moment after they were noted; those of an order at once, before it is answered.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Controller, kept::Scope};
use crate::{
    bgp::PeerEvent,
    config::LinkRole,
    control::{Drilling, Reply, Request, asked::Asker},
    events::{Event, Kind, Log},
    pair,
};

/// Between two looks at which links may carry traffic.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two writings of the log.
const KEEP_EVERY: Duration = Duration::from_secs(2);

/// The log, and what was seen last.
#[derive(Debug, Default)]
pub struct Noted {
    log: Log,
    /// What each circuit's link was worth.
    worth: BTreeMap<String, (bool, String)>,
    looked: Option<Duration>,
    kept: Duration,
}

impl Noted {
    /// Every event, oldest first.
    pub fn all(&self) -> Vec<Event> {
        self.log.all()
    }

    /// What was kept, or the process before us has noted.
    pub fn put_before(&mut self, events: Vec<Event>) {
        self.log.put_before(events);
    }

    /// What a link is worth; the answer is whether that is news. What is seen first is none.
    fn is_news(&mut self, link: &str, worth: (bool, String)) -> bool {
        match self.worth.insert(link.to_owned(), worth.clone()) {
            Some(before) => before != worth,
            None => false,
        }
    }
}

impl Controller {
    /// Notes an event of now.
    pub(super) fn note(&mut self, kind: Kind, object: &str, what: &str, why: Option<&str>) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.noted.log.note(at.as_millis() as u64, kind, object, what, why);
    }

    /// `erdp show events`.
    pub(super) fn show_events(&self) -> Value {
        let row = |event: &Event| {
            let at =
                i64::try_from(event.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            json!({
                "time": at.map(|at| format!("{at:.3}")), "at_ms": event.at_ms, "kind": event.kind, "object": event.object,
                "what": event.what, "why": event.why,
            })
        };
        self.noted.all().iter().map(row).collect()
    }

    /// Looks which links may carry traffic, and has the log kept, when it is time.
    pub(super) fn keep_noted(&mut self) {
        let now = self.started.elapsed();
        if self.noted.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_EVERY) {
            self.noted.looked = Some(now);
            self.note_worth();
        }
        if now.saturating_sub(self.noted.kept) >= KEEP_EVERY && self.noted.log.take_changed() {
            self.noted.kept = now;
            self.keep(Scope::Sessions, None);
        }
    }

    fn note_worth(&mut self) {
        let mut news = Vec::new();
        for circuit in &self.core.config.circuits {
            for role in LinkRole::ALL {
                let facts = self.core.link_facts(circuit, role);
                if facts.is_unknown() {
                    continue;
                }
                let judged = pair::judge(&facts);
                let reasons: Vec<&str> = judged.reasons.iter().map(|reason| reason.as_str()).collect();
                news.push((
                    format!("{} {}", circuit.name, role.as_str()),
                    (judged.is_eligible, reasons.join(", ")),
                ));
            }
        }
        for (link, (is_eligible, why)) in news {
            if self.noted.is_news(&link, (is_eligible, why.clone())) {
                let what = if is_eligible { "eligible" } else { "not eligible" };
                self.note(
                    Kind::Eligibility,
                    &link,
                    what,
                    Some(&why).filter(|why| !why.is_empty()).map(String::as_str),
                );
            }
        }
    }

    /// Notes the beginning and the end of a session; attempts that fail are in `erdp show sessions`.
    pub(super) fn note_peer(&mut self, event: &PeerEvent) {
        let (peer, what, why) = match event {
            PeerEvent::Established { peer, facts } => {
                (*peer, "established", format!("hold time {}", facts.hold))
            }
            PeerEvent::Down { peer, reason, kept } if !self.core.rib.families(*peer).is_empty() => {
                let what = if kept.is_some() { "down, its routes are kept for a restart" } else { "down" };
                (*peer, what, reason.to_string())
            }
            PeerEvent::Down { .. } | PeerEvent::Update { .. } | PeerEvent::Refresh { .. } => return,
        };
        let Some(name) = self.core.peers.get(usize::from(peer.0)).map(|peer| peer.name.clone()) else {
            return;
        };
        self.note(Kind::Session, &name, what, Some(&why));
    }

    /// Notes an order and what became of it.
    pub(super) fn note_order(&mut self, request: &Request, asker: Option<&Asker>, reply: &Reply) {
        // Who watches a drill asks four times a second.
        if !request.is_order() || matches!(request, Request::Drill(Drilling::Watch)) {
            return;
        }
        let who = match asker {
            Some(Asker { user, process: Some(process), .. }) => format!("user {user}, process {process}"),
            Some(Asker { user, .. }) => format!("user {user}"),
            None => "the daemon itself, by a signal".to_owned(),
        };
        let kind = if matches!(request, Request::Config(_)) { Kind::Config } else { Kind::Operator };
        let outcome = match reply {
            Reply::Ok(_) => "done".to_owned(),
            Reply::Error(why) => format!("refused: {why}"),
        };
        self.note(kind, &who, &request.summary(), Some(&outcome));
    }

    /// The daemon ends for good, and its log is kept.
    pub(super) fn note_stop(&mut self) {
        self.note(Kind::Daemon, "erdp", "stopped", Some("by its service manager or operator"));
        self.keep(Scope::Sessions, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_is_worth_is_news_when_it_changes_and_not_when_it_is_seen_first() {
        let mut noted = Noted::default();
        let (good, bad) = (|| (true, String::new()), || (false, "no-carrier".to_owned()));
        assert!(!noted.is_news("lab primary", good()));
        assert!(!noted.is_news("lab secondary", bad()));
        assert!(!noted.is_news("lab primary", good()));
        assert!(noted.is_news("lab primary", bad()) && !noted.is_news("lab primary", bad()));
        assert!(noted.is_news("lab primary", (false, "no-session".into())), "for another reason");
        assert!(noted.is_news("lab primary", good()));
    }
}
