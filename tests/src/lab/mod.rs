//! The lab: six network namespaces, real BGP routers in them, and a daemon in the middle.
//!
//! Files, in the order in which a lab comes up: [`cleanup`] registers everything that must not be left behind, [`netns`] makes
//! namespaces and the links between them, [`enter`] runs threads and programs inside, [`process`] keeps daemons, [`plan`] says
//! who is where, [`prefixes`] what is announced, [`bird`] and [`frr`] are the routers, [`tag_switch`] is the far end of tagged links,
//! [`beside`] has FRR on the edge itself, [`straight`] is a smaller lab for tests that need one way only, [`full_circuit`] has both peerings on both links,
//! [`cards`] are links of network cards (VM lab). [`Lab::up`] puts them together.
//!
//! What must never happen: traffic outside these namespaces; a namespace, process, link or folder left behind; a real prefix in
//! a kernel's routing table.

pub mod beside;
pub mod bird;
pub mod cards;
pub mod cleanup;
pub mod enter;
pub mod frr;
pub mod full_circuit;
pub mod netns;
pub mod plan;
pub mod prefixes;
pub mod process;
pub mod straight;
pub mod tag_switch;

use std::{
    path::{Path, PathBuf},
    process as std_process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;

use self::{
    bird::{Neighbour, Router},
    cleanup::Guard,
    netns::Namespace,
    prefixes::Announced,
    process::Process,
};

/// What the edge's links are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Pairs of veth, untagged.
    Veth,
    /// Network cards of a virtual machine, with tags ([`cards`]).
    Cards,
}

impl Ground {
    /// How long what takes `time` on this machine may take there: an emulated processor is slow, and shares this machine's.
    pub fn patience(self, time: Duration) -> Duration {
        match self {
            Ground::Veth => time,
            Ground::Cards => time * 4,
        }
    }
}

/// A lab that is up. Dropping it takes it down: processes, then namespaces, then its folder.
#[derive(Debug)]
pub struct Lab {
    routers: Vec<Process>,
    namespaces: Vec<Namespace>,
    folder: PathBuf,
    name: String,
    ground: Ground,
    announced: Announced,
    _folder_guard: Guard,
}

/// A name for a lab that no other has, now or in another program: `erdp1234`, `erdp1234.1`, ... by the owner's process id.
pub fn new_name() -> String {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let number = LABS.fetch_add(1, Ordering::Relaxed);
    let suffix = if number == 0 { String::new() } else { format!(".{number}") };
    format!("erdp{}{suffix}", std_process::id())
}

impl Lab {
    /// Brings up namespaces, links, addresses and routers; the routers begin to speak. The edge is left empty.
    ///
    /// `tell` gets a line for each step.
    ///
    /// # Errors
    /// Names the step; what had come up is taken down.
    pub fn up(ground: Ground, tell: &mut dyn FnMut(&str)) -> Result<Lab> {
        cleanup::on_signals()?;
        let swept = cleanup::sweep();
        if !swept.is_empty() {
            tell(&format!("removed what a dead lab had left: {}", swept.join(" ")));
        }
        let name = new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let announced = Announced::table();
        let mut lab = Lab {
            routers: Vec::new(),
            namespaces: Vec::new(),
            folder,
            name,
            ground,
            announced,
            _folder_guard: guard,
        };
        tell("network namespaces, links and addresses");
        lab.wire().context("cannot wire the lab")?;
        tell("routers: CE (BIRD), primary MSEE (FRR), secondary MSEE (BIRD), VNet gateway (BIRD)");
        lab.start_routers().context("cannot start the lab's routers")?;
        Ok(lab)
    }

    /// What its links are made of.
    pub fn ground(&self) -> Ground {
        self.ground
    }

    /// The interface at a router's end of `link` whose counts are the frames on the wire: the card below sub-interfaces.
    pub fn wire_of(&self, end: (&'static str, &'static str)) -> String {
        match self.ground {
            Ground::Veth => end.1.to_owned(),
            Ground::Cards => cards::card_below(end.1),
        }
    }

    /// Cuts `link`, or mends it: both ends see the carrier go or come.
    ///
    /// # Errors
    /// `ip`'s own message.
    pub fn cut(&self, link: &plan::Link, cut: bool) -> Result<()> {
        if let (Ground::Cards, Some((number, _))) = (self.ground, cards::number_of(link)) {
            return cards::cut(number, cut);
        }
        let state = if cut { "down" } else { "up" };
        self.namespace(link.far.0)?.ip(&format!("link set {} {state}", link.far.1)).map(drop)
    }

    /// The lab's name: the beginning of its namespaces' names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder: configurations, sockets, logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the routers announce.
    pub fn announced(&self) -> &Announced {
        &self.announced
    }

    /// The namespace with the short name `short`.
    ///
    /// # Errors
    /// When there is none.
    pub fn namespace(&self, short: &str) -> Result<&Namespace> {
        let full = format!("{}-{short}", self.name);
        self.namespaces
            .iter()
            .find(|namespace| namespace.name() == full)
            .with_context(|| format!("the lab has no namespace {short}: {}", plan::NAMESPACES.join(", ")))
    }

