//! The machine's table, every state against every event, and the session's rules over virtual time.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::wire::{
    Context, DecodedUpdate, Open, encode_keepalive, encode_notification, encode_open, encode_update,
};
use super::super::{AsPath, Asn, PathAttributes, PeerId, Seconds};
use super::*;
use proptest::prelude::*;

mod agreed;
mod gates;
mod second_call;
mod silent_calls;

const EVENTS: [&str; 19] = [
    "Start",
    "Stop",
    "CarrierLost",
    "Reset",
    "Overflow",
    "IdleHold",
    "ConnectRetry",
    "Hold",
    "SendHold",
    "KeepaliveTimer",
    "Connected",
    "Lost",
    "Open",
    "Fault",
    "Collision",
    "Notification",
    "Unwanted",
    "Keepalive",
    "Update",
];

/// RFC 4271 section 8.2.2 as a table: one row for each event, one column for each state; a cell is the next state's first letters and
/// what is done: C connect, O open, K keepalive, N notification, X close, U up, R routes delivered, F refresh delivered, D down.
const TABLE: &str = "
event           Idle      Connect    Active     OpenSent   OpenConf   Estab
Start           Conn/C    Conn/      Acti/      Sent/      Conf/      Esta/
Stop            Idle/     Idle/XD    Idle/D     Idle/NXD   Idle/NXD   Idle/NXD
CarrierLost     Idle/     Idle/XD    Idle/D     Idle/NXD   Idle/NXD   Idle/NXD
Reset           Idle/     Conn/      Acti/      Idle/NXD   Idle/NXD   Idle/NXD
Overflow        Idle/     Conn/      Acti/      Idle/NXD   Idle/NXD   Idle/NXD
IdleHold        Conn/C    Idle/X     Idle/      Sent/      Conf/      Esta/
ConnectRetry    Idle/     Conn/DXC   Conn/C     Sent/      Conf/      Esta/
Hold            Idle/     Idle/X     Idle/      Idle/NXD   Idle/NXD   Idle/NXD
SendHold        Idle/     Idle/X     Idle/      Idle/NXD   Idle/NXD   Idle/NXD
KeepaliveTimer  Idle/     Idle/X     Idle/      Sent/      Conf/K     Esta/K
Connected       Idle/     Sent/O     Sent/      Sent/      Conf/      Esta/
Lost            Idle/     Acti/D     Acti/      Acti/XD    Idle/XD    Idle/XD
Open            Idle/     Idle/X     Idle/      Conf/K     Idle/NXD   Idle/NXD
Fault           Idle/     Idle/X     Idle/      Idle/NXD   Idle/NXD   Idle/NXD
Collision       Idle/     Idle/X     Idle/      Idle/NX    Idle/NX    Idle/NX
Notification    Idle/     Idle/X     Idle/      Idle/XD    Idle/XD    Idle/XD
Unwanted        Idle/     Idle/X     Idle/      Acti/XD    Acti/XD    Idle/XD
Keepalive       Idle/     Idle/X     Idle/      Idle/NXD   Esta/U     Esta/
Update          Idle/     Idle/X     Idle/      Idle/NXD   Idle/NXD   Esta/R
RouteRefresh    Idle/     Idle/X     Idle/      Idle/NXD   Idle/NXD   Esta/F
";

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn config() -> PeerConfig {
    let router_id = Ipv4Addr::new(10, 0, 0, 2);
    let addresses = ([198, 18, 0, 1].into(), [198, 18, 0, 2].into());
    let config = PeerConfig::new(PeerId(3), (Asn(65_000), Asn(12_076)), router_id, addresses.0, addresses.1);
    PeerConfig { hold: Seconds(90), ..config }
}

/// The OPEN of the peer that `config` expects, identifier above or below ours.
fn their_open(router_id: [u8; 4]) -> Open {
    Open { asn: Asn(12_076), router_id: router_id.into(), hold: Seconds(180), ..open::ours(&config()) }
}

fn agreed() -> Box<Agreed> {
    Box::new(open::negotiate(&config(), &their_open([10, 0, 0, 1]), config().local).unwrap())
}

