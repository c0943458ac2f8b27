//! The kernel's facts and what the controller asks of it: links, addresses, neighbours by rtnetlink; sysctls by /proc.
//!
//! Two connections: one only listens ([`Kernel::open`] returns its events), one only asks. Subscribe first, dump second, so
//! that nothing falls between them; when the kernel has dropped events (ENOBUFS) the listener says [`KernelEvent::Resync`]
//! and the controller dumps again. All of it in the network namespace of this process.
//!
//! Files: `facts` (netlink messages to events), [`carrier`] (a lost one goes to the packet path first), [`control_port`] (the kernel's
//! way to tagged attachments), [`datagram`] (UDP sockets and time for BFD), [`sysctl`] (what the kernel must not answer or forward,
//! invariant 11), [`fd_passing`] (open files for another process), [`folder`] (files where another user may write), [`memory`] (what was needed for a moment goes back), [`routes`] (the kernel's routes as a source beside BGP), [`traces`] (what was changed, for whoever comes after a crash),
//! `preflight` (what is checked before anything is touched).

pub mod carrier;
pub mod control_port;
pub mod datagram;
mod facts;
pub mod fd_passing;
pub mod folder;
pub mod memory;
pub mod preflight;
pub mod routes;
#[cfg(test)]
pub(crate) mod scratch;
pub mod sysctl;
pub mod traces;

use std::{
    io,
    net::IpAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt, TryStreamExt};
use nix::{
    net::if_::{if_indextoname, if_nametoindex},
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};
use rtnetlink::{
    AddressAddRequest, Handle, MulticastGroup, new_connection, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressProtocol},
        neighbour::{
            NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
    },
    sys::{AsyncSocket, SocketAddr},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// Events on their way to the controller; when it is full the listener waits and the kernel's own buffer fills.
const EVENTS_MAX: usize = 1_024;
/// Receive buffer of the listener in bytes: the default loses events when thousands of neighbours change at once.
const RECEIVE_BUFFER: usize = 8 << 20;

/// By which an address that an edge has added is known (`IFA_PROTO`, Linux 5.18): the kernel keeps it, so nobody can say it of another's.
const ADDRESS_MARK: AddressProtocol = AddressProtocol::Other(0xed);

/// After events were lost the kernel drops all that come until its queue has been read to the end, and does not say so again
/// (`NETLINK_S_CONGESTED`, net/netlink/af_netlink.c of Linux 6.18): what was read in between has to be read once more. The end is where
/// nothing comes for so long.
const OVERRUN_QUIET: Duration = Duration::from_millis(100);
/// Where something always comes, the queue has been read to the end after so long.
const OVERRUN_MAX: Duration = Duration::from_secs(3);

/// A change, or a fact of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// An interface is there.
    Link(Link),
    /// It has gone.
    LinkGone {
        /// Its index.
        ifindex: u32,
    },
    /// An address is on an interface.
    Address {
        /// The interface.
        ifindex: u32,
        /// The address.
        address: IpAddr,
        /// Length of its subnet's prefix.
        prefix_len: u8,
    },
    /// A neighbour's MAC address; `None`: not resolved, failed or gone.
    Neighbour {
        /// The interface.
        ifindex: u32,
        /// The neighbour.
        address: IpAddr,
        /// Its MAC address.
        mac: Option<[u8; 6]>,
    },
    /// Events were lost: dump again.
    Resync,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Administratively up.
    pub admin_up: bool,
    /// Carrier.
    pub carrier: bool,
    /// IP MTU in bytes.
    pub mtu: u32,
    /// MAC address; zero where it has none.
    pub mac: [u8; 6],
}

impl Link {
    /// Packets can pass.
    pub fn is_alive(&self) -> bool {
        self.admin_up && self.carrier
    }
}

/// What the kernel did not do.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No netlink.
    #[error("netlink: {0}; erdp needs CAP_NET_ADMIN")]
    Open(#[from] io::Error),
    /// A request failed.
    #[error("{what}: {error}")]
    Request {
        /// What was asked for.
        what: String,
        /// The kernel's reason.
        error: rtnetlink::Error,
    },
    /// A setting of a control port.
    #[error("control port {name}: {setting}: {error}; erdp needs CAP_NET_ADMIN and a writable /proc/sys")]
    Setting {
        /// The control port.
        name: String,
        /// The setting.
        setting: &'static str,
        /// The kernel's reason.
        error: io::Error,
    },
    /// Another interface has a control port's name.
    #[error(
        "interface {name} is in the way: control ports of tagged attachments are called so, and it is none; rename it, or remove \
         it by `ip link delete {name}`"
    )]
    NameTaken {
        /// Its name.
        name: String,
    },
    /// Another `erdp` runs in this network namespace.
    #[error("interface {name} is the control port of an erdp that runs; stop that one first")]
    ControlPortInUse {
        /// Its name.
        name: String,
    },
}

