//! Rules B: two links, timers, BFD, maintenance, VPN and encryption beside the circuit, several circuits.

use std::collections::HashSet;

use ipnet::IpNet;
use jiff::civil::{Date, date};

use super::{Check, Facts, MICROSOFT, Place, Rule, Severity, check};
use crate::{
    audit::facts::{PeeringOf, RouteRow, SessionRow, other_boxes},
    config::{GATEWAY_ASN, HASTY_HOLD, PeeringKind},
    rib::{DEFAULT_LOCAL_PREF, SERVICE_LOCAL_PREF},
};

use Severity::{Critical, Note, Warning};

const DESIGN: &str = "Microsoft, ExpressRoute design module";
/// Peerings of before these days have BFD only after a reset (rule B5).
const BFD_SINCE_PRIVATE: Date = date(2018, 8, 1);
const BFD_SINCE_MICROSOFT: Date = date(2020, 1, 10);

/// The rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "B1",
        title: "A circuit is two links, both in use",
        source: "Microsoft, ExpressRoute introduction and SLA",
        text: "Microsoft's SLA of 99.95 % needs both links of a circuit, each with its BGP session. ERDP's configuration cannot have fewer; a \
               circuit that runs on one link works, and is reported as not valid for the SLA.",
        checks: &[check(
            "B1.not-sla-valid",
            Critical,
            "Microsoft's SLA does not hold for the circuit now",
            "see `erdp show links` for what is missing, and repair that link",
            |facts| {
                let rows = facts.live.into_iter().flat_map(|live| &live.circuits);
                // One that is not in use is rule A8's.
                let lost = rows.filter(|row| !row.sla_valid && facts.is_in_use(&row.circuit));
                lost.map(|row| Place::new(&row.circuit, &row.why)).collect()
            },
        ).live()],
        proofs: &["a_pair_is_both_one_or_none_and_sla_valid_only_when_whole"],
        unseen: None,
    },
    Rule {
        id: "B1a",
        title: "Both links on one box make that box a single point of failure",
        source: "Microsoft, ExpressRoute introduction (redundant devices)",
        text: "Microsoft asks for redundant devices. If both links end on one box, a failure of that box takes the whole circuit down. Connect one \
               link to a second box: write { box = NAME } for the link, and add an attachment with box = NAME for each peering. Each box then \
               reaches Microsoft through the other box's link as well.",
        checks: B1A,
        proofs: &["b1a_two_boxes_with_one_link_each_carry_each_others_traffic_and_judge_the_pair"],
        unseen: None,
    },
    Rule {
        id: "B2",
        title: "The loss of one link loses no connectivity",
        source: "Microsoft, ExpressRoute FAQ (2015)",
        text: "When a link fails, ERDP moves its flows to the other link with one map write, whatever the number of routes. It moves them back when \
               the link returns. Flows on the other link do not move.",
        checks: &[],
        proofs: &["only_the_failed_members_flows_move_and_only_they_come_back"],
        unseen: None,
    },
    Rule {
        id: "B3",
        title: "Each peering has a session to each MSEE",
        source: "Microsoft, ExpressRoute introduction",
        text: "ERDP derives the sessions from the subnets: one for each link, peering and family. A session that does not come up leaves its peering \
               on one link.",
        checks: &[check(
            "B3.session-down",
            Warning,
            "a session with an MSEE is not established",
            "see `erdp show sessions` for the reason; the address, the key and the AS must be what Azure has",
            |facts| {
                let down = facts.sessions().iter().filter(|it| it.is_msee() && it.is_wanted() && !it.is_up());
                down.map(|it| Place::new(it.place(), &it.state)).collect()
            },
        ).live()],
        proofs: &["each_family_of_each_local_link_has_a_session_and_identifiers_are_indices"],
        unseen: None,
    },
    Rule {
        id: "B4",
        title: "Hold times: 180 s at the MSEE, at least 10 s",
        source: DESIGN,
        text: "MSEEs send a KEEPALIVE every 60 s and wait 180 s; the lower offer wins, and 3 s and 10 s are the least. A hold time below 10 s \
               ends sessions when either side is busy. BFD notices a dead path much sooner.",
        checks: &[check(
            "B4.hasty-hold",
            Warning,
            "a hold time below 10 s ends sessions when either side is busy",
            "write 10 or more, and let BFD notice failures",
            hasty,
        )],
        proofs: &[],
        unseen: None,
    },
    Rule {
        id: "B5",
        title: "BFD: 300 ms x 3, and a reset for old peerings",
        source: DESIGN,
        text: "MSEEs run BFD at 300 ms x 3. A private peering made before 2018-08-01 and a Microsoft peering made before 2020-01-10 have it only \
               after their peering was reset once. `private-created` and `microsoft-created` in the inventory say when; write the day of the reset \
               there afterwards.",
        checks: B5,
        proofs: &["b5_bfd_is_the_msees_unless_it_says_more_and_belongs_to_each_peer_of_the_peering"],
        unseen: None,
    },
    Rule {
        id: "B6",
        title: "A disabled peering ends both sessions",
        source: DESIGN,
        text: "`erdp peering disable` takes a peering, a link or a circuit out of service for maintenance, and `erdp drill` for a test. A disabled \
               part stays out of service over restarts until the operator enables it.",
        checks: &[check(
            "B6.out-of-service",
            Warning,
            "a session is out of service",
            "give `erdp peering enable NAME` when the maintenance is over",
            |facts| {
                let out = facts.sessions().iter().filter(|it| !it.is_wanted() && facts.has_circuit(it));
                out.map(|it| Place::new(it.place(), &it.admin)).collect()
            },
        ).live()],
        proofs: &[
            "b6_a_peering_is_disabled_and_enabled_without_a_lost_packet_and_the_last_one_is_not_disabled",
        ],
        unseen: None,
    },
    Rule {
        id: "B7",
        title: "Microsoft drains a link by prepending its AS eight times",
        source: MICROSOFT,
        text: "Before maintenance an MSEE repeats AS 12076 eight times in what it announces. ERDP moves the flows to the other link. While a link is \
               drained the circuit runs on one.",
        checks: &[check(
            "B7.draining",
            Warning,
            "Microsoft drains this link for maintenance, and the circuit runs on the other one",
            "wait, and plan no work on the other link; Azure's service health names the maintenance",
            |facts| {
                let drained = facts.msee_sessions().filter(|it| it.draining > 0);
                drained.map(|it| Place::new(it.place(), format!("{} prefixes", it.draining))).collect()
            },
        ).live()],
        proofs: &[
            "b7_an_msee_that_is_drained_loses_its_traffic_and_no_packet_and_its_link_is_shown_draining",
        ],
        unseen: None,
    },
    Rule {
        id: "B8",
        title: "A VPN is the backup of private peering, and the circuit is preferred",
        source: DESIGN,
        text: "A VPN service ranks below the circuit by its local preference, but the longest prefix always wins: a more specific route of the VPN \
               takes the traffic although the circuit is up. The VPN gateway's public address must be reached over the Internet: learned over \
               Microsoft peering, the tunnel runs inside the circuit that it is to replace.",
        checks: B8,
        proofs: &["b8_a_tunnel_is_used_only_while_the_circuit_has_no_route"],
        unseen: None,
    },
    Rule {
        id: "B9",
        title: "What is to be encrypted must be encrypted in both directions",
        source: DESIGN,
        text: "Prefixes of `encrypted-only` leave through their service or not at all. The way back is Azure's choice: it prefers the circuit \
               for a prefix that it learns on both, unless the VPN's is more specific. Announce a larger prefix over the circuit and more specific \
               ones over the VPN, or over the VPN alone.",
        checks: B9,
        proofs: &["b9_an_encrypted_only_prefix_goes_through_its_service_or_nowhere"],
        unseen: Some("what the VPN device announces to Azure, and so which way Azure's packets take"),
    },
    Rule {
        id: "B10",
        title: "What a VPN gateway beside a circuit needs",
        source: DESIGN,
        text: "A VPN gateway of Azure has AS 65515, is route-based, shares a gateway subnet of /27 or larger with the ExpressRoute gateway, and does \
               not coexist with IPv6 on private peering.",
        checks: B10,
        proofs: &["b8_the_as_of_azures_gateways_is_a_services_peers_and_nobody_elses"],
        unseen: Some("whether the gateway is route-based: only Azure shows it"),
    },
    Rule {
        id: "B11",
        title: "Both links are advertised the same",
        source: MICROSOFT,
        text: "If ERDP advertises a prefix to one MSEE only, Azure sends that prefix's traffic over one link and loses it with that link. The audit \
               compares how many prefixes of each family the two MSEEs of a peering are advertised.",
        checks: &[check(
            "B11.advertised-differ",
            Warning,
            "the two MSEEs of the peering are advertised different numbers of prefixes",
            "compare `erdp show refused` of both links; a session that has just come up catches up within seconds",
            advertised_differ,
        ).live()],
        proofs: &["d1_both_links_are_told_the_same_prefixes_and_never_more_than_microsoft_takes"],
        unseen: None,
    },
];

