//! The compiler over the in-memory dataplane: routes in, verdicts of the real stages out.

mod absent;
mod adopted;
mod circuits;
mod reshape;
mod said;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use proptest::prelude::*;

use super::*;
use crate::{
    dataplane::{Answer, memory::MemoryDataplane, question::Question},
    kernel::control_port::ControlPort,
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// Domain 0 (contoso/private): MSEE 1 and 2; domain 1 (contoso/microsoft): MSEE 3 behind a tag; CE 4 sees domains 0 then 1;
/// CE 5 sees domain 1.
fn topology() -> Topology {
    let facts = |id: u16, ifindex, is_msee, tags, domains: &[usize]| AttachmentFacts {
        id: AttachmentId::at(usize::from(id) - 1),
        name: format!("attachment{id}"),
        interface: format!("if{ifindex}"),
        ifindex,
        is_msee,
        is_service: false,
        is_box: false,
        public_sources: id == 3,
        sources: SourceCheck::Off,
        enabled: true,
        hairpin: false,
        policer_in: 0,
        policer_out: 0,
        profile: 0,
        weight: NonZero::new(if id == 4 { 3 } else { 1 }).expect("not zero"),
        // The tagged attachment 3 has the control port 20, whose outer end is 21.
        control: (id == 3).then(|| ControlPort { name: "erdp-3".into(), ifindex: 20, outer: 21 }),
        tags,
        local4: Some(Ipv4Addr::new(198, 18, id as u8, 1)),
        local6: None,
        link_local6: None,
        subnets: vec![format!("198.18.{id}.0/24").parse().expect("a subnet")],
        domains: domains.to_vec(),
        compares_circuits: false,
        forbidden: Vec::new(),
        chained: Vec::new(),
        encrypted_only: Vec::new(),
    };
    Topology::new(vec![
        facts(1, 11, true, [None, None], &[0]),
        facts(2, 12, true, [None, None], &[0]),
        facts(3, 11, true, [Some(300), None], &[1]),
        facts(4, 14, false, [None, None], &[0, 1]),
        facts(5, 15, false, [None, None], &[1]),
    ])
}

/// The same with CE 5 in a zone that may not use domain 0, which it lists.
fn zoned() -> Topology {
    let mut all: Vec<AttachmentFacts> = topology().attachments().cloned().collect();
    all[4].forbidden = vec![0];
    Topology::new(all)
}

/// CE 5 is a NAT service in domain 1, through which a new CE 6 of domain 0 and the MSEEs of domain 0 reach domain 1.
fn chained() -> Topology {
    let mut all: Vec<AttachmentFacts> = topology().attachments().cloned().collect();
    let lan = AttachmentFacts {
        id: AttachmentId::at(5),
        ifindex: 16,
        subnets: vec!["198.18.6.0/24".parse().expect("a subnet")],
        domains: vec![0],
        weight: NonZero::<u8>::MIN,
        ..all[3].clone()
    };
    all.push(lan);
    all[4].is_service = true;
    all[4].chained = vec![Source::On(0, AttachmentId::at(5)), Source::Microsoft(0)];
    for at in [0, 1, 5] {
        all[at].chained = vec![Source::Through(1, [via(5, 2)].into())];
    }
    Topology::new(all)
}

struct Bench {
    forwarding: Forwarding,
    dataplane: MemoryDataplane,
}

impl Bench {
    fn new() -> Self {
        Self::of(topology())
    }

    fn of(topology: Topology) -> Self {
        let mut dataplane = MemoryDataplane::new(8192);
        let mut forwarding = Forwarding::new(topology, &mut dataplane).expect("room");
        for ifindex in [11, 12, 14, 15, 16] {
            let facts = LinkFacts { mac: [2, 0, 0, 0, 1, ifindex as u8], mtu: 1500 };
            forwarding.link_facts(ifindex, facts, &mut dataplane).expect("memory");
            forwarding.link(ifindex, true, &mut dataplane).expect("memory");
        }
        Self { forwarding, dataplane }
    }

    fn route(&mut self, domain: usize, prefix: &str, keys: &[NextHopKey], now_ns: u64) {
        let target = (!keys.is_empty()).then(|| Target::Forward(keys.iter().copied().collect()));
        let prefix = prefix.parse().expect("a prefix");
        self.forwarding.route(domain, prefix, target, now_ns, &mut self.dataplane).expect("room");
    }

    fn resolve(&mut self, key: NextHopKey) {
        self.forwarding.neighbour(key, Some(MAC), 0, &mut self.dataplane).expect("memory");
    }

    fn ask(&self, ifindex: u32, to: &str) -> Answer {
        self.ask_from(ifindex, "198.18.64.9", to)
    }

    fn ask_from(&self, ifindex: u32, from: &str, to: &str) -> Answer {
        let question = Question {
            from: from.parse().expect("an address"),
            to: to.parse().expect("an address"),
            ports: (1, 2),
            hop_limit: 64,
            tags: [None, None],
        };
        self.dataplane.ask(ifindex, &question.frame().expect("one family")).expect("memory")
    }

    fn next_hop(&self, ifindex: u32, to: &str) -> Option<NextHopKey> {
        self.forwarding.next_hop_key(self.ask(ifindex, to).trace.next_hop)
    }
}

fn via(attachment: u16, last: u8) -> NextHopKey {
    NextHopKey {
        attachment: AttachmentId::at(usize::from(attachment) - 1),
        address: IpAddr::V4(Ipv4Addr::new(198, 18, attachment as u8, last)),
    }
}

#[test]
fn a_route_forwards_once_its_neighbour_is_resolved_and_stops_when_it_is_withdrawn() {
    let mut bench = Bench::new();
    bench.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    assert_eq!(bench.forwarding.take_wishes(), [Wish::Watch(via(1, 2))]);
    assert_eq!(
        bench.ask(14, "20.1.1.1").drop_reason(),
        Some(erdp_common::reason::DropReason::NeighbourUnresolved)
    );
    bench.resolve(via(1, 2));
    assert_eq!(bench.next_hop(14, "20.1.1.1"), Some(via(1, 2)));
    bench.route(0, "20.0.0.0/8", &[], 0);
    assert_eq!(bench.ask(14, "20.1.1.1").drop_reason(), Some(erdp_common::reason::DropReason::NoRoute));
    assert_eq!(bench.forwarding.take_wishes(), [Wish::Forget(via(1, 2))]);
}

#[test]
fn b6_a_suspended_attachment_carries_nothing_while_others_on_its_interface_do_and_its_flows_come_back() {
    use erdp_common::reason::DropReason::NoLiveLink;
    let mut bench = Bench::new();
    [via(1, 2), via(2, 2), via(3, 2)].iter().for_each(|key| bench.resolve(*key));
    bench.route(0, "20.0.0.0/8", &[via(1, 2), via(2, 2)], 0);
    bench.route(0, "21.0.0.0/8", &[via(1, 2)], 0);
    bench.route(1, "40.0.0.0/8", &[via(3, 2)], 0);
    let ways = |bench: &Bench| -> Vec<Option<NextHopKey>> {
        (0..200).map(|host| bench.next_hop(14, &format!("20.1.1.{host}"))).collect()
    };
    let before = ways(&bench);
    let share = bench.forwarding.share_of(&[AttachmentId::at(0)]);
    assert_eq!(share, Share { groups: 1, buckets: 32, of: 64, alone: 1 });
    bench.forwarding.suspend(AttachmentId::at(0), true, &mut bench.dataplane).expect("memory");
    // A neighbour that is resolved again meanwhile changes nothing.
    bench.forwarding.neighbour(via(1, 2), None, 0, &mut bench.dataplane).expect("memory");
    bench.resolve(via(1, 2));
    assert!(ways(&bench).iter().all(|way| *way == Some(via(2, 2))));
    assert_eq!(bench.ask(14, "21.1.1.1").drop_reason(), Some(NoLiveLink));
    assert_eq!(bench.next_hop(15, "40.1.1.1"), Some(via(3, 2)), "attachment 3 is on the same interface");
    bench.forwarding.suspend(AttachmentId::at(0), false, &mut bench.dataplane).expect("memory");
    assert_eq!(ways(&bench), before);
}

#[test]
fn d4_a_private_source_is_dropped_towards_microsoft_peering_and_only_there() {
    let mut bench = Bench::new();
    [via(1, 2), via(3, 2)].iter().for_each(|key| bench.resolve(*key));
    bench.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    bench.route(1, "40.0.0.0/8", &[via(3, 2)], 0);
    let unnatted = Some(erdp_common::reason::DropReason::UnnattedSource);
    assert_eq!(bench.ask_from(14, "10.1.2.3", "40.1.1.1").drop_reason(), unnatted);
    assert_eq!(bench.ask_from(14, "198.18.64.9", "40.1.1.1").drop_reason(), None);
    assert_eq!(bench.ask_from(14, "10.1.2.3", "20.1.1.1").drop_reason(), None);
}

#[test]
fn c5_a_zone_keeps_an_attachment_and_a_peering_apart_in_both_directions_and_says_so() {
    use erdp_common::reason::DropReason::{NoRoute, ZoneForbidden};
    let mut bench = Bench::of(zoned());
    [via(1, 2), via(3, 2), via(5, 2)].iter().for_each(|key| bench.resolve(*key));
    bench.forwarding.connect(0, &mut bench.dataplane).expect("room");
    bench.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    bench.route(1, "40.0.0.0/8", &[via(3, 2)], 0);
    bench.route(1, "198.18.128.0/24", &[via(5, 2)], 0);
    assert_eq!(bench.ask(15, "20.1.1.1").drop_reason(), Some(ZoneForbidden), "to the forbidden peering");
    assert_eq!(bench.ask(11, "198.18.128.9").drop_reason(), Some(ZoneForbidden), "and from it");
    assert_eq!(bench.ask(11, "198.18.5.9").drop_reason(), Some(ZoneForbidden), "to a connected host, too");
    assert_eq!(bench.next_hop(15, "40.1.1.1"), Some(via(3, 2)), "what is allowed works");
    assert_eq!(bench.next_hop(14, "20.1.1.1"), Some(via(1, 2)), "and so do others");
    assert_eq!(bench.ask(15, "30.1.1.1").drop_reason(), Some(NoRoute));
    bench.route(0, "20.0.0.0/8", &[], 0);
    bench.route(1, "198.18.128.0/24", &[], 0);
    assert_eq!(bench.ask(15, "20.1.1.1").drop_reason(), Some(NoRoute), "the refusal goes with the route");
    assert_eq!(bench.ask(11, "198.18.128.9").drop_reason(), Some(NoRoute));
}

#[test]
fn c5_a_prefix_that_an_allowed_peering_has_as_well_is_used_there() {
    let mut bench = Bench::of(zoned());
    [via(1, 2), via(3, 2)].iter().for_each(|key| bench.resolve(*key));
    bench.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    assert_eq!(bench.next_hop(15, "20.1.1.1"), None);
    bench.route(1, "20.0.0.0/8", &[via(3, 2)], 0);
    assert_eq!(bench.next_hop(15, "20.1.1.1"), Some(via(3, 2)));
}

#[test]
fn c5_a_refusal_takes_nothing_away_from_a_shorter_prefix_that_is_allowed() {
    use erdp_common::reason::DropReason::ZoneForbidden;
    let mut bench = Bench::of(zoned());
    [via(1, 2), via(3, 2)].iter().for_each(|key| bench.resolve(*key));
    bench.route(0, "20.1.0.0/16", &[via(1, 2)], 0);
    assert_eq!(bench.ask(15, "20.1.1.1").drop_reason(), Some(ZoneForbidden));
    bench.route(1, "20.0.0.0/8", &[via(3, 2)], 0);
    assert_eq!(bench.next_hop(15, "20.1.1.1"), Some(via(3, 2)), "the shorter prefix came later");
    bench.route(0, "20.1.2.0/24", &[via(1, 2)], 0);
    assert_eq!(bench.next_hop(15, "20.1.2.1"), Some(via(3, 2)), "or earlier");
    bench.route(1, "20.0.0.0/8", &[], 0);
    assert_eq!(bench.ask(15, "20.1.2.1").drop_reason(), Some(ZoneForbidden), "and goes");
}

#[test]
fn c2_what_came_from_microsoft_goes_back_there_only_where_hairpin_allows_it() {
    use erdp_common::reason::DropReason::{Hairpin, NoRoute};
    for allowed in [false, true] {
        let mut all: Vec<AttachmentFacts> = topology().attachments().cloned().collect();
        all[0].hairpin = allowed; // the circuit of domain 0
        all[1].hairpin = allowed;
        let mut bench = Bench::of(Topology::new(all));
        [via(1, 2), via(2, 2), via(3, 2)].iter().for_each(|key| bench.resolve(*key));
        bench.route(0, "20.0.0.0/8", &[via(1, 2), via(2, 2)], 0);
        bench.route(1, "40.0.0.0/8", &[via(3, 2)], 0);
        let answer = bench.ask(11, "20.1.1.1");
        assert_eq!(answer.drop_reason(), (!allowed).then_some(Hairpin), "from VNet to VNet of one circuit");
        assert_eq!(bench.ask(11, "40.1.1.1").drop_reason(), Some(NoRoute), "never to another peering");
    }
}

#[test]
fn c5_a_chain_leads_through_its_service_in_both_directions_and_never_past_it() {
    use erdp_common::reason::DropReason::{Hairpin, NoRoute, UnnattedSource};
    let mut bench = Bench::of(chained());
    [via(1, 2), via(3, 2), via(5, 2), via(6, 2)].iter().for_each(|key| bench.resolve(*key));
    bench.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    bench.route(1, "40.0.0.0/8", &[via(3, 2)], 0);
    bench.route(0, "10.6.0.0/16", &[via(6, 2)], 0);
    bench.route(1, "198.18.200.0/24", &[via(5, 2)], 0); // the NAT's own addresses
    let private = |bench: &Bench, ifindex, to: &str| {
        let answer = bench.ask_from(ifindex, "10.6.0.9", to);
        (bench.forwarding.next_hop_key(answer.trace.next_hop), answer.drop_reason())
    };
    assert_eq!(private(&bench, 16, "40.1.1.1"), (Some(via(5, 2)), None), "the LAN to the NAT");
    assert_eq!(private(&bench, 11, "40.1.1.1"), (Some(via(5, 2)), None), "a VNet to the NAT");
    assert_eq!(
        private(&bench, 15, "40.1.1.1"),
        (Some(via(3, 2)), Some(UnnattedSource)),
        "what it did not NAT"
    );
    assert_eq!(bench.next_hop(15, "40.1.1.1"), Some(via(3, 2)), "the NAT to Microsoft");
    let tagged = Question {
        from: "40.1.1.1".parse().expect("an address"),
        to: "198.18.200.7".parse().expect("an address"),
        ports: (1, 2),
        hop_limit: 64,
        tags: [Some(300), None],
    };
    let back = bench.dataplane.ask(11, &tagged.frame().expect("one family")).expect("memory");
    assert_eq!(bench.forwarding.next_hop_key(back.trace.next_hop), Some(via(5, 2)), "Microsoft to the NAT");
    assert_eq!(bench.next_hop(15, "10.6.0.9"), Some(via(6, 2)), "the NAT back to the LAN");
    assert_eq!(bench.next_hop(15, "20.1.1.1"), Some(via(1, 2)), "and back to a VNet");
    assert_eq!(
        bench.ask(16, "198.18.200.7").drop_reason(),
        Some(NoRoute),
        "no chain leads to the NAT itself"
    );
    assert_eq!(bench.ask(15, "198.18.200.7").drop_reason(), Some(Hairpin), "nor from a service to itself");
    bench.forwarding.link(15, false, &mut bench.dataplane).expect("memory");
    assert_eq!(bench.next_hop(16, "40.1.1.1"), None, "without its service a chain is no way");
}

#[test]
fn b9_an_encrypted_only_prefix_goes_through_its_service_or_nowhere() {
    use erdp_common::reason::DropReason::{EncryptedOnly, NoLiveLink};
    let mut all: Vec<AttachmentFacts> = topology().attachments().cloned().collect();
    all[4].is_service = true;
    all[4].domains = vec![0];
    all[4].encrypted_only = vec!["10.9.0.0/16".parse().expect("a prefix")];
    let mut bench = Bench::of(Topology::new(all));
    bench.forwarding.guard(0, &mut bench.dataplane).expect("room");
    [via(1, 2), via(3, 2), via(4, 2), via(5, 2)].iter().for_each(|key| bench.resolve(*key));
    let in_clear = |bench: &Bench| [14, 11, 15].map(|ifindex| bench.ask(ifindex, "10.9.1.1").drop_reason());
    assert_eq!(in_clear(&bench), [Some(EncryptedOnly); 3], "nobody has a route");
    for shorter in ["0.0.0.0/0", "10.0.0.0/8", "10.9.0.0/16", "10.9.1.0/24", "10.9.1.1/32"] {
        for (domain, key) in [(0, via(1, 2)), (1, via(3, 2)), (0, via(4, 2))] {
            bench.route(domain, shorter, &[key], 0);
            assert_eq!(in_clear(&bench), [Some(EncryptedOnly); 3], "{shorter} by {key:?}");
            bench.route(domain, shorter, &[], 0);
        }
    }
    bench.route(0, "10.0.0.0/8", &[via(1, 2)], 0);
    bench.route(0, "10.9.0.0/16", &[via(5, 2)], 0);
    bench.route(0, "10.9.1.0/24", &[via(1, 2)], 0);
    assert_eq!(bench.next_hop(14, "10.9.1.1"), Some(via(5, 2)), "through the service");
    assert_eq!(bench.next_hop(11, "10.9.1.1"), Some(via(5, 2)), "from the other side too");
    assert_eq!(bench.next_hop(14, "10.8.1.1"), Some(via(1, 2)), "what is outside is free");
    bench.forwarding.link(15, false, &mut bench.dataplane).expect("memory");
    assert_eq!(bench.ask(14, "10.9.1.1").drop_reason(), Some(NoLiveLink), "its link is down");
    bench.route(0, "10.9.0.0/16", &[], 0);
    assert_eq!(bench.ask(14, "10.9.1.1").drop_reason(), Some(EncryptedOnly), "its route is gone");
}

#[test]
fn b1a_the_other_box_is_a_side_of_its_own_that_may_speak_for_microsoft() {
    use erdp_common::reason::DropReason::{ForeignSource, Hairpin, NoRoute};
    let mut all: Vec<AttachmentFacts> = topology().attachments().cloned().collect();
    all[1].is_msee = false;
    all[1].is_box = true;
    all[0].sources = SourceCheck::Routed;
    let mut bench = Bench::of(Topology::new(all));
    [via(1, 2), via(2, 2), via(4, 2)].iter().for_each(|key| bench.resolve(*key));
    bench.route(0, "20.0.0.0/8", &[via(2, 2)], 0);
    bench.route(0, "30.0.0.0/8", &[via(4, 2)], 0);
    assert_eq!(bench.next_hop(14, "20.1.1.1"), Some(via(2, 2)), "from the customer to the other box");
    assert_eq!(bench.next_hop(12, "30.1.1.1"), Some(via(4, 2)), "and from there to the customer");
    assert_eq!(bench.ask(12, "20.1.1.1").drop_reason(), Some(Hairpin), "never to and fro");
    assert_eq!(
        bench.ask(14, "198.18.2.9").drop_reason(),
        Some(NoRoute),
        "nobody is on the wire between boxes"
    );
    // Microsoft's sources, of which the other box has the better route now.
    assert_eq!(bench.ask_from(11, "20.1.1.1", "30.1.1.1").drop_reason(), None);
    assert_eq!(bench.ask_from(11, "30.1.1.7", "30.1.1.1").drop_reason(), Some(ForeignSource));
    bench.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    assert_eq!(bench.next_hop(12, "20.1.1.1"), Some(via(1, 2)), "from the other box to our MSEE");
}

#[test]
fn a_tag_of_the_egress_attachment_is_pushed() {
    let mut bench = Bench::new();
    bench.resolve(via(3, 2));
    bench.route(1, "40.0.0.0/8", &[via(3, 2)], 0);
    let answer = bench.ask(15, "40.1.1.1");
    assert_eq!(answer.frame[12..18], [0x81, 0x00, 0x01, 0x2c, 0x08, 0x00]);
}

#[test]
fn one_word_moves_every_flow_of_a_dead_link_and_none_of_the_other() {
    let mut bench = Bench::new();
    bench.route(0, "20.0.0.0/8", &[via(1, 2), via(2, 2)], 0);
    bench.resolve(via(1, 2));
    bench.resolve(via(2, 2));
    let choose = |bench: &Bench| -> Vec<Option<NextHopKey>> {
        (0..200).map(|at| bench.next_hop(14, &format!("20.1.1.{at}"))).collect()
    };
    let before = choose(&bench);
    let shares = before.iter().filter(|key| **key == Some(via(1, 2))).count();
    assert!((60..140).contains(&shares), "{shares} of 200 flows on the first link");
    bench.forwarding.link(12, false, &mut bench.dataplane).expect("memory");
    assert!(choose(&bench).iter().all(|key| *key == Some(via(1, 2))));
    bench.forwarding.link(12, true, &mut bench.dataplane).expect("memory");
    assert_eq!(choose(&bench), before, "the moved flows come back and nobody else moves");
}

#[test]
fn on_link_hosts_of_a_ce_subnet_are_asked_for_and_then_forwarded_to() {
    let mut bench = Bench::new();
    bench.forwarding.connect(0, &mut bench.dataplane).expect("room");
    assert_eq!(
        bench.ask(11, "198.18.4.77").drop_reason(),
        Some(erdp_common::reason::DropReason::NeighbourUnresolved)
    );
    bench.resolve(via(4, 77));
    assert_eq!(bench.next_hop(11, "198.18.4.77"), Some(via(4, 77)));
    bench.forwarding.neighbour(via(4, 77), None, 0, &mut bench.dataplane).expect("memory");
    assert_eq!(
        bench.ask(11, "198.18.4.77").drop_reason(),
        Some(erdp_common::reason::DropReason::NeighbourUnresolved)
    );
}

#[test]
fn a_full_pool_is_an_error_that_names_the_prefix_and_leaves_what_was_there() {
    // Three views need 3 x 512 KiB of roots; one more KiB is left.
    let mut dataplane = MemoryDataplane::new(3 * 512 + 1);
    let mut forwarding = Forwarding::new(topology(), &mut dataplane).expect("room for the roots");
    let target = || Some(Target::Discard);
    let mut routes = |prefixes: &[String]| {
        let changes =
            prefixes.iter().map(|prefix| (1, prefix.parse().expect("a prefix"), target().map(Arc::new)));
        forwarding.routes(changes, 0, &mut dataplane)
    };
    routes(&["20.0.0.0/16".into()]).expect("needs no room");
    // A line in each of two views; 16 lines are left.
    let many: Vec<String> = (0..20).map(|second| format!("20.{second}.0.0/24")).collect();
    let error = routes(&many).expect_err("40 lines are not left").to_string();
    assert!(error.contains("/24") && error.contains("fib-blocks"), "{error}");
    let sizes = forwarding.sizes();
    assert_eq!(sizes["routes"] + sizes["routes_without_room"], 2 * 21, "what found room is placed");
    assert_eq!(sizes["routes_without_room"], 40 - 16);
}

/// Routes of the model: (domain, prefix) -> next hops.
type Model = BTreeMap<(usize, IpNet), BTreeSet<NextHopKey>>;

/// The slow model: scan all routes of the first domain in order; longest prefix, earlier domain on equal prefixes.
fn model_next_hops(model: &Model, domains: &[usize], to: IpAddr) -> BTreeSet<NextHopKey> {
    let mut best: Option<(u8, usize, &BTreeSet<NextHopKey>)> = None;
    for ((domain, prefix), keys) in model {
        let Some(rank) = domains.iter().position(|other| other == domain) else { continue };
        if !prefix.contains(&to) {
            continue;
        }
        let better = best.is_none_or(|(len, other, _)| {
            prefix.prefix_len() > len || (prefix.prefix_len() == len && rank < other)
        });
        if better {
            best = Some((prefix.prefix_len(), rank, keys));
        }
    }
    best.map(|(_, _, keys)| keys.clone()).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_routes_forward_as_a_linear_scan_says(
        steps in proptest::collection::vec((0usize..2, any::<[u8; 2]>(), 8u8..=32, 0usize..4), 1..60),
        asked in proptest::collection::vec(any::<[u8; 2]>(), 8),
    ) {
        let mut bench = Bench::new();
        let sets = [
            [vec![], vec![via(1, 2)], vec![via(2, 2)], vec![via(1, 2), via(2, 2)]],
            [vec![], vec![via(3, 2)], vec![via(3, 3)], vec![via(3, 2), via(3, 3)]],
        ];
        sets.iter().flatten().flatten().for_each(|key| bench.resolve(*key));
        let mut model = Model::new();
        for (at, (domain, [third, last], len, choice)) in steps.into_iter().enumerate() {
            let keys = &sets[domain][choice];
            // Few distinct addresses, so that prefixes nest and are withdrawn again.
            let text = format!("20.{}.{}.{}/{len}", third & 1, third & 3, last & 0xc1);
            let prefix = text.parse::<IpNet>().expect("a prefix").trunc();
            bench.route(domain, &prefix.to_string(), keys, at as u64 * 700_000_000);
            if keys.is_empty() {
                model.remove(&(domain, prefix));
            } else {
                model.insert((domain, prefix), keys.iter().copied().collect());
            }
        }
        for [third, last] in asked {
            let to = format!("20.{}.{}.{}", third & 1, third & 3, last & 0xc1);
            for (ifindex, domains) in [(14, &[0, 1][..]), (15, &[1])] {
                let expected = model_next_hops(&model, domains, to.parse().expect("an address"));
                let got = bench.next_hop(ifindex, &to);
                prop_assert_eq!(got.is_none(), expected.is_empty(), "{} {}", ifindex, to);
                prop_assert!(got.is_none_or(|key| expected.contains(&key)), "{} {} {:?}", ifindex, to, got);
            }
        }
    }
}

#[test]
fn an_attachment_and_its_next_hops_follow_their_policers_and_no_other_does() {
    let mut bench = Bench::new();
    bench.route(0, "20.0.0.0/8", &[via(1, 2), via(2, 2)], 0);
    bench.forwarding.policers(AttachmentId::at(1), [7, 8], &mut bench.dataplane).expect("memory");
    let id = |key| bench.forwarding.next_hops.get(&key).expect("in use") as usize;
    let (one, two) = (id(via(1, 2)), id(via(2, 2)));
    let written = bench.dataplane.with_tables(|tables| {
        let attachments = [1, 2].map(|at| tables.attachments[at].policer);
        (attachments, [one, two].map(|id| tables.next_hops[id].policer))
    });
    assert_eq!(written, ([0, 7], [0, 8]));
}

/// Attachment 4 weighs 3, all others 1. Addresses choose the flow's bucket as well as ports do.
#[test]
fn flows_follow_the_attachments_weights_and_only_those_of_the_one_that_comes_or_goes_move() {
    let mut bench = Bench::new();
    let keys = [via(4, 2), via(5, 2), via(2, 2)];
    keys.iter().for_each(|key| bench.resolve(*key));
    let chosen = |bench: &Bench| -> Vec<NextHopKey> {
        let to = |at: usize| format!("20.0.{}.{}", at >> 8, at & 0xff);
        (0..2_000).map(|at| bench.next_hop(11, &to(at)).expect("forwarded or refused by side only")).collect()
    };
    let share =
        |flows: &[NextHopKey], key| flows.iter().filter(|flow| **flow == key).count() as f64 / 2_000.0;
    bench.route(0, "20.0.0.0/8", &keys[..2], 0);
    let two = chosen(&bench);
    assert!((share(&two, keys[0]) - 0.75).abs() < 0.04, "{}", share(&two, keys[0]));
    bench.route(0, "20.0.0.0/8", &keys, 0);
    let three = chosen(&bench);
    assert!((share(&three, keys[0]) - 0.6).abs() < 0.04, "{}", share(&three, keys[0]));
    assert!(
        two.iter().zip(&three).all(|(was, is)| was == is || *is == keys[2]),
        "a flow moved between the old"
    );
    bench.route(0, "20.0.0.0/8", &keys[..2], 0);
    let again = chosen(&bench);
    assert!(
        three.iter().zip(&again).all(|(was, is)| was == is || *was == keys[2]),
        "a flow moved needlessly"
    );
    assert!((share(&again, keys[0]) - 0.75).abs() < 0.04, "{}", share(&again, keys[0]));
}

#[test]
fn the_kernel_speaks_on_a_tagged_attachment_by_its_control_port() {
    let mut bench = Bench::new();
    let echo = |source: [u8; 4], destination: [u8; 4]| {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0];
        packet.extend([source, destination].concat());
        packet.extend([8, 0, 0, 0, 0, 1, 0, 1]);
        packet
    };
    // The subnets of MSEE links are in no table: who is there is known as a peer.
    for (attachment, address) in [(3, [198, 18, 3, 2]), (1, [198, 18, 1, 2])] {
        let key = crate::bfd::record::peer_key(attachment, IpAddr::from(address));
        bench.dataplane.write(&Record::Peer(key, true)).expect("memory");
    }
    let macs = [2, 0, 0, 0, 1, 11, 2, 0, 0, 0, 0, 7];
    let inside = [&macs[..], &[8, 0], &echo([198, 18, 3, 2], [198, 18, 3, 1])].concat();
    let tagged =
        [&macs[..], &[0x81, 0, 300u16.to_be_bytes()[0], 300u16.to_be_bytes()[1]], &inside[12..]].concat();
    let answer = bench.dataplane.ask(11, &tagged).expect("memory");
    assert_eq!((answer.verdict(), answer.trace.attachment, answer.frame), ("punt", 3, inside.clone()));
    let answer = bench.dataplane.ask(21, &inside).expect("memory");
    assert_eq!((answer.verdict(), answer.frame), ("transmit", tagged));
    // The untagged attachment on the same interface has none.
    let untagged = [&macs[..], &[8, 0], &echo([198, 18, 1, 2], [198, 18, 1, 1])].concat();
    let answer = bench.dataplane.ask(11, &untagged).expect("memory");
    assert_eq!((answer.verdict(), answer.trace.attachment), ("punt", 1));

    let topology = bench.forwarding.topology();
    let ids = |ifindex| topology.spoken_for_on(ifindex).map(|facts| facts.id.number()).collect::<Vec<_>>();
    assert_eq!((ids(11), ids(20)), (vec![1], vec![3]));
    assert_eq!(topology.link_of(20), None, "a link lives as long as its interface does");
    assert_eq!(topology.ports().get(&21).map(String::as_str), Some("erdp-3x"));
    // A solicitation for the link-local address that the kernel has there.
    let link_local: std::net::Ipv6Addr = "fe80::abcd".parse().expect("an address");
    bench.forwarding.link_local(20, link_local, &mut bench.dataplane).expect("memory");
    let of = |id: usize| bench.dataplane.with_tables(|tables| tables.attachments[id].link_local6);
    assert_eq!((of(1), of(3)), ([0; 16], link_local.octets()));
}

