//! Network namespaces with real daemons in them, for this test only: FRR's zebra and bgpd, and BIRD.
//!
//! The test's own thread lives in a namespace of its own, joined to one named namespace for each daemon by a veth pair. Everything is
//! removed by `Drop`: daemons by the process that was started, namespaces by name, files with their directory. A signal that ends the
//! program has it removed first ([`remove_at_signals`]); what a program that was killed has left is removed by the next one, which reads its
//! process id in the names.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

/// What names begin with; the owner's process id follows.
const PREFIX: &str = "erdpbgp";
/// The namespaces that there are now.
static NAMESPACES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Why the test cannot run here, if it cannot.
pub fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root: network namespaces cannot be made");
    }
    let present = |path: &str| Path::new(path).exists();
    if !present("/usr/lib/frr/bgpd") {
        return Some("FRR is not installed (apt-get install frr)");
    }
    (!present("/usr/sbin/bird")).then_some("BIRD is not installed (apt-get install bird2)")
}

/// Moves the calling thread, and what it will start, into a network namespace of its own.
pub fn enter_new_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    run("ip", &["link", "set", "lo", "up"]);
}

/// Runs a command, which must succeed, and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A namespace with one daemon, one link away from the test.
pub struct Neighbour {
    pub name: String,
    pub ours: (Ipv4Addr, Ipv6Addr),
    pub theirs: (Ipv4Addr, Ipv6Addr),
    pub interface: String,
    pub directory: PathBuf,
    daemons: Vec<Child>,
}

impl Neighbour {
    /// A namespace with a link to it: 198.18.`net`.0/30 and fd00:`net`::/126, ours first.
    pub fn new(kind: &str, net: u8) -> Self {
        remove_at_signals();
        let name = format!("{PREFIX}{}-{kind}", std::process::id());
        let (interface, far) = (format!("{kind}0"), "up0");
        let directory = std::env::temp_dir().join(&name);
        {
            let mut namespaces = NAMESPACES.lock().unwrap_or_else(PoisonError::into_inner);
            namespaces.push(name.clone());
            fs::create_dir_all(&directory).unwrap();
            run("ip", &["netns", "add", &name]);
        }
        run("ip", &["link", "add", &interface, "type", "veth", "peer", "name", far, "netns", &name]);
        let address = |host| {
            (Ipv4Addr::new(198, 18, net, host), Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, host.into()))
        };
        let neighbour =
            Self { name, ours: address(1), theirs: address(2), interface, directory, daemons: Vec::new() };
        for (namespace, device, (v4, v6)) in [
            (None, neighbour.interface.as_str(), neighbour.ours),
            (Some(neighbour.name.as_str()), far, neighbour.theirs),
        ] {
            let ip = |arguments: &[&str]| {
                let prefix: Vec<&str> = namespace.map_or(vec![], |name| vec!["-n", name]);
                run("ip", &[prefix.as_slice(), arguments].concat());
            };
            ip(&["addr", "add", &format!("{v4}/30"), "dev", device]);
            ip(&["addr", "add", &format!("{v6}/126"), "dev", device, "nodad"]);
            let host = v4.octets()[3];
            ip(&["addr", "add", &format!("fe80::{host}/64"), "dev", device, "nodad"]);
            ip(&["link", "set", device, "up"]);
            ip(&["link", "set", "lo", "up"]);
        }
        neighbour
    }

    pub fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    pub fn start(&mut self, program: &str, arguments: &[&str]) {
        let log = fs::File::create(self.directory.join("daemon.log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemons.push(child);
    }

    /// Starts zebra and bgpd with this bgpd configuration.
    pub fn start_frr(&mut self, configuration: &str) {
        fs::write(self.directory.join("zebra.conf"), "hostname z\n").unwrap();
        fs::write(self.directory.join("bgpd.conf"), configuration).unwrap();
        // FRR's daemons change to this user, which alone belongs to the group of their control sockets.
        run("chown", &["-R", "frr:frr", &self.directory.display().to_string()]);
        let (socket, vty) = (self.path("zserv.api"), self.directory.display().to_string());
        let common = ["-z", &socket, "--vty_socket", &vty];
        for (daemon, extra) in [("zebra", &[][..]), ("bgpd", &["-n"][..])] {
            let (file, pid) = (self.path(&format!("{daemon}.conf")), self.path(&format!("{daemon}.pid")));
            let arguments = [&common[..], &["-f", &file, "-i", &pid, "-P", "0"], extra].concat();
            self.start(&format!("/usr/lib/frr/{daemon}"), &arguments);
            until(&format!("{daemon}'s control socket"), || {
                self.directory.join(format!("{daemon}.vty")).exists()
            });
        }
    }

    /// What FRR's shell prints.
    pub fn vtysh(&self, command: &str) -> String {
        run("vtysh", &["--vty_socket", &self.directory.display().to_string(), "-c", command])
    }

    /// Starts BIRD with this configuration.
    pub fn start_bird(&mut self, configuration: &str) {
        fs::write(self.directory.join("bird.conf"), configuration).unwrap();
        let (file, control, pid) = (self.path("bird.conf"), self.path("bird.ctl"), self.path("bird.pid"));
        self.start("/usr/sbin/bird", &["-f", "-c", &file, "-s", &control, "-P", &pid]);
        until("BIRD's control socket", || self.directory.join("bird.ctl").exists());
    }

    /// What BIRD's shell prints.
    pub fn birdc(&self, command: &str) -> String {
        let control = self.path("bird.ctl");
        let words: Vec<&str> = ["-s", &control].into_iter().chain(command.split(' ')).collect();
        run("birdc", &words)
    }
}

impl Neighbour {
    /// Sends a signal to the daemon that was started last.
    pub fn signal(&self, signal: Signal) {
        let daemon = self.daemons.last().unwrap();
        nix::sys::signal::kill(Pid::from_raw(daemon.id().cast_signed()), signal).unwrap();
    }
}

impl Neighbour {
    /// Sends a signal to all processes in the namespace: some daemons are several.
    pub fn signal_all(&self, signal: Signal) {
        signal_all(&self.name, signal);
    }

    /// Kills all of them without a word.
    pub fn kill(&mut self) {
        self.signal_all(Signal::SIGKILL);
        for mut daemon in self.daemons.drain(..) {
            let _ = daemon.wait();
        }
        for file in ["zebra.vty", "bgpd.vty", "bird.ctl", "bgpd.sock", "zserv.api"] {
            let _ = fs::remove_file(self.directory.join(file));
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("daemon.log")).unwrap_or_default();
            println!("{}: {log}", self.name);
        }
        self.kill();
        remove(&self.name);
        NAMESPACES.lock().unwrap_or_else(PoisonError::into_inner).retain(|name| *name != self.name);
    }
}

