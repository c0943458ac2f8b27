//! A configuration of version 0.1.0 means what it meant, forwards and advertises as it did, and this tree takes over from that version
//! while packets flow.
//!
//! Every day what that version's `erdp` said and did is read from files (`tests/released`). `cargo xtask test --full` builds that program and names
//! it by ERDP_RELEASED: then both programs run on the same lab, and one takes over from the other. What is to be another way, because version 0.1.0
//! did it wrong, stands in [`NAMED`] and nowhere else.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::config::{Config, shown};
use erdp_tests::{
    checks::converge,
    edge::{self, Edge},
    lab::{
        Ground, Lab, bird,
        cleanup::{self, Leftover},
        frr,
        full_circuit::{FullCircuit, SIDES, Side, WIRES},
        plan,
    },
    packets::Build,
    released::{self, Observed},
    run,
    seen::Seen,
    traffic::probe::Probe,
};

/// What differs from version 0.1.0 on purpose: words of the sentence that says the difference, and the rule that version broke.
const NAMED: &[(&str, &str)] = &[(
    "options.max-prefixes = (none) in version 0.1.0",
    "D2: a peer without a limit of its own fills the memory; it has a roomy one now, and Microsoft's sessions are kept above it",
)];

/// Differences that nothing in [`NAMED`] explains.
fn unnamed(found: Vec<String>) -> Vec<String> {
    let (named, unnamed): (Vec<String>, Vec<String>) =
        found.into_iter().partition(|it| NAMED.iter().any(|(words, _)| it.contains(words)));
    named.iter().for_each(|it| println!("  as intended: {it}"));
    unnamed
}

/// What this tree understands of a configuration, one value a line.
fn understood(file: &Path) -> Result<String> {
    let (config, _) = Config::load(file).with_context(|| format!("{} is refused", file.display()))?;
    Ok(shown::text(&config))
}

/// What version 0.1.0 understands.
fn was_understood(binary: &Path, file: &Path) -> Result<String> {
    let output = Command::new(binary).args(["config", "show", "--defaults"]).arg(file).output()?;
    ensure!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_configuration_of_version_0_1_0_means_what_it_meant() -> Result<()> {
    let files = released::configurations()?;
    ensure!(files.len() >= 12, "{files:?}");
    let mut lost = Vec::new();
    for file in files {
        let golden = file.with_extension("shown");
        if let (true, Some(binary)) = (released::is_writing(), released::binary()) {
            fs::write(&golden, was_understood(&binary, &file)?)?;
        }
        let (before, now) = (fs::read_to_string(&golden)?, understood(&file)?);
        // New keys are new lines; what was there stays as it was.
        let now: BTreeMap<&str, &str> = now.lines().filter_map(|line| line.split_once(" = ")).collect();
        for (path, value) in before.lines().filter_map(|line| line.split_once(" = ")) {
            if now.get(path) != Some(&value) {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                lost.push(format!("{name}: {path} = {value} in version 0.1.0, {:?} now", now.get(path)));
            }
        }
        ensure!(before.lines().count() > 20, "{} says next to nothing", golden.display());
    }
    let lost = unnamed(lost);
    ensure!(lost.is_empty(), "{}", lost.join("\n"));
    Ok(())
}

/// The configuration of the lab of a whole circuit, as version 0.1.0 had it.
fn whole_circuit() -> Result<String> {
    Ok(fs::read_to_string(released::folder().join("whole-circuit.toml"))?)
}

#[test]
fn an_edge_with_a_configuration_of_version_0_1_0_treats_packets_and_advertises_as_it_did() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let golden = released::folder().join("whole-circuit.json");
    if let (true, Some(binary)) = (released::is_writing(), released::binary()) {
        let lab = FullCircuit::up_with(&binary, &whole_circuit()?, Arc::new(|_, _| false))?;
        fs::write(&golden, serde_json::to_string_pretty(&Observed::of(&lab)?)? + "\n")?;
    }
    let before: Observed = serde_json::from_str(&fs::read_to_string(&golden)?)?;
    let routes: usize = before.advertised.values().map(Vec::len).sum();
    ensure!(before.packets.len() > 300 && routes >= 12, "the golden file says next to nothing");
    let lab = FullCircuit::up_with(&edge::binary()?, &whole_circuit()?, Arc::new(|_, _| false))?;
    let differences = unnamed(before.differences(&Observed::of(&lab)?));
    println!("  {} packets and {routes} advertised routes compared", before.packets.len());
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// Behind a packet's number.
const MARK: &[u8; 8] = b"ERDPsame";
/// Packets that both programs are given.
const PACKETS: u32 = 20_000;

/// What left the edge: by the packet's number and the side, the packet as it left, without MAC addresses.
type Left = BTreeMap<(u32, usize), Vec<u8>>;

/// A packet of one family from anywhere to anywhere, as ordinary routers send them; the same for each number.
fn packet(number: u32, addresses: &[IpAddr], macs: &[[u8; 6]]) -> (usize, Vec<u8>) {
    let mut rng = fastrand::Rng::with_seed(u64::from(number));
    let side = &SIDES[rng.usize(..SIDES.len())];
    // Half of them are ordinary traffic of the peering; the others go from anywhere to anywhere.
    let is_far = |it: &&Side| it.peering == side.peering && it.is_msee != side.is_msee;
    let far = SIDES.iter().find(is_far).unwrap_or(side);
    let family = rng.usize(..2);
    let (from, to) = match (rng.bool(), released::host(side, family), released::host(far, family)) {
        (true, Some(from), Some(to)) => (from, to),
        _ => {
            let to = addresses[rng.usize(..addresses.len())];
            let alike: Vec<IpAddr> =
                addresses.iter().copied().filter(|it| it.is_ipv4() == to.is_ipv4()).collect();
            (alike[rng.usize(..alike.len())], to)
        }
    };
    let mut data = number.to_be_bytes().to_vec();
    data.extend_from_slice(MARK);
    data.resize(rng.usize(12..1_200), 0);
    let (protocol, segment) = match rng.u8(..4) {
        0 => (6, [&Build::tcp(rng.u16(1_024..), 443)[..], &data].concat()),
        1 => (50, data),
        _ => (17, Build::udp(rng.u16(1_024..), rng.u16(1_024..), &data)),
    };
    let (hop_limit, code_point) = ([2, 64, 64, 255][rng.usize(..4)], [0, 46, 34, 18, 10, 7][rng.usize(..6)]);
    let (ethertype, ip) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let packet = Build::ipv4(from.octets(), to.octets(), protocol, &segment, |header| {
                header.time_to_live = hop_limit;
                header.dscp = etherparse::IpDscp::try_new(code_point).unwrap_or_default();
            });
            (0x0800, packet)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = Build::ipv6(from.octets(), to.octets(), protocol, hop_limit, &segment);
            packet[0] |= code_point >> 2;
            packet[1] |= code_point << 6;
            (0x86dd, packet)
        }
        _ => unreachable!("both are of one family"),
    };
    let tags: Vec<(u16, u16)> = side.tags.iter().map(|vid| (0x8100, *vid)).collect();
    let mut frame = Build::ethernet(&tags, ethertype, &ip);
    frame[..6].copy_from_slice(&macs[side.wire]);
    (side.wire, frame)
}

