//! Rules H: convergence, Direct ports, national clouds, resiliency, validation, Azure's own view, a customer without BGP.

use super::{Check, Facts, MICROSOFT, Place, Rule, Severity, check};
use crate::{
    audit::resiliency::{Level, level},
    azure::regions,
    config::{BitsPerSecond, Circuit, CircuitKind, PeeringKind, Validation},
    import::{Ours, compare},
    rib::communities,
};

use Severity::{Critical, Note, Warning};

/// The rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "H1",
        title: "Without BFD a dead path takes three minutes to be noticed",
        source: "Microsoft, ExpressRoute design module",
        text: "A link whose far side fails without the carrier going down is noticed by the hold time, 180 s at the MSEE, or by BFD within a second. \
               Microsoft documents BFD for IPv4: a session over IPv6 that waits for it (strict = true) may wait for ever.",
        checks: H1,
        proofs: &["b5_a_session_whose_bfd_is_strict_waits_for_it_with_a_live_peer"],
        unseen: None,
    },
    Rule {
        id: "H2",
        title: "The circuits of a Direct port share it; national clouds are apart",
        source: "Microsoft, ExpressRoute Direct documentation and introduction",
        text: "Circuits on one pair of Direct ports may be sold up to twice the port's rate, and share it: with one port down not all of them have \
               their bandwidth. The clouds of the United States' government and of China are reached over circuits of their own only.",
        checks: H2,
        proofs: &[],
        unseen: None,
    },
    Rule {
        id: "H3",
        title: "How resilient the circuits are",
        source: "Microsoft, resiliency of ExpressRoute",
        text: "Microsoft calls a circuit in one peering location Standard, a metro circuit High, and circuits in two locations Maximum. The first lines \
               of every report name the level and the points of a hundred, with what was lost and for what.",
        checks: H3,
        proofs: &["h3_each_lack_costs_its_points_and_the_level_is_microsofts"],
        unseen: None,
    },
    Rule {
        id: "H4",
        title: "Each public prefix has a validation state",
        source: MICROSOFT,
        text: "Azure shows for each prefix of Microsoft peering whether its owner is proved. One that needs validation keeps the session down; one that \
               is not configured is not accepted.",
        checks: H4,
        proofs: &["e5_a_session_that_the_msee_refuses_may_wait_for_microsofts_validation"],
        unseen: Some("whether a ROA covers the prefixes: no RPKI cache is asked"),
    },
    Rule {
        id: "H5",
        title: "Between gateway and MSEE Azure may take a minute",
        source: MICROSOFT,
        text: "After a failure a virtual network's gateway may send to the dead MSEE for up to a minute. ERDP cannot shorten this. A drill report \
               shows ERDP's convergence time and Azure's separately.",
        checks: &[],
        proofs: &[
            "a_report_tells_losses_beside_those_of_the_second_before_and_when_microsoft_went_the_other_way",
        ],
        unseen: Some("how long Azure takes: only a drill with traffic from Azure shows it"),
    },
    Rule {
        id: "H6",
        title: "Azure's own view is the other half",
        source: MICROSOFT,
        text: "`az network express-route show`, `list-route-tables` and `list-arp-tables` print what the MSEEs have. `erdp import azure` compares \
               it with a configuration or with the running router; the audit reads the same files with --azure.",
        checks: H6,
        proofs: &["h6_each_planted_difference_is_one_line_and_nothing_else"],
        unseen: Some("what Azure has now: the answers are as old as their files"),
    },
    Rule {
        id: "H7",
        title: "A customer without BGP",
        source: "ERDP",
        text: "Where the customer's router speaks no BGP with ERDP, its prefixes come from the kernel's routes, or hosts are on the attachment's own \
               subnet. An attachment with none of these advertises nothing to Azure.",
        checks: H7,
        proofs: &["a_route_of_the_kernel_is_used_and_told_to_microsoft_as_incomplete_and_goes"],
        unseen: None,
    },
];

