//! What of an edge outlives its controller: links, maps, and a note of what they mean.
//!
//! ```text
//! /sys/fs/bpf/erdp/COOKIE/            one edge: the number of its network namespace
//!     namespace -> NAME               what an operator calls it (a symbolic link is text here)
//!     links/xdp-IFINDEX, links/NAME   BPF links: while they are pinned the program runs, whoever has died
//!     maps-N/MAP                      the maps of generation N
//!     maps-N/program                  its program: by its number alone only CAP_SYS_ADMIN would get it back, which the daemon has not
//!     maps-N/about -> TEXT            what they are: the ABI's version, how the interfaces are numbered; written last
//!     maps-N/lost -> SECONDS          when a start first found it without its controller, since the machine's boot
//! ```
//! A *generation* is a program with its maps. A start makes the next one beside what is there, fills it, and only then has each
//! link run the new program; so the old one forwards on what it knows until the new one knows enough, and a start that fails on
//! the way leaves nothing but a folder without `about`, which the next one removes.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Mode, bpffs};

/// Why nothing can be pinned, or what is pinned cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No bpffs.
    #[error(
        "the BPF file system cannot be mounted: {0}; mount it yourself: mount -t bpf bpf /sys/fs/bpf (without it forwarding ends \
         with this process)"
    )]
    NoFileSystem(io::Error),
    /// A file operation failed.
    #[error(
        "{path}: {error}; erdp needs root for its pins, `erdp uninstall` removes those of this network namespace"
    )]
    Io {
        /// The pin or folder.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PinError + '_ {
    move |error| PinError::Io { path: path.into(), error }
}

/// What the maps of a generation mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the records ([`erdp_common::abi::ABI_VERSION`]).
    pub abi: u32,
    /// How the program is attached.
    pub mode: Mode,
    /// Interfaces by their liveness words: the first one's is word 1.
    pub links: Vec<u32>,
    /// A number for how attachments, circuits and policers are numbered: counters and buckets mean the same when it is the same.
    pub shape: u64,
}

/// The generation that forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Counted from 1.
    pub number: u32,
    /// What its maps mean.
    pub about: About,
}

/// The folder of one edge.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// The folder of the edge in this network namespace; it is made when something is pinned.
    pub fn of_this_namespace() -> Result<Self, PinError> {
        let root = bpffs::root().map_err(PinError::NoFileSystem)?;
        let cookie = bpffs::network_namespace().map_err(PinError::NoFileSystem)?;
        Ok(Self { folder: root.join("erdp").join(cookie.to_string()) })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The generation that forwards; `None`: nothing does. What a failed start has left is removed.
    pub fn current(&self) -> Result<Option<Generation>, PinError> {
        let mut found: Option<Generation> = None;
        for (number, folder) in self.generations() {
            let text = fs::read_link(folder.join("about"));
            let about = text.ok().and_then(|text| serde_json::from_str(text.to_str()?).ok());
            match about {
                Some(about) => found = Some(Generation { number, about }),
                None => remove(&folder)?,
            }
        }
        let forwards = self.xdp_links().next().is_some();
        Ok(found.filter(|_| forwards))
    }

    fn generations(&self) -> BTreeMap<u32, PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let number = |name: &str| name.strip_prefix("maps-")?.parse().ok();
        entries.filter_map(|it| Some((number(it.file_name().to_str()?)?, it.path()))).collect()
    }

    /// Makes the folders for the next generation.
    pub fn begin(&self, number: u32) -> Result<(), PinError> {
        let maps = self.maps(number);
        for folder in [&maps, &self.folder.join("links")] {
            // Another edge that ends at this moment removes the folder above if it is empty.
            fs::create_dir_all(folder).or_else(|_| fs::create_dir_all(folder)).map_err(failed(folder))?;
        }
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700)).map_err(failed(&self.folder))?;
        let name = self.folder.join("namespace");
        match symlink(bpffs::network_namespace_name(), &name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(&name)(error)),
            _ => Ok(()),
        }
    }

    /// The generation is complete.
    pub fn complete(&self, generation: &Generation) -> Result<(), PinError> {
        let path = self.maps(generation.number).join("about");
        let text =
            serde_json::to_string(&generation.about).map_err(io::Error::other).map_err(failed(&path))?;
        match symlink(text, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Notes that a generation was found without its controller; the answer is for how long it has been, since the first such note.
    /// `now` counts from the machine's boot.
    pub fn lost(&self, number: u32, now: Duration) -> Duration {
        let path = self.maps(number).join("lost");
        let text = match symlink(now.as_secs().to_string(), &path) {
            Err(_) => fs::read_link(&path).ok(),
            Ok(()) => None,
        };
        let noted = text.and_then(|text| text.to_str()?.parse().ok()).map(Duration::from_secs);
        noted.map_or(Duration::ZERO, |noted| now.saturating_sub(noted))
    }

    /// Removes the maps of a generation.
    pub fn retire(&self, number: u32) -> Result<(), PinError> {
        remove(&self.maps(number))
    }

    /// Removes the maps of all generations but one.
    pub fn retire_others(&self, number: u32) -> Result<(), PinError> {
        self.generations()
            .into_keys()
            .filter(|other| *other != number)
            .try_for_each(|other| self.retire(other))
    }

    /// The folder of a generation's maps.
    pub fn maps(&self, number: u32) -> PathBuf {
        self.folder.join(format!("maps-{number}"))
    }

    /// Where a generation's program is pinned, beside its maps.
    pub fn own_program(&self, number: u32) -> PathBuf {
        self.maps(number).join("program")
    }

    /// A program by the number that a link tells: one of those that are pinned, or any for whoever may ask for any.
    pub fn program(&self, id: u32) -> io::Result<OwnedFd> {
        let pinned = self.generations().into_keys().map(|number| self.own_program(number));
        let mut programs = pinned.filter_map(|path| bpffs::open(&path).ok());
        let found = programs.find(|program| bpffs::program_id(program.as_fd()).is_ok_and(|it| it == id));
        found.map_or_else(|| bpffs::program(id), Ok)
    }

    /// The pin of an interface's link.
    pub fn xdp_link(&self, ifindex: u32) -> PathBuf {
        self.link(&format!("xdp-{ifindex}"))
    }

    /// The pin of another link.
    pub fn link(&self, name: &str) -> PathBuf {
        self.folder.join("links").join(name)
    }

    /// The pinned links of interfaces, by index.
    pub fn xdp_links(&self) -> impl Iterator<Item = (u32, PathBuf)> {
        let entries = fs::read_dir(self.folder.join("links")).into_iter().flatten().flatten();
        let index = |name: &str| name.strip_prefix("xdp-")?.parse().ok();
        entries.filter_map(move |it| Some((index(it.file_name().to_str()?)?, it.path())))
    }

    /// Removes everything: links first, so that no program runs on maps that are going. The answer is how many pins there were.
    pub fn remove(&self) -> Result<usize, PinError> {
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let count = folders.map(|it| fs::read_dir(it.path()).into_iter().flatten().count()).sum();
        for (_, path) in self.xdp_links() {
            // One that cannot be asked to, goes with its pin.
            let _ = bpffs::open(&path).and_then(|link| bpffs::detach_link(link.as_fd()));
        }
        remove(&self.folder.join("links"))?;
        remove(&self.folder)?;
        if let Some(parent) = self.folder.parent() {
            // Another edge's folder may be there.
            let _ = fs::remove_dir(parent);
        }
        Ok(count)
    }
}

/// A folder with everything in it; one that is not there is fine.
fn remove(folder: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(folder)(error)),
        _ => Ok(()),
    }
}
