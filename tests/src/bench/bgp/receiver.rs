//! Who receives the stream: `erdp` to its BPF maps, BIRD and FRR to the kernel's routing tables, each as a process of its own in a
//! namespace of its own, one at a time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use erdp::control::{Request, Topic, client::Client};
use serde::Serialize;

use crate::{
    edge,
    lab::{enter, netns::Namespace, process::Process},
};

/// Whose time is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The controller, to the last entry in the maps of the loaded program.
    Erdp,
    /// BIRD 2, to the last route in the kernel.
    Bird,
    /// FRR's bgpd and zebra, to the last route in the kernel.
    Frr,
}

/// A running receiver.
pub struct Receiver {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) folder: PathBuf,
    pub(super) processes: Vec<Process>,
    control: PathBuf,
    /// Views of the routing table that hold each route, ours only.
    views: u64,
    /// Routes that are there without any session.
    own: u64,
}

/// The configuration of the edge: one circuit whose two MSEEs are the sender, and a customer's side with `peers` routers.
pub fn edge_configuration(peers: usize) -> String {
    let peers: Vec<String> = (0..peers)
        .map(|at| format!("{{ address = \"198.18.10.{}\", asn = 65020, passive = true }}", 10 + at))
        .collect();
    format!(
        "asn = 65010\n[[circuit]]\nname = \"x\"\nbandwidth = \"10G\"\nsku = \"premium\"\n\
         primary = {{ local = \"up0\" }}\nsecondary = {{ local = \"up1\" }}\n[circuit.private]\nipv4 = \"198.18.0.0/29\"\n\
         ipv6 = \"fd00:18::/125\"\npassive = true\n[[attachment]]\ninterface = \"ce0\"\npeerings = [\"x/private\"]\n\
         ipv4 = \"198.18.10.1/24\"\nipv6 = \"fd00:10::1/64\"\npeers = [{}]\n",
        peers.join(", ")
    )
}

const BIRD: &str = "router id 198.18.0.1;\nprotocol device {}\n\
    protocol kernel { ipv4 { import none; export all; }; }\nprotocol kernel { ipv6 { import none; export all; }; }\n\
    protocol bgp a4 { local 198.18.0.1 as 65010; neighbor 198.18.0.2 as 12076; passive on; ipv4 { import all; export none; }; }\n\
    protocol bgp a6 { local fd00:18::1 as 65010; neighbor fd00:18::2 as 12076; passive on; ipv6 { import all; export none; }; }\n\
    protocol bgp b4 { local 198.18.0.5 as 65010; neighbor 198.18.0.6 as 12076; passive on; ipv4 { import all; export none; }; }\n\
    protocol bgp b6 { local fd00:18::5 as 65010; neighbor fd00:18::6 as 12076; passive on; ipv6 { import all; export none; }; }\n";

const BGPD: &str = "router bgp 65010\n bgp router-id 198.18.0.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
    neighbor 198.18.0.2 remote-as 12076\n neighbor 198.18.0.2 passive\n neighbor fd00:18::2 remote-as 12076\n \
    neighbor fd00:18::2 passive\n neighbor 198.18.0.6 remote-as 12076\n neighbor 198.18.0.6 passive\n \
    neighbor fd00:18::6 remote-as 12076\n neighbor fd00:18::6 passive\n \
    address-family ipv4 unicast\n  neighbor 198.18.0.2 activate\n  neighbor 198.18.0.6 activate\n exit-address-family\n \
    address-family ipv6 unicast\n  neighbor fd00:18::2 activate\n  neighbor fd00:18::6 activate\n exit-address-family\n";

