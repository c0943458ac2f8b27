//! Answers as tables for people; `--json` shows them as they are.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Topic;

/// A table of the answer to `erdp show`.
pub fn show(topic: Topic, value: &Value) -> String {
    match topic {
        Topic::Counters => counters(value),
        Topic::Drops => drops(value),
        Topic::Sessions => sessions(value),
        Topic::Refused => refused(value),
        _ => rows(value),
    }
}

/// An array of objects: one line each, columns in the order of the first object's keys. A column without any value is left out, so
/// that tables stay narrow; `--json` has all of them.
pub fn rows(value: &Value) -> String {
    let Some(rows) = value.as_array().filter(|rows| !rows.is_empty()) else {
        return "(no entries)\n".into();
    };
    let mut keys: Vec<&String> =
        rows.iter().find_map(Value::as_object).map(|row| row.keys().collect()).unwrap_or_default();
    keys.retain(|key| rows.iter().any(|row| !row[key.as_str()].is_null()));
    let mut cells: Vec<Vec<String>> = vec![keys.iter().map(|key| heading(key)).collect()];
    cells.extend(rows.iter().map(|row| keys.iter().map(|key| cell(&row[key.as_str()])).collect()));
    align(&cells)
}

/// The heading of a column. Keys of the JSON stay as they are for scripts; this one has a plainer word for people.
fn heading(key: &str) -> String {
    let word = if key == "told" { "advertised" } else { key };
    word.to_uppercase().replace('_', "-")
}

/// The last error with its age, and how many faults there were in a peer's UPDATE messages; what they were is in `erdp show refused`.
fn sessions(value: &Value) -> String {
    let mut value = value.clone();
    for row in value.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for key in ["memory_bytes", "memory_max_bytes", "max_prefixes", "stripped"] {
            row.shift_remove(key);
        }
        // Where there are none the column is left out.
        for key in ["surplus", "too_long"] {
            if let Some(count) = row.get_mut(key)
                && count.as_u64() == Some(0)
            {
                *count = Value::Null;
            }
        }
        let hidden = ["last_error_age_s", "faults", "last_fault", "last_fault_age_s"];
        let [error_age, faults, ..] = hidden.map(|key| row.shift_remove(key).unwrap_or_default());
        if let (Some(error), Some(age_s)) = (row["last_error"].as_str(), error_age.as_u64()) {
            row["last_error"] = format!("{error} ({} ago)", duration(age_s)).into();
        }
        let count: u64 = faults.as_object().map_or(0, |it| it.values().filter_map(Value::as_u64).sum());
        row.insert("faults".into(), Some(count).filter(|count| *count > 0).into());
    }
    rows(&value)
}

/// Without the messages themselves, which `--json` has.
fn refused(value: &Value) -> String {
    let mut value = value.clone();
    for row in value.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for key in ["fault", "age_s", "message", "message_bytes"] {
            row.shift_remove(key);
        }
    }
    rows(&value)
}

/// Seconds in the largest unit of which there are at least two.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The answer to `erdp set circuit`.
pub fn changed(value: &Value) -> String {
    let mut text = String::new();
    for warning in value["warnings"].as_array().into_iter().flatten() {
        text.push_str(&format!("warning: {}\n", cell(warning)));
    }
    let name = cell(&value["circuit"]);
    for row in value["changed"].as_array().into_iter().flatten() {
        let (key, from, to) = (cell(&row["key"]), cell(&row["from"]), cell(&row["to"]));
        text.push_str(&format!("circuit {name}: {key} is {to}, was {from}\n"));
    }
    if value["changed"].as_array().is_none_or(Vec::is_empty) {
        return text + &format!("circuit {name}: no change: these values are already set\n");
    }
    text + &format!("This lasts {}.\n", cell(&value["lasts"]))
}

/// The answer to `erdp peering`.
pub fn peering(value: &Value) -> String {
    let mut text = String::new();
    for orphan in value["nothing_left_of"].as_array().into_iter().flatten() {
        text += &format!("warning: no other path for {}\n", cell(&orphan["place"]));
    }
    let now = cell(&value["now"]);
    for session in value["sessions"].as_array().into_iter().flatten() {
        text += &format!("{}: {now}\n", cell(session));
    }
    if value["sessions"].as_array().is_none_or(Vec::is_empty) {
        text += "no change: the peering is already in that state\n";
    }
    text
}

/// Where a drill is, in a line.
pub fn drill_phase(value: &Value) -> String {
    let link = format!("{}/{}", cell(&value["circuit"]), cell(&value["link"]));
    match value["phase"].as_str() {
        Some("watching") => format!("{link}: reading counters for one second"),
        Some("failing") => format!("{link}: fails for {} s (Ctrl-C ends it)", cell(&value["asked_s"])),
        _ => format!("{link}: back in service, waiting until it carries traffic ({})", cell(&value["end"])),
    }
}

