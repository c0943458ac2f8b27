//! Nothing of a lab outlives its owner: every process, namespace and folder is registered here before it exists.
//!
//! Three ways out lead through here. An ordinary end or a panic drops the [`Guard`]s. SIGINT, SIGTERM and SIGHUP come to a
//! thread of ours ([`on_signals`]), which closes the registry (nothing new can begin), undoes what it holds, newest first, and
//! ends the program. SIGKILL leaves namespaces and folders behind: the next lab's [`sweep`] finds them by the owner's process id
//! in their names. Processes that the owner has started die with it in any case (`PR_SET_PDEATHSIG`, see `enter`). A daemon that has been
//! started by another one, to take over from it, is nobody's child and on no list: it is found by the namespace that it is in.
//!
//! The registry is the one global of the lab: a signal belongs to the whole program, and so does what it must undo.

use std::{
    fs, mem,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Where `ip netns` keeps its names.
const NETNS: &str = "/run/netns";
/// Where labs keep their folders: sockets need short paths.
const RUN: &str = "/run";
/// Where edges pin what outlives them, one folder each, and where they write down what they have changed.
const PINS: &str = "/sys/fs/bpf/erdp";
const TRACES: &str = "/run/erdp";
/// How long a process may take to end after SIGTERM, and after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(3);
const KILLED: Duration = Duration::from_secs(1);

/// Something that would be left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A process of ours, by its id.
    Process(u32),
    /// A named network namespace; its links go with it.
    Namespace(String),
    /// A folder with everything in it.
    Folder(PathBuf),
}

struct Registry {
    closed: bool,
    next: u64,
    items: Vec<(u64, Leftover)>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { closed: false, next: 0, items: Vec::new() });

fn registry() -> MutexGuard<'static, Registry> {
    // A panic while the lock was held leaves a list that is still true.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Undoes one thing when dropped.
#[derive(Debug)]
pub struct Guard(u64);

/// Makes something and registers it in one step: a signal cannot come in between.
///
/// # Errors
/// What `make` says, or that the lab is being taken down.
pub fn guarded<T>(make: impl FnOnce() -> Result<(T, Leftover)>) -> Result<(T, Guard)> {
    on_signals()?;
    pause_if_ending();
    let mut registry = registry();
    if registry.closed {
        bail!("the lab is being taken down");
    }
    let (made, leftover) = make()?;
    let id = registry.next;
    registry.next += 1;
    registry.items.push((id, leftover));
    Ok((made, Guard(id)))
}

/// Never returns once a signal is ending the program: the thread that took it undoes everything and then exits, and nobody
/// else may end the program before it has, or report as failures what are only its effects.
pub fn pause_if_ending() {
    while registry().closed {
        thread::park();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        pause_if_ending();
        let mut registry = registry();
        let Some(at) = registry.items.iter().position(|(id, _)| *id == self.0) else { return };
        let (_, leftover) = registry.items.remove(at);
        drop(registry);
        undo(&leftover);
    }
}

/// Strikes the thing off the list without undoing it: it is gone already.
pub fn forget(guard: Guard) {
    registry().items.retain(|(id, _)| *id != guard.0);
}

/// Takes SIGINT, SIGTERM and SIGHUP from now on: clean up, then end with 128 + the signal's number.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot take signals").map(|mut signals| {
            thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    eprintln!("signal {signal}: taking the lab down");
                    undo_everything();
                    process::exit(128 + signal);
                }
            });
        });
    });
    result
}

/// Closes the registry and undoes what it holds: processes first, then what they used.
fn undo_everything() {
    let mut registry = registry();
    registry.closed = true;
    let mut items = mem::take(&mut registry.items);
    drop(registry);
    items.reverse();
    items.sort_by_key(|(_, leftover)| match leftover {
        Leftover::Process(_) => 0,
        Leftover::Namespace(_) => 1,
        Leftover::Folder(_) => 2,
    });
    // All at once: whoever has sent the signal does not wait for ever.
    let ids = |leftover: &Leftover| match leftover {
        Leftover::Process(pid) => vec![*pid],
        Leftover::Namespace(name) => processes_in(name),
        Leftover::Folder(_) => Vec::new(),
    };
    end_processes(items.iter().flat_map(|(_, leftover)| ids(leftover)).collect());
    for (_, leftover) in items {
        undo(&leftover);
    }
}

