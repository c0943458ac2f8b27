//! Configurations take each other's place while packets flow: each kind of change, what is refused, what goes back.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::plan,
    small::{SmallLab, established},
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Datagrams a second.
const RATE: u32 = 10_000;

/// A kind of change: what is exchanged in the file, and the sessions that end for it (words of their names).
struct Change {
    what: &'static str,
    edits: &'static [(&'static str, &'static str)],
    ends: &'static [&'static str],
}

const fn change(
    what: &'static str,
    edits: &'static [(&'static str, &'static str)],
    ends: &'static [&'static str],
) -> Change {
    Change { what, edits, ends }
}

const PEER6: &str = "{ address = \"fd00:0:0:1::2\", asn = 65020 }";

/// Each is applied to the file as it is at the beginning, so that every second exchange undoes one.
const CHANGES: &[Change] = &[
    change("bandwidth", &[("bandwidth = \"1G\"", "bandwidth = \"2G\"")], &[]),
    change("burst policy", &[("bandwidth = \"1G\"", "bandwidth = \"1G\"\nburst = \"dual-link\"")], &[]),
    change(
        "credit, counting, marking",
        &[("bandwidth = \"1G\"", "bandwidth = \"1G\"\ncredit-ms = 500\ncount = \"wire\"\necn = true")],
        &[],
    ),
    change("hairpin", &[("bandwidth = \"1G\"", "bandwidth = \"1G\"\nhairpin = \"allow\"")], &[]),
    change("kind", &[("bandwidth = \"1G\"", "bandwidth = \"1G\"\nkind = \"provider\"")], &[]),
    change("a connected subnet", &[("peerings =", "advertise-connected = true\npeerings =")], &[]),
    change(
        "inventory",
        &[(
            "[circuit.private]",
            concat!(
                "[circuit.inventory]\nport = \"amsterdam-pair-1\"\nlocation = \"Amsterdam\"\n",
                "geopolitical-region = \"Europe\"\nbilling = \"metered\"\nprice-per-gb = \"0.025 EUR\"\n",
                "private-created = \"2021-03-15\"\nmicrosoft-created = \"2021-03-15\"\n",
                "service-key = \"11111111-2222-3333-4444-555555555555\"\nsubscriptions = [\"production\"]\n",
                "public-prefixes = [{ prefix = \"192.88.97.0/24\", validation = \"configured\" }]\n\n[circuit.private]",
            ),
        )],
        &[],
    ),
    change("SKU", &[("bandwidth = \"1G\"", "bandwidth = \"1G\"\nsku = \"premium\"")], &[]),
    change("minimum of links", &[("bandwidth = \"1G\"", "bandwidth = \"1G\"\nminimum-links = 2")], &[]),
    change("weight", &[("peerings =", "weight = 7\npeerings =")], &[]),
    change(
        "preference between circuits",
        &[("peerings =", "between-circuits = \"preference\"\npeerings =")],
        &[],
    ),
    change(
        "policies",
        &[
            ("[circuit.private]", "[circuit.private]\npolicy-in = \"in\"\npolicy-out = \"out\""),
            (
                "[[attachment]]",
                concat!(
                    "[[policy]]\nname = \"in\"\n[[policy.rule]]\ncommunities = [\"West Europe\"]\nlocal-pref = 200\n",
                    "[[policy]]\nname = \"out\"\n[[policy.rule]]\nas-path-contains = 65021\nrefuse = \"not there\"\n",
                    "[[policy.rule]]\nprefixes = [\"198.18.0.0/15 le 32\"]\nprepend = 1\nadd-communities = [\"65010:1\"]\n\n[[attachment]]",
                ),
            ),
        ],
        &[],
    ),
    change("who may order", &[("asn = 65010\n", "asn = 65010\ncontrol-orders = \"root\"\n")], &[]),
    change(
        "zones",
        &[
            ("peerings =", "zone = \"lan\"\npeerings ="),
            (
                "[[attachment]]",
                "[[zone-rule]]\nzone = \"lan\"\npeerings = [\"lab/private\"]\n\n[[attachment]]",
            ),
        ],
        &[],
    ),
    change("forced tunnel", &[("[circuit.private]", "[circuit.private]\nforced-tunnel = true")], &[]),
    change(
        "a peer more",
        &[(
            PEER6,
            "{ address = \"fd00:0:0:1::2\", asn = 65020 }, { address = \"fd00:0:0:1::3\", asn = 65021, passive = true }",
        )],
        &[],
    ),
    change(
        "another peer's hold time",
        &[(PEER6, "{ address = \"fd00:0:0:1::2\", asn = 65020, hold = 30 }")],
        &["ce0 fd00:0:0:1::2"],
    ),
    change("a peer less", &[(", { address = \"fd00:0:0:1::2\", asn = 65020 }", "")], &["ce0 fd00:0:0:1::2"]),
    change(
        "another peer's every option",
        &[(
            PEER6,
            "{ address = \"fd00:0:0:1::2\", asn = 65021, md5 = \"a key that the other end has not\", gtsm = true, passive = true, restart-time = 60, \
             role = \"customer\", strict-role = true, local-pref = 90, prepend = 1, max-prefixes = 5000, \
             max-prefixes-wait = 30, max-memory-mib = 50, when-too-many = \"refuse\", families = [\"ipv4\", \"ipv6\"] }",
        )],
        &["ce0 fd00:0:0:1::2"],
    ),
    change(
        "what Microsoft's routes are worth, limits",
        &[(
            "[circuit.private]",
            "[circuit.private]\nlocal-pref = 90\nprepend = 1\nmax-prefixes = 5000\nmax-memory-mib = 500\n\
             when-too-many = \"refuse\"\npass-attributes = [40]\nadvertise-at-most = 100\nadvertise-at-most-ipv4 = 90\n\
             advertise-at-most-ipv6 = 80\nwhen-full = \"aggregate\"\n\
             longest-ipv4 = 30\nlongest-ipv6 = 120",
        )],
        &[],
    ),
    change(
        "hold time of Microsoft's sessions",
        &[("[circuit.private]", "[circuit.private]\nhold = 90")],
        &MSEE_SESSIONS,
    ),
    change(
        "router id",
        &[("asn = 65010\n", "asn = 65010\nrouter-id = \"198.18.0.9\"\n")],
        &[
            MSEE_SESSIONS[0],
            MSEE_SESSIONS[1],
            MSEE_SESSIONS[2],
            MSEE_SESSIONS[3],
            "ce0 198.18.1.2",
            "ce0 fd00:0:0:1::2",
        ],
    ),
];

