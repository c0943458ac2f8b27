//! Each list of `erdp show` as a table: its columns, and below a row that is not good the reason and the next step.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    steps,
    table::{Cell, Column, Look, Note, Table, Tone, bits, duration, note},
    values::{came_in_on, cell, endpoint, moment, number, rows, sent_by, text},
};

/// What stands where there is nothing to show.
pub const EMPTY: &str = "(no entries)\n";

/// A sentence why something is so.
pub fn why(text: impl Into<String>) -> Note {
    Note { label: "why".into(), text: text.into(), tone: Tone::Bad }
}

/// What to do next.
pub fn next(text: impl Into<String>) -> Note {
    Note { label: "next".into(), text: text.into(), tone: Tone::Plain }
}

fn remark(text: impl Into<String>) -> Note {
    Note { label: "note".into(), text: text.into(), tone: Tone::Warn }
}

fn finished(table: &Table, look: Look) -> String {
    if table.is_empty() { EMPTY.into() } else { table.text(look) }
}

/// `erdp show sessions`.
pub fn sessions(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 18] = [
        Column::new("PEER"),
        Column::new("ASN"),
        Column::new("SIDE").rank(4),
        Column::new("STATE"),
        Column::new("ADMIN").least(8),
        Column::new("RECEIVED"),
        Column::new("REFUSED").rank(2),
        Column::new("ADVERTISED"),
        Column::new("UP").rank(1),
        Column::new("BFD").rank(3),
        Column::wide("STALE"),
        Column::wide("DRAINING"),
        Column::wide("SURPLUS"),
        Column::wide("TOO-LONG"),
        Column::wide("SESSIONS"),
        Column::wide("FAULTS"),
        Column::wide("ATTACHMENT"),
        Column::wide("LAST-ERROR"),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let zero_is_none = |key: &str| match number(&row[key]) {
            0 => Cell::default(),
            count => count.to_string().into(),
        };
        let up = row["uptime_s"].as_u64().map_or_else(|| "-".into(), duration);
        let faults = match faults(row) {
            0 => Cell::default(),
            count => count.to_string().into(),
        };
        let cells = vec![
            cell(&row["peer"]),
            cell(&row["asn"]),
            cell(&row["side"]),
            state(row),
            admin(row),
            cell(&row["received"]),
            cell(&row["refused"]),
            cell(&row["advertised"]),
            up.into(),
            cell(&row["bfd"]),
            zero_is_none("stale"),
            zero_is_none("draining"),
            zero_is_none("surplus"),
            zero_is_none("too_long"),
            cell(&row["sessions"]),
            faults,
            cell(&row["attachment"]),
            last_error(row).unwrap_or_default().into(),
        ];
        table.row(cells, session_notes(row));
    }
    finished(&table, look)
}

/// A session's state in its colour.
pub fn state(row: &Value) -> Cell {
    let state = text(&row["state"]);
    let tone = if state == "Established" { Tone::Good } else { Tone::Bad };
    Cell::toned(state, tone)
}

fn admin(row: &Value) -> Cell {
    let admin = text(&row["admin"]);
    // The reason stands below.
    let word = admin.split(':').next().unwrap_or_default().to_owned();
    let tone = if word == "enabled" { Tone::Plain } else { Tone::Warn };
    Cell::toned(word, tone)
}

/// How many faults there were in a peer's UPDATE messages.
pub fn faults(row: &Value) -> u64 {
    row["faults"].as_object().map_or(0, |it| it.values().filter_map(Value::as_u64).sum())
}

/// The last error with its age.
pub fn last_error(row: &Value) -> Option<String> {
    let error = row["last_error"].as_str()?;
    let age = row["last_error_age_s"].as_u64().map(|age_s| format!(" ({} ago)", duration(age_s)));
    Some(text(&error.into()) + &age.unwrap_or_default())
}

/// What stands below a session.
pub fn session_notes(row: &Value) -> Vec<Note> {
    let mut notes = Vec::new();
    let finding = row["finding"].as_str();
    let (admin, error) = (text(&row["admin"]), last_error(row));
    if row["state"] != "Established" {
        let out = admin.split_once(": ").filter(|(word, _)| *word != "enabled");
        let reason = out.map(|(word, why)| format!("{word} by an order: {why}"));
        let off = out.filter(|(_, why)| why.contains("(A8)")).map(|(_, why)| (*why).to_owned());
        let reason = off.or(reason).or_else(|| finding.map(str::to_owned)).or(error);
        notes.push(why(reason.unwrap_or_else(|| "no attempt has ended yet".into())));
        notes.push(next(steps::session(row)));
    } else {
        if !matches!(admin.as_str(), "enabled" | "-") {
            notes.push(remark(admin));
        }
        notes.extend(finding.map(remark));
    }
    if faults(row) > 0 {
        let last = row["last_fault"].as_str().map(|fault| text(&fault.into())).unwrap_or_default();
        let age = row["last_fault_age_s"].as_u64().map(duration).unwrap_or_default();
        let many = faults(row);
        notes.push(remark(format!(
            "{many} faults in its UPDATE messages (RFC 7606), the last {age} ago: {last}; `erdp show refused` has the messages"
        )));
    }
    notes
}

