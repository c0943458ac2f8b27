//! What the release before this tree does, and whether this tree does the same: configurations of version 0.1.0, what its `erdp` made of
//! them, and an observation of a running edge that can be compared.
//!
//! `tests/released/` has the configurations, beside each what version 0.1.0 understood (`.shown`), and what it did with one of them in
//! the lab of a whole circuit (`whole-circuit.json`). The environment variable [`VARIABLE`] names that version's program: with it the tests compare
//! the two programs side by side, and `ERDP_RELEASED_WRITE=1` writes these files again.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lab::full_circuit::{FullCircuit, SIDES, Side};

/// Names the `erdp` of version 0.1.0.
pub const VARIABLE: &str = "ERDP_RELEASED";

/// The program of version 0.1.0, if there is one here.
pub fn binary() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from).filter(|path| path.exists())
}

/// That program, or `None` with the reason printed: `cargo xtask test --full` builds it.
pub fn binary_or_skip() -> Option<PathBuf> {
    let found = binary();
    if found.is_none() {
        println!("SKIP: {VARIABLE} names no program of version 0.1.0");
    }
    found
}

/// Whether the files are to be written rather than compared.
pub fn is_writing() -> bool {
    std::env::var_os("ERDP_RELEASED_WRITE").is_some()
}

/// Where the configurations are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("released")
}

/// Every configuration, by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn configurations() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder())?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "toml"));
    files.sort();
    Ok(files)
}

/// What an edge does, as its operator and its peers see it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// What becomes of a packet: by attachment, source and destination.
    pub packets: BTreeMap<String, String>,
    /// What is advertised to a peer: by peer, one route a line.
    pub advertised: BTreeMap<String, Vec<String>>,
    /// Prefixes received and refused: by peer.
    pub received: BTreeMap<String, String>,
}

impl Observed {
    /// Observes the lab of a whole circuit.
    ///
    /// # Errors
    /// When the edge or a peer does not answer.
    pub fn of(lab: &FullCircuit) -> Result<Observed> {
        let mut observed = Observed::default();
        let addresses = addresses();
        for side in &SIDES {
            let attachment = attachment(lab, side.theirs[0])?;
            for from in sources() {
                let to: Vec<IpAddr> =
                    addresses.iter().copied().filter(|to| to.is_ipv4() == from.is_ipv4()).collect();
                for (to, verdict) in to.iter().zip(verdicts(lab, &attachment, from, &to)?) {
                    observed.packets.insert(format!("{attachment}: {from} to {to}"), verdict);
                }
            }
            let said = lab.birdc(side, &["show", "route", "all"])?;
            observed.advertised.insert(side.name.to_owned(), routes(&said));
        }
        for session in lab.edge.sessions()? {
            let counts = format!(
                "received {}, refused {}, advertised {}",
                session.received, session.refused, session.advertised
            );
            observed.received.insert(session.peer, counts);
        }
        Ok(observed)
    }

    /// What is another with `other`, one sentence each.
    pub fn differences(&self, other: &Observed) -> Vec<String> {
        let mut found = Vec::new();
        differences(&self.packets, &other.packets, &mut found);
        differences(&self.advertised, &other.advertised, &mut found);
        differences(&self.received, &other.received, &mut found);
        found
    }
}

fn differences<T: PartialEq + std::fmt::Debug>(
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
    found: &mut Vec<String>,
) {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for key in keys {
        let (one, other) = (before.get(key), now.get(key));
        if one != other {
            found.push(format!("{key}: {one:?} in version 0.1.0, {other:?} now"));
        }
    }
}

/// The attachment of a peer's.
fn attachment(lab: &FullCircuit, peer: &str) -> Result<String> {
    let sessions: Value = serde_json::from_str(&lab.edge.show("sessions")?)?;
    let rows = sessions.as_array().context("no sessions")?;
    let row = rows.iter().find(|row| row["peer"] == peer);
    let row = row.with_context(|| format!("no session with {peer}: {sessions}"))?;
    Ok(row["attachment"].as_str().context("a session without an attachment")?.to_owned())
}

