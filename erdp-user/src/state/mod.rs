//! What outlives the daemon: an operator's orders that are in no file, and what a crash must not forget.
//!
//! ```text
//! STATE/state.json            one file, written whole or not at all: version, who wrote it, [`Kept`]
//! STATE/state.json.set-aside  the last one that could not be used
//! ```
//! This file has what is kept and what follows from it at a start, without I/O; [`store`] reads and writes it. What later things have to
//! keep is a new field with a default: a release that does not know it leaves it out. [`VERSION`] changes when a field changes its meaning.
//!
//! # The last order counts
//! A start runs the daemon's file. What an operator has applied or set beside it goes on over a restart, a crash and a reboot as long as
//! the file is what it was then; when the file has changed, the file is what the operator said last. A change that waited to be confirmed
//! goes back. A session that was taken out of service stays so in any case, until it is put back.

pub mod store;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{config::CircuitChange, control::File, events::Event};

/// Of the file's meaning.
pub const VERSION: u32 = 1;
/// Longest wait that a note of a peer's absence can ask for: a clock may have been wrong when it was written.
const AWAY_MAX: Duration = Duration::from_secs(24 * 3600);

/// Everything that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Sessions that an operator has taken out of service.
    pub holds: Vec<HeldSession>,
    /// Peers that are away because they announced too much (D2).
    pub away: Vec<AwayPeer>,
    /// What runs beside the daemon's file.
    pub configured: Option<Configured>,
    /// The event log.
    pub events: Vec<Event>,
}

/// A session that an operator has taken out of service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSession {
    /// Our address and the peer's.
    pub ends: (IpAddr, IpAddr),
    /// The operator's text.
    pub text: String,
    /// Since when, in seconds of Unix time.
    pub since: u64,
}

/// A peer that is away because it announced too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwayPeer {
    /// Our address and the peer's.
    pub ends: (IpAddr, IpAddr),
    /// How often it has happened: the next wait follows from it.
    pub count: u32,
    /// When it may come back, in seconds of Unix time.
    pub until: u64,
}

impl AwayPeer {
    /// How long it still has to wait; zero: only the count matters.
    pub fn left(&self, now: u64) -> Duration {
        Duration::from_secs(self.until.saturating_sub(now)).min(AWAY_MAX)
    }
}

/// What runs beside the daemon's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// The daemon's file as it was then.
    pub file: File,
    /// The configuration that was applied and that the file has not. While a change waits to be confirmed: the one before it.
    #[serde(default)]
    pub applied: Option<File>,
    /// What `erdp set` has changed in it.
    #[serde(default)]
    pub settings: Vec<(String, CircuitChange)>,
    /// Where the change is from that waits to be confirmed.
    #[serde(default)]
    pub unconfirmed: Option<PathBuf>,
}

/// What a start runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The configuration.
    pub run: File,
    /// What is set in it.
    pub settings: Vec<(String, CircuitChange)>,
    /// What the operator should know of this.
    pub notes: Vec<String>,
}

impl Configured {
    /// What is to be noted beside this file; `None`: nothing is.
    pub fn new(
        file: &File,
        applied: Option<&File>,
        settings: &[(String, CircuitChange)],
        unconfirmed: Option<&Path>,
    ) -> Option<Self> {
        let is_anything = applied.is_some() || !settings.is_empty() || unconfirmed.is_some();
        is_anything.then(|| Self {
            file: file.clone(),
            applied: applied.cloned(),
            settings: settings.to_vec(),
            unconfirmed: unconfirmed.map(Path::to_owned),
        })
    }
}