/// `erdp show routes`.
pub fn routes(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 9] = [
        Column::new("DOMAIN").least(12),
        Column::new("PREFIX"),
        Column::new("NEXT-HOPS").least(12),
        Column::new("SOURCE").rank(1),
        Column::new("AS-PATH").least(11),
        Column::new("COMMUNITIES").least(11),
        Column::wide("VIA"),
        Column::wide("SHARES"),
        Column::wide("DRAINING"),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let keys = ["domain", "prefix", "next_hops", "source", "as_path", "communities", "via", "shares"];
        let mut cells: Vec<Cell> = keys.map(|key| cell(&row[key])).to_vec();
        let drains = row["draining"] == true;
        cells.push(if drains { "yes".into() } else { Cell::default() });
        let note = "every path is being drained (B7): it is used only because there is no other one";
        table.row(cells, if drains { vec![remark(note)] } else { vec![] });
    }
    finished(&table, look)
}

/// `erdp show refused`; each reason once, below.
pub fn refused(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 6] = [
        Column::new("WAY"),
        Column::new("PEER").least(15),
        Column::new("DOMAIN").least(12),
        Column::new("PREFIX"),
        Column::new("RULE"),
        Column::new("REASON").least(20),
    ];
    let mut table = Table::new(&COLUMNS);
    let mut reasons: Vec<(String, String)> = Vec::new();
    for row in rows(value) {
        let cells = ["way", "peer", "domain", "prefix", "rule", "reason"].map(|key| cell(&row[key]));
        table.row(cells.to_vec(), vec![]);
        let reason = (text(&row["rule"]), text(&row["reason"]));
        if !reasons.contains(&reason) && reasons.len() < REASONS {
            reasons.push(reason);
        }
    }
    if !table.cuts("REASON", look) || table.is_empty() {
        return finished(&table, look);
    }
    let mut all = table.text(look);
    for (rule, reason) in reasons {
        let label = if rule == "-" { "note" } else { &rule };
        all += &footnote(label, &reason, look);
    }
    all
}

/// Most reasons that are printed in full.
const REASONS: usize = 40;

/// A line below a table, for a word in it.
fn footnote(word: &str, sentence: &str, look: Look) -> String {
    note(&Note { label: word.into(), text: sentence.into(), tone: Tone::Plain }, look)
}

/// `erdp show limits`.
pub fn limits(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 8] = [
        Column::new("DOMAIN").least(20),
        Column::new("FAMILY"),
        Column::new("WANTED"),
        Column::new("ADVERTISED"),
        Column::new("AGGREGATES").rank(1),
        Column::new("HELD-BACK").rank(2),
        Column::new("LIMIT"),
        Column::new("USED"),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let keys = ["domain", "family", "wanted", "told", "aggregates", "held", "limit"];
        let mut cells: Vec<Cell> = keys.map(|key| cell(&row[key])).to_vec();
        let percent = number(&row["percent"]);
        let tone = match percent {
            0..80 => Tone::Good,
            80..=100 => Tone::Warn,
            _ => Tone::Bad,
        };
        cells.push(Cell::toned(format!("{percent} %"), tone));
        table.row(cells, steps::limit(row).map(next).into_iter().collect());
    }
    finished(&table, look)
}

/// `erdp show links`.
pub fn links(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 8] = [
        Column::new("LINK").least(16),
        Column::new("INTERFACE"),
        Column::new("UP"),
        Column::new("ELIGIBLE"),
        Column::new("WHY-NOT").least(12),
        Column::new("XDP"),
        Column::new("SLA"),
        Column::new("STATE"),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let whole = text(&row["sla"]);
        let sla =
            if look.wide { whole.clone() } else { whole.split(':').next().unwrap_or_default().to_owned() };
        let sla_tone = if whole.starts_with("NOT") { Tone::Bad } else { Tone::Plain };
        let cells = vec![
            cell(&row["link"]),
            cell(&row["interface"]),
            judged(&row["up"], Tone::Bad),
            judged(&row["eligible"], Tone::Bad),
            cell(&row["why_not"]),
            cell(&row["xdp"]),
            Cell::toned(sla, sla_tone),
            cell(&row["state"]),
        ];
        let mut notes: Vec<Note> =
            row["problem"].as_str().map(|it| why(text(&it.into()))).into_iter().collect();
        notes.extend(reasons(&row["why_not"], &text(&row["link"])));
        if !look.wide && whole.starts_with("NOT valid: ") && notes.is_empty() {
            notes.push(remark(whole.replacen("NOT valid: ", "not valid for Microsoft's SLA: ", 1)));
        }
        table.row(cells, notes);
    }
    finished(&table, look)
}