/// The protocol of a tagged frame's packet.
fn protocol(frame: &[u8]) -> Option<u8> {
    let tags = frame[12..].chunks_exact(4).take_while(|tag| tag[..2] == [0x81, 0]).count();
    let (at, rest) = (14 + 4 * tags, frame.get(12 + 4 * tags..)?);
    match rest {
        [0x08, 0x00, ..] => frame.get(at + 9).copied(),
        [0x86, 0xdd, ..] => frame.get(at + 6).copied(),
        _ => None,
    }
}

/// What a program lets through, and what is observed of it.
fn treated(binary: &Path) -> Result<(Left, Observed)> {
    let left = Arc::new(Mutex::new(Left::new()));
    let seen = left.clone();
    let watch = move |side: usize, frame: &[u8]| {
        let Some(at) = frame.windows(MARK.len()).position(|window| window == MARK) else { return false };
        let number =
            at.checked_sub(4).and_then(|from| frame[from..at].try_into().ok()).map(u32::from_be_bytes);
        // An ICMP error has its cause in it, and how many there are is a matter of time.
        if let (Some(number), Some(6 | 17 | 50)) = (number, protocol(frame)) {
            let mut left = seen.lock().unwrap_or_else(PoisonError::into_inner);
            left.insert((number, side), frame[12..].to_vec());
        }
        true
    };
    let lab = FullCircuit::up_with(binary, &whole_circuit()?, Arc::new(watch))?;
    let macs: Vec<[u8; 6]> = WIRES.iter().map(|wire| lab.middle.mac(wire)).collect::<Result<_>>()?;
    let addresses = released::addresses();
    for number in 0..PACKETS {
        let (wire, frame) = packet(number, &addresses, &macs);
        lab.inject(wire, &frame)?;
        if number % 32 == 0 {
            thread::sleep(Duration::from_micros(500));
        }
    }
    thread::sleep(Duration::from_secs(1));
    let observed = Observed::of(&lab)?;
    drop(lab);
    let left = std::mem::take(&mut *left.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((left, observed))
}

#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn the_program_of_version_0_1_0_and_this_one_send_the_same_packets_and_routes() -> Result<()> {
    let Some(old) = released::binary_or_skip() else { return Ok(()) };
    if edge::skipped() {
        return Ok(());
    }
    let (before, then) = treated(&old)?;
    let (now, today) = treated(&edge::binary()?)?;
    println!("  of {PACKETS} packets {} left version 0.1.0 and {} this one", before.len(), now.len());
    ensure!(before.len() > PACKETS as usize / 4, "next to nothing left version 0.1.0");
    let mut found = then.differences(&today);
    for (number, side) in before.keys().chain(now.keys().filter(|key| !before.contains_key(key))) {
        let key = (*number, *side);
        if before.get(&key) != now.get(&key) {
            let way =
                |left: &Left| left.get(&key).map_or("nothing".into(), |packet| format!("{packet:02x?}"));
            found.push(format!(
                "packet {number} to {}: {} in version 0.1.0, {} now",
                SIDES[*side].name,
                way(&before),
                way(&now)
            ));
        }
    }
    let found = unnamed(found);
    ensure!(
        found.is_empty(),
        "{} differences, of them:\n{}",
        found.len(),
        found[..found.len().min(10)].join("\n")
    );
    Ok(())
}

