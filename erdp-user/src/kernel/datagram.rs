//! UDP sockets for BFD (RFC 5881), and what a thread that keeps time needs of the system.
//!
//! Each socket is bound to our address and to the interface, so that other daemons may have the same port elsewhere. The hop limit of what
//! comes in is read from ancillary data; socket2 has no call for that, nor for `ppoll` and the scheduler, hence the calls below.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

/// Class selector 6, network control (RFC 4594 section 3.1), in the DSCP bits.
const TRAFFIC_CLASS: u32 = 0xc0;
/// RFC 5881 section 5.
const HOP_LIMIT: u32 = 255;
/// RFC 5881 section 4: source ports are of this range, which ends with the last port.
const PORTS_FROM: u16 = 49_152;
/// Lowest real-time priority: above everything that is not real-time, below whatever an operator has put higher.
const PRIORITY: libc::c_int = 1;

/// A datagram that has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who has sent it.
    pub from: IpAddr,
    /// Its TTL or hop limit.
    pub hop_limit: u8,
    /// Its bytes in the buffer.
    pub len: usize,
}

/// Where datagrams to a port of ours come in.
#[derive(Debug)]
pub struct Receiver(Socket);

impl Receiver {
    /// Bound to our address and the interface. The address need not be usable yet.
    pub fn bind(local: SocketAddr, interface: &str) -> io::Result<Self> {
        let socket = open(local, interface)?;
        socket.set_reuse_address(true)?;
        let (level, option) = match local {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVTTL),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
        };
        let on: libc::c_int = 1;
        // SAFETY: the option's value is an int that outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        socket.bind(&local.into())?;
        Ok(Self(socket))
    }

    /// For [`wait`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The next datagram, cut to the buffer; `None`: there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        // Room for one hop limit, aligned as control messages want it.
        let mut control = [0_u64; 8];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut hop_limit = 0;
        let mut take = |address: *mut libc::sockaddr_storage, length: *mut libc::socklen_t| {
            // SAFETY: all zeros is a valid msghdr; the pointers are to buffers that outlive the call, with their lengths.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_name = address.cast();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control);
            // SAFETY: the address is a sockaddr_storage by socket2's contract, with its length beside it.
            unsafe { message.msg_namelen = *length };
            // SAFETY: as above.
            let len = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
            if len < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: as above; the kernel has written the address's real length.
            unsafe { *length = message.msg_namelen };
            hop_limit = hop_limit_of(&message);
            Ok(len as usize)
        };
        // SAFETY: `take` writes the address and its length as recvmsg does, or fails.
        match unsafe { socket2::SockAddr::try_init(|address, length| take(address.cast(), length)) } {
            Ok((len, from)) => {
                let from = from.as_socket().ok_or_else(|| io::Error::other("not an IP address"))?;
                Ok(Some(Received { from: from.ip().to_canonical(), hop_limit, len }))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The hop limit among the control messages; 0 if it is not there, which nobody accepts.
fn hop_limit_of(message: &libc::msghdr) -> u8 {
    // SAFETY: the header is as recvmsg has left it; CMSG_NXTHDR stays within its control buffer, and each message's data is read only
    // where its kind says that an int is there.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = at.as_ref() {
            let kind = (header.cmsg_level, header.cmsg_type);
            if kind == (libc::IPPROTO_IP, libc::IP_TTL) || kind == (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) {
                let value = libc::CMSG_DATA(at).cast::<libc::c_int>().read_unaligned();
                return u8::try_from(value).unwrap_or(0);
            }
            at = libc::CMSG_NXTHDR(message, at);
        }
    }
    0
}

/// What sends to one peer. It is not connected: that would want a way to the peer, and an interface that is down has none yet.
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
    remote: SocketAddr,
}

impl Sender {
    /// One datagram.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send_to(bytes, &self.remote.into())
    }
}

