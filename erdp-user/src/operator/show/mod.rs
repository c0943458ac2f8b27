//! `erdp show`: the state of the running router, as an operator reads it.
//!
//! Files: this one (the words of the command, asking, again and again where `--watch` says so), `table` (columns that fit a page, colours),
//! `tables` (each list's columns and what stands below a row that is not good), `peer` (a session's page and its paths), `steps` (the next step for such a row), `values` (JSON as text).
//! What is printed is a function of the daemon's answer alone, so that the pages under `golden/` are tests without a router.

mod peer;
mod steps;
pub(super) mod table;
mod tables;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod values;

use std::{
    io::{IsTerminal as _, stdout},
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::{ValueEnum, builder::PossibleValuesParser};
use erdp::control::{
    DEFAULT_SOCKET, Request, Topic,
    client::Client,
    query::{PathQuery, Place, RouteQuery, Way},
};
use erdp::events::Kind;
use erdp_common::reason::DropReason;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::config::span;
use crate::out;
use table::Look;

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// BGP sessions; with a peer (its address, or an attachment) everything about its session
    #[value(aliases = ["session", "peers"])]
    Sessions,
    /// Everything about a peer's session: `show peer 198.18.0.2`
    Peer,
    /// Best routes of every routing domain: all, of a PREFIX, of the longest one for an ADDRESS, or all within (`198.18.0.0/15 longer`)
    #[value(alias = "route")]
    Routes,
    /// What a PEER has announced, before and after policy, each path with the reason why it is used or not; of a PREFIX or ADDRESS in full
    Received,
    /// What a PEER is advertised, and what it is not, each with the reason; of a PREFIX or ADDRESS in full
    Advertised,
    /// Routes that policy refuses or holds back, each with the rule and the reason
    #[value(alias = "refusals")]
    Refused,
    /// Prefixes advertised to Microsoft, and how many it accepts
    #[value(alias = "limit")]
    Limits,
    /// Interfaces of circuits and attachments: carrier, eligibility, XDP mode, SLA validity
    #[value(alias = "link")]
    Links,
    /// Circuits: whether both links carry traffic, SLA validity, and why not
    #[value(alias = "circuit")]
    Circuits,
    /// BFD sessions, their timers and the state of their next hops
    Bfd,
    /// The packet path's counters
    #[value(alias = "counter")]
    Counters,
    /// What each circuit's policers have passed and dropped, by class
    #[value(alias = "policer")]
    Policers,
    /// The last dropped frames that were sampled, each with its reason
    #[value(alias = "drop")]
    Drops,
    /// What has changed, when and why: sessions, links, eligibility, configuration, operators' orders
    #[value(alias = "event")]
    Events,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table of 100 columns
    Table,
    /// A table with all columns, however long the lines
    Wide,
    /// JSON
    Json,
}

