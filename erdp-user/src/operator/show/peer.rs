//! `erdp show peer PEER`: everything about one session on one page; and the lists of its paths.

use serde_json::Value;

use super::{
    table::{Cell, Column, Look, Note, Table, Tone, clean, duration, hanging, note},
    tables::{EMPTY, last_error, session_notes, state},
    values::{cell, number, rows, text},
};

/// The page of each session that is meant.
pub fn pages(value: &Value, look: Look) -> String {
    if rows(value).is_empty() {
        return EMPTY.into();
    }
    rows(value).iter().map(|it| page(it, look)).collect::<Vec<_>>().join("\n")
}

fn page(value: &Value, look: Look) -> String {
    let session = &value["session"];
    let since = value["state_s"].as_u64().map(|it| format!(" for {}", duration(it))).unwrap_or_default();
    let mut page = Page { text: String::new(), look };
    let name = format!(
        "{} (AS {}, {}) on {}",
        text(&session["peer"]),
        text(&session["asn"]),
        text(&session["side"]),
        text(&session["attachment"])
    );
    page.text = format!("{}: {}{since}\n", clean(name), state(session).painted(look));
    session_notes(session).iter().for_each(|it| page.text += &note(it, look));
    page.line("ends", &ends(value));
    page.line("service", &text(&session["admin"]));
    page.line("configured", &configured(&value["configured"]));
    page.line("agreed", &agreed(&value["agreed"]));
    page.line("timers", &timers(value));
    page.line("BFD", &text(&session["bfd"]));
    let surplus = number(&session["surplus"]);
    page.line(
        "routes",
        &format!(
            "{} received, {} of them refused, {} draining, {} kept from before; {} advertised, {} too long to be; {surplus} of a surplus refused",
            number(&session["received"]),
            number(&session["refused"]),
            number(&session["draining"]),
            number(&session["stale"]),
            number(&session["advertised"]),
            number(&session["too_long"]),
        ),
    );
    let (used, most) = (number(&session["memory_bytes"]), number(&session["memory_max_bytes"]));
    page.line("memory", &format!("{} KiB of {} MiB (max-memory-mib)", used.div_ceil(1024), most >> 20));
    page.messages(&value["counters"]);
    page.line("reactions", &reactions(&value["reactions"]));
    for fault in rows(&value["last_faults"]) {
        let of = if rows(&fault["prefixes"]).is_empty() {
            String::new()
        } else {
            format!("; prefixes {}", text(&fault["prefixes"]))
        };
        page.line(
            "  fault",
            &format!(
                "{} ago, {}: {}{of}",
                duration(number(&fault["age_s"])),
                text(&fault["reaction"]),
                text(&fault["what"])
            ),
        );
    }
    page.line("last error", &last_error(session).unwrap_or_else(|| "none".into()));
    for (label, key) in [("notified by it", "notification_received"), ("notified by us", "notification_sent")]
    {
        let said = &value[key];
        let said = said
            .as_object()
            .map(|it| format!("{} ({} ago)", text(&it["what"]), duration(number(&it["age_s"]))));
        page.line(label, &said.unwrap_or_else(|| "never".into()));
    }
    page.text
}

struct Page {
    text: String,
    look: Look,
}

/// Where values begin.
const VALUES: usize = 17;

impl Page {
    fn line(&mut self, label: &str, value: &str) {
        let front = format!("  {label:<width$}", width = VALUES - 2);
        self.text += &hanging(&front, value, Tone::Plain, self.look);
    }

    fn messages(&mut self, counters: &Value) {
        for (label, suffix) in [("messages in", "in"), ("messages out", "out")] {
            let count = |kind: &str| number(&counters[format!("{kind}_{suffix}")]);
            self.line(
                label,
                &format!(
                    "{}: {} OPEN, {} UPDATE ({} announced, {} withdrawn), {} KEEPALIVE, {} NOTIFICATION, {} ROUTE-REFRESH",
                    count("messages"),
                    count("opens"),
                    count("updates"),
                    count("announced"),
                    count("withdrawn"),
                    count("keepalives"),
                    count("notifications"),
                    count("refreshes"),
                ),
            );
        }
        self.line(
            "sessions",
            &format!(
                "established {} times, {} ended or attempts failed, {} updates not sent",
                number(&counters["established"]),
                number(&counters["failed"]),
                number(&counters["unsent"])
            ),
        );
    }
}

fn ends(value: &Value) -> String {
    format!(
        "we {} (AS {}, identifier {}), it {}",
        text(&value["local"]),
        text(&value["local_asn"]),
        text(&value["router_id"]),
        value["agreed"]["router_id"]
            .as_str()
            .map_or_else(|| "with an identifier not known yet".into(), |it| format!("with identifier {it}"))
    )
}

fn configured(value: &Value) -> String {
    let mut words = vec![
        format!("families {}", text(&value["families"])),
        format!("hold {}s", number(&value["hold_s"])),
        if value["passive"] == true { "waits for it to connect".into() } else { "connects".into() },
    ];
    for (key, word) in [
        ("md5", "MD5 key"),
        ("gtsm", "GTSM"),
        ("bfd", "BFD"),
        ("add_path", "several paths"),
        ("role_strict", "strict role"),
    ] {
        if value[key] == true {
            words.push(word.into());
        }
    }
    for (key, word) in
        [("role", "our role"), ("local_preference", "local preference"), ("max_prefixes", "max-prefixes")]
    {
        if !value[key].is_null() {
            words.push(format!("{word} {}", text(&value[key])));
        }
    }
    words.join(", ")
}

