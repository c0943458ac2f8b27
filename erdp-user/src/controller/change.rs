//! `erdp set`: what an operator changes while the router runs. It is checked by the rules of the file, carried out whole or not at
//! all, and lasts until the operator says something else ([`super::kept`]).

use serde_json::{Value, json};

use super::Controller;
use crate::config::CircuitChange;

impl Controller {
    /// Changes what a circuit is limited to.
    pub(super) fn set_circuit(
        &mut self,
        name: &str,
        change: &CircuitChange,
        force: bool,
    ) -> Result<Value, String> {
        let planned = change.plan(&self.core.config, name)?;
        if let Some(why) = planned.decrease.as_ref().filter(|_| !force) {
            return Err(format!("{why}; nothing is changed"));
        }
        self.core.set_circuit(name, &planned)?;
        if !planned.changed.is_empty() {
            self.settings.push((name.to_owned(), change.clone()));
        }
        for changed in &planned.changed {
            let (key, from, to) = (changed.key, &changed.from, &changed.to);
            tracing::info!(circuit = name, key, from, to, "changed by the operator");
        }
        Ok(json!({
            "circuit": name,
            "changed": planned.changed,
            "warnings": planned.warnings,
            "lasts": self.kept.how_long(),
        }))
    }
}
