//! What operators see: `erdp show`, as JSON.

use erdp_common::{classify::Class, policer::Passage};
use serde_json::{Value, json};

use super::Controller;
use crate::{
    bgp::{Family, FaultKind},
    compile::limits::{self, Direction},
    config::{DomainId, Link, LinkRole, Side},
    control::{Reply, Request, Setting, Topic, search::OnlyHere},
    dataplane::{Dataplane as _, Mode},
    fib::NextHopKey,
    rib::Meter,
    types::mac_text,
};

impl Controller {
    /// The answer to a request.
    pub(super) fn answer(&mut self, request: &Request, only_here: Option<&OnlyHere>) -> Reply {
        let result = match request {
            Request::Show(Topic::Sessions) => Ok(self.show_sessions()),
            Request::Show(Topic::Limits) => Ok(self.show_limits()),
            Request::Show(Topic::Links) => Ok(self.show_links()),
            Request::Show(Topic::Bfd) => Ok(self.show_bfd()),
            Request::Show(Topic::Circuits) => Ok(self.show_circuits()),
            Request::Show(Topic::Counters) => self.show_counters(),
            Request::Show(Topic::Policers) => Ok(self.show_policers()),
            Request::Show(Topic::Events) => Ok(self.show_events()),
            Request::Show(Topic::Drops) => Ok(self.drops.show(self.core.forwarding.topology())),
            Request::Peer { name } => self.show_peer(name),
            // Asked for a page at a time.
            Request::Routes(_) | Request::Paths(_) | Request::Show(Topic::Routes | Topic::Refused) => {
                Err("not a question of one turn".into())
            }
            // Carried out by the loop, which may wait for it.
            Request::Config(_) => Err("the loop answers this".into()),
            Request::Set(Setting::Circuit { name, change, force }) => self.set_circuit(name, change, *force),
            Request::Peering(asked) => self.peering(asked, only_here),
            Request::Drill(asked) => self.drill(asked, only_here),
            Request::Load { link } => self.load(link, only_here),
            // Read from the board.
            Request::Metrics | Request::Ready => Err("not a question to the loop".into()),
            Request::Explain(question) => self.explain(question),
            Request::Restart => self.start_successor(),
            // The server has passed it on another way.
            Request::HandOver { .. } => Err("not a question".into()),
        };
        result.map_or_else(Reply::Error, Reply::Ok)
    }

    fn show_sessions(&self) -> Value {
        self.sessions().map(|(peer, session)| self.session_row(peer, session)).collect()
    }

    /// A row of `erdp show sessions`.
    pub(super) fn session_row(&self, peer: &crate::config::Peer, session: &crate::bgp::PeerHandle) -> Value {
        let (status, counts) = (session.status(), self.core.rib.peer_counts(peer.session.id));
        let finding = self
            .interface_finding(peer)
            .map(|text| (None, text))
            .or_else(|| Some((Some("E2"), self.core.wire_finding(peer, self.started.elapsed())?)))
            .or_else(|| {
                let brings_nothing = self.core.rib.brings_nothing(peer.session.id);
                let (rule, text) = finding(peer, &status, counts, self.route_filter(peer), brings_nothing)?;
                Some((Some(rule), text.to_owned()))
            });
        json!({
                "peer": peer.session.remote,
                "asn": peer.session.remote_asn,
                "side": peer.side.as_str(),
                "state": status.state,
                "admin": self.core.admin(peer.session.id),
                "bfd": self.bfd_state(peer.session.id),
                "received": counts.received,
                "refused": counts.refused,
                "advertised": counts.advertised,
                "stale": counts.stale,
                "draining": counts.draining,
                "memory_bytes": counts.memory,
                "memory_max_bytes": u64::from(peer.options.max_memory_mib) << 20,
                "max_prefixes": peer.options.max_prefixes.map(|max| max.limit),
                "surplus": counts.surplus,
                "too_long": counts.too_long,
                "stripped": counts.stripped,
                "uptime_s": status.uptime_s,
                "sessions": status.counters.established,
                "attachment": self.core.name_of(peer.attachment),
                "last_error": status.last_error,
                "finding": finding.as_ref().map(|(_, text)| text),
                "rule": finding.as_ref().and_then(|(rule, _)| *rule),
                "mac": self.neighbour_mac(peer),
                "last_error_age_s": status.last_error_age_s,
                "faults": FaultKind::ALL
                    .into_iter()
                    .map(|kind| (kind.as_str().to_owned(), status.counters.faults(kind).into()))
                    .collect::<serde_json::Map<_, _>>(),
                "last_fault": status.last_fault,
                "last_fault_age_s": status.last_fault_age_s,
        })
    }

    /// The MAC address of a peer on one of our wires, if it is known.
    fn neighbour_mac(&self, peer: &crate::config::Peer) -> Option<String> {
        let key = NextHopKey { attachment: peer.attachment, address: peer.session.remote };
        self.core.forwarding.mac(key).map(mac_text)
    }

