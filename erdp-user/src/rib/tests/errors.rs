//! Updates in error and updates that only look so: RFC 4271 section 6.3, RFC 7947, and Azure's own AS in a service's path (B8, E1).

use super::kernel::{kernel_attachments, kernel_rib, path};
use super::*;
use crate::bgp::Role;

/// What is refused: peer, prefix, reason; a reason of several domains once.
fn refused(rib: &Rib) -> Vec<(PeerId, String, Refusal)> {
    let mut rows: Vec<_> =
        rib.refused().iter().map(|it| (peer_of(it.source), it.prefix.to_string(), it.refusal)).collect();
    rows.dedup();
    rows
}

#[test]
fn rfc4271_6_3_martian_nlri_is_ignored_from_every_side_and_the_rest_of_the_update_is_used() {
    let rows = [
        ("20.0.0.0/8", ["0.0.0.0/8", "127.0.0.0/8", "169.254.1.0/24", "224.0.0.0/4", "240.0.0.0/4"]),
        ("21.0.0.0/8", ["127.0.0.1/32", "0.0.0.0/32", "239.1.1.1/32", "250.0.0.0/8", "255.255.255.255/32"]),
        ("2600::/12", ["::/128", "::1/128", "::ffff:10.0.0.0/104", "fe80::/10", "ff02::1/128"]),
    ];
    // MSEE and customer, private and Microsoft peering; CE1 has both peerings.
    for peer in [A1, A1_V6, MS1, CE0, CE1] {
        for (good, bad) in
            rows.iter().filter(|(good, _)| good.contains(':') == (peer == A1_V6) || peer == CE1)
        {
            let mut rib = rib();
            let announced: Vec<IpNet> = bad.iter().chain([good]).map(|text| net(text)).collect();
            let attributes = Some(Arc::new(attributes(&rib, peer, good)));
            rib.update(peer, Update { announced, attributes, ..Update::default() });
            let prefixes: BTreeSet<String> = refused(&rib).into_iter().map(|(_, prefix, _)| prefix).collect();
            assert_eq!(prefixes, bad.iter().map(|text| (*text).to_owned()).collect(), "{peer:?}");
            for row in rib.refused() {
                let is_microsoft = row.domain == A_MICROSOFT;
                let expected = if is_microsoft { Refusal::Bogon } else { Refusal::Martian };
                assert_eq!(row.refusal, expected, "{peer:?} {}", row.prefix);
            }
            let used: BTreeSet<String> = changes(&mut rib).into_iter().map(|(_, prefix, _)| prefix).collect();
            assert_eq!(used, BTreeSet::from([net(good).to_string()]), "{peer:?}");
            for other in (0..11).map(PeerId).filter(|other| *other != peer) {
                assert!(
                    told(&mut rib, other).iter().all(|word| *word == format!("+{good}")),
                    "{peer:?} {other:?}"
                );
            }
        }
    }
}

#[test]
fn rfc4271_6_3_martian_routes_of_the_kernel_are_ignored_and_shown() {
    let mut rib = kernel_rib();
    let [ce0, ce1] = kernel_attachments(&rib);
    rib.kernel_route(ce0, net("240.0.0.0/4"), path(0, &[("198.18.10.9", 1)]));
    rib.kernel_route(ce0, net("127.0.0.0/8"), path(0, &[]));
    rib.kernel_route(ce1, net("ff00::/8"), path(0, &[("fd00:11::2", 1)]));
    assert_eq!(changes(&mut rib), []);
    assert_eq!(told(&mut rib, A1), [] as [String; 0]);
    let refused = rib.refused();
    let mut martians: Vec<IpNet> =
        refused.iter().filter(|it| it.refusal == Refusal::Martian).map(|it| it.prefix).collect();
    martians.dedup();
    assert_eq!(martians.len(), 3, "{martians:?}");
}

#[test]
fn rfc4271_6_3_a_default_route_and_what_covers_martians_and_more_stay_as_they_were() {
    let mut rib = rib();
    for prefix in ["0.0.0.0/0", "0.0.0.0/1", "64.0.0.0/2"] {
        announce(&mut rib, A1, prefix);
    }
    announce(&mut rib, A1_V6, "::/0");
    announce(&mut rib, A1_V6, "64:ff9b::/96");
    assert_eq!(refused(&rib), []);
}