/// What came of a drill.
pub fn drill(value: &Value) -> String {
    let (report, share) = (&value["report"], &value["report"]["share"]);
    let or = |value: &Value, unit: &str, other: &str| match value {
        Value::Null => other.to_owned(),
        value => format!("{} {unit}", cell(value)),
    };
    let flow = |flow: &Value| format!("{} packets/s, {} bit/s", cell(&flow["pps"]), cell(&flow["bps"]));
    let mut text = format!(
        "Drill of {}/{}: {}, after {} ms.\n",
        cell(&value["circuit"]),
        cell(&value["link"]),
        or(&value["end"], "", "-").trim_end(),
        cell(&report["failed_ms"])
    );
    text += &format!(
        "on the link before: {} to Microsoft; {} from Microsoft\n",
        flow(&report["sent_before"]),
        flow(&report["received_before"])
    );
    text += &format!(
        "moved: {} of {} flow buckets in {} next-hop groups; groups without another member: {}\n",
        cell(&share["buckets"]),
        cell(&share["of"]),
        cell(&share["groups"]),
        cell(&share["alone"])
    );
    text += &format!(
        "switch-over time: packet path {} us, all routes {} us, Microsoft's side {}\n",
        cell(&report["switched_us"]),
        cell(&report["rerouted_us"]),
        or(&report["microsoft_moved_ms"], "ms (within 100)", "not seen: too little traffic from there")
    );
    text += &format!(
        "used again: {}\n",
        or(&report["back_ms"], "ms after it was put back in service", "not yet")
    );
    for (what, key) in [("lost", "dropped"), ("policer drops", "policed")] {
        let rows = report[key].as_array().into_iter().flatten();
        let rows: Vec<String> = rows
            .map(|row| {
                format!(
                    "  {}: {} packets while it failed, {} until it was back ({} in the second before)\n",
                    cell(&row["of"]),
                    cell(&row["failing"]),
                    cell(&row["returning"]),
                    cell(&row["before"])
                )
            })
            .collect();
        text +=
            &if rows.is_empty() { format!("{what}: none\n") } else { format!("{what}:\n{}", rows.concat()) };
    }
    text
}

fn counters(value: &Value) -> String {
    let mut cells = vec![vec!["COUNTER".to_owned(), "PACKETS".into(), "BYTES".into()]];
    let mut tally = |name: String, value: &Value| {
        cells.push(vec![name, cell(&value["packets"]), cell(&value["bytes"])]);
    };
    for name in ["rx", "tx", "originated", "from_kernel", "transmit_lost"] {
        tally(name.into(), &value[name]);
    }
    for (group, prefix) in [("punted", "punt"), ("dropped", "drop")] {
        for (name, value) in value[group].as_object().into_iter().flatten() {
            if value["packets"] != 0 {
                tally(format!("{prefix} {name}"), value);
            }
        }
    }
    for attachment in value["attachments"].as_array().into_iter().flatten() {
        for direction in ["rx", "tx"] {
            tally(format!("{} {direction}", cell(&attachment["name"])), &attachment[direction]);
        }
    }
    let unexplained = cell(&value["unexplained"]);
    let mut text = align(&cells);
    for (map, count) in value["reconciled"]["repaired"].as_object().into_iter().flatten() {
        text += &format!("map records repaired in {map}: {}\n", cell(count));
    }
    format!("{text}unexplained packets: {unexplained}\n")
}

/// One line a frame, then what to do about each reason.
fn drops(value: &Value) -> String {
    let titles = ["TIME", "REASON", "CAME IN ON", "FROM", "TO", "PROTOCOL", "DSCP", "TTL", "BYTES"];
    let mut cells = vec![titles.map(str::to_owned).to_vec()];
    let mut remedies = BTreeMap::new();
    let Some(rows) = value.as_array().filter(|rows| !rows.is_empty()) else {
        return "(no entries)\n".into();
    };
    for row in rows {
        let place = if row["attachment"].is_null() { &row["interface"] } else { &row["attachment"] };
        let from = if row["source"].is_null() { &row["source_mac"] } else { &row["source"] };
        cells.push(vec![
            cell(&row["time"]),
            cell(&row["reason"]),
            cell(place),
            endpoint(from, &row["source_port"]),
            endpoint(&row["destination"], &row["destination_port"]),
            cell(&row["protocol"]),
            cell(&row["dscp"]),
            cell(&row["ttl"]),
            cell(&row["length"]),
        ]);
        remedies.insert(cell(&row["reason"]), cell(&row["remedy"]));
    }
    let remedies: String = remedies.iter().map(|(reason, remedy)| format!("{reason}: {remedy}\n")).collect();
    format!("{}{remedies}", align(&cells))
}