fn event(name: &str) -> Event {
    let notification = Notification::new(6, 4);
    match name {
        "Start" => Event::Start,
        "Stop" => Event::Stop(notification),
        "CarrierLost" => Event::CarrierLost,
        "Reset" => Event::Reset(notification),
        "Overflow" => Event::Overflow(notification, Duration::from_secs(60)),
        "IdleHold" => Event::IdleHoldExpired,
        "ConnectRetry" => Event::ConnectRetryExpired,
        "Hold" => Event::HoldExpired,
        "SendHold" => Event::SendHoldExpired,
        "KeepaliveTimer" => Event::KeepaliveExpired,
        "Connected" => Event::Connected,
        "Lost" => Event::Lost(Loss::Failed("reset".to_owned())),
        "Open" => Event::Open(agreed()),
        "Fault" => Event::Fault(Refusal { detail: "bad".to_owned(), notification }),
        "Collision" => Event::CollisionLost,
        "Notification" => Event::Notification(notification),
        // Cease/7: the peer keeps the connection that it has made, or is about to make.
        "Unwanted" => Event::Notification(Notification::new(6, 7)),
        "Keepalive" => Event::Keepalive,
        "Update" => Event::Update(DecodedUpdate::default()),
        "RouteRefresh" => Event::RouteRefresh(Some(Refresh::Request(Family::Ipv6Unicast))),
        other => panic!("no event {other}"),
    }
}

fn machine_in(state: State) -> Machine {
    let mut machine = Machine { state, ..Machine::new() };
    if !matches!(state, State::Idle | State::Active) {
        machine.conn = Some(ConnId(7));
    }
    if matches!(state, State::OpenConfirm | State::Established) {
        machine.agreed = Some(agreed());
    }
    machine
}

fn outcome(state: State, event: Event) -> String {
    let (config, mut backoff, mut ids, mut effects) = (config(), Backoff::new(1), 7, Vec::new());
    let mut machine = machine_in(state);
    let env =
        &mut Env { config: &config, now: at(1), backoff: &mut backoff, ids: &mut ids, effects: &mut effects };
    machine.step(event, env);
    let done: String = effects
        .iter()
        .map(|effect| match effect {
            Effect::Connect(_) => 'C',
            Effect::Send(_, message) => match message[18] {
                1 => 'O',
                3 => 'N',
                4 => 'K',
                other => panic!("message type {other}"),
            },
            Effect::Close(_) => 'X',
            Effect::Up(_) => 'U',
            Effect::Update(_) => 'R',
            Effect::Refresh(_) => 'F',
            Effect::Down(..) => 'D',
        })
        .collect();
    let next = match machine.state {
        State::Idle => "Idle",
        State::Connect => "Conn",
        State::Active => "Acti",
        State::OpenSent => "Sent",
        State::OpenConfirm => "Conf",
        State::Established => "Esta",
    };
    format!("{next}/{done}")
}

#[test]
fn every_state_reacts_to_every_event_as_the_table_says() {
    let states =
        [State::Idle, State::Connect, State::Active, State::OpenSent, State::OpenConfirm, State::Established];
    let mut rows = 0;
    for line in TABLE.trim().lines().skip(1) {
        let (name, cells) = line.split_once(' ').unwrap();
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), states.len(), "{line}");
        for (state, cell) in states.iter().zip(cells) {
            assert_eq!(outcome(*state, event(name)), cell, "{name} in {state}");
        }
        rows += 1;
    }
    assert_eq!(rows, EVENTS.len() + 1, "every event has a row");
}

#[test]
fn a_passive_peer_is_waited_for_and_never_dialled() {
    let mut session = Session::new(PeerConfig { passive: true, ..config() }, 1);
    session.handle_start(at(0));
    assert_eq!(
        (session.state(), session.poll_action(), session.poll_deadline()),
        (State::Active, None, None)
    );
    let conn = session.handle_accepted(at(1));
    assert!(matches!(session.poll_action(), Some(Action::Send(to, _)) if to == conn));
    assert_eq!(session.state(), State::OpenSent);
}

/// A session on one end of a connection that works, driven by hand.
struct Bench {
    session: Session,
    now: Moment,
}

