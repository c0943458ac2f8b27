//! Policers and time for the differential test: rates so small that every class meets every passage, and traffic that lets them.
//!
//! | policer | where | burst policy | marks |
//! |---|---|---|---|
//! | 3 | from attachments 1 and 2, one bucket | `peak-2x` | yes |
//! | 4 | next hop 1 (20.1.0.0/16 and its part of 20.0.0.0/8) | `dual-link` | yes |
//! | 5 | next hop 2 (20.2.0.0/16 and the other part) | `dual-link` | no |
//! | 6 | next hop 3 (20.3.0.0/16) | `headroom-20` | yes |
//! | 7 | next hop 8 (20.12.0.0/16, 2604::/32), classified by ports too | `peak-2x` | yes |
//!
//! Attachments 1 and 2 may hairpin, so that a packet meets two policers and is charged by both or by neither. Time begins
//! a second before its word wraps.

use anyhow::Result;
use erdp::dataplane::Record;
use erdp_common::{
    abi::{
        ATTACHMENT_ENABLED, ATTACHMENT_HAIRPIN, ATTACHMENT_MSEE, Attachment, L2_MAX, NEXT_HOP_MSEE,
        NEXT_HOP_RESOLVED, NextHop, Policer, QosProfile,
    },
    policer::{BurstPolicy, Rates, TIME_FRACTION_BITS},
};
use fastrand::Rng;

use super::{Generator, Pair, Sample};
use crate::packets::{Build, Ports, neighbour_mac, our_mac};

/// The policers of this page.
pub const POLICERS: [u16; 5] = [3, 4, 5, 6, 7];
const MILLISECOND: u64 = 1_000_000 << TIME_FRACTION_BITS;
/// Where time begins.
pub const START: u64 = u64::MAX - 1_000 * MILLISECOND;

/// The buckets' words at the start: a little ahead of time.
pub const BUSY_UNTIL: u64 = START + 4 * MILLISECOND;

/// The record of one of [`POLICERS`].
pub fn policer(id: u16) -> Result<Policer> {
    let (policy, megabits, ecn) = match id {
        3 => (BurstPolicy::Peak2x, 1, true),
        4 => (BurstPolicy::DualLink, 2, true),
        5 => (BurstPolicy::DualLink, 2, false),
        6 => (BurstPolicy::Headroom20, 1, true),
        _ => (BurstPolicy::Peak2x, 1, true),
    };
    let rates = Rates {
        ecn,
        credit_ms: 50,
        overhead: if id == 6 { 24 } else { 0 },
        ..Rates::new(megabits * 1_000_000, policy)
    };
    let policer = rates.policer().map_err(|error| anyhow::anyhow!("{error}"))?;
    // At such rates each packet is paid by itself: two of them pay for several at once, as faster ones do.
    Ok(if id == 5 || id == 7 { Policer { ahead: 3_000, ..policer } } else { policer })
}

/// Gives both sides the policers, and attachments and next hops that use them.
pub fn police(pair: &mut Pair) -> Result<()> {
    pair.write(&Record::Profile(2, QosProfile::private()))?;
    for id in POLICERS {
        pair.write(&Record::Policer(id, policer(id)?))?;
        pair.write(&Record::Bucket(id, [BUSY_UNTIL; 4]))?;
    }
    for id in [1, 2] {
        let flags = ATTACHMENT_MSEE | ATTACHMENT_ENABLED | ATTACHMENT_HAIRPIN;
        let attachment = Attachment { flags, policer: 3, profile: id, ..pair.attachment(id) };
        pair.write(&Record::Attachment(id, attachment))?;
    }
    for (id, attachment, policer, profile) in [(1, 1, 4, 2), (2, 2, 5, 2), (3, 3, 6, 2), (8, 1, 7, 1)] {
        let tags: &[u8] = match attachment {
            1 => &[],
            2 => &[0x81, 0, 0, 100],
            _ => &[0x81, 0, 0, 10, 0x81, 0, 0, 200],
        };
        let mut l2 = [0; L2_MAX];
        l2[..6].copy_from_slice(&neighbour_mac(id));
        l2[6..12].copy_from_slice(&our_mac(attachment));
        l2[12..12 + tags.len()].copy_from_slice(tags);
        let next_hop = NextHop {
            flags: NEXT_HOP_RESOLVED | NEXT_HOP_MSEE,
            attachment,
            link: attachment,
            mtu: 1500,
            l2_len: 12 + tags.len() as u8,
            policer,
            profile,
            l2,
            ..NextHop::default()
        };
        pair.write(&Record::NextHop(id, next_hop))?;
    }
    Ok(())
}

