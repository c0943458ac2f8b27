//! The whole line in the lab, by the program that `cargo xtask run` starts: all checks pass (with `--full` twice in a row), and nothing
//! is left behind however it ends.
//!
//! Needs root and the `erdp` binary of `cargo xtask build`; where one is missing it says SKIP.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp_tests::{
    edge,
    lab::{cleanup, plan},
    quick_start,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

/// A run of `erdp-lab` whose lines are read as they come.
struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What has been read.
    printed: String,
}

impl Run {
    fn start() -> Result<Run> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_erdp-lab"));
        command.args(["run", "--once"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start erdp-lab")?;
        let stdout = child.stdout.take().context("no pipe to erdp-lab")?;
        Ok(Run { child, lines: BufReader::new(stdout).lines(), printed: String::new() })
    }

    /// Reads on to the first line that contains `text`.
    fn read_to(&mut self, text: &str) -> Result<()> {
        while let Some(line) = self.read()? {
            if line.contains(text) {
                return Ok(());
            }
        }
        bail!("erdp-lab ended without saying `{text}`")
    }

    fn read(&mut self) -> Result<Option<String>> {
        let Some(line) = self.lines.next().transpose()? else { return Ok(None) };
        println!("  | {line}");
        self.printed += &line;
        self.printed.push('\n');
        Ok(Some(line))
    }

    /// Reads to the end and returns the exit code; None when a signal has ended it.
    fn finish(&mut self) -> Result<Option<i32>> {
        while self.read()?.is_some() {}
        Ok(self.child.wait()?.code())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).context("cannot signal erdp-lab")
    }

    /// The processes inside its namespaces.
    fn processes(&self) -> Vec<u32> {
        let mut processes = Vec::new();
        for namespace in plan::NAMESPACES.map(|short| format!("erdp{}-{short}", self.child.id())) {
            if let Ok(output) = Command::new("ip").args(["netns", "pids", &namespace]).output() {
                let pids = String::from_utf8_lossy(&output.stdout).into_owned();
                processes.extend(pids.lines().filter_map(|line| line.trim().parse::<u32>().ok()));
            }
        }
        processes
    }

    /// Everything of this run that is still there.
    fn leftovers(&self, processes: &[u32]) -> Result<Vec<String>> {
        let owner = Some(self.child.id());
        let of_this_run =
            |names: Vec<String>| names.into_iter().filter(move |name| cleanup::owner(name) == owner);
        let mut left: Vec<String> = of_this_run(cleanup::namespaces()).collect();
        left.extend(of_this_run(cleanup::entries("/run")));
        let alive = processes.iter().filter(|pid| cleanup::is_running(**pid));
        left.extend(alive.map(|pid| format!("process {pid}")));
        let links = Command::new("ip").args(["-oneline", "link", "show", "type", "veth"]).output()?;
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        for link in plan::LINKS {
            for name in [link.near.1, link.far.1] {
                left.extend(
                    links.lines().filter(|line| line.contains(&format!(" {name}@"))).map(str::to_owned),
                );
            }
        }
        let pins = cleanup::pins().into_iter().filter(|(_, namespace)| cleanup::owner(namespace) == owner);
        left.extend(pins.map(|(path, _)| format!("pins in {}", path.display())));
        Ok(left)
    }

    /// Namespaces of the kernel go a moment after their names.
    fn leaves_nothing(&self, processes: &[u32]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.leftovers(processes)?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left behind: {}", left.join(", "));
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Only where an assertion has failed half-way; SIGTERM lets it clean up.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ended = self.signal(Signal::SIGTERM);
            let _code = self.child.wait();
        }
    }
}

/// Why the lab cannot be run here, said in the way that `cargo xtask test` counts.
fn skipped() -> bool {
    let reason = if geteuid().is_root() {
        edge::binary().err().map(|error| format!("{error:#}"))
    } else {
        Some("the lab makes network namespaces, which needs root".to_owned())
    };
    if let Some(reason) = &reason {
        println!("SKIP: {reason}");
    }
    reason.is_some()
}

#[test]
fn every_check_holds_again_and_again_and_nothing_is_left() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    for round in 1..=if edge::is_full() { 2 } else { 1 } {
        println!("round {round}");
        let mut run = Run::start()?;
        run.read_to("converged in")?;
        let processes = run.processes();
        ensure!(processes.len() >= 6, "erdp, zebra, bgpd and three BIRDs should run, and do {processes:?}");
        ensure!(run.finish()? == Some(0), "round {round} has failed");
        // README shows a run of `cargo xtask run`, which becomes this program once everything is built.
        quick_start::example("cargo xtask run")?.compare(&run.printed)?;
        run.leaves_nothing(&processes)?;
    }
    Ok(())
}

#[test]
fn an_interrupted_run_leaves_nothing_wherever_it_was() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let rows = [
        ("network namespaces", Signal::SIGINT, 130),
        ("routers:", Signal::SIGTERM, 143),
        ("erdp run", Signal::SIGINT, 130),
        ("sessions Established", Signal::SIGINT, 130),
        ("converged in", Signal::SIGTERM, 143),
        ("iperf3 TCP IPv4", Signal::SIGINT, 130),
    ];
    for (line, signal, code) in rows {
        println!("{signal} at `{line}`");
        let mut run = Run::start()?;
        run.read_to(line)?;
        let processes = run.processes();
        run.signal(signal)?;
        let ended = run.finish()?;
        ensure!(ended == Some(code), "{signal} at `{line}`: exit code {ended:?}, should be {code}");
        run.leaves_nothing(&processes).with_context(|| format!("{signal} at `{line}`"))?;
    }
    Ok(())
}

#[test]
fn what_a_killed_run_leaves_is_removed_by_the_next() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut run = Run::start()?;
    run.read_to("sessions Established")?;
    let processes = run.processes();
    run.signal(Signal::SIGKILL)?;
    run.finish()?;
    ensure!(
        !run.leftovers(&processes)?.is_empty(),
        "SIGKILL cannot be cleaned up after, so something must be left"
    );
    // Another lab that comes up at this moment may be the next one.
    let swept = cleanup::sweep();
    println!("the sweep has removed {swept:?}");
    run.leaves_nothing(&processes)
}
