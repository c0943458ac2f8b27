//! The BGP speaker against FRR and BIRD as Debian ships them: sessions of both kinds, thousands of routes both ways, a proper end.
//!
//! `matrix` tries every feature with five other implementations, `guarded` what they and we refuse, `paths` several paths to a prefix, `silent` peers that restart without a word. Here: FRR carries both families over one IPv4 session; BIRD has a session for each, IPv4 with an MD5 key and IPv6 with GTSM.

#![expect(clippy::unwrap_used, reason = "all of this crate is test code: what fails fails the test")]

mod daemons;
mod guarded;
mod lab;
mod matrix;
mod paths;
mod silent;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use erdp::bgp::{
    AsPath, Asn, Cease, Community, DownReason, Family, LargeCommunity, Listener, Origin, PathAttributes,
    PeerCommand, PeerConfig, PeerEvent, PeerId, Seconds, SessionFacts, Speaker, Update,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lab::Neighbour;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::timeout;

const EACH: u16 = 1000;
const OURS: u32 = 65_000;
const FRR: u32 = 4_200_000_001;
const BIRD: u32 = 65_002;
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` on a thread in a fresh network namespace, or says why not.
fn in_lab(test: impl Future<Output = ()> + Send + 'static) {
    if let Some(reason) = lab::missing() {
        println!("SKIP: {reason}");
        return;
    }
    let thread = std::thread::spawn(|| {
        lab::enter_new_namespace();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(test);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `EACH` prefixes of a family under a first octet (IPv4) or a second group (IPv6).
fn prefixes(family: Family, block: u8) -> Vec<IpNet> {
    (0..EACH)
        .map(|number| match family {
            Family::Ipv4Unicast => {
                let [high, low] = number.to_be_bytes();
                IpNet::V4(Ipv4Net::new(Ipv4Addr::new(block, high, low, 0), 24).unwrap())
            }
            Family::Ipv6Unicast => {
                let network = Ipv6Addr::new(0x2a01, block.into(), number, 0, 0, 0, 0, 0);
                IpNet::V6(Ipv6Net::new(network, 48).unwrap())
            }
        })
        .collect()
}

/// What we send: something in every attribute the RIB can set.
fn our_attributes(next_hop: IpAddr) -> PathAttributes {
    PathAttributes {
        origin: Origin::Incomplete,
        as_path: AsPath::sequence([65_000, 12_076, 8_075]),
        med: Some(42),
        communities: vec![Community::new(12_076, 51_010), Community::new(12_076, 5_010)],
        large_communities: [LargeCommunity(65_000, 7, 9)].into(),
        ..PathAttributes::originated(next_hop)
    }
}

/// What they send, by the configuration below.
fn their_attributes(path: &[u32], next_hop: IpAddr) -> PathAttributes {
    PathAttributes {
        as_path: AsPath::sequence(path.iter().copied()),
        med: Some(77),
        communities: vec![Community::new(8_075, 8_000), Community::new(12_076, 51_004)],
        large_communities: [LargeCommunity(65_001, 1, 2)].into(),
        ..PathAttributes::originated(next_hop)
    }
}

fn frr_configuration(link: &Neighbour) -> String {
    let (us4, them6) = (link.ours.0, link.theirs.1);
    let networks = |family| -> String {
        prefixes(family, 20).iter().map(|prefix| format!("  network {prefix}\n")).collect()
    };
    let (v4, v6) = (networks(Family::Ipv4Unicast), networks(Family::Ipv6Unicast));
    format!(
        "hostname b\nroute-map OUT permit 10\n set metric 77\n set community 8075:8000 12076:51004\n \
         set large-community 65001:1:2\n set as-path prepend 12076 12076\n set ipv6 next-hop global {them6}\nexit\n\
         router bgp {FRR}\n bgp router-id 198.18.255.1\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n no bgp default ipv4-unicast\n neighbor {us4} remote-as {OURS}\n \
         neighbor {us4} timers 3 9\n neighbor {us4} timers connect 2\n neighbor {us4} advertisement-interval 0\n \
         address-family ipv4 unicast\n  neighbor {us4} activate\n  neighbor {us4} route-map OUT out\n{v4} \
         exit-address-family\n address-family ipv6 unicast\n  neighbor {us4} activate\n  neighbor {us4} route-map OUT out\n{v6} \
         exit-address-family\nexit\n"
    )
}

fn bird_configuration(link: &Neighbour) -> String {
    let routes = |family: Family| -> String {
        prefixes(family, 30).iter().map(|prefix| format!("  route {prefix} unreachable;\n")).collect()
    };
    let (v4, v6) = (routes(Family::Ipv4Unicast), routes(Family::Ipv6Unicast));
    let export = "next hop self; import all; export filter { bgp_med = 77; bgp_community.add((8075,8000)); \
                  bgp_community.add((12076,51004)); bgp_large_community.add((65001,1,2)); bgp_path.prepend(12076); \
                  bgp_path.prepend(12076); if source = RTS_STATIC then accept; reject; };";
    let session = |name: &str, ours: IpAddr, theirs: IpAddr, channel: &str, extra: &str| {
        format!(
            "protocol bgp {name} {{ local {theirs} as {BIRD}; neighbor {ours} as {OURS}; hold time 9; {extra} \
             connect delay time 1; connect retry time 2; error wait time 1,4; {channel} {{ {export} }}; }}\n"
        )
    };
    let four = session("four", link.ours.0.into(), link.theirs.0.into(), "ipv4", "password \"s3cret key\";");
    let six = session("six", link.ours.1.into(), link.theirs.1.into(), "ipv6", "ttl security on;");
    format!(
        "router id 198.18.255.2;\nprotocol device {{}}\nprotocol static {{ ipv4;\n{v4}}}\nprotocol static {{ ipv6;\n{v6}}}\n{four}{six}"
    )
}

/// What the controller would know: routes and facts by peer, and how each went down.
#[derive(Default)]
struct Heard {
    routes: BTreeMap<(PeerId, IpNet), Arc<PathAttributes>>,
    facts: BTreeMap<PeerId, SessionFacts>,
    ends_of_rib: Vec<(PeerId, Family)>,
    down: BTreeMap<PeerId, DownReason>,
}

impl Heard {
    fn note(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Established { peer, facts } => {
                self.down.remove(&peer);
                self.facts.insert(peer, facts);
            }
            PeerEvent::Update { peer, update } => {
                for prefix in update.withdrawn {
                    self.routes.remove(&(peer, prefix));
                }
                for prefix in update.announced {
                    self.routes.insert((peer, prefix), update.attributes.clone().unwrap());
                }
                self.ends_of_rib.extend(update.end_of_rib.map(|family| (peer, family)));
            }
            PeerEvent::Down { peer, reason, kept: _ } => {
                self.facts.remove(&peer);
                self.routes.retain(|(owner, _), _| *owner != peer);
                self.down.insert(peer, reason);
            }
            PeerEvent::Refresh { .. } => {}
        }
    }

    async fn until(
        &mut self,
        events: &mut mpsc::Receiver<PeerEvent>,
        what: &str,
        done: impl Fn(&Self) -> bool,
    ) {
        let wait = async {
            while !done(self) {
                let event = events.recv().await.unwrap();
                self.note(event);
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain for {what}; {} routes; down: {:?}", self.routes.len(), self.down);
        }
    }

    fn of(&self, peer: PeerId) -> BTreeMap<IpNet, &PathAttributes> {
        self.routes
            .iter()
            .filter(|((owner, _), _)| *owner == peer)
            .map(|((_, prefix), a)| (*prefix, &**a))
            .collect()
    }
}

async fn announce(speaker: &Speaker, facts: &SessionFacts, peer: PeerId, next_hop: IpAddr, block: u8) {
    let session = facts.session;
    for &family in &facts.families {
        let attributes = Some(Arc::new(our_attributes(next_hop)));
        let announced = prefixes(family, block);
        let end = Update { end_of_rib: Some(family), ..Update::default() };
        for update in [Update { announced, attributes, ..Update::default() }, end] {
            speaker.peer(peer).unwrap().command(PeerCommand::Send { session, update }).await.unwrap();
        }
    }
}

fn peers(frr: &Neighbour, bird: &Neighbour) -> [PeerConfig; 3] {
    let router_id = Ipv4Addr::new(198, 18, 255, 9);
    let hold = Seconds(9);
    let new = |id, asn, link: &Neighbour, ours, theirs| PeerConfig {
        hold,
        interface: Some(link.interface.clone()),
        ..PeerConfig::new(PeerId(id), (Asn(OURS), Asn(asn)), router_id, ours, theirs)
    };
    [
        PeerConfig {
            other_next_hop: Some(frr.ours.1.into()),
            ..new(0, FRR, frr, frr.ours.0.into(), frr.theirs.0.into())
        },
        PeerConfig {
            families: vec![Family::Ipv4Unicast],
            md5: Some("s3cret key".to_owned()),
            ..new(1, BIRD, bird, bird.ours.0.into(), bird.theirs.0.into())
        },
        PeerConfig {
            families: vec![Family::Ipv6Unicast],
            gtsm: true,
            ..new(2, BIRD, bird, bird.ours.1.into(), bird.theirs.1.into())
        },
    ]
}

fn bind() -> Listener {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    Listener::bind(&any.map(|address| (address, erdp::bgp::PORT).into())).unwrap()
}

#[test]
fn frr_and_bird_exchange_two_thousand_routes_each_way_with_equal_attributes() {
    in_lab(async {
        let (mut frr, mut bird) = (Neighbour::new("frr", 10), Neighbour::new("bird", 11));
        frr.start_frr(&frr_configuration(&frr));
        bird.start_bird(&bird_configuration(&bird));
        let (events_in, mut events) = mpsc::channel(64);
        let mut speaker = Speaker::start(bind(), events_in);
        for config in peers(&frr, &bird) {
            speaker.add(config).await;
        }
        let mut heard = Heard::default();
        heard.until(&mut events, "three sessions", |heard| heard.facts.len() == 3).await;
        let total = 4 * usize::from(EACH);
        let all = |heard: &Heard| heard.routes.len() == total && heard.ends_of_rib.len() == 4;
        heard.until(&mut events, "all routes and End-of-RIBs", all).await;
        check_received(&heard, &frr, &bird);

        for peer in [0, 1, 2].map(PeerId) {
            let facts = &heard.facts[&peer];
            assert_eq!((facts.hold, facts.four_octet_asn, facts.route_refresh), (Seconds(9), true, true));
            announce(&speaker, facts, peer, facts.local, 40).await;
        }
        check_frr(&frr);
        check_bird(&bird);

        // A refresh brings everything once more, and one withdrawal takes exactly its route.
        let facts = heard.facts[&PeerId(1)].clone();
        heard.routes.clear();
        let refresh = PeerCommand::RequestRefresh(Family::Ipv4Unicast);
        speaker.peer(PeerId(1)).unwrap().command(refresh).await.unwrap();
        heard
            .until(&mut events, "the refreshed routes", |heard| heard.routes.len() == usize::from(EACH))
            .await;
        let gone = Update { withdrawn: vec![prefixes(Family::Ipv4Unicast, 40)[3]], ..Update::default() };
        let withdrawal = PeerCommand::Send { session: facts.session, update: gone };
        speaker.peer(PeerId(1)).unwrap().command(withdrawal).await.unwrap();
        lab::until("the withdrawal at BIRD", || {
            bird.birdc("show route protocol four count").contains(&head(999))
        });

        speaker.stop(Cease::AdministrativeShutdown, "end of the test").await;
        heard.until(&mut events, "three ends", |heard| heard.down.len() == 3).await;
        assert!(heard.down.values().all(|reason| matches!(reason, DownReason::Stopped(_))));
        let neighbours = frr.vtysh("show bgp neighbors json");
        assert!(neighbours.contains("end of the test"), "{neighbours}");
        let protocols = bird.birdc("show protocols all four");
        assert!(protocols.contains("Received: Administrative shutdown"), "{protocols}");
    });
}

/// How the daemon counts the routes of one protocol among all it has.
fn head(count: u16) -> String {
    format!("\n{count} of ")
}

fn check_received(heard: &Heard, frr: &Neighbour, bird: &Neighbour) {
    let rows: [(u16, Family, u8, PathAttributes); 4] = [
        (0, Family::Ipv4Unicast, 20, their_attributes(&[FRR, 12_076, 12_076], frr.theirs.0.into())),
        (0, Family::Ipv6Unicast, 20, their_attributes(&[FRR, 12_076, 12_076], frr.theirs.1.into())),
        (1, Family::Ipv4Unicast, 30, their_attributes(&[BIRD, 12_076, 12_076], bird.theirs.0.into())),
        (2, Family::Ipv6Unicast, 30, their_attributes(&[BIRD, 12_076, 12_076], bird.theirs.1.into())),
    ];
    for (peer, family, block, expected) in rows {
        let routes = heard.of(PeerId(peer));
        for prefix in prefixes(family, block) {
            assert_eq!(routes.get(&prefix), Some(&&expected), "peer {peer}, {prefix}");
        }
    }
}

/// FRR has every one of our routes, of both families, with every attribute.
fn check_frr(frr: &Neighbour) {
    for (family, name, next_hop) in [
        (Family::Ipv4Unicast, "ipv4", frr.ours.0.to_string()),
        (Family::Ipv6Unicast, "ipv6", frr.ours.1.to_string()),
    ] {
        let show = || -> serde_json::Value {
            serde_json::from_str(&frr.vtysh(&format!("show bgp {name} unicast json"))).unwrap()
        };
        lab::until("our routes at FRR", || {
            show()["routes"].as_object().unwrap().len() == 2 * usize::from(EACH)
        });
        let table = show();
        for prefix in prefixes(family, 40) {
            let route = &table["routes"][prefix.to_string()][0];
            assert_eq!(route["path"], "65000 12076 8075", "{prefix}: {route}");
            assert_eq!(
                (&route["metric"], &route["origin"]),
                (&42.into(), &"incomplete".into()),
                "{prefix}: {route}"
            );
            assert_eq!(route["nexthops"][0]["ip"], next_hop, "{prefix}: {route}");
            assert_eq!(route["valid"], true, "{prefix}: {route}");
        }
        let one = prefixes(family, 40)[500];
        let detail = frr.vtysh(&format!("show bgp {name} unicast {one} json"));
        assert!(detail.contains("12076:5010 12076:51010") && detail.contains("65000:7:9"), "{detail}");
    }
}

/// BIRD has every one of our routes, over the session of its family, with every attribute.
fn check_bird(bird: &Neighbour) {
    for (family, protocol, next_hop) in [
        (Family::Ipv4Unicast, "four", bird.ours.0.to_string()),
        (Family::Ipv6Unicast, "six", bird.ours.1.to_string()),
    ] {
        let count = format!("show route protocol {protocol} count");
        lab::until("our routes at BIRD", || bird.birdc(&count).contains(&head(EACH)));
        let table = bird.birdc(&format!("show route protocol {protocol} all"));
        assert!(prefixes(family, 40).iter().all(|prefix| table.contains(&format!("{prefix} "))));
        for line in [
            "BGP.origin: Incomplete",
            "BGP.as_path: 65000 12076 8075",
            &format!("BGP.next_hop: {next_hop}"),
            "BGP.med: 42",
            "BGP.community: (12076,51010) (12076,5010)",
            "BGP.large_community: (65000, 7, 9)",
        ] {
            assert_eq!(
                table.matches(line).count(),
                usize::from(EACH),
                "{protocol}: {line}\n{}",
                &table[..1500]
            );
        }
    }
}

/// Three sessions with one BIRD: without four-octet AS numbers, over link-local addresses, and with a key we do not have.
fn difficult_bird(link: &Neighbour) -> String {
    let session = |name: &str, theirs: &str, ours: &str, asn: u32, channel: &str, extra: &str| {
        format!(
            "protocol bgp {name} {{ local {theirs} as {BIRD}; neighbor {ours} as {asn}; hold time 3; keepalive time 1; \
             connect delay time 1; connect retry time 1; error wait time 1,2; {extra} \
             {channel} {{ import all; export where source = RTS_STATIC; }}; }}\n"
        )
    };
    let (ours, theirs) = (link.ours, link.theirs);
    let old = session("old", &theirs.0.to_string(), &ours.0.to_string(), SMALL, "ipv4", "enable as4 off;");
    let local = session("near", "fe80::2", "fe80::1%up0", LARGE, "ipv6", "");
    let keyed =
        session("secret", &theirs.1.to_string(), &ours.1.to_string(), LARGE, "ipv6", "password \"x\";");
    format!(
        "router id 198.18.255.2;\nprotocol device {{ }}\n\
         protocol static {{ ipv4; route 30.0.0.0/24 unreachable {{ bgp_path.prepend(4200000777); }}; }}\n\
         protocol static {{ ipv6; route 2a01:30::/48 unreachable; }}\n{old}{local}{keyed}"
    )
}

/// Ours towards the peer that knows two octets only, and towards the others.
const SMALL: u32 = 65_009;
const LARGE: u32 = 4_200_000_009;

fn difficult_peers(link: &Neighbour) -> [PeerConfig; 3] {
    let addresses: [(IpAddr, IpAddr); 3] = [
        (link.ours.0.into(), link.theirs.0.into()),
        ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap()),
        (link.ours.1.into(), link.theirs.1.into()),
    ];
    let mut id = 0;
    addresses.map(|(ours, theirs)| {
        id += 1;
        let router_id = Ipv4Addr::new(198, 18, 255, 9);
        let asn = if ours.is_ipv4() { SMALL } else { LARGE };
        PeerConfig {
            hold: Seconds(3),
            interface: Some(link.interface.clone()),
            families: vec![if ours.is_ipv4() { Family::Ipv4Unicast } else { Family::Ipv6Unicast }],
            ..PeerConfig::new(PeerId(id - 1), (Asn(asn), Asn(BIRD)), router_id, ours, theirs)
        }
    })
}

#[test]
fn old_link_local_keyed_and_frozen_peers_are_each_met_as_they_are() {
    in_lab(async {
        let mut bird = Neighbour::new("odd", 12);
        bird.start_bird(&difficult_bird(&bird));
        let (events_in, mut events) = mpsc::channel(64);
        let mut speaker = Speaker::start(bind(), events_in);
        for config in difficult_peers(&bird) {
            speaker.add(config).await;
        }
        let mut heard = Heard::default();
        let (old, near, keyed) = (PeerId(0), PeerId(1), PeerId(2));
        let met = |heard: &Heard| heard.routes.len() == 2 && heard.down.contains_key(&keyed);
        heard.until(&mut events, "two sessions and the lack of one", met).await;
        assert!(!heard.facts[&old].four_octet_asn && heard.facts[&near].four_octet_asn);
        let path = |peer| heard.of(peer).values().next().unwrap().as_path.to_string();
        assert_eq!((path(old), path(near)), ("65002 4200000777".to_owned(), "65002".to_owned()));
        let why = &heard.down[&keyed];
        assert!(matches!(why, DownReason::ConnectTimeout { .. }) && why.to_string().contains("MD5"), "{why}");

        let as_path = AsPath::sequence([SMALL, 4_200_000_123]);
        let attributes = PathAttributes { as_path, ..PathAttributes::originated(bird.ours.0.into()) };
        let announced = vec!["40.0.0.0/24".parse().unwrap()];
        let update = Update { announced, attributes: Some(Arc::new(attributes)), ..Update::default() };
        let send = PeerCommand::Send { session: 1, update };
        speaker.peer(old).unwrap().command(send).await.unwrap();
        let merged = || bird.birdc("show route 40.0.0.0/24 all").contains("BGP.as_path: 65009 4200000123");
        lab::until("our path, whole, at BIRD", merged);

        bird.signal(Signal::SIGSTOP);
        let expired = |heard: &Heard| [old, near].iter().all(|peer| heard.down.contains_key(peer));
        heard.until(&mut events, "two expired hold times", expired).await;
        assert!(
            matches!(heard.down[&old], DownReason::HoldExpired { hold: Seconds(3), .. }),
            "{:?}",
            heard.down
        );
        assert!(heard.routes.is_empty());
        bird.signal(Signal::SIGCONT);
        let thawed = Instant::now();
        heard.until(&mut events, "both sessions again", |heard| heard.routes.len() == 2).await;
        assert!(thawed.elapsed() < Duration::from_secs(15), "{:?}", thawed.elapsed());
        assert_eq!(heard.facts[&old].session, 2);
        speaker.stop(Cease::PeerDeconfigured, "").await;
    });
}

/// Runs itself as the program that is interrupted.
#[test]
fn an_interrupted_run_leaves_neither_namespaces_nor_daemons_nor_files() {
    const STAYS: &str = "ERDP_INTEROP_STAYS";
    if let Some(reason) = lab::missing() {
        println!("SKIP: {reason}");
        return;
    }
    if std::env::var_os(STAYS).is_some() {
        return in_lab(async {
            let mut bird = Neighbour::new("stays", 40);
            bird.start_bird("router id 198.18.255.2;\nprotocol device {}\n");
            println!("it is up: {}", bird.name);
            tokio::time::sleep(PATIENCE).await;
        });
    }
    let own = "an_interrupted_run_leaves_neither_namespaces_nor_daemons_nor_files";
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut run = Command::new(std::env::current_exe().unwrap());
        run.args(["--exact", own, "--nocapture"]).env(STAYS, "1").stdout(Stdio::piped());
        let mut run = run.spawn().unwrap();
        let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
        let up = lines.by_ref().map(Result::unwrap).find(|line| line.contains("it is up"));
        let name = up.unwrap().rsplit(' ').next().unwrap().to_owned();
        assert_eq!(lab::owner(&name), Some(run.id()));
        let daemons = lab::run("ip", &["netns", "pids", &name]);
        assert!(!daemons.is_empty(), "no daemon");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(run.id().cast_signed()), signal).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(128 + signal as i32));
        let files = std::env::temp_dir().join(&name);
        assert!(!Path::new("/run/netns").join(&name).exists() && !files.exists(), "{name}");
        let is_there = |pid: &str| Path::new("/proc").join(pid.trim()).exists();
        lab::until("the daemons' end", || !daemons.lines().any(is_there));
    }
}
