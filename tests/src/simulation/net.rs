//! Wires and the connections over them: delay, loss, silence one way, and TCP as far as a session sees it. Bytes arrive in order and whole,
//! or later, or never; a closed end says so, and one whose process has gone is reset by whatever comes next.

use std::collections::VecDeque;

use erdp::bgp::ConnId;

use super::{Time, budgets, millis};

/// An end of a wire or of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The edge under test.
    Edge,
    /// Its neighbour.
    Peer,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Edge => Self::Peer,
            Self::Peer => Self::Edge,
        }
    }
}

/// A wire between the edge and a neighbour.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// Whether both ends see a carrier.
    pub carrier: bool,
    /// Whether what the edge sends arrives.
    pub to_peer: bool,
    /// Whether what the neighbour sends arrives.
    pub to_edge: bool,
    /// How many of a thousand packets are lost.
    pub loss: u32,
    /// How long a packet takes.
    pub delay: Time,
}

impl Wire {
    /// Whether packets from this end arrive, but for [`Self::loss`].
    pub fn carries(&self, from: Side) -> bool {
        self.carrier
            && match from {
                Side::Edge => self.to_peer,
                Side::Peer => self.to_edge,
            }
    }

    /// Whether packets arrive both ways.
    pub fn is_alive(&self) -> bool {
        self.carries(Side::Edge) && self.carries(Side::Peer)
    }
}

/// What is on its way over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes of the session.
    Bytes(Vec<u8>),
    /// Closed in order.
    Fin,
    /// There is no such connection any more.
    Rst,
}

/// One end of a connection.
#[derive(Debug, Default)]
pub struct End {
    /// As the session calls it; `None`: not yet, or no more.
    pub id: Option<ConnId>,
    /// The session has closed it, or its process has gone.
    pub is_gone: bool,
    /// What has not left.
    pub unsent: VecDeque<Segment>,
    /// Whether an attempt to send is due.
    pub is_sending: bool,
    /// How often sending has failed.
    pub failures: u32,
}

/// A connection, from the first SYN on.
#[derive(Debug)]
pub struct Connection {
    /// Between the edge and this neighbour.
    pub place: usize,
    /// Who has called.
    pub caller: Side,
    /// The ends, the edge's first.
    pub ends: [End; 2],
}

impl Connection {
    /// A call.
    pub fn new(place: usize, caller: Side, id: ConnId) -> Self {
        let mut connection = Self { place, caller, ends: Default::default() };
        connection.end(caller).id = Some(id);
        connection
    }

    /// An end.
    pub fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// Whether this end has that name.
    pub fn is(&self, place: usize, side: Side, id: ConnId) -> bool {
        self.place == place && self.ends[side as usize].id == Some(id)
    }

    /// Whether neither end is anybody's, and nothing waits to be sent.
    pub fn is_over(&self) -> bool {
        self.ends.iter().all(|end| (end.is_gone || end.id.is_none()) && end.unsent.is_empty())
    }
}

impl End {
    /// When what was not taken is sent again.
    pub fn wait(&mut self) -> Time {
        let wait = millis(200) << self.failures.min(8);
        self.failures += 1;
        wait.min(budgets::RESENT_MAX)
    }
}
