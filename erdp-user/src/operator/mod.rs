//! Verbs of the operator that have more to them than a question and its answer: `config` (check, show, compare, apply) and `generate`
//! (man pages and completions, for packages).

pub mod config;
pub mod generate;
