//! What is checked before anything is touched: can this machine, with these interfaces, run this configuration?
//!
//! [`Machine::read`] gathers facts and judges nothing; a fact that cannot be read is a fact too. [`check`] judges and
//! reads nothing, so that every finding has a row in a table of tests. What only shows when it is tried (a driver
//! without native XDP, a busy port 179) is said by whoever tries it.

mod far_end;
mod fix;
mod interface;
mod interrupts;
mod links;
mod memory;
pub mod netdev;

use std::{collections::BTreeMap, fmt, fs, thread};

pub use self::{
    far_end::FarEnd,
    fix::Fix,
    interface::{Feature, Interface, has_carrier, set_feature},
    links::SINGLE_BUFFER_MTU,
};
use super::sysctl;
use crate::config::{Attachment, Config, Tags};

/// Whether the router may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may: it changes this itself while it runs. Only `erdp doctor` tells.
    Note,
    /// It may, and the operator should know.
    Warning,
    /// It must not: it would forward nothing, or wrongly.
    Refusal,
}

/// What a finding is about: the list of all that the doctor knows. Each is provoked somewhere and seen to go
/// (`preflight/treated.rs` has the table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Capabilities that are lacking.
    Privilege,
    /// A kernel that is too old, or older than what is tested, or cannot be told.
    Kernel,
    /// The kernel does not tell its types.
    Btf,
    /// The control group allows less memory than the maps take.
    Memory,
    /// An interface that does not exist.
    Missing,
    /// An interface that is down.
    Down,
    /// An MTU beyond one buffer.
    Mtu,
    /// Packets are merged before XDP (LRO).
    Lro,
    /// Packets are merged before XDP (GRO in hardware).
    GroHw,
    /// No XDP in the driver.
    NoXdp,
    /// A veth that takes no frames from XDP.
    NoTarget,
    /// Fewer receive queues than processors.
    Queues,
    /// The interrupts of several receive queues on one processor.
    Interrupts,
    /// Tags are taken off before XDP.
    TagsStripped,
    /// Frames of unknown VLANs are filtered before XDP.
    VlanFilter,
    /// No room for two tags.
    TagsMtu,
    /// A setting that the router makes itself.
    Setting,
    /// The far end of a veth leaves checksums to hardware that is not there.
    Checksums,
}

impl Kind {
    /// All.
    pub const ALL: [Kind; 18] = [
        Kind::Privilege,
        Kind::Kernel,
        Kind::Btf,
        Kind::Memory,
        Kind::Missing,
        Kind::Down,
        Kind::Mtu,
        Kind::Lro,
        Kind::GroHw,
        Kind::NoXdp,
        Kind::NoTarget,
        Kind::Queues,
        Kind::Interrupts,
        Kind::TagsStripped,
        Kind::VlanFilter,
        Kind::TagsMtu,
        Kind::Setting,
        Kind::Checksums,
    ];
}

/// Something about the machine that the operator must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which of those that there are.
    pub kind: Kind,
    /// What it is about.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// How bad it is.
    pub severity: Severity,
    /// What `erdp doctor --fix` does about it, where it can.
    pub fix: Option<Fix>,
}

impl Finding {
    /// Whether the router must not start.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Refusal
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { object, reason, remedy, .. } = self;
        write!(f, "{object}: {reason}; {remedy}")
    }
}

/// The facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's release, as `uname -r` shows it.
    pub release: String,
    /// The effective capabilities, one bit each (capability(7)).
    pub capabilities: u64,
    /// Whether the kernel tells its types, which the BPF program is fitted to.
    pub has_btf: bool,
    /// Processors that are on.
    pub cpus: u32,
    /// What the control groups of this process leave of memory, in bytes; `None`: no limit.
    pub memory: Option<u64>,
    /// Settings that are not as the router needs them, and makes them: name below /proc/sys/net, value, needed value.
    pub sysctls: Vec<sysctl::Pending>,
    /// The interfaces of our network namespace, by name. Only those of the configuration have been looked at closely.
    pub interfaces: BTreeMap<String, Interface>,
}

