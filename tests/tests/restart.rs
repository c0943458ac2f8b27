//! The controller is killed, restarted and replaced while numbered packets flow: none of them is lost, nothing that was counted is
//! forgotten. FRR and BIRD help by graceful restart after the kill, and need not for the rest.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp_tests::{
    checks::converge,
    edge::{self, Edge, Explanation},
    lab::{Ground, Lab, bird, cleanup, frr, plan},
    run::{self, Running},
    seen::Seen,
    traffic::{counts::xdp_mode, probe::Probe},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Datagrams a second of the probe beside a crash.
const RATE: u32 = 5_000;
/// Beside a planned restart; with `cargo xtask test --full` [`PLANNED_RATE_FULL`].
const PLANNED_RATE: u32 = 5_000;
const PLANNED_RATE_FULL: u32 = 50_000;
const FLOW: u16 = 41_000;

/// Waits until the daemon's log says `text`; colours and signs between words do not count.
fn until_logged(edge: &mut Edge, text: &str, patience: Duration) -> Result<Duration> {
    let begin = Instant::now();
    while !fs::read_to_string(edge.process().log())?.contains(text) {
        edge.must_run()?;
        if begin.elapsed() > patience {
            bail!("`{text}` was not logged within {patience:?}:\n{}", edge.process().tail(20));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(begin.elapsed())
}

#[test]
fn a_killed_controller_forwards_on_and_the_next_one_takes_over_without_a_loss() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut tell = run::teller();
    let Running { mut edge, mut lab } = run::up(Ground::Veth, &mut tell)?;
    converge::wait(&mut lab, &mut edge, &mut tell)?;
    let before = edge.counters()?;
    let probe = Probe::start_at(&lab, false, FLOW, RATE)?;
    thread::sleep(Duration::from_secs(1));

    edge.process().signal(Signal::SIGKILL)?;
    edge.process().wait(Duration::from_secs(5))?;
    let mode = xdp_mode(lab.namespace("edge")?, plan::CE.far.1)?;
    ensure!(mode == "native", "after SIGKILL the program on {} is {mode}", plan::CE.far.1);
    thread::sleep(Duration::from_secs(2));
    drop(edge);
    let mut edge = Edge::start(&lab)?;
    let waited = until_logged(&mut edge, "forwarding taken over", Duration::from_secs(60))?;
    tell(&format!("forwarding taken over {waited:?} after the start"));
    converge::wait(&mut lab, &mut edge, &mut tell)?;
    thread::sleep(Duration::from_secs(1));
    let report = probe.stop()?;
    tell(&format!("SIGKILL, 2 s without a controller, restart: {report:?}"));
    ensure!(report.lost == 0 && report.sent > u64::from(RATE) * 4, "{report:?}");
    let after = edge.counters()?;
    let counted = after.tx.packets - before.tx.packets;
    ensure!(counted >= report.received, "{counted} packets counted, {} went through", report.received);
    ensure!(after.unexplained() == 0, "{} packets unexplained", after.unexplained());

    // The end for good leaves nothing.
    let name = format!("{}-edge", lab.name());
    let own = || cleanup::pins().into_iter().find(|(_, owner)| *owner == name);
    ensure!(own().is_some(), "nothing is pinned");
    edge.process().signal(Signal::SIGTERM)?;
    let ended = edge.process().wait(Duration::from_secs(10))?;
    ensure!(ended.success(), "{ended}:\n{}", edge.process().tail(20));
    ensure!(own().is_none(), "pins stay: {:?}", own());
    let mode = xdp_mode(lab.namespace("edge")?, plan::CE.far.1)?;
    ensure!(mode == "none", "after SIGTERM the program on {} is {mode}", plan::CE.far.1);
    Ok(())
}

/// What the peers say of their sessions with the edge, BIRD with the time of the last change, FRR with how often one came and went.
fn sessions_of_peers(lab: &Lab) -> Result<Vec<Seen>> {
    let mut said = Vec::new();
    for namespace in ["ce", "msee2"] {
        let lines = bird::ask(lab, namespace, &["show", "protocols"])?;
        let of_edge = lines.lines().filter(|line| line.starts_with("edge"));
        said.extend(of_edge.map(|line| Seen::by_bird(namespace, line)));
    }
    for address in [plan::PRIMARY.ipv4.0, plan::PRIMARY.ipv6.0] {
        let json = frr::ask(lab, "msee1", &format!("show bgp neighbors {address} json"))?;
        let value: serde_json::Value = serde_json::from_str(&json).context("FRR's JSON")?;
        let of = |key: &str| value[address][key].clone();
        let what = format!(
            "FRR msee1: {address} {} established {} dropped {}",
            of("bgpState"),
            of("connectionsEstablished"),
            of("connectionsDropped"),
        );
        said.push(Seen { what, since_ms: 0 });
    }
    ensure!(said.len() == 6 && said.iter().all(|seen| seen.what.contains("Established")), "{said:?}");
    Ok(said)
}

/// Another process takes over under load, with these options: nothing is lost, no session changes.
fn planned(lab: &mut Lab, mut edge: Edge, words: &[&str], tell: &mut dyn FnMut(&str)) -> Result<Edge> {
    let sessions = sessions_of_peers(lab)?;
    let counters = edge.counters()?;
    let rate = if edge::is_full() { PLANNED_RATE_FULL } else { PLANNED_RATE };
    let probe = Probe::start_at(lab, false, FLOW, rate)?;
    let began = Instant::now();
    thread::sleep(Duration::from_secs(1));
    let mut next = edge.successor(lab.namespace("edge")?, lab.folder(), words)?;
    let waited = until_logged(&mut next, "running peers", Duration::from_secs(60))?;
    let mut last = counters.rx.packets;
    let mut seen = 0;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        let now = next.counters()?.rx.packets;
        ensure!(now >= last, "the counter went from {last} to {now}");
        (last, seen) = (now, seen + 1);
    }
    let ended = edge.process().wait(Duration::from_secs(5))?;
    ensure!(ended.success(), "the old process ended with {ended}:\n{}", edge.process().tail(20));
    let seconds = began.elapsed().as_secs_f64();
    let report = probe.stop()?;
    tell(&format!(
        "taken over within {waited:?} of its start {words:?}; counters read {seen} times; {:.0} packets/s of {rate}: {report:?}",
        report.sent as f64 / seconds,
    ));
    ensure!(report.lost == 0 && report.sent > u64::from(rate), "{report:?}\n{}", next.process().tail(20));
    let after = sessions_of_peers(lab)?;
    let is_unchanged = sessions.iter().zip(&after).all(|(before, after)| before.is(after));
    ensure!(is_unchanged, "sessions before and after: {sessions:#?} {after:#?}");
    sessions.iter().for_each(|seen| tell(&format!("unchanged: {}", seen.what)));
    converge::wait(lab, &mut next, tell)?;
    let unexplained = next.counters()?.unexplained();
    ensure!(unexplained == 0, "{unexplained} packets unexplained");
    Ok(next)
}