const B1A: &[Check] = &[
    check(
        "B1a.one-box",
        Note,
        "both links of the circuit end on this box, which is a single point of failure",
        "end one link on a second box: { box = NAME }",
        |facts| facts.circuits().filter(|it| it.is_on_one_box()).map(|it| Place::new(&it.name, "")).collect(),
    ),
    check(
        "B1a.no-way-to-box",
        Warning,
        "a link ends on another box, and no attachment of the peering leads there",
        "add an [[attachment]] with box = NAME that lists the peering",
        no_way_to_box,
    ),
];

fn no_way_to_box(facts: &Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for it in facts.peerings() {
        for name in other_boxes(it.circuit) {
            let mut ways =
                facts.config.attachments.iter().filter(|way| way.other_box.as_deref() == Some(name));
            if !ways.any(|way| it.is_used_by(way)) {
                places.push(Place::new(it.name(), format!("box {name}")));
            }
        }
    }
    places
}

fn hasty(facts: &Facts<'_>) -> Vec<Place> {
    let peerings = facts.peerings().map(|it| (it.name(), it.peering.hold));
    let peers = facts.config.attachments.iter().flat_map(|attachment| {
        attachment
            .peers
            .iter()
            .map(move |peer| (format!("{} {}", attachment.name(), peer.address), peer.hold))
    });
    let hasty = peerings.chain(peers).filter(|(_, hold)| *hold < HASTY_HOLD);
    hasty.map(|(at, hold)| Place::new(at, format!("{} s", hold.0))).collect()
}

