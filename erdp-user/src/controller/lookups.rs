//! Questions about some routes, and about one peer: what `erdp show routes PREFIX`, `erdp show received`, `erdp show advertised` and `erdp show peer` are
//! answered with. The lists are made in pages like all others ([`super::lists`]).

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::Controller;
use crate::{
    bgp::{Community, FaultKind, PathAttributes, PeerId},
    config::DomainId,
    control::{
        lists::{Key, Part, push_row},
        query::{PathQuery, Place, RouteQuery, Way},
    },
    rib::communities,
    types::PathSource,
};

/// A [`RouteQuery`] whose names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFilter {
    place: Option<Place>,
    peers: Option<Vec<PeerId>>,
    community: Option<Community>,
}

/// What is shown of a peer's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathFilter {
    peer: PeerId,
    way: Way,
    place: Option<Place>,
}

impl Controller {
    /// The parts of a list of routes that a question names.
    pub(super) fn route_parts(&self, query: &RouteQuery) -> Result<Vec<Part>, String> {
        let domains = self.domains_meant(query.domain.as_deref())?;
        let peers = query.peer.as_deref().map(|name| self.peers_meant(name)).transpose()?;
        let community = query.community.as_deref().map(community_meant).transpose()?;
        let filter = Arc::new(RouteFilter { place: query.place, peers, community });
        Ok(domains.into_iter().map(|domain| Part::RoutesOf(domain, filter.clone())).collect())
    }

    /// The parts of a list of a peer's paths.
    pub(super) fn path_parts(&self, query: &PathQuery) -> Result<Vec<Part>, String> {
        let peers = self.peers_meant(&query.peer)?;
        let part = |peer| Part::Paths(PathFilter { peer, way: query.way, place: query.place });
        Ok(peers.into_iter().map(part).collect())
    }

    /// What the rows of [`Part::RoutesOf`] are asked for by.
    pub(super) fn route_keys(&self, domain: DomainId, filter: &RouteFilter) -> Vec<Key> {
        let all = || self.core.rib.reached(domain).into_iter();
        let prefixes = match filter.place {
            Some(place) => place.of(|prefix| self.core.rib.route(domain, prefix).is_some(), all),
            None => all().collect(),
        };
        prefixes.into_iter().map(|prefix| (prefix, domain)).collect()
    }

    /// Whether a route is one of those that are meant.
    pub(super) fn is_meant(&self, domain: DomainId, prefix: IpNet, filter: &RouteFilter) -> bool {
        let Some(route) = self.core.rib.route(domain, prefix) else { return false };
        let of_peer = filter.peers.as_ref().is_none_or(|peers| {
            let is_one = |source: PathSource| source.peer().is_some_and(|peer| peers.contains(&peer));
            is_one(route.best) || route.paths.iter().any(|path| is_one(path.source))
        });
        // As the row shows them: after policy.
        let has = |community| self.core.rib.imported(&route).communities.contains(&community);
        of_peer && filter.community.is_none_or(has)
    }

    /// What the rows of [`Part::Paths`] are asked for by.
    pub(super) fn path_keys(&self, filter: PathFilter) -> Vec<Key> {
        let PathFilter { peer, way, place } = filter;
        let told_or_held = || {
            let best = self.core.rib.told_or_held(peer).into_iter().map(|(prefix, _)| prefix);
            best.chain(self.core.rib.advertised_to(peer))
        };
        let prefixes: Vec<IpNet> = match (way, place) {
            (Way::Received, None) => self.core.rib.received_from(peer),
            (Way::Received, Some(place)) => place.of(
                |prefix| self.core.rib.has_received(peer, &prefix),
                || self.core.rib.received_from(peer).into_iter(),
            ),
            (Way::Advertised, None) => told_or_held().collect(),
            (Way::Advertised, Some(place)) => {
                let may_be = |prefix: IpNet| {
                    self.core.rib.has_advertised(peer, &prefix)
                        || self.core.rib.why_not_advertised(peer, prefix).is_some()
                };
                place.of(may_be, told_or_held)
            }
        };
        prefixes.into_iter().map(|prefix| (prefix, DomainId(0))).collect()
    }

