//! libFuzzer around one of the targets of `erdp_tests::fuzz`, chosen by `ERDP_FUZZ_TARGET`. `cargo xtask fuzz` builds it with counters in
//! every branch, runs it, and knows where corpora are; by itself it only runs what it is given.
#![no_main]

use std::{env, fs, path::PathBuf, process::exit, sync::OnceLock};

use erdp_tests::fuzz::{TARGETS, Target, corpus, seeds};
use libfuzzer_sys::fuzz_target;

/// The target of this process.
static TARGET: OnceLock<&Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = env::var("ERDP_FUZZ_TARGET").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("ERDP_FUZZ_TARGET={name}: no target of this name; there are {}", names.join(", "));
            exit(2)
        })
    })
}

/// Writes the committed inputs and the seeds to where `ERDP_FUZZ_SEEDS` says, for libFuzzer to read.
fn write_seeds() {
    let Some(folder) = env::var_os("ERDP_FUZZ_SEEDS").map(PathBuf::from) else { return };
    let name = target().name;
    let inputs = corpus::load(name).and_then(|committed| Ok([committed, seeds::of(name)?].concat()));
    let written = inputs.and_then(|inputs| {
        for (number, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), input)?;
        }
        Ok(())
    });
    if let Err(error) = written {
        eprintln!("ERDP_FUZZ_SEEDS={}: {error:#}", folder.display());
        exit(2);
    }
}

fuzz_target!(init: write_seeds(), |bytes: &[u8]| (target().run)(bytes));
