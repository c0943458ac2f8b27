//! A lab for failures: an edge between a customer's router and two MSEEs, with a wire on each link that can be cut silently.
//!
//! ```text
//!               /--- wire1 (bridge) --- msee1 (FRR or BIRD)     probes from ce to the VNet,
//!  ce --- edge                                                  received at whichever MSEE they come to
//!               \--- wire2 (bridge) --- msee2 (BIRD)
//! ```
//! Files: [`bench`] (losses measured), [`soak`] (everything at once, for long), [`stand`] (the lab with its routers), [`peers`] (their
//! configurations, BFD included), [`probe`] (numbered and timed datagrams), [`flows`] (the ways of many flows), [`mixed`] (an edge with FRR and BIRD, up), this one (namespaces,
//! wires, faults). A wire is a namespace with a bridge: what fails in it takes no carrier from either end, as a provider's network does.
//! Everything is in namespaces of its own with addresses of 198.18.0.0/15 and fd00::/8, and gone with [`Place`].

pub mod bench;
pub mod flows;
pub mod mixed;
pub mod peers;
pub mod probe;
pub mod soak;
pub mod stand;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::edge::Edge;
use crate::lab::{
    self,
    cleanup::{self, Guard},
    netns::{self, Namespace},
    process::Process,
};

/// Addresses of a link's ends: the edge's, the neighbour's, and the prefix length.
type Ends = (&'static str, &'static str, u8);

/// A link from the edge to an MSEE.
#[derive(Debug)]
pub struct Link {
    /// Short name of the MSEE's namespace, and of the edge's interface towards it.
    pub msee: &'static str,
    /// IPv4.
    pub ipv4: Ends,
    /// IPv6.
    pub ipv6: Ends,
}

/// Both of them, the primary first.
pub const LINKS: [Link; 2] = [
    Link {
        msee: "msee1",
        ipv4: ("198.18.0.1", "198.18.0.2", 30),
        ipv6: ("fd00:0:0:10::1", "fd00:0:0:10::2", 126),
    },
    Link {
        msee: "msee2",
        ipv4: ("198.18.0.5", "198.18.0.6", 30),
        ipv6: ("fd00:0:0:10::5", "fd00:0:0:10::6", 126),
    },
];
/// The customer's link.
pub const CE: (Ends, Ends) = (("198.18.1.1", "198.18.1.2", 30), ("fd00:0:0:1::1", "fd00:0:0:1::2", 64));
/// The host in the VNet: both MSEEs have its address.
pub const HOST: &str = "198.18.192.10";

/// What is done to a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes in either direction, and nobody sees it.
    Silent,
    /// Nothing passes towards the MSEE.
    TowardsMsee,
    /// Nothing passes towards the edge.
    TowardsEdge,
    /// The edge's interface loses its carrier.
    Carrier,
}

/// The lab without an edge daemon. Dropping it takes it down: processes, then namespaces, then its folder.
#[derive(Debug)]
pub struct Place {
    /// The routers, by what they are told to run.
    pub routers: Vec<Process>,
    namespaces: Vec<Namespace>,
    folder: PathBuf,
    name: String,
    _guard: Guard,
}

