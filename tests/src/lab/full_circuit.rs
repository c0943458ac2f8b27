//! A whole circuit as Microsoft hands it over: private and Microsoft peering on the primary and on the secondary link, behind two tags
//! each (C4), and a customer's router for each peering.
//!
//! ```text
//! msee-p1 --- 7.100 \                                        / 300 --- ce-p (private)
//! msee-m1 --- 7.200  === msee1 ===                          /
//!                                  edge (erdp) === ce0 ===
//! msee-p2 --- 7.100  === msee2 ===                          \
//! msee-m2 --- 7.200 /                                        \ 400 --- ce-m (Microsoft)
//! ```
//! Six BIRDs with both families. All wires end in tag switches, so frames can be put on them and everything that leaves the edge is seen
//! by its tags. Nothing that leaves the edge is without tags but what its kernel says of its own on the wires.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;

use super::{
    bird::{self, Neighbour, Router},
    cleanup::{self, Guard},
    netns::Namespace,
    plan,
    process::Process,
    tag_switch::{Port, TagSwitch},
};
use crate::edge::{self, Edge};

/// The names of the wires at the edge.
pub const WIRES: [&str; 3] = ["msee1", "msee2", "ce0"];

const CONFIGURATION: &str = r#"
asn = 65010

[[circuit]]
name = "lab"
bandwidth = "10G"
s-vlan = 7
primary = { local = "msee1" }
secondary = { local = "msee2" }

[circuit.private]
ipv4 = "198.18.0.0/29"
ipv6 = "fd00:0:0:10::/125"
vlan = 100

[circuit.microsoft]
ipv4 = "198.18.0.16/29"
ipv6 = "fd00:0:0:20::/125"
vlan = 200

[[attachment]]
interface = "ce0"
vlan = 300
peerings = ["lab/private"]
ipv4 = "198.18.1.1/30"
ipv6 = "fd00:0:0:1::1/64"
peers = [{ address = "198.18.1.2", asn = 65020 }, { address = "fd00:0:0:1::2", asn = 65020 }]

[[attachment]]
interface = "ce0"
vlan = 400
peerings = ["lab/microsoft"]
ipv4 = "198.18.2.1/30"
ipv6 = "fd00:0:0:2::1/64"
peers = [{ address = "198.18.2.2", asn = 65020 }, { address = "fd00:0:0:2::2", asn = 65020 }]
"#;

/// The two peerings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peering {
    /// Private peering.
    Private,
    /// Microsoft peering.
    Microsoft,
}

