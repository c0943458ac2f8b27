//! Prefixes of either family, as the trie's writer takes them.

/// A prefix of either family, left-aligned in 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Prefix length; before the bits, so that prefixes sort by length first.
    len: u8,
    /// Bits 0 to 63; zero beyond `len`. Two words, because a batch holds millions of prefixes and `u128` would align to 16.
    high: u64,
    /// Bits 64 to 127.
    low: u64,
}

impl Prefix {
    /// Host bits are cleared; `len` is cut to 128.
    pub fn new(bits: u128, len: u8) -> Self {
        let len = len.min(128);
        let bits = bits & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        Self { len, high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// From an IPv4 prefix.
    pub fn v4(address: [u8; 4], len: u8) -> Self {
        Self::new(u128::from(u32::from_be_bytes(address)) << 96, len.min(32))
    }

    /// From an IPv6 prefix.
    pub fn v6(address: [u8; 16], len: u8) -> Self {
        Self::new(u128::from_be_bytes(address), len)
    }

    /// Prefix length.
    pub fn length(self) -> u8 {
        self.len
    }

    /// The address, left-aligned.
    pub fn bits(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    /// Its first 16 bits.
    pub(super) fn first(self) -> u16 {
        (self.high >> 48) as u16
    }

    /// The eight bits that start at bit `level`, a multiple of 8.
    pub(super) fn byte(self, level: u8) -> u8 {
        let word = if level < 64 { self.high } else { self.low };
        (word >> (56 - u32::from(level & 63))) as u8
    }
}
