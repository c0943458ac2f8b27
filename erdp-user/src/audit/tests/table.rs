//! The table itself: no rule is missing, every check has its cases, every proof is a test, the page is the table, the formats are what they should
//! be.

use std::{collections::BTreeSet, fs, path::Path};

use super::{BOXES, GOOD, about, azure, broken, edited, live, parsed};
use crate::audit::{
    Facts, Report, Sees, junit, page,
    report::{EXIT_CRITICAL, EXIT_WARNING, rule_counts},
    resiliency::{Level, heads},
    rules, sarif,
};

/// Every rule that there is.
const RULES: &str = "A1 A2 A3 A4 A5 A6 A7 A8 B1 B1a B2 B3 B4 B5 B6 B7 B8 B9 B10 B11 C1 C2 C3 C4 C5 C6 D1 D2 D3 D4 D5 D6 D7 D8 D9 D10 \
                     E1 E2 E3 E4 E5 F G H1 H2 H3 H4 H5 H6 H7";

#[test]
fn no_rule_is_silently_absent() {
    let ids: Vec<&str> = rules::all().map(|rule| rule.id).collect();
    assert_eq!(ids, RULES.split_whitespace().collect::<Vec<_>>());
    for rule in rules::all() {
        let is_known = !rule.checks.is_empty() || !rule.proofs.is_empty() || rule.unseen.is_some();
        assert!(
            is_known,
            "{}: neither checked, nor by construction, nor with a reason why it is not seen",
            rule.id
        );
        assert!(
            rule.text.len() > 80 && !rule.title.ends_with('.') && rule.text.ends_with('.'),
            "{}",
            rule.id
        );
        for check in rule.checks {
            assert!(check.id.starts_with(&format!("{}.", rule.id)), "{}", check.id);
            assert!(!check.sentence.ends_with('.') && !check.remedy.ends_with('.'), "{}", check.id);
        }
    }
    println!("{:?}", rule_counts());
}

#[test]
fn every_check_has_a_broken_and_a_good_case() {
    let of = |sees: Sees| -> BTreeSet<&str> {
        rules::checks().filter(|(_, check)| check.sees == sees).map(|(_, check)| check.id).collect()
    };
    // The good cases are those that all rows start from: they break nothing at all.
    assert_eq!(broken::covered().into_iter().collect::<BTreeSet<_>>(), of(Sees::Configuration));
    assert_eq!(live::covered().into_iter().collect::<BTreeSet<_>>(), of(Sees::Live));
    assert_eq!(azure::covered().into_iter().collect::<BTreeSet<_>>(), of(Sees::Azure));
    let all = of(Sees::Configuration).len() + of(Sees::Live).len() + of(Sees::Azure).len();
    assert_eq!(all, rules::checks().count(), "a name is used twice");
    println!(
        "{} checks of the configuration, {} of the running router, {} of Azure's answers",
        of(Sees::Configuration).len(),
        of(Sees::Live).len(),
        of(Sees::Azure).len()
    );
}

/// The names of the functions of a source that are tests: those with an attribute `#[... test]` right above.
fn tests_of(text: &str) -> Vec<String> {
    let mut is_test = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.trim_start_matches("async ").strip_prefix("fn ").filter(|_| is_test) {
            names.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
        }
        is_test = line.starts_with("#[") && (is_test || line.ends_with("test]"));
    }
    names
}

/// The names of all tests in the sources below a folder.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            tests_below(&path, names);
        } else if path.extension().is_some_and(|end| end == "rs") {
            names.extend(tests_of(&fs::read_to_string(&path).unwrap_or_default()));
        }
    }
}

#[test]
fn every_proof_is_a_test_of_the_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    ["erdp-common/src", "erdp-user/src", "tests/src", "tests/tests"]
        .iter()
        .for_each(|it| tests_below(&root.join(it), &mut names));
    for rule in rules::all() {
        for proof in rule.proofs {
            assert!(names.contains(*proof), "{}: no test is called {proof}", rule.id);
        }
    }
}

#[test]
fn only_a_function_with_the_attribute_is_a_test() {
    let text = "fn helper() {}\n#[test]\n#[expect(lint)]\nfn one() {}\nfn other() {}\n    #[tokio::test]\n    async fn two() {}\n\
                #[test]\n// Not right above.\nfn three() {}\n";
    assert_eq!(tests_of(text), ["one", "two"]);
}

