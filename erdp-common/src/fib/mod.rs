//! The forwarding information base: a multibit trie with strides 16-8-8 (IPv4) and 16-8-8-... (IPv6), in blocks of 256
//! 32-bit entries.
//!
//! # Layout
//! A routing table's root is 256 consecutive blocks: 65,536 entries for the first 16 bits. Every further level is one block
//! for the next 8 bits. An entry is 0 (no route), a group number (a leaf), or [`CHILD`] and the number of the block below.
//! Leaves are pushed: a look-up never backtracks and its last entry is the answer. All tables of both families share one pool
//! of blocks, which is one BPF array written through `mmap` (blocks are a multiple of 8 bytes, so the map's stride is the
//! block's size). Publishing is a single aligned 32-bit store; [`build`] says how blocks are reused.
//!
//! Why not `BPF_MAP_TYPE_LPM_TRIE`: its look-up costs many times more and every route is a system call; see
//! docs/architecture.md.

#[cfg(any(feature = "std", test))]
pub mod build;

use crate::{
    family::{Address, Family},
    tables::Tables,
};

/// Entries of a block.
pub const BLOCK_ENTRIES: usize = 256;
/// Blocks of a root: 16 bits.
pub const ROOT_BLOCKS: u32 = 256;
/// Set in an entry that points to a block.
pub const CHILD: u32 = 1 << 31;

/// The group of the longest prefix that covers `destination` in the table whose root starts at block `root`; 0: none.
#[inline(always)]
pub fn longest_match<F: Family, T: Tables>(root: u32, destination: Address, tables: &T) -> u32 {
    let first = root + (destination.high >> 56) as u32;
    let mut entry = tables.fib_entry(first, (destination.high >> 48) as u8).unwrap_or(0);
    let mut rest =
        Address { high: (destination.high << 16) | (destination.low >> 48), low: destination.low << 16 };
    let mut level = 16;
    while level < F::BITS {
        if entry & CHILD == 0 {
            return entry;
        }
        entry = tables.fib_entry(entry & !CHILD, (rest.high >> 56) as u8).unwrap_or(0);
        rest = Address { high: (rest.high << 8) | (rest.low >> 56), low: rest.low << 8 };
        level += 8;
    }
    entry
}

#[cfg(test)]
mod tests;
