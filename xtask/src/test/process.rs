//! One row's process: started in a group of its own, its output collected and counted, ended when it takes too long.
//!
//! The lab's own daemons are in process groups of their own and die with the thread that started them; SIGTERM lets the row take its lab
//! down before that. Output goes to one pipe, standard error with it, so that lines keep their order.

use std::{
    io::{BufRead as _, BufReader, PipeReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::{Pid, SysconfVar, sysconf},
};

use super::rows::{Group, Row, Work};
use crate::{
    command::{cargo, line, root},
    tally::Tally,
};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(15);
/// How often a process is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// How a row is to run.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// With everything that `--full` has.
    pub is_full: bool,
    /// Variables for the tests: name and value.
    pub variables: Vec<(String, String)>,
}

/// How a row has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What was counted.
    pub tally: Tally,
    /// Everything that it printed.
    pub output: String,
    /// From start to end.
    pub took: Duration,
    /// CPU time of the process and of all that it has waited for; not that of daemons which somebody else reaps.
    pub cpu: Duration,
    /// Whether a signal to xtask ended it: then the rest says nothing.
    pub is_interrupted: bool,
}

/// What a row's process is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take your lab down and end.
    End,
}

/// The row's command.
fn command(row: &Row, how: &How) -> Result<Command> {
    let inner = match &row.work {
        Work::Program(program, arguments) => program.command(arguments),
        Work::Documentation => {
            let mut cargo = cargo();
            cargo.args(["test", "--doc", "--quiet", "--workspace", "--exclude", "erdp-ebpf"]);
            cargo.current_dir(root());
            cargo
        }
        Work::Own(own) => own.command()?,
    };
    // Whatever becomes of xtask, the row ends and takes its lab down.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]);
    if row.group == Group::Cpu {
        // Labs go first. (In the scheduler's class for idle work a virtual machine's timer starves.)
        command.args(["nice", "-n", "10"]);
    }
    command.arg(inner.get_program()).args(inner.get_args());
    if let Some(folder) = inner.get_current_dir() {
        command.current_dir(folder);
    }
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if how.is_full {
        command.env("PROPTEST_CASES", "2560").env("ERDP_TEST_FULL", "1");
    }
    command.envs(how.variables.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

/// Runs a row to its end, on the calling thread. Ends it when it takes longer than `limit`, or by an order.
///
/// # Errors
/// When it cannot be started.
pub fn run(row: &Row, how: &How, limit: Duration, orders: &Receiver<Order>) -> Result<Ended> {
    let mut command = command(row, how)?;
    let (reader, writer) = std::io::pipe().context("no pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("no pipe")?).stderr(writer);
    command.process_group(0);
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", line(&command)))?;
    // The command holds the pipe's other end.
    drop(command);
    let is_own = matches!(row.work, Work::Own(_));
    let lines = collect(reader, is_own);
    let (status, end, cpu) = wait(&mut child, begin + limit, orders)?;
    let took = begin.elapsed();
    let (tally, mut output) = match lines.recv_timeout(GRACE) {
        Ok(read) => read,
        Err(_) => {
            signal(&child, Signal::SIGKILL);
            lines.recv_timeout(GRACE).unwrap_or_else(|_| {
                (
                    Tally::default(),
                    "its output is lost: a process that it left behind has it open\n".to_owned(),
                )
            })
        }
    };
    let mut tally = tally.ended(status.success() && end == End::Own);
    if let End::Limit = end {
        output += &format!("FAILED: it has not ended within {} s and was ended\n", limit.as_secs());
        tally.failed = tally.failed.max(1);
    }
    if tally.is_empty() && has_filter(row) {
        output += "FAILED: no test has the name that the table of rows gives\n";
        tally.failed = 1;
    }
    if !status.success() {
        output += &format!("({status})\n");
    }
    Ok(Ended { tally, output, took, cpu, is_interrupted: end == End::Order })
}

fn has_filter(row: &Row) -> bool {
    matches!(&row.work, Work::Program(_, arguments) if arguments.iter().any(|it| it == "--exact"))
}

/// Why a process was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Own,
    Limit,
    Order,
}

fn wait(
    child: &mut Child,
    deadline: Instant,
    orders: &Receiver<Order>,
) -> Result<(ExitStatus, End, Duration)> {
    let mut end = End::Own;
    let mut kill_at: Option<Instant> = None;
    let pid = Pid::from_raw(child.id().cast_signed());
    // Left as it is, to be asked for its CPU time before it is reaped.
    let looking = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        if waitid(Id::Pid(pid), looking).context("cannot wait")? != WaitStatus::StillAlive {
            let cpu = cpu(pid).unwrap_or_default();
            return Ok((child.wait().context("cannot wait")?, end, cpu));
        }
        if kill_at.is_none() {
            if orders.try_recv().is_ok() {
                end = End::Order;
            } else if Instant::now() > deadline {
                end = End::Limit;
            }
            if end != End::Own {
                signal(child, Signal::SIGTERM);
                kill_at = Some(Instant::now() + GRACE);
            }
        }
        if kill_at.is_some_and(|at| Instant::now() > at) {
            signal(child, Signal::SIGKILL);
        }
        thread::sleep(GLANCE);
    }
}

/// `utime`, `stime`, `cutime` and `cstime` of proc_pid_stat(5).
fn cpu(pid: Pid) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(4).map_while(|it| it.parse::<u64>().ok()).sum();
    let ticks_a_second = sysconf(SysconfVar::CLK_TCK).ok()??;
    Some(Duration::from_secs_f64(ticks as f64 / ticks_a_second as f64))
}