/// What a start with this file runs.
pub fn resolve(kept: Option<&Configured>, file: &File) -> Resolved {
    let as_written = |notes| Resolved { run: file.clone(), settings: Vec::new(), notes };
    let Some(kept) = kept else { return as_written(Vec::new()) };
    let shown = file.path.display();
    let mut notes = Vec::new();
    if kept.file != *file {
        let given_up = given_up(kept);
        let note = format!("{shown} has changed since then, so it counts: {given_up} is given up");
        return as_written(vec![note.replace(char::is_control, " ")]);
    }
    if let Some(from) = &kept.unconfirmed {
        notes.push(format!("{} was applied and not confirmed: back to what ran before it", from.display()));
    }
    if let Some(applied) = &kept.applied {
        let applied = applied.path.display();
        notes.push(format!("what was applied from {applied} runs on, which {shown} has not"));
    }
    for (circuit, _) in &kept.settings {
        notes.push(format!("circuit {circuit} is as `erdp set` has made it, which {shown} has not"));
    }
    // They go into the log, and names in them may be anybody's.
    let notes = notes.into_iter().map(|note| note.replace(char::is_control, " ")).collect();
    let run = kept.applied.clone().unwrap_or_else(|| file.clone());
    Resolved { run, settings: kept.settings.clone(), notes }
}

fn given_up(kept: &Configured) -> String {
    let applied = kept.applied.as_ref().map(|it| format!("what was applied from {}", it.path.display()));
    let set = (!kept.settings.is_empty()).then(|| "what was set".to_owned());
    let unconfirmed = kept.unconfirmed.as_ref().map(|it| format!("going back from {}", it.display()));
    let parts: Vec<String> = [unconfirmed, applied, set].into_iter().flatten().collect();
    parts.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    fn set() -> Vec<(String, CircuitChange)> {
        vec![("x".into(), CircuitChange { bandwidth: Some("2G".into()), ..CircuitChange::default() })]
    }

    #[test]
    fn what_an_operator_said_last_is_what_a_start_runs() {
        let own = file("/etc/erdp.toml", "one");
        let (edited, other) = (file("/etc/erdp.toml", "two"), file("/tmp/new.toml", "new"));
        let before = file("/etc/erdp.toml", "before");
        let kept = |applied: Option<&File>, settings: &[_], unconfirmed: Option<&str>| {
            Configured::new(&own, applied, settings, unconfirmed.map(Path::new))
        };
        assert_eq!(kept(None, &[], None), None, "the file says all of it");
        // What is kept, the file at the start; what runs, how much is set in it, words of the notes.
        type Row<'a> = (Option<Configured>, &'a File, &'a File, usize, &'a [&'a str]);
        let rows: [Row<'_>; 9] = [
            (None, &own, &own, 0, &[]),
            (kept(Some(&other), &[], None), &own, &other, 0, &["applied from /tmp/new.toml runs on"]),
            (
                kept(Some(&other), &[], None),
                &edited,
                &edited,
                0,
                &["has changed", "/tmp/new.toml is given up"],
            ),
            (kept(None, &set(), None), &own, &own, 1, &["circuit x"]),
            (kept(None, &set(), None), &edited, &edited, 0, &["what was set is given up"]),
            (kept(Some(&other), &set(), None), &own, &other, 1, &["runs on", "circuit x"]),
            // Not confirmed: another file, then the daemon's own, which had been edited; then one more edit.
            (
                kept(None, &[], Some("/tmp/new.toml")),
                &own,
                &own,
                0,
                &["/tmp/new.toml was applied and not confirmed"],
            ),
            (kept(Some(&before), &[], Some("/etc/erdp.toml")), &own, &before, 0, &["not confirmed"]),
            (
                kept(Some(&before), &[], Some("/etc/erdp.toml")),
                &edited,
                &edited,
                0,
                &["has changed", "going back"],
            ),
        ];
        for (at, (kept, file, run, settings, words)) in rows.into_iter().enumerate() {
            let resolved = resolve(kept.as_ref(), file);
            assert_eq!((&resolved.run, resolved.settings.len()), (run, settings), "row {at}");
            let notes = resolved.notes.join("\n");
            assert_eq!(notes.is_empty(), words.is_empty(), "row {at}: {notes}");
            assert!(words.iter().all(|word| notes.contains(word)), "row {at}: {notes}");
        }
    }

    #[test]
    fn a_wait_that_a_wrong_clock_has_made_endless_ends() {
        let ends = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let away = |until| AwayPeer { ends, count: 1, until };
        assert_eq!(away(100).left(90), Duration::from_secs(10));
        assert_eq!(away(100).left(101), Duration::ZERO);
        assert_eq!(away(u64::MAX).left(0), AWAY_MAX);
    }
}
