//! What goes wrong, and how it is mended. A fault is a step now and others later; each is chosen by the seed when it strikes, and noted with the
//! state of the machines that it meets.

use erdp::{bgp::Gate, drill::End, kernel::KernelEvent};
use erdp_common::bfd::wire::State as BfdState;
use ipnet::IpNet;

use super::{
    Time, duration, millis,
    net::{Side, Wire},
    plan::{self, CE0, CIRCUITS, PLACES, Variant},
    seconds,
    world::{Event, World},
};

/// How soon the kernel says what has happened to an interface.
const KERNEL: Time = millis(1);
/// How soon it has forgotten the neighbours of an interface without a carrier: after it has said that the carrier is gone.
const FORGOTTEN: Time = millis(150);
/// How soon the kernel has asked a neighbour again.
const ASKED_EVERY: Time = seconds(1);
/// An operator who was refused tries again after so long.
const AGAIN: Time = seconds(2);

/// A part of a fault, or of its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A carrier goes or comes.
    Carrier(usize, bool),
    /// What either end sends arrives, or does not.
    Silence(usize, bool, bool),
    /// So many packets of a thousand are lost.
    Loss(usize, u32),
    /// A neighbour's BGP process ends; its forwarding goes on.
    ProcessEnds(usize),
    /// It is there again (RFC 4724).
    ProcessReturns(usize),
    /// A neighbour loses its power.
    PowerOff(usize),
    /// It has it again.
    PowerOn(usize),
    /// A neighbour's operator shuts the session (`true`), or opens it.
    Shut(usize, bool),
    /// A neighbour announces these.
    Announce(usize, Vec<IpNet>),
    /// A neighbour announces these no more.
    Withdraw(usize, Vec<IpNet>),
    /// The customer's router keeps to its limit again.
    NoExcess,
    /// Microsoft drains a link, or no longer (B7).
    Drain(usize, bool),
    /// The edge's kernel has asked for a neighbour's MAC address again.
    AskAgain(usize),
    /// The kernel forgets the neighbours of an interface without a carrier.
    Forget(usize),
    /// The edge's next process begins.
    EdgeReturns,
    /// An operator enables a peering.
    Enable(&'static str),
    /// An operator applies a configuration.
    Apply(Variant),
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    CarrierLost,
    Flaps,
    SilentToPeer,
    SilentToEdge,
    SilentBothWays,
    Lossy,
    GracefulRestart,
    HardRestart,
    PeerResets,
    PeerShuts,
    Churn,
    AllWithdrawn,
    Excess,
    Disable,
    Reset,
    Drill,
    Apply,
    NewMac,
    Maintenance,
    Crash,
}

impl Kind {
    const ALL: [(Self, &'static str); 20] = [
        (Self::CarrierLost, "carrier-lost"),
        (Self::Flaps, "flaps"),
        (Self::SilentToPeer, "silent-to-peer"),
        (Self::SilentToEdge, "silent-to-edge"),
        (Self::SilentBothWays, "silent-both-ways"),
        (Self::Lossy, "lossy"),
        (Self::GracefulRestart, "graceful-restart"),
        (Self::HardRestart, "hard-restart"),
        (Self::PeerResets, "peer-resets"),
        (Self::PeerShuts, "peer-shuts"),
        (Self::Churn, "churn"),
        (Self::AllWithdrawn, "all-withdrawn"),
        (Self::Excess, "excess"),
        (Self::Disable, "disable"),
        (Self::Reset, "reset"),
        (Self::Drill, "drill"),
        (Self::Apply, "apply"),
        (Self::NewMac, "new-mac"),
        (Self::Maintenance, "maintenance"),
        (Self::Crash, "crash"),
    ];
}

/// What an operator may disable.
const DISABLED: [&str; 7] =
    ["one/primary", "one/secondary", "one", "two/primary", "two", "public/primary", "public/secondary"];
/// What an operator may reset, or drill.
const LINKS: [&str; 6] =
    ["one/primary", "one/secondary", "two/primary", "two/secondary", "public/primary", "public/secondary"];

impl World {
    /// A fault of the seed's choice strikes, and the oracle looks at once.
    pub(super) fn strike(&mut self) {
        let (kind, name) = Kind::ALL[self.rng.usize(..Kind::ALL.len())];
        let place = self.rng.usize(..PLACES.len());
        let msee = self.rng.usize(..CE0);
        let place = if kind == Kind::Maintenance { msee } else { place };
        let state = self.state(place);
        self.log(|| format!("FAULT {name} at {} ({state})", PLACES[place].interface));
        self.report.coverage.note(name, state);
        *self.report.faults.entry(name).or_default() += 1;
        match kind {
            Kind::Crash => self.crash(),
            Kind::Disable | Kind::Reset | Kind::Drill | Kind::Apply if self.edge.is_down => {}
            Kind::Disable => self.disable(),
            Kind::Reset => self.reset(),
            Kind::Drill => self.drill(),
            Kind::Apply => self.apply(),
            _ => self.strike_neighbour(kind, place),
        }
        self.turn();
        self.look();
    }

