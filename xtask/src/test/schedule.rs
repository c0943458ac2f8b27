//! Which row starts next: pure, over what waits and what runs.
//!
//! In three stages, each after the one before has ended. First everything that may run beside others, the longest first: as many rows that
//! keep a CPU busy as there are CPUs less one, and twice as many as there are CPUs of those that mostly wait. Then the light ones, one for
//! each CPU. Then the timing-critical ones, one by one.

use super::rows::Group;

/// How many rows may run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of those that keep a CPU busy.
    pub cpu: usize,
    /// Of those that mostly wait.
    pub functional: usize,
    /// Of those that must lose nothing.
    pub light: usize,
}

impl Limits {
    /// What a machine with so many CPUs can carry.
    pub fn of(cpus: usize) -> Limits {
        Limits { cpu: cpus.saturating_sub(1).max(1), functional: 2 * cpus.max(1), light: cpus.max(1) }
    }

    fn on(self, group: Group) -> usize {
        match group {
            Group::Cpu => self.cpu,
            Group::Functional => self.functional,
            Group::Light => self.light,
            Group::Alone => 1,
        }
    }
}

fn stage(group: Group) -> u8 {
    match group {
        Group::Cpu | Group::Functional => 0,
        Group::Light => 1,
        Group::Alone => 2,
    }
}

/// The place in `waiting` (group and expected seconds) of the row to start now, beside `running`; `None`: wait until one has ended.
pub fn next(waiting: &[(Group, u32)], running: &[Group], limits: Limits) -> Option<usize> {
    let groups = waiting.iter().map(|(group, _)| group).chain(running);
    let now = groups.map(|group| stage(*group)).min()?;
    if running.iter().any(|group| stage(*group) != now) {
        return None;
    }
    let of = |group: Group| running.iter().filter(|other| **other == group).count();
    let may_start = |group: Group| stage(group) == now && of(group) < limits.on(group);
    let candidates = waiting.iter().enumerate().filter(|(_, (group, _))| may_start(*group));
    candidates.max_by_key(|(at, (_, seconds))| (*seconds, usize::MAX - *at)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::{
        Group::{Alone, Cpu, Functional, Light},
        *,
    };

    const LIMITS: Limits = Limits { cpu: 1, functional: 2, light: 2 };

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
    fn every_row_runs_once_and_no_limit_is_exceeded() {
        let limits = Limits::of(2);
        assert_eq!(limits, Limits { cpu: 1, functional: 4, light: 2 });
        let mut waiting: Vec<(Group, u32)> =
            (0..32).map(|at| ([Cpu, Functional, Light, Alone][at % 4], at as u32)).collect();
        let (mut running, mut started) = (Vec::new(), 0);
        while !waiting.is_empty() || !running.is_empty() {
            while let Some(at) = next(&waiting, &running, limits) {
                running.push(waiting.remove(at).0);
                started += 1;
            }
            let of = |group| running.iter().filter(|other| **other == group).count();
            assert!(of(Cpu) <= 1 && of(Functional) <= 4 && of(Light) <= 2 && of(Alone) <= 1, "{running:?}");
            assert!(of(Light) == 0 || of(Light) == running.len(), "{running:?}");
            assert!(of(Alone) == 0 || running.len() == 1, "{running:?}");
            assert!(!running.is_empty(), "nothing runs, and {waiting:?} wait");
            running.remove(0);
        }
        assert_eq!(started, 32);
    }
}
