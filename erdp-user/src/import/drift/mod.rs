//! Azure's view against ours, field by field: what differs is a [`Drift`], what cannot be compared or is only worth knowing is a note.
//!
//! Files: here the report, and which circuit of Azure's is which of ours; [`circuit`]: circuits and peerings, which a configuration has; [`tables`]:
//! routes, neighbours and ARP entries, of which a configuration says whose they should be and the running router says the rest.
//!
//! A value that Azure's answer lacks is noted; an inventory key that is not written down is no drift, as it is no error elsewhere. What must never
//! happen: one difference that is reported twice, because whoever counts the lines counts what is to be mended.

mod circuit;
mod tables;

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    ours::Ours,
    propose::plain,
    view::{CircuitView, View},
};
use crate::config::{LinkRole, PeeringKind};

/// Version of the JSON: fields are added and never change their meaning.
const VERSION: u32 = 1;

/// A field that Azure has otherwise than we do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Circuit, peering or link: `contoso/private primary`.
    pub place: String,
    /// What differs.
    pub field: String,
    /// What Azure has.
    pub azure: String,
    /// What is here.
    pub here: String,
}

/// A comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of the JSON.
    pub version: u32,
    /// What differs, in the order of circuits.
    pub drift: Vec<Drift>,
    /// What was not compared, and what is worth knowing.
    pub notes: Vec<String>,
}

/// A value that is not there.
const NONE: &str = "(none)";

impl Report {
    /// For people: a difference a line, then the notes, then the count.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for it in &self.drift {
            let _ = writeln!(text, "{}: {}: Azure {}, here {}", it.place, it.field, it.azure, it.here);
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let _ = match self.drift.len() {
            0 => writeln!(text, "no drift"),
            1 => writeln!(text, "1 difference"),
            count => writeln!(text, "{count} differences"),
        };
        text
    }

    /// For programs.
    pub fn json(&self) -> String {
        // A struct of texts and numbers always has a JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// What is both and not the same, is a difference.
    fn compare(&mut self, place: &str, field: &str, azure: Option<String>, here: Option<String>) {
        if azure != here {
            let text = |it: Option<String>| it.unwrap_or_else(|| NONE.to_owned());
            self.add(place, field, text(azure), text(here));
        }
    }

    fn add(&mut self, place: &str, field: &str, azure: impl Into<String>, here: impl Into<String>) {
        let (place, field) = (place.to_owned(), field.to_owned());
        self.drift.push(Drift { place, field, azure: azure.into(), here: here.into() });
    }

    fn note(&mut self, place: &str, text: impl AsRef<str>) {
        self.notes.push(format!("{place}: {}", text.as_ref()));
    }
}

/// Compares.
pub fn compare(view: &View, ours: &Ours) -> Report {
    let mut report = Report { version: VERSION, drift: Vec::new(), notes: view.others.notes.clone() };
    let mut matched = Vec::new();
    for it in &view.circuits {
        match circuit_of(it, ours) {
            Some(name) => {
                circuit::compare(view, it, name, ours, &mut report);
                matched.push((it.name.as_str(), name));
            }
            None => report.add(&it.name, "circuit", "there", NONE),
        }
    }
    for name in ours.circuits().iter().filter(|_| !view.circuits.is_empty()) {
        if !matched.iter().any(|(_, here)| here == name) {
            report.note(name, "no file is about this circuit");
        }
    }
    tables::compare(view, &matched, ours, &mut report);
    for it in &view.others.resiliency {
        let titles = it.recommendations.join("; ");
        let more = if titles.is_empty() { String::new() } else { format!("; Azure recommends: {titles}") };
        report.note("gateway", format!("Azure's index of its resiliency is {} of 100{more}", it.score));
    }
    report
}

/// Which circuit of ours is this one of Azure's: by its name, its service key, or a subnet.
fn circuit_of<'a>(it: &CircuitView, ours: &'a Ours) -> Option<&'a str> {
    let circuits = ours.circuits();
    let find = |is_it: &dyn Fn(&str) -> bool| circuits.iter().map(String::as_str).find(|name| is_it(name));
    let name = plain(&it.name).unwrap_or_default();
    let key = it.circuit.as_ref().and_then(|it| it.service_key.as_ref()).map(ToString::to_string);
    let key_of = |name: &str| ours.text(&format!("circuit.{name}.inventory.service-key"));
    let has_subnet = |name: &str| {
        it.peerings.iter().any(|peering| {
            peering.subnets().any(|(role, subnet)| {
                ours.both_ends(name, peering.kind, role).any(|ends| ends.subnet == subnet)
            })
        })
    };
    find(&|here| here.eq_ignore_ascii_case(&name))
        .or_else(|| find(&|here| key.is_some() && key_of(here) == key))
        .or_else(|| find(&has_subnet))
}

/// `contoso/private`.
fn peering_place(circuit: &str, kind: PeeringKind) -> String {
    format!("{circuit}/{}", kind.as_str())
}

/// `contoso/private primary`.
fn link_place(circuit: &str, kind: PeeringKind, role: LinkRole) -> String {
    format!("{circuit}/{} {}", kind.as_str(), role.as_str())
}

/// Microsoft's AS, or a provider's whose router is between ours and the MSEEs; then Azure's subnets, tags and routes are the provider's.
fn is_behind_a_provider(circuit: &str, kind: PeeringKind, ours: &Ours) -> bool {
    let peer = ours.text(&format!("circuit.{circuit}.{}.peer-asn", kind.as_str()));
    peer.is_some_and(|asn| asn != crate::config::MICROSOFT_ASN.0.to_string())
}
