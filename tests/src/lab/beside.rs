//! A lab for ERDP beside FRR: both on one machine, two routers of the customer's, one MSEE. FRR and ERDP run the files of `deploy/frr`
//! as they are.
//!
//! ```text
//! r1 (BIRD, 198.18.64.10) --- ce0 \
//!                                  edge (erdp and FRR) msee1 --- msee (BIRD, 198.18.192.10)
//! r2 (BIRD, 198.18.64.10) --- ce1 /
//! ```
//! Both routers have the customer's host, so that either answers for it. `mgmt0` of the edge leads to r1 as well, and is no attachment.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;

use super::{
    bird::{self, Neighbour, Router},
    cleanup::{self, Guard},
    frr,
    netns::{self, Namespace},
    plan,
    process::Process,
    straight::{AZURE, CUSTOMER},
};
use crate::edge::Edge;

/// How long anything may take to come up: FRR tries a connection every five seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// The routers' addresses, IPv4 and IPv6, and the edge's.
const ROUTERS: [[[&str; 2]; 2]; 2] = [
    [["198.18.10.2", "198.18.10.1"], ["fd00:0:0:a::2", "fd00:0:0:a::1"]],
    [["198.18.11.2", "198.18.11.1"], ["fd00:0:0:b::2", "fd00:0:0:b::1"]],
];

/// The lab. The order of the fields is that of the end.
#[derive(Debug)]
pub struct Beside {
    /// The daemon.
    pub edge: Edge,
    _frr: Vec<Process>,
    _routers: Vec<Process>,
    /// The customer's routers.
    pub routers: [Namespace; 2],
    /// The edge's namespace.
    pub middle: Namespace,
    /// The MSEE.
    pub msee: Namespace,
    folder: PathBuf,
    _guard: Guard,
}

/// A file of `deploy/frr`.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy").join("frr").join(name)
}

impl Beside {
    /// Starts everything; nothing is waited for but processes.
    ///
    /// # Errors
    /// Names what does not start.
    pub fn begin() -> Result<Beside> {
        cleanup::on_signals()?;
        let name = super::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let add = |short: &str| Namespace::add(&format!("{name}-{short}"));
        let (r1, r2, middle, msee) = (add("r1")?, add("r2")?, add("edge")?, add("msee")?);
        netns::connect((&middle, "msee1"), (&msee, "edge0"))?;
        netns::connect((&r1, "edge0"), (&middle, "ce0"))?;
        netns::connect((&r2, "edge0"), (&middle, "ce1"))?;
        netns::connect((&r1, "mgmt0"), (&middle, "mgmt0"))?;
        middle.address("mgmt0", "198.18.99.1/24")?;
        for (namespace, [[address4, _], [address6, _]]) in [&r1, &r2].into_iter().zip(ROUTERS) {
            namespace.address("edge0", &format!("{address4}/29"))?;
            namespace.address("edge0", &format!("{address6}/64"))?;
            CUSTOMER.iter().try_for_each(|address| namespace.address("lo", address))?;
        }
        // A second neighbour on the same wire.
        r1.address("edge0", "198.18.10.3/29")?;
        for address in [plan::PRIMARY.ipv4, plan::PRIMARY.ipv6] {
            msee.address("edge0", &format!("{}/{}", address.1, address.2))?;
        }
        AZURE.iter().flatten().try_for_each(|address| msee.address("lo", address))?;
        let routers = vec![
            bird::start_in(&r1, &folder, &customer("r1", &ROUTERS[0]))?,
            bird::start_in(&r2, &folder, &customer("r2", &ROUTERS[1]))?,
            bird::start_in(&msee, &folder, &microsoft())?,
        ];
        let frr = frr::start_beside(&middle, &folder, &example("frr.conf"))?;
        let text = std::fs::read_to_string(example("edge.toml")).context("deploy/frr/edge.toml")?;
        let edge = Edge::start_with(&middle, &folder, &text)?;
        Ok(Beside {
            edge,
            _frr: frr,
            _routers: routers,
            routers: [r1, r2],
            middle,
            msee,
            folder,
            _guard: guard,
        })
    }

    /// What FRR says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn vtysh(&self, words: &[&str]) -> Result<String> {
        frr::ask_in(&self.folder.join("frr"), words)
    }

    /// What the MSEE's BIRD knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn at_microsoft(&self) -> Result<String> {
        bird::ask_in(&self.folder, "msee", &["show", "route"])
    }

    /// Where files may be put.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until `done`, asking again and again.
    ///
    /// # Errors
    /// That it waited in vain, with what daemon and FRR say of themselves.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !done(self)? {
            self.edge.must_run()?;
            if begin.elapsed() > PATIENCE {
                let table = |topic| self.edge.table(topic).unwrap_or_default();
                let (routes, refused) = (table("routes"), table("refused"));
                let frr =
                    self.vtysh(&["show bgp summary", "show ip route", "show ipv6 route"]).unwrap_or_default();
                let kernel = self.middle.ip("route show").unwrap_or_default();
                let tail = self.edge.process().tail(30);
                bail!("waited in vain for {what}\n{routes}\n{refused}\n{frr}\n{kernel}\n{tail}");
            }
            thread::sleep(Duration::from_millis(100));
        }
        println!("  {what}: after {:.1} s", begin.elapsed().as_secs_f32());
        Ok(())
    }
}

fn customer(namespace: &'static str, addresses: &[[&'static str; 2]; 2]) -> Router {
    let neighbour = |[local, remote]: &[&'static str; 2]| Neighbour {
        name: format!("edge{}", if local.contains(':') { 6 } else { 4 }),
        local,
        remote,
        asn: plan::EDGE_ASN,
    };
    Router {
        namespace,
        asn: plan::CE_ASN,
        id: addresses[0][0],
        neighbours: addresses.iter().map(neighbour).collect(),
        announced: nets(&[plan::CUSTOMER_IPV4, plan::CUSTOMER_IPV6]),
        transit: false,
    }
}

fn microsoft() -> Router {
    Router {
        namespace: "msee",
        asn: plan::MSEE_ASN,
        id: plan::PRIMARY.ipv4.1,
        neighbours: Neighbour::both("edge", &plan::PRIMARY, false, plan::EDGE_ASN).into(),
        announced: nets(&[plan::VNET_IPV4, plan::VNET_IPV6]),
        transit: false,
    }
}

/// Constants of the plan, whose own test reads them.
fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
