//! The whole table and one receiver: it arrives from one MSEE, then from the other as well; the first one's sessions end; the second one
//! withdraws it. All receivers go through the same, with the same bytes.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use super::{
    receiver::{Kind, Receiver},
    sender::Sender,
    stage::Stage,
    stream::Stream,
};
use crate::bench::routes::Version;

/// Longest time that any receiver may take for one step.
pub const PATIENCE: Duration = Duration::from_secs(110);

/// One receiver's run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Who.
    pub receiver: Kind,
    /// Seconds from the first byte of the table to its last route; where it was given up, for how long it was waited.
    pub load_s: f64,
    /// Whether every step was done in its time; what was not reached is not a number.
    pub complete: bool,
    /// Peak resident memory of its processes in MiB, one feed loaded.
    pub peak_mib: f64,
    /// The same with both feeds.
    pub both_mib: f64,
    /// Seconds from the end of the first feed's sessions to the last route that leads to the second.
    pub loss_s: f64,
    /// Seconds from the first byte of the withdrawals to the end of the last route.
    pub withdraw_s: f64,
}

/// What is sent, of one version of IP.
pub struct Feed {
    /// The table as each MSEE announces it.
    pub announced: [Stream; 2],
    /// The table withdrawn.
    pub withdrawn: Stream,
    /// Some of its prefixes, by which it is seen where packets go.
    pub sample: Vec<IpNet>,
}

/// Prefixes of each version by which the loss of a feed is followed in the kernel's tables.
pub const SAMPLE: usize = 1_000;

/// One receiver's turn.
///
/// # Errors
/// When it cannot be run.
pub fn turn(kind: Kind, feeds: &[Feed; 2]) -> Result<Run> {
    let stage = Stage::new()?;
    let mut receiver = Receiver::start(kind, &stage.receiver, &stage.folder, 0)?;
    let first = [stage.msee(0, Version::V4)?, stage.msee(0, Version::V6)?];
    let mut turn = Turn { receiver: &mut receiver, feeds };
    let mut run = Run {
        receiver: kind,
        load_s: f64::NAN,
        complete: false,
        peak_mib: f64::NAN,
        both_mib: f64::NAN,
        loss_s: f64::NAN,
        withdraw_s: f64::NAN,
    };
    turn.steps(&mut run, first, &stage)?;
    Ok(run)
}

struct Turn<'a> {
    receiver: &'a mut Receiver,
    feeds: &'a [Feed; 2],
}

/// The sessions of an MSEE.
type Sessions = [Sender; 2];

impl Turn<'_> {
    /// What is given up has not read everything: nothing more can be said to it.
    fn steps(&mut self, run: &mut Run, mut first: Sessions, stage: &Stage) -> Result<()> {
        let total: u64 = self.feeds.iter().map(|feed| feed.withdrawn.prefixes as u64).sum();
        let (load_s, loaded) = self.send(&mut first, |feed| &feed.announced[0], total)?;
        (run.load_s, run.peak_mib) = (load_s, self.peak_mib()?);
        if !loaded {
            return Ok(());
        }
        let mut second = [stage.msee(1, Version::V4)?, stage.msee(1, Version::V6)?];
        let (_, told) = self.send(&mut second, |feed| &feed.announced[1], total)?;
        if !told || !self.receiver.until_quiet(PATIENCE)? {
            return Ok(());
        }
        run.both_mib = self.peak_mib()?;
        for session in first.iter_mut().chain(&mut second) {
            session.keepalive()?;
        }
        let (loss_s, moved) = self.lose(first)?;
        run.loss_s = loss_s;
        if moved {
            (run.withdraw_s, run.complete) = self.send(&mut second, |feed| &feed.withdrawn, 0)?;
        }
        Ok(())
    }

    fn peak_mib(&self) -> Result<f64> {
        Ok(self.receiver.peak_kib()? as f64 / 1024.0)
    }

    /// Sends both versions at once until the receiver has so many routes.
    fn send(
        &mut self,
        sessions: &mut Sessions,
        what: fn(&Feed) -> &Stream,
        until: u64,
    ) -> Result<(f64, bool)> {
        let started = Instant::now();
        let complete = thread::scope(|scope| {
            let senders: Vec<_> = sessions
                .iter_mut()
                .zip(self.feeds)
                .map(|(session, feed)| scope.spawn(move || session.send(&what(feed).bytes)))
                .collect();
            let receiver = &mut *self.receiver;
            let complete = wait(receiver, started, |receiver| Ok(receiver.installed()? == until))?;
            // Of a table that is there already, the number of routes says nothing: all of it must have been taken.
            while complete && !senders.iter().all(|sender| sender.is_finished()) {
                if started.elapsed() > PATIENCE {
                    return Ok(false);
                }
                thread::sleep(Duration::from_millis(10));
            }
            Result::<bool>::Ok(complete)
        })?;
        Ok((started.elapsed().as_secs_f64(), complete))
    }

    /// The first feed's sessions end; until no route leads to it any more.
    fn lose(&mut self, first: Sessions) -> Result<(f64, bool)> {
        let samples = self.feeds.each_ref().map(|feed| feed.sample.as_slice());
        let watch = self.receiver.watch(samples)?;
        let started = Instant::now();
        drop(first);
        let moved = wait(self.receiver, started, |receiver| receiver.has_moved(&watch))?;
        Ok((started.elapsed().as_secs_f64(), moved))
    }
}

/// Until it is so; false: it took too long, and its bar is met by more than can be said.
fn wait(
    receiver: &mut Receiver,
    since: Instant,
    mut is_so: impl FnMut(&mut Receiver) -> Result<bool>,
) -> Result<bool> {
    while since.elapsed() < PATIENCE {
        if is_so(receiver)? {
            return Ok(true);
        }
        receiver.must_run()?;
        // Asking the kernel is work, which must not slow the receiver down; asking erdp is not.
        let pause = if receiver.is_cheap_to_ask() { 20 } else { 1_000 };
        thread::sleep(Duration::from_millis(pause));
    }
    Ok(false)
}
