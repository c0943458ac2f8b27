//! Running rows side by side: starts what [`schedule`] says, prints each row's output whole when it has ended, writes the ledger.

use std::{
    env,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    ledger::{Ledger, Mode, Passes},
    own::Own,
    process::{self, Ended, How, Order},
    rows::{Group, Row, Work},
    schedule::{self, Limits},
    sources::Sources,
};
use crate::{
    command::{now, root},
    tally::Tally,
};

/// How often signals are looked at.
const GLANCE: Duration = Duration::from_millis(100);
/// How often is said what runs, when nothing else is said.
const QUIET: Duration = Duration::from_secs(30);
/// A row may take so many times what the table says, and so much more.
const LIMIT_TIMES: u32 = 5;
const LIMIT_MORE: Duration = Duration::from_secs(120);

/// How a row ended, or ended earlier.
#[derive(Clone, Debug)]
pub struct Done {
    /// The row.
    pub name: String,
    /// What was counted.
    pub tally: Tally,
    /// In seconds.
    pub seconds: f64,
    /// What it printed; nothing where an earlier pass is counted.
    pub output: String,
}

/// What every run of rows has in common.
pub struct Suite {
    /// Everyday or full.
    pub mode: Mode,
    how: How,
    limits: Limits,
    ledger: Ledger,
    sources: Option<Sources>,
    signal: Arc<AtomicUsize>,
    begun: Instant,
}

impl Suite {
    /// Reads ledger and sources; from now on SIGINT and SIGTERM end the rows first.
    ///
    /// # Errors
    /// When signals cannot be taken.
    pub fn new(mode: Mode, variables: Vec<(String, String)>) -> Result<Suite> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
        {
            signal_hook::flag::register_usize(number, signal.clone(), number.unsigned_abs() as usize)
                .context("cannot take signals")?;
        }
        let sources = Sources::read();
        if sources.is_none() {
            println!("no git: sources have no hash, and no earlier run counts");
        }
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        Ok(Suite {
            mode,
            how: How { is_full: mode == Mode::Full, variables },
            limits: if mode == Mode::Full { Limits::in_full(cpus) } else { Limits::of(cpus) },
            ledger: Ledger::open(&root().join("target/test-ledger.json")),
            sources,
            signal,
            begun: Instant::now(),
        })
    }

    /// The signal that is ending everything, if one is.
    pub fn signal(&self) -> Option<u8> {
        u8::try_from(self.signal.load(Ordering::Relaxed)).ok().filter(|number| *number > 0)
    }

    /// The hash of a row's sources.
    pub fn hash(&self, row: &Row) -> Option<String> {
        hash(self.sources.as_ref()?, row, &self.how)
    }

    /// The earlier pass that stands for a run of this row.
    pub fn counted(&self, row: &Row) -> Option<(String, Passes)> {
        // Whether it has been built is seen at once, and its tests want it.
        if matches!(row.work, Work::Own(Own::Released)) {
            return None;
        }
        let hash = self.hash(row)?;
        let passes = self.ledger.counts(&row.name, &hash, self.mode, row.is_longer_in_full)?.clone();
        Some((hash, passes))
    }

    /// How long the row takes: what it took last, or what the table says.
    pub fn seconds(&self, row: &Row) -> f64 {
        self.ledger.seconds(&row.name, self.mode).unwrap_or_else(|| f64::from(row.seconds))
    }

    /// Runs all of them. Fewer ends than rows: a signal has ended the run.
    ///
    /// # Errors
    /// When a row cannot be started, or the ledger not be written.
    pub fn run(&mut self, rows: Vec<Row>) -> Result<Vec<Done>> {
        let mut waiting: Vec<(u32, Row)> =
            rows.into_iter().map(|row| (self.seconds(&row).ceil() as u32, row)).collect();
        let mut done = Vec::new();
        let mut first_error = None;
        thread::scope(|scope| {
            let (sender, receiver) = channel::<(Row, Result<Ended>)>();
            let mut running: Vec<(Row, Sender<Order>, Instant)> = Vec::new();
            let mut last_word = Instant::now();
            loop {
                let is_ending = self.signal().is_some() || first_error.is_some();
                while !is_ending && let Some(at) = self.next(&waiting, &running) {
                    let (seconds, row) = waiting.remove(at);
                    println!("start {} (about {seconds} s)", row.name);
                    let (orders, order) = channel();
                    running.push((row.clone(), orders, Instant::now()));
                    let (sender, how) = (sender.clone(), self.how.clone());
                    scope.spawn(move || {
                        let limit =
                            LIMIT_MORE + Duration::from_secs(row.seconds.max(seconds).into()) * LIMIT_TIMES;
                        let ended = process::run(&row, &how, limit, &order);
                        // The receiver outlives every row.
                        let _sent = sender.send((row, ended));
                    });
                }
                if running.is_empty() {
                    break;
                }
                if is_ending {
                    // One that has ended meanwhile hears nothing.
                    running.iter().for_each(|(_, orders, _)| {
                        let _heard = orders.send(Order::End);
                    });
                }
                match receiver.recv_timeout(GLANCE) {
                    Ok((row, ended)) => {
                        running.retain(|(other, ..)| other.name != row.name);
                        last_word = Instant::now();
                        match ended.and_then(|ended| self.ended(&row, ended)) {
                            Ok(one) => done.extend(one),
                            Err(error) => first_error = first_error.take().or(Some(error)),
                        }
                    }
                    Err(RecvTimeoutError::Timeout) if last_word.elapsed() > QUIET => {
                        last_word = Instant::now();
                        let names = running
                            .iter()
                            .map(|(row, _, begin)| format!("{} ({} s)", row.name, begin.elapsed().as_secs()));
                        println!("running: {}", names.collect::<Vec<_>>().join(", "));
                    }
                    Err(_) => {}
                }
            }
        });
        first_error.map_or(Ok(done), Err)
    }

    fn next(&self, waiting: &[(u32, Row)], running: &[(Row, Sender<Order>, Instant)]) -> Option<usize> {
        let waiting: Vec<(Group, u32)> = waiting.iter().map(|(seconds, row)| (row.group, *seconds)).collect();
        let running: Vec<Group> = running.iter().map(|(row, ..)| row.group).collect();
        schedule::next(&waiting, &running, self.limits)
    }

    /// Prints and writes down how a row has ended; `None`: a signal has ended it.
    fn ended(&mut self, row: &Row, ended: Ended) -> Result<Option<Done>> {
        let Ended { tally, output, took, cpu, is_interrupted } = ended;
        let Tally { passed, failed, skipped, deferred, .. } = tally;
        println!("\n== {}\n{}", row.name, output.trim_end());
        if is_interrupted {
            println!("{}: interrupted", row.name);
            return Ok(None);
        }
        println!(
            "{}: passed {passed}, failed {failed}, skipped {skipped}, deferred {deferred} in {:.1} s, {:.1} s of CPU; {:.0} s from the first start\n",
            row.name,
            took.as_secs_f32(),
            cpu.as_secs_f32(),
            self.begun.elapsed().as_secs_f32()
        );
        self.note(row, tally, took)?;
        Ok(Some(Done { name: row.name.clone(), tally, seconds: took.as_secs_f64(), output }))
    }

    /// Into the ledger, if the sources are what they were when the tests were built.
    fn note(&mut self, row: &Row, tally: Tally, took: Duration) -> Result<()> {
        let Some(before) = self.hash(row) else { return Ok(()) };
        let after = Sources::read().and_then(|sources| hash(&sources, row, &self.how));
        if after.as_ref() != Some(&before) {
            println!("{}: its sources have changed meanwhile: this run is not written down", row.name);
            return Ok(());
        }
        self.ledger.note(&row.name, &before, self.mode, (tally, took, now()))
    }
}

