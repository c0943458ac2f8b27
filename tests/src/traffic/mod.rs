//! Traffic through the edge, and the kernel's own counts of it.
//!
//! [`echo`] is reachability; [`iperf`] is throughput by iperf3; [`probe`] is loss by numbered packets; [`counts`] reads what the
//! kernels on the way have counted, to be held against what the XDP program has; [`raw`] writes frames as they are. [`heartbeat`]
//! goes through the slow path as BFD would, and [`stream`] is a steady load whose goodput is watched; [`pacer`] says when the next datagram is due. Nothing leaves the lab's namespaces.

pub mod counts;

pub mod echo;
pub mod heartbeat;
pub mod iperf;
pub mod pacer;
pub mod probe;
pub mod raw;
pub mod stream;
