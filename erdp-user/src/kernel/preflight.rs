//! Checks before the start (provisional until the full list lands).

use crate::config::Config;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding(pub String);

impl Finding {
    /// Whether the router must not start.
    pub fn refuses(&self) -> bool {
        true
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {}

impl Machine {
    /// Reads.
    pub fn read(_config: &Config) -> Self {
        Self {}
    }
}

/// Checks.
pub fn check(_config: &Config, _machine: &Machine, _allow_generic: bool) -> Vec<Finding> {
    Vec::new()
}

/// Missing.
pub fn missing_interface(name: &str, there: &[&str]) -> Finding {
    Finding(format!("interface {name}: does not exist; there are: {}", there.join(", ")))
}