    /// Whether an MSEE's peering is Microsoft's, and has a filter here; `None` on private peering.
    fn route_filter(&self, peer: &crate::config::Peer) -> Option<bool> {
        let attachment = self.core.attachments.iter().find(|it| it.id == peer.attachment)?;
        let domain = self.core.rib.config().domain(*attachment.domains.first()?)?;
        (domain.kind == crate::config::PeeringKind::Microsoft).then_some(!domain.route_filter.is_empty())
    }

    /// How many prefixes Microsoft is told, of how many it takes (D1).
    fn show_limits(&self) -> Value {
        let row = |(domain, family, meter): (DomainId, Family, Meter)| {
            json!({
                "domain": self.core.domains.get(usize::from(domain.0)).map(|domain| &domain.name),
                "family": family, "wanted": meter.wanted, "told": meter.told, "aggregates": meter.aggregates,
                "held": meter.held, "limit": meter.limit,
                "percent": meter.wanted as u64 * 100 / u64::from(meter.limit.max(1)),
            })
        };
        self.core.rib.meters().into_iter().map(row).collect()
    }

    /// How the program runs on an interface; `None`: it is not there.
    fn mode_on(&self, interface: &str) -> Option<Mode> {
        self.core.is_in_use(interface).then_some(self.core.about.mode)
    }

    /// One row a link of a circuit, then one a CE attachment. The SLA needs both links (B1).
    fn show_links(&self) -> Value {
        let mut rows = Vec::new();
        for circuit in &self.core.config.circuits {
            let pair = self.core.pair(circuit);
            let sla = format!("{}: {}", if pair.is_sla_valid { "valid" } else { "NOT valid" }, pair.why);
            for role in LinkRole::ALL {
                let (place, up, mac) = match circuit.link(role) {
                    Link::Local { interface, .. } => {
                        let mac = self.core.mac_of(interface).map(mac_text);
                        (interface.clone(), Some(self.core.is_up(interface)), mac)
                    }
                    Link::Box { name } => (format!("box {name}"), None, None),
                };
                let (eligible, why_not) = self.worth(circuit, role);
                let (xdp, (state, problem)) = match circuit.link(role) {
                    Link::Local { interface, .. } => (self.mode_on(interface), self.show_fault(interface)),
                    Link::Box { .. } => (None, (None, None)),
                };
                rows.push(json!({
                    "link": format!("{} {}", circuit.name, role.as_str()),
                    "interface": place, "up": up, "eligible": eligible, "why_not": why_not,
                    "xdp": xdp, "sla": sla, "state": state, "problem": problem, "mac": mac,
                }));
            }
        }
        for attachment in self.core.attachments.iter().filter(|attachment| !attachment.side.is_msee()) {
            let (state, problem) = self.show_fault(&attachment.interface);
            rows.push(json!({
                "link": attachment.name, "interface": attachment.interface,
                "up": self.core.is_up(&attachment.interface), "eligible": null, "why_not": null,
                "xdp": self.mode_on(&attachment.interface), "sla": null, "state": state, "problem": problem,
                "mac": self.core.mac_of(&attachment.interface).map(mac_text),
            }));
        }
        rows.into()
    }

    /// One row for each policer and class that has seen packets.
    fn show_policers(&self) -> Value {
        let mut rows = Vec::new();
        for policer in limits::policers_of(&self.core.config) {
            let circuit = &self.core.config.circuits[policer.circuit];
            let direction = match policer.direction {
                Direction::Outbound => "to Microsoft",
                Direction::Inbound => "from Microsoft",
            };
            for class in Class::ALL {
                let mut row = json!({
                    "circuit": circuit.name, "links": policer.links, "direction": direction,
                    "rate_bps": circuit.bandwidth.0, "class": class.label(),
                });
                let tallies = self.core.dataplane.policed(policer.id, class);
                for (passage, tally) in Passage::ALL.into_iter().zip(tallies) {
                    row[format!("{}_packets", passage.label())] = tally.packets.into();
                    row[format!("{}_bytes", passage.label())] = tally.bytes.into();
                }
                row["dropping"] = json!(self.drops_of(policer.id, class));
                rows.push(row);
            }
        }
        rows.into()
    }

    fn show_counters(&self) -> Result<Value, String> {
        let counters = self.core.dataplane.counters().map_err(|error| error.to_string())?;
        let attachments: Vec<Value> = counters
            .attachments
            .iter()
            .map(|(id, (rx, tx))| {
                let facts =
                    self.core.forwarding.topology().attachments().find(|facts| facts.id.number() == *id);
                json!({"name": facts.map_or("(no attachment)", |facts| &facts.name), "rx": rx, "tx": tx})
            })
            .collect();
        let mut value = serde_json::to_value(&counters).map_err(|error| error.to_string())?;
        value["attachments"] = attachments.into();
        value["unexplained"] = counters.unexplained().into();
        value["losses_counted"] = self.core.dataplane.counts_losses().into();
        value["fib"] = json!(self.core.forwarding.sizes());
        value["reconciled"] = self.reconciled.show();
        value["kernel_routes"] = self.show_kernel_routes();
        let ages = counters
            .dropped
            .keys()
            .filter_map(|reason| Some(((*reason).to_owned(), json!(self.drops_for(reason)?))));
        value["dropping"] = ages.collect::<serde_json::Map<_, _>>().into();
        value["uptime_s"] = self.started.elapsed().as_secs().into();
        Ok(value)
    }
}

