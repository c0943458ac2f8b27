//! The trie's walk as the verifier wants it: IPv6 as a function of its own.
//!
//! A global function (Linux 5.6) is verified once, for any arguments, and its callers know no more of its result than that it is a
//! number. Inlined, each of the fourteen levels at which a walk may end would have the verifier walk everything that follows in
//! the packet path once more.

use erdp_common::{
    family::{Address, Family, V4, V6},
    fib,
};

use crate::maps::Maps;

/// The group of the longest prefix that covers `destination` in the table whose root starts at line `root`; 0: none.
#[inline(always)]
pub fn longest_match<F: Family>(root: u32, destination: Address) -> u32 {
    if F::BITS == V4::BITS {
        fib::longest_match::<V4, _>(root, destination, &Maps)
    } else {
        erdp_match6(root, destination.high, destination.low)
    }
}

/// IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn erdp_match6(root: u32, high: u64, low: u64) -> u32 {
    fib::longest_match::<V6, _>(root, Address { high, low }, &Maps)
}
