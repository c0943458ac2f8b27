//! What a customer's router may send that is odd, against a running `erdp`, and an MSEE that reads what comes of it: both speak by the
//! bytes that are written here.

use std::{
    fs,
    io::Read as _,
    net::{IpAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::{
    bgp::{Asn, Family, GracefulRestart, Seconds, wire},
    control::Topic,
};
use erdp_tests::{
    bench::{
        bgp::{
            receiver::Receiver,
            sender::Sender,
            stage::{self, Stage},
            stream,
        },
        routes::Version,
    },
    edge,
    hostile::corpus::to_hex,
};
use serde_json::Value;

const CUSTOMER: &str = "198.18.10.10";
const PATIENCE: Duration = Duration::from_secs(10);

const CONFIGURATION: &str = r#"
asn = 65010
metrics = "127.0.0.1:9179"
[[circuit]]
name = "x"
bandwidth = "1G"
primary = { local = "up0" }
secondary = { local = "up1" }
[circuit.private]
ipv4 = "198.18.0.0/29"
ipv6 = "fd00:18::/125"
passive = true
pass-attributes = [99]
[[attachment]]
interface = "ce0"
peerings = ["x/private"]
ipv4 = "198.18.10.1/24"
ipv6 = "fd00:10::1/64"
peers = [{ address = "198.18.10.10", asn = 65020, passive = true, families = ["ipv4", "ipv6"] }]
"#;

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
/// 65020.
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xfc];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 198, 18, 10, 10];

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() + wire::HEADER_BYTES) as u16;
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

fn update(attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    message(2, &[&[0, 0][..], &(attributes.len() as u16).to_be_bytes(), &attributes, nlri].concat())
}

/// What came over a session, message by message.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

