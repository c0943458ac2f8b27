//! A neighbour of the edge, MSEE or customer's router: the same session machines as the edge's, from the other end, with what it announces, what
//! it has heard, and what the world knows of it that the oracle judges by.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use erdp::{
    bfd::session::{Nanos, Parameters, Session as BfdSession},
    bgp::{
        AsPath, Community, Family, PathAttributes, PeerConfig, PeerEvent, PeerId, Seconds, Session, State,
        Update,
    },
    config,
};
use erdp_common::bfd::{PORT, wire::State as BfdState};
use etherparse::PacketBuilder;
use ipnet::IpNet;

use super::{
    Time, budgets, moment,
    net::Wire,
    plan::{self, PLACES, Realm},
};

/// How often an MSEE puts its AS in front more than usual while it is drained (B7).
const DRAIN_REPEATS: usize = 8;
/// The community that the edge's route filter wants (D6), and another one.
const WANTED: Community = Community::new(12_076, 5_010);
const UNWANTED: Community = Community::new(12_076, 5_020);

/// A neighbour.
pub struct Neighbour {
    /// Its place in [`PLACES`].
    pub place: usize,
    /// Its BGP.
    pub session: Session,
    /// Its BFD.
    pub bfd: Option<BfdSession>,
    config: PeerConfig,
    parameters: Option<Parameters>,
    /// The number of the session that is established.
    pub established: Option<u64>,
    /// The wire to it.
    pub wire: Wire,
    /// Whether it has power.
    pub is_on: bool,
    /// Whether its BGP process runs.
    pub runs: bool,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Whether it is drained (B7).
    pub is_drained: bool,
    /// What it announces.
    pub announced: BTreeSet<IpNet>,
    /// What it has heard of the edge.
    pub heard: BTreeSet<IpNet>,
    /// What the world knows of it.
    pub facts: Facts,
}

/// Since when something holds of a neighbour.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Packets arrive both ways, and none is lost.
    pub whole_since: Option<Time>,
    /// Packets do not arrive, and the edge must have noticed at this time.
    pub noticed_by: Option<Time>,
    /// Its session is established.
    pub established_since: Option<Time>,
    /// No operator of the edge has taken it out of use.
    pub in_use_since: Option<Time>,
    /// An operator of the edge has taken it out of use.
    pub out_of_use_since: Option<Time>,
    /// Microsoft drains it (B7).
    pub drained_since: Option<Time>,
    /// Microsoft drains it no longer.
    pub undrained_at: Time,
    /// Its own operator has shut its session.
    pub shut_since: Option<Time>,
    /// Lost carriers.
    pub losses: Vec<Time>,
    /// The carrier is back.
    pub back_at: Time,
    /// It has its MAC address.
    pub mac_since: Time,
    /// It announces more than it may.
    pub over_since: Option<Time>,
    /// What it announces.
    pub announced_since: BTreeMap<IpNet, Time>,
    /// What it does not announce any more.
    pub withdrawn_at: BTreeMap<IpNet, Time>,
    /// The edge's kernel has its MAC address.
    pub is_resolved: bool,
    /// The edge's kernel asks in vain.
    pub unanswered_since: Option<Time>,
}

impl Neighbour {
    /// The other end of a session of the edge's configuration.
    pub fn new(peer: &config::Peer, place: usize, delay: Time, seed: u64) -> Self {
        let ours = &peer.session;
        let host = place as u8 + 1;
        let asns = (ours.remote_asn, ours.local_asn);
        let config = PeerConfig {
            families: vec![Family::Ipv4Unicast],
            hold: Seconds(180),
            ..PeerConfig::new(
                PeerId(place as u16),
                asns,
                Ipv4Addr::new(198, 19, 0, host),
                ours.remote,
                ours.local,
            )
        };
        let parameters = peer.bfd.map(|bfd| Parameters {
            interval_us: bfd.interval_us,
            multiplier: bfd.multiplier,
            discriminator: 1_000 + u32::from(host),
            // An MSEE's BFD runs in its line cards.
            is_independent: true,
        });
        let mut neighbour = Self {
            place,
            session: Session::new(config.clone(), seed),
            bfd: None,
            config,
            parameters,
            established: None,
            wire: Wire { carrier: true, to_peer: true, to_edge: true, loss: 0, delay },
            is_on: true,
            runs: true,
            mac: [2, 0, 0, 0, 9, host],
            is_drained: false,
            announced: BTreeSet::new(),
            heard: BTreeSet::new(),
            facts: Facts::default(),
        };
        let initial = plan::universe(place).into_iter().take(4);
        let unwanted = if neighbour.is_public_msee() { plan::unwanted() } else { Vec::new() };
        neighbour.announced = initial.chain(unwanted).collect();
        neighbour
    }

