//! `erdp restart`: the daemon starts its own successor, the program that is installed now, with the options it was started with and
//! `--take-over`. The rest is [`super::hand_over`]: sessions, routes and links go over, and this process ends.
//!
//! Why not by the service manager: it would have to end the old process before it starts the new one, and keep the connections
//! meanwhile (systemd's file descriptor store). Then nobody is left to go on if the new one fails. Here the old one ends only after the
//! new one has said that it has everything; the service manager is told who the service is now (`MAINPID`). The successor begins
//! where we are, in the same cgroup, user, capabilities and sandbox; what a changed unit says applies from the next start on.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Controller;
use crate::{
    control::{
        Request,
        client::{Client, ClientError},
        connect::{CONNECT_WITHIN, connect},
    },
    kernel::fd_passing::peer_process,
};

/// How long a successor may take: both sides of the conversation wait a minute for each word, and full tables take seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the kernel writes behind the name of a program whose file was replaced (proc(5)).
const REPLACED: &str = " (deleted)";

/// Why there is no successor; the daemon goes on.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// The daemon does not want to, or does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It answers something else.
    #[error("the daemon answers something else than a process id: is it of this version?")]
    Answer,
    /// The successor has ended before it took over.
    #[error(
        "process {0}, which was to take over, has ended: the router goes on as before, and its log says why"
    )]
    Ended(u32),
    /// The successor takes too long.
    #[error("process {0} has not taken over within two minutes: see the router's log")]
    Late(u32),
}

impl Controller {
    /// Starts the successor; the answer is its process id.
    pub(super) fn start_successor(&self) -> Result<Value, String> {
        if let Some(reason) = self.why_no_successor() {
            return Err(format!("no successor is started: {reason}"));
        }
        let file = self.history.source.read().map(|file| self.kept.would_run(file));
        if let Some(reason) = file.ok().and_then(|file| self.what_would_be_lost(&file)) {
            return Err(format!("no successor is started: {reason}"));
        }
        let program = installed().map_err(|error| format!("the program's own file is not known: {error}"))?;
        let mut command = Command::new(&program);
        command.args(arguments(env::args_os().skip(1)));
        // The watchdog's words are for whom this names, or has started.
        command.stdin(Stdio::null()).env("WATCHDOG_PID", std::process::id().to_string());
        let child = command.spawn().map_err(|error| format!("starting {}: {error}", program.display()))?;
        let process = child.id();
        tracing::info!(process, program = %program.display(), "successor started");
        thread::spawn(move || watch(child));
        Ok(process.into())
    }
}

/// Says how a successor has ended that was expected to outlive us.
fn watch(mut child: Child) {
    match child.wait() {
        Ok(status) => tracing::error!(%status, "the successor has ended: going on"),
        Err(error) => tracing::warn!(%error, "the successor cannot be waited for"),
    }
}

/// Where our program lies: what is there now may be newer than what runs.
fn installed() -> std::io::Result<PathBuf> {
    let path = env::current_exe()?;
    Ok(path.to_string_lossy().strip_suffix(REPLACED).map(PathBuf::from).unwrap_or(path))
}

/// Our own options, and the one that makes a successor.
fn arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = own.collect();
    if !arguments.iter().any(|argument| argument == "--take-over") {
        arguments.push("--take-over".into());
    }
    arguments
}

/// Asks the daemon for a successor and waits until that one listens in its place; the answer is its process id.
///
/// # Errors
/// When it does not come to that; then the daemon that was asked goes on.
pub fn restart(control: &Path) -> Result<u32, RestartError> {
    let answer = Client::connect(control)?.ask(&Request::Restart)?;
    let process = answer.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or(RestartError::Answer)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listens = connect(control, CONNECT_WITHIN).ok().and_then(|stream| peer_process(&stream));
        if listens == Some(process) {
            return Ok(process);
        }
        if has_ended(process) {
            return Err(RestartError::Ended(process));
        }
        if Instant::now() > deadline {
            return Err(RestartError::Late(process));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn has_ended(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_has_our_options_and_takes_over_once() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let expected = words("run --config /etc/erdp/erdp.toml --take-over");
        assert_eq!(arguments(words("run --config /etc/erdp/erdp.toml").into_iter()), expected);
        assert_eq!(arguments(expected.clone().into_iter()), expected);
    }

    #[test]
    fn a_process_that_is_gone_has_ended() {
        assert!(!has_ended(std::process::id()));
        let mut child = Command::new("true").spawn().expect("true(1) starts");
        child.wait().expect("it ends");
        assert!(has_ended(child.id()));
    }
}
