//! What an audit judges: the configuration, and the answers of the running router to `erdp show ... --json`.
//!
//! Answers are read leniently: fields that are missing have their defaults and unknown ones are ignored, so that an older or newer router can be
//! audited. What cannot be read at all is an error of the answer, not a finding.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    config::{CeAttachment, Circuit, Config, DomainId, Link, LinkRole, Peering, PeeringKind, Service},
    import::View,
};

/// Everything that is known.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The running router, if it was asked.
    pub live: Option<&'a Live>,
    /// Azure's view, if its answers were given.
    pub azure: Option<&'a View>,
}

/// What the running router answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// `erdp show circuits`.
    pub circuits: Vec<CircuitRow>,
    /// `erdp show sessions`.
    pub sessions: Vec<SessionRow>,
    /// `erdp show links`.
    pub links: Vec<LinkRow>,
    /// `erdp show limits`.
    pub limits: Vec<LimitRow>,
    /// `erdp show routes`.
    pub routes: Vec<RouteRow>,
    /// `erdp show refused`.
    pub refused: Vec<RefusedRow>,
    /// Whether the router runs the configuration that is audited; `None`: it was not asked.
    pub runs_the_file: Option<bool>,
}

/// A circuit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CircuitRow {
    /// Its name.
    pub circuit: String,
    /// Whether Microsoft's SLA holds.
    pub sla_valid: bool,
    /// Why, or why not.
    pub why: String,
}

/// A BGP session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SessionRow {
    /// The peer's address.
    pub peer: String,
    /// `msee`, `ce`, `service` or `box`.
    pub side: String,
    /// BGP's state.
    pub state: String,
    /// `enabled`, or why it is out of service.
    pub admin: String,
    /// BFD's state, if there is BFD.
    pub bfd: Option<String>,
    /// Prefixes received.
    pub received: u64,
    /// Prefixes advertised.
    pub advertised: u64,
    /// Prefixes whose MSEE drains the link (rule B7).
    pub draining: u64,
    /// Prefixes beyond the peer's limit that are refused now.
    pub surplus: u64,
    /// The attachment's name.
    pub attachment: String,
    /// What the router itself finds.
    pub finding: Option<String>,
    /// The rule that the finding is about.
    pub rule: Option<String>,
}

impl SessionRow {
    /// Whether it is established.
    pub fn is_up(&self) -> bool {
        self.state == "Established"
    }

    /// Whether it is meant to be.
    pub fn is_wanted(&self) -> bool {
        ["", "enabled", "returning"].contains(&self.admin.as_str())
    }

    /// Whether the peer is Microsoft's.
    pub fn is_msee(&self) -> bool {
        self.side == "msee"
    }

    /// What the router finds, if it is about this rule; without the rule's number.
    pub fn finding_of(&self, rule: &str) -> Option<&str> {
        let text = self.finding.as_deref().filter(|_| self.rule.as_deref() == Some(rule))?;
        Some(text.trim_end_matches(&format!(" ({rule})")))
    }

    /// `contoso/private` of `contoso/private primary`, on Microsoft's side.
    pub fn domain(&self) -> &str {
        self.attachment.split(' ').next().unwrap_or_default()
    }

    /// The place for a finding.
    pub fn place(&self) -> String {
        format!("{} {}", self.attachment, self.peer)
    }

    /// Whether the peer's address is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.peer.parse::<IpAddr>().is_ok_and(|it| it.is_ipv4())
    }
}

/// A link of a circuit, or an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LinkRow {
    /// Its name.
    pub link: String,
    /// Whether it may carry traffic; `None`: ERDP does not judge attachments.
    pub eligible: Option<bool>,
}

/// How many prefixes Microsoft is advertised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LimitRow {
    /// The peering.
    pub domain: Option<String>,
    /// The address family, which has a limit of its own.
    pub family: String,
    /// Prefixes there are.
    pub wanted: u64,
    /// Prefixes that are held back.
    pub held: u64,
    /// The limit.
    pub limit: u64,
    /// Prefixes there are, in percent of the limit.
    pub percent: u64,
}

impl LimitRow {
    /// The place for a finding.
    pub fn place(&self) -> String {
        format!("{} {}", self.domain.as_deref().unwrap_or_default(), self.family).trim().to_owned()
    }
}

/// A best route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RouteRow {
    /// The peering.
    pub domain: String,
    /// Its destination.
    pub prefix: Option<IpNet>,
    /// The attachments that it leads through.
    pub via: Vec<String>,
    /// Communities, each with its name in brackets.
    pub communities: Vec<String>,
}

/// A route that is refused or held back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RefusedRow {
    /// Who announces it, or whom it is not advertised to.
    pub peer: Option<String>,
    /// Its destination.
    pub prefix: Option<IpNet>,
    /// The rule that refuses it.
    pub rule: Option<String>,
}