/// What an operator should know about a session that is not an error by itself, and the rule that it is about.
fn finding(
    peer: &crate::config::Peer,
    status: &crate::bgp::PeerStatus,
    counts: crate::rib::PeerCounts,
    has_filter: Option<bool>,
    brings_nothing: bool,
) -> Option<(&'static str, &'static str)> {
    let is_up = status.state == crate::bgp::State::Established;
    // Cease/7 says that another connection of the same session is used (RFC 4271 section 6.8).
    let is_refusal = |error: &str| error.contains("ended the session") && !error.contains("(6/7)");
    let refused_by_them = status.last_error.as_deref().is_some_and(is_refusal);
    match (peer.side, has_filter) {
        _ if is_up && counts.is_over => Some((
            "D2",
            "it announces more than it may: the surplus is refused, see `erdp show refused` (D2)",
        )),
        (Side::Msee(_), Some(_)) if is_up && brings_nothing => {
            Some(("D6", "up and no route: is a route filter attached to the peering in Azure? (D6)"))
        }
        (Side::Msee(_), _) if !is_up && refused_by_them => Some((
            "E5",
            "the MSEE refuses: compare AS, key and addresses; prefixes or AS may wait for validation by Microsoft (E5)",
        )),
        (Side::Msee(_), _) if counts.draining > 0 => {
            Some(("B7", "Microsoft drains this link for maintenance (B7)"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bgp::State, config::Config, rib::PeerCounts};

    /// What is said of the first MSEE's session; `filter`: its peering needs a route filter, and whether it has one.
    fn said(
        state: State,
        last_error: Option<&str>,
        counts: PeerCounts,
        filter: Option<bool>,
    ) -> Option<&'static str> {
        let text = include_str!("../../../deploy/erdp.toml");
        let (config, _) = Config::parse(text, std::path::Path::new("erdp.toml")).unwrap();
        let peer = &config.peers()[0];
        let status = crate::bgp::PeerStatus {
            peer: peer.session.id,
            remote: peer.session.remote,
            remote_asn: peer.session.remote_asn,
            state,
            state_secs: 0,
            uptime_s: None,
            facts: None,
            counters: Default::default(),
            last_error: last_error.map(str::to_owned),
            last_error_age_s: None,
            last_fault: None,
            last_fault_age_s: None,
            notification_received: None,
            notification_sent: None,
        };
        finding(peer, &status, counts, filter, counts.received == 0).map(|(rule, text)| {
            assert!(text.ends_with(&format!("({rule})")), "{rule}: {text}");
            text
        })
    }

    const NONE: PeerCounts = PeerCounts {
        received: 0,
        refused: 0,
        advertised: 0,
        stale: 0,
        draining: 0,
        memory: 0,
        surplus: 0,
        is_over: false,
        too_long: 0,
        stripped: 0,
    };

    #[test]
    fn d6_up_without_a_route_asks_for_the_route_filter_of_microsoft_peering() {
        let received = PeerCounts { received: 5, ..NONE };
        let up = |counts, filter| said(State::Established, None, counts, filter);
        assert!(
            up(NONE, Some(false)).is_some_and(|text| text.contains("route filter") && text.contains("D6"))
        );
        assert_eq!((up(NONE, None), up(received, Some(true))), (None, None));
    }

    #[test]
    fn e5_a_session_that_the_msee_refuses_may_wait_for_microsofts_validation() {
        let refused = Some("198.18.0.2 ended the session: bad peer AS (2/2)");
        let text = said(State::Idle, refused, NONE, None);
        assert!(text.is_some_and(|text| text.contains("validation by Microsoft") && text.contains("E5")));
        assert_eq!(said(State::Idle, None, NONE, None), None, "nobody has refused anything");
        let crossed = Some("198.18.0.2 ended the session: Cease, connection collision resolution (6/7)");
        assert_eq!(said(State::Active, crossed, NONE, None), None, "calls have crossed");
        assert_eq!(said(State::Established, refused, NONE, None), None, "that was before");
    }

    #[test]
    fn b7_a_link_that_microsoft_drains_is_said_to_be() {
        let draining = PeerCounts { received: 5, draining: 1, ..NONE };
        let text = said(State::Established, None, draining, None);
        assert!(text.is_some_and(|text| text.contains("maintenance") && text.contains("B7")));
    }
}
