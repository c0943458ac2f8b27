//! What the Debian package holds, looked at without installing it: no path of the machine that made it, the sums of its files, a changelog,
//! a bill of materials that names every crate that is linked, and the build id by which its debug information is found.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The package of this build, unpacked into a folder that goes with it.
struct Unpacked(PathBuf);

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `None`, with SKIP, where there is no package.
fn unpacked(test: &str) -> Result<Option<Unpacked>> {
    let packages = fs::read_dir(workspace().join("target/package")).into_iter().flatten().flatten();
    let mut packages = packages.map(|entry| entry.path());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("erdp_") && name.ends_with(".deb") && !name.contains('+')
    };
    let Some(package) = packages.find(is_ours) else {
        println!("SKIP: there is no package: run `cargo xtask package`");
        return Ok(None);
    };
    let folder = env::temp_dir().join(format!("erdp-unpacked-{test}-{}", std::process::id()));
    let unpacked = Unpacked(folder);
    said(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&unpacked.0))?;
    Ok(Some(unpacked))
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Whether the bytes hold the word; the first byte is compared alone, which is quick enough for a binary.
fn holds(bytes: &[u8], word: &str) -> bool {
    let word = word.as_bytes();
    bytes.windows(word.len()).any(|window| window[0] == word[0] && window == word)
}

#[test]
fn no_path_of_the_machine_that_built_it_is_in_the_package_nor_in_the_object() -> Result<()> {
    let Some(package) = unpacked("paths")? else { return Ok(()) };
    let workspace = workspace().canonicalize()?;
    let home = env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let cargo = env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo"));
    let rustup = env::var("RUSTUP_HOME").unwrap_or_else(|_| format!("{home}/.rustup"));
    let words = [workspace.to_string_lossy().into_owned(), cargo, rustup, "/registry/src/".to_owned()];
    let mut looked_at = files(&package.0)?;
    ensure!(looked_at.len() > 20, "{looked_at:?}");
    looked_at.push(workspace.join("target/bpf/erdp-ebpf"));
    for file in looked_at {
        let bytes = fs::read(&file)?;
        for word in &words {
            ensure!(!holds(&bytes, word), "{} holds `{word}`", file.display());
        }
    }
    // With their debug information they name their sources; those are the same names everywhere.
    let whole = fs::read(workspace.join("target/release/erdp"))?;
    ensure!(holds(&whole, "/usr/src/cargo/tokio-"), "sources of crates have no name of their own");
    for word in &words[..3] {
        ensure!(!holds(&whole, word), "target/release/erdp holds `{word}`");
    }
    Ok(())
}

