//! `erdp peering`: an order of the operator's, and what it has led to.
//!
//! It lasts until the operator says otherwise: over restarts, crashes and the machine's own start too ([`super::kept`]).

use std::time::Duration;

use serde_json::{Value, json};

use super::Controller;
use crate::control::{Peering, search::OnlyHere};

impl Controller {
    /// Answers `erdp peering`.
    pub(super) fn peering(&mut self, asked: &Peering, only_here: Option<&OnlyHere>) -> Result<Value, String> {
        let now = self.started.elapsed();
        let (taken, orphans, what) = match asked {
            Peering::Disable { name, text, drain_ms, force } => {
                let drain = Duration::from_millis(*drain_ms);
                let only_here = (!force).then_some(only_here);
                let (taken, orphans) = self.core.disable(name, text, drain, only_here, now)?;
                (taken, orphans, if *drain_ms > 0 { "draining" } else { "disabled" })
            }
            Peering::Reset { name, text, force } => {
                let only_here = (!force).then_some(only_here);
                let (taken, orphans) = self.core.reset(name, text, only_here, now)?;
                (taken, orphans, "reset")
            }
            Peering::Enable { name } => (self.core.enable(name, now)?, Vec::new(), "enabled"),
        };
        Ok(json!({ "sessions": self.core.names(&taken), "now": what, "nothing_left_of": orphans }))
    }
}
