//! BFD in user space (RFC 5880, RFC 5881, RFC 5882): what brings sessions up, sends in its own pace, and tells the controller.
//!
//! Files: [`session`] (the machine; no socket, no clock), [`record`] (what machine and packet path write for each other),
//! [`recorded`] (a machine with its record), [`thread`] (sockets, timers, one thread of real-time priority for all sessions). Bytes are `erdp_common::bfd::wire`; reception
//! stamps, the detection time of forwarded packets and answers for an absent controller are `erdp_common::bfd`, in the kernel.
//!
//! # A packet's way in
//! The packet path checks it, notes it in the session's record and hands it to the kernel; its socket is read here, the hop limit checked
//! again, and the machine told. A change goes to the record first, so that the next hop follows before anybody else; then to the
//! controller, which resets the BGP session.
//!
//! # What must never happen
//! - The thread waits for the controller: changes that it does not take at once are kept, the last one of each session.
//! - A session goes down because this process was stopped: before a timer is believed, sockets are read and the record is asked.
//! - AdminDown is sent by a process that will be back: it ends every graceful restart.

pub mod record;
pub mod recorded;
pub mod session;
pub mod thread;

use std::net::IpAddr;

use serde::Serialize;

use self::session::{Diagnostic, Parameters};

/// Number of a session: its record in the packet path. From 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SessionId(pub u16);

/// A session as the operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Its number.
    pub id: SessionId,
    /// Intervals and discriminator.
    pub parameters: Parameters,
    /// Our address.
    pub local: IpAddr,
    /// The peer's.
    pub remote: IpAddr,
    /// The interface on which the kernel speaks there.
    pub interface: String,
    /// The attachment's number in the packet path.
    pub attachment: u16,
    /// The next hop is not used, nor BGP spoken, before the session is up (RFC 5882 section 4.1).
    pub strict: bool,
    /// How long the packet path answers for an absent controller, in seconds.
    pub absence_s: u32,
}

/// What an operator is shown of a session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its number.
    #[serde(skip)]
    pub id: SessionId,
    /// The peer.
    pub peer: IpAddr,
    /// Our state.
    pub state: &'static str,
    /// The peer's, by its last packet.
    pub remote_state: &'static str,
    /// Why it went down last.
    pub diagnostic: Diagnostic,
    /// The interval in which we send, in milliseconds, before jitter.
    pub interval_ms: f64,
    /// The detection time in milliseconds; `None`: the peer was never heard.
    pub detection_ms: Option<f64>,
    /// Our discriminator.
    pub discriminator: u32,
    /// How often it has come up.
    pub ups: u64,
    /// For how long it has been in this state, in seconds.
    pub since_s: u64,
}
