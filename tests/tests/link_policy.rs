//! When a link may be used, with live peers: one that flaps is left alone, a BGP session whose BFD is strict waits for it, and a circuit
//! below its minimum of links ranks last.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    failover::{Fault, mixed::Stand, peers, probe::Probe},
    lab::{enter, netns::Namespace},
};

/// Three losses in a row: the third costs a second, the fourth two (`pair.rs`); every day three.
#[test]
fn b1_a_link_that_flaps_is_left_alone_and_used_all_the_same_when_the_other_fails() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(|text| text)?;
    let port = stand.flow_by(1)?;
    let probe = Probe::start(&stand.place, port)?;
    let is_held = |stand: &mut Stand| Ok(stand.circuit()?["flaps"][0] == "held down");
    for loss in 1..=if edge::is_full() { 4 } else { 3 } {
        stand.place.fail(0, Fault::Carrier)?;
        stand.until("the carrier is lost", |it| {
            Ok(it.circuit()?["primary"].to_string().contains("no-carrier"))
        })?;
        stand.place.heal(0)?;
        let begin = Instant::now();
        let expected = [0, 0, 1, 2][loss - 1];
        stand.until("the carrier is back", |it| {
            Ok(!it.circuit()?["primary"].to_string().contains("no-carrier"))
        })?;
        ensure!(is_held(&mut stand)? == (expected > 0), "loss {loss}: {}", stand.circuit()?);
        stand.until("it is not held down", |it| Ok(!is_held(it)?))?;
        let held = begin.elapsed().as_secs_f32();
        println!("  loss {loss}: held down for {held:.2} s, {expected} s expected");
        let expected = expected as f32;
        ensure!(held > expected - 0.1 && held < expected + 1.5, "loss {loss}: held for {held} s");
    }
    let report = probe.stop()?;
    println!("  {} packets by the other link, {} lost", report.sent, report.lost);
    ensure!(report.lost == 0 && report.at[0] == 0, "the other link's flow was touched: {report:?}");

    stand.place.fail(0, Fault::Carrier)?;
    stand
        .until("the carrier is lost", |it| Ok(it.circuit()?["primary"].to_string().contains("no-carrier")))?;
    stand.place.heal(0)?;
    stand.until("it is held down", is_held)?;
    stand.place.fail(1, Fault::Carrier)?;
    let took = stand.until("it is used because the other has failed", |it| Ok(!is_held(it)?))?;
    // The next hold is of two seconds, or of four.
    ensure!(took < Duration::from_millis(1_700), "the hold was not ended by need: {took:?}");
    stand.place.heal(1)
}

/// FRR's operator switches BFD off and on (FRR 8.4 has no strict mode of its own, so the strict end is ours).
#[test]
fn b5_a_session_whose_bfd_is_strict_waits_for_it_with_a_live_peer() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let strict = |text: String| text.replace("multiplier = 5,", "multiplier = 5, strict = true,");
    let mut stand = Stand::up(strict)?;
    let switch = |stand: &Stand, word| {
        peers::vtysh(&stand.place, "msee1", &format!("configure terminal\nbfd\nprofile lab\n{word}"))
            .map(drop)
    };
    let is_up = |stand: &Stand| -> Result<bool> {
        let sessions = stand.edge.sessions()?;
        Ok(sessions.iter().any(|it| it.peer == "198.18.0.2" && it.state == "Established"))
    };
    switch(&stand, "shutdown")?;
    stand.until("BGP is ended where BFD is not up", |it| Ok(!is_up(it)?))?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        ensure!(!is_up(&stand)?, "BGP has come up without BFD after {:?}", begin.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    ensure!(stand.circuit()?["links"] == "one", "{}", stand.circuit()?);
    switch(&stand, "no shutdown")?;
    stand.until("BGP follows BFD, and both links carry traffic", Stand::is_whole).map(drop)
}

/// BFD that goes on does not come up again, and BGP must not wait for that.
#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn b5_a_strict_session_goes_on_when_another_process_takes_over_and_returns_after_a_crash() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(|text| text.replace("multiplier = 5,", "multiplier = 5, strict = true,"))?;
    let drops = |stand: &Stand| -> Result<String> {
        let of = |it: &&str| it.contains("Connections established");
        let shown = peers::vtysh(&stand.place, "msee1", "show bgp neighbors")?;
        Ok(shown.lines().filter(of).collect())
    };
    let before = drops(&stand)?;
    stand.take_over()?;
    thread::sleep(Duration::from_secs(2));
    stand.until("both links carry traffic after a planned restart", Stand::is_whole)?;
    let after = drops(&stand)?;
    println!("  FRR: {after}");
    ensure!(before.matches("dropped").count() == 2 && before == after, "{before} before, {after} after");
    stand.kill()?;
    stand.start_again()?;
    stand.until("both links carry traffic after a crash", Stand::is_whole).map(drop)
}

