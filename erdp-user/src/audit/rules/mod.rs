//! The table of rules, A1 to H7, in their order: one file for each group, each with its rules as data and its checks as functions.
//!
//! To add a check: add it to its rule's `checks`, write its function below the table, and give it a broken and a good configuration (or answer of
//! the router) in `audit/tests/`. A check without both fails `every_check_has_a_broken_and_a_good_case`. Then write the page anew, as the test of
//! `docs/audit.md` says.
//!
//! Files: [`circuits`] (A), [`redundancy`] (B), [`domains`] (C), [`routes`] (D), [`sessions`] (E, F, G), [`estate`] (H).

pub mod circuits;
pub mod domains;
pub mod estate;
pub mod redundancy;
pub mod routes;
pub mod sessions;

use super::{Check, Facts, Place, Rule, Sees, Severity};

/// Every rule, in order.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    let groups: [&'static [Rule]; 6] =
        [circuits::RULES, redundancy::RULES, domains::RULES, routes::RULES, sessions::RULES, estate::RULES];
    groups.into_iter().flatten()
}

/// Every check with its rule, in order.
pub fn checks() -> impl Iterator<Item = (&'static Rule, &'static Check)> {
    all().flat_map(|rule| rule.checks.iter().map(move |check| (rule, check)))
}

/// The rule of a number, or of the check that has it in its name; case does not matter.
pub fn find(id: &str) -> Option<&'static Rule> {
    let number = id.split('.').next().unwrap_or_default();
    all().find(|rule| rule.id.eq_ignore_ascii_case(number))
}

/// A check of the configuration.
const fn check(
    id: &'static str,
    severity: Severity,
    sentence: &'static str,
    remedy: &'static str,
    find: fn(&Facts<'_>) -> Vec<Place>,
) -> Check {
    Check { id, severity, sees: Sees::Configuration, sentence, remedy, find }
}

impl Check {
    /// The same, of the running router.
    const fn live(self) -> Check {
        Check { sees: Sees::Live, ..self }
    }

    /// The same, of Azure's answers.
    const fn azure(self) -> Check {
        Check { sees: Sees::Azure, ..self }
    }
}

/// Azure's documentation of today.
const MICROSOFT: &str = "Microsoft, ExpressRoute documentation";
