//! Links that do not come up because of what is at their other ends, live with BIRD and the kernel's own ARP and neighbour discovery (E2):
//! `erdp show sessions` names what is wrong while it is so, and not for long after.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::{enter, plan},
    small::{SmallLab, established},
    traffic::raw::Sender,
};
use serde_json::Value;

/// A finding must be there, and gone, within so long.
const WITHIN: Duration = Duration::from_secs(12);
/// The second host with our address.
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// What is said of a peer's session.
fn finding(edge: &Edge, peer: &str) -> Result<String> {
    let rows: Vec<Value> = serde_json::from_str(&edge.show("sessions")?)?;
    let row = rows.iter().find(|row| row["peer"] == peer).with_context(|| format!("no peer {peer}"))?;
    Ok(row["finding"].as_str().unwrap_or_default().to_owned())
}

/// Waits until what is said of a peer contains these words; empty: until nothing is said.
fn until_said(edge: &mut Edge, peer: &str, words: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        edge.must_run()?;
        let said = if edge.answers() { finding(edge, peer)? } else { "not running".to_owned() };
        if if words.is_empty() { said.is_empty() } else { said.contains(words) } {
            println!("  {peer}: {said:?} after {:.1} s", begin.elapsed().as_secs_f32());
            return Ok(());
        }
        ensure!(begin.elapsed() < WITHIN, "{peer}: {said:?}, not {words:?}\n{}", edge.table("sessions")?);
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn e2_swapped_links_a_neighbour_on_our_side_and_a_duplicate_address_are_named_while_they_last() -> Result<()>
{
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let right = edge::configuration();
    primary_and_secondary_are_swapped(&lab, &right)?;
    let mut edge = lab.edge(&right)?;
    for peer in [plan::PRIMARY.ipv4.1, plan::PRIMARY.ipv6.1] {
        ensure!(finding(&edge, peer)?.is_empty(), "{}", finding(&edge, peer)?);
    }
    a_duplicate_address(&lab, &mut edge)?;
    the_wrong_side(&lab, &mut edge)
}

fn primary_and_secondary_are_swapped(lab: &SmallLab, right: &str) -> Result<()> {
    let swapped = right
        .replace("primary = { local = \"msee1\" }", "primary = { local = \"MSEE2\" }")
        .replace("secondary = { local = \"msee2\" }", "secondary = { local = \"msee1\" }")
        .replace("MSEE2", "msee2");
    ensure!(swapped != right, "nothing is swapped");
    let mut edge = Edge::start_with(lab.namespace("edge")?, lab.folder(), &swapped)?;
    for (peer, other) in [
        (plan::PRIMARY.ipv4.1, plan::SECONDARY.ipv4.1),
        (plan::SECONDARY.ipv4.1, plan::PRIMARY.ipv4.1),
        (plan::PRIMARY.ipv6.1, plan::SECONDARY.ipv6.1),
    ] {
        until_said(&mut edge, peer, &format!("{other} asks for us here"))?;
        until_said(&mut edge, peer, "are primary and secondary swapped")?;
    }
    edge.process().signal(nix::sys::signal::Signal::SIGTERM)?;
    edge.process().wait(WITHIN).map(drop)
}

/// A host on the customer's wire has our address and asks for others with it.
fn a_duplicate_address(lab: &SmallLab, edge: &mut Edge) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, ours) = (Arc::clone(&stop), plan::CE.ipv4.1.parse::<Ipv4Addr>()?.octets());
    let frame = arp_request(ours, [198, 18, 1, 3]);
    let host = enter::on_thread(lab.namespace("ce")?.name(), move || {
        let sender = Sender::open(plan::CE.near.1)?;
        while !stopped.load(Ordering::Relaxed) {
            sender.send(std::slice::from_ref(&frame))?;
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    })?;
    until_said(edge, plan::CE.ipv4.0, "duplicate address: 02:00:00:00:00:99 uses our 198.18.1.1 too")?;
    stop.store(true, Ordering::Relaxed);
    ensure!(host.join().is_ok_and(|result| result.is_ok()), "the second host has failed");
    until_said(edge, plan::CE.ipv4.0, "")
}

/// RFC 826, to everybody.
fn arp_request(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head: [&[u8]; 4] = [&[0xff; 6], &OTHER, &[0x08, 0x06], &[0, 1, 8, 0, 6, 4, 0, 1]];
    [&head.concat()[..], &OTHER, &sender, &[0; 6], &target].concat()
}

/// The MSEE has the first usable address, which is ours, and looks for us at the second.
fn the_wrong_side(lab: &SmallLab, edge: &mut Edge) -> Result<()> {
    let msee = lab.namespace("msee1")?;
    let (ours, theirs, _) = plan::PRIMARY.ipv4;
    msee.ip(&format!("addr del {theirs}/30 dev edge0"))?;
    msee.ip(&format!("addr add {ours}/30 dev edge0"))?;
    let asks = enter::on_thread(msee.name(), move || {
        for _ in 0..20 {
            // Nobody answers; what matters is the ARP before it.
            let _ = UdpSocket::bind("0.0.0.0:0")?.send_to(&[0; 8], (theirs, 9));
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    })?;
    until_said(edge, theirs, "we take the first usable address, Microsoft the second")?;
    msee.ip(&format!("addr del {ours}/30 dev edge0"))?;
    msee.ip(&format!("addr add {theirs}/30 dev edge0"))?;
    until_said(edge, theirs, "")?;
    ensure!(asks.join().is_ok(), "the neighbour has panicked");
    established(edge).map(drop)
}
