//! What the `erdp` command does by itself, beside the daemon's work: everything here runs, answers and ends.
//!
//! Files: [`ask`] (`erdp ask`, which is `erdp explain`), [`audit`] (`erdp audit`), [`config`] (`erdp config`: check, show, compare, apply, confirm, go back, presets), [`generate`] (man pages and completions,
//! made of the command line's own definition when the package is built), [`drill`] (`erdp peering`, `erdp drill`, `erdp whatif`),
//! [`import`] (`erdp import azure`), `report` (a forecast in words), [`show`] (`erdp show`), [`why`] (`erdp why`). They belong to the binary and not to the library: they print.

pub mod ask;
pub mod audit;
pub mod config;
pub mod drill;
pub mod generate;
pub mod import;
pub mod render;
mod report;
pub mod show;
pub mod why;
