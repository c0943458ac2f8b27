//! What `/metrics`, `/healthz` and `/readyz` say: the controller's state as metrics, with Azure's own names beside ours (rules G).
//!
//! Azure's names are seen from Azure: "in" is what we send to an MSEE, "out" what comes from there. Its values are per-second averages;
//! ours are of the last minute, from counts taken every five seconds ([`crate::metrics::rates`]). An availability is 100 or 0 at the
//! moment of the scrape, so that its average over time is a percentage as Azure's is.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use erdp_common::{classify::Class, policer::Passage};

use super::Controller;
use crate::{
    bgp::{FaultKind, State},
    compile::limits,
    config::{self, Circuit, Link, LinkRole, PeeringKind, Side},
    dataplane::{Counters, Dataplane as _},
    fib::NextHopKey,
    metrics::{
        Metric, Page,
        board::Snapshot,
        episodes::{Age, Episodes},
        rates::Rates,
    },
    pair::{self, Reason},
    types::AttachmentId,
};

/// What is kept between two scrapes.
#[derive(Debug, Default)]
pub struct Telemetry {
    bits: Rates<Counted>,
    drops: Episodes<Dropping>,
}

/// What is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dropping {
    /// For this reason.
    Reason(&'static str),
    /// By a policer, of this class.
    Policer(u16, Class),
}

/// What is turned into a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    /// Bits that came in on an attachment.
    Received(u16),
    /// Bits that were sent there.
    Sent(u16),
    /// Bits that a circuit's policers dropped, towards Microsoft or from there.
    Dropped(usize, limits::Direction),
}

impl Controller {
    /// Takes the counts that rates are made of, if it is time.
    pub(super) fn take_rates(&mut self) {
        let now_ns = self.started.elapsed().as_nanos() as u64;
        if !self.telemetry.bits.is_due(now_ns) {
            return;
        }
        let Ok(counters) = self.core.dataplane.counters() else { return };
        let (mut counts, now) = (BTreeMap::new(), self.started.elapsed());
        for (reason, tally) in &counters.dropped {
            self.telemetry.drops.take(now, Dropping::Reason(reason), tally.packets);
        }
        for (id, (rx, tx)) in &counters.attachments {
            counts.insert(Counted::Received(*id), 8 * rx.bytes);
            counts.insert(Counted::Sent(*id), 8 * tx.bytes);
        }
        for policer in limits::policers_of(&self.core.config) {
            let mut dropped = 0;
            for class in Class::ALL {
                let tally = self.core.dataplane.policed(policer.id, class)[Passage::Dropped as usize];
                dropped += tally.bytes;
                self.telemetry.drops.take(now, Dropping::Policer(policer.id, class), tally.packets);
            }
            *counts.entry(Counted::Dropped(policer.circuit, policer.direction)).or_default() += 8 * dropped;
        }
        self.telemetry.bits.take(now_ns, counts);
    }

    /// Since when packets are dropped for a reason, and when that was seen last.
    pub(super) fn drops_for(&self, reason: &'static str) -> Option<Age> {
        self.telemetry.drops.age(self.started.elapsed(), &Dropping::Reason(reason))
    }

    /// The same of a class of a policer.
    pub(super) fn drops_of(&self, policer: u16, class: Class) -> Option<Age> {
        self.telemetry.drops.age(self.started.elapsed(), &Dropping::Policer(policer, class))
    }

    /// Says that the loop turns, and puts a snapshot on the board where somebody waits for one.
    pub(super) fn note_turn(&self) {
        let now = Instant::now();
        self.board.beat(now, self.parts.dead());
        if self.board.is_due(now) {
            self.board.show(Snapshot::new(now, self.metrics(), self.unready(), self.held_lines()));
        }
    }

    /// Everything that is measured.
    fn metrics(&self) -> Result<Page, String> {
        let counters = self.core.dataplane.counters().map_err(|error| error.to_string())?;
        let mut page = Page::default();
        page.put(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1.0);
        page.put(Metric::Uptime, &[], self.started.elapsed().as_secs_f64());
        self.packet_metrics(&counters, &mut page);
        self.policer_metrics(&mut page);
        self.table_metrics(&mut page);
        for (index, circuit) in self.core.config.circuits.iter().enumerate() {
            self.circuit_metrics(index, circuit, &mut page);
        }
        for attachment in self.core.attachments.iter().filter(|attachment| !attachment.side.is_msee()) {
            let up = f64::from(u8::from(self.core.is_up(&attachment.interface)));
            page.put(Metric::InterfaceUp, &[&attachment.name, &attachment.interface], up);
        }
        for (interface, is_in_use) in self.core.presence() {
            page.put(Metric::InterfacePresent, &[interface], f64::from(u8::from(is_in_use)));
        }
        self.session_metrics(&mut page);
        self.azure_traffic(&mut page);
        Ok(page)
    }