const B5: &[Check] = &[
    check(
        "B5.reset-needed",
        Warning,
        "the peering is older than BFD on MSEEs, and BFD stays down until it is reset once",
        "reset the peering in Azure, then write that day as the day on which it was created",
        |facts| {
            let old = facts.peerings().filter(|it| it.peering.bfd.is_some()).filter_map(|it| {
                let (created, since) = made(&it);
                let created = created.filter(|created| *created < since)?;
                Some(Place::new(it.name(), format!("{created} is before {since}")))
            });
            old.collect()
        },
    ),
    check(
        "B5.no-date",
        Note,
        "the inventory does not name the day on which the peering was created",
        "write private-created or microsoft-created in the circuit's inventory",
        |facts| {
            facts.peerings().filter(|it| made(it).0.is_none()).map(|it| Place::new(it.name(), "")).collect()
        },
    ),
    check(
        "B5.slow-bfd",
        Note,
        "BFD takes more than a second to detect a dead path",
        "write bfd = {}, which is 300 ms x 3 as MSEEs have it",
        |facts| {
            let slow = facts.peerings().filter_map(|it| {
                let bfd = it.peering.bfd?;
                let ms = u64::from(bfd.interval_us) * u64::from(bfd.multiplier) / 1_000;
                (ms > 1_000).then(|| Place::new(it.name(), format!("{ms} ms")))
            });
            slow.collect()
        },
    ),
    check(
        "B5.bfd-down",
        Warning,
        "the BGP session is up and BFD is not, so ERDP detects a dead path only when the hold time expires",
        "enable BFD at the MSEE; a peering of before 2018-08-01 (private) or 2020-01-10 (Microsoft) needs a reset first",
        |facts| {
            // Microsoft documents BFD for IPv4 only.
            let is_down = |it: &&SessionRow| {
                it.is_ipv4() && it.bfd.as_deref().is_some_and(|state| !state.eq_ignore_ascii_case("up"))
            };
            let down = facts.msee_sessions().filter(is_down);
            down.map(|it| Place::new(it.place(), it.bfd.clone().unwrap_or_default())).collect()
        },
    ).live(),
];

/// When a peering was created, and since when such ones have BFD.
fn made(it: &PeeringOf<'_>) -> (Option<Date>, Date) {
    match it.kind {
        PeeringKind::Private => (it.circuit.inventory.private_created, BFD_SINCE_PRIVATE),
        PeeringKind::Microsoft => (it.circuit.inventory.microsoft_created, BFD_SINCE_MICROSOFT),
    }
}

