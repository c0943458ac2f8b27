//! A report as JUnit's XML, for pipelines that count tests: a suite for each rule, a case for each check. A finding above a note is a failure.

use std::io;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

use super::{Check, Finding, Report, Rule, Sees, Severity, rules};

/// The whole document.
///
/// # Errors
/// When the writer into memory fails, which it does not.
pub fn text(report: &Report) -> io::Result<String> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let suites = writer.create_element("testsuites").with_attribute(("name", "erdp audit"));
    suites.write_inner_content(|writer| {
        for rule in rules::all().filter(|rule| !rule.checks.is_empty()) {
            suite(writer, report, rule)?;
        }
        Ok(())
    })?;
    Ok(String::from_utf8_lossy(&writer.into_inner()).into_owned() + "\n")
}

type Out = Writer<Vec<u8>>;

fn suite(writer: &mut Out, report: &Report, rule: &Rule) -> io::Result<()> {
    let failures = rule.checks.iter().filter(|check| failures(report, check).next().is_some()).count();
    let skipped = rule.checks.iter().filter(|check| is_skipped(report, check)).count();
    let name = format!("{} {}", rule.id, rule.title);
    let counts = [rule.checks.len(), failures, skipped].map(|count| count.to_string());
    let element = writer.create_element("testsuite").with_attributes([
        ("name", name.as_str()),
        ("tests", counts[0].as_str()),
        ("failures", counts[1].as_str()),
        ("errors", "0"),
        ("skipped", counts[2].as_str()),
    ]);
    element.write_inner_content(|writer| {
        rule.checks.iter().try_for_each(|check| case(writer, report, rule, check))
    })?;
    Ok(())
}

fn case(writer: &mut Out, report: &Report, rule: &Rule, check: &Check) -> io::Result<()> {
    let element =
        writer.create_element("testcase").with_attributes([("classname", rule.id), ("name", check.id)]);
    let notes: Vec<String> = of(report, check).filter(|it| it.severity == Severity::Note).map(line).collect();
    let failures: Vec<String> = failures(report, check).map(line).collect();
    element.write_inner_content(|writer| {
        if is_skipped(report, check) {
            let skipped = writer.create_element("skipped");
            skipped.with_attribute(("message", "the audit did not ask a running router")).write_empty()?;
        }
        if !failures.is_empty() {
            let failure = writer
                .create_element("failure")
                .with_attributes([("type", check.severity.as_str()), ("message", check.sentence)]);
            failure.write_text_content(BytesText::new(&failures.join("\n")))?;
        }
        if !notes.is_empty() {
            writer.create_element("system-out").write_text_content(BytesText::new(&notes.join("\n")))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn of<'a>(report: &'a Report, check: &'a Check) -> impl Iterator<Item = &'a Finding> {
    report.findings.iter().filter(move |finding| finding.check == check.id)
}

fn failures<'a>(report: &'a Report, check: &'a Check) -> impl Iterator<Item = &'a Finding> {
    of(report, check).filter(|finding| finding.severity > Severity::Note)
}

fn is_skipped(report: &Report, check: &Check) -> bool {
    match check.sees {
        Sees::Configuration => false,
        Sees::Live => !report.live,
        Sees::Azure => !report.azure,
    }
}

fn line(finding: &Finding) -> String {
    format!("{}: {}; {}", finding.place, finding.sentence, finding.remedy)
}
