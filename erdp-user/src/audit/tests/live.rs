//! Answers of a running router: a good one breaks nothing, each edit of it exactly what its row says.

use serde_json::{Value, json};

use super::{GOOD, names, parsed};
use crate::audit::{
    Facts, Finding, Live,
    facts::{RefusedRow, rows},
    findings,
};

/// A session as `erdp show sessions --json` has it, with fields that the audit does not know.
fn session(side: &str, attachment: &str, peer: &str, advertised: u64) -> Value {
    json!({
        "peer": peer, "asn": 12076, "side": side, "state": "Established", "admin": "enabled", "bfd": "Up", "received": 5, "refused": 0,
        "advertised": advertised, "stale": 0, "draining": 0, "surplus": 0, "attachment": attachment, "finding": null,
    })
}

fn route(domain: &str, prefix: &str, via: &str, community: &str) -> Value {
    json!({"domain": domain, "prefix": prefix, "via": [via], "communities": [community], "source": "bgp", "draining": false})
}

/// What the router of the good configuration answers; both links of `contoso` are here, so that they can be compared.
fn good() -> Live {
    let sessions = json!([
        session("msee", "contoso/private primary", "10.255.0.2", 4),
        session("msee", "contoso/private secondary", "10.255.0.6", 4),
        session("msee", "contoso/microsoft primary", "131.107.0.2", 1),
        session("ce", "ce0", "10.254.0.2", 9),
        session("service", "vpn0", "10.254.0.10", 9),
    ]);
    let routes = json!([
        route(
            "contoso/private",
            "10.1.0.0/16",
            "contoso/private primary",
            "12076:50002 (West Europe private)"
        ),
        route("contoso/private", "10.9.1.0/24", "vpn0", "65515:1"),
        route("contoso/microsoft", "13.69.0.0/17", "contoso/microsoft primary", "12076:51002 (West Europe)"),
        route(
            "fabrikam/private",
            "10.2.0.0/16",
            "fabrikam/private primary",
            "12076:50003 (North Europe private)"
        ),
    ]);
    let limits = json!([{"domain": "contoso/private", "family": "ipv4", "wanted": 4, "told": 4, "held": 0, "limit": 4000}]);
    let circuits = ["contoso", "fabrikam"]
        .map(|it| json!({"circuit": it, "sla_valid": true, "why": "both links carry traffic"}));
    Live {
        circuits: rows("circuits", json!(circuits)).unwrap(),
        sessions: rows("sessions", sessions).unwrap(),
        links: rows("links", json!([{"link": "contoso primary", "eligible": true, "why_not": null}]))
            .unwrap(),
        limits: rows("limits", limits).unwrap(),
        routes: rows("routes", routes).unwrap(),
        refused: Vec::new(),
        runs_the_file: Some(true),
    }
}

fn about(edit: impl FnOnce(&mut Live)) -> Vec<Finding> {
    let text = GOOD.replace("gateway-subnet", "vpn-gateway = \"20.1.2.3\", gateway-subnet");
    let (config, mut live) = (parsed(&text), good());
    edit(&mut live);
    findings(&Facts { config: &config, live: Some(&live) })
}

fn more(live: &mut Live, added: Value) {
    live.routes.extend(rows("routes", json!([added])).unwrap());
}

/// What an edit breaks.
type Row = (&'static str, fn(&mut Live));

const ROWS: &[Row] = &[
    ("A6.routes-out-of-scope", |live| {
        more(
            live,
            route(
                "fabrikam/private",
                "10.77.0.0/16",
                "fabrikam/private primary",
                "12076:50012 (Japan East private)",
            ),
        );
        more(
            live,
            route(
                "fabrikam/private",
                "10.78.0.0/16",
                "fabrikam/private primary",
                "12076:50012 (Japan East private)",
            ),
        );
    }),
    ("B1.not-sla-valid", |live| live.circuits[0].sla_valid = false),
    ("B3.session-down", |live| live.sessions[0].state = "Active".into()),
    ("B5.bfd-down", |live| live.sessions[0].bfd = Some("Down".into())),
    ("B6.out-of-service", |live| live.sessions[0].admin = "disabled: rack 7".into()),
    ("B7.draining", |live| live.sessions[0].draining = 5),
    ("B8.more-specific", |live| more(live, route("contoso/private", "10.1.4.0/24", "vpn0", ""))),
    ("B8.gateway-over-microsoft", |live| {
        more(
            live,
            route(
                "contoso/microsoft",
                "20.0.0.0/11",
                "contoso/microsoft primary",
                "12076:51002 (West Europe)",
            ),
        );
    }),
    ("B9.announced-in-clear", |live| {
        let prefix = "10.9.1.0/24".parse().ok();
        live.refused.push(RefusedRow { peer: Some("10.254.0.2".into()), prefix, rule: Some("B9".into()) });
    }),
    ("B11.advertised-differ", |live| live.sessions[1].advertised = 3),
    ("D1.held-back", |live| (live.limits[0].wanted, live.limits[0].held) = (4_100, 100)),
    ("D1.near-limit", |live| live.limits[0].wanted = 3_200),
    ("D2.surplus", |live| live.sessions[3].surplus = 12),
    ("D6.no-routes", |live| live.sessions[2].received = 0),
    ("D7.default-from-microsoft", |live| {
        more(live, route("contoso/private", "0.0.0.0/0", "contoso/private primary", ""))
    }),
    ("D8.nothing-advertised", |live| live.sessions[2].advertised = 0),
    ("E2.miscabled", |live| {
        live.sessions[0].finding = Some("are primary and secondary swapped, or the cables? (E2)".into())
    }),
    ("E5.refused-by-msee", |live| {
        live.sessions[2].finding = Some("the MSEE refuses: compare AS (E5)".into())
    }),
    ("G.another-file", |live| live.runs_the_file = Some(false)),
];

#[test]
fn the_answers_of_a_good_router_break_nothing() {
    let found = about(|_| ());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn each_fault_of_a_running_router_is_found_and_nothing_else() {
    for (expected, edit) in ROWS {
        let found = about(edit);
        assert_eq!(names(&found), [*expected], "{found:#?}");
        assert_eq!(found.len(), 1, "{found:#?}");
    }
    println!("{} faults of a running router", ROWS.len());
}

#[test]
fn answers_of_another_version_are_read_and_what_is_no_answer_is_named() {
    let sparse: Vec<crate::audit::facts::SessionRow> =
        rows("sessions", json!([{"peer": "10.0.0.1", "newer": {}}])).unwrap();
    assert!(sparse[0].is_wanted() && !sparse[0].is_up());
    let error = rows::<RefusedRow>("refused", json!("no")).unwrap_err();
    assert!(error.contains("erdp show refused"), "{error}");
}

/// The checks that rows above break.
pub(super) fn covered() -> Vec<&'static str> {
    ROWS.iter().map(|(expected, _)| *expected).collect()
}