const B8: &[Check] = &[
    check(
        "B8.vpn-preferred",
        Warning,
        "routes of a service rank as high as the circuit's, which are to be preferred",
        "leave local-pref out for the service's peers (90) and its kernel-routes (95), or write less than the peering's",
        vpn_preferred,
    ),
    check(
        "B8.more-specific",
        Warning,
        "a route of a service is more specific than the circuit's, and takes its traffic although the circuit is up",
        "have the VPN announce the same prefix or a larger one; prefixes of encrypted-only are exempt",
        more_specific,
    ).live(),
    check(
        "B8.gateway-over-microsoft",
        Warning,
        "the address of a VPN gateway is reached over Microsoft peering, so the tunnel runs inside the circuit that it is to replace",
        "keep the gateway's region out of the route filter, or route its address to the Internet",
        gateway_over_microsoft,
    ).live(),
];

fn vpn_preferred(facts: &Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for (attachment, service) in facts.services() {
        let used = facts.peerings().filter(|it| it.is_used_by(attachment));
        let least = used.map(|it| it.peering.options.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)).min();
        let Some(least) = least else { continue };
        let of_peers = attachment
            .peers
            .iter()
            .map(|it| (it.address.to_string(), it.options.local_pref.unwrap_or(SERVICE_LOCAL_PREF)));
        let of_kernel = attachment.kernel_routes.iter().map(|it| ("kernel-routes".to_owned(), it.local_pref));
        for (source, pref) in of_peers.chain(of_kernel).filter(|(_, pref)| *pref >= least) {
            let what = format!("{source} of {} has {pref}, the peering {least}", service.name);
            places.push(Place::new(attachment.name(), what));
        }
    }
    places
}

/// One place for each peering and way, whatever the number of routes.
fn more_specific(facts: &Facts<'_>) -> Vec<Place> {
    let services: Vec<String> = facts.services().map(|(attachment, _)| attachment.name()).collect();
    let exempt: Vec<IpNet> =
        facts.services().flat_map(|(_, service)| service.encrypted_only.iter().copied()).collect();
    let leads_to_service = |via: &[String]| !via.is_empty() && via.iter().all(|it| services.contains(it));
    let leads_to_msee =
        |row: &RouteRow| row.via.iter().any(|via| via.starts_with(&format!("{} ", row.domain)));
    let of_msees: HashSet<(&str, IpNet)> = facts
        .routes()
        .filter(|(row, prefix)| prefix.prefix_len() > 0 && leads_to_msee(row))
        .map(|(row, prefix)| (row.domain.as_str(), prefix))
        .collect();
    let mut found: Vec<((&str, String), Examples)> = Vec::new();
    for (row, prefix) in facts.routes().filter(|(row, _)| leads_to_service(&row.via)) {
        if exempt.iter().any(|it| it.contains(&prefix)) {
            continue;
        }
        let mut larger = std::iter::successors(prefix.supernet(), IpNet::supernet);
        if let Some(larger) = larger.find(|net| of_msees.contains(&(row.domain.as_str(), *net))) {
            let way = (row.domain.as_str(), row.via.join(", "));
            count(&mut found, way, || format!("{prefix}, inside {larger}"));
        }
    }
    let places = found.into_iter();
    places.map(|((domain, via), it)| Place::new(domain, format!("{} through {via}", it.text()))).collect()
}

/// How many routes there are of a kind, and the first of them.
struct Examples {
    count: usize,
    first: String,
}

impl Examples {
    fn text(&self) -> String {
        match self.count {
            1 => self.first.clone(),
            count => format!("{count} prefixes, such as {}", self.first),
        }
    }
}

/// Counts one more of a kind; the kinds are few.
fn count<K: PartialEq>(found: &mut Vec<(K, Examples)>, kind: K, example: impl FnOnce() -> String) {
    match found.iter_mut().find(|(it, _)| *it == kind) {
        Some((_, examples)) => examples.count += 1,
        None => found.push((kind, Examples { count: 1, first: example() })),
    }
}

fn gateway_over_microsoft(facts: &Facts<'_>) -> Vec<Place> {
    let vnets = facts.circuits().flat_map(|it| &it.inventory.vnets);
    let mut gateways: Vec<_> = vnets.filter_map(|it| it.vpn_gateway).collect();
    gateways.sort_unstable();
    gateways.dedup();
    let mut places = Vec::new();
    for gateway in gateways {
        let is_over = |(route, prefix): &(&RouteRow, IpNet)| {
            route.domain.ends_with("/microsoft") && prefix.contains(&gateway)
        };
        if let Some((route, prefix)) = facts.routes().find(is_over) {
            places.push(Place::new(&route.domain, format!("{gateway} by {prefix}")));
        }
    }
    places
}