/// A neighbour of the edge.
#[derive(Debug)]
pub struct Side {
    /// Its namespace.
    pub name: &'static str,
    /// Its wire, by its place in [`WIRES`].
    pub wire: usize,
    /// Its tags there, outer first.
    pub tags: &'static [u16],
    /// What it is on.
    pub peering: Peering,
    /// Whether it is Microsoft's end.
    pub is_msee: bool,
    /// Its addresses, by family.
    pub theirs: [&'static str; 2],
    /// The edge's.
    pub ours: [&'static str; 2],
    lengths: [u8; 2],
    /// What it announces.
    pub announced: [&'static str; 2],
}

const PRIVATE_VNETS: [&str; 2] = ["198.18.192.0/24", "fd00:0:0:c0::/64"];
const SERVICES: [&str; 2] = ["198.19.192.0/24", "2603:1000::/32"];

/// All of them. Those of one peering and end announce the same, as the two MSEEs of a circuit do.
pub const SIDES: [Side; 6] = [
    Side {
        name: "msee-p1",
        wire: 0,
        tags: &[7, 100],
        peering: Peering::Private,
        is_msee: true,
        theirs: ["198.18.0.2", "fd00:0:0:10::2"],
        ours: ["198.18.0.1", "fd00:0:0:10::1"],
        lengths: [30, 126],
        announced: PRIVATE_VNETS,
    },
    Side {
        name: "msee-m1",
        wire: 0,
        tags: &[7, 200],
        peering: Peering::Microsoft,
        is_msee: true,
        theirs: ["198.18.0.18", "fd00:0:0:20::2"],
        ours: ["198.18.0.17", "fd00:0:0:20::1"],
        lengths: [30, 126],
        announced: SERVICES,
    },
    Side {
        name: "msee-p2",
        wire: 1,
        tags: &[7, 100],
        peering: Peering::Private,
        is_msee: true,
        theirs: ["198.18.0.6", "fd00:0:0:10::6"],
        ours: ["198.18.0.5", "fd00:0:0:10::5"],
        lengths: [30, 126],
        announced: PRIVATE_VNETS,
    },
    Side {
        name: "msee-m2",
        wire: 1,
        tags: &[7, 200],
        peering: Peering::Microsoft,
        is_msee: true,
        theirs: ["198.18.0.22", "fd00:0:0:20::6"],
        ours: ["198.18.0.21", "fd00:0:0:20::5"],
        lengths: [30, 126],
        announced: SERVICES,
    },
    Side {
        name: "ce-p",
        wire: 2,
        tags: &[300],
        peering: Peering::Private,
        is_msee: false,
        theirs: ["198.18.1.2", "fd00:0:0:1::2"],
        ours: ["198.18.1.1", "fd00:0:0:1::1"],
        lengths: [30, 64],
        announced: ["198.18.64.0/24", "fd00:0:0:64::/64"],
    },
    Side {
        name: "ce-m",
        wire: 2,
        tags: &[400],
        peering: Peering::Microsoft,
        is_msee: false,
        theirs: ["198.18.2.2", "fd00:0:0:2::2"],
        ours: ["198.18.2.1", "fd00:0:0:2::1"],
        lengths: [30, 64],
        announced: ["198.19.64.0/24", "2a01:1000::/32"],
    },
];

impl Side {
    /// Whether the address is its own, or in a prefix that it has announced.
    pub fn has(&self, address: IpAddr) -> bool {
        let mut nets = self.announced.iter().filter_map(|net| net.parse::<IpNet>().ok());
        self.theirs.iter().any(|own| own.parse() == Ok(address)) || nets.any(|net| net.contains(&address))
    }

    fn router(&self) -> Result<Router> {
        let session = |family: usize| Neighbour {
            name: format!("edge{family}"),
            local: self.theirs[family],
            remote: self.ours[family],
            asn: plan::EDGE_ASN,
        };
        let announced = self.announced.iter().map(|net| net.parse().context("a prefix"));
        Ok(Router {
            namespace: self.name,
            asn: if self.is_msee { plan::MSEE_ASN } else { plan::CE_ASN },
            id: self.theirs[0],
            neighbours: vec![session(0), session(1)],
            announced: announced.collect::<Result<_>>()?,
            transit: false,
        })
    }
}

/// Sees each frame that leaves the edge, with its side's place in [`SIDES`]; `true`: it goes no further.
pub type Watch = dyn Fn(usize, &[u8]) -> bool + Send + Sync;

/// The lab. The order of the fields is that of the end.
#[derive(Debug)]
pub struct FullCircuit {
    /// The daemon.
    pub edge: Edge,
    _routers: Vec<Process>,
    wires: Vec<TagSwitch>,
    /// The edge's namespace.
    pub middle: Namespace,
    _around: Vec<Namespace>,
    folder: PathBuf,
    _guard: Guard,
}

impl FullCircuit {
    /// Brings it up and waits until all twelve sessions are Established and everybody has the other end's prefixes.
    ///
    /// # Errors
    /// Names what does not come up.
    pub fn up(watch: Arc<Watch>) -> Result<FullCircuit> {
        FullCircuit::up_with(&edge::binary()?, CONFIGURATION, watch)
    }

    /// The same with another build of `erdp` and a configuration of its own, which has these sessions.
    ///
    /// # Errors
    /// As [`FullCircuit::up`].
    pub fn up_with(binary: &Path, configuration: &str, watch: Arc<Watch>) -> Result<FullCircuit> {
        cleanup::on_signals()?;
        let name = super::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let middle = Namespace::add(&format!("{name}-edge"))?;
        let around: Vec<Namespace> = SIDES
            .iter()
            .map(|side| Namespace::add(&format!("{name}-{}", side.name)))
            .collect::<Result<_>>()?;
        let wires =
            (0..WIRES.len()).map(|wire| switch(wire, &middle, &around, &watch)).collect::<Result<_>>()?;
        let mut routers = Vec::new();
        for (side, namespace) in SIDES.iter().zip(&around) {
            for (address, length) in side.theirs.iter().zip(side.lengths) {
                namespace.address("edge0", &format!("{address}/{length}"))?;
            }
            routers.push(bird::start_in(namespace, &folder, &side.router()?)?);
        }
        let file = folder.join("edge.toml");
        fs::write(&file, configuration).with_context(|| format!("cannot write {}", file.display()))?;
        let edge = Edge::start_binary(binary, middle.command("env")?, &folder, &file)?;
        let mut lab =
            FullCircuit { edge, _routers: routers, wires, middle, _around: around, folder, _guard: guard };
        lab.until("twelve sessions Established", FullCircuit::is_established)?;
        lab.until("everybody has the other end's prefixes", FullCircuit::is_converged)?;
        Ok(lab)
    }

    /// Whether every session is.
    ///
    /// # Errors
    /// None: who does not answer is not Established.
    pub fn is_established(&self) -> Result<bool> {
        let sessions = self.edge.sessions().unwrap_or_default();
        Ok(sessions.len() == 2 * SIDES.len() && sessions.iter().all(|it| it.state == "Established"))
    }

    fn is_converged(&self) -> Result<bool> {
        for side in &SIDES {
            let routes = bird::ask_in(&self.folder, side.name, &["show", "route"])?;
            let of_others = |it: &&Side| it.peering == side.peering && it.is_msee != side.is_msee;
            let mut wanted = SIDES.iter().filter(of_others).flat_map(|other| other.announced);
            if !wanted.all(|prefix| routes.contains(prefix)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a frame on a wire towards the edge.
    ///
    /// # Errors
    /// When there is no such wire or it does not take it.
    pub fn inject(&self, wire: usize, frame: &[u8]) -> Result<()> {
        self.wires.get(wire).context("no such wire")?.inject(frame)
    }

    /// Where files may be put.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a side's BIRD says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn birdc(&self, side: &Side, words: &[&str]) -> Result<String> {
        bird::ask_in(&self.folder, side.name, words)
    }

    /// Frames of a side by its place: from the edge and to it.
    pub fn seen(&self, side: usize) -> (u64, u64) {
        let Some(Side { wire, .. }) = SIDES.get(side) else { return (0, 0) };
        let port = SIDES[..side].iter().filter(|other| other.wire == *wire).count();
        self.wires.get(*wire).map_or((0, 0), |switch| switch.seen(port))
    }

    /// Frames with tags that nobody has.
    pub fn strangers(&self) -> u64 {
        self.wires.iter().map(TagSwitch::strangers).sum()
    }

    /// Waits until `done`, asking again and again.
    ///
    /// # Errors
    /// That it waited in vain, with what the daemon says of itself.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !done(self)? {
            self.edge.must_run()?;
            if begin.elapsed() > Duration::from_secs(40) {
                let table = |topic| self.edge.table(topic).unwrap_or_default();
                let (sessions, counters) = (table("sessions"), table("counters"));
                bail!("waited in vain for {what}\n{sessions}\n{counters}\n{}", self.edge.process().tail(30));
            }
            thread::sleep(Duration::from_millis(200));
        }
        println!("  {what}: after {:.1} s", begin.elapsed().as_secs_f32());
        Ok(())
    }
}

fn switch(wire: usize, middle: &Namespace, around: &[Namespace], watch: &Arc<Watch>) -> Result<TagSwitch> {
    let here = || SIDES.iter().enumerate().filter(|(_, side)| side.wire == wire);
    let ports: Vec<Port<'_>> = here()
        .map(|(at, side)| Port { tags: side.tags.to_vec(), namespace: &around[at], interface: "edge0" })
        .collect();
    // By the tags as they stand in a frame, each with the ethertype 0x8100.
    let places: Vec<(usize, Vec<u8>)> = here()
        .map(|(at, side)| {
            (at, side.tags.iter().flat_map(|vid| [&[0x81, 0][..], &vid.to_be_bytes()].concat()).collect())
        })
        .collect();
    let watch = Arc::clone(watch);
    let watch = Arc::new(move |frame: &[u8]| {
        let side = places.iter().find(|(_, tags)| frame.get(12..).is_some_and(|rest| rest.starts_with(tags)));
        side.is_some_and(|(at, _)| watch(*at, frame))
    });
    TagSwitch::start_watched(middle, WIRES[wire], &ports, watch)
}
