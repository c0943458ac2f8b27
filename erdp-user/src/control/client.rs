//! The operator's end of the control socket: plain blocking I/O, no step of which waits for ever.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Envelope, PROTOCOL, Reply, Request,
    connect::{CONNECT_WITHIN, connect},
};
use crate::kernel::fd_passing::peer_process;

/// How long the daemon may send nothing before a question is given up: as long as its service manager waits for its liveness signal
/// (`WatchdogSec=` of deploy/erdp.service), after which that one restarts it.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The same for what exchanges a configuration: a daemon of version 0.1.0 takes a second for each session that it restarts.
const CHANGE_WITHIN: Duration = Duration::from_secs(120);

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
    /// Somebody listens and accepts nobody.
    #[error(
        "control socket {0}: the daemon has accepted no connection for {1} s: it is stopped or stalled; `ss -xlp` names its process, \
         `kill -CONT` continues a stopped one, and `systemctl restart erdp` replaces it (forwarding ends meanwhile)"
    )]
    Busy(PathBuf, u64),
    /// It was asked and says nothing.
    #[error("{}", silent(.path, *.process, *.seconds))]
    Silent {
        /// The socket.
        path: PathBuf,
        /// The daemon's process, where that number means something here.
        process: Option<u32>,
        /// For so long.
        seconds: u64,
    },
    /// The conversation broke off.
    #[error(
        "control socket {path}: the daemon broke off: {error}; it has stopped, or has more connections than it answers: try again"
    )]
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

fn silent(path: &Path, process: Option<u32>, seconds: u64) -> String {
    let (who, number) = match process {
        Some(process) => (format!("process {process}"), process.to_string()),
        None => ("the daemon".to_owned(), "PID".to_owned()),
    };
    format!(
        "control socket {}: {who} has not answered for {seconds} s, and an order that it has not begun is dropped: `ps -o stat= -p \
         {number}` says T if it is stopped, which `kill -CONT {number}` ends; else its log says what it does",
        path.display()
    )
}

/// A connection to the daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    within: Option<Duration>,
}

impl Client {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = connect(path, CONNECT_WITHIN).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => ClientError::Busy(path.into(), CONNECT_WITHIN.as_secs()),
            _ => ClientError::Connect { path: path.into(), error },
        })?;
        Ok(Self { stream: BufReader::new(stream), path: path.into(), within: None })
    }

    /// Waits no longer than this for each answer.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// Asks once.
    pub fn ask(&mut self, request: &Request) -> Result<serde_json::Value, ClientError> {
        let own = if request.exchanges_configuration() { CHANGE_WITHIN } else { ANSWER_WITHIN };
        let within = self.within.unwrap_or(own);
        match self.exchange(request, within) {
            Ok(Reply::Ok(value)) => Ok(value),
            Ok(Reply::Error(text)) => Err(ClientError::Refused(text)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(ClientError::Silent {
                    path: self.path.clone(),
                    process: peer_process(self.stream.get_ref()),
                    seconds: within.as_secs(),
                })
            }
            Err(error) => Err(ClientError::Broken { path: self.path.clone(), error }),
        }
    }

    fn exchange(&mut self, request: &Request, within: Duration) -> std::io::Result<Reply> {
        let mut text = serde_json::to_vec(&Envelope { protocol: PROTOCOL, request })?;
        text.push(b'\n');
        let stream = self.stream.get_mut();
        stream.set_write_timeout(Some(within))?;
        stream.set_read_timeout(Some(within))?;
        // A daemon that has no place for us says so and closes before it has read anything.
        let sent = stream.write_all(&text);
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(sent.err().unwrap_or_else(|| ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(serde_json::from_str(&line)?),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, time::Instant};

    use super::*;
    use crate::control::Topic;

    #[test]
    fn a_daemon_that_is_stopped_does_not_hang_a_client_which_names_its_process_and_the_remedy() {
        let folder = std::env::temp_dir().join(format!("erdp-client-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("control.sock");
        // The kernel completes connections of a process that is stopped.
        let _stopped = UnixListener::bind(&path).unwrap();
        let begin = Instant::now();
        let mut client = Client::connect(&path).unwrap().within(Duration::from_millis(200));
        let error = client.ask(&Request::Show(Topic::Sessions)).unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let (said, own) = (error.to_string(), std::process::id().to_string());
        for word in [path.to_str().unwrap(), &format!("process {own}"), &format!("kill -CONT {own}")] {
            assert!(said.contains(word), "{said} has no {word}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