/// What the peers say of their sessions, BIRD with the time of the last change, FRR with how often one came and went, and how many
/// prefixes of ours they have.
fn peers_of(lab: &Lab) -> Result<Vec<Seen>> {
    let mut said = Vec::new();
    for namespace in ["ce", "msee2"] {
        let lines = bird::ask(lab, namespace, &["show", "protocols"])?;
        said.extend(
            lines.lines().filter(|line| line.starts_with("edge")).map(|line| Seen::by_bird(namespace, line)),
        );
        for session in ["edge4", "edge6"] {
            let count = bird::ask(lab, namespace, &["show", "route", "protocol", session, "count"])?;
            let what = format!("{namespace} {session}: {}", count.lines().last().unwrap_or_default());
            said.push(Seen { what, since_ms: 0 });
        }
    }
    for address in [plan::PRIMARY.ipv4.0, plan::PRIMARY.ipv6.0] {
        let json = frr::ask(lab, "msee1", &format!("show bgp neighbors {address} json"))?;
        let value: serde_json::Value = serde_json::from_str(&json).context("FRR's JSON")?;
        let of = |key: &str| value[address][key].clone();
        let what = format!(
            "FRR msee1: {address} {} established {} dropped {}",
            of("bgpState"),
            of("connectionsEstablished"),
            of("connectionsDropped"),
        );
        said.push(Seen { what, since_ms: 0 });
    }
    let established = said.iter().filter(|seen| seen.what.contains("Established")).count();
    ensure!(established == 6, "{said:#?}");
    Ok(said)
}

const RATE: u32 = 10_000;
const FLOW: u16 = 41_000;
const TAKEN: Duration = Duration::from_secs(60);

