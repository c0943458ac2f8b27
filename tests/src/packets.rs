//! The packet tables: rows of (frame in, verdict, frame out) over one small edge, run on the host and in the kernel.
//!
//! [`Edge::build`] writes the same records into any dataplane; [`rows`] are the packets, [`page`] what docs/packets.md says of them. Every drop reason has a row that
//! reaches it, but the two that only a fault of ERDP itself or of a driver could reach.

mod edge;
mod frames;
mod page;
mod rows;
mod stand;

pub use edge::{Edge, Ports, discriminator, forward, neighbour_mac, our_mac};
pub use frames::{Build, Tagging, ipv4_of};
pub use page::page;
pub use rows::{Expect, Row, rows, subjects};
pub use stand::{in_network_namespace, is_root, veth_ports};