const B9: &[Check] = &[
    check(
        "B9.vnet-way-back",
        Critical,
        "a prefix that must be encrypted is of a virtual network that is linked to the circuit, whose way back may be in clear",
        "have the VPN announce more specific prefixes than the circuit, or announce them over the VPN only",
        |facts| {
            let mut places = Vec::new();
            for (attachment, service) in facts.services() {
                for it in facts.peerings_of(PeeringKind::Private).filter(|it| it.is_used_by(attachment)) {
                    let vnets = it
                        .circuit
                        .inventory
                        .vnets
                        .iter()
                        .flat_map(|vnet| vnet.prefixes.iter().map(move |net| (vnet, net)));
                    let overlapping = vnets.filter(|(_, net)| {
                        service
                            .encrypted_only
                            .iter()
                            .any(|secret| secret.contains(*net) || net.contains(secret))
                    });
                    places.extend(
                        overlapping
                            .map(|(vnet, net)| Place::new(it.name(), format!("{net} of {}", vnet.name))),
                    );
                }
            }
            places
        },
    ),
    check(
        "B9.announced-in-clear",
        Warning,
        "a peer other than the service announces a prefix that must be encrypted",
        "remove the prefix from what that peer announces; ERDP refuses the route and sends nothing in clear",
        announced_in_clear,
    )
    .live(),
];

/// One place for each peer, whatever the number of prefixes.
fn announced_in_clear(facts: &Facts<'_>) -> Vec<Place> {
    let rows = facts.live.into_iter().flat_map(|live| &live.refused);
    let mut found: Vec<(&str, Examples)> = Vec::new();
    for row in rows.filter(|row| row.rule.as_deref() == Some("B9")) {
        let peer = row.peer.as_deref().unwrap_or_default();
        count(&mut found, peer, || row.prefix.map(|it| it.to_string()).unwrap_or_default());
    }
    found.into_iter().map(|(peer, it)| Place::new(peer, it.text())).collect()
}

const B10: &[Check] = &[
    check(
        "B10.dual-stack",
        Warning,
        "a VPN gateway of Azure does not coexist with IPv6 on private peering",
        "remove ipv6 from the private peering, or use another backup",
        |facts| {
            let mut places = Vec::new();
            for (attachment, service) in facts.services() {
                let is_gateway = attachment.peers.iter().any(|peer| peer.asn == GATEWAY_ASN);
                for it in facts
                    .peerings_of(PeeringKind::Private)
                    .filter(|it| is_gateway && it.peering.ipv6.is_some())
                {
                    if it.is_used_by(attachment) {
                        places.push(Place::new(it.name(), format!("service {}", service.name)));
                    }
                }
            }
            places
        },
    ),
    check(
        "B10.gateway-subnet",
        Warning,
        "a gateway subnet is smaller than /27, and a VPN gateway beside the ExpressRoute gateway does not fit",
        "make GatewaySubnet a /27 or larger",
        |facts| {
            let mut places = Vec::new();
            for circuit in facts.circuits() {
                for vnet in &circuit.inventory.vnets {
                    let small =
                        vnet.gateway_subnet.filter(|net| net.addr().is_ipv4() && net.prefix_len() > 27);
                    places.extend(
                        small.map(|net| Place::new(&circuit.name, format!("{net} of {}", vnet.name))),
                    );
                }
            }
            places
        },
    ),
];

fn advertised_differ(facts: &Facts<'_>) -> Vec<Place> {
    let sessions: Vec<&SessionRow> = facts.msee_sessions().filter(|it| it.is_wanted()).collect();
    let mut places = Vec::new();
    for (at, one) in sessions.iter().enumerate() {
        let others = sessions.iter().skip(at + 1);
        let twins = others.filter(|it| it.domain() == one.domain() && it.is_ipv4() == one.is_ipv4());
        for other in twins.filter(|it| it.advertised != one.advertised) {
            let what =
                format!("{} has {}, {} has {}", one.peer, one.advertised, other.peer, other.advertised);
            places.push(Place::new(one.domain(), what));
        }
    }
    places
}
