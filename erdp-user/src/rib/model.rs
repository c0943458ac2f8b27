//! Random sessions and updates against a slow model: it keeps what each peer announced in plain maps and works out
//! everything from the text of the rules whenever it is asked, knowing nothing of what changed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::{facts, topology};
use super::*;
use crate::bgp::{AsPath, Community, Origin, PathId};
use crate::config::PeeringKind;

const PREFIXES: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "20.0.0.0/8",
    "20.1.2.0/24",
    "20.1.2.3/32",
    "198.18.0.0/30",
    "198.18.0.0/15",
    "::/0",
    "2600::/12",
    "2603:1000::/24",
    "fd00:99::/48",
];

const FAMILIES: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

fn prefix(index: usize) -> IpNet {
    PREFIXES[index].parse().unwrap()
}

#[derive(Clone, Debug)]
enum Event {
    Up { peer: usize, families: usize },
    Down { peer: usize },
    Announce { peer: usize, id: u32, first: usize, second: usize, path: Path },
    Withdraw { peer: usize, id: u32, prefix: usize },
    TakeFib,
    TakeOutgoing { peer: usize },
}

/// Choices that make attributes.
#[derive(Clone, Debug)]
struct Path {
    next_hop: usize,
    tail: usize,
    origin: usize,
    med: Option<u32>,
    community: u32,
}

fn paths() -> impl Strategy<Value = Path> {
    let med = prop_oneof![Just(None), (0..2u32).prop_map(Some)];
    // Mostly plain choices, so that most routes are accepted and compete.
    let next_hop = prop_oneof![8 => Just(0usize), 1 => 1..4usize];
    let tail = prop_oneof![6 => 0..3usize, 1 => 3..6usize];
    let community = prop_oneof![6 => 1..3u32, 1 => Just(0xFFFF_FF01)];
    (next_hop, tail, 0..2usize, med, community).prop_map(|(next_hop, tail, origin, med, community)| Path {
        next_hop,
        tail,
        origin,
        med,
        community,
    })
}

fn events() -> impl Strategy<Value = Event> {
    let peer = 0..topology().peers.len();
    prop_oneof![
        3 => (peer.clone(), 1..4usize).prop_map(|(peer, families)| Event::Up { peer, families }),
        1 => peer.clone().prop_map(|peer| Event::Down { peer }),
        12 => (peer.clone(), 0..3u32, 0..PREFIXES.len(), 0..PREFIXES.len(), paths())
            .prop_map(|(peer, id, first, second, path)| Event::Announce { peer, id, first, second, path }),
        4 => (peer.clone(), 0..3u32, 0..PREFIXES.len())
            .prop_map(|(peer, id, prefix)| Event::Withdraw { peer, id, prefix }),
        2 => Just(Event::TakeFib),
        4 => peer.prop_map(|peer| Event::TakeOutgoing { peer }),
    ]
}

impl Path {
    fn attributes(&self, peer: &RibPeer, family: Family) -> PathAttributes {
        let is_v4 = family == Family::Ipv4Unicast;
        let subnet = peer.addresses.iter().find(|net| net.addr().is_ipv4() == is_v4);
        let ours = subnet.map_or("fd00:77::1".parse().unwrap(), |net| net.addr());
        let neighbour = match ours {
            IpAddr::V4(ours) => IpAddr::V4((u32::from(ours) + 1).into()),
            IpAddr::V6(ours) => IpAddr::V6((u128::from(ours) + 1).into()),
        };
        let elsewhere = IpAddr::from([203, 0, 113, 1]);
        let tail: &[u32] = [&[][..], &[1], &[2], &[65010], &[12076], &[3, 4]][self.tail];
        let next_hop = [neighbour, ours, elsewhere, "fe80::1".parse().unwrap()][self.next_hop];
        PathAttributes {
            origin: [Origin::Igp, Origin::Incomplete][self.origin],
            as_path: AsPath::sequence(std::iter::once(peer.asn.0).chain(tail.iter().copied())),
            med: self.med,
            communities: vec![Community(self.community)],
            ..PathAttributes::originated(next_hop)
        }
    }
}

/// Every other peer tells several paths.
fn path_id(peer: PeerId, id: u32) -> Option<PathId> {
    peer.0.is_multiple_of(2).then_some(PathId(id))
}

/// The truth in plain maps.
struct Model {
    config: RibConfig,
    up: BTreeMap<PeerId, SessionFacts>,
    routes: BTreeMap<(PeerId, IpNet, Option<PathId>), PathAttributes>,
}

impl Model {
    fn is_accepted(&self, domain: &RibDomain, peer: &RibPeer, prefix: IpNet, route: &PathAttributes) -> bool {
        let is_default = prefix.prefix_len() == 0;
        let is_microsoft = domain.kind == PeeringKind::Microsoft;
        let is_private = |text: &str| text.starts_with("10.") || text.starts_with("fd");
        let on_subnet =
            peer.addresses.iter().any(|net| net.contains(&route.next_hop) && net.addr() != route.next_hop)
                || route.next_hop.to_string().starts_with("fe80");
        route.next_hop.is_ipv4() == prefix.addr().is_ipv4()
            && on_subnet
            && !route.as_path.to_string().contains("65010")
            && prefix.to_string() != "198.18.0.0/30"
            && !(is_microsoft && (is_default || is_private(&prefix.to_string())))
            && !(is_default && !peer.side.is_msee() && !domain.forced_tunnel)
    }

