//! The operator's way in: requests over a Unix socket, one JSON object a line, answered by the controller's owner task.
//!
//! [`place`] is the socket as a file. [`server`] accepts connections: [`places`] says who may have one, [`roles`] who may ask and who may order, [`audit`] what is logged of
//! it. It passes each request on ([`asked`]) with a place for its answer; [`lists`] are answers of any length, [`query`] says which rows of one are meant. [`explained`] is what
//! `erdp ask` sends and gets. [`client`] is what `erdp show`, `erdp ask` and `erdp set` use, over a connection by [`connect`].
//!
//! # What must never happen
//! Somebody waits for ever, or keeps others waiting. Connections, requests and answers are bounded in number, size and time: a client that
//! sends more than [`REQUEST_MAX`] bytes without a line end is told so and cut off; one that asks nothing, or reads nothing, is cut off; and an order
//! of a client that has gone is not carried out.

pub mod asked;
pub mod audit;
pub mod client;
pub mod connect;
pub mod explained;
pub mod lists;
pub mod place;
pub mod places;
pub mod query;
mod range;
pub mod roles;
pub mod search;
pub mod server;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::explained::{Explanation, Question};
use crate::config::CircuitChange;

/// Longest request in bytes.
pub const REQUEST_MAX: u64 = 1 << 20;
/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/erdp/control.sock";
/// Version of the requests and answers: raised when an older client or daemon would misunderstand.
pub const PROTOCOL: u32 = 1;

/// A request as it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// [`PROTOCOL`] of who asks.
    pub protocol: u32,
    /// What is asked.
    pub request: T,
}

/// What an operator may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A table of facts.
    Show(Topic),
    /// Of the table of routes, those that are meant.
    Routes(query::RouteQuery),
    /// What a peer has announced, or is advertised, and what became of each path.
    Paths(query::PathQuery),
    /// Everything about a session.
    Peer {
        /// The peer's address, or its attachment's name.
        name: String,
    },
    /// Everything that is measured, as OpenMetrics text.
    Metrics,
    /// What hinders the circuits from carrying traffic, one line each; empty: nothing.
    Ready,
    /// What the loaded program does with packets to these destinations, or with these frames.
    Explain(Question),
    /// A change beside the configuration's file.
    Set(Setting),
    /// Another process asks for everything: see [`crate::controller::hand_over`]. For root and the daemon's own user.
    HandOver {
        /// Of the conversation.
        version: u32,
        /// What the other process would run with; none from one that does not tell.
        #[serde(default)]
        file: Option<File>,
    },
    /// About the configuration as a whole.
    Config(Configuring),
    /// Start the installed program as this one's successor; the answer is its process id. See [`crate::controller::successor`].
    Restart,
    /// A peering is taken down or given free.
    Peering(Peering),
    /// About a drill.
    Drill(Drilling),
    /// What a circuit carries now, for what would be if a link failed.
    Load {
        /// The link.
        link: String,
    },
}

impl Request {
    /// Whether it changes something, or keeps something going; all others only ask.
    pub fn is_order(&self) -> bool {
        match self {
            Self::Show(_) | Self::Metrics | Self::Ready | Self::Explain(_) | Self::Load { .. } => false,
            Self::Routes(_) | Self::Paths(_) | Self::Peer { .. } => false,
            Self::Config(Configuring::Show | Configuring::Diff(_)) => false,
            Self::Config(Configuring::Apply { .. } | Configuring::Confirm | Configuring::Rollback) => true,
            // Asking about a drill keeps it going.
            Self::Drill(_) => true,
            Self::Set(_) | Self::HandOver { .. } | Self::Restart | Self::Peering(_) => true,
        }
    }

    /// Whether its answer depends on all prefixes that some sessions bring.
    pub fn is_judged_by_routes(&self) -> bool {
        match self {
            Self::Peering(Peering::Disable { force, .. } | Peering::Reset { force, .. })
            | Self::Drill(Drilling::Begin { force, .. }) => !force,
            Self::Load { .. } => true,
            _ => false,
        }
    }

    /// Whether another configuration takes the place of the running one.
    pub fn exchanges_configuration(&self) -> bool {
        matches!(self, Self::Config(Configuring::Apply { .. } | Configuring::Rollback))
    }

