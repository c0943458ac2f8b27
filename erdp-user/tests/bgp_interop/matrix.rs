//! Five other implementations against every feature that two speakers must agree on: one daemon each, its features tried one after
//! another on the same sessions, the outcome printed as a table (feature x peer).
//!
//! `ERDP_TEST_FULL=1` (`cargo xtask test --full`) adds what takes long: restarts, expiries, limits, storms.

use std::fmt::Write as _;

use erdp::bgp::{Cease, Kept, Role, State};

use super::daemons::{Daemon, KEY, Lacks, TAKEN, THEIRS};
use super::*;

/// A cell of the table.
type Outcome = Result<Result<(), Lacks>, String>;

const FEATURES: [&str; 4] = ["IPv4 both ways", "IPv6 both ways", "roles", "refresh both ways"];
const LONG: [&str; 6] =
    ["shutdown text", "max-prefix", "flap storm", "collision", "hold expiry", "graceful restart"];

const FOUR: PeerId = PeerId(0);
const SIX: PeerId = PeerId(1);
const FAMILIES: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

/// One daemon, our speaker, and what was heard.
struct Stand {
    daemon: Daemon,
    link: Neighbour,
    speaker: Speaker,
    events: mpsc::Receiver<PeerEvent>,
    heard: Heard,
    kept: Vec<Kept>,
    /// Every end of a session or attempt, in order.
    ends: Vec<(PeerId, DownReason)>,
    refreshes: usize,
}

impl Stand {
    async fn new(daemon: Daemon) -> Result<Self, String> {
        let mut link = daemon.neighbour();
        daemon.start(&mut link);
        let (events_in, events) = mpsc::channel(256);
        let mut speaker = Speaker::start(bind(), events_in);
        for config in configs(daemon, &link) {
            speaker.add(config).await;
        }
        let mut stand = Self {
            daemon,
            link,
            speaker,
            events,
            heard: Heard::default(),
            kept: vec![],
            ends: vec![],
            refreshes: 0,
        };
        stand.until("both sessions", |stand| stand.heard.facts.len() == 2).await?;
        if std::env::var_os("ERDP_TEST_PEER").is_some() {
            println!("{:?}", stand.heard.facts);
        }
        Ok(stand)
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let wait = async {
            while !done(self) {
                // A little at a time: some things are seen at the daemon only.
                if let Ok(event) = timeout(Duration::from_millis(100), self.events.recv()).await {
                    self.note(event.unwrap());
                }
            }
        };
        match timeout(PATIENCE * 3, wait).await {
            Ok(()) => Ok(()),
            Err(_) => Err(format!(
                "waited in vain for {what}; {} routes, {:?}; the last ends: {:?}",
                self.heard.routes.len(),
                self.speaker.peer(FOUR).map(|peer| peer.status().counters),
                self.ends.iter().rev().take(4).map(|(_, reason)| reason.to_string()).collect::<Vec<_>>()
            )),
        }
    }

    fn note(&mut self, event: PeerEvent) {
        match &event {
            PeerEvent::Down { peer, reason, kept } => {
                self.kept.extend(kept.clone());
                self.ends.push((*peer, reason.clone()));
            }
            PeerEvent::Refresh { .. } => self.refreshes += 1,
            PeerEvent::Established { peer, facts } => self.end_of_rib(*peer, facts),
            PeerEvent::Update { .. } => {}
        }
        self.heard.note(event);
    }

    /// As the RIB does after the first table of a session: FRR and OpenBGPD answer no refresh before (RFC 7313 section 4).
    fn end_of_rib(&self, peer: PeerId, facts: &SessionFacts) {
        for family in &facts.families {
            let update = Update { end_of_rib: Some(*family), ..Update::default() };
            let send = PeerCommand::Send { session: facts.session, update };
            self.speaker.peer(peer).unwrap().try_command(send).unwrap();
        }
    }

    fn routes(&self, family: Family) -> usize {
        self.heard.routes.keys().filter(|(_, prefix)| Family::of(prefix) == family).count()
    }