/// What sends to one peer from a port of the range, and the port.
pub fn sender(local: IpAddr, interface: &str, remote: SocketAddr, random: u16) -> io::Result<(Sender, u16)> {
    let ports = u16::MAX - PORTS_FROM;
    let mut last = io::Error::other("no port");
    for attempt in 0..32 {
        let port = PORTS_FROM + random.wrapping_add(attempt * 509) % ports;
        let local = SocketAddr::new(local, port);
        let socket = open(local, interface)?;
        match socket.bind(&local.into()) {
            Ok(()) => return Ok((Sender { socket, remote }, port)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open(local: SocketAddr, interface: &str) -> io::Result<Socket> {
    let domain = Domain::for_address(local);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    if local.is_ipv4() {
        socket.set_freebind_v4(true)?;
        socket.set_ttl_v4(HOP_LIMIT)?;
        socket.set_tos_v4(TRAFFIC_CLASS)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
        socket.set_unicast_hops_v6(HOP_LIMIT)?;
        socket.set_tclass_v6(TRAFFIC_CLASS)?;
    }
    Ok(socket)
}

/// Waits until one of them can be read, or for so long.
pub fn wait(readable: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = readable
        .iter()
        .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array and the timespec outlive the call; no signal mask.
    let result =
        unsafe { libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout, std::ptr::null()) };
    match io::Error::last_os_error() {
        error if result < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Puts this thread before all that are not real-time, and lets its timers fire when they are due.
pub fn make_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: 0 is this thread; the parameters outlive the call. What it starts is not real-time.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    // SAFETY: no pointers. One nanosecond of slack; meaningless, and harmless, for a real-time thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The monotonic clock in nanoseconds: what `bpf_ktime_get_ns` reads.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::{Receiver, sender};
    use crate::kernel::tests::{in_namespace, ip};
    use std::net::{IpAddr, SocketAddr};

    #[test]
    fn an_interface_that_is_down_takes_the_sockets_and_loses_the_datagrams_until_it_is_up() {
        in_namespace(|| async {
            ip("link add down0 type veth peer name down1");
            ip("link set down1 up");
            ip("address add 198.18.0.1/30 dev down0");
            ip("-6 address add fd00:18::1/126 dev down0 nodad");
            for (local, remote) in [("198.18.0.1", "198.18.0.2"), ("fd00:18::1", "fd00:18::2")] {
                let [local, remote]: [IpAddr; 2] = [local, remote].map(|it| it.parse().expect("an address"));
                let receiver = Receiver::bind(SocketAddr::new(local, 3784), "down0");
                assert!(receiver.is_ok(), "{local}: {receiver:?}");
                let (sender, _) = sender(local, "down0", SocketAddr::new(remote, 3784), 7).expect("a socket");
                assert!(sender.send(&[1]).is_err(), "{local}: nothing can leave yet");
                if local.is_ipv4() {
                    ip("link set down0 up");
                    assert_eq!(sender.send(&[1]).expect("now it can"), 1);
                    ip("link set down0 down");
                    ip("-6 address replace fd00:18::1/126 dev down0 nodad");
                }
            }
        });
    }

    #[test]
    fn the_hop_limit_comes_with_the_datagram() {
        for local in ["127.0.0.1", "::1"] {
            let local: IpAddr = local.parse().expect("an address");
            // Binding to a device needs a privilege on some kernels; loopback has no other.
            let port = 40_000 + std::process::id() as u16 % 9_000;
            let Ok(receiver) = Receiver::bind(SocketAddr::new(local, port), "lo") else {
                println!("SKIP: no socket on {local}");
                continue;
            };
            let (sender, from) =
                sender(local, "lo", SocketAddr::new(local, port), 7).expect("a socket to send from");
            assert!(from >= 49_152);
            sender.send(&[1, 2, 3]).expect("it leaves");
            super::wait(&[receiver.as_fd()], Some(std::time::Duration::from_secs(5))).expect("waiting");
            let mut buffer = [0; 64];
            let received = receiver.receive(&mut buffer).expect("no error").expect("a datagram");
            assert_eq!((received.from, received.hop_limit, received.len), (local, 255, 3));
            assert_eq!(receiver.receive(&mut buffer).expect("no error"), None);
        }
    }
}
