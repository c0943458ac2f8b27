//! What the kernel of an edge must not do (invariants 11 and 14): answer ARP for another interface's address, accept router
//! advertisements or redirects, forward.
//!
//! With `ip_forward` off a Linux host still answers ARP and TCP for addresses of its other interfaces, so `arp_ignore = 1`
//! (only addresses of the incoming interface) and `arp_announce = 2` (source address of the outgoing one) are set too. What
//! was changed is put back when [`Sysctls`] is dropped.
//!
//! And how fast it notices that a neighbour has another MAC address ([`NEIGHBOURS`]): packets that XDP forwards neither confirm a neighbour
//! nor find out that it has gone, so the kernel's own questions are all there is. With its defaults they take 17 s.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::folder::Folder;

/// Where the settings are.
const ROOT: &str = "/proc/sys/net";
/// Longest text of a setting in bytes.
const VALUE_MAX: u64 = 64;

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
        let now = read(&Folder::open(Path::new(ROOT)).ok()?, &name).ok()?;
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

/// Whether a setting is one that is changed here, and a value one that the kernel may have had: what a note says is put back only then.
pub fn may_be_restored(name: &str, value: &str) -> bool {
    let is_a_number = value.parse::<i32>().is_ok_and(|number| number.to_string() == value);
    let is_named_so = |pattern: &str| {
        let Some((before, after)) = pattern.split_once("{}") else { return name == pattern };
        name.strip_prefix(before).and_then(|it| it.strip_suffix(after)).is_some_and(is_interface)
    };
    let of_neighbours = ["ipv4", "ipv6"].into_iter().flat_map(|family| {
        NEIGHBOURS.iter().map(move |(setting, _)| format!("{family}/neigh/{{}}/{setting}"))
    });
    let mut patterns = GLOBAL.iter().chain(&EACH).map(|(name, _)| (*name).to_owned()).chain(of_neighbours);
    is_a_number && patterns.any(|pattern| is_named_so(&pattern))
}

/// Whether an interface may have this name (`dev_valid_name` of the kernel), and the settings of this name are those of one interface.
fn is_interface(name: &str) -> bool {
    let is_apart = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    (1..=15).contains(&name.len())
        && !name.contains(is_apart)
        && ![".", "..", "all", "default"].contains(&name)
}

/// The settings that were changed, and what they were.
#[derive(Debug)]
pub struct Sysctls {
    changed: Vec<(String, String)>,
    root: PathBuf,
}

impl Default for Sysctls {
    fn default() -> Self {
        Self::below(ROOT.into())
    }
}

impl Sysctls {
    /// None yet, of those below a folder.
    pub fn below(root: PathBuf) -> Self {
        Self { changed: Vec::new(), root }
    }

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
        let is_new = |name: &str| self.changed.iter().all(|(known, _)| known != name);
        // Notes are sifted when they are read; what is not ours to write is not written whoever hands it in.
        let is_ours = |(name, value): &&(String, String)| is_new(name) && may_be_restored(name, value);
        let unknown: Vec<_> = before.iter().filter(is_ours).cloned().collect();
        self.changed.splice(0..0, unknown);
    }

    /// Leaves everything as it is: somebody else will put it back.
    pub fn leave(mut self) {
        self.changed.clear();
    }

    /// The names of the settings that were changed, with their former values.
    pub fn changed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.changed.iter().map(|(name, before)| (name.as_str(), before.as_str()))
    }

    fn make(&mut self, name: String, value: &'static str) -> Result<(), SysctlError> {
        let folder = match Folder::open(&self.root) {
            Ok(folder) => folder,
            Err(error) => return Err(SysctlError { name, value, error }),
        };
        let before = match read(&folder, &name) {
            Ok(before) => before,
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_missing(&name) => {
                return Ok(());
            }
            Err(error) => return Err(SysctlError { name, value, error }),
        };
        if before == value {
            return Ok(());
        }
        if let Err(error) = folder.write(Path::new(&name), value) {
            return Err(SysctlError { name, value, error });
        }
        self.changed.push((name, before));
        Ok(())
    }
}

impl Drop for Sysctls {
    fn drop(&mut self) {
        for (name, before) in self.changed.drain(..).rev() {
            let written = Folder::open(&self.root).and_then(|it| it.write(Path::new(&name), &before));
            // An interface may be gone, and its settings with it.
            if let Err(error) = written {
                tracing::debug!(name, before, %error, "sysctl not put back");
            }
        }
    }
}

/// IPv6 may not be there, and an older kernel has fewer settings of neighbours. That an interface is missing is said by the others.
fn may_be_missing(name: &str) -> bool {
    name.starts_with("ipv6") || name.contains("/neigh/")
}

fn read(folder: &Folder, name: &str) -> io::Result<String> {
    let content = folder.read(Path::new(name), VALUE_MAX)?;
    Ok(String::from_utf8_lossy(&content.bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_are_changed_here_are_put_back_and_only_to_numbers() {
        let ours = settings(&["eth0", "eth1.100"]).chain(of_neighbours(&["erdp-1"]));
        for (name, _) in ours {
            assert!(may_be_restored(&name, "1") && may_be_restored(&name, "-1"), "{name}");
        }
        for name in [
            "/etc/passwd",
            "/proc/sys/net/ipv4/ip_forward",
            "../kernel/core_pattern",
            "ipv4/conf/../ip_forward",
            "ipv4/conf/../../../kernel/modprobe/arp_ignore",
            "ipv4/conf/a/b/arp_ignore",
            "ipv4/conf//arp_ignore",
            "ipv4/conf/./arp_ignore",
            "ipv4/conf/all/arp_ignore",
            "ipv4/conf/default/rp_filter",
            "ipv4/conf/sixteen-letters-/arp_ignore",
            "ipv4/conf/eth 0/arp_ignore",
            "ipv4/conf/eth0/arp_filter",
            "ipv4/conf/{}/arp_ignore",
            "ipv4/conf/eth0/arp_ignore/",
            "ipv4/ip_forward\0",
            "ipv4/ip_local_port_range",
            "core/bpf_jit_enable",
            "",
        ] {
            let is_a_name = name == "ipv4/conf/{}/arp_ignore";
            assert_eq!(may_be_restored(name, "1"), is_a_name, "{name:?}");
        }
        for value in ["", " 1", "1\n", "01", "+1", "0x1", "1 2", "|/tmp/x", "9999999999"] {
            assert!(!may_be_restored("ipv4/ip_forward", value), "{value:?}");
        }
    }
}
