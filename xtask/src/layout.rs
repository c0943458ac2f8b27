//! The rules of the tree that no other tool knows: essays at the top of files, no unfinished ends, no machine's paths, `unsafe`
//! only where it belongs, an architecture page that names every folder, and a test by the number of each rule about routes and BGP.
//!
//! Pure over a [`Tree`] of texts; [`findings`] gives one sentence for each fault.

use std::{collections::BTreeMap, fs};

use anyhow::Result;

use crate::{command::root, pages};

/// The text files of the repository by their path from its root.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<String, String>);

/// Where `unsafe` may stand: the packet trait and its backends, map glue, the aya backend, raw system calls.
const UNSAFE_ALLOWED: &[&str] = &[
    "erdp-ebpf/src/",
    "erdp-common/src/abi.rs",
    "erdp-common/src/packet.rs",
    "erdp-common/src/memory.rs",
    "erdp-user/src/dataplane/",
    "erdp-user/src/kernel/",
    "erdp-user/src/bgp/socket.rs",
    "tests/src/lab/enter.rs",
    "tests/src/lab/tag_switch.rs",
    "tests/src/packets/stand.rs",
    "tests/src/traffic/raw.rs",
];

/// What may not stand in the tree, and why. Written in halves so that this file passes its own rule.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("../sha", "red"), "a path outside the repository (only .ci/run may look there)"),
    (concat!("/tmp/", "wt"), "a path of one machine"),
    (
        concat!("#[i", "gnore"),
        "a test that nobody runs: let it print `SKIP: reason` where it cannot run, or be one of `--full`",
    ),
    (concat!("to", "do!("), "an unfinished end"),
    (concat!("unimpl", "emented!("), "an unfinished end"),
    (concat!("FIX", "ME"), "an unfinished end"),
];

/// What a test has that only `cargo xtask test --full` runs, and does run.
const LONG: &str = concat!("#[i", "gnore = \"long: `cargo xtask test --full`\"]");

/// The file that may name the folder beside the repository.
const CI: &str = ".ci/run";
const ARCHITECTURE: &str = "docs/architecture.md";
/// A folder's essay has at least so many lines.
const ESSAY_LINES: usize = 4;

impl Tree {
    /// Reads the files of `list` (one path a line); what is not UTF-8 is not text and is left out.
    pub fn read(list: &str) -> Result<Tree> {
        let mut tree = Tree::default();
        for path in list.lines().filter(|path| !path.ends_with("Cargo.lock")) {
            // A file that is deleted but still in the index is not there to be read.
            if let Ok(text) = fs::read_to_string(root().join(path)) {
                tree.0.insert(path.to_owned(), text);
            }
        }
        Ok(tree)
    }

    /// The files by their path.
    pub fn texts(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// Every fault of the tree, as `path: what is wrong`.
pub fn findings(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in &tree.0 {
        findings.extend(forbidden(path, text));
        if path.ends_with(".rs") {
            findings.extend(essay(path, text));
            findings.extend(misplaced_unsafe(path, text));
        }
    }
    findings.extend(unnamed_folders(tree));
    findings.extend(untested_rules(tree));
    findings.extend(pages::findings(&tree.0));
    findings
}

fn forbidden(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            if path != CI && line != LONG {
                findings.push(format!("{path}:{}: `{word}`: {why}", number + 1));
            }
        }
    }
    findings
}

fn essay(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().take_while(|line| line.starts_with("//!")).count();
    if lines == 0 {
        return Some(format!("{path}: does not open with `//!`: what it decides, its inputs, its RFCs"));
    }
    let short = path.ends_with("/mod.rs") && lines < ESSAY_LINES;
    short.then(|| format!("{path}: a folder's mod.rs opens with a short essay, this one has {lines} lines"))
}

fn misplaced_unsafe(path: &str, text: &str) -> Vec<String> {
    if UNSAFE_ALLOWED.iter().any(|allowed| path.starts_with(allowed)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if !code.contains('"') && opens_unsafe(code) {
            findings.push(format!("{path}:{}: `unsafe` outside the files that may have it", number + 1));
        }
    }
    findings
}

/// The keyword itself before a block, an item or an attribute's bracket; not a part of a longer name.
fn opens_unsafe(code: &str) -> bool {
    code.match_indices("unsafe").any(|(at, word)| {
        let part_of_name = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let rest = &code[at + word.len()..];
        !part_of_name && [" {", " fn", " impl", " extern", "("].iter().any(|open| rest.starts_with(open))
    })
}

