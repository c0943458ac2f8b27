//! Every command ends quietly when its reader goes, and does what it was asked to all the same. The daemon is a stand-in that answers each
//! request with more than a pipe holds.

#![expect(clippy::expect_used, reason = "a failed step of the stand is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _, pipe},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

const ERDP: &str = env!("CARGO_BIN_EXE_erdp");
/// Rows of each answer: more than a pipe holds.
const ROWS: usize = 2_000;
/// Commands at the same time: some wait a second.
const AT_ONCE: usize = 4;

/// Every command with words that have it print. `run` is the daemon, `generate` writes files; `uninstall` runs in a namespace of its own.
const COMMANDS: [&str; 49] = [
    "upgrade --check --config FILE --control SOCKET",
    "restart --control SOCKET",
    "uninstall",
    "config check FILE",
    "config show --control SOCKET",
    "config show FILE",
    "config diff FILE --control SOCKET",
    "config diff FILE --json --control SOCKET",
    "config apply FILE --control SOCKET",
    "config apply FILE --json --confirm 60s --control SOCKET",
    "config confirm --control SOCKET",
    "config rollback --control SOCKET",
    "config preset point-to-point",
    "check --config FILE",
    "audit --explain D1",
    "audit --config FILE --json",
    "audit --config FILE --azure ANSWER",
    "import azure ANSWER",
    "import azure ANSWER --against FILE --json",
    "doctor",
    "doctor --config FILE",
    "show routes --json --control SOCKET",
    "show routes --control SOCKET",
    "show counters --control SOCKET",
    "show drops --reason no-route --control SOCKET",
    "show nonsense",
    "show routes 198.18.0.0/15 longer --control SOCKET",
    "show received 198.18.0.2 --control SOCKET",
    "show advertised 198.18.0.2 198.18.0.0/15 --control SOCKET",
    "show peer 198.18.0.2 --control SOCKET",
    "show events --since 2d -o wide --control SOCKET",
    "show links --watch=1 --control SOCKET",
    "why --control SOCKET",
    "why --follow --json --control SOCKET",
    "set circuit lab --bandwidth 2G --control SOCKET",
    "set circuit lab --bandwidth 2G --json --control SOCKET",
    "peering disable lab --control SOCKET",
    "peering reset lab --json --control SOCKET",
    "peering enable lab --control SOCKET",
    "drill --fail primary --for 1s --control SOCKET",
    "drill --stop --json --control SOCKET",
    "whatif --fail primary --over 1s --control SOCKET",
    "explain --interface ce --to 198.18.0.1 --control SOCKET",
    "explain --interface ce --prefixes PREFIXES --json --control SOCKET",
    "ask --interface ce --to 198.18.0.1 --control SOCKET",
    "ask --interface ce --frame 0200000000010200000000020806 --control SOCKET",
    "ask --interface ce --pcap CAPTURE --control SOCKET",
    "--help",
    "show links --control NOWHERE",
];

/// A folder of its own, and a daemon in it.
struct Stand {
    folder: PathBuf,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Stand {
    fn up() -> Self {
        static STANDS: AtomicU32 = AtomicU32::new(0);
        let number = STANDS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("erdp-broken-pipe-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("edge.toml"), include_str!("../../deploy/erdp.toml")).expect("a file");
        let answer = include_str!("../src/import/samples/circuit.json");
        fs::write(folder.join("circuit.json"), answer).expect("a file");
        fs::write(folder.join("prefixes"), "198.18.0.0/15\n".repeat(ROWS)).expect("a file");
        fs::write(folder.join("capture.pcap"), capture()).expect("a file");
        let listener = UnixListener::bind(folder.join("control.sock")).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                thread::spawn(move || converse(stream, &noted));
            }
        });
        Self { folder, asked }
    }

    /// Runs a command whose standard output, and whose standard error if that is said, nobody reads.
    fn run(&self, words: &str, errors_too: bool) -> Output {
        let mut command = self.command(words);
        command.stdin(Stdio::null()).stdout(unread()).stderr(Stdio::piped());
        if errors_too {
            command.stderr(unread());
        }
        command.output().expect("it starts")
    }

    /// A command with its words filled in.
    fn command(&self, words: &str) -> Command {
        let mut command = match words {
            "uninstall" => {
                let mut command = Command::new("unshare");
                // In a chroot there is no user namespace (EPERM, unshare(2)); root needs none.
                if !nix::unistd::geteuid().is_root() {
                    command.arg("--map-root-user");
                }
                command.args(["--net", ERDP]);
                command
            }
            _ => Command::new(ERDP),
        };
        for word in words.split(' ') {
            match word {
                "FILE" => command.arg(self.folder.join("edge.toml")),
                "ANSWER" => command.arg(self.folder.join("circuit.json")),
                "PREFIXES" => command.arg(self.folder.join("prefixes")),
                "CAPTURE" => command.arg(self.folder.join("capture.pcap")),
                "SOCKET" => command.arg(self.folder.join("control.sock")),
                "NOWHERE" => command.arg(self.folder.join("nowhere.sock")),
                word => command.arg(word),
            };
        }
        command
    }
}

/// A capture file (pcap) of short Ethernet frames.
fn capture() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let packet = [words(&[0, 0, 14, 14]), vec![2; 14]].concat();
    [words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1]), packet.repeat(ROWS)].concat()
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A pipe whose reader has gone.
fn unread() -> Stdio {
    let (_, writer) = pipe().expect("a pipe");
    writer.into()
}

