//! Clients of the control socket and of `/metrics` that ask without end, ask nothing or read nothing: the daemon's loop turns on time, its
//! memory stays what it was, and whoever asks in earnest is answered. The liveness signal for the service manager is the clock: the loop sends
//! it at its tenth of a second.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::control::{Request, Topic, client::Client};
use erdp_tests::{
    edge::{self, Edge},
    lab::{enter, plan},
    small::{SmallLab, established},
};
use nix::sys::signal::Signal;

const METRICS: &str = "127.0.0.1:9179";
const ROUTES: usize = 9_000;
/// A tenth of a second that may have just begun, the next one, and the most that a turn may take.
const LONGEST: Duration = Duration::from_millis(300);
/// Bytes by which the daemon may have grown besides a fifth of what it was.
const ROOM: u64 = 24 << 20;

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
fn watched(lab: &SmallLab) -> Result<(UnixDatagram, Edge)> {
    let path = lab.folder().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let config = lab.folder().join("edge.toml");
    let text = edge::configuration().replacen("bandwidth", "sku = \"premium\"\nbandwidth", 1);
    std::fs::write(&config, format!("metrics = \"{METRICS}\"\n{text}"))?;
    let mut command = lab.namespace("edge")?.command("sh")?;
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"]);
    // A word for each third of this, so at each turn of the loop's clock.
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "150000");
    Ok((socket, Edge::start_by(command, lab.folder(), &config)?))
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

/// What attacks, until it is dropped.
struct Attack {
    end: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    fn new() -> Self {
        Self { end: Arc::default(), done: Arc::default(), threads: Vec::new() }
    }

    /// So many threads, each of which does something again and again.
    fn again(&mut self, threads: usize, act: impl Fn() -> Result<()> + Clone + Send + 'static) {
        for _ in 0..threads {
            let (end, done, act) = (self.end.clone(), self.done.clone(), act.clone());
            self.threads.push(thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    match act() {
                        Ok(()) => _ = done.fetch_add(1, Ordering::Relaxed),
                        Err(_) => thread::sleep(Duration::from_millis(10)),
                    }
                }
            }));
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that has panicked attacks no more.
            let _ = thread.join();
        }
    }
}

fn scrape() -> Result<()> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    ensure!(page.contains("erdp_uptime_seconds"), "no page");
    Ok(())
}

/// Asks for the routes and reads none of them.
fn ask_and_read_nothing(socket: &Path) -> Result<UnixStream> {
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
    let (socket, mut edge) = watched(&lab)?;
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
    let (silence, asked, served) = enter::run(lab.namespace("edge")?.name(), {
        let control = control.clone();
        move || {
            let mut attack = Attack::new();
            let path = control.clone();
            attack.again(4, move || {
                Client::connect(&path)?.ask(&Request::Show(Topic::Routes))?;
                Ok(())
            });
            let path = control.clone();
            attack.again(2, move || {
                Client::connect(&path)?.ask(&Request::Show(Topic::Refused))?;
                Client::connect(&path)?.ask(&Request::Metrics)?;
                Ok(())
            });
            attack.again(4, scrape);
            let deaf: Vec<_> = (0..30).filter_map(|_| ask_and_read_nothing(&control).ok()).collect();
            let idle: Vec<_> = (0..200).filter_map(|_| TcpStream::connect(METRICS).ok()).collect();
            let silence = longest_silence(&socket, Duration::from_secs(5));
            let asked = attack.done.load(Ordering::Relaxed);
            println!("silence: {quiet:?} at rest, {silence:?} with {asked} answers in five seconds");
            let begin = Instant::now();
            scrape().context("a scrape beside idle connections")?;
            let served = begin.elapsed();
            drop((deaf, idle));
            Ok((silence, asked, served))
        }
    })?;
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
