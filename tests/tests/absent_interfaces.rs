//! An interface that is not there, at the start or later, costs what leads through it and nothing else: it is a state with a reason, and
//! `erdp config apply` takes it into use when it is there again.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData};
use erdp_common::abi::Group;
use erdp_tests::{
    edge::{self, Edge},
    lab::{
        self,
        cleanup::{self, Leftover},
        netns::{self, Namespace},
        plan,
    },
    scrape,
    small::SmallLab,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// The interface that comes and goes.
const ABSENT: &str = plan::SECONDARY.near.1;

/// The lab's configuration with BFD (whose sockets are bound to the interfaces), metrics and other edits.
fn configuration(edits: &[(&str, &str)]) -> String {
    let text = edge::configuration();
    let text = text.replacen("asn = ", &format!("metrics = \"{}\"\nasn = ", scrape::ADDRESS), 1);
    edits.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

fn until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let begin = Instant::now();
    while !done()? {
        ensure!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(begin.elapsed())
}

/// The state of an interface, the sentence about it, and the mode of XDP there.
fn state(edge: &Edge, interface: &str) -> Result<(Option<String>, Option<String>, Option<String>)> {
    let rows: Value = serde_json::from_str(&edge.show("links")?)?;
    let row = rows.as_array().into_iter().flatten().find(|row| row["interface"] == interface);
    let row = row.with_context(|| format!("no row of {interface}: {rows}"))?;
    let text = |key: &str| row[key].as_str().map(str::to_owned);
    Ok((text("state"), text("problem"), text("xdp")))
}

fn is_state(edge: &Edge, interface: &str, wanted: Option<&str>) -> Result<bool> {
    Ok(state(edge, interface)?.0.as_deref() == wanted)
}

/// Whether packets to the VNet leave by this many MSEEs.
fn members(edge: &Edge) -> Result<usize> {
    let answers = edge.explain(plan::CE.far.1, &[plan::AZURE_IPV4.parse()?])?;
    Ok(answers.iter().filter(|it| it.verdict == "transmit").map(|it| it.members.len()).sum())
}

/// The link to the second MSEE, made again.
fn make_again(lab: &SmallLab) -> Result<()> {
    let (edge, far) = (lab.namespace("edge")?, lab.namespace("msee2")?);
    netns::connect((edge, ABSENT), (far, plan::SECONDARY.far.1))?;
    for (address, length) in [plan::SECONDARY.ipv4, plan::SECONDARY.ipv6].map(|it| (it.1, it.2)) {
        far.address(plan::SECONDARY.far.1, &format!("{address}/{length}"))?;
    }
    Ok(())
}

#[test]
fn one_missing_interface_costs_its_link_and_an_apply_takes_it_into_use_when_it_is_there() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let namespace = lab.namespace("edge")?;
    namespace.ip(&format!("link del {ABSENT}"))?;
    let mut edge = Edge::start_with(namespace, lab.folder(), &configuration(&[]))?;
    until("the rest runs", || {
        edge.must_run()?;
        Ok(edge.answers() && members(&edge)? == 1)
    })?;
    let (found, problem, xdp) = state(&edge, ABSENT)?;
    ensure!((found.as_deref(), xdp) == (Some("missing"), None), "{found:?}");
    ensure!(
        problem.as_deref().is_some_and(|it| it.contains(ABSENT) && it.contains("create it")),
        "{problem:?}"
    );
    let (status, ready) = scrape::get(namespace, "/readyz")?;
    ensure!(status == 503 && ready.contains(ABSENT), "{status}: {ready}");
    let page = scrape::get(namespace, "/metrics")?.1;
    let of = |name: &str| scrape::value(&page, "erdp_interface_present", &[&format!("interface=\"{name}\"")]);
    ensure!((of(ABSENT)?, of(plan::PRIMARY.near.1)?) == (0.0, 1.0), "{page}");
    let circuits = edge.show("circuits")?;
    ensure!(circuits.contains("no-interface"), "{circuits}");

    make_again(&lab)?;
    until("it is noticed", || is_state(&edge, ABSENT, Some("unused")))?;
    let file = lab.folder().join("edge.toml").to_string_lossy().into_owned();
    let said = edge.ask(&["config", "apply", &file])?;
    println!("{said}");
    ensure!(said.contains("no differences") && said.contains("takes it into use"), "{said}");
    let process = said.split("; process ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let process: u32 = process.with_context(|| said.clone())?;
    let ((), _guard) = cleanup::guarded(|| Ok(((), Leftover::Process(process))))?;
    ensure!(edge.process().wait(PATIENCE)?.success(), "the first process has not ended well");
    let took = until("it is used", || Ok(edge.answers() && members(&edge)? == 2))?;
    println!("in use {took:?} after the apply");
    ensure!(state(&edge, ABSENT)?.0.is_none() && scrape::get(namespace, "/readyz")?.0 == 200);
    Ok(())
}

fn wrong_for(namespace: &str, at: u32, text: &str) -> Result<Duration> {
    let pins = cleanup::pins().into_iter().find(|(_, owner)| owner == namespace);
    let (pins, _) = pins.context("nothing is pinned")?;
    let data = MapData::from_pin(pins.join("maps-1/GROUPS"))?;
    let mut groups: Array<MapData, [u8; size_of::<Group>()]> = Map::Array(data).try_into()?;
    let before = groups.get(&at, 0)?;
    groups.set(at, before.map(|byte| byte ^ 0x55), 0)?;
    until(text, || Ok(groups.get(&at, 0)? == before))
}

#[test]
fn an_interface_that_goes_while_it_runs_is_named_and_everything_else_is_repaired_and_applied() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let text = configuration(&[]);
    let mut edge = lab.edge(&text)?;
    let (namespace, name) = (lab.namespace("edge")?, lab.namespace("edge")?.name().to_owned());
    namespace.ip(&format!("link del {ABSENT}"))?;
    until("it is noticed", || is_state(&edge, ABSENT, Some("gone")))?;
    until("packets go the other way", || Ok(members(&edge)? == 1))?;
    let (_, problem, xdp) = state(&edge, ABSENT)?;
    ensure!(xdp.is_none() && problem.is_some_and(|it| it.contains("when it is there again")), "{xdp:?}");
    let (status, ready) = scrape::get(namespace, "/readyz")?;
    ensure!(status == 503 && ready.contains(&format!("interface {ABSENT} is gone")), "{status}: {ready}");

    // What somebody else has changed is put right all the same.
    let took = wrong_for(&name, 1, "a group that somebody else has changed")?;
    println!("a group is right again after {took:?}");
    ensure!(took < Duration::from_secs(2), "{took:?}");
    // An unchanged file is applied, and a changed one.
    let file = lab.folder().join("edge.toml");
    let apply = |edge: &Edge| edge.ask(&["config", "apply", &file.to_string_lossy()]);
    let said = apply(&edge)?;
    ensure!(said.contains("no differences") && said.contains("applied"), "{said}");
    fs::write(&file, text.replace("bandwidth = \"1G\"", "bandwidth = \"2G\""))?;
    ensure!(apply(&edge)?.contains("\"2G\""), "the changed file");

    // A second without it: nothing is said again and again.
    thread::sleep(Duration::from_secs(1));
    let log = fs::read_to_string(edge.process().log())?;
    let failures = log.lines().filter(|line| line.contains("reading the packet path's maps back")).count();
    ensure!(failures <= 1, "{failures} times in the log");
    let counters: Value = serde_json::from_str(&edge.show("counters")?)?;
    ensure!(counters["reconciled"]["failures"] == 0, "{}", counters["reconciled"]);
    // Somebody else's name is no reason to stop forwarding.
    namespace.ip(&format!("link set {} down", plan::PRIMARY.near.1))?;
    until("down", || is_state(&edge, plan::PRIMARY.near.1, Some("down")))?;
    namespace.ip(&format!("link set {} name other0", plan::PRIMARY.near.1))?;
    until("renamed", || is_state(&edge, plan::PRIMARY.near.1, Some("renamed")))?;
    edge.must_run()
}

/// An edge without peers' routers, its interfaces' far ends in a second namespace.
struct Bare {
    edge: Namespace,
    far: Namespace,
    folder: std::path::PathBuf,
    _guard: cleanup::Guard,
}

impl Bare {
    fn new() -> Result<Bare> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let (edge, far) = (Namespace::add(&format!("{name}-edge"))?, Namespace::add(&format!("{name}-far"))?);
        let bare = Bare { edge, far, folder, _guard: guard };
        for interface in ALL {
            bare.add(interface)?;
        }
        Ok(bare)
    }

    fn add(&self, interface: &str) -> Result<()> {
        netns::connect((&self.edge, interface), (&self.far, interface))
    }
}

