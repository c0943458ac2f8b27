//! What the kernel of an edge must not do (invariants 11 and 14): answer ARP for another interface's address, accept router
//! advertisements or redirects, forward.
//!
//! With `ip_forward` off a Linux host still answers ARP and TCP for addresses of its other interfaces, so `arp_ignore = 1`
//! (only addresses of the incoming interface) and `arp_announce = 2` (source address of the outgoing one) are set too. What
//! was changed is put back when [`Sysctls`] is dropped.
//!
//! And how fast it notices that a neighbour has another MAC address ([`NEIGHBOURS`]): packets that XDP forwards neither confirm a neighbour
//! nor find out that it has gone, so the kernel's own questions are all there is. With its defaults they take 17 s.

use std::{fs, io, path::PathBuf};

/// Settings of the whole network namespace.
const GLOBAL: [(&str, &str); 2] = [("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0")];
/// Settings of each of our interfaces. `rp_filter = 0`: both links of a circuit are active, return paths are asymmetric, and
/// the packet path has its own source checks.
const EACH: [(&str, &str); 8] = [
    ("ipv4/conf/{}/arp_ignore", "1"),
    ("ipv4/conf/{}/arp_announce", "2"),
    ("ipv4/conf/{}/rp_filter", "0"),
    ("ipv4/conf/{}/accept_redirects", "0"),
    ("ipv4/conf/{}/send_redirects", "0"),
    ("ipv6/conf/{}/accept_ra", "0"),
    ("ipv6/conf/{}/accept_redirects", "0"),
    ("ipv6/conf/{}/autoconf", "0"),
];

/// How the kernel asks for the neighbours on each of our interfaces, in both families. A neighbour that has answered counts as there for a
/// quarter to three quarters of a second (`base_reachable_time_ms`). At the controller's next request for it, one a second, it is asked
/// again, at once (`delay_first_probe_time`): twice at the address that is known, then anybody who has it (`mcast_resolicit`), four times a
/// second. So a new MAC address is known within three seconds, and a neighbour is given up after three seconds of silence, as with the
/// kernel's defaults. While no controller runs the kernel's own turn (`interval_probe_time_ms`, five seconds and for all network
/// namespaces alike) takes the place of the request. Linux 6.1 has all of these; where one is not there, it is left out.
const NEIGHBOURS: [(&str, &str); 5] = [
    ("base_reachable_time_ms", "500"),
    ("delay_first_probe_time", "0"),
    ("retrans_time_ms", "240"),
    ("ucast_solicit", "2"),
    ("mcast_resolicit", "10"),
];

/// A setting that could not be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "sysctl {name} = {value}: {error}; erdp needs root or a writable /proc/sys, or set it yourself beforehand"
)]
pub struct SysctlError {
    /// Its path below /proc/sys/net.
    pub name: String,
    /// The value that is needed.
    pub value: &'static str,
    /// The kernel's reason.
    pub error: io::Error,
}

/// A setting that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its path below /proc/sys/net.
    pub name: String,
    /// What it is.
    pub now: String,
    /// What it must be.
    pub needed: &'static str,
}

/// The settings that [`Sysctls::set`] would change.
pub fn pending(interfaces: &[&str]) -> Vec<Pending> {
    let is_pending = |(name, needed): (String, &'static str)| {
        let now = fs::read_to_string(path(&name)).ok()?.trim().to_owned();
        (now != needed).then_some(Pending { name, now, needed })
    };
    settings(interfaces).filter_map(is_pending).collect()
}

/// All settings for these interfaces, by their paths below /proc/sys/net.
fn settings(interfaces: &[&str]) -> impl Iterator<Item = (String, &'static str)> {
    let global = GLOBAL.iter().map(|(name, value)| ((*name).to_owned(), *value));
    let each = interfaces.iter().flat_map(|interface| {
        // A dot in an interface name (VLANs) is a slash for sysctl, but a dot in /proc/sys.
        EACH.iter().map(move |(name, value)| (name.replace("{}", interface), *value))
    });
    global.chain(each)
}

/// [`NEIGHBOURS`] of these interfaces, by their paths below /proc/sys/net.
fn of_neighbours(interfaces: &[&str]) -> impl Iterator<Item = (String, &'static str)> {
    let families =
        interfaces.iter().flat_map(|interface| ["ipv4", "ipv6"].map(|family| (family, *interface)));
    families.flat_map(|(family, interface)| {
        NEIGHBOURS.iter().map(move |(name, value)| (format!("{family}/neigh/{interface}/{name}"), *value))
    })
}

/// The settings that were changed, and what they were.
#[derive(Debug, Default)]
pub struct Sysctls(Vec<(String, String)>);

impl Sysctls {
    /// Makes all settings for these interfaces. Those of IPv6 are left out where IPv6 is not there.
    pub fn set(interfaces: &[&str]) -> Result<Self, SysctlError> {
        let mut changed = Self::default();
        for (name, value) in settings(interfaces).chain(of_neighbours(interfaces)) {
            changed.make(name, value)?;
        }
        Ok(changed)
    }

    /// Adds what an edge before us has changed and not put back.
    pub fn remember(&mut self, before: &[(String, String)]) {
        let is_new = |name: &str| self.0.iter().all(|(known, _)| known != name);
        let unknown: Vec<_> = before.iter().filter(|(name, _)| is_new(name)).cloned().collect();
        self.0.splice(0..0, unknown);
    }

    /// Leaves everything as it is: somebody else will put it back.
    pub fn leave(mut self) {
        self.0.clear();
    }

    /// The names of the settings that were changed, with their former values.
    pub fn changed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, before)| (name.as_str(), before.as_str()))
    }

    fn make(&mut self, name: String, value: &'static str) -> Result<(), SysctlError> {
        let path = path(&name);
        let before = match fs::read_to_string(&path) {
            Ok(before) => before.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_missing(&name) => {
                return Ok(());
            }
            Err(error) => return Err(SysctlError { name, value, error }),
        };
        if before == value {
            return Ok(());
        }
        if let Err(error) = fs::write(&path, value) {
            return Err(SysctlError { name, value, error });
        }
        self.0.push((name, before));
        Ok(())
    }
}

impl Drop for Sysctls {
    fn drop(&mut self) {
        for (name, before) in self.0.drain(..).rev() {
            // An interface may be gone, and its settings with it.
            if let Err(error) = fs::write(path(&name), &before) {
                tracing::debug!(name, before, %error, "sysctl not put back");
            }
        }
    }
}

/// IPv6 may not be there, and an older kernel has fewer settings of neighbours. That an interface is missing is said by the others.
fn may_be_missing(name: &str) -> bool {
    name.starts_with("ipv6") || name.contains("/neigh/")
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}
