//! Where the contestants meet: a fresh network namespace with three ports, both loaded objects and the kernel's own table, all
//! with the same routes; and the driver that gives each run of any of them another destination.
//!
//! Port 0 is the customer's, 1 and 2 lead to the two MSEEs. Nothing leaves the namespace: a test run does not transmit.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    maps::{Array, DevMap, LpmTrie, MapData, ProgramArray, lpm_trie::Key},
    programs::{ProgramFd, Xdp},
};
use erdp::dataplane::{
    Dataplane as _, Record,
    aya::{AyaDataplane, LoadOptions},
    question::Question,
};
use erdp_common::{
    abi::{
        ATTACHMENT_ENABLED, ATTACHMENT_MSEE, Attachment, BFD_SESSION_WORDS, L2_MAX, NEXT_HOP_MSEE,
        NEXT_HOP_RESOLVED, NextHop, Port, QosProfile, Vlan,
    },
    bench::TEMPLATE,
    bfd::{MICROSECOND, deadline},
    fib::build::{Fib, Prefix, Store, Table},
    policer::{BurstPolicy, Rates},
};
use ipnet::IpNet;
use nix::{
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
};

use super::routes::{DESTINATIONS, Routes, Version, bits};
use crate::packets::forward;

const XDP_ABORTED: u32 = 0;
const XDP_DROP: u32 = 1;
const XDP_REDIRECT: u32 = 4;
/// Next hop and group numbers of the two links; group 1 is both.
const GROUPS: [&[u16]; 3] = [&[1, 2], &[1], &[2]];

/// Behind a program's name: right after the one before it, without a lap to warm the caches.
pub const COLD: &str = ", cold";

/// Tags of a frame, or of what it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// None.
    None,
    /// Two: 802.1Q in 802.1Q.
    Two,
}

/// A loaded forwarding table: the trie in the map and its routes.
pub struct Trie {
    /// The pool.
    pub fib: Fib<Box<dyn Store + Send>>,
    /// The one table.
    pub table: Table,
}

/// Both objects, filled with one table.
pub struct Arena {
    shipped: AyaDataplane,
    over_lpm: AyaDataplane,
    course: Array<MapData, [u64; 16]>,
    destinations: Array<MapData, [u64; 2]>,
    contestant: ProgramArray<MapData>,
    version: Version,
    root: u32,
    ports: [u32; 3],
    frame: Vec<u8>,
}

