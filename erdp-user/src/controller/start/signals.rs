//! The signals that the router takes.

use std::path::Path;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::StartError;
use crate::control::{Configuring, File, Reply, Request, asked::Asked};

/// SIGINT and SIGTERM end the router, caught from the start: one that comes while things are set up still has them undone.
/// SIGHUP has the file read again.
pub(super) struct Signals {
    stop: [Signal; 2],
    hangup: Signal,
}

impl Signals {
    pub(super) fn catch() -> Result<Self, StartError> {
        let catch = |kind| signal(kind).map_err(StartError::Signal);
        let stop = [catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?];
        Ok(Self { stop, hangup: catch(SignalKind::hangup())? })
    }

    /// Until the end; each SIGHUP meanwhile is answered by `reload`.
    pub(super) async fn wait(mut self, reload: impl AsyncFn()) {
        let [interrupt, terminate] = &mut self.stop;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                Some(()) = self.hangup.recv() => reload().await,
            }
        }
    }
}

/// Puts the configuration's file to the controller as `erdp config apply` does.
pub(super) async fn reload(path: &Path, asked: &mpsc::Sender<Asked>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return tracing::error!(file = %path.display(), %error, "SIGHUP: nothing is changed"),
    };
    let file = File { path: path.to_owned(), text };
    let request = Request::Config(Configuring::Apply { file, confirm_s: None, no_flap: false, force: false });
    let (answer, receiver) = oneshot::channel();
    if asked
        .send(Asked::Request { request, parsed: None, only_here: None, asker: None, answer })
        .await
        .is_err()
    {
        return;
    }
    match receiver.await {
        Ok(Reply::Ok(_)) => tracing::info!(file = %path.display(), "SIGHUP: the file's configuration runs"),
        Ok(Reply::Error(why)) => tracing::error!("SIGHUP: {why}"),
        Err(_) => {}
    }
}
