//! Rules E (BGP), F (quality of service) and G (operations).

use ipnet::IpNet;

use super::{Check, MICROSOFT, Place, Rule, Severity, check};
use crate::{
    audit::facts::SessionRow,
    config::{LinkRole, MICROSOFT_ASN, PeeringKind, is_private_asn},
    rib::communities,
};

use Severity::{Note, Warning};

/// RFC 2544: what examples and laboratories use.
const BENCHMARKS: &str = "198.18.0.0/15";
/// The community of Teams.
const TEAMS: (u16, u16) = (12076, 5030);

/// The rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "E1",
        title: "AS numbers",
        source: "Microsoft, ExpressRoute FAQ (2015) and design module",
        text: "Microsoft is AS 12076. Private AS numbers are fine on private peering, and stripped on Microsoft peering. Azure reserves 65515 to 65520, \
               and refuses the AS numbers of documentation (64496 to 64511) in a path; ERDP refuses all of these with the reason. A peer of another \
               AS than 12076 is a provider's router, behind which the MSEEs are not seen.",
        checks: E1,
        proofs: &["e1_as_numbers_that_expressroute_does_not_take_are_refused_with_the_reason"],
        unseen: None,
    },
    Rule {
        id: "E2",
        title: "Two subnets for each peering; we take the first address, Microsoft the second",
        source: MICROSOFT,
        text: "The primary link uses the first subnet, the secondary link the second. In each subnet ERDP takes the first usable address and \
               Microsoft the second. ERDP derives the addresses from the subnets and refuses overlapping subnets. From received ARP packets it \
               reports swapped links and a neighbour that uses ERDP's address. Examples use 198.18.0.0/15, which RFC 2544 reserves for benchmarks.",
        checks: E2,
        proofs: &["e2_of_each_links_subnet_we_take_the_first_address_and_microsoft_the_second"],
        unseen: None,
    },
    Rule {
        id: "E3",
        title: "A key for the sessions",
        source: MICROSOFT,
        text: "Azure accepts an MD5 key, which it calls the shared key, on both peerings. Without a key, anyone who can send packets on the \
               provider's network can end the BGP sessions. If only one side has a key, the session stays down and neither router sends an error \
               message.",
        checks: E3,
        proofs: &["e3_key_and_gtsm_of_either_side_reach_its_sessions_and_no_others"],
        unseen: Some(
            "a key that only Microsoft has configured: the kernel drops the MSEE's segments before ERDP can read them",
        ),
    },
    Rule {
        id: "E4",
        title: "Communities name regions and services",
        source: "Microsoft, ExpressRoute design module and routing requirements",
        text: "Routes carry 12076:5xxxx for their region and 12076:50xx for their service. The table of names has a date; a community that it does not \
               know is newer, or a mistake.",
        checks: E4,
        proofs: &["e4_every_community_of_the_table_has_one_name_and_is_found_by_it"],
        unseen: None,
    },
    Rule {
        id: "E5",
        title: "Microsoft validates public prefixes and AS numbers",
        source: "Microsoft, ExpressRoute FAQ (2015), cloud connectivity (2019) and documentation",
        text: "A public prefix or AS that Microsoft has not validated keeps the session of Microsoft peering down. The session's explanation says so \
               where the MSEE refuses it.",
        checks: &[check(
            "E5.refused-by-msee",
            Warning,
            "an MSEE ends the session: AS, key or addresses differ, or a prefix or AS waits for validation",
            "compare them with Azure, and look at the validation state of the peering's prefixes",
            |facts| {
                let says = |it: &&SessionRow| it.is_msee() && it.finding_of("E5").is_some();
                facts.sessions().iter().filter(says).map(|it| Place::new(it.place(), "")).collect()
            },
        )
        .live()],
        proofs: &["e5_a_session_that_the_msee_refuses_may_wait_for_microsofts_validation"],
        unseen: None,
    },
    Rule {
        id: "F",
        title: "Classes and DSCP on Microsoft peering",
        source: "Microsoft, ExpressRoute QoS requirements",
        text: "Voice is EF, video AF41, sharing AF21, file transfer AF11. ERDP rewrites every other code to 0 towards Microsoft and protects the classes \
               at its policer. Teams clients that mark nothing are classified by their ports where `classify-ports` is on.",
        checks: F,
        proofs: &["a2_and_f_best_effort_is_dropped_first_and_a_class_above_its_share_with_it"],
        unseen: None,
    },
    Rule {
        id: "G",
        title: "The router is watched, and runs what its file says",
        source: "ERDP",
        text: "Metrics carry Azure's names beside ERDP's, so that graphs of both sides can be compared. A file that was changed and not applied, or an \
               applied configuration that is in no file, is another router after the next start.",
        checks: G,
        proofs: &["a_running_router_has_every_metric_with_azures_names_beside_ours"],
        unseen: None,
    },
];

