//! Several paths to one prefix (RFC 7911) from BIRD, which tells all that its table has.

use std::collections::{BTreeMap, BTreeSet};

use erdp::bgp::{Asn, Cease, Community, Family, PathId, PeerConfig, PeerEvent, PeerId, Seconds, Speaker};
use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::lab::Neighbour;
use super::{BIRD, OURS, PATIENCE, bind, in_lab};

const PREFIXES: usize = 3;
const PATHS: usize = 4;

/// Four static protocols with the same prefixes and a community of their own.
fn configuration(link: &Neighbour) -> String {
    let mut text = "router id 198.18.255.2;\nprotocol device {}\n".to_owned();
    for path in 0..PATHS {
        text += &format!("protocol static path{path} {{ ipv4;\n");
        for prefix in 0..PREFIXES {
            text +=
                &format!(" route 30.{prefix}.0.0/16 unreachable {{ bgp_community.add((8075,{path})); }};\n");
        }
        text += "}\n";
    }
    let (us, them) = (link.ours.0, link.theirs.0);
    text + &format!(
        "protocol bgp four {{ local {them} as {BIRD}; neighbor {us} as {OURS}; hold time 9; connect delay time 1; \
         connect retry time 1; ipv4 {{ import all; export where source = RTS_STATIC; next hop self; add paths tx; }}; }}\n"
    )
}

/// What is known of each prefix: its paths, each with its community.
type Paths = BTreeMap<(IpNet, PathId), Community>;

async fn until(events: &mut mpsc::Receiver<PeerEvent>, paths: &mut Paths, count: usize) {
    let wait = async {
        while paths.len() != count {
            if let PeerEvent::Update { update, .. } = events.recv().await.unwrap() {
                // End-of-RIB has no identifier; every prefix has one.
                let id = |prefix: &IpNet| (*prefix, update.path.unwrap());
                for prefix in &update.withdrawn {
                    paths.remove(&id(prefix));
                }
                for prefix in &update.announced {
                    paths.insert(id(prefix), update.attributes.as_ref().unwrap().communities[0]);
                }
            }
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "waited in vain for {count} paths; there are {paths:?}");
}

#[test]
fn bird_tells_every_path_to_a_prefix_and_takes_each_back_by_itself() {
    in_lab(async {
        let mut bird = Neighbour::new("paths", 13);
        bird.start_bird(&configuration(&bird));
        let (events_in, mut events) = mpsc::channel(64);
        let mut speaker = Speaker::start(bind(), events_in);
        let (us, them) = (bird.ours.0.into(), bird.theirs.0.into());
        speaker
            .add(PeerConfig {
                add_path: true,
                hold: Seconds(9),
                families: vec![Family::Ipv4Unicast],
                interface: Some(bird.interface.clone()),
                ..PeerConfig::new(PeerId(0), (Asn(OURS), Asn(BIRD)), [198, 18, 255, 9].into(), us, them)
            })
            .await;
        let mut paths = Paths::new();
        until(&mut events, &mut paths, PREFIXES * PATHS).await;
        let communities: BTreeSet<(IpNet, Community)> =
            paths.iter().map(|((prefix, _), community)| (*prefix, *community)).collect();
        assert_eq!(communities.len(), PREFIXES * PATHS, "{paths:?}");
        bird.birdc("disable path2");
        until(&mut events, &mut paths, PREFIXES * (PATHS - 1)).await;
        assert!(!paths.values().any(|community| *community == Community::new(8_075, 2)), "{paths:?}");
        bird.birdc("enable path2");
        until(&mut events, &mut paths, PREFIXES * PATHS).await;
        let channel = bird.birdc("show protocols all four");
        assert!(channel.contains("ADD-PATH") || channel.contains("Add paths"), "{channel}");
        speaker.stop(Cease::PeerDeconfigured, "").await;
    });
}
