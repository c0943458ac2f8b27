//! The rows of the test command: which test programs there are, with whom each may run at the same time, how long it takes, what it reads.
//!
//! One table, [`TABLE`]. A program that is not in it runs alone, which is slow and never wrong. A long program is split by the names of
//! its tests: an entry with names has those, and the entry without has the rest.

use crate::{cargo_tests::Program, test::own::Own};

/// With whom a row may run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Keeps a CPU busy and does not look at the time: beside all but those that are alone, with less priority.
    Cpu,
    /// Waits most of the time, with patience: several side by side.
    Functional,
    /// Must lose nothing, or within a generous time, and leaves the CPUs idle most of the time: a few side by side, beside none that waits.
    Light,
    /// Measures a rate, or a time with room, on one CPU: one for each CPU, beside rows of [`Group::Cpu`], which have less priority.
    Quiet,
    /// Shares something with every other lab: one at a time, beside rows of [`Group::Cpu`] only.
    Lone,
    /// Has all CPUs for itself: alone.
    Alone,
}

/// A row of the table.
#[derive(Debug)]
pub struct Entry {
    /// `package target`, as cargo names the program.
    program: &'static str,
    /// Some of its tests, by their whole names; none: all that no other entry names.
    only: &'static [&'static str],
    group: Group,
    /// How long it takes with everything built, on two cores.
    seconds: u32,
    /// The same with `--full`; 0 where `--full` adds nothing.
    full: u32,
    /// What it reads besides [`SHARED`], from the repository's root; a folder ends with a slash.
    reads: &'static [&'static str],
    /// Whether what `--full` adds to it runs beside nothing.
    is_alone_in_full: bool,
}

/// What every test program depends on. Wider than need be: a row that runs again costs less than one that should have.
pub const SHARED: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    ".cargo/",
    "deploy/",
    "erdp-common/",
    "erdp-ebpf/",
    "erdp-user/Cargo.toml",
    "erdp-user/build.rs",
    "erdp-user/src/",
    "tests/Cargo.toml",
    "tests/corpus/",
    "tests/src/",
    "xtask/src/build.rs",
    "xtask/src/pieces.rs",
];

const fn entry(program: &'static str, group: Group, seconds: u32, full: u32) -> Entry {
    Entry { program, only: &[], group, seconds, full, reads: &[], is_alone_in_full: false }
}

const fn part(
    program: &'static str,
    only: &'static [&'static str],
    group: Group,
    seconds: u32,
    full: u32,
) -> Entry {
    Entry { program, only, group, seconds, full, reads: &[], is_alone_in_full: false }
}

const fn reading(entry: Entry, reads: &'static [&'static str]) -> Entry {
    Entry { reads, ..entry }
}

const fn alone_in_full(entry: Entry) -> Entry {
    Entry { is_alone_in_full: true, ..entry }
}

use Group::{Alone, Cpu, Functional, Light, Lone, Quiet};

