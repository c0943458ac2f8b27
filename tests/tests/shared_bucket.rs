//! Two CPUs of the kernel through one bucket at once: every packet let through is charged, and the rate holds.
//!
//! Nothing here is about how fast this machine is. The bucket starts ahead of time and stays there, so its word moves by charges
//! only and can be held against the counters; and a drained bucket lets through what time has refilled, whoever sleeps meanwhile.

use std::{sync::Barrier, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use erdp::dataplane::{
    Dataplane as _, Record, Tally,
    aya::{AyaDataplane, Buffers, LoadOptions},
};
use erdp_common::{
    abi::{NEXT_HOP_MSEE, NEXT_HOP_RESOLVED, NextHop, Policer},
    classify::Class,
    policer::{COST_FRACTION_BITS, Passage, TIME_FRACTION_BITS},
};
use erdp_tests::packets::{Build, Edge, Ports, in_network_namespace, is_root, veth_ports};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

const SECOND: u64 = 1_000_000_000 << TIME_FRACTION_BITS;
/// The policer under test: 100 Mbit/s, which is 80 ns a byte.
const ID: u16 = 9;
const BYTE_NS: u64 = 80;
const IP_BYTES: u64 = 100;
/// Time of one packet.
const COST: u64 = bytes_cost(IP_BYTES);
/// Packets that a CPU pays for at once.
const AHEAD: u64 = 16;

const fn bytes_cost(bytes: u64) -> u64 {
    (bytes * BYTE_NS) << TIME_FRACTION_BITS
}
/// The credit. A stall of this machine for most of it would be another test's matter.
const LIMIT: u64 = 60 * SECOND;

#[test]
fn two_cpus_through_one_bucket_charge_every_packet_and_keep_the_rate() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> =
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).take(2).collect();
    if cpus.len() < 2 {
        println!("SKIP: this test needs two CPUs");
        return Ok(());
    }
    in_network_namespace(|| {
        let ports = veth_ports()?;
        let mut dataplane = AyaDataplane::load(LoadOptions { fib_blocks: 2048, ..LoadOptions::default() })?;
        let _edge = Edge::build(&mut dataplane, ports)?;
        police(&mut dataplane)?;
        every_packet_is_charged(&mut dataplane, ports, &cpus)?;
        the_rate_holds(&mut dataplane, ports, &cpus)
    })
}

/// 20.1.0.0/16 leaves by next hop 1, without tags, through the policer.
fn police(dataplane: &mut AyaDataplane) -> Result<()> {
    let policer = Policer {
        sustained_cost: BYTE_NS << COST_FRACTION_BITS,
        sustained_tolerance: [LIMIT; 3],
        burst_from: LIMIT,
        ahead: (AHEAD * IP_BYTES) as u32,
        ..Policer::default()
    };
    dataplane.write(&Record::Policer(ID, policer))?;
    let next_hop = NextHop {
        flags: NEXT_HOP_RESOLVED | NEXT_HOP_MSEE,
        attachment: 1,
        link: 1,
        mtu: 1500,
        l2_len: 12,
        policer: ID,
        ..NextHop::default()
    };
    Ok(dataplane.write(&Record::NextHop(1, next_hop))?)
}

/// On credit, where both CPUs contend for the word at every packet.
fn every_packet_is_charged(dataplane: &mut AyaDataplane, ports: Ports, cpus: &[usize]) -> Result<()> {
    const EACH: u64 = 200_000;
    let before = dataplane.clock() + LIMIT - 10 * SECOND;
    dataplane.write(&Record::Bucket(ID, [before, 0, 0, 0]))?;
    let shared = &*dataplane;
    on_each(cpus, |send| (0..EACH).try_for_each(|_| send(shared, ports).map(drop)))?;
    let passed = passed(dataplane);
    let sent = EACH * cpus.len() as u64;
    ensure!(passed.packets == sent, "{} of {sent} packets on credit went through", passed.packets);
    ensure!(passed.bytes == sent * IP_BYTES, "{} bytes for {sent} packets of {IP_BYTES}", passed.bytes);
    let busy = by_cpu(dataplane).into_iter().filter(|cpu| cpu.packets > 0).count();
    ensure!(busy == cpus.len(), "packets were counted on {busy} CPUs");
    let advance = dataplane.bucket(ID)?[0] - before;
    let uncharged = uncharged(passed.packets * COST + bytes_cost(held(dataplane)), advance)?;
    println!("\n{sent} packets on credit from {busy} CPUs, {uncharged} payments missing");
    Ok(())
}

