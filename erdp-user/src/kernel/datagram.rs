//! UDP sockets for BFD (RFC 5881), and what a thread that keeps time needs of the system.
//!
//! Each socket is bound to our address and to the interface, so that other daemons may have the same port elsewhere. The hop limit of what
//! comes in is read from ancillary data; neither socket2 nor nix has a call that asks for it or for the scheduler, hence the calls below.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg},
        time::TimeSpec,
    },
    time::{ClockId, clock_gettime},
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
        let mut control = nix::cmsg_space!(libc::c_int);
        let mut parts = [IoSliceMut::new(buffer)];
        let fd = self.0.as_raw_fd();
        let got = match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)
        {
            Ok(got) => got,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Without the option it is 0, which is not accepted.
        let hop_limit = got.cmsgs()?.find_map(hop_limit_of).unwrap_or_default();
        let from = got.address.and_then(|from| address_of(&from));
        let from = from.ok_or_else(|| io::Error::other("not an IP address"))?;
        Ok(Some(Received { from, hop_limit, len: got.bytes }))
    }
}

fn hop_limit_of(message: ControlMessageOwned) -> Option<u8> {
    match message {
        ControlMessageOwned::Ipv4Ttl(limit) | ControlMessageOwned::Ipv6HopLimit(limit) => {
            u8::try_from(limit).ok()
        }
        _ => None,
    }
}

fn address_of(from: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip()));
    v4.or_else(|| Some(IpAddr::V6(from.as_sockaddr_in6()?.ip()).to_canonical()))
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
    let mut polled: Vec<PollFd<'_>> = readable.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match ppoll(&mut polled, timeout.map(TimeSpec::from), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
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
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    now.as_nanos() as u64
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