#[test]
fn a_next_hop_in_use_that_the_kernel_has_forgotten_is_asked_for_again() {
    let mut bench = Bench::new();
    bench.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    bench.resolve(via(1, 2));
    bench.forwarding.take_wishes();
    bench.forwarding.neighbour(via(1, 2), None, 1, &mut bench.dataplane).expect("memory");
    bench.forwarding.neighbour(via(1, 2), None, 2, &mut bench.dataplane).expect("memory");
    assert_eq!(bench.forwarding.take_wishes(), [Wish::Watch(via(1, 2))], "once for each loss");
    bench.resolve(via(1, 9));
    bench.forwarding.neighbour(via(1, 9), None, 3, &mut bench.dataplane).expect("memory");
    assert_eq!(bench.forwarding.take_wishes(), [], "no route uses it");
}

#[test]
fn b7_a_peer_stays_resolved_when_the_last_route_has_left_it() {
    let mut bench = Bench::new();
    let peer = via(1, 2);
    bench.forwarding.keep([peer].into());
    assert_eq!(bench.forwarding.take_wishes(), [Wish::Watch(peer)]);
    bench.route(0, "20.0.0.0/8", &[peer], 0);
    bench.resolve(peer);
    bench.forwarding.take_wishes();
    bench.route(0, "20.0.0.0/8", &[via(2, 2)], 1);
    assert_eq!(bench.forwarding.take_wishes(), [Wish::Watch(via(2, 2))], "the drained one is not forgotten");
    bench.forwarding.neighbour(peer, None, 2, &mut bench.dataplane).expect("memory");
    assert_eq!(bench.forwarding.take_wishes(), [Wish::Watch(peer)], "it is asked for again");
    bench.forwarding.keep([via(2, 2)].into());
    assert_eq!(
        bench.forwarding.take_wishes(),
        [Wish::Watch(via(2, 2)), Wish::Forget(peer)],
        "no peer any more"
    );
    bench.forwarding.keep([].into());
    assert_eq!(bench.forwarding.take_wishes(), [], "a route leads to it");
}

