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
    Controller, Outbox,
    exchange::{Applied, Change, Then},
    limits, start,
    unsaved::{Settings, Source},
};
use crate::{
    bgp::{Cease, PeerId},
    config::{Config, ConfigError, Peer, Plan, is_same_peer, session_flaps, shown},
    control::{Configuring, File, roles::Roles},
    dataplane::{Dataplane as _, Record},
    events::Kind,
    fib::AttachmentFacts,
    rib::RibConfig,
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
            Configuring::Show => Ok(Step::Answer(shown::text(&self.config).into())),
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
        Ok(report(&Plan::between(&self.config, &config), &warnings))
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
        if self.inherited.is_some() {
            return Err(
                "erdp is still taking over from the one before: try again in a moment; nothing is changed"
                    .into(),
            );
        }
        self.is_no_drill()?;
        let (config, warnings) = parsed?;
        let plan = Plan::between(&self.config, &config);
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
        let plan = Plan::between(&self.config, &before.config);
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
    pub(super) async fn carry_out(&mut self, Change { config, then }: Change) -> Result<Value, String> {
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
        let before = self.config.clone();
        if let Err(error) = self.reshape(&before, &config) {
            return Err(match self.reshape(&config, &before) {
                Ok(()) => {
                    self.open_enabled(&config);
                    format!("{error}; nothing is changed")
                }
                Err(again) => {
                    format!(
                        "{error}; and going back failed too: {again}: restart erdp to have the file's values"
                    )
                }
            });
        }
        self.attachments = config.attachments();
        self.domains = config.domains();
        self.exchange_peers(&config).await;
        let before = std::mem::replace(&mut self.config, config);
        self.roles.send_replace(Roles { orders: self.config.control_orders.clone() });
        self.open_enabled(&before);
        self.shut_disabled();
        Ok((before, std::mem::take(&mut self.settings)))
    }

    /// The packet path: policers, routing tables, attachments.
    fn reshape(&mut self, running: &Config, config: &Config) -> Result<(), String> {
        let now = self.dataplane.clock();
        for (index, (from, to)) in running.circuits.iter().zip(&config.circuits).enumerate() {
            if from == to {
                continue;
            }
            let records = limits::change(index, from, to, now).map_err(|error| error.to_string())?;
            for record in records {
                self.dataplane.write(&record).map_err(|error| error.to_string())?;
            }
        }
        let topology = self.forwarding.topology();
        let facts: Option<Vec<AttachmentFacts>> = config
            .attachments()
            .iter()
            .map(|attachment| {
                let old = topology.attachment(attachment.id)?;
                let facts = AttachmentFacts {
                    control: old.control.clone(),
                    link_local6: old.link_local6,
                    ..start::attachment_facts(config, attachment, old.ifindex)
                };
                Some(self.ranked(config, facts))
            })
            .collect();
        let facts = facts.ok_or("another set of attachments: restart erdp")?;
        let now_ns = self.now_ns();
        self.forwarding.reshape(facts, now_ns, &mut self.dataplane).map_err(|error| error.to_string())
    }

    /// Sessions end and begin; those that stay keep their identifier, and with it what the peer has announced.
    async fn exchange_peers(&mut self, config: &Config) {
        let wanted = config.peers();
        let mut restarted = Vec::new();
        for index in 0..self.peers.len() {
            let (id, peer) = (PeerId(index as u16), self.peers[index].clone());
            if self.vacant.contains(&id) {
                continue;
            }
            match wanted.iter().find(|other| is_same_peer(&peer, other)) {
                Some(new) => {
                    let new = with_id(new.clone(), id);
                    if session_flaps(&peer, &new) {
                        self.end_session(id, Cease::ConfigurationChange).await;
                        restarted.push(id);
                    }
                    self.peers[index] = new;
                }
                None => {
                    self.end_session(id, Cease::PeerDeconfigured).await;
                    self.admit(&peer, false);
                    self.peerings.forget(id);
                    self.vacant.insert(id);
                }
            }
        }
        for new in wanted {
            let known = (0..).map(PeerId).zip(&self.peers);
            if known.filter(|(id, _)| !self.vacant.contains(id)).any(|(_, peer)| is_same_peer(peer, &new)) {
                continue;
            }
            let id = self.vacant.pop_first().unwrap_or(PeerId(self.peers.len() as u16));
            let new = with_id(new, id);
            self.admit(&new, true);
            match self.peers.get_mut(usize::from(id.0)) {
                Some(place) => *place = new,
                None => {
                    self.peers.push(new);
                    self.outboxes.push(Outbox::default());
                }
            }
            restarted.push(id);
        }
        self.rib.reconfigure(RibConfig::with_peers(config, self.peers.clone(), &self.vacant));
        self.note_link_locals();
        for id in &restarted {
            let session = self.peers[usize::from(id.0)].session.clone();
            if let Some(speaker) = &mut self.speaker {
                speaker.add(session).await;
            }
        }
        self.close_gates(&restarted);
        self.rank_links();
    }

    async fn end_session(&mut self, id: PeerId, cease: Cease) {
        if let Some(speaker) = &mut self.speaker {
            speaker.remove(id, cease, "the operator has changed the configuration").await;
        }
        self.orders.forget(id);
        self.rib.peer_down(id);
        self.outboxes[usize::from(id.0)] = Outbox::default();
    }

    /// Whether a peer may speak to this router at all.
    fn admit(&mut self, peer: &Peer, may: bool) {
        let record = Record::Peer(start::peer_key(peer), may);
        self.log_failure(|it| it.dataplane.write(&record));
    }
}

fn with_id(mut peer: Peer, id: PeerId) -> Peer {
    peer.session.id = id;
    peer
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
