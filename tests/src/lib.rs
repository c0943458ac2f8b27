//! The lab and the tests that need it.