/// What the loaded program does with packets, in a word.
fn verdicts(lab: &FullCircuit, attachment: &str, from: IpAddr, to: &[IpAddr]) -> Result<Vec<String>> {
    let file = lab.folder().join("destinations");
    let lines: Vec<String> = to.iter().map(|to| IpNet::from(*to).to_string()).collect();
    fs::write(&file, lines.join("\n"))?;
    let (file, from) = (file.to_string_lossy(), from.to_string());
    let printed = lab.edge.ask(&[
        "explain",
        "--interface",
        attachment,
        "--from",
        &from,
        "--prefixes",
        &file,
        "--json",
    ])?;
    let answers: Vec<Value> =
        printed.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("explain's JSON")?;
    ensure!(answers.len() == to.len(), "{} answers to {} questions", answers.len(), to.len());
    Ok(answers.iter().map(in_a_word).collect())
}

/// Without the neighbour: which link of two a flow takes is a matter of its hash, and both are in `members`.
fn in_a_word(answer: &Value) -> String {
    let word = |key: &str| answer[key].as_str().unwrap_or("-").to_owned();
    let mut members: Vec<&str> =
        answer["members"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    members.sort_unstable();
    let no_return = if answer["no_return"] == true { " without a way back" } else { "" };
    format!("{} {} {} [{}]{no_return}", word("verdict"), word("reason"), word("egress"), members.join(" "))
}

/// Routes as BIRD shows them, one a line, sorted: those of BGP, with what the edge has said of them.
fn routes(said: &str) -> Vec<String> {
    let (mut list, mut prefix) = (Vec::<String>::new(), String::new());
    let mut is_of_bgp = false;
    for line in said.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        // Another path to the prefix above has none of its own.
        if line.contains(" [")
            && (first.parse::<IpNet>().is_ok() || first == "unicast" || first == "blackhole")
        {
            prefix = if first.parse::<IpNet>().is_ok() { first.to_owned() } else { prefix };
            is_of_bgp = line.contains("[edge");
            if is_of_bgp {
                list.push(prefix.clone());
            }
        } else if let (true, Some(attribute), Some(route)) =
            (is_of_bgp, line.trim().strip_prefix("BGP."), list.last_mut())
        {
            // A link-local next hop is made from a MAC address; LOCAL_PREF is BIRD's own here.
            let words = attribute.split_whitespace().filter(|word| !word.starts_with("fe80:"));
            if !attribute.starts_with("local_pref") {
                *route += &format!(", {}", words.collect::<Vec<_>>().join(" "));
            }
        }
    }
    list.sort_unstable();
    list
}

/// Destinations: a host of each prefix that is announced, neighbours, our own addresses, and what nobody has.
pub fn addresses() -> Vec<IpAddr> {
    const OTHERS: [&str; 12] = [
        "8.8.8.8",
        "10.9.9.9",
        "127.0.0.1",
        "224.0.0.5",
        "255.255.255.255",
        "198.18.0.1",
        "198.18.1.1",
        "2001:4860::8888",
        "fd00:0:0:99::1",
        "ff02::5",
        "fd00:0:0:10::1",
        "fd00:0:0:1::1",
    ];
    let hosts = SIDES.iter().flat_map(|side| side.announced).filter_map(|net| net.parse::<IpNet>().ok());
    let mut list: Vec<IpAddr> =
        hosts.filter_map(host_of).chain(OTHERS.iter().filter_map(|text| text.parse().ok())).collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// Sources: a host of each prefix that is announced, and some of nobody's.
fn sources() -> Vec<IpAddr> {
    let others = ["8.8.4.4", "10.9.9.8", "2001:4860::8844"];
    let hosts = SIDES.iter().flat_map(|side| side.announced).filter_map(|net| net.parse::<IpNet>().ok());
    let mut list: Vec<IpAddr> =
        hosts.filter_map(host_of).chain(others.iter().filter_map(|text| text.parse().ok())).collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// A host of what a side announces.
pub fn host(side: &Side, family: usize) -> Option<IpAddr> {
    host_of(side.announced[family].parse().ok()?)
}

/// The 77th address of a network.
fn host_of(net: IpNet) -> Option<IpAddr> {
    match net.network() {
        IpAddr::V4(first) => u32::from(first).checked_add(77).map(|it| IpAddr::from(it.to_be_bytes())),
        IpAddr::V6(first) => u128::from(first).checked_add(77).map(|it| IpAddr::from(it.to_be_bytes())),
    }
}
