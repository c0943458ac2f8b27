//! `erdp upgrade --check`: what would this build change if it took over from what forwards here? Nothing is attached, and nothing
//! is written but copies.
//!
//! The program is loaded (the verifier has its say), gets the content of the maps, and is asked about frames together with the
//! running one: from every attachment to a host in each of [`ROUTES_MAX`] routes, to our own addresses and to nowhere. What differs
//! is a change of behaviour; that nothing does is no proof, but more than a version number.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use ipnet::IpNet;
use serde_json::Value;

use super::{
    ask,
    estate::Estate,
    kept::Keeper,
    start::{self, StartError},
};
use crate::{
    config::Config,
    control::{Request, Topic, client::Client},
    dataplane::{
        DataplaneError,
        aya::{LoadOptions, Outcome, Rehearsal},
        question::Question,
    },
    fib::{AttachmentFacts, Topology},
    kernel::Kernel,
};

/// Routes that are asked about from each attachment.
const ROUTES_MAX: usize = 200;
/// Differences that are described.
const SHOWN_MAX: usize = 10;
/// An address that nobody announces (RFC 5737).
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Sentences for the operator.
    pub sentences: Vec<String>,
    /// Frames that both programs were asked about.
    pub frames: usize,
    /// With how many of them they do different things.
    pub differences: usize,
}

/// Rehearses the upgrade of what forwards in this network namespace; `control` is the socket of the running daemon, which knows the
/// routes.
pub async fn check(config: &Path, control: &Path) -> Result<Report, StartError> {
    let (config, _) = start::checked(config, true)?;
    let (kernel, _events) = Kernel::open()?;
    let topology = start::topology(&config, &kernel.dump().await?)?;
    let estate = Estate::find(Keeper::default());
    let mut report = Report::default();
    let (Some(pins), Some(generation)) = (&estate.pins, &estate.generation) else {
        report.sentences.push("nothing forwards here: `erdp run` would be a first start".into());
        return Ok(report);
    };
    let about = estate.about(&config, &topology, None);
    report.sentences.push(format!(
        "generation {} forwards with records of version {}; this build has version {}",
        generation.number, generation.about.abi, about.abi
    ));
    report.sentences.push(match estate.judge(&about) {
        None => "counters, buckets and sessions would go on in the same maps".to_owned(),
        Some(why) => format!("counters and buckets would be carried over into new maps: {why}"),
    });
    if generation.about.abi != about.abi {
        report
            .sentences
            .push("routes would be learned or handed over, not copied: no frames are compared".into());
        return Ok(report);
    }
    let options = LoadOptions { symmetric_hash: config.symmetric_hash, ..LoadOptions::default() };
    let rehearsal = Rehearsal::new(pins, generation, options)?;
    let destinations = destinations(&config, control, &mut report);
    compare(&rehearsal, &topology, &destinations, &mut report)?;
    Ok(report)
}

/// Hosts in routes, our own addresses, and one that nobody has.
fn destinations(config: &Config, control: &Path, report: &mut Report) -> BTreeSet<IpAddr> {
    let own = config.attachments().into_iter().flat_map(|it| it.addresses).map(|net| net.addr());
    let mut destinations: BTreeSet<IpAddr> = own.chain([NOWHERE]).collect();
    let routes = Client::connect(control).and_then(|mut client| client.ask(&Request::Show(Topic::Routes)));
    let rows = match routes {
        Ok(rows) => rows,
        Err(error) => {
            report.sentences.push(format!("only our own addresses are asked about: {error}"));
            return destinations;
        }
    };
    let prefix = |row: &Value| row["prefix"].as_str()?.parse::<IpNet>().ok();
    let prefixes: Vec<IpNet> = rows.as_array().into_iter().flatten().filter_map(prefix).collect();
    let every = prefixes.len().div_ceil(ROUTES_MAX).max(1);
    destinations.extend(prefixes.iter().step_by(every).map(|net| net.hosts().next().unwrap_or(net.addr())));
    destinations
}

fn compare(
    rehearsal: &Rehearsal,
    topology: &Topology,
    destinations: &BTreeSet<IpAddr>,
    report: &mut Report,
) -> Result<(), DataplaneError> {
    for ingress in topology.attachments().filter(|facts| topology.has(facts.ifindex)) {
        for to in destinations {
            let frame = frame(ingress, *to)?;
            let Some((before, after)) = rehearsal.ask(ingress.ifindex, &frame)? else { continue };
            report.frames += 1;
            if before == after {
                continue;
            }
            report.differences += 1;
            if report.differences <= SHOWN_MAX {
                let (before, after) = (told(&before), told(&after));
                report.sentences.push(format!("from {} to {to}: {before} now, then {after}", ingress.name));
            }
        }
    }
    let Report { frames, differences, .. } = report;
    let sentence =
        format!("{frames} frames asked of both programs: {differences} would be treated differently");
    report.sentences.push(sentence);
    Ok(())
}

fn frame(ingress: &AttachmentFacts, to: IpAddr) -> Result<Vec<u8>, DataplaneError> {
    let from = ask::neighbour(ingress, to);
    Question { from, to, ports: (40_000, 443), hop_limit: 64, tags: ingress.tags }.frame()
}

fn told((trace, frame): &Outcome) -> String {
    let verdict = match trace.verdict {
        erdp_common::abi::VERDICT_TRANSMIT => "transmit",
        erdp_common::abi::VERDICT_PUNT => "punt",
        _ => "drop",
    };
    format!("{verdict} ({}), next hop {}, {} bytes", trace.reason, trace.next_hop, frame.len())
}