fn undo(leftover: &Leftover) {
    match leftover {
        Leftover::Process(pid) => end_processes(vec![*pid]),
        Leftover::Namespace(name) => delete_namespace(name),
        Leftover::Folder(path) => remove_folder(path),
    }
}

/// SIGTERM, some patience, SIGKILL, and a moment for that. Each must be a child of ours that nobody has waited for yet, a process in a
/// namespace of ours, or gone.
fn end_processes(mut pids: Vec<u32>) {
    for (signal, patience) in [(Signal::SIGTERM, PATIENCE), (Signal::SIGKILL, KILLED)] {
        // One that cannot be signalled is gone.
        pids.retain(|pid| is_running(*pid) && kill(Pid::from_raw(pid.cast_signed()), signal).is_ok());
        let deadline = Instant::now() + patience;
        while pids.iter().any(|pid| is_running(*pid)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Is there such a process, and not only its unread exit code? While threads of a killed one are left, its sockets are open.
pub fn is_running(pid: u32) -> bool {
    let threads = |stat: &str| stat.split_whitespace().nth(17).and_then(|threads| threads.parse().ok());
    stat(pid).is_some_and(|stat| {
        !stat.starts_with(['Z', 'X']) || threads(&stat).is_some_and(|threads: u32| threads > 1)
    })
}

/// /proc/PID/stat from the state letter on (the name before it may contain anything).
fn stat(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.to_owned())
}

/// When the process started, in ticks since boot (proc(5), field 22): tells a process from a later one with its id.
fn started(pid: u32) -> Option<String> {
    stat(pid)?.split_whitespace().nth(19).map(str::to_owned)
}

/// Removes what an edge in this namespace has pinned and written down: it was killed, or it would have done so itself.
fn remove_pins(namespace: &str) {
    for (path, owner) in pins() {
        if owner == namespace {
            // The links first: then nothing runs on what is removed.
            let _links = fs::remove_dir_all(path.join("links"));
            remove_folder(&path);
        }
    }
    for (path, owner) in traces() {
        if owner == namespace {
            // Gone already is as good.
            let _gone = fs::remove_file(path);
        }
    }
    // Others may have theirs.
    let _others = fs::remove_dir(PINS);
    let _others = fs::remove_dir(TRACES);
}

/// The folders of pins, each with the network namespace that it belongs to.
pub fn pins() -> Vec<(PathBuf, String)> {
    let folders = fs::read_dir(PINS).into_iter().flatten().flatten().map(|entry| entry.path());
    let owner =
        |path: &Path| Some(fs::read_link(path.join("namespace")).ok()?.to_string_lossy().into_owned());
    folders.filter_map(|path| owner(&path).map(|owner| (path, owner))).collect()
}

/// What edges have written down, each with the network namespace that it belongs to.
fn traces() -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(TRACES).into_iter().flatten().flatten().map(|entry| entry.path());
    let notes = files.filter(|path| path.extension().is_some_and(|it| it == "json"));
    notes
        .filter_map(|path| owner_of_note(&fs::read_to_string(&path).ok()?).map(|owner| (path, owner)))
        .collect()
}

fn owner_of_note(text: &str) -> Option<String> {
    let note: serde_json::Value = serde_json::from_str(text).ok()?;
    note["namespace"].as_str().map(str::to_owned)
}

fn delete_namespace(name: &str) {
    // What lives in there would keep it, and pin again what is removed.
    end_processes(processes_in(name));
    remove_pins(name);
    let deleted = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
    if !deleted.is_ok_and(|status| status.success()) && Path::new(NETNS).join(name).exists() {
        eprintln!("warning: cannot delete the namespace {name}: run `ip netns del {name}`");
    }
}

fn remove_folder(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && path.exists()
    {
        eprintln!("warning: cannot remove {}: {error}", path.display());
    }
}

/// The folder of a lab, made and marked with its owner.
///
/// # Errors
/// When it cannot be made.
pub fn owned_folder(prefix: &str) -> Result<(PathBuf, Guard)> {
    guarded(|| {
        let path = Path::new(RUN).join(prefix);
        // Under a name that no sweep knows until it has its mark: another process that sweeps now must not take it for a dead lab's.
        let draft = Path::new(RUN).join(format!(".new-{prefix}"));
        fs::create_dir_all(&draft)
            .with_context(|| format!("cannot make the lab's folder {}", draft.display()))?;
        let owner = started(process::id()).unwrap_or_default();
        fs::write(draft.join("owner"), owner)
            .with_context(|| format!("cannot write into {}", draft.display()))?;
        if path.exists() {
            // Of a dead lab whose owner had our process id.
            remove_folder(&path);
        }
        fs::rename(&draft, &path)
            .with_context(|| format!("cannot make the lab's folder {}", path.display()))?;
        Ok((path.clone(), Leftover::Folder(path)))
    })
}

/// The owner's process id in a lab's name: `erdp1234` or `erdp1234.1`, with `-ce` and the like behind it for a namespace.
pub fn owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("erdp")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (pid, tail) = rest.split_at(digits);
    (tail.is_empty() || tail.starts_with(['-', '.'])).then(|| pid.parse().ok()).flatten()
}

