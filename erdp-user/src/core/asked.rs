//! What a verdict about a packet came from: the packet, the route with its origin, the neighbour and why that one, the class, the policers'
//! buckets. The verdict itself is the loaded program's; all else is read from what was written for it, and nothing is changed.

use erdp_common::{
    abi::{GROUP_BUCKETS, GROUP_FORWARD, VERDICT_TRANSMIT},
    classify::{Class, classify},
    group::flow_hash,
    reason::DropReason,
};

use super::Core;
use crate::{
    compile::{
        level::level,
        limits::{self, PolicerOf},
    },
    config::DomainId,
    control::explained::{AskedPacket, AskedPolicer, AskedRoute, Choice, ChoiceMember, Detail},
    dataplane::{
        Answer, Dataplane,
        question::{Parsed, parse},
    },
    fib::{AttachmentFacts, Match, NextHopKey, Target},
    rib::{RouteView, Verdict, communities, is_draining},
    types::{AttachmentId, PathSource},
};

/// Communities of a route that are shown: a peer may send thousands.
const COMMUNITIES_MOST: usize = 50;

impl<D: Dataplane> Core<D> {
    /// A domain's name for operators.
    pub(crate) fn domain_name(&self, id: DomainId) -> Option<&str> {
        self.domains.get(usize::from(id.0)).map(|domain| domain.name.as_str())
    }

    /// Whatever routes come from, for operators.
    pub(crate) fn source_name(&self, source: PathSource) -> Option<String> {
        match source {
            PathSource::Kernel(attachment) => Some(format!("kernel on {}", self.name_of(attachment))),
            PathSource::Static(attachment) => Some(format!("connected on {}", self.name_of(attachment))),
            PathSource::Peer(id) => {
                self.peers.get(usize::from(id.0)).map(|peer| peer.session.remote.to_string())
            }
        }
    }

    /// How the answer about a frame came about; `chosen` is the neighbour it is sent to. Of an answer by the generation before (`is_adopted`), whose
    /// routes are its own, route and choice are not known.
    pub(crate) fn detail(
        &self,
        frame: &[u8],
        answer: &Answer,
        chosen: Option<NextHopKey>,
        is_adopted: bool,
    ) -> Detail {
        let topology = self.forwarding.topology();
        let came = AttachmentId::numbered(answer.trace.attachment).and_then(|id| topology.attachment(id));
        let egress = chosen.and_then(|key| topology.attachment(key.attachment));
        let read = parse(frame);
        let mut detail = Detail {
            packet: read.as_ref().map(asked_packet),
            frame_bytes: frame.len(),
            domains: came.map(|facts| self.domain_names(&facts.domains)).unwrap_or_default(),
            mtu: egress.and_then(|facts| self.forwarding.mtu(facts.id)),
            ..Detail::default()
        };
        let (Some(came), Some(read)) = (came, &read) else { return detail };
        let group = answer.trace.group;
        if group != 0 && !is_adopted {
            detail.route = self.asked_route(came, read, group);
            detail.choice = self.choice(read, group, chosen);
        }
        if let Some(egress) = egress {
            let class = class_of(read, came, egress);
            detail.class = Some(class.label().to_owned());
            // Whatever is dropped before its policers are asked is not a matter of them.
            if matches!(answer.drop_reason(), None | Some(DropReason::Policed)) {
                detail.policers = self.asked_policers([came.policer_in, egress.policer_out], class);
            }
        }
        if let Some(after) = parse(&answer.frame).filter(|_| answer.trace.verdict == VERDICT_TRANSMIT) {
            (detail.dscp_after, detail.ecn_after) = (Some(after.dscp()), Some(after.ecn()));
        }
        detail
    }

    fn domain_names(&self, domains: &[usize]) -> Vec<String> {
        let domains = domains.iter().filter_map(|at| self.domains.get(*at));
        domains.map(|domain| domain.name.clone()).collect()
    }

    fn asked_route(&self, came: &AttachmentFacts, read: &Parsed, group: u32) -> Option<AskedRoute> {
        let found = self.forwarding.longest_match(came.id, read.destination, group)?;
        let domain = found.domain.and_then(|at| self.domains.get(at));
        let route = AskedRoute {
            prefix: found.prefix,
            domain: domain.map(|domain| domain.name.clone()),
            source: source_word(&found).to_owned(),
            ..AskedRoute::default()
        };
        let best = domain.and_then(|domain| self.rib.route(domain.id, found.prefix));
        Some(best.map_or(route.clone(), |best| self.with_origin(route, &best)))
    }

