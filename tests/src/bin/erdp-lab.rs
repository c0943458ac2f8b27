//! `erdp-lab`: the lab as a program, started by `cargo xtask run` and `cargo xtask lab`.
//!
//! `run` does everything and ends (or, on a terminal, stays up to be explored); `up` leaves a lab behind with `hold` as its owner;
//! `status`, `enter` and `down` are about labs that are up. Exit codes: 0 all well, 1 something failed, 128 + n ended by signal n.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use erdp_tests::{
    checks, edge,
    lab::{Ground, cleanup, plan},
    run::{self, Running, Summary},
    service,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// ERDP's lab of network namespaces.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Lab, routers, erdp, all checks; stays up on a terminal
    Run {
        /// End after the checks even on a terminal
        #[arg(long)]
        once: bool,
        /// The edge's links are this machine's network cards, with tags: for the VM lab's machines
        #[arg(long)]
        cards: bool,
    },
    /// The package as a service of systemd; for a virtual machine (`cargo xtask package --verify`)
    Service,
    /// Findings about a card with offloads; for a virtual machine (`cargo xtask run --vm`)
    Offloads,
    /// Leave a lab up in the background
    Up {
        /// As `run --cards`
        #[arg(long)]
        cards: bool,
    },
    /// The background process of `up`
    Hold {
        /// As `run --cards`
        #[arg(long)]
        cards: bool,
    },
    /// Take down the labs that `up` has left
    Down,
    /// Which labs are up
    Status,
    /// A shell in a namespace of the newest lab
    Enter {
        /// host, ce, edge, msee1, msee2 or azure
        name: String,
    },
}

/// In a lab's folder: `hold` is its owner and all is up; inside, the program that holds it.
const HELD: &str = "held";
const LOG: &str = "/run/erdp-lab.log";

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run { once, cards } => run_all(once, ground(cards)),
        Verb::Service => service(),
        Verb::Offloads => offloads(),
        Verb::Up { cards } => up(cards),
        Verb::Hold { cards } => hold(ground(cards)),
        Verb::Down => down(),
        Verb::Status => status(),
        Verb::Enter { name } => enter(&name),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn ground(cards: bool) -> Ground {
    if cards { Ground::Cards } else { Ground::Veth }
}

fn service() -> Result<ExitCode> {
    Ok(close(&service::run(&mut run::teller())?))
}

fn offloads() -> Result<ExitCode> {
    let mut tell = run::teller();
    let found = checks::offloads::run(&mut tell)?;
    found.iter().for_each(|sentence| tell(sentence));
    Ok(ExitCode::SUCCESS)
}

