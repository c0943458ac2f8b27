//! Two peerings on one tagged link, with real BGP and without the kernel's 802.1Q: sessions of both families on both, each
//! peering's prefixes in its own domain only, ARP, neighbour discovery and echo by the control ports, traffic with the right tags. A
//! customer's attachment has two tags.
//!
//! ```text
//! msee-p (BIRD) --- 100 \                                              / untagged --- ce-p (BIRD)
//!                        === one tagged link === edge (erdp) === QinQ 7.300 ------- ce-m (BIRD)
//! msee-m (BIRD) --- 200 /
//! ```

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::{
        self,
        bird::{self, Neighbour, Router},
        cleanup::{self, Guard},
        enter,
        netns::{self, Namespace},
        plan,
        process::Process,
        tag_switch::{Port, TagSwitch},
    },
    traffic::echo::echo,
};
use nix::sys::signal::Signal;

const CONFIGURATION: &str = r#"
asn = 65010

[[circuit]]
name = "lab"
bandwidth = "1G"
primary = { local = "msee1" }
secondary = { box = "edge-b" }

[circuit.private]
ipv4 = "198.18.0.0/29"
ipv6 = "fd00:0:0:10::/125"
vlan = 100

[circuit.microsoft]
ipv4 = ["198.18.0.16/30", "198.18.0.20/30"]
ipv6 = "fd00:0:0:20::/125"
vlan = 200

[[attachment]]
interface = "ce0"
peerings = ["lab/private"]
ipv4 = "198.18.1.1/30"
ipv6 = "fd00:0:0:1::1/64"
peers = [{ address = "198.18.1.2", asn = 65020 }, { address = "fd00:0:0:1::2", asn = 65020 }]

[[attachment]]
interface = "ce1"
s-vlan = 7
vlan = 300
peerings = ["lab/microsoft"]
ipv4 = "198.18.2.1/30"
ipv6 = "fd00:0:0:2::1/64"
peers = [{ address = "198.18.2.2", asn = 65020 }, { address = "fd00:0:0:2::2", asn = 65020 }]
"#;

