//! Answers to orders in words for people; `--json` shows them as they are.

use serde_json::Value;

use super::show::values::text as cell;

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
