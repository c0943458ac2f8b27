//! Attachments that lead to the other edge box (requirement B1a): one for each peering, with an internal BGP session, so that each box
//! has what the other's link brings.
//!
//! One for each peering, because a BGP session says of a route whose it is in no other way (C1, C2); tags tell several on one wire
//! apart.

use toml::Spanned;

use super::super::error::Fault;
use super::super::plan::domains_of;
use super::super::raw::{RawAttachment, RawPeer};
use super::super::{CeAttachment, Circuit, Link};
use crate::bgp::Asn;

/// Its routes are judged where they came in, and ranked as it says: what says otherwise here is a mistake.
pub(super) fn peer(raw: &RawPeer, asn: Asn, ours: Asn, key: &dyn Fn(&str) -> String) -> Result<(), Fault> {
    if asn != ours {
        let reason = format!("{asn} is not our own AS, and the other edge box is an internal peer (B1a)");
        return Err(Fault::new(raw.asn.span(), key("asn"), reason, format!("write {}", ours.0)));
    }
    let external = [
        (raw.role.as_ref().map(Spanned::span), "role"),
        (raw.local_pref.as_ref().map(Spanned::span), "local-pref"),
        (raw.prepend.as_ref().map(Spanned::span), "prepend"),
    ];
    match external.into_iter().find_map(|(at, name)| Some((at?, name))) {
        Some((at, name)) => {
            let reason =
                "the key is for peers of other ASes, and the other edge box is an internal one (B1a)";
            let remedy = "remove it; both boxes set it towards their own MSEEs and customers";
            Err(Fault::new(at, key(name), reason, remedy))
        }
        None => Ok(()),
    }
}

/// Each leads to a box at which a link of its peering's circuit ends.
pub(super) fn check(
    raw: &[Spanned<RawAttachment>],
    attachments: &[CeAttachment],
    circuits: &[Circuit],
) -> Result<(), Fault> {
    for (raw, attachment) in raw.iter().zip(attachments) {
        let (Some(name), Some(at)) = (&attachment.other_box, &raw.get_ref().r#box) else { continue };
        let key = |suffix: &str| format!("attachment.{}.{suffix}", attachment.interface);
        let ([domain], []) = (&attachment.domains[..], &attachment.forbidden[..]) else {
            let reason = "an attachment to the other edge box is for one peering: a session cannot tell routes of several apart (C1)";
            let remedy = "list one, and add an attachment with another vlan for each of the others";
            return Err(Fault::new(raw.get_ref().peerings.span(), key("peerings"), reason, remedy));
        };
        if attachment.service.is_some() {
            let reason = "an attachment leads to a service or to the other edge box";
            return Err(Fault::new(at.span(), key("box"), reason, "remove one of the two keys"));
        }
        let circuit = domains_of(circuits).nth(usize::from(domain.0)).map(|(circuit, _)| circuit);
        let ends_there = |link: &Link| matches!(link, Link::Box { name: other } if other == name);
        if !circuit.is_some_and(|it| ends_there(&it.primary) || ends_there(&it.secondary)) {
            let reason = format!("no link of the peering's circuit ends at a box `{name}`");
            let remedy =
                format!("write {{ box = \"{name}\" }} for one of the circuit's links, or correct the name");
            return Err(Fault::new(at.span(), key("box"), reason, remedy));
        }
    }
    Ok(())
}
