//! What `erdp show circuits` and `erdp show links` say of a circuit's two links.

use serde_json::{Value, json};

use super::Controller;
use crate::{
    config::{Circuit, Link, LinkRole},
    pair,
};

impl Controller {
    /// What a link is worth, for `erdp show links`: whether it is eligible, and what is wrong.
    pub(super) fn worth(&self, circuit: &Circuit, role: LinkRole) -> (Value, Value) {
        let facts = self.core.link_facts(circuit, role);
        if facts.is_unknown() {
            return (Value::Null, Value::Null);
        }
        let judged = pair::judge(&facts);
        (judged.is_eligible.into(), json!(judged.reasons))
    }

    pub(super) fn show_circuits(&self) -> Value {
        let row = |(index, circuit): (usize, &Circuit)| {
            let pair = self.core.pair(circuit);
            let is_last = self.core.redundancy.is_below(index);
            let flaps = |role| match circuit.link(role) {
                Link::Local { interface, .. } if self.core.is_held(interface) => "held down",
                _ => "no",
            };
            json!({
                "circuit": circuit.name,
                "links": pair.state,
                "sla_valid": pair.is_sla_valid,
                "why": pair.why,
                "primary": self.worth(circuit, LinkRole::Primary).1,
                "secondary": self.worth(circuit, LinkRole::Secondary).1,
                "flaps": LinkRole::ALL.map(flaps),
                "drill": self.show_drill(circuit),
                "rank": if is_last { "last: below minimum-links" } else { "as listed" },
            })
        };
        self.core.config.circuits.iter().enumerate().map(row).collect()
    }
}