const ALL: [&str; 4] = [plan::CE.far.1, plan::PRIMARY.near.1, plan::SECONDARY.near.1, "nat0"];

#[test]
fn an_edge_starts_without_an_interface_of_any_kind_and_says_so() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let bare = Bare::new()?;
    let service = "[[attachment]]\ninterface = \"nat0\"\nservice = \"nat\"\npeerings = [\"lab/private\"]\n\
        ipv4 = \"198.18.20.1/30\"\nnext-hops = [\"198.18.20.2\"]\n";
    let untagged = configuration(&[("[circuit.private]\n", "[circuit.private]\nbfd = {}\n")]) + service;
    let tagged = untagged.replace("bfd = {}\n", "bfd = {}\nvlan = 100\n").replacen(
        "peerings",
        "vlan = 300\npeerings",
        1,
    );
    let primary = plan::PRIMARY.near.1;
    let rows: [(&str, &str, &[&str], &str, &str); 7] = [
        ("the customer's edge", &untagged, &[plan::CE.far.1], "link del ce0", "missing"),
        ("an MSEE", &untagged, &[primary], "link del msee1", "missing"),
        ("both MSEEs", &untagged, &[primary, ABSENT], "link del msee1;link del msee2", "missing"),
        ("a service", &untagged, &["nat0"], "link del nat0", "missing"),
        (
            "the parent of tagged attachments",
            &tagged,
            &[primary, plan::CE.far.1],
            "link del msee1;link del ce0",
            "missing",
        ),
        ("one that is down", &untagged, &[primary], "link set msee1 down", "down"),
        (
            "one with another name",
            &untagged,
            &[primary],
            "link set msee1 down;link set msee1 name lan7",
            "missing",
        ),
    ];
    for (what, text, absent, commands, wanted) in rows {
        let commands =
            commands.replace("ce0", plan::CE.far.1).replace("msee1", primary).replace("msee2", ABSENT);
        commands.split(';').try_for_each(|words| bare.edge.ip(words).map(drop))?;
        let mut edge = Edge::start_with(&bare.edge, &bare.folder, text)?;
        until(what, || {
            edge.must_run().with_context(|| what.to_owned())?;
            Ok(edge.answers())
        })?;
        for interface in ALL {
            let expected = absent.contains(&interface).then_some(wanted);
            ensure!(
                is_state(&edge, interface, expected)?,
                "{what}, {interface}: {:?}",
                state(&edge, interface)?
            );
        }
        let (_, ready) = scrape::get(&bare.edge, "/readyz")?;
        ensure!(wanted == "down" || absent.iter().all(|it| ready.contains(it)), "{what}: {ready}");
        edge.process().signal(Signal::SIGTERM)?;
        ensure!(edge.process().wait(PATIENCE)?.success(), "{what}: {}", edge.process().tail(10));
        println!("  without {what}: {}", ready.lines().next().unwrap_or_default());
        for interface in absent {
            // Whatever became of it; its far end goes with it.
            let _ = bare.far.ip(&format!("link del {interface}"));
            bare.add(interface)?;
        }
    }
    Ok(())
}
