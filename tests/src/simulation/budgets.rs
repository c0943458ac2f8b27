//! How long what may last: the oracle's only numbers. Each is what a rule grants, and what the world itself takes on top of it.

use super::{Time, millis, seconds};

/// A lost carrier takes packets off the link at once (B2); the kernel's message takes a millisecond here.
pub const CARRIER: Time = millis(50);
/// From a dead link to another circuit's: the routing base says so prefix by prefix, while the circuit's own other link needs a word.
pub const OTHER_CIRCUIT: Time = millis(50);
/// BFD of 300 ms x 3 (B5, H1), the way there and back, and the grid of the oracle's looks.
pub const DETECTION: Time = millis(900 + 250);
/// The same while a session that has just come up still sends once a second (RFC 5880 section 6.8.3).
pub const SLOW_DETECTION: Time = millis(3_000 + 1_250);
/// How long BFD sends slowly at most after it has come up.
pub const SLOW_FOR: Time = seconds(3);
/// Beyond a hold time (B4, H1): what the timers' jitter and the looks' grid take.
pub const HOLD_SLACK: Time = millis(1_500);
/// From facts that stay to forwarding by them, with messages that were lost on the way and are sent again after [`RESENT_MAX`].
pub const SETTLE: Time = seconds(3);
/// The longest wait of this world's TCP before it sends again.
pub const RESENT_MAX: Time = millis(1_600);
/// A neighbour's new MAC address is followed within a second by the kernel's question, and the answer's way.
pub const NEW_MAC: Time = millis(1_300);
/// A link that flaps is held down for a minute at most while another one carries its circuit (B2).
pub const HELD_DOWN: Time = seconds(62);
/// Losses within so long count as flapping.
pub const FLAPS_COUNT_FOR: Time = seconds(180);
/// So many of them cost nothing.
pub const FREE_LOSSES: usize = 2;
/// What an operator takes out of use is out of use: a turn of the loop (B6, A8).
pub const OUT_OF_USE: Time = millis(300);
/// After everything is mended, the world is whole and silent: BGP waits for 30 s between attempts at most, twice that where they cross,
/// and less than that for a peer that was above its limit (D2).
pub const WHOLE: Time = seconds(70);
/// For so long nothing may happen then but keepalives and BFD.
pub const QUIET: Time = seconds(15);
/// Groups of next hops at most: every set of neighbours of one realm, and what is kept for packets on their way.
pub const GROUPS_MAX: u64 = 128;
/// Connections of one neighbour at most: the session's rules allow three, and some are still closing.
pub const CONNECTIONS_MAX: usize = 12;