#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn b11_a_circuit_below_its_minimum_of_links_ranks_last_and_carries_on_where_nothing_else_does() -> Result<()>
{
    if edge::skipped() {
        return Ok(());
    }
    let minimum = |text: String| text.replace("bandwidth = \"1G\"", "bandwidth = \"1G\"\nminimum-links = 2");
    let mut stand = Stand::up(minimum)?;
    let port = stand.flow_by(0)?;
    let probe = Probe::start(&stand.place, port)?;
    stand.place.fail(1, Fault::Silent)?;
    stand.until("it ranks last", |it| Ok(it.circuit()?["rank"].to_string().contains("last")))?;
    stand.place.heal(1)?;
    stand.until("both links carry traffic", Stand::is_whole)?;
    stand.until("it ranks as listed", |it| Ok(it.circuit()?["rank"] == "as listed"))?;
    let report = probe.stop()?;
    println!("  {} packets by the link that was left, {} lost", report.sent, report.lost);
    ensure!(report.lost == 0, "{report:?}");
    Ok(())
}

/// What FRR does as Microsoft does: our route-map repeats the AS eight times in front of everything.
const DRAIN: &str = "configure terminal\nroute-map drain permit 10\nset as-path prepend 12076 12076 12076 12076 12076 12076 12076 12076\n\
                     exit\nrouter bgp 12076\n";
const METRICS: &str = "127.0.0.1:9179";

#[test]
fn b7_an_msee_that_drains_is_said_to_drain_and_its_arp_stays_what_arp_says() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(|text| format!("metrics = \"{METRICS}\"\n{text}"))?;
    let port = stand.flow_by(0)?;
    let probe = Probe::start(&stand.place, port)?;
    let drain = |stand: &Stand, word: &str| {
        let families = [("ipv4", "198.18.0.1"), ("ipv6", "fd00:0:0:10::1")];
        let of = |(family, remote): &(&str, &str)| {
            format!(
                "address-family {family} unicast\n{word}neighbor {remote} route-map drain out\nexit-address-family\n"
            )
        };
        let words = DRAIN.to_owned() + &families.iter().map(of).collect::<String>();
        peers::vtysh(&stand.place, "msee1", &words).map(drop)
    };
    drain(&stand, "")?;
    stand.until("it drains", |it| Ok(it.circuit()?["primary"] == serde_json::json!(["draining"])))?;
    // The kernel forgets a neighbour at once, and what follows from it comes within a second.
    for _ in 0..20 {
        let links: Vec<serde_json::Value> = serde_json::from_str(&stand.edge.show("links")?)?;
        let of_it = links.iter().find(|row| row["link"] == "lab primary").context("no such link")?;
        ensure!(of_it["eligible"] == false && of_it["why_not"] == serde_json::json!(["draining"]), "{of_it}");
        thread::sleep(Duration::from_millis(100));
    }
    let page = page(stand.place.namespace("edge")?)?;
    for line in [
        "ArpAvailability{circuit=\"lab\",PeeringType=\"AzurePrivatePeering\",Peer=\"Primary-IPv4\"} 100",
        "ArpAvailability{circuit=\"lab\",PeeringType=\"AzurePrivatePeering\",Peer=\"Primary-IPv6\"} 100",
        "erdp_session_draining{peer=\"198.18.0.2\",attachment=\"lab/private primary\"} 1",
        "erdp_session_draining{peer=\"198.18.0.6\",attachment=\"lab/private secondary\"} 0",
        "erdp_link_eligible{circuit=\"lab\",link=\"primary\",reason=\"draining\"} 0",
    ] {
        ensure!(page.contains(line), "{line} is not there: {page}");
    }
    ensure!(stand.edge.show("sessions")?.contains("drains this link for maintenance"));
    ensure!(stand.edge.process().tail(60).contains("Microsoft drains this link for maintenance"));
    drain(&stand, "no ")?;
    stand.until("both links carry traffic", Stand::is_whole)?;
    thread::sleep(Duration::from_millis(500));
    let report = probe.stop()?;
    println!("  drained and back: {} sent, {} lost, {:?} at the MSEEs", report.sent, report.lost, report.at);
    ensure!(report.lost == 0 && report.at[1] > 1_000, "{report:?}");
    Ok(())
}

fn page(namespace: &Namespace) -> Result<String> {
    enter::run(namespace.name(), || {
        let mut stream = TcpStream::connect(METRICS)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}