/// Does the lab that `name` belongs to still have its owner?
pub fn is_owned(name: &str) -> bool {
    let Some(pid) = owner(name) else { return true };
    let lab = name.split('-').next().unwrap_or(name);
    let marked = fs::read_to_string(Path::new(RUN).join(lab).join("owner")).ok();
    is_running(pid) && marked.is_some() && marked == started(pid)
}

/// Removes what labs have left whose owner is dead. Returns what was removed, for the user to read.
pub fn sweep() -> Vec<String> {
    let mut swept = Vec::new();
    for name in entries(NETNS) {
        if !is_owned(&name) {
            delete_namespace(&name);
            swept.push(name);
        }
    }
    for (_, name) in pins().into_iter().chain(traces()) {
        if !is_owned(&name) {
            remove_pins(&name);
            swept.push(format!("pins and notes of {name}"));
        }
    }
    for name in entries(RUN) {
        if !is_owned(&name) {
            remove_folder(&Path::new(RUN).join(&name));
            swept.push(name);
        }
    }
    swept
}

/// The names of labs' things in `folder`.
pub fn entries(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| owner(name).is_some()).collect();
    names.sort();
    names
}

/// The names of the namespaces of all labs.
pub fn namespaces() -> Vec<String> {
    entries(NETNS)
}

/// The processes in a namespace, but for ourselves.
fn processes_in(namespace: &str) -> Vec<u32> {
    let listed = Command::new("ip").args(["netns", "pids", namespace]).stderr(Stdio::null()).output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let pids = text.lines().filter_map(|line| line.trim().parse().ok());
    pids.filter(|pid| *pid != process::id()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_labs_name_tells_its_owner_and_other_names_tell_nothing() {
        let rows = [
            ("erdp1234-ce", Some(1234)),
            ("erdp1234", Some(1234)),
            ("erdp1234.2-msee1", Some(1234)),
            ("erdp-ce", None),
            ("erdp12x", None),
            ("erdp.sock", None),
            ("ns1", None),
        ];
        for (name, pid) in rows {
            assert_eq!(owner(name), pid, "{name}");
        }
    }

    #[test]
    fn a_note_tells_its_namespace_and_what_is_no_note_tells_nothing() {
        let note = r#"{"namespace":"erdp12-edge","control":"/run/x","control_ports":[],"addresses":[],"sysctls":[]}"#;
        assert_eq!(owner_of_note(note).as_deref(), Some("erdp12-edge"));
        for text in ["", "{}", "[1]", "{\"namespace\":1}"] {
            assert_eq!(owner_of_note(text), None, "{text}");
        }
    }

    #[test]
    fn a_child_that_has_ended_but_was_not_waited_for_does_not_run() {
        let mut child = Command::new("true").spawn().expect("true(1) starts");
        let deadline = Instant::now() + PATIENCE;
        while is_running(child.id()) && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(!is_running(child.id()));
        child.wait().expect("its exit code is still there");
        assert!(is_running(process::id()));
    }
}
