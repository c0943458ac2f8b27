//! What every module of the route's way may name: identifiers, and where a path comes from.
//!
//! Nothing here decides anything or reads anything, and nothing here names another module of this crate. What must never happen: the same
//! thing under two types, or a number of the maps used as an index of the configuration.

mod ids;
mod mac;
mod source;

pub use ids::{AttachmentId, PeerId};
pub use mac::mac_text;
pub use source::PathSource;
