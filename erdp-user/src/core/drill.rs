//! Drills: what [`crate::drill`] orders is carried out here, and its counters are read.
//!
//! A link, a peering or a circuit fails for the packet path first ([`crate::fib::Forwarding::suspend`]), then for the routes, then for its sessions. Before each
//! of the loop's turns is carried out, the facts are looked at: what else carried the traffic and no longer does ends the drill.

use std::time::Duration;

use erdp_common::{
    classify::Class,
    policer::{Passage, TIME_FRACTION_BITS},
};

use super::{
    Core,
    named::Part,
    search::{OnlyHere, found_for, nothing_left_words, nothing_only_here},
};
use crate::{
    bgp::{Kept, PeerId, Seconds},
    compile::limits,
    config::{Link, LinkRole, burst_name},
    dataplane::Dataplane,
    drill::{
        Drill, End, Phase, SECONDS, Step,
        report::{Measured, Sample},
        whatif::{Offered, Reading},
    },
    peering::{Orphan, RETURN_PATIENCE, Way},
    types::AttachmentId,
};

/// A drill with what it is about.
pub(crate) struct Running {
    pub drill: Drill,
    pub part: Part,
    peers: Vec<PeerId>,
    attachments: Vec<AttachmentId>,
    /// What has another way now and must keep it: a way of each place.
    places: Vec<Way>,
    pub length: Duration,
    pub measured: Measured,
}

impl Running {
    pub fn is_over(&self) -> bool {
        self.drill.phase() == Phase::Over
    }
}

/// A link, a peering or a circuit as an operator has named it.
pub(crate) struct Target {
    part: Part,
    pub peers: Vec<PeerId>,
    attachments: Vec<AttachmentId>,
}

impl<D: Dataplane> Core<D> {
    /// An operator begins a drill. `only_here`: by what it is judged; `None`: it is forced.
    pub fn begin_drill(
        &mut self,
        link: &str,
        seconds: u64,
        only_here: Option<Option<&OnlyHere>>,
        now: Duration,
    ) -> Result<(), String> {
        self.now = now;
        self.is_no_drill()?;
        if !SECONDS.contains(&seconds) {
            return Err(format!(
                "a drill of {seconds} s: from {} to {} are possible",
                SECONDS.start(),
                SECONDS.end()
            ));
        }
        if self.inherited.is_some() {
            return Err("erdp is still taking over from the one before: try again in a moment".into());
        }
        if !self.redundancy.peerings.is_empty() {
            return Err(
                "a peering is disabled or on its way: `erdp show sessions` names it; enable it first".into(),
            );
        }
        let Target { part, peers, attachments } = self.target(link)?;
        let ways = self.ways();
        let orphans = ways.orphaned(&peers);
        if let Some(only_here) = only_here {
            if !orphans.is_empty() {
                return Err(nothing_left_words(&orphans));
            }
            nothing_only_here(&peers, only_here)?;
        }
        let places = ways.others_of(&peers);
        let length = Duration::from_secs(seconds);
        let mut running = Running {
            drill: Drill::new(length, now),
            part,
            peers,
            attachments,
            places,
            length,
            measured: Measured::default(),
        };
        running.measured.begin = self.sample(&running, now);
        tracing::warn!(link, seconds, force = only_here.is_none(), "a drill begins");
        self.drill = Some(running);
        Ok(())
    }

    /// The operator still watches.
    pub fn watch_drill(&mut self, now: Duration) {
        self.now = now;
        if let Some(running) = &mut self.drill {
            running.drill.handle_asked(now);
        }
    }

    /// The drill ends before its time; `false`: none runs.
    pub fn end_drill(&mut self, end: End, now: Duration) -> bool {
        self.now = now;
        match &mut self.drill {
            Some(running) if !running.is_over() => {
                running.drill.handle_end(end, now);
                true
            }
            _ => false,
        }
    }

    /// How long the packet path's clock has gone on.
    fn measured_since(&self, begin: u64) -> Duration {
        Duration::from_nanos(self.dataplane.clock().saturating_sub(begin) >> TIME_FRACTION_BITS)
    }

