//! The committed inputs of every fuzz target, once more: what a fuzzer has found its way with, and every input that ever found a fault.

use std::{collections::BTreeSet, fs, panic, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    fuzz::{TARGETS, corpus, seeds},
    hostile::corpus::to_hex,
};

#[test]
fn no_committed_input_hurts_the_oracle_of_its_target() -> Result<()> {
    let mut hurt = Vec::new();
    for target in TARGETS {
        let begin = Instant::now();
        let inputs = [corpus::load(target.name)?, seeds::of(target.name)?].concat();
        ensure!(!inputs.is_empty(), "{} has no inputs", target.name);
        for input in &inputs {
            let held = panic::catch_unwind(|| (target.run)(input));
            if held.is_err() {
                hurt.push(format!("{} by {}", target.name, to_hex(input)));
            }
        }
        let bytes: usize = inputs.iter().map(Vec::len).sum();
        println!("{}: {} inputs of {bytes} octets in {:.2?}", target.name, inputs.len(), begin.elapsed());
    }
    ensure!(hurt.is_empty(), "{} are hurt: {}", hurt.len(), hurt.join("\n"));
    Ok(())
}

#[test]
fn every_target_says_of_which_files_it_depends_and_has_a_corpus_and_no_other_has_one() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("fuzz/targets.json"))?;
    let listed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text)?;
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    ensure!(listed.keys().map(String::as_str).eq(names.iter().copied()), "{:?}", listed.keys());
    for (name, files) in &listed {
        let files = files.as_array().with_context(|| format!("{name}: no list"))?;
        ensure!(files.len() > 1, "{name}: {files:?}");
        for file in files.iter().filter_map(|file| file.as_str()) {
            ensure!(root.join(file).exists(), "{name}: {file} is not there");
        }
    }
    let entries = fs::read_dir(corpus::folder())?.flatten().map(|entry| entry.file_name());
    let found: BTreeSet<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    let expected: BTreeSet<String> = names.iter().map(|name| format!("{name}.hex")).collect();
    ensure!(found == expected, "{found:?}");
    Ok(())
}