#[test]
fn routes_of_a_peer_that_is_late_stay_until_it_has_sent_them() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let delay = Duration::from_secs(if edge::is_full() { 60 } else { 8 });
    let mut tell = run::teller();
    let Running { mut edge, mut lab } = run::up(Ground::Veth, &mut tell)?;
    converge::wait(&mut lab, &mut edge, &mut tell)?;
    let late = late_peer(&lab)?;
    let probe = Probe::start_at(&lab, false, FLOW, RATE)?;
    // Another flow, so that both links are likely to be used.
    let other = Probe::start_at(&lab, true, FLOW + 1, RATE)?;
    thread::sleep(Duration::from_millis(500));
    kill(late, Signal::SIGSTOP)?;
    edge.process().signal(Signal::SIGKILL)?;
    edge.process().wait(Duration::from_secs(5))?;
    drop(edge);
    let mut edge = Edge::start(&lab)?;
    until_logged(&mut edge, "running", Duration::from_secs(30))?;
    thread::sleep(delay);
    let log = fs::read_to_string(edge.process().log())?;
    ensure!(log.contains("adopted routes stay") && !log.contains("forwarding taken over"), "{log}");
    let asked = explained(&edge)?;
    ensure!(asked.adopted.as_ref().is_some_and(|it| it.contains("secondary")), "explain: {asked:?}");
    let mut probes = Some((probe, other));
    let mut reports = Vec::new();
    // A router that was stopped for longer than its hold time drops its other sessions when it goes on, and traffic with them.
    if edge::is_full() {
        reports.extend(probes.take().map(|(one, other)| [one.stop(), other.stop()]).into_iter().flatten());
    }
    kill(late, Signal::SIGCONT)?;
    let waited = until_logged(&mut edge, "forwarding taken over", Duration::from_secs(60))?;
    thread::sleep(Duration::from_millis(500));
    reports.extend(probes.take().map(|(one, other)| [one.stop(), other.stop()]).into_iter().flatten());
    let reports = reports.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(reports.len() == 2, "{reports:?}");
    tell(&format!("a peer was silent for {delay:?}, taken over {waited:?} after it spoke: {reports:?}"));
    ensure!(reports.iter().all(|report| report.lost == 0 && report.received > 0), "{reports:?}");
    converge::wait(&mut lab, &mut edge, &mut tell).map(drop)
}

