//! Which row starts next: pure, over what waits and what runs.
//!
//! In four stages. First the rows that mostly wait, three for each CPU; then the light ones, two for each CPU (one where `--full` makes
//! them heavier); then the quiet ones, one for each CPU, and the lone ones, one by one; then the timing-critical ones, one by one, each beside nothing. Rows that keep a CPU
//! busy, which have less priority, fill all but the last, with one CPU less than there are: what is left of them then has all CPUs. The longest start first.

use super::rows::Group;

/// How many rows may run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of those that keep a CPU busy, when no others are left.
    pub cpu: usize,
    /// Of the same, while there are others.
    pub cpu_beside: usize,
    /// Of those that mostly wait.
    pub functional: usize,
    /// Of those that must lose nothing.
    pub light: usize,
    /// Of those that measure a rate or a time.
    pub quiet: usize,
}

impl Limits {
    /// What a machine with so many CPUs can carry.
    pub fn of(cpus: usize) -> Limits {
        let cpus = cpus.max(1);
        Limits { cpu: cpus, cpu_beside: cpus - 1, functional: 3 * cpus, light: 2 * cpus, quiet: cpus }
    }

    /// The same with `--full`, which has the light rows do more, beside builds and virtual machines.
    pub fn in_full(cpus: usize) -> Limits {
        let limits = Self::of(cpus);
        Limits { light: limits.light / 2, ..limits }
    }

    /// Whether a row may start beside those that run, while the rows `of` each group wait or run.
    fn may_start(self, group: Group, running: &[Group], waiting: impl Fn(Group) -> bool) -> bool {
        let of = |group: Group| running.iter().filter(|other| **other == group).count();
        let is_left = |group: Group| waiting(group) || of(group) > 0;
        if of(Group::Alone) > 0 {
            return false;
        }
        match group {
            Group::Functional => of(Group::Light) == 0 && of(group) < self.functional,
            Group::Light => {
                !is_left(Group::Functional) && of(group) < self.light && of(Group::Cpu) <= self.cpu_beside
            }
            Group::Quiet => {
                !is_left(Group::Functional)
                    && !is_left(Group::Light)
                    && of(group) < self.quiet
                    && of(Group::Cpu) <= self.cpu_beside
            }
            Group::Lone => {
                let before = [Group::Functional, Group::Light, Group::Quiet];
                !before.into_iter().any(is_left) && of(group) == 0 && of(Group::Cpu) <= self.cpu_beside
            }
            Group::Cpu => {
                // Each of them may still wait for a CPU to be left to it.
                let others = [Group::Functional, Group::Light, Group::Quiet, Group::Lone];
                of(group) < if others.into_iter().any(is_left) { self.cpu_beside } else { self.cpu }
            }
            Group::Alone => {
                let before = [Group::Functional, Group::Light, Group::Quiet, Group::Lone, Group::Cpu];
                running.is_empty() && !before.into_iter().any(waiting)
            }
        }
    }
}