/// Whose end may cost packets: it is said beforehand, and both of the circuit's links are without routes for a moment.
const MSEE_SESSIONS: [&str; 4] = [
    "lab/private primary 198.18.0.2",
    "lab/private primary fd00:0:0:10::2",
    "lab/private secondary 198.18.0.6",
    "lab/private secondary fd00:0:0:10::6",
];

/// Keys that no row changes, and why: fixed while the router runs (refused by name), or what this lab has not got. A key that is neither here nor in a row fails the test.
const OTHERS: &[(&str, &str)] = &[
    ("fib-blocks", "fixed"),
    ("require-interfaces", "looked at by a start only"),
    ("required", "looked at by a start only"),
    ("symmetric-hash", "fixed"),
    ("drop-samples", "fixed"),
    ("restart-deadline", "fixed"),
    ("metrics", "fixed"),
    ("s-vlan", "fixed"),
    ("interface", "fixed"),
    ("vlan", "fixed"),
    ("checks-sources", "fixed"),
    ("bfd", "fixed"),
    ("subnet", "fixed"),
    ("ours", "fixed"),
    ("theirs", "fixed"),
    ("local", "fixed"),
    ("tags", "fixed"),
    ("addresses", "fixed"),
    ("microsoft", "fixed"),
    ("kernel-routes", "fixed"),
    ("vnets", "of the inventory, as the keys that the row has; their names are no circuit's"),
    ("enabled", "a8_a_circuit_that_is_disabled_drops_what_flows_and_names_the_sessions_that_end"),
    ("provisioning", "the same as `enabled` is for, which has a test of its own"),
    ("classify-ports", "of Microsoft peering, which the small lab has not: not shown under traffic"),
    ("route-filter", "of Microsoft peering, which the small lab has not: not shown under traffic"),
    ("peer-asn", "ends sessions as hold does, and Microsoft has but one"),
    ("service", "the small lab has none: not shown under traffic"),
    ("chain", "the small lab has no service: not shown under traffic"),
    ("add-path", "agreed on when a session begins, as the other options of one"),
    ("box", "the session with the other edge box, which this lab has not"),
    ("address", "what a peer is known by: a peer more, a peer less"),
    ("forbidden", "what a zone may not use, which this lab's one peering is not: not shown under traffic"),
    ("domains", "the preference among several peerings, of which the small lab has one"),
];

