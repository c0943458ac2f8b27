//! What is put to the controller's owner task, and by whom.
//!
//! The loop serves one of these a turn, so none may cost it more than a few milliseconds: long lists are asked for in parts, and each
//! part by keys and pages (see [`super::lists`]).

use std::{
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::{net::UnixStream, sync::oneshot};

use super::{
    Reply, Request,
    lists::{Key, List, Page, Part},
    search::{OnlyHere, Search, Sought},
};
use crate::{bgp::PeerId, controller::Parsed, kernel::fd_passing};

/// A question or an order, and where its answer goes.
#[derive(Debug)]
pub enum Asked {
    /// An operator's request.
    Request {
        /// What is asked.
        request: Request,
        /// The configuration that it brings, read by the asker's task: that takes as long as its author wants.
        parsed: Option<Box<Parsed>>,
        /// What its guard rail has to know of the routes, if it was looked for.
        only_here: Option<OnlyHere>,
        /// Who asks; `None`: this process itself.
        asker: Option<Asker>,
        /// Where the answer goes.
        answer: oneshot::Sender<Reply>,
    },
    /// Which parts a list has now, in its order; or why there is no such list.
    Parts {
        /// The list.
        list: List,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<Vec<Part>, String>>,
    },
    /// What a part's rows are asked for by, in no order.
    Keys {
        /// The part.
        part: Part,
        /// Where the answer goes.
        answer: oneshot::Sender<Vec<Key>>,
    },
    /// The rows of as many of these keys as fit into one turn.
    Rows {
        /// The part.
        part: Part,
        /// The next keys.
        keys: Vec<Key>,
        /// Where the answer goes.
        answer: oneshot::Sender<Page>,
    },
    /// What has to be looked for among the routes before a request can be judged; `None`: nothing.
    Search {
        /// The request.
        request: Request,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Search>>,
    },
    /// Which prefixes only these sessions lead to, of as many of these keys as fit into one turn.
    Seek {
        /// The sessions.
        peers: Vec<PeerId>,
        /// The next keys.
        keys: Vec<Key>,
        /// Where the answer goes.
        answer: oneshot::Sender<Sought>,
    },
}

/// Who asks over the control socket.
#[derive(Clone, Debug)]
pub struct Asker {
    socket: Arc<OwnedFd>,
    /// The user as whom it asks.
    pub user: u32,
    /// Its groups' numbers.
    pub groups: Arc<[u32]>,
    /// Its process, where that number means something here.
    pub process: Option<i32>,
}

impl Asker {
    /// The other end of a connection, by what the kernel knows of it (`SO_PEERCRED`, `SO_PEERGROUPS`; unix(7)).
    pub fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        let mut groups = fd_passing::peer_groups(stream.as_fd()).unwrap_or_default();
        groups.push(credentials.gid());
        Ok(Self {
            socket: Arc::new(socket),
            user: credentials.uid(),
            groups: groups.into(),
            process: credentials.pid(),
        })
    }

    /// Whether the other end is closed, so that nobody waits for an answer. One that has only said that it will ask nothing more
    /// (`shutdown`) is still there.
    pub fn is_gone(&self) -> bool {
        // Nothing is sent: unix_stream_sendmsg of Linux looks at the other end first, and says EPIPE if it is closed.
        let sent = socket2::SockRef::from(&*self.socket)
            .send_with_flags(&[], libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
        sent.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    #[tokio::test]
    async fn a_client_that_is_killed_is_gone_and_one_that_has_asked_its_last_question_is_not() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let asker = Asker::of(&UnixStream::from_std(ours).unwrap()).unwrap();
        assert_eq!((asker.user, asker.process), (fd_passing::own_user(), Some(std::process::id() as i32)));
        assert!(!asker.is_gone());
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!asker.is_gone(), "it still reads");
        drop(theirs);
        assert!(asker.is_gone());
    }
}
