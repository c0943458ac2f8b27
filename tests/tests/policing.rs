//! The policer in the kernel: the same as on the host while time moves, and right when two CPUs share a bucket.

use std::env;

use anyhow::{Context as _, Result, ensure};
use erdp::dataplane::Record;
use erdp_common::{
    abi::{Policer, VERDICT_TRANSMIT},
    classify::Class,
    policer::Passage,
};
use erdp_tests::{
    differential::{
        Outcome, Pair,
        policed::{BUSY_UNTIL, POLICERS, START, Traffic, police, policer},
    },
    packets::{in_network_namespace, is_root, veth_ports},
};

/// Frames of the everyday run, and of the full one.
const SLICE: u64 = 100_000;
const FULL: u64 = 1_000_000;
const SEED: u64 = 0x4552_4450;

#[test]
fn policed_frames_have_the_same_fate_counters_and_buckets_in_kernel_and_host_while_time_moves() -> Result<()>
{
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let seed =
        env::var("ERDP_TEST_SEED").ok().map_or(Ok(SEED), |text| text.parse()).context("ERDP_TEST_SEED")?;
    let frames = if env::var_os("ERDP_TEST_FULL").is_some() { FULL } else { SLICE };
    let (pair, hairpins) = run(seed, frames, &[])?.map_err(anyhow::Error::msg)?;
    ensure!(hairpins > 0, "no frame has met two policers");
    println!(
        "\nseed {seed}, {frames} frames, {hairpins} through two policers; policer, class: conform, burst, marked, dropped"
    );
    for id in POLICERS {
        for class in Class::ALL {
            let packets = pair.policed(id, class);
            println!("  {id} {:<12} {packets:?}", class.label());
            // Policer 5 does not mark. Any other passage that is not reached is a blind spot of this test.
            let reached = Passage::ALL.map(|passage| passage != Passage::Marked || id != 5);
            ensure!(
                packets.map(|packets| packets > 0) == reached,
                "policer {id}, {}: {packets:?}: a passage is not reached, or should not be",
                class.label()
            );
        }
    }
    Ok(())
}

#[test]
fn a_difference_in_one_policer_or_bucket_is_found() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let own = policer(4)?;
    let planted = [
        (
            "a rate one part in 16,384 lower",
            Record::Policer(4, Policer { sustained_cost: own.sustained_cost * 16_385 / 16_384, ..own }),
        ),
        ("no marks", Record::Policer(4, Policer { mark_margin: 0, ..own })),
        (
            "voice's share is twice as large",
            Record::Policer(4, Policer { voice_cost: own.voice_cost / 2, ..own }),
        ),
        ("a byte more for each packet", Record::Policer(4, Policer { overhead: 1, ..own })),
        (
            "a bucket one unit of time ahead",
            Record::Bucket(4, [BUSY_UNTIL + 1, BUSY_UNTIL, BUSY_UNTIL, BUSY_UNTIL]),
        ),
    ];
    for (name, record) in planted {
        // The lone unit of time is gone with the first idle moment: few frames.
        let frames = if matches!(record, Record::Bucket(..)) { 20 } else { 5_000 };
        ensure!(run(SEED, frames, &[record])?.is_err(), "{name}: not found");
    }
    Ok(())
}

/// Traffic through both; with it, how many frames have passed a policer on either side. The inner error says where they differ.
fn run(seed: u64, frames: u64, planted: &[Record]) -> Result<Result<(Pair, u64), String>> {
    in_network_namespace(|| {
        let ports = veth_ports()?;
        let mut pair = Pair::in_virtual_time(ports, START)?;
        police(&mut pair)?;
        for record in planted {
            pair.plant(record)?;
        }
        let mut hairpins = 0;
        let mut traffic = Traffic::new(seed, ports);
        for number in 0..frames {
            let (now, sample) = traffic.sample();
            pair.set_clock(now)?;
            match pair.compare(sample.ifindex, &sample.frame)? {
                Outcome::Different(difference) => {
                    return Ok(Err(format!("frame {number} of seed {seed} at {now}: {difference}")));
                }
                Outcome::Same(trace) => {
                    let (from_msee, transmit) = (trace.attachment <= 2, trace.verdict == VERDICT_TRANSMIT);
                    hairpins += u64::from(from_msee && transmit && [1, 2, 3, 8].contains(&trace.next_hop));
                }
                Outcome::TooShort | Outcome::TooLong => {}
            }
        }
        if let Err(differs) = pair.compare_policers().and_then(|()| pair.compare_counters()) {
            return Ok(Err(format!("after {frames} frames of seed {seed}: {differs}")));
        }
        Ok(Ok((pair, hairpins)))
    })
}
