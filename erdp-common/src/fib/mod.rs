//! The forwarding information base: a multibit trie with strides 16-8-8 (IPv4) and 16-8-8-... (IPv6), whose nodes are compressed
//! so that each level of a look-up touches one cache line.
//!
//! # Layout
//! The pool is one BPF array of 64-byte [`Line`]s that all tables of both families share, written through `mmap`. A routing
//! table's root is [`ROOT_LINES`] consecutive lines: 65,536 entries of 32 bits for the first 16 bits of an address. An entry is
//! 0 (no route), a group number (a leaf), or [`CHILD`] with the kind and the first line of the node for the next 8 bits.
//! Leaves are pushed: a look-up never backtracks and its last entry is the answer.
//!
//! A node has 256 slots in 1, 2, 4, 8 or 16 lines, and each line speaks for its equal share of the slots, so that a look-up
//! reads one of them. A *run* is a row of slots with the same value; a line holds either
//! - a bitmap of the slots at which a new run begins (the line's first slot always does and has no bit), the number of runs that
//!   begin in the words of the bitmap before each (a byte each), and the values of the runs in order; or
//! - (a *flat* node) the values of its slots.
//!
//! Values are 16 bits, group numbers; in a node with children ([`WIDE`]) they are 32 bits, entries. How many runs fit
//! ([`runs_max`]) decides the kind. What a line says with 64 bits of bitmap, 26 values and one population count would be 128 or
//! 256 bytes of plain entries: the table that a look-up may touch is a quarter of that, and so are its cache and TLB misses.
//!
//! # What never changes
//! The kind and the bitmap of a node, from the moment it is linked until its grace period is over: a change of values is one
//! aligned 64-bit store, every other change is another node, linked by one such store. [`build`] does this.
//!
//! Why not `BPF_MAP_TYPE_LPM_TRIE`: its look-up costs many times more and every route is a system call; see
//! docs/architecture.md.

#[cfg(any(feature = "std", test))]
pub mod build;
#[cfg(any(feature = "std", test))]
mod node;
#[cfg(any(feature = "std", test))]
mod pool;
#[cfg(any(feature = "std", test))]
mod prefix;
#[cfg(any(feature = "std", test))]
pub mod walk;

use crate::{
    abi::Word,
    family::{Address, Family},
    tables::Tables,
};

/// Words of a line.
pub const LINE_WORDS: usize = 8;
/// A cache line of the pool.
pub type Line = [Word; LINE_WORDS];
/// Lines of a root: 65,536 entries.
pub const ROOT_LINES: u32 = 4_096;
/// Lines of 1 KiB, the unit in which the pool is sized and from which nodes are carved.
pub const BLOCK_LINES: u32 = 16;
/// Blocks of a root.
pub const ROOT_BLOCKS: u32 = ROOT_LINES / BLOCK_LINES;

/// Set in an entry that points to a node.
pub const CHILD: u32 = 1 << 31;
/// Where an entry says how wide its node's values are: 2, 4, 8, 16 or (entries) 32 bits, as the logarithm; three bits.
pub const WIDTH_SHIFT: u32 = 28;
/// Where an entry says how many words of bitmap each of its node's lines has: 4, 2 or 1; 0: the node is flat. Three bits, taken as
/// they are, because the kernel's verifier cannot follow this number through a variable shift.
pub const HEADER_SHIFT: u32 = 25;
/// Where an entry says how many lines its node has, as a power of two; three bits.
pub const SPLIT_SHIFT: u32 = 22;
/// The node's first line.
pub const LINE_MASK: u32 = (1 << SPLIT_SHIFT) - 1;
/// Largest pool, in blocks: what an entry can name.
pub const BLOCKS_MAX: u32 = (LINE_MASK + 1) / BLOCK_LINES;
/// Largest group number of a leaf.
pub const GROUP_LIMIT: u32 = u16::MAX as u32;

const _: () = assert!(crate::abi::MAX_GROUPS <= GROUP_LIMIT);

/// Runs that fit in a line with so many words of bitmap, with values of `1 << width` bits.
pub const fn runs_max(header: u32, width: u32) -> u32 {
    (512 - values_at(header)) >> width
}

/// Where the values begin in a line with so many words of bitmap, in bits.
#[inline(always)]
const fn values_at(header: u32) -> u32 {
    64 * header + 32
}

/// The group of the longest prefix that covers `destination` in the table whose root starts at line `root`; 0: none.
#[inline(always)]
pub fn longest_match<F: Family, T: Tables>(root: u32, destination: Address, tables: &T) -> u32 {
    let mut entry = root_entry(root, (destination.high >> 48) as u32, tables).unwrap_or(0);
    let mut rest =
        Address { high: (destination.high << 16) | (destination.low >> 48), low: destination.low << 16 };
    let mut level = 16;
    while level < F::BITS {
        if entry & CHILD == 0 {
            return entry;
        }
        entry = node_entry(entry, (rest.high >> 56) as u32, tables).unwrap_or(0);
        rest = Address { high: (rest.high << 8) | (rest.low >> 56), low: rest.low << 8 };
        level += 8;
    }
    entry
}

/// The entry for the first 16 bits of an address.
#[inline(always)]
fn root_entry<T: Tables>(root: u32, slot: u32, tables: &T) -> Option<u32> {
    let line = tables.fib_line(root + (slot >> 4))?;
    let word = tables.load(line.get((slot >> 1 & 7) as usize)?);
    Some((word >> (32 * (slot & 1))) as u32)
}

/// The entry for the next 8 bits, `slot`, in the node that `entry` points to.
#[inline(always)]
fn node_entry<T: Tables>(entry: u32, slot: u32, tables: &T) -> Option<u32> {
    let (split, header) = (entry >> SPLIT_SHIFT & 7, entry >> HEADER_SHIFT & 7);
    let width = entry >> WIDTH_SHIFT & 7;
    let line = tables.fib_line((entry & LINE_MASK) + (slot >> (8 - split)))?;
    let slot = slot & (0xff >> split);
    let bit = if header == 0 {
        slot << width
    } else {
        let bitmap = tables.load(line.get((slot >> 6) as usize)?);
        let begun = bitmap & (2u64 << (slot & 63)).wrapping_sub(1);
        let before = tables.load(line.get(header as usize)?) >> (slot >> 6 << 3) & 0xff;
        values_at(header) + ((begun.count_ones() + before as u32) << width)
    };
    let word = tables.fib_word(line, bit >> 6)?;
    let value_mask = 1u64.wrapping_shl(1 << width).wrapping_sub(1);
    Some((word >> (bit & 63) & value_mask) as u32)
}

#[cfg(test)]
mod tests;
