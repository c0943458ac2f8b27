//! A carrier that goes is told to the packet path by a thread of its own, of real-time priority: the one word of a failover must not wait
//! for a controller that digests a full table, nor for whoever else wants the CPU. That a carrier is back is the controller's business.
//!
//! Where a driver refuses frames for want of a carrier, the packet path is sooner (`losses.rs` of erdp-ebpf): what rtnetlink tells comes
//! from the kernel's link watch, which waits for whoever holds the lock of network configuration.
//!
//! Should the word be written after the controller has seen the link come back, the read-back puts it right within a second.

use std::{collections::HashMap, io, thread::JoinHandle};

use rtnetlink::{
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{RouteNetlinkMessage, link::LinkFlags},
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::datagram::make_realtime;

/// `RTNLGRP_LINK` of linux/rtnetlink.h, as a bit.
const GROUP: u32 = 1;
/// A message about one link is far shorter.
const BUFFER: usize = 64 * 1024;

/// The thread, which lives as long as the process unless it fails.
#[derive(Debug)]
pub struct CarrierWatch(JoinHandle<()>);

impl CarrierWatch {
    /// Whether it lives.
    pub fn lives(&self) -> bool {
        !self.0.is_finished()
    }
}

/// Starts the thread. `lost` is called with the number of a link, by its interface in `links`.
pub fn watch(links: HashMap<u32, u16>, lost: impl FnMut(u16) + Send + 'static) -> io::Result<CarrierWatch> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, GROUP))?;
    listen_on(socket, links, lost)
}

fn listen_on(
    socket: Socket,
    links: HashMap<u32, u16>,
    mut lost: impl FnMut(u16) + Send + 'static,
) -> io::Result<CarrierWatch> {
    let listen = move || {
        if let Err(error) = make_realtime() {
            tracing::info!(%error, "carriers are watched without real-time priority");
        }
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            match socket.recv(&mut buffer, 0) {
                Ok(_) => without_carrier(&buffer).for_each(|ifindex| {
                    if let Some(link) = links.get(&ifindex) {
                        lost(*link);
                    }
                }),
                // Messages were lost: the controller reads everything again.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "hearing of carriers");
                    return;
                }
            }
        }
    };
    std::thread::Builder::new().name("carrier".into()).spawn(listen).map(CarrierWatch)
}

/// The interfaces that a datagram of netlink messages says to be down or without carrier.
fn without_carrier(mut datagram: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        loop {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram).ok()?;
            // Each begins at a multiple of four bytes.
            let len = (message.header.length as usize).next_multiple_of(4);
            datagram = datagram.get(len..).unwrap_or_default();
            let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
            let alive = LinkFlags::Up | LinkFlags::LowerUp;
            match message {
                RouteNetlinkMessage::NewLink(link) if !link.header.flags.contains(alive) => {
                    return Some(link.header.index);
                }
                RouteNetlinkMessage::DelLink(link) => return Some(link.header.index),
                _ => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::link::LinkMessage;

    #[test]
    fn a_thread_that_has_ended_is_known_to_have_ended() {
        let socket = Socket::new(NETLINK_ROUTE).expect("a socket");
        // Nothing waits there, which is an error that the thread does not expect.
        socket.set_non_blocking(true).expect("a socket");
        let failing = listen_on(socket, HashMap::new(), |_| {}).expect("a thread");
        let living = watch(HashMap::new(), |_| {}).expect("a thread");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while failing.lives() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!failing.lives() && living.lives());
    }

    #[test]
    fn only_links_without_carrier_are_told() {
        let mut datagram = Vec::new();
        for (index, flags, gone) in [
            (1, LinkFlags::Up | LinkFlags::LowerUp, false),
            (2, LinkFlags::Up, false),
            (3, LinkFlags::LowerUp, false),
            (4, LinkFlags::Up | LinkFlags::LowerUp, true),
        ] {
            let mut link = LinkMessage::default();
            (link.header.index, link.header.flags) = (index, flags);
            let message =
                if gone { RouteNetlinkMessage::DelLink(link) } else { RouteNetlinkMessage::NewLink(link) };
            let mut message = NetlinkMessage::from(message);
            message.finalize();
            let from = datagram.len();
            datagram.resize(from + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut datagram[from..from + message.buffer_len()]);
        }
        assert_eq!(without_carrier(&datagram).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(without_carrier(&[]).count(), 0);
    }
}