/// Every program that has been measured.
const TABLE: &[Entry] = &[
    part(
        "erdp-user erdp",
        &[
            "kernel::tests::a_neighbour_whose_mac_address_changes_silently_is_followed_within_three_seconds_and_a_bit",
        ],
        Functional,
        20,
        0,
    ),
    reading(entry("erdp-user erdp", Cpu, 20, 60), &["docs/audit.md", "docs/metrics.md", "tests/tests/"]),
    reading(entry("erdp-user erdp (bin)", Cpu, 3, 0), &["README.md", "docs/"]),
    entry("erdp-common erdp_common", Cpu, 3, 10),
    reading(
        entry("xtask xtask (bin)", Cpu, 2, 0),
        &["xtask/", "README.md", "docs/", ".ci/run", "advisories.toml"],
    ),
    reading(entry("erdp-user bgp_interop", Functional, 30, 300), &["erdp-user/tests/"]),
    reading(entry("erdp-user broken_pipe", Functional, 10, 0), &["erdp-user/tests/"]),
    entry("erdp-tests erdp-bench (bin)", Cpu, 1, 0),
    entry("erdp-tests erdp-lab (bin)", Cpu, 1, 0),
    entry("erdp-tests erdp-simulate (bin)", Cpu, 1, 0),
    entry("erdp-tests erdp-verifier-budget (bin)", Cpu, 1, 0),
    reading(entry("erdp-tests erdp_tests", Cpu, 20, 40), &["README.md", "tests/released/"]),
    entry("erdp-tests absent_interfaces", Functional, 25, 0),
    entry("erdp-tests audit", Functional, 10, 0),
    entry("erdp-tests bfd_interop", Light, 20, 0),
    entry("erdp-tests bgp_replay", Cpu, 2, 0),
    entry("erdp-tests config_live", Light, 20, 0),
    entry("erdp-tests connected_subnets", Functional, 10, 0),
    entry("erdp-tests differential", Cpu, 15, 120),
    entry("erdp-tests doctor", Functional, 2, 0),
    entry("erdp-tests drills", Light, 40, 150),
    part(
        "erdp-tests drills",
        &["b6_while_a_peering_is_drained_its_peer_is_told_to_use_others"],
        Functional,
        5,
        0,
    ),
    entry("erdp-tests drop_samples", Cpu, 5, 0),
    part(
        "erdp-tests failed_take_over",
        &["what_was_applied_and_is_not_in_the_file_is_named_before_anything_is_handed_over"],
        Functional,
        10,
        0,
    ),
    entry("erdp-tests failed_take_over", Light, 10, 90),
    entry("erdp-tests faults", Quiet, 25, 140),
    entry("erdp-tests expressroute_live", Functional, 35, 0),
    entry("erdp-tests fib_churn", Cpu, 15, 60),
    entry("erdp-tests flapping", Quiet, 15, 300),
    entry("erdp-tests floods", Alone, 20, 90),
    reading(entry("erdp-tests fuzz_corpora", Cpu, 3, 0), &["fuzz/targets.json"]),
    entry("erdp-tests full_circuit", Functional, 10, 60),
    // With the whole Internet's table it keeps all CPUs busy for minutes, and asks meanwhile how long an answer takes.
    alone_in_full(entry("erdp-tests hand_over", Light, 20, 110)),
    entry("erdp-tests hostile", Cpu, 10, 120),
    entry("erdp-tests hostile_operator", Quiet, 20, 0),
    part(
        "erdp-tests hostile_operator",
        &[
            "under_each_attack_and_all_at_once_the_loop_is_on_time_bfd_stays_up_and_memory_returns",
            "control_and_http_requests_without_end_take_no_more_memory",
        ],
        Alone,
        1,
        330,
    ),
    entry("erdp-tests interrupted", Functional, 10, 0),
    entry("erdp-tests isolation", Cpu, 10, 60),
    entry("erdp-tests kept", Functional, 15, 0),
    entry("erdp-tests kernel_routes", Functional, 20, 0),
    reading(entry("erdp-tests lab_end_to_end", Light, 35, 60), &["README.md"]),
    part(
        "erdp-tests lab_end_to_end",
        &["an_interrupted_run_leaves_nothing_wherever_it_was"],
        Functional,
        50,
        0,
    ),
    entry("erdp-tests link_policy", Light, 25, 110),
    entry("erdp-tests metrics", Functional, 10, 0),
    entry("erdp-tests miscabling", Functional, 20, 0),
    entry("erdp-tests multicast_listeners", Functional, 25, 0),
    entry("erdp-tests odd_peers", Functional, 15, 0),
    entry("erdp-tests operator", Functional, 5, 0),
    reading(entry("erdp-tests package", Light, 10, 0), &["README.md", "docs/", "xtask/src/package/"]),
    reading(
        entry("erdp-tests package_contents", Cpu, 5, 0),
        &["README.md", "SECURITY.md", "docs/", "xtask/src/package/", "xtask/src/remap.rs"],
    ),
    reading(entry("erdp-tests packet_page", Cpu, 1, 0), &["docs/packets.md"]),
    entry("erdp-tests packet_tables", Cpu, 5, 0),
    entry("erdp-tests parts", Light, 25, 0),
    entry("erdp-tests path_discovery", Functional, 15, 0),
    entry("erdp-tests policed_rate", Quiet, 35, 0),
    entry("erdp-tests policing", Cpu, 5, 30),
    entry("erdp-tests prefix_ceilings", Functional, 15, 0),
    // Its daemon makes the folder of all pins as a user of its own, which another edge's root would own: not beside another edge.
    entry("erdp-tests privileges", Lone, 10, 0),
    entry("erdp-tests rate_change", Quiet, 5, 0),
    entry("erdp-tests re_announced", Functional, 15, 90),
    entry("erdp-tests reconcile", Light, 10, 0),
    entry("erdp-tests refusals", Functional, 5, 0),
    reading(entry("erdp-tests released", Quiet, 10, 150), &["tests/released/", "xtask/src/test/released.rs"]),
    entry("erdp-tests restart", Light, 60, 180),
    entry("erdp-tests second_call", Functional, 15, 0),
    entry("erdp-tests service_chain", Functional, 10, 0),
    entry("erdp-tests service_manager", Functional, 5, 0),
    entry("erdp-tests several_circuits", Light, 25, 60),
    entry("erdp-tests shared_bucket", Quiet, 5, 0),
    entry("erdp-tests simulation", Cpu, 30, 400),
    entry("erdp-tests slow_path", Cpu, 3, 0),
    part(
        "erdp-tests sticky_flows",
        &["only_the_failed_members_flows_move_and_only_they_come_back"],
        Cpu,
        5,
        10,
    ),
    entry("erdp-tests sticky_flows", Light, 10, 40),
    entry("erdp-tests tagged_peerings", Functional, 15, 0),
    entry("erdp-tests two_boxes", Functional, 30, 0),
    entry("erdp-tests wire_rules", Cpu, 3, 0),
];