fn signal_all(namespace: &str, signal: Signal) {
    let listed = Command::new("ip").args(["netns", "pids", namespace]).output().unwrap();
    for pid in String::from_utf8_lossy(&listed.stdout).lines().filter_map(|line| line.trim().parse().ok()) {
        // It may have ended in between.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
    }
}

/// A namespace with its daemons and files.
fn remove(name: &str) {
    signal_all(name, Signal::SIGKILL);
    let _ = Command::new("ip").args(["netns", "delete", name]).status();
    let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
}

/// From the first call on SIGINT, SIGTERM and SIGHUP remove everything before the program ends. What others have left goes now.
fn remove_at_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        sweep();
        let (ready, is_ready) = mpsc::channel();
        // Of its own, because a test's runtime must not begin another one.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let number = runtime.block_on(async {
                let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
                let signals = kinds.map(|kind| (kind, signal(kind).unwrap()));
                ready.send(()).unwrap();
                first_of(signals).await
            });
            // Kept until the end: nobody makes another one.
            let namespaces = NAMESPACES.lock().unwrap_or_else(PoisonError::into_inner);
            namespaces.iter().for_each(|name| remove(name));
            std::process::exit(128 + number);
        });
        is_ready.recv().unwrap();
    });
}

async fn first_of(signals: [(SignalKind, tokio::signal::unix::Signal); 3]) -> i32 {
    let [(one, mut first), (two, mut second), (three, mut third)] = signals;
    tokio::select! {
        _ = first.recv() => one.as_raw_value(),
        _ = second.recv() => two.as_raw_value(),
        _ = third.recv() => three.as_raw_value(),
    }
}

/// The namespaces of programs that have ended.
fn sweep() {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    for name in names.filter(|name| owner(name).is_some_and(|owner| !is_one_of_us(owner))) {
        remove(&name);
    }
}

/// The process id in a name.
pub fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// Whether a process is this program, or another run of it.
fn is_one_of_us(pid: u32) -> bool {
    let comm = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    comm(pid).is_some_and(|its| Some(its) == comm(std::process::id()))
}

/// Waits for a daemon's doing, at most 20 seconds: it has no event to wait for.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
