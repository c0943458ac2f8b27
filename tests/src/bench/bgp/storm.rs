//! `erdp` alone: tables of Azure's limits with sixteen peers up, and a storm of flapping routes.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::{
    bgp::{Asn, Update, wire},
    control::Topic,
};
use ipnet::IpNet;
use serde::Serialize;

use super::{
    receiver::{Kind, Receiver},
    sender::Sender,
    stage::{Stage, next_hop},
    stream::{self, Samples},
};
use crate::bench::routes::{Routes, Version};

/// A small table with many peers.
#[derive(Clone, Debug, Serialize)]
pub struct Small {
    /// Prefixes.
    pub prefixes: usize,
    /// Milliseconds from the last UPDATE handed to TCP to the last entry, the median of the rounds.
    pub after_last_ms: f64,
}

/// A storm of flaps.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    /// Route changes a second that were sent.
    pub per_second: f64,
    /// For how long.
    pub seconds: f64,
    /// Seconds after the last change until routes and maps said what was sent last.
    pub settled_s: f64,
    /// Whether the session is the one that it began with.
    pub same_session: bool,
    /// Whether routes shown and entries in the maps are exactly those that were announced last.
    pub equal: bool,
}

/// A table of one of Azure's limits, time after time, with fifteen customers' routers listening.
pub fn many_peers(routes: &Routes, samples: &Samples, rounds: usize) -> Result<Small> {
    let stage = Stage::new()?;
    let mut receiver = Receiver::start(Kind::Erdp, &stage.receiver, &stage.folder, 15)?;
    let mut msee = stage.msee(0, Version::V4)?;
    let mut customers = Vec::new();
    for host in 10..25 {
        let from = IpAddr::from([198, 18, 10, host]);
        let open = wire::Open { asn: Asn(65_020), ..stream::open(Version::V4, [198, 18, 10, host]) };
        customers.push(Sender::connect(&stage.sender, from, [198, 18, 10, 1].into(), &open)?);
    }
    let announced =
        stream::announce(routes, &stream::origins(Version::V4)?, samples, next_hop(0, Version::V4))?;
    let withdrawn = stream::withdraw(routes)?;
    let base = receiver.installed()?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        msee.send(&announced.bytes)?;
        let sent = Instant::now();
        until(&mut receiver, base + announced.prefixes as u64)?;
        times.push(sent.elapsed().as_secs_f64() * 1e3);
        msee.send(&withdrawn.bytes)?;
        until(&mut receiver, base)?;
        for customer in &mut customers {
            customer.keepalive()?;
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(Small { prefixes: routes.prefixes.len(), after_last_ms: times[times.len() / 2] })
}

fn until(receiver: &mut Receiver, routes: u64) -> Result<()> {
    let since = Instant::now();
    while receiver.installed()? != routes {
        receiver.must_run()?;
        ensure!(since.elapsed() < Duration::from_secs(20), "{} routes, not {routes}", receiver.installed()?);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Changes a second.
const STORM: usize = 100_000;

/// Each route of a table goes and comes, one to a message, at a given rate; in the end every second one is there.
pub fn storm(routes: &Routes, length: Duration) -> Result<Storm> {
    let stage = Stage::new()?;
    let mut receiver = Receiver::start(Kind::Erdp, &stage.receiver, &stage.folder, 0)?;
    let mut msee = stage.msee(0, Version::V4)?;
    let base = receiver.installed()?;
    let sessions = established(&receiver)?;
    let (up, down) = flaps(&routes.prefixes, next_hop(0, Version::V4), &[stream::SENDER, 8_075])?;
    let started = Instant::now();
    let mut sent = 0;
    // A twentieth of a second's share at a time.
    let share = STORM / 20;
    for round in 0.. {
        let due = started + Duration::from_millis(50) * round;
        if started.elapsed() >= length {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut bytes = Vec::with_capacity(share * 64);
        for _ in 0..share {
            let (route, pass) = (sent % up.len(), sent / up.len());
            bytes.extend_from_slice(if pass.is_multiple_of(2) { &up[route] } else { &down[route] });
            sent += 1;
        }
        msee.send(&bytes)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let last: Vec<u8> =
        up.iter().step_by(2).chain(down.iter().skip(1).step_by(2)).flatten().copied().collect();
    msee.send(&last)?;
    let after = Instant::now();
    let expected = routes.prefixes.len().div_ceil(2) as u64;
    let mut wanted: Vec<IpNet> = routes.prefixes.iter().step_by(2).copied().collect();
    wanted.sort_unstable();
    // The number alone is right now and then on the way.
    let is_settled = |receiver: &mut Receiver| -> Result<bool> {
        Ok(receiver.installed()? == base + expected && shown(receiver)? == wanted)
    };
    let mut equal = false;
    while !equal && after.elapsed() < Duration::from_secs(20) {
        receiver.must_run()?;
        equal = is_settled(&mut receiver)?;
    }
    let settled_s = after.elapsed().as_secs_f64();
    Ok(Storm {
        per_second: sent as f64 / seconds,
        seconds,
        settled_s,
        same_session: established(&receiver)? == sessions,
        equal,
    })
}

/// The prefixes that `erdp show routes` has, in order.
fn shown(receiver: &Receiver) -> Result<Vec<IpNet>> {
    let rows: Vec<serde_json::Value> = serde_json::from_value(receiver.ask(Topic::Routes)?)?;
    let mut shown: Vec<IpNet> = rows.iter().filter_map(|row| row["prefix"].as_str()?.parse().ok()).collect();
    shown.sort_unstable();
    Ok(shown)
}

/// A message for each route.
pub type Messages = Vec<Vec<u8>>;

/// One announcement and one withdrawal of each route.
///
/// # Errors
/// When a message cannot be encoded.
pub fn flaps(prefixes: &[IpNet], next_hop: IpAddr, path: &[u32]) -> Result<(Messages, Messages)> {
    let context = stream::context(Version::V4);
    let attributes = erdp::bgp::PathAttributes {
        as_path: erdp::bgp::AsPath::sequence(path.iter().copied()),
        ..erdp::bgp::PathAttributes::originated(next_hop)
    };
    let attributes = std::sync::Arc::new(attributes);
    let (mut up, mut down) = (Messages::new(), Messages::new());
    for prefix in prefixes {
        let announced =
            Update { announced: vec![*prefix], attributes: Some(attributes.clone()), ..Update::default() };
        let withdrawn = Update { withdrawn: vec![*prefix], ..Update::default() };
        up.push(wire::encode_update(&announced, &context)?.concat());
        down.push(wire::encode_update(&withdrawn, &context)?.concat());
    }
    Ok((up, down))
}

/// How often sessions have been established so far, by peer.
fn established(receiver: &Receiver) -> Result<Vec<(String, u64)>> {
    let rows: Vec<serde_json::Value> = serde_json::from_value(receiver.ask(Topic::Sessions)?)?;
    let row = |row: &serde_json::Value| Some((row["peer"].as_str()?.to_owned(), row["sessions"].as_u64()?));
    rows.iter().map(|value| row(value).context("a session without a number")).collect()
}