/// Waits for a word of a log.
fn until_logged(log: &Path, text: &str) -> Result<()> {
    let begin = Instant::now();
    while !fs::read_to_string(log).unwrap_or_default().contains(text) {
        ensure!(begin.elapsed() < TAKEN, "`{text}` is not in {}", log.display());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Something takes over from the running edge while packets of both families flow: none is lost, and no peer notices.
fn under_traffic(
    what: &str,
    lab: &mut Lab,
    edge: Edge,
    take_over: impl FnOnce(&Lab, Edge) -> Result<Edge>,
) -> Result<Edge> {
    let peers = peers_of(lab)?;
    let before = edge.counters()?;
    let probes = [false, true].map(|ipv6| Probe::start_at(lab, ipv6, FLOW + u16::from(ipv6), RATE));
    let [four, six] = probes;
    let (four, six) = (four?, six?);
    thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    let next = take_over(lab, edge)?;
    let took = begin.elapsed();
    thread::sleep(Duration::from_secs(2));
    let reports = [four.stop()?, six.stop()?];
    println!("  {what}: taken over within {took:.2?}; IPv4 {:?}, IPv6 {:?}", reports[0], reports[1]);
    for report in reports {
        ensure!(report.lost == 0 && report.sent > u64::from(RATE), "{what}: {report:?}");
    }
    let after = peers_of(lab)?;
    ensure!(Seen::are(&peers, &after), "{what}: the peers before and after: {peers:#?} {after:#?}");
    let counters = next.counters()?;
    ensure!(counters.rx.packets >= before.rx.packets, "{what}: the counters began again");
    ensure!(counters.unexplained() == 0, "{what}: {} packets unexplained", counters.unexplained());
    let pinned = cleanup::pins();
    let ours = pinned.iter().filter(|(_, owner)| *owner == format!("{}-edge", lab.name())).count();
    ensure!(ours == 1, "{what}: {ours} sets of pinned maps: {pinned:?}");
    Ok(next)
}

/// A copy of a program under a name of its own, which another can take the place of: as a package does.
fn install(program: &Path, installed: &Path) -> Result<()> {
    let beside: PathBuf = installed.with_extension("new");
    fs::copy(program, &beside)?;
    fs::rename(&beside, installed).map_err(Into::into)
}

/// Starts `program` in the lab with the configuration of version 0.1.0 and waits until everything is known.
fn start(lab: &mut Lab, program: &Path) -> Result<Edge> {
    let file = lab.folder().join("edge.toml");
    fs::copy(released::folder().join("lab.toml"), &file)?;
    let command = lab.namespace("edge")?.command("env")?;
    let mut edge = Edge::start_binary(program, command, lab.folder(), &file)?;
    converge::wait(lab, &mut edge, &mut run::teller())?;
    Ok(edge)
}

#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn this_tree_takes_over_from_version_0_1_0_and_back_without_a_loss() -> Result<()> {
    let Some(old) = released::binary_or_skip() else { return Ok(()) };
    if edge::skipped() {
        return Ok(());
    }
    let new = edge::binary()?;
    let mut lab = Lab::up(Ground::Veth, &mut run::teller())?;
    let mut edge = start(&mut lab, &old)?;
    let state = stale_state(lab.folder())?;
    let kept = ["--state", &state.to_string_lossy()];
    let ways = [
        ("version 0.1.0 to this tree", &new),
        ("this tree to version 0.1.0", &old),
        ("to this tree again", &new),
    ];
    for (number, (what, binary)) in ways.into_iter().enumerate() {
        edge = under_traffic(what, &mut lab, edge, |lab, edge| {
            let mut before = edge.asked_by(binary);
            let name = format!("erdp-{number}");
            // Version 0.1.0 keeps nothing, and does not know the option.
            let words: &[&str] = if *binary == new { &kept } else { &[] };
            let next = before.successor_called(&name, lab.namespace("edge")?, lab.folder(), words)?;
            let log = lab.folder().join(format!("{name}.log"));
            until_logged(&log, "running peers")?;
            ensure!(!fs::read_to_string(&log)?.contains("runs on"), "orders that version 0.1.0 has not kept");
            let ended = before.process().wait(Duration::from_secs(5))?;
            ensure!(ended.success(), "the process before ended with {ended}:\n{}", before.process().tail(20));
            Ok(next)
        })?;
        converge::wait(&mut lab, &mut edge, &mut run::teller())?;
        let text = fs::read_to_string(state.join("state.json"))?;
        let is_kept = text.contains(&format!("\"process\":{},", edge.process().id()));
        ensure!(is_kept == (*binary == new), "{what}: {text}");
    }
    Ok(())
}

/// A state folder with what a daemon has kept that runs no more: another configuration, applied beside the same file.
fn stale_state(folder: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(folder.join("edge.toml"))?;
    let text = fs::read_to_string(&path)?;
    let kept = serde_json::json!({
        "version": 1,
        "release": "0.1.0",
        "process": 1,
        "configured": {
            "file": { "path": path, "text": text },
            "applied": { "path": "/tmp/other.toml", "text": text.clone() + "\n# another one\n" },
        },
    });
    let state = edge::state_folder(folder);
    fs::create_dir(&state)?;
    fs::set_permissions(&state, Permissions::from_mode(0o700))?;
    let file = state.join("state.json");
    fs::write(&file, kept.to_string())?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    Ok(state)
}

#[test]
#[ignore = "long: `cargo xtask test --full`"]
fn an_upgrade_of_the_package_from_version_0_1_0_by_erdp_restart_loses_nothing() -> Result<()> {
    let Some(old) = released::binary_or_skip() else { return Ok(()) };
    if edge::skipped() {
        return Ok(());
    }
    let mut lab = Lab::up(Ground::Veth, &mut run::teller())?;
    let installed = lab.folder().join("erdp-installed");
    install(&old, &installed)?;
    let edge = start(&mut lab, &installed)?;
    let mut successor = None;
    let edge = under_traffic("erdp restart", &mut lab, edge, |_, edge| {
        install(&edge::binary()?, &installed)?;
        let said = edge.ask(&["restart"])?;
        println!("  {}", said.trim());
        let process: u32 =
            said.split_whitespace().find_map(|word| word.parse().ok()).context("no process")?;
        // The old program has started it, and nothing but this ends it.
        successor = Some(cleanup::guarded(|| Ok(((), Leftover::Process(process))))?);
        Ok(edge)
    })?;
    let ways = edge.explain(plan::CE.far.1, &[plan::AZURE_IPV4.parse()?, plan::AZURE_IPV6.parse()?])?;
    ensure!(ways.iter().all(|way| way.verdict == "transmit" && way.members.len() == 2), "{ways:?}");
    drop(successor);
    Ok(())
}
