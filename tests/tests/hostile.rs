//! What nobody would send who means well: byte strings to the decoder, programs of events to a session and the routing base.
//!
//! `ERDP_TEST_FULL=1` (`cargo xtask test --full`) tries twenty times as many; `ERDP_TEST_SEED` chooses others; `ERDP_GROW=1` keeps what
//! finds a new outcome in `corpus/`.

use std::env;

use anyhow::{Context as _, Result, ensure};
use erdp_tests::hostile::{corpus::Corpus, events, messages};

const SEED: u64 = 0x4552_4450;

fn seed() -> Result<u64> {
    env::var("ERDP_TEST_SEED").ok().map_or(Ok(SEED), |text| text.parse()).context("ERDP_TEST_SEED")
}

fn times(slice: usize) -> usize {
    if env::var_os("ERDP_TEST_FULL").is_some() { slice * 20 } else { slice }
}

fn tell(what: &str, inputs: usize, corpus: &Corpus) -> Result<()> {
    let (outcomes, committed, fresh) = corpus.counts();
    println!(
        "{what}: {committed} committed and {inputs} mutated inputs, {outcomes} outcomes, {fresh} of them new"
    );
    corpus.grow()
}

#[test]
fn no_byte_string_panics_loses_a_prefix_or_ends_a_session_where_rfc_7606_forbids() -> Result<()> {
    let inputs = times(20_000);
    let corpus = messages::run(seed()?, inputs)?;
    tell("messages", inputs, &corpus)?;
    ensure!(corpus.counts().0 > 100, "so few outcomes are no test: {:?}", corpus.counts());
    Ok(())
}

#[test]
fn no_sequence_of_events_panics_hangs_leaks_a_route_or_tells_of_what_is_not_up() -> Result<()> {
    let programs = times(2_000);
    let corpus = events::run(seed()?, programs)?;
    tell("events", programs, &corpus)?;
    ensure!(corpus.counts().0 > 100, "so few outcomes are no test: {:?}", corpus.counts());
    Ok(())
}

#[test]
fn an_unfinished_message_costs_its_own_length_and_its_session_when_the_hold_time_is_over() -> Result<()> {
    for length in [100, 4_096, u16::MAX] {
        ensure!(events::unfinished(length)? == usize::from(length) - 1, "a message of {length} octets");
    }
    Ok(())
}

/// Resident memory of this process in octets.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse::<usize>()? * 1024)
}

#[test]
fn hostility_that_goes_on_takes_no_more_memory_than_it_took_in_the_beginning() -> Result<()> {
    const ROOM: usize = 16 << 20;
    let inputs = times(4_000);
    let programs = Corpus::load("events")?.inputs;
    let known = Corpus::load("messages")?.inputs;
    let round = || -> Result<()> {
        for number in 0..inputs {
            messages::check(&known[number % known.len()])?;
            if number % 8 == 0 {
                events::check(&programs[number % programs.len()], &known)?;
            }
        }
        Ok(())
    };
    round()?;
    let before = resident()?;
    round()?;
    round()?;
    let after = resident()?;
    println!("{} KiB after one round, {} KiB after three", before >> 10, after >> 10);
    ensure!(after <= before + ROOM, "{before} octets after one round, {after} after three");
    Ok(())
}
