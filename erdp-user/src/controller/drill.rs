//! `erdp drill` and `erdp whatif`: orders of the operator's, and reports.

use std::time::Duration;

use serde_json::{Value, json};

use super::Controller;
use crate::{
    config::Circuit,
    control::{Drilling, search::OnlyHere},
    core::RunningDrill,
    drill::{End, Phase},
};

impl Controller {
    /// Answers `erdp drill`.
    pub(super) fn drill(&mut self, asked: &Drilling, only_here: Option<&OnlyHere>) -> Result<Value, String> {
        let now = self.started.elapsed();
        match asked {
            Drilling::Begin { link, seconds, force } => {
                let only_here = (!force).then_some(only_here);
                self.core.begin_drill(link, *seconds, only_here, now)?;
            }
            Drilling::Watch => self.core.watch_drill(now),
            Drilling::Stop if self.core.end_drill(End::Stopped, now) => {}
            Drilling::Stop => return Err("no drill is running".into()),
        }
        self.core.advance_drill();
        self.drill_report(now).ok_or_else(|| "there has been no drill since erdp was started".into())
    }

    /// The next process has no drill. So this one ends its drill and puts the link back in service.
    pub(super) fn end_drill_for_hand_over(&mut self) {
        self.core.end_drill(End::HandedOver, self.started.elapsed());
        self.core.advance_drill();
    }

    /// For `erdp show circuits`.
    pub(super) fn show_drill(&self, circuit: &Circuit) -> Value {
        let is_its = |running: &&RunningDrill| {
            let other = self.core.config.circuits.get(running.part.circuit);
            !running.is_over() && other.is_some_and(|other| other.name == circuit.name)
        };
        let Some(running) = self.core.drill.as_ref().filter(is_its) else { return Value::Null };
        let link = running.part.label();
        match (running.drill.phase(), running.drill.remaining(self.started.elapsed())) {
            (_, Some(remaining)) => format!("{link} fails for {} s more", remaining.as_secs()).into(),
            (Phase::Watching, None) => format!("{link} is about to fail").into(),
            (_, None) => format!("{link} is coming back").into(),
        }
    }

    fn drill_report(&self, now: Duration) -> Option<Value> {
        let running = self.core.drill.as_ref()?;
        Some(json!({
            "circuit": self.core.config.circuits.get(running.part.circuit).map(|circuit| &circuit.name),
            "link": running.part.label(),
            "phase": running.drill.phase(),
            "remaining_s": running.drill.remaining(now).map(|it| it.as_secs()),
            "completed": running.drill.end() == Some(&End::Time),
            "end": running.drill.end().map(ToString::to_string),
            "asked_s": running.length.as_secs(),
            "report": running.measured.report(),
        }))
    }

    /// Answers `erdp whatif`: what its forecast is made of.
    pub(super) fn load(&self, link: &str, only_here: Option<&OnlyHere>) -> Result<Value, String> {
        let reading = self.core.reading(link, only_here, self.started.elapsed())?;
        serde_json::to_value(reading).map_err(|error| error.to_string())
    }
}
