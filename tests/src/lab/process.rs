//! A process that runs as long as the lab wants it: started in a namespace, its output in a file, ended when dropped.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::cleanup::{self, Guard, Leftover};

/// A running process of the lab. The fields' order is the order of the end: the guard ends it, then its exit code is read.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    guard: Option<Guard>,
    child: Child,
}

impl Process {
    /// Starts `command` as `name`; what it prints goes to `folder`/`name`.log.
    ///
    /// The process dies with the calling thread: start it from the thread that owns the lab.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Result<Process> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let (child, guard) = cleanup::guarded(|| {
            let child = command.spawn().with_context(|| format!("cannot start {name} ({command:?})"))?;
            let leftover = Leftover::Process(child.id());
            Ok((child, leftover))
        })?;
        Ok(Process { name: name.to_owned(), log, guard: Some(guard), child })
    }

    /// What it was started as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error with the end of its log if it has ended.
    ///
    /// # Errors
    /// That it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.reaped();
            bail!("{} ended ({status}); the last lines of its log:\n{}", self.name, self.tail(12));
        }
        Ok(())
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// The system's.
    pub fn is_running(&mut self) -> Result<bool> {
        let ended = self.child.try_wait()?.is_some();
        if ended {
            self.reaped();
        }
        Ok(!ended)
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.must_run()?;
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub fn wait(&mut self, patience: Duration) -> Result<std::process::ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.reaped();
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {patience:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its exit code has been read: its id may be another process's from now on.
    fn reaped(&mut self) {
        if let Some(guard) = self.guard.take() {
            cleanup::forget(guard);
        }
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First the signal, then the exit code, so that no zombie is left and no other process is hit.
        drop(self.guard.take());
        let _ended = self.child.wait();
    }
}