#[test]
fn rfc4271_6_3_next_hops_that_no_neighbour_has_are_refused_never_used_and_never_advertised() {
    let rows = [
        // CE0 is on 198.18.10.1/24, A1 on a /30, CE1 on a /30 and fd00:11::1/64, A1_V6 on fd00::1/126.
        (CE0, "20.0.0.0/8", "198.18.10.255"),
        (CE0, "20.0.0.0/8", "198.18.10.0"),
        (CE0, "20.0.0.0/8", "0.0.0.0"),
        (CE0, "20.0.0.0/8", "127.0.0.1"),
        (CE0, "20.0.0.0/8", "224.0.0.5"),
        (CE0, "20.0.0.0/8", "255.255.255.255"),
        (A1, "20.0.0.0/8", "198.18.0.3"),
        (A1, "20.0.0.0/8", "198.18.0.0"),
        (MS1, "20.0.0.0/8", "198.18.1.3"),
        (CE1, "2600::/12", "fd00:11::"),
        (CE1, "2600::/12", "fe80::"),
        (CE1, "2600::/12", "::"),
        (CE1, "2600::/12", "::1"),
        (CE1, "2600::/12", "ff02::1"),
        (CE1, "2600::/12", "::ffff:198.18.11.2"),
        (A1_V6, "2600::/12", "fd00::"),
    ];
    for (peer, prefix, next_hop) in rows {
        let mut rib = rib();
        announce_with(&mut rib, peer, prefix, |a| a.next_hop = next_hop.parse().unwrap());
        let expected = [(peer, prefix.to_owned(), Refusal::NextHopIsNoHost)];
        assert_eq!(refused(&rib), expected, "{peer:?} {next_hop}");
        assert_eq!(changes(&mut rib), [], "{peer:?} {next_hop}");
        for other in (0..11).map(PeerId) {
            assert_eq!(told(&mut rib, other), [] as [String; 0], "{peer:?} {next_hop}");
        }
    }
    assert_eq!(Refusal::NextHopIsNoHost.rule(), "RFC 4271 6.3");
}

#[test]
fn rfc4271_6_3_our_own_link_local_address_is_no_next_hop_also_where_the_route_was_there_before_it() {
    let ours = "fe80::5".parse().unwrap();
    let mut rib = rib();
    announce_with(&mut rib, CE1, "2600::/12", |a| a.next_hop = "fe80::5".parse().unwrap());
    announce_with(&mut rib, CE1, "2610::/12", |a| a.next_hop = "fe80::6".parse().unwrap());
    assert_eq!(changes(&mut rib).len(), 4, "nothing is known of our own address yet");
    rib.link_local(CE1, ours);
    let gone: BTreeSet<String> = changes(&mut rib).into_iter().map(|(_, prefix, _)| prefix).collect();
    assert_eq!(gone, BTreeSet::from([net("2600::/12").to_string()]));
    assert_eq!(refused(&rib), [(CE1, net("2600::/12").to_string(), Refusal::NextHopIsUs)]);
    rib.reconfigure(topology());
    assert_eq!(refused(&rib).len(), 1, "another configuration knows it too");
    rib.link_local(CE1, ours);
    rib.link_local(PeerId(99), ours);
    assert_eq!(changes(&mut rib), []);
}

#[test]
fn rfc4271_6_3_errors_are_logged_by_peer_and_reason_and_not_for_every_route() {
    let mut rib = rib();
    let at = |seconds| Moment(std::time::Duration::from_secs(seconds));
    rib.tick(at(100));
    for prefix in ["127.0.0.0/8", "224.0.0.0/4", "0.0.0.0/0"] {
        announce(&mut rib, CE0, prefix);
    }
    let line = |peer, refusal, example: &str, count| Ignored { peer, refusal, example: net(example), count };
    assert_eq!(
        rib.take_ignored(),
        [line(CE0, Refusal::Martian, "127.0.0.0/8", 2)],
        "D5 is a policy, no error"
    );
    announce(&mut rib, CE0, "240.0.0.0/4");
    announce_with(&mut rib, CE0, "20.0.0.0/8", |a| a.next_hop = [198, 18, 10, 255].into());
    assert_eq!(rib.take_ignored(), [line(CE0, Refusal::NextHopIsNoHost, "20.0.0.0/8", 1)]);
    rib.tick(at(110));
    assert_eq!(rib.take_ignored(), [line(CE0, Refusal::Martian, "240.0.0.0/4", 1)]);
    assert_eq!(rib.take_ignored(), []);
}