fn listen(mut reader: TcpStream, heard: &Heard) {
    let mut header = [0; wire::HEADER_BYTES];
    while reader.read_exact(&mut header).is_ok() {
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut message = header.to_vec();
        message.resize(length, 0);
        if reader.read_exact(&mut message[wire::HEADER_BYTES..]).is_err() {
            return;
        }
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}

fn session(stage: &Stage, from: IpAddr, to: &str, open: &wire::Open) -> Result<(Sender, Heard)> {
    let heard = Heard::default();
    let to_fill = heard.clone();
    let sender =
        Sender::connect_and(&stage.sender, from, to.parse()?, open, move |reader| listen(reader, &to_fill))?;
    Ok((sender, heard))
}

fn customer(stage: &Stage) -> Result<(Sender, Heard)> {
    let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
    let restart = GracefulRestart {
        restarting: true,
        notification: false,
        time: Seconds(120),
        families: families.iter().map(|family| (*family, true)).collect(),
    };
    let open = wire::Open {
        asn: Asn(65_020),
        families,
        route_refresh: true,
        restart: Some(restart),
        ..stream::open(Version::V4, [198, 18, 10, 10])
    };
    session(stage, CUSTOMER.parse()?, "198.18.10.1", &open)
}

/// The flags of an attribute of the message that announces a prefix, as it stands on the wire.
fn flags(heard: &Heard, nlri: &[u8], code: u8) -> Option<u8> {
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let message = heard.iter().rev().find(|message| message[18] == 2 && message.ends_with(nlri))?;
    let end = 23 + usize::from(u16::from_be_bytes([message[21], message[22]]));
    let mut at = 23;
    while at < end {
        if message[at + 1] == code {
            return Some(message[at]);
        }
        at += 3 + usize::from(message[at + 2]);
    }
    None
}

/// Whether a withdrawal of an IPv4 prefix came.
fn is_withdrawn(heard: &Heard) -> bool {
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    heard.iter().any(|message| message[18] == 2 && message[19..21] != [0, 0])
}

fn until<T>(what: &str, mut done: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = done()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn metric(stage: &Stage, words: &[&str]) -> Result<Option<f64>> {
    use std::io::Write as _;
    let page = erdp_tests::lab::enter::run(stage.receiver.name(), || {
        let mut stream = TcpStream::connect("127.0.0.1:9179")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?;
    let line = page.lines().find(|line| words.iter().all(|word| line.contains(word)));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()))
}

/// The edge with a customer and an MSEE, both of whose messages are ours to write and to read.
struct Stand {
    edge: Receiver,
    peer: Sender,
    /// What the customer was sent.
    answers: Heard,
    /// What the MSEE was sent.
    told: Heard,
    msee: Sender,
    stage: Stage,
}

impl Stand {
    fn up() -> Result<Self> {
        Self::with(CONFIGURATION)
    }

    fn with(configuration: &str) -> Result<Self> {
        let stage = Stage::new()?;
        let edge = Receiver::erdp_with(&stage.receiver, &stage.folder, configuration)?;
        let families = vec![Family::Ipv4Unicast];
        let open = wire::Open { families, ..stream::open(Version::V4, [198, 18, 0, 2]) };
        let (msee, told) = session(&stage, stage::next_hop(0, Version::V4), "198.18.0.1", &open)?;
        let (peer, answers) = customer(&stage)?;
        Ok(Self { edge, peer, answers, told, msee, stage })
    }

    fn session(&self) -> Result<Value> {
        self.row(Topic::Sessions, |row| row["peer"] == CUSTOMER)?.context("the customer's session")
    }

    fn row(&self, topic: Topic, is_it: impl Fn(&Value) -> bool) -> Result<Option<Value>> {
        Ok(self.edge.ask(topic)?.as_array().into_iter().flatten().find(|row| is_it(row)).cloned())
    }
}

/// RFC 4271 sections 5 and 4.3.
#[test]
fn rfc4271_5_and_4_3_the_partial_bit_is_kept_and_unused_flag_bits_are_sent_as_zero() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut it = Stand::up()?;
    let rows: [(&str, &[u8], u8, u8); 4] = [
        ("COMMUNITIES with Partial", &[0xe0, 8, 4, 0xfd, 0xfc, 0, 7], 8, 0xe0),
        ("COMMUNITIES without", &[0xc0, 8, 4, 0xfd, 0xfc, 0, 8], 8, 0xc0),
        (
            "LARGE_COMMUNITIES with Partial",
            &[0xe7, 32, 12, 0, 0, 0xfd, 0xfc, 0, 0, 0, 1, 0, 0, 0, 2],
            32,
            0xe0,
        ),
        ("unknown with unused bits", &[0xc5, 99, 1, 0xaa], 99, 0xe0),
    ];
    for (number, (name, attribute, code, expected)) in (60u8..).zip(rows) {
        let nlri = [24, 198, 18, number];
        it.peer.send(&update(&[ORIGIN, AS_PATH, NEXT_HOP, attribute], &nlri))?;
        let found = until(name, || Ok(flags(&it.told, &nlri, code)))?;
        ensure!(found == expected, "{name}: sent on with {found:#04x} instead of {expected:#04x}");
    }
    // One that no list names is not Microsoft's, and the route is advertised without it.
    let nlri = [24, 198, 18, 70];
    it.peer.send(&update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 98, 3, 1, 0, 7]], &nlri))?;
    until("the route", || Ok(flags(&it.told, &nlri, 2)))?;
    ensure!(flags(&it.told, &nlri, 98).is_none(), "Microsoft is passed on attribute 98");
    let counted = ["erdp_session_stripped_announcements_total", "198.18.0.2"];
    ensure!(metric(&it.stage, &counted)? == Some(1.0), "{:?}", metric(&it.stage, &counted)?);
    Ok(())
}

