//! `erdp set`: what an operator changes while the router runs. It is checked by the rules of the file, carried out whole or not at
//! all, and lasts until the operator says something else ([`super::kept`]).

use serde_json::{Value, json};

use super::{Controller, limits};
use crate::{
    config::{CircuitChange, Planned},
    dataplane::Dataplane as _,
};

impl Controller {
    /// Changes what a circuit is limited to.
    pub(super) fn set_circuit(
        &mut self,
        name: &str,
        change: &CircuitChange,
        force: bool,
    ) -> Result<Value, String> {
        let planned = change.plan(&self.config, name)?;
        if let Some(why) = planned.decrease.as_ref().filter(|_| !force) {
            return Err(format!("{why}; nothing is changed"));
        }
        let before = self.config.circuits[planned.index].clone();
        if !planned.changed.is_empty()
            && let Err(error) = self.limit(&planned)
        {
            let back = Planned { circuit: before, ..planned };
            return Err(match self.limit(&back) {
                Ok(()) => format!("circuit {name}: {error}; nothing is changed"),
                Err(again) => format!(
                    "circuit {name}: {error}; and going back failed too: {again}: restart erdp to have the file's values"
                ),
            });
        }
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

    /// Writes the policers, then points the attachments at theirs: which they have follows from the burst policy.
    fn limit(&mut self, planned: &Planned) -> Result<(), String> {
        let circuit = &mut self.config.circuits[planned.index];
        let before = std::mem::replace(circuit, planned.circuit.clone());
        let records = limits::change(planned.index, &before, &planned.circuit, self.dataplane.clock());
        for record in records.map_err(|error| error.to_string())? {
            self.dataplane.write(&record).map_err(|error| error.to_string())?;
        }
        if before.burst == planned.circuit.burst {
            return Ok(());
        }
        for attachment in self.attachments.iter().filter(|attachment| attachment.side.is_msee()) {
            let of = limits::of(&self.config, attachment);
            let policers = [of.inbound, of.outbound];
            let pointed = self.forwarding.policers(attachment.id, policers, &mut self.dataplane);
            pointed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
