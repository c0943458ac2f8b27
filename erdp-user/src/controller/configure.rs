//! `erdp config`: another configuration takes the place of the running one, whole or not at all.
//!
//! What it means is known beforehand ([`Plan`]). Circuits that it disables are left first, over as many turns of the loop as that takes
//! ([`super::exchange`]). Then it is carried out in an order in which no packet meets half of it: policers, routing tables, routes,
//! sessions. Where the packet path refuses on the way, the running configuration is carried out again. What was applied with a deadline
//! goes back by itself unless it is confirmed, also at the start after a crash, and the one before is kept for `rollback`.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Controller,
    exchange::{Applied, Change, Then},
    unsaved::{Settings, Source},
};
use crate::{
    config::{Config, ConfigError, Plan, shown},
    control::{Configuring, File, roles::Roles},
    events::Kind,
};

/// What ran before.
#[derive(Debug, Default)]
pub struct History {
    before: Option<Before>,
    /// When to go back to it.
    deadline: Option<Instant>,
    /// Where the running one is written.
    pub(super) source: Source,
}

/// A configuration that ran.
#[derive(Clone, Debug)]
pub(super) struct Before {
    config: Config,
    /// What was set in it.
    pub settings: Settings,
    /// As it was written.
    pub file: File,
}

impl History {
    /// What is gone back to unless a change is confirmed.
    pub(super) fn unconfirmed(&self) -> Option<&Before> {
        self.before.as_ref().filter(|_| self.waits())
    }

    /// Whether a change waits to be confirmed.
    pub(super) fn waits(&self) -> bool {
        self.deadline.is_some()
    }
}

/// What follows from `erdp config`.
pub(super) enum Step {
    /// Nothing but the answer.
    Answer(Value),
    /// A change, which is answered when it has been carried out.
    Change(Box<Change>),
}

impl Controller {
    /// Judges `erdp config`.
    pub(super) fn configure(&mut self, asked: &Configuring, parsed: Option<Parsed>) -> Result<Step, String> {
        let parsed = |file: &File| parsed.unwrap_or_else(|| parse(file));
        match asked {
            Configuring::Show => Ok(Step::Answer(shown::text(&self.core.config).into())),
            Configuring::Diff(file) => self.diff(parsed(file)).map(Step::Answer),
            Configuring::Apply { file, confirm_s, no_flap, force } => {
                let change = self.apply(file, parsed(file), *confirm_s, *no_flap, *force)?;
                Ok(Step::Change(Box::new(change)))
            }
            Configuring::Confirm => self.confirm().map(Step::Answer),
            Configuring::Rollback => Ok(Step::Change(Box::new(self.rollback()?))),
        }
    }

    fn diff(&self, parsed: Parsed) -> Result<Value, String> {
        let (config, warnings) = parsed?;
        Ok(report(&Plan::between(&self.core.config, &config), &warnings))
    }

    fn apply(
        &mut self,
        file: &File,
        parsed: Parsed,
        confirm_s: Option<u64>,
        no_flap: bool,
        force: bool,
    ) -> Result<Change, String> {
        if self.history.deadline.is_some() {
            return Err(
                "a change waits to be confirmed; `erdp config confirm` or `erdp config rollback` first"
                    .into(),
            );
        }
        if self.core.inherited.is_some() {
            return Err(
                "erdp is still taking over from the one before: try again in a moment; nothing is changed"
                    .into(),
            );
        }
        self.core.is_no_drill()?;
        let (config, warnings) = parsed?;
        let plan = Plan::between(&self.core.config, &config);
        if !plan.refused.is_empty() {
            return Err(format!("{}; nothing is changed", plan.refused.join("\n")));
        }
        if !force && !plan.decreases.is_empty() {
            return Err(format!("{}; nothing is changed", plan.decreases.join("\n")));
        }
        let ends = || plan.flaps.iter().chain(&plan.removed).map(String::as_str).collect::<Vec<_>>();
        if no_flap && !ends().is_empty() {
            return Err(format!("sessions would end: {}; nothing is changed", ends().join(", ")));
        }
        if confirm_s.is_some() {
            self.keep_way_back(&file.path);
        }
        let applied = Applied { file: file.clone(), plan, warnings, confirm_s };
        Ok(Change { config, then: Then::Applied(applied) })
    }

