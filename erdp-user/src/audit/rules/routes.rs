//! Rules D: prefixes and routes.

use super::{Check, Facts, MICROSOFT, Place, Rule, Severity, check};
use crate::{
    audit::facts::LimitRow,
    azure::gateways,
    config::{BitsPerSecond, LinkRole, PeeringKind, WhenTooMany},
    rib::bogons::is_bogon,
};

use Severity::{Critical, Note, Warning};

const FAQ: &str = "Microsoft, ExpressRoute FAQ (2015)";
/// Percent of the limit from which on it is near (rule D1).
const NEAR: u64 = 80;

/// The rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "D1",
        title: "Microsoft accepts a limited number of prefixes",
        source: "Microsoft, ExpressRoute FAQ and limits",
        text: "An MSEE accepts 4,000 IPv4 prefixes on private peering (Premium 10,000), 100 IPv6 ones, and 200 a session on Microsoft peering. Above \
               that it drops the session. ERDP never advertises more: it aggregates or holds prefixes back, the same ones on both links. What is held \
               back has no way back from Azure.",
        checks: D1,
        proofs: &[
            "d1_an_msee_that_counts_never_drops_us_and_both_have_the_same_set_of_the_customers_prefixes",
        ],
        unseen: None,
    },
    Rule {
        id: "D2",
        title: "A peer that announces too much is stopped",
        source: FAQ,
        text: "ERDP ends a customer's session that exceeds its limit with Cease/1 and restarts the session itself. It keeps an MSEE's session and \
               refuses the surplus, because both MSEEs of a circuit announce the same prefixes and ERDP would end both sessions.",
        checks: D2,
        proofs: &["d2_a_customer_above_its_limit_is_ended_by_cease_1_and_comes_back_when_it_is_below"],
        unseen: None,
    },
    Rule {
        id: "D3",
        title: "The longest prefix",
        source: "Microsoft, ExpressRoute FAQ (2015: /29) and documentation (today: /32)",
        text: "Prefixes longer than the peering's `longest-ipv4` and `longest-ipv6` are refused both ways and shown by `erdp show refused`; by \
               default none is too long.",
        checks: &[],
        proofs: &["d3_prefixes_longer_than_the_peering_takes_are_refused_both_ways_and_by_default_none"],
        unseen: None,
    },
    Rule {
        id: "D4",
        title: "No private address on Microsoft peering",
        source: "Microsoft, ExpressRoute FAQ (2015) and documentation",
        text: "Microsoft filters RFC 1918 and the default route on Microsoft peering. ERDP refuses both, both ways, with every other prefix that is \
               not public, and drops packets with a private source there. The peering's own subnets must be public too.",
        checks: D4,
        proofs: &["d4_private_special_and_default_prefixes_are_refused_both_ways_on_microsoft_peering"],
        unseen: None,
    },
    Rule {
        id: "D5",
        title: "A default route to Azure is forced tunnelling",
        source: "Microsoft, ExpressRoute FAQ (2015) and Microsoft cloud connectivity (2019)",
        text: "A default route that the customer advertises on private peering takes all of Azure's Internet traffic over the circuit. Windows \
               machines then no longer reach the activation service (KMS, azkms.core.windows.net: 20.118.99.224, 40.83.235.53, and 23.102.135.246 of \
               older images) unless these addresses are routed to the Internet in Azure (a user-defined route with next hop Internet).",
        checks: D5,
        proofs: &["d5_a_customers_default_route_reaches_an_msee_with_forced_tunnel_only"],
        unseen: None,
    },
    Rule {
        id: "D6",
        title: "Microsoft peering announces nothing without a route filter",
        source: "Microsoft, ExpressRoute design module",
        text: "Until a route filter is attached to Microsoft peering in Azure the sessions are up and bring no route. A filter here as well keeps out \
               what is added there by mistake.",
        checks: D6,
        proofs: &["d6_up_without_a_route_asks_for_the_route_filter_of_microsoft_peering"],
        unseen: None,
    },
    Rule {
        id: "D7",
        title: "Not every service is reachable over the circuit",
        source: "Microsoft, ExpressRoute FAQ (2015) and Microsoft cloud connectivity (2019)",
        text: "Content delivery, DNS, certificate revocation lists, Intune and others keep the Internet path. A default route over the circuit would \
               lead the customer's traffic to them into it, where nothing answers.",
        checks: D7,
        proofs: &[
            "d7_a_default_route_over_the_circuit_is_warned_about_because_not_all_services_are_reachable_there",
        ],
        unseen: None,
    },
    Rule {
        id: "D8",
        title: "Every source needs a way back",
        source: FAQ,
        text: "A missing return route is the usual reason why connections from Azure fail: the customer's prefix is not advertised to the MSEEs. \
               `erdp ask` says it for one packet.",
        checks: D8,
        proofs: &["d8_a_source_that_no_msee_has_been_told_of_lacks_a_return_route"],
        unseen: Some(
            "sources of live traffic that are not covered: the packet path takes no samples of what it forwards",
        ),
    },
    Rule {
        id: "D9",
        title: "No transit",
        source: MICROSOFT,
        text: "Nothing that one MSEE announces is advertised to another, and customers' routers are not connected with each other over the circuit.",
        checks: &[],
        proofs: &["d9_nothing_crosses_from_microsoft_to_microsoft_or_from_customer_to_customer"],
        unseen: Some(
            "a public prefix that is announced over the Internet too: the Internet's routes are not here",
        ),
    },
    Rule {
        id: "D10",
        title: "The gateway limits a virtual network, whatever the circuit",
        source: FAQ,
        text: "A virtual network gets what its ExpressRoute gateway carries. With a circuit of more bandwidth its rate stays flat below the \
               circuit's, and no policer drops anything.",
        checks: D10,
        proofs: &[],
        unseen: Some("a plateau of the measured rate: the audit looks at one moment"),
    },
];

