//! The way that the TCP flows take: client -> edge (the shipped program on both ports) -> delay line -> server, and back.
//!
//! | namespace | interfaces | what is there |
//! |---|---|---|
//! | client | c0 | iperf3's client, 198.18.1.2 |
//! | edge | e0, e1 | erdp, native, with its records written by hand: e0 is the customer's port, e1 the MSEE's |
//! | wire | d0, d1 | the delay line; `tbf` on d1 where it stands in for the policer |
//! | server | s0 | iperf3's server, 198.18.2.2 |
//!
//! Segmentation and receive offloads are off at all ends, so that the policer sees packets of the MTU. A port that XDP redirects
//! to needs a far end with NAPI: a program that passes everything is attached there (receive offload would do, but glue packets).

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Xdp, XdpMode},
};
use erdp::dataplane::{
    Dataplane as _, Mode, Record,
    aya::{AyaDataplane, LoadOptions},
};
use erdp_common::{
    abi::{
        ATTACHMENT_ENABLED, ATTACHMENT_MSEE, Attachment, L2_MAX, NEXT_HOP_MSEE, NEXT_HOP_RESOLVED, NextHop,
        Policer, Port, QosProfile,
    },
    classify::Class,
    fib::build::{Fib, Prefix},
    policer::{BurstPolicy, Rates},
};
use nix::net::if_::if_nametoindex;

use super::line::Line;
use crate::{
    bench::arena::xdp,
    lab::{
        cleanup::{self, Guard},
        enter,
        netns::{Namespace, connect},
        new_name,
        process::Process,
    },
    packets::forward,
};

/// Where the server is.
pub const SERVER: &str = "198.18.2.2";
const POLICER: u16 = 1;
const PROFILE: u16 = 1;

/// The namespaces, in the order in which they are made.
pub struct Stand {
    /// Where iperf3's client runs.
    pub client: Namespace,
    edge: Namespace,
    wire: Namespace,
    server: Namespace,
    folder: std::path::PathBuf,
    _folder_guard: Guard,
}

impl Stand {
    /// Namespaces, links, addresses.
    pub fn new() -> Result<Self> {
        cleanup::on_signals()?;
        cleanup::sweep();
        let name = new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let namespace = |short: &str| Namespace::add(&format!("{name}-{short}"));
        let stand = Self {
            client: namespace("client")?,
            edge: namespace("edge")?,
            wire: namespace("wire")?,
            server: namespace("server")?,
            folder,
            _folder_guard: guard,
        };
        stand.connect().context("cannot connect the namespaces")?;
        Ok(stand)
    }

    fn connect(&self) -> Result<()> {
        for namespace in [&self.client, &self.edge, &self.wire, &self.server] {
            for kind in ["all", "default"] {
                namespace.sysctl(&format!("ipv6/conf/{kind}/disable_ipv6"), "1")?;
            }
        }
        connect((&self.client, "c0"), (&self.edge, "e0"))?;
        connect((&self.edge, "e1"), (&self.wire, "d0"))?;
        connect((&self.wire, "d1"), (&self.server, "s0"))?;
        let ends = [
            (&self.client, "c0", 1),
            (&self.edge, "e0", 2),
            (&self.edge, "e1", 3),
            (&self.wire, "d0", 4),
            (&self.wire, "d1", 5),
            (&self.server, "s0", 6),
        ];
        for (namespace, interface, number) in ends {
            namespace.ip(&format!("link set {interface} address 02:00:00:00:00:0{number}"))?;
            let off = ["-K", interface, "gro", "off", "gso", "off", "tso", "off", "tx", "off"];
            namespace.exec("ethtool", &off).context("cannot switch offloads off")?;
        }
        for (host, interface, net, gateway) in [(&self.client, "c0", 1, 2), (&self.server, "s0", 2, 3)] {
            host.address(interface, &format!("198.18.{net}.2/24"))?;
            let neighbour = format!("198.18.{net}.1 lladdr 02:00:00:00:00:0{gateway} dev {interface}");
            host.ip(&format!("neighbour replace {neighbour} nud permanent"))?;
            host.ip(&format!("route replace default via 198.18.{net}.1"))?;
            for (key, value) in [
                ("tcp_wmem", "4096 262144 33554432"),
                ("tcp_rmem", "4096 262144 33554432"),
                ("tcp_no_metrics_save", "1"),
            ] {
                host.sysctl(&format!("ipv4/{key}"), value)?;
            }
        }
        Ok(())
    }

    /// Loads erdp and attaches it; the programs stay as long as the answer.
    pub fn router(&self, object: &[u8]) -> Result<Router> {
        let object = object.to_vec();
        let passing = [(self.client.name(), "c0"), (self.wire.name(), "d0")].map(|(namespace, interface)| {
            let object = object.clone();
            enter::run(namespace, move || pass_everything(&object, interface))
        });
        let [one, other] = passing;
        let dataplane = enter::run(self.edge.name(), dataplane)?;
        Ok(Router { dataplane, _passing: [one?, other?] })
    }

    /// The delay line.
    pub fn line(&self) -> Result<Line> {
        Line::start(self.wire.name(), ["d0", "d1"])
    }

