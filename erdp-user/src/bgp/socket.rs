//! Socket options of BGP's TCP connections, and the words for what the system says about them.
//!
//! Connecting sockets are bound to our address and, where configured, to the interface; both they and listening sockets carry the peers' MD5
//! keys (RFC 2385), and both send with class selector 6. TTL is 255 with GTSM, whose check the kernel does (RFC 5082), and 1 otherwise: a directly connected session must not
//! leave its link. TCP_MD5SIG, IP_MINTTL and IPV6_MINHOPCOUNT have no safe wrapper in the crates used here, hence the two calls below.

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::PeerConfig;

/// Longest MD5 key the kernel takes, in bytes.
const MD5_KEY_BYTES: usize = 80;
/// Class selector 6, network control, in the DSCP bits (RFC 4594 section 3.1).
const TOS_NETWORK_CONTROL: u32 = 0xc0;

/// A socket ready to connect to the peer.
pub(super) fn dialling_socket(config: &PeerConfig) -> io::Result<TcpSocket> {
    let socket = Socket::new(
        Domain::for_address(remote_address(config)?),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if let Some(interface) = &config.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    set_md5(socket.as_fd(), config.remote, config.md5.as_deref().unwrap_or_default())?;
    set_ttl(&socket, config.remote, config.gtsm)?;
    set_network_control(&socket, config.remote)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&scoped(config.local, 0, config.interface.as_deref())?.into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Where to connect to, with the scope a link-local address needs.
pub(super) fn remote_address(config: &PeerConfig) -> io::Result<SocketAddr> {
    scoped(config.remote, config.port, config.interface.as_deref())
}

/// Prepares a connection the peer made.
pub(super) fn prepare_accepted(stream: &TcpStream, config: &PeerConfig) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    set_network_control(&socket, config.remote)?;
    set_ttl(&socket, config.remote, config.gtsm)
}

/// Reads what waits in a connection's socket, whatever the runtime has noticed of it.
pub(super) fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    // The descriptor is one of the runtime's, which does not block.
    io::Read::read(&mut &*SockRef::from(stream), buffer)
}

/// Writes what the socket takes now, likewise.
pub(super) fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    io::Write::write(&mut &*SockRef::from(stream), bytes)
}

/// A listening socket. Its TTL is 255, so that also peers with GTSM take the SYN-ACK, which is network control like all that follows.
pub(super) fn listening_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(255)?;
    } else {
        socket.set_ttl_v4(255)?;
    }
    set_network_control(&socket, address.ip())?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// RFC 4271 appendix E: BGP's packets have the precedence of network control, whoever has called.
fn set_network_control(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_tos_v4(TOS_NETWORK_CONTROL),
        IpAddr::V6(_) => socket.set_tclass_v6(TOS_NETWORK_CONTROL),
    }
}

fn set_ttl(socket: &Socket, remote: IpAddr, gtsm: bool) -> io::Result<()> {
    let ttl = if gtsm { 255 } else { 1 };
    match remote {
        IpAddr::V4(_) => {
            socket.set_ttl_v4(ttl)?;
            if gtsm {
                set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MINTTL, &255)?;
            }
        }
        IpAddr::V6(_) => {
            socket.set_unicast_hops_v6(ttl)?;
            if gtsm {
                set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &255)?;
            }
        }
    }
    Ok(())
}

/// `address` with the interface as scope where it is link-local.
fn scoped(address: IpAddr, port: u16, interface: Option<&str>) -> io::Result<SocketAddr> {
    Ok(match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(v6, port, 0, interface_index(interface)?))
        }
        _ => SocketAddr::new(address, port),
    })
}

/// The index of an interface in this network namespace.
pub(super) fn interface_index(interface: Option<&str>) -> io::Result<u32> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "a link-local peer needs an interface");
    Ok(if_nametoindex(interface.ok_or_else(missing)?)?)
}

