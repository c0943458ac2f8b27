//! A test program that is interrupted takes its lab down, with a daemon in it that another daemon has started.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    lab::cleanup,
    small::{SmallLab, established},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Set for the program that is interrupted.
const STAYS: &str = "ERDP_TEST_STAYS";
const OWN: &str = "an_interrupted_test_leaves_no_daemon_that_took_over_from_its_own_and_nothing_of_its_lab";
/// What it says when everything is up, before the successor's process id.
const UP: &str = "everything is up, and the daemon is process ";
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn an_interrupted_test_leaves_no_daemon_that_took_over_from_its_own_and_nothing_of_its_lab() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    if env::var_os(STAYS).is_some() {
        return stay();
    }
    let mut run = Command::new(env::current_exe()?);
    run.args(["--exact", OWN, "--nocapture"]).env(STAYS, "1").stdout(Stdio::piped());
    let mut run = run.spawn()?;
    let owner = run.id();
    let lines = BufReader::new(run.stdout.take().context("a pipe")?).lines();
    let up = lines.map_while(Result::ok).find_map(|line| line.strip_prefix(UP).map(str::to_owned));
    let Some(successor) = up.and_then(|pid| pid.parse::<u32>().ok()) else {
        anyhow::bail!("it has not come up: {}", run.wait()?);
    };
    kill(Pid::from_raw(owner.cast_signed()), Signal::SIGINT)?;
    let ended = run.wait()?;
    let deadline = Instant::now() + PATIENCE / 10;
    let mut left = leftovers(owner, successor);
    while !left.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
        left = leftovers(owner, successor);
    }
    if cleanup::is_running(successor) {
        // Not for whoever comes next.
        kill(Pid::from_raw(successor.cast_signed()), Signal::SIGTERM)?;
    }
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    ensure!(ended.code() == Some(128 + Signal::SIGINT as i32), "{ended}");
    Ok(())
}

/// Everything of a lab that is still there.
fn leftovers(owner: u32, successor: u32) -> Vec<String> {
    let is_its = |name: &String| cleanup::owner(name) == Some(owner);
    let mut left: Vec<String> = cleanup::namespaces().into_iter().filter(is_its).collect();
    left.extend(cleanup::entries("/run").into_iter().filter(is_its));
    let pins = cleanup::pins().into_iter().filter(|(_, name)| is_its(name));
    left.extend(pins.map(|(path, _)| format!("pins in {}", path.display())));
    left.extend(cleanup::is_running(successor).then(|| format!("process {successor}")));
    left
}

fn stay() -> Result<()> {
    let lab = SmallLab::up()?;
    let mut edge = lab.edge(&edge::configuration())?;
    established(&mut edge)?;
    let said = edge.ask(&["restart"])?;
    let process: u32 = said.split_whitespace().nth(1).and_then(|word| word.parse().ok()).context(said)?;
    ensure!(edge.process().wait(PATIENCE)?.success(), "the first daemon has not ended well");
    let deadline = Instant::now() + PATIENCE;
    while !edge.answers() {
        ensure!(Instant::now() < deadline, "process {process} does not answer");
        thread::sleep(Duration::from_millis(50));
    }
    println!("{UP}{process}");
    thread::sleep(PATIENCE);
    Ok(())
}
