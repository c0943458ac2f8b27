//! `erdp peering`, `erdp drill`, `erdp whatif`: taking something out of use, on purpose or in thought.
//!
//! `erdp drill` stays until the link is back: it asks again and again how the drill goes, and the daemon ends a drill about which nobody
//! asks any more. So Ctrl-C, a closed terminal or a lost connection end it too.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::{ArgGroup, Subcommand};
use erdp::{
    control::{DEFAULT_SOCKET, Drilling, Peering, Request, client::Client},
    drill::whatif::{Forecast, Reading, forecast},
};
use serde_json::Value;

use super::{config::seconds, render, report};

/// Between two questions about a drill.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// What can be done to a peering.
#[derive(Subcommand)]
pub enum PeeringVerb {
    /// Take a circuit, a link or a peering out of service: drain it, then end BGP with a shutdown text and set BFD to AdminDown
    ///
    /// Refused where no other path would carry the traffic: the other link, a service of the same peering, or another circuit that has
    /// the same prefixes and that every attachment of the customer lists. It lasts until `erdp peering enable`, over restarts, crashes and
    /// the machine's own start too.
    Disable {
        /// A circuit (contoso), a peering (contoso/private), a link (contoso/primary, contoso/private/primary), or a peer's address
        name: String,
        /// Shutdown text for the peers' operators (RFC 9003), at most 128 bytes
        #[arg(long, default_value = "taken down by the operator")]
        text: String,
        /// Time to drain first: its paths rank last here, and the peer is asked to do the same; 0: do not drain
        #[arg(long, default_value = "10s", value_parser = drain)]
        drain: u64,
        /// Take it down even if no other path carries the traffic
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Reset sessions: end BGP with Cease/Administrative Reset (RFC 4486); the sessions come back by themselves
    ///
    /// Refused for both links of a circuit at once, and where no other path would carry the traffic meanwhile.
    Reset {
        /// As for `disable`
        name: String,
        /// Text for the peers' operators (RFC 9003), at most 128 bytes
        #[arg(long, default_value = "reset by the operator")]
        text: String,
        /// Reset even both links at once, or where no other path carries the traffic
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Put a peering back in service; it is used when neighbour, BFD, session and routes are there
    Enable {
        /// As for `disable`
        name: String,
        #[command(flatten)]
        asking: Asking,
    },
}

/// What `erdp drill` takes.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct DrillArguments {
    /// What to fail: a link (primary, contoso/primary, its interface), a peering (contoso/private, contoso/private/primary), or a circuit
    /// (contoso)
    #[arg(long, group = "what", requires = "length")]
    fail: Option<String>,
    /// End the running drill
    #[arg(long, group = "what")]
    stop: bool,
    /// Duration (30s, 5m), at most ten minutes
    #[arg(id = "length", long = "for", value_parser = seconds)]
    length: Option<u64>,
    /// Fail it even if some traffic has no other path and is dropped meanwhile
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    asking: Asking,
}

/// What `erdp whatif` takes.
#[derive(clap::Args)]
pub struct WhatIfArguments {
    /// Link that would fail: primary, secondary, contoso/primary, or its interface
    #[arg(long)]
    fail: String,
    /// Time over which the load is measured (10s, 1m)
    #[arg(long, default_value = "5s", value_parser = seconds)]
    over: u64,
    #[command(flatten)]
    asking: Asking,
}

/// Whom to ask, and how to show the answer.
#[derive(clap::Args)]
pub struct Asking {
    /// Control socket of the running router
    #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
    control: PathBuf,
    /// JSON instead of sentences
    #[arg(long)]
    json: bool,
}

/// `erdp peering`.
pub fn peering(verb: PeeringVerb) -> Result<()> {
    let (request, asking) = match verb {
        PeeringVerb::Disable { name, text, drain, force, asking } => {
            (Peering::Disable { name, text, drain_ms: 1_000 * drain, force }, asking)
        }
        PeeringVerb::Reset { name, text, force, asking } => (Peering::Reset { name, text, force }, asking),
        PeeringVerb::Enable { name, asking } => (Peering::Enable { name }, asking),
    };
    let answer = Client::connect(&asking.control)?.ask(&Request::Peering(request))?;
    if asking.json {
        println!("{answer}");
    } else {
        print!("{}", render::peering(&answer));
    }
    Ok(())
}

/// `erdp drill`: exit code 0 if it went as asked and the link is back.
pub fn drill(arguments: DrillArguments) -> Result<ExitCode> {
    let DrillArguments { fail, stop: _, length, force, asking } = arguments;
    let mut client = Client::connect(&asking.control)?;
    let request = match (fail, length) {
        (Some(link), Some(seconds)) => Drilling::Begin { link, seconds, force },
        _ => Drilling::Stop,
    };
    let mut told = Value::Null;
    let mut answer = client.ask(&Request::Drill(request))?;
    while answer["phase"] != "over" {
        if answer["phase"] != told {
            told = answer["phase"].clone();
            eprintln!("{}", render::drill_phase(&answer));
        }
        thread::sleep(ASK_EVERY);
        answer = client.ask(&Request::Drill(Drilling::Watch)).with_context(|| left_over(&asking.control))?;
    }
    if asking.json {
        println!("{answer}");
    } else {
        print!("{}", render::drill(&answer));
    }
    let is_good = answer["completed"] == true && !answer["report"]["back_ms"].is_null();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What becomes of a drill about which nobody can ask any more.
fn left_over(control: &Path) -> &'static str {
    match Client::connect(control) {
        Ok(_) => "the drill ends by itself within seconds",
        Err(_) => {
            "erdp has ended during the drill, and the link carries nothing until erdp runs again: start it, unless its service manager does"
        }
    }
}

/// `erdp whatif`.
pub fn whatif(arguments: WhatIfArguments) -> Result<()> {
    let WhatIfArguments { fail: link, over, asking } = arguments;
    // A connection each: the daemon ends one on which nothing is asked for long.
    let reading = || -> Result<Reading> {
        let mut client = Client::connect(&asking.control)?;
        Ok(serde_json::from_value(client.ask(&Request::Load { link: link.clone() })?)?)
    };
    let begin = Instant::now();
    let before = reading()?;
    thread::sleep(Duration::from_secs(over).saturating_sub(begin.elapsed()));
    let forecast: Forecast = forecast(&before, &reading()?);
    if asking.json {
        println!("{}", serde_json::to_string(&forecast)?);
    } else {
        print!("{}", report::forecast(&forecast));
    }
    Ok(())
}

/// As [`seconds`], and 0.
fn drain(text: &str) -> Result<u64> {
    let drain = if matches!(text, "0" | "0s") { 0 } else { seconds(text)? };
    if drain > 600 {
        bail!("a drain of {text}: at most ten minutes");
    }
    Ok(drain)
}
