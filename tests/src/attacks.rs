//! Attacks on a running daemon by whoever may open its sockets or is a peer in other hands: what each does again and again, confined to one CPU
//! so that what is measured beside it is the daemon's patience and not the machine's.
//!
//! [`Attack`] is what runs; [`ATTACKS`] are what there is, by the words that a report has for them. What must hold meanwhile is measured by
//! `tests/hostile_operator.rs`.

use std::{
    fmt, fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp::{
    bgp::{Asn, Family, Seconds, wire},
    control::{Question, Request, Topic, client::Client},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, gettid},
};
use socket2::{Domain, Socket, Type};

use crate::{failover::CE, failover::peers::CUSTOMER, lab::enter};

/// Where the daemon serves `/metrics`.
pub const METRICS: &str = "127.0.0.1:9179";
/// A thread that could not act waits so long.
const REST: Duration = Duration::from_millis(10);
const CPUSETS: &str = "/sys/fs/cgroup/cpuset";

/// One CPU for all attackers.
#[derive(Debug)]
pub enum OneCpu {
    /// By a cgroup (version 1, whose cpusets take threads).
    Cgroup(PathBuf, usize),
    /// By each thread's affinity, where there is no such cgroup.
    Affinity(usize),
}

impl OneCpu {
    /// The last CPU of the machine, the others are the daemon's.
    pub fn last() -> OneCpu {
        let last = thread::available_parallelism().map_or(0, |count| count.get() - 1);
        let folder = Path::new(CPUSETS).join(format!("erdp-attack-{}", process::id()));
        let made = || -> std::io::Result<()> {
            fs::create_dir(&folder)?;
            let memory = fs::read_to_string(Path::new(CPUSETS).join("cpuset.mems"))?;
            fs::write(folder.join("cpuset.mems"), memory.trim())?;
            fs::write(folder.join("cpuset.cpus"), last.to_string())
        };
        match made() {
            Ok(()) => OneCpu::Cgroup(folder, last),
            Err(_) => {
                let _ = fs::remove_dir(&folder);
                OneCpu::Affinity(last)
            }
        }
    }

    /// This thread, and what it starts, stays there from here on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self) -> Result<()> {
        match self {
            OneCpu::Cgroup(folder, _) => {
                fs::write(folder.join("tasks"), gettid().to_string()).context("cpuset")
            }
            OneCpu::Affinity(cpu) => {
                let mut set = CpuSet::new();
                set.set(*cpu)?;
                sched_setaffinity(Pid::from_raw(0), &set).context("affinity")
            }
        }
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        if let OneCpu::Cgroup(folder, _) = self {
            // Its threads have ended; where one has not, the folder stays, and is empty after the process.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl fmt::Display for OneCpu {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OneCpu::Cgroup(folder, cpu) => write!(to, "CPU {cpu} by the cgroup {}", folder.display()),
            OneCpu::Affinity(cpu) => write!(to, "CPU {cpu} by affinity, as there is no cpuset of cgroup v1"),
        }
    }
}

/// Whom it is about.
#[derive(Clone, Debug)]
pub struct Victim {
    /// The control socket.
    pub control: PathBuf,
    /// The daemon's network namespace.
    pub edge: String,
    /// The customer's, from where a peer calls.
    pub customer: String,
}

/// What attacks, until it is dropped.
pub struct Attack {
    cpu: Arc<OneCpu>,
    end: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failure: Arc<Mutex<String>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Attack {
    /// Nobody yet.
    pub fn new(cpu: &Arc<OneCpu>) -> Self {
        let (end, done, failure) = <_>::default();
        Self { cpu: cpu.clone(), end, done, failure, threads: Vec::new() }
    }

    /// How often somebody has done what was wanted.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Why somebody could not, the last time.
    pub fn failure(&self) -> String {
        self.failure.lock().map_or_else(|_| "a panic".to_owned(), |failure| failure.clone())
    }

    /// So many threads in a namespace, each of which does something again and again.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn again(
        &mut self,
        namespace: &str,
        threads: usize,
        act: impl Fn() -> Result<()> + Clone + Send + 'static,
    ) -> Result<()> {
        for _ in 0..threads {
            let (cpu, end, act) = (self.cpu.clone(), self.end.clone(), act.clone());
            let (done, failure) = (self.done.clone(), self.failure.clone());
            self.threads.push(enter::on_thread(namespace, move || {
                cpu.enter()?;
                while !end.load(Ordering::Relaxed) {
                    match act() {
                        Ok(()) => _ = done.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            if let Ok(mut failure) = failure.lock() {
                                *failure = format!("{error:#}");
                            }
                            thread::sleep(REST);
                        }
                    }
                }
                Ok(())
            })?);
        }
        Ok(())
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that has panicked attacks no more.
            let _ = thread.join();
        }
    }
}