const D1: &[Check] = &[
    check(
        "D1.held-back",
        Critical,
        "ERDP holds prefixes back because Microsoft accepts no more; Azure has no route back to them",
        "announce larger prefixes, write when-full = \"aggregate\", or buy the premium add-on",
        |facts| limits(facts, |row| row.held > 0, |row| format!("{} of {}", row.held, row.wanted)),
    )
    .live(),
    check(
        "D1.near-limit",
        Warning,
        "the number of prefixes is near what Microsoft accepts",
        "announce larger prefixes before the number reaches the limit, or write when-full = \"aggregate\"",
        |facts| {
            let is_near = |row: &LimitRow| row.held == 0 && row.percent >= NEAR;
            limits(facts, is_near, |row| format!("{} of {}", row.wanted, row.limit))
        },
    )
    .live(),
];

fn limits(facts: &Facts<'_>, is_it: fn(&LimitRow) -> bool, what: fn(&LimitRow) -> String) -> Vec<Place> {
    let rows = facts.live.into_iter().flat_map(|live| &live.limits);
    rows.filter(|row| is_it(row)).map(|row| Place::new(row.place(), what(row))).collect()
}

const D2: &[Check] = &[
    check(
        "D2.cease-on-msee",
        Warning,
        "ERDP would end the sessions of both MSEEs, because both announce the same prefixes",
        "write when-too-many = \"refuse\", or leave max-prefixes out",
        |facts| {
            let ends = facts.peerings().filter(|it| it.peering.options.when_too_many == WhenTooMany::Cease);
            ends.map(|it| Place::new(it.name(), "")).collect()
        },
    ),
    check(
        "D2.surplus",
        Warning,
        "a peer announces more than it may, and the surplus is refused",
        "see `erdp show refused`, and raise its limit or find out why it announces so much",
        |facts| {
            let over = facts.sessions().iter().filter(|it| it.surplus > 0);
            over.map(|it| Place::new(it.place(), format!("{} prefixes", it.surplus))).collect()
        },
    )
    .live(),
];