    /// What it is, for the log: without the text of a configuration.
    pub fn summary(&self) -> String {
        match self {
            Self::Show(topic) => format!("show {topic:?}").to_lowercase(),
            Self::Routes(query) => query::short(&format!("show routes {query:?}")),
            Self::Paths(query) => query::short(&format!("show paths {query:?}")),
            Self::Peer { name } => query::short(&format!("show peer {name:?}")),
            Self::Metrics => "metrics".into(),
            Self::Ready => "ready".into(),
            Self::Explain(question) if question.frames.is_empty() => {
                format!("explain {} destinations", question.to.len())
            }
            Self::Explain(question) => format!("explain {} frames", question.frames.len()),
            Self::Load { link } => format!("load of {link:?}"),
            Self::Set(Setting::Circuit { name, change, force }) => {
                format!("set circuit {name:?} {change:?}, force {force}")
            }
            Self::HandOver { version, .. } => format!("hand over, version {version}"),
            Self::Config(Configuring::Show) => "config show".into(),
            Self::Config(Configuring::Diff(file)) => format!("config diff {:?}", file.path),
            Self::Config(Configuring::Apply { file, confirm_s, no_flap, force }) => format!(
                "config apply {:?}, confirm {confirm_s:?} s, no-flap {no_flap}, force {force}",
                file.path
            ),
            Self::Config(Configuring::Confirm) => "config confirm".into(),
            Self::Config(Configuring::Rollback) => "config rollback".into(),
            Self::Restart => "restart".into(),
            Self::Peering(asked) => format!("peering {asked:?}"),
            Self::Drill(asked) => format!("drill {asked:?}"),
        }
    }

    /// What kind of question it is: those of one kind and user are logged now and then.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Show(_) | Self::Routes(_) | Self::Paths(_) | Self::Peer { .. } => "show",
            Self::Metrics => "metrics",
            Self::Ready => "ready",
            Self::Explain(_) => "explain",
            Self::Load { .. } => "load",
            Self::Set(_) => "set",
            Self::HandOver { .. } => "hand-over",
            Self::Config(_) => "config",
            Self::Restart => "restart",
            Self::Peering(_) => "peering",
            Self::Drill(_) => "drill",
        }
    }
}

/// What is done to a peering: all sessions of a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peering {
    /// Taken down.
    Disable {
        /// A circuit, a link or a peering of it, an attachment, or a peer's address.
        name: String,
        /// Told to the peers' operators (RFC 9003).
        text: String,
        /// How long it is drained before.
        drain_ms: u64,
        /// Even if nothing else is left.
        force: bool,
    },
    /// Its sessions end and come back by themselves.
    Reset {
        /// As for [`Self::Disable`].
        name: String,
        /// Told to the peers' operators (RFC 9003).
        text: String,
        /// Even if both links of a circuit are away at once, or nothing else is left.
        force: bool,
    },
    /// Given free.
    Enable {
        /// As for [`Self::Disable`].
        name: String,
    },
}

/// What is asked about a drill.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drilling {
    /// A link, a peering or a circuit is to fail.
    Begin {
        /// Which.
        link: String,
        /// For so many seconds.
        seconds: u64,
        /// Even if something would have no other way.
        force: bool,
    },
    /// How it goes, or what came of the last one. Asking keeps it going.
    Watch,
    /// It is to end.
    Stop,
}

/// What is asked about the configuration as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Configuring {
    /// The running one, every default filled in.
    Show,
    /// What it would mean to take this one instead.
    Diff(File),
    /// Take this one.
    Apply {
        /// The configuration.
        file: File,
        /// Go back by itself after so many seconds unless it is confirmed.
        confirm_s: Option<u64>,
        /// Refuse if a session would end.
        no_flap: bool,
        /// Even if a circuit would have less bandwidth.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// Keep what was applied.
    Confirm,
    /// Go back to what ran before.
    Rollback,
}

/// A configuration's text and where it stands; keys in files of their own are read by the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// For messages, and where relative names begin.
    pub path: PathBuf,
    /// The text.
    pub text: String,
}

/// What can be changed while the router runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// What a circuit is limited to.
    Circuit {
        /// Its name.
        name: String,
        /// The values, as the file has them.
        change: CircuitChange,
        /// Even if it would have less bandwidth.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
}

/// Tables that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// BGP sessions.
    Sessions,
    /// Best routes of every routing domain.
    Routes,
    /// Routes that policy refuses or holds back, each with the rule and the reason.
    Refused,
    /// Prefixes advertised to Microsoft, and how many it accepts.
    Limits,
    /// Interfaces of circuits and attachments: carrier, eligibility, XDP mode, SLA validity.
    Links,
    /// Circuits: whether both links carry traffic, SLA validity, and why not.
    Circuits,
    /// BFD sessions, their timers and the state of their next hops.
    Bfd,
    /// The packet path's counters.
    Counters,
    /// What each circuit's policers have passed and dropped, by class, in IP bytes.
    Policers,
    /// The last dropped frames that were sampled, each with its reason.
    Drops,
    /// What has changed, when and why.
    Events,
}

/// The daemon's answer: a value, or a sentence that names the object, the reason and the remedy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not.
    Error(String),
}