    /// What the machines that belong to a neighbour are doing.
    fn state(&self, place: usize) -> String {
        let bgp = self.edge.sessions[place].as_ref().map_or_else(|| "-".into(), |it| it.state().to_string());
        let bfd = self.edge.bfd_state(place, self.now).map_or("-", |(state, _)| BfdState::name(state));
        let link = match () {
            () if self.drilled.contains(&place) => ", in a drill",
            () if self.peers[place].facts.out_of_use_since.is_some() => ", out of use",
            () if self.edge.core.is_held(PLACES[place].interface) => ", held down",
            () if !self.drilled.is_empty() => ", during a drill",
            () => "",
        };
        format!("{bgp}/{bfd}{link}")
    }

    fn strike_neighbour(&mut self, kind: Kind, place: usize) {
        let length = self.rng.u64(millis(200)..seconds(20));
        let (first, last) = match kind {
            Kind::CarrierLost => (Step::Carrier(place, false), Some(Step::Carrier(place, true))),
            Kind::SilentToPeer => (Step::Silence(place, false, true), Some(Step::Silence(place, true, true))),
            Kind::SilentToEdge => (Step::Silence(place, true, false), Some(Step::Silence(place, true, true))),
            Kind::SilentBothWays => {
                (Step::Silence(place, false, false), Some(Step::Silence(place, true, true)))
            }
            Kind::Lossy => (Step::Loss(place, self.rng.u32(50..500)), Some(Step::Loss(place, 0))),
            Kind::GracefulRestart => (Step::ProcessEnds(place), Some(Step::ProcessReturns(place))),
            Kind::HardRestart => (Step::PowerOff(place), Some(Step::PowerOn(place))),
            Kind::PeerShuts => (Step::Shut(place, true), Some(Step::Shut(place, false))),
            Kind::AllWithdrawn => {
                let all: Vec<IpNet> = self.peers[place].announced.iter().copied().collect();
                (Step::Withdraw(place, all.clone()), Some(Step::Announce(place, all)))
            }
            Kind::Maintenance => (Step::Drain(place, true), Some(Step::Drain(place, false))),
            Kind::Flaps => return self.flap(place),
            Kind::Churn => return self.churn(place),
            Kind::Excess => return self.exceed(length),
            Kind::NewMac => return self.change_mac(place),
            Kind::PeerResets => {
                return self.with(Side::Peer, place, |session, now| session.handle_reset(now, "again"));
            }
            Kind::Disable | Kind::Reset | Kind::Drill | Kind::Apply | Kind::Crash => return,
        };
        self.carry_out_step(first);
        if let Some(last) = last {
            self.after(length, Event::Step(last));
        }
    }