/// The key of a path in `erdp config show`.
fn key(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

struct Place {
    lab: SmallLab,
    edge: Edge,
    file: PathBuf,
}

impl Place {
    fn new() -> Result<Place> {
        let lab = SmallLab::up()?;
        let edge = lab.edge(&edge::configuration())?;
        let file = lab.folder().join("next.toml");
        Ok(Place { lab, edge, file })
    }

    /// Writes the edited file.
    fn write(&self, edits: &[(&str, &str)]) -> Result<()> {
        let mut text = edge::configuration();
        for (from, to) in edits {
            ensure!(text.contains(from), "the configuration has no {from:?}");
            text = text.replacen(from, to, 1);
        }
        fs::write(&self.file, text).map_err(Into::into)
    }

    fn config(&self, words: &[&str]) -> Result<String> {
        self.edge.ask(&[&["config"], words].concat())
    }

    fn apply(&self, more: &[&str]) -> Result<Value> {
        let file = self.file.to_string_lossy().into_owned();
        let printed = self.config(&[&["apply", &file, "--json"], more].concat())?;
        serde_json::from_str(&printed).context(printed)
    }

    /// What runs, to be compared.
    fn running(&self) -> Result<String> {
        self.config(&["show", "--defaults"])
    }

    /// Uptimes of the established sessions, by peer.
    fn uptimes(&self) -> Result<Vec<(String, u64)>> {
        let rows: Vec<Value> = serde_json::from_str(&self.edge.show("sessions")?)?;
        let row = |row: &Value| Some((row["peer"].as_str()?.to_owned(), row["uptime_s"].as_u64()?));
        Ok(rows.iter().filter_map(row).collect())
    }
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn each_kind_of_change_under_ten_thousand_packets_a_second_loses_none_and_ends_only_what_it_says()
-> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut place = Place::new()?;
    let begin = place.running()?;
    let mut changed: BTreeSet<String> = BTreeSet::new();
    // So that a session that begins anew is seen by its uptime.
    thread::sleep(Duration::from_secs(2));
    for change in CHANGES {
        let before = place.uptimes()?;
        let probe = place.lab.probe(RATE, 40_000)?;
        thread::sleep(Duration::from_millis(200));
        place.write(change.edits)?;
        let started = Instant::now();
        let answer = place.apply(&[])?;
        let took = started.elapsed();
        thread::sleep(Duration::from_millis(300));
        let after = place.uptimes()?;
        place.write(&[])?;
        // Back to less bandwidth, where the row has changed it (A4).
        place.apply(&["--force"])?;
        thread::sleep(Duration::from_millis(200));
        let report = probe.stop()?;
        let plan = &answer["plan"];
        // A peer that comes or goes brings all its keys.
        if names(&plan["added"]).is_empty() && names(&plan["removed"]).is_empty() {
            let differences = plan["differences"].as_array().into_iter().flatten();
            changed.extend(differences.filter_map(|it| it["path"].as_str()).map(|path| key(path).to_owned()));
        }
        let ends = [names(&plan["flaps"]), names(&plan["removed"])].concat();
        println!(
            "{:<28} {took:>9.1?}  sent {} lost {}  ends {ends:?}",
            change.what, report.sent, report.lost
        );
        let may_lose = change.ends.iter().any(|end| MSEE_SESSIONS.contains(end));
        ensure!(
            report.sent > 1_000 && (report.lost == 0 || may_lose),
            "{}: {report:?}; {}",
            change.what,
            place.edge.show("counters")?
        );
        ensure!(ends == change.ends, "{}: ends {ends:?}", change.what);
        for (peer, uptime) in
            before.iter().filter(|(peer, _)| !change.ends.iter().any(|end| end.ends_with(peer.as_str())))
        {
            let now = after.iter().find(|(other, _)| other == peer).map(|(_, now)| *now);
            ensure!(
                now >= Some(*uptime),
                "{}: the session with {peer} had {uptime} s and has {now:?}",
                change.what
            );
        }
        ensure!(place.running()? == begin, "{}: undoing it leaves another configuration", change.what);
        established(&mut place.edge)?;
    }
    let counters = place.edge.counters()?;
    ensure!(counters.unexplained() == 0, "unexplained: {}", counters.unexplained());
    let keys = begin.lines().filter_map(|line| line.split_once(" = ")).map(|(path, _)| key(path));
    let missing: BTreeSet<&str> =
        keys.filter(|it| !changed.contains(*it) && !OTHERS.iter().any(|(other, _)| other == it)).collect();
    ensure!(missing.is_empty(), "no row changes {missing:?}; changed were {changed:?}");
    let both: Vec<_> = OTHERS.iter().filter(|(other, _)| changed.contains(*other)).collect();
    println!("{} keys were changed: {changed:?}", changed.len());
    ensure!(both.is_empty(), "rows change what is said not to be: {both:?}");
    Ok(())
}

#[test]
fn a8_a_circuit_that_is_disabled_drops_what_flows_and_names_the_sessions_that_end() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut place = Place::new()?;
    let verdict = |place: &Place| -> Result<(String, Option<String>)> {
        let answers = place.edge.explain(plan::CE.far.1, &[plan::AZURE_IPV4.parse()?])?;
        Ok((answers[0].verdict.clone(), answers[0].reason.clone()))
    };
    ensure!(verdict(&place)?.0 == "transmit", "{:?}", verdict(&place)?);
    place.write(&[("bandwidth = \"1G\"", "bandwidth = \"1G\"\nadmin = \"disabled\"")])?;
    let refused = place.apply(&["--no-flap"]).err().context("it has been applied")?.to_string();
    ensure!(refused.contains("sessions would end") && verdict(&place)?.0 == "transmit", "{refused}");
    let answer = place.apply(&[])?;
    ensure!(MSEE_SESSIONS.iter().all(|it| names(&answer["plan"]["flaps"]).contains(it)), "{answer}");
    ensure!(verdict(&place)? == ("drop".into(), Some("disabled".into())), "{:?}", verdict(&place)?);
    place.config(&["rollback"])?;
    established(&mut place.edge)?;
    ensure!(verdict(&place)?.0 == "transmit", "{:?}", verdict(&place)?);
    Ok(())
}

