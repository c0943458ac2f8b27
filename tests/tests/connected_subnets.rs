//! A host of the customer's on an attachment's own wire, behind no router, and the key that makes it reachable from Azure (C2).
//!
//! ```text
//! host (198.18.5.10, no BGP) --- lan0 edge (erdp) msee1 --- msee (BIRD, 198.18.192.10)
//! ```
//! Nobody announces the wire's subnet but the edge itself, and only where `advertise-connected` says so.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    lab::{
        bird,
        netns::{self, Namespace},
        plan,
        straight::{self, AZURE, FAMILIES, Straight, ip},
    },
    traffic::echo::echo,
};
use serde_json::Value;

/// The host, by family, and the subnet that it is on.
const HOST: [&str; 2] = ["198.18.5.10", "fd00:0:0:5::10"];
const SUBNET: [&str; 2] = ["198.18.5.0/24", "fd00:0:0:5::/64"];
/// The edge on that wire.
const OURS: [&str; 2] = ["198.18.5.1", "fd00:0:0:5::1"];
const KEY: &str = "advertise-connected = true\n";

/// The straight lab's configuration with the host's attachment, and the key on it.
fn configuration(key: &str) -> String {
    let attachment = format!(
        "\n[[attachment]]\ninterface = \"lan0\"\n{key}peerings = [\"lab/private\"]\nipv4 = \"{}/24\"\nipv6 = \"{}/64\"\n",
        OURS[0], OURS[1]
    );
    straight::configuration(60) + &attachment
}

fn host(edge: &Namespace) -> Result<Namespace> {
    let host = Namespace::add(&edge.name().replace("-edge", "-host"))?;
    netns::connect((&host, "edge0"), (edge, "lan0"))?;
    for ((address, length), ours) in HOST.iter().zip([24, 64]).zip(OURS) {
        host.address("edge0", &format!("{address}/{length}"))?;
        host.ip(&format!("route add default via {ours}"))?;
    }
    Ok(host)
}

/// Whether the MSEE has a route to the wire's subnet, of both families.
fn has_routes(lab: &Straight) -> Result<[bool; 2]> {
    let routes = bird::ask_in(lab.folder(), "msee", &["show", "route"])?;
    Ok(SUBNET.map(|subnet| routes.contains(subnet)))
}

/// What `erdp explain` says of a packet from the host to Azure.
fn explained(lab: &Straight, family: usize) -> Result<Value> {
    let words =
        ["explain", "--interface", "lan0", "--from", HOST[family], "--to", AZURE[0][family], "--json"];
    let said = lab.edge.ask(&words)?;
    serde_json::from_str(&said).with_context(|| said.clone())
}

fn apply(lab: &Straight, file: &Path, key: &str) -> Result<()> {
    std::fs::write(file, configuration(key))?;
    lab.edge.ask(&["config", "apply", "--no-flap", &file.to_string_lossy()]).map(drop)
}

#[test]
fn c2_a_host_on_an_attachments_own_wire_is_reachable_from_azure_by_the_key_and_only_by_it() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut made = None;
    let mut lab = Straight::begin(&configuration(""), 60, |edge, _| {
        made = Some(host(edge)?);
        Ok(())
    })?;
    let host = made.context("the host was not made")?;
    lab.until("four sessions Established", Straight::is_established)?;
    lab.until("the host's packets lead to the MSEE", |it| {
        let said = [explained(it, 0)?, explained(it, 1)?];
        Ok(said.iter().all(|it| it["verdict"] == "transmit" && it["no_return"] == true))
    })?;
    for (family, address) in HOST.iter().enumerate() {
        let said = explained(&lab, family)?;
        let remedy = said["no_return_remedy"].as_str().unwrap_or_default().to_owned();
        println!("  {address}: {remedy}");
        ensure!(remedy.contains("advertise-connected = true") && remedy.contains("lan0"), "{said}");
    }
    ensure!(has_routes(&lab)? == [false; 2], "the subnet is announced without the key");

    let file = lab.folder().join("next.toml");
    apply(&lab, &file, KEY)?;
    lab.until("the MSEE has the wire's subnets", |it| Ok(has_routes(it)? == [true; 2]))?;
    let path = bird::ask_in(lab.folder(), "msee", &["show", "route", "all", SUBNET[0]])?;
    ensure!(path.contains(&format!("BGP.as_path: {}\n", plan::EDGE_ASN)), "{path}");
    for family in 0..2 {
        let (azure, there) = (ip(AZURE[0][family])?, ip(HOST[family])?);
        // From Azure first: nobody has spoken of the host, so its address is resolved for the packet.
        let requests = echo(&lab.msee, Some(azure), there, 3)?;
        println!("  {}: Azure has 3 replies from the host to {requests} requests", FAMILIES[family]);
        let requests = echo(&host, Some(there), azure, 3)?;
        println!("  {}: the host has 3 replies from Azure to {requests} requests", FAMILIES[family]);
        ensure!(explained(&lab, family)?["no_return"].is_null(), "{}", explained(&lab, family)?);
    }
    let shown = lab.edge.show("routes")?;
    ensure!(shown.contains("\"connected\"") && shown.contains(SUBNET[0]), "{shown}");

    // A wire without a carrier has no hosts.
    host.ip("link set edge0 down")?;
    lab.until("the subnets are withdrawn with the carrier", |it| Ok(has_routes(it)? == [false; 2]))?;
    host.ip("link set edge0 up")?;
    lab.until("and announced again with it", |it| Ok(has_routes(it)? == [true; 2]))?;

    apply(&lab, &file, "")?;
    lab.until("the subnets are withdrawn with the key", |it| Ok(has_routes(it)? == [false; 2]))?;
    lab.until("the counters add up", |it| Ok(it.edge.counters()?.unexplained() == 0))?;
    Ok(())
}
