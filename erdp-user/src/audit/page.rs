//! A rule as a page (`erdp audit --explain D1`), and the reference `docs/audit.md`, made of the table.

use std::fmt::Write as _;

use super::{
    Rule, Sees, Severity,
    report::{EXIT_CRITICAL, EXIT_WARNING, VERSION, rule_counts},
    resiliency::WEIGHTS,
    rules,
};

/// A rule for the terminal.
pub fn explain(rule: &Rule) -> String {
    let mut text = format!("{}: {}\n\n{}\n\nSource: {}\n", rule.id, rule.title, rule.text, rule.source);
    for check in rule.checks {
        let live = match check.sees {
            Sees::Configuration => "",
            Sees::Live => ", asks the running router",
            Sees::Azure => ", reads Azure's answers",
        };
        let _ = write!(
            text,
            "\n{} ({}{live})\n  {}.\n  Remedy: {}.\n",
            check.id,
            check.severity.as_str(),
            check.sentence,
            check.remedy
        );
    }
    if !rule.proofs.is_empty() {
        let _ = write!(text, "\n{}: {}\n", shown_by(rule), rule.proofs.join(", "));
    }
    if let Some(unseen) = rule.unseen {
        let _ = write!(text, "\nNot seen here: {unseen}\n");
    }
    text
}

/// What the tests show: all of the rule, or what ERDP does for it.
fn shown_by(rule: &Rule) -> &'static str {
    match (rule.holds_by_construction(), rule.proofs.len()) {
        (true, 1) => "It holds by construction, as this test shows",
        (true, _) => "It holds by construction, as these tests show",
        (false, 1) => "What ERDP does for it is shown by this test",
        (false, _) => "What ERDP does for it is shown by these tests",
    }
}

/// The sentence that refuses the number of no rule.
pub fn no_such_rule(id: &str) -> String {
    let ids: Vec<&str> = rules::all().map(|rule| rule.id).collect();
    format!("{id:?} is no rule; there are: {}", ids.join(", "))
}

/// `docs/audit.md`.
pub fn reference() -> String {
    let counts = rule_counts();
    let mut text = String::from(INTRODUCTION);
    let _ = write!(
        text,
        "\n## Exit codes\n\n| exit code | meaning |\n|---|---|\n| 0 | nothing worse than notes |\n"
    );
    let _ = writeln!(
        text,
        "| 1, 2 | the audit itself failed, or the configuration is refused ([operating](operating.md)) |"
    );
    let _ = writeln!(
        text,
        "| {EXIT_WARNING} | the worst finding is a warning |\n| {EXIT_CRITICAL} | a finding is critical |"
    );
    let _ = write!(text, "\n## Resiliency points\n\n| points | for |\n|---|---|\n");
    for (what, points) in WEIGHTS {
        let _ = writeln!(text, "| {points} | {what} |");
    }
    text += JSON;
    let _ = writeln!(text, "`version` is {VERSION}.\n\n## The rules\n");
    let _ = writeln!(
        text,
        "{} rules: {} checks of {} of them, {} hold by construction, {} have a part that is not seen here.",
        counts.all, counts.checks, counts.checked, counts.by_construction, counts.not_seen
    );
    rules::all().for_each(|rule| section(&mut text, rule));
    text
}

fn section(text: &mut String, rule: &Rule) {
    let _ = write!(text, "\n### {}: {}\n\n{}\n\nSource: {}.\n", rule.id, rule.title, rule.text, rule.source);
    if !rule.checks.is_empty() {
        *text += "\n| check | severity | what is wrong | remedy |\n|---|---|---|---|\n";
    }
    for check in rule.checks {
        let live = match check.sees {
            Sees::Configuration => "",
            Sees::Live => " (live)",
            Sees::Azure => " (Azure)",
        };
        let severity: &Severity = &check.severity;
        let _ = writeln!(
            text,
            "| {}{live} | {} | {} | {} |",
            check.id,
            severity.as_str(),
            check.sentence,
            check.remedy
        );
    }
    if !rule.proofs.is_empty() {
        let proofs: Vec<String> = rule.proofs.iter().map(|test| format!("`{test}`")).collect();
        let _ = write!(text, "\n{}: {}.\n", shown_by(rule), proofs.join(", "));
    }
    if let Some(unseen) = rule.unseen {
        let _ = write!(text, "\nNot seen here: {unseen}.\n");
    }
}

const INTRODUCTION: &str = "# The audit

This page is made of the table of rules (`erdp-user/src/audit/rules/`), and a test holds it against the table. `ERDP_WRITE_PAGE=1 cargo test -p \
erdp-user --lib audit` writes it.

`erdp audit --config FILE` says which of ExpressRoute's rules a configuration breaks. It needs no router. Its user must be able to read the file and
every file that `md5-file` names. With `--control SOCKET` it also asks the running router, which sees what no file says: a session without
BFD, a link that Microsoft drains, two links that are advertised different prefixes. With `--azure FILE` it also reads what Azure's command line
answers ([the files](operating.md#azures-own-view)) and says where Azure has another value. `erdp audit --explain D1` prints one rule.

The first lines name each circuit with the validity of Microsoft's SLA and its resiliency: Microsoft's level (Standard, High, Maximum), and points
of a hundred with what was lost. Then there is one line for each finding, the worst first: severity, check, place, what is wrong, the remedy.

| severity | meaning |
|---|---|
| critical | traffic is lost, exposed or without Microsoft's SLA now |
| warning | it works today and will not when it is needed |
| note | worth knowing; among them everything that the [inventory](configuration.md#circuitinventory) does not say |

`--json` prints the report as JSON, `--junit FILE` and `--sarif FILE` write it for pipelines (JUnit's XML; SARIF 2.1.0, with the line of the
table that a finding is about). A note is no failure in JUnit.
";

const JSON: &str = "
## The JSON

| field | what |
|---|---|
| `version` | of this format: fields are added and keep their meaning |
| `config` | the file |
| `live` | whether the running router was asked |
| `circuits` | for each: `circuit`, `sla_valid`, `why`, `level`, `points`, `lost` (a list of `points` and `why`) |
| `findings` | for each: `rule`, `check`, `severity`, `place`, `line`, `sentence`, `remedy`, `source` |
| `counts` | findings by severity: `critical`, `warning`, `note` |
| `rules` | the table in numbers: `all`, `checked`, `checks`, `by_construction`, `not_seen` |

";
