//! What must hold, judged by what the world knows: who has power and a wire, who announces what, what operators have ordered. What the core
//! believes is asked only where it is itself what is judged: that the maps are what the routing base says.
//!
//! What a dead process has left forwards until its successor has heard everybody whom it waits for. Until then orders and limits do not change
//! where packets go, no circuit takes the place of another one, and a MAC address of a customer's router that has changed while no process ran is
//! not followed: this is left out, and bounded by `restart-deadline`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use erdp::{
    bgp::{State, Update},
    drill::Phase,
};
use erdp_common::{bfd::wire::State as BfdState, reason::DropReason};
use ipnet::IpNet;

use super::{
    Time, budgets,
    edge::Way,
    neighbour::Neighbour,
    plan::{self, CE0, CE1, PLACES, Realm, Variant},
    world::World,
};

/// Flows to each prefix that are asked about at a look; others at the next one.
const FLOWS: u16 = 3;
/// Flows that show every member of a group of two: one in 2^32 times one would be missed.
const ALL_FLOWS: u16 = 32;
/// A prefix is looked at once in so many looks.
const SHARES: usize = 3;

/// The domains of a realm, as the configuration numbers them.
fn domains(realm: Realm) -> &'static [usize] {
    match realm {
        Realm::Private => &[0, 1],
        Realm::Public => &[2],
    }
}

fn source_of(place: usize) -> IpAddr {
    match place {
        CE1 => Ipv4Addr::new(192, 88, 97, 9).into(),
        _ => Ipv4Addr::new(192, 168, 0, 9).into(),
    }
}

impl World {
    /// A look at what packets do now.
    pub(super) fn look(&mut self) {
        self.looks += 1;
        let share = self.looks as usize % SHARES;
        for from in [CE0, CE1] {
            let universe = plan::universe(plan_msee(from));
            for prefix in universe.into_iter().skip(share).step_by(SHARES) {
                self.look_from_customer(from, prefix);
            }
        }
        if share == 0 {
            self.look_for_leaks();
        }
        for msee in (0..CE0).skip(share).step_by(SHARES) {
            let customer = customer_of(msee);
            let Some(source) = self.source_from(msee) else { continue };
            for prefix in plan::universe(customer) {
                self.look_from_msee(msee, source, customer, prefix);
            }
        }
        self.judge_excess();
    }

    /// An address from which an MSEE's packets are taken: its prefix is known at the edge.
    fn source_from(&self, msee: usize) -> Option<IpAddr> {
        let unwanted = plan::unwanted();
        let its = self.peers[msee].announced.iter().filter(|prefix| !unwanted.contains(prefix));
        its.copied().find(|prefix| self.leads(msee, *prefix)).map(plan::host)
    }

    /// Whether a link has just died that may have been preferred, of another circuit or undrained: a moment later the routes over it are a last
    /// resort, and this one's are used.
    fn takes_over(&self, place: usize) -> bool {
        let just_died = |it: usize| {
            let by = self.peers[it].facts.noticed_by;
            by.is_some_and(|by| self.now <= by.saturating_add(budgets::OTHER_CIRCUIT))
        };
        let (realm, circuit) = (PLACES[place].realm, PLACES[place].circuit);
        let is_preferred =
            |it: usize| PLACES[it].circuit != circuit || self.peers[place].facts.drained_since.is_some();
        (0..CE0).any(|it| PLACES[it].realm == realm && is_preferred(it) && just_died(it))
    }

    /// Whether a neighbour leads to a prefix for long enough that packets must arrive: the edge has heard of it, or has had when its process died.
    pub(super) fn leads(&self, place: usize, prefix: IpNet) -> bool {
        let neighbour = &self.peers[place];
        let settled =
            neighbour.leads_since(prefix, self.now).is_some_and(|since| self.now - since >= budgets::SETTLE);
        let Some((died, led)) = &self.frozen else { return settled };
        let facts = &neighbour.facts;
        led[place].contains(&prefix)
            && neighbour.announced.contains(&prefix)
            && facts.over_since.is_none()
            && facts.in_use_since.is_some()
            && facts.whole_since.is_some_and(|since| since <= *died)
            && facts.mac_since <= *died
    }

    /// Whether packets to a prefix must arrive by some of these neighbours.
    fn must_arrive(&self, mut leading: impl Iterator<Item = usize>, prefix: IpNet) -> bool {
        leading.any(|place| self.leads(place, prefix) && !self.takes_over(place))
    }

