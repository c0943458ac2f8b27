//! `erdp audit`: which of ExpressRoute's rules a configuration, and the running router, break.
//!
//! A [`Rule`] is data: number, title, source, the text of its page, and [`Check`]s. A check is data too (name, severity, sentence, remedy) and one
//! function from [`Facts`] to the places where it is broken. A rule that cannot be broken names the test that proves it, and a rule that this
//! machine cannot see says what it would need. The way of an audit:
//!
//! - [`facts`]: the configuration, what the running router answers (`erdp show ... --json`), read leniently, and Azure's view ([`crate::import`]).
//! - [`rules`]: the table, one file for each group of rules.
//! - [`resiliency`]: the level of each circuit and the points that it lost (rule H3): the first lines of every report.
//! - [`report`]: findings in order, the exit code, text and JSON; [`junit`] and [`sarif`]: the same for pipelines.
//! - [`page`]: a rule as a page, and `docs/audit.md`, which a test holds against the table.
//!
//! What must never happen: a clock, a socket or a file in here (whoever asks brings all facts), a rule that is silently absent, and a secret in a
//! finding.

pub mod facts;
pub mod junit;
pub mod page;
pub mod report;
pub mod resiliency;
pub mod rules;
pub mod sarif;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use facts::{Facts, Live};
pub use report::Report;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing: works as it is.
    Note,
    /// Works today and will not when it is needed.
    Warning,
    /// Traffic is lost, exposed or without Microsoft's SLA now.
    Critical,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Note];

    /// The word for it in every message.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// The configuration alone.
    Configuration,
    /// What the running router answers, beside its configuration.
    Live,
    /// What Azure's command line answers, beside the configuration.
    Azure,
}

/// Where a check is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Circuit, peering, attachment or session, as in the configuration: `contoso/private`.
    pub at: String,
    /// What is there, in numbers and names; continues the check's sentence.
    pub what: String,
}

impl Place {
    /// A place and what is there.
    pub fn new(at: impl Into<String>, what: impl Into<String>) -> Place {
        Place { at: at.into(), what: what.into() }
    }
}

/// One way in which a rule can be broken.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// `H1.no-bfd`: the rule's number and a word; names are never changed or used again.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it looks at.
    pub sees: Sees,
    /// What is wrong, as a sentence without its end.
    pub sentence: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// Every place where it is broken.
    pub find: fn(&Facts<'_>) -> Vec<Place>,
}

/// One of ExpressRoute's rules.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// `D1`: its number.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Who says so.
    pub source: &'static str,
    /// Why it matters and what ERDP does about it.
    pub text: &'static str,
    /// Ways to break it that an audit sees.
    pub checks: &'static [Check],
    /// Tests of what ERDP itself does for it; where there is no check, by these it holds by construction.
    pub proofs: &'static [&'static str],
    /// What an audit does not see, and why.
    pub unseen: Option<&'static str>,
}

impl Rule {
    /// Whether ERDP keeps all of it whatever the configuration says: there is nothing to check, and a test shows it.
    pub fn holds_by_construction(&self) -> bool {
        self.checks.is_empty() && self.unseen.is_none() && !self.proofs.is_empty()
    }
}

/// A check that is broken somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's number.
    pub rule: &'static str,
    /// The check's name.
    pub check: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Circuit, peering, attachment or session.
    pub place: String,
    /// The line of the configuration where that begins; `null` where it is in none.
    pub line: Option<usize>,
    /// What is wrong.
    pub sentence: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Who says so.
    pub source: &'static str,
}

/// Everything that is broken, the worst first, then by rule and place.
pub fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut list = Vec::new();
    for rule in rules::all() {
        for check in rule.checks {
            list.extend((check.find)(facts).into_iter().map(|place| finding(rule, check, place)));
        }
    }
    // The table's order, which the sort keeps, is that of the rules.
    list.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    list
}

fn finding(rule: &Rule, check: &Check, place: Place) -> Finding {
    let Place { at, what } = place;
    let sentence =
        if what.is_empty() { check.sentence.to_owned() } else { format!("{}: {what}", check.sentence) };
    Finding {
        rule: rule.id,
        check: check.id,
        severity: check.severity,
        place: at,
        line: None,
        sentence,
        remedy: check.remedy,
        source: rule.source,
    }
}