/// The place in `waiting` (group and expected seconds) of the row to start now, beside `running`; `None`: wait until one has ended.
pub fn next(waiting: &[(Group, u32)], running: &[Group], limits: Limits) -> Option<usize> {
    let is_waiting = |group: Group| waiting.iter().any(|(other, _)| *other == group);
    let may_start = |group: Group| limits.may_start(group, running, is_waiting);
    let candidates = waiting.iter().enumerate().filter(|(_, (group, _))| may_start(*group));
    candidates.max_by_key(|(at, (_, seconds))| (*seconds, usize::MAX - *at)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::{
        Group::{Alone, Cpu, Functional, Light, Lone, Quiet},
        *,
    };

    const LIMITS: Limits = Limits { cpu: 1, cpu_beside: 1, functional: 2, light: 2, quiet: 1 };

    #[test]
    fn the_longest_that_has_room_starts_first() {
        let waiting = [(Alone, 90), (Functional, 5), (Cpu, 30), (Functional, 20)];
        assert_eq!(next(&waiting, &[], LIMITS), Some(2));
        assert_eq!(next(&waiting, &[Cpu], LIMITS), Some(3));
        assert_eq!(next(&waiting, &[Cpu, Functional, Functional], LIMITS), None);
    }

    #[test]
    fn a_timing_critical_row_waits_until_nothing_else_runs_and_nothing_runs_beside_it() {
        assert_eq!(next(&[(Alone, 9)], &[Cpu], LIMITS), None);
        assert_eq!(next(&[(Alone, 9), (Light, 9)], &[Functional], LIMITS), None);
        assert_eq!(next(&[(Alone, 90), (Light, 9)], &[Light], LIMITS), Some(1));
        assert_eq!(next(&[(Alone, 90)], &[Light], LIMITS), None);
        assert_eq!(next(&[(Alone, 9), (Alone, 50)], &[], LIMITS), Some(1));
        assert_eq!(next(&[(Functional, 9)], &[Alone], LIMITS), None);
        assert_eq!(next(&[], &[], LIMITS), None);
    }

    #[test]
    fn rows_that_keep_a_cpu_busy_leave_a_cpu_to_the_others() {
        let limits = Limits::of(2);
        assert_eq!(next(&[(Cpu, 9), (Light, 90)], &[Cpu, Functional], limits), None);
        assert_eq!(next(&[(Cpu, 9)], &[Cpu], limits), Some(0));
        assert_eq!(next(&[(Cpu, 9), (Light, 90)], &[Cpu, Cpu], limits), None);
        assert_eq!(next(&[(Cpu, 9), (Light, 90)], &[Cpu], limits), Some(1));
        assert_eq!(next(&[(Cpu, 9), (Light, 5)], &[Light], limits), Some(0));
        assert_eq!(next(&[(Cpu, 9), (Light, 5)], &[Light, Cpu], limits), Some(1));
        assert_eq!(next(&[(Cpu, 9), (Alone, 5)], &[Cpu], limits), Some(0));
        assert_eq!(next(&[(Alone, 5)], &[Cpu], limits), None);
    }

    #[test]
    fn quiet_rows_run_one_for_each_cpu_after_the_light_ones_and_leave_a_cpu_to_those_that_keep_one_busy() {
        let limits = Limits::of(2);
        assert_eq!(next(&[(Quiet, 9)], &[Light], limits), None);
        assert_eq!(next(&[(Quiet, 9), (Cpu, 5)], &[], limits), Some(0));
        assert_eq!(next(&[(Quiet, 9), (Cpu, 50)], &[Quiet, Cpu], limits), Some(0));
        assert_eq!(next(&[(Quiet, 9), (Cpu, 5)], &[Quiet, Quiet], limits), Some(1));
        assert_eq!(next(&[(Quiet, 9), (Cpu, 5), (Alone, 50)], &[Quiet, Quiet, Cpu], limits), None);
        assert_eq!(next(&[(Quiet, 9), (Cpu, 50)], &[Cpu], limits), Some(0));
        assert_eq!(next(&[(Alone, 9)], &[Quiet], limits), None);
    }

    #[test]
    fn in_full_the_light_rows_which_do_more_there_run_one_for_each_cpu() {
        let limits = Limits::in_full(2);
        assert_eq!(limits, Limits { light: 2, ..Limits::of(2) });
        assert_eq!(next(&[(Light, 9), (Cpu, 5)], &[Light, Light], limits), Some(1));
        assert_eq!(next(&[(Light, 9)], &[Light, Cpu], limits), Some(0));
    }

    #[test]
    fn a_lone_row_runs_after_all_other_labs_beside_rows_that_keep_a_cpu_busy() {
        let limits = Limits::of(2);
        assert_eq!(next(&[(Lone, 9), (Cpu, 5)], &[Quiet, Cpu], limits), None);
        assert_eq!(next(&[(Lone, 9), (Quiet, 5)], &[], limits), Some(1));
        assert_eq!(next(&[(Lone, 9), (Cpu, 5)], &[Cpu], limits), Some(0));
        assert_eq!(next(&[(Lone, 9), (Cpu, 5), (Alone, 50)], &[Lone], limits), Some(1));
        assert_eq!(next(&[(Lone, 9), (Alone, 50)], &[Lone, Cpu], limits), None);
    }

    #[test]
    fn every_row_runs_once_and_no_limit_is_exceeded() {
        let limits = Limits::of(2);
        assert_eq!(limits, Limits { cpu: 2, cpu_beside: 1, functional: 6, light: 4, quiet: 2 });
        let mut waiting: Vec<(Group, u32)> =
            (0..36).map(|at| ([Cpu, Functional, Light, Quiet, Lone, Alone][at % 6], at as u32)).collect();
        let (mut running, mut started) = (Vec::new(), 0);
        while !waiting.is_empty() || !running.is_empty() {
            while let Some(at) = next(&waiting, &running, limits) {
                running.push(waiting.remove(at).0);
                started += 1;
            }
            let of = |group| running.iter().filter(|other| **other == group).count();
            assert!(
                of(Cpu) <= 2 && of(Functional) <= 6 && of(Light) <= 4 && of(Quiet) <= 2 && of(Alone) <= 1,
                "{running:?}"
            );
            assert!(of(Light) == 0 || (of(Cpu) <= 1 && of(Functional) == 0), "{running:?}");
            assert!(of(Quiet) == 0 || (of(Cpu) <= 1 && of(Functional) + of(Light) == 0), "{running:?}");
            assert!(of(Lone) == 0 || running.len() == 1 + of(Cpu), "{running:?}");
            assert!(of(Alone) == 0 || running.len() == 1, "{running:?}");
            assert!(!running.is_empty(), "nothing runs, and {waiting:?} wait");
            running.remove(0);
        }
        assert_eq!(started, 36);
    }
}
