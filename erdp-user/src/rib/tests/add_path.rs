//! Peers that tell several paths to a prefix (RFC 7911): each path is judged, ranked, counted and withdrawn by itself.

use super::*;
use crate::bgp::{Kept, PathId};

/// CE0 announces a path by way of a router on its subnet.
fn announce_path(rib: &mut Rib, id: u32, host: u8, change: impl FnOnce(&mut PathAttributes)) {
    let mut attributes = attributes(rib, CE0, PREFIX);
    attributes.next_hop = IpAddr::from([198, 18, 10, host]);
    change(&mut attributes);
    let (announced, path) = (vec![net(PREFIX)], Some(PathId(id)));
    rib.update(CE0, Update { announced, path, attributes: Some(Arc::new(attributes)), ..Update::default() });
}

fn withdraw_path(rib: &mut Rib, id: u32) {
    rib.update(CE0, Update { withdrawn: vec![net(PREFIX)], path: Some(PathId(id)), ..Update::default() });
}

const PREFIX: &str = "20.0.0.0/8";

/// The last octets of the next hops in `a/private`.
fn hops(rib: &mut Rib) -> Vec<String> {
    rib.take_fib_changes();
    let Some(route) = rib.routes(A_PRIVATE).find(|route| route.prefix == net(PREFIX)) else {
        return Vec::new();
    };
    route.paths.iter().map(|path| path.next_hop.to_string().replace("198.18.10.", "")).collect()
}

#[test]
fn every_equal_path_of_a_peer_shares_the_traffic_and_is_withdrawn_by_itself() {
    let mut rib = rib();
    announce_path(&mut rib, 5, 4, |_| ());
    announce_path(&mut rib, 9, 5, |_| ());
    announce(&mut rib, CE0_OTHER, PREFIX);
    assert_eq!(hops(&mut rib), ["4", "5", "3"]);
    assert_eq!(told(&mut rib, A1), [format!("+{PREFIX}")], "one path is told");
    withdraw_path(&mut rib, 5);
    assert_eq!(hops(&mut rib), ["5", "3"]);
    withdraw_path(&mut rib, 5);
    withdraw_path(&mut rib, 77);
    assert_eq!(
        rib.take_fib_changes(),
        [],
        "what was never told is withdrawn to no effect (RFC 7911 section 5)"
    );
    withdraw_path(&mut rib, 9);
    assert_eq!(hops(&mut rib), ["3"]);
    rib.peer_down(CE0_OTHER);
    assert_eq!(hops(&mut rib), Vec::<String>::new());
}

#[test]
fn paths_of_one_peer_compete_by_the_rules_and_at_last_by_the_lowest_identifier() {
    let mut rib = rib();
    announce_path(&mut rib, 2, 4, |it| it.communities = vec![Community(2)]);
    announce_path(&mut rib, 1, 5, |it| it.communities = vec![Community(1)]);
    announce_path(&mut rib, 3, 6, |it| it.as_path = AsPath::sequence([65020, 1]));
    assert_eq!(hops(&mut rib), ["4", "5"]);
    let verdicts: Vec<Verdict> =
        rib.explain(A_PRIVATE, net(PREFIX)).into_iter().map(|(_, _, verdict)| verdict).collect();
    let expected =
        [Verdict::Best, Verdict::Multipath("lowest path identifier"), Verdict::Lost("shortest AS path")];
    assert_eq!(verdicts, expected);
    let route = rib.routes(A_PRIVATE).next().unwrap();
    assert_eq!((route.best_path, &route.attributes.communities[..]), (Some(PathId(1)), &[Community(1)][..]));
    withdraw_path(&mut rib, 1);
    withdraw_path(&mut rib, 2);
    assert_eq!(hops(&mut rib), ["6"], "the longer one is left");
}

#[test]
fn paths_with_one_next_hop_are_one_way_to_forward() {
    let mut rib = rib();
    announce_path(&mut rib, 1, 4, |_| ());
    announce_path(&mut rib, 2, 4, |it| it.communities = vec![Community(1)]);
    assert_eq!(hops(&mut rib), ["4"]);
    withdraw_path(&mut rib, 1);
    assert_eq!(rib.take_fib_changes(), [], "packets go the same way");
}

