//! Rules A: circuits, bandwidth, billing, limits of what is bought.

use std::collections::HashSet;

use erdp_common::policer::BurstPolicy;

use super::{Check, Facts, MICROSOFT, Place, Rule, Severity, check};
use crate::{
    azure::{bandwidths, links, regions},
    bgp::Community,
    config::{Billing, Circuit, CircuitKind, Provisioning, Sku},
    rib::communities::{self, plain},
};

use Severity::{Note, Warning};

/// The rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "A1",
        title: "A circuit is limited to its bandwidth in each direction",
        source: "Microsoft, ExpressRoute FAQ (2015) and documentation",
        text: "A circuit carries its bandwidth in each direction on its own, however fast the port is. ERDP polices both directions of every \
               circuit and counts what it drops by class, so that no configuration exceeds it.",
        checks: &[],
        proofs: &["a1_each_direction_of_a_circuit_has_the_circuits_own_rate_and_the_customers_side_has_none"],
        unseen: None,
    },
    Rule {
        id: "A2",
        title: "What a burst to twice the bandwidth means",
        source: "Microsoft, ExpressRoute FAQ (2015) and documentation",
        text: "Microsoft's FAQ promises bursts to twice the bandwidth. Microsoft's routers police each link at the bandwidth R and do not \
               distinguish classes; Direct ports have 20 % headroom. Where ERDP lets a link carry more than R, the MSEE drops from every class, \
               voice included, and ERDP's own order of classes protects nothing there.",
        checks: A2,
        proofs: &["a2_dual_link_and_headroom_20_are_a_bucket_of_its_own_for_each_link_and_direction"],
        unseen: None,
    },
    Rule {
        id: "A3",
        title: "Microsoft sells certain bandwidths only",
        source: "Microsoft, ExpressRoute FAQ and ExpressRoute Direct documentation",
        text: "Each kind of circuit (provider, Direct on 10 Gb/s ports, Direct on 100 Gb/s ports, Local) is sold in certain bandwidths. A \
               bandwidth that is not sold is probably not the one that was bought, and the MSEE polices at the latter.",
        checks: A3,
        proofs: &[],
        unseen: None,
    },
    Rule {
        id: "A4",
        title: "A circuit's bandwidth can grow and cannot be reduced",
        source: MICROSOFT,
        text: "Azure raises the bandwidth of a circuit while it carries traffic and never reduces it. ERDP changes the rate without ending a \
               session, and refuses less bandwidth unless it is forced.",
        checks: &[],
        proofs: &["a4_less_bandwidth_is_refused_unless_forced_by_either_way_in_and_more_never_is"],
        unseen: None,
    },
    Rule {
        id: "A5",
        title: "Metered and unlimited billing",
        source: MICROSOFT,
        text: "A metered circuit costs by the gigabyte from Azure to the site; what the site sends is free. An unlimited one costs by the month, \
               and a Local circuit is always unlimited. The model and the price are in the circuit's inventory.",
        checks: A5,
        proofs: &[],
        unseen: Some("the cost of a month: ERDP does not keep the month's byte count over a restart"),
    },
    Rule {
        id: "A6",
        title: "What the SKU reaches: one geopolitical region, the world, or one metro",
        source: MICROSOFT,
        text: "A Standard circuit reaches the regions of its geopolitical region and no Office 365 service, a Premium one all regions, a Local one \
               the regions near its peering location. A Standard circuit that receives routes from another geopolitical region shows that the \
               inventory or the SKU is wrong. Azure advertises no route for a virtual network that the SKU does not reach.",
        checks: A6,
        proofs: &["a6_every_region_of_the_table_of_communities_has_its_geopolitical_region"],
        unseen: None,
    },
    Rule {
        id: "A7",
        title: "Limits on virtual networks, circuits and subscriptions",
        source: MICROSOFT,
        text: "A circuit has 10 virtual networks (Premium: 20 to 100 by bandwidth), a virtual network at most four circuits of one peering location, \
               a subscription ten circuits of one geopolitical region, and a circuit is shared with at most ten other subscriptions. Azure refuses \
               what is above.",
        checks: A7,
        proofs: &[],
        unseen: None,
    },
    Rule {
        id: "A8",
        title: "A circuit that is not provisioned or not enabled carries nothing",
        source: "Microsoft, ExpressRoute design module",
        text: "A circuit carries traffic only after the provider has provisioned it and the operator has enabled it. On any other circuit ERDP drops \
               packets in both directions, neither uses nor advertises the circuit's routes, and sends the customer's packets over another circuit \
               that has the route.",
        checks: A8,
        proofs: &["a8_a_disabled_circuit_carries_nothing_in_either_direction_and_the_other_one_takes_over"],
        unseen: None,
    },
];

