//! Which kind of fault has met which state of the machines that it strikes: what has never met has never been tried.

use std::{collections::BTreeMap, fmt};

/// How often each pair has met.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<(&'static str, String), u64>);

impl Coverage {
    /// A fault strikes in this state.
    pub fn note(&mut self, fault: &'static str, state: String) {
        *self.0.entry((fault, state)).or_default() += 1;
    }

    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        for (pair, count) in other.0 {
            *self.0.entry(pair).or_default() += count;
        }
    }

    /// How many pairs have met.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Coverage {
    /// A line for each fault: the states that it has met, each with how often.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((fault, state), count) in &self.0 {
            rows.entry(fault).or_default().push(format!("{state} {count}"));
        }
        for (fault, states) in rows {
            writeln!(f, "  {fault:<18} {}", states.join("; "))?;
        }
        Ok(())
    }
}
