//! The trie's lines through `mmap`: writing a route is a store, not a system call.
//!
//! `BPF_F_MMAPABLE` arrays (Linux 5.5) may be mapped whole. The stride of such an array is its value size rounded up to 8
//! bytes; a line is 64 bytes, so word `at` of line `line` is the 64-bit word at `line * 8 + at`.
//!
//! # Waiting for look-ups
//! An XDP program runs inside an RCU read-side section, and `membarrier(MEMBARRIER_CMD_GLOBAL)` (Linux 4.3) is
//! `synchronize_rcu()` for user space: when it returns, every program that had begun before is over. It refuses where a CPU is
//! `nohz_full`, and does nothing on a machine with a single CPU, where a preempted test run may be in the middle of a look-up:
//! there only time can tell.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use erdp_common::fib::{LINE_WORDS, Line, build::Store};

/// `MEMBARRIER_CMD_GLOBAL` of linux/membarrier.h.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// A mapping of the array of lines; it stays valid when the map's file descriptor is closed.
///
/// Beside it is a copy of everything that was published, which only this process can write: what is read comes from there, so that
/// nothing that somebody else has written into the map is ever built upon, and [`Store::repair`] compares the two. Memory that was
/// never written takes no room.
#[derive(Debug)]
pub struct MappedLines {
    words: NonNull<AtomicU64>,
    lines: u32,
    published: Vec<u64>,
}

// SAFETY: the mapping belongs to this value alone and its words are atomics.
unsafe impl Send for MappedLines {}
// SAFETY: as above; what is shared can only load.
unsafe impl Sync for MappedLines {}

impl MappedLines {
    /// Maps `lines` lines of the array behind `map`.
    pub fn new(map: BorrowedFd<'_>, lines: u32) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping at an address of the kernel's choice; the result is checked.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::bytes(lines),
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
        let mapped = Self { words, lines, published: vec![0; lines as usize * LINE_WORDS] };
        Ok(mapped)
    }

    /// A word as it is in the map, whoever has written it.
    pub fn read(&self, line: u32, at: usize) -> u64 {
        self.at(line, at).load(Ordering::Acquire)
    }

    const fn bytes(lines: u32) -> usize {
        lines as usize * size_of::<Line>()
    }

    fn at(&self, line: u32, at: usize) -> &AtomicU64 {
        assert!(line < self.lines && at < LINE_WORDS, "line {line} is outside the pool of {}", self.lines);
        // SAFETY: inside the mapping by the assertion; page-aligned start, so each word is aligned.
        unsafe { self.words.add(line as usize * LINE_WORDS + at).as_ref() }
    }
}

impl Drop for MappedLines {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, unmapped once.
        unsafe { libc::munmap(self.words.as_ptr().cast(), Self::bytes(self.lines)) };
    }
}

impl Store for MappedLines {
    fn capacity(&self) -> u32 {
        self.lines
    }

    fn word(&self, line: u32, at: usize) -> u64 {
        self.published[line as usize * LINE_WORDS + at]
    }

    fn publish(&mut self, line: u32, at: usize, word: u64) {
        // Release: whoever sees an entry that links a node sees the node's words.
        self.at(line, at).store(word, Ordering::Release);
        self.published[line as usize * LINE_WORDS + at] = word;
    }

    fn repair(&mut self, from: u32, lines: u32) -> u32 {
        let mut repaired = 0;
        for line in from..from.saturating_add(lines).min(self.lines) {
            for at in 0..LINE_WORDS {
                let (word, published) = (self.at(line, at), self.published[line as usize * LINE_WORDS + at]);
                if word.load(Ordering::Relaxed) != published {
                    word.store(published, Ordering::Release);
                    repaired += 1;
                }
            }
        }
        repaired
    }

    fn wait_for_readers(&mut self) -> bool {
        // SAFETY: a system call without pointers.
        let waited = || unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } == 0;
        online_cpus() > 1 && waited()
    }
}

/// CPUs of the machine, whatever this process may use.
fn online_cpus() -> libc::c_long {
    // SAFETY: a library call without pointers.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }
}
