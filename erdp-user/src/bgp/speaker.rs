//! All sessions together: the listener's task and one task for each peer.
//!
//! The controller owns the [`Speaker`]; peers come and go through it, and what they say arrives in one channel.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::listen::Order;
use super::{
    Cease, Handed, Listener, PeerCommand, PeerConfig, PeerEvent, PeerHandle, PeerId, Refused, SessionFacts,
    Update, peer,
};

/// Longest time stopping may take: the farewells of the slowest peer.
const STOP_WAIT: Duration = Duration::from_secs(4);

/// The running BGP speaker. Dropping it ends all sessions; [`Speaker::stop`] does so with a word of farewell.
#[derive(Debug)]
pub struct Speaker {
    peers: BTreeMap<PeerId, (PeerHandle, JoinHandle<()>)>,
    /// Sessions that say farewell to their peers. The next one with the same id begins after it.
    ending: BTreeMap<PeerId, JoinHandle<()>>,
    admissions: mpsc::Sender<Order>,
    listener: JoinHandle<()>,
    refused: watch::Receiver<Refused>,
    events: mpsc::Sender<PeerEvent>,
}

impl Speaker {
    /// Starts serving `listener`; all peers' events go to `events`. Must run inside a tokio runtime.
    pub fn start(listener: Listener, events: mpsc::Sender<PeerEvent>) -> Self {
        let (admissions, orders) = mpsc::channel(16);
        let (refused_in, refused) = watch::channel(Refused::default());
        let listener = tokio::spawn(listener.run(orders, refused_in));
        Self { peers: BTreeMap::new(), ending: BTreeMap::new(), admissions, listener, refused, events }
    }

    /// Starts a session; one with the same id ends first. No peer is waited for: the new session's task waits for the farewell of the old one, so that
    /// the peer has closed the connection of before when it is called again, and events keep their order.
    pub async fn add(&mut self, config: PeerConfig) {
        self.remove(config.id, Cease::ConfigurationChange, "").await;
        let before = self.ending.remove(&config.id);
        let seed = RandomState::new().hash_one(config.id);
        let (handle, accepted, task) = peer::new(config.clone(), self.events.clone(), seed);
        // The listener's task ends only after this sender is dropped.
        let _ = self.admissions.send(Order::Admit(Box::new(config.clone()), accepted)).await;
        let task = async move {
            if let Some(before) = before {
                // One that panicked has ended as well.
                let _ = before.await;
            }
            task.await;
        };
        self.peers.insert(config.id, (handle, tokio::spawn(task)));
    }

    /// Goes on with a session that another task or process has given up; what was agreed on is the answer. Where it cannot go on,
    /// the connection is closed and a new session started, and the error says why.
    pub async fn resume(&mut self, config: PeerConfig, handed: Handed) -> Result<SessionFacts, String> {
        let seed = RandomState::new().hash_one(config.id);
        match peer::resume(config.clone(), seed, handed) {
            Ok(resumed) => {
                let facts = resumed.facts.clone();
                let (handle, accepted, task) = resumed.task(self.events.clone());
                let _ = self.admissions.send(Order::Admit(Box::new(config.clone()), accepted)).await;
                self.peers.insert(config.id, (handle, tokio::spawn(task)));
                Ok(facts)
            }
            Err(error) => {
                self.add(config).await;
                Err(error)
            }
        }
    }

    /// Gives all sessions up, each after these updates, and closes the port. Sessions that are not established are closed without
    /// a word. The answer is what goes on elsewhere, and what peers had said that nobody was told.
    pub async fn hand_over(
        mut self,
        mut updates: BTreeMap<PeerId, Vec<Update>>,
    ) -> (BTreeMap<PeerId, Handed>, Vec<PeerEvent>) {
        let (mut all, mut untold) = (BTreeMap::new(), Vec::new());
        for (id, (handle, task)) in std::mem::take(&mut self.peers) {
            let (handed, events) = handle.hand_over(updates.remove(&id).unwrap_or_default()).await;
            untold.extend(events);
            all.extend(handed.map(|handed| (id, handed)));
            // It has ended or is about to.
            let _ = task.await;
        }
        // Who is being told farewell is told it by us: our end would cut it off.
        for ending in std::mem::take(&mut self.ending).into_values() {
            let _ = ending.await;
        }
        drop(self.admissions);
        // The port is free when the listener's task is gone.
        while self.refused.changed().await.is_ok() {}
        (all, untold)
    }