#[test]
fn a_refused_path_leaves_the_others_in_use_and_is_shown_with_its_identifier() {
    let mut rib = rib();
    announce_path(&mut rib, 1, 4, |_| ());
    announce_path(&mut rib, 2, 5, |it| it.as_path = AsPath::sequence([65020, 65010]));
    assert_eq!(hops(&mut rib), ["4"]);
    let refused = rib.refused();
    assert!(refused.iter().all(|it| (it.path, it.refusal) == (Some(PathId(2)), Refusal::OwnAsInPath)));
    assert_eq!((refused.len(), rib.peer_counts(CE0).received, rib.peer_counts(CE0).refused), (2, 2, 1));
    announce_path(&mut rib, 2, 5, |_| ());
    assert_eq!((rib.refused(), hops(&mut rib)), (vec![], vec!["4".to_owned(), "5".to_owned()]));
}

#[test]
fn d2_every_path_counts_against_the_limit_of_its_peer() {
    let mut config = topology();
    let max = crate::config::MaxPrefixes { limit: 2, wait: Seconds(1) };
    config.peers[usize::from(CE0.0)].max_prefixes = Some(max);
    let mut rib = rib_of(config);
    for id in 1..=2 {
        announce_path(&mut rib, id, 4, |_| ());
    }
    announce_path(&mut rib, 2, 5, |_| ());
    assert_eq!(rib.take_overflows(), []);
    announce_path(&mut rib, 3, 4, |_| ());
    assert_eq!(rib.take_overflows().len(), 1);
}

#[test]
fn paths_that_a_peer_does_not_tell_again_after_its_restart_are_swept_and_the_others_stay() {
    let mut rib = rib();
    announce_path(&mut rib, 1, 4, |_| ());
    announce_path(&mut rib, 2, 5, |_| ());
    let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
    rib.peer_lost(CE0, &Kept { families: families.clone(), wait: Seconds(120) });
    assert_eq!((rib.stale(CE0), hops(&mut rib)), (2, vec!["4".to_owned(), "5".to_owned()]));
    let restart = crate::bgp::GracefulRestart {
        restarting: true,
        notification: false,
        time: Seconds(120),
        families: families.iter().map(|family| (*family, true)).collect(),
    };
    let peer = rib.config().peer(CE0).unwrap().clone();
    rib.peer_up(CE0, &SessionFacts { restart: Some(restart), ..facts(&peer, &families) });
    announce_path(&mut rib, 2, 5, |_| ());
    rib.update(CE0, Update { end_of_rib: Some(Family::Ipv4Unicast), ..Update::default() });
    assert_eq!((rib.stale(CE0), hops(&mut rib)), (0, vec!["5".to_owned()]));
}

#[test]
fn another_process_takes_up_every_path_with_its_identifier() {
    let mut before = rib();
    announce_path(&mut before, 1, 4, |_| ());
    announce_path(&mut before, 2, 5, |_| ());
    let text = serde_json::to_string(&before.table(CE0)).unwrap();
    let mut after = rib();
    let peer = after.config().peer(CE0).unwrap().clone();
    after.peer_resumed(CE0, &facts(&peer, &[Family::Ipv4Unicast]));
    let table: PeerTable = serde_json::from_str(&text).unwrap();
    table.announced.into_iter().for_each(|update| after.update(CE0, update));
    assert_eq!(hops(&mut after), ["4", "5"]);
    withdraw_path(&mut after, 1);
    assert_eq!(hops(&mut after), ["5"]);
}

#[test]
fn another_configuration_judges_every_path_again() {
    let mut rib = rib();
    announce_path(&mut rib, 1, 4, |_| ());
    announce_path(&mut rib, 2, 5, |it| it.as_path = AsPath::sequence([65020, 65111]));
    assert_eq!(hops(&mut rib), ["4"]);
    let mut config = topology();
    config.local_asn = Asn(65111);
    rib.reconfigure(config);
    rib.take_fib_changes();
    assert_eq!((rib.peer_counts(CE0).refused, rib.refused()[0].path), (1, Some(PathId(2))));
    rib.reconfigure(topology());
    assert_eq!(rib.peer_counts(CE0).refused, 0);
}
