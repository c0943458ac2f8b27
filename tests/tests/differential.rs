//! The loaded program against the host's stages: random and damaged frames, and every capture under `ERDP_DATA`.
//!
//! `ERDP_TEST_FULL=1` (`cargo xtask test --full`) makes it three million frames; `ERDP_TEST_SEED` chooses others than the usual ones.

use std::{env, thread, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use erdp::dataplane::Record;
use erdp_common::abi::{GROUP_GLEAN, Group, NEXT_HOP_RESOLVED, NextHop, PeerKey, Port, Vlan};
use erdp_tests::{
    differential::{Difference, Generator, Histogram, Outcome, Pair, captures, policed::START},
    edge,
    packets::{Ports, forward, in_network_namespace, is_root, rows, veth_ports},
};

/// Frames of the everyday run, and of the full one; both workers together.
const SLICE: u64 = 500_000;
const FULL: u64 = 3_000_000;
/// One for each of the two CPUs that a small machine has.
const WORKERS: u64 = 2;
const SEED: u64 = 0x4552_4450;
/// Time between two frames, in 2^-8 ns: the policers of the edge are neither idle nor empty.
const PACE: u64 = 20_000 << 8;

#[test]
fn random_and_damaged_frames_have_the_same_verdict_bytes_and_counters_in_kernel_and_host() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let seed =
        env::var("ERDP_TEST_SEED").ok().map_or(Ok(SEED), |text| text.parse()).context("ERDP_TEST_SEED")?;
    let frames = if env::var_os("ERDP_TEST_FULL").is_some() { FULL } else { SLICE };
    let started = Instant::now();
    let mut reached = Histogram::default();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || {
                    random_frames(seed.wrapping_add(worker), frames / WORKERS, |ports| {
                        Pair::in_virtual_time(ports, START)
                    })
                })
            })
            .collect();
        for worker in workers {
            reached.add(&worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(())
    })?;
    println!("\nseed {seed}, {:.1} s: {reached}", started.elapsed().as_secs_f32());
    let by_rows = in_network_namespace(|| {
        let ports = veth_ports()?;
        let mut pair = Pair::new(ports)?;
        let mut reached = Histogram::default();
        for row in rows(ports) {
            compare(&mut pair, row.ifindex, &row.frame, &mut reached).context(row.name)?;
        }
        Ok(reached)
    })?;
    let blind = reached.lacks(&by_rows);
    ensure!(
        blind.is_empty(),
        "the packet tables reach {blind:?}, the generator does not: it has become blind"
    );
    Ok(())
}

#[test]
fn a_symmetric_hash_is_the_same_in_kernel_and_host_and_another_one_is_found() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    random_frames(SEED, SLICE / 5, |ports| Pair::with_symmetric_hash(ports, START, true))?;
    let planted = random_frames(SEED, 5_000, |ports| Pair::with_symmetric_hash(ports, START, false));
    ensure!(planted.is_err(), "kernel and host hash differently, and nothing of it was found");
    Ok(())
}

fn random_frames(
    seed: u64,
    frames: u64,
    pair: impl FnOnce(Ports) -> Result<Pair> + Send,
) -> Result<Histogram> {
    in_network_namespace(|| {
        let ports = veth_ports()?;
        let mut pair = pair(ports)?;
        let mut generator = Generator::new(seed, ports);
        let mut reached = Histogram::default();
        for number in 0..frames {
            let sample = generator.sample();
            compare(&mut pair, sample.ifindex, &sample.frame, &mut reached)
                .with_context(|| format!("frame {number} of seed {seed}"))?;
            pair.set_clock(START.wrapping_add((number + 1) * PACE))?;
        }
        pair.compare_policers()?;
        let counters = pair.compare_counters()?;
        let counted = counters.rx.packets + counters.from_kernel.packets;
        ensure!(counted == reached.compared, "{counted} counted, {} sent", reached.compared);
        Ok(reached)
    })
}

#[test]
fn captured_packets_have_the_same_verdict_bytes_and_counters_in_kernel_and_host() -> Result<()> {
    let Some(data) = edge::data() else { return Ok(()) };
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let folder = data.join("pcaps");
    let files = captures::files(&folder)?;
    ensure!(!files.is_empty(), "{} has no captures", folder.display());
    in_network_namespace(|| {
        let ports = veth_ports()?;
        let mut pair = Pair::new(ports)?;
        let mut reached = Histogram::default();
        let (mut packets, mut other_links, mut broken) = (0, 0, Vec::new());
        for file in &files {
            let capture = captures::read(file)?;
            packets += capture.frames.len();
            other_links += capture.other_links;
            if let Some(why) = capture.broken {
                broken.push(format!("{}: {why}", file.display()));
            }
            for (number, frame) in capture.frames.iter().enumerate() {
                captured(&mut pair, ports, frame, &mut reached)
                    .with_context(|| format!("packet {number} of {}", file.display()))?;
            }
        }
        pair.compare_counters()?;
        println!(
            "\n{} captures, {packets} Ethernet packets ({other_links} of other link types), {} files end early: {reached}",
            files.len(),
            broken.len()
        );
        broken.iter().for_each(|why| println!("  {why}"));
        ensure!(reached.compared > 0, "no packet of any capture was compared");
        Ok(())
    })
}