const A2: &[Check] = &[
    check(
        "A2.above-link",
        Note,
        "a link may carry more than the bandwidth, and the MSEE drops the surplus from every class, voice included",
        "write burst = \"dual-link\" where voice matters; keep it where bursts matter more",
        |facts| {
            let above = facts.circuits().filter(|it| it.burst == BurstPolicy::Peak2x);
            above.map(|it| Place::new(&it.name, "burst = \"peak-2x\"")).collect()
        },
    ),
    check(
        "A2.headroom",
        Warning,
        "headroom of 20 % is that of Direct circuits, and this one comes from a provider",
        "write burst = \"dual-link\", or correct the kind",
        |facts| {
            let is_it =
                |it: &&Circuit| it.burst == BurstPolicy::Headroom20 && it.kind == Some(CircuitKind::Provider);
            facts.circuits().filter(is_it).map(|it| Place::new(&it.name, "burst = \"headroom-20\"")).collect()
        },
    ),
];

const A3: &[Check] = &[
    check(
        "A3.not-sold",
        Warning,
        "Microsoft does not sell this bandwidth",
        "write the bandwidth that was bought",
        |facts| {
            let is_unsold = |it: &&Circuit| bandwidths::unsold(it.bandwidth, it.kind, it.sku).is_some();
            let what =
                |it: &Circuit| format!("{}; sold are {}", it.bandwidth, bandwidths::sold(it.kind, it.sku));
            facts.circuits().filter(is_unsold).map(|it| Place::new(&it.name, what(it))).collect()
        },
    ),
    check(
        "A3.no-kind",
        Note,
        "the configuration does not name the kind of the circuit",
        "write kind = \"provider\" or a Direct kind",
        |facts| facts.circuits().filter(|it| it.kind.is_none()).map(|it| Place::new(&it.name, "")).collect(),
    ),
];

const A5: &[Check] = &[
    check(
        "A5.no-billing",
        Note,
        "the inventory does not name the billing model",
        "write billing = \"metered\" or \"unlimited\" in the circuit's inventory",
        |facts| {
            facts
                .circuits()
                .filter(|it| it.inventory.billing.is_none())
                .map(|it| Place::new(&it.name, ""))
                .collect()
        },
    ),
    check(
        "A5.no-price",
        Note,
        "the circuit is metered, and the inventory does not name the price of a gigabyte",
        "write price-per-gb in the circuit's inventory, such as \"0.025 EUR\"",
        |facts| {
            let lacks = |it: &&Circuit| {
                it.inventory.billing == Some(Billing::Metered) && it.inventory.price_per_gb.is_none()
            };
            facts.circuits().filter(lacks).map(|it| Place::new(&it.name, "")).collect()
        },
    ),
    check(
        "A5.local-metered",
        Warning,
        "a Local circuit is always unlimited, and the inventory names this one metered",
        "correct sku or billing to what was bought",
        |facts| {
            let is_it =
                |it: &&Circuit| it.sku == Sku::Local && it.inventory.billing == Some(Billing::Metered);
            facts.circuits().filter(is_it).map(|it| Place::new(&it.name, "")).collect()
        },
    ),
];

const A6: &[Check] = &[
    check(
        "A6.filter-out-of-scope",
        Warning,
        "the route filter names a region that the SKU does not reach",
        "take it off the filter, or buy the premium add-on and write sku = \"premium\"",
        filter_out_of_scope,
    ),
    check(
        "A6.office-on-standard",
        Warning,
        "the route filter names an Office 365 service, which needs the premium add-on and Microsoft's approval",
        "take it off the filter, or write sku = \"premium\" once it is bought",
        |facts| {
            filtered(facts, |circuit, community| circuit.sku != Sku::Premium && regions::is_office(community))
        },
    ),
    check(
        "A6.vnet-out-of-scope",
        Warning,
        "a linked virtual network is in a region that the SKU does not reach",
        "move the link to a circuit that reaches it, or buy the premium add-on",
        vnet_out_of_scope,
    ),
    check(
        "A6.no-region",
        Note,
        "the inventory does not name the circuit's geopolitical region, so the audit does not check its scope",
        "write geopolitical-region in the circuit's inventory",
        |facts| {
            let lacks = |it: &&Circuit| it.sku == Sku::Standard && it.inventory.geopolitical_region.is_none();
            facts.circuits().filter(lacks).map(|it| Place::new(&it.name, "")).collect()
        },
    ),
    check(
        "A6.routes-out-of-scope",
        Warning,
        "routes of a region arrive that the SKU does not reach",
        "correct sku or geopolitical-region to what was bought; Azure's portal shows both",
        routes_out_of_scope,
    )
    .live(),
];