/// Reads one answer. A row that is no row of its kind is an error that names the answer.
///
/// # Errors
/// When the answer is no list of rows.
pub fn rows<T: for<'a> Deserialize<'a>>(what: &str, answer: Value) -> Result<Vec<T>, String> {
    serde_json::from_value(answer).map_err(|error| {
        format!(
            "the router's answer to `erdp show {what}` is no list of rows: {error}; is it of this version?"
        )
    })
}

/// Whether an answer to `erdp config diff` names no change: no value that differs, and no session that restarts because a hidden key differs.
pub fn is_unchanged(answer: &Value) -> bool {
    let is_empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    answer["plan"].as_object().is_some_and(|plan| plan.values().all(is_empty))
}

/// A peering of a circuit.
#[derive(Clone, Copy, Debug)]
pub struct PeeringOf<'a> {
    /// The circuit.
    pub circuit: &'a Circuit,
    /// Which peering.
    pub kind: PeeringKind,
    /// Its routing domain.
    pub domain: DomainId,
    /// Its keys.
    pub peering: &'a Peering,
}

impl PeeringOf<'_> {
    /// `contoso/private`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.circuit.name, self.kind.as_str())
    }

    /// Whether an attachment may use it.
    pub fn is_used_by(&self, attachment: &CeAttachment) -> bool {
        attachment.domains.contains(&self.domain)
    }
}

impl<'a> Facts<'a> {
    /// A configuration alone.
    pub fn of(config: &'a Config) -> Facts<'a> {
        Facts { config, live: None, azure: None }
    }

    /// The circuits that carry something (rule A8).
    pub fn circuits(&self) -> impl Iterator<Item = &'a Circuit> + use<'a> {
        self.config.circuits.iter().filter(|circuit| circuit.is_in_use())
    }

    /// Every peering of a circuit that carries something.
    pub fn peerings(&self) -> impl Iterator<Item = PeeringOf<'a>> + use<'a> {
        let config = self.config;
        config.domains().into_iter().filter_map(move |it| {
            let circuit = config.circuits.get(it.circuit).filter(|circuit| circuit.is_in_use())?;
            Some(PeeringOf { circuit, kind: it.kind, domain: it.id, peering: circuit.peering(it.kind)? })
        })
    }

    /// Those of a kind.
    pub fn peerings_of(&self, kind: PeeringKind) -> impl Iterator<Item = PeeringOf<'a>> + use<'a> {
        self.peerings().filter(move |it| it.kind == kind)
    }

    /// The attachments towards the customer.
    pub fn customers(&self) -> impl Iterator<Item = &'a CeAttachment> + use<'a> {
        self.config.attachments.iter().filter(|it| it.service.is_none() && it.other_box.is_none())
    }

    /// The attachments towards services.
    pub fn services(&self) -> impl Iterator<Item = (&'a CeAttachment, &'a Service)> + use<'a> {
        self.config.attachments.iter().filter_map(|it| Some((it, it.service.as_ref()?)))
    }

    /// Whether a circuit of this name carries something, or is none of the configuration's.
    pub fn is_in_use(&self, circuit: &str) -> bool {
        self.config.circuits.iter().find(|it| it.name == circuit).is_none_or(Circuit::is_in_use)
    }

    /// Whether a session's circuit, or one of its attachment's, carries something. If none does, the router keeps the session down (rule A8).
    pub fn has_circuit(&self, session: &SessionRow) -> bool {
        if session.is_msee() {
            return self.is_in_use(session.domain().split('/').next().unwrap_or_default());
        }
        let attachment = self.config.attachments.iter().find(|it| it.name() == session.attachment);
        attachment.is_none_or(|attachment| self.peerings().any(|it| it.is_used_by(attachment)))
    }

    /// What the router runs, or nothing.
    pub fn sessions(&self) -> &'a [SessionRow] {
        match self.live {
            Some(live) => &live.sessions,
            None => &[],
        }
    }

    /// The sessions with MSEEs that are established.
    pub fn msee_sessions(&self) -> impl Iterator<Item = &'a SessionRow> + use<'a> {
        self.sessions().iter().filter(|it| it.is_msee() && it.is_up())
    }

    /// The best routes, with their destinations.
    pub fn routes(&self) -> impl Iterator<Item = (&'a RouteRow, IpNet)> + use<'a> {
        self.live.into_iter().flat_map(|live| &live.routes).filter_map(|row| Some((row, row.prefix?)))
    }
}

/// The boxes on which a circuit's links end, other than this one.
pub fn other_boxes(circuit: &Circuit) -> impl Iterator<Item = &str> {
    LinkRole::ALL.into_iter().filter_map(move |role| match circuit.link(role) {
        Link::Box { name } => Some(name.as_str()),
        Link::Local { .. } => None,
    })
}
