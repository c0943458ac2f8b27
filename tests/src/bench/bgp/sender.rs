//! A BGP speaker that does nothing but send: one session, its messages written as fast as TCP takes them, what comes back read and
//! thrown away.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use erdp::bgp::wire::{self, Context, Message};
use socket2::{Domain, Socket, Type};

use crate::lab::{enter, netns::Namespace};

/// An established session. The far end's messages are read by a thread that ends with the connection.
pub struct Sender {
    stream: TcpStream,
}

impl Sender {
    /// Connects from one address in a namespace to another's port 179 and exchanges OPENs, for at most 30 seconds.
    ///
    /// # Errors
    /// The last reason why there was no session.
    pub fn connect(namespace: &Namespace, from: IpAddr, to: IpAddr, open: &wire::Open) -> Result<Self> {
        Self::connect_and(namespace, from, to, open, |mut reader| {
            let mut buffer = [0; 1 << 16];
            while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
        })
    }

    /// The same, with something else done with what comes back, on a thread of its own.
    ///
    /// # Errors
    /// As [`Sender::connect`].
    pub fn connect_and(
        namespace: &Namespace,
        from: IpAddr,
        to: IpAddr,
        open: &wire::Open,
        read: impl FnOnce(TcpStream) + Send + 'static,
    ) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let stream = loop {
            match attempt(namespace, from, to, open) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("no session with {to}")));
                }
                Err(_) => thread::sleep(Duration::from_millis(200)),
            }
        };
        let reader = stream.try_clone()?;
        thread::spawn(move || read(reader));
        Ok(Self { stream })
    }

    /// Writes messages; returns when TCP has taken all of them.
    ///
    /// # Errors
    /// When the far end has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the receiver has ended the session")
    }

    /// Shows that we are alive.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn keepalive(&mut self) -> Result<()> {
        self.send(&wire::encode_keepalive())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // The reader's clone keeps the connection open otherwise; an error means that it is closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// A connection on which both ends have said OPEN and KEEPALIVE.
fn attempt(namespace: &Namespace, from: IpAddr, to: IpAddr, open: &wire::Open) -> Result<TcpStream> {
    let mut stream = enter::run(namespace.name(), move || {
        let to = SocketAddr::new(to, erdp::bgp::PORT);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
        Ok(TcpStream::from(socket))
    })?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&wire::encode_open(open)?)?;
    let Message::Open(_) = receive(&mut stream, &Context::default())? else { bail!("not an OPEN") };
    stream.write_all(&wire::encode_keepalive())?;
    let Message::Keepalive = receive(&mut stream, &Context::default())? else { bail!("not a KEEPALIVE") };
    stream.set_read_timeout(None)?;
    Ok(stream)
}

/// The next message.
///
/// # Errors
/// When there is none, or it is a NOTIFICATION.
pub fn receive(stream: &mut TcpStream, context: &Context) -> Result<Message> {
    let mut message = vec![0; wire::HEADER_BYTES];
    stream.read_exact(&mut message)?;
    let Ok(Some(length)) = wire::message_length(&message) else { bail!("not BGP") };
    message.resize(length, 0);
    stream.read_exact(&mut message[wire::HEADER_BYTES..])?;
    match wire::decode(&message, context) {
        Ok(Message::Notification(notification)) => bail!("refused: {notification}"),
        Ok(message) => Ok(message),
        Err(error) => bail!("{error}"),
    }
}