/// Requirement D2. Each route has a set of attributes of its own that is nearly as long as a message.
#[test]
fn d2_an_msee_that_announces_more_than_its_memory_keeps_its_session_and_costs_no_more() -> Result<()> {
    const ROUTES: u16 = 2_000;
    const LIMIT_MIB: u64 = 16;
    if edge::skipped() {
        return Ok(());
    }
    let limit = format!("passive = true\nmax-memory-mib = {LIMIT_MIB}\npass-attributes");
    let mut it = Stand::with(&CONFIGURATION.replace("passive = true\npass-attributes", &limit))?;
    let of_msee =
        |it: &Stand| it.row(Topic::Sessions, |row| row["peer"] == "198.18.0.2")?.context("the MSEE");
    until("the MSEE's session", || Ok((of_msee(&it)?["state"] == "Established").then_some(())))?;
    let before_kib = it.edge.peak_kib()?;
    let (path, hop) = ([0x40, 2, 6, 2, 1, 0, 0, 0x2f, 0x2c], [0x40, 3, 4, 198, 18, 0, 2]);
    for number in 0..ROUTES {
        let [high, low] = number.to_be_bytes();
        let mut communities = vec![0xd0, 8, 0xda, 0xc0];
        communities.extend([0, 9, high, low].repeat(0xdac0 / 4));
        it.msee.send(&update(&[ORIGIN, &path, &hop, &communities], &[24, 30, high, low]))?;
    }
    let counted = until("all of it", || {
        let session = of_msee(&it)?;
        let judged = session["received"].as_u64().zip(session["surplus"].as_u64());
        Ok(judged.filter(|(received, surplus)| received + surplus == u64::from(ROUTES)))
    })?;
    let session = of_msee(&it)?;
    let more_kib = it.edge.peak_kib()? - before_kib;
    println!("{counted:?} of {ROUTES} routes received and refused, {more_kib} KiB more at most");
    ensure!(session["state"] == "Established" && session["sessions"] == 1, "{session}");
    ensure!(session["memory_bytes"].as_u64().is_some_and(|it| it <= LIMIT_MIB << 20), "{session}");
    ensure!(session["finding"].as_str().is_some_and(|it| it.contains("D2")), "{session}");
    ensure!(more_kib < 64 << 10, "{more_kib} KiB for a limit of {LIMIT_MIB} MiB");
    let refused = it.row(Topic::Refused, |row| row["rule"] == "D2" && row["peer"] == "198.18.0.2")?;
    ensure!(refused.is_some(), "`show refused` says nothing");
    Ok(())
}

/// RFC 7606 section 6.
#[test]
fn rfc7606_6_faulty_updates_are_logged_counted_and_shown() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut it = Stand::up()?;
    let bad = update(&[&[0x40, 1, 1, 2 + 7], AS_PATH, NEXT_HOP], &[24, 198, 18, 60]);
    it.peer.send(&bad)?;
    let is_it = |row: &Value| row["prefix"] == "198.18.60.0/24" && row["rule"] == "RFC 7606";
    let shown = until("the fault in `show refused`", || it.row(Topic::Refused, is_it))?;
    ensure!(shown["message"] == to_hex(&bad) && shown["fault"] == "treat-as-withdraw", "{shown}");
    it.peer.send(&update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 6, 1, 0]], &[24, 198, 18, 70]))?;
    let counted = until("both faults in `show sessions`", || {
        let session = it.session()?;
        let faults = &session["faults"];
        Ok((faults["treat-as-withdraw"] == 1 && faults["attribute-discard"] == 1).then_some(session))
    })?;
    ensure!(counted["state"] == "Established" && counted["last_fault_age_s"].is_u64(), "{counted}");
    let of_it = ["erdp_session_update_faults_total", CUSTOMER, "treat-as-withdraw"];
    ensure!(metric(&it.stage, &of_it)? == Some(1.0), "{:?}", metric(&it.stage, &of_it)?);
    let log = fs::read_to_string(it.stage.folder.join("erdp.log"))?;
    ensure!(log.contains("198.18.60.0/24") && log.contains(&to_hex(&bad)), "{log}");
    Ok(())
}