/// Yes or no, where no is not good.
fn judged(value: &Value, no: Tone) -> Cell {
    let tone = match value {
        Value::Bool(true) => Tone::Good,
        Value::Bool(false) => no,
        _ => Tone::Plain,
    };
    Cell::toned(text(value), tone)
}

/// The next step about each reason of a link.
fn reasons(reasons: &Value, link: &str) -> Vec<Note> {
    let steps = rows(reasons).iter().filter_map(|reason| {
        let reason = reason.as_str()?;
        Some(next(format!("{reason}: {}", steps::link(reason, link)?)))
    });
    steps.collect()
}

/// `erdp show circuits`.
pub fn circuits(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 8] = [
        Column::new("CIRCUIT").least(12),
        Column::new("LINKS"),
        Column::new("SLA"),
        Column::new("PRIMARY").least(12),
        Column::new("SECONDARY").least(12),
        Column::new("FLAPS").rank(2),
        Column::new("RANK").least(8),
        Column::new("DRILL").least(12),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let valid = row["sla_valid"] == true;
        let links = text(&row["links"]);
        let links_tone = match links.as_str() {
            "both" => Tone::Good,
            "one" => Tone::Warn,
            _ => Tone::Bad,
        };
        let worth = |key: &str| match rows(&row[key]) {
            [] if row[key].is_array() => Cell::toned("ok", Tone::Good),
            [] => Cell::from("unknown"),
            _ => Cell::toned(text(&row[key]), Tone::Bad),
        };
        let cells = vec![
            cell(&row["circuit"]),
            Cell::toned(links, links_tone),
            if valid { Cell::toned("valid", Tone::Good) } else { Cell::toned("NOT valid", Tone::Bad) },
            worth("primary"),
            worth("secondary"),
            cell(&row["flaps"]),
            cell(&row["rank"]),
            cell(&row["drill"]),
        ];
        let mut notes = Vec::new();
        if !valid || look.wide {
            notes.push(if valid { remark(text(&row["why"])) } else { why(text(&row["why"])) });
        }
        for link in ["primary", "secondary"] {
            notes.extend(reasons(&row[link], &format!("{} {link}", text(&row["circuit"]))));
        }
        table.row(cells, notes);
    }
    finished(&table, look)
}

/// `erdp show bfd`.
pub fn bfd(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 14] = [
        Column::new("PEER"),
        Column::new("STATE"),
        Column::new("REMOTE"),
        Column::new("NEXT-HOP"),
        Column::new("INTERVAL"),
        Column::new("DETECTION"),
        Column::new("SINCE"),
        Column::new("UPS").rank(2),
        Column::new("DIAGNOSTIC").least(12).rank(1),
        Column::wide("ATTACHMENT"),
        Column::wide("DISCRIMINATOR"),
        Column::wide("RECEIVED"),
        Column::wide("ANSWERED"),
        Column::wide("EXPIRED"),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let is_up = text(&row["state"]).eq_ignore_ascii_case("up");
        let milliseconds = |key: &str| match row[key].as_f64() {
            Some(ms) => format!("{ms} ms"),
            None => "-".into(),
        };
        let cells = vec![
            cell(&row["peer"]),
            Cell::toned(text(&row["state"]), if is_up { Tone::Good } else { Tone::Bad }),
            cell(&row["remote_state"]),
            Cell::toned(
                text(&row["next_hop"]),
                if row["next_hop"] == "dead" { Tone::Bad } else { Tone::Plain },
            ),
            milliseconds("interval_ms").into(),
            milliseconds("detection_ms").into(),
            row["since_s"].as_u64().map_or_else(|| "-".into(), duration).into(),
            cell(&row["ups"]),
            if row["diagnostic"] == "none" { Cell::default() } else { cell(&row["diagnostic"]) },
            cell(&row["attachment"]),
            cell(&row["discriminator"]),
            cell(&row["received"]),
            cell(&row["answered"]),
            cell(&row["expired"]),
        ];
        table.row(cells, if is_up { vec![] } else { vec![next(steps::bfd(row))] });
    }
    finished(&table, look)
}