    fn packet_metrics(&self, counters: &Counters, page: &mut Page) {
        for facts in self.core.forwarding.topology().attachments() {
            let (rx, tx) = counters.attachments.get(&facts.id.number()).copied().unwrap_or_default();
            let side = if facts.is_msee {
                "msee"
            } else if facts.is_service {
                "service"
            } else if facts.is_box {
                "box"
            } else {
                "ce"
            };
            let labels = [facts.name.as_str(), &facts.interface, side];
            page.put(Metric::AttachmentReceivedPackets, &labels, rx.packets as f64);
            page.put(Metric::AttachmentReceivedBytes, &labels, rx.bytes as f64);
            page.put(Metric::AttachmentSentPackets, &labels, tx.packets as f64);
            page.put(Metric::AttachmentSentBytes, &labels, tx.bytes as f64);
        }
        for (reason, tally) in &counters.dropped {
            page.put(Metric::DroppedPackets, &[reason], tally.packets as f64);
            page.put(Metric::DroppedBytes, &[reason], tally.bytes as f64);
        }
        for (kind, tally) in &counters.punted {
            page.put(Metric::PuntedPackets, &[kind], tally.packets as f64);
        }
        page.put(Metric::OriginatedPackets, &[], counters.originated.packets as f64);
        page.put(Metric::FromKernelPackets, &[], counters.from_kernel.packets as f64);
        page.put(Metric::TransmitLostPackets, &[], counters.transmit_lost.packets as f64);
        page.put(Metric::UnexplainedPackets, &[], counters.unexplained() as f64);
    }

    fn policer_metrics(&self, page: &mut Page) {
        for policer in limits::policers_of(&self.core.config) {
            let circuit = &self.core.config.circuits[policer.circuit];
            for class in Class::ALL {
                let tallies = self.core.dataplane.policed(policer.id, class);
                for (passage, tally) in Passage::ALL.into_iter().zip(tallies) {
                    let labels = [
                        &circuit.name,
                        policer.links,
                        policer.direction.as_label(),
                        class.label(),
                        passage.label(),
                    ];
                    page.put(Metric::CircuitPackets, &labels, tally.packets as f64);
                    page.put(Metric::CircuitBytes, &labels, tally.bytes as f64);
                }
            }
        }
    }

    fn table_metrics(&self, page: &mut Page) {
        for (id, count) in self.core.rib.counts() {
            let name = self.core.domains.get(usize::from(id.0)).map_or("?", |domain| &domain.name);
            page.put(Metric::Routes, &[name], count as f64);
        }
        let sizes = self.core.forwarding.sizes();
        let size = |name| sizes.get(name).copied().unwrap_or_default() as f64;
        page.put(Metric::FibInUse, &[], size("blocks"));
        page.put(Metric::FibSize, &[], f64::from(self.core.config.fib_blocks));
        page.put(Metric::RoutesWithoutRoom, &[], size("routes_without_room"));
    }

    fn circuit_metrics(&self, index: usize, circuit: &Circuit, page: &mut Page) {
        let name = circuit.name.as_str();
        let truth = |holds: bool| f64::from(u8::from(holds));
        page.put(Metric::CircuitBandwidth, &[name], circuit.bandwidth.0 as f64);
        page.put(Metric::CircuitSlaValid, &[name], truth(self.core.pair(circuit).is_sla_valid));
        for role in LinkRole::ALL {
            let link = role.as_str();
            page.put(Metric::AdminState, &[name, link], truth(circuit.enabled));
            let facts = self.core.link_facts(circuit, role);
            if !facts.is_unknown() {
                let judged = pair::judge(&facts);
                let reason = judged.reasons.first().map_or("none", |reason| reason.as_str());
                page.put(Metric::LinkEligible, &[name, link, reason], truth(judged.is_eligible));
            }
            if let Link::Local { interface, .. } = circuit.link(role) {
                let up = truth(self.core.is_up(interface));
                page.put(Metric::LinkUp, &[name, link, interface], up);
                page.put(Metric::LineProtocol, &[name, link], up);
            }
        }
        for (direction, metric) in [
            (limits::Direction::Outbound, Metric::QosDropBitsIn),
            (limits::Direction::Inbound, Metric::QosDropBitsOut),
        ] {
            page.put(metric, &[name], self.telemetry.bits.per_second(&Counted::Dropped(index, direction)));
        }
    }

