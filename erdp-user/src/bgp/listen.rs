//! Port 179: one task that accepts connections and hands each to the peer it belongs to.
//!
//! A connection belongs to a peer when it comes from the peer's address (and interface, for link-local ones) to our address of that
//! session; all others are closed at once and counted. Peers are admitted and dismissed while it runs; their MD5 keys are set
//! on every socket of their family before they are admitted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::task::Poll;

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::{PeerConfig, socket};
use crate::accept::Pause;

/// Why the BGP port cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port.
    #[error(
        "cannot listen on {} port {}: it is in use; stop the other BGP daemon (`ss -ltnp 'sport = :{}'` names it)",
        .0.ip(), .0.port(), .0.port()
    )]
    Busy(SocketAddr),
    /// The port is privileged.
    #[error("cannot listen on {} port {}: no privilege; run as root or with CAP_NET_BIND_SERVICE", .0.ip(), .0.port())]
    Privilege(SocketAddr),
    /// The address is not ours.
    #[error("cannot listen on {} port {}: no interface has that address; assign it first", .0.ip(), .0.port())]
    NoAddress(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {} port {}: {error}", .address.ip(), .address.port())]
    Other {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// Connections that were closed unheard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// From an address that is no peer's.
    pub unknown_peer: u64,
    /// From a peer to an address that is not the session's.
    pub wrong_local: u64,
    /// From a peer whose task has not taken the connections before.
    pub peer_busy: u64,
}

/// The listening sockets, not yet served.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<(SocketAddr, TcpListener)>,
}

/// Changes to who may connect.
#[derive(Debug)]
pub(super) enum Order {
    Admit(Box<PeerConfig>, mpsc::Sender<TcpStream>),
    Dismiss(Box<PeerConfig>),
}

impl Listener {
    /// Listens on every address of `addresses`; must run inside a tokio runtime.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, ListenError> {
        let bind = |&address: &SocketAddr| match socket::listening_socket(address) {
            Ok(socket) => Ok((address, socket)),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::AddrInUse => ListenError::Busy(address),
                io::ErrorKind::PermissionDenied => ListenError::Privilege(address),
                io::ErrorKind::AddrNotAvailable => ListenError::NoAddress(address),
                _ => ListenError::Other { address, error },
            }),
        };
        Ok(Self { sockets: addresses.iter().map(bind).collect::<Result<_, _>>()? })
    }

    /// The addresses listened on, with the ports the system chose where port 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(address, socket)| socket.local_addr().unwrap_or(*address)).collect()
    }

    /// Serves until all senders of `orders` are gone.
    pub(super) async fn run(self, mut orders: mpsc::Receiver<Order>, refused: watch::Sender<Refused>) {
        let mut admitted: Vec<(Box<PeerConfig>, mpsc::Sender<TcpStream>)> = Vec::new();
        let mut pause = Pause::default();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Admit(config, peer)) => {
                        self.set_key(&config, config.md5.as_deref().unwrap_or_default());
                        admitted.push((config, peer));
                    }
                    Some(Order::Dismiss(config)) => {
                        self.set_key(&config, "");
                        admitted.retain(|(other, _)| other.id != config.id);
                    }
                    None => return,
                },
                (stream, from) = self.accept(&mut pause) => {
                    if let Err(why) = hand_over(stream, from, &admitted) {
                        debug!(%from, ?why, "connection refused");
                        refused.send_modify(|refused| match why {
                            Why::UnknownPeer => refused.unknown_peer += 1,
                            Why::WrongLocal => refused.wrong_local += 1,
                            Why::PeerBusy => refused.peer_busy += 1,
                        });
                    }
                }
            }
        }
    }

    fn set_key(&self, config: &PeerConfig, key: &str) {
        for (address, socket) in
            self.sockets.iter().filter(|(address, _)| address.is_ipv4() == config.remote.is_ipv4())
        {
            if let Err(error) = socket::set_md5(socket.as_fd(), config.remote, key) {
                warn!(%address, peer = %config.remote, %error, "cannot set the MD5 key for connections from the peer");
            }
        }
    }

    /// The next connection on any socket. An error of accepting concerns that connection only, or passes (no descriptors).
    async fn accept(&self, pause: &mut Pause) -> (TcpStream, SocketAddr) {
        loop {
            let outcome = std::future::poll_fn(|context| {
                let ready = self.sockets.iter().find_map(|(_, socket)| match socket.poll_accept(context) {
                    Poll::Ready(outcome) => Some(outcome),
                    Poll::Pending => None,
                });
                ready.map_or(Poll::Pending, Poll::Ready)
            });
            match outcome.await {
                Ok(accepted) => {
                    pause.handle_accepted();
                    return accepted;
                }
                Err(error) => pause.after("BGP", &error).await,
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    UnknownPeer,
    WrongLocal,
    PeerBusy,
}

fn hand_over(
    stream: TcpStream,
    from: SocketAddr,
    admitted: &[(Box<PeerConfig>, mpsc::Sender<TcpStream>)],
) -> Result<(), Why> {
    let to = stream.local_addr().map_err(|_| Why::WrongLocal)?.ip();
    let mut why = Why::UnknownPeer;
    for (config, peer) in admitted.iter().filter(|(config, _)| belongs(config, from)) {
        if config.local != to {
            why = Why::WrongLocal;
            continue;
        }
        return peer.try_send(stream).map_err(|_| Why::PeerBusy);
    }
    Err(why)
}

/// Whether a connection from `from` is this peer's; link-local addresses mean something only with their interface.
fn belongs(config: &PeerConfig, from: SocketAddr) -> bool {
    let scope_fits = match (from, config.remote) {
        (SocketAddr::V6(from), IpAddr::V6(remote)) if remote.is_unicast_link_local() => {
            socket::interface_index(config.interface.as_deref()).is_ok_and(|index| index == from.scope_id())
        }
        _ => true,
    };
    from.ip() == config.remote && scope_fits
}