fn endpoint(address: &Value, port: &Value) -> String {
    match (cell(address), port) {
        (address, Value::Null) => address,
        (address, port) if address.contains(':') => format!("[{address}]:{port}"),
        (address, port) => format!("{address}:{port}"),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn align(cells: &[Vec<String>]) -> String {
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    cells.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Topic, rows, show};
    use serde_json::json;

    #[test]
    fn rows_are_aligned_and_lists_are_joined() {
        let text =
            rows(&json!([{"peer": "198.18.0.2", "paths": [1, 2]}, {"peer": "fd00::2", "paths": null}]));
        assert_eq!(text, "PEER        PATHS\n198.18.0.2  1,2\nfd00::2     -\n");
    }

    #[test]
    fn a_column_without_any_value_is_left_out() {
        let text = rows(&json!([{"peer": "a", "finding": null}, {"peer": "b", "finding": null}]));
        assert_eq!(text, "PEER\na\nb\n");
    }

    #[test]
    fn prefixes_that_are_advertised_are_called_so_in_the_heading() {
        let text = rows(&json!([{"domain": "a/private", "told": 5}]));
        assert_eq!(text.lines().next(), Some("DOMAIN     ADVERTISED"));
    }

    #[test]
    fn an_old_error_is_shown_with_its_age_and_faults_are_counted() {
        let session = |error, age_s, faults| {
            json!({"peer": "198.18.0.2", "state": "Established", "last_error": error, "finding": null,
                "last_error_age_s": age_s, "faults": faults, "last_fault": "x", "last_fault_age_s": 3})
        };
        let faults = json!({"treat-as-withdraw": 2, "attribute-discard": 5});
        let text = show(
            Topic::Sessions,
            &json!([
                session(json!("refused"), json!(7_300), faults),
                session(json!(null), json!(null), json!(null))
            ]),
        );
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["PEER", "STATE", "LAST-ERROR", "FAULTS"]);
        assert_eq!(words[1], ["198.18.0.2", "Established", "refused", "(2", "h", "ago)", "7"]);
        assert_eq!(words[2], ["198.18.0.2", "Established", "-", "-"]);
    }

    #[test]
    fn the_table_of_refused_routes_is_without_messages() {
        let fault = json!({"way": "in", "prefix": "20.0.0.0/8", "rule": "RFC 7606", "reason": "a fault",
            "fault": "treat-as-withdraw", "age_s": 3, "message": "ffff", "message_bytes": 2});
        let text = show(Topic::Refused, &json!([fault]));
        let expected = "WAY  PREFIX      RULE      REASON\nin   20.0.0.0/8  RFC 7606  a fault\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn drops_name_place_ends_and_one_remedy_for_each_reason() {
        let drop = |attachment| {
            json!({"time": "2026-01-01T00:00:00.000Z", "reason": "no-route", "interface": "eth0",
                "attachment": attachment, "source": "198.18.0.9", "source_port": 5, "destination": "fd00::2",
                "destination_port": 6, "protocol": "udp", "dscp": 46, "ttl": 3, "length": 60, "remedy": "look"})
        };
        let text = show(Topic::Drops, &json!([drop(json!("ce0")), drop(json!(null))]));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let row = |place| {
            [
                "2026-01-01T00:00:00.000Z",
                "no-route",
                place,
                "198.18.0.9:5",
                "[fd00::2]:6",
                "udp",
                "46",
                "3",
                "60",
            ]
        };
        assert_eq!(lines[1..], [&row("ce0")[..], &row("eth0")[..], &["no-route:", "look"][..]], "{text}");
    }

    #[test]
    fn counters_that_are_zero_are_left_out_of_the_long_lists() {
        let tally = |packets| json!({"packets": packets, "bytes": 60 * packets});
        let text = show(
            Topic::Counters,
            &json!({"rx": tally(3), "tx": tally(2), "originated": tally(0), "from_kernel": tally(1), "transmit_lost": tally(0),
                "punted": {"arp": tally(0)}, "dropped": {"no-route": tally(1), "hairpin": tally(0)},
                "attachments": [], "unexplained": 0}),
        );
        assert!(
            text.contains("drop no-route") && !text.contains("hairpin") && !text.contains("arp"),
            "{text}"
        );
        assert!(text.ends_with("unexplained packets: 0\n"), "{text}");
    }
}
