//! BFD with FRR (bfdd) and BIRD, both families: it comes up, notices a dead path in either direction, comes back; and it lives on without the
//! controller for as long as is configured, and no longer.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    failover::{
        Fault, LINKS, Place, Session,
        peers::{self, Timers},
        sessions, until,
    },
};
use nix::sys::signal::Signal;

/// Slow enough for a machine that builds beside it.
const TIMERS: Timers = Timers { interval_ms: 100, multiplier: 5 };
/// How long the packet path answers for a stopped controller.
const ABSENCE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(40);

struct Stand {
    edge: Edge,
    place: Place,
}

impl Stand {
    /// FRR is the primary MSEE, BIRD the secondary.
    fn up() -> Result<Stand> {
        let mut place = Place::up(false)?;
        let prefixes = peers::prefixes(8);
        peers::start_frr(&mut place, &LINKS[0], TIMERS, &prefixes)?;
        peers::start_bird(&mut place, &LINKS[1], TIMERS, &prefixes)?;
        let configuration = peers::erdp(TIMERS, ABSENCE.as_secs() as u32, "");
        let edge = Edge::start_with(place.namespace("edge")?, place.folder(), &configuration)?;
        Ok(Stand { edge, place })
    }

    fn sessions(&mut self) -> Result<Vec<Session>> {
        self.edge.must_run()?;
        sessions(&self.edge)
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<Duration> {
        let took = until(what, PATIENCE, || done(self)).with_context(|| self.state())?;
        println!("  {what}: after {:.2} s", took.as_secs_f32());
        Ok(took)
    }

    /// What there is to be said when something has gone wrong.
    fn state(&mut self) -> String {
        [
            self.edge.table("bfd"),
            self.edge.table("sessions"),
            self.edge.table("counters"),
            peers::vtysh(&self.place, "msee1", "show bfd peers"),
            peers::birdc(&self.place, "msee2", &["show", "bfd", "sessions"]),
            Ok(self.edge.process().tail(40)),
        ]
        .into_iter()
        .map(|text| text.unwrap_or_else(|error| format!("{error:#}")))
        .collect::<Vec<_>>()
        .join("\n")
    }

    /// The states in which FRR and BIRD see their sessions, both families.
    fn peers_see(&self) -> Result<[usize; 2]> {
        let frr = peers::vtysh(&self.place, "msee1", "show bfd peers")?;
        let bird = peers::birdc(&self.place, "msee2", &["show", "bfd", "sessions"])?;
        let up = |line: &&str| line.split_whitespace().any(|word| word == "Up");
        Ok([frr.matches("Status: up").count(), bird.lines().filter(up).count()])
    }

    fn all_up(&mut self) -> Result<bool> {
        let bfd = self.sessions().unwrap_or_default();
        let bgp = self.edge.sessions().unwrap_or_default();
        let alive = |it: &Session| it.state == "Up" && it.next_hop == "alive" && it.interval_ms == 100.0;
        Ok(bfd.len() == 4
            && bfd.iter().all(alive)
            && bgp.iter().all(|session| session.state == "Established")
            && self.peers_see()? == [2, 2])
    }
}

/// The sessions of a link.
fn of(sessions: &[Session], link: usize) -> Vec<&Session> {
    let peers = [LINKS[link].ipv4.1, LINKS[link].ipv6.1];
    sessions.iter().filter(|session| peers.contains(&session.peer.as_str())).collect()
}

#[test]
fn bfd_with_frr_and_bird_lives_and_dies_as_it_should() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    stand.until("four BFD and four BGP sessions are up", Stand::all_up)?;
    println!("{}", stand.edge.table("bfd")?);
    an_operators_word_is_no_failure(&mut stand)?;
    a_dead_path_is_noticed(&mut stand)?;
    a_stopped_controller_is_answered_for(&mut stand)?;
    let counters = stand.edge.counters()?;
    ensure!(counters.punted["bfd"].packets > 0 && counters.dropped["bfd-malformed"].packets == 0);
    Ok(())
}