    /// The paths that packets take, and the one that is told.
    fn decided(
        &self,
        domain: &RibDomain,
        prefix: IpNet,
    ) -> (BTreeSet<FibPath>, Option<(PeerId, PathAttributes)>) {
        let mut left: Vec<(&RibPeer, &PathAttributes, Option<PathId>)> = self
            .routes
            .iter()
            .filter(|((_, announced, _), _)| *announced == prefix)
            .map(|((peer, _, id), route)| (self.config.peer(*peer).unwrap(), route, *id))
            .filter(|(peer, _, _)| peer.domains.contains(&domain.id))
            .filter(|(peer, route, _)| self.is_accepted(domain, peer, prefix, route))
            .collect();
        let rank = |route: &PathAttributes| (route.as_path.to_string().split(' ').count(), route.origin);
        let first = left.iter().map(|(_, route, _)| rank(route)).min();
        left.retain(|(_, route, _)| Some(rank(route)) == first);
        let mut lowest: BTreeMap<u32, u32> = BTreeMap::new();
        for (peer, route, _) in &left {
            let med = route.med.unwrap_or(0);
            lowest.entry(peer.asn.0).and_modify(|low| *low = med.min(*low)).or_insert(med);
        }
        left.retain(|(peer, route, _)| route.med.unwrap_or(0) == lowest[&peer.asn.0]);
        if left.iter().any(|(peer, _, _)| !peer.side.is_msee()) {
            left.retain(|(peer, _, _)| !peer.side.is_msee());
        }
        let best = left.iter().min_by_key(|(peer, _, id)| (self.up[&peer.id()].router_id, peer.remote, *id));
        let told = best.map(|(peer, route, _)| (peer.id(), (*route).clone()));
        let path = |(peer, route, _): &(&RibPeer, &PathAttributes, Option<PathId>)| FibPath {
            source: peer.source,
            next_hop: route.next_hop,
            side: peer.side,
            share: NonZero::<u8>::MIN,
        };
        (left.iter().map(path).collect(), told)
    }

    fn fib(&self) -> BTreeMap<(DomainId, IpNet), Vec<FibPath>> {
        let mut fib = BTreeMap::new();
        for domain in &self.config.domains {
            for prefix in (0..PREFIXES.len()).map(prefix) {
                let (paths, _) = self.decided(domain, prefix);
                if !paths.is_empty() {
                    fib.insert((domain.id, prefix), paths.into_iter().collect());
                }
            }
        }
        fib
    }

    /// What a peer should know: AS path and next hop of each prefix.
    fn told(&self, to: &RibPeer) -> BTreeMap<IpNet, (String, IpAddr)> {
        let mut told = BTreeMap::new();
        let Some(facts) = self.up.get(&to.id()) else { return told };
        for prefix in (0..PREFIXES.len()).map(prefix) {
            let ours = to.addresses.iter().find(|net| net.addr().is_ipv4() == prefix.addr().is_ipv4());
            let Some(ours) = ours.filter(|_| facts.families.contains(&Family::of(&prefix))) else { continue };
            for id in &to.domains {
                let (_, best) = self.decided(self.config.domain(*id).unwrap(), prefix);
                let Some((from, route)) = best else { continue };
                let crosses = self.config.peer(from).unwrap().side.is_msee() != to.side.is_msee();
                let path = route.as_path.to_string();
                let is_transit = to.side.is_msee() && path.split(' ').any(|asn| asn == "12076");
                if crosses && !is_transit && route.communities[0].0 != 0xFFFF_FF01 {
                    told.insert(prefix, (format!("65010 {path}"), ours.addr()));
                    break;
                }
            }
        }
        told
    }
}

/// The base, the model, and what the outside has been handed so far.
struct Run {
    rib: Rib,
    model: Model,
    fib: BTreeMap<(DomainId, IpNet), Vec<FibPath>>,
    told: BTreeMap<PeerId, BTreeMap<IpNet, Arc<PathAttributes>>>,
}

impl Run {
    fn new() -> Run {
        let config = topology();
        let model = Model { config: config.clone(), up: BTreeMap::new(), routes: BTreeMap::new() };
        Run { rib: Rib::new(config), model, fib: BTreeMap::new(), told: BTreeMap::new() }
    }

    fn down(&mut self, id: PeerId) {
        self.model.up.remove(&id);
        self.model.routes.retain(|(announcer, _, _), _| *announcer != id);
        self.told.remove(&id);
    }