    async fn announce(&self, family: Family, count: usize, gone: bool) {
        let peer = if family == Family::Ipv4Unicast { FOUR } else { SIX };
        let Some(facts) = self.heard.facts.get(&peer) else { return };
        let list: Vec<IpNet> = prefixes(family, 40).into_iter().take(count).collect();
        let attributes = PathAttributes {
            as_path: AsPath::sequence([OURS]),
            communities: vec![Community::new(12_076, 51_010)],
            ..PathAttributes::originated(facts.local)
        };
        let update = if gone {
            Update { withdrawn: list, ..Update::default() }
        } else {
            Update { announced: list, attributes: Some(Arc::new(attributes)), ..Update::default() }
        };
        let send = PeerCommand::Send { session: facts.session, update };
        self.speaker.peer(peer).unwrap().command(send).await.unwrap();
    }

    async fn both_ways(&mut self, family: Family) -> Outcome {
        self.until("their routes", |stand| stand.routes(family) == THEIRS).await?;
        if let Err(lack) = self.daemon.receives() {
            return Ok(Err(lack));
        }
        self.announce(family, 60, false).await;
        self.until("our routes there", |stand| stand.daemon.has(&stand.link, family) == 60).await?;
        Ok(Ok(()))
    }

    async fn refresh(&mut self) -> Outcome {
        let answers = self.daemon.answers();
        if answers.is_ok() {
            self.heard.routes.retain(|(peer, _), _| *peer != FOUR);
            let request = PeerCommand::RequestRefresh(Family::Ipv4Unicast);
            self.speaker.peer(FOUR).unwrap().command(request).await.unwrap();
            self.until("refreshed routes", |stand| stand.routes(Family::Ipv4Unicast) == THEIRS).await?;
        }
        let before = self.refreshes;
        if self.daemon.ask_again(&self.link).is_ok() {
            self.until("their request", |stand| stand.refreshes > before).await?;
        }
        Ok(answers)
    }

    /// Ours is seen there where it is shown at all; theirs is in our reason.
    async fn texts(&mut self) -> Outcome {
        let reset = PeerCommand::Reset { text: "rack 7 moves".to_owned() };
        let session = self.heard.facts.get(&FOUR).map_or(0, |facts| facts.session);
        self.speaker.peer(FOUR).unwrap().command(reset).await.unwrap();
        self.again("the session after our reset", session).await?;
        if let Ok(shown) = self.daemon.shown(&self.link)
            && !shown.contains("rack 7 moves")
        {
            return Err(format!("our text is not shown: {shown}"));
        }
        if let Err(lack) = self.daemon.shut(&self.link, Some("moving")) {
            return Ok(Err(lack));
        }
        let told = |stand: &Self| {
            stand.ends.iter().any(|(peer, reason)| {
                *peer == FOUR
                    && matches!(reason, DownReason::Notified { notification, .. }
                    if notification.shutdown_text().is_some_and(|text| text.contains("moving")))
            })
        };
        self.until("their text", told).await?;
        let _ = self.daemon.shut(&self.link, None);
        self.until("the session again", |stand| stand.session(FOUR) > session + 1).await?;
        Ok(Ok(()))
    }

    /// A later session than this one.
    async fn again(&mut self, what: &str, before: u64) -> Result<(), String> {
        // Until it has seen the end of the last one there is nothing to forgive.
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.daemon.forgive(&self.link);
        self.until(what, |stand| stand.session(FOUR) > before).await
    }

    fn session(&self, peer: PeerId) -> u64 {
        self.heard.facts.get(&peer).map_or(0, |facts| facts.session)
    }

    /// Their limit: we are told Cease/1 and come back; ours: they are, and come back after the wait.
    async fn max_prefix(&mut self) -> Outcome {
        let before = self.session(SIX);
        let wait = Seconds(2);
        let excess = erdp::bgp::Excess::Prefixes { family: Family::Ipv6Unicast, limit: 10 };
        let overflow = PeerCommand::Overflow { excess, wait };
        self.speaker.peer(SIX).unwrap().command(overflow).await.unwrap();
        self.until("the session after our Cease/1", |stand| stand.session(SIX) > before).await?;
        if let Err(lack) = self.daemon.limits() {
            return Ok(Err(lack));
        }
        self.announce(Family::Ipv6Unicast, TAKEN + 50, false).await;
        let told = |stand: &Self| {
            stand.ends.iter().any(|(peer, reason)| {
                *peer == SIX
                    && matches!(reason, DownReason::Notified { notification, .. }
                    if notification.to_string().contains("(6/1)"))
            })
        };
        self.until("their Cease/1", told).await?;
        Ok(Ok(()))
    }