    /// Looks at the facts and does what follows; called before the loop's turn is carried out.
    pub(crate) fn advance_drill(&mut self) {
        let Some(mut running) = self.drill.take_if(|running| !running.is_over()) else { return };
        let now = self.now;
        let is_ready = |peer: &PeerId| self.redundancy.peerings.phase(*peer).is_none();
        let is_back = running.peers.iter().all(is_ready);
        running.drill.handle_facts(now, self.left_alone(&running), is_back);
        if running.drill.phase() == Phase::Failing
            && let Ok(counters) = self.dataplane.counters()
        {
            let received = running.attachments.iter().filter_map(|id| counters.attachments.get(&id.number()));
            running.measured.look(now, received.map(|(rx, _)| rx.packets).sum());
        }
        while let Some(step) = running.drill.poll_step() {
            match step {
                Step::Fail => self.fail_link(&mut running, now),
                Step::Restore => self.restore_link(&mut running, now),
                Step::RestoreAtOnce => self.restore_link_at_once(&mut running, now),
            }
        }
        if running.is_over() {
            self.suspend(&running, false);
            running.measured.over = Some(self.sample(&running, now));
            tracing::info!(end = running.drill.end().map(ToString::to_string), "the drill is over");
        }
        self.drill = Some(running);
    }

    /// Places that had another way when the drill began and have none now.
    fn left_alone(&self, running: &Running) -> Vec<Orphan> {
        let ways = self.ways();
        let is_alone = |place: &&Way| !ways.has_other(place, &running.peers);
        running.places.iter().filter(is_alone).map(|place| ways.orphan(place, &running.peers)).collect()
    }

    fn fail_link(&mut self, running: &mut Running, now: Duration) {
        running.measured.share = self.forwarding.share_of(&running.attachments);
        running.measured.fail = Some(self.sample(running, now));
        let begin = self.dataplane.clock();
        self.suspend(running, true);
        running.measured.switched = self.measured_since(begin);
        let text = format!("drill for {} s: this link is taken down on purpose", running.length.as_secs());
        for peer in &running.peers {
            self.redundancy.peerings.handle_disable(*peer, &text, Duration::ZERO, now);
        }
        // Routes are kept by it from the moment at which it is known.
        self.act_on_peerings();
        self.write_routes();
        running.measured.rerouted = self.measured_since(begin);
        tracing::warn!(switched = ?running.measured.switched, "the drill's link carries nothing");
    }

    fn restore_link(&mut self, running: &mut Running, now: Duration) {
        running.measured.restore = Some(self.sample(running, now));
        for peer in &running.peers {
            self.redundancy.peerings.handle_enable(*peer, now);
        }
        self.act_on_peerings();
        tracing::info!(end = running.drill.end().map(ToString::to_string), "the drill's link is given free");
    }

    /// Its routes and neighbours as they were, before anything else; what its sessions say comes later.
    fn restore_link_at_once(&mut self, running: &mut Running, now: Duration) {
        self.suspend(running, false);
        if running.measured.restore.is_none() {
            running.measured.restore = Some(self.sample(running, now));
        }
        for peer in running.peers.clone() {
            self.redundancy.peerings.handle_need(peer);
            self.act_on_peerings();
            self.bgp_is_up(peer);
        }
        tracing::error!(
            end = running.drill.end().map(ToString::to_string),
            "the drill's link is used at once"
        );
    }

    fn suspend(&mut self, running: &Running, suspended: bool) {
        for attachment in running.attachments.clone() {
            self.log_failure(|it| it.forwarding.suspend(attachment, suspended, &mut it.dataplane));
        }
    }

    /// Where the drill is that runs, or that was the last one.
    pub fn drill_phase(&self) -> Option<Phase> {
        self.drill.as_ref().map(|running| running.drill.phase())
    }