/// Folders of modules below erdp-user/src that the architecture page does not name.
fn unnamed_folders(tree: &Tree) -> Vec<String> {
    let Some(page) = tree.0.get(ARCHITECTURE) else {
        return vec![format!("{ARCHITECTURE}: is missing")];
    };
    let folders =
        tree.0.keys().filter_map(|path| path.strip_prefix("erdp-user/src/")?.strip_suffix("/mod.rs"));
    folders
        .filter(|folder| !page.contains(&format!("`{folder}`")) && !page.contains(&format!("{folder}/")))
        .map(|folder| format!("{ARCHITECTURE}: does not name the module folder erdp-user/src/{folder}"))
        .collect()
}

/// Rules about routes and BGP (D1, E1 and so on) that the architecture page lists and that no test's name begins with.
fn untested_rules(tree: &Tree) -> Vec<String> {
    let Some(page) = tree.0.get(ARCHITECTURE) else { return Vec::new() };
    let rows = page.lines().filter(|line| ["| D |", "| E |"].iter().any(|row| line.starts_with(row)));
    let words = rows.flat_map(|row| row.split(|c: char| !c.is_ascii_alphanumeric()));
    let is_rule = |word: &&str| {
        word.strip_prefix(['D', 'E'])
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_digit()))
    };
    let tests: Vec<&str> = tree
        .0
        .iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .flat_map(|(_, text)| tests_of(text))
        .collect();
    words
        .filter(is_rule)
        .filter(|rule| !tests.iter().any(|test| test.starts_with(&format!("{}_", rule.to_lowercase()))))
        .map(|rule| format!("{ARCHITECTURE}: lists rule {rule}, and no test's name begins with it"))
        .collect()
}

/// The names of the tests of a file.
fn tests_of(text: &str) -> impl Iterator<Item = &str> {
    let after_attribute = text.split("test]\n").skip(1);
    after_attribute.filter_map(|rest| {
        let name = rest.trim_start().trim_start_matches("async ").strip_prefix("fn ")?;
        name.split('(').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let mut tree = Tree::default();
        tree.0.insert(ARCHITECTURE.to_owned(), "`bgp` speaks BGP".to_owned());
        tree.0.insert(path.to_owned(), text.to_owned());
        findings(&tree)
    }

    #[test]
    fn each_rule_finds_its_fault_and_passes_what_is_right() {
        let essay = "//! One.\n//! Two.\n//! Three.\n//! Four.\n";
        let rows = [
            ("x/src/a.rs", "//! Decides.\nfn a() {}".to_owned(), 0, "a good file"),
            ("x/src/a.rs", "fn a() {}".to_owned(), 1, "no essay"),
            ("x/src/b/mod.rs", "//! Short.\nmod c;".to_owned(), 1, "a folder with too short an essay"),
            ("x/src/b/mod.rs", essay.to_owned(), 0, "a folder with an essay"),
            ("x/src/a.rs", "//! A.\nfn a() { unsafe { b() } }".to_owned(), 1, "unsafe elsewhere"),
            ("x/src/a.rs", "//! A.\n// unsafe { b() }".to_owned(), 0, "unsafe in a comment"),
            (
                "erdp-ebpf/src/main.rs",
                "//! A.\nfn a() { unsafe { b() } }".to_owned(),
                0,
                "unsafe where it may be",
            ),
            ("README.md", concat!("see /wo", "rk/main").to_owned(), 1, "a machine's path"),
            (CI, concat!("cd ../sha", "red").to_owned(), 0, "CI may look beside the repository"),
            ("x/src/a.rs", concat!("//! A.\n#[i", "gnore]").to_owned(), 1, "an ignored test"),
            ("x/src/a.rs", format!("//! A.\n{LONG}"), 0, "a test of --full"),
            ("x/src/a.rs", concat!("//! A.\nfn a() { to", "do!() }").to_owned(), 1, "an unfinished end"),
            ("erdp-user/src/bgp/mod.rs", essay.to_owned(), 0, "a folder that the page names"),
            ("erdp-user/src/rib/mod.rs", essay.to_owned(), 1, "a folder that the page does not name"),
        ];
        for (path, text, faults, what) in rows {
            let found = found(path, &text);
            assert_eq!(found.len(), faults, "{what}: {found:?}");
        }
    }

    #[test]
    fn a_rule_that_the_page_lists_wants_a_test_that_begins_with_its_number() {
        let mut tree = Tree::default();
        tree.0.insert(
            ARCHITECTURE.to_owned(),
            "| D | routes (D1 limits, D2 more) |\n| G | (G1) |\n".to_owned(),
        );
        let attribute = concat!("#[te", "st]");
        let text = format!("//! A.\n{attribute}\nfn d1_is_kept() {{}}\nfn d2_is_no_test() {{}}\n");
        tree.0.insert("x/src/a.rs".to_owned(), text);
        let found = findings(&tree);
        assert!(matches!(found.as_slice(), [only] if only.contains("rule D2")), "{found:?}");
    }

    #[test]
    fn a_missing_architecture_page_is_found() {
        assert_eq!(findings(&Tree::default()).len(), 1);
    }
}