/// BIRD of the secondary MSEE.
fn late_peer(lab: &Lab) -> Result<Pid> {
    let late = lab.processes().into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("/msee2/bird.conf"))
    });
    Ok(Pid::from_raw(late.context("the secondary MSEE's BIRD")?.cast_signed()))
}

/// What `erdp explain` says of a packet from the customer to the cloud.
fn explained(edge: &Edge) -> Result<Explanation> {
    edge.explain(plan::CE.far.1, &[plan::AZURE_IPV4.parse()?])?.pop().context("an answer")
}

#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn while_the_program_before_forwards_explain_asks_it_and_neighbours_follow() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut tell = run::teller();
    let Running { mut edge, mut lab } = run::up(Ground::Veth, &mut tell)?;
    converge::wait(&mut lab, &mut edge, &mut tell)?;
    let before = explained(&edge)?;
    ensure!(before.adopted.is_none() && before.members.len() == 2, "{before:?}");
    let late = late_peer(&lab)?;
    kill(late, Signal::SIGSTOP)?;
    for crash in 0..2 {
        edge.process().signal(Signal::SIGKILL)?;
        edge.process().wait(Duration::from_secs(5))?;
        drop(edge);
        edge = Edge::start(&lab)?;
        until_logged(&mut edge, "running", Duration::from_secs(30))?;
        let while_waiting = explained(&edge)?;
        tell(&format!("after crash {crash}: {while_waiting:?}"));
        ensure!(
            while_waiting.adopted.as_ref().is_some_and(|it| it.contains("secondary")),
            "{while_waiting:?}"
        );
        ensure!(Explanation { adopted: None, ..while_waiting } == before, "the same, but for the wait");
        thread::sleep(Duration::from_secs(3));
    }
    let log = fs::read_to_string(edge.process().log())?;
    ensure!(
        !log.contains("lost_s=0 ") && log.contains("lost_s="),
        "the second crash began the wait anew: {log}"
    );

    // The kernel learns of another MAC address; an old record by the old one would name no neighbour that is known.
    let change = format!(
        "neigh replace {} lladdr 02:00:00:00:00:99 dev {}",
        plan::PRIMARY.ipv4.1,
        plan::PRIMARY.near.1
    );
    lab.namespace("edge")?.ip(&change)?;
    let deadline = Instant::now() + Duration::from_secs(2);
    while explained(&edge)?.members != before.members {
        ensure!(Instant::now() < deadline, "{:?}", explained(&edge)?);
        thread::sleep(Duration::from_millis(50));
    }
    kill(late, Signal::SIGCONT)?;
    until_logged(&mut edge, "forwarding taken over", Duration::from_secs(60))?;
    ensure!(explained(&edge)?.adopted.is_none(), "the wait is over");
    Ok(())
}

