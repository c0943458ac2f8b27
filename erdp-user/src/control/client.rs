//! The operator's end of the control socket: plain blocking I/O.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use super::{Envelope, PROTOCOL, Reply, Request};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "control socket {path}: {error}; is `erdp run` running, with this --control, and may you open its socket?"
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's reason.
        error: std::io::Error,
    },
    /// The conversation broke off.
    #[error("control socket {path}: the daemon broke off: {error}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The daemon's own words.
    #[error("{0}")]
    Refused(String),
}

/// A connection to the daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream =
            UnixStream::connect(path).map_err(|error| ClientError::Connect { path: path.into(), error })?;
        Ok(Self { stream: BufReader::new(stream), path: path.into() })
    }

    /// Asks once.
    pub fn ask(&mut self, request: &Request) -> Result<serde_json::Value, ClientError> {
        match self.exchange(request) {
            Ok(Reply::Ok(value)) => Ok(value),
            Ok(Reply::Error(text)) => Err(ClientError::Refused(text)),
            Err(error) => Err(ClientError::Broken { path: self.path.clone(), error }),
        }
    }

    fn exchange(&mut self, request: &Request) -> std::io::Result<Reply> {
        let mut text = serde_json::to_vec(&Envelope { protocol: PROTOCOL, request })?;
        text.push(b'\n');
        self.stream.get_mut().write_all(&text)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}
