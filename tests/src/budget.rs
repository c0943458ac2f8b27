//! The verifier budget: how many instructions the kernel's verifier may walk for each program of the BPF object, and how deep its
//! stack may be.
//!
//! A change that makes the verifier's work explode is noticed when it is made, not on the first kernel that refuses it. The budget is
//! `erdp-ebpf/verifier-budget.toml`; the kernel tells the counts from Linux 5.16 on. The stack's depth is
//! read from the object ([`stack`]): the kernel, which refuses more than 512 bytes, tells it of refused programs only.

pub mod stack;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The most of each, by the program's name in the object.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Instructions that may be walked.
    pub programs: BTreeMap<String, u32>,
    /// Bytes of stack.
    pub stack: BTreeMap<String, u32>,
}

impl Budget {
    /// The committed one.
    pub fn read() -> Result<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../erdp-ebpf/verifier-budget.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a budget", path.display()))
    }

    /// What is wrong with these depths, a sentence each.
    pub fn stack_findings(&self, depths: &BTreeMap<String, u32>) -> Vec<String> {
        let over = depths.iter().filter_map(|(program, depth)| match self.stack.get(program) {
            None => Some(format!("{program}: its stack has no budget: give it one in erdp-ebpf/verifier-budget.toml")),
            Some(budget) if depth > budget => Some(format!(
                "{program}: its stack is {depth} bytes deep, its budget is {budget}: keep less alive across calls, or raise the budget in \
                 erdp-ebpf/verifier-budget.toml and say why in the commit"
            )),
            Some(_) => None,
        });
        let gone = self.stack.keys().filter(|program| !depths.contains_key(*program)).map(|program| {
            format!(
                "the object has no program {program}: take its stack out of erdp-ebpf/verifier-budget.toml"
            )
        });
        over.chain(gone).collect()
    }

    /// What is wrong with these counts, a sentence each; `None` is a program that is not loaded.
    pub fn findings(&self, walked: &BTreeMap<String, Option<u32>>) -> Vec<String> {
        let mut findings = Vec::new();
        for (program, budget) in &self.programs {
            match walked.get(program) {
                None => findings.push(format!(
                    "the object has no program {program}: take it out of erdp-ebpf/verifier-budget.toml"
                )),
                Some(None) => findings.push(format!(
                    "{program}: no count; the program is not loaded or the kernel is older than 5.16"
                )),
                Some(Some(count)) if count > budget => findings.push(format!(
                    "{program}: the verifier walks {count} instructions, its budget is {budget}: make its branches fewer or its \
                     loops shorter, or raise the budget in erdp-ebpf/verifier-budget.toml and say why in the commit"
                )),
                Some(Some(_)) => {}
            }
        }
        for program in walked.keys().filter(|program| !self.programs.contains_key(*program)) {
            findings.push(format!("{program}: has no budget: give it one in erdp-ebpf/verifier-budget.toml"));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excess_a_missing_count_and_a_program_without_a_budget_are_found() {
        let budget = Budget { programs: BTreeMap::from([("a".to_owned(), 100)]), stack: BTreeMap::new() };
        for (walked, faults, expected) in [
            (vec![("a", Some(100))], 0, ""),
            (vec![("a", Some(101))], 1, "a: the verifier walks 101 instructions, its budget is 100"),
            (vec![("a", None)], 1, "a: no count"),
            (vec![("a", Some(1)), ("b", Some(1))], 1, "b: has no budget"),
            (vec![], 1, "the object has no program a"),
        ] {
            let walked = walked.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            let findings = budget.findings(&walked);
            assert_eq!(findings.len(), faults, "{findings:?}");
            assert!(findings.iter().all(|finding| finding.starts_with(expected)), "{findings:?}");
        }
    }

    #[test]
    fn a_stack_that_is_too_deep_or_has_no_budget_is_found() {
        let budget = Budget { programs: BTreeMap::new(), stack: BTreeMap::from([("a".to_owned(), 100)]) };
        for (depths, faults, expected) in [
            (vec![("a", 100)], 0, ""),
            (vec![("a", 101)], 1, "a: its stack is 101 bytes deep, its budget is 100"),
            (vec![("a", 1), ("b", 1)], 1, "b: its stack has no budget"),
            (vec![], 1, "the object has no program a"),
        ] {
            let depths = depths.into_iter().map(|(name, depth)| (name.to_owned(), depth)).collect();
            let findings = budget.stack_findings(&depths);
            assert_eq!(findings.len(), faults, "{findings:?}");
            assert!(findings.iter().all(|finding| finding.starts_with(expected)), "{findings:?}");
        }
    }

    #[test]
    fn the_committed_budget_is_below_the_kernels_own_limit() -> Result<()> {
        let budget = Budget::read()?;
        assert!(budget.programs.contains_key("erdp"));
        assert!(budget.programs.values().all(|budget| *budget < 1_000_000), "{budget:?}");
        assert!(budget.stack.values().all(|budget| *budget < 512), "{budget:?}");
        assert!(budget.stack.keys().eq(budget.programs.keys()), "{budget:?}");
        Ok(())
    }
}
