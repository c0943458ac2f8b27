//! `erdp show routes` and `erdp show refused`: lists of any length, of which a turn of the loop makes one page ([`crate::control::lists`]).
//!
//! What it costs to ask for the keys of a part grows with its table, and is a copy of one number for each of its prefixes; rows, which cost
//! more, are made of a page's keys only.

use std::{net::IpAddr, time::Instant};

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Value, json};

use super::Controller;
use crate::{
    bgp::{PeerId, SeenFault, Speaker},
    config::DomainId,
    control::lists::{Key, List, Page, Part, TURN, push_row, slice},
    rib::{FibPath, Surplus, communities, is_draining},
    types::PathSource,
};

/// A row of `erdp show routes`.
#[derive(Serialize)]
struct RouteRow<'a> {
    domain: &'a str,
    prefix: IpNet,
    next_hops: Vec<IpAddr>,
    via: Vec<&'a str>,
    source: &'static str,
    shares: Vec<u8>,
    as_path: String,
    communities: Vec<String>,
    draining: bool,
}

/// A row of `erdp show refused`.
#[derive(Serialize)]
struct RefusedRow<'a> {
    way: &'static str,
    peer: Option<String>,
    domain: Option<&'a str>,
    prefix: IpNet,
    rule: &'static str,
    reason: String,
}

impl Controller {
    /// The parts of a list, in its order. What was refused on the way in, with the last messages that had faults; what was held back on the way out;
    /// then connections that nobody was there for.
    pub(super) fn parts(&self, list: &List) -> Result<Vec<Part>, String> {
        Ok(match list {
            List::Routes => self.core.domains.iter().map(|domain| Part::Routes(domain.id)).collect(),
            List::RoutesOf(query) => self.route_parts(query)?,
            List::Paths(query) => self.path_parts(query)?,
            List::Refused => {
                let refused = self.core.rib.sources_of_routes().into_iter().map(Part::RefusedFrom);
                let faults = self.sessions().flat_map(|(peer, session)| {
                    let peer = peer.session.id;
                    (0..session.faults().len()).map(move |at| Part::Fault(peer, at))
                });
                let not_taken = (0..self.core.watches()).map(Part::NotTaken);
                let held = self.sessions().map(|(peer, _)| Part::HeldBack(peer.session.id));
                refused
                    .chain([Part::Surplus])
                    .chain(faults)
                    .chain(not_taken)
                    .chain(held)
                    .chain([Part::Connections])
                    .collect()
            }
        })
    }

    /// What a part's rows are asked for by.
    pub(super) fn keys(&self, part: &Part) -> Vec<Key> {
        let anywhere = |prefix| (prefix, DomainId(0));
        // A part of one page has one key.
        let one = |is_there: bool| if is_there { vec![anywhere(IpNet::default())] } else { Vec::new() };
        match *part {
            Part::RoutesOf(domain, ref filter) => self.route_keys(domain, filter),
            Part::Paths(filter) => self.path_keys(filter),
            Part::Routes(domain) => {
                self.core.rib.reached(domain).into_iter().map(|it| (it, domain)).collect()
            }
            Part::RefusedFrom(source) => {
                self.core.rib.refused_from(source).into_iter().map(anywhere).collect()
            }
            Part::Fault(peer, at) => one(self.fault(peer, at).is_some()),
            Part::NotTaken(watch) => self.core.not_taken(watch).map(anywhere).collect(),
            Part::HeldBack(peer) => self.core.rib.told_or_held(peer),
            Part::Surplus | Part::Connections => one(true),
        }
    }

    /// The rows of as many of these keys as fit into a turn.
    pub(super) fn rows(&self, part: &Part, keys: &[Key]) -> Page {
        let begin = Instant::now();
        slice(keys, &TURN, || begin.elapsed(), |key, text| self.write_rows(part, key, text))
    }