impl Bench {
    fn new(config: PeerConfig) -> Self {
        let mut bench = Self { session: Session::new(config, 1), now: at(0) };
        bench.session.handle_start(bench.now);
        bench
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.session.poll_action()).collect()
    }

    /// Our own connection, up to OpenSent.
    fn dial(&mut self) -> ConnId {
        let actions = self.actions();
        let [.., Action::Connect(conn)] = actions[..] else { panic!("{actions:?}") };
        self.session.handle_connected(self.now, conn);
        conn
    }

    fn hear(&mut self, conn: ConnId, message: &[u8]) {
        self.session.handle_bytes(self.now, conn, message);
    }

    fn establish(mut self) -> (Self, ConnId) {
        let conn = self.dial();
        self.hear(conn, &encode_open(&their_open([10, 0, 0, 1])).unwrap());
        self.hear(conn, &encode_keepalive());
        assert_eq!(self.session.state(), State::Established);
        self.actions();
        (self, conn)
    }

    /// Lets time pass, firing timers as a driver would.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(deadline) = self.session.poll_deadline().filter(|&deadline| deadline <= end) {
            self.now = deadline.max(self.now);
            self.session.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn down(&mut self) -> Option<DownReason> {
        self.actions().into_iter().find_map(|action| match action {
            Action::Tell(PeerEvent::Down { reason, .. }) => Some(reason),
            _ => None,
        })
    }
}

fn sent(actions: &[Action], conn: ConnId) -> Vec<&[u8]> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(to, message) if *to == conn => Some(&message[..]),
            _ => None,
        })
        .collect()
}

#[test]
fn the_lower_hold_time_wins_and_keepalives_come_at_a_third_of_it() {
    let (mut bench, conn) = Bench::new(config()).establish();
    assert_eq!(bench.session.facts().unwrap().hold, Seconds(90));
    for _ in 0..20 {
        bench.pass(23);
        bench.hear(conn, &encode_keepalive());
    }
    assert_eq!(bench.session.state(), State::Established, "the peer was heard in time");
    let actions = bench.actions();
    let keepalives = sent(&actions, conn).len();
    // 460 s at 22.5 to 30 s each.
    assert!((15..=21).contains(&keepalives), "{keepalives}");
}

#[test]
fn silence_for_the_hold_time_ends_the_session_with_a_notification() {
    let (mut bench, conn) = Bench::new(config()).establish();
    bench.pass(89);
    assert_eq!(bench.session.state(), State::Established);
    bench.pass(1);
    assert_eq!(bench.session.state(), State::Idle);
    let actions = bench.actions();
    assert_eq!(sent(&actions, conn).last(), Some(&&encode_notification(&Notification::hold_expired())[..]));
    assert!(actions.contains(&Action::Close(conn)));
    assert!(
        matches!(actions.last(), Some(Action::Tell(PeerEvent::Down { reason: DownReason::HoldExpired { hold, .. }, .. })) if hold.0 == 90)
    );
}

#[test]
fn hold_time_zero_needs_no_keepalives_ever() {
    let (mut bench, conn) = Bench::new(PeerConfig { hold: Seconds(0), ..config() }).establish();
    assert_eq!(bench.session.poll_deadline(), None);
    bench.pass(100_000);
    assert_eq!(bench.session.state(), State::Established);
    assert!(sent(&bench.actions(), conn).is_empty());
}

/// In every state but Established a silent peer is waited for with a timer, whatever hold time it wants.
#[test]
fn rfc4271_8_2_2_a_peer_that_falls_silent_before_the_session_is_up_is_given_up_after_four_minutes_at_most() {
    for hold in [0, 90] {
        for stage in ["Connect", "OpenSent", "OpenConfirm"] {
            let mut bench = Bench::new(PeerConfig { hold: Seconds(hold), ..config() });
            if stage != "Connect" {
                let conn = bench.dial();
                if stage == "OpenConfirm" {
                    bench.hear(conn, &encode_open(&their_open([10, 0, 0, 1])).unwrap());
                }
            }
            assert_eq!(bench.session.state().to_string(), stage, "hold time {hold}");
            bench.actions();
            bench.pass(if stage == "OpenConfirm" && hold > 0 { u64::from(hold) } else { 240 });
            let reason = bench.down().map(|reason| reason.to_string()).unwrap_or_default();
            let words = match (stage, hold) {
                ("Connect", _) => "no answer",
                ("OpenSent", _) => "no OPEN within 240 s",
                (_, 0) => "no KEEPALIVE within 240 s",
                _ => "nothing heard for 90 s",
            };
            assert!(reason.contains(words), "{stage}, hold time {hold}: {reason:?}");
        }
    }
}