    /// Ten times everything there and gone; in the end the daemon has exactly what we sent last.
    async fn storm(&mut self) -> Outcome {
        if let Err(lack) = self.daemon.receives() {
            return Ok(Err(lack));
        }
        let before = self.session(FOUR);
        for _ in 0..50 {
            self.announce(Family::Ipv4Unicast, 150, false).await;
            self.announce(Family::Ipv4Unicast, 150, true).await;
        }
        self.announce(Family::Ipv4Unicast, 77, false).await;
        self.until("what was sent last", |stand| stand.daemon.has(&stand.link, Family::Ipv4Unicast) == 77)
            .await?;
        if self.session(FOUR) != before { Err("the session was lost".to_owned()) } else { Ok(Ok(())) }
    }

    /// Both sides call at once, five times (twice where each takes half a minute): there is one session each time, and it stays.
    async fn collision(&mut self) -> Outcome {
        for _ in 0..if self.daemon == Daemon::OpenBgpd { 2 } else { 5 } {
            let before = self.session(FOUR);
            self.speaker
                .peer(FOUR)
                .unwrap()
                .command(PeerCommand::Reset { text: String::new() })
                .await
                .unwrap();
            self.again("a new session", before).await?;
        }
        let now = self.session(FOUR);
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.until("that session", |stand| stand.session(FOUR) == now).await?;
        let state = self.speaker.peer(FOUR).unwrap().status().state;
        if state == State::Established { Ok(Ok(())) } else { Err(format!("it is {state}")) }
    }

    async fn hold_expiry(&mut self) -> Outcome {
        let before = self.session(FOUR);
        self.link.signal_all(Signal::SIGSTOP);
        let expired = |stand: &Self| {
            stand
                .ends
                .iter()
                .any(|(peer, reason)| *peer == FOUR && matches!(reason, DownReason::HoldExpired { .. }))
        };
        let outcome = self.until("an expired hold time", expired).await;
        self.link.signal_all(Signal::SIGCONT);
        outcome?;
        self.again("the session again", before).await?;
        Ok(Ok(()))
    }

    /// The daemon dies without a word: its routes are kept, and told again when it is back.
    async fn graceful_restart(&mut self) -> Outcome {
        let offered = self.heard.facts.get(&FOUR).and_then(|facts| facts.kept());
        if offered.is_none() {
            return Ok(Err("it offers End-of-RIB only, and so no restart to help with"));
        }
        let (before, kept) = (self.session(FOUR), self.kept.len());
        self.heard.ends_of_rib.clear();
        self.link.kill();
        self.until("kept routes", |stand| stand.kept.len() > kept).await?;
        self.daemon.start(&mut self.link);
        self.until("the session again", |stand| stand.session(FOUR) > before).await?;
        self.until("its End-of-RIB", |stand| stand.heard.ends_of_rib.contains(&(FOUR, Family::Ipv4Unicast)))
            .await?;
        self.until("its routes", |stand| stand.routes(Family::Ipv4Unicast) == THEIRS).await?;
        Ok(Ok(()))
    }

    async fn try_feature(&mut self, feature: &str) -> Outcome {
        match feature {
            "IPv4 both ways" => self.both_ways(FAMILIES[0]).await,
            "IPv6 both ways" => self.both_ways(FAMILIES[1]).await,
            "roles" => {
                if let Err(lack) = self.daemon.roles() {
                    return Ok(Err(lack));
                }
                let role = self.heard.facts.get(&FOUR).and_then(|facts| facts.role);
                if role == Some(Role::Customer) { Ok(Ok(())) } else { Err(format!("agreed on {role:?}")) }
            }
            "refresh both ways" => self.refresh().await,
            "shutdown text" => self.texts().await,
            "max-prefix" => self.max_prefix().await,
            "flap storm" => self.storm().await,
            "collision" => self.collision().await,
            "hold expiry" => self.hold_expiry().await,
            _ => self.graceful_restart().await,
        }
    }
}