/// How an attack begins.
pub type Begin = fn(&Victim, &mut Attack) -> Result<()>;

/// What there is.
pub const ATTACKS: &[(&str, Begin)] = &[
    ("questions without end, and askers that do not read", questions),
    ("a peer's silent connections", silent_calls),
    ("a customer's router that fills the memory", memory),
    ("idle clients, and orders of clients that are gone", idle_clients),
    ("connections without end to every socket", connections),
    ("numbers and lines that nobody sends", numbers),
    ("scrapes beside idle connections", scrapes),
];

fn questions(victim: &Victim, attack: &mut Attack) -> Result<()> {
    for (threads, topic) in [(3, Topic::Routes), (1, Topic::Refused), (1, Topic::Drops)] {
        let control = victim.control.clone();
        attack.again(&victim.edge, threads, move || {
            Client::connect(&control)?.ask(&Request::Show(topic))?;
            Ok(())
        })?;
    }
    let control = victim.control.clone();
    attack.again(&victim.edge, 1, move || {
        let to = (0..500_u32).map(|at| IpAddr::from([10, (at >> 8) as u8, at as u8, 9])).collect();
        let (interface, ports) = ("ce0".to_owned(), (5, 3_478));
        let question = Question { interface, to, ports, ..Question::default() };
        Client::connect(&control)?.ask(&Request::Explain(question))?;
        Ok(())
    })?;
    let control = victim.control.clone();
    attack.again(&victim.edge, 1, move || {
        let ask = || line(&control, b"{\"protocol\":1,\"request\":{\"show\":\"routes\"}}\n");
        let deaf: Vec<UnixStream> = (0..30).filter_map(|_| ask().ok()).collect();
        thread::sleep(Duration::from_secs(1));
        ensure!(!deaf.is_empty(), "nobody is let in");
        Ok(())
    })
}

fn silent_calls(victim: &Victim, attack: &mut Attack) -> Result<()> {
    attack.again(&victim.customer, 4, || {
        let silent = call()?;
        thread::sleep(Duration::from_millis(500));
        drop(silent);
        Ok(())
    })
}

fn idle_clients(victim: &Victim, attack: &mut Attack) -> Result<()> {
    let control = victim.control.clone();
    attack.again(&victim.edge, 1, move || {
        let idle: Vec<UnixStream> = (0..60).filter_map(|_| UnixStream::connect(&control).ok()).collect();
        thread::sleep(Duration::from_secs(2));
        ensure!(!idle.is_empty(), "nobody is let in");
        Ok(())
    })?;
    let control = victim.control.clone();
    attack.again(&victim.edge, 2, move || {
        let order = b"{\"protocol\":1,\"request\":{\"peering\":{\"disable\":{\"name\":\"nobody\",\"text\":\"\",\"drain_ms\":0,\
                      \"force\":true}}}}\n";
        line(&control, order).map(drop)
    })
}

fn connections(victim: &Victim, attack: &mut Attack) -> Result<()> {
    let control = victim.control.clone();
    attack.again(&victim.edge, 1, move || {
        UnixStream::connect(&control)?;
        Ok(())
    })?;
    attack.again(&victim.edge, 1, || {
        TcpStream::connect(METRICS)?;
        Ok(())
    })?;
    attack.again(&victim.customer, 2, || {
        // It ends slowly: the daemon has something to say that nobody reads.
        let mut stream = call()?;
        stream.write_all(&[0xff; 19])?;
        Ok(())
    })
}