    fn write_rows(&self, part: &Part, (prefix, domain): &Key, text: &mut String) {
        match *part {
            Part::RoutesOf(domain, ref filter) => {
                let row = self.is_meant(domain, *prefix, filter).then(|| self.route_row(domain, *prefix));
                row.flatten().iter().for_each(|row| push_row(text, row));
            }
            Part::Paths(filter) => self.write_paths(filter, *prefix, text),
            Part::Routes(domain) => {
                if let Some(row) = self.route_row(domain, *prefix) {
                    push_row(text, &row);
                }
            }
            Part::RefusedFrom(source) => {
                for row in self.core.rib.refusals(source, *prefix) {
                    push_row(
                        text,
                        &RefusedRow {
                            way: "in",
                            peer: self.source_name(row.source),
                            domain: self.domain_name(row.domain),
                            prefix: row.prefix,
                            rule: row.refusal.rule(),
                            reason: self.core.rib.why_refused(row.source, row.refusal),
                        },
                    );
                }
            }
            Part::Fault(peer, at) => {
                if let Some((remote, seen)) = self.fault(peer, at) {
                    fault_rows(remote, &seen).iter().for_each(|row| push_row(text, row));
                }
            }
            Part::NotTaken(watch) => {
                self.show_not_taken(watch, *prefix).iter().for_each(|row| push_row(text, row))
            }
            Part::HeldBack(peer) => {
                if let Some(row) = self.core.rib.held(peer, *domain, *prefix) {
                    push_row(
                        text,
                        &RefusedRow {
                            way: "out",
                            peer: self.source_name(row.peer.into()),
                            domain: self.domain_name(row.domain),
                            prefix: row.prefix,
                            rule: row.reason.rule(),
                            reason: self.core.rib.why_held_back(row.peer, row.reason),
                        },
                    );
                }
            }
            Part::Surplus => self.surplus_rows().iter().for_each(|row| push_row(text, row)),
            Part::Connections => self.closed_connections().iter().for_each(|row| push_row(text, row)),
        }
    }

    fn route_row(&self, domain: DomainId, prefix: IpNet) -> Option<RouteRow<'_>> {
        let route = self.core.rib.route(domain, prefix)?;
        let imported = self.core.rib.imported(&route);
        let via =
            |path: &FibPath| self.core.attachment_of(path.source).map_or("?", |id| self.core.name_of(id));
        let source = match route.best {
            PathSource::Kernel(_) => "kernel",
            PathSource::Static(_) => "connected",
            PathSource::Peer(_) => "bgp",
        };
        Some(RouteRow {
            domain: self.domain_name(domain)?,
            prefix,
            next_hops: route.paths.iter().map(|path| path.next_hop).collect(),
            via: route.paths.iter().map(via).collect(),
            source,
            shares: route.paths.iter().map(|path| path.share.get()).collect(),
            as_path: imported.as_path.to_string(),
            communities: imported.communities.iter().copied().map(communities::described).collect(),
            draining: is_draining(route.attributes),
        })
    }

    pub(super) fn domain_name(&self, id: DomainId) -> Option<&str> {
        self.core.domain_name(id)
    }

    /// Whatever routes come from, for operators.
    pub(super) fn source_name(&self, source: PathSource) -> Option<String> {
        self.core.source_name(source)
    }

    /// A peer's message with faults, counted from the newest.
    fn fault(&self, peer: PeerId, at: usize) -> Option<(IpAddr, SeenFault)> {
        let handle = self.speaker.as_ref()?.peer(peer)?;
        Some((handle.config().remote, handle.faults().into_iter().nth(at)?))
    }

    /// Peers that announce more than they may.
    fn surplus_rows(&self) -> Vec<Value> {
        let row = |row: Surplus| {
            json!({
                "way": "in", "peer": self.source_name(row.peer.into()), "domain": null, "prefix": row.example, "rule": "D2",
                "reason": format!(
                    "{}: this prefix, and others, are refused ({} times until now) and the session stays; raise the limit, or find out \
                     why the peer announces so much", row.excess, row.refused
                ),
            })
        };
        self.core.rib.surplus().map(row).collect()
    }

    /// Connections to the BGP port that were closed unheard.
    fn closed_connections(&self) -> Vec<Value> {
        let connections = self.speaker.as_ref().map(Speaker::refused).unwrap_or_default();
        let closed = [
            (
                connections.unknown_peer,
                "from addresses that are no peer's: configure the peer, or find out who it is",
            ),
            (
                connections.wrong_local,
                "from a peer to an address of ours that is not its session's: correct it there",
            ),
            (connections.peer_busy, "from a peer whose earlier connections have not been taken yet"),
        ];
        let row = |(count, why): (u64, &str)| {
            json!({
                "way": "connections", "peer": null, "domain": null, "prefix": null, "rule": null,
                "reason": format!("{count} {why}"),
            })
        };
        closed.into_iter().filter(|(count, _)| *count > 0).map(row).collect()
    }
}

/// A row for each prefix that is known of an UPDATE with faults (RFC 7606 section 6); one where none is.
fn fault_rows(peer: IpAddr, seen: &SeenFault) -> Vec<Value> {
    let update = &seen.update;
    let row = |prefix: Option<&IpNet>| {
        json!({
            "way": "in", "peer": peer, "domain": null, "prefix": prefix, "rule": "RFC 7606",
            "reason": format!("{} {} s ago: {}", update.kind.outcome(), seen.age_s, update.detail),
            "fault": update.kind, "age_s": seen.age_s, "message": update.hex(),
            "message_bytes": update.message_bytes,
        })
    };
    if update.prefixes.is_empty() {
        return vec![row(None)];
    }
    update.prefixes.iter().map(|prefix| row(Some(prefix))).collect()
}