#[test]
fn the_last_error_has_its_time() {
    let (mut bench, conn) = Bench::new(config()).establish();
    assert_eq!(bench.session.last_error_at(), None);
    bench.now = at(7);
    bench.session.handle_lost(bench.now, conn, Loss::Failed("reset".to_owned()));
    bench.now = at(8);
    assert_eq!(bench.session.last_error_at(), Some(at(7)));
    let mut gated = Bench::new(config());
    gated.session.handle_close(at(9), Gate::Carrier, "");
    assert_eq!(gated.session.last_error_at(), Some(at(9)));
}

#[test]
fn a_stalled_driver_that_reads_first_keeps_the_session() {
    let (mut bench, conn) = Bench::new(config()).establish();
    bench.now = at(500);
    bench.hear(conn, &encode_keepalive());
    bench.session.handle_timeout(bench.now);
    assert_eq!(bench.session.state(), State::Established);
    // Likewise when the controller kept the driver from reading.
    bench.now = at(1000);
    bench.session.handle_deaf(bench.now);
    bench.session.handle_timeout(bench.now);
    assert_eq!(bench.session.state(), State::Established);
    assert!(bench.session.poll_deadline() > Some(at(1000)));
}

#[test]
fn a_peer_that_reads_nothing_for_eight_minutes_is_given_up() {
    let (mut bench, conn) = Bench::new(config()).establish();
    bench.session.handle_write_blocked(bench.now, conn);
    for _ in 0..5 {
        bench.pass(80);
        bench.hear(conn, &encode_keepalive());
        bench.session.handle_write_blocked(bench.now, conn);
    }
    assert_eq!(bench.session.state(), State::Established, "400 s");
    bench.pass(80);
    assert_eq!(bench.session.state(), State::Idle);
    assert!(matches!(bench.down(), Some(DownReason::SendBlocked { .. })));

    let (mut bench, conn) = Bench::new(config()).establish();
    bench.session.handle_write_blocked(bench.now, conn);
    bench.session.handle_write_progress(conn);
    for _ in 0..10 {
        bench.pass(80);
        bench.hear(conn, &encode_keepalive());
    }
    assert_eq!(bench.session.state(), State::Established, "one byte read stops the timer");
}

#[test]
fn refused_connects_are_retried_after_one_second_and_never_later_than_thirty() {
    let mut bench = Bench::new(config());
    let mut waits = Vec::new();
    for _ in 0..9 {
        let actions = bench.actions();
        let Some(Action::Connect(conn)) = actions.last() else { panic!("{actions:?}") };
        bench.session.handle_lost(bench.now, *conn, Loss::Failed("refused".to_owned()));
        assert_eq!(bench.session.state(), State::Active, "the peer's own connection is welcome meanwhile");
        let deadline = bench.session.poll_deadline().unwrap();
        waits.push(deadline - bench.now);
        bench.actions();
        (bench.now, _) = (deadline, bench.session.handle_timeout(deadline));
    }
    assert!(waits[0] <= Duration::from_secs(1) && waits[1] <= Duration::from_secs(2), "{waits:?}");
    assert!(waits[8] > Duration::from_secs(22) && waits[8] <= Duration::from_secs(30), "{waits:?}");
    bench.session.handle_lost(bench.now, ConnId(10), Loss::Failed("refused".to_owned()));
}

#[test]
fn a_link_that_is_back_ends_every_wait() {
    let mut bench = Bench::new(config());
    let [Action::Connect(conn)] = bench.actions()[..] else { panic!() };
    bench.session.handle_lost(bench.now, conn, Loss::Failed("no carrier".to_owned()));
    bench.actions();
    bench.session.handle_hurry(bench.now);
    bench.session.handle_timeout(bench.now);
    assert!(matches!(bench.actions()[..], [Action::Connect(_)]));
}

