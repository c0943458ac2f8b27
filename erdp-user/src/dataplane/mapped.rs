//! The trie's blocks through `mmap`: writing a route is a store, not a system call.
//!
//! `BPF_F_MMAPABLE` arrays (Linux 5.5) may be mapped whole. The stride of such an array is its value size rounded up to 8
//! bytes; a block is 1,024 bytes, so entry `slot` of block `block` is the 32-bit word at `block * 256 + slot`.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use erdp_common::fib::{BLOCK_ENTRIES, build::Store};

/// A mapping of the block array; it stays valid when the map's file descriptor is closed.
#[derive(Debug)]
pub struct MappedBlocks {
    words: NonNull<AtomicU32>,
    blocks: u32,
}

// SAFETY: the mapping belongs to this value alone and its words are atomics.
unsafe impl Send for MappedBlocks {}
// SAFETY: as above; what is shared can only load.
unsafe impl Sync for MappedBlocks {}

impl MappedBlocks {
    /// Maps `blocks` blocks of the array behind `map`.
    pub fn new(map: BorrowedFd<'_>, blocks: u32) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping at an address of the kernel's choice; the result is checked.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::bytes(blocks),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { words, blocks })
    }

    const fn bytes(blocks: u32) -> usize {
        blocks as usize * BLOCK_ENTRIES * size_of::<u32>()
    }

    fn word(&self, block: u32, slot: u8) -> &AtomicU32 {
        assert!(block < self.blocks, "block {block} is outside the pool of {}", self.blocks);
        // SAFETY: inside the mapping by the assertion; page-aligned start, so each word is aligned.
        unsafe { self.words.add(block as usize * BLOCK_ENTRIES + usize::from(slot)).as_ref() }
    }
}

impl Drop for MappedBlocks {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, unmapped once.
        unsafe { libc::munmap(self.words.as_ptr().cast(), Self::bytes(self.blocks)) };
    }
}

impl Store for MappedBlocks {
    fn capacity(&self) -> u32 {
        self.blocks
    }

    fn entry(&self, block: u32, slot: u8) -> u32 {
        self.word(block, slot).load(Ordering::Relaxed)
    }

    fn publish(&mut self, block: u32, slot: u8, entry: u32) {
        // Release: whoever sees an entry that links a block sees the block's contents.
        self.word(block, slot).store(entry, Ordering::Release);
    }
}
