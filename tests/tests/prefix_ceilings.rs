//! An MSEE that counts: FRR drops the session above the prefixes that Microsoft accepts, and a customer announces more (D1). Its
//! neighbour, a BIRD on the other link, is advertised the same ones.
//!
//! ```text
//! many (BIRD, 130 IPv6 prefixes) --- ce1 edge (erdp) msee1 --- msee (BIRD)
//!                                                    msee2 --- frr (maximum-prefix 100)
//! ```

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    lab::{
        bird::{self, Neighbour, Router},
        frr,
        netns::{self, Namespace},
        plan,
        process::Process,
        straight::{self, Straight},
    },
};
use ipnet::IpNet;
use serde_json::Value;

/// What the customer announces, and what Microsoft accepts.
const MANY: u16 = 130;
const CEILING: usize = 100;

/// The straight lab's configuration with both links here, a customer's router more, and the key that once raised IPv6's limit.
fn configuration() -> String {
    straight::configuration(60)
        .replace("secondary = { box = \"edge-b\" }", "secondary = { local = \"msee2\" }")
        .replace("[circuit.private]\n", "[circuit.private]\nadvertise-at-most = 4000\n")
        + "\n[[attachment]]\ninterface = \"ce1\"\npeerings = [\"lab/private\"]\nipv6 = \"fd00:0:0:7::1/64\"\n\
           peers = [{ address = \"fd00:0:0:7::2\", asn = 65021 }]\n"
}

/// A customer's router with many prefixes, and the MSEE that counts.
fn others(edge: &Namespace, folder: &Path) -> Result<(Vec<Namespace>, Vec<Process>)> {
    let add = |short: &str| Namespace::add(&edge.name().replace("-edge", short));
    let (many, counting) = (add("-many")?, add("-frr")?);
    netns::connect((&many, "edge0"), (edge, "ce1"))?;
    many.address("edge0", "fd00:0:0:7::2/64")?;
    let router = Router {
        namespace: "many",
        asn: 65_021,
        id: "198.18.7.2",
        neighbours: vec![Neighbour {
            name: "edge6".into(),
            local: "fd00:0:0:7::2",
            remote: "fd00:0:0:7::1",
            asn: plan::EDGE_ASN,
        }],
        announced: (0..MANY).map(|n| format!("fd00:0:1:{n:x}::/64").parse()).collect::<Result<_, _>>()?,
        transit: false,
    };
    let mut processes = vec![bird::start_in(&many, folder, &router)?];
    netns::connect((edge, "msee2"), (&counting, "edge0"))?;
    for (_, theirs, length) in [plan::SECONDARY.ipv4, plan::SECONDARY.ipv6] {
        counting.address("edge0", &format!("{theirs}/{length}"))?;
    }
    let (edge4, edge6) = (plan::SECONDARY.ipv4.0, plan::SECONDARY.ipv6.0);
    let config = folder.join("counting.conf");
    fs::write(
        &config,
        format!(
            "router bgp {msee}\n bgp router-id {id}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n\
             \x20neighbor {edge4} remote-as {ours}\n neighbor {edge4} timers connect 2\n\
             \x20neighbor {edge6} remote-as {ours}\n neighbor {edge6} timers connect 2\n\
             \x20address-family ipv4 unicast\n  neighbor {edge4} activate\n  neighbor {edge4} maximum-prefix 4000\n exit-address-family\n\
             \x20address-family ipv6 unicast\n  neighbor {edge6} activate\n  neighbor {edge6} maximum-prefix {CEILING}\n exit-address-family\n\
             exit\n",
            msee = plan::MSEE_ASN,
            ours = plan::EDGE_ASN,
            id = plan::SECONDARY.ipv4.1,
        ),
    )?;
    processes.extend(frr::start_beside(&counting, folder, &config)?);
    Ok((vec![many, counting], processes))
}

/// The customer's prefixes at the FRR.
fn counted(folder: &Path) -> Result<BTreeSet<IpNet>> {
    let said = frr::ask_in(&folder.join("frr"), &["show bgp ipv6 unicast json"])?;
    let table: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    let routes = table["routes"].as_object().into_iter().flatten();
    Ok(routes.filter_map(|(prefix, _)| prefix.parse().ok()).collect())
}

/// The same at the BIRD.
fn known(folder: &Path) -> Result<BTreeSet<IpNet>> {
    let said = bird::ask_in(folder, "msee", &["show", "route", "protocol", "edge6"])?;
    Ok(said.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect())
}

#[test]
fn d1_an_msee_that_counts_never_drops_the_session_whatever_the_customer_announces() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut made = None;
    let mut lab = Straight::begin(&configuration(), 60, |edge, folder| {
        made = Some(others(edge, folder)?);
        Ok(())
    })?;
    let _others = made.context("the other routers were not made")?;
    let folder: PathBuf = lab.folder().to_owned();
    let is_counting = |it: &Straight, peer: &str| -> Result<bool> {
        let sessions = it.edge.sessions()?;
        Ok(sessions.iter().any(|it| it.peer == peer && it.state == "Established"))
    };
    lab.until("the customer has announced all of it", |it| {
        let sessions = it.edge.sessions().unwrap_or_default();
        Ok(sessions.iter().any(|it| it.asn == 65_021 && it.received == u64::from(MANY)))
    })?;
    lab.until("both MSEEs have as many as Microsoft accepts", |_| {
        Ok(counted(&folder)?.len() == CEILING && known(&folder)?.len() == CEILING)
    })?;
    ensure!(is_counting(&lab, plan::SECONDARY.ipv6.1)?, "the FRR has dropped the session");
    ensure!(counted(&folder)? == known(&folder)?, "the two links are advertised different prefixes");
    let limits: Vec<Value> = serde_json::from_str(&lab.edge.show("limits")?)?;
    let ipv6 = limits.iter().find(|row| row["family"].to_string().contains('6')).context("no IPv6 row")?;
    println!("  {ipv6}");
    // The straight lab's own customer announces one prefix more.
    ensure!(
        ipv6["limit"] == 100 && ipv6["told"] == 100 && ipv6["held"] == u64::from(MANY) + 1 - 100,
        "{ipv6}"
    );
    let refused = lab.edge.show("refused")?;
    ensure!(refused.matches("\"D1\"").count() >= 2, "what is held back is not shown: {refused}");
    Ok(())
}
