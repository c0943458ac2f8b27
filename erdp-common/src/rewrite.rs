//! Stage "rewrite": hop limit, checksum, layer 2 header.
//!
//! RFC 1624 (incremental checksum), RFC 791 and RFC 8200 (TTL and hop limit).

use crate::{
    abi::{L2_MAX, NextHop},
    family::Family,
    link::Link,
    packet::Packet,
    reason::DropReason,
};

/// The header checksum after one 16-bit word has changed (RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`).
#[inline(always)]
pub fn checksum_after(checksum: [u8; 2], old: u16, new: u16) -> [u8; 2] {
    let sum = u32::from(!u16::from_be_bytes(checksum)) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

/// Writes DSCP and ECN where they change, lowers the hop limit and puts the next hop's layer 2 header in place of the old one,
/// tags pushed or popped.
#[inline(always)]
pub fn forward<F: Family, P: Packet>(
    packet: &mut P,
    link: &Link,
    next_hop: &NextHop,
    traffic_class: (u8, u8),
) -> Result<(), DropReason> {
    let (before, after) = traffic_class;
    if before != after {
        F::set_traffic_class(packet, link.payload_at, after).ok_or(DropReason::Truncated)?;
    }
    F::decrement_hop_limit(packet, link.payload_at).ok_or(DropReason::Truncated)?;
    let grows = i32::from(next_hop.l2_len) + 2 - link.payload_at as i32;
    if grows != 0 {
        packet.cut_front(-grows).ok_or(DropReason::NoHeadroom)?;
    }
    write_l2(packet, &next_hop.l2, next_hop.l2_len, link.ether_type.to_ne_bytes())
        .ok_or(DropReason::Truncated)
}

/// Each length is its own straight code with fixed offsets, in pieces that are one or two machine words: longer arrays would be
/// copied byte by byte in BPF.
#[inline(always)]
fn write_l2<P: Packet>(packet: &mut P, l2: &[u8; L2_MAX], len: u8, ether_type: [u8; 2]) -> Option<()> {
    let (first, rest) = l2.split_first_chunk::<8>()?;
    let (second, tags) = rest.split_first_chunk::<4>()?;
    let (outer, inner) = tags.split_first_chunk::<4>()?;
    packet.write(0, *first)?;
    packet.write(8, *second)?;
    match len {
        12 => packet.write(12, ether_type),
        16 => {
            packet.write(12, *outer)?;
            packet.write(16, ether_type)
        }
        _ => {
            packet.write(12, *outer)?;
            packet.write(16, *inner.first_chunk::<4>()?)?;
            packet.write(20, ether_type)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::checksum_after;
    use proptest::prelude::*;

    /// RFC 1071 in its plainest form, the independent model.
    fn checksum(words: &[u16]) -> u16 {
        let mut sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn incremental_checksum_equals_a_full_one(mut words in proptest::collection::vec(any::<u16>(), 9), new: u16) {
            // A real header's first word is never zero (version), so both zeros of one's complement cannot be confused.
            words.push(0x4500);
            let before = checksum(&words).to_be_bytes();
            let old = words[0];
            words[0] = new;
            prop_assert_eq!(u16::from_be_bytes(checksum_after(before, old, new)), checksum(&words));
        }
    }
}