    /// It begins, with a new BFD session and a BGP process that was not there before.
    pub fn power_on(&mut self, now: Time, seed: u64) {
        self.is_on = true;
        if let Some(parameters) = &mut self.parameters {
            parameters.discriminator += 100;
            self.bfd = Some(BfdSession::new(*parameters, Nanos(now)));
        }
        self.begin(now, seed, false);
    }

    /// Its BGP process begins; `is_restart`: its forwarding went on meanwhile (RFC 4724).
    pub fn begin(&mut self, now: Time, seed: u64, is_restart: bool) {
        self.runs = true;
        let config =
            PeerConfig { restarting: is_restart, forwarding_preserved: is_restart, ..self.config.clone() };
        self.session = Session::new(config, seed);
        self.session.handle_start(moment(now));
        self.facts.shut_since = None;
        self.forget_session();
    }

    /// Whether packets from either end arrive at the other one's device.
    pub fn is_reachable(&self) -> bool {
        self.is_on && self.wire.is_alive()
    }

    /// The session is not there.
    pub fn forget_session(&mut self) {
        self.established = None;
        self.facts.established_since = None;
        self.heard.clear();
    }

    /// What its session says; the answer is what it sends in return.
    pub fn handle_event(&mut self, event: PeerEvent, now: Time) -> Vec<Update> {
        match event {
            PeerEvent::Established { facts, .. } => {
                self.forget_session();
                self.established = Some(facts.session);
                self.facts.established_since = Some(now);
                self.note_excess(now);
                self.table()
            }
            PeerEvent::Refresh { .. } => self.table(),
            PeerEvent::Update { update, .. } => {
                for prefix in &update.withdrawn {
                    self.heard.remove(prefix);
                }
                self.heard.extend(update.announced);
                Vec::new()
            }
            PeerEvent::Down { reason, .. } => {
                if self.session.state() != State::Established {
                    self.forget_session();
                }
                // Cease/1: it was noticed, and nothing of it counts until the next session.
                if !reason.to_string().contains("6/1)") {
                    self.facts.over_since = None;
                }
                Vec::new()
            }
        }
    }

    /// What it says in its session is more than it may.
    pub fn note_excess(&mut self, now: Time) {
        let is_over = plan::excess().iter().any(|prefix| self.announced.contains(prefix));
        if self.established.is_some() {
            self.facts.over_since = is_over.then(|| self.facts.over_since.unwrap_or(now));
        }
    }

    /// Everything that it announces, and that this is all.
    fn table(&self) -> Vec<Update> {
        let mut updates = self.announcements(&self.announced.iter().copied().collect::<Vec<_>>());
        updates.push(Update { end_of_rib: Some(Family::Ipv4Unicast), ..Update::default() });
        updates
    }

    /// Messages that announce prefixes.
    pub fn announcements(&self, prefixes: &[IpNet]) -> Vec<Update> {
        let (unwanted, wanted): (Vec<IpNet>, Vec<IpNet>) =
            prefixes.iter().partition(|prefix| plan::unwanted().contains(prefix));
        let parts = [(wanted, WANTED), (unwanted, UNWANTED)];
        let parts = parts.into_iter().filter(|(prefixes, _)| !prefixes.is_empty());
        let update = |(announced, community)| {
            let repeats = if self.is_drained { 1 + DRAIN_REPEATS } else { 1 };
            let attributes = PathAttributes {
                as_path: AsPath::sequence(std::iter::repeat_n(self.config.local_asn.0, repeats)),
                communities: if self.is_public_msee() { vec![community] } else { Vec::new() },
                ..PathAttributes::originated(self.config.local)
            };
            Update { announced, attributes: Some(Arc::new(attributes)), ..Update::default() }
        };
        parts.map(update).collect()
    }

    /// From now on it announces these too; the answer is the messages.
    pub fn announce(&mut self, prefixes: &[IpNet], now: Time) -> Vec<Update> {
        for prefix in prefixes {
            if self.announced.insert(*prefix) {
                self.facts.announced_since.insert(*prefix, now);
                self.facts.withdrawn_at.remove(prefix);
            }
        }
        self.announcements(prefixes)
    }

