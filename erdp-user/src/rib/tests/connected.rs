//! C2: subnets of our own attachments that are announced, so that hosts on their wires are reachable from Azure.

use super::*;
use crate::types::AttachmentId;

/// The configuration of these tests with `advertise-connected` on `ce0`, `ce1` or both.
fn announcing(on: &[&str], more: &[(&str, &str)]) -> RibConfig {
    let mut text = CONFIG.to_owned();
    for interface in on {
        let table = format!("interface = \"{interface}\"\n");
        text = text.replacen(&table, &format!("{table}advertise-connected = true\n"), 1);
    }
    for (from, to) in more {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    RibConfig::new(&Config::parse(&text, Path::new("erdp.toml")).unwrap().0)
}

/// A base of it with every session up; what was due at once is left to be taken.
fn up(config: RibConfig) -> Rib {
    let mut rib = Rib::new(config);
    for peer in rib.config().clone().peers {
        rib.peer_up(peer.id(), &facts(&peer, &[Family::Ipv4Unicast, Family::Ipv6Unicast]));
    }
    rib
}

fn ce0(rib: &Rib) -> AttachmentId {
    rib.config().connected[0].source.attachment().unwrap()
}

#[test]
fn c2_a_connected_subnet_is_announced_to_the_msees_of_its_domains_only_where_the_key_says_so() {
    let mut rib = up(announcing(&["ce0"], &[]));
    for (peer, expected) in
        [(A1, 1), (A1_V6, 1), (A2, 1), (B1, 1), (MS1, 0), (CE0, 0), (CE0_OTHER, 0), (CE1, 0)]
    {
        let said: Vec<String> = told(&mut rib, peer);
        assert_eq!(said, vec!["+198.18.10.0/24".to_owned(); expected], "{peer:?}");
    }
    assert_eq!(rib.take_fib_changes(), [], "packets have their way to a connected subnet already");
    let routes: Vec<_> = rib.routes(A_PRIVATE).map(|route| (route.prefix, route.paths.len())).collect();
    assert_eq!(routes, [(net("198.18.10.0/24"), 0)], "it is shown");
    let mut rib = up(topology());
    for peer in [A1, A2, B1] {
        assert_eq!(told(&mut rib, peer), [] as [String; 0]);
    }
}

#[test]
fn c2_d9_it_is_ours_as_others_read_it() {
    let mut rib = up(announcing(&["ce0"], &[]));
    let updates = rib.take_outgoing(A1);
    let sent = updates[0].attributes.as_ref().unwrap();
    assert_eq!((&sent.as_path, sent.origin), (&AsPath::sequence([65_010]), Origin::Igp));
    assert_eq!(sent.next_hop, IpAddr::from([198, 18, 0, 1]));
    assert_eq!(rib.held_back(), []);
    // The customer's own announcement of it is refused as before, and says what would announce it.
    announce(&mut rib, CE0, "198.18.10.0/24");
    let refused = rib.refused();
    assert!(refused.iter().all(|row| row.refusal == Refusal::OwnLinkSubnet) && refused.len() == 2);
    assert!(Refusal::OwnLinkSubnet.to_string().contains("advertise-connected"));
}

#[test]
fn c2_d4_on_microsoft_peering_only_a_public_subnet_is_announced() {
    // ce1 is on 198.18.11.0/30 and on fd00:11::/64, which is no public one, and lists both peerings.
    let mut rib = up(announcing(&["ce1"], &[]));
    assert_eq!(told(&mut rib, A1), ["+198.18.11.0/30", "+fd00:11::/64"]);
    assert_eq!(told(&mut rib, MS1), ["+198.18.11.0/30"]);
    let refused: Vec<_> = rib.refused().iter().map(|row| (row.domain, row.prefix, row.refusal)).collect();
    assert_eq!(refused, [(A_MICROSOFT, net("fd00:11::/64"), Refusal::Bogon)]);
    assert_eq!(rib.refused()[0].source.attachment(), Some(ce0(&rib)));
    let verdicts = rib.explain(A_MICROSOFT, net("fd00:11::/64"));
    assert_eq!(verdicts[0].2, Verdict::Refused(Refusal::Bogon));
}

#[test]
fn c2_d1_it_counts_against_what_microsoft_accepts_and_d3_its_length_is_judged() {
    let mut rib = up(announcing(&["ce0"], &[("vlan = 100\n", "vlan = 100\nadvertise-at-most-ipv4 = 1\n")]));
    announce(&mut rib, CE1, "30.0.0.0/8");
    assert_eq!(
        (told(&mut rib, A1), told(&mut rib, A2)),
        (vec!["+30.0.0.0/8".into()], vec!["+30.0.0.0/8".into()])
    );
    let held: Vec<_> = rib.held_back().iter().map(|row| (row.peer, row.prefix, row.reason)).collect();
    let expected = [A1, A1_V6, A2].map(|peer| (peer, net("198.18.10.0/24"), HoldBack::NoRoom));
    assert_eq!(held[..3], expected);
    let mut rib = up(announcing(&["ce0"], &[("vlan = 100\n", "vlan = 100\nlongest-ipv4 = 20\n")]));
    assert_eq!(told(&mut rib, A1), [] as [String; 0]);
    assert_eq!(rib.refused()[0].refusal, Refusal::TooLong);
}

#[test]
fn c2_it_follows_the_link_and_the_configuration() {
    let mut rib = up(announcing(&["ce0"], &[]));
    let ce0 = ce0(&rib);
    assert_eq!(told(&mut rib, A1), ["+198.18.10.0/24"]);
    rib.connect(ce0, false);
    assert_eq!(told(&mut rib, A1), ["-198.18.10.0/24"]);
    rib.reconfigure(announcing(&["ce0"], &[]));
    assert_eq!(told(&mut rib, A1), [] as [String; 0], "another configuration gives the link no carrier");
    rib.connect(ce0, true);
    rib.connect(ce0, true);
    assert_eq!(told(&mut rib, A1), ["+198.18.10.0/24"]);
    rib.reconfigure(topology());
    assert_eq!(told(&mut rib, A1), ["-198.18.10.0/24"]);
    assert_eq!(rib.routes(A_PRIVATE).count(), 0);
    rib.reconfigure(announcing(&["ce0", "ce1"], &[]));
    assert_eq!(told(&mut rib, A1), ["+198.18.10.0/24", "+198.18.11.0/30", "+fd00:11::/64"]);
    assert_eq!(rib.take_fib_changes(), []);
}

#[test]
fn c2_d8_what_is_announced_is_the_way_back_of_a_host_on_the_wire() {
    let host = "198.18.10.77".parse().unwrap();
    for (config, expected) in [(topology(), Some(false)), (announcing(&["ce0"], &[]), Some(true))] {
        let mut rib = up(config);
        for peer in [A1, A2] {
            rib.take_outgoing(peer);
        }
        assert_eq!(rib.has_return_route(A_PRIVATE, host), expected);
    }
}