/// RFC 2545 section 3.
#[test]
fn rfc2545_3_of_two_next_hops_the_global_one_is_used() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut it = Stand::up()?;
    let global = "fd00:10::a".parse::<std::net::Ipv6Addr>()?.octets();
    let other = "fd00:10::b".parse::<std::net::Ipv6Addr>()?.octets();
    for (number, second) in [(1u8, [0; 16]), (2, other)] {
        let value = [&[0, 2, 1, 32][..], &global, &second, &[0, 40, 0xfd, 0x00, 0, 0x77, number]].concat();
        let mp = [&[0x80, 14, value.len() as u8][..], &value].concat();
        it.peer.send(&update(&[&mp, ORIGIN, AS_PATH], &[]))?;
        let prefix = format!("fd00:77:{:x}00::/40", number);
        let route = until(&prefix, || it.row(Topic::Routes, |row| row["prefix"] == prefix))?;
        ensure!(route["next_hops"] == serde_json::json!(["fd00:10::a"]), "{route}");
    }
    Ok(())
}

/// RFC 5291: never agreed on.
#[test]
fn rfc5291_a_filter_that_was_not_agreed_on_is_ignored() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut it = Stand::up()?;
    // Something to be told again comes from the MSEE; End-of-RIB is enough to see that the session lives.
    it.peer.send(&message(5, &[0, 1, 0, 1, 1, 0x40, 0xff, 0xff, 0]))?;
    it.peer.send(&update(&[ORIGIN, AS_PATH, NEXT_HOP], &[24, 198, 18, 71]))?;
    until("the route after the request", || it.row(Topic::Routes, |row| row["prefix"] == "198.18.71.0/24"))?;
    let heard = it.answers.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(!heard.iter().any(|message| message[18] == 3), "{heard:x?}");
    ensure!(it.session()?["state"] == "Established", "the session has ended");
    Ok(())
}

/// RFC 4724 section 4.2: the old connection stays open at our end, as after a restart that nobody has noticed.
#[test]
fn rfc4724_4_2_a_second_call_of_a_peer_with_graceful_restart_takes_the_place_of_its_session() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut it = Stand::up()?;
    for number in [60, 61] {
        it.peer.send(&update(&[ORIGIN, AS_PATH, NEXT_HOP], &[24, 198, 18, number]))?;
    }
    // One that is a moment old would wait for the call to be taken back.
    thread::sleep(Duration::from_secs(1));
    ensure!(it.session()?["received"] == 2, "{}", it.session()?);
    it.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let begin = Instant::now();
    let (mut new, _) = customer(&it.stage)?;
    ensure!(begin.elapsed() < Duration::from_secs(2), "the session came after {:?}", begin.elapsed());
    // The session is shown before the table has marked what it had.
    until("the second session, with all routes kept as stale", || {
        let session = it.session()?;
        let is_new = session["state"] == "Established" && session["sessions"] == 2;
        Ok((is_new && session["stale"] == 2).then_some(()))
    })?;
    new.send(&update(&[ORIGIN, AS_PATH, NEXT_HOP], &[24, 198, 18, 61]))?;
    ensure!(!is_withdrawn(&it.told), "the MSEE was told of a withdrawal");
    // End-of-RIB of both families: what was not told again is gone only now.
    new.send(&update(&[], &[]))?;
    new.send(&update(&[&[0x80, 15, 3, 0, 2, 1]], &[]))?;
    until("the end of what was not told again", || Ok(is_withdrawn(&it.told).then_some(())))?;
    let session = it.session()?;
    ensure!(session["stale"] == 0 && session["received"] == 1, "{session}");
    let age = session["last_error_age_s"].as_u64();
    ensure!(age.is_some_and(|age| age < 60), "the last error has no age: {session}");
    Ok(())
}
