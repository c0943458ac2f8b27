//! The driver by hand: what it makes of its sockets and of a clock that has gone on without it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::super::{Asn, Cease, Family, PeerId, Seconds, State, wire};
use super::*;

const HOLD: Seconds = Seconds(90);

fn config(asns: [u32; 2], id: u8) -> PeerConfig {
    let address = |host: u8| IpAddr::V4(Ipv4Addr::new(198, 18, 0, host));
    let router_id = Ipv4Addr::new(198, 18, 0, id);
    let asns = (Asn(asns[0]), Asn(asns[1]));
    let config = PeerConfig::new(PeerId(0), asns, router_id, address(id), address(3 - id));
    PeerConfig { hold: HOLD, families: vec![Family::Ipv4Unicast], ..config }
}

/// An established session, as one process hands it to another.
fn state() -> SessionState {
    let now = Moment(Duration::from_secs(1));
    let mut sessions = [
        Session::new(config([65_001, 65_002], 1), 1),
        Session::new(PeerConfig { passive: true, ..config([65_002, 65_001], 2) }, 2),
    ];
    sessions.iter_mut().for_each(|session| session.handle_start(now));
    let Some(Action::Connect(dialled)) = sessions[0].poll_action() else { panic!("it does not connect") };
    let conns = [dialled, sessions[1].handle_accepted(now)];
    sessions[0].handle_connected(now, dialled);
    let mut said = true;
    while std::mem::take(&mut said) {
        for side in [0, 1] {
            while let Some(action) = sessions[side].poll_action() {
                if let Action::Send(_, bytes) = action {
                    said = true;
                    sessions[1 - side].handle_bytes(now, conns[1 - side], &bytes);
                }
            }
        }
    }
    sessions[0].hand_over(now).expect("established")
}

/// A driver of an established session, and the peer's end of its connection.
fn established() -> (Driver, PeerHandle, std::net::TcpStream, mpsc::Receiver<PeerEvent>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let handed = Handed { state: state(), stream: ours, unwritten: Vec::new() };
    let resumed = resume(config([65_001, 65_002], 1), 1, handed).unwrap();
    let (events_in, events) = mpsc::channel(64);
    let (handle, _, mut driver) = driver(resumed.session, resumed.start, vec![resumed.link], events_in);
    // Its KEEPALIVE is due at once.
    driver.check_time();
    driver.act();
    (driver, handle, theirs, events)
}

/// The clock goes on, and nobody else does: what a process sees that was stopped.
fn stop_for(driver: &mut Driver, length: Duration) {
    driver.start -= length;
}

#[tokio::test]
async fn what_has_arrived_while_the_process_was_stopped_is_read_before_the_hold_timer_is_judged() {
    let (mut driver, _handle, mut theirs, _events) = established();
    theirs.write_all(&wire::encode_keepalive()).unwrap();
    // The runtime has not looked at the socket since: it does so only when this task waits.
    std::thread::sleep(Duration::from_millis(20));
    stop_for(&mut driver, HOLD.duration() + Duration::from_secs(1));
    driver.check_time();
    assert_eq!(driver.session.state(), State::Established, "{:?}", driver.session.last_error());
    // Nothing has come since, and this time the peer is silent indeed.
    stop_for(&mut driver, HOLD.duration() + Duration::from_secs(1));
    driver.check_time();
    assert_eq!(driver.session.state(), State::Idle);
    assert!(
        driver.session.last_error().unwrap().contains("nothing heard for 90 s"),
        "{:?}",
        driver.session.last_error()
    );
}

#[tokio::test]
async fn a_connection_that_was_lost_while_the_process_was_stopped_is_not_called_silent() {
    let (mut driver, _handle, theirs, _events) = established();
    drop(theirs);
    std::thread::sleep(Duration::from_millis(20));
    stop_for(&mut driver, HOLD.duration() + Duration::from_secs(1));
    driver.check_time();
    assert!(driver.session.last_error().unwrap().contains("closed by the peer"));
}

#[tokio::test]
async fn connections_that_end_more_slowly_than_they_are_made_do_not_take_all_descriptors() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut driver, _handle, _theirs, _events) = established();
    // A session without graceful restart refuses second calls, and each lingers for a second.
    let mut calls = Vec::new();
    for _ in 0..40 {
        calls.push(std::net::TcpStream::connect(address).unwrap());
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(accepted).unwrap();
        driver.handle(Woken::Accepted(stream));
        driver.act();
    }
    assert!(driver.links.len() <= 3, "{} connections", driver.links.len());
    assert!(driver.lingering.len() <= lingering::OF_PEER_MAX, "{} linger", driver.lingering.len());
    assert!(!driver.lingering.is_empty(), "none has the time to deliver its last bytes");
    driver.session.handle_stop(driver.now(), Cease::PeerDeconfigured, "");
}

#[tokio::test]
async fn a_peer_that_says_more_than_the_controller_takes_is_not_read_and_is_read_again_when_it_has() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let handed = Handed { state: state(), stream: ours, unwritten: Vec::new() };
    let resumed = resume(config([65_001, 65_002], 1), 1, handed).unwrap();
    let (events_in, mut events) = mpsc::channel(1_024);
    let (_handle, _accepted, task) = resumed.task(events_in);
    // 32,000 prefixes of two octets in each message: each takes nine times as much as an event.
    let attributes =
        [&[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea][..], &[0x40, 3, 4, 198, 18, 0, 2]].concat();
    let nlri = [1, 0, 1, 128].repeat(16_000);
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&((23 + attributes.len() + nlri.len()) as u16).to_be_bytes());
    message.extend_from_slice(&[2, 0, 0, 0, attributes.len() as u8]);
    message.extend_from_slice(&attributes);
    message.extend_from_slice(&nlri);
    let sender = std::thread::spawn(move || {
        for _ in 0..200 {
            theirs.write_all(&message).unwrap();
        }
        theirs
    });
    let driving = tokio::spawn(task);
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if std::mem::replace(&mut last, events.len()) == events.len() && last > 0 {
            break;
        }
    }
    assert!(last < 20, "{last} events of 600 kB each wait");
    let mut prefixes = 0;
    while prefixes < 200 * 32_000 {
        let event = timeout(Duration::from_secs(20), events.recv()).await.expect("it goes on").unwrap();
        let PeerEvent::Update { update, .. } = event else { continue };
        prefixes += update.announced.len();
    }
    drop(sender.join());
    driving.abort();
}
