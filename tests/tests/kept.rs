//! What an operator has ordered outlives the daemon: killed in the middle, it goes on where it was told to be.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::enter,
    small::{SmallLab, established},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const METRICS: &str = "127.0.0.1:9179";
const DISABLED: &str = "disabled: rack 7 moves";

/// A router that is killed again and again.
struct Stand {
    edge: Edge,
    lab: SmallLab,
}

impl Stand {
    fn up() -> Result<Self> {
        let lab = SmallLab::up()?;
        let configuration = format!("metrics = \"{METRICS}\"\n{}", edge::configuration());
        let mut edge = Edge::start_keeping(lab.namespace("edge")?, lab.folder(), &configuration)?;
        established(&mut edge)?;
        Ok(Self { edge, lab })
    }

    fn file(&self) -> PathBuf {
        self.lab.folder().join("edge.toml")
    }

    /// SIGKILL, and the next start with the file as it is now; what that one logs until it answers.
    fn killed(&mut self) -> Result<String> {
        self.edge.process().signal(Signal::SIGKILL)?;
        self.edge.process().wait(Duration::from_secs(10))?;
        let configuration = fs::read_to_string(self.file())?;
        self.edge = Edge::start_keeping(self.lab.namespace("edge")?, self.lab.folder(), &configuration)?;
        self.until("it answers", |it| Ok(it.edge.answers()))?;
        Ok(self.edge.process().tail(60))
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done(self)? {
            self.edge.must_run()?;
            ensure!(Instant::now() < deadline, "in vain: {what}\n{}", self.edge.process().tail(40));
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How many sessions are out of service, and how many of those are up all the same.
    fn disabled(&self) -> Result<(usize, usize)> {
        let rows: Vec<Value> = serde_json::from_str(&self.edge.show("sessions")?)?;
        let out: Vec<_> = rows.iter().filter(|row| row["admin"] == DISABLED).collect();
        Ok((out.len(), out.iter().filter(|row| row["state"] == "Established").count()))
    }

    /// Whether the running configuration has a line.
    fn runs(&self, line: &str) -> Result<bool> {
        let line = format!(".{line}");
        Ok(self.edge.ask(&["config", "show"])?.lines().any(|it| it.ends_with(&line)))
    }

    /// What `erdp show` prints as JSON.
    fn rows(&self, words: &[&str]) -> Result<Vec<Value>> {
        let printed = self.edge.ask(&[&["show"], words, &["--json"]].concat())?;
        serde_json::from_str(&printed).with_context(|| printed)
    }

    /// The event log goes on over the crash, with what was ordered before it.
    fn events_are_kept(&self) -> Result<()> {
        let events = self.rows(&["events", "--since", "10m"])?;
        let has = |kind: &str, word: &str| {
            events.iter().any(|row| {
                row["kind"] == kind && row["what"].as_str().is_some_and(|what| what.contains(word))
            })
        };
        let starts = events.iter().filter(|row| row["kind"] == "daemon" && row["what"] == "started").count();
        ensure!(
            starts == 2 && has("operator", "rack 7 moves") && has("operator", "set circuit"),
            "{events:#?}"
        );
        ensure!(has("config", "config apply") && has("session", "established"), "{events:#?}");
        ensure!(self.rows(&["events", "--kind", "bfd", "--since", "0s"])?.is_empty());
        Ok(())
    }

    /// Questions about one prefix and one peer, as soon as there are routes.
    fn lookups_answer(&mut self) -> Result<()> {
        self.until("a route by BGP", |it| {
            Ok(it.rows(&["routes"])?.iter().any(|row| row["source"] == "bgp"))
        })?;
        let routes = self.rows(&["routes"])?;
        let bgp = routes.iter().find(|row| row["source"] == "bgp").context("no route by BGP")?;
        let (prefix, domain) =
            (bgp["prefix"].as_str().context("a prefix")?, bgp["domain"].as_str().context("a domain")?);
        let address = prefix.split('/').next().unwrap_or_default();
        for words in
            [&["routes", prefix, "--domain", domain][..], &["route", address], &["routes", prefix, "longer"]]
        {
            let rows = self.rows(words)?;
            ensure!(rows.iter().any(|row| row == bgp) && rows.len() <= routes.len(), "{words:?}: {rows:?}");
        }
        let sessions = self.rows(&["sessions"])?;
        let teller = sessions
            .iter()
            .find(|row| row["received"].as_u64() > Some(0))
            .context("nobody announces anything")?;
        let peer = teller["peer"].as_str().context("a peer")?;
        let received = self.rows(&["received", peer])?;
        ensure!(received.len() as u64 >= teller["received"].as_u64().unwrap_or_default(), "{received:?}");
        ensure!(received.iter().all(|row| row["why"].is_string()), "{received:?}");
        ensure!(self.rows(&["advertised", peer])?.iter().all(|row| row["why"].is_string()));
        let page = self.edge.ask(&["show", "peer", peer])?;
        ensure!(
            page.contains("messages in") && page.contains("agreed") && page.contains("KEEPALIVE"),
            "{page}"
        );
        println!("{page}{}", self.edge.ask(&["show", "received", peer])?);
        ensure!(self.rows(&["peer", "lab/private", "secondary"])?.len() == 2, "by its link's name");
        for (words, name) in [
            (&["sessions"][..], "sessions"),
            (&["routes"], "routes"),
            (&["links"], "links"),
            (&["circuits"], "circuits"),
            (&["policers"], "policers"),
            (&["events"], "events"),
            (&["limits"], "limits"),
            (&["peer", peer], "peer"),
            (&["received", peer], "received"),
        ] {
            has_the_keys_of_the_page(self.rows(words)?.first().context(name)?, name)?;
        }
        let refused = self.edge.ask(&["show", "routes", "--domain", "nowhere"]);
        ensure!(refused.is_err_and(|error| format!("{error:#}").contains(&format!("there are: {domain}"))));
        Ok(())
    }

    fn ready(&self) -> Result<String> {
        enter::run(self.lab.namespace("edge")?.name(), move || {
            let mut stream = TcpStream::connect(METRICS)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }
}

/// What the pages of `erdp show` are tested with has no key that the daemon does not give.
fn has_the_keys_of_the_page(row: &Value, name: &str) -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../erdp-user/src/operator/show/golden");
    let page: Value = serde_json::from_str(&fs::read_to_string(format!("{folder}/{name}.json"))?)?;
    let objects = |value: &Value| -> BTreeSet<String> {
        let of = |(key, value): (&String, &Value)| {
            let inner =
                value.as_object().into_iter().flatten().map(move |(inner, _)| format!("{key}.{inner}"));
            [key.clone()].into_iter().chain(inner).collect::<Vec<_>>()
        };
        value.as_object().into_iter().flatten().flat_map(of).collect()
    };
    let (has, wanted) = (objects(row), objects(&page[0]));
    let is_there = |key: &&String| {
        // Where there is no value now, its keys cannot be seen.
        let (outer, _) = key.split_once('.').unwrap_or((key, ""));
        has.contains(*key) || has.contains(outer) && !row[outer].is_object()
    };
    let missing: Vec<&String> = wanted.iter().filter(|key| !is_there(key)).collect();
    ensure!(missing.is_empty(), "`erdp show {name}` has no {missing:?}: {row}");
    Ok(())
}

#[test]
fn an_operators_orders_outlive_a_crash_and_a_change_that_was_not_confirmed_goes_back() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    let own = stand.file();
    let other = stand.lab.folder().join("other.toml");
    let text = fs::read_to_string(&own)?;
    fs::write(&other, text.replace("peerings =", "weight = 7\npeerings ="))?;
    stand.edge.ask(&["config", "apply", &other.to_string_lossy()])?;
    let said = stand.edge.ask(&["set", "circuit", "lab", "--bandwidth", "2G"])?;
    ensure!(said.contains("a changed file"), "{said}");
    stand.edge.ask(&[
        "peering",
        "disable",
        "lab/private/primary",
        "--drain",
        "0",
        "--text",
        "rack 7 moves",
    ])?;

    let log = stand.killed()?;
    for words in
        ["stays out of service", "rack 7 moves", "other.toml runs on", "circuit lab is as `erdp set`"]
    {
        ensure!(log.contains(words), "no {words:?} in the log:\n{log}");
    }
    let [bandwidth, weight] = ["bandwidth = \"2G\"", "weight = 7"];
    ensure!(stand.runs(bandwidth)? && stand.runs(weight)?, "{}", stand.edge.ask(&["config", "show"])?);
    let watched = Instant::now();
    stand.until("the other link's sessions are up", |it| {
        ensure!(it.disabled()? == (2, 0), "{:?} {:?} after the start", it.disabled()?, watched.elapsed());
        Ok(it.edge.sessions()?.iter().filter(|row| row.state == "Established").count() == 4)
    })?;
    let ready = stand.ready()?;
    ensure!(ready.contains(" 200 ") && ready.matches("\nheld: session ").count() == 2, "{ready}");
    ensure!(ready.contains("rack 7 moves"), "{ready}");
    stand.events_are_kept()?;
    stand.lookups_answer()?;
    stand.edge.ask(&["peering", "enable", "lab/private/primary"])?;
    stand.until("all sessions are up", |it| {
        Ok(it.edge.sessions()?.iter().all(|row| row.state == "Established") && it.disabled()? == (0, 0))
    })?;
    stand.until("nothing is held", |it| Ok(!it.ready()?.contains("held:")))?;

    // The file, changed since: what the operator said last.
    let changed = text.replace("bandwidth = \"1G\"", "bandwidth = \"5G\"");
    fs::write(&own, &changed)?;
    let log = stand.killed()?;
    ensure!(log.contains("has changed since then") && log.contains("what was set is given up"), "{log}");
    ensure!(stand.runs("bandwidth = \"5G\"")? && !stand.runs(weight)? && stand.disabled()? == (0, 0));

    // The daemon's own file, changed and applied with a deadline.
    fs::write(&own, changed.replace("5G", "10G"))?;
    // Not while it still takes over from the one before.
    stand.until("the change is applied", |it| {
        Ok(it.edge.ask(&["config", "apply", &own.to_string_lossy(), "--confirm", "600s"]).is_ok())
    })?;
    ensure!(stand.runs("bandwidth = \"10G\"")?);
    let log = stand.killed()?;
    ensure!(log.contains("was applied and not confirmed: back"), "{log}");
    ensure!(stand.runs("bandwidth = \"5G\"")?, "{}", stand.edge.ask(&["config", "show"])?);

    // A store that somebody has damaged.
    let store = edge::state_folder(stand.lab.folder());
    fs::write(store.join("state.json"), "{\"version\":1,")?;
    let log = stand.killed()?;
    ensure!(log.contains("orders of before are lost") && log.contains("set-aside"), "{log}");
    ensure!(store.join("state.json.set-aside").exists() && stand.runs("bandwidth = \"10G\"")?);
    stand.edge.process().signal(Signal::SIGTERM)?;
    let ended = stand.edge.process().wait(Duration::from_secs(20)).context("it does not end")?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}
