//! Drills (requirement B6): a link of a circuit fails on purpose for a limited time, and what came of it is measured.
//!
//! Files: this one (the machine: when it fails, when it ends and why), [`report`] (what was measured), [`whatif`] (what would be dropped,
//! without failing anything). Pure: facts and time come in as arguments, steps and reports come out.
//!
//! ```text
//!            a second          time over, stopped, unattended              back, or patience over
//!   Watching ---------> Failing --------------------------> Returning -------------------------> Over
//!      |                   |                                    |
//!      |                   `-- the other link fails: at once ---|-- the other link fails: at once
//!      `-- stopped, unattended, the other link fails --------------------------------------------> Over
//! ```
//!
//! # What a drill does
//! The link's neighbours count as dead for the packet path, which is what a lost carrier comes to; its BGP sessions end with a Cease
//! that says why, and its BFD is administratively down, so that the MSEE goes the other way too. What the MSEE sends meanwhile is
//! still taken. Its routes are kept, ranked last, so that they are there at once when they are needed.
//!
//! # What must never happen
//! A drill outlives what watches over it: the command that began it must go on asking (the lease), the time is bounded, and a controller
//! that ends, restarts or hands over knows nothing of a drill. A drill stands when nothing else carries the traffic: the first fact
//! that says so ends it before anything else is done.

pub mod report;
pub mod whatif;

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use crate::peering::{Orphan, RETURN_PATIENCE};

/// How long a drill may be, in seconds.
pub const SECONDS: RangeInclusive<u64> = 1..=600;
/// What is measured before, to compare with.
pub const WATCH: Duration = Duration::from_secs(1);
/// A drill ends when nobody has asked about it for so long.
pub const LEASE: Duration = Duration::from_secs(3);

/// Where a drill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing has happened yet; counters are read.
    Watching,
    /// The link carries nothing.
    Failing,
    /// It is given free, and not used before it is ready.
    Returning,
    /// Everything is as before.
    Over,
}

/// Why the failing has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was over.
    Time,
    /// The operator has stopped it.
    Stopped,
    /// The command that began it no longer asks.
    Unattended,
    /// Nothing else carried this traffic any more.
    OtherLinkFailed(Vec<Orphan>),
    /// Another process takes over.
    HandedOver,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time => f.write_str("its time was over"),
            Self::Stopped => f.write_str("stopped by the operator"),
            Self::Unattended => f.write_str("aborted: the command that began it has gone"),
            Self::OtherLinkFailed(orphans) => {
                let places: Vec<String> = orphans.iter().map(ToString::to_string).collect();
                write!(f, "aborted: nothing else was left of {}", places.join("; "))
            }
            Self::HandedOver => f.write_str("aborted: another process takes over"),
        }
    }
}

/// What the controller is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The link fails.
    Fail,
    /// It is given free and used when it is ready.
    Restore,
    /// It is used at once as far as anything is known of it.
    RestoreAtOnce,
}

/// A drill.
#[derive(Clone, Debug)]
pub struct Drill {
    length: Duration,
    phase: Phase,
    end: Option<End>,
    step: Option<Step>,
    /// Since when it is in its phase.
    since: Duration,
    /// When somebody has asked last.
    heard: Duration,
    is_at_once: bool,
}

impl Drill {
    /// A drill of this length begins to watch.
    pub fn new(length: Duration, now: Duration) -> Self {
        let phase = Phase::Watching;
        Self { length, phase, end: None, step: None, since: now, heard: now, is_at_once: false }
    }

    /// Somebody asks about it.
    pub fn handle_asked(&mut self, now: Duration) {
        self.heard = now;
    }

    /// It is to end.
    pub fn handle_end(&mut self, end: End, now: Duration) {
        match self.phase {
            Phase::Watching => self.enter(Phase::Over, now),
            Phase::Failing => self.restore(matches!(end, End::OtherLinkFailed(_) | End::HandedOver), now),
            // It is ending: only need makes it faster.
            Phase::Returning if matches!(end, End::OtherLinkFailed(_) | End::HandedOver) => {
                if !std::mem::replace(&mut self.is_at_once, true) {
                    self.step = Some(Step::RestoreAtOnce);
                }
                return;
            }
            Phase::Returning | Phase::Over => return,
        }
        self.end = Some(end);
    }

    /// Time passes, or facts have changed: what nothing else carries any more, and whether the link carries traffic if it is let.
    pub fn handle_facts(&mut self, now: Duration, orphans: Vec<Orphan>, is_back: bool) {
        if !orphans.is_empty() {
            self.handle_end(End::OtherLinkFailed(orphans), now);
        }
        let spent = now.saturating_sub(self.since);
        match self.phase {
            Phase::Watching | Phase::Failing if now.saturating_sub(self.heard) >= LEASE => {
                self.handle_end(End::Unattended, now);
            }
            Phase::Watching if spent >= WATCH => {
                self.enter(Phase::Failing, now);
                self.step = Some(Step::Fail);
            }
            Phase::Failing if spent >= self.length => self.handle_end(End::Time, now),
            Phase::Returning if is_back || spent >= RETURN_PATIENCE => self.enter(Phase::Over, now),
            Phase::Watching | Phase::Failing | Phase::Returning | Phase::Over => {}
        }
    }