    /// Another configuration runs, which an operator has applied.
    fn note_applied(&mut self, (config, settings): (Config, Settings), applied: Applied) -> Value {
        let Applied { file, plan, warnings, confirm_s } = applied;
        let before = std::mem::replace(&mut self.history.source.running, file);
        let path = self.history.source.running.path.clone();
        self.note_source(&path);
        if !plan.is_empty() {
            self.history.before = Some(Before { config, settings, file: before });
            // The control protocol takes a day at most, so the sum exists.
            self.history.deadline =
                confirm_s.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        }
        for difference in &plan.differences {
            let (path, from, to) = (&difference.path, &difference.from, &difference.to);
            tracing::info!(path, ?from, ?to, "changed by the operator");
        }
        let mut answer = report(&plan, &warnings);
        answer["interfaces"] = self.take_into_use().into();
        answer
    }

    fn confirm(&mut self) -> Result<Value, String> {
        match self.history.deadline.take() {
            Some(_) => Ok(match self.take_into_use() {
                Some(interfaces) => format!("confirmed; {interfaces}").into(),
                None => "confirmed".into(),
            }),
            None => Err("no change waits to be confirmed".into()),
        }
    }

    fn rollback(&self) -> Result<Change, String> {
        let Some(before) = self.history.before.clone() else {
            return Err(
                "there is no configuration before this one: nothing has been applied since the start".into(),
            );
        };
        let plan = Plan::between(&self.core.config, &before.config);
        Ok(Change { config: before.config.clone(), then: Then::WentBack(Box::new(before), plan) })
    }

    /// Goes back once the time for a confirmation is over.
    pub(super) async fn revert_unconfirmed(&mut self) {
        let is_over = self.history.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_over && !self.is_changing() {
            tracing::warn!("the change was not confirmed in time");
            let running = self.history.source.running.path.display().to_string();
            self.note(
                Kind::Config,
                &running,
                "rolls back by itself",
                Some("the change was not confirmed in time"),
            );
            match self.rollback() {
                Ok(change) => self.begin_change(change, None).await,
                Err(error) => self.stay(&error),
            }
        }
    }

    /// Nothing leads back.
    pub(super) fn stay(&mut self, error: &str) {
        tracing::error!(error, "the unconfirmed change stays");
        self.history.deadline = None;
    }

    /// Carries out what was judged. After an error what ran before still does.
    pub(super) async fn carry_out_change(
        &mut self,
        Change { config, then }: Change,
    ) -> Result<Value, String> {
        let before = self.exchange(config).await;
        match then {
            Then::Applied(applied) => Ok(self.note_applied(before?, applied)),
            Then::WentBack(to, plan) => {
                before?;
                self.settings = to.settings;
                self.history.source.running = to.file;
                (self.history.before, self.history.deadline) = (None, None);
                self.note_source(Path::new("erdp config rollback"));
                tracing::info!("back to the configuration before");
                Ok(report(&plan, &[]))
            }
        }
    }

    /// Carries a configuration out, with which what `erdp set` has changed in the one before is over; the answer is that one. After an
    /// error it still holds.
    async fn exchange(&mut self, config: Config) -> Result<(Config, Settings), String> {
        let before = self.core.exchange(config, self.started.elapsed());
        self.roles.send_replace(Roles { orders: self.core.config.control_orders.clone() });
        self.carry_out().await;
        Ok((before?, std::mem::take(&mut self.settings)))
    }
}

/// The configuration of a text and what is doubtful about it, or why it is refused.
pub type Parsed = Result<(Config, Vec<String>), String>;

/// Reads a text. A refusal is said as compilers do. How long that takes is up to whoever wrote the text, so the loop has it done before.
pub fn parse(file: &File) -> Parsed {
    match Config::parse(&file.text, &file.path) {
        Ok((config, warnings)) => Ok((config, warnings.iter().map(ToString::to_string).collect())),
        Err(ConfigError::Refused(refusal)) => {
            Err(format!("{refusal}; nothing is changed\n{}", refusal.excerpt))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn report(plan: &Plan, warnings: &[String]) -> Value {
    json!({ "plan": plan, "warnings": warnings })
}
