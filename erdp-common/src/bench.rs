//! The one record of the benchmark's own maps; no shipped program has them (see `erdp-ebpf/src/bench.rs`).

/// Bytes at the front of the frame that are written anew before each run.
pub const TEMPLATE: usize = 96;

/// Look-ups in one run of a look-up program.
pub const LOOKUPS: u32 = 8;

/// What the benchmark's driver does before it calls a contestant.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Number of the next destination.
    pub next: u64,
    /// Destinations less one: a power of two less one.
    pub mask: u32,
    /// Length of the frame in bytes, which a contestant that pushes or pops tags changes.
    pub len: u32,
    /// Where in the frame the destination address is.
    pub destination_at: u32,
    /// 4 or 6.
    pub family: u32,
    /// First line of the trie that the look-up programs read.
    pub root: u32,
    /// Explicit padding.
    pub _pad: u32,
    /// The front of the frame.
    pub template: [u8; TEMPLATE],
}

const _: () = assert!(size_of::<Course>() == 32 + TEMPLATE);
