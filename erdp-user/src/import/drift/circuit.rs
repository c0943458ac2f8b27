//! Circuits and peerings: what was bought and set up, which a configuration has.

use ipnet::IpNet;

use super::{
    super::{
        answers::{Circuit, Peering},
        ours::Ours,
        propose::{billing, kind_of, provisioning},
        view::{CircuitView, View},
    },
    NONE, Report, is_behind_a_provider, peering_place,
};
use crate::config::{LinkRole, PeeringKind, Sku, Validation};

/// A circuit of Azure's and the one of ours.
pub(super) fn compare(view: &View, it: &CircuitView, name: &str, ours: &Ours, report: &mut Report) {
    if let Some(circuit) = &it.circuit {
        bought(view, circuit, name, ours, report);
    }
    for kind in PeeringKind::ALL {
        // A list of peerings has all of them, and so has a circuit.
        match (it.peering(kind), ours.has(name, kind)) {
            (Some(peering), true) => peerings(peering, name, ours, report),
            (Some(_), false) => report.add(&peering_place(name, kind), "peering", "there", NONE),
            (None, true) => {
                let state = if it.peerings.iter().any(|it| it.kind == kind) { "disabled" } else { NONE };
                report.add(&peering_place(name, kind), "peering", state, "there");
            }
            (None, false) => {}
        }
    }
}

/// What was bought.
fn bought(view: &View, circuit: &Circuit, name: &str, ours: &Ours, report: &mut Report) {
    for missing in &circuit.missing {
        report.note(name, format!("Azure's answer has no {missing}, so it is not compared"));
    }
    let here = |key: &str| ours.text(&format!("circuit.{name}.{key}"));
    let required = [
        ("bandwidth", circuit.bandwidth.map(|it| it.to_string()), here("bandwidth")),
        ("sku", circuit.sku.map(|it| Sku::as_str(it).to_owned()), here("sku")),
        (
            "admin",
            circuit.enabled.map(|enabled| admin(enabled).to_owned()),
            here("enabled").map(|it| admin(it == "true").to_owned()),
        ),
        ("provisioning", circuit.provisioning.map(|it| provisioning(it).to_owned()), here("provisioning")),
    ];
    for (field, azure, here) in required {
        // What Azure's answer does not have is noted above.
        if azure.is_some() {
            report.compare(name, field, azure, here);
        }
    }
    let location = circuit.location.clone().or_else(|| view.port(circuit.port.as_ref()?)?.location.clone());
    let written = [
        ("kind", kind_of(view, circuit).map(|it| it.as_str().to_owned()), here("kind")),
        ("billing", circuit.billing.map(|it| billing(it).to_owned()), here("inventory.billing")),
        ("port", circuit.port.clone(), here("inventory.port")),
        ("service-key", circuit.service_key.as_ref().map(ToString::to_string), here("inventory.service-key")),
    ];
    for (field, azure, here) in written {
        // An inventory has what its operator has written down.
        if azure.is_some() && here.is_some() {
            report.compare(name, field, azure, here);
        }
    }
    let locations = ours.texts(&format!("circuit.{name}.inventory.locations"));
    if let (Some(location), [here]) = (location, locations.as_slice())
        && !here.eq_ignore_ascii_case(&location)
    {
        report.add(name, "location", location, here);
    }
    outer_tag(view, circuit, name, here("s-vlan"), report);
}

fn admin(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

/// On a Direct port it is known whether frames have two tags; what a provider hands over, Azure does not know.
fn outer_tag(view: &View, circuit: &Circuit, name: &str, here: Option<String>, report: &mut Report) {
    let port = circuit.port.as_ref().and_then(|port| view.port(port));
    match (port.and_then(|it| it.is_qinq), circuit.s_tag) {
        (Some(true), Some(tag)) => report.compare(name, "s-vlan", Some(tag.to_string()), here),
        (Some(true), None) => report.note(name, "Azure's answer has no stag, so it is not compared"),
        (Some(false), _) => report.compare(name, "s-vlan", None, here),
        (None, _) => {}
    }
}

/// A peering that both have.
fn peerings(it: &Peering, name: &str, ours: &Ours, report: &mut Report) {
    let place = peering_place(name, it.kind);
    for missing in &it.missing {
        report.note(&place, format!("Azure's answer has no {missing}, so it is not compared"));
    }
    if is_behind_a_provider(name, it.kind, ours) {
        report.note(
            &place,
            "a provider's router is between this one and the MSEEs, so AS numbers, tags, subnets and tables are not compared",
        );
    } else {
        session(it, &place, name, ours, report);
    }
    if it.kind == PeeringKind::Microsoft {
        public_prefixes(it, &place, name, ours, report);
    }
}

fn session(it: &Peering, place: &str, name: &str, ours: &Ours, report: &mut Report) {
    let here = |key: &str| ours.text(&format!("circuit.{name}.{}.{key}", it.kind.as_str()));
    if it.asn.is_some() {
        report.compare(place, "asn", it.asn.map(|it| it.to_string()), ours.text("asn"));
    }
    if it.azure_asn.is_some() {
        report.compare(place, "peer-asn", it.azure_asn.map(|it| it.to_string()), here("peer-asn"));
    }
    if !it.missing.iter().any(|missing| missing == "vlanId") {
        report.compare(place, "vlan", it.vlan.map(|it| it.to_string()), here("vlan"));
    }
    for (family, pair) in [("ipv4", it.ipv4), ("ipv6", it.ipv6)] {
        for (role, azure) in LinkRole::ALL.into_iter().zip(pair) {
            let subnet = ours.ends(name, it.kind, role, family).map(|it| it.subnet.to_string());
            let field = format!("{family} {}", role.as_str());
            report.compare(place, &field, azure.map(|it| it.to_string()), subnet);
        }
    }
    // Azure shows its key to few, so none in its answer says nothing.
    if it.has_key && here("md5").is_none() {
        report.add(place, "shared key", "set", NONE);
    }
}

fn public_prefixes(it: &Peering, place: &str, name: &str, ours: &Ours, report: &mut Report) {
    let here = ours.public_prefixes(name);
    if here.is_empty() {
        if !it.prefixes.is_empty() {
            report.note(
                place,
                "the inventory has no public-prefixes, so those of Azure's answer are not compared",
            );
        }
        return;
    }
    let field = |prefix: &IpNet| format!("public prefix {prefix}");
    for (prefix, azure) in &it.prefixes {
        match here.get(prefix) {
            None => report.add(place, &field(prefix), "there", NONE),
            Some(state) => {
                let azure = azure.map(|it| Validation::as_str(it).to_owned());
                if azure.is_some() && state.is_some() {
                    report.compare(place, &format!("validation of {prefix}"), azure, state.clone());
                }
            }
        }
    }
    for prefix in here.keys().filter(|prefix| !it.prefixes.iter().any(|(azure, _)| azure == *prefix)) {
        report.add(place, &field(prefix), NONE, "there");
    }
}