    /// Ends a session and forgets the peer, which is told farewell in the background: that may take seconds.
    pub async fn remove(&mut self, id: PeerId, cease: Cease, text: &str) {
        self.ending.retain(|_, ending| !ending.is_finished());
        if let Some((handle, task)) = self.peers.remove(&id) {
            // The listener's task waits for nobody.
            let _ = self.admissions.send(Order::Dismiss(Box::new(handle.config().clone()))).await;
            let text = text.to_owned();
            let ending = tokio::spawn(async move { end(handle, task, cease, &text).await });
            self.ending.insert(id, ending);
        }
    }

    /// One peer.
    pub fn peer(&self, id: PeerId) -> Option<&PeerHandle> {
        self.peers.get(&id).map(|(handle, _)| handle)
    }

    /// All peers, by id.
    pub fn peers(&self) -> impl Iterator<Item = &PeerHandle> {
        self.peers.values().map(|(handle, _)| handle)
    }

    /// Whether the listener's task lives.
    pub fn listens(&self) -> bool {
        !self.listener.is_finished()
    }

    /// The peers whose task has ended by itself: nobody has removed them.
    pub fn ended(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().filter(|(_, (_, task))| task.is_finished()).map(|(id, _)| *id)
    }

    /// Ends a peer's task as a fault in it would, or the listener's: for tests of what follows.
    pub fn end_task(&self, of: Option<PeerId>) {
        match of {
            None => self.listener.abort(),
            Some(id) => self.peers.get(&id).iter().for_each(|(_, task)| task.abort()),
        }
    }

    /// Connections refused so far.
    pub fn refused(&self) -> Refused {
        *self.refused.borrow()
    }

    /// Ends all sessions at once with this Cease, and waits until the peers were told, at most a few seconds.
    pub async fn stop(mut self, cease: Cease, text: &str) {
        let ends: Vec<_> = std::mem::take(&mut self.peers)
            .into_values()
            .map(|(handle, task)| {
                let text = text.to_owned();
                tokio::spawn(async move { end(handle, task, cease, &text).await })
            })
            .chain(std::mem::take(&mut self.ending).into_values())
            .collect();
        for one in ends {
            // A task that panicked has no one to tell.
            let _ = one.await;
        }
    }
}