#[test]
fn the_package_has_the_sums_of_its_files_a_changelog_and_no_symbols() -> Result<()> {
    let Some(package) = unpacked("sums")? else { return Ok(()) };
    let folder = &package.0;
    let checked =
        said(Command::new("md5sum").args(["--check", "--strict", "DEBIAN/md5sums"]).current_dir(folder))?;
    let installed = files(folder)?.iter().filter(|path| !path.starts_with(folder.join("DEBIAN"))).count();
    ensure!(checked.lines().count() == installed, "{installed} files, and sums of {checked}");
    let changelog = folder.join("usr/share/doc/erdp/changelog.gz");
    let changelog = said(Command::new("zcat").arg(changelog))?;
    let version = env!("CARGO_PKG_VERSION");
    ensure!(changelog.starts_with(&format!("erdp ({version}) ")), "{changelog}");
    let binary = folder.join("usr/bin/erdp");
    let sections = said(Command::new("readelf").args(["--sections", "--wide"]).arg(&binary))?;
    ensure!(!sections.contains(".symtab") && !sections.contains(".debug_line"), "{sections}");
    // By it the debug information is found, which has been taken out of this very build.
    let id = |path: &Path| -> Result<String> {
        let notes = said(Command::new("readelf").arg("--notes").arg(path))?;
        let id = notes.lines().find_map(|line| line.split_once("Build ID: ")).context("no build id")?;
        Ok(id.1.trim().to_owned())
    };
    let (packaged, built) = (id(&binary)?, id(&workspace().join("target/release/erdp"))?);
    ensure!(packaged == built && packaged.len() == 40, "{packaged}, {built}");
    Ok(())
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The crates whose sources the binary's debug information names: all of them are linked.
fn named_by_the_binary() -> Result<BTreeSet<String>> {
    let bytes = fs::read(workspace().join("target/release/erdp"))?;
    let mark = b"/usr/src/cargo/";
    let mut found = BTreeSet::new();
    let mut at = 0;
    while let Some(next) = bytes[at..].windows(mark.len()).position(|window| window == mark) {
        at += next + mark.len();
        let end = bytes[at..].iter().position(|byte| !byte.is_ascii_graphic() || *byte == b'/').unwrap_or(0);
        found.insert(String::from_utf8_lossy(&bytes[at..at + end]).into_owned());
    }
    Ok(found)
}

#[test]
fn the_licences_of_every_crate_that_is_linked_are_in_the_package() -> Result<()> {
    let Some(package) = unpacked("licences")? else { return Ok(()) };
    let documents = package.0.join("usr/share/doc/erdp");
    let text = said(Command::new("zcat").arg(documents.join("third-party-licences.gz")))?;
    let lines = text.lines().filter(|line| line.contains("; linked into the "));
    let listed = lines.filter_map(|line| Some(line.split_once(": ")?.0.replace(' ', "-")));
    let (listed, named): (BTreeSet<String>, _) = (listed.collect(), named_by_the_binary()?);
    let missing: Vec<&String> = named.difference(&listed).collect();
    ensure!(named.len() > 50 && missing.is_empty(), "linked, and not in the list: {missing:?}");
    for words in ["Permission is hereby granted, free of charge", "Apache License", "Redistribution and use"]
    {
        ensure!(text.contains(words), "no text with `{words}`");
    }
    let copyright = fs::read_to_string(documents.join("copyright"))?;
    ensure!(copyright.contains("third-party-licences.gz"), "{copyright}");
    Ok(())
}

#[test]
fn the_bill_of_materials_names_every_crate_that_is_linked_with_licence_hash_and_purl() -> Result<()> {
    let Some(package) = unpacked("bill")? else { return Ok(()) };
    let text = fs::read_to_string(package.0.join("usr/share/doc/erdp/erdp.cdx.json"))?;
    let bill: Value = serde_json::from_str(&text)?;
    ensure!(bill["bomFormat"] == "CycloneDX" && bill["specVersion"] == "1.5" && bill["version"] == 1);
    ensure!(bill.get("serialNumber").is_none(), "a serial number is another one in each run");
    let lock: Lock = toml::from_str(&fs::read_to_string(workspace().join("Cargo.lock"))?)?;
    let locked: BTreeMap<String, Option<String>> =
        lock.package.into_iter().map(|it| (format!("{}-{}", it.name, it.version), it.checksum)).collect();
    let mut linked = BTreeSet::new();
    let mut references = BTreeSet::from(["erdp".to_owned()]);
    for component in bill["components"].as_array().context("no components")? {
        let word = |key: &str| component[key].as_str().with_context(|| format!("{component} has no {key}"));
        let (name, version) = (word("name")?, word("version")?);
        let known = format!("{name}-{version}");
        let checksum = locked.get(&known).with_context(|| format!("{known} is not in Cargo.lock"))?;
        ensure!(component["hashes"][0]["content"].as_str() == checksum.as_deref(), "{known}: another hash");
        ensure!(checksum.is_some() != name.starts_with("erdp-"), "{known} has no hash");
        ensure!(word("purl")? == format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")), "{component}");
        let licence = component["licenses"][0]["expression"].as_str().unwrap_or_default();
        ensure!(!licence.is_empty() && !licence.contains('/'), "{known}: licence `{licence}`");
        ensure!(references.insert(word("bom-ref")?.to_owned()), "{known} is there twice");
        if word("scope")? == "required" {
            linked.insert(known);
        }
    }
    for dependency in bill["dependencies"].as_array().context("no dependencies")? {
        let used = dependency["dependsOn"].as_array().context("no list")?;
        for reference in used.iter().chain([&dependency["ref"]]) {
            let reference = reference.as_str().context("no reference")?;
            ensure!(references.contains(reference), "{reference} is no component");
        }
    }
    let named = named_by_the_binary()?;
    ensure!(named.len() > 50, "the binary names only {named:?}");
    let missing: Vec<&String> = named.difference(&linked).collect();
    ensure!(missing.is_empty(), "linked, and not in the bill: {missing:?}");
    for dev_only in ["proptest", "bgpkit-parser"] {
        ensure!(!text.contains(&format!("pkg:cargo/{dev_only}@")), "{dev_only} is of tests only");
    }
    let hash = said(Command::new("sha256sum").arg(package.0.join("usr/bin/erdp")))?;
    let said = &bill["metadata"]["component"]["hashes"][0]["content"];
    ensure!(said.as_str() == hash.split_whitespace().next(), "the bill is of another binary: {said}, {hash}");
    Ok(())
}
