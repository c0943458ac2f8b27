//! Where live frames run: a network namespace of this thread with three links, the shipped program and the kernel's own routing
//! with the same table, and a program at the far ends that drops what arrives.
//!
//! Frames come in on p0 and leave by p1 and p2. Because they are really sent, every address is of 198.18.0.0/15, and so are the
//! routes: [`table`].

use std::{collections::HashSet, fs, net::Ipv4Addr, thread};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, RawTracePoint};
use erdp::dataplane::{
    Dataplane as _, Record,
    aya::{AyaDataplane, LoadOptions},
    question::Question,
};
use erdp_common::bench::TEMPLATE;
use ipnet::{IpNet, Ipv4Net};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};

use super::driver::Driver;
use crate::{
    bench::{
        arena::{attachment, fill, ip, kernel_routes, records, trie},
        routes::{Routes, Spread, Version},
    },
    lab::prefixes::Random,
};

/// Blocks of the pool.
const FIB_BLOCKS: u32 = 16_384;
/// The tracepoints that count losses after a redirect: program and tracepoint.
const LOSSES: [(&str, &str); 2] =
    [("erdp_xmit", "xdp_devmap_xmit"), ("erdp_redirect_err", "xdp_redirect_err")];

/// The shipped program without its tracepoints, as it is where they cannot be attached.
pub const ERDP_ALONE: &str = "erdp without tracepoints";

/// Everything that is measured with.
pub struct Stage {
    shipped: AyaDataplane,
    counts_losses: bool,
    losses_watched: bool,
    /// One for each CPU.
    pub drivers: Vec<Driver>,
}

impl Stage {
    /// A new network namespace for this thread with everything in it.
    pub fn new(object: &[u8], routes: &Routes, spread: Spread, cpus: usize) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        let ports = ports()?;
        let (frame, [destinations, _]) = (frame()?, routes.destinations(spread));
        let mut drivers: Vec<Driver> =
            (0..cpus).map(|_| Driver::load(object, ports, &frame, &destinations)).collect::<Result<_>>()?;
        for link in 0..ports.len() {
            drivers[0].attach("bench_drop", if_nametoindex(format!("q{link}").as_str())?)?;
        }
        kernel_routes(routes)?;
        let options = LoadOptions { fib_blocks: FIB_BLOCKS, ..LoadOptions::default() };
        let mut shipped = AyaDataplane::load(options)?;
        for record in records(ports)? {
            shipped.write(&record)?;
        }
        shipped.write(&Record::Bucket(1, [shipped.clock(); 4]))?;
        let mut trie = trie(&mut shipped)?;
        fill(&mut trie, Version::V4, &routes.prefixes)?;
        for (id, msee) in [(1, false), (2, true), (3, true)] {
            shipped.write(&Record::Attachment(id, attachment(msee, trie.table.root())))?;
        }
        let counts_losses = shipped.counts_losses();
        Ok(Self { shipped, counts_losses, losses_watched: counts_losses, drivers })
    }

    /// Whether the shipped program's tracepoints could be attached at all.
    pub fn counts_losses(&self) -> bool {
        self.counts_losses
    }

    /// What the drivers call from now on: `erdp`, with its tracepoints, or a program of the benchmark's object, without them.
    pub fn choose(&mut self, program: &str) -> Result<()> {
        self.watch_losses(program == "erdp")?;
        for driver in &mut self.drivers {
            let fd: ProgramFd = match program {
                "erdp" | ERDP_ALONE => self.shipped.program()?.fd()?.try_clone()?,
                name => driver.program(name)?,
            };
            driver.choose(&fd)?;
        }
        Ok(())
    }

    fn watch_losses(&mut self, on: bool) -> Result<()> {
        if !self.counts_losses || self.losses_watched == on {
            return Ok(());
        }
        for (name, tracepoint) in LOSSES {
            let program = self.shipped.object_mut().program_mut(name);
            let program: &mut RawTracePoint =
                program.with_context(|| format!("no program {name}"))?.try_into()?;
            if on {
                program.load()?;
                program.attach(tracepoint)?;
            } else {
                program.unload()?;
            }
        }
        self.losses_watched = on;
        Ok(())
    }

    /// What the shipped program has counted.
    pub fn shipped(&self) -> &AyaDataplane {
        &self.shipped
    }
}