/// Silence in either direction, on either peer's wire; the other link's sessions stay as they are.
fn a_dead_path_is_noticed(stand: &mut Stand) -> Result<()> {
    for (link, fault) in [(0, Fault::Silent), (1, Fault::TowardsMsee), (1, Fault::TowardsEdge)] {
        let before = stand.sessions()?;
        stand.place.fail(link, fault)?;
        let what = format!("{fault:?} on the wire to {}: dead, and BGP reset", LINKS[link].msee);
        stand.until(&what, |it| {
            let now = it.sessions()?;
            let bgp = it.edge.sessions()?;
            let down = |peer: &str| bgp.iter().any(|it| it.peer == peer && it.state != "Established");
            Ok(of(&now, link).iter().all(|it| it.next_hop == "dead" && it.state != "Up" && down(&it.peer)))
        })?;
        let untouched = |sessions: &[Session]| {
            of(sessions, 1 - link).iter().map(|it| (it.ups, it.expired)).collect::<Vec<_>>()
        };
        ensure!(
            untouched(&stand.sessions()?) == untouched(&before),
            "the other link's sessions have changed"
        );
        stand.place.heal(link)?;
        stand.until("all is back", Stand::all_up)?;
    }
    Ok(())
}

/// The peers see nothing for the configured time, and then the end.
fn a_stopped_controller_is_answered_for(stand: &mut Stand) -> Result<()> {
    let before = stand.sessions()?;
    stand.edge.process().signal(Signal::SIGSTOP)?;
    let begin = Instant::now();
    while begin.elapsed() < ABSENCE - Duration::from_secs(1) {
        ensure!(stand.peers_see()? == [2, 2], "a peer has lost its session after {:?}", begin.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    stand.edge.process().signal(Signal::SIGCONT)?;
    stand.until("the controller is back", |it| Ok(it.edge.answers()))?;
    let after = stand.sessions()?;
    ensure!(stand.peers_see()? == [2, 2], "a session has been lost");
    for (before, after) in before.iter().zip(&after) {
        ensure!(after.answered > before.answered + 10, "{} was hardly answered: {after:?}", after.peer);
        ensure!(
            (after.ups, after.state.as_str()) == (before.ups, "Up"),
            "{} has flapped: {after:?}",
            after.peer
        );
    }
    println!(
        "  stopped for {:?}: no session has changed; {} packets answered",
        ABSENCE - Duration::from_secs(1),
        after.iter().map(|it| it.answered).sum::<u64>()
    );
    stand.edge.process().signal(Signal::SIGSTOP)?;
    let begin = Instant::now();
    let ended = until("the peers to see the end", ABSENCE * 3, || Ok(stand.peers_see()? == [0, 0]));
    let took = begin.elapsed();
    stand.edge.process().signal(Signal::SIGCONT)?;
    ended?;
    println!("  stopped for good: the peers see the end after {took:?}, {ABSENCE:?} configured");
    ensure!(took >= ABSENCE && took < ABSENCE + Duration::from_secs(3), "after {took:?}");
    stand.until("all is back", Stand::all_up).map(drop)
}

/// RFC 5882 section 3.2: AdminDown is no word about the path. FRR says it; BIRD 2.0 falls silent, which is a dead path.
fn an_operators_word_is_no_failure(stand: &mut Stand) -> Result<()> {
    let switch = |it: &Stand, word| {
        peers::vtysh(&it.place, "msee1", &format!("configure terminal\nbfd\nprofile lab\n{word}"))
    };
    switch(stand, "shutdown")?;
    stand.until("FRR's BFD is switched off, and BGP stays", |it| {
        ensure!(it.edge.sessions()?.iter().all(|it| it.state == "Established"), "BGP was reset");
        let now = it.sessions()?;
        Ok(of(&now, 0).iter().all(|it| it.state == "Down" && it.next_hop == "not judged"))
    })?;
    switch(stand, "no shutdown")?;
    stand.until("all is back", Stand::all_up).map(drop)
}