#[test]
fn a_broken_file_at_reload_changes_nothing_and_says_where_and_why() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut place = Place::new()?;
    let begin = place.running()?;
    // The file that `erdp run` was given, as `systemctl reload` or SIGHUP reads it.
    place.file = place.lab.folder().join("edge.toml");
    place.write(&[("bandwidth = \"1G\"", "bandwidth = \"2Gbs\"")])?;
    place.edge.process().signal(Signal::SIGHUP)?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while !place.edge.process().tail(12).contains("SIGHUP") {
        ensure!(Instant::now() < deadline, "SIGHUP is not answered: {}", place.edge.process().tail(12));
        thread::sleep(Duration::from_millis(20));
    }
    let said = place.edge.process().tail(9);
    println!("{said}");
    for word in [
        "edge.toml:5:",
        "circuit.lab.bandwidth",
        "nothing is changed",
        "^^^^^^",
        "help: write a whole number",
    ] {
        ensure!(said.contains(word), "{word:?} is not said");
    }
    let refused = place.apply(&[]).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("edge.toml:5:") && refused.contains("nothing is changed"), "{refused}");
    ensure!(place.running()? == begin, "something has changed");

    place.write(&[("bandwidth = \"1G\"", "bandwidth = \"2G\"")])?;
    place.edge.process().signal(Signal::SIGHUP)?;
    while !place.running()?.contains("circuit.lab.bandwidth = \"2G\"") {
        ensure!(
            Instant::now() < deadline + Duration::from_secs(5),
            "SIGHUP changes nothing: {}",
            place.running()?
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn a4_less_bandwidth_needs_force_by_config_apply_and_reload_alike_and_a_rollback_none() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut place = Place::new()?;
    let begin = place.running()?;
    let less = [("bandwidth = \"1G\"", "bandwidth = \"500M\"")];
    let words = ["500M is less than the 1G", "A4", "--force", "nothing is changed"];
    place.write(&less)?;
    let refused = place.apply(&[]).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(words.iter().all(|word| refused.contains(word)), "{refused}");
    ensure!(place.running()? == begin, "a refused decrease has changed something");

    // As `systemctl reload` and SIGHUP read it.
    place.file = place.lab.folder().join("edge.toml");
    place.write(&less)?;
    place.edge.process().signal(Signal::SIGHUP)?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while !place.edge.process().tail(12).contains("SIGHUP") {
        ensure!(Instant::now() < deadline, "SIGHUP is not answered: {}", place.edge.process().tail(12));
        thread::sleep(Duration::from_millis(20));
    }
    let said = place.edge.process().tail(12);
    ensure!(words.iter().all(|word| said.contains(word)), "{said}");
    ensure!(place.running()? == begin, "SIGHUP has reduced the circuit");

    // Forced, and back by a rollback (up) and from a higher rate (down), both without force.
    place.apply(&["--force"])?;
    ensure!(place.running()?.contains("circuit.lab.bandwidth = \"500M\""), "not forced");
    place.config(&["rollback"])?;
    ensure!(place.running()? == begin, "not rolled back");
    place.write(&[("bandwidth = \"1G\"", "bandwidth = \"5G\"")])?;
    place.apply(&["--confirm", "60s"])?;
    place.config(&["rollback"])?;
    ensure!(place.running()? == begin, "not rolled back to less");
    Ok(())
}

#[test]
fn what_is_fixed_while_the_router_runs_is_refused_by_name_and_nothing_changes() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let begin = place.running()?;
    for (from, to, word) in [
        (
            "primary = { local = \"msee1\" }",
            "primary = { local = \"msee9\" }",
            "circuit.lab.primary.local.interface",
        ),
        ("ipv4 = \"198.18.0.0/29\"", "ipv4 = \"198.18.0.8/29\"", "circuit.lab.private.ipv4.primary.subnet"),
        ("asn = 65010\n", "asn = 65010\nfib-blocks = 65536\n", "fib-blocks"),
        ("asn = 65010\n", "asn = 65010\ndrop-samples = 1\n", "drop-samples"),
        ("name = \"lab\"", "name = \"lab\"\ns-vlan = 7", "s-vlan"),
    ] {
        // The bandwidth beside it must not be taken either.
        let edits = [(from, to), ("bandwidth = \"1G\"", "bandwidth = \"5G\"")];
        let edits = if word == "s-vlan" {
            vec![edits[0], ("[circuit.private]", "[circuit.private]\nvlan = 100"), edits[1]]
        } else {
            edits.to_vec()
        };
        place.write(&edits)?;
        let refused = place.apply(&[]).err().map(|error| format!("{error:#}")).unwrap_or_default();
        println!("{refused}");
        ensure!(
            refused.contains(word)
                && refused.contains("restart erdp")
                && refused.contains("nothing is changed"),
            "{word}: {refused}"
        );
        ensure!(place.running()? == begin, "{word}: something has changed");
    }
    place.write(&[("asn = 65020", "asn = 65021")])?;
    let refused = place.apply(&["--no-flap"]).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(
        refused.contains("sessions would end: ce0 198.18.1.2") && refused.contains("nothing is changed"),
        "{refused}"
    );
    ensure!(place.running()? == begin, "--no-flap has changed something");
    Ok(())
}