/// Besides the files: whether the tests have what this run may or may not give them.
fn hash(sources: &Sources, row: &Row, how: &How) -> Option<String> {
    let mut more = String::new();
    if row.has_data && env::var_os("ERDP_DATA").is_some_and(|folder| Path::new(&folder).exists()) {
        more += "ERDP_DATA";
    }
    how.variables.iter().filter(|_| row.is_longer_in_full).for_each(|(name, _)| more += name);
    sources.hash(&row.sources, &more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo_tests::Program;

    fn row(name: &str, group: Group, script: &str) -> Row {
        Row {
            name: name.to_owned(),
            group,
            seconds: 1,
            is_longer_in_full: false,
            sources: Vec::new(),
            has_data: false,
            work: Work::Program(Program::any(name, "/bin/sh"), ["-c", script].map(str::to_owned).into()),
        }
    }

    fn suite() -> Suite {
        Suite {
            mode: Mode::Everyday,
            how: How::default(),
            limits: Limits { cpu: 1, cpu_beside: 1, functional: 3, light: 2, quiet: 1 },
            ledger: Ledger::default(),
            sources: None,
            signal: Arc::default(),
            begun: Instant::now(),
        }
    }

    const SCRIPT: &str =
        "date +%s%N; sleep 0.1; echo 'test result: ok. 1 passed; 0 failed; 0 ignored'; date +%s%N";

    #[test]
    fn every_row_runs_and_nothing_runs_beside_a_timing_critical_one() {
        let groups = [Group::Alone, Group::Functional, Group::Cpu, Group::Alone, Group::Light, Group::Light];
        let rows =
            groups.iter().enumerate().map(|(at, group)| row(&format!("{at}"), *group, SCRIPT)).collect();
        let done = suite().run(rows).expect("they start");
        assert_eq!(done.iter().map(|it| it.tally.passed).sum::<u64>(), 6);
        let span = |at: usize| {
            let one = done.iter().find(|it| it.name == format!("{at}")).expect("it has run");
            let times: Vec<u64> = one.output.lines().filter_map(|line| line.parse().ok()).collect();
            (times[0], times[1])
        };
        for alone in [0, 3] {
            for other in (0..6).filter(|other| *other != alone) {
                let ((begin, end), (from, to)) = (span(alone), span(other));
                assert!(end <= from || to <= begin, "{alone} and {other} ran at the same time");
            }
        }
    }

    #[test]
    fn a_signal_ends_what_runs_and_starts_nothing_more() {
        let mut suite = suite();
        suite.signal.store(2, Ordering::Relaxed);
        let done = suite.run(vec![row("a", Group::Alone, SCRIPT)]).expect("nothing is wrong");
        assert!(done.is_empty());
        assert_eq!(suite.signal(), Some(2));
    }
}
