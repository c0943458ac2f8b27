//! New messages of old ones. Most keep their framing, so that what is inside is reached.

use fastrand::Rng;

const HEADER_BYTES: usize = 19;
const UPDATE: u8 = 2;
/// Values that code tends to be wrong about.
const EDGES: [u8; 12] = [0, 1, 2, 4, 14, 15, 0x1f, 0x20, 0x40, 0x7f, 0x80, 0xff];

/// A mutation of `seed`; `donor` lends attributes and tails.
pub fn mutate(rng: &mut Rng, seed: &[u8], donor: &[u8]) -> Vec<u8> {
    let mut message = seed.to_vec();
    for _ in 0..rng.u8(1..5) {
        once(rng, &mut message, donor);
    }
    if message.len() >= HEADER_BYTES && rng.u8(..8) != 0 {
        frame(rng, &mut message);
    }
    message
}

fn once(rng: &mut Rng, message: &mut Vec<u8>, donor: &[u8]) {
    let body = HEADER_BYTES.min(message.len());
    match rng.u8(..12) {
        0..=2 if message.len() > body => {
            let at = rng.usize(body..message.len());
            message[at] ^= 1 << rng.u8(..8);
        }
        3..=5 if message.len() > body => {
            let at = rng.usize(body..message.len());
            message[at] = EDGES[rng.usize(..EDGES.len())];
        }
        6 => message.truncate(rng.usize(body..=message.len())),
        7 => message.extend((0..rng.usize(1..40)).map(|_| rng.u8(..))),
        8 if donor.len() > HEADER_BYTES => {
            let from = rng.usize(HEADER_BYTES..donor.len());
            let at = rng.usize(body..=message.len());
            message.splice(at..at, donor[from..(from + rng.usize(1..48)).min(donor.len())].iter().copied());
        }
        9 => {
            if let Some(attribute) = pick(rng, donor) {
                let attribute = donor[attribute].to_vec();
                insert(rng, message, attribute);
            }
        }
        10 => {
            if let Some(attribute) = pick(rng, message) {
                message.drain(attribute);
            }
        }
        11 => {
            if let Some(attribute) = pick(rng, message) {
                // Its length is what it says no more.
                let at = attribute.start + 2;
                message[at] = message[at].wrapping_add(rng.u8(..3)).wrapping_sub(1);
            }
        }
        _ => {}
    }
}

/// Where the attributes of an UPDATE are, as far as they can be told apart.
fn attributes(message: &[u8]) -> Vec<std::ops::Range<usize>> {
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?])));
    let mut found = Vec::new();
    let Some(withdrawn) = word(HEADER_BYTES).filter(|_| message[HEADER_BYTES - 1] == UPDATE) else {
        return found;
    };
    let start = HEADER_BYTES + 2 + withdrawn;
    let Some(end) = word(start).map(|length| (start + 2 + length).min(message.len())) else { return found };
    let mut at = start + 2;
    while at + 3 <= end {
        let length = if message[at] & 0x10 != 0 {
            word(at + 2).map(|it| it + 4)
        } else {
            Some(usize::from(message[at + 2]) + 3)
        };
        let Some(next) = length.map(|length| at + length).filter(|next| *next <= end) else { break };
        found.push(at..next);
        at = next;
    }
    found
}

fn pick(rng: &mut Rng, message: &[u8]) -> Option<std::ops::Range<usize>> {
    if message.len() < HEADER_BYTES {
        return None;
    }
    let found = attributes(message);
    (!found.is_empty()).then(|| found[rng.usize(..found.len())].clone())
}

fn insert(rng: &mut Rng, message: &mut Vec<u8>, attribute: Vec<u8>) {
    if message.len() < HEADER_BYTES {
        return;
    }
    let places: Vec<usize> = attributes(message).iter().map(|range| range.start).collect();
    if places.is_empty() {
        return;
    }
    let at = places[rng.usize(..places.len())];
    let before = message.len();
    message.splice(at..at, attribute);
    // The length of all attributes follows.
    let withdrawn = usize::from(u16::from_be_bytes([message[HEADER_BYTES], message[HEADER_BYTES + 1]]));
    let field = HEADER_BYTES + 2 + withdrawn;
    let length = u16::from_be_bytes([message[field], message[field + 1]]);
    let grown = length.wrapping_add((message.len() - before) as u16);
    message[field..field + 2].copy_from_slice(&grown.to_be_bytes());
}

/// Marker and length are right again, and sometimes the length of the attributes is what is left.
fn frame(rng: &mut Rng, message: &mut Vec<u8>) {
    message.truncate(usize::from(u16::MAX));
    message[..16].fill(0xff);
    let length = message.len() as u16;
    message[16..18].copy_from_slice(&length.to_be_bytes());
    if message[HEADER_BYTES - 1] != UPDATE || message.len() < HEADER_BYTES + 4 || rng.bool() {
        return;
    }
    let room = message.len() - HEADER_BYTES - 4;
    let withdrawn = usize::from(u16::from_be_bytes([message[HEADER_BYTES], message[HEADER_BYTES + 1]]));
    let withdrawn = if withdrawn <= room { withdrawn } else { 0 };
    message[HEADER_BYTES..HEADER_BYTES + 2].copy_from_slice(&(withdrawn as u16).to_be_bytes());
    let field = HEADER_BYTES + 2 + withdrawn;
    let length = usize::from(u16::from_be_bytes([message[field], message[field + 1]]));
    if length > room - withdrawn {
        message[field..field + 2].copy_from_slice(&((room - withdrawn) as u16).to_be_bytes());
    }
}