    /// From now on it announces these no more; the answer is the message.
    pub fn withdraw(&mut self, prefixes: &[IpNet], now: Time) -> Vec<Update> {
        let withdrawn: Vec<IpNet> = prefixes.iter().copied().filter(|it| self.announced.remove(it)).collect();
        for prefix in &withdrawn {
            self.facts.announced_since.remove(prefix);
            self.facts.withdrawn_at.insert(*prefix, now);
        }
        vec![Update { withdrawn, ..Update::default() }]
    }

    /// What follows from the wire and the power, after either has changed.
    pub fn note_path(&mut self, now: Time, detection: Time, is_edge_down: bool) {
        let is_alive = self.is_reachable();
        let is_whole = is_alive && self.wire.loss == 0;
        match (is_whole, self.facts.whole_since) {
            (true, None) => self.facts.whole_since = Some(now),
            (false, _) => self.facts.whole_since = None,
            (true, Some(_)) => {}
        }
        let within = if self.wire.carrier || is_edge_down { detection } else { budgets::CARRIER };
        let noticed = now.saturating_add(within);
        self.facts.noticed_by = match (is_alive, self.facts.noticed_by) {
            (true, _) => None,
            // It has been noticed, and is no other fault than before. A carrier that is back is used at once, whatever is behind it.
            (false, Some(before)) if before <= now && self.facts.back_at < now => Some(before),
            // What would have been noticed by one way may now be noticed by another one only.
            (false, _) => Some(noticed),
        };
    }

    /// The edge's process has died: what it has not noticed yet is for the packet path to notice.
    pub fn forget_who_notices(&mut self, now: Time) {
        let within = self.detection_without_process();
        if let Some(by) = self.facts.noticed_by.as_mut().filter(|by| **by > now) {
            *by = now.saturating_add(within);
        }
    }

    /// Within which time the edge must notice that packets do not arrive, by what runs at this moment (B4, B5, H1). `edge`: the state of its
    /// BFD, and for how long it has been in it.
    pub fn detection(&self, edge: Option<(BfdState, Time)>) -> Time {
        let hold = if self.place == plan::CE1 { plan::HOLD_OF_CE1 } else { plan::HOLD };
        let is_up = self.bfd.as_ref().is_some_and(|bfd| bfd.state() == BfdState::Up);
        match edge {
            Some((BfdState::Up, age)) if is_up && age >= budgets::SLOW_FOR => budgets::DETECTION,
            Some((BfdState::Up, _)) if is_up => budgets::SLOW_DETECTION,
            _ => hold + budgets::HOLD_SLACK,
        }
    }

    /// The same while the edge's process is dead: the packet path has heard BFD itself, and knows nothing else.
    pub fn detection_without_process(&self) -> Time {
        match &self.bfd {
            Some(bfd) if bfd.state() == BfdState::Up => budgets::SLOW_DETECTION,
            _ => Time::MAX,
        }
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.config.local
    }

    /// A BFD packet of it as a frame on the edge's interface.
    pub fn bfd_frame(&self, ifindex: u32, payload: &[u8]) -> Vec<u8> {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        let builder = PacketBuilder::ethernet2(self.mac, [2, 0, 0, 0, 1, ifindex as u8])
            .ipv4(octets(self.config.local), octets(self.config.remote), 255)
            .udp(49_152, PORT);
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        // Writing into memory does not fail, and the payload is short.
        drop(builder.write(&mut frame, payload));
        frame
    }

    /// Since when packets to a prefix reach it by this neighbour, as far as the world can say; `None`: they do not.
    pub fn leads_since(&self, prefix: IpNet, now: Time) -> Option<Time> {
        let facts = &self.facts;
        if !self.announced.contains(&prefix) || facts.over_since.is_some() || self.is_held_down(now) {
            return None;
        }
        let announced = facts.announced_since.get(&prefix).copied().unwrap_or_default();
        let since =
            [facts.whole_since?, facts.established_since?, facts.in_use_since?, facts.mac_since, announced];
        since.into_iter().max()
    }

    /// Whether it flaps, so that the edge may leave it alone.
    pub fn is_held_down(&self, now: Time) -> bool {
        let recent = self.facts.losses.iter().filter(|at| now - **at < budgets::FLAPS_COUNT_FOR).count();
        recent > budgets::FREE_LOSSES && now < self.facts.back_at + budgets::HELD_DOWN
    }

    fn is_public_msee(&self) -> bool {
        PLACES[self.place].is_msee() && PLACES[self.place].realm == Realm::Public
    }
}
