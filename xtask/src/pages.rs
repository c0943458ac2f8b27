//! The rules of the pages (README, SECURITY and docs): every file they name is there, every link leads somewhere, README is short, a
//! measured number in README stands beside the command that prints it, and each claim of the page about security names a test that is there.
//!
//! Pure over the texts of the tree, as [`crate::layout`], which asks this for its findings.

use std::collections::BTreeMap;

/// The texts of the tree by their path.
type Texts = BTreeMap<String, String>;

const README: &str = "README.md";
/// What a stranger reads before the first command.
const README_LINES: usize = 120;
/// The reference of the configuration's keys, and the example that has every key.
const CONFIGURATION: &str = "docs/configuration.md";
const EXAMPLE: &str = "deploy/erdp.toml";
/// What attackers can do, what stops them, and the tests that show it.
const THREATS: &str = "docs/security.md";

/// Folders of the repository: a word in backticks that begins with one names a file or a folder.
const FOLDERS: &[&str] =
    &["erdp-common/", "erdp-ebpf/", "erdp-user/", "tests/", "xtask/", "docs/", "deploy/"];
/// A word in backticks with such an end names a file of the repository, from its root or from any folder.
const ENDS: &[&str] = &[".rs", ".md", ".toml", ".service", ".conf"];
/// Units of measured numbers.
const UNITS: &[&str] = &["ns", "us", "ms", "Mpps", "M/s", "Mbit/s", "Gbit/s", "MiB", "%", "x", "times"];

/// Every fault of the pages, as `path: what is wrong`.
pub fn findings(texts: &Texts) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in texts.iter().filter(|(path, _)| is_page(path)) {
        findings.extend(missing_files(path, text, texts));
        findings.extend(dead_links(path, text, texts));
    }
    if let Some(text) = texts.get(README) {
        findings.extend(too_long(text));
        findings.extend(numbers_without_command(text));
    }
    findings.extend(unexplained_keys(texts));
    findings.extend(unshown_claims(texts));
    findings
}

fn is_page(path: &str) -> bool {
    path == README || path == "SECURITY.md" || path.starts_with("docs/") && path.ends_with(".md")
}

/// The words in backticks, outside code blocks.
fn code_words(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The lines outside code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

fn missing_files(page: &str, text: &str, texts: &Texts) -> Vec<String> {
    let is_name = |word: &str| !word.contains([' ', '*', '{', '<', '$']) && !word.starts_with(['/', '.']);
    let is_meant = |word: &str| {
        FOLDERS.iter().any(|folder| word.starts_with(folder)) || ENDS.iter().any(|end| word.ends_with(end))
    };
    let is_there = |word: &str| {
        let (folder, inside) = (format!("{}/", word.trim_end_matches('/')), format!("/{word}"));
        texts.keys().any(|path| path == word || path.starts_with(&folder) || path.ends_with(&inside))
    };
    code_words(text)
        .filter(|word| is_name(word) && is_meant(word) && !is_there(word))
        .map(|word| format!("{page}: names `{word}`, which is not in the repository"))
        .collect()
}

fn dead_links(page: &str, text: &str, texts: &Texts) -> Vec<String> {
    let links = prose(text).flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split_once(')')));
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (link, _) in links.filter(|(link, _)| !link.contains("://")) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let path = if file.is_empty() { page.to_owned() } else { resolved(folder, file) };
        let is_folder = texts.keys().any(|it| it.starts_with(&format!("{path}/")));
        match texts.get(&path) {
            None if !is_folder => findings.push(format!("{page}: links to {link}, which is not there")),
            Some(target) if !anchor.is_empty() && !anchors(target).any(|it| it == anchor) => {
                findings.push(format!("{page}: links to {link}, which has no such heading"));
            }
            _ => {}
        }
    }
    findings
}

/// A relative path as seen from a folder.
fn resolved(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The headings of a page as links name them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter_map(|line| line.strip_prefix('#')).map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

fn too_long(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > README_LINES).then(|| format!("{README}: has {lines} lines, and {README_LINES} are the most"))
}

/// Paragraphs and rows of tables with a measured number and no command.
fn numbers_without_command(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = vec![String::new()];
    for line in prose_with_gaps(text) {
        if line.trim().is_empty() || line.starts_with('|') {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push(' ');
        }
    }
    let has_command = |part: &str| part.contains("`cargo xtask ");
    let faulty = parts.iter().filter(|part| !has_command(part));
    faulty
        .filter_map(|part| measured(part))
        .map(|number| format!("{README}: says {number} without the `cargo xtask` command that prints it"))
        .collect()
}

/// As [`prose`], with an empty line for each code block.
fn prose_with_gaps(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().map(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if is_code || is_fence { "" } else { line }
    })
}

/// The first number with a unit.
fn measured(part: &str) -> Option<String> {
    let words: Vec<&str> =
        part.split_whitespace().map(|word| word.trim_matches(|c: char| "()[],;:.|`".contains(c))).collect();
    let is_number = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.replace(',', "").parse::<f64>().is_ok()
    };
    let pairs = words.iter().zip(words.iter().skip(1).chain([&""]));
    pairs
        .filter_map(|(word, next)| {
            let apart = is_number(word) && UNITS.contains(next);
            let glued = UNITS.iter().any(|unit| word.strip_suffix(unit).is_some_and(is_number));
            match (apart, glued) {
                (true, _) => Some(format!("{word} {next}")),
                (_, true) => Some((*word).to_owned()),
                _ => None,
            }
        })
        .next()
}