    fn flap(&mut self, place: usize) {
        let mut at = 0;
        for _ in 0..self.rng.u32(2..7) {
            self.after(at, Event::Step(Step::Carrier(place, false)));
            at += self.rng.u64(millis(5)..millis(1_500));
            self.after(at, Event::Step(Step::Carrier(place, true)));
            at += self.rng.u64(millis(5)..millis(1_500));
        }
    }

    fn churn(&mut self, place: usize) {
        let universe = plan::universe(place);
        for _ in 0..self.rng.u32(1..6) {
            let prefix = universe[self.rng.usize(..universe.len())];
            let step = if self.peers[place].announced.contains(&prefix) {
                Step::Withdraw(place, vec![prefix])
            } else {
                Step::Announce(place, vec![prefix])
            };
            self.carry_out_step(step);
        }
    }

    /// Once a round: the wait doubles each time (D2).
    fn exceed(&mut self, length: Time) {
        if std::mem::replace(&mut self.was_over, true) {
            return;
        }
        self.carry_out_step(Step::Announce(CE0, plan::excess()));
        self.peers[CE0].note_excess(self.now);
        self.after(length, Event::Step(Step::NoExcess));
    }

    fn change_mac(&mut self, place: usize) {
        let neighbour = &mut self.peers[place];
        neighbour.mac[3] = neighbour.mac[3].wrapping_add(1);
        neighbour.facts.mac_since = self.now;
        self.after(ASKED_EVERY, Event::Step(Step::AskAgain(place)));
    }

    /// The edge's process dies, unless it holds orders that only the daemon's files would keep, and another one begins.
    fn crash(&mut self) {
        let has_orders = !self.disabled.is_empty()
            || !self.drilled.is_empty()
            || self.was_over
            || self.edge.variant != Variant::Base;
        if has_orders || self.edge.is_without_its_own() {
            return;
        }
        self.edge_dies();
        let length = self.rng.u64(millis(300)..seconds(15));
        self.after(length, Event::Step(Step::EdgeReturns));
    }

    // What operators of the edge do.

    fn disable(&mut self) {
        let name = DISABLED[self.rng.usize(..DISABLED.len())];
        let drain = if self.rng.bool() { seconds(5) } else { 0 };
        let peers = self.edge.core.peers_named(name).unwrap_or_default();
        let found = self.edge.found(&peers);
        let only_here = if self.rng.u32(..10) < 3 { None } else { Some(Some(&found)) };
        let now = duration(self.now);
        let done = self.edge.core.disable(name, "works", duration(drain), only_here, now);
        self.edge.is_told = true;
        self.log(|| format!("operator: disable {name}: {:?}", done.as_ref().map(|it| &it.0)));
        if let Ok((taken, _)) = done {
            let from = self.now + drain;
            self.disabled.extend(taken.into_iter().map(|peer| (usize::from(peer.0), from)));
            self.note_use();
            let length = self.rng.u64(seconds(1)..seconds(20));
            self.after(drain + length, Event::Step(Step::Enable(name)));
        }
    }

    fn reset(&mut self) {
        let name = LINKS[self.rng.usize(..LINKS.len())];
        let found = self.edge.found(&self.edge.core.peers_to_reset(name).unwrap_or_default());
        let done = self.edge.core.reset(name, "again", Some(Some(&found)), duration(self.now));
        self.edge.is_told = true;
        self.log(|| format!("operator: reset {name}: {:?}", done.as_ref().map(|it| &it.0)));
    }

    fn drill(&mut self) {
        let name = LINKS[self.rng.usize(..LINKS.len())];
        let found = self.edge.found(&self.edge.core.peers_named(name).unwrap_or_default());
        let length = self.rng.u64(1..12);
        let done = self.edge.core.begin_drill(name, length, Some(Some(&found)), duration(self.now));
        self.edge.is_told = true;
        self.log(|| format!("operator: drill {name}: {done:?}"));
        if done.is_ok() {
            self.drilled = self.edge.places(name);
            self.is_watched = self.rng.u32(..4) > 0;
            self.note_use();
        }
    }

