//! What a question about a packet is answered with beside the verdict: by the routes, neighbours and buckets of a whole edge.

use super::*;
use crate::{
    control::explained::Detail,
    dataplane::{
        Answer, Record,
        question::{PacketShape, parse},
    },
};

impl Edge {
    /// The answer to a question that a host asks, and what it came from.
    fn asked(&self, on: &str, from: &str, to: &str, port: u16, shape: &PacketShape) -> (Answer, Detail) {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let question = Question { from, to, ports: (port, 443), hop_limit: 64, tags: [None; 2] };
        let frame = question.shaped(shape).unwrap();
        let answer = self.core.dataplane.ask(self.ifindex(on), &frame).unwrap();
        let chosen = self.core.forwarding.next_hop_key(answer.trace.next_hop);
        let detail = self.core.detail(&frame, &answer, chosen, false);
        (answer, detail)
    }

    fn customer_asks(&self, port: u16, shape: &PacketShape) -> (Answer, Detail) {
        self.asked("ce0", "192.168.0.9", "10.1.0.9", port, shape)
    }
}

#[test]
fn a_verdict_comes_with_the_longest_match_its_origin_and_why_that_path_is_the_best() {
    let mut edge = Edge::converged();
    edge.announce_with(ONE[0], "10.1.0.0/24", &[Community::new(12_076, 50_002), Community::new(65_000, 7)]);
    let (answer, detail) = edge.customer_asks(40_000, &PacketShape::default());
    assert_eq!(answer.verdict(), "transmit");
    let route = detail.route.unwrap();
    assert_eq!(
        (route.prefix.to_string(), route.domain.as_deref()),
        ("10.1.0.0/24".into(), Some("one/private"))
    );
    assert_eq!((route.source.as_str(), route.from.as_deref()), ("bgp", Some("198.18.0.2")));
    assert_eq!(route.communities, ["12076:50002 (West Europe private)", "65000:7"]);
    assert_eq!(
        (route.why.as_deref(), route.paths, route.as_path.as_deref()),
        (Some("the only path"), 1, Some("12076"))
    );
    assert_eq!(detail.domains, ["one/private", "two/private"]);
    edge.withdraw(ONE[0], "10.1.0.0/24");
    let route = edge.customer_asks(40_000, &PacketShape::default()).1.route.unwrap();
    assert_eq!((route.prefix.to_string(), route.paths), ("10.1.0.0/16".into(), 2));
    assert!(route.why.is_some_and(|why| why.starts_with("better than the path of 198.18.0.6 by: ")));
    edge.withdraw(ONE[0], AZURE);
    edge.withdraw(ONE[1], AZURE);
    let route = edge.customer_asks(40_000, &PacketShape::default()).1.route.unwrap();
    assert_eq!(route.domain.as_deref(), Some("two/private"), "the second domain of the attachment");
}

#[test]
fn the_neighbour_of_every_flow_is_the_one_whose_bucket_it_has_or_the_one_whose_bucket_it_has_is_out_of_use() {
    let mut edge = Edge::converged();
    let shape = PacketShape::default();
    let owners: Vec<Option<IpAddr>> = (0..64)
        .map(|port| {
            let (_, detail) = edge.customer_asks(port, &shape);
            let choice = detail.choice.unwrap();
            let chosen: Vec<_> = choice.members.iter().filter(|member| member.chosen).collect();
            assert_eq!((chosen.len(), Some(chosen[0].next_hop)), (1, choice.owner));
            assert_eq!(choice.members.iter().map(|member| member.buckets).sum::<usize>(), choice.buckets);
            choice.owner
        })
        .collect();
    assert!(owners.iter().any(|owner| *owner != owners[0]), "both links carry flows");
    edge.carrier("m1", false);
    for (port, owner) in (0..).zip(owners) {
        let Some(choice) = edge.customer_asks(port, &shape).1.choice else { continue };
        let chosen = choice.members.iter().find(|member| member.chosen).unwrap();
        if choice.owner != Some(chosen.next_hop) {
            let passed = choice.members.iter().find(|member| Some(member.next_hop) == owner).unwrap();
            assert_eq!(passed.problem.as_deref(), Some("interface m1 is down"));
        }
    }
}

#[test]
fn class_rewrite_mtu_and_both_policers_are_those_of_the_packet_path() {
    let edge = Edge::converged();
    let voice = PacketShape { dscp: 46, size: Some(1_400), ..PacketShape::default() };
    let (_, detail) = edge.customer_asks(1, &voice);
    assert_eq!(
        (detail.class.as_deref(), detail.dscp_after, detail.mtu),
        (Some("voice"), Some(46), Some(1_500))
    );
    let [policer] = detail.policers.as_slice() else { panic!("{:?}", detail.policers) };
    assert_eq!((policer.circuit.as_str(), policer.direction.as_str()), ("one", "to-microsoft"));
    assert_eq!((policer.rate_bps, policer.used_percent), (1_000_000_000, 0));
    let marked = PacketShape { dscp: 40, ..PacketShape::default() };
    let (_, detail) = edge.customer_asks(1, &marked);
    assert_eq!((detail.class.as_deref(), detail.dscp_after), (Some("default"), Some(40)), "private peering");
    // The profile of the peering's number as Microsoft peering has it.
    let profile = Record::Profile(1, erdp_common::abi::QosProfile::microsoft(false));
    edge.core.dataplane.clone().write(&profile).unwrap();
    let (_, detail) = edge.customer_asks(1, &marked);
    assert_eq!(
        detail.dscp_after,
        Some(0),
        "what leaves is read off the frame that the program has answered with"
    );
    let (answer, detail) =
        edge.customer_asks(1, &PacketShape { size: Some(1_501), ..PacketShape::default() });
    assert_eq!((answer.drop_reason().map(|it| it.label()), detail.mtu), (Some("too-big"), Some(1_500)));
    assert!(detail.policers.is_empty(), "its policers were not asked");
    let (_, detail) = edge.asked("m1", "10.1.0.9", "192.168.0.9", 1, &PacketShape::default());
    assert_eq!(
        detail.policers.iter().map(|it| it.direction.as_str()).collect::<Vec<_>>(),
        ["from-microsoft"]
    );
}

