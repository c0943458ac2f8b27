//! Another configuration of the same domains: afterwards everything is as if it had been so from the beginning, and what was handed out
//! on the way are differences only.

use super::*;

type Told = BTreeMap<PeerId, BTreeSet<String>>;
type Fib = BTreeMap<(DomainId, IpNet), Vec<PeerId>>;

/// Something from everybody, a default route of the customer's among it.
fn feed(rib: &mut Rib) {
    for (peer, prefix) in [
        (CE0, "0.0.0.0/0"),
        (CE0, "20.1.0.0/16"),
        (CE0_OTHER, "20.1.0.0/16"),
        (CE1, "50.1.0.0/16"),
        (A1, "30.1.0.0/16"),
        (A2, "30.1.0.0/16"),
        (B1, "30.1.0.0/16"),
        (B1, "31.1.0.0/16"),
        (MS1, "40.1.0.0/16"),
    ] {
        announce(rib, peer, prefix);
    }
}

/// Carries over what is handed out.
fn follow(rib: &mut Rib, fib: &mut Fib, known: &mut Told) {
    for change in rib.take_fib_changes() {
        let peers: Vec<PeerId> = change.paths.iter().map(|path| peer_of(path.source)).collect();
        let key = (change.domain, change.prefix);
        if peers.is_empty() {
            assert!(fib.remove(&key).is_some(), "{key:?} is withdrawn and was not there");
        } else {
            assert_ne!(fib.insert(key, peers.clone()), Some(peers), "{key:?} is no difference");
        }
    }
    for peer in rib.config().clone().peers {
        let known = known.entry(peer.id()).or_default();
        for word in told(rib, peer.id()) {
            let (sign, prefix) = word.split_at(1);
            match sign {
                "+" => drop(known.insert(prefix.to_owned())),
                _ => {
                    assert!(known.remove(prefix), "{prefix} is withdrawn from {} and was not told", peer.name)
                }
            }
        }
    }
}

#[test]
fn another_configuration_decides_as_if_it_had_been_so_from_the_beginning() {
    let both = "peerings = [\"a/private\", \"b/private\"]";
    // The order of domains decides whose attributes a peer is told, and no prefix here.
    for (from, to, differs) in [
        ("forced-tunnel = true\n", "", true),
        ("vlan = 100\n", "vlan = 100\nforced-tunnel = true\n", true),
        (both, "peerings = [\"b/private\", \"a/private\"]", false),
        (both, "peerings = [\"b/private\"]", true),
        ("vlan = 200\n", "vlan = 200\nroute-filter = [\"12076:51002\"]\n", true),
        ("vlan = 100\n", "vlan = 100\nlongest-ipv4 = 12\n", true),
        ("asn = 65030 }", "asn = 65030, local-pref = 200 }", true),
        ("name = \"a\"\n", "name = \"a\"\nadmin = \"disabled\"\n", true),
        ("name = \"b\"\n", "name = \"b\"\nprovisioning = \"provisioning\"\n", true),
        ("name = \"a\"\n", "name = \"a\"\n", false),
    ] {
        assert!(CONFIG.contains(from), "{from}");
        let text = CONFIG.replacen(from, to, 1);
        let config = RibConfig::new(&Config::parse(&text, Path::new("erdp.toml")).unwrap().0);

        let mut rib = rib();
        let (mut fib, mut known) = (Fib::new(), Told::new());
        feed(&mut rib);
        follow(&mut rib, &mut fib, &mut known);
        let before = (fib.clone(), known.clone());
        rib.reconfigure(config.clone());
        follow(&mut rib, &mut fib, &mut known);

        let mut fresh = rib_of(config);
        let (mut fresh_fib, mut fresh_known) = (Fib::new(), Told::new());
        feed(&mut fresh);
        follow(&mut fresh, &mut fresh_fib, &mut fresh_known);
        assert_eq!(fib, fresh_fib, "{to:?}");
        assert_eq!(known, fresh_known, "{to:?}");
        assert_eq!((fib, known) != before, differs, "{to:?}");
    }
}

#[test]
fn a_peer_that_is_gone_has_no_domains_and_its_place_can_be_another_ones() {
    let mut rib = rib();
    let (mut fib, mut known) = (Fib::new(), Told::new());
    feed(&mut rib);
    follow(&mut rib, &mut fib, &mut known);
    let config = Config::parse(CONFIG, Path::new("erdp.toml")).unwrap().0;
    rib.peer_down(CE0);
    rib.reconfigure(RibConfig::with_peers(&config, config.peers(), &[CE0].into()));
    known.remove(&CE0);
    follow(&mut rib, &mut fib, &mut known);
    assert_eq!(fib[&(A_PRIVATE, net("20.1.0.0/16"))], [CE0_OTHER]);
    assert!(!fib.contains_key(&(B_PRIVATE, net("0.0.0.0/0"))), "its default route is gone");

    // Somebody else, at its place.
    let mut peers = config.peers();
    peers[usize::from(CE0.0)].session.remote = "198.18.10.77".parse().unwrap();
    rib.reconfigure(RibConfig::with_peers(&config, peers, &BTreeSet::new()));
    let newcomer = rib.config().peer(CE0).unwrap().clone();
    rib.peer_up(CE0, &facts(&newcomer, &[Family::Ipv4Unicast]));
    announce(&mut rib, CE0, "21.1.0.0/16");
    follow(&mut rib, &mut fib, &mut known);
    assert_eq!(fib[&(A_PRIVATE, net("21.1.0.0/16"))], [CE0]);
    assert!(known[&CE0].contains("30.1.0.0/16"), "it is told what the MSEEs have: {known:?}");
}

#[test]
fn a8_the_routes_of_a_disabled_circuit_are_nobodys_until_it_is_enabled_again() {
    let mut rib = rib();
    announce(&mut rib, A1, "20.1.0.0/16");
    announce(&mut rib, B1, "20.1.0.0/16");
    announce(&mut rib, A1, "21.1.0.0/16");
    announce(&mut rib, CE0, "50.1.0.0/16");
    rib.take_fib_changes();
    assert_eq!(told(&mut rib, CE0), ["+20.1.0.0/16", "+21.1.0.0/16"]);
    assert_eq!(
        (told(&mut rib, A1), told(&mut rib, B1)),
        (vec!["+50.1.0.0/16".into()], vec!["+50.1.0.0/16".into()])
    );

    rib.enable(A_PRIVATE, false);
    let gone = |prefix: &str| (A_PRIVATE, prefix.to_owned(), Vec::<PeerId>::new());
    assert_eq!(changes(&mut rib), [gone("20.1.0.0/16"), gone("21.1.0.0/16"), gone("50.1.0.0/16")]);
    assert_eq!(rib.routes(A_PRIVATE).count(), 0);
    assert_eq!(told(&mut rib, CE0), ["-21.1.0.0/16"], "the other circuit's is the same to the customer");
    assert_eq!((told(&mut rib, A1), told(&mut rib, B1)), (vec!["-50.1.0.0/16".into()], vec![]));
    announce(&mut rib, A2, "22.1.0.0/16");
    assert_eq!((changes(&mut rib), told(&mut rib, CE0)), (vec![], vec![]));
    assert_eq!(rib.peer_counts(CE0).refused, 0, "the customer's session is as good as before");

    rib.enable(A_PRIVATE, true);
    assert_eq!(changes(&mut rib).len(), 4, "everything that was announced, meanwhile too");
    assert_eq!(told(&mut rib, A1), ["+50.1.0.0/16"]);
}