#[test]
fn rfc7947_2_2_2_1_a_route_servers_clients_are_first_in_its_paths_and_next_hops_on_its_subnet() {
    let mut config = topology();
    config.peers[usize::from(CE0.0)].role = Some(Role::RouteServerClient);
    let mut rib = rib_of(config);
    announce_with(&mut rib, CE0, "20.0.0.0/8", |a| {
        a.as_path = AsPath::sequence([65_030, 65_031]);
        a.next_hop = [198, 18, 10, 3].into();
        a.med = Some(7);
    });
    assert_eq!(refused(&rib), []);
    let change = rib.take_fib_changes().remove(0);
    assert_eq!(change.paths[0].next_hop, IpAddr::from([198, 18, 10, 3]), "the client itself, not the server");
    // Ours is a normal external announcement.
    let updates = rib.take_outgoing(A1);
    let sent = updates[0].attributes.as_ref().unwrap();
    assert_eq!(sent.as_path, AsPath::sequence([65_010, 65_030, 65_031]));
    assert_eq!((sent.next_hop, sent.med), (IpAddr::from([198, 18, 0, 1]), None));
    // RFC 9234 section 5: what a route server sends is marked with its AS, and goes down only.
    assert_eq!(sent.only_to_customer, Some(Asn(65_020)));
    announce(&mut rib, A1, "30.0.0.0/8");
    let updates = rib.take_outgoing(CE0);
    assert_eq!(updates[0].attributes.as_ref().unwrap().as_path, AsPath::sequence([65_010, 12_076]));
    // What still cannot be: no path at all, ourselves, Microsoft as a client of the server.
    let rows = [
        (AsPath::default(), Refusal::WrongFirstAs),
        (AsPath::sequence([65_030, 65_010]), Refusal::OwnAsInPath),
        (AsPath::sequence([12_076]), Refusal::WrongFirstAs),
    ];
    for (path, expected) in rows {
        announce_with(&mut rib, CE0, "20.0.0.0/8", |a| a.as_path = path);
        assert_eq!(refused(&rib), [(CE0, "20.0.0.0/8".to_owned(), expected)]);
    }
    // Without the role the first AS is the peer's.
    let mut rib = super::rib();
    announce_with(&mut rib, CE0, "20.0.0.0/8", |a| a.as_path = AsPath::sequence([65_030]));
    assert_eq!(refused(&rib), [(CE0, "20.0.0.0/8".to_owned(), Refusal::WrongFirstAs)]);
}

/// A service that speaks with Azure's VPN gateway; chains lead through it to `b/private`.
fn with_gateway() -> Rib {
    let text = format!(
        "{CONFIG}\n[[attachment]]\ninterface = \"vpn0\"\nservice = \"vpn\"\npeerings = [\"a/private\", \"b/private\"]\n\
         ipv4 = \"198.18.20.1/30\"\nnext-hops = [\"198.18.20.2\"]\npeers = [{{ address = \"198.18.20.2\", asn = 65515 }}]\n\
         [[chain]]\nfrom = \"ce1\"\nvia = \"vpn\"\nto = \"b/private\"\n"
    );
    rib_of(RibConfig::new(&Config::parse(&text, Path::new("erdp.toml")).unwrap().0))
}

#[test]
fn b8_azures_gateway_is_taken_from_a_service_and_from_an_msee_and_refused_from_customers() {
    let vpn = PeerId(11);
    let mut rib = with_gateway();
    assert_eq!(rib.config().peer(vpn).unwrap().asn, Asn(65_515));
    announce(&mut rib, vpn, "20.0.0.0/8");
    announce_with(&mut rib, A1, "21.0.0.0/8", |a| a.as_path = AsPath::sequence([12_076, 65_515]));
    announce_with(&mut rib, vpn, "22.0.0.0/8", |a| a.as_path = AsPath::sequence([65_515, 65_021, 65_515]));
    assert_eq!(refused(&rib), []);
    // The customer is told of it; ExpressRoute, which would refuse it, is not (E1), and does not count it.
    assert_eq!(told(&mut rib, CE0), ["+20.0.0.0/8", "+21.0.0.0/8", "+22.0.0.0/8"]);
    assert_eq!(told(&mut rib, B1), [] as [String; 0]);
    let held = rib.held_back().into_iter().find(|held| held.peer == B1).unwrap();
    assert_eq!((held.reason, held.reason.rule()), (HoldBack::ReservedAsInPath, "E1"));
    assert!(rib.meters().iter().all(|(_, _, meter)| meter.wanted == 0));
    // Other reserved numbers are refused from a service too, and this one from everybody else.
    announce_with(&mut rib, vpn, "23.0.0.0/8", |a| a.as_path = AsPath::sequence([65_515, 65_516]));
    announce_with(&mut rib, CE0, "24.0.0.0/8", |a| a.as_path = AsPath::sequence([65_020, 65_515]));
    let expected = [
        (CE0, "24.0.0.0/8".to_owned(), Refusal::ReservedAsInPath),
        (vpn, "23.0.0.0/8".to_owned(), Refusal::ReservedAsInPath),
    ];
    assert_eq!(refused(&rib), expected);
    // The circuit's own route to the same prefix wins (B8), and the gateway's stands in for it.
    announce_with(&mut rib, A1, "20.0.0.0/8", |a| a.as_path = AsPath::sequence([12_076, 65_515]));
    rib.take_fib_changes();
    let route = rib.routes(A_PRIVATE).next().unwrap();
    assert_eq!(route.best, A1);
    withdraw(&mut rib, A1, "20.0.0.0/8");
    rib.take_fib_changes();
    assert_eq!(rib.routes(A_PRIVATE).next().unwrap().best, vpn);
}