/// On all three ports: as it is, and with the destination that makes it transit traffic there.
fn captured(pair: &mut Pair, ports: Ports, frame: &[u8], reached: &mut Histogram) -> Result<()> {
    for (ifindex, tag, to_customer) in
        [(ports.a, None, true), (ports.b, Some(100), true), (ports.c, None, false)]
    {
        compare(pair, ifindex, frame, reached)?;
        if let Some(routed) = captures::routed(frame, tag, to_customer) {
            compare(pair, ifindex, &routed, reached)?;
        }
    }
    Ok(())
}

fn compare(pair: &mut Pair, ifindex: u32, frame: &[u8], reached: &mut Histogram) -> Result<()> {
    let outcome = pair.compare(ifindex, frame)?;
    reached.note(&outcome);
    if let Outcome::Different(difference) = outcome {
        let whole: Difference = *difference;
        let smallest = pair.shrink(whole.clone())?;
        bail!("kernel and host differ\nas it was: {whole}\nsmallest: {smallest}");
    }
    Ok(())
}

#[test]
fn a_difference_in_any_one_record_is_found_and_made_small() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    const ENOUGH: usize = 10_000;
    // Another MAC address shows in the bytes only, a wanted host only in the ring or where sources are checked; the others move counters too.
    let customer = NextHop {
        flags: NEXT_HOP_RESOLVED,
        attachment: 4,
        link: 4,
        mtu: 1500,
        l2_len: 12,
        ..NextHop::default()
    };
    let peer = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, 1, 2];
    let planted: [(&str, &(dyn Fn(Ports) -> Record + Sync)); 7] = [
        ("a link is dead", &|_| Record::Link(1, false)),
        ("a neighbour has another MAC address", &|_| Record::NextHop(4, customer)),
        ("a group leads elsewhere", &|_| Record::Group(2, forward(&[2]))),
        ("hosts are wanted elsewhere", &|_| {
            Record::Group(9, Group { kind: GROUP_GLEAN, attachment: 1, ..Group::default() })
        }),
        ("a tag is unknown", &|_| Record::Vlan(1, 100, Vlan::default())),
        ("a control port is unknown", &|ports| Record::Port(ports.d, Port::default())),
        ("a peer is unknown", &|_| Record::Peer(PeerKey { attachment: 1, address: peer }, false)),
    ];
    for (name, planted) in planted {
        let (record, whole, smallest, counters) = in_network_namespace(|| {
            let ports = veth_ports()?;
            let mut pair = Pair::new(ports)?;
            let record = planted(ports);
            pair.plant(&record)?;
            let mut generator = Generator::new(SEED, ports);
            let mut first = None;
            for _ in 0..ENOUGH {
                let sample = generator.sample();
                if let Outcome::Different(difference) = pair.compare(sample.ifindex, &sample.frame)? {
                    first.get_or_insert(*difference);
                }
            }
            let counters = pair.compare_counters();
            let whole = first.with_context(|| format!("{name}: not found"))?;
            Ok((record, whole.frame.clone(), pair.shrink(whole)?, counters))
        })?;
        ensure!(smallest.frame.len() <= whole.len(), "{name}: grew from {} bytes", whole.len());
        ensure!(set_bytes(&smallest.frame) < set_bytes(&whole), "{name}: not made plainer: {smallest}");
        let moves_no_counter = matches!(record, Record::NextHop(..));
        // The check of sources asks this group too, where a packet claims to come from one of these hosts.
        let may_move_counters = matches!(record, Record::Group(9, _));
        ensure!(
            may_move_counters || counters.is_ok() == moves_no_counter,
            "{name}: the counters say otherwise: {counters:?}"
        );
    }
    Ok(())
}

fn set_bytes(frame: &[u8]) -> usize {
    frame.iter().filter(|byte| **byte != 0).count()
}

#[test]
fn the_same_seed_gives_the_same_frames() {
    let ports = Ports { a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 };
    let frames = |seed| {
        let mut generator = Generator::new(seed, ports);
        (0..500).map(|_| generator.sample()).collect::<Vec<_>>()
    };
    assert_eq!(frames(1), frames(1));
    assert_ne!(frames(1), frames(2));
}
