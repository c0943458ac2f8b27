//! A chain through a live service: what the customer sends to Azure passes a forwarding namespace behind a service port, and so does what
//! comes back (B8, C5). Without the service nothing gets through: there is no way around it.
//!
//! ```text
//! ce (BIRD) --- ce0 edge (erdp) msee1 --- msee (BIRD)
//!                   svc0
//!                    |
//!                   fw (BIRD; its kernel forwards)
//! ```
//! The customer's attachment lists another peering than the one that the hosts in Azure are on, so the chain is its only way there;
//! the service announces a prefix to that peering in which the customer's own is. (Announced as it is, the customer's prefix would be the
//! service's own in its table too, and come back to it.)

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    lab::{
        bird::{self, Neighbour, Router},
        netns::{self, Namespace},
        plan,
        process::Process,
        straight::{self, AZURE, CUSTOMER, Straight, ip},
    },
    traffic::{counts::forwarded, echo::echo},
};

const CONFIGURATION: &str = r#"
asn = 65010

[[circuit]]
name = "lab"
bandwidth = "10G"
primary = { local = "msee1" }
secondary = { box = "edge-b" }

[circuit.private]
ipv4 = "198.18.0.0/29"
ipv6 = "fd00:0:0:10::/125"

[[circuit]]
name = "other"
bandwidth = "10G"
primary = { local = "msee1" }
secondary = { box = "edge-b" }

[circuit.private]
ipv4 = "198.18.0.16/29"
ipv6 = "fd00:0:0:20::/125"
vlan = 200

[[attachment]]
interface = "ce0"
peerings = ["other/private"]
ipv4 = "198.18.1.1/30"
ipv6 = "fd00:0:0:1::1/64"
peers = [{ address = "198.18.1.2", asn = 65020 }, { address = "fd00:0:0:1::2", asn = 65020 }]

[[attachment]]
interface = "svc0"
service = "fw"
peerings = ["lab/private"]
ipv4 = "198.18.20.1/30"
ipv6 = "fd00:0:0:14::1/64"
next-hops = ["198.18.20.2", "fd00:0:0:14::2"]
peers = [{ address = "198.18.20.2", asn = 65020 }, { address = "fd00:0:0:14::2", asn = 65020 }]

[[chain]]
from = "ce0"
via = "fw"
to = "lab/private"
"#;

/// The service's addresses and the edge's, by family.
const SERVICE: [[&str; 2]; 2] = [["198.18.20.2", "198.18.20.1"], ["fd00:0:0:14::2", "fd00:0:0:14::1"]];

/// A kernel that forwards everything back to the edge, and a BIRD of this AS that announces these prefixes.
fn service(
    edge: &Namespace,
    folder: &std::path::Path,
    asn: u32,
    announced: [&str; 2],
) -> Result<(Namespace, Process)> {
    let service = Namespace::add(&edge.name().replace("-edge", "-fw"))?;
    netns::connect((edge, "svc0"), (&service, "edge0"))?;
    service.forward(true)?;
    for kind in ["all", "edge0"] {
        service.sysctl(&format!("ipv4/conf/{kind}/send_redirects"), "0")?;
    }
    for ([theirs, ours], length) in SERVICE.iter().zip([30, 64]) {
        service.address("edge0", &format!("{theirs}/{length}"))?;
        service.ip(&format!("route add default via {ours}"))?;
    }
    let session = |[local, remote]: [&'static str; 2]| Neighbour {
        name: format!("edge{}", local.len()),
        local,
        remote,
        asn: plan::EDGE_ASN,
    };
    let router = Router {
        namespace: "fw",
        asn,
        id: SERVICE[0][0],
        neighbours: SERVICE.map(session).into(),
        announced: vec![announced[0].parse()?, announced[1].parse()?],
        transit: false,
    };
    let bird = bird::start_in(&service, folder, &router)?;
    Ok((service, bird))
}