#[test]
fn neighbours_behind_a_link_that_is_back_are_asked_for_at_once_where_they_are_not_known() {
    let mut bench = Bench::new();
    bench.route(0, "20.0.0.0/8", &[via(1, 2), via(1, 3), via(2, 2)], 0);
    bench.resolve(via(1, 3));
    bench.forwarding.take_wishes();
    // The peer that has brought the routes, one that has brought none yet, one that is known, and one elsewhere.
    bench.resolve(via(1, 5));
    bench.forwarding.renew(11, [via(1, 2), via(1, 4), via(1, 5), via(2, 4)]);
    assert_eq!(bench.forwarding.take_wishes(), [Wish::Renew(via(1, 2)), Wish::Renew(via(1, 4))]);
    bench.forwarding.renew(15, []);
    assert_eq!(bench.forwarding.take_wishes(), []);
}

#[test]
fn flows_are_where_they_were_after_the_routes_of_one_neighbour_were_withdrawn_and_came_back() {
    let mut bench = Bench::new();
    let (one, other) = (via(1, 2), via(2, 2));
    [one, other].into_iter().for_each(|key| bench.resolve(key));
    let ways = |bench: &Bench| -> Vec<_> {
        (0..=255).map(|host| bench.next_hop(14, &format!("20.0.7.{host}"))).collect()
    };
    // The order in which they come must not matter either.
    bench.route(0, "20.0.0.0/8", &[other], 0);
    bench.route(0, "20.0.0.0/8", &[one, other], 1);
    let before = ways(&bench);
    assert!(before.contains(&Some(one)) && before.contains(&Some(other)));
    for left in [one, other] {
        bench.route(0, "20.0.0.0/8", &[left], 2);
        assert!(ways(&bench).iter().all(|way| *way == Some(left)));
        bench.route(0, "20.0.0.0/8", &[one, other], 3);
        assert_eq!(ways(&bench), before, "{left:?} was left");
    }
}
