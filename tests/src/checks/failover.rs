//! One MSEE link goes down while numbered packets flow: how many are lost, and does everything come back?
//!
//! The link that carries the probe is found by counting (not asked from erdp), and taken down at the MSEE's end, so that the edge
//! sees a loss of carrier as it would on a cut fibre.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use super::converge;
use crate::{
    edge::Edge,
    lab::{Ground, Lab, plan},
    traffic::{counts, probe::Probe},
};

/// The most that may be lost, in milliseconds of traffic.
pub const MOST_LOST_MS: u64 = 50;
const FLOW: u16 = 40_000;

/// On emulated processors only that it goes on is judged, and not how soon.
const fn most_lost_ms(ground: Ground) -> u64 {
    match ground {
        Ground::Veth => MOST_LOST_MS,
        Ground::Cards => 2_000,
    }
}

/// Packets of the probe in a second that show that it goes on.
const fn least_over_other(ground: Ground) -> u64 {
    match ground {
        Ground::Veth => 500,
        Ground::Cards => 50,
    }
}

/// Takes the link down that carries the probe, waits, brings it up again and waits for convergence.
///
/// # Errors
/// When more is lost than allowed, the traffic does not go on, or the sessions do not come back.
pub fn check(lab: &mut Lab, edge: &mut Edge, tell: &mut dyn FnMut(&str)) -> Result<Vec<String>> {
    let probe = Probe::start(lab, false, FLOW)?;
    thread::sleep(Duration::from_millis(500));
    let (down, up) = carrying(lab)?;
    tell(&format!("link of {} down: it carries the probe", down.far.0));
    lab.cut(&down, true)?;
    thread::sleep(Duration::from_secs(2));
    let over_other = received(lab, &up)?;
    thread::sleep(Duration::from_secs(1));
    let over_other = received(lab, &up)? - over_other;
    let report = probe.stop()?;
    let lost_ms = report.lost * 1_000 / u64::from(crate::traffic::probe::RATE);
    let found = format!(
        "link of {} down: {} of {} probe packets lost = {lost_ms} ms of traffic, longest gap {} ms, {} duplicates; {over_other} \
         packets in the next second over {}",
        down.far.0,
        report.lost,
        report.sent,
        report.longest_gap.as_millis(),
        report.duplicates,
        up.far.0
    );
    lab.cut(&down, false)?;
    let most = most_lost_ms(lab.ground());
    ensure!(lost_ms <= most, "{found}; at most {most} ms are allowed");
    ensure!(
        over_other > least_over_other(lab.ground()),
        "{found}; the traffic has not gone over to the other link"
    );
    tell("link up again");
    let learned = format!("link up again: {}", converge::msees_have_learned(lab)?);
    Ok(vec![found, learned, converge::wait(lab, edge, tell)?])
}

/// The link that carries most of what flows now, and the other one.
fn carrying(lab: &Lab) -> Result<(plan::Link, plan::Link)> {
    let count = || -> Result<_> { Ok((received(lab, &plan::PRIMARY)?, received(lab, &plan::SECONDARY)?)) };
    let before = count()?;
    thread::sleep(Duration::from_millis(500));
    let after = count()?;
    let (primary, secondary) = (after.0 - before.0, after.1 - before.1);
    ensure!(
        primary.max(secondary) > least_over_other(lab.ground()) / 2,
        "the probe does not flow: MSEEs received {primary} and {secondary} packets"
    );
    Ok(if primary > secondary { (plan::PRIMARY, plan::SECONDARY) } else { (plan::SECONDARY, plan::PRIMARY) })
}

fn received(lab: &Lab, link: &plan::Link) -> Result<u64> {
    Ok(counts::interface(lab.namespace(link.far.0)?, &lab.wire_of(link.far))?.rx_packets)
}
