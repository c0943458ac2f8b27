//! Target "netlink": what a read of the rtnetlink socket returned, and the tracker behind it. Each message costs its own length, dumps come to an
//! end, and what was said to have changed is what is different: a listener that has followed the changes knows what the tracker knows.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use erdp::kernel::routes::{Change, Fact, Frame, Request, Selected, Tracker, Watch, frames};
use ipnet::IpNet;

use super::{Octets, must};

const PORT: u32 = 0x1234;
const HEADER_BYTES: usize = 16;
const READS_MOST: usize = 64;

/// Reads of the socket: what happens between them, two octets of length, and the bytes.
pub fn run(bytes: &[u8]) {
    must(check(bytes));
}

fn check(bytes: &[u8]) -> Result<()> {
    let watches = vec![
        Watch { table: 254, protocols: (0..=255).collect() },
        Watch { table: 254, protocols: vec![186] },
        Watch { table: 100, protocols: vec![12, 186] },
    ];
    let mut tracker = Tracker::new(watches);
    let mut known: BTreeMap<(usize, IpNet), Selected> = BTreeMap::new();
    let mut now = Duration::from_secs(1);
    let mut octets = Octets(bytes);
    let mut asked = None;
    for _ in 0..READS_MOST {
        if octets.is_empty() {
            break;
        }
        match octets.octet() {
            0 => tracker.handle_overrun(),
            1 => tracker.handle_refusal(now),
            kind => now += Duration::from_millis(u64::from(kind) * 40),
        }
        asked = tracker.poll_request(now).or(asked);
        let length = usize::from(octets.word() % 4_096);
        let read = octets.take(length);
        let frames = frames(&read, PORT);
        ensure!(frames.len() <= read.len() / HEADER_BYTES, "{} of {} octets", frames.len(), read.len());
        for frame in frames {
            tracker.handle(of_ours(frame, asked), now);
        }
        follow(&mut known, tracker.take_changes());
        ensure!(tracker.take_changes().is_empty(), "changes are said twice");
        let _ = tracker.take_completion();
        let counts = tracker.counts();
        ensure!(counts.routes <= bytes.len() && counts.next_hops <= bytes.len(), "{counts:?}");
    }
    // Three empty answers: nothing is there any more, and whoever has followed knows it.
    end(&mut tracker, &mut known, now)
}

/// An answer to the running request, whatever number it has.
fn of_ours(frame: Frame, asked: Option<(Request, u32)>) -> Frame {
    let answers = frame.answers.and(asked.map(|(_, sequence)| sequence)).or(frame.answers);
    Frame { answers, ..frame }
}

fn follow(known: &mut BTreeMap<(usize, IpNet), Selected>, changes: Vec<Change>) {
    for Change { watch, prefix, selected } in changes {
        match selected {
            Some(selected) => drop(known.insert((watch, prefix), selected)),
            None => drop(known.remove(&(watch, prefix))),
        }
    }
}

fn end(
    tracker: &mut Tracker,
    known: &mut BTreeMap<(usize, IpNet), Selected>,
    mut now: Duration,
) -> Result<()> {
    let dumps = tracker.counts().dumps;
    tracker.handle_overrun();
    // What runs fails first; then dumps of nothing, a minute after one another at most.
    for _ in 0..16 {
        match (tracker.poll_request(now), tracker.poll_timeout()) {
            (Some((_, sequence)), _) => tracker.handle(done(sequence), now),
            // It runs, and was asked for before.
            (None, None) => tracker.handle_refusal(now),
            (None, Some(at)) => {
                ensure!(at <= now + Duration::from_secs(60), "{at:?} at {now:?}");
                now = now.max(at);
            }
        }
        follow(known, tracker.take_changes());
    }
    ensure!(tracker.counts().dumps > dumps, "no dump comes to its end");
    ensure!(known.is_empty(), "{known:?} is there for ever");
    ensure!(tracker.counts().routes == 0, "{:?}", tracker.counts());
    Ok(())
}

/// The end of a dump that has found nothing.
fn done(sequence: u32) -> Frame {
    Frame { answers: Some(sequence), interrupted: false, fact: Fact::Done(true) }
}

/// Reads as the kernel writes them: a dump with a route and its end.
pub fn seeds() -> Vec<Vec<u8>> {
    let message = |kind: u16, flags: u16, sequence: u32, body: &[u8]| {
        let length = (HEADER_BYTES + body.len()) as u32;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&PORT.to_ne_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes
    };
    let read = |kind: u8, bytes: &[u8]| [&[kind][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let done = message(3, 2, 1, &[0; 4]);
    let route = |flags: u16, sequence: u32| {
        let header = [2, 24, 0, 0, 254, 186, 0, 1, 0, 0, 0, 0];
        let body = [
            &header[..],
            &attribute(1, &[10, 9, 8, 0]),
            &attribute(5, &[198, 18, 0, 2]),
            &attribute(4, &2_u32.to_ne_bytes()),
            &attribute(6, &20_u32.to_ne_bytes()),
        ];
        message(24, flags, sequence, &body.concat())
    };
    let by_object = message(
        24,
        0,
        0,
        &[
            &[2, 24, 0, 0, 254, 186, 0, 1, 0, 0, 0, 0][..],
            &attribute(1, &[10, 9, 7, 0]),
            &attribute(30, &7_u32.to_ne_bytes()),
        ]
        .concat(),
    );
    let object = message(
        104,
        0,
        0,
        &[
            &[2, 0, 0, 0, 0, 0, 0, 0][..],
            &attribute(1, &7_u32.to_ne_bytes()),
            &attribute(5, &2_u32.to_ne_bytes()),
            &attribute(6, &[198, 18, 0, 2]),
        ]
        .concat(),
    );
    let mut group = 7_u32.to_ne_bytes().to_vec();
    group.extend_from_slice(&[0; 4]);
    let group = message(
        104,
        0,
        0,
        &[&[0; 8][..], &attribute(1, &9_u32.to_ne_bytes()), &attribute(2, &group)].concat(),
    );
    let link = message(16, 0, 0, &[0, 0, 1, 0, 2, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0]);
    let gone = message(17, 0, 0, &[0, 0, 1, 0, 2, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0]);
    let dumped = [read(9, &done), read(9, &[route(2, 1), done.clone()].concat()), read(9, &done)].concat();
    vec![
        dumped.clone(),
        [
            dumped.clone(),
            read(9, &route(0x200, 0)),
            read(9, &route(0x100, 0)),
            read(9, &link),
            read(9, &gone),
        ]
        .concat(),
        [dumped, read(9, &object), read(9, &group), read(9, &by_object)].concat(),
    ]
}