/// A neighbour of the edge: its namespace, interface and addresses there, ours, what it announces, and its hosts.
struct Side {
    namespace: &'static str,
    interface: &'static str,
    asn: u32,
    theirs: [&'static str; 2],
    ours: [&'static str; 2],
    lengths: [u8; 2],
    announced: [&'static str; 2],
    host: &'static str,
}

/// In the order of [`CONFIGURATION`]'s attachments. A route's origin says which domain it belongs to: private prefixes of IPv6
/// would be refused on Microsoft peering (D4), so those there are public, and only asked about.
const SIDES: [Side; 4] = [
    Side {
        namespace: "msee-p",
        interface: "v100",
        asn: plan::MSEE_ASN,
        theirs: ["198.18.0.2", "fd00:0:0:10::2"],
        ours: ["198.18.0.1", "fd00:0:0:10::1"],
        lengths: [30, 126],
        announced: ["198.18.192.0/24", "fd00:0:0:c0::/64"],
        host: "198.18.192.10",
    },
    Side {
        namespace: "msee-m",
        interface: "v200",
        asn: plan::MSEE_ASN,
        theirs: ["198.18.0.18", "fd00:0:0:20::2"],
        ours: ["198.18.0.17", "fd00:0:0:20::1"],
        lengths: [30, 126],
        announced: ["198.19.192.0/24", "2603:1000::/32"],
        host: "198.19.192.10",
    },
    Side {
        namespace: "ce-p",
        interface: "edge0",
        asn: plan::CE_ASN,
        theirs: ["198.18.1.2", "fd00:0:0:1::2"],
        ours: ["198.18.1.1", "fd00:0:0:1::1"],
        lengths: [30, 64],
        announced: ["198.18.64.0/24", "fd00:0:0:64::/64"],
        host: "198.18.64.10",
    },
    Side {
        namespace: "ce-m",
        interface: "v300",
        asn: plan::CE_ASN,
        theirs: ["198.18.2.2", "fd00:0:0:2::2"],
        ours: ["198.18.2.1", "fd00:0:0:2::1"],
        lengths: [30, 64],
        announced: ["198.19.64.0/24", "2a01:1000::/32"],
        host: "198.19.64.10",
    },
];
/// Hosts of the private peering that speak IPv6.
const HOSTS_IPV6: [&str; 2] = ["fd00:0:0:c0::10", "fd00:0:0:64::10"];

/// Fields in the order of the end: the daemon, the routers, the wires, the namespaces.
struct Place {
    edge: Edge,
    _routers: Vec<Process>,
    msee: TagSwitch,
    ce: TagSwitch,
    namespaces: Vec<Namespace>,
    folder: PathBuf,
    _guard: Guard,
}

impl Place {
    fn new() -> Result<Place> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let mut namespaces = vec![Namespace::add(&format!("{name}-edge"))?];
        for side in &SIDES {
            namespaces.push(Namespace::add(&format!("{name}-{}", side.namespace))?);
        }
        let [edge, msee_p, msee_m, ce_p, ce_m] = &namespaces[..] else { bail!("not five namespaces") };
        netns::connect((edge, "ce0"), (ce_p, "edge0"))?;
        let msee = [
            Port { tags: vec![100], namespace: msee_p, interface: "v100" },
            Port { tags: vec![200], namespace: msee_m, interface: "v200" },
        ];
        let msee = TagSwitch::start(edge, "msee1", &msee)?;
        let ce = [Port { tags: vec![7, 300], namespace: ce_m, interface: "v300" }];
        let ce = TagSwitch::start(edge, "ce1", &ce)?;
        let mut routers = Vec::new();
        for (side, namespace) in SIDES.iter().zip(&namespaces[1..]) {
            namespace.forward(true)?;
            for (address, length) in side.theirs.iter().zip(side.lengths) {
                namespace.address(side.interface, &format!("{address}/{length}"))?;
            }
            namespace.address("lo", &format!("{}/32", side.host))?;
            routers.push(bird::start_in(namespace, &folder, &router(side)?)?);
        }
        msee_p.address("lo", &format!("{}/128", HOSTS_IPV6[0]))?;
        ce_p.address("lo", &format!("{}/128", HOSTS_IPV6[1]))?;
        let edge = Edge::start_with(edge, &folder, CONFIGURATION)?;
        Ok(Place { edge, _routers: routers, msee, ce, namespaces, folder, _guard: guard })
    }

    fn namespace(&self, short: &str) -> Result<&Namespace> {
        let found = self.namespaces.iter().find(|it| it.name().ends_with(&format!("-{short}")));
        found.with_context(|| format!("no namespace {short}"))
    }

    /// Waits until `done`, asking again and again.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !done(self)? {
            self.edge.must_run()?;
            if begin.elapsed() > Duration::from_secs(40) {
                bail!(
                    "waited in vain for {what}\n{}\n{}\n{}",
                    self.edge.table("sessions").unwrap_or_default(),
                    self.edge.table("counters").unwrap_or_default(),
                    self.edge.process().tail(30)
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
        println!("  {what}: after {:.1} s", begin.elapsed().as_secs_f32());
        Ok(())
    }

    fn ping(&self, from: &str, source: Option<&str>, to: &str) -> Result<()> {
        let (namespace, to) = (self.namespace(from)?, to.parse()?);
        let source = source.map(str::parse).transpose()?;
        let requests = echo(namespace, source, to, 3).with_context(|| {
            format!("from {from} to {to}\n{}", self.edge.table("counters").unwrap_or_default())
        })?;
        println!("  {from} to {to}: 3 replies to {requests} requests");
        Ok(())
    }

    fn explain(&self, interface: &str, to: &str) -> Result<(String, Option<String>, Option<IpAddr>)> {
        let answer = self.edge.explain(interface, &[to.parse()?])?.remove(0);
        Ok((answer.verdict, answer.reason, answer.next_hop))
    }
}

fn router(side: &'static Side) -> Result<Router> {
    let session = |family: usize| Neighbour {
        name: format!("edge{family}"),
        local: side.theirs[family],
        remote: side.ours[family],
        asn: plan::EDGE_ASN,
    };
    let announced = side.announced.iter().map(|prefix| prefix.parse().context("a prefix"));
    Ok(Router {
        namespace: side.namespace,
        asn: side.asn,
        id: side.theirs[0],
        neighbours: vec![session(0), session(1)],
        announced: announced.collect::<Result<_>>()?,
        transit: false,
    })
}

#[test]
fn two_peerings_on_one_tagged_link_work_without_the_kernels_802_1q() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    println!(
        "the kernel's 8021q: {}",
        if fs::exists("/proc/net/vlan")? { "loaded" } else { "absent or not loaded" }
    );
    let mut place = Place::new()?;
    place.until("eight sessions Established", |it| {
        let sessions = it.edge.sessions().unwrap_or_default();
        Ok(sessions.len() == 8 && sessions.iter().all(|session| session.state == "Established"))
    })?;
    println!("{}", place.edge.table("sessions")?);
    domains(&mut place)?;
    // A card that filters multicast would keep solicitations for ...::1 otherwise; TAP filters nothing.
    let groups = place.namespace("edge")?.ip("maddress show dev msee1")?;
    ensure!(groups.contains("33:33:ff:00:00:01"), "the solicited-node group is not joined:\n{groups}");
    // ARP or ND and echo on each attachment; then what is forwarded: 100 <-> untagged, 200 <-> 7.300.
    for side in &SIDES {
        for ours in side.ours {
            place.ping(side.namespace, None, ours)?;
        }
    }
    place.ping("ce-p", Some(SIDES[2].host), SIDES[0].host)?;
    place.ping("ce-p", Some(HOSTS_IPV6[1]), HOSTS_IPV6[0])?;
    place.ping("ce-m", Some(SIDES[3].host), SIDES[1].host)?;
    follows_its_interface(&mut place)?;
    accounted_for(&mut place)?;
    another_is_refused(&place)?;
    leftovers(place)
}

/// Each peering's prefixes at its own peers only, and in its own table only.
fn domains(place: &mut Place) -> Result<()> {
    // Who has learned whose prefixes: the two ends of each peering from each other.
    for (at, from) in [(0, 2), (2, 0), (1, 3), (3, 1)] {
        let (at, from) = (&SIDES[at], &SIDES[from]);
        place.until(&format!("{} has the prefixes of {}", at.namespace, from.namespace), |it| {
            let routes = bird::ask_in(&it.folder, at.namespace, &["show", "route"])?;
            Ok(from.announced.iter().all(|prefix| routes.contains(prefix)))
        })?;
        let routes = bird::ask_in(&place.folder, at.namespace, &["show", "route"])?;
        for other in SIDES.iter().filter(|it| it.namespace != at.namespace && it.namespace != from.namespace)
        {
            for prefix in other.announced {
                ensure!(
                    !routes.contains(prefix),
                    "{prefix} of {} has leaked to {}:\n{routes}",
                    other.namespace,
                    at.namespace
                );
            }
        }
    }
    for (interface, to, expected) in [
        ("ce0", SIDES[0].host, Some(SIDES[0].theirs[0])),
        ("ce0", HOSTS_IPV6[0], Some(SIDES[0].theirs[1])),
        ("ce0", SIDES[1].host, None),
        ("ce0", "2603:1000::9", None),
        ("ce1", SIDES[1].host, Some(SIDES[1].theirs[0])),
        ("ce1", SIDES[0].host, None),
        ("ce1", HOSTS_IPV6[0], None),
    ] {
        let answer = place.explain(interface, to)?;
        println!("  {interface} to {to}: {answer:?}");
        let expected = match expected {
            Some(next_hop) => ("transmit".to_owned(), None, Some(next_hop.parse()?)),
            None => ("drop".to_owned(), Some("no-route".to_owned()), None),
        };
        ensure!(answer == expected, "{interface} to {to}: expected {expected:?}");
    }
    // There is a way, but the neighbour that `explain` speaks for has a private address (D4).
    let (verdict, reason, _) = place.explain("ce1", "2603:1000::9")?;
    ensure!(verdict == "drop" && reason.as_deref() == Some("unnatted-source"), "{verdict}, {reason:?}");
    Ok(())
}

/// The MAC address of the wire changes: the neighbours learn it from the control ports, and nothing is lost for good.
fn follows_its_interface(place: &mut Place) -> Result<()> {
    let mac = "02:ed:00:00:00:77";
    place.namespace("edge")?.ip(&format!("link set msee1 address {mac}"))?;
    for port in ["erdp-1", "erdp-2"] {
        place.until(&format!("{port} follows"), |it| {
            Ok(it.namespace("edge")?.ip(&format!("link show {port}"))?.contains(mac))
        })?;
        // What the neighbour has learned before is for the old address; it would ask again by itself.
        for side in &SIDES[..2] {
            place.namespace(side.namespace)?.ip(&format!("neighbour flush dev {}", side.interface))?;
        }
    }
    place.ping("msee-p", None, SIDES[0].ours[0])?;
    place.ping("msee-m", None, SIDES[1].ours[1])?;
    place.ping("ce-m", Some(SIDES[3].host), SIDES[1].host)
}

/// Every frame has ended in a counter, none was lost in a control port, and the switches have met no tags but ours.
fn accounted_for(place: &mut Place) -> Result<()> {
    // A counter is read CPU by CPU: while a keepalive passes the sum may be off by it.
    place.until("the counters add up", |it| Ok(it.edge.counters()?.unexplained() == 0))?;
    let counters = place.edge.counters()?;
    println!("{}", place.edge.table("counters")?);
    ensure!(counters.from_kernel.packets > 0, "nothing came from the kernel");
    for kind in ["arp", "nd", "bgp", "echo"] {
        ensure!(
            counters.punted.get(kind).is_some_and(|tally| tally.packets > 0),
            "nothing was punted as {kind}"
        );
    }
    ensure!(
        counters.transmit_lost.packets == 0,
        "{} lost after the redirect",
        counters.transmit_lost.packets
    );
    for (name, (from_edge, to_edge)) in
        [("100", place.msee.seen(0)), ("200", place.msee.seen(1)), ("7.300", place.ce.seen(0))]
    {
        println!("  tags {name}: {from_edge} frames from the edge, {to_edge} to it");
        ensure!(from_edge > 0 && to_edge > 0, "no traffic with tags {name}");
    }
    ensure!(
        (place.msee.strangers(), place.ce.strangers()) == (0, 0),
        "frames with foreign tags have left the edge"
    );
    Ok(())
}

/// A second erdp with the same control ports must not take them from the first.
fn another_is_refused(place: &Place) -> Result<()> {
    let mut command = Command::new(edge::binary()?);
    command.arg("run").arg("--config").arg(place.folder.join("edge.toml"));
    command.arg("--control").arg(place.folder.join("other.sock"));
    enter::prepare(&mut command, place.namespace("edge")?.name())?;
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    println!("  a second erdp: {}", said.trim());
    ensure!(
        output.status.code() == Some(3) && said.contains("another erdp runs in this network namespace"),
        "{said}"
    );
    place.ping("msee-p", None, SIDES[0].ours[0])
}

/// A killed erdp leaves its pairs, the next one uses them on, and an ended one leaves nothing.
fn leftovers(mut place: Place) -> Result<()> {
    let ports = |it: &Place| -> Result<Vec<String>> {
        let links = it.namespace("edge")?.ip("-oneline link show")?;
        let names = links.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('@').next());
        Ok(names.filter(|name| name.starts_with("erdp-")).map(str::to_owned).collect())
    };
    place.edge.process().signal(Signal::SIGKILL)?;
    place.edge.process().wait(Duration::from_secs(10))?;
    let left = ports(&place)?;
    ensure!(left.len() == 6, "a killed erdp leaves three pairs, and there are {left:?}");
    place.edge = Edge::start_with(place.namespace("edge")?, &place.folder, CONFIGURATION)?;
    place.until("eight sessions Established again", |it| {
        let sessions = it.edge.sessions().unwrap_or_default();
        Ok(sessions.len() == 8 && sessions.iter().all(|session| session.state == "Established"))
    })?;
    place.ping("ce-m", Some(SIDES[3].host), SIDES[1].host)?;
    place.edge.process().signal(Signal::SIGTERM)?;
    place.edge.process().wait(Duration::from_secs(10))?;
    let left = ports(&place)?;
    ensure!(left.is_empty(), "an ended erdp has left {left:?}");
    Ok(())
}