const H1: &[Check] = &[
    check(
        "H1.no-bfd",
        Warning,
        "the peering has no BFD, so ERDP detects a dead path only when the hold time expires",
        "write bfd = {} on the peering; it can be changed at a restart",
        |facts| {
            let without = facts.peerings().filter(|it| it.peering.bfd.is_none());
            without.map(|it| Place::new(it.name(), format!("{} s", it.peering.hold.0))).collect()
        },
    ),
    check(
        "H1.strict-ipv6",
        Warning,
        "IPv6 sessions wait for BFD, which Microsoft documents for IPv4 only",
        "leave strict out of bfd, or keep IPv6 off this peering",
        |facts| {
            let waits = facts
                .peerings()
                .filter(|it| it.peering.ipv6.is_some() && it.peering.bfd.is_some_and(|bfd| bfd.strict));
            waits.map(|it| Place::new(it.name(), "")).collect()
        },
    ),
];

const H2: &[Check] = &[
    check(
        "H2.oversubscribed",
        Warning,
        "the circuits of a Direct port have more bandwidth together than the port",
        "move a circuit to another pair of ports, or accept less while one port is down",
        |facts| ports(facts, |sold, port| sold > port && sold <= 2 * port),
    ),
    check(
        "H2.sold-twice",
        Critical,
        "the circuits of a Direct port have more than twice its bandwidth together, which Azure does not sell",
        "correct the bandwidths or the port's name to what was bought",
        |facts| ports(facts, |sold, port| sold > 2 * port),
    ),
    check(
        "H2.no-port",
        Note,
        "the inventory does not name the port pair of a Direct circuit",
        "write port in the circuit's inventory, the same for all circuits of the pair",
        |facts| {
            let direct =
                facts.circuits().filter(|it| port_rate(it.kind).is_some() && it.inventory.port.is_none());
            direct.map(|it| Place::new(&it.name, "")).collect()
        },
    ),
    check(
        "H2.national-cloud",
        Warning,
        "the route filter or a linked virtual network is of a national cloud that the circuit does not reach",
        "use a circuit of that cloud, and write its geopolitical-region",
        national_cloud,
    ),
];

fn national_cloud(facts: &Facts<'_>) -> Vec<Place> {
    let is_apart = |circuit: &Circuit, cloud: Option<&'static str>| {
        let cloud = cloud.filter(|cloud| regions::is_national(cloud));
        cloud.is_some_and(|cloud| circuit.inventory.geopolitical_region != Some(cloud))
    };
    let mut places = Vec::new();
    for it in facts.peerings() {
        let filter = it.peering.limits.route_filter.iter();
        let apart = filter.filter(|community| is_apart(it.circuit, regions::of_community(**community)));
        places.extend(
            apart.map(|community| Place::new(it.name(), communities::name(*community).unwrap_or_default())),
        );
    }
    for circuit in facts.circuits() {
        for vnet in &circuit.inventory.vnets {
            let Some(region) = vnet.region.as_deref() else { continue };
            if is_apart(circuit, regions::geopolitical_of(region)) {
                places.push(Place::new(&circuit.name, format!("{} in {region}", vnet.name)));
            }
        }
    }
    places
}

/// The rate of a port of this kind of circuit.
fn port_rate(kind: Option<CircuitKind>) -> Option<u64> {
    match kind? {
        CircuitKind::Provider => None,
        CircuitKind::Direct10G => Some(10_000_000_000),
        CircuitKind::Direct100G => Some(100_000_000_000),
    }
}

/// The pairs of ports on which the circuits' bandwidth together, and the port's, are so.
fn ports(facts: &Facts<'_>, is_it: fn(u64, u64) -> bool) -> Vec<Place> {
    let mut sums: Vec<(&str, u64, u64)> = Vec::new();
    // A circuit that is not in use has its share of the port all the same.
    for circuit in &facts.config.circuits {
        let (Some(rate), Some(port)) = (port_rate(circuit.kind), circuit.inventory.port.as_deref()) else {
            continue;
        };
        match sums.iter_mut().find(|(name, _, _)| *name == port) {
            Some((_, sold, _)) => *sold = sold.saturating_add(circuit.bandwidth.0),
            None => sums.push((port, circuit.bandwidth.0, rate)),
        }
    }
    let over = sums.into_iter().filter(|(_, sold, rate)| is_it(*sold, *rate));
    over.map(|(port, sold, rate)| {
        Place::new(port, format!("{} of {}", BitsPerSecond(sold), BitsPerSecond(rate)))
    })
    .collect()
}

