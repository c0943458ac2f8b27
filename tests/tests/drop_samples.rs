//! Samples of dropped frames: every drop reason of the packet tables yields one from the loaded program, with its context and the
//! frame's first bytes, and never more than the limit.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use aya::{TestRun as _, TestRunOptions};
use erdp::dataplane::{
    Dataplane as _,
    aya::{AyaDataplane, Buffers, LoadOptions},
};
use erdp_common::{
    abi::{DropSample, SAMPLE_BYTES, SAMPLE_WINDOW_BITS},
    policer::TIME_FRACTION_BITS,
    reason::DropReason,
};
use erdp_tests::packets::{Edge, Expect, Ports, Row, in_network_namespace, is_root, rows, veth_ports};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

const LIMIT: u32 = 3;
/// A window of the limit in the virtual clock's unit.
const WINDOW: u64 = 1 << (SAMPLE_WINDOW_BITS + TIME_FRACTION_BITS);

/// The program on one CPU and in virtual time, so that a limit by CPU and window is exact.
fn with_program(limit: u32, run: impl FnOnce(AyaDataplane, Ports) -> Result<()> + Send) -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    in_network_namespace(|| {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let mut only = CpuSet::new();
        only.set(first.context("no CPU")?)?;
        sched_setaffinity(Pid::from_raw(0), &only)?;
        let ports = veth_ports()?;
        let options = LoadOptions {
            fib_blocks: 2048,
            drop_samples: limit,
            virtual_clock: true,
            ..LoadOptions::default()
        };
        let mut dataplane = AyaDataplane::load(options)?;
        dataplane.set_clock(5 * WINDOW)?;
        let _edge = Edge::build(&mut dataplane, ports)?;
        run(dataplane, ports)
    })
}

/// The rows that end in a drop.
fn dropped(ports: Ports) -> Vec<(DropReason, Row)> {
    let dropped = |row: Row| match row.expect {
        Expect::Drop(reason) => Some((reason, row)),
        _ => None,
    };
    rows(ports).into_iter().filter_map(dropped).collect()
}

fn samples(dataplane: &mut AyaDataplane) -> Vec<DropSample> {
    std::iter::from_fn(|| dataplane.next_drop_sample()).collect()
}

/// A frame as it is judged: without tags that carry priority only, and without the bytes behind its packet. Up to 46 octets of payload
/// are padding and stay. Of a packet whose header is wrong nothing is cut.
fn judged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut at = 12;
    let word = |frame: &[u8], at: usize| match frame.get(at..at + 2) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    // With a third tag it is dropped as it came.
    if [12, 16, 20].iter().all(|at| [0x8100, 0x88a8].contains(&word(&frame, *at))) {
        return frame;
    }
    while [0x8100, 0x88a8].contains(&word(&frame, at)) {
        match word(&frame, at + 2) & 0xfff {
            0 => drop(frame.drain(at..at + 4)),
            _ => at += 4,
        }
    }
    let payload = at + 2;
    let packet = match (word(&frame, at), frame.get(payload).map(|first| first >> 4)) {
        (0x0800, Some(4)) => word(&frame, payload + 2),
        (0x86dd, Some(6)) => 40 + word(&frame, payload + 4),
        _ => return frame,
    };
    frame.truncate(payload + packet.max(46));
    frame
}

#[test]
fn every_drop_reason_of_the_packet_tables_yields_a_sample_with_its_context() -> Result<()> {
    /// Rows to a window, and the limit: the policer without room has none for 30 s only.
    const ROWS: u64 = 8;
    with_program(ROWS as u32, |mut dataplane, ports| {
        let mut buffers = Buffers::default();
        let mut seen = BTreeSet::new();
        for (at, (reason, row)) in (3 * ROWS..).zip(dropped(ports)) {
            let now = at * WINDOW / ROWS;
            dataplane.set_clock(now)?;
            let trace = dataplane.ask(row.ifindex, &row.frame)?.trace;
            ensure!(samples(&mut dataplane).is_empty(), "{}: a question was sampled", row.name);
            dataplane.run(row.ifindex, &row.frame, &mut buffers)?;
            let samples = samples(&mut dataplane);
            let [sample] = samples.as_slice() else {
                anyhow::bail!("{}: {} samples of one frame", row.name, samples.len());
            };
            let frame = judged(&row.frame);
            let captured = frame.len().min(SAMPLE_BYTES);
            let mut head = [0; SAMPLE_BYTES];
            head[..captured].copy_from_slice(&frame[..captured]);
            let expected = DropSample {
                time_ns: now >> TIME_FRACTION_BITS,
                ifindex: row.ifindex,
                len: frame.len() as u32,
                group: trace.group,
                attachment: trace.attachment,
                next_hop: trace.next_hop,
                captured: captured as u16,
                reason: reason as u8,
                head,
                ..DropSample::EMPTY
            };
            ensure!(*sample == expected, "{}:\ngot      {sample:?}\nexpected {expected:?}", row.name);
            seen.insert(reason);
        }
        // The packet tables' own test says which two reasons no row can reach.
        ensure!(seen.len() == DropReason::ALL.len() - 2, "sampled only {seen:?}");
        Ok(())
    })
}

