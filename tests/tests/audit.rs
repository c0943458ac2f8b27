//! `erdp audit` against a running router: a fault of a real peer, of Microsoft's and of the operator's is found, and the finding is gone after the
//! repair. What each check finds is tested without a router, in `erdp-user/src/audit/tests/`.
//!
//! ```text
//!  ce (BIRD) --- edge (erdp) === msee1 (BIRD), primary
//!                            \== msee2 (BIRD), secondary
//! ```

use std::{
    collections::BTreeSet,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::plan,
    small::SmallLab,
};
use serde_json::Value;

/// Within so much a fault is found, and the finding gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// What BIRD announces, and the same from an MSEE that is drained (B7).
const ANNOUNCE: &str = "bgp_med = 0; accept;";

/// The exit code, and the report.
fn audit(edge: &Edge, file: &Path) -> Result<(Option<i32>, Value)> {
    let output = edge.command(&["audit", "--json", "--config", &file.to_string_lossy()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text)
        .with_context(|| format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), report))
}

fn checks(report: &Value) -> BTreeSet<String> {
    let findings = report["findings"].as_array().into_iter().flatten();
    findings.filter_map(|it| it["check"].as_str().map(str::to_owned)).collect()
}

/// Waits until the findings are those of the configuration and these; returns exit code and report.
fn until(edge: &Edge, file: &Path, base: &BTreeSet<String>, live: &[&str]) -> Result<(Option<i32>, Value)> {
    let begin = Instant::now();
    let wanted: BTreeSet<String> =
        base.iter().cloned().chain(live.iter().map(|it| (*it).to_owned())).collect();
    loop {
        let (code, report) = audit(edge, file)?;
        if checks(&report) == wanted {
            println!("  {live:?} after {:.1} s", begin.elapsed().as_secs_f64());
            return Ok((code, report));
        }
        ensure!(begin.elapsed() < PATIENCE, "not {wanted:?}: {report:#}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_fault_of_a_running_router_is_found_and_gone_after_the_repair() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let configuration = edge::configuration();
    let file = lab.folder().join("audited.toml");
    std::fs::write(&file, &configuration)?;
    let edge = lab.edge(&configuration)?;
    let base: &BTreeSet<String> = &[
        "A2.above-link",
        "A3.no-kind",
        "A5.no-billing",
        "A6.no-region",
        "A7.no-subscriptions",
        "A7.no-vnets",
        "A8.no-service-key",
    ]
    .into_iter()
    .chain([
        // The sessions of IPv6 bring nothing in this lab (B3).
        "B1.not-sla-valid",
        "B1a.one-box",
        "B5.no-date",
        "E2.example-addresses",
        "E3.no-key",
        "G.no-metrics",
        "H1.no-bfd",
        "H3.no-location",
    ])
    .map(str::to_owned)
    .collect();
    let (code, report) = until(&edge, &file, base, &[])?;
    ensure!(code == Some(6) && report["live"] == true, "{code:?} {report:#}");

    // Microsoft drains the second link (B7).
    let drain =
        format!("bgp_med = 0; {}accept;", format!("bgp_path.prepend({}); ", plan::MSEE_ASN).repeat(8));
    lab.edit_router("msee2", ANNOUNCE, &drain)?;
    lab.birdc("msee2", &["configure"])?;
    let (code, report) = until(&edge, &file, base, &["B7.draining"])?;
    ensure!(code == Some(6), "{code:?}");
    ensure!(
        report["circuits"][0]["sla_valid"] == false && report["findings"][0]["severity"] == "critical",
        "{report:#}"
    );
    lab.edit_router("msee2", &drain, ANNOUNCE)?;
    lab.birdc("msee2", &["configure"])?;
    until(&edge, &file, base, &[])?;

    // The customer announces nothing: nothing finds back from Azure (D8).
    let route = format!("route {} blackhole;", plan::CUSTOMER_IPV4);
    lab.edit_router("ce", &route, "")?;
    lab.birdc("ce", &["configure"])?;
    until(&edge, &file, base, &["D8.nothing-advertised"])?;
    lab.edit_router(
        "ce",
        "protocol static own_ipv4 { ipv4;",
        &format!("protocol static own_ipv4 {{ ipv4; {route}"),
    )?;
    lab.birdc("ce", &["configure"])?;
    until(&edge, &file, base, &[])?;

    // The file has been changed and not applied (G).
    std::fs::write(&file, format!("drop-samples = 9\n{configuration}"))?;
    until(&edge, &file, base, &["G.another-file"])?;
    std::fs::write(&file, &configuration)?;

    // An operator has a peer out of service (B6).
    edge.ask(&["peering", "disable", plan::CE.ipv6.0])?;
    until(&edge, &file, base, &["B6.out-of-service"])?;
    edge.ask(&["peering", "enable", plan::CE.ipv6.0])?;
    until(&edge, &file, base, &[])?;
    Ok(())
}
