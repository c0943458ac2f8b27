//! Files in a folder that another user may be able to write, read and written with our rights.
//!
//! A path is resolved anew by each system call. Whoever can write a folder on the way can put a symbolic link there, also between two calls.
//! So a folder is opened once, and names below it are opened component by component, each without following a link. `openat2` would do it
//! in one call (`RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), but filters of containers refuse that one more often than these.
//!
//! What is no regular file is not opened at all: opening a device or a pipe has effects of its own. What is written anew is written
//! beside, brought to the disk and renamed: a reader finds the old content or the new one, after a crash too.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, renameat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
    unistd::{UnlinkatFlags, fsync, unlinkat},
};

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

/// What a name in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is.
    pub owner: u32,
    /// Whether nobody but its owner (and root) may write it.
    pub is_owners_alone: bool,
    /// Whether it is a socket.
    pub is_socket: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// All of it.
    pub bytes: Vec<u8>,
    /// About the file.
    pub facts: Facts,
}

impl Folder {
    /// A folder of the operator's or of the system's: on the way to it links are followed, at its end none is.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self { fd: nix::fcntl::open(path, flags, Mode::empty())? })
    }

    /// A folder by an absolute path that somebody else has named: no link is followed anywhere on the way.
    pub fn open_strictly(path: &Path) -> io::Result<Self> {
        let relative = path.strip_prefix("/").map_err(|_| refused("no absolute path"))?;
        Self::open(Path::new("/"))?.below(relative)
    }

    /// A folder below.
    pub fn below(&self, relative: &Path) -> io::Result<Self> {
        let mut at = Self { fd: self.fd.try_clone()? };
        for component in relative.components() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            at = Self { fd: openat(at.fd.as_fd(), plain(component)?, flags, Mode::empty())? };
        }
        Ok(at)
    }

    /// About the folder itself.
    pub fn facts(&self) -> io::Result<Facts> {
        Ok(facts(&fstat(self.fd.as_fd())?))
    }

    /// About a name in it; `None`: there is no such name.
    pub fn facts_of(&self, name: &str) -> io::Result<Option<Facts>> {
        match fstatat(self.fd.as_fd(), single(name)?, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(facts(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A regular file below, of at most so many bytes.
    pub fn read(&self, relative: &Path, bytes_max: u64) -> io::Result<Content> {
        let (handle, facts) = self.regular(relative)?;
        let mut bytes = Vec::new();
        File::open(place(handle.as_fd()))?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(refused(&format!("longer than {bytes_max} bytes")));
        }
        Ok(Content { bytes, facts })
    }

    /// Writes into a regular file below that is there: for files of /proc/sys.
    pub fn write(&self, relative: &Path, text: &str) -> io::Result<()> {
        let (handle, _) = self.regular(relative)?;
        File::options().write(true).truncate(true).open(place(handle.as_fd()))?.write_all(text.as_bytes())
    }

    /// Puts a file into the folder, in the place of whatever has its name, and waits until both are on the disk.
    pub fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let draft = format!("{name}.new");
        self.remove(&draft)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file =
            File::from(openat(self.fd.as_fd(), single(&draft)?, flags, Mode::from_bits_truncate(0o600))?);
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        self.rename(&draft, name)
    }

    /// Gives a name in the folder another name, and waits until that is on the disk.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        renameat(self.fd.as_fd(), single(from)?, self.fd.as_fd(), single(to)?)?;
        // Some file systems have nothing to bring to a disk and say so.
        match fsync(self.fd.as_fd()) {
            Err(error) if error != Errno::EINVAL => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes a name from the folder, a link as such; one that is not there is fine.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(self.fd.as_fd(), single(name)?, UnlinkatFlags::NoRemoveDir) {
            Err(error) if error != Errno::ENOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What a name in the folder is, held: [`place`] of it means the same thing whatever becomes of the name.
    pub fn hold(&self, name: &str) -> io::Result<(OwnedFd, Facts)> {
        self.handle(Path::new(single(name)?))
    }

    fn regular(&self, relative: &Path) -> io::Result<(OwnedFd, Facts)> {
        let (handle, facts) = self.handle(relative)?;
        if facts.is_file { Ok((handle, facts)) } else { Err(refused("no regular file")) }
    }

    fn handle(&self, relative: &Path) -> io::Result<(OwnedFd, Facts)> {
        let name = plain(relative.components().next_back().ok_or_else(|| refused("no name"))?)?;
        let parent = relative.parent().unwrap_or(Path::new(""));
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = openat(self.below(parent)?.fd.as_fd(), name, flags, Mode::empty())?;
        let facts = facts(&fstat(handle.as_fd())?);
        Ok((handle, facts))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path that means what is held, as long as it is.
pub fn place(handle: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", handle.as_raw_fd()).into()
}

fn facts(stat: &FileStat) -> Facts {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    Facts {
        owner: stat.st_uid,
        is_owners_alone: stat.st_mode & 0o022 == 0,
        is_socket: kind == SFlag::S_IFSOCK,
        is_file: kind == SFlag::S_IFREG,
    }
}

/// A component that leads down and nowhere else.
fn plain(component: Component<'_>) -> io::Result<&Path> {
    match component {
        Component::Normal(name) => Ok(Path::new(name)),
        _ => Err(refused("a path with .. or a root in it")),
    }
}

/// A name that is one component.
fn single(name: &str) -> io::Result<&str> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(refused("no name of one component")),
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;
    use crate::kernel::scratch::Scratch;

    #[test]
    fn no_symbolic_link_is_followed_and_no_name_leads_out() {
        let scratch = Scratch::new("folder");
        let (inside, outside) = (scratch.folder("inside"), scratch.folder("outside"));
        fs::write(outside.join("file"), "theirs").expect("a file");
        fs::write(inside.join("file"), "ours").expect("a file");
        symlink(outside.join("file"), inside.join("link")).expect("a link");
        symlink(&outside, inside.join("way")).expect("a link");
        let folder = Folder::open(&inside).expect("a folder");
        assert_eq!(folder.read(Path::new("file"), 9).expect("read").bytes, b"ours");
        let absolute = outside.join("file");
        for path in
            ["link", "way/file", "../outside/file", "./../outside/file", "", ".", "..", "missing/file"]
                .map(Path::new)
                .into_iter()
                .chain([absolute.as_path()])
        {
            assert!(folder.read(path, 9).is_err(), "{path:?} was read");
            assert!(folder.write(path, "bad").is_err(), "{path:?} was written");
        }
        assert!(Folder::open(&inside.join("way")).is_err(), "a link as the folder itself");
        assert!(Folder::open_strictly(&inside.join("way/deeper")).is_err());
        assert!(
            Folder::open_strictly(&inside).is_ok() && Folder::open_strictly(Path::new("inside")).is_err()
        );
        for name in ["../outside/file", "way/file", "/etc/passwd", "", "..", "file/"] {
            assert!(folder.remove(name).is_err() && folder.replace(name, b"bad", 0o600).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_to_string(outside.join("file")).expect("read"), "theirs");
    }

    #[test]
    fn a_file_is_replaced_whole_and_what_was_there_is_not_written_through() {
        let scratch = Scratch::new("replace");
        let (inside, outside) = (scratch.folder("inside"), scratch.folder("outside"));
        fs::write(outside.join("file"), "theirs").expect("a file");
        symlink(outside.join("file"), inside.join("note")).expect("a link");
        symlink(outside.join("file"), inside.join("note.new")).expect("a link");
        let folder = Folder::open(&inside).expect("a folder");
        folder.replace("note", b"new", 0o640).expect("replaced");
        let content = folder.read(Path::new("note"), 9).expect("read");
        assert_eq!((content.bytes.as_slice(), content.facts.is_owners_alone), (b"new".as_slice(), true));
        assert_eq!(fs::read_to_string(outside.join("file")).expect("read"), "theirs");
        assert!(folder.facts_of("note.new").expect("asked").is_none(), "the draft is gone");
        assert!(folder.read(Path::new("note"), 2).is_err(), "longer than may be");
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let scratch = Scratch::new("kinds");
        let inside = scratch.folder("inside");
        let _socket = UnixListener::bind(inside.join("socket")).expect("a socket");
        nix::unistd::mkfifo(&inside.join("pipe"), Mode::from_bits_truncate(0o600)).expect("a pipe");
        let folder = Folder::open(&inside).expect("a folder");
        for name in ["socket", "pipe"] {
            assert!(folder.read(Path::new(name), 9).is_err(), "{name}");
        }
        assert!(folder.facts_of("socket").expect("asked").is_some_and(|facts| facts.is_socket));
    }
}
