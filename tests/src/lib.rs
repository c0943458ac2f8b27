//! The lab and the tests that need it.

pub mod packets;