/// The communities of route filters for which something holds.
fn filtered(facts: &Facts<'_>, is_it: impl Fn(&Circuit, Community) -> bool) -> Vec<Place> {
    let mut places = Vec::new();
    for it in facts.peerings() {
        for community in
            it.peering.limits.route_filter.iter().filter(|community| is_it(it.circuit, **community))
        {
            let name = communities::name(*community).map_or(community.to_string(), str::to_owned);
            places.push(Place::new(it.name(), name));
        }
    }
    places
}

/// Whether a circuit's SKU reaches a region of Azure. What the inventory or the tables do not name counts as reached; national clouds are
/// rule H2's.
fn reaches(circuit: &Circuit, region: &str) -> bool {
    let geopolitical = regions::geopolitical_of(region);
    if geopolitical.is_some_and(regions::is_national) {
        return true;
    }
    match circuit.sku {
        Sku::Premium => true,
        Sku::Local => {
            let mut near = circuit.inventory.locations.iter().filter_map(|it| regions::near(it)).peekable();
            near.peek().is_none() || near.any(|regions| regions.contains(&region))
        }
        Sku::Standard => match (circuit.inventory.geopolitical_region, geopolitical) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        },
    }
}

fn filter_out_of_scope(facts: &Facts<'_>) -> Vec<Place> {
    filtered(facts, |circuit, community| {
        regions::region_of(community).is_some_and(|region| !reaches(circuit, region))
    })
}

fn vnet_out_of_scope(facts: &Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for circuit in facts.circuits() {
        for vnet in &circuit.inventory.vnets {
            let Some(region) = vnet.region.as_deref() else { continue };
            if !reaches(circuit, region) {
                places.push(Place::new(&circuit.name, format!("{} in {region}", vnet.name)));
            }
        }
    }
    places
}

fn routes_out_of_scope(facts: &Facts<'_>) -> Vec<Place> {
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    let mut places = Vec::new();
    for (route, prefix) in facts.routes() {
        let Some(circuit) =
            facts.circuits().find(|it| route.domain.split('/').next() == Some(it.name.as_str()))
        else {
            continue;
        };
        let parsed =
            route.communities.iter().filter_map(|text| communities::community(text.split(' ').next()?));
        let out = parsed.filter_map(regions::region_of).find(|region| !reaches(circuit, region));
        let Some(region) = out else { continue };
        // One place for each peering and region, whatever the number of routes.
        if seen.insert((&route.domain, region)) {
            places.push(Place::new(&route.domain, format!("{region}, such as {prefix}")));
        }
    }
    places
}

