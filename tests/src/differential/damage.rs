//! Damage to a frame: flipped bits, lying length fields, cuts, splices.

use fastrand::Rng;

/// Values that code tends to be wrong about.
const EDGES: [u8; 10] = [0, 1, 4, 5, 0x0f, 0x40, 0x45, 0x7f, 0x80, 0xff];

/// Damages a frame once; `donor` is what it is spliced with.
pub fn damage(rng: &mut Rng, frame: &mut Vec<u8>, donor: &[u8]) {
    if frame.is_empty() {
        return frame.extend_from_slice(donor);
    }
    match rng.u8(..10) {
        0..=2 => flip_bits(rng, frame),
        3 => {
            let at = rng.usize(..frame.len());
            frame[at] = EDGES[rng.usize(..EDGES.len())];
        }
        4..=5 => lie_about_length(rng, frame),
        6 => frame.truncate(rng.usize(..=frame.len())),
        7 => frame.extend((0..rng.usize(1..64)).map(|_| rng.u8(..))),
        8 => splice(rng, frame, donor),
        _ => insert_tag(rng, frame),
    }
}

fn flip_bits(rng: &mut Rng, frame: &mut [u8]) {
    // Headers are in the first 80 bytes: that is where bits matter.
    let reach = if rng.u8(..4) == 0 { frame.len() } else { frame.len().min(80) };
    for _ in 0..rng.u8(1..9) {
        frame[rng.usize(..reach)] ^= 1 << rng.u8(..8);
    }
}

/// The IPv4 total length (offset 2) or the IPv6 payload length (offset 4), or an extension header's, becomes nearly right.
fn lie_about_length(rng: &mut Rng, frame: &mut [u8]) {
    let at = [14, 18, 22][rng.usize(..3)] + [2, 4, 41][rng.usize(..3)];
    let Some([high, low]) = frame.get_mut(at..at + 2).and_then(|field| field.first_chunk_mut::<2>()) else {
        return;
    };
    let length = u16::from_be_bytes([*high, *low]);
    let lie = match rng.u8(..4) {
        0 => length.wrapping_add(1),
        1 => length.wrapping_sub(1),
        2 => length.wrapping_add(rng.u16(..100)),
        _ => rng.u16(..),
    };
    [*high, *low] = lie.to_be_bytes();
}

fn splice(rng: &mut Rng, frame: &mut Vec<u8>, donor: &[u8]) {
    let keep = rng.usize(..=frame.len());
    let from = if rng.bool() { keep.min(donor.len()) } else { rng.usize(..=donor.len()) };
    frame.truncate(keep);
    frame.extend_from_slice(&donor[from..]);
}

fn insert_tag(rng: &mut Rng, frame: &mut Vec<u8>) {
    if frame.len() >= 12 {
        let ether_type: u16 = if rng.bool() { 0x8100 } else { 0x88a8 };
        let tag = [ether_type.to_be_bytes(), rng.u16(..).to_be_bytes()].concat();
        frame.splice(12..12, tag);
    }
}
