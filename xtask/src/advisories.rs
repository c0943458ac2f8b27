//! Cargo.lock against `advisories.toml`, a dated list of published faults of the crates in it; nothing is fetched.
//!
//! Pure: [`findings`] takes both texts and today's date. A fault is a version that is affected; a note is what ought to be looked at, a
//! list that has grown old or a crate that nobody has looked up.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use jiff::civil::Date;
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::lock::{self, Locked};

/// After so many days somebody should look for newer advisories.
const DAYS: i32 = 90;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    date: toml::value::Datetime,
    source: String,
    reviewed: BTreeSet<String>,
    advisory: Vec<Advisory>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advisory {
    id: String,
    #[serde(rename = "crate")]
    name: String,
    date: toml::value::Datetime,
    kind: Kind,
    what: String,
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Vulnerability,
    Unsound,
    Unmaintained,
    Notice,
}

impl Advisory {
    fn affects(&self, version: &Version) -> bool {
        !self.patched.iter().chain(&self.unaffected).any(|range| range.matches(version))
    }

    fn is_fault(&self) -> bool {
        matches!(self.kind, Kind::Vulnerability | Kind::Unsound)
    }
}

/// What the list says of a lock.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Versions that are affected.
    pub faults: Vec<String>,
    /// What ought to be looked at.
    pub notes: Vec<String>,
    /// How many crates of a registry were looked for.
    pub crates: usize,
    /// How many advisories there are.
    pub advisories: usize,
}

/// Holds a lock against a list.
///
/// # Errors
/// When one of the texts is not what it should be.
pub fn findings(lock: &str, list: &str, today: Date) -> Result<Findings> {
    let packages = lock::packages(lock)?;
    let list: List = toml::from_str(list).context("advisories.toml is no list of advisories")?;
    let foreign: Vec<&Locked> = packages.iter().filter(|locked| locked.source.is_some()).collect();
    let mut found =
        Findings { crates: foreign.len(), advisories: list.advisory.len(), ..Findings::default() };
    for locked in foreign {
        let Locked { name, version, .. } = locked;
        if !list.reviewed.contains(name) {
            found.notes.push(format!(
                "{name} is not among the reviewed crates: look it up in {}, and write it into the list",
                list.source
            ));
        }
        for advisory in list.advisory.iter().filter(|it| it.name == *name && it.affects(version)) {
            let Advisory { id, date, what, .. } = advisory;
            let said = format!("{name} {version}: {id} of {date}: {what}");
            if advisory.is_fault() { &mut found.faults } else { &mut found.notes }.push(said);
        }
    }
    let written: Date = list.date.to_string().parse().context("advisories.toml: date is no day")?;
    let age = (today - written).get_days();
    if age > DAYS {
        found.notes.push(format!(
            "the list is {age} days old ({}): look for newer advisories of these crates in the RustSec database",
            list.date
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::civil::date;

    use super::*;
    use crate::command::root;

    const LIST: &str = r#"
date = 2026-08-21
source = "a database"
reviewed = ["tokio", "old"]

[[advisory]]
id = "X-1"
crate = "tokio"
date = 2025-04-07
kind = "unsound"
what = "A fault"
patched = [">= 1.38.2, < 1.39.0", ">= 1.44.2"]
unaffected = ["< 0.2.5"]

[[advisory]]
id = "X-2"
crate = "old"
date = 2025-01-01
kind = "unmaintained"
what = "Nobody looks after it"
patched = []
"#;

    fn lock(name: &str, version: &str) -> String {
        format!(
            "version = 4\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"registry\"\n"
        )
    }

    #[test]
    fn an_affected_version_is_refused_and_a_patched_or_older_one_is_not() {
        let rows = [("1.38.1", 1), ("1.38.2", 0), ("1.39.0", 1), ("1.44.1", 1), ("1.44.2", 0), ("0.2.4", 0)];
        for (version, faults) in rows {
            let found = findings(&lock("tokio", version), LIST, date(2026, 9, 1)).expect("both are read");
            assert_eq!((found.faults.len(), found.notes.len()), (faults, 0), "{version}: {found:?}");
        }
        let found = findings(&lock("tokio", "1.39.0"), LIST, date(2026, 9, 1)).expect("both are read");
        assert_eq!(found.faults, ["tokio 1.39.0: X-1 of 2025-04-07: A fault"]);
    }

    #[test]
    fn an_old_list_an_unknown_crate_and_an_unmaintained_one_are_notes() {
        let note = |lock: &str, today: Date| {
            let found = findings(lock, LIST, today).expect("both are read");
            assert!(found.faults.is_empty(), "{found:?}");
            found.notes.join("; ")
        };
        assert_eq!(note(&lock("tokio", "1.50.0"), date(2026, 11, 19)), "", "90 days");
        assert!(note(&lock("tokio", "1.50.0"), date(2026, 11, 20)).starts_with("the list is 91 days old"));
        assert!(note(&lock("new", "1.0.0"), date(2026, 9, 1)).starts_with("new is not among the reviewed"));
        assert!(note(&lock("old", "1.0.0"), date(2026, 9, 1)).contains("Nobody looks after it"));
        let own = "[[package]]\nname = \"erdp-user\"\nversion = \"0.1.0\"\n";
        assert_eq!(note(own, date(2026, 9, 1)), "");
    }

    #[test]
    fn no_crate_of_this_trees_lock_is_affected_and_a_planted_one_is_refused() {
        let read = |name: &str| fs::read_to_string(root().join(name)).expect("it is there");
        let list = read("advisories.toml");
        let found = findings(&read("Cargo.lock"), &list, date(2026, 8, 21)).expect("both are read");
        assert_eq!(found.faults, Vec::<String>::new());
        assert!(found.crates > 100 && found.advisories > 40);
        // The same list finds a fault where there is one.
        let planted = findings(&lock("tokio", "1.44.0"), &list, date(2026, 8, 21)).expect("both are read");
        assert!(planted.faults[0].contains("RUSTSEC-2025-0023"), "{planted:?}");
    }
}
