//! Clients of the control socket and of `/metrics` that ask without end, ask nothing or read nothing: the daemon's loop
//! turns on time, its memory stays what it was, and whoever asks in earnest is answered. The liveness signal for the service manager is the clock: the
//! loop sends it at its tenth of a second.

use std::{
    net::TcpStream,
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::control::{Request, Topic, client::Client};
use erdp_tests::{
    attacks::{self, ATTACKS, Attack, METRICS, OneCpu, Victim, scrape},
    edge::{self, Edge},
    failover::{
        LINKS, Place,
        peers::{self, Timers},
        sessions, until,
    },
    lab::{enter, netns::Namespace, plan},
    small::{SmallLab, established},
};
use nix::sys::signal::Signal;

const ROUTES: usize = 9_000;
/// A tenth of a second that may have just begun, the next one, and the most that a turn may take.
const LONGEST: Duration = Duration::from_millis(300);
/// The loop's clock.
const TURN: Duration = Duration::from_millis(100);
/// The most that a turn may be late.
const LATE_MOST: Duration = Duration::from_millis(100);
/// How long memory may take to be given back.
const GIVEN_BACK: Duration = Duration::from_secs(10);
/// Bytes by which the daemon may have grown besides a fifth of what it was.
const ROOM: u64 = 24 << 20;
const TIMERS: Timers = Timers { interval_ms: 50, multiplier: 3 };

/// A small lab in which one MSEE has many routes.
fn lab() -> Result<SmallLab> {
    let lab = SmallLab::up()?;
    let known = format!("  route {} blackhole;\n", plan::VNET_IPV4);
    let many: String =
        (0..ROUTES).map(|it| format!("  route 10.{}.{}.0/24 blackhole;\n", it / 250, it % 250)).collect();
    lab.edit_router("msee1", &known, &format!("{known}{many}"))?;
    lab.birdc("msee1", &["configure"])?;
    Ok(lab)
}

/// An edge whose service manager we are.
fn watched(edge: &Namespace, folder: &Path, text: &str) -> Result<(UnixDatagram, Edge)> {
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let config = folder.join("edge.toml");
    std::fs::write(&config, format!("metrics = \"{METRICS}\"\n{text}"))?;
    let mut command = edge.command("sh")?;
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"]);
    // A word for each third of this, so at each turn of the loop's clock.
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "150000");
    Ok((socket, Edge::start_by(command, folder, &config)?))
}

/// The longest time between two liveness signals.
fn longest_silence(socket: &UnixDatagram, time: Duration) -> Duration {
    let (end, mut buffer) = (Instant::now() + time, [0; 512]);
    while socket.recv(&mut buffer).is_ok() {}
    let (mut heard, mut longest) = (Instant::now(), Duration::ZERO);
    while Instant::now() < end {
        if socket.recv(&mut buffer).is_ok_and(|len| buffer[..len].starts_with(b"WATCHDOG=1")) {
            longest = longest.max(heard.elapsed());
            heard = Instant::now();
        }
    }
    longest.max(heard.elapsed())
}

/// How late the machine wakes a thread that does nothing but wait, at most: what of the loop's lateness is not the loop's.
fn longest_oversleep(time: Duration) -> Duration {
    const NAP: Duration = Duration::from_millis(10);
    let (end, mut longest) = (Instant::now() + time, Duration::ZERO);
    while Instant::now() < end {
        let begin = Instant::now();
        thread::sleep(NAP);
        longest = longest.max(begin.elapsed().saturating_sub(NAP));
    }
    longest
}

/// Asks for the routes and reads none of them.
fn ask_and_read_nothing(socket: &Path) -> Result<UnixStream> {
    use std::io::Write as _;
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"{\"protocol\":1,\"request\":{\"show\":\"routes\"}}\n")?;
    Ok(stream)
}

/// Resident memory of a process in bytes.
fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse::<u64>()? * 1024)
}

