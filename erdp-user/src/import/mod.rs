//! `erdp import azure`: Azure's own view of the circuits, read from the JSON that its command line prints (requirement H6).
//!
//! A configuration is proposed of it, or it is compared with a configuration or with the running router. The way of a file:
//!
//! - [`said`]: texts of foreign files, made fit to be printed the moment they are read: keys masked, control characters escaped, cut.
//! - [`fields`]: one JSON object, read field by field; a field of another type is an error that names file, object and field and no value.
//! - [`answers`]: what each command answers, as types; [`read`] recognises a file by its fields and adds it to what was [`Seen`].
//! - [`view`]: the files joined: peerings to their circuits, tables to the links whose addresses are in them.
//! - [`propose`]: a configuration of it, as TOML by a serializer. [`ours`]: the other side of a comparison; [`drift`]: the comparison.
//!
//! What must never happen: a service key, a shared key or an authorization key in anything that is printed; a proposal that `erdp config check`
//! refuses; a file that makes the reader run out of memory or stack; and a file, a clock or a socket in here: whoever asks brings the bytes.

pub mod answers;
pub mod drift;
pub mod error;
pub mod fields;
pub mod ours;
pub mod propose;
pub mod read;
pub mod said;
pub mod view;

#[cfg(test)]
mod tests;

pub use drift::{Drift, Report, compare};
pub use error::ImportError;
pub use ours::Ours;
pub use propose::{Customer, Options, Proposal, propose};
pub use read::{FILE_MAX, FILES_MAX, Seen, read};
pub use view::{Place, View};