    /// The rows of a prefix. A route is never advertised back to its own side, so the whole list leaves these out.
    pub(super) fn write_paths(&self, filter: PathFilter, prefix: IpNet, text: &mut String) {
        match filter.way {
            Way::Received => {
                self.received_rows(filter.peer, prefix).iter().for_each(|row| push_row(text, row))
            }
            Way::Advertised => {
                let is_asked_for = matches!(filter.place, Some(Place::Exactly(_) | Place::LongestFor(_)));
                if let Some(row) = self.advertised_row(filter.peer, prefix, is_asked_for) {
                    push_row(text, &row);
                }
            }
        }
    }

    fn received_rows(&self, peer: PeerId, prefix: IpNet) -> Vec<Value> {
        let remote = self.remote_of(peer);
        let name = |id| self.source_name(id).unwrap_or_else(|| "?".into());
        let row = |path: &crate::rib::ReceivedPath<'_>| {
            let mut row = json!({
                "peer": remote, "domain": self.domain_name(path.domain), "prefix": prefix, "path_id": path.path.map(|it| it.0),
                "verdict": path.word(), "why": path.why(name), "preference": path.preference,
                "policy": path.policy.map(|(name, rule)| format!("{name}, rule {rule}")),
            });
            if let Some(crate::rib::Verdict::Refused(refusal)) = path.verdict {
                row["why"] = self.core.rib.why_refused(peer.into(), refusal).into();
            }
            describe(&mut row, path.attributes);
            row
        };
        self.core.rib.received(peer, &prefix).iter().map(row).collect()
    }

    fn advertised_row(&self, peer: PeerId, prefix: IpNet, is_asked_for: bool) -> Option<Value> {
        let remote = self.remote_of(peer);
        if let Some(path) = self.core.rib.advertised(peer, prefix) {
            let from = path.from.and_then(|from| self.source_name(from));
            let why = match &from {
                Some(from) => format!("the best path of its domain, received from {from}"),
                None => "an aggregate of ours, in the place of longer prefixes (D1)".into(),
            };
            let mut row = json!({
                "peer": remote, "domain": self.domain_name(path.domain), "prefix": prefix, "verdict": "advertised", "why": why, "from": from,
                "received_as_path": path.received.map(|it| it.as_path.to_string()),
                "received_next_hop": path.received.map(|it| it.next_hop),
            });
            describe(&mut row, &path.sent);
            return Some(row);
        }
        let (domain, from, reason) = self.core.rib.why_not_advertised(peer, prefix)?;
        if reason == crate::rib::HoldBack::SameSide && !is_asked_for {
            return None;
        }
        Some(json!({
            "peer": remote, "domain": self.domain_name(domain), "prefix": prefix, "verdict": "held-back", "why": self.core.rib.why_held_back(peer, reason),
            "from": self.source_name(from), "rule": reason.rule(),
        }))
    }

    /// Everything about a session.
    pub(super) fn show_peer(&self, name: &str) -> Result<Value, String> {
        let meant = self.peers_meant(name)?;
        let page = |(peer, session): (&crate::config::Peer, &crate::bgp::PeerHandle)| {
            let (status, config) = (session.status(), session.config());
            let kinds = FaultKind::ALL.into_iter();
            let reactions: serde_json::Map<_, _> =
                kinds.map(|kind| (kind.as_str().to_owned(), status.counters.faults(kind).into())).collect();
            let fault = |seen: &crate::bgp::SeenFault| json!({ "age_s": seen.age_s, "reaction": seen.update.kind, "what": seen.update.detail, "prefixes": seen.update.prefixes });
            let noted = |noted: Option<(String, u64)>| {
                noted.map(|(what, age_s)| json!({ "what": what, "age_s": age_s }))
            };
            let away = session.away().filter(|(_, left)| !left.is_zero());
            json!({
                "session": self.session_row(peer, session),
                "name": peer.name,
                "local": config.local, "local_asn": config.local_asn, "router_id": config.router_id,
                "state_s": status.state_secs,
                "configured": {
                    "hold_s": config.hold, "passive": config.passive, "md5": config.md5.is_some(), "gtsm": config.gtsm,
                    "families": config.families, "role": config.role, "role_strict": config.role_strict, "add_path": config.add_path,
                    "restart_time_s": config.restart_time, "bfd": peer.bfd.is_some(), "local_preference": peer.options.local_pref,
                    "max_prefixes": peer.options.max_prefixes.map(|max| max.limit), "max_memory_mib": peer.options.max_memory_mib,
                },
                "agreed": status.facts,
                "counters": status.counters,
                "reactions": reactions,
                "last_faults": session.faults().iter().map(fault).collect::<Vec<_>>(),
                "notification_received": noted(status.notification_received),
                "notification_sent": noted(status.notification_sent),
                "away_s": away.map(|(_, left)| left.as_secs()),
            })
        };
        Ok(self.sessions().filter(|(peer, _)| meant.contains(&peer.session.id)).map(page).collect())
    }

    fn remote_of(&self, peer: PeerId) -> Option<IpAddr> {
        self.core.peers.get(usize::from(peer.0)).map(|peer| peer.session.remote)
    }

    /// The peers that a name means: an address, or the attachment that they are reached by.
    fn peers_meant(&self, name: &str) -> Result<Vec<PeerId>, String> {
        let known = || self.core.peers.iter().filter(|peer| !self.core.vacant.contains(&peer.session.id));
        let address = name.parse::<IpAddr>().ok();
        let plain = |name: &str| name.replace('/', " ");
        let is_meant = |peer: &&crate::config::Peer| {
            let is_its = |its: &str| plain(its) == plain(name);
            Some(peer.session.remote) == address
                || is_its(&peer.name)
                || is_its(self.core.name_of(peer.attachment))
        };
        let meant: Vec<PeerId> = known().filter(is_meant).map(|peer| peer.session.id).collect();
        if meant.is_empty() {
            let all: Vec<String> = known().map(|peer| peer.session.remote.to_string()).take(NAMED).collect();
            return Err(format!("no peer {name:?}; there are: {}", all.join(", ")));
        }
        Ok(meant)
    }

    /// The domains that a name means: one, or all of a circuit; without a name all.
    fn domains_meant(&self, name: Option<&str>) -> Result<Vec<DomainId>, String> {
        let circuit = |domain: &crate::config::Domain| {
            self.core.config.circuits.get(domain.circuit).map(|it| it.name.as_str())
        };
        let is_meant = |domain: &&crate::config::Domain| {
            name.is_none_or(|name| domain.name == name || circuit(domain) == Some(name))
        };
        let meant: Vec<DomainId> =
            self.core.domains.iter().filter(is_meant).map(|domain| domain.id).collect();
        match name {
            Some(name) if meant.is_empty() => {
                let all: Vec<&str> =
                    self.core.domains.iter().map(|domain| domain.name.as_str()).take(NAMED).collect();
                Err(format!("no routing domain {name:?}; there are: {}", all.join(", ")))
            }
            _ => Ok(meant),
        }
    }
}

/// Names that a refusal lists.
const NAMED: usize = 20;

fn community_meant(text: &str) -> Result<Community, String> {
    communities::community(text).ok_or_else(|| {
        format!("no community {text:?}: write two numbers (12076:51002), or a name as `erdp show routes` prints it (West Europe)")
    })
}

/// What a path says of itself.
fn describe(row: &mut Value, attributes: &PathAttributes) {
    row["next_hop"] = json!(attributes.next_hop);
    row["as_path"] = attributes.as_path.to_string().into();
    row["origin"] = json!(attributes.origin);
    row["med"] = json!(attributes.med);
    row["local_pref"] = json!(attributes.local_pref);
    row["communities"] = attributes.communities.iter().copied().map(communities::described).collect();
}
