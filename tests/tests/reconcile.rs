//! Records and lines of the trie that somebody else has changed in the pinned maps of a running edge are put right within a second,
//! and said; so is an interface that has lost its program.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Array, HashMap, Map, MapData};
use erdp::dataplane::{
    Dataplane as _,
    aya::{AyaDataplane, LoadOptions},
};
use erdp_common::{
    abi::{Attachment, Group, NextHop, PeerKey, Policer},
    fib::{
        Line,
        build::{Fib, Prefix},
    },
};
use erdp_tests::{
    checks::{converge, prefixes},
    edge::{self, Edge},
    lab::{Ground, cleanup, plan},
    run::{self, Running},
    traffic::counts::xdp_mode,
};
use serde_json::Value;

/// The longest time that a wrong record may stand.
const PATIENCE: Duration = Duration::from_secs(1);
/// Routes of a full table of both families.
const ROUTES: u32 = 1_170_000;

fn repaired(edge: &Edge, map: &str) -> Result<u64> {
    let counters: Value = serde_json::from_str(&edge.show("counters")?)?;
    Ok(counters["reconciled"]["repaired"][map].as_u64().unwrap_or(0))
}

/// Waits until `done`; the answer is how long that took.
fn within(what: &str, done: impl Fn() -> Result<bool>) -> Result<Duration> {
    let begin = Instant::now();
    while !done()? {
        ensure!(begin.elapsed() < PATIENCE, "{what}: not put right within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(begin.elapsed())
}

fn own_pins(namespace: &str) -> Result<PathBuf> {
    let found = cleanup::pins().into_iter().find(|(_, owner)| owner == namespace);
    found.map(|(path, _)| path).with_context(|| format!("{namespace} has pinned nothing"))
}

fn array<const BYTES: usize>(pins: &Path, map: &str) -> Result<Array<MapData, [u8; BYTES]>> {
    let data = MapData::from_pin(pins.join("maps-1").join(map))?;
    Ok(Map::Array(data).try_into()?)
}

#[test]
fn what_somebody_else_changes_in_a_map_is_put_right_within_a_second() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut tell = run::teller();
    let Running { mut edge, mut lab } = run::up(Ground::Veth, &mut tell)?;
    converge::wait(&mut lab, &mut edge, &mut tell)?;
    let namespace = format!("{}-edge", lab.name());
    let pins = own_pins(&namespace)?;

    // A record of each kind of wish, the liveness of a link, and a line of the trie.
    spoil::<{ size_of::<Group>() }>(&edge, &pins, "GROUPS", 1, &mut tell)?;
    spoil::<{ size_of::<NextHop>() }>(&edge, &pins, "NEXT_HOPS", 1, &mut tell)?;
    spoil::<{ size_of::<Attachment>() }>(&edge, &pins, "ATTACHMENTS", 1, &mut tell)?;
    spoil::<{ size_of::<Policer>() }>(&edge, &pins, "POLICERS", 1, &mut tell)?;
    revive(&mut edge, &pins, &mut tell)?;
    spoil::<{ size_of::<Line>() }>(&edge, &pins, "FIB_LINES", 3_000, &mut tell)?;

    let data = MapData::from_pin(pins.join("maps-1/PEERS"))?;
    let mut peers: HashMap<MapData, [u8; size_of::<PeerKey>()], u32> = Map::HashMap(data).try_into()?;
    let stranger = [7; size_of::<PeerKey>()];
    peers.insert(stranger, 1, 0)?;
    let took = within("PEERS", || Ok(peers.get(&stranger, 0).is_err()))?;
    tell(&format!("a peer that is not configured is removed after {took:?}"));

    // The program of an interface goes with its pin.
    for entry in fs::read_dir(pins.join("links"))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("xdp-") {
            fs::remove_file(entry.path())?;
        }
    }
    let edge_namespace = lab.namespace("edge")?;
    let took = within("links", || Ok(xdp_mode(edge_namespace, plan::CE.far.1)? == "native"))?;
    tell(&format!("the program is back on {} after {took:?}", plan::CE.far.1));
    tell(&prefixes::check(&lab, &edge)?);
    let counters: Value = serde_json::from_str(&edge.show("counters")?)?;
    tell(&format!("reconciled: {}", counters["reconciled"]));
    ensure!(edge.table("counters")?.contains("records repaired in GROUPS: 1"), "the table does not say it");
    Ok(())
}

/// Writes nonsense into one value and waits until what was there is there again, and counted.
fn spoil<const BYTES: usize>(
    edge: &Edge,
    pins: &Path,
    map: &str,
    at: u32,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut values = array::<BYTES>(pins, map)?;
    let before = values.get(&at, 0)?;
    let mut nonsense = before;
    nonsense.iter_mut().for_each(|byte| *byte ^= 0x55);
    values.set(at, nonsense, 0)?;
    let took = within(map, || Ok(values.get(&at, 0)? == before))?;
    let counted = within("the count", || Ok(repaired(edge, map)? > 0));
    counted.with_context(|| format!("{map} is right again, but nobody says so"))?;
    tell(&format!("{map}: value {at} is right again after {took:?}"));
    Ok(())
}

/// A dead link's word is no repair and is not counted as one, because the packet path writes it itself where a driver takes nothing: the
/// driver is asked, and the log has it.
fn revive(edge: &mut Edge, pins: &Path, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let mut words = array::<{ size_of::<u64>() }>(pins, "LINKS")?;
    let before = words.get(&1, 0)?;
    words.set(1, [0; size_of::<u64>()], 0)?;
    let took = within("LINKS", || Ok(words.get(&1, 0)? == before))?;
    ensure!(repaired(edge, "LINKS")? == 0, "a link's word is counted as a repair");
    ensure!(
        edge.process().tail(20).contains("its carrier was lost, and rtnetlink has not told"),
        "the log lacks it"
    );
    tell(&format!("LINKS: a dead word is alive again after {took:?}"));
    Ok(())
}

#[test]
fn comparing_all_lines_of_a_full_table_costs_little() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    let mut dataplane = AyaDataplane::load(LoadOptions { fib_blocks: 65_536, ..LoadOptions::default() })?;
    let Some(store) = dataplane.take_store() else { bail!("no store") };
    let mut fib = Fib::new(store);
    let mut table = fib.create_table().map_err(|full| anyhow::anyhow!("{full:?}"))?;
    // A /24 each, three groups, in an order that leaves no two neighbours alike.
    let routes = (0..ROUTES).map(|at| {
        let [_, a, b, c] = (at + (1 << 20)).to_be_bytes();
        (Prefix::v4([a, b, c, 0], 24), Some(1 + at % 3))
    });
    fib.apply(&mut table, routes, 0).map_err(|full| anyhow::anyhow!("{full:?}"))?;
    let lines = fib.lines_taken();
    let begin = Instant::now();
    let wrong = fib.repair(0, lines);
    let took = begin.elapsed();
    println!("{ROUTES} routes, {lines} lines ({} KiB): compared in {took:?}", lines / 16);
    ensure!(wrong == 0, "{wrong} words differ from what was written");
    ensure!(
        took < Duration::from_millis(250),
        "{took:?} is more than a quarter of the second that a round has"
    );
    Ok(())
}
