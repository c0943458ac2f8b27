//! The daemon's end of the control socket: who is let in, and for how long. What is said over a connection is in [`conversation`].

mod conversation;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::{self, JoinSet},
};

use self::conversation::Hall;
pub use self::conversation::read_request;
use super::{
    File,
    asked::{Asked, Asker},
    connect::{CONNECT_WITHIN, connect},
    place,
    places::{CONNECTIONS, Place, Places},
    roles::Roles,
};
use crate::{accept::Pause, metrics::board::Board};

/// Connections that are being told that there is no place for them; further ones are closed without a word.
const TURNED_AWAY_MAX: usize = 32;

/// What connections are served with.
#[derive(Clone)]
pub struct Desk {
    /// The controller.
    pub asked: mpsc::Sender<Asked>,
    /// The controller too, for a process that takes over.
    pub successors: mpsc::Sender<Successor>,
    /// What is measured, and what hinders the circuits.
    pub board: Arc<Board>,
    /// Who may order.
    pub roles: watch::Receiver<Roles>,
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a whole request, the time in which it asks nothing included.
    pub request: Duration,
    /// For taking an answer, or a page of a long one.
    pub page: Duration,
    /// For a place among those who read long lists.
    pub list: Duration,
    /// For a long list as a whole.
    pub whole_list: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(60),
            page: Duration::from_secs(10),
            list: Duration::from_secs(10),
            whole_list: Duration::from_secs(120),
        }
    }
}

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
        place::clear(path).map_err(io)?;
        let listener = UnixListener::bind(path).map_err(io)?;
        let server = Self { listener, path: path.into() };
        place::open_to_group(path).map_err(io)?;
        Ok(server)
    }

    /// Serves until the owner of [`Desk::asked`] is gone.
    pub async fn serve(self, desk: Desk) {
        self.serve_with(desk, Patience::default()).await;
    }

    async fn serve_with(self, desk: Desk, patience: Patience) {
        let asked = desk.asked.clone();
        let mut guests = Guests {
            hall: Arc::new(Hall::new(desk, patience)),
            places: Places::new(CONNECTIONS),
            tasks: JoinSet::new(),
            taken: HashMap::new(),
        };
        let mut pause = Pause::default();
        loop {
            tokio::select! {
                () = asked.closed() => {
                    // They say themselves that the daemon is stopping.
                    guests.tasks.detach_all();
                    return;
                }
                Some(ended) = guests.tasks.join_next_with_id() => {
                    guests.gone(ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        pause.handle_accepted();
                        guests.receive(stream);
                    }
                    Err(error) => pause.after("control", &error).await,
                },
            }
        }
    }
}

/// The connections that are served.
struct Guests {
    hall: Arc<Hall>,
    places: Places,
    tasks: JoinSet<()>,
    taken: HashMap<task::Id, Place>,
}

impl Guests {
    /// A connection is served, or told why not.
    fn receive(&mut self, stream: UnixStream) {
        let asker = match Asker::of(&stream) {
            Ok(asker) => asker,
            Err(error) => return tracing::debug!(%error, "a control connection was lost at once"),
        };
        match self.places.take(asker.user) {
            Ok(place) => {
                let hall = self.hall.clone();
                let task = self.tasks.spawn(async move { hall.serve(stream, asker).await });
                self.taken.insert(task.id(), place);
            }
            Err(full) => {
                self.hall.turned_away(&asker, &full);
                if self.tasks.len() - self.taken.len() < TURNED_AWAY_MAX {
                    self.tasks.spawn(conversation::turn_away(stream, full.to_string()));
                }
            }
        }
    }

    fn gone(&mut self, task: task::Id) {
        if let Some(place) = self.taken.remove(&task) {
            self.places.give(place);
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

/// Whether somebody listens there.
pub fn answers(path: &Path) -> bool {
    match connect(path, CONNECT_WITHIN) {
        Ok(_) => true,
        // It is stopped, which is not gone.
        Err(error) => error.kind() == io::ErrorKind::TimedOut,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about a failure: the next start replaces the file.
        let _ = place::clear(&self.path);
    }
}

#[cfg(test)]
mod tests;
