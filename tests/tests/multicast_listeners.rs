//! A switch that forwards a group only to where somebody has reported to listen to it (RFC 4541), between the edge and its neighbours: our
//! solicited-node groups stay reported, so that IPv6 neighbours go on finding us (RFC 4861 section 7.2.1). Before there was an answer to
//! its queries, IPv6 ended with the switch's membership interval: here 7 s, on real ones some minutes.
//!
//! ```text
//! msee: br0 (querier, MLDv2) --- tag 100 ---                 --- untagged --- br0 (querier, MLDv1) :ce
//!                                            === edge (erdp)
//!                                                            --- tags 7.300 - br0 (querier, MLDv2) :ce-q
//! ```

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use erdp_tests::{
    edge::{self, Edge},
    lab::{
        self, cleanup,
        netns::{self, Namespace},
        tag_switch::{Port, TagSwitch},
    },
    traffic::echo::echo,
};

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

[[attachment]]
interface = "ce0"
peerings = ["lab/private"]
ipv4 = "198.18.1.1/30"
ipv6 = "fd00:0:0:1::1/64"

[[attachment]]
interface = "ce1"
s-vlan = 7
vlan = 300
peerings = ["lab/private"]
ipv4 = "198.18.2.1/30"
ipv6 = "fd00:0:0:2::1/64"
"#;

/// A switch that forgets who has not reported for seven seconds, and asks every second.
const SWITCH: &str = "type bridge mcast_snooping 1 mcast_querier 1 mcast_membership_interval 700 mcast_query_interval 100 \
                      mcast_query_response_interval 30 mcast_startup_query_interval 30";

/// Longer than the membership interval and than any neighbour entry would do without an answer to a solicitation.
const LONG_AFTER: Duration = Duration::from_secs(12);

/// Namespace, interface towards the edge, version of MLD, address there, ours, and the group of ours that is solicited.
const SIDES: [(&str, &str, u8, &str, &str); 3] = [
    ("msee", "v100", 2, "fd00:0:0:10::2/126", "fd00:0:0:10::1"),
    ("ce", "edge0", 1, "fd00:0:0:1::2/64", "fd00:0:0:1::1"),
    ("ce-q", "v300", 2, "fd00:0:0:2::2/64", "fd00:0:0:2::1"),
];
const GROUP: &str = "ff02::1:ff00:1";

#[test]
fn rfc4861_7_2_1_a_snooping_switch_goes_on_forwarding_solicitations_to_us() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    cleanup::on_signals()?;
    let name = lab::new_name();
    let (folder, _guard) = cleanup::owned_folder(&name)?;
    let add = |short: &str| Namespace::add(&format!("{name}-{short}"));
    let edge = add("edge")?;
    let far = [add(SIDES[0].0)?, add(SIDES[1].0)?, add(SIDES[2].0)?];
    let [msee, ce, ce_q] = &far;
    netns::connect((&edge, "ce0"), (ce, "edge0"))?;
    let port = |tags: &[u16], namespace, interface| Port { tags: tags.to_vec(), namespace, interface };
    let _one = TagSwitch::start(&edge, "msee1", &[port(&[100], msee, "v100")])?;
    let _two = TagSwitch::start(&edge, "ce1", &[port(&[7, 300], ce_q, "v300")])?;
    for (namespace, (_, interface, version, address, _)) in far.iter().zip(SIDES) {
        namespace.ip(&format!("link add br0 {SWITCH} mcast_mld_version {version}"))?;
        namespace.ip(&format!("link set {interface} master br0"))?;
        namespace.ip("link set br0 up")?;
        namespace.address("br0", address)?;
    }
    let mut edge = Edge::start_with(&edge, &folder, CONFIGURATION)?;
    for _ in 0..100 {
        edge.must_run()?;
        if edge.answers() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    reachable(&edge, &far).context("at the start")?;
    thread::sleep(LONG_AFTER);
    edge.must_run()?;
    for (namespace, side) in far.iter().zip(SIDES) {
        let members = namespace.exec("bridge", &["mdb", "show", "dev", "br0"])?;
        println!("  {}: {}", side.0, members.trim().replace('\n', "\n    "));
        let is_member = members.lines().any(|line| line.contains(&format!("port {} grp {GROUP} ", side.1)));
        ensure!(is_member, "{}: the switch does not forward {GROUP} to us any more:\n{members}", side.0);
    }
    reachable(&edge, &far).with_context(|| format!("{LONG_AFTER:?} later"))?;
    let counters = edge.counters()?;
    ensure!(counters.from_kernel.packets > 0, "no report has left through a control port");
    for _ in 0..20 {
        // A counter is read CPU by CPU: while a frame passes the sum may be off by it.
        if edge.counters()?.unexplained() == 0 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("the counters do not add up:\n{}", edge.table("counters")?)
}

/// Each neighbour finds us by a solicitation to our group, having forgotten us before.
fn reachable(edge: &Edge, far: &[Namespace]) -> Result<()> {
    for (namespace, (name, .., ours)) in far.iter().zip(SIDES) {
        namespace.ip("neighbour flush dev br0")?;
        let requests = echo(namespace, None, ours.parse()?, 2).with_context(|| {
            format!("{name} does not reach {ours}\n{}", edge.table("counters").unwrap_or_default())
        })?;
        println!("  {name} to {ours}: 2 replies to {requests} requests");
    }
    Ok(())
}