const E1: &[Check] = &[
    check(
        "E1.private-on-microsoft",
        Warning,
        "our AS is private, and Microsoft strips it from paths on Microsoft peering",
        "use a registered AS",
        |facts| {
            let is_private = is_private_asn(facts.config.asn);
            let peerings = facts.peerings_of(PeeringKind::Microsoft).filter(|_| is_private);
            peerings.map(|it| Place::new(it.name(), facts.config.asn.to_string())).collect()
        },
    ),
    check(
        "E1.not-an-msee",
        Note,
        "the peer is no MSEE but a provider's router, and Microsoft's own sessions are not seen here",
        "leave peer-asn out if the MSEEs are the peers",
        |facts| {
            let others = facts.peerings().filter(|it| it.peering.peer_asn != MICROSOFT_ASN);
            others.map(|it| Place::new(it.name(), it.peering.peer_asn.to_string())).collect()
        },
    ),
];

const E2: &[Check] = &[
    check(
        "E2.example-addresses",
        Note,
        "the subnets are those of examples and laboratories (198.18.0.0/15)",
        "write the subnets that the peering has in Azure",
        |facts| {
            let benchmarks: Option<IpNet> = BENCHMARKS.parse().ok();
            let is_example = |it: &crate::audit::facts::PeeringOf<'_>| {
                let mut subnets =
                    LinkRole::ALL.into_iter().flat_map(|role| it.peering.addresses(role)).map(|it| it.subnet);
                subnets.any(|net| benchmarks.is_some_and(|all| all.contains(&net)))
            };
            facts.peerings().filter(is_example).map(|it| Place::new(it.name(), "")).collect()
        },
    ),
    check(
        "E2.miscabled",
        Warning,
        "ARP or neighbour discovery on a link does not match the link's subnet",
        "compare cables, tags and subnets of both ends",
        |facts| {
            let says =
                facts.sessions().iter().filter_map(|it| Some(Place::new(it.place(), it.finding_of("E2")?)));
            says.collect()
        },
    )
    .live(),
];

const E3: &[Check] = &[check(
    "E3.no-key",
    Note,
    "the sessions of the peering have no key",
    "agree on a shared key in Azure and write md5-file",
    |facts| {
        facts.peerings().filter(|it| it.peering.md5.is_none()).map(|it| Place::new(it.name(), "")).collect()
    },
)];

const E4: &[Check] = &[check(
    "E4.unknown-community",
    Note,
    "the route filter has a community that the table does not know",
    "compare it with Microsoft's list; an update of ERDP brings a newer table",
    |facts| {
        let mut places = Vec::new();
        for it in facts.peerings() {
            let unknown =
                it.peering.limits.route_filter.iter().filter(|value| communities::name(**value).is_none());
            places.extend(unknown.map(|value| Place::new(it.name(), value.to_string())));
        }
        places
    },
)];

const F: &[Check] = &[check(
    "F.teams-unmarked",
    Note,
    "Teams is used over Microsoft peering, and traffic that its clients do not mark has no class",
    "write classify-ports = true, or have the clients mark their traffic",
    |facts| {
        let teams = crate::bgp::Community::new(TEAMS.0, TEAMS.1);
        let unmarked = facts
            .peerings_of(PeeringKind::Microsoft)
            .filter(|it| it.peering.limits.route_filter.contains(&teams) && !it.peering.classify_ports);
        unmarked.map(|it| Place::new(it.name(), "")).collect()
    },
)];

const G: &[Check] = &[
    check(
        "G.no-metrics",
        Note,
        "the router serves no metrics, so monitoring cannot warn the operator before a limit is reached",
        "write metrics = \"127.0.0.1:9179\" and have Prometheus scrape that address",
        |facts| facts.config.metrics.is_none().then(|| Place::new("the router", "")).into_iter().collect(),
    ),
    check(
        "G.another-file",
        Warning,
        "the router runs another configuration than this file",
        "see `erdp config diff FILE`, then apply the file or keep what runs in it",
        |facts| {
            let differs = facts.live.is_some_and(|live| live.runs_the_file == Some(false));
            differs.then(|| Place::new("the router", "")).into_iter().collect()
        },
    )
    .live(),
];
