//! The other side of a comparison with Azure: a configuration, read from a file or from the running router, as the values that `erdp config show`
//! prints. Both come as the same text, which has no key in it, so both are compared by the same code. The running router also answers what it
//! advertises and receives, which sessions are up and which MAC addresses its links have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde_json::Value;

use super::{ImportError, answers::mac, view::End};
use crate::config::{Config, LinkRole, PeeringKind, shown};

/// Our side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ours {
    values: BTreeMap<String, Value>,
    circuits: Vec<String>,
    /// What the running router answers; `None`: it was not asked.
    pub live: Option<Live>,
}

/// What the running router answers beside its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// MSEEs by address.
    pub sessions: BTreeMap<IpAddr, Session>,
    /// Our MAC addresses by link, as `contoso primary`.
    pub macs: BTreeMap<String, [u8; 6]>,
}

/// A session with an MSEE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// BGP's state.
    pub state: String,
    /// The MSEE's MAC address, if it is known.
    pub mac: Option<[u8; 6]>,
    /// What the MSEE is advertised.
    pub advertised: BTreeSet<IpNet>,
    /// What it announces.
    pub received: BTreeSet<IpNet>,
}

/// The addresses of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkEnds {
    /// Its subnet.
    pub subnet: IpNet,
    /// Our address.
    pub ours: IpAddr,
    /// The MSEE's.
    pub theirs: IpAddr,
}

impl Ours {
    /// A configuration.
    pub fn of(config: &Config) -> Ours {
        let values = shown::values(config).into_iter().map(|it| (it.path, it.value));
        Ours::collect(values)
    }

    /// The answer of the running router to `erdp config show`.
    ///
    /// # Errors
    /// When it names no circuit, which each configuration has.
    pub fn shown(text: &str) -> Result<Ours, ImportError> {
        let lines = text.lines().filter_map(|line| line.split_once(" = "));
        let ours = Ours::collect(lines.map(|(path, value)| (path.to_owned(), value.to_owned())));
        let question = "erdp config show --defaults";
        if ours.circuits.is_empty() { Err(ImportError::Router { question }) } else { Ok(ours) }
    }

    /// The same, with the running router's answers.
    pub fn with(self, live: Live) -> Ours {
        Ours { live: Some(live), ..self }
    }

    fn collect(pairs: impl Iterator<Item = (String, String)>) -> Ours {
        let mut ours = Ours::default();
        for (path, value) in pairs {
            // `(none)` is no JSON, and a value of another version may be none either.
            let value: Value = serde_json::from_str(&value).unwrap_or_default();
            if let Some(name) = value.as_str().filter(|name| path == format!("circuit.{name}.name")) {
                ours.circuits.push(name.to_owned());
            }
            ours.values.insert(path, value);
        }
        ours
    }

    /// The names of the circuits.
    pub fn circuits(&self) -> &[String] {
        &self.circuits
    }

    /// A value as people write it; `None`: it is not set.
    pub fn text(&self, path: &str) -> Option<String> {
        match self.values.get(path)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// The texts of a list.
    pub fn texts(&self, path: &str) -> Vec<String> {
        let list = self.values.get(path).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)).collect()
    }

    /// Whether a circuit has a peering: one that is not there is one value, and one that is there many.
    pub fn has(&self, circuit: &str, kind: PeeringKind) -> bool {
        self.values.contains_key(&format!("circuit.{circuit}.{}.hold", kind.as_str()))
    }

    /// The addresses of a link, of IPv4 or IPv6.
    pub fn ends(&self, circuit: &str, kind: PeeringKind, role: LinkRole, family: &str) -> Option<LinkEnds> {
        let path = format!("circuit.{circuit}.{}.{family}.{}", kind.as_str(), role.as_str());
        let text = |key: &str| self.text(&format!("{path}.{key}"));
        Some(LinkEnds {
            subnet: text("subnet")?.parse().ok()?,
            ours: text("ours")?.parse().ok()?,
            theirs: text("theirs")?.parse().ok()?,
        })
    }

    /// The addresses of a link, of both families.
    pub fn both_ends(
        &self,
        circuit: &str,
        kind: PeeringKind,
        role: LinkRole,
    ) -> impl Iterator<Item = LinkEnds> {
        ["ipv4", "ipv6"].into_iter().filter_map(move |family| self.ends(circuit, kind, role, family))
    }

    /// The subnets of all links.
    pub fn all_ends(&self) -> Vec<End<'_>> {
        let mut ends = Vec::new();
        for circuit in &self.circuits {
            for kind in PeeringKind::ALL {
                for role in LinkRole::ALL {
                    let subnets = self.both_ends(circuit, kind, role).map(|it| it.subnet);
                    ends.extend(subnets.map(|subnet| End { circuit, kind, role, subnet }));
                }
            }
        }
        ends
    }

    /// The public prefixes in a circuit's inventory, each with its validation state.
    pub fn public_prefixes(&self, circuit: &str) -> BTreeMap<IpNet, Option<String>> {
        let start = format!("circuit.{circuit}.inventory.public-prefixes.");
        let paths = self.values.keys().filter_map(|path| path.strip_prefix(&start)?.strip_suffix(".prefix"));
        let states = paths.filter_map(|prefix| {
            Some((prefix.parse().ok()?, self.text(&format!("{start}{prefix}.validation"))))
        });
        states.collect()
    }
}

impl Live {
    /// The answers of the running router to `erdp show sessions` and `erdp show links`; advertised and received prefixes come later.
    ///
    /// # Errors
    /// When an answer is no list.
    pub fn of(sessions: &Value, links: &Value) -> Result<Live, ImportError> {
        let rows =
            |value: &Value, question| value.as_array().cloned().ok_or(ImportError::Router { question });
        let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
        let mut live = Live::default();
        for row in rows(sessions, "erdp show sessions")? {
            let peer = text(&row, "peer").and_then(|it| it.parse().ok());
            let (Some(peer), Some("msee")) = (peer, row["side"].as_str()) else { continue };
            let session = Session {
                state: text(&row, "state").unwrap_or_default(),
                mac: text(&row, "mac").as_deref().and_then(mac),
                ..Session::default()
            };
            live.sessions.insert(peer, session);
        }
        for row in rows(links, "erdp show links")? {
            if let (Some(link), Some(mac)) = (text(&row, "link"), text(&row, "mac").as_deref().and_then(mac))
            {
                live.macs.insert(link, mac);
            }
        }
        Ok(live)
    }

    /// The prefixes of an answer to `erdp show advertised` or `received`: those with this verdict, or with any.
    ///
    /// # Errors
    /// When it is no list.
    pub fn prefixes(paths: &Value, verdict: Option<&str>) -> Result<BTreeSet<IpNet>, ImportError> {
        let question = if verdict.is_some() { "erdp show advertised" } else { "erdp show received" };
        let rows = paths.as_array().ok_or(ImportError::Router { question })?;
        let meant = rows.iter().filter(|row| verdict.is_none() || row["verdict"].as_str() == verdict);
        Ok(meant.filter_map(|row| row["prefix"].as_str()?.parse().ok()).collect())
    }
}
