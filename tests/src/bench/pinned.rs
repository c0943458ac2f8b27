//! Work on one known CPU, ahead of everybody else's: for measurements by the clock on the wall.

use std::{
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::{Pid, gettid},
};

/// The CPUs that this process may use.
pub fn cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    Ok((0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect())
}

/// Makes this thread run on one CPU only.
pub fn pin(cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &only).with_context(|| format!("cannot run on CPU {cpu}"))
}

/// Puts this thread ahead of every ordinary one (SCHED_FIFO); `false` where that is not allowed.
pub fn ahead_of_others() -> bool {
    let thread = gettid().to_string();
    Command::new("chrt")
        .args(["--fifo", "--pid", "1", &thread])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs on a thread of its own that is pinned and ahead of others.
pub fn on<T: Send>(cpu: usize, run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            pin(cpu)?;
            ahead_of_others();
            run()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
