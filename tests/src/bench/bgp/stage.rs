//! Where the table is sent: two namespaces and the links between them. The sender speaks as both MSEEs of one circuit and as routers of a
//! customer; each MSEE has an IPv4 and an IPv6 session.

use std::{net::IpAddr, path::PathBuf};

use anyhow::Result;

use super::{sender::Sender, stream};
use crate::{
    bench::routes::Version,
    lab::{
        cleanup::{self, Guard},
        netns::{self, Namespace},
    },
};

/// The MSEEs' addresses, IPv4 and IPv6 of each, which are the next hops of what they announce.
pub const MSEES: [[&str; 2]; 2] = [["198.18.0.2", "fd00:18::2"], ["198.18.0.6", "fd00:18::6"]];
/// The receiver's on the same links.
const RECEIVER: [[&str; 2]; 2] = [["198.18.0.1", "fd00:18::1"], ["198.18.0.5", "fd00:18::5"]];

/// The next hop of an MSEE's routes.
pub fn next_hop(msee: usize, version: Version) -> IpAddr {
    address(&MSEES, msee, version)
}

fn address(of: &[[&str; 2]; 2], msee: usize, version: Version) -> IpAddr {
    let text = of[msee][usize::from(version == Version::V6)];
    text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

/// Two namespaces and the links between them; everything goes with it.
pub struct Stage {
    /// The receiver's end.
    pub receiver: Namespace,
    /// The far end of all links.
    pub sender: Namespace,
    /// For configurations and logs.
    pub folder: PathBuf,
    _guard: Guard,
}

impl Stage {
    /// Makes it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Self> {
        let name = crate::lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let (receiver, sender) =
            (Namespace::add(&format!("{name}-rx"))?, Namespace::add(&format!("{name}-tx"))?);
        for (near, far) in [("up0", "msee0"), ("up1", "msee1"), ("ce0", "cust0")] {
            netns::connect((&receiver, near), (&sender, far))?;
        }
        for (msee, (near, far)) in [("up0", "msee0"), ("up1", "msee1")].into_iter().enumerate() {
            for (bits, version) in [(30, 0), (126, 1)] {
                receiver.address(near, &format!("{}/{bits}", RECEIVER[msee][version]))?;
                sender.address(far, &format!("{}/{bits}", MSEES[msee][version]))?;
            }
        }
        for host in 10..40 {
            sender.address("cust0", &format!("198.18.10.{host}/24"))?;
        }
        Ok(Self { receiver, sender, folder, _guard: guard })
    }

    /// A session of an MSEE.
    ///
    /// # Errors
    /// That there is none.
    pub fn msee(&self, msee: usize, version: Version) -> Result<Sender> {
        let (from, to) = (next_hop(msee, version), address(&RECEIVER, msee, version));
        let router_id = [198, 18, 0, 2 + 4 * msee as u8];
        Sender::connect(&self.sender, from, to, &stream::open(version, router_id))
    }
}