fn converse(stream: UnixStream, asked: &Mutex<Vec<Value>>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).expect("JSON");
        let reply = json!({ "ok": answer(&request["request"]) });
        asked.lock().expect("nobody panics").push(request);
        if writeln!(writer, "{reply}").is_err() {
            return;
        }
    }
}

fn answer(request: &Value) -> Value {
    let (verb, about) = match request {
        Value::String(verb) => (verb.as_str(), &Value::Null),
        request => {
            let (verb, about) = request.as_object().and_then(|it| it.iter().next()).expect("a verb");
            (verb.as_str(), about)
        }
    };
    let rows = |row: Value| Value::from(vec![row; ROWS]);
    match verb {
        "show" if *about == "counters" => {
            json!({ "dropped": {}, "attachments": rows(json!({"name": "ce"})) })
        }
        "show" => rows(json!({"reason": "no-route", "prefix": "198.18.0.0/15"})),
        "routes" | "paths" | "peer" => rows(json!({"prefix": "198.18.0.0/15", "peer": "198.18.0.2"})),
        "explain" => {
            let of = |to: &Value| json!({"address": to, "verdict": "punt", "members": []});
            let to = about["to"].as_array().into_iter().flatten().map(of);
            let frame = |_: &Value| json!({"address": "0.0.0.0", "verdict": "drop", "members": [], "detail": {"frame_bytes": 14}});
            to.chain(about["frames"].as_array().into_iter().flatten().map(frame)).collect()
        }
        "config" if *about == "show" => "asn = 65010\n".repeat(ROWS).into(),
        "config" if *about == "confirm" => "confirmed".into(),
        "config" => json!({ "plan": {"differences": rows(json!({"path": "asn"}))}, "warnings": [] }),
        "set" => json!({ "circuit": "lab", "changed": rows(json!({"key": "bandwidth"})), "warnings": [] }),
        "peering" => {
            json!({ "sessions": rows(json!("198.18.0.2")), "now": "disabled", "nothing_left_of": [] })
        }
        "drill" => {
            json!({ "phase": "over", "completed": true, "report": {"back_ms": 1, "dropped": rows(json!({}))} })
        }
        "load" => json!({
            "at_ns": 1, "circuit": "lab", "link": "primary", "rate_bps": 1, "burst": "peak-2x", "credit_ms": 1, "overhead": 0,
            "classes": [], "on_link": [0, 0], "orphans": rows(json!("lab/private IPv4")), "only_here": [0, []],
        }),
        "restart" => std::process::id().into(),
        verb => panic!("no answer to {verb}"),
    }
}

#[test]
fn every_command_ends_quietly_when_its_reader_goes() {
    let stand = Stand::up();
    let next = AtomicUsize::new(0);
    let take = || {
        while let Some(words) = COMMANDS.get(next.fetch_add(1, Ordering::Relaxed)) {
            ends_quietly(&stand, words);
        }
    };
    thread::scope(|scope| {
        (0..AT_ONCE).for_each(|_| {
            scope.spawn(take);
        });
    });
    // The command has done what it was asked to.
    let asked = stand.asked.lock().expect("nobody panics");
    let has = |verb: &str| asked.iter().filter(|it| it["request"]["config"].get(verb).is_some()).count();
    assert_eq!(has("apply"), 4, "two commands, twice");
}

/// With standard output that nobody reads, and with both.
fn ends_quietly(stand: &Stand, words: &str) {
    for errors_too in [false, true] {
        let output = stand.run(words, errors_too);
        let said = String::from_utf8_lossy(&output.stderr);
        // 101 is a panic's; none is a signal's.
        let code = output.status.code();
        assert!(code.is_some_and(|code| (0..7).contains(&code)), "erdp {words}: {:?}: {said}", output.status);
        assert!(!said.contains("panicked") && !said.contains("Broken pipe"), "erdp {words}: {said}");
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_panic() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let output = Command::new(ERDP).args(["config", "preset", "point-to-point"]).stdout(full).output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: standard output: "), "{said}");
}

#[test]
fn a_configuration_is_applied_before_anything_is_printed() {
    let stand = Stand::up();
    for words in ["config apply FILE --control SOCKET", "config apply FILE --json --control SOCKET"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
        let output = stand.command(words).stdout(full).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1), "erdp {words}");
    }
    let asked = stand.asked.lock().expect("nobody panics");
    assert_eq!(
        asked.iter().filter(|it| it["request"]["config"].get("apply").is_some()).count(),
        2,
        "{asked:?}"
    );
}

#[test]
fn no_command_is_missing_here() {
    let mut missing = Vec::new();
    for words in leaves(&[]) {
        let is_there = COMMANDS.iter().any(|it| *it == words || it.starts_with(&format!("{words} ")));
        if !is_there && !["run", "help", "generate"].contains(&words.as_str()) {
            missing.push(words);
        }
    }
    assert_eq!(missing, [""; 0]);
}

/// The commands that have no commands of their own, as the help lists them.
fn leaves(of: &[String]) -> BTreeSet<String> {
    let output = Command::new(ERDP).args(of).arg("--help").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let listed =
        text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Lines that go on are indented further.
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<String> =
        names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    if names.is_empty() {
        return [of.join(" ")].into();
    }
    let own = names.into_iter().filter(|name| name != "help");
    own.flat_map(|name| leaves(&[of, &[name]].concat())).collect()
}