/// `struct tcp_md5sig` of linux/tcp.h; the address is a `sockaddr_storage` written by hand.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct TcpMd5Sig {
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    key_bytes: u16,
    interface: u32,
    key: [u8; MD5_KEY_BYTES],
}
const _: () = assert!(size_of::<TcpMd5Sig>() == 216);

/// Sets the key for one peer on a connecting or listening socket; an empty key is no key, and removes one that was there.
pub(super) fn set_md5(socket: BorrowedFd<'_>, peer: IpAddr, key: &str) -> io::Result<()> {
    const TCP_MD5SIG: c_int = 14;
    let mut sig = TcpMd5Sig {
        address: [0; 128],
        flags: 0,
        prefix_length: 0,
        key_bytes: 0,
        interface: 0,
        key: [0; MD5_KEY_BYTES],
    };
    let room = sig.key.get_mut(..key.len());
    room.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an MD5 key has at most 80 bytes"))?
        .copy_from_slice(key.as_bytes());
    sig.key_bytes = key.len() as u16;
    // sockaddr_in: family, port, address; sockaddr_in6: family, port, flow label, address.
    match peer {
        IpAddr::V4(v4) => {
            sig.address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            sig.address[4..8].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            sig.address[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            sig.address[8..24].copy_from_slice(&v6.octets());
        }
    }
    match set_option(socket, libc::IPPROTO_TCP, TCP_MD5SIG, &sig) {
        // No key was there that could be removed, or the kernel knows no keys and none is wanted.
        Err(_) if key.is_empty() => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel has no TCP MD5 (CONFIG_TCP_MD5SIG): use another kernel or remove the key on both sides",
        )),
        outcome => outcome,
    }
}

/// setsockopt with a plain value: an integer or a C struct without pointers.
fn set_option<T: Copy>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads exactly size_of::<T>() bytes from `value`, which is borrowed for the call and whose types here have
    // no padding; the descriptor is borrowed too.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What an operator should read for an error of connecting or of a connection.
pub(super) fn explain(error: &io::Error, config: &PeerConfig) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => {
            format!(" (give {} to the interface, or wait for duplicate address detection)", config.local)
        }
        Some(libc::ECONNREFUSED) => {
            " (no BGP daemon listens there, or it has no neighbour with our address)".to_owned()
        }
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => {
            " (no route, or the neighbour answers no ARP/ND: look at link and addresses)".to_owned()
        }
        Some(libc::ENODEV) => {
            format!(" (there is no interface {})", config.interface.as_deref().unwrap_or("of that name"))
        }
        Some(libc::EPERM | libc::EACCES) => " (run with CAP_NET_RAW and CAP_NET_ADMIN)".to_owned(),
        _ => String::new(),
    };
    format!("{error}{hint}")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::{Asn, PeerId};
    use super::*;

    /// The listening socket, one that it has accepted and one that dials, on loopback.
    async fn three(ip: IpAddr) -> (TcpListener, TcpStream, TcpSocket) {
        let listener = listening_socket(SocketAddr::new(ip, 0)).unwrap();
        let asns = (Asn(65_001), Asn(65_002));
        let config = PeerConfig::new(PeerId(0), asns, Ipv4Addr::new(10, 0, 0, 1), ip, ip);
        let address = listener.local_addr().unwrap();
        let _caller = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        prepare_accepted(&accepted, &config).unwrap();
        (listener, accepted, dialling_socket(&config).unwrap())
    }

    #[tokio::test]
    async fn rfc4271_appendix_e_all_sockets_send_with_network_control_in_both_families() {
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let (listener, accepted, dialling) = three(ip).await;
            let sockets = [
                ("listening", SockRef::from(&listener)),
                ("accepted", SockRef::from(&accepted)),
                ("dialling", SockRef::from(&dialling)),
            ];
            for (name, socket) in sockets {
                let class = if ip.is_ipv4() { socket.tos_v4() } else { socket.tclass_v6() };
                assert_eq!(class.unwrap(), TOS_NETWORK_CONTROL, "{name} socket on {ip}");
            }
        }
    }
}