    /// A running drill allows no other change.
    pub fn is_no_drill(&self) -> Result<(), String> {
        match &self.drill {
            Some(running) if !running.is_over() => {
                Err("a drill is running: wait for its end, or `erdp drill --stop`; nothing is changed".into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn is_drilled(&self, peer: PeerId) -> bool {
        self.drill.as_ref().is_some_and(|running| !running.is_over() && running.peers.contains(&peer))
    }

    /// A drill's sessions end, and their routes stay, ranked last: they are there when they are needed.
    pub(crate) fn kept_by_drill(&self, peer: PeerId) -> Option<Kept> {
        let running = self.drill.as_ref().filter(|_| self.is_drilled(peer))?;
        let wait = running.length + 2 * RETURN_PATIENCE;
        let families: Vec<_> = self.rib.families(peer).into_iter().collect();
        (!families.is_empty()).then_some(Kept { families, wait: Seconds(wait.as_secs() as u16) })
    }

    fn sample(&self, running: &Running, at: Duration) -> Sample {
        let mut sample = Sample { at, ..Sample::default() };
        let Ok(counters) = self.dataplane.counters() else { return sample };
        sample.dropped =
            counters.dropped.iter().map(|(reason, it)| ((*reason).to_owned(), it.packets)).collect();
        sample.dropped.insert("transmit-lost".into(), counters.transmit_lost.packets);
        for id in &running.attachments {
            let (rx, tx) = counters.attachments.get(&id.number()).copied().unwrap_or_default();
            sample.received += rx;
            sample.sent += tx;
        }
        for policer in
            limits::policers_of(&self.config).into_iter().filter(|it| it.circuit == running.part.circuit)
        {
            for class in Class::ALL {
                let dropped = self.dataplane.policed(policer.id, class)[Passage::Dropped as usize];
                *sample.policed.entry((policer.direction.as_label(), class.label())).or_default() += dropped;
            }
        }
        sample
    }

    /// What the forecast of `erdp whatif` is made of.
    pub(crate) fn reading(
        &self,
        link: &str,
        only_here: Option<&OnlyHere>,
        now: Duration,
    ) -> Result<Reading, String> {
        let Target { part, peers, attachments } = self.target(link)?;
        let Part { circuit: index, role: Some(role), kind: None } = part else {
            return Err(format!(
                "{link:?} is not one link: what a circuit's other link would carry is predicted"
            ));
        };
        let circuit = self.config.circuits.get(index).ok_or("no such circuit")?;
        let only_here = found_for(&peers, only_here)?;
        let counters = self.dataplane.counters().map_err(|error| error.to_string())?;
        let mut on_link = [0; 2];
        for id in &attachments {
            let (rx, tx) = counters.attachments.get(&id.number()).copied().unwrap_or_default();
            on_link[0] += tx.bytes;
            on_link[1] += rx.bytes;
        }
        Ok(Reading {
            at_ns: now.as_nanos() as u64,
            circuit: circuit.name.clone(),
            link: role.as_str().into(),
            rate_bps: circuit.bandwidth.0,
            burst: burst_name(circuit.burst).into(),
            credit_ms: circuit.credit_ms,
            overhead: u64::from(limits::overhead(circuit)),
            classes: self.offered(index),
            on_link,
            orphans: self.ways().orphaned(&peers).iter().map(ToString::to_string).collect(),
            only_here: (only_here.count, only_here.examples.clone()),
        })
    }

    fn offered(&self, circuit: usize) -> Vec<Offered> {
        let mut rows = Vec::new();
        for direction in [limits::Direction::Outbound, limits::Direction::Inbound] {
            let policers = limits::policers_of(&self.config);
            for class in Class::ALL {
                let mut row = Offered {
                    direction: direction.as_label().into(),
                    class: class.label().into(),
                    ..Offered::default()
                };
                for policer in policers.iter().filter(|it| (it.circuit, it.direction) == (circuit, direction))
                {
                    let tallies = self.dataplane.policed(policer.id, class);
                    row.packets += tallies.iter().map(|tally| tally.packets).sum::<u64>();
                    row.bytes += tallies.iter().map(|tally| tally.bytes).sum::<u64>();
                    row.dropped_bytes += tallies[Passage::Dropped as usize].bytes;
                }
                rows.push(row);
            }
        }
        rows
    }

    /// What is to fail by its name: `primary` or `secondary` where there is one circuit, an interface, or a circuit, a link or a peering.
    pub(crate) fn target(&self, name: &str) -> Result<Target, String> {
        let part = self.part_named(name).or_else(|| self.link_named(name));
        let Some(part) = part else {
            let circuits = self.config.circuits.iter();
            let all =
                circuits.flat_map(|it| LinkRole::ALL.map(|role| format!("{}/{}", it.name, role.as_str())));
            return Err(format!(
                "{name:?} is not one link; there are {}; a circuit and a peering can fail too",
                all.collect::<Vec<_>>().join(", ")
            ));
        };
        let roles = LinkRole::ALL.into_iter().filter(|role| part.role.is_none_or(|it| it == *role));
        let circuit = self.config.circuits.get(part.circuit);
        for (role, circuit) in roles.filter_map(|role| Some((role, circuit?))) {
            if let Link::Box { name: other } = circuit.link(role) {
                return Err(format!("{}/{} ends on box {other}: ask there", circuit.name, role.as_str()));
            }
        }
        let attachments = self.attachments_of_part(part).map(|it| it.id).collect();
        Ok(Target { part, peers: self.peers_of_part(part), attachments })
    }
}
