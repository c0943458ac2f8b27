//! What an operator does with a running router: looks at dropped packets, changes a circuit.
//!
//! The binary of `cargo xtask build` in a network namespace of its own, without BGP peers: a customer's host sends to a destination
//! that nobody has announced.

use std::{
    net::UdpSocket,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::{
        self,
        cleanup::{self, Guard},
        enter,
        netns::{self, Namespace},
        plan,
    },
};
use serde_json::Value;

/// A running edge; the far ends of its interfaces are in a second namespace.
struct Place {
    edge: Edge,
    _near: Namespace,
    far: Namespace,
    _folder: PathBuf,
    _guard: Guard,
}

impl Place {
    fn new() -> Result<Place> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let (near, far) = (Namespace::add(&format!("{name}-edge"))?, Namespace::add(&format!("{name}-far"))?);
        for link in [plan::CE.far, plan::PRIMARY.near, plan::SECONDARY.near] {
            netns::connect((&near, link.1), (&far, link.1))?;
        }
        far.address(plan::CE.far.1, &format!("{}/{}", plan::CE.ipv4.0, plan::CE.ipv4.2))?;
        far.ip(&format!("route add 198.19.0.0/16 via {}", plan::CE.ipv4.1))?;
        let mut edge = Edge::start_in(&near, &folder)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !edge.answers() {
            edge.must_run()?;
            ensure!(Instant::now() < deadline, "erdp does not answer");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Place { edge, _near: near, far, _folder: folder, _guard: guard })
    }

    fn show(&self, words: &[&str]) -> Result<Vec<Value>> {
        let printed = self.edge.ask(&[&["show"], words, &["--json"]].concat())?;
        serde_json::from_str(&printed).with_context(|| printed)
    }

    fn refused(&self, words: &[&str], expected: &[&str]) -> Result<()> {
        let said = self.edge.ask(words).err().map(|error| format!("{error:#}")).unwrap_or_default();
        println!("  {said}");
        for word in expected {
            ensure!(said.contains(word), "{words:?} is not refused with `{word}`: {said:?}");
        }
        Ok(())
    }
}

#[test]
fn a_dropped_packet_is_shown_with_its_ends_and_what_to_do_about_it() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let place = Place::new()?;
    enter::run(place.far.name(), || {
        let socket = UdpSocket::bind("0.0.0.0:40000")?;
        for _ in 0..3 {
            socket.send_to(b"a payload that nobody may see", "198.19.0.7:443")?;
        }
        Ok(())
    })?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let row = loop {
        let rows = place.show(&["drops", "--reason", "no-route"])?;
        if let Some(row) = rows.into_iter().next() {
            break row;
        }
        ensure!(Instant::now() < deadline, "no sample; all: {:?}", place.show(&["drops"])?);
        thread::sleep(Duration::from_millis(50));
    };
    println!("{}", place.edge.table("drops")?);
    for (key, expected) in [
        ("reason", Value::from("no-route")),
        ("interface", plan::CE.far.1.into()),
        ("source", plan::CE.ipv4.0.to_string().into()),
        ("destination", "198.19.0.7".into()),
        ("protocol", "udp".into()),
        ("source_port", 40_000.into()),
        ("destination_port", 443.into()),
        ("dscp", 0.into()),
        ("ttl", 64.into()),
        ("length", (14 + 20 + 8 + 29).into()),
    ] {
        ensure!(row[key] == expected, "{key} is {} instead of {expected}: {row}", row[key]);
    }
    ensure!(row["remedy"].as_str().is_some_and(|remedy| remedy.contains("erdp show routes")), "{row}");
    ensure!(!row.to_string().contains("payload"), "the payload is shown: {row}");
    ensure!(place.show(&["drops", "--reason", "hairpin"])?.is_empty(), "another reason is shown");
    let why: Vec<Value> = serde_json::from_str(&place.edge.ask(&["why", "--reason", "no-route", "--json"])?)?;
    ensure!(why.len() == 1 && why[0]["packets"].as_u64() >= Some(3), "{why:?}");
    ensure!(why[0]["remedy"] == row["remedy"] && why[0]["seen_on"][0][1].as_u64() > Some(0), "{why:?}");
    ensure!(why[0]["example"].as_str().is_some_and(|it| it.contains("198.19.0.7:443")), "{why:?}");
    place.refused(&["show", "drops", "--reason", "weather"], &["weather", "no-route"])?;
    place.refused(&["show", "links", "--reason", "hairpin"], &["--reason belongs to"])
}

#[test]
fn a_circuit_is_changed_whole_or_not_at_all_while_the_router_runs() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let policers = || -> Result<Vec<(String, u64)>> {
        let rows = place.show(&["policers"])?;
        let mut seen: Vec<_> = rows
            .iter()
            .filter_map(|row| Some((row["links"].as_str()?.to_owned(), row["rate_bps"].as_u64()?)))
            .collect();
        seen.dedup();
        Ok(seen)
    };
    let both = |rate| vec![("both".to_owned(), rate)];
    ensure!(policers()? == both(1_000_000_000), "{:?}", policers()?);
    for (words, expected) in [
        (&["--bandwidth", "2Gbs"][..], &["lab", "bandwidth", "no unit"][..]),
        (&["--bandwidth", "2G", "--burst", "triple"], &["lab", "burst", "peak-2x"]),
        (&["--bandwidth", "2G", "--credit-ms", "5"], &["lab", "credit-ms", "20 and 30000"]),
        (&[], &["required", "--bandwidth"]),
    ] {
        place.refused(&[&["set", "circuit", "lab"], words].concat(), expected)?;
        ensure!(policers()? == both(1_000_000_000), "{words:?} has changed something: {:?}", policers()?);
    }
    place.refused(&["set", "circuit", "seattle", "--bandwidth", "2G"], &["seattle", "there are: lab"])?;

    let said = place.edge.ask(&["set", "circuit", "lab", "--bandwidth", "2Gbps"])?;
    ensure!(said.contains("bandwidth is 2G, was 1G") && said.contains("until erdp is restarted"), "{said}");
    ensure!(policers()? == both(2_000_000_000), "{:?}", policers()?);
    let said = place.edge.ask(&["set", "circuit", "lab", "--bandwidth", "2G"])?;
    ensure!(said.contains("these values are already set"), "{said}");

    // A4: less is refused without --force, and done with it.
    let less = ["set", "circuit", "lab", "--bandwidth", "1G"];
    place.refused(&less, &["1G is less than the 2G", "A4", "--force", "nothing is changed"])?;
    ensure!(policers()? == both(2_000_000_000), "{:?}", policers()?);
    let said = place.edge.ask(&[&less[..], &["--force"]].concat())?;
    ensure!(said.contains("bandwidth is 1G, was 2G"), "{said}");
    ensure!(policers()? == both(1_000_000_000), "{:?}", policers()?);
    place.edge.ask(&["set", "circuit", "lab", "--bandwidth", "2G"])?;

    // A bucket for each link instead of one for both.
    let said = place.edge.ask(&["set", "circuit", "lab", "--bandwidth", "3G", "--burst", "dual-link"])?;
    ensure!(said.contains("warning") && said.contains("no circuit of 3G"), "{said}");
    ensure!(said.contains("burst is dual-link, was peak-2x"), "{said}");
    let each = ["primary", "secondary"].map(|link| (link.to_owned(), 3_000_000_000));
    let mut seen = policers()?;
    seen.sort();
    seen.dedup();
    ensure!(seen == each, "{seen:?}");
    Ok(())
}