    fn look_from_customer(&mut self, from: usize, prefix: IpNet) {
        let realm = PLACES[from].realm;
        let leading =
            || (0..PLACES.len()).filter(move |it| PLACES[*it].is_msee() && PLACES[*it].realm == realm);
        let must = self.must_arrive(leading(), prefix);
        for flow in 0..FLOWS {
            let port = self.port(flow);
            let way = self.ask(from, source_of(from), prefix, port);
            self.judge_way(from, prefix, way, must);
            self.judge_maintenance(prefix, way);
            if self.edge.is_without_its_own() {
                continue;
            }
            let is_off = |domain: &&usize| **domain == 1 && self.edge.variant == Variant::TwoDisabled;
            let in_use: Vec<usize> = domains(realm).iter().filter(|it| !is_off(it)).copied().collect();
            let has_route = self.edge.rib_leads(&in_use, prefix);
            if has_route == (way == Way::Dropped(DropReason::NoRoute)) {
                let what = format!("{prefix}: the routing base has a route: {has_route}, the maps: {way:?}");
                self.violate("the maps are what the routing base says", what);
            }
        }
    }

    fn look_from_msee(&mut self, msee: usize, source: IpAddr, customer: usize, prefix: IpNet) {
        let must = self.must_arrive(std::iter::once(customer), prefix);
        let port = self.port(0);
        let way = self.ask(msee, source, prefix, port);
        self.judge_way(msee, prefix, way, must);
    }

    /// From each customer's router to what it must never reach.
    fn look_for_leaks(&mut self) {
        let port = self.port(0);
        for (from, foreign) in
            [(CE0, plan::universe(plan::M5)), (CE1, plan::universe(0)), (CE1, plan::unwanted())]
        {
            for prefix in foreign {
                for source in [source_of(CE0), source_of(CE1)] {
                    let way = self.ask(from, source, prefix, port);
                    if let Way::To(place, _) = way {
                        let what = format!("{} -> {prefix} leaves to {}", name(from), name(place));
                        self.violate(
                            "C1, D6: no way into another domain, nor to what the filter refuses",
                            what,
                        );
                    }
                }
            }
        }
    }

    fn port(&self, flow: u16) -> u16 {
        1_024 + (self.looks as u16).wrapping_mul(7).wrapping_add(flow * 311) % 40_000
    }

    fn ask(&mut self, from: usize, source: IpAddr, prefix: IpNet, port: u16) -> Way {
        self.report.asked += 1;
        self.edge.way(from, source, plan::host(prefix), port)
    }

    /// A packet's way is one that its world allows.
    fn judge_way(&mut self, from: usize, prefix: IpNet, way: Way, must: bool) {
        let now = self.now;
        let arrow = format!("{} -> {prefix}", name(from));
        let (place, mac) = match way {
            Way::To(place, mac) => (place, mac),
            Way::Dropped(reason) => {
                // What a dead process has left knows no other circuit for a prefix than the one that it used.
                let is_left = self.edge.is_without_its_own() && reason == DropReason::NoLiveLink;
                if must && !is_left {
                    let what = format!("{arrow} is dropped: {}", reason.label());
                    self.violate("B2: no black hole beyond its budget", what);
                }
                return;
            }
            Way::Astray => return self.violate("forwarded or dropped", format!("{arrow} goes astray")),
        };
        let (neighbour, to) = (&self.peers[place], name(place));
        let facts = &neighbour.facts;
        let found = if PLACES[place].realm != PLACES[from].realm
            || PLACES[place].is_msee() == PLACES[from].is_msee()
        {
            Some(("C1: no way into another domain", format!("{arrow} leaves to {to}")))
        } else if mac != neighbour.mac
            && !self.edge.is_down
            && (PLACES[place].is_msee() || !self.edge.is_without_its_own())
            && now > facts.mac_since.max(self.begun_at) + budgets::NEW_MAC
            && facts.whole_since.is_some_and(|it| now > it + budgets::NEW_MAC)
        {
            Some(("B2: no next hop that is no more", format!("{arrow} leaves to {to} by {mac:02x?}")))
        } else if facts.noticed_by.is_some_and(|by| now > by) {
            Some(("B5, H1: no route by a link that is dead", format!("{arrow} leaves to {to}")))
        } else if facts.out_of_use_since.is_some_and(|since| now > since + budgets::OUT_OF_USE)
            && !self.may_be_used_in_its_drill(place)
            && !self.edge.is_without_its_own()
        {
            Some(("B6, A8: what is out of use is not used", format!("{arrow} leaves to {to}")))
        } else if self.frozen.is_none() && is_without_reason(neighbour, prefix, now) {
            Some(("no route without a reason", format!("{arrow} leaves to {to}, which does not announce it")))
        } else {
            None
        };
        if let Some((rule, what)) = found {
            self.violate(rule, what);
        }
    }

    /// A drilled link is used before it fails, and when it is needed.
    fn may_be_used_in_its_drill(&self, place: usize) -> bool {
        self.drilled.contains(&place) && self.edge.core.drill_phase() != Some(Phase::Failing)
    }

