//! Stage "rewrite": hop limit, checksum, layer 2 header.
//!
//! RFC 1624 (incremental checksum), RFC 791 and RFC 8200 (TTL and hop limit).

use crate::{
    abi::{L2_MAX, NextHop},
    family::Family,
    link::Link,
    packet::{EthernetWords, Packet},
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

/// TTL, protocol and checksum of an IPv4 header, the TTL lowest, after the TTL has gone down by one: the word that holds it has lost
/// 0x0100, so the checksum gains it (RFC 1624 section 4, as RFC 1141 has it; 0xffff does not become 0, which equation 3 would not make
/// either). One's complement does not care for the order of bytes (RFC 1071 section 2 B), so nothing is swapped: read in that order,
/// 0x0100 is 1. The TTL must not be 0.
#[inline(always)]
pub fn after_hop(ttl_to_checksum: u32) -> u32 {
    let sum = (ttl_to_checksum >> 16) + 1;
    let sum = sum + u32::from(sum >= 0xffff);
    (sum << 16) | (ttl_to_checksum & 0xffff).wrapping_sub(1)
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

/// Each length is its own straight code: one window, fixed offsets.
#[inline(always)]
fn write_l2<P: Packet>(packet: &mut P, l2: &[u8; L2_MAX], len: u8, ether_type: [u8; 2]) -> Option<()> {
    let (first, rest) = l2.split_first_chunk::<8>()?;
    let (second, tags) = rest.split_first_chunk::<4>()?;
    let (outer, inner) = tags.split_first_chunk::<4>()?;
    match len {
        12 => packet.write(0, EthernetWords { first: *first, second: *second, tags: [], ether_type }),
        16 => packet.write(0, EthernetWords { first: *first, second: *second, tags: [*outer], ether_type }),
        _ => {
            let tags = [*outer, *inner.first_chunk()?];
            packet.write(0, EthernetWords { first: *first, second: *second, tags, ether_type })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{after_hop, checksum_after};
    use proptest::prelude::*;

    /// RFC 1071 in its plainest form, the independent model.
    fn checksum(words: &[u16]) -> u16 {
        let mut sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn a_lower_ttl_gives_the_same_checksum_as_the_general_rule_for_every_checksum() {
        for (ttl, protocol) in [(1, 0), (2, 17), (64, 6), (128, 255), (255, 255)] {
            let (before, after) =
                (u16::from_be_bytes([ttl, protocol]), u16::from_be_bytes([ttl - 1, protocol]));
            for sum in 0..=u16::MAX {
                let [high, low] = sum.to_be_bytes();
                let [c, d] = checksum_after(sum.to_be_bytes(), before, after);
                let hop = after_hop(u32::from_le_bytes([ttl, protocol, high, low]));
                assert_eq!(hop.to_le_bytes(), [ttl - 1, protocol, c, d], "{sum:#x} {ttl} {protocol}");
            }
        }
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