#[test]
fn a_flood_of_one_reason_is_sampled_up_to_the_limit_and_hides_no_other_reason_and_no_count() -> Result<()> {
    const FLOOD: u64 = 1_000;
    with_program(LIMIT, |mut dataplane, ports| {
        let mut buffers = Buffers::default();
        let rows = dropped(ports);
        let row =
            |wanted| rows.iter().find(|(reason, _)| *reason == wanted).map(|(_, row)| row).context("no row");
        let (flood, lone) = (row(DropReason::NoRoute)?, row(DropReason::TtlExpired)?);
        for (window, from) in [(7, 0), (8, FLOOD)] {
            // The last unit of one window, then the first of the next.
            let now = if window == 7 { 8 * WINDOW - 1 } else { 8 * WINDOW };
            dataplane.set_clock(now)?;
            for _ in 0..FLOOD {
                dataplane.run(flood.ifindex, &flood.frame, &mut buffers)?;
            }
            dataplane.run(lone.ifindex, &lone.frame, &mut buffers)?;
            let mut by_reason = BTreeMap::new();
            for sample in samples(&mut dataplane) {
                *by_reason.entry(sample.reason).or_insert(0) += 1;
            }
            let expected =
                BTreeMap::from([(DropReason::NoRoute as u8, LIMIT), (DropReason::TtlExpired as u8, 1)]);
            ensure!(by_reason == expected, "window {window}: {by_reason:?}");
            let counted = dataplane.counters()?.dropped["no-route"].packets;
            ensure!(counted == from + FLOOD, "window {window}: {counted} counted");
        }
        Ok(())
    })
}

#[test]
fn a_full_ring_loses_samples_and_no_count() -> Result<()> {
    const FLOOD: u64 = 2_000;
    with_program(u32::MAX, |mut dataplane, ports| {
        let mut buffers = Buffers::default();
        let rows = dropped(ports);
        let (reason, row) = rows.first().context("no row")?;
        for _ in 0..FLOOD {
            dataplane.run(row.ifindex, &row.frame, &mut buffers)?;
        }
        ensure!(dataplane.counters()?.dropped[reason.label()].packets == FLOOD, "a drop was not counted");
        let kept = samples(&mut dataplane).len() as u64;
        ensure!(kept > 0 && kept < FLOOD, "{kept} of {FLOOD} samples in a ring that holds fewer");
        dataplane.run(row.ifindex, &row.frame, &mut buffers)?;
        ensure!(samples(&mut dataplane).len() == 1, "no sample after the ring was read");
        Ok(())
    })
}

#[test]
fn a_limit_of_zero_switches_sampling_off() -> Result<()> {
    with_program(0, |mut dataplane, ports| {
        let mut buffers = Buffers::default();
        for (_, row) in dropped(ports) {
            dataplane.run(row.ifindex, &row.frame, &mut buffers)?;
        }
        ensure!(samples(&mut dataplane).is_empty(), "sampled in spite of the limit");
        Ok(())
    })
}

/// What a drop costs is measured by the kernel, on the cheapest drop there is (an interface that is none of ours), by turns with and
/// without sampling.
#[test]
fn a_flood_of_drops_costs_little_more_with_sampling_than_without() -> Result<()> {
    const ROUNDS: usize = 15;
    const FRAMES: u32 = 200_000;
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let load = |drop_samples| {
        AyaDataplane::load(LoadOptions { fib_blocks: 1024, drop_samples, ..LoadOptions::default() })
    };
    let time = |dataplane: &AyaDataplane| -> Result<f64> {
        let frame = [0; 60];
        let options = TestRunOptions { data_in: Some(&frame), repeat: FRAMES, ..TestRunOptions::default() };
        Ok(dataplane.program()?.test_run(options)?.duration.as_nanos() as f64)
    };
    let (without, with) = (load(0)?, load(8)?);
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        rounds[0].push(time(&without)?);
        rounds[1].push(time(&with)?);
    }
    let [without, with] = rounds.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    });
    println!("a drop costs {without} ns without sampling and {with} ns with it (gross)");
    ensure!(with < 2.0 * without, "a flood of drops costs twice as much when it is sampled");
    Ok(())
}