/// The capabilities that both sides have.
fn agreed(value: &Value) -> String {
    if value.is_null() {
        return "nothing: no session".into();
    }
    let mut words = vec![format!("families {}", text(&value["families"]))];
    for (key, word) in [
        ("four_octet_asn", "four-octet AS numbers"),
        ("route_refresh", "route refresh"),
        ("enhanced_refresh", "enhanced refresh"),
        ("extended_messages", "extended messages"),
        ("end_of_rib", "End-of-RIB"),
        ("notification_restart", "graceful NOTIFICATION"),
    ] {
        if value[key] == true {
            words.push(word.into());
        }
    }
    if !rows(&value["add_path"]).is_empty() {
        words.push(format!("several paths of {}", text(&value["add_path"])));
    }
    if !value["role"].is_null() {
        words.push(format!("its role {}", text(&value["role"])));
    }
    match value["restart"]["time"].as_u64() {
        Some(seconds) => words.push(format!("graceful restart within {seconds}s")),
        None => words.push("no graceful restart".into()),
    }
    words.join(", ")
}

fn timers(value: &Value) -> String {
    let hold = value["agreed"]["hold"].as_u64();
    let away =
        value["away_s"].as_u64().map(|it| format!("; away for too many prefixes for {} more", duration(it)));
    let timers = match hold {
        Some(0) => "no keepalives (hold time 0)".into(),
        Some(hold) => format!("hold {hold}s, keepalive {}s", hold / 3),
        None => format!("hold {}s offered", number(&value["configured"]["hold_s"])),
    };
    timers + &away.unwrap_or_default()
}

/// What was done about faults (RFC 7606).
fn reactions(value: &Value) -> String {
    let counts: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, count)| number(count) > 0)
        .map(|(kind, count)| format!("{} {kind}", number(count)))
        .collect();
    if counts.is_empty() {
        "none: no fault in its UPDATE messages (RFC 7606)".into()
    } else {
        counts.join(", ") + " (RFC 7606)"
    }
}

/// `erdp show received PEER` and `erdp show advertised PEER`. With `detail`, each path with its reason in full.
pub fn paths(value: &Value, detail: bool, look: Look) -> String {
    const COLUMNS: [Column; 12] = [
        Column::new("PREFIX"),
        Column::new("VERDICT"),
        Column::new("NEXT-HOP"),
        Column::new("AS-PATH").least(11),
        Column::new("PREFERENCE").rank(1),
        Column::new("MED").rank(2),
        Column::new("DOMAIN").least(8).rank(3),
        Column::new("WHY").least(20),
        Column::wide("PATH-ID"),
        Column::wide("ORIGIN"),
        Column::wide("LOCAL-PREF"),
        Column::wide("COMMUNITIES"),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let verdict = text(&row["verdict"]);
        let tone = match verdict.as_str() {
            "best" | "used" | "advertised" => Tone::Good,
            "refused" | "held-back" | "circuit-off" => Tone::Bad,
            _ => Tone::Plain,
        };
        let keys = ["next_hop", "as_path", "preference", "med", "domain"];
        let mut cells = vec![cell(&row["prefix"]), Cell::toned(verdict, tone)];
        cells.extend(keys.map(|key| cell(&row[key])));
        cells.push(if detail { Cell::default() } else { cell(&row["why"]) });
        cells.extend(["path_id", "origin", "local_pref", "communities"].map(|key| cell(&row[key])));
        table.row(cells, if detail { details(row, tone) } else { vec![] });
    }
    if table.is_empty() { EMPTY.into() } else { table.text(look) }
}

/// A path before policy and after, and why it is used or not.
fn details(row: &Value, tone: Tone) -> Vec<Note> {
    let line = |label: &str, text: String, tone| Note { label: label.into(), text, tone };
    let is_sent = row["verdict"] == "advertised" || row["verdict"] == "held-back";
    let mut notes =
        vec![line("why", text(&row["why"]), if tone == Tone::Bad { Tone::Bad } else { Tone::Plain })];
    let attributes = || {
        let mut words = vec![
            format!("next hop {}", text(&row["next_hop"])),
            format!("AS path {}", text(&row["as_path"])),
        ];
        words.push(format!("origin {}", text(&row["origin"])));
        for (key, word) in
            [("med", "MED"), ("local_pref", "local preference"), ("path_id", "path identifier")]
        {
            if !row[key].is_null() {
                words.push(format!("{word} {}", text(&row[key])));
            }
        }
        let communities: Vec<String> = rows(&row["communities"]).iter().map(text).collect();
        words.push(match communities.as_slice() {
            [] => "no communities".into(),
            some => format!("communities {}", some.join(", ")),
        });
        words.join("; ")
    };
    if is_sent {
        if !row["received_as_path"].is_null() {
            let (path, next_hop) = (text(&row["received_as_path"]), text(&row["received_next_hop"]));
            notes.push(line("before policy", format!("next hop {next_hop}; AS path {path}"), Tone::Plain));
        }
        if row["verdict"] == "advertised" {
            notes.push(line("after policy", attributes(), Tone::Plain));
        }
    } else {
        notes.push(line("before policy", attributes(), Tone::Plain));
        let after = match row["preference"].as_u64() {
            Some(preference) => {
                format!("accepted into {} with preference {preference}", text(&row["domain"]))
            }
            None if row["verdict"] == "refused" => format!("refused in {}", text(&row["domain"])),
            None => format!("kept, and not used in {}", text(&row["domain"])),
        };
        notes.push(line("after policy", after, Tone::Plain));
    }
    notes
}
