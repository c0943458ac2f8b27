//! What a circuit is limited to: a change is carried out whole or not at all.

use super::Core;
use crate::{compile::limits, config::Planned, dataplane::Dataplane};

impl<D: Dataplane> Core<D> {
    /// Carries a planned change out.
    pub(crate) fn set_circuit(&mut self, name: &str, planned: &Planned) -> Result<(), String> {
        if planned.changed.is_empty() {
            return Ok(());
        }
        let before = self.config.circuits[planned.index].clone();
        let Err(error) = self.limit(planned) else { return Ok(()) };
        let back = Planned { circuit: before, ..planned.clone() };
        Err(match self.limit(&back) {
            Ok(()) => format!("circuit {name}: {error}; nothing is changed"),
            Err(again) => format!(
                "circuit {name}: {error}; and going back failed too: {again}: restart erdp to have the file's values"
            ),
        })
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