    /// A route with what the routing base knows of its best path.
    fn with_origin(&self, route: AskedRoute, best: &RouteView<'_>) -> AskedRoute {
        let imported = self.rib.imported(best);
        let shown = imported.communities.iter().take(COMMUNITIES_MOST);
        let source = match best.best {
            PathSource::Kernel(_) => "kernel",
            PathSource::Static(_) => "connected",
            PathSource::Peer(_) => "bgp",
        };
        let name = |source| self.source_name(source).unwrap_or_else(|| "?".into());
        let received = best.best.peer().map(|peer| self.rib.received(peer, &best.prefix)).unwrap_or_default();
        let own = received.iter().find(|path| {
            path.domain == best.domain && path.path == best.best_path && path.verdict == Some(Verdict::Best)
        });
        AskedRoute {
            source: source.to_owned(),
            from: Some(name(best.best)),
            next_hop: best.paths.iter().find(|path| path.source == best.best).map(|path| path.next_hop),
            as_path: Some(imported.as_path.to_string()),
            communities: shown.copied().map(communities::described).collect(),
            more_communities: imported.communities.len().saturating_sub(COMMUNITIES_MOST),
            preference: own.and_then(|path| path.preference),
            policy: own.and_then(|path| path.policy).map(|(name, rule)| format!("{name}, rule {rule}")),
            why: own.map(|path| path.why(name)),
            paths: best.paths.len(),
            draining: is_draining(best.attributes),
            ..route
        }
    }

    /// Which neighbour of a group a flow has, and which it has got.
    fn choice(&self, read: &Parsed, group: u32, chosen: Option<NextHopKey>) -> Option<Choice> {
        let record = self.forwarding.group(group).filter(|record| record.kind == GROUP_FORWARD)?;
        let symmetric = self.config.symmetric_hash;
        let bucket = flow_hash(&read.datagram, symmetric) as usize % GROUP_BUCKETS;
        let key_at = |at: usize| record.members.get(at).and_then(|id| self.forwarding.next_hop_key(*id));
        let owner = record.buckets.get(bucket).and_then(|at| key_at(usize::from(*at)));
        let member = |(at, key): (usize, NextHopKey)| ChoiceMember {
            next_hop: key.address,
            attachment: self.name_of(key.attachment).to_owned(),
            buckets: record.buckets.iter().filter(|of| usize::from(**of) == at).count(),
            chosen: chosen == Some(key),
            problem: self.problem_of(key).or_else(|| {
                let is_passed_over = owner == Some(key) && chosen != owner;
                is_passed_over.then(|| "its link or its BFD session counts as down".into())
            }),
        };
        let members = (0..record.members.len()).filter_map(|at| Some((at, key_at(at)?)));
        Some(Choice {
            group,
            bucket,
            buckets: GROUP_BUCKETS,
            symmetric,
            owner: owner.map(|key| key.address),
            members: members.map(member).collect(),
        })
    }

    /// Why a neighbour takes no packets, as far as that can be seen from here.
    fn problem_of(&self, key: NextHopKey) -> Option<String> {
        let facts = self.forwarding.topology().attachment(key.attachment)?;
        if !self.is_up(&facts.interface) {
            Some(format!("interface {} is down", facts.interface))
        } else if self.forwarding.is_suspended(key.attachment) {
            Some("its link is out of use".into())
        } else {
            self.forwarding.mac(key).is_none().then(|| "its MAC address is not known".into())
        }
    }

    fn asked_policers(&self, ids: [u16; 2], class: Class) -> Vec<AskedPolicer> {
        let all = limits::policers_of(&self.config);
        let used = ids.into_iter().filter_map(|id| all.iter().find(|policer| policer.id == id));
        used.filter_map(|policer| self.asked_policer(policer, class)).collect()
    }

    fn asked_policer(&self, of: &PolicerOf, class: Class) -> Option<AskedPolicer> {
        let circuit = self.config.circuits.get(of.circuit)?;
        let policer = AskedPolicer {
            circuit: circuit.name.clone(),
            links: of.links.to_owned(),
            direction: of.direction.as_label().to_owned(),
            rate_bps: circuit.bandwidth.0,
            ..AskedPolicer::default()
        };
        let record = limits::policer(&self.config, of)?;
        let words = self.dataplane.bucket_words(of.id)?;
        let level = level(&record, words, class, self.dataplane.clock());
        Some(AskedPolicer {
            credit_bytes: level.credit_bytes,
            room_bytes: level.room_bytes,
            used_percent: level.used_percent,
            above_share: level.above_share,
            ..policer
        })
    }
}

/// Where a route comes from that the routing base does not have.
fn source_word(found: &Match<'_>) -> &'static str {
    match found.target {
        Target::Discard => "discard",
        Target::ZoneForbidden => "zone-forbidden",
        Target::EncryptedOnly => "encrypted-only",
        // A prefix that zones forbid may lead where a shorter one does.
        Target::Forward(_) | Target::Weighted(_) if found.domain.is_none() => "shorter-route",
        Target::Forward(_) | Target::Weighted(_) | Target::Glean(_) => "connected",
    }
}

/// As the program does it: by the profile of the peering that the packet leaves on, or else came from.
fn class_of(read: &Parsed, came: &AttachmentFacts, egress: &AttachmentFacts) -> Class {
    let to_microsoft = egress.profile != 0;
    let profile = limits::profile(if to_microsoft { egress.profile } else { came.profile });
    profile.map_or(Class::Default, |profile| classify(&read.datagram, to_microsoft, &profile).class)
}

fn asked_packet(read: &Parsed) -> AskedPacket {
    AskedPacket {
        source: read.source,
        destination: read.destination,
        protocol: read.datagram.protocol,
        ports: read.ports(),
        dscp: read.dscp(),
        ecn: read.ecn(),
        ttl: read.datagram.hop_limit,
        size: read.datagram.len,
        is_fragment: read.datagram.is_fragment,
        tags: read.tags.clone(),
    }
}
