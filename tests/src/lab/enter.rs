//! Entering a network namespace: a thread of its own for code of ours, a step before `exec` for other programs.
//!
//! Only the network namespace is entered, not the mounts that `ip netns exec` also changes: /sys stays the machine's, which the
//! BPF file system needs, and /proc/sys/net and /proc/thread-self/net follow the thread anyway.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{self, Command},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal},
    unistd::getppid,
};

/// Runs `work` on a new thread inside the namespace called `name`. The thread ends with it: no other code runs in there.
///
/// # Errors
/// When the namespace cannot be opened; that it cannot be entered is the thread's own result.
pub fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    let namespace = open(name)?;
    Ok(thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .context("cannot enter the network namespace (needs root)")?;
        work()
    }))
}

/// The same, waiting for the result.
///
/// # Errors
/// What `work` says, or that it panicked.
pub fn run<T: Send + 'static>(name: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match on_thread(name, work)?.join() {
        Ok(result) => result,
        Err(_) => anyhow::bail!("the thread in namespace {name} panicked"),
    }
}

/// Makes `command` start inside the namespace, in a process group of its own (a terminal's Ctrl-C is for the lab, which ends
/// its processes in order), and die with the thread that starts it.
///
/// # Errors
/// When the namespace cannot be opened.
pub fn prepare(command: &mut Command, name: &str) -> Result<()> {
    let namespace = open(name)?;
    let parent = process::id().cast_signed();
    let enter = move || -> io::Result<()> {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died between fork and prctl: then no signal would ever come.
        if getppid().as_raw() != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    command.process_group(0);
    // SAFETY: between fork and exec only async-signal-safe work may be done: three system calls (setns, prctl, getppid) on
    // values made before the fork; nothing is allocated and no lock is taken.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

fn open(name: &str) -> Result<File> {
    let path = Path::new("/run/netns").join(name);
    File::open(&path).with_context(|| format!("there is no network namespace {}", path.display()))
}
