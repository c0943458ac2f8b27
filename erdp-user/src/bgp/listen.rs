//! Port 179: one listening socket for each address family, shared by all peers.
//!
//! A connection goes to the peer with its source address; anybody else's is closed and counted. All MD5 keys are on the
//! listening sockets, since the handshake is signed already.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

use super::{PORT, PeerConfig, socket};

/// Connections refused because nobody with their address is configured.
pub static STRANGERS: AtomicU64 = AtomicU64::new(0);

/// Why nobody can connect to us.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another BGP speaker runs.
    #[error(
        "{0}: port {PORT} is taken by another BGP speaker; stop it (`ss -ltnp sport = :{PORT}` names it) or run erdp in a network namespace of its own"
    )]
    Busy(SocketAddr),
    /// The kernel refuses.
    #[error("{address}: cannot listen: {error}; ports below 1024 need root or CAP_NET_BIND_SERVICE")]
    Io {
        /// Where.
        address: SocketAddr,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A key is too long, or the kernel has no TCP_MD5SIG.
    #[error(
        "peer {peer}: MD5 key: {error}; the kernel needs CONFIG_TCP_MD5SIG and the key at most 80 octets"
    )]
    Md5 {
        /// The peer.
        peer: IpAddr,
        /// The kernel's reason.
        error: io::Error,
    },
}

/// The bound sockets, not yet serving: a busy port is known before the first session starts.
pub struct Listeners(Vec<TcpListener>);

/// Binds port 179 for the families of the peers and sets their MD5 keys.
pub fn bind(peers: &[PeerConfig]) -> Result<Listeners, ListenError> {
    let mut listeners = Vec::new();
    for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let of_family: Vec<&PeerConfig> =
            peers.iter().filter(|peer| peer.remote.is_ipv4() == any.is_ipv4()).collect();
        if of_family.is_empty() {
            continue;
        }
        let address = SocketAddr::new(any, PORT);
        let listener = open(address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::Busy(address),
            _ => ListenError::Io { address, error },
        })?;
        for peer in of_family {
            if let Some(key) = &peer.md5 {
                socket::set_md5_key(&listener, peer.remote, key)
                    .map_err(|error| ListenError::Md5 { peer: peer.remote, error })?;
            }
        }
        listeners.push(listener);
    }
    Ok(Listeners(listeners))
}

impl Listeners {
    /// Accepts from now on; each connection goes to its peer's channel.
    pub fn serve(self, routes: &HashMap<IpAddr, mpsc::Sender<TcpStream>>) -> Vec<JoinHandle<()>> {
        self.0.into_iter().map(|listener| tokio::spawn(accept(listener, routes.clone()))).collect()
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: TcpListener, routes: HashMap<IpAddr, mpsc::Sender<TcpStream>>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match routes.get(&from.ip()) {
                // A peer whose driver is busy with an earlier connection gets another try from its own speaker.
                Some(route) => drop(route.try_send(stream)),
                None => {
                    STRANGERS.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(%from, "BGP connection of a stranger closed");
                }
            },
            Err(error) => {
                tracing::warn!(%error, "accepting BGP connections");
                // Out of file descriptors or memory: give others time to free some.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