impl Machine {
    /// Reads everything that [`check`] wants to know; without a configuration, nothing of interfaces but their names.
    pub fn read(config: Option<&Config>) -> Machine {
        let mut interfaces: BTreeMap<_, _> =
            interface::names().into_iter().map(|name| (name, Interface::default())).collect();
        let attachments = config.map(Config::attachments).unwrap_or_default();
        for attachment in &attachments {
            if let Some(found) = interfaces.get_mut(&attachment.interface) {
                *found = Interface::read(&attachment.interface);
            }
        }
        let names: Vec<&str> = interfaces_of(&attachments).into_iter().map(|(name, _)| name).collect();
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Machine {
            release: line("/proc/sys/kernel/osrelease").trim().to_owned(),
            capabilities: effective_capabilities(&line("/proc/self/status")),
            has_btf: fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false),
            cpus: thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
            memory: memory::available(),
            sysctls: sysctl::pending(&names),
            interfaces,
        }
    }
}

fn effective_capabilities(status: &str) -> u64 {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Every finding: about the machine first, then about each interface in the order of the configuration, if there is one.
pub fn check(config: Option<&Config>, machine: &Machine, allow_generic: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(privilege(machine.capabilities));
    findings.extend(kernel(&machine.release));
    findings.extend(btf(machine.has_btf));
    findings.extend(config.and_then(|config| memory::finding(config.fib_blocks, machine.memory)));
    let there: Vec<&str> = machine.interfaces.keys().map(String::as_str).collect();
    findings.extend(config.iter().flat_map(|config| missing_interfaces(config, &there)));
    let attachments = config.map(Config::attachments).unwrap_or_default();
    for (name, tags) in interfaces_of(&attachments) {
        if let Some(interface) = machine.interfaces.get(name) {
            findings.extend(links::findings(name, interface, tags, allow_generic, machine.cpus));
        }
    }
    findings.extend(machine.sysctls.iter().map(setting));
    findings
}

/// A setting that `erdp run` makes while it runs.
fn setting(pending: &sysctl::Pending) -> Finding {
    let sysctl::Pending { name, now, needed } = pending;
    let fix = Fix::Sysctl(name.clone(), needed);
    let reason = format!("is {now}; `erdp run` sets it to {needed} while it runs and restores it afterwards");
    Finding {
        severity: Severity::Note,
        fix: Some(fix.clone()),
        ..refusal(Kind::Setting, format!("sysctl net/{name}"), reason, fix.to_string())
    }
}

/// Each interface once, with the longest tags of its attachments.
fn interfaces_of(attachments: &[Attachment]) -> Vec<(&str, Tags)> {
    let mut list: Vec<(&str, Tags)> = Vec::new();
    for attachment in attachments {
        match list.iter_mut().find(|(name, _)| *name == attachment.interface) {
            Some((_, tags)) if tags.iter().count() < attachment.tags.iter().count() => {
                *tags = attachment.tags
            }
            Some(_) => {}
            None => list.push((&attachment.interface, attachment.tags)),
        }
    }
    list
}

/// The interfaces of the configuration that are not there, given the names of all that are. The router starts without them, unless one is
/// required or it would have none at all.
pub fn missing_interfaces(config: &Config, there: &[&str]) -> Vec<Finding> {
    let attachments = config.attachments();
    let wanted = interfaces_of(&attachments);
    let required = config.required_interfaces();
    let is_there = |name: &str| there.contains(&name);
    let has_none = !wanted.iter().any(|(name, _)| is_there(name));
    let mut others: Vec<&str> = there.iter().copied().filter(|name| *name != "lo").collect();
    others.sort_unstable();
    let list = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
    let finding = |name: &str| {
        let object = format!("interface {name}");
        let reason = "does not exist in this network namespace";
        let remedy = format!("correct the configuration or create it (there are: {list})");
        if required.contains(name) {
            refusal(Kind::Missing, object, reason, remedy + "; the configuration requires it")
        } else if has_none {
            refusal(
                Kind::Missing,
                object,
                reason,
                remedy + "; none of the configuration's interfaces is there",
            )
        } else {
            warning(Kind::Missing, object, reason, remedy + "; `erdp run` starts without it")
        }
    };
    wanted.into_iter().filter(|(name, _)| !is_there(name)).map(|(name, _)| finding(name)).collect()
}

fn refusal(
    kind: Kind,
    object: impl Into<String>,
    reason: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding {
        kind,
        object: object.into(),
        reason: reason.into(),
        remedy: remedy.into(),
        severity: Severity::Refusal,
        fix: None,
    }
}

fn warning(
    kind: Kind,
    object: impl Into<String>,
    reason: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { severity: Severity::Warning, ..refusal(kind, object, reason, remedy) }
}

/// capability(7): bits of the capabilities that loading an XDP program and holding port 179 need. CAP_NET_RAW is not
/// among them: binding a socket to an interface needs none since Linux 5.7.
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What the daemon needs and nothing else: the list of the systemd unit.
pub const NEEDED_CAPABILITIES: [&str; 4] =
    ["CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"];

fn privilege(capabilities: u64) -> Option<Finding> {
    let has = |bit: u32| capabilities & (1 << bit) != 0;
    let needed = [
        ("CAP_NET_BIND_SERVICE", has(CAP_NET_BIND_SERVICE)),
        ("CAP_NET_ADMIN", has(CAP_NET_ADMIN)),
        // Before they were split off in Linux 5.8, CAP_SYS_ADMIN stood for both, and it still does.
        ("CAP_PERFMON", has(CAP_PERFMON) || has(CAP_SYS_ADMIN)),
        ("CAP_BPF", has(CAP_BPF) || has(CAP_SYS_ADMIN)),
    ];
    let missing: Vec<&str> = needed.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
    (!missing.is_empty()).then(|| {
        let reason = format!("lacks {}", missing.join(", "));
        refusal(
            Kind::Privilege,
            "this process",
            reason,
            "run it as root, or give it these capabilities (AmbientCapabilities=)",
        )
    })
}

/// The oldest kernel that has all that the program asks for.
const OLDEST: (u32, u32) = (5, 15);
/// The oldest kernel that all parts are tested on (`cargo xtask verify`); 5.16 is the first that keeps neighbours resolved by itself
/// (NTF_EXT_MANAGED).
const TESTED: (u32, u32) = (6, 1);

fn kernel(release: &str) -> Option<Finding> {
    let object = format!("kernel {release}");
    match version(release) {
        None => Some(warning(
            Kind::Kernel,
            object,
            "has a release that cannot be understood",
            "make sure it is 5.15 or newer",
        )),
        Some(version) if version < OLDEST => Some(refusal(
            Kind::Kernel,
            object,
            "is older than 5.15",
            "boot 5.15 or newer, better 6.1 or newer",
        )),
        Some(version) if version < TESTED => {
            let reason = if version < (5, 16) {
                "is older than what is tested, and cannot keep neighbours resolved by itself: a silent one may be lost for a moment"
            } else {
                "is older than what is tested: its verifier may refuse the program"
            };
            Some(warning(Kind::Kernel, object, reason, "boot 6.1 or newer"))
        }
        Some(_) => None,
    }
}

/// Major and minor of a release such as `6.1.0-18-cloud-amd64` or `6.18-rc1`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn btf(has_btf: bool) -> Option<Finding> {
    (!has_btf).then(|| {
        let reason = "is missing: the kernel does not describe its types (BTF)";
        let remedy = "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (every current distribution's is), and mount /sys";
        refusal(Kind::Btf, "/sys/kernel/btf/vmlinux", reason, remedy)
    })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod treated;
