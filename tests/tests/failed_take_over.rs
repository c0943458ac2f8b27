//! A process that was to take over dies or refuses, at each stage of the conversation, while numbered packets flow. The one before it
//! goes on: its peers notice nothing, no packet is lost, and whoever tries next takes over.
//!
//! Some of those that fail are a conversation of this test's own, which stops at a given message; the others are `erdp run --take-over`,
//! killed by SIGKILL. Those by chance are stopped first: one that has taken over by then goes on instead, because from there on it is the
//! router.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp::{
    control::{Envelope, PROTOCOL, Request},
    controller::hand_over::VERSION,
    kernel::fd_passing,
};
use erdp_tests::{
    edge::{self, Edge},
    lab::{cleanup, prefixes::Random},
    seen::Seen,
    small::{SmallLab, established},
};
use nix::sys::signal::Signal;

/// Datagrams a second.
const RATE: u32 = 10_000;
/// Processes that are killed at a moment by chance, with `cargo xtask test --full`.
const BY_CHANCE: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(20);
/// What the one that goes on says.
const GOES_ON: &str = "not handed over: going on";

/// How far a conversation of ours comes.
struct Conversation {
    what: &'static str,
    /// Messages that are read: Hello, then a session with its connection, its routes, what it was told ...; `None`: not even the answer.
    messages: Option<usize>,
    /// Said after them.
    word: &'static str,
    /// How long it is silent before it ends.
    silence: Duration,
}

const CONVERSATIONS: [Conversation; 6] = [
    Conversation { what: "everything", messages: Some(usize::MAX), word: "", silence: Duration::ZERO },
    Conversation { what: "nothing", messages: None, word: "", silence: Duration::ZERO },
    Conversation { what: "the answer", messages: Some(0), word: "", silence: Duration::ZERO },
    Conversation { what: "one session", messages: Some(2), word: "", silence: Duration::ZERO },
    Conversation { what: "half of it", messages: Some(12), word: "", silence: Duration::from_secs(2) },
    Conversation { what: "a refusal", messages: Some(usize::MAX), word: "no\n", silence: Duration::ZERO },
];

/// The lab, the router and its traffic.
struct Stand {
    lab: SmallLab,
    edge: Edge,
    sessions: Vec<Seen>,
    successors: usize,
}

impl Stand {
    fn up() -> Result<Stand> {
        let lab = SmallLab::up()?;
        let edge = lab.edge(&edge::configuration())?;
        let mut stand = Stand { lab, edge, sessions: Vec::new(), successors: 0 };
        stand.sessions = stand.seen()?;
        Ok(stand)
    }