async fn end(handle: PeerHandle, mut task: JoinHandle<()>, cease: Cease, text: &str) {
    let stop = PeerCommand::Stop { cease, text: text.to_owned() };
    let farewell = async {
        if handle.command(stop).await.is_ok() {
            let _ = (&mut task).await;
        }
    };
    if timeout(STOP_WAIT, farewell).await.is_err() {
        task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use super::super::{
        AsPath, Asn, DownReason, Family, ListenError, PathAttributes, Seconds, SessionFacts, State, Update,
    };
    use super::*;

    const ADDRESSES: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))];

    /// Two speakers on loopback, each listening on one port number that both have free.
    fn pair() -> [(Speaker, mpsc::Receiver<PeerEvent>, PeerConfig); 2] {
        let (listeners, port) = loop {
            let first = Listener::bind(&[SocketAddr::new(ADDRESSES[0], 0)]).unwrap();
            let port = first.addresses()[0].port();
            if let Ok(second) = Listener::bind(&[SocketAddr::new(ADDRESSES[1], port)]) {
                break ([first, second], port);
            }
        };
        let mut side = 0;
        listeners.map(|listener| {
            let (here, there) = (side, 1 - side);
            side += 1;
            let asn = |side: usize| Asn(65_001 + side as u32);
            let router_id = Ipv4Addr::new(10, 0, 0, here as u8 + 1);
            let config = PeerConfig::new(
                PeerId(7),
                (asn(here), asn(there)),
                router_id,
                ADDRESSES[here],
                ADDRESSES[there],
            );
            let config = PeerConfig { port, hold: Seconds(9), families: vec![Family::Ipv4Unicast], ..config };
            let (events_in, events) = mpsc::channel(64);
            (Speaker::start(listener, events_in), events, config)
        })
    }

    async fn established(events: &mut mpsc::Receiver<PeerEvent>) -> SessionFacts {
        loop {
            match timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap() {
                PeerEvent::Established { facts, .. } => return facts,
                PeerEvent::Down { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn speakers_that_call_each_other_at_once_agree_on_one_connection_and_exchange_routes() {
        let [(mut one, mut hears_one, here), (mut two, mut hears_two, there)] = pair();
        one.add(here.clone()).await;
        two.add(there.clone()).await;
        let facts = established(&mut hears_one).await;
        assert_eq!((facts.asn, facts.hold, facts.session), (Asn(65_002), Seconds(9), 1));
        established(&mut hears_two).await;

        let attributes = PathAttributes {
            as_path: AsPath::sequence([65_001]),
            ..PathAttributes::originated([198, 18, 0, 1].into())
        };
        let announced = vec!["192.0.2.0/24".parse().unwrap()];
        let update = Update { announced, attributes: Some(Arc::new(attributes)), ..Update::default() };
        let send = PeerCommand::Send { session: facts.session, update: update.clone() };
        one.peer(here.id).unwrap().try_command(send).unwrap();
        let heard = timeout(Duration::from_secs(5), hears_two.recv()).await.unwrap().unwrap();
        assert_eq!(heard, PeerEvent::Update { peer: there.id, update });

        one.stop(Cease::AdministrativeShutdown, "good night").await;
        let heard = timeout(Duration::from_secs(5), hears_two.recv()).await.unwrap().unwrap();
        let PeerEvent::Down { reason: DownReason::Notified { notification, .. }, .. } = heard else {
            panic!("{heard:?}")
        };
        assert_eq!(notification.shutdown_text().as_deref(), Some("good night"));
        let status = two.peer(there.id).unwrap().status();
        assert!(status.state < State::Established && status.last_error.unwrap().contains("good night"));
    }

    #[tokio::test]
    async fn a_peer_that_comes_back_is_met_again_within_seconds() {
        let [(mut one, mut hears_one, here), (mut two, mut hears_two, there)] = pair();
        one.add(here.clone()).await;
        two.add(PeerConfig { passive: true, ..there.clone() }).await;
        established(&mut hears_one).await;
        established(&mut hears_two).await;
        two.peer(there.id).unwrap().command(PeerCommand::Reset { text: "again".to_owned() }).await.unwrap();
        assert_eq!(established(&mut hears_one).await.session, 2);
        assert_eq!(established(&mut hears_two).await.session, 2);
    }

    #[tokio::test]
    async fn nobody_waits_for_the_farewell_of_a_session_that_is_exchanged_and_the_next_one_begins_after_it() {
        let [(mut one, mut hears_one, here), (mut two, mut hears_two, there)] = pair();
        one.add(here.clone()).await;
        two.add(PeerConfig { passive: true, ..there.clone() }).await;
        established(&mut hears_one).await;
        established(&mut hears_two).await;
        // A peer whose process is stopped would keep the connection open for as long as the farewell may take.
        let begin = std::time::Instant::now();
        for _ in 0..5 {
            one.add(here.clone()).await;
        }
        assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
        let heard = timeout(Duration::from_secs(5), hears_one.recv()).await.unwrap().unwrap();
        assert!(matches!(heard, PeerEvent::Down { .. }), "{heard:?}");
        assert_eq!(established(&mut hears_one).await.session, 1, "of a session that is new");
        let begin = std::time::Instant::now();
        one.remove(here.id, Cease::PeerDeconfigured, "").await;
        assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
        assert!(one.peer(here.id).is_none());
    }

    #[tokio::test]
    async fn b6_a_disabled_peer_is_told_why_and_left_alone_until_it_is_enabled() {
        let [(mut one, mut hears_one, here), (mut two, mut hears_two, there)] = pair();
        one.add(here.clone()).await;
        two.add(PeerConfig { passive: true, ..there.clone() }).await;
        established(&mut hears_one).await;
        established(&mut hears_two).await;
        let handle = one.peer(here.id).unwrap();
        handle.command(PeerCommand::Disable { text: "rack 7 moves".to_owned() }).await.unwrap();
        let heard = timeout(Duration::from_secs(5), hears_two.recv()).await.unwrap().unwrap();
        let PeerEvent::Down { reason: DownReason::Notified { notification, .. }, .. } = heard else {
            panic!("{heard:?}")
        };
        // RFC 9003, inside the Hard Reset of RFC 8538: no routes are kept.
        let said = notification.to_string();
        assert_eq!(said, "administrative shutdown (6/2): \"rack 7 moves\", as a hard reset");
        // Neither BFD's word nor a link that is back starts anything.
        handle.command(PeerCommand::Hold(false)).await.unwrap();
        handle.command(PeerCommand::Hurry).await.unwrap();
        assert!(timeout(Duration::from_secs(2), hears_two.recv()).await.is_err(), "somebody has called");
        assert_eq!(one.peer(here.id).unwrap().status().state, State::Idle);
        one.peer(here.id).unwrap().command(PeerCommand::Enable).await.unwrap();
        assert_eq!(established(&mut hears_one).await.session, 2);
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_known_to_have_ended() {
        let [(mut one, _events, here), _] = pair();
        one.add(PeerConfig { passive: true, ..here.clone() }).await;
        let other =
            PeerConfig { id: PeerId(8), remote: [127, 0, 0, 9].into(), passive: true, ..here.clone() };
        one.add(other).await;
        assert!(one.listens() && one.ended().next().is_none());
        one.end_task(Some(here.id));
        for _ in 0..100 {
            if one.ended().next().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(one.ended().collect::<Vec<_>>(), [here.id]);
        // It begins again, and then nothing is missing.
        one.add(PeerConfig { passive: true, ..here }).await;
        assert_eq!(one.ended().count(), 0);
        one.end_task(None);
        for _ in 0..100 {
            if !one.listens() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!one.listens());
    }

    #[tokio::test]
    async fn connections_of_strangers_are_closed_and_counted() {
        let [(mut one, _events, here), _] = pair();
        one.add(PeerConfig { passive: true, ..here.clone() }).await;
        let address = SocketAddr::new(ADDRESSES[0], here.port);
        let mut stranger = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut buffer = [0; 1];
        let read = tokio::io::AsyncReadExt::read(&mut stranger, &mut buffer);
        assert!(matches!(timeout(Duration::from_secs(5), read).await.unwrap(), Ok(0) | Err(_)));
        assert_eq!(one.refused(), Refused { unknown_peer: 1, ..Refused::default() });
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused_naming_address_port_and_remedy() {
        let first = Listener::bind(&[SocketAddr::new(ADDRESSES[0], 0)]).unwrap();
        let error = Listener::bind(&first.addresses()).unwrap_err();
        assert!(matches!(error, ListenError::Busy(_)));
        let port = first.addresses()[0].port().to_string();
        for word in ["127.0.0.1", &port, "stop the other BGP daemon"] {
            assert!(error.to_string().contains(word), "{error}");
        }
        let nowhere = Listener::bind(&["192.0.2.1:179".parse().unwrap()]).unwrap_err();
        assert!(nowhere.to_string().contains("assign it first"), "{nowhere}");
    }
}