    /// Flows leave a link that Microsoft drains where the circuit's other one leads there too (B7).
    fn judge_maintenance(&mut self, prefix: IpNet, way: Way) {
        let Way::To(place, _) = way else { return };
        if self.edge.is_without_its_own() {
            return;
        }
        let now = self.now;
        let settled = |since: Option<Time>| since.is_some_and(|it| now - it >= budgets::SETTLE);
        let facts = &self.peers[place].facts;
        if !settled(facts.drained_since) || !settled(facts.established_since) || !settled(facts.whole_since) {
            return;
        }
        let mut others = (0..CE0).filter(|it| *it != place && PLACES[*it].circuit == PLACES[place].circuit);
        let is_better = |it: &usize| {
            let other = &self.peers[*it];
            !other.is_drained
                && settled(Some(other.facts.undrained_at))
                && settled(other.leads_since(prefix, now))
        };
        if let Some(better) = others.find(is_better) {
            let what = format!("{prefix} by {} while {} is there", name(place), name(better));
            self.violate("B7: flows leave a link that is drained", what);
        }
    }

    /// None of the routes of a customer that is above its limit is used or advertised (D2).
    fn judge_excess(&mut self) {
        if self.edge.is_without_its_own() {
            return;
        }
        let now = self.now;
        let facts = &self.peers[CE0].facts;
        let is_over = facts.over_since.is_some_and(|since| now - since >= budgets::SETTLE)
            && facts.whole_since.is_some_and(|since| now - since >= budgets::SETTLE);
        if !is_over {
            return;
        }
        let theirs: BTreeSet<IpNet> = self.peers[CE0].announced.clone();
        let told = (0..CE0).filter(|it| PLACES[*it].realm == Realm::Private).find_map(|msee| {
            let neighbour = &self.peers[msee];
            let is_heard = neighbour.facts.whole_since.is_some_and(|since| now - since >= budgets::SETTLE);
            neighbour.heard.iter().find(|it| is_heard && theirs.contains(it)).map(|it| (msee, *it))
        });
        if let Some((msee, prefix)) = told {
            let what = format!("{prefix} is advertised to {}", name(msee));
            self.violate("D2: nothing of a customer above its limit is advertised", what);
        }
        let Some((msee, source)) = (0..4).find_map(|it| Some((it, self.source_from(it)?))) else {
            return;
        };
        for prefix in plan::universe(CE0).into_iter().chain(plan::excess().into_iter().take(2)) {
            let port = self.port(1);
            if matches!(self.ask(msee, source, prefix, port), Way::To(..)) {
                let what = format!("{} -> {prefix} is forwarded", name(msee));
                self.violate("D2: nothing of a customer above its limit is used", what);
            }
        }
    }

    /// A neighbour hears only what it may ever hear (C1, D2, D9).
    pub(super) fn judge_heard(&mut self, place: usize, update: &Update) {
        let others: Vec<IpNet> = if PLACES[place].is_msee() {
            plan::universe(customer_of(place))
        } else {
            plan::universe(plan_msee(place))
        };
        if let Some(prefix) = update.announced.iter().find(|it| !others.contains(it)) {
            let what = format!("{} is advertised {prefix}", name(place));
            self.violate("C1, D2, D6, D9: nobody is advertised what is not for them", what);
        }
    }

    /// Everything is mended, and time enough has passed: all is as it should be, and nothing has happened for a while.
    pub(super) fn judge_whole(&mut self) {
        for place in 0..PLACES.len() {
            self.judge_sessions(place);
            self.judge_advertised(place);
        }
        for from in [CE0, CE1] {
            for prefix in plan::universe(plan_msee(from)) {
                self.judge_ways(from, prefix, self.preferred(from, prefix));
            }
        }
        for msee in 0..CE0 {
            let customer = customer_of(msee);
            let Some(source) = self.source_from(msee) else { continue };
            for prefix in plan::universe(customer) {
                let expected = self.peers[customer].announced.contains(&prefix).then_some(customer);
                let way = self.ask(msee, source, prefix, 7);
                if expected != place_of(way) {
                    let what = format!("{} -> {prefix}: {way:?}, expected {expected:?}", name(msee));
                    self.violate("whole: every way is there, and no other", what);
                }
            }
        }
        self.judge_quiet();
        self.judge_memory();
    }

    fn judge_sessions(&mut self, place: usize) {
        let ours = self.edge.sessions[place].as_ref().map(|it| it.state());
        let theirs = self.peers[place].session.state();
        let bfd = self.edge.bfd_state(place, self.now).map_or(BfdState::Up, |(state, _)| state);
        if (ours, theirs, bfd) != (Some(State::Established), State::Established, BfdState::Up) {
            let why = self.edge.sessions[place].as_ref().and_then(|it| it.last_error()).map(str::to_owned);
            let what = format!("{}: BGP {ours:?} and {theirs:?}, BFD {bfd:?}; {why:?}", name(place));
            self.violate("whole: every session is up", what);
        }
    }