/// Keys of the example that the page about the configuration does not have.
fn unexplained_keys(texts: &Texts) -> Vec<String> {
    let (Some(example), Some(page)) = (texts.get(EXAMPLE), texts.get(CONFIGURATION)) else {
        return Vec::new();
    };
    let mut keys: Vec<&str> = example.split(" = ").filter_map(key_at_the_end).collect();
    keys.sort_unstable();
    keys.dedup();
    let words: Vec<&str> = code_words(page)
        .flat_map(|code| code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')))
        .collect();
    keys.into_iter()
        .filter(|key| !words.contains(key))
        .map(|key| format!("{CONFIGURATION}: does not explain the key `{key}` of {EXAMPLE}"))
        .collect()
}

/// Rows of the tables about attackers that name no test, and tests that are nowhere.
fn unshown_claims(texts: &Texts) -> Vec<String> {
    let Some(page) = texts.get(THREATS) else { return Vec::new() };
    let sources = || texts.iter().filter(|(path, _)| path.ends_with(".rs"));
    let is_there = |name: &str| sources().any(|(_, text)| text.contains(&format!("fn {name}(")));
    let mut findings = Vec::new();
    let mut is_body = false;
    for line in prose(page) {
        // The heading of a table and the line below it claim nothing.
        is_body = line.starts_with('|') && (is_body || line.starts_with("|---"));
        let tests: Vec<&str> = code_words(line).filter(|word| is_test(word)).collect();
        let lacking = tests.iter().filter(|name| !is_there(name));
        findings.extend(lacking.map(|name| format!("{THREATS}: names the test `{name}`, which is nowhere")));
        if is_body && !line.starts_with("|---") && tests.is_empty() {
            let claim = line.split('|').nth(1).unwrap_or_default().trim();
            findings.push(format!("{THREATS}: names no test for \"{claim}\""));
        }
    }
    findings
}

/// The names of tests are sentences; our metrics have longer names than words of code, and a prefix.
fn is_test(word: &str) -> bool {
    let is_name = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_name && word.matches('_').count() >= 3 && !word.starts_with("erdp_")
}

/// The key before an ` = `.
fn key_at_the_end(text: &str) -> Option<&str> {
    let key = text.rsplit(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')).next()?;
    key.starts_with(|c: char| c.is_ascii_lowercase()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(readme: &str) -> Vec<String> {
        let mut texts = Texts::new();
        for (path, text) in [
            ("erdp-user/src/a.rs", ""),
            ("deploy/erdp.toml", "asn = 1 # x\n# peers = [{ address = \"a\" }]"),
            ("docs/configuration.md", "| `asn` |\n| `peers`: `{ address }` |"),
            ("docs/b.md", "# The Head, of `it`\n[home](../README.md)"),
            (README, readme),
        ] {
            texts.insert(path.to_owned(), text.to_owned());
        }
        findings(&texts)
    }

    #[test]
    fn each_rule_finds_its_fault_and_passes_what_is_right() {
        let long = "line\n".repeat(README_LINES + 1);
        let rows = [
            (
                "see `erdp-user/src/a.rs`, `a.rs`, `erdp-user/`, `docs/*.md` and `/etc/x.toml`",
                0,
                "files that are there",
            ),
            ("see `erdp-user/src/b.rs`", 1, "a file that is not there"),
            ("see `other.rs`", 1, "a file that is nowhere"),
            ("```\n`docs/none.md`\n```", 0, "a code block names what it likes"),
            (
                "[b](docs/b.md) [h](docs/b.md#the-head-of-it) [w](https://example.org/x)",
                0,
                "links that lead somewhere",
            ),
            ("[b](docs/c.md)", 1, "a link to no file"),
            ("[b](docs/b.md#no-head)", 1, "a link to no heading"),
            (long.as_str(), 1, "too many lines"),
            ("It takes 12 ns.", 1, "a number without a command"),
            ("It takes 12 ns by\n`cargo xtask bench dataplane`.", 0, "a number and its command"),
            ("| 5 Mpps | `cargo xtask bench live` |\n| 33% | none |", 1, "a row without its command"),
            ("Two 10 ways, 4-byte numbers, IPv4, /24", 0, "numbers without units"),
        ];
        for (readme, faults, what) in rows {
            let found = found(readme);
            assert_eq!(found.len(), faults, "{what}: {found:?}");
        }
    }

    #[test]
    fn each_claim_about_an_attacker_names_a_test_that_is_there() {
        let found = |page: &str| {
            let mut texts = Texts::new();
            texts.insert("tests/tests/a.rs".to_owned(), "#[test]\nfn a_flood_is_no_flood() {}\n".to_owned());
            texts.insert(THREATS.to_owned(), page.to_owned());
            findings(&texts)
        };
        let table =
            |rows: &str| format!("| attack | test |\n|---|---|\n{rows}\nSee `erdp_dropped_packets_total`.\n");
        assert_eq!(found(&table("| a flood | `a_flood_is_no_flood` |")), Vec::<String>::new());
        let lacking = found(&table("| a flood | `a_flood_is_a_flood` |"));
        assert!(matches!(lacking.as_slice(), [only] if only.contains("which is nowhere")), "{lacking:?}");
        let silent = found(&table("| a flood | it is stopped |"));
        assert!(
            matches!(silent.as_slice(), [only] if only.contains("no test for \"a flood\"")),
            "{silent:?}"
        );
    }

    #[test]
    fn a_key_of_the_example_wants_an_explanation() {
        let mut texts = Texts::new();
        texts.insert(EXAMPLE.to_owned(), "asn = 1\n# new-key = 2".to_owned());
        texts.insert(CONFIGURATION.to_owned(), "`asn`".to_owned());
        let found = findings(&texts);
        assert!(matches!(found.as_slice(), [only] if only.contains("`new-key`")), "{found:?}");
    }
}
