//! What operators see of one peer's paths: which is the best and by which rule, which are not used and why, what is advertised and what not.

use super::*;

const PREFIX: &str = "20.0.0.0/8";

fn why(rib: &Rib, peer: PeerId, domain: DomainId) -> (&'static str, String) {
    let prefix = net(PREFIX);
    let paths = rib.received(peer, &prefix);
    let path = paths.iter().find(|path| path.domain == domain).unwrap();
    (path.word(), path.why(|source| format!("#{}", source.peer().unwrap().0)))
}

#[test]
fn each_path_says_whether_it_is_the_best_by_which_rule_and_whose_path_it_is_compared_with() {
    let mut rib = rib();
    announce(&mut rib, A1, PREFIX);
    rib.take_fib_changes();
    assert_eq!(why(&rib, A1, A_PRIVATE), ("best", "the only path".into()));
    // The other link has the lower identifier.
    announce(&mut rib, A2, PREFIX);
    rib.take_fib_changes();
    let used = "packets use it beside the path of #2, which others are advertised by: lowest BGP identifier";
    assert_eq!(why(&rib, A1, A_PRIVATE), ("used", used.into()));
    let best = "better than the path of #0 by: lowest BGP identifier";
    assert_eq!(why(&rib, A2, A_PRIVATE), ("best", best.into()));
    announce_with(&mut rib, A2, PREFIX, |it| it.as_path = AsPath::sequence([12076, 12076, 65515]));
    rib.take_fib_changes();
    assert_eq!(
        why(&rib, A2, A_PRIVATE),
        ("not-used", "the path of #0 is better by: shortest AS path".into())
    );
    assert_eq!(why(&rib, A1, A_PRIVATE), ("best", "better than the path of #2 by: shortest AS path".into()));
    let paths = rib.received(A2, &net(PREFIX));
    assert_eq!((paths.len(), paths[0].preference), (1, Some(100)));
    // A loop.
    announce_with(&mut rib, A2, PREFIX, |it| it.as_path = AsPath::sequence([12076, 65010]));
    rib.take_fib_changes();
    let (word, reason) = why(&rib, A2, A_PRIVATE);
    assert!(word == "refused" && reason.contains("our own AS is in the path"), "{word}: {reason}");
    assert_eq!(rib.received(A2, &net(PREFIX))[0].preference, None);
    // A circuit that is not in use has no path that counts.
    rib.enable(A_PRIVATE, false);
    rib.take_fib_changes();
    assert_eq!(why(&rib, A1, A_PRIVATE).0, "circuit-off");
    assert!(rib.received(B1, &net(PREFIX)).is_empty() && !rib.has_received(B1, &net(PREFIX)));
}

#[test]
fn what_a_peer_is_advertised_is_shown_as_it_reads_it_with_its_origin_and_what_is_held_back_with_the_reason() {
    let mut rib = rib();
    announce_with(&mut rib, CE0, PREFIX, |it| it.med = Some(7));
    announce_with(&mut rib, CE0, "21.0.0.0/8", |it| it.communities = vec![Community(0xFFFF_FF01)]);
    announce(&mut rib, A2, "30.0.0.0/8");
    rib.take_fib_changes();
    assert_eq!(told(&mut rib, A1), ["+20.0.0.0/8"]);
    let sent = rib.advertised(A1, net(PREFIX)).unwrap();
    assert_eq!((sent.domain, sent.from), (A_PRIVATE, Some(CE0.into())));
    assert_eq!(sent.sent.as_path, AsPath::sequence([65010, 65020]));
    assert_eq!((sent.sent.med, sent.received.unwrap().med), (None, Some(7)));
    assert_eq!(sent.sent.next_hop, "198.18.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(rib.why_not_advertised(A1, net(PREFIX)), None, "it is");
    let held = rib.why_not_advertised(A1, net("21.0.0.0/8"));
    assert_eq!(held, Some((A_PRIVATE, CE0.into(), HoldBack::WellKnownCommunity)));
    let own_side = rib.why_not_advertised(A1, net("30.0.0.0/8"));
    assert_eq!(own_side, Some((A_PRIVATE, A2.into(), HoldBack::SameSide)));
    assert!(rib.advertised(A1, net("21.0.0.0/8")).is_none());
    assert_eq!(rib.why_not_advertised(A1, net("99.0.0.0/8")), None, "nobody has it");
    // Of both of its domains: the customer's router knows from which one it is.
    told(&mut rib, CE0);
    announce(&mut rib, B1, "40.0.0.0/8");
    rib.take_fib_changes();
    told(&mut rib, CE0);
    assert_eq!(
        rib.advertised(CE0, net("40.0.0.0/8")).map(|it| (it.domain, it.from)),
        Some((B_PRIVATE, Some(B1.into())))
    );
    let mut all = rib.advertised_to(CE0);
    all.sort();
    assert_eq!(all, [net("30.0.0.0/8"), net("40.0.0.0/8")]);
}
