//! The daemon's end of the control socket.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
};

use super::{Envelope, File, PROTOCOL, REQUEST_MAX, Reply, Request};
use crate::{controller::hand_over::VERSION, kernel::fd_passing::own_user};

/// Connections served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 32;

/// A request and where its answer goes.
pub type Asked = (Request, oneshot::Sender<Reply>);

/// A process that wants to take over.
pub struct Successor {
    /// The connection to it.
    pub socket: std::os::unix::net::UnixStream,
    /// What it would run with, if it tells.
    pub file: Option<File>,
}

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another daemon answers there.
    #[error(
        "control socket {0}: another erdp is listening there; stop it or give this one its own --control"
    )]
    InUse(PathBuf),
    /// The file system refuses.
    #[error("control socket {path}: {error}; give a writable place with --control")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
}

/// The socket; its file is removed with this value.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Opens the socket, readable and writable by its owner and group. A file that a dead daemon has left is replaced.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let io = |error| ControlError::Io { path: path.into(), error };
        if answers(path) {
            return Err(ControlError::InUse(path.into()));
        }
        make_folder(path).map_err(io)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        let server = Self { listener, path: path.into() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(io)?;
        Ok(server)
    }

    /// Serves until the owner of `asked` is gone.
    pub async fn serve(self, asked: mpsc::Sender<Asked>, successors: mpsc::Sender<Successor>) {
        let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            tokio::select! {
                () = asked.closed() => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (asked, successors) = (asked.clone(), successors.clone());
                        tokio::spawn(async move {
                            if let Err(error) = converse(stream, &asked, &successors).await {
                                tracing::debug!(%error, "control connection ended");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => tracing::warn!(%error, "control socket: accept failed"),
                },
            }
        }
    }
}

/// The folder of a socket, if its parent is there: a service manager makes `/run/erdp`, a start by hand does not.
fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
    else {
        return Ok(());
    };
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o750))
}

/// Whether there is a socket at which nobody listens.
pub fn is_abandoned(path: &Path) -> bool {
    path.exists() && !answers(path)
}

/// Whether somebody listens there.
pub fn answers(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about a failure: the next start replaces the file.
        let _ = fs::remove_file(&self.path);
    }
}

async fn converse(
    stream: UnixStream,
    asked: &mpsc::Sender<Asked>,
    successors: &mpsc::Sender<Successor>,
) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let len = (&mut read).take(REQUEST_MAX).read_until(b'\n', &mut line).await?;
        if len == 0 {
            return Ok(());
        }
        let reply = match read_request(&line) {
            Ok(Request::HandOver { version, file }) => match may_succeed(user, version) {
                Ok(()) => {
                    let socket = read.into_inner().reunite(write).map_err(io::Error::other)?.into_std()?;
                    socket.set_nonblocking(false)?;
                    // A daemon that ends has no successor.
                    let _ = successors.send(Successor { socket, file }).await;
                    return Ok(());
                }
                Err(reason) => Reply::Error(reason),
            },
            Ok(request) => answer(request, asked).await,
            Err(why) => Reply::Error(why),
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        if !line.ends_with(b"\n") {
            return Ok(());
        }
    }
}

/// The request of a line. The version is looked at first: another one's requests need not be understood.
fn read_request(line: &[u8]) -> Result<Request, String> {
    let not_understood =
        |error| format!("request not understood: {error}; is `erdp` of the daemon's version?");
    let envelope: Envelope<serde_json::Value> = serde_json::from_slice(line).map_err(not_understood)?;
    // That conversation has a version of its own: an upgrade is between two versions of everything else.
    let is_hand_over = envelope.request.get("hand-over").is_some();
    if envelope.protocol != PROTOCOL && !is_hand_over {
        return Err(format!(
            "the daemon (erdp {}) speaks version {PROTOCOL} of the control protocol and was asked in version {}; use the `erdp` of \
             the same package",
            env!("CARGO_PKG_VERSION"),
            envelope.protocol
        ));
    }
    let request: Request = serde_json::from_value(envelope.request).map_err(not_understood)?;
    match request.out_of_range() {
        Some(why) => Err(why),
        None => Ok(request),
    }
}

/// Whether this user's process may take everything over: whoever has the sessions has the network.
fn may_succeed(user: u32, version: u32) -> Result<(), String> {
    if user != 0 && user != own_user() {
        return Err("only root and the daemon's own user may take over".into());
    }
    if version != VERSION {
        return Err(format!(
            "it hands over by version {VERSION} of the conversation and was asked for {version}: restart it without --take-over (its \
             peers will notice)"
        ));
    }
    Ok(())
}

async fn answer(request: Request, asked: &mpsc::Sender<Asked>) -> Reply {
    let (sender, receiver) = oneshot::channel();
    if asked.send((request, sender)).await.is_err() {
        return Reply::Error("the daemon is stopping".into());
    }
    receiver.await.unwrap_or_else(|_| Reply::Error("the daemon is stopping".into()))
}

#[cfg(test)]
mod tests {
    use super::{PROTOCOL, read_request};

    #[test]
    fn a_client_of_another_version_is_told_both_versions() {
        let ask = |protocol: u32, request: &str| {
            read_request(format!("{{\"protocol\":{protocol},\"request\":{request}}}").as_bytes())
        };
        assert!(ask(PROTOCOL, "\"metrics\"").is_ok());
        let said = ask(PROTOCOL + 1, "{\"unheard-of\":1}").unwrap_err();
        assert!(
            said.contains("version 1") && said.contains("in version 2") && said.contains("same package"),
            "{said}"
        );
        for line in [&b"\"metrics\""[..], b"{\"protocol\":1,\"request\":\"weather\"}", b"\xff"] {
            let said = read_request(line).unwrap_err();
            assert!(said.contains("not understood"), "{said}");
        }
    }
}