#[test]
fn an_unanswered_connect_is_given_up_after_five_seconds_with_a_hint_at_md5() {
    let mut bench = Bench::new(PeerConfig { md5: Some("key".to_owned()), ..config() });
    bench.actions();
    bench.pass(5);
    let actions = bench.actions();
    let [Action::Tell(PeerEvent::Down { reason, .. }), Action::Close(old), Action::Connect(new)] =
        &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert!(reason.to_string().contains("MD5") && old != new, "{reason}");
}

#[test]
fn an_open_that_cannot_be_accepted_is_refused_with_its_subcode_and_a_remedy() {
    let good = their_open([10, 0, 0, 1]);
    let rows: [(&str, Open, u8, &str); 6] = [
        ("wrong AS", Open { asn: Asn(64_512), ..good.clone() }, 2, "configured is AS12076"),
        ("AS above 16 bits", Open { asn: Asn(4_200_000_000), ..good.clone() }, 2, "AS4200000000"),
        ("no identifier", Open { router_id: Ipv4Addr::UNSPECIFIED, ..good.clone() }, 3, "0.0.0.0"),
        ("hold 1", Open { hold: Seconds(1), ..good.clone() }, 6, "3 s is the minimum"),
        ("hold 2", Open { hold: Seconds(2), ..good.clone() }, 6, "3 s is the minimum"),
        ("no common family", Open { families: vec![], ..good.clone() }, 7, "same ones on both sides"),
    ];
    for (name, open, subcode, words) in rows {
        // A peer that names no family at all speaks IPv4, so "none in common" needs a side without it.
        let families = vec![Family::Ipv6Unicast];
        let config = if subcode == 7 { PeerConfig { families, ..config() } } else { config() };
        let mut bench = Bench::new(config);
        let conn = bench.dial();
        bench.actions();
        bench.hear(conn, &encode_open(&open).unwrap());
        let actions = bench.actions();
        let told = sent(&actions, conn)[0].to_vec();
        assert_eq!(&told[18..21], [3, 2, subcode], "{name}");
        let Some(Action::Tell(PeerEvent::Down { reason, .. })) = actions.last() else {
            panic!("{name}: {actions:?}")
        };
        assert!(reason.to_string().contains(words), "{name}: {reason}");
        assert_eq!(bench.session.state(), State::Idle);
        assert!(bench.session.poll_deadline().is_some(), "{name}: it tries again");
    }
}

#[test]
fn our_own_identifier_is_refused_inside_our_as_and_accepted_outside() {
    let ours = config().router_id;
    let outside = Open { router_id: ours, ..their_open([0; 4]) };
    assert!(open::negotiate(&config(), &outside, config().local).is_ok(), "RFC 6286 section 2.2");
    let inside = PeerConfig { remote_asn: Asn(65_000), ..config() };
    let refusal = open::negotiate(&inside, &Open { asn: Asn(65_000), ..outside }, inside.local).unwrap_err();
    assert_eq!((refusal.notification.code, refusal.notification.subcode), (2, 3));
}

/// Ours is 10.0.0.2: against .1 our connection stays, against .3 the peer's does (RFC 4271 section 6.8), whichever OPEN comes first.
#[test]
fn of_two_connections_the_one_made_by_the_higher_identifier_stays() {
    for (theirs, ours_stays) in [([10, 0, 0, 1], true), ([10, 0, 0, 3], false)] {
        for ours_first in [true, false] {
            let mut bench = Bench::new(config());
            let ours = bench.dial();
            let made = bench.session.handle_accepted(bench.now);
            bench.actions();
            let open = encode_open(&their_open(theirs)).unwrap();
            let (first, second) = if ours_first { (ours, made) } else { (made, ours) };
            bench.hear(first, &open);
            bench.hear(second, &open);
            let (stays, goes) = if ours_stays { (ours, made) } else { (made, ours) };
            let actions = bench.actions();
            assert!(actions.contains(&Action::Close(goes)), "{theirs:?} {ours_first}: {actions:?}");
            assert!(!actions.contains(&Action::Close(stays)), "{theirs:?} {ours_first}: {actions:?}");
            let cease = encode_notification(&Notification::cease(Cease::CollisionResolution, ""));
            assert_eq!(sent(&actions, goes).last(), Some(&&cease[..]));
            bench.hear(stays, &encode_keepalive());
            assert_eq!(bench.session.state(), State::Established);
            let told = bench.actions();
            assert!(matches!(told[..], [Action::Tell(PeerEvent::Established { .. })]), "{told:?}");
        }
    }
}

