//! What kernels count: packets that they forwarded (/proc/net/snmp, snmp6) and packets on an interface (`ip -s link`).

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::lab::{enter, netns::Namespace};

/// Packets that the kernel of `namespace` has forwarded: IPv4 (Ip ForwDatagrams) and IPv6 (Ip6OutForwDatagrams).
///
/// # Errors
/// When a file or its field is missing.
pub fn forwarded(namespace: &Namespace) -> Result<(u64, u64)> {
    enter::run(namespace.name(), || {
        let snmp = fs::read_to_string("/proc/thread-self/net/snmp").context("cannot read /proc/net/snmp")?;
        let snmp6 =
            fs::read_to_string("/proc/thread-self/net/snmp6").context("cannot read /proc/net/snmp6")?;
        Ok((ipv4(&snmp)?, ipv6(&snmp6)?))
    })
}

/// The field stands in the line of names where its value stands in the line below.
fn ipv4(snmp: &str) -> Result<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) =
        pairs.find(|(name, _)| *name == "ForwDatagrams").context("/proc/net/snmp has no ForwDatagrams")?;
    Ok(value.parse()?)
}

fn ipv6(snmp6: &str) -> Result<u64> {
    let line = snmp6.lines().find(|line| line.starts_with("Ip6OutForwDatagrams"));
    let value = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("/proc/net/snmp6 has no forwarded count")?;
    Ok(value.parse()?)
}

/// Packets and bytes of an interface, by the kernel that owns it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interface {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Packets that went out.
    pub tx_packets: u64,
}

/// The counts of `interface`.
///
/// # Errors
/// When `ip` does not know it.
pub fn interface(namespace: &Namespace, interface: &str) -> Result<Interface> {
    let link = link(namespace, interface)?;
    let count = |direction: &str| link["stats64"][direction]["packets"].as_u64().unwrap_or_default();
    Ok(Interface { rx_packets: count("rx"), tx_packets: count("tx") })
}

/// How XDP is attached to `interface`.
///
/// # Errors
/// When `ip` does not know the interface.
pub fn xdp_mode(namespace: &Namespace, interface: &str) -> Result<&'static str> {
    // IFLA_XDP_ATTACHED (include/uapi/linux/if_link.h): 1 driver, 2 generic, 3 hardware, 4 several.
    Ok(match link(namespace, interface)?["xdp"]["mode"].as_u64() {
        None => "none",
        Some(1) => "native",
        Some(2) => "generic",
        Some(3) => "hardware",
        Some(_) => "several",
    })
}

fn link(namespace: &Namespace, interface: &str) -> Result<Value> {
    let json = namespace.ip(&format!("-json -details -statistics link show dev {interface}"))?;
    let links: Value = serde_json::from_str(&json).context("cannot read what `ip -json` prints")?;
    Ok(links[0].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_packets_are_found_by_name() {
        let snmp = "Ip: Forwarding DefaultTTL InReceives ForwDatagrams InDiscards\nIp: 2 64 1000 17 3\nIcmp: InMsgs\nIcmp: 1\n";
        assert_eq!(ipv4(snmp).expect("the field is there"), 17);
        assert_eq!(
            ipv6("Ip6InReceives 9\nIp6OutForwDatagrams             \t4\n").expect("the field is there"),
            4
        );
        assert!(ipv4("Ip: Forwarding\nIp: 1\n").is_err());
    }
}