const D4: &[Check] = &[check(
    "D4.private-subnet",
    Warning,
    "a subnet of Microsoft peering is not public, and Microsoft does not set the peering up on it",
    "use public addresses that are registered to you or to your provider",
    |facts| {
        let mut places = Vec::new();
        for it in facts.peerings_of(PeeringKind::Microsoft) {
            let subnets =
                LinkRole::ALL.into_iter().flat_map(|role| it.peering.addresses(role)).map(|link| link.subnet);
            places.extend(
                subnets.filter(|net| is_bogon(*net)).map(|net| Place::new(it.name(), net.to_string())),
            );
        }
        places
    },
)];

const D5: &[Check] = &[check(
    "D5.forced-tunnel",
    Warning,
    "the customer may advertise a default route, which takes all of Azure's traffic and breaks KMS activation",
    "leave forced-tunnel out, or route the KMS addresses to the Internet in Azure",
    |facts| {
        facts.peerings().filter(|it| it.peering.forced_tunnel).map(|it| Place::new(it.name(), "")).collect()
    },
)];

const D6: &[Check] = &[
    check(
        "D6.no-filter",
        Note,
        "Microsoft peering has no route filter here, so every route is accepted that Azure's filter lets through",
        "write route-filter with the regions and services that are used",
        |facts| {
            let open = facts
                .peerings_of(PeeringKind::Microsoft)
                .filter(|it| it.peering.limits.route_filter.is_empty());
            open.map(|it| Place::new(it.name(), "")).collect()
        },
    ),
    check(
        "D6.no-routes",
        Warning,
        "a session of Microsoft peering is up and the MSEE announces no route",
        "attach a route filter to the circuit in Azure",
        |facts| {
            let empty =
                facts.msee_sessions().filter(|it| it.domain().ends_with("/microsoft") && it.received == 0);
            empty.map(|it| Place::new(it.place(), "")).collect()
        },
    )
    .live(),
];

const D7: &[Check] = &[check(
    "D7.default-from-microsoft",
    Warning,
    "a default route leads into the circuit, and services that are not reachable there lose their Internet path",
    "find out who announces it in Azure; refuse it, or see that the customer's routers prefer their Internet default",
    |facts| {
        let leads = |via: &[String], domain: &str| via.iter().any(|it| it.starts_with(&format!("{domain} ")));
        let defaults = facts.routes().filter(|(_, prefix)| prefix.prefix_len() == 0);
        let into = defaults.filter(|(route, _)| leads(&route.via, &route.domain));
        into.map(|(route, prefix)| Place::new(&route.domain, prefix.to_string())).collect()
    },
).live()];

const D8: &[Check] = &[check(
    "D8.nothing-advertised",
    Critical,
    "ERDP advertises no prefix to an MSEE, so Azure has no return route over this session",
    "see that the customer's routers announce their prefixes; `erdp show refused` names what is refused",
    |facts| {
        let empty =
            facts.msee_sessions().filter(|it| it.is_wanted() && it.received > 0 && it.advertised == 0);
        empty.map(|it| Place::new(it.place(), "")).collect()
    },
)
.live()];

const D10: &[Check] = &[
    check(
        "D10.gateway-below-circuit",
        Warning,
        "the gateway of a virtual network carries less than the circuit's bandwidth",
        "use a larger gateway SKU, or expect no more than this for that virtual network",
        |facts| {
            let mut places = Vec::new();
            for circuit in facts.circuits() {
                for vnet in &circuit.inventory.vnets {
                    let Some(gateway) = vnet.gateway_sku.and_then(gateways::find) else { continue };
                    let most = BitsPerSecond(gateway.mbps * 1_000_000);
                    if most < circuit.bandwidth {
                        let what =
                            format!("{} with {} ({most} of {})", vnet.name, gateway.name, circuit.bandwidth);
                        places.push(Place::new(&circuit.name, what));
                    }
                }
            }
            places
        },
    ),
    check(
        "D10.no-gateway",
        Note,
        "the inventory does not name the gateway SKU of a linked virtual network",
        "write gateway-sku beside the virtual network in the inventory",
        |facts| {
            let mut places = Vec::new();
            for circuit in facts.circuits() {
                let unknown = circuit.inventory.vnets.iter().filter(|vnet| vnet.gateway_sku.is_none());
                places.extend(unknown.map(|vnet| Place::new(&circuit.name, &vnet.name)));
            }
            places
        },
    ),
];
