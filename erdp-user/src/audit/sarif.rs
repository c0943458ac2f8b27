//! A report as SARIF 2.1.0 (OASIS), for pipelines that show findings beside the lines of a file.

use serde_json::{Value, json};

use super::{Finding, Report, Severity, rules};

/// Where the format is described.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The whole log: one run, all checks as its rules.
pub fn text(report: &Report) -> String {
    let described: Vec<Value> = rules::checks().map(|(rule, check)| described(rule, check)).collect();
    let results: Vec<Value> = report.findings.iter().map(|finding| result(report, finding)).collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "erdp audit", "version": env!("CARGO_PKG_VERSION"), "rules": described}},
            "columnKind": "utf16CodeUnits",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn described(rule: &super::Rule, check: &super::Check) -> Value {
    json!({
        "id": check.id,
        "name": rule.title,
        "shortDescription": {"text": check.sentence},
        "fullDescription": {"text": rule.text},
        "help": {"text": format!("{}. Source: {}", check.remedy, rule.source)},
        "defaultConfiguration": {"level": level(check.severity)},
    })
}

fn result(report: &Report, finding: &Finding) -> Value {
    let index = rules::checks().position(|(_, check)| check.id == finding.check);
    json!({
        "ruleId": finding.check,
        "ruleIndex": index,
        "level": level(finding.severity),
        "message": {"text": format!("{}: {}; {}", finding.place, finding.sentence, finding.remedy)},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&report.config)},
                "region": {"startLine": finding.line.unwrap_or(1)},
            },
            "logicalLocations": [{"fullyQualifiedName": finding.place}],
        }],
        // One finding stays the same one when lines move.
        "partialFingerprints": {"erdp/v1": format!("{}@{}", finding.check, finding.place)},
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A path as a reference of RFC 3986: what is not allowed in one is escaped.
fn uri(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