    /// The next step.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.step.take()
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why its failing has ended.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// How long it still fails, if it does.
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        let until = self.since + self.length;
        (self.phase == Phase::Failing).then(|| until.saturating_sub(now))
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        (self.phase, self.since) = (phase, now);
    }

    fn restore(&mut self, at_once: bool, now: Duration) {
        self.enter(Phase::Returning, now);
        self.is_at_once = at_once;
        self.step = Some(if at_once { Step::RestoreAtOnce } else { Step::Restore });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn orphans() -> Vec<Orphan> {
        vec![Orphan { place: "a/private IPv4".into(), others: vec![] }]
    }

    /// Phases and steps with the milliseconds at which they began, and the end.
    type Course = (Vec<(u64, Phase)>, Vec<(u64, Step)>, Option<String>);

    /// A drill of five seconds whose command asks every 100 ms until `asked_until`, told the facts as often; every phase and step with
    /// the time at which it began.
    fn course(asked_until: u64, other_fails: u64, back: u64) -> Course {
        let mut drill = Drill::new(at(5_000), at(0));
        let (mut phases, mut steps) = (vec![(0, drill.phase())], Vec::new());
        for now in (100..=100_000).step_by(100) {
            if now <= asked_until {
                drill.handle_asked(at(now));
            }
            let orphans = if now >= other_fails { orphans() } else { Vec::new() };
            drill.handle_facts(at(now), orphans, now >= back);
            if phases.last().is_some_and(|(_, phase)| *phase != drill.phase()) {
                phases.push((now, drill.phase()));
            }
            steps.extend(drill.poll_step().map(|step| (now, step)));
        }
        (phases, steps, drill.end().map(ToString::to_string))
    }

    const NEVER: u64 = u64::MAX;

    #[test]
    fn b6_a_drill_fails_for_its_time_and_is_over_when_the_link_is_back() {
        let (phases, steps, end) = course(NEVER, NEVER, 8_000);
        let expected =
            [(0, Phase::Watching), (1_000, Phase::Failing), (6_000, Phase::Returning), (8_000, Phase::Over)];
        assert_eq!(phases, expected);
        assert_eq!(steps, [(1_000, Step::Fail), (6_000, Step::Restore)]);
        assert_eq!(end.as_deref(), Some("its time was over"));
    }

    #[test]
    fn a_drill_that_nobody_watches_ends_within_its_lease() {
        let (phases, steps, end) = course(2_000, NEVER, 8_000);
        assert_eq!(steps, [(1_000, Step::Fail), (5_000, Step::Restore)]);
        assert_eq!(phases.last(), Some(&(8_000, Phase::Over)));
        assert!(end.is_some_and(|end| end.contains("has gone")));
    }

    #[test]
    fn a_drill_ends_at_once_when_nothing_else_carries_the_traffic_and_never_begins_without() {
        let (phases, steps, end) = course(NEVER, 3_000, 7_000);
        assert_eq!(steps, [(1_000, Step::Fail), (3_000, Step::RestoreAtOnce)]);
        assert_eq!(phases[2..], [(3_000, Phase::Returning), (7_000, Phase::Over)]);
        assert!(end.is_some_and(|end| end.contains("a/private IPv4")));
        let (phases, steps, _) = course(NEVER, 500, 7_000);
        assert_eq!((phases, steps), (vec![(0, Phase::Watching), (500, Phase::Over)], vec![]));
    }

    #[test]
    fn a_link_that_is_needed_while_it_is_waited_for_is_used_at_once_and_one_that_stays_away_ends_the_wait() {
        let (phases, steps, _) = course(NEVER, 6_500, NEVER);
        assert_eq!(steps, [(1_000, Step::Fail), (6_000, Step::Restore), (6_500, Step::RestoreAtOnce)]);
        assert_eq!(phases.last(), Some(&(66_000, Phase::Over)));
    }

    #[test]
    fn stopping_gives_the_link_free_and_stopping_again_changes_nothing() {
        let mut drill = Drill::new(at(5_000), at(0));
        drill.handle_facts(at(1_000), vec![], true);
        drill.poll_step();
        drill.handle_end(End::Stopped, at(1_500));
        assert_eq!((drill.poll_step(), drill.phase()), (Some(Step::Restore), Phase::Returning));
        drill.handle_end(End::Stopped, at(1_600));
        assert_eq!((drill.poll_step(), drill.end()), (None, Some(&End::Stopped)));
    }
}
