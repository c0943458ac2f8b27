//! `erdp`: the ExpressRoute edge router's daemon and its operator's commands.
fn main() {}
