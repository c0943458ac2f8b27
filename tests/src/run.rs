//! The whole run: lab up, erdp up, every check, a summary. What `cargo xtask run` shows and the end-to-end test asserts.

use std::time::Instant;

use anyhow::Result;

use crate::{
    checks::{converge, doctor, failover, load, prefixes},
    edge::Edge,
    lab::{Ground, Lab, cleanup, plan},
};

/// A lab with erdp in its edge. The fields' order is the order of the end: erdp detaches before its links go.
#[derive(Debug)]
pub struct Running {
    /// The daemon.
    pub edge: Edge,
    /// The lab.
    pub lab: Lab,
}

/// What a run has found: sentences, and the failures among them.
#[derive(Debug, Default)]
pub struct Summary {
    /// What held.
    pub found: Vec<String>,
    /// What did not.
    pub failed: Vec<String>,
}

impl Summary {
    pub(crate) fn add(&mut self, tell: &mut dyn FnMut(&str), name: &str, result: Result<Vec<String>>) {
        match result {
            Ok(found) => {
                found.iter().for_each(|sentence| tell(sentence));
                self.found.extend(found);
            }
            Err(error) => {
                let sentence = format!("FAILED {name}: {error:#}");
                tell(&sentence);
                self.failed.push(sentence);
            }
        }
    }
}

/// Prints lines with the seconds since the start.
pub fn teller() -> impl FnMut(&str) {
    let begin = Instant::now();
    move |line| {
        cleanup::pause_if_ending();
        println!("[{:6.1} s] {line}", begin.elapsed().as_secs_f32());
    }
}

/// Brings the lab up and starts erdp in it.
///
/// # Errors
/// Names the step; what had come up is taken down.
pub fn up(ground: Ground, tell: &mut dyn FnMut(&str)) -> Result<Running> {
    let lab = Lab::up(ground, tell)?;
    if ground == Ground::Cards {
        for found in doctor::treat(&lab)? {
            tell(&found);
        }
    }
    tell(&format!("erdp run in namespace {}-edge, AS {}", lab.name(), plan::EDGE_ASN));
    let edge = Edge::start(&lab)?;
    Ok(Running { edge, lab })
}

/// All checks, in the order in which each needs the one before. Only without convergence is the rest pointless.
pub fn checks(running: &mut Running, seconds: u32, tell: &mut dyn FnMut(&str)) -> Summary {
    let Running { lab, edge } = running;
    let mut summary = Summary::default();
    let converged = converge::wait(lab, edge, tell);
    let go_on = converged.is_ok();
    summary.add(tell, "convergence", converged.map(|found| vec![found]));
    show(edge, tell);
    if !go_on {
        tell(&format!("the end of erdp's log:\n{}", edge.process().tail(20)));
        return summary;
    }
    summary.add(tell, "customer's routes", converge::customer_has_learned(lab).map(one));
    summary.add(tell, "MSEEs' routes", converge::msees_have_learned(lab).map(one));
    summary.add(tell, "native XDP", load::native(lab).map(one));
    summary.add(tell, "every prefix", prefixes::check(lab, edge).map(one));
    summary.add(tell, "iperf3", load::iperf(lab, edge, seconds));
    summary.add(tell, "conservation", load::conservation(lab, edge).map(one));
    let survived = failover::check(lab, edge, tell);
    summary.add(tell, "link failure", survived);
    summary.add(tell, "every prefix after the link is back", prefixes::check(lab, edge).map(one));
    summary.add(tell, "conservation after the link failure", load::conservation(lab, edge).map(one));
    summary
}

fn one(found: String) -> Vec<String> {
    vec![found]
}

/// erdp's own tables, as an operator would look at them; of the routes only the first.
fn show(edge: &Edge, tell: &mut dyn FnMut(&str)) {
    for (topic, most) in [("sessions", 20), ("links", 20), ("routes", 8), ("counters", 60)] {
        match edge.table(topic) {
            Ok(table) => {
                let lines: Vec<_> = table.lines().collect();
                let more = lines.len().saturating_sub(most);
                let more = if more > 0 { format!("\n... and {more} more") } else { String::new() };
                tell(&format!("erdp show {topic}\n{}{more}", lines[..lines.len().min(most)].join("\n")));
            }
            Err(error) => tell(&format!("erdp show {topic}: {error:#}")),
        }
    }
}
