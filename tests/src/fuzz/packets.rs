//! Target "packets": a frame comes in on an edge of the packet tables. Besides not panicking, what must hold of every frame: a question changes
//! nothing and is answered like the traffic, every frame is accounted for, what is forwarded has lost one of its hop limit and nothing
//! of its ends and payload, is as long as its IP header says, and leaves on the other side.

use std::cell::RefCell;

use anyhow::{Context as _, Result, ensure};
use erdp::dataplane::{Dataplane as _, memory::MemoryDataplane};
use erdp_common::{abi::VERDICT_TRANSMIT, pipeline::Verdict};

use super::must;
use crate::packets::{Edge, Ports, rows};

/// The ports of the edge.
pub const PORTS: Ports = Ports { a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 };
/// Blocks of the trie: the edge needs some hundreds.
const BLOCKS: u32 = 2_048;
/// Longer frames do not fit the packet path's buffers.
const FRAME_MOST: usize = 3_400;
/// Time between two frames in 2^-8 ns: budgets of the slow path fill up again.
const GAP: u64 = 1 << 38;

thread_local! {
    static EDGE: RefCell<Option<(MemoryDataplane, Edge)>> = const { RefCell::new(None) };
}

/// The first octet is the port.
pub fn run(bytes: &[u8]) {
    let Some((port, frame)) = bytes.split_first() else { return };
    let frame = &frame[..frame.len().min(FRAME_MOST)];
    let ifindex = u32::from(port % 7) + 1;
    EDGE.with_borrow_mut(|edge| {
        let (dataplane, _) = edge.get_or_insert_with(|| {
            let mut dataplane = MemoryDataplane::new(BLOCKS);
            let edge = Edge::build(&mut dataplane, PORTS).unwrap_or_else(|error| panic!("{error:#}"));
            (dataplane, edge)
        });
        dataplane.set_clock(dataplane.clock().wrapping_add(GAP));
        must(check(dataplane, ifindex, frame));
    });
}

/// Frames of the packet tables as inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    let frames = rows(PORTS).into_iter();
    frames.map(|row| [&[(row.ifindex - 1) as u8][..], &row.frame].concat()).collect()
}

fn check(dataplane: &MemoryDataplane, ifindex: u32, frame: &[u8]) -> Result<()> {
    let before = dataplane.counters()?;
    let asked = dataplane.ask(ifindex, frame)?;
    ensure!(dataplane.counters()? == before, "a question is counted");
    let ran = dataplane.run(ifindex, frame);
    let after = dataplane.counters()?;
    ensure!(after.unexplained() == 0, "{} frames unexplained", after.unexplained());
    let Verdict::Transmit(attachment) = ran.verdict else {
        return Ok(());
    };
    // An answered BFD packet is the peer's own, turned round.
    if asked.trace.verdict != VERDICT_TRANSMIT || asked.trace.next_hop == 0 {
        return Ok(());
    }
    let (came, left) = (Ip::of(frame).context("forwarded")?, Ip::of(ran.frame.bytes()).context("left")?);
    ensure!(left.hop_limit + 1 == came.hop_limit, "{} became {}", came.hop_limit, left.hop_limit);
    ensure!(came.hop_limit > 1, "the hop limit had run out");
    ensure!(came.ends == left.ends && came.version == left.version, "another source or destination");
    ensure!(came.rest == left.rest, "the payload is another one");
    let is_padded = ran.frame.bytes().len() <= 60 + 8;
    ensure!(left.behind == 0 || is_padded, "{} octets behind the packet leave unjudged", left.behind);
    if let (Some(came), Some(left)) = (came.checksum, left.checksum) {
        ensure!(came == left, "RFC 1624: a right checksum stays right and a wrong one wrong: {came} {left}");
    }
    // Attachments 1 to 3 are MSEEs, 4 and 5 customers, 6 a service; none of them may hairpin.
    let side = |attachment: u16| match attachment {
        1..=3 => "msee",
        6 => "service",
        _ => "customer",
    };
    ensure!(side(asked.trace.attachment) != side(attachment), "{} to {attachment}", asked.trace.attachment);
    Ok(())
}

/// What a reader of RFC 791 and 8200 sees.
#[derive(Debug, PartialEq, Eq)]
struct Ip<'a> {
    version: u8,
    hop_limit: u8,
    ends: &'a [u8],
    rest: &'a [u8],
    behind: usize,
    /// Whether the header's sum is right; none in IPv6.
    checksum: Option<bool>,
}

impl<'a> Ip<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        let mut at = 12;
        while matches!(frame.get(at..at + 2)?, [0x81, 0] | [0x88, 0xa8]) {
            at += 4;
        }
        let kind = frame.get(at..at + 2)?;
        let packet = frame.get(at + 2..)?;
        match kind {
            [0x08, 0] => {
                let header = usize::from(packet.first()? & 15) * 4;
                let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
                let words = packet.get(..header)?.chunks(2);
                let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
                while sum > 0xffff {
                    sum = (sum & 0xffff) + (sum >> 16);
                }
                Some(Self {
                    version: packet[0] >> 4,
                    hop_limit: *packet.get(8)?,
                    ends: packet.get(12..20)?,
                    rest: packet.get(20..total)?,
                    behind: packet.len() - total,
                    checksum: Some(sum == 0xffff),
                })
            }
            [0x86, 0xdd] => {
                let total = 40 + usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
                Some(Self {
                    version: packet[0] >> 4,
                    hop_limit: *packet.get(7)?,
                    ends: packet.get(8..40)?,
                    rest: packet.get(40..total)?,
                    behind: packet.len() - total,
                    checksum: None,
                })
            }
            _ => None,
        }
    }
}