#[test]
fn a_full_bucket_is_what_a_policed_question_shows_and_no_question_fills_one() {
    let edge = Edge::converged();
    let shape = PacketShape { size: Some(1_500), ..PacketShape::default() };
    for port in 0..500 {
        edge.customer_asks(port, &shape);
    }
    let (_, detail) = edge.customer_asks(1, &shape);
    assert_eq!(detail.policers[0].used_percent, 0, "questions charge nothing");
    let policers = compile::limits::policers_of(&edge.core.config);
    let now = edge.core.dataplane.clock();
    edge.core
        .dataplane
        .clone()
        .write(&Record::Bucket(policers[0].id, [now + (2_000_000_000 << 8); 4]))
        .unwrap();
    let (answer, detail) = edge.customer_asks(1, &shape);
    assert_eq!(answer.drop_reason().map(|it| it.label()), Some("policed"));
    assert!(
        detail.policers[0].used_percent > 100 && detail.policers[0].room_bytes == 0,
        "{:?}",
        detail.policers
    );
}

#[test]
fn the_answer_to_a_packet_finds_back_where_the_packet_leaves() {
    let edge = Edge::converged();
    let question = Question {
        from: "192.168.0.9".parse().unwrap(),
        to: "10.1.0.9".parse().unwrap(),
        ports: (40_000, 443),
        hop_limit: 64,
        tags: [None; 2],
    };
    let out = parse(&question.frame().unwrap()).unwrap();
    let back = out.reply([None; 2]).unwrap();
    let answer = edge.core.dataplane.ask(edge.ifindex("m1"), &back).unwrap();
    let chosen = edge.core.forwarding.next_hop_key(answer.trace.next_hop);
    assert_eq!(chosen.map(|key| key.address.to_string()).as_deref(), Some("198.18.10.2"));
    let detail = edge.core.detail(&back, &answer, chosen, false);
    assert_eq!(detail.route.unwrap().prefix.to_string(), CUSTOMER);
}

#[test]
fn what_no_route_leads_to_and_what_is_no_packet_have_no_route_and_no_neighbour() {
    let edge = Edge::converged();
    let (answer, detail) = edge.asked("ce0", "192.168.0.9", "172.16.0.1", 1, &PacketShape::default());
    assert_eq!(answer.drop_reason().map(|it| it.label()), Some("no-route"));
    assert!(detail.route.is_none() && detail.choice.is_none() && detail.class.is_none(), "{detail:?}");
    assert_eq!(detail.packet.map(|packet| packet.size), Some(32));
    let mut arp = vec![0xff; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let answer = edge.core.dataplane.ask(edge.ifindex("ce0"), &arp).unwrap();
    let detail = edge.core.detail(&arp, &answer, None, false);
    assert_eq!((detail.packet, detail.frame_bytes, detail.domains.len()), (None, 60, 2));
}

#[test]
fn a_question_that_is_a_bfd_packet_of_a_peer_changes_nothing_of_its_session() {
    const SESSION: u16 = 3;
    const OURS: u32 = 9;
    let mut edge = Edge::converged();
    let peer = edge.peer(ONE[0]);
    let key = peer_key(&peer);
    // Words of `BfdSession`: `until` is the second, our discriminator is in the seventh.
    let mut words = [0; erdp_common::abi::BFD_SESSION_WORDS];
    (words[1], words[6]) = (u64::MAX / 4, u64::from(OURS));
    edge.core.dataplane.write(&Record::BfdPeer(key, SESSION.into())).unwrap();
    edge.core.dataplane.write(&Record::BfdSession(SESSION, words)).unwrap();
    let (from, to) = (peer.session.remote, peer.session.local);
    let question = Question { from, to, ports: (49_152, 3_784), hop_limit: 255, tags: [None; 2] };
    let shape = PacketShape { ttl: 255, size: Some(20 + 8 + 24), ..PacketShape::default() };
    let mut frame = question.shaped(&shape).unwrap();
    // RFC 5880 section 4.1: version 1, state Down, multiplier 3, 24 octets; the session is over.
    let control =
        [[0x20, 0x40, 3, 24], 7_u32.to_be_bytes(), OURS.to_be_bytes(), [0, 4, 0, 0], [0, 4, 0, 0], [0; 4]];
    frame.splice(14 + 28.., control.concat());
    let answer = edge.core.dataplane.ask(edge.ifindex("m1"), &frame).unwrap();
    assert_eq!(answer.punt_kind().map(|kind| kind.label()), Some("bfd"));
    assert_eq!(edge.core.dataplane.bfd_session(SESSION), words, "a question");
    edge.core.dataplane.run(edge.ifindex("m1"), &frame);
    assert_ne!(edge.core.dataplane.bfd_session(SESSION), words, "the same packet from the wire");
}
