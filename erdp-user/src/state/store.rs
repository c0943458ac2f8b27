//! The file of [`Kept`]: read once, written by a thread of its own, because a disk may take a second and the controller's loop may not.
//!
//! It is in a folder of the daemon's user. Who reads it may be root by hand, so it is read as [`crate::kernel::folder`] reads: no link,
//! nothing but a regular file, of a bounded length, that nobody but its owner can write, who must be ourselves or root. What cannot be used
//! is set aside and said, and the start goes on without it.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Kept, VERSION};
use crate::kernel::{fd_passing::own_user, folder::Folder};

const NAME: &str = "state.json";
const SET_ASIDE: &str = "state.json.set-aside";
/// Longest file in bytes: two configurations of the longest request, and a session for each address of them.
const BYTES_MAX: u64 = 16 << 20;

/// Longest reason for a file that is not understood, in characters.
const REASON_MAX: usize = 200;

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be used.
    #[error("state folder {path}: {error}; give another one with --state")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// Somebody else can write there.
    #[error("state folder {path}: {why}; make it yours alone (mode 0700), or give another one with --state")]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Who.
        why: &'static str,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What was kept, if it can be used.
    pub kept: Kept,
    /// The process that has written it.
    pub process: Option<u32>,
    /// Why what is there was set aside.
    pub set_aside: Option<String>,
}

/// The file as it is read.
#[derive(Deserialize)]
struct Envelope {
    process: u32,
    #[serde(flatten)]
    kept: Kept,
}

/// The file as it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    /// `erdp --version` of who writes it.
    release: &'a str,
    process: u32,
    #[serde(flatten)]
    kept: &'a Kept,
}

/// The version, whatever else there is.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What is done once something is on the disk, or cannot be.
pub type Then = Box<dyn FnOnce() + Send>;

struct Job {
    kept: Arc<Kept>,
    then: Option<Then>,
}

/// The store. When it is dropped, everything that was handed to it is on the disk.
#[derive(Debug)]
pub struct Store {
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the store in a folder, which is made if its parent is there; the answer is also what it has.
    pub fn open(path: &Path) -> Result<(Self, Found), StoreError> {
        let io = |error| StoreError::Io { path: path.into(), error };
        match fs::create_dir(path) {
            Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io(error)),
        }
        let folder = Folder::open(path).map_err(io)?;
        let facts = folder.facts().map_err(io)?;
        let not_ours = |why| StoreError::NotOurs { path: path.into(), why };
        if !is_trusted(facts.owner) {
            return Err(not_ours("it is another user's"));
        }
        if !facts.is_owners_alone {
            return Err(not_ours("other users may write there"));
        }
        let found = load(&folder);
        let (jobs, waiting) = mpsc::channel();
        let path = path.to_owned();
        let writer = thread::Builder::new().name("erdp-state".into());
        let writer = writer.spawn(move || write(&folder, &path, &waiting)).map_err(io)?;
        Ok((Self { jobs: Some(jobs), writer: Some(writer) }, found))
    }

    /// Has it written; `then` is done once it is on the disk, or cannot be, which is said. Does not wait.
    pub fn save(&self, kept: Arc<Kept>, then: Option<Then>) {
        let job = Job { kept, then };
        // Without its thread nothing is on any disk, and the order has to be answered all the same.
        if let Some(Err(unsent)) = self.jobs.as_ref().map(|jobs| jobs.send(job))
            && let Some(then) = unsent.0.then
        {
            then();
        }
    }

    /// Waits for so long until everything is on the disk; whether it is.
    pub fn flush(&self, kept: Arc<Kept>, patience: Duration) -> bool {
        let (done, is_done) = mpsc::channel();
        // Whoever waits may have given up.
        let then = move || {
            let _ = done.send(());
        };
        self.save(kept, Some(Box::new(then)));
        is_done.recv_timeout(patience).is_ok()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A panic was said by the thread itself.
            let _ = writer.join();
        }
    }
}

/// Whoever can be this user can do all that we can.
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == own_user()
}

fn load(folder: &Folder) -> Found {
    let read = match folder.read(Path::new(NAME), BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::default(),
        Ok(content) if !is_trusted(content.facts.owner) => Err("it is another user's".to_owned()),
        Ok(content) if !content.facts.is_owners_alone => Err("other users may write it".to_owned()),
        Ok(content) => understood(&content.bytes),
        Err(error) => Err(error.to_string()),
    };
    match read.map_err(unusable) {
        Ok((kept, process)) => Found { kept, process: Some(process), set_aside: None },
        Err(why) => {
            let moved = folder.rename(NAME, SET_ASIDE);
            let moved = moved
                .map_or_else(|error| format!("and stays: {error}"), |()| format!("it is now {SET_ASIDE}"));
            Found { set_aside: Some(format!("{why}; {moved}")), ..Found::default() }
        }
    }
}

/// Reads a file's bytes, as a start does; believed whole or not at all.
///
/// # Errors
/// Why it cannot be used, with the file's name.
pub fn read(bytes: &[u8]) -> Result<Kept, String> {
    understood(bytes).map(|(kept, _)| kept).map_err(unusable)
}

fn unusable(why: String) -> String {
    format!("{NAME} cannot be used: {why}")
}

/// What is kept, and the process that has written it.
fn understood(bytes: &[u8]) -> Result<(Kept, u32), String> {
    let Version { version } = serde_json::from_slice(bytes).map_err(reason)?;
    if version != VERSION {
        return Err(format!("it has version {version}, and this release knows {VERSION}"));
    }
    let Envelope { kept, process } = serde_json::from_slice(bytes).map_err(reason)?;
    Ok((kept, process))
}

/// Why a file is not understood; what it quotes of the file is bounded and cannot pretend to be a line of the log.
fn reason(error: serde_json::Error) -> String {
    error.to_string().chars().filter(|c| !c.is_control()).take(REASON_MAX).collect()
}

/// The file's bytes.
pub fn text(kept: &Kept) -> Vec<u8> {
    let release = env!("CARGO_PKG_VERSION");
    let written = Written { version: VERSION, release, process: std::process::id(), kept };
    // Maps with keys that are no text would be the only failure, and there are none.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// Writes the newest of what waits, until nobody is left to hand anything in.
fn write(folder: &Folder, path: &Path, waiting: &Receiver<Job>) {
    while let Ok(job) = waiting.recv() {
        let jobs: Vec<Job> = [job].into_iter().chain(waiting.try_iter()).collect();
        let text = jobs.last().map(|job| text(&job.kept)).unwrap_or_default();
        let written = if text.is_empty() || text.len() as u64 > BYTES_MAX {
            Err(io::Error::other(format!("{} bytes cannot be kept", text.len())))
        } else {
            folder.replace(NAME, &text, 0o600)
        };
        if let Err(error) = written {
            tracing::error!(folder = %path.display(), %error, "orders of the operator are not kept: a crash would forget them");
        }
        jobs.into_iter().filter_map(|job| job.then).for_each(|then| then());
    }
}

#[cfg(test)]
mod tests;
