//! Where a corpus begins: inputs that a target's format makes of what the tests have already.

use anyhow::Result;

use super::{azure_import, config, control, hand_over, netlink, packets, state, traces};
use crate::hostile::corpus::Corpus;

/// Inputs of a target; none for one whose programs need no words.
pub fn of(target: &str) -> Result<Vec<Vec<u8>>> {
    Ok(match target {
        "bgp-messages" => Corpus::load("messages")?.inputs,
        // Without messages of their own.
        "bgp-session" => {
            Corpus::load("events")?.inputs.into_iter().map(|steps| [vec![0], steps].concat()).collect()
        }
        "packets" => packets::seeds(),
        "config" => config::seeds(),
        "control" => control::seeds(),
        "netlink" => netlink::seeds(),
        "hand-over" => hand_over::seeds(),
        "traces" => traces::seeds(),
        "state" => state::seeds(),
        "azure-import" => azure_import::seeds(),
        _ => vec![vec![0; 64]],
    })
}