impl Arena {
    /// A new network namespace for this thread, and everything in it but routes.
    pub fn new(object: &[u8], fib_blocks: u32) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        let ports = ports()?;
        let options = LoadOptions { fib_blocks, ..LoadOptions::default() };
        let mut shipped = AyaDataplane::load(options)?;
        let mut over_lpm = AyaDataplane::load_object(object, options)?;
        let ebpf = over_lpm.object_mut();
        for (name, program) in ebpf.programs_mut() {
            if name.starts_with("bench_") || name.starts_with("lookup_") || name.starts_with("chained_") {
                let program: &mut Xdp = program.try_into()?;
                program.load().with_context(|| format!("the kernel refuses {name}"))?;
            }
        }
        let course = Array::try_from(take(ebpf, "COURSE")?)?;
        let destinations = Array::try_from(take(ebpf, "DESTINATIONS")?)?;
        let contestant = ProgramArray::try_from(take(ebpf, "CONTESTANT")?)?;
        let mut by_index: DevMap<MapData> = DevMap::try_from(take(ebpf, "PORTS_BY_INDEX")?)?;
        for port in ports {
            by_index.set(port, port, None, 0)?;
        }
        for dataplane in [&mut shipped, &mut over_lpm] {
            for record in records(ports)? {
                dataplane.write(&record)?;
            }
            dataplane.write(&Record::Bucket(1, [dataplane.clock(); 4]))?;
        }
        let (version, frame) = (Version::V4, Vec::new());
        Ok(Self { shipped, over_lpm, course, destinations, contestant, version, root: 0, ports, frame })
    }

    /// The trie's pools: of the shipped object and of the other one.
    pub fn take_tries(&mut self) -> Result<[Trie; 2]> {
        Ok([trie(&mut self.shipped)?, trie(&mut self.over_lpm)?])
    }

    /// Gives every forwarder this table: the trie and the kernel's trie by their maps, the kernel's routing by `ip` unless
    /// `kernel` is false.
    pub fn load(&mut self, routes: &Routes, kernel: bool) -> Result<()> {
        self.version = routes.version;
        for trie in &mut self.take_tries()? {
            fill(trie, routes.version, &routes.prefixes)?;
            self.root = trie.table.root();
        }
        for dataplane in [&mut self.shipped, &mut self.over_lpm] {
            for (id, port) in [(1, false), (2, true), (3, true)] {
                let record = attachment(port, self.root);
                dataplane.write(&Record::Attachment(id, record))?;
            }
            dataplane.write(&Record::Attachment(4, attachment(false, self.root)))?;
        }
        Lpm::take(&mut self.over_lpm, routes.version)?.fill(&routes.prefixes)?;
        if kernel {
            kernel_routes(routes)?;
        }
        Ok(())
    }

    /// The kernel's trie of the benchmark's object.
    pub fn take_lpm(&mut self, version: Version) -> Result<Lpm> {
        Lpm::take(&mut self.over_lpm, version)
    }

    /// What leaves towards the MSEEs has these tags.
    pub fn set_egress(&mut self, tags: Tags) -> Result<()> {
        for dataplane in [&mut self.shipped, &mut self.over_lpm] {
            for link in 1..=2 {
                dataplane.write(&Record::NextHop(link, next_hop(link, tags)))?;
            }
        }
        Ok(())
    }

    /// From here on every frame is dropped as soon as it is known where it came in.
    pub fn disable(&mut self) -> Result<()> {
        for dataplane in [&mut self.shipped, &mut self.over_lpm] {
            for id in 1..=4 {
                dataplane.write(&Record::Attachment(id, Attachment::default()))?;
            }
        }
        Ok(())
    }

    /// The neighbours have BFD sessions that are up, for an hour without a packet, or none.
    pub fn set_bfd(&mut self, has_sessions: bool) -> Result<()> {
        let mut session = [0; BFD_SESSION_WORDS];
        // Its second word is the deadline.
        session[1] = deadline(self.shipped.clock(), 3_600_000_000 * MICROSECOND);
        for link in 1..=2 {
            self.shipped.write(&Record::BfdSession(link, session))?;
            let bfd = if has_sessions { link } else { 0 };
            self.shipped.write(&Record::NextHop(link, NextHop { bfd, ..next_hop(link, Tags::None) }))?;
        }
        Ok(())
    }

    /// The frames to come: their tags, and the two sets of destinations in turn.
    pub fn aim(&mut self, ingress: Tags, sets: &[Vec<[u64; 2]>; 2]) -> Result<()> {
        ensure!(
            sets.iter().all(|set| set.len() == DESTINATIONS),
            "a set has not {DESTINATIONS} destinations"
        );
        for (at, destination) in sets.iter().flatten().enumerate() {
            self.destinations.set(at as u32, *destination, 0)?;
        }
        let tags = if ingress == Tags::Two { [Some(10), Some(200)] } else { [None, None] };
        let (from, to): (IpAddr, IpAddr) = match self.version {
            Version::V4 => ("198.18.64.9".parse()?, "198.18.64.10".parse()?),
            Version::V6 => ("fd00:64::9".parse()?, "fd00:64::a".parse()?),
        };
        let question = Question { from, to, ports: (5_001, 5_002), hop_limit: 64, tags };
        self.frame = padded(question.frame()?, self.version, if ingress == Tags::Two { 22 } else { 14 });
        self.write_course(if ingress == Tags::Two { 8 } else { 0 })
    }

    fn write_course(&mut self, tag_bytes: u32) -> Result<()> {
        let (family, at) = if self.version == Version::V4 { (4u32, 30) } else { (6, 38) };
        let mask = 2 * DESTINATIONS as u32 - 1;
        let mut bytes = 0u64.to_ne_bytes().to_vec();
        for word in [mask, self.frame.len() as u32, at + tag_bytes, family, self.root, 0] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.frame[..TEMPLATE]);
        let mut words = [0u64; 16];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into()?);
        }
        self.course.set(0, words, 0).context("COURSE")
    }

    /// Nanoseconds of one run of a program through the driver, averaged over `runs`; by this thread's CPU time, so that others on
    /// the same CPU do not count. As many untimed runs, to other destinations of the same kind, come before: a router has the
    /// machine to itself, here another contestant has just filled the caches. With [`COLD`] behind its name a program gets none.
    pub fn time(&mut self, program: &str, runs: u32) -> Result<f64> {
        let warm = program.strip_suffix(COLD);
        self.choose(warm.unwrap_or(program))?;
        self.run("bench_driver", if warm.is_some() { 256 } else { runs })?;
        let started = cpu_time()?;
        self.run("bench_driver", runs)?;
        Ok((cpu_time()? - started) / f64::from(runs))
    }

    /// As [`Self::time`], of a program that needs no driver.
    pub fn time_alone(&mut self, program: &str, runs: u32) -> Result<f64> {
        self.run(program, runs)?;
        let started = cpu_time()?;
        self.run(program, runs)?;
        Ok((cpu_time()? - started) / f64::from(runs))
    }

    /// Every contestant that forwards really does: one run for each of some destinations ends in a redirect.
    pub fn must_forward(&mut self, program: &str) -> Result<()> {
        self.must(program, XDP_REDIRECT)
    }

    /// And of a disabled attachment's frames, in a drop.
    pub fn must_drop(&mut self, program: &str) -> Result<()> {
        self.must(program, XDP_DROP)
    }

    fn must(&mut self, program: &str, action: u32) -> Result<()> {
        self.choose(program)?;
        for _ in 0..512 {
            let verdict = self.run("bench_driver", 1)?;
            ensure!(verdict == action, "{program}: XDP action {verdict} instead of {action}");
        }
        Ok(())
    }

    fn choose(&mut self, program: &str) -> Result<()> {
        let fd: ProgramFd = match program {
            "erdp" => self.shipped.program()?.fd()?.try_clone()?,
            "erdp over LPM_TRIE" => self.over_lpm.program()?.fd()?.try_clone()?,
            name => xdp(self.over_lpm.object_mut(), name)?.fd()?.try_clone()?,
        };
        self.contestant.set(0, &fd, 0).with_context(|| format!("{program} cannot be tail-called"))
    }

    fn run(&mut self, program: &str, repeat: u32) -> Result<u32> {
        let words = [0, self.frame.len() as u32, 0, self.ports[0], 0, 0];
        let context: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            ctx_in: Some(&context),
            repeat,
            ..Default::default()
        };
        let result = xdp(self.over_lpm.object_mut(), program)?.test_run(options)?;
        ensure!(result.return_value != XDP_ABORTED, "{program} aborted");
        Ok(result.return_value)
    }
}

