//! What a service manager hears from the daemon, and what an old client does: readiness, the watchdog, the end, the protocol.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixDatagram, UnixStream},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::cleanup::{self, Leftover},
    small::{SmallLab, established},
};
use nix::sys::signal::Signal;

/// Reads what the daemon tells until a word is in it; the answer is all that came.
fn heard(socket: &UnixDatagram, word: &str) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut all = String::new();
    let mut datagram = [0; 512];
    while !all.contains(word) {
        ensure!(Instant::now() < deadline, "{word} was not told; only: {all}");
        if let Ok(len) = socket.recv(&mut datagram) {
            all += &format!("{};", String::from_utf8_lossy(&datagram[..len]).trim().replace('\n', " "));
        }
    }
    Ok(all)
}

/// An edge that is started as systemd does, with the process id of the one that is watched, and where it tells how it is.
fn watched(lab: &SmallLab) -> Result<(UnixDatagram, Edge)> {
    let path = lab.folder().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let config = lab.folder().join("edge.toml");
    std::fs::write(&config, edge::configuration())?;
    let mut command = lab.namespace("edge")?.command("sh")?;
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
    let edge = Edge::start_by(command, lab.folder(), &config)?;
    Ok((socket, edge))
}

#[test]
fn readiness_the_loops_turning_and_the_end_are_told_and_a_stopped_process_is_silent() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let (socket, mut edge) = watched(&lab)?;
    let first = heard(&socket, "READY=1")?;
    // So that the time of a process that has taken over begins with it.
    ensure!(first.contains("WATCHDOG=1"), "{first}");
    ensure!(edge.answers(), "ready and does not answer");
    established(&mut edge)?;
    // A third of a second each: at least three in two seconds.
    let begin = Instant::now();
    for _ in 0..3 {
        heard(&socket, "WATCHDOG=1")?;
    }
    println!("three words of the watchdog in {:?}", begin.elapsed());
    ensure!(begin.elapsed() < Duration::from_secs(3), "too late for the watchdog");
    edge.process().signal(Signal::SIGSTOP)?;
    std::thread::sleep(Duration::from_millis(700));
    while socket.recv(&mut [0; 512]).is_ok() {}
    ensure!(heard_nothing(&socket), "a stopped process has told something");
    edge.process().signal(Signal::SIGCONT)?;
    edge.process().signal(Signal::SIGTERM)?;
    heard(&socket, "STOPPING=1")?;
    ensure!(edge.process().wait(Duration::from_secs(10))?.success(), "not a good end");
    Ok(())
}

fn heard_nothing(socket: &UnixDatagram) -> bool {
    let end = Instant::now() + Duration::from_millis(1_200);
    while Instant::now() < end {
        if socket.recv(&mut [0; 512]).is_ok() {
            return false;
        }
    }
    true
}

#[test]
fn a_restart_gives_everything_to_a_process_that_the_service_manager_is_told_of() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let (socket, mut edge) = watched(&lab)?;
    heard(&socket, "READY=1")?;
    established(&mut edge)?;
    let before = edge.sessions()?;
    let probe = lab.probe(1_000, 40_000)?;
    std::thread::sleep(Duration::from_millis(300));
    let said = edge.ask(&["restart"])?;
    let process: u32 = said.split_whitespace().nth(1).and_then(|word| word.parse().ok()).context(said)?;
    let ((), _guard) = cleanup::guarded(|| Ok(((), Leftover::Process(process))))?;
    let told = heard(&socket, "READY=1")?;
    println!("{told}");
    ensure!(told.contains(&format!("MAINPID={process}")), "{told}");
    ensure!(!told.contains("STOPPING"), "the service has been told to be ending: {told}");
    // The successor has the watchdog's time of the process before it.
    heard(&socket, "WATCHDOG=1")?;
    ensure!(edge.process().wait(Duration::from_secs(10))?.success(), "the first process has not ended well");
    let report = probe.stop()?;
    println!("{report:?}");
    ensure!(report.lost == 0 && report.sent > 300, "{report:?}");
    let after = edge.sessions()?;
    let states = |rows: &[edge::Session]| -> Vec<_> {
        rows.iter().map(|row| (row.peer.clone(), row.state.clone(), row.last_error.clone())).collect()
    };
    ensure!(states(&before) == states(&after), "{before:?} {after:?}");
    Ok(())
}

#[test]
fn the_control_socket_is_its_groups_and_tells_a_client_of_another_version_so() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let mut edge = lab.edge(&edge::configuration())?;
    edge.must_run()?;
    let path = lab.folder().join("erdp.sock");
    let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
    ensure!(mode == 0o660, "mode {mode:o}");
    let mut stream = UnixStream::connect(&path)?;
    stream.write_all(b"{\"protocol\":99,\"request\":\"metrics\"}\n")?;
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said)?;
    println!("{said}");
    ensure!(
        said.contains("version 1 ") && said.contains("version 99") && said.contains("same package"),
        "{said}"
    );
    Ok(())
}
