//! `cargo xtask`: one door for everything.
fn main() {}