/// The kernel's trie, filled by one system call for each route.
pub enum Lpm {
    /// IPv4.
    V4(Box<LpmTrie<MapData, [u8; 4], u32>>),
    /// IPv6.
    V6(Box<LpmTrie<MapData, [u8; 16], u32>>),
}

impl Lpm {
    fn take(dataplane: &mut AyaDataplane, version: Version) -> Result<Self> {
        let ebpf = dataplane.object_mut();
        Ok(match version {
            Version::V4 => Self::V4(Box::new(LpmTrie::try_from(take(ebpf, "LPM4")?)?)),
            Version::V6 => Self::V6(Box::new(LpmTrie::try_from(take(ebpf, "LPM6")?)?)),
        })
    }

    /// Inserts the prefixes.
    pub fn fill(&mut self, prefixes: &[IpNet]) -> Result<()> {
        for (at, prefix) in prefixes.iter().enumerate() {
            let (length, group) = (u32::from(prefix.prefix_len()), group(at));
            match (&mut *self, prefix) {
                (Self::V4(map), IpNet::V4(net)) => {
                    map.insert(&Key::new(length, net.addr().octets()), group, 0)?
                }
                (Self::V6(map), IpNet::V6(net)) => {
                    map.insert(&Key::new(length, net.addr().octets()), group, 0)?
                }
                _ => bail!("{prefix} is of the other family"),
            }
        }
        Ok(())
    }
}

/// Inserts the prefixes into the trie, as one batch.
pub fn fill(trie: &mut Trie, version: Version, prefixes: &[IpNet]) -> Result<()> {
    debug_assert!(prefixes.iter().all(|prefix| (prefix.max_prefix_len() == 32) == (version == Version::V4)));
    let routes = prefixes.iter().enumerate();
    let routes =
        routes.map(|(at, prefix)| (Prefix::new(bits(*prefix), prefix.prefix_len()), Some(group(at))));
    let full = |full| anyhow::anyhow!("the pool is too small: {full:?}");
    trie.fib.apply(&mut trie.table, routes, 0).map(drop).map_err(full)
}

/// Groups in turn.
fn group(at: usize) -> u32 {
    (at % GROUPS.len()) as u32 + 1
}

pub(super) fn trie(dataplane: &mut AyaDataplane) -> Result<Trie> {
    let store = dataplane.take_store().context("the store is taken already")?;
    let mut fib = Fib::new(store);
    let table = fib.create_table().map_err(|full| anyhow::anyhow!("the pool is too small: {full:?}"))?;
    Ok(Trie { fib, table })
}