/// To the whole group, which is the row's own.
fn signal(child: &Child, signal: Signal) {
    // Gone already is as good.
    let _gone = killpg(Pid::from_raw(child.id().cast_signed()), signal);
}

/// Reads to the end on a thread of its own; the answer comes when the last one who can write has ended.
fn collect(reader: PipeReader, is_own: bool) -> Receiver<(Tally, String)> {
    let (sender, receiver): (Sender<(Tally, String)>, _) = channel();
    thread::spawn(move || {
        let (mut tally, mut output) = (Tally::default(), String::new());
        for text in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&text);
            if is_own {
                tally.result(&text)
            } else {
                tally.line(&text)
            }
            output += &text;
            output.push('\n');
        }
        // Nobody waits any more where the row was given up.
        let _unheard = sender.send((tally, output));
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo_tests::Program;

    /// A row that is a line of shell.
    fn shell(script: &str) -> Row {
        let arguments = ["-c", script].map(str::to_owned).into();
        Row {
            name: "a row".to_owned(),
            group: Group::Functional,
            seconds: 1,
            is_longer_in_full: false,
            sources: Vec::new(),
            has_data: false,
            work: Work::Program(Program::any("a row", "/bin/sh"), arguments),
        }
    }

    fn ran(script: &str, limit: Duration) -> Ended {
        let (_orders, order) = channel();
        run(&shell(script), &How::default(), limit, &order).expect("it starts")
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn both_outputs_are_kept_in_order_and_counted() {
        let ended = ran(
            "echo one; echo two >&2; echo 'SKIP: no'; echo 'test result: ok. 3 passed; 0 failed; 0 ignored'",
            LONG,
        );
        assert!(ended.output.starts_with("one\ntwo\nSKIP: no\n"), "{}", ended.output);
        assert_eq!((ended.tally.passed, ended.tally.failed, ended.tally.skipped), (2, 0, 1));
    }

    #[test]
    fn the_cpu_time_of_a_row_is_that_of_all_its_processes() {
        let ended = ran("sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; sleep 0.2", LONG);
        assert!(ended.cpu > Duration::from_millis(10) && ended.cpu < ended.took, "{ended:?}");
    }

    #[test]
    fn a_row_that_fails_or_dies_has_a_failure() {
        for script in
            ["exit 3", "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; exit 3", "kill -9 $$"]
        {
            assert_eq!(ran(script, LONG).tally.failed, 1, "{script}");
        }
    }

    #[test]
    fn a_row_that_hangs_is_ended_with_what_it_has_started_and_has_failed() {
        let begin = Instant::now();
        let ended = ran("echo begun; sleep 600 & sleep 600", Duration::from_millis(200));
        assert!(begin.elapsed() < GRACE, "the whole group hears SIGTERM: {:?}", begin.elapsed());
        assert_eq!(ended.tally.failed, 1);
        assert!(ended.output.contains("begun\nFAILED: it has not ended within"), "{}", ended.output);
    }

    #[test]
    fn an_order_ends_a_row_which_takes_its_lab_down_first() {
        let (orders, order) = channel();
        orders.send(Order::End).expect("it listens");
        let row = shell("trap 'echo down; exit 143' TERM; for _ in $(seq 600); do sleep 0.05; done");
        let waiting = thread::spawn(move || run(&row, &How::default(), LONG, &order));
        let ended = waiting.join().expect("no panic").expect("it starts");
        assert!(ended.is_interrupted);
    }
}