/// What was found, and the exit code of it.
fn close(summary: &Summary) -> ExitCode {
    println!("\nsummary");
    summary.found.iter().for_each(|found| println!("  ok  {found}"));
    summary.failed.iter().for_each(|failed| println!("  {failed}"));
    if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(once: bool, ground: Ground) -> Result<ExitCode> {
    let mut tell = run::teller();
    let mut running = run::up(ground, &mut tell)?;
    let summary = run::checks(&mut running, 2, &mut tell);
    let code = close(&summary);
    if !once && io::stdin().is_terminal() && io::stdout().is_terminal() {
        println!();
        explain_lab(running.lab.name());
        println!("Ctrl-C takes everything down.");
        stay(&mut running)?;
    }
    Ok(code)
}

/// Stays until a signal ends the program, or a process of the lab ends.
fn stay(running: &mut Running) -> Result<()> {
    loop {
        running.lab.must_run()?;
        running.edge.must_run()?;
        thread::sleep(Duration::from_millis(500));
    }
}

fn explain_lab(lab: &str) {
    println!("lab {lab}; in /run/{lab}: configurations, logs, sockets");
    for short in plan::NAMESPACES {
        println!("  ip netns exec {lab}-{short} bash    (or: cargo xtask lab enter {short})");
    }
    let erdp = edge::binary().map_or_else(|_| "erdp".to_owned(), |path| path.to_string_lossy().into_owned());
    println!("  {erdp} show sessions --control /run/{lab}/erdp.sock");
    println!("  birdc -s /run/{lab}/ce/bird.ctl    (also msee2, azure)");
    println!("  vtysh --vty_socket /run/{lab}/msee1");
}

fn up(cards: bool) -> Result<ExitCode> {
    let log = File::create(LOG).with_context(|| format!("cannot write {LOG}"))?;
    let mut hold = Command::new(this_program()?);
    hold.arg("hold")
        .args(cards.then_some("--cards"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let mut hold = hold.spawn().context("cannot start erdp-lab hold")?;
    let lab = format!("erdp{}", hold.id());
    while !Path::new("/run").join(&lab).join(HELD).exists() {
        if let Some(status) = hold.try_wait()? {
            bail!("the lab did not come up ({status}):\n{}", fs::read_to_string(LOG).unwrap_or_default());
        }
        thread::sleep(Duration::from_millis(50));
    }
    explain_lab(&lab);
    println!("cargo xtask lab down takes it down.");
    Ok(ExitCode::SUCCESS)
}

fn hold(ground: Ground) -> Result<ExitCode> {
    let mut tell = run::teller();
    let mut running = run::up(ground, &mut tell)?;
    let deadline = Instant::now() + ground.patience(Duration::from_secs(30));
    while !running.edge.answers() {
        running.edge.must_run()?;
        if Instant::now() > deadline {
            bail!("erdp does not answer:\n{}", running.edge.process().tail(20));
        }
        thread::sleep(Duration::from_millis(100));
    }
    fs::write(running.lab.folder().join(HELD), this_program()?)
        .context("cannot write into the lab's folder")?;
    stay(&mut running)?;
    Ok(ExitCode::SUCCESS)
}

/// The labs whose owner lives, newest last.
fn labs() -> Vec<String> {
    let mut labs: Vec<_> =
        cleanup::entries("/run").into_iter().filter(|name| cleanup::is_owned(name)).collect();
    labs.sort_by_key(|name| {
        fs::metadata(Path::new("/run").join(name)).and_then(|folder| folder.modified()).ok()
    });
    labs
}

fn this_program() -> Result<String> {
    let path = std::env::current_exe().context("cannot tell where erdp-lab lies")?;
    Ok(path.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
}

/// Takes down what `up` of this checkout has left, and sweeps up after the dead.
fn down() -> Result<ExitCode> {
    for lab in labs() {
        // Another checkout's labs, and those of runs and tests, are others' to end.
        let held = fs::read_to_string(Path::new("/run").join(&lab).join(HELD)).ok();
        let Some(owner) = cleanup::owner(&lab).filter(|_| held == this_program().ok()) else {
            println!("lab {lab} was not brought up by `lab up` of this checkout: left alone");
            continue;
        };
        kill(Pid::from_raw(owner.cast_signed()), Signal::SIGTERM)
            .with_context(|| format!("cannot end process {owner} of lab {lab}"))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while cleanup::is_running(owner) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        println!("lab {lab} is down");
        // Only there once a lab has been up; gone already is as good.
        let _gone = fs::remove_file(LOG);
    }
    for name in cleanup::sweep() {
        println!("removed {name}, left by a dead lab");
    }
    Ok(ExitCode::SUCCESS)
}

fn status() -> Result<ExitCode> {
    let labs = labs();
    labs.iter().for_each(|lab| explain_lab(lab));
    if labs.is_empty() {
        println!("no lab is up");
    }
    for name in cleanup::namespaces().iter().filter(|name| !cleanup::is_owned(name)) {
        println!("left by a dead lab: {name} (cargo xtask lab down removes it)");
    }
    Ok(ExitCode::SUCCESS)
}

fn enter(name: &str) -> Result<ExitCode> {
    let lab = labs().pop().context("no lab is up: run `cargo xtask lab up` or `cargo xtask run` first")?;
    if !plan::NAMESPACES.contains(&name) {
        bail!("the lab has no namespace {name}: {}", plan::NAMESPACES.join(", "));
    }
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let error = Command::new("ip").args(["netns", "exec", &format!("{lab}-{name}")]).arg(shell).exec();
    Err(error).context("cannot start `ip netns exec`")
}
