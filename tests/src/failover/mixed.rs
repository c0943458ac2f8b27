//! An edge in this lab with FRR at its primary link and BIRD at its secondary, up and whole: for tests of what an operator does to links.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    LINKS, Place,
    peers::{self, Timers},
    probe::Probe,
    sessions, until,
};
use crate::{
    edge::{Edge, state_folder},
    lab::process::Process,
};

/// Slow enough for a machine that builds beside it.
pub const TIMERS: Timers = Timers { interval_ms: 100, multiplier: 5 };
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The edge and its routers.
pub struct Stand {
    /// Drills that may still run; they end before the edge does.
    pub drills: Vec<Process>,
    /// The daemon.
    pub edge: Edge,
    /// Everything else.
    pub place: Place,
}

impl Stand {
    /// FRR is the primary MSEE, BIRD the secondary; `edit` changes the configuration.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn up(edit: impl Fn(String) -> String) -> Result<Stand> {
        let mut place = Place::up(false)?;
        let prefixes = peers::prefixes(8);
        peers::start_frr(&mut place, &LINKS[0], TIMERS, &prefixes)?;
        peers::start_bird(&mut place, &LINKS[1], TIMERS, &prefixes)?;
        let configuration = edit(peers::erdp(TIMERS, 30, ""));
        let edge = Edge::start_keeping(place.namespace("edge")?, place.folder(), &configuration)?;
        let mut stand = Stand { drills: Vec::new(), edge, place };
        stand.until("both links carry traffic", Stand::is_whole)?;
        Ok(stand)
    }

    /// Waits until `done`, asking again and again; how long it took.
    ///
    /// # Errors
    /// That it was in vain, with what the routers say.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<Duration> {
        let took = until(what, PATIENCE, || {
            self.edge.must_run()?;
            done(self)
        })
        .with_context(|| self.state())?;
        println!("  {what}: after {:.2} s", took.as_secs_f32());
        Ok(took)
    }

    /// Another process takes over, and is the edge from then on.
    ///
    /// # Errors
    /// When it does not.
    pub fn take_over(&mut self) -> Result<()> {
        let folder = self.place.folder();
        let state = state_folder(folder);
        let words = ["--state", &state.to_string_lossy()];
        let next = self.edge.successor(self.place.namespace("edge")?, folder, &words)?;
        let mut before = std::mem::replace(&mut self.edge, next);
        let ended = before.process().wait(PATIENCE)?;
        ensure!(ended.success(), "the old process ended with {ended}:\n{}", before.process().tail(20));
        self.until("the next controller answers", |it| Ok(it.edge.answers())).map(drop)
    }

    /// The controller is killed.
    ///
    /// # Errors
    /// When it does not die.
    pub fn kill(&mut self) -> Result<()> {
        self.edge.process().signal(Signal::SIGKILL)?;
        self.edge.process().wait(PATIENCE).map(drop)
    }

    /// After [`Self::kill`]: the next one.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        let configuration = fs::read_to_string(self.place.folder().join("edge.toml"))?;
        self.edge = Edge::start_keeping(self.place.namespace("edge")?, self.place.folder(), &configuration)?;
        self.until("the next controller answers", |it| Ok(it.edge.answers())).map(drop)
    }

    fn state(&mut self) -> String {
        let tables = ["sessions", "circuits", "bfd", "counters"].map(|topic| self.edge.table(topic));
        let frr = peers::vtysh(&self.place, "msee1", "show bgp summary");
        let log = Ok(self.edge.process().tail(40));
        let texts = tables.into_iter().chain([frr, log]);
        texts.map(|text| text.unwrap_or_else(|error| format!("{error:#}"))).collect::<Vec<_>>().join("\n")
    }

    /// The circuit's row of `erdp show circuits`.
    ///
    /// # Errors
    /// Erdp's own message.
    pub fn circuit(&self) -> Result<Value> {
        let rows: Vec<Value> = serde_json::from_str(&self.edge.show("circuits")?)?;
        rows.into_iter().next().context("no circuit")
    }

    /// Every session of both links carries traffic and nothing is out of use.
    ///
    /// # Errors
    /// Erdp's own message.
    pub fn is_whole(&mut self) -> Result<bool> {
        let Ok(circuit) = self.circuit() else { return Ok(false) };
        let none = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        let bfd = sessions(&self.edge)?;
        Ok(circuit["links"] == "both"
            && none(&circuit["primary"])
            && none(&circuit["secondary"])
            && circuit["drill"].is_null()
            && bfd.len() == 4
            && bfd.iter().all(|it| it.state == "Up" && it.next_hop == "alive")
            && self.admins()?.iter().all(|(_, admin)| admin == "enabled"))
    }

    /// Each peer with its administrative state.
    ///
    /// # Errors
    /// Erdp's own message.
    pub fn admins(&self) -> Result<Vec<(String, String)>> {
        let rows: Vec<Value> = serde_json::from_str(&self.edge.show("peers")?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(rows.iter().map(|row| (text(&row["peer"]), text(&row["admin"]))).collect())
    }

    /// A command must be refused with these words.
    ///
    /// # Errors
    /// When it is not refused, or not with these words.
    pub fn refused(&self, words: &[&str], expected: &[&str]) -> Result<()> {
        let said = self.edge.ask(words).err().map(|error| format!("{error:#}")).unwrap_or_default();
        println!("  {said}");
        for word in expected {
            ensure!(said.contains(word), "{words:?} is not refused with {word:?}: {said:?}");
        }
        Ok(())
    }

    /// The source port of a flow that takes a link, 0 being the primary.
    ///
    /// # Errors
    /// When there is none.
    pub fn flow_by(&self, link: usize) -> Result<u16> {
        for port in 20_000..20_064 {
            let probe = Probe::start(&self.place, port)?;
            thread::sleep(Duration::from_millis(20));
            if probe.stop()?.at[link] > 0 {
                return Ok(port);
            }
        }
        bail!("no flow takes link {link}")
    }

    /// A drill in a process of its own, as an operator's terminal has it.
    ///
    /// # Errors
    /// When it does not begin.
    pub fn start_drill(&mut self, words: &[&str]) -> Result<PathBuf> {
        let name = format!("drill{}", self.drills.len());
        let command = self.edge.command(&[&["drill", "--json"], words].concat());
        let drill = Process::start(&name, command, self.place.folder())?;
        let log = drill.log().to_owned();
        self.drills.push(drill);
        self.until("the drill's link fails", |it| {
            let drill = it.circuit()?["drill"].to_string();
            Ok(drill.contains("fails for"))
        })?;
        Ok(log)
    }

    /// Waits for the last drill's end: whether it went well, and its report.
    ///
    /// # Errors
    /// When it does not end, or prints no report.
    pub fn end_of_drill(&mut self) -> Result<(bool, Value)> {
        let mut drill = self.drills.pop().context("no drill")?;
        let status = drill.wait(PATIENCE)?;
        let printed = fs::read_to_string(drill.log())?;
        let line = printed.lines().last().unwrap_or_default();
        let answer = serde_json::from_str(line).with_context(|| printed.clone())?;
        Ok((status.success(), answer))
    }
}
