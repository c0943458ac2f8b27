//! What an edge before us has left in this network namespace: a program that forwards, its maps, what it has changed on the machine, and what
//! its operators have ordered.

use std::hash::{BuildHasher, Hasher};

use erdp_common::abi::PeerKey;

use super::kept::Keeper;
use crate::{
    config::Config,
    dataplane::{
        Mode,
        aya::{self, AyaDataplane, Heritage},
        pins::{About, Generation, Pins},
    },
    fib::Topology,
    kernel::traces::Traces,
};

/// What is there.
pub(super) struct Estate {
    /// Where things are pinned; `None`: they cannot be.
    pub pins: Option<Pins>,
    /// What forwards.
    pub generation: Option<Generation>,
    /// What was changed.
    pub traces: Traces,
    /// What operators have ordered.
    pub keeper: Keeper,
}

impl Estate {
    /// Looks for it.
    pub fn find(keeper: Keeper) -> Self {
        let note = Traces::read().unwrap_or_default();
        for what in &note.left_out {
            tracing::warn!("what an edge before has noted: {what}");
        }
        let traces = note.traces;
        let found = Pins::of_this_namespace().and_then(|pins| Ok((pins.current()?, pins)));
        match found {
            Ok((generation, pins)) => Self { pins: Some(pins), generation, traces, keeper },
            Err(error) => {
                tracing::warn!("forwarding will end with this process: {error}");
                Self { pins: None, generation: None, traces, keeper }
            }
        }
    }

    /// Whether a program goes on without its controller.
    pub fn forwards(&self) -> bool {
        self.generation.is_some()
    }

    /// What our own maps will mean.
    pub fn about(&self, config: &Config, topology: &Topology, as_abi: Option<u32>) -> About {
        let links = topology.interfaces().into_keys().collect();
        let mode = self.generation.as_ref().map_or(Mode::Native, |it| it.about.mode);
        let about = aya::about(links, shape(config, topology), mode);
        About { abi: as_abi.unwrap_or(about.abi), ..about }
    }

    /// What we take over, if there is something.
    pub fn heritage(&self, about: &About) -> Option<Heritage> {
        let (pins, generation) = (self.pins.as_ref()?, self.generation.clone()?);
        let number = generation.number;
        let (heritage, why) = Heritage::judge(pins, generation, about);
        match why {
            None => tracing::info!(generation = number, "taking over from what still forwards"),
            Some(why) => tracing::warn!(
                generation = number,
                "taking over from what still forwards, with counters and buckets of our own: {why}"
            ),
        }
        Some(heritage)
    }

    /// Why what forwards has counters and buckets of another meaning; `None`: of the same.
    pub fn judge(&self, about: &About) -> Option<String> {
        Heritage::judge(self.pins.as_ref()?, self.generation.clone()?, about).1
    }

    /// The peers whose sessions were up.
    pub fn expected(&self) -> Vec<PeerKey> {
        let found = self.pins.as_ref().zip(self.generation.as_ref());
        found.map(|(pins, generation)| AyaDataplane::peers_before(pins, generation)).unwrap_or_default()
    }
}

/// A number that is the same as long as identifiers mean the same: those of attachments, circuits and policers.
fn shape(config: &Config, topology: &Topology) -> u64 {
    // The seed is fixed: another process must come to the same number.
    let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
    for facts in topology.attachments() {
        hasher.write(format!("{} {} {:?};", facts.id.number(), facts.name, facts.tags).as_bytes());
    }
    for circuit in &config.circuits {
        hasher.write(format!("{} {:?};", circuit.name, circuit.burst).as_bytes());
    }
    hasher.finish()
}
