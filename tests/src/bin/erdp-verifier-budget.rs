//! `erdp-verifier-budget`: loads the BPF object, attaches it nowhere, and holds what the verifier has walked against the budget.
//!
//! Started by `cargo xtask check`. The stack is read from the object, the instructions are known only to a kernel that has loaded it,
//! which needs root. Exit codes: 0 within the budget, 1 not, or not to be told.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use erdp::dataplane::aya::{self, AyaDataplane, LoadOptions};
use erdp_tests::{
    budget::{Budget, stack},
    packets::is_root,
};

fn main() -> Result<ExitCode> {
    let budget = Budget::read()?;
    let depths = stack::depths(aya::object())?;
    for (program, depth) in &depths {
        let most = budget.stack.get(program).map_or_else(|| "none".to_owned(), u32::to_string);
        println!("{program:<20} {depth:>8} bytes of stack, budget {most}");
    }
    let mut findings = budget.stack_findings(&depths);
    if is_root() {
        findings.extend(walked(&budget)?);
    } else {
        println!(
            "instructions are not checked: loading the BPF object needs root (`sudo -E cargo xtask check`)"
        );
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads the object and holds what the verifier has walked against the budget.
fn walked(budget: &Budget) -> Result<Vec<String>> {
    // With what an operator may switch on: what is off is not walked.
    let options = LoadOptions {
        fib_blocks: 1_024,
        drop_samples: 8,
        symmetric_hash: true,
        log_drops: true,
        ..LoadOptions::default()
    };
    let walked = AyaDataplane::load(options).context("loading the BPF object")?.verified_instructions();
    for (program, count) in &walked {
        let count = count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let most = budget.programs.get(program).map_or_else(|| "none".to_owned(), u32::to_string);
        println!("{program:<20} {count:>8} instructions walked, budget {most}");
    }
    Ok(budget.findings(&walked))
}