#[test]
fn the_first_connection_to_be_established_ends_an_unfinished_other() {
    let mut bench = Bench::new(config());
    let actions = bench.actions();
    let [Action::Connect(dialling)] = actions[..] else { panic!("{actions:?}") };
    let made = bench.session.handle_accepted(bench.now);
    bench.hear(made, &encode_open(&their_open([10, 0, 0, 1])).unwrap());
    bench.hear(made, &encode_keepalive());
    assert_eq!(bench.session.state(), State::Established);
    assert!(bench.actions().contains(&Action::Close(dialling)), "our own attempt is not needed any more");
    bench.session.handle_connected(bench.now, dialling);
    assert_eq!(bench.actions(), [Action::Close(dialling)], "and is closed should it have come through");
}

#[test]
fn a_rival_takes_the_place_of_a_connection_that_failed_without_a_word_to_the_controller() {
    let mut bench = Bench::new(config());
    let ours = bench.dial();
    let made = bench.session.handle_accepted(bench.now);
    bench.actions();
    bench.session.handle_lost(bench.now, ours, Loss::Failed("reset".to_owned()));
    assert_eq!(bench.session.state(), State::OpenSent);
    bench.hear(made, &encode_open(&their_open([10, 0, 0, 3])).unwrap());
    bench.hear(made, &encode_keepalive());
    assert_eq!(bench.session.state(), State::Established);
    assert_eq!(bench.down(), None);
}

#[test]
fn a_stopped_session_says_why_and_stays_down() {
    let (mut bench, conn) = Bench::new(config()).establish();
    bench.session.handle_stop(bench.now, Cease::AdministrativeShutdown, "rack 7 moves");
    let actions = bench.actions();
    let cease = Notification::cease(Cease::AdministrativeShutdown, "rack 7 moves");
    // Both sides keep routes over a NOTIFICATION (RFC 8538), so one that is meant for good is inside a Hard Reset.
    assert_eq!(sent(&actions, conn), [encode_notification(&cease.hard_reset())]);
    assert_eq!(bench.session.poll_deadline(), None);
    bench.session.handle_accepted(at(9));
    assert_eq!(bench.session.state(), State::Idle);
}

#[test]
fn routes_meant_for_an_earlier_session_are_not_sent() {
    let (mut bench, conn) = Bench::new(config()).establish();
    let update = Update { withdrawn: vec!["10.0.0.0/8".parse().unwrap()], ..Update::default() };
    for (number, messages) in [(0, 0), (1, 1), (2, 0)] {
        bench.session.send(bench.now, number, &update).unwrap();
        assert_eq!(sent(&bench.actions(), conn).len(), messages, "session {number}");
    }
    assert_eq!((bench.session.counters().withdrawn_out, bench.session.counters().unsent), (1, 2));
}

#[test]
fn a_bad_attribute_withdraws_its_routes_and_the_session_lives() {
    let (mut bench, conn) = Bench::new(config()).establish();
    let next_hop = [198, 18, 0, 2].into();
    let attributes =
        PathAttributes { as_path: AsPath::sequence([12_076]), ..PathAttributes::originated(next_hop) };
    let announced = vec!["13.64.0.0/11".parse().unwrap()];
    let update =
        Update { announced: announced.clone(), attributes: Some(attributes.into()), ..Update::default() };
    let context = Context { four_octet_asn: true, families: vec![Family::Ipv4Unicast], ..Context::default() };
    let mut message = encode_update(&update, &context).unwrap().remove(0);
    // ORIGIN is the first attribute: flags, type, length, value.
    assert_eq!(message[23..26], [0x40, 1, 1]);
    message[26] = 9;
    bench.hear(conn, &message);
    let actions = bench.actions();
    let [Action::Note(faulty), Action::Tell(PeerEvent::Update { update, .. })] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (faulty.kind, &update.withdrawn, update.announced.len()),
        (FaultKind::TreatAsWithdraw, &announced, 0)
    );
    assert_eq!((&faulty.prefixes, &faulty.message), (&announced, &message));
    assert_eq!(bench.session.state(), State::Established);
}

