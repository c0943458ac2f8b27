//! A lab for one way: a customer's router, the edge, and one MSEE, each with a host's addresses on its loopback.
//!
//! ```text
//! ce (BIRD, 198.18.64.10) --- ce0 edge (erdp) msee1 --- msee (BIRD, 198.18.192.10)
//! ```
//! The circuit's secondary link is on another box. The addresses are those of [`plan`], so what is said about the larger lab holds
//! here; it comes up in seconds, and nothing in it forwards but `erdp`.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    bird::{self, Neighbour, Router},
    cleanup::{self, Guard},
    netns::{self, Namespace},
    plan,
    process::Process,
};
use crate::edge::Edge;

/// The customer's host, by family.
pub const CUSTOMER: [&str; 2] = [plan::LAN.ipv4.0, plan::LAN.ipv6.0];
/// The hosts in Azure: the one that everybody knows, and a second that nobody has spoken to.
pub const AZURE: [[&str; 2]; 2] =
    [[plan::AZURE_IPV4, plan::AZURE_IPV6], ["198.18.192.11", "fd00:0:0:c0::11"]];
/// How long anything may take to come up.
const PATIENCE: Duration = Duration::from_secs(40);

/// The lab. The order of the fields is that of the end: the daemon, the routers, the namespaces.
#[derive(Debug)]
pub struct Straight {
    /// The daemon.
    pub edge: Edge,
    _routers: Vec<Process>,
    /// The customer's router.
    pub ce: Namespace,
    /// The edge's namespace.
    pub middle: Namespace,
    /// The MSEE.
    pub msee: Namespace,
    folder: PathBuf,
    _guard: Guard,
}

/// Its configuration; both sides offer a hold time of `hold_s` seconds.
pub fn configuration(hold_s: u32) -> String {
    format!(
        "asn = {asn}\n\n\
         [[circuit]]\nname = \"lab\"\nbandwidth = \"10G\"\n\
         primary = {{ local = \"msee1\" }}\nsecondary = {{ box = \"edge-b\" }}\n\n\
         [circuit.private]\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\"\nhold = {hold_s}\n\n\
         [[attachment]]\ninterface = \"ce0\"\npeerings = [\"lab/private\"]\n\
         ipv4 = \"{ce4}/{len4}\"\nipv6 = \"{ce6}/{len6}\"\n\
         peers = [{{ address = \"{peer4}\", asn = {peer_asn}, hold = {hold_s} }}, \
         {{ address = \"{peer6}\", asn = {peer_asn}, hold = {hold_s} }}]\n",
        asn = plan::EDGE_ASN,
        ipv4 = plan::PRIVATE_IPV4,
        ipv6 = plan::PRIVATE_IPV6,
        ce4 = plan::CE.ipv4.1,
        len4 = plan::CE.ipv4.2,
        ce6 = plan::CE.ipv6.1,
        len6 = plan::CE.ipv6.2,
        peer4 = plan::CE.ipv4.0,
        peer6 = plan::CE.ipv6.0,
        peer_asn = plan::CE_ASN,
    )
}

impl Straight {
    /// Brings it up and waits until all four sessions are Established and both hosts have been routed to.
    ///
    /// # Errors
    /// Names what does not come up.
    pub fn up(hold_s: u32) -> Result<Straight> {
        let mut straight = Straight::begin(&configuration(hold_s), hold_s, |_, _| Ok(()))?;
        straight.until("four sessions Established", Straight::is_established)?;
        straight.until("both routers have the other's hosts", |it| {
            let routes = |router| bird::ask_in(&it.folder, router, &["show", "route"]);
            let (at_ce, at_msee) = (routes("ce")?, routes("msee")?);
            Ok([plan::VNET_IPV4, plan::VNET_IPV6].iter().all(|prefix| at_ce.contains(prefix))
                && [plan::CUSTOMER_IPV4, plan::CUSTOMER_IPV6].iter().all(|prefix| at_msee.contains(prefix)))
        })?;
        Ok(straight)
    }

    /// The same with another configuration, without waiting for anything; `prepare` makes what it needs beside the edge's namespace, in
    /// the lab's folder.
    ///
    /// # Errors
    /// As [`Straight::up`].
    pub fn begin(
        configuration: &str,
        hold_s: u32,
        prepare: impl FnOnce(&Namespace, &Path) -> Result<()>,
    ) -> Result<Straight> {
        cleanup::on_signals()?;
        let name = super::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let add = |short: &str| Namespace::add(&format!("{name}-{short}"));
        let (ce, middle, msee) = (add("ce")?, add("edge")?, add("msee")?);
        netns::connect((&ce, "edge0"), (&middle, "ce0"))?;
        netns::connect((&middle, "msee1"), (&msee, "edge0"))?;
        prepare(&middle, &folder)?;
        for (namespace, addresses) in [(&ce, near(&plan::CE)), (&msee, far(&plan::PRIMARY))] {
            addresses.iter().try_for_each(|address| namespace.address("edge0", address))?;
        }
        CUSTOMER.iter().try_for_each(|address| ce.address("lo", address))?;
        AZURE.iter().flatten().try_for_each(|address| msee.address("lo", address))?;
        let routers = vec![
            bird::start_with_hold(&ce, &folder, &customer(), hold_s)?,
            bird::start_with_hold(&msee, &folder, &microsoft(), hold_s)?,
        ];
        let edge = Edge::start_with(&middle, &folder, configuration)?;
        Ok(Straight { edge, _routers: routers, ce, middle, msee, folder, _guard: guard })
    }

    /// Whether every session is.
    ///
    /// # Errors
    /// None: who does not answer is not Established.
    pub fn is_established(&self) -> Result<bool> {
        let sessions = self.edge.sessions().unwrap_or_default();
        Ok(sessions.len() == 4 && sessions.iter().all(|session| session.state == "Established"))
    }

    /// Where files may be put.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until `done`, asking again and again.
    ///
    /// # Errors
    /// That it waited in vain, with what the daemon says of itself.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !done(self)? {
            self.edge.must_run()?;
            if begin.elapsed() > PATIENCE {
                let table = |topic| self.edge.table(topic).unwrap_or_default();
                let (sessions, counters) = (table("sessions"), table("counters"));
                bail!("waited in vain for {what}\n{sessions}\n{counters}\n{}", self.edge.process().tail(30));
            }
            thread::sleep(Duration::from_millis(100));
        }
        println!("  {what}: after {:.1} s", begin.elapsed().as_secs_f32());
        Ok(())
    }
}

fn near(link: &plan::Link) -> [String; 2] {
    [format!("{}/{}", link.ipv4.0, link.ipv4.2), format!("{}/{}", link.ipv6.0, link.ipv6.2)]
}

fn far(link: &plan::Link) -> [String; 2] {
    [format!("{}/{}", link.ipv4.1, link.ipv4.2), format!("{}/{}", link.ipv6.1, link.ipv6.2)]
}

fn customer() -> Router {
    Router {
        namespace: "ce",
        asn: plan::CE_ASN,
        id: plan::CE.ipv4.0,
        neighbours: Neighbour::both("edge", &plan::CE, true, plan::EDGE_ASN).into(),
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
fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The families by their place in the pairs above.
pub const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// An address of the lab.
///
/// # Errors
/// When the text is none.
pub fn ip(text: &str) -> Result<std::net::IpAddr> {
    text.parse().with_context(|| format!("{text} is no address"))
}
