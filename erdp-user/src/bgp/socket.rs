//! What the socket crates do not offer: TCP MD5 signatures (RFC 2385, Linux `TCP_MD5SIG`) and the index of an interface.
//!
//! The key must be on the listening socket too, for each peer. A wrong key shows only as a connect time-out: the kernel drops
//! unsigned segments without a word.

use std::{io, mem, net::IpAddr, net::SocketAddr, os::fd::AsRawFd};

use socket2::SockAddr;

/// `struct tcp_md5sig` of <linux/tcp.h>.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: i32,
    key: [u8; 80],
}

const TCP_MD5SIG: libc::c_int = 14;

/// Sets the MD5 key for one peer.
pub fn set_md5_key(socket: &impl AsRawFd, peer: IpAddr, key: &str) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "an MD5 key has at most 80 octets");
    let address = SockAddr::from(SocketAddr::new(peer, 0));
    // SAFETY: sockaddr_storage and the rest are plain integers, zero is valid.
    let mut option: TcpMd5Sig = unsafe { mem::zeroed() };
    // SAFETY: SockAddr holds a sockaddr_storage of at least len() bytes; both are at least that long.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut option.address).cast::<u8>(),
            address.len() as usize,
        );
    }
    option.key.get_mut(..key.len()).ok_or_else(too_long)?.copy_from_slice(key.as_bytes());
    option.key_len = key.len() as u16;
    // SAFETY: the option is as long as we say and lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_MD5SIG,
            (&raw const option).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The index of an interface in this network namespace, which a link-local address needs; 0: there is none.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name).map_err(io::Error::other)?;
    // SAFETY: a NUL-terminated name.
    Ok(unsafe { libc::if_nametoindex(name.as_ptr()) })
}