#[test]
fn whatever_is_asked_the_loop_turns_on_time_and_memory_stays_what_it_was() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = lab()?;
    let text = edge::configuration().replacen("bandwidth", "sku = \"premium\"\nbandwidth", 1);
    let (socket, mut edge) = watched(lab.namespace("edge")?, lab.folder(), &text)?;
    established(&mut edge)?;
    let control = lab.folder().join("erdp.sock");
    let routes = |control: &Path| -> Result<usize> {
        let rows = Client::connect(control)?.ask(&Request::Show(Topic::Routes))?;
        rows.as_array().map(Vec::len).context("an array")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while routes(&control)? < ROUTES {
        ensure!(Instant::now() < deadline, "{} of {ROUTES} routes", routes(&control)?);
        thread::sleep(Duration::from_millis(100));
    }
    let process = edge.process().id();
    let (before, quiet) = (resident(process)?, longest_silence(&socket, Duration::from_secs(1)));
    let cpu = Arc::new(OneCpu::last());
    let name = lab.namespace("edge")?.name().to_owned();
    let mut attack = Attack::new(&cpu);
    for (threads, request) in
        [(4, Request::Show(Topic::Routes)), (2, Request::Show(Topic::Refused)), (1, Request::Metrics)]
    {
        let path = control.clone();
        attack.again(&name, threads, move || {
            Client::connect(&path)?.ask(&request)?;
            Ok(())
        })?;
    }
    attack.again(&name, 4, scrape)?;
    let path = control.clone();
    let (silence, served) = enter::run(&name, move || {
        let deaf: Vec<_> = (0..30).filter_map(|_| ask_and_read_nothing(&path).ok()).collect();
        let idle: Vec<_> = (0..200).filter_map(|_| TcpStream::connect(METRICS).ok()).collect();
        let silence = longest_silence(&socket, Duration::from_secs(5));
        let begin = Instant::now();
        scrape().context("a scrape beside idle connections")?;
        let served = begin.elapsed();
        drop((deaf, idle));
        Ok((silence, served))
    })?;
    let asked = attack.done();
    drop(attack);
    println!(
        "silence: {quiet:?} at rest, {silence:?} with {asked} answers in five seconds; a scrape takes {served:?}"
    );
    ensure!(silence <= LONGEST, "{silence:?} without a turn of the loop's clock");
    ensure!(asked > 10, "nobody has asked: {asked}");
    ensure!(served < Duration::from_secs(2), "a scrape takes {served:?}");
    let is_small = |now: u64| now <= before + before / 5 + ROOM;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_small(resident(process)?) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(200));
    }
    println!("memory: {} KiB before, {} KiB after", before >> 10, resident(process)? >> 10);
    ensure!(is_small(resident(process)?), "{before} bytes before, {} after", resident(process)?);
    ensure!(routes(&control)? >= ROUTES, "the routes are gone");
    Ok(())
}

#[test]
fn an_order_whose_command_was_killed_before_the_daemon_began_with_it_is_not_carried_out() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let mut edge = lab.edge(&edge::configuration())?;
    edge.process().signal(Signal::SIGSTOP)?;
    let mut order = edge.command(&["peering", "disable", "lab/private/primary", "--force", "--drain", "0s"]);
    let mut order = order.spawn()?;
    thread::sleep(Duration::from_millis(500));
    order.kill()?;
    order.wait()?;
    edge.process().signal(Signal::SIGCONT)?;
    thread::sleep(Duration::from_secs(1));
    let sessions = edge.show("sessions")?;
    ensure!(!sessions.contains("disabled"), "an order of nobody was carried out: {sessions}");
    Ok(())
}

/// An edge between two MSEEs that speak BFD at 50 ms x 3, and a customer's router that is in other hands.
struct Stand {
    edge: Edge,
    socket: UnixDatagram,
    victim: Victim,
    cpu: Arc<OneCpu>,
    /// Resident memory once everything was up, in bytes.
    at_rest: u64,
    _place: Place,
}

/// What is not to change.
#[derive(Debug, PartialEq, Eq)]
struct Peers {
    /// Peer, how often it came up, how often its deadline has passed.
    bfd: Vec<(String, u64, u64)>,
    /// Peer and state of the MSEEs' sessions.
    bgp: Vec<(String, String)>,
}