/// Everything but routes; whoever adds a feature to the packet path switches it on here.
pub(super) fn records(ports: [u32; 3]) -> Result<Vec<Record>> {
    let mut records = vec![
        Record::Port(ports[0], Port { attachment: 1, vlan_block: 1, ..Port::default() }),
        Record::Port(ports[1], Port { attachment: 2, ..Port::default() }),
        Record::Port(ports[2], Port { attachment: 3, ..Port::default() }),
        Record::Vlan(1, 10, Vlan { inner_block: 2, ..Vlan::default() }),
        Record::Vlan(2, 200, Vlan { attachment: 4, ..Vlan::default() }),
    ];
    for (id, port) in [(1, ports[0]), (2, ports[1]), (3, ports[2]), (4, ports[0])] {
        records.push(Record::TxPort(id, port));
    }
    for link in 1..=2 {
        records.push(Record::Link(link, true));
        records.push(Record::NextHop(link, next_hop(link, Tags::None)));
    }
    for (id, members) in (1..).zip(GROUPS) {
        records.push(Record::Group(id, forward(members)));
    }
    // A rate that no CPU here can offer: every packet is classified and charged, and none is dropped.
    let rates = Rates { ecn: true, ..Rates::new(400_000_000_000, BurstPolicy::Peak2x) };
    records.push(Record::Policer(1, rates.policer().map_err(|error| anyhow::anyhow!("{error}"))?));
    records.push(Record::Profile(1, QosProfile::microsoft(true)));
    Ok(records)
}

pub(super) fn attachment(msee: bool, root: u32) -> Attachment {
    let flags = ATTACHMENT_ENABLED | if msee { ATTACHMENT_MSEE } else { 0 };
    Attachment { root4: root, root6: root, flags, ..Attachment::default() }
}

fn next_hop(link: u16, tags: Tags) -> NextHop {
    let mut l2 = [0; L2_MAX];
    l2[..6].copy_from_slice(&[2, 0xee, 0, 0, 0, link as u8]);
    l2[6..12].copy_from_slice(&[2, 0xaa, 0, 0, 0, link as u8]);
    l2[12..].copy_from_slice(&[0x81, 0, 0, 10, 0x81, 0, 0, 200]);
    let l2_len = if tags == Tags::Two { 20 } else { 12 };
    let flags = NEXT_HOP_RESOLVED | NEXT_HOP_MSEE;
    NextHop {
        flags,
        attachment: link + 1,
        link,
        mtu: 1500,
        l2_len,
        policer: 1,
        profile: 1,
        l2,
        ..NextHop::default()
    }
}

/// A payload long enough for the driver's template; the lengths in the headers say so.
fn padded(mut frame: Vec<u8>, version: Version, ip_at: usize) -> Vec<u8> {
    frame.resize(TEMPLATE + 32, 0);
    let len = (frame.len() - ip_at) as u16;
    match version {
        Version::V4 => frame[ip_at + 2..ip_at + 4].copy_from_slice(&len.to_be_bytes()),
        Version::V6 => frame[ip_at + 4..ip_at + 6].copy_from_slice(&(len - 40).to_be_bytes()),
    }
    frame
}

/// Three veth pairs whose near ends are the ports, with the neighbours that the kernel's routes use.
fn ports() -> Result<[u32; 3]> {
    let mut ports = [0; 3];
    for (at, port) in ports.iter_mut().enumerate() {
        ip(&format!("link add p{at} type veth peer name q{at}"))?;
        ip(&format!("link set p{at} up"))?;
        ip(&format!("link set q{at} up"))?;
        ip(&format!("addr add 198.18.{at}.1/24 dev p{at}"))?;
        ip(&format!("addr add fd00:{at}::1/64 dev p{at} nodad"))?;
        ip(&format!("neigh replace 198.18.{at}.2 lladdr 02:ee:00:00:00:0{at} dev p{at} nud permanent"))?;
        ip(&format!("neigh replace fd00:{at}::2 lladdr 02:ee:00:00:00:0{at} dev p{at} nud permanent"))?;
        *port = nix::net::if_::if_nametoindex(format!("p{at}").as_str())?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("ip_forward")?;
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").context("IPv6 forwarding")?;
    Ok(ports)
}

/// The same routes in the kernel's own table, each over one link: its multipath would cost it more.
pub(super) fn kernel_routes(routes: &Routes) -> Result<()> {
    let mut batch = String::new();
    for (at, prefix) in routes.prefixes.iter().enumerate() {
        let link = 1 + at % 2;
        let via = if routes.version == Version::V4 {
            format!("198.18.{link}.2")
        } else {
            format!("fd00:{link}::2")
        };
        batch.push_str(&format!("route replace {prefix} via {via} dev p{link}\n"));
    }
    let file = std::env::temp_dir().join(format!("erdp-bench-{}", std::process::id()));
    fs::write(&file, batch)?;
    let output = Command::new("ip").arg("-batch").arg(&file).stdout(Stdio::null()).output();
    fs::remove_file(&file)?;
    let output = output.context("cannot start ip")?;
    ensure!(output.status.success(), "ip -batch: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

pub(super) fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output().context("cannot start ip")?;
    ensure!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name).with_context(|| format!("the benchmark's object has no map {name}, or it is taken"))
}

pub(super) fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// CPU time of this thread in nanoseconds.
pub fn cpu_time() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

/// The benchmark's object as `cargo xtask bench` has built it.
pub fn read_object(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