/// Frames and their times, the same for the same seed.
pub struct Traffic {
    rng: Rng,
    generator: Generator,
    ports: Ports,
    now: u64,
    /// Frames until the load changes, and the mean gap until then.
    phase: (u32, u64),
}

impl Traffic {
    /// Traffic from [`START`] on.
    pub fn new(seed: u64, ports: Ports) -> Self {
        let generator = Generator::new(seed, ports);
        Self { rng: Rng::with_seed(seed), generator, ports, now: START, phase: (0, 0) }
    }

    /// When the next frame comes, and the frame: seven in eight are packets that are forwarded if there is room for them.
    pub fn sample(&mut self) -> (u64, Sample) {
        let (left, gap) = &mut self.phase;
        if *left == 0 {
            // Mean gaps around what the rates can bear: overload, balance, idleness.
            *gap = [MILLISECOND / 20, MILLISECOND / 3, MILLISECOND, 4 * MILLISECOND][self.rng.usize(..4)];
            *left = self.rng.u32(100..1_500);
        }
        *left -= 1;
        let step = self.rng.u64(..*gap * 2);
        self.now = match self.rng.u16(..2_000) {
            // Idle for longer than a bucket remembers; another CPU's clock that is a little behind.
            0 => self.now.wrapping_add(70_000 * MILLISECOND),
            1..=40 => self.now.wrapping_sub(step.min(MILLISECOND)),
            _ => self.now.wrapping_add(step),
        };
        let sample = if self.rng.u8(..8) == 0 { self.generator.sample() } else { self.transit() };
        (self.now, sample)
    }

    fn transit(&mut self) -> Sample {
        let Self { rng, ports, .. } = self;
        let (ifindex, vid) =
            [(ports.a, None), (ports.b, Some(100)), (ports.c, None), (ports.c, None)][rng.usize(..4)];
        let code = [0, 0, 10, 18, 34, 46, 46, rng.u8(..64)][rng.usize(..8)];
        let traffic_class = code << 2 | rng.u8(..4);
        let port = if rng.bool() { rng.u16(49_990..50_070) } else { rng.u16(..) };
        let ends = if rng.bool() { (port, 3478) } else { (3478, port) };
        let len = if rng.u8(..4) == 0 { rng.usize(..1_400) } else { rng.usize(..150) };
        let segment = Build::udp(ends.0, ends.1, &vec![0; len]);
        let any = rng.u8(..);
        let (ether_type, packet) = if rng.u8(..3) == 0 {
            let mut to = [[0x26, 0x03, 0, 1], [0x26, 0x03, 0, 0], [0x26, 0x04, 0, 0], [0xfd, 0, 0, 0x18]]
                [rng.usize(..4)]
            .to_vec();
            to.extend([0, if to[0] == 0xfd { 0x64 } else { 0 }, 0, any, 0, 0, 0, 0, 0, 0, 0, 9]);
            let mut packet = Build::ipv6([0xfd; 16], to.try_into().unwrap_or_default(), 17, 64, &segment);
            packet[0] |= traffic_class >> 4;
            packet[1] |= traffic_class << 4;
            (0x86dd, packet)
        } else {
            let to = [
                [20, 0, any, 9],
                [20, 1, 0, any],
                [20, 2, any, 9],
                [20, 3, any, 9],
                [20, 12, any, 9],
                [198, 18, 64, any],
            ][rng.usize(..6)];
            let packet = Build::ipv4([198, 18, 99, any], to, 17, &segment, |header| {
                header.dscp = (code).try_into().unwrap_or_default();
                header.ecn = (traffic_class & 3).try_into().unwrap_or_default();
            });
            (0x0800, packet)
        };
        let tag = vid.map(|vid| (0x8100, vid));
        Sample { ifindex, frame: Build::ethernet(tag.as_slice(), ether_type, &packet) }
    }
}