const H3: &[Check] = &[
    check(
        "H3.standard",
        Note,
        "the circuit has Standard resiliency: the loss of its peering location is the loss of the circuit",
        "add a circuit in another peering location to the same attachments, or use a metro circuit",
        |facts| {
            let known = facts.circuits().filter(|it| !it.inventory.locations.is_empty());
            known
                .filter(|it| level(facts, it) == Level::Standard)
                .map(|it| Place::new(&it.name, ""))
                .collect()
        },
    ),
    check(
        "H3.no-location",
        Note,
        "the inventory does not name the peering location, so the resiliency counts as Standard",
        "write location in the circuit's inventory",
        |facts| {
            facts
                .circuits()
                .filter(|it| it.inventory.locations.is_empty())
                .map(|it| Place::new(&it.name, ""))
                .collect()
        },
    ),
    check(
        "H3.azure-recommends",
        Note,
        "Azure's own index of a gateway's resiliency is below 100",
        "see what Azure recommends, and whether it is worth its price",
        |facts| {
            let below =
                facts.azure.into_iter().flat_map(|it| &it.others.resiliency).filter(|it| it.score != "100");
            below
                .map(|it| {
                    Place::new("gateway", format!("{} of 100; {}", it.score, it.recommendations.join("; ")))
                })
                .collect()
        },
    )
    .azure(),
];

const H4: &[Check] = &[
    check(
        "H4.validation-needed",
        Critical,
        "Microsoft waits for a proof that a public prefix is yours, and keeps the session down",
        "answer Microsoft's request, or create the ROA and the validation of the prefix in Azure",
        |facts| validated(facts, |state| state == Some(Validation::ValidationNeeded)),
    ),
    check(
        "H4.not-configured",
        Warning,
        "a public prefix is not configured in Azure, so Microsoft does not accept it",
        "add it to the advertised public prefixes of the peering in Azure",
        |facts| validated(facts, |state| state == Some(Validation::NotConfigured)),
    ),
    check(
        "H4.no-state",
        Note,
        "the inventory does not name the validation state of a public prefix",
        "write validation beside it in the inventory",
        |facts| validated(facts, |state| state.is_none()),
    ),
    check(
        "H4.no-prefixes",
        Note,
        "the inventory does not name the public prefixes of Microsoft peering",
        "write public-prefixes in the circuit's inventory",
        |facts| {
            let empty = facts
                .peerings_of(PeeringKind::Microsoft)
                .filter(|it| it.circuit.inventory.public_prefixes.is_empty());
            empty.map(|it| Place::new(it.name(), "")).collect()
        },
    ),
];

fn validated(facts: &Facts<'_>, is_it: fn(Option<Validation>) -> bool) -> Vec<Place> {
    let mut places = Vec::new();
    for it in facts.peerings_of(PeeringKind::Microsoft) {
        let prefixes = it.circuit.inventory.public_prefixes.iter().filter(|prefix| is_it(prefix.validation));
        places.extend(prefixes.map(|prefix| Place::new(it.name(), prefix.prefix.to_string())));
    }
    places
}

const H6: &[Check] = &[check(
    "H6.drift",
    Warning,
    "Azure has another value than the configuration",
    "find out which of the two is meant, and correct the other one",
    |facts| {
        let Some(view) = facts.azure else { return Vec::new() };
        let drift = compare(view, &Ours::of(facts.config)).drift.into_iter();
        drift
            .map(|it| Place::new(it.place, format!("{}: Azure {}, here {}", it.field, it.azure, it.here)))
            .collect()
    },
)
.azure()];

const H7: &[Check] = &[check(
    "H7.nothing-to-advertise",
    Warning,
    "the attachment has no peer, no kernel routes and no hosts of its own, so nothing behind it is reachable from Azure",
    "add peers, kernel-routes or advertise-connected = true",
    |facts| {
        let silent = facts
            .customers()
            .filter(|it| it.peers.is_empty() && it.kernel_routes.is_none() && !it.advertise_connected);
        silent.map(|it| Place::new(it.name(), "")).collect()
    },
)];
