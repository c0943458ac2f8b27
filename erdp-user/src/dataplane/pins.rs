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
//!
//! The folder is that of the daemon's user, and `erdp uninstall` runs as root: what is made, changed and removed here follows no link
//! that has taken the place of one of these folders.

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
use crate::kernel::folder::{Folder, place};

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
                None => self.retire(number)?,
            }
        }
        let forwards = self.xdp_links().next().is_some();
        Ok(found.filter(|_| forwards))
    }

    fn generations(&self) -> BTreeMap<u32, PathBuf> {
        let number = |name: &str| name.strip_prefix("maps-")?.parse().ok();
        let names = self.opened().map(|folder| names(&folder)).unwrap_or_default();
        names.iter().filter_map(|name| Some((number(name)?, self.folder.join(name)))).collect()
    }

    /// The edge's folder, which must be a folder and no link to one.
    fn opened(&self) -> io::Result<Folder> {
        let (parent, name) = self.parent()?;
        parent.below(Path::new(name))
    }

    /// The folder of all edges, and the name of ours in it.
    fn parent(&self) -> io::Result<(Folder, &str)> {
        let none = || io::Error::from(io::ErrorKind::InvalidInput);
        let name = self.folder.file_name().and_then(|it| it.to_str()).ok_or_else(none)?;
        let parent = self.folder.parent().ok_or_else(none)?;
        Ok((Folder::open(parent)?, name))
    }

    /// Makes the folders for the next generation.
    pub fn begin(&self, number: u32) -> Result<(), PinError> {
        // Another edge that ends at this moment removes the folder above if it is empty.
        self.make(number).or_else(|_| self.make(number)).map_err(failed(&self.folder))
    }

    fn make(&self, number: u32) -> io::Result<()> {
        fs::create_dir_all(self.folder.parent().unwrap_or(&self.folder))?;
        let (parent, name) = self.parent()?;
        let folder = made(&parent, name)?;
        made(&folder, &maps_name(number))?;
        made(&folder, "links")?;
        let place = place(folder.as_fd());
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700))?;
        match symlink(bpffs::network_namespace_name(), place.join("namespace")) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// The generation is complete.
    pub fn complete(&self, generation: &Generation) -> Result<(), PinError> {
        let path = self.maps(generation.number).join("about");
        let write = || {
            let text = serde_json::to_string(&generation.about).map_err(io::Error::other)?;
            self.note(generation.number, "about", &text)
        };
        match write() {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Writes a text beside the maps of a generation.
    fn note(&self, number: u32, name: &str, text: &str) -> io::Result<()> {
        let folder = self.opened()?.below(Path::new(&maps_name(number)))?;
        symlink(text, place(folder.as_fd()).join(name))
    }

    /// Notes that a generation was found without its controller; the answer is for how long it has been, since the first such note.
    /// `now` counts from the machine's boot.
    pub fn lost(&self, number: u32, now: Duration) -> Duration {
        let path = self.maps(number).join("lost");
        let text = match self.note(number, "lost", &now.as_secs().to_string()) {
            Err(_) => fs::read_link(&path).ok(),
            Ok(()) => None,
        };
        let noted = text.and_then(|text| text.to_str()?.parse().ok()).map(Duration::from_secs);
        noted.map_or(Duration::ZERO, |noted| now.saturating_sub(noted))
    }

    /// Removes the maps of a generation.
    pub fn retire(&self, number: u32) -> Result<(), PinError> {
        let path = self.maps(number);
        match self.opened() {
            Ok(folder) => remove(&folder, &maps_name(number)).map_err(failed(&path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(&path)(error)),
        }
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
        self.folder.join(maps_name(number))
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
        let links = self.opened().and_then(|folder| folder.below(Path::new("links")));
        let index = |name: &str| name.strip_prefix("xdp-")?.parse().ok();
        let names = links.map(|links| names(&links)).unwrap_or_default();
        names.into_iter().filter_map(move |name| Some((index(&name)?, self.link(&name))))
    }

    /// Removes everything: links first, so that no program runs on maps that are going. The answer is how many pins there were.
    pub fn remove(&self) -> Result<usize, PinError> {
        let removed = match self.parent() {
            Ok((parent, name)) => self.empty().and_then(|count| remove(&parent, name).map(|()| count)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        if let Some(parent) = self.folder.parent() {
            // Another edge's folder may be there.
            let _ = fs::remove_dir(parent);
        }
        removed.map_err(failed(&self.folder))
    }

    /// Ends what the pinned links do and removes them; the answer is how many pins there are in all.
    fn empty(&self) -> io::Result<usize> {
        // What is no folder is removed as what it is.
        let Ok(folder) = self.opened() else { return Ok(0) };
        let below = |name: &String| folder.below(Path::new(name)).map_or(0, |it| names(&it).len());
        let count = names(&folder).iter().map(below).sum();
        if let Ok(links) = folder.below(Path::new("links")) {
            let owner = folder.facts()?.owner;
            for name in names(&links).iter().filter(|name| name.starts_with("xdp-")) {
                detach(&links, name, owner);
            }
        }
        remove(&folder, "links")?;
        Ok(count)
    }
}

/// Ends what a pinned link does. One that cannot be asked to, goes with its pin. A pin of another user's that was linked into the folder
/// is left to run.
fn detach(links: &Folder, name: &str, owner: u32) {
    let Ok((handle, facts)) = links.hold(name) else { return };
    if facts.is_file && [owner, 0].contains(&facts.owner) {
        let _ = bpffs::open(&place(handle.as_fd())).and_then(|link| bpffs::detach_link(link.as_fd()));
    }
}

fn maps_name(number: u32) -> String {
    format!("maps-{number}")
}

/// The names in a folder.
fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(place(folder.as_fd())).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A folder in another one, made if it is not there.
fn made(parent: &Folder, name: &str) -> io::Result<Folder> {
    match fs::create_dir(place(parent.as_fd()).join(name)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => parent.below(Path::new(name)),
    }
}

/// Removes a folder with everything in it, and a link as a link; what is not there is fine.
fn remove(parent: &Folder, name: &str) -> io::Result<()> {
    match fs::remove_dir_all(place(parent.as_fd()).join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::scratch::Scratch;

    fn about() -> About {
        About { abi: 1, mode: Mode::Native, links: vec![3], shape: 5 }
    }

    #[test]
    fn a_generation_is_made_noted_and_removed() {
        let scratch = Scratch::new("pins");
        let pins = Pins { folder: scratch.path().join("erdp/7") };
        assert_eq!(pins.remove().expect("nothing is there"), 0);
        pins.begin(1).expect("folders");
        pins.complete(&Generation { number: 1, about: about() }).expect("noted");
        assert_eq!(pins.current().expect("read"), None, "no program is attached");
        fs::write(pins.xdp_link(3), "").expect("a pin");
        assert_eq!(pins.current().expect("read"), Some(Generation { number: 1, about: about() }));
        assert_eq!(pins.lost(1, Duration::from_secs(5)), Duration::ZERO);
        assert_eq!(pins.lost(1, Duration::from_secs(9)), Duration::from_secs(4));
        pins.begin(2).expect("folders");
        assert!(pins.current().is_ok() && !pins.maps(2).exists(), "what a failed start has left is removed");
        assert_eq!(pins.remove().expect("removed"), 3);
        assert!(!scratch.path().join("erdp").exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_leads_nobody_to_what_is_behind_it() {
        let scratch = Scratch::new("pins-links");
        let theirs = scratch.folder("theirs");
        for name in ["links/xdp-3", "links/other", "maps-1/MAP"] {
            fs::create_dir_all(theirs.join(name).parent().expect("it has one")).expect("a folder");
            fs::write(theirs.join(name), "theirs").expect("a file");
        }
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).expect("its mode");
        let are_there =
            || ["links/xdp-3", "links/other", "maps-1/MAP"].iter().all(|it| theirs.join(it).exists());
        let pins = Pins { folder: scratch.folder("erdp").join("7") };
        symlink(&theirs, pins.folder()).expect("a link");
        assert_eq!((pins.current().expect("read"), pins.xdp_links().count()), (None, 0));
        assert!(pins.begin(2).is_err() && !theirs.join("maps-2").exists());
        assert!(pins.complete(&Generation { number: 1, about: about() }).is_err());
        assert!(pins.retire(1).is_err());
        assert_eq!(pins.remove().expect("the link goes"), 0);
        assert!(!pins.folder().exists() && are_there());
        for name in ["links", "maps-1"] {
            fs::create_dir_all(pins.folder()).expect("a folder");
            symlink(theirs.join(name), pins.folder().join(name)).expect("a link");
            assert_eq!(pins.xdp_links().count(), 0, "{name}");
            assert!(pins.begin(1).is_err(), "{name}");
            pins.remove().expect("the link goes");
            assert!(are_there(), "{name}");
        }
        assert_eq!(fs::metadata(&theirs).expect("it is there").permissions().mode() & 0o777, 0o755);
    }
}
