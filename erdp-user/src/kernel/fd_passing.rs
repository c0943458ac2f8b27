//! Messages with an open file over a Unix socket: a length, and with it at most one descriptor (`SCM_RIGHTS`, unix(7)), then so
//! many bytes.

use std::{
    io::{self, Read, Write},
    mem,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    ptr,
};

/// Longest message in bytes: anything longer is not of this protocol.
const MESSAGE_MAX: u32 = 256 << 20;
/// Room for one descriptor's control message.
const CONTROL_BYTES: usize = 64;

/// Groups of a process, for a first attempt.
const GROUPS_FEW: usize = 32;

#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// The user as whom this process acts.
pub fn own_user() -> u32 {
    // SAFETY: a system call without arguments that cannot fail.
    unsafe { libc::geteuid() }
}

/// The process at the other end of a connection, or that listens there (`SO_PEERCRED`, unix(7)); `None` where its number means
/// nothing here.
pub fn peer_process(socket: &UnixStream) -> Option<u32> {
    // SAFETY: ucred is plain old data, for which zero is a value.
    let mut who: libc::ucred = unsafe { mem::zeroed() };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the option fills one ucred, whose size is told, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut len,
        )
    };
    (result == 0).then_some(who.pid).and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0)
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

/// Sends a message.
pub fn send(socket: &mut UnixStream, message: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let length = u32::try_from(message.len()).ok().filter(|length| *length <= MESSAGE_MAX);
    let mut length = length.ok_or_else(|| io::Error::other("the message is too long"))?.to_le_bytes();
    let mut part = libc::iovec { iov_base: length.as_mut_ptr().cast(), iov_len: length.len() };
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: msghdr is plain old data, for which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    if let Some(file) = file {
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: the macros compute within the control buffer, which is long enough for one descriptor and aligned.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(size_of::<libc::c_int>() as u32) as _;
            ptr::write_unaligned(libc::CMSG_DATA(first).cast::<libc::c_int>(), file.as_raw_fd());
        }
    }
    // SAFETY: the header's pointers are to values that live until the call returns.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    match sent {
        4 => socket.write_all(message),
        -1 => Err(io::Error::last_os_error()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Receives a message and what came with it.
pub fn receive(socket: &mut UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut length = [0_u8; 4];
    let mut part = libc::iovec { iov_base: length.as_mut_ptr().cast(), iov_len: length.len() };
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: msghdr is plain old data, for which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: the header's pointers are to values that live until the call returns, with their lengths.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    let file = received_file(&header);
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    socket.read_exact(&mut length[got as usize..])?;
    let length = u32::from_le_bytes(length);
    if length > MESSAGE_MAX {
        return Err(io::Error::other("not a message of this protocol"));
    }
    let mut message = vec![0; length as usize];
    socket.read_exact(&mut message)?;
    Ok((message, file))
}

fn received_file(header: &libc::msghdr) -> Option<OwnedFd> {
    // SAFETY: the kernel has filled the control buffer as msg_controllen says; a descriptor in it is ours from now on.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        let is_file = !first.is_null()
            && (*first).cmsg_level == libc::SOL_SOCKET
            && (*first).cmsg_type == libc::SCM_RIGHTS
            && (*first).cmsg_len >= libc::CMSG_LEN(size_of::<libc::c_int>() as u32) as _;
        is_file
            .then(|| OwnedFd::from_raw_fd(ptr::read_unaligned(libc::CMSG_DATA(first).cast::<libc::c_int>())))
    }
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
        send(&mut here, b"first", None).expect("sent");
        send(&mut here, b"second", Some(file.as_fd())).expect("sent");
        send(&mut here, b"", None).expect("sent");
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
}
