//! Rules C: routing domains, isolation, tags, zones.

use super::{Check, MICROSOFT, Place, Rule, Severity, check};
use crate::config::{CeAttachment, CircuitKind, PeeringKind};

use Severity::{Note, Warning};

/// The rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "C1",
        title: "Private and Microsoft peering are separate routing domains",
        source: "Microsoft, ExpressRoute overview (2015) and FAQ",
        text: "A route of one peering is in no table of another; only an explicit chain through a service leads across. Public peering is retired, \
               and a configuration that names it is refused.",
        checks: &[],
        proofs: &["a_route_of_one_domain_is_never_seen_in_another", "whole_files_that_are_refused"],
        unseen: None,
    },
    Rule {
        id: "C2",
        title: "Circuits are isolated from each other; virtual networks on one circuit are not",
        source: "Microsoft, ExpressRoute FAQ (2015)",
        text: "Virtual networks on one circuit reach each other at the MSEE. ERDP does not send a packet back to the side that it came from unless \
               hairpin = \"allow\". It drops a packet from an MSEE whose source address has no route to that MSEE, unless source-check = \"off\".",
        checks: C2,
        proofs: &["c2_what_came_from_microsoft_goes_back_there_only_where_hairpin_allows_it"],
        unseen: None,
    },
    Rule {
        id: "C3",
        title: "Layer 3 only",
        source: "Microsoft, ExpressRoute FAQ (2015)",
        text: "Nothing but IPv4 and IPv6 is forwarded. ARP, neighbour discovery and the control protocols go to the kernel; everything else is \
               dropped and counted.",
        checks: &[],
        proofs: &["rfc3810_5_listener_queries_of_this_link_reach_the_kernel_and_nothing_else_of_mld_does"],
        unseen: None,
    },
    Rule {
        id: "C4",
        title: "Tags: the S-tag names the circuit, the C-tag the peering",
        source: MICROSOFT,
        text: "MSEEs use one tag, or two with Ethertype 0x8100 on both. On ExpressRoute Direct the tags reach this box: untagged frames belong to no \
               circuit there.",
        checks: C4,
        proofs: &["two_peerings_on_one_tagged_link_work_without_the_kernels_802_1q"],
        unseen: None,
    },
    Rule {
        id: "C5",
        title: "Microsoft peering belongs in the DMZ",
        source: "Microsoft, ExpressRoute for Microsoft cloud connectivity (2019)",
        text: "Microsoft peering leads to public addresses of others. An attachment that reaches both peerings puts the internal network beside \
               them: give it a zone, or lead it through an appliance by a chain.",
        checks: C5,
        proofs: &["c5_a_zone_keeps_an_attachment_and_a_peering_apart_in_both_directions_and_says_so"],
        unseen: None,
    },
    Rule {
        id: "C6",
        title: "An attachment may reach several peerings, ranked by its list",
        source: "ERDP",
        text: "The table of an attachment is the union of the peerings that it lists. Where two have the same prefix the first in the list is used, so \
               that every overlap has one answer.",
        checks: &[],
        proofs: &["c5_a_prefix_that_an_allowed_peering_has_as_well_is_used_there"],
        unseen: None,
    },
];

const C2: &[Check] = &[
    check(
        "C2.no-source-check",
        Warning,
        "ERDP does not check the source addresses of packets from the MSEEs",
        "leave source-check out; where routing is asymmetric on purpose, keep it off and say so beside it",
        |facts| {
            facts
                .peerings()
                .filter(|it| !it.peering.checks_sources)
                .map(|it| Place::new(it.name(), ""))
                .collect()
        },
    ),
    check(
        "C2.hairpin",
        Note,
        "what came in on one side may leave on the same side",
        "leave hairpin out unless this box is to connect virtual networks or sites with each other",
        |facts| facts.circuits().filter(|it| it.hairpin).map(|it| Place::new(&it.name, "")).collect(),
    ),
];

const C4: &[Check] = &[check(
    "C4.direct-untagged",
    Warning,
    "a Direct port carries tagged frames, and the peering has no tag",
    "write vlan (and s-vlan for QinQ) as the circuit has them in Azure",
    |facts| {
        let direct = |kind: Option<CircuitKind>| {
            matches!(kind, Some(CircuitKind::Direct10G | CircuitKind::Direct100G))
        };
        let untagged = facts.peerings().filter(|it| direct(it.circuit.kind) && it.peering.vlan.is_none());
        untagged.map(|it| Place::new(it.name(), "")).collect()
    },
)];

const C5: &[Check] = &[check(
    "C5.no-zone",
    Note,
    "an attachment of the customer may use private and Microsoft peering, and no zone separates the two",
    "put Microsoft peering on an attachment in a DMZ, or lead it through an appliance by a [[chain]]",
    |facts| {
        let uses_both = |attachment: &&CeAttachment| {
            let uses = |kind| facts.peerings_of(kind).any(|it| it.is_used_by(attachment));
            PeeringKind::ALL.into_iter().all(uses)
        };
        facts.customers().filter(uses_both).map(|it| Place::new(it.name(), "")).collect()
    },
)];