impl Stand {
    fn up(routes: usize) -> Result<Stand> {
        let mut place = Place::up(false)?;
        let prefixes = peers::prefixes(routes);
        for link in &LINKS {
            peers::start_bird(&mut place, link, TIMERS, &prefixes)?;
        }
        let text = peers::erdp_with_customer(TIMERS, 30, "").replacen(
            "bandwidth",
            "sku = \"premium\"\nbandwidth",
            1,
        );
        let (socket, edge) = watched(place.namespace("edge")?, place.folder(), &text)?;
        let victim = Victim {
            control: place.folder().join("erdp.sock"),
            edge: place.namespace("edge")?.name().to_owned(),
            customer: place.namespace("ce")?.name().to_owned(),
        };
        let cpu = Arc::new(OneCpu::last());
        let mut stand = Stand { edge, socket, victim, cpu, at_rest: 0, _place: place };
        until("all sessions", Duration::from_secs(60), || stand.is_up(routes))?;
        stand.at_rest = stand.resident()?;
        Ok(stand)
    }

    fn is_up(&mut self, routes: usize) -> Result<bool> {
        self.edge.must_run()?;
        if !self.edge.answers() {
            return Ok(false);
        }
        let bfd = sessions(&self.edge)?;
        let bgp = self.edge.sessions()?;
        let of_msees = bgp.iter().filter(|it| it.asn == 12_076);
        let is_up = |it: &edge::Session| {
            it.state == "Established" && (it.peer.contains(':') || it.received as usize > routes)
        };
        Ok(bfd.len() == 4
            && bfd.iter().all(|it| it.state == "Up" && it.interval_ms == f64::from(TIMERS.interval_ms))
            && of_msees.clone().count() == 4
            && of_msees.clone().all(is_up))
    }

    /// The sessions. Attackers that are root too may have filled root's places a moment ago.
    fn peers(&self) -> Result<Peers> {
        let mut found = None;
        until("an answer about sessions", Duration::from_secs(5), || {
            found = self.peers_now().ok();
            Ok(found.is_some())
        })?;
        found.context("an answer about sessions")
    }

    fn peers_now(&self) -> Result<Peers> {
        let bfd = sessions(&self.edge)?;
        let bgp = self.edge.sessions()?;
        Ok(Peers {
            bfd: bfd.into_iter().map(|it| (it.peer, it.ups, it.expired)).collect(),
            bgp: bgp.into_iter().filter(|it| it.asn == 12_076).map(|it| (it.peer, it.state)).collect(),
        })
    }

    fn resident(&mut self) -> Result<u64> {
        resident(self.edge.process().id())
    }

    /// Attacks for a while; what is measured is printed as a row, and what does not hold is an error.
    fn attacked(&mut self, name: &str, begins: &[attacks::Begin], time: Duration) -> Result<()> {
        let (peers, before) = (self.peers()?, self.resident()?);
        let mut attack = Attack::new(&self.cpu);
        for begin in begins {
            begin(&self.victim, &mut attack)?;
        }
        let idler = thread::spawn(move || longest_oversleep(time));
        let silence = longest_silence(&self.socket, time);
        let machine = idler.join().map_err(|_| anyhow::anyhow!("the idle thread has panicked"))?;
        let (done, failure, under) = (attack.done(), attack.failure(), self.resident()?);
        drop(attack);
        let deadline = Instant::now() + GIVEN_BACK;
        // An attack before this one may have had the daemon give back what it uses again now.
        let usual = before.max(self.at_rest);
        let is_small = |now: u64| now * 5 <= usual * 6;
        while !is_small(self.resident()?) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(200));
        }
        let after = self.resident()?;
        let late = silence.saturating_sub(TURN);
        println!(
            "{name}: {done} times in {} s; the loop at most {late:.1?} late (an idle thread {machine:.1?}); {} MiB before, {} under it, {} after",
            time.as_secs(),
            before >> 20,
            under >> 20,
            after >> 20
        );
        self.edge.must_run()?;
        ensure!(done > 0, "{name}: nobody has done anything: {failure}");
        ensure!(late <= LATE_MOST + machine, "{name}: the loop is {late:?} late, an idle thread {machine:?}");
        ensure!(is_small(after), "{name}: {before} bytes before, {after} after");
        let now = self.peers()?;
        ensure!(now == peers, "{name}: {peers:?} has become {now:?}");
        Ok(())
    }

    /// The customer's own session is taken within so long.
    fn takes_the_customer(&self, within: Duration) -> Result<()> {
        let begin = Instant::now();
        let name = self.victim.customer.clone();
        enter::run(&name, move || {
            until("the customer's session", within, || Ok(attacks::session().is_ok())).map(drop)
        })?;
        println!("the customer's own session: taken after {:.1?}", begin.elapsed());
        Ok(())
    }

    /// SIGSTOP for less than the hold time: the packet path answers BFD, and what came meanwhile is read before a timer is believed.
    fn stopped(&mut self, time: Duration) -> Result<()> {
        let before = self.peers()?;
        self.edge.process().signal(Signal::SIGSTOP)?;
        thread::sleep(time);
        self.edge.process().signal(Signal::SIGCONT)?;
        thread::sleep(Duration::from_secs(2));
        let after = self.peers()?;
        println!(
            "stopped for {} s: {} BFD and {} BGP sessions live",
            time.as_secs(),
            after.bfd.len(),
            after.bgp.len()
        );
        ensure!(after == before, "{before:?} has become {after:?}");
        Ok(())
    }
}