const A7: &[Check] = &[
    check(
        "A7.vnets",
        Warning,
        "more virtual networks are linked than the circuit may have",
        "link some to another circuit, or buy the premium add-on",
        |facts| {
            let over = facts.config.circuits.iter().filter_map(|it| {
                let (are, most) = (it.inventory.vnets.len(), links::vnets(it.sku, it.bandwidth));
                (are > most).then(|| Place::new(&it.name, format!("{are} of {most}")))
            });
            over.collect()
        },
    ),
    check(
        "A7.circuits-of-vnet",
        Warning,
        "a virtual network is linked to more circuits of one peering location than it may be",
        "unlink some, or use a circuit of another location",
        circuits_of_vnet,
    ),
    check(
        "A7.circuits-of-subscription",
        Warning,
        "a subscription owns more circuits of one geopolitical region than Azure allows by default",
        "ask Microsoft for a higher limit, or use another subscription",
        circuits_of_subscription,
    ),
    check(
        "A7.subscriptions",
        Warning,
        "more subscriptions share the circuit than it has authorizations",
        "move some to another circuit",
        |facts| {
            let over = facts.config.circuits.iter().filter_map(|it| {
                let sharing = it.inventory.subscriptions.len().saturating_sub(1);
                let is_over = sharing > links::SHARING_SUBSCRIPTIONS;
                is_over
                    .then(|| Place::new(&it.name, format!("{sharing} of {}", links::SHARING_SUBSCRIPTIONS)))
            });
            over.collect()
        },
    ),
    check(
        "A7.no-vnets",
        Note,
        "the inventory does not name the linked virtual networks",
        "write vnets in the circuit's inventory",
        |facts| {
            let circuits = facts.config.circuits.iter();
            let private = circuits.filter(|it| it.private.is_some() && it.inventory.vnets.is_empty());
            private.map(|it| Place::new(&it.name, "")).collect()
        },
    ),
    check(
        "A7.no-subscriptions",
        Note,
        "the inventory does not name the circuit's subscriptions",
        "write subscriptions in the circuit's inventory, its owner's first",
        |facts| {
            let circuits = facts.config.circuits.iter();
            let without = circuits.filter(|it| it.inventory.subscriptions.is_empty());
            without.map(|it| Place::new(&it.name, "")).collect()
        },
    ),
];

/// Azure counts circuits that are not in use as well.
fn circuits_of_vnet(facts: &Facts<'_>) -> Vec<Place> {
    let mut counts: Vec<((&str, &str), usize)> = Vec::new();
    for circuit in &facts.config.circuits {
        let Some(location) = circuit.inventory.locations.first() else { continue };
        for vnet in &circuit.inventory.vnets {
            let is_it = |(name, at): (&str, &str)| name == vnet.name && plain(at) == plain(location);
            match counts.iter_mut().find(|(it, _)| is_it(*it)) {
                Some((_, count)) => *count += 1,
                None => counts.push(((&vnet.name, location), 1)),
            }
        }
    }
    let over = counts.into_iter().filter(|(_, count)| *count > links::CIRCUITS_OF_A_VNET);
    over.map(|((vnet, location), count)| {
        Place::new(vnet, format!("{count} of {} in {location}", links::CIRCUITS_OF_A_VNET))
    })
    .collect()
}

fn circuits_of_subscription(facts: &Facts<'_>) -> Vec<Place> {
    let mut counts: Vec<((&str, Option<&str>), usize)> = Vec::new();
    for inventory in facts.config.circuits.iter().map(|it| &it.inventory) {
        let Some(owner) = inventory.subscriptions.first() else { continue };
        let key = (owner.as_str(), inventory.geopolitical_region);
        match counts.iter_mut().find(|(it, _)| *it == key) {
            Some((_, count)) => *count += 1,
            None => counts.push((key, 1)),
        }
    }
    let over = counts.into_iter().filter(|(_, count)| *count > links::CIRCUITS_OF_A_SUBSCRIPTION);
    over.map(|((owner, region), count)| {
        let region = region.unwrap_or("a region that the inventory does not name");
        Place::new(owner, format!("{count} of {} in {region}", links::CIRCUITS_OF_A_SUBSCRIPTION))
    })
    .collect()
}

const A8: &[Check] = &[
    check(
        "A8.not-provisioned",
        Warning,
        "the provider has not provisioned the circuit, so it carries nothing",
        "wait for the provider, then write provisioning = \"provisioned\"",
        |facts| {
            let waits =
                facts.config.circuits.iter().filter(|it| it.provisioning != Provisioning::Provisioned);
            waits.map(|it| Place::new(&it.name, "")).collect()
        },
    ),
    check(
        "A8.disabled",
        Warning,
        "the circuit is disabled, so it carries nothing",
        "write admin = \"enabled\" when it shall carry traffic again",
        |facts| {
            facts.config.circuits.iter().filter(|it| !it.enabled).map(|it| Place::new(&it.name, "")).collect()
        },
    ),
    check(
        "A8.no-service-key",
        Note,
        "the inventory has no service key; the provider identifies the circuit by it",
        "write service-key in the circuit's inventory; ERDP shows only its last four characters",
        |facts| {
            facts
                .circuits()
                .filter(|it| it.inventory.service_key.is_none())
                .map(|it| Place::new(&it.name, ""))
                .collect()
        },
    ),
];