/// What reads `ERDP_DATA`: the program, and the tests that do; none: all of them.
pub const DATA: &[(&str, &[&str])] = &[
    ("erdp-user erdp", &["bgp::wire::tests::collected_messages_decode_without_panic"]),
    ("erdp-tests bgp_replay", &["collected_messages_mean_to_us_what_they_mean_to_bgpkit"]),
    (
        "erdp-tests differential",
        &["captured_packets_have_the_same_verdict_bytes_and_counters_in_kernel_and_host"],
    ),
    ("erdp-tests fib_churn", &[]),
    ("erdp-tests hand_over", &[]),
    ("erdp-tests re_announced", &[]),
];

/// What a row runs.
#[derive(Clone, Debug)]
pub enum Work {
    /// A test program with libtest's arguments.
    Program(Program, Vec<String>),
    /// The tests in the documentation.
    Documentation,
    /// A row of xtask's own.
    Own(Own),
}

/// A row, ready to run.
#[derive(Clone, Debug)]
pub struct Row {
    /// The program, and the first of its tests where only some are in it.
    pub name: String,
    /// With whom it may run.
    pub group: Group,
    /// How long it may take.
    pub seconds: u32,
    /// Whether `--full` adds to it.
    pub is_longer_in_full: bool,
    /// What it depends on; a folder ends with a slash, and the empty name is the whole tree.
    pub sources: Vec<String>,
    /// Whether it reads `ERDP_DATA`.
    pub has_data: bool,
    /// What it runs.
    pub work: Work,
}

/// The rows of one program.
pub fn of_program(program: &Program, is_full: bool) -> Vec<Row> {
    rows_of(TABLE, program, is_full)
}

fn rows_of(table: &[Entry], program: &Program, is_full: bool) -> Vec<Row> {
    let entries: Vec<&Entry> = table.iter().filter(|entry| entry.program == program.name).collect();
    let named: Vec<&str> = entries.iter().flat_map(|entry| entry.only).copied().collect();
    let rest = entries.iter().find(|entry| entry.only.is_empty());
    let rest = rest.map_or_else(|| entry("", Alone, 60, 60), |found| Entry { ..**found });
    let parts = entries.iter().filter(|entry| !entry.only.is_empty());
    let mut rows: Vec<Row> = parts.map(|entry| row(entry, program, entry.only, &[], is_full)).collect();
    rows.push(row(&rest, program, &[], &named, is_full));
    rows
}