/// The silent calls and the memory come first: whoever has sent garbage from the peer's address, or has filled the memory, is let wait (RFC 4271
/// section 8.1.1, D2), and so is the peer whose address it is.
#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn under_each_attack_and_all_at_once_the_loop_is_on_time_bfd_stays_up_and_memory_returns() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(ROUTES)?;
    println!("attackers on {}", stand.cpu);
    let quiet = longest_silence(&stand.socket, Duration::from_secs(2));
    println!("at rest: the loop at most {:.1?} late", quiet.saturating_sub(TURN));
    let each = Duration::from_secs(10);
    for (name, begin) in ATTACKS {
        // What is allocated once is there before it is measured; but who has filled the memory once is let wait.
        if !name.contains("memory") {
            let mut attack = Attack::new(&stand.cpu);
            begin(&stand.victim, &mut attack)?;
            if name.contains("silent") {
                stand.takes_the_customer(Duration::from_secs(20))?;
            }
            thread::sleep(Duration::from_secs(2));
        }
        stand.attacked(name, &[*begin], each)?;
    }
    stand.stopped(Duration::from_secs(2))?;
    let all: Vec<attacks::Begin> = ATTACKS.iter().map(|(_, begin)| *begin).collect();
    stand.attacked("all of them at once", &all, Duration::from_secs(30))
}

#[test]
fn bfd_and_bgp_sessions_outlive_a_daemon_that_is_stopped_for_longer_than_bfds_detection_time() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    Stand::up(8)?.stopped(Duration::from_secs(2))
}

/// `ERDP_SOAK_SECONDS` says for how long; a minute otherwise.
#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn control_and_http_requests_without_end_take_no_more_memory() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let seconds = std::env::var("ERDP_SOAK_SECONDS").ok().map_or(Ok(60), |text| text.parse())?;
    let time = Duration::from_secs(seconds);
    let mut stand = Stand::up(100)?;
    let mut attack = Attack::new(&stand.cpu);
    for topic in [Topic::Links, Topic::Sessions, Topic::Circuits, Topic::Bfd] {
        let control = stand.victim.control.clone();
        attack.again(&stand.victim.edge, 1, move || {
            let mut client = Client::connect(&control)?;
            for _ in 0..100 {
                client.ask(&Request::Show(topic))?;
            }
            Ok(())
        })?;
    }
    let (controls, mut pages) = (attack, Attack::new(&stand.cpu));
    pages.again(&stand.victim.edge, 2, scrape)?;
    // A tenth of the time is for what is allocated once.
    thread::sleep(time / 10);
    let (before, asked) = (stand.resident()?, (controls.done(), pages.done()));
    let silence = longest_silence(&stand.socket, time - time / 10);
    let requests = (controls.done() - asked.0) * 100 + pages.done() - asked.1;
    let after = stand.resident()?;
    println!(
        "{requests} requests in {} s, {} a second; {} KiB before, {} after; the loop at most {:.1?} late",
        (time - time / 10).as_secs(),
        requests * 10 / (seconds * 9).max(1),
        before >> 10,
        after >> 10,
        silence.saturating_sub(TURN)
    );
    ensure!(requests > 1_000, "{requests} requests are none");
    // Sixteen requests a second that each leave an octet behind would be seen in an hour; here a tenth is noise.
    ensure!(after <= before + before / 10, "{before} bytes before, {after} after");
    Ok(())
}