/// `erdp show policers`.
pub fn policers(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 13] = [
        Column::new("CIRCUIT").least(12),
        Column::new("LINKS"),
        Column::new("DIRECTION"),
        Column::new("RATE").rank(1),
        Column::new("CLASS"),
        Column::new("CONFORM"),
        Column::new("BURST"),
        Column::new("MARKED").rank(2),
        Column::new("DROPPED"),
        Column::wide("CONFORM-BYTES"),
        Column::wide("BURST-BYTES"),
        Column::wide("MARKED-BYTES"),
        Column::wide("DROPPED-BYTES"),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let dropped = number(&row["dropped_packets"]);
        let cells = vec![
            cell(&row["circuit"]),
            cell(&row["links"]),
            cell(&row["direction"]),
            bits(number(&row["rate_bps"])).into(),
            cell(&row["class"]),
            cell(&row["conform_packets"]),
            cell(&row["burst_packets"]),
            cell(&row["marked_packets"]),
            Cell::toned(dropped.to_string(), if dropped > 0 { Tone::Warn } else { Tone::Plain }),
            cell(&row["conform_bytes"]),
            cell(&row["burst_bytes"]),
            cell(&row["marked_bytes"]),
            cell(&row["dropped_bytes"]),
        ];
        table.row(cells, vec![]);
    }
    finished(&table, look)
}

/// `erdp show counters`.
pub fn counters(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 3] =
        [Column::new("COUNTER").least(20), Column::new("PACKETS"), Column::new("BYTES")];
    let mut table = Table::new(&COLUMNS);
    let mut tally = |name: String, value: &Value, tone: Tone| {
        table.row(vec![Cell::toned(name, tone), cell(&value["packets"]), cell(&value["bytes"])], vec![]);
    };
    for name in ["rx", "tx", "originated", "from_kernel", "transmit_lost"] {
        tally(name.into(), &value[name], Tone::Plain);
    }
    for (group, prefix, tone) in [("punted", "punt", Tone::Plain), ("dropped", "drop", Tone::Warn)] {
        for (name, value) in value[group].as_object().into_iter().flatten() {
            if value["packets"] != 0 {
                tally(format!("{prefix} {name}"), value, tone);
            }
        }
    }
    for attachment in rows(&value["attachments"]) {
        for direction in ["rx", "tx"] {
            tally(format!("{} {direction}", text(&attachment["name"])), &attachment[direction], Tone::Plain);
        }
    }
    let mut all = table.text(look);
    for (map, count) in value["reconciled"]["repaired"].as_object().into_iter().flatten() {
        all += &format!("map records repaired in {map}: {}\n", text(count));
    }
    let unexplained = text(&value["unexplained"]);
    let tone = if unexplained == "0" { Tone::Plain } else { Tone::Bad };
    all + &format!("unexplained packets: {}\n", tone.paint(&unexplained, look))
}

/// `erdp show drops`: a line for each frame, then what to do about each reason.
pub fn drops(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 9] = [
        Column::new("TIME"),
        Column::new("REASON"),
        Column::new("CAME-IN-ON").least(12),
        Column::new("FROM").least(18),
        Column::new("TO").least(18),
        Column::new("PROTOCOL").rank(4),
        Column::new("DSCP").rank(6),
        Column::new("TTL").rank(7),
        Column::new("BYTES").rank(5),
    ];
    let mut table = Table::new(&COLUMNS);
    let mut remedies = BTreeMap::new();
    for row in rows(value) {
        let cells = vec![
            moment(&row["time"], look.wide).into(),
            Cell::toned(text(&row["reason"]), Tone::Warn),
            cell(came_in_on(row)),
            endpoint(sent_by(row), &row["source_port"]).into(),
            endpoint(&row["destination"], &row["destination_port"]).into(),
            cell(&row["protocol"]),
            cell(&row["dscp"]),
            cell(&row["ttl"]),
            cell(&row["length"]),
        ];
        table.row(cells, vec![]);
        remedies.insert(text(&row["reason"]), text(&row["remedy"]));
    }
    let below = remedies.iter().map(|(reason, remedy)| footnote(reason, remedy, look)).collect::<String>();
    finished(&table, look) + &below
}

/// `erdp show events`.
pub fn events(value: &Value, look: Look) -> String {
    const COLUMNS: [Column; 5] = [
        Column::new("TIME"),
        Column::new("KIND"),
        Column::new("WHICH").least(14),
        Column::new("WHAT").least(16),
        Column::new("WHY").least(14),
    ];
    let mut table = Table::new(&COLUMNS);
    for row in rows(value) {
        let what = text(&row["what"]);
        let is_bad =
            ["down", "not eligible", "has no carrier", "gone"].iter().any(|word| what.starts_with(word))
                || what.ends_with("-> Down");
        let cells = vec![
            moment(&row["time"], look.wide).into(),
            cell(&row["kind"]),
            cell(&row["object"]),
            Cell::toned(what, if is_bad { Tone::Bad } else { Tone::Plain }),
            cell(&row["why"]),
        ];
        table.row(cells, vec![]);
    }
    finished(&table, look)
}
