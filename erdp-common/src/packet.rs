//! The frame, seen through fixed-size windows: the one interface between the stages and packet bytes.
//!
//! A window is a header type of known size at a byte offset that may vary at run time (tags, IP options, extension headers).
//! Fixed sizes compile to straight code and give the verifier one bounds check for each window; there are no slices and no
//! `[]`. Implementations: `xdp` in erdp-ebpf, [`crate::memory::Frame`] on the host.

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    vlan::VlanHdr,
};

/// Offsets beyond this are refused: it bounds what the verifier has to believe about variable offsets. Ethernet with two tags (22) +
/// IPv6 (40) + extension headers up to [`crate::family::EXTENSION_BYTES_MAX`] fit, and so does an ICMPv6 error of 1,280 bytes.
pub const OFFSET_MAX: usize = 1535;

/// Windows have at least two bytes: for one byte the compiler turns "its end is not beyond the frame's" into "its start is
/// before the frame's end", from which the verifier learns nothing (Linux 6.18, `find_good_pkt_pointers`).
pub const WINDOW_MIN: usize = 2;

/// A type that may be read from and written to packet bytes as it is.
///
/// # Safety
/// The type has no padding and every bit pattern is a valid value.
pub unsafe trait Window: Copy {}

// SAFETY: bytes.
unsafe impl<const N: usize> Window for [u8; N] {}
// SAFETY: repr(C), 6 + 6 + 2 bytes, alignment 2: no padding; integers only.
unsafe impl Window for EthHdr {}
// SAFETY: repr(C), 2 + 2 bytes; integers only.
unsafe impl Window for VlanHdr {}
// SAFETY: repr(C), bytes only.
unsafe impl Window for Ipv4Hdr {}
// SAFETY: repr(C), bytes only.
unsafe impl Window for Ipv6Hdr {}

// SAFETY: repr(C), size asserted beside the type: no padding; integers only.
unsafe impl Window for crate::abi::Trace {}

/// An Ethernet header with `TAGS` VLAN tags in pieces of machine words: a longer array would be copied byte by byte in BPF.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EthernetWords<const TAGS: usize> {
    /// Bytes 0 to 7.
    pub first: [u8; 8],
    /// Bytes 8 to 11.
    pub second: [u8; 4],
    /// Ethertype and identifier of each tag.
    pub tags: [[u8; 4]; TAGS],
    /// The payload's ethertype.
    pub ether_type: [u8; 2],
}

// SAFETY: repr(C), bytes only.
unsafe impl<const TAGS: usize> Window for EthernetWords<TAGS> {}

/// A frame from its Ethernet header to its end.
pub trait Packet {
    /// Length in bytes, from the Ethernet header on.
    fn len(&self) -> usize;

    /// True for a frame without any byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `size_of::<T>()` bytes at `at`, or `None` when the frame is shorter or `at` is above [`OFFSET_MAX`].
    fn read<T: Window>(&self, at: usize) -> Option<T>;

    /// Writes the bytes of `value` at `at`; `None` (and nothing written) under the same conditions.
    fn write<T: Window>(&mut self, at: usize, value: T) -> Option<()>;

    /// Cuts the frame's end so that `len` bytes are left, from the Ethernet header on; `None` when it has fewer.
    fn cut_to(&mut self, len: usize) -> Option<()>;

    /// Moves the start of the frame: positive `bytes` cut from its front, negative ones add there. `None`: no room.
    fn cut_front(&mut self, bytes: i32) -> Option<()>;
}