#[test]
fn what_is_not_confirmed_goes_back_by_itself_and_what_is_confirmed_stays_until_it_is_rolled_back()
-> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let place = Place::new()?;
    let begin = place.running()?;
    place.write(&[("bandwidth = \"1G\"", "bandwidth = \"5G\"")])?;
    let started = Instant::now();
    place.apply(&["--confirm", "2s"])?;
    ensure!(place.running()?.contains("bandwidth = \"5G\""), "not applied");
    let again = place.apply(&[]).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(again.contains("waits to be confirmed"), "{again}");
    while place.running()? != begin {
        ensure!(started.elapsed() < Duration::from_secs(6), "it does not go back");
        thread::sleep(Duration::from_millis(20));
    }
    println!("back after {:.2?}", started.elapsed());
    ensure!(started.elapsed() >= Duration::from_secs(2), "back too early: {:?}", started.elapsed());

    place.apply(&["--confirm", "2s"])?;
    place.config(&["confirm"])?;
    thread::sleep(Duration::from_millis(2_500));
    ensure!(place.running()?.contains("bandwidth = \"5G\""), "confirmed and gone");
    let nothing = place.config(&["confirm"]).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(nothing.contains("no change waits"), "{nothing}");
    place.config(&["rollback"])?;
    ensure!(place.running()? == begin, "not rolled back");
    Ok(())
}
