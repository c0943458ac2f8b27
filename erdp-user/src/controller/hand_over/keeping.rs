//! Keepalives for sessions that are on their way to another process.
//!
//! From the moment in which the sessions' tasks end until the other process drives them nobody speaks to the peers, and with full tables
//! that is a matter of seconds; hold times begin at three. So a thread of its own says KEEPALIVE at once, which gives each peer's hold timer
//! all of its time, and again after each third of it (RFC 4271 section 4.4). The kernel meanwhile keeps what the peers say.
//!
//! The service manager's watchdog hears from it too: the loop, whose word that is, does nothing else meanwhile, and each of its waits ends.
//!
//! A session with bytes that are not written yet is left alone: they are handed over, and nothing may come between them. Its peer is slow
//! in reading, and what it has still to read keeps it waiting. The thread has ended, with whole messages only, before the other process
//! writes anything ([`Keeping::end`]).

use std::{
    io::{self, Write as _},
    net::TcpStream,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::super::supervisor::Supervisor;
use crate::bgp::{Handed, wire};

/// RFC 4271 section 4.4: not more often than that.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked what is due.
const TURN: Duration = Duration::from_millis(100);
/// How long the rest of a message may take.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// The thread.
pub(super) struct Keeping {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// One session's connection.
struct Kept {
    stream: TcpStream,
    every: Duration,
    due: Instant,
    /// What TCP has not taken yet of the last message.
    rest: Vec<u8>,
}

impl Keeping {
    /// Begins to speak for these sessions.
    pub fn begin<'a>(
        sessions: impl Iterator<Item = &'a Handed>,
        mut supervisor: Supervisor,
    ) -> io::Result<Self> {
        let kept = sessions.filter(|session| session.unwritten.is_empty()).filter_map(|session| {
            let every = (session.state.hold()? / 3).max(AT_MOST_EVERY);
            let of = |stream| Kept { stream, every, due: Instant::now(), rest: Vec::new() };
            Some(session.stream.try_clone().map(of))
        });
        let mut kept = kept.collect::<io::Result<Vec<_>>>()?;
        let (stop, stopped) = mpsc::channel();
        let work = move || {
            loop {
                kept.iter_mut().for_each(Kept::speak);
                supervisor.alive();
                // Its owner has said so, or is gone.
                if !matches!(stopped.recv_timeout(TURN), Err(RecvTimeoutError::Timeout)) {
                    break;
                }
            }
            kept.iter_mut().for_each(Kept::finish);
        };
        let thread = thread::Builder::new().name("keepalives".into()).spawn(work)?;
        Ok(Self { stop, thread })
    }

    /// Ends it. From here on the connections are somebody else's, at the beginning of a message.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that keeps sessions alive has panicked");
        }
    }
}

impl Kept {
    /// What is due. A connection that takes nothing has enough to deliver; one that has failed is seen by whoever drives it next.
    fn speak(&mut self) {
        let now = Instant::now();
        if self.due > now {
            return;
        }
        self.due = now + self.every;
        if self.rest.is_empty() {
            self.rest = wire::encode_keepalive();
            match self.stream.write(&self.rest) {
                Ok(count) => drop(self.rest.drain(..count)),
                Err(_) => self.rest.clear(),
            }
        } else {
            self.finish();
        }
    }

    /// The rest of a message that TCP has taken only in part.
    fn finish(&mut self) {
        let deadline = Instant::now() + LAST_BYTES;
        while !self.rest.is_empty() && Instant::now() < deadline {
            match self.stream.write(&self.rest) {
                Ok(count) => drop(self.rest.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{Ipv4Addr, TcpListener},
    };

    use super::*;
    use crate::bgp::{Asn, Family, Seconds, SessionState};

    fn open(hold: u16) -> Vec<u8> {
        let open = wire::Open {
            asn: Asn(65_001),
            hold: Seconds(hold),
            router_id: Ipv4Addr::LOCALHOST,
            families: vec![Family::Ipv4Unicast],
            four_octet_asn: true,
            route_refresh: false,
            enhanced_refresh: false,
            extended_messages: false,
            restart: None,
            roles: Vec::new(),
            add_path: Vec::new(),
        };
        wire::encode_open(&open).expect("it fits")
    }

    fn session(stream: TcpStream, holds: [u16; 2], unwritten: &[u8]) -> Handed {
        stream.set_nonblocking(true).expect("a socket");
        let [said, heard] = holds.map(open);
        let state = SessionState {
            said,
            heard,
            dialled: true,
            inbox: Vec::new(),
            counters: Default::default(),
            established_ms: 0,
        };
        Handed { state, stream, unwritten: unwritten.to_vec() }
    }

    #[test]
    fn peers_hear_a_keepalive_at_once_and_after_each_third_of_the_hold_time_as_long_as_they_wait() {
        // The hold times of both OPENs, what is not written yet, and how many keepalives there are within 2.5 s.
        let rows: [([u16; 2], &[u8], usize); 5] = [
            ([3, 180], b"", 3),
            ([180, 3], b"", 3),
            ([180, 90], b"", 1),
            ([0, 180], b"", 0),
            ([3, 3], b"half a message", 0),
        ];
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for (holds, unwritten, _) in rows {
            here.push(session(TcpStream::connect(address).expect("connected"), holds, unwritten));
            there.push(listener.accept().expect("accepted").0);
        }
        let keeping = Keeping::begin(here.iter(), Supervisor::from_environment()).expect("a thread");
        thread::sleep(Duration::from_millis(2_500));
        keeping.end();
        drop(here);
        for ((holds, _, expected), stream) in rows.into_iter().zip(&mut there) {
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).expect("until its end");
            assert_eq!(heard, wire::encode_keepalive().repeat(expected), "{holds:?}");
        }
    }
}
