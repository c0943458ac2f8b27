//! What an edge before us has left in this network namespace: a program that forwards, its maps, what it has changed on the machine, and what
//! its operators have ordered.

use std::{
    hash::{BuildHasher, Hasher},
    time::{Duration, Instant},
};

use erdp_common::abi::PeerKey;

use super::{Controller, inherit::Inherited, kept::Keeper, start::peer_key};
use crate::{
    bgp::PeerId,
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

impl Controller {
    /// Leaves forwarding to what was there before until these peers have said everything.
    pub(super) fn wait_for(&mut self, expected: &[PeerKey]) {
        let is_expected = |peer: &&crate::config::Peer| {
            expected.contains(&peer_key(peer)) && !self.is_circuit_off(peer.session.id)
        };
        let known = self.peers.iter().filter(is_expected);
        let known: Vec<_> = known.map(|peer| peer.session.id).collect();
        // Whoever comes after us, should we die before the end, waits for the same.
        known.iter().for_each(|peer| self.note_session(*peer, true));
        let lost = self.dataplane.lost();
        let patience = Inherited::patience(self.config.restart_deadline.duration(), lost);
        tracing::info!(
            peers = known.len(),
            lost_s = lost.as_secs(),
            at_most_s = patience.as_secs(),
            "adopted routes stay until these peers have sent all of theirs, or nothing is missing without them"
        );
        self.inherited = Some(Inherited::new(known, Instant::now() + patience));
    }

    /// Whether what has been learned leads wherever the program before us leads.
    fn covers_adopted(&mut self, now: Instant) -> bool {
        self.inherited.as_mut().is_some_and(|inherited| inherited.may_compare(now))
            && self.dataplane.adopted().is_some_and(|adopted| self.forwarding.covers(adopted))
    }

    /// Whom the wait is for and how many seconds it lasts at most, as long as the program before us forwards.
    pub(super) fn waiting(&self) -> Option<(Vec<&str>, u64)> {
        let now = Instant::now();
        let inherited = self.inherited.as_ref()?;
        let name = |peer: PeerId| self.peers.get(usize::from(peer.0)).map(|peer| peer.name.as_str());
        let left = inherited.deadline().saturating_duration_since(now);
        Some((inherited.missing(now).filter_map(name).collect(), left.as_secs()))
    }

    /// Takes over once everything is known, or time is over.
    pub(super) fn end_wait(&mut self) {
        let now = Instant::now();
        let Some(inherited) = &self.inherited else { return };
        let is_over = inherited.is_over(now);
        if !is_over && !self.covers_adopted(now) {
            return;
        }
        let Some(inherited) = self.inherited.take() else { return };
        for id in inherited.missing(now) {
            if self.rib.families(id).is_empty() {
                self.note_session(id, false);
            }
            let Some(peer) = self.peers.get(usize::from(id.0)) else { continue };
            if is_over {
                tracing::warn!(
                    peer = peer.name,
                    "has not sent all of its routes in time: its adopted ones go"
                );
            } else {
                tracing::info!(peer = peer.name, "has not said that this is all, but nothing is missing");
            }
        }
        let ports = self.forwarding.topology().ports();
        let taken = self.dataplane.take_over(&ports, self.about.clone());
        match taken.and_then(|()| self.dataplane.retire_others()) {
            Ok(()) => tracing::info!(routes = self.forwarding.sizes()["routes"], "forwarding taken over"),
            Err(error) => {
                tracing::error!(%error, "the program before goes on; trying again");
                let again = now + Duration::from_secs(5);
                self.inherited = Some(Inherited::new([PeerId(u16::MAX)], again));
            }
        }
    }

    /// Notes for whoever comes after us whether a session is up. One that is waited for counts as up until the wait is over: if we die,
    /// the next one has to wait for it too.
    pub(super) fn note_session(&mut self, peer: PeerId, is_up: bool) {
        if !is_up && self.inherited.as_ref().is_some_and(|inherited| inherited.expects(peer)) {
            return;
        }
        if let Some(key) = self.peers.get(usize::from(peer.0)).map(peer_key) {
            self.log_failure(|it| it.dataplane.note_session(key, is_up));
        }
    }
}
