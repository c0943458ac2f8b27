//! A BIRD with graceful restart dies without a word and calls anew while erdp still has its session (RFC 4724 section 4.2): the call is
//! answered at once, the routes stay, and no MSEE hears of a withdrawal. In both families.

use std::{
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

/// BIRD waits for a second before it calls; the rest is the session's.
const BACK: Duration = Duration::from_secs(3);
const CE: &str = "ce";
const MSEE: &str = "msee1";
/// The sessions with the customer's router.
const PEERS: [&str; 2] = [plan::CE.ipv4.0, plan::CE.ipv6.0];

fn field(edge: &Edge, peer: &str, key: &str) -> Result<Value> {
    let rows: Vec<Value> = serde_json::from_str(&edge.show("sessions")?)?;
    let row = rows.iter().find(|row| row["peer"] == peer).context("no such session")?;
    Ok(row[key].clone())
}

fn until(what: &str, patience: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !done()? {
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// How many withdrawals an MSEE has received over both sessions.
fn withdrawals(lab: &SmallLab) -> Result<u64> {
    let shown = lab.birdc(MSEE, &["show", "protocols", "all"])?;
    let counts = shown.lines().filter_map(|line| line.trim().strip_prefix("Import withdraws:"));
    let received = counts.map(|line| line.split_whitespace().next().unwrap_or_default().parse::<u64>());
    received.sum::<Result<u64, _>>().with_context(|| shown.clone())
}

/// Something new for the customer's router in both families, numbered.
fn announce(lab: &SmallLab, number: usize) -> Result<()> {
    lab.edit_router(
        MSEE,
        "protocol static own_ipv4 { ipv4;",
        &format!("protocol static own_ipv4 {{ ipv4; route 198.18.{}.0/24 blackhole;", 200 + number),
    )?;
    lab.edit_router(
        MSEE,
        "protocol static own_ipv6 { ipv6;",
        &format!("protocol static own_ipv6 {{ ipv6; route fd00:0:0:{number}c0::/64 blackhole;"),
    )?;
    lab.birdc(MSEE, &["configure"]).map(drop)
}

fn silent_restart(lab: &mut SmallLab, edge: &Edge, number: usize) -> Result<()> {
    let before: Vec<Value> =
        PEERS.map(|peer| field(edge, peer, "sessions")).into_iter().collect::<Result<_>>()?;
    let withdrawn = withdrawals(lab)?;
    let lost = [plan::CE.ipv4.1, plan::CE.ipv6.1];
    lab.kill_silently(CE, &lost, |lab| announce(lab, number))?;
    for peer in PEERS {
        ensure!(field(edge, peer, "state")? == "Established", "{peer}: erdp has heard of the end");
    }
    lab.start_router(CE, &["-R"])?;
    let begin = Instant::now();
    until("both sessions again", Duration::from_secs(60), || {
        let again = |(peer, before): (&&str, &Value)| {
            Ok(field(edge, peer, "state")? == "Established" && field(edge, peer, "sessions")? != *before)
        };
        PEERS.iter().zip(&before).map(again).collect::<Result<Vec<bool>>>().map(|all| !all.contains(&false))
    })?;
    let took = begin.elapsed();
    println!("  restart {number}: both sessions again {:.1} s after BIRD's start", took.as_secs_f32());
    ensure!(took < BACK, "it took {took:?}:\n{}", edge.table("sessions")?);
    until("all routes told again", Duration::from_secs(20), || {
        let fresh = |peer: &&str| {
            Ok(field(edge, peer, "stale")? == 0
                && (peer.contains(':') || field(edge, peer, "received")? != 0))
        };
        PEERS.iter().map(fresh).collect::<Result<Vec<bool>>>().map(|all| !all.contains(&false))
    })?;
    let now = withdrawals(lab)?;
    ensure!(now == withdrawn, "the MSEE has received {} withdrawals", now - withdrawn);
    let error = field(edge, PEERS[0], "last_error")?;
    ensure!(error.as_str().is_some_and(|it| it.contains("restarted without ending the session")), "{error}");
    Ok(())
}

#[test]
fn rfc4724_4_2_a_silent_restart_costs_no_route_and_no_wait() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut lab = SmallLab::up()?;
    lab.edit_router(CE, "  direct; hold", "  direct; graceful restart on; graceful restart time 60; hold")?;
    lab.edit_router(
        CE,
        "protocol static own_ipv6 { ipv6;",
        &format!("protocol static own_ipv6 {{ ipv6; route {} blackhole;", plan::CUSTOMER_IPV6),
    )?;
    lab.birdc(CE, &["configure"])?;
    let edge = lab.edge(&edge::configuration())?;
    // A session that is a moment old waits for a call to be taken back that crossed it.
    thread::sleep(Duration::from_secs(1));
    silent_restart(&mut lab, &edge, 1)
}