    fn apply(&mut self, event: Event) {
        let peer = |index: usize, model: &Model| model.config.peers[index].clone();
        match event {
            Event::Up { peer: index, families } => {
                let peer = peer(index, &self.model);
                let families: Vec<Family> = FAMILIES
                    .into_iter()
                    .enumerate()
                    .filter(|(bit, _)| families & (1 << bit) != 0)
                    .map(|f| f.1)
                    .collect();
                let facts = facts(&peer, &families);
                self.down(peer.id());
                self.rib.peer_up(peer.id(), &facts);
                self.model.up.insert(peer.id(), facts);
            }
            Event::Down { peer: index } => {
                let id = peer(index, &self.model).id();
                self.down(id);
                self.rib.peer_down(id);
            }
            Event::Announce { peer: index, id, first, second, path } => {
                let peer = peer(index, &self.model);
                let (first, second) = (prefix(first), prefix(second));
                let family = Family::of(&first);
                if !self.model.up.contains_key(&peer.id()) {
                    return;
                }
                let attributes = path.attributes(&peer, family);
                let announced: Vec<IpNet> =
                    [first, second].into_iter().filter(|prefix| Family::of(prefix) == family).collect();
                for prefix in &announced {
                    self.model
                        .routes
                        .insert((peer.id(), *prefix, path_id(peer.id(), id)), attributes.clone());
                }
                let attributes = Some(Arc::new(attributes));
                let path = path_id(peer.id(), id);
                self.rib.update(peer.id(), Update { announced, attributes, path, ..Update::default() });
            }
            Event::Withdraw { peer: index, id, prefix: withdrawn } => {
                let peer = peer(index, &self.model).id();
                let (path, withdrawn) = (path_id(peer, id), prefix(withdrawn));
                self.model.routes.remove(&(peer, withdrawn, path));
                self.rib.update(peer, Update { withdrawn: vec![withdrawn], path, ..Update::default() });
            }
            Event::TakeFib => self.check_fib(),
            Event::TakeOutgoing { peer: index } => self.check_outgoing(&peer(index, &self.model)),
        }
    }

    fn check_fib(&mut self) {
        for change in self.rib.take_fib_changes() {
            let key = (change.domain, change.prefix);
            let before = self.fib.remove(&key).unwrap_or_default();
            assert_ne!(*before, *change.paths, "{key:?} has not changed");
            if !change.paths.is_empty() {
                self.fib.insert(key, change.paths.to_vec());
            }
        }
        assert_eq!(self.fib, self.model.fib());
    }

    fn check_outgoing(&mut self, peer: &RibPeer) {
        let told = self.told.entry(peer.id()).or_default();
        for update in self.rib.take_outgoing(peer.id()) {
            for prefix in &update.withdrawn {
                assert!(told.remove(prefix).is_some(), "{prefix} was never told");
            }
            for prefix in &update.announced {
                let attributes = update.attributes.clone().unwrap();
                let before = told.insert(*prefix, attributes.clone());
                assert_ne!(before, Some(attributes), "{prefix} has not changed");
            }
        }
        let shown: BTreeMap<_, _> = told
            .iter()
            .map(|(prefix, attributes)| (*prefix, (attributes.as_path.to_string(), attributes.next_hop)))
            .collect();
        assert_eq!(shown, self.model.told(peer), "{}", peer.name);
        assert_eq!(self.rib.peer_counts(peer.id()).advertised, shown.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_hands_out_what_the_model_works_out(
        events in proptest::collection::vec(events(), 1..120),
    ) {
        let mut run = Run::new();
        for event in events {
            run.apply(event);
        }
        run.check_fib();
        for peer in run.model.config.peers.clone() {
            run.check_outgoing(&peer);
        }
    }
}

#[test]
fn a_table_of_100_000_routes_from_both_links_is_handed_out_whole_and_fails_over_whole() {
    let config = topology();
    let mut rib = Rib::new(config.clone());
    let (first, second, customer) = (PeerId(0), PeerId(2), PeerId(8));
    for id in [first, second, customer] {
        rib.peer_up(id, &facts(config.peer(id).unwrap(), &FAMILIES));
    }
    let announced: Vec<IpNet> = (0..100_000u32)
        .map(|n| IpNet::new(IpAddr::V4((0x1400_0000 + (n << 8)).into()), 24).unwrap())
        .collect();
    let path = Path { next_hop: 0, tail: 0, origin: 0, med: None, community: 1 };
    for id in [first, second] {
        let attributes = Some(Arc::new(path.attributes(config.peer(id).unwrap(), Family::Ipv4Unicast)));
        rib.update(id, Update { announced: announced.clone(), attributes, ..Update::default() });
    }
    let changes = rib.take_fib_changes();
    assert_eq!(changes.len(), announced.len());
    assert!(changes.iter().all(|change| change.paths.len() == 2));
    let mut told = Vec::new();
    while rib.has_outgoing(customer) {
        told.extend(rib.take_outgoing(customer).into_iter().flat_map(|update| update.announced));
    }
    assert_eq!(told, announced);
    rib.peer_down(first);
    assert_eq!(rib.take_fib_changes().len(), announced.len());
    assert_eq!(rib.attributes.len(), 2);
}