/// Frames that have arrived at the far ends so far; veth counts there what it hands to XDP.
pub fn arrived() -> Result<u64> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").context("/proc/thread-self/net/dev")?;
    let received = |line: &str| -> Option<u64> {
        let (name, counts) = line.trim_start().split_once(':')?;
        name.starts_with('q').then(|| counts.split_whitespace().nth(1)?.parse().ok())?
    };
    Ok(table.lines().filter_map(received).sum())
}

/// `size` prefixes of 198.18.0.0/15, /24 to /30, nested as they come; without the three links' own subnets.
pub fn table(size: usize) -> Result<Routes> {
    let own: Ipv4Net = "198.18.0.0/22".parse()?;
    let mut random = Random(31_337);
    let mut seen = HashSet::new();
    let mut prefixes = Vec::with_capacity(size);
    while prefixes.len() < size {
        let address = (u32::from(Ipv4Addr::new(198, 18, 0, 0))) | (random.next() as u32 & 0x1_ffff);
        let length = 24 + (random.below(7) as u8);
        let net = Ipv4Net::new(address.into(), length)?.trunc();
        if !own.contains(&net) && seen.insert(net) {
            prefixes.push(IpNet::V4(net));
        }
    }
    prefixes.sort_unstable();
    Ok(Routes { version: Version::V4, source: "generated inside 198.18.0.0/15", prefixes })
}

/// UDP from a customer; the driver writes each destination.
fn frame() -> Result<Vec<u8>> {
    let question = Question {
        from: "198.18.0.2".parse()?,
        to: "198.18.4.1".parse()?,
        ports: (5_001, 5_002),
        hop_limit: 64,
        tags: [None, None],
    };
    let mut frame = question.frame()?;
    frame.resize(TEMPLATE, 0);
    let len = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    Ok(frame)
}

/// Three links with as many queues as CPUs, the neighbours that routes use, and a kernel that forwards.
fn ports() -> Result<[u32; 3]> {
    let queues = thread::available_parallelism().map_or(1, usize::from);
    let queues = format!("numtxqueues {queues} numrxqueues {queues}");
    // Without IPv6, or the kernel's own greetings would be counted at the far ends.
    for (key, value) in [
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/forwarding", "1"),
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
    ] {
        fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("/proc/sys/net/{key}"))?;
    }
    let mut ports = [0; 3];
    for (link, port) in ports.iter_mut().enumerate() {
        ip(&format!("link add p{link} {queues} type veth peer name q{link} {queues}"))?;
        // The address that the frames are for: else the kernel takes them for another host's.
        ip(&format!("link set p{link} address 02:00:00:00:00:0{} up", link + 1))?;
        ip(&format!("link set q{link} up"))?;
        ip(&format!("addr add 198.18.{link}.1/24 dev p{link}"))?;
        ip(&format!(
            "neigh replace 198.18.{link}.2 lladdr 02:ee:00:00:00:0{link} dev p{link} nud permanent"
        ))?;
        *port = if_nametoindex(format!("p{link}").as_str())?;
    }
    ensure!(ports.iter().all(|port| *port != 0), "a link has no index");
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_really_sent_is_for_benchmarking_addresses_only() -> Result<()> {
        let own: IpNet = "198.18.0.0/22".parse()?;
        let all: IpNet = "198.18.0.0/15".parse()?;
        let routes = table(10_000)?;
        assert_eq!(routes.prefixes.len(), 10_000);
        for prefix in &routes.prefixes {
            assert!(all.contains(prefix) && !own.contains(prefix), "{prefix}");
        }
        for [high, _] in routes.destinations(Spread::Random).concat() {
            let address = Ipv4Addr::from((high >> 32) as u32);
            assert!(all.contains(&IpNet::from(std::net::IpAddr::from(address))), "{address}");
        }
        Ok(())
    }
}