fn numbers(victim: &Victim, attack: &mut Attack) -> Result<()> {
    let lines: [&[u8]; 6] = [
        b"{\"protocol\":1,\"request\":{\"config\":{\"apply\":{\"file\":{\"path\":\"x\",\"text\":\"asn = 1\"},\"confirm_s\":18446744073709551615,\"no_flap\":false}}}}\n",
        b"{\"protocol\":1,\"request\":{\"drill\":{\"begin\":{\"link\":\"lab primary\",\"seconds\":18446744073709551615,\"force\":true}}}}\n",
        b"{\"protocol\":1,\"request\":{\"peering\":{\"disable\":{\"name\":\"lab\",\"text\":\"\",\"drain_ms\":18446744073709551615,\"force\":true}}}}\n",
        b"{\"protocol\":4294967296,\"request\":\"ready\"}\n",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
        b"\0\xff\xfe\n",
    ];
    for text in lines {
        let control = victim.control.clone();
        attack.again(&victim.edge, 1, move || {
            let mut stream = line(&control, text)?;
            let mut answer = [0; 64];
            let count = stream.read(&mut answer)?;
            let said = String::from_utf8_lossy(&answer[..count]);
            ensure!(said.contains("error"), "no refusal: {said}");
            Ok(())
        })?;
    }
    Ok(())
}

fn scrapes(victim: &Victim, attack: &mut Attack) -> Result<()> {
    attack.again(&victim.edge, 4, scrape)?;
    attack.again(&victim.edge, 1, || {
        let idle: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(METRICS).ok()).collect();
        thread::sleep(Duration::from_secs(2));
        ensure!(!idle.is_empty(), "nobody is let in");
        Ok(())
    })
}

fn memory(victim: &Victim, attack: &mut Attack) -> Result<()> {
    let done = attack.done.clone();
    attack.again(&victim.customer, 1, move || {
        let mut stream = session()?;
        for number in 0..20_000_u32 {
            // The daemon sends it away, and then lets it wait.
            if stream.write_all(&heavy(number)).is_err() {
                break;
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// A line to the control socket, whose answer nobody reads.
fn line(control: &Path, text: &[u8]) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(text)?;
    Ok(stream)
}

/// A page of metrics, read whole.
///
/// # Errors
/// When it does not come.
pub fn scrape() -> Result<()> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    ensure!(page.contains("erdp_uptime_seconds"), "no page");
    Ok(())
}

/// A connection from the customer's router to the daemon's BGP, from within the customer's namespace.
fn call() -> Result<TcpStream> {
    let (to, from) = (CE.0.0.parse::<IpAddr>()?, CE.0.1.parse::<IpAddr>()?);
    let to = SocketAddr::new(to, erdp::bgp::PORT);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// The customer's session, from within its namespace.
///
/// # Errors
/// When the daemon does not take it.
pub fn session() -> Result<TcpStream> {
    let mut stream = call()?;
    stream.write_all(&wire::encode_open(&wire::Open {
        asn: Asn(CUSTOMER),
        hold: Seconds(90),
        router_id: [198, 18, 1, 2].into(),
        families: vec![Family::Ipv4Unicast],
        four_octet_asn: true,
        route_refresh: true,
        enhanced_refresh: false,
        extended_messages: true,
        restart: None,
        roles: Vec::new(),
        add_path: Vec::new(),
    })?)?;
    for expected in [1, 4] {
        let mut header = [0; wire::HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])) - header.len()];
        stream.read_exact(&mut body)?;
        if header[18] != expected {
            bail!("message {} instead of {expected}", header[18]);
        }
        if expected == 1 {
            stream.write_all(&wire::encode_keepalive())?;
        }
    }
    Ok(stream)
}

/// A route with 56,000 octets of communities that no other has.
fn heavy(number: u32) -> Vec<u8> {
    const COMMUNITIES: usize = 56_000;
    let [_, a, b, c] = number.to_be_bytes();
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend_from_slice(&CUSTOMER.to_be_bytes());
    attributes.extend_from_slice(&[0x40, 3, 4, 198, 18, 1, 2, 0xd0, 8]);
    attributes.extend_from_slice(&(COMMUNITIES as u16).to_be_bytes());
    attributes.extend([9, a, b, c].repeat(COMMUNITIES / 4));
    let nlri = [32, 198, 18 + (a & 1), b, c];
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&((23 + attributes.len() + nlri.len()) as u16).to_be_bytes());
    message.extend_from_slice(&[2, 0, 0]);
    message.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    message.extend_from_slice(&attributes);
    message.extend_from_slice(&nlri);
    message
}