#[test]
fn a_rule_of_which_a_part_is_not_seen_does_not_hold_by_construction() {
    let explained = |id: &str| page::explain(rules::find(id).unwrap());
    assert!(explained("C6").contains("It holds by construction, as this test shows: "));
    assert!(explained("C1").contains("It holds by construction, as these tests show: "));
    for id in ["D9", "H5"] {
        assert!(!rules::find(id).unwrap().holds_by_construction(), "{id}");
        assert!(explained(id).contains("What ERDP does for it is shown by this test: "), "{id}");
    }
}

#[test]
fn the_page_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/audit.md");
    if std::env::var_os("ERDP_WRITE_PAGE").is_some() {
        fs::write(&path, page::reference()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let hint =
        "docs/audit.md differs from the table: run `ERDP_WRITE_PAGE=1 cargo test -p erdp-user --lib audit`";
    assert!(written == page::reference(), "{hint}");
}

#[test]
fn a_rule_is_explained_by_its_number_or_the_name_of_a_check() {
    let text = page::explain(rules::find("d5").unwrap());
    for part in ["D5: ", "KMS", "D5.forced-tunnel (warning)", "Source: Microsoft", "is shown by this test"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(rules::find("B1a.one-box").map(|rule| rule.id), Some("B1a"));
    assert!(rules::find("Z9").is_none() && page::no_such_rule("Z9").contains("B11, C1"));
}

fn report(text: &str) -> Report {
    Report::of(&Facts::of(&parsed(text)), "/etc/erdp/a b.toml", text)
}

#[test]
fn h3_each_lack_costs_its_points_and_the_level_is_microsofts() {
    let head = |edits: &[(&str, &str)]| {
        let config = parsed(&edited(&GOOD, edits));
        let head = heads(&Facts::of(&config)).remove(0);
        (
            head.level,
            head.points,
            head.lost.iter().map(|lost| lost.why.clone()).collect::<Vec<_>>().join("; "),
        )
    };
    assert_eq!(head(&[]), (Level::Maximum, 100, String::new()));
    let elsewhere = ("location = \"Dublin\"", "location = \"Amsterdam\"");
    assert_eq!(head(&[elsewhere]).0, Level::Standard);
    assert_eq!(head(&[elsewhere]).1, 60);
    let metro = ("location = \"Amsterdam\"", "location = [\"Amsterdam\", \"Amsterdam2\"]");
    assert_eq!((head(&[metro]).0, head(&[metro, elsewhere]).0), (Level::Maximum, Level::High));
    assert_eq!(head(&[metro, elsewhere]).1, 80);
    for (edit, points, why) in [
        (("bfd = {}\n", ""), 90, "no BFD on private peering (H1)"),
        (
            ("\"ErGw3AZ\", gateway-subnet", "\"UltraPerformance\", gateway-subnet"),
            90,
            "no zone-redundant gateway in hub",
        ),
        (("location = \"Amsterdam\"\n", ""), 55, "does not name the peering location"),
    ] {
        let (_, left, lost) = head(&[edit]);
        assert!(left == points && lost.contains(why), "{edit:?}: {left}, {lost}");
    }
    // However they are written.
    let lower = ("location = \"Dublin\"", "location = \"amsterdam\"");
    let metro = ("location = \"Amsterdam\"", "location = [\"Amsterdam\", \"AMSTERDAM\"]");
    assert_eq!((head(&[lower]).0, head(&[metro, lower]).0), (Level::Standard, Level::Standard));
    let one_box = ("secondary = { box = \"edge-b\" }", "secondary = { local = \"msee2\" }");
    let (_, left, lost) = head(&[one_box, (BOXES[0], ""), (BOXES[1], "")]);
    assert!(left == 85 && lost.contains("B1a"), "{left}, {lost}");
}

#[test]
fn h3_a_circuit_without_private_peering_loses_nothing_for_its_gateways() {
    let text = |kind: &str| {
        format!(
            "asn = 3333\n[[circuit]]\nname = \"one\"\nbandwidth = \"1G\"\nprimary = {{ local = \"a\" }}\nsecondary = {{ local = \"b\" }}\n\
             [circuit.{kind}]\nipv4 = \"131.107.0.0/29\"\n[[attachment]]\ninterface = \"ce0\"\npeerings = [\"one/{kind}\"]\n\
             ipv4 = \"10.254.0.1/30\"\npeers = [{{ address = \"10.254.0.2\", asn = 65020 }}]\n"
        )
    };
    let lost = |kind: &str| {
        let config = parsed(&text(kind));
        heads(&Facts::of(&config)).remove(0).lost.iter().any(|it| it.why.contains("virtual network"))
    };
    assert_eq!((lost("private"), lost("microsoft")), (true, false));
}

#[test]
fn the_report_begins_with_the_circuits_and_its_exit_code_is_that_of_the_worst_finding() {
    let good = report(&GOOD);
    assert_eq!((good.exit_code(), good.findings.len()), (0, 0));
    assert!(good.text().starts_with("contoso: SLA valid (two links are configured"), "{}", good.text());
    assert!(good.text().contains("resiliency Maximum, 100 of 100 points (nothing lost)"));
    for (edit, code) in [
        (("metrics = \"127.0.0.1:9179\"\n", ""), 0),
        (("bfd = {}\n", ""), EXIT_WARNING),
        (("validation = \"configured\"", "validation = \"validation-needed\""), EXIT_CRITICAL),
    ] {
        assert_eq!(report(&edited(&GOOD, &[edit])).exit_code(), code, "{edit:?}");
    }
    let both = report(&edited(&GOOD, &[("metrics = \"127.0.0.1:9179\"\n", ""), ("bfd = {}\n", "")]));
    let line = both.text().lines().nth(2).unwrap().to_owned();
    assert!(line.starts_with("warning H1.no-bfd contoso/private: the peering has no BFD"), "{line}");
    let json: serde_json::Value = serde_json::from_str(&both.json()).unwrap();
    assert_eq!(
        (&json["version"], &json["counts"]["warning"], &json["counts"]["note"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(json["findings"][0]["line"], 11, "{json:#}");
    assert_eq!(json["circuits"][0]["level"], "Maximum");
}

#[test]
fn a_secret_is_in_no_report() {
    let text = edited(&GOOD, &[("bfd = {}\n", ""), ("\"0.025 EUR\"", "\"0.025 USD\"")]);
    let report = report(&text);
    let config = parsed(&text);
    let shown = crate::config::shown::text(&config);
    for said in [
        report.text(),
        report.json(),
        sarif::text(&report),
        junit::text(&report).unwrap(),
        shown,
        format!("{config:?}"),
    ] {
        assert!(!said.contains("0f8fad5b") && !said.contains("a165-7086"), "{said}");
    }
    assert!(
        crate::config::shown::text(&config)
            .contains("circuit.contoso.inventory.service-key = \"(hidden)950e\"")
    );
}

#[test]
fn sarif_names_every_check_and_the_line_of_each_finding() {
    let log: serde_json::Value =
        serde_json::from_str(&sarif::text(&report(&edited(&GOOD, &[("bfd = {}\n", "")])))).unwrap();
    let run = &log["runs"][0];
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), rules::checks().count());
    let result = &run["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"H1.no-bfd".into(), &"warning".into()));
    let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "H1.no-bfd");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "/etc/erdp/a%20b.toml");
    assert_eq!(place["region"]["startLine"], 12);
}

#[test]
fn junit_counts_checks_failures_and_what_only_the_running_router_shows() {
    let text =
        junit::text(&report(&edited(&GOOD, &[("bfd = {}\n", ""), ("metrics = \"127.0.0.1:9179\"\n", "")])))
            .unwrap();
    assert_eq!(text.matches("<testcase ").count(), rules::checks().count());
    assert_eq!(text.matches("<failure ").count(), 1, "{text}");
    let elsewhere = rules::checks().filter(|(_, check)| check.sees != Sees::Configuration).count();
    assert_eq!(text.matches("<skipped ").count(), elsewhere);
    assert!(text.contains("<system-out>the router: the router serves no metrics"), "{text}");
    // It is well formed, whatever stands in it.
    let mut reader = quick_xml::Reader::from_str(&text);
    let mut depth = 0_i32;
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Start(_) => depth += 1,
            quick_xml::events::Event::End(_) => depth -= 1,
            quick_xml::events::Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0);
}

#[test]
fn findings_are_in_order_of_severity() {
    let found = about(&edited(
        &GOOD,
        &[
            ("bfd = {}\n", ""),
            ("metrics = \"127.0.0.1:9179\"\n", ""),
            ("\"configured\"", "\"validation-needed\""),
        ],
    ));
    let order: Vec<&str> = found.iter().map(|it| it.check).collect();
    assert_eq!(order, ["H4.validation-needed", "H1.no-bfd", "G.no-metrics"]);
}