impl Receiver {
    /// Starts one in a namespace that has the links.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(kind: Kind, namespace: &Namespace, folder: &Path, peers: usize) -> Result<Self> {
        let mut receiver = Self::new(kind, namespace, folder);
        match kind {
            Kind::Erdp => receiver.erdp(namespace, folder, &edge_configuration(peers))?,
            Kind::Bird => receiver.bird(namespace, folder)?,
            Kind::Frr => receiver.frr(namespace, folder)?,
        }
        receiver.own = receiver.counted()?;
        Ok(receiver)
    }

    fn new(kind: Kind, namespace: &Namespace, folder: &Path) -> Self {
        Self {
            kind,
            namespace: namespace.name().to_owned(),
            folder: folder.to_owned(),
            processes: Vec::new(),
            control: folder.join("control"),
            views: 1,
            own: 0,
        }
    }

    /// Starts `erdp` with another configuration.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn erdp_with(namespace: &Namespace, folder: &Path, configuration: &str) -> Result<Self> {
        let mut receiver = Self::new(Kind::Erdp, namespace, folder);
        receiver.erdp(namespace, folder, configuration)?;
        receiver.own = receiver.counted()?;
        Ok(receiver)
    }

    fn erdp(&mut self, namespace: &Namespace, folder: &Path, configuration: &str) -> Result<()> {
        let file = folder.join("erdp.toml");
        fs::write(&file, configuration)?;
        let mut command = namespace.command(edge::binary()?)?;
        command.arg("run").arg("--config").arg(&file).arg("--control").arg(&self.control);
        command.env("ERDP_LOG", "warn");
        self.processes.push(Process::start("erdp", command, folder)?);
        // The MSEEs and the customer have the same sources, and so one routing table.
        self.views = 1;
        self.until_it_answers()
    }

    fn bird(&mut self, namespace: &Namespace, folder: &Path) -> Result<()> {
        let file = folder.join("bird.conf");
        fs::write(&file, BIRD)?;
        let mut command = namespace.command("/usr/sbin/bird")?;
        command
            .arg("-f")
            .arg("-c")
            .arg(&file)
            .arg("-s")
            .arg(&self.control)
            .arg("-P")
            .arg(folder.join("bird.pid"));
        self.processes.push(Process::start("bird", command, folder)?);
        self.until_it_answers()
    }

    fn frr(&mut self, namespace: &Namespace, folder: &Path) -> Result<()> {
        crate::lab::frr::hand_over(folder)?;
        for (daemon, config) in [("zebra", ""), ("bgpd", BGPD)] {
            let file = folder.join(format!("{daemon}.conf"));
            fs::write(&file, config)?;
            let mut command = namespace.command(Path::new("/usr/lib/frr").join(daemon))?;
            command.arg("-f").arg(&file).arg("-i").arg(folder.join(format!("{daemon}.pid")));
            command.arg("-z").arg(folder.join("zserv.api")).arg("--vty_socket").arg(folder);
            command.args(["-P", "0", "--log", "stdout"]);
            self.processes.push(Process::start(daemon, command, folder)?);
            self.control = folder.join(format!("{daemon}.vty"));
            self.until_it_answers()?;
        }
        Ok(())
    }

    fn until_it_answers(&mut self) -> Result<()> {
        for _ in 0..200 {
            self.must_run()?;
            if self.control.exists() && (self.kind != Kind::Erdp || self.counted().is_ok()) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        bail!("{:?} does not answer", self.kind)
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// That it has ended, with its last words.
    pub fn must_run(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::must_run)
    }

    /// How many routes of the stream packets can take now.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn installed(&self) -> Result<u64> {
        Ok(self.counted()?.saturating_sub(self.own) / self.views)
    }

    fn counted(&self) -> Result<u64> {
        match self.kind {
            Kind::Erdp => {
                let value = self.ask(Topic::Counters)?;
                value["fib"]["routes"].as_u64().context("no number of routes")
            }
            Kind::Bird | Kind::Frr => enter::run(&self.namespace, kernel_routes),
        }
    }

    /// `erdp show`.
    ///
    /// # Errors
    /// Its own message.
    pub fn ask(&self, topic: Topic) -> Result<serde_json::Value> {
        Ok(Client::connect(&self.control)?.ask(&Request::Show(topic))?)
    }

    /// The largest resident memory of its processes together, in KiB.
    ///
    /// # Errors
    /// When one has ended.
    pub fn peak_kib(&self) -> Result<u64> {
        let peak = |process: &Process| -> Result<u64> {
            let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        self.processes.iter().map(peak).sum()
    }

    /// Whether [`Receiver::installed`] costs next to nothing.
    pub fn is_cheap_to_ask(&self) -> bool {
        self.kind == Kind::Erdp
    }
}

/// Routes in the kernel's tables of this thread's namespace: leaves of the IPv4 trie, entries of the IPv6 tree.
fn kernel_routes() -> Result<u64> {
    let stat = fs::read_to_string("/proc/thread-self/net/fib_triestat").context("no fib_triestat")?;
    // The main and the local table are one trie (without rules), which is then described twice.
    let v4: u64 = stat
        .lines()
        .find_map(|line| line.trim().strip_prefix("Prefixes:")?.trim().parse().ok())
        .context("fib_triestat has another shape")?;
    let v6 = fs::read_to_string("/proc/thread-self/net/rt6_stats").context("no rt6_stats")?;
    // Nodes, route nodes, allocated, entries, ...: hexadecimal (Linux, net/ipv6/route.c).
    let entries = v6.split_whitespace().nth(3).and_then(|word| u64::from_str_radix(word, 16).ok());
    Ok(v4 + entries.context("rt6_stats has another shape")?)
}

/// Whether the programs are here.
pub fn missing() -> Option<&'static str> {
    [("/usr/sbin/bird", "BIRD (bird2)"), ("/usr/lib/frr/bgpd", "FRR (frr)"), ("/usr/bin/gzip", "gzip")]
        .into_iter()
        .find(|(path, _)| !Path::new(path).exists())
        .map(|(_, name)| name)
}