    /// What a neighbour has heard is what the others announce.
    fn judge_advertised(&mut self, place: usize) {
        let unwanted = plan::unwanted();
        let from = (0..PLACES.len()).filter(|it| {
            PLACES[*it].realm == PLACES[place].realm && PLACES[*it].is_msee() != PLACES[place].is_msee()
        });
        let expected: BTreeSet<IpNet> = from
            .flat_map(|it| self.peers[it].announced.iter().copied())
            .filter(|prefix| !unwanted.contains(prefix))
            .collect();
        if self.peers[place].heard != expected {
            let missing: Vec<_> = expected.difference(&self.peers[place].heard).collect();
            let surplus: Vec<_> = self.peers[place].heard.difference(&expected).collect();
            let what = format!("{}: not advertised {missing:?}, not withdrawn {surplus:?}", name(place));
            self.violate("whole: everybody is advertised exactly what they should", what);
        }
    }

    /// Who should carry a customer's packets to a prefix when all is well: the first circuit's links, or the second one's.
    fn preferred(&self, from: usize, prefix: IpNet) -> BTreeSet<usize> {
        let realm = PLACES[from].realm;
        let of = |circuit: usize| -> BTreeSet<usize> {
            let its = (0..CE0).filter(|it| PLACES[*it].circuit == Some(circuit));
            its.filter(|it| self.peers[*it].announced.contains(&prefix)).collect()
        };
        domains(realm).iter().map(|circuit| of(*circuit)).find(|it| !it.is_empty()).unwrap_or_default()
    }

    fn judge_ways(&mut self, from: usize, prefix: IpNet, expected: BTreeSet<usize>) {
        let ways: Vec<Way> =
            (0..ALL_FLOWS).map(|flow| self.ask(from, source_of(from), prefix, 2_000 + flow)).collect();
        let found: BTreeSet<usize> = ways.iter().filter_map(|way| place_of(*way)).collect();
        if found != expected || ways.iter().any(|way| place_of(*way).is_none() != expected.is_empty()) {
            let names = |places: &BTreeSet<usize>| places.iter().map(|it| name(*it)).collect::<Vec<_>>();
            let what = format!(
                "{} -> {prefix} goes to {:?} ({:?}), expected {:?}",
                name(from),
                names(&found),
                ways.first(),
                names(&expected)
            );
            self.violate("whole: every way is there, and no other", what);
        }
    }

    fn judge_quiet(&mut self) {
        let now = (self.edge.actions, self.edge.updates);
        if self.calm.is_some_and(|before| before != now) {
            let what = format!("actions and updates before and after: {:?}, {now:?}", self.calm);
            self.violate("quiet when the world is quiet", what);
        }
    }

    fn judge_memory(&mut self) {
        let sizes = self.edge.core.forwarding().sizes();
        let groups = sizes.get("groups").copied().unwrap_or_default();
        let most = (0..PLACES.len())
            .map(|place| self.connections.values().filter(|it| it.place == place).count())
            .max()
            .unwrap_or_default();
        if groups > budgets::GROUPS_MAX || most > budgets::CONNECTIONS_MAX {
            self.violate("memory is bounded", format!("{groups} groups, {most} connections of a neighbour"));
        }
    }
}

/// A neighbour that is whole has said long enough ago that it does not lead there, or that it leads nowhere.
fn is_without_reason(neighbour: &Neighbour, prefix: IpNet, now: Time) -> bool {
    let facts = &neighbour.facts;
    let settled = |since: Option<Time>| since.is_some_and(|it| now - it >= budgets::SETTLE);
    if !settled(facts.whole_since) {
        return false;
    }
    let is_withdrawn = !neighbour.announced.contains(&prefix)
        && facts.withdrawn_at.get(&prefix).is_none_or(|at| now - at >= budgets::SETTLE)
        && settled(facts.established_since);
    is_withdrawn || settled(facts.shut_since)
}

fn place_of(way: Way) -> Option<usize> {
    match way {
        Way::To(place, _) => Some(place),
        Way::Dropped(_) | Way::Astray => None,
    }
}

fn customer_of(msee: usize) -> usize {
    match PLACES[msee].realm {
        Realm::Private => CE0,
        Realm::Public => CE1,
    }
}

/// An MSEE of a customer's realm.
fn plan_msee(customer: usize) -> usize {
    match PLACES[customer].realm {
        Realm::Private => 0,
        Realm::Public => plan::M5,
    }
}

fn name(place: usize) -> &'static str {
    PLACES[place].interface
}
