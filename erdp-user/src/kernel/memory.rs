//! Memory that was needed for a moment goes back to the kernel.
//!
//! glibc keeps what is freed for the next use, and what is large for a moment once is large for ever. Where somebody else decides how much is
//! needed (an operator who reads a long list, a peer that announces and withdraws), it is given back.

/// Gives freed memory back to the kernel. It takes each of the allocator's locks for a moment, so it is for after something large, and for a
/// thread that nobody waits for.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number of bytes to keep and touches freed memory only (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
