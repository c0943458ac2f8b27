//! The licences of what others have written and the package has linked: a list of the crates, each with its version and licence, and the texts
//! that they ship, each text once with whose it is.
//!
//! Which crates there are is the bill of materials' business ([`super::sbom`]). Their texts are files beside their manifests, as the registry has
//! them, so they are the same wherever the package is made. Pure from [`document`] on.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::sbom;

/// How the name of a file with a licence or notice begins, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
/// What such a file may end with: it is a text, not code or a manifest about licences.
const ENDINGS: [&str; 3] = ["", "md", "txt"];
/// Between two texts.
const LINE: &str = "----------------------------------------------------------------------------";

/// A crate of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Name and version.
    pub name: String,
    /// SPDX expression.
    pub licence: String,
    /// Into what it is linked.
    pub parts: String,
    /// Where its manifest is.
    pub folder: PathBuf,
}

/// A file with a licence: its name and text.
type Shipped = (String, String);

/// The document of this build.
///
/// # Errors
/// When a file cannot be read.
pub fn text(known: &sbom::Crates) -> Result<String> {
    let mut crates = Vec::new();
    for linked in sbom::linked(known) {
        let shipped = shipped(&linked.folder)?;
        crates.push((linked, shipped));
    }
    Ok(document(&crates))
}

/// The texts that a crate ships, by the name of their files.
fn shipped(folder: &Path) -> Result<Vec<Shipped>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && is_licence(&name) {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found.sort();
    Ok(found)
}

fn is_licence(name: &str) -> bool {
    let ending = Path::new(name).extension().map(|it| it.to_string_lossy().to_lowercase());
    // `LICENSE-Apache-2.0` ends with a number.
    let is_text = ending.is_none_or(|it| ENDINGS.contains(&it.as_str()) || it.parse::<u8>().is_ok());
    NAMES.iter().any(|begin| name.to_uppercase().starts_with(begin)) && is_text
}

fn document(crates: &[(Linked, Vec<Shipped>)]) -> String {
    // By what is said, whatever the line breaks are; with the place in the document.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut texts: Vec<(String, Vec<String>)> = Vec::new();
    let mut list = String::new();
    for (Linked { name, licence, parts, .. }, shipped) in crates {
        let mut numbers = Vec::new();
        for (file, text) in shipped {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let at = *places.entry(words).or_insert_with(|| {
                texts.push((tidy(text), Vec::new()));
                texts.len()
            });
            texts[at - 1].1.push(format!("{name} ({file})"));
            numbers.push(at.to_string());
        }
        let where_it_is = match numbers.as_slice() {
            [] => "ships no text".to_owned(),
            [one] => format!("text {one}"),
            more => format!("texts {}", more.join(", ")),
        };
        // Writing to a text does not fail.
        let _ = writeln!(list, "{name}: {licence}; linked into the {parts}; {where_it_is}");
    }
    let mut document = format!(
        "Crates of other authors that are linked into erdp {}, each with its version and licence, and the\n\
         texts that they ship. The Rust standard library is linked too, under MIT OR Apache-2.0; the\n\
         notices about it are part of the Rust toolchain. /usr/share/common-licenses has the Apache License.\n\n{list}",
        env!("CARGO_PKG_VERSION")
    );
    for (at, (text, of)) in texts.iter().enumerate() {
        let _ = write!(document, "\n{LINE}\nText {} of {}\n{LINE}\n\n{text}", at + 1, of.join(", "));
    }
    document
}

/// With line ends of one kind.
fn tidy(text: &str) -> String {
    let lines = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    format!("{}\n", lines.trim_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(name: &str, licence: &str) -> Linked {
        Linked {
            name: name.into(),
            licence: licence.into(),
            parts: "daemon".into(),
            folder: "/registry/src/x".into(),
        }
    }

    #[test]
    fn every_crate_is_listed_and_a_text_of_several_is_there_once_with_whose_it_is() {
        let of = |file: &str, text: &str| (file.to_owned(), text.to_owned());
        let crates = [
            (linked("a 1.0.0", "MIT"), vec![of("LICENSE", "Copyright one\r\n\r\nfree  of charge\r\n")]),
            (
                linked("b 2.0.0", "MIT"),
                vec![of("LICENSE-MIT", "Copyright one\nfree of\ncharge"), of("NOTICE", "n")],
            ),
            (linked("c 3.0.0", "ISC"), vec![]),
        ];
        let document = document(&crates);
        for line in [
            "a 1.0.0: MIT; linked into the daemon; text 1",
            "b 2.0.0: MIT; linked into the daemon; texts 1, 2",
            "c 3.0.0: ISC; linked into the daemon; ships no text",
            "Text 1 of a 1.0.0 (LICENSE), b 2.0.0 (LICENSE-MIT)",
            "Text 2 of b 2.0.0 (NOTICE)",
            "free  of charge",
        ] {
            assert!(document.lines().any(|it| it == line), "{line} in {document}");
        }
        assert_eq!(document.matches("Copyright one").count(), 1);
        assert!(!document.contains('\r') && !document.contains("registry"), "{document}");
    }

    #[test]
    fn licences_and_notices_are_told_from_code_and_other_texts_by_their_names() {
        let is = [
            "LICENSE",
            "LICENSE-MIT",
            "license.md",
            "LICENCE.txt",
            "COPYING",
            "NOTICE",
            "UNLICENSE",
            "LICENSE-Apache-2.0",
        ];
        let is_not = ["README.md", "Cargo.toml", "license.rs", "licenses.toml", "MIT"];
        assert!(is.iter().all(|name| is_licence(name)));
        assert!(!is_not.iter().any(|name| is_licence(name)));
    }

    #[test]
    fn nearly_every_crate_that_is_linked_ships_a_text_and_each_names_a_licence() {
        let document = text(&sbom::crates().expect("cargo knows what is linked")).expect("texts");
        let (list, _) = document.split_once(LINE).expect("texts");
        let crates: Vec<&str> = list.lines().filter(|line| line.contains("; linked into the ")).collect();
        let without = crates.iter().filter(|line| line.ends_with("ships no text")).count();
        assert!(crates.len() > 50 && without * 5 < crates.len(), "{without} of {}", crates.len());
        assert!(crates.iter().any(|line| line.starts_with("tokio ") && line.contains(": MIT;")), "{list}");
        assert!(crates.iter().any(|line| line.contains("linked into the BPF object")), "{list}");
        assert!(!list.contains("erdp-common") && !document.contains(env!("CARGO_MANIFEST_DIR")), "{list}");
    }
}
