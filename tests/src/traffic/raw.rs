//! Sockets and threads as no library offers them: options that are missing elsewhere, and frames written to an interface as they are (packet(7)).
//!
//! A [`Sender`] hands batches of frames to the driver past the queueing discipline: a flood at the rate that one CPU makes.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    ptr,
};

use anyhow::{Context as _, Result};
use nix::{libc, net::if_::if_nametoindex};
use socket2::{Domain, Socket, Type};

/// Frames that one system call takes at most.
pub const BATCH: usize = 64;

/// Sets an option that is a number.
///
/// # Errors
/// The kernel's.
pub fn set_option(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the length of the call, and the option's value is a c_int of that size.
    let done = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, ptr::from_ref(&value).cast(), len)
    };
    if done < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("socket option {level}/{name}"));
    }
    Ok(())
}

/// Lets the calling thread run before all ordinary ones, as a BFD daemon does: how late it is is then not the scheduler's doing.
///
/// # Errors
/// Without the right to it.
pub fn run_first() -> Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread, and the parameter outlives the call.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    if done < 0 {
        return Err(io::Error::last_os_error()).context("real-time priority needs root");
    }
    Ok(())
}

/// Forbids the kernel to cut up what is sent: it is refused when larger than the path's known MTU.
///
/// # Errors
/// The kernel's.
pub fn forbid_fragments(socket: &impl AsFd, is_ipv4: bool) -> Result<()> {
    if is_ipv4 {
        set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    } else {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
    }
}

/// Writes frames to one interface of the calling thread's network namespace.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens it on `interface`; it hears nothing.
    ///
    /// # Errors
    /// When there is no such interface, or no right to it.
    pub fn open(interface: &str) -> Result<Sender> {
        let index = if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
        // Protocol 0: nothing is received.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).context("packet sockets need root")?;
        // SAFETY: sockaddr_ll is plain old data, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = i32::try_from(index)?;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the socket is open, and the address is a sockaddr_ll of that size.
        let done = unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), len) };
        if done < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("cannot bind to {interface}"));
        }
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        Ok(Sender(socket.into()))
    }

    /// Sends up to [`BATCH`] frames; the answer is how many the driver has taken.
    ///
    /// # Errors
    /// The kernel's, but for a full queue: then none is taken.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<usize> {
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .take(BATCH)
            .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: mmsghdr is plain old data, for which zero is a value.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (part, 1);
                message
            })
            .collect();
        let (first, count) = (messages.as_mut_ptr(), messages.len() as libc::c_uint);
        // SAFETY: each message points to one part of `parts`, each part to one frame; all of them outlive the call, and the kernel
        // only reads the frames.
        let sent = unsafe { libc::sendmmsg(self.0.as_raw_fd(), first, count, 0) };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::EAGAIN) => Ok(0),
            _ => Err(error).context("cannot send frames"),
        }
    }
}
