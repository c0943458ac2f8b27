//! Messages with an open file over a Unix socket: a length, and with it at most one descriptor (`SCM_RIGHTS`, unix(7)), then so
//! many bytes.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg,
    sockopt::PeerCredentials,
};

/// Longest message in bytes: anything longer is not of this protocol.
const MESSAGE_MAX: u32 = 256 << 20;

/// Bytes that may wait to be written with what follows.
const WAITING_MAX: usize = 64 << 10;

/// Descriptors that a message can have at most (`SCM_MAX_FD`, Linux 6.18): with room for all of them none is cut off unseen.
const FILES_MAX: usize = 253;

/// Groups of a process, for a first attempt.
const GROUPS_FEW: usize = 32;

/// The user as whom this process acts.
pub fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The process at the other end of a connection, or that listens there (`SO_PEERCRED`, unix(7)); `None` where its number means
/// nothing here.
pub fn peer_process(socket: &UnixStream) -> Option<u32> {
    let who = getsockopt(socket, PeerCredentials).ok()?;
    u32::try_from(who.pid()).ok().filter(|pid| *pid > 0)
}

/// The groups of the process at the other end of a connection, as they were when it connected (`SO_PEERGROUPS`, Linux 4.13).
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; GROUPS_FEW];
    loop {
        let mut len = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the option fills as many numbers as fit into the length that is told, and both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = len as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // The kernel has said how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// Sends messages, many small ones with one system call.
#[derive(Debug)]
pub struct Sender<'a> {
    socket: &'a mut UnixStream,
    /// What has not been written yet.
    waiting: Vec<u8>,
}

impl<'a> Sender<'a> {
    /// Nothing is written yet.
    pub fn new(socket: &'a mut UnixStream) -> Sender<'a> {
        Sender { socket, waiting: Vec::with_capacity(WAITING_MAX) }
    }

    /// Sends a message: with a file at once, and otherwise at the latest with [`Self::flush`].
    ///
    /// # Errors
    /// When it is too long, or the other end does not read.
    pub fn send(&mut self, message: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let length = u32::try_from(message.len()).ok().filter(|length| *length <= MESSAGE_MAX);
        let length = length.ok_or_else(|| io::Error::other("the message is too long"))?.to_le_bytes();
        if let Some(file) = file {
            self.flush()?;
            self.send_length(&length, file)?;
        } else {
            self.waiting.extend_from_slice(&length);
        }
        self.waiting.extend_from_slice(message);
        if self.waiting.len() < WAITING_MAX { Ok(()) } else { self.flush() }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the other end does not read.
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    fn send_length(&self, length: &[u8; 4], file: BorrowedFd<'_>) -> io::Result<()> {
        let (parts, files) = ([IoSlice::new(length)], [file.as_raw_fd()]);
        let control = [ControlMessage::ScmRights(&files)];
        match sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &parts, &control, MsgFlags::MSG_NOSIGNAL, None)? {
            sent if sent == length.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// Receives a message and what came with it.
pub fn receive(socket: &mut UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut length = [0_u8; 4];
    let (got, file) = receive_length(socket, &mut length)?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    socket.read_exact(&mut length[got..])?;
    let length = u32::from_le_bytes(length);
    if length > MESSAGE_MAX {
        return Err(io::Error::other("not a message of this protocol"));
    }
    let mut message = vec![0; length as usize];
    socket.read_exact(&mut message)?;
    Ok((message, file))
}

/// The first bytes, how many there were, and the first descriptor; others are closed.
fn receive_length(socket: &UnixStream, length: &mut [u8; 4]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; FILES_MAX]);
    let mut parts = [IoSliceMut::new(length)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let got = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let files = got.cmsgs()?.filter_map(|message| match message {
        ControlMessageOwned::ScmRights(files) => Some(files),
        _ => None,
    });
    // SAFETY: the kernel has opened these descriptors for us with this message, and nobody else knows them.
    let owned = files.flatten().map(|file| unsafe { OwnedFd::from_raw_fd(file) });
    // All of them are taken, so that none stays open.
    let mut owned: Vec<OwnedFd> = owned.collect();
    Ok((got.bytes, (!owned.is_empty()).then(|| owned.swap_remove(0))))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Seek, os::fd::AsFd};

    use super::*;

    #[test]
    fn the_process_at_the_other_end_is_known() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        assert_eq!(peer_process(&here), Some(std::process::id()));
    }

    #[test]
    fn the_groups_of_the_other_end_are_our_own_on_a_pair() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        let mut theirs = peer_groups(here.as_fd()).expect("groups");
        let own = nix::unistd::getgroups().expect("our groups");
        let mut own: Vec<u32> = own.into_iter().map(|group| group.as_raw()).collect();
        theirs.sort_unstable();
        own.sort_unstable();
        assert_eq!(theirs, own);
    }

    #[test]
    fn a_message_comes_with_the_file_that_was_sent_with_it() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        let mut file = File::open("/proc/self/status").expect("a file");
        file.seek(io::SeekFrom::Start(5)).expect("seek");
        let mut sender = Sender::new(&mut here);
        sender.send(b"first", None).expect("sent");
        sender.send(b"second", Some(file.as_fd())).expect("sent");
        sender.send(b"", None).expect("sent");
        sender.flush().expect("sent");
        drop(here);
        assert_eq!(
            receive(&mut there).map(|(message, file)| (message, file.is_some())).ok(),
            Some((b"first".to_vec(), false))
        );
        let (message, got) = receive(&mut there).expect("received");
        assert_eq!(message, b"second");
        let mut got = File::from(got.expect("with a file"));
        assert_eq!(got.stream_position().expect("the same open file"), 5);
        assert!(receive(&mut there).is_ok_and(|(message, file)| message.is_empty() && file.is_none()));
        assert!(receive(&mut there).is_err(), "the end");
    }

    #[test]
    fn small_messages_are_written_together_and_in_order() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        there.set_read_timeout(Some(std::time::Duration::from_millis(1))).expect("a timeout");
        let mut sender = Sender::new(&mut here);
        sender.send(b"one", None).expect("sent");
        assert!(receive(&mut there).is_err(), "a system call for one small message");
        sender.send(&vec![b'x'; WAITING_MAX], None).expect("sent");
        sender.send(b"three", None).expect("sent");
        sender.flush().expect("sent");
        let lengths = [3, WAITING_MAX, 5];
        assert!(lengths.iter().all(|length| receive(&mut there).is_ok_and(|(it, _)| it.len() == *length)));
    }

    #[test]
    fn of_several_files_the_first_is_taken_and_the_others_are_closed() {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        let file = File::open("/proc/self/status").expect("a file");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let files = [file.as_raw_fd(), writer.as_raw_fd()];
        let length = 0_u32.to_le_bytes();
        let control = [ControlMessage::ScmRights(&files)];
        let parts = [IoSlice::new(&length)];
        sendmsg::<UnixAddr>(here.as_raw_fd(), &parts, &control, MsgFlags::empty(), None).expect("sent");
        drop(writer);
        let (message, got) = receive(&mut there).expect("received");
        assert!(message.is_empty());
        assert!(got.expect("with a file").as_fd().try_clone_to_owned().is_ok());
        let mut text = Vec::new();
        assert_eq!(reader.read_to_end(&mut text).expect("the end"), 0, "nobody has the other end any more");
    }
}