    /// iperf3's server, for all cells.
    pub fn server(&self) -> Result<Process> {
        let mut command = self.server.command("nice")?;
        command.args(["-n", "-10", "iperf3", "--server", "--bind", SERVER]);
        let mut process = Process::start("iperf3-server", command, &self.folder)?;
        // It says when it listens only by listening.
        thread::sleep(Duration::from_millis(300));
        process.must_run()?;
        Ok(process)
    }

    /// Whether both hosts ask for ECN (RFC 3168).
    pub fn set_ecn(&self, on: bool) -> Result<()> {
        [&self.client, &self.server]
            .into_iter()
            .try_for_each(|host| host.sysctl("ipv4/tcp_ecn", if on { "1" } else { "0" }))
    }

    /// A token bucket with a queue behind the line, in place of the policer; `None`: nothing.
    pub fn shape(&self, tbf: Option<&str>) -> Result<()> {
        let words = match tbf {
            Some(tbf) => format!("qdisc replace dev d1 root tbf {tbf}"),
            None => "qdisc replace dev d1 root noqueue".to_owned(),
        };
        self.wire.exec("tc", &words.split(' ').collect::<Vec<_>>()).map(drop)
    }
}

/// The loaded programs.
pub struct Router {
    dataplane: AyaDataplane,
    _passing: [Ebpf; 2],
}

impl Router {
    /// The circuit's rate from now on, its credit used up; `None`: not policed.
    pub fn police(&mut self, megabits: Option<u64>, ecn: bool) -> Result<Policer> {
        let rates = Rates { ecn, ..Rates::new(megabits.unwrap_or(1) * 1_000_000, BurstPolicy::Peak2x) };
        let policer = rates.policer().map_err(|error| anyhow::anyhow!("{error}"))?;
        self.dataplane.write(&Record::Policer(POLICER, policer))?;
        let now = self.dataplane.clock();
        let [default, ..] = policer.sustained_tolerance;
        self.dataplane.write(&Record::Bucket(POLICER, [now + default, now, now, now]))?;
        self.dataplane.write(&Record::NextHop(1, to_server(megabits.is_some())))?;
        Ok(policer)
    }

    /// Packets by passage since the programs were loaded.
    pub fn passages(&self) -> [u64; 4] {
        self.dataplane.policed(POLICER, Class::Default).map(|tally| tally.packets)
    }
}

/// erdp in the edge's namespace, on both ports.
fn dataplane() -> Result<AyaDataplane> {
    let mut dataplane = AyaDataplane::load(LoadOptions { fib_blocks: 1_024, ..LoadOptions::default() })?;
    let store = dataplane.take_store().context("the store is taken already")?;
    let mut fib = Fib::new(store);
    let full = |_| anyhow::anyhow!("the pool is full");
    let mut table = fib.create_table().map_err(full)?;
    for (net, group) in [(2, 1), (1, 2)] {
        fib.insert(&mut table, Prefix::v4([198, 18, net, 0], 24), group, 0).map_err(full)?;
        dataplane.write(&Record::Group(group, forward(&[group as u16])))?;
    }
    for (id, port, side) in [(1, "e0", 0), (2, "e1", ATTACHMENT_MSEE)] {
        let ifindex = if_nametoindex(port)?;
        let (root4, flags) = (table.root(), ATTACHMENT_ENABLED | side);
        dataplane.write(&Record::Attachment(
            id,
            Attachment { root4, root6: root4, flags, ..Attachment::default() },
        ))?;
        dataplane.write(&Record::Port(ifindex, Port { attachment: id, ..Port::default() }))?;
        dataplane.write(&Record::TxPort(id, ifindex))?;
        dataplane.write(&Record::Link(id, true))?;
    }
    dataplane.write(&Record::Profile(PROFILE, QosProfile::private()))?;
    dataplane.write(&Record::NextHop(1, to_server(false)))?;
    dataplane.write(&Record::NextHop(2, next_hop(1, [1, 2], 0)))?;
    for port in ["e0", "e1"] {
        dataplane.attach(port, if_nametoindex(port)?, Mode::Native)?;
    }
    Ok(dataplane)
}

fn to_server(policed: bool) -> NextHop {
    let policer = if policed { POLICER } else { 0 };
    NextHop { policer, profile: PROFILE, ..next_hop(2, [6, 3], NEXT_HOP_MSEE) }
}

/// Out of an attachment, from one of our own MAC addresses to another.
fn next_hop(attachment: u16, [to, from]: [u8; 2], flags: u32) -> NextHop {
    let mut l2 = [0; L2_MAX];
    l2[..12].copy_from_slice(&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from]);
    let flags = flags | NEXT_HOP_RESOLVED;
    NextHop { flags, attachment, link: attachment, mtu: 1500, l2_len: 12, l2, ..NextHop::default() }
}

fn pass_everything(object: &[u8], interface: &str) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    ["FIB_BLOCKS", "LPM4", "LPM6"].iter().for_each(|map| {
        loader.map_max_entries(map, 1);
    });
    let mut ebpf = loader.load(object).context("the benchmark's object")?;
    let program: &mut Xdp = xdp(&mut ebpf, "bench_empty")?;
    program.load()?;
    program.attach_to_if_index(if_nametoindex(interface)?, XdpMode::Driver)?;
    Ok(ebpf)
}
