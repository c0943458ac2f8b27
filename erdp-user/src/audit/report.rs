//! A report: the circuits, the findings, the counts, the exit code; as text and as JSON.
//!
//! The JSON has a version of its own, [`VERSION`]: fields are added and never change their meaning.

use std::{collections::HashMap, fmt::Write as _};

use serde::Serialize;

use super::{
    Facts, Finding, Severity, findings,
    resiliency::{CircuitHead, heads},
    rules,
};
use crate::config::lines;

/// Version of the JSON.
pub const VERSION: u32 = 1;
/// The command's exit code where the worst finding is a warning.
pub const EXIT_WARNING: u8 = 5;
/// The command's exit code where a finding is critical.
pub const EXIT_CRITICAL: u8 = 6;

/// What an audit says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The file that was audited.
    pub config: String,
    /// Whether the running router was asked as well.
    pub live: bool,
    /// Whether Azure's answers were given as well.
    pub azure: bool,
    /// SLA validity and resiliency of each circuit.
    pub circuits: Vec<CircuitHead>,
    /// What is broken, the worst first.
    pub findings: Vec<Finding>,
    /// How many findings of each severity.
    pub counts: Counts,
    /// How the rules are known.
    pub rules: RuleCounts,
}

/// Findings by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Critical ones.
    pub critical: usize,
    /// Warnings.
    pub warning: usize,
    /// Notes.
    pub note: usize,
}

/// The table in numbers. A rule may be in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// All rules.
    pub all: usize,
    /// Rules with checks.
    pub checked: usize,
    /// Checks.
    pub checks: usize,
    /// Rules that nothing here can break, by a test.
    pub by_construction: usize,
    /// Rules of which a part, or all, is not seen here.
    pub not_seen: usize,
}

/// The table in numbers.
pub fn rule_counts() -> RuleCounts {
    rules::all().fold(RuleCounts::default(), |counts, rule| RuleCounts {
        all: counts.all + 1,
        checked: counts.checked + usize::from(!rule.checks.is_empty()),
        checks: counts.checks + rule.checks.len(),
        by_construction: counts.by_construction + usize::from(rule.holds_by_construction()),
        not_seen: counts.not_seen + usize::from(rule.unseen.is_some()),
    })
}

impl Report {
    /// Audits; `config` and `text` name the file and are its text, in which findings have their lines.
    pub fn of(facts: &Facts<'_>, config: &str, text: &str) -> Report {
        let mut findings = findings(facts);
        let lines = lines(text);
        findings.iter_mut().for_each(|finding| finding.line = line_of(&lines, &finding.place));
        let count = |severity| findings.iter().filter(|it| it.severity == severity).count();
        let counts = Counts {
            critical: count(Severity::Critical),
            warning: count(Severity::Warning),
            note: count(Severity::Note),
        };
        Report {
            version: VERSION,
            config: config.to_owned(),
            live: facts.live.is_some(),
            azure: facts.azure.is_some(),
            circuits: heads(facts),
            findings,
            counts,
            rules: rule_counts(),
        }
    }

    /// 0 for notes only, [`EXIT_WARNING`] or [`EXIT_CRITICAL`].
    pub fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|it| it.severity).max() {
            Some(Severity::Critical) => EXIT_CRITICAL,
            Some(Severity::Warning) => EXIT_WARNING,
            Some(Severity::Note) | None => 0,
        }
    }

    /// For people: the circuits first, then one finding a line, then the counts.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.circuits.iter().for_each(|circuit| head(&mut text, circuit));
        for it in &self.findings {
            let _ = writeln!(
                text,
                "{} {} {}: {}; {}",
                it.severity.as_str(),
                it.check,
                it.place,
                it.sentence,
                it.remedy
            );
        }
        let Counts { critical, warning, note } = self.counts;
        let _ = writeln!(text, "{critical} critical, {warning} warnings, {note} notes");
        let RuleCounts { all, checks, checked, by_construction, not_seen } = self.rules;
        let _ = writeln!(
            text,
            "{all} rules: {checks} checks of {checked}, {by_construction} hold by construction, {not_seen} have a part that is not seen here \
             (`erdp audit --explain RULE`)"
        );
        text
    }

    /// For programs.
    pub fn json(&self) -> String {
        // A struct of texts and numbers always has a JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn head(text: &mut String, it: &CircuitHead) {
    let sla = if it.sla_valid { "SLA valid" } else { "SLA NOT valid" };
    let lost: Vec<String> = it.lost.iter().map(|lost| format!("-{} {}", lost.points, lost.why)).collect();
    let lost = if lost.is_empty() { "nothing lost".to_owned() } else { lost.join("; ") };
    let _ = writeln!(
        text,
        "{}: {sla} ({}); resiliency {}, {} of 100 points ({lost})",
        it.circuit,
        it.why,
        it.level.as_str(),
        it.points
    );
}

/// The line, counted from 1, of a place: a peering without a table of its own has its circuit's.
fn line_of(lines: &HashMap<String, usize>, place: &str) -> Option<usize> {
    let name = place.split(' ').next()?;
    lines.get(name).or_else(|| lines.get(name.split('/').next()?)).copied()
}