impl Place {
    /// Namespaces, wires and addresses; the edge's own addresses too if its kernel is to forward.
    ///
    /// # Errors
    /// Names the step; what had come up is taken down.
    pub fn up(kernel_forwards: bool) -> Result<Place> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let mut place = Place { routers: Vec::new(), namespaces: Vec::new(), folder, name, _guard: guard };
        for short in ["edge", "ce", "msee1", "msee2", "wire1", "wire2"] {
            place.namespaces.push(Namespace::add(&format!("{}-{short}", place.name))?);
        }
        place.wire(kernel_forwards)?;
        Ok(place)
    }

    fn wire(&self, kernel_forwards: bool) -> Result<()> {
        let (edge, ce) = (self.namespace("edge")?, self.namespace("ce")?);
        netns::connect((ce, "edge0"), (edge, "ce0"))?;
        edge.forward(kernel_forwards)?;
        let address =
            |at: &Namespace, on: &str, of: &str, length: u8| at.address(on, &format!("{of}/{length}"));
        for (ends, far) in [(CE.0, ce), (CE.1, ce)] {
            address(far, "edge0", ends.1, ends.2)?;
            if kernel_forwards {
                address(edge, "ce0", ends.0, ends.2)?;
            }
        }
        for (link, wire) in LINKS.iter().zip(["wire1", "wire2"]) {
            let (msee, wire) = (self.namespace(link.msee)?, self.namespace(wire)?);
            wire.ip("link add name switch type bridge forward_delay 0 stp_state 0 mcast_snooping 0")?;
            wire.ip("link set switch up")?;
            netns::connect((edge, link.msee), (wire, "edge"))?;
            netns::connect((msee, "edge0"), (wire, "msee"))?;
            for port in ["edge", "msee"] {
                wire.ip(&format!("link set {port} master switch"))?;
            }
            for ends in [link.ipv4, link.ipv6] {
                address(msee, "edge0", ends.1, ends.2)?;
                if kernel_forwards {
                    address(edge, link.msee, ends.0, ends.2)?;
                }
            }
            address(msee, "lo", HOST, 32)?;
        }
        ce.ip(&format!("route add 198.18.128.0/17 via {}", CE.0.0))?;
        Ok(())
    }

    /// The namespace with this short name.
    ///
    /// # Errors
    /// When there is none.
    pub fn namespace(&self, short: &str) -> Result<&Namespace> {
        let full = format!("{}-{short}", self.name);
        self.namespaces.iter().find(|it| it.name() == full).with_context(|| format!("no namespace {short}"))
    }

    /// Configurations, sockets, logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Something happens to a link, 0 being the primary.
    ///
    /// # Errors
    /// `tc`'s or `ip`'s own message.
    pub fn fail(&self, link: usize, fault: Fault) -> Result<()> {
        let wire = self.namespace(["wire1", "wire2"][link])?;
        // A bucket that holds no packet: all are dropped.
        let drop_on = |port: &str| {
            let words =
                ["qdisc", "replace", "dev", port, "root", "tbf", "rate", "8bit", "burst", "1", "limit", "1"];
            wire.exec("tc", &words).map(drop)
        };
        match fault {
            Fault::Silent => drop_on("msee").and_then(|()| drop_on("edge")),
            Fault::TowardsMsee => drop_on("msee"),
            Fault::TowardsEdge => drop_on("edge"),
            Fault::Carrier => wire.ip("link set edge down").map(drop),
        }
    }

    /// All that was done to a link is undone.
    ///
    /// # Errors
    /// `tc`'s or `ip`'s own message.
    pub fn heal(&self, link: usize) -> Result<()> {
        let wire = self.namespace(["wire1", "wire2"][link])?;
        for port in ["msee", "edge"] {
            if wire.exec("tc", &["qdisc", "show", "dev", port])?.contains("tbf") {
                wire.exec("tc", &["qdisc", "del", "dev", port, "root"])?;
            }
        }
        wire.ip("link set edge up")?;
        // A bridge goes by the kernel's link watch, which may look at this end a second late only; who asks for its state has it look.
        wire.ip("link show edge").map(drop)
    }

    /// Ends what still runs of the routers with this word in their names.
    pub fn end(&mut self, word: &str) {
        self.routers.retain(|router| !router.name().contains(word));
    }
}

/// Waits until `done`, asking again and again; the answer is how long it took.
///
/// # Errors
/// When it takes longer than `patience`, or `done` fails.
pub fn until(what: &str, patience: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let begin = Instant::now();
    while !done()? {
        if begin.elapsed() > patience {
            bail!("waited in vain for {what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(begin.elapsed())
}

/// A row of `erdp show bfd --json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Session {
    /// The peer's address.
    pub peer: String,
    /// Our state.
    pub state: String,
    /// The interval in which we send, in milliseconds.
    pub interval_ms: f64,
    /// The detection time.
    pub detection_ms: Option<f64>,
    /// How often it has come up.
    pub ups: u64,
    /// `alive`, `dead` or `not judged`.
    pub next_hop: String,
    /// Packets that the packet path has answered.
    pub answered: u64,
    /// How often its deadline has passed.
    pub expired: u64,
}

/// The BFD sessions of an edge.
///
/// # Errors
/// erdp's own message, or an answer of another shape.
pub fn sessions(edge: &Edge) -> Result<Vec<Session>> {
    serde_json::from_str(&edge.show("bfd")?).context("`erdp show bfd` has another shape")
}
