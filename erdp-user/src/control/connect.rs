//! A connection to a control socket, within a bounded time: a daemon that is stopped accepts nobody, and connect(2) waits for it.

use std::{
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

/// How long a connection may take: a daemon that runs accepts within milliseconds.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Connects. A daemon whose queue of connections stays full is [`ErrorKind::TimedOut`].
pub fn connect(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // unix_stream_connect of Linux waits as long as sending may take.
    socket.set_write_timeout(Some(within))?;
    socket.connect(&SockAddr::unix(path)?).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "it accepts no connections"),
        _ => error,
    })?;
    socket.set_write_timeout(None)?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_daemon_that_accepts_nobody_is_given_up_within_the_time() {
        let folder = std::env::temp_dir().join(format!("erdp-connect-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("control.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let within = Duration::from_millis(100);
        let mut waiting = Vec::new();
        let begin = Instant::now();
        let error = loop {
            match connect(&path, within) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 10, "its queue has no end");
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