    /// An error if a router has ended.
    ///
    /// # Errors
    /// Names it, with the end of its log.
    pub fn must_run(&mut self) -> Result<()> {
        self.routers.iter_mut().try_for_each(Process::must_run)
    }

    /// The process ids of the routers.
    pub fn processes(&self) -> Vec<u32> {
        self.routers.iter().map(Process::id).collect()
    }

    fn wire(&mut self) -> Result<()> {
        for short in plan::NAMESPACES {
            self.namespaces.push(Namespace::add(&format!("{}-{short}", self.name))?);
        }
        for router in ["ce", "msee1", "msee2"] {
            self.namespace(router)?.forward(true)?;
        }
        let edge = format!("{}-edge", self.name);
        for link in plan::LINKS {
            let (near, far) = (self.namespace(link.near.0)?, self.namespace(link.far.0)?);
            match (self.ground, cards::number_of(&link)) {
                (Ground::Cards, Some((number, tags))) => {
                    let (mut one, mut other) = ((near, link.near.1), (far, link.far.1));
                    if link.far.0 == "edge" {
                        (one, other) = (other, one);
                    }
                    cards::connect(number, one, other, tags)?;
                }
                _ => netns::connect((near, link.near.1), (far, link.far.1))?,
            }
            for (near_address, far_address, length) in [link.ipv4, link.ipv6] {
                for (namespace, interface, address) in
                    [(near, link.near.1, near_address), (far, link.far.1, far_address)]
                {
                    // The edge's addresses follow from its configuration: erdp sets them.
                    if namespace.name() != edge {
                        namespace.address(interface, &format!("{address}/{length}"))?;
                    }
                }
            }
        }
        let azure = self.namespace("azure")?;
        azure.address("lo", &format!("{}/32", plan::AZURE_IPV4))?;
        azure.address("lo", &format!("{}/128", plan::AZURE_IPV6))?;
        let host = self.namespace("host")?;
        host.ip(&format!("route add {} via {}", plan::LAB_IPV4, plan::LAN.ipv4.1))?;
        host.ip(&format!("-6 route add {} via {}", plan::LAB_IPV6, plan::LAN.ipv6.1))?;
        Ok(())
    }

    fn start_routers(&mut self) -> Result<()> {
        let ce = Router {
            namespace: "ce",
            asn: plan::CE_ASN,
            id: plan::CE.ipv4.0,
            neighbours: Neighbour::both("edge", &plan::CE, true, plan::EDGE_ASN).into(),
            announced: self.ce_announces()?,
            transit: false,
        };
        let gateway = Router {
            namespace: "azure",
            asn: plan::GATEWAY_ASN,
            id: plan::AZURE_IPV4,
            neighbours: [("one", &plan::VNET1), ("two", &plan::VNET2)]
                .into_iter()
                .flat_map(|(name, link)| Neighbour::both(name, link, false, plan::MSEE_ASN))
                .collect(),
            announced: parse(&[plan::VNET_IPV4, plan::VNET_IPV6])?,
            transit: false,
        };
        let primary = self.msee("msee1", &plan::PRIMARY, &plan::VNET1);
        let secondary = self.msee("msee2", &plan::SECONDARY, &plan::VNET2);
        let mut routers = frr::start(self, &primary)?;
        for router in [&secondary, &ce, &gateway] {
            routers.push(bird::start(self, router)?);
        }
        self.routers = routers;
        self.must_run()
    }

    fn msee(&self, namespace: &'static str, edge: &plan::Link, vnet: &plan::Link) -> Router {
        let mut neighbours: Vec<_> = Neighbour::both("edge", edge, false, plan::EDGE_ASN).into();
        neighbours.extend(Neighbour::both("vnet", vnet, true, plan::GATEWAY_ASN));
        let primary = namespace == "msee1";
        let announced = self.announced.msee.iter();
        let announced = announced.filter(|(_, links)| if primary { links.primary } else { links.secondary });
        let announced = announced.map(|(prefix, _)| *prefix).collect();
        Router { namespace, asn: plan::MSEE_ASN, id: edge.ipv4.1, neighbours, announced, transit: true }
    }

    /// Everything that the customer's router announces.
    ///
    /// # Errors
    /// None for the plan as it is.
    pub fn ce_announces(&self) -> Result<Vec<IpNet>> {
        let mut announced = self.announced.ce.clone();
        announced.extend(parse(&[plan::CUSTOMER_IPV4, plan::CUSTOMER_IPV6])?);
        Ok(announced)
    }
}

fn parse(prefixes: &[&str]) -> Result<Vec<IpNet>> {
    prefixes.iter().map(|text| text.parse().with_context(|| format!("not a prefix: {text}"))).collect()
}

/// Waits until `path` exists.
fn wait_for(path: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        if Instant::now() > deadline {
            bail!("{} did not appear: see the logs beside it", path.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