    /// The operator watches a drill; one that is over is one no more.
    pub(super) fn follow_drill(&mut self) {
        if self.drilled.is_empty() {
            return;
        }
        if self.is_watched {
            self.edge.core.watch_drill(duration(self.now));
        }
        if self.edge.core.is_no_drill().is_ok() {
            self.log(|| "operator: the drill is over".to_owned());
            self.drilled.clear();
            self.note_use();
        }
    }

    fn apply(&mut self) {
        let variant = Variant::OTHERS[self.rng.usize(..Variant::OTHERS.len())];
        self.carry_out_step(Step::Apply(variant));
        let length = self.rng.u64(seconds(1)..seconds(20));
        self.after(length, Event::Step(Step::Apply(Variant::Base)));
    }

    // Steps.

    /// A part of what goes wrong, or of its end.
    pub(super) fn carry_out_step(&mut self, step: Step) {
        self.log(|| format!("step: {step:?}"));
        match step {
            Step::Carrier(place, carrier) => self.set_carrier(place, carrier),
            Step::Silence(place, to_peer, to_edge) => {
                self.set_wire(place, |wire| (wire.to_peer, wire.to_edge) = (to_peer, to_edge));
            }
            Step::Loss(place, permille) => self.set_wire(place, |wire| wire.loss = permille),
            Step::ProcessEnds(place) => self.end_process(place),
            Step::ProcessReturns(place) => {
                if self.peers[place].is_on && !self.peers[place].runs {
                    let seed = self.rng.u64(..);
                    self.peers[place].begin(self.now, seed, true);
                    self.drain(Side::Peer, place);
                }
            }
            Step::PowerOff(place) => self.power_off(place),
            Step::PowerOn(place) => {
                if !self.peers[place].is_on {
                    let seed = self.rng.u64(..);
                    self.peers[place].power_on(self.now, seed);
                    self.note_path(place);
                    self.drain(Side::Peer, place);
                }
            }
            Step::Shut(place, is_shut) => self.shut(place, is_shut),
            Step::Announce(place, prefixes) => {
                let now = self.now;
                for update in self.peers[place].announce(&prefixes, now) {
                    self.say(place, &update);
                }
            }
            Step::Withdraw(place, prefixes) => {
                let now = self.now;
                for update in self.peers[place].withdraw(&prefixes, now) {
                    self.say(place, &update);
                }
            }
            Step::NoExcess => {
                self.peers[CE0].facts.over_since = None;
                self.carry_out_step(Step::Withdraw(CE0, plan::excess()));
            }
            Step::Drain(place, is_drained) => {
                let neighbour = &mut self.peers[place];
                neighbour.is_drained = is_drained;
                neighbour.facts.drained_since = is_drained.then_some(self.now);
                neighbour.facts.undrained_at = self.now;
                let all: Vec<IpNet> = neighbour.announced.iter().copied().collect();
                for update in self.peers[place].announcements(&all) {
                    self.say(place, &update);
                }
            }
            Step::AskAgain(place) => {
                if self.peers[place].is_reachable() && self.peers[place].facts.is_resolved {
                    self.tell_neighbour(place, true);
                }
            }
            Step::EdgeReturns => self.edge_returns(),
            Step::Forget(place) => {
                if !self.peers[place].wire.carrier && self.peers[place].facts.is_resolved {
                    self.tell_neighbour(place, false);
                }
            }
            Step::Enable(name) => self.enable(name),
            Step::Apply(variant) => self.apply_variant(variant),
        }
    }

    fn set_wire(&mut self, place: usize, change: impl FnOnce(&mut Wire)) {
        change(&mut self.peers[place].wire);
        self.note_path(place);
    }

    fn set_carrier(&mut self, place: usize, carrier: bool) {
        if self.peers[place].wire.carrier == carrier {
            return;
        }
        let now = self.now;
        let facts = &mut self.peers[place].facts;
        if carrier {
            facts.back_at = now;
        } else {
            facts.losses.push(now);
        }
        self.set_wire(place, |wire| wire.carrier = carrier);
        self.after(KERNEL, Event::Kernel(KernelEvent::Link(self.link(place))));
        if !carrier {
            self.after(FORGOTTEN, Event::Step(Step::Forget(place)));
        }
    }