/// Without credit: what goes through in a while is what that while has refilled.
fn the_rate_holds(dataplane: &mut AyaDataplane, ports: Ports, cpus: &[usize]) -> Result<()> {
    let (already, had, start) = (passed(dataplane), held(dataplane), dataplane.clock());
    let before = start + LIMIT;
    dataplane.write(&Record::Bucket(ID, [before, 0, 0, 0]))?;
    let shared = &*dataplane;
    on_each(cpus, |send| {
        while shared.clock() < start + SECOND / 2 {
            send(shared, ports)?;
        }
        Ok(())
    })?;
    // Then one CPU until it is refused: that is when the bucket holds all that time has given until then.
    let full = dataplane.clock();
    let mut send = sender();
    while send(shared, ports)? != XDP_DROP {}
    let end = dataplane.clock();
    let packets = passed(dataplane).packets - already.packets;
    let advance = dataplane.bucket(ID)?[0] - before;
    let due = packets * COST + bytes_cost(held(dataplane)) - bytes_cost(had);
    let uncharged = uncharged(due, advance)?;
    // CPUs that have judged at once exceed the limit by what each of them pays for at once.
    let most = end - start + AHEAD * COST * cpus.len() as u64;
    ensure!(advance <= most, "charged {advance}, time has given {most}: the rate is exceeded");
    ensure!(advance >= full - start, "charged {advance} while time has given {}", full - start);
    let dropped = dataplane.policed(ID, Class::Default)[Passage::Dropped as usize].packets;
    ensure!(dropped > 0, "nothing was dropped");
    let took = Duration::from_nanos((end - start) >> TIME_FRACTION_BITS);
    println!("{packets} packets at the rate in {took:?}, {dropped} dropped, {uncharged} payments missing");
    Ok(())
}

/// Payments that were not made: possible when the other CPU has won as often as one tries, whose one win takes longer than a retry
/// here, so hardly ever.
fn uncharged(due: u64, advance: u64) -> Result<u64> {
    let missing = due.checked_sub(advance).context("more was charged than went through or is held")?;
    let payment = AHEAD * COST;
    ensure!(
        missing.is_multiple_of(payment),
        "a payment was made in part: {missing} of {payment} are missing"
    );
    ensure!(missing / payment <= 2, "{} payments were not made", missing / payment);
    Ok(missing / payment)
}

/// Bytes that CPUs have paid for and not used.
fn held(dataplane: &AyaDataplane) -> u64 {
    dataplane.meters(ID, Class::Default).iter().map(|meter| u64::from(meter.paid)).sum()
}

const XDP_DROP: u32 = 1;

/// Runs on every one of these CPUs at once.
fn on_each(
    cpus: &[usize],
    run: impl Fn(&mut dyn FnMut(&AyaDataplane, Ports) -> Result<u32>) -> Result<()> + Sync,
) -> Result<()> {
    let barrier = Barrier::new(cpus.len());
    thread::scope(|scope| {
        let workers: Vec<_> = cpus
            .iter()
            .map(|cpu| {
                let (barrier, run) = (&barrier, &run);
                scope.spawn(move || {
                    let mut only = CpuSet::new();
                    let pinned = only.set(*cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
                    barrier.wait();
                    pinned.context("sched_setaffinity").and_then(|()| run(&mut sender()))
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Sends the frame from the customer; the answer is the XDP action. One frame a call: a run that repeats keeps its frame, TTL and all,
/// and waits for the kernel's readers before it starts.
fn sender() -> impl FnMut(&AyaDataplane, Ports) -> Result<u32> {
    let (frame, mut buffers) = (frame(), Buffers::default());
    move |dataplane, ports| Ok(dataplane.run(ports.c, &frame, &mut buffers)?.0)
}

fn frame() -> Vec<u8> {
    let segment = Build::udp(1, 2, &[0; IP_BYTES as usize - 28]);
    let packet = Build::ipv4([198, 18, 64, 7], [20, 1, 0, 9], 17, &segment, |_| {});
    Build::ethernet(&[], 0x0800, &packet)
}

/// What has gone through, by CPU.
fn by_cpu(dataplane: &AyaDataplane) -> Vec<Tally> {
    let passed = |counts: [Tally; 4]| {
        let mut sum = Tally::default();
        counts[..Passage::Dropped as usize].iter().for_each(|count| sum += *count);
        sum
    };
    dataplane.meters(ID, Class::Default).into_iter().map(|meter| passed(meter.counts)).collect()
}

fn passed(dataplane: &AyaDataplane) -> Tally {
    let mut sum = Tally::default();
    by_cpu(dataplane).into_iter().for_each(|cpu| sum += cpu);
    sum
}