    /// The sessions with the edge as all peers show them.
    fn seen(&self) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for short in ["ce", "msee1", "msee2"] {
            let lines = self.lab.birdc(short, &["show", "protocols"])?;
            let of_edge = lines.lines().filter(|line| line.starts_with("edge"));
            seen.extend(of_edge.map(|line| Seen::by_bird(short, line)));
        }
        ensure!(seen.len() == 6 && seen.iter().all(|it| it.what.contains("Established")), "{seen:#?}");
        Ok(seen)
    }

    /// Everything is as before.
    fn is_intact(&mut self, what: &str) -> Result<()> {
        established(&mut self.edge).with_context(|| what.to_owned())?;
        let now = self.seen()?;
        ensure!(Seen::are(&self.sessions, &now), "{what}: {:#?} {now:#?}", self.sessions);
        Ok(())
    }

    fn log(&mut self) -> Result<String> {
        self.edge.must_run()?;
        Ok(fs::read_to_string(self.edge.process().log())?)
    }

    /// Waits until the router has said once more that it goes on.
    fn goes_on(&mut self, before: usize, what: &str) -> Result<Duration> {
        let begin = Instant::now();
        while self.log()?.matches(GOES_ON).count() == before {
            ensure!(begin.elapsed() < PATIENCE, "{what}: it does not go on\n{}", self.log()?);
            thread::sleep(Duration::from_millis(2));
        }
        let took = begin.elapsed();
        self.is_intact(what)?;
        Ok(took)
    }

    /// A conversation that ends before anything is taken.
    fn converse(&mut self, conversation: &Conversation) -> Result<()> {
        let before = self.log()?.matches(GOES_ON).count();
        let begin = Instant::now();
        let mut socket = UnixStream::connect(self.lab.folder().join("erdp.sock"))?;
        let request = Request::HandOver { version: VERSION, file: None };
        let mut line = serde_json::to_vec(&Envelope { protocol: PROTOCOL, request })?;
        line.push(b'\n');
        socket.write_all(&line)?;
        let mut connections = Vec::new();
        let mut messages = 0;
        if let Some(most) = conversation.messages {
            answer(&mut socket)?;
            while messages < most {
                let (message, file) = fd_passing::receive(&mut socket)?;
                messages += 1;
                connections.extend(file);
                if message.is_empty() {
                    break;
                }
            }
        }
        socket.write_all(conversation.word.as_bytes())?;
        thread::sleep(conversation.silence);
        drop(socket);
        let sessions = connections.len();
        drop(connections);
        let what = conversation.what;
        self.goes_on(before, what)?;
        println!(
            "  {what}: {messages} messages, {sessions} connections, whole again after {:.2?}",
            begin.elapsed()
        );
        Ok(())
    }

    fn successor(&mut self) -> Result<Edge> {
        self.successors += 1;
        let name = format!("erdp-{}", self.successors);
        self.edge.successor_called(&name, self.lab.namespace("edge")?, self.lab.folder(), &[])
    }

    /// Another process, once the conversation has begun.
    fn conversing(&mut self) -> Result<Edge> {
        let mut next = self.successor()?;
        until_logged(&mut next, "the process before us hands over")?;
        Ok(next)
    }

    /// One that is killed when its program forwards and its last word is said; the router, stopped meanwhile, hears the word from the dead.
    fn killed_after_the_switch(&mut self) -> Result<()> {
        for _ in 0..5 {
            let before = self.log()?.matches(GOES_ON).count();
            let mut next = self.conversing()?;
            self.edge.process().signal(Signal::SIGSTOP)?;
            let begin = Instant::now();
            while self.generations()? < 2 && begin.elapsed() < Duration::from_secs(2) {
                thread::sleep(Duration::from_millis(1));
            }
            let has_switched = self.generations()? == 2;
            thread::sleep(Duration::from_millis(100));
            next.process().signal(Signal::SIGKILL)?;
            next.process().wait(PATIENCE)?;
            self.edge.process().signal(Signal::SIGCONT)?;
            let took = self.goes_on(before, "killed after the switch")?;
            ensure!(self.generations()? == 1, "the dead one's maps stay");
            if has_switched {
                println!("  killed after the switch: goes on after {took:.2?}");
                return Ok(());
            }
            println!("  stopped before everything was told: again");
        }
        bail!("the router was never caught waiting for the last word")
    }

    /// Complete generations of programs that are pinned.
    fn generations(&self) -> Result<usize> {
        let name = self.lab.namespace("edge")?.name();
        let (folder, _) =
            cleanup::pins().into_iter().find(|(_, of)| of == name).context("nothing is pinned")?;
        let entries = fs::read_dir(folder)?.flatten();
        Ok(entries.filter(|it| it.path().join("about").is_symlink()).count())
    }

    /// One that is killed by chance, so long after its start or after the conversation has begun.
    fn killed_by_chance(&mut self, after_start: Option<Duration>, conversing: Duration) -> Result<()> {
        let before = self.log()?.matches(GOES_ON).count();
        let mut next = match after_start {
            Some(after) => {
                let next = self.successor()?;
                thread::sleep(after);
                next
            }
            None => {
                let next = self.conversing()?;
                thread::sleep(conversing);
                next
            }
        };
        next.process().signal(Signal::SIGSTOP)?;
        thread::sleep(Duration::from_millis(50));
        let when = after_start
            .map_or_else(|| format!("{conversing:.1?} into it"), |it| format!("{it:.0?} after its start"));
        let has_taken = !self.edge.process().is_running()? || self.log()?.contains("handed over sessions");
        if has_taken {
            next.process().signal(Signal::SIGCONT)?;
            println!("  {when}: it had taken over");
            return self.took_over(next);
        }
        let was_asked = self.log()?.matches("handing over to another process").count();
        next.process().signal(Signal::SIGKILL)?;
        next.process().wait(PATIENCE)?;
        if was_asked > before {
            let took = self.goes_on(before, &when)?;
            println!("  {when}: killed, goes on after {took:.2?}");
            Ok(())
        } else {
            println!("  {when}: killed before it asked");
            self.is_intact(&when)
        }
    }

    /// The next process has everything; it is the router from now on.
    fn took_over(&mut self, mut next: Edge) -> Result<()> {
        until_logged(&mut next, "running peers")?;
        let ended = self.edge.process().wait(PATIENCE)?;
        ensure!(ended.success(), "the old process ended with {ended}:\n{}", self.edge.process().tail(20));
        self.edge = next;
        self.is_intact("taken over")
    }
}