/// An UPDATE of 20.0.0.0/8 with these attributes before NEXT_HOP.
fn update_with(attributes: &[&[u8]]) -> Vec<u8> {
    const NEXT_HOP: &[u8] = &[0x40, 3, 4, 198, 18, 0, 2];
    let attributes = [attributes.concat(), NEXT_HOP.to_vec()].concat();
    let length = (19 + 4 + attributes.len() + 2) as u16;
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&[2, 0, 0]);
    message.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    message.extend_from_slice(&attributes);
    message.extend_from_slice(&[8, 20]);
    message
}

#[test]
fn rfc7606_6_every_reaction_to_a_faulty_update_is_counted_and_shown_with_prefixes_and_message() {
    const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
    const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0x2f, 0x2c];
    let rows: [(&str, Vec<&[u8]>, FaultKind, &str); 5] = [
        ("ORIGIN 20", vec![&[0x40, 1, 1, 20], AS_PATH], FaultKind::TreatAsWithdraw, "20.0.0.0/8"),
        ("no ORIGIN", vec![AS_PATH], FaultKind::TreatAsWithdraw, "20.0.0.0/8"),
        (
            "ATOMIC_AGGREGATE of 1",
            vec![ORIGIN, AS_PATH, &[0x40, 6, 1, 0]],
            FaultKind::AttributeDiscard,
            "20.0.0.0/8",
        ),
        (
            "multicast routes",
            vec![ORIGIN, AS_PATH, &[0x80, 14, 6, 0, 1, 2, 1, 9, 9]],
            FaultKind::AfiSafiDisable,
            "20.0.0.0/8",
        ),
        ("MP_REACH cut", vec![ORIGIN, AS_PATH, &[0x80, 14, 4, 0, 2, 1, 16]], FaultKind::SessionReset, ""),
    ];
    for (name, attributes, kind, prefixes) in rows {
        let (mut bench, conn) = Bench::new(config()).establish();
        let message = update_with(&attributes);
        bench.hear(conn, &message);
        let actions = bench.actions();
        let Some(Action::Note(faulty)) = actions.first() else { panic!("{name}: {actions:?}") };
        assert_eq!((faulty.kind, faulty.prefixes_text().as_str()), (kind, prefixes), "{name}");
        assert_eq!(faulty.message, message, "{name}");
        for other in FaultKind::ALL {
            let count = bench.session.counters().faults(other);
            assert_eq!(count, u64::from(other == kind), "{name}: {}", other.as_str());
        }
        assert_eq!(bench.session.state() == State::Established, kind != FaultKind::SessionReset, "{name}");
    }
}

proptest! {
    /// Whatever arrives, cut anywhere, at any stage of a session: no panic, and no state the machine does not know how to leave.
    #[test]
    fn arbitrary_bytes_never_panic(
        stage in 0..3, chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 1..20),
    ) {
        let mut bench = Bench::new(config());
        let conn = bench.dial();
        if stage > 0 {
            bench.hear(conn, &encode_open(&their_open([10, 0, 0, 1])).unwrap());
        }
        if stage > 1 {
            bench.hear(conn, &encode_keepalive());
        }
        for (framed, body) in chunks {
            let mut message = body;
            if framed && message.len() > 1 {
                let kind = message[0] % 6;
                message[0] = kind;
                let mut header = vec![0xff; 16];
                header.extend_from_slice(&(message.len() as u16 + 18).to_be_bytes());
                header.append(&mut message);
                message = header;
            }
            bench.hear(conn, &message);
        }
        bench.actions();
        let waits = bench.session.poll_deadline().is_some();
        prop_assert!(waits, "{} has a way on", bench.session.state());
    }
}
