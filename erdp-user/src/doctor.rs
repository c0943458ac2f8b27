//! `erdp doctor`: the problems that this machine has for the router, and the remedy of each; `--fix` applies the remedies.
//!
//! The findings are those that `erdp run` starts by ([`crate::kernel::preflight`]): what is refused there is a refusal here, by the same
//! code. Beside them stand the settings that the router makes itself while it runs. After the fixes the machine is looked at
//! again: what is told at the end is what remains.

use std::fmt::Write as _;

use crate::{
    config::Config,
    kernel::preflight::{self, Finding, Machine, Severity},
};

/// What was found and done, for people, and whether the router may start.
#[derive(Debug)]
pub struct Report {
    /// Lines.
    pub text: String,
    /// No finding refuses.
    pub may_run: bool,
}

/// Examines this machine, for a configuration if there is one; with `fix` also treats it.
pub fn examine(config: Option<&Config>, allow_generic: bool, fix: bool) -> Report {
    let look = || preflight::check(config, &Machine::read(config), allow_generic);
    let mut text = String::new();
    let mut findings = look();
    if fix {
        for finding in &findings {
            tell_treatment(finding, &mut text);
        }
        findings = look();
    }
    for finding in &findings {
        tell(finding, &mut text);
    }
    let refusals = findings.iter().filter(|finding| finding.refuses()).count();
    let text_of_end = match (refusals, findings.len()) {
        (0, 0) => "no problems found".to_owned(),
        (0, others) => format!("no problem prevents a start; findings to read: {others}"),
        (refusals, all) => format!("{refusals} of {all} findings prevent a start"),
    };
    line(&mut text, &text_of_end);
    Report { text, may_run: refusals == 0 }
}

fn tell(finding: &Finding, text: &mut String) {
    let word = match finding.severity {
        Severity::Refusal => "REFUSED",
        Severity::Warning => "warning",
        Severity::Note => "note   ",
    };
    let Finding { object, reason, remedy, fix, .. } = finding;
    line(text, &format!("{word}  {object}: {reason}"));
    line(text, &format!("         remedy: {remedy}"));
    if let Some(fix) = fix
        && finding.severity > Severity::Note
    {
        line(text, &format!("         --fix runs: {fix}"));
    }
}

fn tell_treatment(finding: &Finding, text: &mut String) {
    let Some(fix) = &finding.fix else { return };
    // What the router does itself needs no treatment, and would outlast the router.
    if finding.severity == Severity::Note {
        return;
    }
    match fix.apply() {
        Ok(()) => line(text, &format!("done     {fix}")),
        Err(error) => line(text, &format!("FAILED   {fix}: {error}")),
    }
}

fn line(text: &mut String, words: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{words}");
}
