//! Cargo.lock against `advisories.toml`, a dated list of published faults of the crates in it; nothing is fetched.
//!
//! Pure: [`findings`] takes both texts and today's date. A fault is a version that is affected; a note is what ought to be looked at, a
//! list that has grown old or a crate that nobody has looked up.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use semver::{Version, VersionReq};
use serde::Deserialize;

/// After so many days somebody should look for newer advisories.
const DAYS: i64 = 90;

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

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: Version,
    source: Option<String>,
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

/// Holds a lock against a list; `today` is `YYYY-MM-DD`.
///
/// # Errors
/// When one of the texts is not what it should be.
pub fn findings(lock: &str, list: &str, today: &str) -> Result<Findings> {
    let lock: Lock = toml::from_str(lock).context("Cargo.lock is no lock")?;
    let list: List = toml::from_str(list).context("advisories.toml is no list of advisories")?;
    let foreign: Vec<&Locked> = lock.package.iter().filter(|locked| locked.source.is_some()).collect();
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
    let age = day(today)? - day(&list.date.to_string())?;
    if age > DAYS {
        found.notes.push(format!(
            "the list is {age} days old ({}): look for newer advisories of these crates in the RustSec database",
            list.date
        ));
    }
    Ok(found)
}

/// The number of a day `YYYY-MM-DD` on a line of days.
fn day(date: &str) -> Result<i64> {
    let parts: Vec<i64> = date.split('-').map_while(|part| part.parse().ok()).collect();
    let [year, month, day] = parts[..] else { bail!("{date} is no date") };
    // Years that begin in March have their odd day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Ok(365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            let found = findings(&lock("tokio", version), LIST, "2026-09-01").expect("both are read");
            assert_eq!((found.faults.len(), found.notes.len()), (faults, 0), "{version}: {found:?}");
        }
        let found = findings(&lock("tokio", "1.39.0"), LIST, "2026-09-01").expect("both are read");
        assert_eq!(found.faults, ["tokio 1.39.0: X-1 of 2025-04-07: A fault"]);
    }

    #[test]
    fn an_old_list_an_unknown_crate_and_an_unmaintained_one_are_notes() {
        let note = |lock: &str, today: &str| {
            let found = findings(lock, LIST, today).expect("both are read");
            assert!(found.faults.is_empty(), "{found:?}");
            found.notes.join("; ")
        };
        assert_eq!(note(&lock("tokio", "1.50.0"), "2026-11-19"), "", "90 days");
        assert!(note(&lock("tokio", "1.50.0"), "2026-11-20").starts_with("the list is 91 days old"));
        assert!(note(&lock("new", "1.0.0"), "2026-09-01").starts_with("new is not among the reviewed"));
        assert!(note(&lock("old", "1.0.0"), "2026-09-01").contains("Nobody looks after it"));
        let own = "[[package]]\nname = \"erdp-user\"\nversion = \"0.1.0\"\n";
        assert_eq!(note(own, "2026-09-01"), "");
    }

    #[test]
    fn days_are_counted_over_the_ends_of_months_and_years() {
        let between = |from: &str, to: &str| day(to).expect("a date") - day(from).expect("a date");
        assert_eq!(between("2026-12-31", "2027-01-01"), 1);
        assert_eq!(between("2024-02-28", "2024-03-01"), 2);
        assert_eq!(between("2026-02-28", "2026-03-01"), 1);
        assert_eq!(between("2026-08-21", "2027-08-21"), 365);
        assert!(day("yesterday").is_err());
    }

    #[test]
    fn no_crate_of_this_trees_lock_is_affected_and_a_planted_one_is_refused() {
        let read = |name: &str| fs::read_to_string(root().join(name)).expect("it is there");
        let list = read("advisories.toml");
        let found = findings(&read("Cargo.lock"), &list, "2026-08-21").expect("both are read");
        assert_eq!(found.faults, Vec::<String>::new());
        assert!(found.crates > 100 && found.advisories > 40);
        // The same list finds a fault where there is one.
        let planted = findings(&lock("tokio", "1.44.0"), &list, "2026-08-21").expect("both are read");
        assert!(planted.faults[0].contains("RUSTSEC-2025-0023"), "{planted:?}");
    }
}