/// Both with an MD5 key and GTSM; what happens without is in `guarded`.
pub(super) fn configs(daemon: Daemon, link: &Neighbour) -> [PeerConfig; 2] {
    let session = |id, local: IpAddr, remote: IpAddr, family| PeerConfig {
        interface: Some(link.interface.clone()),
        hold: Seconds(9),
        md5: Some(KEY.to_owned()),
        gtsm: true,
        role: Some(Role::Customer),
        families: vec![family],
        ..PeerConfig::new(id, (Asn(OURS), Asn(daemon.asn())), Ipv4Addr::new(198, 18, 255, 250), local, remote)
    };
    [
        session(FOUR, link.ours.0.into(), link.theirs.0.into(), FAMILIES[0]),
        session(SIX, link.ours.1.into(), link.theirs.1.into(), FAMILIES[1]),
    ]
}

async fn column(daemon: Daemon, features: &[&str]) -> Vec<Outcome> {
    let mut stand = match Stand::new(daemon).await {
        Ok(stand) => stand,
        Err(error) => return features.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut outcomes = Vec::new();
    for feature in features {
        let started = Instant::now();
        outcomes.push(stand.try_feature(feature).await);
        println!(
            "{daemon:?}: {feature}: {:?} in {:.1} s",
            outcomes.last().unwrap(),
            started.elapsed().as_secs_f32()
        );
    }
    stand.speaker.stop(Cease::PeerDeconfigured, "").await;
    outcomes
}

#[test]
fn every_other_implementation_agrees_with_us_on_every_feature_it_has() {
    let missing: Vec<_> = Daemon::ALL.into_iter().filter_map(Daemon::missing).collect();
    if !missing.is_empty() {
        println!("SKIP: not installed: {} (`cargo xtask setup`)", missing.join(", "));
        return;
    }
    in_lab(async {
        let full = std::env::var_os("ERDP_TEST_FULL").is_some();
        let features: Vec<&str> = FEATURES.into_iter().chain(LONG.into_iter().filter(|_| full)).collect();
        let mut columns = Vec::new();
        // One alone, to look closely.
        let only = std::env::var("ERDP_TEST_PEER").ok();
        let is_wanted = |daemon: &Daemon| only.as_ref().is_none_or(|only| format!("{daemon:?}") == *only);
        for daemon in Daemon::ALL.into_iter().filter(is_wanted) {
            columns.push((daemon, column(daemon, &features).await));
        }
        let (table, failures) = table(&features, &columns);
        println!("{table}");
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

/// The table, and what failed.
fn table(features: &[&str], columns: &[(Daemon, Vec<Outcome>)]) -> (String, Vec<String>) {
    let (mut text, mut notes, mut failures) = (format!("{:<20}", "feature"), Vec::new(), Vec::new());
    columns.iter().for_each(|(daemon, _)| write!(text, "{:<10}", format!("{daemon:?}")).unwrap());
    for (row, feature) in features.iter().enumerate() {
        write!(text, "\n{feature:<20}").unwrap();
        for (daemon, outcomes) in columns {
            let cell = match &outcomes[row] {
                Ok(Ok(())) => "ok".to_owned(),
                Ok(Err(lack)) => {
                    notes.push(format!("{daemon:?}, {feature}: {lack}"));
                    format!("- ({})", notes.len())
                }
                Err(error) => {
                    failures.push(format!("{daemon:?}, {feature}: {error}"));
                    "FAILED".to_owned()
                }
            };
            write!(text, "{cell:<10}").unwrap();
        }
    }
    for (number, note) in (1..).zip(notes) {
        write!(text, "\n({number}) {note}").unwrap();
    }
    (text, failures)
}