#[test]
fn b8_c5_a_chain_through_a_forwarding_namespace_carries_traffic_both_ways_and_has_no_way_around() -> Result<()>
{
    if edge::skipped() {
        return Ok(());
    }
    let mut made = None;
    let mut lab = Straight::begin(CONFIGURATION, 60, |edge, folder| {
        // It says that it has what the customer's prefixes are in.
        made = Some(service(edge, folder, plan::CE_ASN, ["198.18.64.0/22", "fd00:0:0:64::/63"])?);
        Ok(())
    })?;
    let (fw, _bird) = made.context("the service was not made")?;
    lab.until("six sessions Established", |it| {
        let sessions = it.edge.sessions().unwrap_or_default();
        Ok(sessions.iter().filter(|session| session.state == "Established").count() == 6)
    })?;
    for family in 0..2 {
        let (host, azure) = (ip(CUSTOMER[family])?, ip(AZURE[0][family])?);
        for (from, to) in [("ce0", azure), ("msee1", host)] {
            lab.until(&format!("{from} to {to} leads to the service"), |it| {
                let answer = it.edge.explain(from, &[to])?.remove(0);
                Ok(answer.verdict == "transmit" && answer.interface.as_deref() == Some("svc0"))
            })?;
        }
        // The route to the customer from the service's side ends at the customer, not at the service itself.
        let answer = lab.edge.explain("svc0", &[host])?.remove(0);
        ensure!(answer.interface.as_deref() == Some("ce0"), "from the service to {host}: {answer:?}");
    }
    let routes = [
        format!("{} via {}", plan::VNET_IPV4, plan::CE.ipv4.1),
        format!("{} via {}", plan::VNET_IPV6, plan::CE.ipv6.1),
    ];
    for route in &routes {
        // The peering's prefixes are not announced to who only has a chain there: its operator sends what is for the service.
        lab.ce.ip(&format!("route replace {route}"))?;
    }
    let before = forwarded(&fw)?;
    for family in 0..2 {
        let (host, azure) = (ip(CUSTOMER[family])?, ip(AZURE[0][family])?);
        let requests = echo(&lab.ce, Some(host), azure, 5)?;
        println!("  {host} to {azure}: 5 replies to {requests} requests");
    }
    let after = forwarded(&fw)?;
    println!(
        "  the service has forwarded {} IPv4 and {} IPv6 packets",
        after.0 - before.0,
        after.1 - before.1
    );
    ensure!(
        after.0 - before.0 >= 10 && after.1 - before.1 >= 10,
        "not both ways have led through the service"
    );
    fw.forward(false)?;
    thread::sleep(Duration::from_millis(100));
    for family in 0..2 {
        let through = echo(&lab.ce, Some(ip(CUSTOMER[family])?), ip(AZURE[0][family])?, 1);
        ensure!(through.is_err(), "there is a way around a service that does not forward");
    }
    println!("  a service that does not forward lets nothing through, and nothing gets around it");
    lab.until("the counters add up", |it| Ok(it.edge.counters()?.unexplained() == 0))?;
    println!("{}", lab.edge.table("counters")?);
    Ok(())
}

/// The straight lab's configuration with an Azure VPN gateway as a service of its private peering.
fn with_vpn() -> String {
    let session =
        |[theirs, _]: [&str; 2]| format!("{{ address = \"{theirs}\", asn = {} }}", plan::GATEWAY_ASN);
    format!(
        "{}\n[[attachment]]\ninterface = \"svc0\"\nservice = \"vpn\"\npeerings = [\"lab/private\"]\n\
         ipv4 = \"{}/30\"\nipv6 = \"{}/64\"\npeers = [{}]\n",
        straight::configuration(60),
        SERVICE[0][1],
        SERVICE[1][1],
        SERVICE.map(session).join(", ")
    )
}

#[test]
fn b8_a_vpn_gateway_with_azures_own_as_is_the_backup_of_private_peering() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut made = None;
    let mut lab = Straight::begin(&with_vpn(), 60, |edge, folder| {
        made = Some(service(edge, folder, plan::GATEWAY_ASN, [plan::VNET_IPV4, plan::VNET_IPV6])?);
        Ok(())
    })?;
    let (vpn, _bird) = made.context("the service was not made")?;
    // The same hosts, as the tunnel reaches them.
    AZURE[0].iter().try_for_each(|address| vpn.address("lo", address))?;
    lab.until("six sessions Established, each with its routes", |it| {
        let sessions = it.edge.sessions().unwrap_or_default();
        let is_up = |session: &&edge::Session| session.state == "Established" && session.received == 1;
        Ok(sessions.iter().filter(is_up).count() == 6)
    })?;
    let refused = lab.edge.show("refused")?;
    ensure!(!refused.contains("\"in\""), "a route of the gateway is refused: {refused}");
    let leads_to = |it: &Straight, interface: &str| -> Result<bool> {
        let answers = it.edge.explain("ce0", &[ip(AZURE[0][0])?, ip(AZURE[0][1])?])?;
        Ok(answers.iter().all(|it| it.verdict == "transmit" && it.interface.as_deref() == Some(interface)))
    };
    lab.until("the circuit is preferred", |it| leads_to(it, "msee1"))?;
    lab.msee.ip("link set edge0 down")?;
    lab.until("the tunnel takes over", |it| leads_to(it, "svc0"))?;
    let known = |it: &Straight| bird::ask_in(it.folder(), "ce", &["show", "route", "all", plan::VNET_IPV4]);
    let path = format!("BGP.as_path: {} {}\n", plan::EDGE_ASN, plan::GATEWAY_ASN);
    lab.until("the customer knows the gateway's path", |it| Ok(known(it)?.contains(&path)))?;
    for family in 0..2 {
        let (host, azure) = (ip(CUSTOMER[family])?, ip(AZURE[0][family])?);
        let requests = echo(&lab.ce, Some(host), azure, 3)?;
        println!("  {host} to {azure} by the tunnel: 3 replies to {requests} requests");
    }
    Ok(())
}