fn row(entry: &Entry, program: &Program, only: &[&str], but: &[&str], is_full: bool) -> Row {
    let is_longer_in_full = entry.full > 0;
    let name = match only.first() {
        Some(first) => format!("{}: {first}", program.name),
        None => program.name.clone(),
    };
    Row {
        name,
        group: if is_full && entry.is_alone_in_full { Alone } else { entry.group },
        seconds: if is_full && is_longer_in_full { entry.full } else { entry.seconds },
        is_longer_in_full,
        sources: sources(&program.name, entry.reads),
        has_data: DATA.iter().any(|(reads, _)| *reads == program.name),
        work: Work::Program(program.clone(), arguments(&program.name, only, but, is_full)),
    }
}

/// Its own files, what it says that it reads, and what all depend on.
fn sources(program: &str, reads: &[&str]) -> Vec<String> {
    let mut sources: Vec<String> = SHARED.iter().chain(reads).map(|path| (*path).to_owned()).collect();
    if let Some(test) = program.strip_prefix("erdp-tests ") {
        sources.extend([format!("tests/tests/{test}.rs"), format!("tests/tests/{test}/")]);
    }
    sources
}

/// libtest's: one test after the other with its progress shown where labs share CPUs and time.
fn arguments(program: &str, only: &[&str], but: &[&str], is_full: bool) -> Vec<String> {
    let is_lab = program.starts_with("erdp-tests");
    let how: &[&str] = if is_lab { &["--test-threads=1", "--nocapture"] } else { &["--show-output"] };
    let mut arguments: Vec<String> = how.iter().map(|word| (*word).to_owned()).collect();
    if is_full {
        arguments.push("--include-ignored".to_owned());
    }
    if !only.is_empty() || !but.is_empty() {
        arguments.push("--exact".to_owned());
    }
    arguments.extend(only.iter().map(|test| (*test).to_owned()));
    arguments.extend(but.iter().flat_map(|test| ["--skip".to_owned(), (*test).to_owned()]));
    arguments
}

/// The tests that read `ERDP_DATA`, and no other.
pub fn of_data(programs: &[Program], is_full: bool) -> Vec<Row> {
    let found = DATA.iter().filter_map(|(name, tests)| {
        let program = programs.iter().find(|program| program.name == *name)?;
        let entry = TABLE.iter().find(|entry| entry.program == *name)?;
        Some(row(entry, program, tests, &[], is_full))
    });
    found.collect()
}

/// The rows that xtask carries out itself.
pub fn own(own: Own) -> Row {
    let (group, seconds, is_longer_in_full) = match &own {
        Own::Kernel { .. } => (Cpu, 30, false),
        Own::Offloads => (Cpu, 20, false),
        Own::Card { .. } => (Cpu, 150, false),
        Own::Service => (Cpu, 290, false),
        Own::Package => (Cpu, 900, false),
        Own::Released => (Cpu, 300, false),
        Own::Stranger => (Alone, 1_200, false),
    };
    let mut sources: Vec<String> = SHARED.iter().map(|path| (*path).to_owned()).collect();
    sources.extend(
        ["xtask/", "README.md", "docs/metrics.md", "tests/tests/packet_tables.rs"].map(str::to_owned),
    );
    match own {
        // A commit's content does not change; that it is built is seen at once.
        Own::Released => sources = vec!["xtask/src/test/released.rs".to_owned()],
        // A clone of the commit, whose time is in it.
        Own::Package | Own::Stranger => sources = vec![String::new()],
        _ => {}
    }
    Row {
        name: own.name(),
        group,
        seconds,
        is_longer_in_full,
        sources,
        has_data: false,
        work: Work::Own(own),
    }
}

/// The tests in the documentation of the libraries.
pub fn documentation() -> Row {
    Row {
        name: "documentation".to_owned(),
        group: Cpu,
        seconds: 10,
        is_longer_in_full: false,
        sources: sources("documentation", &[]),
        has_data: false,
        work: Work::Documentation,
    }
}
