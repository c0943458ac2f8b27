//! What `erdp doctor --fix` does about a finding, said as the command that an operator would type.
//!
//! Nothing else is changed, and nothing is kept for the next boot: that is the machine's own network configuration's part.

use std::{fmt, fs, io, path::Path};

use super::interface;

/// One change of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// An offload of an interface, by the kernel's name for it.
    Feature(String, &'static str, bool),
    /// The interface takes every frame, whatever its filters.
    Promiscuous(String),
    /// The interface is used.
    Up(String),
    /// Its MTU in bytes.
    Mtu(String, u32),
    /// Its pairs of queues.
    Queues(String, u32),
    /// Interrupts, and the processor of each.
    Interrupts(Vec<(u32, u32)>),
    /// A setting below /proc/sys/net.
    Sysctl(String, &'static str),
}

impl Fix {
    /// Makes the change.
    ///
    /// # Errors
    /// The kernel's: no privilege, or a driver that cannot.
    pub fn apply(&self) -> io::Result<()> {
        match self {
            Fix::Feature(name, feature, on) => interface::switch_feature(name, feature, *on),
            Fix::Promiscuous(name) => interface::set_flags(name, libc::IFF_PROMISC),
            Fix::Up(name) => interface::set_flags(name, libc::IFF_UP),
            Fix::Mtu(name, mtu) => interface::set_mtu(name, *mtu),
            Fix::Queues(name, queues) => interface::set_queues(name, *queues),
            Fix::Interrupts(places) => {
                places.iter().try_for_each(|(number, cpu)| fs::write(affinity(*number), cpu.to_string()))
            }
            Fix::Sysctl(name, value) => fs::write(Path::new("/proc/sys/net").join(name), value),
        }
    }
}

/// Where it is said which processors an interrupt goes to.
fn affinity(number: u32) -> String {
    format!("/proc/irq/{number}/smp_affinity_list")
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fix::Feature(name, feature, on) => {
                // ethtool has old short names for some.
                let feature = match *feature {
                    "rx-lro" => "lro",
                    "rx-vlan-hw-parse" => "rxvlan",
                    other => other,
                };
                write!(f, "ethtool -K {name} {feature} {}", if *on { "on" } else { "off" })
            }
            Fix::Promiscuous(name) => write!(f, "ip link set {name} promisc on"),
            Fix::Up(name) => write!(f, "ip link set {name} up"),
            Fix::Mtu(name, mtu) => write!(f, "ip link set {name} mtu {mtu}"),
            Fix::Queues(name, queues) => {
                write!(f, "ethtool -L {name} combined {queues} (or rx {queues} tx {queues})")
            }
            Fix::Interrupts(places) => {
                let lines = places.iter().map(|(number, cpu)| format!("echo {cpu} > {}", affinity(*number)));
                f.write_str(&lines.collect::<Vec<_>>().join("; "))
            }
            Fix::Sysctl(name, value) => write!(f, "echo {value} > /proc/sys/net/{name}"),
        }
    }
}
