//! What guards a session, with all five implementations: a wrong MD5 key (RFC 2385) and packets whose TTL or hop limit is below 255 (GTSM,
//! RFC 5082) are refused, by them and by us. Then, with both right, the same sessions come up.

use std::collections::BTreeSet;

use super::daemons::Daemon;
use super::matrix::configs;
use super::*;

/// How long no route may come. Both sides call at once and then every two seconds; a session takes a few milliseconds.
const REFUSED: Duration = Duration::from_secs(5);

/// A daemon, and what is wrong.
struct Guarded {
    daemon: Daemon,
    link: Neighbour,
    /// What is wrong with its IPv4 and its IPv6 session.
    wrong: [&'static str; 2],
    peers: [PeerConfig; 2],
}

/// All daemons as they should be, and one of our sessions with another key, the other with hop limit 1; then two daemons whose packets are
/// below 255.
fn all() -> Vec<Guarded> {
    let mut all = Vec::new();
    for daemon in Daemon::ALL {
        let mut link = daemon.second_neighbour();
        daemon.start(&mut link);
        let key = |config| PeerConfig { md5: Some("another-key".to_owned()), ..config };
        let hop_limit = |config| PeerConfig { gtsm: false, ..config };
        let ([four, six], wrong) = (configs(daemon, &link), ["our key is another", "our hop limit is 1"]);
        let (peers, wrong) = if daemon == Daemon::ExaBgp {
            println!("ExaBGP 4.2 takes any TTL, whatever its incoming-ttl is: only its keys are tried");
            ([key(four), key(six)], [wrong[0]; 2])
        } else {
            ([key(four), hop_limit(six)], wrong)
        };
        all.push(Guarded { daemon, link, wrong, peers });
    }
    let changes = [
        (Daemon::Bird, ("low1", 37), ("ttl security on;", "ttl security off;"), "their TTL is 1"),
        (Daemon::ExaBgp, ("low254", 38), ("outgoing-ttl 255;", "outgoing-ttl 254;"), "their TTL is 254"),
    ];
    for (daemon, (kind, net), (from, to), wrong) in changes {
        let mut link = Neighbour::new(kind, net);
        daemon.start_changed(&mut link, |text| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        });
        let peers = configs(daemon, &link);
        all.push(Guarded { daemon, link, wrong: [wrong; 2], peers });
    }
    // The identities in `configs` are those of one daemon's two sessions.
    for (at, guarded) in (0..).zip(&mut all) {
        guarded.peers[0].id = PeerId(2 * at);
        guarded.peers[1].id = PeerId(2 * at + 1);
    }
    all
}

/// Which sessions routes come by within `time`, or until they have by all of `wanted`. (Established says less: a first message may be in the
/// other side's socket before that side sets the limit, and then it answers once.)
async fn up(
    events: &mut mpsc::Receiver<PeerEvent>,
    time: Duration,
    wanted: Option<&BTreeSet<PeerId>>,
) -> BTreeSet<PeerId> {
    let (mut up, begin) = (BTreeSet::new(), Instant::now());
    while wanted != Some(&up)
        && let Ok(event) = timeout(time.saturating_sub(begin.elapsed()), events.recv()).await
    {
        if let PeerEvent::Update { peer, update } = event.unwrap()
            && !update.announced.is_empty()
        {
            up.insert(peer);
        }
    }
    up
}

fn names(guarded: &[Guarded], peers: &BTreeSet<PeerId>) -> Vec<String> {
    let name = |guarded: &Guarded, at: usize| {
        let family = if at == 0 { "IPv4" } else { "IPv6" };
        format!("{:?} over {family} ({})", guarded.daemon, guarded.wrong[at])
    };
    let both = guarded.iter().flat_map(|guarded| [0, 1].map(|at| (guarded, at)));
    both.filter(|(guarded, at)| peers.contains(&guarded.peers[*at].id))
        .map(|(guarded, at)| name(guarded, at))
        .collect()
}

#[test]
fn rfc2385_rfc5082_a_wrong_key_and_a_hop_limit_below_255_are_refused_by_them_and_by_us() {
    let missing: Vec<_> = Daemon::ALL.into_iter().filter_map(Daemon::missing).collect();
    if !missing.is_empty() {
        println!("SKIP: not installed: {} (`cargo xtask setup`)", missing.join(", "));
        return;
    }
    in_lab(async {
        let mut all = all();
        let (events_in, mut events) = mpsc::channel(256);
        let mut speaker = Speaker::start(bind(), events_in);
        for config in all.iter().flat_map(|guarded| &guarded.peers) {
            speaker.add(config.clone()).await;
        }
        let refused = up(&mut events, REFUSED, None).await;
        assert!(refused.is_empty(), "these have come up: {}", names(&all, &refused).join(", "));

        // With everything right the same sessions come up: it was the guard that refused them.
        let mut wanted = BTreeSet::new();
        for guarded in &mut all {
            // A connection whose packets it does not take is open there until it gives up.
            guarded.link.kill();
            for (right, wrong) in configs(guarded.daemon, &guarded.link).into_iter().zip(&guarded.peers) {
                wanted.insert(wrong.id);
                speaker.add(PeerConfig { id: wrong.id, ..right }).await;
            }
            // Now: OpenBGPD lets a neighbour wait for half a minute whose first session ends.
            guarded.daemon.start(&mut guarded.link);
        }
        let up = up(&mut events, PATIENCE, Some(&wanted)).await;
        let down: BTreeSet<PeerId> = wanted.difference(&up).copied().collect();
        assert!(down.is_empty(), "these have not come up with all right: {}", names(&all, &down).join(", "));
        println!("refused, and up with key and hop limit right: {}", names(&all, &wanted).join(", "));
        speaker.stop(Cease::PeerDeconfigured, "").await;
    });
}