    fn session_metrics(&self, page: &mut Page) {
        for (peer, session) in self.sessions() {
            let (status, counts) = (session.status(), self.core.rib.peer_counts(peer.session.id));
            let (remote, asn) = (peer.session.remote.to_string(), peer.session.remote_asn.0.to_string());
            let attachment = self.core.name_of(peer.attachment);
            let side = peer.side.as_str();
            let established = f64::from(u8::from(status.state == State::Established));
            let labels = [remote.as_str(), attachment];
            page.put(Metric::SessionEstablished, &[&remote, attachment, &asn, side], established);
            page.put(Metric::SessionUptime, &labels, status.uptime_s.unwrap_or(0) as f64);
            page.put(Metric::SessionReceived, &labels, counts.received as f64);
            page.put(Metric::SessionRefused, &labels, counts.refused as f64);
            page.put(Metric::SessionAdvertised, &labels, counts.advertised as f64);
            page.put(Metric::SessionMemory, &labels, counts.memory as f64);
            page.put(Metric::SessionMemoryMax, &labels, f64::from(peer.options.max_memory_mib) * 1_048_576.0);
            page.put(Metric::SessionSurplus, &labels, counts.surplus as f64);
            page.put(Metric::SessionOver, &labels, f64::from(u8::from(counts.is_over)));
            page.put(Metric::SessionTooLong, &labels, counts.too_long as f64);
            page.put(Metric::SessionStripped, &labels, counts.stripped as f64);
            for kind in FaultKind::ALL {
                let count = status.counters.faults(kind) as f64;
                page.put(Metric::SessionFaults, &[&remote, attachment, kind.as_str()], count);
            }
            let facts = self.core.facts_of(peer);
            let drains = facts.is_draining || facts.out_of_use == Some(Reason::Draining);
            page.put(Metric::SessionDraining, &labels, f64::from(u8::from(drains)));
            let is_in_service = facts.out_of_use.is_none_or(|reason| reason == Reason::Draining);
            page.put(Metric::SessionInService, &labels, f64::from(u8::from(is_in_service)));
            if let Side::Msee(role) = peer.side
                && let Some((circuit, peering)) = self.place_of(peer.attachment)
            {
                let azure_peer = azure_peer(role, peer.session.remote);
                let key = NextHopKey { attachment: peer.attachment, address: peer.session.remote };
                let resolved = f64::from(u8::from(self.core.resolved.contains(&key)));
                page.put(Metric::ArpAvailability, &[circuit, peering, &azure_peer], 100.0 * resolved);
                page.put(Metric::BgpAvailability, &[circuit, peering, &azure_peer], 100.0 * established);
            }
        }
    }

    fn azure_traffic(&self, page: &mut Page) {
        for attachment in &self.core.attachments {
            let (Side::Msee(role), Some((circuit, peering))) =
                (attachment.side, self.place_of(attachment.id))
            else {
                continue;
            };
            let id = attachment.id.number();
            let labels = [circuit, peering, azure_role(role)];
            let bits = &self.telemetry.bits;
            page.put(Metric::BitsIn, &labels, bits.per_second(&Counted::Sent(id)));
            page.put(Metric::BitsOut, &labels, bits.per_second(&Counted::Received(id)));
        }
    }

    /// The circuit and Azure's word for the peering of an MSEE attachment.
    fn place_of(&self, attachment: AttachmentId) -> Option<(&str, &'static str)> {
        let attachment = self.core.attachments.get(attachment.index())?;
        let domain = self.core.domains.get(usize::from(attachment.domains.first()?.0))?;
        let peering = match domain.kind {
            PeeringKind::Private => "AzurePrivatePeering",
            PeeringKind::Microsoft => "MicrosoftPeering",
        };
        Some((&self.core.config.circuits.get(domain.circuit)?.name, peering))
    }

    /// What hinders each enabled circuit from carrying traffic, and which interfaces are not there, one line each; empty: nothing. A circuit whose links are all on the
    /// other box hinders nothing here.
    fn unready(&self) -> String {
        let mut text = self.parts.dead() + &self.absent_interfaces();
        for (index, circuit) in
            self.core.config.circuits.iter().enumerate().filter(|(_, circuit)| circuit.is_in_use())
        {
            let of_it = |peer: &config::Peer| {
                let domain =
                    self.core.attachments.get(peer.attachment.index()).and_then(|it| it.domains.first());
                let domain = domain.and_then(|id| self.core.domains.get(usize::from(id.0)));
                peer.side.is_msee() && domain.is_some_and(|domain| domain.circuit == index)
            };
            let mut sessions = self.sessions().filter(|(peer, _)| of_it(peer)).peekable();
            if sessions.peek().is_some() && !sessions.any(|(_, it)| it.status().state == State::Established) {
                text += &format!(
                    "circuit {}: no session with an MSEE is established: `erdp show sessions` says why\n",
                    circuit.name
                );
            }
        }
        text
    }
}

fn azure_role(role: LinkRole) -> &'static str {
    match role {
        LinkRole::Primary => "Primary",
        LinkRole::Secondary => "Secondary",
    }
}

/// As `Primary-IPv4`.
fn azure_peer(role: LinkRole, address: IpAddr) -> String {
    format!("{}-{}", azure_role(role), if address.is_ipv4() { "IPv4" } else { "IPv6" })
}
