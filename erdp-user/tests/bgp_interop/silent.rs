//! FRR and BIRD die without a word, graceful restart and an MD5 key agreed on, and call anew while we have their sessions (RFC 4724
//! section 4.2): one over IPv4, the other over IPv6.

use std::sync::Arc;
use std::time::{Duration, Instant};

use erdp::bgp::{
    AsPath, Asn, Cease, Family, Kept, PathAttributes, PeerCommand, PeerConfig, PeerEvent, PeerId, Seconds,
    Speaker, State, Update,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::lab::{self, Neighbour};
use super::{BIRD, FRR, OURS, PATIENCE, bind, in_lab};

const KEY: &str = "a-key-of-both";
const PEERS: [PeerId; 2] = [PeerId(0), PeerId(1)];

fn frr_configuration(link: &Neighbour) -> String {
    let us = link.ours.0;
    format!(
        "hostname b\nrouter bgp {FRR}\n bgp router-id 198.18.255.1\n bgp graceful-restart\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n neighbor {us} remote-as {OURS}\n neighbor {us} password {KEY}\n \
         neighbor {us} timers 60 180\n neighbor {us} timers connect 1\n \
         address-family ipv4 unicast\n  network 20.1.0.0/16\n exit-address-family\nexit\n"
    )
}

fn bird_configuration(link: &Neighbour) -> String {
    let (us, them) = (link.ours.1, link.theirs.1);
    format!(
        "router id 198.18.255.2;\nprotocol device {{}}\nprotocol static {{ ipv6; route 2a01:20::/32 unreachable; }}\n\
         protocol bgp six {{ local {them} as {BIRD}; neighbor {us} as {OURS}; hold time 180; password \"{KEY}\"; \
         graceful restart on; connect delay time 1; connect retry time 1; \
         ipv6 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
    )
}

fn config(id: PeerId, asn: u32, link: &Neighbour, family: Family) -> PeerConfig {
    let (ours, theirs) = match family {
        Family::Ipv4Unicast => (link.ours.0.into(), link.theirs.0.into()),
        Family::Ipv6Unicast => (link.ours.1.into(), link.theirs.1.into()),
    };
    PeerConfig {
        interface: Some(link.interface.clone()),
        families: vec![family],
        md5: Some(KEY.to_owned()),
        hold: Seconds(180),
        ..PeerConfig::new(id, (Asn(OURS), Asn(asn)), [198, 18, 255, 9].into(), ours, theirs)
    }
}

/// What is heard of one peer until its session is up; the answer has the ends before it, with what is kept.
async fn until_up(events: &mut mpsc::Receiver<PeerEvent>, of: PeerId) -> Vec<(String, Option<Kept>)> {
    let mut ends = Vec::new();
    let wait = async {
        loop {
            match events.recv().await.unwrap() {
                PeerEvent::Established { peer, .. } if peer == of => return,
                PeerEvent::Down { peer, reason, kept } if peer == of => ends.push((reason.to_string(), kept)),
                _ => {}
            }
        }
    };
    assert!(timeout(PATIENCE * 2, wait).await.is_ok(), "{of} does not come up: {ends:?}");
    ends
}

async fn send(speaker: &Speaker, peer: PeerId, session: u64, number: u8) {
    let family = speaker.peer(peer).unwrap().config().families[0];
    let local = speaker.peer(peer).unwrap().config().local;
    let prefix = match family {
        Family::Ipv4Unicast => format!("40.{number}.0.0/16"),
        Family::Ipv6Unicast => format!("2a01:{number:x}::/32"),
    };
    let attributes =
        PathAttributes { as_path: AsPath::sequence([OURS]), ..PathAttributes::originated(local) };
    let announced = vec![prefix.parse().unwrap()];
    let update = Update { announced, attributes: Some(Arc::new(attributes)), ..Update::default() };
    speaker.peer(peer).unwrap().command(PeerCommand::Send { session, update }).await.unwrap();
}

#[test]
fn rfc4724_4_2_frr_and_bird_that_have_restarted_silently_are_answered_at_once() {
    in_lab(async {
        let (mut frr, mut bird) = (Neighbour::new("mute", 14), Neighbour::new("still", 15));
        frr.start_frr(&frr_configuration(&frr));
        bird.start_bird(&bird_configuration(&bird));
        let (events_in, mut events) = mpsc::channel(64);
        let mut speaker = Speaker::start(bind(), events_in);
        let families = [Family::Ipv4Unicast, Family::Ipv6Unicast];
        for (peer, (asn, link)) in PEERS.into_iter().zip([(FRR, &frr), (BIRD, &bird)]) {
            speaker.add(config(peer, asn, link, families[usize::from(peer.0)])).await;
            until_up(&mut events, peer).await;
        }
        // A session that is a moment old waits for a call to be taken back that crossed it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (peer, is_frr) in PEERS.into_iter().zip([true, false]) {
            let before = speaker.peer(peer).unwrap().status();
            let link = if is_frr { &mut frr } else { &mut bird };
            link.stop();
            // What came before it stood still is read.
            for number in 1..100 {
                send(&speaker, peer, before.counters.established, number).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                if link.has_unread() {
                    break;
                }
            }
            assert!(link.has_unread());
            link.kill_unheard();
            assert_eq!(
                speaker.peer(peer).unwrap().status().state,
                State::Established,
                "we have heard nothing"
            );
            if is_frr {
                frr.start_frr(&frr_configuration(&frr));
            } else {
                bird.start_bird(&bird_configuration(&bird));
            }
            let begin = Instant::now();
            let ends = until_up(&mut events, peer).await;
            let took = begin.elapsed();
            println!("{peer}: again {:.1} s after the daemon's start: {ends:?}", took.as_secs_f32());
            assert!(took < Duration::from_secs(5), "{took:?}");
            let [(reason, Some(kept))] = &ends[..] else { panic!("{ends:?}") };
            assert!(reason.contains("restarted without ending the session"), "{reason}");
            assert_eq!(kept.families, [families[usize::from(peer.0)]]);
        }
        speaker.stop(Cease::PeerDeconfigured, "").await;
    });
}

impl Neighbour {
    fn stop(&self) {
        self.signal_all(nix::sys::signal::Signal::SIGSTOP);
    }

    /// Whether a connection has something that its daemon has not read: it then ends at once when the daemon does.
    fn has_unread(&self) -> bool {
        let sockets = self.inside("ss", &["-Htn", "state", "established"]);
        sockets.lines().filter_map(|line| line.split_whitespace().next()).any(|unread| unread != "0")
    }

    /// Kills all of them, and what their kernel says at their end is lost: with something unread, that is a reset and nothing later.
    fn kill_unheard(&mut self) {
        let ours = [self.ours.0.to_string(), self.ours.1.to_string()];
        let name = self.name.clone();
        let route = |act: &str| {
            for address in &ours {
                lab::run("ip", &["-n", &name, "route", act, "blackhole", address]);
            }
        };
        route("add");
        self.kill();
        lab::until("the end of all sockets", || {
            self.inside("ss", &["-Htn", "state", "established"]).trim().is_empty()
        });
        route("del");
    }
}
