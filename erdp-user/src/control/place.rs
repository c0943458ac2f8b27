//! The control socket as a file. Its folder is the daemon's own user's, and root runs commands too: so nothing but a socket is ever
//! replaced or removed, and no link is followed to it.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Component, Path},
};

use crate::kernel::folder::{Folder, place};

/// Removes the socket that a dead daemon has left; nothing there is fine, anything else is not.
pub fn clear(path: &Path) -> io::Result<()> {
    let (folder, name) = located(path)?;
    match folder.facts_of(name)? {
        None => Ok(()),
        Some(facts) if facts.is_socket => folder.remove(name),
        Some(_) => Err(io::Error::other("something that is no socket is there, and is left as it is")),
    }
}

/// Owner and group may connect.
pub fn open_to_group(path: &Path) -> io::Result<()> {
    let (folder, name) = located(path)?;
    let (handle, facts) = folder.hold(name)?;
    if !facts.is_socket {
        return Err(io::Error::other("it was replaced by something that is no socket"));
    }
    fs::set_permissions(place(handle.as_fd()), fs::Permissions::from_mode(0o660))
}

/// Removes the socket that a note names, which `writer` has written ([`crate::kernel::traces::Note::writer`]). Only one at which nobody
/// listens; and only what the writer could have removed without us: the socket and the folder it is in must be the writer's own. Root may
/// name any place. An error is the reason why it stays.
pub fn remove_noted(path: &Path, writer: Option<u32>) -> Result<bool, String> {
    let stays =
        |why: &str| Err(format!("{}: {why}: left as it is", path.display().to_string().escape_debug()));
    let Some(writer) = writer else { return stays("more than one user could have named it") };
    let plain = |it: Component<'_>| matches!(it, Component::RootDir | Component::Normal(_));
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return stays("no path of a socket");
    };
    if !path.is_absolute() || !path.components().all(plain) {
        return stays("no absolute path");
    }
    let Ok(folder) = Folder::open_strictly(parent) else { return Ok(false) };
    let Ok((handle, facts)) = folder.hold(name) else { return Ok(false) };
    if !facts.is_socket {
        return stays("no socket");
    }
    let owner = folder.facts().map_err(|error| error.to_string())?.owner;
    if facts.owner != writer || (writer != 0 && owner != writer) {
        return stays("it is another user's than the note");
    }
    if UnixStream::connect(place(handle.as_fd())).is_ok() {
        return Ok(false);
    }
    // Whatever has taken its name meanwhile is in a folder of whoever has asked for it.
    folder.remove(name).map(|()| true).map_err(|error| format!("{}: {error}", path.display()))
}

fn located(path: &Path) -> io::Result<(Folder, &str)> {
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.ok_or_else(|| io::Error::other("no path of a socket"))?;
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Folder::open(parent)?, name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{MetadataExt, chown, symlink},
        net::UnixListener,
    };

    use super::*;
    use crate::kernel::{fd_passing::own_user, scratch::Scratch};

    /// A user that nobody is.
    const ANOTHER: u32 = 64_999;

    #[test]
    fn only_a_socket_is_replaced_and_only_the_socket_gets_its_mode() {
        let scratch = Scratch::new("socket");
        let (inside, outside) = (scratch.folder("inside"), scratch.folder("outside"));
        let theirs = outside.join("theirs");
        fs::write(&theirs, "theirs").expect("a file");
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o600)).expect("its mode");
        let socket = inside.join("control.sock");
        assert!(clear(&socket).is_ok(), "nothing is there");
        symlink(&theirs, &socket).expect("a link");
        assert!(clear(&socket).is_err() && open_to_group(&socket).is_err(), "a link is no socket");
        fs::remove_file(&socket).expect("it goes");
        fs::write(&socket, "notes").expect("a file");
        assert!(clear(&socket).is_err(), "a file is no socket");
        fs::remove_file(&socket).expect("it goes");
        drop(UnixListener::bind(&socket).expect("a socket"));
        open_to_group(&socket).expect("its mode");
        assert_eq!(fs::metadata(&socket).expect("it is there").mode() & 0o777, 0o660);
        clear(&socket).expect("a dead daemon's");
        assert!(!socket.exists());
        assert_eq!(fs::metadata(&theirs).expect("it is there").mode() & 0o777, 0o600);
    }

    #[test]
    fn a_socket_that_a_note_names_goes_only_if_its_writer_could_have_removed_it() {
        let scratch = Scratch::new("noted");
        let (own, outside) = (scratch.folder("own"), scratch.folder("outside"));
        let (me, file) = (own_user(), outside.join("file"));
        fs::write(&file, "theirs").expect("a file");
        let named = |path: &Path| {
            drop(UnixListener::bind(path).expect("a socket"));
            path.to_owned()
        };
        symlink(&outside, own.join("way")).expect("a link");
        let (ours, theirs) = (named(&own.join("control.sock")), named(&outside.join("control.sock")));
        let through = own.join("way/control.sock");
        for (path, writer, why) in [
            (file.as_path(), Some(me), "no socket"),
            (&ours, None, "more than one user"),
            (&ours, Some(ANOTHER), "another user's"),
            (Path::new("control.sock"), Some(me), "no absolute path"),
            (&own.join("../outside/control.sock"), Some(me), "no absolute path"),
            (Path::new("/"), Some(me), "no path"),
        ] {
            let said = remove_noted(path, writer).expect_err("it stays");
            assert!(said.contains(why), "{said}");
        }
        assert_eq!(remove_noted(&through, Some(me)), Ok(false), "by a link");
        assert_eq!(remove_noted(&own.join("missing"), Some(me)), Ok(false));
        let listening = UnixListener::bind(own.join("busy")).expect("a socket");
        assert_eq!(remove_noted(&own.join("busy"), Some(me)), Ok(false), "somebody listens");
        drop(listening);
        if me == 0 {
            chown(&theirs, Some(ANOTHER), None).expect("root");
            assert!(remove_noted(&theirs, Some(ANOTHER)).is_err(), "the folder is another user's");
            assert!(remove_noted(&theirs, Some(0)).is_err(), "root's note, and not root's socket");
            chown(&outside, Some(ANOTHER), None).expect("root");
            assert_eq!(remove_noted(&theirs, Some(ANOTHER)), Ok(true));
        }
        assert_eq!(remove_noted(&ours, Some(me)), Ok(true));
        assert!(!ours.exists() && file.exists());
    }
}