#[test]
fn a_planned_restart_and_an_upgrade_lose_nothing_and_no_session_changes() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut tell = run::teller();
    let Running { mut edge, mut lab } = run::up(Ground::Veth, &mut tell)?;
    converge::wait(&mut lab, &mut edge, &mut tell)?;
    let rehearsed = lab
        .namespace("edge")?
        .exec(
            &edge::binary()?.to_string_lossy(),
            &[
                "upgrade",
                "--check",
                "--config",
                &lab.folder().join("edge.toml").to_string_lossy(),
                "--control",
                &lab.folder().join("erdp.sock").to_string_lossy(),
            ],
        )
        .context("erdp upgrade --check")?;
    tell(&rehearsed);
    ensure!(
        rehearsed.contains(" 0 would be treated differently") && !rehearsed.contains("\n0 frames"),
        "{rehearsed}"
    );
    let mut edge = edge;
    let more: &[&[&str]] =
        if edge::is_full() { &[&["--as-abi", "1001"], &["--as-abi", "1001"], &[]] } else { &[] };
    for words in [&[][..], &["--as-abi", "1000"]].iter().chain(more) {
        edge = planned(&mut lab, edge, words, &mut tell)?;
        // The log of the next one must be a new file.
        fs::rename(lab.folder().join("erdp-next.log"), lab.folder().join("erdp-before.log"))?;
    }
    edge.process().signal(Signal::SIGTERM)?;
    let ended = edge.process().wait(Duration::from_secs(10))?;
    ensure!(ended.success(), "{ended}:\n{}", edge.process().tail(20));
    let name = format!("{}-edge", lab.name());
    ensure!(cleanup::pins().iter().all(|(_, owner)| *owner != name), "pins stay");
    let addresses = lab.namespace("edge")?.ip("-o address show")?;
    ensure!(!addresses.contains(plan::PRIMARY.ipv4.0), "an address stays: {addresses}");
    Ok(())
}

#[test]
fn uninstall_removes_what_a_killed_controller_has_left_and_refuses_a_running_one() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut tell = run::teller();
    let lab = Lab::up(Ground::Veth, &mut tell)?;
    let mut edge = Edge::start(&lab)?;
    until_logged(&mut edge, "running", Duration::from_secs(20))?;
    let namespace = lab.namespace("edge")?;
    let uninstall = || -> Result<(bool, String)> {
        let output =
            namespace.command(edge::binary()?)?.arg("uninstall").output().context("erdp uninstall")?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (done, said) = uninstall()?;
    ensure!(!done && said.contains("stop it"), "{said}");
    edge.process().signal(Signal::SIGKILL)?;
    edge.process().wait(Duration::from_secs(5))?;
    let addresses = namespace.ip("-o address show")?;
    ensure!(addresses.contains(plan::PRIMARY.ipv4.0), "{addresses}");
    let (done, said) = uninstall()?;
    tell(&said);
    ensure!(done && said.contains("pins") && said.contains(plan::PRIMARY.ipv4.0), "{said}");
    ensure!(xdp_mode(namespace, plan::CE.far.1)? == "none", "the program is still attached");
    let addresses = namespace.ip("-o address show")?;
    ensure!(!addresses.contains(plan::PRIMARY.ipv4.0), "{addresses}");
    let (done, said) = uninstall()?;
    ensure!(done && said.contains("no state of erdp"), "{said}");
    Ok(())
}