/// The line that says whether the conversation takes place.
fn answer(socket: &mut UnixStream) -> Result<()> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        socket.read_exact(&mut byte)?;
        line.extend(byte);
    }
    let line = String::from_utf8_lossy(&line);
    ensure!(line.contains("\"ok\""), "refused: {line}");
    Ok(())
}

fn until_logged(edge: &mut Edge, text: &str) -> Result<()> {
    let begin = Instant::now();
    while !fs::read_to_string(edge.process().log())?.contains(text) {
        edge.must_run()?;
        ensure!(begin.elapsed() < PATIENCE, "`{text}` was not logged:\n{}", edge.process().tail(20));
        thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

#[test]
fn whoever_fails_to_take_over_leaves_the_router_as_it_was_and_the_next_one_takes_over() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    let counters = stand.edge.counters()?;
    let probe = stand.lab.probe(RATE, 41_000)?;
    thread::sleep(Duration::from_millis(300));
    let conversations = if edge::is_full() { &CONVERSATIONS[..] } else { &CONVERSATIONS[..1] };
    conversations.iter().try_for_each(|conversation| stand.converse(conversation))?;
    stand.killed_after_the_switch()?;
    if edge::is_full() {
        let mut random = Random(std::process::id().into());
        for at in 0..BY_CHANCE {
            let micros = random.below(1 << 20);
            // A quarter of them anywhere in the first second, the others within what the conversation takes.
            let after_start = (at % 4 == 0).then(|| Duration::from_micros(micros));
            stand.killed_by_chance(after_start, Duration::from_micros(micros >> 5))?;
        }
    }
    let next = stand.successor()?;
    stand.took_over(next)?;
    thread::sleep(Duration::from_millis(300));
    let report = probe.stop()?;
    println!("  {report:?}");
    ensure!(report.lost == 0 && report.sent > u64::from(RATE) / 2, "{report:?}");
    let after = stand.edge.counters()?;
    let counted = after.tx.packets - counters.tx.packets;
    ensure!(counted >= report.received, "{counted} packets counted, {} went through", report.received);
    ensure!(after.unexplained() == 0, "{} packets unexplained", after.unexplained());
    Ok(())
}

#[test]
fn what_was_applied_and_is_not_in_the_file_is_named_before_anything_is_handed_over() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    let faster = edge::configuration().replace("bandwidth = \"1G\"", "bandwidth = \"2G\"");
    let (own, other) = (stand.lab.folder().join("edge.toml"), stand.lab.folder().join("faster.toml"));
    fs::write(&other, &faster)?;
    let [own, other] = [own, other].map(|path| path.to_string_lossy().into_owned());
    stand.edge.ask(&["config", "apply", &other])?;
    let words = ["bandwidth is \"2G\" here and \"1G\"", &own, &other, "erdp config apply", "--force"];
    let refused = |said: &str, words: &[&str]| {
        println!("  {said}");
        ensure!(words.iter().all(|word| said.contains(word)), "{words:?} are not in {said}");
        Ok(())
    };
    let ask = |stand: &Stand| stand.edge.ask(&["restart"]).err().map(|error| error.to_string());
    refused(&ask(&stand).context("it has restarted")?, &words)?;
    let mut next = stand.successor()?;
    let ended = next.process().wait(PATIENCE)?;
    ensure!(!ended.success(), "a process that is refused has ended well");
    refused(&next.process().tail(2), &words)?;
    // A change that waits would be kept for ever.
    stand.edge.ask(&["config", "apply", &own, "--force", "--confirm", "60s"])?;
    refused(&ask(&stand).context("it has restarted")?, &["erdp config confirm"])?;
    stand.edge.ask(&["config", "rollback"])?;
    refused(&ask(&stand).context("it has restarted")?, &[words[0], words[1], "erdp config rollback"])?;
    stand.is_intact("refused")?;

    fs::write(&own, &faster)?;
    let next = stand.successor()?;
    stand.took_over(next)?;
    let runs = stand.edge.ask(&["config", "show"])?;
    ensure!(runs.contains("bandwidth = \"2G\""), "{runs}");
    // What is in the file that was changed since is what the operator wants.
    fs::write(&own, edge::configuration())?;
    let next = stand.successor()?;
    stand.took_over(next)?;
    let runs = stand.edge.ask(&["config", "show"])?;
    ensure!(runs.contains("bandwidth = \"1G\""), "{runs}");
    Ok(())
}