/// What `erdp show` takes.
#[derive(clap::Args)]
pub struct ShowArguments {
    /// What to show
    topic: What,
    /// Which of it: a prefix, an address (and `longer`), a peer, or the name of a circuit, link or interface
    #[arg(value_name = "WHICH", num_args = 0..=3)]
    which: Vec<String>,
    /// Show only routes with a path of this peer: its address, or its attachment's name (with `show routes`)
    #[arg(long)]
    peer: Option<String>,
    /// Show only routes of this routing domain (contoso/private), or of all of a circuit's (with `show routes`)
    #[arg(long)]
    domain: Option<String>,
    /// Show only routes with this community: two numbers, or its name (with `show routes`)
    #[arg(long)]
    community: Option<String>,
    /// Show only events of this long ago or later (90s, 15m, 2h, 3d), or since a moment (2026-01-31T12:00:00Z) (with `show events`)
    #[arg(long, value_parser = since)]
    since: Option<Timestamp>,
    /// Show only events of this kind (with `show events`)
    #[arg(long, value_parser = PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.as_str())))]
    kind: Option<String>,
    /// Show only frames dropped for this reason (with `show drops`)
    #[arg(long, value_parser = PossibleValuesParser::new(DropReason::ALL.iter().map(|reason| reason.label())))]
    reason: Option<String>,
    /// Show routes that are refused or not advertised, each with the reason (with `show routes`); the same as `show refused`
    #[arg(long)]
    refused: bool,
    /// How to write it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// Show it again every so many seconds, until the command is ended
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
    /// Control socket of the running router
    #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
    control: PathBuf,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl ShowArguments {
    /// Why these words do not belong together, or one of them is none.
    pub fn conflict(&self) -> Option<String> {
        let words = self.conflict_of_options().map(str::to_owned);
        words.or_else(|| self.request().err().map(|error| error.to_string()))
    }

    fn conflict_of_options(&self) -> Option<&'static str> {
        let has_filter = self.peer.is_some() || self.domain.is_some() || self.community.is_some();
        match self.topic {
            topic if self.reason.is_some() && topic != What::Drops => {
                Some("--reason belongs to `erdp show drops`: leave it out")
            }
            topic if self.refused && topic != What::Routes => {
                Some("--refused belongs to `erdp show routes`: leave it out")
            }
            topic if has_filter && topic != What::Routes => {
                Some("--peer, --domain and --community belong to `erdp show routes`: leave them out")
            }
            topic if (self.since.is_some() || self.kind.is_some()) && topic != What::Events => {
                Some("--since and --kind belong to `erdp show events`: leave them out")
            }
            What::Routes if self.refused && (has_filter || !self.which.is_empty()) => Some(
                "`erdp show refused` has no filter: leave it out, or ask `erdp show received PEER PREFIX`",
            ),
            What::Received | What::Advertised if self.which.is_empty() => {
                Some("a peer is missing: write `erdp show received PEER`, as `erdp show sessions` names it")
            }
            What::Refused | What::Counters | What::Drops | What::Events if !self.which.is_empty() => {
                Some("this list is shown as a whole: leave the name out")
            }
            _ => None,
        }
    }

    fn request(&self) -> Result<Request> {
        let topic = match self.topic {
            What::Sessions | What::Peer => match self.which.as_slice() {
                [] => Topic::Sessions,
                words => return Ok(Request::Peer { name: words.join(" ") }),
            },
            What::Routes if self.refused => Topic::Refused,
            What::Routes => {
                let query = RouteQuery {
                    place: place(&self.which)?,
                    peer: self.peer.clone(),
                    domain: self.domain.clone(),
                    community: self.community.clone(),
                };
                if query != RouteQuery::default() {
                    return Ok(Request::Routes(query));
                }
                Topic::Routes
            }
            What::Received | What::Advertised => {
                let way = if self.topic == What::Received { Way::Received } else { Way::Advertised };
                let (peer, rest) = self
                    .which
                    .split_first()
                    .map_or((String::new(), &[][..]), |(it, rest)| (it.clone(), rest));
                return Ok(Request::Paths(PathQuery { peer, way, place: place(rest)? }));
            }
            What::Refused => Topic::Refused,
            What::Limits => Topic::Limits,
            What::Links => Topic::Links,
            What::Circuits => Topic::Circuits,
            What::Bfd => Topic::Bfd,
            What::Counters => Topic::Counters,
            What::Policers => Topic::Policers,
            What::Drops => Topic::Drops,
            What::Events => Topic::Events,
        };
        Ok(Request::Show(topic))
    }

    fn look(&self) -> Look {
        Look { wide: self.output == Format::Wide, colours: has_colours() }
    }

    fn is_json(&self) -> bool {
        self.json || self.output == Format::Json
    }

