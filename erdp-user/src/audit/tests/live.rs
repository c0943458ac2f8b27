//! Answers of a running router: a good one breaks nothing, each edit of it exactly what its row says.

use serde_json::{Value, json};

use super::{GOOD, edited, names, parsed};
use crate::{
    audit::{
        Facts, Finding, Live, Severity,
        facts::{LimitRow, RefusedRow, is_unchanged, rows},
        findings,
    },
    config::Plan,
};

/// A session as `erdp show sessions --json` has it, with fields that the audit does not know.
fn session(side: &str, attachment: &str, peer: &str, advertised: u64) -> Value {
    json!({
        "peer": peer, "asn": 12076, "side": side, "state": "Established", "admin": "enabled", "bfd": "Up", "received": 5, "refused": 0,
        "advertised": advertised, "stale": 0, "draining": 0, "surplus": 0, "attachment": attachment, "finding": null, "rule": null,
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
    let limits = json!([
        {"domain": "contoso/private", "family": "ipv4-unicast", "wanted": 4, "told": 4, "held": 0, "limit": 4000, "percent": 0}
    ]);
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
    about_with(&[("gateway-subnet", "vpn-gateway = \"20.1.2.3\", gateway-subnet")], edit)
}

/// The same with edits of the configuration.
fn about_with(edits: &[(&str, &str)], edit: impl FnOnce(&mut Live)) -> Vec<Finding> {
    let (config, mut live) = (parsed(&edited(&GOOD, edits)), good());
    edit(&mut live);
    findings(&Facts { config: &config, live: Some(&live), azure: None })
}

fn more(live: &mut Live, added: Value) {
    live.routes.extend(rows("routes", json!([added])).unwrap());
}

fn refuse(live: &mut Live, prefix: &str) {
    let (peer, prefix) = (Some("10.254.0.2".into()), prefix.parse().ok());
    live.refused.push(RefusedRow { peer, prefix, rule: Some("B9".into()) });
}

/// The router finds something about a session.
fn say(live: &mut Live, session: usize, rule: &str, text: &str) {
    let session = &mut live.sessions[session];
    (session.rule, session.finding) = (Some(rule.into()), Some(text.into()));
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
    ("B8.more-specific", |live| {
        more(live, route("contoso/private", "10.1.4.0/24", "vpn0", ""));
        more(live, route("contoso/private", "10.1.5.0/24", "vpn0", ""));
    }),
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
        refuse(live, "10.9.1.0/24");
        refuse(live, "10.9.2.0/24");
    }),
    ("B11.advertised-differ", |live| live.sessions[1].advertised = 3),
    ("D1.held-back", |live| (live.limits[0].wanted, live.limits[0].held) = (4_100, 100)),
    ("D1.near-limit", |live| (live.limits[0].wanted, live.limits[0].percent) = (3_200, 80)),
    ("D2.surplus", |live| live.sessions[3].surplus = 12),
    ("D6.no-routes", |live| live.sessions[2].received = 0),
    ("D7.default-from-microsoft", |live| {
        more(live, route("contoso/private", "0.0.0.0/0", "contoso/private primary", ""))
    }),
    ("D8.nothing-advertised", |live| live.sessions[2].advertised = 0),
    ("E2.miscabled", |live| say(live, 0, "E2", "are primary and secondary swapped, or the cables? (E2)")),
    ("E2.miscabled", |live| {
        say(live, 0, "E2", "duplicate address: 02:00:00:00:00:09 uses our 10.255.0.1 too")
    }),
    ("E5.refused-by-msee", |live| say(live, 2, "E5", "the MSEE refuses: compare AS (E5)")),
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
fn many_routes_of_a_kind_are_one_finding_with_their_number_and_an_example() {
    let said = |name: &str| {
        let (_, edit) = ROWS.iter().find(|(check, _)| *check == name).unwrap();
        about(edit).remove(0).sentence
    };
    let specific = said("B8.more-specific");
    assert!(
        specific.ends_with("2 prefixes, such as 10.1.4.0/24, inside 10.1.0.0/16 through vpn0"),
        "{specific}"
    );
    let clear = said("B9.announced-in-clear");
    assert!(clear.ends_with("2 prefixes, such as 10.9.1.0/24"), "{clear}");
    let one = about(|live| refuse(live, "10.9.1.0/24")).remove(0);
    assert!(one.sentence.ends_with("encrypted: 10.9.1.0/24") && one.severity == Severity::Warning, "{one:?}");
}

#[test]
fn a6_routes_over_a_local_circuit_come_from_the_regions_near_it() {
    let local = [("sku = \"premium\"", "sku = \"local\""), ("\"metered\"", "\"unlimited\"")];
    assert_eq!(names(&about_with(&local, |_| ())), Vec::<&str>::new());
    let primary = "contoso/private primary";
    let far = |live: &mut Live| {
        more(live, route("contoso/private", "10.77.0.0/16", primary, "12076:50003 (North Europe private)"));
    };
    assert_eq!(names(&about_with(&local, far)), ["A6.routes-out-of-scope"]);
}

#[test]
fn a8_a_circuit_that_is_not_in_use_is_one_finding_whatever_its_sessions_are() {
    let disabled = [("name = \"fabrikam\"", "name = \"fabrikam\"\nadmin = \"disabled\"")];
    let off = |live: &mut Live| {
        let sessions = [
            session("msee", "fabrikam/private primary", "10.255.0.10", 0),
            session("box", "box0.3", "10.254.0.22", 0),
        ];
        let mut sessions: Vec<_> = rows("sessions", json!(sessions)).unwrap();
        sessions.iter_mut().for_each(|it: &mut crate::audit::facts::SessionRow| {
            (it.state, it.admin) =
                ("Idle".into(), "disabled: the circuit is disabled or not provisioned (A8)".into());
            (it.bfd, it.received) = (None, 0);
        });
        live.sessions.extend(sessions);
        live.routes.pop();
        live.circuits[1].sla_valid = false;
    };
    assert_eq!(names(&about_with(&disabled, off)), ["A8.disabled", "H3.standard"]);
}

#[test]
fn d1_each_family_has_a_limit_and_a_place_of_its_own() {
    let found = about(|live| {
        live.limits.push(LimitRow { family: "ipv6-unicast".into(), percent: 95, ..live.limits[0].clone() });
        (live.limits[0].wanted, live.limits[0].percent) = (u64::MAX, 100);
    });
    let places: Vec<&str> = found.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(places, ["contoso/private ipv4-unicast", "contoso/private ipv6-unicast"]);
}

#[test]
fn g_a_file_with_another_key_is_another_file_although_no_key_is_shown() {
    let config = parsed(&GOOD);
    let answer = |edits: &[(&str, &str)]| {
        let plan = Plan::between(&config, &parsed(&edited(&GOOD, edits)));
        let answer = json!({"plan": plan, "warnings": []});
        assert!(!answer.to_string().contains("hunter"), "{answer}");
        is_unchanged(&answer)
    };
    assert!(answer(&[]));
    for edit in [
        ("md5 = \"hunter2\"", "md5 = \"hunter3\""),
        ("service-key = \"0f8fad5b-", "service-key = \"1f8fad5b-"),
        ("vlan = 100", "vlan = 101"),
        ("\"0.025 EUR\"", "\"0.026 EUR\""),
    ] {
        assert!(!answer(&[edit]), "{edit:?}");
    }
    assert!(!is_unchanged(&json!({})));
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