/// The requesting side.
pub struct Kernel {
    handle: Handle,
    tasks: Vec<JoinHandle<()>>,
}

impl Kernel {
    /// Opens both connections; events come from now on, facts from [`Self::dump`].
    pub fn open() -> Result<(Self, mpsc::Receiver<KernelEvent>), KernelError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (mut listening, _, mut messages) = new_multicast_connection(&groups)?;
        // Without CAP_NET_ADMIN over the machine the ordinary limit has to do: a lost event only costs a dump.
        if let Err(error) = force_receive_buffer(listening.socket_mut().socket_mut(), RECEIVE_BUFFER) {
            tracing::debug!(%error, "netlink receive buffer stays at its default");
        }
        let (asking, handle, _) = new_connection()?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let translate = async move {
            let mut overrun: Option<Instant> = None;
            loop {
                let event = match next(&mut messages, &mut overrun).await {
                    Next::Message(NetlinkPayload::InnerMessage(message)) => facts::event(&message),
                    Next::Message(NetlinkPayload::Overrun(_)) => {
                        overrun.get_or_insert_with(Instant::now);
                        Some(KernelEvent::Resync)
                    }
                    Next::Message(_) => None,
                    Next::Drained => Some(KernelEvent::Resync),
                    Next::End => return,
                };
                if let Some(event) = event
                    && sender.send(event).await.is_err()
                {
                    return;
                }
            }
        };
        let tasks = vec![tokio::spawn(listening), tokio::spawn(asking), tokio::spawn(translate)];
        Ok((Self { handle, tasks }, events))
    }

    /// Whether the tasks of both connections live.
    pub fn lives(&self) -> bool {
        !self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Ends them as a fault in them would: for tests of what follows.
    pub fn end_tasks(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// Every link, address and neighbour there is.
    pub async fn dump(&self) -> Result<Vec<KernelEvent>, KernelError> {
        use rtnetlink::packet_route::RouteNetlinkMessage as Message;
        let failed = |what: &'static str| move |error| KernelError::Request { what: what.into(), error };
        let mut found = Vec::new();
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed("listing links"))? {
            found.extend(facts::event(&Message::NewLink(link)));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(address) = addresses.try_next().await.map_err(failed("listing addresses"))? {
            found.extend(facts::event(&Message::NewAddress(address)));
        }
        let mut neighbours = self.handle.neighbours().get().execute();
        while let Some(neighbour) = neighbours.try_next().await.map_err(failed("listing neighbours"))? {
            found.extend(facts::event(&Message::NewNeighbour(neighbour)));
        }
        Ok(found)
    }

    /// Puts an address on an interface; the answer is whether it was not there before. IPv6 without duplicate address
    /// detection: these are point-to-point subnets with assigned addresses, and BGP binds at once.
    pub async fn ensure_address(
        &self,
        ifindex: u32,
        address: IpAddr,
        prefix_len: u8,
    ) -> Result<bool, KernelError> {
        match self.new_address(ifindex, address, prefix_len).execute().await {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(false),
            Err(error) => {
                Err(request_failed(format!("adding {address}/{prefix_len} to interface {ifindex}"), error))
            }
        }
    }

    /// Marks an address that is there as an edge's: version 0.1.0 has added them without.
    pub async fn mark_address(
        &self,
        ifindex: u32,
        address: IpAddr,
        prefix_len: u8,
    ) -> Result<(), KernelError> {
        let what = || format!("marking {address}/{prefix_len} on interface {ifindex}");
        let request = self.new_address(ifindex, address, prefix_len).replace();
        request.execute().await.map_err(|error| request_failed(what(), error))
    }

    /// The addresses that an edge has added, each with its interface.
    pub async fn marked_addresses(&self) -> Result<Vec<(u32, IpAddr)>, KernelError> {
        let mut found = Vec::new();
        let mut addresses = self.handle.address().get().execute();
        let failed = |error| request_failed("listing addresses".into(), error);
        while let Some(message) = addresses.try_next().await.map_err(failed)? {
            let event = facts::event(&RouteNetlinkMessage::NewAddress(message.clone()));
            if let Some(KernelEvent::Address { ifindex, address, .. }) = event
                && message.attributes.contains(&AddressAttribute::Protocol(ADDRESS_MARK))
            {
                found.push((ifindex, address));
            }
        }
        Ok(found)
    }

    fn new_address(&self, ifindex: u32, address: IpAddr, prefix_len: u8) -> AddressAddRequest {
        let mut request = self.handle.address().add(ifindex, address, prefix_len);
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Protocol(ADDRESS_MARK));
        if address.is_ipv6() {
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request
    }

    /// Takes an address off an interface; one that is not there is fine.
    pub async fn remove_address(
        &self,
        ifindex: u32,
        address: IpAddr,
        prefix_len: u8,
    ) -> Result<(), KernelError> {
        let message = self.handle.address().add(ifindex, address, prefix_len).message_mut().clone();
        match self.handle.address().del(message).execute().await {
            Err(error) if !matches!(errno(&error), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => {
                Err(request_failed(format!("removing {address} from interface {ifindex}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Resolves a neighbour and has the kernel keep it resolved (`NTF_EXT_MANAGED`, Linux 5.16): packets that XDP forwards
    /// never refresh the kernel's table. Older kernels: resolved now, refreshed by the controller's next call.
    pub async fn watch_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), KernelError> {
        let mut managed =
            self.handle.neighbours().add(ifindex, address).replace().state(NeighbourState::None);
        managed.message_mut().attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        match managed.execute().await {
            Ok(()) => Ok(()),
            Err(_) => self.resolve(ifindex, address).await,
        }
    }

    /// Resolves a neighbour once.
    pub async fn resolve(&self, ifindex: u32, address: IpAddr) -> Result<(), KernelError> {
        let request = self.handle.neighbours().add(ifindex, address).replace().state(NeighbourState::None);
        let request = request.flags(NeighbourFlags::Use);
        request.execute().await.map_err(|error| request_failed(format!("resolving {address}"), error))
    }

    /// Resolves a neighbour from the beginning, kept resolved or once: a kernel that asks in vain, for want of a carrier, asks again only
    /// after a second (`retrans_time`), and one that has given up on a managed neighbour after up to five (`interval_probe_time`).
    pub async fn renew_neighbour(
        &self,
        ifindex: u32,
        address: IpAddr,
        is_kept: bool,
    ) -> Result<(), KernelError> {
        self.forget_neighbour(ifindex, address).await?;
        if is_kept {
            self.watch_neighbour(ifindex, address).await
        } else {
            self.resolve(ifindex, address).await
        }
    }

    /// Lets the kernel forget a neighbour; one that is not there is fine.
    pub async fn forget_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), KernelError> {
        let message: NeighbourMessage = self.handle.neighbours().add(ifindex, address).message_mut().clone();
        match self.handle.neighbours().del(message).execute().await {
            Err(error) if !matches!(errno(&error), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => {
                Err(request_failed(format!("forgetting {address}"), error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What the listener does next.
enum Next {
    Message(NetlinkPayload<RouteNetlinkMessage>),
    /// After an overrun: the queue is empty.
    Drained,
    End,
}

/// The next message; once after an overrun that the queue is empty.
async fn next(
    messages: &mut (impl Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Unpin),
    overrun: &mut Option<Instant>,
) -> Next {
    let waiting = messages.next();
    let message = match overrun.map(|since| OVERRUN_MAX.saturating_sub(since.elapsed())) {
        None => waiting.await,
        Some(left) => match timeout(left.min(OVERRUN_QUIET), waiting).await {
            Ok(message) if !left.is_zero() => message,
            // A message that has come all the same is told by what is read now.
            _ => {
                *overrun = None;
                return Next::Drained;
            }
        },
    };
    message.map_or(Next::End, |(message, _)| Next::Message(message.payload))
}

/// What an interface is called now; `None`: it is gone.
pub fn interface_name(ifindex: u32) -> Option<String> {
    Some(if_indextoname(ifindex).ok()?.to_string_lossy().into_owned())
}

/// Whether there is an interface of this index.
pub fn has_interface(ifindex: u32) -> bool {
    if_indextoname(ifindex).is_ok()
}

/// The index of the interface that has this name now; `None`: there is none.
pub fn interface_index(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// SO_RCVBUFFORCE: SO_RCVBUF would be cut to net.core.rmem_max, 208 KiB unless someone has raised it.
fn force_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    Ok(setsockopt(socket, RcvBufForce, &bytes)?)
}

fn request_failed(what: String, error: rtnetlink::Error) -> KernelError {
    KernelError::Request { what, error }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
