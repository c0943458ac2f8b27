//! What a configuration means: from [`crate::config::Config`] and the indexes of its interfaces to an [`Edge`].
//!
//! Here, and nowhere else, is derived what the forwarding table, the maps, the routing base and the kernel's routes need of a
//! configuration. What may be said of two configurations is [`crate::config::Plan`]. Pure: no clock, no socket, no file. What must never
//! happen: that the same is derived a second time elsewhere, and comes out otherwise.
//!
//! Files: `edge` (attachments as the forwarding table has them, who may speak, which routes of the kernel are wanted), [`limits`] (policers
//! and QoS profiles), [`level`] (how full a bucket is), `policy` (what chains through services add to the routing tables).

mod edge;
pub mod level;
pub mod limits;
mod policy;

pub use edge::{Edge, attachment_facts, other_speakers, peer_key, topology, watches};
