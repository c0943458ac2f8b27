//! Echo requests (RFC 792, RFC 4443) by the kernel's ping sockets: no program is needed, and no raw socket.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{enter, netns::Namespace};

/// Tries: the first may be lost while a neighbour is being resolved.
const TRIES: u16 = 10;
const PATIENCE: Duration = Duration::from_millis(500);

/// Sends echo requests from a namespace until `wanted` replies have come; the answer is how many requests that took.
///
/// # Errors
/// When too few replies come.
pub fn echo(from: &Namespace, source: Option<IpAddr>, to: IpAddr, wanted: u16) -> Result<u16> {
    // Whose groups may have ping sockets: ours.
    from.sysctl("ipv4/ping_group_range", "0 0")?;
    enter::run(from.name(), move || {
        let (domain, protocol, request) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).context("cannot open a ping socket")?;
        if let Some(source) = source {
            socket
                .bind(&SocketAddr::new(source, 0).into())
                .with_context(|| format!("no address {source}"))?;
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        let socket = UdpSocket::from(socket);
        let mut replies = 0;
        for number in 1..=TRIES {
            let [high, low] = number.to_be_bytes();
            socket.send_to(&[request, 0, 0, 0, 0, 0, high, low, 0x5a, 0x5a], SocketAddr::new(to, 0))?;
            let mut reply = [0; 64];
            match socket.recv_from(&mut reply) {
                Ok((_, whose)) if whose.ip() == to => replies += 1,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).with_context(|| format!("{to} is not reached")),
            }
            if replies == wanted {
                return Ok(number);
            }
        }
        ensure!(replies >= wanted, "{to} has answered {replies} of {TRIES} echo requests");
        Ok(TRIES)
    })
}
