//! Every `erdp show` at 100 columns, from answers as the daemon gives them. `ERDP_WRITE_GOLDEN=1` writes the pages anew: look at what `git diff` shows.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use clap::Parser;

use super::{
    ShowArguments, What, list as page_of, peer,
    table::{Look, PAGE},
};

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src/operator/show/golden"].iter().collect()
}

/// Holds a page against the one that is written down.
pub fn golden(name: &str, text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= PAGE, "{name}: longer than the page: {line}");
        assert_eq!(line.trim_end(), line, "{name}");
    }
    assert_same(name, text);
}

fn assert_same(name: &str, text: &str) {
    let path = folder().join(format!("{name}.txt"));
    if std::env::var_os("ERDP_WRITE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} is not what {} has", path.display());
}

/// An answer of the daemon.
pub fn answer(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

const LISTS: [(&str, What); 11] = [
    ("sessions", What::Sessions),
    ("routes", What::Routes),
    ("refused", What::Refused),
    ("limits", What::Limits),
    ("links", What::Links),
    ("circuits", What::Circuits),
    ("bfd", What::Bfd),
    ("counters", What::Counters),
    ("policers", What::Policers),
    ("drops", What::Drops),
    ("events", What::Events),
];

#[test]
fn every_list_fits_a_page_of_100_columns_and_has_reason_and_next_step_below_what_is_not_good() {
    for (name, topic) in LISTS {
        golden(name, &page_of(topic, &answer(name), Look::default()));
    }
}

#[test]
fn the_wide_tables_have_everything() {
    for (name, topic) in [("sessions", What::Sessions), ("routes", What::Routes), ("bfd", What::Bfd)] {
        let text = page_of(topic, &answer(name), Look { wide: true, colours: false });
        assert_same(&format!("{name}-wide"), &text);
    }
}

#[test]
fn a_list_without_entries_says_so() {
    for (name, topic) in LISTS.into_iter().filter(|(name, _)| *name != "counters") {
        assert_eq!(page_of(topic, &json!([]), Look::default()), "(no entries)\n", "{name}");
    }
}

#[test]
fn what_a_peer_has_sent_reaches_no_terminal_as_an_escape() {
    let hostile = "\u{1b}[2J\u{7}gone";
    let row = json!([{"peer": hostile, "state": hostile, "admin": hostile, "last_error": hostile, "finding": hostile, "reason": hostile,
        "remedy": hostile, "prefix": hostile, "link": hostile, "problem": hostile, "why_not": [hostile], "circuit": hostile,
        "why": hostile, "time": hostile, "faults": {"x": 1}, "last_fault": hostile, "name": hostile}]);
    for (name, topic) in LISTS {
        let value = if name == "counters" {
            json!({ "attachments": row, "dropped": {hostile: {"packets": 1}} })
        } else {
            row.clone()
        };
        for wide in [false, true] {
            let text = page_of(topic, &value, Look { wide, colours: false });
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{name}: {text:?}");
        }
    }
    let said = json!({"what": hostile, "reaction": hostile, "prefixes": [hostile], "age_s": 1});
    let page = json!([{"session": row[0], "last_faults": [said], "notification_received": said, "notification_sent": said}]);
    let look = Look::default();
    for text in [peer::pages(&page, look), peer::paths(&row, false, look), peer::paths(&row, true, look)] {
        assert!(text.contains("gone") && !text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn a_session_has_everything_on_one_page() {
    golden("peer", &peer::pages(&answer("peer"), Look::default()));
}

#[test]
fn each_path_of_a_peer_has_its_reason_in_a_list_short_and_by_itself_in_full() {
    for name in ["received", "advertised"] {
        golden(name, &peer::paths(&answer(name), false, Look::default()));
        golden(&format!("{name}-prefix"), &peer::paths(&answer(name), true, Look::default()));
    }
}

/// A command line of its own for `erdp show`.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    show: ShowArguments,
}

fn arguments(words: &str) -> ShowArguments {
    Line::try_parse_from(["show"].into_iter().chain(words.split(' '))).unwrap().show
}

#[test]
fn what_is_asked_of_the_daemon_follows_from_the_words() {
    for (words, request) in [
        ("sessions", json!({"show": "sessions"})),
        ("session", json!({"show": "sessions"})),
        ("peers", json!({"show": "sessions"})),
        ("peer", json!({"show": "sessions"})),
        ("peer 198.18.0.2", json!({"peer": {"name": "198.18.0.2"}})),
        ("sessions ce0", json!({"peer": {"name": "ce0"}})),
        ("peer lab/private primary", json!({"peer": {"name": "lab/private primary"}})),
        ("routes", json!({"show": "routes"})),
        ("routes --refused", json!({"show": "refused"})),
        ("circuit contoso", json!({"show": "circuits"})),
        ("policer", json!({"show": "policers"})),
        (
            "route 198.18.64.9 --peer 198.18.0.2",
            json!({"routes": {"place": {"longest-for": "198.18.64.9"}, "peer": "198.18.0.2", "domain": null, "community": null}}),
        ),
        (
            "routes 198.18.0.0/15 longer --domain a/private",
            json!({"routes": {"place": {"within": "198.18.0.0/15"}, "peer": null, "domain": "a/private", "community": null}}),
        ),
        ("received 198.18.0.2", json!({"paths": {"peer": "198.18.0.2", "way": "received", "place": null}})),
        (
            "advertised 198.18.0.2 fd00::/8",
            json!({"paths": {"peer": "198.18.0.2", "way": "advertised", "place": {"exactly": "fd00::/8"}}}),
        ),
    ] {
        let arguments = arguments(words);
        assert_eq!(arguments.conflict(), None, "{words}");
        assert_eq!(serde_json::to_value(arguments.request().unwrap()).unwrap(), request, "{words}");
    }
    for words in ["routes tomorrow", "routes 10.0.0.0/8 shorter", "received 198.18.0.2 x"] {
        assert!(arguments(words).conflict().is_some(), "{words}");
    }
    for words in
        ["received", "links --peer x", "drops ce0", "links --reason no-route", "routes --refused --domain x"]
    {
        assert!(arguments(words).conflict().is_some(), "{words}");
    }
}

#[test]
fn a_name_picks_its_rows_and_an_unknown_one_is_told_what_there_is() {
    let picked = |words: &str| {
        let value = arguments(words).filtered(answer("links")).map_err(|error| error.to_string())?;
        Ok::<_, String>(
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["link"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(picked("links lab").unwrap(), ["lab primary", "lab secondary"]);
    assert_eq!(picked("link lab/primary").unwrap(), ["lab primary"]);
    assert_eq!(picked("link lab secondary").unwrap(), ["lab secondary"]);
    assert_eq!(picked("link msee1").unwrap(), ["lab primary"]);
    assert!(picked("link lap").unwrap_err().contains("there are: lab primary, lab secondary"));
}

#[test]
fn names_are_singular_and_plural_and_every_name_of_before_is_one() {
    for name in [
        "sessions", "session", "peers", "peer", "routes", "route", "refused", "limits", "limit", "links",
        "link", "circuits", "circuit", "bfd", "counters", "counter", "policers", "policer", "drops", "drop",
        "events", "event",
    ] {
        assert!(Line::try_parse_from(["show", name]).is_ok(), "{name}");
    }
    for (words, json) in
        [("links -o json", true), ("links --json", true), ("links -o wide", false), ("links", false)]
    {
        assert_eq!(arguments(words).is_json(), json, "{words}");
    }
    assert_eq!((arguments("links --watch").watch, arguments("links --watch=5").watch), (Some(2), Some(5)));
}

#[test]
fn events_are_those_of_the_kind_and_the_time_that_are_asked_for() {
    let picked = |words: &str| arguments(words).filtered(answer("events")).unwrap().as_array().unwrap().len();
    let all = answer("events").as_array().unwrap().len();
    assert_eq!(
        (picked("events"), picked("events --kind operator"), picked("events --since 1s")),
        (all, 1, 0)
    );
    assert_eq!(picked("events --since 2026-01-01T09:30:00Z --kind session"), 1);
    for time in ["yesterday", "-5m", "5", "99999999999999999999d"] {
        assert!(Line::try_parse_from(["show", "events", &format!("--since={time}")]).is_err(), "{time}");
    }
}