    fn end_process(&mut self, place: usize) {
        if self.peers[place].runs {
            self.kill(Side::Peer, place);
            self.peers[place].runs = false;
            self.peers[place].forget_session();
        }
    }

    fn power_off(&mut self, place: usize) {
        if !self.peers[place].is_on {
            return;
        }
        let (detection, is_edge_down) = (self.detection(place), self.edge.is_down);
        let neighbour = &mut self.peers[place];
        neighbour.is_on = false;
        neighbour.runs = false;
        neighbour.bfd = None;
        neighbour.note_path(self.now, detection, is_edge_down);
        neighbour.forget_session();
        self.kill(Side::Peer, place);
    }

    fn shut(&mut self, place: usize, is_shut: bool) {
        if !self.peers[place].runs || is_shut == self.peers[place].facts.shut_since.is_some() {
            return;
        }
        self.peers[place].facts.shut_since = is_shut.then_some(self.now);
        self.with(Side::Peer, place, |session, now| {
            if is_shut {
                session.handle_close(now, Gate::Operator, "works");
            } else {
                session.handle_open(now, Gate::Operator);
            }
        });
    }

    fn enable(&mut self, name: &'static str) {
        if self.edge.is_down {
            return self.after(AGAIN, Event::Step(Step::Enable(name)));
        }
        match self.edge.core.enable(name, duration(self.now)) {
            Ok(_) => {
                for place in self.edge.places(name) {
                    self.disabled.remove(&place);
                }
                self.note_use();
                self.edge.is_told = true;
            }
            // A drill is running.
            Err(_) => self.after(AGAIN, Event::Step(Step::Enable(name))),
        }
    }

    fn apply_variant(&mut self, variant: Variant) {
        if self.edge.is_down {
            return self.after(AGAIN, Event::Step(Step::Apply(variant)));
        }
        let done = self.edge.apply(variant, self.plant, self.now);
        self.edge.is_told = true;
        self.log(|| format!("operator: apply {variant:?}: {done:?}"));
        match done {
            Ok(()) => self.note_use(),
            // A drill is running.
            Err(_) if variant == Variant::Base => self.after(AGAIN, Event::Step(Step::Apply(variant))),
            Err(_) => {}
        }
    }

    /// Everything is put right.
    pub(super) fn mend(&mut self) {
        self.log(|| "everything is mended".to_owned());
        self.queue.retain(|_, event| !matches!(event, Event::Step(_) | Event::Strike));
        self.carry_out_step(Step::EdgeReturns);
        for place in 0..PLACES.len() {
            self.carry_out_step(Step::Carrier(place, true));
            self.set_wire(place, |wire| (wire.to_peer, wire.to_edge, wire.loss) = (true, true, 0));
            self.carry_out_step(Step::PowerOn(place));
            self.carry_out_step(Step::ProcessReturns(place));
            self.carry_out_step(Step::Shut(place, false));
            if self.peers[place].is_drained {
                self.carry_out_step(Step::Drain(place, false));
            }
            if self.peers[place].facts.mac_since + ASKED_EVERY > self.now {
                self.after(ASKED_EVERY, Event::Step(Step::AskAgain(place)));
            }
            if self.peers[place].announced.is_empty() {
                let some = plan::universe(place).into_iter().take(2).collect();
                self.carry_out_step(Step::Announce(place, some));
            }
        }
        self.carry_out_step(Step::NoExcess);
        self.edge.core.end_drill(End::Stopped, duration(self.now));
        for circuit in CIRCUITS {
            self.carry_out_step(Step::Enable(circuit));
        }
        self.carry_out_step(Step::Apply(Variant::Base));
        self.turn();
    }
}