    /// What the daemon has answered, without what is filtered here.
    fn filtered(&self, mut value: Value) -> Result<Value> {
        let Some(rows) = value.as_array_mut() else { return Ok(value) };
        if let Some(reason) = &self.reason {
            rows.retain(|row| row["reason"] == *reason);
        }
        if let Some(kind) = &self.kind {
            rows.retain(|row| row["kind"] == *kind);
        }
        if let Some(since) = self.since {
            rows.retain(|row| row["at_ms"].as_i64().is_some_and(|at_ms| at_ms >= since.as_millisecond()));
        }
        if matches!(self.topic, What::Links | What::Circuits | What::Bfd | What::Limits | What::Policers)
            && let Some(name) = self.which.first()
        {
            let name = self.which.iter().skip(1).fold(name.clone(), |name, word| name + " " + word);
            let mut all: Vec<String> =
                rows.iter().filter_map(|row| values::names(row).next()).map(str::to_owned).collect();
            all.dedup();
            rows.retain(|row| values::is_called(row, &name));
            if rows.is_empty() {
                bail!("nothing is called {name:?}; there are: {}", all.join(", "));
            }
        }
        Ok(value)
    }

    /// What is shown of an answer.
    fn page(&self, value: &Value, look: Look) -> String {
        let has_place = self.which.len() > 1;
        match self.topic {
            What::Sessions | What::Peer if !self.which.is_empty() => peer::pages(value, look),
            What::Received | What::Advertised => peer::paths(value, has_place, look),
            What::Routes if self.refused => tables::refused(value, look),
            topic => list(topic, value, look),
        }
    }
}

/// A prefix or an address, and `longer` for all within it.
fn place(words: &[String]) -> Result<Option<Place>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (text, longer) = match words.as_slice() {
        [] => return Ok(None),
        [text] => (*text, false),
        [text, "longer" | "longer-prefixes" | "within"] => (*text, true),
        _ => bail!(
            "not understood: {:?}; write a prefix or an address, and `longer` for all within it",
            words.join(" ")
        ),
    };
    Place::parse(text, longer).map(Some).map_err(anyhow::Error::msg)
}

/// Whether standard output shows colours: on a terminal, unless its user wants none (no-color.org).
pub fn has_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|it| it == "dumb");
    stdout().is_terminal() && !unwanted && !is_dumb
}

/// Shows it, once or again and again.
pub fn run(arguments: &ShowArguments) -> Result<()> {
    once(arguments)?;
    while let Some(seconds) = arguments.watch.filter(|_| !out::is_closed()) {
        thread::sleep(Duration::from_secs(seconds));
        // The daemon may be restarting.
        if let Err(error) = once(arguments) {
            eprintln!("error: {error:#}; asking again in {seconds} s");
        }
    }
    Ok(())
}

fn once(arguments: &ShowArguments) -> Result<()> {
    let value = Client::connect(&arguments.control)?.ask(&arguments.request()?)?;
    let value = arguments.filtered(value)?;
    if arguments.is_json() {
        println!("{value}");
        return Ok(());
    }
    let text = arguments.page(&value, arguments.look());
    // Each page takes the place of the one before: home, and what is below it erased (ECMA-48 sections 8.3.21 and 8.3.39).
    let before = match arguments.watch {
        Some(_) if stdout().is_terminal() => "\x1b[H\x1b[2J",
        _ => "",
    };
    print!("{before}{text}");
    Ok(())
}

/// A list as a table.
fn list(topic: What, value: &Value, look: Look) -> String {
    match topic {
        What::Sessions | What::Peer => tables::sessions(value, look),
        What::Routes => tables::routes(value, look),
        What::Received | What::Advertised => peer::paths(value, false, look),
        What::Refused => tables::refused(value, look),
        What::Limits => tables::limits(value, look),
        What::Links => tables::links(value, look),
        What::Circuits => tables::circuits(value, look),
        What::Bfd => tables::bfd(value, look),
        What::Counters => tables::counters(value, look),
        What::Policers => tables::policers(value, look),
        What::Drops => tables::drops(value, look),
        What::Events => tables::events(value, look),
    }
}

/// How long ago, or a moment.
fn since(text: &str) -> Result<Timestamp> {
    if let Some(ago) = span(text).and_then(|seconds| i64::try_from(seconds).ok()) {
        return Ok(Timestamp::now().checked_sub(SignedDuration::from_secs(ago))?);
    }
    text.parse().map_err(|_| {
        anyhow::anyhow!("{text:?} is no time: write it like 15m, 2h, 3d or 2026-01-31T12:00:00Z")
    })
}
