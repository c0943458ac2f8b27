//! The records of BFD sessions through `mmap`: what the packet path has heard is read, and what it may answer is written, without a
//! system call, by the thread that sends.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use erdp_common::abi::{BfdSession, MAX_BFD_SESSIONS, Word};

const BYTES: usize = MAX_BFD_SESSIONS as usize * size_of::<BfdSession>();

/// A mapping of the array of sessions; it stays valid when the map's file descriptor is closed.
#[derive(Debug)]
pub struct MappedSessions(NonNull<BfdSession>);

// SAFETY: the mapping belongs to this value alone, and its words are accessed as atomics only.
unsafe impl Send for MappedSessions {}
// SAFETY: as above.
unsafe impl Sync for MappedSessions {}

impl MappedSessions {
    /// Maps the array behind `map`.
    pub fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Self::mapped(libc::MAP_SHARED, map.as_raw_fd())
    }

    /// Records that no packet path reads: for tests of the sessions alone.
    pub fn unshared() -> io::Result<Self> {
        Self::mapped(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn mapped(flags: libc::c_int, fd: libc::c_int) -> io::Result<Self> {
        let (protection, anywhere) = (libc::PROT_READ | libc::PROT_WRITE, std::ptr::null_mut());
        // SAFETY: a fresh mapping at an address of the kernel's choice; the result is checked.
        let address = unsafe { libc::mmap(anywhere, BYTES, protection, flags, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).map(Self).ok_or_else(|| io::Error::other("mapped at address 0"))
    }

    /// The record of a session; that of the unused 0 where there is no such session.
    pub fn record(&self, session: u16) -> &BfdSession {
        let session = if u32::from(session) < MAX_BFD_SESSIONS { usize::from(session) } else { 0 };
        // SAFETY: inside the mapping by the line above; page-aligned start and a size that is a multiple of 8.
        unsafe { self.0.add(session).as_ref() }
    }
}

impl Drop for MappedSessions {
    fn drop(&mut self) {
        // SAFETY: the mapping of `mapped`, unmapped once.
        unsafe { libc::munmap(self.0.as_ptr().cast(), BYTES) };
    }
}

/// Reads a word of a record.
pub fn load(word: &Word) -> u64 {
    atomic(word).load(Ordering::Acquire)
}

/// Writes a word of a record.
pub fn store(word: &Word, value: u64) {
    atomic(word).store(value, Ordering::Release);
}

/// Writes a word of a record if it is `old`; the answer is whether it was.
pub fn exchange(word: &Word, old: u64, new: u64) -> bool {
    atomic(word).compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

fn atomic(word: &Word) -> &AtomicU64 {
    // SAFETY: aligned as a u64 is, alive as long as the word, and every access of both sides is atomic.
    unsafe { AtomicU64::from_ptr(word.as_ptr()) }
}
