//! A thread or task of the daemon that ends and must not: it begins again with its state, or the process ends, packets flow on, and the next
//! process continues.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::plan,
    scrape,
    small::{SmallLab, established},
    traffic::counts::xdp_mode,
};
use nix::sys::signal::Signal;

/// Exit code of a process in which something has ended that must live.
const LOST: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(15);

/// The lab's configuration with everything that has a thread or task of its own.
fn configuration() -> String {
    let text = edge::configuration();
    let text = text.replacen("asn = ", &format!("metrics = \"{}\"\nasn = ", scrape::ADDRESS), 1);
    let text = text.replacen("[circuit.private]\n", "[circuit.private]\nbfd = {}\n", 1);
    text.replacen("peerings =", "kernel-routes = {}\npeerings =", 1)
}

/// Starts an edge that ends a part of itself a second later.
fn start(lab: &SmallLab, part: &str) -> Result<Edge> {
    let config = lab.folder().join("edge.toml");
    fs::write(&config, configuration())?;
    let mut command = lab.namespace("edge")?.command("sh")?;
    command.args(["-c", &format!("exec \"$@\" --end-part {part}"), "sh"]);
    Edge::start_by(command, lab.folder(), &config)
}

fn until_logged(edge: &mut Edge, words: &str) -> Result<String> {
    let begin = Instant::now();
    loop {
        let log = fs::read_to_string(edge.process().log())?;
        if let Some(line) = log.lines().find(|line| line.contains(words)) {
            return Ok(line.to_owned());
        }
        ensure!(begin.elapsed() < PATIENCE, "the log does not say {words:?}: {}", edge.process().tail(10));
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_task_that_ends_and_cannot_begin_again_ends_the_process_and_no_packet_is_lost() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let mut edge = lab.edge(&configuration())?;
    let probe = lab.probe(1_000, 40_000)?;
    edge.process().signal(Signal::SIGKILL)?;
    edge.process().wait(PATIENCE)?;
    for (part, words) in [
        ("listener", "listens for BGP has ended"),
        ("kernel", "links and neighbours has ended"),
        ("kernel-routes", "the kernel's routes has ended"),
        ("control", "control socket has ended"),
        ("metrics", "metrics' socket has ended"),
    ] {
        let mut edge = start(&lab, part)?;
        let status = edge.process().wait(PATIENCE).with_context(|| format!("{part}: it goes on"))?;
        println!("  {part}: {status}");
        ensure!(status.code() == Some(LOST), "{part}: {status}: {}", edge.process().tail(5));
        ensure!(edge.process().tail(5).contains(words), "{part}: {}", edge.process().tail(5));
        let mode = xdp_mode(lab.namespace("edge")?, plan::CE.far.1)?;
        ensure!(mode == "native", "{part}: the program has gone with the process: {mode}");
    }
    let mut next = Edge::start_in(lab.namespace("edge")?, lab.folder())?;
    established(&mut next)?;
    let report = probe.stop()?;
    println!("  {report:?}");
    ensure!(report.lost == 0 && report.sent > 3_000, "{report:?}");
    Ok(())
}

#[test]
fn a_thread_and_a_session_that_end_begin_again() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    for (part, words) in [
        ("bfd", "the BFD thread has ended: it begins again"),
        ("peer", "the task of a BGP session has ended: it begins again"),
    ] {
        let mut edge = start(&lab, part)?;
        println!("  {}", until_logged(&mut edge, words)?);
        if part == "peer" {
            until_logged(&mut edge, "its routes are withdrawn, and the session begins anew")?;
        }
        established(&mut edge)?;
        ensure!(edge.show("bfd")?.contains("discriminator"), "{part}: BFD says nothing");
        // The loop says it at its next turn, a tenth of a second later.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, said) = scrape::get(lab.namespace("edge")?, "/healthz")?;
            if status == 200 {
                break;
            }
            ensure!(status == 503 && Instant::now() < deadline, "{part}: {status} {said}");
            thread::sleep(Duration::from_millis(20));
        }
        edge.process().signal(Signal::SIGTERM)?;
        ensure!(edge.process().wait(PATIENCE)?.success(), "{part}: {}", edge.process().tail(5));
    }
    Ok(())
}
